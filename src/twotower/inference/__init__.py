"""Recommendations from a bundle, without torch: from a request to its items."""

from twotower.inference.business_rules import BusinessRules
from twotower.inference.filters import Filters
from twotower.inference.options import RecommendOptions
from twotower.inference.pipeline import Pipeline, Recommendation
from twotower.inference.requests import Request

__all__ = ["BusinessRules", "Filters", "Pipeline", "RecommendOptions", "Recommendation", "Request"]
