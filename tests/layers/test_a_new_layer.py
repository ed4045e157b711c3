"""A new layer takes one class, and nothing else has to know of it.

The layer is a trained scale of each input. It is tested in any position of a network.
"""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import sparse

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.activations import ACTIVATIONS
from skbackprop.estimators._fit_context import FitArguments
from skbackprop.estimators.base import make_fit_context
from skbackprop.layers import BatchNormalization, LayerNormalization
from skbackprop.layers.base import Layer, ParameterSpec
from skbackprop.layers.dense import Activation, Dense, Dropout, HiddenDropout
from skbackprop.nn.lbfgs import FullBatchObjective
from skbackprop.nn.network import BuiltNetwork, Network, dense_network
from skbackprop.nn.objective import L2, Objective
from skbackprop.nn.prediction import compute_input_gradients, predict_raw
from skbackprop.optimizers import Adam, AdamW
from skbackprop.testing import check_gradient
from skbackprop.training.architecture import MLPSpec
from skbackprop.utils.arrays import BufferPool
from skbackprop.weight_averaging import ExponentialMovingAverage
from support import BOTH, assert_same_network, data_for, few_epochs, quick
from support.stacks import (
    DTYPES,
    LOSSES,
    assert_each_as_alone,
    assert_same_bits,
    five_members,
    some_parameters,
    some_table,
)

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

    def forward(self, context, x, out):
        np.multiply(x, context.parameters["scales"], out=out)

    def backward(self, context, x, delta):
        if context.is_training:
            np.matmul(
                np.ones((1, context.n_rows), x.dtype), delta * x, out=context.gradients["scales"]
            )
        if context.grad_input is not None:
            np.multiply(delta, context.parameters["scales"], out=context.grad_input)
        return context.grad_input


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
every_place = pytest.mark.parametrize("where", PLACES.values(), ids=PLACES)


@dataclass(frozen=True)
class Penalized(Layer):
    """out = x * s, with factors that the penalty acts on."""

    def parameter_specs(self, input_shape):
        return (ParameterSpec("factors", input_shape, 1.0, regularized=True),)

    forward, backward = Scale.forward, Scale.backward


def test_a_penalized_layer_without_weights_leaves_dropout_and_widths_where_they_are():
    """Dropout comes before dense layers, and no other array of a layer counts as weights."""
    hidden, tanh, last = Dense(5), Activation(ACTIVATIONS["tanh"]), Dense(2)
    network = Network((4,), (Penalized(), Dropout(0.3), hidden, tanh, last))
    assert network.widths == (4, 5, 2)
    dropped = network.with_dropout((0.1, 0.2))
    assert dropped.layers == (
        *(Penalized(), Dropout(0.3), HiddenDropout(0.1), hidden, tanh),
        *(HiddenDropout(0.2), last),
    )
    assert dropped.with_dropout(()).layers == network.layers
    assert len(network.draw_weights(np.random.RandomState(0))) == 2
    parameters = network.layout.init(3, np.dtype(float))
    assert parameters.regularized.shape == (3, 4 + 4 * 5 + 5 * 2)


def perturbed(network, seeds):
    parameters = some_parameters(network, seeds)
    for array in parameters.select("scales"):
        array += 0.3 * np.random.RandomState(5).randn(*array.shape)
    return parameters


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("kind", [None, BatchNormalization(), LayerNormalization()], ids=str)
@every_place
def test_gradient_by_the_input_belongs_to_the_scores(where, kind, n_estimators):
    network = network_with(where, normalization=kind)
    parameters = perturbed(network, range(n_estimators))
    slope = np.random.RandomState(8).normal(size=(n_estimators, 9, WIDTHS[-1]))

    def value_and_gradient(X):
        gradient = compute_input_gradients(network, parameters, X, lambda scores, i: slope, 1)
        return (slope * predict_raw(network, parameters, X)).sum(), gradient[..., 0]

    check_gradient(value_and_gradient, np.random.RandomState(9).normal(size=(9, WIDTHS[0])))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [None, BatchNormalization(), LayerNormalization()], ids=str)
@pytest.mark.parametrize("dropout", [(), (0.2, 0.3, 0.3)], ids=["", "dropout"])
@every_place
def test_a_member_of_five_equals_the_network_alone(where, dropout, kind, dtype):
    network = network_with(where, dropout, kind)
    members = five_members(LOSS, network, weighted=True)
    average = ExponentialMovingAverage(0.9)
    assert_each_as_alone(members, 3, network, LOSS, Adam(), dtype=dtype, average=average)


def test_sparse_input_is_an_error_where_the_layer_takes_none():
    network = network_with([0])
    X = sparse.csr_array(some_table(LOSS, 9, WIDTHS).X)
    with pytest.raises(TypeError, match="Scale does not accept sparse input"):
        predict_raw(network, some_parameters(network, [0]), X)


OTHERS = [BatchNormalization(), LayerNormalization(), Scale()]
OTHERS += [Activation(ACTIVATIONS[name]) for name in ("tanh", "relu", "gelu")]


@pytest.mark.parametrize("normalization", [None, LayerNormalization()], ids=["", "normalized"])
@pytest.mark.parametrize("new", OTHERS, ids=str)
@every_place
def test_layer_works_in_any_position(where, new, normalization):
    """Each place has the very same instance, and the data stay as they are."""
    if isinstance(new, Activation):
        where = [i for i in where if i >= 0]  # a link is the loss's own
    network = network_with(where, normalization=normalization, new=new)
    table = some_table(LOSS, 9, WIDTHS, weighted=True)
    parameters, X = network.layout.init(1, np.dtype(float)), table.X.copy()
    parameters.theta[...] = np.random.RandomState(0).randn(*parameters.theta.shape)
    predict_raw(network, parameters, table.X)
    whole = FullBatchObjective(Objective(network, LOSS, L2(0.1)), parameters, table, None, 9)
    check_gradient(whole, parameters.theta[0].copy())
    np.testing.assert_array_equal(table.X, X)


@pytest.mark.parametrize("new", OTHERS[1:], ids=str)
def test_a_prediction_is_what_training_has_computed(new):
    network, table = network_with(range(5), new=new), some_table(LOSS, 9, WIDTHS)
    parameters = network.layout.init(2, np.dtype(float))
    parameters.theta[...] = np.random.RandomState(0).randn(*parameters.theta.shape)
    gradients = parameters.with_theta(np.empty_like(parameters.theta))
    scores = np.empty((2, 9, 2))
    BuiltNetwork(network, parameters, 9, BufferPool(np.dtype(float)), gradients).forward(
        table.X, scores
    )
    assert_same_bits(predict_raw(network, parameters, table.X), scores)


def test_the_last_layer_may_not_overwrite_the_scores():
    network = network_with([-1], new=OTHERS[-1])
    parameters = some_parameters(network, [0])
    with pytest.raises(TypeError, match="Activation cannot be the last layer"):
        BuiltNetwork(network, parameters, 9, BufferPool(np.dtype(float)), parameters)


# --------------------------------------------------------------------------- an estimator


class Scaled(MLPSpec):
    """Dense layers, with the layer before all others."""

    new = Scale()

    def network(self, row_shape, n_outputs):
        plain = super().network(row_shape, n_outputs)
        return Network(row_shape, (self.new, *plain.layers))


class Drawn(Scaled):
    """The same, with scales that start at random."""

    new = Scale(is_drawn=True)


class ScaledClassifier(BackpropClassifier):
    """A classifier with it."""

    _kind_of_network = Scaled


class ScaledRegressor(BackpropRegressor):
    """A regressor with it."""

    _kind_of_network = Scaled


class DrawnRegressor(BackpropRegressor):
    """A regressor whose scales start at random."""

    _kind_of_network = Drawn


SCALED = {BackpropClassifier: ScaledClassifier, BackpropRegressor: ScaledRegressor}
SETTINGS = {
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
    model = quick(SCALED[estimator_class], **settings).fit(X, y)
    (scales,) = model.scales_
    assert scales.shape == ((4,) if n_estimators == 1 else (3, 4))
    assert (scales != 1).all()
    restored = pickle.loads(pickle.dumps(model))
    for one in (model, restored):
        one.fit(X, y)
    assert_same_bits(restored.scales_[0], model.scales_[0])
    assert_same_bits(restored.predict(X), model.predict(X))
    assert not np.array_equal(model.scales_[0], scales)
    model.scales_ = [2 * model.scales_[0]]
    assert not np.array_equal(restored.predict(2 * X), restored.predict(X))
    np.testing.assert_allclose(model.predict(X), restored.predict(2 * X))
    model.scales_ = [np.ones(7)]
    with pytest.raises(ValueError, match=r"scales_ must be a list of arrays"):
        model.predict(X)


@pytest.mark.parametrize("n_estimators", [1, 3])
def test_a_warm_start_continues_from_the_new_arrays(n_estimators):
    X, y = data_for(BackpropRegressor)
    settings = {"n_estimators": n_estimators, "warm_start": True, "max_iter": 3}
    whole = quick(ScaledRegressor, **settings | {"max_iter": 6}).fit(X, y)
    model = quick(ScaledRegressor, **settings).fit(X, y).fit(X, y)
    for name in ("scales_", "coefs_"):
        assert_same_bits(getattr(model, name)[0], getattr(whole, name)[0])


def test_weight_decay_leaves_arrays_alone_that_are_not_regularized():
    """Without a gradient, decay is all that changes weights."""
    X, y = data_for(BackpropRegressor)
    plain, decayed = (
        quick(DrawnRegressor, solver=AdamW(weight_decay=decay), alpha=0.0, max_iter=1).fit(
            0 * X, 0 * y
        )
        for decay in (0.0, 0.5)
    )
    np.testing.assert_array_equal(decayed.scales_[0], plain.scales_[0])
    assert (np.abs(decayed.coefs_[0]) < np.abs(plain.coefs_[0])).all()


def test_a_member_of_an_ensemble_is_the_network_alone():
    X, y = data_for(BackpropRegressor)
    for kind in (ScaledRegressor, DrawnRegressor):
        one = quick(kind, **SETTINGS).fit(X, y)
        first = quick(kind, **SETTINGS, n_estimators=3).fit(X, y).estimators_[0]
        assert_same_network(first, one, rtol=0, atol=0)
        assert_same_bits(first.scales_[0], one.scales_[0])
        assert_same_bits(first.predict(X), one.predict(X))


def test_arrays_are_drawn_after_the_weights():
    X, y = data_for(BackpropRegressor)
    (fixed,), (run,) = (
        make_fit_context(quick(kind), FitArguments(X, y)).runs
        for kind in (ScaledRegressor, DrawnRegressor)
    )
    np.testing.assert_array_equal(run.parameters.weights[0], fixed.parameters.weights[0])
    (rng,) = fixed.state.rngs
    np.testing.assert_array_equal(run.parameters.select("scales")[0][0, 0], rng.uniform(1, 2, 4))
