"""Are lines of categories those of the model with random slopes, and used where they help?"""

import numpy as np
import pandas as pd
import pytest

from skbackprop import TabularClassifier, TabularRegressor
from skbackprop.persistence import load, save
from skbackprop.tabular import TableEncoder, _random_slopes, _table_encoding
from skbackprop.tabular._random_slopes import (
    RandomSlopes,
    _SlopeTest,
    fit_random_slopes,
)
from support.tables import columns_of, growing_levels

SMALL = {"n_estimators": 3, "max_iter": 2, "random_state": 0, "blend": None}


def interactions_of(model):
    return model._features.encoding.interactions


# ------------------------------------------------------------------------------- one pair


def rows_of_lines(n, n_codes, slope_std, noise, seed=0):
    rng = np.random.RandomState(seed)
    codes, z = 1 + rng.permutation(n) % n_codes, rng.randn(n)
    intercepts, slopes = rng.randn(n_codes), 1 + slope_std * rng.randn(n_codes)
    y = intercepts[codes - 1] + slopes[codes - 1] * z + noise * rng.randn(n)
    return codes, z, y, intercepts, slopes


def test_lines_without_noise_are_exact():
    codes, z, y, intercepts, slopes = rows_of_lines(200, 10, 1.0, 0.0)
    found = fit_random_slopes(codes, z, y, 11)
    np.testing.assert_allclose(found[1:11], np.column_stack([intercepts, slopes]), rtol=1e-9)
    np.testing.assert_allclose(found[11], found[0])  # a category without rows


def test_slopes_are_shrunk_as_much_as_the_variances_say():
    """By the variances that the rows were drawn with, the best linear predictor is known."""
    codes, z, y, _, slopes = rows_of_lines(40_000, 4000, 0.5, 2.0)
    heights, found = fit_random_slopes(codes, z, y, 4000)[1:].T
    sums = _SlopeTest.from_rows(codes, z[:, None], y, 4000)
    zz, own = sums.zz[:, 0], sums.zy[:, 0] / sums.zz[:, 0]
    share = 0.25 / (0.25 + 4 / zz)
    np.testing.assert_allclose(found, 1 + share * (own - 1), atol=0.1)
    errors = [np.square(each - slopes).mean() for each in (found, own, np.ones(4000))]
    assert errors[0] < 0.8 * min(errors[1:])
    mean_z = sums.mean_z[:, 0]
    noise = 4 / sums.counts + mean_z**2 / (4 + zz / 4)
    np.testing.assert_allclose(heights, (sums.mean_y - found * mean_z) / (1 + noise), atol=0.05)


def test_parallel_lines_have_the_slope_of_least_squares():
    codes, z, y, *_ = rows_of_lines(300, 5, 0.0, 0.5)
    found = fit_random_slopes(codes, z, y, 5, are_parallel=True)
    dummies = (codes[:, None] == np.arange(1, 6)).astype(float)
    expected = np.linalg.lstsq(np.column_stack([z, dummies]), y, rcond=None)[0][0]
    np.testing.assert_allclose(found[:, 1], expected)


def test_the_f_test_is_that_of_nested_models():
    codes, z, y, *_ = rows_of_lines(120, 4, 0.3, 0.7)
    dummies = (codes[:, None] == np.arange(1, 5)).astype(float)

    def squares(design):
        return np.square(y - design @ np.linalg.lstsq(design, y, rcond=None)[0]).sum()

    common, own = (
        squares(np.column_stack([dummies, z])),
        squares(np.hstack([dummies, dummies * z[:, None]])),
    )
    test = _SlopeTest.from_rows(codes, z[:, None], y, 4)
    assert test.within[0] == pytest.approx(own / (120 - 8))
    assert test.between[0] == pytest.approx(common - own)
    assert test.gain[0] == pytest.approx(1 - own / 112 / (common / 115))


def test_the_pair_of_the_lowest_error_is_kept(monkeypatch):
    """Not that whose slopes gain most: lines of the first categories also know their heights."""
    monkeypatch.setattr(_random_slopes, "MAX_PAIRS", 1)
    rng = np.random.RandomState(0)
    codes, z = rng.randint(1, 9, (1000, 2)), rng.randn(1000, 1)
    slopes = np.where(codes % 2, 1, -1) @ [0.5**0.5, 1]
    y = np.where(codes[:, 0] > 4, 1, -1) + slopes * z[:, 0]
    arguments = np.array([True]), y, lambda: np.arange(1000) % 5, [8, 8]
    assert RandomSlopes.fit(codes, z, *arguments).categories == (0,)


# ------------------------------------------------------------------------------- estimators


def test_a_line_does_not_depend_on_the_target_of_its_row():
    frame, y = growing_levels(300)

    def rows(y):
        encoding, rows = _table_encoding.FittedEncoding.fit(
            columns_of(frame),
            y,
            TableEncoder(target_type="continuous", random_state=0),
            with_interactions=True,
        )
        return encoding, encoding.read_rows(columns_of(frame), encoding.folds).numbers, rows.numbers

    encoding, expected, given = rows(y)
    assert encoding.interactions is not None
    np.testing.assert_allclose(expected, given, rtol=1e-5, atol=1e-5)
    outputs = encoding.outputs()
    assert [each.suffix for each in outputs if each.type == "target"] == [
        "_target",
        "_interaction_0",
    ]
    for row in range(0, 300, 37):
        changed = y.copy()
        changed[row] += 5
        np.testing.assert_array_equal(rows(changed)[1][row], expected[row])


def test_lines_lower_the_error_on_new_rows():
    frame, y = growing_levels(600)
    new, y_new = growing_levels(600, seed=1)
    scores = []
    for has_interactions in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not has_interactions:
                patch.setattr(RandomSlopes, "fit", lambda *_: None)
            model = TabularRegressor(3, max_iter=15, random_state=0, blend=None).fit(frame, y)
        assert (interactions_of(model) is not None) == has_interactions
        scores.append(1 - model.score(new, y_new))
    assert scores[0] < 0.5 * scores[1]


@pytest.mark.filterwarnings("ignore:Some columns may be misread")
def test_no_lines_where_slopes_are_equal_or_there_are_none():
    frame, y = growing_levels(300)
    rng = np.random.RandomState(0)
    for table, target in (
        (frame, frame["time"] + rng.randn(300)),
        (frame, np.ones(300)),
        (frame[["level"]], y),
        (frame[["time"]], y),
        (frame.assign(level=[f"l{at}" for at in range(300)]), y),
    ):
        assert interactions_of(TabularRegressor(**SMALL).fit(table, target)) is None
    assert interactions_of(TabularClassifier(**SMALL).fit(frame, y > 0)) is None
    # Levels are groups: new rows are of other levels, so that lines are of no use.
    for n_levels in (20, 40):  # without and with target statistics
        frame, y = growing_levels(300, n_levels=n_levels)
        groups = frame["level"].str[1:].astype(int)
        assert interactions_of(TabularRegressor(**SMALL).fit(frame, y, groups=groups)) is None


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_targets_of_any_unit(unit):
    frame, y = growing_levels(300)
    coefficients = [
        RandomSlopes.fit(
            frame["level"].str[1:].astype(int).to_numpy()[:, None] + 1,
            frame[["time"]].to_numpy(),
            np.array([True]),
            y * factor,
            lambda: np.arange(300) % 5,
            [40],
        ).coefficients[0]
        for factor in (1.0, unit)
    ]
    np.testing.assert_allclose(coefficients[1], unit * coefficients[0], rtol=1e-9)


def test_lines_in_explanations_importances_and_files(tmp_path):
    frame, y = growing_levels(300)
    frame["time"] = frame["time"].where(frame.index % 50 > 0)
    model = TabularRegressor(**SMALL | {"max_iter": 10}).fit(frame, y)
    assert interactions_of(model) is not None
    # The share of a column in two is the mean of its effects in both orders.
    row, background = frame[1:2], frame[100:108]
    mixed = {name: model.predict(background.assign(**{name: row[name].iloc[0]})) for name in frame}
    own, base = model.predict(row)[0], model.predict(background)
    expected = [
        ((mixed[name] - base) + (own - mixed[other])).mean() / 2
        for name, other in (("time", "level"), ("level", "time"))
    ]
    found = model.explain(row, background=background)
    np.testing.assert_allclose(found.values[0], expected, atol=1e-4 * y.std())
    kept = model.explain(frame[:3])
    np.testing.assert_allclose(
        kept.values.sum(axis=1) + kept.base_values, model.predict(frame[:3]), rtol=1e-6
    )
    importances = model.permutation_importance(frame, y, random_state=0).importances_mean
    assert (importances > 0.1).all()
    save(model, tmp_path / "model.skops")
    again = load(tmp_path / "model.skops")
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    # Unknown and missing categories have the line of all.
    other = pd.DataFrame({"time": [1.0, np.nan], "level": ["new", None]})
    assert np.isfinite(model.predict(other)).all()
