"""Stacking the settings of members, and indexing them again."""

from dataclasses import dataclass

import numpy as np

from skbackprop.optimizers import SGD
from skbackprop.schedules import (
    Adaptive,
    ConstantRate,
    LambdaSchedule,
    LearningRateSchedule,
    LinearWarmup,
    StepDecay,
)
from skbackprop.utils.configurable import index_settings, is_equal, stack_settings, static_signature
from support.stacks import assert_same_bits


class Slower(SGD):
    """A user's optimizer, derived from a dataclass, that holds more than its fields."""

    def __init__(self, momentum=0.9, factor=0.5):
        super().__init__(momentum)
        object.__setattr__(self, "factor", factor)


@dataclass(frozen=True)
class Table(LearningRateSchedule):
    """A user's schedule with an array, by which its own == has no answer."""

    factors: np.ndarray
    final: float = 0.0


def test_settings_that_hold_more_than_their_fields_join_with_their_equals_alone():
    own = Slower(0.9, 0.1)
    assert is_equal(static_signature(own), static_signature(Slower(0.9, 0.1)))
    assert not is_equal(static_signature(own), static_signature(Slower(0.9, 0.2)))
    assert not is_equal(static_signature(own), static_signature(Slower(0.5, 0.1)))
    assert stack_settings([own, Slower(0.9, 0.1)]) is own
    assert index_settings(own, slice(0, 1)) is own


def test_settings_with_arrays_that_are_equal_join():
    members = [Table(np.arange(3), 0.1), Table(np.arange(3), 0.2)]
    assert is_equal(*map(static_signature, members))
    joined = stack_settings(members)
    np.testing.assert_array_equal(joined.factors, np.arange(3))
    assert_same_bits(joined.final, np.array([[0.1], [0.2]]))
    taken = index_settings(joined, np.array([1]))
    np.testing.assert_array_equal(taken.factors, np.arange(3))
    assert taken.final == 0.2


def test_settings_within_settings_are_joined_and_taken_too():
    members = [
        LinearWarmup(Adaptive(tol), length) for tol, length in [(0.1, 0.3), (0.2, 0.3), (0.2, 0)]
    ]
    assert static_signature(members[0]) == static_signature(members[2])
    assert (
        static_signature(members[0])
        != static_signature(LinearWarmup(ConstantRate()))
        != static_signature(LinearWarmup(StepDecay()))
    )
    joined = stack_settings(members)
    assert_same_bits(joined.schedule.tol, np.array([[0.1], [0.2], [0.2]]))
    assert_same_bits(joined.warmup_fraction, np.array([[0.3], [0.3], [0.0]]))
    assert joined.start_factor == 0.1
    for i, member in enumerate(members):
        assert index_settings(joined, np.array([i])) == member


def test_callables_are_not_stacked():
    """A function of a user's own may be a dataclass, but nobody said that it takes arrays."""

    @dataclass(frozen=True)
    class Falls:
        power: float

        def __call__(self, progress):
            return (1 - progress) ** self.power

    members = [LambdaSchedule(Falls(1.0)), LambdaSchedule(Falls(2.0))]
    assert static_signature(members[0]) != static_signature(members[1])
    assert static_signature(members[0]) == static_signature(LambdaSchedule(Falls(1.0)))
    assert index_settings(members[0], slice(0, 1)) == members[0]
