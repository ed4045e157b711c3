"""Are the estimators what scikit-learn calls an estimator? Its own checks, in many configurations.

The defaults pass all of them, other settings those that touch numbers (with --full, all). No check
is expected to fail. Let through are a ConvergenceWarning (the checks train for a few epochs) and
scikit-learn's own skip of its array API check. The second half holds sample weights to their
meaning in numbers: weight 2 is a repeated row, weight 0 a removed one.
"""

from unittest import SkipTest

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import estimator_checks_generator

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from skbackprop.activations import LeakyRelu
from skbackprop.initializers import VarianceScaling
from skbackprop.layers import Dense, PeriodicEmbedding
from skbackprop.losses import REGRESSOR_LOSSES, Poisson, Quantile
from skbackprop.optimizers import AdamW
from skbackprop.schedules import LinearWarmup
from skbackprop.weight_averaging import ExponentialMovingAverage
from support import (
    BOTH,
    assert_same_network,
    class_data,
    classes_for,
    few_epochs,
    for_check,
    label_data,
    value_data,
)

ARRAY_API = "check_array_api_input"
ROW_EQUIVALENCE = {
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
}
FLOAT64_PREDICTIONS = {"check_regressor_multioutput"}
NEGATIVE_TARGETS = {"check_regressor_multioutput"}
NEGATIVE_ROWS = {"check_outliers_train", "check_outliers_fit_predict"}
PROBABILITIES = {"check_classifiers_multilabel_output_format_predict_proba"}
OTHER_ROWS = {"check_methods_subset_invariance", "check_methods_sample_order_invariance"}
# These expect one prediction for each target, where there is one for each level.
ONE_PREDICTION = {
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_regressors_train",
}

SMALL = {"hidden_layer_sizes": 20, "learning_rate_init": 0.01, "max_iter": 100}
SHARED = {
    "defaults": {},
    "sgd": {"solver": "sgd", "max_iter": 150},
    "adaptive": {
        "solver": "sgd",
        "learning_rate": "adaptive",
        "learning_rate_init": 0.002,
        "nesterovs_momentum": False,
        "max_iter": 150,
    },
    "lbfgs": {"solver": "lbfgs", "max_iter": 100},
    "identity": {"activation": "identity"} | SMALL,
    "logistic": {"activation": "logistic"} | SMALL | {"learning_rate_init": 0.05},
    "tanh": {"activation": "tanh"} | SMALL,
    "two hidden layers": SMALL | {"hidden_layer_sizes": (20, 10)},
    "an activation of each layer": SMALL
    | {"hidden_layer_sizes": (20, 10), "activation": ["gelu", "elu"]},
    "no hidden layer": SMALL | {"hidden_layer_sizes": (), "learning_rate_init": 0.05},
    "float32": {"dtype": "float32"} | SMALL,
    "early stopping": {"early_stopping": True} | SMALL,
    "early stopping lbfgs": {"early_stopping": True, "solver": "lbfgs", "max_iter": 50},
    "small batches": {"batch_size": 4} | SMALL | {"max_iter": 30},
    "he_normal": {"init": "he_normal"} | SMALL,
    "ensemble": {"n_estimators": 3} | SMALL,
    "instances": {
        "solver": AdamW(weight_decay=0.001),
        "activation": LeakyRelu(0.1),
        "learning_rate": LinearWarmup("cosine"),
        "average": ExponentialMovingAverage(0.9),
        "init": VarianceScaling(2.0, mode="fan_in"),
    }
    | SMALL,
}
CLASSIFIERS = SHARED | {
    "squared error": {"loss": "brier"} | SMALL,
    "squared error lbfgs": {"loss": "brier", "solver": "lbfgs", "max_iter": 100},
    "focal": {"loss": "focal"} | SMALL,
    "hinge": {"loss": "hinge"} | SMALL,
    "squared hinge lbfgs": {"loss": "squared_hinge", "solver": "lbfgs", "max_iter": 100},
    "label smoothing": {"label_smoothing": 0.1} | SMALL,
}
REGRESSORS = SHARED | {
    **{loss: {"loss": loss} | SMALL for loss in sorted({*REGRESSOR_LOSSES} - {"squared_error"})},
    "poisson lbfgs": {"loss": "poisson", "solver": "lbfgs", "max_iter": 50},
    "quantiles": {"loss": Quantile([0.1, 0.5, 0.9])} | SMALL,
    "scaled targets": {"scale_target": True} | SMALL,
    "scaled counts": {"loss": "poisson", "scale_target": True} | SMALL,
}
AUTOENCODERS = SHARED | {
    # The checks' unscaled X is here the target too, so errors are larger, and rates smaller.
    "sgd": SHARED["sgd"] | {"learning_rate_init": 1e-5},
    "adaptive": SHARED["adaptive"] | {"learning_rate_init": 1e-5},
    "one component": {"n_components": 1} | SMALL,
    "poisson": {"loss": Poisson()} | SMALL,
    "variational": {"variational": True, "beta": 0.1} | SMALL,
    "mirrored layers": {"layers": [Dense(6, "tanh")]} | SMALL,
}
LAYERS = {"layers": ["scale", PeriodicEmbedding(4)]} | SMALL
CLASSIFIERS["input layers"] = REGRESSORS["input layers"] = LAYERS
del AUTOENCODERS["ensemble"]
AUTOENCODERS["float32 errors"] = AUTOENCODERS.pop("float32")
LEFT_OUT = {
    # A weight counts as a repeated row only while all rows form one batch, none are held out
    # and the arithmetic is good for the seven digits that these checks ask for.
    "early stopping": ROW_EQUIVALENCE,
    "early stopping lbfgs": ROW_EQUIVALENCE,
    "small batches": ROW_EQUIVALENCE,
    "variational": ROW_EQUIVALENCE,
    # This model's predictions are float32 whatever X is. What is rounded depends on where in a
    # product a row stands, and these checks are for float64's rounding.
    "float32": ROW_EQUIVALENCE | FLOAT64_PREDICTIONS | OTHER_ROWS,
    "float32 errors": ROW_EQUIVALENCE | OTHER_ROWS,
    # These have none, and the check would skip itself.
    "hinge": PROBABILITIES,
    "squared hinge lbfgs": PROBABILITIES,
    # The checks have negative targets, and an autoencoder negative rows, also where the tags say
    # that none are taken.
    "poisson": NEGATIVE_TARGETS | NEGATIVE_ROWS,
    "poisson lbfgs": NEGATIVE_TARGETS,
    "scaled counts": NEGATIVE_TARGETS,
    "gamma": NEGATIVE_TARGETS,
    "tweedie": NEGATIVE_TARGETS,
    "quantiles": ONE_PREDICTION | NEGATIVE_TARGETS,
}


ESTIMATORS = {
    "classifier": (BackpropClassifier, CLASSIFIERS),
    "regressor": (BackpropRegressor, REGRESSORS),
    "autoencoder": (BackpropAutoencoder, AUTOENCODERS),
}
CONFIGURATIONS = [
    (kind, title) for kind, (_, configurations) in ESTIMATORS.items() for title in configurations
]
# The checks that fit and look at numbers. What an estimator says of itself, how it is copied, which
# errors it raises and which formats of sparse matrices it takes do not change with its settings.
OF_NUMBERS = {
    "check_estimators_dtypes",
    "check_estimators_pickle",
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_fit_idempotent",
    "check_fit2d_1sample",
    "check_fit2d_1feature",
    "check_classifiers_train",
    "check_classifiers_multilabel_representation_invariance",
    "check_decision_proba_consistency",
    "check_regressors_train",
    "check_regressor_multioutput",
    "check_transformer_general",
    "check_outliers_train",
    "check_outliers_fit_predict",
    "check_fit_non_negative",
}
N_EPOCHS = 15  # some stop early within them


def title_of(check):
    """Return the name of one of scikit-learn's checks, with its options."""
    return " ".join(
        [check.func.__name__, *(f"{key}={value}" for key, value in check.keywords.items())]
    )


def checks_of(kind, title):
    """Return an estimator's checks by name, but for those that are left out."""
    estimator_class, configurations = ESTIMATORS[kind]
    return {
        title_of(check): check
        for _, check in estimator_checks_generator(estimator_class(**configurations[title]))
        if check.func.__name__ not in LEFT_OUT.get(title, ())
    }


ALL_CHECKS = {configuration: checks_of(*configuration) for configuration in CONFIGURATIONS}
DEFAULTS = [configuration for configuration in CONFIGURATIONS if configuration[1] == "defaults"]


def each(configurations):
    return pytest.mark.parametrize("configuration", configurations, ids=": ".join)


def has_not(configuration, name):
    return name not in ALL_CHECKS[configuration]


def run(configuration, name, n_epochs=None):
    """Run one of scikit-learn's checks; a skip inside passes on only from the array API check."""
    kind, title = configuration
    estimator_class, configurations = ESTIMATORS[kind]
    estimator, check = estimator_class(**configurations[title]), ALL_CHECKS[configuration][name]
    try:
        check(for_check(estimator, check, n_epochs) if n_epochs else estimator)
    except SkipTest as skip:
        if not name.startswith(ARRAY_API):
            pytest.fail(f"{name} was skipped: {skip}")
        raise


@few_epochs
@pytest.mark.parametrize(
    "configuration, name",
    [
        pytest.param(
            *(own, name),
            id=f"{own[0]}: {name}",
            marks=[] if own[0] == "classifier" else pytest.mark.long,
        )
        for own in DEFAULTS
        for name in ALL_CHECKS[own]
    ],
)
def test_defaults_pass_every_check(configuration, name):
    run(configuration, name, N_EPOCHS)


@pytest.mark.long
@few_epochs
@pytest.mark.parametrize("name", sorted(OF_NUMBERS))
@each([configuration for configuration in CONFIGURATIONS if configuration not in DEFAULTS])
@pytest.mark.without.with_args(has_not)
def test_other_settings_pass_the_checks_of_numbers(configuration, name):
    run(configuration, name, N_EPOCHS)


@pytest.mark.full
@few_epochs
@each(CONFIGURATIONS)
def test_every_configuration_passes_every_check(configuration):
    for name in ALL_CHECKS[configuration]:
        if not name.startswith(ARRAY_API):
            np.random.seed(0)
            run(configuration, name)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_checks_chosen_or_left_out_by_name_exist(kind):
    estimator_class = ESTIMATORS[kind][0]
    names = {check.func.__name__ for _, check in estimator_checks_generator(estimator_class())}
    of_its_own = {
        "classifier": PROBABILITIES,
        "regressor": FLOAT64_PREDICTIONS | NEGATIVE_TARGETS | ONE_PREDICTION,
        "autoencoder": OTHER_ROWS | NEGATIVE_ROWS,
    }
    assert names >= ROW_EQUIVALENCE | {ARRAY_API} | of_its_own[kind]
    assert {name for checks in ALL_CHECKS.values() for name in checks} >= OF_NUMBERS


@few_epochs
@pytest.mark.parametrize(
    "estimator_class, method",
    [
        (BackpropClassifier, "decision_function"),
        (BackpropRegressor, "predict"),
        (BackpropAutoencoder, "transform"),
        (BackpropAutoencoder, "score_samples"),
    ],
)
def test_float32_outcomes_of_a_row_depend_on_other_rows_by_rounding_only(estimator_class, method):
    rng = np.random.RandomState(0)
    X = 3 * rng.uniform(size=(20, 3))
    model = estimator_class(dtype="float32", random_state=1, **SMALL).fit(X, np.arange(20) % 3)
    of_rows = getattr(model, method)
    whole, order = of_rows(X), rng.permutation(20)
    # A product adds up to twenty float32 terms, and errors are squares of what X is large as.
    atol = 20 * np.finfo(np.float32).eps * np.square(X).max()
    one_by_one = np.concatenate([of_rows(X[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(whole, one_by_one, rtol=0, atol=atol)
    np.testing.assert_allclose(whole[order], of_rows(X[order]), rtol=0, atol=atol)


@few_epochs
def test_many_outputs_where_the_check_was_left_out():
    X, Y = value_data(n_outputs=5)
    float32 = BackpropRegressor(dtype="float32", max_iter=5).fit(X, Y).predict(X)
    assert (float32.shape, float32.dtype) == (Y.shape, np.float32)
    for solver in ("adam", "lbfgs"):
        model = BackpropRegressor(loss="poisson", solver=solver, max_iter=30).fit(X, np.exp(Y))
        assert (model.predict(X).shape, model.predict(X).dtype) == (Y.shape, np.float64)
        assert (model.predict(X) > 0).all()


# ------------------------------------------------------------------ weights as numbers of rows

N_ROWS = 50
REPEATS = np.random.RandomState(3).randint(0, 4, size=N_ROWS)
REPEATS[:6] = [0, 2, 2, 1, 1, 1]  # weights 0 and 2 occur, and every class keeps a row

TARGETS = {
    "binary": (BackpropClassifier, {}, class_data(N_ROWS, n_classes=2)),
    "multiclass": (BackpropClassifier, {}, class_data(N_ROWS)),
    "multilabel": (BackpropClassifier, {}, label_data(N_ROWS)),
    **{
        loss: (BackpropClassifier, {"loss": loss}, class_data(N_ROWS))
        for loss in ("brier", "focal", "squared_hinge")
    },
    "smoothed": (BackpropClassifier, {"label_smoothing": 0.1}, class_data(N_ROWS)),
    "one output": (BackpropRegressor, {}, value_data(N_ROWS)),
    "three outputs": (BackpropRegressor, {}, value_data(N_ROWS, n_outputs=3)),
    "scaled targets": (BackpropRegressor, {"scale_target": True}, value_data(N_ROWS)),
    **{
        loss: (
            BackpropRegressor,
            {"loss": loss},
            (value_data(N_ROWS)[0], np.exp(0.3 * value_data(N_ROWS)[1])),
        )
        for loss in sorted({*REGRESSOR_LOSSES} - {"squared_error"})
    },
}
SOLVERS = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05, "max_iter": 30},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "max_iter": 30},
    "adam": {"solver": "adam", "learning_rate_init": 0.01, "max_iter": 30},
    "lbfgs": {"solver": "lbfgs", "max_iter": 15},
}


@few_epochs
@pytest.mark.parametrize("as_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("target", TARGETS)
def test_weight_counts_rows(target, solver, as_sparse):
    """Weights 0, 1, 2, 3 do what leaving out, keeping and repeating the rows does."""
    estimator_class, settings, (X, y) = TARGETS[target]
    # A large alpha, since the penalty is divided by the sum of the weights.
    settings = {"hidden_layer_sizes": (8,), "alpha": 1.0, "random_state": 7, **settings}
    settings |= SOLVERS[solver]
    rows = np.repeat(np.arange(N_ROWS), REPEATS)
    container = sparse.csr_array if as_sparse else np.asarray

    weighted = estimator_class(**settings).fit(container(X), y, sample_weight=REPEATS)
    repeated = estimator_class(**settings).fit(container(X[rows]), y[rows])

    assert_same_network(weighted, repeated, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-9)
    assert weighted.n_iter_ == repeated.n_iter_


@few_epochs
@BOTH
@pytest.mark.parametrize("dtype, rtol, atol", [("float32", 1e-3, 1e-4), (None, 1e-7, 1e-9)])
def test_weight_counts_rows_in_partial_fit_to_the_rounding(estimator_class, dtype, rtol, atol):
    X, y = class_data(N_ROWS)
    rows = np.repeat(np.arange(N_ROWS), REPEATS)
    weighted, repeated = (
        estimator_class((8,), alpha=1.0, dtype=dtype, random_state=7) for _ in range(2)
    )

    for _ in range(20):
        weighted.partial_fit(X, y, sample_weight=REPEATS, **classes_for(estimator_class))
        repeated.partial_fit(X[rows], y[rows], **classes_for(estimator_class))

    assert_same_network(weighted, repeated, rtol=rtol, atol=atol)


@BOTH
def test_equal_weights_without_penalty_are_no_weights(estimator_class):
    """Only the penalty sees the scale of the weights, since it is divided by their sum."""
    X, y = class_data(N_ROWS)
    settings = {"hidden_layer_sizes": (8,), "random_state": 7, "max_iter": 20, "alpha": 0}

    with pytest.warns(ConvergenceWarning):
        plain = estimator_class(**settings).fit(X, y)
        tripled = estimator_class(**settings).fit(X, y, sample_weight=np.full(N_ROWS, 3.0))

    assert_same_network(tripled, plain, rtol=1e-7, atol=1e-9)
