"""Decorators of estimators' methods: availability, callbacks, validation of arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import unwrap
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
    decorated: Method = callback.with_callbacks(method)
    return decorated


def with_parameter_validation(prefer_skip_nested_validation: bool) -> Callable[[Method], Method]:
    """Validate the parameters by their constraints at the beginning of a fit.

    Parameters
    ----------
    prefer_skip_nested_validation : bool
        Whether to skip the validation in fits of inner estimators.
    """
    decorator: Callable[[Method], Method] = _fit_context(
        prefer_skip_nested_validation=prefer_skip_nested_validation
    )
    return decorator


def with_argument_suggestions(method: Method) -> Method:
    """Decorate a method: an unknown argument raises a TypeError with a suggestion."""
    innermost = unwrap(method)

    @wraps(method)
    def checked(self: Any, *args: Any, **arguments: Any) -> Any:
        check_keywords(innermost, arguments, (*self._get_param_names(), "set_callbacks"))
        return method(self, *args, **arguments)

    return cast(Method, checked)
