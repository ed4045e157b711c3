"""The summary of a network: its layers, and how many numbers it has learned, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ..layers.base import Layer
from ..layers.dense import Activation
from ..nn.network import Network

_HEADINGS = ("layer", "outputs", "parameters", "shapes")


@dataclass(frozen=True)
class LayerSummary:
    """A row of a summary.

    Parameters
    ----------
    kind : str
        What the layer is: "Dense", "Relu", "BatchNormalization".
    n_outputs : int
        The number of its outputs.
    n_parameters : int
        The number of learned numbers.
    shapes : dict of str to tuple
        The shape of each array of them, by name.
    """

    kind: str
    n_outputs: int
    n_parameters: int
    shapes: dict[str, tuple[int, ...]]


@dataclass(frozen=True, repr=False)
class Summary:
    """What a network is made of: shown as a table of text, in a notebook as one of HTML.

    Estimators return it by their method `summary`.

    Parameters
    ----------
    estimator : str
        The name of the estimator's class.
    layers : tuple of LayerSummary
        The layers that prediction goes through, from the input to the function that turns scores
        into predictions.
    n_estimators : int
        The number of networks like this.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier((8,), solver="lbfgs", max_iter=1000, random_state=0)
    >>> summary = model.fit(X, y).summary()
    >>> summary
    BackpropClassifier
    layer    outputs  parameters  shapes
    input          4           0
    Dense          8          40  weights (4, 8), biases (8,)
    Relu           8           0
    Dense          3          27  weights (8, 3), biases (3,)
    softmax        3           0
    total                     67
    >>> summary.n_parameters
    67
    """

    estimator: str
    layers: tuple[LayerSummary, ...]
    n_estimators: int

    @property
    def n_parameters(self) -> int:
        """The number of learned numbers of one network."""
        return sum(layer.n_parameters for layer in self.layers)

    def _rows(self) -> list[tuple[str, str, str, str]]:
        """Return the cells of the table below its headings."""
        rows = []
        for layer in self.layers:
            shapes = ", ".join(f"{name} {shape}" for name, shape in layer.shapes.items())
            rows.append((layer.kind, f"{layer.n_outputs:,}", f"{layer.n_parameters:,}", shapes))
        rows.append(("total", "", f"{self.n_parameters:,}", ""))
        if self.n_estimators > 1:
            of_all = f"{self.n_estimators * self.n_parameters:,}"
            rows.append((f"total of {self.n_estimators} members", "", of_all, ""))
        return rows

    def __repr__(self) -> str:
        table = [_HEADINGS, *self._rows()]
        left, *right = (max(map(len, cells)) for cells in list(zip(*table, strict=True))[:3])
        lines = [
            f"{kind:<{left}}  {outputs:>{right[0]}}  {parameters:>{right[1]}}  {shapes}".rstrip()
            for kind, outputs, parameters, shapes in table
        ]
        return "\n".join([self.estimator, *lines])

    def _repr_html_(self) -> str:
        return f"<table><caption>{escape(self.estimator)}</caption>{self._html_rows()}</table>"

    def _html_rows(self, row: str = "<tr>") -> str:
        """Return the rows of the table as HTML, each of which opens with a tag."""
        head = _html_row(_HEADINGS, "th", row)
        body = "".join(_html_row(cells, "td", row) for cells in self._rows())
        return f"<thead>{head}</thead><tbody>{body}</tbody>"


def _html_row(cells: Sequence[str], tag: str, row: str) -> str:
    return row + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def summary_of(
    estimator: str, network: Network, out_activation: str | Sequence[str], n_estimators: int
) -> Summary:
    """Return the summary of a network.

    Parameters
    ----------
    estimator : str
        The name of the estimator's class.
    network : Network
        The layers that predict.
    out_activation : str or sequence of str
        What turns scores into predictions, or the scores of each column of labels.
    n_estimators : int
        The number of networks like this.
    """
    names = [out_activation] if isinstance(out_activation, str) else out_activation
    n_inputs, n_outputs = network.n_inputs, network.n_units[-1]
    sited = zip(network.layers, network.n_units[:-1], strict=True)
    return Summary(
        estimator,
        (
            LayerSummary("input", n_inputs, 0, {}),
            *(_of_layer(layer, n_of_layer) for layer, n_of_layer in sited),
            LayerSummary(", ".join(names), n_outputs, 0, {}),
        ),
        n_estimators,
    )


def _of_layer(layer: Layer, n_inputs: int) -> LayerSummary:
    blocks = layer.parameter_specs(n_inputs)
    named = layer.activation if isinstance(layer, Activation) else layer
    return LayerSummary(
        type(named).__name__,
        layer.compute_n_outputs(n_inputs),
        sum(block.size for block in blocks),
        {block.name: block.shape for block in blocks},
    )
