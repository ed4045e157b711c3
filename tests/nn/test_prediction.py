"""Raw predictions of a stack and their gradients by the input, in blocks of rows."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from scipy import sparse

from skbackprop.activations import ACTIVATIONS
from skbackprop.layers import (
    GRU,
    BatchNormalization,
    Conv1D,
    Dense,
    Embedding,
    GlobalAveragePool1D,
    LayerNormalization,
)
from skbackprop.nn import prediction
from skbackprop.nn.prediction import Predictor, compute_input_gradients, predict_raw
from skbackprop.testing import check_gradient
from support import peak_of
from support.shaped import drawn_parameters, padded, shaped_network
from support.stacks import NETWORK, activations_of, assert_same_bits, dense_network, some_parameters

N_ROWS = 12
SMOOTH = (ACTIVATIONS["tanh"], ACTIVATIONS["gelu"])
PLAIN = {
    "deep": NETWORK,
    "without hidden layers": dense_network((4, 3), ()),
    "narrow": dense_network((1, 1, 1), SMOOTH[:1]),
    "one unit": dense_network((4, 1, 3, 1), SMOOTH),
}
NORMALIZED = {
    "over batches": dense_network((4, 7, 5, 2), SMOOTH, normalization=BatchNormalization()),
    "over layers": dense_network((4, 7, 5, 2), SMOOTH, normalization=LayerNormalization()),
}
NETWORKS = PLAIN | NORMALIZED
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
every_container = pytest.mark.parametrize(
    "container", [np.asarray, np.asfortranarray, sparse.csr_array]
)


def inputs(network, n_rows=N_ROWS, dtype=np.float64):
    X = np.random.RandomState(9).normal(size=(n_rows, network.widths[0]))
    return np.where(X > -0.5, X, 0).astype(dtype)


def naive_scores(network, parameters, member, X):
    """Return one member's scores, layer by layer with a temporary for each."""
    a, activations = X, activations_of(network)
    weights, biases = parameters.select("weights"), parameters.select("biases")
    for i in range(len(weights)):
        z = a @ weights[i][member] + biases[i][member]
        if i < len(activations):
            a = np.empty_like(z)
            activations[i].forward(z.copy(), a)
    return z


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("network", PLAIN.values(), ids=PLAIN)
def test_scores_are_those_of_the_naive_pass(network, n_estimators):
    parameters, X = some_parameters(network, range(n_estimators)), inputs(network)
    for container in (np.asarray, sparse.csr_array):
        scores = predict_raw(network, parameters, container(X))
        assert scores.shape == (n_estimators, N_ROWS, network.widths[-1])
        for member in range(n_estimators):
            expected = naive_scores(network, parameters, member, X)
            np.testing.assert_allclose(scores[member], expected, rtol=1e-12, atol=1e-14)


@every_container
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("numbers", [1, 200, 2_000])
def test_predictions_depend_neither_on_blocks_nor_on_other_members(
    numbers, dtype, container, monkeypatch
):
    parameters = some_parameters(NETWORK, range(7), dtype)
    X, some = container(inputs(NETWORK, 50, dtype)), np.array([5, 1, 1, 11, 0])
    at_once = predict_raw(NETWORK, parameters, X)
    monkeypatch.setattr(prediction, "_BLOCK_VALUES", numbers)
    together, eps = predict_raw(NETWORK, parameters, X), np.finfo(dtype).eps
    assert together.dtype == dtype
    np.testing.assert_allclose(together, at_once, rtol=100 * eps, atol=100 * eps)
    of_some = predict_raw(NETWORK, parameters, X, some)
    np.testing.assert_allclose(of_some, at_once[:, some], rtol=100 * eps, atol=100 * eps)
    for i in range(7):
        alone = predict_raw(NETWORK, parameters.members(slice(i, i + 1)), X)
        assert_same_bits(together[i : i + 1], alone, f"member {i}")


@pytest.mark.parametrize("layers", [[Embedding(2, 64)], [Conv1D(64, 3), Dense(1)], None], ids=str)
def test_prediction_of_many_rows_adds_a_bounded_block(layers):
    if layers is None:
        network, X = dense_network((2, 300, 1), SMOOTH[:1]), np.ones((20_000, 2), np.float32)
    else:
        network = shaped_network((50,), [*layers, GlobalAveragePool1D()])
        X = np.ones((4_000, 50), np.float32)
    parameters = drawn_parameters(network, 1, np.float32)
    # In one piece the hidden layer would take 24 MB, or the vectors of all steps 51 MB.
    assert peak_of(predict_raw, network, parameters, X) < 2 * 4 * prediction._BLOCK_VALUES


def test_wide_sparse_input_is_predicted_in_large_blocks():
    network, X = dense_network((1 << 20, 3), ()), sparse.csr_matrix((500, 1 << 20))
    predictor = Predictor(network, some_parameters(network, [0]))
    assert [rows for rows, _ in predictor.iter_parts(X)] == [slice(0, 500)]


def test_the_padding_of_a_batch_is_forgotten_in_the_next():
    network = shaped_network((5, 2), [Dense(2), GRU(2)])
    parameters, X = drawn_parameters(network, 1), np.random.RandomState(0).normal(size=(4, 10))
    predictor = Predictor(network, parameters, rows_at_once=4)
    for rows in (X, padded(X.reshape(4, 5, 2), [2, 5, 1, 4]), X):
        ((_, scores),) = predictor.iter_parts(rows)
        assert_same_bits(scores, predict_raw(network, parameters, rows))


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_two_threads_may_predict_at_once(container):
    parameters = some_parameters(NETWORK, range(3))
    data = [container(inputs(NETWORK, 200) + shift) for shift in (0.0, 1.0)]
    expected = [predict_raw(NETWORK, parameters, X) for X in data]
    predictor, barrier = Predictor(NETWORK, parameters), Barrier(2)

    def predictions(X):
        barrier.wait(timeout=30)
        return [
            np.concatenate([part for _, part in predictor.iter_parts(X)], axis=1) for _ in range(10)
        ]

    with ThreadPoolExecutor(2) as threads:
        for many, one in zip(threads.map(predictions, data), expected, strict=True):
            for scores in many:
                np.testing.assert_array_equal(scores, one)


# -------------------------------------------------------------- gradients by the input


def one_hot(scores, quantity):
    """Return the derivatives of the sum over the members of one score."""
    return np.eye(scores.shape[-1])[quantity] * np.ones_like(scores)


def gradients_of(network, parameters, X):
    return compute_input_gradients(network, parameters, X, one_hot, network.widths[-1])


@pytest.mark.parametrize("n_estimators", [1, 3])
@every_network
def test_input_gradients_match_finite_differences(network, n_estimators, monkeypatch):
    parameters, X = some_parameters(network, range(n_estimators)), inputs(network)
    gradients = gradients_of(network, parameters, X)
    assert gradients.shape == (N_ROWS, network.widths[0], network.widths[-1])
    for output in range(network.widths[-1]):
        check_gradient(
            lambda X, o=output: (
                predict_raw(network, parameters, X)[..., o].sum(),
                gradients_of(network, parameters, X)[..., o],
            ),
            X,
        )
    size = 5 * n_estimators * network.memory_per_sample
    monkeypatch.setattr(prediction, "_BLOCK_VALUES", size)
    np.testing.assert_allclose(gradients_of(network, parameters, X), gradients, rtol=1e-12)
