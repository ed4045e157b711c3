"""What a wrong name was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def did_you_mean(given: Any, names: Iterable[str]) -> str:
    """Return the question that ends an error about a wrong name.

    Parameters
    ----------
    given : object
        What was given in the place of a name.
    names : iterable of str
        The names that are valid.

    Returns
    -------
    question : str
        " Did you mean ...?" with the nearest name, whatever its case and hyphens; empty where none
        is near, or what was given is no word.
    """
    if not isinstance(given, str):
        return ""
    plain = {_plain(name): name for name in names}
    nearest = get_close_matches(_plain(given), plain, n=1)
    return f" Did you mean {plain[nearest[0]]!r}?" if nearest else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")
