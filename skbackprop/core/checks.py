"""Checks of settings: a value that is out of range is an error that names what is allowed."""

from __future__ import annotations

import math
import operator
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np


def check_range(
    settings: Any,
    *names: str,
    low: float = -math.inf,
    high: float = math.inf,
    closed: Literal["both", "left", "right", "neither"] = "both",
) -> None:
    """Check fields of a frozen dataclass that have to be numbers in a range.

    On return each is a Python float, which changes no array's dtype, or an array of shape
    (n_members, 1), as the members of a stack have it.

    Parameters
    ----------
    settings : dataclass
        The settings, in their `__post_init__`.
    *names : str
        The fields.
    low, high : float, default=-np.inf, np.inf
        The ends of the range.
    closed : {"both", "left", "right", "neither"}, default="both"
        The ends that belong to it.

    Raises
    ------
    ValueError
        If a field is no number, or none of the range.
    """
    opening, above = ("[", operator.ge) if closed in ("both", "left") else ("(", operator.gt)
    closing, below = ("]", operator.le) if closed in ("both", "right") else (")", operator.lt)
    for name in names:
        value = getattr(settings, name)
        is_array = _has_one_for_each_member(value)
        is_number = is_array or (isinstance(value, Real) and not isinstance(value, bool))
        if not (is_number and _all(above(value, low) & below(value, high))):
            raise ValueError(
                f"{name} of {type(settings).__name__} must be a number in the range "
                f"{opening}{low:g}, {high:g}{closing}, got {value!r}."
            )
        if not is_array:
            object.__setattr__(settings, name, float(value))


def check_count(settings: Any, *names: str) -> None:
    """Check fields of a frozen dataclass that have to be whole numbers of at least one.

    On return each is a Python int.

    Parameters
    ----------
    settings : dataclass
        The settings, in their `__post_init__`.
    *names : str
        The fields.

    Raises
    ------
    ValueError
        If a field is no int, or less than one.
    """
    for name in names:
        value = getattr(settings, name)
        is_count = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
        if not is_count:
            raise ValueError(
                f"{name} of {type(settings).__name__} must be an int of at least 1, got {value!r}."
            )
        object.__setattr__(settings, name, int(value))


def _all(inside: Any) -> bool:
    # Of two numbers, what Python compares takes a tenth of the time of NumPy's functions.
    return bool(inside.all() if isinstance(inside, np.ndarray) else inside)


def _has_one_for_each_member(value: Any) -> bool:
    is_table = isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim == 2
    return is_table and value.shape[1] == 1
