from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from twotower.data import Dataset, Part
from twotower.data.holdouts import SUMMARY, hold_out, of_new_items, of_new_users
from twotower.errors import InputError
from twotower.evaluation.tasks import (
    AllUsers,
    CutHistory,
    KnownUsers,
    NewItems,
    NewUsers,
    TaskData,
)

TASKS: Any = (AllUsers(), CutHistory(3), CutHistory(None), NewUsers(), KnownUsers(), NewItems())


@pytest.fixture(scope="module")
def cold(blocks: Dataset) -> Dataset:
    return hold_out(blocks, users=0.2, items=0.2)


def users_of(data: TaskData, dataset: Dataset) -> list[int]:
    """Users of the queries, found by their seen items, since a query may be anonymous."""
    log = dataset.interactions
    found = []
    for row in range(len(data.queries)):
        had = data.seen.row(row).tolist()
        (user,) = (u for u in range(len(log)) if log.row(u)[: len(had)].tolist() == had)
        found.append(user)
    return found


@pytest.mark.parametrize("part", [Part.VALIDATION, Part.TEST])
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_a_history_is_a_part_of_the_seen_items_and_never_holds_the_target(
    task: Any, part: Part, cold: Dataset
) -> None:
    data = task(cold, part)
    before = 10 if part is Part.VALIDATION else 11
    assert len(data.queries) == len(data.targets) == len(data.seen) > 0
    for row, user in enumerate(users_of(data, cold)):
        mine = cold.interactions.row(user).tolist()
        assert data.seen.row(row).tolist() == mine[:before]
        assert data.targets.row(row).tolist() == [mine[before]]
        history = data.queries.histories.row(row).tolist()
        assert [item for item in mine[:before] if item in history] == history  # in order
        assert mine[before] not in history


def test_all_users_are_the_held_out_queries_of_the_data_set(blocks: Dataset, cold: Dataset) -> None:
    queries, targets = blocks.held_out(Part.TEST)
    data = AllUsers()(blocks, Part.TEST)
    np.testing.assert_array_equal(data.queries.users, queries.users)
    np.testing.assert_array_equal(data.targets.items, targets.items)
    np.testing.assert_array_equal(data.seen.items, queries.histories.items)
    new = np.unique(cold.interactions.items[of_new_items(cold)])
    known = AllUsers()(cold, Part.TEST)
    assert not np.isin(known.queries.histories.items, new).any()
    assert np.isin(
        known.seen.items, new
    ).any()  # seen items are no candidates, in the history or not


def test_histories_are_cut_to_the_newest_and_accounts_hidden(blocks: Dataset) -> None:
    whole = AllUsers()(blocks, Part.TEST)
    cut = CutHistory(3)(blocks, Part.TEST)
    assert (cut.queries.users == -1).all()
    for row in range(60):
        assert cut.queries.histories.row(row).tolist() == whole.seen.row(row)[-3:].tolist()
    np.testing.assert_array_equal(cut.seen.items, whole.seen.items)
    everything = CutHistory(None)(blocks, Part.TEST)
    np.testing.assert_array_equal(everything.queries.histories.items, whole.seen.items)


def test_every_size_of_a_table_is_of_the_same_users(blocks: Dataset) -> None:
    short = blocks.split.copy()
    short[:9] = 7  # the first user keeps 3 of 12 interactions, one before the test part's two
    data = Dataset(
        "short", blocks.users, blocks.items, blocks.catalogue, blocks.interactions, short
    )
    assert len(CutHistory(5)(data, Part.TEST).queries) == 60
    for newest in (3, 10, None):
        assert len(CutHistory(newest, least=10)(data, Part.TEST).queries) == 59
    with pytest.raises(InputError, match=r"no user of 'short' has 20 items .*, the longest .* 11"):
        CutHistory(3, least=20)(data, Part.TEST)


def test_new_users_are_those_held_out_and_have_no_account(cold: Dataset) -> None:
    data = NewUsers()(cold, Part.TEST)
    log = cold.interactions
    new_users = set(log.rows[of_new_users(cold)].tolist())
    new_items = np.unique(log.items[of_new_items(cold)])
    assert set(users_of(data, cold)) <= new_users
    assert 0 < len(data.queries) <= cold.summary[SUMMARY]["held_out_users"] == 12
    assert (data.queries.users == -1).all()
    assert not np.isin(data.queries.histories.items, new_items).any()
    assert not np.isin(data.targets.items, new_items).any()


def test_known_users_have_histories_of_the_same_lengths(cold: Dataset) -> None:
    new, known = NewUsers()(cold, Part.TEST), KnownUsers(per_user=2)(cold, Part.TEST)
    assert (known.queries.users >= 0).all()
    everyone = AllUsers()(cold, Part.TEST).queries
    assert np.isin(known.queries.users, everyone.users).all()
    there = np.unique(everyone.histories.lengths)
    nearest = [there[np.abs(there - n).argmin()] for n in new.queries.histories.lengths]
    assert sorted(known.queries.histories.lengths) == sorted(np.repeat(nearest, 2))
    again = KnownUsers(per_user=2)(cold, Part.TEST)
    np.testing.assert_array_equal(again.queries.users, known.queries.users)


def test_new_items_are_targets_of_known_users(cold: Dataset) -> None:
    data = NewItems()(cold, Part.TEST)
    log = cold.interactions
    new_items = np.unique(log.items[of_new_items(cold)])
    new_users = np.unique(log.rows[of_new_users(cold)])
    assert np.isin(data.targets.items, new_items).all()
    assert not np.isin(data.queries.users, new_users).any()
    assert data.queries.users.tolist() == users_of(data, cold)
    assert not np.isin(data.queries.histories.items, new_items).any()
    # These users are not among those of the other protocols.
    assert not np.isin(data.queries.users, AllUsers()(cold, Part.TEST).queries.users).any()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (NewUsers(), "no users of 'blocks' were held out of training; make a data set with 'two"),
        (KnownUsers(), "no users of 'blocks' were held out of training; make a data set with"),
        (NewItems(), "no items of 'blocks' were held out of training; make a data set with"),
    ],
)
def test_without_a_hold_out_there_are_no_new_users_or_items(
    task: Any, message: str, blocks: Dataset
) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        task(blocks, Part.TEST)


def test_a_hold_out_of_users_is_none_of_items(blocks: Dataset) -> None:
    only_users = hold_out(blocks, users=0.2, items=0)
    assert len(NewUsers()(only_users, Part.TEST).queries) == 12
    with pytest.raises(InputError, match=r"^no items of 'blocks' were held out"):
        NewItems()(only_users, Part.TEST)


@pytest.mark.parametrize("task", [AllUsers(), CutHistory(3)], ids=str)
def test_where_nothing_is_held_out_a_split_that_works_is_offered(
    task: Any, blocks: Dataset
) -> None:
    log = blocks.interactions.last(2)
    short = replace(blocks, interactions=log, split=np.zeros(len(log.items), np.uint8))
    with pytest.raises(
        InputError,
        match=r"^data set 'blocks' has nothing held out for test: no user has three interactions, "
        r"so leave-last-two holds none out; prepare it again: "
        r"choose the split 'global-time' or 'random'$",
    ):
        task(short, Part.TEST)
