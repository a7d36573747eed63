"""Figures of a study from its results files, and published figures to compare them with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Self

from pydantic import Field, ValidationError

from twotower.config import Config, first_problem
from twotower.errors import ArtefactError, InputError
from twotower.evaluation.registry import FULL
from twotower.evaluation.results import (
    Absent,
    Difference,
    Meta,
    Results,
    Row,
    read_results,
)
from twotower.reporting.product_names import with_product_names

QUALITY: Final = "NDCG@10"
"""Metric of the charts and shown verdicts; also the metric of early stopping."""


class Published(Config):
    """A published figure."""

    model: str
    protocol: str
    metric: str
    value: float


class Reference(Config):
    """Published figures to compare ours with."""

    source: str = Field(min_length=1)
    note: str
    """Caveats of the comparison."""
    rows: tuple[Published, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and validate; `ArtefactError` where the file is missing or malformed."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ArtefactError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise ArtefactError(
                f"{path} is not a file of published figures: {first_problem(error)}"
            ) from error


@dataclass(frozen=True)
class StudyFigures:
    """The figures of a data set from one or more results files."""

    dataset: str
    metas: Sequence[Meta]
    rows: Sequence[Row]
    differences: Sequence[Difference] = ()
    absent: Sequence[Absent] = ()
    changes: Mapping[str, str] = field(default_factory=dict)
    """Model → its change from the parent, in words."""
    reference: Reference | None = None

    @classmethod
    def of(
        cls,
        results: Sequence[Results],
        *,
        reference: Reference | None = None,
    ) -> Self:
        """Merge results files; for duplicate figures, the later file wins.

        Raises
        ------
        InputError
            No rows, or rows of several data sets.
        """
        rows = list({row.key: row for file in results for row in file.rows}.values())
        datasets = list(dict.fromkeys(row.dataset for row in rows))
        if len(datasets) != 1:
            raise InputError(
                f"a report is of one data set, got {', '.join(datasets) or 'no rows'}",
                "pass results files of one data set",
            )
        differences = {found.key: found for file in results for found in file.differences}
        absent = {found.model: found for file in results for found in file.absent}
        return cls(
            datasets[0],
            [meta for file in results for meta in (*(run.meta for run in file.earlier), file.meta)],
            rows,
            list(differences.values()),
            list(absent.values()),
            {model: words for file in results for model, words in file.models.items()},
            reference,
        )

    @classmethod
    def read(
        cls,
        files: Sequence[Path],
        *,
        reference: Path | None = None,
    ) -> Self:
        """Like `of`, from files, with product names."""
        return cls.of(
            [with_product_names(read_results(file)) for file in files],
            reference=None if reference is None else Reference.read(reference),
        )

    def protocols(self, prefix: str) -> list[str]:
        """Names of protocols with a prefix, in order."""
        found = dict.fromkeys(row.protocol for row in self.rows)
        return [name for name in found if name.startswith(prefix)]

    def by_model(self, protocol: str, metric: str) -> dict[str, Row]:
        """Model → its row of a protocol and metric, in the order of the study."""
        return self._rows_of.get((protocol, metric), {})

    @cached_property
    def _rows_of(self) -> dict[tuple[str, str], dict[str, Row]]:
        """Protocol and metric → model → row."""
        found: dict[tuple[str, str], dict[str, Row]] = {}
        for row in self.rows:
            found.setdefault((row.protocol, row.metric), {})[row.model] = row
        return found

    def published(self, protocol: str, metric: str) -> dict[str, float]:
        """Model → the published figure."""
        rows = self.reference.rows if self.reference else ()
        return {
            row.model: row.value for row in rows if (row.protocol, row.metric) == (protocol, metric)
        }

    def compared(self, protocol: str = FULL, metric: str = QUALITY) -> list[Difference]:
        """Differences to the parent, in the order of the study."""
        return [d for d in self.differences if (d.protocol, d.metric) == (protocol, metric)]


def within_seeds(difference: Difference) -> bool:
    """Whether a difference is no more than two standard errors over training seeds."""
    error = difference.seed_error
    return error is not None and abs(difference.value) <= 2 * error
