"""Parallel loops: each part once, errors of threads, forks, and equal results of any threads."""

import math
import os
import signal
import threading
import time
from contextlib import nullcontext

import numpy as np
import pytest

from skbackprop import BackpropClassifier
from skbackprop.layers import (
    AveragePool2D,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    GlobalMaxPool1D,
    MaxPool2D,
    TransformerBlock,
)
from skbackprop.training import resources
from skbackprop.utils.parallel import ThreadTeam, parallel_for, split_rows, thread_number


@pytest.fixture
def team():
    with ThreadTeam(3, nullcontext) as team:
        yield team


def test_each_part_is_computed_once_and_threads_share_them(team):
    found, numbers = [], set()

    def compute(part):
        numbers.add((thread_number(), threading.get_ident()))
        time.sleep(0.002)
        found.append(part)

    parallel_for(compute, range(30))
    assert sorted(found) == list(range(30))
    assert sorted(number for number, _ in numbers) == [0, 1, 2]
    assert (0, threading.get_ident()) in numbers


def test_a_loop_within_a_loop_runs_alone(team):
    found = []
    parallel_for(lambda part: parallel_for(lambda i: found.append((part, i)), range(2)), range(3))
    assert sorted(found) == [(part, i) for part in range(3) for i in range(2)]


def test_an_error_of_any_thread_is_raised_after_all_have_ended(team):
    running = set()

    def fail(part):
        running.add(part)
        time.sleep(0.002)
        running.remove(part)
        if part == 7:
            raise KeyError(part)

    with pytest.raises(KeyError):
        parallel_for(fail, range(20))
    assert not running


def test_threads_treat_floating_point_errors_as_the_caller(team):
    with np.errstate(all="ignore"):
        np.setbufsize(4096)
        sizes = []

        def overflow(part):
            np.exp(np.full(4, 1e4))
            sizes.append(np.getbufsize())

        parallel_for(overflow, range(12))
    assert set(sizes) == {4096}


def test_after_a_team_loops_run_alone():
    with ThreadTeam(3, nullcontext):
        parallel_for(lambda part: None, range(5))
    numbers = []
    parallel_for(lambda part: numbers.append(threading.get_ident()), range(5))
    assert set(numbers) == {threading.get_ident()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on Windows")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_fork_runs_loops_alone(team):
    parallel_for(lambda part: time.sleep(0.001), range(9))
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5)  # rather than waiting for threads that the fork does not have
        found = []
        parallel_for(found.append, range(9))
        os._exit(0 if found == list(range(9)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    "n_rows, n_at_once", [(1, 5), (10, 10), (11, 10), (100, 9), (3, 0), (3, 1)]
)
def test_parts_of_rows_are_all_rows_and_no_larger_than_asked(n_rows, n_at_once):
    parts = split_rows(n_rows, n_at_once)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(n_rows))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) <= max(n_at_once, 1)
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == 1 or len(parts) % 4 == 0 or len(parts) == n_rows


NETWORKS = {
    "images": (
        [Conv2D(4, 3, activation="relu"), MaxPool2D(2), Conv2D(6, 3), AveragePool2D(2)],
        (20, 20, 2),
        2,
    ),
    "decoder": ([Conv2DTranspose(4, 3, 2, activation="silu"), MaxPool2D(3, 2)], (12, 12, 2), 1),
    "overlapping": ([Conv2D(8, 1), MaxPool2D(3, 2, padding="same")], (24, 24, 3), 1),
    "sequences": ([Conv1D(8, 5, activation="gelu"), GlobalMaxPool1D()], (150, 3), 2),
    "attention": ([TransformerBlock(2, 32)], (24, 16), 1),
}


@pytest.mark.parametrize("layers, shape, n_estimators", NETWORKS.values(), ids=NETWORKS)
def test_the_number_of_threads_changes_no_bit(layers, shape, n_estimators, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(256, *shape)).astype(np.float32)
    y = (X.reshape(len(X), -1)[:, : math.prod(shape) // 2].mean(axis=1) > 0).astype(int)
    trained = []
    for n_threads in (1, 2, 3):
        monkeypatch.setattr(resources, "n_blas_threads", lambda n=n_threads: n)
        model = BackpropClassifier(
            (),
            layers=layers,
            n_estimators=n_estimators,
            batch_size=128,
            max_iter=2,
            tol=0.0,
            n_iter_no_change=np.inf,
            random_state=0,
        )
        trained.append(model.fit(X, y).predict_proba(X))
    for other in trained[1:]:
        np.testing.assert_array_equal(other, trained[0])
