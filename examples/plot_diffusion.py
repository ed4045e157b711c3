"""
Diffusion model: new points from noise
======================================

A diffusion model learns to remove noise. Training adds noise of a hundred strengths to rows, and a
`BackpropRegressor` predicts the noise from the noisy row and its strength (Ho, Jain & Abbeel 2020).
To draw new rows, start from noise alone, and take a little of the predicted noise away a hundred
times.

The picture shows this for a spiral in the plane. Most of the new points are on
the spiral, and no part of it is left out.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial import KDTree

from skbackprop import BackpropRegressor

# %%
# The model
# ---------
#
# At step t, a noisy row is ``x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise``, where a_t falls from
# nearly one to nearly zero. Ho et al. call it "alpha bar". Training is their algorithm 1, drawing
# is algorithm 2. The network gets t as sines and cosines.

N_STEPS = 100
betas = np.linspace(1e-4, 0.1, N_STEPS)
a = np.cumprod(1 - betas)


def make_input(x, t):
    """Return noisy rows beside features of their steps."""
    angles = np.pi * np.outer(t / N_STEPS, 2.0 ** np.arange(5))
    return np.hstack([x, np.sin(angles), np.cos(angles)]).astype("float32")


def fit_noise(X, rng, n_repeats=20):
    """Return a network that predicts the noise in noisy rows."""
    x_0 = np.repeat(X, n_repeats, axis=0)
    t = rng.integers(N_STEPS, size=len(x_0))
    noise = rng.normal(size=x_0.shape)
    x_t = np.sqrt(a[t])[:, None] * x_0 + np.sqrt(1 - a[t])[:, None] * noise
    network = BackpropRegressor(
        (128, 128, 128),
        "silu",
        learning_rate_init=0.003,
        learning_rate="cosine",
        batch_size=256,
        max_iter=20,
        n_iter_no_change=np.inf,
        random_state=0,
    )
    return network.fit(make_input(x_t, t), noise.astype("float32"))


def draw_rows(network, n, rng):
    """Yield each step and its rows, from noise alone to new rows."""
    x = rng.normal(size=(n, 2))
    yield N_STEPS, x
    for t in reversed(range(N_STEPS)):
        noise = network.predict(make_input(x, np.full(n, t)))
        x = (x - betas[t] / np.sqrt(1 - a[t]) * noise) / np.sqrt(1 - betas[t])
        if t > 0:
            x += np.sqrt(betas[t]) * rng.normal(size=x.shape)
        yield t, x


# %%
# A spiral
# --------

rng = np.random.default_rng(0)
angle = 3 * np.pi * np.sqrt(rng.uniform(0.02, 1, 4000))
X = angle[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]) / 5.5
X += 0.03 * rng.normal(size=X.shape)

start = time.perf_counter()
network = fit_noise(X, rng)
print(f"trained on {len(X)} points in {time.perf_counter() - start:.0f} s")
start = time.perf_counter()
steps = dict(draw_rows(network, 4000, rng))
print(f"drew 4000 points in {time.perf_counter() - start:.0f} s")
new = steps[0]
is_near = KDTree(X).query(new)[0] < 0.1
is_covered = KDTree(new).query(X)[0] < 0.1
print(f"new points closer than 0.1 to a training point: {is_near.mean():.1%}")
print(f"training points closer than 0.1 to a new point: {is_covered.mean():.1%}")

figure, axes = plt.subplots(2, 3, figsize=(9, 6), layout="constrained")
pictures = {f"{t} steps to go": steps[t] for t in (100, 20, 10, 4)}
pictures |= {"new points": new, "training points": X}
for ax, (title, points) in zip(axes.flat, pictures.items(), strict=True):
    ax.plot(*points.T, ".", color="gray" if points is X else "#0072B2", markersize=1.5)
    ax.set(title=title, xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xticks=[], yticks=[], aspect="equal")
plt.show()
