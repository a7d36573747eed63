from typing import Any

import pytest

from twotower.errors import InputError
from twotower.evaluation.merge_results import kept_results
from twotower.evaluation.results import Absent, Difference, Earlier, Meta, Results, Row

FIRST, SECOND = (
    Meta(
        command="twotower ablate",
        commit=commit,
        machine="a machine",
        threads=2,
        started="2025-01-01T00:00:00+00:00",
        wall_seconds=1.5,
        peak_memory_mb=100,
        packages={},
    )
    for commit in ("aaa", "bbb")
)


def row(model: str, value: float = 0.1, **others: Any) -> Row:
    fields = {"dataset": "toy", "split": "s", "protocol": "full", "metric": "HR@10", "users": 9}
    return Row(model=model, value=value, **{**fields, **others})


def difference(model: str, parent: str) -> Difference:
    return Difference(
        dataset="toy", split="s", model=model, parent=parent, protocol="full", metric="HR@10",
        value=0.1, low=0.0, high=0.2, p=0.01, p_corrected=0.02, verdict="helps",
        seeds=[0], parent_seeds=[0], users=9,
    )  # fmt: skip


OLD = Results(
    meta=FIRST,
    rows=[row("popularity"), row("v1"), row("v4"), row("v9")],
    differences=[difference("v4", "v1")],
    absent=[Absent(dataset="toy", model="v7", reason="no images")],
    models={"v1": "features", "v9": "the default"},
)


def test_other_models_keep_their_figures_and_provenance() -> None:
    kept = kept_results(OLD, [row("v9", 0.2)], {"v9"})
    assert [one.model for one in kept.rows] == ["popularity", "v1", "v4"]
    assert kept.differences == OLD.differences
    assert kept.absent == OLD.absent
    assert kept.models == {"v1": "features"}
    assert kept.earlier == [Earlier(meta=FIRST, models=["popularity", "v1", "v4"])]


def test_a_difference_to_a_model_measured_again_is_dropped() -> None:
    assert not kept_results(OLD, [row("v1")], {"v1", "v7"}).differences
    assert not kept_results(OLD, [row("v1")], {"v1", "v7"}).absent


def test_a_merged_file_can_be_merged_again() -> None:
    kept = kept_results(OLD, [row("v9")], {"v9"})
    second = Results(meta=SECOND, rows=[*kept.rows, row("v9", 0.2)], earlier=kept.earlier)
    again = kept_results(second, [row("v1")], {"v1"})
    assert again.earlier == [
        Earlier(meta=FIRST, models=["popularity", "v4"]),
        Earlier(meta=SECOND, models=["v9"]),
    ]
    last = kept_results(second, [row("v9")], {"v9"})
    assert last.earlier == [Earlier(meta=FIRST, models=["popularity", "v1", "v4"])]


@pytest.mark.parametrize("other", [{"users": 8}, {"dataset": "shop"}, {"split": "t"}])
def test_figures_of_other_queries_are_refused(other: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="popularity was measured on 9 queries of toy, s, full"):
        kept_results(OLD, [row("v9", **other)], {"v9"})


def test_another_protocol_may_have_other_queries_of_the_same_data() -> None:
    assert kept_results(OLD, [row("v9", protocol="new-users", users=3)], {"v9"}).rows
    with pytest.raises(InputError, match="9 queries of toy, s, full"):
        kept_results(OLD, [row("v9", protocol="new-users", dataset="shop")], {"v9"})
