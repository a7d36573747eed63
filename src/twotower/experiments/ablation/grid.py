"""What a study consists of: which cells, in which order, and which models have to be left out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from twotower.data import Dataset
from twotower.errors import InputError
from twotower.experiments.ablation.cell import Cell
from twotower.experiments.baselines import BASELINES
from twotower.experiments.models import named_variant
from twotower.experiments.variants import STUDY
from twotower.training.variant import Variant

PARENTS: Mapping[str, str | None] = {step.name: step.parent for step in STUDY}
"""Name → the model that it is compared with."""


@dataclass(frozen=True)
class Grid:
    """The cells of a study, teachers first."""

    cells: tuple[Cell, ...]
    needs: Mapping[Cell, tuple[Cell, ...]] = field(default_factory=dict)
    """Cells that must be finished before a cell can start."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Model → why this data set does not allow it."""

    def of(self, model: str) -> tuple[Cell, ...]:
        """The cells of a model, by seed."""
        return tuple(cell for cell in self.cells if cell.model == model)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that have cells, in order."""
        return tuple(dict.fromkeys(cell.model for cell in self.cells))


def default_models() -> tuple[str, ...]:
    """The baselines, then the whole study."""
    return (*BASELINES, *PARENTS)


def make_grid(seeds: Mapping[str, int], dataset: Dataset, *, text_encoder: str) -> Grid:
    """The grid of some models.

    Parameters
    ----------
    seeds
        Name of a variant or baseline → number of training seeds, from 0; a baseline has one
        cell whatever is asked.

    Raises
    ------
    InputError
        An unknown name, or fewer than one seed.
    """
    cells: list[Cell] = []
    absent: dict[str, str] = {}
    for model, count in seeds.items():
        if count < 1:
            raise InputError(f"seeds of {model!r} must be at least 1, got {count}")
        if model in BASELINES:
            cells.append(Cell(model=model))
            continue
        variant = named_variant(model, text_encoder)
        reason = unavailable(variant, dataset)
        if reason is not None:
            absent[model] = reason
            continue
        cells += [Cell(model=model, seed=seed, variant=variant) for seed in range(count)]
    return Grid(tuple(cells), {}, absent)


def unavailable(variant: Variant, dataset: Dataset) -> str | None:
    """Why a data set does not allow a variant, or None where it does."""
    del variant, dataset
    return None
