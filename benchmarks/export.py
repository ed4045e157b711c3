"""Exported models: their sizes, and the time that one row takes, in onnxruntime and in C.

The C programs are compiled by gcc or cc with -O2, and timed inside of a C program; onnxruntime has
one thread, and its time has the call from Python in it, as that of `predict_proba` has. All times
are those of the processor. What is not installed is left out.
"""

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._report import MISSING, argument_parser, as_time, print_setting, print_table
from skbackprop import BackpropClassifier
from skbackprop.export import to_c, to_onnx
from skbackprop.layers import GRU, Conv2D

CC = shutil.which("gcc") or shutil.which("cc")
# The rounds of each time, of which the best counts.
N_ROUNDS = 25

MAIN = """
#include <stdio.h>
#include <time.h>
int main(void)
{
    static float x[MODEL_N_FEATURES], probabilities[4096];
    double best = 1e9;
    for (size_t i = 0; i < MODEL_N_FEATURES; ++i) x[i] = (float)(i %% 7) - 3.0f;
    for (int round = 0; round < %d; ++round) {
        const clock_t start = clock();
        for (int i = 0; i < %d; ++i) x[0] += 1e-6f * model_predict(x, probabilities);
        const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC / %d;
        if (seconds < best) best = seconds;
    }
    printf("%%.9g", best);
    return 0;
}
"""


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


def times_in_python(model: Any, X: np.ndarray, smoke: bool) -> list[str]:
    """Return the time of `predict_proba` of one row, and that of onnxruntime."""
    row = X[:1].astype(np.float32)
    times = [best_time(lambda: model.predict_proba(row), smoke)]
    if not (importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx")):
        return [*times, MISSING]
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    session = InferenceSession(to_onnx(model).SerializeToString(), options)
    return [*times, best_time(lambda: session.run(None, {"X": row}), smoke)]


def best_time(call: Callable[[], object], smoke: bool) -> str:
    """Return the processor's time of a call: the best mean of several rounds."""
    n_rounds, n_calls = (1, 1) if smoke else (N_ROUNDS, 100)
    best = np.inf
    for _ in range(n_rounds):
        start = time.process_time()
        for _ in range(n_calls):
            call()
        best = min(best, (time.process_time() - start) / n_calls)
    return as_time(best)


def size_and_time(source: str, smoke: bool) -> tuple[str, str]:
    """Return the size of a compiled program without its main function, and the time of a row."""
    if CC is None:
        return MISSING, MISSING
    n_rounds, n_calls = (1, 1) if smoke else (N_ROUNDS, 1000)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.c").write_text(source)
        (folder / "main.c").write_text('#include "model.c"\n' + MAIN % (n_rounds, n_calls, n_calls))
        for arguments in (["-c", "model.c"], ["main.c", "-o", "main", "-lm"]):
            subprocess.run([CC, "-std=c99", "-O2", *arguments], cwd=folder, check=True)
        run = subprocess.run([folder / "main"], check=True, capture_output=True, text=True)
        return as_size((folder / "model.o").stat().st_size), as_time(float(run.stdout))


def as_size(n_bytes: int) -> str:
    return f"{n_bytes / 1024:.1f} KiB" if n_bytes < 1 << 20 else f"{n_bytes / (1 << 20):.2f} MiB"


def report(smoke: bool) -> None:
    sizes, times = [], []
    for name, model, X in models(smoke):
        whole, small = to_c(model), to_c(model, weight_dtype="int8", calibration_data=X[::4])
        onnx_size = MISSING
        if importlib.util.find_spec("onnx"):
            onnx_size = as_size(len(to_onnx(model).SerializeToString()))
        (size, seconds), (small_size, small_seconds) = (
            size_and_time(program.source, smoke) for program in (whole, small)
        )
        buffers, changed = whole.n_buffer_bytes, small.differences["label"]
        sizes.append([name, onnx_size, size, small_size, as_size(buffers), f"{changed:.2%}"])
        times.append([name, *times_in_python(model, X, smoke), seconds, small_seconds])
    head = ["network", "ONNX", "C, float32", "C, int8", "buffers in C", "labels changed by int8"]
    print_table("Sizes of exported models, those in C compiled:", head, sizes)
    head = ["network", "predict_proba", "onnxruntime", "C, float32", "C, int8"]
    print_table("Time of one row:", head, times)


if __name__ == "__main__":
    arguments = argument_parser(__doc__).parse_args()
    print_setting()
    report(arguments.smoke)
