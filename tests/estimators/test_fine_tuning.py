"""Frozen layers: `trainable=False` and `n_frozen_layers`, from the start and in warm starts."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
)
from skbackprop.callbacks import Checkpoint
from skbackprop.layers import (
    GRU,
    NORMALIZATIONS,
    BatchNormalization,
    Bidirectional,
    Conv2D,
    Dense,
    GaussianNoise,
    LayerNormalization,
    MaxPool2D,
    RandomFlip,
    RandomTranslation2D,
    Residual,
    TransformerBlock,
)
from skbackprop.layers.base import FROZEN, expand_layers
from skbackprop.nn.network import Network
from skbackprop.optimizers import SGD, AdamW
from skbackprop.weight_averaging import AVERAGES
from support import (
    assert_same_search,
    bits,
    class_data,
    few_epochs,
    networks_of,
    pairs,
    pickled,
    safely_saved,
    same_bits,
    some_parameters,
    value_data,
)

pytestmark = few_epochs

SETTINGS = {"max_iter": 3, "n_iter_no_change": np.inf, "batch_size": 13, "random_state": 0}
LAYERS = [Conv2D(3, 2, activation="tanh"), BatchNormalization(), MaxPool2D(1), Conv2D(2, 1)]
FREEZE = {"layers__0__trainable": False, "layers__1__trainable": False, "n_frozen_layers": 1}
TRAIN = {"layers__0__trainable": True, "layers__1__trainable": True, "n_frozen_layers": 0}
# The arrays that FREEZE freezes, by attribute and number, and others of the same names.
KEPT = [("kernels_", 0), ("kernel_biases_", 0), ("coefs_", 0), ("intercepts_", 0), ("gains_", 0)]
KEPT += [("normalization_gains_", 0), ("normalization_biases_", 0)]
RUNNING = [("normalization_means_", 0), ("running_variances_", 0)]
OTHERS = [("kernels_", 1), ("coefs_", 1), ("coefs_", 2), ("gains_", 1), ("running_means_", 1)]


def network(**changes):
    """Return a classifier of two convolutions and two hidden layers."""
    settings = {"layers": LAYERS, "input_shape": (2, 2), "normalization": "batch"}
    return BackpropClassifier((5, 4), **SETTINGS | settings | {"warm_start": True} | changes)


def arrays_of(model, names):
    return [getattr(model, name)[i].copy() for name, i in names]


@pytest.mark.parametrize(
    "solver, penalty, average, n_estimators, early_stopping",
    pairs(
        [SGD(0.9), AdamW(weight_decay=0.5)],
        [{"alpha": 3.0}, {"alpha": 3.0, "l1_ratio": 0.5, "clip_norm": 0.1}],
        [None, "ema", "polyak"],
        [1, 3],
        [False, True],
    ),
)
def test_a_warm_start_keeps_frozen_layers_to_the_bit(
    solver, penalty, average, n_estimators, early_stopping
):
    """They are those that have predicted: averaged, and of the best epoch."""
    X, y = class_data()
    settings = {"solver": solver, "average": average, "early_stopping": early_stopping}
    model = network(**settings, **penalty, n_estimators=n_estimators).fit(X, y)
    kept, others = arrays_of(model, KEPT + RUNNING), arrays_of(model, OTHERS)
    model.set_params(**FREEZE)
    for _ in range(2):
        model.fit(X, y)
        for array, expected in zip(arrays_of(model, KEPT + RUNNING), kept, strict=True):
            np.testing.assert_array_equal(array, expected)
    for array, last in zip(arrays_of(model, OTHERS), others, strict=True):
        assert not np.array_equal(array, last)
    n_frozen = sum(array.size for array in kept[: len(KEPT)]) // n_estimators
    n_parameters = model.n_parameters_
    assert model._model.state.parameters.theta.shape[1] == n_parameters - n_frozen
    assert f"frozen {n_frozen}" in " ".join(repr(model.summary()).split())
    for name, moment in model._model.state.optimizer.items():
        assert name == "n_steps" or moment.shape[1] == n_parameters - n_frozen
    model.set_params(**TRAIN).fit(X, y)
    for array, last in zip(arrays_of(model, KEPT + RUNNING), kept, strict=True):
        assert not np.array_equal(array, last)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("settings", [{}, {"alpha": 1.0, "average": "ema"}], ids=str)
def test_the_rest_is_trained_as_on_the_outputs_of_the_frozen_layers(solver, settings):
    (X, y), (coefs, intercepts) = value_data(), some_parameters(4, 6, 5, 1)
    settings = SETTINGS | settings | {"activation": "tanh", "solver": solver}
    init = coefs, intercepts
    model = BackpropRegressor((6, 5), n_frozen_layers=1, init=init, **settings).fit(X, y)
    init = coefs[1:], intercepts[1:]
    rest = BackpropRegressor((5,), init=init, **settings).fit(model.hidden_features(X, 0), y)
    np.testing.assert_array_equal(model.coefs_[0], coefs[0])
    np.testing.assert_allclose(model.loss_curve_, rest.loss_curve_, rtol=1e-9)
    for name in ("coefs_", "intercepts_"):
        for array, expected in zip(getattr(model, name)[1:], getattr(rest, name), strict=True):
            np.testing.assert_allclose(array, expected, rtol=1e-7, atol=1e-12)


def test_backward_stops_below_the_first_layer_that_is_trained():
    passes = []
    for n_frozen in (0, 1, 2):
        model = BackpropRegressor((6, 5), n_frozen_layers=n_frozen, **SETTINGS).fit(*value_data())
        stack = model.partial_fit(*value_data())._model.stack
        (step, *_) = stack._steps.values()
        passes.append(len(step._pass._backward))
    assert passes == [5, 3, 1]  # of three dense layers and two activations


def test_a_layer_freezes_those_that_it_stands_for():
    layers = [
        *(Residual([Dense(4, "relu"), Residual(Dense(4))]), TransformerBlock(1, 5)),
        *(Bidirectional(GRU(2, return_sequences=True)), LayerNormalization()),
    ]
    trained, frozen = (
        Network((3, 4), tuple(expand_layers(each, (3, 4))[0])).layout
        for each in (layers, [replace(layer, trainable=False) for layer in layers])
    )
    assert (trained.n_frozen, frozen.n_parameters) == (0, 0)
    assert frozen.n_frozen == trained.n_parameters
    inner = [
        Residual([Dense(4), Dense(4, trainable=False)]),
        Bidirectional(GRU(2, trainable=False)),
    ]
    layout = Network((3, 4), tuple(expand_layers(inner, (3, 4))[0])).layout
    assert layout.frozen == [False] * 2 + [True] * (len(layout.frozen) - 2)


RANDOM = [GaussianNoise(0.1), RandomTranslation2D(0.5), RandomFlip(), *LAYERS]


def test_searches_find_what_single_fits_find():
    X, y = class_data()
    grid = {"layers__3__trainable": [True, False], "n_frozen_layers": [0, 2], "alpha": [0.1, 1.0]}
    model = network(layers=RANDOM)
    ours = BackpropGridSearchCV(model, grid, cv=2).fit(X, y)
    theirs = GridSearchCV(model, grid, cv=2).fit(X, y)
    np.testing.assert_array_equal(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )
    assert same_bits(ours.best_estimator_, theirs.best_estimator_)


FREEZE_SECOND = {"layers__3__trainable": False, "n_frozen_layers": 1}


@pytest.mark.parametrize("copied", [pickled, safely_saved])
def test_training_is_resumed_from_checkpoints_and_files(copied, tmp_path):
    X, y = class_data()
    settings = {"layers": RANDOM, "n_estimators": 2} | {"average": "ema"}
    path = tmp_path / "training.npz"
    model = network(**settings).set_params(**FREEZE_SECOND)
    expected = model.set_params(max_iter=6).fit(X, y)
    short = network(**settings).set_params(**FREEZE_SECOND)
    short.set_callbacks(Checkpoint(path)).fit(X, y)
    resumed = network(**settings).set_params(**FREEZE_SECOND, max_iter=6)
    assert same_bits(resumed.fit(X, y, resume_from=path), expected)
    again = copied(expected, tmp_path)
    np.testing.assert_array_equal(again.predict_proba(X), expected.predict_proba(X))
    assert same_bits(again.partial_fit(X, y), expected.partial_fit(X, y))


def test_members_equal_networks_that_are_trained_alone():
    X, y = class_data()
    settings = {"layers": RANDOM, "normalization": None, "n_frozen_layers": 1}
    stack, alone = (network(n_estimators=n, **settings).fit(X, y) for n in (5, 1))
    assert same_bits(stack.estimators_[0], alone)


def test_the_decoder_of_frozen_layers_is_trained():
    X, layers = value_data()[0], [Dense(3, "tanh", trainable=False)]
    model = BackpropAutoencoder(2, (5,), layers=layers, n_frozen_layers=1, **SETTINGS).fit(X)
    frozen = [array.shape for array in model._model.state.parameters.buffers.values()]
    assert frozen == [(1, 4 * 3 + 3 + 3 * 5 + 5)]
    assert model._model.state.parameters.buffers.keys() == {FROZEN}


# ------------------------------------------------------ under averages and normalizations

# With two of two hidden layers frozen, five parameters are trained, which are fewer than the
# running statistics of the layers.
every_average_and_normalization = pytest.mark.parametrize(
    "average, normalization", [*product([None, *AVERAGES], [None, *NORMALIZATIONS])]
)


def narrow(average, normalization, **changes):
    """Return a regressor of two narrow layers that keeps its rows in order."""
    settings = {"average": average, "normalization": normalization, "warm_start": True}
    return BackpropRegressor((4, 4), **SETTINGS | settings | {"shuffle": False} | changes)


@pytest.mark.parametrize("way", ["fit", "partial_fit"])
@pytest.mark.parametrize("n_estimators", [1, 2])
@every_average_and_normalization
def test_frozen_in_a_warm_start_the_rest_is_trained_as_on_features(
    average, normalization, n_estimators, way
):
    X, y = value_data()
    model = narrow(average, normalization, n_estimators=n_estimators).fit(X, y)
    members = networks_of(model)
    features = [member.hidden_features(X, 1) for member in members]
    rests = [
        BackpropRegressor(
            (),
            average=average,
            shuffle=False,
            init=([member.coefs_[-1].copy()], [member.intercepts_[-1].copy()]),
            **SETTINGS,
        )
        for member in members
    ]
    getattr(model.set_params(n_frozen_layers=2), way)(X, y)
    for member, own_features, rest in zip(networks_of(model), features, rests, strict=True):
        getattr(rest, way)(own_features, y)
        np.testing.assert_array_equal(member.hidden_features(X, 1), own_features)
        np.testing.assert_allclose(member.coefs_[-1], rest.coefs_[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(member.predict(X), rest.predict(own_features), rtol=1e-9)


@pytest.mark.parametrize("way", ["fit", "partial_fit"])
@every_average_and_normalization
def test_layers_are_frozen_and_thawed_in_turns(average, normalization, way):
    X, y = value_data()
    model = narrow(average, normalization).fit(X, y)
    for n_frozen in (2, 0, 1, 2, 1, 0):
        before = [array.copy() for array in model.coefs_]
        getattr(model.set_params(n_frozen_layers=n_frozen), way)(X, y)
        is_kept = [np.array_equal(*pair) for pair in zip(before, model.coefs_, strict=True)]
        assert is_kept == [i < n_frozen for i in range(3)]
        averages = model._model.state.average
        if averages:
            assert averages["average"].shape == model._model.state.parameters.theta.shape
        assert np.isfinite(model.predict(X)).all()


@every_average_and_normalization
def test_searches_and_checkpoints_of_frozen_layers(average, normalization, tmp_path):
    X, y = value_data()
    model = narrow(average, normalization)
    grid = {"n_frozen_layers": [0, 1, 2], "alpha": [0.1, 1.0]}
    searches = [
        kind(clone(model), grid, cv=2, scoring=bits).fit(X, y)
        for kind in (BackpropGridSearchCV, GridSearchCV)
    ]
    assert_same_search(*searches)
    for n_frozen in (1, 2):
        path = tmp_path / f"{n_frozen}.npz"
        model.set_params(n_frozen_layers=n_frozen)
        clone(model).set_callbacks(Checkpoint(path)).fit(X, y)
        longer = clone(model).set_params(max_iter=6)
        assert same_bits(clone(longer).fit(X, y, resume_from=path), longer.fit(X, y))


@every_average_and_normalization
def test_frozen_after_a_fit_a_training_is_resumed(average, normalization, tmp_path):
    """A checkpoint that a warm start wrote with layers frozen by then."""
    X, y = value_data()
    path = tmp_path / "training.npz"
    short, longer = (narrow(average, normalization).fit(X, y) for _ in range(2))
    short.set_params(n_frozen_layers=2).set_callbacks(Checkpoint(path)).fit(X, y)
    longer.set_params(n_frozen_layers=2, max_iter=6).fit(X, y)
    resumed = clone(longer).fit(X, y, resume_from=path)
    assert same_bits(resumed, longer)


def test_wrong_settings_are_errors():
    with pytest.raises(ValueError, match="at most the number of hidden layers, 2.* got 3"):
        network(n_frozen_layers=3).fit(*class_data())
    with pytest.raises(ValueError, match="'n_frozen_layers' parameter"):
        network(n_frozen_layers=-1).fit(*class_data())
    with pytest.raises(ValueError, match="trainable of Conv2D must be True or False, got 'no'"):
        network().set_params(layers__0__trainable="no").fit(*class_data())
    with pytest.raises(ValueError, match="layers of the fitted network"):
        network().fit(*class_data()).set_params(layers__0__n_filters=4, **FREEZE).fit(*class_data())
    with pytest.raises(ValueError, match="solver='lbfgs' needs a deterministic objective"):
        network(solver="lbfgs").fit(*class_data())
