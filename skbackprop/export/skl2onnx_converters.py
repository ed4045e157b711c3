"""Conversion by skl2onnx, of pipelines and other estimators that hold those of this package."""

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
from ..tabular._dataframe import is_of_numbers
from ..utils.arrays import Array
from ..utils.optional_dependencies import require_extra
from ._model_graph import ArgmaxOutput, ModelGraph, build_graph, n_features_of, steps_of
from ._onnx_graph import OPSET, Graph, dtype_of, values_of, with_labels

_CLASSIFIERS = (BackpropClassifier, TabularClassifier)
_REGRESSORS = (BackpropRegressor, TabularRegressor)
_TRANSFORMERS = (
    *(BackpropAutoencoder, BackpropFeatures),
    *(TableEncoder, PeriodicFeatures, PiecewiseLinearEncoder),
)
# Of the operators of trees and categories: that of ONNX 1.8, as OPSET is.
_ML_OPSET = 2
# What skl2onnx's own converters of classifiers take: its parser sees to it.
_OPTIONS = {
    "zipmap": [True, False, "columns"],
    "nocl": [True, False],
    "output_class_labels": [False, True],
}


def register_converters() -> None:
    """Let skl2onnx convert the networks of this package, wherever they are in a pipeline.

    `to_onnx` does so by itself. This is for those who call skl2onnx, to set its options: after it
    ``skl2onnx.to_onnx(pipeline, X[:1])`` knows our estimators as it knows scikit-learn's, with the
    option ``zipmap``, say, and with labels that are integers or strings. Outputs that skl2onnx has
    no place for are left out: standard deviations, and the reconstruction of an autoencoder.

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


def converted(estimator: Any, X: Any = None, return_std: bool = False) -> Any:
    """Return a fitted estimator as the ONNX model that skl2onnx makes of it.

    Parameters
    ----------
    estimator, X, return_std : object
        As in `to_onnx`.

    Raises
    ------
    TypeError
        If skl2onnx has no converter for a part.
    ValueError
        If X is needed, or `return_std` is true.
    """
    name = type(estimator).__name__
    if return_std:
        raise ValueError(
            "return_std=True is for a BackpropRegressor, alone or after steps that have a formula, "
            f"and this {name} is converted by skl2onnx. Export it without return_std."
        )
    with require_extra("to_onnx", extra="onnx"):
        import onnx
        from skl2onnx import to_onnx
        from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
    register_converters()
    plain, inputs = _without_searches(estimator), _inputs_for(estimator, X)
    options = {"zipmap": False} if is_classifier(estimator) else None

    def model_of(opset: Any) -> Any:
        model = to_onnx(plain, initial_types=inputs, options=options, target_opset=opset)
        onnx.checker.check_model(model, full_check=True)  # some steps make none that is valid
        return model

    try:
        try:
            model = model_of({"": OPSET, "ai.onnx.ml": _ML_OPSET})
        except (AssertionError, RuntimeError) as error:  # of steps that need a newer one
            if isinstance(error, (MissingConverter, MissingShapeCalculator)):
                raise
            model = model_of(None)
    except (MissingConverter, MissingShapeCalculator) as error:
        reason = str(error).partition(". ")[0]
        raise TypeError(
            f"{name} can't be exported: skl2onnx does not know all of its parts ({reason}). "
            "Transform X by what it does not know, and export the rest."
        ) from error
    except RuntimeError as error:
        if X is None and "column name" in str(error):
            raise ValueError(
                f"{name} takes columns by their names. Pass a frame with these columns as X, such "
                "as X_train[:1]: to_onnx(estimator, X)."
            ) from error
        raise
    if not hasattr(estimator, "predict_proba"):
        _rename_output(model, "probabilities", "scores")
    return model


def _without_searches(estimator: Any) -> Any:
    """Return a pipeline of the steps of an estimator, which skl2onnx knows; or the only step."""
    steps = steps_of(estimator)
    if len(steps) == 1:
        return steps[0]
    return Pipeline([(f"step {number}", step) for number, step in enumerate(steps)])


def _inputs_for(estimator: Any, X: Any) -> list[tuple[str, Any]]:
    """Return names and types of the inputs: one for all columns, or one for each of a frame.

    Each has its own where their types differ, or a ColumnTransformer takes them by their names.
    """
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    if X is None:
        return [("X", FloatTensorType([None, n_features_of(estimator)]))]
    if not nw.dependencies.is_into_dataframe(X):
        rows = X if hasattr(X, "dtype") else np.asarray(X)
        kind = StringTensorType if rows.dtype.kind in "OUS" else FloatTensorType
        return [("X", kind([None, rows.shape[1]]))]
    kinds = {
        name: FloatTensorType if is_of_numbers(dtype) else StringTensorType
        for name, dtype in nw.from_native(X, eager_only=True).schema.items()
    }
    if len(set(kinds.values())) == 1 and not isinstance(steps_of(estimator)[0], ColumnTransformer):
        return [("X", kind([None, len(kinds)])) for kind in set(kinds.values())]
    return [(name, kind([None, 1])) for name, kind in kinds.items()]


def _rename_output(model: Any, old: str, new: str) -> None:
    """Rename an output of an ONNX model, if it has one of that name."""
    names = [output.name for output in model.graph.output]
    if old not in names or new in names:
        return
    model.graph.output[names.index(old)].name = new
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [new if name == old else name for name in values]


def _exported(operator: Any) -> ModelGraph:
    """Return the model of an operator of skl2onnx, with the outputs that it has."""
    model = with_labels(build_graph(operator.raw_operator), _label_array)
    if sum(isinstance(output, ArgmaxOutput) for output in model.outputs) > 1:
        raise TypeError(
            "skl2onnx has one label for each row, and the classifier was fitted to several "
            "columns of labels. Export it alone, and what comes before it as a model of its own: "
            "skbackprop.export.to_onnx has outputs for each column."
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
            "Number the classes from 0 on, and fit again."
        )
    return whole


def _parse_transformer(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Declare one output, also for an autoencoder, which skl2onnx takes for an outlier detector."""
    operator = scope.declare_local_operator(f"Skbackprop{type(model).__name__}", model)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable("variable", _float_type(operator)()))
    return operator.outputs


def _set_types(operator: Any) -> None:
    """Set type and shape of each output: floats are double where the input is."""
    from skl2onnx.common import data_types

    by_dtype = {
        "float32": _float_type(operator),
        "int64": data_types.Int64TensorType,
        "object": data_types.StringTensorType,
    }
    _check_input(operator)
    n_rows = operator.inputs[0].get_first_dimension()
    for variable, output in zip(operator.outputs, _exported(operator).outputs, strict=True):
        variable.set_type(by_dtype[dtype_of(output).name]([n_rows, *output.row_shape]))


def _check_input(operator: Any) -> None:
    """Check the input: of clusterers before it, skl2onnx passes on the label of each row."""
    shape, n_features = operator.inputs[0].type.shape, n_features_of(operator.raw_operator)
    if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != n_features):
        raise TypeError(
            f"The {type(operator.raw_operator).__name__} takes {n_features} features, but skl2onnx "
            f"gives it a tensor of shape {shape}, made by the step before it. Transform X by that "
            "step, and export the rest."
        )


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
