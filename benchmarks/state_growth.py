"""How the SQLite state database grows, and what forgetting and age limits take.

    python benchmarks/state_growth.py

Events of ids as long as UUIDs, a hundred a user, are written in calls of 1,000. ``mb-per-million``
is the size of the file. ``forget-ms`` is one user with 100 events, the write-ahead log emptied.
"""

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.service.state import Event, ItemFields, StateStore, StoredItem, personal
from twotower.service.state.backup import back_up

RESULTS: Final = Path(__file__).parent / "results" / "state-growth.json"
MILLION: Final = 1_000_000
OF_USER: Final = 100
CALL: Final = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    started = datetime.now(UTC)
    found: dict[tuple[str, str], float] = {}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "state.sqlite3"
        store = StateStore(f"sqlite:///{file}")

        def size() -> int:
            store.scrub()
            return file.stat().st_size

        def timed(work: Callable[[], object]) -> float:
            began = time.perf_counter()
            work()
            return time.perf_counter() - began

        def mb_per_million(before: int, rows: int) -> float:
            return (size() - before) / 2**20 * MILLION / rows

        empty = size()
        seconds = timed(lambda: _write_events(store, given.events))
        found["events", "mb-per-million"] = mb_per_million(empty, given.events)
        found["events", "per-second"] = given.events / seconds
        found["events", "forget-ms"] = 1000 * timed(lambda: store.forget(["user-" + "0" * 31]))
        copy = Path(folder) / "copy.sqlite3"
        found["events", "backup-seconds"] = timed(lambda: back_up(f"sqlite:///{file}", copy))
        half = given.events // 2
        seconds = timed(lambda: store.anonymise_events(half))
        found["events", "anonymised-per-second"] = half / seconds
        seconds = timed(lambda: store.delete_events(half))
        found["events", "deleted-per-second"] = half / seconds
        _vacuum(store)
        before = size()
        for number in range(given.items):
            store.put_item(_item(number, text=True))
        found["items with text vector and encoding", "mb-per-million"] = mb_per_million(
            before, given.items
        )
        for number in range(given.items):
            store.put_item(StoredItem(_item(number, text=False).fields, deleted=True))
        store.write(personal.delete_old_encodings)
        store.delete_events(2**62)
        _vacuum(store)
        found["deleted items", "mb-per-million"] = mb_per_million(empty, given.items)
        before = size()
        users = [f"user-{number:031}" for number in range(10_000)]
        seconds = timed(lambda: store.forget(users))
        found["tombstones", "mb-per-million"] = mb_per_million(before, len(users))
        found["tombstones", "per-second"] = len(users) / seconds
        store.close()

    rows = [
        Row(
            dataset="generated", split="none", model=model, protocol="state", metric=metric,
            value=value, users=given.events // OF_USER,
        )
        for (model, metric), value in found.items()
    ]  # fmt: skip
    for each in rows:
        print(f"{each.model:40s} {each.metric:24s} {each.value:12.4g}")
    write_results(given.out, collect_meta(started), rows)


def _vacuum(store: StateStore) -> None:
    connection = store.engine.raw_connection()
    connection.cursor().execute("VACUUM")
    connection.close()


def _write_events(store: StateStore, count: int) -> None:
    for start in range(0, count, CALL):
        store.add_events(
            [
                Event(
                    event_id=f"{number:036}", user_id=f"user-{number // OF_USER:031}",
                    item_id=f"item-{number % 5000:05}", kind="view", occurred_at=number,
                )
                for number in range(start, min(count, start + CALL))
            ]
        )  # fmt: skip


def _item(number: int, *, text: bool) -> StoredItem:
    fields = ItemFields(
        item_id=f"item-{number:05}",
        title=f"A title of some words, number {number}",
        category="category",
        price=9.99,
        description="word " * 60 if text else None,
    )
    if not text:
        return StoredItem(fields)
    return StoredItem(fields, False, "minilm", b"\0" * 1536, "v10-0123456789ab", b"\1" * 1024)


if __name__ == "__main__":
    main()
