"""Session state of a visitor: picks, filters and page, in Streamlit's session."""

from collections.abc import Sequence
from typing import Final

import streamlit as st

MOST_PICKS: Final = 50
"""Further picks push out the oldest."""
PICKS: Final = "picks"
ITEM: Final = "item"
GO: Final = "go"
SEARCH: Final = "search"
WISH: Final = "wish"
VARIETY: Final = "variety"
CATEGORIES: Final = "categories"
PRICE: Final = "price"
USER: Final = "user"
_KEPT: Final = (WISH, VARIETY, CATEGORIES, PRICE, USER)


def keep() -> None:
    """Keep widget values across pages: Streamlit drops those of widgets that are not drawn."""
    for key in _KEPT:
        if key in st.session_state:
            st.session_state[key] = st.session_state[key]


def picks() -> list[str]:
    """Ids of the picked items, oldest first."""
    chosen: list[str] = st.session_state.setdefault(PICKS, [])
    return chosen


def pick(item_id: str) -> None:
    """Add an item to the picks, and empty the search for the next one."""
    st.session_state[PICKS] = [*(old for old in picks() if old != item_id), item_id][-MOST_PICKS:]
    st.session_state[SEARCH] = ""


def unpick(item_id: str) -> None:
    """Take an item out of the picks."""
    st.session_state[PICKS] = [old for old in picks() if old != item_id]


def pick_all(item_ids: Sequence[str]) -> None:
    """Make these the picks."""
    st.session_state[PICKS] = list(item_ids)


def open_item(item_id: str) -> None:
    """Go to the page of an item."""
    st.session_state[ITEM] = item_id
    st.session_state[GO] = "item"
