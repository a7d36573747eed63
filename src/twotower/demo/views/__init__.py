"""Pages of the demo; each has a function ``show``."""
