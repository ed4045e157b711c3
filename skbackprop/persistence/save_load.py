"""Save a fitted estimator to a safe file, and load it without running code from the file."""

from __future__ import annotations

import os
import pickle
import platform
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from reprlib import repr as short_repr
from types import ModuleType
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..estimators._fitted_network import OF_CALLBACKS
from ..utils.atomic_write import atomic_write, check_replaceable
from ..utils.validation import require_extra
from ._archive import CorruptFileError, pack, unpack
from ._trusted_types import get_trusted_types

# Attributes that are not saved: the callbacks of an estimator.
_OMITTED_ATTRIBUTES = ("_skl_callbacks", *OF_CALLBACKS)

# Packages whose versions a file names.
_PACKAGES = ("skbackprop", "scikit-learn", "numpy", "scipy", "skops")


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write an estimator to a file that `load` reads without running code from it.

    Before the file is written, the estimator is loaded back and compared with the original: what
    can be saved can be loaded, unchanged to the bit. If anything fails, an older file of this name
    stays as it was.

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
        If skops cannot store a part of the estimator, or would change it, such as a dict with
        boolean keys. The message names the part.
    OSError
        If the file cannot be written.

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
        _StrippingPickler(file).dump(estimator)
    except Exception as error:
        raise _make_save_error(name, f"a part of it can't be pickled: {error!r}") from error
    stripped = pickle.loads(file.getvalue())
    content, problem, cause = _try_skops(stripped, skops_io)
    if problem is not None:
        part, part_name = _find_unsavable_part(stripped, name, skops_io)
        _, part_problem, part_cause = _try_skops(part, skops_io)
        reason = f"{part_name}, which is {short_repr(part)}: {part_problem or problem}"
        raise _make_save_error(name, f"skops can't bring back {reason}") from part_cause or cause
    data = pack(content, _get_versions())
    try:
        check_replaceable(path)
        with atomic_write(path) as target:
            target.write(data)
    except OSError as error:
        message = f"{name} can't be saved there: {error.strerror}"
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
        The estimator, equal to the saved one to the bit, without callbacks.

    Raises
    ------
    ImportError
        If skops is not installed.
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file was not written by `save`, is damaged or incomplete, has a newer format, or
        names a type that is not trusted. The message says what to do.

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
        return skops_io.loads(content, trusted=trusted)
    except skops_io.exceptions.UntrustedTypesFoundException as error:
        names = {
            each if isinstance(each, str) else f"{each.__module__}.{each.__qualname__}"
            for each in trusted
        }
        unknown = sorted(set(skops_io.get_untrusted_types(data=content)) - names)
        raise CorruptFileError(
            f"names {', '.join(unknown)}, which is not trusted, so it is not loaded. If you know "
            "these types and trust the author of the file, load it with "
            f"trusted={unknown}."
        ) from error
    except Exception as error:
        written_by, installed = (
            ", ".join(f"{name} {number}" for name, number in each.items())
            for each in (versions, _get_versions())
        )
        raise CorruptFileError(
            f"is complete, but skops can't load it: {error!r}. It was written by {written_by}, "
            f"and installed are {installed}. Install the versions that wrote it."
        ) from error


def _try_skops(thing: Any, skops_io: ModuleType) -> tuple[bytes, str | None, Exception | None]:
    """Return the skops file of an object, and the problem if skops does not restore the object."""
    try:
        content = skops_io.dumps(thing)
        trusted = skops_io.get_untrusted_types(data=content)
        loaded = skops_io.loads(content, trusted=trusted)
    except Exception as error:
        return b"", repr(error), error
    is_same = type(thing) is type(loaded) and canonical_bytes(thing) == canonical_bytes(loaded)
    return content, None if is_same else "it would not come back as it was", None


def _find_unsavable_part(thing: Any, name: str, skops_io: ModuleType) -> tuple[Any, str]:
    """Return the smallest part of an object that skops does not restore, and its name."""
    parts: dict[str, Any] = {}
    if isinstance(thing, dict):
        parts = {f"{name}[{key!r}]": value for key, value in thing.items()}
    elif isinstance(thing, (list, tuple)):
        parts = {f"{name}[{i}]": item for i, item in enumerate(thing)}
    elif not isinstance(thing, type):
        attributes = getattr(thing, "__dict__", {})
        parts = {f"{name}.{attribute}": value for attribute, value in attributes.items()}
    for part_name, part in parts.items():
        if _try_skops(part, skops_io)[1] is not None:
            return _find_unsavable_part(part, part_name, skops_io)
    return thing, name


def _make_save_error(name: str, reason: str) -> TypeError:
    return TypeError(
        f"{name} can't be saved to a safe file: {reason}. Functions and classes must be importable "
        "from a module, and keys of dicts and levels of categories must be strings or numbers (0 "
        "and 1 can stand for False and True). If you can't change it, use pickle, for readers who "
        "trust you."
    )


def _import_skops(caller: str) -> ModuleType:
    with require_extra(caller, extra="skops"):
        import skops.io.exceptions
    module: ModuleType = skops.io
    return module


def _get_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a file depends on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # a source folder that was never installed
            versions[name] = "unknown"
    return versions


class _StrippingPickler(pickle.Pickler):
    """Pickler that leaves out callbacks and turns memory-mapped arrays into plain ones."""

    def __init__(self, file: BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)

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


class _StatePickler(pickle.Pickler):
    """Pickler whose output is the same for objects with the same state."""

    def reducer_override(self, thing: Any) -> Any:
        """Return the state of objects that otherwise also pickle irrelevant attributes."""
        if isinstance(thing, np.random.RandomState):  # it also remembers an unused seed
            return type(thing), (), thing.get_state(legacy=False)
        if isinstance(thing, partial):  # its attributes are an empty dict or None
            return type(thing), (thing.func, thing.args, thing.keywords, vars(thing) or None)
        if isinstance(thing, np.ma.MaskedArray):  # the fill value is set when it is first used
            return type(thing), (thing.data, np.ma.getmaskarray(thing))
        if isinstance(thing, Bunch):  # a new one has an attribute that a pickled one lacks
            return type(thing), (), None, None, iter(thing.items())
        return NotImplemented


def canonical_bytes(thing: Any) -> bytes:
    """Return bytes that are equal for objects of equal state, down to the bits of arrays."""
    file = BytesIO()
    pickler = _StatePickler(file, protocol=4)  # protocol 5 tells views of arrays from arrays
    pickler.fast = True  # without references, so that it does not matter which parts are shared
    pickler.dump(thing)
    return file.getvalue()
