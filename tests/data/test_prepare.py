import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import histories
from twotower.data import Dataset, Part
from twotower.data.prepare import prepare
from twotower.data.readers import ColumnMapping
from twotower.data.settings import PrepareSettings
from twotower.data.splits import Given, GlobalTime, LeaveLastTwo, Random, Rolling
from twotower.errors import InputError
from twotower.workflow.evaluation import split_name

ALL = PrepareSettings(k_core=0)
Row = tuple[str, str, float, int]
DAY = 86_400_000
T0 = 1_600_000_000_000


def write_log(folder: Path, rows: Sequence[Row], name: str = "log.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["user,item,rating,time", *(",".join(map(str, row)) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def block(users: int, items: int) -> list[Row]:
    """Every user has every item, in order."""
    return [
        (f"u{user}", f"i{item}", 4.0, T0 + item * DAY)
        for user in range(users)
        for item in range(items)
    ]


def test_repeats_are_reduced_to_the_earliest(tmp_path: Path) -> None:
    rows = [("u", "a", 1.0, T0 + 5), ("u", "b", 2.0, T0 + 1), ("u", "a", 3.0, T0)]
    dataset = prepare(write_log(tmp_path, rows), settings=ALL)
    assert histories(dataset) == {"u": ["a", "b"]}
    assert dataset.interactions.timestamps is not None
    assert dataset.interactions.timestamps.tolist() == [T0, T0 + 1]
    assert dataset.interactions.ratings is not None
    assert dataset.interactions.ratings.tolist() == [3.0, 2.0]
    assert dataset.summary["repeats"] == 1


def test_repeats_can_be_kept(tmp_path: Path) -> None:
    rows = [("u", "a", 1.0, T0 + 5), ("u", "b", 2.0, T0 + 1), ("u", "a", 3.0, T0)]
    kept = PrepareSettings(k_core=0, keep_repeats=True)
    assert histories(prepare(write_log(tmp_path, rows), settings=kept)) == {"u": ["a", "b", "a"]}


def test_equal_times_keep_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [("v", "x", 5.0, T0), *(("u", item, 5.0, T0) for item in "dbcea")]
    dataset = prepare(write_log(tmp_path, rows), settings=ALL)
    assert histories(dataset) == {"u": list("dbcea"), "v": ["x"]}


def test_an_order_column_sorts_histories(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,position\nu,c,10\nu,a,2\nu,b,9\n")
    dataset = prepare(tmp_path, settings=ALL)
    assert histories(dataset) == {"u": ["a", "b", "c"]}
    assert dataset.interactions.timestamps is None
    assert dataset.interactions.ratings is None


def test_seconds_and_milliseconds_are_distinguished(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        "user,item,time\nu,a,1600000000\nu,b,1600000001000\nu,c,1600000001.5\nu,d,2020-09-13\n"
    )
    times = prepare(tmp_path, settings=ALL).interactions.timestamps
    assert times is not None
    assert times.tolist() == [T0 - 44_800_000, T0, T0 + 1000, T0 + 1500]


def test_users_are_in_id_order_and_items_in_that_of_the_catalogue(tmp_path: Path) -> None:
    write_log(tmp_path, [("v", "b", 5, T0), ("u10", "a", 5, T0), ("u9", "c", 5, T0)])
    without = prepare(tmp_path, settings=ALL)
    assert without.users.ids == ("u10", "u9", "v")
    assert without.items.ids == ("a", "b", "c")
    (tmp_path / "items.csv").write_text("id,name\nc,C\nnever,N\nb,B\na,A\n")
    with_catalogue = prepare(tmp_path, settings=ALL)
    assert with_catalogue.items.ids == ("c", "never", "b", "a")
    assert with_catalogue.catalogue["title"].to_list() == ["C", "N", "B", "A"]
    assert histories(with_catalogue) == histories(without)


def test_k_core_cuts_users_items_and_catalogue(tmp_path: Path) -> None:
    rows = [*block(3, 3), ("u0", "rare", 5.0, T0), ("guest", "i0", 5.0, T0)]
    write_log(tmp_path, rows)
    (tmp_path / "items.csv").write_text("id,name\nrare,R\ni2,Two\nnever,N\ni1,One\ni0,Zero\n")
    dataset = prepare(tmp_path, settings=PrepareSettings(k_core=3))
    assert dataset.users.ids == ("u0", "u1", "u2")
    assert dataset.catalogue["title"].to_list() == ["Two", "One", "Zero"]
    assert histories(dataset)["u1"] == ["i0", "i1", "i2"]
    assert dataset.summary["k_core"] == {
        "k": 3, "rounds": 1, "users_removed": 1, "items_removed": 1, "interactions_removed": 2,
    }  # fmt: skip


def test_nothing_left_in_the_core_is_an_error(tmp_path: Path) -> None:
    write_log(tmp_path, block(2, 3))
    with pytest.raises(
        InputError,
        match="no interaction is left in the 5-core, of 6 by 2 users of 3 items; "
        "choose k_core=2, which leaves 6 interactions or 0 \\(all\\)",
    ):
        prepare(tmp_path)


def test_parts_given_by_files(tmp_path: Path) -> None:
    write_log(tmp_path, [("u", "a", 5, T0 + 9), ("u", "b", 5, T0)], "train.csv")
    write_log(tmp_path, [("u", "c", 5, T0 + 5)], "valid.csv")
    write_log(tmp_path, [("u", "d", 5, T0 + 7), ("u", "b", 5, T0 + 8)], "test.csv")
    dataset = prepare(tmp_path, settings=ALL)
    assert histories(dataset) == {"u": ["b", "c", "d", "a"]}
    assert dataset.split.tolist() == [Part.TRAIN, Part.VALIDATION, Part.TEST, Part.TRAIN]
    assert dataset.summary["parts"] == {"train": 2, "validation": 1, "test": 1}
    again = prepare(tmp_path, settings=PrepareSettings(k_core=0, split=LeaveLastTwo()))
    assert again.split.tolist() == [0, 0, 1, 2]


def test_the_split_by_time(tmp_path: Path) -> None:
    write_log(tmp_path, block(3, 10))
    dataset = prepare(tmp_path, settings=PrepareSettings(k_core=0, split=GlobalTime()))
    assert dataset.split.tolist() == ([0] * 8 + [1, 2]) * 3


def test_rolling_folds_know_nothing_of_what_came_later(tmp_path: Path) -> None:
    write_log(tmp_path, block(3, 10))

    def fold(number: int | None) -> Dataset:
        split = Rolling(folds=3, fold=number, test=0.2, validation=0.1)
        return prepare(tmp_path, settings=PrepareSettings(k_core=0, split=split))

    assert fold(1).split.tolist() == ([0] * 3 + [1] + [2] * 2) * 3
    assert fold(2).split.tolist() == ([0] * 5 + [1] + [2] * 2) * 3
    newest = fold(3)
    assert newest.split.tolist() == ([0] * 7 + [1] + [2] * 2) * 3
    assert fold(None).interactions.items.tolist() == newest.interactions.items.tolist()
    assert fold(2).summary["notes"] == ["6 interactions came after the fold and are left out"]
    assert split_name(fold(2)) == "rolling-2-of-3"
    assert split_name(fold(None)) == "rolling-3-of-3"


@pytest.mark.parametrize(
    ("header", "split", "message"),
    [
        (
            "user,item,time",
            Given(),
            "split is 'given', but .*log.csv is no training file with a test file beside it; "
            "choose the split 'leave-last-two', 'global-time', 'rolling', 'random' or "
            "'file-order'$",
        ),
        (
            "user,item,position",
            GlobalTime(),
            "split is 'global-time', but .*log.csv has no times; choose the split "
            "'leave-last-two', 'random' or 'file-order'$",
        ),
        (
            "user,item,stars",
            None,
            "cannot determine the time column of .*log.csv, it has 'user', 'item', 'stars'; "
            "name it: "
            ".*; or choose the split 'random' .* or 'file-order' ",
        ),
    ],
)
def test_a_split_that_the_log_does_not_allow(
    tmp_path: Path, header: str, split: Any, message: str
) -> None:
    (tmp_path / "log.csv").write_text(f"{header}\nu,a,1\n")
    with pytest.raises(InputError, match=message):
        prepare(tmp_path, settings=PrepareSettings(split=split))


def test_leave_last_two_needs_an_order(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / f"{part}.csv").write_text("user,item\nu,a\n")
    with pytest.raises(
        InputError, match=r"'leave-last-two', but .* has neither times nor an order"
    ):
        prepare(tmp_path, settings=PrepareSettings(split=LeaveLastTwo()))


def write_pairs(path: Path, users: int, items: int) -> None:
    """Everybody has every item, without a time."""
    rows = [f"u{user},i{item}" for user in range(users) for item in range(items)]
    path.write_text("\n".join(["user,item", *rows]) + "\n")


def test_a_log_without_times_is_split_at_random(tmp_path: Path) -> None:
    write_pairs(tmp_path / "log.csv", 10, 10)
    dataset, again, other = (
        prepare(tmp_path, settings=PrepareSettings(k_core=0, split=Random(seed=seed)))
        for seed in (0, 0, 1)
    )
    assert dataset.summary["parts"] == {"train": 80, "validation": 10, "test": 10}
    assert "notes" not in dataset.summary
    assert dataset.fingerprint == again.fingerprint != other.fingerprint
    assert prepare(tmp_path, settings=PrepareSettings(k_core=0, split="random")).fingerprint == (
        dataset.fingerprint
    )


def test_a_log_in_the_order_of_its_rows(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\nu,b\nv,x\nu,d\nu,a\nu,c\n")
    by_row = PrepareSettings(k_core=0, split="file-order")
    dataset = prepare(tmp_path, settings=by_row)
    assert histories(dataset) == {"u": list("bdac"), "v": ["x"]}
    assert dataset.split.tolist() == [0, 0, 1, 2, 0]
    (tmp_path / "log.csv").write_text("user,item,time\nu,b,9\nu,d,8\nu,a,7\n")
    assert histories(prepare(tmp_path, settings=by_row)) == {"u": list("bda")}


def test_validation_is_drawn_from_train_where_no_file_has_it(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train.csv", 10, 8)
    (tmp_path / "test.csv").write_text("user,item\n" + "".join(f"u{u},new\n" for u in range(10)))
    dataset = prepare(tmp_path, settings=ALL)
    assert dataset.summary["parts"] == {"train": 72, "validation": 8, "test": 10}
    assert dataset.summary["notes"] == [
        "no validation file: 8 training interactions are held out for it"
    ]
    assert (dataset.train.lengths > 0).all()
    whole = prepare(tmp_path, settings=PrepareSettings(k_core=0, split=Given(validation=0)))
    assert whole.summary["parts"] == {"train": 80, "validation": 0, "test": 10}


def test_validation_of_a_log_with_times_is_what_came_last_in_train(tmp_path: Path) -> None:
    write_log(tmp_path, [*block(3, 4), ("v", "i0", 5.0, T0)], "train.csv")
    write_log(tmp_path, [(f"u{user}", "i9", 5.0, T0 + 99 * DAY) for user in range(3)], "test.csv")
    dataset = prepare(tmp_path, settings=ALL)
    assert dataset.split.tolist() == [0, 0, 0, 1, 2] * 3 + [0]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "user,item,time",
            "u{user},i{item},{item}",
            "no user has three interactions, so leave-last-two holds none out; "
            "choose the split 'global-time' or 'random'",
        ),
        (
            "user,item,position",
            "u{user},i{item},{item}",
            "no user has three interactions, so leave-last-two holds none out; "
            "choose the split 'random'",
        ),
    ],
)
def test_where_nobody_has_three_interactions_a_split_that_works_is_offered(
    tmp_path: Path, header: str, row: str, message: str
) -> None:
    rows = [row.format(user=user, item=item + user % 3) for user in range(20) for item in range(2)]
    (tmp_path / "log.csv").write_text("\n".join([header, *rows]) + "\n")
    assert prepare(tmp_path, settings=ALL).summary["notes"] == [message]
    for split in re.findall(r"'([a-z-]+)'", message):
        works = prepare(tmp_path, settings=PrepareSettings(k_core=0, split=split))
        assert min(works.summary["parts"].values()) > 0
        assert "notes" not in works.summary


def test_where_everybody_has_one_interaction_nothing_can_be_held_out(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\nu,a\nv,a\n")
    dataset = prepare(tmp_path, settings=PrepareSettings(k_core=0, split="random"))
    assert dataset.summary["notes"] == [
        "no user has two interactions, so random holds none out; "
        "give a log in which users have more interactions"
    ]


def test_a_training_part_emptied_by_checks_is_an_error(tmp_path: Path) -> None:
    write_log(tmp_path, [("", "a", 5, T0)], "train.csv")
    write_log(tmp_path, [("u", "a", 5, T0)], "test.csv")
    with pytest.raises(InputError, match="no interaction is left in the training part"):
        prepare(tmp_path, settings=ALL)


def test_what_is_written_loads_as_it_was(tmp_path: Path) -> None:
    write_log(tmp_path / "shop", [*block(4, 6), ("", "i1", 5, T0)])
    dataset = prepare(tmp_path / "shop", settings=ALL, out=tmp_path / "out")
    loaded = Dataset.load(tmp_path / "out")
    assert loaded.name == "shop"
    assert loaded.fingerprint == dataset.fingerprint
    assert loaded.summary == dataset.summary
    assert (tmp_path / "out" / "rejects.jsonl").is_file()


def test_a_clean_log_leaves_no_rejects_and_a_second_run_the_same_data(tmp_path: Path) -> None:
    write_log(tmp_path / "shop", block(4, 6))
    first = prepare(tmp_path / "shop", settings=ALL, out=tmp_path / "out")
    second = prepare(tmp_path / "shop", settings=ALL, out=tmp_path / "out")
    assert first.fingerprint == second.fingerprint
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "catalogue.parquet", "interactions.parquet", "manifest.json", "users.parquet",
    ]  # fmt: skip


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    write_log(tmp_path / "shop", block(4, 6))
    before = prepare(tmp_path / "shop", settings=ALL, out=tmp_path / "out")
    write_log(tmp_path / "shop", [("", "i", 5, T0)])
    with pytest.raises(InputError):
        prepare(tmp_path / "shop", settings=ALL, out=tmp_path / "out")
    assert Dataset.load(tmp_path / "out").fingerprint == before.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "shop"]


def test_the_summary_says_what_was_done(tmp_path: Path) -> None:
    rows = [*block(2, 4), ("u0", "i1", 5, T0 + 9 * DAY), ("u1", "i2", "inf", T0), ("", "i1", 5, T0)]
    write_log(tmp_path, rows)
    summary = prepare(tmp_path, name="shop", settings=PrepareSettings(k_core=2)).summary
    assert json.loads(json.dumps(summary)) == {
        "source": "table",
        "files": ["log.csv"],
        "read": 11,
        "rejected": {"rating: infinite": 1, "user_id: empty": 1},
        "examples": {"rating: infinite": "log.csv:11: 'inf'", "user_id: empty": "log.csv:12: ''"},
        "columns": {
            "read": {"user_id": "user", "item_id": "item", "rating": "rating", "timestamp": "time"},
            "ignored": [],
        },
        "ratings": [4.0, 5.0],
        "times": [T0, T0 + 9 * DAY],
        "repeats": 1,
        "before_k_core": {"users": 2, "items": 4, "interactions": 8},
        "k_core": {
            "k": 2, "rounds": 0, "users_removed": 0, "items_removed": 0, "interactions_removed": 0,
        },
        "users": 2,
        "items": 4,
        "interactions": 8,
        "parts": {"train": 4, "validation": 2, "test": 2},
        "settings": {
            "k_core": 2, "keep_repeats": False, "keep_unknown_items": False,
            "strict": False,
            "split": {"kind": "leave-last-two"},
        },
        "options": {},
        "declaration": {"name": "shop", "prepare": {"k_core": 2}},
    }  # fmt: skip


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    write_log(tmp_path, [("u", "a", 5, T0)], "train.csv")
    write_log(tmp_path, [("u", "b", 5, T0)], "test.csv")
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    seen: list[tuple[int, int]] = []
    prepare(tmp_path, settings=ALL, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("given", "name"), [("games", "games"), ("games/log.v2.csv.gz", "log"), (".", None)]
)
def test_the_name_is_that_of_the_folder_or_file(
    tmp_path: Path, given: str, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(tmp_path / "games", block(2, 3), "log.v2.csv.gz")
    monkeypatch.chdir(tmp_path / "games" if name is None else tmp_path)
    assert prepare(Path(given), settings=ALL).name == (name or "games")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"k_core": -1}, "greater than or equal to 0"),
        ({"rating_range": (0, 5)}, "unknown key"),
        (
            {"kcore": 5},
            "kcore: unknown key, got 5; did you mean k_core. it is one of k_core, keep_rep",
        ),
        ({"split": "by-hand"}, "'by-hand'"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PrepareSettings(**values)


LOGS = st.lists(
    st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("abcdefg"), st.integers(1, 9)),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(LOGS)
def test_agrees_with_a_plain_reading_of_the_rules(
    tmp_path_factory: pytest.TempPathFactory, log: list[tuple[str, str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    table = pl.DataFrame(log, schema=["user", "item", "time"], orient="row")
    table.write_parquet(folder / "log.parquet")
    expected: dict[str, list[str]] = {}
    for user, item, _ in sorted(log, key=lambda row: row[2]):
        if item not in expected.setdefault(user, []):
            expected[user].append(item)
    dataset = prepare(folder, settings=ALL)
    assert histories(dataset) == dict(sorted(expected.items()))
    queries, targets = dataset.held_out(Part.TEST)
    for row, user in enumerate(queries.users):
        history = expected[dataset.users.ids[user]]
        assert dataset.items.ids[targets.row(row)[0]] == history[-1]
        assert [dataset.items.ids[i] for i in queries.histories.row(row)] == history[:-1]
    assert len(queries) == sum(len(history) > 2 for history in expected.values())


def test_a_mapping_reaches_log_and_catalogue(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("wer,was,wann\nu,a,5\nu,b,6\n")
    (tmp_path / "items.csv").write_text("nr,titel\nb,B\na,A\n")
    mapping = ColumnMapping(user="wer", item="was", time="wann", catalogue_item="nr", title="titel")
    dataset = prepare(tmp_path, settings=ALL, mapping=mapping)
    assert dataset.catalogue["title"].to_list() == ["B", "A"]
    assert np.array_equal(dataset.interactions.items, [1, 0])
