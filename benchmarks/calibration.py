"""One temperature for all probabilities: what it is worth, and where.

In each repetition every row of a data set is held out once, by five-fold cross-validation, and
networks train on the others. The temperature (Guo et al. 2017, section 4.2) is found by the rows
that early stopping holds out, with `EarlyStopping(calibrate=True)`; or, for the second table, a
quarter of the rows is set aside before, and scikit-learn's `CalibratedClassifierCV` finds it there.
Both sides of each comparison are the same network. Calibration error and log loss are those of
`benchmarks.ensembles`; the accuracy is that afterwards, which is the one before but for a few rows
of ensembles.

For rare classes, a threshold that k of n rare training rows reach, by their out-of-fold
probabilities, is expected to be reached by a share of k / (n + 1) of new rows, if the probabilities
of both have the same distribution.
"""

import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._report import argument_parser, print_setting, print_table
from benchmarks.ensembles import SETTINGS, quality_of
from skbackprop import BackpropClassifier, EarlyStopping, TabularClassifier

N_REPEATS = 5
LEAST = 1e-15  # a probability of zero has no logarithm
N_DATA_SETS, RECALL = 30, 0.9  # of rare classes
DATA = {"digits": load_digits, "breast cancer": load_breast_cancer, "wine": load_wine}
KINDS: dict[str, dict[str, Any]] = {
    "until the loss stalls": {},
    "stopped early": {"early_stopping": True},
    "eight, stopped early": {"early_stopping": True, "n_estimators": 8},
    "focal loss": {"loss": "focal"},
    "smoothed labels": {"label_smoothing": 0.1},
}


def credit(return_X_y: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return 1,000 rows like those of loans: three in ten are bad, and one in five is a riddle."""
    return make_classification(
        1000, 20, n_informative=10, weights=[0.7], flip_y=0.2, class_sep=0.8, random_state=7
    )


def three_classes(return_X_y: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return 1,500 rows of three classes, of which one in seven is a riddle."""
    return make_classification(1500, 15, n_informative=6, n_classes=3, flip_y=0.15, random_state=3)


MORE_DATA = DATA | {"made-up loans": credit, "made-up, three classes": three_classes}
HELD_OUT: dict[str, dict[str, Any]] = {
    "one": {"early_stopping": EarlyStopping()},
    "one, by the loss": {"early_stopping": EarlyStopping("loss")},
    "eight": {"early_stopping": EarlyStopping(), "n_estimators": 8},
    "eight, rotating folds": {
        "early_stopping": EarlyStopping(validation_fraction="folds"),
        "n_estimators": 8,
    },
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


HELD_OUT_CASES = [
    Case(f"{name}, {kind}", load, settings)
    for kind, settings in HELD_OUT.items()
    for name, load in MORE_DATA.items()
]


def by_rows_held_out(network: BackpropClassifier, X, y, seed: int) -> tuple[Any, Any]:
    """Return the network, and the same calibrated by what early stopping holds out."""
    calibrated = clone(network).set_params(early_stopping__calibrate=True)
    each = [make_pipeline(StandardScaler(), one).fit(X, y) for one in (network, calibrated)]
    return each[0], each[1]


def by_rows_aside(network: BackpropClassifier, X, y, seed: int) -> tuple[Any, Any]:
    """Return the network, and the same calibrated by a quarter of the rows set aside."""
    rows, aside, y, y_aside = train_test_split(X, y, test_size=0.25, stratify=y, random_state=seed)
    model = make_pipeline(StandardScaler(), network).fit(rows, y)
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="temperature")
    return model, calibrated.fit(aside, y_aside)


def before_and_after(case: Case, calibrate: Callable, seed: int, smoke: bool) -> np.ndarray:
    """Return log loss, calibration error and accuracy of all rows, of shape (2, 3)."""
    X, y = case.load(return_X_y=True)
    predicted = np.empty((2, len(y), y.max() + 1))
    folds = StratifiedKFold(2 if smoke else 5, shuffle=True, random_state=seed)
    settings = SETTINGS | ({"max_iter": 2} if smoke else {}) | case.settings
    for train, test in folds.split(X, y):
        network = BackpropClassifier(**settings, random_state=seed)
        both = calibrate(network, X[train], y[train], seed)
        predicted[:, test] = [each.predict_proba(X[test]) for each in both]
    return np.array([quality_of(np.log(np.maximum(own, LEAST)), y) for own in predicted])


def row_of(case: Case, calibrate: Callable, smoke: bool) -> list[str]:
    seeds = range(1 if smoke else N_REPEATS)
    found = [before_and_after(case, calibrate, seed, smoke) for seed in seeds]
    (loss, error, _), (loss_after, error_after, accuracy) = np.mean(found, axis=0)
    numbers = [f"{error:.4f}", f"{error_after:.4f}", f"{loss:.3f}", f"{loss_after:.3f}"]
    return [case.name, *numbers, f"{accuracy:.3f}"]


def rows(cases: Iterable[Case], calibrate: Callable, smoke: bool) -> Iterable[list[str]]:
    for case in cases:
        with warnings.catch_warnings():
            # Early stopping may need all epochs, and smoke has but two: neither is news here.
            warnings.simplefilter("ignore", ConvergenceWarning)
            yield row_of(case, calibrate, smoke)


def rows_of_rare_classes(smoke: bool) -> Iterable[list[str]]:
    """Yield how the probabilities of a rare class and its recall transfer to new rows."""
    for share in (0.01, 0.02):
        results = []
        for seed in range(1 if smoke else N_DATA_SETS):
            data = make_classification(
                1000 if smoke else 16_000,
                15,
                n_informative=6,
                weights=[1 - share],
                flip_y=0.002,
                random_state=2 + seed,
            )
            X, X_new, y, y_new = train_test_split(
                *data, test_size=0.5, random_state=seed, stratify=data[1]
            )
            model = TabularClassifier(4, max_iter=2 if smoke else None, random_state=seed).fit(X, y)
            held_out, new = model.oof_predict_proba_[:, 1], model.predict_proba(X_new)[:, 1]
            threshold = np.quantile(held_out[y == 1], 1 - RECALL, method="lower")
            n_reached = np.sum(held_out[y == 1] >= threshold)
            n_rare, recall = y.sum(), np.mean(new[y_new == 1] >= threshold)
            ratios = [held_out.mean() / y.mean(), new.mean() / y_new.mean()]
            results.append([*ratios, n_reached / n_rare, n_reached / (n_rare + 1), recall])
        means, errors = np.mean(results, axis=0), np.std(results, axis=0) / len(results) ** 0.5
        values = [f"{m:.3f} +- {e:.3f}" for m, e in zip(means, errors, strict=True)]
        yield [f"{share:.0%}", *values]


def report(smoke: bool) -> None:
    head = ["data", "calibration error", "after", "log loss", "after", "accuracy"]
    print_table(
        "Before and after a temperature was found by the rows that early stopping holds out:",
        head,
        rows(HELD_OUT_CASES, by_rows_held_out, smoke),
    )
    print_table(
        "Before and after a temperature was found by a quarter of the rows, set aside:",
        head,
        rows(CASES, by_rows_aside, smoke),
    )
    report_rare_classes(smoke)


def report_rare_classes(smoke: bool) -> None:
    print_table(
        f"Probabilities of a rare class over its frequency, and the recall by the threshold that "
        f"has {RECALL} out of fold:",
        [
            *("share of the class", "out of fold", "new rows"),
            *("recall out of fold", "expected on new rows", "recall on new rows"),
        ],
        rows_of_rare_classes(smoke),
    )


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--rare", action="store_true", help="rare classes alone")
    arguments = parser.parse_args()
    print_setting()
    (report_rare_classes if arguments.rare else report)(arguments.smoke)
