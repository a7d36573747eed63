"""The ablation study: a grid of variants and seeds, its statistics and its results."""
