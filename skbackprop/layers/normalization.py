"""Normalisation of what each hidden layer's activation is given.

With the weights W, the gains g and the biases b of a layer, and its input x, the activation
sees z = g * norm(x W) + b. The biases keep their name and place, and come after the
normalisation, before which a shift would be lost. The gains start at one and are free of the
penalty.

One class and one line in `NORMALIZATIONS` make a normalisation: settings, and the layers that
they stand for in training and in prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..core.arrays import Array, PerMember, State, plain
from ..core.checks import check_range
from ..core.workspace import Workspace


class Site(NamedTuple):
    """Where a hidden layer is normalised: its parameters, and the memory of one shape of batch.

    All arrays have the shape (n_members, 1, units), those of a single member no first axis.
    `d_gains` and `d_biases` are where the gradients go in training, `means` and `variances` the
    running statistics, if there are any.
    """

    gains: Array
    biases: Array
    n_rows: int
    workspace: Workspace
    means: Array | None = None
    variances: Array | None = None
    d_gains: Array | None = None
    d_biases: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a batch of the layer's units."""
        return (*self.gains.shape[:-2], self.n_rows, self.gains.shape[-1])


class Normalization:
    """What is made of the input of a hidden layer's activation before it gets there."""

    def init(self, n_members: int, n_units: int, dtype: np.dtype[np.floating]) -> State:
        """Return the running statistics of all hidden units at the start; empty for none."""
        return {}

    def weight_of_past(self, n_seen: int, batch_size: int) -> float:
        """Return what so many rows weigh in the running statistics, where one more weighs one."""
        return float(n_seen)

    def batch_weights(self, state: State, n_rows: int) -> BatchWeights | None:
        """Return what has to be told of each batch in training; None for nothing."""
        return None

    def training_layer(self, site: Site, batch: BatchWeights | None) -> NormalisedLayer:
        """Return the layer of a training step; `batch` is what `batch_weights` has returned."""
        raise NotImplementedError(f"{type(self).__name__} has to define training_layer(...)")

    def prediction_layer(self, site: Site) -> NormalisedLayer:
        """Return the layer of a prediction."""
        raise NotImplementedError(f"{type(self).__name__} has to define prediction_layer(...)")


# -------------------------------------------------------------------------- over a batch


@dataclass(frozen=True)
class BatchNormalization(Normalization):
    """Batch normalisation: norm(z) = (z - m) / sqrt(v + epsilon), for each unit over the rows.

    In training m and v are the mean and the variance of the batch at hand (Ioffe & Szegedy 2015,
    algorithm 1), in which each row has its weight: m = sum_i w_i z_i and v = sum_i w_i (z_i - m)^2
    with weights that add up to one, so that a row of weight 2 equals the row twice, and one of
    weight 0 is not there. In a batch of one row v = 0, and norm(z) = 0.

    In prediction they are running statistics: the mean and the variance of the rows of all
    batches, those of a batch t steps back with `momentum`**t of their weight. Since the variance
    is about the running mean (Chan, Golub & LeVeque 1983), it holds what the means of batches
    differ by: small batches, a short last one too, leave it as true as large ones. (The mean of
    the batches' own variances, which is too small by a factor of 1 - 1/n, would have to be
    corrected.)

    Parameters
    ----------
    momentum : float, default=0.9
        What remains of the weight of past batches at each step, in [0, 1).
    epsilon : float, default=1e-5
        What keeps the denominator from zero, positive.

    Raises
    ------
    ValueError
        If `momentum` or `epsilon` is out of range.

    References
    ----------
    Chan, T. F., Golub, G. H. & LeVeque, R. J. (1983). Algorithms for computing the sample
    variance: analysis and recommendations. The American Statistician 37(3), 242-247.

    Ioffe, S. & Szegedy, C. (2015). Batch normalization: accelerating deep network training by
    reducing internal covariate shift. ICML.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import BatchNormalization
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     normalization=BatchNormalization(momentum=0.95), batch_size=32, tol=0.01, random_state=0
    ... )
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_range(self, "momentum", low=0, high=1, closed="left")
        check_range(self, "epsilon", low=0, closed="neither")

    def init(self, n_members: int, n_units: int, dtype: np.dtype[np.floating]) -> State:
        return {
            "means": np.zeros((n_members, n_units), dtype),
            "variances": np.ones((n_members, n_units), dtype),
            "weight": np.zeros((n_members, 1)),
        }

    def weight_of_past(self, n_seen: int, batch_size: int) -> float:
        # The sum of batch_size * momentum^t over the batches.
        remains: float = self.momentum ** (n_seen / batch_size)
        return batch_size * (1 - remains) / (1 - self.momentum)

    def batch_weights(self, state: State, n_rows: int) -> BatchWeights:
        return BatchWeights(state, n_rows, self.momentum)

    def training_layer(self, site: Site, batch: BatchWeights | None) -> NormalisedLayer:
        assert batch is not None
        return _OverRows(site, self.epsilon, batch)

    def prediction_layer(self, site: Site) -> NormalisedLayer:
        return _Fixed(site, self.epsilon)


class BatchWeights:
    """What the rows of the batch at hand weigh, and the batch among those before it.

    Parameters
    ----------
    state : dict
        The running statistics, of which the weight is brought up to date.
    n_rows : int
        The rows of a batch.
    momentum : float
        What remains of the weight of past batches.

    Attributes
    ----------
    of_rows : array of shape (n_members or 1, n, 1)
        The weight of each row; a member's add up to one.
    share : array of shape (n_members, 1, 1)
        The batch's share in the running statistics.
    rest : array of shape (n_members, 1, 1)
        What is left for the batches before it.
    """

    def __init__(self, state: State, n_rows: int, momentum: float) -> None:
        self._weight, self._momentum = state["weight"], momentum
        dtype = state["means"].dtype
        self._equal = np.full((n_rows, 1), 1 / n_rows, dtype)
        self.of_rows = self._equal
        share, rest = np.empty((2, len(self._weight), 1, 1), dtype)
        self._flat_share = share[:, 0]
        self.share, self.rest = plain(share), plain(rest)

    def update(self, weight: PerMember, total: PerMember) -> None:
        """Take note of the next batch: what its rows weigh, of all together, and in all."""
        self.of_rows = weight if isinstance(weight, np.ndarray) else self._equal
        np.multiply(self._weight, self._momentum, out=self._weight)
        np.add(self._weight, total, out=self._weight)
        np.divide(total, self._weight, out=self._flat_share, casting="same_kind")
        np.subtract(1, self.share, out=self.rest)


# ----------------------------------------------------------------------- over the units


@dataclass(frozen=True)
class LayerNormalization(Normalization):
    """Layer normalisation: norm(z) = (z - m) / sqrt(v + epsilon), for each row over the units.

    The mean m and the variance v = mean((z - m)^2) are those of the units of the layer (Ba et al.
    2016, equation 3), so that rows do not depend on each other and prediction does what training
    does. In a layer of one unit norm(z) = 0.

    Parameters
    ----------
    epsilon : float, default=1e-5
        What keeps the denominator from zero, positive.

    Raises
    ------
    ValueError
        If `epsilon` is not positive.

    References
    ----------
    Ba, J. L., Kiros, J. R. & Hinton, G. E. (2016). Layer normalization. arXiv:1607.06450.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import LayerNormalization
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     normalization=LayerNormalization(), batch_size=32, tol=0.01, random_state=0
    ... )
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_range(self, "epsilon", low=0, closed="neither")

    def training_layer(self, site: Site, batch: BatchWeights | None) -> NormalisedLayer:
        return _OverUnits(site, self.epsilon)

    def prediction_layer(self, site: Site) -> NormalisedLayer:
        return _OverUnits(site, self.epsilon)


# --------------------------------------------------------------------------- the layers


class NormalisedLayer:
    """out = gains * norm(x) + biases."""

    def forward(self, x: Array, out: Array) -> None:
        """Write the layer's output on `x`, which may be overwritten, to `out`."""
        raise NotImplementedError(f"{type(self).__name__} has to define forward(x, out)")

    def backward(self, delta: Array) -> Array:
        """Return the gradient by the input, in the memory of `delta`; only in training."""
        raise NotImplementedError(f"{type(self).__name__} has to define backward(delta)")


class _Normalised(NormalisedLayer):
    """What both normalisations share; on return of `forward` x holds norm(x)."""

    def __init__(self, site: Site, epsilon: float) -> None:
        self.gains, self.biases = site.gains, site.biases
        self.d_gains, self.d_biases = site.d_gains, site.d_biases
        dtype = site.workspace.dtype
        self._epsilon, self._one = dtype.type(epsilon), dtype.type(1)
        self._scratch = site.workspace.array("normalised scratch", site.shape)
        self._ones = np.ones((1, site.n_rows), dtype)

    def _invert(self, variance: Array, out: Array) -> None:
        """Write 1 / sqrt(variance + epsilon) to `out`."""
        np.add(variance, self._epsilon, out=out)
        np.sqrt(out, out=out)
        np.divide(self._one, out, out=out)

    def _scale_and_shift(self, normed: Array, out: Array) -> None:
        self._normed = normed
        np.multiply(normed, self.gains, out=out)
        np.add(out, self.biases, out=out)

    def _sum_gradients(self, delta: Array) -> tuple[Array, Array]:
        """Leave the gradients by gains and biases where they belong, and return them."""
        np.multiply(delta, self._normed, out=self._scratch)
        d_gains = np.matmul(self._ones, self._scratch, out=self.d_gains)
        return d_gains, np.matmul(self._ones, delta, out=self.d_biases)


class _OverRows(_Normalised):
    """Batch normalisation in training, which brings the running statistics up to date."""

    def __init__(self, site: Site, epsilon: float, batch: BatchWeights) -> None:
        super().__init__(site, epsilon)
        assert site.means is not None
        assert site.variances is not None
        self._batch, self._means, self._variances = batch, site.means, site.variances
        self._mean, self._variance, self._inverse, self._step = (
            np.empty_like(site.gains) for _ in range(4)
        )

    def forward(self, x: Array, out: Array) -> None:
        weights = self._batch.of_rows.swapaxes(-1, -2)
        np.matmul(weights, x, out=self._mean)
        np.subtract(x, self._mean, out=x)
        np.multiply(x, x, out=self._scratch)
        np.matmul(weights, self._scratch, out=self._variance)
        self._invert(self._variance, self._inverse)
        np.multiply(x, self._inverse, out=x)
        self._scale_and_shift(x, out)
        self._average()

    def _average(self) -> None:
        """Mix the batch's statistics into the running ones.

        With d = m - mean: mean += share * d, variance = rest * (variance + share * d^2) + share * v
        """
        step, share = self._step, self._batch.share
        np.subtract(self._mean, self._means, out=step)
        np.multiply(step, step, out=self._mean)
        np.multiply(self._mean, share, out=self._mean)
        np.add(self._variances, self._mean, out=self._variances)
        np.multiply(self._variances, self._batch.rest, out=self._variances)
        np.multiply(self._variance, share, out=self._variance)
        np.add(self._variances, self._variance, out=self._variances)
        np.multiply(step, share, out=step)
        np.add(self._means, step, out=self._means)

    def backward(self, delta: Array) -> Array:
        # With the weights w_i of the rows, and n for norm(z):
        # d z_i = gains / sqrt(v + epsilon) * (delta_i - w_i * (d_biases + n_i * d_gains))
        normed, (d_gains, d_biases) = self._normed, self._sum_gradients(delta)
        np.multiply(normed, d_gains, out=normed)
        np.add(normed, d_biases, out=normed)
        np.multiply(normed, self._batch.of_rows, out=normed)
        np.subtract(delta, normed, out=delta)
        np.multiply(self._inverse, self.gains, out=self._inverse)
        np.multiply(delta, self._inverse, out=delta)
        return delta


class _OverUnits(_Normalised):
    """Layer normalisation, in training and in prediction."""

    def __init__(self, site: Site, epsilon: float) -> None:
        super().__init__(site, epsilon)
        *_, n_units = site.shape
        self._equal = np.full((n_units, 1), 1 / n_units, site.workspace.dtype)
        self._mean, self._inverse = np.empty((2, *site.shape[:-1], 1), site.workspace.dtype)
        self._shares = np.empty_like(site.gains)

    def forward(self, x: Array, out: Array) -> None:
        np.matmul(x, self._equal, out=self._mean)
        np.subtract(x, self._mean, out=x)
        np.multiply(x, x, out=self._scratch)
        np.matmul(self._scratch, self._equal, out=self._mean)
        self._invert(self._mean, self._inverse)
        np.multiply(x, self._inverse, out=x)
        self._scale_and_shift(x, out)

    def backward(self, delta: Array) -> Array:
        # With e for delta * gains, n for norm(z), and means over the units:
        # d z = (e - mean(e) - n * mean(e * n)) / sqrt(v + epsilon)
        self._sum_gradients(delta)
        normed, gains = self._normed, self.gains
        np.multiply(gains, self._equal.T, out=self._shares)
        shares = self._shares.swapaxes(-1, -2)
        np.matmul(self._scratch, shares, out=self._mean)
        np.multiply(normed, self._mean, out=normed)
        np.matmul(delta, shares, out=self._mean)
        np.multiply(delta, gains, out=delta)
        np.subtract(delta, self._mean, out=delta)
        np.subtract(delta, normed, out=delta)
        np.multiply(delta, self._inverse, out=delta)
        return delta


class _Fixed(NormalisedLayer):
    """Batch normalisation in prediction: a factor and a shift for each unit."""

    def __init__(self, site: Site, epsilon: float) -> None:
        assert site.means is not None
        assert site.variances is not None
        deviations = np.sqrt(site.variances + site.workspace.dtype.type(epsilon))
        self._factor = site.gains / deviations
        self._shift = site.biases - site.means * self._factor

    def forward(self, x: Array, out: Array) -> None:
        np.multiply(x, self._factor, out=out)
        np.add(out, self._shift, out=out)


NORMALIZATIONS: dict[str, type[Normalization]] = {
    "batch": BatchNormalization,
    "layer": LayerNormalization,
}
