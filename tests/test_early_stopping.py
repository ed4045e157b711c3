"""Are the settings of early stopping what they have to be?"""

import math

import numpy as np
import pytest

from skbackprop import EarlyStopping


@pytest.mark.parametrize(
    "fraction, n_rows, n_held_out",
    [
        (0.1, 100, 10),
        (0.1, 101, 11),
        (0, 100, 2),
        (0.0, 3, 2),
        (0.25, 10, 3),
        (7, 100, 7),
        (2, 5, 2),
    ],
)
def test_rows_that_are_held_out(fraction, n_rows, n_held_out):
    """As many as scikit-learn's train_test_split makes of a share, and two at least."""
    assert EarlyStopping(validation_fraction=fraction).n_held_out(n_rows) == n_held_out


def test_a_number_of_rows_is_an_int_and_a_share_is_not():
    assert type(EarlyStopping(validation_fraction=np.int64(5)).validation_fraction) is int
    assert type(EarlyStopping(validation_fraction=np.float32(0.5)).validation_fraction) is float
    assert type(EarlyStopping(n_iter_no_change=5).n_iter_no_change) is float


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"scoring": 3}, "scoring of EarlyStopping must be None, 'loss', the name .* got 3"),
        ({"validation_fraction": 1}, 'a number of rows of at least 2, or "folds", got 1'),
        (
            {"validation_fraction": 1.0},
            r"a share of the rows in \[0, 1\), a number of rows.* got 1.0",
        ),
        ({"validation_fraction": -0.1}, r"a share of the rows in \[0, 1\)"),
        ({"validation_fraction": True}, "got True"),
        ({"validation_fraction": "half"}, "got 'half'"),
        ({"validation_fraction": math.nan}, "got nan"),
        ({"calibrate": 1}, "calibrate of EarlyStopping must be True or False, got 1"),
    ],
    ids=str,
)
def test_raises_on_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**settings)
