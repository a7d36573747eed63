import copy
import time
from dataclasses import asdict
from typing import Any

import pytest
import torch

from twotower.data import Dataset
from twotower.errors import TwoTowerError
from twotower.models.base import RetrievalModule
from twotower.models.build import build_model
from twotower.training.examples import Examples
from twotower.training.fit import fit
from twotower.training.negatives import Uniform
from twotower.training.progress import EpochRecord, TrainingState
from twotower.training.sequences import SequenceExamples
from twotower.training.trainer import TrainingConfig, _step_size, train


class Scripted:
    """Gives one metric after another, and keeps the weights that each was given for."""

    def __init__(self, *metrics: float) -> None:
        self.metrics = metrics
        self.weights: list[dict[str, torch.Tensor]] = []
        self.modes: list[bool] = []

    def __call__(self, module: RetrievalModule) -> float:
        self.weights.append(copy.deepcopy(module.state_dict()))
        self.modes.append(module.training)
        return self.metrics[len(self.weights) - 1]


def trained(variant: Any, blocks: Dataset, validate: Any, **given: Any) -> Any:
    settings = {name: value for name, value in given.items() if name in TrainingConfig.model_fields}
    rest = {name: value for name, value in given.items() if name not in settings}
    training = variant.training.vary(**settings)
    return fit(variant.vary(training=training), blocks, validate=validate, **rest)


@pytest.mark.parametrize("with_checkpoint", [False, True])
def test_early_stopping_keeps_the_best_weights(
    with_checkpoint: bool, blocks: Dataset, small_variants: Any, tmp_path: Any
) -> None:
    validate = Scripted(0.1, 0.3, 0.2, 0.3, 0.25, 0.9)
    checkpoint = tmp_path / "run" if with_checkpoint else None
    found = trained(
        small_variants["mf"], blocks, validate, epochs=20, patience=3, checkpoint=checkpoint
    )
    state = found.state
    assert len(validate.weights) == 5  # an equal metric is not a better one
    assert not any(validate.modes)
    assert (state.best_epoch, state.best_metric, state.finished) == (1, 0.3, True)
    assert [record.metric for record in state.epochs] == [0.1, 0.3, 0.2, 0.3, 0.25]
    for name, value in found.module.state_dict().items():
        assert torch.equal(value, validate.weights[1][name])
        assert not torch.equal(value, validate.weights[4][name])


def test_a_gain_that_is_too_small_does_not_renew_the_patience(
    blocks: Dataset, small_variants: Any
) -> None:
    validate = Scripted(0.100, 0.102, 0.106, 0.108, 0.109, 0.9)
    state = trained(
        small_variants["mf"], blocks, validate, epochs=20, patience=2, least_gain=0.05
    ).state
    # 0.106 is 6% above 0.100; neither 0.108 nor 0.109 is 5% above 0.106.
    assert [record.metric for record in state.epochs][-1] == 0.109
    assert (state.best_epoch, state.best_metric, state.finished) == (4, 0.109, True)


def test_a_better_metric_renews_the_patience(blocks: Dataset, small_variants: Any) -> None:
    validate = Scripted(0.1, 0.05, 0.2, 0.05, 0.3, 0.2, 0.1)
    state = trained(small_variants["mf"], blocks, validate, epochs=7, patience=2).state
    assert len(state.epochs) == 7
    assert state.best_epoch == 4


@pytest.mark.parametrize(
    ("popularity", "last"), [(None, 0.1), (0.05, 0.1), (0.09, 0.18), (0.12, 0.18)]
)
def test_a_model_not_clearly_above_popularity_is_given_longer(
    popularity: float | None, last: float, blocks: Dataset, small_variants: Any
) -> None:
    validate = Scripted(0.1, 0.08, 0.1, 0.09, 0.2, 0.19, 0.18, 0.9)
    state = trained(
        small_variants["mf"], blocks, validate, popularity=popularity, epochs=20, patience=2,
        patience_at_first=4,
    ).state  # fmt: skip
    assert state.finished
    assert state.epochs[-1].metric == last


def test_the_earliest_end_moves_on_with_every_gain(blocks: Dataset, small_variants: Any) -> None:
    """Ten steps an epoch: a validation after every third."""
    ends: list[int | None] = []

    def progress(state: TrainingState, steps: int, _: float) -> None:
        if state.step in (1, 0):
            ends.append(state.earliest_end)

    validate = Scripted(0.1, 0.2, 0.1, 0.1)
    settings: dict[str, Any] = {"epochs": 50, "patience": 2, "validate_steps": 25}
    found = trained(small_variants["mf"], blocks, validate, progress=progress, **settings)
    assert len(found.state.epochs) == 12
    by_epoch = [ends[place] for place in range(0, len(ends), 2)]
    assert by_epoch == [9, 9, 9, 9, 9, 9, 12, 12, 12, 12, 12, 12]


@pytest.mark.parametrize(
    ("validate_steps", "expected"),
    # 600 training events in batches of 64 are 10 steps an epoch.
    [(1, [0, 1, 2, 3, 4, 5, 6]), (10, [0, 1, 2, 3, 4, 5, 6]), (25, [2, 5, 6]), (1000, [6])],
)
def test_validations_come_after_enough_steps_and_at_the_end(
    validate_steps: int, expected: list[int], blocks: Dataset, small_variants: Any
) -> None:
    validate = Scripted(*(step / 10 for step in range(7)))
    state = trained(
        small_variants["mf"], blocks, validate, epochs=7, validate_steps=validate_steps
    ).state
    assert [record.epoch for record in state.epochs if record.metric is not None] == expected
    assert state.best_epoch == 6


def test_progress_is_told_of_every_step_and_epoch(blocks: Dataset, small_variants: Any) -> None:
    told: list[tuple[int, int]] = []

    def progress(state: TrainingState, steps: int, examples_per_second: float) -> None:
        assert steps == 10
        assert examples_per_second > 0
        told.append((state.epoch, state.step))

    state = trained(small_variants["mf"], blocks, lambda _: 1.0, progress=progress).state
    expected = [(epoch, step) for epoch in range(2) for step in range(1, 11)]
    assert [one for one in told if one[1]] == expected
    assert [one for one in told if not one[1]] == [(1, 0), (2, 0)]
    assert [record.examples for record in state.epochs] == [600, 600]


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_stops_training(
    value: str, blocks: Dataset, small_variants: Any
) -> None:
    module = build_model(small_variants["mf"].model, blocks)
    examples = Examples(blocks.train, Uniform().fit(blocks.train, 40), 64, 0)
    steps = iter(range(100))

    def loss(embeddings: Any) -> Any:
        bad = float(value) if next(steps) == 13 else 1.0
        return embeddings.query.square().sum() * bad

    with pytest.raises(
        TwoTowerError,
        match=rf"^loss is {value} at epoch 2, step 4; "
        r"lower the learning rate, or check the features for extreme values$",
    ):
        train(module, examples, loss, TrainingConfig(epochs=3), validate=lambda _: 1.0)


def test_state_survives_json() -> None:
    import json

    state = TrainingState("ab", 3, 1, 0.25, 1.5, 0.1, 2, epochs=[EpochRecord(0, 0.5, 2.0, 64)])
    assert TrainingState.from_json(json.loads(json.dumps(asdict(state)))) == state


def test_the_seed_of_the_caller_does_not_matter(blocks: Dataset, small_variants: Any) -> None:
    runs = []
    for outside in (1, 2):
        torch.manual_seed(outside)
        runs.append(trained(small_variants["mf"], blocks, lambda _: 1.0).module.state_dict())
    for name, value in runs[0].items():
        assert torch.equal(value, runs[1][name])


@pytest.mark.parametrize("with_checkpoint", [False, True])
def test_the_average_of_the_weights_is_validated_and_kept(
    with_checkpoint: bool, blocks: Dataset, small_variants: Any, tmp_path: Any
) -> None:
    steps: list[dict[str, torch.Tensor]] = []
    validate = Scripted(0.1, 0.3, 0.2)
    variant = small_variants["v9"]
    training = variant.training.vary(epochs=3, patience=None, average=0.8, batch_size=20)
    text = torch.nn.functional.normalize(torch.randn(40, 16), dim=-1).numpy()
    module = build_model(variant.model.vary(factors=None), blocks, text)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    examples = SequenceExamples(
        blocks.train, variant.negatives.fit(blocks.train, 40), 20, 0, length=5
    )

    def progress(state: TrainingState, _: int, __: float) -> None:
        if state.step:
            steps.append(copy.deepcopy(dict(module.named_parameters())))

    train(
        module, examples, variant.loss, training, validate=validate,
        checkpoint=tmp_path / "run" if with_checkpoint else None, progress=progress,
    )  # fmt: skip
    expected = {name: value.double() for name, value in before.items()}
    for number, weights in enumerate(steps[: 2 * examples.steps], start=1):
        decay = min(0.8, (1 + number) / (10 + number))
        for name, value in weights.items():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach().double()
    assert len(steps) == 3 * examples.steps == 9
    for name, value in module.named_parameters():
        assert torch.equal(value, validate.weights[1][name])
        torch.testing.assert_close(value.double(), expected[name], atol=1e-5, rtol=1e-4)


def test_the_step_size_warms_up(blocks: Dataset, small_variants: Any) -> None:
    config = TrainingConfig(epochs=3, learning_rate=0.1, warmup_steps=4)
    state = TrainingState("", planned_epochs=3)
    sizes = []
    for state.epoch, state.step in [(0, 0), (0, 3), (1, 1), (2, 0)]:
        sizes.append(_step_size(config, state, 3))
    assert sizes == pytest.approx([0.02, 0.08, 0.1, 0.1])


def test_the_step_size_is_at_nothing_when_the_time_is_over() -> None:
    """By the epochs, or by the seconds that went, whichever is further; both are checkpointed."""
    config = TrainingConfig(epochs=4, learning_rate=0.1, schedule="cosine", minutes=1)
    state = TrainingState("", planned_epochs=4, most_seconds=60)

    def size(epoch: int, step: int, seconds: float) -> float:
        state.epoch, state.step, state.seconds = epoch, step, seconds
        return _step_size(config, TrainingState.from_json(asdict(state)), 10)

    assert [size(0, 0, 0), size(2, 0, 10)] == pytest.approx([0.1, 0.05])
    assert [size(0, 5, 30), size(0, 9, 60)] == pytest.approx([0.05, 0])


class Clock:
    """Each reading is a second later than the one before."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_a_limit_of_time_ends_training_within_an_epoch(
    blocks: Dataset, small_variants: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step takes a second; what has been trained by then is validated and may be the best."""
    monkeypatch.setattr(time, "perf_counter", Clock())
    whole = trained(small_variants["mf"], blocks, Scripted(0.1), epochs=1, batch_size=32)
    steps = round(whole.state.spent)
    assert steps > 4
    seconds = steps + 3
    validate = Scripted(0.1, 0.2, 0.3)
    limited = trained(
        small_variants["mf"], blocks, validate, epochs=20, batch_size=32, minutes=seconds / 60
    ).state
    assert [record.seconds for record in limited.epochs] == [steps, 3]
    assert [record.metric for record in limited.epochs] == [0.1, 0.2]
    assert limited.epochs[1].examples == pytest.approx(
        limited.epochs[0].examples * 3 / steps, abs=1
    )
    assert (limited.best_epoch, limited.finished) == (1, True)


def test_a_refit_takes_as_long_as_the_model_took_to_its_best(
    blocks: Dataset, small_variants: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "perf_counter", Clock())
    given = {"epochs": 20, "batch_size": 32, "minutes": 0.5}
    found = trained(small_variants["mf"], blocks, Scripted(0.3, *[0.1] * 20), **given)
    again = trained(
        small_variants["mf"], blocks.with_all_in_train(), None, evaluated=found, **given
    )
    assert again.state.spent == found.state.epochs[0].seconds


def test_an_interrupted_training_keeps_to_its_limit(
    blocks: Dataset, small_variants: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seconds of before the interruption count."""
    monkeypatch.setattr(time, "perf_counter", Clock())
    given = {"batch_size": 32, "minutes": 15 / 60, "checkpoint_seconds": 0, "epochs": 20}

    def stop(state: TrainingState, steps: int, speed: float) -> None:
        del steps, speed
        if state.spent == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(
            small_variants["mf"], blocks, Scripted(*[0.1] * 20), progress=stop,
            checkpoint=tmp_path / "run", **given,
        )  # fmt: skip
    found = trained(
        small_variants["mf"], blocks, Scripted(*[0.1] * 20), checkpoint=tmp_path / "run", **given
    )
    assert found.state.spent == 15
