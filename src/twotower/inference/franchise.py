"""Which titles belong together, told from the titles alone."""

import re
from collections.abc import Iterable
from typing import Final

import numpy as np

from twotower.types import IndexArray

_BREAK: Final = re.compile(r"\s*(?::|\(|\[|,| - | – | — |\|).*$", re.DOTALL)
"""A subtitle, an edition or a platform begins here."""
_TAIL: Final = re.compile(
    r"\s+(?:[ivx]{1,5}|[0-9]{1,4}|hd|remastered|remake|deluxe|edition|collection|"
    r"special|limited|collector'?s|ultimate|complete|standard|game of the year|goty)$"
)
"""A number in a series or the name of an edition."""


def franchise(title: str | None) -> str | None:
    """The beginning of a title that its sequels and editions share, or None where there is none.

    Examples
    --------
    >>> franchise("Dragon Saga III: The Return (Deluxe Edition)")
    'dragon saga'
    >>> franchise("Dragon Saga 2 Remastered - Kestrel 2")
    'dragon saga'
    >>> franchise("2048")
    '2048'
    """
    if title is None:
        return None
    whole = " ".join(title.casefold().split())
    name = _BREAK.sub("", whole) or whole
    while (shorter := _TAIL.sub("", name)) != name:
        name = shorter
    return name or None


class FranchiseCodes:
    """Numbers of franchises. A title is parsed once, however often the items change."""

    def __init__(self) -> None:
        self._of_name: dict[str, int] = {}
        self._of_title: dict[str | None, int] = {None: -1}

    def codes(self, titles: Iterable[str | None]) -> IndexArray:
        """``(titles,)`` a number for each franchise, -1 for none."""
        known = self._of_title
        return np.asarray(
            [known[title] if title in known else self._parsed(title) for title in titles],
            dtype=np.int32,
        )

    def _parsed(self, title: str | None) -> int:
        name = franchise(title)
        code = -1 if name is None else self._of_name.setdefault(name, len(self._of_name))
        return self._of_title.setdefault(title, code)
