"""scikit-learn's decorators of methods, with types: checkers see the methods that are behind them.

scikit-learn comes without types, so that of what it decorates nothing would be known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sklearn import callback
from sklearn.utils import metaestimators

from .._sklearn import _fit_context

Method = TypeVar("Method", bound=Callable[..., Any])


def available_if(check: Callable[[Any], bool]) -> Callable[[Method], Method]:
    """Let an estimator have a method only where the check of it says so."""
    decorator: Callable[[Method], Method] = metaestimators.available_if(check)
    return decorator


def with_callbacks(method: Method) -> Method:
    """Let callbacks be set up before a fit, and torn down after it."""
    decorated: Method = callback.with_callbacks(method)
    return decorated


def checks_parameters(prefer_skip_nested_validation: bool) -> Callable[[Method], Method]:
    """Let a fit begin with a check of the parameters, by their constraints.

    Parameters
    ----------
    prefer_skip_nested_validation : bool
        Whether those of estimators that it fits in turn need none.
    """
    decorator: Callable[[Method], Method] = _fit_context(
        prefer_skip_nested_validation=prefer_skip_nested_validation
    )
    return decorator
