"""
New digits by a variational autoencoder
=======================================

A variational autoencoder learns the distribution of its training rows. This one has convolutions,
which its decoder mirrors. It learns from three quarters of the digits, as images of 8 x 8 pixels.

- With two numbers in a code, the plane of codes is a map: each place decodes to a digit, and
  neighboring places decode to similar digits.
- With more numbers, digits drawn from the model are as varied as the training digits.

The table has the mean log-likelihood of held-out digits, of the same digits turned upside down, and
the share of pairs in which the upright digit is the likelier one. `beta` is the variance of the
noise about each pixel: the smaller, the sharper are the digits, and the more do codes hold.
"""

import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skbackprop import BackpropAutoencoder
from skbackprop.layers import Conv2D

SIZES = (2, 4, 8)
LAYERS = [
    Conv2D(16, 3, padding="same", activation="relu"),
    Conv2D(32, 3, strides=2, padding="same", activation="relu"),
]

digits = load_digits()
X = (digits.images / 16).astype("float32")
X_train, X_test, _, y_test = train_test_split(
    X, digits.target, stratify=digits.target, random_state=0
)


def fitted(n_components: int) -> BackpropAutoencoder:
    """Return an autoencoder whose codes have so many numbers."""
    return BackpropAutoencoder(
        n_components,
        hidden_layer_sizes=(64,),
        layers=LAYERS,
        variational=True,
        beta=0.02,
        learning_rate="one_cycle",
        learning_rate_init=0.01,
        batch_size=64,
        max_iter=40,
        n_iter_no_change=np.inf,
        random_state=0,
    ).fit(X_train)


def tiled(images: np.ndarray, n_columns: int) -> np.ndarray:
    """Return one picture of images of 8 x 8 pixels, row by row, with borders of a pixel."""
    grid = np.pad(images, [(0, 0), (0, 1), (0, 1)]).reshape(-1, n_columns, 9, 9)
    return grid.swapaxes(1, 2).reshape(-1, 9 * n_columns)


def draw_map(model: BackpropAutoencoder):
    """Draw the codes of held-out digits, and what the plane of codes decodes to."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    points = axes[0].scatter(
        *model.transform(X_test).T, c=y_test, cmap="tab10", s=14, vmin=-0.5, vmax=9.5
    )
    axes[0].set(title="codes of held-out digits", xlim=(-3, 3), ylim=(-3, 3))
    figure.colorbar(points, ax=axes[0], ticks=range(10), label="digit")
    # Equal shares of the standard normal distribution in each direction.
    n = 14
    places = norm.ppf((np.arange(n) + 0.5) / n)
    codes = np.stack(np.meshgrid(places, places[::-1]), axis=-1).reshape(-1, 2)
    axes[1].imshow(tiled(model.inverse_transform(codes), n), cmap="gray_r", vmin=0, vmax=1)
    axes[1].set(title="what the plane decodes to", xticks=[], yticks=[])
    return figure


def draw_samples(models: dict):
    """Draw training digits, and digits that each model has drawn."""
    drawn = {"training digits": X_train[:60]} | {
        f"drawn from codes of {size}": model.sample(60, random_state=0)
        for size, model in models.items()
    }
    figure, axes = plt.subplots(len(drawn), 1, figsize=(7, 6.5), layout="constrained")
    for ax, (name, images) in zip(axes, drawn.items(), strict=True):
        ax.imshow(tiled(images, 20), cmap="gray_r", vmin=0, vmax=1)
        ax.set(title=name, xticks=[], yticks=[])
    return figure


def main(folder: Path | str | None = None) -> None:
    """Print the table; save the pictures in `folder`, or show them where none is given."""
    print("numbers   log-likelihood   upside down   upright is likelier   seconds")
    models = {}
    for size in SIZES:
        start = time.perf_counter()
        models[size] = model = fitted(size)
        seconds = time.perf_counter() - start
        upright, turned = (
            model.score_samples(images, n_draws=100) for images in (X_test, X_test[:, ::-1])
        )
        is_upright = np.repeat([1, 0], len(X_test))
        share = roc_auc_score(is_upright, np.concatenate([upright, turned]))
        print(f"{size:7d}{upright.mean():17.1f}{turned.mean():14.1f}{share:22.2f}{seconds:10.1f}")
    figures = {"variational": draw_map(models[2]), "variational-digits": draw_samples(models)}
    if folder is None:
        plt.show()
        return
    for name, figure in figures.items():
        figure.savefig(Path(folder) / f"{name}.png")
        plt.close(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
