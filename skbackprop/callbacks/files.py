"""Files that callbacks write: checked before training begins, and never found half written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.files import draft_of, replaced
from ..fitting.warnings import warn


def checked_path(owner: Any, path: Any, suffixes: Sequence[str]) -> Path:
    """Return a path that ends in one of some suffixes, wherever the process may go to."""
    if not isinstance(path, (str, os.PathLike)) or Path(path).suffix.lower() not in suffixes:
        allowed = " or ".join([", ".join(suffixes[:-1]), suffixes[-1]])
        raise ValueError(
            f"path of {type(owner).__name__} must be that of a file whose name ends in "
            f"{allowed}, got {path!r}."
        )
    return Path(path).absolute()


@contextmanager
def errors_of(owner: Any, path: Path) -> Iterator[None]:
    """Let an error of the operating system say whose path it is about."""
    try:
        yield
    except OSError as error:
        name = type(owner).__name__
        message = f"{name} can't write to its path, so make it writable or give another one"
        raise OSError(error.errno, f"{message}: {error.strerror}", str(path)) from error


def attempt(owner: Any, path: Path, write: Callable[[], object]) -> None:
    """Write, and warn where that fails: training is worth more than what is said about it."""
    try:
        write()
    except OSError as error:
        warn(
            f"{type(owner).__name__} could not write to {path}: {error.strerror}. Training goes "
            "on, and the next epoch is tried again.",
            UserWarning,
        )


def check_replaceable(path: Path) -> None:
    """Raise an OSError where `replace` would."""
    if path.is_dir():
        path.open("wb")  # which raises it
    draft = draft_of(path)
    draft.touch()
    draft.unlink()


def replace(path: Path, content: bytes) -> None:
    """Write a whole file in place of the one that there may be, at once for who reads it."""
    with replaced(path, draft_of(path)) as file:
        file.write(content)


def create(path: Path, content: bytes) -> None:
    """Make a file that holds this from its first moment on, unless there is a file already.

    Of several processes that do so at the same time, one makes it.
    """
    draft = draft_of(path)
    try:
        draft.write_bytes(content)
        os.link(draft, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        try:
            with path.open("xb", buffering=0) as file:
                file.write(content)
        except FileExistsError:
            pass
    finally:
        draft.unlink(missing_ok=True)


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file in one piece, also if other processes do so at the same time."""
    with path.open("ab", buffering=0) as file:
        file.write(content)
