"""The numbers of scikit-learn's MLP, epoch by epoch.

Both are started from the same integer seed, or from the same given weights, and trained for a
few epochs; weights, losses, scores, counters and predictions have to agree in float64 to 1e-9.
The first part checks names and defaults, the second the numbers over all settings. Where we
differ on purpose, the third part shows what differs, why, and what still agrees.
"""

import inspect
from itertools import cycle, product

import numpy as np
import pytest
from scipy import sparse
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.neural_network import _multilayer_perceptron as scikit_learn

from skbackprop import BackpropClassifier, BackpropRegressor
from support import (
    assert_same_network,
    class_data,
    few_epochs,
    label_data,
    pairs,
    some_parameters,
    value_data,
)

pytestmark = few_epochs

PAIRS = {
    "classifier": (BackpropClassifier, MLPClassifier),
    "regressor": (BackpropRegressor, MLPRegressor),
}

N_ROWS, N_FEATURES, BATCH_SIZE = 60, 4, 25  # two full batches and a short one an epoch
WEIGHT = np.random.RandomState(1).uniform(0.1, 3, N_ROWS)
CONTAINERS = {"dense": np.asarray, "csr": sparse.csr_array, "csc": sparse.csc_matrix}
ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]


def counts(n_outputs):
    X, y = value_data(N_ROWS, N_FEATURES, n_outputs)
    return X, np.floor(2 * np.exp(0.2 * y))


# Name: kind of estimator, its loss, its data.
PROBLEMS = {
    "binary": ("classifier", "log_loss", class_data(N_ROWS, N_FEATURES, n_classes=2)),
    "multiclass": ("classifier", "log_loss", class_data(N_ROWS, N_FEATURES)),
    "multilabel": ("classifier", "log_loss", label_data(N_ROWS, N_FEATURES)),
    "one value": ("regressor", "squared_error", value_data(N_ROWS, N_FEATURES)),
    "many values": ("regressor", "squared_error", value_data(N_ROWS, N_FEATURES, 3)),
    "one count": ("regressor", "poisson", counts(1)),
    "many counts": ("regressor", "poisson", counts(3)),
}
DEFAULT_LOSSES = "log_loss", "squared_error"
if "loss" not in MLPRegressor().get_params():  # before scikit-learn 1.7
    PROBLEMS = {name: values for name, values in PROBLEMS.items() if values[1] in DEFAULT_LOSSES}
SOLVERS = {
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd"},
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
    "lbfgs": {"solver": "lbfgs"},
}
SCHEDULES = {
    "constant": {"learning_rate_init": 0.02},
    "invscaling": {"learning_rate": "invscaling", "learning_rate_init": 0.05, "power_t": 0.2},
    # So impatient that the rate falls within few epochs.
    "adaptive": {
        "learning_rate": "adaptive",
        "learning_rate_init": 0.04,
        "n_iter_no_change": 1,
        "tol": 0.02,
    },
}
METHODS = {
    f"{solver} {schedule}": SOLVERS[solver] | SCHEDULES[schedule]
    for solver in ("sgd", "momentum", "nesterov")
    for schedule in SCHEDULES
}
METHODS |= {"adam": SOLVERS["adam"], "lbfgs": SOLVERS["lbfgs"]}
STOCHASTIC = [name for name in METHODS if name != "lbfgs"]


def started_from(parameters, estimator_class, **settings):
    """Return an estimator, ours or scikit-learn's, whose first fit starts from `parameters`."""
    if estimator_class not in (MLPClassifier, MLPRegressor):
        return estimator_class(init=parameters, **settings)
    estimator = estimator_class(**settings)
    layers = cycle(zip(*parameters, strict=True))
    # scikit-learn asks for one layer's parameters after the other, in every fresh start.
    estimator._init_coef = lambda fan_in, fan_out, dtype: tuple(
        array.astype(dtype) for array in next(layers)
    )
    return estimator


def n_outputs(problem):
    y = PROBLEMS[problem][2][1]
    return 3 if problem == "multiclass" else y.reshape(len(y), -1).shape[1]


def is_like(problem, method, early_stopping, weighted=False):
    """Return whether the steps are scikit-learn's; the others are in the third part."""
    if early_stopping:
        return problem != "multiclass" and method != "lbfgs"
    if method == "lbfgs":
        return problem != "many values"
    return not ("adaptive" in method and weighted)  # the losses of epochs differ


def fitted_pair(problem, method, *, parameters=None, container="dense", weight=None, **settings):
    """Return our estimator and scikit-learn's after the same `fit`, and the input."""
    kind, loss, (X, y) = PROBLEMS[problem]
    settings = {
        "hidden_layer_sizes": (6,),
        "alpha": 0.01,
        "batch_size": BATCH_SIZE,
        "max_iter": 10,
        "random_state": 3,
        **METHODS[method],
        **settings,
    }
    X = CONTAINERS[container](X)
    pair = []
    for estimator_class in PAIRS[kind]:
        own = settings | ({} if loss in DEFAULT_LOSSES else {"loss": loss})
        if parameters is None:
            estimator = estimator_class(**own)
        else:
            estimator = started_from(parameters, estimator_class, **own)
        pair.append(estimator.fit(X, y, **({} if weight is None else {"sample_weight": weight})))
    return *pair, X


def assert_close(actual, expected, what, rtol=1e-9):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-10, err_msg=what)


def assert_parity(ours, theirs, X, losses=True):
    """Assert that two fitted estimators agree in all that both have; without `losses`, but them."""
    assert_same_network(ours, theirs, rtol=1e-9, atol=1e-10)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    if losses:
        assert_close(ours.loss_, theirs.loss_, "loss_")
    if theirs.solver != "lbfgs":
        if losses:
            assert_close(ours.loss_curve_, theirs.loss_curve_, "loss_curve_")
        if theirs.early_stopping:
            for name in ("validation_scores_", "best_validation_score_"):
                assert_close(getattr(ours, name), getattr(theirs, name), name)
            assert ours.best_loss_ is None and theirs.best_loss_ is None
        else:
            if losses:
                assert_close(ours.best_loss_, theirs.best_loss_, "best_loss_")
            assert ours.validation_scores_ is None and theirs.validation_scores_ is None
            assert ours.best_validation_score_ is None
    assert_same_predictions(ours, theirs, X)


def assert_same_predictions(ours, theirs, X):
    if isinstance(theirs, MLPClassifier):
        np.testing.assert_array_equal(ours.classes_, theirs.classes_)
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
        assert_close(ours.predict_proba(X), theirs.predict_proba(X), "predict_proba")
    else:
        assert_close(ours.predict(X), theirs.predict(X), "predict")
    assert ours.predict(X).shape == theirs.predict(X).shape


# ---------------------------------------------------------------- names, defaults, attributes


@pytest.mark.parametrize("kind", PAIRS)
def test_parameters_have_the_same_names_and_defaults(kind):
    ours, theirs = (cls().get_params() for cls in PAIRS[kind])
    assert {name: ours.get(name, "missing") for name in theirs} == theirs


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "predict", "score"])
def test_methods_take_the_same_arguments(kind, method):
    ours, theirs = (inspect.signature(getattr(cls(), method)) for cls in PAIRS[kind])
    shared = list(ours.parameters)[: len(theirs.parameters)]
    assert shared == list(theirs.parameters)
    # What is ours alone is optional.
    ours_alone = list(ours.parameters.values())[len(shared) :]
    assert all(parameter.default is not inspect.Parameter.empty for parameter in ours_alone)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("kind", PAIRS)
def test_the_global_stream_gives_the_same_draws(kind, solver, early_stopping):
    """After np.random.seed a row of fits has scikit-learn's numbers, and so has what is drawn then.

    An estimator that is fitted again draws on, as one that is fitted for the first time does.
    """
    X, y = class_data(N_ROWS, n_classes=2)
    settings = {"hidden_layer_sizes": (5,), "solver": solver, "max_iter": 3}
    settings["early_stopping"] = early_stopping and solver != "lbfgs"

    def check(estimator_class):
        np.random.seed(7)
        model = estimator_class(**settings)
        coefs = [model.fit(X, y).coefs_[0].copy() for _ in range(2)]
        coefs.append(estimator_class(**settings).fit(X, y).coefs_[0])
        return np.array(coefs), np.random.rand()

    (found, drawn), (expected, drawn_there) = map(check, PAIRS[kind])
    assert_close(found, expected, "coefs_[0]")
    assert drawn == drawn_there


# ------------------------------------------------------------------------------- the numbers


LATE_AND_EARLY = pytest.mark.parametrize("early_stopping", [False, True])
# All that goes together, with activations and containers in turn.
TRAJECTORIES = [
    (*row, activation, container)
    for row, activation, container in zip(
        [row for row in product(PROBLEMS, METHODS, [False, True], [False, True]) if is_like(*row)],
        cycle(ACTIVATIONS),
        cycle(CONTAINERS),
        strict=False,
    )
]


@pytest.mark.parametrize(
    "problem, method, early_stopping, weighted, activation, container", TRAJECTORIES
)
def test_ten_epochs(problem, method, early_stopping, weighted, activation, container):
    """With L-BFGS 20 iterations. Each epoch's loss counts."""
    ours, theirs, X = fitted_pair(
        problem,
        method,
        activation=activation,
        early_stopping=early_stopping,
        weight=WEIGHT if weighted else None,
        container=container,
        max_iter=20 if method == "lbfgs" else 10,
    )
    one_batch = method == "lbfgs"
    assert_parity(ours, theirs, X, losses=one_batch or not weighted)


@pytest.mark.parametrize(
    "problem, method, early_stopping, start",
    [
        row
        for row in pairs([*PROBLEMS], [*METHODS], [False, True], ["seed", "given weights"])
        if is_like(*row[:3])
    ],
)
def test_every_epoch(problem, method, early_stopping, start):
    parameters = some_parameters(N_FEATURES, 6, n_outputs(problem), seed=1)
    for max_iter in (1, 5, 15) if method == "lbfgs" else (1, 2, 3, 6):
        ours, theirs, X = fitted_pair(
            problem,
            method,
            activation="tanh",
            early_stopping=early_stopping,
            max_iter=max_iter,
            parameters=parameters if start == "given weights" else None,
        )
        assert_parity(ours, theirs, X)


@pytest.mark.parametrize(
    "problem, method, container", pairs([*PROBLEMS], STOCHASTIC, [*CONTAINERS])
)
def test_weights_in_one_batch(problem, method, container):
    """Then the losses agree too, and with them the adaptive schedule."""
    ours, theirs, X = fitted_pair(
        problem, method, container=container, weight=WEIGHT, batch_size=N_ROWS
    )
    assert_parity(ours, theirs, X)


# How often scikit-learn would have stopped earlier or later is decided by every epoch's loss.
STOPPING = {"tol": 0.03, "n_iter_no_change": 2, "max_iter": 200}


@pytest.mark.parametrize(
    "problem, method, early_stopping",
    pairs(
        [name for name in PROBLEMS if name != "multiclass"],
        ["nesterov constant", "momentum invscaling", "adam"],
        [False, True],
    ),
)
def test_training_stops_in_the_same_epoch(problem, method, early_stopping):
    ours, theirs, X = fitted_pair(
        problem, method, activation="tanh", early_stopping=early_stopping, **STOPPING
    )
    assert 3 < theirs.n_iter_ < 200
    assert_parity(ours, theirs, X)


@LATE_AND_EARLY
def test_adaptive_schedule_ends_in_the_same_epoch(early_stopping):
    """No epoch is good enough, so the rate falls step by step to 1e-6, where training ends."""
    settings = {"learning_rate_init": 1e-4, "tol": 10.0, "max_iter": 200}
    ours, theirs, X = fitted_pair(
        "binary", "nesterov adaptive", early_stopping=early_stopping, **settings
    )
    assert 6 < theirs.n_iter_ < 200
    assert_parity(ours, theirs, X)


OTHER_SETTINGS = {
    "no hidden layer": {"hidden_layer_sizes": ()},
    "an integer": {"hidden_layer_sizes": 7},
    "two hidden layers": {"hidden_layer_sizes": [7, 5]},
    "automatic batch size": {"batch_size": "auto"},
    "batches of one row": {"batch_size": 1, "max_iter": 3},
    "no shuffling": {"shuffle": False},
    "no penalty": {"alpha": 0.0},
    "large penalty": {"alpha": 3.0},
    "large validation fraction": {"early_stopping": True, "validation_fraction": 0.4},
    "another seed": {"random_state": 2**32 - 1},
}


@pytest.mark.parametrize(
    "settings, problem, method",
    pairs([*OTHER_SETTINGS], ["binary", "one value"], ["momentum constant", "adam"]),
)
def test_other_settings(settings, problem, method):
    ours, theirs, X = fitted_pair(problem, method, **OTHER_SETTINGS[settings])
    assert_parity(ours, theirs, X)


@pytest.mark.parametrize(
    "method, settings",
    [
        ("adam", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.1}),
        ("adam", {"beta_1": 0, "beta_2": 0}),
        *(
            (f"{kind} constant", {"momentum": momentum, "learning_rate_init": 0.01})
            for kind in ("momentum", "nesterov")
            for momentum in (0.3, 1)
        ),
        ("lbfgs", {"max_fun": 5, "max_iter": 100}),
        ("lbfgs", {"max_fun": 12, "max_iter": 100}),
        ("lbfgs", {"tol": 0.05, "max_iter": 100}),  # ends where the gradient is small
    ],
)
def test_parameters_of_the_solver(method, settings):
    ours, theirs, X = fitted_pair("binary", method, **settings)
    assert method != "lbfgs" or theirs.n_iter_ < 100
    assert_parity(ours, theirs, X)


@LATE_AND_EARLY
def test_first_fit_from_a_random_state_instance(early_stopping):
    """Each from a stream of its own; the draws are the same, and leave the stream as far on."""
    X, y = value_data(N_ROWS, N_FEATURES)
    rngs = [np.random.RandomState(3) for _ in range(2)]
    ours, theirs = (
        cls(random_state=rng, early_stopping=early_stopping, max_iter=3).fit(X, y)
        for cls, rng in zip(PAIRS["regressor"], rngs, strict=True)
    )
    assert_parity(ours, theirs, X)
    assert rngs[0].randint(1000) == rngs[1].randint(1000)


@pytest.mark.parametrize("method", ["nesterov constant", "adam"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_float32_to_its_own_rounding(problem, method):
    kind, loss, (X, y) = PROBLEMS[problem]
    settings = {"batch_size": BATCH_SIZE, "max_iter": 5, "random_state": 3, **METHODS[method]}
    ours, theirs = (
        cls(**settings | ({} if cls is MLPClassifier else {"loss": loss})) for cls in PAIRS[kind]
    )
    X = X.astype(np.float32)
    if kind == "regressor":
        y = y.astype(np.float32)
    ours.fit(X, y), theirs.fit(X, y)

    assert {array.dtype for array in ours.coefs_ + ours.intercepts_} == {np.dtype("float32")}
    assert_same_network(ours, theirs, rtol=1e-4, atol=1e-5)
    assert ours.predict(X).dtype == theirs.predict(X).dtype


# ------------------------------------------------------------- where we differ, on purpose


def summed_over_outputs(y, y_pred, sample_weight=None):
    """Half the squared error as its gradient in scikit-learn has it: summed over outputs."""
    return 0.5 * np.average(np.square(y - y_pred), weights=sample_weight, axis=0).sum()


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weights"])
def test_excluded_many_output_squared_error_with_lbfgs(weight, monkeypatch):
    """scikit-learn's value is the mean over outputs, though its gradient is that of the sum.

    We search with the sum as the value, and report the mean. With the sum as its value,
    scikit-learn takes the same steps, so nothing else differs.
    """
    settings = {"alpha": 0.7, "weight": weight}
    longer = settings | {"max_iter": 100}  # until a line search has to interpolate
    ours, theirs, X = fitted_pair("many values", "lbfgs", **longer)

    y = PROBLEMS["many values"][2][1]
    total = N_ROWS if weight is None else weight.sum()
    penalty = 0.7 / 2 * sum((coefs**2).sum() for coefs in ours.coefs_) / total
    mean = 0.5 * np.average(np.square(ours.predict(X) - y), weights=weight, axis=0).mean()
    assert_close(ours.loss_, mean + penalty, "loss_")

    monkeypatch.setitem(scikit_learn.LOSS_FUNCTIONS, "squared_error", summed_over_outputs)
    ours, theirs, X = fitted_pair("many values", "lbfgs", **settings, max_iter=20)
    assert_parity(ours, theirs, X, losses=False)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_excluded_weights_in_several_batches(problem):
    """We weight an epoch's batches by their weight, scikit-learn by their number of rows."""
    # At this rate the weights of the network stand still, so every batch sees the same loss.
    settings = {
        "batch_size": 40,
        "shuffle": False,
        "alpha": 0.0,
        "learning_rate_init": 1e-15,
        "max_iter": 1,
    }
    weight = np.where(np.arange(N_ROWS) < 40, 0.1, 3.0)
    ours, theirs, X = fitted_pair(problem, "sgd constant", weight=weight, **settings)
    assert_parity(ours, theirs, X, losses=False)

    one_batch = settings | {"batch_size": N_ROWS, "weight": weight}
    mean_loss = fitted_pair(problem, "sgd constant", **one_batch)[1].loss_
    assert_close(ours.loss_, mean_loss, "the weighted mean over all rows")


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weights"])
@pytest.mark.parametrize("method", STOCHASTIC)
def test_excluded_early_stopping_multiclass(method, weight, monkeypatch):
    """We stratify the split, as scikit-learn's docstring says. With our split it agrees."""
    settings = {"early_stopping": True, "weight": weight}
    ours, theirs, _ = fitted_pair("multiclass", method, **settings)

    def stratified(X, y, *arrays, stratify, **options):
        return train_test_split(X, y, *arrays, stratify=y.argmax(axis=1), **options)

    monkeypatch.setattr(scikit_learn, "train_test_split", stratified)
    ours, theirs, X = fitted_pair("multiclass", method, **settings)
    assert_parity(ours, theirs, X, losses=weight is None)


@pytest.mark.parametrize("problem", ["binary", "one value", "one count"])
def test_excluded_early_stopping_with_lbfgs(problem):
    """scikit-learn ignores early stopping there; ours holds out the rows that sgd would."""
    kind, loss, (X, y) = PROBLEMS[problem]
    parameters = some_parameters(N_FEATURES, 6, 1)
    ours, _, _ = fitted_pair(problem, "lbfgs", parameters=parameters, early_stopping=True)

    # What still agrees: scikit-learn on the other rows, after as many iterations as we keep.
    train, held_out = train_test_split(
        np.arange(N_ROWS),
        test_size=0.1,
        random_state=3,
        stratify=y if problem == "binary" else None,
    )
    own = {} if kind == "classifier" else {"loss": loss}
    reference = started_from(
        parameters,
        PAIRS[kind][1],
        hidden_layer_sizes=(6,),
        alpha=0.01,
        solver="lbfgs",
        max_iter=ours.best_iter_,
        **own,
    ).fit(X[train], y[train])
    assert_same_network(ours, reference, rtol=1e-9, atol=1e-10)
    score = reference.score(X[held_out], y[held_out])
    assert_close(ours.best_validation_score_, score, "best_validation_score_")


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel"])
def test_excluded_probabilities_below_machine_epsilon(problem):
    """scikit-learn clips them, which changes the loss but no gradient."""
    coefs, intercepts = some_parameters(N_FEATURES, n_outputs(problem))
    parameters = [200 * coefs[0]], [200 * intercepts[0]]
    settings = {"hidden_layer_sizes": (), "parameters": parameters, "alpha": 0.0}
    ours, theirs, X = fitted_pair(
        problem, "sgd constant", **settings, learning_rate_init=1e-6, batch_size=N_ROWS
    )
    assert_same_network(ours, theirs, rtol=1e-9, atol=1e-10)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))

    scores = X @ parameters[0][0] + parameters[1][0]
    y = PROBLEMS[problem][2][1]
    if problem == "multiclass":
        losses = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(N_ROWS), y]
    else:
        losses = (np.logaddexp(0, scores) - y.reshape(N_ROWS, -1) * scores).sum(axis=1)
    assert_close(ours.loss_curve_[0], losses.mean(), "loss_curve_[0]")


@pytest.mark.parametrize("method", ["momentum constant", "adam"])
def test_later_partial_fits_agree_in_order(method):
    """An integer seed makes scikit-learn shuffle alike in each call, where our stream goes on."""
    X, y = value_data(N_ROWS, N_FEATURES)
    settings = {"batch_size": BATCH_SIZE, "random_state": 3, "shuffle": False}
    ours, theirs = (cls(**settings, **METHODS[method]) for cls in PAIRS["regressor"])
    for _ in range(2):
        ours.partial_fit(X, y), theirs.partial_fit(X, y)
        assert_parity(ours, theirs, X)
