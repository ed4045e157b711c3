"""Malicious files run nothing, and import nothing that is not trusted.

Each calls something that would leave a trace.
"""

import ast
import importlib
import inspect
import io
import json
import pickle
import sys
import typing
from zipfile import ZipFile

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingRegressor
from skops.io.exceptions import UntrustedTypesFoundException

import skbackprop
from skbackprop.activations import ACTIVATIONS
from skbackprop.estimators._fitted import FittedMixin
from skbackprop.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES
from skbackprop.optimizers import SOLVERS
from skbackprop.persistence import get_trusted_types, load, save
from skbackprop.schedules import SCHEDULES
from skbackprop.tabular._blended_estimators import use_ordinal_table
from skbackprop.tabular._table_encoding import ColumnEncoding

SYSTEM = "posix.system" if sys.platform != "win32" else "nt.system"
CLASSIFIER = "skbackprop.estimators.classifier.BackpropClassifier"


def node(loader, name, **content):
    """Return a node of a schema: an object of a class or function, by its full name."""
    module, _, own = name.rpartition(".")
    return {"__loader__": loader, "__module__": module, "__class__": own, **content}


def plain(value):
    """Return a node of a schema for a JSON value."""
    return node("JsonNode", "builtins.str", content=json.dumps(value), is_json=True)


def sequence(*parts, kind="tuple"):
    """Return a node of a schema for a tuple or a list."""
    return node(f"{kind.title()}Node", f"builtins.{kind}", content=list(parts))


def mapping(**parts):
    """Return a node of a schema for a dict with string keys."""
    types = sequence(*[node("TypeNode", "builtins.str")] * len(parts), kind="list")
    return node("DictNode", "builtins.dict", content=parts, key_types=types)


def written(path, schema, **members):
    """Write a file with this schema and further members."""
    whole = {"_skops_version": skops.__version__, "protocol": 2} | schema
    with ZipFile(path, "w") as archive:
        for name, content in (members | {"schema.json": json.dumps(whole)}).items():
            archive.writestr(name, content)
    return path


def called(name, *arguments):
    """Return a node that calls a function, as skops restores reduced objects."""
    content = sequence(*map(plain, arguments))
    return node("ConstructorFromReduceNode", name, content=content)


def partial_of(name, *arguments):
    content = {
        "func": node("FunctionNode", name),
        "args": sequence(*map(plain, arguments)),
        "kwds": mapping(),
        "namespace": mapping(),
    }
    return node("PartialNode", "functools.partial", content=content)


def method(name, part):
    owner = f"{part['__module__']}.{part['__class__']}"
    return node("MethodNode", owner, content={"func": name, "obj": part})


class Command:
    """An object whose pickle writes a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


# Malicious parts of files, by what they would call. Each would create the file `trace`.
PARTS = {
    "os.system": lambda trace: called("os.system", f"touch {trace}"),
    "posix.system": lambda trace: called(SYSTEM, f"touch {trace}"),
    "eval": lambda trace: called("builtins.eval", f"open({str(trace)!r}, 'w')"),
    "open": lambda trace: called("builtins.open", str(trace), "w"),
    "a function": lambda trace: node("FunctionNode", "os.system"),
    "a partial": lambda trace: partial_of("os.system", f"touch {trace}"),
    "a list of a class": lambda trace: node(
        "ListNode", "pathlib.Path", content=[plain(str(trace))]
    ),
    "an array of a class": lambda trace: node(
        "NdArrayNode", "numpy.memmap", type="numpy", file="1.npy"
    ),
    "an object": lambda trace: node(
        "ObjectNode", "subprocess.Popen", content=mapping(args=plain(1))
    ),
    "a method": lambda trace: method("fit", node("ObjectNode", CLASSIFIER, content=mapping())),
    "our estimator that unpickles": lambda trace: node(
        "ObjectNode",
        "skbackprop.model_selection._stand_in.TrainedEstimator",
        content=mapping(estimator=plain("x")),
    ),
    "our callback that writes": lambda trace: node(
        "ObjectNode",
        "skbackprop.callbacks.TrainingLog",
        content=mapping(path=plain(str(trace))),
    ),
    "our own save": lambda trace: called("skbackprop.persistence.save", 1, str(trace)),
    "a cache of joblib, which unpickles": lambda trace: called("joblib.memory.Memory", str(trace)),
}


@pytest.mark.parametrize("make", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("is_within", [False, True], ids=["alone", "within a model"])
def test_malicious_parts_do_not_run(make, is_within, tmp_path):
    trace = tmp_path / "trace"
    part = make(trace)
    if is_within:
        part = node("ObjectNode", CLASSIFIER, content=mapping(alpha=part))
    path = written(tmp_path / "evil.skops", part, **{"1.npy": b""})
    with pytest.raises(UntrustedTypesFoundException):
        load(path)
    assert not trace.exists()


def test_object_arrays_are_not_unpickled(tmp_path):
    trace, file = tmp_path / "trace", io.BytesIO()
    np.save(file, np.array([Command(trace), None], dtype=object), allow_pickle=True)
    array = node("NdArrayNode", "numpy.ndarray", type="numpy", file="1.npy")
    part = node("ObjectNode", CLASSIFIER, content=mapping(alpha=array))
    path = written(tmp_path / "evil.skops", part, **{"1.npy": file.getvalue()})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Command(trace))).close()
    assert trace.exists()  # the trace works


@pytest.mark.parametrize(
    "loader", ["ObjectNode", "FunctionNode", "TypeNode", "ConstructorFromReduceNode"]
)
def test_untrusted_modules_are_not_imported(loader, tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("class Evil:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = written(tmp_path / "evil.skops", node(loader, "evil_module.Evil", content=sequence()))
    with pytest.raises(UntrustedTypesFoundException, match=r"evil_module\.Evil"):
        load(path)
    assert "evil_module" not in sys.modules


# --------------------------------------------------------------------------------- trees


def boosting_with_categories():
    """Return boosting of one column of categories and one of numbers, as tables hold it."""
    X = np.column_stack([np.arange(60) % 3, np.arange(60) % 7]).astype(float)
    y = 3.0 * (X[:, 0] == 1) + X[:, 1]
    boosting = HistGradientBoostingRegressor(
        max_iter=2, categorical_features=[0], min_samples_leaf=2, learning_rate=1.0
    )
    boosting.fit(X, y)
    use_ordinal_table(boosting, np.array([True, False]))
    return boosting, X


def set_field(name, value):
    """Return a function that sets a field of the nodes of categories, or of other splits."""

    def change(boosting):
        for (tree,) in boosting._predictors:
            is_changed = tree.nodes["is_categorical"] == (name == "bitset_idx")
            tree.nodes[name][is_changed & (tree.nodes["is_leaf"] == 0)] = value

    return change


def cut(name, *index):
    """Return a function that cuts the arrays of each tree."""

    def change(boosting):
        for (tree,) in boosting._predictors:
            setattr(tree, name, getattr(tree, name)[index].copy())

    return change


DAMAGES = {
    "a child outside of the tree": set_field("left", 10**6),
    "a child before its parent": set_field("right", 0),
    "a column that does not exist": set_field("feature_idx", 2),
    "a negative column": set_field("feature_idx", -1),
    "a set that does not exist": set_field("bitset_idx", 100),
    "categories of a column of numbers": set_field("is_categorical", 1),
    "too few nodes": cut("nodes", slice(1)),
    "no nodes": cut("nodes", slice(0)),
    "no sets": cut("raw_left_cat_bitsets", slice(0)),
    "no sets of bins": cut("binned_left_cat_bitsets", slice(0)),
    "smaller sets": cut("raw_left_cat_bitsets", slice(None), slice(4)),
    "fewer columns": lambda boosting: vars(boosting).update(n_features_in_=1),
    "fewer columns of the encoding": lambda boosting: vars(boosting._preprocessor).update(
        columns=np.zeros(1, dtype=int)
    ),
    "columns without categories": lambda boosting: vars(boosting._bin_mapper).update(
        is_categorical_=np.zeros(2, dtype=np.uint8)
    ),
    "columns that are not checked": lambda boosting: vars(boosting).update(_in_fit=True),
    "a method that is another": lambda boosting: vars(boosting._bin_mapper).update(
        make_known_categories_bitsets=1
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_trees_that_could_read_beyond_their_arrays_are_refused(damage, tmp_path):
    boosting, X = boosting_with_categories()
    assert any(tree.nodes["is_categorical"].any() for (tree,) in boosting._predictors)
    path = tmp_path / "trees.skops"
    save(boosting, path)
    np.testing.assert_array_equal(load(path).predict(X), boosting.predict(X))
    damage(boosting)
    save(boosting, path)
    with pytest.raises(ValueError, match="indices are not valid"):
        load(path)


def test_trees_outside_of_gradient_boosting_are_refused(tmp_path):
    boosting, _ = boosting_with_categories()
    save({"trees": boosting._predictors}, tmp_path / "trees.skops")
    with pytest.raises(ValueError, match="indices are not valid"):
        load(tmp_path / "trees.skops")


# ------------------------------------------------------------------------- what is trusted


def things_trusted():
    for name in get_trusted_types():
        module, _, own = name.rpartition(".")
        yield name, getattr(importlib.import_module(module), own)


def test_trusted_types_are_classes_or_metrics_of_scikit_learn():
    packages = ("callbacks", "displays", "export", "persistence", "utils", "testing")
    for name, thing in things_trusted():
        assert inspect.isclass(thing) or name.startswith("sklearn.metrics.")
        assert not name.startswith(tuple(f"skbackprop.{each}" for each in packages))


def test_trusted_classes_run_no_code_when_loaded():
    """They have no hook that skops would call, and reduce only to their own class."""
    for name, kind in things_trusted():
        if not name.startswith("skbackprop."):
            continue
        if not issubclass(kind, tuple):  # whose __new__ checks a number of arguments
            assert vars(kind.__new__(kind)) == {}
        for base in kind.__mro__:
            if base.__module__.startswith(skbackprop.__name__):
                # A network makes its state of arrays alone.
                hooks = {"__del__"} if base is FittedMixin else {"__setstate__", "__del__"}
                assert not hooks & set(vars(base))
            if "__reduce__" in vars(base) and base is not object:
                tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(base.__reduce__)))
                [returned] = [part for part in ast.walk(tree) if isinstance(part, ast.Return)]
                assert ast.unparse(returned.value.elts[0]) in ("type(self)", kind.__name__)


def test_named_parts_are_trusted():
    for table in (ACTIVATIONS, CLASSIFIER_LOSSES, REGRESSOR_LOSSES, SOLVERS, SCHEDULES):
        for part in table.values():
            kind = part if inspect.isclass(part) else type(part)
            assert f"{kind.__module__}.{kind.__qualname__}" in get_trusted_types()
    for kind in typing.get_args(ColumnEncoding):
        assert f"{kind.__module__}.{kind.__qualname__}" in get_trusted_types()
