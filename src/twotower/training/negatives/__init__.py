"""Negative sampling: sources of negative items, fitted on the training part."""

from typing import Annotated, Final

from pydantic import BeforeValidator, SerializeAsAny

from twotower.registry import ConfigRegistry
from twotower.training.negatives.base import (
    Drawn,
    LiveNegatives,
    NegativeSampler,
    NegativesConfig,
)
from twotower.training.negatives.candidates import AllItems, Candidates
from twotower.training.negatives.curriculum import Curriculum, Stage
from twotower.training.negatives.hard import Hard
from twotower.training.negatives.queue import Queue
from twotower.training.negatives.sampled import InBatch, Mixed, PairSet, Popularity, Uniform

NEGATIVES: Final = ConfigRegistry(
    "twotower.negatives",
    "source of negatives",
    NegativesConfig,
    {
        "in_batch": "twotower.training.negatives.sampled:InBatch",
        "uniform": "twotower.training.negatives.sampled:Uniform",
        "popularity": "twotower.training.negatives.sampled:Popularity",
        "mixed": "twotower.training.negatives.sampled:Mixed",
        "candidates": "twotower.training.negatives.candidates:Candidates",
        "all_items": "twotower.training.negatives.candidates:AllItems",
        "queue": "twotower.training.negatives.queue:Queue",
        "hard": "twotower.training.negatives.hard:Hard",
        "curriculum": "twotower.training.negatives.curriculum:Curriculum",
    },
)
"""All sources of negatives; other packages add theirs through entry points."""

Negatives = Annotated[NegativesConfig, BeforeValidator(NEGATIVES.parse), SerializeAsAny()]
"""Settings of any source, discriminated by ``kind``."""

__all__ = [
    "NEGATIVES",
    "AllItems",
    "Candidates",
    "Curriculum",
    "Drawn",
    "Hard",
    "InBatch",
    "LiveNegatives",
    "Mixed",
    "NegativeSampler",
    "Negatives",
    "NegativesConfig",
    "PairSet",
    "Popularity",
    "Queue",
    "Stage",
    "Uniform",
]
