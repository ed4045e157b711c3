"""Grid and random search equal scikit-learn's, apart from their time.

The oracle is scikit-learn's search over the same estimator. Scores, ranks and the best candidate
are equal to the bit, at one BLAS thread.
"""

import copy
import inspect

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import loguniform, randint
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import accuracy_score, log_loss, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    PredefinedSplit,
    RandomizedSearchCV,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from skbackprop import (
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropHalvingRandomSearchCV,
    BackpropRandomizedSearchCV,
)
from skbackprop.activations import Logistic
from skbackprop.optimizers import SGD, Adam
from skbackprop.schedules import InverseScaling
from support import (
    NAMES,
    answers,
    assert_same_search,
    bits,
    class_data,
    few_epochs,
    label_data,
    outcome,
    quick,
    same_bits,
)

pytestmark = few_epochs

N = 41  # two splits of it differ in size
CLASSIFIER = quick(BackpropClassifier)
RATES = {"learning_rate_init": [0.001, 0.01, 0.1], "alpha": [0.0, 0.3]}
CLASSES = class_data(N)
WEIGHT = np.random.RandomState(0).uniform(0.1, 3, N) * (np.arange(N) % 5 > 0)
GROUPS = np.arange(N) % 7
TWO_PROCESSES = pytest.mark.filterwarnings("ignore::UserWarning:joblib")  # a slow start


def fitted(search_class, estimator=CLASSIFIER, grid=RATES, data=CLASSES, fit_params=None, **kw):
    """Return a fitted search, by default with two splits and training scores."""
    if issubclass(search_class, RandomizedSearchCV):
        kw = {"n_iter": 5, "random_state": 0, **kw}
    search = search_class(estimator, grid, **{"cv": 2, "return_train_score": True, **kw})
    return search.fit(*data, **fit_params or {})


def assert_search_equals(estimator=CLASSIFIER, grid=RATES, data=CLASSES, fit_params=None, **kw):
    """Assert that both grid searches have equal results, and return both."""
    pair = [
        fitted(kind, estimator, grid, data, fit_params, **kw)
        for kind in (BackpropGridSearchCV, GridSearchCV)
    ]
    assert_same_search(*pair)
    return pair


# ------------------------------------------------------------------------------- the same bits

SCALED = make_pipeline(StandardScaler(), PCA(), quick(BackpropClassifier))
LAST = "backpropclassifier__"
FRAME = pd.DataFrame(CLASSES[0], columns=NAMES), pd.Series(CLASSES[1]).map(list("abc").__getitem__)
STOPPING = {
    "early_stopping": True,
    "n_iter_no_change": 2,
    "max_iter": 15,
    "learning_rate_init": 0.05,
}


def case(grid, estimator=CLASSIFIER, data=CLASSES):
    return estimator, grid, data


CASES = {
    "binary": case(RATES, data=class_data(N, n_classes=2)),
    "multiclass": case(RATES),
    "multilabel": case(RATES, data=label_data(N)),
    "early stopping": case(
        {"early_stopping": [True, False], "validation_fraction": [0.1, 0.3], "tol": [1e-4, 0.5]},
        quick(BackpropClassifier, **STOPPING),
    ),
    "patience": case(
        {"n_iter_no_change": [1, 3, np.inf], "tol": [0.0, 0.1, 10.0]},
        quick(BackpropClassifier, max_iter=12),
    ),
    "seeds": case(
        {
            "random_state": [0, 1, np.random.RandomState(2)],
            "shuffle": [True, False],
            "alpha": [0, 1],
        }
    ),
    "sgd": case(
        {
            "learning_rate": ["constant", "adaptive", "invscaling"],
            "learning_rate_init": [0.1, 2e-6],  # the second is soon too small to go on
            "momentum": [0.0, 0.9],
            "nesterovs_momentum": [True, False],
        },
        quick(BackpropClassifier, solver="sgd", max_iter=10, n_iter_no_change=1, tol=0.05),
    ),
    "architectures": case(
        {
            "hidden_layer_sizes": [(), 3, (4, 3), [4, 3]],
            "activation": ["relu", "tanh"],
            "alpha": [0, 1],
        }
    ),
    "solvers": case({"solver": ["adam", "sgd", "lbfgs", Adam(beta_1=0.5), SGD()], "alpha": [0, 1]}),
    "dtypes": case(RATES | {"dtype": ["float32", "float64", None]}),
    "sparse": case(RATES, data=(sparse.csr_array(np.maximum(CLASSES[0], 0)), CLASSES[1])),
    "frame and words": case(RATES, data=FRAME),
    "members": case(RATES | {"n_estimators": [1, 3]}),
    "masks": case(RATES, quick(BackpropClassifier, dropout=0.3)),
    "objects": case(
        {
            "activation": [Logistic(), "relu"],
            "learning_rate": [InverseScaling(0.1), InverseScaling(0.3), "constant"],
            "alpha": [0, 1],
        }
    ),
    "list of grids": case(
        [
            RATES,
            {"hidden_layer_sizes": [(2,), (5,)]},
            {"solver": ["sgd"], "momentum": [0.5, 0.9]},
            {},
        ]
    ),
    "pipeline": case(
        {
            "standardscaler__with_std": [True, False],
            "pca__n_components": [2, 3],
            f"{LAST}alpha": [0, 1],
            f"{LAST}hidden_layer_sizes": [3, 5],
        },
        SCALED,
    ),
    "pipeline of a frame": case(
        {"pca__n_components": [2, None], f"{LAST}alpha": [0, 1]},
        clone(SCALED).set_output(transform="pandas"),
        FRAME,
    ),
    "steps": case(
        [
            {"standardscaler": [MinMaxScaler(), "passthrough", None], f"{LAST}alpha": [0, 1]},
            {"backpropclassifier": [quick(BackpropClassifier, solver="lbfgs"), SVC(), CLASSIFIER]},
            {"backpropclassifier": [CLASSIFIER], f"{LAST}alpha": [0, 1]},
        ],
        SCALED,
    ),
    "network within": case({"estimator__alpha": [0, 1]}, CalibratedClassifierCV(CLASSIFIER, cv=2)),
    "search within": case(
        {"estimator__learning_rate_init": [0.01, 0.1]},
        BackpropGridSearchCV(CLASSIFIER, {"alpha": [0, 1]}, cv=2),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_grid_search_matches_scikit_learn_to_the_bit(case):
    estimator, grid, data = CASES[case]
    ours, theirs = assert_search_equals(estimator, grid, data, scoring=bits)
    for actual, expected in zip(
        answers(ours.best_estimator_, data[0]),
        answers(theirs.best_estimator_, data[0]),
        strict=True,
    ):
        np.testing.assert_array_equal(actual, expected, strict=True)


@pytest.mark.parametrize("weight", [WEIGHT, WEIGHT.tolist(), None])
@pytest.mark.parametrize("estimator", [CLASSIFIER, quick(BackpropClassifier, **STOPPING)])
def test_splits_sample_weights(estimator, weight):
    assert_search_equals(estimator, fit_params={"sample_weight": weight}, scoring="neg_log_loss")


def test_splits_arguments_of_pipeline_steps():
    weights = {"standardscaler__sample_weight": WEIGHT, f"{LAST}sample_weight": WEIGHT[::-1]}
    grid = {f"{LAST}alpha": [0, 1], "pca__n_components": [2, 3]}
    weighted, _ = assert_search_equals(SCALED, grid, fit_params=weights, scoring=bits)
    plain = fitted(BackpropGridSearchCV, SCALED, grid, scoring=bits)
    scores = [search.cv_results_["mean_test_score"] for search in (weighted, plain)]
    assert (scores[0] != scores[1]).all()


@pytest.mark.parametrize("random_state", [0, None, np.random.RandomState(0)])
@pytest.mark.parametrize("estimator", [CLASSIFIER, SCALED], ids=["network", "pipeline"])
def test_random_search_draws_the_candidates_of_scikit_learn(estimator, random_state):
    """Without a seed, candidates are drawn from NumPy's global generator."""
    rates, sizes = loguniform(1e-3, 0.1), randint(2, 5)
    distributions = {"learning_rate_init": rates, "hidden_layer_sizes": sizes}
    if estimator is SCALED:
        distributions = [
            {f"{LAST}learning_rate_init": rates, "pca__n_components": [2, 3]},
            {f"{LAST}solver": ["sgd", "lbfgs"], f"{LAST}alpha": loguniform(1e-3, 1)},
        ]
    found = []
    for kind in (BackpropRandomizedSearchCV, RandomizedSearchCV):
        np.random.seed(0)
        own = copy.deepcopy(random_state)
        found.append(fitted(kind, estimator, distributions, random_state=own, scoring=bits))
    assert_same_search(*found)


def test_networks_without_a_seed_differ():
    network, grid = quick(BackpropClassifier, random_state=None), {"alpha": [0.3] * 6}
    search = fitted(BackpropGridSearchCV, network, grid, scoring=bits)
    assert len(set(search.cv_results_["mean_test_score"])) == 6


# ---------------------------------------------------------------------------------- drop-ins


HALVING = {"resource": "max_iter", "min_resources": 2, "max_resources": 5, "random_state": 0}
DROP_INS = pytest.mark.parametrize(
    "ours, theirs, settings",
    [
        (BackpropGridSearchCV, GridSearchCV, {}),
        (BackpropRandomizedSearchCV, RandomizedSearchCV, {}),
        (BackpropHalvingGridSearchCV, HalvingGridSearchCV, HALVING),
        (BackpropHalvingRandomSearchCV, HalvingRandomSearchCV, HALVING),
    ],
    ids=["grid", "random", "halving grid", "halving random"],
)


@DROP_INS
def test_constructor_has_the_parameters_of_scikit_learn(ours, theirs, settings):
    mine, others = (list(inspect.signature(kind).parameters.values()) for kind in (ours, theirs))
    assert [(p.name, p.kind) for p in mine] == [(p.name, p.kind) for p in others]
    pairs = zip(mine, others, strict=True)
    differ = [a.name for a, b in pairs if str(a.default) != str(b.default)]
    assert differ == (["resource"] if settings else [])
    assert issubclass(ours, theirs)


@DROP_INS
@pytest.mark.parametrize("refit", [True, False])
def test_attributes_are_those_of_scikit_learn(ours, theirs, settings, refit):
    found = [fitted(kind, data=FRAME, refit=refit, **settings) for kind in (ours, theirs)]
    public = [{name for name in vars(search) if name[0] != "_"} for search in found]
    assert public[0] == public[1]
    for search in found:
        assert hasattr(search, "classes_") == hasattr(search, "feature_names_in_") == refit
    assert not hasattr(found[0].fit(*CLASSES), "feature_names_in_")


def metrics_by_name(estimator, X, y):
    predicted = estimator.predict(X)
    return {"accuracy": accuracy_score(y, predicted), "first": float(np.mean(predicted == 0))}


def second(results):
    return 1


@pytest.mark.parametrize(
    "scoring, refit",
    [
        (None, True),
        (None, second),
        ("neg_log_loss", False),
        (make_scorer(log_loss, response_method="predict_proba", greater_is_better=False), True),
        (lambda estimator, X, y: len(X), True),
        (["accuracy", "neg_log_loss"], "neg_log_loss"),
        (["accuracy", "neg_log_loss"], False),
        ({"a": "accuracy", "b": bits}, "b"),
        (metrics_by_name, "first"),
        (metrics_by_name, False),
        (metrics_by_name, second),
    ],
)
def test_scoring_and_refit(scoring, refit):
    ours, theirs = assert_search_equals(scoring=scoring, refit=refit)
    assert str(ours.scorer_) == str(theirs.scorer_)
    if refit:
        assert same_bits(ours.best_estimator_, theirs.best_estimator_)
        if refit is not second:
            assert ours.score(*CLASSES) == theirs.score(*CLASSES)


HALVES = [(np.arange(0, N - 1), [N - 1, 3]), (np.arange(10, 20), np.arange(30))]
SPLITTERS = {
    "number": (3, {}),
    "splitter": (KFold(3, shuffle=True, random_state=0), {}),
    "repeated": (RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0), {}),
    "groups": (GroupKFold(3), {"groups": GROUPS}),
    "predefined": (PredefinedSplit(np.arange(N) % 3 - 1), {}),
    "rows": (HALVES, {}),
    "ranges": ([(range(20), range(20, N)), (range(5, N), range(5))], {}),
    "masks": ([(np.arange(N) < 25, np.arange(N) >= 25)], {}),
}


@pytest.mark.parametrize(
    "case, data",
    [
        *(pytest.param(case, CLASSES, id=case) for case in SPLITTERS),
        *(pytest.param(case, FRAME, id=f"{case}, frame") for case in ("number", "rows", "ranges")),
    ],
)
def test_any_splitter(case, data):
    cv, fit_params = SPLITTERS[case]
    assert_search_equals(data=data, cv=cv, fit_params=fit_params, scoring=bits)


def test_splits_that_change_with_each_call_are_drawn_once():
    found = []
    for kind in (BackpropGridSearchCV, GridSearchCV):
        np.random.seed(0)
        found.append(fitted(kind, cv=ShuffleSplit(3, test_size=0.3), scoring=bits))
    assert_same_search(*found)


@pytest.mark.parametrize(
    "estimator, grid, changes",
    [
        (BackpropClassifier, RATES, {}),
        (CLASSIFIER, {"alfa": [1]}, {}),
        (CLASSIFIER, RATES, {"cv": "three"}),
        (CLASSIFIER, RATES, {"cv": 100}),
        (CLASSIFIER, RATES, {"scoring": "beauty"}),
        (CLASSIFIER, RATES, {"error_score": "ignore"}),
        (CLASSIFIER, RATES, {"n_jobs": 0}),
        (CLASSIFIER, RATES, {"scoring": lambda estimator, X, y: "good"}),
        (CLASSIFIER, RATES, {"scoring": ["accuracy", "neg_log_loss"]}),
        (CLASSIFIER, RATES, {"scoring": metrics_by_name}),
    ],
)
def test_errors_match_scikit_learn(estimator, grid, changes):
    ours, theirs = (
        kind(estimator, grid, **changes) for kind in (BackpropGridSearchCV, GridSearchCV)
    )
    kinds = {outcome(search, *CLASSES)[0] for search in (ours, theirs)}
    assert len(kinds) == 1 and issubclass(*kinds, Exception)


# -------------------------------------------------------------------------- metadata routing


def routed_classifier():
    network = quick(BackpropClassifier).set_fit_request(sample_weight=True)
    return network.set_score_request(sample_weight=True)


@pytest.mark.usefixtures("routing")
def test_weights_and_groups_are_routed():
    metadata = {"sample_weight": WEIGHT, "groups": GROUPS}
    assert_search_equals(routed_classifier(), RATES, fit_params=metadata, cv=GroupKFold(3))


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("to_scaler", [True, False])
def test_weights_are_routed_into_a_pipeline(to_scaler):
    scaler = StandardScaler().set_fit_request(sample_weight=to_scaler)
    model = make_pipeline(scaler, routed_classifier())
    grid = {"backpropclassifier__alpha": [0, 1], "standardscaler__with_mean": [True, False]}
    scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
    metadata = {"sample_weight": WEIGHT}
    assert_search_equals(model, grid, fit_params=metadata, scoring=scorer)
    ours, theirs = (
        fitted(kind, model, grid, fit_params=metadata, scoring=scorer).best_estimator_[0].mean_
        for kind in (BackpropGridSearchCV, GridSearchCV)
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.usefixtures("routing")
def test_weights_are_routed_by_another_name():
    model = quick(BackpropClassifier).set_fit_request(sample_weight="by_row")
    model.set_score_request(sample_weight="by_row")
    assert_search_equals(model, fit_params={"by_row": WEIGHT})


@pytest.mark.usefixtures("routing")
def test_raises_on_metadata_that_is_not_requested():
    for kind in (BackpropGridSearchCV, GridSearchCV):
        with pytest.raises(ValueError, match="sample_weight"):
            fitted(kind, fit_params={"sample_weight": WEIGHT})


# --------------------------------------------------------------------------------- processes


@pytest.mark.usefixtures("routing")
def test_search_is_routed_to_from_outside():
    scores = [
        cross_validate(
            kind(routed_classifier(), RATES, cv=2),
            *CLASSES,
            cv=GroupKFold(2),
            params={"sample_weight": WEIGHT, "groups": GROUPS},
        )["test_score"]
        for kind in (BackpropGridSearchCV, GridSearchCV)
    ]
    np.testing.assert_array_equal(*scores)


@TWO_PROCESSES
@pytest.mark.parametrize("case", ["early stopping", "pipeline", "steps"])
def test_two_processes_give_equal_results(case):
    alone, paired = (
        fitted(BackpropGridSearchCV, *CASES[case], scoring=bits, n_jobs=n_jobs) for n_jobs in (1, 2)
    )
    assert_same_search(paired, alone)


# -------------------------------------------------------------------------- failing searches


@pytest.mark.parametrize(
    "changes",
    [
        {"param_grid": {"alpha": [-1]}},
        {"refit": lambda results: 1 / 0},
        {"param_grid": {"alpha": [0, -1]}, "error_score": "raise"},
    ],
    ids=["all candidates", "the choice of the best", "an error raised"],
)
def test_failing_search_is_left_unchanged(changes):
    search = BackpropGridSearchCV(CLASSIFIER, RATES, cv=2).fit(*CLASSES)
    before = vars(search.set_params(**changes)).copy()
    with pytest.raises((ValueError, ZeroDivisionError)):
        search.fit(*CLASSES)
    assert vars(search) == before
