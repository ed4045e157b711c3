"""Histories keep the numbers of each epoch, of those that have them, through files and copies."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skbackprop.nn.history import COLUMNS, History
from support import same_values

numbers = st.floats()
records = st.lists(
    st.one_of([st.fixed_dictionaries(dict.fromkeys(COLUMNS[:n], numbers)) for n in (2, 3, 4)])
)


def history_of(items):
    history = History()
    for record in items:
        history.append(record)
    return history


def assert_has(history, items):
    assert len(history) == len(items)
    assert same_values(history.last, items[-1] if items else {})
    for name in COLUMNS:
        expected = [record[name] for record in items if name in record]
        assert same_values(history.curve(name).tolist(), expected)
        expected = [record[name] for record in items[-2:] if name in record]
        assert same_values(history.curve(name, min(2, len(items))).tolist(), expected)


@given(records, st.integers(0, 5))
def test_it_keeps_what_a_list_of_records_keeps(items, n_epochs):
    history = history_of(items)
    assert_has(history, items)
    copy = history.copy()
    assert_has(History.from_array(history.to_array()), items)
    history.truncate(n_epochs)
    assert_has(history, items[:n_epochs])
    history.append({"epoch": 1.0, "loss": math.nan})
    assert_has(history, [*items[:n_epochs], {"epoch": 1.0, "loss": math.nan}])
    assert_has(copy, items)


def test_a_file_does_not_take_more_than_a_few_bytes_an_epoch():
    history = history_of([{"epoch": i, "loss": 0.1} for i in range(1_000)])
    rows = history.to_array()
    assert rows.nbytes == 40_000
    rows.flags.writeable = False
    assert np.array_equal(History.from_array(rows).to_array(), rows, equal_nan=True)
