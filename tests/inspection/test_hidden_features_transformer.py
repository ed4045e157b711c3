"""BackpropFeatures is a scikit-learn transformer that returns hidden features."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropGridSearchCV
from skbackprop.inspection import BackpropFeatures
from support import BOTH, NAMES, class_data, data_for, few_epochs, quick

pytestmark = few_epochs


@BOTH
@pytest.mark.parametrize("layer", [0, -1])
@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
def test_returns_hidden_features_of_a_clone(estimator_class, layer, is_sparse, weighted):
    X, y = data_for(estimator_class)
    X = sparse.csr_array(X) if is_sparse else X
    weight = np.arange(1.0, 1 + len(y)) if weighted else None
    network = quick(estimator_class, hidden_layer_sizes=(6, 3), n_estimators=2)
    features = BackpropFeatures(network, layer=layer).fit(X, y, sample_weight=weight)
    assert not hasattr(network, "coefs_")
    expected = clone(network).fit(X, y, sample_weight=weight).hidden_features(X, layer)
    assert np.array_equal(features.transform(X), expected)
    assert np.array_equal(
        BackpropFeatures(network, layer).fit_transform(X, y, sample_weight=weight), expected
    )


@pytest.mark.parametrize("search_class", [GridSearchCV, BackpropGridSearchCV])
def test_search_over_network_and_layer(search_class):
    X, y = class_data()
    network = quick(BackpropClassifier, hidden_layer_sizes=(4, 2))
    model = make_pipeline(BackpropFeatures(network), LogisticRegression())
    sizes = "backpropfeatures__estimator__hidden_layer_sizes"
    grid = {sizes: [(4, 2), (5, 3)], "backpropfeatures__layer": [0, 1]}
    search = search_class(model, grid, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    best = search.best_params_
    n_units = best[sizes][best["backpropfeatures__layer"]]
    assert search.best_estimator_[:-1].transform(X).shape == (len(X), n_units)


@BOTH
def test_frozen_network_is_not_trained(estimator_class):
    X, y = data_for(estimator_class)
    network = quick(estimator_class).fit(X, y)
    before = dict(vars(network))
    features = BackpropFeatures(FrozenEstimator(network))
    pipeline = make_pipeline(clone(features), LogisticRegression()).fit(X[:20], np.arange(20) % 2)
    assert vars(network) == before
    assert np.array_equal(pipeline[:-1].transform(X), network.hidden_features(X))
    assert np.array_equal(features.fit(X).transform(X), network.hidden_features(X))
    with pytest.raises(ValueError, match="layer must be"):
        BackpropFeatures(FrozenEstimator(network), layer=1).fit(X)
    with pytest.raises(NotFittedError):
        BackpropFeatures(FrozenEstimator(quick(estimator_class))).fit(X)


@BOTH
def test_feature_names(estimator_class):
    X, y = data_for(estimator_class)
    frame = pd.DataFrame(X, columns=NAMES)
    network = quick(estimator_class, hidden_layer_sizes=(3,), n_estimators=2)
    features = BackpropFeatures(network).set_output(transform="pandas").fit(frame, y)
    names = [f"backpropfeatures{i}" for i in range(6)]
    assert list(features.get_feature_names_out()) == names
    assert list(features.transform(frame).columns) == names
    assert list(features.feature_names_in_) == NAMES
    assert not hasattr(features.fit(X, y), "feature_names_in_")
    assert features.n_features_in_ == len(NAMES)


def test_raises_on_invalid_layers():
    X, y = class_data()
    with pytest.raises(ValueError, match="layer must be an int from -1 to 0"):
        BackpropFeatures(quick(BackpropClassifier), layer=1).fit(X, y)
    with pytest.raises(ValueError, match="no hidden layers"):
        BackpropFeatures(quick(BackpropClassifier, hidden_layer_sizes=())).fit(X, y)


def test_raises_on_other_estimators():
    for estimator in (LogisticRegression(), BackpropAutoencoder()):
        with pytest.raises(TypeError, match="estimator must be a BackpropClassifier"):
            BackpropFeatures(estimator).fit(*class_data())
