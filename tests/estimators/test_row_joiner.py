"""Predictions that are joined from blocks of rows."""

import numpy as np
import pytest
from scipy import sparse

from skbackprop.estimators._fitted_attributes import RowJoiner

VALUES = np.random.RandomState(0).randn(40, 3)


def joined(predict, n_rows_of_block):
    """Return the predictions of all rows, whose blocks share one buffer as those of networks do."""
    joiner, buffer = RowJoiner(len(VALUES)), np.empty((n_rows_of_block, 3))
    for start in range(0, len(VALUES), n_rows_of_block):
        rows = VALUES[start : start + n_rows_of_block]
        part = buffer[: len(rows)]
        part[...] = rows
        joiner.append(predict(part))
    return joiner.join()


@pytest.mark.parametrize("n_rows_of_block", [1, 7, 40, 100])
def test_joined_blocks_equal_the_prediction_of_all_rows(n_rows_of_block):
    np.testing.assert_array_equal(joined(lambda x: x, n_rows_of_block), VALUES)
    for kind in (list, tuple):

        def predict(x, kind=kind):
            return kind([x[:, 0], x > 0, x.argmax(axis=1)])

        found, expected = joined(predict, n_rows_of_block), predict(VALUES)
        assert type(found) is kind
        for own, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(own, other, strict=True)
    found = joined(lambda x: sparse.csr_matrix(x > 0), n_rows_of_block)
    assert type(found) is sparse.csr_matrix
    np.testing.assert_array_equal(found.toarray(), VALUES > 0)
