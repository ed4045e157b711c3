"""Which combinations of its parameters a test runs with: each value once, each pair, or all.

A test with several `parametrize` marks stands for the product of their axes. `make test` runs as
many combinations as it takes for each two values of different axes to meet, `make check` as many
as it takes for each value to occur, and `make test-full` all of them. A row of a table (one mark
of several names) is one value of one axis. So nothing is left out of a test with one axis, nor by
`make test` of one with two. Hypothesis draws fewer examples for `make check`, and the same ones in
every run: an unchanged tree stays green. The marks that say the rest are in pyproject.toml.
"""

import sys
from inspect import signature

import hypothesis
from allpairspy import AllPairs

MOST_CASES = 5  # of one test function under --quick


def use_examples(n_examples):
    """Set how many examples Hypothesis draws; to be called before test modules are imported."""
    hypothesis.settings.register_profile(
        "lane", max_examples=n_examples, derandomize=True, deadline=None, database=None
    )
    hypothesis.settings.load_profile("lane")


def examples(share):
    """Return settings for a test that is to draw only this share of the lane's examples."""
    n_examples = round(share * hypothesis.settings.default.max_examples)
    return hypothesis.settings(max_examples=max(n_examples, 1))


def covering(rows, strength):
    """Return the numbers of rows in which any values of `strength` columns meet that ever do.

    rows : list of tuples, of each row the level of each axis, as a number
    """
    if len(rows[0]) <= strength:
        return list(range(len(rows)))
    number = {row: i for i, row in enumerate(rows)}
    if strength == 1:
        return sorted(number[row] for row in diagonal(rows))
    # Not every product of levels is a row: allpairspy builds rows from left to right.
    beginnings = {row[:n] for row in rows for n in range(1, len(row) + 1)}
    axes = [sorted(set(levels)) for levels in zip(*rows, strict=True)]
    chosen = AllPairs(axes, filter_func=lambda row: tuple(row) in beginnings, n=strength)
    return sorted(number[tuple(row)] for row in chosen)


def diagonal(rows):
    """Return rows in which each level of each column occurs: (0, 0), (1, 1), ... where they are."""
    n_levels = [max(levels) + 1 for levels in zip(*rows, strict=True)]
    wanted = {tuple(i % n for n in n_levels) for i in range(max(n_levels))}
    chosen = wanted.intersection(rows)
    given = {level for row in chosen for level in enumerate(row)}
    for row in rows:
        if not given.issuperset(enumerate(row)):
            chosen.add(row)
            given.update(enumerate(row))
    return chosen


def is_left_out(test, quick, full):
    """Return whether a test is none in this lane, or one of a combination that can't be."""
    if quick and test.get_closest_marker("long"):
        return True
    if not full and test.get_closest_marker("full"):
        return True
    if sys.platform != "linux" and test.get_closest_marker("linux"):
        return True
    return any(
        is_one(**{name: chosen[name] for name in signature(is_one).parameters if name in chosen})
        for mark in test.iter_markers("without")
        for chosen in [test.callspec.params]
        for is_one in mark.args
    )


def thinned(tests, strength):
    """Return those of a function's tests in which each `strength` values meet that ever do."""
    if len(tests) < 2:
        return tests
    levels = []
    for names in axes_of(tests[0]):
        # By identity: an axis of a product holds the same objects over and over.
        numbers = {}
        values = [tuple(id(test.callspec.params[name]) for name in names) for test in tests]
        levels.append([numbers.setdefault(value, len(numbers)) for value in values])
    rows = list(zip(*levels, strict=True))
    return [tests[row] for row in covering(rows, strength)]


def sample_of(tests):
    """Return at most MOST_CASES of a function's tests, the first and the last among them."""
    if len(tests) <= MOST_CASES or tests[0].get_closest_marker("every"):
        return tests
    last = len(tests) - 1
    return [tests[round(last * i / (MOST_CASES - 1))] for i in range(MOST_CASES)]


def axes_of(test):
    """Return the names of a test's parameters, those of one mark together."""
    axes = [
        [name.strip() for name in mark.args[0].split(",")]
        for mark in test.iter_markers("parametrize")
    ]
    named = {name for names in axes for name in names}
    return axes + [[name] for name in test.callspec.params if name not in named]
