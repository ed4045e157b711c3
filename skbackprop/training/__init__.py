"""Training: configuration, the start, the loop, validation rows, threads and memory."""
