"""Are the settings of tabular estimators in the bounds that they should be in, for any table?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

from skbackprop.tabular._defaults import (
    FOR_CLASSES,
    FOR_NUMBERS,
    cycle_lengths,
    log_class_prior,
    network_params,
)


@pytest.mark.parametrize("configuration", [*FOR_CLASSES, *FOR_NUMBERS], ids=str)
@given(n_train=st.integers(1, 200_000), n_estimators=st.integers(2, 20))
def test_batches_and_epochs(configuration, n_train, n_estimators):
    size = network_params(configuration, 0, n_train, n_estimators)["batch_size"]
    n_steps = -(-n_train // size)
    assert 1 <= size <= min(256, n_train)
    assert n_steps * size - n_train < n_steps  # equal sizes, but for rounding
    first, second, third = cycle_lengths(n_train, None)
    assert 2 <= first <= 8
    assert (second, third) == (2 * first, 4 * first)
    assert n_steps * first >= 75 or first == 8  # a hundred steps, but for rounding


@given(n_train=st.integers(1, 200_000), max_iter=st.integers(1, 100))
def test_all_cycles_together_have_the_epochs_that_they_may(n_train, max_iter):
    whole, cut = cycle_lengths(n_train, None), cycle_lengths(n_train, max_iter)
    assert sum(cut) == min(max_iter, sum(whole))
    assert cut[:-1] == whole[: len(cut) - 1]
    assert min(cut) > 0


@pytest.mark.parametrize("shares", [[1.0], [0.2, 0.8], [0.1, 0.6, 0.3]], ids=str)
def test_scores_of_shares(shares):
    scores = log_class_prior(shares)
    if len(shares) > 2:
        np.testing.assert_allclose(softmax(scores), shares)
    elif len(shares) == 2:
        np.testing.assert_allclose(expit(scores), shares[1:])
    assert len(scores) == (1 if len(shares) < 3 else 3)
