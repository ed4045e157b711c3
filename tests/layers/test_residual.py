"""Residual connections: what they compute, where they stand, and what they can not hold."""

from dataclasses import dataclass

import numpy as np
import pytest

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.layers import (
    Activation,
    BatchNormalization,
    CategoricalEmbedding,
    Dense,
    Dropout,
    Flatten,
    LayerNormalization,
    Permute,
    Reshape,
    Residual,
    Scale,
)
from skbackprop.layers.base import Layer
from skbackprop.nn.network import Network
from skbackprop.nn.prediction import predict_raw
from skbackprop.persistence import load, save
from support import BOTH, data_for, few_epochs, pairs, quick
from support.shaped import check_gradients, drawn_parameters, forward, padded, shaped_network
from support.stacks import assert_same_bits

pytestmark = few_epochs

BLOCK = Residual([LayerNormalization(), Dense(6, "gelu"), Dense(3)])
# Input shape and layers: a connection that is the first layer, after layers whose output it may
# overwrite or not, around others, in a row; with layers that prediction skips or that work in
# place at its ends.
CASES = {
    "first": ((4,), [Residual(Dense(4))]),
    "first, with an activation": ((4,), [Residual(Dense(4, "tanh"))]),
    "after dense": ((4,), [Dense(5), Residual(Dense(5))]),
    "after an activation": ((4,), [Dense(5, "tanh"), Residual(Dense(5, "gelu")), Dense(2)]),
    "activation inside": ((4,), [Dense(5), Residual(Activation("tanh"))]),
    "in-place layers inside": (
        (4,),
        [Dense(5), Residual([Activation("tanh"), Activation("gelu")])],
    ),
    "before an activation": ((4,), [Residual(Dense(4)), Activation("tanh"), Scale()]),
    "two": ((4,), [Residual(Dense(4, "tanh")), Residual([Dense(7), Dense(4)])]),
    "of two widths": ((4,), [Residual(Dense(4)), Dense(9), Residual(Dense(9)), Dense(2)]),
    "nested": ((4,), [Dense(5), Residual([Dense(5), Residual([Dense(3, "tanh"), Dense(5)])])]),
    "nested alone": ((4,), [Residual(Residual(Residual(Dense(4, "tanh"))))]),
    "nested twice": ((4,), [Residual([Residual(Dense(4)), Residual(Scale())]), Residual(Scale())]),
    "dropout inside": ((4,), [Dense(5), Residual([Dropout(0.3), Dense(5), Dropout(0.2)])]),
    "dropout alone": ((4,), [Dense(5), Residual(Dropout(0.3)), Dense(3)]),
    "dropout first": ((4,), [Dropout(0.3), Residual([Dropout(0.3), Dense(4)])]),
    "batch normalization": ((4,), [Dense(5), Residual([BatchNormalization(), Dense(5)])]),
    "normalization last": ((4,), [Dense(5), Residual([Dense(5), BatchNormalization()])]),
    "positions": ((5, 3), [BLOCK, BLOCK]),
    "an image": ((3, 4, 2), [Residual([Dense(6, "relu"), Dense(2)]), LayerNormalization()]),
    "without channels": ((3, 4), [Residual(Activation("tanh"))]),
    "reshaped inside": ((4, 3), [Dense(3), Residual([Flatten(), Dense(12), Reshape((4, 3))])]),
    "reshaped before": ((12,), [Reshape((4, 3)), BLOCK, Flatten(), Residual(Dense(12))]),
    "flattened inside": ((4,), [Dense(5), Residual(Flatten())]),
}


@pytest.mark.parametrize("n_estimators", [1, 3])
def test_the_input_is_added_to_what_the_layers_make_of_it(n_estimators):
    X = np.random.RandomState(0).randn(6, 4)
    inner, outer = [Dense(4, "tanh"), Activation("gelu")], [Activation("tanh")]
    expected = X + forward((4,), inner, X, n_estimators)
    for layers in ([Residual(inner)], [Residual(inner), Residual(outer)]):
        np.testing.assert_allclose(forward((4,), layers, X, n_estimators), expected, rtol=1e-12)
        expected = expected + np.tanh(expected)
    nested = Residual([Residual(inner), Activation("tanh")])
    expected = X + np.tanh(X + forward((4,), inner, X, n_estimators))
    np.testing.assert_allclose(forward((4,), [nested], X, n_estimators), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "name, stack, weighted", pairs(list(CASES), [(1, False), (3, False), (3, True)], [False, True])
)
def test_gradients_match_finite_differences(name, stack, weighted):
    shape, layers = CASES[name]
    check_gradients(shaped_network(shape, layers), stack[0], 7, weighted, stack[1])


@dataclass(frozen=True)
class FillPadding(Layer):
    """Pass sequences on, with another value in their padding."""

    value: float

    batch_view = "sequences"
    backward_reads = "neither"

    def bind(self, context):
        def forward(x, out):
            np.copyto(out, x)
            context.fill_padding(out, self.value)

        return forward, lambda x, out, delta: None


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize(
    "inner",
    [[Flatten(), Dense(10), Reshape((5, 2))], [Permute((2, 1)), Dense(5), Permute((2, 1))]],
    ids=["flatten", "permute"],
)
def test_padding_has_no_effect_where_the_layers_lose_the_lengths(inner, n_estimators):
    X = np.random.RandomState(0).randn(4, 5, 2)
    rows, scores = padded(X, [5, 3, 1, 4]), []
    for value in (0.0, 1e6):
        network = shaped_network((5, 2), [Dense(2), FillPadding(value), Residual(inner)])
        check_gradients(network, n_estimators, 4, X=rows)
        scores.append(predict_raw(network, drawn_parameters(network, n_estimators), rows))
    assert_same_bits(*scores)


# ---------------------------------------------------------------------------------- errors


WRONG = {
    "nothing": ([], "at least one layer"),
    "class": ([Dense], "object of class Layer, got <class .*Dense"),
    "number": ([Dense(4), 3], "layers of Residual must be .* got 3"),
    "codes": ([CategoricalEmbedding({0: 3})], "must be the first and only"),
    "codes after": ([Scale(), CategoricalEmbedding({0: 3})], "must be the first and only"),
}


@pytest.mark.parametrize("layers, says", WRONG.values(), ids=WRONG)
def test_wrong_layers_are_errors(layers, says):
    with pytest.raises(ValueError, match=says):
        Residual(layers)


@pytest.mark.parametrize(
    "layers", [[Residual(Dense(3))], [Residual([Scale(), Residual(Dense(3))])]]
)
def test_another_shape_than_that_of_the_input_is_an_error_that_says_both(layers):
    X, y = data_for(BackpropRegressor)
    says = r"layers\[0\]: .* rows of shape \(4,\) become rows of shape \(3,\)"
    with pytest.raises(ValueError, match=says):
        quick(BackpropRegressor, layers=layers).fit(X, y)


def test_a_part_may_end_inside_but_not_start_there():
    network = Network((4,), Residual([Dense(4, "tanh"), Dense(4)]).expand((4,)))
    parameters, X = drawn_parameters(network, 2), np.random.RandomState(0).randn(5, 4)
    for n_layers in (2, 3, 4):
        first = slice(n_layers)
        hidden = predict_raw(network.part(first), parameters.part(first), X)
        assert hidden.shape == (2, 5, 4)
    inside = Network((4,), (*network.layers[1:3],))
    np.testing.assert_array_equal(
        predict_raw(network.part(slice(3)), parameters.part(slice(3)), X),
        predict_raw(inside, parameters.part(slice(1, 3)), X),
    )
    rest = slice(2, None)
    with pytest.raises(ValueError, match="must not start inside a Residual"):
        predict_raw(network.part(rest), parameters.part(rest), X)


# ------------------------------------------------------------------------------ estimators


def test_names_and_single_layers_stand_for_layers():
    assert Residual("scale") == Residual([Scale()]) == Residual((Scale(),))
    assert Residual(["scale", Dense(4)]).layers == (Scale(), Dense(4))
    model = BackpropClassifier(layers=Residual([Dense(8)]))
    assert model.set_params(layers=Residual("scale")).layers == Residual(Scale())


@BOTH
def test_an_estimator_trains_and_is_saved_with_it(estimator_class, tmp_path):
    X, y = data_for(estimator_class)
    layers = [Dense(6), Residual([LayerNormalization(), Dropout(0.1), Dense(6, "relu")])]
    model = quick(estimator_class, layers=layers, warm_start=True, n_estimators=2).fit(X, y)
    assert model.hidden_features(X).shape[0] == len(X)
    assert [weights.shape for weights in model.dense_weights_] == [(2, 4, 6), (2, 6, 6)]
    save(model, tmp_path / "model.skops")
    loaded = load(tmp_path / "model.skops")
    assert_same_bits(loaded.predict(X), model.predict(X))
    assert_same_bits(loaded.fit(X, y).predict(X), model.fit(X, y).predict(X))
    first = model.estimators_[0]
    assert "ResidualStart" in repr(first.summary())
