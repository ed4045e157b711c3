"""What layers before the first dense layer compute, and how they start.

Maps are compared with a dense layer whose weights are a block diagonal, and vectors of categories
with those looked up by hand.
"""

import numpy as np
import pytest
from scipy.linalg import block_diag

from skbackprop.activations import ACTIVATIONS
from skbackprop.layers import CategoricalEmbedding, PeriodicEmbedding
from skbackprop.layers.columns import BlockDiagonalDense, Scale
from skbackprop.layers.dense import Dense
from skbackprop.nn.network import Network
from skbackprop.nn.prediction import predict_raw
from support.shaped import drawn_parameters, run_step
from support.stacks import LOSSES, dense_network, some_table

LOSS = LOSSES["squared_error-identity"]
N_INPUTS, N_TARGETS = 14, 2
MAPS = BlockDiagonalDense(n_blocks=4, width=3, n_units=2)


@pytest.mark.parametrize("n_estimators", [1, 3])
def test_each_block_has_its_own_map_and_the_other_inputs_pass_through(n_estimators):
    network = Network((N_INPUTS,), (MAPS,))
    parameters = drawn_parameters(network, n_estimators)
    X = some_table(LOSS, 9, (N_INPUTS, N_TARGETS)).X
    expected = [
        np.hstack([X[:, :12] @ block_diag(*maps), X[:, 12:]])
        for maps in parameters.select("maps")[0]
    ]
    np.testing.assert_allclose(predict_raw(network, parameters, X), expected)


@pytest.mark.parametrize(
    "layer, deviation",
    [
        (BlockDiagonalDense(20, 32, 3), 32**-0.5),  # outputs of the variance of the inputs
        (CategoricalEmbedding({0: 5000}, scale=0.7), 0.7),
    ],
    ids=["maps", "embedding"],
)
def test_initial_deviations(layer, deviation):
    (spec,) = layer.parameter_specs((700,))
    assert spec.initializer(np.random.RandomState(0)).std() == pytest.approx(deviation, rel=0.05)


def test_scales_start_at_one_and_members_draw_maps_of_their_own():
    network = Network((N_INPUTS,), (MAPS, Scale()))
    rngs = [np.random.RandomState(i) for i in (0, 1)]
    parameters = network.layout.init(2, np.dtype(float), rngs)
    (maps,), (scales,) = parameters.select("maps"), parameters.select("scales")
    assert (scales == 1).all()
    assert maps.shape == (2, MAPS.n_blocks, MAPS.width, MAPS.n_units)
    assert (maps[0] != maps[1]).all()


@pytest.mark.parametrize("front", [(MAPS,), (MAPS, Scale())], ids=["maps", "scale"])
def test_maps_are_a_dense_layer_with_a_block_diagonal(front):
    """The derivatives by the maps are the blocks on the diagonal of those by its weights."""
    plain = dense_network((10, 5, N_TARGETS), (ACTIVATIONS["tanh"],))
    network = Network((N_INPUTS,), (*front, *plain.layers))
    dense = Network((N_INPUTS,), (Dense(10, use_bias=False), *network.layers[1:]))
    parameters = drawn_parameters(network, 1)
    X = some_table(LOSS, 9, (N_INPUTS, N_TARGETS)).X
    (maps,) = parameters.select("maps")
    twin = dense.layout.init(1, np.dtype(float))
    for name in dense.shapes:
        own = twin.select(name)[1:] if name == "weights" else twin.select(name)
        for array, value in zip(own, parameters.select(name), strict=True):
            array[...] = value
    twin.select("weights")[0][0] = block_diag(*maps[0], np.eye(2))
    delta = np.random.RandomState(1).normal(size=(1, 9, N_TARGETS))
    _, by_blocks, _ = run_step(network, parameters, X, delta)
    _, by_weights, _ = run_step(dense, twin, X, delta)
    for g, own in enumerate(by_blocks.select("maps")[0][0]):
        expected = by_weights.select("weights")[0][0, 3 * g : 3 * g + 3, 2 * g : 2 * g + 2]
        np.testing.assert_allclose(own, expected)


@pytest.mark.parametrize("n_estimators", [1, 3])
def test_vectors_follow_the_other_columns_and_what_is_no_code_has_zeros(n_estimators):
    network = Network((4,), (CategoricalEmbedding([(3, 2), (0, 3)], n_units=2),))
    parameters = drawn_parameters(network, n_estimators)
    first = [0, 2, -1, 3, 1.5, 1e300, -1e300, 1]
    X = np.column_stack([first, range(8), range(8, 16), [1, 0, 0, 1, 1, 0, 1, 2]])
    (tables,) = parameters.select("embeddings")
    assert tables.shape == (n_estimators, 5, 2)
    for table, scores in zip(tables, predict_raw(network, parameters, X), strict=True):
        of_first = np.vstack([table[[0, 2]], np.zeros((5, 2)), table[[1]]])
        of_last = np.vstack([table[[4, 3, 3, 4, 4, 3, 4]], np.zeros((1, 2))])
        np.testing.assert_array_equal(scores, np.hstack([X[:, 1:3], of_first, of_last]))


@pytest.mark.parametrize("n_estimators", [1, 3])
def test_waves_of_many_rows_are_those_of_few(n_estimators):
    network = Network((3,), (PeriodicEmbedding(n_units=2, features=(0, 2)),))
    parameters, X = drawn_parameters(network, n_estimators), np.random.RandomState(0).randn(700, 3)
    few = [predict_raw(network, parameters, rows) for rows in np.split(X, 14)]
    many = predict_raw(network, parameters, X)
    np.testing.assert_allclose(many, np.concatenate(few, axis=1), atol=1e-12)
