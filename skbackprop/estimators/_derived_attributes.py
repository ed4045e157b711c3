"""Fitted attributes that follow from assigned weights, without a call of `fit`.

Code that stores weights in its own files assigns `coefs_`, `intercepts_` and the other attributes
that scikit-learn's networks need, and predicts. All other fitted attributes are then derived from
the weights and the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from sklearn.exceptions import NotFittedError

Value = TypeVar("Value")


class DerivedAttribute:
    """Attribute that is computed from the weights unless it is set.

    Without weights, access raises an AttributeError.

    Parameters
    ----------
    derive : callable
        Takes the estimator and returns the value.
    """

    def __init__(self, derive: Callable[[Any], Any]) -> None:
        self._derive = derive

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, estimator: Any, owner: type | None = None) -> Any:
        if estimator is None:
            return self
        if not has_weights(estimator):
            raise AttributeError(f"{type(estimator).__name__} has no {self._name}: call fit first.")
        return self._derive(estimator)


class OptionalDerivedAttribute(DerivedAttribute):
    """Attribute that is None unless a parameter requires it to be set.

    Parameters
    ----------
    parameter : str
        The name of the parameter.
    is_required : callable
        Takes the parameter's value and returns whether the attribute has to be set.
    """

    def __init__(self, parameter: str, is_required: Callable[[Any], bool]) -> None:
        super().__init__(self._derive_none)
        self._parameter, self._is_required = parameter, is_required

    def _derive_none(self, estimator: Any) -> None:
        value = getattr(estimator, self._parameter)
        if self._is_required(value):
            raise NotFittedError(
                f"{self._parameter}={value!r} needs {self._name}, which is not set. Call fit, or "
                f"set {self._name} as well as coefs_ and intercepts_."
            )


def derived(derive: Callable[[Any], Value]) -> Value:
    """Decorate a method: its value is an attribute that is derived unless it is set."""
    return cast(Value, DerivedAttribute(derive))  # the type that checkers see


def has_weights(estimator: Any) -> bool:
    """Return whether an estimator has weights, fitted or assigned."""
    return vars(estimator).keys() >= {"coefs_", "intercepts_"}
