"""
A rare class: class weights or a threshold?
===========================================

Which patients will see a doctor five times a year or more? One in five does. The data is the RAND
health insurance experiment, which statsmodels ships. Health is a category in words, and the number
of chronic diseases is missing for one patient in ten (removed here at random): `TabularClassifier`
takes the table as it is.

The left plot answers the question. At a probability of one half, the classifier finds almost none
of these patients. With ``class_weight="balanced"`` it finds more than half of them, with many false
alarms. A lower threshold on the probabilities of the unweighted classifier does the same. The
threshold is the one with the best balanced accuracy of the out-of-fold predictions, so it needs no
validation rows.

The middle plot shows the difference. The probabilities of the unweighted classifier are calibrated,
so you can compute expected costs from them. Those of the weighted classifier are far too high.
Prefer a threshold if you need probabilities.

The right plot shows the permutation importance of each column: the increase of the out-of-fold log
loss when the column is shuffled.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import statsmodels.api as sm
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import log_loss, precision_score, recall_score, roc_curve
from sklearn.model_selection import train_test_split

from skbackprop import TabularClassifier

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
NAMES = {
    "mdvis": "visits",
    "lncoins": "coinsurance rate",
    "idp": "individual deductible",
    "lpi": "participation payment",
    "fmde": "maximum expense",
    "physlm": "physical limitation",
    "disea": "chronic diseases",
}

data = sm.datasets.randhie.load_pandas().data
health = pd.from_dummies(data.iloc[:, -3:].astype(int), default_category="excellent").iloc[:, 0]
words = {"hlthg": "good", "hlthf": "fair", "hlthp": "poor"}
table = data.iloc[:, :-3].rename(columns=NAMES).assign(health=health.replace(words))
is_frequent = np.where(table.pop("visits") >= 5, "frequent", "other")
rng = np.random.RandomState(0)
table["chronic diseases"] = table["chronic diseases"].where(rng.rand(len(table)) > 0.1)
X, X_test, y, y_test = train_test_split(
    table, is_frequent, train_size=2500, stratify=is_frequent, random_state=0
)
print(f"{len(X)} training rows, {np.mean(y == 'frequent'):.1%} of them frequent patients")

plain = TabularClassifier(n_estimators=4, random_state=0).fit(X, y)
balanced = TabularClassifier(n_estimators=4, class_weight="balanced", random_state=0).fit(X, y)

# The threshold with the best balanced accuracy of the out-of-fold predictions.
false_alarms, found, thresholds = roc_curve(y == "frequent", plain.oof_predict_proba_[:, 0])
threshold = thresholds[np.argmax(found - false_alarms)]

probability = plain.predict_proba(X_test)[:, 0]
weighted_probability = balanced.predict_proba(X_test)[:, 0]
predictions = {
    "plain": (probability >= 0.5, BLUE),
    "class weights": (weighted_probability >= 0.5, ORANGE),
    f"threshold {threshold:.2f}": (probability >= threshold, GREEN),
}

figure, axes = plt.subplots(1, 3, figsize=(13, 4.5), layout="constrained")
for position, (name, (is_predicted, color)) in enumerate(predictions.items()):
    truth = y_test == "frequent"
    scores = [
        recall_score(truth, is_predicted),
        precision_score(truth, is_predicted, zero_division=0.0),
    ]
    print(f"{name:15s} recall {scores[0]:.3f}, precision {scores[1]:.3f}")
    bars = axes[0].bar(np.arange(2) + 0.27 * position - 0.27, scores, 0.25, color=color, label=name)
    axes[0].bar_label(bars, [f"{score:.0%}" for score in scores])
axes[0].set(title="Frequent patients on held-out rows", ylim=(0, 1))
axes[0].set_xticks(range(2), ["recall:\nfound, of all", "precision:\nright, of those found"])
axes[0].legend()

for name, values, color in [
    ("plain", probability, BLUE),
    ("class weights", weighted_probability, ORANGE),
]:
    loss = log_loss(y_test, np.c_[values, 1 - values])
    print(f"{name:15s} log loss {loss:.3f}, mean probability {values.mean():.3f}")
    CalibrationDisplay.from_predictions(
        y_test == "frequent",
        values,
        n_bins=8,
        strategy="quantile",
        name=name,
        color=color,
        ax=axes[1],
    )
axes[1].set(
    title="Calibration",
    xlabel="predicted probability of a frequent patient",
    ylabel="share of frequent patients",
)

importance = plain.permutation_importance(X, y, scoring="neg_log_loss", random_state=0)
order = np.argsort(importance.importances_mean)
axes[2].barh(
    table.columns[order],
    importance.importances_mean[order],
    xerr=importance.importances_std[order],
    color=BLUE,
)
axes[2].set(title="Importance of the columns", xlabel="increase of the log loss")
axes[2].locator_params(axis="x", nbins=4)
plt.show()
