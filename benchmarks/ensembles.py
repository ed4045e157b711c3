"""Eight networks against one: what they are worth on rows held out, and what they cost.

In each repetition every row of a data set is held out once, by five-fold cross-validation; folds
and seeds change from one to the next. One network and eight train on the same rows with the same
settings, until the loss stalls, or until early stopping ends it. The calibration error is the mean
distance of confidence and accuracy (Guo et al. 2017, "On calibration of modern neural networks"):
rows in 15 bins by the probability of the label predicted, each bin with the weight of its rows.
"""

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._report import argument_parser, print_setting, print_table, verdict
from skbackprop import BackpropClassifier

N_MEMBERS = 8
N_FOLDS = 5
N_REPEATS = 10
N_BINS = 15
SETTINGS = {
    "hidden_layer_sizes": (64, 64),
    "learning_rate_init": 0.003,
    "max_iter": 500,
    "dtype": "float32",
}


@dataclass(frozen=True)
class Case:
    """One row of the table: its name, the data, how training ends, and whether it has a goal."""

    name: str
    data: Callable
    early_stopping: bool

    @property
    def has_goal(self) -> bool:
        # Early stopping leaves a network too cautious, not too sure, which no mean can mend.
        return not self.early_stopping

    def pipeline(self, n_estimators: int, seed: int, smoke: bool):
        network = BackpropClassifier(
            **SETTINGS | ({"max_iter": 2} if smoke else {}),
            early_stopping=self.early_stopping,
            n_estimators=n_estimators,
            random_state=seed,
        )
        return make_pipeline(StandardScaler(), network)


CASES = [
    Case(f"{name}, {ending}", data, early_stopping)
    for ending, early_stopping in (("until the loss stalls", False), ("stopped early", True))
    for name, data in (
        ("digits", load_digits),
        ("breast cancer", load_breast_cancer),
        ("wine", load_wine),
    )
]


class Quality(NamedTuple):
    """How good predicted probabilities are: the lower the first two the better."""

    log_loss: float
    calibration_error: float
    accuracy: float


def quality_of(log_probabilities: np.ndarray, y: np.ndarray) -> Quality:
    log_loss = -log_probabilities[np.arange(len(y)), y].mean()
    confidence = np.exp(log_probabilities.max(axis=1))
    is_right = log_probabilities.argmax(axis=1) == y
    bins = np.minimum(confidence * N_BINS, N_BINS - 1).astype(int)
    gaps = np.abs(np.bincount(bins, weights=is_right - confidence))
    return Quality(log_loss, gaps.sum() / len(y), is_right.mean())


class Outcome(NamedTuple):
    """The mean quality over the repetitions, and the seconds that all fits took."""

    quality: Quality
    seconds: float


def outcomes(case: Case, smoke: bool) -> dict[int, Outcome]:
    """Return what comes of one network and of eight, which take turns."""
    X, y = case.data(return_X_y=True)
    if smoke:
        X, y = X[::10], y[::10]
    qualities = {n_estimators: [] for n_estimators in (1, N_MEMBERS)}
    seconds = dict.fromkeys(qualities, 0.0)
    for repeat in range(1 if smoke else N_REPEATS):
        folds = StratifiedKFold(2 if smoke else N_FOLDS, shuffle=True, random_state=repeat)
        held_out = {n_estimators: np.empty((len(y), y.max() + 1)) for n_estimators in qualities}
        for fold, (train, test) in enumerate(folds.split(X, y)):
            for n_estimators, predicted in held_out.items():
                pipeline = case.pipeline(n_estimators, N_FOLDS * repeat + fold, smoke)
                start = time.perf_counter()
                pipeline.fit(X[train], y[train])
                seconds[n_estimators] += time.perf_counter() - start
                predicted[test] = pipeline.predict_log_proba(X[test])
        for n_estimators, predicted in held_out.items():
            qualities[n_estimators].append(quality_of(predicted, y))
    return {n: Outcome(Quality(*np.mean(qualities[n], axis=0)), seconds[n]) for n in qualities}


def row_of(case: Case, smoke: bool) -> list[str]:
    found = outcomes(case, smoke)
    one, eight = found[1].quality, found[N_MEMBERS].quality
    pairs = zip((3, 4, 3), one, eight, strict=True)
    cells = [f"{value:.{digits}f}" for digits, *pair in pairs for value in pair]
    row = [case.name, *cells, f"{found[N_MEMBERS].seconds / found[1].seconds:.1f}"]
    if not case.has_goal:
        return [*row, "-", "-"]
    is_better = eight.log_loss < one.log_loss and eight.calibration_error < one.calibration_error
    return [*row, "both lower", verdict(is_better, smoke)]


def rows(smoke: bool) -> Iterable[list[str]]:
    for case in CASES:
        with warnings.catch_warnings():
            # Early stopping may need all epochs, and smoke has but two: neither is news here.
            warnings.simplefilter("ignore", ConvergenceWarning)
            yield row_of(case, smoke)


def report(smoke: bool) -> None:
    head = ["log loss of one", "of eight", "calibration error of one", "of eight"]
    print_table(
        f"Networks on rows held out, one against {N_MEMBERS}, and how many times as long their "
        "fit takes:",
        ["data", *head, "accuracy of one", "of eight", "time", "goal", "verdict"],
        rows(smoke),
    )


if __name__ == "__main__":
    arguments = argument_parser(__doc__).parse_args()
    print_setting()
    report(arguments.smoke)
