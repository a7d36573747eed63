"""Progress as lines of text, and the note about a training that goes on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twotower.data import Dataset
from twotower.training.progress import EpochRecord, TrainingState
from twotower.workflow.models import train_variant
from twotower.workflow.progress import Bar, LineReporter, Silent


def reporter(*seconds: float) -> tuple[LineReporter, list[str]]:
    said: list[str] = []
    clock: Iterator[float] = iter(seconds)
    return LineReporter(said.append, every=10, clock=lambda: next(clock)), said


def test_a_line_comes_every_few_seconds_with_the_time_left() -> None:
    found, said = reporter(0, 1, 12, 15, 30, 40)
    advance = found.bar("train v10")
    for done in (100, 200, 250, 400, 1000):
        advance(done, 1000, "loss 1.5")
    assert said == [
        "train v10: 200 of 1,000, about 1 min 36 s left, loss 1.5",
        "train v10: 400 of 1,000, about 1 min 0 s left, loss 1.5",
    ]


def test_work_of_unknown_length_has_no_time_left() -> None:
    found, said = reporter(0, 11, 22)
    advance = found.bar("read")
    advance(5, None, "")
    found.failure("two rows are odd")
    advance(7, None, "")
    assert said == ["read: 5", "warning: two rows are odd", "read: 7"]


def test_uneven_work_has_the_time_so_far_in_place_of_a_guess() -> None:
    found, said = reporter(0, 1, 95)
    advance = found.bar("cells of the grid", uneven=True)
    advance(0, 9, "now: mf")
    advance(4, 9, "now: v10, about 3 min 0 s left")
    assert said == ["cells of the grid: 4 of 9, 1 min 35 s so far, now: v10, about 3 min 0 s left"]


def test_what_is_left_of_a_training_counts_the_epochs_it_may_take() -> None:
    """A refit ends with the epoch that validation chose, however many were planned."""
    shown: list[tuple[int, int | None]] = []

    class Bars(LineReporter):
        def bar(self, label: str, *, uneven: bool = False) -> Bar:
            return lambda done, total, _: shown.append((done, total))

    report = Bars().training("refit")
    state = TrainingState("", planned_epochs=100, step=2, loss_sum=1.0)
    report(state, 10, 1.0)
    state.last_epoch = 3
    report(state, 10, 1.0)
    state.epoch, state.step, state.epochs = 3, 0, [EpochRecord(2, 0.5, 1.0, 9)]
    report(state, 10, 1.0)
    assert shown == [(2, 1000), (2, 30), (30, 30)]


def test_what_is_left_of_a_training_that_validation_ends_is_that_to_its_earliest_end() -> None:
    shown: list[tuple[int, int | None, str]] = []

    class Bars(LineReporter):
        def bar(self, label: str, *, uneven: bool = False) -> Bar:
            return lambda *report: shown.append(report)

    report = Bars().training("two-tower")
    state = TrainingState("", planned_epochs=100, step=2, loss_sum=1.0, earliest_end=4)
    report(state, 10, 1.0)
    state.most_seconds, state.seconds = 10.0, 1.0  # a limit of time comes first
    report(state, 10, 1.0)
    state.most_seconds, state.earliest_end, state.last_epoch = None, 9, 5
    report(state, 10, 1.0)
    assert [(done, total) for done, total, _ in shown] == [(2, 40), (2, 20), (2, 50)]
    assert shown[0][2].startswith("epoch 1 of 4 or more")
    assert shown[2][2].startswith("epoch 1 of 5  ")


class StoppedError(Exception):
    pass


class Notes(Silent):
    def __init__(self, stop_after: int) -> None:
        self.said: list[str] = []
        self._left = stop_after

    def note(self, text: str) -> None:
        self.said.append(text)

    def training(self, label: str) -> Any:
        def progress(*_: object) -> None:
            self._left -= 1
            if not self._left:
                raise StoppedError

        return progress


def test_a_training_that_was_interrupted_says_where_it_goes_on(
    blocks: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    variant, first, second = small_variants["mf"], Notes(11), Notes(0)
    variant = variant.vary(training=variant.training.vary(checkpoint_seconds=0))
    for notes in (first, second):
        try:
            train_variant(variant, blocks, name="mf", checkpoint=tmp_path / "c", reporter=notes)
        except StoppedError:
            assert notes is first
    (ends,) = first.said
    assert ends.startswith("mf seed 0: training ends when validation stops gaining")
    assert second.said == [
        ends,
        "mf seed 0 goes on from epoch 1, step 11, where it was interrupted",
    ]
