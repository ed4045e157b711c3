"""Atomic writing of files, and lock files."""

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

# The beginning of the names of temporary files.
_DRAFT = ".skbackprop-draft-"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces the one at `path` when it is complete.

    The new file is synced to disk first, so after a power failure there is the old or the new file.
    If anything is raised, the old file stays. A symbolic link stays, and its target is replaced. If
    several processes replace a file at the same time, the last one wins.

    Raises
    ------
    OSError
        If the file can't be written, or `path` is not a regular file. The error names `path`.
    """
    try:
        target = _resolve_target(path)
        with _temporary_file(target.parent) as (draft, file):
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
    """Raise an OSError if `atomic_write` would, and remove temporary files of killed processes."""
    target = _resolve_target(path)
    with _temporary_file(target.parent):
        pass
    for draft in target.parent.glob(f"{_DRAFT}*"):
        _remove_unused(draft)


def write_new_file(path: Path, content: bytes) -> None:
    """Create a file with its content in one step, unless the file exists.

    If several processes do so at the same time, one of them creates the file.
    """
    target = Path(os.path.realpath(path))
    with suppress(FileExistsError):
        try:
            with _temporary_file(target.parent) as (draft, file):
                file.write(content)
                file.flush()
                os.link(draft, target)
        except FileExistsError:
            raise
        except OSError:  # file systems without hard links
            with target.open("xb", buffering=0) as file:
                file.write(content)


def append_to_file(path: Path, content: bytes) -> None:
    """Append to a file in one write, which other processes do not interleave."""
    with path.open("ab", buffering=0) as file:
        file.write(content)


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Lock a path against other processes and threads, by a lock file beside it.

    The lock ends with the process. On file systems without locks there is none.

    Raises
    ------
    BlockingIOError
        If another process or thread holds the path; the error names the lock file.
    """
    target = _resolve_target(path)
    lock = target.with_name(f".{target.name}.lock")
    file = None
    if _remove_unused(lock):
        with suppress(FileExistsError):  # another process was faster
            file = _create_locked_file(lock)
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


@contextmanager
def prefix_file_errors(owner: Any, path: Path) -> Iterator[None]:
    """Add the class of the owner, and what to do, to the message of an OSError."""
    try:
        yield
    except OSError as error:
        name = type(owner).__name__
        message = f"{name} cannot write to its path. Make it writable, or set another path"
        raise OSError(error.errno, f"{message}: {error.strerror or error}", str(path)) from error


def _resolve_target(path: Path) -> Path:
    """Return the regular file that a path refers to, whether or not it exists."""
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
def _temporary_file(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a temporary file, provide its path and the file, and remove it at the end."""
    draft = folder / f"{_DRAFT}{uuid4().hex}"
    file = _create_locked_file(draft)
    try:
        yield draft, file
    finally:
        try:
            file.close()  # may raise an error if the disk is full
        finally:
            draft.unlink(missing_ok=True)


def _create_locked_file(path: Path) -> BinaryIO:
    """Create a locked file, which `_remove_unused` does not remove until it is closed."""
    while True:
        file = path.open("xb")
        if fcntl is None:
            return file
        with suppress(OSError):  # file systems without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if _is_at(path, file):
            return file
        file.close()  # removed before it was locked


def _is_locked(file: BinaryIO) -> bool:
    """Return whether the file is locked for other processes."""
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_own(path: Path, file: BinaryIO) -> None:
    """Remove a file that this process has open."""
    if fcntl is None:
        file.close()
    with suppress(OSError):
        path.unlink()


def _remove_unused(path: Path) -> bool:
    """Remove a file that no process has locked; return whether it is gone."""
    try:
        if fcntl is None:
            path.unlink()
            return True
        with path.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, file):  # not a new file of the same name
                path.unlink()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Return whether a path refers to an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    """Sync a folder to disk, if the system can do so."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
