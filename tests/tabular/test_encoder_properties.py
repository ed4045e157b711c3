"""Is a table encoded as scikit-learn's transformers would, whatever library it comes from?

A table is a dict from names to lists of Python values, in which None is missing.
"""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.preprocessing import OneHotEncoder, RobustScaler

from skbackprop.tabular import TableEncoder
from skbackprop.tabular._read_table import FEW_ROWS

MANY = FEW_ROWS + 1
PANDAS = {"float": "float64", "int": "Int64", "bool": "boolean", "str": "str"}
POLARS = {"float": pl.Float64, "int": pl.Int64, "bool": pl.Boolean, "str": pl.String}
# The dtypes that a library may have for the types, by library.
PANDAS_DTYPES = {
    "pandas": PANDAS,
    "pandas with objects": PANDAS | {"float": "Float64", "int": "float64", "str": "object"},
    "pandas with categories": PANDAS | {"float": "float32", "str": "category"},
}
POLARS_DTYPES = {
    "polars": POLARS,
    "polars with categories": POLARS | {"int": pl.Int8, "str": pl.Categorical},
    "polars with enums": POLARS | {"int": pl.Float32, "str": pl.Enum(list("abcdz"))},
}


def to_pandas(dtypes):
    def make(table, types):
        columns = {
            name: pd.Series(values, dtype=dtypes[types[name]]) for name, values in table.items()
        }
        return pd.DataFrame(columns)

    return make


def to_polars(dtypes):
    def make(table, types):
        return pl.DataFrame(table, schema={name: dtypes[types[name]] for name in table})

    return make


def to_objects(table, types):
    X = np.empty((len(next(iter(table.values()))), len(table)), dtype=object)
    for at, values in enumerate(table.values()):
        X[:, at] = values
    return X


FRAMES = {
    **{name: to_pandas(dtypes) for name, dtypes in PANDAS_DTYPES.items()},
    **{name: to_polars(dtypes) for name, dtypes in POLARS_DTYPES.items()},
}


def rows_of(table):
    """Return the rows as dicts."""
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


# Of float32, and neither so small nor so near to each other that rounding would count.
SOME_FLOATS = st.integers(-(2**20), 2**20).map(lambda x: x / 64)


@st.composite
def mixed_tables(draw, n_tables=2):
    """Draw tables of the same columns: the first to fit to, the others with levels of their own."""
    kinds = draw(st.lists(st.sampled_from(["float", "int", "bool", "str"]), min_size=1, max_size=5))
    tables = []
    for at in range(n_tables):
        n = draw(st.integers(1, 12))
        levels = "abcd" if at == 0 else "abcdz"
        values = {
            "float": st.one_of(st.sampled_from([0.0, 1.5, -2.0]), SOME_FLOATS),
            "int": st.integers(-3, 3),
            "bool": st.booleans(),
            "str": st.sampled_from(levels),
        }
        table = {}
        for number, kind in enumerate(kinds):
            missing = draw(st.sampled_from(["none", "some", "all"]))
            value = values[kind]
            if missing == "some":
                value = st.one_of(st.none(), value)
            column = (
                [None] * n if missing == "all" else draw(st.lists(value, min_size=n, max_size=n))
            )
            table[f"{kind} {number}"] = column
        tables.append(table)
    return tables


def typed(table):
    """Return the types of a drawn table's columns, which are in their names."""
    return {name: name.partition(" ")[0] for name in table}


def encoded_by_scikit_learn(train, table, types, min_frequency):
    """Return the encoded table, column by column with scikit-learn's own transformers."""
    scaled, two_valued, indicators, one_hot = [], [], [], []
    for name in train:
        if types[name] == "str":
            one_hot += _levels(train[name], table[name], min_frequency)
            continue
        old, new = (np.array(t[name], dtype=float) for t in (train, table))
        seen = old[~np.isnan(old)]
        n_values = len(np.unique(seen))
        if n_values > 2:
            scaled.append(_scaled(old, new))
        elif n_values == 2:
            share = np.clip((new - seen.min()) / (seen.max() - seen.min()), 0, 1)
            middle = (np.median(seen) - seen.min()) / (seen.max() - seen.min())
            two_valued.append(np.where(np.isnan(new), middle, share))
        if 0 < len(seen) < len(old):
            indicators.append(np.isnan(new).astype(float))
    outputs = [*scaled, *two_valued, *indicators, *one_hot]
    return np.column_stack([np.empty((len(next(iter(table.values()))), 0)), *outputs])


def _scaled(old, new):
    scaler = RobustScaler().fit(old[:, np.newaxis])
    quartiles = np.nanpercentile(old, [25, 75])
    if quartiles[0] == quartiles[1]:
        scaler.scale_ = np.array([(np.nanmax(old) - np.nanmin(old)) / 2])
    x = scaler.transform(new[:, np.newaxis])[:, 0]
    x = x / np.sqrt(1 + (x / 3) ** 2)
    return np.where(np.isnan(x), 0, x)


def _levels(old, new, min_frequency):
    encoder = OneHotEncoder(
        min_frequency=min_frequency,
        drop="if_binary",
        handle_unknown="ignore",
        sparse_output=False,
        feature_name_combiner=lambda _, level: str(level),
    ).fit(_as_column(old))
    if len(np.unique(encoder.fit_transform(_as_column(old)), axis=0)) < 2:
        return []  # constant
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found unknown categories", UserWarning)
        return list(encoder.transform(_as_column(new)).T)


def _as_column(values):
    column = np.empty((len(values), 1), dtype=object)
    column[:, 0] = values
    return column


def long(table):
    """Return a table with its rows over again, until they are many."""
    n = len(next(iter(table.values())))
    return {name: (values * MANY)[: n * MANY] for name, values in table.items()}


@given(mixed_tables(), st.integers(1, 4))
def test_encoding_matches_scikit_learn(tables, min_frequency):
    train = tables[0]
    types = typed(train)
    encoder = TableEncoder(
        categorical_features=[types[name] == "str" for name in train], min_frequency=min_frequency
    )
    encoder.fit(to_objects(train, types))
    for each in tables:
        expected = encoded_by_scikit_learn(train, each, types, min_frequency)
        np.testing.assert_allclose(
            encoder.transform(to_objects(each, types)), expected, rtol=1e-12, atol=1e-12
        )


@settings(max_examples=40)
@given(mixed_tables(), st.sampled_from(["one_hot", "ordinal"]))
def test_all_libraries_are_encoded_alike(tables, encoding):
    train, table = tables
    types = typed(train)
    encoder = TableEncoder(encoding=encoding, min_frequency=1, dtype="float64")
    reference = encoder.fit(FRAMES["pandas"](train, types))
    assert np.array_equal(reference.is_categorical_, [types[name] == "str" for name in train])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
        expected = reference.transform(to_objects(table, types))
    for make in FRAMES.values():
        fitted = clone(encoder).fit(make(train, types))
        assert list(fitted.get_feature_names_out()) == list(reference.get_feature_names_out())
        assert np.array_equal(fitted.transform(make(table, types)), expected)
        many = fitted.transform(make(long(table), types))
        assert np.array_equal(many, np.tile(expected, (MANY, 1)))
        assert np.array_equal(reference.transform(make(table, types)), expected)


@given(mixed_tables())
def test_single_rows_are_encoded_alike(tables):
    train, table = tables
    types = typed(train)
    encoder = TableEncoder(min_frequency=1).fit(FRAMES["pandas"](train, types))
    expected = encoder.transform(FRAMES["pandas"](table, types))
    for row, encoded in zip(rows_of(table), expected, strict=True):
        turned = dict(reversed(row.items()))
        assert np.array_equal(encoder.transform(row), [encoded])
        assert np.array_equal(encoder.transform(turned), [encoded])


@given(mixed_tables(1))
def test_outputs_match_their_description(tables):
    (train,) = tables
    types, names = typed(train), list(train)
    frame = FRAMES["pandas"](train, types)
    encoder = TableEncoder(min_frequency=1)
    encoded = encoder.fit_transform(frame)
    kinds, columns = encoder.output_types_, encoder.input_columns_
    assert encoded.shape == (len(frame), len(kinds)) and len(columns) == len(kinds)
    assert np.isfinite(encoded).all() and (np.abs(encoded) <= 3).all()
    assert (kinds[: encoder.n_numeric_] == "number").all()
    assert not (kinds[encoder.n_numeric_ :] == "number").any()
    assert np.isin(encoded[:, np.isin(kinds, ["missing", "one_hot"])], [0, 1]).all()
    out = encoder.get_feature_names_out()
    assert len(set(out)) == len(out)
    assert all(name.startswith(names[column]) for name, column in zip(out, columns, strict=True))
    for name, container in (("pandas", pd.DataFrame), ("polars", pl.DataFrame)):
        framed = clone(encoder).set_output(transform=name).fit(frame).transform(frame)
        assert isinstance(framed, container) and list(framed.columns) == list(out)
        assert np.array_equal(framed.to_numpy().reshape(encoded.shape), encoded)
    assert np.array_equal(pickle.loads(pickle.dumps(encoder)).transform(frame), encoded)
