"""
Which solver learns fastest?
============================

The same network learns the digits with each solver, from the same initial weights. The left plot
shows the loss by epochs, the right one by seconds.

Adam works well without tuning. Gradient descent with momentum is faster if its learning rate fits
the data, and takes three times as many epochs at a tenth of that rate. L-BFGS uses all rows for
each step and estimates the curvature. For data this small nothing is faster. With many rows the
other solvers overtake it, because they make a step for every 200 rows.
"""

import time

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier
from skbackprop.displays import LossCurveDisplay

SOLVERS = {
    "adam": {"solver": "adam"},
    "sgd, rate 0.05": {"solver": "sgd", "learning_rate_init": 0.05},
    "sgd, rate 0.005": {"solver": "sgd", "learning_rate_init": 0.005},
    "lbfgs": {"solver": "lbfgs"},
}

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
scaler = StandardScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

figure, (by_epoch, by_time) = plt.subplots(
    1, 2, figsize=(10, 4.2), sharey=True, layout="constrained"
)
networks = {}
for name, parameters in SOLVERS.items():
    network = BackpropClassifier((64,), alpha=0.1, max_iter=500, random_state=0, **parameters)
    start = time.perf_counter()
    network.fit(X_train, y_train)
    seconds = time.perf_counter() - start

    losses = network.loss_curve_
    accuracy = network.score(X_test, y_test)
    print(f"{name:16s} {len(losses):4d} epochs, {seconds:.2f} s, accuracy {accuracy:.3f}")
    networks[f"{name}: accuracy {accuracy:.3f}"] = network
    seconds_at = [seconds * epoch / len(losses) for epoch in range(1, len(losses) + 1)]
    by_time.loglog(seconds_at, losses)

LossCurveDisplay.from_estimators(networks, ax=by_epoch)
by_epoch.set(xscale="log", title="By epochs")
by_time.set(xlabel="seconds", title="By time")
plt.show()
