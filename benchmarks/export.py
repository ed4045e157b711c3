"""Exported models: their sizes, and the time that one row takes, in onnxruntime.

onnxruntime has one thread, and its time has the call from Python in it, as that of `predict_proba`
has. All times are those of the processor. Weights of 8 bits are those of its `quantize_dynamic`.
Tabular estimators read raw tables, those of `benchmarks.tabular` or, with ``--tables``, of a Python
file. They train for five epochs on at most 1,500 rows, with all other settings at their defaults.
The difference is the largest one from `predict_proba`, or from `predict` in standard deviations of
y, over 400 other rows, five of which have unseen levels and five missing values in all columns of
categories.
Without onnx or onnxruntime, nothing is measured.
"""

import importlib.util
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._report import argument_parser, as_time, print_setting, print_table
from benchmarks._tables import CLASSES, Loader, find_tables
from skbackprop import BackpropClassifier, TabularClassifier, TabularRegressor
from skbackprop.export import to_onnx
from skbackprop.layers import GRU, Conv2D

# The rounds of each time, of which the best counts.
N_ROUNDS = 25
N_TABLE_ROWS, N_NEW_ROWS, SMALL = 1500, 400, 1e-5


def models(smoke: bool) -> Iterator[tuple[str, Any, np.ndarray]]:
    """Yield networks of several sizes, trained for as long as it takes to use their units."""
    X, y = load_digits(return_X_y=True)
    settings = {"max_iter": 1 if smoke else 30, "n_iter_no_change": np.inf, "dtype": "float32"}
    settings |= {"random_state": 0}
    small = BackpropClassifier((32,), **settings)
    yield "digits, scaled: 64-32-10", make_pipeline(StandardScaler(), small).fit(X, y), X
    network = BackpropClassifier((128, 128), **settings)
    yield "digits: 64-128-128-10", network.fit(X, y), X
    ensemble = BackpropClassifier((32,), n_estimators=8, **settings)
    yield "digits: 8 members of 64-32-10", ensemble.fit(X, y), X
    convolutions = [Conv2D(16, 3, activation="relu"), Conv2D(32, 3, activation="relu")]
    images = BackpropClassifier((64,), layers=convolutions, input_shape=(8, 8), **settings)
    yield "digits: Conv 16 - Conv 32 - 64-10", images.fit(X, y), X
    if smoke:
        return
    X = np.random.default_rng(0).random((500, 64 * 8), dtype=np.float32)
    settings |= {"max_iter": 2}
    recurrent = BackpropClassifier((), layers=GRU(64), input_shape=(64, 8), **settings)
    yield "64 steps of 8: GRU 64 - 10", recurrent.fit(X, np.arange(500) % 10), X
    X = np.random.default_rng(0).random((500, 784), dtype=np.float32)
    large = BackpropClassifier((512, 512), **settings)
    yield "784-512-512-10", large.fit(X, np.arange(500) % 10), X


def best_time(call: Callable[[], object], smoke: bool, n_calls: int = 100) -> str:
    """Return the processor's time of a call: the best mean of several rounds."""
    n_rounds, n_calls = (1, 1) if smoke else (N_ROUNDS, n_calls)
    best = np.inf
    for _ in range(n_rounds):
        start = time.process_time()
        for _ in range(n_calls):
            call()
        best = min(best, (time.process_time() - start) / n_calls)
    return as_time(best)


def as_size(n_bytes: int) -> str:
    return f"{n_bytes / 1024:.1f} KiB" if n_bytes < 1 << 20 else f"{n_bytes / (1 << 20):.2f} MiB"


def feed(session: Any, X: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the inputs of a model for a table: a column each, or one array of numbers."""
    inputs = session.get_inputs()
    if len(inputs) == 1:
        return {inputs[0].name: X.to_numpy(float)}
    return {
        column.name: X[[column.name]].fillna("").to_numpy(object)
        if "string" in column.type
        else X[[column.name]].to_numpy(float)
        for column in inputs
    }


def table_rows(tables: dict[str, Loader], options: Any, smoke: bool) -> Iterator[list[str]]:
    """Yield the time of one row of each table, and the difference of its ONNX model."""
    from onnxruntime import InferenceSession

    for name, load in tables.items():
        X, y, task = load()
        order = np.random.default_rng(0).permutation(len(X))
        n_rows = 100 if smoke else min(N_TABLE_ROWS, len(X) * 3 // 4)
        X, y = X.iloc[order[: n_rows + N_NEW_ROWS]], y[order[:n_rows]]
        X, X_new = X[:n_rows], X[n_rows:].copy()
        for column in X.select_dtypes("category"):
            X_new[column] = X_new[column].astype(object)
            X_new.loc[X_new.index[:5], column] = "never seen"
            X_new.loc[X_new.index[5:10], column] = np.nan
        estimator = TabularClassifier if task == CLASSES else TabularRegressor
        model = estimator(max_iter=2 if smoke else 5, random_state=0).fit(X, y)
        predict = model.predict_proba if task == CLASSES else model.predict
        content = to_onnx(model).SerializeToString()
        session = InferenceSession(content, options)
        own = predict(X_new).reshape(len(X_new), -1)
        differences = np.abs(session.run(None, feed(session, X_new))[-1] - own).max(axis=1)
        differences /= 1 if task == CLASSES else y.std()
        row, inputs = X_new[-1:], feed(session, X_new[-1:])
        cells = [
            best_time(lambda call=predict, row=row: call(row), smoke, n_calls=10),
            best_time(lambda run=session.run, row=inputs: run(None, row), smoke, n_calls=10),
            as_size(len(content)),
            f"{differences.max():.0e}",
            f"{(differences > SMALL).sum()} of {len(X_new)}",
        ]
        yield [f"{name}: {len(X)} x {X.shape[1]}", *cells]


def report(smoke: bool, path: str | None = None) -> None:
    if not (importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime")):
        print("Exported models are left out: onnx and onnxruntime are not installed.")
        return
    from onnxruntime import InferenceSession, SessionOptions
    from onnxruntime.quantization import quantize_dynamic

    logging.disable(logging.WARNING)  # of a model that is not optimized before it is quantized
    options = SessionOptions()
    options.intra_op_num_threads = 1
    sizes, times = [], []
    for name, model, X in models(smoke):
        row, onnx_model = X[:1].astype(np.float32), to_onnx(model)
        with TemporaryDirectory() as folder:
            small = Path(folder) / "small.onnx"
            quantize_dynamic(onnx_model, small)
            files = [onnx_model.SerializeToString(), small.read_bytes()]
        sessions = [InferenceSession(content, options) for content in files]
        labels = sessions[1].run(["label"], {"X": X.astype(np.float32)})[0]
        changed = f"{np.mean(labels != model.predict(X)):.2%}"
        sizes.append([name, *(as_size(len(content)) for content in files), changed])
        in_python = best_time(lambda own=model, row=row: own.predict_proba(row), smoke)
        in_onnx = [
            best_time(lambda run=session.run, row=row: run(None, {"X": row}), smoke)
            for session in sessions
        ]
        times.append([name, in_python, *in_onnx])
    head = ["network", "ONNX", "8 bits", "labels changed by 8 bits"]
    print_table("Sizes of exported models:", head, sizes)
    head = ["network", "predict_proba", "onnxruntime", "onnxruntime, 8 bits"]
    print_table("Time of one row:", head, times)
    head = ["table: training rows x columns", "predict", "onnxruntime", "ONNX", "difference"]
    head.append(f"rows above {SMALL:.0e}")
    title = "Whole tables: time of one row, size and largest difference of the ONNX model:"
    print_table(title, head, table_rows(find_tables(path, smoke), options, smoke))


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--tables", help="a Python file that defines names() and load(name)")
    arguments = parser.parse_args()
    print_setting()
    report(arguments.smoke, arguments.tables)
