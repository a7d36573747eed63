"""Curriculum of negatives: each stage of training has its own source."""

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator
from torch import nn

from twotower.config import Config
from twotower.data import Histories
from twotower.models.base import Batch, Embeddings, RetrievalModule
from twotower.training.negatives.base import Drawn, LiveNegatives, NegativeSampler, NegativesConfig
from twotower.training.negatives.hard import Hard
from twotower.training.negatives.queue import Queue
from twotower.training.negatives.sampled import InBatch, Mixed, Popularity, Uniform
from twotower.types import Array

Single = Annotated[
    InBatch | Uniform | Popularity | Mixed | Queue | Hard, Field(discriminator="kind")
]


class Stage(Config):
    """Negatives from an epoch on."""

    from_epoch: int = Field(ge=0)
    """First epoch, counted from 0."""
    negatives: Single
    """Where they come from."""


class Curriculum(NegativesConfig):
    """One source of negatives after another (Bengio et al., *Curriculum learning*, ICML 2009)."""

    kind: Literal["curriculum"] = "curriculum"
    stages: tuple[Stage, ...] = Field(min_length=1)
    """In the order of their epochs, the first from epoch 0."""

    @field_validator("stages")
    @classmethod
    def _in_order(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        starts = [stage.from_epoch for stage in stages]
        if starts[0] != 0 or any(after <= before for before, after in pairwise(starts)):
            raise ValueError(
                f"stages must begin at epoch 0 and go up, got from_epoch {starts}; "
                "sort them and let the first have from_epoch 0"
            )
        return stages

    def stage(self, epoch: int) -> int:
        """Which stage an epoch is in."""
        return sum(stage.from_epoch <= epoch for stage in self.stages) - 1

    def fit(self, train: Histories, num_items: int) -> NegativeSampler:
        """Fit every stage."""
        return _Staged(self, [stage.negatives.fit(train, num_items) for stage in self.stages])

    def live(self, train: Histories, num_items: int, dim: int, seed: int) -> LiveNegatives:
        """The negatives of every stage that depend on the model."""
        return _LiveStages(
            self, [stage.negatives.live(train, num_items, dim, seed) for stage in self.stages]
        )


class _Staged:
    def __init__(self, config: Curriculum, samplers: list[NegativeSampler]) -> None:
        self._config, self._samplers = config, samplers

    def sample(self, users: Array, positives: Array, rng: np.random.Generator, epoch: int) -> Drawn:
        sampler = self._samplers[self._config.stage(epoch)]
        return sampler.sample(users, positives, rng, epoch)


class _LiveStages(LiveNegatives):
    def __init__(self, config: Curriculum, stages: list[LiveNegatives]) -> None:
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList(stages)

    def before(self, batch: Batch, module: RetrievalModule, epoch: int, step: int) -> Batch:
        return self._at(epoch).before(batch, module, epoch, step)

    def after(self, embeddings: Embeddings, epoch: int) -> Embeddings:
        return self._at(epoch).after(embeddings, epoch)

    def _at(self, epoch: int) -> LiveNegatives:
        stage = self.stages[self.config.stage(epoch)]
        assert isinstance(stage, LiveNegatives)
        return stage
