"""Categorical embeddings: outputs, gradients and training.

Vectors are looked up by hand, and gradients compared with finite differences.
"""

import copy

import numpy as np
import pytest

from skbackprop.activations import ACTIVATIONS
from skbackprop.layers import CategoricalEmbedding, PeriodicEmbedding, Scale
from skbackprop.nn.ensemble_trainer import StackTrainer
from skbackprop.nn.lbfgs import FullBatchObjective
from skbackprop.nn.network import Network, dense_network
from skbackprop.nn.objective import L2, Objective
from skbackprop.nn.prediction import compute_input_gradients, predict_raw
from skbackprop.optimizers import Adam
from skbackprop.testing import check_gradient
from support.stacks import (
    DTYPES,
    LOSSES,
    assert_each_as_alone,
    assert_same_bits,
    five_members,
    iter_epochs,
    some_table,
)

LOSS = LOSSES["squared_error-identity"]
N_INPUTS, N_TARGETS = 6, 2
# Last, first and in between; all columns; a vector of one number; with other layers behind it.
KINDS = {
    "last": (CategoricalEmbedding({4: 3, 5: 2}, n_units=3),),
    "first": (CategoricalEmbedding({0: 4}, n_units=2),),
    "in between": (CategoricalEmbedding({1: 3, 4: 5}, n_units=1), Scale()),
    "all": (CategoricalEmbedding(dict.fromkeys(range(6), 3), n_units=2),),
    "waves": (CategoricalEmbedding({5: 4}), PeriodicEmbedding(2, features=(0, 2))),
}
every_kind = pytest.mark.parametrize("front", KINDS.values(), ids=KINDS)


def network_of(front):
    n_units = N_INPUTS
    for layer in front:
        n_units = layer.compute_n_outputs(n_units)
    plain = dense_network((n_units, 5, N_TARGETS), (ACTIVATIONS["tanh"],))
    return Network(N_INPUTS, (*front, *plain.layers))


def with_codes(table, layer):
    """Return a table whose columns hold codes where they are to, some of them -1."""
    rng = np.random.default_rng(table.n_rows)
    for column, n_levels in layer.n_levels:
        table.X[:, column] = rng.integers(-1, n_levels, table.n_rows)
    return table


def table_for(front, n_rows=11):
    table = some_table(LOSS, n_rows, (N_INPUTS, N_TARGETS), weighted=True)
    return with_codes(table, front[0])


def parameters_for(network, seeds):
    rngs = [np.random.RandomState(seed) for seed in seeds]
    parameters = network.layout.init(len(seeds), np.dtype(float), rngs)
    for theta, rng in zip(parameters.theta, rngs, strict=True):
        theta += 0.5 * rng.randn(len(theta))
    return parameters


@pytest.mark.parametrize("n_estimators", [1, 3])
def test_vectors_stand_behind_the_other_columns_and_what_is_no_code_has_zeros(n_estimators):
    layer = CategoricalEmbedding([(3, 2), (0, 3)], n_units=2)
    network = Network(4, (layer,))
    parameters = parameters_for(network, range(n_estimators))
    first = [0, 2, -1, 3, 1.5, 1e300, -1e300, 1]
    X = np.column_stack([first, range(8), range(8, 16), [1, 0, 0, 1, 1, 0, 1, 2]])
    (tables,) = parameters.of("embeddings")
    assert tables.shape == (n_estimators, 5, 2)
    for table, scores in zip(tables, predict_raw(network, parameters, X), strict=True):
        of_first = np.vstack([table[[0, 2]], np.zeros((5, 2)), table[[1]]])
        of_last = np.vstack([table[[4, 3, 3, 4, 4, 3, 4]], np.zeros((1, 2))])
        np.testing.assert_array_equal(scores, np.hstack([X[:, 1:3], of_first, of_last]))


def test_vectors_start_with_the_deviation_that_is_asked_for():
    (spec,) = CategoricalEmbedding({0: 5000}, scale=0.7).parameter_specs(3)
    assert spec.initializer(np.random.RandomState(0)).std() == pytest.approx(0.7, rel=0.05)
    assert not spec.regularized


@every_kind
def test_gradient_belongs_to_value(front):
    network, table = network_of(front), table_for(front)
    parameters = parameters_for(network, [0])
    whole = FullBatchObjective(Objective(network, LOSS, L2(0.7)), parameters, table, None, 11)
    check_gradient(whole, parameters.theta[0].copy())


@pytest.mark.parametrize("n_estimators", [1, 3])
@every_kind
def test_gradient_by_the_input_is_that_of_the_other_columns_and_zero_by_codes(front, n_estimators):
    network, X = network_of(front), table_for(front).X
    parameters = parameters_for(network, range(n_estimators))
    slope = np.random.RandomState(8).normal(size=(n_estimators, len(X), N_TARGETS))
    others = [column for column in range(N_INPUTS) if column not in front[0].categorical_columns]

    def value_and_gradient(numbers):
        X[:, others] = numbers
        gradient = compute_input_gradients(network, parameters, X, lambda scores, i: slope, 1)[
            ..., 0
        ]
        assert not gradient[:, front[0].categorical_columns].any()
        return (slope * predict_raw(network, parameters, X)).sum(), gradient[:, others]

    check_gradient(value_and_gradient, X[:, others])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("front", [KINDS["last"], KINDS["in between"]], ids=["last", "in between"])
def test_a_member_of_five_equals_the_network_alone(front, dtype):
    network = network_of(front)
    members = five_members(LOSS, network, weighted=True)
    for member in members:
        with_codes(member.table, front[0])
    assert_each_as_alone(members, 3, network, LOSS, Adam(), dtype=dtype)


def test_members_that_share_their_rows_are_as_if_they_did_not():
    """One batch for all members has one member on its first axis."""
    front = KINDS["first"]
    network, table = network_of(front), table_for(front, 20)
    thetas = []
    for tables in ([table] * 3, [copy.copy(table) for _ in range(3)]):
        objective, parameters = Objective(network, LOSS, L2(0.1)), parameters_for(network, range(3))
        settings = {"optimizer": Adam(), "rate": 0.01, "batch_size": 8}
        stack = StackTrainer.start(objective, parameters, tables, **settings)
        list(iter_epochs(stack, 3))
        thetas.append(stack.parameters.theta)
    assert_same_bits(*thetas)
