"""Deep equality of settings."""

from dataclasses import InitVar, dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
import pytest

from skbackprop.activations import LeakyRelu
from skbackprop.losses import Huber
from skbackprop.optimizers import SGD, Adam
from skbackprop.utils.configurable import is_equal


class Odd:
    def __eq__(self, other):
        raise KeyError("shape")

    def __repr__(self):  # without an address, which would name its tests otherwise in each process
        return "Odd()"

    __hash__ = None


@dataclass(frozen=True)
class Holder:
    """A user's own part that holds an array: its own == raises a ValueError."""

    values: np.ndarray


class Weighted(Huber):
    """A user's own, derived from a dataclass without being one: ``==`` sees `delta` alone."""

    def __init__(self, delta, weight):
        super().__init__(delta)
        object.__setattr__(self, "weight", weight)


@dataclass(frozen=True)
class FromFile:
    """One that keeps what it is made of under another name."""

    numbers: InitVar[list]

    def __post_init__(self, numbers):
        object.__setattr__(self, "_values", np.array(numbers))

    @cached_property
    def total(self):
        return self._values.sum()


def looked_at(part):
    """Return a part that has worked out what it keeps."""
    assert part.total == 3
    return part


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
    (Weighted(1, 2), Weighted(1.0, 2)),
    (FromFile([1, 2]), looked_at(FromFile([1, 2]))),
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
    (Weighted(1, 2), Weighted(1, 3)),
    (Weighted(1, 2), Huber(1)),
    (FromFile([1, 2]), FromFile([2, 1])),
    (partial(np.multiply, 2), TWICE),
    (FRAME, FRAME.copy()),
    ([Odd()], [Odd()]),
    (pd.NA, 1),
]


@pytest.mark.parametrize("one, other", EQUAL, ids=str)
def test_is_equal_is_true(one, other):
    assert is_equal(one, other) is True
    assert is_equal(other, one) is True


@pytest.mark.parametrize("one, other", DIFFERENT, ids=str)
def test_is_equal_is_false(one, other):
    assert is_equal(one, other) is False
    assert is_equal(other, one) is False
