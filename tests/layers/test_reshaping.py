"""Flatten, Reshape and Permute in all places of a network, with padding, and what they refuse."""

import numpy as np
import pytest

from skbackprop import BackpropRegressor
from skbackprop.layers import (
    GRU,
    Activation,
    BatchNormalization,
    Conv1D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool1D,
    LayerNormalization,
    MaxPool1D,
    Permute,
    Reshape,
    Scale,
)
from skbackprop.layers.base import expand_layers
from skbackprop.nn.network import Network
from skbackprop.nn.prediction import predict_raw
from skbackprop.optimizers import Adam
from support import few_epochs
from support.shaped import (
    LOSS,
    N_TARGETS,
    check_gradients,
    drawn_parameters,
    padded,
    shaped_network,
)
from support.stacks import Member, assert_same_bits, some_table, trained

pytestmark = few_epochs

PLACES = {
    "flatten, first": ((3, 4), [Flatten(), Dense(5)]),
    "flatten, before a layer in place": ((3, 4), [Dense(2), Flatten(), Activation("tanh")]),
    "flatten, after an activation": ((3, 4), [Dense(2, "tanh"), Flatten(), Activation("gelu")]),
    "flatten, of one axis": ((4,), [Dense(3), Flatten(), Flatten(), Dense(2)]),
    "reshape, first": ((12,), [Reshape((4, 3)), Dense(2, "tanh")]),
    "reshape, twice at first": ((12,), [Reshape((4, 3)), Reshape((2, -1)), Dense(2, "tanh")]),
    "reshape, of an image": ((4, 3, 2), [Reshape((2, 12)), Dense(3), LayerNormalization()]),
    "reshape, within": ((6,), [Dense(12), Reshape((4, 3)), Dense(2), BatchNormalization()]),
    "reshape, after dropout": ((12,), [Dropout(0.2), Reshape((4, 3)), Dense(2)]),
    "permute, first": ((3, 4), [Permute((2, 1)), Dense(2, "tanh")]),
    "permute, within": ((3, 4, 2), [Dense(3), Permute((3, 1, 2)), Activation("tanh"), Dense(2)]),
    "permute, of one axis": ((4,), [Permute(1), Dense(2, "tanh")]),
    "permute and reshape": ((3, 4), [Reshape((4, 3)), Permute((2, 1)), Reshape((6, 2)), Dense(2)]),
    "permute, scaled": ((3, 4), [Scale(), Permute((2, 1)), Scale()]),
}
every_place = pytest.mark.parametrize("shape, layers", PLACES.values(), ids=PLACES)


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize(
    "layer, shape, expected",
    [
        (Flatten(), (3, 4, 2), lambda x: x.reshape(len(x), -1)),
        (Reshape((6, 4)), (3, 4, 2), lambda x: x.reshape(-1, 6, 4)),
        (Reshape((-1, 2)), (3, 4, 2), lambda x: x.reshape(-1, 12, 2)),
        (Permute((3, 1, 2)), (3, 4, 2), lambda x: np.einsum("nabc->ncab", x)),
        (Permute((2, 3, 1)), (3, 4, 2), lambda x: np.einsum("nabc->nbca", x)),
        (Permute((2, 1)), (3, 4), lambda x: x.swapaxes(1, 2)),
    ],
    ids=["flatten", "reshape", "one size open", "312", "231", "21"],
)
def test_values_keep_their_order_or_change_their_axes(layer, shape, expected, n_estimators):
    """As the last layer of a network, after one that changes nothing."""
    X = np.random.RandomState(0).randn(5, *shape)
    network = Network(shape, (Scale(), layer))
    parameters = network.layout.init(n_estimators, np.dtype(float))
    out = predict_raw(network, parameters, X.reshape(5, -1))
    assert network.row_shapes[-1] == layer.compute_output_shape(shape)
    for member in out.reshape(n_estimators, 5, *network.row_shapes[-1]):
        np.testing.assert_array_equal(member, expected(X))


@pytest.mark.parametrize("n_estimators, is_shared", [(1, False), (3, False), (3, True)])
@every_place
def test_gradients_match_finite_differences(shape, layers, n_estimators, is_shared):
    check_gradients(shaped_network(shape, layers), n_estimators, 6, True, is_shared)


@every_place
def test_the_data_stay_as_they_are(shape, layers):
    """Layers in place do not write to a view of X."""
    network = shaped_network(shape, [*layers, Activation("tanh")])
    member = Member(some_table(LOSS, 20, (network.n_units[0], N_TARGETS)), is_shuffled=False)
    X = member.table.X.copy()
    trained([member], 2, network, LOSS, Adam(), batch_size=20)
    predict_raw(network, drawn_parameters(network, 2), member.table.X)
    assert_same_bits(member.table.X, X)


# --------------------------------------------------------------------------------- padding

AFTER_SEQUENCES = {
    "flatten": [Flatten()],
    "flatten and more": [Flatten(), Dense(4, "tanh"), Reshape((2, 2))],
    "reshape": [Reshape((-1, 3)), Dense(3, "tanh")],
    "reshape and permute": [Reshape((9, 3, 1)), Permute((1, 3, 2))],
    "permute": [Permute((2, 1)), Dense(3, "tanh")],
    "permute and a mean": [Permute((2, 1)), GlobalAveragePool1D()],
    "permute twice": [Permute((2, 1)), Permute((2, 1)), Dense(3, "tanh")],
}
BEFORE = {"pool": MaxPool1D(1), "gru": GRU(3, return_sequences=True), "conv": Conv1D(3, 1)}
LENGTHS = (9, 2, 5, 8)


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("layer", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("after", AFTER_SEQUENCES.values(), ids=AFTER_SEQUENCES)
def test_padding_becomes_zeros(after, layer, n_estimators):
    """The layers after it see zeros, whatever the layer before it makes of padding."""
    rows, lengths = padded(np.random.RandomState(0).randn(4, 9, 3), LENGTHS), np.array(LENGTHS)
    before = [Dense(3, "tanh"), layer]
    network = shaped_network((9, 3), [*before, *after])
    parameters = drawn_parameters(network, n_estimators)
    n_before = len(expand_layers(before, (9, 3))[0])
    first, rest = slice(n_before), slice(n_before, None)
    hidden = predict_raw(network.part(first), parameters.part(first), rows)
    hidden = hidden.reshape(n_estimators, 4, 9, 3) * (np.arange(9) < lengths[:, None])[..., None]
    expected = [
        predict_raw(network.part(rest), parameters.members(m).part(rest), x.reshape(4, -1))[0]
        for m, x in zip((slice(i, i + 1) for i in range(n_estimators)), hidden, strict=True)
    ]
    actual = predict_raw(network, parameters, rows)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)
    check_gradients(network, n_estimators, 4, X=rows)


# ---------------------------------------------------------------------------------- errors

WRONG = {
    "no shape": (lambda: Reshape(()), "target_shape of Reshape must be"),
    "zero": (lambda: Reshape((0, 3)), "target_shape of Reshape must be"),
    "two unknown": (lambda: Reshape((-1, -1)), "target_shape of Reshape must be"),
    "half": (lambda: Reshape((1.5, 2)), "target_shape of Reshape must be"),
    "text": (lambda: Reshape("12"), "target_shape of Reshape must be"),
    "from zero": (lambda: Permute((1, 0)), "dims of Permute must be"),
    "twice": (lambda: Permute((1, 1)), "dims of Permute must be"),
    "gap": (lambda: Permute((1, 3)), "dims of Permute must be"),
    "no axes": (lambda: Permute(()), "dims of Permute must be"),
    "not a number": (lambda: Permute("21"), "dims of Permute must be"),
}


@pytest.mark.parametrize("make, says", WRONG.values(), ids=WRONG)
def test_wrong_settings_are_errors(make, says):
    with pytest.raises(ValueError, match=says):
        make()


MISFITS = {
    "fewer values": (Reshape((3, 3)), r"takes rows of 9 values, got rows of shape \(4,\)"),
    "no multiple": (Reshape((-1, 3)), r"takes rows of a multiple of 3 values, got rows of shape"),
    "no axis to change": (Permute((2, 1)), r"takes rows of 2 axes, got rows of shape \(4,\)"),
}


@pytest.mark.parametrize("layer, says", MISFITS.values(), ids=MISFITS)
def test_wrong_input_is_an_error_that_says_which_layer(layer, says):
    X = np.zeros((8, 4))
    with pytest.raises(ValueError, match=rf"layers\[1\]: {type(layer).__name__}.*{says}"):
        BackpropRegressor((), layers=[Scale(), layer]).fit(X, X[:, 0])


def test_numbers_and_lists_are_tuples():
    assert Reshape([np.int64(4), -1]) == Reshape((4, -1))
    assert Reshape(12).compute_output_shape((3, 4)) == (12,)
    assert Permute([2, np.int64(1)]) == Permute((2, 1))
