"""Files that are complete or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Context with a binary file that takes the place of `path` when the context ends.

    After an error, an older file of this name stays as it was. An OSError names `path`.
    """
    draft = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        draft.unlink(missing_ok=True)
