"""
Which optimizer, and which learning rate?
=========================================

The same network learns the digits with each optimizer, from the same initial weights, at three
learning rates that differ by a factor of three. The left plot shows the training loss at the best
rate of each optimizer. The right plot shows the epochs to a loss of 0.05 at each rate.

At its best rate every optimizer works. They differ in how much a rate costs that is three times too
large or too small.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skbackprop import BackpropClassifier

RATES = {
    "sgd": [0.1, 0.3, 1.0],
    "adagrad": [0.03, 0.1, 0.3],
    "rmsprop": [0.003, 0.01, 0.03],
    "adam": [0.01, 0.03, 0.1],
    "nadam": [0.01, 0.03, 0.1],
    "amsgrad": [0.01, 0.03, 0.1],
    "adamw": [0.01, 0.03, 0.1],
}
GOAL, N_EPOCHS = 0.05, 40

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)


def losses(solver, rate):
    """Return the training loss of each epoch."""
    network = BackpropClassifier(
        (64,),
        solver=solver,
        learning_rate_init=rate,
        batch_size=64,
        max_iter=N_EPOCHS,
        n_iter_no_change=np.inf,
        random_state=0,
    )
    return np.array(network.fit(X, y).loss_curve_)


def epochs_to(goal, curve):
    """Return the first epoch whose loss is below the goal; NaN if there is none."""
    return 1 + np.argmax(curve < goal) if (curve < goal).any() else np.nan


figure, (by_epoch, by_rate) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
print(f"Epochs to a training loss of {GOAL}, at each rate:")
for i, (solver, rates) in enumerate(RATES.items()):
    curves = [losses(solver, rate) for rate in rates]
    needed = [epochs_to(GOAL, curve) for curve in curves]
    best = int(np.nanargmin(needed))
    of_each = ", ".join(f"{n:2.0f} at {rate}" for n, rate in zip(needed, rates, strict=True))
    print(f"{solver:8s} {needed[best]:2.0f}   ({of_each})")

    by_epoch.semilogy(np.arange(1, N_EPOCHS + 1), curves[best], label=f"{solver}, {rates[best]}")
    beside = 1.02 ** (i - 3)  # so that the points don't hide each other
    by_rate.semilogx(beside * np.array(rates) / rates[best], needed, "o-", label=solver)

by_epoch.axhline(GOAL, color="gray", linewidth=0.8)
by_epoch.set(xlabel="epoch", ylabel="training loss", title="Each at its best rate")
by_rate.set(xlabel="rate", ylabel="epochs", title=f"Epochs to a training loss of {GOAL}")
by_rate.minorticks_off()
by_rate.set_xticks([1 / 3, 1, 3], ["a third of the best", "the best", "three times the best"])
by_epoch.legend(fontsize=9)
for axes in (by_epoch, by_rate):
    axes.grid(alpha=0.3)
plt.show()
