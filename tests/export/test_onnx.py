"""ONNX models give the estimators' outputs, in onnx's reference evaluator and in onnxruntime."""

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from onnx.reference import ReferenceEvaluator
from sklearn.exceptions import NotFittedError

from skbackprop import BackpropClassifier, BackpropGridSearchCV
from skbackprop.export import to_onnx
from support import cases
from support.cases import NUMBERS, SHORT, X, Y, classifier, expected, is_close, model, regressor


def inputs_of(proto, X):
    """Return {input: rows}, with an input for each column of a data frame."""
    rows = {}
    for value in proto.graph.input:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if isinstance(X, pd.DataFrame):
            column = X[[value.name]]
            column = column.fillna("") if dtype.hasobject else column.astype(dtype)
            rows[value.name] = column.to_numpy()
        else:
            shape = [axis.dim_value for axis in value.type.tensor_type.shape.dim[1:]]
            rows[value.name] = np.asarray(X, dtype=dtype).reshape(-1, *shape)
    return rows


def outputs_of(proto, X, with_reference=True):
    """Return {output: values} by onnxruntime, with which onnx's evaluator has to agree.

    The evaluator does not read trees in double precision.
    """
    onnx.checker.check_model(proto, full_check=True)
    row = inputs_of(proto, X)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, map(np.asarray, session.run(None, row)), strict=True))
    has_trees = any(node.op_type == "TreeEnsembleRegressor" for node in proto.graph.node)
    if has_trees or not with_reference:
        return found
    with np.errstate(all="ignore"):
        by_reference = dict(zip(names, ReferenceEvaluator(proto).run(None, row), strict=True))
    for name, values in by_reference.items():
        assert found[name].shape == np.shape(values)
        if found[name].dtype.kind == "f":
            assert is_close(found[name], values)
        else:
            assert (found[name] == values).all()
    return found


def check(estimator, X=X, **options):
    found, said = outputs_of(to_onnx(estimator, **options), X), expected(estimator, X)
    assert list(found) == list(said)
    for name, values in said.items():
        assert found[name].shape == values.shape, name
        if name.startswith("label"):
            assert found[name].tolist() == values.tolist(), name
        else:
            assert found[name].dtype == np.float32
            assert is_close(found[name], values), name


@pytest.mark.parametrize("name", cases.NAMES)
def test_outputs_equal_those_of_the_estimator(name):
    estimator = model(name)
    check(estimator, cases.rows_of(name), return_std=cases.has_std(estimator))


@pytest.mark.parametrize("name", cases.NAMES)
def test_outputs_stay_finite_for_inputs_of_any_size(name):
    """Squares neither overflow nor vanish. Large sums may cancel, so they are not compared."""
    estimator = model(name)
    proto = to_onnx(estimator, return_std=cases.has_std(estimator))
    for size in (1e-30, 1e-19, 1e10, 1e19):
        rows = cases.rows_of(name) * size
        for values in outputs_of(proto, rows, with_reference=False).values():
            assert values.dtype.kind != "f" or np.isfinite(values).all()
    tiny = outputs_of(proto, cases.rows_of(name) * 1e-30, with_reference=False)
    for output, values in expected(estimator, cases.rows_of(name) * 1e-30).items():
        assert output == "label" or is_close(tiny[output], values)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e19, 1e30])
def test_layer_normalization_of_rows_of_any_size(size):
    check(regressor(normalization="layer"), X * size, return_std=True)


@pytest.mark.parametrize("settings", [{"activation": "softplus"}, {"activation": "mish"}, {}])
def test_large_scores_do_not_overflow(settings):
    for y in (Y, Y > 0):
        found = outputs_of(to_onnx(classifier(y, n_estimators=2, **settings)), X * 1e6)
        assert np.allclose(found["probabilities"].sum(axis=1), 1)


@pytest.mark.parametrize("size", [1e-30, 1e30])
@pytest.mark.parametrize("settings", [{}, {"loss": "gaussian"}], ids=str)
def test_standard_deviations_in_any_unit(settings, size):
    """Their squares would overflow or vanish in single precision."""
    model = regressor(NUMBERS * size, n_estimators=3, scale_target=True, **settings)
    (_, std), found = (
        model.predict(X, return_std=True),
        outputs_of(to_onnx(model, return_std=True), X),
    )
    np.testing.assert_allclose(found["std"][:, 0], std, rtol=1e-4)


def test_any_number_of_rows():
    found = outputs_of(to_onnx(classifier()), X[:1])
    assert found["label"].shape == (1,)
    assert outputs_of(to_onnx(regressor(n_estimators=2)), X[:0])["variable"].shape == (0, 1)


def test_versions_are_pinned():
    """Those of ONNX 1.8 (2020), which runtimes for small devices support."""
    proto = to_onnx(classifier())
    assert (proto.ir_version, proto.opset_import[0].version) == (7, 13)
    assert [opset.domain for opset in proto.opset_import] == [""]


def assert_all_tensors_are_used(graph):
    """Runtimes warn of unused ones."""
    read = {used for node in graph.node for used in node.input}
    assert {tensor.name for tensor in graph.initializer} <= read
    made = {made for node in graph.node for made in node.output}
    assert made <= read | {output.name for output in graph.output}


def test_operators_are_known_to_quantization_tools():
    operators = [node.op_type for node in to_onnx(classifier(activation="relu")).graph.node]
    assert operators[:8] == [*["MatMul", "Add", "Relu"] * 2, "MatMul", "Add"]
    assert sorted(operators[8:]) == ["ArgMax", "Gather", "Identity", "Identity", "Softmax"]


def test_raises_on_weights_that_overflow_in_single_precision():
    estimator = classifier()
    estimator.coefs_[0] = estimator.coefs_[0] * 1e40
    with pytest.raises(ValueError, match="finite values in single precision"):
        to_onnx(estimator)


class Cautious(BackpropClassifier):
    """A network that predicts differently from its base class."""

    def predict(self, X):
        return np.where(self.predict_proba(X).max(axis=1) > 0.9, super().predict(X), -1)


class Named(BackpropClassifier):
    """A network that predicts the same as its base class."""


def test_subclasses_that_predict_differently_are_not_exported():
    check(Named((5,), **SHORT).fit(X, Y))
    with pytest.raises(TypeError, match="Cautious cannot be exported"):
        to_onnx(Cautious((5,), **SHORT).fit(X, Y))


def test_raises_on_estimators_that_are_not_fitted():
    network = BackpropClassifier((), **SHORT)
    search = BackpropGridSearchCV(network, {"alpha": [1]}, refit=False, cv=2).fit(X, Y)
    for estimator in (network, search):
        with pytest.raises((TypeError, NotFittedError), match="best_estimator_|not fitted"):
            to_onnx(estimator)
