"""From an estimator's parameters to the objects of the engine.

Functions here take the estimator as `settings` and read its constructor's parameters, no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

from ..activations import ACTIVATIONS, Activation
from ..averages import AVERAGES, Average
from ..core.equality import is_equal
from ..core.members import kind_of
from ..engine.network import Network, dense_network
from ..engine.penalties import L2, ElasticNet, Penalty
from ..layers.normalization import NORMALIZATIONS, BatchNormalization, Normalization
from ..optimizers import LBFGS, SOLVERS
from ..schedules.base import Schedule
from ..schedules.kinds import SCHEDULES, Constant
from ..schedules.warmup import as_schedule

Settings = TypeVar("Settings")

# The names of schedules that are scikit-learn's, which act with its "sgd" alone.
WITH_SGD_ALONE = ("constant", "invscaling", "adaptive")


def hidden_widths(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """Return the widths of the hidden layers, checked."""
    is_sequence = isinstance(hidden_layer_sizes, Iterable)
    widths = list(hidden_layer_sizes) if is_sequence else [hidden_layer_sizes]
    if not all(isinstance(width, Integral) and int(width) > 0 for width in widths):
        raise ValueError(
            "hidden_layer_sizes must be > 0: one positive integer for each hidden layer, or () "
            f"for none, got {hidden_layer_sizes!r}."
        )
    return tuple(int(width) for width in widths)


def is_lbfgs(solver: Any) -> bool:
    """Return whether the solver is the one that takes no stochastic steps, by name or instance."""
    kind = SOLVERS.get(solver) if isinstance(solver, str) else type(solver)
    return kind is not None and issubclass(kind, LBFGS)


def can_go_on(name: str, before: Any, now: Any) -> bool:
    """Return whether training can go on with this value of a parameter that shapes its state.

    Of an optimizer the numbers may change; L-BFGS leaves no state, so all of its settings may.
    """
    if name == "solver":
        before, now = (LBFGS if isinstance(s, LBFGS) else kind_of(s) for s in (before, now))
    return is_equal(now, before)


def build(table: Mapping[str, type[Settings]], setting: Any, settings: Any) -> Settings:
    """Return the object behind a name, its fields set to the parameters of the same name.

    Fields that are no parameters keep their defaults. An instance is returned as it is.
    """
    if not isinstance(setting, str):
        return setting
    kind: Any = table[setting]
    names = [field.name for field in fields(kind) if hasattr(settings, field.name)]
    built: Settings = kind(**{name: getattr(settings, name) for name in names})
    return built


def build_schedule(settings: Any) -> Schedule:
    """Return the schedule; scikit-learn's names act with sgd alone, as they do there."""
    schedule = settings.learning_rate
    if not isinstance(schedule, str):
        return as_schedule(schedule, "learning_rate")
    if schedule in WITH_SGD_ALONE and settings.solver != "sgd":
        return Constant()
    return build(SCHEDULES, schedule, settings)


def build_penalty(settings: Any) -> Penalty:
    """Return the penalty on the weights."""
    alpha, l1_ratio = float(settings.alpha), float(settings.l1_ratio)
    return ElasticNet(alpha, l1_ratio) if l1_ratio else L2(alpha)


def build_average(settings: Any) -> Average | None:
    """Return what averages the weights over the steps, if anything does."""
    average = settings.average
    is_name = isinstance(average, str) and average in AVERAGES
    if not (average is None or is_name or isinstance(average, Average)):
        raise ValueError(
            f"average must be None, one of the names {list(AVERAGES)}, or an Average, got "
            f"{average!r}. {_average_instead_of(average)}"
        )
    return build(AVERAGES, average, settings)


def _average_instead_of(value: Any) -> str:
    """Return what to write in the place of a flag or a number, which might mean either average."""
    if isinstance(value, Real) and not isinstance(value, bool):
        if 0 < float(value) < 1:
            return (
                f"For an exponential average write average=ExponentialAverage(decay={value}), "
                "imported from skbackprop.averages."
            )
        if float(value) >= 1:
            return (
                "For the mean of the steps from so many rows on write "
                f"average=PolyakAverage(start={value}), imported from skbackprop.averages."
            )
    return (
        "Write average='polyak' for the mean of all steps, average='exponential' for an "
        "exponential average, average=None for neither."
    )


def build_network(settings: Any, n_features: int, n_outputs: int) -> Network:
    """Return the architecture for data of so many columns."""
    hidden = hidden_widths(settings.hidden_layer_sizes)
    activations = map(as_activation, activation_of_each_layer(settings))
    return dense_network(
        (n_features, *hidden, n_outputs),
        tuple(activations),
        normalization=as_normalization(settings.normalization),
    )


def activation_of_each_layer(settings: Any) -> tuple[str | Activation, ...]:
    """Return the name or instance for each hidden layer, checked."""
    activation, n_hidden = settings.activation, len(hidden_widths(settings.hidden_layer_sizes))
    if isinstance(activation, (str, Activation)):
        return (activation,) * n_hidden
    each = tuple(str(part) if isinstance(part, str) else part for part in activation)
    for layer, part in enumerate(each):
        is_name = isinstance(part, str) and part in ACTIVATIONS
        if not (is_name or isinstance(part, Activation)):
            raise ValueError(
                f"activation must be a name or an Activation for each hidden layer, got {part!r} "
                f"for layer {layer}. The names are {', '.join(map(repr, ACTIVATIONS))}."
            )
    if len(each) != n_hidden:
        raise ValueError(
            f"activation has {len(each)} entries, but hidden_layer_sizes="
            f"{settings.hidden_layer_sizes!r} makes {n_hidden} hidden layers: give one for each, "
            "or a single name or Activation for all of them."
        )
    return each


def with_dropout(network: Network, rates: tuple[float, ...], settings: Any) -> Network:
    """Return the network as it is trained; predictions need no dropout.

    Raises
    ------
    ValueError
        If the solver is one that what is random has no place in.
    """
    if is_lbfgs(settings.solver):
        if np.any(settings.dropout):
            raise ValueError(
                f"solver={settings.solver!r} needs the same objective in every call, which dropout "
                f"makes random: got dropout={settings.dropout!r}. Set dropout=0.0, or choose a "
                "stochastic solver such as 'adam' or 'sgd'."
            )
        if isinstance(as_normalization(settings.normalization), BatchNormalization):
            raise ValueError(
                f"solver={settings.solver!r} takes all rows at once, and leaves no batches to "
                f"normalise over: got normalization={settings.normalization!r}. Set "
                "normalization='layer' or None, or choose a stochastic solver such as 'adam' or "
                "'sgd'."
            )
    return network.with_dropout(rates)


def dropout_rates(dropout: Any, n_hidden: int) -> tuple[float, ...]:
    """Return the rates of the input and of each hidden layer, checked; empty if all are zero."""
    if isinstance(dropout, Real):
        rates = [0.0] + [dropout] * n_hidden
        is_valid = _is_rate(dropout)
    else:
        is_array = isinstance(dropout, np.ndarray) and dropout.ndim == 1
        rates = list(dropout) if is_array or isinstance(dropout, (list, tuple)) else []
        is_valid = len(rates) == 1 + n_hidden and all(map(_is_rate, rates))
    if not is_valid:
        raise ValueError(
            "dropout must be one rate in [0, 1) for all hidden layers, or a sequence of "
            f"{1 + n_hidden} such rates, one for the input and one for each of the {n_hidden} "
            f"hidden layers, got {dropout!r}."
        )
    return tuple(map(float, rates)) if any(rates) else ()


def _is_rate(value: Any) -> bool:
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    return is_number and not isinstance(value, bool) and bool(0 <= value < 1)


def as_normalization(normalization: str | Normalization | None) -> Normalization | None:
    """Return the normalisation behind a name; an instance or None is returned as it is."""
    if isinstance(normalization, str):
        return NORMALIZATIONS[normalization]()
    return normalization


def as_activation(activation: str | Activation) -> Activation:
    """Return the activation behind a name; an instance is returned as it is."""
    return ACTIVATIONS[activation] if isinstance(activation, str) else activation
