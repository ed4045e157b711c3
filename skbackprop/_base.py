"""What the classifier and the regressor share: from scikit-learn's conventions to a run and back.

An estimator is a stack of one network. `fit` and `partial_fit` validate, let a run train it, and
keep what came of it: all or nothing.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ._run import Run
from ._settings import (
    ARCHITECTURE,
    PARAMETER_CONSTRAINTS,
    as_activation,
    build_network,
    checked_layers,
    hidden_widths,
    is_lbfgs,
)
from ._threads import blas_threads_for
from ._validation import check_range, validated_data, validated_input, validated_weight
from .core.arrays import Array
from .core.batches import Table
from .core.losses import Loss
from .core.network import Network, scores_of
from .core.parameters import Parameters


class BaseBackprop(BaseEstimator, metaclass=ABCMeta):
    """Base of `BackpropClassifier` and `BackpropRegressor`; not to be used directly."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = PARAMETER_CONSTRAINTS
    _y_numeric: ClassVar[bool]  # whether the targets are numbers

    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None

    # ------------------------------------------------------- what a subclass defines

    @abstractmethod
    def _encode(self, y: Any, reset: bool, incremental: bool, classes: Any) -> Array:
        """Return targets of shape (n, k); with `reset` learn what they are.

        `classes` are all labels there will ever be, where the user has named them.
        """

    @abstractmethod
    def _loss(self) -> Loss:
        """Return the loss for the targets last encoded."""

    @abstractmethod
    def _score_targets(self, scores: Array, y: Array, weight: Array | None) -> float:
        """Return the score of predictions from raw `scores` for encoded targets."""

    def _strata(self, y: Array) -> Array | None:
        """Return the class of each row, where a split is to be stratified by it."""
        return None

    # -------------------------------------------------------------------- training

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train the network on X and y.

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
            If a parameter or the data is not valid, or if training diverges. The estimator
            is then left as it was.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def _check_stochastic(self) -> bool:
        if is_lbfgs(self.solver):
            raise AttributeError(
                "partial_fit is only available for stochastic solvers, got solver='lbfgs'. "
                "Choose another solver, or use warm_start=True with fit."
            )
        return True

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, classes: Any = None
    ) -> Any:
        """Train, and leave the estimator as it was if that fails.

        A KeyboardInterrupt during training keeps what the complete epochs have reached.
        """
        before = dict(self.__dict__)
        continues = (incremental or self.warm_start) and hasattr(self, "coefs_")
        past = getattr(self, "_training", {}) if continues else {}
        # One epoch takes care of the stream itself: it is all or nothing.
        stream_before = past["stream"].get_state(legacy=False) if past and not incremental else None
        try:
            if not (incremental and continues):
                self._validate_params()
            if continues:
                self._check_architecture()
            table = self._table(X, y, sample_weight, not continues, incremental, classes)
            run = self._run(table, past, continues, incremental)
            largest = run.network.largest_product(run.rows_at_once)
            with blas_threads_for(largest, run.is_lbfgs):
                interrupt = run.minimise() if run.is_lbfgs else run.descend()
            if interrupt is not None and run.n_iter == 0 and "coefs_" in before:
                raise interrupt
            self._keep(run, continues)
        except BaseException:
            self.__dict__ = before
            if stream_before is not None:
                past["stream"].set_state(stream_before)
            raise
        if interrupt is not None:
            raise interrupt
        return self

    def _table(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        reset: bool,
        incremental: bool,
        classes: Any,
    ) -> Table:
        """Return checked data; with `reset` learn the features and the targets."""
        X, y = validated_data(self, X, y, self._y_numeric, reset)
        if reset:
            self._model_dtype = X.dtype if self.dtype is None else np.dtype(self.dtype)
        check_range(X, self._model_dtype)
        weight = validated_weight(sample_weight, X)
        return Table(X, self._encode(y, reset, incremental, classes), weight)

    def _run(self, table: Table, past: dict[str, Any], continues: bool, incremental: bool) -> Run:
        """Return a run that goes on from the estimator's weights, or from new ones."""
        if continues:
            network = self._network()
        else:
            network = build_network(self, table.X.shape[1], table.y.shape[1])
        run = Run(
            self,
            network,
            self._loss(),
            table,
            self._model_dtype,
            self._score_targets,
            self._strata,
            self._layers(network) if continues else None,
            past,
            self.t_ if continues else 0,
            incremental,
        )
        if not (incremental or run.is_lbfgs):
            run.warn_of_batch_size()
        return run

    # ---------------------------------------------------------------- what is kept

    def _keep(self, run: Run, continues: bool) -> None:
        """Set the attributes that scikit-learn's networks have, and the state to go on from."""
        parameters = run.kept_parameters(self._model_dtype)
        self.coefs_ = [weights[0] for weights in parameters.weights]
        self.intercepts_ = [biases[0, 0] for biases in parameters.biases]
        self._widths = run.network.widths
        self.n_layers_, self.n_outputs_ = len(self._widths), self._widths[-1]
        self.out_activation_ = run.objective.loss.link.name
        self.n_iter_, self.best_iter_, self.t_ = run.n_iter, run.best_iter, run.n_seen
        self.loss_ = run.loss
        self.loss_curve_ = (self.loss_curve_ if continues else []) + run.losses
        self._keep_best(run, continues)
        if not continues:
            self._architecture = self._architecture_now()
        self._training = run.state
        self._went_on = run.incremental

    def _keep_best(self, run: Run, continues: bool) -> None:
        """Set the best loss, or with early stopping the validation scores and the best of them."""
        best_loss: float | None = min(run.losses, default=np.inf)
        scores, best_score = None, None
        if self.early_stopping:
            known = self.validation_scores_ if continues else None
            best_loss, scores, best_score = None, (known or []) + run.scores, run.best_score
        if run.incremental and continues:
            # Without a stopping rule, the best is that of all calls.
            if best_loss is not None and self.best_loss_ is not None:
                best_loss = min(best_loss, self.best_loss_)
            best_score = self.best_validation_score_ if self.early_stopping else None
        self.best_loss_, self.validation_scores_ = best_loss, scores
        self.best_validation_score_ = best_score

    def _architecture_now(self) -> dict[str, Any]:
        architecture = {name: getattr(self, name) for name in ARCHITECTURE}
        architecture["hidden_layer_sizes"] = hidden_widths(self.hidden_layer_sizes)
        return architecture

    def _check_architecture(self) -> None:
        now = self._architecture_now()
        for name, value in self._architecture.items():
            if now[name] != value:
                raise ValueError(
                    f"{name} was {value!r} when training began and is {now[name]!r} now, but it "
                    "cannot change while training goes on. Set it back, or start anew with "
                    "warm_start=False and fit."
                )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the training state behind unless training is meant to go on."""
        state = dict(super().__getstate__())
        if "_training" in state and not (self.warm_start or self._went_on):
            del state["_training"]
        return state

    # ------------------------------------------------------------------ prediction

    def _scores(self, X: Any) -> Array:
        """Return the raw scores of X, of shape (n, n_outputs)."""
        check_is_fitted(self)
        X = validated_input(self, X)
        dtype = self._model_dtype
        network = self._network()
        layers = self._layers(network)
        parameters = Parameters(
            [weights.astype(dtype, copy=False)[None] for weights, _ in layers],
            [biases.astype(dtype, copy=False)[None, None] for _, biases in layers],
        )
        with np.errstate(all="ignore"):
            scores: Array = scores_of(network, parameters, X)[0]
            is_finite = np.isfinite(scores.sum()) or np.isfinite(scores).all()
        if not is_finite:
            raise ValueError(
                "The network's output on X is not finite. Look at the scale of X: it should be "
                "that of the training data."
            )
        return scores

    def _network(self) -> Network:
        """Return the architecture that was trained."""
        activation = as_activation(self._architecture["activation"])
        return Network(self._widths, (activation,) * (len(self._widths) - 2))

    def _layers(self, network: Network) -> list[tuple[Array, Array]]:
        """Return the weights and biases that `coefs_` and `intercepts_` hold now."""
        return checked_layers(self.coefs_, self.intercepts_, network, "coefs_, intercepts_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
