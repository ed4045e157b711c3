"""Malicious files run nothing, and import nothing that is not trusted.

Each has a valid checksum, and calls something that would leave a trace.
"""

import ast
import importlib
import inspect
import io
import pickle
import sys

import numpy as np
import pytest
from forging import mapping, node, plain, sequence, written
from sklearn.ensemble import HistGradientBoostingRegressor

import skbackprop
from skbackprop import (
    activations,
    initializers,
    layers,
    losses,
    optimizers,
    schedules,
    weight_averaging,
)
from skbackprop.estimators._estimator_mixin import EstimatorMixin
from skbackprop.persistence import get_trusted_types, load, save
from skbackprop.tabular._boosted_trees import remove_ordinal_encoding
from skbackprop.utils.configurable import Configurable

SYSTEM = "posix.system" if sys.platform != "win32" else "nt.system"
CLASSIFIER = "skbackprop.estimators.classifier.BackpropClassifier"


def called(name, *arguments):
    """Return a node that calls a function, as skops restores reduced objects."""
    content = sequence(*map(plain, arguments))
    return node("ConstructorFromReduceNode", name, content=content)


def function(name):
    return node("FunctionNode", name)


def partial_of(name, *arguments):
    content = {
        "func": function(name),
        "args": sequence(*map(plain, arguments)),
        "kwds": mapping(),
        "namespace": mapping(),
    }
    return node("PartialNode", "functools.partial", content=content)


def method(name, part):
    owner = f"{part['__module__']}.{part['__class__']}"
    return node("MethodNode", owner, content={"func": name, "obj": part})


def pickled_array(trace):
    """Return a pickled array of objects, one of which writes a file when unpickled."""
    file = io.BytesIO()
    np.save(file, np.array([Command(trace), None], dtype=object), allow_pickle=True)
    return file.getvalue()


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
    "exec": lambda trace: called("builtins.exec", f"open({str(trace)!r}, 'w')"),
    "open": lambda trace: called("builtins.open", str(trace), "w"),
    "a function": lambda trace: function("os.system"),
    "a partial": lambda trace: partial_of("os.system", f"touch {trace}"),
    "a dict of a class": lambda trace: node(
        "DictNode", SYSTEM, content={}, key_types=sequence(kind="list")
    ),
    "a list of a class": lambda trace: node(
        "ListNode", "pathlib.Path", content=[plain(str(trace))]
    ),
    "a tuple of a class": lambda trace: node("TupleNode", "os.popen", content=[plain("true")]),
    "an array of a class": lambda trace: node(
        "NdArrayNode", "numpy.memmap", type="numpy", file="1.npy"
    ),
    "an object": lambda trace: node(
        "ObjectNode", "subprocess.Popen", content=mapping(args=plain(1))
    ),
    "a method": lambda trace: method("fit", node("ObjectNode", CLASSIFIER, content=mapping())),
    "a caller of methods": lambda trace: node(
        "OperatorFuncNode", "operator.methodcaller", attrs=sequence(plain("fit"))
    ),
    "a bit generator that is none": lambda trace: node(
        "RandomGeneratorNode",
        "numpy.random._generator.Generator",
        content={"bit_generator": mapping(bit_generator=plain("seed")), "seed_seq": mapping()},
    ),
    "our function that unpickles": lambda trace: called(
        "skbackprop.model_selection._candidates._unpickle_states", "x"
    ),
    "our dict that unpickles": lambda trace: node(
        "ObjectNode", "skbackprop.model_selection._candidates.CandidateStates", content=mapping()
    ),
    "our callback that writes": lambda trace: node(
        "ObjectNode",
        "skbackprop.callbacks.training_log.TrainingLog",
        content=mapping(path=plain(str(trace))),
    ),
    "our own save": lambda trace: called("skbackprop.persistence.save_load.save", 1, str(trace)),
    "a distribution, which makes functions of text": lambda trace: node(
        "ObjectNode", "scipy.stats._distn_infrastructure.rv_continuous", content=mapping()
    ),
    "a cache of joblib, which unpickles": lambda trace: called("joblib.memory.Memory", str(trace)),
}


@pytest.mark.parametrize("make", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("is_within", [False, True], ids=["alone", "within a model"])
def test_malicious_parts_do_not_run(make, is_within, tmp_path):
    trace = tmp_path / "trace"
    part = make(trace)
    if is_within:
        part = node("ObjectNode", CLASSIFIER, content=mapping(alpha=part))
    path = written(tmp_path / "evil.skops", part, **{"1.npy": pickled_array(trace)})
    with pytest.raises(
        ValueError, match=r"evil\.skops' contains the types .*, which are not trusted"
    ):
        load(path)
    assert not trace.exists()


def test_object_arrays_are_not_unpickled(tmp_path):
    trace = tmp_path / "trace"
    array = node("NdArrayNode", "numpy.ndarray", type="numpy", file="1.npy")
    part = node("ObjectNode", CLASSIFIER, content=mapping(alpha=array))
    path = written(tmp_path / "evil.skops", part, **{"1.npy": pickled_array(trace)})
    with pytest.raises(ValueError, match="is complete, but skops cannot load it"):
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
    part = node(loader, "evil_module.Evil", content=sequence())
    path = written(tmp_path / "evil.skops", part)
    with pytest.raises(ValueError, match=r"trusted=\['evil_module\.Evil'\]"):
        load(path)
    assert "evil_module" not in sys.modules


def test_unknown_loaders_are_refused(tmp_path):
    path = written(tmp_path / "evil.skops", node("EvilNode", CLASSIFIER, content=mapping()))
    with pytest.raises(ValueError, match="is complete, but skops cannot load it"):
        load(path)


# --------------------------------------------------------------------------------- trees


def boosting_with_categories():
    """Return boosting of one column of categories and one of numbers."""
    X = np.column_stack([np.arange(60) % 3, np.arange(60) % 7]).astype(float)
    y = 3.0 * (X[:, 0] == 1) + X[:, 1]
    boosting = HistGradientBoostingRegressor(
        max_iter=2, categorical_features=[0], min_samples_leaf=2, learning_rate=1.0
    )
    boosting.fit(X, y)
    remove_ordinal_encoding(boosting, np.array([True, False]))
    return boosting, X


def set_field(name, value, is_set=False):
    """Return a function that sets a field of each split, or of those of categories."""

    def change(boosting):
        for (tree,) in boosting._predictors:
            is_changed = (tree.nodes["is_leaf"] == 0) & (tree.nodes["is_categorical"] >= is_set)
            tree.nodes[name][is_changed] = value

    return change


def fewer(name, index):
    """Return a function that cuts the arrays of each tree."""

    def change(boosting):
        for (tree,) in boosting._predictors:
            setattr(tree, name, getattr(tree, name)[index])

    return change


def set_attribute(part, name, value):
    def change(boosting):
        setattr(part(boosting), name, value)

    return change


DAMAGES = {
    "a child outside of the tree": set_field("left", 10**6),
    "a child before its parent": set_field("right", 0),
    "a column that does not exist": set_field("feature_idx", 2),
    "a negative column": set_field("feature_idx", -1),
    "a set that does not exist": set_field("bitset_idx", 100, is_set=True),
    "categories of a column of numbers": set_field("is_categorical", 1),
    "too few nodes": fewer("nodes", slice(1)),
    "no sets": fewer("raw_left_cat_bitsets", slice(0)),
    "smaller sets": fewer("raw_left_cat_bitsets", (slice(None), slice(4))),
    "fewer columns": set_attribute(lambda each: each, "n_features_in_", 1),
    "columns without categories": set_attribute(
        lambda each: each._bin_mapper, "is_categorical_", np.zeros(2, dtype=bool)
    ),
    "a method that is another": set_attribute(
        lambda each: each._bin_mapper, "make_known_categories_bitsets", 1
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
    with pytest.raises(ValueError, match="is complete, but skops cannot load it: ValueError"):
        load(path)


# ------------------------------------------------------------------------- what is trusted


def things_trusted():
    for name in get_trusted_types():
        module, _, own = name.rpartition(".")
        yield name, getattr(importlib.import_module(module), own)


def test_trusted_types_are_classes_or_metrics_of_scikit_learn():
    for name, thing in things_trusted():
        if not inspect.isclass(thing):
            assert name.startswith("sklearn.metrics.")


def test_classes_with_side_effects_are_not_trusted():
    packages = ("callbacks", "displays", "export", "persistence", "utils", "testing")
    for name in get_trusted_types():
        assert not name.startswith(tuple(f"skbackprop.{each}" for each in packages))


def test_trusted_classes_run_no_code_when_loaded():
    """They have no hook that skops would call, and reduce only to their own class."""
    ours = [thing for name, thing in things_trusted() if name.startswith(skbackprop.__name__)]
    for base in (Configurable, EstimatorMixin):
        assert vars(base.__new__(base)) == {}
    for kind in ours:
        for base in kind.__mro__:
            if base.__module__.startswith(skbackprop.__name__):
                assert not {"__setstate__", "__del__"} & set(vars(base))
                # __new__ of these checks keyword names, and skops passes no keywords.
                makes_itself = issubclass(base, tuple) or base in (Configurable, EstimatorMixin)
                assert "__new__" not in vars(base) or makes_itself
            if "__reduce__" in vars(base) and base is not object:
                tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(base.__reduce__)))
                [returned] = [part for part in ast.walk(tree) if isinstance(part, ast.Return)]
                assert ast.unparse(returned.value.elts[0]) in ("type(self)", kind.__name__)


TABLES = {
    "activations": activations.ACTIVATIONS,
    "averages": weight_averaging.AVERAGES,
    "initializers": initializers.INITIALIZERS,
    "normalizations": layers.NORMALIZATIONS,
    "losses of classifiers": losses.CLASSIFIER_LOSSES,
    "losses of regressors": losses.REGRESSOR_LOSSES,
    "optimizers": optimizers.SOLVERS,
    "schedules": schedules.SCHEDULES,
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_named_parts_are_trusted(table):
    for part in table.values():
        kind = part if inspect.isclass(part) else type(part)
        assert f"{kind.__module__}.{kind.__qualname__}" in get_trusted_types()
