"""Settings of early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any

from .utils.configurable import Configurable
from .utils.validation import between

__all__ = ["EarlyStopping"]


@dataclass(frozen=True)
class EarlyStopping(Configurable):
    """Stop training when the validation score no longer improves, and keep the best weights.

    Training stops after more than `n_iter_no_change` consecutive epochs whose score does not exceed
    the best score by `tol` (Prechelt 1998, section 2). The score is computed after each epoch on
    held-out rows, or on `X_val` and `y_val` if they are passed to `fit`. If they are passed to
    `partial_fit`, each call counts as an epoch, and `converged_` is set instead of stopping. If the
    score was the same in all epochs, and not the best possible one, `fit` warns.

    Parameters
    ----------
    scoring : str, callable or None, default=None
        The validation score.

        - None: the estimator's ``score``, which is accuracy, R2 or D2 of the loss.
        - "loss": the negated loss of the validation rows. It shows the overconfidence of a
          classifier earlier than the accuracy does.
        - the name of a scikit-learn scorer, such as "roc_auc" or "neg_log_loss".
        - a callable ``scorer(estimator, X, y)`` that returns a number. The estimator predicts with
          the weights of the epoch. If rows have weights, ``sample_weight`` is passed too.
    validation_fraction : float, int or "folds", default=0.1
        The validation rows: their share in [0, 1), or their number, an int of at least 2. At least
        2 rows are held out. With "folds", each network of an ensemble holds out a different fold:
        all rows are used for training, and each row has an out-of-fold prediction in
        ``oof_prediction_`` and similar attributes. There must be at least as many rows as networks.
        Not used with `X_val`.
    n_iter_no_change : float, default=10
        Maximum number of epochs without improvement, at least 1; may be infinite.
    tol : float, default=1e-4
        Minimum improvement of the score that counts as progress, non-negative.
    calibrate : bool, default=False
        Whether to calibrate the probabilities of a classifier on the validation rows by temperature
        scaling (Guo et al. 2017, section 4.2). After training, the last arrays of `coefs_` and
        `intercepts_` are divided by `temperature_`, which maximizes the likelihood of these rows.
        Validation scores and further training use the undivided weights. `partial_fit` computes the
        temperature again if it gets `X_val`, else it keeps the temperature. If the estimator is
        pickled without its training state, further training starts from the divided weights with
        temperature 1.

    Raises
    ------
    ValueError
        If a setting is out of range.

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
    n_iter_no_change: Annotated[float, between(1)] = 10.0
    tol: Annotated[float, between(0, closed="left")] = 1e-4
    calibrate: bool = False

    def __post_init__(self) -> None:
        if not (self.scoring is None or isinstance(self.scoring, str) or callable(self.scoring)):
            raise ValueError(
                "scoring of EarlyStopping must be None, 'loss', the name of a scorer or a "
                f"callable, got {self.scoring!r}."
            )
        fraction = _validate_held_out(self.validation_fraction)
        object.__setattr__(self, "validation_fraction", fraction)
        super().__post_init__()

    def n_held_out(self, n_rows: int) -> int:
        """Return the number of validation rows out of `n_rows`, unless it is "folds"."""
        if isinstance(self.validation_fraction, int):
            return self.validation_fraction
        return max(2, math.ceil(float(self.validation_fraction) * n_rows))


def _validate_held_out(value: Any) -> float | str:
    """Return a share of the rows as a float, a number of rows as an int, or "folds"."""
    if isinstance(value, str) and value == "folds":
        return value
    if isinstance(value, Integral) and int(value) >= 2:
        return int(value)
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not (is_number and 0 <= float(value) < 1):
        raise ValueError(
            "validation_fraction of EarlyStopping must be a share of the rows in [0, 1), a number "
            f'of rows of at least 2, or "folds", got {value!r}.'
        )
    return float(value)
