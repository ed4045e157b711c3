"""Export a fitted estimator to ONNX, by its formulas or by skl2onnx."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.base import ClassifierMixin, TransformerMixin, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from ..estimators._estimator_mixin import EstimatorMixin, get_pipeline_steps
from ..estimators.regressor import BackpropRegressor
from ..tabular._read_table import is_numeric
from ..utils.validation import require_extra
from ._converters import to_expression
from ._expressions import ML_OPSET, OPSET, Expr, cast, write_nodes
from ._model_outputs import Outputs, build_inputs, build_outputs, has_formulas, to_outputs

# The options of skl2onnx's own converters of classifiers, which its parser applies.
_CLASSIFIER_OPTIONS = {
    "zipmap": [True, False, "columns"],
    "nocl": [True, False],
    "output_class_labels": [False, True],
}


def to_onnx(estimator: Any, X: Any = None, *, return_std: bool = False) -> Any:
    """Return a fitted estimator as an ONNX model.

    Estimators of this package are exported without skl2onnx, also in a pipeline after
    scikit-learn's scalers or transformers of this package. skl2onnx converts all other estimators,
    also those that contain estimators of this package.

    Networks compute in single precision: the input ``X`` is a float32 tensor of shape (n,
    n_features), or with rows of the shape that they had in training. Padding at the end of
    sequences is not exported: the model takes sequences of full length.

    The input of a tabular estimator or `TableEncoder`, also after scikit-learn's scalers, is a
    float64 tensor ``X``, because trees compare exact numbers. If it was fitted to columns of words,
    each column is an input of shape (n, 1) instead, with the name or the position of the column:
    strings for words, float64 for all other columns. Parse numbers in strings before; "12 %" is
    0.12. Missing values are empty strings and NaN.

    The outputs have the names and shapes of skl2onnx:

    - Classifiers have ``label``, of shape (n,), and ``probabilities``, of shape (n, n_classes), or
      ``scores``, the decision values, for losses without probabilities. Labels are integers,
      booleans, floats or strings, as in `classes_`. For multilabel targets, ``label`` has 0/1
      indicators, of shape (n, n_labels).
    - Regressors have ``variable``, of shape (n, n_targets), also for a single target, or of shape
      (n, n_targets, n_quantiles) for several quantiles of several targets, and ``std`` with
      `return_std`.
    - Autoencoders have ``codes`` and ``reconstruction``, transformers ``variable``.

    Parameters
    ----------
    estimator : estimator
        A fitted network or tabular estimator, a refitted search of one, a pipeline that ends in
        one, or any other estimator that skl2onnx converts.
    X : data frame or array-like of shape (n_samples, n_features), default=None
        Rows from which skl2onnx reads the names and types of the columns; one row is enough. They
        are required if a step takes strings, or columns by their names. Each column of a data
        frame is an input of shape (n, 1) if the columns have different types, or if the first step
        is a ColumnTransformer.
    return_std : bool, default=False
        Whether to add the standard deviation that a regressor's ``predict(X, return_std=True)``
        returns. Not available for estimators that skl2onnx converts.

    Returns
    -------
    model : onnx.ModelProto
        The model, of opset 13 and IR version 7, for trees and words IR version 8, or newer ones if
        skl2onnx needs them.

    Raises
    ------
    ImportError
        If onnx is not installed, or skl2onnx if it is needed.
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If the estimator, or a part of it, cannot be exported, or X is required. A table cannot be
        exported if a column has dates, times or text, or mixes strings and numbers.
    ValueError
        If weights overflow in single precision, ONNX cannot represent the labels, or `return_std`
        is set for an estimator without it. In a table with words, also if a column has no name or
        that of an output, or both missing values and empty strings.

    Examples
    --------
    >>> import numpy as np
    >>> from onnxruntime import InferenceSession
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.export import to_onnx
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier((8,), solver="lbfgs", max_iter=1000, random_state=0).fit(X, y)
    >>> session = InferenceSession(to_onnx(model).SerializeToString())
    >>> label, probabilities = session.run(None, {"X": X.astype(np.float32)})
    >>> bool(abs(probabilities - model.predict_proba(X)).max() < 1e-5)
    True
    """
    check_is_fitted(estimator)
    has_own, last = has_formulas(estimator), get_pipeline_steps(estimator)[-1]
    if return_std and not (has_own and isinstance(last, BackpropRegressor)):
        raise ValueError(
            "return_std=True needs a BackpropRegressor, alone or after steps with a formula, got "
            f"{estimator!r}. Set return_std=False."
        )
    if not has_own:
        return _convert_by_skl2onnx(estimator, X)
    inputs, x = build_inputs(estimator)
    return _make_model(type(estimator).__name__, inputs, build_outputs(estimator, x, return_std))


def _make_model(name: str, inputs: dict[str, Expr], outputs: Outputs) -> Any:
    """Return an ONNX model of expressions."""
    with require_extra("to_onnx", extra="onnx"):
        from onnx import helper

    def make_info(name: str, value: Expr) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
        return helper.make_tensor_value_info(name, kind, ["n", *value.shape])

    def new_name(name: str) -> str:
        return next(unique for n in numbers if (unique := f"{name}_{n}") not in inputs)

    if invalid := set(inputs) & {"", *outputs}:
        raise ValueError(
            f"The column {invalid.pop()!r} has no name, or the name of an output of the model, one "
            f"of {[*outputs]}. Rename the column, and fit again."
        )
    numbers = count()
    # An output has no other use, and may be the input.
    names = {value: name for name, value in inputs.items()}
    names |= {Expr("Identity", (value,)): name for name, value in outputs.items()}
    nodes, constants = write_nodes(names, new_name)
    input_infos = [make_info(name, value) for name, value in inputs.items()]
    output_infos = [make_info(name, value) for name, value in outputs.items()]
    graph = helper.make_graph(nodes, name, input_infos, output_infos, constants)
    versions = {"": OPSET} | {node.domain: ML_OPSET for node in nodes if node.domain}
    opsets = [helper.make_opsetid(*item) for item in versions.items()]
    version = helper.find_min_ir_version_for(opsets)
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=version, producer_name="skbackprop"
    )


# ------------------------------------------------------------------------------ skl2onnx


def register_converters() -> None:
    """Register converters for the estimators of this package with skl2onnx.

    `to_onnx` does this itself. Call it before you call skl2onnx, for example to set options:
    ``skl2onnx.to_onnx(pipeline, X[:1], options=...)`` then converts estimators of this package like
    those of scikit-learn, with the option ``zipmap`` and with integers or strings as labels.
    Outputs that skl2onnx does not support are left out: standard deviations, and reconstructions of
    autoencoders. Numbers are in single precision.

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
    for kind in (*to_outputs.registry, *to_expression.registry):
        if issubclass(kind, EstimatorMixin):
            parser = _parse_transformer if issubclass(kind, TransformerMixin) else None
            options = _CLASSIFIER_OPTIONS if issubclass(kind, ClassifierMixin) else None
            functions = _set_types, _convert, True, parser
            update_registered_converter(kind, f"Skbackprop{kind.__name__}", *functions, options)


def _convert_by_skl2onnx(estimator: Any, X: Any) -> Any:
    """Return a fitted estimator as an ONNX model, converted by skl2onnx."""
    with require_extra("to_onnx", extra="onnx"):
        import onnx
        from skl2onnx import to_onnx
    register_converters()
    steps, options = get_pipeline_steps(estimator), dict[str, Any]()
    if is_classifier(estimator):
        options["options"] = {"zipmap": False}
        if not hasattr(estimator, "predict_proba"):
            options["final_types"] = [("label", None), ("scores", None)]

    def convert(opset: Any) -> Any:
        model = to_onnx(
            steps[0] if len(steps) == 1 else make_pipeline(*steps),
            initial_types=_get_input_types(estimator, X),
            target_opset=opset,
            **options,
        )
        onnx.checker.check_model(model, full_check=True)  # some converters are faulty
        return model

    try:
        try:
            return convert({"": OPSET, "ai.onnx.ml": ML_OPSET})
        except (AssertionError, RuntimeError):  # a step may need a newer opset
            return convert(None)
    except (AttributeError, RuntimeError) as error:
        name, reason = type(estimator).__name__, str(error).partition(". ")[0]
        raise TypeError(
            f"{name} cannot be exported by skl2onnx ({reason}). If a step takes columns by name, "
            "pass a data frame with these columns, such as to_onnx(estimator, X_train[:1]). If a "
            "step has no converter, apply it to X yourself, and export the rest."
        ) from error


def _get_input_types(estimator: Any, X: Any) -> list[tuple[str, Any]]:
    """Return names and types of the inputs.

    There is one input for all columns, or one for each column of a data frame if their types
    differ, or if a ColumnTransformer takes them by their names.
    """
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    kind = FloatTensorType
    if nw.dependencies.is_into_dataframe(X):
        kinds = {
            name: FloatTensorType if is_numeric(dtype) else StringTensorType
            for name, dtype in nw.from_native(X, eager_only=True).schema.items()
        }
        kind, *others = set(kinds.values())
        if others or isinstance(get_pipeline_steps(estimator)[0], ColumnTransformer):
            return [(name, kind([None, 1])) for name, kind in kinds.items()]
    elif X is not None and getattr(X, "dtype", np.asarray(X).dtype).kind in "OUS":
        kind = StringTensorType
    return [("X", kind([None, estimator.n_features_in_]))]


def _build_operator_outputs(operator: Any) -> tuple[Expr, list[Expr]]:
    """Return the input of an operator of skl2onnx, and the outputs that it has.

    Numbers of any type are cast. Classes are strings or integers, as skl2onnx needs.
    """
    inputs, _ = build_inputs(operator.raw_operator)
    if any(value.dtype is object for value in inputs.values()):
        name = type(operator.raw_operator).__name__
        raise TypeError(
            f"{name} was fitted to columns of strings, which cannot be exported beside steps that "
            f"skl2onnx converts. Export the {name} alone, by to_onnx."
        )
    row = Expr("", shape=(operator.raw_operator.n_features_in_,))
    first, *others = build_outputs(operator.raw_operator, cast(row, np.float32)).values()
    if first.dtype not in (np.float32, np.int64, object):
        classes: Any = first.inputs[0]
        integers = classes.astype(np.int64)
        if (integers != classes).any():
            raise ValueError(
                "skl2onnx supports only labels that are strings or integers, got "
                f"{classes[:5]}. Number the classes from 0, and fit again."
            )
        first = replace(first, inputs=(integers, first.inputs[1]), dtype=integers.dtype)
    return row, [first, *others][: len(operator.outputs)]


def _parse_transformer(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Declare one output, also for an autoencoder, which skl2onnx takes for an outlier detector."""
    from skl2onnx.common.data_types import FloatTensorType

    operator = scope.declare_local_operator(f"Skbackprop{type(model).__name__}", model)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable("variable", FloatTensorType()))
    return operator.outputs


def _set_types(operator: Any) -> None:
    """Set type and shape of each output."""
    from skl2onnx.common import data_types

    by_dtype = {
        np.dtype(np.float32): data_types.FloatTensorType,
        np.dtype(np.int64): data_types.Int64TensorType,
        np.dtype(object): data_types.StringTensorType,
    }
    n_rows, outputs = operator.inputs[0].get_first_dimension(), _build_operator_outputs(operator)[1]
    for variable, value in zip(operator.outputs, outputs, strict=True):
        variable.set_type(by_dtype[np.dtype(value.dtype)]([n_rows, *value.shape]))


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of an operator to the model of skl2onnx."""
    row, outputs = _build_operator_outputs(operator)
    names = {row: operator.inputs[0].full_name}
    for value, variable in zip(outputs, operator.outputs, strict=True):
        names[Expr("Identity", (value,))] = variable.full_name
    nodes, constants = write_nodes(names, scope.get_unique_variable_name)
    for node in nodes:
        node.name = scope.get_unique_operator_name(node.op_type)
        version = ML_OPSET if node.domain else OPSET
        container.node_domain_version_pair_sets.add((node.domain, version))
    container.nodes.extend(nodes)
    container.initializers.extend(constants)
