"""Every part in the tables has a formula, which equals what the part computes."""

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_onnx import check

from skbackprop import BackpropClassifier
from skbackprop.activations import ACTIVATIONS, ActivationFunction, Relu
from skbackprop.export import _expressions as ex
from skbackprop.export import to_c, to_expression
from skbackprop.export._model_graph import build_graph
from skbackprop.layers import NORMALIZATIONS
from skbackprop.layers.base import Layer
from skbackprop.layers.residual import ResidualEnd, ResidualStart
from skbackprop.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES, LogLoss, SquaredError
from skbackprop.losses.links import GaussianLink, IdentityLink, Link, LogLink
from skbackprop.utils.arrays import Array
from support import cases
from support.cases import SHORT, X, Y, classifier, is_close, regressor


def subclasses_of(kind):
    """Return all direct and indirect subclasses of the package."""
    below = {kind}
    while new := {sub for each in below for sub in each.__subclasses__()} - below:
        below |= new
    return {each for each in below - {kind} if each.__module__.startswith("skbackprop")}


def is_leaf(kind):
    """Return whether a class has no subclasses."""
    return not subclasses_of(kind)


def is_computed(kind):
    """Return whether a layer computes in prediction, and is not a sum or other layers."""
    is_defined = kind.build is not Layer.build or kind.forward is not Layer.forward
    return is_defined and not kind.training_only and kind not in (ResidualStart, ResidualEnd)


@pytest.mark.parametrize(
    "kind",
    sorted(
        {
            *(type(part) for table in (ACTIVATIONS, CLASSIFIER_LOSSES) for part in table.values()),
            *(type(part) for part in REGRESSOR_LOSSES.values()),
            *NORMALIZATIONS.values(),
            *filter(is_leaf, subclasses_of(Link)),
            *(kind for kind in subclasses_of(Layer) if is_leaf(kind) and is_computed(kind)),
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


def has_exponentials(estimator):
    """Return whether predictions are exponentials, which single precision holds up to a bound."""
    last = getattr(estimator, "steps", [["", estimator]])[-1][1]
    loss = getattr(getattr(last, "_data_info", None), "loss", None)
    return isinstance(getattr(loss, "link", None), (LogLink, GaussianLink))


@pytest.mark.parametrize("name", cases.NAMES)
def test_models_are_equal_for_inputs_of_any_size(name):
    """Intermediate values stay finite, and squares neither overflow nor vanish."""
    estimator = cases.model(name)
    exported_model = build_graph(estimator, return_std=cases.has_std(estimator))
    numbers = [
        output
        for output in exported_model.outputs
        if output.dtype == np.float32 and output.classes is None
    ]
    exponents = (-30, -19, 0) if has_exponentials(estimator) else (-30, -19, 0, 10, 19, 25, 30)
    for exponent in exponents:
        rows = (cases.rows_of(name) * 10.0**exponent).astype(np.float32)
        values = ex.evaluate([output.expression for output in numbers], rows)
        said = cases.expected(estimator, rows)
        for output in numbers:
            found = values[output.expression].reshape(said[output.name].shape)
            # Sums of large numbers that cancel keep some of their digits.
            bound = (1e-5 if exponent <= 0 else 5e-3) * np.maximum(1, np.abs(said[output.name]))
            assert (np.abs(found - said[output.name]) <= bound).all(), (exponent, output.name)


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


class Rounding(StandardScaler):
    def transform(self, X, copy=None):
        return super().transform(X, copy).round()


@dataclass(frozen=True)
class OwnDeviation(SquaredError):
    def predict_std(self, scores):
        return np.ones_like(scores)


@dataclass(frozen=True)
class OwnLogLoss(LogLoss):
    """A loss whose link has a formula."""

    def value(self, scores, y):
        return super().value(scores, y)


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: classifier(activation=HalfRelu()), "HalfRelu"),
        (lambda: regressor(loss=OfDoubled()), "Doubled"),
        (lambda: regressor(loss=Shifted()), "Shifted"),
        (lambda: make_pipeline(Rounding(), BackpropClassifier((), **SHORT)).fit(X, Y), "Rounding"),
    ],
)
def test_raises_on_parts_without_a_formula(make, name):
    with pytest.raises(TypeError, match=rf"{name} cannot be exported.*to_expression\.register"):
        to_c(make())


@pytest.mark.long
def test_registered_formula_is_exported():
    estimator = classifier(activation=Cube())
    with pytest.raises(TypeError, match="Cube"):
        to_c(estimator)

    @to_expression.register
    def convert_cube(activation: Cube, z):
        return z**3

    check(estimator)
    assert "powf(" in to_c(estimator).source


@pytest.mark.parametrize("settings", [{"activation": NamedRelu()}, {"loss": OwnLogLoss()}])
def test_subclasses_that_compute_the_same_need_no_formula(settings):
    assert to_c(classifier(**settings)).source == to_c(classifier()).source


def test_raises_on_user_defined_standard_deviation():
    estimator = regressor(loss=OwnDeviation())
    to_c(estimator)
    with pytest.raises(TypeError, match="OwnDeviation has its own standard deviation"):
        to_c(estimator, return_std=True)


@pytest.mark.parametrize(
    "compute, match",
    [
        (lambda z: np.arctan(z), "cannot use arctan .*'tanh'"),
        (lambda z: np.add.reduce(z), r"cannot use add \(reduce"),
        (lambda z: np.add(z, z, where=True), r"options \['where'\]"),
        (lambda z: z > 0, "cannot use greater"),
    ],
)
def test_raises_on_functions_that_formulas_cannot_use(compute, match):
    with pytest.raises(TypeError, match=match):
        compute(ex.model_input(3))


def test_raises_on_widths_that_do_not_match_and_overflow():
    with pytest.raises(ValueError, match=r"do not match: \[\(1, 3\), \(1, 2\)\]"):
        ex.model_input(3) + np.ones(2)
    with pytest.raises(ValueError, match="finite values in single precision.*1e\\+39"):
        ex.model_input(3) * 1e39


def test_evaluation_equals_numpy():
    x = ex.model_input(4)
    outputs = [
        ex.fill_nan(x, 2.0),
        np.isnan(x) + np.equal(x, 1.0),
        ex.softmax(np.exp(-np.abs(x)) / 2),
    ]
    rows = np.array([[np.nan, 1, 2, 3]], dtype=np.float32)
    values = ex.evaluate(outputs, rows)
    assert values[outputs[0]].tolist() == [[2, 1, 2, 3]]
    assert values[outputs[1]].tolist() == [[1, 1, 0, 0]]
    rows = X.astype(np.float32)
    values = ex.evaluate(outputs, rows)[outputs[2]]
    shares = np.exp(np.exp(-np.abs(rows)) / 2)
    assert is_close(values, shares / shares.sum(axis=1, keepdims=True))
