"""Checks of settings and names, with suggestions, and of packages of extras."""

from __future__ import annotations

import inspect
import math
import operator
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache, partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np

# Words that resemble one of our names, but mean something else.
_NO_MISSPELLINGS = ("softmax", "logsoftmax", "softsign", "logloss", "adadelta")

# What replaces arguments of generalized linear models.
_REPLACEMENTS = dict.fromkeys(
    ("exposure", "offset"),
    " Fit y / exposure with sample_weight=exposure / exposure.mean(), where offset = "
    "np.log(exposure): see docs/user_guide/losses.md.",
)

Entry = TypeVar("Entry")


def did_you_mean(word: Any, names: Iterable[str], owner: str = "") -> str:
    """Return the suggestion at the end of an error message about an unknown name.

    Parameters
    ----------
    word : object
        The value that is not a valid name. For classes, functions and other objects, such as
        ``torch.nn.ReLU``, their name or that of their class is used.
    names : iterable of str
        The valid names.
    owner : str, default=""
        What the valid names belong to, such as "the estimator's ".

    Returns
    -------
    suggestion : str
        " Did you mean ...?" with the valid name that is the same word, a synonym or has a similar
        spelling, in this order; empty if there is none.
    """
    is_string = isinstance(word, str)
    word = _normalize_word(word if is_string else getattr(word, "__name__", type(word).__name__))
    valid = {_normalize_word(name): name for name in names}
    # If a word is in several rows, the first row counts.
    synonyms = {
        _normalize_word(synonym): name
        for name, words in reversed(_read_synonyms().items())
        if name in valid.values()
        for synonym in words
    }
    meant = valid.get(word) or synonyms.get(word)
    if meant is None and is_string and word not in _NO_MISSPELLINGS:
        # Short synonyms resemble many words.
        for table, similarity in ((valid, 0.6), (synonyms, 0.8)):
            for similar in get_close_matches(word, table, n=1, cutoff=similarity):
                meant = meant or table[similar]
    return "" if meant is None else f" Did you mean {owner}{meant!r}?"


def find_by_name(parameter: str, value: Any, table: Mapping[str, Any], kind: type[Entry]) -> Entry:
    """Return the object for a name in a table of objects or classes, or the value if it is one.

    Parameters
    ----------
    parameter : str
        The name of the parameter, for the error.
    value : object
        A name in the table, or an object of the kind.
    table : mapping of str to object or class
        The objects, or the classes that are called to make one.
    kind : type
        The class of the objects.

    Raises
    ------
    ValueError
        If the value is anything else.
    """
    if isinstance(value, kind):
        return value
    if not isinstance(value, str) or value not in table:
        raise ValueError(
            f"{parameter} must be one of {', '.join(map(repr, table))}, or an object of class "
            f"{kind.__name__}, got {value!r}.{did_you_mean(value, table)}"
        )
    entry = table[value]
    return cast(Entry, entry() if isinstance(entry, type) else entry)


def check_keywords(
    owner: type,
    method: Callable[..., Any],
    keywords: Iterable[str],
    of_estimator: Iterable[str] = (),
) -> None:
    """Raise a TypeError with a suggestion if a method does not take a keyword argument.

    Parameters
    ----------
    owner : type
        The class, for the error.
    method : callable
        The method, such as the constructor.
    keywords : iterable of str
        The names of the keyword arguments of the call.
    of_estimator : iterable of str, default=()
        Names of the estimator, which are suggested if no argument is similar.
    """
    names = get_keywords(method)
    for name in keywords:
        if names is not None and name not in names:
            suggestion = _REPLACEMENTS.get(name) or did_you_mean(name, names)
            suggestion = suggestion or did_you_mean(name, of_estimator, "the estimator's ")
            raise TypeError(
                f"{owner.__name__}.{method.__name__}() got an unexpected keyword argument {name!r}."
                f"{suggestion}"
            )


@cache
def get_keywords(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """Return the names of the keyword arguments of a method; None if it takes any."""
    _, *parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return tuple(parameter.name for parameter in parameters)


@cache
def _read_synonyms() -> dict[str, list[str]]:
    """Return the names that other libraries use for each of ours, in the order of the file."""
    rows = tomllib.loads(Path(__file__).with_name("synonyms.toml").read_text(encoding="utf-8"))
    return {name: words.split() for name, words in rows.items()}


def _normalize_word(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


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
        is_array = isinstance(value, np.ndarray) and value.dtype.kind == "f"
        is_array = is_array and value.shape[1:] == (1,)  # one value for each member
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


@cache
def between(low: float, high: float = math.inf, closed: Any = "both") -> Callable[..., None]:
    """Return a check by `validate_interval`, for ``Annotated[float, between(0, 1)]``."""
    return partial(validate_interval, low=low, high=high, closed=closed)


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
