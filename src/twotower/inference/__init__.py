"""Recommendations from a bundle, without torch: from a request to its items."""

from twotower.inference.pipeline import Pipeline, Recommendation
from twotower.inference.requests import Request

__all__ = ["Pipeline", "Recommendation", "Request"]
