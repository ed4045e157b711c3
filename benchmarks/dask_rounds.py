"""Training on a Dask cluster: times of a round and a step, bytes of a round, accuracy, memory.

A `LocalCluster` of two workers, or of `--workers`: each a process with one thread. Rounds are of
one step on a batch that is shared, or of ten steps of each worker by itself; beside them is the
local estimator, in this process with one thread of BLAS. Times are those of a second epoch and
later.
"""

import os
import time
import warnings
from collections.abc import Iterator
from functools import partial

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from benchmarks import _data
from benchmarks._report import argument_parser, as_time, print_setting, print_table
from skbackprop import BackpropClassifier
from skbackprop.dask import DaskBackpropClassifier, LocalSGD, SyncSGD

NETWORKS = {"50-32-1": (32,), "50-256-256-1": (256, 256), "50-1024-512-1": (1024, 512)}
N_ROWS, N_FEATURES, BATCH_SIZE, N_STEPS = 20_000, 50, 200, 10
SETS = {"wine": load_wine, "breast cancer": load_breast_cancer, "digits": load_digits}
N_SEEDS, N_EPOCHS = 5, 30
WORKER_BYTES = 1_200_000_000  # the limit of a worker's memory


def cluster_of(n_workers: int, smoke: bool, **settings) -> LocalCluster:
    settings |= {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    return LocalCluster(n_workers=n_workers, processes=not smoke, **settings)


def in_blocks(X, y, n_blocks: int):
    rows = -(-len(X) // n_blocks)
    return da.from_array(X, chunks=(rows, -1)), da.from_array(y, chunks=rows)


class Clock:
    """A callback that notes when each epoch ends."""

    def setup(self, estimator, context):
        self.times = []

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.times.append(time.perf_counter())


def seconds_of_epoch(model, data) -> float:
    """Return the time of an epoch at best, but for the first, which sets up."""
    clock = Clock()
    model.set_callbacks(clock).fit(*data)
    return float(np.diff(clock.times[:-1]).min())


def rows_of_networks(n_workers: int, smoke: bool) -> Iterator[list[str]]:
    """Yield for each network the times of a step and of rounds, bytes, and rows a second."""
    n_rows, batch_size = (400, 20) if smoke else (N_ROWS, BATCH_SIZE)
    X, y = _data.dense(n_rows, N_FEATURES, 2, "float32")
    for name, hidden in NETWORKS.items():
        settings = {"hidden_layer_sizes": hidden, "batch_size": batch_size, "random_state": 0}
        settings |= {"max_iter": 3, "n_iter_no_change": np.inf}
        local = BackpropClassifier(**settings)
        seconds = [seconds_of_epoch(local, (X, y))]
        for rounds in (SyncSGD(), LocalSGD(N_STEPS)):
            model = DaskBackpropClassifier(**settings, rounds=rounds)
            seconds.append(seconds_of_epoch(model, in_blocks(X, y, n_workers)))
        n_steps = n_rows / batch_size
        n_rounds = -(-n_steps // (n_workers * N_STEPS))
        there_and_back = 2 * n_workers * local.n_parameters_ * local.coefs_[0].itemsize
        yield [
            name,
            *(as_time(s / n) for s, n in zip(seconds, (n_steps, n_steps, n_rounds), strict=True)),
            # Local steps send both moments of Adam as well.
            *(f"{k * there_and_back / 1e6:.2g} MB" for k in (1, 3)),
            *(f"{n_rows / s / 1000:,.0f}k" for s in seconds),
        ]


def rows_of_accuracy(n_workers: int, smoke: bool) -> Iterator[list[str]]:
    """Yield the mean accuracy of several seeds on rows held out, at equal epochs."""
    n_seeds, n_epochs = (1, 2) if smoke else (N_SEEDS, N_EPOCHS)
    for name, load in SETS.items():
        X, y = load(return_X_y=True)
        found = [one_accuracy(X, y, n_workers, seed, n_epochs) for seed in range(n_seeds)]
        yield [name, *(f"{score:.3f}" for score in np.mean(found, axis=0))]


def one_accuracy(X, y, n_workers: int, seed: int, n_epochs: int) -> list[float]:
    """Return the accuracy of the local estimator, and of each way to train on a cluster."""
    X, X_test, y, y_test = train_test_split(X, y, random_state=seed, stratify=y)
    scaler = StandardScaler().fit(X)
    X, X_test = scaler.transform(X), scaler.transform(X_test)
    settings = {"hidden_layer_sizes": (64,), "batch_size": 32, "random_state": seed}
    settings |= {"max_iter": n_epochs, "n_iter_no_change": np.inf}
    models = [BackpropClassifier(**settings).fit(X, y)]
    for rounds in (SyncSGD(), LocalSGD(4), LocalSGD(1_000)):
        model = DaskBackpropClassifier(**settings, rounds=rounds)
        models.append(model.fit(*in_blocks(X, y, n_workers)).to_local())
    return [model.score(X_test, y_test) for model in models]


def _peak_bytes() -> int:
    """Return the largest memory that this process has had, as Linux counts it."""
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def row_of_memory(smoke: bool) -> Iterator[list[str]]:
    """Yield the peak memory of workers on rows of three times what one of them may hold."""
    limit, n_workers = (10_000_000, 2) if smoke else (WORKER_BYTES, 8)
    n_rows = 3 * limit // (8 * N_FEATURES)
    rows = -(-n_rows // (4 * n_workers))
    settings = {} if smoke else {"memory_limit": limit}
    with cluster_of(n_workers, smoke, **settings) as cluster, Client(cluster) as client:
        X = da.random.default_rng(0).standard_normal((n_rows, N_FEATURES), chunks=(rows, -1))
        client.run(partial(__import__, "skbackprop.dask"))
        before = max(client.run(_peak_bytes).values())
        model = DaskBackpropClassifier((32,), max_iter=1, batch_size=20_000, rounds=LocalSGD(10))
        model.fit(X, (X[:, 0] > 0).astype(int))
        peak = max(client.run(_peak_bytes).values())
    yield [
        f"{n_rows:,} rows, {n_workers} workers",
        *(f"{b / 1e6:,.0f} MB" for b in (8 * N_FEATURES * n_rows, before, peak)),
    ]


def report(smoke: bool, n_workers: int = 2) -> None:
    """Print the tables."""
    ways = "shared", "steps"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with cluster_of(n_workers, smoke) as cluster, Client(cluster):
            print_table(
                f"{n_workers} workers, batches of {BATCH_SIZE}, float32. A local step, a round of "
                f"a shared batch, one of {N_STEPS} steps; bytes of both; rows a second:",
                ["network", "step", *ways, *ways, "local", *ways],
                rows_of_networks(n_workers, smoke),
            )
            print_table(
                f"Accuracy after {N_EPOCHS} epochs, batches of 32, mean of {N_SEEDS} seeds:",
                ["data", "local", "shared", "4 steps", "an epoch"],
                rows_of_accuracy(n_workers, smoke),
            )
        if os.path.exists("/proc/self/status"):
            print_table(
                "Memory of the worker with the most, on three times what one may hold:",
                ["data", "rows", "before", "peak"],
                row_of_memory(smoke),
            )


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--workers", type=int, default=2, help="of the cluster")
    arguments = parser.parse_args()
    print_setting()
    report(arguments.smoke, arguments.workers)
