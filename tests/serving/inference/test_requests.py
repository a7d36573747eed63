import numpy as np
import pytest

from twotower.data import Histories, IdMap
from twotower.data.events import EventRules
from twotower.errors import InputError
from twotower.inference import Request
from twotower.inference.requests import Past, RequestReader

USERS = IdMap(["ann", "bob", "eve"], "user")
ITEMS = IdMap(["a", "b", "c", "d"], "item")


def kinds_of(reading, row):
    return [cause.kind for cause in reading.causes(row)]


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
    assert kinds_of(reading, 0) == [
        "stored",
        "stored",
        "rating",
        "buy",
        "given",
    ]
    assert kinds_of(reading, 1) == ["stored"]
    assert reading.seen(0).tolist() == [0, 1, 2, 3, 0]


def test_what_words_describe_is_read_last_and_not_seen(reader):
    described = [np.array([2, 3], dtype=np.int32), np.zeros(0, dtype=np.int32)]
    requests = [Request(None, ["a"], "c or d"), Request("ann")]
    reading = reader.read(requests, described)
    histories = reading.queries.histories
    assert lists(histories.items, histories) == [[0, 2, 3], [0, 1]]
    assert kinds_of(reading, 0) == ["given", "described", "described"]
    assert reading.seen(0).tolist() == [0]
    assert reading.seen(1).tolist() == [0, 1]


def test_a_user_with_events_is_not_unknown(reader):
    queries = reader.queries([Request("mallory", past=[Past("a", "view", None, 400)])])
    assert queries.users.tolist() == [-1]


# --- kinds of events

RULES = EventRules(
    weights={"view": 0.25, "buy": 1, "return": -1}, target="buy", seen="buy", quantity_power=0.5
)


@pytest.fixture
def kinds():
    """Ann viewed a and bought b; bob bought c and returned d."""
    stored = Histories(
        np.array([0, 2, 3, 3]),
        np.array([0, 1, 2], dtype=np.int32),
        timestamps=np.array([100, 300, 200]),
        weights=np.array([0.25, 1, 1], dtype=np.float32),
        kinds=np.array([0, 1, 1], dtype=np.uint8),
        rules=RULES,
    )
    returned = Histories.from_lists([[], [3], []])
    return RequestReader(USERS, ITEMS, stored, returned=returned)


def test_events_have_the_weights_that_training_gives_them(kinds):
    past = [Past("c", "view", None, 400), Past("d", "buy", None, 500, quantity=4)]
    reading = kinds.read([Request("ann", ["a"], past=past)])
    histories = reading.queries.histories
    assert histories.items.tolist() == [0, 1, 2, 3, 0]
    assert histories.weights.tolist() == [0.25, 1, 0.25, 2, 0.25]
    assert histories.kinds.tolist() == [0, 1, 0, 1, 0]
    assert kinds_of(reading, 0) == ["view", "buy", "view", "buy", "given"]


def test_only_kinds_that_count_are_seen_and_what_the_request_names(kinds):
    past = [Past("c", "view", None, 400)]
    reading = kinds.read([Request("ann", past=past), Request("ann", ["a"], past=past)])
    assert reading.seen(0).tolist() == [1]
    assert reading.seen(1).tolist() == [1, 0]


@pytest.mark.parametrize(
    "event",
    [Past("b", "return", None, 400), Past("b", "buy", None, 400, quantity=-1)],
)
def test_a_return_takes_stored_events_away_and_the_item_is_not_recommended(kinds, event):
    reading = kinds.read([Request("ann", past=[event])])
    assert reading.queries.histories.items.tolist() == [0]
    assert reading.excluded(0, seen=True).tolist() == [1]
    assert reading.excluded(0, seen=False).tolist() == [1]
    again = kinds.read([Request("ann", past=[event, Past("b", "buy", None, 500)])])
    assert again.queries.histories.items.tolist() == [0, 1]
    assert again.excluded(0, seen=False).tolist() == []


def test_what_was_returned_before_the_bundle_stays_out_until_it_is_bought(kinds):
    assert kinds.read([Request("bob")]).excluded(0, seen=False).tolist() == [3]
    bought = kinds.read([Request("bob", past=[Past("d", "buy", None, 900)])])
    assert bought.excluded(0, seen=False).tolist() == []
    assert bought.excluded(0, seen=True).tolist() == [2, 3]


def test_a_user_who_returned_everything_is_not_readable(kinds):
    request = Request("ann", past=[Past(item, "return", None, 400) for item in "ab"])
    assert not kinds.is_readable(request)
    assert sorted(kinds.known(request).returned) == [0, 1]


def test_kinds_that_the_rules_lack_are_passed_over(kinds):
    past = [Past("c", "wish", None, 400)]
    assert kinds.read([Request("ann", past=past)]).queries.histories.items.tolist() == [0, 1]


def test_a_negative_quantity_takes_away_without_rules_too(reader):
    past = [Past("a", "buy", None, 400, quantity=-1)]
    reading = reader.read([Request("ann", past=past)])
    assert reading.queries.histories.items.tolist() == [1]
    assert reading.queries.histories.ratings.tolist() == [3]
    assert reading.excluded(0, seen=True).tolist() == [1, 0]


def test_causes_have_the_ratings(reader):
    past = [Past("c", "rating", 4.0, 400)]
    causes = reader.read([Request("ann", ["d"], past=past)]).causes(0)
    assert [tuple(cause) for cause in causes] == [
        ("stored", 5), ("stored", 3), ("rating", 4), ("given", None),
    ]  # fmt: skip
