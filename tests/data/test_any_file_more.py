"""More files as people have them: containers, databases' JSON, spreadsheets' ids, other ratings."""

import gzip
import io
import json
import shutil
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from twotower.data import Dataset
from twotower.data.declaration import declared
from twotower.data.inspection import inspect
from twotower.data.prepare import prepare
from twotower.data.readers import ColumnMapping, Columns, ReadOptions, delimited
from twotower.data.settings import PrepareSettings
from twotower.data.summary import summary_lines
from twotower.errors import InputError

ALL = PrepareSettings(k_core=0)
T0 = 1_600_000_000
LOG = "user,item,time\n" + "".join(f"u{n % 3},i{n % 5},{T0 + n}\n" for n in range(12))


def read(path: Path, **given: Any) -> Dataset:
    return prepare(path, settings=ALL, **given)


def lines(dataset: Dataset) -> str:
    return "\n".join(summary_lines(dataset.summary, cli=True))


def zipped(*names: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name in names:
            archive.writestr(name, LOG)
    return sink.getvalue()


def tarred() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        member = tarfile.TarInfo("log.csv")
        member.size = len(LOG)
        archive.addfile(member, io.BytesIO(LOG.encode()))
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("log.xlsx", zipped("[Content_Types].xml", "xl/workbook.xml"), "workbook; save the sheet"),
        ("log.ods", zipped("mimetype", "content.xml"), "workbook; save the sheet as CSV"),
        ("log.csv", zipped("mimetype", "content.xml"), "workbook; save the sheet as CSV"),
        ("log.xls", b"\xd0\xcf\x11\xe0" + bytes(600), "workbook; save the sheet as CSV"),
        ("log.tar.gz", tarred(), "tar archive; give its path, or unpack it"),
        (
            "log.zip",
            zipped("a.csv", "b.csv"),
            "zip of 2 files: a.csv, b.csv; give its path, or .*log.zip/a",
        ),
        ("log.zip", zipped("a.csv"), "give the path of the file: .*log.zip"),
        ("dump.sql", b"INSERT INTO log VALUES (1, 2, 3);\n", "SQL dump; export the table as CSV"),
        ("log.json", json.dumps([["user", "item"], ["u", "i"]]).encode(), "is a list of lists"),
        ("log.csv", b"", "is empty, or holds nothing that can be read; give a file"),
    ],
)
def test_a_folder_with_data_of_another_kind_says_what_it_is(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_is_the_folder_that_it_holds(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "made" / "shop-2020"
    folder.mkdir(parents=True)
    (folder / "events.csv").write_text(LOG)
    (folder / "other.csv").write_text(LOG.replace("time", "when"))
    (folder / "items.csv").write_text("item,title\n" + "".join(f"i{n},T{n}\n" for n in range(5)))
    path = tmp_path / f"shop.{kind}"
    made = shutil.make_archive(
        str(tmp_path / "shop"), "gztar" if kind == "tar.gz" else kind, tmp_path / "made"
    )
    assert Path(made) == path
    found = read(path)
    assert found.name == "shop-2020"
    assert found.summary["files"] == ["events.csv"]
    assert found.summary["catalogue"]["file"] == "items.csv"
    assert found.fingerprint == read(path / "events.csv").fingerprint
    one = read(path / "shop-2020" / "other.csv", mapping=ColumnMapping(time="when"))
    assert one.summary["files"] == ["other.csv"]
    with pytest.raises(InputError, match=rf"shop.{kind} has no nothing.csv; it has shop-2020/ev"):
        read(path / "nothing.csv")
    with pytest.raises(InputError, match=rf"shop.{kind}/shop-2020/events.csv has no column 'x'"):
        read(path, mapping=ColumnMapping(user="x"))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"cannot be unpacked|broken zip"):
        read(path)


def test_a_log_in_folders_below_is_named(tmp_path: Path) -> None:
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "log.csv").write_text(LOG)
    with pytest.raises(InputError, match=r"give the folder of the log: .*raw"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["items.xlsx", "users.csv", "old.zip"])
def test_data_beside_the_log_that_is_not_read_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / name).write_text("user,age\nu0,20\n")
    assert f"not read, beside it: {name} (--users, --catalogue" in lines(read(tmp_path))
    given = read(tmp_path, users=tmp_path / "users.csv") if name == "users.csv" else None
    assert given is None or "not read" not in lines(given)


def test_columns_of_a_log_that_describe_items_name_the_option(tmp_path: Path) -> None:
    rows = "".join(f"u{n % 3},i{n % 5},{T0 + n},T,5\n" for n in range(12))
    (tmp_path / "log.csv").write_text(f"user,item,time,title,price\n{rows}")
    assert "--catalogue log makes one of 'title', 'price'" in lines(read(tmp_path))
    assert read(tmp_path, catalogue="log").catalogue["title"].null_count() == 0
    (tmp_path / "log.csv").write_text(f"user,item,time,title,text\n{rows}")
    assert "--catalogue log" not in lines(read(tmp_path))  # a review's


def write_json(path: Path, rows: list[dict[str, Any]], between: str = "\n") -> None:
    path.write_text(between.join(map(json.dumps, rows)))


@pytest.mark.parametrize(
    "time",
    [{"$date": "2020-09-13T12:26:40Z"}, {"$date": {"$numberLong": "1600000000000"}},
     {"$numberLong": "1600000000000"}, {"$date": 1_600_000_000_000}],
)  # fmt: skip
def test_extended_json_of_mongodb(tmp_path: Path, time: Any) -> None:
    rows = [{"user": {"$oid": f"5f{n}"}, "item": {"$numberInt": f"{n}"}, "time": time}
            for n in range(3)]  # fmt: skip
    write_json(tmp_path / "log.jsonl", rows)
    dataset = read(tmp_path)
    assert dataset.users.ids == ("5f0", "5f1", "5f2")
    assert dataset.items.ids == ("0", "1", "2")
    assert dataset.interactions.timestamps is not None
    assert set(dataset.interactions.timestamps.tolist()) == {T0 * 1000}


def test_whole_numbers_of_any_length_are_ids(tmp_path: Path) -> None:
    big = [2**64 + n for n in range(3)] + [2**70, 2**70 + 1]
    write_json(tmp_path / "log.jsonl", [{"user": 7, "item": n, "time": T0} for n in big])
    assert read(tmp_path).items.ids == tuple(sorted(map(str, big)))


@pytest.mark.parametrize("end", ["", ",", "  "])
def test_numbers_beyond_any_id_are_no_fault(tmp_path: Path, end: str) -> None:
    lines = (f"{{'user': 'u', 'item': {item}}}{end}" for item in ("1e300", "2", str(2**80)))
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    settings = PrepareSettings(k_core=0, split="random")
    assert str(2**80) in prepare(tmp_path, settings=settings).items.ids


@pytest.mark.parametrize("between", ["", " ", "\n", ",\n"])
def test_objects_may_follow_each_other_in_any_way(tmp_path: Path, between: str) -> None:
    rows = [{"user": f"u{n}", "item": "}{", "time": T0 + n} for n in range(4)]
    write_json(tmp_path / "log.json", rows, between)
    assert len(read(tmp_path).users) == 4


def test_a_list_of_items_says_to_write_rows(tmp_path: Path) -> None:
    write_json(tmp_path / "log.jsonl", [{"user": "u", "item": ["a", "b"], "time": T0}])
    with pytest.raises(InputError, match=r"--explode item, makes each element a row"):
        read(tmp_path)


def test_ids_that_a_spreadsheet_keeps_as_text(tmp_path: Path) -> None:
    rows = "".join(f'u,"=""00{n}""",{T0 + n}\n' for n in range(3))
    (tmp_path / "log.csv").write_text(f"user,item,time\n{rows}")
    assert read(tmp_path).items.ids == ("000", "001", "002")


@pytest.mark.parametrize("text", ["undefined", "(not set)", "(null)", "[NULL]"])
def test_missing_ids_of_other_programs(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.csv").write_text(f"{LOG}{text},i1,{T0}\n")
    assert read(tmp_path).summary["rejected"] == {"user_id: missing": 1}


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["80%", "100 %", ""], [80.0, 100.0, None]),
        (["4/5", "3.5/5", "1/5"], [4.0, 3.5, 1.0]),
        (["4.0 out of 5 stars", "5 out of 5 stars", "1 out of 5"], [4.0, 5.0, 1.0]),
        (["ja", "nein", "Ja"], [1.0, 0.0, 1.0]),
    ],
)
def test_ratings_of_a_scale(tmp_path: Path, texts: list[str], values: list[float | None]) -> None:
    rows = "".join(f"u{n},i{n},{T0 + n},{text}\n" for n, text in enumerate(texts))
    (tmp_path / "log.csv").write_text(f"user,item,time,rating\n{rows}")
    ratings = read(tmp_path).interactions.ratings
    assert ratings is not None
    assert [None if r != r else r for r in ratings.tolist()] == values


def test_ratings_of_two_scales_are_not_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"user,item,time,rating\nu,i,{T0},4/5\nu,j,{T0},4/10\n")
    with pytest.raises(InputError, match="2 rating: wrong type") as caught:
        read(tmp_path)
    assert "--column event=COLUMN" in caught.value.on_command_line


def test_a_scale_is_told_for_a_whole_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(delimited, "CHUNK_ROWS", 2)
    rows = [f"u{n},i{n},{T0},{4 if n < 4 else '4/5'}\n" for n in range(6)]
    log = "user,item,time,rating\n"
    (tmp_path / "log.csv").write_text(log + "".join(rows))
    assert read(tmp_path).interactions.ratings.tolist() == [4.0] * 6
    rows[5] = rows[5].replace("4/5", "4/10")
    (tmp_path / "log.csv").write_text(log + "".join(rows[:5]) + f"v,j,{T0},4/5\n" + rows[5])
    assert read(tmp_path).summary["rejected"] == {"rating: wrong type": 3}


@pytest.mark.parametrize(
    ("value", "fix"),
    [("-5", "--column order="), ("2099-01-01", "--time-unit s"), ("", "fill it in")],
)
def test_every_reason_has_a_fix(tmp_path: Path, value: str, fix: str) -> None:
    (tmp_path / "log.csv").write_text(f"user,item,time\nu,i,{value}\n")
    with pytest.raises(InputError) as caught:
        read(tmp_path, options=ReadOptions())
    assert fix in caught.value.on_command_line


def test_currencies_are_those_of_the_prices_that_were_read(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    prices = ["5 €", "6 €", "(7)", "ab 8 €", "free"]
    rows = "".join(f"i{n},{price}\n" for n, price in enumerate(prices))
    (tmp_path / "items.csv").write_text(f"item,price\n{rows}")
    assert "several currencies" not in lines(read(tmp_path))


def test_gzip_by_any_name_and_text_by_the_name_of_gzip(tmp_path: Path) -> None:
    (tmp_path / "packed.csv").write_bytes(gzip.compress(LOG.encode()))
    (tmp_path / "plain.csv.gz").write_text(LOG)
    assert read(tmp_path / "packed.csv").users.ids == read(tmp_path / "plain.csv.gz").users.ids


def test_the_likely_encoding_is_that_of_the_file_with_the_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,time\n,i,1600000000\n")
    bad = "user,item,time\n" + "u €,i “x”,1600000000\n" * 3
    (tmp_path / "b.csv").write_bytes(bad.encode("cp1252"))
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert "encoding='cp1252'" in str(caught.value)


def test_a_log_whose_kinds_are_named_by_folders_is_previewed(tmp_path: Path) -> None:
    for kind in ("view", "buy"):
        (tmp_path / f"action={kind}").mkdir()
        (tmp_path / f"action={kind}" / "log.csv").write_text(LOG)
    found = inspect([tmp_path], declared({"columns": {"event": "action"}}, "test"))
    assert found.described["log"]["read"]["event"] == "action"


def test_a_table_of_many_columns_is_looked_through_in_linear_time(tmp_path: Path) -> None:
    wide = [f"column {n}" for n in range(20_000)]
    found = Columns({"user_id": wide[0]}, wide)
    begin = time.process_time()
    assert found.ignored == wide[1:]
    assert time.process_time() - begin < 1
