"""
What prevents overfitting?
==========================

A network with two hidden layers learns 500 digits for too many epochs: without regularization, with
dropout, with averaged weights, and with batch or layer normalization. The left plot shows the
training loss, the right plot the loss on held-out digits, after each epoch.

The training loss of the unregularized network falls all the time, and its probabilities approach 0
and 1. On held-out digits it becomes as confident where it is wrong. With normalization the network
learns in fewer epochs, and its held-out loss is the lowest in the end. Dropout makes training
slower and noisier, and improves held-out predictions. Averaged weights lag behind at first, and end
lower because the fluctuations of single steps cancel.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skbackprop import BackpropClassifier
from skbackprop.weight_averaging import ExponentialMovingAverage

N_EPOCHS = 100
KINDS = {
    "plain": {},
    "dropout of 0.5": {"dropout": 0.5},
    "batch normalization": {"normalization": "batch"},
    "layer normalization": {"normalization": "layer"},
    "averaged weights": {"average": ExponentialMovingAverage(0.999)},
}

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X.astype("float32") / 16, y, train_size=500, stratify=y, random_state=0
)


def loss(network, X, y):
    return log_loss(y, network.predict_proba(X))


figure, (learned, held_out) = plt.subplots(
    1, 2, figsize=(10, 4.2), sharey=True, layout="constrained"
)
for name, settings in KINDS.items():
    network = BackpropClassifier((128, 128), batch_size=50, random_state=0, **settings)
    losses = {"learned": [], "held out": []}
    for _ in range(N_EPOCHS):
        network.partial_fit(X_train, y_train, classes=range(10))
        losses["learned"].append(loss(network, X_train, y_train))
        losses["held out"].append(loss(network, X_test, y_test))
    print(
        f"{name:20s} held-out loss {losses['held out'][-1]:.3f}, "
        f"lowest {min(losses['held out']):.3f}, accuracy {network.score(X_test, y_test):.3f}"
    )
    epochs = range(1, N_EPOCHS + 1)
    learned.loglog(epochs, losses["learned"], label=name)
    held_out.loglog(epochs, losses["held out"])

learned.set(xlabel="epoch", ylabel="log loss", title="Training rows", ylim=1e-3)
held_out.set(xlabel="epoch", title="Held-out rows")
learned.legend(fontsize=9)
for axes in (learned, held_out):
    axes.grid(alpha=0.3)
plt.show()
