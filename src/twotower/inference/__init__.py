"""Inference from a bundle, without torch: recommendation requests in, ranked items out."""

from typing import TYPE_CHECKING

from twotower.exports import on_first_use
from twotower.inference.filters import Filters
from twotower.inference.options import RecommendOptions
from twotower.inference.pipeline import Pipeline, Recommendation
from twotower.inference.requests import Request

if TYPE_CHECKING:
    from twotower.inference.business_rules import BusinessRules
else:
    __getattr__ = on_first_use(__name__, {"BusinessRules": "twotower.inference.business_rules"})

__all__ = ["BusinessRules", "Filters", "Pipeline", "RecommendOptions", "Recommendation", "Request"]
