"""Layers before the first dense layer: outputs, gradients and training.

The maps are compared with a loop over blocks, and with a dense layer whose weights are a block
diagonal; gradients with finite differences.
"""

import copy
import pickle

import numpy as np
import pytest
from scipy.linalg import block_diag

from skbackprop import BackpropRegressor
from skbackprop.activations import ACTIVATIONS
from skbackprop.layers import PeriodicEmbedding
from skbackprop.layers.dense import Dense
from skbackprop.layers.input_layers import BlockDiagonalDense, Scale
from skbackprop.nn.ensemble_trainer import StackTrainer
from skbackprop.nn.lbfgs import FullBatchObjective
from skbackprop.nn.network import Network, dense_network
from skbackprop.nn.objective import L2, Objective
from skbackprop.nn.prediction import compute_input_gradients, predict_raw
from skbackprop.optimizers import Adam, AdamW
from skbackprop.testing import check_gradient
from skbackprop.training.architecture import MLPSpec
from support import few_epochs, quick, value_data
from support.stacks import (
    DTYPES,
    LOSSES,
    assert_each_as_alone,
    assert_same_bits,
    five_members,
    iter_epochs,
    some_table,
)

pytestmark = few_epochs

LOSS = LOSSES["squared_error-identity"]
N_INPUTS, N_TARGETS = 14, 2
MAPS = BlockDiagonalDense(n_blocks=4, width=3, n_units=2)
# No block; one; all columns; a width or a number of outputs of one, where NumPy takes another way.
KINDS = {
    "maps": (MAPS,),
    "maps and scale": (MAPS, Scale()),
    "scale": (Scale(),),
    "scale first": (Scale(), MAPS),
    "one block": (BlockDiagonalDense(1, 5, 3), Scale()),
    "all columns": (BlockDiagonalDense(2, 7, 1), Scale()),
    "one column each": (BlockDiagonalDense(6, 1, 2), Scale()),
    "more outputs": (BlockDiagonalDense(3, 2, 4),),
    "waves": (PeriodicEmbedding(3, n_units=2),),
    "waves and scale": (PeriodicEmbedding(2), Scale()),
    "scale and waves": (Scale(), PeriodicEmbedding(2)),
    "fixed waves": (Scale(), PeriodicEmbedding(3, trained=False)),
    "waves of some": (PeriodicEmbedding(3, n_units=1, features=(12, 0, 5)),),
    "a wave of one": (PeriodicEmbedding(1, n_units=1, features=(13,)),),
    "waves twice": (PeriodicEmbedding(2, trained=False), PeriodicEmbedding(1, features=range(5))),
}
every_kind = pytest.mark.parametrize("front", KINDS.values(), ids=KINDS)


def network_of(front, dropout=()):
    """Return a network with layers before a dense one of 5 units and the last."""
    n_units = N_INPUTS
    for layer in front:
        n_units = layer.compute_n_outputs(n_units)
    plain = dense_network((n_units, 5, N_TARGETS), (ACTIVATIONS["tanh"],))
    return Network(N_INPUTS, (*front, *plain.layers)).with_dropout(dropout)


def parameters_for(network, seeds):
    """Return parameters with scales that differ."""
    parameters = network.layout.init(
        len(seeds), np.dtype(float), [np.random.RandomState(seed) for seed in seeds]
    )
    for member, seed in enumerate(seeds):
        theta = parameters.theta[member]
        theta += 0.3 * np.random.RandomState(100 + seed).randn(len(theta))
    return parameters


def table_for(n_rows=9):
    return some_table(LOSS, n_rows, (N_INPUTS, N_TARGETS), weighted=True)


@pytest.mark.parametrize("n_estimators", [1, 3])
def test_each_block_goes_through_its_own_map_and_the_rest_through_none(n_estimators):
    network = Network(N_INPUTS, (MAPS,))
    parameters = parameters_for(network, range(n_estimators))
    X = table_for().X
    expected = [
        np.hstack([X[:, :12] @ block_diag(*maps), X[:, 12:]]) for maps in parameters.of("maps")[0]
    ]
    np.testing.assert_allclose(predict_raw(network, parameters, X), expected)


@every_kind
def test_shapes_and_start(front):
    network = network_of(front)
    (layer,) = [layer for layer in front if isinstance(layer, BlockDiagonalDense)] or [None]
    parameters = network.layout.init(2, np.dtype(float), [np.random.RandomState(i) for i in (0, 1)])
    assert all((scales == 1).all() for scales in parameters.of("scales"))
    n_weights = sum(np.prod(shape) for shape in network.shapes["weights"])
    assert parameters.regularized.shape == (2, n_weights)
    if layer is not None:
        (maps,) = parameters.of("maps")
        assert maps.shape == (2, layer.n_blocks, layer.width, layer.n_units)
        assert (maps[0] != maps[1]).all()
        assert not np.shares_memory(maps, parameters.regularized)


def test_maps_start_with_outputs_of_the_variance_of_the_inputs():
    (spec,) = BlockDiagonalDense(20, 32, 3).parameter_specs(700)
    drawn = spec.initializer(np.random.RandomState(0))
    assert drawn.shape == (20, 32, 3)
    assert drawn.std() == pytest.approx(32**-0.5, rel=0.05)


@every_kind
def test_gradient_belongs_to_value(front):
    network, table = network_of(front), table_for()
    whole = FullBatchObjective(
        Objective(network, LOSS, L2(0.7)), parameters_for(network, [0]), table, None, 9
    )
    check_gradient(whole, parameters_for(network, [0]).theta[0].copy())


@pytest.mark.parametrize("n_estimators", [1, 3])
@every_kind
def test_gradient_by_the_input_belongs_to_the_scores(front, n_estimators):
    network = network_of(front)
    parameters = parameters_for(network, range(n_estimators))
    slope = np.random.RandomState(8).normal(size=(n_estimators, 9, N_TARGETS))

    def value_and_gradient(X):
        gradient = compute_input_gradients(network, parameters, X, lambda scores, i: slope, 1)
        return (slope * predict_raw(network, parameters, X)).sum(), gradient[..., 0]

    check_gradient(value_and_gradient, np.random.RandomState(9).normal(size=(9, N_INPUTS)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dropout", [(), (0.0, 0.3)], ids=["", "dropout"])
@every_kind
def test_a_member_of_five_equals_the_network_alone(front, dropout, dtype):
    network = network_of(front, dropout)
    members = five_members(LOSS, network, weighted=True)
    assert_each_as_alone(members, 3, network, LOSS, Adam(), dtype=dtype)


def test_members_that_share_their_rows_are_as_if_they_did_not():
    """One batch for all members has one member on its first axis."""
    network, table = network_of((MAPS, Scale())), table_for(20)
    thetas = []
    for tables in ([table] * 3, [copy.copy(table) for _ in range(3)]):
        stack = StackTrainer.start(
            Objective(network, LOSS, L2(0.1)),
            parameters_for(network, range(3)),
            tables,
            optimizer=Adam(),
            rate=0.01,
            batch_size=8,
        )
        list(iter_epochs(stack, 3))
        thetas.append(stack.parameters.theta)
    assert_same_bits(*thetas)


@pytest.mark.parametrize("front", [(MAPS,), (MAPS, Scale())], ids=["maps", "scale"])
def test_maps_are_a_dense_layer_with_a_block_diagonal(front):
    """The derivatives by the maps are the blocks on the diagonal of those by its weights."""
    network = network_of(front)
    dense = Network(N_INPUTS, (Dense(10, has_biases=False), *network.layers[1:]))
    parameters, table = parameters_for(network, [0]), table_for()
    (maps,) = parameters.of("maps")
    twin = dense.layout.init(1, np.dtype(float))
    for name in dense.shapes:
        own = twin.of(name)[1:] if name == "weights" else twin.of(name)
        for array, value in zip(own, parameters.of(name), strict=True):
            array[...] = value
    twin.weights[0][0] = block_diag(*maps[0], np.eye(2))

    def gradients(network, parameters):
        whole = FullBatchObjective(Objective(network, LOSS, L2(0.0)), parameters, table, None, 9)
        _, gradient = whole(parameters.theta[0].copy())
        return parameters.like(gradient[None])

    by_blocks, by_weights = gradients(network, parameters), gradients(dense, twin)
    for g, own in enumerate(by_blocks.of("maps")[0][0]):
        expected = by_weights.weights[0][0, 3 * g : 3 * g + 3, 2 * g : 2 * g + 2]
        np.testing.assert_allclose(own, expected)


# --------------------------------------------------------------------------- an estimator


class Fronted(MLPSpec):
    """Dense layers behind maps and a scale."""

    def network(self, n_inputs, n_outputs):
        front = (BlockDiagonalDense(2, 2, 3), Scale())
        plain = super().network(front[0].compute_n_outputs(n_inputs), n_outputs)
        return Network(n_inputs, (*front, *plain.layers))


class FrontedRegressor(BackpropRegressor):
    """A regressor with them."""

    _kind_of_network = Fronted


def test_decay_and_penalty_leave_them_alone():
    """Without a gradient, decay is all that changes weights."""
    X, y = value_data(n_features=5)
    settings = {"solver": AdamW(weight_decay=0.5), "alpha": 0.0, "max_iter": 1}
    one, decayed = (
        quick(FrontedRegressor, **settings | changes).fit(0 * X, 0 * y)
        for changes in ({"solver": AdamW(weight_decay=0.0)}, {})
    )
    for name in ("maps_", "scales_"):
        np.testing.assert_array_equal(getattr(decayed, name)[0], getattr(one, name)[0])
    assert (np.abs(decayed.coefs_[0]) < np.abs(one.coefs_[0])).all()


@pytest.mark.parametrize("n_estimators", [1, 3])
def test_an_estimator_goes_on_from_them(n_estimators):
    X, y = value_data(n_features=5)
    settings = {"n_estimators": n_estimators, "warm_start": True, "max_iter": 3}
    whole = quick(FrontedRegressor, **settings | {"max_iter": 6}).fit(X, y)
    model = quick(FrontedRegressor, **settings).fit(X, y)
    restored = pickle.loads(pickle.dumps(model))
    for one in (model, restored):
        one.fit(X, y)
        for name in ("maps_", "scales_", "coefs_"):
            assert_same_bits(getattr(one, name)[0], getattr(whole, name)[0])
