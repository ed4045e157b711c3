"""Files that are whole whenever they are read, and files that one process holds."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

try:
    import fcntl
except ImportError:  # Windows, which removes no file that is open
    fcntl: Any = None  # type: ignore[no-redef]

_DRAFT = ".skbackprop-draft-"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Provide a new file that takes the place of the one at `path` when it is complete.

    It is on the disk then, so that a loss of power leaves the one or the other. If anything is
    raised, the old file stays. A symbolic link stays one: the file that it leads to is replaced.
    Several processes may replace one file at the same time; the last one wins.

    Raises
    ------
    OSError
        If the file can't be written, or `path` is no regular file. The error names `path`.
    """
    try:
        target = _target_of(path)
        with _draft_in(target.parent) as (draft, file):
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()
            os.replace(draft, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def check_replaceable(path: Path) -> None:
    """Raise an OSError where `replaced` would, and remove drafts that killed processes left."""
    target = _target_of(path)
    with _draft_in(target.parent):
        pass
    for draft in target.parent.glob(f"{_DRAFT}*"):
        _remove_unused(draft)


def write_new_file(path: Path, content: bytes) -> None:
    """Make a file that holds this from its first moment on, unless there is a file already.

    Of several processes that do so at the same time, one makes it.
    """
    target = Path(os.path.realpath(path))
    with suppress(FileExistsError):
        try:
            with _draft_in(target.parent) as (draft, file):
                file.write(content)
                file.flush()
                os.link(draft, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            with target.open("xb", buffering=0) as file:
                file.write(content)


def append_to_file(path: Path, content: bytes) -> None:
    """Add to the end of a file in one piece, also if other processes do so at the same time."""
    with path.open("ab", buffering=0) as file:
        file.write(content)


@contextmanager
def hold_file(path: Path) -> Iterator[None]:
    """Hold a path, so that no other process or thread can do so at the same time.

    A lock file beside it says so. It ends with the process, however that ends. On a file system
    without locks nothing is held.

    Raises
    ------
    BlockingIOError
        If another one holds the path; the error names the lock file.
    """
    target = _target_of(path)
    lock = target.with_name(f".{target.name}.lock")
    file = None
    if _remove_unused(lock):
        with suppress(FileExistsError):  # another one was faster
            file = _new_file_in_use(lock)
    if file is None:
        raise BlockingIOError(errno.EAGAIN, "it is in use", str(lock))
    with file:
        if _is_locked(file):
            try:
                yield
            finally:
                _remove_own(lock, file)
            return
        _remove_own(lock, file)
    yield


def _target_of(path: Path) -> Path:
    """Return the regular file that a path leads to, whether it is there or not."""
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "It is a device or a pipe, not a regular file", str(path))
    return target


@contextmanager
def _draft_in(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Provide the path of a new file, and the file, which is removed if it is still there."""
    draft = folder / f"{_DRAFT}{uuid4().hex}"
    file = _new_file_in_use(draft)
    try:
        yield draft, file
    finally:
        try:
            file.close()  # which may be what finds the disk full
        finally:
            draft.unlink(missing_ok=True)


def _new_file_in_use(path: Path) -> BinaryIO:
    """Create a file that `_remove_unused` leaves alone until it is closed, or its process ends."""
    while True:
        file = path.open("xb")
        if fcntl is None:
            return file
        with suppress(OSError):  # some file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if _is_at(path, file):
            return file
        file.close()  # it was removed before it was locked


def _is_locked(file: BinaryIO) -> bool:
    """Return whether a file in use is known to be so by others."""
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_own(path: Path, file: BinaryIO) -> None:
    """Remove a file that this process has in use."""
    if fcntl is None:
        file.close()
    with suppress(OSError):
        path.unlink()


def _remove_unused(path: Path) -> bool:
    """Remove a file that no process has in use any more; return whether there is none now."""
    try:
        if fcntl is None:
            path.unlink()
            return True
        with path.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, file):  # not another one of that name, which has come since
                path.unlink()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Return whether a path is that of an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    """Make sure that a name in a folder is on the disk, where the system can do so."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
