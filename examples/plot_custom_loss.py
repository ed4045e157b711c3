"""
A custom loss: shortages cost more
==================================

A shop that rents bicycles prefers one bicycle too many to one too few. The LinEx loss (Varian 1975;
Zellner 1986) expresses that. It is exponential on one side and nearly linear on the other::

    loss = exp(a r) - a r - 1,  r = y - s

For a > 0, predictions that are too low are expensive. Such a loss takes a dozen lines: its value
for each row, and its gradient, which `check_loss` compares with finite differences.

The plot shows the forecasts. The network with this loss keeps a safety margin, which is larger in
hours with uncertain demand. With the squared error it predicts the mean everywhere.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np

from skbackprop import BackpropRegressor
from skbackprop.losses import IDENTITY_LINK, Loss
from skbackprop.testing import check_loss

BLUE, ORANGE = "#0072B2", "#D55E00"


@dataclass(frozen=True)
class LinEx(Loss):
    """loss = exp(a r) - a r - 1 with the residual r = y - s; gradient a (1 - exp(a r))."""

    a: float = 1.0
    link = IDENTITY_LINK

    def value(self, raw_prediction, y):
        r = self.a * (y - raw_prediction)
        return (np.expm1(r) - r).sum(axis=-1)

    def gradient(self, raw_prediction, y, out):
        np.subtract(y, raw_prediction, out=out)
        out *= self.a
        np.expm1(out, out=out)
        out *= -self.a


raw_prediction, targets = np.random.default_rng(0).normal(size=(2, 20, 1))
print(f"error of the gradient: {check_loss(LinEx(2.0), raw_prediction, targets):.1e}")

# Hours of the day, and demand that is less variable at night.
rng = np.random.RandomState(0)
hour = rng.uniform(0, 24, 1500)
noise = 0.1 + 0.5 * np.exp(-(((hour - 15) / 4) ** 2))
demand = 2 + np.sin((hour - 9) * np.pi / 12) + noise * rng.randn(1500)
angle = hour * np.pi / 12
X = np.c_[np.sin(angle), np.cos(angle)]

along = np.linspace(0, 24, 200)
X_along = np.c_[np.sin(along * np.pi / 12), np.cos(along * np.pi / 12)]
figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
axes.plot(hour, demand, ".", color="gray", markersize=3, alpha=0.5)
for loss, color in (("squared_error", ORANGE), (LinEx(3.0), BLUE)):
    model = BackpropRegressor(
        (32,), "tanh", loss=loss, learning_rate_init=0.01, max_iter=150, random_state=0
    ).fit(X, demand)
    name = "LinEx, a = 3" if isinstance(loss, LinEx) else "squared error"
    short = (model.predict(X) < demand).mean()
    print(f"{name}: shortage in {short:.0%} of the hours")
    axes.plot(along, model.predict(X_along), color=color, label=name)
axes.set(xlabel="hour", ylabel="bicycles, in thousands", xticks=range(0, 25, 6))
axes.set_title("Forecast of the demand")
axes.legend()
plt.show()
