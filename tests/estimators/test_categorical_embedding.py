"""Embeddings of categories in an estimator.

That they compute what they say, and learn what they should, is in
tests/layers/test_maps_and_embeddings.py.
"""

import re

import numpy as np
import pytest

from skbackprop import BackpropRegressor
from skbackprop.callbacks import Checkpoint
from skbackprop.layers import CategoricalEmbedding, PeriodicEmbedding
from support import BOTH, data_for, few_epochs, quick, safely_saved, same_bits

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

LAYER = CategoricalEmbedding({1: 5, 3: 3}, n_units=2)


def coded_data(estimator_class, n=60):
    """Return rows whose columns 1 and 3 hold codes, some of which are none."""
    X, y = data_for(estimator_class, n=n)
    rng = np.random.default_rng(0)
    X[:, 1], X[:, 3] = rng.integers(-1, 5, n), rng.integers(0, 3, n)
    return X, y


WRONG = {
    "a fraction": (1, 0.5, "Column 1 of X must hold codes from 0 to 4, .*got 0.5 in row 7"),
    "beyond": (3, 3, "Column 3 of X must hold codes from 0 to 2, or -1 .*got 3 in row 7"),
    "negative": (1, -2, "Column 1 of X .*or -1 for none, .*got -2 in row 7"),
}


@pytest.mark.parametrize("column, value, says", WRONG.values(), ids=WRONG)
def test_what_is_no_code_is_an_error_of_fit_and_nothing_is_lost(column, value, says):
    X, y = coded_data(BackpropRegressor)
    model = quick(BackpropRegressor, layers=LAYER).fit(X, y)
    expected, wrong = model.predict(X), X.copy()
    wrong[7, column] = value
    for fit in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=says):
            fit(wrong, y)
    with pytest.raises(ValueError, match=f"X_val, y_val: {says}"):
        model.fit(X, y, X_val=wrong, y_val=y)
    np.testing.assert_array_equal(model.predict(X), expected)
    assert np.isfinite(model.predict(wrong)).all()


@pytest.mark.parametrize(
    "layers, says",
    [
        (
            ["scale", LAYER],
            r"CategoricalEmbedding must be the first and only.*got the layers \[Scale",
        ),
        ([LAYER, LAYER], "the first and only such layer of layers"),
        (
            CategoricalEmbedding({4: 2}),
            "columns from 0 to 3, since X has 4 columns, got column 4",
        ),
    ],
)
def test_layers_that_can_not_stand_there_are_errors(layers, says):
    with pytest.raises(ValueError, match=says):
        quick(BackpropRegressor, layers=layers).fit(*coded_data(BackpropRegressor))


@pytest.mark.parametrize("n_estimators", [1, 3])
def test_the_prediction_by_hand(n_estimators):
    X, y = coded_data(BackpropRegressor)
    model = quick(BackpropRegressor, layers=LAYER, n_estimators=n_estimators).fit(X, y)
    each = []
    for one in model.estimators_ if n_estimators > 1 else [model]:
        first, last = (np.vstack([E, [0, 0]]) for E in np.split(one.embeddings_[0], [5]))
        x = np.hstack([X[:, [0, 2]], first[X[:, 1].astype(int)], last[X[:, 3].astype(int)]])
        hidden = np.maximum(x @ one.coefs_[0] + one.intercepts_[0], 0)
        each.append((hidden @ one.coefs_[1] + one.intercepts_[1])[:, 0])
    np.testing.assert_allclose(model.predict(X), np.mean(each, axis=0), rtol=1e-10)
    assert re.search(r"CategoricalEmbedding +6 +16 +embeddings \(8, 2\)", repr(model.summary()))


@BOTH
def test_training_goes_on_from_files_and_checkpoints_to_the_bit(estimator_class, tmp_path):
    X, y = coded_data(estimator_class)
    settings = {"layers": [LAYER, PeriodicEmbedding(2, features=[0])], "n_estimators": 2}
    whole = quick(estimator_class, **settings, max_iter=6).fit(X, y)
    path = tmp_path / "checkpoint.npz"
    model = quick(estimator_class, **settings, max_iter=3, warm_start=True)
    model.set_callbacks(Checkpoint(path)).fit(X, y)
    resumed = quick(estimator_class, **settings, max_iter=6).fit(X, y, resume_from=path)
    assert same_bits(resumed, whole)
    loaded = safely_saved(model, tmp_path)
    assert same_bits(loaded.fit(X, y), model.fit(X, y))


def test_an_estimator_that_is_given_checked_rows_checks_the_codes():
    """The candidates of a search share rows that are validated once."""
    X, y = data_for(BackpropRegressor, n=60)
    problem, _ = quick(BackpropRegressor)._start_training({"X": X, "y": y})
    coded_X, coded_y = coded_data(BackpropRegressor)
    _, model = quick(BackpropRegressor, layers=LAYER)._start_training({"X": coded_X, "y": coded_y})
    with pytest.raises(ValueError, match="Column 1 of X must hold codes"):
        quick(BackpropRegressor, layers=LAYER)._reuse_problem(problem, model.config)
