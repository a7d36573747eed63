from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from twotower.data import Dataset, Histories, IdMap, Part
from twotower.features import ItemFeatures, UserFeatures

MakeCatalogue = Callable[..., pl.DataFrame]


@pytest.fixture
def dataset(make_catalogue: MakeCatalogue) -> Dataset:
    """Forty users with ten events each, of which the last two are held out."""
    rng = np.random.default_rng(3)
    events = 400
    log = Histories(
        np.arange(0, events + 1, 10, dtype=np.int64),
        rng.integers(0, 30, events).astype(np.int32),
        rng.integers(1, 6, events).astype(np.float32),
        np.sort(rng.integers(0, 10**12, (40, 10)), axis=1).reshape(-1),
    )
    split = np.tile([*[Part.TRAIN] * 8, Part.VALIDATION, Part.TEST], 40).astype(np.uint8)
    catalogue = make_catalogue(
        30,
        price=rng.random(30) * 60,
        category=rng.choice(list("abcdefghij"), 30),
        average_rating=rng.random(30) * 5,
        rating_count=rng.integers(0, 99, 30),
    )
    users = IdMap([f"u{user}" for user in range(40)], "user")
    return Dataset("toy", users, IdMap(catalogue["item_id"].to_list()), catalogue, log, split)


def test_nothing_held_out_moves_a_fitted_feature(dataset: Dataset) -> None:
    rng = np.random.default_rng(4)
    log, held_out = dataset.interactions, dataset.split != Part.TRAIN
    assert log.ratings is not None
    assert log.timestamps is not None
    changed = Histories(
        log.indptr,
        np.where(held_out, rng.integers(0, 30, len(log.items)), log.items).astype(np.int32),
        np.where(held_out, 1, log.ratings).astype(np.float32),
        np.where(held_out, log.timestamps + 10**12, log.timestamps),
    )
    later_snapshot = dataset.catalogue.with_columns(average_rating=5.0, rating_count=10**6)
    other = replace(dataset, interactions=changed, catalogue=later_snapshot)
    assert not np.array_equal(log.items, changed.items)

    for kind in (ItemFeatures, UserFeatures):
        before = kind.fit(dataset.train, dataset.catalogue).to_arrays()
        after = kind.fit(other.train, other.catalogue).to_arrays()
        for name, array in before.items():
            np.testing.assert_array_equal(after[name], array, err_msg=name)


def test_no_event_moves_the_features_before_it(dataset: Dataset) -> None:
    train = dataset.train
    features = UserFeatures.fit(train, dataset.catalogue)
    last = train.indptr[1:] - 1
    items = train.items.copy()
    items[last] = (items[last] + 1) % 30
    changed = Histories(train.indptr, items, train.ratings, train.timestamps)
    earlier = np.delete(np.arange(len(items)), last)
    np.testing.assert_allclose(
        features.running(changed)[earlier], features.running(train)[earlier], rtol=1e-5, atol=1e-6
    )
