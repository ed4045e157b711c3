"""Intervals that are to hold nine targets in ten: how many they hold, and how wide they are.

Of each data set a quarter of the rows is held out, at random and anew in each repetition, and each
kind of intervals is made of the others. Those of the networks themselves (quantiles; a normal
distribution; the members of an ensemble and how much they disagree) have all of these rows to
train on; `ConformalRegressor` sets a quarter of them aside to measure the network on. The networks
have one hidden layer and stop early. MAPIE, where it is installed, has the same split; for
quantiles it takes three networks, one for each level. Two of the data sets come with statsmodels,
and are left out where there is none.

Tabular regressors have raw tables, those of `benchmarks.tabular` or, with ``--tables``, of a Python
file, and at most 10,000 rows to train on. Their intervals are CV+, and take no rows away.

The width is a share of the standard deviation of all targets. The interval score is the width and,
of targets outside, 2 / (1 - coverage) times how far outside they are (Gneiting & Raftery 2007,
section 6.2): the lower the better.

Sets of labels are for 300 made-up data sets of two, five and ten classes, with 100 training rows
for each class and 500 new rows; the most frequent class is twice as frequent as the rarest one. The
networks are trained by L-BFGS. "Probabilities" are sets of the most probable labels of one network,
whose probabilities sum to the coverage.
"""

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._report import argument_parser, print_setting, print_table, verdict
from benchmarks._tables import NUMBERS, LabeledTable, Loader, find_tables
from skbackprop import (
    BackpropClassifier,
    BackpropRegressor,
    ConformalClassifier,
    ConformalRegressor,
    TabularClassifier,
    TabularRegressor,
)
from skbackprop.losses import Gaussian, Quantile

COVERAGE = 0.9
TOLERANCE = 0.02  # of the mean coverage of conformal intervals
N_MEMBERS = 8
N_VISITS = 4000
SETTINGS = {
    "hidden_layer_sizes": (32,),
    "scale_target": True,
    "early_stopping": True,
    "learning_rate_init": 0.01,
    "alpha": 0.01,
    "max_iter": 300,
}
LEVELS = [(1 - COVERAGE) / 2, 0.5, (1 + COVERAGE) / 2]
LOSSES = {"mean": "squared_error", "quantiles": Quantile(LEVELS), "gaussian": Gaussian(1e-4)}


def food() -> tuple[np.ndarray, np.ndarray]:
    """Return income and what is spent on food, of 235 Belgian households (Engel 1857)."""
    from statsmodels.datasets import engel

    table = engel.load_pandas().data
    return table[["income"]].to_numpy(), table["foodexp"].to_numpy()


def visits() -> tuple[np.ndarray, np.ndarray]:
    """Return the health of persons, and how often they saw a doctor in a year."""
    from statsmodels.datasets import randhie

    table = randhie.load_pandas().data.sample(N_VISITS, random_state=0).astype(float)
    return table.drop(columns="mdvis").to_numpy(), table["mdvis"].to_numpy()


class Data(NamedTuple):
    """Where rows come from, and how many repetitions keep the mean coverage to half a point."""

    load: Callable
    n_splits: int


DATA = {"diabetes": Data(lambda: load_diabetes(return_X_y=True), 60)}
if find_spec("statsmodels"):
    DATA |= {"food": Data(food, 100), "visits to a doctor": Data(visits, 20)}


# -------------------------------------------------------------------------- the intervals


def network(loss: str, n_estimators: int, seed: int, smoke: bool) -> Any:
    settings = SETTINGS | ({"max_iter": 2} if smoke else {})
    own = BackpropRegressor(
        **settings, loss=LOSSES[loss], n_estimators=n_estimators, random_state=seed
    )
    return make_pipeline(StandardScaler(), own)


def by_itself(model: Any, train: tuple, X: np.ndarray, seed: int) -> np.ndarray:
    """Return the intervals that a network predicts: outer quantiles, or those of a normal."""
    predicted = model.fit(*train).predict(X)
    if predicted.ndim > 1:
        return predicted[:, [0, -1]]
    mean, std = model.predict(X, return_std=True)
    return mean[:, None] + std[:, None] * ndtri([LEVELS[0], LEVELS[-1]])


def conformal(
    model: Any, train: tuple, X: np.ndarray, seed: int, score: str = "auto"
) -> np.ndarray:
    intervals = ConformalRegressor(
        model, coverage=COVERAGE, conformity_score=score, random_state=seed
    )
    return intervals.fit(*train).predict_interval(X)


def by_disagreement(model: Any, train: tuple, X: np.ndarray, seed: int) -> np.ndarray:
    return conformal(model, train, X, seed, score="scaled")


def by_mapie(model: Any, train: tuple, X: np.ndarray, seed: int) -> np.ndarray:
    from mapie.regression import ConformalizedQuantileRegressor, SplitConformalRegressor

    X_train, X_held_out, y_train, y_held_out = train_test_split(
        *train, test_size=0.25, random_state=seed
    )
    if isinstance(model[-1].loss, Quantile):
        low, middle, high = (clone(model) for _ in LEVELS)
        for own, level in zip((low, middle, high), LEVELS, strict=True):
            own.set_params(backpropregressor__loss=Quantile(level)).fit(X_train, y_train)
        mapie = ConformalizedQuantileRegressor([low, high, middle], COVERAGE, prefit=True)
        options = {"symmetric_correction": True}
    else:
        mapie = SplitConformalRegressor(model.fit(X_train, y_train), COVERAGE, prefit=True)
        options = {}
    mapie.conformalize(X_held_out, y_held_out)
    return mapie.predict_interval(X, **options)[1][:, :, 0]


class Kind(NamedTuple):
    """One row of a table: how intervals are made, and of what."""

    name: str
    intervals: Callable
    loss: str
    n_estimators: int = 1

    @property
    def is_guaranteed(self) -> bool:
        return self.intervals is not by_itself


KINDS = [
    Kind("quantiles", by_itself, "quantiles"),
    Kind("Gaussian", by_itself, "gaussian"),
    Kind(f"spread of {N_MEMBERS} means", by_itself, "mean", N_MEMBERS),
    Kind(f"{N_MEMBERS} Gaussians", by_itself, "gaussian", N_MEMBERS),
    Kind("conformal mean", conformal, "mean"),
    Kind("conformal quantiles", conformal, "quantiles"),
    Kind("conformal Gaussian", conformal, "gaussian"),
    Kind(f"conformal mean of {N_MEMBERS}", conformal, "mean", N_MEMBERS),
    Kind(f"conformal mean of {N_MEMBERS}, by their spread", by_disagreement, "mean", N_MEMBERS),
    Kind(f"conformal quantiles of {N_MEMBERS}", conformal, "quantiles", N_MEMBERS),
    Kind(f"conformal Gaussian of {N_MEMBERS}", conformal, "gaussian", N_MEMBERS),
]
if find_spec("mapie"):
    KINDS += [
        Kind("MAPIE, mean", by_mapie, "mean"),
        Kind("MAPIE, quantiles of three networks", by_mapie, "quantiles"),
    ]


# --------------------------------------------------------------------------- what they are


class Quality(NamedTuple):
    """What intervals are on rows held out."""

    coverage: float
    width: float
    score: float


def quality_of(intervals: np.ndarray, y: np.ndarray, unit: float) -> Quality:
    low, high = intervals.T
    outside = np.maximum(low - y, 0) + np.maximum(y - high, 0)
    width = high - low
    score = width + 2 / (1 - COVERAGE) * outside
    return Quality((outside == 0).mean(), width.mean() / unit, score.mean() / unit)


def qualities_of(
    kind: Kind, X: np.ndarray, y: np.ndarray, n_splits: int, smoke: bool
) -> np.ndarray:
    """Return the quality in each repetition, of shape (n_splits, 3)."""
    found = []
    for seed in range(n_splits):
        X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=seed)
        model = network(kind.loss, kind.n_estimators, seed, smoke)
        intervals = kind.intervals(model, (X_train, y_train), X_test, seed)
        found.append(quality_of(intervals, y_test, y.std()))
    return np.array(found)


def row_of(name: str, qualities: np.ndarray, smoke: bool, is_guaranteed: bool = True) -> list[str]:
    mean, spread = qualities.mean(axis=0), qualities[:, 0].std()
    row = [name, f"{mean[0]:.3f}", f"{spread:.3f}"]
    row += [f"{value:.2f}" for value in mean[1:]]
    if not is_guaranteed:
        return [*row, "-", "-"]
    is_reached = abs(mean[0] - COVERAGE) <= TOLERANCE
    return [*row, f"{COVERAGE} +- {TOLERANCE}", verdict(is_reached, smoke)]


def rows(smoke: bool) -> Iterable[list[str]]:
    for name, data in DATA.items():
        X, y = data.load()
        if smoke:
            X, y = X[:100], y[:100]
        for kind in KINDS:
            with warnings.catch_warnings():
                # Early stopping may need all epochs, and smoke has but two: neither is news here.
                warnings.simplefilter("ignore", ConvergenceWarning)
                qualities = qualities_of(kind, X, y, 1 if smoke else data.n_splits, smoke)
            yield row_of(f"{name}: {kind.name}", qualities, smoke, kind.is_guaranteed)


# --------------------------------------------------------------------------- raw tables

TABULAR = {"mean": "squared_error", "quantiles": Quantile(LEVELS), "Gaussian": Gaussian(1e-4)}
FEW_ROWS, N_SPLITS, N_SPLITS_OF_FEW = 2000, 2, 10
MOST_ROWS = 13_333  # of which a quarter is held out


def tabular_qualities(table: LabeledTable, loss: Any, n_splits: int, smoke: bool) -> np.ndarray:
    """Return the quality of a tabular regressor's intervals on each split, (n_splits, 3)."""
    most, found = 200 if smoke else MOST_ROWS, []
    for seed in range(n_splits):
        rows = np.random.default_rng(seed).permutation(len(table.X))[:most]
        X_train, X_test, y_train, y_test = train_test_split(
            table.X.iloc[rows], table.y[rows], test_size=0.25, random_state=seed
        )
        model = TabularRegressor(loss=loss, random_state=seed, max_iter=2 if smoke else None)
        intervals = model.fit(X_train, y_train).predict_interval(X_test, COVERAGE)
        found.append(quality_of(intervals, y_test, table.y.std()))
    return np.array(found)


def tabular_rows(tables: dict[str, Loader], smoke: bool) -> Iterable[list[str]]:
    for name, load in tables.items():
        table = load()
        if table.task != NUMBERS:
            continue
        n_splits = N_SPLITS_OF_FEW if len(table.X) < FEW_ROWS else N_SPLITS
        for kind, loss in TABULAR.items():
            qualities = tabular_qualities(table, loss, 1 if smoke else n_splits, smoke)
            yield row_of(f"{name} ({len(table.X)}): {kind}", qualities, smoke)


# --------------------------------------------------------------------------- sets of labels

N_CLASSES, N_TRIALS, N_TABULAR_TRIALS, N_NEW_ROWS = (2, 5, 10), 100, 10, 500


def overlapping_classes(n_classes: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points around centers on a circle, and their classes, the rarest first."""
    rng = np.random.RandomState(seed)
    shares = np.linspace(1, 2, n_classes)
    y = rng.choice(n_classes, n, p=shares / shares.sum())
    angles = 2 * np.pi * y / n_classes
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) + rng.randn(n, 2), y


def labels_by_probability(model: Any, train: tuple, X: np.ndarray) -> np.ndarray:
    """Return the sets of most probable labels whose probabilities sum to the coverage."""
    probabilities = model.fit(*train).predict_proba(X)
    more_probable = probabilities[:, None, :] > probabilities[:, :, None]
    return (more_probable * probabilities[:, None, :]).sum(axis=2) < COVERAGE


def conformal_labels(model: Any, train: tuple, X: np.ndarray, **settings: Any) -> np.ndarray:
    return ConformalClassifier(model, coverage=COVERAGE, **settings).fit(*train).predict_set(X)


def mapie_labels(model: Any, train: tuple, X: np.ndarray, score: str, how: str) -> np.ndarray:
    from mapie.classification import CrossConformalClassifier

    mapie = CrossConformalClassifier(
        model, COVERAGE, conformity_score=score, cv=StratifiedKFold(5), random_state=0
    )
    return mapie.fit_conformalize(*train).predict_set(X, agg_scores=how)[1][:, :, 0]


def tabular_labels(model: Any, train: tuple, X: np.ndarray) -> np.ndarray:
    table = TabularClassifier(4, max_iter=model.max_iter, random_state=0)
    return table.fit(*train).predict_set(X, coverage=COVERAGE)


LABEL_SETS: dict[str, Callable] = {
    "probabilities": labels_by_probability,
    "lac": conformal_labels,
    "aps": partial(conformal_labels, conformity_score="aps"),
    "lac, by class": partial(conformal_labels, by_class=True),
    "aps, by class": partial(conformal_labels, conformity_score="aps", by_class=True),
    "TabularClassifier": tabular_labels,
}
if find_spec("mapie"):
    LABEL_SETS |= {
        "MAPIE, lac": partial(mapie_labels, score="lac", how="crossval"),
        "MAPIE, aps": partial(mapie_labels, score="aps", how="mean"),
    }


def rows_of_label_sets(smoke: bool) -> Iterable[list[str]]:
    """Yield the mean coverage of sets, its spread, that of the rarest class, and their sizes."""
    model = BackpropClassifier(
        (16,), solver="lbfgs", alpha=1.0, max_iter=2 if smoke else 30, random_state=0
    )
    for n_classes, (name, find_sets) in product(N_CLASSES, LABEL_SETS.items()):
        if n_classes == 2 and name == "MAPIE, aps":  # it has "lac" alone for two classes
            continue
        n_train, found = 100 * n_classes, []
        n_trials = N_TABULAR_TRIALS if name == "TabularClassifier" else N_TRIALS
        for seed in range(1 if smoke else n_trials):
            X, y = overlapping_classes(n_classes, n_train + N_NEW_ROWS, seed)
            X_new, y_new = X[n_train:], y[n_train:]
            with warnings.catch_warnings():
                # The number of iterations is the setting; MAPIE warns of empty sets.
                warnings.simplefilter("ignore")
                sets = find_sets(model, (X[:n_train], y[:n_train]), X_new)
            covers, sizes = sets[np.arange(N_NEW_ROWS), y_new], sets.sum(axis=1)
            found.append(
                [covers.mean(), covers[y_new == 0].mean(), sizes.mean(), (sizes == 0).mean()]
            )
        (coverage, rarest, size, empty), spread = np.mean(found, axis=0), np.std(found, axis=0)[0]
        cells = [f"{coverage:.3f}", f"{spread:.3f}", f"{rarest:.3f}", f"{size:.2f}", f"{empty:.1%}"]
        if name.startswith(("probabilities", "MAPIE")):  # which have no goal
            yield [f"{n_classes} classes: {name}", *cells, "-"]
        else:
            is_reached = abs(coverage - COVERAGE) <= TOLERANCE
            yield [f"{n_classes} classes: {name}", *cells, verdict(is_reached, smoke)]


def report_label_sets(smoke: bool) -> None:
    print_table(
        f"Sets of labels for a coverage of {COVERAGE}: their coverage, its standard deviation from "
        "data set to data set, the coverage of the rarest class, labels in a set, and empty sets:",
        ["data: sets", "coverage", "+-", "rarest", "labels", "empty", "verdict"],
        rows_of_label_sets(smoke),
    )


HEAD = ["data: intervals", "coverage", "+-", "width", "score", "goal", "verdict"]


def report_tabular(smoke: bool, path: str | None = None) -> None:
    tables = find_tables(path, smoke)
    print_table(
        f"Intervals of tabular regressors for a coverage of {COVERAGE}, on rows held out:",
        HEAD,
        tabular_rows(tables, smoke),
    )


def report(smoke: bool, path: str | None = None) -> None:
    print_table(
        f"Intervals for a coverage of {COVERAGE}, on rows held out: mean coverage, its standard "
        "deviation from split to split, mean width and interval score:",
        HEAD,
        rows(smoke),
    )
    report_tabular(smoke, path)
    report_label_sets(smoke)


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--tables", help="a Python file that defines names() and load(name)")
    parser.add_argument("--tabular", action="store_true", help="tabular regressors alone")
    parser.add_argument("--labels", action="store_true", help="sets of labels alone")
    arguments = parser.parse_args()
    print_setting()
    if arguments.labels:
        report_label_sets(arguments.smoke)
    elif arguments.tabular:
        report_tabular(arguments.smoke, arguments.tables)
    else:
        report(arguments.smoke, arguments.tables)
