"""A small search of each kind."""

import numpy as np
from scipy.stats import loguniform
from sklearn.model_selection import GridSearchCV

from skbackprop import (
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropHalvingRandomSearchCV,
    BackpropRandomizedSearchCV,
)

_GRID = {
    "alpha": [0.01, 1.0],
    "learning_rate_init": [0.01, 0.1],
    "hidden_layer_sizes": [(4,), (6,)],
}
_DRAWN = {"alpha": loguniform(1e-4, 1.0)}
_NETWORK = BackpropClassifier((5,), max_iter=8, n_iter_no_change=np.inf, random_state=0)

SEARCHES = {
    "grid": BackpropGridSearchCV(_NETWORK, _GRID, cv=3),
    "random": BackpropRandomizedSearchCV(_NETWORK, _DRAWN, n_iter=4, cv=3, random_state=0),
    "halving": BackpropHalvingGridSearchCV(_NETWORK, _GRID, cv=3),
    "random halving": BackpropHalvingRandomSearchCV(_NETWORK, _DRAWN, cv=3, random_state=0),
    "scikit-learn's": GridSearchCV(_NETWORK, {"alpha": [0.1, 1.0]}, cv=3),
}
