"""Contract of all losses: value, gradient, memory and huge raw predictions.

To test a new loss, add its oracle under its name in `ORACLES`.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, huber, log_expit, logsumexp, softmax
from scipy.stats import norm
from sklearn.metrics import (
    hinge_loss,
    log_loss,
    mean_gamma_deviance,
    mean_pinball_loss,
    mean_poisson_deviance,
    mean_tweedie_deviance,
)

from skbackprop.losses import (
    CLASSIFIER_LOSSES,
    REGRESSOR_LOSSES,
    ClassifierLoss,
    Focal,
    Gaussian,
    Huber,
    LogLoss,
    Loss,
    Quantile,
    Tweedie,
    regression,
)
from skbackprop.losses import classification as losses
from skbackprop.losses.links import IdentityLink, LogitLink, SoftmaxLink
from skbackprop.testing import check_loss
from support.stacks import DTYPES, public_kinds, some_targets, without_formula


def binary_log_losses(y, scores):
    """Return the cross-entropy of each output, by scikit-learn."""
    return [
        [log_loss([target], [p], labels=[0, 1]) for target, p in zip(*row, strict=True)]
        for row in zip(y, expit(scores), strict=True)
    ]


def true_probabilities(y, scores):
    """Return the probability that each output gives its target."""
    return np.where(y == 1, expit(scores), expit(-scores))


def hinge_losses(y, scores):
    """Return the hinge loss of each output, by scikit-learn, which requires both labels."""
    settings = {"labels": [0, 1], "sample_weight": [1, 0]}
    return np.array(
        [
            [
                hinge_loss([target, 1 - target], [s, 0], **settings)
                for target, s in zip(*row, strict=True)
            ]
            for row in zip(y, scores, strict=True)
        ]
    )


def by_row(metric, inverse=lambda scores: scores, factor=1, **options):
    """Return an oracle that sums a metric of scikit-learn over the targets of each row."""
    return lambda y, scores: np.array(
        [
            factor * sum(metric([t], [p], **options) for t, p in zip(*row, strict=True))
            for row in zip(y, inverse(scores), strict=True)
        ]
    )


def gaussian_likelihood(min_variance):
    def oracle(y, scores):
        std = np.sqrt(min_variance + np.exp(scores[:, 1::2]))
        return -norm.logpdf(y[:, ::2], scores[:, ::2], std).sum(axis=1)

    return oracle


def pinball_losses(y, scores):
    q = scores.reshape(len(scores), -1, len(LEVELS)).copy()
    q[..., 1:] = np.logaddexp(0, q[..., 1:])
    q = q.cumsum(axis=-1)
    y = y.reshape(q.shape)
    return sum(
        by_row(mean_pinball_loss, alpha=level)(y[..., j], q[..., j])
        for j, level in enumerate(LEVELS)
    )


# The loss of each row as a function of targets and raw predictions, by scikit-learn, SciPy or a
# line of NumPy. The name of a loss of the classifier is followed by that of its link.
ORACLES = {
    "log_loss-logistic": lambda y, scores: np.sum(binary_log_losses(y, scores), axis=1),
    "log_loss-softmax": lambda y, scores: [
        log_loss([row.argmax()], [p], labels=range(len(row)))
        for row, p in zip(y, softmax(scores, axis=1), strict=True)
    ],
    "brier-logistic": lambda y, scores: ((expit(scores) - y) ** 2).sum(axis=1) / 2,
    "brier-softmax": lambda y, scores: ((softmax(scores, axis=1) - y) ** 2).sum(axis=1) / 2,
    "focal-logistic": lambda y, scores: np.sum(
        (1 - true_probabilities(y, scores)) ** 2 * binary_log_losses(y, scores), axis=1
    ),
    "focal-softmax": lambda y, scores: [
        (1 - p[row.argmax()]) ** 2 * log_loss([row.argmax()], [p], labels=range(len(row)))
        for row, p in zip(y, softmax(scores, axis=1), strict=True)
    ],
    "hinge-identity": lambda y, scores: np.sum(hinge_losses(y, scores), axis=1),
    "squared_hinge-identity": lambda y, scores: np.sum(hinge_losses(y, scores) ** 2, axis=1),
    "squared_error": lambda y, scores: ((scores - y) ** 2).sum(axis=1) / 2,
    "absolute_error": lambda y, scores: np.abs(scores - y).sum(axis=1),
    "huber": lambda y, scores: huber(1, scores - y).sum(axis=1),
    "log_cosh": lambda y, scores: np.log(np.cosh(scores - y)).sum(axis=1),
    "quantile": by_row(mean_pinball_loss, alpha=0.5),
    "poisson": by_row(mean_poisson_deviance, np.exp, 0.5),
    "gamma": by_row(mean_gamma_deviance, np.exp, 0.5),
    "tweedie": by_row(mean_tweedie_deviance, np.exp, 0.5, power=1.5),
    "gaussian": gaussian_likelihood(1e-6),
}
# Other settings of the losses in the tables.
LEVELS = (0.1, 0.5, 0.9)
SETTINGS = {
    "huber 0.3": (Huber(0.3), lambda y, scores: huber(0.3, scores - y).sum(axis=1)),
    "tweedie 1.2": (Tweedie(1.2), by_row(mean_tweedie_deviance, np.exp, 0.5, power=1.2)),
    "gaussian 0.5": (Gaussian(0.5), gaussian_likelihood(0.5)),
    "upper quantile": (Quantile(0.9), by_row(mean_pinball_loss, alpha=0.9)),
    "quantiles": (Quantile(LEVELS), pinball_losses),
}
EVERY = REGRESSOR_LOSSES | {name: loss for name, (loss, _) in SETTINGS.items()}
for classifier_name, classifier_loss in CLASSIFIER_LOSSES.items():
    for either in (replace(classifier_loss, multiclass=multiclass) for multiclass in (False, True)):
        EVERY[f"{classifier_name}-{either.link.name}"] = either
ORACLES |= {name: oracle for name, (_, oracle) in SETTINGS.items()}

every_loss = pytest.mark.parametrize("loss", EVERY.values(), ids=EVERY)


def scores_and_targets(loss, n_rows=20, n_outputs=3, n_estimators=1):
    rng = np.random.RandomState(0)
    n_outputs *= loss.n_outputs_per_target
    y = [some_targets(loss, n_rows, n_outputs, rng) for _ in range(n_estimators)]
    return rng.normal(scale=2, size=(n_estimators, n_rows, n_outputs)), np.array(y)


def gradient(loss, scores, y):
    out = np.full_like(scores, np.nan)
    loss.gradient(scores, y, out)
    return out


def test_tables_are_complete_and_every_docstring_has_a_formula():
    kinds = public_kinds(losses, Loss) | public_kinds(regression, Loss)
    tables = {**REGRESSOR_LOSSES, **{f"classifier {k}": v for k, v in CLASSIFIER_LOSSES.items()}}
    assert kinds - {losses.LabelSmoothing} == set(map(type, tables.values()))
    for_labels = {type(loss) for loss in CLASSIFIER_LOSSES.values()}
    assert for_labels == {kind for kind in kinds if issubclass(kind, ClassifierLoss)}
    assert without_formula(kinds) == set()


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
@every_loss
def test_gradient_is_the_derivative_of_the_value(loss, n_outputs):
    scores, y = scores_and_targets(loss, n_outputs=n_outputs)
    check_loss(loss, scores[0], y[0])


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("name", EVERY)
def test_values_are_those_of_the_oracle(name, n_outputs):
    loss = EVERY[name]
    if n_outputs == 1 and getattr(loss, "multiclass", False):
        n_outputs = 2
    scores, y = scores_and_targets(loss, n_outputs=n_outputs)
    value = loss.value(scores, y)
    assert value.shape == (1, 20)
    np.testing.assert_allclose(value[0], ORACLES[name](y[0], scores[0]), rtol=1e-10, atol=1e-13)


@every_loss
def test_targets_shared_by_all_members_broadcast(loss):
    scores, y = scores_and_targets(loss, n_estimators=3)
    shared = y[:1]
    each = [loss.value(scores[i : i + 1], shared)[0] for i in range(3)]
    np.testing.assert_array_equal(loss.value(scores, shared), each)
    each = [gradient(loss, scores[i : i + 1], shared)[0] for i in range(3)]
    np.testing.assert_array_equal(gradient(loss, scores, shared), each)


@every_loss
def test_value_does_not_change_its_arguments(loss):
    scores, y = scores_and_targets(loss)
    copies = scores.copy(), y.copy()
    loss.value(scores, y)
    np.testing.assert_array_equal(scores, copies[0])
    np.testing.assert_array_equal(y, copies[1])


# -------------------------------------------------------------------------- huge scores


def exact_log_loss(loss, scores, y):
    """Return the cross-entropy in extended precision, from log-probabilities."""
    scores, y = scores.astype(np.longdouble), y.astype(np.longdouble)
    if loss.multiclass:
        return -(y * (scores - logsumexp(scores, axis=-1, keepdims=True))).sum(axis=-1)
    return -(y * log_expit(scores) + (1 - y) * log_expit(-scores)).sum(axis=-1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["log_loss-logistic", "log_loss-softmax"])
def test_cross_entropy_is_right_at_huge_scores(name, dtype):
    loss = EVERY[name]
    rows = [[1e4, -1e4, 0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4], [1e4, 9_995, 0], [-1e4, 3, 2.5]]
    scores = np.array([rows] * 3, dtype)
    y = np.broadcast_to(np.eye(3, dtype=dtype)[:, None], scores.shape)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value, slope = loss.value(scores, y), gradient(loss, scores, y)
    assert (value >= 0).all()
    eps = float(np.finfo(dtype).eps)
    exact = exact_log_loss(loss, scores, y).astype(float)
    # A unit in the last place of the largest score is what remains of a difference of two.
    np.testing.assert_allclose(value, exact, rtol=4 * eps, atol=1e4 * eps)
    probabilities = softmax(scores, axis=-1) if loss.multiclass else expit(scores)
    np.testing.assert_allclose(slope, probabilities - y, atol=4 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
@every_loss
def test_every_loss_is_finite_at_huge_scores(loss, dtype):
    scores = np.array([[[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4], [-1e4, -1e4]]], dtype)
    scores = np.tile(scores, 3)
    y = some_targets(loss, 4, 6, np.random.RandomState(0)).astype(dtype)[None]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value, slope = loss.value(scores, y), gradient(loss, scores, y)
    assert (value.dtype, slope.dtype) == (dtype, dtype)
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()


# ---------------------------------------------------------------------------- focal losses

every_gamma = pytest.mark.parametrize("gamma", [0, 0.3, 1.0, 2, 5.0])
either_link = pytest.mark.parametrize("multiclass", [False, True], ids=["logistic", "softmax"])


@every_gamma
@either_link
@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_the_gradient_of_the_focal_loss(gamma, multiclass, smoothing):
    loss = Focal(gamma, multiclass=multiclass)
    scores, y = scores_and_targets(loss)
    check_loss(loss, scores[0], (1 - smoothing) * y[0] + smoothing / 3)


@either_link
def test_without_focus_the_focal_loss_is_the_cross_entropy(multiclass):
    focal, plain = Focal(0, multiclass=multiclass), LogLoss(multiclass=multiclass)
    scores, y = scores_and_targets(plain)
    np.testing.assert_allclose(focal.value(scores, y), plain.value(scores, y), rtol=1e-12)
    np.testing.assert_allclose(
        gradient(focal, scores, y), gradient(plain, scores, y), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("dtype", DTYPES)
@every_gamma
@either_link
def test_the_focal_loss_is_right_at_huge_scores(multiclass, gamma, dtype):
    """Far on the wrong side it is the cross-entropy, far on the right side it is nothing."""
    scores = np.array([[[1e4, -1e4], [1e4, 0], [-1e4, 1e4], [0, 1e4]]], dtype)
    y = np.broadcast_to(np.array([1, 0], dtype), scores.shape)
    focal, plain = Focal(gamma, multiclass=multiclass), LogLoss(multiclass=multiclass)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value, slope = focal.value(scores, y), gradient(focal, scores, y)
    assert value.dtype == slope.dtype == dtype
    eps = float(np.finfo(dtype).eps)
    if multiclass:
        np.testing.assert_allclose(value, plain.value(scores, y), rtol=eps)
        np.testing.assert_allclose(slope, gradient(plain, scores, y), atol=eps)
    is_wrong = (scores > 0) != y
    is_far = scores != 0
    of_plain = gradient(plain, scores, y)
    np.testing.assert_allclose(slope[is_wrong & is_far], of_plain[is_wrong & is_far], atol=eps)
    np.testing.assert_array_equal(slope[~is_wrong & is_far], 0)


# ------------------------------------------------------------------------------ contracts


@pytest.mark.parametrize("loss", CLASSIFIER_LOSSES.values(), ids=CLASSIFIER_LOSSES)
def test_exclusive_classes_get_softmax_and_labels_the_logistic_link(loss):
    """Losses without probabilities have decision values in their place."""
    kind = type(loss)
    links = {multiclass: type(kind(multiclass=multiclass).link) for multiclass in (True, False)}
    if loss.supports_predict_proba:
        assert links == {True: SoftmaxLink, False: LogitLink}
    else:
        assert links == {True: IdentityLink, False: IdentityLink}
