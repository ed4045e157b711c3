"""L-BFGS minimizes an objective in blocks of rows."""

import numpy as np
import pytest
from scipy import optimize

from skbackprop.activations import ACTIVATIONS
from skbackprop.losses import REGRESSOR_LOSSES, ClassifierLoss, Poisson
from skbackprop.nn.data_loader import Dataset
from skbackprop.nn.lbfgs import BoundConstrainedL1, FullBatchObjective, minimize
from skbackprop.nn.network import dense_network
from skbackprop.nn.objective import L1L2, L2, DivergenceError, Objective
from skbackprop.nn.prediction import predict_raw
from skbackprop.optimizers import LBFGS
from skbackprop.testing import check_gradient
from support import grows_by_less, peak_of
from support.stacks import (
    LOSSES,
    Interrupted,
    assert_same_bits,
    deep_network,
    some_parameters,
    some_table,
)

NETWORK = deep_network()
SQUARED_ERROR = REGRESSOR_LOSSES["squared_error"]

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
dense_and_sparse = pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
equal_and_weighted = pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])


def objective_of(
    loss, table, parameters, penalty=0.0, *, network=NETWORK, order=None, row_block=10
):
    """Return the mean over a table, in blocks of rows; a number is the strength of L2."""
    penalty = L2(penalty) if isinstance(penalty, float) else penalty
    objective = Objective(network, loss, penalty)
    return FullBatchObjective(objective, parameters, table, order, row_block)


def minimized(objective, lbfgs=None, on_iteration=lambda loss: False, max_iter=5, tol=0.0):
    options = {"on_iteration": on_iteration, "max_iter": max_iter, "tol": tol}
    return minimize(objective, lbfgs or LBFGS(), **options)


@dense_and_sparse
@equal_and_weighted
@every_loss
def test_sums_over_blocks_of_rows_are_the_whole(loss, weighted, is_sparse):
    order = np.random.RandomState(0).permutation(23)[:20]
    table = some_table(loss, 23, NETWORK.widths, weighted=weighted, is_sparse=is_sparse)
    parameters = some_parameters(NETWORK, [0])
    start = parameters.theta[0].copy()

    def in_blocks_of(row_block):
        return objective_of(loss, table, parameters, 0.4, order=order, row_block=row_block)

    whole = in_blocks_of(1000)
    value, gradient = whole(start)
    check_gradient(whole, start, n_directions=3)
    for row_block in (1, 7, 10):
        got = in_blocks_of(row_block)(start)
        assert got[0] == pytest.approx(value, rel=1e-13)
        np.testing.assert_allclose(got[1], gradient, rtol=1e-11, atol=1e-14)


@every_loss
def test_signed_parts_have_a_gradient_and_stand_for_the_weights(loss):
    table = some_table(loss, 23, NETWORK.widths)
    parameters = some_parameters(NETWORK, [0])
    theta = parameters.theta[0].copy()
    parts = BoundConstrainedL1(objective_of(loss, table, parameters, L1L2(0.4, 0.7)))
    start = parts.start()
    np.testing.assert_array_equal(parts.theta_at(start), theta)
    assert (start >= parts.bounds.lb).all()
    free = objective_of(loss, table, parameters, 0.4 * 0.3)
    l1 = 0.4 * 0.7 * np.abs(parameters.regularized).sum() / 23
    assert parts(start)[0] == pytest.approx(free(theta)[0] + l1, rel=1e-13)
    check_gradient(parts, np.abs(start) + 0.1, n_directions=3)
    bare = objective_of(loss, table, parameters)
    assert parts(start)[0] - parts.penalty(start) == pytest.approx(bare(theta)[0], rel=1e-12)


@equal_and_weighted
@every_loss
@pytest.mark.parametrize("l1_ratio", [0.0, 0.7])
def test_the_loss_of_several_targets_is_reported_as_their_mean(loss, weighted, l1_ratio):
    """Worked from the scores of the last iteration; labels and counts are added up instead.

    With L1, the search is cut short while positive and negative parts of weights overlap.
    """
    table = some_table(loss, 23, NETWORK.widths, weighted=weighted)
    parameters, losses = some_parameters(NETWORK, [0]), []
    objective = objective_of(loss, table, parameters, L1L2(0.4, l1_ratio))
    result = minimized(objective, on_iteration=losses.append)

    values = loss.value(predict_raw(NETWORK, parameters, table.X), table.y[None])[0]
    is_added_up = isinstance(loss, (ClassifierLoss, Poisson))
    n_targets = 1 if is_added_up else NETWORK.widths[-1] // loss.n_outputs_per_target
    total = 23 if table.weight is None else table.weight.sum()
    weights = parameters.regularized
    penalty = L1L2(0.4, l1_ratio).value(L1L2(0.4, l1_ratio).accumulate(weights)).item() / total
    expected = np.average(values, weights=table.weight) / n_targets + penalty
    assert losses[-1] == pytest.approx(expected, rel=1e-12)
    assert result.fun == losses[-1]


def test_lbfgs_takes_no_more_memory_for_more_rows():
    network = dense_network((4, 30, 1), (ACTIVATIONS["tanh"],))

    def peak(n_rows):
        table = some_table(SQUARED_ERROR, n_rows, network.widths, weighted=True)
        options = {"network": network, "order": np.arange(n_rows), "row_block": 500}
        parameters = some_parameters(network, [0])

        def run():
            whole = objective_of(SQUARED_ERROR, table, parameters, 0.1, **options)
            minimized(whole, LBFGS(max_fun=3), max_iter=2)

        return peak_of(run)

    # An array of one number for each further row would be 240,000 bytes.
    assert grows_by_less(peak, 10_000, 40_000, 150_000)


LINEAR = dense_network((4, 1), ())


def linear_least_squares(**options):
    """Minimize squared error without hidden layers; return result, parameters and optimum."""
    table, parameters = some_table(SQUARED_ERROR, 30, (4, 1)), some_parameters(LINEAR, [0])
    whole = objective_of(SQUARED_ERROR, table, parameters, network=LINEAR, row_block=8)
    result = minimized(whole, max_iter=100, tol=1e-10, **options)
    X = np.column_stack([table.X, np.ones(30)])
    return result, parameters, np.linalg.lstsq(X, table.y)[0].ravel()


def test_the_minimum_of_least_squares_is_found():
    losses = []
    result, parameters, optimum = linear_least_squares(
        on_iteration=lambda loss: losses.append(loss)
    )
    np.testing.assert_allclose(parameters.theta[0], optimum, rtol=1e-3, atol=1e-4)
    assert result.success
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(result.fun)


@pytest.mark.parametrize("n_corrections", [1, 3, 10])
def test_n_corrections_is_maxcor_of_scipy(n_corrections):
    """The same evaluations as by SciPy on least squares written out; ten is its default."""
    result, parameters, _ = linear_least_squares(lbfgs=LBFGS(n_corrections=n_corrections))
    table = some_table(SQUARED_ERROR, 30, (4, 1))
    X, y = np.column_stack([table.X, np.ones(30)]), table.y.ravel()

    def half_square(theta):
        residual = X @ theta - y
        return residual @ residual / 60, X.T @ residual / 30

    start = some_parameters(LINEAR, [0]).theta[0]
    options = {"maxcor": n_corrections, "gtol": 1e-10}
    theirs = optimize.minimize(half_square, start, method="L-BFGS-B", jac=True, options=options)
    assert result.nfev == theirs.nfev
    np.testing.assert_allclose(parameters.theta[0], theirs.x, rtol=1e-8)


def test_evaluations_end_where_they_are_limited():
    result, _, _ = linear_least_squares(lbfgs=LBFGS(max_fun=3))
    assert not result.success
    assert result.nfev <= 4 < linear_least_squares()[0].nfev


def test_an_iteration_may_end_training():
    seen = []
    result, parameters, _ = linear_least_squares(
        on_iteration=lambda loss: seen.append(loss) or len(seen) == 2
    )
    assert len(seen) == 2
    assert result.fun == seen[-1]
    np.testing.assert_array_equal(result.x, parameters.theta[0])


def test_an_interrupt_leaves_the_last_complete_iteration(monkeypatch):
    table = some_table(SQUARED_ERROR, 30, (4, 1))
    parameters, complete = some_parameters(LINEAR, [0]), []

    def on_iteration(loss):
        complete.append(parameters.theta.copy())
        return False

    value = type(SQUARED_ERROR).value

    def failing_value(*arguments):
        if len(complete) == 2:
            raise Interrupted
        return value(*arguments)

    monkeypatch.setattr(type(SQUARED_ERROR), "value", failing_value)
    whole = objective_of(SQUARED_ERROR, table, parameters, 0.1, network=LINEAR, row_block=8)
    with pytest.raises(Interrupted):
        minimized(whole, on_iteration=on_iteration, max_iter=50)
    assert len(complete) == 2
    assert_same_bits(parameters.theta, complete[-1])


def test_lbfgs_raises_on_non_finite_loss():
    table = some_table(SQUARED_ERROR, 10, (4, 1))
    parameters, far = some_parameters(LINEAR, [0]), Dataset(table.X * 1e200, table.y)
    before = parameters.theta.copy()
    with pytest.raises(DivergenceError):
        minimized(objective_of(SQUARED_ERROR, far, parameters, network=LINEAR))
    assert_same_bits(parameters.theta, before)
