"""Hyperparameter search for the least-squares part, on validation.

Coordinate-wise: one setting is changed at a time, and a change is kept if it raises NDCG@10 on a
sample of validation users. Settings that need no new factors come first. To keep the search cheap
compared with the training of the towers, trials start with narrow factors, are fitted on a sample
of users of a large log, and fit next-item factors on a sample of prefixes.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from twotower.data import Dataset, Part
from twotower.data.atomic import atomic_file
from twotower.evaluation.metrics import ndcg_at_k
from twotower.evaluation.ranking import full_ranks
from twotower.factors.als import ALSConfig, discounted, fit_factors, fold_in, following_factors
from twotower.factors.fold_in import principal_basis
from twotower.factors.scorer import FactorScorer
from twotower.factors.text_smoothing import TextSmoothing
from twotower.features import ReleaseOrder, releases
from twotower.models.sequence_towers import SequenceConfig
from twotower.training.variant import Variant
from twotower.types import Array, DoubleArray, FloatArray
from twotower.workflow.progress import Reporter

Smooth = Callable[[TextSmoothing, FloatArray], FloatArray]
"""Smooths factors ``(num_items, d)`` over items with similar texts."""

TRIAL_DIM: Final = 64
ROUNDS: Final = 6
RAMP: Final = 9.0
"""See `ALSConfig.ramp`: with a strong penalty in full from the start, factors stay small."""
TRIAL_PREFIXES: Final = 200_000
PREFIXES_AN_ITEM: Final = 20
"""Prefixes per item in a trial, which has at least `TRIAL_PREFIXES`."""
TRIAL_EVENTS: Final = 2_000_000
"""Interactions that trials are fitted on; a larger log is sampled by user."""
KEPT_TABLES: Final = 3
"""Number of factor tables cached from earlier trials."""
MOST_TRIALS: Final = 80
"""Limit on trials, to keep the search cheaper than the training that follows."""
MOST_SCORES: Final = 150_000_000
"""Most scores (users times items) computed in a trial."""
LEAST_GAIN: Final = 0.5
"""Gain, in standard errors of the mean difference per user, above which a change is kept: smaller
gains are likely chance."""
MOST_STEPS: Final = 6
"""Steps in one direction along a setting."""


@dataclass(frozen=True)
class Ladder:
    """A setting multiplied by ``factor`` while that helps, else divided by it."""

    name: str
    factor: float
    low: float
    high: float
    steps: int = MOST_STEPS

    def tried(self, settings: "FactorSettings") -> Sequence[Sequence[Any]]:
        """Values to try in order, in each direction."""
        value = settings.value(self.name)
        up = [value * self.factor**step for step in range(1, self.steps + 1)]
        down = [value / self.factor**step for step in range(1, self.steps + 1)]
        return [[value for value in way if self.low <= value <= self.high] for way in (up, down)]


@dataclass(frozen=True)
class Values:
    """A setting for which every value is tried, outwards from the current one."""

    name: str
    values: tuple[Any, ...]

    def tried(self, settings: "FactorSettings") -> Sequence[Sequence[Any]]:
        """Each value is a direction of its own."""
        return [[value] for value in self.values if value != settings.value(self.name)]


@dataclass(frozen=True)
class Ordered:
    """A setting whose values are tried outwards from the current one while that helps."""

    name: str
    values: tuple[float, ...]

    def tried(self, settings: "FactorSettings") -> Sequence[Sequence[Any]]:
        """Larger values, then smaller ones, each nearest first."""
        value = settings.value(self.name)
        larger = sorted(other for other in self.values if other > value)
        smaller = sorted((other for other in self.values if other < value), reverse=True)
        return [larger, smaller]


Coordinate = Ladder | Ordered | Values

_RECENCIES: Final = (1.0, 0.9, 0.75, 0.55, 0.4, 0.25)
_DISCOUNTS: Final = (0.0, 0.1, 0.2, 0.3, 0.4)
_SHARES: Final = (0.0, 0.3, 0.6, 1.0, 2.0)

FIRST: Final[tuple[Coordinate, ...]] = (Values("recency", _RECENCIES),)
"""The most important setting, which needs no new factors."""
HISTORY: Final[tuple[Coordinate, ...]] = (
    Ordered("recency", _RECENCIES),
    Ladder("fold_in_confidence", 2.5, 0.5, 1000),
    Ladder("fold_in_regularisation", 3.0, 0.1, 3000),
)
"""Settings of the fold-in of histories, which need no new factors."""
FACTORS: Final[tuple[Coordinate, ...]] = (
    Values(
        "penalty",
        tuple((power, 1.0 * 3**step) for power in (1.0, 0.5) for step in range(6)),
    ),
    Ladder("scale", 3.0, 0.5, 500),
    Ladder("regularisation", 1.7, 0.05, 3000),
)
"""Settings of the factors themselves. The whole range of the penalty is tried: the metric may dip
between a small penalty and the best one."""
SCORING: Final[tuple[Coordinate, ...]] = (
    Values("smoothing_events", (0.0, 10.0, 30.0, 100.0)),
    Ordered("popularity_discount", _DISCOUNTS),
)
FOLLOWING: Final[tuple[Coordinate, ...]] = (
    Ordered("next_share", _SHARES),
    Ladder("next_regularisation", 3.0, 0.05, 3000),
    Ordered("next_share", _SHARES),
    Ordered("recency", _RECENCIES),
    Ladder("fold_in_confidence", 2.5, 0.5, 1000),
    Ordered("popularity_discount", _DISCOUNTS),
)
"""Settings of the next-item factors, if these are fitted."""
WIDE: Final[tuple[Coordinate, ...]] = (
    Ordered("next_share", _SHARES),
    Ordered("popularity_discount", _DISCOUNTS),
    Ordered("recency", _RECENCIES),
)
"""Settings tuned again for the final width: they need little fitting, and the best ones depend on
the width, as more dimensions remember longer."""


@dataclass(frozen=True)
class FactorSettings:
    """Settings of the least-squares part and of the text smoothing of its factors."""

    factors: ALSConfig
    smoothing: TextSmoothing | None

    def value(self, name: str) -> Any:
        """A setting by name; ``smoothing_events`` is 0 without smoothing.

        ``scale`` is the confidence; changing it scales the penalty and the fold-in alike, which
        changes only the weight of items without an interaction. ``penalty`` is the power and the
        size of the penalty.
        """
        if name == "penalty":
            return self.factors.frequency_power, self.factors.regularisation
        if name == "scale":
            return self.factors.confidence
        if name == "smoothing_events":
            return 0.0 if self.smoothing is None else self.smoothing.events
        if name == "fold_in_regularisation":
            return self.factors.history_penalty
        return getattr(self.factors, name)

    def vary(self, name: str, value: Any) -> "FactorSettings":
        """The same with one setting changed."""
        if name == "penalty":
            power, size = value
            config = self.factors.vary(frequency_power=power, regularisation=size)
            return FactorSettings(config, self.smoothing)
        if name == "scale":
            config = self.factors
            changes = {
                "confidence": value,
                "fold_in_confidence": config.fold_in_confidence * value / config.confidence,
                "regularisation": config.regularisation * value / config.confidence,
            }
            return FactorSettings(config.vary(**changes), self.smoothing)
        if name == "smoothing_events":
            smoothing = (self.smoothing or TextSmoothing()).vary(events=value)
            return FactorSettings(self.factors, smoothing if value else None)
        return FactorSettings(self.factors.vary(**{name: value}), self.smoothing)


@dataclass
class ChosenFactors:
    """Result of the search: the chosen settings and all trials."""

    settings: FactorSettings
    """The chosen settings."""
    metric: float
    """NDCG@10 of the sample of validation users in the search."""
    trials: list[dict[str, Any]] = field(default_factory=list)
    """All trials: the setting changed, its value, and the metric."""
    seconds: float = 0.0

    def record(self) -> dict[str, Any]:
        """What is saved with the model."""
        smoothing = self.settings.smoothing
        return {
            "factors": self.settings.factors.model_dump(mode="json"),
            "smoothing": None if smoothing is None else smoothing.model_dump(mode="json"),
            "metric": self.metric,
            "seconds": round(self.seconds, 1),
            "trials": self.trials,
        }


def choose_factors(
    dataset: Dataset,
    settings: FactorSettings,
    smooth: Smooth | None,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
    *,
    seconds: float = math.inf,
) -> ChosenFactors:
    """Search the settings of the least-squares part, starting from ``settings``.

    Parameters
    ----------
    smooth
        Text smoothing of factors; None without texts.
    seed
        Seed of the initial factors.
    progress
        Called after each trial.
    seconds
        Time limit in seconds, after which only the width is still changed.
    """
    began = time.perf_counter()
    search = _Search(dataset, smooth, seed, progress, began + seconds)
    full = settings.factors
    small = full.vary(
        embedding_dim=min(TRIAL_DIM, full.embedding_dim),
        iterations=ROUNDS,
        ramp=RAMP,
        next_item=False,
        popularity_discount=0.0,
    )
    start = FactorSettings(small, settings.smoothing if smooth is not None else None)
    search.start(start)
    search.climb(FIRST)
    search.climb(FACTORS)
    search.climb(HISTORY)
    search.climb(SCORING if smooth is not None else SCORING[1:])
    if full.next_item and not search.late:
        search.follow(full)
    else:
        search.widen(full.embedding_dim)
    return ChosenFactors(
        search.best,
        float(search.values.mean()),
        search.trials,
        time.perf_counter() - began,
    )


def smoother(dataset: Dataset, text: FloatArray | None) -> Smooth | None:
    """Text smoothing of factors for a data set; None if no item has a text."""
    if text is None or not text.any():
        return None
    events = np.bincount(dataset.train.items, minlength=len(text))
    released = releases(dataset.catalogue)
    waves = ReleaseOrder.fit(released, events > 0).waves(released)

    found: dict[tuple[int, float], Array] = {}

    def smooth(smoothing: TextSmoothing, factors: FloatArray) -> FloatArray:
        neighbours = smoothing.neighbours, smoothing.release_weight
        if neighbours not in found:  # the slowest part of a trial
            found[neighbours] = smoothing.nearest(text, waves, events)
        return smoothing.smoothed(factors, found[neighbours], events)

    return smooth


def chosen_record(
    variant: Variant,
    dataset: Dataset,
    text: FloatArray | None,
    seed: int,
    folder: Path | None,
    reporter: Reporter,
) -> dict[str, Any] | None:
    """`ChosenFactors.record` for a model with ``choose_factors``; None for other models.

    It is cached in ``folder``, in a file named by a hash of its inputs, for interrupted trainings
    that resume and for other trainings with the same inputs.
    """
    file = None
    if folder is not None:
        file = folder / f"least-squares-{_fingerprint(variant, dataset, seed)[:16]}.json"
    if file is not None and file.exists():
        found: dict[str, Any] = json.loads(file.read_text())
        return found
    chosen = choose_for(variant, dataset, text, seed, reporter)
    if chosen is None:
        return None
    record = chosen.record()
    if file is not None:
        with atomic_file(file) as temporary:
            temporary.write_text(json.dumps(record))
    return record


def _fingerprint(variant: Variant, dataset: Dataset, seed: int) -> str:
    """SHA-256 of everything that a search depends on."""
    model = variant.model.model_dump(mode="json")
    parts = {name: model.get(name) for name in ("factors", "smoothing", "choose_factors")}
    text = variant.text_encoder, variant.text_fields
    depends: list[Any] = [dataset.fingerprint, seed, text, parts]
    if variant.training.minutes is not None:  # searches without a time limit keep their name
        depends.append(variant.training.minutes)
    return hashlib.sha256(json.dumps(depends).encode()).hexdigest()


def choose_for(
    variant: Variant, dataset: Dataset, text: FloatArray | None, seed: int, reporter: Reporter
) -> ChosenFactors | None:
    """`choose_factors` for a model set to search; None for other models."""
    config = variant.model
    if not isinstance(config, SequenceConfig) or not config.choose_factors:
        return None
    if config.factors is None:
        return None
    settings = FactorSettings(config.factors, config.smoothing)
    advance = reporter.counting("choose least squares", MOST_TRIALS, uneven=True)
    smooth = smoother(dataset, text)
    minutes = variant.training.minutes
    seconds = math.inf if minutes is None else 30 * minutes
    chosen = choose_factors(dataset, settings, smooth, seed, lambda: advance(1), seconds=seconds)
    advance(MOST_TRIALS - len(chosen.trials))  # what was not needed
    factors = chosen.settings.factors
    reporter.note(
        f"least squares alone: validation NDCG@10 {chosen.metric:.4f} with recency "
        f"{factors.recency:g}, {factors.embedding_dim} dimensions, next items "
        f"{'fitted' if factors.next_item else 'not fitted'}; {len(chosen.trials)} trials "
        f"in {chosen.seconds:.0f} s"
    )
    return chosen


class _Search:
    """State of the search: the best settings so far, and factors shared between trials."""

    def __init__(
        self,
        dataset: Dataset,
        smooth: Smooth | None,
        seed: int,
        progress: Callable[[], None] | None,
        until: float,
    ) -> None:
        self._progress, self._until = progress, until
        self._train, self._items = dataset.train, len(dataset.items)
        self._exclude_seen = not dataset.has_repeats
        self._smooth, self._seed = smooth, seed
        queries, targets = dataset.held_out(Part.VALIDATION)
        count = min(len(queries), max(1000, MOST_SCORES // max(self._items, 1)))
        rows = np.sort(np.random.default_rng(0).permutation(len(queries))[:count])
        self._queries, self._targets = queries.select(rows), targets.select(rows)
        self._prefixes = max(TRIAL_PREFIXES, PREFIXES_AN_ITEM * self._items)
        self._share = min(1.0, TRIAL_EVENTS / max(len(self._train.items), 1))
        if self._share < 1:
            drawn = np.random.default_rng(1).random(len(self._train)) < self._share
            self._train = self._train.select(np.flatnonzero(drawn))
        self._read: dict[str, FloatArray] = {}
        self._following: tuple[str, FloatArray] = ("", np.empty((0, 0), dtype=np.float32))
        self._tried: list[FactorSettings] = []
        self.trials: list[dict[str, Any]] = []

    def start(self, settings: FactorSettings) -> None:
        """Measure the initial settings."""
        self.best = settings
        self.values = self._measured(settings, "start", None)

    @property
    def late(self) -> bool:
        """Whether time is up."""
        return time.perf_counter() > self._until

    def climb(self, coordinates: Sequence[Coordinate]) -> None:
        """Move each setting as far as that improves the metric."""
        for coordinate in coordinates:
            start = self.best
            for way in coordinate.tried(start):
                before = self.values
                for value in way:
                    if self.late or not self._attempt(
                        self.best.vary(coordinate.name, value), coordinate, value
                    ):
                        break
                if not isinstance(coordinate, Values) and self.values is not before:
                    break  # up helped: do not try down

    def follow(self, full: ALSConfig) -> None:
        """Widen the factors, with and without next-item factors, and keep the better of both.

        They are compared at their final widths: narrow factors cannot hold next-item information.
        """
        best, values = self.best, self.values
        following = best.factors.vary(
            next_item=True,
            next_share=full.next_share,
            next_regularisation=full.next_regularisation,
        )
        self.best = FactorSettings(following, best.smoothing)
        self.values = self._measured(self.best, "next_item", True)
        self.climb(FOLLOWING)
        self.widen(full.embedding_dim)
        self.climb(WIDE)
        with_next = self.best, self.values
        self.best, self.values = best, values
        self.widen(full.embedding_dim)
        if _better(with_next[1], self.values):
            self.best, self.values = with_next

    def widen(self, dim: int) -> None:
        """Widen the factors up to ``dim`` dimensions, as long as that is better."""
        narrow = self.best.factors.embedding_dim
        for width in sorted({min(2 * narrow, dim), dim} - {narrow}):
            wider = self.best.vary("embedding_dim", width)
            discount = wider.factors.popularity_discount
            # More dimensions may need another discount, which needs no fitting.
            near = sorted(_DISCOUNTS, key=lambda value: abs(value - discount))[:3]
            tried = [wider.vary("popularity_discount", value) for value in near]
            if not sum(
                [self._attempt(settings, Values("embedding_dim", ()), width) for settings in tried]
            ):
                break
            self.climb((Ladder("regularisation", 2.0, 0.05, 3000, steps=1),))

    def _attempt(self, settings: FactorSettings, coordinate: Coordinate, value: Any) -> bool:
        if len(self.trials) >= MOST_TRIALS or settings in self._tried:
            return False
        self._tried.append(settings)
        values = self._measured(settings, coordinate.name, value)
        if not _better(values, self.values):
            return False
        self.best, self.values = settings, values
        return True

    def _measured(self, settings: FactorSettings, name: str, value: Any) -> DoubleArray:
        """``(users,)`` NDCG@10 of a trial."""
        read, scored = self._tables(settings)
        fold = fold_in(read, settings.factors)
        scorer = FactorScorer(scored, lambda queries: fold(queries.histories))
        ranks = full_ranks(scorer, self._queries, self._targets, exclude_seen=self._exclude_seen)
        values = ndcg_at_k(ranks, 10)
        value = list(value) if isinstance(value, tuple) else value
        metric = round(float(values.mean()), 5)
        self.trials.append({"setting": name, "value": value, "NDCG@10": metric})
        if self._progress is not None:
            self._progress()
        return values

    def _tables(self, settings: FactorSettings) -> tuple[FloatArray, FloatArray]:
        """Factors that fold in histories, and factors that score."""
        config = settings.factors
        read = self._factors(config)
        if settings.smoothing is not None and self._smooth is not None:
            read = principal_basis(self._smooth(settings.smoothing, read))
        scored = read
        if config.next_item:
            key = repr((_reading(settings), config.next_regularisation))
            if self._following[0] != key:
                self._following = (
                    key,
                    following_factors(self._train, read, config, self._prefixes, self._share),
                )
            scored = self._following[1] + np.float32(config.next_share) * read
        return read, discounted(scored, self._train, config.popularity_discount)

    def _factors(self, config: ALSConfig) -> FloatArray:
        """Factors of a trial's settings."""
        key = repr(_fitting(config))
        if key not in self._read:
            self._read[key] = fit_factors(self._train, self._items, config, self._seed, self._share)
            while len(self._read) > KEPT_TABLES:
                self._read.pop(next(iter(self._read)))
        self._read[key] = self._read.pop(key)  # the newest last
        return self._read[key]


def _better(values: DoubleArray, than: DoubleArray) -> bool:
    """Whether a gain is more than chance: see `LEAST_GAIN`."""
    gains = values - than
    return bool(gains.mean() > LEAST_GAIN * gains.std() / np.sqrt(len(gains)))


def _fitting(config: ALSConfig) -> tuple[float, ...]:
    """Settings that factors depend on."""
    return (
        config.embedding_dim,
        config.confidence,
        config.regularisation,
        config.frequency_power,
    )


def _reading(settings: FactorSettings) -> tuple[Any, ...]:
    """Settings that the fold-in of a history depends on."""
    config = settings.factors
    return (
        *_fitting(config),
        config.recency,
        config.fold_in_confidence,
        settings.value("fold_in_regularisation"),
        settings.value("smoothing_events"),
    )
