"""Do dates, times and durations become the parts of the calendar, from any library and type?"""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skbackprop import TabularRegressor
from skbackprop.tabular import TableEncoder
from skbackprop.tabular._column_values import convert_values
from skbackprop.tabular._date_and_text_encodings import DateEncoding
from skbackprop.tabular._read_table import FEW_ROWS

# Before 1970, a leap day, the last day of a leap year, and Mondays and Sundays.
MOMENTS = [
    dt.datetime(1931, 1, 5, 6),
    dt.datetime(1969, 12, 31, 23, 59, 59, 999_999),
    dt.datetime(1970, 1, 1),
    dt.datetime(2000, 2, 29, 12),
    dt.datetime(2020, 12, 31, 18, 30),
    dt.datetime(2024, 7, 7, 0, 0, 1),
    None,
    dt.datetime(2026, 11, 29, 9, 15),
]
PARTS = list(DateEncoding.suffixes)


def parts_by_pandas(moments):
    """Return the parts of dates by pandas' accessors and the formulas of the docstring."""
    dates = pd.Series(pd.to_datetime(moments)).astype("datetime64[us]")
    months, midnight = dates.dt.month - 1, dates.dt.normalize()
    n_days = 365 + dates.dt.is_leap_year.astype(int)
    shares = {
        "month": months / 12,
        "weekday": dates.dt.day_of_week / 7,
        "yearday": (dates.dt.day_of_year - 1) / n_days,
        "hour": (dates - midnight) / pd.Timedelta(days=1),
    }
    columns = {"_year": dates.dt.year.astype(float)}
    for name, share in shares.items():
        columns[f"_{name}_sin"] = np.sin(2 * np.pi * share)
        columns[f"_{name}_cos"] = np.cos(2 * np.pi * share)
    columns["_elapsed"] = (dates - dates.min()) / pd.Timedelta(days=1)
    return pd.DataFrame(columns).mask(dates.isna())


def test_parts_match_pandas():
    dates = convert_values(MOMENTS, "date", "Column")
    found = DateEncoding.fit(dates, "when").encode(dates)
    expected = parts_by_pandas(MOMENTS)
    assert list(expected.columns) == PARTS
    np.testing.assert_allclose(found, expected.to_numpy(), rtol=1e-10, atol=1e-10)


BERLIN = "Europe/Berlin"
MAKERS = {
    "pandas, microseconds": lambda m: pd.DataFrame({"when": pd.Series(m, dtype="M8[us]")}),
    "pandas, nanoseconds": lambda m: pd.DataFrame({"when": pd.Series(m, dtype="M8[ns]")}),
    "pandas, with a zone": lambda m: pd.DataFrame(
        {"when": pd.Series(m, dtype="M8[us]").dt.tz_localize(BERLIN)}
    ),
    "pandas, objects": lambda m: pd.DataFrame({"when": pd.Series(m, dtype=object)}),
    "pandas, pyarrow": lambda m: pd.DataFrame(
        {"when": pd.Series(m, dtype="timestamp[us][pyarrow]")}
    ),
    "pandas, strings": lambda m: pd.DataFrame({"when": [each and each.isoformat() for each in m]}),
    "polars": lambda m: pl.DataFrame({"when": m}),
    "polars, with a zone": lambda m: pl.DataFrame({"when": m}).with_columns(
        pl.col("when").dt.replace_time_zone(BERLIN)
    ),
    "pyarrow": lambda m: pa.table({"when": m}),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("n", [1, FEW_ROWS])
def test_all_libraries_and_types_of_dates_are_encoded_alike(name, n):
    reference = TableEncoder(dtype="float64").fit(MAKERS["polars"](MOMENTS))
    expected = reference.transform(MAKERS["polars"](MOMENTS))
    encoder = TableEncoder(dtype="float64").fit(MAKERS[name](MOMENTS * n))
    assert encoder.column_kinds_ == {"when": "date"}
    assert not encoder.is_categorical_.any()
    names = encoder.get_feature_names_out().tolist()
    assert names == [*(f"when{part}" for part in PARTS), "when_missing"]
    assert encoder.output_types_.tolist() == ["date"] * len(PARTS) + ["missing"]
    assert encoder.n_numeric_ == len(PARTS)
    encoded = reference.transform(MAKERS[name](MOMENTS * n))
    np.testing.assert_array_equal(encoded, np.tile(expected, (n, 1)))
    if "pyarrow" not in name.split(", ")[0]:
        for row, each in zip(range(len(MOMENTS)), expected, strict=True):
            one = MAKERS[name](MOMENTS)[row : row + 1]
            np.testing.assert_array_equal(reference.transform(one), [each])


@pytest.mark.parametrize("unit", ["D", "h", "s", "ms", "us", "ns"])
def test_arrays_of_dates_of_any_unit(unit):
    days = np.array([["1955-03-01", "2020-01-01"], ["2021-08-15", "NaT"]], dtype=f"M8[{unit}]")
    days = np.vstack([days, np.array([["1999-12-31", "2000-01-01"]], dtype=days.dtype)])
    encoder = TableEncoder().fit(days)
    assert encoder.column_kinds_ == {0: "date", 1: "date"}
    frame = pd.DataFrame(days.astype("M8[us]"), columns=["a", "b"])
    expected = TableEncoder().fit_transform(frame)
    np.testing.assert_array_equal(encoder.transform(days), expected)
    np.testing.assert_array_equal(encoder.transform(days[:1]), expected[:1])
    as_objects = np.array([list(row) for row in days], dtype=object)
    np.testing.assert_array_equal(encoder.transform(as_objects), expected)


@pytest.mark.parametrize("frequency", ["D", "M", "Q", "Y", "h"])
@pytest.mark.parametrize("n", [4, FEW_ROWS + 1])
def test_periods_are_their_first_moment(frequency, n):
    periods = pd.Series(pd.period_range("1968-03-01", periods=n, freq=frequency))
    starts = pd.DataFrame({"when": periods.dt.start_time})
    expected = TableEncoder().fit_transform(starts)
    encoder = TableEncoder()
    np.testing.assert_array_equal(encoder.fit_transform(pd.DataFrame({"when": periods})), expected)


DAYS = [dt.date(1960, 5, 1), None, dt.date(2020, 2, 29), dt.date(9999, 12, 31), dt.date(1, 1, 1)]
FRAMES_OF_DAYS = {
    "objects": lambda days: pd.DataFrame({"day": pd.Series(days, dtype=object)}),
    "pandas, pyarrow": lambda days: pd.DataFrame({"day": pd.Series(days, dtype="date32[pyarrow]")}),
    "strings": lambda days: pd.DataFrame({"day": [day and day.isoformat() for day in days]}),
    "polars": lambda days: pl.DataFrame({"day": days}),
    "pyarrow": lambda days: pa.table({"day": days}),
}


@pytest.mark.parametrize("name", FRAMES_OF_DAYS)
def test_days_without_times(name):
    expected = TableEncoder().fit_transform(FRAMES_OF_DAYS["polars"](DAYS))
    frame = FRAMES_OF_DAYS[name](DAYS)
    encoder = TableEncoder().fit(frame)
    np.testing.assert_array_equal(encoder.transform(frame), expected)
    names = encoder.get_feature_names_out().tolist()
    assert "day_year" in names and "day_missing" in names
    assert not any("hour" in name for name in names)


def test_constant_parts_have_no_output():
    hours = pd.Series(pd.date_range("2024-03-05", periods=24, freq="h"))
    encoder = TableEncoder().fit(pd.DataFrame({"when": hours}))
    names = ["when_hour_sin", "when_hour_cos", "when_elapsed"]
    assert encoder.get_feature_names_out().tolist() == names
    # sin(pi) is not zero in floating point, but January and July have the same sine.
    halves = pd.DataFrame({"when": pd.to_datetime(["2024-01-01", "2024-07-01"] * 3)})
    names = TableEncoder().fit(halves).get_feature_names_out().tolist()
    assert "when_month_cos" in names and "when_month_sin" not in names
    same = pd.DataFrame({"when": pd.to_datetime(["2024-01-01", None, "2024-01-01"])})
    assert TableEncoder().fit(same).get_feature_names_out().tolist() == ["when_missing"]
    empty = pd.DataFrame({"when": pd.to_datetime([None] * 3), "x": [1, 2, 4]})
    encoder = TableEncoder().fit(empty)
    assert encoder.column_kinds_ == {"when": "date", "x": "number"}
    assert encoder.get_feature_names_out().tolist() == ["x"]
    assert TableEncoder().fit(halves[:1]).transform(halves).shape == (6, 0)


@pytest.mark.parametrize(
    "later",
    [
        np.array([["1600-01-01"], ["2200-01-01"], ["NaT"]], "M8[s]"),
        np.array([["-290000-01-01"], ["400000-01-01"], ["NaT"]], "M8[s]"),
        np.array([["1700-01-01"], ["2200-01-01"], ["NaT"]], "M8[ns]"),
        np.array([[-(10**12)], [10**12], ["NaT"]], "M8[Y]"),
        np.array([[dt.date(1, 1, 1)], [dt.datetime(9999, 1, 1)], [pd.NaT]], dtype=object),
        [["0001-01-01"], ["9999-12-31T23:59:59.999999+14:00"], [None]],
    ],
)
def test_dates_far_outside_of_the_training_range(later):
    dates = pd.to_datetime(["2020-01-01", "2021-05-06", None, "2023-12-31"])
    encoder = TableEncoder().fit(dates.to_numpy().reshape(-1, 1))
    encoded = encoder.transform(later)
    assert np.isfinite(encoded).all() and (np.abs(encoded) <= 3).all()
    elapsed = encoder.get_feature_names_out().tolist().index("x0_elapsed")
    year = encoder.get_feature_names_out().tolist().index("x0_year")
    for column in (elapsed, year):
        assert encoded[0, column] < -2.9 < 2.9 < encoded[1, column] and encoded[2, column] == 0
    assert encoded[:, -1].tolist() == [0, 0, 1]


def test_a_zone_counts_by_its_wall_clock():
    frame = pd.DataFrame({"when": pd.date_range("2024-03-30 23:00", periods=6, freq="h", tz="UTC")})
    wall = frame["when"].dt.tz_convert(BERLIN)
    encoder = TableEncoder().fit(pd.DataFrame({"when": wall}))
    expected = TableEncoder().fit(pd.DataFrame({"when": wall.dt.tz_localize(None)}))
    np.testing.assert_array_equal(
        encoder.transform(pd.DataFrame({"when": wall})),
        expected.transform(pd.DataFrame({"when": wall})),
    )
    row = {"when": dt.datetime(2024, 3, 31, 1, tzinfo=dt.UTC)}
    in_polars = pl.DataFrame(row)
    naive = {"when": np.datetime64("2024-03-31T01")}
    np.testing.assert_array_equal(encoder.transform(row), encoder.transform(naive))
    np.testing.assert_array_equal(encoder.transform(in_polars), encoder.transform(naive))


DURATIONS = [dt.timedelta(hours=1), dt.timedelta(days=-2), None, dt.timedelta(microseconds=7)]
DURATION_FRAMES = {
    "pandas": lambda d: pd.DataFrame({"took": pd.to_timedelta(pd.Series(d))}),
    "pandas, nanoseconds": lambda d: pd.DataFrame({"took": pd.Series(d, dtype="m8[ns]")}),
    "objects": lambda d: pd.DataFrame({"took": pd.Series(d, dtype=object)}),
    "objects of NumPy": lambda d: pd.DataFrame(
        {"took": pd.Series([None if x is None else np.timedelta64(x) for x in d], dtype=object)}
    ),
    "pandas, pyarrow": lambda d: pd.DataFrame(
        {"took": pd.Series(d, dtype="duration[us][pyarrow]")}
    ),
    "polars": lambda d: pl.DataFrame({"took": d}),
    "pyarrow": lambda d: pa.table({"took": d}),
}


@pytest.mark.parametrize("name", DURATION_FRAMES)
@pytest.mark.parametrize("n", [1, FEW_ROWS])
def test_durations_are_numbers_of_seconds(name, n):
    seconds = np.array([[3600], [-172800], [np.nan], [7e-6]] * n)
    expected = TableEncoder().fit_transform(seconds)
    frame = DURATION_FRAMES[name](DURATIONS * n)
    encoder = TableEncoder().fit(frame)
    assert encoder.column_kinds_ == {"took": "duration"}
    assert encoder.get_feature_names_out().tolist() == ["took", "took_missing"]
    np.testing.assert_allclose(encoder.transform(frame), expected, rtol=1e-12)


@pytest.mark.parametrize("unit", ["Y", "M", "W", "s", "ns"])
def test_arrays_of_durations(unit):
    durations = np.array([[1], [3], ["NaT"], [-4]], dtype=f"m8[{unit}]")
    expected = TableEncoder().fit_transform(np.array([[1.0], [3], [np.nan], [-4]]))
    encoder = TableEncoder().fit(durations)
    np.testing.assert_allclose(encoder.transform(durations), expected, rtol=1e-9)
    np.testing.assert_allclose(encoder.transform(list(durations)), expected, rtol=1e-9)


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_times_of_day(library):
    times = [dt.time(0), dt.time(6), None, dt.time(18, 30), dt.time(23, 59, 59, 500_000)]
    encoder = TableEncoder().fit(library({"at": times}))
    assert encoder.column_kinds_ == {"at": "time"}
    names = ["at_hour", "at_hour_sin", "at_hour_cos", "at_missing"]
    assert encoder.get_feature_names_out().tolist() == names
    hours = np.array([0, 6, np.nan, 18.5, 24 - 0.5 / 3600])
    angle = 2 * np.pi * hours / 24
    parts = np.column_stack([hours, np.sin(angle), np.cos(angle)]).round(12)
    expected = TableEncoder().fit_transform(parts)[:, :4]
    np.testing.assert_allclose(encoder.transform(library({"at": times})), expected, atol=1e-9)


MISFITS = {
    "dates for numbers": (
        [1.0, 2.0],
        [dt.date(2020, 1, 1)],
        "held numbers in fit, but now holds .*date",
    ),
    "numbers for dates": (
        [dt.date(2020, 1, 1)],
        [3],
        "held dates in fit, but now holds 3 .int.",
    ),
    "durations for dates": ([dt.date(2020, 1, 1)], [dt.timedelta(1)], "held dates in fit"),
    "numbers for durations": ([dt.timedelta(1)], [3.5], "held durations in fit, but now holds 3.5"),
    "dates for times": ([dt.time(1)], [dt.datetime(2020, 1, 1)], "held times of day in fit"),
}


@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.parametrize("n", [1, FEW_ROWS + 1])
@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_raises_on_columns_of_another_kind_than_in_fit(name, n, library):
    values, later, error = MISFITS[name]
    encoder = TableEncoder().fit(library({"x": values}))
    with pytest.raises(ValueError, match=f"Column 'x' {error}.* in row 0"):
        encoder.transform(library({"x": later * n}))
    row = {"x": [None] * n + later}
    with pytest.raises(ValueError, match=f"Column 'x' {error}.* in row {n}"):
        encoder.transform(pd.DataFrame(row, dtype=object))


def test_mixed_types_of_dates_are_dates():
    mixed = [
        dt.date(2020, 1, 1),
        "2021-05-06 10:00",
        pd.Timestamp("2022-01-01", tz=BERLIN),
        None,
        "",
    ]
    mixed += [np.datetime64("1950-01-01"), np.nan]
    encoder = TableEncoder().fit(pd.DataFrame({"x": pd.Series(mixed, dtype=object)}))
    plain = ["2020-01-01", "2021-05-06 10:00", "2022-01-01", None, None, "1950-01-01", None]
    frame = pd.DataFrame({"x": pd.to_datetime(plain, format="ISO8601")})
    expected = TableEncoder().fit_transform(frame)
    np.testing.assert_array_equal(encoder.transform(frame), expected)


def test_networks_learn_seasons_from_dates():
    rng = np.random.RandomState(0)
    dates = pd.Timestamp("2015-01-01") + pd.to_timedelta(rng.randint(0, 3000, 400), unit="D")
    y = np.cos(2 * np.pi * (dates.day_of_year - 1) / 365) + (dates.day_of_week >= 5)
    frame = pd.DataFrame({"day": dates, "noise": rng.randn(400)})
    model = TabularRegressor(2, blend=None, random_state=0).fit(frame[:300], y[:300])
    assert model.column_kinds_ == {"day": "date", "noise": "number"}
    assert model.score(frame[300:], y[300:]) > 0.7
    importances = model.permutation_importance(frame[:300], y[:300], n_repeats=1, random_state=0)
    assert importances.importances_mean[0] > 0.5 > importances.importances_mean[1]
    row = frame.iloc[0].to_dict()
    np.testing.assert_allclose(model.predict(row), model.predict(frame[:1]), rtol=1e-9)
