"""Training on a Dask cluster: time and bytes of a round, accuracy and memory.

The cluster is a `LocalCluster` of two workers, or of `--workers`, each a process with one thread. A
round is a synchronous step, or ten local steps of each worker. The local estimator is measured in
this process, with one thread of BLAS. The first epoch is not timed.
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
from skbackprop.dask import DaskBackpropClassifier

NETWORKS = {"50-32-1": (32,), "50-256-256-1": (256, 256), "50-1024-512-1": (1024, 512)}
N_ROWS, N_FEATURES, BATCH_SIZE, N_LOCAL_STEPS = 20_000, 50, 200, 10
SETS = {"wine": load_wine, "breast cancer": load_breast_cancer, "digits": load_digits}
N_SEEDS, N_EPOCHS = 5, 30
WORKER_BYTES = 1_200_000_000  # the memory limit of a worker


def make_cluster(n_workers: int, smoke: bool, **settings) -> LocalCluster:
    settings |= {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    return LocalCluster(n_workers=n_workers, processes=not smoke, **settings)


def to_blocks(X, y, n_blocks: int):
    rows = -(-len(X) // n_blocks)
    return da.from_array(X, chunks=(rows, -1)), da.from_array(y, chunks=rows)


class Clock:
    """Callback that records the time at the end of each epoch."""

    def setup(self, estimator, context):
        self.times = []

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.times.append(time.perf_counter())


def time_epoch(model, data) -> float:
    """Return the shortest time of an epoch in seconds, without the first."""
    clock = Clock()
    model.set_callbacks(clock).fit(*data)
    return float(np.diff(clock.times[:-1]).min())


def measure_networks(n_workers: int, smoke: bool) -> Iterator[list[str]]:
    """Yield a table row of times, bytes and rows per second for each network."""
    n_rows, batch_size = (400, 20) if smoke else (N_ROWS, BATCH_SIZE)
    X, y = _data.dense(n_rows, N_FEATURES, 2, "float32")
    for name, hidden in NETWORKS.items():
        settings = {"hidden_layer_sizes": hidden, "batch_size": batch_size, "random_state": 0}
        settings |= {"max_iter": 3, "n_iter_no_change": np.inf}
        local = BackpropClassifier(**settings)
        seconds = [time_epoch(local, (X, y))]
        for sync_every in (1, N_LOCAL_STEPS):
            model = DaskBackpropClassifier(**settings, sync_every=sync_every)
            seconds.append(time_epoch(model, to_blocks(X, y, n_workers)))
        n_steps = n_rows / batch_size
        n_rounds = -(-n_steps // (n_workers * N_LOCAL_STEPS))
        # The weights and both moments of Adam.
        there_and_back = 6 * n_workers * local.n_parameters_ * local.coefs_[0].itemsize
        yield [
            name,
            *(as_time(s / n) for s, n in zip(seconds, (n_steps, n_steps, n_rounds), strict=True)),
            f"{there_and_back / 1e6:.2g} MB",
            *(f"{n_rows / s / 1000:,.0f}k" for s in seconds),
        ]


def measure_accuracy(n_workers: int, smoke: bool) -> Iterator[list[str]]:
    """Yield a table row of mean test accuracies for each data set, at equal epochs."""
    n_seeds, n_epochs = (1, 2) if smoke else (N_SEEDS, N_EPOCHS)
    for name, load in SETS.items():
        X, y = load(return_X_y=True)
        found = [compute_accuracies(X, y, n_workers, seed, n_epochs) for seed in range(n_seeds)]
        yield [name, *(f"{score:.3f}" for score in np.mean(found, axis=0))]


def compute_accuracies(X, y, n_workers: int, seed: int, n_epochs: int) -> list[float]:
    """Return the test accuracy of the local estimator, and with each `sync_every`."""
    X, X_test, y, y_test = train_test_split(X, y, random_state=seed, stratify=y)
    scaler = StandardScaler().fit(X)
    X, X_test = scaler.transform(X), scaler.transform(X_test)
    settings = {"hidden_layer_sizes": (64,), "batch_size": 32, "random_state": seed}
    settings |= {"max_iter": n_epochs, "n_iter_no_change": np.inf}
    models = [BackpropClassifier(**settings).fit(X, y)]
    for sync_every in (1, 4, 1_000):
        model = DaskBackpropClassifier(**settings, sync_every=sync_every)
        models.append(model.fit(*to_blocks(X, y, n_workers)).to_local())
    return [model.score(X_test, y_test) for model in models]


def _peak_bytes() -> int:
    """Return the peak memory of this process on Linux."""
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def measure_memory(smoke: bool) -> Iterator[list[str]]:
    """Yield a table row of the peak memory of a worker."""
    limit, n_workers = (10_000_000, 2) if smoke else (WORKER_BYTES, 8)
    n_rows = 3 * limit // (8 * N_FEATURES)
    rows = -(-n_rows // (4 * n_workers))
    settings = {} if smoke else {"memory_limit": limit}
    with make_cluster(n_workers, smoke, **settings) as cluster, Client(cluster) as client:
        X = da.random.default_rng(0).standard_normal((n_rows, N_FEATURES), chunks=(rows, -1))
        client.run(partial(__import__, "skbackprop.dask"))
        before = max(client.run(_peak_bytes).values())
        model = DaskBackpropClassifier((32,), max_iter=1, batch_size=20_000, sync_every=10)
        model.fit(X, (X[:, 0] > 0).astype(int))
        peak = max(client.run(_peak_bytes).values())
    yield [
        f"{n_rows:,} rows, {n_workers} workers",
        *(f"{b / 1e6:,.0f} MB" for b in (8 * N_FEATURES * n_rows, before, peak)),
    ]


def report(smoke: bool, n_workers: int = 2) -> None:
    """Print the tables."""
    kinds = "sync", f"{N_LOCAL_STEPS} steps"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with make_cluster(n_workers, smoke) as cluster, Client(cluster):
            print_table(
                f"{n_workers} workers, batches of {BATCH_SIZE}, float32. Time of a step of the "
                f"local estimator, a synchronous round and a round of {N_LOCAL_STEPS} local steps; "
                "bytes of a round; rows per second:",
                ["network", "step", *kinds, "bytes", "local", *kinds],
                measure_networks(n_workers, smoke),
            )
            print_table(
                f"Test accuracy after {N_EPOCHS} epochs, batches of 32, mean of {N_SEEDS} seeds:",
                ["data", "local", "sync", "4 steps", "an epoch"],
                measure_accuracy(n_workers, smoke),
            )
        if os.path.exists("/proc/self/status"):
            print_table(
                "Peak memory of a worker, for three times the rows that one worker can hold:",
                ["data", "rows", "before", "peak"],
                measure_memory(smoke),
            )


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--workers", type=int, default=2, help="the number of workers of the cluster"
    )
    arguments = parser.parse_args()
    print_setting()
    report(arguments.smoke, arguments.workers)
