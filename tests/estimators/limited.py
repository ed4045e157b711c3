"""Fits to tables in files, for `test_large_data.py`: in a process whose memory is limited, or not.

`python limited.py FOLDER mapped` limits its memory, writes tables that are larger than all memory
it may use, and fits to them as maps. `python limited.py FOLDER loaded` reads them into memory, with
no limit. Both leave what came of it in FOLDER, by the names of the cases.
"""

import re
import resource
import sys
import warnings
from pathlib import Path

import numpy as np

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from skbackprop.early_stopping import EarlyStopping

MIB = 1 << 20
N_FEATURES = 512
# Of each table, its bytes as a share of those that the process may use. The last one would be
# larger if it were converted as a whole.
SHARES = {"float32": 1.1, "float64": 1.1, "uint8": 0.15}


def fit_to_few_rows():
    """Fit each case once, so that libraries have what they set up at their first use.

    OpenBLAS waits for ever for buffers that it cannot have.
    """
    rows = np.random.default_rng(0).integers(0, 5, (600, N_FEATURES))
    tables = {dtype: rows.astype(dtype) for dtype in SHARES}
    for _, model, arguments, options in cases(tables):
        outcome(model.fit(*arguments, **options), *arguments)


def limit_memory():
    """Let the process use 96 MiB more than now, and return how much that is in all.

    It counts what is its own: pages of a file that is mapped to be read are the system's, which
    takes them back when it needs them.
    """
    status = Path("/proc/self/status").read_text()
    allowed = 1024 * int(re.search(r"VmData:\s*(\d+) kB", status)[1]) + 96 * MIB
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    return allowed


def write(path, dtype, n_bytes):
    n_rows = int(n_bytes / (N_FEATURES * np.dtype(dtype).itemsize))
    table = np.lib.format.open_memmap(path, "w+", dtype, (n_rows, N_FEATURES))
    block = np.random.default_rng(0).integers(0, 5, (1000, N_FEATURES)).astype(dtype)
    for start in range(0, n_rows, len(block)):
        rows = table[start : start + len(block)]
        # From one block to the next, the columns move on.
        rows[...] = np.roll(block, start // len(block), axis=1)[: len(rows)]


def cases(tables):
    """Yield the name of each case, an estimator, and the arguments of its `fit`."""
    X, doubles, small = tables["float32"], tables["float64"], tables["uint8"]
    labels, values = X[:, 0].astype(int), X[:, 1] + 10.0 * X[:, 2]
    settings = {"hidden_layer_sizes": (8,), "max_iter": 1, "batch_size": 500, "random_state": 0}
    stopping = {"early_stopping": True, "validation_fraction": 0.4, **settings}
    n_val = len(X) // 2
    watched = {"X_val": X[:n_val], "y_val": labels[:n_val]}
    scored = {**settings, "early_stopping": EarlyStopping(scoring="accuracy")}

    yield "float32", BackpropClassifier(**settings), (X, labels), {}
    yield "held out", BackpropClassifier(**stopping), (X, labels), {}
    yield "X_val, scored", BackpropClassifier(**scored), (X, labels), watched
    yield "regressor", BackpropRegressor(scale_target=True, **stopping), (X, values), {}
    yield "autoencoder", BackpropAutoencoder(4, **stopping), (X,), {}
    as_single = BackpropClassifier(dtype="float32", **settings)
    yield "float64 to float32", as_single, (doubles, doubles[:, 0]), {}
    by_columns = small.reshape(small.shape[::-1]).T
    yield "uint8 by columns", BackpropClassifier(**settings), (by_columns, small[:, 0]), {}
    members = BackpropClassifier(n_estimators=2, **settings)
    yield "uint8, members", members, (small, small[:, 0]), {}
    lbfgs = BackpropClassifier(**{**settings, "solver": "lbfgs", "max_iter": 2})
    yield "uint8, lbfgs", lbfgs, (small, small[:, 0]), {}


def outcome(model, X, y=None):
    """Return all numbers that training has led to, and what they say of X."""
    said = model.score_samples(X) if y is None else model.predict(X)
    parameters = [np.ravel(array) for array in (*model.coefs_, *model.intercepts_)]
    curves = np.ravel(model.loss_curve_), np.ravel(model.validation_loss_curve_ or 0.0)
    first = slice(len(X) // 2)
    score = model.score(X[first], None if y is None else y[first])
    return np.concatenate([*parameters, *curves, said, [score]])


def main(folder, is_mapped):
    if is_mapped:
        fit_to_few_rows()
        allowed = limit_memory()
        for dtype, share in SHARES.items():
            write(folder / f"{dtype}.npy", dtype, share * allowed)
    mode = "r" if is_mapped else None
    tables = {dtype: np.load(folder / f"{dtype}.npy", mmap_mode=mode) for dtype in SHARES}
    found = {}
    if is_mapped:
        for dtype in ("float32", "float64"):
            assert tables[dtype].nbytes > allowed
            try:
                np.array(tables[dtype])
            except MemoryError:
                found[f"no copy of {dtype}"] = True
    for name, model, arguments, options in cases(tables):
        found[name] = outcome(model.fit(*arguments, **options), *arguments)
    np.savez(folder / ("mapped" if is_mapped else "loaded"), **found)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # that one epoch does not converge
    main(Path(sys.argv[1]), sys.argv[2] == "mapped")
