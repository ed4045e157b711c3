"""
Time series of different lengths
================================

The series are noise with one event: a cylinder, which rises and falls at once, a bell, which rises
slowly, or a funnel, which falls slowly (Saito 1994). Each event starts at another time, lasts
another time, and each series has another length, between 64 and 128 steps.

- `Conv1D` and `GRU` read the series as they are. NaN at the end is padding, which they leave out.
- A dense network and the nearest neighbor need columns. Here each series is stretched to 128 steps.

`Conv1D` finds a shape wherever it is: with thirty training series it makes fewer errors than the
nearest neighbor with three hundred. `GRU` reads the series in order and needs about a hundred
series. Long series make it forget, so convolutions and pooling first reduce 128 steps to 32.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import PercentFormatter
from sklearn.neighbors import KNeighborsClassifier

from skbackprop import BackpropClassifier
from skbackprop.layers import GRU, Conv1D, GlobalMaxPool1D, MaxPool1D

KINDS = ["cylinder", "bell", "funnel"]
N_STEPS = 128


def make_series(n, rng):
    """Return series of different lengths, padded by NaN, and the kind of each."""
    X, y = np.full((n, N_STEPS), np.nan, "float32"), rng.integers(3, size=n)
    for series, kind in zip(X, y, strict=True):
        length = rng.integers(N_STEPS // 2, N_STEPS + 1)
        start = length * rng.uniform(1 / 8, 1 / 4)
        progress = (np.arange(length) - start) / (length * rng.uniform(1 / 4, 3 / 4))
        shape = np.array([np.ones(length), progress, 1 - progress])[kind]
        event = np.where((progress >= 0) & (progress <= 1), shape, 0.0)
        series[:length] = (6 + rng.normal()) * event + rng.normal(size=length)
    return X / 4, y


def stretch(X):
    """Return the series with 128 steps each, by linear interpolation."""
    rows = [series[~np.isnan(series)] for series in X]
    return np.array(
        [np.interp(np.linspace(0, len(row) - 1, N_STEPS), np.arange(len(row)), row) for row in rows]
    )


def keep(X):
    return X


settings = {
    "learning_rate_init": 0.003,
    "learning_rate": "cosine",
    "batch_size": 16,
    "n_iter_no_change": np.inf,
    "random_state": 0,
}
convolutions = [
    Conv1D(16, 9, padding="same", activation="relu"),
    MaxPool1D(2),
    Conv1D(32, 9, padding="same", activation="relu"),
]
series_settings = {"input_shape": (N_STEPS, 1)} | settings
MODELS = {
    "nearest neighbor": (KNeighborsClassifier(1), stretch, "gray"),
    "dense": (BackpropClassifier((64,), **settings), stretch, "#D55E00"),
    "Conv1D": (
        BackpropClassifier((32,), layers=[*convolutions, GlobalMaxPool1D()], **series_settings),
        *(keep, "#0072B2"),
    ),
    "Conv1D, GRU": (
        BackpropClassifier((), layers=[*convolutions, MaxPool1D(2), GRU(32)], **series_settings),
        *(keep, "#009E73"),
    ),
}
SIZES = [30, 100, 300]

rng = np.random.default_rng(0)
X, y = make_series(max(SIZES), rng)
X_test, y_test = make_series(2000, rng)
figure = plt.figure(figsize=(9, 4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1, 1.3])
print("model              training series   errors   seconds")
ax = right.subplots()
for name, (model, prepare, color) in MODELS.items():
    errors = []
    for size in SIZES:
        if isinstance(model, BackpropClassifier):
            model.set_params(max_iter=int(30 * (max(SIZES) / size) ** 0.5))
        start = time.perf_counter()
        model.fit(prepare(X[:size]), y[:size])
        errors.append(1 - model.score(prepare(X_test), y_test))
        print(f"{name:18s}{size:16d}{errors[-1]:9.1%}{time.perf_counter() - start:10.1f}")
    ax.plot(SIZES, errors, "o-", color=color, label=name)
ax.set(xlabel="training series", ylabel="errors on 2000 held-out series", xscale="log")
ax.set(yscale="log", title="Errors")
ax.set_xticks(SIZES, SIZES)
ax.set_xticks([], minor=True)
ax.set_yticks([0.003, 0.01, 0.03, 0.1, 0.3])
ax.set_yticks([], minor=True)
ax.yaxis.set_major_formatter(PercentFormatter(1))
ax.legend(fontsize=9)
for kind, ax in enumerate(left.subplots(3, 1, sharex=True, sharey=True)):
    for series in X[y == kind][:2]:
        ax.plot(series, linewidth=1)
    ax.set_title(KINDS[kind], fontsize=10)
    ax.set_yticks([])
ax.set_xlabel("step")
plt.show()
