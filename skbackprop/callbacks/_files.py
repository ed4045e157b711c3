"""The files that callbacks write: their paths, and errors that name them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..training._warnings import warn


def check_path(owner: Any, path: Any, suffixes: Sequence[str]) -> Path:
    """Return a path that ends in one of some suffixes, wherever the process may go to."""
    if not isinstance(path, (str, os.PathLike)) or Path(path).suffix.lower() not in suffixes:
        allowed = " or ".join([", ".join(suffixes[:-1]), suffixes[-1]])
        raise ValueError(
            f"path of {type(owner).__name__} must be that of a file whose name ends in "
            f"{allowed}, got {path!r}."
        )
    return Path(path).absolute()


@contextmanager
def prefix_file_errors(owner: Any, path: Path) -> Iterator[None]:
    """Let an error of the operating system say whose path it is about."""
    try:
        yield
    except OSError as error:
        name = type(owner).__name__
        message = f"{name} can't write to its path, so make it writable or give another one"
        raise OSError(error.errno, f"{message}: {error.strerror or error}", str(path)) from error


def warn_on_oserror(owner: Any, path: Path, write: Callable[[], object]) -> None:
    """Write, and warn where that fails: training is worth more than what is said about it."""
    try:
        write()
    except OSError as error:
        warn(
            f"{type(owner).__name__} could not write to {path}: {error.strerror or error}. "
            "Training goes on, and the next epoch is tried again.",
            UserWarning,
        )
