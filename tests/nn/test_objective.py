"""The gradient of the objective is the derivative of its value.

Every activation, loss with each link, penalty, weighting, dtype, kind of input and of stack is
combined and compared with central differences.
"""

from itertools import product

import numpy as np
import pytest

from skbackprop.activations import ACTIVATIONS
from skbackprop.nn.data_loader import DataLoader
from skbackprop.nn.network import dense_network
from skbackprop.nn.objective import L1L2, L2, Objective
from skbackprop.testing import check_gradient
from skbackprop.utils import arrays
from skbackprop.utils.arrays import BufferPool
from support.stacks import (
    LOSSES,
    assert_same_bits,
    batch_gradient,
    deep_network,
    some_parameters,
    some_table,
)

N_ROWS, WIDTHS = 9, (4, 5, 6, 6)
ALPHAS = {1: 0.7, 3: np.array([[0.7], [0.0], [2.0]])}
TOLERANCES = {np.float64: 1e-6, np.float32: 1e-4}
RATIOS = {1: 0.3, 3: np.array([[0.3], [0.6], [1.0]])}
PENALTIES = {
    "free": lambda n_estimators: L2(0.0),
    "l2": lambda n_estimators: L2(ALPHAS[n_estimators]),
    "elastic": lambda n_estimators: L1L2(ALPHAS[n_estimators], RATIOS[n_estimators]),
}
STACKS = ["one", "three", "three on one table"]


def tables_for(stack, loss, widths, **options):
    if stack == "three":
        return [some_table(loss, N_ROWS, widths, seed=seed, **options) for seed in range(3)]
    return [some_table(loss, N_ROWS, widths, **options)] * (1 if stack == "one" else 3)


@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_gradient_belongs_to_value(activation, loss, penalty, stack, weighted, is_sparse):
    network = dense_network(WIDTHS, (activation, activation))
    tables = tables_for(stack, loss, WIDTHS, weighted=weighted, is_sparse=is_sparse)
    objective = Objective(network, loss, penalty(len(tables)))
    for dtype in (np.float64, np.float32):
        check_objective(objective, tables, dtype)


def check_objective(objective, tables, dtype):
    """Check the gradient in a dtype against differences of the value in double precision."""
    start = some_parameters(objective.network, range(len(tables)))

    def exact_value_and_gradient(theta):
        value, gradient, _ = batch_gradient(objective, tables, start.with_theta(theta))
        if dtype != np.float64:
            _, gradient, _ = batch_gradient(
                objective, tables, start.with_theta(theta.astype(dtype))
            )
            assert gradient.dtype == dtype
        return value, gradient

    check_gradient(exact_value_and_gradient, start.theta, n_directions=2, rtol=TOLERANCES[dtype])


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_the_penalty_in_blocks_is_that_at_once(penalty, n_estimators, monkeypatch):
    network, loss = deep_network(), LOSSES["log_loss-softmax"]
    tables = [some_table(loss, N_ROWS, network.widths, seed=seed) for seed in range(n_estimators)]
    parameters = some_parameters(network, range(n_estimators))
    objective = Objective(network, loss, penalty(n_estimators))
    value, gradient, _ = batch_gradient(objective, tables, parameters)
    monkeypatch.setattr(arrays, "BLOCK", 7)
    value_in_blocks, gradient_in_blocks, _ = batch_gradient(objective, tables, parameters)
    assert value_in_blocks == value
    assert_same_bits(gradient_in_blocks, gradient)


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_losses_of_batches_are_weighted_sums_over_their_rows(loss, weighted):
    network = dense_network((4, 6), ())
    tables = [some_table(loss, 10, network.widths, weighted=weighted, seed=i) for i in range(2)]
    batches = DataLoader(tables, [None] * 2, [4] * 2, BufferPool(np.dtype(float)))
    objective = Objective(network, loss, L2())
    got = []
    for chunk in batches.chunks():
        chunk.scores[...] = np.random.RandomState(1).normal(size=chunk.scores.shape)
        values = loss.value(chunk.scores, chunk.y)
        start = 8 if got else 0
        for i, j in product(range(2), range(len(chunk.batches))):
            weight = np.ones(10) if tables[i].weight is None else tables[i].weight
            rows = slice(4 * j, 4 * j + chunk.batch_size)
            expected = (weight[start:][rows] * values[i, rows]).sum()
            assert objective.batch_losses(chunk)[i, j] == pytest.approx(expected, rel=1e-14)
        got.append(len(chunk.batches))
    assert got == [2, 1]


def test_the_objective_of_some_members_has_their_penalty():
    objective = Objective(deep_network(), LOSSES["log_loss-softmax"], L2(ALPHAS[3]))
    assert objective.members(slice(2, 3)).penalty == L2(2.0)
    np.testing.assert_array_equal(objective.members([0, 1]).penalty.alpha, [[0.7], [0.0]])
