"""
Choosing rate and penalty by a grid search
==========================================

A network is an estimator like any other: it goes into a pipeline behind a scaler, and a grid
search chooses its parameters, addressed by the names of the steps. Here 25 candidates are tried on
the breast-cancer data, three times over: by scikit-learn's search over its own network, by the same
search over ours, and by our search, which trains the candidates side by side, as stacks. The scores
are the same; the bars show how long each search takes.

The left picture has the cross-validated log loss of each candidate, the brighter the better, with
its standard deviation over the folds. A high
rate with hardly any penalty overfits: the loss punishes confident mistakes, which accuracy does not
see. A low rate has not come far after so few epochs, and a strong penalty keeps the weights near
zero.
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

# scikit-learn's network warns of every fit that was told to take so few epochs.
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
print(f"best: {search.best_params_}, log loss {-search.best_score_:.3f}")

figure, (of_scores, of_time) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
SearchDisplay.from_estimator(
    search, params=["learning_rate_init", "alpha"], negate_score=True, ax=of_scores
)
of_scores.set(xlabel="learning rate", ylabel="penalty alpha", title="Log loss, 3 folds")

bars = of_time.barh(list(seconds), list(seconds.values()))
of_time.bar_label(bars, fmt="%.1f s", padding=3)
of_time.invert_yaxis()
of_time.margins(x=0.25)
of_time.set(xlabel="seconds", title="The same search, with the same scores")
plt.show()
