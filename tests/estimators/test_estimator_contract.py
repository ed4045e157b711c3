"""What every estimator of the package does, whatever it is for.

A new estimator enters by a line in ESTIMATORS: how to make a small one, its data, an oracle for
its answers, a parameter that is refused, and the checks of scikit-learn that it does not pass.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise, product
from unittest import SkipTest

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from scipy.special import softmax
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropHalvingRandomSearchCV,
    BackpropRandomizedSearchCV,
    BackpropRegressor,
    ConformalClassifier,
    ConformalRegressor,
    TabularClassifier,
    TabularRegressor,
)
from skbackprop.dask import (
    DaskBackpropClassifier,
    DaskBackpropRegressor,
    DaskTabularClassifier,
    DaskTabularRegressor,
)
from skbackprop.inspection import BackpropFeatures
from skbackprop.losses import Quantile
from skbackprop.tabular import PeriodicFeatures, PiecewiseLinearEncoder, TableEncoder
from support import (
    NAMES,
    N,
    answers,
    changed,
    class_data,
    deep_copied,
    few_epochs,
    for_check,
    label_data,
    memory_mapped,
    pickled,
    quick,
    safely_saved,
    same_values,
    value_data,
)

pytestmark = [
    few_epochs,
    pytest.mark.filterwarnings("ignore:A column-vector y"),
    pytest.mark.filterwarnings("ignore:y contains only the class"),
    pytest.mark.usefixtures("one_blas_thread"),
]

CLASSES, WORDS = class_data(N), np.array(["red", "green", "blue"])
VALUES = value_data(N)
TWO_VALUES = value_data(N, n_outputs=2)
GRID = {"alpha": [1e-4, 1e-2]}


@dataclass(frozen=True)
class Case:
    """An estimator of the contract, with its data and what its answers are compared with."""

    make: Callable
    data: tuple
    oracle: Callable
    wrong: tuple  # the name of a parameter, and a value that is refused
    settings: dict = field(default_factory=dict)
    failing: frozenset = frozenset()  # scikit-learn's checks that it does not pass
    is_slow: bool = False

    def new(self, **changes):
        return self.make(**self.settings | changes)


# -------------------------------------------------------------------------------- the oracles


def forward(model, X, n_layers=None):
    """Return the output of a network with relu, written out."""
    for i, (W, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        X = X @ W + b
        if i == n_layers:
            return np.maximum(X, 0)
        X = np.maximum(X, 0) if i < len(model.coefs_) - 1 else X
    return X


def has_classes_by_hand(model, X):
    scores = forward(model, X)
    np.testing.assert_allclose(model.predict_proba(X), softmax(scores, axis=1))
    np.testing.assert_array_equal(model.predict(X), model.classes_[scores.argmax(axis=1)])


def has_margins_by_hand(model, X):
    np.testing.assert_allclose(model.decision_function(X), forward(model, X))
    assert not hasattr(model, "predict_proba")


def has_indicators_by_hand(model, X):
    np.testing.assert_array_equal(model.predict(X), forward(model, X) > 0)


def has_values_by_hand(model, X):
    expected = forward(model, X)
    actual = model.predict(X)
    np.testing.assert_allclose(actual.reshape(expected.shape), expected)


def has_the_mean_of_its_members(model, X):
    method = "predict_proba" if hasattr(model, "classes_") else "predict"
    each = [getattr(one, method)(X) for one in model.estimators_]
    np.testing.assert_allclose(getattr(model, method)(X), np.mean(each, axis=0))


def has_reconstructions_by_hand(model, X):
    hidden = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0)
    codes = hidden @ model.coefs_[1] + model.intercepts_[1]
    np.testing.assert_allclose(model.transform(X), codes)
    hidden = np.maximum(codes @ model.coefs_[2] + model.intercepts_[2], 0)
    rows = hidden @ model.coefs_[3] + model.intercepts_[3]
    np.testing.assert_allclose(model.inverse_transform(codes), rows)
    np.testing.assert_allclose(model.score_samples(X), -np.square(rows - X).mean(axis=1))


def has_features_by_hand(model, X):
    np.testing.assert_allclose(model.transform(X), forward(model.estimator_, X, n_layers=0))


def predicts_as_its_estimator(model, X):
    inner = getattr(model, "best_estimator_", None) or model.estimator_
    np.testing.assert_array_equal(model.predict(X), inner.predict(X))


def predicts_out_of_fold(model, X):
    assert np.isfinite(model.oof_score_)
    assert len(model.predict(X)) == len(X)


def has_finite_outputs(model, X):
    assert np.isfinite(model.transform(X)).all()
    assert model.transform(X).shape == (len(X), len(model.get_feature_names_out()))


# ---------------------------------------------------------------------------------- the table


def network(kind, oracle, data, wrong=("max_iter", -1), **settings):
    return Case(lambda **changes: quick(kind, **changes), data, oracle, wrong, settings)


def search(kind, network_kind, data, **settings):
    return Case(
        lambda **changes: kind(quick(network_kind), **changes),
        data,
        predicts_as_its_estimator,
        ("error_score", "often"),
        {"cv": 2, "error_score": "raise"} | settings,
        is_slow=True,
    )


def tabular(kind, data):
    # Folds are drawn at random, so that rows removed or repeated lie otherwise.
    take_weights = {
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weight_equivalence_on_sparse_data",
    }
    settings = {"n_estimators": 2, "max_iter": 2, "random_state": 0}
    wrong = "n_estimators", 1
    return Case(
        kind, data, predicts_out_of_fold, wrong, settings, frozenset(take_weights), is_slow=True
    )


HALVING = {"min_resources": 1, "max_resources": 4, "factor": 2, "random_state": 0}
NETWORKS = {
    "classifier": network(BackpropClassifier, has_classes_by_hand, (CLASSES[0], WORDS[CLASSES[1]])),
    "classifier of margins": network(
        BackpropClassifier, has_margins_by_hand, CLASSES, loss="hinge"
    ),
    "classifier of indicators": network(BackpropClassifier, has_indicators_by_hand, label_data(N)),
    "classifiers": network(
        *(BackpropClassifier, has_the_mean_of_its_members, CLASSES, ("n_estimators", 0)),
        n_estimators=2,
    ),
    "regressor": network(BackpropRegressor, has_values_by_hand, VALUES),
    "regressor of several": network(BackpropRegressor, has_values_by_hand, TWO_VALUES),
    "regressor of quantiles": network(
        BackpropRegressor, has_values_by_hand, VALUES, loss=Quantile([0.5])
    ),
    "regressors": network(
        *(BackpropRegressor, has_the_mean_of_its_members, VALUES, ("n_estimators", 1.5)),
        n_estimators=2,
    ),
    "autoencoder": network(BackpropAutoencoder, has_reconstructions_by_hand, (VALUES[0], None)),
}
ESTIMATORS = NETWORKS | {
    "features": Case(
        lambda **changes: BackpropFeatures(quick(BackpropClassifier), **changes),
        CLASSES,
        has_features_by_hand,
        ("layer", "first"),
    ),
    "conformal": Case(
        lambda **changes: ConformalRegressor(quick(BackpropRegressor), **changes),
        VALUES,
        predicts_as_its_estimator,
        ("coverage", -1),
        {"random_state": 0},
    ),
    "conformal sets": Case(
        lambda **changes: ConformalClassifier(quick(BackpropClassifier), **changes),
        (CLASSES[0], WORDS[CLASSES[1]]),
        has_the_mean_of_its_members,
        ("coverage", -1),
    ),
    "tabular classifier": tabular(TabularClassifier, (CLASSES[0], WORDS[CLASSES[1]])),
    "tabular regressor": tabular(TabularRegressor, VALUES),
    "table encoder": Case(TableEncoder, (CLASSES[0], None), has_finite_outputs, ("encoding", "a")),
    "piecewise-linear encoder": Case(
        PiecewiseLinearEncoder, (CLASSES[0], None), has_finite_outputs, ("n_bins", 0)
    ),
    "periodic features": Case(
        PeriodicFeatures,
        (CLASSES[0], None),
        has_finite_outputs,
        ("n_frequencies", 0),
        {"random_state": 0},
    ),
    "grid search": search(BackpropGridSearchCV, BackpropClassifier, CLASSES, param_grid=GRID),
    "random search": search(
        *(BackpropRandomizedSearchCV, BackpropRegressor, VALUES),
        param_distributions=GRID,
        n_iter=2,
        random_state=0,
    ),
    "halving search": search(
        *(BackpropHalvingGridSearchCV, BackpropClassifier, CLASSES), param_grid=GRID, **HALVING
    ),
    "random halving search": search(
        *(BackpropHalvingRandomSearchCV, BackpropRegressor, VALUES),
        param_distributions=GRID,
        n_candidates=2,
        **HALVING,
    ),
}


OTHERS = [name for name in ESTIMATORS if name not in NETWORKS]


def over(table, is_one=lambda case: True):
    """Parametrize a test by the cases of a table for which `is_one` is true."""
    cases = {name: case for name, case in table.items() if is_one(case)}
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


every_estimator = over(ESTIMATORS)


def fitted(case, X=None, **changes):
    return case.new(**changes).fit(case.data[0] if X is None else X, case.data[1])


# ----------------------------------------------------------------- parameters, copies and texts


@pytest.mark.parametrize(
    "estimator",
    [
        *(case.new() for case in ESTIMATORS.values()),
        *map(quick, (DaskBackpropClassifier, DaskBackpropRegressor)),
        *(DaskTabularClassifier(), DaskTabularRegressor()),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_parameters_are_those_of_the_constructor(estimator):
    parameters = estimator.get_params(deep=False)
    assert parameters.keys() == inspect.signature(type(estimator)).parameters.keys()
    assert estimator.set_params(**parameters) is estimator
    with pytest.raises(ValueError, match="Invalid parameter 'droppout'"):
        estimator.set_params(droppout=0.5)
    copied = clone(estimator)
    assert str(copied.get_params(deep=False)) == str(parameters)
    assert repr(copied) == repr(estimator)
    assert not any(name.endswith("_") for name in vars(copied))


@every_estimator
def test_answers_are_those_of_the_oracle(case):
    case.oracle(fitted(case), case.data[0])


@every_estimator
def test_a_clone_keeps_nothing_of_the_fit_and_repeats_it(case):
    estimator = fitted(case)
    copied = clone(estimator)
    assert not any(name.endswith("_") for name in vars(copied))
    assert same_values(
        answers(copied.fit(*case.data), case.data[0]), answers(estimator, case.data[0])
    )


@pytest.mark.parametrize(
    "name, copy",
    [
        *product(NETWORKS, [pickled, deep_copied, memory_mapped, safely_saved]),
        *product(OTHERS, [pickled, safely_saved]),
    ],
)
def test_copies_answer_the_same(name, copy, tmp_path):
    case = ESTIMATORS[name]
    X, estimator = case.data[0], fitted(case)
    copied = copy(estimator, tmp_path)
    assert same_values(answers(copied, X), answers(estimator, X))
    refitted = copied.fit(*case.data)
    assert same_values(answers(refitted, X), answers(estimator, X))


# -------------------------------------------------------------------------------- names of columns

FRAMES = {
    "pandas": lambda X, names: pd.DataFrame(X, columns=names),
    "polars": lambda X, names: pl.DataFrame(np.ascontiguousarray(X), schema=names),
}


@pytest.mark.parametrize("name, frame", [*product(NETWORKS, FRAMES), *product(OTHERS, ["pandas"])])
def test_feature_names_are_kept_and_checked(name, frame):
    case, frame = ESTIMATORS[name], FRAMES[frame]
    X = case.data[0]
    estimator = fitted(case, frame(X, NAMES))
    assert list(estimator.feature_names_in_) == NAMES
    assert estimator.feature_names_in_.dtype == object
    method = getattr(estimator, "predict", getattr(estimator, "transform", None))
    expected = method(frame(X, NAMES))
    assert same_values(answers(estimator, frame(X, NAMES)), answers(fitted(case), X))
    for other in (["height", "width", "depth", "color"], NAMES[::-1]):
        with pytest.raises(ValueError, match="feature names should match"):
            method(frame(X, other))
        if hasattr(estimator, "partial_fit"):
            with pytest.raises(ValueError, match="feature names should match"):
                estimator.partial_fit(frame(X, other), case.data[1])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        assert same_values(method(X), expected)
    with pytest.warns(UserWarning, match="X has feature names, but .* was fitted without"):
        unnamed = fitted(case)
        getattr(unnamed, method.__name__)(frame(X, NAMES))


@every_estimator
def test_numbers_as_names_of_columns_are_no_feature_names(case):
    frame = pd.DataFrame(case.data[0])
    assert not hasattr(fitted(case, frame), "feature_names_in_")
    named = fitted(case, pd.DataFrame(case.data[0], columns=NAMES))
    assert not hasattr(named.fit(*case.data), "feature_names_in_")  # the last fit counts


# ----------------------------------------------------------------- the same numbers, otherwise held


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def with_64_bit_indices(X):
    X = sparse.csr_array(X)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def coo_with_duplicates(X):
    """Every entry as two halves, in no order: a sum that COO leaves to be done."""
    X = sparse.coo_array(X)
    order = np.random.RandomState(0).permutation(2 * X.nnz)
    row, column = (np.tile(index, 2)[order] for index in X.coords)
    return sparse.coo_array((np.tile(X.data / 2, 2)[order], (row, column)), shape=X.shape)


def unsorted_csr(X):
    X = sparse.csr_array(X)
    rows = pairwise(X.indptr)
    reverse = np.concatenate([np.arange(stop - 1, start - 1, -1) for start, stop in rows])
    return sparse.csr_array((X.data[reverse], X.indices[reverse], X.indptr), shape=X.shape)


CONTAINERS = {
    "read-only": read_only,
    "Fortran": np.asfortranarray,
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "every second column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "backwards": lambda X: X[::-1].copy()[::-1],
    "byte-swapped": lambda X: X.astype(X.dtype.newbyteorder()),
    "objects": lambda X: X.astype(object),
    "list": lambda X: X.tolist(),
    "tuples": lambda X: tuple(map(tuple, X.tolist())),
    "long double": lambda X: X.astype(np.longdouble),
    "pandas": pd.DataFrame,
    "nullable pandas": lambda X: pd.DataFrame(X).astype("Float64"),
    "csr": sparse.csr_array,
    "csr matrix": sparse.csr_matrix,
    "csc": sparse.csc_array,
    "coo": sparse.coo_array,
    "lil": sparse.lil_array,
    "dok": sparse.dok_array,
    "bsr": sparse.bsr_array,
    "64-bit indices": with_64_bit_indices,
    "unsorted csr": unsorted_csr,
    "coo with duplicates": coo_with_duplicates,
}


@pytest.mark.parametrize(
    "name, container",
    [
        *product(["classifier", "regressor", "autoencoder"], CONTAINERS),
        *product(
            [name for name in OTHERS if "search" not in name],
            ["Fortran", "byte-swapped", "list", "nullable pandas", "csr"],
        ),
    ],
)
def test_the_container_of_x_does_not_matter(name, container):
    case = ESTIMATORS[name]
    X = np.where(case.data[0] < -0.5, 0, case.data[0])  # so that sparse X leaves something out
    held = CONTAINERS[container](X)
    tags = get_tags(case.new()).input_tags
    if sparse.issparse(held) and tags.categorical:
        return  # a table of many zeros is not centered
    if sparse.issparse(held) and not tags.sparse:
        with pytest.raises((TypeError, ValueError), match="[Ss]parse"):
            fitted(case, held)
        return
    models = [fitted(case, rows) for rows in (held, X)]
    if hasattr(models[0], "partial_fit"):
        for model, rows in zip(models, (held, X), strict=True):
            model.partial_fit(rows, case.data[1])
    actual, expected = answers(models[0], held), answers(models[1], X)
    for answer, reference in zip(actual, expected, strict=True):
        if np.asarray(reference).dtype.kind == "f":
            np.testing.assert_allclose(answer, reference, rtol=1e-9, atol=1e-11)
        else:
            np.testing.assert_array_equal(answer, reference)


# ----------------------------------------------------------------------------- what is refused


WRONG_INPUT = {
    "one dimension": (lambda X: X[:, 0], "Expected 2D|2-D|2D array"),
    "three dimensions": (lambda X: X[None], r"dim 3|3 dim|2D|2-D|inconsistent"),
    "no rows": (lambda X: X[:0], r"0 sample\(s\)|no rows|inconsistent|n_samples=0"),
    "no features": (lambda X: X[:, :0], r"0 feature\(s\)|no columns"),
    "complex": (lambda X: X + 1j, "Complex data not supported|complex"),
    "infinity": (lambda X: changed(X, (3, 1), np.inf), "infinity"),
    "not a number": (lambda X: changed(X, (3, 1), np.nan), "NaN"),
    "not a number, in a frame": (lambda X: pd.DataFrame(changed(X, (3, 1), np.nan)), "NaN"),
    "not a number, sparse": (
        lambda X: sparse.csr_array(changed(X, (3, 1), np.nan)),
        "NaN|[Ss]parse",
    ),
    "words": (lambda X: np.full(X.shape, "red", dtype=object), "could not convert string"),
}


@pytest.mark.parametrize(
    "name, kind",
    [
        *product((name for name, case in ESTIMATORS.items() if not case.is_slow), WRONG_INPUT),
        *((name, "infinity") for name, case in ESTIMATORS.items() if case.is_slow),
    ],
)
def test_wrong_input_is_an_error_and_leaves_what_was_learned(name, kind):
    case = ESTIMATORS[name]
    make, message = WRONG_INPUT[kind]
    tags = get_tags(case.new()).input_tags
    if (kind.startswith("not a number") and tags.allow_nan) or (
        kind == "words" and tags.categorical
    ):
        return
    (X, y), estimator = case.data, fitted(case)
    expected = answers(estimator, X)
    y = y[:0] if kind == "no rows" and y is not None else y
    unfitted = case.new()
    calls = [estimator.fit, unfitted.fit]
    calls += [estimator.partial_fit] if hasattr(estimator, "partial_fit") else []
    for call in calls:
        with pytest.raises((ValueError, TypeError), match=message):
            call(make(X), y)
    assert same_values(answers(estimator, X), expected)
    assert vars(unfitted).keys() == vars(case.new()).keys()
    for name in ("predict", "transform"):
        if hasattr(estimator, name):
            with pytest.raises((ValueError, TypeError), match=message):
                getattr(estimator, name)(make(X))


@every_estimator
def test_a_wrong_parameter_is_named_and_leaves_what_was_learned(case):
    (X, y), (name, value) = case.data, case.wrong
    with pytest.raises(ValueError, match=name):
        case.new(**{name: value}).fit(X, y)
    estimator = fitted(case)
    expected = answers(estimator, X)
    with pytest.raises(ValueError, match=name):
        estimator.set_params(**{name: value}).fit(X, y)
    estimator.set_params(**{name: case.new().get_params()[name]})
    assert same_values(answers(estimator, X), expected)


# ------------------------------------------------------------------------- scikit-learn's checks

SMALL = {"hidden_layer_sizes": 20, "learning_rate_init": 0.01, "max_iter": 100, "random_state": 0}
TWO = {"cv": 2, "error_score": "raise"}
CHECKED = {
    "features of a classifier": BackpropFeatures(quick(BackpropClassifier, max_iter=20)),
    "conformal, linear": ConformalRegressor(LinearRegression(), random_state=0),
    "conformal, networks": ConformalRegressor(
        BackpropRegressor(n_estimators=2, **SMALL), random_state=0
    ),
    "conformal, quantiles": ConformalRegressor(
        BackpropRegressor(loss=Quantile([0.05, 0.5, 0.95]), **SMALL), random_state=0
    ),
    "conformal sets, linear": ConformalClassifier(LogisticRegression()),
    "conformal sets, networks": ConformalClassifier(BackpropClassifier(**SMALL), cv=2),
    "tabular classifier": TabularClassifier(n_estimators=2, max_iter=15),
    "tabular regressor": TabularRegressor(n_estimators=2, max_iter=15),
    "table encoder": TableEncoder(),
    "table encoder, ordinal": TableEncoder(
        categorical_features=[0], encoding="ordinal", min_frequency=1
    ),
    "piecewise-linear encoder": PiecewiseLinearEncoder(),
    "periodic features": PeriodicFeatures(),
    "grid search": BackpropGridSearchCV(BackpropClassifier(**SMALL), GRID, **TWO),
    "random halving search": BackpropHalvingRandomSearchCV(
        *(BackpropRegressor(**SMALL), GRID),
        n_candidates=2,
        min_resources="exhaust",
        random_state=0,
        factor=2,
        **TWO,
    ),
}


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKED)
def test_it_passes_the_checks_of_scikit_learn(name):
    """Networks, in many configurations, are in test_estimator_checks.py."""
    failed, case = set(), ESTIMATORS.get(name)
    for estimator, check in estimator_checks_generator(CHECKED[name]):
        if check.func.__name__ == "check_array_api_input":  # which skips itself
            continue
        np.random.seed(0)
        try:
            check(for_check(estimator, check, n_epochs=3))
        except (AssertionError, SkipTest) as error:
            if case is None or check.func.__name__ not in case.failing:
                raise AssertionError(f"{check} failed") from error
            failed.add(check.func.__name__)
    assert failed == (case.failing if case else set())
