"""Training: configuration, training loop, history, checkpoints, validation rows."""
