"""Do target statistics of a row never depend on its own target, wherever they are used?"""

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline

from skbackprop import BackpropRegressor, TabularClassifier, TabularRegressor
from skbackprop.tabular import TableEncoder
from skbackprop.tabular._table_encoding import FittedEncoding
from support.cases import SHORT
from support.tables import BOTH, columns_of

N = 160
SMALL = {"n_estimators": 3, "max_iter": 2, "blend": None, "random_state": 0}


def many_levels(n=N, seed=0):
    """Return a frame with a column of 40 levels, and a target of noise."""
    rng = np.random.RandomState(seed)
    frame = pd.DataFrame({"x": rng.randn(n), "level": [f"l{at}" for at in rng.permutation(n) % 40]})
    return frame, rng.randn(n)


TARGETS = {
    "continuous": lambda y: y,
    "binary": lambda y: (y > 0).astype(int),
    "multiclass": lambda y: np.digitize(y, [-0.5, 0.5]),
}


def statistics_of(y, kind, groups=None):
    """Return the statistics of the training rows before they are scaled."""
    frame, _ = many_levels()
    encoding, _ = FittedEncoding.fit(
        columns_of(frame),
        y,
        TableEncoder(min_frequency=1, target_type=kind, random_state=0),
        groups=groups,
    )
    return encoding.read_rows(columns_of(frame), encoding.folds).numbers[:, 1:]


@pytest.mark.parametrize("kind", TARGETS)
def test_a_statistic_does_not_depend_on_the_target_of_its_row(kind):
    y = TARGETS[kind](many_levels()[1])
    expected = statistics_of(y, kind)
    others_change = False
    for row in range(0, N, 13):
        changed = y.copy()
        changed[row] = 100.0 if kind == "continuous" else (y[row] + 1) % (y.max() + 1)
        found = statistics_of(changed, kind)
        np.testing.assert_array_equal(found[row], expected[row])
        others_change |= not np.array_equal(found, expected)
    assert others_change


def test_a_statistic_does_not_depend_on_the_targets_of_its_group():
    y, groups = many_levels()[1], np.arange(N) // 4
    expected = statistics_of(y, "continuous", groups)
    for group in range(0, N // 4, 3):
        found = statistics_of(np.where(groups == group, 50.0, y), "continuous", groups)
        np.testing.assert_array_equal(found[groups == group], expected[groups == group])


def test_the_statistics_of_a_level_by_hand():
    """The mean of the other folds, shrunk towards their overall mean by sklearn's "auto"."""
    frame = pd.DataFrame({"level": list("aabbc") * 8})
    y = np.tile([1.0, 3.0, 5.0, 9.0, 6.0], 8) + np.arange(40) % 3
    encoding, _ = FittedEncoding.fit(
        columns_of(frame),
        y,
        TableEncoder(max_categories=2, target_type="continuous", random_state=0),
    )
    folds = encoding.folds
    numbers = encoding.read_rows(columns_of(frame), encoding.folds).numbers
    assert np.bincount(folds).tolist() == [8] * 5
    for row in range(len(y)):
        others = folds != folds[row]
        own = y[others & (frame["level"] == frame["level"][row])]
        overall = y[others]
        # Micci-Barreca (2001): the weight of the level is n / (n + var_within / var_overall).
        weight = len(own) / (len(own) + own.var() / overall.var())
        weight *= frame["level"][row] != "a"  # which has an output of its own
        expected = weight * own.mean() + (1 - weight) * overall.mean()
        assert numbers[row, 0] == pytest.approx(expected, rel=1e-12)


def test_pipelines_are_trained_on_statistics_without_the_own_target():
    frame, y = many_levels()
    encoder = TableEncoder(min_frequency=1, random_state=0)
    pipeline = make_pipeline(encoder, BackpropRegressor((3,), **SHORT)).fit(frame, y)
    alone = BackpropRegressor((3,), **SHORT).fit(encoder.fit_transform(frame, y), y)
    np.testing.assert_array_equal(pipeline[-1].coefs_[0], alone.coefs_[0])


# ------------------------------------------------------------------------------- identifiers


@BOTH
@pytest.mark.parametrize("blend", [None, "boosting"])
def test_nothing_is_learned_from_unique_identifiers(kind, blend):
    frame, y = many_levels()
    frame = frame[["x"]].assign(id=[f"i{at}" for at in np.random.RandomState(1).permutation(N)])
    y = y if kind is TabularRegressor else y > 0
    for split in ({}, {"X_val": frame[:40], "y_val": y[:40]}):
        settings = SMALL | {"blend": blend, "column_kinds": {"id": "category"}}
        model = kind(**settings).fit(frame, y, **split)
        output = model.predict if kind is TabularRegressor else model.predict_proba
        shuffled = frame.assign(id=frame["id"].to_numpy()[::-1])
        np.testing.assert_array_equal(output(frame), output(shuffled))
        np.testing.assert_array_equal(output(frame), output(frame.assign(id="new")))
        assert not model.explain(frame[:3]).values[:, 1].any()
        if not split:
            importances = model.permutation_importance(frame, y, random_state=0)
            assert not importances.importances[1].any()


@pytest.mark.parametrize("blend", [None, "boosting"])
def test_out_of_fold_scores_of_identifiers_are_those_of_chance(blend):
    """Of ten rows each: the sum of the targets of an identifier must not be found out."""
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({"x": rng.randn(600), "id": [f"i{at % 60}" for at in range(600)]})
    y = rng.randn(600) > 0
    model = TabularClassifier(random_state=0, blend=blend).fit(frame, y)
    assert model._features.encoding.categories.statistics is not None
    assert model.oof_score_ < 0.57


def test_background_rows_have_out_of_fold_statistics():
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({"level": [f"l{at}" for at in rng.permutation(99) % 33]})
    model = TabularRegressor(**SMALL).fit(frame, rng.randn(99))
    encoding = model._features.encoding
    expected = encoding.read_rows(columns_of(frame), encoding.folds)
    np.testing.assert_array_equal(model.background_.numbers, expected.numbers)
    in_sample = encoding.read_rows(columns_of(frame))
    assert not np.allclose(in_sample.numbers, expected.numbers)
