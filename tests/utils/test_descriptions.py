"""Descriptions of settings: the same in every process, and different for others."""

import os
import subprocess
import sys
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from skbackprop.optimizers import SGD, Adam
from skbackprop.utils.equality import describe

RATE = "class Rate:\n def __call__(self, p): return p\n"
DATACLASS = "@dataclass\nclass Rate:\n a: int\n"
# What a script may say that a value is. No two of them are the same.
SCRIPTS = {
    "a number": "value = 1",
    "a flag": "value = True",
    "a word": "value = '1'",
    "a long word": "value = 'a' * 1_000",
    "a longer word": "value = 'a' * 999 + 'b'",
    "a list": "value = [1, 2]",
    "a list in a list": "value = [[1], 2]",
    "a long list": "value = list(range(1_000))",
    "another long list": "value = [*range(999), 0]",
    "a set": "value = {'a', 'b', 'c', 'd'}",
    "a dict": "value = {'a': 1, 'b': 2}",
    "another dict": "value = {'a': 1, 'b': [2]}",
    "an array": "value = np.arange(3)",
    "an array of floats": "value = np.arange(3.0)",
    "a long array": "value = np.arange(1_000)",
    "another long array": "value = np.arange(1_000); value[500] = 0",
    "objects": "value = np.array([1, lambda p: p], dtype=object)",
    "a module": "import math; value = math",
    "an imported function": "from math import cos; value = cos",
    "another imported function": "from math import sin; value = sin",
    "a function of NumPy": "value = np.exp",
    "another function of NumPy": "value = np.mean",
    "an imported class": "from fractions import Fraction; value = Fraction",
    "an object of it": "from fractions import Fraction; value = Fraction()",
    "an object": "value = Adam(0.5)",
    "another object": "value = Adam(0.6)",
    "a lambda": "value = lambda p: 1 - p",
    "an operator": "value = lambda p: 1 + p",
    "a constant": "value = lambda p: 2 - p",
    "words in a set": "value = lambda p: p in {'a', 'b', 'c', 'd'}",
    "a default": "value = lambda p, a=1: a - p",
    "another default": "value = lambda p, a=2: a - p",
    "a keyword": "value = lambda p, *, a=1: a - p",
    "another keyword": "value = lambda p, *, a=2: a - p",
    "a global variable": "a = 1\nvalue = lambda p: a - p",
    "another value of it": "a = 2\nvalue = lambda p: a - p",
    "a global list": "a = [1, 2]\nvalue = lambda p: a[0] - p",
    "another list": "a = [1, 3]\nvalue = lambda p: a[0] - p",
    "a function within": "value = lambda p: [2 * q for q in (lambda: [p])()]",
    "another function within": "value = lambda p: [3 * q for q in (lambda: [p])()]",
    "what is called": "def half(p): return p / 2\nvalue = lambda p: half(p)",
    "another that is called": "def half(p): return p / 3\nvalue = lambda p: half(p)",
    "a closure": "def make(a): return lambda p: a - p\nvalue = make(1)",
    "another closure": "def make(a): return lambda p: a - p\nvalue = make(2)",
    "a closure over an array": "def make(a): return lambda p: a[0] - p\nvalue = make(np.zeros(99))",
    "over another array": "def make(a): return lambda p: a[0] - p\nvalue = make(np.ones(99))",
    "itself": "def value(p): return value(p - 1) if p else 0",
    "itself, otherwise": "def value(p): return value(p - 2) if p else 0",
    "a part of a call": "from functools import partial\nvalue = partial(pow, 2)",
    "another part": "from functools import partial\nvalue = partial(pow, 3)",
    "a callable": f"{RATE}value = Rate()",
    "another callable": "class Rate:\n def __call__(self, p): return -p\nvalue = Rate()",
    "an attribute": f"{RATE}value = Rate()\nvalue.a = 1",
    "another attribute": f"{RATE}value = Rate()\nvalue.a = 2",
    "a method": f"{RATE} def f(self): return 1\nvalue = Rate().f",
    "another method": f"{RATE} def g(self): return 1\nvalue = Rate().g",
    "a static method": f"{RATE} @staticmethod\n def f(p): return p\nvalue = Rate()",
    "another static method": f"{RATE} @staticmethod\n def f(p): return -p\nvalue = Rate()",
    "a class": f"{RATE}value = Rate",
    "a derived class": f"{RATE}class Other(Rate): pass\nvalue = Other()",
    "another base class": f"{RATE} a = lambda: 2\nclass Other(Rate): pass\nvalue = Other()",
    "a dataclass": f"{DATACLASS} def f(self): return 1\nvalue = Rate(1)",
    "another dataclass": f"{DATACLASS} def f(self): return 1\nvalue = Rate(2)",
    "one with another method": f"{DATACLASS} def f(self): return 2\nvalue = Rate(1)",
    "a slot": "class Rate:\n __slots__ = ['a']\nvalue = Rate()\nvalue.a = 1",
    "another in a slot": "class Rate:\n __slots__ = ['a']\nvalue = Rate()\nvalue.a = 2",
    "a queue": "from collections import deque; value = deque([1, [2]])",
    "another queue": "from collections import deque; value = deque([1, [3]])",
    "a date": "from datetime import date; value = date(2025, 1, 2)",
    "another date": "from datetime import date; value = date(2025, 1, 3)",
    "a frame": "value = pd.DataFrame({'a': np.arange(99), 'b': ['x'] * 99})",
    "a frame of other numbers": "value = pd.DataFrame({'a': np.ones(99, int), 'b': ['x'] * 99})",
    "a frame of other words": "value = pd.DataFrame({'a': np.arange(99), 'b': ['y'] * 99})",
    "a frame of other columns": "value = pd.DataFrame({'a': np.arange(99), 'c': ['x'] * 99})",
    "a lock": "import threading; value = threading.Lock()",
    "a stream": "value = np.random.RandomState(0)",
    "a fitted model": "value = DecisionTreeRegressor().fit([[0], [1]], [0, 1])",
    "another fitted model": "value = DecisionTreeRegressor().fit([[0], [1]], [0, 2])",
    "a scorer": "value = make_scorer(lambda y, p: 1)",
    "another scorer": "value = make_scorer(lambda y, p: 2)",
    "a scorer of errors": "value = make_scorer(lambda y, p: 1, greater_is_better=False)",
}
IMPORTS = """
from dataclasses import dataclass
import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeRegressor
from sklearn.metrics import make_scorer
from skbackprop.optimizers import Adam
"""


def described(script, before=""):
    names = {"__name__": "__main__"}
    exec(f"{before}\n{IMPORTS}\n{script}", names)
    return describe("value", names["value"])


def test_descriptions_distinguish_values():
    found = {name: described(script) for name, script in SCRIPTS.items()}
    for name, script in SCRIPTS.items():
        assert described(script, "unused = 5\n\n# a comment\n") == found[name], name
    for one, other in combinations(SCRIPTS, 2):
        assert found[one] != found[other], (one, other)


@pytest.mark.long
def test_another_process_describes_the_same():
    """Whatever the order of its sets and the addresses of its objects."""
    printing = "\n".join(
        [
            "from test_descriptions import SCRIPTS, described",
            "for script in SCRIPTS.values(): print(described(script))",
        ]
    )
    folder = str(__file__).rpartition("test_descriptions")[0]
    printed = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path += {[folder, *sys.path]}\n{printing}"],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert printed == [str(described(script)) for script in SCRIPTS.values()]


@pytest.mark.parametrize(
    "one, other",
    [
        ([1, 2], (1, 2)),
        (0.5, np.float64(0.5)),
        ([1.0, np.int64(2)], (np.float32(1), 2)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": Adam(), "b": SGD()}, {"b": SGD(), "a": Adam(0.9)}),
    ],
)
def test_equal_values_are_described_alike(one, other):
    assert describe("value", one) == describe("value", other)


def test_state_of_a_closure_is_not_described():
    def counting():
        calls = 0

        def count(p):
            nonlocal calls
            calls += 1
            return p

        return count

    count = counting()
    before = describe("value", count)
    count(1)
    assert describe("value", count) == before


def test_caches_of_objects_are_not_described():
    frame = pd.DataFrame({"a": np.arange(5), "b": np.ones(5)})
    rng = np.random.RandomState(0)
    before = [describe("value", value) for value in (frame, rng)]
    assert frame["a"].sum() == 10 and len(frame.groupby("a")["b"].mean()) == 5
    rng.uniform()
    assert [describe("value", value) for value in (frame, rng)] == before


def test_differing_value_is_named():
    def weighted(weight):
        return lambda p: weight * p

    one, other = (describe("scoring", weighted(weight)) for weight in (1, 2))
    assert [name for name in one if one[name] != other[name]] == ["scoring.weight"]
    one, other = describe("solver", Adam(0.5)), describe("solver", Adam(0.6))
    assert [name for name in one if one[name] != other[name]] == ["solver.beta_1"]


@pytest.mark.long
def test_descriptions_are_bounded():
    endless = [1]
    endless.append(endless)
    deep = []
    for _ in range(10_000):
        deep = [deep]
    many = [[i] for i in range(100_000)]
    for value in (endless, deep, many, "a" * 10**6, np.zeros(10**6), [list(range(9))] * 10**4):
        assert len(str(describe("value", value))) < 20_000
