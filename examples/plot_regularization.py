"""
What keeps a network from overfitting?
======================================

A network of two hidden layers learns 500 digits for longer than is good for it: plain, with
dropout, with averaged weights, and with what its hidden layers see normalized. The left picture
has the loss on the rows that it learns from, the right one that on the rows held out, after each
epoch, in the state in which it would predict.

The plain network's loss on the rows that it learns from falls and falls, and its probabilities come
ever closer to zero and one. On other digits it is then as sure where it is wrong, and from some
epoch on that is all that further training does. With normalization the network has learned in a
few epochs what takes it many without, and ends lowest here. Dropout is slower and noisy: it learns
less of its rows by heart, and does better on others. Averaged weights lag behind, and end where the
swings of single steps cancel.
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
        f"{name:20s} loss held out: {losses['held out'][-1]:.3f} at the end, "
        f"{min(losses['held out']):.3f} at its best; accuracy {network.score(X_test, y_test):.3f}"
    )
    epochs = range(1, N_EPOCHS + 1)
    learned.loglog(epochs, losses["learned"], label=name)
    held_out.loglog(epochs, losses["held out"])

learned.set(xlabel="epoch", ylabel="log loss", title="On the rows that it learns from", ylim=1e-3)
held_out.set(xlabel="epoch", title="On rows held out")
learned.legend(fontsize=9)
for axes in (learned, held_out):
    axes.grid(alpha=0.3)
plt.show()
