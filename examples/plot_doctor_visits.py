"""
Intervals for a table: visits to a doctor
=========================================

How often a person sees a doctor in a year cannot be said to one visit: in the RAND health insurance
experiment, which statsmodels ships, half of all persons went once or not at all, a few fifty times.
What a person's health and insurance say of it is best said as an interval.

`TabularRegressor` has intervals without a row that is spent on them: each of its networks holds out
a fold, and how far off it was there says how wide they have to be. Two kinds, each to hold nine
persons in ten:

- around a mean (left) all are about as wide, and reach below zero;
- between two quantiles (middle) they are narrow for the healthy and wide for the ill. Their lower
  end is near zero, where a third of all persons are, so that they hold some more than they should.

The first hold too many of those with few diseases, and too few of those with many (right); the
second hold nine in ten of each.
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

# How ill a person is: those of the test part, in five groups by the number of chronic diseases.
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
        f"{name}: coverage {is_inside.mean():.3f}, by number of diseases "
        f"{', '.join(f'{share:.3f}' for share in by_group)}; mean width {(high - low).mean():.1f}"
    )
    # Persons in the order of the upper end, one in ten of them.
    order = np.argsort(high, kind="stable")[::10]
    place = np.arange(len(order))
    ax.fill_between(place, low[order], high[order], color=color, alpha=0.3, step="mid")
    ax.plot(place, (y_test + jitter)[order], ".", color="gray", markersize=3)
    ax.set(
        title=f"{name.capitalize()}: {is_inside.mean():.1%} inside",
        xlabel="persons, by the upper end of their interval",
        ylabel="visits in a year",
        ylim=(-8, 30),
    )
    axes[2].plot(range(5), by_group, "o-", color=color, label=name)

axes[2].axhline(COVERAGE, color="black", linestyle=":", label="what was asked for")
axes[2].set(
    title="Who is inside",
    xlabel="number of chronic diseases: fifths of all persons",
    ylabel="share inside",
    ylim=(0.7, 1.01),
    xticks=range(5),
    xticklabels=["fewest", "", "", "", "most"],
)
axes[2].legend(loc="lower left")
plt.show()
