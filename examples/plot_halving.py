"""
Dropping losers early: successive halving
=========================================

Most candidates of a search are out of the race after a few epochs. Successive halving trains all of
them for a few, lets the best third go on to three times as many, the best third of those to three
times as many again, and so on: each round costs about as much as the first. With
`BackpropHalvingGridSearchCV` a survivor goes on from where it is, so that nothing is trained twice.

The left picture has the rounds: the loss of each candidate against the epochs that it has been
trained for, in the colour of its last round. The right one asks whether the right ones have left:
there all candidates have been trained to the end, which halving never sees. Low rates are slow
starters: after two epochs they are behind, and leave, though at the end some of them would be the
best of all. Longer first rounds are the guard: with ``min_resources=6`` such a candidate wins.
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
guarded = BackpropHalvingGridSearchCV(pipeline, **settings, min_resources=6)
whole = BackpropGridSearchCV(pipeline, **settings)
for search in (halving, guarded, whole):
    start = time.perf_counter()
    search.fit(X, y)
    seconds = time.perf_counter() - start
    rate, alpha = (search.best_params_[parameter] for parameter in (RATE, ALPHA))
    print(f"{type(search).__name__}, {seconds:.1f} s")
    if search is not whole:
        print(f"  candidates: {search.n_candidates_}, epochs: {search.n_resources_}")
    print(f"  log loss {-search.best_score_:.3f} with rate {rate:.2g} and penalty {alpha:g}")

# Each candidate by its rate and penalty: its last round, and its loss if it is trained to the end.
last_round = {
    (parameters[RATE], parameters[ALPHA]): number
    for parameters, number in zip(
        halving.cv_results_["params"], halving.cv_results_["iter"], strict=True
    )
}
at_the_end = {
    (parameters[RATE], parameters[ALPHA]): -score
    for parameters, score in zip(
        whole.cv_results_["params"], whole.cv_results_["mean_test_score"], strict=True
    )
}

figure, (of_rounds, of_ends) = plt.subplots(
    1, 2, figsize=(10, 4.4), sharey=True, layout="constrained"
)
SearchDisplay.from_estimator(halving, negate_score=True, ax=of_rounds)
of_rounds.set(yscale="log", xlabel="epochs", title="The rounds")
of_rounds.set_yticks(LOSSES, map(str, LOSSES))
of_rounds.minorticks_off()

for number in range(halving.n_iterations_):
    is_last = number == halving.n_iterations_ - 1
    of_round = [key for key, last in last_round.items() if last == number]
    of_ends.scatter(
        [rate for rate, _ in of_round],
        [at_the_end[key] for key in of_round],
        color="black" if is_last else f"C{number}",
        marker="*" if is_last else "o",
        s=120 if is_last else 30,
        label="the winner" if is_last else f"dropped after {halving.n_resources_[number]} epochs",
    )
of_ends.set_xscale("log")
of_ends.set(xlabel="learning rate", title="All of them after 54 epochs")
of_ends.legend()
plt.show()
