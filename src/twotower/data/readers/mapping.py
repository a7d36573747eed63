"""Which column of a source is which: named by the caller, or known by its usual names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, model_validator

from twotower.data import columns
from twotower.errors import InputError

LOG_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    columns.USER_ID: ("user_id", "user", "userid", "uid", "reviewerid", "customer_id"),
    columns.ITEM_ID: (
        "item_id", "item", "itemid", "iid", "parent_asin", "asin",
        "movieid", "movie_id", "product_id", "business_id",
    ),
    columns.RATING: ("rating", "score", "stars", "overall"),
    columns.TIMESTAMP: ("timestamp", "time", "ts", "datetime", "date", "unixreviewtime"),
    columns.ORDER: ("order", "position"),
}  # fmt: skip
"""Usual names of a log's columns, compared without case; the first found is taken."""

CATALOGUE_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    columns.ITEM_ID: LOG_NAMES[columns.ITEM_ID] + ("id",),
    columns.TITLE: ("title", "name", "movie_title", "item_name", "product_title"),
    columns.DESCRIPTION: ("description", "text", "summary"),
    columns.PRICE: ("price",),
    columns.CATEGORY: ("category", "main_category", "categories", "genre", "genres", "class"),
    columns.AVERAGE_RATING: ("average_rating", "avg_rating", "stars"),
    columns.RATING_COUNT: ("rating_count", "rating_number", "num_ratings", "review_count"),
    columns.IMAGE: ("image", "image_url", "img_url"),
    columns.FEATURES: ("features", "bullet_points"),
    columns.STORE: ("store", "brand"),
    columns.RELEASED: (
        "released", "release_date", "release_year", "released_at", "date_first_available",
        "listed",
    ),
}  # fmt: skip
"""Usual names of a catalogue's columns."""


class ColumnMapping(BaseModel):
    """Names of a source's columns. What is left out is found by its usual name.

    Attributes
    ----------
    user, item, rating, time, order
        Columns of the log. ``time`` or ``order``, not both: ``order`` is for logs that know
        the order of a user's interactions and not their time.
    catalogue_item, title, description, price, category, average_rating, rating_count, image
        Columns of the catalogue.
    features, store
        More of its text: bullet points, and the brand or seller.
    released
        When an item came out: a date, or a number that grows with time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    time: str | None = None
    order: str | None = None
    catalogue_item: str | None = None
    title: str | None = None
    description: str | None = None
    price: str | None = None
    category: str | None = None
    average_rating: str | None = None
    rating_count: str | None = None
    image: str | None = None
    features: str | None = None
    store: str | None = None
    released: str | None = None

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if self.time is not None and self.order is not None:
            raise ValueError(
                f"time and order are both given ({self.time!r} and {self.order!r}); "
                "give the one that puts a user's interactions in order"
            )
        return self

    def log_columns(self, path: Path, present: Sequence[str]) -> dict[str, str]:
        """The file's column for each canonical column of a log that it has.

        Raises
        ------
        InputError
            Where a named column is absent, or the user or item column cannot be told.
        """
        named = {
            columns.USER_ID: self.user, columns.ITEM_ID: self.item, columns.RATING: self.rating,
            columns.TIMESTAMP: self.time, columns.ORDER: self.order,
        }  # fmt: skip
        found = _resolve(path, present, named, LOG_NAMES)
        for column, field in ((columns.USER_ID, "user"), (columns.ITEM_ID, "item")):
            _require(column in found, path, present, field)
        if columns.TIMESTAMP in found and columns.ORDER in found:
            del found[columns.TIMESTAMP if self.order is not None else columns.ORDER]
        return found

    def catalogue_columns(self, path: Path, present: Sequence[str]) -> dict[str, str]:
        """The file's column for each canonical column of a catalogue that it has.

        Raises
        ------
        InputError
            Where a named column is absent, or the item column cannot be told.
        """
        named = {columns.ITEM_ID: self.catalogue_item} | {
            name: getattr(self, name)
            for name in (*columns.CATALOGUE, *columns.CATALOGUE_EXTRA, columns.RELEASED)
            if name != columns.ITEM_ID
        }
        found = _resolve(path, present, named, CATALOGUE_NAMES)
        _require(columns.ITEM_ID in found, path, present, "catalogue_item")
        return found


def _resolve(
    path: Path,
    present: Sequence[str],
    named: Mapping[str, str | None],
    usual: Mapping[str, tuple[str, ...]],
) -> dict[str, str]:
    by_lower = {name.lower(): name for name in reversed(present)}
    found = {}
    for column, name in named.items():
        if name is not None:
            if name not in present:
                raise InputError(
                    f"{path} has no column {name!r}", f"it has {_listed(present)}; name one of them"
                )
            found[column] = name
        else:
            known = next((one for one in usual[column] if one in by_lower), None)
            if known is not None:
                found[column] = by_lower[known]
    return found


def _require(found: bool, path: Path, present: Sequence[str], field: str) -> None:
    if not found:
        raise InputError(
            f"cannot tell the {field.replace('_', ' ')} column of {path}, "
            f"it has {_listed(present)}",
            f"name it: ColumnMapping({field}='…')",
        )


def _listed(names: Sequence[str], most: int = 20) -> str:
    listed = ", ".join(repr(name[:40]) for name in names[:most]) or "no columns"
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")
