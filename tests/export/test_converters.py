"""skl2onnx converts our estimators once they are registered, wherever they are."""

import numpy as np
import onnx
import onnxruntime
import pytest
import skl2onnx
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import StackingClassifier, VotingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import cases
from cases import NUMBERS, SHORT, X, Y, classifier, is_close
from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from skbackprop.export import register_converters
from skbackprop.inspection import BackpropFeatures

NETWORK = BackpropClassifier((7,), n_members=2, **SHORT)
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
def test_labels_of_all_kinds_after_transformers_of_scikit_learn(labels, dtype):
    pipeline = make_pipeline(StandardScaler(), PCA(3), NETWORK).fit(X, cases.LABELS[labels])
    check(pipeline, X.astype(dtype))


@pytest.mark.parametrize("opset", [13, 15, 18, 21])
def test_opsets_from_13_on(opset):
    check(classifier(normalization="layer", n_members=2), target_opset=opset)


def test_inside_of_other_estimators():
    stacked = StackingClassifier([("a", NETWORK), ("b", LogisticRegression())], cv=2)
    check(stacked.fit(X, Y))
    networks = [(name, BackpropRegressor((5,), **SHORT)) for name in "ab"]
    voting = VotingRegressor(networks).fit(X, NUMBERS)
    assert is_close(outputs_of(voting)[0][:, 0], voting.predict(FLOATS))
    columns = ColumnTransformer([("scaled", StandardScaler(), [0, 1]), ("codes", _codes(), [2, 3])])
    check(make_pipeline(columns, NETWORK).fit(X, Y))


def _codes():
    return BackpropAutoencoder(n_components=2, **SHORT)


def test_networks_as_transformers():
    features = BackpropFeatures(NETWORK)
    check(make_pipeline(StandardScaler(), _codes(), features, LogisticRegression()).fit(X, Y))


def test_outputs_have_the_type_of_the_input():
    regressor = BackpropRegressor((5,), loss="gaussian", **SHORT).fit(X, NUMBERS)
    (doubles,), (floats,) = outputs_of(regressor, X), outputs_of(regressor)
    assert (doubles.dtype, floats.dtype) == (np.float64, np.float32)
    assert is_close(doubles[:, 0], regressor.predict(X))


def test_the_option_zipmap_is_that_of_skl2onnx():
    label, probabilities = outputs_of(classifier(cases.LABELS["strings"]))
    assert set(probabilities[0]) == set(cases.LABELS["strings"])
    assert len(label) == len(X)


def test_strings_before_a_network():
    words = np.array(["a", "b", "c"], dtype=object)[Y][:, None]
    pipeline = make_pipeline(OneHotEncoder(sparse_output=False), NETWORK).fit(words, Y)
    check(pipeline, words)


def test_what_skl2onnx_has_no_outputs_for():
    with pytest.raises(TypeError, match="one label for each row"):
        outputs_of(classifier(cases.LABELS["columns"]))
    with pytest.raises(ValueError, match="strings or integers"):
        outputs_of(classifier(np.array([0, 2**64 - 1], dtype=np.uint64)[(Y > 0).astype(int)]))
