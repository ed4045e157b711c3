"""Export a fitted estimator to ONNX."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..utils.arrays import Array
from ..utils.validation import require_extra
from ._model_graph import build_graph, has_formulas
from ._onnx_graph import OPSET, OnnxGraph, convert_classes, encode_values, get_dtype
from .skl2onnx_converters import convert_by_skl2onnx

# The version of the file format of ONNX 1.8, to which the opset belongs.
IR_VERSION = 7


def to_onnx(estimator: Any, X: Any = None, *, return_std: bool = False) -> Any:
    """Return a fitted estimator as an ONNX model, in single precision.

    Estimators of this package are exported by their formulas, alone and after transformers with a
    formula: scikit-learn's scalers and the transformers of this package. skl2onnx converts all
    other estimators, also those that contain estimators of this package.

    The input ``X`` is a float32 tensor of shape (n, n_features). The outputs have the names and
    shapes of skl2onnx:

    - Classifiers have ``label``, of shape (n,), and ``probabilities``, of shape (n, n_classes), or
      ``scores``, the decision values, for losses without probabilities. Labels are integers,
      booleans, floats or strings, as in `classes_`. For multilabel targets, ``label`` has 0/1
      indicators, of shape (n, n_labels). For several columns of labels, the outputs are
      ``label_0``, ``probabilities_0``, ``label_1`` and so on.
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
        The model, of opset 13 and IR version 7, or newer ones if skl2onnx needs them.

    Raises
    ------
    ImportError
        If onnx is not installed, or skl2onnx if it is needed.
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If the estimator, or a part of it, cannot be exported.
    ValueError
        If weights overflow in single precision, ONNX cannot represent the labels, `return_std` is
        set for an estimator without it, or X is required.

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
    with require_extra("to_onnx", extra="onnx"):
        import onnx
        from onnx import helper
    check_is_fitted(estimator)
    if not has_formulas(estimator):
        return convert_by_skl2onnx(estimator, X, return_std)
    model = convert_classes(build_graph(estimator, return_std), to_onnx_classes)
    numbers = count()
    names = [output.name for output in model.outputs]
    graph = OnnxGraph(model, "X", names, lambda name: f"{name}_{next(numbers)}")
    nodes = [
        helper.make_node(node.operator, node.inputs, [node.output], node.output, **node.attributes)
        for node in graph.nodes
    ]
    row = helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, ["n", model.row.width])
    get_type = helper.np_dtype_to_tensor_dtype
    infos = [
        helper.make_tensor_value_info(
            output.name,
            get_type(get_dtype(output)),
            ["n", *output.row_shape],
        )
        for output in model.outputs
    ]
    tensors = [
        helper.make_tensor(
            name,
            get_type(array.dtype),
            array.shape,
            encode_values(array),
        )
        for name, array in graph.initializers.items()
    ]
    return helper.make_model(
        helper.make_graph(nodes, model.estimator, [row], infos, tensors),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="skbackprop",
    )


def to_onnx_classes(classes: Array) -> Array:
    """Return classes as an array of a type that ONNX supports, with strings as objects.

    Raises
    ------
    ValueError
        If ONNX cannot represent them.
    """
    classes = np.asarray(classes)
    kind = classes.dtype.kind
    if kind in "UO" and all(isinstance(label, str) for label in classes.tolist()):
        return classes.astype(object)
    if kind == "u" and classes.max() > np.iinfo(np.int64).max:
        raise ValueError(
            f"ONNX supports integer labels up to 2**63 - 1, but the largest is {classes.max()}. "
            "Number the classes from 0 on, and fit again."
        )
    if kind in "iu":
        return classes.astype(np.int64)
    if kind == "b" or classes.dtype in (np.float32, np.float64):
        return classes
    raise ValueError(
        "ONNX supports labels that are integers, booleans, float32 or float64 numbers or strings, "
        f"but these have dtype {classes.dtype}: {classes[:5]}. Fit to labels of these types."
    )
