"""Save a fitted estimator to a safe file, and load it without running code from the file.

A file is a skops zip with one more member, the first, which describes the file: the format number,
the versions of the packages that wrote it, and the SHA-256 of all members, so that an incomplete or
altered file is not loaded. The checksum is not a signature. What a file may do depends on the types
that `load` trusts.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from reprlib import repr as short_repr
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np

from .. import __version__
from ..estimators._fitted_attributes import CALLBACK_ATTRIBUTES
from ..tabular._blend import BOOSTED
from ..tabular._boosted_trees import PackedTrees, pack_boosting, unpack_boosting
from ..utils.atomic_write import atomic_write, check_replaceable
from ..utils.optional_dependencies import require_extra
from ._trusted_types import get_trusted_types

# Attributes that are not saved: the callbacks of an estimator.
_OMITTED_ATTRIBUTES = ("_skl_callbacks", *CALLBACK_ATTRIBUTES)

# The format number of new files, and the newest that can be read.
FORMAT = 1

# The member that describes the file, and the one in which skops describes the objects.
_DESCRIPTION, SCHEMA = "skbackprop.json", "schema.json"

# Maximum size of the content in memory: 100 times the file size, plus a megabyte. The text of
# models compresses to between a tenth and a fortieth, that of a zip bomb to a thousandth.
_MAX_RATIO, _EXTRA_SIZE = 100, 1 << 20


class CorruptFileError(Exception):
    """A file cannot be loaded. The message continues a sentence that begins with "The file"."""


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write an estimator to a file that `load` reads without running code from it.

    Before the file is written, the estimator is loaded back, so what can be saved can be loaded. If
    anything fails, an older file of this name stays as it was.

    Callbacks are code and are left out, also those of nested estimators. The training state is
    saved as in a pickle: after ``partial_fit``, and with ``warm_start=True``.

    Parameters
    ----------
    estimator : estimator
        An estimator of this package, fitted or not, or one of scikit-learn that contains one, such
        as a pipeline.
    path : str or path
        The file. By convention its name ends in ``.skops``.

    Raises
    ------
    ImportError
        If skops is not installed.
    TypeError
        If skops cannot store a part of the estimator, such as a dict with boolean keys. The message
        names the part.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : Load an estimator from a file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.persistence import load, save
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(max_iter=500, random_state=0).fit(X, y)
    >>> path = Path(tempfile.mkdtemp()) / "iris.skops"
    >>> save(model, path)
    >>> bool((load(path).predict_proba(X) == model.predict_proba(X)).all())
    True
    """
    skops_io, path, name = _import_skops("save"), Path(path), type(estimator).__name__
    file = BytesIO()
    try:
        _pickle_to(file, estimator)
    except Exception as error:
        part, part_name, cause = _find_unsavable_part(
            estimator, name, error, partial(_pickle_to, BytesIO())
        )
        if (why := _describe_unnamed_code(part)) is not None:
            place = part_name.removeprefix(name).removeprefix(".")
            which = f"its {place} is" if place else "it is"
            raise TypeError(f"{name} cannot be saved, because {which} {why}.") from None
        reason = f"{part_name}, which is {short_repr(part)}, cannot be pickled: {cause!r}"
        raise _make_save_error(name, reason) from cause
    stripped = pickle.loads(file.getvalue())
    for boosting in _find_boosting(stripped):
        pack_boosting(boosting)
    try:
        content = _dump(stripped, skops_io)
    except Exception as error:
        part, part_name, cause = _find_unsavable_part(
            stripped, name, error, partial(_dump, skops_io=skops_io)
        )
        reason = f"skops cannot restore {part_name}, which is {short_repr(part)}: {cause!r}"
        raise _make_save_error(name, reason) from cause
    data = pack(content)
    try:
        check_replaceable(path)
        with atomic_write(path) as target:
            target.write(data)
    except OSError as error:
        message = f"{name} cannot be saved there: {error.strerror}"
        raise OSError(error.errno, message, str(path)) from error


def load(path: str | os.PathLike[str], *, trusted: Sequence[str | type] = ()) -> Any:
    """Return the estimator that `save` wrote to a file, without running code from the file.

    A file consists of names of classes and of values. It is loaded only if all its classes are
    trusted: the classes that models of this package consist of (`get_trusted_types`), and those of
    scikit-learn, NumPy and SciPy that skops trusts. Anything else is not even imported. The
    checksum shows that a file is complete and unchanged, not who wrote it: do not rely on the
    predictions of a model from a stranger.

    Parameters
    ----------
    path : str or path
        The file.
    trusted : sequence of str or type, default=()
        Further classes and functions to trust, such as your own or those that the error message
        names. Names are full ones, such as ``"my_module.MyLoss"``. They are imported, instantiated
        and called as the file says.

    Returns
    -------
    estimator : estimator
        The estimator, equal to the saved one, without callbacks.

    Raises
    ------
    ImportError
        If skops is not installed.
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file was not written by `save`, is damaged or incomplete, has a newer format, or
        names a type that is not trusted. The message says what to do.

    See Also
    --------
    save : Save an estimator to a file.
    get_trusted_types : Types that files may hold.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.persistence import load, save
    >>> path = Path(tempfile.mkdtemp()) / "model.skops"
    >>> save(BackpropRegressor(alpha=0.01), path)
    >>> load(path)
    BackpropRegressor(alpha=0.01)
    """
    skops_io = _import_skops("load")
    if isinstance(trusted, str):
        raise TypeError(f"trusted must be a list of names, got {trusted!r}. Use [{trusted!r}].")
    try:
        content, versions = unpack(Path(path).read_bytes())
        return _load_content(content, versions, [*get_trusted_types(), *trusted], skops_io)
    except CorruptFileError as error:
        raise ValueError(f"The file {str(path)!r} {error}") from error.__cause__


def _load_content(
    content: bytes, versions: Mapping[str, str], trusted: Sequence[str | type], skops_io: ModuleType
) -> Any:
    """Load an estimator from the skops part of a file.

    Raises
    ------
    CorruptFileError
        If the file names a type that is not trusted, or skops cannot load it.
    """
    try:
        loaded = skops_io.loads(content, trusted=trusted)
        with ZipFile(BytesIO(content)) as archive:
            has_trees = PackedTrees.__name__.encode() in archive.read(SCHEMA)
        for boosting in _find_boosting(loaded) if has_trees else ():
            unpack_boosting(boosting)
        return loaded
    except skops_io.exceptions.UntrustedTypesFoundException as error:
        names = {
            each if isinstance(each, str) else f"{each.__module__}.{each.__qualname__}"
            for each in trusted
        }
        unknown = sorted(set(skops_io.get_untrusted_types(data=content)) - names)
        raise CorruptFileError(
            f"contains the types {', '.join(unknown)}, which are not trusted, so it was not "
            "loaded. If you know these types and trust the author of the file, load it with "
            f"trusted={unknown}."
        ) from error
    except Exception as error:
        written_by, installed = (
            ", ".join(f"{name} {number}" for name, number in each.items())
            for each in (versions, _get_versions())
        )
        raise CorruptFileError(
            f"is complete, but skops cannot load it: {error!r}. It was written by {written_by}, "
            f"and installed are {installed}. Install the versions that wrote it."
        ) from error


def _dump(thing: Any, skops_io: ModuleType) -> bytes:
    """Return the skops file of an object, or raise an error if skops does not restore it."""
    content: bytes = skops_io.dumps(thing)

    def check_keys(part: dict[str, Any]) -> dict[str, Any]:
        for key in part.get("key_types", {}).get("content", ()):
            if key["__class__"] in ("bool", "bool_"):  # skops makes True of both
                raise ValueError("a dict has boolean keys")
        return part

    with ZipFile(BytesIO(content)) as archive:
        json.loads(archive.read(SCHEMA), object_hook=check_keys)
    skops_io.loads(content, trusted=skops_io.get_untrusted_types(data=content))
    return content


def _pickle_to(file: BytesIO, thing: Any) -> None:
    """Pickle an object without callbacks and memory maps."""
    _StrippingPickler(file, pickle.HIGHEST_PROTOCOL).dump(thing)


def _describe_unnamed_code(part: Any) -> str | None:
    """Return what is wrong with code that no module names, and what to do; None for other parts."""
    if isinstance(part, FunctionType) and part.__name__ == "<lambda>":
        return "a lambda, which a file cannot name: use a function defined by def in a module"
    code = part if isinstance(part, (FunctionType, type)) else type(part)
    if "<locals>" not in code.__qualname__:
        return None
    kind, name = "class" if isinstance(code, type) else "function", code.__name__
    what = f"the {kind} {name}" if code is part else f"an object of the class {name}"
    return f"{what}, which is defined inside a function: define it at the top level of a module"


def _find_unsavable_part(
    thing: Any, name: str, error: Exception, try_to_save: Callable[[Any], Any]
) -> tuple[Any, str, Exception]:
    """Return the smallest part of an object that can't be saved, its name and the error."""
    parts: dict[str, Any] = {}
    if isinstance(thing, dict):
        parts = {f"{name}[{key!r}]": value for key, value in thing.items()}
    elif isinstance(thing, (list, tuple)):
        parts = {f"{name}[{i}]": item for i, item in enumerate(thing)}
    elif not isinstance(thing, type):
        attributes = getattr(thing, "__dict__", {})
        parts = {
            f"{name}.{attribute}": value
            for attribute, value in attributes.items()
            if attribute not in _OMITTED_ATTRIBUTES
        }
    for part_name, part in parts.items():
        try:
            try_to_save(part)
        except Exception as part_error:
            return _find_unsavable_part(part, part_name, part_error, try_to_save)
    return thing, name, error


def _make_save_error(name: str, reason: str) -> TypeError:
    return TypeError(
        f"{name} cannot be saved to a safe file: {reason}. Functions and classes must be "
        "importable from a module, and keys of dicts and levels of categories must be strings or "
        "numbers (use 0 and 1 instead of False and True). If you cannot change this, use pickle, "
        "but only for readers who trust you."
    )


def _import_skops(caller: str) -> ModuleType:
    with require_extra(caller, extra="skops"):
        import skops.io.exceptions
    module: ModuleType = skops.io
    return module


def _get_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a file depends on."""
    others = {name: version(name) for name in ("scikit-learn", "numpy", "scipy", "skops")}
    return {"python": platform.python_version(), "skbackprop": __version__, **others}


class _StrippingPickler(pickle.Pickler):
    """Pickler that leaves out callbacks and turns memory-mapped arrays into plain ones."""

    def reducer_override(self, thing: Any) -> Any:
        """Return the reduced form of an object, without callbacks and memory maps."""
        if isinstance(thing, np.memmap):
            return np.array(thing).__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        attributes = getattr(thing, "__dict__", None)
        if not isinstance(attributes, dict) or attributes.keys().isdisjoint(_OMITTED_ATTRIBUTES):
            return NotImplemented
        factory, arguments, state, *rest = thing.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        state = {name: value for name, value in state.items() if name not in _OMITTED_ATTRIBUTES}
        return factory, arguments, state, *rest


class _BoostingFinder(pickle.Pickler):
    """Pickler that writes nothing and collects gradient boosting of scikit-learn."""

    def __init__(self) -> None:
        super().__init__(SimpleNamespace(write=lambda data: None), pickle.HIGHEST_PROTOCOL)
        self.found: list[Any] = []

    def reducer_override(self, thing: Any) -> Any:
        """Collect an object if it is gradient boosting."""
        if type(thing) in BOOSTED:
            self.found.append(thing)
        return NotImplemented


def _find_boosting(thing: Any) -> list[Any]:
    """Return the gradient boosting of scikit-learn that an object holds."""
    finder = _BoostingFinder()
    finder.dump(thing)
    return finder.found


# ----------------------------------------------------------------------------- file format


def pack(content: bytes) -> bytes:
    """Return the bytes of a file with the content of a skops zip."""
    with ZipFile(BytesIO(content)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    description = {"format": FORMAT, "written_by": _get_versions()}
    description["sha256"] = _compute_checksum(description, members)
    members = {_DESCRIPTION: json.dumps(description, indent=1).encode()} | members
    # Only the text of the schema compresses well.
    file = _make_zip(members, compressed=SCHEMA)
    size = sum(map(len, members.values()))
    return file if size <= _max_size(file) else _make_zip(members)


def unpack(file: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the skops zip of a file, and the versions of the packages that wrote it.

    Raises
    ------
    CorruptFileError
        If `save` did not write the file, if it is incomplete or altered, or has a newer format.
    """
    if not file.startswith(b"PK\x03\x04"):
        raise CorruptFileError("was not written by skbackprop.persistence.save.")
    try:
        members = _read_members(file)
        if _DESCRIPTION not in members:
            raise CorruptFileError(
                "is a zip, but was not written by skbackprop.persistence.save, because it has no "
                f"{_DESCRIPTION}. If skops.io.dump wrote it, use skops.io.load(path, "
                "trusted=get_trusted_types())."
            )
        description = json.loads(members.pop(_DESCRIPTION))
        number, versions = description["format"], dict(description["written_by"])
        is_unchanged = description.pop("sha256") == _compute_checksum(description, members)
    except CorruptFileError:
        raise
    except Exception as error:  # from zipfile, zlib, struct, json or dict
        raise CorruptFileError(
            f"is damaged or incomplete ({error!r}). Use another copy of it."
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
    _reject_shared_references(members[SCHEMA])
    return _make_zip(members), versions


def _make_zip(members: Mapping[str, bytes], compressed: str | None = None) -> bytes:
    """Return a zip of members, one of which may be compressed."""
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member, ZIP_DEFLATED if name == compressed else ZIP_STORED)
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
                f"is not a valid model, because it claims to contain {size} bytes in a file of "
                f"{len(file)} bytes. Do not use it."
            )
        return {info.filename: archive.read(info) for info in infos}


def _reject_shared_references(schema: bytes) -> None:
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
            raise CorruptFileError(
                "is not a valid model, because some of its references contradict each other. Do "
                "not use it."
            )
        return size

    try:
        size_of(json.loads(schema))
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptFileError(
            f"has no schema that skops can read: {error!r}. Use another copy of it."
        ) from error


def _compute_checksum(description: Mapping[str, Any], members: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of a description and of all members, with their names and lengths."""
    checksum = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, member in members.items():
        checksum.update(json.dumps([name, len(member)]).encode())
        checksum.update(member)
    return checksum.hexdigest()
