"""A fit that fails changes nothing, and one that works leaves the user's arrays alone.

For many reasons to fail: the estimator keeps what it had learned before, an unfitted one stays
unfitted, and training that goes on afterwards does so as if nothing had happened.
"""

import copy

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError

from skbackprop import BackpropClassifier, BackpropRegressor
from support import (
    BOTH,
    NAMES,
    SOLVERS,
    D,
    N,
    answers,
    changed,
    data_for,
    few_epochs,
    quick,
    same_bits,
    same_values,
)

pytestmark = few_epochs


def failures(estimator_class):
    """Return what makes a fit fail: changed parameters, X, y and weight, by name.

    X has another number of features and other names, and y other classes, wherever that is not
    the reason itself: what is learned before the fault shows must be undone as well.
    """
    rng = np.random.RandomState(1)
    X = pd.DataFrame(rng.randn(30, 6), columns=list("uvwxyz"))
    y = rng.randint(5, size=30)
    diverging = {"learning_rate_init": 1e200, "activation": "identity", "solver": "sgd"}
    diverging |= {"max_iter": 50}
    cases = {
        "NaN in X": ({}, X.where(X < 1), y, None),
        "infinity in X": ({}, X.where(X < 1, np.inf), y, None),
        "complex X": ({}, X + 1j, y, None),
        "words for X": ({}, X.astype(str) + "!", y, None),
        "no rows": ({}, X[:0], y[:0], None),
        "1-D X": ({}, X["u"].to_numpy(), y, None),
        "NaN in y": ({}, X, changed(y, 3, np.nan, dtype=float), None),
        "y too short": ({}, X, y[:-1], None),
        "y too long": ({}, X, np.append(y, 1), None),
        "y of three dimensions": ({}, X, np.zeros((30, 2, 2)), None),
        "no y": ({}, X, None, None),
        "NaN in weight": ({}, X, y, np.full(30, np.nan)),
        "negative weight": ({}, X, y, changed(np.ones(30), 3, -1)),
        "zero weights": ({}, X, y, np.zeros(30)),
        "weight too short": ({}, X, y, np.ones(29)),
        "2-D weight": ({}, X, y, np.ones((30, 2))),
        "wrong alpha": ({"alpha": -1}, X, y, None),
        "wrong solver": ({"solver": "newton"}, X, y, None),
        "wrong widths": ({"hidden_layer_sizes": (3, 0)}, X, y, None),
        "wrong init": ({"init": ([], [])}, X, y, None),
        "too few rows to hold out": ({"early_stopping": True}, X[:2], y[:2], None),
        "divergence": (diverging, X, y, None),
        "X out of range": ({"dtype": "float32"}, 1e39 * X, y, None),
    }
    if estimator_class is BackpropClassifier:
        cases["continuous y"] = ({}, X, rng.randn(30), None)
        cases["a column of y that is continuous"] = ({}, X, np.c_[y, rng.randn(30)], None)
    else:
        cases["words for y"] = ({}, X, np.full(30, "cat"), None)
        cases["negative counts"] = ({"loss": "poisson"}, X, y - 3, None)
    return cases


FAILURES = [
    pytest.param(estimator_class, case, id=f"{estimator_class.__name__}, {case}")
    for estimator_class in (BackpropClassifier, BackpropRegressor)
    for case in failures(estimator_class)
]


@pytest.mark.parametrize("estimator_class, case", FAILURES)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_failing_fit_keeps_the_fitted_attributes(estimator_class, case, early_stopping):
    X, y = data_for(estimator_class)
    frame = pd.DataFrame(X, columns=NAMES)
    model = quick(estimator_class, early_stopping=early_stopping).fit(frame, y)
    kept, before = dict(vars(model)), copy.deepcopy(model)

    parameters, bad_X, bad_y, bad_weight = failures(estimator_class)[case]
    model.set_params(early_stopping=False).set_params(**parameters)
    with pytest.raises((ValueError, TypeError)):
        model.fit(bad_X, bad_y, bad_weight)
    model.set_params(**before.get_params())

    assert vars(model).keys() == kept.keys()
    for name in kept.keys() - model.get_params().keys():
        found = vars(model)[name]
        assert found is kept[name] or np.array_equal(found, kept[name]), name
    assert same_bits(model, before)
    assert same_values(answers(model, frame), answers(before, frame))
    model.partial_fit(frame, y)  # training may go on


@pytest.mark.parametrize("estimator_class, case", FAILURES)
def test_failing_first_fit_leaves_the_estimator_unfitted(estimator_class, case):
    parameters, bad_X, bad_y, bad_weight = failures(estimator_class)[case]
    model = quick(estimator_class).set_params(**parameters)
    with pytest.raises((ValueError, TypeError)):
        model.fit(bad_X, bad_y, bad_weight)
    assert vars(model).keys() == model.get_params().keys()
    with pytest.raises(NotFittedError):
        model.predict(np.zeros((1, D)))


GOING_ON = {
    "NaN in X": lambda X, y: (changed(X, (3, 1), np.nan), y, None),
    "too many features": lambda X, y: (pd.DataFrame(X, columns=NAMES).assign(age=1), y, None),
    "other names": lambda X, y: (pd.DataFrame(X, columns=NAMES[::-1]), y, None),
    "NaN in y": lambda X, y: (X, changed(y, 3, np.nan, dtype=float), None),
    "more outputs": lambda X, y: (X, np.c_[y, y, y + 7, y + 8], None),
    "y too short": lambda X, y: (X, y[:-1], None),
    "negative weight": lambda X, y: (X, y, changed(np.ones(N), 3, -1)),
    "zero weights": lambda X, y: (X, y, np.zeros(N)),
    "divergence": lambda X, y: (X, y, None),
}


@BOTH
@pytest.mark.parametrize("case", ["divergence", "NaN in X", "too few rows to hold out"])
@pytest.mark.parametrize("n_estimators", [1, 2])
def test_failing_fit_resets_the_global_random_stream(estimator_class, n_estimators, case):
    """It is what an estimator without a seed draws from."""
    changes, X, y, weight = failures(estimator_class)[case]
    model = quick(estimator_class, random_state=None, n_estimators=n_estimators).set_params(
        **changes
    )
    before = np.random.get_state(legacy=False)
    with pytest.raises(ValueError):  # noqa: PT011 - the messages are tested below
        model.fit(X, y, weight)
    np.testing.assert_equal(np.random.get_state(legacy=False), before)


@BOTH
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("method", ["partial_fit", "warm fit"])
@pytest.mark.parametrize("case", GOING_ON)
def test_failing_further_training_keeps_attributes(estimator_class, solver, method, case):
    """The twin never saw the failure; both go on to the very same weights."""
    X, y = data_for(estimator_class)
    frame = pd.DataFrame(X, columns=NAMES)
    settings = {"solver": solver, "activation": "identity", "warm_start": method == "warm fit"}
    model, twin = (quick(estimator_class, **settings).fit(frame, y) for _ in range(2))
    go_on = "partial_fit" if method == "partial_fit" else "fit"

    bad_X, bad_y, bad_weight = GOING_ON[case](X, y)
    if isinstance(bad_X, np.ndarray):
        bad_X = pd.DataFrame(bad_X, columns=NAMES)
    if case == "divergence":
        model.set_params(learning_rate_init=1e200, max_iter=50)
    reached = []

    def go_on_until_it_fails():
        for _ in range(50 if case == "divergence" else 1):
            reached[:] = [array.copy() for array in model.coefs_]
            getattr(model, go_on)(bad_X, bad_y, bad_weight)

    with pytest.raises(ValueError):  # noqa: PT011 - the messages are tested above
        go_on_until_it_fails()
    assert same_values(model.coefs_, reached)
    assert all(np.isfinite(array).all() for array in model.coefs_)
    if case == "divergence" and method == "partial_fit":
        return  # calls before the one that failed have done their epochs

    model.set_params(**twin.get_params())
    for _ in range(3):
        getattr(model, go_on)(frame, y)
        getattr(twin, go_on)(frame, y)
    assert same_bits(model, twin)
    assert (model.t_, model.n_iter_) == (twin.t_, twin.n_iter_)


@BOTH
@SOLVERS
@pytest.mark.parametrize("as_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_of_the_user_are_never_changed(estimator_class, solver, as_sparse, dtype):
    X, y = data_for(estimator_class)
    X = sparse.csr_array(X.astype(dtype)) if as_sparse else X.astype(dtype)
    y = y.astype(dtype) if estimator_class is BackpropRegressor else y
    weight = (np.arange(N) % 3).astype(dtype)
    k = 3 if estimator_class is BackpropClassifier else 1
    rng = np.random.RandomState(0)
    coefs = [rng.randn(D, 5).astype(dtype), rng.randn(5, k).astype(dtype)]
    intercepts = [rng.randn(5).astype(dtype), rng.randn(k).astype(dtype)]
    passed = [X.data, X.indices, X.indptr] if as_sparse else [X]
    passed += [y, weight, *coefs, *intercepts]
    copies = [array.copy() for array in passed]

    for early_stopping in (False, True):
        model = quick(
            estimator_class, solver=solver, init=(coefs, intercepts), early_stopping=early_stopping
        )
        model.fit(X, y, sample_weight=weight)
        model.predict(X)
        model.score(X, y, sample_weight=weight)
        if solver != "lbfgs":
            model.partial_fit(X, y, weight)
        assert same_values(passed, copies)
        for learned in model.coefs_ + model.intercepts_:
            assert not any(np.shares_memory(learned, array) for array in passed)


@BOTH
def test_predictions_are_not_shared_between_calls(estimator_class):
    """Overwriting a result changes neither the model nor the next result."""
    X, y = data_for(estimator_class)
    model = quick(estimator_class, hidden_layer_sizes=()).fit(X, y)
    for first, second in zip(answers(model, X), answers(model, X), strict=True):
        expected = second.copy()
        first[...] = 0
        assert np.array_equal(second, expected)
    assert np.array_equal(answers(model, X)[0], answers(model, X.copy())[0])
