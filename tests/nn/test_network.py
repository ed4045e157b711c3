"""Networks compute raw predictions and gradients, in blocks of rows too."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from scipy import sparse

from skbackprop.activations import ACTIVATIONS, ActivationFunction
from skbackprop.layers import GRU, Conv1D, Dense, Embedding, GlobalAveragePool1D
from skbackprop.nn import prediction
from skbackprop.nn.network import BuiltNetwork, dense_network
from skbackprop.nn.prediction import iter_predict_raw, predict_raw
from skbackprop.testing import check_gradient
from skbackprop.utils.arrays import BufferPool
from support import peak_of
from support.shaped import drawn_parameters, padded, shaped_network
from support.stacks import DTYPES, activations_of, assert_same_bits, deep_network, some_parameters

N_ROWS = 12
NETWORKS = {
    "deep": deep_network(),
    "without hidden layers": dense_network((4, 3), ()),
    "narrow": dense_network((1, 1, 1), (ACTIVATIONS["tanh"],)),
    "one unit": dense_network((4, 1, 3, 1), (ACTIVATIONS["tanh"],) * 2),
}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def inputs(network, n_rows=N_ROWS, dtype=np.float64):
    return np.random.RandomState(9).normal(size=(n_rows, network.widths[0])).astype(dtype)


def naive_scores(network, parameters, member, X):
    """Return one member's scores, layer by layer with a temporary for each."""
    a, activations = X, activations_of(network)
    for i in range(len(network.shapes["weights"])):
        z = a @ parameters.weights[i][member] + parameters.biases[i][member]
        if i < len(activations):
            a = np.empty_like(z)
            activations[i].forward(z.copy(), a)
    return z


def pass_through(network, parameters, x, is_backward=False):
    """Return a pass that has gone forward, its scores, and its gradients if it can go back."""
    n_estimators, n_rows = len(parameters), x.shape[-2]
    gradients = (
        parameters.with_theta(np.full_like(parameters.theta, np.nan)) if is_backward else None
    )
    way = BuiltNetwork(network, parameters, n_rows, BufferPool(parameters.dtype), gradients)
    scores = np.full((n_estimators, n_rows, network.widths[-1]), np.nan, parameters.dtype)
    # One member goes without the member axis.
    way.forward(x, scores[0] if n_estimators == 1 else scores)
    return way, scores, gradients


def test_architecture():
    network = dense_network((4, 6, 5, 3), (ACTIVATIONS["tanh"],) * 2)
    assert network.widths == (4, 6, 5, 3)
    weights, biases = [(4, 6), (6, 5), (5, 3)], [(6,), (5,), (3,)]
    assert network.shapes == {"weights": weights, "biases": biases}
    assert network.max_matmul_size(10) == 10 * 6 * 5


@pytest.mark.parametrize("n_estimators", [1, 3])
@every_network
def test_scores_are_those_of_the_naive_pass(network, n_estimators):
    parameters, X = some_parameters(network, range(n_estimators)), inputs(network)
    for scores in (
        pass_through(network, parameters, X)[1],
        predict_raw(network, parameters, X),
        predict_raw(network, parameters, sparse.csr_array(X)),
    ):
        assert scores.shape == (n_estimators, N_ROWS, network.widths[-1])
        for member in range(n_estimators):
            expected = naive_scores(network, parameters, member, X)
            np.testing.assert_allclose(scores[member], expected, rtol=1e-12, atol=1e-14)


class Cube(ActivationFunction):
    """f(z) = z^3, f'(z) = 3 z^2: an activation that needs its input again."""

    needs_preactivation = True

    def forward(self, z, a):
        np.power(z, 3, out=a)

    def backward(self, z, a, delta):
        delta *= 3 * z**2


@pytest.mark.parametrize("n_rows", [1, N_ROWS])
@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize(
    "network",
    [*NETWORKS.values(), dense_network((3, 4, 5, 2), (Cube(), ACTIVATIONS["tanh"]))],
    ids=[*NETWORKS, "keeps input"],
)
def test_backward_leaves_the_derivatives_by_all_parameters(network, n_estimators, n_rows):
    start, x = some_parameters(network, range(n_estimators)), inputs(network, n_rows)
    if n_estimators > 1:
        x = np.array([x] * n_estimators)
    slope = np.random.RandomState(8).normal(size=(n_estimators, n_rows, network.widths[-1]))

    def value_and_gradient(theta):
        way, scores, gradients = pass_through(network, start.with_theta(theta), x, is_backward=True)
        value = (slope * scores).sum()
        way.delta[...] = slope
        way.backward()
        return value, gradients.theta

    check_gradient(value_and_gradient, start.theta)


# --------------------------------------------------------------------------- prediction


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("container", [np.asarray, np.asfortranarray, sparse.csr_array])
def test_prediction_in_blocks_is_that_of_one_block(container, dtype, monkeypatch):
    network = deep_network()
    parameters, X = some_parameters(network, range(3), dtype), inputs(network, 50, dtype)
    at_once = predict_raw(network, parameters, container(X))
    for rows_at_once in (1, 7, 25):
        numbers = rows_at_once * 3 * sum(network.widths)
        monkeypatch.setattr(prediction, "_BLOCK_NUMBERS", numbers)
        scores = predict_raw(network, parameters, container(X))
        assert scores.dtype == dtype
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(scores, at_once, rtol=100 * eps, atol=100 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("numbers", [1, 200, 2_000, 1 << 21])
def test_scores_of_a_member_do_not_depend_on_how_many_there_are(
    numbers, container, dtype, monkeypatch
):
    network = deep_network()
    monkeypatch.setattr(prediction, "_BLOCK_NUMBERS", numbers)
    parameters, X = some_parameters(network, range(7), dtype), container(inputs(network, 50, dtype))
    together = predict_raw(network, parameters, X)
    for i in range(7):
        alone = predict_raw(network, parameters.members(slice(i, i + 1)), X)
        assert_same_bits(together[i : i + 1], alone, f"member {i}")


@pytest.mark.parametrize("rows", [None, np.array([5, 1, 1, 11, 0])], ids=["all rows", "some rows"])
@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_blocks_of_scores_add_up_to_all(container, n_estimators, rows, monkeypatch):
    network = deep_network()
    parameters, X = some_parameters(network, range(n_estimators)), inputs(network)
    of_rows = predict_raw(network, parameters, X)[:, slice(None) if rows is None else rows]
    monkeypatch.setattr(prediction, "_BLOCK_NUMBERS", 2 * sum(network.widths))
    blocks = iter_predict_raw(network, parameters, container(X), rows)
    blocks = [block.copy() for block in blocks]
    assert len(blocks) == (6 if rows is None else 3)
    np.testing.assert_allclose(np.hstack(blocks), of_rows, rtol=1e-12, atol=1e-14)
    expected = predict_raw(network, parameters, container(X), rows)
    assert_same_bits(np.concatenate(blocks, axis=1), expected)


@every_network
def test_predicts_from_read_only_memory(network):
    parameters, X = some_parameters(network, range(2)), inputs(network)
    expected = predict_raw(network, parameters, X)
    X.flags.writeable = False
    for array in [*parameters.weights, *parameters.biases]:
        array.flags.writeable = False
    np.testing.assert_array_equal(predict_raw(network, parameters, X), expected)


def test_prediction_of_many_rows_adds_a_bounded_block():
    network = dense_network((2, 300, 1), (ACTIVATIONS["relu"],))
    parameters, X = some_parameters(network, [0], np.float32), inputs(network, 40_000, np.float32)
    beyond_scores = peak_of(predict_raw, network, parameters, X) - 4 * len(X)
    # In one piece the hidden layer alone would take 48 MB.
    assert beyond_scores < 1.1 * 4 * prediction._BLOCK_NUMBERS < 10e6


@pytest.mark.parametrize("layers", [[Embedding(2, 64)], [Conv1D(64, 3), Dense(1)]], ids=str)
def test_prediction_of_many_sequences_adds_a_bounded_block(layers):
    network = shaped_network((50,), [*layers, GlobalAveragePool1D()])
    parameters = drawn_parameters(network, 1, np.float32)
    X = np.ones((4_000, 50), np.float32)
    # In one piece the vectors of all steps would take 51 MB.
    assert peak_of(predict_raw, network, parameters, X) < 2 * 4 * prediction._BLOCK_NUMBERS


def test_the_padding_of_a_batch_is_forgotten_in_the_next():
    network = shaped_network((5, 2), [Dense(2), GRU(2)])
    parameters, X = drawn_parameters(network, 1), np.random.RandomState(0).normal(size=(4, 10))
    built, scores = BuiltNetwork(network, parameters, 4, BufferPool(X.dtype)), np.empty((4, 2))
    for rows in (X, padded(X.reshape(4, 5, 2), [2, 5, 1, 4]), X):
        built.forward(rows, scores)
        assert_same_bits(scores, predict_raw(network, parameters, rows)[0])


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_two_threads_may_predict_at_once(container):
    network = deep_network()
    parameters = some_parameters(network, range(3))
    data = [container(inputs(network, 400) + shift) for shift in (0.0, 1.0)]
    expected = [predict_raw(network, parameters, X) for X in data]
    barrier = Barrier(2)

    def predictions(X):
        barrier.wait(timeout=30)
        return [predict_raw(network, parameters, X) for _ in range(20)]

    with ThreadPoolExecutor(2) as threads:
        for many, one in zip(threads.map(predictions, data), expected, strict=True):
            for scores in many:
                np.testing.assert_array_equal(scores, one)


@pytest.mark.long
def test_wide_sparse_input_is_predicted_in_large_blocks():
    network = dense_network((1 << 20, 3), ())
    parameters = some_parameters(network, [0])
    X = sparse.csr_matrix((500, 1 << 20))
    assert [block.shape[1] for block in iter_predict_raw(network, parameters, X)] == [500]
