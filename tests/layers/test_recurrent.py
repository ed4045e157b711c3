"""Recurrent layers, beside a loop over the steps of each sequence in plain NumPy."""

import numpy as np
import pytest

from skbackprop import BackpropClassifier
from skbackprop.activations import Logistic
from skbackprop.layers import GRU, LSTM, Bidirectional, Dropout, SimpleRNN
from skbackprop.layers.recurrent import draw_orthogonal
from skbackprop.nn.network import Network
from skbackprop.testing import check_gradient
from support import few_epochs
from support.shaped import run_step
from support.stacks import assert_same_bits

pytestmark = few_epochs

N_ROWS, N_STEPS, N_CHANNELS = 4, 7, 3
LENGTHS = np.array([3, 7, 1, 5])


def logistic(a):
    return 1 / (1 + np.exp(-a))


def gru_step(x, state, p):
    """Cho et al. (2014), with the reset gate after the product."""
    (h,) = state
    of_x = np.split(x @ p["kernels"] + p["kernel_biases"], 3)
    of_h = np.split(h @ p["recurrent_kernels"], 3)
    z, r = (logistic(a + b) for a, b in zip(of_x[:2], of_h[:2], strict=True))
    n = np.tanh(of_x[2] + r * (of_h[2] + p["recurrent_biases"]))
    return ((1 - z) * n + z * h,)


def lstm_step(x, state, p):
    """Hochreiter & Schmidhuber (1997), with the forget gate of Gers et al. (2000)."""
    h, c = state
    a = x @ p["kernels"] + h @ p["recurrent_kernels"] + p["kernel_biases"]
    i, f, g, o = np.split(a, 4)
    c = logistic(f) * c + logistic(i) * np.tanh(g)
    return logistic(o) * np.tanh(c), c


def rnn_step(f):
    """Elman (1990)."""

    def step(x, state, p):
        (h,) = state
        return (f(x @ p["kernels"] + h @ p["recurrent_kernels"] + p["kernel_biases"]),)

    return step


def elman(activation):
    return lambda *args, **options: SimpleRNN(*args, activation=activation, **options)


# For each layer: how it is made, the loop's step, and the number of arrays of its state.
KINDS = {
    "gru": (GRU, gru_step, 1),
    "lstm": (LSTM, lstm_step, 2),
    "rnn": (SimpleRNN, rnn_step(np.tanh), 1),
    "rnn logistic": (elman(Logistic()), rnn_step(logistic), 1),
    "rnn silu": (elman("silu"), rnn_step(lambda a: a * logistic(a)), 1),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
sequences_or_last = pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])


def make(kind, *args, **options):
    return KINDS[kind][0](*args, **options)


def loop(kind, layer, p, x, constants=None):
    """Return the output for one sequence, and the state before each step.

    With `constants` the states at which truncation cuts are those, as the gradient takes them.
    """
    _, compute_step, n_states = KINDS[kind]
    state, states, outputs = (np.zeros(layer.n_units),) * n_states, [], []
    for step, row in enumerate(x.reshape(len(x), -1)):
        is_cut = layer.truncate is not None and (len(x) - step) % layer.truncate == 0
        if is_cut and constants is not None:
            state = constants[step]
        states.append(state)
        state = compute_step(row, state, p)
        outputs.append(state[0])
    return (np.array(outputs) if layer.return_sequences else outputs[-1]), states


class Pass:
    """A layer with parameters for some members, and rows of its own for each."""

    def __init__(self, layer, n_estimators=1, lengths=None, shape=(N_STEPS, N_CHANNELS), seed=0):
        rng = np.random.RandomState(seed)
        self.layer, self.network = layer, Network(shape, (layer,))
        self.n_estimators, self.lengths = n_estimators, lengths
        self.parameters = self.network.layout.init(n_estimators, np.dtype(float))
        self.parameters.theta[...] = 0.7 * rng.randn(*self.parameters.theta.shape)
        self.x = rng.randn(n_estimators, N_ROWS, *shape)
        if lengths is not None:
            for row, length in enumerate(lengths):
                self.x[:, row, length:] = np.nan
        out_shape = layer.compute_output_shape(shape)
        self.delta = rng.randn(n_estimators, N_ROWS, *out_shape)

    def run(self, members=slice(None), dtype=float):
        """Return the output, the gradient of the parameters and that of the input."""
        parameters = self.parameters.with_arrays(self.parameters.theta[members].astype(dtype))
        return run_step(self.network, parameters, self.x[members], self.delta[members])

    def named(self, theta, member=0):
        """Return the arrays of a member by name, without the axis of the rows of biases."""
        (arrays,) = self.parameters.with_arrays(theta).layers
        return {
            name: array[member, 0] if name.endswith("biases") else array[member]
            for name, array in arrays.items()
        }

    def value(self, kind, theta, x, constants=None):
        """Return the sum of the outputs times `delta`, by the loop, and the states."""
        total, states = 0.0, []
        for member in range(self.n_estimators):
            p = self.named(theta, member)
            for row in range(N_ROWS):
                length = N_STEPS if self.lengths is None else self.lengths[row]
                given = None if constants is None else constants[len(states)]
                out, own = loop(kind, self.layer, p, x[member, row, :length], given)
                states.append(own)
                total += (out * self.delta[member, row][: len(out)]).sum()
        return total, states


CASES = {
    "one": {},
    "three": {"n_estimators": 3},
    "padding": {"lengths": LENGTHS},
    "three with padding": {"n_estimators": 3, "lengths": LENGTHS},
    "one channel": {"shape": (N_STEPS, 1)},
    "no channel": {"shape": (N_STEPS,)},
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_case
@sequences_or_last
@every_kind
def test_output_is_that_of_a_loop_over_the_steps(kind, sequences, case):
    computed = Pass(make(kind, 4, return_sequences=sequences), **case)
    out, _, _ = computed.run()
    out = out.reshape(computed.delta.shape)
    for member, row in np.ndindex(out.shape[:2]):
        length = N_STEPS if computed.lengths is None else computed.lengths[row]
        p = computed.named(computed.parameters.theta, member)
        expected, _ = loop(kind, computed.layer, p, computed.x[member, row, :length])
        np.testing.assert_allclose(out[member, row][: len(expected)], expected, atol=1e-12)
        if sequences:
            assert not out[member, row, length:].any()


@pytest.mark.parametrize("truncate", [None, 1, 2, 3, N_STEPS, 99])
@every_case
@sequences_or_last
@every_kind
def test_gradients_are_those_of_the_loop(kind, sequences, case, truncate):
    """Truncation takes the states at which it cuts for constants."""
    computed = Pass(make(kind, 3, return_sequences=sequences, truncate=truncate), **case)
    theta, x = computed.parameters.theta, computed.x
    _, constants = computed.value(kind, theta, x)
    _, gradients, d_x = computed.run()

    def by_parameters(theta):
        return computed.value(kind, theta, x, constants)[0], gradients.theta

    def by_input(x):
        return computed.value(kind, theta, x, constants)[0], d_x.reshape(x.shape)

    check_gradient(by_parameters, theta, n_directions=4)
    check_gradient(by_input, np.nan_to_num(x), n_directions=4)


@pytest.mark.parametrize("shape", [(1, 2), (1,), (2, 1), (5, 4)])
@pytest.mark.parametrize("n_units", [1, 2])
@every_kind
def test_one_step_and_one_unit(kind, n_units, shape):
    computed = Pass(make(kind, n_units), n_estimators=2, shape=shape)
    out, gradients, d_x = computed.run()
    expected = [
        [
            loop(kind, computed.layer, computed.named(computed.parameters.theta, m), x)[0]
            for x in rows
        ]
        for m, rows in enumerate(computed.x)
    ]
    np.testing.assert_allclose(out, expected, atol=1e-12)
    for member in range(2):
        alone = computed.run(slice(member, member + 1))
        assert_same_bits(alone[0], out[member : member + 1])
        assert_same_bits(alone[1].theta, gradients.theta[member : member + 1])
        assert_same_bits(alone[2], d_x[member : member + 1])


@pytest.mark.parametrize("truncate", [None, 2])
@sequences_or_last
@every_kind
def test_padding_changes_nothing(kind, sequences, truncate):
    """Rows of five real steps and two of padding are as rows of five steps."""
    layer, real = make(kind, 4, return_sequences=sequences, truncate=truncate), N_STEPS - 2
    padded = Pass(layer, lengths=np.full(N_ROWS, real))
    short = Pass(layer, shape=(real, N_CHANNELS))
    short.parameters, short.x = padded.parameters, padded.x[:, :, :real]
    short.delta = padded.delta[:, :, :real] if sequences else padded.delta
    (out, gradients, d_x), expected = padded.run(), short.run()
    out = out.reshape(padded.delta.shape)
    assert_same_bits(
        (out[:, :, :real] if sequences else out).reshape(expected[0].shape), expected[0]
    )
    np.testing.assert_allclose(gradients.theta, expected[1].theta, rtol=1e-12, atol=1e-14)
    d_x = d_x.reshape(padded.x.shape)
    assert not d_x[:, :, real:].any()
    np.testing.assert_allclose(d_x[:, :, :real].reshape(expected[2].shape), expected[2], rtol=1e-12)


@every_kind
def test_the_gradient_reaches_as_many_steps_back_as_truncation_allows(kind):
    full, cut = (Pass(make(kind, 4, truncate=k)).run()[2] for k in (None, 3))
    d_x = cut.reshape(N_ROWS, N_STEPS, N_CHANNELS)
    assert not d_x[:, :-3].any()
    np.testing.assert_allclose(d_x[:, -3:], full.reshape(d_x.shape)[:, -3:], rtol=1e-12)


def test_recurrent_kernels_have_either_sign():
    """Of orthogonal matrices that are uniformly distributed, half have a positive first entry."""
    rng = np.random.RandomState(0)
    drawn = [draw_orthogonal(2, 1, rng)[0, 0] for _ in range(200)]
    assert 75 < np.count_nonzero(np.array(drawn) > 0) < 125


@every_kind
def test_initial_weights(kind):
    layer, shape = make(kind, 30), (4, 20)
    parameters = Network(shape, (layer,)).layout.init(
        1, np.dtype(float), [np.random.RandomState(0)]
    )
    kernels, recurrent = (
        parameters.select(name)[0][0] for name in ("kernels", "recurrent_kernels")
    )
    # Glorot & Bengio (2010, equation 16), for each gate.
    bound = np.sqrt(6 / (20 + 30))
    assert 0.98 * bound < abs(kernels).max() <= bound
    for gate in np.split(recurrent, len(layer.input_gates), axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(30), atol=1e-12)


def test_forget_gates_start_open():
    (biases,) = (
        Network((4, 2), (LSTM(3),))
        .layout.init(1, np.dtype(float), [np.random.RandomState(0)])
        .select("kernel_biases")
    )
    np.testing.assert_array_equal(biases[0, 0], [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0])


# --------------------------------------------------------------------- both directions


def reversed_sequences(x, lengths):
    """Return sequences from their last real step to the first, with the padding where it was."""
    turned = x.copy()
    for row, length in enumerate(lengths):
        turned[:, row, :length] = x[:, row, :length][:, ::-1]
    return turned


@pytest.mark.parametrize("truncate", [None, 2])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "padded"])
@pytest.mark.parametrize("n_estimators", [1, 3])
@sequences_or_last
@every_kind
def test_bidirectional_is_a_layer_and_one_on_the_reversed_sequences(
    kind, sequences, n_estimators, lengths, truncate
):
    layer = make(kind, 4, return_sequences=sequences, truncate=truncate)
    both = Pass(Bidirectional(layer), n_estimators, lengths)
    out, gradients, d_x = both.run()
    of_steps = np.full(N_ROWS, N_STEPS) if lengths is None else lengths
    total, halves = np.zeros_like(both.x), []
    for half, direction in enumerate(("forward", "backward")):
        alone = Pass(layer, n_estimators, lengths)
        alone.x, alone.delta = both.x, both.delta[..., 4 * half : 4 * half + 4].copy()
        for name, array in alone.parameters.layers[0].items():
            array[...] = both.parameters.layers[0][f"{direction}_{name}"]
        if half:
            alone.x = reversed_sequences(alone.x, of_steps)
            if sequences:
                alone.delta = reversed_sequences(alone.delta, of_steps)
        own, own_gradients, own_d_x = alone.run()
        own, own_d_x = own.reshape(alone.delta.shape), own_d_x.reshape(alone.x.shape)
        if half:
            own = reversed_sequences(own, of_steps) if sequences else own
            own_d_x = reversed_sequences(own_d_x, of_steps)
        halves.append(own)
        total += own_d_x
        for name, array in own_gradients.layers[0].items():
            computed = gradients.layers[0][f"{direction}_{name}"]
            np.testing.assert_allclose(computed, array, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        out.reshape(both.delta.shape), np.concatenate(halves, -1), atol=1e-13
    )
    np.testing.assert_allclose(d_x.reshape(total.shape), total, atol=1e-12)


def test_lengths_are_found_if_one_member_alone_has_padding():
    x = np.zeros((2, 3, 4, 1))
    assert GRU(1).compute_lengths(x) is None
    x[1, 2, 3:] = np.nan
    np.testing.assert_array_equal(GRU(1).compute_lengths(x), [[4, 4, 4], [4, 4, 3]])


# ------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"n_units": 0}, "n_units of .* must be an int of at least 1, got 0"),
        ({"n_units": 2.5}, "n_units of .* got 2.5"),
        ({"n_units": 3, "return_sequences": "last"}, "return_sequences of .* got 'last'"),
        ({"n_units": 3, "truncate": 0}, "truncate of .* must be an int of at least 1, got 0"),
    ],
)
@every_kind
def test_invalid_settings(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(kind, **arguments)


@every_kind
def test_images_are_an_error_that_names_the_layer(kind):
    X, y = np.zeros((4, 6, 5, 2)), [0, 1, 0, 1]
    with pytest.raises(ValueError, match=r"takes sequences of shape .*\(6, 5, 2\)"):
        BackpropClassifier((), layers=make(kind, 3), input_shape=(6, 5, 2)).fit(X.reshape(4, -1), y)


@every_kind
def test_a_layer_after_one_that_returns_its_last_state_is_an_error(kind):
    X, y = np.zeros((4, 6, 2)), [0, 1, 0, 1]
    layers = [make(kind, 3), Dropout(0.1), GRU(4)]
    with pytest.raises(ValueError, match=r"layers\[2\]: GRU.* reads sequences, but .*n_units=3"):
        BackpropClassifier((), layers=layers).fit(X, y)
    layers[0] = make(kind, 3, return_sequences=True)
    BackpropClassifier((), layers=layers, max_iter=1).fit(X, y)
