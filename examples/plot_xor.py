"""
How often does a small network learn XOR?
=========================================

XOR is true if exactly one of two inputs is. No straight line separates the answers, so a network
needs hidden units. The first part is the program of most introductions to backpropagation: two
hidden units, logistic activations, squared error, and gradient descent over the four rows. It
prints the loss and the learned truth table, and draws both.

How often does that work? An ensemble trains a hundred networks from a hundred random starts.
Some get stuck: a hidden unit saturates, two rows with different targets look the same to the output
unit, and it settles on their mean, 1/2. From every finite point of the loss surface a path leads
down to a loss of zero (Sprinkhuizen-Kuyper & Boers 1999, "The local minima of the error surface of
the 2-2-1 XOR network"), but gradient descent does not find it. More hidden units or another start
help.

The printed loss is the mean over the four rows of half the squared error. Programs that print the
mean squared error show twice this number, and take the same steps at half the learning rate.
Programs that add up the four gradients do so at a quarter of it.
"""

import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import PercentFormatter

from skbackprop import BackpropClassifier

X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
y = np.array([0, 1, 1, 0])

LEARNING_RATE = 5.0
N_EPOCHS = 10_000
N_STARTS = 100
WIDTHS = (2, 3, 4, 8)  # hidden units
SOLVED = 0.1**2 / 2  # the loss where the root of the mean squared error is 0.1

# ------------------------------------------------------------------ the classic program


def train(n_units: int, n_starts: int = 1) -> BackpropClassifier:
    """Return a network of some hidden units, or an ensemble of such from several random starts."""
    network = BackpropClassifier(
        hidden_layer_sizes=(n_units,),
        activation="logistic",
        loss="brier",
        solver="sgd",
        momentum=0.0,
        learning_rate_init=LEARNING_RATE,
        batch_size=len(X),  # all rows in every step
        shuffle=False,
        alpha=0.0,  # no penalty on the weights
        max_iter=N_EPOCHS,
        n_iter_no_change=np.inf,  # this many epochs, whatever happens
        n_estimators=n_starts,
        random_state=0,
    )
    return network.fit(X, y)


def print_classic(network: BackpropClassifier) -> None:
    for epoch in range(1_000, N_EPOCHS + 1, 1_000):
        print(f"Epoch {epoch}, Loss: {network.loss_curve_[epoch - 1]:.6f}")
    print("\n  x1  x2   target   output")
    for row, target, output in zip(X, y, network.predict_proba(X)[:, 1], strict=True):
        print(f"{row[0]:4.0f}{row[1]:4.0f}{target:9d}{output:9.3f}")


# -------------------------------------------------------------------- a hundred starts


def print_starts(n_units: int, losses: np.ndarray, seconds: float) -> None:
    stuck = losses[-1] >= SOLVED
    levels = zip(*np.unique(losses[-1, stuck].round(3), return_counts=True), strict=True)
    where = ", ".join(f"{count} at loss {level}" for level, count in levels)
    print(f"{n_units:8d}{(~stuck).sum():11d}{stuck.sum():9d}{seconds:9.1f} s   {where}".rstrip())


# -------------------------------------------------------------------------- the pictures

# Two colors that everyone can tell apart: of target and output 0, and of 1.
ZERO, ONE = "#0072B2", "#D55E00"
FROM_ZERO_TO_ONE = LinearSegmentedColormap.from_list("output", [ZERO, "white", ONE])
STYLE = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
GRID = np.linspace(-0.25, 1.25, 121)
PLANE = np.stack(np.meshgrid(GRID, GRID), axis=-1).reshape(-1, 2)


def draw_surface(axes, plane_outputs: np.ndarray, outputs: np.ndarray, title: str) -> None:
    """Draw a network's output over the plane, the line where it is 1/2, and the four rows."""
    surface = plane_outputs.reshape(len(GRID), len(GRID))
    levels = np.linspace(0, 1, 41)
    filled = axes.contourf(GRID, GRID, surface, levels, cmap=FROM_ZERO_TO_ONE)
    axes.contour(GRID, GRID, surface, [0.5], colors="black", linestyles="--", linewidths=1.2)
    for target, color, marker in ((0, ZERO, "o"), (1, ONE, "s")):
        points = X[y == target]
        axes.scatter(
            *points.T, s=150, c=color, marker=marker, edgecolors="black", linewidths=1.5, zorder=3,
            label=f"target {target}",
        )  # fmt: skip
    for row, output in zip(X, outputs, strict=True):
        axes.annotate(
            f"{output:.2f}", row, (0, 13), textcoords="offset points", ha="center", va="bottom",
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip
    ticks = [0, 0.5, 1]
    axes.set(
        xlabel="$x_1$", ylabel="$x_2$", title=title, xticks=ticks, yticks=ticks, aspect="equal"
    )
    bar = axes.figure.colorbar(filled, ax=axes, ticks=ticks, shrink=0.8)
    bar.set_label("output (dashed: 1/2)")


def draw_classic(network: BackpropClassifier):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.4))
    plane_outputs, outputs = (network.predict_proba(rows)[:, 1] for rows in (PLANE, X))
    draw_surface(left, plane_outputs, outputs, "What two hidden units learned")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
    epochs = np.arange(1, N_EPOCHS + 1)
    right.loglog(epochs, network.loss_curve_, color=ZERO, linewidth=2)
    right.axhline(1 / 8, color="gray", linestyle=":", label="always 1/2: loss 1/8")
    right.set(xlabel="epoch", ylabel="loss: half the squared error", title="Training loss")
    right.grid(alpha=0.3)
    right.legend(loc="lower left", frameon=False)
    return figure


def draw_starts(ensemble: BackpropClassifier, losses: dict[int, np.ndarray]):
    """Draw the losses of two hidden units, a network that is stuck, and how each width fares."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14.5, 4.4))
    epochs = np.arange(1, N_EPOCHS + 1)
    solved = losses[2][-1] < SOLVED
    for chosen, color, name in ((solved, ZERO, "solved"), (~solved, ONE, "stuck")):
        if chosen.any():
            lines = left.loglog(epochs, losses[2][:, chosen], color=color, alpha=0.4, linewidth=1)
            lines[0].set_label(f"{name}: {chosen.sum()}")
    left.axhline(1 / 16, color="black", linestyle=":", label="two rows get their mean: 1/16")
    left.set(xlabel="epoch", ylabel="loss", title=f"Two hidden units from {N_STARTS} random starts")
    left.grid(alpha=0.3)
    for handle in left.legend(loc="lower left", frameon=False).legend_handles:
        handle.set(alpha=1, linewidth=2)

    i = int(np.argmax(~solved))  # the first that is stuck
    stuck = ensemble.estimators_[i]
    plane_outputs, outputs = (stuck.predict_proba(rows)[:, 1] for rows in (PLANE, X))
    draw_surface(middle, plane_outputs, outputs, f"Start {i}, stuck: loss {losses[2][-1, i]:.4f}")

    styles = zip(losses, (ONE, "#009E73", "#56B4E9", "black"), ("-", "--", "-.", ":"), strict=True)
    for n_units, color, style in styles:
        share = (losses[n_units] < SOLVED).mean(axis=1)
        right.semilogx(epochs, share, style, color=color, linewidth=2, label=f"{n_units} units")
    right.yaxis.set_major_formatter(PercentFormatter(1))
    right.set(
        xlabel="epoch",
        ylabel="starts solved",
        title="More units: fewer stuck networks",
        xlim=(50, N_EPOCHS),
    )
    right.grid(alpha=0.3)
    right.legend(loc="lower right", frameon=False)
    return figure


# ------------------------------------------------------------------------------ all of it


def main(folder: Path | str | None = None) -> None:
    """Run the program; save its pictures in `folder`, or show them where none is given."""
    print(f"Two hidden units, learning rate {LEARNING_RATE:g}, from one random start:")
    start = time.perf_counter()
    network = train(n_units=2)
    seconds = time.perf_counter() - start
    print_classic(network)

    print(f"\nThe same from {N_STARTS} random starts, all trained at once, and with more units:")
    print("   units     solved    stuck       time")
    ensembles, losses = {}, {}
    for n_units in WIDTHS:
        start = time.perf_counter()
        ensembles[n_units] = train(n_units, N_STARTS)
        losses[n_units] = np.transpose(ensembles[n_units].loss_curve_)  # by epoch and start
        print_starts(n_units, losses[n_units], time.perf_counter() - start)
    is_same = np.array_equal(ensembles[2].coefs_[0][0], network.coefs_[0])
    print(f"The network above took {seconds:.1f} s alone; start 0 equals it to the bit: {is_same}")
    share = (losses[2][-1] >= SOLVED).mean()
    print(
        f"A start of two units gets stuck with a chance of {share:.0%},\n"
        f"both of two starts with {share**2:.1%}, all of three with {share**3:.2%}."
    )

    with plt.rc_context(STYLE):
        figures = {"xor": draw_classic(network), "xor-starts": draw_starts(ensembles[2], losses)}
    if folder is None:
        plt.show()
        return
    for name, figure in figures.items():
        path = Path(folder) / f"{name}.png"
        figure.savefig(path)
        plt.close(figure)
        print(f"  picture: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
