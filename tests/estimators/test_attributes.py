"""Fitted attributes, their dtypes, and the lines that `verbose` prints: as scikit-learn does it."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skbackprop import BackpropClassifier, BackpropRegressor
from support import (
    BOTH,
    NAMES,
    PAIRS,
    N,
    answers,
    class_data,
    classes_for,
    data_for,
    few_epochs,
    label_data,
    pairs,
    quick,
    value_data,
)

pytestmark = few_epochs

# ---------------------------------------------------------------------------------- dtype


DTYPES = [  # of X, the parameter, and that of the model
    ("float32", None, "float32"),
    ("float64", None, "float64"),
    ("int32", None, "float64"),
    ("float64", "float32", "float32"),
    ("float32", "float64", "float64"),
    ("int32", "float32", "float32"),
]


@pytest.mark.parametrize(
    "estimator_class, solver, as_sparse, dtypes",
    pairs([BackpropClassifier, BackpropRegressor], ["sgd", "adam", "lbfgs"], [False, True], DTYPES),
)
def test_dtype_of_the_model(estimator_class, solver, as_sparse, dtypes):
    dtype_of_X, setting, expected = dtypes
    X, y = data_for(estimator_class)
    X = (10 * X).astype(dtype_of_X)
    X = sparse.csr_array(X) if as_sparse else X
    for early_stopping in (False, True):
        model = quick(estimator_class, solver=solver, dtype=setting, early_stopping=early_stopping)
        model.fit(X, y)
        for other in ("float32", "float64"):  # a model keeps its dtype whatever it is asked
            for answer in answers(model, X.astype(other)):
                assert answer.dtype == expected or answer.dtype.kind == "i"
        if solver != "lbfgs":
            model.partial_fit(X.astype("float64"), y)
        assert {array.dtype for array in model.coefs_ + model.intercepts_} == {np.dtype(expected)}
    assert model.dtype is setting


# ----------------------------------------------------------------------------- attributes


def kind_of(value):
    """Return what a user can tell of a value: its kind, its length or shape, its dtype or type."""
    if isinstance(value, np.ndarray):
        return "array", value.shape, value.dtype
    if isinstance(value, list):
        return "list", [kind_of(item) for item in value]
    if isinstance(value, (bool, np.bool_)) or value is None or isinstance(value, str):
        return type(value).__name__, value
    return "int" if isinstance(value, (int, np.integer)) else type(value)


ATTRIBUTES = [
    *("loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_"),
    *("coefs_", "intercepts_", "n_layers_", "n_outputs_", "out_activation_", "n_iter_", "t_"),
    *("n_features_in_", "feature_names_in_", "classes_"),
]


@pytest.mark.parametrize(
    "kinds, solver, early_stopping, n_targets",
    pairs(
        [(BackpropClassifier, MLPClassifier), (BackpropRegressor, MLPRegressor)],
        *(["sgd", "adam", "lbfgs"], [False, True], [1, 2, 3]),
    ),
)
def test_attributes_are_scikit_learns(kinds, solver, early_stopping, n_targets):
    ours, theirs = kinds
    if ours is BackpropRegressor:
        X, y = value_data(N, n_outputs=n_targets)
    else:
        X, y = label_data(N) if n_targets == 1 else class_data(N, n_classes=n_targets)
    frame = pd.DataFrame(X, columns=NAMES)
    settings = {"solver": solver, "early_stopping": early_stopping, "max_iter": 3}
    model = quick(ours, **settings).fit(frame, y)
    reference = quick(theirs, **settings).fit(frame, y)
    for name in ATTRIBUTES:
        if hasattr(reference, name):
            assert kind_of(getattr(model, name)) == kind_of(getattr(reference, name)), name
    assert hasattr(model, "classes_") == (ours is BackpropClassifier)
    # L-BFGS leaves these out in scikit-learn; here every solver has them.
    assert len(model.loss_curve_) == model.n_iter_
    assert 1 <= model.best_iter_ <= model.n_iter_
    if early_stopping:
        assert model.best_loss_ is None
        assert len(model.validation_scores_) == model.n_iter_
        assert model.best_validation_score_ == max(model.validation_scores_)
        assert model.validation_scores_[model.best_iter_ - 1] == model.best_validation_score_
    else:
        assert model.validation_scores_ is None
        assert model.best_validation_score_ is None
        assert model.best_loss_ == min(model.loss_curve_)


# -------------------------------------------------------------------------------- verbose


def printed_by(model, X, y, capsys, method="fit", **arguments):
    getattr(model, method)(X, y, **arguments)
    return capsys.readouterr().out.splitlines()


TALKATIVE = {
    "adam": {"max_iter": 5},
    "adam, minibatches": {"max_iter": 5, "batch_size": 7},
    "sgd": {"solver": "sgd", "max_iter": 5},
    "stops": {"tol": 10.0, "n_iter_no_change": 2, "max_iter": 20},
}
TALKATIVE["adaptive"] = TALKATIVE["stops"] | {"solver": "sgd", "learning_rate": "adaptive"}
TALKATIVE["adaptive"] |= {"learning_rate_init": 0.01, "max_iter": 40}


@PAIRS
@pytest.mark.parametrize("case", TALKATIVE)
def test_verbose_prints_scikit_learns_lines(ours, theirs, case, capsys):
    X, y = data_for(ours)
    settings = TALKATIVE[case] | {"verbose": 10}
    expected = printed_by(quick(theirs, **settings), X, y, capsys)
    assert printed_by(quick(ours, **settings), X, y, capsys) == expected
    assert expected[0].startswith("Iteration 1, loss = ")


@pytest.mark.parametrize("patience, n_lines", [(10, 10), (2, 9)], ids=["to the end", "stops"])
def test_verbose_prints_scikit_learns_scores(patience, n_lines, capsys):
    """For a regressor and two classes, where both hold out the same rows."""
    X, y = class_data(N, n_classes=2)
    settings = {"early_stopping": True, "tol": 10, "n_iter_no_change": patience, "verbose": True}
    for ours, theirs in ((BackpropClassifier, MLPClassifier), (BackpropRegressor, MLPRegressor)):
        expected = printed_by(quick(theirs, **settings), X, y, capsys)
        assert printed_by(quick(ours, **settings), X, y, capsys) == expected
        assert len(expected) == n_lines
        assert expected[1].startswith("Validation score: ")


@BOTH
def test_verbose_lbfgs_prints_each_iteration(estimator_class, capsys):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, solver="lbfgs", verbose=True)
    lines = printed_by(model, X, y, capsys)
    assert lines == [
        f"Iteration {k}, loss = {loss:.8f}" for k, loss in enumerate(model.loss_curve_, start=1)
    ]


@PAIRS
def test_verbose_partial_fit(ours, theirs, capsys):
    X, y = data_for(ours)
    model, reference = quick(ours, verbose=True), quick(theirs, verbose=True)
    for _ in range(3):
        arguments = classes_for(ours)
        line = printed_by(model, X, y, capsys, "partial_fit", **arguments)
        expected = printed_by(reference, X, y, capsys, "partial_fit", **arguments)
        assert [text.split("=")[0] for text in line] == [text.split("=")[0] for text in expected]
