"""Combinations of all settings, drawn by Hypothesis from the tables and constructors.

Whatever is combined, training does not crash, stays finite, computes in the dtype asked for, and
repeats to the bit.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.utils._param_validation import StrOptions

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor, EarlyStopping
from skbackprop.activations import LeakyRelu
from skbackprop.layers import BatchNormalization, PeriodicEmbedding
from skbackprop.losses import Focal, Huber, Quantile, Tweedie
from skbackprop.optimizers import SOLVERS
from skbackprop.schedules import SCHEDULES, CosineDecay, LinearWarmup
from skbackprop.training.config import is_lbfgs
from skbackprop.weight_averaging import AVERAGES, PolyakAverage
from support import (
    answers,
    class_data,
    few_epochs,
    label_data,
    same_bits,
    same_values,
    value_data,
)

pytestmark = [
    few_epochs,
    pytest.mark.filterwarnings("ignore:batch_size=.* is larger"),
    pytest.mark.usefixtures("one_blas_thread"),
]

N_ROWS, N_FEATURES = 24, 3

# The values of parameters that are no names: the first is the plainest.
VALUES = {
    "hidden_layer_sizes": [(), (4,), (4, 3), 3, (3, 1, 2)],
    "alpha": [0.0, 1e-4, 1.0],
    "batch_size": ["auto", 1, 5, 8, 100],
    "learning_rate_init": [1e-3, 1e-2],
    "power_t": [0.5, 0.1],
    "max_iter": [1, 2, 4],
    "shuffle": [True, False],
    "random_state": [0, 1],
    "tol": [1e-4, 0.1],
    "momentum": [0.9, 0.0],
    "nesterovs_momentum": [True, False],
    "early_stopping": [False, True, EarlyStopping("loss", 8, n_iter_no_change=2)],
    "time_limit": [None, 1e9],
    "validation_fraction": [0.1, 0.4],
    "beta_1": [0.9, 0.0],
    "beta_2": [0.999, 0.5],
    "epsilon": [1e-8, 1e-2],
    "n_iter_no_change": [np.inf, 1],
    "max_fun": [15000, 3],
    "n_estimators": [1, 3],
    "n_frozen_layers": [0, 1],
    "n_jobs": [None, 2],
    "n_components": [1, 3],
    "variational": [False, True],
    "beta": [1.0, 0.1],
    "contamination": [0.1, 0.5],
    "label_smoothing": [0.0, 0.1],
    "scale_target": [False, True],
    "l1_ratio": [0.0, 0.3, 1.0],
    "clip_norm": [None, 0.1, 10.0],
    "dropout": [0.0, 0.5],
    "input_shape": [None, (N_FEATURES,)],
    "dtype": [None, "float32", "float64"],
}
# Instances with settings of their own, beside the names; a loss is for one of the estimators.
INSTANCES = {
    "activation": [LeakyRelu(0.2)],
    "learning_rate": [LinearWarmup(CosineDecay(), 0.5), np.cos],
    "layers": [["scale", PeriodicEmbedding(2, trained=False)]],
    "normalization": [BatchNormalization()],
    "average": [PolyakAverage(30)],
}
LOSSES = {
    BackpropClassifier: [Focal(1.0)],
    BackpropRegressor: [Huber(0.5), Tweedie(1.2), Quantile([0.1, 0.5, 0.9])],
    BackpropAutoencoder: [Huber(0.5)],
}
# Classes whose instances serve as well as their names.
TABLES = {"solver": SOLVERS, "learning_rate": SCHEDULES, "average": AVERAGES}
NOT_DRAWN = {"verbose", "warm_start"}
# Weights that the classes of each kind of labels may have.
CLASS_WEIGHTS = {
    "binary": {1: 3.0},
    "multiclass": {0: 0.5, 2: 2},
}

# Of each: the estimator and y. Numbers are positive, so that every loss takes them.
TARGETS = {
    "binary": (BackpropClassifier, class_data(N_ROWS, N_FEATURES, n_classes=2)[1]),
    "multiclass": (BackpropClassifier, class_data(N_ROWS, N_FEATURES)[1]),
    "multilabel": (BackpropClassifier, label_data(N_ROWS, N_FEATURES)[1]),
    "one output": (BackpropRegressor, np.exp(value_data(N_ROWS, N_FEATURES)[1] / 3)),
    "two outputs": (BackpropRegressor, np.exp(value_data(N_ROWS, N_FEATURES, 2)[1] / 3)),
    "the input": (BackpropAutoencoder, None),
}

# Combinations that can't be: of each, whether settings and X are one, and what the error says.
REFUSALS = [
    (
        lambda chosen, X: is_lbfgs(chosen["solver"]) and chosen["l1_ratio"],
        "needs a smooth objective, so l1_ratio must be 0",
    ),
    (
        lambda chosen, X: is_lbfgs(chosen["solver"]) and np.any(chosen["dropout"]),
        "solver='lbfgs' needs a deterministic objective",
    ),
    (
        lambda chosen, X: is_lbfgs(chosen["solver"]) and chosen.get("variational"),
        "solver='lbfgs' needs a deterministic objective",
    ),
    (
        lambda chosen, X: "n_components" in chosen and "eriodic" in str(chosen["layers"]),
        "PeriodicEmbedding.* has no mirror image",
    ),
    (
        lambda chosen, X: "n_components" in chosen and chosen["loss"] == "log_loss",
        "loss=.* needs X [<>]= [01]",
    ),
    (
        lambda chosen, X: (
            is_lbfgs(chosen["solver"])
            and np.size(chosen["hidden_layer_sizes"]) > chosen["n_frozen_layers"]
            and chosen.get("normalization") in ("batch", BatchNormalization())
        ),
        "solver='lbfgs' needs a deterministic objective",
    ),
    (
        lambda chosen, X: chosen.get("label_smoothing") and "hinge" in str(chosen["loss"]),
        "label_smoothing=.* needs a loss with probabilities",
    ),
    (
        lambda chosen, X: chosen.get("layers") and sparse.issparse(X),
        "layers=.* need a dense X",
    ),
]


# --------------------------------------------------------------------------- what is drawn


def names_of(estimator_class, name):
    """Return the names, and None, that a parameter takes."""
    constraints = estimator_class._parameter_constraints[name]
    names = [c.options for c in constraints if isinstance(c, StrOptions)]
    return [None] * (None in constraints) + sorted(set().union(*names))


def values_of(estimator_class, name):
    """Return what a parameter may be, but for lists with a value for each layer."""
    values = VALUES.get(name) or names_of(estimator_class, name)
    instances = LOSSES[estimator_class] if name == "loss" else INSTANCES.get(name, [])
    return [*values, *instances, *(kind() for kind in TABLES.get(name, {}).values())]


@st.composite
def settings_of(draw, target):
    """Draw a value for every parameter of the constructor."""
    estimator_class, chosen = TARGETS[target][0], {}
    for name in sorted(estimator_class().get_params().keys() - NOT_DRAWN):
        chosen[name] = draw(st.sampled_from(values_of(estimator_class, name)))
    n_hidden = np.size(chosen["hidden_layer_sizes"])
    chosen["n_frozen_layers"] = min(chosen["n_frozen_layers"], n_hidden)
    for name, n_values in {"activation": n_hidden, "dropout": n_hidden + 1}.items():
        of_layers = st.lists(
            st.sampled_from(values_of(estimator_class, name)), min_size=n_values, max_size=n_values
        )
        if draw(st.booleans()):
            chosen[name] = draw(of_layers)
    if target in CLASS_WEIGHTS and draw(st.booleans()):
        chosen["class_weight"] = CLASS_WEIGHTS[target]
    return chosen


@st.composite
def data_of(draw, target):
    """Draw X, dense or sparse, with y and weights of the rows, a third of them zero, or None."""
    rng = np.random.RandomState(0)
    X = rng.randn(N_ROWS, N_FEATURES).astype(draw(st.sampled_from(["float64", "float32"])))
    if draw(st.booleans()):
        X = sparse.csr_array(X * (X > 0))
    weight = rng.uniform(0.5, 2, N_ROWS) * (np.arange(N_ROWS) % 3 > 0)
    return X, TARGETS[target][1], draw(st.sampled_from([None, weight]))


targets = st.sampled_from(list(TARGETS))


def fitted(estimator_class, chosen, data):
    """Return a fitted estimator, or None if the settings are refused for a reason that is known."""
    reasons = [says for is_one, says in REFUSALS if is_one(chosen, data[0])]
    model = estimator_class(**chosen)
    if not reasons:
        return model.fit(*data)
    with pytest.raises((ValueError, TypeError), match="|".join(reasons)):
        model.fit(*data)
    return None


def assert_same(model, expected, X):
    """Assert that two estimators have the same weights and losses and answer the same."""
    assert same_bits(model, expected)
    assert same_values(answers(model, X), answers(expected, X))


def test_every_parameter_is_drawn():
    for estimator_class in LOSSES:
        parameters = estimator_class().get_params()
        for name in parameters.keys() - NOT_DRAWN:
            assert len(values_of(estimator_class, name)) > 1, f"{name} needs values"


# ------------------------------------------------------------------------------ properties


@pytest.mark.slow
@settings(max_examples=40)
@given(st.data(), targets)
def test_training_stays_finite_and_repeats(data, target):
    estimator_class = TARGETS[target][0]
    chosen = data.draw(settings_of(target))
    X, y, weight = data.draw(data_of(target))
    model = fitted(estimator_class, chosen, (X, y, weight))
    if model is None:
        return
    arrays = [*model.coefs_, *model.intercepts_]
    assert {array.dtype for array in arrays} == {np.dtype(chosen["dtype"] or X.dtype)}
    said = answers(model, X)
    if estimator_class is BackpropRegressor:
        assert said[0].dtype == (np.float64 if chosen["scale_target"] else arrays[0].dtype)
        assert said[0].shape[: y.ndim] == y.shape  # several levels have an axis more
    for array in [*arrays, *said, model.loss_, np.hstack(model.loss_curve_)]:
        assert np.isfinite(array).all()
    assert_same(fitted(estimator_class, chosen, (X, y, weight)), model, X)
