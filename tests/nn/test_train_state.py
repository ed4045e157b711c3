"""Training resumes from a saved state to the bit; parameters are views of one array."""

import io
from dataclasses import replace

import numpy as np
import pytest

from skbackprop.activations import Tanh
from skbackprop.layers import BatchNormalization
from skbackprop.nn.train_state import TrainState
from skbackprop.optimizers import OPTIMIZERS, Adam
from skbackprop.schedules import SCHEDULES, Adaptive
from skbackprop.weight_averaging import PolyakAverage
from support import pairs
from support.stacks import (
    DTYPES,
    LOSSES,
    Member,
    assert_same_bits,
    assert_same_state,
    dense_network,
    in_turn,
    some_table,
    trained,
)

LOSS = LOSSES["squared_error-identity"]
NETWORK = dense_network((4, 6, 5, 6), (Tanh(), Tanh()), (0.1, 0.2, 0.0), BatchNormalization())


def trained_state(n_epochs=2, optimizer=None, schedule=None, **options):
    table = some_table(LOSS, 20, NETWORK.widths)
    members = [Member(table, seed=seed, is_shuffled=seed != 1) for seed in range(3)]
    arguments = NETWORK, LOSS, optimizer or Adam()
    options = {"schedule": schedule or Adaptive(), "average": PolyakAverage()} | options
    return trained(members, n_epochs, *arguments, **options)


def through_a_file(state):
    """Return what comes back from a file that holds arrays and no Python objects."""
    file = io.BytesIO()
    np.savez(file, **state.to_arrays())
    file.seek(0)
    return TrainState.from_arrays(np.load(file, allow_pickle=False), NETWORK.layout)


WAYS = {
    "file": through_a_file,
    "copy": lambda state: state.copy().with_own_random_states(),
    "members": lambda state: TrainState.concat([state.take(np.array([i])) for i in range(3)]),
}


@pytest.mark.parametrize("way, dtype", pairs(list(WAYS), DTYPES))
def test_training_resumes_from_a_state_to_the_bit(way, dtype):
    whole, half = trained_state(4, dtype=dtype), trained_state(2, dtype=dtype)
    resumed = WAYS[way](replace(half, stop_reason=[""] * 3))
    assert_same_state(trained_state(4, dtype=dtype, state=resumed), whole)


@pytest.mark.parametrize(
    "optimizer, schedule", in_turn(SCHEDULES.values(), OPTIMIZERS.values()), ids=str
)
def test_every_state_is_arrays_by_name(optimizer, schedule):
    state = trained_state(1, schedule(), optimizer())
    arrays = state.to_arrays()
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    assert not any(array.dtype.hasobject for array in arrays.values())
    assert_same_state(through_a_file(state), state)


def test_random_states_of_any_generator_come_back():
    generators = [np.random.MT19937(5), np.random.PCG64(5), np.random.SFC64(5)]
    rngs = [np.random.RandomState(generator) for generator in generators]
    for rng in rngs:
        rng.randn()  # leaves a second number behind
    back = through_a_file(replace(trained_state(), rngs=rngs))
    for rng, expected in zip(back.rngs, rngs, strict=True):
        np.testing.assert_array_equal(rng.randn(5), expected.randn(5))


def test_the_best_epoch_of_each_member_is_kept():
    state = trained_state(1)
    theta, epochs = state.parameters.theta, []
    # Scores of two members; of the third no number ever is.
    for scores in ([0.5, 0.1], [np.nan, 0.4], [0.5, 0.3], [0.6, 0.2]):
        theta += 1
        state.epoch += 1
        epochs.append(theta.copy())
        state.keep_best(np.array([[*scores, np.nan]]).T)
    assert state.best["epoch"].ravel().tolist() == [5, 3, 0]
    assert state.best["score"].ravel().tolist() == [0.6, 0.4, -np.inf]
    state.return_to_best()
    assert_same_bits(theta, np.stack([epochs[3][0], epochs[1][1], epochs[3][2]]))
