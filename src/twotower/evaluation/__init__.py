"""Evaluation: ranks, metrics, confidence intervals, and results files."""
