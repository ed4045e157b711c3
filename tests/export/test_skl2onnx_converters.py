"""skl2onnx converts registered estimators, also inside other estimators."""

import sys

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import polars as pl
import pytest
import skl2onnx
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import StackingClassifier, VotingClassifier, VotingRegressor
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    OneHotEncoder,
    PolynomialFeatures,
    PowerTransformer,
    SplineTransformer,
    StandardScaler,
)

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    ConformalRegressor,
)
from skbackprop.export import register_converters, to_onnx
from skbackprop.inspection import BackpropFeatures
from skbackprop.layers import GRU, Bidirectional, Conv1D, MaxPool1D
from support import cases
from support.cases import NUMBERS, SHORT, X, Y, classifier, is_close

NETWORK = BackpropClassifier((7,), n_estimators=2, **SHORT)
FLOATS = X.astype(np.float32)


@pytest.fixture(autouse=True, scope="module")
def _registered():
    register_converters()


def outputs_of(estimator, X=FLOATS, **options):
    proto = skl2onnx.to_onnx(estimator, X[:1], **options)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    return session.run(None, {"X": X})


def check(estimator, X=FLOATS, **options):
    label, probabilities = outputs_of(estimator, X, options={"zipmap": False}, **options)
    assert label.tolist() == estimator.predict(X).tolist()
    assert is_close(probabilities, estimator.predict_proba(X))


@pytest.mark.parametrize(
    "labels", ["integers", "strings", "booleans", "floats", "one class", "multilabel"]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_of_all_types_after_transformers(labels, dtype):
    pipeline = make_pipeline(StandardScaler(), PCA(3), NETWORK).fit(X, cases.LABELS[labels])
    check(pipeline, X.astype(dtype))


@pytest.mark.parametrize("opset", [13, 15, 18, 21])
def test_opsets(opset):
    check(classifier(normalization="layer", n_estimators=2), target_opset=opset)


@pytest.mark.parametrize("opset", [13, 21])
def test_layers_of_sequences_after_transformers(opset):
    layers = [Conv1D(3, 2, padding="same"), MaxPool1D(2), Bidirectional(GRU(2))]
    network = BackpropClassifier((), layers=layers, input_shape=4, n_estimators=2, **SHORT)
    check(make_pipeline(PowerTransformer(), network).fit(X, Y), target_opset=opset)


def test_zipmap_option():
    label, probabilities = outputs_of(classifier(cases.LABELS["strings"]))
    assert set(probabilities[0]) == set(cases.LABELS["strings"])
    assert len(label) == len(X)


def test_raises_on_labels_that_skl2onnx_does_not_support():
    with pytest.raises(ValueError, match="strings or integers"):
        outputs_of(classifier(Y / 2))


# --------------------------------------------------------------------- through to_onnx


def converted_outputs(estimator, feeds, X=None):
    """Return {output: values} of the model that `to_onnx` makes."""
    proto = to_onnx(estimator, X)
    assert {opset.domain for opset in proto.opset_import} <= {"", "ai.onnx.ml", "local_domain"}
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def check_converted(estimator, feeds=None, X=None, rows=FLOATS):
    """Check that outputs have the names that they have without skl2onnx, and the same values."""
    found = converted_outputs(estimator, feeds or {"X": rows}, X)
    if not hasattr(estimator, "classes_"):
        assert is_close(found.pop("variable").squeeze(), estimator.predict(rows))
    elif hasattr(estimator, "predict_proba"):
        assert found.pop("label").tolist() == estimator.predict(rows).tolist()
        assert is_close(found.pop("probabilities"), estimator.predict_proba(rows))
    else:
        assert found.pop("label").tolist() == estimator.predict(rows).tolist()
        assert is_close(found.pop("scores"), estimator.decision_function(rows))
    assert not found


HOLES = np.where(X > 1.5, np.nan, X).astype(np.float32)
TRANSFORMERS = [
    *(PCA(3), PolynomialFeatures(2), PowerTransformer(), SelectKBest(k=2), KNNImputer()),
    make_union(PCA(2), StandardScaler()),
    ColumnTransformer([("a", StandardScaler(), [0, 1])], remainder="passthrough"),
]


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=str)
def test_networks_after_transformers(transformer):
    """KNNImputer needs a newer opset than others."""
    rows = HOLES if "Imputer" in str(transformer) else FLOATS
    network = BackpropClassifier((7,), **SHORT)
    scaler = FrozenEstimator(StandardScaler().fit(transformer.fit_transform(rows, Y)))
    pipeline = make_pipeline(transformer, "passthrough", make_pipeline(scaler, network))
    check_converted(pipeline.fit(rows, Y), rows=rows)


@pytest.mark.parametrize("labels", ["integers", "strings", "two classes", "one class"])
@pytest.mark.parametrize("loss", ["log_loss", "hinge"])
def test_output_names_equal_those_without_skl2onnx(labels, loss):
    if (loss, labels) == ("hinge", "one class"):
        return
    network = BackpropClassifier((7,), loss=loss, **SHORT)
    pipeline = make_pipeline(PCA(3), network).fit(X, cases.LABELS[labels])
    found = converted_outputs(pipeline, {"X": FLOATS})
    alone = converted_outputs(network.fit(X, cases.LABELS[labels]), {"X": FLOATS})
    assert list(found) == list(alone)
    pipeline.fit(X, cases.LABELS[labels])
    assert found["label"].dtype == alone["label"].dtype
    if labels != "two classes" or loss != "hinge":
        check_converted(pipeline)


def test_meta_estimators_that_contain_networks():
    network, regressor = BackpropClassifier((5,), **SHORT), BackpropRegressor((5,), **SHORT)
    grid = {"backpropclassifier__alpha": [0.1, 1.0]}
    codes = BackpropAutoencoder(n_components=2, **SHORT)
    columns = ColumnTransformer([("scaled", StandardScaler(), [0, 1]), ("codes", codes, [2, 3])])
    for estimator in (
        StackingClassifier([("a", network), ("b", LogisticRegression())], cv=2),
        VotingClassifier([("a", network), ("b", network)], voting="soft", flatten_transform=False),
        BackpropGridSearchCV(make_pipeline(PCA(2), network), grid, cv=2),
        GridSearchCV(make_pipeline(PCA(2), network), grid, cv=2),
        make_pipeline(StandardScaler(), codes, BackpropFeatures(network), LogisticRegression()),
        make_pipeline(columns, network),
        LogisticRegression(),
    ):
        check_converted(estimator.fit(X, Y))
    check_converted(VotingRegressor([("a", regressor)]).fit(X, NUMBERS))
    (found,) = converted_outputs(make_pipeline(PCA(2), codes).fit(X), {"X": FLOATS}).values()
    assert found.shape == (60, 2)


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_columns_of_data_frames_are_inputs(library):
    cities = np.array(["Bern", "Oslo", "Rome"])[Y]
    table = {"age": X[:, 0], "floor": Y * 2, "city": cities, "new": X[:, 1] > 0}
    frame = library(table)
    columns = ColumnTransformer(
        [
            ("scaled", StandardScaler(), ["age", "floor"]),
            ("codes", OneHotEncoder(handle_unknown="ignore"), ["city", "floor"]),
            ("others", "passthrough", ["new"]),
        ]
    )
    pipeline = make_pipeline(columns, BackpropClassifier((5,), **SHORT)).fit(frame, Y)
    feeds = {
        name: np.asarray(values, object if name == "city" else np.float32)[:, None]
        for name, values in table.items()
    }
    check_converted(pipeline, feeds, frame[:1], rows=frame)
    with pytest.raises(TypeError, match=r"pass a data frame with these columns, such as .*X_train"):
        to_onnx(pipeline)


def test_data_frames_of_one_type_are_one_input():
    frame = pd.DataFrame(X, columns=list("abcd"))
    network = BackpropClassifier((5,), **SHORT)
    voting = VotingClassifier([("a", network)], voting="soft", flatten_transform=False)
    for estimator in (make_pipeline(PCA(2), network), voting):
        estimator.fit(frame, Y)
        for rows in (None, frame[:1], pl.from_pandas(frame)):
            found = converted_outputs(estimator, {"X": FLOATS}, rows)
            assert is_close(found["probabilities"], estimator.predict_proba(frame))
    words = pd.DataFrame({"a": np.array(["x", "y", "z"])[Y], "b": np.array(["u", "v", "w"])[Y]})
    pipeline = make_pipeline(OneHotEncoder(), network).fit(words, Y)
    feeds = {"X": words.to_numpy(dtype=object)}
    check_converted(pipeline, feeds, words[:1], rows=words)


def test_arrays_of_strings():
    words = np.array(["a", "b", "c"], dtype=object)[Y][:, None]
    pipeline = make_pipeline(OneHotEncoder(sparse_output=False), NETWORK).fit(words, Y)
    check_converted(pipeline, {"X": words}, words[:1], rows=words)


class Rounding(BackpropClassifier):
    """A network that predicts differently from its base class."""

    def predict(self, X):
        return super().predict(X) * 0


@pytest.mark.parametrize(
    "estimator, options, error, match",
    [
        (
            ConformalRegressor(BackpropRegressor(**SHORT)),
            {},
            TypeError,
            "ConformalRegressor cannot",
        ),
        (
            Rounding((5,), **SHORT),
            {},
            TypeError,
            "Rounding cannot be exported by skl2onnx",
        ),
        (make_pipeline(PCA(2), Rounding((5,), **SHORT)), {}, TypeError, "Pipeline cannot be exp"),
        (make_pipeline(SplineTransformer(), NETWORK), {}, TypeError, "SplineTransformer"),
        (make_pipeline(PCA(2), NETWORK), {"return_std": True}, ValueError, "Set return_std=False"),
    ],
    ids=str,
)
def test_raises_on_parts_that_skl2onnx_does_not_convert(estimator, options, error, match):
    with pytest.raises(error, match=match):
        to_onnx(estimator.fit(X, Y), **options)


def test_networks_need_no_skl2onnx(monkeypatch):
    for name in [*sys.modules]:
        if name.partition(".")[0] == "skl2onnx":
            monkeypatch.setitem(sys.modules, name, None)
    assert to_onnx(make_pipeline(StandardScaler(), classifier()).fit(X, Y)).graph.node
