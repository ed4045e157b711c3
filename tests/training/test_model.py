"""A model that is sent to another process is trained there to the same bits as here."""

import numpy as np
import pytest

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from skbackprop.estimators import base
from skbackprop.layers import LAYERS, NORMALIZATIONS, Conv2D, Dropout, Residual
from skbackprop.optimizers import SOLVERS
from skbackprop.tabular import TabularClassifier, TabularRegressor
from skbackprop.weight_averaging import AVERAGES
from support import (
    answers,
    class_data,
    data_for,
    few_epochs,
    pairs,
    pickled,
    quick,
    same_bits,
    same_values,
    value_data,
)
from support.shaped import SHAPED_LAYERS
from support.tables import mixed_data

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]


@pytest.fixture
def sends_models(monkeypatch):
    """Let `fit` and `partial_fit` train what comes out of pickles of models that have started."""
    train = base.train
    train_next = base.train_next

    def send(model):
        assert model.state.parameters.layout is model.training_network.layout
        return pickled(model, None)

    def train_sent(problems, models, *arguments, **options):
        return train(problems, [send(model) for model in models], *arguments, **options)

    monkeypatch.setattr(base, "train", train_sent)
    monkeypatch.setattr(base, "train_next", lambda problem, model: train_next(problem, send(model)))


AXES = {
    "dropout": [0.0, 0.2],
    "normalization": [None, *NORMALIZATIONS],
    "average": [None, *AVERAGES],
    "n_estimators": [1, 2],
    "n_frozen_layers": [0, 1],
    "early_stopping": [False, True],
    "warm_start": [False, True],
}
SETTINGS = [dict(zip(AXES, row, strict=True)) for row in pairs(*AXES.values())]


def fit(estimator, X, *y):
    """Fit twice, which starts warm or anew, and train on by `partial_fit`."""
    estimator.fit(X, *y).fit(X, *y)
    return estimator.partial_fit(X, *y) if hasattr(estimator, "partial_fit") else estimator


@pytest.fixture
def check(request):
    """Return what checks that an estimator is fitted to the same bits with pickles and without."""

    def check_estimator(make, *data):
        expected = fit(make(), *data)
        request.getfixturevalue("sends_models")
        actual = fit(make(), *data)
        assert same_bits(actual, expected)
        assert same_values(answers(actual, data[0]), answers(expected, data[0]))

    return check_estimator


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor])
def test_settings(check, kind, settings):
    check(lambda: quick(kind, hidden_layer_sizes=(5, 4), **settings), *data_for(kind))


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers(check, solver):
    check(lambda: quick(BackpropRegressor, solver=solver, warm_start=True), *value_data())


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("name", LAYERS)
def test_input_layers(check, name, dropout):
    check(lambda: quick(BackpropRegressor, layers=name, dropout=dropout), *value_data())


@pytest.mark.parametrize("name", SHAPED_LAYERS)
def test_shaped_layers(check, name):
    shape, layers, padding = SHAPED_LAYERS[name]
    rng = np.random.RandomState(0)
    X = rng.randint(5, size=(40, *shape)) if padding == "tokens" else rng.randn(40, *shape)
    check(
        lambda: quick(BackpropRegressor, layers=[*layers], dropout=0.2, n_estimators=2),
        X.astype(float),
        rng.randn(40),
    )


def test_layers_of_a_user_and_other_estimators(check):
    images = np.random.RandomState(0).randn(40, 4, 4)
    layers = [Conv2D(2, 2), Residual([Dropout(0.2)])]
    check(lambda: quick(BackpropClassifier, layers=layers), images, class_data(40)[1])
    X, _ = value_data()
    check(lambda: BackpropAutoencoder(2, variational=True, max_iter=3, random_state=0), X)


def test_a_member_trains_on_as_before(check):
    X, y = class_data()
    ensemble = quick(BackpropClassifier, n_estimators=2, dropout=0.2, average="ema").fit(X, y)

    def member():
        return pickled(ensemble, None).estimators_[1].set_params(warm_start=True)

    check(member, X, y)


@pytest.mark.parametrize("kind", [TabularClassifier, TabularRegressor])
def test_networks_of_tables(request, kind):
    X, y = mixed_data(kind)
    settings = {"n_estimators": 2, "max_iter": 8, "random_state": 0}
    expected = kind(**settings).fit(X, y)
    request.getfixturevalue("sends_models")
    assert same_values(answers(kind(**settings).fit(X, y), X), answers(expected, X))
