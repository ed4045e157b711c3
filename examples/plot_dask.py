"""
Synchronous and local SGD on Dask
=================================

A network with two hidden layers learns to classify the images of digits on a Dask cluster of two
workers. The program starts the cluster on its own machine, and each worker holds half of the rows.
With ``sync_every=1`` both workers share each batch and their weights are averaged after each step,
so the loss falls almost as it does on one machine. With more, each worker makes several steps on
batches of its own rows before the weights are averaged. This needs far fewer rounds, and costs some
accuracy at equal epochs.

The figure shows the training loss by epochs and by rounds, with the local estimator for comparison.
For so few rows a cluster on one machine is slower than the local estimator. Use a cluster for data
that does not fit on one machine.
"""

import time

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skbackprop import BackpropClassifier
from skbackprop.dask import DaskBackpropClassifier

N_EPOCHS, BATCH_SIZE = 15, 50
SETTINGS = {"hidden_layer_sizes": (64, 32), "batch_size": BATCH_SIZE, "random_state": 0}
SETTINGS |= {"max_iter": N_EPOCHS, "n_iter_no_change": np.inf}

SYNC_EVERY = {"synchronous": 1, "4 local steps": 4, "an epoch of steps": 1_000}


def count_rounds(sync_every, n_rows, n_workers):
    """Return the number of rounds in an epoch."""
    if sync_every == 1:
        return -(-n_rows // BATCH_SIZE)
    n_steps = -(-n_rows // (n_workers * BATCH_SIZE))
    return -(-n_steps // sync_every)


X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X / 16, y, random_state=0, stratify=y)
figure, (over_epochs, over_rounds) = plt.subplots(
    1, 2, figsize=(9, 4), sharey=True, layout="constrained"
)
epochs = np.arange(1, N_EPOCHS + 1)
local = BackpropClassifier(**SETTINGS).fit(X, y)
over_epochs.plot(epochs, local.loss_curve_, "k--", label="one machine")
print(f"{'one machine':17s} accuracy {local.score(X_test, y_test):.3f}")

settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
with LocalCluster(**settings, dashboard_address=":0") as cluster, Client(cluster):
    rows = -(-len(X) // 2)
    blocks = da.from_array(X, chunks=(rows, -1)), da.from_array(y, chunks=rows)
    for name, sync_every in SYNC_EVERY.items():
        start = time.perf_counter()
        model = DaskBackpropClassifier(**SETTINGS, sync_every=sync_every).fit(*blocks)
        seconds = time.perf_counter() - start
        n_rounds = count_rounds(sync_every, len(X), n_workers=2)
        accuracy = model.to_local().score(X_test, y_test)
        print(
            f"{name:17s} accuracy {accuracy:.3f}, {n_rounds:2d} round(s) an epoch, "
            f"{seconds:.1f} s in all"
        )
        over_epochs.plot(epochs, model.loss_curve_, label=name)
        over_rounds.plot(n_rounds * epochs, model.loss_curve_, label=name)

over_epochs.set(yscale="log", xlabel="epoch", ylabel="training loss", title="By epoch")
over_rounds.set(xscale="log", xlabel="rounds", title="By round")
over_epochs.legend()
for axes in (over_epochs, over_rounds):
    axes.grid(alpha=0.3)
plt.show()
