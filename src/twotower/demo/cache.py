"""Keeps the bundles that are being shown: one memory for all visitors."""

import gc
from functools import lru_cache
from pathlib import Path
from threading import Thread
from typing import Final

from twotower.demo.figures import Figures, find_figures, places, stamp
from twotower.demo.opened import Opened
from twotower.demo.settings import DemoSettings
from twotower.service.trim_memory import trim_memory

WARMING: Final = "twotower-warm"
"""Name of the thread that makes the rest of a bundle ready."""


@lru_cache(maxsize=2)
def open_once(folder: str, version: str, api: str | None, api_key: str | None) -> Opened:
    """A bundle by its version: another one saved to the same folder is read again.

    What the first page needs is ready then; what else takes a while is made ready meanwhile.
    """
    del version
    opened = Opened.of(Path(folder), api, api_key)
    _ = opened.finder, opened.scenarios, opened.rivals.popularity
    gc.freeze()  # until all is there, the collector shall not walk through this much
    Thread(target=_warm, args=(opened,), name=WARMING, daemon=True).start()
    return opened


def _warm(opened: Opened) -> None:
    """Make the rest ready, and forget a bundle that gave way to this one."""
    opened.warm()
    trim_memory()


def figures_of(opened: Opened, settings: DemoSettings) -> Figures:
    """The results files that belong to a bundle, read again when one of them changes."""
    where = places(opened.folder, settings.results)
    return _figures(tuple(where), stamp(where))


@lru_cache(maxsize=4)
def _figures(where: tuple[Path, ...], changed: tuple[tuple[str, int], ...]) -> Figures:
    del changed
    return find_figures(where)
