"""Targets, weights, batches and splits of unusual kinds are learned from, or named in an error."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.exceptions import DataConversionWarning

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from skbackprop.losses import BrierScore, Focal, Hinge, LogLoss, SquaredHinge
from support import (
    BOTH,
    PAIRS,
    SOLVERS,
    N,
    assert_same_network,
    changed,
    classes_for,
    data_for,
    few_epochs,
    quick,
    value_data,
)

pytestmark = few_epochs

# ------------------------------------------------------------------------------- containers


@PAIRS
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_column_vector_for_y_warns_as_in_scikit_learn(ours, theirs, method):
    X, y = data_for(ours)
    arguments = (None, [0, 1, 2]) if method == "partial_fit" and ours is BackpropClassifier else ()
    models = []
    for estimator_class in (theirs, ours):
        model = quick(estimator_class)
        with pytest.warns(DataConversionWarning, match="column-vector y") as caught:
            getattr(model, method)(X, y[:, None], *arguments)
        assert len([w for w in caught if w.category is DataConversionWarning]) == 1
        models.append(model)
    assert models[1].predict(X).shape == (N,)
    assert_same_network(models[1], models[0], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("container", [sparse.csr_array, sparse.csc_matrix])
def test_regressor_takes_sparse_targets(container):
    X, Y = value_data(N, n_outputs=3)
    from_sparse = quick(BackpropRegressor).fit(X, container(Y))
    assert_same_network(from_sparse, quick(BackpropRegressor).fit(X, Y))
    assert isinstance(from_sparse.predict(X), np.ndarray)
    assert from_sparse.score(X, container(Y)) == pytest.approx(from_sparse.score(X, Y))


# ------------------------------------------------------------------------------------ values


@pytest.mark.parametrize(
    "y, message",
    [
        (np.full(N, "cat"), "could not convert string to float.*cat"),
        (np.full(N, 1j), r"[Cc]omplex"),
        (None, r"requires y to be passed"),
        (changed(np.ones(N), 3, 10**400, dtype=object), "y must contain numbers: .*too large"),
        (changed(np.ones(N), 3, np.inf, dtype=object), "Input y contains infinity"),
        (changed(np.ones(N), 3, -np.inf, dtype=str), "Input y contains infinity"),
        (
            [[1.0], [1.0, 2.0]] * (N // 2),
            r"Input y contains \[1.0\] in row 0. Pass the same number",
        ),
    ],
    ids=["words", "complex", "None", "too large", "infinite object", "infinite word", "lists"],
)
def test_targets_of_a_regressor_must_be_numbers(y, message):
    X, _ = value_data(N)
    with pytest.raises(ValueError, match=message):
        quick(BackpropRegressor).fit(X, y)


@pytest.mark.parametrize("container", [list, np.asarray, pd.Series], ids=lambda c: c.__name__)
@pytest.mark.parametrize("value", [None, np.nan])
def test_missing_targets_are_an_error(container, value):
    X, y = value_data(N)
    model = quick(BackpropRegressor).fit(X, y)
    wrong = container(changed(y, 3, value, dtype=object))
    for call in (quick(BackpropRegressor).fit, quick(BackpropRegressor).partial_fit, model.score):
        with pytest.raises(ValueError, match="Input y contains NaN.*row 3 has no target"):
            call(X, wrong)


@pytest.mark.parametrize("loss", [LogLoss(), BrierScore(), Focal(1.0)])
def test_losses_of_labels_are_for_shares_between_0_and_1(loss):
    X, values = value_data(N)
    X, shares = pd.DataFrame(X).add_prefix("x"), expit(values)  # its names cause no warning
    network = quick(BackpropRegressor, loss=loss, max_iter=100, learning_rate_init=0.05)
    network.fit(X, shares)
    assert network.score(X, shares) > 0.3
    assert ((network.predict(X) > 0) & (network.predict(X) < 1)).all()
    for wrong, named in ((values, r">= 0, but y contains -"), (2 * shares, "<= 1, but y contains")):
        with pytest.raises(ValueError, match=f"needs targets y {named}"):
            network.partial_fit(X, wrong)
    with pytest.raises(ValueError, match=r"scale_target=True needs a loss that accepts all"):
        quick(BackpropRegressor, loss=loss, scale_target=True).fit(X, shares)
    with pytest.raises(ValueError, match="needs X <= 1, but X contains"):
        quick(BackpropAutoencoder, loss=loss).fit(np.abs(X))


@pytest.mark.parametrize("estimator_class", [BackpropRegressor, BackpropAutoencoder])
@pytest.mark.parametrize("loss", [Hinge(), SquaredHinge()])
def test_a_loss_of_decision_values_predicts_no_numbers(loss, estimator_class):
    X, values = value_data(N)
    with pytest.raises(ValueError, match=r"inge\(.*\) is a loss of classifiers.*BackpropC"):
        quick(estimator_class, loss=loss).fit(expit(X), expit(values))


# ----------------------------------------------------------------------- batches and splits


@BOTH
def test_batch_size_over_the_number_of_rows_is_clipped(estimator_class):
    X, y = data_for(estimator_class)
    with pytest.warns(UserWarning, match="batch_size") as caught:
        clipped = quick(estimator_class, batch_size=N + 1).fit(X, y)
    about_it = [str(w.message) for w in caught if "batch_size" in str(w.message)]
    assert len(about_it) == 1
    assert str(N) in about_it[0]
    assert_same_network(clipped, quick(estimator_class, batch_size=N).fit(X, y))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = quick(estimator_class, batch_size=N + 1)
        for _ in range(3):
            batch.partial_fit(X, y, **classes_for(estimator_class))
    assert batch.t_ == 3 * N


@BOTH
@SOLVERS
def test_early_stopping_with_too_few_rows_is_an_error(estimator_class, solver):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, solver=solver, early_stopping=True)
    with pytest.raises(ValueError, match=r"early_stopping.*rows"):
        model.fit(X[:2], y[:2])
    # Three rows are enough: two are held out.
    assert len(model.fit(X[:3], y[:3]).validation_scores_) == model.n_iter_
    with pytest.raises(ValueError, match="validation_fraction"):
        quick(estimator_class, early_stopping=True, validation_fraction=0.99).fit(X[:10], y[:10])


# --------------------------------------------------------------------------- sample weights


@BOTH
@pytest.mark.parametrize("method", ["fit", "partial_fit", "score"])
@pytest.mark.parametrize(
    "weight, named",
    [
        (changed(np.ones(N), 3, -1), r"[Nn]egative values.*sample_weight"),
        (changed(np.ones(N), 3, np.nan), "sample_weight contains NaN"),
        (changed(np.ones(N), 3, np.inf), "sample_weight contains infinity"),
        (np.zeros(N), r"sample_weight.*zero|[Ss]ample weights.*zero|zero.*sample_weight"),
        (np.ones(N - 1), r"sample_weight\.shape"),
        (np.ones((N, 1)), r"[Ss]ample weights? must be 1D"),
        (np.full(N, "heavy"), r"could not convert string to float.*heavy"),
        (np.full(N, 1j), r"[Cc]omplex"),
    ],
    ids=["negative", "NaN", "infinite", "zero", "short", "2-D", "words", "complex"],
)
def test_wrong_sample_weight_is_an_error(estimator_class, method, weight, named):
    X, y = data_for(estimator_class)
    arguments = classes_for(estimator_class) if method == "partial_fit" else {}
    model = quick(estimator_class)
    model = model.fit(X, y) if method == "score" else model
    with pytest.raises(ValueError, match=named):
        getattr(model, method)(X, y, sample_weight=weight, **arguments)


@pytest.mark.parametrize("reuses_split", [False, True], ids=["new split", "same split"])
def test_early_stopping_that_holds_out_every_row_that_counts_is_an_error(reuses_split):
    X, y = value_data(N)
    estimator = quick(BackpropRegressor, early_stopping=True, warm_start=reuses_split).fit(X, y)
    messages = []
    for row in range(N):  # the only row of weight above zero; for some seeds it is held out
        try:
            estimator.fit(X, y, sample_weight=np.eye(N)[row])
        except ValueError as error:
            messages.append(str(error))
    assert 0 < len(messages) < N
    assert all("a positive sample_weight" in message for message in messages)
