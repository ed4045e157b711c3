"""What networks see of a table: its encoded columns, and before them encodings of each number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..core.arrays import Array, as_dense
from .columns import AnyColumns
from .encoding import Encoding, Settings
from .periodic import PeriodicFeatures
from .piecewise import PiecewiseLinearEncoder

N_FREQUENCIES, N_BINS = 16, 16
# The columns of the block that stands for one number.
WIDTH = N_FREQUENCIES + N_BINS

# The most numbers in the blocks of all training rows, which are held in memory: one gigabyte.
_MOST_IN_BLOCKS = 1 << 28


@dataclass(frozen=True)
class Inputs:
    """What was learned of a table, to make the input of networks of it.

    An encoded row is what a `TableEncoder` makes of it, in single precision. For networks that
    embed numbers there is a block of `WIDTH` columns before it for each scaled number: cosines of
    it, and how much of each of its bins it fills, with zeros for the bins that it lacks.

    Parameters
    ----------
    encoding : Encoding
        From columns to encoded rows.
    waves, bins : PeriodicFeatures and PiecewiseLinearEncoder, or None
        From scaled numbers to blocks; None where no number is embedded.
    """

    encoding: Encoding
    waves: PeriodicFeatures | None
    bins: PiecewiseLinearEncoder | None

    @classmethod
    def learn(
        cls,
        columns: AnyColumns,
        y: Array | None,
        kind_of_target: str,
        categorical_features: Any,
        stream: np.random.RandomState,
    ) -> tuple[Self, Array]:
        """Learn the columns of a table.

        Parameters
        ----------
        columns : Columns
            The table.
        y : array of shape (n,) or None
            The target, by which columns of many levels are encoded; None for none.
        kind_of_target, categorical_features : object
            As `target_type` and the other of a `TableEncoder`.
        stream : RandomState
            What draws frequencies, and the rows that statistics of the target are learned from.

        Returns
        -------
        inputs : Inputs
            What was learned.
        encoded : array of shape (n, n_encoded)
            The encoded rows.
        """
        settings = Settings(categorical_features, "one_hot", 3, 30, kind_of_target, stream)
        encoding, taken_in = Encoding.learn(columns, y, settings)
        encoded = _single(encoding.encode(taken_in, np.dtype(np.float32)))
        n_numbers = len(encoding.numbers.sources()[0])
        if not n_numbers or n_numbers * WIDTH * len(encoded) > _MOST_IN_BLOCKS:
            return cls(encoding, None, None), encoded
        numbers = encoded[:, :n_numbers]
        waves = PeriodicFeatures(N_FREQUENCIES, random_state=seed_from(stream)).fit(numbers)
        return cls(encoding, waves, PiecewiseLinearEncoder(N_BINS).fit(numbers)), encoded

    @property
    def n_blocks(self) -> int:
        """The number of blocks: of numbers that are embedded."""
        return 0 if self.bins is None else int(self.bins.n_features_in_)

    def encode(self, columns: AnyColumns) -> Array:
        """Return the encoded rows of a table."""
        taken_in = self.encoding.take_in(columns)
        return _single(self.encoding.encode(taken_in, np.dtype(np.float32)))

    def with_blocks(self, encoded: Array) -> Array:
        """Return encoded rows with the blocks of their numbers before them."""
        if self.bins is None or self.waves is None:
            return encoded
        n_rows, n_blocks = len(encoded), self.n_blocks
        out = np.zeros((n_rows, n_blocks * WIDTH + encoded.shape[1]), np.float32)
        out[:, n_blocks * WIDTH :] = encoded
        numbers = encoded[:, :n_blocks]
        blocks = out[:, : n_blocks * WIDTH].reshape(n_rows, n_blocks, WIDTH)
        waves = self.waves.transform(numbers)
        blocks[:, :, :N_FREQUENCIES] = waves.reshape(n_rows, n_blocks, N_FREQUENCIES)
        places = [
            block * WIDTH + N_FREQUENCIES + at
            for block, n_bins in enumerate(self.bins.n_bins_)
            for at in range(n_bins)
        ]
        out[:, places] = self.bins.transform(numbers)
        return out


def seed_from(stream: np.random.RandomState) -> int:
    """Draw a seed."""
    return int(stream.randint(np.iinfo(np.int32).max))


def _single(encoded: Any) -> Array:
    """Return encoded rows as a dense array, with a column of zeros if there is none."""
    dense = as_dense(encoded)
    return dense if dense.shape[1] else np.zeros((len(dense), 1), np.float32)
