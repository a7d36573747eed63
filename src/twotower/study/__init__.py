"""Ablation study, hyperparameter tuning, experiment tracking, and the index benchmark."""
