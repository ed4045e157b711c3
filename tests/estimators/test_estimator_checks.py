"""scikit-learn's own checks of estimators, in many configurations.

The defaults pass all of them, other settings those that touch numbers. No check is expected to
fail. The array API check skips itself and is left out. The second half holds sample weights to
their meaning in numbers: weight 2 is a repeated row, weight 0 a removed one.
"""

from unittest import SkipTest

import numpy as np
import pytest
from scipy import sparse
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
    assert_same_network,
    class_data,
    few_epochs,
    for_check,
    label_data,
    pairs,
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
        if check.func.__name__ not in {ARRAY_API, *LEFT_OUT.get(title, ())}
    }


ALL_CHECKS = {configuration: checks_of(*configuration) for configuration in CONFIGURATIONS}


@few_epochs
@pytest.mark.parametrize(
    "configuration, name",
    [
        pytest.param(configuration, name, id=f"{': '.join(configuration)}: {name}")
        for configuration, checks in ALL_CHECKS.items()
        for name in checks
        if configuration[1] == "defaults" or name in OF_NUMBERS
    ],
)
def test_it_passes_the_checks_of_scikit_learn(configuration, name):
    kind, title = configuration
    estimator_class, configurations = ESTIMATORS[kind]
    check = ALL_CHECKS[configuration][name]
    try:
        check(for_check(estimator_class(**configurations[title]), check, N_EPOCHS))
    except SkipTest as skip:
        pytest.fail(f"{name} was skipped: {skip}")


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
@pytest.mark.parametrize("target, solver, as_sparse", pairs([*TARGETS], [*SOLVERS], [False, True]))
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
