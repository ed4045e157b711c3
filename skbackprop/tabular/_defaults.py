"""Default settings of the networks of tabular estimators, found by benchmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..layers.input_layers import BlockDiagonalDense, FeatureLayer, Scale
from ..optimizers import AdamW
from ..schedules import LinearWarmup
from ._network_inputs import WIDTH


@dataclass(frozen=True)
class NetworkDefaults:
    """Settings that differ between the ensembles of an estimator.

    Parameters
    ----------
    embeds : bool
        Whether inputs include a block of encodings of each number.
    hidden : tuple of int
        The units of the hidden layers.
    dropout : float
        The dropout rate.
    weight_decay : float
        The weight decay of AdamW, at a learning rate of one.
    """

    embeds: bool
    hidden: tuple[int, ...]
    dropout: float
    weight_decay: float


FOR_CLASSES = (
    NetworkDefaults(True, (128, 128), dropout=0.2, weight_decay=0.3),
    NetworkDefaults(False, (128, 128), dropout=0.2, weight_decay=0.3),
)
FOR_NUMBERS = (NetworkDefaults(True, (128, 128, 128), dropout=0.1, weight_decay=0.01),)

# The number of units that each block is mapped to, in addition to the number itself.
N_EMBEDDED = 3

# The number of training cycles, each twice as long as the one before.
_N_CYCLES = 3
# The number of steps of the first cycle, and the bounds of its epochs.
_STEPS, _MIN_EPOCHS, _MAX_EPOCHS = 100, 2, 8

# A cycle is kept if its loss exceeds the lowest one by at most this share. Longer training makes
# networks differ more, and their average gains more from that than each of them loses.
TOLERANCE = 0.01


def cycle_lengths(n_train: int, max_iter: int | None) -> list[int]:
    """Return the number of epochs of each training cycle.

    Parameters
    ----------
    n_train : int
        The number of training rows of a network.
    max_iter : int or None
        The maximum number of epochs of all cycles; None for no limit.
    """
    first = min(_MAX_EPOCHS, max(_MIN_EPOCHS, round(_STEPS / _steps_per_epoch(n_train))))
    cycles, left = [], math.inf if max_iter is None else max_iter
    for cycle in range(_N_CYCLES):
        n_epochs = int(min(first * 2**cycle, left))
        left -= n_epochs
        cycles += [n_epochs] if n_epochs else []
    return cycles


def _steps_per_epoch(n_train: int) -> int:
    return -(-n_train // min(256, max(32, n_train // 7)))


def network_params(
    defaults: NetworkDefaults, n_blocks: int, n_train: int, n_estimators: int
) -> dict[str, Any]:
    """Return the constructor parameters of the networks.

    Parameters
    ----------
    defaults : NetworkDefaults
        The settings of the ensemble.
    n_blocks : int
        The number of blocks of encodings that rows begin with.
    n_train : int
        The number of training rows of a network.
    n_estimators : int
        The number of networks.
    """
    embedding = [BlockDiagonalDense(n_blocks, WIDTH, N_EMBEDDED)] if n_blocks else []
    input_layers: list[FeatureLayer] = [*embedding, Scale()]
    return {
        "hidden_layer_sizes": defaults.hidden,
        "input_layers": input_layers,
        "activation": "silu",
        "dropout": defaults.dropout,
        "solver": AdamW(0.9, 0.95, weight_decay=defaults.weight_decay),
        "alpha": 0.0,
        # Batches of almost equal size: a step on a small rest would be too noisy.
        "batch_size": -(-n_train // _steps_per_epoch(n_train)),
        "learning_rate": LinearWarmup("cosine", warmup_fraction=0.05),
        "learning_rate_init": 0.01,
        "n_iter_no_change": np.inf,
        "warm_start": True,
        "n_estimators": n_estimators,
        "dtype": "float32",
    }


def log_class_prior(shares: Any) -> Any:
    """Return the logits of class shares.

    Parameters
    ----------
    shares : array of shape (n_classes,)
        The share of each class, all positive.

    Returns
    -------
    logits : array of shape (n_classes,), or (1,) for up to two classes
    """
    logs = np.log(shares)
    return logs if len(logs) > 2 else np.array([logs[-1] - logs[0]])
