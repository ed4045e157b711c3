"""
Explain a network for images
============================

Three views of a network that classifies digits, all on held-out digits:

- **Saliency maps** (top) show which pixels would change the score of the digit's class most: red
  pixels raise it, blue ones lower it. The value is the gradient with respect to the input, times
  the standard deviation of the pixel, averaged over all digits of a class.
- **Importance of the pixels**, by gradients and by permutation of one pixel at a time. Pixels at
  the border are always white and have none. Gradients tell what the network responds to,
  permutation tells what its accuracy depends on. Both agree on the most important pixels.
- **Hidden features**: the outputs of the last hidden layer, projected on two principal components.
  The silhouette score measures how well the classes are separated: 1 is best, 0 means overlap.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.inspection import permutation_importance
from sklearn.metrics import silhouette_score
from sklearn.model_selection import train_test_split

from skbackprop import BackpropClassifier
from skbackprop.inspection import gradient_importance

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)


def fitted() -> BackpropClassifier:
    """Return a network that is trained on three quarters of the digits."""
    network = BackpropClassifier(
        (64, 32),
        activation="gelu",
        learning_rate_init=0.003,
        batch_size=64,
        max_iter=40,
        n_iter_no_change=np.inf,
        random_state=0,
    )
    return network.fit(X_train, y_train)


def importances(network: BackpropClassifier) -> dict:
    """Return the importance of each pixel, by name."""
    by_shuffling = permutation_importance(network, X_test, y_test, n_repeats=10, random_state=0)
    return {
        "by gradients": gradient_importance(network, X_test).mean(axis=0),
        "by permutation": by_shuffling.importances_mean,
    }


def representations(network: BackpropClassifier) -> dict:
    """Return the digits as they are, and as the last hidden layer has them."""
    return {"pixels": X_test, "hidden features": network.hidden_features(X_test)}


def draw_saliency(network: BackpropClassifier, axes) -> None:
    """Draw the mean digit of each class above the mean gradient of its score."""
    gradient = network.input_gradient(X_test)
    for digit, column in enumerate(axes.T):
        rows = y_test == digit
        own = gradient[rows, digit].mean(axis=0) * X_test.std(axis=0)
        bound = abs(own).max()
        column[0].imshow(X_test[rows].mean(axis=0).reshape(8, 8), cmap="gray_r")
        column[1].imshow(own.reshape(8, 8), cmap="coolwarm", vmin=-bound, vmax=bound)
        column[0].set_title(digit)
    axes[0, 0].set_ylabel("mean digit")
    axes[1, 0].set_ylabel("gradient")
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])


def draw_importances(by_name: dict, axes) -> None:
    for ax, (name, importance) in zip(axes, by_name.items(), strict=True):
        ax.imshow(importance.reshape(8, 8), cmap="viridis", vmin=0)
        ax.set(title=f"importance {name}", xticks=[], yticks=[])


def draw_features(network: BackpropClassifier, axes) -> None:
    """Draw the digits in the plane of two principal components: of pixels, of hidden features."""
    for ax, (name, features) in zip(axes, representations(network).items(), strict=True):
        plane = PCA(2, random_state=0).fit_transform(features)
        ax.scatter(*plane.T, c=y_test, cmap="tab10", s=8, vmin=-0.5, vmax=9.5)
        ax.set(title=name, xticks=[], yticks=[], box_aspect=1)


def draw(network: BackpropClassifier, by_name: dict):
    figure = plt.figure(figsize=(11, 6.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.4])
    draw_saliency(network, above.subplots(2, 10))
    axes = below.subplots(1, 4)
    draw_importances(by_name, axes[:2])
    draw_features(network, axes[2:])
    return figure


def main(folder: Path | str | None = None) -> None:
    """Print what is found; save the picture in `folder`, or show it where none is given."""
    network = fitted()
    print(network.summary())
    print(f"accuracy on held-out digits: {network.score(X_test, y_test):.3f}")
    by_name = importances(network)
    print("pixel, row and column, of the largest importance")
    for name, importance in by_name.items():
        row, column = divmod(int(importance.argmax()), 8)
        print(f"  {name}: {row}, {column}")
    print(f"rank correlation of the two: {spearmanr(*by_name.values()).statistic:.2f}")
    for name, features in representations(network).items():
        print(f"silhouette of the classes, {name}: {silhouette_score(features, y_test):.2f}")
    figure = draw(network, by_name)
    if folder is None:
        plt.show()
        return
    figure.savefig(Path(folder) / "inside.png")
    plt.close(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
