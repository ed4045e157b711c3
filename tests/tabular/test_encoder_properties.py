"""Is a table encoded as scikit-learn's transformers would, whatever library it comes from?"""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from skbackprop.tabular import TableEncoder
from skbackprop.tabular._read_table import FEW_ROWS
from support.lanes import examples
from support.mixed import FRAMES, encoded_by_scikit_learn, mixed_tables, rows_of, to_objects, typed

MANY = FEW_ROWS + 1


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


@pytest.mark.long
@examples(0.4)
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


@pytest.mark.long
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


@pytest.mark.long
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
