"""
Checkpoints: resume killed training
===================================

A job that takes hours may be killed: the machine is restarted, or the time in the queue is over. A
`Checkpoint` saves training to a file every few epochs, and ``fit(resume_from=...)`` resumes from
it.

Here a program trains a network and ends abruptly, as if it had been killed. The next program
resumes. Its loss curve starts at the last checkpoint and equals the curve of uninterrupted training
exactly. The file holds the weights, the state of the optimizer, the order of the rows and all
random generators.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skbackprop import BackpropClassifier
from skbackprop.callbacks import Checkpoint

KILLED = 33
# What the program that is killed does: as below, but that it ends in a certain epoch.
PROGRAM = """
import os, sys
import numpy as np
from sklearn.datasets import load_digits
from skbackprop import BackpropClassifier
from skbackprop.callbacks import Checkpoint

class Kill:
    def setup(self, estimator, context): pass
    def teardown(self, estimator, context): pass
    def on_fit_task_begin(self, estimator, context): pass
    def on_fit_task_end(self, estimator, context):
        if context.task_id == int(sys.argv[2]):
            os._exit(1)

X, y = load_digits(return_X_y=True)
model = BackpropClassifier(dropout=0.2, max_iter=60, n_iter_no_change=np.inf, random_state=0)
model.set_callbacks(Checkpoint(sys.argv[1], every=10), Kill())
model.fit(X / 16, y)
"""

X, y = load_digits(return_X_y=True)
X /= 16


def network():
    return BackpropClassifier(dropout=0.2, max_iter=60, n_iter_no_change=np.inf, random_state=0)


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "digits.npz"
    ended = subprocess.run([sys.executable, "-c", PROGRAM, path, str(KILLED)], check=False)
    print(
        f"the first program ended with {ended.returncode}, its file has {path.stat().st_size} bytes"
    )
    resumed = network().set_callbacks(Checkpoint(path, every=10))
    resumed.fit(X, y, resume_from=path)

whole = network().fit(X, y)
print("the same losses:", resumed.loss_curve_ == whole.loss_curve_)
print(
    "the same weights:",
    all((a == b).all() for a, b in zip(resumed.coefs_, whole.coefs_, strict=True)),
)

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
epochs = range(1, len(whole.loss_curve_) + 1)
axes.plot(
    epochs, whole.loss_curve_, color="#0072B2", linewidth=6, alpha=0.3, label="not interrupted"
)
axes.plot(epochs[30:], resumed.loss_curve_[30:], color="#0072B2", label="resumed")
axes.axvline(KILLED, color="#D55E00", linestyle="--", label="killed")
axes.plot([10, 20, 30], [whole.loss_curve_[i - 1] for i in (10, 20, 30)], "ko", label="checkpoints")
axes.set(xlabel="epoch", ylabel="loss", yscale="log", title="Training that was killed and resumed")
axes.legend()
plt.show()
