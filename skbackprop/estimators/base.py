"""Base class of the network estimators: validate, train, set the fitted attributes."""

from __future__ import annotations

import operator
import time
from dataclasses import replace
from functools import cache
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer, get_scorer_names

from .._sklearn import CallbackSupportMixin
from ..early_stopping import EarlyStopping
from ..losses.base import Loss
from ..nn.parameters import Parameters
from ..nn.rows import Rows
from ..nn.train_state import TrainState
from ..training.architecture import check_first_layer
from ..training.checks import validate_groups
from ..training.class_weight import BALANCED
from ..training.config import Config, is_lbfgs
from ..training.diagnostics import collect_warnings, warn
from ..training.model import Model
from ..training.problem import Problem
from ..training.processes import train_in_processes
from ..training.start import Fresh, Next, Start, Warm, start_model
from ..training.targets import Targets
from ..training.train import OnEpoch, TrainingInterrupted, finish_model, train, train_next
from ..training.validation import Validation
from ..utils.arrays import Array, MatrixLike
from ..utils.validation import did_you_mean
from ._checkpoint import (
    describe_fit,
    read_checkpoint,
    resume_model,
    select_state,
    write_checkpoint,
)
from ._estimator_mixin import CallbackHook, with_argument_suggestions, with_callbacks
from ._fitted import FittedMixin
from ._validation import (
    get_row_shape,
    prefix_errors,
    reject_unused_overrides,
    shallow_copy,
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

    def _make_targets(self, config: Config, y: Any, weight: Array | None, classes: Any) -> Targets:
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
        arguments = {
            "X": X,
            "y": y,
            "sample_weight": sample_weight,
            "X_val": X_val,
            "y_val": y_val,
            "sample_weight_val": sample_weight_val,
            "groups": groups,
        }
        return self._fit_rows(arguments, resume_from)

    def _fit_rows(self, arguments: dict[str, Any], resume_from: Any = None) -> Self:
        """Validate the arguments of `fit`, train, and set the model."""
        began = time.monotonic()
        problem, model = self._start_training(arguments)
        if resume_from is not None:
            arrays = select_state(read_checkpoint(resume_from), describe_fit(self, problem.data))
            model = resume_model(model, arrays, resume_from)
        self._check_batch_size(problem, model)
        hook = None
        if vars(self).get("_skl_callbacks"):
            hook = CallbackHook(self, problem, model, arguments)
        return self._train_and_set(problem, model, hook, began)

    def _start_training(self, arguments: dict[str, Any]) -> tuple[Problem, Model]:
        """Return the data and the model that `fit` trains, from its arguments by name."""
        params = self._get_init_params()
        start: Start = Fresh(self.random_state)
        if self.warm_start and self.__sklearn_is_fitted__():
            start = Warm(self._model)
        config = self._validate_config(params, start)
        problem = self._make_problem(config, arguments, start, config.early_stopping)
        return problem, start_model(problem, config, params, start)

    def _train_and_set(
        self, problem: Problem, model: Model, hook: CallbackHook | None, began: float
    ) -> Self:
        """Train a model, and set it unless training diverged or is interrupted too early."""
        interrupt: BaseException | None = None
        try:
            model = self._train(problem, model, None if hook is None else hook.on_epoch, began)
        except TrainingInterrupted as error:
            (model,) = error.models
            interrupt = error.__cause__
            n_trained = np.count_nonzero(model.state.epoch)
            is_first = n_trained == 0 and not self.__sklearn_is_fitted__()
            if interrupt is not None and not (is_first or n_trained == len(model.state)):
                raise interrupt from None
        if hook is not None and interrupt is None:
            try:
                hook.end(model)
            except KeyboardInterrupt as error:
                interrupt = error
        self._set_trained(problem, model)
        if interrupt is not None:
            raise interrupt
        return self

    def _partial_fit_rows(self, arguments: dict[str, Any]) -> Self:
        """Validate the arguments of `partial_fit`, train for an epoch, and set the model."""
        params = self._get_init_params()
        start: Start = Fresh(self.random_state)
        if self.__sklearn_is_fitted__():
            start = Next(self._model)
        config = self._validate_config(params, start)
        if config.class_weight == BALANCED:
            raise ValueError(
                f"class_weight={config.class_weight!r} needs the number of rows in each class, but "
                "partial_fit gets only a part of the rows. Compute the weights once, from all "
                "labels or from a large sample, and pass them as a dict: weights = "
                "compute_class_weight('balanced', classes=classes, y=y), imported from "
                "sklearn.utils.class_weight, and class_weight=dict(zip(classes, weights))."
            )
        problem = self._make_problem(config, arguments, start, None)
        model = self._train_next(problem, start_model(problem, config, params, start))
        self._set_trained(problem, model)
        return self

    # ------------------------------------------------------- validation of parameters and data

    def _make_problem(
        self,
        config: Config,
        arguments: dict[str, Any],
        start: Start,
        hold_out: EarlyStopping | None,
    ) -> Problem:
        """Return the validated data of a training; X and X_val pass the same checks.

        Parameters
        ----------
        config : Config
            The validated parameters.
        arguments : dict
            The arguments of `fit` or `partial_fit` by name.
        start : Fresh, Warm or Next
            The start of training. A model keeps its targets and the features of X.
        hold_out : EarlyStopping or None
            The rule by which rows are held out if there is no X_val; None for none.
        """
        is_fresh = isinstance(start, Fresh)
        reader = self._without_model() if is_fresh else self
        weight = arguments.get("sample_weight")
        X, y, weight = reader._read_rows(
            config, arguments["X"], arguments.get("y"), weight, is_fresh
        )
        if isinstance(start, Fresh):
            targets = self._make_targets(config, y, weight, arguments.get("classes"))
        else:
            targets = start.model.targets.with_config(config)
        rows = targets.encode_rows(X, y, weight, needs_all=isinstance(start, Warm))
        validation_rows: Rows | None = None
        X_val = arguments.get("X_val")
        y_val = arguments.get("y_val")
        weight_val = arguments.get("sample_weight_val")
        if X_val is not None:
            with prefix_errors("X_val, y_val"):
                X_val, y_val, weight_val = reader._read_rows(
                    config, X_val, y_val, weight_val, False
                )
                validation_rows = targets.encode_rows(X_val, y_val, weight_val)
            hold_out = None
        elif y_val is not None or weight_val is not None:
            raise ValueError(
                "y_val and sample_weight_val are only valid with X_val, but X_val is None. Pass "
                "X_val as well."
            )
        is_validated = validation_rows is not None or hold_out is not None
        groups = arguments.get("groups")
        return Problem(
            rows,
            targets,
            get_row_shape(reader),
            getattr(reader, "feature_names_in_", None),
            validation_rows,
            self._get_scoring(config) if is_validated else None,
            hold_out,
            None if groups is None else validate_groups(groups, rows.n_rows, 1),
        )

    def _reuse_problem(self, problem: Problem, config: Config) -> Problem:
        """Return the data of a candidate with equal settings of the data, which is not read again.

        It may have other rules of early stopping.
        """
        check_first_layer(config.layers, problem.rows.X)
        hold_out = None if problem.validation_rows is not None else config.early_stopping
        is_validated = problem.validation_rows is not None or hold_out is not None
        return replace(
            problem,
            targets=problem.targets.with_config(config),
            scoring=self._get_scoring(config) if is_validated else None,
            hold_out=hold_out,
        )

    def _read_rows(
        self, config: Config, X: Any, y: Any, weight: Any, reset: bool
    ) -> tuple[Any, Any, Any]:
        """Return validated X, y and weights that the first layer of a network can read."""
        X, y, weight = self._validate_rows(X, y, weight, reset)
        check_first_layer(config.layers, X)
        return X, y, weight

    def _get_init_params(self) -> dict[str, Any]:
        """Return the constructor's parameters, faster than `get_params`."""
        return {name: getattr(self, name) for name in self._parameter_constraints}

    def _validate_config(self, params: dict[str, Any], start: Start) -> Config:
        """Return the validated parameters; training that continues must keep some of them.

        If no parameter has changed, `partial_fit` reuses the last configuration, because validation
        takes as long as training on a few rows.
        """
        if isinstance(start, Next):
            last = start.model
            is_immutable = _MUTABLE.isdisjoint(map(type, params.values()))
            if is_immutable and all(map(operator.is_, params.values(), last.params.values())):
                return last.config
        reject_unused_overrides(self)
        self._validate_params()
        config = self._config_class.from_params(params, self._losses)
        if not isinstance(start, Fresh):
            config.check_warm_start(start.model.config)
        return config

    def _validate_rows(self, X: Any, y: Any, weight: Any, reset: bool) -> tuple[Any, Any, Any]:
        """Return validated X, y and weights; with `reset` set the attributes of the features."""
        return validate_rows(self, X, y, weight, self._y_numeric, reset)

    def _check_batch_size(self, problem: Problem, model: Model) -> None:
        """Warn if batch_size is larger than the data."""
        config = model.config
        n_rows = problem.rows.n_visited(model.state.orders[0])
        is_chosen = not (config.is_lbfgs or isinstance(self.batch_size, str))
        if is_chosen and config.batch_size > n_rows:
            warn(
                f"batch_size={config.batch_size} is larger than the {n_rows} training rows. It is "
                f"going to be clipped to {n_rows}.",
                UserWarning,
            )

    def _get_scoring(self, config: Config) -> Any:
        """Return the `scoring` of a `Problem`."""
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
        template = self._without_model()
        if config.n_estimators > 1:
            template.n_estimators = 1
        params = template._get_init_params()

        def score(model: Model, parameters: Parameters, validation: Validation) -> float:
            estimator = shallow_copy(template)
            member = Model(
                params,
                config,
                model.network,
                model.targets,
                TrainState.initial(parameters),
                model.network.input_shape,
            )
            estimator._set_model(member.summarize())
            weight = validation.rows.selected_weight
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
        problem, state = self._training
        if self._model.config.is_lbfgs or state.epoch.all():
            write_checkpoint(path, describe_fit(self, problem.data), state.to_arrays())

    # --------------------------------------------------------------------------- training

    def _train(
        self, problem: Problem, model: Model, on_epoch: OnEpoch | None, began: float
    ) -> Model:
        """Return the model after training; parameters are as in `train`.

        Whoever watches epochs, as callbacks do, watches them in this process.
        """
        if on_epoch is None and not model.config.verbose:
            # An autoencoder is a single network.
            n_jobs = min(effective_n_jobs(getattr(self, "n_jobs", None)), len(model.state))
            if n_jobs > 1:
                return train_in_processes(problem, model, n_jobs, began)
        (model,) = train([problem], [model], on_epoch, start=began)
        return model

    def _train_next(self, problem: Problem, model: Model) -> Model:
        """Return the model after one more epoch."""
        return train_next(problem, model)

    def _set_trained(self, problem: Problem, model: Model) -> None:
        """Set a model after training, unless it has diverged.

        Raises
        ------
        ValueError
            If training diverged. Nothing is set then.
        KeyboardInterrupt
            On Ctrl-C during calibration or prediction. The model is then set without them.
        """
        for message in self._collect_warnings(problem, model):
            warn(message, ConvergenceWarning)
        try:
            self._set_model(self._finish_model(problem, model))
        except KeyboardInterrupt:
            model.state.temperature[...] = 1
            problem = replace(problem, validation_rows=None, hold_out=None)
            self._set_model(self._finish_model(problem, model))
            raise

    def _collect_warnings(self, problem: Problem, model: Model) -> list[str]:
        """Return the warnings about how training has ended."""
        return collect_warnings(problem, model)

    def _finish_model(self, problem: Problem, model: Model) -> Model:
        """Return a trained model with what prediction and the fitted attributes need."""
        return finish_model(problem, model)

    def _without_model(self) -> Self:
        """Return a shallow copy that is not fitted."""
        copy = shallow_copy(self)
        copy.__dict__.pop("_model", None)
        return copy
