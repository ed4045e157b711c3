"""
Survival: a Cox loss in a dozen lines
=====================================

How long do patients live, if some were still alive when the study ended? Such times are
*censored*: the patient lived at least that long. The proportional hazards model (Cox 1972)
learns from both kinds of times. At each death, it compares the hazard exp(s) of the patient who
died with those of all patients who were still at risk (the partial likelihood, Cox 1975)::

    loss = sum over the deaths i of log(sum of exp(s_j) over all j with t_j >= t_i) - s_i

So the loss of a row depends on other rows. A custom loss may do that: `gradient` gets a whole
batch, and the risk sets are those of the batch. A batch of some hundreds of rows is large
enough (Kvamme, Borgan & Scheel 2019). A negative y marks a censored time. Deaths at the same
time share a risk set (Breslow 1974). Such a loss takes no sample weights, which would belong
inside the sums. So `check_loss`, which weights rows, cannot check it, but `check_gradient` can.

The patients are made up. The risk is high for low and for high blood pressure, and the
treatment helps only patients with a marker, which a linear model cannot express. The
*concordance* (Harrell et al. 1982) is the share of pairs of held-out patients in which the one
who died first had the higher predicted risk. The plot shows the survival (Kaplan & Meier 1958)
of held-out patients, in thirds of the predicted risk: the network separates them better.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from statsmodels.api import PHReg, SurvfuncRight

from skbackprop import BackpropRegressor
from skbackprop.losses import IDENTITY_LINK, Loss
from skbackprop.testing import check_gradient

COLORS = ["#009E73", "#E69F00", "#D55E00"]


@dataclass(frozen=True)
class CoxLoss(Loss):
    """Negative log partial likelihood. y is the time of a death, or minus a censored time."""

    link = IDENTITY_LINK

    def risk_sets(self, raw_prediction, y):
        time, hazard = abs(y), np.exp(raw_prediction)
        # Entry (i, j) is 1 if row j is at risk at the time of row i.
        at_risk = (np.swapaxes(time, -1, -2) >= time).astype(hazard.dtype)
        return hazard, at_risk, at_risk @ hazard

    def value(self, raw_prediction, y):
        _, _, total = self.risk_sets(raw_prediction, y)
        return ((y > 0) * (np.log(total) - raw_prediction)).sum(axis=-1)

    def gradient(self, raw_prediction, y, out):
        hazard, at_risk, total = self.risk_sets(raw_prediction, y)
        hazard *= np.swapaxes(at_risk, -1, -2) @ ((y > 0) / total)
        np.subtract(hazard, y > 0, out=out)


def concordance(risk, y):
    """Return the share of pairs in which the one known to die first has the higher risk."""
    time = abs(y)
    is_comparable = (time[:, None] < time) & (y > 0)[:, None]
    difference = (risk[:, None] - risk)[is_comparable]
    return np.mean((difference > 0) + 0.5 * (difference == 0))


rng = np.random.default_rng(0)
few_times = rng.integers(1, 9, (20, 1)) * rng.choice([-1, 1], (20, 1))  # some are equal


def value_and_gradient(raw_prediction):
    gradient = np.empty_like(raw_prediction)
    CoxLoss().gradient(raw_prediction, few_times, gradient)
    return CoxLoss().value(raw_prediction, few_times).sum(), gradient


error = check_gradient(value_and_gradient, rng.normal(size=(20, 1)))
print(f"error of the gradient: {error:.1e}")

# Age, blood pressure and a number without effect, all standardized; marker and treatment, 0 or 1.
X = np.c_[rng.normal(size=(4000, 3)), rng.integers(2, size=(4000, 2))]
age, pressure, _, marker, treatment = X.T
true_risk = 0.5 * age + 0.6 * pressure**2 - 1.5 * marker * treatment
death = rng.exponential(10 * np.exp(-true_risk))
censored = np.minimum(rng.uniform(0, 20, 4000), 10)  # the study ends after ten years
y = np.where(death < censored, death, -censored)
X, X_test, y, y_test = X[:2000], X[2000:], y[:2000], y[2000:]
print(f"{len(X)} patients, {np.mean(y > 0):.0%} of whom died")

linear = PHReg(abs(y), X, status=y > 0, ties="breslow").fit()
no_hidden_layer = BackpropRegressor((), loss=CoxLoss(), solver="lbfgs", alpha=0, random_state=0)
no_hidden_layer.fit(X, y)
print("coefficients, linear Cox model:        ", linear.params.round(3))
print("coefficients, network, no hidden layer:", no_hidden_layer.coefs_[0].ravel().round(3))

network = BackpropRegressor(
    (32,),
    loss=CoxLoss(),
    batch_size=200,
    learning_rate_init=0.005,
    early_stopping=True,
    n_estimators=4,
    random_state=0,
).fit(X, y)
risks = {"linear Cox model": X_test @ linear.params, "network": network.predict(X_test)}
for name, risk in (risks | {"true risk": true_risk[2000:]}).items():
    print(f"concordance, {name:18s}{concordance(risk, y_test):.3f}")

figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
for ax, (name, risk) in zip(axes, risks.items(), strict=True):
    thirds = np.array_split(np.argsort(risk), 3)
    for third, label, color in zip(thirds, ["low", "middle", "high"], COLORS, strict=True):
        curve = SurvfuncRight(abs(y_test[third]), y_test[third] > 0)
        times, alive = np.r_[0, curve.surv_times], np.r_[1, curve.surv_prob]
        ax.step(times, alive, where="post", color=color, label=f"{label} risk")
    ax.set(title=name, xlabel="years", ylim=(0, 1))
axes[0].set_ylabel("share of patients alive")
axes[0].legend(loc="lower left")
plt.show()
