"""Atomic writing: files are complete at any time, and no others are left."""

import errno
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from skbackprop import BackpropClassifier
from skbackprop.callbacks import Checkpoint
from skbackprop.persistence import save
from skbackprop.utils.atomic_write import atomic_write, check_replaceable, lock_file
from support import class_data, few_epochs, forks, quick

pytestmark = few_epochs

NEW = b"new" * 5_000


def write(path, content=NEW):
    with atomic_write(path) as file:
        for begin in range(0, len(content), 1_000):
            file.write(content[begin : begin + 1_000])


def write_checkpoint(path):
    quick(BackpropClassifier).set_callbacks(Checkpoint(path)).fit(*class_data(40))


# All that replace a file as a whole, by its suffix.
WRITERS = {
    ".bin": write,
    ".npz": write_checkpoint,
    ".skops": lambda path: save(quick(BackpropClassifier), path),
}
EACH = pytest.mark.parametrize("suffix", WRITERS)


class FileOnFullDisk(io.FileIO):
    """A file on a disk that takes a number of bytes."""

    n_left = 0

    def write(self, content):
        if len(content) > self.n_left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        FileOnFullDisk.n_left -= len(content)
        return super().write(content)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.long
@EACH
def test_full_disk_keeps_the_old_file(suffix, tmp_path, monkeypatch):
    path, write_to = tmp_path / f"file{suffix}", WRITERS[suffix]
    write_to(path)
    size, opened = path.stat().st_size, Path.open
    full = os.strerror(errno.ENOSPC)
    path.write_bytes(b"old")

    def open_on_full_disk(self, mode="r", **options):
        if mode != "xb":
            return opened(self, mode, **options)
        return io.BufferedWriter(FileOnFullDisk(self, mode), 512)

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    for share in (0, 0.3, 0.9):
        FileOnFullDisk.n_left = int(share * size)
        with pytest.raises(OSError, match=f"({path.name}.*{full})|({full}.*{path.name})"):
            write_to(path)
        assert path.read_bytes() == b"old"
        assert names_in(tmp_path) == [path.name]


@pytest.mark.linux
@EACH
def test_symbolic_link_stays_and_its_target_is_replaced(suffix, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "files").mkdir()
    path, link = (tmp_path / folder / f"file{suffix}" for folder in ("files", "links"))
    link.symlink_to(Path("..") / "files" / path.name)
    for old in (None, b"old"):  # one that leads nowhere, and one that leads to a file
        if old is not None:
            path.write_bytes(old)
        WRITERS[suffix](link)
        assert link.is_symlink()
        assert path.stat().st_size > 100 and not path.is_symlink()
    assert names_in(path.parent) == names_in(link.parent) == [path.name]


@pytest.mark.linux
@EACH
@pytest.mark.parametrize("make", ["mkdir", "mkfifo"])
@pytest.mark.parametrize("by_link", [False, True])
def test_raises_on_a_path_that_is_not_a_file(suffix, make, by_link, tmp_path):
    path = named = tmp_path / f"file{suffix}"
    getattr(os, make, os.mkdir)(path)
    if by_link:
        named = tmp_path / f"link{suffix}"
        named.symlink_to(path)
    before = path.lstat().st_mode
    said = os.strerror(errno.EISDIR) if path.is_dir() else "a device or a pipe"
    with pytest.raises(OSError, match=said) as info:
        WRITERS[suffix](named)
    assert named.name in str(info.value)
    assert path.lstat().st_mode == before
    assert names_in(tmp_path) == sorted({path.name, named.name})


def write_for_ever(path, begun):
    with atomic_write(path) as file:
        file.write(NEW)
        file.flush()
        begun.set()
        time.sleep(1_000)


def hold_for_ever(path, begun):
    with lock_file(path):
        begun.set()
        time.sleep(1_000)


def started(target, *arguments):
    """Return a process that has begun, and goes on until it is killed."""
    context = forks()
    begun = context.Event()
    process = context.Process(target=target, args=(*arguments, begun))
    process.start()
    assert begun.wait(100)
    return process


@pytest.mark.long
def test_temporary_files_of_living_processes_stay(tmp_path):
    path = tmp_path / "file.bin"
    processes = [started(write_for_ever, path) for _ in range(2)]
    try:
        for n_alive in (2, 1, 0):
            check_replaceable(tmp_path / "another.bin")
            assert len(names_in(tmp_path)) == n_alive
            if n_alive:
                processes[n_alive - 1].kill()
                processes[n_alive - 1].join()
                assert len(names_in(tmp_path)) == n_alive  # nobody has removed it yet
    finally:
        for process in processes:
            process.kill()
            process.join()


@pytest.mark.long
def test_concurrent_writes_are_complete(tmp_path):
    path, contents = tmp_path / "file.bin", [bytes([letter]) * 100_000 for letter in b"abcd"]
    write(path, contents[0])

    def write_often(content):
        for _ in range(20):
            write(path, content)
            check_replaceable(path)

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write_often, content) for content in contents]
        while not all(writer.done() for writer in writers):
            assert path.read_bytes() in contents
    for writer in writers:
        writer.result()
    assert names_in(tmp_path) == [path.name]


@pytest.mark.long
@pytest.mark.linux
def test_lock_ends_with_release_or_process(tmp_path):
    path, link = tmp_path / "file.bin", tmp_path / "link.bin"
    link.symlink_to(path)

    def is_held():
        with suppress(BlockingIOError):
            for each in (path, link):
                with lock_file(each):
                    pass
            return False
        return True

    assert not is_held()
    with lock_file(path):
        assert is_held()
        with lock_file(tmp_path / "another.bin"):
            pass
    assert not is_held()
    process = started(hold_for_ever, link)
    try:
        assert is_held()
    finally:
        process.kill()
        process.join()
    assert names_in(tmp_path) == [".file.bin.lock", "link.bin"]  # it was killed
    assert not is_held()
    assert names_in(tmp_path) == ["link.bin"]
    with pytest.raises(KeyError), lock_file(path):
        raise KeyError
    assert names_in(tmp_path) == ["link.bin"]


def test_one_of_many_processes_gets_the_lock(tmp_path):
    path, inside, seen = tmp_path / "file.bin", [], []

    def ask(number):
        for _ in range(50):
            with suppress(BlockingIOError), lock_file(path):
                inside.append(number)
                seen.append(len(inside))
                time.sleep(0.0005)
                inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert set(seen) == {1}
    assert names_in(tmp_path) == []
