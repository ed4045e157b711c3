"""`to_onnx`: a fitted estimator as an ONNX model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from ..core.arrays import Array
from ..core.extras import needed_by
from .models import Flags, Label, Model, Output, exported
from .onnx_graph import Graph

# Those of ONNX 1.8, of 2020, which runtimes for small devices read, and newer ones as well.
OPSET, IR_VERSION = 13, 7


def to_onnx(estimator: Any, *, return_std: bool = False) -> Any:
    """Return a fitted estimator as an ONNX model, in single precision.

    The input ``X`` is a tensor of float32 of shape (n, n_features). The outputs have the names
    and shapes that skl2onnx gives them:

    - of a classifier ``label``, of shape (n,), and ``probabilities``, of shape (n, n_classes), or
      ``scores``, the decision values, for losses without probabilities. Labels are integers,
      booleans, floats or strings, as in `classes_`. For multilabel targets ``label`` holds 0/1
      indicators, of shape (n, n_labels). For several columns of labels there are ``label_0``,
      ``probabilities_0``, ``label_1`` and so on;
    - of a regressor ``variable``, of shape (n, n_targets), also for one target, or of shape
      (n, n_targets, n_levels) for several levels of several targets; ``std`` with `return_std`;
    - of an autoencoder ``codes`` and ``reconstruction``; of a transformer ``variable``.

    Parameters
    ----------
    estimator : estimator
        A fitted network or tabular estimator, a search that has refitted one, or a pipeline that
        ends in one after scikit-learn's scalers or other transformers with a `formula`. For other
        pipelines see `register_converters`.
    return_std : bool, default=False
        Whether to add the standard deviation that a regressor's ``predict(X, return_std=True)``
        returns.

    Returns
    -------
    model : onnx.ModelProto
        The model, of opset 13 and IR version 7.

    Raises
    ------
    ImportError
        If onnx is not installed.
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is none that can be exported, or has a part without a `formula`.
    ValueError
        If single precision does not hold its weights, ONNX does not hold its labels, or
        `return_std` is for no regressor.

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
    with needed_by("to_onnx", extra="onnx"):
        import onnx
        from onnx import helper
    model = with_labels(exported(estimator, return_std), label_array)
    numbers = count()
    names = [output.name for output in model.outputs]
    graph = Graph(model, "X", names, lambda name: f"{name}_{next(numbers)}")
    nodes = [
        helper.make_node(node.operator, node.inputs, [node.output], node.output, **node.attributes)
        for node in graph.nodes
    ]
    row = helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, ["n", model.row.width])
    infos = [
        helper.make_tensor_value_info(
            output.name, helper.np_dtype_to_tensor_dtype(dtype_of(output)), ["n", *output.row_shape]
        )
        for output in model.outputs
    ]
    tensors = [
        helper.make_tensor(
            name,
            helper.np_dtype_to_tensor_dtype(array.dtype),
            array.shape,
            values_of(array),
        )
        for name, array in graph.initializers.items()
    ]
    return helper.make_model(
        helper.make_graph(nodes, model.estimator, [row], infos, tensors),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="skbackprop",
    )


def values_of(array: Array) -> Any:
    """Return the values of an initializer as ONNX has them: texts as bytes."""
    return [text.encode() for text in array] if array.dtype == object else array.ravel()


def with_labels(model: Model, labels: Callable[[Array], Array]) -> Model:
    """Return a model with other arrays in place of its classes."""
    outputs = (
        replace(output, classes=labels(output.classes)) if isinstance(output, Label) else output
        for output in model.outputs
    )
    return replace(model, outputs=tuple(outputs))


def label_array(classes: Array) -> Array:
    """Return classes as an array of a type that ONNX has: strings as objects.

    Raises
    ------
    ValueError
        If ONNX has no such labels.
    """
    classes = np.asarray(classes)
    kind = classes.dtype.kind
    if kind in "UO" and all(isinstance(label, str) for label in classes.tolist()):
        return classes.astype(object)
    if kind == "u" and classes.max() > np.iinfo(np.int64).max:
        raise ValueError(
            f"ONNX holds integer labels up to 2**63 - 1, and there is one of {classes.max()}. "
            "Number the classes from 0 on, and fit again."
        )
    if kind in "iu":
        return classes.astype(np.int64)
    if kind == "b" or classes.dtype in (np.float32, np.float64):
        return classes
    raise ValueError(
        "ONNX holds labels that are integers, booleans, float32 or float64 numbers, or strings, "
        f"and those of the model have dtype {classes.dtype}: {classes[:5]}. Fit to such labels."
    )


def dtype_of(output: Output) -> np.dtype[Any]:
    """Return the dtype of an output."""
    if isinstance(output, Label):
        dtype: np.dtype[Any] = output.classes.dtype
        return dtype
    return np.dtype(np.int64 if isinstance(output, Flags) else np.float32)
