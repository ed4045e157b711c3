"""Tabular estimators in tests: data, predictions and the inputs of their components."""

import pytest

from skbackprop import TabularClassifier, TabularRegressor
from skbackprop.tabular._dataframe import read_table

BOTH = pytest.mark.parametrize("kind", [TabularClassifier, TabularRegressor])


def predict(model, X):
    """Return the probabilities of a classifier, or the predictions of a regressor."""
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def component_inputs(model, X):
    """Return the input of each component of a tabular estimator for the rows of X."""
    rows = model._features.rows(read_table(model, X, reset=False))
    return [model._features.transform(rows, each.view) for each in model._components]
