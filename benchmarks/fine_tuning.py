"""Fine-tuning and augmentation: what they are worth on few images, and what frozen layers save.

A network with a convolution learns one half of scikit-learn's digits. Some digits of the other
half are changed and fine-tune it: with all layers but the last one frozen, with the convolution
frozen, or with all layers trained at a tenth of the learning rate. A network that is trained on
these digits alone is beside it. The error is that on all other changed digits, a mean over five
splits.

Augmentation is measured with 100 digits anywhere on larger images, by the networks of the gallery.
Times are those of the processor.
"""

import time
from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from benchmarks import _data
from benchmarks._report import argument_parser, as_time, print_setting, print_table
from benchmarks._timing import seconds_per_epoch
from skbackprop import BackpropClassifier
from skbackprop.layers import (
    Conv2D,
    GaussianNoise,
    GlobalMaxPool2D,
    MaxPool2D,
    RandomFlip,
    RandomTranslation2D,
)

N_SPLITS, N_ROUNDS = 5, 3
SETTINGS: dict[str, Any] = {
    "batch_size": 32,
    "learning_rate_init": 0.003,
    "n_iter_no_change": np.inf,
    "dtype": "float32",
}
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "less contrast": lambda images: 0.3 + 0.4 * images,
    "inverted": lambda images: 1 - images,
    "turned by 90 degrees": lambda images: np.rot90(images, axes=(1, 2)),
}
WAYS: dict[str, dict[str, Any]] = {
    "all but the output": {"layers__0__trainable": False, "n_frozen_layers": 1},
    "the convolution": {"layers__0__trainable": False},
    "none, low rate": {"learning_rate_init": 0.0003},
}


def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8) / 16, labels


@cache
def first_network(seed: int, n_epochs: int) -> tuple[BackpropClassifier, np.ndarray, np.ndarray]:
    """Return a network that has learned one half of the digits, and the other half."""
    X, y = digits()
    X, X_other, y, y_other = train_test_split(X, y, test_size=0.5, random_state=seed)
    layers = [Conv2D(16, 3, activation="relu"), MaxPool2D(2)]
    network = BackpropClassifier(
        (32,), layers=layers, warm_start=True, max_iter=n_epochs, random_state=seed, **SETTINGS
    )
    return network.fit(X, y), X_other, y_other


def errors_on_changed_digits(
    change: Callable[[np.ndarray], np.ndarray], n_few: int, seed: int, smoke: bool
) -> list[float]:
    """Return the errors before fine-tuning, of a network on its own, and of each way."""
    n_first, n_more = (1, 2) if smoke else (30, 60)
    first, X, y = first_network(seed, n_first)
    X, X_new, y, y_new = train_test_split(
        change(X), y, train_size=n_few, stratify=y, random_state=seed
    )
    networks = [first, clone(first).set_params(max_iter=n_more).fit(X, y)]
    for way in WAYS.values():
        more = deepcopy(first).set_params(max_iter=n_more, **way)
        networks.append(more.fit(X, y))
    return [1 - network.score(X_new, y_new) for network in networks]


def rows_of_errors(smoke: bool) -> Iterable[list[str]]:
    for name, change in CHANGES.items():
        for n_few in (40, 160, 640):
            errors = [
                errors_on_changed_digits(change, n_few, seed, smoke)
                for seed in range(1 if smoke else N_SPLITS)
            ]
            means, spreads = np.mean(errors, axis=0), np.std(errors, axis=0) / len(errors) ** 0.5
            cells = [f"{m:.1%} +- {s:.1%}" for m, s in zip(means, spreads, strict=True)]
            yield [f"{name}: {n_few} digits", *cells]


def rows_of_times(smoke: bool) -> Iterable[list[str]]:
    """Yield the times of an epoch, with more and more layers frozen."""
    X, y = _data.dense(200 if smoke else 5000, 64, 10, "float32")
    settings = {"batch_size": 200, "n_iter_no_change": np.inf, "random_state": 0}
    dense = {
        f"{n} of 3 hidden layers of 400": BackpropClassifier(
            (400,) * 3, n_frozen_layers=n, **settings
        )
        for n in range(4)
    }
    convolutions = {
        f"{n} of 2 convolutions": BackpropClassifier(
            (64,),
            layers=[
                Conv2D(filters, 3, padding="same", activation="relu", trainable=n <= i)
                for i, filters in enumerate((16, 32))
            ],
            input_shape=(8, 8),
            **settings,
        )
        for n in range(3)
    }
    for networks in (dense, convolutions):
        runs = {
            name: lambda n, network=network: network.set_params(max_iter=n).fit(X, y)
            for name, network in networks.items()
        }
        times = seconds_per_epoch(runs, 1 if smoke else N_ROUNDS, time.process_time)
        unfrozen, *_ = times.values()
        for name, seconds in times.items():
            yield [name, as_time(seconds), f"{seconds / (unfrozen or 1):.2f}"]


# -------------------------------------------------------------------------- augmentation

AUGMENTATIONS: dict[str, list[Any]] = {
    "none": [],
    "RandomTranslation2D(0.15)": [RandomTranslation2D(0.15)],
    "GaussianNoise(0.1)": [GaussianNoise(0.1)],
    "both": [RandomTranslation2D(0.15), GaussianNoise(0.1)],
    'RandomFlip("horizontal")': [RandomFlip("horizontal")],
}


def digits_anywhere(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the digits at random places of images of 12 x 12 pixels."""
    X, y = digits()
    rng, larger = np.random.default_rng(seed), np.zeros((len(X), 12, 12))
    for canvas, image in zip(larger, X, strict=True):
        top, left = rng.integers(5, size=2)
        canvas[top : top + 8, left : left + 8] = image
    return larger, y


def rows_of_augmentation(smoke: bool) -> Iterable[list[str]]:
    layers = [
        Conv2D(16, 3, padding="same", activation="relu"),
        MaxPool2D(2),
        Conv2D(32, 3, padding="same", activation="relu"),
        Conv2D(32, 3, padding="same", activation="relu"),
        GlobalMaxPool2D(),
    ]
    for name, augmentation in AUGMENTATIONS.items():
        errors = []
        for seed in range(1 if smoke else N_SPLITS):
            X, y = digits_anywhere(seed)
            X, X_new, y, y_new = train_test_split(
                X, y, train_size=100, stratify=y, random_state=seed
            )
            network = BackpropClassifier(
                (64,),
                layers=augmentation + layers,
                learning_rate="cosine",
                max_iter=2 if smoke else 80,
                random_state=seed,
                **SETTINGS,
            )
            errors.append(1 - network.fit(X, y).score(X_new, y_new))
        yield [name, f"{np.mean(errors):.1%}", f"{np.std(errors) / len(errors) ** 0.5:.1%}"]


def report(smoke: bool) -> None:
    print_table(
        "Errors on changed digits, before and after fine-tuning; frozen:",
        ["changed: training digits", "before", "new network", *WAYS],
        rows_of_errors(smoke),
    )
    print_table(
        "Time of an epoch, with frozen layers:",
        ["frozen", "time", "relative"],
        rows_of_times(smoke),
    )
    print_table(
        "Errors on held-out digits, after training on 100 digits anywhere on 12 x 12 pixels:",
        ["augmentation", "error", "+-"],
        rows_of_augmentation(smoke),
    )


if __name__ == "__main__":
    arguments = argument_parser(__doc__).parse_args()
    print_setting()
    report(arguments.smoke)
