"""
Which loss makes a classifier confident?
========================================

The left plot shows the loss of one row by its margin: the score of its true class, in binary
classification. Zero is undecided, negative is wrong. The hinge losses ask for a margin of 1 and no
more. The cross-entropy always asks for more; with label smoothing it rises again when the score is
too confident. The focal loss nearly ignores rows that are right, and the squared error limits the
loss of rows that are far wrong.

The right plot shows the effect on held-out digits: the probability of the predicted class, sorted
from the least to the most confident prediction. The focal loss and label smoothing make networks
less confident, whether they are right or wrong.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier
from skbackprop.losses import CLASSIFIER_LOSSES
from skbackprop.losses.classification import LabelSmoothing

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")

# ---------------------------------------------------------------------- the loss by margin
margins = np.linspace(-3, 6, 300)
losses = {
    **CLASSIFIER_LOSSES,
    "log_loss, smoothed": LabelSmoothing(CLASSIFIER_LOSSES["log_loss"], 0.1),
}
for name, loss in losses.items():
    scores = margins[None, :, None]
    left.plot(margins, loss.value(scores, np.ones_like(scores))[0], label=name)
left.set(xlabel="margin", ylabel="loss", ylim=(-0.1, 4), title="Loss of one row")
left.legend(fontsize=9)

# ----------------------------------------------------------------- how sure networks become
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
scaler = StandardScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
for name, settings in {
    "log_loss": {},
    "focal": {"loss": "focal"},
    "log_loss, smoothed": {"label_smoothing": 0.1},
}.items():
    network = BackpropClassifier((64,), max_iter=100, random_state=0, **settings)
    network.set_params(n_iter_no_change=np.inf).fit(X_train, y_train)
    probabilities = network.predict_proba(X_test)
    accuracy, held_out = network.score(X_test, y_test), log_loss(y_test, probabilities)
    print(f"{name:20s} accuracy {accuracy:.3f}, log loss on held-out rows {held_out:.3f}")
    right.plot(np.sort(probabilities.max(axis=1)), label=f"{name}: accuracy {accuracy:.3f}")
right.set(
    xlabel="held-out rows, the least certain first",
    ylabel="probability of the prediction",
    title="Confidence",
)
right.legend(fontsize=9, loc="lower right")
for axes in (left, right):
    axes.grid(alpha=0.3)
plt.show()
