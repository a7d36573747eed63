"""One item: what is near it, by three measures, and where it lies on the map."""

from typing import Final

import numpy as np
import streamlit as st

from twotower.demo import cards, charts, state
from twotower.demo.baselines import best
from twotower.demo.opened import Item, Opened
from twotower.demo.settings import DemoSettings
from twotower.types import BoolArray, FloatArray, OffsetArray

_NEAR: Final = 8


def show(opened: Opened, _: DemoSettings) -> None:
    """Draw the page."""
    st.html(
        cards.hero(
            "One item, up close",
            "Every item is a point. What lies near it is alike: by what the towers learned, by the "
            "words of its description, or by its users.",
        )
    )
    text = st.text_input(
        "Look for another item", key="item-search", type="search", live="100ms",
        placeholder="Begin to type", icon=":material/search:",
    )  # fmt: skip
    if text.strip():
        _choices(opened, text)
    item = opened.shown(_chosen(opened))
    row = opened.items.find(item.item_id)
    with st.container(border=True, key="chosen-item"):
        events = None if row is None else f"{opened.counts[row]:,} interactions"
        st.html(cards.tile(item, opened.categories, note=events))
        st.button(
            "Like it: add to my picks", key="like", icon=":material/add:", on_click=state.pick,
            args=(item.item_id,), disabled=item.item_id in state.picks(),
        )  # fmt: skip
    _near(opened, item, row)
    if row is not None and row < opened.items.bundled:
        _map(opened, item, row)


def _chosen(opened: Opened) -> str:
    """The item that was asked for, or the most popular one."""
    wanted: str = st.session_state.get(
        state.ITEM, opened.item(int(opened.by_popularity[0])).item_id
    )
    return wanted


def _choices(opened: Opened, text: str) -> None:
    rows = opened.finder.find(text, 5).tolist()
    if not rows:
        st.info("No title is like that. Try fewer or other words.", icon=":material/search_off:")
    with st.container(key="tt-rows-choices"):
        for row in rows:
            item = opened.item(row)
            st.html(cards.tile(item, opened.categories, small=True))
            st.button("Look", key=f"look-{item.item_id}", on_click=_look, args=(item.item_id,))


def _look(item_id: str) -> None:
    st.session_state[state.ITEM] = item_id
    st.session_state["item-search"] = ""


def _near(opened: Opened, item: Item, row: int | None) -> None:
    found = {
        "By vector": (
            "Nearest to its vector, which the item tower made of its id, text and features.",
            [opened.shown(one.item_id, one.title)
             for one in opened.engine.similar_items(item.item_id, _NEAR)],
        )
    }  # fmt: skip
    if row is not None and row < opened.items.bundled:
        text = opened.items.text
        if text is not None:
            scores = text.rows @ text.rows[row]
            found["By text"] = (
                "Nearest in what its text means, whoever its users are.",
                _items(opened, best(scores[: opened.items.bundled], _NEAR, _others(opened, row))),
            )
        scores = opened.rivals.together(np.asarray([row]))
        found["By shared users"] = (
            "In the same histories most often, for how often each is in one.",
            _items(opened, best(scores, _NEAR, _others(opened, row) & (scores > 0))),
        )
    shared = cards.in_how_many([[one.item_id for one in items] for _, items in found.values()])
    st.subheader("What is like it")
    st.html(
        cards.lists(
            [cards.ranked_list(name, note, items, shared) for name, (note, items) in found.items()]
        )
    )
    st.caption(
        "Shaded titles are in more than one list. Text finds sequels that are in no history yet; "
        "shared users find what goes together though nothing in its text says so; the vector "
        "learned from both."
    )


def _others(opened: Opened, row: int) -> BoolArray:
    passing = opened.items.open[: opened.items.bundled].copy()
    passing[row] = False
    return passing


def _items(opened: Opened, rows: OffsetArray) -> list[Item]:
    return [opened.item(row) for row in rows.tolist()]


def _map(opened: Opened, item: Item, row: int) -> None:
    st.subheader("Where it lies")
    dim = opened.pipeline.contents.tower_dim
    vector = opened.items.vectors.rows[row, :dim]
    marked = {"this item": ("star", opened.projection.points(vector[None]))}
    picks = [one for one in state.picks() if one in opened.pipeline.contents.items]
    if picks:
        marked["you, by your picks"] = ("diamond-wide", _me(opened, picks, dim))
    hint = "" if picks else " Pick items on the first page to see yourself on the map."
    drawn = len(opened.map.titles)
    few = "" if drawn == opened.items.bundled else f" The {drawn:,} most popular are drawn."
    charts.draw(
        charts.catalogue_map(opened.map, marked),
        "map",
        what=f"Map of the catalogue with {item.title} marked as a star, coloured by category",
        reading="Every point is an item, placed by the two directions in which item vectors differ "
        f"most (PCA). They hold {opened.projection.kept:.0%} of all differences, so that what is "
        f"near on the map need not be near in truth.{few}{hint}",
    )


def _me(opened: Opened, picks: list[str], dim: int) -> FloatArray:
    vector = opened.rivals.user_vector(picks)[:dim]
    length = float(np.linalg.norm(vector)) or 1.0
    return opened.projection.points(vector[None] / length)
