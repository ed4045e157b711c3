"""Losses, data and stacks of networks for the tests of layers, parts and training."""

import math
from dataclasses import dataclass, fields, replace
from itertools import cycle, product

import numpy as np
from scipy import sparse

from skbackprop import BackpropRegressor
from skbackprop.activations import ACTIVATIONS
from skbackprop.layers.dense import Activation
from skbackprop.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES, ClassifierLoss, Quantile
from skbackprop.nn.network import Network, dense_layers
from skbackprop.nn.rows import Rows
from skbackprop.nn.stack import L2, Stack, sum_losses
from skbackprop.nn.train_state import TrainState
from skbackprop.schedules import ConstantRate
from skbackprop.training.config import Config, stack_configs
from skbackprop.training.epochs import Members, train_epochs
from support import peak_of, same_values

DTYPES = [np.float64, np.float32]
FREE, CONSTANT = L2(), ConstantRate()
# Dense or sparse rows: of equal weight, with one weight each, or with one for each target.
KINDS_OF_ROWS = [
    {"is_sparse": is_sparse, "weighted": weighted}
    for is_sparse in (False, True)
    for weighted in (False, True, "by target")
]

# Every loss through every link that it can have.
LOSSES = {
    f"{name}-{loss.link.name}": loss
    for name, loss in [
        *REGRESSOR_LOSSES.items(),
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


def in_turn(values, others):
    """Return each of some values with one of some others, which take turns."""
    return list(zip(values, cycle(others), strict=False))


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
    concrete = {kind for kind in kinds if "__dataclass_fields__" in vars(kind)}
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
    """Return float64 rows for a network of these widths; with `weighted`, a third weighs zero.

    Losses that couple their targets get a weight for each row instead of each target.
    """
    rng = np.random.RandomState(seed)
    X = rng.randn(n_rows, widths[0])
    if is_sparse:
        X = sparse.csr_array(X * (rng.rand(*X.shape) < 0.5))
    y = some_targets(loss, n_rows, widths[-1], rng)
    shape = (n_rows,)
    if weighted == "by target" and not getattr(loss, "multiclass", False):
        shape = n_rows, widths[-1] // loss.n_outputs_per_target
    positions = np.arange(math.prod(shape)).reshape(shape)
    weight = rng.uniform(0.1, 3, shape) * (positions % 3 > 0) if weighted else None
    return Rows(X, y, weight)


# ------------------------------------------------------------------------------- networks


def dense_network(widths, activations, dropout=(), normalization=None):
    """Return a network of dense layers of these widths, the first of which is the input's."""
    layers = dense_layers(widths[1:-1], activations, widths[-1], normalization)
    return Network((widths[0],), tuple(layers)).with_dropout(dropout)


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
    parameters = network.layout.init(len(rngs), np.dtype(dtype), rngs)
    all_weights, all_biases = parameters.select("weights"), parameters.select("biases")
    for member, rng in enumerate(rngs):
        for array in (*all_weights, *all_biases):
            array[member] = rng.randn(*array.shape[1:])
    for weights, biases in zip(all_weights, all_biases, strict=True):
        weights *= 1.2 / np.sqrt(weights.shape[-2])
        biases *= 0.5
    for gains in parameters.select("gains"):
        gains += np.array([0.3 * rng.randn(1, gains.shape[-1]) for rng in rngs])
    return parameters


def make_config(loss, **changes):
    """Return the configuration of one network, with some fields changed."""
    params = BackpropRegressor(loss=loss, n_iter_no_change=np.inf).get_params(deep=False)
    return replace(Config.from_params(params, {}), **changes)


def batch_gradient(network, loss, tables, parameters, penalty=FREE, rngs=()):
    """Return the value of a batch of all rows, added over the members, its gradient, and scores."""
    state = TrainState.initial(parameters, layer_rngs=list(rngs) or [None] * len(tables))
    config = make_config(loss, penalty=penalty, batch_size=tables[0].n_rows)
    stack = Stack(network, loss, config, tables, state)
    stack.gradients.theta.fill(np.nan)
    (chunk,) = stack.batches.chunks()
    (batch,) = chunk.batches
    step = stack.bind_step(chunk.members, chunk.batch_size)
    step.backpropagate(batch)
    sums = step.add_penalty_gradient(batch.total)
    losses = sum_losses(loss, chunk)[:, 0] + penalty.value(sums[:, None])[:, 0]
    losses /= stack.batches.total_weights
    return losses.sum(), stack.gradients.theta, chunk.predictions


# --------------------------------------------------------------------------------- stacks


@dataclass(frozen=True)
class Member:
    """What one member of a stack has to itself."""

    table: Rows
    seed: int = 0
    rate: float = 0.05
    alpha: float = 0.0
    factor: float = 1.0  # of all numbers of the optimizer, the schedule and the average
    is_shuffled: bool = True
    n_epochs: float = np.inf  # without progress, before it leaves the stack


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


def iter_epochs(
    members,
    n_epochs,
    network,
    loss,
    optimizer,
    *,
    schedule=CONSTANT,
    average=None,
    batch_size=8,
    dtype=np.float64,
    state=None,
    **changes,
):
    """Train members as a stack; yield a function that returns the state before and after epochs.

    Training resumes from a `state`, if there is one. More keyword arguments are fields of the
    configuration.
    """
    configs = [
        make_config(
            loss,
            penalty=L2(member.alpha),
            solver=per_member(optimizer, [member.factor]),
            learning_rate=per_member(schedule, [member.factor]),
            learning_rate_init=member.rate,
            average=None if average is None else per_member(average, [member.factor]),
            batch_size=batch_size,
            max_iter=n_epochs,
            n_iter_no_change=member.n_epochs,
            **changes,
        )
        for member in members
    ]
    config, tables = stack_configs(configs), [member.table for member in members]
    state = state or _first_state(members, network, config, dtype)
    validation = [None] * len(members)
    numbers = np.arange(len(members))
    yield from train_epochs(Members(network, loss, config, tables, validation, state, numbers))


def _first_state(members, network, config, dtype):
    parameters = some_parameters(network, [member.seed for member in members], dtype)
    theta, average, n = parameters.theta, config.average, len(members)
    seen = np.zeros((n, 1), dtype=int)
    return TrainState.initial(
        parameters,
        optimizer=config.solver.init(theta),
        schedule=config.learning_rate.init(n),
        average={} if average is None else average.init(theta, seen, parameters.statistics),
        orders=[np.arange(m.table.n_rows) if m.is_shuffled else None for m in members],
        rngs=[np.random.RandomState(m.seed) if m.is_shuffled else None for m in members],
        layer_rngs=[np.random.default_rng(m.seed) if network.stochastic else None for m in members],
    )


def trained(members, n_epochs, *arguments, **options):
    """Return the state of a stack of these members after so many epochs."""
    for get_state in iter_epochs(members, n_epochs, *arguments, **options):
        state = get_state()
    return state


def losses_of(state):
    """Return the losses of the epochs, a list for each member."""
    return [history.curve("loss").tolist() for history in state.history]


def peak_of_an_epoch(members, *arguments, **options):
    """Return the most memory that an epoch takes beyond what was there before it, in bytes.

    It is the least of three epochs, because other threads of the process may allocate as well.
    """
    epochs = iter_epochs(members, 6, *arguments, **options)
    for _ in range(3):
        next(epochs)
    return min(peak_of(next, epochs) for _ in range(3))


def assert_same_bits(actual, expected, what=""):
    """Assert that two arrays are equal in shape, dtype and every bit that BLAS keeps."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), what
    if not same_values(actual, expected):
        np.testing.assert_array_equal(actual, expected, err_msg=what)
        raise AssertionError(f"{what} differs in the sign of a zero")


def assert_same_state(state, expected, what=""):
    """Assert that two states are equal in all that training changes."""
    arrays, references = state.to_arrays(), expected.to_arrays()
    assert arrays.keys() == references.keys(), what
    for name, array in references.items():
        assert_same_bits(arrays[name], array, f"{name} {what}")


def assert_each_as_alone(members, n_epochs, *arguments, **options):
    """Assert that members of a stack end as they do when each is trained in a stack of one.

    Returns the state of the stack.
    """
    together = trained(members, n_epochs, *arguments, **options)
    for i, member in enumerate(members):
        alone = trained([member], n_epochs, *arguments, **options)
        assert_same_state(together.take(slice(i, i + 1)), alone, f"of member {i}")
    return together
