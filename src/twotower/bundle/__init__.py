"""Model bundle: one folder with everything that serving needs, verified on load."""

from twotower.bundle.comparison_models import ComparisonModel
from twotower.bundle.contents import BundleContents
from twotower.bundle.manifest import Manifest, ModelInfo
from twotower.bundle.reranker import Reranker, RerankVectors
from twotower.bundle.storage import Bundle, load_bundle, save_bundle

__all__ = [
    "Bundle",
    "BundleContents",
    "ComparisonModel",
    "Manifest",
    "ModelInfo",
    "RerankVectors",
    "Reranker",
    "load_bundle",
    "save_bundle",
]
