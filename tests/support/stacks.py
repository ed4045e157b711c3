"""Losses, data and stacks of networks for the tests of layers and nn."""

import copy
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import product

import numpy as np
import pytest
from scipy import sparse

from skbackprop.activations import ACTIVATIONS
from skbackprop.layers.dense import Activation
from skbackprop.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES, ClassifierLoss, Loss, Quantile
from skbackprop.nn.data_loader import DataLoader, Dataset
from skbackprop.nn.network import Network, dense_network
from skbackprop.nn.objective import L2, LossAndGradient, Objective
from skbackprop.nn.stack_trainer import StackTrainer
from skbackprop.nn.train_state import TrainState
from skbackprop.nn.update import UpdateRule
from skbackprop.optimizers import Optimizer
from skbackprop.schedules import ConstantRate, LearningRateSchedule, init_plateau_counter
from skbackprop.utils.arrays import BufferPool
from skbackprop.weight_averaging import WeightAverage
from support import peak_of, same_values

DTYPES = [np.float64, np.float32]

# Every loss through every link that it can have.
LOSSES = {
    f"{name}-{loss.link.name}": loss
    for name, loss in [
        *((name, loss) for name, loss in REGRESSOR_LOSSES.items()),
        ("quantiles", Quantile((0.1, 0.5, 0.9))),
        *(
            (name, replace(loss, multiclass=multiclass))
            for name, loss in CLASSIFIER_LOSSES.items()
            for multiclass in (False, True)
        ),
    ]
}


def variants(table):
    """Return an instance of each class in a table, and one more for each flag that it has."""
    instances = {}
    for name, kind in table.items():
        flags = [field.name for field in fields(kind) if isinstance(field.default, bool)]
        for values in product([True, False], repeat=len(flags)):
            chosen = dict(zip(flags, values, strict=True))
            switched = [flag if value else f"no {flag}" for flag, value in chosen.items()]
            instances["-".join([name, *switched])] = kind(**chosen)
    return instances


def per_member(settings, factors):
    """Return settings whose numbers differ from member to member, by these factors.

    For one member they are floats, as the contract of settings has it.
    """
    numbers = {
        field.name: column([getattr(settings, field.name) * factor for factor in factors])
        for field in fields(settings)
        if isinstance(getattr(settings, field.name), float)
    }
    return replace(settings, **numbers)


def column(values):
    """Return one value for each member as a hyperparameter: a float, or shape (n_estimators, 1)."""
    return float(values[0]) if len(values) == 1 else np.array(values, dtype=float)[:, None]


def crossed(names, first, second):
    """Run over each value of two tables beside one of the other.

    For parts of which the one begins where the other has ended, so that no two can meet.
    """
    one, other = next(iter(first)), next(iter(second))
    pairs = [(name, other) for name in first] + [(one, name) for name in second if name != other]
    values = [(first[a], second[b]) for a, b in pairs]
    return pytest.mark.parametrize(names, values, ids=["-".join(pair) for pair in pairs])


def public_kinds(module, base):
    """Return the concrete kinds of `base` that a module offers: its frozen dataclasses.

    A class that is not one has to be there for others to derive from.
    """
    kinds = {
        kind
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, base) and kind.__module__ == module.__name__
        if not name.startswith("_")
    }
    concrete = {kind for kind in kinds if is_dataclass(kind)}
    assert all(kind.__dataclass_params__.frozen for kind in concrete)
    assert all(kind.__subclasses__() for kind in kinds - concrete)
    return concrete


def without_formula(kinds):
    """Return the names of kinds whose docstring comes to the parameters without an equation."""
    return {kind.__name__ for kind in kinds if "=" not in kind.__doc__.partition("Parameters\n")[0]}


# ------------------------------------------------------------------------------------- data


def some_targets(loss, n_rows, n_outputs, rng):
    """Return targets that the loss allows, its smallest one among them."""
    if isinstance(loss, ClassifierLoss) and loss.multiclass:
        return np.eye(n_outputs)[rng.randint(n_outputs, size=n_rows)]
    if isinstance(loss, ClassifierLoss):
        return rng.randint(2, size=(n_rows, n_outputs)).astype(float)
    # A loss finds each target beside each of its scores.
    each = loss.n_outputs_per_target
    y = rng.randn(n_rows, n_outputs // each).repeat(each, axis=1)
    interval = loss.interval_y_true
    return np.maximum(y, interval.low) if interval.low_inclusive else np.exp(y)


def some_table(loss, n_rows, widths, *, weighted=False, is_sparse=False, seed=0):
    """Return float64 data for a network of these widths; with `weighted`, a third weighs zero."""
    rng = np.random.RandomState(seed)
    X = rng.randn(n_rows, widths[0])
    if is_sparse:
        X = sparse.csr_array(X * (rng.rand(*X.shape) < 0.5))
    y = some_targets(loss, n_rows, widths[-1], rng)
    weight = rng.uniform(0.1, 3, n_rows) * (np.arange(n_rows) % 3 > 0) if weighted else None
    return Dataset(X, y, weight)


# ------------------------------------------------------------------------------- networks


def deep_network(n_inputs=4, n_outputs=6):
    """Return a network with one hidden layer for each activation in the table.

    Six outputs are a whole number of targets for every loss.
    """
    activations = tuple(ACTIVATIONS.values())
    return dense_network((n_inputs, *range(6, 6 + len(activations)), n_outputs), activations)


NETWORK = deep_network()


def activations_of(network):
    """Return the activation functions of a network."""
    return [layer.activation for layer in network.layers if isinstance(layer, Activation)]


def some_parameters(network, seeds, dtype=np.float64):
    """Return parameters of the order of one, biases included, a member for each seed.

    Weights are so large that a signal gets through many layers, and no larger.
    """
    rngs = [np.random.RandomState(seed) for seed in seeds]
    parameters = network.layout.init(len(rngs), np.dtype(np.float64), rngs)
    drawn = [*parameters.weights, *parameters.biases]
    for member, rng in enumerate(rngs):
        for array in drawn:
            array[member] = rng.randn(*array.shape[1:])
    for weights, biases in zip(parameters.weights, parameters.biases, strict=True):
        weights *= 1.2 / np.sqrt(weights.shape[-2])
        biases *= 0.5
    for gains in parameters.select("gains"):
        gains += np.array([0.3 * rng.randn(1, gains.shape[-1]) for rng in rngs])
    return parameters.with_theta(parameters.theta.astype(dtype))


def batch_gradient(objective, tables, parameters, rngs=()):
    """Return the value of a batch of all rows, added over the members, its gradient, and scores."""
    gradients = parameters.with_theta(np.full_like(parameters.theta, np.nan))
    pool, n_rows = BufferPool(parameters.dtype), tables[0].n_rows
    loader = DataLoader(tables, [None] * len(tables), [n_rows] * len(tables), pool)
    gradient = LossAndGradient(
        objective, parameters, gradients, n_rows, pool, loader.is_sparse, rngs
    )
    (chunk,) = loader.chunks()
    measures = np.array([gradient(batch) for batch in chunk.batches], dtype=float).T
    sums = objective.batch_losses(chunk) + objective.penalty.value(measures)
    return (sums[:, 0] / loader.total_weights).sum(), gradients.theta, chunk.scores


@dataclass(frozen=True)
class Falling(LearningRateSchedule):
    """rate = base * (1 - progress), which depends on how many epochs there are in all."""

    def rate(self, state, base, progress):
        return base * (1 - progress)


@dataclass(frozen=True)
class Member:
    """What one member of a stack has to itself."""

    table: Dataset
    seed: int = 0
    rate: float = 0.05
    alpha: float = 0.0
    factor: float = 1.0  # of all numbers of the optimizer, the schedule and the average
    is_shuffled: bool = True


def stack_of(
    members,
    network: Network,
    loss: Loss,
    optimizer: Optimizer,
    *,
    schedule: LearningRateSchedule | None = None,
    batch_size=8,
    dtype=np.float64,
    average: WeightAverage | None = None,
):
    """Return a stack of these members at the start of training."""
    parameters = some_parameters(network, [member.seed for member in members], dtype)
    schedule = schedule or ConstantRate()
    factors = [member.factor for member in members]
    optimizer, schedule = per_member(optimizer, factors), per_member(schedule, factors)
    average = None if average is None else per_member(average, factors)
    n_samples_seen = np.zeros((len(members), 1))
    return StackTrainer(
        Objective(network, loss, L2(column([member.alpha for member in members]))),
        TrainState(
            parameters,
            optimizer=optimizer.init(parameters.theta),
            schedule=schedule.init(len(members)),
            average=average.init(parameters.theta, n_samples_seen, parameters.statistics)
            if average
            else {},
            progress=init_plateau_counter(len(members)),
            n_samples_seen=n_samples_seen,
            orders=[np.arange(m.table.n_rows) if m.is_shuffled else None for m in members],
            rngs=[np.random.RandomState(m.seed) if m.is_shuffled else None for m in members],
            masks=[np.random.default_rng(m.seed) for m in members] if network.stochastic else [],
        ),
        [member.table for member in members],
        [min(batch_size, member.table.n_rows) for member in members],
        UpdateRule(optimizer, average=average),
        schedule,
        np.array([[member.rate] for member in members]),
    )


def five_members(loss, network=NETWORK, weighted=False, is_sparse=False):
    """Return members that differ in all they may, sorted by their number of rows.

    In batches of 8 their last batches have 5, 4, 4, 1 and 8 rows. With weights, the first batch
    of one member weighs nothing, and so do many of another's.
    """
    tables = [
        some_table(loss, n_rows, network.widths, weighted=weighted, is_sparse=is_sparse, seed=seed)
        for seed, n_rows in enumerate([13, 20, 20, 33, 40])
    ]
    if weighted:
        tables[1].weight[:8] = 0
        tables[2].weight[3:] = 0
    return [
        Member(tables[0], seed=10, rate=0.01, alpha=0.0, factor=1.0),
        Member(tables[1], seed=11, rate=0.002, alpha=0.5, factor=0.5, is_shuffled=False),
        Member(tables[2], seed=12, rate=0.005, alpha=0.03, factor=0.9),
        Member(tables[3], seed=13, rate=0.003, alpha=3.0, factor=0.1),
        Member(tables[4], seed=10, rate=0.01, alpha=0.01, factor=0.7),
    ]


def iter_epochs(stack, n_epochs, n_done=0):
    """Train a stack for an epoch each time the next item is asked for, and yield its losses."""
    for epoch in range(n_done, n_epochs):
        yield stack.train_epoch(epoch, n_epochs)


class Interrupted(BaseException):
    """What a user's Ctrl-C is: no ordinary exception."""


def interrupt_an_epoch(stack):
    """Begin the second of four epochs, and interrupt it after the third step."""
    optimizer, n_steps = type(stack.rule.optimizer), []
    step = optimizer.step

    def failing_step(*arguments):
        step(*arguments)
        n_steps.append(1)
        if len(n_steps) == 3:
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizer, "step", failing_step)
        with pytest.raises(Interrupted):
            next(iter_epochs(stack, 4, 1))


def states_of(stack):
    """Return copies of all arrays that training changes, each with a row for every member."""
    return {
        "theta": stack.parameters.theta.copy(),
        "n_samples_seen": stack.state.n_samples_seen.copy(),
        **{f"optimizer {name}": array.copy() for name, array in stack.state.optimizer.items()},
        **{f"schedule {name}": array.copy() for name, array in stack.state.schedule.items()},
        **{f"running {name}": array.copy() for name, array in stack.parameters.statistics.items()},
        **({"next masks": next_masks(stack)} if stack.state.masks else {}),
        **{f"average {name}": array.copy() for name, array in stack.state.average.items()},
    }


def peak_of_an_epoch(stack):
    """Return the most memory that an epoch takes beyond what was there before it, in bytes.

    It is the least of three epochs, because other threads of the process may allocate as well.
    """
    epochs = iter_epochs(stack, 6)
    next(epochs)
    next(epochs)
    return min(peak_of(next, epochs) for _ in range(3))


def next_masks(stack):
    """Return a number of each member's stream of masks, without a step of it."""
    return np.array([[copy.deepcopy(rng).random()] for rng in stack.state.masks])


def assert_same_bits(actual, expected, what=""):
    """Assert that two arrays are equal in shape, dtype and every bit that BLAS keeps."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), what
    if not same_values(actual, expected):
        np.testing.assert_array_equal(actual, expected, err_msg=what)
        raise AssertionError(f"{what} differs in the sign of a zero")


def trained(stack, n_epochs):
    """Return the losses of each epoch, a column for each member; the schedule hears of them."""
    losses = []
    for values in iter_epochs(stack, n_epochs):
        losses.append(values)
        state = stack.state
        stack.schedule.on_epoch_end(
            state.schedule, stack.rate, values[:, None], state.n_samples_seen
        )
    return np.array(losses)


def assert_each_as_alone(members, n_epochs, *arguments, **options):
    """Assert that a stack ends as its members do when each is trained in a stack of one."""
    stack = stack_of(members, *arguments, **options)
    losses, states = trained(stack, n_epochs), states_of(stack)
    for i, member in enumerate(members):
        alone = stack_of([member], *arguments, **options)
        assert_same_bits(trained(alone, n_epochs)[:, 0], losses[:, i], f"losses of member {i}")
        for name, array in states_of(alone).items():
            assert_same_bits(states[name][i : i + 1], array, f"{name} of member {i}")
        if member.is_shuffled:
            assert_same_bits(stack.state.orders[i], alone.state.orders[0], f"order of member {i}")
