"""
Choosing width and penalty by a grid search
===========================================

A network is an estimator like any other: it goes into a pipeline behind a scaler, and a
`GridSearchCV` chooses its parameters, addressed by the names of the steps.

The picture shows the cross-validated log loss of each candidate on the breast-cancer data, the
darker the better. With too small a penalty the network overfits: the loss punishes confident
mistakes, which accuracy does not see. Too large a penalty keeps the weights near zero. At the
right one the width hardly matters: better a few units too many, and a penalty.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier

ALPHAS = [0.001, 0.1, 1.0, 10.0, 100.0]
SIZES = [(2,), (8,), (32,), (128,)]

X, y = load_breast_cancer(return_X_y=True)
network = BackpropClassifier(learning_rate_init=0.01, max_iter=500, random_state=0)
search = GridSearchCV(
    Pipeline([("scale", StandardScaler()), ("network", network)]),
    {"network__hidden_layer_sizes": SIZES, "network__alpha": ALPHAS},
    scoring="neg_log_loss",
    cv=5,
).fit(X, y)
print(f"best: {search.best_params_}, log loss {-search.best_score_:.3f}")

# The parameter whose name comes last in the alphabet changes fastest: widths are the columns.
losses = -search.cv_results_["mean_test_score"].reshape(len(ALPHAS), len(SIZES))

figure, axes = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
image = axes.imshow(losses, cmap="viridis", norm="log", aspect="auto")
for row in range(len(ALPHAS)):
    for column in range(len(SIZES)):
        axes.text(
            column,
            row,
            f"{losses[row, column]:.3f}",
            ha="center",
            va="center",
            color="white" if image.norm(losses[row, column]) < 0.6 else "black",
        )
axes.set_xticks(range(len(SIZES)), [str(size) for (size,) in SIZES])
axes.set_yticks(range(len(ALPHAS)), [f"{alpha:g}" for alpha in ALPHAS])
axes.set(xlabel="hidden units", ylabel="penalty alpha", title="Log loss, 5 folds")
figure.colorbar(image, label="log loss")
plt.show()
