"""Vector indexes for inner-product search behind one protocol, and top-k selection."""

from twotower.index.base import ItemIndex
from twotower.index.build import IndexConfig, build_index, load_index, named_index, save_index
from twotower.index.choice import AutoConfig, IndexChoice, load_choice, named_choice
from twotower.index.compare import Measurement, compare
from twotower.index.exact import ExactConfig, ExactIndex, FlatConfig
from twotower.index.hnsw import HnswConfig
from twotower.index.ivf import IvfConfig
from twotower.index.pq import PqConfig
from twotower.index.top_k import TopK, top_k, top_k_of, top_scores

__all__ = [
    "AutoConfig",
    "ExactConfig",
    "ExactIndex",
    "FlatConfig",
    "HnswConfig",
    "IndexChoice",
    "IndexConfig",
    "ItemIndex",
    "IvfConfig",
    "Measurement",
    "PqConfig",
    "TopK",
    "build_index",
    "compare",
    "load_choice",
    "load_index",
    "named_choice",
    "named_index",
    "save_index",
    "top_k",
    "top_k_of",
    "top_scores",
]
