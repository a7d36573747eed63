"""Grid of a study: cells, their order, and models that the data set does not allow."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from twotower.data import Dataset, columns
from twotower.errors import InputError
from twotower.features import item_texts
from twotower.models.sequence_towers import SequenceConfig
from twotower.reporting.product_names import study_name
from twotower.study.ablation.cell import Cell
from twotower.training.variant import Variant
from twotower.workflow.baselines import BASELINES, DEFAULT_BASELINES, TEXT_BASELINES
from twotower.workflow.item_images import NO_IMAGES
from twotower.workflow.models import named_variant
from twotower.workflow.variants import STUDY

PARENTS: Mapping[str, str | None] = {step.name: step.parent for step in STUDY}
"""Model → its parent, which it is compared with."""
CHANGES: Mapping[str, str] = {step.name: step.change for step in STUDY}
"""Model → its change, in words."""


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

    def without(self, absent: Mapping[str, str]) -> "Grid":
        """The grid without some models: name → reason."""
        cells = tuple(cell for cell in self.cells if cell.model not in absent)
        return Grid(cells, self.needs, {**self.absent, **absent})


def default_models() -> tuple[str, ...]:
    """The default baselines, then the whole study."""
    return (*DEFAULT_BASELINES, *PARENTS)


def make_grid(seeds: Mapping[str, int], dataset: Dataset, *, text_encoder: str) -> Grid:
    """The grid of some models and their teachers.

    Parameters
    ----------
    seeds
        Name of a variant or baseline → number of training seeds, from 0; a baseline always has
        one cell. The grid is in the order of the study, baselines first.

    Raises
    ------
    InputError
        An unknown name, or fewer than one seed.
    """
    cells: dict[Cell, tuple[Cell, ...]] = {}
    absent: dict[str, str] = {}
    place = {name: number for number, name in enumerate(PARENTS)}
    kept = {study_name(name): count for name, count in seeds.items()}
    for model, count in sorted(kept.items(), key=lambda item: place.get(item[0], -1)):
        if count < 1:
            raise InputError(f"seeds of {model!r} must be at least 1, got {count}")
        if model in BASELINES or model in TEXT_BASELINES:
            cells[Cell(model=model, text_encoder=text_encoder)] = ()
            continue
        variant = named_variant(model, text_encoder)
        reason = unavailable(variant, dataset)
        if reason is not None:
            absent[model] = reason
            continue
        for seed in range(count):
            cell = Cell(model=model, seed=seed, variant=variant, text_encoder=text_encoder)
            _add(cell, cells)
    return Grid(tuple(cells), cells, absent)


def _add(cell: Cell, cells: dict[Cell, tuple[Cell, ...]]) -> None:
    """Add a cell behind those of its teachers, which have its seed."""
    if cell.variant is None or cell in cells:
        return
    teachers = tuple(
        cell.vary(model=name, variant=named_variant(name, cell.text_encoder))
        for name in cell.variant.teachers
        if name not in BASELINES  # fitted where it is needed, in seconds
    )
    for teacher in teachers:
        _add(teacher, cells)
    cells[cell] = teachers


def unavailable(variant: Variant, dataset: Dataset) -> str | None:
    """Why a data set does not allow a variant, or None where it does."""
    catalogue = dataset.catalogue
    if "image" in variant.model.inputs_needed and catalogue[columns.IMAGE].is_null().all():
        return NO_IMAGES
    if "text" in variant.model.inputs_needed:
        titles = item_texts(catalogue)
        # A model of sequences does without, and is another model than its parent all the same.
        if not any(titles) and not isinstance(variant.model, SequenceConfig):
            return "no titles in this data set"
        if variant.text_fields == "rich" and item_texts(catalogue, "rich") == titles:
            return "no text but titles in this data set"
    return None
