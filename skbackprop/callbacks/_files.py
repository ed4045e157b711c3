"""Paths of files that callbacks write, and their error messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._sklearn import warn


def check_path(owner: Any, path: Any, suffixes: Sequence[str]) -> Path:
    """Return the absolute path of a file, after checking its suffix."""
    if not isinstance(path, (str, os.PathLike)) or Path(path).suffix.lower() not in suffixes:
        allowed = " or ".join([", ".join(suffixes[:-1]), suffixes[-1]])
        raise ValueError(
            f"path of {type(owner).__name__} must be a file name that ends in {allowed}, "
            f"got {path!r}."
        )
    return Path(path).absolute()


@contextmanager
def prefix_file_errors(owner: Any, path: Path) -> Iterator[None]:
    """Add the name of the callback to the message of an OSError."""
    try:
        yield
    except OSError as error:
        name = type(owner).__name__
        message = f"{name} can't write to its path. Make it writable, or set another path"
        raise OSError(error.errno, f"{message}: {error.strerror or error}", str(path)) from error


def warn_on_oserror(owner: Any, path: Path, write: Callable[[], object]) -> None:
    """Write a file. On OSError, warn and continue training."""
    try:
        write()
    except OSError as error:
        warn(
            f"{type(owner).__name__} could not write to {path}: {error.strerror or error}. "
            "Training continues, and the callback tries again after the next epoch.",
            UserWarning,
        )
