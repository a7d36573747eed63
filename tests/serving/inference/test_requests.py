import numpy as np
import pytest

from twotower.data import Histories, IdMap
from twotower.errors import InputError
from twotower.inference import Request
from twotower.inference.requests import Past, RequestReader

USERS = IdMap(["ann", "bob", "eve"], "user")
ITEMS = IdMap(["a", "b", "c", "d"], "item")


@pytest.fixture
def reader():
    stored = Histories(
        np.array([0, 2, 3, 3]),
        np.array([0, 1, 2], dtype=np.int32),
        np.array([5, 3, 1], dtype=np.float32),
        np.array([100, 300, 200]),
    )
    return RequestReader(USERS, ITEMS, stored)


def lists(array, histories):
    return [part.tolist() for part in np.split(array, histories.indptr[1:-1])]


def test_ratings_that_are_unknown_are_no_part_of_a_mean():
    stored = Histories(
        np.array([0, 2, 3, 3]),
        np.array([0, 1, 2], dtype=np.int32),
        np.array([np.nan, 3, np.nan], dtype=np.float32),
        np.array([100, 300, 200]),
    )
    reader = RequestReader(USERS, ITEMS, stored)
    histories = reader.queries([Request("ann", ["c"]), Request("bob", ["d"])]).histories
    assert histories.ratings[[2, 4]].tolist() == [3, 3]


def test_given_items_follow_the_stored_ones(reader):
    queries = reader.queries(
        [
            Request("bob", ["d", "a"]),
            Request("ann"),
            Request("stranger", ["b"]),
            Request(None, ["c", "c"]),
            Request("eve"),
            Request("eve", ["a"]),
        ]
    )
    histories = queries.histories
    assert queries.users.tolist() == [1, 0, -1, -1, 2, 2]
    assert lists(histories.items, histories) == [[2, 3, 0], [0, 1], [1], [2, 2], [], [0]]
    # The user's own mean for a known user, everybody's (5 + 3 + 1) / 3 for the others.
    assert lists(histories.ratings, histories) == [[1, 1, 1], [5, 3], [3], [3, 3], [], [3]]
    times = [[200, 300, 300], [100, 300], [300], [300, 300], [], [300]]
    assert lists(histories.timestamps, histories) == times
    assert histories.items.dtype == np.int32
    assert histories.ratings.dtype == np.float32
    assert histories.timestamps.dtype == np.int64


def test_a_log_without_ratings_and_times_stays_without():
    reader = RequestReader(USERS, ITEMS, Histories.from_lists([[0], [1], []]))
    histories = reader.queries([Request("ann", ["d"]), Request(None, ["c"])]).histories
    assert lists(histories.items, histories) == [[0, 3], [2]]
    assert histories.ratings is None
    assert histories.timestamps is None


def test_no_requests(reader):
    assert len(reader.queries([])) == 0


def test_refuses_an_unknown_user_without_history(reader):
    with pytest.raises(InputError) as raised:
        reader.queries([Request("ann"), Request("mallory")])
    assert str(raised.value) == (
        "unknown user 'mallory'; pass history=[item ids] to recommend for a cold-start user"
    )


def test_refuses_an_unknown_item(reader):
    with pytest.raises(InputError, match="unknown item 'z'"):
        reader.queries([Request(None, ["a", "z"])])


@pytest.mark.parametrize("history", [[], ()])
def test_refuses_neither_user_nor_history(reader, history):
    with pytest.raises(InputError, match="needs a user id or a history, got neither; pass"):
        reader.queries([Request(None, history)])


def test_refuses_a_history_that_is_one_text(reader):
    with pytest.raises(InputError, match=r"list of item ids, got the text 'abc'; pass \['abc'\]"):
        reader.queries([Request(None, "abc")])


def test_past_events_come_between_what_is_stored_and_what_is_given(reader):
    past = [
        Past("c", "rating", 4.0, 150),
        Past("gone", "buy", None, 160),
        Past("d", "buy", None, 500),
    ]
    reading = reader.read([Request("ann", ["a"], past=past), Request("bob")])
    histories = reading.queries.histories
    assert lists(histories.items, histories) == [[0, 1, 2, 3, 0], [2]]
    assert lists(histories.ratings, histories) == [[5, 3, 4, 4, 4], [1]]
    assert lists(histories.timestamps, histories) == [[100, 300, 150, 500, 500], [200]]
    assert reading.kinds(0) == ["stored", "stored", "rating", "buy", "given"]
    assert reading.kinds(1) == ["stored"]
    assert reading.seen(0).tolist() == [0, 1, 2, 3, 0]


def test_what_words_describe_is_read_last_and_not_seen(reader):
    described = [np.array([2, 3], dtype=np.int32), np.zeros(0, dtype=np.int32)]
    requests = [Request(None, ["a"], "c or d"), Request("ann")]
    reading = reader.read(requests, described)
    histories = reading.queries.histories
    assert lists(histories.items, histories) == [[0, 2, 3], [0, 1]]
    assert reading.kinds(0) == ["given", "described", "described"]
    assert reading.seen(0).tolist() == [0]
    assert reading.seen(1).tolist() == [0, 1]


def test_a_user_with_events_is_not_unknown(reader):
    queries = reader.queries([Request("mallory", past=[Past("a", "view", None, 400)])])
    assert queries.users.tolist() == [-1]
