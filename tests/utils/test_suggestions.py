"""Suggestions in error messages about unknown names."""

import re
from itertools import chain

import numpy as np
import pytest
from sklearn.metrics import get_scorer_names
from sklearn.pipeline import make_pipeline

from skbackprop import (
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRandomizedSearchCV,
    BackpropRegressor,
    ConformalClassifier,
    ConformalRegressor,
    EarlyStopping,
    TabularRegressor,
)
from skbackprop._sklearn import StrOptions
from skbackprop.activations import ACTIVATIONS
from skbackprop.estimators._estimator_mixin import EstimatorMixin
from skbackprop.losses import Quantile
from skbackprop.optimizers import SOLVERS, AdamW
from skbackprop.schedules import SCHEDULES
from skbackprop.tabular import TableEncoder
from skbackprop.utils.configurable import Configurable
from skbackprop.utils.validation import _read_synonyms, did_you_mean
from support import class_data, few_epochs, quick

pytestmark = few_epochs

X, Y = class_data()


def message_of(call):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    return str(caught.value)


def suggested_by(text):
    """Return what an error suggests."""
    return re.search(r"\. Did you mean (.+)\?$", text)[1]


@pytest.mark.parametrize("table", [ACTIVATIONS, SOLVERS, SCHEDULES])
def test_nearest_name_of_a_table(table):
    for name in table:
        for typed in (name.upper(), name + "s", name.replace("_", "-")):
            assert did_you_mean(typed, table) == f" Did you mean {name!r}?"


@pytest.mark.parametrize("given", ["zzzz", "", 3, None, np.array(["relu"]), ["rleu"]])
def test_no_suggestion_for_distant_names(given):
    assert did_you_mean(given, ACTIVATIONS) == ""
    assert did_you_mean("relu", []) == ""


def subclasses(kind):
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def test_synonyms_are_of_names_that_exist():
    kinds = [each for each in subclasses(EstimatorMixin) if each.__module__[:10] == "skbackprop"]
    names = {"set_callbacks", "X_val", "sample_weight", "loss", "one_hot", *get_scorer_names()}
    names |= {name for kind in kinds for name in kind._get_param_names()}
    names |= {name for part in subclasses(Configurable) for name in part.setting_names()}
    for constraints in chain.from_iterable(
        getattr(kind, "_parameter_constraints", {}).values() for kind in kinds
    ):
        names = names.union(*(c.options for c in constraints if isinstance(c, StrOptions)))
    assert set(_read_synonyms()) <= names


def test_each_synonym_however_it_is_written():
    for name, words in _read_synonyms().items():
        for word in words:
            for typed in (word, word.title(), word.replace("_", "-"), word.replace("_", "")):
                assert did_you_mean(typed, [name]) == f" Did you mean {name!r}?"


@pytest.mark.parametrize(
    "kind, parameter, value, suggested",
    [
        (BackpropClassifier, "activation", "Sigmoid", "'logistic'"),
        (BackpropClassifier, "activation", "swish", "'silu'"),
        (BackpropClassifier, "activation", "softmax", None),
        (BackpropClassifier, "activation", type("ReLU", (), {}), "'relu'"),
        (BackpropClassifier, "activation", np.tanh, "'tanh'"),
        (BackpropClassifier, "activation", ["sellu"], "'selu'"),
        (BackpropClassifier, "loss", "sparse_categorical_crossentropy", "'log_loss'"),
        (BackpropRegressor, "loss", "MSELoss", "'squared_error'"),
        (BackpropRegressor, "loss", "log_loss", None),
        (BackpropRegressor, "solver", "L-BFGS-B", "'lbfgs'"),
        (BackpropClassifier, "solver", AdamW, "'adamw'"),
        (BackpropClassifier, "learning_rate", "ReduceLROnPlateau", "'plateau'"),
        (BackpropClassifier, "learning_rate", 0.01, "learning_rate_init=0.01"),
        (BackpropClassifier, "init", "xavier", "'glorot_uniform'"),
        (BackpropRegressor, "normalization", "BatchNorm1d", "'batch'"),
        (BackpropRegressor, "average", "exponential", "'ema'"),
        (BackpropClassifier, "layers", "fourier", "'periodic'"),
        (BackpropClassifier, "early_stopping", EarlyStopping("val_loss"), "'loss'"),
        (BackpropClassifier, "early_stopping", EarlyStopping("acuracy"), "'accuracy'"),
        (BackpropClassifier, "class_weight", "balanced_subsample", "'balanced'"),
        (TabularRegressor, "blend", "bosting", "'boosting'"),
    ],
)
def test_values_of_parameters(kind, parameter, value, suggested):
    text = message_of(lambda: kind(max_iter=1, **{parameter: value}).fit(X, Y))
    assert parameter in text or parameter == "early_stopping"
    if suggested is None:
        assert "Did you mean" not in text
    else:
        assert suggested_by(text) == suggested


@pytest.mark.parametrize(
    "word, name",
    [
        ("lr", "learning_rate_init"),
        ("epochs", "max_iter"),
        ("optimiser", "solver"),
        ("weight_decay", "alpha"),
        ("seed", "random_state"),
        ("apha", "alpha"),
    ],
)
def test_names_of_parameters(word, name):
    model = BackpropClassifier()
    search = BackpropGridSearchCV(model, {word: [1]}, cv=2, error_score="raise")
    for call in (
        lambda: BackpropClassifier(**{word: 1}),
        lambda: model.set_params(**{word: 1}),
        lambda: model.set_params(**{f"{word}__a": 1}),
        lambda: make_pipeline(model).set_params(**{f"backpropclassifier__{word}": 1}),
        lambda: search.fit(X, Y),
    ):
        assert suggested_by(message_of(call)) == repr(name)


@pytest.mark.parametrize(
    "kind, word, suggested",
    [
        (AdamW, "beta1", "'beta_1'"),
        (AdamW, "lr", "the estimator's 'learning_rate_init'"),
        (EarlyStopping, "monitor", "'scoring'"),
        (Quantile, "levels", "'quantiles'"),
        (ConformalRegressor, "confidence_level", "'coverage'"),
        (ConformalClassifier, "confidence_level", "'coverage'"),
        (BackpropRandomizedSearchCV, "n_trials", "'n_iter'"),
        (TabularRegressor, "n_members", "'n_estimators'"),
        (TableEncoder, "cat_cols", "'categorical_features'"),
    ],
)
def test_arguments_of_constructors(kind, word, suggested):
    assert message_of(lambda: kind(**{word: 1})) == (
        f"{kind.__name__}.__init__() got an unexpected keyword argument {word!r}. "
        f"Did you mean {suggested}?"
    )


@pytest.mark.parametrize("kind", [BackpropClassifier, TabularRegressor])
@pytest.mark.parametrize(
    "word, suggested",
    [
        ("validation_data", "'X_val'"),
        ("sample_weights", "'sample_weight'"),
        ("epochs", "the estimator's 'max_iter'"),
        ("callbacks", "the estimator's 'set_callbacks'"),
    ],
)
def test_arguments_of_fit(kind, word, suggested):
    assert suggested_by(message_of(lambda: kind().fit(X, Y, **{word: 1}))) == suggested


@pytest.mark.parametrize("word", ["exposure", "offset"])
def test_fit_says_what_replaces_an_exposure(word):
    text = message_of(lambda: BackpropRegressor().fit(X, Y, **{word: 1}))
    assert "Fit y / exposure with sample_weight=exposure" in text


@pytest.mark.parametrize("word", ["alpha", "mlp__alpha", "BackpropClassifier__alpha"])
def test_names_without_the_step_of_a_pipeline(word):
    search = BackpropGridSearchCV(make_pipeline(BackpropClassifier()), {word: [1]}, cv=2)
    assert suggested_by(message_of(lambda: search.fit(X, Y))) == "'backpropclassifier__alpha'"


def test_rows_of_images_without_layers_are_an_error_that_says_what_to_do():
    text = message_of(lambda: BackpropClassifier().fit(np.zeros((4, 8, 8)), [0, 1, 0, 1]))
    assert "(8, 8)" in text and "Conv2D" in text and "reshape" in text


def test_other_errors_are_those_of_scikit_learn():
    for settings in ({"alpha": -1.0}, {"activation": "zzz"}):
        (value,) = settings.values()
        text = message_of(lambda settings=settings: quick(BackpropClassifier, **settings).fit(X, Y))
        assert text.endswith(f"Got {value!r} instead.")
