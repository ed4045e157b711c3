"""Time of an epoch of networks for images and sequences, and of a search over small ones.

All train by Adam on the cross-entropy, in float32, with the same architecture and batches as torch.
With one thread, times are those of the processor, which other programs hardly change. With two,
they are those of the clock. Networks of torch for images run in both of its memory formats, and the
faster one counts.
"""

import importlib.util
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ShuffleSplit
from threadpoolctl import threadpool_limits

from benchmarks import _data
from benchmarks._contenders import OURS, TORCH
from benchmarks._report import (
    MISSING,
    argument_parser,
    as_time,
    print_setting,
    print_table,
    verdict,
)
from benchmarks._timing import Clock, Run, best_costs, seconds_per_epoch
from skbackprop import BackpropClassifier, BackpropGridSearchCV
from skbackprop.layers import (
    GRU,
    LSTM,
    Conv1D,
    Conv2D,
    GlobalAveragePool1D,
    GlobalMaxPool1D,
    MaxPool2D,
    TransformerBlock,
)

N_ROUNDS, N_SEARCH_ROUNDS = 5, 3
N_SMOKE_ROWS = 48
CHANNELS_LAST = f"{TORCH}, channels last"
HAS_TORCH = importlib.util.find_spec("torch") is not None


@dataclass(frozen=True)
class Case:
    """A network in both libraries, its data, and the goal for torch's time by ours."""

    name: str
    data: Callable[[], tuple[np.ndarray, np.ndarray]]
    layers: Sequence[Any]
    hidden: tuple[int, ...]
    module: Callable[[], Any]  # of torch, with channels before the pixels of images
    batch_size: int
    goal: float | None = None

    def epochs(self, smoke: bool) -> dict[str, Run]:
        """Return what trains for so many epochs, by contender."""
        X, y = self.data()
        if smoke:
            X, y = X[:N_SMOKE_ROWS], y[:N_SMOKE_ROWS]
        runs: dict[str, Run] = {OURS: self.epochs_of_ours(X, y)}
        if HAS_TORCH:
            runs[TORCH] = self.epochs_of_torch(X, y)
            if X.ndim == 4:
                runs[CHANNELS_LAST] = self.epochs_of_torch(X, y, channels_last=True)
        return runs

    def epochs_of_ours(self, X: np.ndarray, y: np.ndarray) -> Run:
        def run(n_epochs: int) -> None:
            with warnings.catch_warnings():
                # That so few epochs do not converge is no news here.
                warnings.simplefilter("ignore", ConvergenceWarning)
                self.estimator(n_epochs, len(X)).fit(X, y)

        return run

    def estimator(self, n_epochs: int, n_rows: int) -> BackpropClassifier:
        return BackpropClassifier(
            self.hidden,
            layers=list(self.layers),
            batch_size=min(self.batch_size, n_rows),
            max_iter=n_epochs,
            tol=0.0,
            n_iter_no_change=np.inf,
            random_state=0,
        )

    def epochs_of_torch(
        self,
        X: np.ndarray,
        y: np.ndarray,
        channels_last: bool = False,
        rate: float = 1e-3,
        alpha: float = 0.0,
    ) -> Run:
        """Return the usual eager loop, with the fused Adam."""
        import torch

        pixels, labels = torch.from_numpy(X), torch.from_numpy(y)
        if X.ndim == 4:
            pixels = pixels.permute(0, 3, 1, 2)
            pixels = pixels.contiguous(
                memory_format=torch.channels_last if channels_last else torch.contiguous_format
            )

        def run(n_epochs: int) -> None:
            torch.manual_seed(0)
            model, loss = self.module(), torch.nn.CrossEntropyLoss()
            if channels_last:
                model = model.to(memory_format=torch.channels_last)
            parameters = model.parameters()
            optimizer = torch.optim.Adam(parameters, rate, weight_decay=alpha, fused=True)
            for _ in range(n_epochs):
                for rows in torch.randperm(len(X)).split(self.batch_size):
                    optimizer.zero_grad()
                    loss(model(pixels[rows]), labels[rows]).backward()
                    optimizer.step()

        return run


# --------------------------------------------------------------------------- the networks


def digits() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32).reshape(-1, 8, 8, 1), y.astype(np.int64)


def random_rows(n_rows: int, *shape: int) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    def data() -> tuple[np.ndarray, np.ndarray]:
        X, y = _data.dense(n_rows, math.prod(shape), 10, "float32")
        return X.reshape(n_rows, *shape), y

    return data


def convolutions_of_torch(
    *channels: int, n_flat: int, hidden: int, pooled: bool = False
) -> Callable[[], Any]:
    """Return a function that makes convolutions of 3 x 3, a dense layer and the output."""

    def module():
        from torch import nn

        layers = []
        for n_inputs, n_outputs in pairwise(channels):
            layers += [nn.Conv2d(n_inputs, n_outputs, 3), nn.ReLU()]
            if pooled:
                layers.append(nn.MaxPool2d(2))
        layers += [nn.Flatten(), nn.Linear(n_flat, hidden), nn.ReLU(), nn.Linear(hidden, 10)]
        return nn.Sequential(*layers)

    return module


def sequence_convolutions_of_torch():
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolutions = nn.Sequential(
                nn.Conv1d(3, 32, 7), nn.ReLU(), nn.Conv1d(32, 64, 5), nn.ReLU()
            )
            self.output = nn.Linear(64, 10)

        def forward(self, x):
            return self.output(torch.amax(self.convolutions(x.transpose(1, 2)), dim=2))

    return Network()


def recurrent_of_torch(kind: str) -> Callable[[], Any]:
    """Return a function that makes 64 units and an output of the last state."""

    def module():
        from torch import nn

        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.recurrent = getattr(nn, kind)(8, 64, batch_first=True)
                self.output = nn.Linear(64, 10)

            def forward(self, x):
                return self.output(self.recurrent(x)[0][:, -1])

        return Network()

    return module


def transformer_of_torch():
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.TransformerEncoderLayer(
                64, 4, 256, 0.0, "gelu", batch_first=True, norm_first=True
            )
            self.output = nn.Linear(64, 10)

        def forward(self, x):
            return self.output(self.block(x).mean(dim=1))

    return Network()


def conv(n_filters: int) -> Conv2D:
    return Conv2D(n_filters, 3, activation="relu")


CASES = [
    Case(
        "digits 8 x 8, Conv 16 - Conv 32 - 64, batch 64",
        digits,
        (conv(16), conv(32)),
        (64,),
        convolutions_of_torch(1, 16, 32, n_flat=512, hidden=64),
        batch_size=64,
        goal=1.0,
    ),
    Case(
        "28 x 28, Conv 16 - pool - Conv 32 - pool - 64, batch 128",
        random_rows(2_048, 28, 28, 1),
        (conv(16), MaxPool2D(2), conv(32), MaxPool2D(2)),
        (64,),
        convolutions_of_torch(1, 16, 32, n_flat=800, hidden=64, pooled=True),
        batch_size=128,
        goal=0.8,
    ),
    Case(
        "64 steps of 8, GRU 64, batch 64",
        random_rows(1_024, 64, 8),
        (GRU(64),),
        (),
        recurrent_of_torch("GRU"),
        batch_size=64,
        goal=1.0,
    ),
    Case(
        "64 steps of 8, LSTM 64, batch 64",
        random_rows(1_024, 64, 8),
        (LSTM(64),),
        (),
        recurrent_of_torch("LSTM"),
        batch_size=64,
    ),
    Case(
        "64 tokens of width 64, TransformerBlock, batch 64",
        random_rows(512, 64, 64),
        (TransformerBlock(4, 256), GlobalAveragePool1D()),
        (),
        transformer_of_torch,
        batch_size=64,
        goal=0.8,
    ),
    Case(
        "200 steps of 3, Conv 32 - Conv 64 - max, batch 64",
        random_rows(640, 200, 3),
        (
            Conv1D(32, 7, activation="relu"),
            Conv1D(64, 5, activation="relu"),
            GlobalMaxPool1D(),
        ),
        (),
        sequence_convolutions_of_torch,
        batch_size=64,
    ),
]


# ----------------------------------------------------------------------------- the search


SMALL = Case(
    "digits, Conv 8 - pool - 32, batch 32: 20 candidates",
    digits,
    (conv(8), MaxPool2D(2)),
    (32,),
    convolutions_of_torch(1, 8, n_flat=72, hidden=32, pooled=True),
    batch_size=32,
    goal=2.0,
)
RATES = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
ALPHAS = [1e-5, 1e-4, 1e-3, 1e-2]
N_SEARCH_EPOCHS = 10


def searches(n_jobs: int, smoke: bool) -> dict[str, Run]:
    """Return what tries all candidates, each on three quarters of the rows, by contender."""
    X, y = SMALL.data()
    if smoke:
        X, y = X[:N_SMOKE_ROWS], y[:N_SMOKE_ROWS]
    n_epochs = 1 if smoke else N_SEARCH_EPOCHS
    split = ShuffleSplit(1, test_size=0.25, random_state=0)
    train, _ = next(split.split(X))
    grid = {"learning_rate_init": RATES, "alpha": ALPHAS}
    network = SMALL.estimator(n_epochs, len(train))
    search = BackpropGridSearchCV(network, grid, cv=split, refit=False, n_jobs=n_jobs)

    def run_ours(n_times: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            search.fit(X, y)

    runs: dict[str, Run] = {OURS: run_ours}
    if HAS_TORCH:
        calls = [
            delayed(fit_in_torch)(X[train], y[train], *pair, n_epochs)
            for pair in product(RATES, ALPHAS)
        ]
        runs[TORCH] = lambda n_times: Parallel(n_jobs)(calls)
    return runs


def fit_in_torch(X: np.ndarray, y: np.ndarray, rate: float, alpha: float, n_epochs: int) -> None:
    """Fit one candidate in one thread."""
    import torch

    torch.set_num_threads(1)
    SMALL.epochs_of_torch(X, y, rate=rate, alpha=alpha)(n_epochs)


# ----------------------------------------------------------------------------- the tables


def row_of(name: str, seconds: dict[str, float], goal: float | None, smoke: bool) -> list[str]:
    ours, theirs = seconds[OURS], [seconds.get(each) for each in (TORCH, CHANNELS_LAST)]
    if theirs[0] is None:
        return [name, as_time(ours), MISSING, "-", "-", "-", "-"]
    ratio = min(each for each in theirs if each is not None) / ours
    times = ["-" if each is None else as_time(each) for each in theirs]
    judged = ["-", "-"] if goal is None else [f"{goal:.2f}", verdict(ratio >= goal, smoke)]
    return [name, as_time(ours), *times, f"{ratio:.2f}", *judged]


def rows(n_threads: int, smoke: bool, only: str) -> Iterator[list[str]]:
    clock: Clock = time.process_time if n_threads == 1 else time.perf_counter
    n_rounds = 1 if smoke else N_ROUNDS
    for case in CASES:
        if only in case.name:
            with ThreadLimit(n_threads):
                seconds = seconds_per_epoch(case.epochs(smoke), n_rounds, clock)
            yield row_of(
                case.name, {k: t or math.nan for k, t in seconds.items()}, case.goal, smoke
            )
    if only in SMALL.name:
        runs = searches(n_threads, smoke)
        with ThreadLimit(1):
            # The first round starts the processes as well.
            costs = best_costs(runs, 1 if smoke else N_SEARCH_ROUNDS)
        seconds = {
            key: cost.seconds if n_threads > 1 else cost.cpu_seconds for key, cost in costs.items()
        }
        yield row_of(SMALL.name, seconds, SMALL.goal, smoke)


class ThreadLimit(threadpool_limits):
    """Context in which BLAS and torch have so many threads."""

    def __init__(self, n_threads: int) -> None:
        super().__init__(n_threads)
        if HAS_TORCH:
            import torch

            torch.set_num_threads(n_threads)


def report(smoke: bool, only: str = "", threads: tuple[int, ...] = (1, 2)) -> None:
    """Print a table for each number of threads, of the networks whose names contain `only`."""
    # Threads that wait for each other take long where others compute, so smoke is for one alone.
    for n_threads in threads[:1] if smoke else threads:
        what = "one thread, of the processor" if n_threads == 1 else "two threads or processes"
        print_table(
            f"Time of an epoch, or of a search, {what}:",
            ["network", OURS, TORCH, CHANNELS_LAST, f"times {TORCH}", "goal", "verdict"],
            rows(n_threads, smoke, only),
        )


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--only", default="", help="only the rows whose names contain this")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], choices=[1, 2])
    arguments = parser.parse_args()
    print_setting()
    report(arguments.smoke, arguments.only, tuple(arguments.threads))
