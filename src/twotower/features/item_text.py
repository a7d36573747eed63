"""Item text: the title alone, or all descriptive fields of the catalogue."""

from typing import Final, Literal

import polars as pl

from twotower.data import columns

TextFields = Literal["title", "rich", "title-or-rich"]

RICH_FIELDS: Final = (
    columns.TITLE,
    columns.STORE,
    columns.CATEGORY,
    columns.FEATURES,
    columns.DESCRIPTION,
)
"""In this order. An encoder cuts at the end, so the short and informative fields come first."""
MAX_CHARACTERS: Final = 4000
"""Longest rich text; no word piece of English is so long that 256 of them need more."""


def item_texts(rows: pl.DataFrame, fields: TextFields = "title") -> list[str]:
    """One text an item, empty where nothing is known.

    Parameters
    ----------
    rows
        Catalogue columns; any may be null or absent.
    fields
        ``title``: the title as it is. ``rich``: the fields `RICH_FIELDS` that there are, joined
        by a full stop, each with its white space made single; a field that repeats an earlier
        one is left out. One field alone is taken as it is, so that with titles alone rich text
        is the title. ``title-or-rich``: the title, and the rich text of an item without one.

    Examples
    --------
    >>> item_texts(pl.DataFrame({"title": ["Kart 8"], "category": ["Racing"]}), "rich")
    ['Kart 8. Racing']
    """
    titles = _column(rows, columns.TITLE)
    if fields == "title":
        return titles
    described = zip(*(_column(rows, name) for name in RICH_FIELDS), strict=True)
    rich = map(_joined, described)
    if fields == "rich":
        return list(rich)
    return [title if title.strip() else text for title, text in zip(titles, rich, strict=True)]


def _column(rows: pl.DataFrame, name: str) -> list[str]:
    if name not in rows.columns:
        return [""] * rows.height
    texts: list[str | None] = rows[name].cast(pl.String).to_list()
    return [text or "" for text in texts]


def _joined(parts: tuple[str, ...]) -> str:
    single = [part for part in dict.fromkeys(" ".join(part.split()) for part in parts) if part]
    if len(single) < 2:
        return next((part for part in parts if part.strip()), "")[:MAX_CHARACTERS]
    return ". ".join(part.rstrip(".") for part in single)[:MAX_CHARACTERS]
