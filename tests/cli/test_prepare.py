"""Read options of `twotower prepare`, and its printed summary."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def prepare(cli: Callable[..., Any], tmp_path: Path) -> Callable[..., str]:
    """Run ``twotower prepare`` in this process; gives what it prints."""

    def run(*arguments: object, status: int = 0) -> str:
        done = cli("prepare", *arguments, "--k-core", 0, "--out", tmp_path / "out")
        assert done.status == status, done.error
        return done.out if status == 0 else done.error  # type: ignore[no-any-return]

    return run


def test_a_log_is_joined_with_tables_in_order(prepare: Callable[..., str], tmp_path: Path) -> None:
    lines = "".join(f"{n},p{n % 4}\n" for n in range(12))
    (tmp_path / "lines.csv").write_text(f"order_id,product_id\n{lines}")
    orders = "".join(f"{n},c{n},2020-01-{n + 1:02}\n" for n in range(12))
    (tmp_path / "orders.csv").write_text(f"id,customer_id,created_at\n{orders}")
    customers = "".join(f"c{n},u{n % 3}\n" for n in range(11))
    (tmp_path / "customers.csv").write_text(f"customer_id,person\n{customers}")
    named = ("--join", "orders.csv=order_id:id", "--join", "customers.csv=customer_id")
    printed = prepare(tmp_path / "lines.csv", *named, "--column", "user=person")
    assert "lines: 3 users, 4 items, 11 interactions" in printed
    assert "each row has the columns of its row in orders.csv, customers.csv" in printed
    assert "unmatched in customers.csv, first lines.csv:13: 'c11'; export the" in printed
    wrong = prepare(tmp_path / "lines.csv", "--join", "orders.csv", status=2)
    assert "a join is FILE=KEY, such as orders.csv=order_id" in wrong


def test_everything_can_be_said_on_the_command_line(
    prepare: Callable[..., str], tmp_path: Path
) -> None:
    rows = [f"k{n % 3}#Gr\u00fc\u00dfe{n % 4}#{n},5#buy#{n + 1}.02.2020 08:30" for n in range(12)]
    rows += [
        "k1#x#-1#buy#01.02.2020 08:30",
        "niemand#x#5#buy#01.02.2020 08:30",
        "k1#y#5#view#01.02.2020 08:30",
    ]
    (tmp_path / "log.txt").write_text("\n".join(rows), encoding="latin-1")
    printed = prepare(
        tmp_path / "log.txt", "--separator", "#", "--columns", "wer,was,note,art,wann",
        "--encoding", "latin-1", "--time-format", "%d.%m.%Y %H:%M", "--time-zone", "Europe/Berlin",
        "--decimal-comma", "--rating-scale", "0,20", "--missing", "niemand", "--event", "buy",
        "--column", "user=wer", "--column", "item=was", "--column", "rating=note",
        "--column", "event=art", "--column", "time=wann", "--json", tmp_path / "summary.json",
    )  # fmt: skip
    assert "log: 15 rows read of log.txt" in printed
    assert "rejected 1 (6.7%): rating: out of range, first log.txt:13: '-1'" in printed
    assert "rejected 1 (6.7%): user_id: missing, first log.txt:14: 'niemand'" in printed
    assert "rejected 1 (6.7%): event: not one of those kept, first log.txt:15: 'view'" in printed
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["interactions"] == 12
    assert summary["ratings"] == [0.5, 11.5]
    assert summary["times"][0] == 1580542200000  # 08:30 in Berlin is 07:30 UTC
    assert summary["options"]["separator"] == "#"


def test_names_of_columns_are_said_as_options(prepare: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("wer,was,wann\nu,i,1600000000\n")
    error = prepare(tmp_path, status=2)
    assert "name them: --column user=… --column item=… --column time=…" in error
    assert "ColumnMapping" not in error
    given = ("--column", "user=wer", "--column", "item=was", "--column", "time=wann")
    assert "log columns read: user_id=wer, item_id=was, timestamp=wann" in prepare(tmp_path, *given)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--encoding", "klingon"), "encoding: no such encoding; pass utf-8"),
        (("--rating-scale", "5"), "--rating-scale must be lowest,highest, got '5'"),
        (("--rating-scale", "a,b"), "--rating-scale must be lowest,highest, got 'a,b'"),
        (("--time-zone", "Mars"), "no such time zone"),
        (("--column", "wer=user"), "there is no column 'wer'; name one of user, item"),
        (("--column", "user=a", "--column", "user=b"), "--column user is given twice: a and b"),
    ],
)
def test_an_option_that_cannot_be_is_one_line(
    prepare: Callable[..., str], tmp_path: Path, option: tuple[str, ...], message: str
) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,i,1600000000\n")
    error = prepare(tmp_path, *option, status=2)
    assert message in error
    assert len(error.strip().splitlines()) == 1
