"""Probabilities and their logarithms, and the memory that predictions take."""

import numpy as np
import pytest
from scipy.special import logsumexp

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.estimators import _fitted
from skbackprop.losses import Quantile
from skbackprop.nn import prediction
from support import answers, class_data, few_epochs, label_data, peak_of

pytestmark = few_epochs

N_ROWS = 60
SMALL = {"hidden_layer_sizes": (6,), "batch_size": 25, "random_state": 3}  # three batches an epoch


LABELLED = {
    "binary": class_data(N_ROWS, n_classes=2),
    "multiclass": class_data(N_ROWS),
    "multilabel": label_data(N_ROWS),
}


@pytest.mark.parametrize("kind", LABELLED)
def test_probabilities_and_their_logarithms_follow_from_the_scores(kind):
    X, y = LABELLED[kind]
    classifier = BackpropClassifier(max_iter=5, **SMALL).fit(X, y)
    for factor in (1, 1e5):
        scores = classifier.decision_function(factor * X)
        assert scores.shape == ((N_ROWS,) if kind == "binary" else (N_ROWS, 3))
        if kind == "binary":
            expected = -np.logaddexp(0, np.column_stack([scores, -scores]))
        elif kind == "multiclass":
            expected = scores - logsumexp(scores, axis=1, keepdims=True)
        else:
            expected = -np.logaddexp(0, -scores)
        logarithms = classifier.predict_log_proba(factor * X)
        np.testing.assert_allclose(logarithms, expected, rtol=1e-12)
        probabilities = classifier.predict_proba(factor * X)
        np.testing.assert_allclose(probabilities, np.exp(expected), rtol=1e-9, atol=1e-15)
        decided = scores.argmax(axis=1) if kind == "multiclass" else scores > 0
        np.testing.assert_array_equal(classifier.predict(factor * X), decided)
    assert logarithms.min() < -1000


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_sigmoids_probabilities_stay_inside_the_open_interval(kind, dtype):
    X, y = LABELLED[kind]
    X = X.astype(dtype)
    classifier = BackpropClassifier(max_iter=5, **SMALL).fit(X, y)
    probabilities = classifier.predict_proba(1000 * X)
    assert probabilities.dtype == dtype
    one_ulp_below_one = np.nextafter(dtype(1), dtype(0))
    assert probabilities.max() == one_ulp_below_one
    assert 0 < probabilities.min() < 1e-6
    if kind == "binary":
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=np.finfo(dtype).eps)


MANY = np.arange(300) % 50
PREDICTING = {
    "classes": (BackpropClassifier, {"n_estimators": 3}, MANY),
    "indicators": (BackpropClassifier, {}, (MANY[:, None] == np.arange(50)).astype(int)),
    "outputs": (BackpropRegressor, {"scale_target": True}, np.outer(MANY, np.ones(50))),
    "quantiles": (BackpropRegressor, {"loss": Quantile([0.1, 0.9])}, np.outer(MANY, np.ones(25))),
}


@pytest.mark.parametrize("name", PREDICTING)
def test_memory_of_predictions_is_that_of_the_result_and_of_a_block(name, monkeypatch):
    """The raw scores of all rows, of which everything else is made, take 8 MB a member here."""
    monkeypatch.setattr(prediction, "_BLOCK_VALUES", 1 << 16)
    monkeypatch.setattr(_fitted, "_BLOCK_SIZE", 1 << 14)
    estimator_class, settings, y = PREDICTING[name]
    X = np.random.RandomState(0).randn(20_000, 3)
    model = estimator_class((100,), max_iter=1, random_state=0, **settings).fit(X[:300], y)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        if hasattr(model, method):
            predict = getattr(model, method)
            size = predict(X).nbytes
            assert peak_of(predict, X) < size + 3e6


@pytest.mark.parametrize("name", PREDICTING)
def test_blocks_of_rows_make_no_difference(name, monkeypatch):
    estimator_class, settings, y = PREDICTING[name]
    X = np.random.RandomState(0).randn(300, 3)
    model = estimator_class((100,), max_iter=1, random_state=0, **settings).fit(X, y)
    expected = answers(model, X)
    monkeypatch.setattr(prediction, "_BLOCK_VALUES", 10_000)
    monkeypatch.setattr(_fitted, "_BLOCK_SIZE", 1 << 10)
    for found, reference in zip(answers(model, np.tile(X, (2, 1))), expected, strict=True):
        np.testing.assert_allclose(found, np.concatenate([reference] * 2), rtol=1e-12)
