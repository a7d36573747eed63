"""Cold-start page: recommendations from picked items, text and filters."""

from typing import Final

import streamlit as st

from twotower.demo import cards, state
from twotower.demo.baselines import ITEM_KNN, POPULARITY
from twotower.demo.loaded_bundle import LoadedBundle
from twotower.demo.settings import DemoSettings
from twotower.errors import InputError
from twotower.index import top_k_of
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


def show(loaded: LoadedBundle, _: DemoSettings) -> None:
    """Draw the page."""
    st.html(
        cards.hero(
            "Pick a few things you like",
            "No account needed: the model turns your picks into one vector and recommends the "
            "items nearest to it.",
        )
    )
    left, right = st.columns([5, 8], gap="large")
    with left:
        _pick(loaded)
        wish = _wish(loaded)
    with right:
        _recommend(loaded, wish)


def _pick(loaded: LoadedBundle) -> None:
    st.html(cards.step(1, "Choose"))
    text = st.text_input(
        "Search titles", key=state.SEARCH, type="search", live="100ms",
        placeholder="Start typing, typos are fine", icon=":material/search:",
    )  # fmt: skip
    chosen = state.picks()
    if text.strip():
        _found(loaded, text, chosen)
    elif loaded.scenarios and not chosen:
        st.caption("Or start from popular items:")
        with st.container(horizontal=True, gap="small"):
            for scenario in loaded.scenarios:
                st.button(
                    cards.plain(scenario.name),
                    key=f"scenario-{scenario.kind}-{scenario.name}",
                    help=f"The most popular of this {scenario.kind}",
                    on_click=state.pick_all,
                    args=([loaded.item(row).item_id for row in scenario.rows],),
                )
    if chosen:
        _picked(loaded, chosen)


def _found(loaded: LoadedBundle, text: str, chosen: list[str]) -> None:
    items = [loaded.item(row) for row in loaded.finder.find(text, _FOUND + len(chosen)).tolist()]
    items = [item for item in items if item.item_id not in chosen][:_FOUND]
    if not items:
        st.info("No title matches. Try fewer or other words.", icon=":material/search_off:")
    with st.container(key="tt-rows-found"):
        for item in items:
            st.html(cards.tile(item, loaded.categories, small=True))
            st.button(
                "Pick", key=f"pick-{item.item_id}", icon=":material/add:",
                on_click=state.pick, args=(item.item_id,),
            )  # fmt: skip


def _picked(loaded: LoadedBundle, chosen: list[str]) -> None:
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        st.markdown(f"**Your picks** ({len(chosen)})")
        st.button("Start over", on_click=state.pick_all, args=([],), type="tertiary",
                  icon=":material/restart_alt:")  # fmt: skip
    with st.container(key="tt-rows-picked"):
        for item_id in reversed(chosen):
            st.html(cards.tile(loaded.shown(item_id), loaded.categories, small=True))
            st.button(
                "Remove", key=f"remove-{item_id}", icon=":material/close:", type="tertiary",
                on_click=state.unpick, args=(item_id,),
            )  # fmt: skip


def _wish(loaded: LoadedBundle) -> str:
    if loaded.pipeline.contents.new_items is None:
        return ""
    return st.text_input(
        "Or describe what you want", key=state.WISH, live="600ms", max_chars=_WISH,
        placeholder="For example: relaxed, for two players", icon=":material/chat:",
    ).strip()  # fmt: skip


def _filters(loaded: LoadedBundle) -> Filters:
    kept = st.session_state.get(state.CATEGORIES, [])
    if not set(kept) <= set(loaded.categories):
        st.session_state[state.CATEGORIES] = [name for name in kept if name in loaded.categories]
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
                "Only these categories", loaded.categories, key=state.CATEGORIES, placeholder="All"
            )
        with second:
            most = _price(loaded)
    series, kind = VARIETY[variety]
    # With few categories, two of each would not fill the list.
    room = -(-SHOWN // max(len(categories or loaded.categories), 1))
    return Filters(
        categories=tuple(categories),
        max_price=most,
        max_per_franchise=series,
        max_per_category=None if kind is None else max(kind, room),
    )


def _price(loaded: LoadedBundle) -> float | None:
    prices = loaded.prices
    if not len(prices):
        return None
    choices = ["Any price", *(f"Up to {price:,.0f}" for price in prices)]
    if st.session_state.get(state.PRICE, choices[0]) not in choices:
        del st.session_state[state.PRICE]  # of a previous bundle
    chosen = st.selectbox(
        "Price",
        choices,
        key=state.PRICE,
        help="Items without a price are shown for 'Any price' only.",
    )
    return None if chosen == choices[0] else prices[choices.index(chosen) - 1]


def _recommend(loaded: LoadedBundle, wish: str) -> None:
    st.html(cards.step(2, "Recommendations"))
    filters = _filters(loaded)
    chosen = state.picks()
    if not chosen and not wish:
        st.caption("Nothing picked yet: these are the most popular items.")
        passing = loaded.items.passing(filters)
        for row in top_k_of(loaded.baselines.popularity, 6, passing).tolist():
            with st.container(border=True):
                st.html(cards.tile(loaded.item(row), loaded.categories))
        return
    try:
        answer = loaded.engine.recommend(
            Request(history=chosen, text=wish or None), RecommendOptions(SHOWN, filters)
        )
    except InputError as error:
        st.info(cards.plain(str(error)), icon=":material/info:")
        return
    if not answer:
        st.info(
            "No item passes these filters. Loosen one of them.", icon=":material/filter_alt_off:"
        )
        return
    if len(answer) < SHOWN:
        st.caption(f"Only {len(answer)} items pass these filters.")
    _grid(loaded, answer)
    if chosen and st.toggle("Compare with simpler models", key="compare"):
        _compare(loaded, chosen, filters, answer)


def _grid(loaded: LoadedBundle, answer: list[Recommendation]) -> None:
    # Laid out by CSS: every further container costs a message to the browser at each click.
    with st.container(key="recommendations"):
        for item in answer:
            with st.container(border=True, height="stretch", horizontal=True, gap="small"):
                _card(loaded, item)


def _card(loaded: LoadedBundle, item: Recommendation) -> None:
    reason, why = item.reason, None
    if reason is not None:
        why = _WHY.get(reason.kind, "Because of {}").format(reason.title or reason.item_id)
    st.html(
        cards.tile(
            loaded.shown(item.item_id, item.title), loaded.categories, rank=item.rank, why=why
        )
    )
    st.button("Like this too", key=f"more-{item.item_id}", icon=":material/add:",
              on_click=state.pick, args=(item.item_id,))  # fmt: skip
    st.button("Details", key=f"open-{item.item_id}", type="tertiary",
              icon=":material/travel_explore:", on_click=state.open_item,
              args=(item.item_id,))  # fmt: skip


def _compare(
    loaded: LoadedBundle, chosen: list[str], filters: Filters, answer: list[Recommendation]
) -> None:
    passing = loaded.items.passing(filters)
    known = loaded.items.indices(chosen)
    passing[known] = False
    scores = {
        ITEM_KNN: loaded.baselines.together(known[known < loaded.items.bundled]),
        POPULARITY: loaded.baselines.popularity,
    }
    notes = {
        ITEM_KNN: "Items of users who share your picks.",
        POPULARITY: "The most popular items, the same for all users.",
    }
    found = {
        name: top_k_of(own, SHOWN, passing[: len(own)] & (own > 0)) for name, own in scores.items()
    }
    shown = {name: [loaded.item(row) for row in rows.tolist()] for name, rows in found.items()}
    ours = [item.item_id for item in answer]
    lists = {name: [item.item_id for item in items] for name, items in shown.items()}
    shared = cards.in_how_many([ours, *lists.values()])
    st.html(
        cards.lists(
            [cards.ranked_list(name, notes[name], items, shared) for name, items in shown.items()]
        )
    )
    st.caption(
        "Shaded titles are in more than one list, the recommendations included. Popularity is the "
        "same for all users; item-kNN needs items that share many users."
    )
