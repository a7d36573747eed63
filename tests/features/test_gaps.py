from dataclasses import replace

import numpy as np

from twotower.data import Histories, Queries
from twotower.features.gaps import GAP_CODES, UNKNOWN, gap_codes, has_times, query_gaps

SECOND = 1000


def histories() -> Histories:
    times = np.array([0, 10, 10, 3600, 7, 8], dtype=np.int64) * SECOND
    lists = Histories.from_lists([[3, 1, 2, 4], [], [5, 6]])
    return replace(lists, timestamps=times)


def test_codes_grow_by_doublings_and_stay_in_the_table() -> None:
    seconds = np.array([0, 1, 3, 7, 10**12])
    assert gap_codes(seconds * SECOND).tolist() == [1, 2, 3, 4, GAP_CODES - 1]
    assert gap_codes(np.array([-5 * SECOND])).tolist() == [1]


def test_the_gap_behind_an_event_is_that_to_the_next_one_or_to_the_request() -> None:
    queries = Queries.anonymous(histories())
    queries = replace(queries, times=np.array([3601, 99, 8], dtype=np.int64) * SECOND)
    expected = gap_codes(np.array([10, 0, 3590, 1]) * SECOND).tolist()
    found = query_gaps(queries, 4)
    assert found[0].tolist() == expected
    assert found[1].tolist() == [UNKNOWN] * 4
    assert found[2].tolist() == [2, 1, UNKNOWN, UNKNOWN]
    # Fewer positions: those of the newest events.
    assert query_gaps(queries, 2)[0].tolist() == expected[-2:]


def test_without_a_time_the_newest_gap_is_unknown_and_without_times_all_are() -> None:
    queries = Queries.anonymous(histories())
    assert query_gaps(queries, 4)[0].tolist()[-1] == UNKNOWN
    assert query_gaps(queries, 4)[0].tolist()[0] != UNKNOWN
    bare = Queries.anonymous(replace(histories(), timestamps=None))
    assert not query_gaps(bare, 4).any()


def test_selected_queries_keep_their_times() -> None:
    queries = replace(Queries.anonymous(histories()), times=np.array([5, 6, 7], dtype=np.int64))
    assert queries.select(np.array([2, 0])).times.tolist() == [7, 5]


def test_a_log_of_one_time_has_none() -> None:
    log = histories()
    assert has_times(log)
    assert not has_times(replace(log, timestamps=None))
    assert not has_times(replace(log, timestamps=np.zeros(6, dtype=np.int64)))
