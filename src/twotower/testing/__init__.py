"""Contract suites for parts of other packages, and data sets to test them on. Needs pytest."""

from twotower.testing.datasets import block_dataset, hashed_titles
from twotower.testing.indexes import IndexContract, clustered
from twotower.testing.models import ModelContract

__all__ = ["IndexContract", "ModelContract", "block_dataset", "clustered", "hashed_titles"]
