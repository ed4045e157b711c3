"""Do an estimator's parameters become the objects of the core, or an error that helps?"""

import inspect
import math
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor, EarlyStopping
from skbackprop.activations import ACTIVATIONS, LeakyRelu, Relu, Tanh, get_activation
from skbackprop.estimators._parameter_table import PARAMETERS, get_parameters
from skbackprop.initializers import INITIALIZERS, GlorotUniform, VarianceScaling
from skbackprop.losses import CLASSIFIER_LOSSES
from skbackprop.nn.network import dense_network
from skbackprop.nn.objective import L1L2, L2
from skbackprop.nn.stack_trainer import PlateauStopper
from skbackprop.optimizers import OPTIMIZERS, SGD, Adam, AdamW
from skbackprop.schedules import (
    SCHEDULES,
    Adaptive,
    ConstantRate,
    CosineDecay,
    InverseScaling,
    LambdaSchedule,
)
from skbackprop.training.architecture import (
    MLPSpec,
    validate_activations,
    validate_hidden_layer_sizes,
)
from skbackprop.training.config import (
    build_schedule,
    instantiate,
    make_training_config,
)
from skbackprop.training.weight_init import make_weight_init
from skbackprop.utils.equality import is_equal
from skbackprop.weight_averaging import AVERAGES, PolyakAverage
from support import some_parameters
from support.cases import MAY_DIFFER, two_that_differ_in
from support.stacks import activations_of

NETWORK = dense_network((4, 3, 2), (Tanh(),))


def settings(**changes):
    """Return a classifier's parameters, some of them changed."""
    return BackpropClassifier().get_params(deep=False) | changes


def config(**changes):
    return make_training_config(settings(**changes), CLASSIFIER_LOSSES, MLPSpec)


def network_of(parameters, n_inputs, n_outputs):
    return MLPSpec.from_params(parameters).network((n_inputs,), n_outputs)


def initial_layers(parameters, network, rng):
    return make_weight_init(parameters).layers(network, rng, 0)


# ------------------------------------------------------------------------- hidden widths


@pytest.mark.parametrize(
    "given, widths",
    [
        (7, (7,)),
        ((), ()),
        ((5, 3), (5, 3)),
        ([5], (5,)),
        (np.array([5, 3]), (5, 3)),
        (np.int64(4), (4,)),
        (range(2, 4), (2, 3)),
    ],
    ids=repr,
)
def test_hidden_widths(given, widths):
    got = validate_hidden_layer_sizes(given)
    assert got == widths
    assert all(type(width) is int for width in got)


@pytest.mark.parametrize("given", [0, -1, (5, 0), (-5,), 2.0, (5, 2.5), "ab", None, ([3],)])
def test_raises_on_invalid_hidden_widths(given):
    with pytest.raises(ValueError, match="hidden_layer_sizes must be > 0") as error:
        validate_hidden_layer_sizes(given)
    assert repr(given) in str(error.value)


# ----------------------------------------------------------------------- names to objects


@pytest.mark.parametrize(
    "table", [OPTIMIZERS, SCHEDULES, AVERAGES], ids=["OPTIMIZERS", "SCHEDULES", "AVERAGES"]
)
def test_every_name_is_built_from_the_parameters_of_its_fields(table):
    """Fields that are no parameters of the constructor keep their defaults."""
    changed = settings(beta_1=0.5, beta_2=0.6, epsilon=0.1, momentum=0.7, tol=0.2, power_t=0.3)
    for name, kind in table.items():
        values = {field.name: changed.get(field.name, field.default) for field in fields(kind)}
        built = instantiate(table, name, changed)
        assert type(built) is kind
        assert vars(built) == values


def test_scikit_learn_schedules_by_name_need_sgd():
    for_sgd = settings(solver="sgd", learning_rate="invscaling", power_t=0.3)
    assert build_schedule(for_sgd) == InverseScaling(0.3)
    for solver in ("adam", SGD()):
        for name in ("constant", "invscaling", "adaptive"):
            assert build_schedule(settings(solver=solver, learning_rate=name)) == ConstantRate()


@pytest.mark.parametrize("solver", ["sgd", "adam", SGD()], ids=str)
def test_other_schedules_work_with_every_solver(solver):
    for name in SCHEDULES.keys() - {"constant", "invscaling", "adaptive"}:
        schedule = build_schedule(settings(solver=solver, learning_rate=name))
        assert type(schedule) is SCHEDULES[name]
    assert build_schedule(settings(solver=solver, learning_rate="plateau", tol=0.2)).tol == 0.2
    instance = Adaptive(tol=0.1)
    assert build_schedule(settings(solver=solver, learning_rate=instance)) is instance
    schedule = build_schedule(settings(solver=solver, learning_rate=math.exp))
    assert schedule == LambdaSchedule(math.exp)


def test_without_a_share_of_l1_the_penalty_is_l2():
    assert config(alpha=1).penalty == L2(1.0)
    assert config(alpha=2, l1_ratio=1).penalty == L1L2(2.0, 1.0)


def test_networks():
    network = network_of(settings(hidden_layer_sizes=(6, 5), activation="tanh"), 4, 3)
    assert network == dense_network((4, 6, 5, 3), (Tanh(), Tanh()))
    assert network_of(settings(hidden_layer_sizes=()), 4, 3) == dense_network((4, 3), ())
    layered = network_of(
        settings(hidden_layer_sizes=(6, 5), activation=["relu", LeakyRelu(0.3)]), 4, 3
    )
    assert activations_of(layered) == [Relu(), LeakyRelu(0.3)]
    own = Tanh()
    assert get_activation(own) is own
    assert get_activation("relu") is ACTIVATIONS["relu"]


@pytest.mark.parametrize("wrong", ["softmax", None, 1.0, ["relu"], Tanh], ids=str)
def test_raises_on_an_invalid_activation_of_a_layer(wrong):
    given = settings(hidden_layer_sizes=(6, 5), activation=["relu", wrong])
    with pytest.raises(ValueError, match="activation must be one of") as error:
        validate_activations(given)
    assert all(repr(name) in str(error.value) for name in [*ACTIVATIONS, wrong])


@pytest.mark.parametrize("hidden, activation", [((6, 5), ["relu"]), ((), ["relu"]), (6, [])])
def test_raises_on_a_wrong_number_of_activations(hidden, activation):
    given = settings(hidden_layer_sizes=hidden, activation=activation)
    with pytest.raises(ValueError, match=f"activation must have .* got {len(activation)}") as error:
        network_of(given, 4, 3)
    assert f"each of the {len(validate_hidden_layer_sizes(hidden))} hidden layer(s)" in str(
        error.value
    )


@pytest.mark.parametrize(
    "estimator_class", [BackpropAutoencoder, BackpropClassifier, BackpropRegressor]
)
def test_every_parameter_has_a_row_in_the_order_of_the_constructor(estimator_class):
    rows = get_parameters(estimator_class.__name__.removeprefix("Backprop").lower())
    signature = inspect.signature(estimator_class).parameters
    assert list(rows) == list(signature)
    for name, row in rows.items():
        assert row.default == signature[name].default, name
    assert set(estimator_class._parameter_constraints) == set(rows)


# ------------------------------------------------------------------------------- one stack


@pytest.mark.parametrize("row", PARAMETERS, ids=lambda row: f"{row.name} of {row.estimators[0]}")
def test_stacking_key_holds_the_parameters_that_may_not_differ(row):
    models = two_that_differ_in(row)
    assert not is_equal(*(getattr(model, row.name) for model in models))
    shapes = [model._make_config(model.get_params(deep=False)).stacking_key for model in models]
    assert is_equal(*shapes) == (row.name in MAY_DIFFER)


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


def test_config_is_frozen_and_fills_in_defaults():
    made = config(clip_norm=None, average=None)
    assert (made.batch_size, made.clip_norm, made.average) == (200, math.inf, None)
    assert made.patience == PlateauStopper(1e-4, 10.0)
    assert config(solver="lbfgs").patience == PlateauStopper(1e-4, 100.0)
    assert (made.stopping, config(early_stopping=True).stopping) == (None, EarlyStopping())
    stopping = EarlyStopping("loss", 50, n_iter_no_change=3, tol=0.0)
    assert config(early_stopping=stopping).stopping is stopping
    assert config(early_stopping=stopping, n_iter_no_change=7).patience == PlateauStopper(0.0, 3.0)
    with pytest.raises(FrozenInstanceError):
        made.tol = 0.0


# ------------------------------------------------------------------------ initial weights


def assert_layers_equal(layers, expected):
    for pair, expected_pair in zip(layers, expected, strict=True):
        for array, reference in zip(pair, expected_pair, strict=True):
            np.testing.assert_array_equal(array, reference)


@pytest.mark.parametrize("init", ["auto", *INITIALIZERS, VarianceScaling(scale=3.0)], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_initial_weights_are_drawn_by_name_or_instance(activation, init):
    network = dense_network((4, 3, 2), (ACTIVATIONS[activation],))
    drawn = initial_layers(
        settings(init=init, activation=activation), network, np.random.RandomState(5)
    )
    initializer = (
        ACTIVATIONS[activation].initializer if init == "auto" else INITIALIZERS.get(init, init)
    )
    assert_layers_equal(drawn, network.draw_weights(np.random.RandomState(5), initializer))


@pytest.mark.parametrize(
    "activation, factor", [("relu", 6.0), ("logistic", 2.0), ([], 6.0)], ids=str
)
def test_without_hidden_layers_weights_are_those_of_scikit_learn(activation, factor):
    given = settings(hidden_layer_sizes=(), activation=activation)
    drawn = initial_layers(given, dense_network((4, 2), ()), np.random.RandomState(5))
    assert_layers_equal(drawn, [GlorotUniform(factor).draw(np.random.RandomState(5), 4, 2)])


def test_given_weights_are_used_and_draw_nothing():
    coefs, intercepts = some_parameters(4, 3, 2)
    rng = np.random.RandomState(5)
    layers = initial_layers(settings(init=(coefs, intercepts)), NETWORK, rng)
    assert_layers_equal(layers, zip(coefs, intercepts, strict=True))
    assert rng.rand() == np.random.RandomState(5).rand()


@pytest.mark.parametrize(
    "change_coefs, change_intercepts, message",
    [
        (
            lambda all_: all_[:-1],
            list,
            "init must have 2 arrays of weights and 2 of .* got 1 and 2",
        ),
        (list, lambda all_: all_[:-1], "init must have .* got 2 and 1"),
        (
            lambda all_: [each.T for each in all_],
            list,
            r"shape \(4, 3\) .* \(3,\) for layer 0, got \(3, 4\) and \(3,\)",
        ),
        (
            list,
            lambda all_: [each[:, None] for each in all_],
            r"for layer 0, got \(4, 3\) and \(3, 1\)",
        ),
        (lambda all_: [each * np.nan for each in all_], list, "init must .* got NaN or infinity"),
        (list, lambda all_: [each * np.nan for each in all_], "init must .* got NaN or infinity"),
        (
            lambda all_: [each + 1j for each in all_],
            list,
            "init must contain real numbers, got arrays of complex128 .* layer 0",
        ),
        (lambda all_: None, list, "^init must be a list|init must be"),
    ],
)
def test_raises_on_unsuitable_initial_weights(change_coefs, change_intercepts, message):
    coefs, intercepts = some_parameters(4, 3, 2)
    init = change_coefs(coefs), change_intercepts(intercepts)
    with pytest.raises(ValueError, match=message):
        initial_layers(settings(init=init), NETWORK, np.random.RandomState(0))


@pytest.mark.parametrize("init", [(), ([],), ([], [], [])], ids=repr)
def test_raises_unless_initial_weights_are_a_pair(init):
    with pytest.raises(ValueError, match=r"init must be .* a pair \(coefs, intercepts\)"):
        initial_layers(settings(init=init), NETWORK, np.random.RandomState(0))
