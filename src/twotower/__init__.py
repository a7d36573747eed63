"""twotower: from an interaction log and a catalogue to a served recommender."""

__version__ = "0.1.0"
