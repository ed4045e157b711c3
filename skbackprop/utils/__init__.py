"""Helpers without dependencies on other rooms: arrays, settings, validation, files."""
