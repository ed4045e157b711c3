"""Is a setting that has no effect named, and none that has one?

That it has none is not taken on trust: at its default the fit has the same bits.
"""

import warnings
from collections import Counter
from functools import partial

import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skbackprop import (
    BackpropClassifier,
    BackpropGridSearchCV,
    EarlyStopping,
    find_learning_rate,
)
from skbackprop.optimizers import LBFGS, SGD, Adagrad, Adam
from skbackprop.schedules import CosineDecay, InverseScaling, LinearWarmup
from skbackprop.training.config import RULES
from skbackprop.weight_averaging import PolyakAverage
from support import (
    BOTH,
    PAIRS,
    assert_same_search,
    class_data,
    classes_for,
    data_for,
    few_epochs,
    quick,
    same_bits,
)

pytestmark = few_epochs


def falling(progress):
    return 1 - progress


# Of each: the setting without effect, the others beside it, and what the warning says.
IDLE = [
    ("average", "polyak", {"solver": "lbfgs"}, "no stochastic steps. Set average=None, or choose"),
    ("average", PolyakAverage(30), {"solver": LBFGS()}, r"solver=LBFGS\(.* Set average=None"),
    ("clip_norm", 0.1, {"solver": "lbfgs"}, "no stochastic steps. Set clip_norm=None"),
    ("learning_rate", "cosine", {"solver": "lbfgs"}, "Set learning_rate='constant', or choose"),
    ("beta_1", 0.5, {"solver": Adam()}, r"Set it there, solver=Adam\(beta_1=0.5\), and leave"),
    ("beta_2", 0.5, {"solver": Adam()}, r"Set it there, solver=Adam\(beta_2=0.5\), and leave"),
    ("epsilon", 0.5, {"solver": Adagrad()}, r"Set it there, solver=Adagrad\(epsilon=0.5\)"),
    ("momentum", 0.5, {"solver": SGD()}, r"Set it there, solver=SGD\(momentum=0.5\)"),
    (
        *("nesterovs_momentum", False, {"solver": SGD()}),
        r"solver=SGD\(nesterovs_momentum=False\), and leave nesterovs_momentum at .*, True",
    ),
    ("max_fun", 3, {"solver": LBFGS()}, r"Set it there, solver=LBFGS\(max_fun=3\)"),
    ("momentum", 0.5, {"solver": Adam()}, "no such setting. Leave it at its default, 0.9"),
    ("momentum", 0.5, {"solver": "adamw"}, "no such setting. Leave it at its default, 0.9"),
    ("learning_rate", "invscaling", {"solver": SGD()}, r"Set learning_rate=InverseScaling\(\)"),
    ("learning_rate", "adaptive", {"solver": "adamw"}, r"Set learning_rate=Adaptive\(\)"),
    (
        *("power_t", 0.1, {"solver": "sgd", "learning_rate": InverseScaling()}),
        r"Set it there, learning_rate=InverseScaling\(power_t=0.1\), and leave power_t at",
    ),
    (
        "power_t",
        0.1,
        {"learning_rate": LinearWarmup("cosine")},
        "learning_rate=LinearWarmup.* no such setting",
    ),
    ("power_t", 0.1, {"learning_rate": falling}, "learning_rate=<function.* no such setting"),
    ("power_t", 0.1, {"learning_rate": "cosine"}, "learning_rate='cosine', which has no such"),
]
IDLE += [
    (name, value, {"early_stopping": EarlyStopping()}, rf"EarlyStopping\({name}={value}\), and")
    for name, value in [("validation_fraction", 0.3), ("n_iter_no_change", 3)]
]
every_idle = pytest.mark.parametrize(
    "name, value, others, says", IDLE, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(IDLE)]
)

# Settings that have an effect, or are scikit-learn's and idle with a solver of its own by name.
AT_WORK = [
    {"average": "polyak"},
    {"clip_norm": 0.1, "solver": SGD()},
    {"learning_rate": "cosine", "solver": Adam()},
    {"learning_rate": falling, "solver": "sgd"},
    {"beta_1": 0.5, "beta_2": 0.5, "epsilon": 0.1, "solver": "adamw"},
    {"epsilon": 0.1, "solver": "rmsprop"},
    {"momentum": 0.5, "nesterovs_momentum": False, "solver": "sgd"},
    {"max_fun": 3, "solver": "lbfgs"},
    {"solver": LBFGS(max_fun=3)},
    {"solver": Adam(0.5), "beta_1": 0.9, "momentum": 0.9},
    {"learning_rate": InverseScaling(0.1), "power_t": 0.5},
    {"power_t": 0.1, "learning_rate": "invscaling", "solver": "sgd"},
]
# All of these are flat parameters of scikit-learn's, each changed from its default.
THEIRS = {
    "learning_rate": "adaptive",
    "power_t": 0.1,
    "momentum": 0.5,
    "nesterovs_momentum": False,
    "beta_1": 0.5,
    "beta_2": 0.5,
    "epsilon": 0.1,
    "max_fun": 100,
}


def warnings_of(action):
    """Return the messages of the UserWarnings of settings without effect, of all fits."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(each.message) for each in caught if "has no effect" in str(each.message)]


@BOTH
@every_idle
def test_warns_of_parameters_without_effect(name, value, others, says, estimator_class):
    data = data_for(estimator_class)
    model = quick(estimator_class, **others | {name: value})
    with pytest.warns(UserWarning, match=f"^{name}=.* has no effect with .*{says}") as caught:
        model.fit(*data)
    (said,) = [str(each.message) for each in caught if "has no effect" in str(each.message)]
    assert said.startswith(f"{name}={value!r} has no effect with ")
    parts = {"power_t": "learning_rate"} | dict.fromkeys(
        ["validation_fraction", "n_iter_no_change"], "early_stopping"
    )
    part = parts.get(name, "solver")
    assert f"with {part}={getattr(model, part)!r}" in said
    assert same_bits(model, quick(estimator_class, **others).fit(*data))


@BOTH
@pytest.mark.parametrize("settings", AT_WORK, ids=" ".join)
def test_parameters_with_an_effect_raise_no_warning(settings, estimator_class):
    data = data_for(estimator_class)
    assert not warnings_of(partial(quick(estimator_class, **settings).fit, *data))
    assert not warnings_of(partial(quick(estimator_class).fit, *data))


@pytest.mark.long
@PAIRS
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_parameters_that_scikit_learn_ignores_raise_no_warning(solver, ours, theirs):
    assert THEIRS.keys() <= theirs().get_params().keys()
    for settings in [THEIRS, *({name: value} for name, value in THEIRS.items())]:
        for estimator_class in (ours, theirs):
            model = quick(estimator_class, solver=solver, **settings)
            assert not warnings_of(partial(model.fit, *data_for(estimator_class)))


def test_every_rule_is_tested():
    tested = {name for name, *_ in IDLE} | {"beta"}  # in test_variational.py
    assert {name for names, _ in RULES for name in names} == tested
    assert THEIRS.keys() <= MLPClassifier().get_params().keys() & MLPRegressor().get_params().keys()


def test_each_unused_parameter_is_named_once():
    settings = {
        "average": "polyak",
        "clip_norm": 1.0,
        "learning_rate": CosineDecay(),
        "power_t": 0.1,
    }
    model = quick(BackpropClassifier, solver=LBFGS(), max_fun=3, beta_1=0.5, **settings)
    said = warnings_of(partial(model.fit, *class_data()))
    assert Counter(message.partition("=")[0] for message in said) == Counter(
        [*settings, "max_fun", "beta_1"]
    )


def test_invalid_values_are_reported_first():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="'beta_1' parameter"):
            quick(BackpropClassifier, solver=Adam(), beta_1=2.0).fit(*class_data())


@BOTH
def test_several_trainings_of_one_fit_warn_once(estimator_class):
    X, y = data_for(estimator_class, 200)
    model = quick(estimator_class, solver=Adam(), beta_1=0.5, n_estimators=3, batch_size=10)
    assert len(warnings_of(partial(model.fit, X, y))) == 1
    model.set_params(n_estimators=1)
    assert len(warnings_of(partial(find_learning_rate, model, X, y))) == 1


@BOTH
def test_partial_fit_warns_once(estimator_class):
    (X, y), classes = data_for(estimator_class), classes_for(estimator_class)
    model = quick(estimator_class, solver=Adam(), beta_1=0.5)
    assert len(warnings_of(lambda: model.partial_fit(X, y, **classes))) == 1
    assert not warnings_of(lambda: [model.partial_fit(X, y) for _ in range(3)])
    model.set_params(momentum=0.3)
    assert len(warnings_of(lambda: model.partial_fit(X, y))) == 2  # of what is idle now


@pytest.mark.long
@pytest.mark.usefixtures("one_blas_thread")
@pytest.mark.parametrize("refit", [False, True])
def test_a_search_warns_as_often_as_scikit_learn_s(refit):
    X, y = class_data()
    grid = {"solver": ["adam", Adam(), SGD(0.5), "lbfgs"], "beta_1": [0.9, 0.5]}
    grid |= {"average": [None, "polyak"]}
    searches = [
        kind(quick(BackpropClassifier), grid, cv=2, refit=refit)
        for kind in (BackpropGridSearchCV, GridSearchCV)
    ]
    ours, theirs = (Counter(warnings_of(partial(one.fit, X, y))) for one in searches)
    assert ours == theirs
    # On two splits each: beta_1 beside either instance, with and without an average, and the
    # average with lbfgs, at two betas. The best one may say it again.
    n_idle = 2 * 2 * 3
    assert n_idle <= sum(ours.values()) <= n_idle + refit
    if refit:
        assert_same_search(*searches)


@BOTH
def test_members_do_not_repeat_the_warning(estimator_class):
    model = quick(estimator_class, solver=Adam(), beta_1=0.5, n_estimators=3)
    assert len(warnings_of(partial(model.fit, *data_for(estimator_class)))) == 1


def test_a_search_over_settings_of_an_instance_raises_no_warning():
    grid = {"solver__beta_1": [0.5, 0.9]}
    for kind in (BackpropGridSearchCV, GridSearchCV):
        search = kind(quick(BackpropClassifier, solver=Adam()), grid, cv=2)
        assert not warnings_of(partial(search.fit, *class_data()))
