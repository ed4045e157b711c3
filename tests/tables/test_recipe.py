"""Are the settings of tabular estimators in the bounds that they should be in, for any table?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

from skbackprop.tables.recipe import FOR_CLASSES, FOR_NUMBERS, log_shares, settings_for


@pytest.mark.parametrize("configuration", [*FOR_CLASSES, *FOR_NUMBERS], ids=str)
@given(n_rows=st.integers(2, 200_000), n_members=st.integers(2, 20))
def test_batches_and_epochs(configuration, n_rows, n_members):
    n_members = min(n_members, n_rows)
    settings = settings_for(configuration, n_rows, n_members, None)
    fewest = n_rows - -(-n_rows // n_members)  # of the member with the largest fold
    size = settings["batch_size"]
    n_steps = -(-fewest // size)
    assert 1 <= size <= min(256, fewest)
    assert n_steps * size - fewest < n_steps  # equal sizes, but for rounding
    assert 24 <= settings["max_iter"] <= 100
    assert n_steps * settings["max_iter"] >= 1440 * 0.9 or settings["max_iter"] == 100
    assert settings_for(configuration, n_rows, n_members, 3)["max_iter"] == 3


@pytest.mark.parametrize("shares", [[1.0], [0.2, 0.8], [0.1, 0.6, 0.3]], ids=str)
def test_scores_of_shares(shares):
    scores = log_shares(shares)
    if len(shares) > 2:
        np.testing.assert_allclose(softmax(scores), shares)
    elif len(shares) == 2:
        np.testing.assert_allclose(expit(scores), shares[1:])
    assert len(scores) == (1 if len(shares) < 3 else 3)
