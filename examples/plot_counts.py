"""
How often? Counts, and the loss that suits them
===============================================

How many times did a person see a doctor in a year? Most went not at all or once, few went fifty
times. The Poisson loss takes the mean of a count for what it is, a positive number, and a miss for
what it is beside that number; a linear model with it is scikit-learn's `PoissonRegressor`. What
does a network add, and what does the squared error lose? `d2_tweedie_score` with ``power=1`` is the
share of the Poisson deviance that is explained.

Left, are the predictions true? People are sorted by what was predicted for them, in ten parts of
equal size; of each part the mean prediction, and the mean of the visits. Right, the same people at
other shares of the costs that they pay themselves, which were drawn by lot: the RAND health
insurance experiment. The linear model can say only that visits fall by a share with each step.
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
print(f"{len(X)} people, {y.mean():.2f} visits each, at most {y.max():.0f}")

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
        f"{name}: {explained:.3f} of the deviance explained, "
        f"{(predicted <= 0).sum()} predictions of no visit or less"
    )
    parts = np.array_split(np.argsort(predicted), 10)
    means = [(predicted[part].mean(), y_test[part].mean()) for part in parts]
    left.plot(*np.transpose(means), "o-", color=color, label=name)

    along = np.linspace(*np.quantile(people["lncoins"], [0.0, 1.0]), 50)
    someone = X_test.iloc[:500]
    rates = [model.predict(someone.assign(lncoins=at)).mean() for at in along]
    right.plot(np.expm1(along), rates, color=color, label=name)

left.axline((2, 2), slope=1, color=GREY, linewidth=1)
left.set(xlabel="visits predicted", ylabel="visits", title="Ten parts of the people, by prediction")
right.set(
    xlabel="coinsurance, percent", ylabel="visits a year", title="The same people, at other shares"
)
left.legend()
right.legend()
plt.show()
