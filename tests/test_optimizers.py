"""Does every optimizer make the published steps, also block by block and member by member?

The published updates are written out naively, on whole arrays, with a temporary for each term.
"""

import numpy as np
import pytest

from skbackprop.core import arrays, optimizers
from skbackprop.core.optimizers import OPTIMIZERS, SGD, Adam, Optimizer
from stacks import DTYPES, assert_same_bits, per_member, public_kinds, variants, without_formula

VARIANTS = variants(OPTIMIZERS)
N_STEPS = 20
FACTORS = [1.0, 0.5, 0.9, 0.0, 0.75]  # per-member hyperparameters, as shares of the default
RATES = np.array([[0.1], [0.02], [0.03], [0.5], [0.001]])

every_variant = pytest.mark.parametrize("optimizer", VARIANTS.values(), ids=VARIANTS)


def problem(n_members=1, n_parameters=30, dtype=np.float64):
    """Return parameters, and the gradient of a quadratic whose curvatures span two decades."""
    curvature = np.geomspace(0.05, 5, n_parameters, dtype=dtype)
    theta = np.random.RandomState(0).normal(size=(n_members, n_parameters)).astype(dtype)
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


# ------------------------------------------------------------------ the published updates


@pytest.mark.parametrize(
    "nesterovs_momentum, expected",
    [
        # v = 0 - 0.1 * 2 = -0.2, then v = 0.5 * -0.2 - 0.1 * 4 = -0.5.
        (False, [1 - 0.2, 1 - 0.2 - 0.5]),
        # The step is 0.5 * -0.2 - 0.1 * 2 = -0.3, then 0.5 * -0.5 - 0.1 * 4 = -0.65.
        (True, [1 - 0.3, 1 - 0.3 - 0.65]),
    ],
)
def test_first_steps_of_sgd_worked_by_hand(nesterovs_momentum, expected):
    optimizer = SGD(momentum=0.5, nesterovs_momentum=nesterovs_momentum)
    theta = np.array([[1.0]])
    state = optimizer.init(theta)
    for slope, value in zip([2.0, 4.0], expected, strict=True):
        optimizer.step(theta, np.array([[slope]]), state, 0.1)
        assert theta.item() == pytest.approx(value, rel=1e-15)


def test_first_steps_of_adam_worked_by_hand():
    optimizer = Adam(beta_1=0.5, beta_2=0.75, epsilon=1.0)
    theta = np.array([[1.0]])
    state = optimizer.init(theta)
    # m = 1, v = 1, and sqrt(1 - 0.75) / (1 - 0.5) = 1: the step is 0.1 * 1 / (1 + 1).
    optimizer.step(theta, np.array([[2.0]]), state, 0.1)
    assert theta.item() == pytest.approx(1 - 0.05, rel=1e-15)
    # m = 0.5 + 2, v = 0.75 + 4, and the correction is sqrt(1 - 0.5625) / (1 - 0.25).
    optimizer.step(theta, np.array([[4.0]]), state, 0.1)
    step = 0.1 * np.sqrt(0.4375) / 0.75 * 2.5 / (np.sqrt(4.75) + 1)
    assert theta.item() == pytest.approx(1 - 0.05 - step, rel=1e-15)


def test_sgd_without_momentum_is_gradient_descent():
    theta, gradient = problem()
    expected = theta.copy()
    for _ in range(N_STEPS):
        expected = expected - 0.1 * gradient(expected)
    for nesterovs_momentum in (False, True):
        got, _ = trained(SGD(0.0, nesterovs_momentum), theta, gradient, 0.1)
        np.testing.assert_allclose(got, expected, rtol=1e-13)


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_classical_momentum_is_that_of_sutskever(momentum):
    """Equations 1 and 2 of Sutskever et al. (2013)."""
    theta, gradient = problem()
    expected, velocity = theta.copy(), np.zeros_like(theta)
    for _ in range(N_STEPS):
        velocity = momentum * velocity - 0.1 * gradient(expected)
        expected = expected + velocity
    got, state = trained(SGD(momentum, nesterovs_momentum=False), theta, gradient, 0.1)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(state["velocity"], velocity, rtol=1e-12, atol=1e-14)


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


@pytest.mark.parametrize(
    "beta_1, beta_2, epsilon", [(0.9, 0.999, 1e-8), (0.5, 0.7, 0.1), (0.0, 0.0, 1e-3)]
)
def test_adam_is_that_of_kingma_and_ba(beta_1, beta_2, epsilon):
    """Algorithm 1, in the order of section 2: epsilon is added before the bias is corrected."""
    theta, gradient = problem()
    expected, m, v = theta.copy(), np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, N_STEPS + 1):
        g = gradient(expected)
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        rate = 0.05 * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        expected = expected - rate * m / (np.sqrt(v) + epsilon)
    got, state = trained(Adam(beta_1, beta_2, epsilon), theta, gradient, 0.05)
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(state["first_moment"] * (1 - beta_1), m, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(state["second_moment"] * (1 - beta_2), v, rtol=1e-11, atol=1e-13)


@every_variant
def test_a_quadratic_is_minimised(optimizer):
    theta, gradient = problem()
    got, _ = trained(optimizer, theta, gradient, 0.02, n_steps=2000)
    assert np.abs(got).max() < 1e-2 * np.abs(theta).max()


# ---------------------------------------------------------------------------- contracts


@pytest.mark.parametrize("dtype", DTYPES)
@every_variant
def test_state_is_arrays_with_a_row_for_every_member(optimizer, dtype):
    theta, gradient = problem(3, dtype=dtype)
    got, state = trained(optimizer, theta, gradient, 0.01)
    assert got.dtype == dtype
    fresh = optimizer.init(theta)
    assert fresh.keys() == state.keys()
    for name, array in state.items():
        assert isinstance(array, np.ndarray), name
        assert len(array) == 3, name
        assert array.dtype == fresh[name].dtype, name
        assert array.shape == fresh[name].shape, name


@every_variant
def test_a_step_works_in_place_on_views_of_a_larger_stack(optimizer):
    theta, gradient = problem(3)
    expected, expected_state = trained(optimizer, theta[1:], gradient, 0.01)
    whole, state = theta.copy(), optimizer.init(theta)
    part = {name: array[1:] for name, array in state.items()}
    for _ in range(N_STEPS):
        optimizer.step(whole[1:], gradient(whole[1:]), part, 0.01)
    assert_same_bits(whole[1:], expected)
    assert_same_bits(whole[0], theta[0])
    for name, array in expected_state.items():
        assert_same_bits(state[name][1:], array, name)


@pytest.mark.parametrize("dtype", DTYPES)
@every_variant
def test_a_member_with_settings_of_its_own_equals_the_member_alone(optimizer, dtype):
    theta, gradient = problem(len(FACTORS), dtype=dtype)
    stacked, state = trained(per_member(optimizer, FACTORS), theta, gradient, RATES)
    for i, factor in enumerate(FACTORS):
        own = slice(i, i + 1)
        alone, own_state = trained(
            per_member(optimizer, [factor]), theta[own], gradient, RATES[i].item()
        )
        assert_same_bits(stacked[own], alone, f"member {i}")
        for name, array in own_state.items():
            assert_same_bits(state[name][own], array, f"{name} of member {i}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "factors", [[1.0] * 5, FACTORS], ids=["one setting", "settings of its own"]
)
@every_variant
def test_a_member_with_steps_behind_it_equals_the_member_alone(optimizer, factors, dtype):
    """Members that have made different numbers of steps go on together."""
    theta, gradient = problem(len(factors), dtype=dtype)
    own = [per_member(optimizer, [factor]) for factor in factors]
    alone = [
        trained(own[i], theta[i : i + 1], gradient, RATES[i].item(), n_steps=3 * i)
        for i in range(len(factors))
    ]
    together = optimizer if factors[0] == factors[1] else per_member(optimizer, factors)
    stacked = np.concatenate([theta for theta, _ in alone])
    state = {name: np.concatenate([s[name] for _, s in alone]) for name in alone[0][1]}
    for _ in range(N_STEPS):
        together.step(stacked, gradient(stacked), state, RATES)
        for i, (own_theta, own_state) in enumerate(alone):
            own[i].step(own_theta, gradient(own_theta), own_state, RATES[i].item())
    for i, (own_theta, own_state) in enumerate(alone):
        assert_same_bits(stacked[i : i + 1], own_theta, f"member {i}")
        for name, array in own_state.items():
            assert_same_bits(state[name][i : i + 1], array, f"{name} of member {i}")


@pytest.mark.parametrize("n_members", [2, 9, 40])
def test_the_powers_of_adam_do_not_depend_on_the_size_of_the_stack(n_members):
    """NumPy's would: what is left over from whole vectors is computed in another way."""
    theta, gradient = problem(1)
    _, state = trained(Adam(), theta, gradient, 0.05, n_steps=7)
    for beta_1 in np.linspace(0.1, 0.95, 12).tolist():
        alone, stacked = theta.copy(), np.repeat(theta, n_members, axis=0)
        Adam(beta_1).step(alone, gradient(alone), {k: v.copy() for k, v in state.items()}, 0.05)
        of_members = {k: np.repeat(v, n_members, axis=0) for k, v in state.items()}
        optimizer = Adam(np.full((n_members, 1), beta_1))
        optimizer.step(stacked, gradient(stacked), of_members, 0.05)
        assert_same_bits(stacked, np.repeat(alone, n_members, axis=0))


@pytest.mark.parametrize("n_members", [1, 3])
@every_variant
def test_steps_in_blocks_are_those_at_once(optimizer, n_members, monkeypatch):
    theta, gradient = problem(n_members)
    optimizer = per_member(optimizer, FACTORS[:n_members])
    expected, expected_state = trained(optimizer, theta, gradient, 0.01)
    monkeypatch.setattr(arrays, "BLOCK", 7)
    got, state = trained(optimizer, theta, gradient, 0.01)
    assert_same_bits(got, expected)
    for name, array in expected_state.items():
        assert_same_bits(state[name], array, name)


@pytest.mark.parametrize("method", ["init", "step"])
def test_an_unfinished_optimizer_says_what_it_has_to_define(method):
    class Unfinished(Optimizer):
        pass

    arguments = [np.ones((1, 2))] * (1 if method == "init" else 4)
    with pytest.raises(NotImplementedError, match=rf"Unfinished has to define {method}\("):
        getattr(Unfinished(), method)(*arguments)
