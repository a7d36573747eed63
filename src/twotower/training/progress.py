"""Position of a training run, and the callback that reports it; without torch."""

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass
class EpochRecord:
    """Record of one epoch; ``metric`` is None if it was not validated."""

    epoch: int
    loss: float
    seconds: float
    examples: int
    metric: float | None = None


@dataclass
class TrainingState:
    """State of a run apart from its tensors: everything in a checkpoint's JSON."""

    fingerprint: str
    planned_epochs: int = 0
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    most_seconds: float | None = None
    """Seconds of steps after which training ends; None for no limit."""
    popularity: float | None = None
    """Validation metric of the popularity baseline, if known."""
    best_metric: float | None = None
    best_epoch: int | None = None
    validated_epoch: int = 0
    bad_validations: int = 0
    patience_metric: float | None = None
    """Metric of the last validation that was better by `TrainingConfig.least_gain`."""
    finished: bool = False
    last_epoch: int | None = None
    """Epochs after which training ends, however many are planned; None for all of them."""
    earliest_end: int | None = None
    """Epochs before which early stopping cannot end training; None without early stopping."""
    epochs: list[EpochRecord] = field(default_factory=list)

    @property
    def spent(self) -> float:
        """Seconds of all steps so far; validations do not count."""
        return sum(record.seconds for record in self.epochs) + self.seconds

    @property
    def out_of_time(self) -> bool:
        """Whether the steps have used up the time limit."""
        return self.most_seconds is not None and self.spent >= self.most_seconds

    @property
    def most_epochs(self) -> int:
        """Epochs after which training ends, unless early stopping or the time limit comes first."""
        return self.planned_epochs if self.last_epoch is None else self.last_epoch

    def end_epoch(self, examples: int) -> EpochRecord:
        """Record the epoch that ended with so many examples, and begin the next one."""
        record = EpochRecord(self.epoch, self.loss_sum / self.step, self.seconds, examples)
        self.epochs.append(record)
        self.epoch, self.step, self.loss_sum, self.seconds = self.epoch + 1, 0, 0.0, 0.0
        return record

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainingState":
        """Rebuild from ``asdict``."""
        epochs = [EpochRecord(**record) for record in values.pop("epochs")]
        return cls(**values, epochs=epochs)


class Progress(Protocol):
    """Called after every step and epoch, for example to draw a progress bar."""

    def __call__(self, state: TrainingState, steps: int, examples_per_second: float) -> None:
        """``state.epoch`` and ``state.step`` are the position just reached."""
