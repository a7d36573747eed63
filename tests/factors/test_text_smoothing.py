import numpy as np

from twotower.factors.text_smoothing import Nearness, TextSmoothing, mean_of, nearest_texts
from twotower.types import Array, FloatArray

ANGLES = np.radians([0, 10, 25, 90])
TEXT = np.zeros((5, 2), np.float32)  # the last has none
TEXT[:4] = np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])
FACTORS = np.array([[1, 0], [2, 0], [3, 0], [0, 4], [0, 8]], np.float32)
ALL = np.ones(5, np.bool_)
NEVER = np.zeros((5, 2), np.float32)
"""Nobody knows when an item came out."""


def test_an_item_is_no_neighbour_of_its_own() -> None:
    rows = np.array([0, 3])
    nearest = nearest_texts(TEXT[rows], TEXT, ALL, 1, own=rows)
    assert nearest.tolist() == [[1], [2]]
    assert nearest_texts(TEXT[rows], TEXT, ALL, 1).tolist() == [[0], [3]]


def test_whoever_has_nobody_beside_itself_has_no_neighbour() -> None:
    alone = np.array([True, False, False, False, False])
    nearest = nearest_texts(TEXT[:1], TEXT, alone, 3, own=np.array([0]))
    assert nearest.tolist() == [[-1]]
    np.testing.assert_array_equal(mean_of(FACTORS, nearest), [[0, 0]])


def test_those_who_may_not_lend_are_passed_over_however_many_they_are() -> None:
    rng = np.random.default_rng(0)
    text = rng.normal(size=(5000, 8)).astype(np.float32)
    lenders = np.zeros(5000, np.bool_)
    lenders[[7, 4000, 4999]] = True
    nearest = nearest_texts(text, text, lenders, 2)
    alike = np.where(lenders, text @ text.T, -np.inf)
    np.testing.assert_array_equal(nearest, np.argsort(-alike, axis=1)[:, :2])


def test_what_else_counts_reorders_the_nearest_texts_alone() -> None:
    rng = np.random.default_rng(0)
    text = rng.normal(size=(1000, 8)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    lenders = rng.random(1000) < 0.5
    other = rng.normal(size=(1000, 2)).astype(np.float32)
    asked = np.arange(50)
    nearest = nearest_texts(
        text[asked], text, lenders, 3, own=asked, nearness=Nearness(other[asked], other)
    )
    cosines = np.where(lenders, text[asked] @ text.T, -np.inf)
    cosines[asked, asked] = -np.inf
    for row, found in zip(asked, nearest, strict=True):
        pool = np.argsort(-cosines[row])[:200]
        total = cosines[row, pool] + other[pool] @ other[row]
        np.testing.assert_array_equal(found, pool[np.argsort(-total)[:3]])


def smoothed_by(smoothing: TextSmoothing, release: FloatArray, events: Array) -> FloatArray:
    return smoothing.smoothed(FACTORS, smoothing.nearest(TEXT, release, events), events)


def test_items_of_a_time_lend_to_each_other() -> None:
    release = np.zeros((5, 2), np.float32)
    release[[0, 2], 0] = release[1, 1] = 1
    smoothing = TextSmoothing(neighbours=1, events=10, release_weight=1)
    smoothed = smoothed_by(smoothing, release, np.full(5, 10))
    np.testing.assert_allclose(smoothed[0], FACTORS[0] + FACTORS[2] / 2)


def test_the_fewer_events_an_item_has_the_more_it_borrows() -> None:
    events = np.array([10, 30, 1, 5, 5])
    smoothed = smoothed_by(TextSmoothing(neighbours=1, events=10), NEVER, events)
    # Half of item 1's; a quarter of item 0's; 10/11 of item 1's; 2/3 of item 2's; no text.
    expected = [[1 + 1, 0], [2 + 1 / 4, 0], [3 + 20 / 11, 0], [2, 4], [0, 8]]
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6)
    assert smoothed.dtype == np.float32
    np.testing.assert_array_equal(FACTORS[0], [1, 0])


def test_an_item_without_events_neither_borrows_nor_lends() -> None:
    events = np.array([10, 0, 10, 5, 5])
    smoothed = smoothed_by(TextSmoothing(neighbours=1, events=10), NEVER, events)
    np.testing.assert_array_equal(smoothed[1], FACTORS[1])
    np.testing.assert_allclose(smoothed[0], [1 + 3 / 2, 0], rtol=1e-6)


def test_no_events_to_outweigh_leave_the_factors_as_they_are() -> None:
    smoothed = smoothed_by(TextSmoothing(events=0), NEVER, np.full(5, 3))
    np.testing.assert_array_equal(smoothed, FACTORS)
