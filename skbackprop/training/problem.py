"""What is to be learned: validated rows with encoded targets, and how networks are validated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

from ..early_stopping import EarlyStopping
from ..nn.network import Network
from ..nn.parameters import Parameters
from ..nn.rows import Rows
from ..utils.arrays import Array
from .model import Model
from .targets import Targets
from .validation import Validation

ModelScorer: TypeAlias = Callable[[Model, Parameters, Validation], float]
"""Returns the user's score of a model with the parameters of one network on validation rows."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Validated data of a training, with the rules by which it is validated.

    Parameters
    ----------
    rows : Rows
        All rows.
    targets : Targets
        The encoding of the targets, with the loss.
    row_shape : tuple of int
        The shape of one row of X.
    feature_names : array of str or None, default=None
        The names of the columns of X, if they have any.
    validation_rows : Rows or None, default=None
        The rows of X_val.
    scoring : callable, "loss", "score" or None, default=None
        How validation rows are scored, as in `Validation`.
    hold_out : EarlyStopping or None, default=None
        The rule by which each network holds out some of the rows to validate on; None for no
        validation rows but those of X_val.
    groups : array of int of shape (n_rows,) or None, default=None
        The group of each row, which splits keep together.
    folds : array of int of shape (n_rows,) or None, default=None
        The number of the network that holds out each row; None to draw held-out rows.
    """

    rows: Rows
    targets: Targets
    row_shape: tuple[int, ...]
    feature_names: Array | None = None
    validation_rows: Rows | None = None
    scoring: ModelScorer | Literal["loss", "score"] | None = None
    hold_out: EarlyStopping | None = None
    groups: Array | None = None
    folds: Array | None = None

    @property
    def data(self) -> list[Any]:
        """The arrays of all rows, and of the rows of X_val."""
        tables = [self.rows] if self.validation_rows is None else [self.rows, self.validation_rows]
        return [part for rows in tables for part in (rows.X, rows.y, rows.weight)]

    @property
    def draws_folds(self) -> bool:
        """Whether rows are divided among the networks, so that each row is held out by one."""
        rule = self.hold_out
        return self.folds is None and rule is not None and rule.validation_fraction == "folds"

    @property
    def has_folds(self) -> bool:
        """Whether each row is held out by one of the networks."""
        return self.folds is not None or self.draws_folds

    def check_padding(self, network: Network) -> None:
        """Check that the network can read all rows: NaN may only be padding of sequences."""
        network.validate_padding(self.rows.X)
        if self.validation_rows is not None:
            try:
                network.validate_padding(self.validation_rows.X)
            except ValueError as error:
                raise ValueError(f"X_val, y_val: {error}") from error

    def make_validation(self, model: Model) -> list[Validation | None]:
        """Return the validation rows of each network of a model."""
        n_estimators = len(model.state)
        scoring: Any = self.scoring
        if callable(scoring):
            scoring = partial(scoring, model)
        if self.validation_rows is not None:
            return [Validation(self.validation_rows, self.targets, scoring)] * n_estimators
        if self.hold_out is None:
            return [None] * n_estimators
        return [
            Validation(replace(self.rows, index=index), self.targets, scoring)
            for index in model.state.held_out
        ]
