"""A stack trains each member as if it were alone, in place, and an epoch completely or not at all.

A member of a stack and the same network trained alone have to be equal to the bit. BLAS is limited
to one thread for that: several threads may split a product differently.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_expit

from skbackprop.activations import ACTIVATIONS
from skbackprop.losses import REGRESSOR_LOSSES
from skbackprop.nn.rows import Rows
from skbackprop.nn.train_state import TrainState
from skbackprop.optimizers import OPTIMIZERS, SGD, Adam
from skbackprop.testing import check_gradient
from skbackprop.weight_averaging import ExponentialMovingAverage, PolyakAverage
from support import grows_by_less
from support.stacks import (
    DTYPES,
    KINDS_OF_ROWS,
    LOSSES,
    NETWORK,
    Member,
    assert_each_as_alone,
    assert_same_state,
    dense_network,
    five_members,
    in_turn,
    iter_epochs,
    losses_of,
    peak_of_an_epoch,
    some_parameters,
    some_table,
    trained,
    variants,
)

pytestmark = pytest.mark.usefixtures("one_blas_thread")

METHODS = variants(OPTIMIZERS)
LOSS = LOSSES["log_loss-softmax"]
SQUARED_ERROR = REGRESSOR_LOSSES["squared_error"]

every_method = pytest.mark.parametrize("optimizer", METHODS.values(), ids=METHODS)


# ---------------------------------------------------------- each member as if it were alone


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("widths", [(), (1,), (7, 1, 5)], ids=str)
def test_members_of_narrow_networks(widths, n_outputs):
    """Products with a dimension of one take paths of their own in NumPy."""
    network = dense_network((3, *widths, n_outputs), (ACTIVATIONS["tanh"],) * len(widths))
    members = five_members(SQUARED_ERROR, network)
    assert_each_as_alone(members, 3, network, SQUARED_ERROR, Adam())


@st.composite
def ragged_stacks(draw):
    lengths = sorted(draw(st.lists(st.integers(1, 30), min_size=2, max_size=5)))
    is_weighted = draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    alphas = draw(st.sampled_from([[0.0], [0.1], [0.0, 0.3, 1.0]]))
    return [
        Member(
            some_table(SQUARED_ERROR, n, (3, 4, 2), weighted=weighted and n > 1, seed=seed),
            seed=seed,
            rate=0.01 / (seed + 1),
            alpha=alphas[seed % len(alphas)],
            factor=1 - 0.1 * seed,
        )
        for seed, (n, weighted) in enumerate(zip(lengths, is_weighted, strict=True))
    ]


@settings(max_examples=40)
@given(
    members=ragged_stacks(),
    batch_size=st.integers(1, 32),
    optimizer=st.sampled_from(list(METHODS.values())),
    dtype=st.sampled_from(DTYPES),
)
def test_members_of_any_length_in_batches_of_any_size(members, batch_size, optimizer, dtype):
    network = dense_network((3, 4, 2), (ACTIVATIONS["relu"],))
    arguments = network, SQUARED_ERROR, optimizer
    assert_each_as_alone(members, 2, *arguments, batch_size=batch_size, dtype=dtype)


# ----------------------------------------------------------- what an epoch is, and reports


@pytest.mark.parametrize("loss, rows", in_turn(LOSSES.values(), KINDS_OF_ROWS), ids=str)
def test_the_reported_loss_belongs_to_the_step(loss, rows):
    """One full batch at rate 1 without momentum: the step is the gradient of the loss.

    The regressor's losses are reported per target, while the step is that of their sum.
    """
    tables = [some_table(loss, 12, NETWORK.widths, seed=i, **rows) for i in range(2)]
    members = [Member(table, i, rate=1.0, alpha=0.4 * i) for i, table in enumerate(tables)]
    totals = [12 if table.weight is None else table.row_weight.sum() for table in tables]
    n_averaged = NETWORK.widths[-1] // loss.n_outputs_per_target if loss.average_over_outputs else 1

    def value_and_gradient(theta):
        epochs = iter_epochs(members, 1, NETWORK, loss, SGD(momentum=0.0), batch_size=12)
        parameters = next(epochs)().parameters
        parameters.theta[...] = theta
        squares = [(0.4 * i * np.square(w)).sum() for i, w in enumerate(parameters.regularized)]
        penalties = np.divide(squares, totals) / 2
        state = next(epochs)()
        losses = np.ravel(losses_of(state))
        value = n_averaged * (losses - penalties) + penalties
        return value.sum(), theta - state.parameters.theta

    start = some_parameters(NETWORK, range(2)).theta
    check_gradient(value_and_gradient, start, n_directions=3)


def test_the_loss_of_an_epoch_is_the_mean_over_its_batches_by_weight():
    """Worked from the scores: the penalty is divided by the weight of each batch, as the loss."""
    network, alpha, loss = dense_network((4, 2), ()), 0.7, LOSSES["log_loss-logistic"]
    table = some_table(loss, 20, network.widths, weighted=True)
    table.weight[8:16] = 0
    member = Member(table, rate=1e-300, alpha=alpha, is_shuffled=False)
    state = trained([member], 1, network, loss, SGD())

    parameters = state.parameters
    W, b = parameters.select("weights")[0][0], parameters.select("biases")[0][0]
    scores = table.X @ W + b
    of_rows = -(table.y * log_expit(scores) + (1 - table.y) * log_expit(-scores)).sum(axis=1)
    penalty, total = alpha / 2 * (W**2).sum(), 0.0
    for rows in (slice(0, 8), slice(16, 20)):  # the batch between weighs nothing
        weight = table.weight[rows].sum()
        mean = np.average(of_rows[rows], weights=table.weight[rows]) + penalty / weight
        total += weight * mean
    assert losses_of(state) == [[pytest.approx(total / table.weight.sum(), rel=1e-13)]]


@pytest.mark.parametrize("average", [None, PolyakAverage(), ExponentialMovingAverage()], ids=str)
@every_method
def test_batches_of_zero_weight_are_skipped(optimizer, average):
    table, weight = some_table(LOSS, 16, NETWORK.widths), np.repeat([0.0, 1.0], 8)
    tables = Rows(table.X, table.y, weight), Rows(table.X[8:], table.y[8:], np.ones(8))
    member = Member(table, alpha=0.5, is_shuffled=False)
    one, other = (
        trained([replace(member, table=own)], 3, NETWORK, LOSS, optimizer, average=average)
        for own in tables
    )
    for state in (one, other):
        state.n_samples_seen[...] = 0
        state.average.pop("n_samples_seen", None)
    assert_same_state(one, other)


# --------------------------------------------------------------------------- the contracts


@pytest.mark.parametrize(
    "activation, optimizer, n_estimators, weighted",
    [
        (ACTIVATIONS["relu"], SGD(), 1, False),
        *((*each, 3, True) for each in in_turn(ACTIVATIONS.values(), METHODS.values())),
    ],
    ids=str,
)
def test_no_allocation_of_an_epoch_grows_with_the_network(
    activation, optimizer, n_estimators, weighted
):
    def peak(width):
        network = dense_network((5, width, width, 2), (activation, activation))
        loss = LOSSES["log_loss-logistic"]
        table = some_table(loss, 140, network.widths, weighted=weighted)
        members = [Member(table, seed, 1e-4, 0.1, 1 - 0.1 * seed) for seed in range(n_estimators)]
        return peak_of_an_epoch(members, network, loss, optimizer, batch_size=128)

    # NumPy's own buffers hold up to 8,192 numbers: both networks go beyond them. A batch of 520
    # units more would be 66,560 bytes even as booleans.
    assert grows_by_less(peak, 260, 780, 20_000)


def test_parameters_of_a_large_but_finite_sum_have_not_diverged():
    state = TrainState.initial(some_parameters(NETWORK, [0, 1]))
    state.parameters.theta[...] = 1e308
    with np.errstate(over="ignore"):
        assert state.is_finite().tolist() == [True, True]
        state.parameters.theta[1, -1] = np.nan
        assert state.is_finite().tolist() == [True, False]


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormal_numbers_become_zero_and_no_others_change(dtype):
    parameters = some_parameters(NETWORK, [0, 1], dtype)
    state = TrainState.initial(parameters, optimizer=Adam().init(parameters.theta))
    kept = np.array([0, 1, -2.5, np.finfo(dtype).smallest_normal, np.nan, -np.inf], dtype)
    subnormal = np.array([np.finfo(dtype).smallest_subnormal, -kept[3] / 2], dtype)
    floats = [array for array in state.trained_arrays() if array.dtype == dtype]
    assert len(floats) == 3
    for array in floats:
        array[:, :8] = [*subnormal, *kept]
        array[:, 8:] = 3
    state.flush_subnormals()
    for array in floats:
        np.testing.assert_array_equal(array[:, :2], 0)
        np.testing.assert_array_equal(array[:, 2:8], [kept, kept])
        np.testing.assert_array_equal(array[:, 8:], 3)


def test_vanishing_weights_become_zero():
    """By hand: without input, each step leaves a tenth of the weights, and after 40 nothing."""
    table, network = Rows(np.zeros((4, 2)), np.zeros((4, 1))), dense_network((2, 1), ())
    arguments = network, SQUARED_ERROR, SGD(momentum=0.0)
    member = Member(table, rate=0.9, alpha=4.0)
    epochs = iter_epochs([member], 40, *arguments, batch_size=4, dtype=np.float32)
    next(epochs)().parameters.theta[...] = [[1, -2, 0]]
    for epoch, get_state in enumerate(epochs, start=1):
        if epoch in (3, 35, 40):
            expected = np.float32([[1, -2, 0]]) * np.float32(10.0**-epoch if epoch < 40 else 0)
            np.testing.assert_allclose(get_state().parameters.theta, expected, rtol=1e-4)


def test_training_leaves_numpys_settings_as_they_were():
    before = np.getbufsize(), np.geterr()
    epochs = iter_epochs([Member(some_table(LOSS, 8, NETWORK.widths))], 3, NETWORK, LOSS, Adam())
    for get_state in epochs:
        assert (np.getbufsize(), np.geterr()) == before
        state = get_state()
        if state.epoch.item() == 1:
            state.parameters.theta[...] = np.nan
    assert state.stop_reason == ["diverged"]
    assert (np.getbufsize(), np.geterr()) == before
