"""Are the piecewise-linear and the periodic encoding what their formulas say?"""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from skbackprop.tabular import PeriodicFeatures, PiecewiseLinearEncoder

# ----------------------------------------------------------------------- piecewise-linear


def component(x, edges, t):
    """Return component t of values x by NumPy's interpolation between the ends of its bin."""
    low, high = edges[t], edges[t + 1]
    points, values = [low, high], [0.0, 1.0]
    if t == 0:
        points, values = [low - (high - low), *points], [-1.0, *values]
    if t == len(edges) - 2:
        points, values = [*points, high + (high - low)], [*values, 2.0]
    return np.interp(x, points, values) - 0.5


NUMBERS = st.one_of(st.integers(-5, 5).map(float), st.floats(-1e6, 1e6).map(lambda x: round(x, 6)))


@given(
    st.lists(NUMBERS, min_size=1, max_size=30),
    st.lists(st.floats(-1e7, 1e7), min_size=1, max_size=10),
    st.integers(1, 8),
)
def test_components_match_numpys_interpolation(train, later, n_bins):
    encoder = PiecewiseLinearEncoder(n_bins).fit(np.array(train)[:, np.newaxis])
    edges = encoder.bin_edges_[0]
    assert np.array_equal(edges, np.unique(np.quantile(train, np.linspace(0, 1, n_bins + 1))))
    assert encoder.n_bins_.tolist() == [len(edges) - 1]
    x = np.array(train + later)
    expected = [component(x, edges, t) for t in range(len(edges) - 1)]
    encoded = encoder.transform(x[:, np.newaxis])
    assert encoded.shape == (len(x), len(edges) - 1)
    np.testing.assert_allclose(encoded.T, np.reshape(expected, encoded.T.shape), atol=1e-6)


def test_components_by_hand():
    X = np.array([[0.0, 5, 1], [1, 5, 2], [2, 5, 1], [4, 5, 2], [8, 5, 1]])
    encoder = PiecewiseLinearEncoder(n_bins=2).fit(X)
    assert encoder.n_bins_.tolist() == [2, 0, 1]  # the second is constant, the third has two values
    found = encoder.transform([[1, 7, 2], [5, 5, 1.5], [-9, 0, 0], [99, 9, 4]])
    expected = [[0, -0.5, 0.5], [0.5, 0, 0], [-1.5, -0.5, -1.5], [0.5, 1.5, 1.5]]
    assert np.array_equal(found, expected)
    assert list(encoder.get_feature_names_out()) == ["x0_bin0", "x0_bin1", "x2_bin0"]


def test_blocks_of_rows_are_encoded_alike():
    X = np.random.RandomState(0).randn(5000, 30).astype(np.float32)
    encoder = PiecewiseLinearEncoder().fit(X)
    encoded = encoder.transform(X)
    assert encoded.dtype == np.float32
    assert np.array_equal(encoded[-7:], encoder.transform(X[-7:]))


# ------------------------------------------------------------------------------- periodic


def test_periodic_features_match_the_formula():
    X = np.random.RandomState(0).randn(20, 500)
    waves = PeriodicFeatures(n_frequencies=8, scale=0.25, random_state=1).fit(X)
    assert waves.frequencies_.shape == waves.phases_.shape == (500, 8)
    assert abs(waves.frequencies_.std() - 0.25) < 0.01
    assert abs(waves.frequencies_.mean()) < 0.01
    assert 0 <= waves.phases_.min() < waves.phases_.max() <= 2 * np.pi
    assert abs(waves.phases_.mean() - np.pi) < 0.1
    found = waves.transform(X).reshape(20, 500, 8)
    for feature in (0, 499):
        for at in (0, 7):
            f, phase = waves.frequencies_[feature, at], waves.phases_[feature, at]
            expected = np.cos(2 * np.pi * f * X[:, feature] + phase)
            np.testing.assert_allclose(found[:, feature, at], expected)


def test_names_of_periodic_features():
    waves = PeriodicFeatures(2, random_state=0).fit(pd.DataFrame({"a": [1.0], "b": [2.0]}))
    assert list(waves.get_feature_names_out()) == ["a_cos0", "a_cos1", "b_cos0", "b_cos1"]
