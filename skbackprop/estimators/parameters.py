"""The parameters of the estimators: what values they may have, and which shape a network."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from .._sklearn import Interval, Options, RealNotInt, StrOptions
from ..activations import ACTIVATIONS, Activation
from ..initializers import INITIALIZERS, Initializer
from ..layers.normalization import NORMALIZATIONS, Normalization
from ..optimizers import OPTIMIZERS, Optimizer
from ..schedules.base import Schedule
from ..schedules.kinds import SCHEDULES

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
