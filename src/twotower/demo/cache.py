"""Keeps the bundles that are being shown: one memory for all visitors."""

import gc
from functools import lru_cache
from pathlib import Path
from threading import Thread

from twotower.demo.figures import Figures, find_figures, places, stamp
from twotower.demo.opened import Opened
from twotower.demo.settings import DemoSettings


@lru_cache(maxsize=2)
def open_once(folder: str, version: str, api: str | None, api_key: str | None) -> Opened:
    """A bundle by its version: another one saved to the same folder is read again.

    What the first page needs is ready then; what else takes a while is made ready meanwhile.
    """
    del version
    gc.unfreeze()  # so that a bundle that gives way to this one can be collected whole
    opened = Opened.of(Path(folder), api, api_key)
    _ = opened.finder, opened.scenarios, opened.rivals.popularity
    gc.freeze()
    Thread(target=_warm, args=(opened,), daemon=True).start()
    return opened


def _warm(opened: Opened) -> None:
    """Make the rest ready.

    What is there then stays, most likely: the garbage collector is told not to walk through it
    again, which takes longer than an answer and stops all threads.
    """
    opened.warm()
    gc.freeze()


def figures_of(opened: Opened, settings: DemoSettings) -> Figures:
    """The results files that belong to a bundle, read again when one of them changes."""
    where = places(opened.folder, settings.results)
    return _figures(tuple(where), stamp(where))


@lru_cache(maxsize=4)
def _figures(where: tuple[Path, ...], changed: tuple[tuple[str, int], ...]) -> Figures:
    del changed
    return find_figures(where)
