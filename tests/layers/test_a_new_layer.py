"""A new layer takes one class, and nothing else has to know of it.

The layer is a trained scale of each input. It is tested in any position of a network.
"""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from skbackprop import BackpropRegressor
from skbackprop.activations import ACTIVATIONS
from skbackprop.layers import BatchNormalization, LayerNormalization
from skbackprop.layers.base import Layer, ParameterSpec
from skbackprop.layers.dense import Activation, Dense, Dropout, HiddenDropout
from skbackprop.nn.network import BoundNetwork, Network
from skbackprop.nn.prediction import predict_raw
from skbackprop.optimizers import AdamW
from skbackprop.utils.arrays import BufferPool
from skbackprop.weight_averaging import ExponentialMovingAverage
from support import BOTH, data_for, few_epochs, pairs, quick
from support.shaped import check_gradients
from support.stacks import LOSSES, assert_same_bits, dense_network, some_table

pytestmark = few_epochs

LOSS = LOSSES["squared_error-identity"]
WIDTHS = (4, 7, 5, 2)


@dataclass(frozen=True)
class Scale(Layer):
    """out = x * s, with a factor s for each input, which starts at one."""

    is_drawn: bool = False

    def parameter_specs(self, input_shape):
        start = (lambda rng: rng.uniform(1, 2, input_shape)) if self.is_drawn else 1.0
        return (ParameterSpec("scales", input_shape, start),)

    def bind(self, context):
        ones, scales = context.batch.ones(context.batch.n_rows), context.parameters["scales"]

        def forward(x, out):
            np.multiply(x, scales, out=out)

        def backward(x, out, delta):
            if context.gradients:
                np.matmul(ones, delta * x, out=context.gradients["scales"])
            if context.grad_input is not None:
                np.multiply(delta, scales, out=context.grad_input)

        return forward, backward


def network_with(where, dropout=(), normalization=None, new=None):
    """Return a network with a new layer before the layers of these numbers; -1 is after the last.

    Dropout comes before the layers of weights, whatever stands there already.
    """
    activations = (ACTIVATIONS["tanh"], ACTIVATIONS["gelu"])
    plain = dense_network(WIDTHS, activations, normalization=normalization)
    layers = list(plain.layers)
    for i in sorted((len(layers) if i < 0 else i for i in where), reverse=True):
        layers.insert(i, new or Scale())
    return Network(WIDTHS[:1], tuple(layers)).with_dropout(dropout)


# Before the first layer, an activation, and a dense layer; two in a row; after the last; all.
PLACES = {
    "input": [0],
    "before f": [1],
    "after f": [2],
    "two": [0, 0],
    "last": [-1],
    "all": [0, 1, 2, 3, 4, -1],
}


@dataclass(frozen=True)
class Penalized(Scale):
    """out = x * s, with factors that the penalty acts on."""

    def parameter_specs(self, input_shape):
        return (ParameterSpec("scales", input_shape, 1.0, regularized=True),)


@pytest.mark.parametrize("name", ["weights", "biases"])
def test_the_names_of_arrays_of_dense_layers_are_refused(name):
    @dataclass(frozen=True)
    class OtherLayer(Scale):
        def parameter_specs(self, input_shape):
            return (ParameterSpec(name, input_shape, 1.0),)

    with pytest.raises(ValueError, match=f"{name!r}, as dense layers do.* another name"):
        Network((4,), (OtherLayer(), Dense(2)))


def test_a_penalized_layer_without_weights_leaves_dropout_and_widths_where_they_are():
    """Dropout comes before dense layers, and no other array of a layer counts as weights."""
    hidden, tanh, last = Dense(5), Activation(ACTIVATIONS["tanh"]), Dense(2)
    network = Network((4,), (Penalized(), Dropout(0.3), hidden, tanh, last))
    assert network.widths == [4, 5, 2]
    dropped = network.with_dropout((0.1, 0.2))
    assert dropped.layers == (
        *(Penalized(), Dropout(0.3), HiddenDropout(0.1), hidden, tanh),
        *(HiddenDropout(0.2), last),
    )
    assert len(network.draw_weights(np.random.RandomState(0))) == 2
    parameters = network.layout.init(3, np.dtype(float))
    assert parameters.regularized.shape == (3, 4 + 4 * 5 + 5 * 2)


KINDS = [None, BatchNormalization(), LayerNormalization()]


OTHERS = [BatchNormalization(), LayerNormalization(), Scale()]
OTHERS += [Activation(ACTIVATIONS[name]) for name in ("tanh", "relu", "gelu")]


@pytest.mark.parametrize("new, where, kind", pairs(OTHERS, list(PLACES), KINDS[::2]))
def test_layer_works_in_any_position(new, where, kind):
    """Each place has the very same instance."""
    places = PLACES[where]
    if isinstance(new, Activation):
        places = [i for i in places if i >= 0]  # a link is the loss's own
    check_gradients(network_with(places, normalization=kind, new=new), 1, 9, weighted=True)


@pytest.mark.parametrize("new", OTHERS[1:], ids=str)
def test_a_prediction_is_what_training_has_computed(new):
    network, table = network_with(range(5), new=new), some_table(LOSS, 9, WIDTHS)
    parameters = network.layout.init(2, np.dtype(float))
    parameters.theta[...] = np.random.RandomState(0).randn(*parameters.theta.shape)
    gradients = parameters.with_arrays(np.empty_like(parameters.theta))
    scores = np.empty((2, 9, 2))
    pool = BufferPool(np.dtype(float))
    BoundNetwork(network, parameters, 9, pool, gradients).forward(table.X, scores)
    assert_same_bits(predict_raw(network, parameters, table.X), scores)


# --------------------------------------------------------------------------- an estimator

SETTINGS = {
    "layers": Scale(is_drawn=True),
    "normalization": "batch",
    "dropout": 0.1,
    "average": ExponentialMovingAverage(0.9),
    "batch_size": 16,
}


@pytest.mark.parametrize("n_estimators", [1, 3])
@BOTH
def test_new_layer_has_a_fitted_attribute_and_resumes(estimator_class, n_estimators):
    X, y = data_for(estimator_class)
    settings = SETTINGS | {"n_estimators": n_estimators, "warm_start": True, "max_iter": 3}
    model = quick(estimator_class, **settings).fit(X, y)
    scales = model.scales_[0].copy()
    assert scales.shape == ((4,) if n_estimators == 1 else (3, 4))
    restored = pickle.loads(pickle.dumps(model))
    for one in (model, restored):
        one.fit(X, y)
    assert_same_bits(restored.scales_[0], model.scales_[0])
    assert_same_bits(restored.predict(X), model.predict(X))
    assert not np.array_equal(model.scales_[0], scales)
    model.scales_ = [2 * model.scales_[0]]
    assert not np.array_equal(restored.predict(2 * X), restored.predict(X))
    np.testing.assert_allclose(model.predict(X), restored.predict(2 * X))
    with pytest.raises(ValueError, match=r"scales_\[0\] must be an array of real numbers of shape"):
        model.scales_ = [np.ones(7)]


def test_weight_decay_leaves_arrays_alone_that_are_not_regularized():
    """Without a gradient, decay is all that changes weights."""
    X, y = data_for(BackpropRegressor)
    settings = {"layers": Scale(is_drawn=True), "alpha": 0.0, "max_iter": 1}
    plain, decayed = (
        quick(BackpropRegressor, solver=AdamW(weight_decay=decay), **settings).fit(0 * X, 0 * y)
        for decay in (0.0, 0.5)
    )
    np.testing.assert_array_equal(decayed.scales_[0], plain.scales_[0])
    assert (np.abs(decayed.coefs_[0]) < np.abs(plain.coefs_[0])).all()


def test_arrays_are_drawn_after_the_weights():
    X, y = data_for(BackpropRegressor)
    settings = {"solver": "sgd", "learning_rate_init": 1e-300, "max_iter": 1}
    fixed, drawn = (
        quick(BackpropRegressor, layers=Scale(is_drawn), **settings).fit(X, y)
        for is_drawn in (False, True)
    )
    np.testing.assert_array_equal(drawn.coefs_[0], fixed.coefs_[0])
    assert (fixed.scales_[0] == 1).all()
    assert (drawn.scales_[0] > 1).all()
