"""Mixtures of models: temperatures, and the weights of models."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls
from scipy.special import expit, softmax

from ..training.validation import fit_temperature, subsample_index, take_weights
from ..utils.arrays import Array

_TINY = np.finfo(np.float64).tiny

# The exponent of temperatures above one when probabilities of several networks are averaged. The
# average is less confident and more accurate than single networks, whose full temperature would
# make it too soft. Temperatures below one, as after few epochs, are kept.
_ENSEMBLE_EXPONENT = 0.5

# A lower temperature means more confident predictions, which few rows cannot justify.
_MIN_TEMPERATURE = 0.5

# The number of steps of expectation maximization, and of the fit of shifts, which is over if no
# log probability changes by more than the tolerance.
_N_STEPS, _SHIFT_TOLERANCE = 200, 1e-6


def average_probabilities(
    logits: Array, temperature: float, n_networks: int | None = None
) -> Array:
    """Return the average probabilities of networks, given logits (n_networks, n, n_outputs).

    The temperature is the one of single networks. With out-of-fold logits, of one network for each
    row, `n_networks` is the number of networks that predict new rows.
    """
    divisor = ensemble_temperature(temperature, n_networks or len(logits))
    return np.asarray(compute_probabilities(logits, divisor).mean(axis=0))


def ensemble_temperature(temperature: float, n_networks: int) -> float:
    """Return the temperature for averaged networks from the temperature of single networks."""
    return temperature if n_networks == 1 else min(temperature, temperature**_ENSEMBLE_EXPONENT)


def safe_log(shares: Array) -> Array:
    """Return logarithms that are finite for zeros too."""
    return np.asarray(np.log(np.maximum(shares, _TINY)))


def compute_probabilities(raw_predictions: Array, temperature: float = 1.0) -> Array:
    """Return the probability of each class, given logits and a temperature.

    Parameters
    ----------
    raw_predictions : array of shape (..., n_outputs)
        Logits; a single one for two classes.
    temperature : float, default=1.0
        The divisor of the logits; probabilities are less confident above one.

    Returns
    -------
    probabilities : array of shape (..., n_classes), in double precision
    """
    logits = raw_predictions.astype(np.float64) / temperature
    if logits.shape[-1] > 1:
        return np.asarray(softmax(logits, axis=-1))
    return np.concatenate([expit(-logits), expit(logits)], axis=-1)


def fit_softmax_temperature(
    raw_predictions: Array, codes: Array, weight: Array | None
) -> tuple[float, float]:
    """Return the temperature of maximum likelihood, and the mean log loss with it.

    See Guo et al. 2017, section 4.2.

    Parameters
    ----------
    raw_predictions : array of shape (n, n_outputs) or (n_models, n, n_outputs)
        Logits, of one or several models; a single one for two classes.
    codes : array of int of shape (n,)
        The class of each row.
    weight : array of shape (n,) or None
        The weight of each row.
    """
    rows = subsample_index(len(codes))
    codes, weight = codes[rows], take_weights(weight, rows)
    logits = raw_predictions[..., rows, :].astype(np.float64)
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    logits -= logits.max(axis=-1, keepdims=True)
    true_logits = logits[..., np.arange(len(codes)), codes]

    def losses_at(temperature: float) -> Array:
        values = logits / temperature
        losses = np.log(np.exp(values, out=values).sum(axis=-1)) - true_logits / temperature
        return np.asarray(losses.reshape(-1, len(codes)).mean(axis=0))

    return fit_temperature(losses_at, weight, _MIN_TEMPERATURE)


def fit_class_shifts(probabilities: Array, codes: Array, weight: Array | None) -> Array:
    """Return what to add to the log probability of each class, so that rare ones are not too low.

    Temperatures draw probabilities towards equal ones, and averages of networks draw them towards
    the frequent classes. With the shifts, the mean probability of a class is nearer to its
    frequency: by the share z^2 / (1 + z^2) if they differ by z standard errors, as in the estimator
    of Thompson (1968).

    Parameters
    ----------
    probabilities : array of shape (n, n_classes)
        Held-out probabilities, on the scale of those for new rows.
    codes : array of int of shape (n,)
        The class of each row.
    weight : array of shape (n,) or None
        The weight of each row.
    """
    rows = subsample_index(len(codes))
    probabilities, codes = probabilities[rows], codes[rows]
    weight = np.ones(len(codes)) if weight is None else weight[rows]
    shares = weight / weight.sum()
    means = shares @ probabilities
    differences = np.bincount(codes, shares, len(means)) - means
    variances = shares**2 @ (probabilities * (1 - probabilities))
    targets = means + differences**3 / np.maximum(differences**2 + variances, _TINY)
    targets = np.maximum(targets, _TINY) / targets.sum()
    logs, shifts = safe_log(probabilities), np.zeros(len(means))
    for _ in range(_N_STEPS):  # iterative proportional fitting
        steps = np.log(targets / (shares @ softmax(logs + shifts, axis=1)))
        shifts += steps
        if np.abs(steps).max() < _SHIFT_TOLERANCE:
            break
    return np.asarray(shifts)


def mixture_weights_nll(likelihoods: Array, weight: Array | None) -> Array:
    """Return the mixture weights of maximum likelihood.

    Expectation maximization finds them: the weight of a model is the mean of its shares in the
    likelihood of each row.

    Parameters
    ----------
    likelihoods : array of shape (n_models, n)
        The probability of the true class of each row by each model.
    weight : array of shape (n,) or None
        The weight of each row.

    Returns
    -------
    weights : array of shape (n_models,)
        The weights, with sum one.
    """
    rows = subsample_index(likelihoods.shape[1])
    likelihoods = np.maximum(likelihoods[:, rows], _TINY)
    weight = take_weights(weight, rows)
    weights = np.full(len(likelihoods), 1 / len(likelihoods))
    for _ in range(_N_STEPS if len(likelihoods) > 1 else 0):
        shares = weights[:, None] * likelihoods
        shares /= shares.sum(axis=0)
        weights = np.average(shares, axis=1, weights=weight)
    return weights


def stacking_weights_nnls(predictions: Array, y: Array, weight: Array | None) -> Array:
    """Return the weights of models whose weighted mean has the least squared error.

    With the errors E of the models they minimize ||E w||^2 over all w >= 0 with sum one. The
    minimum of ||E w||^2 + (sum(w) - 1)^2 over all w >= 0 is a multiple of them: along each
    direction its minimum is q / (1 + q), which increases with q = ||E w||^2 / sum(w)^2.

    Parameters
    ----------
    predictions : array of shape (n_models, n)
        The predictions of each model.
    y : array of shape (n,)
        The targets.
    weight : array of shape (n,) or None
        The weight of each row.

    Returns
    -------
    weights : array of shape (n_models,)
        The weights, with sum one.
    """
    n_models = len(predictions)
    errors = (predictions - y).T * (1.0 if weight is None else np.sqrt(weight)[:, None])
    size = np.linalg.norm(errors)
    if n_models == 1 or size == 0:
        return np.full(n_models, 1 / n_models)
    equations = np.vstack([errors / size, np.ones(n_models)])
    weights, _ = nnls(equations, np.append(np.zeros(len(y)), 1.0))
    return np.asarray(weights / weights.sum())
