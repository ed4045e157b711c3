"""The contract of all parts in an estimator: pieces, ensembles, failed fits, and searches.

A part of a table enters by its name. What a part computes is tested in the file of its kind.
"""

import copy

import numpy as np
import pytest
from scipy import sparse
from sklearn.model_selection import GridSearchCV

from skbackprop import BackpropClassifier, BackpropGridSearchCV, BackpropRegressor
from skbackprop.activations import ACTIVATIONS
from skbackprop.estimators._fit_many import FitJob, fit_many
from skbackprop.initializers import INITIALIZERS
from skbackprop.layers import LAYERS, NORMALIZATIONS
from skbackprop.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES, Quantile
from skbackprop.optimizers import OPTIMIZERS
from skbackprop.schedules import SCHEDULES, Adaptive, LinearWarmup, ReduceOnPlateau
from skbackprop.weight_averaging import AVERAGES, ExponentialMovingAverage, PolyakAverage
from support import (
    BOTH,
    answers,
    assert_same_search,
    class_data,
    classes_for,
    data_for,
    few_epochs,
    networks_of,
    pickled,
    quick,
    same_bits,
    same_values,
)

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

TABLES = {
    "activation": ACTIVATIONS,
    "average": AVERAGES,
    "init": INITIALIZERS,
    "layers": LAYERS,
    "learning_rate": SCHEDULES,
    "normalization": NORMALIZATIONS,
    "solver": OPTIMIZERS,
}
LOSSES = {BackpropClassifier: CLASSIFIER_LOSSES, BackpropRegressor: REGRESSOR_LOSSES}


def falls(progress):
    return 1 - progress


# Some schedules have no effect with another solver.
BESIDE = {"learning_rate": {"solver": "sgd"}}
SCHEDULE_INSTANCES = {
    "adaptive after 2": Adaptive(tol=10, n_iter_no_change=2),
    "plateau after 1": ReduceOnPlateau(tol=10, patience=1),
    "function": falls,
    "warm cosine": LinearWarmup("cosine", 0.4),
    "warm adaptive": LinearWarmup(Adaptive(tol=10, n_iter_no_change=2), 0.4),
    "warm plateau": LinearWarmup(ReduceOnPlateau(tol=10, patience=1), 0.2, start_factor=0),
    "warm function": LinearWarmup(falls),
    "twice warm": LinearWarmup(LinearWarmup("step", 0.2), 0.4),
}
# Settings of estimators, each with one part of a kind.
PARTS = {
    **{name: {"learning_rate": schedule} for name, schedule in SCHEDULE_INSTANCES.items()},
    **{
        f"{table}={name}": {table: name, **BESIDE.get(table, {})}
        for table, names in TABLES.items()
        for name in names
    },
    "average from row 70": {"average": PolyakAverage(start=70)},
    "long average": {"average": ExponentialMovingAverage(0.999)},
    "hidden dropout": {"dropout": 0.3},
    "input dropout": {"dropout": [0.3, 0.2, 0.1], "solver": "sgd"},
    "dropout and normalization": {"dropout": 0.2, "normalization": "batch", "dtype": "float32"},
    "clip_norm": {"clip_norm": 0.1},
    "elastic net": {"alpha": 0.5, "l1_ratio": 0.5},
    "activation of each layer": {"activation": ["tanh", "relu"]},
    **{f"loss={name}": {"loss": {kind: name}} for kind, names in LOSSES.items() for name in names},
    "quantiles": {"loss": {BackpropRegressor: Quantile([0.1, 0.5, 0.9])}},
    "label_smoothing": {"label_smoothing": {BackpropClassifier: 0.1}},
}
SETTINGS = {
    "hidden_layer_sizes": (6, 5),
    "batch_size": 13,
    "learning_rate_init": 0.01,
    "n_iter_no_change": np.inf,
}
every_part = pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)


def settings_of(part, estimator_class, **others):
    """Return settings with those of a part, as far as the estimator has them."""
    own = {
        name: value.get(estimator_class) if isinstance(value, dict) else value
        for name, value in part.items()
    }
    return SETTINGS | others | {name: value for name, value in own.items() if value is not None}


def positive_data(estimator_class):
    """Return data whose targets every loss takes."""
    X, y = data_for(estimator_class)
    return X, np.exp(y / 3) if estimator_class is BackpropRegressor else y


def assert_same(model, expected, X):
    """Assert that two models have the same weights and losses, and predict the same."""
    assert same_bits(model, expected)
    assert same_values(answers(model, X), answers(expected, X))


@BOTH
@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("n_estimators", [1, 3])
@every_part
@pytest.mark.without(lambda part, is_sparse, **_: is_sparse and "layers" in part)
def test_pieces_give_the_bits_of_the_whole(
    part, n_estimators, weighted, is_sparse, estimator_class
):
    """By calls of `partial_fit`, and by a warm start, with a pickle in between."""
    X, y = positive_data(estimator_class)
    weight = np.random.RandomState(1).uniform(0.1, 3, len(X)) if weighted else None
    X = sparse.csr_array(X) if is_sparse else X
    settings = settings_of(part, estimator_class, n_estimators=n_estimators)
    whole = quick(estimator_class, max_iter=6, **settings).fit(X, y, weight)

    by_epochs = quick(estimator_class, max_iter=6, **settings)
    for _ in range(6):
        by_epochs.partial_fit(X, y, sample_weight=weight, **classes_for(estimator_class))
        by_epochs = pickled(by_epochs, None)
    assert_same(by_epochs, whole, X)
    if "learning_rate" in part:  # each fit begins its schedule anew
        return
    by_threes = quick(estimator_class, max_iter=3, warm_start=True, **settings).fit(X, y, weight)
    by_threes = pickled(by_threes, None).fit(X, y, weight)
    assert_same(by_threes, whole, X)


@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
@BOTH
@every_part
def test_the_first_member_of_an_ensemble_is_the_network_alone(
    part, estimator_class, early_stopping
):
    X, y = positive_data(estimator_class)
    settings = settings_of(part, estimator_class, early_stopping=early_stopping)
    three = quick(estimator_class, n_estimators=3, **settings).fit(X, y)
    assert_same(three.estimators_[0], quick(estimator_class, **settings).fit(X, y), X)
    assert len({network.loss_ for network in three.estimators_}) == 3


@pytest.mark.parametrize("n_estimators", [1, 2])
@every_part
def test_the_best_epoch_is_kept(part, n_estimators):
    """The score of what is kept, on the rows held out, is the best score of all epochs."""
    X, y = class_data(80)
    settings = {"early_stopping": True, "validation_fraction": 0.4, "max_iter": 15}
    settings |= {"learning_rate_init": 0.3, "warm_start": True, "n_estimators": n_estimators}
    model = quick(BackpropClassifier, **settings_of(part, BackpropClassifier, **settings))
    model.fit(X, y)
    for i, network in enumerate(networks_of(model)):
        held_out = model._training[i].split[1]
        assert network.score(X[held_out], y[held_out]) == network.best_validation_score_
        assert network.best_validation_score_ == max(network.validation_scores_)


@every_part
def test_a_failed_fit_leaves_everything(part):
    X, y = class_data()
    settings = settings_of(part, BackpropClassifier, warm_start=True) | {"solver": "sgd"}
    model = quick(BackpropClassifier, **settings).fit(X, y)
    undisturbed = copy.deepcopy(model)
    with pytest.raises(ValueError, match="diverged"):
        model.set_params(learning_rate_init=1e300, alpha=1e300, clip_norm=None).fit(X, y)
    model.set_params(**undisturbed.get_params())
    assert_same(model, undisturbed, X)
    assert_same(model.fit(X, y), undisturbed.fit(X, y), X)


@BOTH
@pytest.mark.parametrize("parameter", [*TABLES, "loss"])
def test_a_name_stands_for_an_instance_with_its_defaults(parameter, estimator_class):
    X, y = positive_data(estimator_class)
    table = LOSSES[estimator_class] if parameter == "loss" else TABLES[parameter]
    settings = SETTINGS | BESIDE.get(parameter, {})
    for name, part in table.items():
        instance = part() if isinstance(part, type) else part
        by_name, by_instance = (
            quick(estimator_class, **settings | {parameter: value}).fit(X, y)
            for value in (name, instance)
        )
        assert_same(by_name, by_instance, X)


@pytest.mark.long
@BOTH
@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
def test_estimators_fitted_together_are_as_if_alone(early_stopping, estimator_class):
    X, y = positive_data(estimator_class)
    others = {"early_stopping": early_stopping, "warm_start": True}
    fits = [
        FitJob(quick(estimator_class, **settings_of(part, estimator_class, **others)), X, y, {})
        for part in [{}, *PARTS.values()]
    ]
    fit_many(fits, 1 << 30)
    for fit in fits:
        alone = copy.deepcopy(fit.estimator).set_params(warm_start=False).fit(X, y)
        assert_same(fit.estimator, alone, X)
        assert fit.estimator.validation_scores_ == alone.validation_scores_


@pytest.mark.long
@BOTH
@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
@pytest.mark.parametrize("parameter", [*TABLES, "loss"])
def test_a_search_finds_what_scikit_learns_finds(parameter, early_stopping, estimator_class):
    X, y = positive_data(estimator_class)
    table = LOSSES[estimator_class] if parameter == "loss" else TABLES[parameter]
    values = [*table, *(part() if isinstance(part, type) else part for part in table.values())]
    values += SCHEDULE_INSTANCES.values() if parameter == "learning_rate" else []
    settings = SETTINGS | BESIDE.get(parameter, {}) | {"early_stopping": early_stopping}
    model, grid = quick(estimator_class, **settings), {parameter: values, "alpha": [1e-4, 1.0]}
    ours, theirs = (
        kind(model, grid, cv=3).fit(X, y) for kind in (BackpropGridSearchCV, GridSearchCV)
    )
    assert_same_search(ours, theirs)
    assert_same(ours.best_estimator_, theirs.best_estimator_, X)
