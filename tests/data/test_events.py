"""Kinds of events: weights, targets, returns, thresholds, quantities, decay; known answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twotower.data import Dataset, Part
from twotower.data.declaration import Declaration, declared
from twotower.data.events import EventRules
from twotower.data.inspection import inspect
from twotower.data.prepare import prepare
from twotower.data.settings import PrepareSettings
from twotower.data.summary import summary_lines
from twotower.errors import InputError

ALL = PrepareSettings(k_core=0)
DAY = 86_400
T0 = 1_600_000_000
SHOP = {"weights": {"view": 0.2, "cart": 0.5, "buy": 1.0, "return": -1.0}, "target": "buy"}

Row = tuple[str, str, str]


def made(rows: list[Row], events: dict[str, Any] | None = None, **settings: Any) -> Dataset:
    """A data set of rows ``user item kind``, one a day."""
    log = {
        "user": [row[0] for row in rows],
        "item": [row[1] for row in rows],
        "kind": [row[2] for row in rows],
        "time": [T0 + DAY * place for place in range(len(rows))],
    }
    settings = {"k_core": 0, **settings}
    return Dataset.from_frames(log, settings=settings, events=events or SHOP)


def kept(dataset: Dataset, user: int = 0) -> list[tuple[str, str, float]]:
    """Item, kind and weight of a user's events."""
    log = dataset.interactions
    assert log.kinds is not None
    assert log.weights is not None
    assert log.rules is not None
    span = slice(int(log.indptr[user]), int(log.indptr[user + 1]))
    return [
        (dataset.items.ids[item], log.rules.kinds[kind], round(float(weight), 4))
        for item, kind, weight in zip(
            log.items[span], log.kinds[span], log.weights[span], strict=True
        )
    ]


def test_each_event_has_the_weight_of_its_kind() -> None:
    dataset = made([("u", "a", "view"), ("u", "b", "cart"), ("u", "c", "buy")])
    assert kept(dataset) == [("a", "view", 0.2), ("b", "cart", 0.5), ("c", "buy", 1.0)]


def test_of_a_pair_the_strongest_event_stands_and_the_earliest_of_equals() -> None:
    rows = [("u", "a", kind) for kind in ("view", "buy", "view", "buy")]
    dataset = made([*rows, ("u", "b", "view")])
    assert kept(dataset) == [("a", "buy", 1.0), ("b", "view", 0.2)]
    assert dataset.interactions.timestamps is not None
    assert dataset.interactions.timestamps[0] == 1000 * (T0 + DAY)


def test_a_target_kind_stands_before_others_of_the_same_weight() -> None:
    rows = [("u", "a", "view"), ("u", "a", "buy"), ("u", "a", "view")]
    alike = {"weights": {"view": 1, "buy": 1}, "target": "buy"}
    assert kept(made(rows, alike)) == [("a", "buy", 1.0)]
    assert kept(made(rows, {"weights": {"view": 1, "buy": 1}})) == [("a", "view", 1.0)]


def test_kinds_that_do_not_count_as_seen_stand_beside_those_that_do() -> None:
    rows = [("u", "a", kind) for kind in ("view", "cart", "buy", "buy")]
    dataset = made(rows, {**SHOP, "seen": ["buy"]})
    assert kept(dataset) == [("a", "cart", 0.5), ("a", "buy", 1.0)]
    assert dataset.interactions.seen.items.tolist() == [0]
    assert not dataset.has_repeats
    assert made(rows, SHOP, keep_repeats=True).has_repeats


def test_a_return_takes_the_events_before_it_away() -> None:
    """And the item is kept in a list of its own, from which it is never recommended."""
    rows = [("u", "a", "view"), ("u", "a", "buy"), ("u", "b", "buy"), ("u", "a", "return")]
    dataset = made([*rows, ("v", "a", "buy")])
    assert kept(dataset) == [("b", "buy", 1.0)]
    assert dataset.returned is not None
    assert dataset.items.ids[dataset.returned.row(0)[0]] == "a"
    assert dataset.summary["returns"] == {"events": 1, "taken_away": 2, "not_recommended": 1}
    assert "1 returns and other negative events took 2 earlier ones away" in "\n".join(
        summary_lines(dataset.summary)
    )


def test_what_is_bought_after_a_return_stands() -> None:
    rows = [("u", "a", "buy"), ("u", "a", "return"), ("u", "a", "buy"), ("v", "a", "buy")]
    dataset = made(rows)
    assert kept(dataset) == [("a", "buy", 1.0)]
    assert dataset.returned is not None
    assert not len(dataset.returned.items)


@pytest.mark.parametrize("declared_kinds", [True, False])
def test_a_negative_quantity_is_a_return(declared_kinds: bool) -> None:
    log = {
        "user": ["u", "u", "u", "v"], "item": ["a", "b", "a", "a"], "kind": ["buy"] * 4,
        "time": [T0, T0 + 1, T0 + 2, T0 + 3], "quantity": [2, 1, -2, None],
    }  # fmt: skip
    events = {"weights": {"buy": 1}} if declared_kinds else None
    dataset = Dataset.from_frames(log, settings={"k_core": 0}, events=events)
    assert [dataset.items.ids[item] for item in dataset.interactions.items] == ["b", "a"]
    assert dataset.returned is not None
    assert [len(dataset.returned.row(user)) for user in (0, 1)] == [1, 0]
    assert (dataset.interactions.weights is not None) == declared_kinds


def test_a_quantity_may_weigh() -> None:
    log = {
        "user": ["u", "u"], "item": ["a", "b"], "kind": ["buy"] * 2, "time": [1, 2],
        "quantity": [4, 9],
    }  # fmt: skip
    events = {"weights": {"buy": 2}, "quantity_power": 0.5}
    dataset = Dataset.from_frames(log, settings={"k_core": 0}, events=events)
    assert kept(dataset) == [("a", "buy", 4.0), ("b", "buy", 6.0)]


def test_a_column_of_weights_is_read_where_it_is_named() -> None:
    plays = [3.0, 2.0, -1.0, 4.0]
    log = {"user": list("uuuv"), "item": list("abaa"), "time": [1, 2, 3, 4], "plays": plays}
    columns = {"weight": "plays"}
    dataset = Dataset.from_frames(log, columns=columns, settings={"k_core": 0})
    assert dataset.interactions.weights is not None
    assert dataset.interactions.weights.tolist() == [2.0, 4.0]
    assert dataset.returned is not None
    assert len(dataset.returned.items) == 1


def test_kinds_may_follow_from_ratings() -> None:
    log = {
        "user": ["u"] * 6, "item": list("abcdef"), "time": [1, 2, 3, 4, 5, 6],
        "rating": [5.0, 4.0, 3.5, 1.0, 0.5, None],
        "kind": [None] * 5 + ["like"],
    }  # fmt: skip
    events = {
        "weights": {"like": 1, "meh": 0.1, "dislike": -1},
        "from_rating": {"like": 4, "meh": 3, "dislike": 1},
    }
    dataset = Dataset.from_frames(
        log, columns={"event": "kind"}, settings={"k_core": 0}, events=events
    )
    assert kept(dataset) == [
        ("a", "like", 1.0), ("b", "like", 1.0), ("c", "meh", 0.1), ("f", "like", 1.0),
    ]  # fmt: skip
    assert dataset.summary["rejected"] == {"rating: of no kind": 1}
    assert dataset.returned is not None  # what is disliked is not recommended
    assert [dataset.items.ids[item] for item in dataset.returned.items] == []


def test_an_event_is_worth_half_after_its_half_life() -> None:
    rows = [("u", item, "buy") for item in "abcde"]
    dataset = made(rows, {"weights": {"buy": 1}, "half_life": 1})
    # Two are held out: the newest training event is the third.
    assert [weight for _, _, weight in kept(dataset)] == [0.25, 0.5, 1.0, 1.0, 1.0]


def test_only_target_kinds_are_held_out_with_what_follows_as_inputs() -> None:
    kinds = ["view", "buy", "view", "buy", "cart", "buy", "view"]
    dataset = made([("u", f"i{place}", kind) for place, kind in enumerate(kinds)])
    assert dataset.split.tolist() == [0, 0, 0, 1, 1, 2, 2]
    queries, targets = dataset.held_out(Part.VALIDATION)
    assert queries.histories.items.tolist() == [0, 1, 2]
    assert targets.items.tolist() == [3]
    queries, targets = dataset.held_out(Part.TEST)
    assert queries.histories.items.tolist() == [0, 1, 2, 3, 4]
    assert targets.items.tolist() == [5]


def test_a_user_without_two_targets_and_something_before_stays_in_train() -> None:
    short = [("u", "a", "buy"), ("u", "b", "buy"), ("v", "a", "view"), ("v", "b", "buy")]
    assert made(short).split.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("split", ["random", "global-time"])
def test_other_splits_find_target_kinds_too(split: str) -> None:
    rows = [(f"u{n % 20}", f"i{n % 31}", "buy" if n % 3 == 0 else "view") for n in range(400)]
    dataset = made(rows, split=split)
    log = dataset.interactions
    assert log.kinds is not None
    assert log.rules is not None
    for part in (Part.VALIDATION, Part.TEST):
        _, targets = dataset.held_out(part)
        assert len(targets.items)
        assert targets.kinds is not None
        assert {log.rules.kinds[kind] for kind in targets.kinds.tolist()} == {"buy"}


def test_kinds_are_saved_with_the_data(tmp_path: Path) -> None:
    rows = [("u", "a", "buy"), ("u", "b", "view"), ("u", "a", "return"), ("v", "a", "buy")]
    dataset = made(rows)
    loaded = Dataset.load(dataset.save(tmp_path / "data"))
    assert kept(loaded) == kept(dataset)
    assert loaded.interactions.rules == dataset.interactions.rules
    assert loaded.returned is not None
    assert loaded.returned.items.tolist() == [0]
    assert loaded.fingerprint == dataset.fingerprint
    other = made(rows, {**SHOP, "weights": {**SHOP["weights"], "view": 0.3}})
    assert other.fingerprint != dataset.fingerprint


def test_rows_of_kinds_without_a_weight_are_rejected_with_a_fix() -> None:
    dataset = made([("u", "a", "buy"), ("u", "b", "wish"), ("u", "c", "buy")])
    assert dataset.summary["rejected"] == {"event: without a weight": 1}
    printed = "\n".join(summary_lines(dataset.summary, cli=True))
    assert "'wish'; give the kind a weight (--weight KIND=0.5), or leave it out so" in printed


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ({"weights": {"view": -1}}, "one kind must have a positive weight, got view = -1"),
        ({"weights": {"view": 0, "buy": 1}}, "a weight must be a number other than 0, got view"),
        ({"weights": {"buy": float("inf")}}, "a weight must be a number other than 0"),
        ({"weights": {"buy": "much"}}, "valid number"),
        ({"weights": {"buy": 1}, "target": "by"}, "target must be kinds of a positive weight, got"),
        ({"weights": {"buy": 1, "back": -1}, "seen": ["back"]}, "seen must be kinds of a positive"),
        ({"weights": {"buy": 1}, "half_life": 0}, "half_life: Input should be greater than 0"),
        ({"weights": {"buy": 1}, "from_rating": {"like": 4}}, "kinds that have a weight, got like"),
        (
            {"weights": {"a": 1, "b": 2}, "from_rating": {"a": 4, "b": 4}},
            "two kinds of from_rating begin at the same rating",
        ),
        (
            {"weights": {"buy": 1}, "targets": "buy"},
            "events.targets: unknown key, got 'buy'; did you mean target? it is one of weights, ",
        ),
        ({"weights": {"buy": 1}, "learn": "some"}, "'target' or 'all'"),
        ({"target": "buy"}, "the kinds of events have no weights; give them"),
    ],
)
def test_a_bad_declaration_is_one_line(events: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        made([("u", "a", "buy")], events)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_a_declaration_needs_of_the_log_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,order\nu,a,1\nu,b,2\n")
    for events, said in (
        ({"weights": {"buy": 1}}, "cannot determine the event column"),
        ({"weights": {"buy": 1}, "from_rating": {"buy": 3}}, "has no ratings; name their column"),
    ):
        with pytest.raises(InputError, match=said):
            prepare(tmp_path, declaration=declared({"events": events}, "here"))
    (tmp_path / "log.csv").write_text("user,item,order,kind\nu,a,1,buy\nu,b,2,buy\n")
    events = {"weights": {"buy": 1}, "half_life": 30}
    values = {"events": events, "prepare": {"k_core": 0}}
    with pytest.raises(InputError, match="half_life is 30 days, but the log has no times; leave"):
        prepare(tmp_path, declaration=declared(values, "here"))


def test_every_user_of_a_returned_item_alone_is_no_user() -> None:
    dataset = made([("u", "a", "buy"), ("u", "a", "return"), ("v", "a", "buy")])
    assert list(dataset.users.ids) == ["v"]
    assert dataset.returned is not None
    assert len(dataset.returned) == 1


def test_the_events_of_a_log_without_kinds_are_as_they_were() -> None:
    log = {"user": list("uuv"), "item": list("aba"), "time": [1, 2, 3]}
    dataset = Dataset.from_frames(log, settings={"k_core": 0})
    log_ = dataset.interactions
    assert (log_.weights, log_.kinds, log_.rules, log_.to_find, log_.learned) == (None,) * 5
    assert log_.seen is log_
    assert dataset.returned is None


def test_the_learned_weight_is_that_of_targets_or_of_all() -> None:
    rows = [("u", "a", "view"), ("u", "b", "buy")]
    for learn, weights in (("target", [0, 1]), ("all", [0.2, 1])):
        learned = made(rows, {**SHOP, "learn": learn}).interactions.learned
        assert learned is not None
        np.testing.assert_allclose(learned, weights)


def test_each_kind_may_have_a_file(tmp_path: Path) -> None:
    (tmp_path / "views.csv").write_text(
        "user_id,item_id,time\nu1,a,2020-01-01\nu1,b,2020-01-02\nu2,a,2020-01-03\n"
    )
    (tmp_path / "orders.csv").write_text(
        "customer,sku,order_date,qty,stars\nu1,a,2020-01-02,2,5\nu2,a,2020-01-04,-1,\n"
    )
    rules = EventRules(weights={"view": 1, "buy": 3}, target="buy")
    said = [f"view={tmp_path}/views.csv", f"buy={tmp_path}/orders.csv"]
    found = prepare(said, settings=ALL, events=rules)
    assert found.summary["kinds"] == {"view": 1, "buy": 1}
    assert found.users.ids == ("u1",)  # u2 returned the only item
    assert found.interactions.weights is not None
    assert found.interactions.weights.tolist() == [1, 3]
    (tmp_path / "dataset.toml").write_text('log = ["view=views.csv", "buy=orders.csv"]\n')
    again = prepare(tmp_path, settings=ALL, events=rules)
    assert again.fingerprint == found.fingerprint
    assert '# weights = { "view" = 1, "buy" = 1 }' in inspect([tmp_path], Declaration()).toml
    (tmp_path / "dataset.toml").unlink()
    with pytest.raises(InputError, match=r"views.csv has no kind of events, and other files have"):
        prepare([tmp_path / "views.csv", said[1]], settings=ALL)
    (tmp_path / "views.csv").write_text("user_id,item_id,time,event\nu1,a,2020-01-01,look\n")
    with pytest.raises(InputError, match="has a column 'event' of its own, and is said to be"):
        prepare(said, settings=ALL)
    with pytest.raises(InputError, match=r"nothing.csv does not exist"):
        prepare([said[1], "view=nothing.csv"], settings=ALL)


def test_a_log_whose_kinds_follow_from_its_ratings_is_previewed(tmp_path: Path) -> None:
    rows = "".join(f"u{n % 3},i{n},{n % 5 + 1},{1_600_000_000 + n}\n" for n in range(9))
    (tmp_path / "log.csv").write_text(f"user,item,rating,time\n{rows}")
    rules = {"weights": {"like": 1, "dislike": -1}, "from_rating": {"like": 4, "dislike": 1}}
    assert "problem" not in inspect([tmp_path], declared({"events": rules}, "test")).described
