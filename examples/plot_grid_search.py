"""
Grid search over learning rate and penalty
==========================================

A network goes into a pipeline after a scaler, and a grid search chooses its parameters. This
example tries 25 candidates on the breast cancer data with three searches: scikit-learn's search
over its own network, the same search over `BackpropClassifier`, and `BackpropGridSearchCV`, which
trains the candidates together as stacks. The scores are equal. The bars show the time of each
search.

The left plot shows the cross-validated log loss of each candidate with its standard deviation over
the folds. Brighter is better. A high rate with little penalty overfits: the log loss punishes
confident mistakes, which the accuracy ignores. A low rate learns too slowly for so few epochs, and
a strong penalty keeps the weights near zero.
"""

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier, BackpropGridSearchCV
from skbackprop.displays import SearchDisplay

RATES = [0.0003, 0.001, 0.003, 0.01, 0.03]
ALPHAS = [0.001, 0.01, 0.1, 1.0, 10.0]
SEARCHES = [
    (GridSearchCV, MLPClassifier),
    (GridSearchCV, BackpropClassifier),
    (BackpropGridSearchCV, BackpropClassifier),
]

# scikit-learn's network warns that it has not converged after so few epochs.
warnings.simplefilter("ignore", ConvergenceWarning)

X, y = load_breast_cancer(return_X_y=True)
seconds, scores = {}, []
for search_class, network_class in SEARCHES:
    network = network_class(
        (32,), batch_size=32, max_iter=20, n_iter_no_change=np.inf, random_state=0
    )
    search = search_class(
        Pipeline([("scale", StandardScaler()), ("network", network)]),
        {"network__alpha": ALPHAS, "network__learning_rate_init": RATES},
        scoring="neg_log_loss",
        cv=3,
    )
    start = time.perf_counter()
    search.fit(X, y)
    name = f"{search_class.__name__}\n{network_class.__name__}"
    seconds[name] = time.perf_counter() - start
    scores.append(search.cv_results_["mean_test_score"])
    print(f"{search_class.__name__:22}{network_class.__name__:20}{seconds[name]:6.2f} s")
print(f"largest difference of two scores: {np.ptp(scores, axis=0).max():.1g}")
print(f"log loss {-search.best_score_:.3f} with {search.best_params_}".replace("network__", ""))

figure, (of_scores, of_time) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
SearchDisplay.from_estimator(
    search, params=["learning_rate_init", "alpha"], negate_score=True, ax=of_scores
)
of_scores.set(xlabel="learning rate", ylabel="penalty alpha", title="Log loss, 3 folds")

bars = of_time.barh(list(seconds), list(seconds.values()))
of_time.bar_label(bars, fmt="%.1f s", padding=3)
of_time.invert_yaxis()
of_time.margins(x=0.25)
of_time.set(xlabel="seconds", title="Time of the same search")
plt.show()
