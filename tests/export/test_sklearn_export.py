"""Networks become scikit-learn's own, with the same predictions, and C by emlearn."""

import pickle

import numpy as np
import pytest
from scipy.sparse import csr_array, issparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline

from skbackprop import BackpropClassifier, BackpropRegressor, EarlyStopping, TabularClassifier
from skbackprop.export import to_sklearn
from skbackprop.schedules import CosineDecay
from support.cases import LABELS, NUMBERS, SHORT, X, Y, classifier, regressor

with np.errstate():  # emlearn sets NumPy to raise errors of floating point
    import emlearn

PAIRS = np.column_stack([NUMBERS, 3 * NUMBERS[::-1] - 50])


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize(
    "labels", ["integers", "strings", "booleans", "two classes", "objects", "multilabel", "sparse"]
)
def test_classifiers(labels, activation):
    y = csr_array(LABELS["multilabel"]) if labels == "sparse" else LABELS[labels]
    ours = classifier(y, activation=activation, dropout=0.1)
    theirs = to_sklearn(ours)
    assert type(theirs) is MLPClassifier
    np.testing.assert_allclose(theirs.predict_proba(X), ours.predict_proba(X), atol=1e-12)
    found, wanted = theirs.predict(X), ours.predict(X)
    assert issparse(found) == issparse(wanted) == (labels == "sparse")
    assert (found != wanted).sum() == 0
    assert theirs.score(X, y) == ours.score(X, y)
    assert theirs.classes_.tolist() == ours.classes_.tolist()


@pytest.mark.parametrize("y", [NUMBERS, PAIRS], ids=["one target", "two targets"])
@pytest.mark.parametrize("settings", [{}, {"scale_target": True}, {"dtype": "float32"}], ids=str)
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_regressors(loss, settings, y):
    y = np.abs(y) if loss == "poisson" else y
    ours = regressor(y, loss=loss, **settings)
    theirs = to_sklearn(ours)
    assert type(theirs) is MLPRegressor
    assert theirs.loss == loss
    np.testing.assert_allclose(theirs.predict(X), ours.predict(X), rtol=1e-4, atol=1e-4)
    if "dtype" not in settings:
        np.testing.assert_allclose(theirs.predict(X), ours.predict(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_attributes_are_those_of_a_fit_by_sklearn(settings):
    for ours, y in ((classifier(**settings), Y), (regressor(**settings), NUMBERS)):
        theirs = to_sklearn(ours)
        of_fit = vars(clone(theirs).fit(X, y))
        # Those that each fit makes anew.
        transient = {"_optimizer", "_random_state", "_coef_indptr", "_intercept_indptr"}
        assert of_fit.keys() - transient <= vars(theirs).keys()
        for name, value in of_fit.items():
            if name.endswith("_") and name not in ("best_loss_", "loss_", "n_iter_"):
                assert type(getattr(theirs, name)) is type(value), name


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_training_goes_on_from_the_weights(early_stopping):
    for ours, y in (
        (classifier(early_stopping=early_stopping), Y),
        (regressor(early_stopping=early_stopping, scale_target=True), NUMBERS),
    ):
        theirs = pickle.loads(pickle.dumps(to_sklearn(ours)))
        if early_stopping:
            assert theirs.best_validation_score_ == max(ours.validation_scores_)
        theirs.set_params(warm_start=True, max_iter=3, learning_rate_init=1e-6).fit(X, y)
        for found, before in zip(theirs.coefs_[:-1], ours.coefs_, strict=False):
            np.testing.assert_allclose(found, before, atol=1e-4)
        assert len(theirs.loss_curve_) > len(ours.loss_curve_)
        if not early_stopping:
            theirs.partial_fit(X, y)


def test_parameters_of_training_are_kept_where_sklearn_has_them():
    ours = classifier(alpha=0.5, solver="adamw", learning_rate=CosineDecay(), beta_1=0.8)
    theirs = to_sklearn(ours)
    assert (theirs.alpha, theirs.beta_1, theirs.random_state) == (0.5, 0.8, 0)
    assert (theirs.solver, theirs.learning_rate) == ("adam", "constant")
    assert theirs.hidden_layer_sizes == (7, 5)


def test_calibrated_probabilities():
    stopping = EarlyStopping("loss", n_iter_no_change=np.inf, calibrate=True)
    ours = classifier(early_stopping=stopping, n_iter_no_change=10)
    np.testing.assert_allclose(to_sklearn(ours).predict_proba(X), ours.predict_proba(X), rtol=1e-9)


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: classifier(activation="gelu"), r"activations .* \[Gelu.*identity, logistic"),
        (lambda: classifier(activation=["relu", "tanh"]), r"activations .* \[Relu\(\), Tanh"),
        (lambda: classifier(loss="focal"), "loss is Focal.* log_loss"),
        (lambda: regressor(loss="huber"), "loss is Huber.* squared_error"),
        (lambda: regressor(loss="gaussian"), "loss is Gaussian"),
        (lambda: classifier(normalization="batch"), "layer BatchNormalization"),
        (lambda: classifier(layers="scale"), "layer Scale"),
        (lambda: classifier(n_estimators=3), "has 3 networks.*n_estimators=1"),
        (lambda: classifier(LABELS["one class"]), "only one class"),
    ],
)
def test_raises_on_what_sklearn_does_not_have(make, says):
    with pytest.raises(ValueError, match=says):
        to_sklearn(make())


def test_raises_on_other_estimators():
    pipeline = make_pipeline(BackpropClassifier((3,), **SHORT)).fit(X, Y)
    for other in (pipeline, TabularClassifier(), MLPClassifier()):
        with pytest.raises(TypeError, match=r"got a .*pipeline\[-1\]"):
            to_sklearn(other)
    with pytest.raises(NotFittedError):
        to_sklearn(BackpropRegressor())


@pytest.mark.parametrize("labels", ["integers", "two classes"])
def test_emlearn_makes_c_of_classifiers(labels, tmp_path, monkeypatch):
    """It compiles and runs the program."""
    monkeypatch.chdir(tmp_path)
    ours = classifier(LABELS[labels], activation="tanh")
    program = emlearn.convert(to_sklearn(ours))
    np.testing.assert_allclose(program.predict_proba(X), ours.predict_proba(X), atol=1e-4)


def test_emlearn_makes_c_of_regressors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = regressor(scale_target=True)
    program = emlearn.convert(to_sklearn(ours), return_type="regressor")
    np.testing.assert_allclose(program.predict(X), ours.predict(X), atol=1e-3)
