"""What the report of a study is made from: its figures, and published ones to stand beside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Self

from pydantic import Field, ValidationError

from twotower.config import Config
from twotower.errors import ArtefactError, InputError
from twotower.evaluation.registry import FULL
from twotower.evaluation.results import (
    Absent,
    Difference,
    Meta,
    Results,
    Row,
    merge_rows,
    read_results,
)

QUALITY: Final = "NDCG@10"
"""The metric of the charts: it is what training stops by and what verdicts are shown for."""


class Published(Config):
    """A figure that somebody else published."""

    model: str
    protocol: str
    metric: str
    value: float


class Reference(Config):
    """Published figures, to stand beside ours."""

    source: str = Field(min_length=1)
    note: str
    """What must be known to compare them."""
    rows: tuple[Published, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and validate; `ArtefactError` where the file is missing or malformed."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ArtefactError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ArtefactError(
                f"{path} is not a file of published figures: {place}: {first['msg']}"
            ) from error


@dataclass(frozen=True)
class StudyFigures:
    """The figures of one data set, of one or several results files."""

    dataset: str
    metas: Sequence[Meta]
    rows: Sequence[Row]
    differences: Sequence[Difference] = ()
    absent: Sequence[Absent] = ()
    changes: Mapping[str, str] = field(default_factory=dict)
    """Model → how it differs from its parent, in words."""
    reference: Reference | None = None

    @classmethod
    def of(
        cls,
        results: Sequence[Results],
        *,
        reference: Reference | None = None,
    ) -> Self:
        """Put results files together; where two have the same figure, the later one counts.

        Raises
        ------
        InputError
            No rows, or rows of several data sets.
        """
        rows = merge_rows([], (row for one in results for row in one.rows))
        datasets = list(dict.fromkeys(row.dataset for row in rows))
        if len(datasets) != 1:
            raise InputError(
                f"a report is of one data set, got {', '.join(datasets) or 'no rows'}",
                "pass results files of one data set",
            )
        differences = {one.key: one for of in results for one in of.differences}
        absent = {one.model: one for of in results for one in of.absent}
        return cls(
            datasets[0],
            [meta for one in results for meta in (*(run.meta for run in one.earlier), one.meta)],
            rows,
            list(differences.values()),
            list(absent.values()),
            {model: words for of in results for model, words in of.models.items()},
            reference,
        )

    @classmethod
    def read(
        cls,
        files: Sequence[Path],
        *,
        reference: Path | None = None,
    ) -> Self:
        """The same from files."""
        return cls.of(
            [read_results(file) for file in files],
            reference=None if reference is None else Reference.read(reference),
        )

    def protocols(self, prefix: str) -> list[str]:
        """Names of protocols that begin like this, in order."""
        found = dict.fromkeys(row.protocol for row in self.rows)
        return [name for name in found if name.startswith(prefix)]

    def by_model(self, protocol: str, metric: str) -> dict[str, Row]:
        """Model → its row of a protocol and metric, in the order of the study."""
        return self._rows_of.get((protocol, metric), {})

    @cached_property
    def _rows_of(self) -> dict[tuple[str, str], dict[str, Row]]:
        """Thousands of rows, asked for by hundreds of marks of a chart."""
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
        return [one for one in self.differences if (one.protocol, one.metric) == (protocol, metric)]


def within_seeds(one: Difference) -> bool:
    """Whether a difference is no more than two standard errors over training seeds."""
    return one.seed_error is not None and abs(one.value) <= 2 * one.seed_error
