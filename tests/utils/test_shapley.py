"""Shapley values against their definition, by enumeration of all coalitions."""

import numpy as np
import pytest

from skbackprop.estimators.explanation import (
    MAX_EXACT_COLUMNS,
    make_explanation,
)
from support import shapley_values

N_COLUMNS = 5
RNG = np.random.RandomState(0)
WEIGHTS = RNG.randn(N_COLUMNS, 2)
# Few different values, so that many columns are those of the background.
ROWS = RNG.randint(0, 3, (4, N_COLUMNS)).astype(float)
BACKGROUND = RNG.randint(0, 3, (12, N_COLUMNS)).astype(float)


def interacting(X):
    """Return two outputs to which all columns contribute together."""
    return np.tanh(X @ WEIGHTS) * X[:, :1]


def pairwise(X):
    """Return two outputs to which no more than two columns contribute together."""
    return (X @ WEIGHTS) * X[:, :1] - X[:, [1]] * X[:, [2]]


def shapley(function, rows, background, n_permutations=None, seed=0):
    matrices = rows, background, np.arange(rows.shape[1]), function(rows), function(background)
    options = {"n_permutations": n_permutations, "random_state": seed, "rows_at_once": 50}
    return make_explanation(function, *matrices, rows, None, None, **options).values


def by_definition(function, row, background):
    """Return the Shapley values of one row."""

    def value(coalition):
        hybrids = background.copy()
        hybrids[:, coalition] = row[list(coalition)]
        return function(hybrids).mean(axis=0)

    return shapley_values(value, range(len(row)))


def test_exact_values_are_those_of_the_definition():
    found = shapley(interacting, ROWS, BACKGROUND)
    expected = [by_definition(interacting, row, BACKGROUND) for row in ROWS]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_sampled_values_converge_to_the_exact_ones():
    exact = shapley(interacting, ROWS, BACKGROUND)
    errors = [
        np.abs(shapley(interacting, ROWS, BACKGROUND, n) - exact).max() for n in (1, 20, 2000)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_an_order_and_its_reverse_are_exact_for_interactions_of_two_columns():
    expected = [by_definition(pairwise, row, BACKGROUND) for row in ROWS]
    found = shapley(pairwise, ROWS, BACKGROUND, 2)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert not np.allclose(shapley(pairwise, ROWS, BACKGROUND, 1), expected, atol=1e-3)


@pytest.mark.parametrize("n_permutations", [None, 1, 2, 3])
def test_values_sum_to_the_difference_from_the_mean_of_the_background(n_permutations):
    found = shapley(interacting, ROWS, BACKGROUND, n_permutations)
    difference = interacting(ROWS) - interacting(BACKGROUND).mean(axis=0)
    np.testing.assert_allclose(found.sum(axis=1), difference, atol=1e-12)


@pytest.mark.parametrize("n_permutations", [None, 1])
def test_values_of_a_linear_function(n_permutations):
    found = shapley(lambda X: X @ WEIGHTS, ROWS, BACKGROUND, n_permutations)
    expected = (ROWS - BACKGROUND.mean(axis=0))[:, :, None] * WEIGHTS
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_column_without_effect_and_symmetric_columns():
    rows, background = np.ones((1, 4)), np.zeros((3, 4))
    found = shapley(lambda X: np.prod(X[:, :3], axis=1, keepdims=True), rows, background)
    np.testing.assert_allclose(found[0, :, 0], [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-15)


def test_matrix_columns_of_one_table_column_are_switched_together():
    """Here the first column of the table has two columns in the matrices."""
    both = np.hstack([ROWS[:, :1], ROWS]), np.hstack([BACKGROUND[:, :1], BACKGROUND])
    found = make_explanation(
        lambda X: interacting(X[:, 1:]) + X[:, :1],
        *both,
        np.array([0, *range(N_COLUMNS)]),
        *(interacting(X[:, 1:]) + X[:, :1] for X in both),
        ROWS,
        *(None, None, None, 0),
        rows_at_once=50,
    ).values
    expected = shapley(lambda X: interacting(X) + X[:, :1], ROWS, BACKGROUND)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_no_prediction_is_computed_for_columns_that_do_not_differ():
    rows, sizes = np.full((1, MAX_EXACT_COLUMNS + 2), np.nan), []
    rows[0, 0] = 1.0

    def predict(X):
        sizes.append(len(X))
        return np.zeros((len(X), 1))

    background = np.where(np.arange(rows.shape[1]) < 2, 0, rows).repeat(5, axis=0)
    shapley(predict, rows, background)
    assert sizes == [1, 5, 5]  # both tables, and one row between the two columns that differ
