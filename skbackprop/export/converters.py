"""`register_converters`: skl2onnx learns to convert what this package has, in any pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..core.arrays import Array
from ..core.extras import needed_by
from ..estimators.autoencoder import BackpropAutoencoder
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..inspection import BackpropFeatures
from ..tables import (
    PeriodicFeatures,
    PiecewiseLinearEncoder,
    TableEncoder,
    TabularClassifier,
    TabularRegressor,
)
from .models import Label, Model, exported
from .onnx_graph import Graph
from .onnx_model import OPSET, dtype_of, values_of, with_labels

_CLASSIFIERS = (BackpropClassifier, TabularClassifier)
_REGRESSORS = (BackpropRegressor, TabularRegressor)
_TRANSFORMERS = (
    *(BackpropAutoencoder, BackpropFeatures),
    *(TableEncoder, PeriodicFeatures, PiecewiseLinearEncoder),
)
# What skl2onnx's own converters of classifiers take: its parser sees to it.
_OPTIONS = {
    "zipmap": [True, False, "columns"],
    "nocl": [True, False],
    "output_class_labels": [False, True],
}


def register_converters() -> None:
    """Let skl2onnx convert the networks of this package, wherever they are in a pipeline.

    After it ``skl2onnx.to_onnx(pipeline, X[:1])`` knows them as it knows scikit-learn's: with the
    option ``zipmap``, say, and with labels that are integers or strings. Outputs that only
    `to_onnx` has are left out: standard deviations, and the reconstruction of an autoencoder.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import skl2onnx
    >>> from onnxruntime import InferenceSession
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.pipeline import make_pipeline
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.export import register_converters
    >>> X, y = load_iris(return_X_y=True)
    >>> network = BackpropClassifier((8,), solver="lbfgs", max_iter=1000, random_state=0)
    >>> pipeline = make_pipeline(PCA(3), network).fit(X, y)
    >>> register_converters()
    >>> X = X.astype(np.float32)
    >>> onnx_model = skl2onnx.to_onnx(pipeline, X[:1], options={"zipmap": False})
    >>> session = InferenceSession(onnx_model.SerializeToString())
    >>> label, probabilities = session.run(None, {"X": X})
    >>> bool(abs(probabilities - pipeline.predict_proba(X)).max() < 1e-5)
    True
    """
    with needed_by("register_converters", extra="onnx"):
        from skl2onnx import update_registered_converter
    for kind in (*_CLASSIFIERS, *_REGRESSORS, *_TRANSFORMERS):
        options = _OPTIONS if kind in _CLASSIFIERS else None
        alias = f"Skbackprop{kind.__name__}"
        update_registered_converter(kind, alias, _set_types, _convert, options=options)


def _exported(operator: Any) -> Model:
    """Return the model of an operator of skl2onnx, with the outputs that it has."""
    model = with_labels(exported(operator.raw_operator), _label_array)
    if sum(isinstance(output, Label) for output in model.outputs) > 1:
        raise TypeError(
            "skl2onnx has one label for each row, and the classifier was fitted to several "
            "columns of labels. skbackprop.export.to_onnx has outputs for each of them."
        )
    return replace(model, outputs=model.outputs[: len(operator.outputs)])


def _label_array(classes: Array) -> Array:
    """Return classes as skl2onnx has them: strings, or integers."""
    classes = np.asarray(classes)
    if classes.dtype.kind in "UO":
        return classes.astype(object)
    whole = classes.astype(np.int64)
    if (whole != classes).any():
        raise ValueError(
            f"skl2onnx has labels that are strings or integers up to 2**63 - 1, got {classes[:5]}. "
            "skbackprop.export.to_onnx holds others as well."
        )
    return whole


def _set_types(operator: Any) -> None:
    """Set type and shape of each output: floats are double where the input is."""
    from skl2onnx.common import data_types

    by_dtype = {
        "float32": _float_type(operator),
        "int64": data_types.Int64TensorType,
        "object": data_types.StringTensorType,
    }
    n_rows = operator.inputs[0].get_first_dimension()
    for variable, output in zip(operator.outputs, _exported(operator).outputs, strict=True):
        variable.set_type(by_dtype[dtype_of(output).name]([n_rows, *output.row_shape]))


def _float_type(operator: Any) -> Any:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    is_double = isinstance(operator.inputs[0].type, DoubleTensorType)
    return DoubleTensorType if is_double else FloatTensorType


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of an operator to what skl2onnx writes."""
    from onnx import TensorProto, helper

    def add(name: str, inputs: list[str], output: str, **attributes: Any) -> str:
        unique = scope.get_unique_operator_name(name)
        container.add_node(name, inputs, [output], op_version=OPSET, name=unique, **attributes)
        return output

    new_name, model = scope.get_unique_variable_name, _exported(operator)
    row = add("Cast", [operator.inputs[0].full_name], new_name("row"), to=TensorProto.FLOAT)
    names = [new_name(output.name) for output in model.outputs]
    graph = Graph(model, row, names, new_name)
    for name, array in graph.initializers.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        container.add_initializer(name, kind, array.shape, values_of(array))
    for node in graph.nodes:
        add(node.operator, node.inputs, node.output, **node.attributes)
    for name, output, variable in zip(names, model.outputs, operator.outputs, strict=True):
        if dtype_of(output) == np.float32 and _float_type(operator).__name__ == "DoubleTensorType":
            add("Cast", [name], variable.full_name, to=TensorProto.DOUBLE)
        else:
            add("Identity", [name], variable.full_name)
