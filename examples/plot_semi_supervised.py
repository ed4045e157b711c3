"""
Semi-supervised learning: few labels
====================================

Only 40 of 1,347 images of digits have labels, four of each digit. Are the other images useful?
`SelfTrainingClassifier` of scikit-learn lets the network label the rows on which it is confident,
trains again with them, and repeats that until no more rows are added. A threshold defines
confident.

The left plot shows the accuracy on held-out rows for three draws of the 40 labels. Reference lines
are the accuracy with the 40 labels alone, and with all labels. The right plot shows how many rows
were labeled, and how many of them correctly. Wrong labels are learned too, so a low threshold can
harm.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.semi_supervised import SelfTrainingClassifier

from skbackprop import BackpropClassifier

N_LABELLED, N_DRAWS = 40, 3
THRESHOLDS = [0.5, 0.8, 0.95, 0.99]
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "gray"

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X / 16, y, stratify=y, random_state=0)
network = BackpropClassifier(
    (64,),
    alpha=0.01,
    learning_rate_init=0.01,
    max_iter=60,
    n_iter_no_change=np.inf,
    dtype="float32",
    random_state=0,
)

alone, accuracy = [], np.empty((N_DRAWS, len(THRESHOLDS)))
labeled_in_all, right = np.empty_like(accuracy), np.empty_like(accuracy)
for draw in range(N_DRAWS):
    labeled, _ = train_test_split(
        np.arange(len(y)), train_size=N_LABELLED, stratify=y, random_state=draw
    )
    known = np.full(len(y), -1)  # no label
    known[labeled] = y[labeled]
    alone.append(network.fit(X[labeled], y[labeled]).score(X_test, y_test))
    for at, threshold in enumerate(THRESHOLDS):
        model = SelfTrainingClassifier(network, threshold=threshold, max_iter=4).fit(X, known)
        accuracy[draw, at] = model.score(X_test, y_test)
        added = (model.transduction_ != -1) & (known == -1)
        labeled_in_all[draw, at] = added.sum()
        right[draw, at] = (model.transduction_ == y)[added].mean()

best = network.fit(X, y).score(X_test, y_test)
print(f"forty labels {np.mean(alone):.3f}, all labels {best:.3f}; self-training:")
for at, threshold in enumerate(THRESHOLDS):
    print(
        f"above {threshold}: {accuracy[:, at].mean():.3f}, with "
        f"{labeled_in_all[:, at].mean():.0f} more labels, {right[:, at].mean():.1%} of them right"
    )

figure, (left, right_axes) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
names = [f"{threshold:g}" for threshold in THRESHOLDS]
for scores in accuracy:
    left.plot(names, scores, "o", color=BLUE, alpha=0.4)
left.plot(names, accuracy.mean(axis=0), color=BLUE, label="self-training")
left.axhline(np.mean(alone), color=ORANGE, label="forty labels")
left.axhline(best, color=GREY, linestyle="--", label="all labels")
left.set(xlabel="threshold", ylabel="accuracy", title="Held-out rows")
left.legend()
labels = labeled_in_all.mean(axis=0)
right_axes.bar(names, labels, color=ORANGE, label="wrong")
right_axes.bar(names, labels * right.mean(axis=0), color=BLUE, label="right")
right_axes.set(xlabel="threshold", ylabel="rows", title="Rows labeled by self-training")
right_axes.legend()
plt.show()
