"""
GAN: does it find all modes?
============================

`partial_fit` and `input_gradient` are enough, in a loop of a few lines. A generative adversarial
network (Goodfellow et al. 2014) is two networks. The generator G turns random numbers z into rows.
The discriminator D tells these rows from real ones. Each learns from the other's mistakes:

- The discriminator is a `BackpropClassifier`, trained by `partial_fit` on real and generated rows.
- The generator is a `BackpropRegressor`. It minimizes the loss -log D(G(z)), whose gradient with
  respect to a generated row x is -(1 - D(x)) times the gradient of the discriminator's score, which
  `input_gradient` returns. The class `FollowGradient` below makes a loss of such a gradient.

The first picture shows a ring of eight normal distributions. The generator leaves some of them out,
unless noise is added to real and generated rows, and decreases to zero (Arjovsky & Bottou 2017,
section 3). The second picture shows generated digits.
"""

import time
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.losses import IDENTITY_LINK, Loss
from skbackprop.optimizers import Adam


@dataclass(frozen=True)
class FollowGradient(Loss):
    """loss = sum(prediction * y): its gradient is the target y."""

    link = IDENTITY_LINK

    def value(self, raw_prediction, y):
        return (raw_prediction * y).sum(axis=-1)

    def gradient(self, raw_prediction, y, out):
        out[...] = y


rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape, dtype="float32")


def train(draw_real, n_latent, discriminator_sizes, generator_sizes, n_steps, rate, noise, n=128):
    """Return generated rows at three times of the training, by step."""
    settings = {
        "solver": Adam(0.5, 0.9),
        "learning_rate": "cosine",
        "learning_rate_init": rate,
        "max_iter": n_steps + n_steps // 10,  # steps until the learning rate is zero
        "alpha": 0.0,
        "batch_size": 2 * n,
        "random_state": 0,
    }
    discriminator = BackpropClassifier(discriminator_sizes, "leaky_relu", **settings)
    generator = BackpropRegressor(generator_sizes, loss=FollowGradient(), **settings)
    is_real = np.repeat([1, 0], n)
    generator.partial_fit(normal(n, n_latent), np.zeros_like(draw_real(n)))
    snapshots = {}
    for step in range(1, n_steps + 1):
        scale = np.float32(noise * max(0.0, 1 - 1.5 * step / n_steps))
        z, real = normal(n, n_latent), draw_real(n)
        generated = generator.predict(z)
        rows = np.vstack([real, generated]) + scale * normal(2 * n, real.shape[1])
        discriminator.partial_fit(rows, is_real, classes=[0, 1])
        probability_generated = discriminator.predict_proba(rows[n:])[:, :1]
        generator.partial_fit(z, -probability_generated * discriminator.input_gradient(rows[n:]))
        if step in (n_steps // 6, n_steps // 3, n_steps):
            snapshots[step] = generator.predict(normal(2000, n_latent))
    return snapshots


# %%
# Are all eight modes found?
# --------------------------

angles = 2 * np.pi * np.arange(8) / 8
centers = 2 * np.column_stack([np.cos(angles), np.sin(angles)]).astype("float32")


def draw_ring(n):
    return centers[rng.integers(8, size=n)] + np.float32(0.05) * normal(n, 2)


figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
print("noise   rows near a mode   rows at each mode                 seconds")
for ax, noise in zip(axes, (0.0, 0.5), strict=False):
    start = time.perf_counter()
    rows = train(draw_ring, 2, (64, 64), (64, 64), 2400, rate=0.003, noise=noise)[2400]
    seconds = time.perf_counter() - start
    distances = np.linalg.norm(rows[:, None] - centers, axis=2)
    is_near = distances.min(axis=1) < 0.2  # four standard deviations
    counts = np.bincount(distances.argmin(axis=1)[is_near], minlength=8)
    each = " ".join(f"{count:3d}" for count in counts)
    print(f"{noise:5.1f}{is_near.mean():19.0%}   {each}{seconds:11.0f}")
    ax.plot(*rows.T, ".", color="#0072B2", markersize=2, alpha=0.5)
    ax.set_title(f"{'with' if noise else 'without'} noise: {(counts >= 20).sum()} of 8 modes")
axes[2].plot(*draw_ring(2000).T, ".", color="gray", markersize=2, alpha=0.5)
axes[2].set_title("real")
for ax in axes:
    ax.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
plt.show()

# %%
# Digits
# ------
#
# The same function, with 16 random numbers for each digit of 8 x 8 pixels. A classifier that is
# trained on real digits tells which ones the generator makes.

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32")
judge = BackpropClassifier((64,), max_iter=30, n_iter_no_change=np.inf, random_state=0)
judge.fit(images, labels)

start = time.perf_counter()
snapshots = train(
    lambda n: images[rng.integers(len(images), size=n)],
    *(16, (128, 128), (128, 128)),
    n_steps=1800,
    rate=0.002,
    noise=0.2,
    n=64,
)
print(f"{time.perf_counter() - start:.0f} s for 1800 steps")
print("step   generated digits: share of 0, 1, ..., 9")
figure, axes = plt.subplots(1, 4, figsize=(11, 2.5), layout="constrained")
for step, rows in snapshots.items():
    shares = np.bincount(judge.predict(rows), minlength=10) / len(rows)
    print(f"{step:4d}   {' '.join(f'{share:4.0%}' for share in shares)}")
pictures = {f"{step} steps": np.clip(rows, 0, 1) for step, rows in snapshots.items()}
for ax, (title, rows) in zip(axes, (pictures | {"real": images}).items(), strict=True):
    framed = np.pad(rows[:48].reshape(6, 8, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
    ax.imshow(framed.swapaxes(1, 2).reshape(60, 80), cmap="gray_r", vmin=0, vmax=1)
    ax.set(title=title, xticks=[], yticks=[])
plt.show()
