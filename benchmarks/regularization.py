"""Regularized networks against a plain one: log loss and accuracy on rows held out.

On each of three data sets (of MNIST the first 3,000 rows) the same network trains for the same
epochs with each kind of regularization alone, on one half of the rows, 1,000 at most; the other
half is held out. The strength of each kind is chosen among a few by the mean log loss over splits
and seeds that are not those reported. What is reported are means over eight further splits, each
with a seed of its own; the change from the plain network is that on the same splits, with its
standard error. A kind has reached its goal if its log loss is lower than the plain network's, by
more than two standard errors, on two data sets.
"""

import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import _data
from benchmarks._report import argument_parser, print_setting, print_table, verdict
from skbackprop import BackpropClassifier
from skbackprop.weight_averaging import ExponentialMovingAverage

N_TRAIN = 1000  # rows to train on, at most
CHOICE_SPLITS = range(1000, 1003)
REPORT_SPLITS = range(8)
SETTINGS = {
    "hidden_layer_sizes": (64, 64),
    "batch_size": 32,
    "max_iter": 100,
    "n_iter_no_change": np.inf,
    "dtype": "float32",
}


class Data(NamedTuple):
    """Where rows and labels come from, and what they go through before the network."""

    load: Callable[[], tuple[np.ndarray, np.ndarray]]
    scaler: Any = "passthrough"


def digits() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return X / 16, y


DATA = {
    "digits": Data(digits),
    "MNIST": Data(lambda: _data.first_of_mnist(3000, "float32")),
    "breast cancer": Data(lambda: load_breast_cancer(return_X_y=True), StandardScaler()),
}
if not _data.has_mnist():
    del DATA["MNIST"]
NONE = "none"
# The settings among which each kind's strength is chosen.
KINDS: dict[str, list[dict[str, Any]]] = {
    NONE: [{}],
    "dropout": [{"dropout": 0.3}, {"dropout": 0.5}, {"dropout": [0.2, 0.5, 0.5]}],
    "averaged weights": [{"average": "polyak"}, {"average": ExponentialMovingAverage(0.999)}],
    "batch normalization": [{"normalization": "batch"}],
    "layer normalization": [{"normalization": "layer"}],
    "label smoothing": [{"label_smoothing": 0.05}, {"label_smoothing": 0.1}],
}
WITH_GOAL = ("dropout", "averaged weights", "batch normalization")


class Quality(NamedTuple):
    """How good predictions are on rows held out."""

    log_loss: float
    accuracy: float


class Outcome(NamedTuple):
    """The setting that was chosen, and the quality on each split, of shape (n_splits, 2)."""

    setting: dict[str, Any]
    qualities: np.ndarray


def quality_of(
    setting: dict[str, Any], data: tuple, scaler: Any, split: int, smoke: bool
) -> Quality:
    """Return how good a network is that trains on one half of the rows."""
    X_train, X_test, y_train, y_test = train_test_split(
        *data, train_size=0.5, stratify=data[1], random_state=split
    )
    X_train, y_train = X_train[:N_TRAIN], y_train[:N_TRAIN]
    network = BackpropClassifier(**SETTINGS | setting, random_state=split)
    if smoke:
        network.set_params(max_iter=2)
    model = make_pipeline(scaler, network).fit(X_train, y_train)
    log_probabilities = model.predict_log_proba(X_test)
    loss = -log_probabilities[np.arange(len(y_test)), y_test].mean(dtype=float)
    return Quality(loss, accuracy_score(y_test, model.predict(X_test)))


def outcome_of(candidates: list[dict[str, Any]], data: tuple, scaler: Any, smoke: bool) -> Outcome:
    """Return what comes of the setting that does best on the splits to choose by."""
    choice, report = (
        (CHOICE_SPLITS[:1], REPORT_SPLITS[:2]) if smoke else (CHOICE_SPLITS, REPORT_SPLITS)
    )

    def mean_loss(setting: dict[str, Any]) -> float:
        return np.mean(
            [quality_of(setting, data, scaler, split, smoke).log_loss for split in choice]
        )

    best = min(candidates, key=mean_loss) if len(candidates) > 1 else candidates[0]
    return Outcome(
        best, np.array([quality_of(best, data, scaler, split, smoke) for split in report])
    )


Outcomes = dict[str, dict[str, Outcome]]  # by kind and data set


def outcomes(smoke: bool) -> Outcomes:
    found: Outcomes = {kind: {} for kind in KINDS}
    for name, (load, scaler) in DATA.items():
        X, y = load()
        data = (X[::5], y[::5]) if smoke else (X, y)
        for kind, candidates in KINDS.items():
            found[kind][name] = outcome_of(candidates, data, scaler, smoke)
    return found


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def loss_rows(found: Outcomes, smoke: bool) -> Iterable[list[str]]:
    for kind, by_data in found.items():
        row, n_lower = [kind], 0
        for name, outcome in by_data.items():
            losses = outcome.qualities[:, 0]
            row.append(f"{losses.mean():.4f}")
            if kind != NONE:
                change, error = mean_and_error(losses - found[NONE][name].qualities[:, 0])
                row[-1] += f" ({change:+.4f} ± {error:.4f})"
                n_lower += change + 2 * error < 0
        if kind in WITH_GOAL:
            yield [*row, "lower on 2", verdict(n_lower >= 2, smoke)]
        else:
            yield [*row, "-", "-"]


def accuracy_rows(found: Outcomes) -> Iterable[list[str]]:
    for kind, by_data in found.items():
        yield [
            kind,
            *(
                "{:.4f} ± {:.4f}".format(*mean_and_error(outcome.qualities[:, 1]))
                for outcome in by_data.values()
            ),
        ]


def setting_rows(found: Outcomes) -> Iterable[list[str]]:
    for kind, by_data in found.items():
        if kind != NONE:
            texts = [
                ", ".join(f"{name}={value!r}" for name, value in outcome.setting.items())
                for outcome in by_data.values()
            ]
            yield [kind, *texts]


def report(smoke: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = outcomes(smoke)
    print_table(
        "Log loss on rows held out, and its change from the plain network's (± standard error):",
        ["regularization", *DATA, "goal", "verdict"],
        loss_rows(found, smoke),
    )
    print_table("Accuracy on rows held out:", ["regularization", *DATA], accuracy_rows(found))
    print_table("Chosen on other splits:", ["regularization", *DATA], setting_rows(found))


if __name__ == "__main__":
    arguments = argument_parser(__doc__).parse_args()
    print_setting()
    report(arguments.smoke)
