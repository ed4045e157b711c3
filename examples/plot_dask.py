"""
What does a cluster cost, and what does it learn?
=================================================

A network of two hidden layers learns the images of digits on a Dask cluster of two workers, which
this program starts on its own machine: each holds a half of the rows, and never sees the other.
They train in two ways. Either each step is made by the gradients of both, so that the loss falls as
it does on one machine; or each makes steps by itself, and now and then both take the mean of what
they have come to, with far fewer rounds and some loss of accuracy at equal epochs.

The picture has both, and the local estimator beside them, over epochs and over the rounds that they
took. On one machine a cluster is of no use for so few rows: it is for rows that one can't hold.
"""

import time

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skbackprop import BackpropClassifier
from skbackprop.dask import DaskBackpropClassifier, LocalSGD, SyncSGD

N_EPOCHS, BATCH_SIZE = 15, 50
SETTINGS = {"hidden_layer_sizes": (64, 32), "batch_size": BATCH_SIZE, "random_state": 0}
SETTINGS |= {"max_iter": N_EPOCHS, "n_iter_no_change": np.inf}

WAYS = {
    "one step a round": SyncSGD(),
    "4 steps a round": LocalSGD(4),
    "an epoch a round": LocalSGD(1_000),
}


def rounds_of_epoch(rounds, n_rows, n_workers):
    """Return how many rounds an epoch takes."""
    if isinstance(rounds, SyncSGD):
        return -(-n_rows // BATCH_SIZE)
    n_steps = -(-n_rows // (n_workers * BATCH_SIZE))
    return -(-n_steps // rounds.n_steps)


X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X / 16, y, random_state=0, stratify=y)
figure, (over_epochs, over_rounds) = plt.subplots(
    1, 2, figsize=(9, 4), sharey=True, layout="constrained"
)
epochs = np.arange(1, N_EPOCHS + 1)
local = BackpropClassifier(**SETTINGS).fit(X, y)
over_epochs.plot(epochs, local.loss_curve_, "k--", label="one machine")
print(f"{'one machine':16s} accuracy {local.score(X_test, y_test):.3f}")

settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
with LocalCluster(**settings, dashboard_address=":0") as cluster, Client(cluster):
    rows = -(-len(X) // 2)
    in_blocks = da.from_array(X, chunks=(rows, -1)), da.from_array(y, chunks=rows)
    for name, rounds in WAYS.items():
        start = time.perf_counter()
        model = DaskBackpropClassifier(**SETTINGS, rounds=rounds).fit(*in_blocks)
        seconds = time.perf_counter() - start
        n_rounds = rounds_of_epoch(rounds, len(X), n_workers=2)
        accuracy = model.to_local().score(X_test, y_test)
        print(
            f"{name:16s} accuracy {accuracy:.3f}, {n_rounds:2d} round(s) an epoch, "
            f"{seconds:.1f} s in all"
        )
        over_epochs.plot(epochs, model.loss_curve_, label=name)
        over_rounds.plot(n_rounds * epochs, model.loss_curve_, label=name)

over_epochs.set(yscale="log", xlabel="epoch", ylabel="training loss", title="By epochs")
over_rounds.set(xscale="log", xlabel="rounds", title="By exchanges with the client")
over_epochs.legend()
for axes in (over_epochs, over_rounds):
    axes.grid(alpha=0.3)
plt.show()
