"""Base class of estimators, decorators, callbacks, and steps of pipelines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from inspect import unwrap
from numbers import Real
from typing import Any, Self, TypeVar, cast

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import metaestimators

from .._sklearn import StrOptions, _fit_context
from .._sklearn import with_callbacks as _with_callbacks
from ..training.diagnostics import has_failed
from ..training.epochs import GetState
from ..training.model import Model
from ..training.problem import Problem
from ..utils.configurable import (
    Configurable,
    check_param_names,
    get_nested_params,
    set_nested_params,
    split_nested_params,
)
from ..utils.validation import check_keywords, did_you_mean


class EstimatorMixin(BaseEstimator):
    """Base of all public estimators: suggestions in errors, nested settings.

    Errors about unknown or invalid parameters are scikit-learn's, and end with a suggestion.
    `set_params` also sets the settings of objects such as optimizers.
    """

    def __new__(cls, *args: Any, **params: Any) -> Self:
        """Make an estimator; an unknown parameter raises a TypeError with a suggestion."""
        check_keywords(cls, cls.__init__, params)
        return super().__new__(cls)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the estimator, and settings of the objects among them.

        Parameters
        ----------
        deep : bool, default=True
            Whether to add the settings of objects, such as ``solver__weight_decay``, and of
            objects in a list, such as ``layers__0__n_units``.

        Returns
        -------
        params : dict
            The parameters by name.
        """
        params: dict[str, Any] = super().get_params(deep)
        if deep:
            for name in self._get_param_names():
                if isinstance(params[name], (Configurable, list, tuple)):
                    params |= get_nested_params(name, params[name])
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the estimator, and settings of the objects among them.

        ``set_params(solver__weight_decay=0.1)`` replaces the optimizer by one with this weight
        decay. The old optimizer, and networks that were fitted with it, do not change. For lists
        of objects, ``layers__0__n_units`` is a setting of the first layer, and ``layers__0`` the
        layer itself.

        Parameters
        ----------
        **params : dict
            The parameters by name. A setting of an object has the parameter's name, two
            underscores and its own name.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If a parameter or setting does not exist, or an object does not accept a value.
            Nothing is changed then.
        """
        values = self.get_params(deep=False)
        changes, nested = split_nested_params(params)
        check_param_names([*changes, *nested], values, f"estimator {self}")
        for name, settings in nested.items():
            value = changes.get(name, values[name])
            if hasattr(value, "set_params") and not isinstance(value, Configurable):
                changes |= {f"{name}__{setting}": settings[setting] for setting in settings}
            else:
                changes[name] = set_nested_params(name, value, settings)
        return super().set_params(**changes)

    def _validate_params(self) -> None:
        try:
            super()._validate_params()
        except ValueError as error:
            name = str(error).split("'")[1]  # in "The 'name' parameter of ... must be ..."
            value, constraints = getattr(self, name), self._parameter_constraints[name]
            options = [item.options for item in constraints if isinstance(item, StrOptions)]
            suggestion = did_you_mean(value, sorted(set().union(*options)))
            if name == "learning_rate" and isinstance(value, Real):
                suggestion = f" Did you mean learning_rate_init={value!r}?"
            raise type(error)(f"{error}{suggestion}") from None


Method = TypeVar("Method", bound=Callable[..., Any])


# scikit-learn's decorators, which keep the type of a method.
available_if: Callable[..., Callable[[Method], Method]] = metaestimators.available_if
with_callbacks: Callable[[Method], Method] = _with_callbacks
with_parameter_validation: Callable[..., Callable[[Method], Method]] = _fit_context


def with_argument_suggestions(method: Method) -> Method:
    """Decorate a method: an unknown argument raises a TypeError with a suggestion."""
    innermost = unwrap(method)

    @wraps(method)
    def wrapper(self: Any, *args: Any, **arguments: Any) -> Any:
        names = (*self._get_param_names(), "set_callbacks")
        check_keywords(type(self), innermost, arguments, names)
        return method(self, *args, **arguments)

    return cast(Method, wrapper)


class CallbackHook:
    """Hook after each epoch that calls the callbacks of an estimator.

    The task of the fit has a subtask for each epoch; with L-BFGS it has one for all iterations.

    Parameters
    ----------
    estimator : estimator
        The estimator, which does not change.
    problem : Problem
        The data.
    model : Model
        The model before training.
    arguments : dict
        The arguments of `fit` by name.
    """

    def __init__(
        self, estimator: Any, problem: Problem, model: Model, arguments: dict[str, Any]
    ) -> None:
        self._estimator = estimator
        self._problem = problem
        self._model = model
        X = arguments["X"]
        y = arguments["y"]
        weight = arguments["sample_weight"]
        self._arguments = {
            "estimator": estimator,
            "X": X,
            "y": X if y is None else y,  # the targets of an autoencoder are its input
            "metadata": None if weight is None else {"sample_weight": weight},
        }
        is_lbfgs = model.config.is_lbfgs
        max_iter = 1 if is_lbfgs else model.config.max_iter
        self._fit_context = estimator._init_callback_context(max_subtasks=max_iter)
        self._fit_context.call_on_fit_task_begin(**self._arguments)
        epochs = model.state.epoch[np.array(model.state.stop_reason) == ""]
        if len(epochs):  # otherwise a checkpoint is of a training that has ended
            for _ in range(0 if is_lbfgs else int(epochs.min())):  # epochs before a checkpoint
                self._fit_context.subcontext("epoch")
            self._epoch_context = self._begin_epoch()

    def _begin_epoch(self) -> Any:
        epoch = self._fit_context.subcontext("epoch")
        epoch.call_on_fit_task_begin(**self._arguments)
        return epoch

    def on_epoch(self, get_state: GetState) -> bool:
        """Call the hooks for an epoch; return whether one of them stops training."""
        should_stop = self._epoch_context.call_on_fit_task_end(
            **self._arguments_with_state(get_state)
        )
        if not should_stop and get_state().is_active:
            self._epoch_context = self._begin_epoch()
        return bool(should_stop)

    def end(self, model: Model) -> None:
        """Call the hooks for the end of training, without a fitted estimator if it failed."""
        arguments = self._arguments
        if not any(has_failed(model, i) for i in range(len(model.state))):
            arguments = self._arguments_with_state(lambda: model.state)
        self._fit_context.call_on_fit_task_end(**arguments)

    def _arguments_with_state(self, get_state: GetState) -> dict[str, Any]:
        """Return the arguments of hooks; a fitted estimator is made only if a hook needs it."""

        def attributes() -> dict[str, Any]:
            state = get_state()
            model = replace(self._model, state=state.copy())
            return {
                "_model": self._estimator._finish_model(self._problem, model),
                "_training": (self._problem, state),
            }

        return self._arguments | {"reconstruction_attributes": attributes}


def get_pipeline_steps(estimator: Any) -> list[Any]:
    """Return the steps of a pipeline, of a search's best pipeline, or the estimator itself."""
    if isinstance(estimator, Pipeline):
        steps = (step for _, step in estimator.steps if step not in (None, "passthrough"))
        return [part for step in steps for part in get_pipeline_steps(step)]
    if hasattr(estimator, "best_estimator_"):  # a refitted search
        return get_pipeline_steps(estimator.best_estimator_)
    if isinstance(estimator, FrozenEstimator):
        return get_pipeline_steps(estimator.estimator)
    return [estimator]
