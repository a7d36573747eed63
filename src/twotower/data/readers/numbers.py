"""Number and price parsing: decimal and thousands separators, currencies, ranges."""

import re
import unicodedata
from typing import Final

import polars as pl

_TRUTHS: Final = {
    **dict.fromkeys(("true", "t", "yes", "y", "ja", "oui", "sí", "si", "sì", "sim", "wahr"), 1.0),
    **dict.fromkeys(("false", "f", "no", "n", "nein", "non", "não", "nao", "falsch"), 0.0),
}
_OF_SCALE: Final = (
    r"^([+-]?\d+(?:[.,]\d+)?)\s*(?:(%)|(?:/|out of|of|von|sur|de)\s*(\d+)\s*(?:stars?|sterne?n?)?)$"
)
"""``80%``, ``4/5``, ``4.0 out of 5 stars``: the rating and its scale."""
_CURRENCY_WORDS: Final = frozenset(
    ("kr", "kr.", "zł", "zl", "kč", "ft", "lei", "rs", "rs.", "fr", "fr.", "руб", "руб.", "р.",
     "лв", "лв.", "r$", "us$", "a$", "c$", "ca$", "au$", "hk$", "nt$", "nz$", "s$", "mx$", "tl",
     "din", "元", "円", "원")
)  # fmt: skip
_SPACES: Final = str.maketrans("", "", " \u00a0\u2009\u202f\t'’‘`_")
_PRICE: Final = re.compile(
    r"^(?P<before>[^\d\-−+,]*?)\s*(?P<sign>[-−+]?)\s*(?P<middle>[^\d\-−+.,]*?)\s*"
    r"(?P<number>\d[\d.,\s'’‘`_]*|(?<![A-Za-z])[.,]\d+)(?P<round>[.,]?[-–—]{1,2})?\s*(?P<after>\D*)$"
)
_RANGE: Final = re.compile(
    r"^(?P<low>.*\d\D{0,6}?)\s*(?:[-–—~]|\bto\b|\bbis\b)\s*(?P<high>\D{0,6}\d.*)$"
)


def as_number(values: pl.Series, decimal_comma: bool | None = None) -> pl.Series:
    """Values as float64, null where a value is not a number.

    Unless ``decimal_comma`` is given, a comma before one or two digits is a decimal comma
    (``4,5``), and commas before three digits separate thousands (``1,299``).
    """
    if values.dtype != pl.String:
        if values.dtype.is_numeric():
            return values.cast(pl.Float64, strict=False)
        return pl.repeat(None, len(values), dtype=pl.Float64, eager=True)
    text = values.str.strip_chars()
    if decimal_comma:
        text = text.str.replace_all(r"\.(\d{3})", "$1").str.replace(",", ".", literal=True)
    numbers = text.cast(pl.Float64, strict=False)
    left = numbers.is_null() & text.str.contains(",", literal=True)
    if decimal_comma is not None or not left.any():
        return numbers
    decimal = left & text.str.contains(r"^[+-]?\d*,\d{1,2}$")
    grouped = left & text.str.contains(r"^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$")
    for which, mark in ((decimal, "."), (grouped, "")):
        if which.any():
            read = text.set(~which, None).str.replace_all(",", mark, literal=True)
            numbers = numbers.fill_null(read.cast(pl.Float64, strict=False))
    return numbers


def as_rating(
    values: pl.Series, decimal_comma: bool | None = None, one_scale: bool | None = None
) -> pl.Series:
    """Like `as_number`, but true is 1 and false 0, also as words, since some logs have yes and no.

    ``80%`` is 80 and ``4/5`` is 4 if all ratings with a scale have the same one. ``one_scale``
    says whether that holds for the whole file; if None, it is decided from ``values``.
    """
    if values.dtype == pl.Boolean:
        return values.cast(pl.Float64)
    numbers = as_number(values, decimal_comma)
    if values.dtype != pl.String or numbers.null_count() == values.null_count():
        return numbers
    texts = values.str.strip_chars().str.to_lowercase()
    numbers = numbers.fill_null(
        texts.replace_strict(_TRUTHS, default=None, return_dtype=pl.Float64)
    )
    rating, scale = _with_scale(texts.set(numbers.is_not_null(), None))
    if not (scale.drop_nulls().n_unique() == 1 if one_scale is None else one_scale):
        return numbers
    return numbers.fill_null(as_number(rating, decimal_comma))


def rating_scales(values: pl.Series) -> set[str]:
    """Scales that ratings are written with: ``%``, ``5`` (as in ``4/5``) and so on."""
    if values.dtype != pl.String:
        return set()
    _, scale = _with_scale(values.str.strip_chars().str.to_lowercase())
    return set(scale.drop_nulls())


def _with_scale(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Ratings and their scales as text; null where no scale is written."""
    rating, percent, scale = texts.str.extract_groups(_OF_SCALE).struct.unnest().get_columns()
    return rating, percent.fill_null(scale)


def as_price(values: pl.Series, decimal_comma: bool | None = None) -> pl.Series:
    """Prices as float64, in any currency and notation; the lower end of a range.

    Unambiguous prices (``12,99``, ``1.299,00``) determine the decimal mark of the column; without
    them, a mark before three digits separates thousands.

    >>> as_price(pl.Series(["1.299,00", "49,90 EUR", "CHF 12.50", "$4.99 - $9.99", "?"])).to_list()
    [1299.0, 49.9, 12.5, 4.99, None]
    """
    if values.dtype != pl.String:
        return as_number(values)
    distinct = values.drop_nulls().unique()
    parts = {text: _price_parts(text) for text in distinct}
    if decimal_comma is None:
        evidence = {_decimal_mark(part[1]) for part in parts.values() if part is not None}
        decimal_comma = True if evidence - {None} == {","} else False if "." in evidence else None
    prices = {
        text: _amount(*part, decimal_comma) for text, part in parts.items() if part is not None
    }
    return values.replace_strict(
        list(prices), list(prices.values()), default=None, return_dtype=pl.Float64
    )


def currency_of(text: str) -> str | None:
    """The currency symbol or code of a price, or None."""
    found = _PRICE.match(text.strip())
    if found is None:
        return None
    mark = (found["before"] + found["middle"] + found["after"]).strip()
    return mark or None


def _price_parts(text: str) -> tuple[float, str] | None:
    """Sign and digits of a price; None if the text is not a price."""
    text = text.strip()
    found = _PRICE.match(text)
    if found is None:
        span = _RANGE.match(text)
        return None if span is None else _price_parts(span["low"])
    marks = (found["before"], found["middle"], found["after"])
    if not all(_is_currency(word.strip()) for word in marks):
        return None
    return -1.0 if found["sign"] in ("-", "−") else 1.0, found["number"].translate(_SPACES)


def _is_currency(mark: str) -> bool:
    if not mark or mark.lower() in _CURRENCY_WORDS:
        return True
    if len(mark) == 3 and mark.isascii() and mark.isalpha() and mark.isupper():
        return True
    letters = mark.rstrip("$").strip()
    if mark.endswith("$") and len(letters) <= 3 and letters.isascii() and letters.isupper():
        return True
    return all(unicodedata.category(symbol) == "Sc" for symbol in mark)


def _decimal_mark(digits: str) -> str | None:
    """The decimal mark of an unambiguous number, else None."""
    marks = [mark for mark in digits if mark in ".,"]
    if not marks:
        return None
    if len(set(marks)) == 2:
        return marks[-1]
    if len(marks) > 1:
        return "." if marks[0] == "," else ","
    return None if re.search(r"^[1-9]\d{0,2}[.,]\d{3}$", digits) else marks[0]


def _amount(sign: float, digits: str, decimal_comma: bool | None) -> float | None:
    mark = _decimal_mark(digits)
    if mark is None and re.search("[.,]", digits):
        mark = {True: ",", False: ".", None: None}[decimal_comma]
    for separator in ".,":
        if separator != mark:
            digits = digits.replace(separator, "")
    if mark is not None:
        digits = digits.replace(mark, ".")
    try:
        return sign * float(digits)
    except ValueError:
        return None
