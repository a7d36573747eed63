"""Times as people and programs write them: months by name, spreadsheets, date and clock apart."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from twotower.cli.source import declaration
from twotower.data import Dataset
from twotower.data.declaration import Declaration, read_declaration
from twotower.data.inspection import inspect, inspection_lines
from twotower.data.prepare import prepare
from twotower.data.readers import ColumnMapping, ReadOptions
from twotower.data.settings import PrepareSettings
from twotower.data.summary import summary_lines
from twotower.errors import InputError

ALL = PrepareSettings(k_core=0)


def log_of(folder: Path, values: Sequence[Any], header: str = "user;item;time") -> Path:
    rows = "".join(f"u{n};i{n};{value}\n" for n, value in enumerate(values))
    path = folder / "log.csv"
    path.write_text(f"{header}\n{rows}", encoding="utf-8")
    return path


def times(dataset: Dataset) -> list[str]:
    assert dataset.interactions.timestamps is not None
    moments = (datetime.fromtimestamp(t / 1000, UTC) for t in dataset.interactions.timestamps)
    return [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in moments]


def read(path: Path, columns: ColumnMapping | None = None, **options: Any) -> list[str]:
    return times(prepare(path, settings=ALL, mapping=columns, options=ReadOptions(**options)))


@pytest.mark.parametrize(
    "text",
    [
        "14. März 2023", "14. Mrz 2023", "14-Mär-2023", "Di, 14. März 2023", "14 mars 2023",
        "mardi 14 mars 2023", "14 de marzo de 2023", "14 marzo 2023", "14 de março de 2023",
        "14 maart 2023", "14 marts 2023", "14 marca 2023", "14 марта 2023 г.", "14 mrt. 2023",
        "March 14th, 2023", "Tuesday, 14 March 2023", "Tue Mar 14 2023",
    ],
)  # fmt: skip
def test_months_have_names_in_many_languages(tmp_path: Path, text: str) -> None:
    assert read(log_of(tmp_path, [text])) == ["2023-03-14 00:00:00"]


@pytest.mark.parametrize(
    ("text", "month"),
    [("1. Mai 2023", 5), ("1 août 2023", 8), ("1 févr. 2023", 2), ("1 ene. 2023", 1),
     ("1 ottobre 2023", 10), ("1 dez 2023", 12), ("1 listopada 2023", 11), ("1 мая 2023", 5),
     ("Oktober 2023", 10), ("1er juin 2023", 6), ("1. Dez. 2023", 12)],
)  # fmt: skip
def test_every_month_is_the_right_one(tmp_path: Path, text: str, month: int) -> None:
    assert read(log_of(tmp_path, [text])) == [f"2023-{month:02}-01 00:00:00"]


@pytest.mark.parametrize(
    "text",
    [
        "14.03.2023 21:30 Uhr", "14.03.2023 21.30", "14. März 2023 um 21:30", "14/3/2023 9:30 p.m.",
        "14 mars 2023 à 21h30", "2023-03-14T22:30:00+01:00[Europe/Berlin]", "2023-03-14-21-30-00",
        "Tue Mar 14 2023 22:30:00 GMT+0100 (Central European Standard Time)",
        "/Date(1678829400000)/",
    ],
)  # fmt: skip
def test_clocks_as_programs_write_them(tmp_path: Path, text: str) -> None:
    assert read(log_of(tmp_path, [text])) == ["2023-03-14 21:30:00"]


def test_months_of_other_languages_are_an_error_that_says_which_are_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"names of months are read in English, German, .*numbers"):
        read(log_of(tmp_path, ["1. maaliskuuta 2023"]))


@pytest.mark.parametrize("value", ["45123.5", "45123,5"])
def test_day_numbers_of_a_spreadsheet(tmp_path: Path, value: str) -> None:
    path = log_of(tmp_path, [value, "2023-07-17"])
    with pytest.raises(
        InputError, match="likely a spreadsheet's number of the day 2023-07-16"
    ) as e:
        read(path)
    assert "pass --time-format excel" in e.value.on_command_line
    assert "time_format='excel'" in str(e.value)
    assert read(path, time_format="excel") == ["2023-07-16 12:00:00", "2023-07-17 00:00:00"]
    berlin = read(path, time_format="excel", time_zone="Europe/Berlin")
    assert berlin[0] == "2023-07-16 10:00:00"


def test_impossible_day_numbers_are_rejected(tmp_path: Path) -> None:
    path = log_of(tmp_path, ["45123", "1e300", "inf"])
    assert read(path, time_format="excel") == ["2023-07-16 00:00:00"]


@pytest.mark.parametrize(
    ("value", "form"), [("230714", "%y%m%d"), ("14072023", "%d%m%Y"), ("07142023", "%m%d%Y")]
)
def test_short_dates_are_no_seconds(tmp_path: Path, value: str, form: str) -> None:
    path = log_of(tmp_path, [value])
    with pytest.raises(InputError, match="would lie in 1970") as caught:
        read(path)
    assert f"--time-format {form}" in caught.value.on_command_line
    assert read(path, time_format=form) == ["2023-07-14 00:00:00"]


@pytest.mark.parametrize(("unit", "value"), [("d", 19_000), ("h", 456_000)])
def test_times_in_1970_name_the_likely_unit(tmp_path: Path, unit: str, value: int) -> None:
    path = log_of(tmp_path, [value, value + 1])
    said = summary_lines(prepare(path, settings=ALL).summary, cli=True)
    assert any(f"--time-unit {unit}, in which they would begin on 2022-01-08" in x for x in said)
    assert read(path, time_unit=unit)[0].startswith("2022-01-08")


def frame_of(form: str) -> pl.DataFrame:
    frame = pl.DataFrame(
        {"user": ["u", "v"], "item": ["i", "j"], "day": ["2023-03-14", "2023-03-15"],
         "clock": ["21:30:00", "09:00:00"]}
    )  # fmt: skip
    if form == "typed":
        date, time = pl.col("day").str.to_date(), pl.col("clock").str.to_time()
        return frame.with_columns(date, time)
    if form == "pandas":  # it has dates as moments
        return frame.with_columns(pl.col("day").str.to_datetime())
    return frame


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "typed", "pandas"])
def test_date_and_time_of_day_in_two_columns(tmp_path: Path, form: str) -> None:
    frame, write = frame_of(form), {"csv": "write_csv", "json": "write_ndjson"}
    path = tmp_path / {"csv": "log.csv", "json": "log.jsonl"}.get(form, "log.parquet")
    getattr(frame, write.get(form, "write_parquet"))(path)
    dataset = prepare(path, settings=ALL, mapping=ColumnMapping(time=("day", "clock")))
    assert times(dataset) == ["2023-03-14 21:30:00", "2023-03-15 09:00:00"]
    assert dataset.summary["columns"]["read"]["timestamp"] == "day + clock"
    assert dataset.summary["columns"]["ignored"] == []
    held = Dataset.from_frames(frame, columns={"time": ["day", "clock"]}, settings={"k_core": 0})
    assert times(held) == times(dataset)


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("user;item;Datum;Uhrzeit", "14.03.2023;21:30", "2023-03-14 21:30:00"),
        ("user;item;date;time", "03/14/2023;9:30 PM", "2023-03-14 21:30:00"),
        ("user;item;date;hour", "2023-03-14;21", "2023-03-14 21:00:00"),
        ("user;item;date;hhmm", "20230314;930", "2023-03-14 09:30:00"),
        ("user;item;date;hhmmss", "20230314;93015", "2023-03-14 09:30:15"),
        ("user;item;date;clock", "14. März 2023;21:30 Uhr", "2023-03-14 21:30:00"),
        ("user;item;year;month;day", "2023;3;14", "2023-03-14 00:00:00"),
    ],
)
def test_parts_of_a_time_in_any_form(
    tmp_path: Path, header: str, value: str, expected: str
) -> None:
    names = tuple(header.split(";")[2:])
    assert read(log_of(tmp_path, [value], header), ColumnMapping(time=names)) == [expected]


def test_a_missing_part_is_a_missing_time(tmp_path: Path) -> None:
    path = log_of(tmp_path, ["2023-03-14;21:30", "2023-03-14;"], "user;item;date;clock")
    dataset = prepare(path, settings=ALL, mapping=ColumnMapping(time=("date", "clock")))
    assert dataset.summary["rejected"] == {"timestamp: missing": 1}


def test_folders_may_name_the_parts_of_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "year=2023" / "month=03" / "day=14"
    folder.mkdir(parents=True)
    (folder / "part-0.csv").write_text("user,item\nu,i\n")
    with pytest.raises(InputError) as caught:
        prepare(tmp_path, settings=ALL)
    assert "--column time=year,month,day" in caught.value.on_command_line
    assert read(tmp_path, ColumnMapping(time=("year", "month", "day"))) == ["2023-03-14 00:00:00"]


def test_several_columns_are_said_alike_everywhere(tmp_path: Path) -> None:
    path = log_of(tmp_path, ["2023-03-14;21:30"], "user;item;date;clock")
    toml = tmp_path / "dataset.toml"
    toml.write_text('[columns]\ntime = ["date", "clock"]\n')
    from_file = read_declaration(toml)
    assert from_file.columns.time == ("date", "clock")
    assert read_declaration(toml).to_toml() == '[columns]\ntime = ["date", "clock"]\n'
    assert read(tmp_path) == read(path, ColumnMapping(time=("date", "clock")))
    with pytest.raises(InputError, match="has no column 'hour'"):
        read(path, ColumnMapping(time=("date", "hour")))


def test_the_option_takes_a_list() -> None:
    from inspect import signature

    from twotower.cli.source import _words

    words = {name: parameter.default for name, parameter in signature(_words).parameters.items()}
    said = declaration({**words, "columns": ["time=date,clock"]})
    assert said.columns.time == ("date", "clock")


@pytest.mark.parametrize("names", [(), ("a", "a"), ("a", "b", "c", "d", "e")])
def test_names_of_a_time_must_differ(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="time is a column, or up to 4 different ones"):
        ColumnMapping(time=names)
    assert ColumnMapping(time=("a",)).time == "a"


@pytest.mark.parametrize("header", ["user;item;date;time", "user;item;Datum;Uhrzeit"])
def test_inspect_guesses_the_two_columns(tmp_path: Path, header: str) -> None:
    log_of(tmp_path, [f"{day}.03.2023;21:{day}" for day in range(14, 24)], header)
    pair = header.split(";")[2:]
    found = inspect([tmp_path], Declaration())
    assert found.described["guesses"]["time"] == pair
    assert any(f"time={','.join(pair)}" in line for line in inspection_lines(found))
    assert f"time = {json.dumps(pair)}  # a guess" in found.toml
    (tmp_path / "dataset.toml").write_text(found.toml, encoding="utf-8")
    assert read(tmp_path)[0] == "2023-03-14 21:14:00"
    again = inspect([tmp_path], Declaration())
    assert "time" not in again.described["guesses"]


def test_a_time_of_day_that_is_ignored_is_said(tmp_path: Path) -> None:
    path = log_of(tmp_path, ["2023-03-14;21:30"], "user;item;date;at")
    said = "\n".join(summary_lines(prepare(path, settings=ALL).summary, cli=True))
    assert "the times are dates alone, and 'at' has times of day; --column time=date,at" in said


def test_a_time_of_day_alone_names_the_column_of_dates(tmp_path: Path) -> None:
    path = log_of(tmp_path, ["2023-03-14;21:30"], "user;item;bought;time")
    with pytest.raises(InputError, match=r"a time of day without its date; .*time=bought,time"):
        read(path)


def test_inspect_shows_what_keeps_the_times_from_being_read(tmp_path: Path) -> None:
    log_of(tmp_path, ["45123", "45124"])
    found = inspect([tmp_path], Declaration())
    assert "--time-format excel" in found.described["problem"]
    assert found.toml
