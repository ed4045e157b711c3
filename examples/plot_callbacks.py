"""
When does a network learn wrong labels?
=======================================

A third of the training labels are wrong. A wide network can memorize all of them, but it first
learns what the right labels have in common. A callback computes two scores after each epoch: the
share of wrong labels that the network repeats, and the accuracy on test rows, whose labels are
right. The plots show both, beside the losses.

When to stop? The validation loss tells: it rises when the network begins to learn wrong labels. Its
rows have wrong labels too, but different ones, which the network cannot know. A second callback
ends training when this loss is 5 % above its lowest value. The dashed line shows that epoch. Its
network is far better on the test rows than the network after all epochs.

`early_stopping=True` keeps the weights of the best epoch without any callback. Use callbacks for
stopping rules of your own, and to record what no attribute holds.
"""

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skbackprop import BackpropClassifier
from skbackprop.callbacks import TrainingLog


class Callback:
    """A callback that does nothing: the four methods that each one has."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        pass


class Watch(Callback):
    """Notes after each epoch what a network says of some rows, by name, and how often it is y."""

    def __init__(self, rows):
        self.rows = rows
        self.shares = {name: [] for name in rows}

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch":
            for name, (X, y) in self.rows.items():
                self.shares[name].append(fitted_estimator.score(X, y))


class StopAtRise(Callback):
    """Ends training once the validation loss is above its lowest value by some share of it."""

    def __init__(self, share):
        self.share = share

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        losses = fitted_estimator.validation_loss_curve_
        return losses[-1] > (1 + self.share) * min(losses)


def with_wrong_labels(y, share, rng):
    """Return y with some labels replaced by other ones, and which they are."""
    is_wrong = rng.rand(len(y)) < share
    return np.where(is_wrong, (y + rng.randint(1, 10, len(y))) % 10, y), is_wrong


def read(log):
    """Return the losses that a log holds: of the training rows, and of those to validate on."""
    with log.path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    return [[float(line[name]) for line in lines] for name in ("loss", "validation_loss")]


X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, stratify=y, random_state=0)
y_noisy, is_wrong = with_wrong_labels(y_train, 0.33, np.random.RandomState(0))
X_fit, X_val, y_fit, y_val, is_wrong, _ = train_test_split(
    X_train, y_noisy, is_wrong, random_state=0
)
watch = Watch(
    {
        "wrong labels that are repeated": (X_fit[is_wrong], y_fit[is_wrong]),
        "test rows that are right": (X_test, y_test),
    }
)
network = BackpropClassifier(
    (256,), learning_rate_init=0.01, max_iter=100, n_iter_no_change=np.inf, random_state=0
)
with TemporaryDirectory() as folder:
    log = TrainingLog(Path(folder) / "log.csv")
    network.set_callbacks(watch, log)
    network.fit(X_fit, y_fit, X_val=X_val, y_val=y_val)
    training_losses, validation_losses = read(log)
accuracy = network.score(X_test, y_test)
network.set_callbacks(StopAtRise(0.05)).fit(X_fit, y_fit, X_val=X_val, y_val=y_val)
stopped_at, accuracy_when_stopped = network.n_iter_, network.score(X_test, y_test)
print(f"wrong labels: {is_wrong.mean():.0%} of {len(y_fit)}")
print(f"after {len(training_losses)} epochs: accuracy on test rows {accuracy:.3f}")
print(f"stopped after {stopped_at}: accuracy on test rows {accuracy_when_stopped:.3f}")

epochs = np.arange(len(training_losses)) + 1
figure, (of_losses, of_shares) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
of_losses.plot(epochs, training_losses, label="training loss")
of_losses.plot(epochs, validation_losses, label="validation loss")
of_losses.set(xlabel="epoch", ylabel="loss", title="Losses", ylim=(0, None))
for (name, shares), color in zip(watch.shares.items(), ("tab:red", "tab:green"), strict=True):
    of_shares.plot(epochs, shares, color=color, label=name)
of_shares.set(xlabel="epoch", ylabel="share", title="What the network has learned", ylim=(0, 1))
for axes in (of_losses, of_shares):
    axes.axvline(stopped_at, color="gray", linestyle="--", label=f"stopped: epoch {stopped_at}")
    axes.legend(fontsize=9)
    axes.grid(alpha=0.3)
plt.show()
