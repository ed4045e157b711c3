"""File format of saved estimators: a skops zip with a description and a checksum.

The first member of the zip describes the file: the format number, the versions of the packages that
wrote it, and the SHA-256 of all members, so that an incomplete or altered file is not loaded. The
checksum is not a signature. What a file may do depends on the types that `load` trusts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

# The format number of new files, and the newest that can be read.
FORMAT = 1

# The member that describes the file, and the one in which skops describes the objects.
_DESCRIPTION, SCHEMA = "skbackprop.json", "schema.json"

# Maximum size of the content in memory: 100 times the file size, plus a megabyte. The text of
# models compresses to between a tenth and a fortieth, that of a zip bomb to a thousandth.
_MAX_RATIO, _EXTRA_SIZE = 100, 1 << 20

_ZIP_SIGNATURE = b"PK\x03\x04"


class CorruptFileError(Exception):
    """A file cannot be loaded. The message continues a sentence that begins with "The file"."""


def pack(content: bytes, versions: Mapping[str, str]) -> bytes:
    """Return the bytes of a file.

    Parameters
    ----------
    content : bytes
        A skops zip.
    versions : dict of str
        The versions of the packages that wrote it.
    """
    with ZipFile(BytesIO(content)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    description = {"format": FORMAT, "written_by": dict(versions)}
    description["sha256"] = _compute_checksum(description, members)
    members = {_DESCRIPTION: json.dumps(description, indent=1).encode()} | members
    # Only the text of the schema compresses well.
    file = _make_zip(members, {SCHEMA: ZIP_DEFLATED})
    size = sum(map(len, members.values()))
    return file if size <= _max_size(file) else _make_zip(members, {})


def unpack(file: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the skops zip of a file, and the versions of the packages that wrote it.

    Raises
    ------
    CorruptFileError
        If `save` did not write the file, if it is incomplete or altered, or has a newer format.
    """
    if not file.startswith(_ZIP_SIGNATURE):
        raise CorruptFileError("was not written by skbackprop.persistence.save.")
    try:
        members = _read_members(file)
    except CorruptFileError:
        raise
    except Exception as error:  # from zipfile, zlib or struct
        raise CorruptFileError(
            f"is damaged or incomplete ({error}). Use another copy of it."
        ) from error
    if _DESCRIPTION not in members:
        raise CorruptFileError(
            "is a zip, but was not written by skbackprop.persistence.save: it has no "
            f"{_DESCRIPTION}. If skops.io.dump wrote it, use "
            "skops.io.load(path, trusted=get_trusted_types())."
        )
    try:
        description = json.loads(members.pop(_DESCRIPTION))
        number, versions = description["format"], dict(description["written_by"])
        checksum = description.pop("sha256")
        is_unchanged = checksum == _compute_checksum(description, members)
    except Exception as error:
        raise CorruptFileError(
            f"is damaged: its {_DESCRIPTION} can't be read. Use another copy of it."
        ) from error
    if type(number) is int and number > FORMAT:
        raise CorruptFileError(
            f"has format {number}, written by skbackprop {versions.get('skbackprop')}, but this "
            f"version reads formats up to {FORMAT}. Install that version or a newer one."
        )
    if number != FORMAT or not is_unchanged or SCHEMA not in members:
        raise CorruptFileError(
            "is damaged: its content does not match its checksum. Use another copy of it."
        )
    _check_is_tree(members[SCHEMA])
    return _make_zip(members, {}), versions


def _make_zip(members: Mapping[str, bytes], compression: Mapping[str, int]) -> bytes:
    """Return a zip of members with the compression of each, by default none."""
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member, compression.get(name, ZIP_STORED))
    return file.getvalue()


def _max_size(file: bytes) -> int:
    """Return the maximum size of the content of a file."""
    return _MAX_RATIO * len(file) + _EXTRA_SIZE


def _read_members(file: bytes) -> dict[str, bytes]:
    """Return the members of a zip by name, in their order."""
    with ZipFile(BytesIO(file)) as archive:
        infos = archive.infolist()
        size = sum(info.file_size for info in infos)
        if size > _max_size(file):
            raise CorruptFileError(
                f"claims to hold {size} bytes in a file of {len(file)} bytes, as no model does. "
                "Do not use it."
            )
        if len({info.filename for info in infos}) < len(infos):
            raise CorruptFileError(
                "has two members with the same name, as no model has. Do not use it."
            )
        return {info.filename: archive.read(info) for info in infos}


def _check_is_tree(schema: bytes) -> None:
    """Raise an error if an object that occurs twice is not written out twice, as skops does.

    Otherwise skops would need years for a file of forty lists, each of which refers twice to the
    next one.
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
            raise CorruptFileError("refers to its own parts as no model does. Do not use it.")
        return size

    try:
        size_of(json.loads(schema))
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptFileError(f"has no schema that skops can read: {error!r}.") from error


def _compute_checksum(description: Mapping[str, Any], members: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of a description and of all members, with their names and lengths."""
    checksum = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, member in members.items():
        checksum.update(json.dumps([name, len(member)]).encode())
        checksum.update(member)
    return checksum.hexdigest()
