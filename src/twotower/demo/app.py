"""Entry point of the demo: ``streamlit run app.py -- --bundle B``, or ``twotower demo``."""

import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Final

import streamlit as st

from twotower.demo import cards, state
from twotower.demo.loaded_bundle import LoadedBundle, open_once
from twotower.demo.settings import DemoSettings
from twotower.demo.source import find_bundle, version_of
from twotower.demo.style import CSS
from twotower.demo.views import about_data, for_you, item, known_user, models, operations, serving
from twotower.errors import TwoTowerError
from twotower.reporting.product_names import product_name

ICON: Final = Path(__file__).with_name("icon.svg")
Show = Callable[[LoadedBundle, DemoSettings], None]
PAGES: Final[dict[str, tuple[str, str, Show]]] = {
    "for-you": ("For you", ":material/favorite:", for_you.show),
    "known-user": ("Known user", ":material/person:", known_user.show),
    "item": ("Item", ":material/category:", item.show),
    "models": ("Models", ":material/leaderboard:", models.show),
    "serving": ("Serving", ":material/speed:", serving.show),
    "operations": ("Operations", ":material/monitor_heart:", operations.show),
    "data": ("About the data", ":material/database:", about_data.show),
}

_SHOWN: Final = "page shown"
_FOLD_MENU: Final = """<script data-menu>
{
  const menu = document.querySelector("[data-testid=stSidebar]");
  const fold = menu?.querySelector("[data-testid=stSidebarCollapseButton] button");
  if (fold && innerWidth <= 768 && menu.getBoundingClientRect().x >= 0) fold.click();
}
</script>"""
"""Streamlit leaves the menu open on a phone after a choice, above the page that was chosen."""

_log = logging.getLogger(__name__)


def main() -> None:
    """Set up the pages and run the requested one."""
    st.set_page_config(
        page_title="twotower", page_icon=str(ICON), layout="wide",
        initial_sidebar_state="auto",
    )  # fmt: skip
    st.html(f"<style>{CSS}</style>")
    state.keep()
    settings = DemoSettings.read(sys.argv[1:], os.environ)
    pages = {
        name: st.Page(
            partial(draw, name, settings), title=title, icon=icon, url_path=name,
            default=name == "for-you",
        )
        for name, (title, icon, _) in PAGES.items()
    }  # fmt: skip
    page = st.navigation(list(pages.values()), position="top")
    wanted = st.session_state.pop(state.GO, None)
    if wanted is not None and pages[wanted].url_path != page.url_path:
        st.switch_page(pages[wanted])
    page.run()
    if st.session_state.get(_SHOWN) not in (None, page.url_path):
        st.html(_FOLD_MENU, unsafe_allow_javascript=True)
    st.session_state[_SHOWN] = page.url_path


def draw(page: str, settings: DemoSettings) -> None:
    """Draw one of `PAGES`; errors are shown as a message, and unexpected ones are logged."""
    try:
        folder = find_bundle(settings.bundle)
        with st.spinner("Reading the bundle …"):
            loaded = open_once(str(folder), version_of(folder), settings.api, settings.api_key)
        if loaded.served != loaded.manifest.model_version:
            st.warning(
                f"The service answers with {loaded.served}; titles and maps are those of "
                f"{loaded.manifest.model_version}."
            )
        PAGES[page][2](loaded, settings)
        _footer(loaded, settings)
    except TwoTowerError as error:
        st.error(f"Cannot show this page: {cards.plain(str(error))}", icon=":material/error:")
        st.info(
            "Make a bundle with `make quickstart`, and open it with "
            "`twotower demo --bundle runs/sample/bundle`.",
            icon=":material/lightbulb:",
        )
    except Exception:
        _log.exception("a page failed")
        st.error(
            "Something went wrong on this page. See the server's log for the error; the other "
            "pages still work.",
            icon=":material/error:",
        )


def _footer(loaded: LoadedBundle, settings: DemoSettings) -> None:
    info = loaded.manifest.info
    answers = "the demo itself" if settings.api is None else settings.api
    st.html(
        f'<div class="tt-foot">Model {escape(product_name(info.model))}, version '
        f"{escape(loaded.served)}, trained on {escape(info.dataset)}, saved "
        f"{loaded.manifest.created:%d %B %Y}. Answered by {escape(answers)}.</div>"
    )


if __name__ == "__main__":
    main()
