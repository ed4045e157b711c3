"""
Rare labels in a raw table: who has an affair
=============================================

A magazine asked 6,366 married women about their lives; statsmodels ships the answers. Numbers,
categories in words, and gaps, since one in ten has not told her age or what her husband does (left
out here at random): `TabularClassifier` takes the table as it is.

One in three has an affair. Two models, one plain, the other with ``class_weight="balanced"``:

- what the plain one says is calibrated (left): of women whose probability is a half, half have one.
  The other is calibrated for a world in which affairs are as frequent as faithfulness, and so says
  too much in this one;
- at a probability of a half, the plain one finds a minority of the affairs, and is mostly right;
  the balanced one finds most of them, at the price of more false alarms (middle);
- how happy the marriage is and how long it has lasted tell the most (right). These are permutation
  importances: how much worse the log loss out of fold becomes when a column is shuffled. No rows
  were set aside for them.
"""

import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import log_loss, precision_score, recall_score
from sklearn.model_selection import train_test_split

from skbackprop import TabularClassifier

BLUE, ORANGE = "#0072B2", "#D55E00"
JOBS = {
    1.0: "student",
    2.0: "farming or unskilled",
    3.0: "white-collar",
    4.0: "skilled, teaching or arts",
    5.0: "managerial",
    6.0: "with an advanced degree",
}

table = sm.datasets.fair.load_pandas().data
has_affair = np.where(table.pop("affairs") > 0, "affair", "none")
rng = np.random.RandomState(0)
table["occupation"] = table["occupation"].map(JOBS)
table["occupation_husb"] = table["occupation_husb"].map(JOBS)
for column in ("age", "occupation_husb"):
    table[column] = table[column].where(rng.rand(len(table)) > 0.1)
X, X_test, y, y_test = train_test_split(
    table, has_affair, train_size=2500, stratify=has_affair, random_state=0
)

plain = TabularClassifier(n_estimators=4, random_state=0).fit(X, y)
balanced = TabularClassifier(n_estimators=4, class_weight="balanced", random_state=0).fit(X, y)

figure, axes = plt.subplots(1, 3, figsize=(13, 4.5), layout="constrained")
models = {"plain": (plain, BLUE), "balanced": (balanced, ORANGE)}
for place, (name, (model, color)) in enumerate(models.items()):
    probability = model.predict_proba(X_test)[:, 0]  # of "affair"
    said = model.predict(X_test)
    shares = [
        recall_score(y_test, said, pos_label="affair"),
        precision_score(y_test, said, pos_label="affair"),
    ]
    print(
        f"{name}: log loss {log_loss(y_test, np.c_[probability, 1 - probability]):.3f}, accuracy "
        f"{model.score(X_test, y_test):.3f} (out of fold {model.oof_score_:.3f}), affairs found "
        f"{shares[0]:.3f}, of those said to be affairs {shares[1]:.3f} are"
    )
    CalibrationDisplay.from_predictions(
        y_test == "affair",
        probability,
        n_bins=8,
        strategy="quantile",
        name=name,
        color=color,
        ax=axes[0],
    )
    bars = axes[1].bar(np.arange(2) + 0.4 * place - 0.2, shares, 0.38, color=color, label=name)
    axes[1].bar_label(bars, [f"{share:.0%}" for share in shares])
axes[0].set(
    title="What is said, and what is",
    xlabel="probability of an affair",
    ylabel="share of affairs",
)
axes[1].set(title="At a probability of a half", ylim=(0, 1))
axes[1].set_xticks(range(2), ["affairs that\nare found", "those found\nthat are affairs"])
axes[1].legend()

found = plain.permutation_importance(X, y, scoring="neg_log_loss", random_state=0)
order = np.argsort(found.importances_mean)
axes[2].barh(
    table.columns[order],
    found.importances_mean[order],
    xerr=found.importances_std[order],
    color=BLUE,
)
axes[2].set(title="Which columns matter", xlabel="log loss that is lost without them")
plt.show()
