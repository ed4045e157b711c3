"""Are two values equal where all who use them would find no difference?"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import pytest

from skbackprop.activations import LeakyRelu
from skbackprop.core.equality import is_equal
from skbackprop.optimizers import SGD, Adam


class Odd:
    def __eq__(self, other):
        raise KeyError("shape")

    __hash__ = None


@dataclass(frozen=True)
class Holder:
    """A user's own part that holds an array: its own == raises a ValueError."""

    values: np.ndarray


TWICE = partial(np.multiply, 2)
FRAME = pd.DataFrame({"a": [1, 2]})
EQUAL = [
    (1, np.int64(1)),
    (0.5, np.float64(0.5)),
    (True, np.True_),
    ("relu", np.str_("relu")),
    (None, None),
    (np.nan, np.nan),
    ((5, 3), (np.int32(5), 3)),
    ([1, "a"], [1, "a"]),
    ({"a": [1.0]}, {"a": [1.0]}),
    (np.arange(3), np.arange(3)),
    ([np.arange(3)], [np.arange(3)]),
    (Adam(), Adam(epsilon=1e-8)),
    (LeakyRelu(0.3), LeakyRelu(0.3)),
    (Holder(np.arange(3)), Holder(np.arange(3))),
    (TWICE, TWICE),
    (FRAME, FRAME),
]
DIFFERENT = [
    (1, 1.0),  # a row, and all of them
    (1, True),
    (0.9, np.float32(0.9)),
    (1, "1"),
    ((5, 3), [5, 3]),
    ((5, 3), (5,)),
    ({"a": 2}, {"a": 2.0}),
    ({"a": 2}, {"b": 2}),
    (np.arange(3), np.arange(3.0)),
    (np.arange(3), np.arange(4)),
    (Adam(), Adam(beta_1=0.5)),
    (Adam(), SGD()),
    (Adam, Adam()),
    (Holder(np.arange(3)), Holder(np.arange(1, 4))),
    (partial(np.multiply, 2), TWICE),
    (FRAME, FRAME.copy()),
    (pd.NA, 1),
]


@pytest.mark.parametrize("one, other", EQUAL, ids=str)
def test_equal(one, other):
    assert is_equal(one, other) is True
    assert is_equal(other, one) is True


@pytest.mark.parametrize("one, other", DIFFERENT, ids=str)
def test_different(one, other):
    assert is_equal(one, other) is False
    assert is_equal(other, one) is False


def test_an_error_in_a_comparison_is_said():
    """Only those that NumPy and pandas raise of a truth value are no news."""
    with pytest.warns(RuntimeWarning, match="KeyError.*shape"):
        assert not is_equal([Odd()], [Odd()])
