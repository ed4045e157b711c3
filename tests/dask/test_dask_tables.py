"""Do tabular estimators learn from raw tables on the workers what local ones learn?"""

import pickle
from itertools import pairwise

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask.dataframe.dispatch import concat
from distributed import Client
from scipy import sparse
from sklearn.base import clone

from skbackprop import TabularClassifier, TabularRegressor
from skbackprop.callbacks import Checkpoint
from skbackprop.dask import DaskTabularClassifier, DaskTabularRegressor, _blocks, tabular
from skbackprop.tabular import _model_inputs, _table_encoding, base
from support import few_epochs
from support.cluster import make_cluster
from support.tables import BOTH, growing_levels, predict

pytestmark = [few_epochs, pytest.mark.slow, pytest.mark.usefixtures("client", "one_blas_thread")]

DASK = {TabularClassifier: DaskTabularClassifier, TabularRegressor: DaskTabularRegressor}
SMALL = {"n_estimators": 2, "max_iter": 1, "random_state": 0}
N = 120


def raw_table(kind, n=N):
    """Return a table with a column of each kind, some values of which are missing, and targets."""
    rng = np.random.RandomState(0)
    x, level = rng.randn(n), rng.randint(40, size=n)
    X = pd.DataFrame(
        {
            "x": np.where(rng.rand(n) < 0.1, np.nan, x),
            "flag": rng.rand(n) < 0.3,
            "city": rng.choice(["Bern", "Oslo", None], n),
            "shop": [f"s{each:02}" for each in level % 8 * 5 + level % 3],
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.randint(500, size=n), "D"),
            "paid": [f"{each:.2f} %" for each in 10 * rng.rand(n)],
        }
    )
    score = x + X["flag"] + 0.3 * (level % 8) - 1
    if kind is TabularRegressor:
        return X, 50 * score.to_numpy()
    return X, np.array(["a", "b", "c"], dtype=object)[np.digitize(score, [-0.5, 1.0])]


def as_frame(X, y, ends=(0, 50, 50, 70, N)):
    """Return Dask frames of unknown divisions, whose second block is empty."""
    targets = pd.DataFrame(np.asarray(y), X.index).add_prefix("target")
    table, names = X.join(targets), list(targets)
    parts = [table.iloc[start:stop] for start, stop in pairwise(ends)]
    frame = dd.from_map(lambda part: part, parts, meta=table.iloc[:0])
    assert not frame.known_divisions
    return frame.drop(columns=names), frame[names if len(names) > 1 else names[0]]


@pytest.fixture
def same_streams(monkeypatch):
    """Let local and Dask estimators draw the same folds and weights, and make the same steps.

    Networks get batches of all rows, no dropout and double precision.
    """
    folds = []
    make_folds, network_params = tabular.DaskTabularMixin._make_folds, base.network_params

    def record_folds(*arguments):
        folds[:] = [make_folds(*arguments)]
        return folds[0]

    def in_full_batches(*arguments):
        return network_params(*arguments) | {"batch_size": N, "dropout": 0.0, "dtype": "float64"}

    for module in (base, _model_inputs, tabular):
        monkeypatch.setattr(module, "draw_seed", lambda rng: 0)
    monkeypatch.setattr(tabular.DaskTabularMixin, "_make_folds", record_folds)
    monkeypatch.setattr(_table_encoding, "draw_target_folds", lambda *arguments: folds[0])
    monkeypatch.setattr(base, "network_params", in_full_batches)
    monkeypatch.setattr(base.BaseTabular, "_make_folds", lambda *arguments: folds[0])


SETTINGS = {
    "plain": (TabularClassifier, {}, False),
    "class_weight": (TabularClassifier, {"class_weight": "balanced"}, True),
    "class weights": (TabularClassifier, {"class_weight": {"a": 3.0}}, False),
    "squared_error": (TabularRegressor, {}, True),
    "two targets": (TabularRegressor, {}, True),
    "category interactions": (TabularRegressor, {}, False),
    "absolute_error, not clipped": (TabularRegressor, {"loss": "absolute_error", "clip": False}, 0),
}


@pytest.mark.filterwarnings("ignore:batch_size")
@pytest.mark.parametrize("case", SETTINGS)
def test_fit_on_one_worker_equals_local_fit_with_the_same_folds(case, same_streams):
    kind, changes, is_weighted = SETTINGS[case]
    X, y = growing_levels(N, n_levels=10) if case == "category interactions" else raw_table(kind)
    y = np.column_stack([y, 1e3 * np.abs(y)]) if case == "two targets" else y
    weight = np.random.RandomState(1).randint(0, 3, N).astype(float) if is_weighted else None
    settings = {"n_estimators": 3, "max_iter": 6, "random_state": 0, "blend": None} | changes
    Xd, yd = as_frame(X, y)
    of_rows = None if weight is None else as_frame(X, weight)[1]
    with make_cluster(1) as cluster, Client(cluster):
        model = DASK[kind](**settings).fit(Xd, yd, of_rows)
    local = kind(**settings).fit(X, y, weight)
    assert_same_encoding(model, local)
    has_interactions = model._features.encoding.interactions is not None
    assert has_interactions == (case == "category interactions")
    np.testing.assert_array_equal(model.n_iter_, local.n_iter_)
    np.testing.assert_allclose(model.weights_, local.weights_, rtol=1e-5)
    np.testing.assert_allclose(predict(model, Xd).compute(), predict(local, X), rtol=1e-5)
    assert model.oof_score_ == pytest.approx(local.oof_score_, rel=1e-6)
    if kind is TabularClassifier:
        np.testing.assert_allclose(model.temperatures_, local.temperatures_, rtol=1e-4)
        np.testing.assert_array_equal(model.classes_, local.classes_)
        sets = model.predict_set(Xd, 0.8, by_class=True).compute()
        assert (sets == local.predict_set(X, 0.8, by_class=True)).mean() > 0.99
    else:
        intervals = model.predict_interval(Xd, 0.8).compute()
        np.testing.assert_allclose(intervals, local.predict_interval(X, 0.8), rtol=1e-5)
        for found, expected in zip(
            model.predict(Xd, return_std=True), local.predict(X, return_std=True), strict=True
        ):
            np.testing.assert_allclose(found.compute(), expected, rtol=1e-4)


def assert_same_encoding(model, local):
    """Check that new rows are encoded in the same way."""
    own, theirs = model._features.encoding, local._features.encoding
    for found, expected in zip(own.categories.levels, theirs.categories.levels, strict=True):
        assert (found.frequent, found.counts) == (expected.frequent, expected.counts)
    for name in ("center", "scale", "fill", "scaled", "two_valued", "with_missing"):
        found, expected = getattr(own.numbers, name), getattr(theirs.numbers, name)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    assert model.column_kinds_ == local.column_kinds_


# -------------------------------------------------------------------------------- blocks


def with_own_categories(X, y):
    """Blocks whose categories are their own, in an order of their own."""
    table = X.assign(target=y)
    parts = [table.iloc[start : start + 30] for start in range(0, N, 30)]
    columns = ["city", "shop"]
    parts = [part.astype(dict.fromkeys(columns, "category")) for part in parts]
    for part in parts[::2]:
        part["shop"] = part["shop"].cat.reorder_categories(part["shop"].cat.categories[::-1])
    meta = parts[0].iloc[:0].copy()
    for name in columns:
        meta[name] = meta[name].cat.set_categories(["__UNKNOWN_CATEGORIES__"])
    frame = dd.from_map(lambda part: part, parts, meta=meta)
    return frame.drop(columns="target"), frame["target"]


def sorted_by_category(X, y):
    """Blocks that lack most categories, and some labels."""
    order = np.argsort(X["shop"].to_numpy(), kind="stable")
    return as_frame(X.iloc[order], y[order], ends=(0, 10, 40, 41, N))


def as_arrays(X, y):
    """Arrays of objects, of which X has several blocks of columns too."""
    values = X.assign(flag=X["flag"].astype(float)).to_numpy(dtype=object)
    return da.from_array(values, chunks=(30, 4)), da.from_array(y, chunks=40)


BLOCKS = {
    "own categories in each block": with_own_categories,
    "blocks without some categories": sorted_by_category,
    "arrays of objects": as_arrays,
    "known divisions": lambda X, y: [
        dd.from_pandas(each, npartitions=3) for each in (X, pd.Series(y))
    ],
}


@pytest.mark.filterwarnings("ignore:batch_size")
@pytest.mark.parametrize("blocks", BLOCKS)
@BOTH
def test_encoding_is_that_of_all_rows(kind, blocks, same_streams):
    X, y = raw_table(kind)
    Xd, yd = BLOCKS[blocks](X, y)
    model = DASK[kind](**SMALL).fit(Xd, yd)
    if isinstance(Xd, da.Array):
        whole, n_blocks = Xd.compute(), Xd.numblocks[0]
    else:
        parts = [part.compute() for part in Xd.to_delayed()]
        whole, n_blocks = concat([part for part in parts if len(part)]), len(parts)
    local = kind(**SMALL, blend=None).fit(whole, yd.compute())
    assert_same_encoding(model, local)
    probabilities = predict(model, Xd)
    assert probabilities.dtype == float and probabilities.numblocks[0] == n_blocks
    np.testing.assert_allclose(
        probabilities.compute(), predict(model.to_local(), whole), rtol=1e-5, atol=1e-7
    )


@BOTH
def test_all_rows_decide_on_categories_and_the_sample_on_the_rest(kind, monkeypatch):
    X, y = raw_table(kind)
    monkeypatch.setattr(_blocks, "_MAX_SAMPLE_ROWS", 60)
    monkeypatch.setattr(tabular, "_MIN_SAMPLE_ROWS", 60)
    settings = SMALL | ({"class_weight": "balanced"} if kind is TabularClassifier else {})
    model = DASK[kind](**settings).fit(*as_frame(X, y))
    local = kind(**settings, blend=None).fit(X, y)
    own, theirs = model._features.encoding, local._features.encoding
    for found, expected in zip(own.categories.levels, theirs.categories.levels, strict=True):
        assert found.counts == expected.counts
    assert not np.array_equal(own.numbers.center, theirs.numbers.center)
    own, theirs = own.categories.statistics, theirs.categories.statistics
    if own is not None:
        for found, expected in zip(own.tables, theirs.tables, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12)
    if kind is TabularRegressor:
        np.testing.assert_array_equal(model._range, local._range)
    else:
        np.testing.assert_allclose(model._class_weights, local._class_weights)


def test_networks_do_not_see_the_targets_of_their_held_out_rows():
    """Only network 1 gives the same outputs after the targets of fold 1 have changed."""
    rng = np.random.RandomState(0)
    X, y = pd.DataFrame(rng.randn(N, 2), columns=["a", "b"]), rng.randn(N)
    folds = []
    for part in range(4):
        block = _blocks.Block(X[30 * part : 30 * part + 30], y[30 * part : 30 * part + 30])
        arguments = {"is_stratified": False, "n_folds": 3, "seed": 7}
        validate = TabularRegressor._validate_targets
        folds.append(tabular._check_block(block, part, validate, **arguments).folds)
    folds = np.concatenate(folds)
    assert sorted(np.bincount(folds)) == [40, 40, 40]

    def weights_of(y):
        frame = dd.from_pandas(X.assign(y=y), npartitions=4)
        model = DaskTabularRegressor(3, max_iter=2, random_state=0)
        return model.fit(frame[["a", "b"]], frame["y"]).networks_[0].coefs_[0]

    with pytest.MonkeyPatch.context() as context:
        context.setattr(tabular, "draw_seed", lambda rng: 7)
        changed = y.copy()
        changed[folds == 1] = y[folds == 1][::-1]  # with the same mean and scale
        before, after = weights_of(y), weights_of(changed)
    np.testing.assert_allclose(after[1], before[1], atol=1e-4)
    assert min(np.abs(after[i] - before[i]).max() for i in (0, 2)) > 1e-2


# -------------------------------------------------------------------- fitted estimators


@BOTH
@pytest.mark.parametrize("sync_every", [1, 10])
def test_workers_learn_as_much_as_one_machine(kind, sync_every):
    X, y = raw_table(kind)
    settings = {"n_estimators": 2, "max_iter": 12, "random_state": 0, "blend": None}
    model = DASK[kind](**settings, sync_every=sync_every).fit(*as_frame(X, y))
    assert model.oof_score_ > kind(**settings).fit(X, y).oof_score_ - 0.1


@BOTH
def test_to_local_is_a_local_estimator_and_score_is_its_score(kind):
    X, y = raw_table(kind)
    Xd, yd = as_frame(X, y)
    weight = np.random.RandomState(1).rand(N)
    model = DASK[kind](**SMALL).fit(Xd, yd)
    local = model.to_local()
    assert type(local) is kind and local.get_params() == kind(**SMALL).get_params()
    own, theirs = local.networks_[0], kind(**SMALL, blend=None).fit(X, y).networks_[0]
    assert type(own) is type(theirs)
    # The two workers share batches, and make longer steps by square root scaling.
    assert own.batch_size < 0.6 * theirs.batch_size
    shares = [each.learning_rate_init**2 * each.batch_size for each in (own, theirs)]
    assert shares[0] == pytest.approx(shares[1], rel=0.1)
    of_rows = as_frame(X, weight)[1]
    assert model.score(Xd, yd, of_rows) == pytest.approx(local.score(X, y, weight))
    assert model.score(X, y) == local.score(X, y)
    np.testing.assert_array_equal(model.predict(X), local.predict(X))
    assert local.explain(X[:2]).values.shape[:2] == (2, 6)
    with pytest.raises(ValueError, match="sklearn.inspection.permutation_importance"):
        local.permutation_importance(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), local.predict(X))
    assert not hasattr(clone(model), "networks_")


def test_predictions_are_monotone():
    X, y = raw_table(TabularRegressor)
    model = DaskTabularRegressor(**SMALL, monotonic_cst={"x": -1}).fit(*as_frame(X, y))
    steps = np.diff(model.predict(X.iloc[[0] * 50].assign(x=np.linspace(-3, 3, 50))))
    assert steps.max() <= 0 and steps.min() < 0


def test_validation_rows_take_the_place_of_folds():
    X, y = raw_table(TabularClassifier)
    Xd, yd = as_frame(X, y)
    settings = SMALL | {"max_iter": 12}
    model = DaskTabularClassifier(**settings).fit(Xd, yd, X_val=Xd, y_val=yd)
    assert not hasattr(model, "oof_score_")
    local = TabularClassifier(**settings, blend=None).fit(X, y, X_val=X, y_val=y)
    assert model.score(X, y) > local.score(X, y) - 0.1


# ------------------------------------------------------------------------------- errors


ERRORS = {
    "blend": ({"blend": "boosting"}, {}, "not support blend='boosting' on a Dask cluster"),
    "groups": ({}, {"groups": np.arange(N)}, "pass X_val and y_val with rows of other groups"),
    "resume_from": (
        {},
        {"resume_from": "file"},
        "does not support resume_from",
    ),
    "sync_every": ({"sync_every": 0}, {}, "'sync_every' parameter"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_is_not_possible(name):
    params, arguments, match = ERRORS[name]
    X, y = as_frame(*raw_table(TabularClassifier))
    with pytest.raises(ValueError, match=match):
        DaskTabularClassifier(**params).fit(**{"X": X, "y": y} | arguments)


def test_errors_of_blocks(monkeypatch):
    X, y = raw_table(TabularClassifier)
    Xd, yd = as_frame(X, y)
    model = DaskTabularClassifier(**SMALL | {"n_estimators": 8})
    with pytest.raises(ValueError, match="n_samples = 5, but not each of n_estimators=8"):
        model.fit(*as_frame(X[:5], y[:5], ends=(0, 3, 5)))
    with pytest.raises(ValueError, match="one network would hold out all of them"):
        model.fit(Xd, yd, as_frame(X, np.arange(N) == 3)[1])
    with pytest.raises(TypeError, match="X must be a Dask array or frame, got pandas.DataFrame"):
        model.fit(X, yd)
    with pytest.raises(ValueError, match="block 3 of X: .* 50, 49"):
        model.fit(Xd, as_frame(X[:-1], y[:-1], ends=(0, 50, 50, 70, N))[1])
    with_gaps = np.column_stack([np.arange(N), np.where(np.arange(N) == 60, np.nan, 1.0)])
    with pytest.raises(ValueError, match="block 2 of X: On a Dask cluster, y must not contain NaN"):
        DaskTabularRegressor(**SMALL).fit(*as_frame(X, with_gaps))
    rows = da.from_array(np.zeros((N, 2)), chunks=(60, 2)).map_blocks(sparse.csr_array)
    with pytest.raises(TypeError, match="block . of X is sparse"):
        model.fit(rows, da.from_array(y.astype(str), chunks=60))
    with pytest.raises(ValueError, match="does not support .* Checkpoint"):
        clone(model).set_callbacks(Checkpoint("file.npz")).fit(Xd, yd)
    # A string among numbers that the sample has not shown.
    X = np.random.RandomState(0).randn(N, 2).astype(object)
    X[-1, 0] = "far"
    rows, y = da.from_array(X, chunks=(60, 2)), da.from_array(np.arange(N) % 2, chunks=60)
    monkeypatch.setattr(_blocks, "_MAX_SAMPLE_ROWS", 10)
    monkeypatch.setattr(tabular, "_MIN_SAMPLE_ROWS", 10)
    with pytest.raises(ValueError, match="block 1 of X: Column 0 held numbers in fit, .*'far'"):
        DaskTabularClassifier(**SMALL).fit(rows, y)
