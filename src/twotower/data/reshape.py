"""Converters from published non-tabular files to Parquet.

Each function reads files of one published layout and yields rows; `write_shape` writes them. The
entries of `twotower.data.formats` refer to them by name.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import orjson
import pyarrow as pa

from twotower.data.readers.amazon import paragraphs
from twotower.data.readers.chunk import CHUNK_ROWS
from twotower.data.readers.jsonl import python_literal
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.text import LineFile
from twotower.errors import InputError

Row: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = Callable[[Sequence[Path]], Iterator[Row]]


class Shape(NamedTuple):
    """Converter for files of one layout."""

    columns: dict[str, pa.DataType]
    """Column name → Arrow type."""
    rows: Rows
    """Yields the rows of the files."""


_GENRES: Final = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
_LATIN: Final = ReadOptions(encoding="latin-1")
_BEHAVIORS: Final = ("impression", "user", "time", "history", "impressions")
_NEWS: Final = ("news_id", "category", "subcategory", "title", "abstract")

SHAPES: Final[dict[str, Shape]] = {}
"""Name → converter."""


def _shape(*texts: str, **others: pa.DataType) -> Callable[[Rows], Rows]:
    """Register a function under its name, with the columns of its rows, text columns first."""

    def register(rows: Rows) -> Rows:
        columns = dict.fromkeys(texts, pa.string()) | others
        SHAPES[rows.__name__.replace("_", "-")] = Shape(columns, rows)
        return rows

    return register


def write_shape(name: str, files: Sequence[Path], out: Path) -> int:
    """Convert files to one Parquet file, a block of rows at a time; returns the number of rows.

    Raises
    ------
    InputError
        If a file does not have the layout; names the line.
    """
    import pyarrow.parquet as pq  # takes 0.1 s, so only if needed

    shape = SHAPES[name]
    schema = pa.schema(list(shape.columns.items()))
    rows = shape.rows(files)
    count = 0
    with pq.ParquetWriter(out, schema) as writer:
        while block := list(islice(rows, CHUNK_ROWS)):
            columns = zip(*block, strict=True)
            arrays = [
                pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(pa.table(arrays, schema=schema))
            count += len(block)
    return count


@_shape("user", "item", position=pa.int64())
def sequences(files: Sequence[Path]) -> Iterator[Row]:
    """``user item item …`` or ``user item`` lines, oldest first; a user may have several lines."""
    for file in files:
        had: dict[str, int] = {}
        for number, line in _lines(file):
            user, *items = line.split()
            if not items and number == 1:
                raise _not_of_shape(file, number, line, "user item item …")
            first = had.get(user, 0)
            had[user] = first + len(items)
            for place, item in enumerate(items, first):
                yield user, item, place


@_shape("user", "item")
def sets(files: Sequence[Path]) -> Iterator[Row]:
    """``user item item …`` lines, in no particular order."""
    for user, item, _ in sequences(files):
        yield user, item


@_shape("session", "timestamp", "item", "event", "category")
def clicks_and_buys(files: Sequence[Path]) -> Iterator[Row]:
    """YooChoose: clicks with their category, and buys (their price and quantity are dropped)."""
    for file in files:
        kind = "buy" if "buys" in file.name.lower() else "click"
        for number, line in _lines(file):
            session, time, item, *others = line.rstrip("\r\n").split(",")[:4] + [""] * 3
            if not item:
                raise _not_of_shape(file, number, line, "session, time, item …")
            yield session, time, item, kind, others[0] if kind == "click" else None


@_shape("user", "item", position=pa.float64())
def clicked_news(files: Sequence[Path]) -> Iterator[Row]:
    """MIND: the click history of each user, once, and the clicked impressions.

    History items have no time: ``position`` is their place in the history; for clicked
    impressions it is the time in seconds since 1970.
    """
    from datetime import datetime

    seen: set[str] = set()
    for file in files:
        for number, line in _lines(file):
            fields = line.rstrip("\n").split("\t")
            if len(fields) != len(_BEHAVIORS):
                raise _not_of_shape(file, number, line, "five fields: " + ", ".join(_BEHAVIORS))
            _, user, moment, history, shown = fields
            try:
                at = datetime.strptime(moment, "%m/%d/%Y %I:%M:%S %p")
            except ValueError:
                raise _not_of_shape(
                    file, number, moment, "a time such as 11/15/2019 8:55:22 AM"
                ) from None
            seconds = (at - datetime(1970, 1, 1)).total_seconds()
            if user not in seen:
                seen.add(user)
                for place, item in enumerate(history.split()):
                    yield user, item, float(place)
            for impression in shown.split():
                item, _, clicked = impression.rpartition("-")
                if clicked == "1":
                    yield user, item, seconds


@_shape("user", "movie", "rating", "date")
def rated_movies(files: Sequence[Path]) -> Iterator[Row]:
    """Netflix: a line ``movie:``, followed by one line ``user,rating,date`` per rating."""
    for file in files:
        movie = None
        for number, line in _lines(file):
            text = line.strip()
            if text.endswith(":"):
                movie = text[:-1]
                continue
            fields = text.split(",")
            if movie is None or len(fields) != 3:
                raise _not_of_shape(file, number, line, "'movie:', or 'user,rating,date' below it")
            yield fields[0], movie, fields[1], fields[2]


@_shape("movie", "title", "year")
def movie_titles(files: Sequence[Path]) -> Iterator[Row]:
    """Netflix: ``movie,year,title``; commas in titles are not quoted."""
    for file in files:
        for number, line in _lines(file, _LATIN):
            fields = line.rstrip("\r\n").split(",", 2)
            if len(fields) != 3:
                raise _not_of_shape(file, number, line, "'movie,year,title'")
            movie, year, title = fields
            yield movie, title, year if year != "NULL" else None


@_shape(*_NEWS)
def news(files: Sequence[Path]) -> Iterator[Row]:
    """MIND: articles, each once, since the training and validation files overlap."""
    seen: set[str] = set()
    for file in files:
        for number, line in _lines(file):
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) < len(_NEWS):
                raise _not_of_shape(file, number, line, "fields between tabs: " + ", ".join(_NEWS))
            if fields[0] not in seen:
                seen.add(fields[0])
                yield tuple(field or None for field in fields[: len(_NEWS)])


@_shape("user_id", "product_id", position=pa.float64())
def ordered_products(files: Sequence[Path]) -> Iterator[Row]:
    """Instacart: products ordered by order number and, within an order, by position in the cart."""
    of_order: dict[str, tuple[str, int]] = {}
    products = []
    for file in files:
        if file.name.startswith("orders"):
            for row in _table(file, ("order_id", "user_id", "order_number")):
                of_order[row["order_id"]] = row["user_id"], int(row["order_number"])
        else:
            products.append(file)
    for file in products:
        for row in _table(file, ("order_id", "product_id", "add_to_cart_order")):
            user, number = of_order.get(row["order_id"], (None, None))
            place = int(row["add_to_cart_order"])
            position = None if number is None else number + place / 1000
            yield user, row["product_id"], position


@_shape("product_id", "product_name", "aisle", "department")
def grocery_products(files: Sequence[Path]) -> Iterator[Row]:
    """Instacart: products with the names of their aisle and department."""
    names = {
        kind: {row[f"{kind}_id"]: row[kind] for row in _table(file, (f"{kind}_id", kind))}
        for kind in ("aisle", "department")
        for file in files
        if file.name.startswith(kind)
    }
    wanted = ("product_id", "product_name", "aisle_id", "department_id")
    for file in files:
        if file.name.startswith("products"):
            for row in _table(file, wanted):
                aisle = names.get("aisle", {}).get(row["aisle_id"])
                department = names.get("department", {}).get(row["department_id"])
                yield row["product_id"], row["product_name"], aisle, department


@_shape("itemid", "category", "parent_category")
def item_properties(files: Sequence[Path]) -> Iterator[Row]:
    """RetailRocket: the newest category of each item; other properties are hashed."""
    parents = {
        row["categoryid"]: row["parentid"]
        for file in files
        if file.name.startswith("category_tree")
        for row in _table(file, ("categoryid", "parentid"))
    }
    newest: dict[str, tuple[int, str]] = {}
    for file in files:
        if file.name.startswith("item_properties"):
            for row in _table(file, ("timestamp", "itemid", "property", "value")):
                if row["property"] == "categoryid":
                    now = int(row["timestamp"])
                    if now >= newest.get(row["itemid"], (0, ""))[0]:
                        newest[row["itemid"]] = now, row["value"]
    for item, (_, category) in newest.items():
        yield item, category, parents.get(category) or None


@_shape("session", "itemId", time=pa.int64())
def viewed_items(files: Sequence[Path]) -> Iterator[Row]:
    """Diginetica: items viewed in a session; time is its day plus an offset in milliseconds."""
    from datetime import UTC, datetime

    wanted = ("sessionId", "itemId", "timeframe", "eventdate")
    for file in files:
        for row in _table(file, wanted, ";"):
            day = datetime.fromisoformat(row["eventdate"]).replace(tzinfo=UTC)
            moment = int(day.timestamp()) * 1000 + int(row["timeframe"])
            yield row["sessionId"], row["itemId"], moment


@_shape("itemId", "name_tokens", "category")
def priced_products(files: Sequence[Path]) -> Iterator[Row]:
    """Diginetica: products with their category; names are hashed tokens, prices logarithms."""
    categories = {
        row["itemId"]: row["categoryId"]
        for file in files
        if file.name.startswith("product-categories")
        for row in _table(file, ("itemId", "categoryId"), ";")
    }
    for file in files:
        if file.name.startswith("products"):
            for row in _table(file, ("itemId", "pricelog2", "product.name.tokens"), ";"):
                words = row["product.name.tokens"].replace(",", " ")
                yield row["itemId"], words, categories.get(row["itemId"])


@_shape("movie_id", "title", "release_date", "genres")
def flagged_movies(files: Sequence[Path]) -> Iterator[Row]:
    """MovieLens 100K: one 0/1 column per genre."""
    for file in files:
        for number, line in _lines(file, _LATIN):
            fields = line.rstrip("\r\n").split("|")
            if len(fields) != 5 + len(_GENRES):
                raise _not_of_shape(file, number, line, f"{5 + len(_GENRES)} fields between bars")
            genres = [name for name, flag in zip(_GENRES, fields[5:], strict=True) if flag == "1"]
            yield fields[0], fields[1], fields[2], "|".join(genres) or None


@_shape("asin", "title", "description", "price", "category", "image", "features", "brand")
def amazon_products(files: Sequence[Path]) -> Iterator[Row]:
    """Amazon 2014 and 2018: products with nested categories, paragraph lists and image lists."""
    for row in _objects(files):
        categories = row.get("categories") or row.get("category") or []
        if categories and isinstance(categories[0], list):  # 2014 has category paths
            categories = categories[0]
        if isinstance(categories, str):
            categories = [categories]
        pictures = row.get("imageURLHighRes") or row.get("imageURL") or [row.get("imUrl")]
        yield (
            row.get("asin"),
            row.get("title"),
            paragraphs(row.get("description")) or paragraphs(row.get("feature")),
            _scalar(row.get("price")),
            # The first level is the same for the whole file.
            paragraphs((categories[1:] or categories)[:1]),
            paragraphs(pictures[:1]) if isinstance(pictures, list) else _scalar(pictures),
            paragraphs(row.get("feature")),
            _scalar(row.get("brand")),
        )


def _lines(file: Path, options: ReadOptions | None = None) -> Iterator[tuple[int, str]]:
    """Non-blank lines with their numbers."""
    with LineFile(file, options) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, line.decode(errors="replace")


def _table(file: Path, wanted: Sequence[str], separator: str = ",") -> Iterator[dict[str, str]]:
    """The wanted columns of a text table with a header."""
    lines = (line for _, line in _lines(file))
    rows = csv.reader(lines, delimiter=separator)
    header = [name.strip() for name in next(rows, [])]
    missing = [name for name in wanted if name not in header]
    if missing:
        raise InputError(
            f"{file} has no column {', '.join(map(repr, missing))}, "
            f"it has {', '.join(map(repr, header)) or 'no columns'}",
            "give the files as they are published, or name the columns without a format",
        )
    places = [header.index(name) for name in wanted]
    for row in rows:
        if len(row) != len(header):
            raise _not_of_shape(file, rows.line_num, separator.join(row), f"{len(header)} fields")
        yield {name: row[place] for name, place in zip(wanted, places, strict=True)}


def _objects(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Objects, one per line: JSON, or Python dicts as in older releases."""
    for file in files:
        for number, line in _lines(file):
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                row = python_literal(line)
            if not isinstance(row, dict):
                raise _not_of_shape(file, number, line, "an object a line")
            yield row


def _not_of_shape(file: Path, number: int, got: object, wanted: str) -> InputError:
    return InputError(
        f"{file}:{number} is not {wanted}, got {str(got).strip()[:80]!r}",
        "give the file as it is published",
    )


def _scalar(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int | float) else None
