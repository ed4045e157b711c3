"""The lanes of the suite run each value, each pair of values, or all combinations."""

from itertools import combinations, product

import numpy as np
import pytest

from support.lanes import MOST_CASES, covering, sample_of, thinned


def parts(rows, strength):
    """Return what any `strength` columns hold in any row."""
    return {
        (axes, tuple(row[axis] for axis in axes))
        for axes in combinations(range(len(rows[0])), strength)
        for row in rows
    }


@pytest.mark.parametrize("strength, most", [(1, 8), (2, 20)])
def test_excluded_combinations_count_as_covered(strength, most):
    rows = [row for row in product(range(4), range(3), range(3)) if sum(row) % 3]
    chosen = [rows[i] for i in covering(rows, strength)]
    assert parts(chosen, strength) == parts(rows, strength)
    assert len(chosen) <= most < len(rows)


# ------------------------------------------------------------------------- in pytest's hands


class Marked:
    """What `thinned` sees of a test that pytest has collected."""

    def __init__(self, marks, params):
        self.marks, self.callspec = marks, self
        self.params = params

    def iter_markers(self, name):
        return self.marks

    def get_closest_marker(self, name):
        return next((mark for mark in self.marks if mark.name == name), None)


def collected(*axes):
    """Return the tests of a function with these marks: of each, the names and the values."""
    marks = [pytest.mark.parametrize(names, values).mark for names, values in axes]
    tests = []
    for row in product(*(values for _, values in axes)):
        params = {}
        for (names, _), value in zip(axes, row, strict=True):
            names = names.split(", ")
            params |= zip(names, value if len(names) > 1 else [value], strict=True)
        tests.append(Marked(marks, params))
    return tests


def test_row_of_a_table_is_one_value():
    table = [(a, b) for a in "xy" for b in "uvw"]
    assert len(thinned(collected(("a, b", table)), 1)) == 6
    both = collected(("a, b", table), ("c", [0, 1]))
    assert len(thinned(both, 1)) == 6
    assert thinned(both, 2) == both


def test_three_axes_meet_in_pairs():
    tests = collected(("a", list("pqr")), ("b", list("st")), ("c", [np.float32, np.float64]))
    chosen = [tuple(test.params.values()) for test in thinned(tests, 2)]
    assert parts(chosen, 2) == parts([tuple(test.params.values()) for test in tests], 2)
    assert len(chosen) == 6


def test_tests_without_parameters_run():
    assert thinned(["the only one"], 1) == ["the only one"]


def test_sample_covers_the_values():
    tests = collected(("a", list(range(100))))
    values = [test.params["a"] for test in sample_of(tests)]
    assert len(values) == MOST_CASES
    assert np.allclose(np.diff(values), 99 / (MOST_CASES - 1), atol=1)
    assert (values[0], values[-1]) == (0, 99)
    tests[0].marks.append(pytest.mark.every.mark)
    assert sample_of(tests) == tests
