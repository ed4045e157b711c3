"""
Export to ONNX, with weights of 8 bits
======================================

A fitted pipeline of a scaler and a network is exported as an ONNX model, which onnxruntime
computes without Python's overhead. ONNX Runtime can also store the weights in 8 bits.

The left plot shows the accuracy on held-out digits against the size of the file, for networks of
several widths. The smallest networks gain nothing from 8 bits, since the operators that round take
space as well. At equal size, a wider network with 8 bits is better than a narrower one with 32. The
right plot shows the time of a prediction for one row. In Python it is mostly the overhead of calls.
"""

import logging
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from onnxruntime import InferenceSession
from onnxruntime.quantization import quantize_dynamic
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier
from skbackprop.export import to_onnx

WIDTHS = [4, 6, 8, 12, 16, 32, 64, 128]
logging.disable(logging.WARNING)  # of a model that is not optimized before it is quantized


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
found, sessions = {"32 bits": [], "8 bits": []}, {}
with TemporaryDirectory() as folder:
    path = Path(folder) / "digits.onnx"
    for width in WIDTHS:
        network = BackpropClassifier((width,), max_iter=60, n_iter_no_change=np.inf, random_state=0)
        model = make_pipeline(StandardScaler(), network).fit(X_train, y_train)
        onnx_model = to_onnx(model)
        quantize_dynamic(onnx_model, path)
        files = {"32 bits": onnx_model.SerializeToString(), "8 bits": path.read_bytes()}
        for name, content in files.items():
            sessions[name] = InferenceSession(content)
            label, probabilities = sessions[name].run(None, {"X": X_test})
            difference = np.abs(probabilities - model.predict_proba(X_test)).max()
            found[name].append((len(content) / 1024, np.mean(label == y_test)))
            print(
                f"{width} units, {name}: {len(content)} bytes, accuracy {found[name][-1][1]:.3f}, "
                f"probabilities off by {difference:.0e}"
            )

row = X_test[:1]
times = {"predict_proba": seconds(lambda: model.predict_proba(row))}
for name, session in sessions.items():
    times[f"onnxruntime, {name}"] = seconds(lambda run=session.run: run(None, {"X": row}))

figure, (of_sizes, of_times) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
for name, each in found.items():
    sizes, accuracies = zip(*each, strict=True)
    of_sizes.plot(sizes, accuracies, "o-", label=f"weights of {name}")
of_sizes.set_xscale("log", base=2)
of_sizes.xaxis.set_major_formatter("{x:g}")
of_sizes.set(xlabel="size of the file, KiB", ylabel="accuracy on held-out rows")
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
