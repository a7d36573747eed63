"""The pages of the demo; each has one function, ``show``."""
