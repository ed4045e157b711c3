"""Attention, positions and transformer blocks, beside loops over steps and heads."""

import re

import numpy as np
import pytest
from scipy.special import softmax

from skbackprop import BackpropRegressor
from skbackprop.layers import (
    Dense,
    Dropout,
    LayerNormalization,
    MultiHeadAttention,
    PositionalEncoding,
    Residual,
    TransformerBlock,
)
from skbackprop.layers.base import expand_layers
from skbackprop.nn.network import Network
from skbackprop.nn.prediction import predict_raw
from support import few_epochs, quick
from support.shaped import (
    check_gradients,
    drawn_parameters,
    forward,
    padded,
    run_step,
    shaped_network,
)
from support.stacks import DTYPES, assert_same_bits

pytestmark = few_epochs

N_ROWS, N_STEPS, N_CHANNELS = 3, 6, 4
SHAPE = (N_STEPS, N_CHANNELS)
LENGTHS = [2, 6, 1]
LAYERS = {
    "one head": MultiHeadAttention(1),
    "two heads": MultiHeadAttention(2),
    "wider heads": MultiHeadAttention(3, key_size=5),
    "narrow heads": MultiHeadAttention(2, key_size=1),
    "causal": MultiHeadAttention(2, is_causal=True),
    "block": TransformerBlock(2, 7),
    "causal block": TransformerBlock(1, 5, "relu", key_size=3, is_causal=True),
}
every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
attention_only = pytest.mark.parametrize(
    "layer", [v for v in LAYERS.values() if isinstance(v, MultiHeadAttention)], ids=str
)
one_and_three = pytest.mark.parametrize("n_estimators", [1, 3])


def sequences(n_rows=N_ROWS, seed=0):
    return np.random.RandomState(seed).normal(size=(n_rows, *SHAPE))


def attend(layer, x, arrays):
    """Return the output for one sequence (steps, channels), one query and one head at a time."""
    d = layer.compute_key_size(x.shape)
    projected = x @ arrays["attention_kernels"] + arrays["attention_biases"][0]
    q, k, v = projected.reshape(len(x), 3, layer.n_heads, d).swapaxes(0, 1)
    joined = np.empty((len(x), layer.n_heads, d))
    for step, head in np.ndindex(joined.shape[:2]):
        n_seen = step + 1 if layer.is_causal else len(x)
        scores = [q[step, head] @ k[other, head] / np.sqrt(d) for other in range(n_seen)]
        weights = softmax(scores)
        joined[step, head] = sum(w * v[i, head] for i, w in enumerate(weights))
    output = joined.reshape(len(x), -1) @ arrays["attention_output_kernels"]
    return output + arrays["attention_output_biases"][0]


def normalize(x):
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + LayerNormalization().epsilon)


def arrays_of(parameters, member):
    """Return the arrays of a member for each layer, as layers see them."""
    return [{name: a[member] for name, a in layer.items()} for layer in parameters.layers]


@one_and_three
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "padded"])
@attention_only
def test_output_is_that_of_a_loop_over_queries_and_heads(layer, lengths, n_estimators):
    X = sequences()
    network = Network(SHAPE, (layer,))
    parameters = drawn_parameters(network, n_estimators)
    rows = X.reshape(N_ROWS, -1) if lengths is None else padded(X, lengths)
    out = predict_raw(network, parameters, rows).reshape(n_estimators, *X.shape)
    for member, row in np.ndindex(n_estimators, N_ROWS):
        length = N_STEPS if lengths is None else lengths[row]
        expected = attend(layer, X[row, :length], arrays_of(parameters, member)[0])
        np.testing.assert_allclose(out[member, row, :length], expected, rtol=1e-10, atol=1e-12)


def test_a_block_adds_attention_and_dense_layers_to_its_input():
    block, x = TransformerBlock(2, 7, "tanh"), sequences(1)[0]
    network = Network(SHAPE, tuple(expand_layers([block], SHAPE)[0]))
    parameters = drawn_parameters(network, 1)
    arrays = [own for own in arrays_of(parameters, 0) if own]
    norm_1, attention, norm_2, first, second = arrays

    def scaled(x, own):
        return normalize(x) * own["normalization_gains"] + own["normalization_biases"]

    u = x + attend(MultiHeadAttention(2), scaled(x, norm_1), attention)
    hidden = np.tanh(scaled(u, norm_2) @ first["dense_weights"] + first["dense_biases"])
    y = u + hidden @ second["dense_weights"] + second["dense_biases"]
    scores = predict_raw(network, parameters, x.reshape(1, -1))
    np.testing.assert_allclose(scores.reshape(SHAPE), y, rtol=1e-10)


def test_a_block_is_the_layers_that_it_stands_for():
    block = TransformerBlock(2, 7, "relu", dropout=0.1, key_size=3)
    layers = [
        Residual([LayerNormalization(), MultiHeadAttention(2, 3), Dropout(0.1)]),
        Residual([LayerNormalization(), Dense(7, "relu"), Dense(N_CHANNELS), Dropout(0.1)]),
    ]
    assert block.expand(SHAPE) == tuple(expand_layers(layers, SHAPE)[0])
    assert not any(isinstance(each, Dropout) for each in TransformerBlock(2, 7).expand(SHAPE))


@pytest.mark.parametrize("n_channels", [4, 5, 1])
def test_positions_are_sines_and_cosines(n_channels):
    X, added = np.random.RandomState(0).normal(size=(2, 7, n_channels)), np.empty((7, n_channels))
    for t, j in np.ndindex(7, n_channels):
        angle = t / 10_000 ** (2 * (j // 2) / n_channels)
        added[t, j] = np.cos(angle) if j % 2 else np.sin(angle)
    out = forward((7, n_channels), [PositionalEncoding(), Dense(3)], X)
    expected = forward((7, n_channels), [Dense(3)], X + added)
    np.testing.assert_allclose(out, expected, atol=1e-12)


@one_and_three
def test_trained_positions_are_a_table(n_estimators):
    network = Network(SHAPE, (PositionalEncoding(trained=True),))
    parameters, X = drawn_parameters(network, n_estimators), sequences()
    out = predict_raw(network, parameters, X.reshape(N_ROWS, -1))
    (table,) = parameters.select("position_embeddings")
    np.testing.assert_array_equal(out.reshape(n_estimators, *X.shape), X + table[:, None])


@pytest.mark.parametrize(
    "layer, name, deviation",
    [
        (PositionalEncoding(trained=True), "position_embeddings", 0.1),
        (MultiHeadAttention(4), "attention_kernels", (2 / (60 + 180)) ** 0.5),
        (MultiHeadAttention(4, 3), "attention_output_kernels", (2 / (12 + 60)) ** 0.5),
    ],
)
def test_initial_deviations(layer, name, deviation):
    specs = {spec.name: spec for spec in layer.parameter_specs((50, 60))}
    drawn = specs[name].initializer(np.random.RandomState(0))
    assert drawn.std() == pytest.approx(deviation, rel=0.05)


# ----------------------------------------------------------------------------- gradients


@one_and_three
@pytest.mark.parametrize("is_padded", [False, True], ids=["full", "padded"])
@every_layer
def test_gradients_match_finite_differences(layer, is_padded, n_estimators):
    X = padded(sequences(), LENGTHS) if is_padded else sequences().reshape(N_ROWS, -1)
    network = shaped_network(SHAPE, [Dense(N_CHANNELS), layer])
    check_gradients(network, n_estimators, N_ROWS, X=X)


def flat(X):
    return X.reshape(len(X), -1)


class Pass:
    """A training step of layers on sequences, with a given gradient at their output."""

    def __init__(self, layers, n_estimators=1, dtype=float):
        self.network = Network(SHAPE, tuple(expand_layers(layers, SHAPE)[0]))
        self.parameters = drawn_parameters(self.network, n_estimators, dtype)

    def run(self, X, delta, member=None):
        """Return the output, the gradients of all parameters, and that by the input."""
        first, n = (0, len(self.parameters)) if member is None else (member, 1)
        members = slice(first, first + n)
        parameters = self.parameters.members(members)
        network = Network((X.shape[-2], N_CHANNELS), self.network.layers)
        out, gradients, d_x = run_step(network, parameters, X, delta)
        shape = len(parameters), *X.shape[-3:]
        return out.reshape(shape), gradients.theta, d_x.reshape(shape)


@pytest.mark.parametrize("dtype", DTYPES)
@every_layer
def test_steps_after_the_end_have_no_effect_at_all(layer, dtype):
    """The result is that of each sequence alone, without padding."""
    step = Pass([Dense(N_CHANNELS), layer], dtype=dtype)
    X, delta = sequences(), np.random.RandomState(1).normal(size=(N_ROWS, *SHAPE))
    rows = padded(X, LENGTHS).reshape(X.shape)
    is_real = np.arange(N_STEPS) < np.array(LENGTHS)[:, None]
    if isinstance(layer, TransformerBlock):
        delta *= is_real[..., None]
    out, g, d_x = step.run(rows, delta)
    assert not d_x[0][~is_real].any()
    rtol = 1e-12 if dtype is float else 1e-4
    expected = 0
    for row, length in enumerate(LENGTHS):
        alone = X[row : row + 1, :length], delta[row : row + 1, :length]
        out_alone, g_alone, d_alone = step.run(*alone)
        np.testing.assert_allclose(out[0, row, :length], out_alone[0, 0], rtol=rtol, atol=rtol)
        np.testing.assert_allclose(d_x[0, row, :length], d_alone[0, 0], rtol=rtol, atol=rtol)
        expected = expected + g_alone
    np.testing.assert_allclose(g, expected, rtol=10 * rtol, atol=10 * rtol)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "padded"])
@every_layer
def test_scores_may_be_computed_for_any_number_of_sequences_at_once(layer, lengths, monkeypatch):
    X, delta = sequences(), np.random.RandomState(1).normal(size=(2, N_ROWS, *SHAPE))
    X = X if lengths is None else padded(X, lengths).reshape(X.shape)
    step = Pass([layer], 2)
    expected, scores = step.run(X, delta), predict_raw(step.network, step.parameters, flat(X))
    for n_scores in (1, 2 * 4 * N_STEPS**2, 5 * 2 * N_STEPS**2):
        monkeypatch.setattr("skbackprop.layers.attention._SCORES_AT_ONCE", n_scores)
        for one, other in zip(step.run(X, delta), expected, strict=True):
            assert_same_bits(one, other)
        assert_same_bits(predict_raw(step.network, step.parameters, flat(X)), scores)


@pytest.mark.parametrize("is_causal", [False, True], ids=["all", "causal"])
def test_a_block_equals_that_of_torch(is_causal):
    torch = pytest.importorskip("torch")
    step = Pass([TransformerBlock(2, 7, "gelu", is_causal=is_causal)])
    twin = torch.nn.TransformerEncoderLayer(
        *(N_CHANNELS, 2, 7, 0.0, "gelu"), batch_first=True, norm_first=True, dtype=torch.float64
    )

    def in_torchs_order(theta):
        norm_1, attention, norm_2, *dense = [
            own for own in arrays_of(step.parameters.with_arrays(theta), 0) if own
        ]
        heads = "attention_kernels", "attention_biases"
        outputs = "attention_output_kernels", "attention_output_biases"
        arrays = [attention[name] for name in (*heads, *outputs)]
        arrays += [own[name] for own in dense for name in ("dense_weights", "dense_biases")]
        norms = "normalization_gains", "normalization_biases"
        arrays += [own[name] for own in (norm_1, norm_2) for name in norms]
        return [array[0] if len(array) == 1 else array.T for array in arrays]

    weights = list(twin.parameters())
    for weight, array in zip(weights, in_torchs_order(step.parameters.theta), strict=True):
        weight.data = torch.tensor(array)
    X, delta = sequences(), np.random.RandomState(1).normal(size=(N_ROWS, *SHAPE))
    x = torch.tensor(X, requires_grad=True)
    future = torch.ones(N_STEPS, N_STEPS, dtype=torch.bool).triu(1) if is_causal else None
    is_padding = torch.tensor(np.arange(N_STEPS) >= np.array(LENGTHS)[:, None])
    delta[is_padding.numpy()] = 0
    expected = twin(x, src_mask=future, src_key_padding_mask=is_padding)
    expected.backward(torch.tensor(delta))
    out, g, d_x = step.run(padded(X, LENGTHS).reshape(X.shape), delta)
    is_step = ~is_padding.numpy()
    np.testing.assert_allclose(out[0][is_step], expected.detach().numpy()[is_step], rtol=1e-9)
    np.testing.assert_allclose(d_x[0], x.grad.numpy(), rtol=1e-9, atol=1e-12)
    for weight, own in zip(weights, in_torchs_order(g), strict=True):
        np.testing.assert_allclose(own, weight.grad.numpy(), rtol=1e-8, atol=1e-10)


# ------------------------------------------------------------------- what steps can see


@pytest.mark.parametrize("layer", [LAYERS["causal"], LAYERS["causal block"]], ids=str)
def test_later_steps_have_no_effect_if_causal(layer):
    X, other = sequences(), sequences(seed=1)
    for n_seen in range(1, N_STEPS):
        changed = np.concatenate([X[:, :n_seen], other[:, n_seen:]], axis=1)
        out, out_changed = (forward(SHAPE, [layer], x)[0] for x in (X, changed))
        np.testing.assert_allclose(out[:, :n_seen], out_changed[:, :n_seen], rtol=1e-12)
        assert not np.allclose(out[:, n_seen:], out_changed[:, n_seen:])


@pytest.mark.parametrize("layer", [LAYERS["wider heads"], LAYERS["block"]], ids=str)
def test_without_positions_the_order_of_steps_does_not_matter(layer):
    X, order = sequences(), np.random.RandomState(0).permutation(N_STEPS)
    out, reordered = (forward(SHAPE, [layer], x)[0] for x in (X, X[:, order]))
    np.testing.assert_allclose(out[:, order], reordered, rtol=1e-10)
    layers = [PositionalEncoding(), layer]
    out, reordered = (forward(SHAPE, layers, x)[0] for x in (X, X[:, order]))
    assert not np.allclose(out[:, order], reordered)


def test_large_scores_do_not_overflow():
    X = 1e4 * sequences()
    out = forward(SHAPE, [LAYERS["two heads"]], X)
    assert np.isfinite(out).all()


# -------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "layer", [PositionalEncoding(), MultiHeadAttention(2), TransformerBlock(2, 3)], ids=str
)
@pytest.mark.parametrize("shape", [(8,), (4, 4, 2)])
def test_other_input_than_sequences_is_an_error(layer, shape):
    X = np.zeros((4, *shape))
    model = quick(BackpropRegressor, layers=layer)
    message = f"layers[0]: {layer!r} takes sequences of shape (steps, channels)"
    with pytest.raises(ValueError, match=re.escape(message)):
        model.fit(X, range(4))


@pytest.mark.parametrize("layer", [MultiHeadAttention(3), TransformerBlock(3, 3)], ids=str)
def test_heads_that_do_not_divide_the_channels_are_an_error(layer):
    model = quick(BackpropRegressor, layers=layer)
    message = f"n_heads of {type(layer).__name__} must divide .* got n_heads=3 and 4 channels"
    with pytest.raises(ValueError, match=message):
        model.fit(sequences(), range(N_ROWS))


@pytest.mark.parametrize(
    "layer, setting, value",
    [
        (MultiHeadAttention(2), "n_heads", 0),
        (MultiHeadAttention(2), "key_size", 0),
        (MultiHeadAttention(2), "is_causal", 1),
        (PositionalEncoding(), "trained", "yes"),
        (TransformerBlock(2, 3), "n_heads", 1.5),
        (TransformerBlock(2, 3), "n_units", 0),
        (TransformerBlock(2, 3), "dropout", 1.0),
        (TransformerBlock(2, 3), "key_size", -1),
        (TransformerBlock(2, 3), "is_causal", None),
    ],
)
def test_settings_out_of_range_name_themselves(layer, setting, value):
    with pytest.raises(ValueError, match=f"{setting} of {type(layer).__name__} must be"):
        layer.set_params(**{setting: value})
