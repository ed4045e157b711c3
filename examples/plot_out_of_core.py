"""
Data larger than memory: read in pieces
=======================================

A table is read from a file once, 2,000 rows at a time, as if it were larger than memory. Each piece
is predicted before the model learns from it. So the plot shows the accuracy on rows that the model
has never seen, and no rows need to be held out.

The label depends on the sign of the product of two features, and on two more features, so no linear
boundary separates the classes. The network improves with every piece. A linear model improves no
more after the first two pieces.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import SGDClassifier

from skbackprop import BackpropClassifier

N_ROWS, N_FEATURES, N_AT_ONCE = 200_000, 20, 2_000


def pieces(n_rows):
    """Yield the numbers of the rows that are read at once."""
    return (slice(start, start + N_AT_ONCE) for start in range(0, n_rows, N_AT_ONCE))


def write(path):
    """Write the file, of which only a piece is ever in memory, and return the labels."""
    rng = np.random.default_rng(0)
    table = np.lib.format.open_memmap(path, "w+", "float32", (N_ROWS, N_FEATURES))
    labels = np.empty(N_ROWS, dtype=int)
    for rows in pieces(N_ROWS):
        X = table[rows] = rng.normal(size=(N_AT_ONCE, N_FEATURES))
        labels[rows] = X[:, 0] * X[:, 1] + 0.5 * np.abs(X[:, 2]) + 0.3 * X[:, 3] > 0.4
    return labels


def accuracies(model, X, y):
    """Return the accuracy on each piece, before the model learns from it."""
    found = []
    for rows in pieces(len(X)):
        if rows.start > 0:
            found.append(model.score(X[rows], y[rows]))
        model.partial_fit(X[rows], y[rows], classes=[0, 1])
    return found


MODELS = {
    "network, 64-32 units": BackpropClassifier((64, 32), random_state=0),
    "network, 8 units": BackpropClassifier((8,), random_state=0),
    "linear model": SGDClassifier(loss="log_loss", random_state=0),
}

figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "X.npy"
    y = write(path)
    X = np.load(path, mmap_mode="r")
    for name, model in MODELS.items():
        found = accuracies(model, X, y)
        print(
            f"{name:21s} accuracy: first {N_AT_ONCE:,} rows {found[0]:.3f}, "
            f"last {10 * N_AT_ONCE:,} rows {np.mean(found[-10:]):.3f}"
        )
        axes.plot(N_AT_ONCE * np.arange(1, len(found) + 1), found, label=name, alpha=0.8)
    del X  # lets go of the file

axes.set(
    xscale="log",
    xlabel="rows read",
    ylabel="accuracy on the next rows",
    title="Each row is predicted before it is learned",
)
axes.legend()
axes.grid(alpha=0.3)
plt.show()
