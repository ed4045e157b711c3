"""
Intervals and calibrated probabilities
======================================

Three plots show prediction intervals with a nominal coverage of 90 %, for a curve whose noise grows
to the right. `ConformalRegressor` computes them around a mean, around a mean with a predicted
standard deviation, and between quantiles. All three have the right coverage overall. The first has
a constant width, so it covers too many targets on the left and too few on the right. The other two
follow the noise.

The last plot shows the confidence and the accuracy of eight networks that classify digits. Early
stopping leaves the ensemble underconfident: it is right more often than its probabilities say.
Temperature scaling, fitted on held-out rows, corrects that without changing any label.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from skbackprop import BackpropClassifier, BackpropRegressor, ConformalRegressor
from skbackprop.losses import Gaussian, Quantile

COVERAGE = 0.9
BLUE, ORANGE = "#0072B2", "#D55E00"
N_BINS = 10

figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")

# -------------------------------------------------------------------------------- intervals
rng = np.random.RandomState(0)


def curve(n):
    """Return x and y, with noise that grows to the right."""
    x = rng.uniform(-3, 3, n)
    return x[:, None], np.sin(2 * x) + (0.05 + 0.15 * (x + 3)) * rng.randn(n)


X, y = curve(2000)
X_test, y_test = curve(5000)
along = np.linspace(-3, 3, 200)[:, None]
losses = {
    "a mean": "squared_error",
    "mean and deviation": Gaussian(1e-4),
    "quantiles": Quantile([0.05, 0.5, 0.95]),
}
for ax, (name, loss) in zip(axes.flat, losses.items(), strict=False):
    network = BackpropRegressor(
        (32, 32),
        activation="tanh",
        loss=loss,
        scale_target=True,
        learning_rate_init=0.01,
        max_iter=80,
        n_iter_no_change=np.inf,
        random_state=0,
    )
    model = ConformalRegressor(network, coverage=COVERAGE, random_state=0).fit(X, y)
    low, high = model.predict_interval(X_test).T
    is_inside = (low <= y_test) & (y_test <= high)
    is_left = X_test[:, 0] < 0
    print(
        f"around {name}: coverage {is_inside.mean():.3f}, "
        f"left {is_inside[is_left].mean():.3f}, right {is_inside[~is_left].mean():.3f}, "
        f"width {(high - low).mean():.2f}"
    )
    ax.plot(X[:800], y[:800], ".", color="gray", markersize=3)
    ax.plot(along, model.predict(along), color=BLUE)
    ax.fill_between(along[:, 0], *model.predict_interval(along).T, color=BLUE, alpha=0.25)
    ax.set(
        title=f"Around {name}: coverage {is_inside.mean():.1%}",
        xlabel="x",
        ylabel="y",
        ylim=(-4.5, 4.5),
    )

# ---------------------------------------------------------------------------- probabilities
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, stratify=y, test_size=0.5, random_state=0
)
X_train, X_aside, y_train, y_aside = train_test_split(
    X_train, y_train, stratify=y_train, test_size=0.25, random_state=0
)
eight = BackpropClassifier(early_stopping=True, n_estimators=8, random_state=0)
eight.fit(X_train, y_train)
calibrated = CalibratedClassifierCV(FrozenEstimator(eight), method="temperature")
calibrated.fit(X_aside, y_aside)


def reliability(model):
    """Return rows, confidence and accuracy of each bin, and the mean distance of these two."""
    probabilities = model.predict_proba(X_test)
    confidence = probabilities.max(axis=1)
    is_right = model.classes_[probabilities.argmax(axis=1)] == y_test
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    n = np.bincount(bins, minlength=N_BINS)
    sums = [np.bincount(bins, values, minlength=N_BINS) for values in (confidence, is_right)]
    error = np.abs(sums[0] - sums[1]).sum() / n.sum()
    return n[n > 0], *(values[n > 0] / n[n > 0] for values in sums), error


ax = axes[1, 1]
ax.plot([0, 1], [0, 1], color="gray", linewidth=1)
for model, name, color in ((eight, "before", ORANGE), (calibrated, "after", BLUE)):
    n, confidence, accuracy, error = reliability(model)
    print(f"{name}: accuracy {model.score(X_test, y_test):.3f}, calibration error {error:.3f}")
    ax.scatter(confidence, accuracy, s=n, color=color, alpha=0.5)
    ax.plot(confidence, accuracy, color=color, label=f"{name}: calibration error {error:.3f}")
ax.set(
    title="Eight networks: temperature scaling",
    xlabel="confidence: probability of the predicted label",
    ylabel="accuracy",
)
ax.legend(loc="lower right")
plt.show()
