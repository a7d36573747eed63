"""A user the bundle knows: the history, what each model would say, and whether it is right."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
import streamlit as st

from twotower.demo import cards, charts, state
from twotower.demo.baselines import FACTORS, ITEM_KNN, POPULARITY, TOWERS, best
from twotower.demo.opened import Opened
from twotower.demo.settings import DemoSettings
from twotower.inference.options import RecommendOptions
from twotower.inference.requests import Request
from twotower.types import FloatArray

_SHOWN: Final = 10
_DEPTH: Final = 1000
"""How far down a list the hidden item is looked for."""
_SERVED: Final = "Two-tower"
_RERANKED: Final = "Two-tower, re-ranked"
_NOTES: Final = {
    _SERVED: "One vector of the history, and the items nearest to it.",
    _RERANKED: "The same candidates in the second stage's order.",
    TOWERS: "The user tower and the item tower, nothing else.",
    FACTORS: "The least-squares part of the served vectors.",
    ITEM_KNN: "Of users who share the history's items.",
    POPULARITY: "The items of most users.",
}
_PEERS: Final = {
    "mf": ("Matrix factorisation", "One vector learned for each user, one for each item."),
    "lightgcn": ("LightGCN", "Such vectors, spread over users and their items."),
}
_PEER_NOTE: Final = "Another model on the same data."


def show(opened: Opened, _: DemoSettings) -> None:
    """Draw the page."""
    st.html(
        cards.hero(
            "Somebody with a history",
            "Hide the last item of this user, ask each model what comes next, and see "
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
    _compare(opened, users.index(user), rows.tolist(), hide)


def _choose(opened: Opened) -> str | None:
    users = opened.pipeline.contents.users
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        wanted = st.text_input(
            "User id", key=state.USER, placeholder=opened.example_users[0], width=280,
            icon=":material/person:",
        ).strip()  # fmt: skip
        st.button("Somebody else", on_click=_surprise, args=(opened,), icon=":material/shuffle:")
        found = opened.found_users
        if found:
            st.button(
                "One it got right", on_click=_surprise, args=(opened, found),
                icon=":material/target:",
                help=f"Of {len(opened.example_users)} users, the two-tower has the hidden item of "
                f"{len(found)} among its first ten.",
            )  # fmt: skip
    if wanted and wanted not in users:
        st.info(
            f"No user has this id. One that exists is {opened.example_users[0]}.",
            icon=":material/person_search:",
        )
        return None
    return wanted or opened.example_users[0]


def _surprise(opened: Opened, users: Sequence[str] | None = None) -> None:
    """Go to the next of these users, or of the examples."""
    users = users or opened.example_users
    now = st.session_state.get(state.USER) or opened.example_users[0]
    place = users.index(now) + 1 if now in users else int(users is opened.example_users)
    st.session_state[state.USER] = users[place % len(users)]


def _history(opened: Opened, user: int, rows: Sequence[int], hide: bool) -> None:
    st.subheader(f"{len(rows)} items, oldest first")
    log = opened.pipeline.contents.histories
    items = [opened.item(row) for row in rows]
    times: list[datetime] | list[int] = list(range(1, len(rows) + 1))
    placed = "its place in the history"
    if log.timestamps is not None:
        stamps = log.timestamps[log.indptr[user] : log.indptr[user + 1]].tolist()
        times = [datetime.fromtimestamp(stamp / 1000, UTC) for stamp in stamps]
        placed = "its time"
    charts.draw(
        charts.timeline(
            times, [item.category or "no category" for item in items],
            [cards.short(item.title) for item in items], hide,
        ),
        "timeline",
        what=f"Timeline of {len(rows)} items by category",
        reading=f"Each point is an item, placed by {placed} and its category."
        + " The star is the hidden one." * hide,
    )  # fmt: skip
    with st.expander("The whole history", icon=":material/history:"):
        for item in reversed(items[-50:]):
            st.html(cards.tile(item, opened.categories, small=True))


def _compare(opened: Opened, user: int, rows: Sequence[int], hide: bool) -> None:
    told = [opened.item(row).item_id for row in (rows[:-1] if hide else rows)]
    target = opened.item(rows[-1]).item_id if hide and rows[-1] not in rows[:-1] else None
    lists = _served(opened, told)
    notes = dict(_NOTES)
    for name, peer in opened.peers.items():
        title, notes[title] = _PEERS.get(name, (name, _PEER_NOTE))
        lists[title] = _ranked(opened, told, peer.scores(user, earlier=hide))
    st.subheader("What each would recommend")
    verdict = st.empty()
    _side_by_side(opened, lists, notes, target)
    st.caption(
        "Shaded titles are what several models say (×3: three of them; the two-tower counts once); "
        "the outlined one is what came next. The two-tower is asked by the history alone, "
        "as for somebody new. "
        + (
            "The others bring the vector that they learned for this user in training. "
            if opened.peers
            else "This bundle carries no other models: `twotower run` and `twotower index --peer` "
            "add some. "
        )
        + "One user proves nothing: the page Models has the figures over all of them."
    )
    if st.toggle("Parts of the model, and simpler ones", key="parts"):
        parts = {
            name: _ranked(opened, told, scores)
            for name, scores in opened.rivals.all_scores(told).items()
        }
        _side_by_side(opened, parts, notes, target)
        st.caption(
            "Popularity and item-kNN were counted without anybody's last item, so that they do "
            "not know what is hidden."
        )
        lists |= parts
    if target is not None:
        verdict.html(_verdict(opened, target, lists))


def _side_by_side(
    opened: Opened, lists: Mapping[str, list[str]], notes: Mapping[str, str], target: str | None
) -> None:
    shown = {name: ids[:_SHOWN] for name, ids in lists.items()}
    # One model with and without its second stage is one voice.
    ours = [one for name in (_SERVED, _RERANKED) for one in shown.get(name, [])]
    others = [ids for name, ids in shown.items() if name not in (_SERVED, _RERANKED)]
    shared = cards.in_how_many([ours, *others])
    parts = []
    for name, ids in shown.items():
        note = notes[name]
        if target is not None:
            note += f" Hidden item: {_place(lists[name], target)}."
        marks = _moves(lists[_SERVED], ids) if name == _RERANKED else None
        items = [opened.shown(one) for one in ids]
        parts.append(cards.ranked_list(name, note, items, shared, target, marks))
    st.html(cards.lists(parts))


def _moves(before: list[str], after: list[str]) -> dict[str, str]:
    """What re-ranking did to each item, in words."""
    places = {one: place for place, one in enumerate(before, start=1)}
    moves = {}
    for place, one in enumerate(after, start=1):
        was = places.get(one)
        if was is None:
            moves[one] = f"↑ from below {len(before):,}"
        elif was != place:
            moves[one] = f"{'↑' if place < was else '↓'} from {was:,}"
    return moves


def _served(opened: Opened, told: list[str]) -> dict[str, list[str]]:
    """Item ids as the two-tower has them, best first, without and with the second stage."""
    depth = min(_DEPTH, len(opened.items))
    request = Request(history=told)
    found = {_SERVED: opened.engine.recommend(request, RecommendOptions(depth))}
    if opened.pipeline.contents.reranker is not None:
        found[_RERANKED] = opened.engine.recommend(request, RecommendOptions(depth, rerank=True))
    return {name: [one.item_id for one in of] for name, of in found.items()}


def _ranked(opened: Opened, told: list[str], scores: FloatArray) -> list[str]:
    """Item ids by score, best first, without those that the model was told."""
    passing = opened.without(told)[: opened.items.bundled]
    rows = best(scores, min(_DEPTH, len(scores)), passing & np.isfinite(scores))
    ids: list[str] = opened.items.ids.rows[rows].tolist()
    return ids


def _place(ids: Sequence[str], target: str) -> str:
    return f"place {ids.index(target) + 1:,}" if target in ids else f"not in the first {len(ids):,}"


def _verdict(opened: Opened, target: str, lists: Mapping[str, list[str]]) -> str:
    title = opened.shown(target).title
    places = {name: ids.index(target) + 1 for name, ids in lists.items() if target in ids}
    if not places:
        return cards.lead(f"Came next: “{title}”. No model has it near the top.")
    first = min(places.values())
    names = [name for name, place in places.items() if place == first]
    return cards.lead(
        f"Came next: “{title}”. Nearest to the top, at place {first:,}: {', '.join(names)}."
    )
