"""Every part in the tables has a formula, which equals what the part computes."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import special
from sklearn.base import BaseEstimator, TransformerMixin
from test_onnx import check, outputs_of

from skbackprop.activations import ACTIVATIONS, ActivationFunction, Relu
from skbackprop.export import to_expression, to_onnx
from skbackprop.layers import NORMALIZATIONS
from skbackprop.layers.base import Layer
from skbackprop.layers.dense import HiddenDropout
from skbackprop.layers.residual import ResidualEnd, ResidualStart
from skbackprop.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES, Quantile, SquaredError
from skbackprop.losses.links import IdentityLink, Link
from skbackprop.utils.arrays import Array
from support.cases import X, classifier, is_close, regressor


def subclasses_of(kind):
    """Return all direct and indirect subclasses of the package."""
    below = {kind}
    while new := {sub for each in below for sub in each.__subclasses__()} - below:
        below |= new
    return {each for each in below - {kind} if each.__module__.startswith("skbackprop")}


def is_computed(kind):
    """Return whether a class has no subclasses, and computes more than a sum or other layers."""
    others = HiddenDropout, ResidualStart, ResidualEnd
    return not subclasses_of(kind) and kind.bind is not Layer.bind and kind not in others


LOSSES = *CLASSIFIER_LOSSES.values(), *REGRESSOR_LOSSES.values(), Quantile([0.1, 0.9])


@pytest.mark.parametrize(
    "kind",
    sorted(
        {
            *(type(part) for part in (*ACTIVATIONS.values(), *LOSSES)),
            *NORMALIZATIONS.values(),
            *(type(loss.link) for loss in LOSSES),
            *filter(is_computed, subclasses_of(Layer)),
        },
        key=lambda kind: kind.__name__,
    ),
)
def test_every_part_has_a_formula(kind):
    assert to_expression.dispatch(kind) is not to_expression.dispatch(object)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_formulas_equal_forward_passes_of_activations(name):
    activation = ACTIVATIONS[name]
    z = np.concatenate([np.linspace(-30, 30, 241), [-1e4, -100, 100, 1e4]])
    a = np.empty_like(z)
    activation.forward(z.copy(), a)
    assert np.allclose(to_expression(activation, z), a, rtol=1e-12, atol=1e-12)


# --------------------------------------------------------------------- user-defined parts


@dataclass(frozen=True)
class Cube(ActivationFunction):
    needs_preactivation = True

    def forward(self, z: Array, a: Array) -> None:
        np.power(z, 3, out=a)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        delta *= 3 * z**2


@dataclass(frozen=True)
class HalfRelu(Relu):
    """An activation that computes otherwise than its base class."""

    def forward(self, z: Array, a: Array) -> None:
        super().forward(z, a)
        a *= 0.5


@dataclass(frozen=True)
class NamedRelu(Relu):
    """An activation that computes what its base class does."""


class Doubled(IdentityLink):
    def inverse(self, scores: Array, out: Array) -> None:
        np.multiply(scores, 2, out=out)


@dataclass(frozen=True)
class OfDoubled(SquaredError):
    @property
    def link(self) -> Link:
        return Doubled()


@dataclass(frozen=True)
class Shifted(SquaredError):
    def predict(self, scores: Array) -> Array:
        return scores + 1


@dataclass(frozen=True)
class OwnDeviation(SquaredError):
    def predict_std(self, scores):
        return np.ones_like(scores)


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: classifier(activation=HalfRelu()), "HalfRelu"),
        (lambda: regressor(loss=OfDoubled()), "Doubled"),
        (lambda: regressor(loss=Shifted()), "Shifted"),
    ],
)
def test_raises_on_parts_without_a_formula(make, name):
    with pytest.raises(TypeError, match=rf"{name} cannot be exported.*to_expression\.register"):
        to_onnx(make())


def test_registered_formula_is_exported():
    estimator = classifier(activation=Cube())
    with pytest.raises(TypeError, match="Cube"):
        to_onnx(estimator)

    @to_expression.register
    def convert_cube(activation: Cube, z):
        return z**3

    check(estimator)


def test_subclasses_that_compute_the_same_need_no_formula():
    assert to_onnx(classifier(activation=NamedRelu())) == to_onnx(classifier())


def test_raises_on_user_defined_standard_deviation():
    estimator = regressor(loss=OwnDeviation())
    to_onnx(estimator)
    with pytest.raises(TypeError, match="OwnDeviation has its own standard deviation"):
        to_onnx(estimator, return_std=True)


# ------------------------------------------------------------------------------ functions


class Function(TransformerMixin, BaseEstimator):
    """A transformer that applies a function."""

    def __init__(self, function):
        self.function = function

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return self.function(X)


@to_expression.register
def convert_function(transformer: Function, x):
    return transformer.function(x)


@pytest.mark.parametrize(
    "function",
    [
        *(np.negative, np.square, np.absolute, np.exp, np.expm1, np.tanh, np.sin, np.cos),
        *(special.expit, special.erf),
        lambda x: np.log(np.abs(x)) + np.log1p(np.abs(x)) - np.sqrt(np.abs(x)),
        lambda x: np.power(np.abs(x), 1.5) / (2.0 - np.minimum(x, 1.0)),
        lambda x: np.maximum(x, 0.0) + np.maximum(x, x * x),
        lambda x: np.equal(x, np.float32(X[0])) + np.isnan(x),
    ],
)
def test_functions_equal_those_of_numpy(function):
    transformer, rows = Function(function).fit(X), X.astype(np.float32)
    (found,) = outputs_of(to_onnx(transformer), rows).values()
    assert is_close(found, transformer.transform(rows))


@pytest.mark.parametrize(
    "function, error, match",
    [
        (lambda z: np.arctan(z), TypeError, "cannot use arctan .*'tanh'"),
        (lambda z: np.add.reduce(z), TypeError, r"cannot use add \(reduce"),
        (lambda z: np.add(z, z, where=True), TypeError, r"options \['where'\]"),
        (lambda z: z > 0, TypeError, "cannot use greater"),
        (lambda z: z + np.ones(2), ValueError, r"mismatch.*\(4,\).*\(2,\)"),
        (lambda z: z * 1e39, ValueError, r"finite values in single precision.*1e\+39"),
    ],
)
def test_raises_on_functions_that_formulas_cannot_use(function, error, match):
    with pytest.raises(error, match=match):
        to_onnx(Function(function).fit(X))
