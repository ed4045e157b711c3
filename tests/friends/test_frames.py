"""polars and pyarrow tables give the same results as pandas frames and arrays."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skbackprop import (
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    ConformalClassifier,
    ConformalRegressor,
    TabularRegressor,
)
from support import BOTH, NAMES, answers, data_for, few_epochs, quick, same_values, value_data

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

MAKERS = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
COLUMNS = {"pandas": pd.Series, "polars": pl.Series, "pyarrow": pa.array}
every_library = pytest.mark.parametrize("library", MAKERS)


def frame_of(library, X):
    return MAKERS[library](dict(zip(NAMES, X.T.copy(), strict=True)))


@BOTH
@every_library
def test_predictions_equal_those_from_arrays(estimator_class, library):
    X, y = data_for(estimator_class)
    if estimator_class is BackpropClassifier:
        y = np.array(["no", "yes", "perhaps"])[y]
    frame, column = frame_of(library, X), COLUMNS[library](y.tolist())
    model = quick(estimator_class).fit(frame, column)
    by_array = quick(estimator_class).fit(X, y)
    assert same_values(answers(model, frame), answers(by_array, X))
    assert model.score(frame, column) == by_array.score(X, y)
    assert list(model.feature_names_in_) == NAMES


@every_library
def test_searches_intervals_and_validation_data(library):
    X, y = value_data()
    frame, column = frame_of(library, X), COLUMNS[library](y)
    model = quick(BackpropRegressor, early_stopping=True)
    scores = model.fit(frame, column, X_val=frame, y_val=column).validation_scores_
    assert scores == model.fit(X, y, X_val=X, y_val=y).validation_scores_
    search = BackpropGridSearchCV(quick(BackpropRegressor), {"alpha": [0.1, 1.0]}, cv=2)
    scores = search.fit(frame, column).cv_results_["mean_test_score"]
    assert same_values(scores, search.fit(X, y).cv_results_["mean_test_score"])
    intervals = ConformalRegressor(quick(BackpropRegressor), random_state=0)
    found = intervals.fit(frame, column).predict_interval(frame)
    assert same_values(found, intervals.fit(X, y).predict_interval(X))
    sets = ConformalClassifier(quick(BackpropClassifier))
    found = sets.fit(frame, COLUMNS[library](y > 0)).predict_set(frame)
    assert same_values(found, sets.fit(X, y > 0).predict_set(X))


def test_tables_of_mixed_types():
    rng = np.random.RandomState(0)
    columns = {
        "age": [None if i % 7 == 0 else float(i % 50) for i in range(60)],
        "city": [None if i % 11 == 0 else "ABCD"[i % 4] for i in range(60)],
        "member": [bool(i % 3) for i in range(60)],
    }
    y = rng.randn(60)
    results = []
    for make in MAKERS.values():
        frame = make(columns)
        model = TabularRegressor(2, max_iter=1, random_state=0).fit(frame, y)
        results.append([model.predict(frame), model.predict_interval(frame)])
    for other in results[1:]:
        assert same_values(other, results[0])
