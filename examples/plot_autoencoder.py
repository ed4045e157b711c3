"""
Dimensionality reduction: autoencoder or PCA
============================================

How well can 64 pixels be compressed into two numbers? PCA finds the plane with the smallest
reconstruction error. An autoencoder finds a curved surface: it consists of two networks, an encoder
and a decoder, that are trained together to reconstruct the digit. Both models learn from three
quarters of the digits. The table shows, on held-out digits and for codes of 2, 8 and 16 numbers,

- the share of the variance of the pixels that is lost, and
- the accuracy of a linear classifier that sees only the codes.

The autoencoder gains most if the code is short. For classification, PCA catches up sooner: a good
reconstruction does not always separate a 3 from an 8.
"""

import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropAutoencoder

SIZES = (2, 8, 16)

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)


def models(n_components: int) -> dict:
    """Return what turns a digit into so many numbers, by name."""
    return {
        "PCA": PCA(n_components),
        "autoencoder": BackpropAutoencoder(
            n_components,
            hidden_layer_sizes=(128,),
            learning_rate_init=0.003,
            batch_size=64,
            max_iter=100,
            n_iter_no_change=np.inf,
            random_state=0,
        ),
    }


def reconstructions(model) -> np.ndarray:
    return model.inverse_transform(model.transform(X_test))


def lost(model) -> float:
    """Return the share of the variance of held-out digits that a model does not reproduce."""
    return 1 - r2_score(X_test, reconstructions(model), multioutput="variance_weighted")


def accuracy(model) -> float:
    """Return the accuracy of a linear model on the codes of held-out digits."""
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    linear.fit(model.transform(X_train), y_train)
    return linear.score(model.transform(X_test), y_test)


def draw_maps(fitted: dict):
    """Draw the held-out digits where their codes of two numbers are."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for ax, (name, model) in zip(axes, fitted.items(), strict=True):
        points = ax.scatter(
            *model.transform(X_test).T, c=y_test, cmap="tab10", s=14, vmin=-0.5, vmax=9.5
        )
        ax.set(
            title=f"{name}: {lost(model):.0%} lost, accuracy {accuracy(model):.2f}",
            xticks=[],
            yticks=[],
        )
    figure.colorbar(points, ax=axes, ticks=range(10), label="digit")
    return figure


def draw_digits(fitted: dict):
    """Draw some held-out digits above what each model makes of their codes."""
    rows = {"digits": X_test} | {
        f"{name}, {size}": reconstructions(model)
        for size, by_name in fitted.items()
        for name, model in by_name.items()
    }
    shown = [int(np.flatnonzero(y_test == digit)[0]) for digit in range(10)]
    figure, axes = plt.subplots(len(rows), 1, figsize=(7, 0.85 * len(rows)), layout="constrained")
    for ax, (name, images) in zip(axes, rows.items(), strict=True):
        ax.imshow(np.hstack(images[shown].reshape(-1, 8, 8)), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def main(folder: Path | str | None = None) -> None:
    """Print the table; save the pictures in `folder`, or show them where none is given."""
    print("numbers   model         variance lost   accuracy of codes   seconds")
    fitted: dict = {}
    for size in SIZES:
        for name, model in models(size).items():
            start = time.perf_counter()
            fitted.setdefault(size, {})[name] = model.fit(X_train)
            seconds = time.perf_counter() - start
            print(
                f"{size:7d}   {name:12s}{lost(model):14.1%}{accuracy(model):20.3f}{seconds:10.2f}"
            )
    figures = {"autoencoder": draw_maps(fitted[2]), "autoencoder-digits": draw_digits(fitted)}
    if folder is None:
        plt.show()
        return
    for name, figure in figures.items():
        figure.savefig(Path(folder) / f"{name}.png")
        plt.close(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
