"""A correct script: a type checker accepts it and infers the asserted types."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropRegressor,
    ConformalClassifier,
    ConformalRegressor,
    EarlyStopping,
    TabularClassifier,
    TabularRegressor,
    find_learning_rate,
)
from skbackprop.activations import LeakyRelu
from skbackprop.callbacks import OptunaPruningCallback, TrainingLog
from skbackprop.displays import LossCurveDisplay
from skbackprop.initializers import VarianceScaling
from skbackprop.inspection import LearningRateFinderResult, Summary
from skbackprop.losses import Focal, Quantile
from skbackprop.optimizers import AdamW
from skbackprop.schedules import LinearWarmup
from skbackprop.tabular import TableEncoder

Array = NDArray[Any]


def classifiers(X: NDArray[np.float64], labels: list[str]) -> None:
    """Fit a network by names, by objects, in pieces."""
    model = BackpropClassifier((8,), "gelu", max_iter=5, class_weight={"a": 2.0}, random_state=0)
    assert_type(model.fit(X, labels), BackpropClassifier)
    assert_type(model.fit(X, labels).predict(X), Array)
    assert_type(model.predict_proba(X), Array)
    assert_type(model.score(X, labels), float)
    assert_type(model.set_params(alpha=0.1, solver="sgd").fit(X, labels), BackpropClassifier)
    assert_type(model.partial_fit(X[:4], labels[:4], classes=["a", "b"]), BackpropClassifier)
    assert_type(model.coefs_, list[Array])
    assert_type(model.classes_, Array)
    assert_type(model.n_features_in_, int)
    assert_type(model.loss_curve_, list[float])
    assert_type(model.validation_scores_, list[float] | None)
    assert_type(model.summary(), Summary)
    assert_type(model.input_gradient(X, of="probability"), Array)
    print(f"{model.loss_:.3f} after {model.n_iter_} epochs", file=None)
    BackpropClassifier(
        [8, 8],
        activation=["relu", LeakyRelu(0.1)],
        loss=Focal(),
        solver=AdamW(weight_decay=0.1),
        learning_rate=LinearWarmup("cosine"),
        early_stopping=EarlyStopping("accuracy", n_iter_no_change=np.inf),
        class_weight="balanced",
        dropout=[0.0, 0.1, 0.1],
        normalization="layer",
        average="ema",
        init=VarianceScaling(),
        max_iter=2,
    ).fit(X.tolist(), np.array(labels), X_val=X[:4], y_val=labels[:4])


def regressors(X: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Fit networks that predict numbers."""
    model = BackpropRegressor(
        hidden_layer_sizes=8,
        loss="huber",
        learning_rate=lambda progress: 1 - progress,
        n_estimators=2,
        dtype="float32",
        max_iter=5,
    ).fit(X, y, sample_weight=np.ones(len(y)))
    assert_type(model, BackpropRegressor)
    assert_type(model.predict(X), Array)
    mean, std = model.predict(X, return_std=True)
    assert_type(mean, Array)
    assert_type(std, Array)
    assert_type(model.estimators_, list[BackpropRegressor])
    conformal = ConformalRegressor(BackpropRegressor(loss=Quantile([0.1, 0.9]), max_iter=5))
    assert_type(conformal.fit(X, y).predict_interval(X), Array)
    assert_type(find_learning_rate(BackpropRegressor(), X, y), LearningRateFinderResult)


def others(X: NDArray[np.float64], y: NDArray[np.float64], labels: list[str]) -> None:
    """Fit autoencoders, searches and tables."""
    assert_type(BackpropAutoencoder(2, max_iter=5).fit(X).transform(X), Array)
    assert_type(TableEncoder(encoding="ordinal").fit(X).transform(X), Array)
    assert_type(TableEncoder(column_kinds={0: "category"}).fit(X).transform(X), Array)
    network = BackpropClassifier((4,), max_iter=3)
    search = BackpropGridSearchCV(network, {"alpha": [0.1, 0.2]}, cv=2).fit(X, labels)
    assert_type(search, BackpropGridSearchCV)
    assert_type(search.best_params_, dict[str, Any])
    assert_type(search.best_score_, float)
    halving = BackpropHalvingGridSearchCV(network, {"alpha": np.logspace(-3, 0, 4)}, cv=2)
    assert_type(halving.fit(X, labels), BackpropHalvingGridSearchCV)
    assert_type(TabularClassifier(blend="boosting"), TabularClassifier)
    tabular = TabularClassifier(2, max_iter=1).fit(X, labels)
    assert_type(tabular, TabularClassifier)
    assert_type(tabular.predict_proba(X), Array)
    assert_type(tabular.predict_set(X, conformity_score="aps"), Array)
    conformal = ConformalClassifier(network, coverage=0.8).fit(X, labels)
    assert_type(conformal.predict_set(X), Array)
    numbers = TabularRegressor(2, loss="absolute_error", max_iter=1).fit(X, y)
    assert_type(numbers.predict(X), Array)
    assert_type(numbers.predict_interval(X, coverage=0.5), Array)


def tools(X: NDArray[np.float64], labels: list[str], folder: Path) -> None:
    """Follow a fit, and draw it."""
    model = BackpropClassifier((4,), max_iter=3)
    model.set_callbacks(TrainingLog(folder / "log.jsonl"))
    model.fit(X, labels)
    display = LossCurveDisplay.from_estimator(model)
    assert_type(display, LossCurveDisplay)
    OptunaPruningCallback(trial=None, monitor="validation_loss")


def main() -> None:
    """Run all of it, so that what is asserted is true as well."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    with warnings.catch_warnings(), TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        classifiers(X, ["a", "b"] * 20)
        regressors(X, X[:, 0])
        others(X, X[:, 0], ["a", "b"] * 20)
        tools(X, ["a", "b"] * 20, Path(folder))


if __name__ == "__main__":
    main()
