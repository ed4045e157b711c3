"""Does `LBFGS()` do all that `solver="lbfgs"` does, to the bit, with settings of its own?"""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    find_learning_rate,
)
from skbackprop.optimizers import LBFGS, Adam
from support import BOTH, assert_same_search, class_data, data_for, few_epochs, quick, same_bits

pytestmark = few_epochs

ALL = [BackpropClassifier, BackpropRegressor, BackpropAutoencoder]
# What an estimator is given, besides the solver by name or by instance.
CASES = {
    "plain": {},
    "float32": {"dtype": "float32"},
    "L1": {"l1_ratio": 0.5, "alpha": 0.1},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3, "max_iter": 30},
    "layer normalization": {"normalization": "layer"},
    "members": {"n_estimators": 2},
}


def by_name_and_instance(estimator_class, **settings):
    """Return the same estimator twice; `max_fun` is the flat parameter or the instance's."""
    of_instance = {"max_fun": settings["max_fun"]} if "max_fun" in settings else {}
    named = quick(estimator_class, solver="lbfgs", **settings)
    settings.pop("max_fun", None)
    return named, quick(estimator_class, solver=LBFGS(**of_instance), **settings)


@pytest.mark.parametrize("estimator_class", ALL)
@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_instance_matches_the_name_to_the_bit(settings, estimator_class):
    if not settings.keys() <= set(estimator_class._get_param_names()):
        pytest.skip("The autoencoder has fewer parameters.")
    data = data_for(estimator_class)
    named, instance = by_name_and_instance(estimator_class, **settings)
    assert same_bits(instance.fit(*data), named.fit(*data))
    assert same_bits(pickle.loads(pickle.dumps(instance)), named)
    assert same_bits(clone(instance).fit(*data), named)


@BOTH
def test_max_fun_of_the_instance_counts_and_may_change_in_a_warm_start(estimator_class):
    X, y = data_for(estimator_class)
    settings = {"max_iter": 100, "warm_start": True}
    named, instance = by_name_and_instance(estimator_class, max_fun=5, **settings)
    assert same_bits(instance.fit(X, y), named.fit(X, y))
    assert not same_bits(quick(estimator_class, solver=LBFGS(), **settings).fit(X, y), instance)
    named.set_params(max_fun=100).fit(X, y)
    assert same_bits(instance.set_params(solver__max_fun=100).fit(X, y), named)


@BOTH
def test_n_corrections_has_an_effect(estimator_class):
    X, y = data_for(estimator_class)
    short, ten, long, named = (
        quick(estimator_class, solver=solver, max_iter=40).fit(X, y)
        for solver in (*(LBFGS(n_corrections=n) for n in (1, 10, 30)), "lbfgs")
    )
    assert same_bits(ten, named)
    assert not same_bits(short, ten)
    assert not same_bits(long, ten)


@BOTH
def test_a_warm_start_goes_on(estimator_class):
    X, y = data_for(estimator_class)
    models = by_name_and_instance(estimator_class, warm_start=True)
    for _ in range(2):
        for model in models:
            model.fit(X, y)
        assert same_bits(*models)
    assert len(models[1].loss_curve_) == 10


@BOTH
def test_instance_prints_and_warns_as_the_name(estimator_class, capsys):
    X, y = data_for(estimator_class)
    said = []
    for model in by_name_and_instance(estimator_class, max_fun=7, max_iter=3, verbose=True):
        with pytest.warns(ConvergenceWarning, match=r"max_fun \(now 7\)") as caught:
            model.fit(X, y)
        said.append(([str(warning.message) for warning in caught], capsys.readouterr().out))
    assert said[0] == said[1]
    assert "Iteration 3, loss = " in said[1][1]


@BOTH
def test_lbfgs_has_no_partial_fit(estimator_class):
    model = quick(estimator_class, solver=LBFGS())
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError) as error:
        _ = model.partial_fit
    assert "got solver=LBFGS()" in str(error.value.__cause__)


@BOTH
def test_raises_on_settings_that_lbfgs_cannot_use(estimator_class):
    data = data_for(estimator_class)
    with pytest.raises(ValueError, match=r"network contains HiddenDropout\("):
        quick(estimator_class, solver=LBFGS(), dropout=0.5).fit(*data)
    with pytest.raises(ValueError, match=r"network contains BatchNormalization\("):
        quick(estimator_class, solver=LBFGS(), normalization="batch").fit(*data)
    with pytest.raises(ValueError, match=r"to have a learning rate, got LBFGS"):
        find_learning_rate(quick(estimator_class, solver=LBFGS()), *data)


@pytest.mark.long
@pytest.mark.usefixtures("one_blas_thread")
def test_a_search_trains_lbfgs_candidates_one_by_one(capsys):
    X, y = class_data()
    grid = {"solver": ["adam", "lbfgs", LBFGS(), LBFGS(n_corrections=2)], "alpha": [0.0, 0.1]}
    network = quick(BackpropClassifier)
    ours = BackpropGridSearchCV(network, grid, cv=2, verbose=1).fit(X, y)
    assert "6 of 8 candidates are trained one by one: lbfgs" in capsys.readouterr().out
    assert_same_search(ours, GridSearchCV(network, grid, cv=2).fit(X, y))
    scores = ours.cv_results_["mean_test_score"].reshape(2, 4)
    np.testing.assert_array_equal(scores[:, 1], scores[:, 2])


def test_raises_on_another_solver_in_a_warm_start():
    X, y = data_for(BackpropRegressor)
    model = quick(BackpropRegressor, solver=LBFGS(), warm_start=True).fit(X, y)
    for other in ("adam", Adam(), "lbfgs"):
        with pytest.raises(ValueError, match="solver was LBFGS"):
            model.set_params(solver=other).fit(X, y)
