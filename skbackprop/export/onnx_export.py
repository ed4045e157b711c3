"""`to_onnx`: a fitted estimator as an ONNX model."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..utils.arrays import Array
from ..utils.optional_dependencies import require_extra
from ._model_graph import build_graph, has_formulas
from ._onnx_graph import OPSET, Graph, dtype_of, values_of, with_labels
from .skl2onnx_converters import converted

# That of ONNX 1.8, as the opset is.
IR_VERSION = 7


def to_onnx(estimator: Any, X: Any = None, *, return_std: bool = False) -> Any:
    """Return a fitted estimator as an ONNX model, in single precision.

    Estimators of this package are written by their formulas, alone and after transformers that
    have one: scikit-learn's scalers and those of this package. All others are converted by
    skl2onnx, with our estimators wherever they are.

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
        A fitted network or tabular estimator, a search that has refitted one, a pipeline that
        ends in one, or any other estimator that skl2onnx converts.
    X : data frame or array-like of shape (n_samples, n_features), default=None
        Rows that tell skl2onnx the names and types of the columns; one is enough. They are needed
        where a step takes strings, or columns by their names. The columns of a frame are inputs
        of their own, of shape (n, 1), where they are of strings and numbers, or where the first
        step is a ColumnTransformer.
    return_std : bool, default=False
        Whether to add the standard deviation that a regressor's ``predict(X, return_std=True)``
        returns; not for what skl2onnx converts.

    Returns
    -------
    model : onnx.ModelProto
        The model, of opset 13 and IR version 7; newer ones where skl2onnx needs them.

    Raises
    ------
    ImportError
        If onnx is not installed, or skl2onnx where it is needed.
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is none that can be exported, or has a part without a `to_expression`.
    ValueError
        If single precision does not hold its weights, ONNX does not hold its labels, `return_std`
        is for no regressor, or X is needed.

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
        return converted(estimator, X, return_std)
    model = with_labels(build_graph(estimator, return_std), label_array)
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
