"""Results files: validated JSON with one row per figure, and Markdown tables from them."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import orjson
from numpy.typing import ArrayLike
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from twotower.config import first_problem
from twotower.data.atomic import atomic_file
from twotower.errors import ArtefactError, InputError


def _six_digits(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"must be finite, got {value}")
    return float(f"{value:.6g}")


Figure = Annotated[float, AfterValidator(_six_digits)]
"""A finite number, kept to six significant digits."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(_Strict):
    """One figure."""

    dataset: str = Field(min_length=1)
    """Name of the data set: its folder."""
    split: str = Field(min_length=1)
    """How the data set was split, or the part, such as ``leave-last-two``."""
    model: str = Field(min_length=1)
    """``popularity``, ``item-knn``, ``mf``, ``lightgcn``, ``v1`` …"""
    protocol: str = Field(min_length=1)
    """``full``, ``full-unmasked``, ``sampled-100``, ``timing`` …"""
    metric: str = Field(min_length=1)
    """``HR@10``, ``NDCG@10``, ``MRR`` …, with the unit where it has one."""
    value: Figure
    low: Figure | None = None
    """Lower end of the 95% interval, or of the repeats of a timing."""
    high: Figure | None = None
    seeds: list[int] = Field(default_factory=list)
    """Training seeds averaged over; empty where nothing is random."""
    users: int = Field(ge=0)
    """Queries that the figure is a mean over."""
    context: list[str] = Field(default_factory=list)
    """Declared columns of the log that the model read of each target's own event, as a request
    gives them; not written where there are none."""

    @classmethod
    def of_repeats(cls, values: ArrayLike, **fields: Any) -> "Row":
        """A repeated measurement: median, least and greatest of ``values`` ``(repeats,)``."""
        found = np.asarray(values, np.float64)
        return cls(value=float(np.median(found)), low=found.min(), high=found.max(), **fields)

    @model_serializer(mode="wrap")
    def _without_empty_context(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        if not self.context:
            del found["context"]
        return found

    @model_validator(mode="after")
    def _interval(self) -> "Row":
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high must be given together")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low must not be above high, got {self.low} and {self.high}")
        return self

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """Identity of the figure; a results file holds each once."""
        return self.dataset, self.split, self.model, self.protocol, self.metric


ALPHA: Final = 0.05
"""Family-wise error rate of the verdicts 'helps' and 'hurts' over a study."""

Verdict = Literal["helps", "hurts", "no difference shown"]


class Difference(_Strict):
    """Difference of a model to its parent, on the same queries."""

    dataset: str = Field(min_length=1)
    split: str = Field(min_length=1)
    model: str = Field(min_length=1)
    parent: str = Field(min_length=1)
    protocol: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    value: Figure
    """Mean of the model minus mean of the parent."""
    low: Figure
    """Lower end of the paired 95% bootstrap interval over queries."""
    high: Figure
    p: Figure = Field(ge=0, le=1)
    """Of the sign-flip test over queries, not corrected."""
    p_corrected: Figure = Field(ge=0, le=1)
    """After Holm, over all differences of the study."""
    seed_error: Figure | None = Field(None, ge=0)
    """Standard error of the difference over training seeds; None where one of the two models
    has a single seed."""
    verdict: Verdict
    """From ``p_corrected``, see `verdict`."""
    seeds: list[int]
    parent_seeds: list[int]
    users: int = Field(ge=1)

    @model_validator(mode="after")
    def _verdict_follows(self) -> "Difference":
        expected = verdict(self.value, self.p_corrected)
        if self.verdict != expected:
            raise ValueError(f"verdict must be {expected!r}, got {self.verdict!r}")
        return self

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """Identity of the comparison; a results file holds each once."""
        return self.dataset, self.split, self.model, self.protocol, self.metric


def verdict(value: float, p_corrected: float) -> Verdict:
    """'helps' or 'hurts' where the corrected p-value is below `ALPHA`.

    >>> verdict(0.01, 0.002), verdict(-0.01, 0.002), verdict(0.01, 0.4)
    ('helps', 'hurts', 'no difference shown')
    """
    if p_corrected >= ALPHA or value == 0:
        return "no difference shown"
    return "helps" if value > 0 else "hurts"


class Absent(_Strict):
    """A model without figures, and why."""

    dataset: str = Field(min_length=1)
    model: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    """Such as ``no images in this data set``."""


class Meta(_Strict):
    """Provenance of the figures."""

    command: str
    commit: str | None
    """Short hash, ``+dirty`` where tracked files were changed, None outside a checkout."""
    machine: str
    threads: int = Field(ge=1)
    started: str
    """UTC, ISO 8601, to the second."""
    wall_seconds: Figure = Field(ge=0)
    peak_memory_mb: Figure = Field(ge=0)
    packages: dict[str, str]


class Earlier(_Strict):
    """A run before the last, of which a file still holds figures."""

    meta: Meta
    models: list[str] = Field(min_length=1)
    """Models whose figures are of this run."""


class Results(_Strict):
    """A results file."""

    meta: Meta
    rows: list[Row]
    differences: list[Difference] = Field(default_factory=list)
    """Of an ablation study: models compared with their parents."""
    absent: list[Absent] = Field(default_factory=list)
    """Models of a study that the data set does not allow."""
    models: dict[str, str] = Field(default_factory=dict)
    """Models of a study → what each is, or how it differs from its parent, in words."""
    earlier: list[Earlier] = Field(default_factory=list)
    """Runs that the figures of some models come from; ``meta`` is that of the others."""

    @model_validator(mode="after")
    def _once(self) -> "Results":
        for kind, figures in (("rows", self.rows), ("differences", self.differences)):
            seen = set()
            for figure in figures:
                if figure.key in seen:
                    raise ValueError(f"two {kind} are of {' / '.join(figure.key)}")
                seen.add(figure.key)
        return self


def write_results(
    path: Path,
    meta: Meta,
    rows: Sequence[Row],
    *,
    differences: Sequence[Difference] = (),
    absent: Sequence[Absent] = (),
    models: Mapping[str, str] | None = None,
    earlier: Sequence[Earlier] = (),
) -> None:
    """Write a results file atomically; one row a line, so that diffs read well.

    The path ``-`` is standard output.
    """
    try:
        results = Results(
            meta=meta,
            rows=list(rows),
            differences=list(differences),
            absent=list(absent),
            models=dict(models or {}),
            earlier=list(earlier),
        )
    except ValidationError as error:
        raise InputError(f"results for {path} are not valid: {first_problem(error)}") from error
    head = _indented(results.meta.model_dump())
    lists = [_lines("rows", results.rows)]
    lists += [_lines("differences", results.differences)] if differences else []
    lists += [_lines("absent", results.absent)] if absent else []
    lists += [f'  "models": {_indented(results.models)}\n'] if models else []
    lists += [_lines("earlier", results.earlier)] if earlier else []
    text = f'{{\n  "meta": {head},\n{",".join(lists)}}}\n'
    if path == Path("-"):
        sys.stdout.write(text)
        return
    with atomic_file(path) as temporary:
        temporary.write_text(text, "utf-8")


_WRITTEN_BY: Final = "give a file that 'twotower evaluate', 'run' or 'ablate' wrote with --json"


def read_results(path: Path) -> Results:
    """Read and validate a results file; `ArtefactError` where it is missing or malformed."""
    try:
        return Results.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}; {_WRITTEN_BY}") from error
    except ValidationError as error:
        raise ArtefactError(
            f"{path} is not a results file: {first_problem(error)}; {_WRITTEN_BY}"
        ) from error


def markdown_table(
    rows: Iterable[Row], metrics: Sequence[str], *, intervals: bool = False, digits: int = 4
) -> str:
    """A table with one line per model and one column per metric, in the order of ``rows``.

    Raises
    ------
    InputError
        Two rows for one cell (select a data set, split and protocol first), or a metric that
        no row has.
    """
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        if row.metric not in metrics:
            continue
        line = cells.setdefault(row.model, {})
        if row.metric in line:
            raise InputError(f"two figures for {row.metric} of {row.model}", "select one protocol")
        line[row.metric] = f"{row.value:.{digits}f}"
        if intervals and row.low is not None:
            line[row.metric] += f" [{row.low:.{digits}f}, {row.high:.{digits}f}]"
    for metric in metrics:
        if not any(metric in line for line in cells.values()):
            raise InputError(f"no row has the metric {metric!r}", "check its name and the protocol")
    table = [["model", *metrics], ["---", *["---:"] * len(metrics)]]
    table += [
        [model, *[line.get(metric, "–") for metric in metrics]] for model, line in cells.items()
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in table)


def _indented(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode().replace("\n", "\n  ")


def _lines(name: str, figures: Sequence[_Strict]) -> str:
    lines = ",\n".join("    " + orjson.dumps(figure.model_dump()).decode() for figure in figures)
    return f'  "{name}": [\n{lines}\n  ]\n'
