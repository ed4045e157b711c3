"""Suggestions for misspelled names, synonyms of other packages, and values of a wrong type."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any

# Values of a wrong type, by parameter: what to write instead.
WRONG_TYPES: Mapping[str, Mapping[type, str]] = {
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
        " Did you mean ...?" with the name that `find_nearest_name` finds; empty if it finds none.
    """
    name = find_nearest_name(given, names)
    return "" if name is None else f" Did you mean {name!r}?"


def find_nearest_name(given: Any, names: Iterable[str], is_exact: bool = False) -> str | None:
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


def suggest_for_wrong_type(parameter: str, value: Any, scorers: Iterable[str] = ()) -> str:
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
    for kind, text in WRONG_TYPES.get(parameter, {}).items():
        if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
            meant = find_nearest_name(value, scorers) if isinstance(value, str) else value
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
    names = _get_keywords(method)
    if names is None or given.keys() <= names.keys():
        return
    wrong = next(name for name in given if name not in names)
    hint = ""
    for is_exact in (True, False):
        for whose, valid in (("", names), ("the estimator's ", elsewhere)):
            meant = find_nearest_name(wrong, valid, is_exact)
            if meant is not None and not hint:
                hint = f" Did you mean {whose}{meant!r}?"
    raise TypeError(
        f"{owner.__name__}.{method.__name__}() got an unexpected keyword argument {wrong!r}.{hint}"
    )


@cache
def _get_keywords(function: Callable[..., Any]) -> dict[str, None] | None:
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
