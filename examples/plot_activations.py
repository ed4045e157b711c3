"""
Which activation for a deep network?
====================================

The lower plot answers the question for the digits data: it shows the training loss of a network
with eight hidden layers, for each activation. With the logistic function it does not learn. With
softplus and tanh it learns more slowly than with relu and its relatives.

The upper plots show each activation f(z) and its derivative. Backpropagation multiplies the error
by the derivative in each layer. The derivative of the logistic function is at most 1/4, so after
eight layers hardly any gradient is left: it vanishes. The derivative of tanh is up to 1. Relu
passes the error on unchanged, or not at all; leaky relu also passes a little below zero. Elu and
selu have a negative tail, which keeps the mean of the outputs close to zero. Gelu, silu and mish
are smooth.

The initial weights fit the activation: ``init="auto"`` scales them so that signals neither vanish
nor explode in the first epoch.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier
from skbackprop.activations import ACTIVATIONS

PANELS = [
    ["logistic", "tanh", "softplus"],
    ["relu", "leaky_relu", "elu", "selu"],
    ["gelu", "silu", "mish"],
]
NAMES = [name for panel in PANELS for name in panel]
COLORS = dict(zip(NAMES, plt.colormaps["tab10"].colors, strict=True))
N_LAYERS = 8

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
scaler = StandardScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

figure, axes = plt.subplot_mosaic(
    [["function 0", "function 1", "function 2"], ["slope 0", "slope 1", "slope 2"], ["loss"] * 3],
    figsize=(11, 10),
    height_ratios=[1, 1, 1.6],
    layout="constrained",
)
z = np.linspace(-4, 4, 401)
for i, names in enumerate(PANELS):
    for name in names:
        # An activation writes to the memory that it is given, and its backward pass writes over it.
        f, slope = np.empty_like(z), np.ones_like(z)
        ACTIVATIONS[name].forward(z, f)
        axes[f"function {i}"].plot(z, f, color=COLORS[name], label=name)
        ACTIVATIONS[name].backward(z.copy(), f.copy(), slope)
        axes[f"slope {i}"].plot(z, slope, color=COLORS[name])
    axes[f"function {i}"].set(ylim=(-2, 4), title="f(z)" if i == 1 else "")
    axes[f"function {i}"].legend(fontsize=9, loc="upper left")
    axes[f"slope {i}"].set(ylim=(-0.2, 1.8), title="f'(z)" if i == 1 else "", xlabel="z")

for name, color in COLORS.items():
    network = BackpropClassifier(
        (32,) * N_LAYERS,
        activation=name,
        batch_size=64,
        max_iter=40,
        n_iter_no_change=np.inf,
        dtype="float32",
        random_state=0,
    ).fit(X_train, y_train)
    accuracy = network.score(X_test, y_test)
    print(f"{name:10s} loss {network.loss_:.4f}, accuracy {accuracy:.3f}")
    label = f"{name}: accuracy {accuracy:.3f}"
    axes["loss"].semilogy(range(1, 41), network.loss_curve_, color=color, label=label)
axes["loss"].set(
    xlabel="epoch", ylabel="training loss", title=f"A network of {N_LAYERS} hidden layers"
)
axes["loss"].legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
for each in axes.values():
    each.grid(alpha=0.3)
plt.show()
