"""Candidates of a search train in stacks, and their transformers are fitted once.

Scores do not show that, so the networks in each epoch of a stack and the fits of a transformer are
counted. The oracle of the scores is scikit-learn's search.
"""

import time
from typing import ClassVar

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA, KernelPCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
)
from skbackprop.activations import LeakyRelu
from skbackprop.initializers import VarianceScaling
from skbackprop.layers import BatchNormalization
from skbackprop.losses import Focal
from skbackprop.optimizers import SGD, AdamW
from skbackprop.schedules import LinearWarmup
from skbackprop.weight_averaging import ExponentialMovingAverage, PolyakAverage
from support import assert_same_search, bits, class_data, few_epochs, quick, value_data

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

N, N_EPOCHS = 41, 5  # of each network
X, Y = class_data(N)
NETWORK = quick(BackpropClassifier, max_iter=N_EPOCHS, n_iter_no_change=np.inf)
LAST = "backpropclassifier__"
RATES = {"learning_rate_init": [0.001, 0.01, 0.1], "alpha": [0.0, 0.3]}
SCALED_RATES = {f"{LAST}{name}": values for name, values in RATES.items()}


def fit_both(estimator, grid, data=(X, Y), **settings):
    """Return our search and scikit-learn's, after comparing them."""
    settings = {"cv": 2, "scoring": bits, "return_train_score": True, **settings}
    kinds = BackpropGridSearchCV, GridSearchCV
    ours, theirs = (kind(estimator, grid, **settings).fit(*data) for kind in kinds)
    assert_same_search(ours, theirs)
    return ours, theirs


# ----------------------------------------------------------------------------------- stacks


class Derived(BackpropClassifier):
    """A subclass that trains like its base class."""

    def predict(self, X):
        return super().predict(X)


@pytest.mark.parametrize("in_pipeline", [False, True])
@pytest.mark.parametrize(
    "kind", [BackpropClassifier, BackpropRegressor, BackpropAutoencoder, Derived]
)
def test_candidates_of_one_architecture_train_as_one_stack(kind, in_pipeline, stack_sizes):
    """Twelve networks: six candidates on two splits."""
    y = {BackpropRegressor: value_data(N)[1], BackpropAutoencoder: None}.get(kind, Y)
    estimator = quick(kind, max_iter=N_EPOCHS, n_iter_no_change=np.inf)
    grid = RATES
    if in_pipeline:
        estimator = make_pipeline(StandardScaler(), estimator)
        grid = {f"{kind.__name__.lower()}__{name}": values for name, values in RATES.items()}
    BackpropGridSearchCV(estimator, grid, cv=2).fit(X, y)
    # The last are the best one's, on all data.
    assert stack_sizes == [12] * N_EPOCHS + [1] * N_EPOCHS


def test_each_split_of_many_candidates_is_a_stack(stack_sizes):
    BackpropGridSearchCV(NETWORK, RATES | {"beta_1": [0.8, 0.9]}, cv=2, refit=False).fit(X, Y)
    assert stack_sizes == [12] * 2 * N_EPOCHS


@pytest.mark.parametrize("in_pipeline", [False, True])
@pytest.mark.parametrize(
    "grid, n_stacks",
    [
        ({"solver__weight_decay": [0.0, 0.1, 1.0], "solver__beta_1": [0.5, 0.9]}, 1),
        (
            {
                "learning_rate__schedule__final_factor": [0.1, 0.2, 0.3],
                "solver__epsilon": [1e-8, 1e-3],
            },
            1,
        ),
        ({"average__decay": [0.5, 0.6, 0.7], "alpha": [0.0, 0.3]}, 1),
        ({"average": [None, "polyak", PolyakAverage(50)], "solver__beta_2": [0.9, 0.99]}, 2),
        ({"activation__negative_slope": [0.1, 0.2], "alpha": [0.0, 0.3, 0.5]}, 2),
        ({"loss__gamma": [1.0, 2.0], "solver__beta_1": [0.5, 0.7, 0.9]}, 2),
        ({"time_limit": [1e5, 1e6], "alpha": [0.0, 0.3, 0.5]}, 2),
        ({"solver": [SGD(), SGD(0.5), SGD(0.0, False)], "solver__momentum": [0.6, 0.7]}, 2),
        ({"normalization__momentum": [0.5, 0.9], "init__scale": [1.0, 2.0, 3.0]}, 2),
    ],
    ids=lambda value: " and ".join(value) if isinstance(value, dict) else "",
)
def test_candidates_with_different_settings_train_in_stacks(
    grid, n_stacks, in_pipeline, stack_sizes
):
    """Settings of steps and initial weights may differ within a stack, others not."""
    estimator = clone(NETWORK).set_params(
        solver=AdamW(),
        learning_rate=LinearWarmup("cosine"),
        average=ExponentialMovingAverage(),
        activation=LeakyRelu(),
        loss=Focal(),
        normalization=BatchNormalization(),
        init=VarianceScaling(),
    )
    if in_pipeline:
        estimator = make_pipeline(StandardScaler(), estimator)
        grid = {f"{LAST}{name}": values for name, values in grid.items()}
    settings = {"cv": 2, "refit": False}
    ours = BackpropGridSearchCV(estimator, grid, **settings).fit(X, Y)
    assert len(stack_sizes) == n_stacks * N_EPOCHS
    assert sum(stack_sizes) == 12 * N_EPOCHS
    assert_same_search(ours, GridSearchCV(estimator, grid, **settings).fit(X, Y))


def test_candidates_may_differ_in_how_they_encode_the_targets():
    network = quick(BackpropRegressor, max_iter=2, n_iter_no_change=np.inf)
    grid = {"scale_target": [False, True], "loss": ["squared_error", "poisson"]}
    fit_both(network, grid, (X, np.abs(value_data(N)[1])), refit=False)


def test_large_networks_train_alone(stack_sizes):
    """So few of them would fit into a stack that it would not be faster."""
    settings = {"hidden_layer_sizes": (300, 300), "learning_rate_init": 0.3}
    network = clone(NETWORK).set_params(max_iter=3, **settings)
    fit_both(network, {"early_stopping": [False, True], "alpha": [0.0, 0.1]}, refit=False)
    assert set(stack_sizes) == {1}


class Nearby:
    """Try three rates, then the best one with more penalties on other splits."""

    def _run_search(self, evaluate_candidates):
        name = f"{LAST}learning_rate_init"
        rates = [{name: rate} for rate in (0.001, 0.01, 0.1)]
        found = evaluate_candidates(rates, more_results={"round": [1, 1, 1]})
        best = found["params"][np.argmin(found["rank_test_score"])]
        penalties = [best | {f"{LAST}alpha": alpha} for alpha in (0.0, 0.1, 1.0)]
        splits = KFold(self.n_splits_, shuffle=True, random_state=1)
        evaluate_candidates(iter(penalties), splits, more_results={"round": [2, 2, 2]})


def test_strategy_may_evaluate_candidates_twice(stack_sizes):
    """Whatever `_run_search` of a subclass evaluates trains in stacks."""
    ours, theirs = (
        type("Search", (Nearby, parent), {})(
            make_pipeline(StandardScaler(), NETWORK), {}, cv=3, scoring=bits, refit=False
        ).fit(X, Y)
        for parent in (BackpropGridSearchCV, GridSearchCV)
    )
    assert_same_search(ours, theirs)
    assert ours.cv_results_["round"].tolist() == [1, 1, 1, 2, 2, 2]
    assert stack_sizes[: 2 * N_EPOCHS] == [9] * 2 * N_EPOCHS


# ------------------------------------------------------------------------------ transformers


class Noted(TransformerMixin, BaseEstimator):
    """Multiply X by a factor, and record every fit."""

    fits: ClassVar[list] = []

    def __init__(self, factor=1):
        self.factor = factor

    def fit(self, X, y=None):
        self.fits.append((self.factor, len(X)))
        return self

    def transform(self, X):
        return self.factor * X

    def __sklearn_is_fitted__(self):
        return True


@pytest.fixture
def fits():
    Noted.fits.clear()
    return Noted.fits


@pytest.mark.parametrize("hidden", [[(3,), (4, 4)], [(2 + i,) for i in range(6)]])
def test_transformers_are_fitted_once_for_each_split_and_setting(fits, hidden):
    grid = {"noted__factor": [1, 2], f"{LAST}alpha": [0, 1, 2], f"{LAST}hidden_layer_sizes": hidden}
    search = BackpropGridSearchCV(make_pipeline(Noted(), NETWORK), grid, cv=KFold(3)).fit(X, Y)
    in_search, refit = fits[:-1], fits[-1]
    assert sorted(in_search) == [(1, 27), (1, 27), (1, 28), (2, 27), (2, 27), (2, 28)]
    assert refit == (search.best_params_["noted__factor"], N)


def test_searched_steps_are_settings(fits):
    steps = [Noted(2), Noted(3)]
    grid = {"noted": steps, "backpropclassifier": [NETWORK, quick(BackpropClassifier, alpha=1)]}
    BackpropGridSearchCV(make_pipeline(Noted(), NETWORK), grid, cv=2, refit=False).fit(X, Y)
    assert sorted(factor for factor, _ in fits) == [2, 2, 3, 3]


class Shifting(TransformerMixin, BaseEstimator):
    """Subtract one, in a copy or in place, and record the calls of `transform`."""

    calls: ClassVar[list] = []

    def __init__(self, in_place=False):
        self.in_place = in_place

    def fit(self, X, y=None):
        return self

    def transform(self, X, by=1):
        self.calls.append((self.in_place, X.shape[0]))
        X = X if self.in_place else X.copy()
        values = X.data if sparse.issparse(X) else X
        values -= by
        return X

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.parametrize("to_rows", [np.array, pd.DataFrame, sparse.csr_array])
def test_equal_rows_are_transformed_once(to_rows):
    """Transformers that overwrite their input are called each time, as by scikit-learn."""
    model = make_pipeline(Shifting(), Shifting(in_place=True), NETWORK)
    grid, data = {f"{LAST}alpha": [0, 1, 2]}, (to_rows(X), Y)
    fit_both(model, grid, data, return_train_score=False)
    Shifting.calls.clear()
    BackpropGridSearchCV(model, grid, cv=KFold(2), refit=False).fit(*data)
    in_fits = [(in_place, n) for n in (20, 21) for in_place in (False, True)]
    in_scores = [(False, 20), (False, 21), *[(True, 20), (True, 21)] * 3]
    assert sorted(Shifting.calls) == sorted(in_fits + in_scores)


def sum_of_transforms(model, X, y):
    sums = [model[0].transform(X).sum(), 2 * model[0].transform(X, by=2).sum()]
    X += 1  # the same array with other rows
    return sum(sums) + 4 * model[0].transform(X).sum()


def test_other_rows_in_the_same_array_and_other_arguments_are_transformed_anew():
    model, grid = make_pipeline(Shifting(), NETWORK), {f"{LAST}alpha": [0, 1]}
    fit_both(model, grid, scoring=sum_of_transforms, return_train_score=False, refit=False)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the:UserWarning")
@pytest.mark.parametrize(
    "estimator, grid, data",
    [
        (make_pipeline(PCA(), NETWORK), {"pca__n_components": [1, 1.0]}, (X, Y)),
        (
            make_pipeline(CountVectorizer(), NETWORK),
            # The fraction 1.0 of the texts is all of them, the number 1 is one.
            {"countvectorizer__max_df": [1.0, 1]},
            (np.array(["good great one", "bad poor one"] * 15 + ["one"]), np.arange(31) % 2),
        ),
    ],
    ids=["PCA", "CountVectorizer"],
)
def test_settings_of_transformers_that_are_equal_but_of_another_type(estimator, grid, data):
    fit_both(estimator, grid, data)


@pytest.mark.parametrize("drawn", [0, np.random.RandomState(0)])
def test_transformers_draw_the_random_numbers_of_scikit_learn(drawn):
    model = make_pipeline(PCA(2, svd_solver="randomized", random_state=drawn), NETWORK)
    fit_both(model, {f"{LAST}alpha": [0, 1]})


class Remembering(Pipeline):
    """A pipeline whose fit takes every second row."""

    def fit(self, X, y=None, **params):
        self.n_rows_ = len(X)
        return super().fit(X[::2], y[::2], **params)

    def score(self, X, y):
        return float(self.n_rows_)


class Asking(Pipeline):
    """A pipeline whose fit needs the network."""

    def fit(self, X, y=None, **params):
        super().fit(X, y, **params)
        self.share_ = float(np.mean(self.predict(X) == 0))
        return self

    def score(self, X, y):
        return self.share_


@pytest.mark.parametrize("kind", [Remembering, Asking])
@pytest.mark.parametrize("scoring", [None, bits])
def test_subclass_of_pipeline_is_fitted_by_its_own_fit(kind, scoring):
    model = kind([("scaler", StandardScaler()), ("network", NETWORK)])
    fit_both(model, {"network__alpha": [0, 1], "scaler__with_std": [True, False]}, scoring=scoring)


@pytest.mark.parametrize("kernel", ["precomputed", "linear"])
def test_searched_kernel_determines_how_x_is_split(kernel):
    """A precomputed kernel is split by rows and columns."""
    model = make_pipeline(KernelPCA(2, kernel=kernel), NETWORK)
    grid = {"kernelpca__kernel": ["precomputed", "linear"], f"{LAST}alpha": [0, 1]}
    fit_both(model, grid, (X @ X.T, Y))


# --------------------------------------------------------------------------- what scorers get


class OwnFit(BackpropClassifier):
    def fit(self, X, y, sample_weight=None):
        return super().fit(-X, y, sample_weight)


class OwnScore(BackpropClassifier):
    def score(self, X, y, sample_weight=None):
        return 2 * super().score(X, y, sample_weight)


@pytest.mark.parametrize("kind", [OwnFit, OwnScore])
def test_subclass_with_its_own_method_is_used(kind):
    fit_both(quick(kind), RATES, scoring=None)
    fit_both(quick(kind), RATES)


def whole_pipeline(estimator, X, y):
    """A user-defined scorer that uses attributes of the estimator."""
    assert type(estimator) is Pipeline and type(estimator[-1]) is BackpropClassifier
    assert estimator.get_params()[f"{LAST}alpha"] in RATES["alpha"]
    losses = estimator[-1].loss_curve_
    return accuracy_score(y, estimator.predict(X)) + estimator[0].mean_[0] + sum(losses)


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.filterwarnings("ignore::UserWarning:joblib")  # a slow start of processes
def test_scorers_get_the_users_estimator(n_jobs):
    scoring = {"own": whole_pipeline, "accuracy": "accuracy"}
    model = make_pipeline(StandardScaler(), NETWORK)
    fit_both(model, SCALED_RATES, scoring=scoring, refit="own", n_jobs=n_jobs)


def test_parameters_in_the_grid_do_not_change():
    init = [np.ones((4, 5)), np.ones((5, 3))], [np.ones(5), np.ones(3)]
    search = BackpropGridSearchCV(NETWORK, {"init": [init], "alpha": [0, 1]}, cv=2).fit(X, Y)
    assert all((array == 1).all() for arrays in init for array in arrays)
    assert type(search.best_params_) is dict
    assert {type(each) for each in search.cv_results_["params"]} == {dict}
    assert search.best_params_ is search.cv_results_["params"][search.best_index_]


def test_candidates_share_the_time_of_their_stack():
    start, network = time.perf_counter(), clone(NETWORK).set_params(max_iter=200)
    found = BackpropGridSearchCV(network, RATES, cv=2, refit=False).fit(X, Y).cv_results_
    assert (found["mean_fit_time"] > 0).all()
    assert 2 * found["mean_fit_time"].sum() < time.perf_counter() - start


# ------------------------------------------------------------------------- printing, workers


def test_verbose_prints_the_progress_of_stacks(capsys):
    grid = {"backpropclassifier": [NETWORK, OwnFit(max_iter=1)], f"{LAST}alpha": [0, 1, 2]}
    model = make_pipeline(StandardScaler(), NETWORK)
    BackpropGridSearchCV(model, grid, cv=2, refit=False, verbose=1).fit(X, Y)
    assert capsys.readouterr().out.splitlines() == [
        "3 of 6 candidates train in stacks.",
        "epoch 5, 0 of 6 networks left",
        "Fitting 2 folds for each of 6 candidates, totalling 12 fits",
    ]
    BackpropGridSearchCV(model, grid, cv=2).fit(X, Y)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:joblib")  # a slow start of processes
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_workers_of_any_backend_give_equal_results(backend):
    """A transformer made of a lambda can only be pickled by joblib."""
    doubled = FunctionTransformer(lambda rows: 2 * rows)
    grid = [SCALED_RATES, {f"{LAST}solver": ["lbfgs"], f"{LAST}hidden_layer_sizes": [3, 4]}]
    model = make_pipeline(StandardScaler(), doubled, NETWORK)
    expected = GridSearchCV(model, grid, cv=3, scoring=bits).fit(X, Y)
    with joblib.parallel_config(backend, n_jobs=2):
        actual = BackpropGridSearchCV(model, grid, cv=3, scoring=bits).fit(X, Y)
    assert_same_search(actual, expected)
