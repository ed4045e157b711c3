"""Training resumes from a saved state, to the bit."""

import io

import numpy as np
import pytest

from skbackprop.activations import Tanh
from skbackprop.layers.normalization import BatchNormalization
from skbackprop.nn.network import dense_network
from skbackprop.nn.train_state import TrainState
from skbackprop.optimizers import OPTIMIZERS, Adam
from skbackprop.schedules import SCHEDULES, Adaptive
from skbackprop.weight_averaging import PolyakAverage
from support.stacks import DTYPES, LOSSES, Member, assert_same_bits, some_table, stack_of, trained

LOSS = LOSSES["squared_error-identity"]
NETWORK = dense_network((4, 6, 5, 6), (Tanh(), Tanh()), (0.1, 0.2, 0.0), BatchNormalization())


ADAM, ADAPTIVE = Adam(), Adaptive()


def new_stack(optimizer=ADAM, schedule=ADAPTIVE, **options):
    table = some_table(LOSS, 20, NETWORK.widths)
    members = [Member(table, seed=seed, is_shuffled=seed != 1) for seed in range(3)]
    return stack_of(members, NETWORK, LOSS, optimizer, schedule=schedule, **options)


def through_a_file(state, layout):
    """Return what comes back from a file that holds arrays and no Python objects."""
    file = io.BytesIO()
    np.savez(file, **state.to_arrays())
    file.seek(0)
    return TrainState.from_arrays(np.load(file, allow_pickle=False), layout)


def assert_same_state(state, expected):
    got, arrays = state.to_arrays(), expected.to_arrays()
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        assert_same_bits(got[name], array, name)


WAYS = {
    "file": lambda state: through_a_file(state, NETWORK.layout),
    "copy": TrainState.copy,
    "parts": lambda state: TrainState.concatenate([state.take(np.array([i])) for i in range(3)]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_training_resumes_from_a_state_to_the_bit(way, dtype):
    options = {"dtype": dtype, "average": PolyakAverage()}
    whole, first, second = (new_stack(**options) for _ in range(3))
    trained(whole, 4)
    trained(first, 2)
    second.state = WAYS[way](first.state)
    second._bind()
    trained(second, 2)
    assert_same_state(second.state, whole.state)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_state_is_arrays_by_name(optimizer, schedule):
    stack = new_stack(optimizer=OPTIMIZERS[optimizer](), schedule=SCHEDULES[schedule]())
    trained(stack, 1)
    arrays = stack.state.to_arrays()
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    assert not any(array.dtype.hasobject for array in arrays.values())
    assert_same_state(through_a_file(stack.state, NETWORK.layout), stack.state)


def test_streams_of_any_generator_travel():
    state = new_stack().state
    generators = [np.random.MT19937(5), np.random.PCG64(5), np.random.SFC64(5)]
    state.rngs = [np.random.RandomState(generator) for generator in generators]
    for rng in state.rngs:
        rng.randn()  # leaves a second number behind
    back = through_a_file(state, NETWORK.layout)
    for rng, expected in zip(back.rngs, state.rngs, strict=True):
        np.testing.assert_array_equal(rng.randn(5), expected.randn(5))


def test_a_copy_shares_nothing():
    state = new_stack().state
    other = state.copy()
    for one, copied in zip(
        [*state.trained_arrays(), *state.schedule.values(), state.n_samples_seen],
        [*other.trained_arrays(), *other.schedule.values(), other.n_samples_seen],
        strict=True,
    ):
        assert not np.shares_memory(one, copied)
    assert other.rngs[0] is not state.rngs[0]
    assert not np.shares_memory(other.orders[0], state.orders[0])


def test_members_are_taken_as_views_or_copies():
    state = new_stack().state
    view = state.take(slice(1, 2))
    assert np.shares_memory(view.optimizer["first_moment"], state.optimizer["first_moment"])
    own = state.take(np.array([2, 0]))
    assert len(own) == 2
    assert_same_bits(own.parameters.theta, state.parameters.theta[[2, 0]])
    assert not np.shares_memory(own.parameters.theta, state.parameters.theta)
    assert own.orders[0] is state.orders[2]
    assert own.masks[1] is state.masks[0]
