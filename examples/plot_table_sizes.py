"""
Tables of a thousand to a million rows
======================================

A synthetic table of twelve numbers and eight columns of categories, whose true probabilities are
known. The left plot shows how far the log loss of each model is above its least possible value, the
right plot the processor time of the fit. The tabular classifier has its defaults at 1,000 and
10,000 rows, and trains two networks for six epochs at 100,000 rows and for one at a million. The
figures are stored here; ``python -m benchmarks.large_tables`` measures them.
"""

import matplotlib.pyplot as plt

# Log loss above the noise floor, and processor seconds, by the number of rows
FIGURES = {
    "TabularClassifier": {
        1_000: (0.1589, 2.9),
        10_000: (0.0476, 14.3),
        100_000: (0.0126, 9.1),
        1_000_000: (0.0180, 25.2),
    },
    "HistGradientBoosting": {
        1_000: (0.2282, 0.2),
        10_000: (0.1237, 0.5),
        100_000: (0.0730, 2.4),
        1_000_000: (0.0558, 24.0),
    },
    "LightGBM": {
        1_000: (0.2161, 0.1),
        10_000: (0.1164, 0.3),
        100_000: (0.0697, 1.7),
        1_000_000: (0.0536, 12.4),
    },
    "CatBoost": {1_000: (0.1214, 7.2), 10_000: (0.0440, 18.9)},
}
COLORS = ["#D55E00", "#0072B2", "#009E73", "#CC79A7"]

figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for (name, by_rows), color in zip(FIGURES.items(), COLORS, strict=True):
    for ax, values in zip(axes, zip(*by_rows.values(), strict=True), strict=True):
        ax.plot(list(by_rows), values, "o-", color=color, label=name)
    print(f"{name}: {by_rows[max(by_rows)][0]:.3f} above the floor at {max(by_rows):,} rows")
for ax, label in zip(axes, ["log loss above the floor", "processor seconds"], strict=True):
    ax.set(xlabel="rows", xscale="log", yscale="log", ylabel=label)
axes[0].legend()
plt.show()
