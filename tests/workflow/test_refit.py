from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from twotower.data import Dataset, Part
from twotower.data.splits import Random, random_parts
from twotower.errors import ArtefactError
from twotower.factors.ease import EASE
from twotower.factors.item_knn import ItemKNN
from twotower.inference import Pipeline
from twotower.workflow.models import train_variant, trained_model
from twotower.workflow.refit import refit, refit_blend, refit_folder
from twotower.workflow.reranking import EASE_LINKS, fitted_blend
from twotower.workflow.run import run


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def evaluated(cache: None, blocks: Dataset, small_variants: Any) -> Any:
    return train_variant(small_variants["v9"], blocks, seed=3)


def test_a_refit_has_learned_from_every_interaction(evaluated: Any, blocks: Dataset) -> None:
    # Item 0 is met in the held-out parts alone: the evaluated model has no factor for it.
    split = np.where(blocks.interactions.items == 0, Part.TEST, blocks.split).astype(np.uint8)
    dataset = replace(blocks, split=split)
    evaluated = train_variant(evaluated.variant, dataset, seed=3)
    assert not evaluated.module.factors[0].any()
    shipped = refit("v9", evaluated, dataset)
    assert shipped.module.factors[0].any()
    assert shipped.module.item_ids[1] == 1  # known by an id of its own


def test_what_validation_chose_is_kept(evaluated: Any, blocks: Dataset) -> None:
    evaluated.state.best_epoch = 0
    for name, value in (("factor_weight", 3.5), ("cold_scale", 0.25)):
        getattr(evaluated.module, name).fill_(value)
    shipped = refit("v9", evaluated, blocks)
    assert float(shipped.module.factor_weight) == 3.5
    assert float(shipped.module.cold_scale) == 0.25
    assert len(shipped.state.epochs) == 1
    assert shipped.state.epochs[0].metric is None
    assert shipped.state.planned_epochs == evaluated.state.planned_epochs
    assert shipped.state.most_epochs == 1  # progress counts these
    assert shipped.metric is None


def test_a_refit_is_a_function_of_data_and_seed(evaluated: Any, blocks: Dataset) -> None:
    first, second = (refit("v9", evaluated, blocks).module.state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_model_of_items_drawn_at_random_reads_no_order_and_neither_does_its_refit(
    cache: None, blocks: Dataset, small_variants: Any
) -> None:
    assert blocks.in_order
    parts = random_parts(blocks.interactions.indptr, Random())
    drawn = replace(blocks, split=parts)
    assert not drawn.in_order
    small = small_variants["v10"]
    variant = small.vary(sizing="by-log", model=small.model.vary(choose_factors=False))
    for dataset in (drawn, blocks):
        trained = train_variant(variant, dataset)
        shipped = refit("v10", trained, dataset)
        for module in (trained.module, shipped.module):
            assert module.in_order is module.config.in_order is dataset.in_order
            assert (module.gaps is not None) is dataset.in_order  # the log has times


def test_a_refit_goes_on_where_it_was_stopped(
    evaluated: Any, blocks: Dataset, tmp_path: Path
) -> None:
    class StoppedError(Exception):
        pass

    class Stopping:
        """Reports like `Silent`, and stops training after its first epoch."""

        def __getattr__(self, name: str) -> Any:
            from twotower.workflow.progress import Silent

            return getattr(Silent(), name)

        def training(self, label: str) -> Any:
            def progress(state: Any, steps: int, _: float) -> None:
                if state.epoch == 1 and state.step == 1:
                    raise StoppedError

            return progress

    variant = evaluated.variant
    evaluated = train_variant(
        variant.vary(training=variant.training.vary(checkpoint_seconds=0.0)), blocks, seed=3
    )
    evaluated.state.best_epoch = 1
    whole = refit("v9", evaluated, blocks)
    with pytest.raises(StoppedError):
        refit("v9", evaluated, blocks, tmp_path / "seed-3-refit", reporter=Stopping())  # type: ignore[arg-type]
    assert not (tmp_path / "seed-3-refit").exists()
    resumed = refit("v9", evaluated, blocks, tmp_path / "seed-3-refit")
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name
    assert not list(tmp_path.glob(".*-checkpoint"))
    found = refit("v9", evaluated, blocks, tmp_path / "seed-3-refit")
    assert torch.equal(found.module.factors, whole.module.factors)


def test_a_refit_of_other_settings_is_refused(
    evaluated: Any, blocks: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "seed-3"
    trained_model(evaluated.variant, blocks, folder, name="v9", seed=3)
    refit("v9", evaluated, blocks, refit_folder(folder))
    other = replace(evaluated, seed=4)
    with pytest.raises(ArtefactError, match=r"seed-3-refit holds a refit of other settings"):
        refit("v9", other, blocks, refit_folder(folder))


@pytest.mark.parametrize("wanted", [True, False])
def test_the_manifest_names_what_the_bundle_was_fitted_on(
    wanted: bool, small_models: None, shop: Path, tmp_path: Path
) -> None:
    result = run(shop, tmp_path / "run", models=["v9"], text_encoder="hashing", refit=wanted)
    assert result.bundle is not None
    info = Pipeline.load(result.bundle).contents.info
    assert info.fitted_on == ("all" if wanted else "train")
    rows = [row for row in result.rows if (row.model, row.protocol) == ("v9", "full")]
    measured = {row.metric: row.value for row in rows}
    assert info.metrics["NDCG@10"] == measured["NDCG@10"]  # of the evaluated model, both times
    assert (tmp_path / "run" / "models" / "v9" / "seed-0-refit").exists() == wanted


def test_the_second_stage_keeps_what_was_chosen_for_it(evaluated: Any, blocks: Dataset) -> None:
    """Weights that were fitted to EASE's links mean nothing for those of item-kNN."""
    found = fitted_blend(evaluated, blocks)
    assert found is not None
    for by_ease in (False, True):
        chosen = replace(found, by_ease=by_ease, recency=0.7, transition_recency=0.3)
        again = refit_blend(chosen, evaluated, blocks)
        assert (again.by_ease, again.recency, again.transition_recency) == (by_ease, 0.7, 0.3)
        np.testing.assert_array_equal(again.weights, found.weights)
        assert again.earlier.half_life == found.earlier.half_life > 0
        assert len(again.earlier.items) == len(blocks.interactions.items)
        np.testing.assert_array_equal(again.trend, again.earlier.at_end(len(blocks.items)))
        everything, count = blocks.interactions, len(blocks.items)
        fitted = (
            EASE.fit(everything, count, links=EASE_LINKS)
            if by_ease
            else ItemKNN.fit(everything, count)
        )
        np.testing.assert_array_equal(again.neighbours.weights, fitted.similarity.data)
