"""Variational autoencoders minimize the negative ELBO, and their likelihoods are right.

The oracles: numeric integrals of the divergence and of the evidence; probabilistic principal
component analysis, whose likelihood is that of a normal distribution with a low-rank covariance.
"""

import numpy as np
import pytest
from scipy import integrate, sparse, stats
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from skbackprop import BackpropAutoencoder, BackpropGridSearchCV
from skbackprop.estimators._variational_losses import kl_divergences
from skbackprop.losses import Huber, LogLoss, Poisson, SquaredError
from support import few_epochs, same_bits

pytestmark = few_epochs

N, D = 60, 4
X = np.random.RandomState(0).randn(N, 2) @ np.random.RandomState(1).randn(2, D)
X += 0.3 * np.random.RandomState(2).randn(N, D)
WEIGHT = np.random.RandomState(3).randint(0, 4, N).astype(float)
BITS = (X > 0).astype(float)
COUNTS = np.random.RandomState(4).poisson(np.exp(X / 2)).astype(float)


def small(**changes):
    """Return a variational autoencoder that takes a few milliseconds to fit."""
    settings = {"hidden_layer_sizes": (5,), "activation": "tanh", "max_iter": 5, "random_state": 0}
    return BackpropAutoencoder(**settings | {"variational": True} | changes)


# ----------------------------------------------------------------------- the divergence


@pytest.mark.parametrize("mean, log_variance", [(0.0, 0.0), (0.7, -1.0), (-2.0, 0.8)])
def test_divergence_is_the_integral_of_its_definition(mean, log_variance):
    q = stats.norm(mean, np.exp(log_variance / 2))
    expected, _ = integrate.quad(
        lambda z: q.pdf(z) * (q.logpdf(z) - stats.norm.logpdf(z)), *q.interval(1 - 1e-12)
    )
    actual = kl_divergences(np.array([[mean]]), np.array([[log_variance]]))
    assert actual.item() == pytest.approx(expected, abs=1e-8)


def split(autoencoder, rows):
    """Return the means, the log variances and the decoder's layers, by the formulas."""
    a = rows
    *coefs, last = zip(autoencoder.coefs_, autoencoder.intercepts_, strict=True)
    n = len(coefs) // 2
    for W, b in coefs[:n]:
        a = np.tanh(a @ W + b)
    W, b = coefs[n]
    return *np.split(a @ W + b, 2, axis=1), [*coefs[n + 1 :], last]


def decoded(layers, codes):
    """Return the raw reconstructions of codes."""
    for W, b in layers[:-1]:
        codes = np.tanh(codes @ W + b)
    W, b = layers[-1]
    return codes @ W + b


# ------------------------------------------------------------------------ what it minimizes


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("loss, rows", [(SquaredError(), X), (LogLoss(), BITS)])
def test_loss_curve_is_the_negative_evidence_lower_bound(loss, rows, weight):
    """With a learning rate near zero all batches of an epoch see the same weights."""
    beta = 0.7
    settings = {"loss": loss, "beta": beta, "alpha": 0, "learning_rate_init": 1e-12}
    autoencoder = small(**settings, max_iter=1, batch_size=16, shuffle=False)
    _, model = clone(autoencoder)._start_training({"X": rows, "y": None})
    (generator,) = model.state.layer_rngs
    noise = np.vstack([generator.standard_normal((size, 2)) for size in (16, 16, 16, 12)])
    autoencoder.fit(rows, sample_weight=weight)

    mean, log_variance, layers = split(autoencoder, rows)
    raw = decoded(layers, mean + np.exp(log_variance / 2) * noise)
    values = loss.value(raw[None], rows[None])[0] + beta * kl_divergences(mean, log_variance)
    expected = np.average(values, weights=weight) / (D if loss.average_over_outputs else 1)
    assert autoencoder.loss_curve_ == pytest.approx([expected], rel=1e-8)


def test_batches_of_weight_zero_add_no_divergence():
    """Neither to the loss of a network that skips them, nor to those of others in its stack."""
    skipping, shorter = (
        small(batch_size=16, shuffle=False).partial_fit(X, sample_weight=np.ones(N))
        for _ in range(2)
    )
    skipping.partial_fit(X, sample_weight=np.arange(N) < 48)
    assert skipping.loss_ == pytest.approx(shorter.partial_fit(X[:48]).loss_)
    settings = {"cv": 2, "refit": False, "scoring": lambda model, X, sample_weight: model.loss_}
    stacked, alone = (
        kind(small(batch_size=2), {"random_state": [0, 1, 2]}, **settings)
        .fit(X, sample_weight=np.arange(N) % 3 == 0)
        .cv_results_["mean_test_score"]
        for kind in (BackpropGridSearchCV, GridSearchCV)
    )
    np.testing.assert_allclose(stacked, alone)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def test_early_stopping_and_validation_loss_see_the_evidence_lower_bound(container, weight):
    autoencoder = small(beta=0.2, early_stopping=True, max_iter=20, learning_rate_init=0.02)
    rows, share = X[::3], None if weight is None else weight[::3]
    autoencoder.fit(container(X), X_val=container(rows), sample_weight_val=share)

    mean, log_variance, layers = split(autoencoder, rows)
    noise = np.random.default_rng(0).standard_normal(mean.shape)
    raw = decoded(layers, mean + np.exp(log_variance / 2) * noise)
    values = np.square(raw - rows).sum(axis=1) / 2 + 0.2 * kl_divergences(mean, log_variance)
    expected = np.average(values, weights=share) / D
    assert min(autoencoder.validation_loss_curve_) == pytest.approx(expected)
    assert autoencoder.best_validation_score_ == pytest.approx(-expected)


def test_codes_are_the_means_and_reconstructions_those_of_the_means():
    autoencoder = small().fit(X)
    mean, _, layers = split(autoencoder, X)
    assert [W.shape for W in autoencoder.coefs_] == [(D, 5), (5, 4), (2, 5), (5, D)]
    np.testing.assert_allclose(autoencoder.transform(X), mean)
    np.testing.assert_allclose(autoencoder.inverse_transform(mean), decoded(layers, mean))
    variance = np.square(X - X.mean(axis=0)).sum()
    expected = 1 - np.square(X - decoded(layers, mean)).sum() / variance
    assert autoencoder.score(X) == pytest.approx(expected)


# ------------------------------------------------------------------------------ likelihoods


def pca_of(W, mean, variance):
    """Return a network of probabilistic PCA, whose encoder returns the exact posterior.

    It is the normal distribution with the mean M^-1 W' (x - mean) and the covariance variance M^-1,
    with M = W'W + variance I (Tipping & Bishop 1999, equation 9), a diagonal for orthogonal W.
    """
    autoencoder = small(hidden_layer_sizes=(), beta=variance, max_iter=1).fit(X)
    scale = np.square(W).sum(axis=0) + variance
    log_variances = np.log(variance / scale)
    autoencoder.coefs_ = [np.hstack([W / scale, np.zeros_like(W)]), W.T]
    autoencoder.intercepts_ = [np.concatenate([-(mean @ W) / scale, log_variances]), mean]
    return autoencoder


@pytest.mark.parametrize("n_draws", [1, 20])
@pytest.mark.parametrize("variance", [1.0, 0.3])
def test_likelihood_of_probabilistic_pca_is_exact(variance, n_draws):
    """With the exact posterior each draw has the same weight."""
    W, mean = np.linalg.qr(np.random.RandomState(5).randn(D, 2))[0] * [2.0, 0.5], np.arange(D)
    autoencoder = pca_of(W, mean.astype(float), variance)
    exact = stats.multivariate_normal(mean, W @ W.T + variance * np.eye(D)).logpdf(X)
    np.testing.assert_allclose(autoencoder.score_samples(X, n_draws=n_draws), exact, rtol=1e-9)


def test_training_finds_probabilistic_pca():
    """The maximum has the eigenvectors with eigenvalues above the variance (Lucas et al. 2019)."""
    rng, variance = np.random.RandomState(0), 0.25
    rows = rng.randn(2000, 1) @ np.array([[1.5, -1.0, 0.5]]) + 0.5 * rng.randn(2000, 3)
    autoencoder = BackpropAutoencoder(
        1, (), variational=True, beta=variance, learning_rate_init=0.05, max_iter=150, tol=0,
        alpha=0, n_iter_no_change=np.inf, learning_rate="cosine", batch_size=100, random_state=0,
    ).fit(rows)  # fmt: skip
    values, vectors = np.linalg.eigh(np.cov(rows.T, ddof=0))
    covariance = variance * np.eye(3) + (values[-1] - variance) * np.outer(*[vectors[:, -1]] * 2)
    best = stats.multivariate_normal(rows.mean(axis=0), covariance).logpdf(rows).mean()
    assert autoencoder.score_samples(rows).mean() == pytest.approx(best, abs=0.02)
    (W,) = autoencoder.coefs_[1:]
    np.testing.assert_allclose(W.T @ W, covariance - variance * np.eye(3), atol=0.05)


DENSITIES = {
    "squared_error": (SquaredError(), X, lambda raw, x: stats.norm.logpdf(x, raw, 0.6**0.5)),
    "log_loss": (LogLoss(), BITS, lambda raw, x: stats.bernoulli.logpmf(x, expit(raw))),
    "poisson": (Poisson(), COUNTS, lambda raw, x: stats.poisson.logpmf(x, np.exp(raw))),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_likelihood_is_the_integral_over_all_codes(name):
    loss, rows, log_density = DENSITIES[name]
    autoencoder = small(n_components=1, loss=loss, beta=0.6, max_iter=30, learning_rate_init=0.02)
    autoencoder.fit(rows)
    *_, layers = split(autoencoder, rows)
    z = np.linspace(-8, 8, 4001)
    raw = decoded(layers, z[:, None])
    density = np.exp(log_density(raw[:, None], rows).sum(axis=2)) * stats.norm.pdf(z)[:, None]
    expected = np.log(integrate.simpson(density, x=z, axis=0))
    actual = autoencoder.score_samples(rows, n_draws=20_000)
    np.testing.assert_allclose(actual, expected, atol=0.1)
    few = autoencoder.score_samples(rows, n_draws=1).mean()
    assert few < actual.mean() < expected.mean() + 0.02  # Burda et al. (2016), theorem 1


def test_a_loss_without_a_likelihood_trains_and_has_no_scores():
    autoencoder = small(loss=Huber()).fit(X)
    assert autoencoder.offset_ is None
    for method in (autoencoder.score_samples, autoencoder.predict):
        with pytest.raises(ValueError, match=r"loss=Huber\(\) does not have"):
            method(X)
    assert autoencoder.sample(3).shape == (3, D)


# ---------------------------------------------------------------------------------- samples


def test_samples_are_decoded_standard_normal_codes():
    autoencoder = small(loss="log_loss").fit(BITS)
    codes = np.random.RandomState(7).standard_normal((5, 2))
    expected = autoencoder.inverse_transform(codes)
    np.testing.assert_array_equal(autoencoder.sample(5, random_state=7), expected)
    assert ((expected > 0) & (expected < 1)).all()
    assert autoencoder.sample().shape == (1, D)


@pytest.mark.parametrize("n", [0, 2.0, None])
def test_numbers_of_samples_and_draws_are_checked(n):
    autoencoder = small().fit(X)
    with pytest.raises((TypeError, ValueError), match="n_samples"):
        autoencoder.sample(n)
    with pytest.raises((TypeError, ValueError), match="n_draws"):
        autoencoder.score_samples(X, n_draws=n)


def test_other_autoencoders_have_no_samples():
    autoencoder = small(variational=False).fit(X)
    assert not hasattr(autoencoder, "sample")
    with pytest.raises(AttributeError, match="no attribute 'sample'"):
        autoencoder.sample(3)
    with pytest.raises(AttributeError, match="no attribute 'sample'"):
        autoencoder.set_params(variational=True).sample(3)
    with pytest.raises(NotFittedError):
        small().sample(3)


# --------------------------------------------------------------------------------- training


def test_a_warm_start_may_change_beta_but_not_the_kind():
    autoencoder = small(warm_start=True, beta=0.1).fit(X)
    autoencoder.set_params(beta=2.0).fit(X)
    anew = small(warm_start=True, beta=0.1).fit(X).set_params(beta=2.0)
    for _ in range(5):
        anew.partial_fit(X)
    assert same_bits(autoencoder, anew)
    with pytest.raises(ValueError, match="variational of the fitted network is True, and must not"):
        autoencoder.set_params(variational=False, beta=1.0).fit(X)


def test_noise_is_a_stream_of_its_own():
    """Dropout and draws do not change the initial weights or the order of the rows."""
    one, other = (small(beta=beta, max_iter=1, learning_rate_init=1e-12) for beta in (1.0, 1e-9))
    for ours, theirs in zip(one.fit(X).coefs_, other.fit(X).coefs_, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"beta": 0.0}, "'beta' parameter .* must be a float"),
        ({"beta": "auto"}, "'beta' parameter"),
        ({"variational": "yes"}, "'variational' parameter"),
        ({"solver": "lbfgs"}, "needs a deterministic objective"),
        ({"loss": "log_loss"}, r"loss=.* needs X >= 0"),
    ],
)
def test_invalid_settings_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        small(**settings).fit(X)
