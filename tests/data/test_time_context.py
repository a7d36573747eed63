"""Hour, day of the week and month of an event: derived from its time, where it was."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twotower.data import Dataset, Part
from twotower.data.declaration import Declaration, read_declaration
from twotower.data.inspection import inspect
from twotower.data.prepare import prepare
from twotower.data.readers.times import own_offsets
from twotower.data.schema import OWN, Schema
from twotower.data.time_zones import TIME_KINDS, time_value, time_value_at, wall_clock
from twotower.errors import InputError
from twotower.evaluation.tasks import AllUsers, CutHistory

EVENTS = {"hour": "hour", "day": "weekday", "month": "month"}
UTC_TIMES = ["2024-12-31T22:30:00", "2025-03-30T00:59:59", "2025-03-30T01:00:00"]
"""New Year's Eve, and the second before clocks go forward in the European Union, and then."""


def made(times: Any, events: Any = None, **options: Any) -> Dataset:
    """One user's events at some times."""
    frame = {"user": ["u"] * len(times), "item": [f"i{at}" for at in range(len(times))]}
    return Dataset.from_frames(
        pl.DataFrame({**frame, "time": times}),
        schema={"events": EVENTS if events is None else events},
        settings={"k_core": 0, "split": "global-time"},
        options=options,
    )


def values(dataset: Dataset) -> list[tuple[Any, ...]]:
    assert dataset.context_table is not None
    return dataset.context_table[dataset.interactions.contexts].rows()


def zones(dataset: Dataset) -> set[str | None]:
    return {column.time_zone for column in dataset.schema.events.values()}


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("UTC", [(22, 2, 12), (0, 7, 3), (1, 7, 3)]),
        ("Europe/Berlin", [(23, 2, 12), (1, 7, 3), (3, 7, 3)]),  # there is no 2 o'clock that day
        ("+05:30", [(4, 3, 1), (6, 7, 3), (6, 7, 3)]),
        ("-08:00", [(14, 2, 12), (16, 6, 3), (17, 6, 3)]),
        ("America/New_York", [(17, 2, 12), (20, 6, 3), (21, 6, 3)]),
    ],
)
def test_times_in_utc_are_read_by_the_clocks_of_a_zone(zone: str, expected: Any) -> None:
    declared = {name: {"kind": kind, "time_zone": zone} for name, kind in EVENTS.items()}
    numbers = [
        int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) for text in UTC_TIMES
    ]
    for times in (UTC_TIMES, numbers, [f"{text}Z" for text in UTC_TIMES]):
        dataset = made(times, declared)
        assert values(dataset) == expected
        assert zones(dataset) == {zone}
    by_default = made(UTC_TIMES)
    assert values(by_default) == [(22, 2, 12), (0, 7, 3), (1, 7, 3)]
    assert zones(by_default) == {"UTC"}


def test_the_zone_that_a_log_is_read_with_is_that_of_its_clocks() -> None:
    local = made(["2025-01-01T18:30:00", "2025-07-01T18:30:00"], time_zone="Europe/Berlin")
    assert [row[0] for row in values(local)] == [18, 18]
    assert np.diff(local.interactions.timestamps).item() % 86_400_000 == 23 * 3_600_000
    numbers = made([1_735_752_600, 1_751_387_400], time_zone="Europe/Berlin")
    assert values(numbers) == values(local)
    assert zones(numbers) == {"Europe/Berlin"}


def test_times_with_offsets_of_their_own_are_read_by_them(tmp_path: Path) -> None:
    texts = ["2025-06-01T01:29:35+01:00", "2025-06-01T03:30:14+02:00", "2025-06-02T03:30:14+02:00"]
    dataset = made(texts)
    assert [row[:2] for row in values(dataset)] == [(1, 7), (3, 7), (3, 1)]
    assert zones(dataset) == {OWN}
    (note,) = (note for note in dataset.summary["notes"] if "offsets of their own" in note)
    assert "(+01:00, +02:00)" in note
    assert Dataset.load(dataset.save(tmp_path / "data")).schema == dataset.schema
    alike = made([text.replace("+01:00", "+02:00") for text in texts])
    assert zones(alike) == {"+02:00"}
    told = made(texts, {"hour": {"kind": "hour", "time_zone": "UTC"}})
    assert [row[0] for row in values(told)] == [0, 1, 1]
    berlin = pl.Series(texts).str.to_datetime("%+").dt.convert_time_zone("Europe/Berlin")
    of_column = made(berlin)
    assert zones(of_column) == {"Europe/Berlin"}
    assert [row[0] for row in values(of_column)] == [2, 3, 3]


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("2020-09-13T12:26:40.123+05:30", 330),
        ("2020-09-13 12:26-0800", -480),
        ("20200913T122640+0200", 120),
        ("Sun Sep 13 12:26:40 -0800 2020", -480),
        ("Sun, 13 Sep 2020 12:26:40 PDT", -420),
        ("13/Sep/2020:12:26:40 +0100", 60),
        ("2020-09-13 12:26:40 +0000 UTC", 0),
        ("2020-09-13T12:26:40Z", 0),
        ("2020-09-13 12:26:40", None),
        ("2020-09-13", None),
        ("1600000000", None),
    ],
)
def test_the_offset_of_a_time(text: str, minutes: int | None) -> None:
    assert own_offsets(pl.Series([text])).to_list() == [minutes]


def test_a_column_of_the_log_says_it_where_it_can(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"user": "u", "item": ["a", "b", "c"], "hour": [7, None, 31],
         "time": ["2025-01-01T18:30:00", "2025-01-02T19:30:00", "2025-01-03T20:30:00"]}
    )  # fmt: skip
    frame.write_csv(tmp_path / "log.csv")
    declared = {"schema": {"events": {"hour": {"kind": "hour", "time_zone": "UTC"}}}}
    found = prepare(
        tmp_path / "log.csv",
        declaration=Declaration.model_validate(
            {**declared, "prepare": {"k_core": 0, "split": "global-time"}}
        ),
    )
    assert [row[0] for row in values(found)] == [7, 19, 20]


@given(
    st.datetimes(datetime(1975, 1, 1), datetime(2037, 12, 31)),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "+05:30"]),
)
@settings(max_examples=60, deadline=None)
def test_service_and_preparation_read_a_clock_alike(moment: datetime, zone: str) -> None:
    second = int(moment.replace(tzinfo=UTC).timestamp())
    clock = wall_clock(pl.Series([second * 1000 + 999]), zone)
    there = datetime.fromtimestamp(second, UTC) + timedelta(hours=5, minutes=30)
    if zone != "+05:30":
        there = datetime.fromtimestamp(second, ZoneInfo(zone))
    for kind, value in zip(TIME_KINDS, (there.hour, there.isoweekday(), there.month), strict=True):
        assert time_value(clock, kind).item() == time_value_at(second, kind, zone) == value


def log() -> dict[str, Any]:
    """Six users of eight events each, all at other hours, with a device."""
    times = [
        int(datetime(2025, 1, 1 + at % 8, at // 8, tzinfo=UTC).timestamp()) for at in range(48)
    ]
    return {
        "user": [f"u{at // 8}" for at in range(48)], "item": [f"i{at % 8}" for at in range(48)],
        "time": times, "device": ["tv 1" if at % 2 else "phone 1" for at in range(48)],
    }  # fmt: skip


def of_log(events: Any) -> Dataset:
    return Dataset.from_frames(log(), schema={"events": events}, settings={"k_core": 0})


def test_the_time_is_in_the_context_only_where_it_is_told() -> None:
    dataset = of_log({"device": "category", "hour": "hour"})
    table = dataset.request_contexts
    assert table is not None
    for part in (Part.VALIDATION, Part.TEST):
        told, targets = dataset.held_out(part, timed=True)
        hours = [datetime.fromtimestamp(at / 1000, UTC).hour for at in targets.timestamps]
        assert table["hour"][told.contexts].to_list() == hours
        untold, _ = dataset.held_out(part)
        assert table["hour"][untold.contexts].null_count() == len(untold)
        assert table["device"][untold.contexts].equals(table["device"][told.contexts])
    for task in (CutHistory(2), AllUsers()):
        queries = task(dataset, Part.TEST).queries
        assert table["hour"][queries.contexts].null_count() == len(queries)
    plain = of_log({"device": "category"})
    assert plain.request_contexts is plain.context_table


def test_a_context_is_of_the_event_itself_and_of_no_later_one() -> None:
    dataset = of_log({"hour": "hour", "day": "weekday"})
    later = log()
    last = max(later["time"])
    later["time"] = [
        at if (place % 8) < 7 else last + place for place, at in enumerate(later["time"])
    ]  # other times of the test part alone
    moved = Dataset.from_frames(
        later, schema={"events": {"hour": "hour", "day": "weekday"}}, settings={"k_core": 0}
    )
    rows = dataset.split != Part.TEST
    assert [row for row, keep in zip(values(dataset), rows, strict=True) if keep] == [
        row for row, keep in zip(values(moved), rows, strict=True) if keep
    ]
    one, other = (each.held_out(Part.VALIDATION, timed=True)[0] for each in (dataset, moved))
    table, moved_table = dataset.request_contexts, moved.request_contexts
    assert table is not None
    assert moved_table is not None
    assert table[one.contexts].equals(moved_table[other.contexts])


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            {"events": {"hour": {"kind": "hour", "time_zone": "Mars"}}},
            "no such time zone; pass UTC, Europe/Berlin, +05:30",
        ),
        (
            {"events": {"device": {"kind": "category", "time_zone": "UTC"}}},
            "time_zone is an option of the kinds hour, weekday and month, not of category",
        ),
        ({"items": {"hour": "hour"}}, "items.hour is an hour, which only an event has"),
        ({"users": {"day": "weekday"}}, "users.day is a weekday, which only an event has"),
        ({"events": {"time": "hour"}}, "is no context of an event: it is the time"),
        ({"events": {"device": "hour"}}, "declared as hour, but holds values such as 'phone 1'"),
        ({"events": {"when": "minute"}}, "schema.events.when.kind"),
    ],
)
def test_a_bad_declaration_is_one_line(schema: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Dataset.from_frames(log(), schema=schema, settings={"k_core": 0})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_log_without_times_of_day_or_times_has_no_hours() -> None:
    days = {**log(), "time": [f"2025-01-{1 + at % 8:02}" for at in range(48)]}
    with pytest.raises(InputError, match=r"as an hour, but the times of the log are days"):
        Dataset.from_frames(days, schema={"events": {"hour": "hour"}}, settings={"k_core": 0})
    week = Dataset.from_frames(days, schema={"events": {"d": "weekday"}}, settings={"k_core": 0})
    assert sorted({row[0] for row in values(week)}) == list(range(1, 8))
    order = {("order" if name == "time" else name): column for name, column in log().items()}
    with pytest.raises(InputError, match=r"events.hour as an hour, but .* has no times"):
        Dataset.from_frames(order, schema={"events": {"hour": "hour"}}, settings={"k_core": 0})


def test_data_sets_without_zones_are_written_as_before() -> None:
    schema = Schema.model_validate({"items": {"brand": "category"}})
    assert schema.to_json() == (
        '{"items":{"brand":{"kind":"category","feature":true,"stock":false,"separator":null,'
        '"file":null,"ids":null,"encoder":"minilm"}},"users":{}}'
    )


def test_hours_are_proposed_where_the_log_has_times_of_day(tmp_path: Path) -> None:
    pl.DataFrame(log()).write_csv(tmp_path / "log.csv")
    found = inspect([tmp_path], Declaration())
    assert found.described["schema"]["events"] == {
        "device": {"kind": "category"}, "hour": {"kind": "hour"}, "weekday": {"kind": "weekday"}
    }  # fmt: skip
    (tmp_path / "dataset.toml").write_text('[schema.events]\nhour = "hour"\n')
    assert prepare(tmp_path).schema.events["hour"].time_zone == "UTC"
    assert read_declaration(tmp_path / "dataset.toml").to_toml() == (
        '[schema.events]\nhour = "hour"\n'
    )
    days = {**log(), "time": [f"2025-01-{1 + at % 8:02}" for at in range(48)]}
    (tmp_path / "days").mkdir()
    pl.DataFrame(days).write_csv(tmp_path / "days" / "log.csv")
    assert "hour" not in inspect([tmp_path / "days"], Declaration()).described["schema"]["events"]


def test_the_table_of_contexts_grows_with_the_moments_and_not_with_the_log() -> None:
    dataset = of_log({"hour": "hour"})
    assert dataset.context_table is not None
    assert dataset.context_table["hour"].to_list() == sorted({at // 8 for at in range(48)})
    assert all(one < other for one, other in pairwise(dataset.context_table["hour"]))
