"""
Which kind of network for small images?
=======================================

Convolution compares every 3 x 3 patch of an image with the same filters. A dense network learns
each pixel on its own. This page trains both, with about as many parameters, on scikit-learn's
digits, and counts the errors on digits that are held out. A third network has augmentation:

- **Centered digits, 8 x 8 pixels.** Convolution makes somewhat fewer errors. The dense network
  trains ten times faster.
- **The same digits, anywhere on 12 x 12 pixels.** The dense network has to learn each digit at
  each place. Convolution finds the same strokes everywhere, and `GlobalMaxPool2D` asks whether a
  stroke is there, not where.
- **Augmentation.** `RandomTranslation2D` shifts the digits of each training batch at random, by one
  or two pixels. It lowers the errors on digits anywhere, with 100 training digits by almost a half.
  Centered digits are never shifted, so there it does not help. `GaussianNoise` gains nothing on
  these clean images, and `RandomFlip` loses, because a mirrored digit is another sign
  (:doc:`measurements </results>`).

The second picture shows what the first layer has learned, and saliency maps: which pixels raise or
lower the score of a digit.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import PercentFormatter
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skbackprop import BackpropClassifier
from skbackprop.layers import Conv2D, GlobalMaxPool2D, MaxPool2D, RandomTranslation2D

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
LAYERS = [
    Conv2D(16, 3, padding="same", activation="relu"),
    MaxPool2D(2),
    Conv2D(32, 3, padding="same", activation="relu"),
    Conv2D(32, 3, padding="same", activation="relu"),
    GlobalMaxPool2D(),
]
AUGMENTATION = [RandomTranslation2D(0.15)]
COMMON = {
    "learning_rate_init": 0.003,
    "learning_rate": "cosine",
    "batch_size": 32,
    "n_iter_no_change": np.inf,
    "random_state": 0,
}


def place_anywhere(images, size, rng):
    """Return the images at random places of larger, empty ones."""
    larger = np.zeros((len(images), size, size), images.dtype)
    height, width = images.shape[1:]
    for canvas, image in zip(larger, images, strict=True):
        top, left = rng.integers(size - height + 1), rng.integers(size - width + 1)
        canvas[top : top + height, left : left + width] = image
    return larger


def split(images, labels):
    return train_test_split(images, labels, test_size=0.4, stratify=labels, random_state=0)


images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32").reshape(-1, 8, 8)
tasks = {
    "centered, 8 x 8": images,
    "anywhere on 12 x 12": place_anywhere(images, 12, np.random.default_rng(0)),
}
models = {
    "dense": (BackpropClassifier((120, 64), **COMMON), ORANGE),
    "convolution": (BackpropClassifier((64,), layers=LAYERS, **COMMON), BLUE),
    "augmented": (BackpropClassifier((64,), layers=AUGMENTATION + LAYERS, **COMMON), GREEN),
}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
print("digits                training digits   network       parameters   errors   s")
for ax, (task, X) in zip(axes, tasks.items(), strict=True):
    X_train, X_test, y_train, y_test = split(X, labels)
    sizes = [100, 300, len(X_train)]
    for name, (model, color) in models.items():
        if name == "dense":  # takes a row of pixels for each image
            X_train, X_test = (part.reshape(len(part), -1) for part in (X_train, X_test))
        else:
            X_train, X_test = (part.reshape(-1, *X.shape[1:]) for part in (X_train, X_test))
        errors = []
        for size in sizes:
            start = time.perf_counter()
            model.set_params(max_iter=int(25 * (len(X_train) / size) ** 0.5))
            model.fit(X_train[:size], y_train[:size])
            errors.append(1 - model.score(X_test, y_test))
            print(
                f"{task:20s}{size:17d}   {name:12s}{model.n_parameters_:12d}"
                f"{errors[-1]:9.1%}{time.perf_counter() - start:4.0f}"
            )
        ax.plot(sizes, errors, "o-", color=color, label=name)
    ax.set(title=f"Digits {task}", xlabel="training digits", xscale="log", yscale="log")
    ax.set_xticks(sizes, sizes)
    ax.set_xticks([], minor=True)
axes[0].set_ylabel("errors on held-out digits")
axes[0].set_yticks([0.01, 0.03, 0.1, 0.3, 1])
axes[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
axes[0].legend()
plt.show()

# %%
# What has the convolution learned?
# ---------------------------------
#
# `kernels_` are the filters, of shape (height, width, input channels, filters). `input_gradient` is
# the gradient of each class's score by each pixel, here averaged over the held-out digits of the
# class: ink in red pixels raises the score of the digit, ink in blue ones lowers it.

X_train, X_test, y_train, y_test = split(images, labels)
model = BackpropClassifier((64,), layers=LAYERS, max_iter=25, **COMMON).fit(X_train, y_train)
filters = np.moveaxis(model.kernels_[0][:, :, 0], -1, 0)
gradients = model.input_gradient(X_test).reshape(len(X_test), 10, 8, 8)

figure = plt.figure(figsize=(9, 4.6), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[1, 1.5])
above.suptitle("The 16 filters of the first layer")
for ax, kernel in zip(above.subplots(2, 8).flat, filters, strict=True):
    bound = abs(kernel).max()
    ax.imshow(kernel, cmap="coolwarm", vmin=-bound, vmax=bound)
below.suptitle("Mean of the held-out digits of a class, and mean gradient of their score")
for digit, column in enumerate(below.subplots(2, 10).T):
    own = gradients[y_test == digit, digit].mean(axis=0)
    bound = abs(own).max()
    column[0].imshow(X_test[y_test == digit].mean(axis=0), cmap="gray_r")
    column[1].imshow(own, cmap="coolwarm", vmin=-bound, vmax=bound)
for ax in [*above.axes, *below.axes]:
    ax.set(xticks=[], yticks=[])
plt.show()
