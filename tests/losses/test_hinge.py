"""Is a network with a hinge loss a support vector machine, with decision values and no more?"""

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from skbackprop import BackpropClassifier
from skbackprop.losses import Hinge, SquaredHinge
from support import class_data, few_epochs, label_data, networks_of, quick

pytestmark = few_epochs

NAMES = ["hinge", "squared_hinge"]
every_name = pytest.mark.parametrize("loss", NAMES)
DATA = {"binary": class_data(n_classes=2), "classes": class_data(), "multilabel": label_data()}
every_data = pytest.mark.parametrize("data", DATA.values(), ids=DATA)


def noisy(data):
    """Return data that no plane separates."""
    X, y = data
    return X + np.random.RandomState(1).normal(scale=0.7, size=X.shape), y


# ------------------------------------------------------------------ the oracles' machines


@every_data
@pytest.mark.parametrize("alpha", [0.3, 3.0])
def test_the_squared_hinge_is_that_of_a_linear_svc(data, alpha):
    X, y = noisy(data)
    ours = BackpropClassifier(
        (), loss="squared_hinge", solver="lbfgs", alpha=alpha, tol=1e-8, max_iter=2000
    ).fit(X, y)
    # Its intercept is penalized, the less the larger its scaling is.
    machine = LinearSVC(C=1 / alpha, dual=False, intercept_scaling=1e3, tol=1e-10, max_iter=10_000)
    theirs = (OneVsRestClassifier(machine) if y.ndim == 2 else machine).fit(X, y)
    np.testing.assert_allclose(
        ours.decision_function(X), theirs.decision_function(X), rtol=1e-3, atol=1e-3
    )
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@every_name
@pytest.mark.parametrize("name", ["binary", "classes"])
def test_row_by_row_it_takes_the_steps_of_sgd_classifier(loss, name):
    X, y = noisy(DATA[name])
    n_outputs = 1 if name == "binary" else 3
    ours = BackpropClassifier(
        (),
        loss=loss,
        solver="sgd",
        momentum=0,
        batch_size=1,
        alpha=0,
        learning_rate_init=0.03,
        shuffle=False,
        max_iter=4,
        init=([np.zeros((X.shape[1], n_outputs))], [np.zeros(n_outputs)]),
    ).fit(X, y)
    theirs = SGDClassifier(
        loss=loss,
        penalty=None,
        learning_rate="constant",
        eta0=0.03,
        shuffle=False,
        max_iter=4,
        tol=None,
    ).fit(X, y)
    np.testing.assert_allclose(ours.coefs_[0].T, theirs.coef_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.intercepts_[0], theirs.intercept_, rtol=1e-9, atol=1e-12)


# --------------------------------------------------------------------- no probabilities


@pytest.mark.parametrize("loss", [*NAMES, Hinge(), SquaredHinge()], ids=str)
@pytest.mark.parametrize("method", ["predict_proba", "predict_log_proba"])
def test_there_are_no_probabilities(loss, method):
    X, y = DATA["classes"]
    for n_estimators in (1, 2):
        model = quick(BackpropClassifier, loss=loss, n_estimators=n_estimators)
        assert not hasattr(model, method)
        with pytest.raises(AttributeError, match=method) as error:
            getattr(model, method)
        assert f"loss={loss!r} has only decision values" in str(error.value.__cause__)
        model.fit(X, y)
        assert not hasattr(model, method)
        assert not hasattr(networks_of(model)[0], method)
    assert hasattr(quick(BackpropClassifier), method)
