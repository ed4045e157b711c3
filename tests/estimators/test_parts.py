"""The contract of all parts in an estimator: pieces, ensembles, and the best epoch.

A part of a table enters by its name. What a part computes is tested in the file of its kind.
"""

import numpy as np
import pytest
from scipy import sparse

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.activations import ACTIVATIONS
from skbackprop.initializers import INITIALIZERS
from skbackprop.layers import LAYERS, NORMALIZATIONS
from skbackprop.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES, Quantile
from skbackprop.optimizers import OPTIMIZERS
from skbackprop.schedules import SCHEDULES, Adaptive, LinearWarmup, ReduceOnPlateau
from skbackprop.weight_averaging import AVERAGES, ExponentialMovingAverage, PolyakAverage
from support import (
    BOTH,
    answers,
    class_data,
    classes_for,
    data_for,
    few_epochs,
    networks_of,
    pairs,
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


@pytest.mark.parametrize(
    "name, estimator_class, n_estimators, weighted, is_sparse",
    pairs([*PARTS], [BackpropClassifier, BackpropRegressor], [1, 3], [False, True], [False, True]),
)
def test_pieces_give_the_bits_of_the_whole(
    name, estimator_class, n_estimators, weighted, is_sparse
):
    """By calls of `partial_fit`, and by a warm start, with a pickle in between."""
    part = PARTS[name]
    is_sparse = is_sparse and "layers" not in part  # which need dense rows
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


@pytest.mark.parametrize(
    "name, estimator_class, early_stopping",
    pairs([*PARTS], [BackpropClassifier, BackpropRegressor], [False, True]),
)
def test_the_first_member_of_an_ensemble_is_the_network_alone(
    name, estimator_class, early_stopping
):
    part = PARTS[name]
    X, y = positive_data(estimator_class)
    settings = settings_of(part, estimator_class, early_stopping=early_stopping)
    three = quick(estimator_class, n_estimators=3, **settings).fit(X, y)
    assert_same(three.estimators_[0], quick(estimator_class, **settings).fit(X, y), X)
    assert len({network.loss_ for network in three.estimators_}) == 3


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_the_best_epoch_is_kept(part):
    """The score of what is kept, on the rows held out, is the best score of all epochs."""
    X, y = class_data(80)
    settings = {"early_stopping": True, "validation_fraction": 0.4, "max_iter": 15}
    settings |= {"learning_rate_init": 0.3, "warm_start": True, "n_estimators": 2}
    model = quick(BackpropClassifier, **settings_of(part, BackpropClassifier, **settings))
    model.fit(X, y)
    for i, network in enumerate(networks_of(model)):
        held_out = model._model.state.held_out[i]
        assert network.score(X[held_out], y[held_out]) == network.best_validation_score_
        assert network.best_validation_score_ == max(network.validation_scores_)


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
