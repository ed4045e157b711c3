"""L-BFGS minimizes the objective over all rows, in blocks, whether named or given as an object.

It records a loss an iteration, stops early, and can be interrupted.
"""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from scipy import optimize
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from skbackprop.losses import ClassifierLoss, Poisson, SquaredError
from skbackprop.nn.prediction import predict_raw
from skbackprop.nn.stack import L2, Stack
from skbackprop.nn.train_state import TrainState
from skbackprop.optimizers import LBFGS
from skbackprop.testing import check_gradient
from skbackprop.training.epochs import Members
from skbackprop.training.lbfgs import FullBatchObjective, train_by_lbfgs
from support import (
    BOTH,
    assert_same_network,
    data_for,
    few_epochs,
    interrupt,
    peak_of,
    quick,
    same_bits,
    value_data,
)
from support import some_parameters as some_weights
from support.stacks import (
    KINDS_OF_ROWS,
    LOSSES,
    NETWORK,
    in_turn,
    losses_of,
    make_config,
    some_parameters,
    some_table,
)

pytestmark = few_epochs

EACH = [BackpropClassifier, BackpropRegressor, BackpropAutoencoder]
every_loss = pytest.mark.parametrize("loss, rows", in_turn(LOSSES.values(), KINDS_OF_ROWS), ids=str)


@every_loss
def test_sums_over_blocks_of_rows_are_the_whole(loss, rows):
    order = np.random.RandomState(0).permutation(23)[:20]
    table = some_table(loss, 23, NETWORK.widths, **rows)
    start = some_parameters(NETWORK, [0]).theta[0]

    def in_blocks_of(row_block):
        state = TrainState.initial(some_parameters(NETWORK, [0]), orders=[order])
        config = make_config(loss, penalty=L2(0.4), batch_size=row_block)
        return FullBatchObjective(Stack(NETWORK, loss, config, [table], state, mean_over="epoch"))

    whole = in_blocks_of(1000)
    value, gradient = whole(start)
    check_gradient(whole, start, n_directions=3)
    for row_block in (1, 7, 10):
        of_blocks = in_blocks_of(row_block)(start)
        assert of_blocks[0] == pytest.approx(value, rel=1e-13)
        np.testing.assert_allclose(of_blocks[1], gradient, rtol=1e-11, atol=1e-14)


@every_loss
def test_the_loss_of_several_targets_is_reported_as_their_mean(loss, rows):
    """Worked from the scores of the last iteration; labels and counts are added up instead."""
    table = some_table(loss, 23, NETWORK.widths, **rows)
    config = make_config(loss, penalty=L2(0.4), solver=LBFGS(), max_iter=5, gtol=0.0)
    start = TrainState.initial(some_parameters(NETWORK, [0]))
    members = Members(NETWORK, loss, config, [table], [None], start, np.array([0]))
    *_, get_state = train_by_lbfgs(members)
    state = get_state()
    parameters = state.parameters
    weight = np.ones(23) if table.weight is None else table.weight
    is_by_target = weight.ndim == 2
    value = loss.value_per_target if is_by_target else loss.value
    values = value(predict_raw(NETWORK, parameters, table.X), table.y[None])[0]
    is_added_up = isinstance(loss, (ClassifierLoss, Poisson))
    n_targets = 1 if is_added_up else NETWORK.widths[-1] // loss.n_outputs_per_target
    total = weight.mean(axis=1).sum() if is_by_target else weight.sum()
    penalty = 0.2 * np.square(parameters.regularized).sum() / total
    expected = (values * weight).sum() / total / n_targets + penalty
    assert losses_of(state)[0][-1] == pytest.approx(expected, rel=1e-12)
    assert state.loss.item() == losses_of(state)[0][-1]


# ----------------------------------------------------------------------- in the estimators


def linear(**settings):
    return BackpropRegressor((), alpha=0.0, tol=1e-10, random_state=0, **settings)


@pytest.mark.parametrize("n_corrections", [1, 3, 10])
def test_n_corrections_is_maxcor_of_scipy(n_corrections):
    """The same iterations as by SciPy on least squares written out; ten is its default."""
    X, y = value_data()
    design, theta = np.column_stack([X, np.ones(len(X))]), np.arange(5) / 5

    def half_square(theta):
        residual = design @ theta - y
        return residual @ residual / (2 * len(y)), design.T @ residual / len(y)

    options = {"maxcor": n_corrections, "maxiter": 4}
    theirs = optimize.minimize(half_square, theta, method="L-BFGS-B", jac=True, options=options)
    init = [theta[:4, None]], [theta[4:]]
    model = linear(solver=LBFGS(n_corrections=n_corrections), init=init, max_iter=4).fit(X, y)
    found = [*model.coefs_[0].ravel(), *model.intercepts_[0]]
    np.testing.assert_allclose(found, theirs.x, rtol=1e-8)


# ---------------------------------------------------------------------- minima and iterations

N_ROWS, N_FEATURES = 60, 4


def test_lbfgs_finds_the_minimum_for_many_outputs():
    """Without a hidden layer it is a ridge regression, which has a closed form."""
    X, Y = value_data(100, 5, n_outputs=10)
    ridge = Ridge(alpha=10).fit(X, Y)
    regressor = BackpropRegressor(
        hidden_layer_sizes=(), solver="lbfgs", alpha=10, tol=1e-6, random_state=0
    ).fit(X, Y)
    np.testing.assert_allclose(regressor.coefs_[0], ridge.coef_.T, atol=1e-4)


@BOTH
def test_lbfgs_keeps_a_loss_an_iteration(estimator_class):
    data = data_for(estimator_class, N_ROWS)
    estimator = estimator_class(solver="lbfgs", max_iter=15, random_state=0).fit(*data)
    assert len(estimator.loss_curve_) == estimator.n_iter_ == 15
    assert all(after < before for before, after in pairwise(estimator.loss_curve_))
    assert estimator.loss_curve_[-1] == estimator.loss_
    for k in (1, 7):  # each is the loss of the weights after that iteration
        shorter = estimator_class(solver="lbfgs", max_iter=k, random_state=0).fit(*data)
        assert shorter.loss_ == pytest.approx(estimator.loss_curve_[k - 1], rel=1e-9)


@BOTH
def test_lbfgs_stops_early(estimator_class):
    """Pure noise, of which the rows held out can't but notice."""
    rng = np.random.RandomState(1)
    X, y = rng.randn(300, 10), rng.randint(3, size=300)
    settings = {"solver": "lbfgs", "early_stopping": True, "validation_fraction": 0.25}
    settings |= {"hidden_layer_sizes": (10,), "max_iter": 300, "n_iter_no_change": 2}
    settings |= {"random_state": 0, "alpha": 0.0}
    estimator = estimator_class(**settings).fit(X, y)
    scores = estimator.validation_scores_
    assert estimator.n_iter_ == len(scores) == len(estimator.loss_curve_) < 300
    assert estimator.best_validation_score_ == max(scores)
    last_of_the_best = len(scores) - int(np.argmax(scores[::-1]))
    assert estimator.best_iter_ == last_of_the_best < estimator.n_iter_
    # Patient in its own units: ten iterations for an epoch, since the score last rose by tol.
    rises = [k for k in range(len(scores)) if scores[k] >= max(scores[:k], default=-1) + 1e-4]
    assert estimator.n_iter_ - (rises[-1] + 1) == 10 * 2 + 1
    assert estimator.best_loss_ is None

    best = estimator_class(**settings | {"max_iter": estimator.best_iter_}).fit(X, y)
    assert_same_network(estimator, best, rtol=0, atol=0)


@BOTH
def test_lbfgs_keeps_float32_outside_and_float64_inside(estimator_class):
    """From the same start, the weights are those of float64 and rounded only at the end."""
    start = some_weights(N_FEATURES, 6, 3 if estimator_class is BackpropClassifier else 1)
    start = tuple([array.astype(np.float32) for array in arrays] for arrays in start)
    settings = {"hidden_layer_sizes": (6,), "solver": "lbfgs", "max_iter": 20, "init": start}
    X, y = data_for(estimator_class, N_ROWS)
    X, y = X.astype(np.float32), y if y.dtype.kind == "i" else y.astype(np.float32)
    single = estimator_class(**settings).fit(X, y)
    double = estimator_class(**settings).fit(X.astype(np.float64), y)
    assert double.coefs_[0].dtype == np.float64
    for array, exact in zip(
        single.coefs_ + single.intercepts_, double.coefs_ + double.intercepts_, strict=True
    ):
        np.testing.assert_array_equal(array, exact.astype(np.float32), strict=True)


def test_lbfgs_memory_does_not_grow_with_the_rows():
    """One layer's activations take 96 MB here."""
    X, y = value_data(60_000, 3)
    settings = {"hidden_layer_sizes": (200,), "solver": "lbfgs", "max_iter": 1}
    assert peak_of(BackpropRegressor(**settings).fit, X, y) < 48e6


@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
def test_interrupted_lbfgs_goes_back_to_the_last_complete_iteration(early_stopping, monkeypatch):
    X, y = value_data(N_ROWS, N_FEATURES)
    settings = {"solver": "lbfgs", "random_state": 0, "early_stopping": early_stopping}
    interrupted = BackpropRegressor(max_iter=50, **settings)
    with monkeypatch.context() as context:
        interrupt(context, SquaredError, "gradient", 9)
        with pytest.raises(KeyboardInterrupt):
            interrupted.fit(X, y)
    assert 1 < interrupted.n_iter_ < 10

    reference = BackpropRegressor(max_iter=interrupted.n_iter_, **settings).fit(X, y)
    assert same_bits(interrupted, reference)
    assert interrupted.loss_ == reference.loss_
    assert interrupted.best_iter_ == reference.best_iter_


# --------------------------------------------------------------------- by name or as an object

# What an estimator is given, besides the solver by name or by instance.
CASES = {
    "plain": {},
    "float32": {"dtype": "float32"},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3, "max_iter": 30},
    "layer normalization": {"normalization": "layer"},
    "members": {"n_estimators": 2},
}


def by_name_and_instance(estimator_class, **settings):
    """Return the same estimator twice; `max_fun` is the flat parameter or the instance's."""
    of_instance = {"max_fun": settings["max_fun"]} if "max_fun" in settings else {}
    named = quick(estimator_class, solver="lbfgs", **settings)
    settings.pop("max_fun", None)
    return named, quick(estimator_class, solver=LBFGS(**of_instance), **settings)


@pytest.mark.parametrize(
    "estimator_class, settings",
    [
        (kind, settings)
        for kind in EACH
        for settings in CASES.values()
        if settings.keys() <= set(kind._get_param_names())
    ],
)
def test_an_instance_does_what_the_name_does(settings, estimator_class):
    data = data_for(estimator_class)
    named, instance = by_name_and_instance(estimator_class, **settings)
    assert same_bits(instance.fit(*data), named.fit(*data))
    assert same_bits(pickle.loads(pickle.dumps(instance)), named)
    assert same_bits(clone(instance).fit(*data), named)


@BOTH
def test_a_warm_start_continues_and_may_change_max_fun(estimator_class, capsys):
    X, y = data_for(estimator_class)
    named, instance = by_name_and_instance(
        estimator_class, max_fun=5, warm_start=True, verbose=True
    )
    with pytest.warns(ConvergenceWarning, match=r"max_fun \(now 5\)"):
        assert same_bits(instance.fit(X, y), named.fit(X, y))
    n_before = len(instance.loss_curve_)
    named.set_params(max_fun=100).fit(X, y)
    assert same_bits(instance.set_params(solver__max_fun=100).fit(X, y), named)
    assert len(instance.loss_curve_) > n_before
    assert "Iteration 3, loss = " in capsys.readouterr().out
    with pytest.raises(ValueError, match="solver of the fitted network is LBFGS"):
        instance.set_params(solver="adam").fit(X, y)


@BOTH
def test_settings_that_lbfgs_cannot_use_are_refused(estimator_class):
    data = data_for(estimator_class)
    for settings, says in (
        ({"dropout": 0.5}, r"network contains HiddenDropout\("),
        ({"normalization": "batch"}, r"network contains BatchNormalization\("),
        ({"l1_ratio": 0.5}, "l1_ratio must be 0, got 0.5. Set l1_ratio=0, or choose a stochastic"),
    ):
        for solver in ("lbfgs", LBFGS()):
            with pytest.raises(ValueError, match=says):
                quick(estimator_class, solver=solver, **settings).fit(*data)
    model = quick(estimator_class, solver=LBFGS())
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError) as error:
        _ = model.partial_fit
    assert "got solver=LBFGS()" in str(error.value.__cause__)
