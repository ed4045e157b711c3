"""Settings of an estimator's parts are read, set and searched by name, as in scikit-learn."""

from dataclasses import dataclass

import pytest
from sklearn.base import clone

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.activations import LeakyRelu
from skbackprop.initializers import VarianceScaling
from skbackprop.layers import BatchNormalization, Dense, Dropout, Layer, PeriodicEmbedding
from skbackprop.layers.base import expand_layers
from skbackprop.losses import Focal, Huber
from skbackprop.optimizers import AdamW
from skbackprop.schedules import LinearWarmup
from skbackprop.weight_averaging import ExponentialMovingAverage
from support import BOTH, few_epochs, quick

pytestmark = few_epochs

INSTANCES = {
    "activation": LeakyRelu(0.2),
    "solver": AdamW(weight_decay=0.1),
    "learning_rate": LinearWarmup("cosine"),
    "layers": PeriodicEmbedding(4),
    "normalization": BatchNormalization(),
    "average": ExponentialMovingAverage(0.9),
    "init": VarianceScaling(2.0),
}
LOSSES = {BackpropClassifier: Focal(), BackpropRegressor: Huber()}
CHANGES = {
    "activation__negative_slope": 0.3,
    "solver__weight_decay": 0.5,
    "learning_rate__warmup_fraction": 0.5,
    "learning_rate__schedule__final_factor": 0.3,
    "layers__n_frequencies": 3,
    "normalization__momentum": 0.5,
    "average__decay": 0.5,
    "init__scale": 1.5,
}


def full(estimator_class, **changes):
    """Return an estimator all of whose parts are instances."""
    return quick(estimator_class, loss=LOSSES[estimator_class], **INSTANCES | changes)


def changes_of(estimator_class):
    setting = "gamma" if estimator_class is BackpropClassifier else "delta"
    return CHANGES | {f"loss__{setting}": 0.5}


# ---------------------------------------------------------------------------------- reading


@BOTH
def test_settings_of_instances_are_parameters(estimator_class):
    model = full(estimator_class)
    params = model.get_params()
    assert changes_of(estimator_class).keys() <= params.keys()
    assert params["learning_rate__schedule__final_factor"] == 0.0
    assert not any("multiclass" in name for name in params)
    for name, part in INSTANCES.items():
        of_part = {f"{name}__{key}": value for key, value in part.get_params().items()}
        assert of_part.items() <= params.items()
    assert not any("__" in name for name in model.get_params(deep=False))
    assert not any("__" in name for name in quick(estimator_class).get_params())


# ---------------------------------------------------------------------------------- setting


@BOTH
def test_each_setting_is_set_in_a_part_of_its_own(estimator_class):
    for name, value in changes_of(estimator_class).items():
        model = full(estimator_class)
        before, parameter = model.get_params(), name.partition("__")[0]
        assert model.set_params(**{name: value}) is model
        after = model.get_params()
        assert after[name] == value
        changed = {key for key in before if after[key] != before[key]}
        assert {parameter, name} <= changed
        assert all(name.startswith(key) for key in changed)  # the parts that it is within
        assert after[parameter] is not before[parameter]


@BOTH
def test_nothing_is_set_if_one_name_or_value_is_wrong(estimator_class):
    wrong = {
        "no_such": "Invalid parameter 'no_such' for estimator Backprop",
        "no_such__either": "Invalid parameter 'no_such' for estimator Backprop",
        "solver__no_such": r"Invalid parameter 'no_such' for AdamW\(.*'weight_decay'\]",
        "solver__weight_decay": "weight_decay of AdamW must be a number in the range",
        "learning_rate__schedule__no_such": r"Invalid parameter 'no_such' for CosineDecay",
        "learning_rate__warmup_fraction__x": "warmup_fraction=0.05 of LinearWarmup has no",
        "alpha__x": "alpha=0.5 has no settings of its own, so alpha__x does not exist.",
        "hidden_layer_sizes__x": r"hidden_layer_sizes=\(5,\) has no settings of its own",
    }
    for name, says in wrong.items():
        model = full(estimator_class, hidden_layer_sizes=(5,))
        before = model.get_params(deep=False)
        for value in ({name: -1.0, "alpha": 0.5}, {"average__decay": 0.3, "alpha": 0.5, name: -1}):
            with pytest.raises(ValueError, match=says):
                model.set_params(**value)
            after = model.get_params(deep=False)
            assert all(after[key] is value for key, value in before.items())


# --------------------------------------------------------------------------------- lists


@dataclass(frozen=True)
class Several(Layer):
    """A layer that stands for other layers, one after the other."""

    layers: tuple = ()

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))

    def expand(self, input_shape):
        return tuple(expand_layers(self.layers, input_shape)[0])


def nested_layers():
    return [
        Dense(4, activation="relu"),
        Several([Dropout(0.25), Dense(3, initializer=VarianceScaling(1.0))]),
    ]


@pytest.mark.parametrize("kind", [list, tuple])
def test_layers_of_a_list_are_read_and_set_by_their_place(kind):
    layers = kind(nested_layers())
    model = quick(BackpropClassifier, layers=layers)
    params = model.get_params()
    assert params["layers"] is layers
    assert params["layers__1"] is layers[1]
    assert params["layers__0__n_units"] == 4
    assert params["layers__1__layers__0__rate"] == 0.25
    assert params["layers__1__layers__1__initializer__scale"] == 1.0
    changes = {
        "layers__0__n_units": 5,
        "layers__1__layers__0": Dropout(0.5),
        "layers__1__layers__1__n_units": 2,
        "layers__1__layers__1__initializer__scale": 0.5,
    }
    assert model.set_params(**changes) is model
    last = Dense(2, initializer=VarianceScaling(0.5))
    assert model.layers == kind([Dense(5, activation="relu"), Several((Dropout(0.5), last))])
    assert type(model.layers) is kind
    assert type(model.layers[1].layers) is tuple
    assert layers == kind(nested_layers())  # the user's own are as they were
    assert model.set_params(**params).get_params() == params
    assert clone(model).get_params() == params
    assert model.set_params(layers__0=Dense(7), layers__0__use_bias=False).layers[0] == Dense(
        7, use_bias=False
    )


def test_errors_about_lists_say_what_there_is():
    layers = [Dense(4), "scale", Several([Dropout(0.25)])]
    wrong = {
        "layers__7__x": "layers__7 does not exist, since layers has only the items .*__2.$",
        "layers__3": "layers__3 does not exist, since layers has only the items layers",
        "layers__n_units": "layers__n_units does not exist, since layers has only",
        "layers__-1__rate": "layers__-1 does not exist, since layers has only",
        "layers__0__nope": r"Invalid parameter 'nope' for Dense\(n_units=4.*'n_units'",
        "layers__0__n_unit": r"Did you mean 'n_units'\?",
        "layers__1__x": "layers__1='scale' has no settings of its own, so layers__1__x does",
        "layers__2__layers__1__x": r"layers__1 does not exist, .* Several has only .* layers__0.$",
        "layers__2__layers__0__rate__x": "rate=0.25 of Dropout has no settings of its own",
        "layers__0__n_units": "n_units",
    }
    for name, says in wrong.items():
        model = quick(BackpropClassifier, layers=layers)
        with pytest.raises(ValueError, match=says):
            model.set_params(alpha=0.5, **{name: -1})
        assert model.layers is layers
        assert model.alpha != 0.5
    assert layers == [Dense(4), "scale", Several([Dropout(0.25)])]
