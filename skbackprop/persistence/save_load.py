"""`save` and `load`: a model to a file of skops and back, checked on both ways."""

from __future__ import annotations

import os
import pickle
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from reprlib import repr as short_repr
from types import ModuleType
from typing import Any

import numpy as np

from ..estimators._fitted import OF_CALLBACKS
from ..utils.atomic_write import atomic_write, check_replaceable
from ..utils.optional_dependencies import require_extra
from ._archive import CorruptFileError, pack, unpack
from ._deep_compare import first_difference, parts_of
from ._trusted_types import get_trusted_types

# What estimators keep of callbacks.
_LEFT_OUT = ("_skl_callbacks", *OF_CALLBACKS)

# Parts that pickle makes objects of, and that users do not know: an error names the object.
_INNER = ("the maker of ", "the arguments of ")

# What a file is told to be written by. All can change what a model is made of.
_WRITTEN_BY = ("skbackprop", "scikit-learn", "numpy", "scipy", "skops")


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write an estimator to a file from which `load` brings it back, without running code.

    It is read back before it takes its place, and compared with what was to be saved, bit by bit: a
    file that can be written can be read. An older file of that name stays until the new one is
    complete and on the disk, and if anything goes wrong.

    Callbacks are left out, as they are code, not a part of the model: those of `set_callbacks`, of
    the estimator and of all within it. What training goes on from is in the file as in a pickle:
    after ``partial_fit``, and with ``warm_start=True``.

    Parameters
    ----------
    estimator : estimator
        One of this package, fitted or not, or whatever of scikit-learn holds one, such as a
        pipeline.
    path : str or path
        The file; by convention its name ends in ``.skops``.

    Raises
    ------
    ImportError
        If skops is not installed.
    TypeError
        If a part of the estimator is of a kind that skops has no form for, or that it does not
        bring back as it was, such as a dict whose keys are booleans. The error names the part.
    OSError
        If the file can't be written.

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
    skops_io, path = _skops("save"), Path(path)
    model = _copy_of(estimator)
    name = type(estimator).__name__
    try:
        content, again = _there_and_back(model, skops_io)
    except Exception as error:
        part, part_name = _unreadable_part(model, name, skops_io)
        why = f"skops can't bring back {part_name}, which is {short_repr(part)}: {error!r}"
        raise _unsavable(name, why) from error
    place = first_difference(model, again, name)
    if place is not None:
        raise _unsavable(name, f"skops does not bring back {place} as it was")
    whole = pack(content, _versions())
    try:
        check_replaceable(path)
        with atomic_write(path) as file:
            file.write(whole)
    except OSError as error:
        message = f"{name} can't be saved there: {error.strerror}"
        raise OSError(error.errno, message, str(path)) from error


def load(path: str | os.PathLike[str], *, trusted: Sequence[str | type] = ()) -> Any:
    """Return the estimator that `save` has written to a file; no code in the file is run.

    A file is a list of names of classes, and of values. It is loaded if all of these are classes
    of this package that models consist of (`get_trusted_types`), or those of scikit-learn, NumPy
    and SciPy that skops trusts; whatever else it names is not even imported. Its checksum tells
    whether it is whole, not who has written it: the predictions of a stranger's model are his.

    Parameters
    ----------
    path : str or path
        The file.
    trusted : sequence of str or type, default=()
        Further classes and functions to trust, by their full names, such as
        ``"my_module.MyLoss"``: parts of your own, and others that the error names. They are
        imported, made and called as the file says.

    Returns
    -------
    estimator : estimator
        The very same, to the bit, but for callbacks.

    Raises
    ------
    ImportError
        If skops is not installed.
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is none that `save` has written, damaged, cut short or altered, of a newer format,
        or if it names what is not trusted; the message says which, and what to do.

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
    skops_io = _skops("load")
    if isinstance(trusted, str):
        raise TypeError(f"trusted must be a list of names, got {trusted!r}. Give [{trusted!r}].")
    try:
        content, about = unpack(Path(path).read_bytes())
        return _made_of(content, about, [*get_trusted_types(), *trusted], skops_io)
    except CorruptFileError as error:
        raise ValueError(f"The file {str(path)!r} {error}") from error.__cause__


def _made_of(
    content: bytes, about: dict[str, str], trusted: Sequence[str | type], skops_io: ModuleType
) -> Any:
    """Return what skops makes of the content of a file.

    Raises
    ------
    Unreadable
        If it names what is not trusted, or nothing can be made of it.
    """
    try:
        return skops_io.loads(content, trusted=trusted)
    except skops_io.exceptions.UntrustedTypesFoundException as error:
        names = {each if isinstance(each, str) else _name_of(each) for each in trusted}
        unknown = sorted(set(skops_io.get_untrusted_types(data=content)) - names)
        raise CorruptFileError(
            f"names {', '.join(unknown)}, which is not trusted, so it is not loaded. If you know "
            "what that does, and trust who has written the file, load it with "
            f"trusted={unknown}."
        ) from error
    except Exception as error:
        written_by, here = (
            ", ".join(f"{name} {number}" for name, number in versions.items())
            for versions in (about, _versions())
        )
        raise CorruptFileError(
            f"is whole, but no estimator can be made of it: {error!r}. It was written by "
            f"{written_by}; here is {here}. Install what it was written by."
        ) from error


def _there_and_back(thing: Any, skops_io: ModuleType) -> tuple[bytes, Any]:
    """Return the content of a file of skops, and the object that is read back from it."""
    content = skops_io.dumps(thing)
    trusted = skops_io.get_untrusted_types(data=content)
    return content, skops_io.loads(content, trusted=trusted)


def _unreadable_part(thing: Any, name: str, skops_io: ModuleType) -> tuple[Any, str]:
    """Return the smallest part of an object that skops can't read back alone, and its name."""
    seen: list[Any] = []  # alive, so that no other object has their ids
    while not any(thing is each for each in seen):
        seen.append(thing)
        try:
            parts = parts_of(thing, name)
        except Exception:  # what pickle takes by its name has no parts
            break
        for part_name, part in parts.items():
            if part_name.startswith(_INNER):
                continue
            try:
                _there_and_back(part, skops_io)
            except Exception:
                thing, name = part, part_name
                break
    return thing, name


def _unsavable(name: str, why: str) -> TypeError:
    return TypeError(
        f"{name} can't be saved to a safe file: {why}. Functions and classes have to be in a "
        "module, keys of dicts to be strings or numbers (0 and 1 can stand for False and "
        "True), and levels of categories too. What can't be changed can be pickled, for readers "
        "who trust you."
    )


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _skops(name: str) -> ModuleType:
    """Return `skops.io`."""
    with require_extra(name, extra="skops"):
        import skops.io.exceptions
    module: ModuleType = skops.io
    return module


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: _version_of(name) for name in _WRITTEN_BY}


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # it runs from a folder, and was never installed
        return "unknown"


class _StrippingPickler(pickle.Pickler):
    """Pickles estimators without their callbacks, and arrays that are maps of files as plain ones.

    That goes for all estimators and arrays within an object.
    """

    protocol = pickle.HIGHEST_PROTOCOL

    def reducer_override(self, thing: Any) -> Any:
        """Return how to make a thing anew, where pickle would do it otherwise."""
        if isinstance(thing, np.memmap):
            return np.array(thing).__reduce_ex__(self.protocol)
        attributes = getattr(thing, "__dict__", None)
        if not isinstance(attributes, dict) or attributes.keys().isdisjoint(_LEFT_OUT):
            return NotImplemented
        made_by, arguments, state, *rest = thing.__reduce_ex__(self.protocol)
        state = {name: value for name, value in state.items() if name not in _LEFT_OUT}
        return made_by, arguments, state, *rest


def _copy_of(estimator: Any) -> Any:
    """Return a copy of an estimator, without callbacks.

    Raises
    ------
    TypeError
        If it can't be copied.
    """
    file = BytesIO()
    try:
        _StrippingPickler(file, _StrippingPickler.protocol).dump(estimator)
    except Exception as error:
        name = type(estimator).__name__
        raise _unsavable(name, f"a part of it can't be pickled: {error!r}") from error
    return pickle.loads(file.getvalue())
