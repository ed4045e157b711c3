"""Contract of all optimizers: published updates, state, blocks of memory and members of a stack.

To test a new optimizer, add its oracle under its name in `ORACLES`.
"""

from dataclasses import replace

import numpy as np
import pytest

from skbackprop import BackpropRegressor, optimizers
from skbackprop.optimizers import LBFGS, OPTIMIZERS, SGD, Adam, AdamW, NAdam, Optimizer
from skbackprop.utils import arrays
from support import few_epochs
from support.stacks import assert_same_bits, per_member, public_kinds, variants, without_formula

VARIANTS = variants(OPTIMIZERS)
N_STEPS = 20
FACTORS = [1.0, 0.5, 0.9, 0.1, 0.75]  # per-member hyperparameters, as shares of the default
RATES = np.array([[0.1], [0.02], [0.03], [0.5], [0.001]])


def sgd(t, g, memory, momentum, nesterovs_momentum):
    """Sutskever et al. (2013), section 2, for a constant learning rate."""
    u = memory["u"] = momentum * memory.get("u", 0) + g
    return momentum * u + g if nesterovs_momentum else u


def adam(t, g, memory, beta_1, beta_2, epsilon):
    """Kingma & Ba (2015), algorithm 1 in the form of section 2: epsilon comes first."""
    m = memory["m"] = beta_1 * memory.get("m", 0) + (1 - beta_1) * g
    v = memory["v"] = beta_2 * memory.get("v", 0) + (1 - beta_2) * g**2
    return np.sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (np.sqrt(v) + epsilon)


def adamw(t, g, memory, beta_1, beta_2, epsilon, weight_decay):
    """Loshchilov & Hutter (2019), algorithm 2; the decay is added to the step by the test."""
    return adam(t, g, memory, beta_1, beta_2, epsilon)


def nadam(t, g, memory, beta_1, beta_2, epsilon):
    """Dozat (2016), algorithm 2, with a constant momentum and Adam's second moment."""
    adam(t, g, memory, beta_1, beta_2, epsilon)
    ahead = beta_1 * memory["m"] / (1 - beta_1 ** (t + 1)) + (1 - beta_1) * g / (1 - beta_1**t)
    return np.sqrt(1 - beta_2**t) * ahead / (np.sqrt(memory["v"]) + epsilon)


def amsgrad(t, g, memory, beta_1, beta_2, epsilon):
    """Reddi et al. (2018), algorithm 2, with Adam's corrections."""
    adam(t, g, memory, beta_1, beta_2, epsilon)
    largest = memory["largest"] = np.maximum(memory.get("largest", 0), memory["v"])
    correction = np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    return correction * memory["m"] / (np.sqrt(largest) + epsilon)


def rmsprop(t, g, memory, rho, epsilon):
    """Tieleman & Hinton (2012), lecture 6.5."""
    v = memory["v"] = rho * memory.get("v", 0) + (1 - rho) * g**2
    return g / (np.sqrt(v) + epsilon)


def adagrad(t, g, memory, epsilon):
    """Duchi et al. (2011), figure 1."""
    s = memory["s"] = memory.get("s", 0) + g**2
    return g / (np.sqrt(s) + epsilon)


ORACLES = {
    **{"sgd": sgd, "adam": adam, "adamw": adamw, "nadam": nadam},
    **{"amsgrad": amsgrad, "rmsprop": rmsprop, "adagrad": adagrad},
}
every_variant = pytest.mark.parametrize("optimizer", VARIANTS.values(), ids=VARIANTS)


def oracle_for(optimizer):
    """Return the published step of an optimizer, relative to the learning rate."""
    (name,) = (name for name, kind in OPTIMIZERS.items() if kind is type(optimizer))
    return ORACLES[name]


def problem(n_estimators=1, n_parameters=30, dtype=np.float64):
    """Return parameters, and the gradient of a quadratic whose curvatures span two decades."""
    curvature = np.geomspace(0.05, 5, n_parameters, dtype=dtype)
    theta = np.random.RandomState(0).normal(size=(n_estimators, n_parameters)).astype(dtype)
    return theta, lambda theta: curvature * theta


def trained(optimizer, theta, gradient, rate, n_steps=N_STEPS):
    """Return the parameters after some steps, and the optimizer's state."""
    theta = theta.copy()
    state = optimizer.init(theta)
    for _ in range(n_steps):
        optimizer.step(theta, gradient(theta), state, rate)
    return theta, state


def test_table_is_complete_and_every_docstring_has_a_formula():
    kinds = public_kinds(optimizers, Optimizer)
    assert kinds == set(OPTIMIZERS.values())
    assert without_formula(kinds) == set()


@pytest.mark.parametrize("name", ["max_fun", "n_corrections"])
def test_settings_of_lbfgs_are_counts(name):
    for value in (0, -5, 2.5, True, None, "10"):
        with pytest.raises(ValueError, match=f"{name} of LBFGS must be an int of at least 1, got"):
            LBFGS(**{name: value})
    assert LBFGS(**{name: np.int64(3)}) == LBFGS(**{name: 3})


# ------------------------------------------------------------------ the published updates

N_WEIGHTS = 20  # of the parameters, the others are biases


LARGE_EPSILON = [
    replace(each, epsilon=0.1) for each in VARIANTS.values() if hasattr(each, "epsilon")
]


@pytest.mark.parametrize("optimizer", [*VARIANTS.values(), *LARGE_EPSILON], ids=repr)
def test_members_make_the_published_steps(optimizer):
    theta, gradient = problem(len(FACTORS))
    published, stacked = oracle_for(optimizer), per_member(optimizer, FACTORS)
    got, state = theta.copy(), stacked.init(theta)
    for _ in range(N_STEPS):
        g = gradient(got)
        stacked.decay(got[:, :N_WEIGHTS], RATES)
        stacked.step(got, g, state, RATES)
    for i, (factor, rate) in enumerate(zip(FACTORS, RATES.ravel(), strict=True)):
        settings, memory, x = vars(per_member(optimizer, [factor])), {}, theta[i]
        decay = settings.get("weight_decay", 0.0) * (np.arange(len(x)) < N_WEIGHTS)
        for t in range(1, N_STEPS + 1):
            step = published(t, gradient(x), memory, **settings)
            x = x - rate * (step + decay * x)
        np.testing.assert_allclose(got[i], x, rtol=1e-10, atol=1e-12, err_msg=f"member {i}")


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_nesterovs_momentum_is_that_of_sutskever(momentum):
    """Equations 3 and 4 take the gradient ahead of theta: ahead is what our parameters are."""
    theta, gradient = problem()
    behind, velocity = theta.copy(), np.zeros_like(theta)
    for _ in range(N_STEPS):
        velocity = momentum * velocity - 0.1 * gradient(behind + momentum * velocity)
        behind = behind + velocity
    got, state = trained(SGD(momentum), theta, gradient, 0.1)
    np.testing.assert_allclose(got, behind + momentum * velocity, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(state["velocity"], velocity, rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------------------- contracts


@pytest.mark.parametrize("kind", [Adam, NAdam])
@pytest.mark.parametrize("n_estimators", [2, 9, 40])
def test_the_powers_of_adam_do_not_depend_on_the_size_of_the_stack(n_estimators, kind):
    """NumPy's would: what is left over from whole vectors is computed in another way."""
    theta, gradient = problem(1)
    _, state = trained(kind(), theta, gradient, 0.05, n_steps=7)
    for beta_1 in np.linspace(0.1, 0.95, 12).tolist():
        alone, stacked = theta.copy(), np.repeat(theta, n_estimators, axis=0)
        kind(beta_1).step(alone, gradient(alone), {k: v.copy() for k, v in state.items()}, 0.05)
        of_members = {k: np.repeat(v, n_estimators, axis=0) for k, v in state.items()}
        optimizer = kind(np.full((n_estimators, 1), beta_1))
        optimizer.step(stacked, gradient(stacked), of_members, 0.05)
        assert_same_bits(stacked, np.repeat(alone, n_estimators, axis=0))


@pytest.mark.parametrize("n_estimators", [1, 3])
@every_variant
def test_steps_in_blocks_are_those_at_once(optimizer, n_estimators, monkeypatch):
    theta, gradient = problem(n_estimators)
    optimizer = per_member(optimizer, FACTORS[:n_estimators])
    expected, expected_state = trained(optimizer, theta, gradient, 0.01)
    monkeypatch.setattr(arrays, "BLOCK", 7)
    got, state = trained(optimizer, theta, gradient, 0.01)
    assert_same_bits(got, expected)
    for name, array in expected_state.items():
        assert_same_bits(state[name], array, name)


# --------------------------------------------------------------------- in the estimators


@few_epochs
@pytest.mark.parametrize("n_rows, batch_size", [(40, 10), (40, 5), (80, 10)])
def test_decoupled_decay_depends_on_steps_alone(n_rows, batch_size):
    """Without a gradient, each step keeps 1 - rate * weight_decay of a weight, worked by hand."""
    init = [np.ones((3, 2)), np.full((2, 1), -2.0)], [np.zeros(2), np.array([5.0])]
    model = BackpropRegressor(
        (2,),
        solver=AdamW(weight_decay=0.5),
        learning_rate_init=0.1,
        alpha=0,
        batch_size=batch_size,
        max_iter=1,
        init=init,
    ).fit(np.zeros((n_rows, 3)), np.full(n_rows, 5.0))
    kept = (1 - 0.1 * 0.5) ** (n_rows // batch_size)
    for weights, start in zip(model.coefs_, init[0], strict=True):
        np.testing.assert_allclose(weights, kept * start, rtol=1e-13)
    for biases, start in zip(model.intercepts_, init[1], strict=True):
        np.testing.assert_array_equal(biases, start)
