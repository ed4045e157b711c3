"""What several test files share: small data, and the comparison of networks and of searches."""

import copy
import multiprocessing
import pickle
import re
import tracemalloc
import warnings
import zlib
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import combinations, pairwise, product
from math import factorial

import joblib
import numpy as np
import pytest
from allpairspy import AllPairs
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.nn.train_state import TrainState
from skbackprop.persistence import load, save

BOTH = pytest.mark.parametrize("estimator_class", [BackpropClassifier, BackpropRegressor])
SOLVERS = pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
PAIRS = pytest.mark.parametrize(
    "ours, theirs",
    [(BackpropClassifier, MLPClassifier), (BackpropRegressor, MLPRegressor)],
    ids=["classifier", "regressor"],
)

# Most tests train for a few epochs on purpose and are not about convergence.
few_epochs = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def class_data(n=60, n_features=4, n_classes=3, seed=0):
    """Return standardized X and integer labels that a linear boundary separates but for noise."""
    rng = np.random.RandomState(seed)
    X = rng.randn(n, n_features)
    scores = X @ rng.randn(n_features, n_classes) + 0.1 * rng.randn(n, n_classes)
    y = scores.argmax(axis=1)
    y[:n_classes] = np.arange(n_classes)[:n]  # every class occurs
    return X, y


def label_data(n=60, n_features=4, n_labels=3, seed=0):
    """Return X and a 0/1 matrix with a column for each of several labels."""
    rng = np.random.RandomState(seed)
    X = rng.randn(n, n_features)
    return X, (X @ rng.randn(n_features, n_labels) > 0).astype(int)


def value_data(n=60, n_features=4, n_outputs=1, seed=0):
    """Return X and targets that are linear in it but for noise: (n,) for one output, else 2-D."""
    rng = np.random.RandomState(seed)
    X = rng.randn(n, n_features)
    Y = X @ rng.randn(n_features, n_outputs) + 0.1 * rng.randn(n, n_outputs)
    return X, Y[:, 0] if n_outputs == 1 else Y


N, D = 40, 4  # rows and features of `data_for`
NAMES = ["height", "width", "depth", "mass"]  # for features in a frame


def data_for(estimator_class, n=N, n_features=D):
    """Return X and y that suit a classifier (three classes) or a regressor (one value)."""
    make = class_data if estimator_class in (BackpropClassifier, MLPClassifier) else value_data
    return make(n, n_features)


def classes_for(estimator_class):
    """Return the extra arguments of a first call of partial_fit on `data_for`."""
    return {"classes": [0, 1, 2]} if estimator_class is BackpropClassifier else {}


def quick(estimator_class, **changes):
    """Return a small estimator that takes a few milliseconds to fit."""
    settings = {"hidden_layer_sizes": (5,), "max_iter": 5, "random_state": 0}
    return estimator_class(**settings | changes)


# Of scikit-learn's checks, those that expect something to have been learned. To the others the
# first epochs are as good as all: where two fits begin to differ, they go on to.
CHECKS_OF_LEARNING = {
    "check_classifiers_train",
    "check_decision_proba_consistency",
    "check_regressors_train",
}


def for_check(estimator, check, n_epochs):
    """Return a copy of an estimator that trains for n_epochs, or as it would if a check needs it.

    So do the networks within, as far as they are parameters.
    """
    epochs = {name: n_epochs for name in estimator.get_params() if name.endswith("max_iter")}
    is_of_learning = check.func.__name__ in CHECKS_OF_LEARNING
    return clone(estimator).set_params(**{} if is_of_learning else epochs)


def changed(array, where, value, dtype=None):
    """Return a copy of an array with some values replaced."""
    array = np.array(array, dtype=dtype or np.asarray(array).dtype)
    array[where] = value
    return array


def interrupt(monkeypatch, owner, name, n_calls):
    """Press Ctrl-C at the end of the call of a function that follows `n_calls` calls.

    Returns a list that grows with each call.
    """
    function, calls = getattr(owner, name), []

    def interrupted(*arguments, **options):
        calls.append(1)
        result = function(*arguments, **options)
        if len(calls) == n_calls + 1:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, interrupted)
    return calls


def forks():
    """Return a context whose processes are forks of one that has imported what takes long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["skbackprop.callbacks", "sklearn.pipeline", "pandas", "pytest"])
    return context


def peak_of(function, *arguments):
    """Return the largest number of bytes held at once by what a call allocates."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def grows_by_less(measure, small, large, bound):
    """Return whether a peak of memory grows by less than a bound in one of five measurements.

    Other threads of the process may allocate in some of them.
    """
    return any(measure(large) - measure(small) < bound for _ in range(5))


def pickled(estimator, folder):
    return pickle.loads(pickle.dumps(estimator))


def deep_copied(estimator, folder):
    return copy.deepcopy(estimator)


def memory_mapped(estimator, folder):
    """Come back with arrays that are mapped to a file and can't be written to."""
    joblib.dump(estimator, folder / "estimator.joblib")
    return joblib.load(folder / "estimator.joblib", mmap_mode="r")


def safely_saved(estimator, folder):
    """Come back from a file of `skbackprop.persistence`."""
    save(estimator, folder / "estimator.skops")
    return load(folder / "estimator.skops")


def answers(model, X):
    """Return all that a model says of X."""
    methods = ["predict", "predict_proba", "predict_log_proba", "decision_function"]
    if hasattr(model, "offset_"):  # an outlier threshold, which partial_fit does not set
        methods = []
    has_scores = (
        not getattr(model, "variational", False) or model._model.targets.loss.has_likelihood
    )
    methods += ["transform", *["score_samples"] * has_scores]
    return [getattr(model, name)(X) for name in methods if hasattr(model, name)]


def sets_by_definition(kind, probabilities, held_out, codes, folds, coverage, by_class):
    """Return CV+ sets of labels: each new row is compared with each row i by the model k(i).

    The probabilities are those of the new rows by each model, (n_models, n_new, n_classes), and
    those of the held-out rows i, whose classes are `codes`, by the models k(i), which are `folds`.
    """

    def scores(shares):
        is_more = shares[..., None, :] > shares[..., :, None]
        return (is_more * shares[..., None, :]).sum(axis=-1) if kind == "aps" else 1 - shares

    own, new, sets = scores(held_out)[np.arange(len(codes)), codes], scores(probabilities), []
    for label in range(held_out.shape[1]):
        rows = np.flatnonzero((codes == label) | (not by_class))
        n_smaller = (own[rows, None] < new[folds[rows], :, label]).sum(axis=0)
        sets.append(n_smaller < np.ceil(round((len(rows) + 1) * coverage, 9)))
    return np.array(sets).T


def networks_of(model):
    """Return the networks of a fitted estimator: its members, or a single one itself."""
    return getattr(model, "estimators_", [model])


def assert_same_network(actual, expected, rtol=1e-12, atol=1e-12):
    """Assert that two fitted networks have the same weights and biases, but for rounding."""
    for name in ("coefs_", "intercepts_"):
        arrays, references = getattr(actual, name), getattr(expected, name)
        assert len(arrays) == len(references)
        for layer, (array, reference) in enumerate(zip(arrays, references, strict=True)):
            np.testing.assert_allclose(
                array, reference, rtol=rtol, atol=atol, err_msg=f"{name}[{layer}]"
            )


@cache
def keeps_bits():
    """Return whether BLAS rounds the products of a member of a stack as those of a network alone.

    OpenBLAS's kernels for processors without SSE4.2 round a dot product of float64 by the address
    of its second factor, so here are dot products of rows in a stack, and of copies of the rows.
    """
    for n in range(1, 100):
        rows = np.random.RandomState(n).randn(4, n)
        together = np.matmul(rows[:, None], rows[:, :, None]).ravel(), np.vecdot(rows, rows)
        alone = [np.dot(row[None].copy(), row[:, None].copy()).item() for row in rows]
        if not all(np.array_equal(products, alone) for products in together):
            return False
    return True


# What roundings grow to in the epochs that a test trains, as in the comparisons with scikit-learn,
# whose products round otherwise too.
ROUNDING = {"rtol": 1e-9, "atol": 1e-10}


def same_values(actual, expected):
    """Return whether two nested values are the same: to the bit, or where `keeps_bits` is false
    but for rounding, in the arrays and numbers of float64.
    """
    if isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(
            same_values(actual[name], value) for name, value in expected.items()
        )
    if isinstance(expected, (list, tuple)):
        return len(actual) == len(expected) and all(map(same_values, actual, expected))
    if isinstance(expected, TrainState):
        return same_values(actual.to_arrays(), expected.to_arrays())
    if isinstance(expected, np.random.RandomState):
        return same_values(actual.get_state(legacy=False), expected.get_state(legacy=False))
    if is_dataclass(expected) and not isinstance(expected, type):
        pairs = [
            (getattr(actual, f.name), getattr(expected, f.name))
            for f in fields(expected)
            if f.compare
        ]
        return type(actual) is type(expected) and all(same_values(*pair) for pair in pairs)
    if not isinstance(expected, (np.ndarray, float)):
        return str(actual) == str(expected)
    actual, expected = np.asarray(actual), np.asarray(expected)
    if (actual.shape, actual.dtype) != (expected.shape, expected.dtype):
        return False
    if actual.tobytes() == expected.tobytes():
        return True
    if keeps_bits() or expected.dtype != np.float64:
        return False
    return np.allclose(actual, expected, equal_nan=True, **ROUNDING)


def same_bits(actual, expected):
    """Return whether two fitted networks have the very same weights, biases and losses."""
    names = ("coefs_", "intercepts_", "loss_curve_")
    return all(same_values(getattr(actual, name), getattr(expected, name)) for name in names)


def assert_same_search(actual, expected):
    """Assert that two fitted searches found the same to the bit; they may take another time."""
    assert list(actual.cv_results_) == list(expected.cv_results_)
    for name, column in expected.cv_results_.items():
        found = actual.cv_results_[name]
        if name == "params" or name.startswith("param_"):
            assert str(list(found)) == str(list(column)), name  # a NaN equals no other
            continue
        assert (found.shape, found.dtype) == (column.shape, column.dtype), name
        if not name.endswith("_time"):
            assert same_values(found, column), name
    for name in ("n_splits_", "multimetric_", "best_index_", "best_score_", "best_params_"):
        assert hasattr(actual, name) == hasattr(expected, name), name
        if hasattr(expected, name):
            assert same_values(getattr(actual, name), getattr(expected, name)), name
    assert hasattr(actual, "best_estimator_") == hasattr(expected, "best_estimator_")


def bits(estimator, X, y, sample_weight=None):
    """Return a score that tells any two models apart: the checksum of what one says of X."""
    answer = np.asarray(answers(estimator, X)[-1], dtype=float)
    return zlib.crc32(answer.tobytes()) if keeps_bits() else answer.mean()


def outcome(search, X, y, **fit_params):
    """Fit a search; return it and what it warned of, or the error: its kind and what it says.

    Of each warning there is the category, with the first line of what it says, or the kind if it is
    about the end of training.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            search.fit(X, y, **fit_params)
        except Exception as error:
            return type(error), str(error).strip().partition("\n")[0]
    said = set()
    for each in caught:
        text = str(each.message).strip().partition("\n")[0]
        if each.category is ConvergenceWarning:
            text = re.split(r"[\d(=]", text)[0]  # the words before the first number
        said.add((each.category, text))
    return search, said


def some_parameters(*widths, seed=0):
    """Return (coefs, intercepts) of a network whose layers have these widths, the input first."""
    rng = np.random.RandomState(seed)
    coefs = [0.5 * rng.randn(fan_in, fan_out) for fan_in, fan_out in pairwise(widths)]
    return coefs, [0.5 * rng.randn(fan_out) for fan_out in widths[1:]]


def shapley_values(value, columns):
    """Return the mean gain of each column over all coalitions (Shapley 1953)."""
    d, values = len(columns), []
    for column in columns:
        others = [other for other in columns if other != column]
        values.append(
            sum(
                factorial(size)
                * factorial(d - size - 1)
                / factorial(d)
                * (value([*chosen, column]) - value(list(chosen)))
                for size in range(d)
                for chosen in combinations(others, size)
            )
        )
    return np.array(values)


def pairs(*axes):
    """Return rows of values, one of each axis, in which each two values of different axes meet."""
    if len(axes) < 3:
        return list(product(*axes))
    numbered = AllPairs([list(range(len(axis))) for axis in axes])
    return [tuple(axis[i] for axis, i in zip(axes, row, strict=True)) for row in numbered]
