"""Suggestions for unknown names, by similar spelling and by synonyms of other packages."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

# The names that Keras, PyTorch, skorch, XGBoost and scikit-learn use for ours.
_SYNONYMS_FILE = Path(__file__).with_name("synonyms.toml")

# Minimum similarity of a misspelled synonym, from 0 to 1. Short synonyms resemble many words.
_MIN_SIMILARITY = 0.8

# Words that resemble one of our names, but mean something else.
_NO_MISSPELLINGS = ("softmax", "logsoftmax", "softsign", "logloss", "adadelta")

Entry = TypeVar("Entry")


def did_you_mean(given: Any, names: Iterable[str], owner: str = "") -> str:
    """Return the suggestion at the end of an error message about an unknown name.

    Parameters
    ----------
    given : object
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
    is_word = isinstance(given, str)
    word = _normalize_word(given if is_word else getattr(given, "__name__", type(given).__name__))
    valid = {_normalize_word(name): name for name in names}
    # If a word is in several rows, the first row counts.
    synonyms = {
        _normalize_word(synonym): name
        for name, words in reversed(_read_synonyms().items())
        if name in valid.values()
        for synonym in words
    }
    meant = valid.get(word) or synonyms.get(word)
    if meant is None and is_word and word not in _NO_MISSPELLINGS:
        for table, similarity in ((valid, 0.6), (synonyms, _MIN_SIMILARITY)):
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
    found = table[value]
    made: Entry = found() if isinstance(found, type) else found
    return made


def check_keywords(
    method: Callable[..., Any], given: Iterable[str], of_estimator: Iterable[str] = ()
) -> None:
    """Raise a TypeError with a suggestion if a method does not take a keyword argument.

    Parameters
    ----------
    method : callable
        The method, such as the constructor.
    given : iterable of str
        The names of the keyword arguments of the call.
    of_estimator : iterable of str, default=()
        Names of the estimator, which are suggested if no argument is similar.
    """
    names = _get_keywords(method)
    for name in given:
        if names is not None and name not in names:
            suggestion = did_you_mean(name, names) or did_you_mean(
                name, of_estimator, "the estimator's "
            )
            raise TypeError(
                f"{method.__qualname__}() got an unexpected keyword argument {name!r}.{suggestion}"
            )


@cache
def _get_keywords(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """Return the names of the keyword arguments of a method; None if it takes any."""
    _, *parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return tuple(parameter.name for parameter in parameters)


@cache
def _read_synonyms() -> dict[str, list[str]]:
    """Return the synonyms of each of our names, in the order of the file."""
    rows = tomllib.loads(_SYNONYMS_FILE.read_text(encoding="utf-8"))
    return {name: words.split() for name, words in rows.items()}


def _normalize_word(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))
