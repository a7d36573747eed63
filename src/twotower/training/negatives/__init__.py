"""What a user did not choose: sources of negative items, fitted on the training part."""

from typing import Annotated

from pydantic import Field

from twotower.training.negatives.base import Drawn, LiveNegatives, NegativeSampler
from twotower.training.negatives.candidates import AllItems, Candidates
from twotower.training.negatives.curriculum import Curriculum, Stage
from twotower.training.negatives.hard import Hard
from twotower.training.negatives.pairs import PairSet
from twotower.training.negatives.queue import Queue
from twotower.training.negatives.sampled import InBatch, Mixed, Popularity, Uniform

Negatives = Annotated[
    InBatch | Uniform | Popularity | Mixed | Candidates | AllItems | Queue | Hard | Curriculum,
    Field(discriminator="kind"),
]
"""Every source there is; a new one is a class in this folder and a name here."""

__all__ = [
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
    "PairSet",
    "Popularity",
    "Queue",
    "Stage",
    "Uniform",
]
