"""Summary of a network: a table of its layers and their numbers of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ..layers.dense import Activation
from ..nn.network import Network

_HEADINGS = ("layer", "outputs", "parameters", "shapes")


@dataclass(frozen=True)
class LayerSummary:
    """One row of a `Summary`: a layer.

    Parameters
    ----------
    kind : str
        The kind of layer, such as "Dense", "Relu" or "BatchNormalization".
    output_shape : tuple of int
        The shape of one row of the output.
    n_parameters : int
        The number of learned parameters.
    shapes : dict of str to tuple
        The shape of each parameter array, by name.
    """

    kind: str
    output_shape: tuple[int, ...]
    n_parameters: int
    shapes: dict[str, tuple[int, ...]]


@dataclass(frozen=True, repr=False)
class Summary:
    """Table of the layers of a network, shown as text or, in a notebook, as HTML.

    The method `summary` of the estimators returns it.

    Parameters
    ----------
    estimator : str
        The name of the estimator's class.
    layers : tuple of LayerSummary
        The layers used in prediction, from the input to the output activation.
    n_estimators : int
        The number of networks with this architecture.
    n_frozen : int, default=0
        The number of parameters of one network that are frozen.

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
    n_frozen: int = 0

    @property
    def n_parameters(self) -> int:
        """The number of learned parameters of one network."""
        return sum(layer.n_parameters for layer in self.layers)

    def _rows(self) -> list[tuple[str, str, str, str]]:
        """Return the cells of the table, without the headings."""
        rows = []
        for layer in self.layers:
            shapes = ", ".join(f"{name} {shape}" for name, shape in layer.shapes.items())
            outputs = format_shape(layer.output_shape)
            rows.append((layer.kind, outputs, f"{layer.n_parameters:,}", shapes))
        rows.append(("total", "", f"{self.n_parameters:,}", ""))
        if self.n_frozen:
            rows.append(("frozen", "", f"{self.n_frozen:,}", ""))
        if self.n_estimators > 1:
            total = f"{self.n_estimators * self.n_parameters:,}"
            rows.append((f"total of {self.n_estimators} members", "", total, ""))
        return rows

    def __repr__(self) -> str:
        table = [_HEADINGS, *self._rows()]
        width, *widths = (max(map(len, cells)) for cells in list(zip(*table, strict=True))[:3])
        lines = [
            f"{kind:<{width}}  {outputs:>{widths[0]}}  {parameters:>{widths[1]}}  {shapes}".rstrip()
            for kind, outputs, parameters, shapes in table
        ]
        return "\n".join([self.estimator, *lines])

    def _repr_html_(self) -> str:
        head, body = _html_row(_HEADINGS, "th"), "".join(_html_row(r, "td") for r in self._rows())
        rows = f"<thead>{head}</thead><tbody>{body}</tbody>"
        return f"<table><caption>{escape(self.estimator)}</caption>{rows}</table>"


def format_shape(shape: Sequence[int]) -> str:
    """Return the shape of one row as text, such as "28 x 28 x 3"."""
    return " x ".join(f"{size:,}" for size in shape)


def _html_row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def summarize_network(
    estimator: str, network: Network, out_activation: str, n_estimators: int
) -> Summary:
    """Summarize a network.

    Parameters
    ----------
    estimator : str
        The name of the estimator's class.
    network : Network
        The network in prediction mode.
    out_activation : str
        The output activation.
    n_estimators : int
        The number of networks with this architecture.
    """
    rows = [LayerSummary("input", network.input_shape, 0, {})]
    for layer, shape in zip(network.layers, network.row_shapes[:-1], strict=True):
        specs = [spec for spec in layer.parameter_specs(shape) if spec.trained]
        item = layer.function if isinstance(layer, Activation) else layer
        rows.append(
            LayerSummary(
                type(item).__name__,
                layer.compute_output_shape(shape),
                sum(spec.size for spec in specs),
                {spec.name: spec.shape for spec in specs},
            )
        )
    rows.append(LayerSummary(out_activation, network.row_shapes[-1], 0, {}))
    return Summary(estimator, tuple(rows), n_estimators, network.layout.n_frozen)
