"""Embedding of tokens: vectors and gradients beside those of loops, and errors of bad tokens."""

import re

import numpy as np
import pytest

from skbackprop import BackpropClassifier
from skbackprop.layers import Embedding, PeriodicEmbedding
from skbackprop.nn.network import Network
from skbackprop.nn.prediction import compute_input_gradients, predict_raw
from support import few_epochs, quick
from support.shaped import drawn_parameters, run_step
from support.stacks import DTYPES, assert_same_bits

pytestmark = few_epochs

LAYER = Embedding(7, 3)
TOKENS = np.array([[0, 6, 6, 1], [3, -1, -1, -1], [5, 5, 5, 5], [2, 0, -1, -1]])


def table_gradients(tokens, delta, dtype=float):
    """Return the gradients of the tables, computed by the layer alone."""
    network = Network(tokens.shape[-1:], (LAYER,))
    _, gradients, _ = run_step(network, drawn_parameters(network, len(delta), dtype), tokens, delta)
    return gradients.select("embeddings")[0]


@pytest.mark.parametrize("n_estimators", [1, 3])
def test_each_token_has_its_vector_and_all_else_zeros(n_estimators):
    network = Network((4,), (LAYER,))
    parameters = drawn_parameters(network, n_estimators)
    X = TOKENS.astype(float)
    X[2] = [7, 1.5, -2, 1e300]
    scores = predict_raw(network, parameters, X).reshape(n_estimators, 4, 4, 3)
    for table, own in zip(parameters.select("embeddings")[0], scores, strict=True):
        for tokens, vectors in zip(X, own, strict=True):
            for token, vector in zip(tokens, vectors, strict=True):
                expected = table[int(token)] if token in range(7) else np.zeros(3)
                np.testing.assert_array_equal(vector, expected)


@pytest.mark.parametrize("shared", [True, False], ids=["shared rows", "own rows"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_estimators", [1, 3])
def test_the_gradient_of_a_vector_is_the_sum_over_its_tokens(n_estimators, dtype, shared):
    rng = np.random.default_rng(0)
    delta = rng.normal(size=(n_estimators, 4, 12)).astype(dtype)
    tokens = (
        TOKENS
        if shared or n_estimators == 1
        else np.array([TOKENS, TOKENS[::-1], TOKENS[:1].repeat(4, 0)])
    )
    d_tables = table_gradients(tokens, delta, dtype)
    expected = np.zeros((n_estimators, 7, 3))
    for member in range(n_estimators):
        rows = tokens if tokens.ndim == 2 else tokens[member]
        for row, d_row in zip(rows, delta[member].reshape(4, 4, 3), strict=True):
            for token, d_vector in zip(row, d_row, strict=True):
                if token >= 0:
                    expected[member, token] += d_vector
    np.testing.assert_allclose(d_tables, expected, rtol=1e-5 if dtype == np.float32 else 1e-12)
    for member in range(n_estimators):
        rows = tokens if tokens.ndim == 2 else tokens[member]
        alone = table_gradients(rows, delta[member : member + 1], dtype)
        assert_same_bits(alone[0], d_tables[member])


def test_the_gradient_by_tokens_is_zero():
    network = Network((4,), (LAYER,))
    slope = np.ones((2, 4, 12))
    X = TOKENS.astype(float)
    gradient = compute_input_gradients(
        network, drawn_parameters(network, 2), X, lambda scores, i: slope, 1
    )
    assert not gradient.any()


@pytest.mark.parametrize("n_members", [1, 2])
def test_lengths_are_numbers_of_tokens(n_members):
    X = np.array([TOKENS] * n_members, float)
    assert LAYER.compute_lengths(X).tolist() == [[4, 1, 4, 2]] * n_members
    assert LAYER.compute_lengths(X[:, ::2]) is None


WRONG = {
    "too large": ([1, 7, 0, 2], "tokens from 0 to 6, .* got 7 in row 1, column 1"),
    "negative": ([1, 0, 0, -2], "got -2 in row 1, column 3. Set n_tokens"),
    "fraction": ([1, 0.5, 0, 2], "got 0.5 in row 1, column 1.* no scaler"),
    "not a number": ([1, 0, 0, np.nan], "got nan in row 1, column 3"),
    "padding inside": ([1, -1, 0, -1], "got -1 in row 1, column 1, before the token 0. Move it"),
    "padding at the start": ([-1, -1, 3, 3], "got -1 in row 1, column 1, before the token 3"),
    "padding alone": ([-1, -1, -1, -1], "Row 1 of X contains only padding.*Remove the row"),
}


@pytest.mark.parametrize("row, message", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_error_says_where_a_wrong_token_is(row, message, dtype):
    X = np.array([[0, 1, 2, -1], row, [0, 0, 0, 0]], dtype)
    for validate in (LAYER.validate_input_values, LAYER.validate_prediction_input):
        with pytest.raises(ValueError, match=message):
            validate(X)
    X[1] = 0
    LAYER.validate_input_values(X)


def test_a_prediction_refuses_wrong_tokens():
    X = TOKENS.astype(float)
    model = quick(BackpropClassifier, layers=LAYER).fit(X, [0, 1, 0, 1])
    for token in (7, np.nan):
        X[0, 3] = token
        with pytest.raises(ValueError, match=f"got {token} in row 0, column 3"):
            model.predict(X)


def test_a_fit_refuses_wrong_tokens_and_wrong_places():
    X, y = TOKENS.repeat(3, axis=0), np.arange(12) % 2
    model = quick(BackpropClassifier, hidden_layer_sizes=(), layers=[Embedding(6, 2)])
    with pytest.raises(ValueError, match="tokens from 0 to 5, .* got 6 in row 0, column 1"):
        model.fit(X, y)
    message = "layers[0]: Embedding(n_tokens=7, n_units=3) takes sequences of tokens"
    with pytest.raises(ValueError, match=re.escape(message)):
        model.set_params(layers=LAYER, input_shape=(2, 2)).fit(X, y)
    with pytest.raises(ValueError, match="Embedding must be the first"):
        model.set_params(layers=[PeriodicEmbedding(), LAYER], input_shape=None).fit(X, y)


@pytest.mark.parametrize(
    "setting, value",
    [*(("n_tokens", value) for value in (0, 2.5, 2**24 + 1)), ("n_units", 0), ("scale", -1)],
)
def test_settings_out_of_range_name_themselves(setting, value):
    with pytest.raises(ValueError, match=f"{setting} of Embedding must be"):
        LAYER.set_params(**{setting: value})


def test_initial_vectors_have_the_given_deviation():
    (spec,) = Embedding(5000, 8, scale=0.3).parameter_specs((4,))
    assert spec.initializer(np.random.RandomState(0)).std() == pytest.approx(0.3, rel=0.05)
