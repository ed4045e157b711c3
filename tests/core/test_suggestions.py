"""Do errors about names suggest the nearest valid one, wherever a name is taken?"""

import re

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropHalvingRandomSearchCV,
    BackpropRegressor,
    ConformalRegressor,
    EarlyStopping,
    TabularClassifier,
    TabularRegressor,
)
from skbackprop.activations import ACTIVATIONS
from skbackprop.callbacks import OptunaPruning
from skbackprop.core.suggestions import did_you_mean
from skbackprop.displays import SearchDisplay
from skbackprop.estimators.parameters import PARAMETERS, constraints_of
from skbackprop.export import to_c
from skbackprop.optimizers import SOLVERS, AdamW
from skbackprop.schedules import SCHEDULES, WarmUp
from skbackprop.tables import TableEncoder
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
    for of in row.of
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
    """Return the name that an error suggests at its end, or at that of its first line."""
    return re.search(r"(?:^|[.\]]) Did you mean '(\w+)'\?(?:\n|$)", text)[1]


def assert_suggests(call, name):
    assert suggested_by(said_by(call)) == name


# --------------------------------------------------------------------------- which name


@pytest.mark.parametrize("table", [ACTIVATIONS, SOLVERS, SCHEDULES])
def test_the_nearest_of_a_table(table):
    for name in table:
        assert did_you_mean(name.upper(), table) == f" Did you mean {name!r}?"
        for typed in {mistyped(name), name + "s", name.replace("_", "-")} - {name}:
            found = suggested_by(did_you_mean(typed, table))
            assert found in table and n_edits(typed, found) <= n_edits(typed, name)


@pytest.mark.parametrize("given", ["zzzz", "", 3, None, np.array(["relu"]), ["rleu"]])
def test_there_is_none_where_nothing_is_near(given):
    assert did_you_mean(given, ACTIVATIONS) == ""
    assert did_you_mean("relu", []) == ""


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
    names = constraints_of(of)
    for name in names:
        wrong = mistyped(name)
        found = suggested_by(said_by(lambda wrong=wrong: ESTIMATORS[of]().set_params(**{wrong: 1})))
        assert found in names and n_edits(wrong, found) == 1


def test_settings_of_parts():
    model = BackpropClassifier(solver=AdamW(), learning_rate=WarmUp("cosine"))
    wrong = {
        "solver__weigth_decay": "weight_decay",
        "learning_rate__schedul__final": "schedule",
        "learning_rate__schedule__finals": "final",
        "solvr__weight_decay": "solver",
    }
    for name, right in wrong.items():
        assert_suggests(lambda name=name: model.set_params(**{name: 0.5}), right)
    pipeline = make_pipeline(model)
    wrong = {"backpropclassifier__solver__bta_1": 0.5}
    assert_suggests(lambda: pipeline.set_params(**wrong), "beta_1")


def test_nothing_is_set_if_one_name_is_wrong():
    model = TabularClassifier()
    assert_suggests(lambda: model.set_params(n_members=3, blnd="boosting"), "blend")
    assert model.n_members == 8
    assert model.set_params(n_members=3) is model


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
    "scoring in a list": (lambda: search(["r2", "roc_acu"], refit="r2").fit(X, Y), "roc_auc"),
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
    "schedule": (lambda: WarmUp("cosin"), "cosine"),
    "average": (lambda: quick(BackpropClassifier, average="poliak").fit(X, Y), "polyak"),
    "of OptunaPruning": (lambda: OptunaPruning(None, of="validation-loss"), "validation_loss"),
    "of input_gradient": (
        lambda: quick(BackpropClassifier).fit(X, Y).input_gradient(X, of="probabilty"),
        "probability",
    ),
    "weights in C": (lambda: to_c(quick(BackpropClassifier).fit(X, Y), weights="int-8"), "int8"),
    "metric of a display": (
        lambda: SearchDisplay.from_estimator(search(None).fit(X, Y), metric="scores"),
        "score",
    ),
    "kind of a display": (
        lambda: SearchDisplay.from_estimator(search(None).fit(X, Y), kind="heat-map"),
        "heatmap",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_names(name):
    assert_suggests(*CALLS[name])


def test_other_errors_are_as_they_were():
    for call, says in {
        lambda: quick(BackpropClassifier, alpha=-1.0).fit(X, Y): "Got -1.0 instead.",
        lambda: quick(BackpropClassifier, activation="zzz").fit(X, Y): "Got 'zzz' instead.",
        lambda: search("zzz").fit(X, Y): "Got 'zzz' instead.",
    }.items():
        assert said_by(call).endswith(says)
