"""Does each row of the guide's table of differences from scikit-learn's networks hold?

Each check fits both networks and compares what the two columns of its row say.
"""

import inspect
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.neural_network import _multilayer_perceptron as multilayer_perceptron

import skbackprop
from skbackprop import BackpropClassifier, BackpropRegressor, EarlyStopping
from skbackprop.layers import Conv2D
from support import class_data, few_epochs, label_data, value_data

pytestmark = few_epochs

PAGE = Path(skbackprop.__file__).parents[1] / "docs" / "user_guide" / "scikit_learn.md"
SECTION = PAGE.read_text().partition("\n## Differences from scikit-learn\n")[2]
ROWS = re.findall(r"^\| (.*?) \| (.*?) ?\| (.*) \|$", SECTION.partition("\n## ")[0], re.MULTILINE)
ROWS = {topic: (theirs, ours) for topic, theirs, ours in ROWS[1:]}
CHECKS = {}
X, LABELS = class_data(60)
_, NUMBERS = value_data(60)


def difference(topic):
    def register(check):
        CHECKS[topic] = check
        return check

    return register


def theirs(kind=MLPClassifier, **settings):
    return kind(**{"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0} | settings)


def ours(kind=BackpropClassifier, **settings):
    return kind(**{"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0} | settings)


def warnings_of(function, *arguments, **named):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*arguments, **named)
    return [str(warning.message) for warning in caught]


def splits_of(model, y, n_fits=1):
    """Return the splits by scikit-learn's network in its fits, and what they are stratified by."""
    splits, strata = [], []

    def split(*arrays, stratify, **settings):
        strata.append(stratify)
        splits.append(train_test_split(*arrays, stratify=stratify, **settings))
        return splits[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multilayer_perceptron, "train_test_split", split)
        for _ in range(n_fits):
            model.fit(X, y)
    return splits, strata


class RecordingScorer:
    """A scorer that keeps the validation data that it gets."""

    def __init__(self):
        self.calls = []

    def __call__(self, estimator, X, y):
        self.calls.append((X.copy(), y.copy()))
        return 0.0


def test_each_row_has_a_check():
    assert CHECKS.keys() == ROWS.keys()


@pytest.mark.parametrize("topic", CHECKS)
def test_difference(topic):
    CHECKS[topic]()


@difference("signature")
def check_signature():
    assert next(iter(inspect.signature(MLPRegressor).parameters)) == "loss"
    parameters = inspect.signature(BackpropRegressor).parameters
    assert next(iter(parameters)) == "hidden_layer_sizes"
    assert parameters["loss"].kind is inspect.Parameter.KEYWORD_ONLY


@difference("additional parameters")
def check_additional_parameters():
    added = {
        name
        for own, other in [(BackpropClassifier, MLPClassifier), (BackpropRegressor, MLPRegressor)]
        for name in own().get_params().keys() - other().get_params().keys()
    }
    named = set(re.findall(r"`(\w+)`", ROWS["additional parameters"][1]))
    assert named == added | {"X_val", "y_val", "fit"}
    assert {"X_val", "y_val"} <= inspect.signature(BackpropClassifier.fit).parameters.keys()


@difference("squared error of several outputs")
def check_several_outputs():
    Y = value_data(60, n_outputs=2)[1]
    settings = {"alpha": 0.0, "max_iter": 1, "solver": "sgd", "batch_size": 60}
    own = ours(BackpropRegressor, **settings).fit(X, Y)
    other = theirs(MLPRegressor, **settings).fit(X, Y)
    np.testing.assert_allclose(own.loss_, other.loss_)  # the mean over outputs
    np.testing.assert_allclose(own.coefs_[0], other.coefs_[0])  # after a step by the sum's gradient
    settings = {"alpha": 0.0, "solver": "lbfgs", "max_iter": 50}
    own, other = ours(BackpropRegressor, **settings), theirs(MLPRegressor, **settings)
    assert not np.allclose(own.fit(X, Y).coefs_[0], other.fit(X, Y).coefs_[0])


@difference("warm start, stopping rule")
def check_stopping_rule():
    settings = {"warm_start": True, "max_iter": 500, "n_iter_no_change": 5, "tol": 0.05}
    own, other = ours(**settings), theirs(**settings)
    n_epochs = []
    for model in (own, other):
        model.fit(X, LABELS)
        before = len(model.loss_curve_)
        model.fit(X, LABELS)
        n_epochs.append(len(model.loss_curve_) - before)
    assert n_epochs[0] > 5
    assert n_epochs[1] == 1


@difference("warm start, arrays of the last fit")
def check_arrays_of_last_fit():
    settings = {"warm_start": True, "early_stopping": True, "max_iter": 5}
    other = theirs(**settings).fit(X, LABELS)
    assert other._best_coefs[0] is other.coefs_[0]  # which further training changes in place
    own = ours(**settings).fit(X, LABELS)
    kept, copied = own.coefs_[0], own.coefs_[0].copy()
    own.fit(X, LABELS)
    np.testing.assert_array_equal(kept, copied)


@difference("warm start, optimizer")
def check_optimizer():
    distances = []
    for make in (ours, theirs):
        once = make(max_iter=4).fit(X, LABELS)
        twice = make(max_iter=2, warm_start=True).fit(X, LABELS).fit(X, LABELS)
        distances.append(abs(once.coefs_[0] - twice.coefs_[0]).max())
    assert distances[0] == 0 < distances[1]


@difference("warm start, early stopping")
def check_split():
    scorer, settings = RecordingScorer(), {"warm_start": True, "max_iter": 1}
    ours(early_stopping=EarlyStopping(scorer), **settings).fit(X, LABELS).fit(X, LABELS)
    np.testing.assert_array_equal(scorer.calls[0][0], scorer.calls[-1][0])
    splits, _ = splits_of(theirs(early_stopping=True, **settings), LABELS, n_fits=2)
    assert not np.array_equal(splits[0][1], splits[1][1])


@difference("warm start after a change of width, depth or solver")
def check_changes():
    for change in ({"hidden_layer_sizes": (8,)}, {"hidden_layer_sizes": (4, 4)}, {"solver": "sgd"}):
        own = ours(warm_start=True).fit(X, LABELS).set_params(**change)
        with pytest.raises(ValueError, match=next(iter(change))):
            own.fit(X, LABELS)
    other = theirs(warm_start=True).fit(X, LABELS).set_params(hidden_layer_sizes=(8,))
    assert other.fit(X, LABELS).coefs_[0].shape == (4, 4)
    other = theirs(warm_start=True, solver="lbfgs").fit(X, LABELS).set_params(solver="adam")
    with pytest.raises(AttributeError):
        other.fit(X, LABELS)


@difference("loss not finite")
def check_not_finite():
    settings = {"solver": "sgd", "learning_rate_init": 1e5, "max_iter": 20}
    with pytest.raises(ValueError, match="diverged in epoch"):
        ours(BackpropRegressor, **settings).fit(X, NUMBERS)
    stopped = ours(BackpropRegressor, early_stopping=True, **settings)
    assert any("best validation score" in said for said in warnings_of(stopped.fit, X, NUMBERS))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = theirs(MLPRegressor, **settings)
        with pytest.raises(ValueError, match="non-finite"):
            other.fit(X, NUMBERS)
        assert other.n_iter_ == 20
        theirs(MLPRegressor, early_stopping=True, **settings).fit(X, NUMBERS)


@difference("`max_iter` reached")
def check_max_iter():
    assert any("Maximum iterations" in said for said in warnings_of(theirs().fit, 100 * X, LABELS))
    assert any("StandardScaler" in said for said in warnings_of(ours().fit, 100 * X, LABELS))


@difference("Ctrl-C")
def check_interrupt():
    def interrupt(*arguments):
        raise KeyboardInterrupt

    other = theirs()
    other._update_no_improvement_count = interrupt
    assert any("interrupted by user" in said for said in warnings_of(other.fit, X, LABELS))
    own = ours(early_stopping=EarlyStopping(interrupt))
    with pytest.raises(KeyboardInterrupt):
        own.fit(X, LABELS)


@difference("convergence on X in the ten thousands")
def check_convergence_on_large_values():
    settings = {"max_iter": 500, "tol": 1e9, "n_iter_no_change": 2}
    assert warnings_of(theirs(**settings).fit, 3e4 * X, LABELS) == []
    (text,) = warnings_of(ours(**settings).fit, 3e4 * X, LABELS)
    assert "scale X" in text


@difference("early stopping, split")
def check_stratified():
    y, scorer = np.repeat([0, 1, 2], [40, 10, 10]), RecordingScorer()
    ours(early_stopping=EarlyStopping(scorer, validation_fraction=0.2)).fit(X, y)
    assert np.bincount(scorer.calls[0][1].astype(int)).tolist() == [8, 2, 2]
    assert splits_of(theirs(early_stopping=True), y)[1] == [None]


@difference("early stopping, best epoch")
def check_best_epoch():
    assert ours(early_stopping=True).fit(X, LABELS).best_iter_ >= 1
    assert not hasattr(theirs(early_stopping=True).fit(X, LABELS), "best_iter_")


@difference("`partial_fit` with `early_stopping=True`")
def check_partial_fit():
    with pytest.raises(ValueError, match="early_stopping"):
        theirs(early_stopping=True).partial_fit(X, LABELS, classes=[0, 1, 2])
    own = ours(early_stopping=True)
    own.partial_fit(X, LABELS, classes=[0, 1, 2], X_val=X, y_val=LABELS)
    assert len(own.validation_scores_) == 1


@difference("`batch_size` above the number of rows")
def check_batch_size():
    n_warnings = []
    for make in (ours, theirs):
        warned = [warnings_of(make(batch_size=100).fit, X, LABELS)]
        model = make(batch_size=100)
        for _ in range(2):
            warned.append(warnings_of(model.partial_fit, X, LABELS, classes=[0, 1, 2]))
        n_warnings.append([sum("batch_size" in one for one in said) for said in warned])
    assert n_warnings == [[1, 0, 0], [1, 1, 1]]


def far_out(make):
    """Return a fitted network whose scores are in the thousands."""
    model = make().fit(X, LABELS > 0)
    model.coefs_[-1] *= 1e4
    return model


@difference("`predict_log_proba`, and the loss")
def check_log_proba():
    assert np.isfinite(far_out(ours).predict_log_proba(X)).all()
    with np.errstate(divide="ignore"):
        assert np.isinf(far_out(theirs).predict_log_proba(X)).any()


@difference("`predict_proba` of a saturated sigmoid")
def check_saturated():
    assert far_out(ours).predict_proba(X)[:, 1].max() < 1
    assert far_out(theirs).predict_proba(X)[:, 1].max() == 1


@difference("`decision_function`")
def check_decision_function():
    assert hasattr(BackpropClassifier(), "decision_function")
    assert not hasattr(MLPClassifier(), "decision_function")


@difference("a label matrix of 1 and 2, not 0 and 1")
def check_two_values():
    y = label_data(60)[1] + 1
    assert set(np.unique(theirs().fit(X, y).predict(X))) <= {0, 1}
    with pytest.raises(ValueError, match="only zeros and ones"):
        ours().fit(X, y)


@difference("one class in `y`")
def check_one_class():
    y = np.zeros(60, int)
    assert theirs().fit(X, y).predict_proba(X).shape == (60, 2)
    np.testing.assert_array_equal(ours().fit(X, y).predict_proba(X), np.ones((60, 1)))


@difference("sample weights")
def check_sample_weights():
    theirs().fit(X, LABELS, sample_weight=np.full(60, -1.0))
    for weight in (-1.0, 0.0):
        with pytest.raises(ValueError, match="weight"):
            ours().fit(X, LABELS, sample_weight=np.full(60, weight))
    zeros = np.repeat([0.0, 1.0], [30, 30])
    settings = {"batch_size": 30, "shuffle": False, "solver": "sgd"}
    with pytest.raises(ZeroDivisionError):
        theirs(**settings).fit(X, LABELS, sample_weight=zeros)
    own = ours(**settings).fit(X, LABELS, sample_weight=zeros)
    half = ours(**settings).fit(X[30:], LABELS[30:])
    np.testing.assert_allclose(own.loss_, half.loss_)


@difference("L-BFGS")
def check_lbfgs():
    settings = {"solver": "lbfgs", "early_stopping": True, "max_iter": 5}
    own = ours(**settings).fit(X.astype(np.float32), LABELS)
    other = theirs(**settings).fit(X.astype(np.float32), LABELS)
    assert len(own.loss_curve_) == len(own.validation_scores_) == own.n_iter_
    assert not hasattr(other, "loss_curve_")
    assert not hasattr(other, "validation_scores_")
    assert (own.coefs_[0].dtype, other.coefs_[0].dtype) == (np.float32, np.float64)
    assert hasattr(theirs(MLPRegressor, solver="lbfgs"), "partial_fit")
    assert not hasattr(ours(BackpropRegressor, solver="lbfgs"), "partial_fit")


@difference("Poisson with `y < 0`")
def check_poisson():
    with pytest.raises(ValueError, match="Poisson"):
        ours(BackpropRegressor, loss="poisson").fit(X, NUMBERS)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = theirs(MLPRegressor, loss="poisson").fit(X, NUMBERS)
    assert np.isnan(other.loss_curve_).all()


@difference("prediction")
def check_dtypes():
    narrow = X.astype(np.float32)
    assert ours(BackpropRegressor).fit(narrow, NUMBERS).predict(X).dtype == np.float32
    assert theirs(MLPRegressor).fit(narrow, NUMBERS).predict(X).dtype == np.float64


@difference("tags")
def check_tags():
    assert not MLPRegressor().__sklearn_tags__().target_tags.multi_output
    tags = BackpropRegressor(loss="poisson").__sklearn_tags__().target_tags
    assert tags.multi_output and tags.positive_only


@difference("pickle")
def check_pickle():
    wide = class_data(60, n_features=200)[0]
    sizes = []
    for make in (ours, theirs):
        model = make(hidden_layer_sizes=(200,)).fit(wide, LABELS)
        n_bytes = sum(weights.nbytes for weights in model.coefs_)
        sizes.append(round(len(pickle.dumps(model)) / n_bytes))
    assert sizes == [1, 4]


@difference("`n_iter_no_change=np.inf`")
def check_no_change():
    assert warnings_of(theirs(n_iter_no_change=np.inf).fit, X, LABELS)
    assert not warnings_of(ours(n_iter_no_change=np.inf).fit, X, LABELS)


@difference("`n_layers_` or `out_activation_` set after `fit`")
def check_attributes_of_the_network():
    own, other = ours().fit(X, LABELS), theirs().fit(X, LABELS)
    other.out_activation_ = "logistic"
    assert not np.allclose(other.predict_proba(X).sum(axis=1), 1)
    for name, value in {"n_layers_": 2, "n_outputs_": 1, "out_activation_": "logistic"}.items():
        with pytest.raises(AttributeError, match=f"{name}.*no setter"):
            setattr(own, name, value)


@difference("`activation` set after `fit`")
def check_activation():
    own, other = ours(warm_start=True).fit(X, LABELS), theirs().fit(X, LABELS)
    before = [model.predict_proba(X) for model in (own, other)]
    own.set_params(activation="tanh")
    other.set_params(activation="tanh")
    np.testing.assert_array_equal(own.predict_proba(X), before[0])
    assert not np.allclose(other.predict_proba(X), before[1])
    with pytest.raises(ValueError, match="activation"):
        own.fit(X, LABELS)


@difference("images, sequences, tokens")
def check_shapes():
    images = X.reshape(60, 2, 2)
    with pytest.raises(ValueError, match="dim"):
        theirs().fit(images, LABELS)
    assert ours(layers=Conv2D(2, 2)).fit(images, LABELS).predict(images).shape == (60,)


@difference("private methods and attributes")
def check_private():
    assert hasattr(MLPClassifier, "_backprop")
    assert not hasattr(BackpropClassifier, "_backprop")


@difference("arrays assigned to `coefs_`")
def check_assigned():
    own = ours().fit(X, LABELS)
    own.coefs_[0] = np.zeros((4, 4))
    assert len(np.unique(own.predict_proba(X), axis=0)) == 1
    with pytest.raises(ValueError, match="coefs_"):
        own.coefs_[0] = np.zeros((4, 5))
    for model, dtype in ((ours(), np.float64), (theirs(), np.float32)):
        model.fit(X, LABELS)
        for name in ("coefs_", "intercepts_"):
            setattr(model, name, [array.astype(np.float32) for array in getattr(model, name)])
        kept, copied = model.coefs_[0], model.coefs_[0].copy()
        assert model.partial_fit(X, LABELS).coefs_[0].dtype == dtype
        assert (kept != copied).any()  # `partial_fit` changes the arrays in place


@difference("another number of arrays assigned to `coefs_`")
def check_layers():
    own, other = ours().fit(X, LABELS), theirs().fit(X, LABELS)
    other.coefs_ = [np.eye(4), *other.coefs_]
    other.intercepts_ = [np.zeros(4), *other.intercepts_]
    other.n_layers_ += 1
    assert other.predict(X).shape == (60,)
    with pytest.raises(ValueError, match="new BackpropClassifier"):
        own.coefs_ = [np.eye(4), *own.coefs_]
