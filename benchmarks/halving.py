"""Successive halving over 120 candidates: time, and quality of the chosen candidate.

Four searches try learning rates, penalties and batch sizes of one network, with five folds, two
processes, float32 and up to 81 epochs: scikit-learn's grid and halving searches over its own
network, our grid search, and our halving search, which drops two thirds of the candidates after 1,
3, 9 and 27 epochs. Each search is timed once, on three quarters of the rows.

Then our halving search and the full grid choose a candidate on several splits of the data, and the
choices are scored on held-out rows. A choice is good if its score is at most one standard error (of
a proportion) below that of the full grid's choice.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - lets the next be imported
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._report import argument_parser, as_time, print_setting, print_table, verdict
from benchmarks._timing import Cost, best_costs
from benchmarks.search import N_JOBS, breast_cancer, digits, fits
from skbackprop import BackpropClassifier, BackpropGridSearchCV, BackpropHalvingGridSearchCV

N_EPOCHS, FACTOR, N_FOLDS = 81, 3, 5
N_SPLITS = 10
ENOUGH = 0.9  # the share of splits with a good choice
EPOCHS = "network__max_iter"
GRID = {
    "network__learning_rate_init": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
    "network__alpha": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0],
    "network__batch_size": [32, 64, 128, 200],
}
SMOKE_GRID = {"network__alpha": [1e-4, 1e-2, 1.0]}
IN_ROUNDS = {"factor": FACTOR, "resource": EPOCHS, "return_train_score": False}
OURS, FULL = "BackpropHalvingGridSearchCV", "BackpropGridSearchCV"
THEIRS, THEIR_GRID = "HalvingGridSearchCV(MLPClassifier)", "GridSearchCV(MLPClassifier)"
# By name: the search, the network, further settings, and the goal for our speed-up.
CONTENDERS = {
    OURS: (BackpropHalvingGridSearchCV, BackpropClassifier, IN_ROUNDS, 1),
    FULL: (BackpropGridSearchCV, BackpropClassifier, {}, 5),
    THEIRS: (HalvingGridSearchCV, MLPClassifier, IN_ROUNDS, 8),
    THEIR_GRID: (GridSearchCV, MLPClassifier, {}, 30),
}


@dataclass(frozen=True)
class Case:
    """One row of the tables: its name, the data and the width of the network."""

    name: str
    data: Callable[[], tuple[np.ndarray, np.ndarray]]
    width: int

    def parts(self, seed: int) -> list[np.ndarray]:
        """Return training and held-out rows, in the order of `train_test_split`."""
        X, y = self.data()
        X = X.astype(np.float32)
        return train_test_split(X, y, test_size=0.25, stratify=y, random_state=seed)

    def search(self, name: str, smoke: bool, n_jobs: int = N_JOBS):
        search_class, network_class, settings, _ = CONTENDERS[name]
        n_epochs = FACTOR if smoke else N_EPOCHS
        network = network_class(
            (self.width,), max_iter=n_epochs, tol=0.0, n_iter_no_change=np.inf, random_state=0
        )
        pipeline = Pipeline([("scale", StandardScaler()), ("network", network)])
        if "resource" in settings:
            settings = settings | {"max_resources": n_epochs}
        grid, n_folds = (SMOKE_GRID, 2) if smoke else (GRID, N_FOLDS)
        return search_class(pipeline, grid, cv=n_folds, n_jobs=n_jobs, **settings)

    def costs(self, smoke: bool, names: list[str]) -> dict[str, Cost]:
        X, _, y, _ = self.parts(seed=0)
        best_costs({"start": fits(self.search(OURS, True), X, y)}, 1)  # the processes
        return best_costs({name: fits(self.search(name, smoke), X, y) for name in names}, 1)

    def scores(self, smoke: bool, seed: int) -> tuple[float, float, int]:
        """Return the held-out scores of both choices, and the number of held-out rows."""
        X, X_test, y, y_test = self.parts(seed)
        ours, full = (
            self.search(name, smoke).fit(X, y).score(X_test, y_test) for name in (OURS, FULL)
        )
        return ours, full, len(y_test)


CASES = [Case("breast cancer, 32 units", breast_cancer, 32), Case("digits, 64 units", digits, 64)]


def row_of_times(case: Case, smoke: bool, names: list[str]) -> list[str]:
    costs = case.costs(smoke, names)
    cells, is_reached = [], True
    for name in names:
        cost, goal = costs[name], CONTENDERS[name][-1]
        ratio = cost.seconds / costs[OURS].seconds
        cells.append(f"{as_time(cost.seconds)} ({as_time(cost.cpu_seconds)})")
        if name != OURS:
            cells.append(f"{ratio:.1f} (goal {goal})")
            is_reached &= ratio >= goal
    return [case.name, *cells, verdict(is_reached, smoke)]


def row_of_choices(case: Case, smoke: bool, n_splits: int) -> list[str]:
    scores = [case.scores(smoke, seed) for seed in range(n_splits)]
    n_good = sum(
        ours >= full - math.sqrt(full * (1 - full) / n_rows) for ours, full, n_rows in scores
    )
    ours, full, _ = np.mean(scores, axis=0)
    is_reached = n_good >= ENOUGH * n_splits
    return [case.name, f"{ours:.4f}", f"{full:.4f}", f"{n_good}", verdict(is_reached, smoke)]


def report(
    smoke: bool, only: str = "", n_splits: int = N_SPLITS, without_sklearn: bool = False
) -> None:
    """Print both tables, of the cases whose names contain `only`."""
    cases = [case for case in CASES if only in case.name]
    n_splits = 1 if smoke else n_splits
    names = [OURS, FULL] if without_sklearn else list(CONTENDERS)
    head = [cell for name in names for cell in (f"{name} (CPU)", "times ours")]
    with warnings.catch_warnings():
        # With so few epochs, networks are not expected to converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        print_table(
            f"Time of a search over 120 candidates x 5 folds in float32, {N_JOBS} processes:",
            ["data, network", head[0], *head[2:], "verdict"],
            (row_of_times(case, smoke, names) for case in cases),
        )
        print_table(
            f"Accuracy of the choice on rows held out, over {n_splits} splits:",
            ["data, network", OURS, FULL, "within one standard error", "verdict"],
            (row_of_choices(case, smoke, n_splits) for case in cases),
        )


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--only", default="", help="only the rows whose names contain this")
    parser.add_argument("--splits", type=int, default=N_SPLITS, help="how many to choose on")
    parser.add_argument("--without-sklearn", action="store_true", help="only our searches")
    arguments = parser.parse_args()
    print_setting()
    report(arguments.smoke, arguments.only, arguments.splits, arguments.without_sklearn)
