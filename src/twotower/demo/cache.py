"""Keeps the bundles that are being shown: one memory for all visitors."""

from functools import lru_cache
from pathlib import Path
from threading import Thread

from twotower.demo.opened import Opened


@lru_cache(maxsize=2)
def open_once(folder: str, version: str, api: str | None, api_key: str | None) -> Opened:
    """A bundle by its version: another one saved to the same folder is read again.

    What the first page needs is ready then; what else takes a while is made ready meanwhile.
    """
    del version
    opened = Opened.of(Path(folder), api, api_key)
    _ = opened.finder, opened.scenarios, opened.rivals.popularity
    Thread(target=opened.warm, daemon=True).start()
    return opened
