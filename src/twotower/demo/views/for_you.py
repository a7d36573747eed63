"""Cold-start page: recommendations from picked items, text and filters."""

from collections import Counter
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
_SHORT: Final = 24
"""Longest category name of an example."""
_POPULAR: Final = 6
"""Popular items to begin with."""
_WHY: Final = {"given": "because you picked {}", "described": "because your words fit {}"}
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
            "No account is needed: the recommendations follow from what you pick, and change "
            "with every pick.",
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
                    help=f"Picks {len(scenario.rows)} popular items of this {scenario.kind}",
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
        placeholder=_example(loaded), icon=":material/chat:",
    ).strip()  # fmt: skip


def _example(loaded: LoadedBundle) -> str:
    """An example of a description, in words of this catalogue."""
    names = [name.casefold() for name in loaded.categories if len(name) <= _SHORT][:2]
    return f"For example: {' or '.join(names)}" if names else "In your own words"


def _filters(loaded: LoadedBundle) -> Filters:
    kept = st.session_state.get(state.CATEGORIES, [])
    if not set(kept) <= set(loaded.categories):
        st.session_state[state.CATEGORIES] = [name for name in kept if name in loaded.categories]
    with st.expander("Filters and variety", icon=":material/tune:"):
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
    unit = f" {loaded.currency}" if loaded.currency else ""
    choices = ["Any price", *(f"Up to {price:,.0f}{unit}" for price in prices)]
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
    results = st.container()  # above the filters, which are read first
    filters = _filters(loaded)
    with results:
        _results(loaded, wish, filters)


def _results(loaded: LoadedBundle, wish: str, filters: Filters) -> None:
    chosen = state.picks()
    if not chosen and not wish:
        _popular(loaded, filters)
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


def _popular(loaded: LoadedBundle, filters: Filters) -> None:
    st.caption("Nothing is picked yet. These are the most popular items: pick the ones you like.")
    counts = loaded.baselines.popularity
    passing = loaded.items.passing(filters)[: len(counts)] & loaded.showcase
    series = loaded.items.franchises
    rows: dict[int, int] = {}
    for row in top_k_of(counts, _POPULAR * 20, passing).tolist():
        rows.setdefault(int(series[row]), row)
    with st.container(key="popular"):
        for row in list(rows.values())[:_POPULAR]:
            item = loaded.item(row)
            with st.container(border=True, height="stretch", horizontal=True, gap="small"):
                st.html(cards.tile(item, loaded.categories))
                st.button("Pick", key=f"popular-{item.item_id}", icon=":material/add:",
                          on_click=state.pick, args=(item.item_id,))  # fmt: skip


def _grid(loaded: LoadedBundle, answer: list[Recommendation]) -> None:
    reasons = [_reason(item) for item in answer]
    common, times = Counter(filter(None, reasons)).most_common(1)[0] if any(reasons) else ("", 0)
    if 2 * times > len(answer):
        which = (
            "All of these" if times == len(answer) else f"{times} of these, those without a note,"
        )
        st.caption(cards.plain(f"{which} are here {common}."))
    # Laid out by CSS: every further container costs a message to the browser at each click.
    with st.container(key="recommendations"):
        for item, why in zip(answer, reasons, strict=True):
            said = 2 * times > len(answer) and why == common
            with st.container(border=True, height="stretch", horizontal=True, gap="small"):
                _card(loaded, item, None if said else why)


def _reason(item: Recommendation) -> str | None:
    """Why an item is recommended, as the end of a sentence."""
    reason = item.reason
    if reason is None:
        return None
    title = cards.cut(reason.title or reason.item_id)
    return _WHY.get(reason.kind, "because of {}").format(title)


def _card(loaded: LoadedBundle, item: Recommendation, why: str | None) -> None:
    shown = loaded.shown(item.item_id, item.title)
    why = why and why[0].upper() + why[1:]
    st.html(cards.tile(shown, loaded.categories, rank=item.rank, why=why))
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
