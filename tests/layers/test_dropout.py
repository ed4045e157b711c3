"""Dropout: rates, independent masks of members, and resuming.

Without dropout, and in prediction, a network has no dropout layers.
"""

import numpy as np
import pytest
from scipy import sparse

from skbackprop import BackpropClassifier
from skbackprop.activations import ACTIVATIONS
from skbackprop.layers import Dense, Dropout, Scale
from skbackprop.layers.dense import dropout_rng
from skbackprop.nn.network import BoundNetwork, Network
from skbackprop.nn.prediction import predict_raw
from skbackprop.training.architecture import validate_dropout
from skbackprop.utils.arrays import BufferPool
from support import BOTH, class_data, classes_for, data_for, few_epochs, quick, same_bits
from support.shaped import run_step
from support.stacks import (
    DTYPES,
    LOSSES,
    assert_same_bits,
    batch_gradient,
    dense_network,
    some_parameters,
    some_table,
)

pytestmark = few_epochs

LOSS = LOSSES["squared_error-identity"]
WIDTHS = (4, 6, 5, 3)
RATES = {"hidden": (0.0, 0.3, 0.5), "input": (0.4, 0.0, 0.0), "all": (0.2, 0.5, 0.3)}
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_rate = pytest.mark.parametrize("rates", RATES.values(), ids=RATES)


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


def run_dropout(rate, x, delta, rngs):
    """Return the output of dropout, and the gradient by its input."""
    network = Network(x.shape[-1:], (Scale(), Dropout(rate), Scale()))
    parameters = network.layout.init(len(rngs), x.dtype)
    out, _, d_x = run_step(network, parameters, x, delta, rngs)
    return out, d_x


def test_factor_matches_the_rounded_rate():
    """So the mean is exact at rates that are no multiple of 1 / 65,536, tiny and huge ones too."""
    ones = np.ones((9, 7))
    for rate, expected in ((0.1, 65_536 / (65_536 - 6_554)), (1e-9, 1.0), (1 - 1e-9, 65_536.0)):
        out, _ = run_dropout(rate, ones, ones, [np.random.default_rng(0)])
        assert set(np.unique(out)) <= {0.0, expected}


@every_dtype
@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 4)], ids=str)
def test_masks_match_the_naive_ones(shape, n_estimators, dtype):
    rngs, again = ([np.random.default_rng(i) for i in range(n_estimators)] for _ in range(2))
    x, delta = (
        np.random.RandomState(0).randn(*shape).astype(dtype),
        np.ones((n_estimators, *shape), dtype),
    )
    before = x.copy()
    for _ in range(2):
        out, d_x = run_dropout(0.3, x, delta, rngs)
        mask = np.array([naive_mask(rng, 0.3, shape) for rng in again], dtype)
        assert_same_bits(out, x * mask)
        assert_same_bits(d_x, mask)
        assert_same_bits(x, before)


@pytest.mark.parametrize("n_sources", [1, 2])
def test_sparse_dropout_drops_stored_entries(n_sources):
    tables = [
        sparse.random_array((20, 30), density=0.3, format="csr", random_state=seed)
        for seed in range(n_sources)
    ]
    before, scores = [table.toarray() for table in tables], np.empty((2, 20, 1))
    network = Network((30,), (Dropout(0.4), Dense(1)))
    parameters = some_parameters(network, [0, 1])
    rngs = [np.random.default_rng(seed) for seed in (5, 6)]
    gradients, pool = parameters.with_arrays(parameters.theta.copy()), BufferPool(np.dtype(float))
    bound = BoundNetwork(network, parameters, 20, pool, gradients, sparse=True, rngs=rngs)
    bound.forward(tables, scores)
    for member, seed in enumerate((5, 6)):
        dropped = tables[member % n_sources].copy()
        dropped.data *= naive_mask(np.random.default_rng(seed), 0.4, dropped.data.shape)
        (weights,), (biases,) = parameters.select("weights"), parameters.select("biases")
        expected = dropped @ weights[member] + biases[member]
        np.testing.assert_allclose(scores[member], expected, rtol=1e-12)
    for table, array in zip(tables, before, strict=True):
        np.testing.assert_array_equal(table.toarray(), array)


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
    *_, scores = batch_gradient(network, LOSS, [table] * n_estimators, parameters, rngs=rngs)
    weights, biases = map(parameters.select, ("weights", "biases"))
    for member in range(n_estimators):
        rng, a = np.random.default_rng(member), table.X
        for i, rate in enumerate(rates):
            if rate:
                a = a * naive_mask(rng, rate, a.shape)
            z = a @ weights[i][member] + biases[i][member]
            a = np.tanh(z)
        np.testing.assert_allclose(scores[member], z, rtol=1e-12)


def test_zero_dropout_adds_no_layer_and_prediction_has_none():
    network, plain = network_with((0.0, 0.0, 0.5)), network_with(())
    assert [type(layer).__name__ for layer in network.layers] == [
        *("Dense", "Activation", "Dense", "Activation", "HiddenDropout", "Dense")
    ]
    parameters, X = some_parameters(network, [0]), some_table(LOSS, 7, WIDTHS).X
    same = some_parameters(plain, [0])
    assert_same_bits(predict_raw(network, parameters, X), predict_raw(plain, same, X))


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
def test_zero_dropout_changes_nothing(estimator_class, zero):
    X, y = data_for(estimator_class)
    settings = {"hidden_layer_sizes": (6, 5), "warm_start": True}
    model = quick(estimator_class, dropout=zero, **settings).fit(X, y)
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


def test_a_warm_fit_may_change_the_rates():
    X, y = class_data()
    model = quick(BackpropClassifier, warm_start=True).fit(X, y)
    before = model.coefs_[0].copy()
    for dropout in (0.5, [0.1, 0.2], 0.0):
        model.set_params(dropout=dropout).fit(X, y)
    assert not np.array_equal(model.coefs_[0], before)
