"""There is a formula for every part in the tables, and it is the one that the part computes."""

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from test_onnx import check

from skbackprop.activations import ACTIVATIONS, ActivationFunction, Relu
from skbackprop.export import _expressions as ex
from skbackprop.export import to_c, to_expression, to_onnx
from skbackprop.export._converters import convert
from skbackprop.export._model_graph import build_graph
from skbackprop.layers import NORMALIZATIONS
from skbackprop.layers.base import Layer
from skbackprop.layers.dense import Dropout
from skbackprop.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES, LogLoss, SquaredError
from skbackprop.losses.links import GaussianLink, IdentityLink, Link, LogLink
from skbackprop.utils.arrays import Array
from support import cases
from support.cases import X, classifier, is_close, regressor


def classes_below(kind):
    """Return all classes of the package that derive from one, at whatever distance."""
    below = {kind}
    while new := {sub for each in below for sub in each.__subclasses__()} - below:
        below |= new
    return {each for each in below - {kind} if each.__module__.startswith("skbackprop")}


def computes(kind):
    """Return whether a class is no mere base of others."""
    return not classes_below(kind)


@pytest.mark.parametrize(
    "kind",
    sorted(
        {
            *(type(part) for table in (ACTIVATIONS, CLASSIFIER_LOSSES) for part in table.values()),
            *(type(part) for part in REGRESSOR_LOSSES.values()),
            *NORMALIZATIONS.values(),
            *filter(computes, classes_below(Link)),
            # Training alone has dropout, and networks that predict none.
            *(filter(computes, classes_below(Layer) - {Dropout})),
        },
        key=lambda kind: kind.__name__,
    ),
)
def test_every_part_has_a_formula(kind):
    assert to_expression.dispatch(kind) is not to_expression.dispatch(object)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_formulas_of_activations_are_what_they_compute(name):
    """Formulas are plain NumPy, so that arrays go through them too."""
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
def test_models_say_the_same_of_rows_of_any_size(name):
    """What is computed on the way stays finite, and no square of it overflows or vanishes."""
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


@pytest.mark.parametrize("exponent", [-30, -19, 0, 19, 25, 37])
def test_roots_of_squares_neither_overflow_nor_vanish(exponent):
    x, y = (3 * 10.0**exponent * np.array([[1.0, 0, -1]]), 4 * 10.0**exponent * np.ones((1, 3)))
    root = ex.root_of_squares(ex.row(3) * 0.0 + x, ex.row(3) * 0.0 + y)
    spread = ex.std_over_members(ex.row(3) * 0.0 + np.vstack([x, x + y]))
    rows = np.zeros((1, 3), dtype=np.float32)
    values = ex.evaluate([root, spread], rows)
    np.testing.assert_allclose(values[root], np.hypot(x, y), rtol=1e-6)
    np.testing.assert_allclose(values[spread], y / 2, rtol=1e-6)


# --------------------------------------------------------------------- parts of one's own


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


def test_an_activation_without_a_formula_is_an_error_that_says_what_to_do():
    estimator = classifier(activation=HalfRelu())
    for write in (to_onnx, to_c):
        with pytest.raises(TypeError, match=r"HalfRelu can't be exported.*to_expression\.register"):
            write(estimator)


@pytest.mark.long
def test_an_activation_with_a_formula():
    estimator = classifier(activation=Cube())
    with pytest.raises(TypeError, match="Cube"):
        to_c(estimator)

    @to_expression.register
    def of_cube(activation: Cube, z):
        return z**3

    check(estimator)
    assert "powf(" in to_c(estimator).source


def test_a_class_that_computes_what_its_base_does_has_its_formula():
    assert to_c(classifier(activation=NamedRelu())).source == to_c(classifier()).source


@pytest.mark.parametrize("loss, name", [(OfDoubled(), "Doubled"), (Shifted(), "Shifted")])
def test_losses_of_ones_own(loss, name):
    with pytest.raises(TypeError, match=f"{name} can't be exported"):
        to_c(regressor(loss=loss))


def test_losses_whose_link_is_known_need_nothing():
    @dataclass(frozen=True)
    class Own(LogLoss):
        def value(self, scores, y):
            return super().value(scores, y)

    estimator = classifier(loss=Own())
    program = to_c(estimator)
    assert program.source == to_c(classifier()).source


def test_transformers_of_ones_own():
    with pytest.raises(TypeError, match="Rounding can't be exported"):
        convert(Rounding().fit(X), ex.row(4))


def test_a_deviation_of_ones_own():
    @dataclass(frozen=True)
    class Own(SquaredError):
        def predict_std(self, scores):
            return np.ones_like(scores)

    estimator = regressor(loss=Own())
    to_c(estimator)
    with pytest.raises(TypeError, match="Own has its own standard deviation"):
        to_c(estimator, return_std=True)


@pytest.mark.parametrize(
    "compute, match",
    [
        (lambda z: np.arctan(z), "can't use arctan .*'tanh'"),
        (lambda z: np.add.reduce(z), r"can't use add \(reduce"),
        (lambda z: np.add(z, z, where=True), r"options \['where'\]"),
        (lambda z: z > 0, "can't use greater"),
    ],
)
def test_what_a_formula_may_not_hold(compute, match):
    with pytest.raises(TypeError, match=match):
        compute(ex.row(3))


def test_numbers_that_do_not_fit():
    with pytest.raises(ValueError, match=r"do not match: \[\(1, 3\), \(1, 2\)\]"):
        ex.row(3) + np.ones(2)
    with pytest.raises(ValueError, match="not finite in single precision.*1e\\+39"):
        ex.row(3) * 1e39


def test_evaluation_is_that_of_numpy():
    x = ex.row(4)
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
