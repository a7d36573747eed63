"""The blend against its formula, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from twotower.bundle.blend import ALL_SIGNALS, SIGNAL_OF, Blend, ItemLinks, with_all_signals
from twotower.bundle.network import Network
from twotower.bundle.reranker import placed
from twotower.bundle.trend import Trend
from twotower.data import Histories, Queries
from twotower.errors import InputError
from twotower.types import FloatArray

# Item 0 is like 1 (0.5) and 2 (0.25), item 1 like 0 (0.5), item 2 like 0 (0.25); after item 1 came
# items 2 (0.5) and 3 (0.75).
BLEND = Blend(
    weights=np.array([1, 10, 10_000, 100, 1000, 20, 7], np.float32),
    recency=0.5,
    transition_recency=0.25,
    text_recency=0.8,
    neighbours=ItemLinks(
        np.array([0, 2, 3, 4, 4]),
        np.array([1, 2, 0, 0], np.int32),
        np.array([0.5, 0.25, 0.5, 0.25], np.float32),
    ),
    transitions=ItemLinks(
        np.array([0, 0, 2, 2, 2]), np.array([2, 3], np.int32), np.array([0.5, 0.75], np.float32)
    ),
    text=np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 0]], np.float32),
    popularity=np.array([3, 2, 1, 0.5], np.float32),
    trend=np.array([0.5, 0, 0.25, 0.125], np.float32),
    repeat_recency=0.25,
)


def network(inputs: int = 11, hidden: int = 3) -> Network:
    """Random, but that it does not read its third input."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> FloatArray:
        return rng.normal(size=shape).astype(np.float32)

    low, high = np.full(inputs, -1, np.float32), np.full(inputs, 2, np.float32)
    high[2] = low[2]
    return Network(
        low=low,
        high=high,
        center=drawn(inputs),
        spread=np.abs(drawn(inputs)) + 1,
        direct=drawn(inputs),
        first=drawn(inputs, hidden),
        first_bias=drawn(hidden),
        second=drawn(hidden, hidden),
        second_bias=drawn(hidden),
        last=drawn(hidden),
    )


NETWORK = network()


def signals(history: list[int], items: list[int]) -> FloatArray:
    retrieval = np.arange(len(items), dtype=np.float32)
    return BLEND.signals(np.array(history, np.int32), np.array(items), retrieval, retrieval / 2)


def test_signals_are_as_written() -> None:
    found = signals([1, 0], [2, 3])  # item 0 is newest, item 1 counts less
    wanted = np.array([1, 0.8]) / np.hypot(1, 0.8)
    np.testing.assert_allclose(found[:, 0], [0, 1])
    np.testing.assert_allclose(found[:, 1], [0.25, 0])
    np.testing.assert_allclose(found[:, 2], [0.125, 0.1875])
    np.testing.assert_allclose(found[:, 3], [wanted @ [0.6, 0.8], 0], rtol=1e-6)
    np.testing.assert_allclose(found[:, 4], [1, 0.5])
    np.testing.assert_allclose(found[:, 5], [0.25, 0.125])
    np.testing.assert_allclose(found[:, 6], [0, 0])
    np.testing.assert_allclose(found[:, 7], [0.25, 0])
    np.testing.assert_allclose(found[:, 8], [0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(found[:, 9], [0, 0.5])


def test_repeats_count_how_often_and_how_lately_the_item_was_had() -> None:
    found = signals([2, 1, 7, 2, 0], [0, 1, 2, 3])  # item 7 came later, and is passed over
    np.testing.assert_allclose(found[:, 6], [1, 0.25**3, 0.25 + 0.25**4, 0])


def test_the_trend_is_that_of_the_moment() -> None:
    """Item 3 was bought at 10 s and at 20 s; it halves in 10 s."""
    log = Histories(
        np.array([0, 2]), np.array([3, 3], np.int32), timestamps=np.array([10_000, 20_000])
    )
    blend = replace(BLEND, earlier=Trend.fit(log, 10.0))
    queries = Queries(np.array([-1]), Histories.from_lists([[]]), times=np.array([20_000]))
    items = np.array([[3, 0]])
    retrieval = np.zeros((1, 2), np.float32)
    scores = blend.scores(queries, items, retrieval, retrieval)
    np.testing.assert_allclose(scores, [[500 + 20 * np.log(1.5), 3000]], rtol=1e-6)
    ended = blend.at_end_of_log().scores(queries, items, retrieval, retrieval)
    np.testing.assert_allclose(ended, [[500 + 20 * 0.125, 3000 + 20 * 0.5]])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recency", 0.7),
        ("transition_recency", 0.7),
        ("text_recency", 0.7),
        ("earlier", None),
        ("repeat_recency", 0.5),
    ],
)
def test_a_field_changes_one_signal(field, value) -> None:
    log = Histories(np.array([0, 1]), np.array([3], np.int32), timestamps=np.array([10_000]))
    other = replace(BLEND, **{field: value or Trend.fit(log, 10.0)})
    history, items = np.array([2, 1, 7, 0], np.int32), np.array([3, 0, 2, 1])
    retrieval = np.arange(4, dtype=np.float32)
    changed = other.signals(history, items, retrieval, retrieval, 20)
    signal = SIGNAL_OF[field]
    kept = replace(BLEND, earlier=other.earlier)  # of a moment there is a trend where there is one
    before = kept.signals(history, items, retrieval, retrieval, 20)
    for name in [signal, "newest text"]:  # with a text recency of its own, but for rounding
        before[:, ALL_SIGNALS.index(name)] = other.signal(name, history, items, 20)
    np.testing.assert_array_equal(changed, before)


def test_a_cold_start_user_is_ranked_by_retrieval_and_popularity() -> None:
    found = signals([], [0, 1])
    np.testing.assert_array_equal(found[:, :7], [[0, 0, 0, 0, 3, 0.5, 0], [1, 0, 0, 0, 2, 0, 0]])
    np.testing.assert_array_equal(found[:, 7:], [[0, 0, 0], [0, 0, 0.5]])


def test_what_is_lost_in_rounding_is_left_out() -> None:
    found = signals([2, *[1] * 40], [0])  # item 2 counts 2 ** -40
    assert found[0, 1] == pytest.approx(1.0, abs=2e-7)


def test_scores_weigh_the_signals_and_know_what_they_do_not_know() -> None:
    queries = Queries.anonymous(Histories.from_lists([[1, 0], [7]]))  # item 7 came later
    items = np.array([[2, 3, 9], [0, 1, -1]])
    ones = np.ones((2, 3), np.float32)
    scores = BLEND.scores(queries, items, ones, ones)
    expected = signals([1, 0], [2, 3])[:, 1:7] @ BLEND.weights[1:] + 1
    np.testing.assert_allclose(scores[0, :2], expected, rtol=1e-6)
    assert np.isnan(scores[0, 2])
    np.testing.assert_allclose(scores[1], [3011, 2001, -np.inf])


def test_a_network_scores_in_place_of_the_weights() -> None:
    """By its formula, of the signals cut to the range that they had."""
    blend = replace(BLEND, network=NETWORK)
    queries = Queries.anonymous(Histories.from_lists([[1, 0]]))
    retrieval = np.array([[0, 1]], np.float32)
    scores = blend.scores(queries, np.array([[2, 3]]), retrieval, retrieval / 2)
    inputs = np.c_[signals([1, 0], [2, 3]), np.log(3) * np.ones(2)]
    inputs[:, 2] = 0  # not read, therefore not computed
    x = (np.clip(inputs, NETWORK.low, NETWORK.high) - NETWORK.center) / NETWORK.spread
    hidden = np.maximum(x @ NETWORK.first + NETWORK.first_bias, 0)
    hidden = np.maximum(hidden @ NETWORK.second + NETWORK.second_bias, 0)
    np.testing.assert_allclose(scores[0], x @ NETWORK.direct + hidden @ NETWORK.last, rtol=1e-5)
    assert blend.used.tolist() == [True, True, False, *[True] * 7]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"direct": np.ones(3)}, r"direct of a network must have shape \(11,\), got \(3,\)"),
        ({"second": np.ones((2, 3))}, r"second of a network must have shape \(3, 3\)"),
        ({"spread": np.zeros(11)}, "spread of a network must be above 0"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(change: dict[str, FloatArray], text: str) -> None:
    with pytest.raises(InputError, match=text):
        Network(**{**vars(NETWORK), **change})


def test_it_survives_being_written() -> None:
    by_ease = replace(BLEND, by_ease=True, network=NETWORK, candidates=300)
    again = Blend.from_arrays(by_ease.to_arrays())
    assert again.by_ease
    assert again.candidates == 300
    assert again.network is not None
    assert Blend.from_arrays(BLEND.to_arrays()).network is None
    for name, value in by_ease.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], value)


def test_nothing_is_known_of_an_item_without_interactions() -> None:
    blend = replace(BLEND, popularity=np.array([3, 2, 0, 0.5], np.float32))
    queries, ones = Queries.anonymous(Histories.from_lists([[1, 0]])), np.ones((1, 3), np.float32)
    scores = blend.scores(queries, np.array([[2, 3, 9]]), ones, ones)
    assert np.isnan(scores[0]).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([5, np.nan, 1], [5, 3, 1]),
        ([1, np.nan, 5], [1, 3, 5]),
        ([np.nan, np.nan, 5, 1, np.nan], [5 + 2 / 3, 5 + 1 / 3, 5, 1, 0.5]),
        ([5, np.nan, 1, -np.inf], [5, 3, 1, -np.inf]),
        ([np.nan, np.nan], [1, 0]),
        ([np.nan, -np.inf], [1, -np.inf]),
    ],
)
def test_new_items_keep_the_number_of_known_ones_before_them(
    scores: list[float], expected: list[float]
) -> None:
    np.testing.assert_allclose(placed(np.array(scores, np.float32)), expected, rtol=1e-6)


def test_short_histories_have_weights_of_their_own() -> None:
    """Of one item by popularity, of two and three as long ones, of four to seven by text."""
    short = np.zeros((3, 7), np.float32)
    short[0, 4] = short[2, 3] = 1
    blend = replace(BLEND, short_lengths=np.array([2, 4, 8], np.int32), short_weights=short)
    queries = Queries.anonymous(Histories.from_lists([[1], [1, 0], [1, 0, 2, 3], [1, 0] * 4]))
    items, ones = np.array([[0, 2], [2, 3], [0, 1], [2, 3]]), np.ones((4, 2), np.float32)
    scores = blend.scores(queries, items, ones, ones)
    as_long = BLEND.scores(queries, items, ones, ones)
    np.testing.assert_array_equal(scores[0], BLEND.popularity[[0, 2]])
    np.testing.assert_array_equal(scores[[1, 3]], as_long[[1, 3]])
    np.testing.assert_allclose(scores[2], signals([1, 0, 2, 3], [0, 1])[:, 3], rtol=1e-6)
    with_network = replace(blend, network=NETWORK)
    assert with_network.used.tolist() == [True, True, False, *[True] * 7]
    again = with_network.scores(queries, items, ones, ones)
    np.testing.assert_array_equal(again[[0, 2]], scores[[0, 2]])
    assert not np.array_equal(again[1], scores[1])
    again = Blend.from_arrays(blend.to_arrays()).scores(queries, items, ones, ones)
    np.testing.assert_array_equal(again, scores)


def test_signals_of_short_histories_alone_are_computed() -> None:
    none = np.zeros(7, np.float32)
    by_text = np.array([[0, 0, 0, 1, 0, 0, 0]], np.float32)
    lengths = np.array([2], np.int32)
    blend = replace(BLEND, weights=none, short_lengths=lengths, short_weights=by_text)
    assert blend.used.tolist() == [True, False, False, True, *[False] * 6]
    without = replace(blend, short_weights=np.zeros((1, 7), np.float32))
    assert without.used.tolist() == [True, *[False] * 9]


@pytest.mark.parametrize(
    "gone", [("repeat",), ("repeat", "trend"), ("repeat", "trend", "transition")]
)
def test_one_that_was_written_with_fewer_signals_scores_as_it_did(gone: tuple[str, ...]) -> None:
    arrays = BLEND.to_arrays()
    for name in list(arrays):
        is_newer = name in ("short_lengths", "short_weights", "candidates")
        if is_newer or name.startswith(gone) or (len(gone) == 3 and name in ("by_ease", "helps")):
            del arrays[name]
    without = [2, 5, 6][3 - len(gone) :]
    kept = np.delete(np.arange(7), without)
    arrays["weights"] = BLEND.weights[kept]
    again = Blend.from_arrays(with_all_signals(arrays))
    assert again.candidates == 1000
    queries = Queries.anonymous(Histories.from_lists([[1, 0]]))
    ones = np.ones((1, 2), np.float32)
    scores = again.scores(queries, np.array([[2, 3]]), ones, ones)
    expected = signals([1, 0], [2, 3])[:, :7][:, kept[1:]] @ arrays["weights"][1:] + 1
    np.testing.assert_allclose(scores[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"weights": np.zeros(3, np.float32)}, r"weights must have shape \(7,\), got \(3,\)"),
        ({"short_weights": np.zeros((1, 7), "f4")}, r"short_weights must have shape \(0, 7\)"),
        ({"text": np.zeros((2, 2), np.float32)}, "text must have rows for 4 items, got 2"),
        ({"network": network(inputs=4)}, "a network must have 11 inputs, got 4"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, FloatArray], text: str) -> None:
    with pytest.raises(InputError, match=text):
        replace(BLEND, **change)
