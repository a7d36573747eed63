"""How good a model is: ranks, metrics, intervals, and the files that hold the figures."""
