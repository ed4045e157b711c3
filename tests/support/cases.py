"""Models over the tables of parts, for all that writes them out, and what they predict."""

from functools import cache
from itertools import cycle

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
)
from skbackprop.activations import ACTIVATIONS
from skbackprop.inspection import BackpropFeatures
from skbackprop.layers import LAYERS, NORMALIZATIONS, CategoricalEmbedding, PeriodicEmbedding
from skbackprop.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES, Huber, Quantile
from skbackprop.schedules import CosineDecay
from skbackprop.weight_averaging import ExponentialMovingAverage

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = (X[:, 0] * X[:, 1] > 0).astype(int) + (X[:, 2] > 0.5)  # three classes
NUMBERS = np.exp(X[:, 0]) + 0.1
# Rows with codes of categories in two columns, of which -1 is none.
CODES = np.column_stack([X[:, 0], Y * 2 - 1, X[:, 2], np.arange(60) % 7])
SHORT = {"max_iter": 8, "n_iter_no_change": np.inf, "learning_rate_init": 0.02, "random_state": 0}

LABELS = {
    "integers": Y * 5 - 3,
    "large integers": np.array([-(2**63), 0, 2**62])[Y],
    "small unsigned": Y.astype(np.uint8),
    "large unsigned": np.array([0, 5, 2**64 - 1], dtype=np.uint64)[Y],
    "half precision": np.float16(Y),
    "strings": np.array(["a", 'é "\\', "??/*"])[Y],
    "objects": np.array(["a", "b", "c"], dtype=object)[Y],
    "booleans": Y > 0,
    "floats": Y.astype(float),
    "two classes": np.array(["no", "yes"])[(Y > 0).astype(int)],
    "one class": np.zeros(len(Y), dtype=int),
    "multilabel": np.column_stack([Y > 0, Y == 1, X[:, 3] > 0]).astype(int),
}


LAYERS_ALONE_AND_TOGETHER = {
    **{name: name for name in LAYERS},
    "some columns": PeriodicEmbedding(3, n_units=1, features=[3, 0], trained=False),
    "both": ["scale", PeriodicEmbedding(2)],
}


def classifier(y=Y, **settings):
    return BackpropClassifier((7, 5), **SHORT | settings).fit(X, y)


def regressor(y=NUMBERS, **settings):
    return BackpropRegressor((7, 5), **SHORT | settings).fit(X, y)


def _cases():
    """Yield (name, what makes the model); settings that have no table take turns."""
    members = cycle([1, 3, 2])
    normalizations = cycle([None, *NORMALIZATIONS])
    for name in ACTIVATIONS:
        settings = {"n_estimators": next(members), "normalization": next(normalizations)}
        yield f"activation {name}", lambda a=name, s=settings: classifier(activation=a, **s)
    for name in NORMALIZATIONS:
        for n in (1, 3):
            settings = {"n_estimators": n, "normalization": name}
            yield f"normalization {name} {n}", lambda s=settings: regressor(**s)
    for name, layers in LAYERS_ALONE_AND_TOGETHER.items():
        for n in (1, 3):
            settings = {"n_estimators": n, "layers": layers}
            yield f"input layers {name} {n}", lambda s=settings: regressor(**s)
    for n in (1, 3):
        yield f"input layers categories {n}", lambda n=n: _of_categories(n)
    for name in CLASSIFIER_LOSSES:
        for labels in ("integers", "two classes", "multilabel"):
            settings = {"loss": name, "n_estimators": next(members)}
            yield f"{name} {labels}", lambda y=LABELS[labels], s=settings: classifier(y, **s)
    for name, loss in {**REGRESSOR_LOSSES, "quantiles": Quantile([0.1, 0.5, 0.9])}.items():
        for n_targets in (1, 2):
            y = NUMBERS if n_targets == 1 else np.column_stack([NUMBERS, 3 * NUMBERS[::-1]])
            settings = {"loss": loss, "n_estimators": next(members), "scale_target": n_targets == 2}
            yield f"{name} {n_targets}", lambda y=y, s=settings: regressor(y, **s)
    yield "scale_target", lambda: regressor(NUMBERS * 1e4 - 3e3, scale_target=True)
    for name, y in LABELS.items():
        yield f"labels {name}", lambda y=y: classifier(y, activation="tanh")
        yield f"labels {name} 2", lambda y=y: classifier(y, n_estimators=2)
    yield "no hidden layer", lambda: BackpropClassifier((), **SHORT).fit(X, Y)
    yield "float32", lambda: classifier(dtype="float32", dropout=0.2)
    yield "autoencoder", lambda: BackpropAutoencoder(n_components=2, **SHORT).fit(X)
    yield (
        "variational autoencoder",
        lambda: BackpropAutoencoder(n_components=2, variational=True, **SHORT).fit(X),
    )
    yield "features", lambda: _features(classifier(n_estimators=2), 0)
    yield "features of one network", lambda: _features(classifier(), -1)
    for scaler in (
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        MinMaxScaler((-1, 1)),
        MinMaxScaler((-1, 1), clip=True),
        MaxAbsScaler(),
        RobustScaler(),
        RobustScaler(with_centering=False),
    ):
        network = BackpropClassifier((7,), **SHORT)
        yield f"{scaler}", lambda s=scaler, n=network: make_pipeline(s, n).fit(X[:, ::-1] * 9, Y)
    yield "pipeline of networks", _pipeline_of_networks
    yield "search", _search


def _of_categories(n_estimators):
    layers = [CategoricalEmbedding({1: 4, 3: 7}, n_units=2), "scale"]
    network = BackpropRegressor((7, 5), n_estimators=n_estimators, layers=layers, **SHORT)
    return network.fit(CODES, NUMBERS)


def _features(network, layer):
    return BackpropFeatures(FrozenEstimator(network), layer).fit(X, Y)


def _pipeline_of_networks():
    codes = BackpropAutoencoder(n_components=3, **SHORT)
    network = BackpropRegressor((5,), loss="gaussian", n_estimators=2, **SHORT)
    steps = StandardScaler(), "passthrough", codes, BackpropFeatures(network), network
    return make_pipeline(*steps).fit(X, NUMBERS)


def _search():
    network = make_pipeline(StandardScaler(), BackpropClassifier((5,), **SHORT))
    grid = {"backpropclassifier__alpha": [0.1, 1.0]}
    return BackpropGridSearchCV(network, grid, cv=2).fit(X, Y)


_MAKERS = dict(_cases())
NAMES = list(_MAKERS)


@cache
def model(name):
    """Return the fitted model of a case."""
    return _MAKERS[name]()


def rows_of(name):
    """Return the rows to predict in a case: codes of categories, and others, where it has them."""
    return np.vstack([CODES, X[:9] * 20]) if "categories" in name else X


def has_std(estimator):
    return isinstance(getattr(estimator, "steps", [["", estimator]])[-1][1], BackpropRegressor)


def expected(estimator, X=X):
    """Return {output: what the estimator itself says of X}, in the order of the outputs."""
    if isinstance(estimator, BackpropAutoencoder):
        codes = estimator.transform(X)
        return {"codes": codes, "reconstruction": estimator.inverse_transform(codes)}
    if not hasattr(estimator, "predict"):
        return {"variable": estimator.transform(X)}
    if not hasattr(estimator, "classes_"):
        std = {"std": estimator.predict(X, return_std=True)[1]} if has_std(estimator) else {}
        found = {"variable": estimator.predict(X), **std}
        return {name: y[:, None] if y.ndim == 1 else y for name, y in found.items()}
    labels = estimator.predict(X)
    if hasattr(estimator, "predict_proba"):
        name, values = "probabilities", estimator.predict_proba(X)
    else:
        name, values = "scores", estimator.decision_function(X)
    return {"label": labels, name: values[:, None] if values.ndim == 1 else values}


def is_close(found, said):
    """Return whether numbers agree to 1e-5, of large ones relative to their size."""
    return bool((np.abs(found - said) <= 1e-5 * np.maximum(1, np.abs(said))).all())


# ------------------------------------------------------- two that differ in one parameter

# A value of each parameter that is another than the default.
_OTHER_VALUES = {
    **{"hidden_layer_sizes": (6,), "activation": "tanh", "solver": "sgd", "alpha": 0.5},
    **{"loss": {BackpropClassifier: "focal", BackpropRegressor: "huber"}, "l1_ratio": 0.5},
    **{"batch_size": 50, "learning_rate": CosineDecay(0.5), "learning_rate_init": 0.5},
    **{"power_t": 0.3, "max_iter": 20, "shuffle": False, "random_state": 3, "tol": 0.5},
    **{"verbose": True, "warm_start": True, "momentum": 0.5, "nesterovs_momentum": False},
    **{"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 5, "max_fun": 100},
    **{"beta_1": 0.5, "beta_2": 0.5, "epsilon": 0.5, "n_estimators": 3, "scale_target": True},
    **{
        "class_weight": {BackpropClassifier: {0: 2.0}},
        "label_smoothing": 0.1,
        "clip_norm": 1.0,
        "n_jobs": 2,
    },
    **{"layers": "scale", "input_shape": (2, 2), "dropout": 0.5, "normalization": "batch"},
    **{"average": ExponentialMovingAverage(0.5), "init": "he_normal", "time_limit": 60},
    **{"n_components": 3, "variational": True, "beta": 0.5, "contamination": 0.3},
    **{"dtype": "float32", "n_frozen_layers": 1, "n_jobs": 2},
}
# What makes the parameter matter.
_BESIDE = {
    "nesterovs_momentum": {"solver": "sgd"},
    "momentum": {"solver": "sgd"},
    "power_t": {"solver": "sgd", "learning_rate": "invscaling"},
    "l1_ratio": {"l1_ratio": 0.1},
    "class_weight": {"class_weight": "balanced"},
    "learning_rate": {"learning_rate": CosineDecay()},
    "average": {"average": ExponentialMovingAverage()},
    "validation_fraction": {"early_stopping": True},
    "beta": {"variational": True},
}


# The parameters in which members of a stack may differ. The others are part of their
# `Config.stacking_key`.
MAY_DIFFER = {
    *("alpha", "average", "beta_1", "beta_2", "class_weight", "clip_norm", "contamination"),
    *("early_stopping", "epsilon", "init", "l1_ratio", "learning_rate", "learning_rate_init"),
    *("max_fun", "momentum", "n_iter_no_change", "power_t", "random_state", "tol"),
    *("n_jobs", "validation_fraction", "verbose", "warm_start"),
}


def other_value(kind, name):
    """Return a value of a parameter that is another than the default."""
    assert name in _OTHER_VALUES, f"{name}: add another value to _OTHER_VALUES in {__file__}"
    other = _OTHER_VALUES[name]
    return other.get(kind, Huber()) if isinstance(other, dict) else other


# An estimator with each parameter.
KINDS = {
    name: kind
    for kind in (BackpropAutoencoder, BackpropRegressor, BackpropClassifier)
    for name in kind().get_params()
}


def two_that_differ_in(name, **settings):
    """Return two estimators with these settings that differ in one parameter alone."""
    kind = KINDS[name]
    one = kind(**settings | _BESIDE.get(name, {}))
    return one, clone(one).set_params(**{name: other_value(kind, name)})
