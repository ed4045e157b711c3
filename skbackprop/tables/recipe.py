"""How the networks of tabular estimators are trained: settings that were found by measuring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..optimizers import AdamW
from ..schedules.warmup import WarmUp
from ..stopping import EarlyStopping


@dataclass(frozen=True)
class Configuration:
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
    Configuration(True, (256, 256), dropout=0.2, weight_decay=0.3),
    Configuration(False, (128, 128), dropout=0.2, weight_decay=0.3),
)
FOR_NUMBERS = (Configuration(True, (256, 256, 256), dropout=0.1, weight_decay=0.01),)

# Steps of a training, and the bounds of its epochs.
_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 1440, 24, 100


def settings_for(
    configuration: Configuration,
    n_rows: int,
    n_members: int,
    max_iter: int | None,
    has_folds: bool = True,
) -> dict[str, Any]:
    """Return the parameters of the networks of a configuration.

    Parameters
    ----------
    configuration : Configuration
        What they are like.
    n_rows, n_members : int
        The number of rows, and of networks.
    max_iter : int or None
        The most epochs; None for what suits the number of rows.
    has_folds : bool, default=True
        Whether each network holds out a fold.
    """
    n_train = n_rows - (-(-n_rows // n_members) if has_folds else 0)
    n_steps = -(-n_train // min(256, max(32, n_rows // 8)))
    n_epochs = min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, round(_STEPS / n_steps)))
    return {
        "hidden_layer_sizes": configuration.hidden,
        "activation": "silu",
        "dropout": configuration.dropout,
        "solver": AdamW(0.9, 0.95, weight_decay=configuration.weight_decay),
        "alpha": 0.0,
        # No batch is much smaller than the others: a step on a few rows goes anywhere.
        "batch_size": -(-n_train // n_steps),
        "learning_rate": WarmUp("cosine", length=0.05),
        "learning_rate_init": 0.003,
        "max_iter": n_epochs if max_iter is None else min(n_epochs, max_iter),
        "early_stopping": EarlyStopping(
            "loss", validation_fraction="folds", n_iter_no_change=16, tol=0.0
        ),
        "n_members": n_members,
        "dtype": "float32",
    }


def log_shares(shares: Any) -> Any:
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
