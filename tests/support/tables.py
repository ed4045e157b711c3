"""Tabular estimators in tests: data, predictions and the inputs of their components."""

import numpy as np
import pandas as pd
import pytest

from skbackprop import TabularClassifier, TabularRegressor
from skbackprop.tabular import TableEncoder
from skbackprop.tabular._read_table import read_table

BOTH = pytest.mark.parametrize("kind", [TabularClassifier, TabularRegressor])


def predict(model, X):
    """Return the probabilities of a classifier, or the predictions of a regressor."""
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def columns_of(X):
    """Return the columns of a training table."""
    return read_table(TableEncoder(), X, reset=True)


def component_inputs(model, X):
    """Return the input of each component of a tabular estimator for the rows of X."""
    rows = model._features.encoding.read_rows(read_table(model, X, reset=False))
    inputs = model._features.make_inputs(rows, with_table=True)
    return [inputs[each.view] for each in model._components]


def mixed_data(kind, n=120, seed=0):
    """Return a table and its target, which depends on "city" most and on "none" not at all."""
    rng = np.random.RandomState(seed)
    X = pd.DataFrame(
        {
            "none": rng.randn(n),
            "some": np.where(rng.rand(n) < 0.1, np.nan, rng.randn(n)),
            "city": rng.choice(["a", "b", "c"], n),
        }
    )
    score = 0.5 * X["some"].fillna(0) + 2 * (X["city"] == "a") + 0.1 * rng.randn(n)
    return X, (np.where(score > 1, "yes", "no") if kind is TabularClassifier else 50 * score)


def growing_levels(n, seed=0, n_levels=40):
    """Return a frame of times and levels, and a target that grows in time by a rate of the level.

    Rates are the same for every seed.
    """
    rates = np.random.RandomState(0).randn(2, n_levels)
    rng = np.random.RandomState(seed + 1)
    level, time = rng.permutation(n) % n_levels, rng.uniform(-2, 2, n)
    frame = pd.DataFrame({"time": time, "level": [f"l{at}" for at in level]})
    return frame, rates[0, level] + 2 * rates[1, level] * time + 0.3 * rng.randn(n)
