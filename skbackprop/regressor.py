"""The regressor: targets of one or many outputs, and predictions in their units."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from ._base import BaseBackprop
from .core.arrays import Array
from .core.losses import REGRESSOR_LOSSES, Loss


class BackpropRegressor(RegressorMixin, BaseBackprop):
    """PLACEHOLDER."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseBackprop._parameter_constraints,
        "loss": [StrOptions(set(REGRESSOR_LOSSES)), Loss],
    }
    _y_numeric = True

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        loss: Any = "squared_error",
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        init: Any = "auto",
        dtype: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.loss = loss
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.init = init
        self.dtype = dtype

    # -------------------------------------------------------------------- training

    @available_if(BaseBackprop._check_stochastic)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train for one epoch on X and y, going on from what has been learned.

        Moments, random stream and schedule go on too, so that with equal data so many calls
        equal one `fit` of as many epochs. No stopping rule acts, and no rows are held out.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input, without missing values.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each row, not negative and not all zero; None for equal weights.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is not valid, or training diverges. The estimator is
            then left as it was.
        AttributeError
            If the solver is not a stochastic one.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _encode(self, y: Any, reset: bool, incremental: bool, classes: Any) -> Array:
        y = y[:, None] if y.ndim == 1 else y
        if not reset and y.shape[1] != self.n_outputs_:
            raise ValueError(
                f"y has {y.shape[1]} output(s), but the regressor was trained on {self.n_outputs_}."
            )
        loss = self._loss()
        if y.min() < loss.target_minimum:
            raise ValueError(
                f"loss={self.loss!r} needs targets y >= {loss.target_minimum:g}, but y contains "
                f"{y.min():g}."
            )
        return y

    def _loss(self) -> Loss:
        return REGRESSOR_LOSSES[self.loss] if isinstance(self.loss, str) else self.loss

    def _score_targets(self, scores: Array, y: Array, weight: Array | None) -> float:
        self._loss().link.inverse(scores, scores)
        return float(r2_score(y, scores, sample_weight=weight))

    # ------------------------------------------------------------------ prediction

    def predict(self, X: Any) -> Array:
        """Predict the targets of each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            The predictions, in the model's dtype.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError
            If X is not valid input for it.
        """
        scores = self._scores(X)
        self._loss().link.inverse(scores, scores)
        return scores if scores.shape[1] > 1 else scores[:, 0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        loss = REGRESSOR_LOSSES.get(self.loss) if isinstance(self.loss, str) else self.loss
        tags.target_tags.positive_only = getattr(loss, "target_minimum", -np.inf) >= 0
        return tags
