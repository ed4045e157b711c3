"""Does the warning that epochs were used up name what is at fault?

The oracle is training itself: of all remedies, at as many epochs, the one that is named has to
help, and more than twice the epochs would.
"""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import (
    load_diabetes,
    make_classification,
    make_friedman1,
    make_multilabel_classification,
    make_regression,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.preprocessing import scale

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor, EarlyStopping
from skbackprop.layers import CategoricalEmbedding, PeriodicEmbedding
from skbackprop.losses import Quantile
from skbackprop.weight_averaging import ExponentialMovingAverage

WORDS = {
    "X large": "X are too large",
    "X small": "X are too small",
    "y large": "set scale_target=True",
    "rate high": "lower learning_rate_init",
    "rate low": "increase learning_rate_init",
    "epochs": "Increase max_iter",
}


def fitted(model, X, y=None, weight=None):
    """Return the fitted model, and the faults that its warning on used up epochs names."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        arguments = [X[::2], None if y is None else y[::2]]
        model.fit(*arguments, *([] if weight is None else [weight[::2]]))
    texts = [str(w.message) for w in caught if "Maximum iterations" in str(w.message)]
    assert len(texts) <= 1
    return model, [name for name, words in WORDS.items() if any(words in text for text in texts)]


def quality(model, X, y):
    """Return the R2 of a regressor, or the negated log loss of a classifier, on unseen rows."""
    X, y = X[1::2], y[1::2]
    if isinstance(model, BackpropRegressor):
        return model.score(X, y)
    return -log_loss(y, model.predict_proba(X))


def tasks():
    X, y = make_regression(600, 20, noise=10, random_state=0)
    numbers = {
        "friedman": make_friedman1(600, random_state=0),
        "patients": load_diabetes(return_X_y=True),
        "linear": (X, y),
        "two targets": (X, np.column_stack([y, y**2])),
    }
    for name, (X, y) in numbers.items():
        yield name, BackpropRegressor, scale(X), scale(y)
    for n_classes in (2, 4):
        X, y = make_classification(600, 10, n_informative=6, n_classes=n_classes, random_state=0)
        yield f"{n_classes} classes", BackpropClassifier, scale(X), y


TASKS = {name: task for name, *task in tasks()}
EPOCHS = {"random_state": 0, "max_iter": 60, "tol": 0.0}
# What is done to X, to y, to the settings; and what mends it.
FAULTS = {
    "X large": (1e3, 1, {}),
    "X small": (1e-2, 1, {}),
    "y large": (1, 1e3, {}),
    "rate high": (1, 1, {"learning_rate_init": 3.0, "n_iter_no_change": 60}),
    "rate low": (1, 1, {"learning_rate_init": 1e-5}),
    "epochs": (1, 1, {"max_iter": 15}),
}


@pytest.mark.long
@pytest.mark.without(lambda fault, task: fault == "y large" and "classes" in task)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("task", TASKS)
def test_advice_names_the_cause(task, fault):
    estimator_class, X, y = TASKS[task]
    of_X, of_y, settings = FAULTS[fault]
    settings = EPOCHS | settings
    y = y if of_y == 1 else of_y * y
    bad, named = fitted(estimator_class(**settings), X * of_X, y)
    assert named == [fault]
    mended = settings | ({"max_iter": 60} if fault == "epochs" else {})
    if fault.startswith("rate"):
        mended["learning_rate_init"] = 1e-2
    if fault == "y large":
        mended["scale_target"] = True
    good, _ = fitted(estimator_class(**mended), X, y)
    assert quality(good, X, y) > quality(bad, X * of_X, y)
    if fault != "epochs":
        twice = settings | {"max_iter": 2 * settings["max_iter"]}
        longer, _ = fitted(estimator_class(**twice), X * of_X, y)
        assert quality(good, X, y) > quality(longer, X * of_X, y)


MORE = {
    "members": {"n_estimators": 3},
    "early stopping": {"early_stopping": True, "n_estimators": 3},
    "float32": {"dtype": "float32"},
    "average": {"average": ExponentialMovingAverage(0.5)},
    "absolute error": {"loss": "absolute_error"},
    "quantiles": {"loss": Quantile([0.1, 0.9])},
}


@pytest.mark.long
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("settings", MORE.values(), ids=MORE)
def test_advice_is_given_once_in_any_kind_of_training(settings, weighted):
    _, X, y = TASKS["linear"]
    limits = {"max_iter": 20, "n_iter_no_change": 20}
    model = BackpropRegressor(**EPOCHS | limits | settings)
    weight = np.repeat([0.0, 1.0], [60, len(y) - 60]) if weighted else None
    X, y = X.copy(), 100 * y
    X[:60] = 1e4  # rows that may weigh nothing
    for data in (X, sparse.csr_array(X)):
        assert fitted(model, data, y, weight)[1] == ["y large" if weighted else "X large"]


def test_neither_targets_of_an_autoencoder_nor_categories_get_advice_on_scale():
    _, X, _ = TASKS["linear"]
    assert fitted(BackpropAutoencoder(5, **EPOCHS), 1e3 * X)[1] == ["X large"]
    codes = np.random.RandomState(0).randint(1000, size=(200, 1)).astype(float)
    settings = {"layers": [CategoricalEmbedding({0: 1000})], "max_iter": 3}
    model = BackpropRegressor(**EPOCHS | settings)
    assert fitted(model, codes, codes[:, 0] / 1000)[1] == ["epochs"]


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha": 1e4},
        {"alpha": 30.0, "hidden_layer_sizes": (300,)},
        {"normalization": "batch"},
        {"dropout": 0.5},
        {"loss": "gaussian"},
        {"loss": "absolute_error", "l1_ratio": 1.0},
        {"layers": [PeriodicEmbedding(4)]},
        {"max_iter": 1},
        {"batch_size": 10},
    ],
    ids=str,
)
def test_advice_is_more_epochs_where_nothing_else_is_wrong(settings):
    _, X, y = TASKS["friedman"]
    _, named = fitted(BackpropRegressor(**EPOCHS | {"max_iter": 20} | settings), X, y)
    assert named == ["epochs"]


# --------------------------------------------------- early stopping by a score that says nothing


def stopped(model, X, y):
    """Return the fitted model, and what is said of its stopping rule."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    assert all(issubclass(w.category, ConvergenceWarning) for w in caught)
    texts = [str(w.message) for w in caught if "stayed near that of constant" in str(w.message)]
    assert len(texts) <= 1
    return model, texts


STOPPING = {"random_state": 0, "early_stopping": True, "max_iter": 1000}


@pytest.mark.long
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"solver": "sgd"},
        {"n_estimators": 3},
        {"early_stopping": EarlyStopping("accuracy")},
        {"early_stopping": EarlyStopping(n_iter_no_change=5)},
        {"label_smoothing": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("n_labels", [12, 20])
def test_warns_of_an_uninformative_score(n_labels, settings):
    X, y = make_multilabel_classification(
        800, 20, n_classes=n_labels, n_labels=n_labels // 3, random_state=0
    )
    X = scale(X)
    bad, texts = stopped(BackpropClassifier(**STOPPING | settings), X[::2], y[::2])
    assert 'EarlyStopping("loss")' in texts[0]
    by_loss = STOPPING | settings | {"early_stopping": EarlyStopping("loss")}
    good, texts = stopped(BackpropClassifier(**by_loss), X[::2], y[::2])
    assert not texts
    assert log_loss_of(good, X[1::2], y[1::2]) < log_loss_of(bad, X[1::2], y[1::2])


def log_loss_of(model, X, y):
    p = np.clip(model.predict_proba(X), 1e-12, 1 - 1e-12)
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))


def test_uninformative_score_advice_names_the_scale():
    X, y = TASKS["friedman"][1:]
    _, (text,) = stopped(BackpropRegressor(**STOPPING), X, 1e7 * y)
    assert WORDS["y large"] in text


@pytest.mark.long
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"solver": "lbfgs"},
        {"early_stopping": EarlyStopping("loss")},
        {"early_stopping": EarlyStopping("roc_auc")},
        {"learning_rate_init": 0.1},
    ],
    ids=str,
)
@pytest.mark.without(lambda case, settings: "one class" in case and "roc" in str(settings))
@pytest.mark.parametrize("case", ["learns", "is perfect", "one class in the rows held out"])
def test_informative_scores_raise_no_warning(case, settings):
    X, y = make_classification(400, 10, n_informative=6, class_sep=2.0, random_state=0)
    X = scale(X)
    if case == "is perfect":
        X = np.column_stack([20.0 * y - 10, X])
    if case == "one class in the rows held out":
        y = np.repeat([0, 1], [398, 2])
    assert not stopped(BackpropClassifier(**STOPPING | settings), X, y)[1]


@pytest.mark.long
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "poisson", "gaussian"])
@pytest.mark.parametrize("seed", range(3))
def test_low_scores_of_noisy_targets_raise_no_warning(loss, seed):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(1500, 5))
    y = rng.poisson(np.exp(0.4 * X[:, 0])).astype(float)
    model = BackpropRegressor(loss=loss, **STOPPING | {"random_state": seed})
    assert not stopped(model, X, y)[1]
    assert model.best_validation_score_ < 0.3


def test_user_validation_rows_are_judged_as_well():
    X, y = make_multilabel_classification(400, 20, n_classes=15, n_labels=5, random_state=0)
    X = scale(X)
    model = BackpropClassifier(**STOPPING)
    with pytest.warns(ConvergenceWarning, match="stayed near that of constant"):
        model.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
