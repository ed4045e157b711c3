"""Validation of settings: out of range is an error, within it Python floats."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from skbackprop.utils.validation import validate_interval


@dataclass(frozen=True)
class Settings:
    value: Any
    other: Any = 0.5

    def checked(self, **options):
        validate_interval(self, "value", "other", **options)
        return self


@pytest.mark.parametrize(
    "closed, allowed, forbidden",
    [
        ("both", [0, 0.5, 1], [-1e-9, 1.1]),
        ("left", [0, 0.5], [-1e-9, 1]),
        ("right", [0.5, 1], [0, 1.1]),
        ("neither", [1e-300, 0.5], [0, 1]),
    ],
)
def test_closed_ends_belong_to_the_range(closed, allowed, forbidden):
    for value in allowed:
        Settings(value).checked(low=0, high=1, closed=closed)
    for value in [*forbidden, np.nan, np.inf, -np.inf]:
        with pytest.raises(ValueError, match="value of Settings must be a number in the range"):
            Settings(value).checked(low=0, high=1, closed=closed)


@pytest.mark.parametrize(
    "value",
    [np.array(0.5), np.array([0.5]), np.ones((1, 2)), np.array([["0.5"]]), np.array([[1]])],
    ids=repr,
)
def test_raises_on_array_of_wrong_shape(value):
    with pytest.raises(ValueError, match="value of Settings must be a number in the range"):
        Settings(value).checked()


@pytest.mark.parametrize("value", [1, np.float64(0.3), np.float32(0.3), np.int64(1)], ids=repr)
def test_numbers_become_python_floats(value):
    settings = Settings(value).checked()
    assert type(settings.value) is float
    assert settings.value == value


def test_each_member_is_checked():
    column = np.array([[0.5], [1.0]])
    assert Settings(column).checked(low=0, high=1).value is column
    with pytest.raises(ValueError, match="value of Settings"):
        Settings(column).checked(low=0, high=1, closed="left")


# ---------------------------------------------------------------------------------- counts
