"""Suggestions in error messages about unknown names."""

import re
from importlib import import_module

import numpy as np
import pytest
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.pipeline import make_pipeline

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropHalvingRandomSearchCV,
    BackpropRandomizedSearchCV,
    BackpropRegressor,
    ConformalRegressor,
    EarlyStopping,
    TabularClassifier,
    TabularRegressor,
)
from skbackprop._sklearn import StrOptions
from skbackprop.activations import ACTIVATIONS, LeakyRelu
from skbackprop.callbacks import OptunaPruningCallback
from skbackprop.estimators._estimator_mixin import EstimatorMixin
from skbackprop.estimators._parameter_table import PARAMETERS, get_constraints
from skbackprop.export import to_c
from skbackprop.losses import Quantile
from skbackprop.optimizers import SOLVERS, AdamW
from skbackprop.schedules import SCHEDULES, LinearWarmup
from skbackprop.tabular import TableEncoder
from skbackprop.utils.configurable import Configurable
from skbackprop.utils.suggestions import WRONG_TYPES, did_you_mean, find_nearest_name, read_synonyms
from support import class_data, few_epochs, quick

pytestmark = few_epochs

X, Y = class_data()
ESTIMATORS = {
    "classifier": BackpropClassifier,
    "regressor": BackpropRegressor,
    "autoencoder": BackpropAutoencoder,
}
TABLES = [
    pytest.param(of, row, id=f"{of}-{row.name}")
    for row in PARAMETERS
    for of in row.estimators
    if row.table is not None
]


def mistyped(name):
    """Return a name with the last two neighbours that differ in the other order."""
    pairs = [
        i for i in range(len(name) - 1) if name[i] != name[i + 1] and name[i : i + 2].isalpha()
    ]
    at = pairs[-1]
    return name[:at] + name[at + 1] + name[at] + name[at + 2 :]


def n_edits(one, other):
    """Return how many letters are to be changed, left out, put in or exchanged with the next."""
    rows = [list(range(len(other) + 1))]
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b)))
            if i > 1 and j > 1 and (a, one[i - 2]) == (other[j - 2], b):
                row[-1] = min(row[-1], rows[-2][j - 2] + 1)
        rows.append(row)
    return rows[-1][-1]


def said_by(call):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    return str(caught.value)


def suggested_by(text):
    """Return the name that an error suggests."""
    return re.search(r"(?:^|[.\]]) Did you mean '(\w+)'\?(?:\s|$)", text)[1]


def assert_suggests(call, name):
    assert suggested_by(said_by(call)) == name


# --------------------------------------------------------------------------- which name


@pytest.mark.parametrize("table", [ACTIVATIONS, SOLVERS, SCHEDULES])
def test_nearest_name_of_a_table(table):
    for name in table:
        assert did_you_mean(name.upper(), table) == f" Did you mean {name!r}?"
        for typed in {mistyped(name), name + "s", name.replace("_", "-")} - {name}:
            found = suggested_by(did_you_mean(typed, table))
            assert found in table and n_edits(typed, found) <= n_edits(typed, name)


@pytest.mark.parametrize("given", ["zzzz", "", 3, None, np.array(["relu"]), ["rleu"]])
def test_no_suggestion_for_distant_names(given):
    assert did_you_mean(given, ACTIVATIONS) == ""
    assert did_you_mean("relu", []) == ""


# ------------------------------------------------------------- what other libraries say

# A few names as other libraries write them; `test_each_synonym` runs over all.
FOREIGN_VALUES = [
    ("classifier", "activation", "Sigmoid", "logistic"),
    ("classifier", "activation", "softmax", None),
    ("classifier", "loss", "sparse_categorical_crossentropy", "log_loss"),
    ("regressor", "loss", "MSELoss", "squared_error"),
    ("regressor", "loss", "log_loss", None),
    ("regressor", "solver", "L-BFGS-B", "lbfgs"),
    ("classifier", "learning_rate", "ReduceLROnPlateau", "plateau"),
    ("classifier", "init", "kaiming_uniform_", "he_uniform"),
    ("regressor", "normalization", "BatchNorm1d", "batch"),
    ("regressor", "average", "exponential", "ema"),
    ("classifier", "class_weight", "balanced_subsample", "balanced"),
]
FOREIGN_PARAMETERS = {
    "lr": "learning_rate_init",
    "optimiser": "solver",
    "weight_decay": "alpha",
    "seed": "random_state",
}
FOREIGN_SETTINGS = [
    (AdamW, "beta_1", "beta1"),
    (AdamW, "the estimator's 'learning_rate_init'", "lr"),
    (EarlyStopping, "scoring", "monitor"),
    (Quantile, "quantiles", "levels"),
    (ConformalRegressor, "coverage", "confidence_level"),
    (BackpropRandomizedSearchCV, "n_iter", "n_trials"),
    (TabularRegressor, "n_estimators", "n_members"),
    (TableEncoder, "categorical_features", "cat_cols"),
    (BackpropClassifier, "the estimator's 'set_callbacks'", "callbacks"),
]
FOREIGN_ARGUMENTS = {
    "validation_data": "'X_val'",
    "sample_weights": "'sample_weight'",
    "random_state": "the estimator's 'random_state'",
    "callbacks": "the estimator's 'set_callbacks'",
}


def in_all(kind):
    for each in kind.__subclasses__():
        yield each
        yield from in_all(each)


def test_synonyms_are_of_names_that_there_are():
    kinds = [each for each in in_all(EstimatorMixin) if each.__module__.startswith("skbackprop")]
    names = {"set_callbacks", "X_val", "sample_weight", "loss", "one_hot", *get_scorer_names()}
    names |= {name for kind in kinds for name in kind._get_param_names()}
    names |= {name for part in in_all(Configurable) for name in part.setting_names()}
    for row in PARAMETERS:
        names |= {*(row.table or ())}
        options = [each.options for each in row.all_constraints if isinstance(each, StrOptions)]
        names = names.union(*options)
    assert set(read_synonyms()) <= names
    assert set(WRONG_TYPES) <= {row.name for row in PARAMETERS}


@pytest.mark.parametrize("name", read_synonyms())
def test_each_synonym_however_it_is_written(name):
    for word in read_synonyms()[name]:
        written = [word, word.upper(), word.title(), word.replace("_", "-"), word.replace("_", "")]
        assert {find_nearest_name(each, [name]) for each in written} == {name}
    assert find_nearest_name(name, [name, *read_synonyms()]) == name


@pytest.mark.parametrize("of, row, word, name", FOREIGN_VALUES)
def test_values_of_other_libraries(of, row, word, name):
    """Also as a class of that name, or an object of it."""
    said = said_by(lambda: quick(ESTIMATORS[of], **{row: word}).fit(X, Y))
    if name is None:
        assert "Did you mean" not in said
        return
    assert suggested_by(said) == name
    foreign = type(word, (), {})
    assert find_nearest_name(foreign, [name]) == find_nearest_name(foreign(), [name]) == name


@pytest.mark.parametrize("word", FOREIGN_PARAMETERS)
def test_parameters_of_other_libraries(word):
    model = BackpropClassifier()
    for call in (
        lambda: BackpropClassifier(**{word: 1}),
        lambda: model.set_params(**{word: 1}),
        lambda: model.set_params(**{f"{word}__a": 1}),
        lambda: make_pipeline(model).set_params(**{f"backpropclassifier__{word}": 1}),
    ):
        assert_suggests(call, FOREIGN_PARAMETERS[word])


@pytest.mark.parametrize("kind, name, word", FOREIGN_SETTINGS)
def test_settings_of_other_libraries(kind, name, word):
    question = name if " " in name else repr(name)
    assert said_by(lambda: kind(**{word: 1})) == (
        f"{kind.__name__}.__init__() got an unexpected keyword argument {word!r}. "
        f"Did you mean {question}?"
    )


@pytest.mark.parametrize("word", FOREIGN_ARGUMENTS)
@pytest.mark.parametrize("kind", [BackpropClassifier, TabularRegressor])
def test_arguments_of_fit_in_other_libraries(kind, word):
    assert said_by(lambda: kind().fit(X, Y, **{word: 1})) == (
        f"{kind.__name__}.fit() got an unexpected keyword argument {word!r}. "
        f"Did you mean {FOREIGN_ARGUMENTS[word]}?"
    )


@pytest.mark.parametrize("name", get_scorer_names())
def test_the_function_of_each_scorer(name):
    function = get_scorer(name)._score_func
    found = find_nearest_name(function.__name__, get_scorer_names())
    assert get_scorer(found)._score_func is function


@pytest.mark.parametrize(
    "wrong, right",
    [
        ({"learning_rate": 0.01}, "learning_rate_init=0.01"),
        ({"learning_rate": 1}, "learning_rate_init=1"),
        ({"early_stopping": "loss"}, "early_stopping=EarlyStopping('loss')"),
        ({"early_stopping": "val_loss"}, "early_stopping=EarlyStopping('loss')"),
        ({"early_stopping": "f1_score"}, "early_stopping=EarlyStopping('f1')"),
        ({"early_stopping": 10}, "early_stopping=True, n_iter_no_change=10"),
        ({"activation": None}, 'activation="identity"'),
        ({"normalization": True}, 'normalization="batch"'),
        ({"solver": AdamW}, "AdamW()"),
        ({"activation": LeakyRelu}, "LeakyRelu()"),
        ({"early_stopping": EarlyStopping}, "EarlyStopping()"),
        ({"early_stopping": EarlyStopping("val_loss")}, "'loss'"),
        ({"activation": np.tanh}, "'tanh'"),
    ],
)
def test_values_of_another_kind(wrong, right):
    said = said_by(lambda: quick(BackpropClassifier, **wrong).fit(X, Y))
    assert said.endswith(f" Did you mean {right}?")


def test_constructor_with_any_keywords_is_not_checked():
    class Own(BackpropClassifier):
        def __init__(self, **settings):
            super().__init__(**settings)

    assert Own(alpha=0.5).alpha == 0.5
    with pytest.raises(TypeError, match="unexpected keyword argument 'lr'"):
        Own(lr=0.5)


# ------------------------------------------------------------------------ of parameters


@pytest.mark.parametrize("of, row", TABLES)
def test_each_name_of_each_table(of, row):
    for name in row.table:
        typed = mistyped(name)
        model = quick(ESTIMATORS[of], **{row.name: typed})
        found = suggested_by(said_by(lambda model=model: model.fit(X, Y)))
        assert found in row.table and n_edits(typed, found) == 1


@pytest.mark.parametrize("of", ESTIMATORS)
def test_each_parameter(of):
    names = get_constraints(of)
    for name in names:
        wrong = mistyped(name)
        found = suggested_by(said_by(lambda wrong=wrong: ESTIMATORS[of]().set_params(**{wrong: 1})))
        assert found in names and n_edits(wrong, found) == 1


def test_settings_of_parts():
    model = BackpropClassifier(solver=AdamW(), learning_rate=LinearWarmup("cosine"))
    wrong = {
        "solver__weigth_decay": "weight_decay",
        "learning_rate__schedul__final": "schedule",
        "learning_rate__schedule__final_factors": "final_factor",
        "solvr__weight_decay": "solver",
    }
    for name, right in wrong.items():
        assert_suggests(lambda name=name: model.set_params(**{name: 0.5}), right)
    pipeline = make_pipeline(model)
    wrong = {"backpropclassifier__solver__bta_1": 0.5}
    assert_suggests(lambda: pipeline.set_params(**wrong), "beta_1")


def test_set_params_is_all_or_nothing():
    model = TabularClassifier()
    assert_suggests(lambda: model.set_params(n_estimators=3, blnd="boosting"), "blend")
    assert model.n_estimators == "auto"
    assert model.set_params(n_estimators=3) is model


# --------------------------------------------------------------- of all that takes names


def search(scoring, **settings):
    refit = settings.pop("refit", True)
    return BackpropGridSearchCV(
        quick(BackpropClassifier), {"alpha": [1.0]}, cv=2, scoring=scoring, refit=refit, **settings
    )


CALLS = {
    "activation of a layer": (
        lambda: quick(BackpropClassifier, activation=["sellu"]).fit(X, Y),
        "selu",
    ),
    "scoring of early stopping": (
        lambda: quick(BackpropClassifier, early_stopping=EarlyStopping("acuracy")).fit(X, Y),
        "accuracy",
    ),
    "scoring of a search": (lambda: search("roc_acu").fit(X, Y), "roc_auc"),
    "scoring in a dict": (lambda: search({"a": "roc_acu"}, refit="a").fit(X, Y), "roc_auc"),
    "parameter of a search": (lambda: search(None).set_params(n_job=2), "n_jobs"),
    "parameter within a search": (
        lambda: search(None).set_params(estimator__apha=2),
        "alpha",
    ),
    "parameter of a grid": (
        lambda: search(None, error_score="raise").set_params(param_grid={"apha": [1]}).fit(X, Y),
        "alpha",
    ),
    "min_resources": (
        lambda: BackpropHalvingRandomSearchCV(
            quick(BackpropClassifier), {"alpha": [1.0]}, min_resources="smalest"
        ).fit(X, Y),
        "smallest",
    ),
    "loss of a table": (lambda: TabularRegressor(loss="gausian").fit(X, Y), "gaussian"),
    "blend": (lambda: TabularRegressor(blend="bosting").fit(X, Y), "boosting"),
    "class_weight": (lambda: TabularClassifier(class_weight="balance").fit(X, Y), "balanced"),
    "encoding": (lambda: TableEncoder(encoding="onehot").fit(X), "one_hot"),
    "conformity_score": (
        lambda: ConformalRegressor(BackpropRegressor(), conformity_score="quantils").fit(X, Y),
        "quantile",
    ),
    "schedule": (lambda: LinearWarmup("cosin"), "cosine"),
    "average": (lambda: quick(BackpropClassifier, average="poliak").fit(X, Y), "polyak"),
    "of OptunaPruningCallback": (
        lambda: OptunaPruningCallback(None, monitor="validation-loss"),
        "validation_loss",
    ),
    "of input_gradient": (
        lambda: quick(BackpropClassifier).fit(X, Y).input_gradient(X, of="probabilty"),
        "probability",
    ),
    "weight_dtype of to_c": (
        lambda: to_c(quick(BackpropClassifier).fit(X, Y), weight_dtype="int-8"),
        "int8",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_suggests_names_everywhere(name):
    assert_suggests(*CALLS[name])


# The error about `average` says by itself what to write.
BY_CONSTRAINT = [each for each in TABLES if each.values[1].name != "average"]


@pytest.mark.parametrize("of, row", BY_CONSTRAINT)
def test_names_are_listed_in_order(of, row):
    """Sets have another order in each process."""
    call = quick(ESTIMATORS[of], **{row.name: "zzz"}).fit
    options = sorted({*row.table, "auto"} if row.name == "init" else row.table)
    assert f"a str among {{{', '.join(map(repr, options))}}}" in said_by(lambda: call(X, Y))


def reciprocal(x):
    """Return what no parameter but learning_rate takes: a function."""
    return 1 / x


@pytest.mark.parametrize("value", [reciprocal, re.compile("x")], ids=["function", "object"])
@pytest.mark.parametrize("of, row", BY_CONSTRAINT)
def test_base_classes_of_functions_and_other_objects(of, row, value):
    if row.name == "learning_rate" and callable(value):
        return
    said = said_by(lambda: quick(ESTIMATORS[of], **{row.name: value}).fit(X, Y))
    base = next(each for each in row.constraints if isinstance(each, type))
    found = re.search(r"write a subclass of (\S+)\.(\w+), as docs/extending.md shows", said)
    assert getattr(import_module(found[1]), found[2]) is base


def test_other_errors_are_as_they_were():
    for call, says in {
        lambda: quick(BackpropClassifier, alpha=-1.0).fit(X, Y): "Got -1.0 instead.",
        lambda: quick(BackpropClassifier, activation="zzz").fit(X, Y): "Got 'zzz' instead.",
        lambda: search("zzz").fit(X, Y): "Got 'zzz' instead.",
    }.items():
        assert said_by(call).endswith(says)
