"""
What does a learning-rate schedule do?
======================================

Far from a minimum large steps are better, close to it small ones. The left plot shows the learning
rate in each epoch for several schedules, relative to the base rate. A warm-up can precede each of
them. The middle plot shows the training loss of the same network on the digits: gradient descent
with batches of 8, the same initial weights, and a high base rate. At a constant rate the loss
fluctuates to the end. If the rate falls, the final loss is less than a quarter of that.

Which base rate? The right plot is the range test, which tries all rates in one short training. The
loss stays the same at rates that are too small, then falls, and diverges at rates that are too
large. A tenth of the rate at which it turns is a good start. The middle plot uses five times as
much, which only falling schedules tolerate.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skbackprop import BackpropClassifier, find_learning_rate
from skbackprop.displays import LearningRateDisplay, LossCurveDisplay
from skbackprop.schedules import (
    ConstantRate,
    CosineDecay,
    ExponentialDecay,
    LinearWarmup,
    OneCycle,
    StepDecay,
)

SCHEDULES = {
    "constant": ConstantRate(),
    "cosine": CosineDecay(),
    "one_cycle": OneCycle(),
    "step": StepDecay(),
    "exponential": ExponentialDecay(),
    "cosine with a warm-up": LinearWarmup("cosine", warmup_fraction=0.2),
}
N_EPOCHS = 30

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, stratify=y, random_state=0)
network = BackpropClassifier(
    (32,),
    solver="sgd",
    batch_size=8,
    max_iter=N_EPOCHS,
    n_iter_no_change=np.inf,
    random_state=0,
)
found = find_learning_rate(network, X_train, y_train)
network.set_params(learning_rate_init=5 * found.suggestion)
print(f"suggested rate: {found.suggestion:.3f}")

figure, (of_rate, of_loss, of_test) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
epochs, networks = np.arange(N_EPOCHS), {}
for name, schedule in SCHEDULES.items():
    base, state = np.ones((1, 1)), schedule.init(1)
    shares = [schedule.rate(state, base, epoch / N_EPOCHS).item() for epoch in epochs]
    network = clone(network).set_params(learning_rate=schedule).fit(X_train, y_train)
    accuracy = network.score(X_test, y_test)
    print(f"{name:22s} training loss {network.loss_:.5f}, accuracy {accuracy:.3f}")
    of_rate.plot(epochs / N_EPOCHS, shares, drawstyle="steps-post", label=name)
    networks[f"{name}: accuracy {accuracy:.3f}"] = network

LossCurveDisplay.from_estimators(networks, ax=of_loss)
of_rate.set(
    xlabel="progress",
    ylabel="share of the base rate",
    title="Learning rate of each epoch",
    ylim=(0, 1.6),
)
of_loss.set(title="Training loss", ylim=(None, 30))
LearningRateDisplay(range_test=found).plot(of_test)
of_test.set_title("The range test")
for axes in (of_rate, of_loss, of_test):
    axes.legend(fontsize=8, loc="upper left")
    axes.grid(alpha=0.3)
plt.show()
