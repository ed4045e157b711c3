"""Dropout: rates, independent masks of members, and resuming.

Without dropout, and in prediction, a network has no dropout layers.
"""

import copy

import numpy as np
import pytest
from scipy import sparse

from skbackprop import BackpropClassifier
from skbackprop.activations import ACTIVATIONS
from skbackprop.layers.dense import BuiltDropout, BuiltSparseDropout, dropout_rng
from skbackprop.nn.network import BuiltNetwork, dense_network
from skbackprop.nn.objective import L2, Objective
from skbackprop.training.architecture import validate_dropout
from skbackprop.training.loop import StochasticTraining
from skbackprop.utils.arrays import BufferPool
from support import (
    BOTH,
    class_data,
    classes_for,
    data_for,
    few_epochs,
    quick,
    same_bits,
)
from support.runs import assert_same_run, finished, runs_of, train_runs
from support.stacks import (
    DTYPES,
    LOSSES,
    assert_same_bits,
    batch_gradient,
    some_parameters,
    some_table,
)

pytestmark = few_epochs

LOSS = LOSSES["squared_error-identity"]
WIDTHS = (4, 6, 5, 3)
RATES = {"hidden": (0.0, 0.3, 0.5), "input": (0.4, 0.0, 0.0), "all": (0.2, 0.5, 0.3)}
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_rate = pytest.mark.parametrize("rates", RATES.values(), ids=RATES)
dense_and_sparse = pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])


def network_with(rates, activation="tanh", widths=WIDTHS):
    return dense_network(widths, (ACTIVATIONS[activation],) * (len(widths) - 2), dropout=rates)


def naive_mask(rng, rate, shape):
    """Return the mask that the module's docstring describes, drawn number by number."""
    size = int(np.prod(shape))
    words = [int(rng.bit_generator.random_raw()) for _ in range(-(-size // 4))]
    chances = np.array(words, np.uint64).view(np.uint16)[:size].reshape(shape)
    n_left_out = round(rate * 65_536)
    return np.where(chances >= n_left_out, 65_536 / (65_536 - n_left_out), 0.0)


# ------------------------------------------------------------------------------- the layers


def test_factor_matches_the_rounded_rate():
    """So the mean is exact at rates that are no multiple of 1 / 65,536, tiny and huge ones too."""
    for rate, expected in ((0.1, 65_536 / (65_536 - 6_554)), (1e-9, 1.0), (1 - 1e-9, 65_536.0)):
        layer = BuiltDropout(
            rate, [np.random.default_rng(0)], (9, 7), BufferPool(np.dtype(float)), "m"
        )
        layer.forward(np.ones((9, 7)), np.empty((9, 7)))
        assert set(np.unique(layer.mask)) <= {0.0, expected}


@every_dtype
@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 4), (200, 170)], ids=str)
def test_masks_match_the_naive_ones(shape, n_estimators, dtype):
    """The last shape takes more words than are drawn at once."""
    rngs = [np.random.default_rng(seed) for seed in range(n_estimators)]
    layer = BuiltDropout(0.3, rngs, shape, BufferPool(np.dtype(dtype)), "mask")
    axis = () if n_estimators == 1 else (n_estimators,)
    x, out = np.random.RandomState(0).randn(*shape).astype(dtype), np.empty(axis + shape, dtype)
    again = [np.random.default_rng(seed) for seed in range(n_estimators)]
    for _ in range(2):
        before = x.copy()
        layer.forward(x, out)
        mask = np.array([naive_mask(rng, 0.3, shape) for rng in again], dtype)
        assert_same_bits(out, (x * mask).reshape(out.shape))
        assert_same_bits(x, before)
        delta = np.ones_like(out)
        assert layer.backward(delta) is delta
        assert_same_bits(delta, mask.reshape(out.shape))


@pytest.mark.parametrize("n_sources", [1, 2])
def test_sparse_dropout_drops_stored_entries(n_sources):
    tables = [
        sparse.random_array((20, 30), density=0.3, format="csr", random_state=seed)
        for seed in range(n_sources)
    ]
    before, out = [table.copy() for table in tables], [None, None]
    rngs = [np.random.default_rng(seed) for seed in (5, 6)]
    BuiltSparseDropout(0.4, rngs).forward(tables, out)
    for member, seed in enumerate((5, 6)):
        source = before[member % n_sources]
        mask = naive_mask(np.random.default_rng(seed), 0.4, source.data.shape)
        np.testing.assert_array_equal(out[member].data, source.data * mask)
        np.testing.assert_array_equal(out[member].indices, source.indices)
        np.testing.assert_array_equal(out[member].indptr, source.indptr)
    for table, copied in zip(tables, before, strict=True):
        np.testing.assert_array_equal(table.toarray(), copied.toarray())


def test_dropout_rng_does_not_advance_the_random_state():
    rng, untouched = np.random.RandomState(0), np.random.RandomState(0)
    masks, again = dropout_rng(rng), dropout_rng(rng)
    assert rng.get_state()[2] == untouched.get_state()[2]
    assert masks.random() == again.random() != np.random.default_rng(0).random()
    assert dropout_rng(np.random.RandomState(1)).random() != dropout_rng(rng).random()


# ------------------------------------------------------------------------------- the network


@every_rate
@pytest.mark.parametrize("n_estimators", [1, 2])
def test_scores_are_those_of_the_naive_pass(n_estimators, rates):
    network, table = network_with(rates), some_table(LOSS, 7, WIDTHS)
    parameters = some_parameters(network, range(n_estimators))
    rngs = [np.random.default_rng(seed) for seed in range(n_estimators)]
    objective = Objective(network, LOSS, L2(0.0))
    *_, scores = batch_gradient(objective, [table] * n_estimators, parameters, rngs)
    for member in range(n_estimators):
        rng, a = np.random.default_rng(member), table.X
        for i, rate in enumerate(rates):
            if rate:
                a = a * naive_mask(rng, rate, a.shape)
            z = a @ parameters.weights[i][member] + parameters.biases[i][member]
            a = np.tanh(z)
        np.testing.assert_allclose(scores[member], z, rtol=1e-12)


def test_zero_dropout_adds_no_layer():
    def layers(rates, is_training=True):
        network = network_with(rates)
        parameters = some_parameters(network, [0])
        gradients = parameters.with_theta(np.empty_like(parameters.theta)) if is_training else None
        rngs = [np.random.default_rng(0)]
        pool = BufferPool(np.dtype(float))
        way = BuiltNetwork(network, parameters, 5, pool, gradients, rngs=rngs)
        return [type(layer).__name__.removeprefix("Built") for layer in way.layers]

    plain = ["Dense", "Activation", "Dense", "Activation", "Dense"]
    assert layers(()) == plain
    assert layers((0.2, 0.5, 0.5), is_training=False) == plain
    assert layers((0.0, 0.0, 0.5)) == [*plain[:4], "Dropout", "Dense"]
    assert layers((0.2, 0.0, 0.0)) == ["Dropout", *plain]


# -------------------------------------------------------------------------------- a stack


@dense_and_sparse
def test_members_that_share_their_rows_draw_masks_of_their_own(is_sparse):
    settings = {"dropout": [0.3, 0.5, 0.2], "max_iter": 4}
    differences = [{}, {}, {"learning_rate_init": 0.05}, {"alpha": 1.0}]
    runs, alone = (runs_of(BackpropClassifier, differences, settings) for _ in range(2))
    if is_sparse:
        for run in (*runs, *alone):
            run.table = copy.copy(run.table)
            object.__setattr__(run.table, "X", sparse.csr_array(run.table.X))
        for run in runs:
            run.table = runs[0].table
    finished(StochasticTraining(runs))
    for i, (run, expected) in enumerate(zip(runs, alone, strict=True)):
        assert train_runs([expected]) is None
        assert_same_run(run, expected, f"of run {i}")


# ---------------------------------------------------------------------------- the estimators


@BOTH
def test_weights_and_order_are_drawn_as_without_dropout(estimator_class):
    """A rate that is rounded to zero leaves nothing out, and so must change nothing at all."""
    X, y = data_for(estimator_class)
    settings = {"hidden_layer_sizes": (6, 5), "batch_size": 13, "early_stopping": True}
    plain = quick(estimator_class, **settings).fit(X, y)
    with_masks = quick(estimator_class, dropout=[1e-7, 1e-7, 1e-7], **settings).fit(X, y)
    assert same_bits(with_masks, plain)
    assert not same_bits(quick(estimator_class, dropout=0.2, **settings).fit(X, y), plain)


@BOTH
@pytest.mark.parametrize("zero", [0, 0.0, [0, 0, 0.0], np.zeros(3)], ids=str)
def test_zero_dropout_draws_nothing(estimator_class, zero):
    X, y = data_for(estimator_class)
    settings = {"hidden_layer_sizes": (6, 5), "warm_start": True}
    model = quick(estimator_class, dropout=zero, **settings).fit(X, y)
    assert model._training[0].state.masks == []
    assert same_bits(model, quick(estimator_class, **settings).fit(X, y))


def test_rates():
    assert validate_dropout(0.5, 2) == (0.0, 0.5, 0.5)
    assert validate_dropout([0.1, 0, 0.5], 2) == (0.1, 0.0, 0.5)
    assert validate_dropout(np.array([0.1]), 0) == (0.1,)
    assert validate_dropout(0.5, 0) == validate_dropout(0, 2) == validate_dropout((0, 0), 1) == ()


WRONG = [1.0, -0.1, np.nan, "half", None, True, [0.5], [0.1] * 4, [0.1, 1.0, 0.1], ["a"] * 3]
WRONG += [[[0.1, 0.1, 0.1]], pytest.param({0.1, 0.2, 0.3}, id="a set"), np.array(0.5)]


@BOTH
@pytest.mark.parametrize("dropout", WRONG, ids=repr)
def test_wrong_rates_are_an_error_that_says_how_many_are_needed(estimator_class, dropout):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, hidden_layer_sizes=(6, 5), dropout=dropout)
    for method in (model.fit, model.partial_fit):
        classes = classes_for(estimator_class) if method == model.partial_fit else {}
        with pytest.raises(ValueError, match=r"dropout must be .* a sequence of 3 such rates") as e:
            method(X, y, **classes)
        assert repr(dropout) in str(e.value)


@BOTH
def test_lbfgs_takes_no_dropout(estimator_class):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, solver="lbfgs", dropout=0.5)
    with pytest.raises(ValueError, match=r"Dropout\(rate=0.5\).*choose a stochastic solver"):
        model.fit(X, y)
    model.set_params(dropout=0.0).fit(X, y)


def test_predictions_ignore_dropout():
    X, y = class_data()
    model = quick(BackpropClassifier, dropout=0.5).fit(X, y)
    expected = model.predict_proba(X)
    assert_same_bits(model.predict_proba(X), expected)
    assert_same_bits(model.set_params(dropout="nonsense").predict_proba(X), expected)


def test_a_warm_fit_may_change_the_rates():
    X, y = class_data()
    model = quick(BackpropClassifier, warm_start=True).fit(X, y)
    before = model.coefs_[0].copy()
    for dropout in (0.5, [0.1, 0.2], 0.0):
        model.set_params(dropout=dropout).fit(X, y)
    assert not np.array_equal(model.coefs_[0], before)
