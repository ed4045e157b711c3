"""Temperatures of scores, and the weights of several models: by likelihood, or by squared error.

All is fitted out of fold: on what models say of rows that they have not been trained on.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls
from scipy.special import expit, softmax

from ..training.temperature import fit_temperature, normalized_weights, subsampler
from ..utils.arrays import Array

# Below, a network would be more sure of itself than a fit on few rows can tell.
LOWEST = 0.5
_N_STEPS = 200


def probabilities(scores: Array, temperature: float = 1.0) -> Array:
    """Return the probability of each class, of scores divided by a temperature.

    Parameters
    ----------
    scores : array of shape (..., n_outputs)
        Logits; one output is for two classes.
    temperature : float, default=1.0
        Above one for probabilities that are less sure.

    Returns
    -------
    probabilities : array of shape (..., n_classes), in double precision
    """
    logits = scores.astype(np.float64) / temperature
    if logits.shape[-1] > 1:
        return np.asarray(softmax(logits, axis=-1))
    return np.concatenate([expit(-logits), expit(logits)], axis=-1)


def temperature_for_scores(
    scores: Array, codes: Array, weight: Array | None, lowest: float = LOWEST
) -> float:
    """Return the temperature of the greatest likelihood (Guo et al. 2017, section 4.2).

    Parameters
    ----------
    scores : array of shape (n, n_outputs) or (n_models, n, n_outputs)
        Logits, of several models each with its own; one output is for two classes.
    codes : array of int of shape (n,)
        The class of each row.
    weight : array of shape (n,) or None
        What each row weighs.
    lowest : float, default=0.5
        The least that it may be.
    """
    temperature, _ = calibrated(scores, codes, weight, lowest)
    return temperature


def calibrated(
    scores: Array, codes: Array, weight: Array | None, lowest: float = LOWEST
) -> tuple[float, float]:
    """Return the temperature of `temperature_for_scores`, and the mean log loss with it.

    The loss tells how much scores know, however sure they are of it: what a temperature mends is
    no reason to end training (Holzmueller et al. 2025, arXiv 2501.19195, section 3).
    """
    some = subsampler(len(codes))
    codes, weight = codes[some], normalized_weights(weight, some)
    logits = scores[..., some, :].astype(np.float64)
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    logits -= logits.max(axis=-1, keepdims=True)
    own = logits[..., np.arange(len(codes)), codes]

    def losses_at(temperature: float) -> Array:
        scaled, of_own = logits / temperature, own / temperature
        losses = np.log(np.exp(scaled, out=scaled).sum(axis=-1)) - of_own
        return np.asarray(losses.reshape(-1, len(codes)).mean(axis=0))

    return fit_temperature(losses_at, weight, lowest)


def mixture_weights_nll(likelihoods: Array, weight: Array | None) -> Array:
    """Return the weights of the mixture of models that makes what was seen most likely.

    They are found by expectation maximisation: a model's weight is the mean of its shares in the
    likelihood of each row.

    Parameters
    ----------
    likelihoods : array of shape (n_models, n)
        What each model says of the class that each row has, above zero.
    weight : array of shape (n,) or None
        What each row weighs.

    Returns
    -------
    weights : array of shape (n_models,), which add up to one
    """
    some = subsampler(likelihoods.shape[1])
    likelihoods, weight = likelihoods[:, some], normalized_weights(weight, some)
    weights = np.full(len(likelihoods), 1 / len(likelihoods))
    for _ in range(_N_STEPS if len(likelihoods) > 1 else 0):
        shares = weights[:, None] * likelihoods
        shares /= shares.sum(axis=0)
        weights = np.average(shares, axis=1, weights=weight)
    return weights


def stacking_weights_nnls(predictions: Array, y: Array, weight: Array | None) -> Array:
    """Return the weights of the mean of models that has the least squared error.

    With errors E of the models it is the least of ||E w||^2 over all w >= 0 that add up to one.
    That of ||E w||^2 + (sum(w) - 1)^2 over all w >= 0 is a multiple of it: along each direction
    the least is q / (1 + q), which rises with q = ||E w||^2 / sum(w)^2.

    Parameters
    ----------
    predictions : array of shape (n_models, n)
        What each model says of each row.
    y : array of shape (n,)
        The targets.
    weight : array of shape (n,) or None
        What each row weighs.

    Returns
    -------
    weights : array of shape (n_models,), which add up to one
    """
    n_models = len(predictions)
    errors = (predictions - y).T * (1.0 if weight is None else np.sqrt(weight)[:, None])
    size = np.linalg.norm(errors)
    if n_models == 1 or size == 0:
        return np.full(n_models, 1 / n_models)
    equations = np.vstack([errors / size, np.ones(n_models)])
    found, _ = nnls(equations, np.append(np.zeros(len(y)), 1.0))
    return np.asarray(found / found.sum())
