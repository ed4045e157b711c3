"""
Count data: which loss?
=======================

How many times does a person see a doctor in a year? Most go never or once, a few go fifty times.
The Poisson loss is made for counts: it predicts a positive mean, and weights an error relative to
that mean. The example compares three models: `PoissonRegressor` of scikit-learn, which is linear,
and a network with the Poisson loss and with the squared error. The score is `d2_tweedie_score` with
``power=1``, the explained share of the Poisson deviance.

The left plot shows whether predictions are calibrated: persons are sorted by their prediction and
divided into ten groups. It compares the mean prediction and the mean number of visits of each
group. The right plot shows the predicted visits of the same persons if they paid another share of
the costs. These shares were assigned at random, in the RAND health insurance experiment. In the
linear model, visits can only fall by a constant factor with each step.
"""

import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm
from sklearn.base import clone
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import d2_tweedie_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropRegressor

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "gray"

people = sm.datasets.randhie.load_pandas().data
visits = people.pop("mdvis").to_numpy()
X, X_test, y, y_test = train_test_split(people, visits, test_size=0.5, random_state=0)
print(f"{len(X)} persons, {y.mean():.2f} visits each, at most {y.max():.0f}")

network = BackpropRegressor(
    (32,), batch_size=128, early_stopping=True, n_estimators=4, dtype="float32", random_state=0
)
MODELS = {
    "linear, Poisson": (PoissonRegressor(alpha=0.001, max_iter=1000), GREEN),
    "network, squared error": (network, ORANGE),
    "network, Poisson": (clone(network).set_params(loss="poisson"), BLUE),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
for name, (estimator, color) in MODELS.items():
    model = make_pipeline(StandardScaler(), estimator).fit(X, y)
    predicted = model.predict(X_test)
    explained = d2_tweedie_score(y_test, np.maximum(predicted, 1e-3), power=1)
    print(
        f"{name:22s} explained deviance {explained:.3f}, "
        f"{(predicted <= 0).sum()} predictions below or at zero"
    )
    parts = np.array_split(np.argsort(predicted), 10)
    means = [(predicted[part].mean(), y_test[part].mean()) for part in parts]
    left.plot(*np.transpose(means), "o-", color=color, label=name)

    along = np.linspace(*np.quantile(people["lncoins"], [0.0, 1.0]), 50)
    someone = X_test.iloc[:500]
    rates = [model.predict(someone.assign(lncoins=at)).mean() for at in along]
    right.plot(np.expm1(along), rates, color=color, label=name)

left.axline((2, 2), slope=1, color=GREY, linewidth=1)
left.set(xlabel="predicted visits", ylabel="visits", title="Calibration: ten groups of persons")
right.set(
    xlabel="share of the costs, %", ylabel="predicted visits", title="If persons paid another share"
)
left.legend()
right.legend()
plt.show()
