"""Which titles belong together, told from the titles alone."""

import re
from typing import Final

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
