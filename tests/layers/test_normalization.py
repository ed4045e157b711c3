"""Batch and layer normalization in training and prediction.

They are compared with formulas that use a temporary for each term; gradients with central
differences.
"""

import pickle

import numpy as np
import pytest
from scipy import sparse

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.activations import ACTIVATIONS
from skbackprop.layers import GRU, NORMALIZATIONS, BatchNormalization, Dense, Normalization
from skbackprop.layers import normalization as module
from skbackprop.nn.prediction import predict_raw
from skbackprop.nn.rows import Rows
from skbackprop.optimizers import SGD
from support import BOTH, class_data, data_for, few_epochs, quick
from support.stacks import (
    DTYPES,
    LOSSES,
    Member,
    assert_same_bits,
    batch_gradient,
    dense_network,
    public_kinds,
    some_parameters,
    some_table,
    trained,
    without_formula,
)

pytestmark = few_epochs

LOSS = LOSSES["squared_error-identity"]
WIDTHS = (4, 6, 5, 3)
EPSILON = 1e-5
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_kind = pytest.mark.parametrize("kind", NORMALIZATIONS)
equal_and_weighted = pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])


def network_with(kind, activation="tanh", widths=WIDTHS, dropout=()):
    normalization = NORMALIZATIONS[kind]() if isinstance(kind, str) else kind
    activations = (ACTIVATIONS[activation],) * (len(widths) - 2)
    return dense_network(widths, activations, dropout, normalization)


def naive_norm(kind, z, shares):
    """Return norm(z)."""
    if kind == "batch":
        mean, variance = shares @ z, shares @ (z - shares @ z) ** 2
    else:
        mean, variance = z.mean(axis=1, keepdims=True), z.var(axis=1, keepdims=True)
    return (z - mean) / np.sqrt(variance + EPSILON)


def naive_scores(kind, parameters, member, X, shares):
    """Return one member's raw predictions in training."""
    (*hidden, last), (*biases, last_biases), gains = map(
        parameters.select, ("weights", "biases", "gains")
    )
    a = X
    for weights, b, g in zip(hidden, biases, gains, strict=True):
        a = np.tanh(g[member] * naive_norm(kind, a @ weights[member], shares) + b[member])
    return a @ last[member] + last_biases[member]


# ------------------------------------------------------------------------------- the table


def test_every_kind_is_in_the_table_and_has_its_formula():
    kinds = public_kinds(module, Normalization)
    assert set(NORMALIZATIONS.values()) == kinds
    assert not without_formula(kinds)


# ------------------------------------------------------------------------------ the network


@pytest.mark.parametrize("n_estimators", [1, 3])
@equal_and_weighted
@every_kind
def test_scores_in_training_are_those_of_the_naive_pass(kind, weighted, n_estimators):
    network = network_with(kind)
    tables = [some_table(LOSS, 9, WIDTHS, weighted=weighted, seed=i) for i in range(n_estimators)]
    parameters = some_parameters(network, range(n_estimators))
    *_, scores = batch_gradient(network, LOSS, tables, parameters)
    for member, table in enumerate(tables):
        shares = np.full(9, 1 / 9) if table.weight is None else table.weight / table.weight.sum()
        expected = naive_scores(kind, parameters, member, table.X, shares)
        np.testing.assert_allclose(scores[member], expected, rtol=1e-10, atol=1e-12)


@every_kind
def test_a_row_of_weight_two_is_the_row_twice_and_one_of_weight_zero_is_not_there(kind):
    network, table = network_with(kind), some_table(LOSS, 9, WIDTHS)
    weight = np.array([1, 2, 1, 0, 3, 1, 1, 0, 1])
    rows = np.repeat(np.arange(9), weight)
    X = table.X.copy()
    X[weight == 0] *= 1e6
    outcomes = []
    for data in (Rows(X, table.y, weight.astype(float)), Rows(table.X[rows], table.y[rows])):
        parameters = some_parameters(network, [0])
        value, g, _ = batch_gradient(network, LOSS, [data], parameters)
        buffers = [array for _, array in sorted(parameters.buffers.items())]
        outcomes.append([value, g, *buffers])
    for weighted, repeated in zip(*outcomes, strict=True):
        np.testing.assert_allclose(weighted, repeated, rtol=1e-9, atol=1e-12)


@every_dtype
@every_kind
def test_a_row_alone_and_constant_columns_give_finite_numbers(kind, dtype):
    network = network_with(kind)
    for X in (np.full((1, 4), 3.0), np.full((6, 4), 1e3), np.zeros((6, 4))):
        table = Rows(X.astype(dtype), np.ones((len(X), 3)))
        parameters = some_parameters(network, [0], dtype)
        value, g, scores = batch_gradient(network, LOSS, [table], parameters)
        assert np.isfinite(value)
        assert np.isfinite(g).all()
        if kind == "batch":  # nothing is left of x: the shift alone goes on
            *_, biases, last_biases = (array[0] for array in parameters.select("biases"))
            expected = np.tanh(biases) @ parameters.select("weights")[-1][0] + last_biases
            tolerance = 1e-9 if dtype == np.float64 else 0.1
            expected = np.broadcast_to(expected, scores[0].shape)
            np.testing.assert_allclose(scores[0], expected, atol=tolerance)


# ---------------------------------------------------------------------- running statistics


@equal_and_weighted
@pytest.mark.parametrize("batch_size", [1, 7, 20])
@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999])
def test_running_statistics_are_those_of_all_rows_by_the_age_of_their_batch(
    momentum, batch_size, weighted
):
    """With weights that stay as they are, for batches of any size, the last a short one."""
    network = network_with(BatchNormalization(momentum), widths=(4, 6, 3))
    table = some_table(LOSS, 20, network.widths, weighted=weighted)
    member = Member(table, rate=0.0, is_shuffled=False)
    parameters = trained([member], 2, network, LOSS, SGD(), batch_size=batch_size).parameters
    z = np.tile(table.X @ parameters.select("weights")[0][0], (2, 1))
    starts = np.arange(0, 20, batch_size)
    number = np.searchsorted(starts, np.arange(20), side="right") - 1
    number = np.concatenate([number, number + len(starts)])
    weight = np.ones(40) if table.weight is None else np.tile(table.weight, 2)
    # A batch that weighs nothing makes no step, and so does not age the others.
    heavy = [k for k in range(2 * len(starts)) if weight[number == k].any()]
    age = np.array([len(heavy) - 1 - heavy.index(k) if k in heavy else 0 for k in number])
    weight = weight * momentum**age
    mean = np.average(z, axis=0, weights=weight)
    variance = np.average((z - mean) ** 2, axis=0, weights=weight)
    for name, expected in {"means": mean, "variances": variance}.items():
        (running,) = parameters.select(name)
        np.testing.assert_allclose(running[0, 0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n_estimators", [1, 3])
@every_dtype
def test_prediction_takes_the_running_statistics(dtype, n_estimators):
    network, X = network_with("batch"), some_table(LOSS, 9, WIDTHS).X
    parameters = some_parameters(network, range(n_estimators), dtype)
    rng = np.random.RandomState(0)
    parameters.buffers["means"][...] = rng.randn(n_estimators, 11)
    parameters.buffers["variances"][...] = rng.uniform(0.1, 3, (n_estimators, 11))
    for given in (X, sparse.csr_array(X)):
        scores = predict_raw(network, parameters, given)
        gains, means, variances = map(parameters.select, ("gains", "means", "variances"))
        weights, biases = map(parameters.select, ("weights", "biases"))
        for member in range(n_estimators):
            a = X
            for i in range(2):
                z = a @ weights[i][member].astype(float)
                deviation = np.sqrt(variances[i][member].astype(float) + EPSILON)
                z = gains[i][member] * (z - means[i][member]) / deviation
                a = np.tanh(z + biases[i][member])
            expected = a @ weights[2][member] + biases[2][member]
            tolerance = 1e-12 if dtype == np.float64 else 1e-4
            np.testing.assert_allclose(scores[member], expected, rtol=tolerance, atol=tolerance)


def test_statistics_that_overflow_have_diverged():
    X, y = data_for(BackpropRegressor)
    model = quick(BackpropRegressor, normalization="batch", hidden_layer_sizes=(7,))
    with pytest.raises(ValueError, match="diverged"), np.errstate(over="ignore"):
        model.fit(1e200 * X, y)


# ----------------------------------------------------------------------------- the estimators

NORMALIZED = ("gains_", "running_means_", "running_variances_")
SETTINGS = {"hidden_layer_sizes": (6, 5), "batch_size": 13, "learning_rate_init": 0.01}


def arrays_of(model):
    """Return all that a model predicts from."""
    names = ("coefs_", "intercepts_", *NORMALIZED)
    return [array for name in names for array in getattr(model, name) or []]


def assert_same_model(one, other):
    assert one.loss_curve_ == other.loss_curve_
    for array, expected in zip(arrays_of(one), arrays_of(other), strict=True):
        assert_same_bits(array, expected)


@pytest.mark.parametrize("n_estimators", [1, 3])
@BOTH
def test_attributes(estimator_class, n_estimators):
    X, y = data_for(estimator_class)
    shapes = [(n_estimators, n) if n_estimators > 1 else (n,) for n in (6, 5)]
    expected = {None: [], "layer": ["gains_"], "batch": [*NORMALIZED]}
    for kind, names in expected.items():
        settings = SETTINGS | {
            "normalization": kind,
            "n_estimators": n_estimators,
            "dtype": "float32",
        }
        model = quick(estimator_class, **settings).fit(X, y)
        for name in NORMALIZED:
            if name in names:
                assert [array.shape for array in getattr(model, name)] == shapes
                assert {array.dtype for array in getattr(model, name)} == {np.dtype("float32")}
                assert all((array != 0).any() for array in getattr(model, name))
            else:
                assert getattr(model, name) is None
    assert all((array > 0).all() for array in model.running_variances_)


@every_kind
def test_no_hidden_layer_has_nothing_to_normalize(kind):
    X, y = class_data()
    plain, normalized = (
        quick(BackpropClassifier, hidden_layer_sizes=(), normalization=n).fit(X, y)
        for n in (None, kind)
    )
    assert normalized.gains_ is None
    assert_same_model(plain, normalized)
    assert_same_bits(plain.predict_proba(X), normalized.predict_proba(X))


@every_kind
def test_gains_start_at_one_and_the_draws_are_those_of_the_plain_network(kind):
    X, y = class_data()
    settings = SETTINGS | {"learning_rate_init": 1e-300, "solver": "sgd", "max_iter": 1}
    plain, normalized = (
        quick(BackpropClassifier, normalization=n, **settings).fit(X, y) for n in (None, kind)
    )
    assert all((gains == 1).all() for gains in normalized.gains_)
    for array, expected in zip(normalized.coefs_, plain.coefs_, strict=True):
        assert_same_bits(array, expected)
    init = plain.coefs_, plain.intercepts_
    given = quick(BackpropClassifier, init=init, normalization=kind, **settings).fit(X, y)
    assert all((gains == 1).all() for gains in given.gains_)


@equal_and_weighted
@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
def test_training_continues_from_a_pickle_without_state(momentum, weighted):
    """The running statistics weigh what the rows seen did, on whatever scale the weights are."""
    X, y = class_data(60)
    normalization = BatchNormalization(momentum=momentum)
    settings = {"normalization": normalization, "batch_size": 12, "max_iter": 6}
    model = quick(BackpropClassifier, **settings)
    weight = np.full(60, 1e-6) if weighted else None
    model.fit(X, y, weight)
    restored = pickle.loads(pickle.dumps(model))
    assert_same_bits(restored.predict_proba(X), model.predict_proba(X))
    before = model.running_means_[0].copy()
    for each in (model, restored):
        each.partial_fit(X[:1], y[:1], None if weight is None else weight[:1])
    for name in ("running_means_", "running_variances_"):
        np.testing.assert_allclose(getattr(restored, name)[0], getattr(model, name)[0], rtol=1e-9)
    assert not np.array_equal(restored.running_means_[0], before)


# ------------------------------------------------------------------------------- instances


@pytest.mark.parametrize("wrong", ["group", True, 0.5, BatchNormalization])
def test_raises_on_invalid_normalization(wrong):
    with pytest.raises(ValueError, match="normalization"):
        quick(BackpropClassifier, normalization=wrong).fit(*class_data())


# --------------------------------------------------------------------------------- padding


def test_padding_does_not_count_in_the_statistics():
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(20, 5, 2)), np.arange(20) % 2
    for row, length in zip(X, rng.randint(1, 6, 20), strict=True):
        row[length:] = np.nan
    longer = np.concatenate([X, np.full((20, 3, 2), np.nan)], axis=1)
    layers = [Dense(3), BatchNormalization(), GRU(2)]
    short, long = (quick(BackpropClassifier, layers=layers).fit(rows, y) for rows in (X, longer))
    for name in ("normalization_means_", "normalization_variances_", "kernels_"):
        np.testing.assert_allclose(getattr(short, name)[0], getattr(long, name)[0], rtol=1e-9)
