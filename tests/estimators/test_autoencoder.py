"""Does the autoencoder reproduce its input, and is all that it says of a row true of its network?

The oracles: principal component analysis, which a linear autoencoder has to find; the regressor,
trained on X as its own targets; a forward pass spelled out in NumPy.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.linalg import subspace_angles
from sklearn.base import is_outlier_detector
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropAutoencoder, BackpropGridSearchCV, BackpropRegressor
from skbackprop.estimators._fit_context import FitArguments
from skbackprop.estimators.base import make_fit_context
from skbackprop.layers import (
    GRU,
    Activation,
    BatchNormalization,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePool2D,
    MaxPool2D,
    Reshape,
    Residual,
)
from skbackprop.losses import Gamma, Poisson, Quantile
from support import (
    NAMES,
    assert_same_network,
    assert_same_search,
    few_epochs,
    peak_of,
    pickled,
    safely_saved,
    same_bits,
)
from support.stacks import activations_of

pytestmark = few_epochs

N, D = 50, 4
X = np.random.RandomState(0).randn(N, 2) @ np.random.RandomState(1).randn(2, D)
X += 0.1 * np.random.RandomState(2).randn(N, D)
WEIGHT = np.random.RandomState(3).randint(1, 4, N).astype(float)
WINE = StandardScaler().fit_transform(load_wine().data)
CASES = {
    "adam": {},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.01},
    "small batches": {"batch_size": 16},
    "lbfgs": {"solver": "lbfgs"},
    "early stopping": {"early_stopping": True, "max_iter": 10},
    "deep": {"hidden_layer_sizes": (6, 3), "n_components": 1},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "float32": {"dtype": "float32"},
}


def small(**changes):
    """Return an autoencoder that takes a few milliseconds to fit."""
    settings = {"hidden_layer_sizes": (5,), "activation": "tanh", "max_iter": 5, "random_state": 0}
    return BackpropAutoencoder(**settings | changes)


def linear(n_components):
    return BackpropAutoencoder(
        n_components, (), solver="lbfgs", alpha=0, tol=1e-6, max_iter=2000, random_state=0
    )


# -------------------------------------------------------------------------- what it learns


@pytest.mark.long
@pytest.mark.parametrize("n_components", [1, 2, 5])
def test_without_hidden_layers_it_finds_the_principal_components(n_components):
    """So says Baldi & Hornik (1989): all minima span the space of the largest components."""
    autoencoder, pca = linear(n_components).fit(WINE), PCA(n_components).fit(WINE)

    expected = pca.inverse_transform(pca.transform(WINE))
    actual = autoencoder.inverse_transform(autoencoder.transform(WINE))
    np.testing.assert_allclose(actual, expected, atol=1e-3)
    for directions in (autoencoder.coefs_[0], autoencoder.coefs_[1].T):
        assert subspace_angles(directions, pca.components_.T).max() < 1e-3
    assert autoencoder.score(WINE) == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("n_components", [2, 8])
def test_digits_are_reproduced_better_than_by_principal_components(n_components):
    train, test = train_test_split(load_digits().data / 16, random_state=0)
    autoencoder = BackpropAutoencoder(
        n_components, learning_rate_init=0.003, max_iter=60, random_state=0
    ).fit(train)
    pca = PCA(n_components).fit(train)

    error_of_pca = np.square(test - pca.inverse_transform(pca.transform(test))).mean()
    assert -autoencoder.score_samples(test).mean() < 0.8 * error_of_pca


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("hidden", [(), (5,), (5, 3)])
def test_autoencoder_equals_regressor_of_x_on_x(hidden, solver, weight):
    """Where all activations are the bottleneck's, both are one network, to the bit."""
    settings = {"activation": "identity", "solver": solver, "random_state": 0, "max_iter": 10}
    widths = (*hidden, 2, *hidden[::-1])
    regressor = BackpropRegressor(widths, **settings).fit(X, X, sample_weight=weight)
    autoencoder = BackpropAutoencoder(2, hidden, **settings).fit(X, sample_weight=weight)

    assert same_bits(autoencoder, regressor)
    np.testing.assert_array_equal(
        autoencoder.inverse_transform(autoencoder.transform(X)), regressor.predict(X)
    )
    assert autoencoder.score(X, sample_weight=weight) == pytest.approx(
        r2_score(X, regressor.predict(X), sample_weight=weight, multioutput="variance_weighted")
    )


def test_activations_and_dropout_are_mirrored_around_the_bottleneck():
    autoencoder = BackpropAutoencoder(
        2, (6, 4), activation=["relu", "tanh"], dropout=[0.3, 0.2, 0.1], max_iter=2
    ).fit(X)
    (run,) = make_fit_context(autoencoder, FitArguments(X, None)).runs
    assert run.network.widths == (D, 6, 4, 2, 4, 6, D)
    names = [type(function).__name__ for function in activations_of(run.network)]
    assert names == ["Relu", "Tanh", "Identity", "Tanh", "Relu"]
    layers = run.network.layers
    rates = [layer.rate if isinstance(layer, Dropout) else None for layer in layers]
    before_weights = [
        rate for rate, layer in zip(rates[:-1], layers[1:], strict=True) if isinstance(layer, Dense)
    ]
    assert before_weights == [0.3, 0.2, 0.1, None, 0.1, 0.2]


@pytest.mark.long
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def test_dropout_of_the_input_teaches_to_fill_in_what_is_missing(container):
    """A denoising autoencoder (Vincent et al. 2008): its targets are the whole rows."""
    train, test = train_test_split(load_digits().data / 16, random_state=0)
    missing = np.random.RandomState(0).uniform(size=test.shape) < 0.3
    spoiled = np.where(missing, 0, test) / 0.7

    def error(dropout):
        autoencoder = BackpropAutoencoder(
            16, learning_rate_init=0.003, max_iter=60, dropout=dropout, random_state=0
        ).fit(container(train))
        rows = autoencoder.inverse_transform(autoencoder.transform(container(spoiled)))
        return np.square(test - rows).mean()

    assert error([0.3, 0.0]) < 0.7 * error(0.0)


# ------------------------------------------------------------------ what it says of a row


def naive(autoencoder, rows):
    """Return the codes and the reconstructions of rows, by the formula."""
    a, codes = rows, None
    for i, (W, b) in enumerate(zip(autoencoder.coefs_, autoencoder.intercepts_, strict=True)):
        z = a @ W + b
        is_code = W.shape[1] == autoencoder.n_components
        codes = z if is_code else codes
        a = z if is_code or i == len(autoencoder.coefs_) - 1 else np.tanh(z)
    return codes, a


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("case", CASES)
def test_codes_reconstructions_and_scores_are_those_of_the_formula(case, container):
    autoencoder = small(**CASES[case]).fit(container(X))
    codes, rows = naive(autoencoder, X)
    exact = {"rtol": 1e-4, "atol": 1e-5} if case == "float32" else {"rtol": 1e-9}
    dtype = np.float32 if case == "float32" else np.float64

    np.testing.assert_allclose(autoencoder.transform(container(X)), codes, **exact)
    np.testing.assert_allclose(autoencoder.inverse_transform(codes), rows, **exact)
    errors = np.square(X - rows).mean(axis=1)
    np.testing.assert_allclose(autoencoder.score_samples(container(X)), -errors, **exact)
    for weight in (None, WEIGHT):
        expected = r2_score(X, rows, sample_weight=weight, multioutput="variance_weighted")
        actual = autoencoder.score(container(X), sample_weight=weight)
        assert actual == pytest.approx(expected, rel=1e-4 if case == "float32" else 1e-9)
    assert autoencoder.transform(X).dtype == dtype
    assert autoencoder.inverse_transform(codes).dtype == dtype
    assert autoencoder.score_samples(X).dtype == np.float64
    assert all(array.dtype == dtype for array in autoencoder.coefs_)


def test_the_scores_of_many_rows_are_computed_in_blocks(monkeypatch):
    autoencoder = small().fit(X)
    whole = autoencoder.score_samples(X)
    monkeypatch.setattr("skbackprop.nn.prediction._BLOCK_NUMBERS", 200)
    np.testing.assert_allclose(autoencoder.score_samples(X), whole, rtol=1e-12)
    np.testing.assert_allclose(autoencoder.score_samples(sparse.csr_array(X)), whole, rtol=1e-12)


def test_score_needs_less_memory_than_the_rows(monkeypatch):
    monkeypatch.setattr("skbackprop.nn.prediction._BLOCK_NUMBERS", 10_000)
    rows = np.random.RandomState(0).randn(20_000, 40)
    autoencoder = small(max_iter=1).fit(rows[:20])
    assert peak_of(autoencoder.score, rows) < rows.nbytes / 2


def test_score_of_equal_rows_is_one_or_zero():
    rows = np.ones((3, 2))
    autoencoder = BackpropAutoencoder(1, (), max_iter=1, random_state=0).fit(rows)
    assert autoencoder.score(rows) == 0
    autoencoder.coefs_ = [np.zeros((2, 1)), np.zeros((1, 2))]
    autoencoder.intercepts_ = [np.zeros(1), np.ones(2)]
    assert autoencoder.score(rows) == 1
    assert autoencoder.score(rows[:1]) == 1


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e5 + 0.001])
def test_score_of_equal_rows_is_zero_whatever_they_weigh(value, container):
    """Their weighted mean is not quite the value, so that a variance about it is not quite zero."""
    rows, rng = np.full((100, 3), value), np.random.RandomState(0)
    autoencoder = BackpropAutoencoder(1, (), max_iter=1, random_state=0).fit(rows)
    assert autoencoder.score(container(rows)) == 0
    for weight in rng.uniform(size=(20, 100)) * (rng.uniform(size=(20, 100)) < 0.9):
        others = np.where(weight[:, None] > 0, rows, 7)  # a row of weight zero is not there
        assert autoencoder.score(container(others), sample_weight=weight) == 0


def test_set_loss_changes_predictions_only_after_refit():
    autoencoder = small().fit(X)
    codes = autoencoder.transform(X)

    def predictions():
        return autoencoder.inverse_transform(codes), autoencoder.score_samples(X)

    before, score = predictions(), autoencoder.score(X)
    autoencoder.set_params(loss=Poisson())
    np.testing.assert_equal(predictions(), before)
    assert autoencoder.score(X) == score


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_early_stopping_keeps_the_epoch_that_reproduces_held_out_rows_best(
    solver, weight, container
):
    autoencoder = small(early_stopping=True, solver=solver, max_iter=30, learning_rate_init=0.05)
    autoencoder.fit(container(X), sample_weight=weight)
    held_out = autoencoder._training[0].split[1]
    weight_held_out = None if weight is None else weight[held_out]
    score = autoencoder.score(container(X[held_out]), sample_weight=weight_held_out)
    assert score == pytest.approx(autoencoder.best_validation_score_)
    assert autoencoder.best_validation_score_ == max(autoencoder.validation_scores_)


# ------------------------------------------------------------------------------- outliers


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("weight", [None, WEIGHT, WEIGHT - 1], ids=["equal", "weighted", "zeros"])
@pytest.mark.parametrize("contamination", [1e-6, 0.02, 0.1, 1 / 3, 0.5])
@pytest.mark.parametrize("case", CASES)
def test_outliers_are_the_fewest_rows_that_are_reproduced_worst(
    case, contamination, weight, container
):
    """By weight they are no fewer than `contamination`, and with one row less they would be."""
    autoencoder = small(contamination=contamination, **CASES[case])
    labels = autoencoder.fit_predict(container(X), sample_weight=weight)
    errors, share = np.square(X - naive(autoencoder, X)[1]).mean(axis=1), np.ones(N)
    share = share / N if weight is None else weight / weight.sum()

    is_outlier = labels == -1
    assert set(labels) == {-1, 1}
    assert errors[is_outlier].min() > errors[~is_outlier].max()
    assert share[is_outlier].sum() > contamination - 1e-9
    least = np.flatnonzero(is_outlier & (share > 0))
    least = least[errors[least].argmin()]
    assert share[is_outlier].sum() - share[least] < contamination - 1e-9

    np.testing.assert_array_equal(autoencoder.predict(container(X)), labels)
    decision = autoencoder.decision_function(container(X))
    np.testing.assert_array_equal(decision < 0, is_outlier)
    scores = autoencoder.score_samples(container(X))
    np.testing.assert_array_equal(decision, scores - autoencoder.offset_)


@pytest.mark.parametrize("contamination", [0.1, 0.25, 0.5])
def test_the_threshold_takes_weights_for_numbers_of_rows(contamination):
    weighted, repeated = (small(alpha=1.0, contamination=contamination) for _ in range(2))
    weighted.fit(X, sample_weight=WEIGHT)
    repeated.fit(np.repeat(X, WEIGHT.astype(int), axis=0))
    assert weighted.offset_ == pytest.approx(repeated.offset_, rel=1e-8)


@pytest.mark.parametrize("n_equal", [3, 20, N])
def test_rows_that_are_reproduced_alike_are_labeled_alike(n_equal):
    rows = X.copy()
    rows[:n_equal] = 10.0
    labels = small().fit_predict(rows)
    assert len(set(labels[:n_equal])) == 1
    assert set(labels) == ({1} if n_equal == N else {-1, 1})


def test_contamination_changes_the_threshold_alone():
    few, many = (small(contamination=share).fit(X) for share in (0.1, 0.4))
    assert same_bits(few, many)
    assert few.offset_ < many.offset_
    few.offset_ = many.offset_
    np.testing.assert_array_equal(few.predict(X), many.predict(X))


@pytest.mark.parametrize("contamination", [0, 0.0, -0.1, 0.51, 1, np.nan, "auto", None])
def test_contamination_outside_its_range_is_an_error(contamination):
    with pytest.raises(ValueError, match="'contamination' parameter .* must be a float"):
        small(contamination=contamination).fit(X)


def test_error_without_threshold_says_how_to_set_it():
    autoencoder = small().partial_fit(X)
    by_hand = small()
    by_hand.coefs_, by_hand.intercepts_ = autoencoder.coefs_, autoencoder.intercepts_
    for model in (autoencoder, by_hand, small().fit(X).partial_fit(X)):
        for name in ("predict", "decision_function"):
            with pytest.raises(NotFittedError, match=r"offset_ = np\.quantile\(autoencoder\.score"):
                getattr(model, name)(X)
        model.offset_ = np.quantile(model.score_samples(X), 0.3)
        assert (model.predict(X) == -1).sum() == 15


def test_callbacks_and_warm_starts_have_the_threshold_of_their_weights():
    def n_outliers(estimator, rows, y=None):
        return (estimator.predict(rows) == -1).sum()

    monitor = ScoringMonitor(scoring={"n": n_outliers})
    autoencoder = small(warm_start=True, max_iter=3).set_callbacks(monitor).fit(X).fit(X)
    assert [row["n"] for row in monitor.get_logs().data] == [5] * 4  # of the last fit
    assert n_outliers(autoencoder, X) == 5


def test_it_is_an_outlier_detector_in_a_pipeline():
    autoencoder = small(max_iter=300, learning_rate_init=0.01, contamination=0.06)
    model = make_pipeline(StandardScaler(), autoencoder).fit(X)
    assert is_outlier_detector(model)
    assert (model.predict(X) == -1).sum() == 3
    assert (model.predict(X[:, ::-1] * [1, -1, 1, -1]) == -1).mean() > 0.5


# -------------------------------------------------------------------------------- its data


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("case", CASES)
def test_sparse_and_dense_rows_train_equal_networks(case, weight):
    rows = np.where(np.abs(X) > 0.5, X, 0)
    dense, as_sparse = (small(**CASES[case]) for _ in range(2))
    dense.fit(rows, sample_weight=weight)
    as_sparse.fit(sparse.csr_array(rows), sample_weight=weight)
    close = 1e-4 if case == "float32" else 1e-8
    assert_same_network(as_sparse, dense, rtol=close, atol=close)


@pytest.mark.long
@pytest.mark.parametrize("early_stopping", [False, True])
def test_sparse_rows_are_never_dense_all_at_once(early_stopping, monkeypatch):
    monkeypatch.setattr("skbackprop.nn.prediction._BLOCK_NUMBERS", 400_000)
    rows = sparse.random_array((4000, 2000), density=0.002, format="csr", random_state=0)
    autoencoder = small(
        early_stopping=early_stopping, validation_fraction=0.5, batch_size=50, max_iter=1
    )
    for method in (autoencoder.fit, autoencoder.transform, autoencoder.score):
        assert peak_of(method, rows) < 8 * 4000 * 2000 / 5


def test_dense_rows_are_not_copied():
    table = make_fit_context(small(), FitArguments(X, None)).runs[0].table
    assert table.X is X
    assert table.y is X


def test_more_components_than_features_are_allowed():
    assert small(n_components=9).fit_transform(X).shape == (N, 9)


# ------------------------------------------------------------------------------- its layers

IMAGES = np.random.RandomState(4).randn(30, 6, 5, 2).cumsum(axis=1)
LAYERS = {
    "dense": [Dense(5, "tanh"), Dropout(0.1), "scale"],
    "normalized": [Conv2D(3, 3), BatchNormalization(), Activation("relu"), MaxPool2D(2)],
    "strided": [Conv2D(3, 3, 2, "same", "relu"), Conv2D(4, 2, activation="relu")],
    "residual": [Conv2D(4, 3, padding="same"), Residual([Conv2D(4, 3, padding="same")])],
    "recurrent": [Reshape((6, 10)), GRU(4)],
    "pooled": [Conv2D(3, 2, activation="relu"), GlobalAveragePool2D()],
}
every_layers = pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)


@pytest.mark.parametrize("settings", [{"layers": Flatten()}, {"input_shape": (2, 2)}], ids=str)
def test_layers_that_only_change_the_shape_change_nothing(settings):
    plain, other = small().fit(X), small(**settings).fit(X)
    assert same_bits(plain, other)
    np.testing.assert_array_equal(other.transform(X), plain.transform(X))
    np.testing.assert_array_equal(other.score_samples(X), plain.score_samples(X))


@pytest.mark.parametrize("variational", [False, True])
@every_layers
def test_rows_come_back_in_the_shape_in_which_they_came(layers, variational):
    shaped, flat = (small(layers=layers, variational=variational) for _ in range(2))
    shaped.fit(IMAGES)
    rows = IMAGES.reshape(30, -1)
    flat.set_params(input_shape=(6, 5, 2)).fit(rows)
    assert same_bits(shaped, flat)

    codes = shaped.transform(IMAGES)
    assert codes.shape == (30, 2)
    np.testing.assert_array_equal(flat.transform(rows), codes)
    found = shaped.inverse_transform(codes)
    assert found.shape == IMAGES.shape
    np.testing.assert_array_equal(flat.inverse_transform(codes), found.reshape(30, -1))
    if variational:
        assert shaped.sample(3).shape == (3, 6, 5, 2)
    else:
        errors = np.square(found - IMAGES).reshape(30, -1).mean(axis=1)
        np.testing.assert_allclose(shaped.score_samples(IMAGES), -errors)
    assert (shaped.predict(IMAGES) == -1).sum() == 3
    assert (shaped.n_outputs_, shaped.n_features_in_) == (60, 60)


@pytest.mark.long
@every_layers
def test_layers_train_in_pieces_and_come_back_from_pickles_and_files(layers, tmp_path):
    settings = {"layers": layers, "batch_size": 8, "max_iter": 4}
    whole, pieces = small(**settings).fit(IMAGES), small(**settings)
    for _ in range(2):
        pieces.partial_fit(IMAGES)
    for copy in (pickled(pieces, tmp_path), safely_saved(pieces, tmp_path)):
        for _ in range(2):
            copy.partial_fit(IMAGES)
        assert same_bits(copy, whole)
        assert copy.inverse_transform(copy.transform(IMAGES)).shape == IMAGES.shape


@every_layers
def test_networks_with_layers_are_put_together_from_weights(layers):
    fitted = small(layers=layers, input_shape=(6, 5, 2)).fit(IMAGES)
    other = small(layers=layers, input_shape=(6, 5, 2))
    for name, value in vars(fitted).items():
        is_array = isinstance(value, list) and all(isinstance(a, np.ndarray) for a in value)
        if is_array and name.endswith("_"):
            setattr(other, name, value)
    rows = IMAGES.reshape(30, -1)
    np.testing.assert_array_equal(other.transform(rows), fitted.transform(IMAGES))
    assert other.n_outputs_ == other.n_features_in_ == 60


def test_the_number_of_features_follows_from_the_weights_of_both_halves():
    fitted = small(layers=[Dense(3, "tanh")]).fit(X)
    other = small(layers=[Dense(3, "tanh")])
    for name in ("coefs_", "intercepts_", "dense_weights_", "dense_biases_"):
        setattr(other, name, getattr(fitted, name))
    assert other.n_features_in_ == D
    np.testing.assert_array_equal(other.transform(X), fitted.transform(X))


@pytest.mark.long
def test_convolutions_reproduce_digits():
    train, test = train_test_split(load_digits().images.astype("float32") / 16, random_state=0)
    layers = [
        Conv2D(8, 3, padding="same", activation="relu"),
        Conv2D(16, 3, 2, "same", activation="relu"),
    ]
    autoencoder = BackpropAutoencoder(
        8, (64,), layers=layers, learning_rate_init=0.003, batch_size=64, max_iter=25,
        random_state=0,
    ).fit(train)  # fmt: skip
    pca, flat = PCA(8).fit(train.reshape(-1, 64)), test.reshape(-1, 64)
    lost = np.square(flat - pca.inverse_transform(pca.transform(flat))).mean()
    assert -autoencoder.score_samples(test).mean() < 0.8 * lost
    assert autoencoder.inverse_transform(autoencoder.transform(test)).shape == (450, 8, 8)


@pytest.mark.long
def test_a_search_over_layers_finds_what_scikit_learn_finds():
    grid = {"layers__0__n_filters": [2, 3], "learning_rate_init": [1e-3, 1e-2]}
    autoencoder = small(layers=[Conv2D(2, 3)], input_shape=(6, 5, 2))
    ours, theirs = (
        kind(autoencoder, grid, cv=3).fit(IMAGES.reshape(30, -1))
        for kind in (BackpropGridSearchCV, GridSearchCV)
    )
    assert_same_search(ours, theirs)


@pytest.mark.parametrize(
    "settings, rows, message",
    [
        ({"layers": [Embedding(3, 2)]}, np.ones((9, 4)), "Embedding.* has no mirror image"),
        ({"layers": [Conv2D(3, 7)]}, IMAGES, r"layers\[0\]: Conv2D.* 7 x 7 pixels"),
        ({"layers": "periodic"}, X, r"PeriodicEmbedding\(.* has no mirror image"),
        ({"layers": [Dense(3)]}, sparse.csr_array(X), "need a dense X"),
        ({"input_shape": (3, 2)}, X, r"whose rows have the shape \(4,\)"),
        (
            {"layers": [Conv1D(3, 2)]},
            np.where(np.arange(6) < 5, 0, np.nan) * np.ones((9, 1)),
            "NaN, but an autoencoder cannot reproduce",
        ),
    ],
)
def test_layers_that_do_not_fit_are_errors(settings, rows, message):
    autoencoder = small(**settings)
    with pytest.raises((TypeError, ValueError), match=message):
        autoencoder.fit(rows)
    assert vars(autoencoder) == vars(small(**settings))


# ------------------------------------------------------------------------ training in pieces


@pytest.mark.parametrize("name", ["n_components", "hidden_layer_sizes"])
def test_the_architecture_cannot_change_while_training_goes_on(name):
    autoencoder = small(warm_start=True).fit(X)
    with pytest.raises(ValueError, match=rf"^{name} was .* when training began and is .*3"):
        autoencoder.set_params(**{name: 3}).fit(X)


# ---------------------------------------------------------------------------------- faults


def in_frame(rows):
    return pd.DataFrame(rows, columns=NAMES)


@pytest.mark.parametrize(
    "settings, bad, weight, message",
    [
        ({}, X, np.zeros(N), "(?i)weight"),
        ({"n_components": 0}, X, None, "'n_components' parameter .* must be an int"),
        ({"loss": "poisson"}, X, None, "'loss' parameter .* must be .*'squared_error'"),
        ({"loss": Poisson()}, X, None, r"loss=Poisson\(\) needs X >= 0, but X contains -"),
        ({"loss": Gamma()}, np.maximum(X, 0), None, r"Gamma\(\) needs X > 0, but X contains 0"),
        ({"loss": Quantile([0.1, 0.9])}, X, None, "2 outputs per target"),
        ({"activation": ["tanh", "relu"]}, X, None, "activation must have one entry .* got 2"),
        ({"dropout": [0.3]}, X, None, "dropout must be .* sequence of 2 such rates"),
        (
            {"dropout": 0.3, "solver": "lbfgs"},
            X,
            None,
            "solver='lbfgs' needs a deterministic objective",
        ),
        ({"early_stopping": True}, X[:2], None, "must leave rows to train on"),
        ({"dtype": "float32"}, 1e39 * X, None, "Training diverged in epoch"),
        ({"solver": "sgd", "learning_rate_init": 1e200}, X, None, "Training diverged in epoch"),
    ],
)
def test_failed_fit_leaves_the_autoencoder_unchanged(settings, bad, weight, message):
    autoencoder, reference = (small().fit(in_frame(X)) for _ in range(2))
    autoencoder.set_params(**settings)
    with pytest.raises(ValueError, match=message):
        autoencoder.fit(bad, sample_weight=weight)
    autoencoder.set_params(**reference.get_params())
    assert same_bits(autoencoder.partial_fit(in_frame(X)), reference.partial_fit(in_frame(X)))

    unfitted = small(**settings)
    with pytest.raises(ValueError, match=message):
        unfitted.fit(bad, sample_weight=weight)
    assert vars(unfitted) == vars(small(**settings))


def test_codes_of_another_width_or_range_are_an_error():
    autoencoder = small(dtype="float32").fit(X)
    with pytest.raises(ValueError, match=r"X must have n_components=2 column\(s\), got 3"):
        autoencoder.inverse_transform(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="Input contains NaN"):
        autoencoder.inverse_transform(np.full((5, 2), np.nan))
    with pytest.raises(ValueError, match="output on X is not finite"):
        autoencoder.inverse_transform(np.full((5, 2), 1e39))


def test_dir_has_no_attributes_of_other_estimators():
    autoencoder = small().fit(X)
    of_others = ["n_estimators", "normalization", "gains_", "running_means_", "running_variances_"]
    assert not {*of_others, "estimators_", "target_mean_", "classes_"} & set(dir(autoencoder))


def test_a_loss_with_a_range_keeps_reconstructions_in_it():
    counts = np.random.RandomState(0).poisson(np.exp(X))
    autoencoder = small(loss=Poisson(), max_iter=100, learning_rate_init=0.01).fit(counts)
    rows = autoencoder.inverse_transform(autoencoder.transform(counts))
    assert (rows > 0).all()
    assert autoencoder.out_activation_ == "exp"
    assert autoencoder.score(counts) > 0.3
    np.testing.assert_allclose(
        autoencoder.score_samples(counts), -np.square(counts - rows).mean(axis=1)
    )


# ---------------------------------------------------------------------- in scikit-learn's hands


def test_columns_have_names():
    autoencoder = small().fit(in_frame(X))
    names = [f"backpropautoencoder{i}" for i in range(2)]
    assert autoencoder.get_feature_names_out().tolist() == names
    frame = autoencoder.set_output(transform="pandas").transform(in_frame(X))
    assert isinstance(frame, pd.DataFrame)
    assert list(frame) == names
    np.testing.assert_array_equal(frame, naive(autoencoder, X)[0])
    assert autoencoder.inverse_transform(frame).shape == (N, D)


def bits_of(estimator, X, y=None):
    """Return a score that tells any two autoencoders apart."""
    return float(np.sin(1e6 * estimator.score_samples(X)).sum())


SEARCHES = {
    "rates": (small(), {"learning_rate_init": [1e-3, 1e-2], "alpha": [0, 1.0]}, X),
    "widths": (small(), {"n_components": [1, 2], "learning_rate_init": [1e-3, 1e-2]}, X),
    "early stopping": (
        small(early_stopping=True, max_iter=20),
        {"learning_rate_init": [1e-2, 0.1], "validation_fraction": [0.1, 0.3]},
        X,
    ),
    "sparse": (
        small(early_stopping=True, batch_size=8),
        {"learning_rate_init": [1e-3, 1e-2], "random_state": [0, 1]},
        sparse.csr_array(X),
    ),
    "dropout": (small(dropout=[0.3, 0.1], batch_size=8), {"learning_rate_init": [1e-3, 1e-2]}, X),
    "lbfgs": (small(solver="lbfgs"), {"alpha": [0, 1.0]}, X),
    "failing": (small(solver="sgd", max_iter=20), {"learning_rate_init": [1e-3, 1e200]}, X),
    "pipeline": (
        make_pipeline(StandardScaler(), small()),
        {"backpropautoencoder__learning_rate_init": [1e-3, 1e-2]},
        X,
    ),
}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
@pytest.mark.parametrize("scoring", [None, bits_of], ids=["score", "bits"])
@pytest.mark.parametrize("case", SEARCHES)
def test_a_search_finds_what_scikit_learn_finds(case, scoring):
    estimator, grid, rows = SEARCHES[case]
    ours, theirs = (
        kind(estimator, grid, scoring=scoring, cv=3).fit(rows)
        for kind in (BackpropGridSearchCV, GridSearchCV)
    )
    assert_same_search(ours, theirs)
