"""An estimator's parameters become the objects of the core, or an error that helps."""

import math
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor, EarlyStopping
from skbackprop.activations import ACTIVATIONS, LeakyRelu, Relu, Tanh
from skbackprop.initializers import INITIALIZERS, GlorotUniform, VarianceScaling
from skbackprop.losses import CLASSIFIER_LOSSES
from skbackprop.optimizers import OPTIMIZERS, SGD, Adam, AdamW
from skbackprop.schedules import (
    SCHEDULES,
    Adaptive,
    ConstantRate,
    CosineDecay,
    InverseScaling,
    LambdaSchedule,
)
from skbackprop.training.architecture import validate_hidden_layer_sizes
from skbackprop.training.config import Config, instantiate, make_schedule
from skbackprop.training.start import Fresh
from skbackprop.utils.configurable import is_equal
from skbackprop.weight_averaging import AVERAGES, PolyakAverage
from support import data_for, quick, some_parameters
from support.cases import KINDS, MAY_DIFFER, two_that_differ_in
from support.stacks import activations_of, dense_network


def settings(**changes):
    """Return a classifier's parameters, some of them changed."""
    return BackpropClassifier().get_params(deep=False) | changes


def config(**changes):
    return Config.from_params(settings(**changes), CLASSIFIER_LOSSES)


# ----------------------------------------------------------------------- names to objects


@pytest.mark.parametrize(
    "value, widths",
    [
        (7, (7,)),
        ((), ()),
        ([5], (5,)),
        (np.array([5, 3]), (5, 3)),
        (np.int64(4), (4,)),
        (range(2, 4), (2, 3)),
    ],
    ids=repr,
)
def test_hidden_widths(value, widths):
    found = validate_hidden_layer_sizes(value)
    assert found == widths
    assert all(type(width) is int for width in found)


@pytest.mark.parametrize("value", [0, -1, (5, 0), (-5,), 2.0, (5, 2.5), "ab", None, ([3],)])
def test_invalid_hidden_widths_are_an_error(value):
    with pytest.raises(ValueError, match="hidden_layer_sizes must be > 0") as error:
        validate_hidden_layer_sizes(value)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("table", [OPTIMIZERS, SCHEDULES, AVERAGES], ids=["solver", "rate", "mean"])
def test_every_name_is_built_from_the_parameters_of_its_fields(table):
    """Fields that are no parameters of the constructor keep their defaults."""
    changed = settings(beta_1=0.5, beta_2=0.6, epsilon=0.1, momentum=0.7, tol=0.2, power_t=0.3)
    for name, kind in table.items():
        built = instantiate(table, name, changed)
        assert type(built) is kind
        values = {field.name: changed.get(field.name, field.default) for field in fields(kind)}
        assert vars(built) == values


def test_scikit_learns_schedules_by_name_need_sgd_and_others_do_not():
    for_sgd = settings(solver="sgd", learning_rate="invscaling", power_t=0.3)
    assert make_schedule(for_sgd) == InverseScaling(0.3)
    for solver in ("adam", SGD()):
        for name in ("constant", "invscaling", "adaptive"):
            assert make_schedule(settings(solver=solver, learning_rate=name)) == ConstantRate()
    for solver in ("sgd", "adam", SGD()):
        for name in SCHEDULES.keys() - {"constant", "invscaling", "adaptive"}:
            schedule = make_schedule(settings(solver=solver, learning_rate=name))
            assert type(schedule) is SCHEDULES[name]
        assert make_schedule(settings(solver=solver, learning_rate="plateau", tol=0.2)).tol == 0.2
        instance = Adaptive(tol=0.1)
        assert make_schedule(settings(solver=solver, learning_rate=instance)) is instance
        schedule = make_schedule(settings(solver=solver, learning_rate=math.exp))
        assert schedule == LambdaSchedule(math.exp)


def test_networks():
    network = config(hidden_layer_sizes=(6, 5), activation="tanh").network((4,), 3)
    assert network.layers == dense_network((4, 6, 5, 3), (Tanh(), Tanh())).layers
    assert config(hidden_layer_sizes=()).network((4,), 3).layers == dense_network((4, 3), ()).layers
    each = config(hidden_layer_sizes=(6, 5), activation=["relu", LeakyRelu(0.3)])
    assert activations_of(each.network((4,), 3)) == [Relu(), LeakyRelu(0.3)]


@pytest.mark.parametrize("kind", [BackpropAutoencoder, BackpropClassifier, BackpropRegressor])
def test_every_parameter_has_constraints(kind):
    assert kind._parameter_constraints.keys() == kind().get_params().keys()


def test_a_config_is_frozen_and_fills_in_defaults():
    made = config(clip_norm=None, average=None)
    assert (made.batch_size, made.clip_norm, made.average) == (200, math.inf, None)
    assert (made.tol, made.n_iter_no_change, made.early_stopping) == (1e-4, 10.0, None)
    assert config(solver="lbfgs").n_iter_no_change == 100.0
    assert config(early_stopping=True).early_stopping == EarlyStopping()
    stopping = EarlyStopping("loss", 50, n_iter_no_change=3, tol=0.0)
    made = config(early_stopping=stopping, n_iter_no_change=7)
    assert made.early_stopping is stopping
    assert (made.tol, made.n_iter_no_change) == (0.0, 3.0)
    with pytest.raises(FrozenInstanceError):
        made.tol = 0.0


# ------------------------------------------------------------------------------- one stack


@pytest.mark.parametrize("name", KINDS)
def test_the_stacking_key_holds_the_parameters_that_must_not_differ(name):
    models = two_that_differ_in(name)
    assert not is_equal(*(getattr(model, name) for model in models))
    keys = [
        model._validate_config(model._get_init_params(), Fresh(None)).stacking_key
        for model in models
    ]
    assert is_equal(*keys) == (name in MAY_DIFFER)


@pytest.mark.parametrize(
    "one, other, together",
    [
        ({"solver": Adam()}, {"solver": "adam"}, True),
        ({"solver": AdamW()}, {"solver": "adam"}, False),
        ({"activation": Relu()}, {"activation": "relu"}, True),
        ({"hidden_layer_sizes": 5}, {"hidden_layer_sizes": [5]}, True),
        ({"batch_size": 200}, {"batch_size": "auto"}, True),
        ({"average": "polyak"}, {"average": PolyakAverage(np.float32(50))}, True),
        ({"average": "polyak"}, {"average": "ema"}, False),
        ({"average": None}, {"average": "ema"}, False),
        ({"alpha": 1}, {"alpha": np.float32(0.9)}, True),
        ({"l1_ratio": 0.5}, {"l1_ratio": 0}, False),
        ({"learning_rate": "cosine"}, {"learning_rate": "adaptive"}, False),
        ({"learning_rate": CosineDecay()}, {"learning_rate": CosineDecay(0.1)}, True),
        ({"dropout": 0.1}, {"dropout": [0.0, 0.1]}, True),
    ],
    ids=str,
)
def test_stacking_keys_compare_meaning_not_spelling(one, other, together):
    assert is_equal(config(**one).stacking_key, config(**other).stacking_key) == together


# ------------------------------------------------------------------------ initial weights

NO_STEPS = {"learning_rate_init": 1e-300, "alpha": 0.0, "max_iter": 1, "n_iter_no_change": math.inf}


def initial_weights(hidden=(3,), **changes):
    """Return weights and biases of a fit that makes no steps, layer by layer."""
    model = BackpropRegressor(hidden, random_state=5, **NO_STEPS, **changes)
    model.fit(*data_for(BackpropRegressor))
    return list(zip(model.coefs_, model.intercepts_, strict=True))


def assert_layers_equal(layers, expected):
    for pair, expected_pair in zip(layers, expected, strict=True):
        for array, reference in zip(pair, expected_pair, strict=True):
            np.testing.assert_allclose(array, reference, rtol=0, atol=1e-200)


@pytest.mark.parametrize(
    "init, activation",
    [
        *(("auto", name) for name in ACTIVATIONS),
        *((init, "relu") for init in [*INITIALIZERS, VarianceScaling(scale=3.0)]),
    ],
    ids=str,
)
def test_initial_weights_are_drawn_by_name_or_instance(init, activation):
    initializer = (
        ACTIVATIONS[activation].initializer if init == "auto" else INITIALIZERS.get(init, init)
    )
    rng = np.random.RandomState(5)
    expected = [initializer.draw(rng, *shape) for shape in ((4, 3), (3, 1))]
    assert_layers_equal(initial_weights(init=init, activation=activation), expected)


@pytest.mark.parametrize("activation, factor", [("relu", 6.0), ("logistic", 2.0), ([], 6.0)])
def test_without_hidden_layers_weights_are_those_of_scikit_learn(activation, factor):
    expected = [GlorotUniform(factor).draw(np.random.RandomState(5), 4, 1)]
    assert_layers_equal(initial_weights((), activation=activation), expected)


def test_given_weights_are_used():
    init = some_parameters(4, 3, 1)
    assert_layers_equal(initial_weights(init=init), zip(*init, strict=True))


COEFS, INTERCEPTS = some_parameters(4, 5, 1)
WRONG = [
    ((COEFS[:-1], INTERCEPTS), "must have a list of 2 arrays of weights .* got 1 and 2"),
    ((COEFS, INTERCEPTS[:-1]), "must have .* got 2 and 1"),
    (
        ([w.T for w in COEFS], INTERCEPTS),
        r"weights of layer 0 .* of shape \(4, 5\), got .*\(5, 4\)",
    ),
    ((COEFS, [b[:, None] for b in INTERCEPTS]), r"biases of layer 0 .*\(5,\), got .* \(5, 1\)"),
    (([np.nan * w for w in COEFS], INTERCEPTS), "must contain only finite .* got NaN or infinity"),
    ((COEFS, [np.nan * b for b in INTERCEPTS]), "must contain only finite .* got NaN or infinity"),
    (([w + 1j for w in COEFS], INTERCEPTS), "must be an array of real numbers .* complex128"),
    ((None, INTERCEPTS), "must have a list .* got NoneType and 2"),
    ((), r"a pair \(coefs, intercepts\)"),
    (([],), "got a tuple of length 1"),
]


@pytest.mark.parametrize("init, says", WRONG, ids=range(len(WRONG)))
def test_unsuitable_initial_weights_are_an_error(init, says):
    with pytest.raises(ValueError, match=f"init.* {says}"):
        quick(BackpropRegressor, init=init).fit(*data_for(BackpropRegressor))
