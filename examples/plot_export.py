"""
Export to a small device: ONNX, and C with 8 bits
=================================================

A fitted pipeline of a scaler and a network is exported as an ONNX model, which onnxruntime
computes, and as a C program, which needs neither libraries nor allocated memory. With 8-bit
weights, the program is a quarter of the size.

The left plot shows the accuracy on held-out digits against the size of the constants on the device,
for networks of several widths. At equal size, a wider network with 8 bits per weight is better than
a narrower one with 32. The right plot shows the time of a prediction for one row. In Python it is
mostly the overhead of the calls.
"""

import ctypes
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from onnxruntime import InferenceSession
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier
from skbackprop.export import to_c, to_onnx

WIDTHS = [4, 6, 8, 12, 16, 32, 64]
COMPILER = shutil.which("gcc") or shutil.which("cc")
FLOATS = ctypes.POINTER(ctypes.c_float)


def compiled(program, folder):
    """Return the function of a C program, as Python calls it."""
    name = f"program{len(list(folder.iterdir()))}"
    source, library = folder / f"{name}.c", folder / f"{name}.so"
    source.write_text(program.source)
    options = ["-std=c99", "-O2", "-shared", "-fPIC"]
    subprocess.run([COMPILER, *options, source, "-o", library, "-lm"], check=True)
    return ctypes.CDLL(str(library)).model_predict


def accuracy_of(predict, X, y):
    """Return the share of rows whose class a C function tells: digits are their own numbers."""
    rows = [row.ctypes.data_as(FLOATS) for row in X]
    return np.mean([predict(row, None) == label for row, label in zip(rows, y, strict=True)])


def seconds(call, n=200):
    """Return the time of a call, the best of five rounds."""
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(n):
            call()
        best = min(best, (time.perf_counter() - start) / n)
    return best


X, y = load_digits(return_X_y=True)
X = X.astype("float32")
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
row, found, functions = X_test[:1], {"float32": [], "int8": []}, {}
with TemporaryDirectory() as name:
    for width in WIDTHS:
        network = BackpropClassifier((width,), max_iter=60, n_iter_no_change=np.inf, random_state=0)
        model = make_pipeline(StandardScaler(), network).fit(X_train, y_train)
        session = InferenceSession(to_onnx(model).SerializeToString())
        label, probabilities = session.run(None, {"X": X_test})
        difference = np.abs(probabilities - model.predict_proba(X_test)).max()
        print(f"{width} units: accuracy {np.mean(label == y_test):.3f}")
        print(f"  onnxruntime's probabilities are within {difference:.0e}")
        for weight_dtype, data in (("float32", None), ("int8", X_train)):
            program = to_c(model, weight_dtype=weight_dtype, calibration_data=data)
            if COMPILER is None:
                accuracy = np.mean(label == y_test)
                print("  There is no C compiler: the accuracy is that of onnxruntime.")
            else:
                functions[weight_dtype] = compiled(program, Path(name))
                accuracy = accuracy_of(functions[weight_dtype], X_test, y_test)
            found[weight_dtype].append((program.n_data_bytes / 1024, accuracy))
            print(f"  C, {weight_dtype}: {program.n_data_bytes} bytes, accuracy {accuracy:.3f}")

pointer = row.ctypes.data_as(FLOATS)
times = {
    "predict_proba": seconds(lambda: model.predict_proba(row)),
    "onnxruntime": seconds(lambda: session.run(None, {"X": row})),
}
for weight_dtype, predict in functions.items():
    times[f"C, {weight_dtype}"] = seconds(lambda predict=predict: predict(pointer, None))

figure, (of_sizes, of_times) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
for weight_dtype, each in found.items():
    sizes, accuracies = zip(*each, strict=True)
    of_sizes.plot(sizes, accuracies, "o-", label=f"weights in {weight_dtype}")
of_sizes.set_xscale("log", base=2)
of_sizes.xaxis.set_major_formatter("{x:g}")
of_sizes.set(xlabel="constants of the program, KiB", ylabel="accuracy on held-out rows")
of_sizes.set_title(f"Networks of {WIDTHS[0]} to {WIDTHS[-1]} units")
of_sizes.grid(alpha=0.3)
of_sizes.legend()
bars = of_times.barh(list(times), [1e6 * each for each in times.values()])
of_times.bar_label(bars, fmt=lambda time: f"{time:,.0f}" if time > 10 else f"{time:.1f}", padding=3)
of_times.set_xscale("log")
of_times.margins(x=0.15)
of_times.invert_yaxis()
of_times.set(xlabel="microseconds, called from Python", title=f"One row, {WIDTHS[-1]} units")
plt.show()
