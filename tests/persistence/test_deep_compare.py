"""Is each difference between two objects found, and named, and none where there is none?"""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
from scipy.sparse import csr_array

from skbackprop import BackpropClassifier
from skbackprop.persistence._deep_compare import first_difference
from support import class_data, few_epochs, quick

pytestmark = few_epochs


class Listing(list):
    """A list that may hold something beside."""


def listing(beside):
    made = Listing([1])
    made.beside = beside
    return made


DIFFERENT = [
    (1, 2, "x"),
    (1, 1.0, "x"),
    (1, True, "x"),
    (0.0, -0.0, "x"),
    ("1", 1, "x"),
    (np.float32(1), np.float64(1), "x"),
    (int, float, "x"),
    (np.sin, np.cos, "x"),
    (np.zeros(2), np.zeros(3), "x"),
    (np.zeros(2), np.zeros(2, np.float32), "x"),
    (np.zeros(2), -np.zeros(2), "x"),
    (np.ones((2, 3)), np.asfortranarray(np.ones((2, 3))), "x"),
    (np.array(["a", None]), np.array(["a", "None"], dtype=object), "x.tolist()[1]"),
    ([1, [2, 3]], [1, [2, 4]], "x[1][1]"),
    ([1], [1, 2], "x"),
    ((1,), [1], "x"),
    ({"a": 1}, {"a": 2}, "x[str 'a']"),
    ({1: 1}, {True: 1}, "x"),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "x"),
    ({1}, {2}, "x"),
    (listing(1), listing(2), "x.beside"),
    (partial(max, 1), partial(max, 2), "x[1][0]"),
    (np.random.RandomState(0), np.random.RandomState(1), "x.get_state()[str 'state'][str 'key']"),
    (csr_array(np.eye(2)), csr_array(2 * np.eye(2)), "x.data"),
    (BackpropClassifier(alpha=1.0), BackpropClassifier(alpha=2.0), "x.alpha"),
]


@pytest.mark.parametrize("one, other, name", DIFFERENT, ids=range(len(DIFFERENT)))
def test_a_difference_is_named(one, other, name):
    assert first_difference(one, other, "x") == name
    assert first_difference(other, one, "x") is not None
    assert first_difference(one, copy.deepcopy(one), "x") is None
    assert first_difference(other, copy.deepcopy(other), "x") is None


def test_a_list_that_holds_itself_is_compared_once():
    one, other = [1], [1]
    one.append(one)
    other.append(other)
    assert first_difference(one, other, "x") is None


def test_one_weight_of_a_network_is_a_difference():
    model = quick(BackpropClassifier, warm_start=True, dropout=0.1).fit(*class_data())
    again = pickle.loads(pickle.dumps(model))
    assert first_difference(model, again, "x") is None
    again.coefs_[1][0, 0] = np.nextafter(again.coefs_[1][0, 0], 1)
    assert first_difference(model, again, "x") == "x.coefs_[1]"
