"""
Which loss predicts uncertainty?
================================

The left plot shows patients with diabetes: the progression of the disease after a year by their
body-mass index. One network with the quantile loss predicts five quantiles. They are far apart
where outcomes vary, and never cross. The mean, from the squared error, tells nothing about that.

The right plot shows a curve with noise that grows to the right, and no data in the middle. The
Gaussian loss learns the noise. An ensemble of ten such networks adds the disagreement of its
members, which is largest where there is no data.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

from skbackprop import BackpropRegressor
from skbackprop.losses import Gaussian, Quantile

LEVELS = [0.05, 0.25, 0.5, 0.75, 0.95]
BLUE, ORANGE = "#0072B2", "#D55E00"

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")

# ------------------------------------------------------------------------------ quantiles
diabetes = load_diabetes(scaled=False)
bmi, progression = diabetes.data[:, [2]], diabetes.target
X = (bmi - bmi.mean()) / bmi.std()
along = np.linspace(bmi.min(), bmi.max(), 200)[:, None]
X_along = (along - bmi.mean()) / bmi.std()

settings = {"scale_target": True, "alpha": 1.0, "max_iter": 400, "random_state": 0}
quantiles = BackpropRegressor((16,), loss=Quantile(LEVELS), **settings).fit(X, progression)
mean = BackpropRegressor((16,), **settings).fit(X, progression)

left.plot(bmi, progression, ".", color="gray", markersize=4)
for level, line in zip(LEVELS, quantiles.predict(X_along).T, strict=True):
    share = (progression <= quantiles.predict(X)[:, LEVELS.index(level)]).mean()
    print(f"quantile {level:.2f}: {share:.3f} of the patients below")
    left.plot(along, line, color=BLUE, linewidth=1 + (level == 0.5))
    left.annotate(f"{level:.0%}", (along[-1, 0], line[-1]), color=BLUE, fontsize=9)
left.plot(along, mean.predict(X_along), "--", color=ORANGE, label="mean (squared error)")
left.set(xlabel="body-mass index", ylabel="progression", title="Five quantiles of one network")
left.legend(fontsize=9)

# ----------------------------------------------------------------------- mean and variance
rng = np.random.RandomState(0)
x = np.r_[rng.uniform(-3, -0.5, 150), rng.uniform(1, 3, 150)]
y = np.sin(2 * x) + (0.1 + 0.08 * (x + 3)) * rng.randn(300)
ensemble = BackpropRegressor(
    (32, 32),
    activation="tanh",
    loss=Gaussian(1e-4),
    scale_target=True,
    learning_rate_init=0.01,
    max_iter=300,
    n_iter_no_change=np.inf,
    n_estimators=10,
    random_state=0,
).fit(x[:, None], y)
along = np.linspace(-3.5, 3.5, 300)
mean, std = ensemble.predict(along[:, None], return_std=True)
for x_at, name in ((-2.0, "little noise"), (0.25, "no data"), (2.5, "much noise")):
    i = np.abs(along - x_at).argmin()
    print(f"x = {x_at:5.2f} ({name}): {mean[i]:.2f} +- {std[i]:.2f}")

right.plot(x, y, ".", color="gray", markersize=4)
right.plot(along, mean, color=BLUE, label="mean of ten networks")
for factor in (1, 2):
    right.fill_between(along, mean - factor * std, mean + factor * std, color=BLUE, alpha=0.2)
right.set(
    xlabel="x", ylabel="y", ylim=(-3, 3.5), title="Mean, with one and two standard deviations"
)
right.legend(fontsize=9, loc="upper left")
plt.show()
