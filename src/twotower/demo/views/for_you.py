"""Cold start: pick what you like, and see what somebody with your taste might want next."""

from typing import Final

import streamlit as st

from twotower.demo import cards, state
from twotower.demo.baselines import ITEM_KNN, POPULARITY, best
from twotower.demo.opened import Opened
from twotower.demo.settings import DemoSettings
from twotower.errors import InputError
from twotower.inference.answers import Recommendation
from twotower.inference.filters import Filters
from twotower.inference.options import RecommendOptions
from twotower.inference.requests import Request

SHOWN: Final = 10
_FOUND: Final = 6
_WISH: Final = 200
_WHY: Final = {"given": "Because you picked {}", "described": "Because your words fit {}"}
VARIETY: Final[dict[str, tuple[int | None, int | None]]] = {
    "Familiar": (None, None),
    "Balanced": (2, None),
    "Varied": (1, None),
    "Adventurous": (1, 2),
}
"""Most items of one series, and of one category."""


def show(opened: Opened, _: DemoSettings) -> None:
    """Draw the page."""
    st.html(
        cards.hero(
            "Pick a few things you like",
            "You need no account. From your picks alone the model works out one point in the "
            "space where all items live, and recommends what lies nearest to it.",
        )
    )
    left, right = st.columns([5, 8], gap="large")
    with left:
        _pick(opened)
        wish = _wish(opened)
    with right:
        _recommend(opened, wish)


def _pick(opened: Opened) -> None:
    st.html(cards.step(1, "Choose"))
    text = st.text_input(
        "Search titles", key=state.SEARCH, type="search", live="100ms",
        placeholder="Begin to type, errors are fine", icon=":material/search:",
    )  # fmt: skip
    chosen = state.picks()
    if text.strip():
        _found(opened, text, chosen)
    elif opened.scenarios and not chosen:
        st.caption("Or start from something popular:")
        with st.container(horizontal=True, gap="small"):
            for one in opened.scenarios:
                st.button(
                    cards.plain(one.name),
                    key=f"scenario-{one.kind}-{one.name}",
                    help=f"The most popular of this {one.kind}",
                    on_click=state.pick_all,
                    args=([opened.item(row).item_id for row in one.rows],),
                )
    if chosen:
        _picked(opened, chosen)


def _found(opened: Opened, text: str, chosen: list[str]) -> None:
    items = [opened.item(row) for row in opened.finder.find(text, _FOUND + len(chosen)).tolist()]
    items = [item for item in items if item.item_id not in chosen][:_FOUND]
    if not items:
        st.info("No title is like that. Try fewer or other words.", icon=":material/search_off:")
    with st.container(key="tt-rows-found"):
        for item in items:
            st.html(cards.tile(item, opened.categories, small=True))
            st.button(
                "Pick", key=f"pick-{item.item_id}", icon=":material/add:",
                on_click=state.pick, args=(item.item_id,),
            )  # fmt: skip


def _picked(opened: Opened, chosen: list[str]) -> None:
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        st.markdown(f"**Your picks** ({len(chosen)})")
        st.button("Start over", on_click=state.pick_all, args=([],), type="tertiary",
                  icon=":material/restart_alt:")  # fmt: skip
    with st.container(key="tt-rows-picked"):
        for item_id in reversed(chosen):
            st.html(cards.tile(opened.shown(item_id), opened.categories, small=True))
            st.button(
                "Remove", key=f"remove-{item_id}", icon=":material/close:", type="tertiary",
                on_click=state.unpick, args=(item_id,),
            )  # fmt: skip


def _wish(opened: Opened) -> str:
    if opened.pipeline.contents.new_items is None:
        return ""
    return st.text_input(
        "Or say what you wish for", key=state.WISH, live="600ms", max_chars=_WISH,
        placeholder="For example: relaxed, for two players", icon=":material/chat:",
    ).strip()  # fmt: skip


def _filters(opened: Opened) -> Filters:
    kept = st.session_state.get(state.CATEGORIES, [])
    if not set(kept) <= set(opened.categories):
        st.session_state[state.CATEGORIES] = [one for one in kept if one in opened.categories]
    with st.expander("Filters and variety", icon=":material/tune:", expanded=True):
        variety = st.select_slider(
            "From familiar to adventurous",
            list(VARIETY),
            key=state.VARIETY,
            help="Limits how many items of one series, and of one category, may be shown.",
        )
        first, second = st.columns(2)
        with first:
            categories = st.multiselect(
                "Only these categories", opened.categories, key=state.CATEGORIES, placeholder="All"
            )
        with second:
            dearest = _price(opened)
    series, kind = VARIETY[variety]
    # With few categories, two of each would not fill the list.
    room = -(-SHOWN // max(len(categories or opened.categories), 1))
    return Filters(
        categories=tuple(categories),
        max_price=dearest,
        max_per_franchise=series,
        max_per_category=None if kind is None else max(kind, room),
    )


def _price(opened: Opened) -> float | None:
    prices = opened.prices
    if not len(prices):
        return None
    choices = ["Any price", *(f"Up to {price:,.0f}" for price in prices)]
    if st.session_state.get(state.PRICE, choices[0]) not in choices:
        del st.session_state[state.PRICE]  # of a bundle that was there before
    chosen = st.selectbox(
        "Price", choices, key=state.PRICE, help="Items without a price pass 'Any' only."
    )
    return None if chosen == choices[0] else prices[choices.index(chosen) - 1]


def _recommend(opened: Opened, wish: str) -> None:
    st.html(cards.step(2, "See what fits"))
    filters = _filters(opened)
    chosen = state.picks()
    if not chosen and not wish:
        st.caption("Nothing picked yet: until then, the most popular items.")
        passing = opened.items.passing(filters)
        for row in best(opened.rivals.popularity, 6, passing).tolist():
            with st.container(border=True):
                st.html(cards.tile(opened.item(row), opened.categories))
        return
    try:
        answer = opened.engine.recommend(
            Request(history=chosen, text=wish or None), RecommendOptions(SHOWN, filters)
        )
    except InputError as error:
        st.info(cards.plain(str(error)), icon=":material/info:")
        return
    if not answer:
        st.info(
            "Nothing passes these filters. Loosen one of them.", icon=":material/filter_alt_off:"
        )
        return
    if len(answer) < SHOWN:
        st.caption(f"Only {len(answer)} items pass these filters.")
    _grid(opened, answer)
    if chosen and st.toggle("What would simpler models say?", key="compare"):
        _compare(opened, chosen, filters, answer)


def _grid(opened: Opened, answer: list[Recommendation]) -> None:
    # Placed by style: each container more is a message more to the browser, at each click.
    with st.container(key="recommendations"):
        for one in answer:
            with st.container(border=True, height="stretch", horizontal=True, gap="small"):
                _card(opened, one)


def _card(opened: Opened, one: Recommendation) -> None:
    reason, why = one.reason, None
    if reason is not None:
        why = _WHY.get(reason.kind, "Because of {}").format(reason.title or reason.item_id)
    st.html(
        cards.tile(opened.shown(one.item_id, one.title), opened.categories, rank=one.rank, why=why)
    )
    st.button("Like it too", key=f"more-{one.item_id}", icon=":material/add:",
              on_click=state.pick, args=(one.item_id,))  # fmt: skip
    st.button("Look closer", key=f"open-{one.item_id}", type="tertiary",
              icon=":material/travel_explore:", on_click=state.open_item,
              args=(one.item_id,))  # fmt: skip


def _compare(
    opened: Opened, chosen: list[str], filters: Filters, answer: list[Recommendation]
) -> None:
    passing = opened.items.passing(filters)
    known = opened.items.indices(chosen)
    passing[known] = False
    scores = {
        ITEM_KNN: opened.rivals.together(known[known < opened.items.bundled]),
        POPULARITY: opened.rivals.popularity,
    }
    notes = {
        ITEM_KNN: "Items of users who share your picks.",
        POPULARITY: "The items of most users, whoever you are.",
    }
    said = {
        name: [opened.item(row) for row in best(of, SHOWN, passing[: len(of)] & (of > 0)).tolist()]
        for name, of in scores.items()
    }
    ours = [one.item_id for one in answer]
    lists = {name: [item.item_id for item in items] for name, items in said.items()}
    shared = cards.in_how_many([ours, *lists.values()])
    st.html(
        cards.lists(
            [cards.ranked_list(name, notes[name], items, shared) for name, items in said.items()]
        )
    )
    st.caption(
        "Shaded titles are in more than one list, the recommendations included. Popularity says "
        "the same to everybody; item-kNN needs items that many users share."
    )
