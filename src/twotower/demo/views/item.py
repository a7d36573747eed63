"""Item page: similar items by vector, text and co-purchase, and the catalogue map."""

from typing import Final

import numpy as np
import streamlit as st

from twotower.demo import cards, charts, state
from twotower.demo.loaded_bundle import Item, LoadedBundle
from twotower.demo.scenarios import presentable
from twotower.demo.settings import DemoSettings
from twotower.index import top_k_of
from twotower.types import FloatArray

_NEAR: Final = 8
"""Items of a list."""
_NEAREST: Final = 10
"""Items that are ringed on the map."""


def show(loaded: LoadedBundle, _: DemoSettings) -> None:
    """Draw the page."""
    st.html(
        cards.hero(
            "Item details",
            "Similar items by three measures: what the model learned, the text, and shared users.",
        )
    )
    text = st.text_input(
        "Search for another item", key="item-search", type="search", live="100ms",
        placeholder="Start typing", icon=":material/search:",
    )  # fmt: skip
    if text.strip():
        _choices(loaded, text)
    item = loaded.shown(_chosen(loaded))
    row = loaded.items.find(item.item_id)
    with st.container(border=True, key="chosen-item"):
        events = None if row is None else f"{loaded.counts[row]:,} interactions"
        st.html(cards.tile(item, loaded.categories, note=events))
        st.button(
            "Add to my picks", key="like", icon=":material/add:", on_click=state.pick,
            args=(item.item_id,), disabled=item.item_id in state.picks(),
        )  # fmt: skip
    _near(loaded, item, row)
    if row is not None and row < loaded.items.bundled:
        _map(loaded, item, row)


def _chosen(loaded: LoadedBundle) -> str:
    """The requested item, or the most popular one."""
    first = next(
        (
            row
            for row in loaded.by_popularity.tolist()
            if presentable(loaded.items.titles.rows[row])
        ),
        int(loaded.by_popularity[0]),
    )
    wanted: str = st.session_state.get(state.ITEM, loaded.items.ids.rows[first])
    return wanted


def _choices(loaded: LoadedBundle, text: str) -> None:
    rows = loaded.finder.find(text, 5).tolist()
    if not rows:
        st.info("No title matches. Try fewer or other words.", icon=":material/search_off:")
    with st.container(key="tt-rows-choices"):
        for row in rows:
            item = loaded.item(row)
            st.html(cards.tile(item, loaded.categories, small=True))
            st.button("Show", key=f"look-{item.item_id}", on_click=_look, args=(item.item_id,))


def _look(item_id: str) -> None:
    st.session_state[state.ITEM] = item_id
    st.session_state["item-search"] = ""


def _near(loaded: LoadedBundle, item: Item, row: int | None) -> None:
    found = {
        "By the model": (
            "What the model learned from the log, the text and the features.",
            [loaded.shown(similar.item_id, similar.title)
             for similar in loaded.engine.similar_items(item.item_id, _NEAR)],
        )
    }  # fmt: skip
    if row is not None and row < loaded.items.bundled:
        text = loaded.items.text
        if text is not None:
            scores = text.rows @ text.rows[row]
            found["By text"] = (
                "Titles and descriptions that mean the same.",
                _best(loaded, row, scores[: loaded.items.bundled]),
            )
        scores = loaded.baselines.together(np.asarray([row]))
        found["By shared users"] = (
            "In the histories of the same users, relative to popularity.",
            _best(loaded, row, np.where(scores > 0, scores, -np.inf)),
        )
    shared = cards.in_how_many(
        [[similar.item_id for similar in items] for _, items in found.values()]
    )
    st.header("Similar items")
    st.html(
        cards.lists(
            [cards.ranked_list(name, note, items, shared) for name, (note, items) in found.items()]
        )
    )
    st.caption(
        "Shaded titles are in more than one list. Text finds similar items without interactions; "
        "shared users find items that go together whatever their text; the model learns from both."
    )


def _best(loaded: LoadedBundle, row: int, scores: FloatArray) -> list[Item]:
    """Eligible items with the highest scores, without the item itself and items without a score."""
    eligible = loaded.items.eligible[: loaded.items.bundled] & np.isfinite(scores)
    eligible[row] = False
    return [loaded.item(best) for best in top_k_of(scores, _NEAR, eligible).tolist()]


def _map(loaded: LoadedBundle, item: Item, row: int) -> None:
    st.header("Catalogue map")
    dim = loaded.pipeline.contents.tower_dim
    vector = loaded.items.vectors.rows[row, :dim]
    marked = {"this item": ("star", loaded.projection.points(vector[None]))}
    picks = [item_id for item_id in state.picks() if item_id in loaded.pipeline.contents.items]
    if picks:
        marked["you, by your picks"] = ("diamond-wide", _me(loaded, picks, dim))
    hint = "" if picks else " Pick items on the first page to see your vector on the map."
    drawn = len(loaded.map.titles)
    few = "" if drawn == loaded.items.bundled else f" The {drawn:,} most popular are drawn."
    charts.draw(
        charts.catalogue_map(loaded.map, marked, _around(loaded, item, dim)),
        "map",
        what=f"Map of the catalogue with {item.title} marked as a star, coloured by category",
        reading=f"Every point is an item; the rings are the {_NEAREST} that the model finds most "
        f"like it. The map keeps {loaded.projection.kept:.0%} of the variance of the item vectors "
        "(PCA), so that items which are near each other in the model may lie apart on it."
        f"{few}{hint}",
    )


def _around(loaded: LoadedBundle, item: Item, dim: int) -> tuple[list[str], FloatArray]:
    """Titles and positions of the items that the model finds most like this one."""
    found = loaded.engine.similar_items(item.item_id, _NEAREST)
    rows = [row for item in found if (row := loaded.items.find(item.item_id)) is not None]
    places = loaded.projection.points(loaded.items.vectors.rows[rows, :dim])
    return [loaded.title(row) for row in rows], places


def _me(loaded: LoadedBundle, picks: list[str], dim: int) -> FloatArray:
    vector = loaded.baselines.user_vector(picks)[:dim]
    length = float(np.linalg.norm(vector)) or 1.0
    return loaded.projection.points(vector[None] / length)
