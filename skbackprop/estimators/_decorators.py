"""Decorators of estimators' methods: availability, callbacks, validation of arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial, wraps
from inspect import signature, unwrap
from typing import Any, TypeVar, cast

from sklearn import callback
from sklearn.utils import metaestimators

from .._sklearn import _fit_context
from ..utils.suggestions import check_keywords

Method = TypeVar("Method", bound=Callable[..., Any])


def available_if(check: Callable[[Any], bool]) -> Callable[[Method], Method]:
    """Make a method available only if a check of the estimator passes."""
    decorator: Callable[[Method], Method] = metaestimators.available_if(check)
    return decorator


def with_callbacks(method: Method) -> Method:
    """Set up callbacks before a fit, and tear them down after it."""
    return _raise_first_error(callback.with_callbacks, method)


def with_parameter_validation(prefer_skip_nested_validation: bool) -> Callable[[Method], Method]:
    """Validate the parameters by their constraints at the beginning of a fit.

    Parameters
    ----------
    prefer_skip_nested_validation : bool
        Whether to skip the validation in fits of inner estimators.
    """
    decorator = _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)
    return partial(_raise_first_error, decorator)


def _raise_first_error(decorator: Callable[..., Any], method: Method) -> Method:
    """Decorate a fit such that an error of `teardown` does not replace the one before it.

    The decorators of scikit-learn raise the error of `teardown`, which after a failed fit is often
    only its consequence.
    """

    @wraps(method)
    def decorated(self: Any, *args: Any, **arguments: Any) -> Any:
        errors: list[BaseException] = []

        @wraps(method)
        def recorded(self: Any, *args: Any, **arguments: Any) -> Any:
            try:
                return method(self, *args, **arguments)
            except BaseException as error:
                errors.append(error)
                raise

        try:
            return decorator(recorded)(self, *args, **arguments)
        except Exception as error:
            first = errors[0] if errors else error
            if isinstance(first, TypeError):
                _check_hooks(getattr(self, "_skl_callbacks", []))
            if first is error:
                raise
        raise first

    return cast(Method, decorated)


def _check_hooks(callbacks: Iterable[Any]) -> None:
    """Raise a TypeError if `setup` or `teardown` of callbacks do not take their arguments."""
    for each in callbacks:
        for name in ("setup", "teardown"):
            arguments = signature(getattr(each, name))
            try:
                arguments.bind(estimator=None, context=None)
            except TypeError as error:
                raise TypeError(
                    f"{name} of the callback {type(each).__name__} is called with the keyword "
                    f"arguments estimator and context, but its signature is {name}{arguments}. "
                    f"Define it as def {name}(self, estimator, context)."
                ) from error


def with_argument_suggestions(method: Method) -> Method:
    """Decorate a method: an unknown argument raises a TypeError with a suggestion."""
    innermost = unwrap(method)

    @wraps(method)
    def checked(self: Any, *args: Any, **arguments: Any) -> Any:
        if arguments:
            elsewhere = (*type(self)._get_param_names(), "set_callbacks")
            check_keywords(type(self), innermost, arguments, elsewhere)
        return method(self, *args, **arguments)

    return cast(Method, checked)
