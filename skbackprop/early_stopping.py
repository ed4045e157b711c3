"""What ends training early: rows that are not trained on, and when their score no longer rises."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from .utils.config import Configurable
from .utils.validation import validate_interval

__all__ = ["EarlyStopping"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class EarlyStopping(Configurable):
    """Training ends when the score of held-out rows no longer rises; the best weights are kept.

    It ends after more than `n_iter_no_change` epochs in a row whose score is not above the best by
    `tol` (Prechelt 1998, section 2). The score is taken after each epoch, of the rows that are held
    out, or of those that `fit` is given as `X_val` and `y_val`. `partial_fit` compares its calls in
    the same way if it is given such rows; it says so in `converged_` and does not end.

    Parameters
    ----------
    scoring : str, callable or None, default=None
        What is to rise.

        - None: what the estimator's ``score`` returns: accuracy, R2, or D2 of another loss.
        - "loss": minus the loss of the held-out rows, which tells sooner than the accuracy when a
          classifier becomes too sure of itself.
        - the name of any scorer of scikit-learn, such as "roc_auc" or "neg_log_loss".
        - a callable ``scorer(estimator, X, y)``, which returns a number. The estimator predicts
          with the weights of the epoch. Where the rows have weights, it is called with
          ``sample_weight`` as well.
    validation_fraction : float, int or "folds", default=0.1
        The rows that are held out: a share in [0, 1), but two at least, or a number of rows, at
        least 2. "folds" is for several members, at most as many as there are rows: each holds out
        a part of its own, so that all rows train, and each row is held out by one member. What
        that member says of it is in ``oof_prediction_`` and its like. Not used if `fit` is given
        `X_val`.
    n_iter_no_change : float, default=10
        How many epochs may pass without improvement, at least 1; infinite for all.
    tol : float, default=1e-4
        The improvement that counts, not negative.
    calibrate : bool, default=False
        Whether the rows that are held out, or `X_val`, calibrate a classifier's probabilities as
        well: when training is over, its scores are divided by the temperature that makes the
        labels of these rows likeliest (Guo et al. 2017, section 4.2), `temperature_`. The last of
        `coefs_` and `intercepts_` are what is divided; the scores that training goes by, and
        further training, are without it. `partial_fit` finds it anew with `X_val`, else keeps it;
        after a pickle without the state of training it begins with the divided weights, and 1.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    References
    ----------
    Guo, C., Pleiss, G., Sun, Y. & Weinberger, K. Q. (2017). On calibration of modern neural
    networks. ICML, section 4.2.

    Prechelt, L. (1998). Early stopping - but when? Neural networks: tricks of the trade, 55-69,
    section 2.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from skbackprop import BackpropClassifier, EarlyStopping
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     early_stopping=EarlyStopping("roc_auc", validation_fraction=100),
    ...     learning_rate_init=0.01,
    ...     random_state=0,
    ... )
    >>> model.fit(scale(X), y).best_validation_score_ > 0.98
    True
    """

    scoring: str | Callable[..., float] | None = None
    validation_fraction: float | str = 0.1
    n_iter_no_change: float = 10.0
    tol: float = 1e-4
    calibrate: bool = False

    def __post_init__(self) -> None:
        if not (self.scoring is None or isinstance(self.scoring, str) or callable(self.scoring)):
            raise ValueError(
                "scoring of EarlyStopping must be None, 'loss', the name of a scorer or a "
                f"callable, got {self.scoring!r}."
            )
        object.__setattr__(self, "validation_fraction", _share_or_count(self.validation_fraction))
        validate_interval(self, "n_iter_no_change", low=1)
        validate_interval(self, "tol", low=0, closed="left")
        if not isinstance(self.calibrate, (bool, np.bool_)):
            raise ValueError(
                f"calibrate of EarlyStopping must be True or False, got {self.calibrate!r}."
            )
        object.__setattr__(self, "calibrate", bool(self.calibrate))

    def n_held_out(self, n_rows: int) -> int:
        """Return how many of so many rows are held out, where that is not the members' folds."""
        if isinstance(self.validation_fraction, int):
            return self.validation_fraction
        return max(2, math.ceil(float(self.validation_fraction) * n_rows))

    @property
    def is_by_fold(self) -> bool:
        """Whether each of several networks holds out a part of its own."""
        return self.validation_fraction == _FOLDS


_FOLDS = "folds"


def _share_or_count(value: Any) -> float | str:
    """Return a share of the rows as a float, a number of rows as an int, and "folds" as it is."""
    if isinstance(value, str) and value == _FOLDS:
        return value
    if isinstance(value, Integral) and int(value) >= 2:
        return int(value)
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not (is_number and 0 <= float(value) < 1):
        raise ValueError(
            "validation_fraction of EarlyStopping must be a share in [0, 1) or a number of rows, "
            f'at least 2, or "folds", got {value!r}.'
        )
    return float(value)
