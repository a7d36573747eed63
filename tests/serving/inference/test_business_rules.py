"""Business rules against a brute-force ranking of every item."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twotower.bundle import BundleContents
from twotower.errors import InputError
from twotower.inference import BusinessRules, Filters, Pipeline
from twotower.inference.business_rules import read_rules
from twotower.recommender import Recommender

SEVERAL = {
    "pin": [{"item": "item-07", "position": 3}, {"item": "item-50", "position": 1}],
    "boost": [
        {"categories": ["genre-1"], "factor": 1.5},
        {"items": ["item-09", "item-13"], "offset": 2.0},
    ],
    "bury": [{"min_price": 40, "offset": 0.7}, {"categories": ["genre-1"], "factor": 0.8}],
    "block": [{"items": ["item-11"]}, {"categories": ["genre-3"], "max_price": 20}],
}


@pytest.fixture
def pipeline(contents: BundleContents) -> Pipeline:
    return Pipeline(contents)


def under(pipeline: Pipeline, **rules: Any) -> Pipeline:
    return pipeline.with_rules(BusinessRules.model_validate(rules))


def expected(contents: BundleContents, scores: dict[str, float], k: int) -> list[str]:
    """`SEVERAL` by hand: scores of all items → the answer."""
    catalogue = {row["item_id"]: row for row in contents.catalogue.iter_rows(named=True)}
    found = {}
    for item, score in scores.items():
        genre, price = catalogue[item]["category"], catalogue[item]["price"]
        if item == "item-11" or (genre == "genre-3" and price <= 20):
            continue
        factor = 1.5 * 0.8 if genre == "genre-1" else 1.0
        moved = score * factor if score > 0 else score / factor
        moved += 2.0 * (item in ("item-09", "item-13")) - 0.7 * (price >= 40)
        found[item] = moved
    order = sorted(found, key=lambda item: -found[item])
    order = [item for item in order if item not in ("item-07", "item-50")]
    order.insert(0, "item-50")
    order.insert(2, "item-07")
    return order[:k]


@pytest.mark.parametrize("rerank", [False, True])
def test_rules_rank_as_if_every_item_had_been_scored(
    pipeline: Pipeline, contents: BundleContents, rerank: bool
) -> None:
    everything = pipeline.recommend("user-01", k=60, rerank=rerank, exclude_seen=False)
    scores = {one.item_id: one.score for one in everything}
    ruled = under(pipeline, **SEVERAL)
    for k in (3, 10, 45):
        found = ruled.recommend("user-01", k=k, rerank=rerank, exclude_seen=False)
        assert [one.item_id for one in found] == expected(contents, scores, k)
        assert [one.rank for one in found] == list(range(1, k + 1))
    said = {one.item_id: one.rule for one in found}
    assert (said["item-50"], said["item-07"], said["item-13"]) == ("pinned", "pinned", "buried")
    names = dict(contents.catalogue.select("item_id", "category").iter_rows())
    assert all(said[item] == "buried" for item in said if names[item] == "genre-1")
    assert {said[item] for item in said} == {None, "pinned", "buried"}
    assert all(one.rule is None for one in everything)


def test_boosts_and_blocks_say_what_they_did(pipeline: Pipeline) -> None:
    last = pipeline.recommend("user-01", k=57)[-1]
    boosted = under(pipeline, boost=[{"items": [last.item_id], "offset": 100}])
    first = boosted.recommend("user-01", k=1)[0]
    assert (first.item_id, first.rule) == (last.item_id, "boosted")
    assert first.score == pytest.approx(last.score + 100)
    assert first.retrieval_score == pytest.approx(last.score)
    blocked = under(pipeline, block=[{"categories": ["genre-0", "genre-1", "genre-2"]}])
    assert {int(one.item_id[-2:]) % 4 for one in blocked.recommend("user-01", k=60)} == {3}
    assert {int(one.item_id[-2:]) % 4 for one in blocked.similar_items("item-01", k=60)} == {3}
    nothing = under(pipeline, block=[{"min_price": 0}])
    assert nothing.recommend("user-01", k=5) == []


def test_pins_obey_filters_history_stock_and_the_length_of_the_answer(pipeline: Pipeline) -> None:
    plain = [one.item_id for one in pipeline.recommend("user-01", k=60)]
    pin, seen = plain[30], f"item-{pipeline.contents.histories.row(1)[0]:02}"
    pins = [{"item": pin, "position": 2}, {"item": seen, "position": 1}]
    ruled = under(pipeline, pin=[*pins, {"item": plain[0], "position": 50}])
    found = ruled.recommend("user-01", k=4)  # seen items are not pinned, nor is what lies behind
    assert [(one.item_id, one.rule) for one in found] == [
        (plain[0], None),
        (pin, "pinned"),
        (plain[1], None),
        (plain[2], None),
    ]
    assert [one.rule for one in ruled.recommend("user-01", k=60)].count("pinned") == 2
    category = pipeline.items.names[pipeline.items.categories.rows[int(pin[-2:])]]
    other = ruled.recommend("user-01", k=4, filters=Filters(not_categories=(category,)))
    assert pin not in [one.item_id for one in other]
    gone = ruled.with_items(ruled.items.with_availability({pin: False}))
    assert pin not in [one.item_id for one in gone.recommend("user-01", k=60)]
    capped = ruled.recommend("user-01", k=4, filters=Filters(max_per_category=1))
    assert capped[1].item_id == pin
    codes = [int(one.item_id[-2:]) % 4 for one in capped]
    assert len(set(codes)) == len(codes) == 4


def test_popular_items_are_ruled_too(pipeline: Pipeline) -> None:
    plain = pipeline.popular(60)
    ruled = under(
        pipeline,
        pin=[{"item": plain[40].item_id, "position": 2}],
        boost=[{"items": [plain[5].item_id], "offset": 1000}],
        block=[{"items": [plain[0].item_id]}],
    )
    found = ruled.popular(3)
    assert [(one.item_id, one.rule) for one in found] == [
        (plain[5].item_id, "boosted"),
        (plain[40].item_id, "pinned"),
        (plain[1].item_id, None),
    ]


def test_rules_for_items_that_come_later(pipeline: Pipeline) -> None:
    ruled = under(pipeline, pin=[{"item": "N1", "position": 1}], block=[{"items": ["N2", "N1"]}])
    assert ruled.rules is not None
    assert ruled.rules.unknown == ("N1", "N2")
    assert ruled.recommend("user-01", k=5) == pipeline.recommend("user-01", k=5)
    assert ruled.without_changes().rules is not None
    assert ruled.with_rules(None).recommend("user-01", k=5) == pipeline.recommend("user-01", k=5)


TOML = """
[[pin]]
item = "item-03"
position = 1

[[boost]]
where = { brand = "Lumen" }
factor = 1.2
"""


def test_a_file_in_toml_and_json(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(TOML)
    rules = read_rules(tmp_path / "rules.toml")
    (tmp_path / "rules.json").write_text(rules.model_dump_json(by_alias=True))
    assert read_rules(tmp_path / "rules.json") == rules
    message = r"business rules: boost.0: unknown column 'brand' in filters; the bundle has: none"
    with pytest.raises(InputError, match=message):
        pipeline.with_rules(rules)
    (tmp_path / "rules.toml").write_text(TOML.replace('where = { brand = "Lumen" }', "min_price=1"))
    recommender = Recommender(pipeline).with_rules(tmp_path / "rules.toml")
    assert recommender.recommend(history=["item-09"], k=3)[0].item_id == "item-03"
    assert recommender.with_rules(None).recommend(history=["item-09"], k=3)[0].rule is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pin = [", "cannot be read"),
        ("[[pinned]]", "pinned: unknown key"),
        (
            '[[pin]]\nitem = "a"\nposition = 0',
            "pin.0.position: .*equal to 1, got 0",
        ),
        ('[[boost]]\nitems = ["a"]', "boost.0: give either a factor or an offset"),
        ('[[boost]]\nitems = ["a"]\nfactor = 0.5', "boost.0.factor: .*greater than 1, got 0.5"),
        ('[[bury]]\nitems = ["a"]\nfactor = 1.5', "bury.0.factor: .*less than 1, got 1.5"),
        ("[[bury]]\nfactor = 0.5", "bury.0: a rule without items or conditions"),
        ("[[block]]\ncolour = 'red'", "block.0.colour: unknown key, got 'red'"),
        (
            '[[pin]]\nitem = "a"\nposition = 1\n[[pin]]\nitem = "b"\nposition = 1',
            "rules.toml: position 1 is pinned twice",
        ),
    ],
)
def test_each_mistake_in_a_file_is_a_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_rules(tmp_path / "rules.toml")
    assert "\n" not in str(caught.value)


def test_unknown_categories_are_refused(pipeline: Pipeline) -> None:
    with pytest.raises(InputError, match=r"business rules: boost.0: unknown category 'genre-9'"):
        under(pipeline, boost=[{"categories": ["genre-9"], "factor": 2}])


def test_groups_are_few(contents: BundleContents) -> None:
    """Rules that overlap make as many groups as there are weights, not as there are rules."""
    rules = [{"items": [f"item-{item:02}"], "factor": 2.0} for item in range(40)]
    ruled = under(Pipeline(contents), boost=rules).rules
    assert ruled is not None
    assert ruled.weights.tolist() == [[1, 0], [2, 0]]
    assert np.bincount(ruled.group).tolist() == [20, 40]
