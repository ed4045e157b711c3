"""Base class of the network estimators: validate, train, set the fitted attributes."""

from __future__ import annotations

import math
import operator
import time
from dataclasses import dataclass, replace
from functools import cache
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer, get_scorer_names

from .._sklearn import CallbackSupportMixin
from ..losses.base import Loss
from ..nn.network import Network
from ..nn.parameters import Parameters
from ..nn.prediction import FEW_ROWS, Predictor
from ..nn.rows import Rows
from ..nn.train_state import TrainState
from ..training.architecture import check_first_layer
from ..training.class_weight import BALANCED
from ..training.config import Config, is_lbfgs
from ..training.diagnostics import collect_warnings, warn
from ..training.epochs import MakeStack
from ..training.resources import check_memory, compute_rows_at_once
from ..training.start import start_training
from ..training.train import OnEpoch, TrainingInterrupted, train
from ..training.validation import Validation, fit_shared_temperature, predict_out_of_fold
from ..utils.arrays import Array, MatrixLike
from ..utils.configurable import is_equal
from ..utils.validation import did_you_mean
from ._checkpoint import (
    describe_fit,
    read_checkpoint,
    resume_training,
    select_state,
    write_checkpoint,
)
from ._estimator_mixin import CallbackHook, with_argument_suggestions, with_callbacks
from ._fitted import FITTED_PARTS, FittedMixin, history_attributes
from ._targets import Targets
from ._validation import (
    get_row_shape,
    prefix_errors,
    reject_unused_overrides,
    shallow_copy,
    validate_groups,
    validate_rows,
)

# Types of parameters that can change in place.
_MUTABLE = {list, dict, np.ndarray}


def check_stochastic(estimator: Any) -> bool:
    """Check that an estimator has a stochastic solver, for `available_if`."""
    if is_lbfgs(estimator.solver):
        raise AttributeError(
            "partial_fit is only available for stochastic solvers, got "
            f"solver={estimator.solver!r}. Choose another solver, or use warm_start=True with fit."
        )
    return True


@dataclass
class PreparedFit:
    """Validated parameters and data of a fit, and the state that it starts from.

    Parameters
    ----------
    params : dict
        The constructor's parameters.
    config : Config
        The validated parameters.
    network, training_network : Network
        The layers in prediction, and those in training, with dropout.
    targets : Targets
        The encoding of the targets, with the loss.
    rows : Rows
        All rows.
    validation : list of Validation or None
        The validation rows of each network.
    state : TrainState
        The state before the first epoch.
    row_shape : tuple of int
        The shape of one row of X.
    feature_names : array of str or None
        The names of the columns, if they have any.
    incremental : bool
        Whether this is a call of `partial_fit`.
    has_folds : bool
        Whether each row is held out by one of the networks.
    start : float
        The time, by `time.monotonic`, at which `fit` began.
    blocks : Blocks or None, default=None
        All rows, on the workers of a cluster; `rows` is then a sample of them.
    """

    params: dict[str, Any]
    config: Config
    network: Network
    training_network: Network
    targets: Targets
    rows: Rows
    validation: list[Validation | None]
    state: TrainState
    row_shape: tuple[int, ...]
    feature_names: Array | None
    incremental: bool
    has_folds: bool
    start: float
    blocks: Any = None

    @property
    def data(self) -> list[Any]:
        """The arrays of all rows, and of the rows of X_val."""
        validation = self.validation[0]
        tables = [self.rows] if validation is None else [self.rows, validation.rows]
        return [part for rows in tables for part in (rows.X, rows.y, rows.weight)]

    def resume(self, state: TrainState) -> None:
        """Start from another state, and validate on the rows that it holds out."""
        self.state = state
        self.validation = [
            part if part is None or index is None else part.with_index(index)
            for part, index in zip(self.validation, state.held_out, strict=True)
        ]


class BaseNeuralNetwork(CallbackSupportMixin, FittedMixin):
    """Base of all estimators; not to be used directly."""

    # Searches and pipelines pass their groups on to early stopping, as they do to splitters.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    _parameter_constraints: ClassVar[dict[str, list[Any]]]
    _y_numeric: ClassVar[bool] = True  # whether the targets are numbers

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not getattr(self, "layers", None)
        return tags

    def _has_positive_targets(self) -> bool:
        """Return whether the loss accepts no negative targets."""
        loss = self._losses.get(self.loss) if isinstance(self.loss, str) else self.loss
        return isinstance(loss, Loss) and loss.interval_y_true.low >= 0

    @classmethod
    @cache
    def _get_param_names(cls) -> Any:
        # scikit-learn reads the signature in each call, four times for every fit of a search.
        return super()._get_param_names()

    def _make_targets(
        self,
        config: Config,
        y: Any,
        weight: Array | None,
        classes: Any,
        incremental: bool,
    ) -> Targets:
        """Return the encoding of targets; `classes` is an argument of `partial_fit`."""
        raise NotImplementedError

    @with_argument_suggestions
    @with_callbacks
    def fit(
        self,
        X: MatrixLike,
        y: MatrixLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: MatrixLike | None = None,
        y_val: MatrixLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        resume_from: str | PathLike[str] | None = None,
        groups: MatrixLike | None = None,
    ) -> Self:
        """Train the network on X and y.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input, without missing values.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets. With several outputs of a regressor, NaN means "not measured".
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            The weight of each row, non-negative and not all zero; None for equal weights. For
            several outputs of a regressor, also the weight of each of them.
        X_val, y_val : array-like, default=None
            Validation data, not trained on. The loss on it is recorded after each epoch in
            `validation_loss_curve_`, and `early_stopping` uses it instead of a share of X. In a
            `Pipeline`, ``transform_input=["X_val"]`` transforms it like X.
        sample_weight_val : array-like, default=None
            The weights of `y_val`, as `sample_weight`; None for equal weights.
        resume_from : str or path, default=None
            The file of a `callbacks.Checkpoint` from an estimator with the same parameters and the
            same data. Training resumes from it, and ends with exactly the weights of an
            uninterrupted fit; L-BFGS starts again from its weights. ``max_iter`` may be higher.
        groups : array-like of shape (n_samples,), default=None
            The group of each row, such as a patient or a day, as numbers or strings.
            `early_stopping` then holds out whole groups, so that validation scores and
            out-of-fold predictions are honest for new groups. Without effect if no rows are held
            out. With metadata routing, searches, pipelines and cross-validation pass groups to
            `fit` by default.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, or if training diverges. The estimator then
            stays as it was.
        KeyboardInterrupt
            On Ctrl-C, which keeps the last complete epoch. Before the end of the first epoch, a
            fitted estimator stays as it was, and a new one gets its initial weights, with
            ``n_iter_`` 0.
        """
        rows = X, y, sample_weight, X_val, y_val, sample_weight_val, groups
        return self._fit_rows(*rows, resume_from=resume_from)

    def _fit_rows(self, *rows: Any, resume_from: Any = None, **options: Any) -> Self:
        """Validate, train and set the fitted attributes.

        `rows`, X, y, the weights and so on, and `options` are the arguments of `_prepare`.
        """
        task = self._prepare(*rows, **options)
        if resume_from is not None:
            arrays = select_state(read_checkpoint(resume_from), describe_fit(self, task.data))
            resume_training(arrays, resume_from, task)
        hook = None
        if "_skl_callbacks" in vars(self) and not task.incremental:
            hook = CallbackHook(self, task, *rows[:3])
        interrupt: BaseException | None = None
        try:
            state = self._train(task, None if hook is None else hook.on_epoch)
        except TrainingInterrupted as error:
            interrupt, state = error.__cause__, error.state
            n_trained = np.count_nonzero(state.epoch)
            is_kept = n_trained == len(state) or not (n_trained or self.__sklearn_is_fitted__())
            if interrupt is not None and (task.incremental or not is_kept):
                raise interrupt from None
        if not task.incremental:
            state.stack = None  # only `partial_fit` uses its buffers again
        if hook is not None and interrupt is None:
            try:
                hook.end(lambda: state)
            except KeyboardInterrupt as error:
                interrupt = error
        try:
            self._set_fitted(task, state)
        except KeyboardInterrupt:  # the networks are kept without calibration
            state.temperature[...] = 1
            self._set_fitted(replace(task, validation=[]), state)
            raise
        if interrupt is not None:
            raise interrupt
        return self

    # ------------------------------------------------------- validation of parameters and data

    def _prepare(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        groups: Any = None,
        *,
        incremental: bool = False,
        classes: Any = None,
        folds: Array | None = None,
        like: PreparedFit | None = None,
        config: Config | None = None,
    ) -> PreparedFit:
        """Validate parameters and data, and return the prepared fit.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val, sample_weight_val, groups
            The arguments of `fit`.
        incremental : bool, default=False
            Whether this is a call of `partial_fit`.
        classes : array-like or None, default=None
            The labels that any call of `partial_fit` will contain.
        folds : array or None, default=None
            The network that holds out each row.
        like : PreparedFit or None, default=None
            The fit of another estimator to the same rows, which are not validated again.
        config : Config or None, default=None
            The validated parameters; None to validate them.
        """
        start = time.monotonic()
        continues = (incremental or self.warm_start) and self.__sklearn_is_fitted__()
        params = self._get_init_params()
        if config is None:
            config = self._validated_config(params, continues, incremental)
        if incremental and config.class_weight == BALANCED:
            raise ValueError(
                f"class_weight={config.class_weight!r} needs the number of rows in each class, but "
                "partial_fit gets only a part of the rows. Compute the weights once, from all "
                "labels or from a large sample, and pass them as a dict: weights = "
                "compute_class_weight('balanced', classes=classes, y=y), imported from "
                "sklearn.utils.class_weight, and class_weight=dict(zip(classes, weights))."
            )
        is_unchanged = continues and config is self._config
        if like is None:
            reader = self if continues else self._without_state()
            X, y, weight = reader._validate_rows(X, y, sample_weight, reset=not continues)
            check_first_layer(config.layers, X)
            if continues:
                targets = self._targets.with_config(config)
            else:
                targets = self._make_targets(config, y, weight, classes, incremental)
            rows = targets.encode_rows(X, y, weight, needs_all=continues and not incremental)
            row_shape, names = get_row_shape(reader), vars(reader).get("feature_names_in_")
        else:
            reader, rows, targets = self, like.rows, like.targets.with_config(config)
            row_shape, names = like.row_shape, like.feature_names
            check_first_layer(config.layers, rows.X)
        network = self._network if is_unchanged else config.network(row_shape, rows.y.shape[1])
        network.validate_padding(rows.X)
        val_rows: Rows | None = None
        if X_val is not None:
            with prefix_errors("X_val, y_val"):
                X, y, weight = reader._validate_rows(X_val, y_val, sample_weight_val, reset=False)
                check_first_layer(config.layers, X)
                network.validate_padding(X)
                val_rows = targets.encode_rows(X, y, weight)
        elif y_val is not None or sample_weight_val is not None:
            raise ValueError(
                "y_val and sample_weight_val are only valid with X_val, but X_val is None. Pass "
                "X_val as well."
            )
        holds_out = val_rows is None and not incremental and config.early_stopping is not None
        has_scores = holds_out or val_rows is not None
        scoring = self._get_scoring(config, network, targets) if has_scores else None
        training_network = network.with_dropout(config.dropout_rates)
        config.validate_network(training_network)
        is_single = rows.X.dtype.kind == "f" and rows.X.dtype.itemsize == 4
        dtype = config.dtype or np.dtype(np.float32 if is_single else np.float64)
        n_at_once = compute_rows_at_once(training_network, config, rows, rows.n_rows)
        check_memory(training_network, config, n_at_once, dtype.itemsize)
        state = start_training(
            training_network,
            config,
            rows,
            self.random_state,
            dtype=dtype,
            last_state=self._state if continues else None,
            incremental=incremental,
            restarts=not (incremental and continues and self._was_incremental)
            or not (is_unchanged or is_equal(config.early_stopping, self._config.early_stopping)),
            is_unchanged=is_unchanged,
            holds_out=holds_out,
            strata=targets.strata(rows.y) if holds_out else None,
            groups=None if groups is None else validate_groups(groups, rows.n_rows, 1),
            folds=folds,
        )
        validation: list[Validation | None] = [None] * len(state)
        if val_rows is not None:
            validation = [Validation(val_rows, targets, scoring)] * len(state)
        elif holds_out:
            validation = [
                Validation(replace(rows, index=index), targets, scoring) for index in state.held_out
            ]
        fraction = getattr(config.early_stopping, "validation_fraction", None)
        task = PreparedFit(
            params,
            config,
            network,
            training_network,
            targets,
            rows,
            validation,
            state,
            row_shape,
            names,
            incremental,
            folds is not None or (holds_out and fraction == "folds"),
            start,
        )
        self._check_batch_size(task)
        return task

    def _get_init_params(self) -> dict[str, Any]:
        """Return the constructor's parameters, faster than `get_params`."""
        return {name: getattr(self, name) for name in self._parameter_constraints}

    def _validated_config(
        self, params: dict[str, Any], continues: bool, incremental: bool
    ) -> Config:
        """Return the validated parameters; a warm start must keep some of the last fit.

        If no parameter has changed, `partial_fit` reuses the last configuration, because validation
        takes as long as training on a few rows.
        """
        start = self._fit_params if incremental and continues else None
        is_immutable = _MUTABLE.isdisjoint(map(type, params.values()))
        if start and is_immutable and all(map(operator.is_, params.values(), start.values())):
            return self._config
        reject_unused_overrides(self)
        self._validate_params()
        config = self._config_class.from_params(params, self._losses)
        if continues:
            config.check_warm_start(self._config)
        return config

    def _validate_rows(self, X: Any, y: Any, weight: Any, reset: bool) -> tuple[Any, Any, Any]:
        """Return validated X, y and weights; with `reset` set the attributes of the features."""
        return validate_rows(self, X, y, weight, self._y_numeric, reset)

    def _check_batch_size(self, task: PreparedFit) -> None:
        """Warn if batch_size is larger than the data."""
        config, n_rows = task.config, task.rows.n_visited(task.state.orders[0])
        is_by_batch = not (task.incremental or config.is_lbfgs or isinstance(self.batch_size, str))
        if is_by_batch and config.batch_size > n_rows:
            warn(
                f"batch_size={config.batch_size} is larger than the {n_rows} training rows. It is "
                f"going to be clipped to {n_rows}.",
                UserWarning,
            )

    def _get_scoring(self, config: Config, network: Network, targets: Targets) -> Any:
        """Return the `scoring` of `Validation`."""
        if config.early_stopping is None:
            return None
        scoring = config.early_stopping.scoring
        if scoring is None or scoring == "loss":
            return scoring or "score"
        try:
            scorer = get_scorer(scoring)
        except ValueError as error:
            suggestion = did_you_mean(scoring, ["loss", *get_scorer_names()])
            raise ValueError(f"{error}{suggestion}") from None
        template, params = self._without_state(), self._get_init_params()
        if config.n_estimators > 1:
            template.n_estimators = params["n_estimators"] = 1

        def score(parameters: Parameters, validation: Validation, predictions: Array) -> float:
            estimator, state = shallow_copy(template), TrainState.initial(parameters)
            parts = params, config, network, targets, state, network.input_shape
            estimator.__dict__.update(template._fitted_attributes(*parts))
            weight = validation.weight
            if isinstance(scoring, str) and weight is not None and weight.ndim == 2:
                raise ValueError(
                    f"scoring={scoring!r} of EarlyStopping has no weights for each target, which "
                    'y with NaN needs. Set scoring to None, "loss" or a function.'
                )
            options = {} if weight is None else {"sample_weight": weight}
            result = scorer(estimator, validation.input, validation.original_y, **options)
            if not isinstance(result, Real) or isinstance(result, bool):
                raise ValueError(
                    f"scoring={scoring!r} of EarlyStopping must return a number that is higher for "
                    f"better predictions, but returned {result!r}."
                )
            return float(result)

        return score

    def _write_checkpoint(self, path: Path) -> None:
        """Write the training state to a file, as the fitted estimator of a callback.

        No file is written if a time limit has cut the first epoch short.
        """
        task: PreparedFit = self._task
        state: TrainState = self._training_state
        if task.config.is_lbfgs or state.epoch.all():
            write_checkpoint(path, describe_fit(self, task.data), state.to_arrays())

    def _without_state(self) -> Self:
        """Return a shallow copy that is not fitted."""
        copy = shallow_copy(self)
        for name in (*FITTED_PARTS, "feature_names_in_"):
            copy.__dict__.pop(name, None)
        return copy

    # --------------------------------------------------------------------------- training

    def _train(
        self, task: PreparedFit, on_epoch: OnEpoch | None, make_stack: MakeStack | None = None
    ) -> TrainState:
        """Return the state after training; parameters are as in `train`."""
        return train([task], task.state, on_epoch, make_stack=make_stack, start=task.start)

    def _set_fitted(self, task: PreparedFit, state: TrainState) -> None:
        """Set all fitted attributes at once, unless training has diverged.

        Raises
        ------
        ValueError
            If training diverged. Nothing is set then.
        """
        for message in self._collect_warnings(task, state):
            warn(message, ConvergenceWarning)
        self.__dict__.update(self._finish(task, state))
        if self.__dict__.get("feature_names_in_", "") is None:  # the columns have no names
            del self.feature_names_in_

    def _collect_warnings(self, task: PreparedFit, state: TrainState) -> list[str]:
        """Return the warnings about how training has ended."""
        return collect_warnings(task, state)

    def _finish(self, task: PreparedFit, state: TrainState) -> dict[str, Any]:
        """Return the fitted attributes, after a return to the best epoch and calibration."""
        config, network, targets = task.config, task.network, task.targets
        if "theta" in state.best and not task.incremental:
            state.return_to_best()
            state.best = {name: state.best[name] for name in ("score", "epoch")}
        if config.early_stopping is not None and config.early_stopping.calibrate:
            validation = [part for part in task.validation if part is not None]
            if validation:
                state.temperature[...] = 1
                state.temperature[...] = fit_shared_temperature(
                    network, state.inference_parameters(network.layout), validation, targets
                )
        parts = task.params, config, network, targets, state, task.row_shape
        attributes = self._fitted_attributes(*parts, incremental=task.incremental)
        if not task.incremental or task.feature_names is not None:
            attributes["feature_names_in_"] = task.feature_names
        if task.has_folds:
            parameters = attributes["_predictor"].parameters
            attributes["_out_of_fold"] = predict_out_of_fold(task, parameters, state.held_out)
        return attributes

    def _fitted_attributes(
        self,
        params: dict[str, Any],
        config: Config,
        network: Network,
        targets: Targets,
        state: TrainState,
        row_shape: tuple[int, ...],
        *,
        incremental: bool = False,
    ) -> dict[str, Any]:
        """Return the fitted attributes of networks in this state."""
        parameters, attributes = state.inference_parameters(network.layout), self.__dict__
        predictor = attributes.get("_predictor")
        history = history_attributes(state, config, incremental, attributes.get("best_loss_"))
        if (
            predictor is not None
            and predictor.parameters.theta is parameters.theta
            and (attributes["_config"], attributes["_was_incremental"]) == (config, incremental)
        ):
            return history  # `partial_fit` trains the arrays of the predictor
        return {
            "_fit_params": params,
            "_config": config,
            "_network": network,
            "_targets": targets,
            "_state": state,
            "_predictor": Predictor(network, parameters, FEW_ROWS),
            "_row_shape": row_shape,
            "_was_incremental": incremental,
            "_out_of_fold": None,
            "n_features_in_": math.prod(row_shape),
            **targets.attributes,
            **history,
        }
