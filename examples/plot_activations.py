"""
What an activation does, and what it does to a deep network
===========================================================

An activation turns what a unit sums up, z, into what it passes on, f(z). On the way back the error
is multiplied by its derivative, so a layer learns from what the derivatives of all layers above
have left of it.

The upper pictures show the functions and their derivatives. The derivative of the logistic function
is a quarter at most: after eight layers hardly anything is left of an error, and the network below
learns hardly at all. tanh does better, being steep around zero. Relu passes on an error as it
is, or not at all; leaky relu lets a little through below zero. Elu and selu have a tail below zero,
which brings the mean of the outputs nearer to zero. Gelu, silu and mish are smooth all over and dip
below zero before they come up.

The lower picture shows a network of eight hidden layers while it learns the digits with each of
them. What it starts from fits the activation: with ``init="auto"`` the weights are scaled so that a
signal neither vanishes nor explodes on its way through the layers.
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
