"""Networks put together from weights, without `fit`: what `fit` would have set beside them.

Code that keeps weights in files of its own sets `coefs_`, `intercepts_` and what else
scikit-learn's networks need, and predicts. So all that training leaves beside the weights follows
from them, and from the parameters, as long as nothing has set it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.exceptions import NotFittedError

from ..losses._link_override import override_link
from ..losses.base import Loss
from ..training.architecture import check_input_layers_param, infer_n_features
from ..training.weight_init import layer_widths
from ._data_info import DataInfo, warm_start_signature

Value = TypeVar("Value")


class DerivedAttribute:
    """An attribute that follows from others, as long as the estimator has none of that name.

    It is there once there are weights.

    Parameters
    ----------
    derive : callable
        Returns the value for an estimator.
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
    """An attribute that is None, unless a parameter asks for one: weights do not say it.

    Parameters
    ----------
    parameter : str
        The parameter.
    asks : callable
        Returns whether a value of it does.
    """

    def __init__(self, parameter: str, asks: Callable[[Any], bool]) -> None:
        super().__init__(self._none)
        self._parameter, self._asks = parameter, asks

    def _none(self, estimator: Any) -> None:
        value = getattr(estimator, self._parameter)
        if self._asks(value):
            raise NotFittedError(
                f"{self._parameter}={value!r} needs {self._name}, which is not set. Call fit, or "
                f"set {self._name} as well as coefs_ and intercepts_."
            )


class OutputActivation(DerivedAttribute):
    """The attribute `out_activation_`, which acts on predictions and on further training."""

    def __get__(self, estimator: Any, owner: type | None = None) -> Any:
        if estimator is not None and self._name in vars(estimator):
            return vars(estimator)[self._name]
        return super().__get__(estimator, owner)

    def __set__(self, estimator: Any, value: Any) -> None:
        known = vars(estimator).get("_learned")
        if known is not None:
            loss = override_link(known.loss, value)
            if loss is not known.loss:
                vars(estimator)["_learned"] = replace(known, loss=loss)
        vars(estimator)[self._name] = value

    def __delete__(self, estimator: Any) -> None:
        del vars(estimator)[self._name]


def derived(derive: Callable[[Any], Value]) -> Value:
    """Make a method an attribute that follows from others, as long as there is no other."""
    return cast(Value, DerivedAttribute(derive))  # what checkers are to take it for


def has_weights(estimator: Any) -> bool:
    """Return whether an estimator has weights, from `fit` or assigned."""
    return vars(estimator).keys() >= {"coefs_", "intercepts_"}


class FromWeightsMixin:
    """What an estimator has beside its weights, as long as no training has set it."""

    def __sklearn_is_fitted__(self) -> bool:
        """Say whether there are weights to predict with."""
        return has_weights(self)

    def _parameters_for(self, widths: tuple[int, ...]) -> dict[str, Any]:
        """Return the parameters that make a network of these widths."""
        return {"hidden_layer_sizes": widths[1:-1]}

    # ---------------------------------------------------------------- from the weights

    @derived
    def _widths(self: Any) -> tuple[int, ...]:
        return layer_widths(self.coefs_, "coefs_")

    @derived
    def n_features_in_(self: Any) -> int:
        layers = check_input_layers_param(self._settings.get("input_layers"))
        return infer_n_features(layers, int(self._widths[0]))

    @derived
    def n_layers_(self: Any) -> int:
        return len(self._widths)

    @derived
    def n_outputs_(self: Any) -> int:
        return int(self._widths[-1])

    # ------------------------------------------------------------- from the parameters

    @derived
    def _learned(self: Any) -> DataInfo:
        widths = self._widths
        parameters = self._settings | self._parameters_for(widths)
        config = self._plan_of(self._predicted_by(parameters))
        targets = self._recall(config, widths[-1])
        n_features = infer_n_features(config.architecture.input_layers, int(widths[0]))
        return DataInfo(
            warm_start_signature(parameters),
            n_features,
            vars(self).get("feature_names_in_"),
            self._dtype_of_weights if config.dtype is None else config.dtype,
            targets,
            self._with_output_activation(self._loss_of(config, targets)),
            config.architecture.network(n_features, widths[-1]),
            config.n_estimators,
        )

    def _predicted_by(self: Any, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return parameters with defaults for those that act in training alone.

        Whatever these are, weights say what a network predicts.
        """
        of_training = {
            name: row.default
            for name, row in self._rows.items()
            if name == "solver" or not row.warm_start_fixed
        }
        return parameters | of_training

    @property
    def _dtype_of_weights(self: Any) -> np.dtype[np.floating]:
        are_single = all(np.asarray(weights).dtype == np.float32 for weights in self.coefs_)
        return np.dtype(np.float32 if are_single else np.float64)

    def _with_output_activation(self: Any, loss: Loss) -> Loss:
        return override_link(loss, vars(self).get("out_activation_", loss.link.name))

    @derived
    def n_parameters_(self: Any) -> int:
        return int(self._learned.network.layout.n_parameters)

    out_activation_: Any = OutputActivation(lambda estimator: estimator._learned.loss.link.name)
