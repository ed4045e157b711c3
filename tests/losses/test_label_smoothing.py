"""Does label smoothing train on the targets that it says, and leave all else to the true ones?"""

import numpy as np
import pytest

from skbackprop import BackpropClassifier
from skbackprop.losses import CLASSIFIER_LOSSES, Hinge, SquaredHinge
from skbackprop.losses.classification import LabelSmoothing
from support import assert_same_network, class_data, few_epochs, label_data, quick
from support.stacks import DTYPES, some_targets

pytestmark = few_epochs

WITH_PROBABILITIES = {
    k: loss for k, loss in CLASSIFIER_LOSSES.items() if loss.supports_predict_proba
}
every_loss = pytest.mark.parametrize("name", WITH_PROBABILITIES)
either_link = pytest.mark.parametrize("multiclass", [False, True], ids=["logistic", "softmax"])


def case(name, multiclass, dtype=np.float64):
    """Return a loss, scores and targets of 3 outputs, and the smoothed ones by hand."""
    rng = np.random.RandomState(0)
    loss = type(WITH_PROBABILITIES[name])(multiclass=multiclass)
    y = some_targets(loss, 10, 3, rng).astype(dtype)[None]
    scores = rng.normal(scale=2, size=(2, 10, 3)).astype(dtype)
    by_hand = np.where(y == 1, 0.8 + 0.2 / 3, 0.2 / 3) if multiclass else np.where(y == 1, 0.9, 0.1)
    return loss, scores, y, by_hand.astype(dtype)


@every_loss
@either_link
@pytest.mark.parametrize("dtype", DTYPES)
def test_smoothed_loss_is_the_loss_of_smoothed_targets(name, multiclass, dtype):
    loss, scores, y, by_hand = case(name, multiclass, dtype)
    smoothed, kept = LabelSmoothing(loss, 0.2), y.copy()
    eps = float(np.finfo(dtype).eps)
    value = smoothed.value(scores, y)
    np.testing.assert_allclose(value, loss.value(scores, by_hand), rtol=10 * eps)
    assert value.dtype == dtype
    slope, expected = np.empty_like(scores), np.empty_like(scores)
    smoothed.gradient(scores, y, slope)
    loss.gradient(scores, by_hand, expected)
    np.testing.assert_allclose(slope, expected, rtol=10 * eps, atol=4 * eps)
    np.testing.assert_array_equal(y, kept)
    assert smoothed.link is loss.link


# ------------------------------------------------------------------------- the classifier


@pytest.mark.parametrize("n_classes", [2, 3])
def test_smoothing_equals_weighted_rows_of_every_class(n_classes):
    """The cross-entropy is linear in its targets: a row's classes may be rows of their own."""
    X, y = class_data(30, n_classes=n_classes)
    rows, classes = np.divmod(np.arange(30 * n_classes), n_classes)
    weight = 0.8 * (classes == y[rows]) + 0.2 / n_classes
    settings = {"hidden_layer_sizes": (4,), "solver": "lbfgs", "alpha": 0.5, "random_state": 0}
    smoothed = BackpropClassifier(**settings, label_smoothing=0.2, max_iter=20).fit(X, y)
    by_hand = BackpropClassifier(**settings, max_iter=20).fit(X[rows], classes, weight)
    assert_same_network(smoothed, by_hand, rtol=1e-6, atol=1e-8)
    # What is reported is the loss of the smoothed targets.
    assert np.isclose(smoothed.loss_, by_hand.loss_, rtol=1e-9)


@pytest.mark.parametrize("data", [class_data(), class_data(n_classes=2), label_data()])
def test_rows_held_out_are_scored_by_their_true_labels(data):
    X, y = data
    settings = {"early_stopping": True, "label_smoothing": 0.4, "learning_rate_init": 0.02}
    model = quick(BackpropClassifier, max_iter=100, n_iter_no_change=100, **settings).fit(X, y)
    held_out = model._model.state.held_out[0]
    assert model.best_validation_score_ == model.score(X[held_out], y[held_out])
    plain = quick(BackpropClassifier, early_stopping=True).fit(X, y)
    np.testing.assert_array_equal(held_out, plain._model.state.held_out[0])


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", Hinge(), SquaredHinge()])
def test_losses_without_probabilities_cannot_be_smoothed(loss):
    X, y = class_data()
    model = quick(BackpropClassifier, loss=loss, label_smoothing=0.1)
    for method, arguments in (("fit", ()), ("partial_fit", (None, [0, 1, 2]))):
        with pytest.raises(ValueError, match=r"label_smoothing=0.1 needs .* loss=.*[hH]inge"):
            getattr(model, method)(X, y, *arguments)
    assert not hasattr(model, "coefs_")
    quick(BackpropClassifier, loss=loss, label_smoothing=0).fit(X, y)
