"""Callbacks before scikit-learn 1.9, the first with a package `sklearn.callback`.

`CallbackSupportMixin` and `with_callbacks` have the names and the protocol of scikit-learn's, for
the estimators of this package. Callbacks that scikit-learn brings itself need scikit-learn 1.9.
This module goes when no older version is supported.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import wraps
from inspect import signature
from typing import Any, ClassVar, Self, cast
from uuid import UUID, uuid4

_METHODS = "setup", "teardown", "on_fit_task_begin", "on_fit_task_end"


@dataclass(eq=False)
class CallbackContext:
    """Task of a fit: the fit itself, or a part of it such as an epoch.

    Parameters
    ----------
    estimator_name : str
        The name of the estimator's class.
    callbacks : list of objects
        The callbacks of the estimator.
    task_name : str
        The name of the task.
    task_id : int
        The number of the task among those of its parent, from 0.
    max_subtasks : int or None
        The largest number of parts; None if it is not known.
    parent : CallbackContext or None
        The task that this one is a part of; None for the outermost fit.
    depth : int
        The number of fits around the one of the task.
    """

    estimator_name: str
    callbacks: list[Any]
    task_name: str
    task_id: int
    max_subtasks: int | None
    parent: CallbackContext | None
    depth: int
    sequential_subtasks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.root_uuid: UUID = uuid4() if self.parent is None else self.parent.root_uuid
        self.init_time = datetime.now(UTC)
        self._n_subtasks = 0
        self._propagated: list[Any] = []

    def subcontext(self, task_name: str = "", max_subtasks: int | None = 0) -> CallbackContext:
        """Return the context of the next part of the task."""
        task_id, self._n_subtasks = self._n_subtasks, self._n_subtasks + 1
        return replace(
            self, task_name=task_name, task_id=task_id, max_subtasks=max_subtasks, parent=self
        )

    @contextmanager
    def propagate_callback_context(self, sub_estimator: Any) -> Iterator[None]:
        """Make the fit of another estimator this task, with callbacks that want to go with it."""
        self._propagated = [
            callback
            for callback in self.callbacks
            if hasattr(callback, "max_propagation_depth")
            and (
                callback.max_propagation_depth is None
                or callback.max_propagation_depth > self.depth
            )
        ]
        callbacks = vars(sub_estimator).get("_skl_callbacks", [])
        sub_estimator.set_callbacks(*callbacks, *self._propagated)
        sub_estimator._parent_callback_ctx = self
        try:
            yield
        finally:
            sub_estimator.set_callbacks(*callbacks)
            del sub_estimator._parent_callback_ctx

    def call_on_fit_task_begin(self, **arguments: Any) -> Self:
        """Call the hooks of callbacks for the beginning of the task."""
        self._call("on_fit_task_begin", arguments)
        return self

    def call_on_fit_task_end(self, **arguments: Any) -> bool:
        """Call the hooks for the end of the task; return whether one of them stops training."""
        return self._call("on_fit_task_end", arguments)

    def _call(self, hook: str, arguments: dict[str, Any]) -> bool:
        """Call a hook with those of the arguments that it has by keyword."""
        estimator, values, should_stop = arguments["estimator"], dict(arguments), False
        for callback in self.callbacks:
            if callback in self._propagated:  # the other estimator calls it for this task
                continue
            method, options = getattr(callback, hook), {}
            for name, parameter in signature(method).parameters.items():
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    continue
                if name == "fitted_estimator" and name not in values:
                    values[name] = _make_fitted(estimator, values.get("reconstruction_attributes"))
                options[name] = values.get(name)
            should_stop |= bool(method(estimator, self, **options))
        return should_stop


def _make_fitted(estimator: Any, get_attributes: Callable[[], dict[str, Any]] | None) -> Any:
    """Return a copy of an estimator with fitted attributes, or None without them."""
    if get_attributes is None:
        return None
    fitted = copy.copy(estimator)
    for name, value in get_attributes().items():
        setattr(fitted, name, value)
    return fitted


class CallbackSupportMixin:
    """Mixin of estimators that call callbacks in `fit`."""

    def set_callbacks(self, *callbacks: Any) -> Self:
        """Set the callbacks that `fit` calls; none to remove them.

        Parameters
        ----------
        *callbacks : objects
            Callbacks with the methods of scikit-learn's protocol: ``setup``, ``teardown``,
            ``on_fit_task_begin`` and ``on_fit_task_end``.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        TypeError
            If an object has not all of these methods, or is a class.
        """
        for callback in callbacks:
            if isinstance(callback, type) or not all(hasattr(callback, name) for name in _METHODS):
                raise TypeError(
                    f"callbacks must be instances with the methods {', '.join(_METHODS)}, "
                    f"got {callback!r}."
                )
        if callbacks:
            self._skl_callbacks = list(callbacks)
        else:
            self.__dict__.pop("_skl_callbacks", None)
        return self

    def __sklearn_clone__(self) -> Any:
        copied = cast(Any, super()).__sklearn_clone__()
        return copied.set_callbacks(*vars(self).get("_skl_callbacks", []))

    def _init_callback_context(self, max_subtasks: int | None = 0) -> CallbackContext:
        """Return the context of a fit, and set up the callbacks."""
        callbacks = vars(self).get("_skl_callbacks", [])
        task = vars(self).get("_parent_callback_ctx")
        task_id, parent, depth = 0, None, 0
        if task is not None:
            task_id, parent, depth = task.task_id, task.parent, task.depth + 1
        name = type(self).__name__
        context = CallbackContext(name, callbacks, "fit", task_id, max_subtasks, parent, depth)
        self._callback_fit_ctx, self._skl_callbacks_to_teardown = context, []
        for callback in callbacks:
            if task is None or not hasattr(callback, "max_propagation_depth"):
                self._skl_callbacks_to_teardown.append(callback)
                callback.setup(estimator=self, context=context)
        return context


def with_callbacks(method: Any) -> Any:
    """Decorate `fit`: tear down the callbacks after it, whether it succeeds or not."""

    @wraps(method)
    def fit(self: Any, *args: Any, **params: Any) -> Any:
        try:
            return method(self, *args, **params)
        finally:
            context = self.__dict__.pop("_callback_fit_ctx", None)
            with ExitStack() as stack:  # calls all, even if one raises an error
                for callback in reversed(self.__dict__.pop("_skl_callbacks_to_teardown", [])):
                    stack.callback(callback.teardown, estimator=self, context=context)

    return fit
