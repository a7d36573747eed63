"""Serving page: latency by stage, hits by stage, and index comparison, measured live."""

from typing import Final

import numpy as np
import streamlit as st

from twotower.demo import cards, charts, measure
from twotower.demo.figures import figures_of, sizes
from twotower.demo.loaded_bundle import LoadedBundle
from twotower.demo.settings import DemoSettings
from twotower.evaluation.results import Row
from twotower.index.compare import Measurement

_MEASURED_AT_ONCE: Final = 5_000
"""Items up to which measuring takes a few seconds, and is not asked for."""
_SEEN: Final = (
    " This bundle's model was fitted on all interactions, the hidden ones included: these shares "
    "are higher than it would reach on new ones."
)
_STAGES: Final = {
    "encode": "read the history",
    "search": "search the items",
    "rerank": "order the best",
    "present": "add titles and reasons",
}


def show(loaded: LoadedBundle, settings: DemoSettings) -> None:
    """Draw the page."""
    st.html(
        cards.hero(
            "Serving latency",
            "From the request to ten titles with reasons: one request at a time, in this process, "
            "on this machine.",
        )
    )
    # Fragments: measuring one part again does not redraw the others.
    _latency(loaded)
    _stages(loaded)
    _indexes(loaded)
    _larger(loaded, settings)


@st.fragment
def _latency(loaded: LoadedBundle) -> None:
    rerank = loaded.pipeline.contents.reranker is not None and st.toggle(
        "With re-ranking", key="measure-rerank"
    )
    st.button("Measure again", icon=":material/replay:")
    with st.spinner("Measuring …"):
        found = measure.latency(loaded.pipeline, rerank=rerank)
    times = found.milliseconds
    facts = {
        "requests": f"{len(times):,}",
        "median": f"{np.median(times):.2f} ms",
        "95th percentile": f"{np.quantile(times, 0.95):.2f} ms",
        "requests/s at the median": f"{1000 / np.median(times):,.0f}",
        "items in the index": f"{loaded.pipeline.index.size:,}",
    }
    st.html(cards.facts(facts))
    named = {_STAGES.get(stage, stage): spent for stage, spent in found.stages.items()}
    charts.draw(
        charts.stages(named),
        "stages",
        what="Median milliseconds of a request by stage: "
        + ", ".join(f"{stage} {spent:.2f}" for stage, spent in named.items()),
        reading="The history is read, the items that fit it are searched for, and the best ten get "
        "titles and reasons. Medians of the stages do not add up to the median of the whole. Other "
        "load on this machine slows down all stages.",
    )


@st.fragment
def _stages(loaded: LoadedBundle) -> None:
    st.header("Hits by stage")
    st.markdown(
        "A second stage can only re-rank what the first has found. The last item of some users is "
        "hidden, and searched for after each stage."
    )
    version = loaded.manifest.model_version
    if not _requested("stage-recall", version, loaded):
        return
    with st.spinner("Recommending for 200 users …"):
        found = _hits(loaded, version)
    charts.draw(
        charts.bars(
            list(found.shares), [100 * share for share in found.shares.values()],
            axis=f"% of {found.users:,} users",
            pattern="%{x:.1f}%",
        ),
        "stage-recall-chart",
        what="Share of users whose hidden item is found: "
        + ", ".join(f"{stage} {share:.1%}" for stage, share in found.shares.items()),
        reading="Re-ranking can only move up what is among the candidates. These are sample users, "
        "served as anonymous ones: quality is measured on the page Models."
        + (_SEEN if loaded.pipeline.contents.info.fitted_on == "all" else ""),
    )  # fmt: skip


@st.fragment
def _indexes(loaded: LoadedBundle) -> None:
    st.header("Index comparison")
    st.markdown(
        "An exact index scores every item. An approximate one scores a part of them and may miss "
        "some."
    )
    version = loaded.manifest.model_version
    _shipped(loaded)
    if not _requested("indexes", version, loaded):
        return
    with st.spinner("Building and searching four kinds of index …"):
        found = _compared(loaded, version)
    served = loaded.pipeline.index.config.model_dump()["kind"]
    named = {
        f"{row.config.kind}{' (this bundle)' * (row.config.kind == served)}": (
            row.latency_us,
            row.recall,
        )
        for row in found
    }
    charts.draw(
        charts.points(named, x="microseconds per search", y="recall@10"),
        "index-chart",
        what="Latency against recall of each index: "
        + ", ".join(f"{name} {us:.0f} µs, {recall:.1%}" for name, (us, recall) in named.items()),
        reading="Further left is faster, further up has the higher recall.",
    )  # fmt: skip
    rows = [
        [
            row.config.kind,
            f"{row.latency_us:,.0f} µs",
            f"{row.recall:.1%}",
            f"{row.build_seconds:.2f} s",
        ]
        for row in found
    ]
    st.html(cards.table(["index", "per search", "recall@10", "build time"], rows))
    st.header("Latency by catalogue size")
    with st.spinner("Measuring at four sizes …"):
        by_size = _by_size(loaded, version)
    charts.draw(
        charts.lines(by_size, x="items", y="microseconds per search"),
        "growth-chart",
        what="Time of a search by number of items, exact and HNSW",
        reading="Both axes are logarithmic. Exact search takes time in proportion to the number of "
        "items; a graph (HNSW) takes little more.",
    )


@st.fragment
def _larger(loaded: LoadedBundle, settings: DemoSettings) -> None:
    st.header("Larger catalogues")
    figures, own = figures_of(loaded, settings), loaded.manifest.info.dataset
    measured = [own, *(name for name, _ in figures.studies() if name != own)]
    dataset, found = next(
        ((name, of) for name in measured if (of := sizes(figures, name))), (own, [])
    )
    if not found:
        st.caption(
            "No measurements yet: `twotower bench index --bundle BUNDLE --sizes 100000 "
            "--sizes 1000000 --json benchmarks/results/index-NAME.json` makes them."
        )
        return
    widths = list(dict.fromkeys(size.width for size in found))
    width = widths[-1]
    if len(widths) > 1:
        width = st.selectbox(
            "Vector dimension", widths, index=len(widths) - 1, key="index-width",
            help="The towers' part of the vectors, or the whole vectors.",
        )  # fmt: skip
    found = [size for size in found if size.width == width]
    kinds = list(dict.fromkeys(kind for size in found for kind in size.of("us@10")))
    series = {
        kind: (
            [size.items for size in found if kind in size.of("us@10")],
            [size.of("us@10")[kind].value for size in found if kind in size.of("us@10")],
        )
        for kind in kinds
    }
    largest = found[-1]
    st.markdown(
        f"Recorded, not live, with vectors of {cards.plain(dataset)}: up to {largest.items:,} "
        "items, the real ones and synthetic ones around them."
    )
    charts.draw(
        charts.lines(series, x="items", y="microseconds per search"), "larger-chart",
        what=f"Time of a search for ten items by number of items, {', '.join(kinds)}",
        reading="Both axes are logarithmic. A line of slope one takes twice as long for twice as "
        "many items.",
    )  # fmt: skip
    rows = [
        [
            kind,
            *(
                _figure(largest.of(metric).get(kind), unit)
                for metric, unit in (
                    ("us@10", "µs"), ("recall@10", "%"), ("build-seconds", "s"),
                    ("memory-mb", "MB"),
                )
            ),
        ]
        for kind in kinds
    ]  # fmt: skip
    head = [f"{largest.items:,} items", "per search", "recall@10", "build time", "memory"]
    st.html(cards.table(head, rows))


def _figure(row: Row | None, unit: str) -> str:
    if row is None:
        return "–"
    if unit == "%":
        return f"{row.value:.1%}"
    return f"{row.value:,.0f} {unit}" if row.value >= 1000 else f"{row.value:.4g} {unit}"


def _requested(name: str, version: str, loaded: LoadedBundle) -> bool:
    """Whether to measure: at once for a small catalogue, of a larger one when a button says so."""
    if len(loaded.items) <= _MEASURED_AT_ONCE:
        return True
    key = f"requested-{name}-{version}"
    if st.button("Measure here", key=f"measure-{name}", icon=":material/play_arrow:"):
        st.session_state[key] = True
    return bool(st.session_state.get(key))


def _shipped(loaded: LoadedBundle) -> None:
    """What was measured when the bundle was made, to choose its index."""
    choice = loaded.pipeline.contents.index_choice
    if choice is None or not choice.measured:
        return
    rows = [
        [
            row.config.kind, f"{row.k:,}", f"{row.latency_us:,.0f} µs", f"{row.recall:.1%}",
            f"{row.build_seconds:.2f} s",
        ]
        for row in choice.measured
    ]  # fmt: skip
    st.html(cards.table(["index", "items", "per search", "recall", "build time"], rows))
    st.caption(cards.plain(f"Measured when the bundle was made: {choice.reason}"))


@st.cache_resource(max_entries=2, show_spinner=False)
def _hits(_loaded: LoadedBundle, version: str) -> measure.Hits:
    del version  # part of the cache key
    return measure.hits(_loaded.pipeline)


@st.cache_resource(max_entries=2, show_spinner=False)
def _compared(_loaded: LoadedBundle, version: str) -> list[Measurement]:
    del version
    return measure.indexes(_loaded.pipeline)


@st.cache_resource(max_entries=2, show_spinner=False)
def _by_size(_loaded: LoadedBundle, version: str) -> dict[str, tuple[list[int], list[float]]]:
    return measure.latency_by_size(_loaded.pipeline, _compared(_loaded, version))
