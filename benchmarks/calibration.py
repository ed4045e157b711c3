"""One temperature for all probabilities: what it is worth, and where.

In each repetition every row of a data set is held out once, by five-fold cross-validation. Of the
other rows a quarter is set aside; a network trains on the rest, and scikit-learn's
`CalibratedClassifierCV` finds the temperature on what was set aside (Guo et al. 2017, section 4.2).
Both sides of each comparison are the same network. Calibration error and log loss are those of
`benchmarks.ensembles`; the accuracy is the same before and after.
"""

import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._report import argument_parser, print_setting, print_table
from benchmarks.ensembles import SETTINGS, quality_of
from skbackprop import BackpropClassifier

N_REPEATS = 5
LEAST = 1e-15  # a probability of zero has no logarithm
DATA = {"digits": load_digits, "breast cancer": load_breast_cancer, "wine": load_wine}
KINDS: dict[str, dict[str, Any]] = {
    "until the loss stalls": {},
    "stopped early": {"early_stopping": True},
    "eight, stopped early": {"early_stopping": True, "n_members": 8},
    "focal loss": {"loss": "focal"},
    "smoothed labels": {"label_smoothing": 0.1},
}


class Case(NamedTuple):
    """One row of the table: its name, the data and what the network differs by."""

    name: str
    load: Callable
    settings: dict[str, Any]


CASES = [
    Case(f"{name}, {kind}", load, settings)
    for kind, settings in KINDS.items()
    for name, load in DATA.items()
]


def before_and_after(case: Case, seed: int, smoke: bool) -> np.ndarray:
    """Return log loss, calibration error and accuracy of all rows, of shape (2, 3)."""
    X, y = case.load(return_X_y=True)
    predicted = np.empty((2, len(y), y.max() + 1))
    folds = StratifiedKFold(2 if smoke else 5, shuffle=True, random_state=seed)
    settings = SETTINGS | ({"max_iter": 2} if smoke else {}) | case.settings
    for train, test in folds.split(X, y):
        rows, aside = train_test_split(train, test_size=0.25, stratify=y[train], random_state=seed)
        network = BackpropClassifier(**settings, random_state=seed)
        model = make_pipeline(StandardScaler(), network).fit(X[rows], y[rows])
        calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="temperature")
        calibrated.fit(X[aside], y[aside])
        predicted[:, test] = [each.predict_proba(X[test]) for each in (model, calibrated)]
    return np.array([quality_of(np.log(np.maximum(own, LEAST)), y) for own in predicted])


def row_of(case: Case, smoke: bool) -> list[str]:
    found = [before_and_after(case, seed, smoke) for seed in range(1 if smoke else N_REPEATS)]
    (loss, error, accuracy), (loss_after, error_after, _) = np.mean(found, axis=0)
    numbers = [f"{error:.4f}", f"{error_after:.4f}", f"{loss:.3f}", f"{loss_after:.3f}"]
    return [case.name, *numbers, f"{accuracy:.3f}"]


def rows(smoke: bool) -> Iterable[list[str]]:
    for case in CASES:
        with warnings.catch_warnings():
            # Early stopping may need all epochs, and smoke has but two: neither is news here.
            warnings.simplefilter("ignore", ConvergenceWarning)
            yield row_of(case, smoke)


def report(smoke: bool) -> None:
    print_table(
        "Networks on rows held out, before and after their probabilities were given a temperature:",
        ["data", "calibration error", "after", "log loss", "after", "accuracy"],
        rows(smoke),
    )


if __name__ == "__main__":
    arguments = argument_parser(__doc__).parse_args()
    print_setting()
    report(arguments.smoke)
