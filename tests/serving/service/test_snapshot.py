import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from twotower.bundle.storage import save_bundle
from twotower.inference.item_encoder import ItemEncoder
from twotower.service.service import Service
from twotower.service.settings import ServeSettings
from twotower.service.state import ItemFields

NEW = ItemFields(item_id="n1", title="Game 7 Deluxe", category="genre-3", price=12.0)


@pytest.fixture
def service(open_contents, weights, tmp_path) -> Iterator[Callable[[], Service]]:
    """Starts services over one bundle and one database."""
    save_bundle(tmp_path / "bundle", open_contents, weights)
    other = replace(open_contents, info=open_contents.info.vary(dataset="later"))
    save_bundle(tmp_path / "other", other, weights)
    settings = ServeSettings(
        bundle=tmp_path / "bundle", state_url=f"sqlite:///{tmp_path / 'state.sqlite3'}"
    )
    started: list[Service] = []

    def start() -> Service:
        started.append(Service(settings))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many items each call of an item encoder encoded, but for the trial of a bundle."""
    monkeypatch.setattr("twotower.service.snapshot.check_answers", lambda _: None)
    calls: list[int] = []
    encode = ItemEncoder.encode

    def counted(self, rows, *more):
        calls.append(rows.height)
        return encode(self, rows, *more)

    monkeypatch.setattr(ItemEncoder, "encode", counted)
    return calls


def last_row(service: Service) -> list[np.ndarray]:
    items = service.pipeline.items
    return [
        table.rows[-1] for table in (items.vectors, items.user_features, items.history, items.text)
    ]


def test_an_item_is_encoded_once_for_all_who_serve_the_bundle(service, encoded) -> None:
    first, second = service(), service()
    first.create_item(NEW)
    second.catch_up()
    third = service()
    first.reload()
    assert encoded == [1]
    for one in (first, second, third):
        for ours, theirs in zip(last_row(one), last_row(third), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert one.pipeline.similar_items("n1", k=1)


def test_what_another_bundle_encoded_is_encoded_again(service, encoded) -> None:
    first = service()
    first.create_item(NEW)
    assert encoded == [1]
    first.reload("other")
    assert encoded == [1, 1]
    first.create_item(NEW.vary(item_id="n2"))
    first.reload()  # back to the bundle that encoded n1, but not n2
    assert encoded == [1, 1, 1, 1]
    found = {one.item_id for one in first.pipeline.similar_items("item-07", k=70)}
    assert {"n1", "n2"} <= found


def test_the_first_item_finds_room_in_every_large_table(service) -> None:
    one = service()
    before, contents = one.pipeline.items, one.pipeline.contents
    one.create_item(NEW)
    after = one.pipeline.items
    assert len(after) == len(before) + 1
    for name in ("vectors", "user_features", "history", "text"):
        assert getattr(after, name).buffer is getattr(before, name).buffer
    for shared, table in (
        (contents.item_vectors, after.vectors),
        (contents.user_features.item_table, after.user_features),
        (contents.history_table, after.history),
        (contents.new_items.text, after.text),
    ):
        assert np.shares_memory(shared, table.buffer)
        np.testing.assert_array_equal(shared, table.rows[: len(shared)])


def test_a_replaced_bundle_is_freed_without_the_collector(service) -> None:
    one = service()
    one.create_item(NEW)
    parts = (one.pipeline, one.pipeline.contents, one.pipeline.items.vectors.buffer)
    replaced = [weakref.ref(part) for part in parts]
    del parts
    gc.collect()
    gc.disable()
    try:
        one.reload()
        assert [part() for part in replaced] == [None] * 3
    finally:
        gc.enable()
        gc.unfreeze()
