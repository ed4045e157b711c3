"""Does TableEncoder do what its docstring says, and name what it cannot encode?"""

import copy
import datetime
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.preprocessing import OrdinalEncoder, TargetEncoder

from skbackprop.tabular import TableEncoder
from skbackprop.tabular._read_table import FEW_ROWS

# ------------------------------------------------------------------------------- numbers


def encoded(values, **settings):
    """Return what becomes of one column, by the kind of the output."""
    X = np.array(values, dtype=float)[:, np.newaxis]
    encoder = TableEncoder(**settings)
    outputs = encoder.fit_transform(X)
    return dict(zip(encoder.output_types_, outputs.T, strict=True))


def clipped(x):
    x = np.asarray(x, dtype=float)
    return x / np.sqrt(1 + (x / 3) ** 2)


def test_quartiles_that_differ_by_rounding_are_equal():
    around_four = [4, 4 + 1e-15, 4, 4 + 1e-15, 4, 4 + 1e-15]
    np.testing.assert_allclose(
        encoded([0, *around_four, 10])["number"], encoded([0, *[4] * 6, 10])["number"], atol=1e-12
    )


@pytest.mark.parametrize(
    "values, expected",
    [
        # The median is 2, the quartiles are 1 and 5: x = (value - 2) / 4.
        ([0, 1, 2, 5, 1e9], {"number": clipped([-0.5, -0.25, 0, 0.75, 2.5e8])}),
        (
            [0, 1, 2, 5, 9, np.nan],
            {
                "number": [*clipped([-0.5, -0.25, 0, 0.75, 1.75]), 0],
                "missing": [0, 0, 0, 0, 0, 1],
            },
        ),
        ([3, 7, np.nan], {"two_valued": [0, 1, 0.5], "missing": [0, 0, 1]}),
        ([3, 3, np.nan], {"missing": [0, 0, 1]}),
        ([np.nan, np.nan], {}),
    ],
)
def test_outputs_of_a_numeric_column(values, expected):
    found = encoded(values)
    assert list(found) == list(expected)
    for kind, output in expected.items():
        np.testing.assert_allclose(found[kind], output)


@pytest.mark.parametrize("values", [[-1.7e308, 0, 1.7e308], [0, 5e-324, 1e-323], [1e300, 0, 1, 2]])
@np.errstate(all="raise")
def test_outputs_of_huge_and_tiny_numbers_are_finite(values):
    encoder = TableEncoder().fit(np.array(values)[:, np.newaxis])
    for X in (values, [1.7e308, -1.7e308, 0, np.nan]):
        encoded = encoder.transform(np.array(X)[:, np.newaxis])
        assert np.isfinite(encoded).all() and (np.abs(encoded) <= 3).all()


# ---------------------------------------------------------------------------- categories


def cities():
    return pd.DataFrame({"city": ["Bern", "Oslo", "Oslo", None, "Rome", "Rome", "Rome"]})


@pytest.mark.parametrize(
    "min_frequency, names",
    [
        (1, ["city_Bern", "city_Oslo", "city_Rome", "city_missing"]),
        (2, ["city_Oslo", "city_Rome", "city_infrequent"]),
        (3, ["city_infrequent"]),  # two levels are left
        (9, []),  # one is
    ],
)
def test_infrequent_categories_share_an_output(min_frequency, names):
    encoder = TableEncoder(min_frequency=min_frequency).set_output(transform="pandas")
    found = encoder.fit_transform(cities())
    assert list(found.columns) == names
    assert (found.sum(axis=1) <= 1).all()
    if min_frequency == 2:
        assert found.to_numpy().argmax(axis=1).tolist() == [2, 0, 0, 2, 1, 1, 1]
        assert encoder.categories_ == [["Oslo", "Rome"]]
        assert encoder.infrequent_categories_ == [["Bern", None]]
    if min_frequency == 3:
        assert found["city_infrequent"].tolist() == [1, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize("n", [1, FEW_ROWS + 1])
def test_ordinal_codes_match_scikit_learn(library, n):
    train = {"city": ["Bern", "Oslo", "Oslo", None, "Rome"], "one": ["a"] * 5, "x": [0, 1, 2, 3, 4]}
    encoder = TableEncoder(encoding="ordinal", min_frequency=1).fit(library(train))
    assert encoder.output_types_.tolist() == ["number", "ordinal"]
    assert encoder.input_columns_.tolist() == [2, 0]
    assert list(encoder.get_feature_names_out()) == ["x", "city"]
    assert encoder.cardinalities_.tolist() == [5]
    later = {"city": ["Rome", "Lima", None, "Bern"] * n, "one": ["a"] * 4 * n, "x": [2] * 4 * n}
    assert encoder.transform(library(later))[:, 1].tolist() == [3, 0, 4, 1] * n
    expected = OrdinalEncoder(encoded_missing_value=3).fit_transform(pd.DataFrame(train)[["city"]])
    assert np.array_equal(encoder.transform(library(train))[:, 1], expected[:, 0] + 1)


def test_categories_of_any_type():
    """What is equal is one level, as 1, 1.0 and True are in Python; and so is "1" in new rows."""
    frame = pd.DataFrame(
        {
            "some": ["1", "2.5", "3+", None],
            "whole": pd.Categorical([1, 2, 3, None]),
            "binned": pd.cut(pd.Series([1.0, 2.0, 3.0, np.nan]), 3),
            "ordered": pd.Categorical(list("abca"), categories=list("cba"), ordered=True),
        }
    )
    encoder = TableEncoder(min_frequency=1).fit(frame)
    assert encoder.is_categorical_.all()
    expected = encoder.transform(frame)
    assert expected.shape == (4, 4 + 4 + 4 + 3)
    for whole in ([1.0, 2.0, 3.0, np.nan], ["1", "2", "3", None]):
        later = frame.assign(whole=whole, some=[1, 2.5, "3+", None])
        assert np.array_equal(encoder.transform(later), expected)
    many = pd.concat([frame] * FEW_ROWS, ignore_index=True)
    assert np.array_equal(encoder.transform(many), np.tile(expected, (FEW_ROWS, 1)))


def test_names_of_outputs_are_unique():
    frame = pd.DataFrame({"a": ["b_c", "x", "y"], "a_b": ["c", "d", "e"]})
    encoder = TableEncoder(min_frequency=1).set_output(transform="polars")
    names = encoder.fit_transform(frame).columns
    assert names == ["a_b_c", "a_x", "a_y", "a_b_c_2", "a_b_d", "a_b_e"]


# ------------------------------------------------------------------------- which are which


@pytest.mark.parametrize(
    "given, expected",
    [
        ("from_dtype", [True, True, False, False]),
        ([True, True, False, True], [True, True, False, True]),
        ([0, 1, 3], [True, True, False, True]),
        (["text", "category", "whole"], [True, True, False, True]),
        (["text", 1, "whole"], [True, True, False, True]),
    ],
    ids=["dtype", "mask", "positions", "names", "both"],
)
@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_categorical_features_by_dtype_mask_position_or_name(given, expected, library):
    table = {"text": list("abcab"), "category": pd.Categorical(list("uvwuv"))}
    table |= {"number": [0.5, 1, 2, 3, 4], "whole": [1, 2, 3, 1, 2]}
    if library is pl.DataFrame:
        table["category"] = list(table["category"])
    encoder = TableEncoder(categorical_features=given).fit(library(table))
    assert encoder.is_categorical_.tolist() == expected


def test_integers_are_positions_even_if_columns_have_integer_names():
    """As in scikit-learn, so column_kinds_, which is by position then, gives the same kinds."""
    frame = pd.DataFrame({1: [1.0, 2.0, 3.0], 2: [3.0, 4.0, 5.0]})
    kinds = {0: "number", 1: "category"}
    for given in ({"categorical_features": [1]}, {"column_kinds": kinds}):
        assert TableEncoder(**given).fit(frame).column_kinds_ == kinds
    with pytest.raises(ValueError, match="for the column 2. The columns are 0 to 1"):
        TableEncoder(column_kinds={2: "category"}).fit(frame)


@pytest.mark.parametrize(
    "given, error",
    [
        (None, "Column 'text' is not numeric, but is not among the categorical_features=None"),
        (["number"], "Column 'text' is not numeric, but is not among"),
        (["texts"], "names or positions of columns.*got 'texts'"),
        ([7], "names or positions of columns.*got 7"),
        ("auto", "The 'categorical_features' parameter of TableEncoder must be"),
    ],
)
def test_raises_on_wrong_categorical_features(given, error):
    frame = pd.DataFrame({"text": list("abc"), "number": [1, 2, 3]})
    with pytest.raises(ValueError, match=error):
        TableEncoder(given).fit(frame)


# -------------------------------------------------------------------------- other inputs


def test_arrays_of_objects_and_of_strings():
    objects = np.array([["a", 1, True], ["b", 2.5, None], ["a", None, False]], dtype=object)
    encoder = TableEncoder(min_frequency=1).fit(objects)
    assert encoder.is_categorical_.tolist() == [True, False, False]
    assert np.array_equal(encoder.transform(objects.tolist()), encoder.transform(objects))
    strings = np.array([["a", "1 a"], ["b", "2 a"], ["b", "3 b"]])
    assert TableEncoder().fit(strings).is_categorical_.all()


@pytest.mark.parametrize("missing", [None, np.nan, np.float32("nan"), pd.NA, pd.NaT])
def test_missing_values_of_all_types_are_one_category(missing):
    objects = np.array([["a"], ["b"], [None], [missing]], dtype=object)
    encoder = TableEncoder(min_frequency=1).fit(objects)
    assert encoder.categories_ == [["a", "b", None]]
    assert encoder.transform(objects)[:, 2].tolist() == [0, 0, 1, 1]
    assert encoder.transform(objects[:1]).tolist() == [[1, 0, 0]]


def test_masked_values_are_missing():
    values = np.ma.masked_array([[1.0, 2.0], [2.0, 5.0], [3.0, 9.0]], mask=False)
    values[1, 0] = np.ma.masked
    expected = TableEncoder().fit_transform([[1, 2], [np.nan, 5], [3, 9]])
    assert np.array_equal(TableEncoder().fit_transform(values), expected)


def test_columns_of_mixed_numeric_types():
    column = [1, 2.5, True, decimal.Decimal("4.5"), np.float32(3), np.int8(7), None, pd.NA, np.nan]
    X = np.array(column, dtype=object)[:, np.newaxis]
    as_floats = [[1], [2.5], [1], [4.5], [3], [7], [np.nan], [np.nan], [np.nan]]
    encoder = TableEncoder().fit(X)
    assert np.array_equal(encoder.transform(X), TableEncoder().fit_transform(as_floats))


def test_decimals_and_columns_without_values_in_polars():
    frame = pl.DataFrame({"a": ["1.5", "2", "4"], "b": [None] * 3}).with_columns(
        pl.col("a").cast(pl.Decimal(10, 2))
    )
    encoder = TableEncoder().fit(frame)
    assert list(encoder.get_feature_names_out()) == ["a"]
    many = pl.concat([frame] * FEW_ROWS)
    assert np.array_equal(
        encoder.transform(many)[:3], TableEncoder().fit_transform([[1.5], [2], [4]])
    )


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "dok", "lil"])
@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csr_matrix])
def test_sparse_numbers(form, make):
    rng = np.random.RandomState(0)
    dense = rng.randn(50, 6) * (rng.rand(50, 6) < 0.3)
    dense[:, 3] = dense[:, 3] != 0  # two values, one of them zero
    dense[:, 4] = np.where(dense[:, 4] != 0, -1, 0)
    dense[::10, 5] = np.nan
    dense[:, 2] = 0  # constant
    X = make(dense).asformat(form)
    encoder = TableEncoder().fit(X)
    assert encoder.output_types_.tolist() == ["number"] * 4 + ["two_valued", "missing"]
    assert encoder.input_columns_.tolist() == [0, 1, 4, 5, 3, 5]
    assert encoder.sparse_output_ and not encoder.center_.any()
    found = encoder.transform(X)
    assert isinstance(found, sparse.csr_array) and found.has_canonical_format
    assert found.nnz == np.count_nonzero(np.nan_to_num(dense)) + np.isnan(dense).sum()
    # Zeros are no more than values here: the quartiles, all zero, give way to the range.
    width = np.nanmax(dense, axis=0) - np.nanmin(dense, axis=0)
    expected = np.nan_to_num(clipped(2 * dense[:, [0, 1, 4, 5]] / width[[0, 1, 4, 5]]))
    expected = np.column_stack([expected, dense[:, 3], np.isnan(dense[:, 5])])
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-12)
    np.testing.assert_allclose(encoder.transform(dense).toarray(), expected, rtol=1e-12)


def test_missing_values_of_sparse_numbers():
    # Not centered: the median is 4, the quartiles are 2 and 6. Of two values it is the upper one.
    X = np.array([[2.0, 0], [4, 5], [6, 5], [0, 5], [8, 5], [np.nan, np.nan]])
    encoder = TableEncoder().fit(sparse.csr_array(X))
    found = encoder.transform(sparse.csr_array(X)).toarray()
    np.testing.assert_allclose(found[:, 0], clipped([0.5, 1, 1.5, 0, 2, 1]))
    assert found[:, 1].tolist() == [0, 1, 1, 1, 1, 1]
    assert found[-1, 2:].tolist() == [1, 1]


def test_sparse_rows_after_a_dense_fit():
    X = np.array([[0, 3.0], [1, 0], [0, 5], [2, np.nan]])
    encoder = TableEncoder().fit(X)
    assert np.array_equal(encoder.transform(sparse.csr_array(X)), encoder.transform(X))


@pytest.mark.parametrize("n_columns", [1, 2])
def test_sparse_categories_by_position(n_columns):
    X = np.array([[0, 3.0], [1, 0], [0, 5], [2, 7]])[:, :n_columns]
    encoder = TableEncoder([0], min_frequency=1)
    found = encoder.fit_transform(sparse.csr_array(X)).toarray()
    assert np.array_equal(found[:, n_columns - 1 :], np.eye(3)[X[:, 0].astype(int)])


@pytest.mark.parametrize(
    "row, error",
    [
        ({"city": "b"}, r"Missing names: \['x'\]; unknown names: none"),
        ({"city": "b", "X": 1}, r"Missing names: \['x'\]; unknown names: \['X'\]"),
        ({"city": "b", "x": 1, "y": 2}, r"Missing names: none; unknown names: \['y'\]"),
        ({"city": "b", "x": [1.0, 2.0]}, "Column 'x' holds .* in row 0"),
        ({"city": "b", "x": np.ones(2)}, "Column 'x' holds .* in row 0"),
    ],
)
def test_a_row_may_be_a_dict_with_the_names_of_fit(row, error):
    frame = pd.DataFrame({"x": [1.0, 2, 4], "city": ["a", "b", "a"]})
    encoder = TableEncoder(min_frequency=1).fit(frame)
    assert np.array_equal(encoder.transform({"city": "b", "x": 2}), encoder.transform(frame[1:2]))
    assert np.array_equal(encoder.transform(frame.iloc[1]), encoder.transform(frame[1:2]))
    with pytest.raises((ValueError, TypeError), match=error):
        encoder.transform(row)


@pytest.mark.parametrize("n", [1, 3, FEW_ROWS + 5])
def test_rows_may_be_a_list_of_dicts(n):
    frame = pd.DataFrame({"x": [1.0, 2, None], "city": ["a", "b", "a"], "z": [True, False, True]})
    encoder = TableEncoder(min_frequency=1).fit(frame)
    frame = pd.concat([frame] * n)[:n]
    rows = [dict(reversed(row.items())) for row in frame.to_dict("records")]
    for given in (rows, tuple(rows)):
        assert np.array_equal(encoder.transform(given), encoder.transform(frame))
    with pytest.raises(ValueError, match=rf"{'A row' if n == 1 else f'Row {n - 1}'} must have"):
        encoder.transform([*rows[:-1], {"x": 1.0, "city": "a"}])
    with pytest.raises(TypeError, match=rf"Column 'x' holds \[1.0\] in row {n}"):
        encoder.transform([*rows, {"x": [1.0], "city": "a", "z": True}])
    for given in (rows, rows[0]):
        with pytest.raises((TypeError, ValueError), match=r"pandas\.DataFrame\("):
            TableEncoder().fit(given)
        with pytest.raises(
            (TypeError, ValueError), match=r"(data frame, such as|row, pass) pandas"
        ):
            TableEncoder().fit(np.eye(3)).transform(given)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_of_the_outputs(dtype):
    X = np.random.RandomState(0).randn(20, 3).astype(dtype)
    assert TableEncoder().fit_transform(X).dtype == dtype
    assert TableEncoder(dtype=dtype).fit_transform(pd.DataFrame(X)).dtype == dtype
    assert TableEncoder(dtype=dtype).fit_transform(sparse.csr_array(X)).dtype == dtype


# -------------------------------------------------------------------------------- errors


UNSUITABLE = {
    "mixed": (
        pd.DataFrame({"x": pd.Series([1, "a"], dtype=object)}),
        r"Column 'x' holds numbers \(int\) and other values \(str\), such as 'a' in row 1\. .*"
        "to_numeric",
    ),
    "dates and numbers": (
        np.array([[datetime.date(2020, 1, 1)], [2020]], dtype=object),
        r"Column 0 holds numbers \(int\) and dates \(date\), such as .* in row 0",
    ),
    "infinite": (pd.DataFrame({"y": [1, 2], "x": [1, np.inf]}), "Column 'x' has infinite"),
    "infinite and sparse": (sparse.csr_array([[1, 0], [1, -np.inf]]), "Column 1 has infinite"),
    "too large": (np.array([[1], [10**400]], dtype=object), "Column 0 has infinite values"),
    "bytes": (np.array([[b"a"], [b"b"]]), r"numpy\.char\.decode"),
    "names twice": (pd.DataFrame(np.eye(2), columns=["a", "a"]), "several columns with the same"),
    "lazy": (pl.LazyFrame({"x": [1, 2]}), r"Pass X\.collect\(\)"),
    "no rows": (pd.DataFrame({"x": []}), r"0 sample\(s\)"),
    "no columns": (pd.DataFrame(index=[0, 1]), r"0 feature\(s\)"),
}


@pytest.mark.parametrize("X, error", UNSUITABLE.values(), ids=UNSUITABLE)
def test_raises_on_tables_that_cannot_be_encoded(X, error):
    with pytest.raises((ValueError, TypeError), match=error):
        TableEncoder().fit(X)


@pytest.mark.parametrize("n", [1, FEW_ROWS + 1])
@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize(
    "value, error",
    [
        ("a", "Column 'x' held numbers in fit, but now holds 'a'"),
        (np.inf, "Column 'x' has infinite"),
    ],
)
def test_transform_raises_on_strings_and_infinity_in_numeric_columns(n, library, value, error):
    encoder = TableEncoder().fit(library({"x": [1.0, 2.0, 3.0]}))
    with pytest.raises(ValueError, match=error):
        encoder.transform(library({"x": [value] * n}))


@pytest.mark.parametrize(
    "target_type, y, error",
    [
        ("auto", [1.0, np.nan] * 20, "y contains NaN"),
        ("continuous", ["a", "b"] * 20, "y must contain numbers"),
        ("auto", [1.0, 2.0], "inconsistent numbers of samples"),
    ],
)
def test_raises_on_wrong_targets(target_type, y, error):
    encoder = TableEncoder(max_categories=5, min_frequency=1, target_type=target_type)
    X = pd.DataFrame({"city": [f"city {i % 10}" for i in range(40)]})
    with pytest.raises(ValueError, match=error):
        encoder.fit(X, y)
    if len(y) == 2:  # whether it serves for a column or not
        with pytest.raises(ValueError, match=error):
            encoder.set_params(max_categories=None).fit(X, y)


@pytest.mark.parametrize(
    "value", [[1.0], {"a": 1}, {1}, np.ones(2), 1j, np.complex64(1)], ids=lambda value: repr(value)
)
@pytest.mark.parametrize("plain", [2.0, None, "a"], ids=repr)
@pytest.mark.parametrize("n", [1, FEW_ROWS + 1])
def test_raises_on_nested_and_complex_values(value, plain, n):
    """In columns of numbers and of categories, in fit and later, which then change nothing."""
    usual = pd.DataFrame({"id": range(n), "x": pd.Series([plain] * n, dtype=object)})
    X = usual.copy()
    X.at[n - 1, "x"] = value
    error = rf"Column 'x' holds .* in row {n - 1}: argument must be a string or a number, not "
    for categorical in ("from_dtype", ["x"]):
        encoder = TableEncoder(categorical).fit(usual)
        before = copy.copy(vars(encoder))
        for encode in (encoder.transform, encoder.fit):
            with pytest.raises(TypeError, match=error):
                encode(X)
        assert vars(encoder) == before


NESTED_COLUMNS = {
    "polars, lists": lambda n: pl.Series([None, *[[1.0]] * n]),
    "polars, arrays": lambda n: pl.Series([None, *[[1.0]] * n], dtype=pl.Array(pl.Float64, 1)),
    "polars, structs": lambda n: pl.Series([None, *[{"a": 1}] * n]),
    "polars, objects": lambda n: pl.Series([None, *[1j] * n], dtype=pl.Object),
    "pyarrow, lists": lambda n: pa.array([None, *[[1.0]] * n]),
    "pyarrow, structs": lambda n: pa.array([None, *[{"a": 1}] * n]),
    "pandas, lists": lambda n: pd.Series(
        [None, *[[1.0]] * n], dtype=pd.ArrowDtype(pa.list_(pa.float64()))
    ),
    "pandas, complex": lambda n: pd.Series([np.nan, *[1j] * n]).iloc[1:],
}


@pytest.mark.parametrize("n", [1, FEW_ROWS])
@pytest.mark.parametrize("name", NESTED_COLUMNS)
def test_raises_on_nested_columns(name, n):
    column = NESTED_COLUMNS[name](n)
    library = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
    make = library[name.partition(",")[0]]
    row = 1 if len(column) > n else 0
    error = rf"Column 'x' holds .* in row {row}: argument must be a string or a number, not "
    encoders = [TableEncoder().fit(make({"x": plain})) for plain in ([1.0, 2.0, 4.0], ["a", "b"])]
    for encode in (TableEncoder().fit, *(encoder.transform for encoder in encoders)):
        with pytest.raises(TypeError, match=error):
            encode(make({"x": column}))


@pytest.mark.parametrize("library", [pl.DataFrame, pa.table, pd.DataFrame])
@pytest.mark.parametrize("n", [1, FEW_ROWS])
def test_large_integers_are_rounded_as_by_python(library, n):
    for missing in ([], [None]):
        values = [2**60 - 1, -(2**60) + 1, 2**60 // 3, *missing] * n
        column = pd.array(values, dtype="Int64") if library is pd.DataFrame else values
        numbers = [[np.nan if value is None else float(value)] for value in values]
        expected = TableEncoder().fit_transform(numbers)
        assert np.array_equal(TableEncoder().fit_transform(library({"x": column})), expected)


# ------------------------------------------------------------------ statistics of the target


def many_levels(n=400, n_levels=40, seed=0):
    """Return a frame with a column of many levels, and the levels' effects on a target."""
    rng = np.random.RandomState(seed)
    level = rng.randint(n_levels, size=n)
    frame = pd.DataFrame({"x": rng.randn(n), "shop": [f"s{at:02}" for at in level]})
    return frame, rng.randn(n_levels)[level] + 0.1 * rng.randn(n)


TARGETS = {
    "continuous": lambda y: y,
    "binary": lambda y: np.where(y > 0, "yes", "no"),
    "multiclass": lambda y: np.digitize(y, [-0.5, 0.5]),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_target_statistics_match_scikit_learn(kind):
    frame, effect = many_levels()
    y = TARGETS[kind](effect)
    encoder = TableEncoder(max_categories=10, min_frequency=1, random_state=0)
    found = encoder.fit_transform(frame, y)
    shop, theirs = frame[["shop"]], TargetEncoder(target_type=kind).fit(frame[["shop"]], y)
    out_of_fold = theirs.transform(shop)
    n = out_of_fold.shape[1]
    # Shops with an output of their own have the overall mean, here that of the other folds.
    has_output = np.isin("shop_" + frame["shop"], encoder.get_feature_names_out())
    targets = {"continuous": y[:, None], "binary": (y == "yes")[:, None]}.get(
        kind, y[:, None] == np.arange(3)
    )
    for train, held_out in KFold(5, shuffle=True, random_state=0).split(frame):
        fold = clone(theirs).fit(shop.iloc[train], y[train])
        out_of_fold[held_out] = fold.transform(shop.iloc[held_out])
        own = held_out[has_output[held_out]]
        out_of_fold[own] = targets[train].mean(axis=0)
    assert encoder.output_types_.tolist() == ["number", *["target"] * n, *["one_hot"] * 10]
    assert encoder.n_numeric_ == 1 + n and (encoder.input_columns_[1:] == 1).all()
    names = ["shop_target"] if n == 1 else [f"shop_target_{at}" for at in range(3)]
    assert list(encoder.get_feature_names_out()[1 : 1 + n]) == names

    def scaled(statistics):
        center, scale = encoder.center_[1:], encoder.scale_[1:]
        return clipped((statistics - center) * scale)

    np.testing.assert_allclose(encoder.center_[1:], np.median(out_of_fold, axis=0))
    np.testing.assert_allclose(found[:, 1 : 1 + n], scaled(out_of_fold), atol=1e-9)
    shops = frame["shop"][~has_output].unique()[:2]
    later = pd.DataFrame(
        {"x": [0, 0, 0, 0], "shop": [*shops, frame["shop"][has_output].iloc[0], "new"]}
    )
    expected = theirs.transform(later[["shop"]])
    expected[2] = expected[3]
    np.testing.assert_allclose(encoder.transform(later)[:, 1 : 1 + n], scaled(expected))


def test_target_statistics_of_several_columns_and_classes():
    frame, effect = many_levels()
    y = TARGETS["multiclass"](effect)
    frame["place"] = frame["shop"].str[1:].astype(int).mod(20).map("p{}".format)
    encoder = TableEncoder(max_categories=10, random_state=0).fit(frame, y)
    names = [f"{name}_target_{at}" for name in ("shop", "place") for at in range(3)]
    assert list(encoder.get_feature_names_out()[1:7]) == names
    later = pd.DataFrame({"x": [0], "shop": ["new"], "place": ["new"]})
    means = np.tile(np.bincount(y) / len(y), 2)
    expected = clipped((means - encoder.center_[1:]) * encoder.scale_[1:])
    np.testing.assert_allclose(encoder.transform(later)[0, 1:7], expected)


def test_most_frequent_categories_without_a_target():
    frame, effect = many_levels()
    frame.loc[:30, "shop"] = "s07"
    encoder = TableEncoder(max_categories=5, min_frequency=1).fit(frame)
    by_count = frame["shop"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    names = [f"shop_{shop}" for shop in [*sorted(by_count.index[:4]), "infrequent"]]
    assert list(encoder.get_feature_names_out()[1:]) == names
    assert (encoder.transform(frame)[:, 1:].sum(axis=1) == 1).all()
    assert not encoder.transform(pd.DataFrame({"x": [0.0], "shop": ["new"]}))[:, 1:].any()
    with_target = TableEncoder(max_categories=5, min_frequency=1, random_state=0).fit(frame, effect)
    assert np.array_equal(with_target.transform(frame)[:, 2:], encoder.transform(frame)[:, 1:])
    one = TableEncoder(max_categories=5, min_frequency=1, random_state=0).fit(
        frame, effect[:, None]
    )
    assert np.array_equal(one.transform(frame), with_target.transform(frame))
    several = np.column_stack([effect, effect])
    again = TableEncoder(max_categories=5, min_frequency=1).fit(frame, several)
    assert np.array_equal(again.transform(frame), encoder.transform(frame))


@pytest.mark.parametrize("settings", [{"max_categories": None}, {"encoding": "ordinal"}])
def test_no_target_statistics_for_ordinal_codes_or_without_limit(settings):
    frame, effect = many_levels()
    encoder = TableEncoder(**settings).fit(frame, effect)
    assert "target" not in encoder.output_types_
    assert np.array_equal(encoder.transform(frame), clone(encoder).fit_transform(frame, effect))


def test_target_type_is_inferred_or_given():
    frame, effect = many_levels()
    counts = np.digitize(effect, [-1, 0, 1])
    encoder = TableEncoder(max_categories=10, target_type="continuous").fit(frame, counts)
    assert encoder.output_types_.tolist().count("target") == 1
    encoder = TableEncoder(max_categories=10).fit(frame, counts)
    assert encoder.output_types_.tolist().count("target") == 4
