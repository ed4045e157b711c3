"""From an estimator's parameters to the objects of the core, and what values they may have.

Functions here take the estimator as `settings` and read its constructor's parameters, no more.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, RealNotInt, StrOptions

from .core.activations import ACTIVATIONS, Activation
from .core.arrays import Array
from .core.averaging import Average, ExponentialAverage, PolyakAverage
from .core.initializers import INITIALIZERS, BoundedUniform, Initializer
from .core.network import Network
from .core.normalization import NORMALIZATIONS, BatchNormalization, Normalization
from .core.optimizers import OPTIMIZERS, Optimizer
from .core.penalties import L2, ElasticNet, Penalty
from .core.schedules import SCHEDULES, Constant, Schedule
from .core.warmup import as_schedule

Settings = TypeVar("Settings")

PARAMETER_CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions(set(ACTIVATIONS)), Activation, "array-like"],
    "solver": [StrOptions({"lbfgs", *OPTIMIZERS}), Optimizer],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions(set(SCHEDULES)), Schedule, callable],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "n_members": [Interval(Integral, 1, None, closed="left")],
    "l1_ratio": [Interval(Real, 0, 1, closed="both")],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "dropout": [object],  # `dropout_rates` says what is needed
    "normalization": [StrOptions(set(NORMALIZATIONS)), Normalization, None],
    "average": [
        "boolean",
        Interval(Integral, 1, None, closed="left"),
        Interval(RealNotInt, 0, 1, closed="neither"),
    ],
    "init": [StrOptions({"auto", *INITIALIZERS}), Initializer, tuple, list],
    "dtype": [StrOptions({"float32", "float64"}), None],
}

_LARGEST_SEED = np.iinfo(np.int32).max

# The names of schedules that are scikit-learn's.
_WITH_SGD_ALONE = ("constant", "invscaling", "adaptive")

# What shapes a network or its training state, and so cannot change in a warm start.
ARCHITECTURE = (
    "hidden_layer_sizes",
    "activation",
    "loss",
    "solver",
    "dtype",
    "n_members",
    "normalization",
)


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
    """Return whether the solver is the one that takes no stochastic steps."""
    return isinstance(solver, str) and solver == "lbfgs"


def build(table: Mapping[str, type[Settings]], setting: Any, settings: Any) -> Settings:
    """Return the object behind a name, its fields set to the parameters of the same name.

    Fields that are no parameters keep their defaults. An instance is returned as it is.
    """
    if not isinstance(setting, str):
        return setting
    kind: Any = table[setting]
    names = [field.name for field in fields(kind) if hasattr(settings, field.name)]
    built: Settings = kind(**{name: _plain(getattr(settings, name)) for name in names})
    return built


def _plain(value: Any) -> Any:
    """Return a float for any number that is not a flag: the core takes no other."""
    return value if isinstance(value, (bool, np.bool_, str)) else float(value)


def build_schedule(settings: Any) -> Schedule:
    """Return the schedule; scikit-learn's names act with sgd alone, as they do there."""
    schedule = settings.learning_rate
    if not isinstance(schedule, str):
        return as_schedule(schedule, "learning_rate")
    if schedule in _WITH_SGD_ALONE and settings.solver != "sgd":
        return Constant()
    return build(SCHEDULES, schedule, settings)


def build_penalty(settings: Any) -> Penalty:
    """Return the penalty on the weights."""
    alpha, l1_ratio = float(settings.alpha), float(settings.l1_ratio)
    return ElasticNet(alpha, l1_ratio) if l1_ratio else L2(alpha)


def build_average(settings: Any) -> Average | None:
    """Return what averages the weights over the steps, if anything does."""
    average = settings.average
    if isinstance(average, (bool, np.bool_)):
        return PolyakAverage() if average else None
    return (PolyakAverage if isinstance(average, Integral) else ExponentialAverage)(float(average))


def build_network(settings: Any, n_features: int, n_outputs: int) -> Network:
    """Return the architecture for data of so many columns."""
    hidden = hidden_widths(settings.hidden_layer_sizes)
    activations = map(as_activation, activation_of_each_layer(settings))
    return Network(
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
    network = replace(network, dropout=rates)
    if is_lbfgs(settings.solver):
        if np.any(settings.dropout):
            raise ValueError(
                "solver='lbfgs' needs the same objective in every call, which dropout makes "
                f"random: got dropout={settings.dropout!r}. Set dropout=0.0, or choose a "
                "stochastic solver such as 'adam' or 'sgd'."
            )
        if isinstance(network.normalization, BatchNormalization):
            raise ValueError(
                "solver='lbfgs' takes all rows at once, and leaves no batches to normalise over: "
                f"got normalization={settings.normalization!r}. Set normalization='layer' or "
                "None, or choose a stochastic solver such as 'adam' or 'sgd'."
            )
    return network


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


def member_streams(random_state: Any, n_members: int) -> list[np.random.RandomState]:
    """Return what draws each member's weights and rows: for the first, the user's own stream.

    Without a seed that is NumPy's global stream, as in scikit-learn. The seeds of the others are
    drawn from a copy of it, so that it is where it would be without them.
    """
    first: np.random.RandomState = check_random_state(random_state)
    if n_members == 1:
        return [first]
    seeds = copy.deepcopy(first).randint(_LARGEST_SEED, size=n_members - 1).tolist()
    return [first, *map(np.random.RandomState, seeds)]


def stream_of_its_own() -> np.random.RandomState:
    """Return a stream with a seed from NumPy's global one."""
    return np.random.RandomState(check_random_state(None).randint(_LARGEST_SEED))


def initial_layers(
    settings: Any, network: Network, stream: np.random.RandomState, member: int = 0
) -> list[tuple[Array, Array]]:
    """Return a member's initial (weights, biases) of each layer: drawn, or as the user gave them.

    Given arrays with a member axis hold each member's own, others serve all members.
    """
    init = settings.init
    if isinstance(init, (tuple, list)):
        if len(init) != 2:
            raise ValueError(
                "init must be a name, an Initializer or a pair (coefs, intercepts), got a "
                f"{type(init).__name__} of length {len(init)}."
            )
        coefs, intercepts = init
        n_given = settings.n_members if _has_member_axis(coefs) else 1
        layers = checked_layers(coefs, intercepts, network, "init", n_given)
        if not all(np.isfinite(array).all() for layer in layers for array in layer):
            raise ValueError("init contains NaN or infinity: initial weights have to be finite.")
        return members_of_layers(layers, n_given)[member % n_given]
    if isinstance(init, str) and init == "auto":
        return network.draw(_initializers_of_activations(settings, network), stream)
    initializer = INITIALIZERS[init] if isinstance(init, str) else init
    return network.draw([initializer] * len(network.shapes), stream)


def _initializers_of_activations(settings: Any, network: Network) -> list[Initializer]:
    """Return what draws each layer: its activation's own, and the last layer like the one before.

    Without hidden layers the activation makes no difference but here, as in scikit-learn.
    """
    initializers = [activation.initializer for activation in network.activations]
    if initializers:
        return [*initializers, initializers[-1]]
    is_one = isinstance(settings.activation, (str, Activation))
    return [as_activation(settings.activation).initializer if is_one else BoundedUniform()]


def member_init(init: Any, member: int) -> Any:
    """Return the initial weights of one member as those of a single network."""
    if isinstance(init, (tuple, list)) and len(init) == 2 and _has_member_axis(init[0]):
        return tuple([array[member] for array in arrays] for arrays in init)
    return init


def _has_member_axis(coefs: Any) -> bool:
    return _is_list(coefs) and len(coefs) > 0 and np.ndim(coefs[0]) == 3


def layer_widths(coefs: Any, name: str) -> tuple[int, ...]:
    """Return the widths of the layers that weights connect; those of members have one more axis.

    Raises
    ------
    ValueError
        If there are no weights, or they are no matrices; `name` says what the user should look at.
    """
    shapes = [np.shape(weights) for weights in coefs] if _is_list(coefs) else []
    if not shapes or any(len(shape) not in (2, 3) for shape in shapes):
        raise ValueError(
            f"{name} must be a list with an array of shape (fan_in, fan_out) for each layer, got "
            f"{f'arrays of the shapes {shapes}' if _is_list(coefs) else _named(coefs)}."
        )
    return (shapes[0][-2], *(shape[-1] for shape in shapes))


def checked_layers(
    coefs: Any, intercepts: Any, network: Network, name: str, n_members: int = 1
) -> list[tuple[Array, Array]]:
    """Return given weights and biases layer by layer, after a check of their shapes.

    Those of several members have the member axis first.

    Raises
    ------
    ValueError
        If a shape is not that of the network, or an array holds no real numbers; `name` says what
        the user should look at.
    """
    shapes = network.shapes
    if not (_is_list(coefs) and _is_list(intercepts)):
        raise ValueError(
            f"{name} must be a list of weights and a list of intercepts, one array for each "
            f"layer, got {_named(coefs)} and {_named(intercepts)}."
        )
    if len(coefs) != len(shapes) or len(intercepts) != len(shapes):
        raise ValueError(
            f"{name} has {len(coefs)} arrays of weights and {len(intercepts)} of intercepts, but "
            f"the network has {len(shapes)} layers of weights: one of each is needed for each."
        )
    axis = () if n_members == 1 else (n_members,)
    layers = []
    for i, shape in enumerate(shapes):
        weights, biases = _as_numbers(coefs[i]), _as_numbers(intercepts[i])
        if weights.shape != axis + shape or biases.shape != axis + shape[1:]:
            raise ValueError(
                f"{name} has weights of shape {weights.shape} and intercepts of shape "
                f"{biases.shape} for layer {i}, but the network needs {axis + shape} and "
                f"{axis + shape[1:]}."
            )
        if not {weights.dtype.kind, biases.dtype.kind} <= set("biuf"):
            raise ValueError(
                f"{name} must hold real numbers, got arrays of {weights.dtype} and {biases.dtype} "
                f"for layer {i}."
            )
        layers.append((weights, biases))
    return layers


def checked_rows(arrays: Any, widths: Sequence[int], name: str, n_members: int) -> list[Array]:
    """Return given arrays of one number a unit, after a check of their shapes.

    Those of several members have the member axis first.
    """
    axis = () if n_members == 1 else (n_members,)
    needed = [(*axis, width) for width in widths]
    checked = list(map(_as_numbers, arrays)) if _is_list(arrays) else []
    shapes = [array.shape for array in checked]
    if shapes != needed:
        raise ValueError(
            f"{name} must be a list of arrays, one for each hidden layer, of the shapes {needed}, "
            f"got {shapes if _is_list(arrays) else _named(arrays)}."
        )
    return checked


def members_of_layers(
    layers: list[tuple[Array, Array]], n_members: int
) -> list[list[tuple[Array, Array]]]:
    """Return each member's weights and biases, layer by layer."""
    if n_members == 1:
        return [layers]
    return [[(weights[i], biases[i]) for weights, biases in layers] for i in range(n_members)]


def _is_list(values: Any) -> bool:
    """Return whether there may be an array for each layer in it: an array of arrays will do."""
    return isinstance(values, (list, tuple)) or (isinstance(values, np.ndarray) and values.ndim > 0)


def _as_numbers(values: Any) -> Array:
    """Return an array, one of numbers where it is one of objects that are numbers.

    Layers of one shape become that if they are made a single array of objects.
    """
    array = np.asarray(values)
    if array.dtype == object:
        with suppress(TypeError, ValueError):
            return array.astype(np.float64)
    return array


def _named(value: Any) -> str:
    """Return what a value is, for a message in which it would take too much room."""
    return "None" if value is None else f"a value of type {type(value).__name__}"
