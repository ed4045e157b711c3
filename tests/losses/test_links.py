"""Links: predictions from raw predictions and back, and those of an ensemble."""

import numpy as np
import pytest
from scipy.special import expit, log_expit, logsumexp, softmax

from skbackprop.losses import Link, links
from skbackprop.losses.links import (
    GaussianLink,
    IdentityLink,
    LogitLink,
    LogLink,
    NonCrossingQuantileLink,
    SoftmaxLink,
    max_exp_argument,
)
from skbackprop.testing import check_gradient
from support.stacks import DTYPES, LOSSES

FLOOR = 0.1
LINKS = {
    link.name: link
    for link in [
        IdentityLink(),
        LogLink(),
        LogitLink(),
        SoftmaxLink(),
        NonCrossingQuantileLink(3),
        GaussianLink(FLOOR),
    ]
}
every_link = pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)


def inverse(link, scores):
    out = np.full_like(scores, np.nan)
    link.inverse(scores, out)
    return out


def test_no_link_goes_untested():
    kinds = {kind for kind in vars(links).values() if isinstance(kind, type)}
    assert {kind for kind in kinds if issubclass(kind, Link)} - {Link} == {
        type(link) for link in LINKS.values()
    }
    assert {loss.link.name for loss in LOSSES.values()} == set(LINKS)


def in_order(scores):
    """Return the first score of three and what two softplus functions add to it."""
    first, second, third = scores.reshape(2, 5, 2, 3).transpose(3, 0, 1, 2)
    second = first + np.logaddexp(0, second)
    return np.stack([first, second, second + np.logaddexp(0, third)], -1).reshape(2, 5, 6)


def means_and_variances(scores):
    return np.where(np.arange(6) % 2 == 0, scores, FLOOR + np.exp(scores))


@pytest.mark.parametrize(
    "name, oracle",
    [
        ("identity", lambda scores: scores),
        ("exp", np.exp),
        ("logistic", expit),
        ("softmax", lambda scores: softmax(scores, axis=-1)),
        ("ordered", in_order),
        ("mean_variance", means_and_variances),
    ],
)
def test_predictions_are_those_of_the_oracle(name, oracle):
    scores = np.random.RandomState(0).normal(scale=3, size=(2, 5, 6))
    np.testing.assert_allclose(inverse(LINKS[name], scores), oracle(scores), rtol=1e-14)


@every_link
def test_scores_of_predictions_have_them(link):
    scores = np.random.RandomState(0).normal(scale=3, size=(2, 5, 6))
    predictions = inverse(link, scores)
    np.testing.assert_allclose(inverse(link, link.link(predictions)), predictions, rtol=1e-9)
    single = link.link(predictions.astype(np.float32))
    assert single.dtype == np.float64
    ends = np.zeros((3, 6)) if link.name != "logistic" else np.repeat([[0.0], [1.0]], 6, axis=1)
    assert np.isfinite(link.link(ends)).all()


@every_link
def test_inverse_may_write_over_the_scores(link):
    scores = np.random.RandomState(0).normal(scale=3, size=(2, 5, 6))
    expected = inverse(link, scores)
    link.inverse(scores, scores)
    np.testing.assert_array_equal(scores, expected)


@every_link
def test_backward_is_the_chain_rule_through_the_link(link):
    scores, slope = np.random.RandomState(0).normal(size=(2, 1, 5, 6))

    def value_and_gradient(scores):
        mean, delta = inverse(link, scores), slope.copy()
        link.inverse_backward(mean, delta)
        return (slope * mean).sum(), delta

    check_gradient(value_and_gradient, scores)


@pytest.mark.parametrize("name", ["exp", "logistic", "softmax"])
def test_prediction_is_the_gradient_of_the_log_partition(name):
    link = LINKS[name]
    scores = np.random.RandomState(0).normal(size=(1, 5, 6))
    check_gradient(lambda scores: (link.log_partition(scores).sum(), inverse(link, scores)), scores)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["logistic", "softmax"])
def test_log_inverse_is_the_logarithm_and_finite_where_predictions_vanish(name, dtype):
    link, eps = LINKS[name], float(np.finfo(dtype).eps)
    scores = np.random.RandomState(0).normal(scale=3, size=(1, 5, 6)).astype(dtype)
    expected = np.log(inverse(link, scores.astype(float)))
    np.testing.assert_allclose(link.log_inverse(scores), expected, rtol=10 * eps, atol=10 * eps)
    huge = np.array([[[1e4, -1e4], [-1e4, 1e4]]], dtype)
    exact = log_expit(huge) if name == "logistic" else huge - logsumexp(huge, -1, keepdims=True)
    np.testing.assert_allclose(link.log_inverse(huge), exact, rtol=eps)


# What pooled scores are, from logarithms of the members' predictions.
POOLED = {
    "identity": lambda scores: scores.mean(axis=0),
    "exp": lambda scores: log_mean_exp(scores),
    "logistic": lambda scores: log_mean_exp(log_expit(scores)) - log_mean_exp(log_expit(-scores)),
    "softmax": lambda scores: log_mean_exp(scores - logsumexp(scores, axis=-1, keepdims=True)),
}
# Members of one mind and at odds, at scores that exp can hold and at those that it can't.
SCORES_OF_MEMBERS = {
    "ordinary": np.random.RandomState(0).normal(scale=3, size=(4, 5, 6)),
    "of one mind": np.array([[[1e4, 0, -1e4] * 2]] * 3),
    "at odds": np.array([[[1e4, -1e4, 3] * 2], [[-1e4, 1e4, 2] * 2], [[0, 5, 1e4] * 2]]),
    "far apart": np.array([[[80, -80, 0] * 2], [[-80, 80, 1] * 2], [[1e-3, -1e-3, 0] * 2]]),
}


def log_mean_exp(values):
    return logsumexp(values, axis=0) - np.log(np.longdouble(len(values)))


@pytest.mark.parametrize("dtype", DTYPES)
@every_link
def test_the_prediction_of_pooled_scores_is_the_mean_of_the_members(link, dtype):
    scores, eps = SCORES_OF_MEMBERS["ordinary"].astype(dtype), float(np.finfo(dtype).eps)
    kept = scores.copy()
    pooled = link.average_predictions(scores)
    assert (pooled.shape, pooled.dtype) == (scores.shape[1:], dtype)
    np.testing.assert_array_equal(scores, kept)
    each = inverse(link, scores)
    expected = each.mean(axis=0)
    if link.name == "mean_variance":  # that of a mixture: the members disagree as well
        expected[:, 1::2] += each[:, :, ::2].var(axis=0)
    np.testing.assert_allclose(inverse(link, pooled), expected, rtol=50 * eps, atol=eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SCORES_OF_MEMBERS)
@pytest.mark.parametrize("name", POOLED)
def test_pooled_scores_are_those_of_the_oracle(name, case, dtype):
    scores = SCORES_OF_MEMBERS[case][..., :3].astype(dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        pooled = LINKS[name].average_predictions(scores)
    assert np.isfinite(pooled).all()
    bound = max_exp_argument(np.dtype(dtype)) if name == "exp" else np.inf
    exact = POOLED[name](np.clip(scores, -bound, bound).astype(np.longdouble)).astype(float)
    eps = float(np.finfo(dtype).eps)
    # Log odds are a difference of two logarithms, each rounded at its own size.
    np.testing.assert_allclose(pooled, exact, rtol=8 * eps, atol=20 * eps)


# Those of classifiers, whose pooled scores are shown to users.
WITH_POOL_BACKWARD = ["identity", "logistic", "softmax"]


@pytest.mark.parametrize("name", WITH_POOL_BACKWARD)
@pytest.mark.parametrize("case", ["ordinary", "of one mind", "far apart"])
def test_pool_backward_is_the_chain_rule_through_the_pool(name, case):
    link, scores = LINKS[name], SCORES_OF_MEMBERS[case][..., :3].astype(float)
    slope = np.random.RandomState(1).normal(size=scores.shape[1:])
    check_gradient(
        lambda scores: (
            (slope * link.average_predictions(scores)).sum(),
            link.average_predictions_backward(scores, slope),
        ),
        scores,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SCORES_OF_MEMBERS)
@pytest.mark.parametrize("name", WITH_POOL_BACKWARD)
def test_pool_backward_is_finite_at_any_scores(name, case, dtype):
    scores = SCORES_OF_MEMBERS[case].astype(dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        deltas = LINKS[name].average_predictions_backward(scores, np.ones_like(scores[0]))
    assert (deltas.shape, deltas.dtype) == (scores.shape, dtype)
    assert np.isfinite(deltas).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SCORES_OF_MEMBERS)
@every_link
def test_pooled_scores_are_finite_at_any_scores(link, case, dtype):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        pooled = link.average_predictions(SCORES_OF_MEMBERS[case].astype(dtype))
        predictions = inverse(link, pooled)
    assert (pooled.dtype, predictions.dtype) == (dtype, dtype)
    assert np.isfinite(pooled).all()
    assert np.isfinite(predictions).all()
