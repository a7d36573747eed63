"""Retraining as a loop: from a running service's events to the next bundle in its place."""

from twotower.retraining.gate import Thresholds, Verdict, judged
from twotower.retraining.loop import Outcome, RetrainSettings, retrain, roll_back
from twotower.retraining.shelf import Shelf, ShelfEntry

__all__ = [
    "Outcome",
    "RetrainSettings",
    "Shelf",
    "ShelfEntry",
    "Thresholds",
    "Verdict",
    "judged",
    "retrain",
    "roll_back",
]
