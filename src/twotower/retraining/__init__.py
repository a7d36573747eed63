"""Retraining loop: from a running service's events to the next bundle in service."""

from twotower.retraining.gate import Thresholds, Verdict, judged
from twotower.retraining.loop import Outcome, RetrainSettings, retrain, roll_back
from twotower.retraining.shelf import Shelf, ShelfEntry
from twotower.retraining.watch import Watch, WatchSettings

__all__ = [
    "Outcome",
    "RetrainSettings",
    "Shelf",
    "ShelfEntry",
    "Thresholds",
    "Verdict",
    "Watch",
    "WatchSettings",
    "judged",
    "retrain",
    "roll_back",
]
