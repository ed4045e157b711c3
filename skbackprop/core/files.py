"""Files that are whole whenever they are read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4


def draft_of(path: Path) -> Path:
    """Return the path of a new file in the same directory."""
    return path.with_name(f".{uuid4().hex}{path.suffix}")


@contextmanager
def replaced(path: Path, draft: Path) -> Iterator[BinaryIO]:
    """Provide a new file that takes the place of the one at `path` when it is complete.

    It is on the disk then, so that a loss of power leaves the one or the other. If anything is
    raised, the old one stays.

    Parameters
    ----------
    path : Path
        The file.
    draft : Path
        Where it stands as long as it is written, in the same folder.
    """
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make sure that a name in a folder is on the disk, where the system can do so."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
