"""Do filters of warnings that were written for scikit-learn's networks find ours as well?

A filter goes by the module that a warning is from. scikit-learn's networks warn from their own;
ours warn in its name, and point at the user's line.
"""

import inspect
import warnings

import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier, BackpropGridSearchCV, BackpropRegressor
from skbackprop._sklearn import warn
from support import BOTH, PAIRS, classes_for, data_for, quick

EITHER = [BackpropClassifier, BackpropRegressor, MLPClassifier, MLPRegressor]
every_class = pytest.mark.parametrize("estimator_class", EITHER)
SOLVER = pytest.mark.parametrize("solver", ["adam", "lbfgs"])


def ignore(module):
    """Ignore what a module warns of; anything else is an error."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=ConvergenceWarning, module=module)


@pytest.mark.parametrize(
    "module", ["sklearn", "sklearn.neural_network", ".*_multilayer_perceptron"]
)
@SOLVER
@every_class
def test_a_filter_for_scikit_learns_module_is_enough(estimator_class, solver, module):
    with warnings.catch_warnings():
        ignore(module)
        quick(estimator_class, solver=solver, max_iter=2).fit(*data_for(estimator_class))


@every_class
def test_a_filter_for_another_module_has_no_effect(estimator_class):
    with warnings.catch_warnings():
        ignore("numpy")
        with pytest.raises(ConvergenceWarning):
            quick(estimator_class, max_iter=2).fit(*data_for(estimator_class))


@pytest.mark.parametrize("action, n_shown", [("once", 1), ("default", 2), ("always", 4)])
def test_a_warning_is_shown_as_often_as_asked_for(action, n_shown):
    """By "default" once for each line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        for _ in range(2):
            warn("It has not converged.", ConvergenceWarning)
            warn("It has not converged.", ConvergenceWarning)
    assert len(caught) == n_shown


@pytest.mark.parametrize("action", ["once", "default", "module", "always"])
@PAIRS
def test_fits_warn_as_often_as_scikit_learns(ours, theirs, action):
    """Of all fits: in between, checks of the data let Python forget what it has shown."""

    def n_shown(estimator_class):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(action)
            for _ in range(3):
                quick(estimator_class, max_iter=2).fit(*data_for(estimator_class))
        return len(caught)

    assert n_shown(ours) == n_shown(theirs)


def line_of_next():
    return inspect.currentframe().f_back.f_lineno + 1


@BOTH
def test_file_and_line_are_the_users(estimator_class):
    X, y = data_for(estimator_class)
    network = quick(estimator_class, max_iter=2, n_estimators=2)
    search = BackpropGridSearchCV(network, {"alpha": [0.1, 1]}, cv=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lines = [line_of_next()]
        network.fit(X, y)
        lines.append(line_of_next())
        make_pipeline(StandardScaler(), network).fit(X, y)
        lines.append(line_of_next())
        cross_val_score(network, X, y, cv=2)
        lines.append(line_of_next())
        search.fit(X, y)
        lines.append(line_of_next())
        network.set_params(batch_size=1000, n_iter_no_change=float("inf")).fit(X, y)
    found = dict.fromkeys((w.filename, w.lineno) for w in caught)
    assert list(found) == [(__file__, line) for line in lines]


@BOTH
def test_partial_fit_raises_no_warning(estimator_class):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, batch_size=1000)
    model.partial_fit(X, y, **classes_for(estimator_class)).partial_fit(X, y)
