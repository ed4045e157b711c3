"""Does the autoencoder reproduce its input, and is all that it says of a row true of its network?

The oracles: principal component analysis, which a linear autoencoder has to find; the regressor,
trained on X as its own targets; a forward pass spelled out in NumPy.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.linalg import subspace_angles
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropAutoencoder, BackpropGridSearchCV, BackpropRegressor
from skbackprop.layers import (
    GRU,
    Activation,
    BatchNormalization,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePool2D,
    MaxPool2D,
    Reshape,
    Residual,
)
from skbackprop.losses import Gamma, Poisson, Quantile
from support import (
    NAMES,
    assert_same_search,
    few_epochs,
    pairs,
    peak_of,
    pickled,
    safely_saved,
    same_bits,
)

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


@pytest.mark.parametrize("n_components", [1, 3])
def test_without_hidden_layers_it_finds_the_principal_components(n_components):
    """So says Baldi & Hornik (1989): all minima span the space of the largest components."""
    autoencoder, pca = linear(n_components).fit(WINE), PCA(n_components).fit(WINE)

    expected = pca.inverse_transform(pca.transform(WINE))
    actual = autoencoder.inverse_transform(autoencoder.transform(WINE))
    np.testing.assert_allclose(actual, expected, atol=1e-3)
    for directions in (autoencoder.coefs_[0], autoencoder.coefs_[1].T):
        assert subspace_angles(directions, pca.components_.T).max() < 1e-3
    assert autoencoder.score(WINE) == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-6)


@pytest.mark.parametrize(
    "hidden, solver, weight", pairs([(), (5,), (5, 3)], ["adam", "sgd", "lbfgs"], [None, WEIGHT])
)
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
    settings = {"max_iter": 2, "random_state": 0}
    autoencoder = BackpropAutoencoder(
        2, (6, 4), activation=["relu", "tanh"], dropout=[0.3, 0.2, 0.1], **settings
    ).fit(X)
    regressor = BackpropRegressor(
        (6, 4, 2, 4, 6),
        activation=["relu", "tanh", "identity", "tanh", "relu"],
        dropout=[0.3, 0.2, 0.1, 0.0, 0.1, 0.2],
        **settings,
    ).fit(X, X)
    assert same_bits(autoencoder, regressor)


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
    monkeypatch.setattr("skbackprop.nn.prediction._BLOCK_VALUES", 200)
    np.testing.assert_allclose(autoencoder.score_samples(X), whole, rtol=1e-12)
    np.testing.assert_allclose(autoencoder.score_samples(sparse.csr_array(X)), whole, rtol=1e-12)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e5 + 0.001])
def test_score_of_equal_rows_is_zero_whatever_they_weigh(value, container):
    """Their weighted mean is not quite the value, so that a variance about it is not quite zero."""
    rows, rng = np.full((100, 3), value), np.random.RandomState(0)
    autoencoder = BackpropAutoencoder(1, (), max_iter=1, random_state=0).fit(rows)
    assert autoencoder.score(container(rows)) == 0
    for weight in rng.uniform(size=(20, 100)) * (rng.uniform(size=(20, 100)) < 0.9):
        weight[0] = 0
        others = np.where(weight[:, None] > 0, rows, 7)  # a row of weight zero is not there
        assert autoencoder.score(container(others), sample_weight=weight) == 0


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_early_stopping_keeps_the_epoch_that_reproduces_validation_rows_best(
    solver, weight, container
):
    autoencoder = small(early_stopping=True, solver=solver, max_iter=30, learning_rate_init=0.05)
    rows, weight_val = container(X[::3]), None if weight is None else weight[::3]
    autoencoder.fit(container(X), X_val=rows, sample_weight_val=weight_val)
    score = autoencoder.score(rows, sample_weight=weight_val)
    assert score == pytest.approx(autoencoder.best_validation_score_)
    assert autoencoder.best_validation_score_ == max(autoencoder.validation_scores_)


# ------------------------------------------------------------------------------- outliers


@pytest.mark.parametrize(
    "case, contamination, weight, container",
    pairs(
        list(CASES),
        [1e-6, 0.02, 1 / 3, 0.5],
        [None, WEIGHT, WEIGHT - 1],
        [np.asarray, sparse.csr_array],
    ),
)
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


@pytest.mark.parametrize("contamination", [0, 0.0, -0.1, 0.51, 1, np.nan, "auto", None])
def test_contamination_outside_its_range_is_an_error(contamination):
    with pytest.raises(ValueError, match="'contamination' parameter .* must be a float"):
        small(contamination=contamination).fit(X)


def test_error_without_threshold_says_how_to_set_it():
    for model in (small().partial_fit(X), small().fit(X).partial_fit(X)):
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


# -------------------------------------------------------------------------------- its data


@pytest.mark.parametrize("early_stopping", [False, True])
def test_sparse_rows_are_never_dense_all_at_once(early_stopping, monkeypatch):
    monkeypatch.setattr("skbackprop.nn.prediction._BLOCK_VALUES", 400_000)
    rows = sparse.random_array((4000, 2000), density=0.002, format="csr", random_state=0)
    autoencoder = small(
        early_stopping=early_stopping, validation_fraction=0.5, batch_size=50, max_iter=1
    )
    for method in (autoencoder.fit, autoencoder.transform, autoencoder.score):
        assert peak_of(method, rows) < 8 * 4000 * 2000 / 5


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


@every_layers
def test_layers_train_in_pieces_and_come_back_from_files(layers, tmp_path):
    settings = {"layers": layers, "batch_size": 8, "max_iter": 2}
    whole, pieces = small(**settings).fit(IMAGES), small(**settings).partial_fit(IMAGES)
    for copy in (pickled(pieces, tmp_path), safely_saved(pieces, tmp_path)):
        assert same_bits(copy.partial_fit(IMAGES), whole)
        assert copy.inverse_transform(copy.transform(IMAGES)).shape == IMAGES.shape


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


def score_of(estimator, X, y=None):
    return estimator.score(X)


def bits_of(estimator, X, y=None):
    """Return a score that tells any two autoencoders apart."""
    return float(np.sin(1e6 * estimator.score_samples(X)).sum())


SEARCHES = {
    "early stopping": (
        small(early_stopping=True, batch_size=8, max_iter=20),
        {"learning_rate_init": [1e-2, 0.1], "validation_fraction": [0.1, 0.3]},
        sparse.csr_array(X),
    ),
    "layers": (
        small(layers=[Conv2D(2, 3)], input_shape=(6, 5, 2)),
        {"layers__0__n_filters": [2, 3], "learning_rate_init": [1e-3, 1e-2]},
        IMAGES.reshape(30, -1),
    ),
    "variational": (small(variational=True), {"beta": [0.1, 1.0]}, X),
}


@pytest.mark.parametrize("case", SEARCHES)
def test_a_search_finds_what_scikit_learn_finds(case):
    estimator, grid, rows = SEARCHES[case]
    ours, theirs = (
        kind(estimator, grid, scoring={"score": score_of, "bits": bits_of}, refit="score", cv=3)
        for kind in (BackpropGridSearchCV, GridSearchCV)
    )
    assert_same_search(ours.fit(rows), theirs.fit(rows))
