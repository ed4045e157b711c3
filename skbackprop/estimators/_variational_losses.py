"""The evidence lower bound and the likelihood of rows under a variational autoencoder."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from scipy.special import logsumexp

from ..layers.latent import Bottleneck, Sampling
from ..losses.base import Loss
from ..nn.network import Network
from ..nn.parameters import Parameters
from ..nn.prediction import Predictor, predict_raw
from ..utils.arrays import Array, IndexArray, as_dense

# The seed of the noise in evaluations, whose results are therefore the same in each call.
_SEED = 0

# The number of values in the decoded draws of a block of rows.
_BLOCK_SIZE = 1 << 19


def n_encoder_layers(network: Network) -> int:
    """Return the number of layers of an encoder, which ends with the bottleneck."""
    return 1 + next(
        i for i, layer in enumerate(network.layers) if isinstance(layer, (Bottleneck, Sampling))
    )


def kl_divergences(mean: Array, log_variance: Array) -> Array:
    """Return the Kullback-Leibler divergence of each row from the standard normal distribution.

    It is ``1/2 sum_j (m_j**2 + exp(v_j) - 1 - v_j)`` (Kingma & Welling 2014, appendix B).
    """
    return np.asarray(0.5 * (mean**2 + np.expm1(log_variance) - log_variance).sum(axis=-1))


def variational_losses(
    loss: Loss, network: Network, parameters: Parameters, X: Any, rows: IndexArray | None
) -> Array:
    """Return the negative evidence lower bound of each member and row, from one draw each.

    It is the loss of the decoded draw plus beta times the divergence (Kingma & Welling 2014,
    equation 10 with L = 1).
    """
    n_rows = X.shape[0] if rows is None else len(rows)
    losses = np.empty((len(parameters), n_rows))
    n, rng = n_encoder_layers(network), np.random.default_rng(_SEED)
    beta = cast(Sampling, network.layers[n - 1]).beta
    encoder, decoder = network.part(slice(n - 1)), network.part(slice(n, None))
    decoder_parameters = parameters.part(slice(n, None))
    predictor = Predictor(encoder, parameters.part(slice(n - 1)))
    for part, block in predictor.iter_parts(X, rows):
        x = as_dense(X[part] if rows is None else X[rows[part]]).astype(np.float64)
        mean, log_variance = np.split(block.astype(np.float64), 2, axis=-1)
        codes = mean + np.exp(log_variance / 2) * rng.standard_normal(mean.shape[1:])
        for member, member_codes in enumerate(codes):
            member_parameters = decoder_parameters.members(slice(member, member + 1))
            outputs = predict_raw(decoder, member_parameters, member_codes).astype(np.float64)
            losses[member, part] = loss.value(outputs, x[None])[0]
        losses[:, part] += beta * kl_divergences(mean, log_variance)
    return losses


def log_likelihoods(
    loss: Loss, network: Network, parameters: Parameters, X: Any, n_draws: int
) -> Array:
    """Return the log-likelihood of each row under one network, by importance sampling.

    With codes z_k drawn from the encoder's distribution q(z | x), it is
    ``log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x)`` (Burda et al. 2016, equation 8). All rows have
    the same noise, so the result for a row does not depend on others.
    """
    result = np.empty(X.shape[0])
    n = n_encoder_layers(network)
    beta, n_components = cast(Sampling, network.layers[n - 1]).beta, network.n_units[n]
    encoder, decoder = network.part(slice(n - 1)), network.part(slice(n, None))
    decoder_parameters = parameters.part(slice(n, None))
    noise = np.random.default_rng(_SEED).standard_normal((n_draws, n_components))
    n_at_once = max(1, _BLOCK_SIZE // (n_draws * network.n_units[-1]))
    predictor = Predictor(encoder, parameters.part(slice(n - 1)))
    for part, (statistics,) in predictor.iter_parts(X, rows_at_once=n_at_once):
        x = as_dense(X[part]).astype(np.float64)
        mean, log_variance = np.split(statistics[:, None].astype(np.float64), 2, axis=-1)
        codes = mean + np.exp(log_variance / 2) * noise
        outputs = predict_raw(decoder, decoder_parameters, codes.reshape(-1, n_components))
        outputs = outputs.reshape(*codes.shape[:2], -1).astype(np.float64)
        log_ratios = loss.log_likelihood(outputs, x[:, None], beta)
        log_ratios += 0.5 * (noise**2 + log_variance - codes**2).sum(axis=-1)
        result[part] = logsumexp(log_ratios, axis=1) - np.log(n_draws)
    return result
