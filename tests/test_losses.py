"""Is every loss the value that it says, with that value's gradient, and right at huge scores?"""

import numpy as np
import pytest
from scipy.special import expit, log_expit, logsumexp, softmax
from sklearn.metrics import log_loss, mean_poisson_deviance, mean_squared_error

from skbackprop.core import losses
from skbackprop.core.losses import (
    CLASSIFIER_LOSSES,
    REGRESSOR_LOSSES,
    ClassifierLoss,
    ExpLink,
    IdentityLink,
    Link,
    LogisticLink,
    Loss,
    SoftmaxLink,
)
from skbackprop.testing import check_gradient, check_loss
from stacks import DTYPES, LOSSES, public_kinds, some_targets, without_formula

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def binary_log_losses(y, scores):
    """Return the cross-entropy of each output, by scikit-learn."""
    return [
        [log_loss([target], [p], labels=[0, 1]) for target, p in zip(*row, strict=True)]
        for row in zip(y, expit(scores), strict=True)
    ]


# What scikit-learn or a line of NumPy says of each row.
ORACLES = {
    "squared_error-identity": lambda y, scores: [
        len(row) / 2 * mean_squared_error(*row_pair)
        for row, row_pair in zip(y, zip(y, scores, strict=True), strict=True)
    ],
    "poisson-exp": lambda y, scores: [
        len(row) / 2 * mean_poisson_deviance(row, np.exp(score))
        for row, score in zip(y, scores, strict=True)
    ],
    "log_loss-logistic": lambda y, scores: np.sum(binary_log_losses(y, scores), axis=1),
    "log_loss-softmax": lambda y, scores: [
        log_loss([row.argmax()], [p], labels=range(len(row)))
        for row, p in zip(y, softmax(scores, axis=1), strict=True)
    ],
    "squared_error-logistic": lambda y, scores: ((expit(scores) - y) ** 2).sum(axis=1) / 2,
    "squared_error-softmax": lambda y, scores: ((softmax(scores, axis=1) - y) ** 2).sum(axis=1) / 2,
}


def scores_and_targets(loss, n_rows=20, n_outputs=3, n_members=1):
    stream = np.random.RandomState(0)
    y = [some_targets(loss, n_rows, n_outputs, stream) for _ in range(n_members)]
    return stream.normal(scale=2, size=(n_members, n_rows, n_outputs)), np.array(y)


def gradient(loss, scores, y):
    out = np.full_like(scores, np.nan)
    loss.gradient(scores, y, out)
    return out


def test_tables_are_complete_and_every_docstring_has_a_formula():
    kinds = public_kinds(losses, Loss)
    tables = {**REGRESSOR_LOSSES, **{f"classifier {k}": v for k, v in CLASSIFIER_LOSSES.items()}}
    assert kinds == {type(loss) for loss in tables.values()}
    for_labels = {type(loss) for loss in CLASSIFIER_LOSSES.values()}
    assert for_labels == {kind for kind in kinds if issubclass(kind, ClassifierLoss)}
    assert without_formula(kinds) == set()


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
@every_loss
def test_gradient_is_the_derivative_of_the_value(loss, n_outputs):
    scores, y = scores_and_targets(loss, n_outputs=n_outputs)
    check_loss(loss, scores[0], y[0])


@pytest.mark.parametrize("name", ORACLES)
def test_values_are_those_of_the_oracle(name):
    loss = LOSSES[name]
    scores, y = scores_and_targets(loss)
    value = loss.value(scores, y)
    assert value.shape == (1, 20)
    np.testing.assert_allclose(value[0], ORACLES[name](y[0], scores[0]), rtol=1e-10, atol=1e-14)


@every_loss
def test_targets_shared_by_all_members_broadcast(loss):
    scores, y = scores_and_targets(loss, n_members=3)
    shared = y[:1]
    each = [loss.value(scores[i : i + 1], shared)[0] for i in range(3)]
    np.testing.assert_array_equal(loss.value(scores, shared), each)
    each = [gradient(loss, scores[i : i + 1], shared)[0] for i in range(3)]
    np.testing.assert_array_equal(gradient(loss, scores, shared), each)


@every_loss
def test_value_spares_scores_and_targets(loss):
    scores, y = scores_and_targets(loss)
    copies = scores.copy(), y.copy()
    loss.value(scores, y)
    np.testing.assert_array_equal(scores, copies[0])
    np.testing.assert_array_equal(y, copies[1])


# -------------------------------------------------------------------------- huge scores


def exact_log_loss(loss, scores, y):
    """Return the cross-entropy in extended precision, from log-probabilities."""
    scores, y = scores.astype(np.longdouble), y.astype(np.longdouble)
    if loss.exclusive:
        return -(y * (scores - logsumexp(scores, axis=-1, keepdims=True))).sum(axis=-1)
    return -(y * log_expit(scores) + (1 - y) * log_expit(-scores)).sum(axis=-1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["log_loss-logistic", "log_loss-softmax"])
def test_cross_entropy_is_right_at_huge_scores(name, dtype):
    loss = LOSSES[name]
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
    probabilities = softmax(scores, axis=-1) if loss.exclusive else expit(scores)
    np.testing.assert_allclose(slope, probabilities - y, atol=4 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
@every_loss
def test_every_loss_is_finite_at_huge_scores(loss, dtype):
    scores = np.array([[[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4], [-1e4, -1e4]]], dtype)
    y = some_targets(loss, 4, 2, np.random.RandomState(0)).astype(dtype)[None]
    assert np.isfinite(loss.value(scores, y)).all()
    assert np.isfinite(gradient(loss, scores, y)).all()


def test_poisson_is_least_at_the_target():
    loss = REGRESSOR_LOSSES["poisson"]
    y = np.array([[[0.5], [3.0], [1000.0]]])
    np.testing.assert_allclose(loss.value(np.log(y), y), 0, atol=1e-12)
    assert (loss.value(np.log(y) + 0.1, y) > 0).all()
    zero = np.zeros((1, 1, 1))
    assert loss.value(zero - 100, zero).item() == pytest.approx(np.exp(-100))


# -------------------------------------------------------------------------------- links

LINKS = {link.name: link() for link in [IdentityLink, ExpLink, LogisticLink, SoftmaxLink]}
every_link = pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)


def inverse(link, scores):
    out = np.full_like(scores, np.nan)
    link.inverse(scores, out)
    return out


def test_no_link_goes_untested():
    kinds = {kind for kind in vars(losses).values() if isinstance(kind, type)}
    assert {kind for kind in kinds if issubclass(kind, Link)} - {Link} == {
        type(link) for link in LINKS.values()
    }
    assert {loss.link.name for loss in LOSSES.values()} == set(LINKS)


@pytest.mark.parametrize(
    "name, oracle",
    [
        ("identity", lambda scores: scores),
        ("exp", np.exp),
        ("logistic", expit),
        ("softmax", lambda scores: softmax(scores, axis=-1)),
    ],
)
def test_predictions_are_those_of_the_oracle(name, oracle):
    scores = np.random.RandomState(0).normal(scale=3, size=(2, 5, 4))
    np.testing.assert_allclose(inverse(LINKS[name], scores), oracle(scores), rtol=1e-14)


@every_link
def test_inverse_may_write_over_the_scores(link):
    scores = np.random.RandomState(0).normal(scale=3, size=(2, 5, 4))
    expected = inverse(link, scores)
    link.inverse(scores, scores)
    np.testing.assert_array_equal(scores, expected)


@every_link
def test_backward_is_the_chain_rule_through_the_link(link):
    scores, slope = np.random.RandomState(0).normal(size=(2, 1, 5, 4))

    def value_and_gradient(scores):
        mean, delta = inverse(link, scores), slope.copy()
        link.backward(mean, delta)
        return (slope * mean).sum(), delta

    check_gradient(value_and_gradient, scores)


@pytest.mark.parametrize("name", ["exp", "logistic", "softmax"])
def test_prediction_is_the_gradient_of_the_normalizer(name):
    link = LINKS[name]
    scores = np.random.RandomState(0).normal(size=(1, 5, 4))
    check_gradient(lambda scores: (link.normalizer(scores).sum(), inverse(link, scores)), scores)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["logistic", "softmax"])
def test_log_inverse_is_the_logarithm_and_finite_where_predictions_vanish(name, dtype):
    link, eps = LINKS[name], float(np.finfo(dtype).eps)
    scores = np.random.RandomState(0).normal(scale=3, size=(1, 5, 4)).astype(dtype)
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
    "ordinary": np.random.RandomState(0).normal(scale=3, size=(4, 5, 3)),
    "of one mind": np.array([[[1e4, 0, -1e4]]] * 3),
    "at odds": np.array([[[1e4, -1e4, 3]], [[-1e4, 1e4, 2]], [[0, 5, 1e4]]]),
    "far apart": np.array([[[80, -80, 0]], [[-80, 80, 1]], [[1e-3, -1e-3, 0]]]),
}


def log_mean_exp(values):
    return logsumexp(values, axis=0) - np.log(np.longdouble(len(values)))


@pytest.mark.parametrize("dtype", DTYPES)
@every_link
def test_the_prediction_of_pooled_scores_is_the_mean_of_the_members(link, dtype):
    scores, eps = SCORES_OF_MEMBERS["ordinary"].astype(dtype), float(np.finfo(dtype).eps)
    kept = scores.copy()
    pooled = link.pool(scores)
    assert (pooled.shape, pooled.dtype) == (scores.shape[1:], dtype)
    np.testing.assert_array_equal(scores, kept)
    expected = inverse(link, scores).mean(axis=0)
    np.testing.assert_allclose(inverse(link, pooled), expected, rtol=50 * eps, atol=eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SCORES_OF_MEMBERS)
@pytest.mark.parametrize("name", POOLED)
def test_pooled_scores_are_those_of_the_oracle(name, case, dtype):
    scores = SCORES_OF_MEMBERS[case].astype(dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        pooled = LINKS[name].pool(scores)
    assert np.isfinite(pooled).all()
    exact, eps = (
        POOLED[name](scores.astype(np.longdouble)).astype(float),
        float(np.finfo(dtype).eps),
    )
    # Log odds are a difference of two logarithms, each rounded at its own size.
    np.testing.assert_allclose(pooled, exact, rtol=8 * eps, atol=20 * eps)


@pytest.mark.parametrize("case", SCORES_OF_MEMBERS)
@every_link
def test_members_of_one_mind_are_pooled_into_what_each_predicts(link, case):
    scores = SCORES_OF_MEMBERS[case][:1]
    for n_members in (1, 5):
        pooled = link.pool(np.repeat(scores, n_members, axis=0))
        np.testing.assert_allclose(inverse(link, pooled), inverse(link, scores[0]), rtol=1e-12)


@every_link
def test_the_order_of_members_does_not_count(link):
    scores = SCORES_OF_MEMBERS["at odds"]
    np.testing.assert_allclose(link.pool(scores[::-1]), link.pool(scores), rtol=1e-14)


@pytest.mark.parametrize("method", ["inverse", "log_inverse", "pool", "backward", "normalizer"])
def test_an_unfinished_link_says_what_it_has_not(method):
    class Unfinished(Link):
        pass

    arguments = [np.zeros((1, 1, 1))] * (2 if method in ("inverse", "backward") else 1)
    with pytest.raises(NotImplementedError, match=rf"Unfinished has no {method}\("):
        getattr(Unfinished(), method)(*arguments)


@pytest.mark.parametrize("dtype", DTYPES)
def test_predictions_of_the_exp_link_are_positive_and_finite(dtype):
    scores = np.array([[[-1e30, -1e4, -700, 0, 700, 1e4, 1e30]]], dtype)
    with np.errstate(over="raise"):
        mean = inverse(LINKS["exp"], scores)
    assert (mean > 0).all()
    assert np.isfinite(mean).all()
    assert (np.diff(mean) >= 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["logistic", "softmax"])
def test_probabilities_stay_probabilities_at_huge_scores(name, dtype):
    scores = np.array([[[1e4, -1e4], [-1e4, -1e4], [1e4, 1e4], [1e30, 0]]], dtype)
    p = inverse(LINKS[name], scores)
    assert ((p >= 0) & (p <= 1)).all()
    if name == "softmax":
        np.testing.assert_array_equal(p.sum(axis=-1), 1)


@pytest.mark.parametrize("loss", CLASSIFIER_LOSSES.values(), ids=CLASSIFIER_LOSSES)
def test_exclusive_classes_get_softmax_and_labels_the_logistic_link(loss):
    kind = type(loss)
    assert isinstance(kind(exclusive=True).link, SoftmaxLink)
    assert isinstance(kind(exclusive=False).link, LogisticLink)


@pytest.mark.parametrize("what", ["link", "value", "gradient"])
def test_an_unfinished_loss_says_what_it_has_to_define(what):
    class Unfinished(Loss):
        pass

    array = np.zeros((1, 1, 1))
    use = {
        "link": lambda loss: loss.link,
        "value": lambda loss: loss.value(array, array),
        "gradient": lambda loss: loss.gradient(array, array, array),
    }[what]
    with pytest.raises(NotImplementedError, match=f"Unfinished has to define.* {what}"):
        use(Unfinished())
