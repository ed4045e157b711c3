"""Conversion by skl2onnx of estimators that contain estimators of this package."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from ..estimators.autoencoder import BackpropAutoencoder
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..inspection import BackpropFeatures
from ..tabular import (
    PeriodicFeatures,
    PiecewiseLinearEncoder,
    TableEncoder,
    TabularClassifier,
    TabularRegressor,
)
from ..tabular._dataframe import is_numeric
from ..utils.arrays import Array
from ..utils.validation import require_extra
from ._model_graph import ArgmaxOutput, ModelGraph, build_graph, n_features_of, steps_of
from ._onnx_graph import OPSET, OnnxGraph, convert_classes, encode_values, get_dtype

_CLASSIFIERS = (BackpropClassifier, TabularClassifier)
_REGRESSORS = (BackpropRegressor, TabularRegressor)
_TRANSFORMERS = (
    *(BackpropAutoencoder, BackpropFeatures),
    *(TableEncoder, PeriodicFeatures, PiecewiseLinearEncoder),
)
# The opset of ONNX 1.8 for trees and categories.
_ML_OPSET = 2
# The options of skl2onnx's own converters of classifiers, which its parser applies.
_OPTIONS = {
    "zipmap": [True, False, "columns"],
    "nocl": [True, False],
    "output_class_labels": [False, True],
}


def register_converters() -> None:
    """Register converters for the estimators of this package with skl2onnx.

    `to_onnx` does this itself. Call it before you call skl2onnx, for example to set options:
    ``skl2onnx.to_onnx(pipeline, X[:1], options=...)`` then converts estimators of this package like
    those of scikit-learn, with the option ``zipmap`` and with integers or strings as labels.
    Outputs that skl2onnx does not support are left out: standard deviations, and reconstructions of
    autoencoders.

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
    with require_extra("register_converters", extra="onnx"):
        from skl2onnx import update_registered_converter
    for kind in (*_CLASSIFIERS, *_REGRESSORS, *_TRANSFORMERS):
        options = _OPTIONS if kind in _CLASSIFIERS else None
        parser = _parse_transformer if kind in _TRANSFORMERS else None
        alias = f"Skbackprop{kind.__name__}"
        update_registered_converter(
            kind, alias, _set_types, _convert, parser=parser, options=options
        )


def convert_by_skl2onnx(estimator: Any, X: Any = None, return_std: bool = False) -> Any:
    """Return a fitted estimator as an ONNX model, converted by skl2onnx.

    Parameters
    ----------
    estimator, X, return_std : object
        As in `to_onnx`.

    Raises
    ------
    TypeError
        If skl2onnx has no converter for a part.
    ValueError
        If X is required, or `return_std` is set.
    """
    name = type(estimator).__name__
    if return_std:
        raise ValueError(
            "return_std=True is for a BackpropRegressor, alone or after steps with a formula, but "
            f"skl2onnx converts this {name}. Set return_std=False."
        )
    with require_extra("to_onnx", extra="onnx"):
        import onnx
        from skl2onnx import to_onnx
        from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
    register_converters()
    pipeline, inputs = _to_pipeline(estimator), _get_input_types(estimator, X)
    options = {"zipmap": False} if is_classifier(estimator) else None

    def make_model(opset: Any) -> Any:
        model = to_onnx(pipeline, initial_types=inputs, options=options, target_opset=opset)
        onnx.checker.check_model(model, full_check=True)  # some converters are faulty
        return model

    try:
        try:
            model = make_model({"": OPSET, "ai.onnx.ml": _ML_OPSET})
        except (AssertionError, RuntimeError) as error:  # a step needs a newer opset
            if isinstance(error, (MissingConverter, MissingShapeCalculator)):
                raise
            model = make_model(None)
    except (MissingConverter, MissingShapeCalculator) as error:
        reason = str(error).partition(". ")[0]
        raise TypeError(
            f"{name} can't be exported, because skl2onnx has no converter for one of its parts "
            f"({reason}). Apply that part to X yourself, and export the rest."
        ) from error
    except RuntimeError as error:
        if X is None and "column name" in str(error):
            raise ValueError(
                f"{name} takes columns by their names. Pass a data frame with these columns, such "
                "as to_onnx(estimator, X_train[:1])."
            ) from error
        raise
    if not hasattr(estimator, "predict_proba"):
        _rename_output(model, "probabilities", "scores")
    return model


def _to_pipeline(estimator: Any) -> Any:
    """Return the steps of an estimator as a pipeline without searches, or the only step."""
    steps = steps_of(estimator)
    if len(steps) == 1:
        return steps[0]
    return Pipeline([(f"step {number}", step) for number, step in enumerate(steps)])


def _get_input_types(estimator: Any, X: Any) -> list[tuple[str, Any]]:
    """Return names and types of the inputs.

    There is one input for all columns, or one for each column of a data frame if their types
    differ, or if a ColumnTransformer takes them by their names.
    """
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    if X is None:
        return [("X", FloatTensorType([None, n_features_of(estimator)]))]
    if not nw.dependencies.is_into_dataframe(X):
        rows = X if hasattr(X, "dtype") else np.asarray(X)
        kind = StringTensorType if rows.dtype.kind in "OUS" else FloatTensorType
        return [("X", kind([None, rows.shape[1]]))]
    kinds = {
        name: FloatTensorType if is_numeric(dtype) else StringTensorType
        for name, dtype in nw.from_native(X, eager_only=True).schema.items()
    }
    if len(set(kinds.values())) == 1 and not isinstance(steps_of(estimator)[0], ColumnTransformer):
        return [("X", kind([None, len(kinds)])) for kind in set(kinds.values())]
    return [(name, kind([None, 1])) for name, kind in kinds.items()]


def _rename_output(model: Any, old: str, new: str) -> None:
    """Rename an output of an ONNX model, if it exists."""
    names = [output.name for output in model.graph.output]
    if old not in names or new in names:
        return
    model.graph.output[names.index(old)].name = new
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [new if name == old else name for name in values]


def _build_operator_graph(operator: Any) -> ModelGraph:
    """Return the computation graph of an operator of skl2onnx, with the outputs that it has."""
    model = convert_classes(build_graph(operator.raw_operator), _to_skl2onnx_classes)
    if sum(isinstance(output, ArgmaxOutput) for output in model.outputs) > 1:
        raise TypeError(
            "skl2onnx supports one label for each row, but the classifier was fitted to several "
            "columns of labels. Export it alone with skbackprop.export.to_onnx, which has outputs "
            "for each column, and the steps before it as another model."
        )
    return replace(model, outputs=model.outputs[: len(operator.outputs)])


def _to_skl2onnx_classes(classes: Array) -> Array:
    """Return classes in a type that skl2onnx supports: strings or integers."""
    classes = np.asarray(classes)
    if classes.dtype.kind in "UO":
        return classes.astype(object)
    integers = classes.astype(np.int64)
    if (integers != classes).any():
        raise ValueError(
            "skl2onnx supports labels that are strings or integers up to 2**63 - 1, got "
            f"{classes[:5]}. Number the classes from 0 on, and fit again."
        )
    return integers


def _parse_transformer(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Declare one output, also for an autoencoder, which skl2onnx takes for an outlier detector."""
    operator = scope.declare_local_operator(f"Skbackprop{type(model).__name__}", model)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable("variable", _float_type(operator)()))
    return operator.outputs


def _set_types(operator: Any) -> None:
    """Set type and shape of each output: floats have the precision of the input."""
    from skl2onnx.common import data_types

    by_dtype = {
        "float32": _float_type(operator),
        "int64": data_types.Int64TensorType,
        "object": data_types.StringTensorType,
    }
    _check_input(operator)
    n_rows = operator.inputs[0].get_first_dimension()
    for variable, output in zip(
        operator.outputs, _build_operator_graph(operator).outputs, strict=True
    ):
        variable.set_type(by_dtype[get_dtype(output).name]([n_rows, *output.row_shape]))


def _check_input(operator: Any) -> None:
    """Check the input. skl2onnx passes on labels of rows from clusterers, for example."""
    shape, n_features = operator.inputs[0].type.shape, n_features_of(operator.raw_operator)
    if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != n_features):
        raise TypeError(
            f"{type(operator.raw_operator).__name__} takes {n_features} features, but the step "
            f"before it returns a tensor of shape {shape} in skl2onnx. Apply that step to X "
            "yourself, and export the rest."
        )


def _float_type(operator: Any) -> Any:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    is_double = isinstance(operator.inputs[0].type, DoubleTensorType)
    return DoubleTensorType if is_double else FloatTensorType


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of an operator to the model of skl2onnx."""
    from onnx import TensorProto, helper

    def add(name: str, inputs: list[str], output: str, **attributes: Any) -> str:
        unique = scope.get_unique_operator_name(name)
        container.add_node(name, inputs, [output], op_version=OPSET, name=unique, **attributes)
        return output

    new_name, model = scope.get_unique_variable_name, _build_operator_graph(operator)
    row = add("Cast", [operator.inputs[0].full_name], new_name("row"), to=TensorProto.FLOAT)
    names = [new_name(output.name) for output in model.outputs]
    graph = OnnxGraph(model, row, names, new_name)
    for name, array in graph.initializers.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        container.add_initializer(name, kind, array.shape, encode_values(array))
    for node in graph.nodes:
        add(node.operator, node.inputs, node.output, **node.attributes)
    for name, output, variable in zip(names, model.outputs, operator.outputs, strict=True):
        if get_dtype(output) == np.float32 and _float_type(operator).__name__ == "DoubleTensorType":
            add("Cast", [name], variable.full_name, to=TensorProto.DOUBLE)
        else:
            add("Identity", [name], variable.full_name)
