"""Helpers that import nothing else of the package: arrays, settings, validation, threads."""
