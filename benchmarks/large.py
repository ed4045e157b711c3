"""Rows a second of a dense table: `fit` for an epoch, in memory and from a file, and `partial_fit`.

A million rows of fifty float32 numbers of two classes, or `--rows` of them. `partial_fit` takes
10,000 rows at a time from the file, as a program does that reads more than memory holds.
scikit-learn's network is the same as ours; its SGDClassifier is a linear model, and makes a step
for each row.
"""

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier

from benchmarks import _data
from benchmarks._contenders import OURS, SKLEARN
from benchmarks._report import argument_parser, print_setting, print_table
from benchmarks._timing import best_seconds
from skbackprop import BackpropClassifier

N_ROWS, N_FEATURES = 1_000_000, 50
LINEAR = "SGDClassifier"
NETWORKS = {"50-32-1": (32,), "50-256-256-1": (256, 256)}
N_ROUNDS = 3

Model = Callable[[], object]  # makes a new model that trains for one epoch


def models(hidden: tuple[int, ...], batch_size: int) -> dict[str, Model]:
    """Return the contenders, with the same settings for both networks."""
    settings = {"hidden_layer_sizes": hidden, "batch_size": batch_size}
    settings |= {"max_iter": 1, "random_state": 0}
    return {
        OURS: lambda: BackpropClassifier(**settings),
        SKLEARN: lambda: MLPClassifier(**settings),
        LINEAR: lambda: SGDClassifier(loss="log_loss", max_iter=1, random_state=0),
    }


def fitting(model: Model, X, y):
    def run(n_times: int) -> None:
        for _ in range(n_times):
            model().fit(X, y)

    return run


def reading(model: Model, X, y, n_at_once: int):
    """Return what calls `partial_fit` on so many rows after the other."""

    def run(n_times: int) -> None:
        for _ in range(n_times):
            network = model()
            for start in range(0, len(X), n_at_once):
                rows = slice(start, start + n_at_once)
                network.partial_fit(X[rows], y[rows], classes=[0, 1])

    return run


def as_rate(rows_per_second: float) -> str:
    return f"{rows_per_second / 1000:,.0f}k"


def row_of(name: str, runs, n_rows: int, n_rounds: int) -> list[str]:
    rates = {who: n_rows / t for who, t in best_seconds(runs, 1, n_rounds).items()}
    ratios = [f"{rates[OURS] / rates[who]:.2f}" for who in (SKLEARN, LINEAR)]
    return [name, *(as_rate(rate) for rate in rates.values()), *ratios]


def rows_of(in_memory, in_file, y, smoke: bool):
    """Yield a row of the table for each network and each way to read."""
    n_rounds, n_at_once, batch_size = (1, 100, 50) if smoke else (N_ROUNDS, 10_000, 200)
    for network, hidden in NETWORKS.items():
        ways = {
            "`fit`": lambda model: fitting(model, in_memory, y),
            "`fit` to a file": lambda model: fitting(model, in_file, y),
            f"`partial_fit` of {n_at_once:,} rows": lambda model: reading(
                model, in_file, y, n_at_once
            ),
        }
        for name, way in ways.items():
            runs = {who: way(model) for who, model in models(hidden, batch_size).items()}
            yield row_of(f"{network}, {name}", runs, len(y), n_rounds)


def report(smoke: bool, n_rows: int = N_ROWS) -> None:
    """Print the table, of a file that is removed when it is done."""
    n_rows = 500 if smoke else n_rows
    X, y = _data.dense(n_rows, N_FEATURES, 2, "float32")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # That one epoch does not converge is no news here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        path = Path(folder) / "X.npy"
        np.save(path, X)
        print_table(
            f"Rows a second, of {n_rows:,} x {N_FEATURES} in float32, batches of 200:",
            ["network", OURS, SKLEARN, LINEAR, f"times {SKLEARN}", f"times {LINEAR}"],
            rows_of(X, np.load(path, mmap_mode="r"), y, smoke),
        )


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=N_ROWS, help="of the table")
    arguments = parser.parse_args()
    print_setting()
    report(arguments.smoke, arguments.rows)
