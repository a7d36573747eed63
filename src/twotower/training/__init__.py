"""Training: losses, negatives, distillation, the training loop and its checkpoints."""
