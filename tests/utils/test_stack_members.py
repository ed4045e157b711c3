"""Stacking settings and states of members, and indexing them again."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest

from skbackprop.nn.objective import L1L2, L2
from skbackprop.optimizers import OPTIMIZERS, SGD, Adam
from skbackprop.schedules import (
    SCHEDULES,
    Adaptive,
    ConstantRate,
    LambdaSchedule,
    LearningRateSchedule,
    LinearWarmup,
    StepDecay,
)
from skbackprop.utils.arrays import concatenate_states, index_state
from skbackprop.utils.configurable import (
    index_settings,
    stack_settings,
    static_signature,
)
from skbackprop.utils.equality import is_equal
from support.stacks import assert_same_bits, per_member, variants

SETTINGS = {
    **variants(OPTIMIZERS),
    **variants(SCHEDULES),
    "l2": L2(0.3),
    "elastic": L1L2(0.3),
}
FACTORS = [1.0, 0.5, 0.25, 0.125]

every_settings = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)


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


class Unlike:
    """Settings of a user's own that are no dataclass, each equal to itself alone."""


@dataclass(frozen=True)
class Milestones(LearningRateSchedule):
    """A user's schedule with more to it than numbers."""

    factor: float = 0.5
    epochs: tuple[int, ...] = (2, 4)

    @cached_property
    def pauses(self):
        return tuple(np.diff(self.epochs))


def members_of(settings):
    """Return settings of one member each, which differ in all their numbers."""
    return [per_member(settings, [factor]) for factor in FACTORS]


def states_of(settings):
    """Return a state for each member, of random zeros and ones."""
    rng = np.random.RandomState(0)
    states = [settings.init(np.zeros((1, 5)) if hasattr(settings, "step") else 1) for _ in FACTORS]
    return [
        {name: rng.randint(2, size=array.shape).astype(array.dtype) for name, array in s.items()}
        for s in states
    ]


# --------------------------------------------------------------------------------- settings


def test_settings_of_some_members():
    optimizer = Adam(beta_1=np.array([[0.5], [0.6], [0.7]]), beta_2=0.99)
    assert index_settings(optimizer, slice(1, 2)) == Adam(beta_1=0.6, beta_2=0.99)
    some = index_settings(optimizer, np.array([0, 2]))
    np.testing.assert_array_equal(some.beta_1, [[0.5], [0.7]])
    assert some.beta_2 == 0.99
    plain = SGD()
    assert index_settings(plain, slice(0, 1)) is plain
    assert isinstance(index_settings(optimizer, np.array([1])).beta_1, float)


@every_settings
def test_indexing_inverts_stacking_of_settings(settings):
    members = members_of(settings)
    joined = stack_settings(members)
    for i, member in enumerate(members):
        assert index_settings(joined, slice(i, i + 1)) == member
        assert index_settings(joined, np.array([i])) == member


@every_settings
def test_indexing_some_members_equals_stacking_them(settings):
    members = members_of(settings)
    some, own = index_settings(stack_settings(members), [1, 3]), stack_settings(members[1::2])
    for name, value in vars(own).items():
        assert_same_bits(getattr(some, name), value, name)


@every_settings
def test_equal_members_are_joined_into_one_of_them(settings):
    members = [per_member(settings, [0.5]) for _ in range(3)]
    assert stack_settings(members) is members[0]


def test_only_differing_floats_become_arrays():
    joined = stack_settings([Adam(0.5, 0.9), Adam(0.6, 0.9)])
    assert (joined.beta_2, joined.epsilon) == (0.9, 1e-8)
    assert_same_bits(joined.beta_1, np.array([[0.5], [0.6]]))


@every_settings
def test_members_are_of_one_kind_whatever_their_numbers(settings):
    kinds = [static_signature(member) for member in members_of(settings)]
    assert all(kind == kinds[0] for kind in kinds)


def test_no_two_kinds_are_equal():
    kinds = [static_signature(settings) for settings in SETTINGS.values()]
    assert all(kind not in kinds[:i] for i, kind in enumerate(kinds))


def test_only_floats_may_differ():
    assert static_signature(Milestones(0.1)) == static_signature(Milestones(0.2))
    assert static_signature(Milestones(0.1)) != static_signature(Milestones(0.1, (2, 5)))


def test_settings_that_are_no_dataclass_join_with_themselves_alone():
    own, other = Unlike(), Unlike()
    assert static_signature(own) == static_signature(own) != static_signature(other)
    assert stack_settings([own, own]) is own
    assert index_settings(own, slice(0, 1)) is own


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


def test_settings_may_keep_a_cache():
    """What a user's dataclass has found out is not what its constructor takes."""
    joined = stack_settings([Milestones(0.1), Milestones(0.2)])
    assert joined.pauses == (2,)
    assert index_settings(joined, np.array([1])) == Milestones(0.2)


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


# ----------------------------------------------------------------------------------- states


@pytest.mark.parametrize("name", [*variants(OPTIMIZERS), *variants(SCHEDULES)])
def test_indexing_inverts_concatenation_of_states(name):
    states = states_of(SETTINGS[name])
    joined = concatenate_states(states)
    for i, state in enumerate(states):
        for own in (slice(i, i + 1), np.array([i])):
            taken = index_state(joined, own)
            assert taken.keys() == state.keys()
            for key, array in state.items():
                assert_same_bits(taken[key], array, key)


def test_concatenating_one_state_returns_it():
    state = Adam().init(np.zeros((1, 3)))
    assert concatenate_states([state]) is state


def test_a_slice_of_a_state_is_a_view_and_numbers_make_a_copy():
    state = concatenate_states(states_of(Adam()))
    for name, array in state.items():
        assert np.shares_memory(index_state(state, slice(1, 2))[name], array)
        assert not np.shares_memory(index_state(state, np.array([1]))[name], array)
