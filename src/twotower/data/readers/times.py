"""Timestamp parser: numbers, dates and texts to milliseconds since 1970."""

import itertools
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl

from twotower.data.readers.numbers import as_number
from twotower.data.readers.options import ReadOptions
from twotower.data.time_zones import offset_minutes
from twotower.errors import InputError

UNITS: Final = {"d": 864e5, "h": 36e5, "min": 6e4, "s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
"""Milliseconds per unit."""
DAY: Final = 86_400_000

_UNIT_BELOW: Final = (("s", 1e11), ("ms", 1e14), ("us", 1e17))
"""Upper bounds that determine the unit of a number from its magnitude; above are nanoseconds.

10^11 is the year 5138 in seconds and March 1973 in milliseconds; likewise for the other bounds.
"""

_CALENDAR: Final = {
    4: ("%Y", ""), 6: ("%Y%m%d", "01"), 8: ("%Y%m%d", ""), 10: ("%Y%m%d%H%M", "00"),
    12: ("%Y%m%d%H%M", ""), 14: ("%Y%m%d%H%M%S", ""),
}  # fmt: skip
"""Number of digits of a date written as a number → its format and digits to append."""

_DATES: Final = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d.%m.%Y", "%d.%m.%y",
    "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%d-%m-%Y", "%m-%d-%Y",
    "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y", "%d/%b/%Y", "%b %d, %Y", "%B %d, %Y",
    "%d. %b %Y", "%d. %B %Y", "%A %d %B %Y", "%b %d %Y", "%B %d %Y", "%m %d, %Y",
    "%a, %d %b %Y", "%A, %B %d, %Y", "%A, %d %B %Y", "%a %b %d %Y", "%Y %m %d",
    "%Y年%m月%d日",
)  # fmt: skip
_CLOCKS: Final = ("%H:%M", "%H:%M:%S%.f", "%I:%M %p", "%I:%M:%S %p", "%I:%M%p", "%I:%M:%S%p")
_BARE_CLOCKS: Final = ("%H%M", "%H%M%S", "%H.%M", "%H.%M.%S")
"""Times of day without a colon, after a date and a space."""
_BARE_CLOCK: Final = re.compile(r" (\d{4}|\d{6}|\d{1,2}\.\d\d(\.\d\d)?)$")
_WHOLE: Final = (
    "%a %b %d %H:%M:%S %Y",
    "%a %b %d %H:%M:%S %z %Y",
    "%d/%b/%Y:%H:%M:%S",
    "%d/%b/%Y:%H:%M:%S %z",
    "%Y%m%dT%H%M%S",
    "%Y%m%dT%H%M%S%z",
)
_DASHED: Final = "%Y-%m-%d-%H-%M-%S"
_OFFSET: Final = (
    r"(?::\d\d|T\d{6})(?:[.,]\d+)?\s?(?<sign>[+-])(?<hours>\d\d):?(?<minutes>\d\d)?(?:\s|$)"
)
"""The UTC offset after a time of day."""
_SAMPLE: Final = 200
_EARLIEST: Final = datetime(1900, 1, 1)
_LATEST: Final = datetime(2101, 1, 1)

_ZONES: Final = {
    "UTC": 0, "GMT": 0, "Z": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6,
    "PST": -8, "PDT": -7, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3,
    "MSK": 3, "JST": 9, "KST": 9,
}  # fmt: skip
"""Zone abbreviation → hours east of UTC: those of RFC 822, and other unambiguous ones."""

_MONTHS: Final = (
    "jan january janv januar januari janvier enero ene gennaio gen janeiro stycznia styczeń sty "
    "января январь янв",
    "feb february febr februar februari février févr fév febrero febbraio fevereiro fev lutego "
    "luty lut февраля февраль фев",
    "mar march märz mär mrz maerz maart mrt mars marts marzo março marca marzec марта март мар",
    "apr april avril avr abril abr aprile kwietnia kwiecień kwi апреля апрель апр",
    "may may mai mei maj mayo maggio mag maio maja мая май",
    "jun june juni juin junio giugno giu junho czerwca czerwiec cze июня июнь июн",
    "jul july juli juillet juil julio luglio lug julho lipca lipiec lip июля июль июл",
    "aug august augustus augusti août aout agosto ago sierpnia sierpień sie августа август авг",
    "sep september sept septembre septiembre setiembre settembre set setembro września wrzesień "
    "wrz сентября сентябрь сен сент",
    "oct october okt oktober octobre octubre ottobre ott outubro out października październik paź "
    "октября октябрь окт",
    "nov november novembre noviembre novembro listopada listopad lis ноября ноябрь ноя нояб",
    "dec december dez des dezember desember décembre déc diciembre dic dicembre dezembro "
    "grudnia grudzień gru декабря декабрь дек",
)
"""Month names in the languages of `LANGUAGES`; one entry per month."""
LANGUAGES: Final = (
    "English, German, French, Spanish, Italian, Portuguese, Dutch, Swedish, Danish, Norwegian, "
    "Polish and Russian"
)
_SHORT: Final = tuple(names.split()[0].title() for names in _MONTHS)
_MONTH: Final = {
    name: short for names, short in zip(_MONTHS, _SHORT, strict=True) for name in names.split()
}
"""Month name in lower case → its English abbreviation."""
_ENGLISH: Final = frozenset(name.title() for names in _MONTHS for name in names.split()[:2])
"""Month names that ``strptime`` formats read as they are."""

_REWRITTEN: Final = (
    (r"\s*(\([^)]*\)|\[[\w/+-]+\])$", ""),  # zone name next to its offset
    (r" GMT([+-]\d)", " ${1}"),
    (r"([+-]\d\d:?\d\d) [A-Z]{3,4}$", "${1}"),  # +0000 UTC, as written by Go
    (r"(?i)(\d ?)([ap])\.?\s?m\.?$", "${1}${2}m"),
    (r"\s*(Uhr|Hrs?\.?)$", ""),
    (r"(?i)(\d),? (?:à|um|às|a las|alle|kl\.?|om|в) (\d{1,2}[:.h])", "${1} ${2}"),
    (r"(\d)h(\d\d)", "${1}:${2}"),
    (r"(\d) ?(г\.?|года)", "${1}"),
    (r"^(\p{L}+ )?(\d{1,2})\.? de (\p{L}+) (?:de |del )?(\d)", "${1}${2} ${3} ${4}"),
    (r"(\d)(?:st|nd|rd|th|er|º)\b", "${1}"),
    (rf"^\p{{L}}+\.?,? (\d{{1,2}}\.?[ -](?:{'|'.join(_SHORT)}))", "${1}"),  # a day of the week
    (r"^([A-Za-z]{3,9})\.? (\d{4})$", "1 ${1} ${2}"),
)
"""Patterns of letters that no format covers → their replacements."""
_MONTH_ALONE: Final = (r"^(\d{4})([-/.])(\d{1,2})$", "${1}${2}${3}${2}01")
_DOTNET: Final = r"^\\?/Date\((-?\d+)(?:[+-]\d{4})?\)\\?/$"
"""``/Date(1600000000000)/``, as written by .NET."""

EXCEL: Final = "excel"
"""The ``time_format`` for spreadsheet day numbers."""
_EXCEL_1970: Final = 25_569
_EXCEL_DAYS: Final = (32_874, 51_136)
"""Day numbers of 1990 and 2040."""

FORMS: Final = (
    "numbers since 1970, ISO 8601, 2020/09/13, 13.09.2020, 09/13/2020, Sep 13, 2020, 13. März "
    "2020, 20200913 and the like are read"
)


class TimeReader:
    """Parser of the times of one file; the first values determine the format of all.

    ``path`` and ``column`` are for messages. ``options`` gives the time format, unit and zone and
    the decimal comma.
    """

    def __init__(self, path: Path, column: str, options: ReadOptions) -> None:
        self._path = path
        self._column = column
        self._options = options
        self._formats: list[str] | None = None
        self._calendar: tuple[str, str] | None = None
        self._numbers_seen = False

    def milliseconds(self, values: pl.Series) -> pl.Series:
        """Float64 milliseconds since 1970; null where a value is not a time.

        Raises
        ------
        InputError
            If day and month are ambiguous, numbers are likely dates in another form, the given
            unit gives implausible times, or the given format cannot be used.
        """
        if isinstance(values.dtype, pl.Date | pl.Datetime):
            return self._to_utc(values.cast(pl.Datetime("ms", own_zone(values))))
        if values.dtype == pl.String and values.str.contains("/Date(", literal=True).any():
            values = values.str.replace(_DOTNET, "$1")
        if self._options.time_format == EXCEL:
            return self._from_spreadsheet(values)
        if self._options.time_format is not None:
            return self._with_format(values, self._options.time_format)
        numbers = as_number(values, self._options.decimal_comma)
        return self._with_texts(values, numbers, self._from_numbers(numbers))

    def _from_spreadsheet(self, values: pl.Series) -> pl.Series:
        """Days since 1899-12-30, with the time of day as fraction; texts are parsed as usual."""
        numbers = as_number(values, self._options.decimal_comma)
        since_1970 = (numbers - _EXCEL_1970) * UNITS["d"]
        possible = since_1970.is_between(-9e12, 9e12)  # range of valid years
        whole = since_1970.set(~possible.fill_null(False), None).round().cast(pl.Int64)
        return self._with_texts(values, numbers, self._to_utc(whole.cast(pl.Datetime("ms"))))

    def _with_texts(self, values: pl.Series, numbers: pl.Series, result: pl.Series) -> pl.Series:
        """Add to the times of numbers those of texts that are not numbers."""
        if values.dtype != pl.String:
            return result
        unread = numbers.is_null() & values.is_not_null()
        if not unread.any():
            return result
        return result.zip_with(~unread, self._from_text(values.set(~unread, None)))

    def _from_numbers(self, numbers: pl.Series) -> pl.Series:
        unit = self._options.time_unit
        if unit is not None:
            self._check_unit(numbers, unit)
            return numbers * UNITS[unit]
        if not self._numbers_seen and numbers.count():
            self._numbers_seen = True
            self._calendar = _calendar(numbers)
            if self._calendar is None:
                self._refuse_dates(numbers)
        if self._calendar is not None:
            form, added = self._calendar
            text = numbers.cast(pl.Int64, strict=False).cast(pl.String) + added
            return self._to_utc(_parsed(text, form))
        size = numbers.abs()
        scale = pl.repeat(UNITS["ns"], len(size), dtype=pl.Float64, eager=True)
        for name, below in reversed(_UNIT_BELOW):
            scale = scale.set((size < below).fill_null(False), UNITS[name])
        return numbers * scale

    def _refuse_dates(self, numbers: pl.Series) -> None:
        """Refuse numbers that would all lie in 1970 and look like dates in another form."""
        values = numbers.drop_nulls()
        first = int(values[0]) if values[0].is_integer() else values[0]
        if values.is_between(*_EXCEL_DAYS).all():
            likely = _shown((first - _EXCEL_1970) * UNITS["d"])
            form, what = EXCEL, f"a spreadsheet's number of the day {likely}"
        else:
            form = _short_calendar(values) or ""
            what = f"a date of the form {form}"
        if form:
            raise InputError(
                f"the times of {self._path} would lie in 1970: {first} in "
                f"column {self._column!r} is likely {what}",
                f"pass time_format={form!r}, or name it as an order where it is one: "
                f"ColumnMapping(order={self._column!r})",
                cli_fix=f"pass --time-format {form}, or name it as an order where it is one: "
                f"--column order={self._column}",
            )

    def _check_unit(self, numbers: pl.Series, unit: str) -> None:
        middle = numbers.drop_nans().median()
        if not isinstance(middle, float | int) or _is_usual(middle * UNITS[unit]):
            return
        likely = next((name for name in UNITS if _is_usual(middle * UNITS[name])), None)
        if likely is not None:
            raise InputError(
                f"the times of {self._path} are not in {unit}: {middle:.0f} would be "
                f"{_shown(middle * UNITS[unit])}",
                f"in {likely} it is {_shown(middle * UNITS[likely])}: pass time_unit={likely!r}",
                cli_fix=f"in {likely} it is {_shown(middle * UNITS[likely])}: "
                f"pass --time-unit {likely}",
            )

    def _with_format(self, values: pl.Series, form: str) -> pl.Series:
        if values.dtype.is_float():
            values = values.cast(pl.Int64, strict=False)
        if values.dtype.is_nested():
            return _nulls(values)
        text = values.cast(pl.String, strict=False).str.strip_chars()
        try:
            return self._to_utc(_parsed(text, form.replace(".%f", "%.f").replace("%f", "%6f")))
        except pl.exceptions.PolarsError as error:
            raise InputError(
                f"time_format {form!r} cannot be used: {str(error).splitlines()[0]}",
                "write it as of strptime, such as '%d.%m.%Y %H:%M'",
            ) from error

    def _from_text(self, values: pl.Series) -> pl.Series:
        text = _plain(values.str.strip_chars())
        if self._formats is None:
            self._formats = self._find_formats(text)
        result = _nulls(text)
        for form in self._formats:
            missing = result.is_null()
            if not (missing & text.is_not_null()).any():
                break
            result = result.zip_with(~missing, self._to_utc(_parsed(text, form)))
        left = result.is_null() & text.is_not_null()
        if left.any():
            distinct = text.filter(left).unique()
            moments = distinct.map_elements(self._iso, return_dtype=pl.Float64, skip_nulls=True)
            found = text.replace_strict(distinct, moments, default=None, return_dtype=pl.Float64)
            result = result.zip_with(~left, found)
        return result

    def _find_formats(self, text: pl.Series) -> list[str]:
        """The format of the times; empty if each is to be parsed as ISO 8601."""
        distinct = text.drop_nulls().unique(maintain_order=True)
        sample = distinct.head(_SAMPLE)
        first = next((value for value in sample if re.search(r"\d", value)), None)
        if first is None:
            return []
        reads = {}
        for form in _candidates(first):
            count = _parsed(sample, form).count()
            if count:
                reads[form] = count
        if not reads:
            return []
        most = max(reads.values())
        best = [form for form, count in reads.items() if count == most]
        if len(best) > 1 and len(distinct) > len(sample):
            counts = {form: _parsed(distinct, form).count() for form in best}
            best = [form for form in best if counts[form] == max(counts.values())]
        orders = {form: re.sub("[^dmYyb]", "", form.replace("%B", "%b")) for form in best}
        if len({order for order in orders.values() if order[:2] in ("dm", "md")}) > 1:
            day, month = (next(f for f, o in orders.items() if o[:2] == w) for w in ("dm", "md"))
            plain = [form.replace("%.f", "") for form in (day, month)]
            raise InputError(
                f"the times of {self._path} leave day and month ambiguous: {first!r} in column "
                f"{self._column!r}",
                f"pass time_format={plain[0]!r} or {plain[1]!r}",
                cli_fix=f"pass --time-format '{plain[0]}' or '{plain[1]}'",
            )
        return best[:1]

    def _iso(self, text: str) -> float | None:
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                return moment.timestamp() * 1000
        except (ValueError, OverflowError):
            return None
        naive = pl.Series([moment], dtype=pl.Datetime("ms"))
        value = self._to_utc(naive).item()
        return None if value is None else float(value)

    def _to_utc(self, times: pl.Series) -> pl.Series:
        """Milliseconds since 1970; times without a zone are in the given zone."""
        zone = self._options.time_zone
        if own_zone(times) is None and zone is not None:
            minutes = offset_minutes(zone)
            if minutes is not None:
                return (times.dt.epoch("ms") - minutes * 60_000).cast(pl.Float64)
            times = times.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        return times.dt.epoch("ms").cast(pl.Float64)


def own_zone(values: pl.Series) -> str | None:
    """Time zone of a datetime column; None if it has none or is not a datetime column."""
    return values.dtype.time_zone if isinstance(values.dtype, pl.Datetime) else None


def own_offsets(values: pl.Series) -> pl.Series:
    """UTC offsets written with the times, in minutes east (float64); null where there is none.

    >>> texts = pl.Series(["2020-09-13T12:26:40-08:00", "2020-09-13 12:26Z", "2020-09-13 12:26"])
    >>> own_offsets(texts).to_list()
    [-480.0, 0.0, None]
    """
    if own_zone(values) is not None:
        moments = values.dt.base_utc_offset() + values.dt.dst_offset()
        return moments.dt.total_minutes().cast(pl.Float64)
    if values.dtype != pl.String:
        return _nulls(values)
    text = _plain(values.str.strip_chars()).str.replace(r"(\d)\s?[zZ]$", "${1}+00:00")
    parts = text.str.extract_groups(_OFFSET).struct.unnest()
    minutes = 60 * parts["hours"].cast(pl.Float64) + parts["minutes"].cast(pl.Float64).fill_null(0)
    return minutes.zip_with(parts["sign"] != "-", -minutes).alias(values.name)


def _whole_range(values: pl.Series) -> tuple[float, float] | None:
    """Minimum and maximum of float64 numbers; None if empty or not all are whole."""
    if values.is_empty() or not (values.is_finite() & (values == values.round())).all():
        return None
    return values.min(), values.max()  # type: ignore[return-value]


def _calendar(numbers: pl.Series) -> tuple[str, str] | None:
    """Format of dates written as numbers (20200913), if all values are such dates, else None."""
    values = numbers.drop_nulls()
    low, high = _whole_range(values) or (0, 0)
    digits = len(f"{low:.0f}")
    if not 1900 <= low <= high < 1e15 or digits != len(f"{high:.0f}") or digits not in _CALENDAR:
        return None
    form, added = _CALENDAR[digits]
    text = values.cast(pl.Int64).cast(pl.String) + added
    return (form, added) if _parsed(text, form).null_count() == 0 else None


def _short_calendar(values: pl.Series) -> str | None:
    """Format of numeric dates without a century or with the year last, if it fits all values."""
    low, high = _whole_range(values) or (0, 0)
    if not 1e4 < low <= high < 1e8:
        return None
    forms, width = (("%d%m%Y", "%m%d%Y"), 8) if high >= 1e6 else (("%y%m%d",), 6)
    text = values.cast(pl.Int64).cast(pl.String).str.zfill(width)
    for form in forms:
        times = _parsed(text, form)
        if times.null_count() == 0 and times.dt.year().is_between(1990, 2039).all():
            return form
    return None


def joined(parts: Sequence[pl.Series]) -> pl.Series:
    """Date and time columns joined to one text per row; null where a part is missing or blank.

    >>> joined([pl.Series(["2020-09-13", "2020-09-14"]), pl.Series(["12:26", None])]).to_list()
    ['2020-09-13 12:26', None]
    """
    clock = len(parts) - 1 if len(parts) != 3 else None  # three columns are year, month, day
    texts = [_as_part(values, clock=place == clock) for place, values in enumerate(parts)]
    blank = pl.Series(texts[0].is_null())
    for text in texts:
        blank |= text.is_null() | (text == "")
    frame = pl.DataFrame({str(place): text for place, text in enumerate(texts)})
    return frame.select(pl.concat_str(pl.all(), separator=" "))["0"].set(
        blank.fill_null(True), None
    )


def _as_part(values: pl.Series, *, clock: bool) -> pl.Series:
    """Part of a time as text: whole numbers without ``.0``, dates without time of day."""
    if isinstance(values.dtype, pl.Datetime) and not clock:
        values = values.dt.date()
    if values.dtype == pl.Time:
        return values.dt.to_string("%H:%M:%S%.f")
    if values.dtype.is_nested() or values.dtype in (pl.Object, pl.Binary):
        return pl.repeat(None, len(values), dtype=pl.String, eager=True)
    text = values.cast(pl.String, strict=False).str.strip_chars()
    text = text.str.replace(r"^(\d+)\.0*$", "$1")
    if not clock:
        return text
    # 9 is 09:00, 930 is 09:30, 93015 is 09:30:15
    return text.str.replace(r"^(\d{3}|\d{5})$", "0$1").str.replace(r"^(\d\d?)$", "$1:00")


def likely_unit(begin: float, end: float) -> tuple[str, str] | None:
    """A unit (d, h, min) that makes times in 1970 plausible, and the first date in that unit."""
    for unit in ("d", "h", "min"):
        first, last = (seconds * UNITS[unit] for seconds in (begin, end))
        if _is_usual(first) and _is_usual(last):
            return unit, _shown(first)
    return None


def _candidates(example: str) -> list[str]:
    """Formats that a text like ``example`` may have."""
    clocks = [""]
    if ":" in example:
        spaces = [space for space in (", ", " at ", "T", " ") if space in example]
        clocks = [space + clock for space, clock in itertools.product(spaces, _CLOCKS)]
    elif _BARE_CLOCK.search(example):
        clocks += [f" {clock}" for clock in _BARE_CLOCKS]
    offset = re.search(r"[+-]\d\d:?(\d\d)?$", example) if ":" in example else None
    zones = [""] if offset is None else ["%z", " %z", "%#z"]
    named = re.search("[A-Za-z]{3}", example.replace("at", "")) is not None
    dates = [date for date in _DATES if named or not re.search("%[aAbB]", date)]
    forms = ["".join(parts) for parts in itertools.product(dates, clocks, zones)]
    if example.count("-") == 5:
        forms.append(_DASHED)
    return [*_WHOLE, *forms] if named or "T" in example else forms


def _parsed(text: pl.Series, form: str) -> pl.Series:
    """Datetimes of texts; null where a text does not fit the format or is not in 1900 to 2100."""
    times = text.str.to_datetime(form, time_unit="ms", strict=False)
    plain = times.dt.replace_time_zone(None)
    return times.zip_with(
        plain.is_between(_EARLIEST, _LATEST),
        pl.repeat(None, len(times), dtype=times.dtype, eager=True),
    )


def _plain(text: pl.Series) -> pl.Series:
    """Normalise texts for parsing: English month names, offsets for zone names, and so on."""
    text = text.str.replace(*_MONTH_ALONE)
    if not text.str.contains(r"\d[\p{L}&&[^TZ]]|\p{L}{2}|\p{L}\.|\[").any():
        return text
    text = _with_english_months(text)
    for pattern, replacement in _REWRITTEN:
        if text.str.contains(pattern).any():
            text = text.str.replace(pattern, replacement)
    return _with_offsets(text)


def _with_english_months(text: pl.Series) -> pl.Series:
    """Replace month names by their English abbreviations."""
    words = text.str.extract_all(r"\p{L}{3,}").explode().drop_nulls().unique()
    for word in sorted(words):
        month = _MONTH.get(word.lower())
        if month is not None and word not in _ENGLISH:
            text = text.str.replace(rf"\b{word}\b\.?", month)
    return text


def _with_offsets(text: pl.Series) -> pl.Series:
    """Replace zone names by their offsets: ``UTC`` by ``+0000``."""
    zoned = text.str.contains(r"\d\s?[A-Z]{1,4}(?:\s\d{4})?$")
    if not zoned.any():
        return text
    for name, hours in _ZONES.items():
        sign = "-" if hours < 0 else "+"
        offset = f"${{1}}{sign}{abs(hours):02d}00$2"
        text = text.str.replace(rf"(:\d\d(?:\.\d+)?\s?){name}(\s\d{{4}})?$", offset)
    return text


def _is_usual(milliseconds: float) -> bool:
    return 6e11 < milliseconds < 2.2e12  # 1989 to 2039


def _shown(milliseconds: float) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return f"the year {1970 + milliseconds / 3.15576e10:,.0f}"


def _nulls(values: pl.Series) -> pl.Series:
    return pl.repeat(None, len(values), dtype=pl.Float64, eager=True)
