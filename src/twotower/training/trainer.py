"""Training loop with early stopping and exact resume.

It is the only one: nothing else calls `backward`, `step` or `zero_grad`.
"""

import copy
import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from twotower.config import Config
from twotower.errors import ArtefactError, InputError, TwoTowerError
from twotower.models.base import Embeddings, RetrievalModule
from twotower.training.averaging import WeightAverage
from twotower.training.checkpoints import load_tensors, read_state, save_checkpoint
from twotower.training.collectives import Ranks, ranks
from twotower.training.examples import ExampleSource, Sampling
from twotower.training.negatives import LiveNegatives
from twotower.training.progress import Progress, TrainingState
from twotower.training.row_adam import RowAdam

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricModule, _FabricOptimizer

Schedule = Literal["constant", "cosine"]

_LEARNED: Final = 1.5
"""Multiple of the popularity baseline's metric that shows that a model has learned more than
popularity: with some thousand validation users, up to a third above it is within chance."""


class TrainingConfig(Config):
    """How a model is trained."""

    epochs: int = Field(20, ge=1)
    """Most passes over the training part."""
    least_steps: int = Field(0, ge=0)
    """Fewest steps planned: a small log gets more epochs than ``epochs``."""
    batch_size: int = Field(2048, ge=1)
    """Examples in a step; users for models trained on whole sequences."""
    batch_positions: int | None = Field(None, ge=1)
    """For such models, predictions in a step, instead of ``batch_size``: every item of a history
    is then predicted, in windows, not only the most recent. See `SequenceExamples`."""
    learning_rate: float = Field(1e-3, gt=0)
    """Adam's step size."""
    schedule: Schedule = "constant"
    """Learning-rate schedule over all epochs: ``constant``, or ``cosine`` decay to 0 (Loshchilov
    and Hutter, *SGDR*, ICLR 2017). If ``minutes`` end training before the epochs do, it reaches 0
    at that time."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the learning rate rises linearly from 0."""
    average: float | None = Field(None, gt=0, lt=1)
    """Decay of the moving average of the weights, which is validated and kept instead of the
    current weights: see `WeightAverage`. None keeps the weights themselves."""
    minutes: float | None = Field(None, gt=0)
    """Time limit in minutes, after which the best weights so far are kept. It includes the search
    for least-squares settings, which may take half of it, but not validations. A refit takes as
    long as the evaluated model took to reach its best. None for no limit."""
    sampling: Sampling = "interactions"
    """How an epoch samples interactions: see `Examples`."""
    patience: int | None = Field(3, ge=1)
    """Validations without a better metric before early stopping; None never stops early, as a
    schedule that decays to 0 needs: its last epochs are its best."""
    patience_at_first: int = Field(1, ge=1)
    """Minimum of `patience` until a validation is clearly better than the popularity baseline: a
    model may know only popularity for hundreds of steps before its metric rises."""
    least_gain: float = Field(0.0, ge=0)
    """Relative gain of the metric that resets ``patience``. The best weights are kept, however
    small their gain."""
    validation_users: int | None = Field(None, ge=1)
    """Most users per validation, always the same ones; None for all users."""
    towers_alone: bool = False
    """Whether validations during training leave out a model's least-squares part, which hides what
    the towers learn."""
    validate_steps: int = Field(50, ge=1)
    """Fewest steps between validations, which take place at the end of epochs: on a small log one
    epoch is too short."""
    checkpoint_seconds: float = Field(60.0, ge=0)
    """Least time between two checkpoints within an epoch; every epoch ends with one."""
    accelerator: str = "cpu"
    """Where to train, as Lightning Fabric names it: ``cpu``, ``cuda``, ``mps``, ``auto``."""
    precision: str = "32-true"
    """Numeric precision, as Lightning Fabric names it."""


def train(
    module: RetrievalModule,
    examples: ExampleSource,
    loss: Callable[[Embeddings], Tensor],
    config: TrainingConfig,
    *,
    validate: Callable[[RetrievalModule], float] | None,
    popularity: float | None = None,
    stop_after: int | None = None,
    most_seconds: float | None = None,
    negatives: LiveNegatives | None = None,
    seed: int = 0,
    fingerprint: str = "",
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> TrainingState:
    """Train ``module`` in place and leave it with the weights of its best validation.

    Parameters
    ----------
    validate
        Higher is better; called with the module in eval mode at the end of an epoch, once
        ``validate_steps`` steps have passed since the last time. It decides early stopping and
        the best weights. With None nothing is validated, and the last weights are kept.
    popularity
        The same metric of the popularity baseline, see `TrainingConfig.patience_at_first`; None if
        unknown.
    stop_after
        Epochs after which training ends, however many are planned for the schedule.
    most_seconds
        Seconds of steps after which training ends, even within an epoch; None for no limit. The
        weights at that time are validated.
    negatives
        Negatives that depend on the model, in addition to those of the examples.
    seed
        Batches and dropout are functions of the seed and the position alone.
    fingerprint
        Hash of what the run depends on (data, config); a checkpoint of another run is refused.
    checkpoint
        Folder for checkpoints. Training resumes from one found there, and ends with the weights of
        an uninterrupted run. Several processes (see `twotower.training.collectives`) read the same
        folder, and the first one writes it; their number may change on resume.

    Raises
    ------
    TwoTowerError
        Where the loss is not finite.
    ArtefactError
        Where the checkpoint is broken or of another run.
    """
    run = _Run.of(module, negatives or LiveNegatives(), config, checkpoint)
    adam, processes, fabric = run.adam, run.processes, run.fabric
    epochs = _planned_epochs(config, examples)
    best = copy.deepcopy(module.state_dict())
    state = run.resumed(fingerprint) or TrainingState(fingerprint, epochs)
    state.most_seconds, state.popularity = most_seconds, popularity
    state.last_epoch = None if stop_after is None else min(epochs, stop_after)
    state.earliest_end = None if validate is None else _earliest_end(state, config, examples.steps)
    wrapped, optimiser = run.on_device()
    saved = time.monotonic()
    while state.epoch < state.most_epochs and not state.finished:
        module.train()
        while state.step < examples.steps:
            begun = time.perf_counter()
            torch.manual_seed(  # dropout
                _position_seed(seed, state.epoch, state.step) + processes.rank
            )
            module.before_step(state.epoch * examples.steps + state.step)
            own = processes.part(examples.batch(state.epoch, state.step))
            batch = fabric.to_device(own.batch)
            batch = run.negatives.before(batch, module, state.epoch, state.step)
            embedded = processes.gathered(run.negatives.after(wrapped(batch), state.epoch), own)
            value = own.share * loss(embedded)
            size = partial(_step_size, config, state, examples.steps)
            for group in optimiser.param_groups:  # by the clock of the first process, if by any
                group["lr"] = size() if most_seconds is None else processes.of_first(size)
            optimiser.zero_grad()
            fabric.backward(value)
            processes.sum_gradients(module)
            optimiser.step()
            if run.average is not None:
                adam.settle()
                run.average.update(module, state.epoch * examples.steps + state.step + 1)
            state.loss_sum += _finite(processes.add_up(value.detach()).item(), state)
            state.step += 1
            state.seconds += time.perf_counter() - begun
            if progress is not None:
                progress(state, examples.steps, state.step * examples.batch_size / state.seconds)
            if time.monotonic() - saved > config.checkpoint_seconds:
                run.save("last", state)
                saved = time.monotonic()
            if most_seconds is not None and processes.of_first(lambda: state.out_of_time):
                state.finished = True
                break
        adam.settle()
        record = state.end_epoch(round(state.step / examples.steps * examples.size))
        if validate is not None and _is_due(state, config, examples.steps):
            best = _validated(run, state, validate, config, examples.steps) or best
        if progress is not None:
            progress(state, examples.steps, record.examples / record.seconds)
        run.save("last", state)
        saved = time.monotonic()
    if validate is None:
        best = run.judged_weights()
    adam.release()
    processes.wait()
    if checkpoint is not None and (checkpoint / "best").exists():
        load_tensors(checkpoint / "best", run.modules, adam)
        best = run.judged_weights()
    module.load_state_dict(best)
    module.cpu().eval()  # what comes after training is NumPy
    return state


@dataclass(frozen=True)
class _Run:
    """The parts of a training run, and the folder of its checkpoints."""

    module: RetrievalModule
    negatives: LiveNegatives
    average: WeightAverage | None
    adam: RowAdam
    processes: Ranks
    fabric: "Fabric"
    checkpoint: Path | None

    @classmethod
    def of(
        cls,
        module: RetrievalModule,
        negatives: LiveNegatives,
        config: TrainingConfig,
        checkpoint: Path | None,
    ) -> Self:
        """The parts of a training with these settings."""
        processes = ranks()
        fabric = _fabric(config, processes, negatives)
        adam = RowAdam(module, config.learning_rate)
        average = None if config.average is None else WeightAverage(module, config.average)
        return cls(module, negatives, average, adam, processes, fabric, checkpoint)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules whose tensors a checkpoint stores."""
        found: dict[str, nn.Module] = {"module": self.module, "negatives": self.negatives}
        return found if self.average is None else {**found, "average": self.average}

    def resumed(self, fingerprint: str) -> TrainingState | None:
        """Load the last checkpoint's tensors and return its state; None without a checkpoint."""
        if self.checkpoint is None or not (self.checkpoint / "last").exists():
            return None
        # Check the fingerprint first: the tensors of another run may not fit.
        state = TrainingState.from_json(read_state(self.checkpoint / "last"))
        if state.fingerprint != fingerprint:
            raise ArtefactError(
                f"checkpoint {self.checkpoint} belongs to another run (fingerprint "
                f"{state.fingerprint[:12]!r}, this run has {fingerprint[:12]!r}); "
                "delete it, or choose another folder"
            )
        load_tensors(self.checkpoint / "last", self.modules, self.adam)
        return state

    def on_device(self) -> "tuple[_FabricModule, _FabricOptimizer]":
        """The module and optimiser as Fabric wraps them; all processes start alike."""
        wrapped, optimiser = self.fabric.setup(self.module, self.adam)
        for part in self.modules.values():
            part.to(self.fabric.device)
            self.processes.same_start(part)
        return wrapped, optimiser

    def save(self, name: str, state: TrainingState) -> None:
        """Write a checkpoint, if there is a folder for it, from the first process only."""
        if self.checkpoint is not None and self.processes.first:
            save_checkpoint(self.checkpoint / name, self.modules, self.adam, asdict(state))

    def judged(self) -> AbstractContextManager[None]:
        """Context in which the module has the weights that are validated and kept."""
        return nullcontext() if self.average is None else self.average.applied(self.module)

    def judged_weights(self) -> dict[str, Any]:
        """A copy of those weights."""
        with self.judged():
            return copy.deepcopy(self.module.state_dict())


def _validated(
    run: _Run,
    state: TrainingState,
    validate: Callable[[RetrievalModule], float],
    config: TrainingConfig,
    steps: int,
) -> dict[str, Any] | None:
    """Validate the epoch that has ended; return its weights if they are the best so far."""
    record = state.epochs[-1]
    state.validated_epoch = state.epoch
    run.module.eval()
    with torch.no_grad(), run.judged():
        record.metric = run.processes.of_first(partial(validate, run.module))
        weights = copy.deepcopy(run.module.state_dict())
    is_best = state.best_metric is None or record.metric > state.best_metric
    if is_best:
        state.best_metric, state.best_epoch = record.metric, record.epoch
        run.save("best", state)
    _wait_or_stop(state, record.metric, config)
    state.earliest_end = _earliest_end(state, config, steps)
    return weights if is_best else None


def _planned_epochs(config: TrainingConfig, examples: ExampleSource) -> int:
    """Most epochs; a source without examples trains nothing."""
    if not examples.steps:
        return 0
    return max(config.epochs, math.ceil(config.least_steps / examples.steps))


def _fabric(config: TrainingConfig, processes: Ranks, negatives: LiveNegatives) -> "Fabric":
    """Device and precision; each of several processes on a machine gets a GPU of its own."""
    # Here, since they import torch's compiler, which takes as long as torch itself.
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    if processes.size > 1 and type(negatives) is not LiveNegatives:
        raise InputError(
            "negatives that the model has a part in, such as a queue, are of one process",
            "train without torchrun, or with negatives that are drawn",
        )
    gpu = int(os.environ.get("LOCAL_RANK", "0")) if processes.size > 1 else None
    return Fabric(
        accelerator=config.accelerator,
        devices=1 if gpu is None or config.accelerator != "cuda" else [gpu],
        precision=config.precision,  # type: ignore[arg-type]
        plugins=[LightningEnvironment()],  # processes are joined already, see `collectives`
    )


def _is_due(state: TrainingState, config: TrainingConfig, steps: int) -> bool:
    """Whether a validation is due at the end of an epoch."""
    unvalidated = (state.epoch - state.validated_epoch) * steps
    enough = unvalidated >= config.validate_steps
    return enough or state.finished or state.epoch == state.most_epochs


def _wait_or_stop(state: TrainingState, metric: float, config: TrainingConfig) -> None:
    """Count validations without a sufficient gain."""
    before = state.patience_metric
    if before is None or metric > before + config.least_gain * abs(before):
        state.patience_metric, state.bad_validations = metric, 0
        return
    state.bad_validations += 1
    patience = _patience(state, config)
    if patience is not None and state.bad_validations >= patience:
        state.finished = True


def _patience(state: TrainingState, config: TrainingConfig) -> int | None:
    """Validations without a gain after which training stops."""
    if config.patience is None or state.popularity is None:
        return config.patience
    learned = state.best_metric is not None and state.best_metric > _LEARNED * state.popularity
    return config.patience if learned else max(config.patience, config.patience_at_first)


def _earliest_end(state: TrainingState, config: TrainingConfig, steps: int) -> int | None:
    """Epochs after which training ends if no validation from now on has a gain."""
    patience = _patience(state, config)
    if patience is None or not steps:
        return None
    first = 1 if state.best_metric is None else 0  # whatever it is, it is the best so far
    validations = first + patience - state.bad_validations
    return state.validated_epoch + validations * math.ceil(config.validate_steps / steps)


def _step_size(config: TrainingConfig, state: TrainingState, steps: int) -> float:
    """Step size at a position; with a time limit, also a function of the time spent."""
    done = state.epoch * steps + state.step
    size = config.learning_rate
    if done < config.warmup_steps:
        size *= (done + 1) / (config.warmup_steps + 1)
    if config.schedule == "cosine":
        gone = done / (state.planned_epochs * steps)
        if state.most_seconds is not None:  # the seconds that went are in the checkpoint
            gone = max(gone, min(state.spent / state.most_seconds, 1))
        size *= (1 + math.cos(math.pi * gone)) / 2
    return size


def _position_seed(seed: int, epoch: int, step: int) -> int:
    """A 63-bit seed of the position; large odd factors keep neighbours apart."""
    mixed = seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + step * 0x94D049BB133111EB
    return mixed & 0x7FFFFFFFFFFFFFFF


def _finite(loss: float, state: TrainingState) -> float:
    if loss - loss != 0:  # NaN or infinite
        raise TwoTowerError(
            f"loss is {loss} at epoch {state.epoch + 1}, step {state.step + 1}; "
            "lower the learning rate, or check the features for extreme values"
        )
    return loss
