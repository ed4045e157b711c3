"""
Prediction intervals for a raw table
====================================

Nobody can predict exactly how often a person sees a doctor in a year. In the RAND health insurance
experiment, which statsmodels ships, half of all persons went at most once, a few went fifty times.
An interval says more than one number.

`TabularRegressor` predicts intervals without extra calibration rows: each of its networks holds out
a fold, and the errors there determine the width. The plots compare two kinds with a nominal
coverage of 90 %:

- around the mean (left), all intervals have about the same width, and some reach below zero;
- between quantiles (middle), they are narrow for healthy persons and wide for ill ones. Their lower
  end is close to zero, where a third of all persons are, so their coverage is higher than asked
  for.

The right plot shows the coverage by the number of chronic diseases. The first kind covers too many
healthy persons and too few ill ones. The second kind covers at least 90 % in each group.
"""

import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm
from sklearn.model_selection import train_test_split

from skbackprop import TabularRegressor
from skbackprop.losses import Quantile

COVERAGE = 0.9
BLUE, ORANGE = "#0072B2", "#D55E00"

table = sm.datasets.randhie.load_pandas().data
visits = table.pop("mdvis")
X, X_test, y, y_test = train_test_split(table, visits, train_size=2500, random_state=0)
X_test, y_test = X_test[:3000], y_test[:3000].to_numpy()

# Persons of the test part in five groups, by the number of chronic diseases.
diseases = X_test["disea"].to_numpy()
edges = np.quantile(diseases, [0.2, 0.4, 0.6, 0.8])
group = np.searchsorted(edges, diseases)

figure, axes = plt.subplots(1, 3, figsize=(13, 4.5), layout="constrained")
jitter = np.random.RandomState(0).uniform(-0.3, 0.3, len(y_test))
losses = {
    "around a mean": ("squared_error", BLUE),
    "between quantiles": (Quantile([0.05, 0.5, 0.95]), ORANGE),
}
for ax, (name, (loss, color)) in zip(axes, losses.items(), strict=False):
    model = TabularRegressor(n_estimators=4, loss=loss, max_iter=20, random_state=0).fit(X, y)
    low, high = model.predict_interval(X_test, coverage=COVERAGE).T
    is_inside = (low <= y_test) & (y_test <= high)
    by_group = [is_inside[group == i].mean() for i in range(5)]
    print(
        f"{name}: coverage {is_inside.mean():.3f}, mean width {(high - low).mean():.1f}\n"
        f"  by number of diseases: {', '.join(f'{share:.3f}' for share in by_group)}"
    )
    # Every tenth person, sorted by the upper end.
    order = np.argsort(high, kind="stable")[::10]
    place = np.arange(len(order))
    ax.fill_between(place, low[order], high[order], color=color, alpha=0.3, step="mid")
    ax.plot(place, (y_test + jitter)[order], ".", color="gray", markersize=3)
    ax.set(
        title=f"{name.capitalize()}: coverage {is_inside.mean():.1%}",
        xlabel="persons, sorted by the upper end",
        ylabel="visits in a year",
        ylim=(-8, 30),
    )
    axes[2].plot(range(5), by_group, "o-", color=color, label=name)

axes[2].axhline(COVERAGE, color="black", linestyle=":", label="nominal coverage")
axes[2].set(
    title="Coverage by number of diseases",
    xlabel="number of chronic diseases, in five groups",
    ylabel="coverage",
    ylim=(0.7, 1.01),
    xticks=range(5),
    xticklabels=["fewest", "", "", "", "most"],
)
axes[2].legend(loc="lower left")
plt.show()
