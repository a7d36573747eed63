from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from twotower.data import Histories
from twotower.data.events import EventRules
from twotower.data.prepare import prepare
from twotower.data.settings import PrepareSettings
from twotower.service.retrain import write_source
from twotower.service.state import Event, ItemFields, StateStore, StoredItem

NOW = 1_700_000_000_000


@pytest.fixture
def contents(contents):
    """The toy bundle, with all of its log in the past."""
    log = contents.histories
    return replace(contents, histories=replace(log, timestamps=log.timestamps // 2))


def event(name, user, item, kind="buy", rating=None, at=NOW) -> Event:
    return Event(
        event_id=name, user_id=user, item_id=item, kind=kind, rating=rating, occurred_at=at
    )


@pytest.fixture
def store(tmp_path):
    store = StateStore(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    fields = ItemFields(item_id="n1", title="New", price=3.0, category="genre-9", store="Kestrel")
    store.create_item(StoredItem(fields))
    store.put_item(StoredItem(ItemFields(item_id="item-05", title="Renamed", price=1.0)))
    store.add_events(
        [
            event("1", "user-03", "n1"),
            event("2", "newcomer", "item-05", "rating", 2.0),
            event("3", "newcomer", "item-06", "view"),
            event("4", "stranger", "item-07"),
        ]
    )
    yield store
    store.close()


def test_everything_known_is_prepared_for_the_next_training(contents, store, tmp_path) -> None:
    counts = write_source(contents, store, tmp_path / "source")
    old = len(contents.histories.items)
    assert counts == {
        "interactions": old + 3, "interactions_new": 3, "items": 61, "items_new": 1,
    }  # fmt: skip
    dataset = prepare(tmp_path / "source", settings=PrepareSettings(k_core=0))
    assert dataset.summary["rejected"] == {}
    assert set(contents.users.ids) < set(dataset.users.ids)
    log = dataset.interactions
    row = dataset.users.index("user-03")
    items = [dataset.items.ids[item] for item in log.row(row)]
    before = [contents.items.ids[item] for item in contents.histories.row(3)]
    assert items == [*before, "n1"]
    own = contents.histories.ratings[contents.histories.indptr[3] : contents.histories.indptr[4]]
    assert log.ratings[log.indptr[row + 1] - 1] == pytest.approx(own.mean())
    titles = dict(dataset.catalogue.select("item_id", "title").iter_rows())
    assert (titles["n1"], titles["item-05"], titles["item-06"]) == ("New", "Renamed", "Game 6")
    stores = dict(dataset.catalogue.select("item_id", "store").iter_rows())
    assert (stores["n1"], stores["item-06"]) == ("Kestrel", None)


def test_views_count_where_asked_for(contents, store, tmp_path: Path) -> None:
    assert write_source(contents, store, tmp_path / "s", ("view",))["interactions_new"] == 1


def test_a_log_without_times_or_ratings(contents, store, tmp_path) -> None:
    plain = replace(contents.histories, ratings=None, timestamps=None)
    write_source(replace(contents, histories=plain), store, tmp_path / "s")
    log = pl.read_parquet(tmp_path / "s" / "interactions.parquet")
    assert log.columns == ["user_id", "item_id", "timestamp"]
    mine = log.filter(pl.col("user_id") == "user-03")["timestamp"].to_list()
    assert mine == [*range(len(contents.histories.row(3))), NOW]


def test_what_came_back_from_training_is_not_doubled(contents, store, tmp_path) -> None:
    first = contents.histories
    known = event("5", "user-03", contents.items.ids[first.row(3)[0]], rating=5.0,
                  at=int(first.timestamps[first.indptr[3]]))  # fmt: skip
    store.add_events([known])
    assert write_source(contents, store, tmp_path / "s")["interactions_new"] == 3


def test_when_items_came_out_is_kept(contents, store, tmp_path) -> None:
    write_source(contents, store, tmp_path / "none")
    assert "released" not in pl.read_parquet(tmp_path / "none" / "items.parquet").columns
    store.create_item(StoredItem(ItemFields(item_id="n2", title="Newer", released=2017)))
    store.put_item(StoredItem(ItemFields(item_id="item-05", title="Renamed", released=1990)))

    def released(name: str, catalogue: pl.DataFrame) -> dict[str, float | None]:
        write_source(replace(contents, catalogue=catalogue), store, tmp_path / name)
        dataset = prepare(tmp_path / name, settings=PrepareSettings(k_core=0))
        return dict(dataset.catalogue.select("item_id", "released").iter_rows())

    added = released("added", contents.catalogue)
    assert [added[one] for one in ("n2", "item-05", "n1", "item-06")] == [2017, 1990, None, None]
    dated = contents.catalogue.with_columns(released=pl.lit(2000.0))
    kept = released("kept", dated)
    assert [kept[one] for one in ("n2", "item-05", "n1", "item-06")] == [2017, 1990, None, 2000]


def test_kinds_and_returns_are_read_again_by_the_same_rules(contents, store, tmp_path) -> None:
    rules = EventRules(weights={"view": 0.2, "buy": 1, "return": -1}, target="buy")
    log = contents.histories
    size = len(log.items)
    kinds = (np.arange(size) % 2).astype(np.uint8)
    weights = np.array([0.2, 1], np.float32)[kinds]
    log = replace(log, ratings=None, rules=rules, kinds=kinds, weights=weights)
    items = contents.histories
    had, other = items.row(3), [item for item in range(60) if item not in items.row(4)]
    back = Histories.from_lists([[other[0]] if user == 4 else [] for user in range(12)])
    info = contents.info.vary(events=rules)
    contents = replace(contents, info=info, histories=log, returned=back)
    name = contents.items.ids[had[-1]]
    store.add_events([event("5", "user-03", name, "return"), event("6", "user-04", "n1", "view")])
    write_source(contents, store, tmp_path / "s")
    dataset = prepare(tmp_path / "s", settings=PrepareSettings(k_core=0))
    assert dataset.interactions.rules == rules
    assert dataset.summary["rejected"] == {"event: without a weight": 1}  # a rating
    rows = {user: dataset.users.index(user) for user in ("user-03", "user-04")}
    assert name not in [
        dataset.items.ids[item] for item in dataset.interactions.row(rows["user-03"])
    ]
    assert dataset.returned is not None
    taken = {
        user: [dataset.items.ids[item] for item in dataset.returned.row(row)]
        for user, row in rows.items()
    }
    assert taken == {"user-03": [name], "user-04": [contents.items.ids[other[0]]]}
    span = slice(*dataset.interactions.indptr[rows["user-04"] :][:2].tolist())
    assert dataset.interactions.weights is not None
    assert dataset.interactions.weights[span].tolist() == [
        *log.weights[slice(*log.indptr[4:6].tolist())].tolist(), pytest.approx(0.2),
    ]  # fmt: skip
