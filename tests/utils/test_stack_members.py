"""Stacking the settings of members, and indexing them again."""

from dataclasses import dataclass

import numpy as np

from skbackprop.schedules import (
    Adaptive,
    ConstantRate,
    LambdaSchedule,
    LinearWarmup,
    StepDecay,
)
from skbackprop.utils.configurable import index_settings, stack_settings, static_signature
from support.stacks import assert_same_bits


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
