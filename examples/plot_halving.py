"""
Successive halving of a grid of candidates
==========================================

Most candidates of a search can be dropped after a few epochs. Successive halving trains all of them
for a few epochs, the best third for three times as many, the best third of those for three times as
many again, and so on. Each round costs about as much as the first. With
`BackpropHalvingGridSearchCV`, survivors resume training, so nothing is trained twice.

The left plot shows the rounds: the loss of each candidate against its epochs, in the color of its
last round. The right plot shows whether the right candidates were dropped: there all candidates are
trained to the end. Low rates are slow starters: after two epochs they are behind and are dropped,
although some of them would be the best in the end. Longer first rounds prevent that: with
``min_resources=6`` such a candidate wins.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier, BackpropGridSearchCV, BackpropHalvingGridSearchCV
from skbackprop.displays import SearchDisplay

RATES = np.geomspace(1e-4, 0.1, 9)
ALPHAS = [0.001, 0.1, 3.0]
LOSSES = [0.2, 0.5, 1, 2]
RATE, ALPHA = "backpropclassifier__learning_rate_init", "backpropclassifier__alpha"

X, y = load_digits(return_X_y=True)
X = X.astype("float32")
network = BackpropClassifier(
    (32,), batch_size=32, max_iter=54, n_iter_no_change=np.inf, random_state=0
)
pipeline = make_pipeline(StandardScaler(), network)
settings = {
    "param_grid": {RATE: RATES, ALPHA: ALPHAS},
    "scoring": "neg_log_loss",
    "cv": 3,
    "return_train_score": False,
}

halving = BackpropHalvingGridSearchCV(pipeline, **settings)
longer_rounds = BackpropHalvingGridSearchCV(pipeline, **settings, min_resources=6)
full_grid = BackpropGridSearchCV(pipeline, **settings)
for search in (halving, longer_rounds, full_grid):
    start = time.perf_counter()
    search.fit(X, y)
    seconds = time.perf_counter() - start
    rate, alpha = (search.best_params_[parameter] for parameter in (RATE, ALPHA))
    print(f"{type(search).__name__}, {seconds:.1f} s")
    if search is not full_grid:
        print(f"  candidates: {search.n_candidates_}, epochs: {search.n_resources_}")
    print(f"  log loss {-search.best_score_:.3f} with rate {rate:.2g} and penalty {alpha:g}")

# The last round of each candidate, and its loss after training to the end, by rate and penalty.
last_round = {
    (parameters[RATE], parameters[ALPHA]): number
    for parameters, number in zip(
        halving.cv_results_["params"], halving.cv_results_["iter"], strict=True
    )
}
final_loss = {
    (parameters[RATE], parameters[ALPHA]): -score
    for parameters, score in zip(
        full_grid.cv_results_["params"], full_grid.cv_results_["mean_test_score"], strict=True
    )
}

figure, (ax_rounds, ax_final) = plt.subplots(
    1, 2, figsize=(10, 4.4), sharey=True, layout="constrained"
)
SearchDisplay.from_estimator(halving, negate_score=True, ax=ax_rounds)
ax_rounds.set(yscale="log", xlabel="epochs", title="The rounds")
ax_rounds.set_yticks(LOSSES, map(str, LOSSES))
ax_rounds.minorticks_off()

for number in range(halving.n_iterations_):
    is_last = number == halving.n_iterations_ - 1
    of_round = [key for key, last in last_round.items() if last == number]
    ax_final.scatter(
        [rate for rate, _ in of_round],
        [final_loss[key] for key in of_round],
        color="black" if is_last else f"C{number}",
        marker="*" if is_last else "o",
        s=120 if is_last else 30,
        label="the winner" if is_last else f"dropped after {halving.n_resources_[number]} epochs",
    )
ax_final.set_xscale("log")
ax_final.set(xlabel="learning rate", title="All candidates after 54 epochs")
ax_final.legend()
plt.show()
