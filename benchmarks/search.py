"""Time of hyperparameter searches with cross-validation, in two processes.

Each candidate is a pipeline of a scaler and a network. All networks train for the same number of
epochs. An untimed search starts the processes. The CPU time of all processes is in parentheses. The
bare matrix products of all steps, in stacks of the same size as ours, are the lower bound for
NumPy. With `--busy`, another process computes at the same time.
"""

import math
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import _data
from benchmarks._contenders import BARE, OURS, SKLEARN, BareProducts, Problem
from benchmarks._report import argument_parser, as_time, print_setting, print_table, verdict
from benchmarks._timing import Cost, Run, best_costs
from skbackprop import BackpropClassifier, BackpropGridSearchCV
from skbackprop.activations import Relu
from skbackprop.nn.network import Network, dense_layers
from skbackprop.training.resources import max_stack_size

N_JOBS = 2
N_ROUNDS, N_ROUNDS_FLOAT64 = 3, 1  # float64 has no goal to reach
N_SMOKE_ROWS = 600
HIDDEN = "hidden_layer_sizes"
THEIR_SEARCH = f"GridSearchCV over {OURS}"
# By name: the search and the networks that it tries.
CONTENDERS = {
    OURS: (BackpropGridSearchCV, BackpropClassifier),
    THEIR_SEARCH: (GridSearchCV, BackpropClassifier),
    SKLEARN: (GridSearchCV, MLPClassifier),
}


@dataclass(frozen=True)
class Case:
    """One row of the table: its name, the data, the grid, the training and the goal."""

    name: str
    data: Callable[[], tuple[np.ndarray, np.ndarray]]
    grid: dict[str, list]
    batch_size: int | str
    n_folds: int
    n_epochs: int
    goal: float

    def costs(self, dtype: str, smoke: bool, leave_out: tuple[int, ...]) -> dict[str, Cost]:
        """Return the cost of each contender."""
        X, y = self.data()
        X = X.astype(dtype, copy=False)
        if smoke:
            X, y = X[:N_SMOKE_ROWS], y[:N_SMOKE_ROWS]
        warm_ups = {name: fits(self.search(name, 1, smoke), X, y) for name in CONTENDERS}
        n_epochs = 1 if smoke else self.n_epochs
        runs = {name: fits(self.search(name, n_epochs, smoke), X, y) for name in CONTENDERS}
        runs[BARE] = self.products(X, y, n_epochs)
        n_rounds = 1 if smoke else N_ROUNDS if dtype == "float32" else N_ROUNDS_FLOAT64
        with warnings.catch_warnings():
            # That so few epochs do not converge is no news here.
            warnings.simplefilter("ignore", ConvergenceWarning)
            best_costs(warm_ups, 1)
            return best_costs(runs, n_rounds, leave_out)

    def products(self, X: np.ndarray, y: np.ndarray, n_epochs: int) -> Run:
        """Return what makes the bare products of all steps, the same share in each process."""
        n_train = len(X) - len(X) // self.n_folds
        batch_size = min(200, n_train) if self.batch_size == "auto" else self.batch_size
        n_candidates = math.prod(len(v) for k, v in self.grid.items() if k != HIDDEN)
        stacks = []
        for hidden in self.grid[HIDDEN]:
            problem = Problem(X[:n_train], y, hidden, batch_size)
            size = max_stack_size(
                Network(
                    X.shape[1:],
                    tuple(dense_layers(hidden, (Relu(),) * len(hidden), problem.shapes[-1][1])),
                ),
                batch_size,
                X.itemsize,
                n_train,
                sys.maxsize,
            )
            parts = np.array_split(range(n_candidates), -(-n_candidates // size))
            stacks += [(problem, len(part)) for part in parts] * self.n_folds
        epochs = np.array_split(range(n_epochs), N_JOBS)

        def run(n_times: int) -> None:
            for _ in range(n_times):
                Parallel(N_JOBS)(delayed(make_products)(stacks, len(own)) for own in epochs)

        return run

    def search(self, name: str, n_epochs: int, smoke: bool):
        """Return the search of a contender, of all candidates but for smoke."""
        search_class, network_class = CONTENDERS[name]
        network = network_class(
            batch_size=self.batch_size,
            max_iter=n_epochs,
            tol=0.0,
            n_iter_no_change=np.inf,
            random_state=0,
        )
        pipeline = Pipeline([("scale", StandardScaler()), ("network", network)])
        grid = {
            f"network__{parameter}": values[-1:] if smoke else values
            for parameter, values in self.grid.items()
        }
        return search_class(pipeline, grid, cv=2 if smoke else self.n_folds, n_jobs=N_JOBS)


def fits(search, X: np.ndarray, y: np.ndarray) -> Run:
    def run(n_times: int) -> None:
        for _ in range(n_times):
            search.fit(X, y)

    return run


def make_products(stacks: list[tuple[Problem, int]], n_epochs: int) -> None:
    for problem, n_estimators in stacks:
        BareProducts(n_estimators).epochs(problem)(n_epochs)


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    return load_breast_cancer(return_X_y=True)


def digits() -> tuple[np.ndarray, np.ndarray]:
    return load_digits(return_X_y=True)


def many_rows() -> tuple[np.ndarray, np.ndarray]:
    return _data.dense(20_000, 54, 7, "float64")


DIGITS_GRID = {
    "learning_rate_init": [3e-4, 1e-3, 3e-3, 1e-2],
    "alpha": [1e-4, 1e-2, 1.0],
    HIDDEN: [(64,), (64, 64)],
}
CASES = [
    Case(
        "breast cancer, 32, batch 32: 30 x 5",
        breast_cancer,
        {
            "learning_rate_init": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
            "alpha": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0],
            HIDDEN: [(32,)],
        },
        batch_size=32,
        n_folds=5,
        n_epochs=150,
        goal=20,
    ),
    Case(
        "digits, 64 or 64-64, batch 64: 24 x 5",
        digits,
        DIGITS_GRID,
        batch_size=64,
        n_folds=5,
        n_epochs=60,
        goal=7,
    ),
    Case(
        "digits, 64 or 64-64, batch 200: 24 x 5",
        digits,
        DIGITS_GRID,
        batch_size="auto",
        n_folds=5,
        n_epochs=100,
        goal=5,
    ),
    Case(
        "20,000 x 54, 256-256, batch 256: 12 x 3",
        many_rows,
        {
            "learning_rate_init": [3e-4, 1e-3, 3e-3, 1e-2],
            "alpha": [1e-4, 1e-2, 1.0],
            HIDDEN: [(256, 256)],
        },
        batch_size=256,
        n_folds=3,
        n_epochs=6,
        goal=1.4,
    ),
]


@contextmanager
def busy_core() -> Iterator[int]:
    """Keep one core busy with another process, and yield its id."""
    burn = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
    process = subprocess.Popen([sys.executable, "-c", burn])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def row_of(case: Case, dtype: str, smoke: bool, leave_out: tuple[int, ...]) -> list[str]:
    costs = case.costs(dtype, smoke, leave_out)
    ratio = costs[SKLEARN].seconds / costs[OURS].seconds
    cells = [f"{as_time(cost.seconds)} ({as_time(cost.cpu_seconds)})" for cost in costs.values()]
    limit = costs[SKLEARN].seconds / costs[BARE].seconds
    row = [case.name, *cells, f"{ratio:.2f}", f"{limit:.2f}"]
    if dtype == "float64":
        return row
    return [*row, f"{case.goal:.2f}", verdict(ratio >= case.goal, smoke)]


def report(smoke: bool, only: str = "", busy: bool = False) -> None:
    """Print both tables, of the cases whose names contain `only`."""
    with busy_core() if busy else nullcontext() as burner:
        leave_out = (burner,) if busy else ()
        for dtype in ("float32", "float64"):
            goal_head = ["goal", "verdict"] if dtype == "float32" else []
            rows = (row_of(case, dtype, smoke, leave_out) for case in CASES if only in case.name)
            timed = [f"{name} (CPU)" for name in (*CONTENDERS, BARE)]
            beside = ", one more computes" if busy else ""
            print_table(
                f"Time of a search in {dtype}, {N_JOBS} processes{beside}:",
                [
                    "candidates x folds",
                    *timed,
                    f"times {SKLEARN}",
                    f"{BARE}, times {SKLEARN}",
                    *goal_head,
                ],
                rows,
            )


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--only", default="", help="only the rows whose names contain this")
    parser.add_argument("--busy", action="store_true", help="let a process take what it gets")
    arguments = parser.parse_args()
    print_setting()
    report(arguments.smoke, arguments.only, arguments.busy)
