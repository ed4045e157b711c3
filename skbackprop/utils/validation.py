"""Checks of settings and of installed extras, and suggestions for unknown names."""

from __future__ import annotations

import inspect
import math
import operator
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

import numpy as np


def validate_interval(
    settings: Any,
    *names: str,
    low: float = -math.inf,
    high: float = math.inf,
    closed: Literal["both", "left", "right", "neither"] = "both",
) -> None:
    """Check that fields of a frozen dataclass are numbers in an interval.

    On return each is a Python float, which does not change the dtype of arrays, or an array of
    shape (n_estimators, 1), as in the settings of a stack.

    Parameters
    ----------
    settings : dataclass
        The settings; called in their `__post_init__`.
    *names : str
        The names of the fields.
    low, high : float, default=-np.inf, np.inf
        The bounds of the interval.
    closed : {"both", "left", "right", "neither"}, default="both"
        The bounds that belong to the interval.

    Raises
    ------
    ValueError
        If a field is not a number in the interval.
    """
    opening, above = ("[", operator.ge) if closed in ("both", "left") else ("(", operator.gt)
    closing, below = ("]", operator.le) if closed in ("both", "right") else (")", operator.lt)
    for name in names:
        value = getattr(settings, name)
        is_array = _is_per_member(value)
        is_number = is_array or (isinstance(value, Real) and not isinstance(value, bool))
        # For single numbers NumPy's functions take ten times as long as Python's comparison.
        is_inside: Any = is_number and above(value, low) & below(value, high)
        if not (is_inside.all() if is_array else is_inside):
            raise ValueError(
                f"{name} of {type(settings).__name__} must be a number in the range "
                f"{opening}{low:g}, {high:g}{closing}, got {value!r}."
            )
        if not is_array:
            object.__setattr__(settings, name, float(value))


def validate_positive_int(settings: Any, *names: str) -> None:
    """Check that fields of a frozen dataclass are integers of at least one.

    On return each is a Python int.

    Parameters
    ----------
    settings : dataclass
        The settings; called in their `__post_init__`.
    *names : str
        The fields.

    Raises
    ------
    ValueError
        If a field is not an int, or is less than one.
    """
    for name in names:
        value = getattr(settings, name)
        is_count = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
        if not is_count:
            raise ValueError(
                f"{name} of {type(settings).__name__} must be an int of at least 1, got {value!r}."
            )
        object.__setattr__(settings, name, int(value))


def validate_bool(settings: Any, *names: str) -> None:
    """Check that fields of a frozen dataclass are True or False.

    On return each is a Python bool.

    Parameters
    ----------
    settings : dataclass
        The settings; called in their `__post_init__`.
    *names : str
        The fields.

    Raises
    ------
    ValueError
        If a field is not a bool.
    """
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, (bool, np.bool_)):
            raise ValueError(
                f"{name} of {type(settings).__name__} must be True or False, got {value!r}."
            )
        object.__setattr__(settings, name, bool(value))


def _is_per_member(value: Any) -> bool:
    is_matrix = isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim == 2
    return is_matrix and value.shape[1] == 1


# Values of a wrong type, by parameter: what to write instead.
WRONG_KINDS: Mapping[str, Mapping[type, str]] = {
    "activation": {type(None): 'activation="identity"'},
    "learning_rate": {Real: "learning_rate_init={!r}"},
    "early_stopping": {
        str: "early_stopping=EarlyStopping({!r})",
        Real: "early_stopping=True, n_iter_no_change={!r}",
    },
    "normalization": {bool: 'normalization="batch"'},
}

# The names that Keras, PyTorch, skorch, XGBoost and scikit-learn use for ours.
_SYNONYMS_FILE = Path(__file__).with_name("synonyms.toml")

# Minimum similarity of a misspelled synonym, from 0 to 1. Short synonyms resemble many words.
_MIN_SIMILARITY = 0.8

# Words that resemble one of our names, but mean something else.
_NO_MISSPELLINGS = ("softmax", "log_softmax", "softsign", "log_loss", "adadelta")


def did_you_mean(given: Any, names: Iterable[str]) -> str:
    """Return the suggestion at the end of an error message about an unknown name.

    Parameters
    ----------
    given : object
        The value that is not a valid name. For classes, functions and other objects, such as
        ``torch.nn.ReLU``, their name or that of their class is used.
    names : iterable of str
        The valid names.

    Returns
    -------
    suggestion : str
        " Did you mean ...?" with the name that `nearest` finds; empty if it finds none.
    """
    name = nearest(given, names)
    return "" if name is None else f" Did you mean {name!r}?"


def nearest(given: Any, names: Iterable[str], is_exact: bool = False) -> str | None:
    """Return the most likely valid name: the same word, a synonym, or a similar spelling.

    With `is_exact` similar spellings are not considered.
    """
    is_word = isinstance(given, str)
    word = _normalize_word(given if is_word else getattr(given, "__name__", type(given).__name__))
    valid = {_normalize_word(name): name for name in names}
    # If a word is in several rows, the first row counts.
    meant = {
        _normalize_word(synonym): name
        for name, synonyms in reversed(read_synonyms().items())
        if name in valid.values()
        for synonym in synonyms
    }
    if word in valid or word in meant:
        return valid.get(word) or meant[word]
    if is_exact or not is_word or word in map(_normalize_word, _NO_MISSPELLINGS):
        return None
    lower = {name.lower(): name for name in valid.values()}
    typed = given.lower().replace("-", "_").replace(" ", "_")
    for similar in get_close_matches(typed, lower, n=1):
        return lower[similar]
    for similar in get_close_matches(word, meant, n=1, cutoff=_MIN_SIMILARITY):
        return meant[similar]
    return None


def suggest_value(parameter: str, value: Any, scorers: Iterable[str] = ()) -> str:
    """Return the suggestion at the end of an error message about a value of a wrong type.

    Parameters
    ----------
    parameter : str
        The name of the parameter.
    value : object
        Its invalid value.
    scorers : iterable of str, default=()
        The valid names, if the value is to be the name of a scorer.
    """
    for kind, text in WRONG_KINDS.get(parameter, {}).items():
        if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
            meant = nearest(value, scorers) if isinstance(value, str) else value
            is_unknown = meant is None and value is not None
            return "" if is_unknown else f" Did you mean {text.format(meant)}?"
    return ""


def check_keywords(
    owner: type,
    method: Callable[..., Any],
    given: Mapping[str, Any],
    elsewhere: Iterable[str] = (),
) -> None:
    """Raise a TypeError with a suggestion if a method does not take a keyword argument.

    Parameters
    ----------
    owner : type
        The class of the method.
    method : callable
        The method, such as the constructor.
    given : mapping of str to object
        The keyword arguments of the call.
    elsewhere : iterable of str, default=()
        Names of the estimator, which are suggested if no argument is similar.
    """
    names = _keywords_of(method)
    if names is None or given.keys() <= names.keys():
        return
    wrong = next(name for name in given if name not in names)
    hint = ""
    for is_exact in (True, False):
        for whose, valid in (("", names), ("the estimator's ", elsewhere)):
            meant = nearest(wrong, valid, is_exact)
            if meant is not None and not hint:
                hint = f" Did you mean {whose}{meant!r}?"
    raise TypeError(
        f"{owner.__name__}.{method.__name__}() got an unexpected keyword argument {wrong!r}.{hint}"
    )


@cache
def _keywords_of(function: Callable[..., Any]) -> dict[str, None] | None:
    """Return the keyword arguments of a method, in order; None if it takes any."""
    _, *parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {parameter.name: None for parameter in parameters}


@cache
def read_synonyms() -> dict[str, list[str]]:
    """Return the synonyms of each of our names, in the order of the file."""
    rows = tomllib.loads(_SYNONYMS_FILE.read_text(encoding="utf-8"))
    return {name: words.split() for name, words in rows.items()}


def _normalize_word(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


@contextmanager
def require_extra(owner: str, extra: str) -> Iterator[None]:
    """Context in which a failing import raises an error that says what to install.

    Parameters
    ----------
    owner : str
        The name of the function or class that needs the package.
    extra : str
        The extra that installs it.

    Raises
    ------
    ImportError
        If an import in the context fails.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or extra).partition(".")[0]
        raise ImportError(
            f"{owner} needs {package}, which cannot be imported. Install it with pip install "
            f'"skbackprop[{extra}]"'
        ) from error
