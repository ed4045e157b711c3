"""Promises that cross several parts, each by a case in which a slip would show."""

import copy

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import cross_val_score

from skbackprop import (
    BackpropClassifier,
    BackpropHalvingGridSearchCV,
    BackpropRegressor,
)
from skbackprop.optimizers import Adam
from skbackprop.tabular._categorical_encoding import TargetEncoding, draw_target_folds
from support import BOTH, class_data, data_for, few_epochs, interrupt, quick, same_bits, value_data

pytestmark = few_epochs


def test_weights_of_a_further_call_divide_its_own_loss():
    X, y = value_data()
    models = [quick(BackpropRegressor, alpha=0.0) for _ in range(2)]
    for model, factor in zip(models, (1, 10), strict=True):
        model.partial_fit(X, y, np.ones(len(y))).partial_fit(X, y, np.full(len(y), factor))
    np.testing.assert_allclose(models[1].loss_curve_, models[0].loss_curve_, rtol=1e-12)


def test_a_balanced_weight_needs_all_rows():
    X, y = class_data()
    with pytest.raises(ValueError, match="balanced"):
        quick(BackpropClassifier, class_weight="balanced").partial_fit(X, y, classes=np.unique(y))


def test_schedules_of_a_halving_search_end_with_its_last_round():
    X, y = class_data()
    network = BackpropClassifier((4,), max_iter=17, learning_rate="cosine", random_state=0)
    grid = {"alpha": [1e-4, 1e-2, 0.1, 1.0]}
    settings = {"factor": 2, "min_resources": 4, "cv": 2, "scoring": "neg_log_loss"}
    search = BackpropHalvingGridSearchCV(network, grid, **settings).fit(X, y)
    assert search.n_resources_ == [4, 8, 16]
    last = network.set_params(alpha=search.best_params_["alpha"], max_iter=16)
    assert search.best_score_ == cross_val_score(last, X, y, cv=2, scoring="neg_log_loss").mean()


@BOTH
def test_ctrl_c_in_the_first_epoch_keeps_a_fitted_model(estimator_class, monkeypatch):
    model = quick(estimator_class).fit(*data_for(estimator_class))
    before = copy.deepcopy(model)
    interrupt(monkeypatch, Adam, "step", 0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data_for(estimator_class))
    assert same_bits(model, before)


@pytest.mark.parametrize("average", [None, "ema"])
def test_arrays_that_training_would_not_continue_from_are_read_only(average):
    model = quick(BackpropRegressor, average=average).fit(*value_data())
    assert model.coefs_[0].flags.writeable == (average is None)


def test_an_array_without_names_warns_after_partial_fit_of_a_frame():
    X, y = value_data()
    model = quick(BackpropRegressor).partial_fit(pd.DataFrame(X).add_prefix("x"), y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)


def test_a_level_of_one_fold_has_the_mean_of_the_others():
    codes, y = np.array([[1]] * 10 + [[2]] + [[1]] * 9), 100 + np.arange(20.0)
    folds = draw_target_folds(len(y), 0, None)
    encoding = TargetEncoding.fit(codes, [0], y, "continuous", folds)
    np.testing.assert_allclose(encoding.encode(codes, folds)[10], y[folds != folds[10]].mean())
