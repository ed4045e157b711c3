"""A stack trains each member as if it were alone, in place, and an epoch completely or not at all.

A member of a stack and the same network trained alone have to be equal to the bit. BLAS is limited
to one thread for that: several threads may split a product differently.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_expit

from skbackprop.activations import ACTIVATIONS
from skbackprop.losses import REGRESSOR_LOSSES
from skbackprop.nn.data_loader import Dataset
from skbackprop.nn.network import dense_network
from skbackprop.nn.objective import L2, DivergenceError, Objective
from skbackprop.nn.stack_trainer import StackTrainer
from skbackprop.optimizers import OPTIMIZERS, SGD, Adam
from skbackprop.schedules import SCHEDULES
from skbackprop.testing import check_gradient
from support import grows_by_less
from support.lanes import examples
from support.stacks import (
    DTYPES,
    LOSSES,
    NETWORK,
    Falling,
    Member,
    assert_each_as_alone,
    assert_same_bits,
    crossed,
    five_members,
    interrupt_an_epoch,
    iter_epochs,
    peak_of_an_epoch,
    some_parameters,
    some_table,
    stack_of,
    states_of,
    trained,
    variants,
)

pytestmark = pytest.mark.usefixtures("one_blas_thread")

METHODS, RULES = variants(OPTIMIZERS), variants(SCHEDULES)
LOSS = LOSSES["log_loss-softmax"]
SQUARED_ERROR = REGRESSOR_LOSSES["squared_error"]

every_method = pytest.mark.parametrize("optimizer", METHODS.values(), ids=METHODS)
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
dense_and_sparse = pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
equal_and_weighted = pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])


# ---------------------------------------------------------- each member as if it were alone


@pytest.mark.long
@every_dtype
@dense_and_sparse
@equal_and_weighted
@crossed("loss, optimizer", LOSSES, METHODS)
def test_a_member_of_five_equals_the_network_alone(loss, optimizer, weighted, is_sparse, dtype):
    members = five_members(loss, weighted=weighted, is_sparse=is_sparse)
    assert_each_as_alone(members, 3, NETWORK, loss, optimizer, dtype=dtype)


@pytest.mark.long
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_members_with_schedules_of_their_own(rule):
    members = five_members(LOSS)
    for patience in ("n_iter_no_change", "patience"):
        if hasattr(rule, patience):  # progress is to stall, and the rate to change, soon
            rule = replace(rule, **{"tol": 0.5, patience: 2})
    assert_each_as_alone(members, 12, NETWORK, LOSS, SGD(), schedule=rule)


@every_dtype
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("widths", [(), (1,), (7, 1, 5)], ids=str)
def test_members_of_narrow_networks(widths, n_outputs, dtype):
    """Products with a dimension of one take paths of their own in NumPy."""
    network = dense_network((3, *widths, n_outputs), (ACTIVATIONS["tanh"],) * len(widths))
    members = five_members(SQUARED_ERROR, network)
    assert_each_as_alone(members, 3, network, SQUARED_ERROR, Adam(), dtype=dtype)


@every_dtype
def test_members_with_huge_batches(dtype):
    network = dense_network((2, 3, 1), (ACTIVATIONS["tanh"],))
    members = [
        Member(some_table(SQUARED_ERROR, n, network.widths, weighted=i > 0, seed=i), seed=i)
        for i, n in enumerate([9_000, 17_000, 20_000])
    ]
    arguments = network, SQUARED_ERROR, Adam()
    assert_each_as_alone(members, 2, *arguments, batch_size=9_000, dtype=dtype)


@st.composite
def ragged_stacks(draw):
    lengths = sorted(draw(st.lists(st.integers(1, 30), min_size=2, max_size=5)))
    is_weighted = draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    tables = [
        some_table(SQUARED_ERROR, n, (3, 4, 2), weighted=weighted and n > 1, seed=seed)
        for seed, (n, weighted) in enumerate(zip(lengths, is_weighted, strict=True))
    ]
    alphas = draw(st.sampled_from([[0.0], [0.1], [0.0, 0.3, 1.0]]))
    return [
        Member(table, seed, 0.01 / (seed + 1), alphas[seed % len(alphas)], 1 - 0.1 * seed)
        for seed, table in enumerate(tables)
    ]


@examples(0.6)
@given(
    members=ragged_stacks(),
    batch_size=st.integers(1, 32),
    optimizer=st.sampled_from(list(METHODS.values())),
    dtype=st.sampled_from(DTYPES),
)
def test_members_of_any_length_in_batches_of_any_size(members, batch_size, optimizer, dtype):
    network = dense_network((3, 4, 2), (ACTIVATIONS["relu"],))
    arguments = network, SQUARED_ERROR, optimizer
    assert_each_as_alone(members, 2, *arguments, batch_size=batch_size, dtype=dtype)


@pytest.mark.long
@dense_and_sparse
@equal_and_weighted
@every_method
def test_members_that_leave_half_way_do_not_disturb_the_others(optimizer, weighted, is_sparse):
    members = five_members(LOSS, weighted=weighted, is_sparse=is_sparse)
    arguments = NETWORK, LOSS, optimizer
    stack = stack_of(members, *arguments)
    alone = [stack_of([member], *arguments) for member in members]
    remaining = list(range(5))
    for leaving in ([1, 3], [0, 4], []):
        losses = trained(stack, 2)
        for column, i in enumerate(remaining):
            own = trained(alone[i], 2)[:, 0]
            assert_same_bits(losses[:, column], own, f"losses of member {i}")
            for name, array in states_of(alone[i]).items():
                assert_same_bits(states_of(stack)[name][column : column + 1], array, name)
        stack.drop_members(np.isin(remaining, leaving))
        remaining = [i for i in remaining if i not in leaving]
        assert len(stack) == len(remaining)


# ------------------------------------------------- members that visit the same rows in one order

# For each member whose order and stream it has, by number: neighbors share, or others do.
SHARING = {
    "all": [0, 0, 0, 0],
    "neighbors": [0, 0, 1, 1],
    "some": [0, 1, 1, 2],
    "far": [0, 1, 0, 1],
}
every_sharing = pytest.mark.parametrize("groups", SHARING.values(), ids=SHARING)


def of_groups(groups, arguments, *, is_shared, weighted=False, is_sparse=False, **options):
    """Return a stack whose members of one group have one table, and equal orders and streams.

    Where `is_shared` these are the very same objects.
    """
    tables = [
        some_table(LOSS, 20, NETWORK.widths, weighted=weighted, is_sparse=is_sparse, seed=group)
        for group in range(max(groups) + 1)
    ]
    if weighted:
        tables[0].weight[3:] = 0  # a batch at least weighs nothing
    members = [
        Member(tables[group], seed=i, rate=0.01 * (i + 1), alpha=0.1 * i)
        for i, group in enumerate(groups)
    ]
    orders = [np.random.RandomState(group).permutation(20) for group in groups]
    rngs = [np.random.RandomState(100 + group) for group in groups]
    if is_shared:
        firsts = [groups.index(group) for group in groups]
        orders, rngs = [orders[i] for i in firsts], [rngs[i] for i in firsts]
    stack = stack_of(members, *arguments, **options)
    return replace(stack, state=replace(stack.state, orders=orders, rngs=rngs))


def assert_same_stack(actual, expected):
    """Assert that two stacks are equal in all that training changes."""
    for name, array in states_of(expected).items():
        assert_same_bits(states_of(actual)[name], array, name)
    for got, order in zip(actual.state.orders, expected.state.orders, strict=True):
        np.testing.assert_array_equal(got, order)
    for got, rng in zip(actual.state.rngs, expected.state.rngs, strict=True):
        states = [each and each.get_state(legacy=False) for each in (got, rng)]
        np.testing.assert_equal(*states)


@every_dtype
@dense_and_sparse
@equal_and_weighted
@every_sharing
@every_method
def test_shared_orders_do_what_equal_ones_do(optimizer, groups, weighted, is_sparse, dtype):
    arguments, options = (NETWORK, LOSS, optimizer), {"weighted": weighted, "is_sparse": is_sparse}
    sharing, apart = (
        of_groups(groups, arguments, is_shared=is_shared, dtype=dtype, **options)
        for is_shared in (True, False)
    )
    assert_same_bits(trained(sharing, 3), trained(apart, 3))
    assert_same_stack(sharing, apart)


@dense_and_sparse
@every_sharing
@pytest.mark.parametrize("leaving", [[0], [1, 2], [0, 1, 3]], ids=str)
def test_sharing_members_continue_when_others_leave(leaving, groups, is_sparse):
    arguments, options = (NETWORK, LOSS, Adam()), {"is_sparse": is_sparse, "weighted": True}
    sharing, apart = (
        of_groups(groups, arguments, is_shared=is_shared, **options) for is_shared in (True, False)
    )
    for stack in (sharing, apart):
        trained(stack, 2)
        stack.drop_members(np.isin(range(4), leaving))
    assert_same_bits(trained(sharing, 2), trained(apart, 2))
    assert_same_stack(sharing, apart)


def test_a_shared_order_is_shuffled_and_saved_once():
    stack = of_groups([0, 0, 1, 0], (NETWORK, LOSS, SGD()), is_shared=True)
    expected, rng = np.random.RandomState(0).permutation(20), np.random.RandomState(100)
    trained(stack, 3)
    for _ in range(3):
        rng.shuffle(expected)
    np.testing.assert_array_equal(stack.state.orders[0], expected)
    stack.save()
    # What tells when to stop, and two orders.
    n_arrays = len(states_of(stack)) + len(stack.state.progress) + 2
    assert len(stack._saved["arrays"]) == n_arrays
    assert len(stack._saved["rngs"]) == 2


# ----------------------------------------------------------- what an epoch is, and reports


@every_loss
@dense_and_sparse
@equal_and_weighted
def test_the_reported_loss_belongs_to_the_step(loss, is_sparse, weighted):
    """One full batch at rate 1 without momentum: the step is the gradient of the loss.

    The regressor's losses are reported per target, while the step is that of their sum.
    """
    members = [
        Member(some_table(loss, 12, NETWORK.widths, weighted=weighted, is_sparse=is_sparse, seed=i))
        for i in range(3)
    ]
    members = [Member(m.table, i, rate=1.0, alpha=0.4 * i) for i, m in enumerate(members)]
    totals = [m.table.weight.sum() if weighted else 12 for m in members]
    n_averaged = NETWORK.widths[-1] // loss.n_outputs_per_target if loss.average_over_outputs else 1

    def value_and_gradient(theta):
        stack = stack_of(members, NETWORK, loss, SGD(momentum=0.0), batch_size=12)
        stack.parameters.theta[...] = theta
        squares = [
            (0.4 * i * np.square(w)).sum() for i, w in enumerate(stack.parameters.regularized)
        ]
        penalties = np.divide(squares, totals) / 2
        (losses,) = iter_epochs(stack, 1)
        value = n_averaged * (losses - penalties) + penalties
        return value.sum(), theta - stack.parameters.theta

    start = stack_of(members, NETWORK, loss, SGD()).parameters.theta
    check_gradient(value_and_gradient, start, n_directions=3)


def test_the_loss_of_an_epoch_is_the_mean_over_its_batches_by_weight():
    """Worked from the scores: the penalty is divided by the weight of each batch, as the loss."""
    network, batch_size, alpha = dense_network((4, 2), ()), 8, 0.7
    loss = LOSSES["log_loss-logistic"]
    table = some_table(loss, 20, network.widths, weighted=True)
    table.weight[8:16] = 0
    member = Member(table, rate=0.0, alpha=alpha, is_shuffled=False)
    stack = stack_of([member], network, loss, SGD(), batch_size=batch_size)
    before = stack.parameters.theta.copy()
    (got,) = iter_epochs(stack, 1)
    assert_same_bits(stack.parameters.theta, before)

    W, b = stack.parameters.weights[0][0], stack.parameters.biases[0][0]
    scores = table.X @ W + b
    of_rows = -(table.y * log_expit(scores) + (1 - table.y) * log_expit(-scores)).sum(axis=1)
    penalty = alpha / 2 * (W**2).sum()
    total = 0.0
    for rows in (slice(0, 8), slice(16, 20)):  # the batch between weighs nothing
        weight = table.weight[rows].sum()
        mean = np.average(of_rows[rows], weights=table.weight[rows]) + penalty / weight
        total += weight * mean
    assert got.item() == pytest.approx(total / table.weight.sum(), rel=1e-13)


@every_method
def test_sample_weights_equal_repeated_rows(optimizer):
    """Weight 0 is a row left out, weight 2 a row repeated, in a full batch without a penalty."""
    loss = LOSSES["squared_error-identity"]
    table = some_table(loss, 12, NETWORK.widths)
    repeats = np.arange(12) % 3
    rows = np.repeat(np.arange(12), repeats)
    ends = []
    for own in (Dataset(table.X, table.y, 1.0 * repeats), Dataset(table.X[rows], table.y[rows])):
        stack = stack_of([Member(own)], NETWORK, loss, optimizer, batch_size=12)
        losses = trained(stack, 5)
        ends.append((stack.parameters.theta, losses))
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-9)


@dense_and_sparse
@every_method
def test_skips_batches_of_zero_weight(optimizer, is_sparse):
    table = some_table(LOSS, 16, NETWORK.widths, is_sparse=is_sparse)
    heavy_rows = Dataset(table.X[8:], table.y[8:], np.ones(8))
    weight = np.repeat([0.0, 1.0], 8)
    stacks = [
        stack_of([Member(own, alpha=0.5, is_shuffled=False)], NETWORK, LOSS, optimizer)
        for own in (Dataset(table.X, table.y, weight), heavy_rows)
    ]
    losses = [trained(stack, 3) for stack in stacks]
    assert_same_bits(*losses)
    both = [states_of(stack) for stack in stacks]
    for name in both[0].keys() - {"n_samples_seen"}:
        assert_same_bits(both[0][name], both[1][name], name)


@every_method
def test_epoch_shuffles_with_the_random_state_of_the_member(optimizer):
    members = five_members(LOSS)
    stack = stack_of(members, NETWORK, LOSS, optimizer)
    trained(stack, 3)
    for member, order in zip(members, stack.state.orders, strict=True):
        expected, rng = np.arange(member.table.n_rows), np.random.RandomState(member.seed)
        for _ in range(3 if member.is_shuffled else 0):
            rng.shuffle(expected)
        np.testing.assert_array_equal(expected if order is None else order, expected)
    np.testing.assert_array_equal(
        stack.state.n_samples_seen[:, 0], [3 * m.table.n_rows for m in members]
    )


# --------------------------------------------------------------------------- the contracts


@pytest.mark.long
@equal_and_weighted
@pytest.mark.parametrize("n_estimators", [1, 3])
@crossed("activation, optimizer", ACTIVATIONS, METHODS)
def test_no_allocation_of_an_epoch_grows_with_the_network(
    activation, optimizer, n_estimators, weighted
):
    def peak(width):
        network = dense_network((5, width, width, 2), (activation, activation))
        loss = LOSSES["log_loss-logistic"]
        table = some_table(loss, 300, network.widths, weighted=weighted)
        members = [Member(table, seed, 1e-4, 0.1, 1 - 0.1 * seed) for seed in range(n_estimators)]
        return peak_of_an_epoch(stack_of(members, network, loss, optimizer, batch_size=128))

    # NumPy's own buffers hold up to 8,192 numbers: both networks go beyond them. A batch of 520
    # units more would be 66,560 bytes even as booleans.
    assert grows_by_less(peak, 260, 780, 20_000)


def assert_all_or_nothing(stack, undisturbed):
    """Assert that an interrupted epoch leaves no trace, and can be taken anew."""
    trained(stack, 1), trained(undisturbed, 1)
    interrupt_an_epoch(stack)
    assert_same_stack(stack, undisturbed)
    assert_same_bits(trained(stack, 2), trained(undisturbed, 2))
    assert_same_stack(stack, undisturbed)


@dense_and_sparse
@pytest.mark.parametrize("kind", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_epoch_is_all_or_nothing(kind, is_sparse):
    members = five_members(LOSS, weighted=True, is_sparse=is_sparse)
    assert_all_or_nothing(*(stack_of(members, NETWORK, LOSS, kind()) for _ in range(2)))


@every_sharing
def test_an_epoch_of_those_that_share_is_all_or_nothing(groups):
    arguments = NETWORK, LOSS, Adam()
    assert_all_or_nothing(*(of_groups(groups, arguments, is_shared=True) for _ in range(2)))


@every_method
@pytest.mark.parametrize("n_estimators", [1, 2])
def test_divergence_goes_back_to_the_epoch_before(optimizer, n_estimators):
    table = some_table(SQUARED_ERROR, 20, NETWORK.widths)
    stack = stack_of([Member(table)] * n_estimators, NETWORK, SQUARED_ERROR, optimizer)
    next(iter_epochs(stack, 1))
    before = states_of(stack)
    stack.rate[-1] = 1e300  # one member is enough
    with pytest.raises(DivergenceError) as diverged:
        list(iter_epochs(stack, 50))
    assert diverged.value.members.tolist() == [False] * (n_estimators - 1) + [True]
    for name, array in states_of(stack).items():
        assert np.isfinite(array).all(), name
    assert_same_bits(states_of(stack)["n_samples_seen"], before["n_samples_seen"])
    assert_same_bits(states_of(stack)["theta"], before["theta"])


@pytest.mark.parametrize("n_before", [0, 1, 4])
@every_method
def test_others_continue_from_the_epoch_in_which_one_diverged(optimizer, n_before):
    table = some_table(SQUARED_ERROR, 20, NETWORK.widths)
    members = [Member(table, seed=seed, rate=0.01) for seed in range(3)]
    arguments = NETWORK, SQUARED_ERROR, optimizer
    stack = stack_of(members, *arguments, schedule=Falling())
    epochs, losses = iter_epochs(stack, 6), []
    for _ in range(n_before):
        losses.append(next(epochs)[[0, 2]])
    stack.parameters.theta[1] = 1e300
    with pytest.raises(DivergenceError) as diverged:
        next(epochs)
    stack.drop_members(diverged.value.members)
    losses += list(iter_epochs(stack, 6, n_before))
    for i, member in enumerate(members[::2]):
        alone = stack_of([member], *arguments, schedule=Falling())
        assert_same_bits(np.array(losses)[:, i], np.ravel(list(iter_epochs(alone, 6))))
        for name, array in states_of(alone).items():
            assert_same_bits(states_of(stack)[name][i : i + 1], array, name)
        assert_same_bits(stack.state.orders[i], alone.state.orders[0])


def test_a_stack_keeps_at_least_one_member():
    stack = stack_of([Member(some_table(LOSS, 8, NETWORK.widths))], NETWORK, LOSS, SGD())
    with pytest.raises(ValueError, match="All members have finished"):
        stack.drop_members(np.array([True]))


@pytest.mark.parametrize("batch_size", [None, 3, 100])
def test_a_stack_started_by_its_parts_equals_one_put_together(batch_size):
    tables = [some_table(LOSS, n, NETWORK.widths, seed=n) for n in (5, 8)]
    members = [Member(table, seed=seed, rate=0.1) for seed, table in enumerate(tables)]
    together = stack_of(members, NETWORK, LOSS, SGD(), batch_size=batch_size or 8)
    started = StackTrainer.start(
        Objective(NETWORK, LOSS, L2(0.0)),
        some_parameters(NETWORK, [0, 1]),
        tables,
        optimizer=SGD(),
        rate=0.1,
        batch_size=batch_size,
        rngs=[np.random.RandomState(0), np.random.RandomState(1)],
    )
    assert_same_bits(trained(started, 3), trained(together, 3))


def test_parameters_of_a_large_but_finite_sum_have_not_diverged():
    stack = stack_of([Member(some_table(LOSS, 8, NETWORK.widths))], NETWORK, LOSS, SGD())
    stack.parameters.theta[...] = 1e308
    with np.errstate(over="ignore"):
        assert stack.is_finite()
        stack.parameters.theta[0, -1] = np.nan
        assert not stack.is_finite()


@every_dtype
def test_subnormal_numbers_become_zero_and_no_others_change(dtype):
    table = some_table(SQUARED_ERROR, 8, NETWORK.widths)
    stack = stack_of([Member(table), Member(table)], NETWORK, SQUARED_ERROR, Adam(), dtype=dtype)
    kept = np.array([0, 1, -2.5, np.finfo(dtype).smallest_normal, np.nan, -np.inf], dtype)
    subnormal = np.array([np.finfo(dtype).smallest_subnormal, -kept[3] / 2], dtype)
    arrays = [stack.parameters.theta, *stack.state.optimizer.values()]
    floats = [array for array in arrays if array.dtype == dtype]
    assert len(floats) == 3
    for array in floats:
        array[:, :8] = [*subnormal, *kept]
        array[:, 8:] = 3
    stack.state.optimizer["n_steps"][...] = 7
    stack.flush_subnormals()
    for array in floats:
        np.testing.assert_array_equal(array[:, :2], 0)
        np.testing.assert_array_equal(array[:, 2:8], [kept, kept])
        np.testing.assert_array_equal(array[:, 8:], 3)
    np.testing.assert_array_equal(stack.state.optimizer["n_steps"], 7)


def test_vanishing_weights_become_zero():
    """By hand: without input, each step leaves a tenth of the weights, and after 40 nothing."""
    network = dense_network((2, 1), ())
    table = Dataset(np.zeros((4, 2)), np.zeros((4, 1)))
    stack = stack_of(
        [Member(table, rate=0.9, alpha=4.0)],
        network,
        SQUARED_ERROR,
        SGD(momentum=0.0),
        batch_size=4,
        dtype=np.float32,
    )
    stack.parameters.theta[...] = [[1, -2, 0]]
    for n_epochs, expected in ((3, [[1e-3, -2e-3, 0]]), (35, [[1e-35, -2e-35, 0]]), (40, 0)):
        for _ in iter_epochs(stack, n_epochs, n_done=int(stack.state.n_samples_seen[0, 0]) // 4):
            pass
        np.testing.assert_allclose(stack.parameters.theta, np.float32(expected), rtol=1e-4)


def test_training_leaves_numpys_settings_as_they_were():
    table = some_table(LOSS, 8, NETWORK.widths)
    stack = stack_of([Member(table)], NETWORK, LOSS, Adam())
    before = np.getbufsize(), np.geterr()
    for _ in iter_epochs(stack, 2):
        assert (np.getbufsize(), np.geterr()) == before
    stack.parameters.theta[...] = np.nan
    with pytest.raises(DivergenceError):
        next(iter_epochs(stack, 1))
    assert (np.getbufsize(), np.geterr()) == before
