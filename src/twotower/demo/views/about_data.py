"""Data page: size, distributions, catalogue, and rejected rows."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import streamlit as st

from twotower.demo import cards, charts
from twotower.demo.loaded_bundle import LoadedBundle
from twotower.demo.settings import DemoSettings
from twotower.types import Array

_LENGTHS: Final = (1, 2, 3, 5, 8, 12, 20, 50, 100)
_COUNTS: Final = (0, 1, 2, 5, 10, 20, 50, 100, 500, 1000)


def show(loaded: LoadedBundle, _: DemoSettings) -> None:
    """Draw the page."""
    contents = loaded.pipeline.contents
    log = contents.histories
    users, items, events = len(contents.users), len(contents.items), len(log.items)
    cells = max(users * items, 1)
    st.html(
        cards.hero(
            "Training data",
            f"The data set “{contents.info.dataset}”: interactions and catalogue.",
        )
    )
    facts = {
        "users": f"{users:,}",
        "items": f"{items:,}",
        "interactions": f"{events:,}",
        "sparsity": f"{1 - events / cells:.4%}",
        "items per user, median": f"{np.median(log.lengths):,.0f}" if users else "–",
        "share of the top 1% of items": _top_share(loaded.counts),
    }
    st.html(cards.facts(facts))
    if events:
        _spread(loaded)
    _catalogue(loaded)
    _left_out(loaded)


def _share_in_words(values: Array, who: str, what: str) -> str:
    """The middle half of the values, as a sentence."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]).astype(np.int64).tolist()
    return f"Half of the {who} {low:,} to {high:,} {what}; the median is {middle:,}."


def _top_share(counts: Array, share: float = 0.01) -> str:
    total = int(counts.sum())
    top = np.sort(counts)[::-1][: max(int(len(counts) * share), 1)]
    return f"{int(top.sum()) / total:.0%}" if total else "–"


def _spread(loaded: LoadedBundle) -> None:
    log = loaded.pipeline.contents.histories
    first, second = st.columns(2)
    with first:
        st.header("Length of histories")
        labels, sizes = _binned(log.lengths, _LENGTHS)
        charts.draw(
            charts.columns(labels, sizes, axis="items of a user", count="users"), "lengths",
            what="Number of users by the length of their history",
            reading=_share_in_words(log.lengths, "users have", "items"),
        )  # fmt: skip
    with second:
        st.header("Popularity of items")
        labels, sizes = _binned(loaded.counts, _COUNTS)
        charts.draw(
            charts.columns(labels, sizes, axis="interactions of an item", count="items"), "tail",
            what="Number of items by their interactions",
            reading=_share_in_words(loaded.counts, "items have", "interactions")
            + f" The most popular tenth of the items has {_top_share(loaded.counts, 0.1)} of all.",
        )  # fmt: skip
    if log.timestamps is not None:
        st.header("Interactions by year")
        years = log.timestamps.astype("datetime64[ms]").astype("datetime64[Y]").astype(int) + 1970
        values, counts = np.unique(years, return_counts=True)
        most = int(counts.argmax())
        charts.draw(
            charts.columns([str(year) for year in values], counts.tolist(), axis="year",
                           count="interactions"),
            "years", what="Interactions by year",
            reading=f"{values[most]} has the most: {int(counts[most]):,}, "
            f"{counts[most] / counts.sum():.0%} of all.",
        )  # fmt: skip


def _catalogue(loaded: LoadedBundle) -> None:
    codes = loaded.items.categories.rows
    if loaded.categories:
        st.header("Categories")
        names = loaded.categories[:12]
        values = [loaded.category_sizes[name] for name in names]
        charts.draw(
            charts.bars([cards.short(name) for name in names], values, axis="items"), "categories",
            what="Items by category",
            reading=f"{len(loaded.categories):,} categories; items without one: "
            f"{int((codes < 0).sum()):,}.",
        )  # fmt: skip
    titles, prices = loaded.items.titles.rows, loaded.items.prices.rows
    facts = {
        "items without a title": f"{sum(title is None for title in titles.tolist()):,}",
        "items without a price": f"{int(np.isnan(prices).sum()):,}",
        "items without interactions": f"{int((loaded.counts == 0).sum()):,}",
    }
    st.html(cards.facts(facts))


def _left_out(loaded: LoadedBundle) -> None:
    st.header("Rows that were left out")
    summary = loaded.summary
    if summary is None:
        st.info(
            "Rejected rows are not known: there is no prepared data set beside the bundle. "
            "`twotower run` writes one.",
            icon=":material/folder_off:",
        )
        return
    rows: list[Sequence[str]] = [["rows read", f"{summary.get('read', 0):,}"]]
    rejected: Mapping[str, int] = summary.get("rejected") or {}
    rows += [[f"rejected: {reason}", f"{count:,}"] for reason, count in rejected.items()]
    rows.append(["repeated pairs (the first is kept)", f"{summary.get('repeats', 0):,}"])
    core = summary.get("k_core")
    if core and core["k"] > 0:
        why = f"with fewer than {core['k']} interactions"
        for what in ("users", "items", "interactions"):
            if f"{what}_removed" in core:
                of = why if what != "interactions" else "of such users and items"
                rows.append([f"{what} {of}", f"{core[f'{what}_removed']:,}"])
    rows += [[f"left for {part}", f"{count:,}"] for part, count in summary.get("parts", {}).items()]
    st.html(cards.table(["what", "how many"], rows))
    if not rejected:
        st.caption("No row was malformed.")


def _binned(values: Array, edges: Sequence[int]) -> tuple[list[str], list[int]]:
    """Counts between edges, the last open; empty ends are left out."""
    ends = [*edges[1:], int(max(values.max(initial=0) + 1, edges[-1] + 1))]
    sizes = np.histogram(values, bins=[*edges, ends[-1]])[0].tolist()
    labels = [
        str(low) if high == low + 1 else f"{low:,}–{high - 1:,}"
        for low, high in zip(edges, ends, strict=True)
    ]
    filled = [place for place, size in enumerate(sizes) if size]
    kept = slice(filled[0], filled[-1] + 1) if filled else slice(0)
    return labels[kept], sizes[kept]
