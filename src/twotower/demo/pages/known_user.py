"""A user the bundle knows: the history, what each model would say, and whether it is right."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
import streamlit as st

from twotower.demo import cards, charts
from twotower.demo.opened import Item, Opened
from twotower.demo.rivals import FACTORS, GRAPH, ITEM_KNN, POPULARITY, TOWERS, best
from twotower.demo.settings import DemoSettings
from twotower.serving.requests import Request

_SHOWN: Final = 10
_DEPTH: Final = 1000
"""How far down a list the hidden item is looked for."""
_SERVED: Final = "Served"
_RERANKED: Final = "After re-ranking"
_NOTES: Final = {
    _SERVED: "What the bundle's vectors find, all parts together.",
    _RERANKED: "The same candidates in the second stage's order.",
    TOWERS: "The user tower and the item tower, nothing else.",
    FACTORS: "The least-squares part of the vectors.",
    GRAPH: "Vectors spread over who bought what.",
    ITEM_KNN: "Bought together with the history.",
    POPULARITY: "What most people buy.",
}


def show(opened: Opened, _: DemoSettings) -> None:
    """Draw the page."""
    st.html(
        cards.hero(
            "Somebody with a history",
            "Hide the last thing that this user bought, ask each model what comes next, and see "
            "which of them finds it.",
        )
    )
    users = opened.pipeline.contents.users
    if not len(users):
        st.info("This bundle knows no users.", icon=":material/person_off:")
        return
    user = _choose(opened)
    if user is None:
        return
    log = opened.pipeline.contents.histories
    rows = log.row(users.index(user))
    if not len(rows):
        st.info("Nothing is known of this user.", icon=":material/person_off:")
        return
    hide = len(rows) > 1 and st.toggle("Hide the last item from the models", value=True, key="hide")
    _history(opened, users.index(user), rows.tolist(), hide)
    _compare(opened, rows.tolist(), hide)


def _choose(opened: Opened) -> str | None:
    users = opened.pipeline.contents.users
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        wanted = st.text_input(
            "User id", key="user", placeholder=_examples(opened)[0], width=280,
            icon=":material/person:",
        ).strip()  # fmt: skip
        st.button("Somebody else", on_click=_surprise, args=(opened,), icon=":material/shuffle:")
    if wanted and wanted not in users:
        st.info(
            f"No user has this id. One that exists is {_examples(opened)[0]}.",
            icon=":material/person_search:",
        )
        return None
    return wanted or _examples(opened)[0]


def _examples(opened: Opened) -> list[str]:
    """Users with histories long enough to tell something, short enough to read."""
    contents = opened.pipeline.contents
    lengths = contents.histories.lengths
    fit = np.flatnonzero((lengths >= 8) & (lengths <= 20))
    rows = fit if len(fit) else np.argsort(-lengths, kind="stable")[:50]
    return [contents.users.ids[row] for row in rows[:: max(len(rows) // 50, 1)].tolist()]


def _surprise(opened: Opened) -> None:
    examples = _examples(opened)
    now = st.session_state.get("user", "")
    place = examples.index(now) + 1 if now in examples else 1
    st.session_state["user"] = examples[place % len(examples)]


def _history(opened: Opened, user: int, rows: Sequence[int], hide: bool) -> None:
    st.subheader(f"{len(rows)} items, oldest first")
    log = opened.pipeline.contents.histories
    items = [opened.item(row) for row in rows]
    times: list[datetime] | list[int] = list(range(1, len(rows) + 1))
    placed = "its place in the history"
    if log.timestamps is not None:
        stamps = log.timestamps[log.indptr[user] : log.indptr[user + 1]].tolist()
        times = [datetime.fromtimestamp(stamp / 1000, UTC) for stamp in stamps]
        placed = "when it was bought"
    charts.draw(
        charts.timeline(
            times, [item.category or "no category" for item in items],
            [cards.short(item.title) for item in items], hide,
        ),
        "timeline",
        what=f"Timeline of {len(rows)} purchases by category",
        reading=f"Each point is an item, placed by {placed} and its category."
        + " The star is the hidden one." * hide,
    )  # fmt: skip
    with st.expander("The whole history", icon=":material/history:"):
        for item in reversed(items[-50:]):
            st.html(cards.tile(item, opened.categories, small=True))


def _compare(opened: Opened, rows: Sequence[int], hide: bool) -> None:
    told = [opened.item(row).item_id for row in (rows[:-1] if hide else rows)]
    target = opened.item(rows[-1]).item_id if hide and rows[-1] not in rows[:-1] else None
    lists = _lists(opened, told)
    served = frozenset(lists[_SERVED][:_SHOWN])
    st.subheader("What each would recommend")
    if target is not None:
        st.html(_verdict(opened, target, lists))
    parts = []
    for name, ids in lists.items():
        items: list[Item] = [opened.shown(one) for one in ids[:_SHOWN]]
        note = _NOTES[name]
        if name != _SERVED:
            note += f" {len(served & set(ids[:_SHOWN]))} of {_SHOWN} are served too."
        if target is not None:
            note += f" Hidden item: {_place(ids, target)}."
        shared = frozenset() if name == _SERVED else served
        parts.append(cards.ranked_list(name, note, items, shared, target))
    st.html(cards.lists(parts))
    st.caption(
        "Shaded titles are in the served list too; the outlined one is what was bought next. All "
        "models "
        "are asked as for somebody new with this history, so that none of them can have the answer "
        "in a vector of the user's own. Popularity and item-kNN were counted without anybody's "
        "last item. One user proves nothing: the page Models has the figures over all of them."
    )


def _lists(opened: Opened, told: list[str]) -> dict[str, list[str]]:
    """Item ids by model, best first."""
    depth = min(_DEPTH, len(opened.items))
    request = Request(history=told)
    found = {_SERVED: opened.engine.recommend(request, depth)}
    if opened.pipeline.contents.reranker is not None:
        found[_RERANKED] = opened.engine.recommend(request, depth, rerank=True)
    lists = {name: [one.item_id for one in of] for name, of in found.items()}
    passing = opened.without(told)[: opened.items.bundled]
    for name, scores in opened.rivals.all_scores(told).items():
        ranked = best(scores, depth, passing & np.isfinite(scores))
        lists[name] = opened.items.ids.rows[ranked].tolist()
    return lists


def _place(ids: Sequence[str], target: str) -> str:
    return f"place {ids.index(target) + 1:,}" if target in ids else f"not in the first {len(ids):,}"


def _verdict(opened: Opened, target: str, lists: dict[str, list[str]]) -> str:
    places = {name: ids.index(target) + 1 for name, ids in lists.items() if target in ids}
    if not places:
        return cards.lead(f"Nobody found “{opened.shown(target).title}”.")
    first = min(places.values())
    names = [name for name, place in places.items() if place == first]
    return cards.lead(
        f"Bought next: “{opened.shown(target).title}”. Nearest to the top, at place {first:,}: "
        f"{', '.join(names)}."
    )
