"""Known-user page: history, recommendations of each model, and the rank of the hidden item."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
import streamlit as st

from twotower.demo import cards, charts, state
from twotower.demo.baselines import FACTORS, ITEM_KNN, POPULARITY, TOWERS
from twotower.demo.loaded_bundle import LoadedBundle
from twotower.demo.settings import DemoSettings
from twotower.index import top_k_of
from twotower.inference.filters import categories_of
from twotower.inference.options import RecommendOptions
from twotower.inference.requests import Request
from twotower.types import FloatArray

_SHOWN: Final = 10
_DEPTH: Final = 1000
"""Length of the lists that are searched for the hidden item."""
_SERVED: Final = "Two-tower"
_RERANKED: Final = "Two-tower, re-ranked"
_NOTES: Final = {
    _SERVED: "The served model: what fits this history best.",
    _RERANKED: "The same candidates, put in order by the second stage.",
    TOWERS: "The neural part of the served model.",
    FACTORS: "The matrix factorisation part of the served model.",
    ITEM_KNN: "Items of users who share those of the history.",
    POPULARITY: "The most popular items.",
}
_COMPARISON_MODELS: Final = {
    "als": ("Implicit ALS", "Vectors of users and items by alternating least squares."),
    "mf": ("Matrix factorisation", "A learned vector for each user and each item."),
    "lightgcn": ("LightGCN", "The same, smoothed over the graph of users and items."),
}
_COMPARISON_NOTE: Final = "Another model on the same data."


def show(loaded: LoadedBundle, _: DemoSettings) -> None:
    """Draw the page."""
    st.html(
        cards.hero(
            "Known user",
            "The last item of a user's history is hidden from the models: how high does each "
            "rank it?",
        )
    )
    users = loaded.pipeline.contents.users
    if not len(users):
        st.info("This bundle has no users.", icon=":material/person_off:")
        return
    user = _choose(loaded)
    if user is None:
        return
    rows = loaded.history(user)
    if not rows:
        st.info("This user has no history.", icon=":material/person_off:")
        return
    hide = len(rows) > 1 and st.toggle("Hide the last item from the models", value=True, key="hide")
    if hide and loaded.pipeline.contents.info.fitted_on == "all":
        st.caption(
            "This bundle's model was fitted on all interactions, the hidden one included: the "
            "lists show what it recommends, not how good it is. Page Models has figures of the "
            "evaluated model."
        )
    _history(loaded, users.index(user), rows, hide)
    _compare(loaded, users.index(user), rows, hide)


def _choose(loaded: LoadedBundle) -> str | None:
    users = loaded.pipeline.contents.users
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        wanted = st.text_input(
            "User id", key=state.USER, placeholder=loaded.opening_user, width=280,
            icon=":material/person:",
        ).strip()  # fmt: skip
        st.button("Another user", on_click=_next_user, args=(loaded,), icon=":material/shuffle:")
        found = loaded.found_users
        if found:
            st.button(
                "A user with a hit", on_click=_next_user, args=(loaded, found),
                icon=":material/target:",
                help=f"For {len(found)} of {len(loaded.example_users)} users the two-tower has the "
                "hidden item among its first ten.",
            )  # fmt: skip
    if wanted and wanted not in users:
        st.info(
            f"No user has this id. One that exists is {cards.plain(loaded.opening_user)}.",
            icon=":material/person_search:",
        )
        return None
    return wanted or loaded.opening_user


def _next_user(loaded: LoadedBundle, users: Sequence[str] | None = None) -> None:
    """Show the next of these users, or of the examples."""
    users = users or loaded.example_users
    now = st.session_state.get(state.USER) or loaded.opening_user
    place = users.index(now) + 1 if now in users else int(users is loaded.example_users)
    st.session_state[state.USER] = users[place % len(users)]


def _history(loaded: LoadedBundle, user: int, rows: Sequence[int], hide: bool) -> None:
    st.header(f"{len(rows)} items, oldest first")
    log = loaded.pipeline.contents.histories
    items = [loaded.item(row) for row in rows]
    times: list[datetime] | list[int] = list(range(1, len(rows) + 1))
    placed = "its place in the history"
    if log.timestamps is not None:
        stamps = log.timestamps[log.indptr[user] : log.indptr[user + 1]].tolist()
        times = [datetime.fromtimestamp(stamp / 1000, UTC) for stamp in stamps]
        placed = "its time"
    kinds = [categories_of(item.category)[0] if item.category else "no category" for item in items]
    charts.draw(
        charts.timeline(
            times, kinds,
            [cards.short(item.title) for item in items], hide,
        ),
        "timeline",
        what=f"Timeline of {len(rows)} items by category",
        reading=f"Each point is an item, placed by {placed} and its category."
        + " The star is the hidden one." * hide,
    )  # fmt: skip
    with st.expander("The whole history", icon=":material/history:"):
        for item in reversed(items[-50:]):
            st.html(cards.tile(item, loaded.categories, small=True))


def _compare(loaded: LoadedBundle, user: int, rows: Sequence[int], hide: bool) -> None:
    known = [loaded.item(row).item_id for row in (rows[:-1] if hide else rows)]
    target = loaded.item(rows[-1]).item_id if hide and rows[-1] not in rows[:-1] else None
    lists = _served(loaded, known)
    notes = dict(_NOTES)
    for name, model in loaded.comparison_models.items():
        title, notes[title] = _COMPARISON_MODELS.get(name, (name, _COMPARISON_NOTE))
        lists[title] = _ranked(loaded, known, model.scores(user, earlier=hide))
    st.header("Recommendations of each model")
    verdict = st.empty()
    _side_by_side(loaded, lists, notes, target)
    st.caption(
        "Shaded titles are recommended by several models (×3: by three; the two-tower counts "
        "once); the outlined title came next. The two-tower gets the history alone, as for "
        "an anonymous user. "
        + (
            "The others use the vector that they learned for this user in training. "
            if loaded.comparison_models
            else "This bundle carries no other models: `twotower run` and "
            "`twotower index --comparison` add them. "
        )
        + "One user proves nothing: the page Models has the figures over all users."
    )
    if st.toggle("Parts of the model, and baselines", key="parts"):
        parts = {
            name: _ranked(loaded, known, scores)
            for name, scores in loaded.baselines.all_scores(known).items()
        }
        _side_by_side(loaded, parts, notes, target)
        st.caption(
            "Popularity and item-kNN are counted without the last item of each user, so that they "
            "have not seen the hidden one."
        )
        lists |= parts
    if target is not None:
        verdict.html(_verdict(loaded, target, lists))


def _side_by_side(
    loaded: LoadedBundle,
    lists: Mapping[str, list[str]],
    notes: Mapping[str, str],
    target: str | None,
) -> None:
    shown = {name: ids[:_SHOWN] for name, ids in lists.items()}
    # The model with and without its second stage counts once.
    ours = [item_id for name in (_SERVED, _RERANKED) for item_id in shown.get(name, [])]
    others = [ids for name, ids in shown.items() if name not in (_SERVED, _RERANKED)]
    shared = cards.in_how_many([ours, *others])
    parts = []
    for name, ids in shown.items():
        note = notes[name]
        if target is not None:
            note += f" Hidden item: {_place(lists[name], target)}."
        marks = _moves(lists[_SERVED], ids) if name == _RERANKED else None
        items = [loaded.shown(item_id) for item_id in ids]
        parts.append(cards.ranked_list(name, note, items, shared, target, marks))
    st.html(cards.lists(parts))


def _moves(before: list[str], after: list[str]) -> dict[str, str]:
    """Item id → its move by re-ranking, as text."""
    places = {item_id: place for place, item_id in enumerate(before, start=1)}
    moves = {}
    for place, item_id in enumerate(after, start=1):
        was = places.get(item_id)
        if was is None:
            moves[item_id] = f"↑ from below {len(before):,}"
        elif was != place:
            moves[item_id] = f"{'↑' if place < was else '↓'} from {was:,}"
    return moves


def _served(loaded: LoadedBundle, known: list[str]) -> dict[str, list[str]]:
    """Item ids from the two-tower, best first, without and with the second stage."""
    depth = min(_DEPTH, len(loaded.items))
    request = Request(history=known)
    found = {_SERVED: loaded.engine.recommend(request, RecommendOptions(depth, rerank=False))}
    if loaded.pipeline.contents.reranker is not None:
        found[_RERANKED] = loaded.engine.recommend(request, RecommendOptions(depth, rerank=True))
    return {name: [item.item_id for item in items] for name, items in found.items()}


def _ranked(loaded: LoadedBundle, known: list[str], scores: FloatArray) -> list[str]:
    """Item ids by score, best first, without the known ones."""
    passing = loaded.without(known)[: loaded.items.bundled]
    rows = top_k_of(scores, min(_DEPTH, len(scores)), passing & np.isfinite(scores))
    ids: list[str] = loaded.items.ids.rows[rows].tolist()
    return ids


def _place(ids: Sequence[str], target: str) -> str:
    return f"place {ids.index(target) + 1:,}" if target in ids else f"not in the first {len(ids):,}"


def _verdict(loaded: LoadedBundle, target: str, lists: Mapping[str, list[str]]) -> str:
    title = loaded.shown(target).title
    places = {name: ids.index(target) + 1 for name, ids in lists.items() if target in ids}
    if not places:
        return cards.lead(f"The hidden item is “{title}”. No model has it in its list.")
    first = min(places.values())
    names = [name for name, place in places.items() if place == first]
    best = f"Its best place is {first:,}, by {'; '.join(names)}."
    return cards.lead(f"The hidden item is “{title}”. {best}")
