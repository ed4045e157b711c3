"""Warnings about how training ended, and the error about output that is not finite."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor, EarlyStopping
from skbackprop.layers import CategoricalEmbedding
from support import BOTH, class_data, data_for, few_epochs, value_data

ADVICE = {
    "X": "values in X are too large",
    "y": "set scale_target=True",
    "epochs": "Increase max_iter",
}
SETTINGS = {"max_iter": 3, "random_state": 0}


def advice_of(model, *data):
    """Return which advice the only warning of a fit gives."""
    with pytest.warns(ConvergenceWarning, match="Maximum iterations") as caught:
        model.fit(*data)
    (text,) = [str(warning.message) for warning in caught]
    return [name for name, words in ADVICE.items() if words in text]


@pytest.mark.parametrize("settings", [{}, {"n_estimators": 2}, {"dtype": "float32"}], ids=str)
@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
def test_advice_names_the_cause(kind, settings):
    X, y = class_data() if kind is BackpropClassifier else value_data()
    settings = SETTINGS | settings
    assert advice_of(kind(**settings), X, y) == ["epochs"]
    for values in (1e3 * X, sparse.csr_array(1e3 * X)):
        assert advice_of(kind(**settings), values, y) == ["X"]
    if kind is BackpropRegressor:
        assert advice_of(kind(**settings), X, 1e3 * y) == ["y"]
        assert advice_of(kind(scale_target=True, **settings), X, 1e3 * y) == ["epochs"]


def test_neither_targets_of_an_autoencoder_nor_categories_get_advice_on_scale():
    X, _ = value_data()
    assert advice_of(BackpropAutoencoder(2, **SETTINGS), X) == ["epochs"]
    assert advice_of(BackpropAutoencoder(2, **SETTINGS), 1e3 * X) == ["X"]
    codes = np.random.RandomState(0).randint(1000, size=(200, 1)).astype(float)
    model = BackpropRegressor(layers=[CategoricalEmbedding({0: 1000})], **SETTINGS)
    assert advice_of(model, codes, codes[:, 0] / 1000) == ["epochs"]


def test_scores_that_are_not_finite_warn():
    X, y = value_data()
    stopping = EarlyStopping(lambda estimator, X, y: np.nan, n_iter_no_change=2)
    model = BackpropRegressor(early_stopping=stopping, **SETTINGS)
    with pytest.warns(ConvergenceWarning, match="No epoch has a finite validation score"):
        model.fit(X, y)


@few_epochs
@BOTH
def test_prediction_error_names_input_or_weights_that_are_too_large(estimator_class):
    X, y = data_for(estimator_class, 60)
    model = estimator_class(max_iter=3, random_state=0).fit(X, y)
    coefs = model.coefs_
    model.coefs_ = [4 * weights for weights in coefs]
    far = 1e308 * np.sign(model.coefs_[0][:, :1].T)
    with pytest.raises(ValueError, match=r"value in X is 1e\+308.*same scale as the training data"):
        model.predict(far)
    model.coefs_ = [weights * 1e200 for weights in coefs]
    with pytest.raises(ValueError, match=r"in the weights \S+e\+\d+\. The weights are too large"):
        model.predict(X)
