"""From a bundle to recommendations, without torch."""

from twotower.serving.bundle import Bundle, load_bundle, save_bundle
from twotower.serving.contents import BundleContents
from twotower.serving.manifest import Manifest, ModelInfo
from twotower.serving.peers import Peer
from twotower.serving.pipeline import Pipeline, Recommendation
from twotower.serving.requests import Request
from twotower.serving.rerank import Reranker, RerankVectors

__all__ = [
    "Bundle",
    "BundleContents",
    "Manifest",
    "ModelInfo",
    "Peer",
    "Pipeline",
    "Recommendation",
    "Request",
    "RerankVectors",
    "Reranker",
    "load_bundle",
    "save_bundle",
]
