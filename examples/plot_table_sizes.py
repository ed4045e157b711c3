"""
Tables of a thousand to a million rows
======================================

A synthetic table of twelve numbers and eight columns of categories, whose true probabilities are
known. The left plot shows how far the log loss of each model is above its least possible value, the
right plot the processor time of the fit. All models have their defaults. The figures are stored
here; ``python -m benchmarks.large_tables`` measures them.
"""

import matplotlib.pyplot as plt

# Log loss above the noise floor, and processor seconds, by the number of rows
FIGURES = {
    "TabularClassifier": {
        1_000: (0.1589, 3.1),
        10_000: (0.0476, 16.1),
        100_000: (0.0115, 113.2),
        1_000_000: (0.0047, 498.3),
    },
    "HistGradientBoosting": {
        1_000: (0.2282, 0.2),
        10_000: (0.1237, 0.4),
        100_000: (0.0730, 2.1),
        1_000_000: (0.0558, 22.2),
    },
    "LightGBM": {
        1_000: (0.2161, 0.1),
        10_000: (0.1164, 0.3),
        100_000: (0.0697, 1.3),
        1_000_000: (0.0536, 11.1),
    },
    "CatBoost": {
        1_000: (0.1214, 4.0),
        10_000: (0.0440, 15.3),
        100_000: (0.0099, 124.8),
        1_000_000: (0.0049, 1665.2),
    },
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
