"""The file: a zip of skops with one member more, which says what it is, and a checksum of all.

Members keep the order in which they were written, the description first. It holds the number of
the format, the versions that have written it, and the SHA-256 of itself and all other members, so
that no file is read in part, and none that has changed. The checksum is no signature: who writes a
file on purpose can write one that fits. What a file may do is a matter of `trust`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

# The format of files that are written, and the newest that can be read.
FORMAT = 1

# The member that describes the others, and skops's own description of the objects.
_ABOUT, SCHEMA = "skbackprop.json", "schema.json"

# What the content of a file may take in memory: so many times its size, and a megabyte. The text
# of models of all kinds is compressed to a tenth or a fortieth; a zip can pretend to a thousandth.
_MOST_TIMES, _MOST_BESIDE = 100, 1 << 20

_BEGINNING = b"PK\x03\x04"  # of each zip with something in it


class CorruptFileError(Exception):
    """Why a file can't be read, and what to do, in words that go on from "the file"."""


def pack(content: bytes, about: Mapping[str, str]) -> bytes:
    """Return a file.

    Parameters
    ----------
    content : bytes
        A zip of skops.
    about : dict of str
        The versions of what has written it.
    """
    with ZipFile(BytesIO(content)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    described = {"format": FORMAT, "written_by": dict(about)}
    described["sha256"] = _checksum(described, members)
    members = {_ABOUT: json.dumps(described, indent=1).encode()} | members
    # The arrays are random digits for the most part, and the text repeats itself.
    file = _zipped(members, {SCHEMA: ZIP_DEFLATED})
    size = sum(map(len, members.values()))
    return file if size <= _most_in(file) else _zipped(members, {})


def unpack(file: bytes) -> tuple[bytes, dict[str, str]]:
    """Return what `packed` was given: a zip of skops, and the versions of what has written it.

    Raises
    ------
    Unreadable
        If it is no such file, not whole, or changed; or of a newer format.
    """
    if not file.startswith(_BEGINNING):
        raise CorruptFileError("is not one that skbackprop.persistence.save has written.")
    try:
        members = _members(file)
    except CorruptFileError:
        raise
    except Exception as error:  # whatever zipfile, zlib or struct raise
        raise CorruptFileError(
            f"is damaged or cut short ({error}). Take another copy of it."
        ) from error
    if _ABOUT not in members:
        raise CorruptFileError(
            "is a zip, but not one that skbackprop.persistence.save has written: it has no "
            f"{_ABOUT}. Of skops.io.dump's read skops.io.load(path, trusted=trusted_types())."
        )
    try:
        described = json.loads(members.pop(_ABOUT))
        number, about = described["format"], dict(described["written_by"])
        checksum = described.pop("sha256")
        is_whole = checksum == _checksum(described, members)
    except Exception as error:
        raise CorruptFileError(
            "is damaged: its description can't be read. Take another copy."
        ) from error
    if type(number) is int and number > FORMAT:
        raise CorruptFileError(
            f"is of format {number}, written by skbackprop {about.get('skbackprop')}, and this "
            f"version reads formats up to {FORMAT}. Install that version or a newer one."
        )
    if number != FORMAT or not is_whole or SCHEMA not in members:
        raise CorruptFileError(
            "is damaged: its content is not what was saved, by its checksum. Take another copy."
        )
    _check_is_tree(members[SCHEMA])
    return _zipped(members, {}), about


def _zipped(members: Mapping[str, bytes], compression: Mapping[str, int]) -> bytes:
    """Return a zip, of which some members are compressed."""
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member, compression.get(name, ZIP_STORED))
    return file.getvalue()


def _most_in(file: bytes) -> int:
    """Return the most bytes that the members of a file may have."""
    return _MOST_TIMES * len(file) + _MOST_BESIDE


def _members(file: bytes) -> dict[str, bytes]:
    """Return the members of a zip by name, in their order."""
    with ZipFile(BytesIO(file)) as archive:
        infos = archive.infolist()
        size = sum(info.file_size for info in infos)
        if size > _most_in(file):
            raise CorruptFileError(
                f"says that it holds {size} bytes in a file of {len(file)}, which no model does. "
                "Do not use it."
            )
        if len({info.filename for info in infos}) < len(infos):
            raise CorruptFileError(
                "has two members of one name, which no model has. Do not use it."
            )
        return {info.filename: archive.read(info) for info in infos}


def _check_is_tree(schema: bytes) -> None:
    """Raise an error where objects that occur twice are not written twice, as skops does.

    Else a file of forty lists, each of which holds the next one twice, would keep skops busy for
    years.
    """
    sizes: dict[Any, int] = {}

    def size_of(part: Any) -> int:
        if isinstance(part, list):
            return sum(map(size_of, part))
        if not isinstance(part, dict):
            return 0
        size = 1 + sum(map(size_of, part.values()))
        number = part.get("__id__")
        if number is not None and sizes.setdefault(number, size) != size:
            raise CorruptFileError("refers to a part of itself as no model does. Do not use it.")
        return size

    try:
        size_of(json.loads(schema))
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptFileError(f"holds no description that skops can read: {error!r}.") from error


def _checksum(described: Mapping[str, Any], members: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of a description and of all members, with their names and lengths."""
    found = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, member in members.items():
        found.update(json.dumps([name, len(member)]).encode())
        found.update(member)
    return found.hexdigest()
