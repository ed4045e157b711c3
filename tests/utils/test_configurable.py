"""The contract of all objects with settings: get_params, set_params, copies and wrong values.

A part enters by the `__all__` of its module.
"""

import copy
import inspect
import pickle
import re
from dataclasses import MISSING, dataclass, field, fields, make_dataclass

import numpy as np
import pytest
from sklearn.base import clone

from skbackprop import (
    EarlyStopping,
    activations,
    initializers,
    layers,
    losses,
    optimizers,
    schedules,
    weight_averaging,
)
from skbackprop.losses import Focal, Quantile
from skbackprop.losses.regression import DevianceLoss, ResidualLoss
from skbackprop.optimizers import SGD, Adam, AdamW
from skbackprop.schedules import CosineDecay, LearningRateSchedule, LinearWarmup, StepDecay
from skbackprop.utils.configurable import Configurable, is_equal, number_by_equality

MODULES = [activations, weight_averaging, initializers, layers, losses, optimizers, schedules]
# All parts that a user can make, with their defaults, and arguments of those that need some.
KINDS = {
    name: kind
    for module in MODULES
    for name in module.__all__
    if isinstance(kind := getattr(module, name), type)
    if issubclass(kind, Configurable) and "__dataclass_fields__" in vars(kind)
}
# Values of the fields that have no default, by their names.
REQUIRED = {
    "activation": "tanh",
    "dims": (2, 1),
    "height_factor": 0.2,
    "function": np.cos,
    "kernel_size": 3,
    "layer": layers.GRU(2),
    "layers": (layers.Scale(),),
    "n_filters": 4,
    "n_heads": 2,
    "n_levels": ((1, 4),),
    "n_tokens": 9,
    "n_units": 4,
    "rate": 0.1,
    "stddev": 0.1,
    "target_shape": (4,),
}


def required_by(kind):
    """Return the arguments that a part needs."""
    needed = [field.name for field in fields(kind) if field.init and field.default is MISSING]
    return {name: REQUIRED[name] for name in needed}


PARTS = [kind(**required_by(kind)) for kind in KINDS.values()]
every_part = pytest.mark.parametrize("part", PARTS, ids=KINDS)

# Another value for a setting than its default.
OTHERS = {
    True: False,
    False: True,
    "fan_avg": "fan_in",
    "uniform": "normal",
    (0.5, 0.75): (0.1,),
    (0.5,): (0.1, 0.9),
    np.cos: np.sin,
    ((1, 4),): ((0, 3), (2, 5)),
    (2, 1): (1, 2),
    (2, 2): (4, 1),
    "gelu": "tanh",
    "horizontal_and_vertical": "vertical",
    "relu": "tanh",
    None: (0,),
    (4,): (2, 2),
    (layers.Scale(),): (layers.Scale(), layers.Scale()),
    layers.GRU(2): layers.GRU(3),
    "tanh": "relu",
    "valid": "same",
}
# The same for settings that are None.
OTHERS_THAN_NONE = {
    "activation": "tanh",
    "initializer": initializers.GlorotUniform(),
    "strides": 3,
    "key_size": 3,
    "truncate": 3,
    "width_factor": 0.3,
}


def other_than(value, name=None):
    """Return another value that the setting takes."""
    if value is None and name in OTHERS_THAN_NONE:
        return OTHERS_THAN_NONE[name]
    if isinstance(value, LearningRateSchedule):
        return CosineDecay(0.3)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return OTHERS[value]
    if isinstance(value, int) or value == 1.0:
        return value + 1
    return value * 0.9 or 0.5


@dataclass(frozen=True)
class Own(Configurable):
    """A part with a field that its constructor does not take."""

    width: float = 1.0
    area: float = field(init=False, default=0.0)

    def __post_init__(self):
        object.__setattr__(self, "area", self.width**2)


# ---------------------------------------------------------------------------------- reading


@every_part
def test_settings_are_what_the_constructor_takes(part):
    settings = part.get_params(deep=False)
    assert type(part)(**settings) == part
    assert all(getattr(part, name) is value for name, value in settings.items())
    in_signature = inspect.signature(type(part)).parameters
    assert [*settings] == [name for name in in_signature if name not in part._set_elsewhere]
    assert settings.items() <= part.get_params().items()


def test_settings_of_parts_within_go_by_longer_names():
    part = LinearWarmup(LinearWarmup("cosine", warmup_fraction=0.2))
    assert part.get_params(deep=False).keys() == {"schedule", "warmup_fraction", "start_factor"}
    deep = part.get_params()
    assert deep["schedule__warmup_fraction"] == 0.2
    assert deep["schedule__schedule"] == CosineDecay()
    assert deep["schedule__schedule__final_factor"] == 0.0
    assert len(deep) == 3 + 3 + 1


def test_fields_outside_the_constructor_are_not_settings():
    assert Own(2.0).get_params() == {"width": 2.0}
    assert Own(2.0).set_params(width=3.0).area == 9.0


@pytest.mark.parametrize(
    "part, shown",
    [
        (SGD(), "SGD()"),
        (SGD(0.9), "SGD()"),
        (SGD(momentum=0.5), "SGD(momentum=0.5)"),
        (layers.Conv2D(3, (4, 1)), "Conv2D(n_filters=3, kernel_size=(4, 1))"),
        (layers.BatchNormalization(epsilon=0.1), "BatchNormalization(epsilon=0.1)"),
        (
            layers.Residual([layers.Dense(2), "scale"]),
            "Residual(layers=(Dense(n_units=2), Scale()))",
        ),
        (LinearWarmup(CosineDecay(0.3)), "LinearWarmup(schedule=CosineDecay(final_factor=0.3))"),
        (Own(2.0), "Own(width=2.0)"),
    ],
    ids=str,
)
def test_a_repr_shows_the_settings_that_differ_from_their_defaults(part, shown):
    assert repr(part) == shown


# ---------------------------------------------------------------------------------- setting


@every_part
def test_each_setting_can_be_set_and_nothing_changes_in_place(part):
    before = copy.deepcopy(vars(part))
    for name, value in part.get_params(deep=False).items():
        other = other_than(value, name)
        changed = part.set_params(**{name: other})
        assert type(changed) is type(part)
        assert changed.get_params(deep=False) == part.get_params(deep=False) | {name: other}
        assert changed != part
        assert changed.set_params(**{name: value}) == part
    assert vars(part) == before


def test_settings_of_parts_within_are_set():
    part = LinearWarmup("cosine", warmup_fraction=0.2)
    assert part.set_params(schedule__final_factor=0.1) == LinearWarmup(
        CosineDecay(0.1), warmup_fraction=0.2
    )
    both = part.set_params(start_factor=0.5, schedule__final_factor=0.1)
    assert both == LinearWarmup(CosineDecay(0.1), warmup_fraction=0.2, start_factor=0.5)
    assert part == LinearWarmup(CosineDecay(), warmup_fraction=0.2)
    twice = LinearWarmup(part).set_params(schedule__schedule__final_factor=0.3)
    assert twice.schedule.schedule == CosineDecay(0.3)


@every_part
def test_raises_on_unknown_setting_with_valid_names(part):
    names = list(part.get_params(deep=False))
    for wrong in ("no_such", "no_such__either"):
        with pytest.raises(ValueError, match="Invalid parameter 'no_such' for") as error:
            part.set_params(**{wrong: 1.0})
        assert str(error.value).endswith(f"Valid parameters are: {names!r}.")


@pytest.mark.parametrize(
    "part, changes, says",
    [
        (Adam(), {"beta_1": 2.0}, "beta_1 of Adam must be a number in the range"),
        (AdamW(), {"weight_decay": "much"}, "weight_decay of AdamW must be"),
        (
            LinearWarmup("cosine"),
            {"schedule__final_factor": 2.0},
            "final_factor of CosineDecay must be",
        ),
        (
            LinearWarmup("cosine"),
            {"schedule__x": 2.0},
            r"Invalid parameter 'x' for CosineDecay\(\)",
        ),
        (
            LinearWarmup("cosine"),
            {"warmup_fraction__x": 2.0},
            "warmup_fraction=0.05 of LinearWarmup has no settings of its own",
        ),
        (Quantile(), {"quantiles": [0.9, 0.1]}, "quantiles"),
    ],
    ids=str,
)
def test_set_params_raises_the_error_of_the_constructor(part, changes, says):
    before = part.get_params()
    with pytest.raises(ValueError, match=says):
        part.set_params(**changes)
    assert part.get_params() == before


# ------------------------------------------------------------------------------ wrong values

# The values that each number may have.
RANGES = {
    (activations.LeakyRelu, "negative_slope"): "[0, 1]",
    (activations.Elu, "alpha"): "[0, inf)",
    (initializers.GlorotUniform, "factor"): "(0, inf)",
    (initializers.VarianceScaling, "scale"): "(0, inf)",
    (SGD, "momentum"): "[0, 1]",
    (Adam, "beta_1"): "[0, 1)",
    (Adam, "beta_2"): "[0, 1)",
    (Adam, "epsilon"): "(0, inf)",
    (AdamW, "beta_1"): "[0, 1)",
    (AdamW, "weight_decay"): "[0, inf)",
    (optimizers.NAdam, "beta_1"): "[0, 1)",
    (optimizers.AMSGrad, "epsilon"): "(0, inf)",
    (optimizers.RMSprop, "rho"): "[0, 1)",
    (optimizers.RMSprop, "epsilon"): "(0, inf)",
    (optimizers.Adagrad, "epsilon"): "(0, inf)",
    (schedules.InverseScaling, "power_t"): "[0, inf)",
    (schedules.Adaptive, "tol"): "[0, inf)",
    (schedules.Adaptive, "n_iter_no_change"): "[0, inf]",
    (CosineDecay, "final_factor"): "[0, 1]",
    (schedules.OneCycle, "warmup_fraction"): "[0, 1]",
    (schedules.OneCycle, "start_factor"): "[0, 1]",
    (schedules.OneCycle, "final_factor"): "[0, 1]",
    (StepDecay, "factor"): "(0, 1]",
    (schedules.ExponentialDecay, "final_factor"): "(0, 1]",
    (schedules.ReduceOnPlateau, "factor"): "(0, 1]",
    (schedules.ReduceOnPlateau, "patience"): "[0, inf]",
    (schedules.ReduceOnPlateau, "tol"): "[0, inf)",
    (schedules.ReduceOnPlateau, "smallest"): "[0, inf)",
    (LinearWarmup, "warmup_fraction"): "[0, 1]",
    (LinearWarmup, "start_factor"): "[0, 1]",
    (Focal, "gamma"): "[0, inf)",
    (losses.Huber, "delta"): "(0, inf)",
    (losses.Tweedie, "power"): "(1, 2)",
    (losses.Gaussian, "min_variance"): "(0, inf)",
    (layers.BatchNormalization, "momentum"): "[0, 1)",
    (layers.BatchNormalization, "epsilon"): "(0, inf)",
    (layers.LayerNormalization, "epsilon"): "(0, inf)",
    (layers.PeriodicEmbedding, "scale"): "(0, inf)",
    (layers.CategoricalEmbedding, "scale"): "[0, inf)",
    (weight_averaging.PolyakAverage, "start"): "[1, inf)",
    (weight_averaging.ExponentialMovingAverage, "decay"): "(0, 1)",
    (EarlyStopping, "n_iter_no_change"): "[1, inf]",
    (EarlyStopping, "tol"): "[0, inf)",
}


@pytest.mark.parametrize("kind, name", RANGES, ids=lambda value: getattr(value, "__name__", value))
def test_raises_on_a_number_out_of_range(kind, name):
    text = RANGES[kind, name]
    low, high = map(float, text[1:-1].split(", "))
    wrong = [low - 0.1 if text[0] == "[" else low, high if text[-1] == ")" else high + 0.1]
    message = f"^{name} of {kind.__name__} must be a number in the range {re.escape(text)}, got"
    for value in wrong[: 1 if wrong[1] == np.inf and text[-1] == "]" else 2]:
        with pytest.raises(ValueError, match=message):
            kind(**required_by(kind) | {name: value})


@every_part
def test_raises_on_what_is_no_number(part):
    for name, value in part.get_params(deep=False).items():
        if type(value) is float:
            for wrong in (np.nan, "1", None, True, [1.0]):
                message = (
                    f"^{name} of {type(part).__name__} must be .* got {re.escape(repr(wrong))}"
                )
                with pytest.raises(ValueError, match=message):
                    part.set_params(**{name: wrong})


@every_part
def test_a_value_of_another_type_is_refused_when_it_is_given(part):
    for name in part.get_params(deep=False):
        for wrong in ("no", object(), frozenset({1, 2})):
            with pytest.raises(ValueError, match=rf"{name}\b.* must be .*got"):
                part.set_params(**{name: wrong})


@pytest.mark.parametrize(
    "make, says",
    [
        (
            lambda: layers.Dense(2, initializer="he"),
            "initializer of Dense must be None or an object of class Initializer such as "
            "GlorotUniform, got 'he'.",
        ),
        (lambda: layers.Dense(2, None, 1), "use_bias of Dense must be True or False, got 1."),
        (
            lambda: layers.Conv1D(2, 3, padding="cause"),
            "padding of Conv1D must be 'valid', 'same' or 'causal', got 'cause'. Did you mean "
            "'causal'?",
        ),
        (
            lambda: layers.Bidirectional(layers.GRU),
            "layer of Bidirectional must be an object of class RecurrentLayer such as GRU, got "
            "<class 'skbackprop.layers.recurrent.GRU'>.",
        ),
    ],
)
def test_the_error_names_the_values_that_the_type_allows(make, says):
    with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
        make()


def test_flags_may_be_of_numpy():
    assert SGD(nesterovs_momentum=np.bool_(False)) == SGD(nesterovs_momentum=False)


def test_numbers_become_floats_and_each_member_is_checked():
    for value in (1, np.float64(0.3), np.float32(0.25)):
        assert type(SGD(value).momentum) is float
    column = np.array([[0.5], [1.0]])
    assert SGD(column).momentum is column
    for wrong in (column + 0.1, column[0], np.array(0.5), column.T, column.astype(str)):
        with pytest.raises(ValueError, match="momentum of SGD must be a number in the range"):
            SGD(wrong)


UNFINISHED = [
    *(
        (activations.ActivationFunction, "forward", 2),
        (activations.ActivationFunction, "backward", 3),
    ),
    *((optimizers.Optimizer, "init", 1), (optimizers.Optimizer, "step", 4)),
    *((losses.Loss, "value", 2), (losses.Loss, "gradient", 3)),
    *((ResidualLoss, "rho", 1), (ResidualLoss, "psi", 2)),
    *((DevianceLoss, "half_deviance", 2), (DevianceLoss, "log_mean_gradient", 3)),
    *((losses.Link, "inverse", 2), (losses.Link, "inverse_backward", 2)),
    *((losses.Link, "log_inverse", 1), (losses.Link, "log_partition", 1), (losses.Link, "link", 1)),
    (losses.Link, "average_predictions", 1),
    (initializers.Initializer, "draw", 3),
    (layers.Normalization, "bind", 1),
    (weight_averaging.WeightAverage, "update_total", 2),
]


@pytest.mark.parametrize("base, method, n_arguments", UNFINISHED)
def test_an_unfinished_part_names_what_it_must_define(base, method, n_arguments):
    unfinished = type("Unfinished", (base,), {})()
    with pytest.raises(NotImplementedError, match=rf"^Unfinished must define {method}\("):
        getattr(unfinished, method)(*[np.ones((1, 1, 1))] * n_arguments)


# ---------------------------------------------------------------------------------- copies


@every_part
def test_a_clone_is_an_equal_copy(part):
    for copied in (clone(part), clone([part])[0], pickle.loads(pickle.dumps(part))):
        assert copied == part
        assert hash(copied) == hash(part)
        assert type(copied) is type(part)
    if not required_by(type(part)):
        assert eval(repr(part), dict(KINDS)) == part


def test_annotations_that_cannot_be_resolved_leave_the_checks_of_the_base_class():
    named = make_dataclass("Named", [("note", "Unknown", "")], bases=(Adam,), frozen=True)
    assert named(beta_1=0.5, note="mine").note == "mine"
    with pytest.raises(ValueError, match=r"beta_1 of Named must be a number in the range \[0, 1\)"):
        named(beta_1=2)


# ------------------------------------------------------------------ objects that hold objects


def nested(n_units=3, rate=0.2):
    inner = layers.Bidirectional(layers.GRU(n_units))
    return layers.Residual([layers.Dense(4, activation="relu"), inner, layers.Dropout(rate)])


@pytest.mark.parametrize("copied", [copy.deepcopy, clone, lambda p: pickle.loads(pickle.dumps(p))])
def test_objects_in_a_tuple_are_values(copied):
    part, other = nested(), nested(5)
    assert copied(part) == part != other
    assert hash(copied(part)) == hash(part)
    assert is_equal([copied(part), "scale"], [part, "scale"])
    assert not is_equal(part, other)
    assert not is_equal(part, nested(rate=0.3))
    assert eval(repr(part), vars(layers)) == part
    assert number_by_equality([[part], [other], [copied(part)]]) == [0, 1, 0]
