"""Checks of the fields of settings: numbers in an interval, positive integers, booleans."""

from __future__ import annotations

import math
import operator
from numbers import Integral, Real
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
