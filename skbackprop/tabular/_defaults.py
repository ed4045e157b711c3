"""How the networks of tabular estimators are trained: settings that were found by measuring."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..optimizers import AdamW
from ..schedules import LinearWarmup


@dataclass(frozen=True)
class NetworkDefaults:
    """What one kind of networks is like.

    Parameters
    ----------
    embeds : bool
        Whether it sees blocks of encodings of each number beside the encoded row.
    hidden : tuple of int
        The units of its hidden layers.
    dropout : float
        The rate at which training leaves out units.
    weight_decay : float
        The share of the weights that a step at a rate of one takes away.
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

# The legs of a training, each twice as long as the one before it: the rate falls to zero in each.
_N_LEGS = 3
# Steps of the first leg, and the bounds of its epochs.
_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 100, 2, 8

# How much worse out of fold a leg may leave networks that are kept. The longer they train, the
# more single networks differ, by which their mean gains more than they lose.
TOLERANCE = 0.01


def cycle_lengths(n_train: int, max_iter: int | None) -> list[int]:
    """Return the epochs of each leg of a training.

    Parameters
    ----------
    n_train : int
        The rows that a network trains on.
    max_iter : int or None
        The most epochs of all legs together; None for what suits the number of rows.
    """
    first = min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, round(_STEPS / _steps_for(n_train))))
    legs, left = [], math.inf if max_iter is None else max_iter
    for leg in range(_N_LEGS):
        n_epochs = int(min(first * 2**leg, left))
        left -= n_epochs
        legs += [n_epochs] if n_epochs else []
    return legs


def _steps_for(n_train: int) -> int:
    """Return the steps of an epoch."""
    return -(-n_train // min(256, max(32, n_train // 7)))


def network_params(
    configuration: NetworkDefaults, n_train: int, n_estimators: int
) -> dict[str, Any]:
    """Return the parameters of the networks of a configuration, but for the epochs.

    Parameters
    ----------
    configuration : Configuration
        What they are like.
    n_train : int
        The rows that a network trains on.
    n_estimators : int
        The number of networks.
    """
    return {
        "hidden_layer_sizes": configuration.hidden,
        "activation": "silu",
        "dropout": configuration.dropout,
        "solver": AdamW(0.9, 0.95, weight_decay=configuration.weight_decay),
        "alpha": 0.0,
        # No batch is much smaller than the others: a step on a few rows goes anywhere.
        "batch_size": -(-n_train // _steps_for(n_train)),
        "learning_rate": LinearWarmup("cosine", warmup_fraction=0.05),
        "learning_rate_init": 0.01,
        "n_iter_no_change": np.inf,
        "warm_start": True,
        "n_estimators": n_estimators,
        "dtype": "float32",
    }


def log_class_prior(shares: Any) -> Any:
    """Return the scores of a network whose probabilities are the shares of classes.

    Parameters
    ----------
    shares : array of shape (n_classes,)
        The share of each class, all positive.

    Returns
    -------
    scores : array of shape (n_classes,), or (1,) for up to two classes
    """
    logs = np.log(shares)
    return logs if len(logs) > 2 else np.array([logs[-1] - logs[0]])
