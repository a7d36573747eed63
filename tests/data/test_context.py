"""Declared columns of the log: each event keeps its own values, from the file to the data set."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from twotower.data import Dataset, Part
from twotower.data.declaration import Declaration, read_declaration
from twotower.data.inspection import inspect
from twotower.data.prepare import prepare
from twotower.data.schema import Schema
from twotower.errors import InputError

DEVICES = ("phone 1", "phone 2", "tv 1")
FINGERPRINT = "91862ecda82a8419d1bd0004a7df89067200e428530ec95d1d5ed597b803e0ad"
"""As the release before contexts gave it."""


def log(users: int = 9, length: int = 6) -> pl.DataFrame:
    """Rows out of order, whose time says what their context is."""
    rng = np.random.default_rng(0)
    times = rng.permutation(users * length) + 1_700_000_000
    rows = [
        (
            f"u{at // length}",
            f"i{at % length}",
            int(time),
            DEVICES[time % 3],
            int(time % 24),
            time % 2,
        )
        for at, time in enumerate(times)
    ]
    names = ["user", "item", "time", "device", "hour", "is_app"]
    return pl.DataFrame(rows, schema=names, orient="row").sample(fraction=1, shuffle=True, seed=1)


SCHEMA = {"events": {"device": "category", "hour": "number", "is_app": "flag"}}


def made(frame: pl.DataFrame, **settings: Any) -> Dataset:
    return Dataset.from_frames(
        frame, schema=SCHEMA, settings={"k_core": 0, **settings}, options={"time_unit": "s"}
    )


def values(dataset: Dataset) -> pl.DataFrame:
    assert dataset.context_table is not None
    return dataset.context_table[dataset.interactions.contexts]


def check(dataset: Dataset) -> None:
    """Every event has the context that its time says."""
    times = dataset.interactions.timestamps // 1000
    found = values(dataset)
    assert found["device"].to_list() == [DEVICES[time % 3] for time in times]
    assert found["hour"].to_list() == [time % 24 for time in times]
    assert found["is_app"].to_list() == [time % 2 == 1 for time in times]


@pytest.mark.parametrize("split", ["leave-last-two", "global-time", "random"])
def test_each_event_keeps_its_context(split: str, tmp_path: Path) -> None:
    dataset = made(log(), split={"kind": split})
    check(dataset)
    again = Dataset.load(dataset.save(tmp_path / "data"))
    check(again)
    assert again.fingerprint == dataset.fingerprint
    for part in (Part.VALIDATION, Part.TEST):
        queries, targets = again.held_out(part)
        table, times = again.context_table, targets.timestamps[targets.indptr[:-1]] // 1000
        assert table is not None
        assert table["hour"][queries.contexts].to_list() == [time % 24 for time in times]
        some = queries.select(np.array([3, 1]))
        assert some.contexts.tolist() == queries.contexts[[3, 1]].tolist()


def test_repeats_returns_and_the_k_core_leave_the_context_of_what_is_kept() -> None:
    frame = log()
    repeated = frame.with_columns(pl.col("time") + 100_000)  # each event again, and later
    rare = pl.DataFrame(
        {"user": ["z"], "item": ["i0"], "time": [1_700_000_000], "device": ["only here"],
         "hour": [1], "is_app": [0]}
    )  # fmt: skip
    dataset = made(pl.concat([repeated, rare, frame], how="vertical_relaxed"), k_core=2)
    assert len(dataset.interactions.items) == frame.height
    check(dataset)  # of repeats the first
    assert "only here" not in dataset.context_table["device"]
    quantities = frame.with_columns(
        pl.when(pl.col("item") == "i1").then(-1).otherwise(1).alias("quantity")
    )
    check(made(quantities))


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_files_of_every_format_give_the_same_contexts(suffix: str, tmp_path: Path) -> None:
    frame = log().with_columns(pl.col("is_app") == 1)
    folder = tmp_path / "data"
    folder.mkdir()
    write = {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}
    write[suffix](folder / f"log.{suffix}")
    (folder / "dataset.toml").write_text(
        '[read]\ntime_unit = "s"\n[prepare]\nk_core = 0\n'
        '[schema.events]\ndevice = "category"\nhour = "number"\nis_app = "flag"\n'
    )
    dataset = prepare(folder)
    check(dataset)
    assert dataset.schema == Schema.model_validate(SCHEMA)


def test_values_that_cannot_be_read_are_missing() -> None:
    frame = log().with_columns(
        pl.when(pl.col("user") == "u1").then(pl.lit("late")).otherwise(pl.col("hour").cast(str))
        .alias("hour"),
        pl.when(pl.col("user") == "u2").then(pl.lit(" ")).otherwise(pl.col("device"))
        .alias("device"),
    )  # fmt: skip
    dataset = made(frame)
    found, users = values(dataset), np.asarray(dataset.users.ids)[dataset.interactions.rows]
    assert (found["hour"].is_null().to_numpy() == (users == "u1")).all()
    assert (found["device"].is_null().to_numpy() == (users == "u2")).all()


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ({"devise": "category"}, "no column 'devise' that the schema declares"),
        ({"device": "number"}, "declared as number, but holds values such as '"),
        ({"device": "list"}, "events.device is a list; a column of events must be a number"),
        ({"is_app": {"kind": "flag", "stock": True}}, "events.is_app is stock; a column of"),
        (
            {"time": "number"},
            "'time' of interactions is no context of an event: it is the time, which",
        ),
        ({"user": "category"}, "'user' of interactions is no context of an event: it is the user"),
        ({"item": "category"}, "it is the item, which is to be predicted"),
        ({"rating": "number"}, "it is the rating that it ends in"),
        ({"qty": "number"}, "it is the quantity, which is known only after it"),
        ({"action": "category"}, "it is the kind of event, which is known only after it"),
    ],
)
def test_a_bad_declaration_is_one_line(events: Any, message: str) -> None:
    frame = log().with_columns(rating=pl.lit(4), qty=pl.lit(1), action=pl.lit("view"))
    with pytest.raises(InputError) as caught:
        Dataset.from_frames(frame, schema={"events": events}, settings={"k_core": 0})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_describes_the_items_of_a_log_is_no_context(tmp_path: Path) -> None:
    frame = log().with_columns(title=pl.col("item") + " title", shelf=pl.col("item"))
    frame.write_csv(tmp_path / "log.csv")
    toml = '[prepare]\nk_core = 0\n[schema.events]\nCOLUMN = "category"\n'
    (tmp_path / "dataset.toml").write_text('catalogue = "log"\n' + toml.replace("COLUMN", "title"))
    with pytest.raises(InputError, match="it is a description of the item"):
        prepare(tmp_path)
    more = pl.concat([frame] * 3).with_columns(user=pl.col("user") + pl.int_range(162).cast(str))
    told = Dataset.from_frames(
        more, schema={"events": {"shelf": "category"}}, settings={"k_core": 0}
    )
    assert any("'shelf' of the log has one value for each item" in x for x in told.summary["notes"])
    assert not any("declared column" in note for note in made(log()).summary.get("notes", []))


def test_contexts_are_guessed_and_left_to_uncomment(tmp_path: Path) -> None:
    log(9, 8).with_columns(price=pl.col("hour")).write_csv(tmp_path / "log.csv")
    found = inspect([tmp_path], Declaration())
    assert found.described["schema"]["events"] == {
        "device": {"kind": "category"}, "hour": {"kind": "number"}, "is_app": {"kind": "flag"},
        "weekday": {"kind": "weekday"},
    }  # fmt: skip
    (tmp_path / "dataset.toml").write_text(found.toml)
    assert not read_declaration(tmp_path / "dataset.toml").declared
    head, _, tail = found.toml.partition("# Uncomment")
    (tmp_path / "dataset.toml").write_text(head + tail.partition("\n")[2].replace("# ", ""))
    declared = read_declaration(tmp_path / "dataset.toml").declared
    assert declared == Schema.model_validate({"events": {**SCHEMA["events"], "weekday": "weekday"}})
    assert inspect([tmp_path], Declaration()).described["log"]["read"]["context hour"] == "hour"


def test_data_sets_without_context_keep_their_fingerprint() -> None:
    frame = {"user": list("aaabbb"), "item": list("xyzxyz"), "time": [1, 2, 3, 1, 2, 3]}
    items = {"item": list("xyz"), "brand": list("rgr")}
    schema = {"items": {"brand": "category"}}
    dataset = Dataset.from_frames(frame, items, settings={"k_core": 0}, schema=schema)
    assert dataset.fingerprint == FINGERPRINT
    assert dataset.context_table is None
    assert dataset.held_out(Part.TEST)[0].contexts is None
