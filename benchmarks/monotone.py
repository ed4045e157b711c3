"""Predictions that are monotone in some columns: what constraints cost, and what they are worth.

Curves have two monotone columns of five, or five of five, and their noise has a third of their
standard deviation; the error is the distance from the curve. The directions in real tables are
plain: larger houses cost more, and driven cars less. Networks and boosting of the default blend are
monotone; beside them stands scikit-learn's gradient boosting with the same constraints.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.model_selection import train_test_split

from benchmarks._report import argument_parser, print_setting, print_table
from benchmarks._tables import NUMBERS, find_tables
from skbackprop import TabularClassifier, TabularRegressor

N_SPLITS, MOST_ROWS, N_NEW = 5, 2000, 4000
CURVES = ((400, 2), (1500, 2), (1500, 5))
DIRECTIONS: dict[str, dict[str, int]] = {
    "house prices": {"lotsize": 1, "bedrooms": 1, "bathrooms": 1, "stories": 1},
    "car prices": {"Mileage": -1},
    "Sacramento": {"sqft": 1},
    "wages of 1988": {"education": 1},
    "credit cards": {"reports": -1, "income": 1},
}


def draw_curve(n_rows: int, n_monotone: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return noisy training rows and new rows without noise, of a curve in five columns."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows + N_NEW, 5))
    curve = 1.5 * np.tanh(1.5 * X[:, 0]) + np.logaddexp(0, 2 * X[:, 1])
    if n_monotone == 2:
        curve += np.sin(2 * X[:, 2]) + X[:, 3] * X[:, 4] / 2
    else:
        curve += np.exp(X[:, 2] / 2) + np.maximum(X[:, 3], 0) + np.floor(X[:, 4]) / 2
    y = curve + rng.normal(0, curve.std() / 3, len(X))
    return X[:n_rows], X[n_rows:], y[:n_rows], curve[n_rows:]


def errors_of_models(
    task: str, data: tuple[Any, ...], constraints: Any, smoke: bool
) -> list[float]:
    """Return the errors without constraints, with them, and of boosting alone with them."""
    X, X_new, y, y_new = data
    ours, boosting = TabularClassifier, HistGradientBoostingClassifier
    if task == NUMBERS:
        ours, boosting = TabularRegressor, HistGradientBoostingRegressor
    options = {"random_state": 0, "max_iter": 2 if smoke else None}
    models = [
        ours(**options),
        ours(monotonic_cst=constraints, **options),
        boosting(monotonic_cst=constraints, random_state=0),
    ]
    errors = []
    for model in models:
        model.fit(X, y)
        if task == NUMBERS:
            errors.append(root_mean_squared_error(y_new, model.predict(X_new)) / np.std(y_new))
        else:
            errors.append(log_loss(y_new, model.predict_proba(X_new)))
    return errors


def rows(smoke: bool) -> Iterable[list[str]]:
    seeds = range(1 if smoke else N_SPLITS)
    for n_rows, n_monotone in CURVES[: 1 if smoke else None]:
        constraints = [1] * n_monotone + [0] * (5 - n_monotone)
        curves = [draw_curve(n_rows, n_monotone, seed) for seed in seeds]
        found = [errors_of_models(NUMBERS, curve, constraints, smoke) for curve in curves]
        yield as_row(f"curve, {n_rows} rows, {n_monotone} of 5 columns", found)
    loaders = find_tables(None, smoke)
    for name in filter(loaders.__contains__, DIRECTIONS):
        X, y, task = loaders[name]()
        found = []
        for seed in seeds:
            size = min(MOST_ROWS, len(X) * 3 // 4)
            data = train_test_split(X, y, train_size=size, random_state=seed)
            found.append(errors_of_models(task, data, DIRECTIONS[name], smoke))
        yield as_row(name, found)


def as_row(name: str, found: list[list[float]]) -> list[str]:
    """Return the mean errors, and the ratio of the two with constraints with its standard error."""
    logs = np.log([with_networks / boosting for _, with_networks, boosting in found])
    ratio, spread = np.exp(logs.mean()), logs.std() / len(logs) ** 0.5
    return [
        name,
        *(f"{mean:.3f}" for mean in np.mean(found, axis=0)),
        f"{ratio:.2f} +- {spread:.2f}",
    ]


def report(smoke: bool) -> None:
    print_table(
        "RMSE / sd, or log loss, with monotone columns:",
        ["data", "no constraints", "constraints", "boosting with them", "ratio of the last two"],
        rows(smoke),
    )


if __name__ == "__main__":
    arguments = argument_parser(__doc__).parse_args()
    print_setting()
    report(arguments.smoke)
