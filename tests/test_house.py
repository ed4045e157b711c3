"""Tests of the source tree: imports, names, docstrings, size, and code in the documentation."""

import ast
import importlib
import importlib.metadata
import inspect
import re
import sys
import tomllib
from collections import Counter
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

import skbackprop
from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropRegressor,
    ConformalClassifier,
    ConformalRegressor,
    activations,
    callbacks,
    dask,
    displays,
    early_stopping,
    export,
    initializers,
    inspection,
    layers,
    losses,
    model_selection,
    optimizers,
    persistence,
    schedules,
    tabular,
    testing,
    weight_averaging,
)
from support import few_epochs

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "skbackprop"
IMPORT_NAME = PACKAGE.name


def name_of(path):
    """Return the dotted name of a file of the package, relative to the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def parsed(path):
    return ast.parse(path.read_text())


@cache
def imported_by(name, path):
    """Return the dotted name of all that a file imports: modules, or what it takes out of them.

    Imports inside of functions and under TYPE_CHECKING count as well.
    """
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    package = [IMPORT_NAME, *filter(None, package)]
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            found += [f"{module}.{alias.name}" for alias in node.names]
    return found


def external_imports_of(name, path):
    """Return the top-level names of the other packages that a file imports."""
    return {target.partition(".")[0] for target in imported_by(name, path)} - {IMPORT_NAME}


def private_imports_of(name, path):
    """Return what a file imports of scikit-learn whose name, or whose module's, is private."""
    return {
        target
        for target in imported_by(name, path)
        if target.startswith("sklearn.") and "._" in target
    }


# -------------------------------------------------------------------------------- imports


def test_private_names_of_scikit_learn_are_imported_in_one_module():
    users = {name for name, path in MODULES.items() if private_imports_of(name, path)}
    assert users == {"_sklearn"}
    imported = {target for name, path in MODULES.items() for target in imported_by(name, path)}
    module = f"{IMPORT_NAME}._sklearn"
    for name in importlib.import_module(module).__all__:
        assert f"{module}.{name}" in imported, f"nobody needs {name}"


def test_imported_packages_are_declared_as_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    optional = (extras[name] for name in ("plot", "onnx", "optuna", "skops", "dask"))
    needed = [*project["dependencies"], *chain.from_iterable(optional)]
    names = {re.match(r"[\w-]+", line)[0].replace("scikit-learn", "sklearn") for line in needed}
    imported = set().union(*(external_imports_of(name, path) for name, path in MODULES.items()))
    assert imported - sys.stdlib_module_names == names


# --------------------------------------------------------------------------------- names


def test_class_names_are_unique():
    """One name has one meaning in the whole package, public or not."""
    names = Counter(
        node.name
        for path in MODULES.values()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, n in names.items() if n > 1] == []


# ----------------------------------------------------------------------------- docstrings


def parse(thing):
    """Return the sections of a NumPy docstring."""
    return NumpyDocString(inspect.cleandoc(thing.__doc__ or ""))


def documented_names(thing, section="Parameters"):
    """Return {name: type}; "a, b : float, default=1, 2" documents both a and b."""
    return {
        name.strip(): entry.type
        for entry in parse(thing)[section]
        for name in entry.name.split(",")
    }


def signature_of(function):
    """Return {name: default} of what the user passes, with the stars of *args and **kwargs."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return {
        stars.get(parameter.kind, "") + name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    }


def documented():
    """Yield (name, object) of every class, function and public method of the package."""
    for module in MODULES:
        if module.endswith("__main__"):
            continue
        full_name = f"{IMPORT_NAME}.{module}".rstrip(".")
        for name, thing in vars(importlib.import_module(full_name)).items():
            if getattr(thing, "__module__", None) != full_name:
                continue
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield f"{full_name}.{name}", thing
            if inspect.isclass(thing):
                for method_name, method in vars(thing).items():
                    function = getattr(method, "fn", method)  # behind available_if
                    function = getattr(function, "__func__", function)  # behind classmethod
                    if inspect.isfunction(function) and not method_name.startswith("__"):
                        yield f"{full_name}.{name}.{method_name}", function


# Where users import from.
PUBLIC_MODULES = [
    skbackprop,
    activations,
    weight_averaging,
    callbacks,
    dask,
    displays,
    export,
    initializers,
    inspection,
    layers,
    losses,
    optimizers,
    persistence,
    schedules,
    model_selection,
    early_stopping,
    tabular,
    testing,
]
PUBLIC = [
    pytest.param(getattr(module, name), id=f"{module.__name__}.{name}")
    for module in PUBLIC_MODULES
    for name in module.__all__
    if callable(getattr(module, name))
]
# A base class is for others to derive from: docs/extending.md has the examples.
BASES = [
    activations.ActivationFunction,
    weight_averaging.WeightAverage,
    initializers.Initializer,
    layers.Normalization,
    losses.CanonicalLinkLoss,
    losses.ClassifierLoss,
    losses.Link,
    losses.Loss,
    optimizers.Optimizer,
    schedules.LearningRateSchedule,
]
# Sections that are not required everywhere: numpydoc asks for them in every docstring.
NOT_REQUIRED = {"ES01", "EX01", "SA01", "RT01", "YD01"}
# A return value may be named and described in one line, and a summary may begin with a formula.
NOT_OURS = {"RT02", "RT03", "PR04", "PR08", "SS02", "SS03"}


@pytest.mark.slow
def test_docstrings_are_valid_for_numpydoc():
    """Documented parameters are those of the signature, and sections are in order.

    Fields that other objects set, and users do not, are not documented.
    """
    errors = [
        f"{name}: {message}"
        for name, thing in documented()
        if thing.__doc__ and not name.rpartition(".")[2].startswith("_")
        for code, message in validate(name)["errors"]
        if code not in NOT_REQUIRED | NOT_OURS
        and not (code == "PR01" and not parse(thing)["Parameters"])
        and message != f"Parameters {set(getattr(thing, '_set_elsewhere', ()))} not documented"
    ]
    assert errors == []


def test_documented_defaults_are_those_of_the_signature():
    public = [param.values[0] for param in PUBLIC]
    for name, thing in documented():
        described = documented_names(thing)
        in_signature = signature_of(thing) if described else {}
        for parameter, kind in described.items():
            default = in_signature[parameter]
            written = kind.partition("default=")[2]
            if default is inspect.Parameter.empty:
                assert not written, f"{parameter} of {name} has no default"
            elif written:
                values = eval(written, {"np": np})
                # One line for two parameters gives two defaults. A nan equals none but itself.
                is_same = default is values or default == values
                assert is_same or default in values, f"{parameter} of {name}: {written}"
            else:
                assert thing not in public, f"{parameter} of {name} has a default"


@pytest.mark.parametrize(
    "estimator_class",
    [
        BackpropAutoencoder,
        BackpropClassifier,
        BackpropRegressor,
        ConformalClassifier,
        ConformalRegressor,
        dask.DaskBackpropClassifier,
        dask.DaskBackpropRegressor,
        dask.DaskTabularClassifier,
        dask.DaskTabularRegressor,
        *(getattr(tabular, name) for name in tabular.__all__),
    ],
)
def test_public_methods_are_documented(estimator_class):
    for name, method in inspect.getmembers(estimator_class, callable):
        if name.startswith("_") or not method.__module__.startswith(IMPORT_NAME):
            continue
        parameters = [parameter for parameter in signature_of(method) if parameter != "self"]
        assert list(documented_names(method)) == parameters, name
        assert parse(method)["Returns"], name


def test_public_names_have_examples():
    without = [
        param.id
        for param in PUBLIC
        if param.values[0] not in BASES
        and ">>> " not in "\n".join(parse(param.values[0])["Examples"])
    ]
    assert without == []


def test_public_names_exist():
    for module in PUBLIC_MODULES:
        assert all(hasattr(module, name) for name in module.__all__)


# ------------------------------------------------------------------------------------ size

# The bounds of a function: its code lines, its parameters, which constructors and public methods
# may have more of, and its branches.
MAX_LINES = 50
MAX_PARAMETERS = 6
MAX_BRANCHES = 12
BRANCHES = (
    ast.If,
    ast.For,
    ast.While,
    ast.IfExp,
    ast.BoolOp,
    ast.ExceptHandler,
    ast.comprehension,
)
# Functions that exceed a bound, each with the reason. The list may only get shorter.
EXCEPTIONS = {
    "_sklearn.fit_boosting": "its steps share many values",
    "dask._blocks.map_rows": "its steps share many values",
    "dask.estimators._encode_block": "its steps share many values",
    "displays.search.SearchDisplay._choose_axes": "its steps share many values",
    "displays.search.SearchDisplay.plot": "its steps share many values",
    "estimators.explanation.make_explanation": "its steps share many values",
    "export._model_outputs._convert_boosting": "its steps share many values",
    "export.sklearn_export.to_sklearn": "its steps share many values",
    "inspection._learning_rate_finder.find_learning_rate": "its steps share many values",
    "layers.attention.bind_attention": "its steps share many values",
    "layers.dense.bind_dense": "its steps share many values",
    "layers.embeddings.PeriodicEmbedding.bind": "its steps share many values",
    "layers.normalization.LayerNormalization.bind.backward": "its steps share many values",
    "layers.pooling.bind_pooling": "its steps share many values",
    "model_selection._stacked_training.make_members": "its steps share many values",
    "model_selection._stacked_training.train_candidates": "its steps share many values",
    "nn.network.BoundNetwork.__init__": "its steps share many values",
    "nn.stack.Stack.train_epoch": "its steps share many values",
    "tabular._blended_estimators.resolve_blend": "its steps share many values",
    "tabular._column_values.infer_column_kind": "its steps share many values",
    "tabular._column_values.infer_kind_of_strings": "its steps share many values",
    "tabular._networks.train_networks": "its steps share many values",
    "tabular._read_table._check_choice": "its steps share many values",
    "tabular._string_formats.DateFormat.parse": "its steps share many values",
    "tabular._string_formats.NumberFormat.parse": "its steps share many values",
    "tabular._table_encoding.FittedEncoding.fit": "its steps share many values",
    "tabular.base.BaseTabular._fit_components": "its steps share many values",
    "tabular.base.BaseTabular._fit_table": "its steps share many values",
    "testing.check_gradient": "its steps share many values",
    "training.architecture.mirror_layers": "its steps share many values",
    "training.config.Config.from_params": "its steps share many values",
    "training.epochs.end_epoch": "its steps share many values",
    "training.lbfgs.train_by_lbfgs": "its steps share many values",
    "training.train.train": "its steps share many values",
    "utils.configurable.is_equal": "its steps share many values",
}
# The functions, files and classes that one `fit` passes through.
WALK_OF_A_FIT = (260, 35, 34)


def count_lines(function):
    """Return the number of code lines of a function, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    nodes = [function.args, *function.decorator_list, *body]
    parts = [part for node in nodes for part in ast.walk(node)]
    return len({function.lineno} | {part.lineno for part in parts if hasattr(part, "lineno")})


def count_parameters(function):
    """Return the number of parameters; none of constructors and public methods."""
    arguments = function.args
    names = [item.arg for item in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
    if names[:1] not in (["self"], ["cls"]):
        return len(names)
    is_public = function.name == "__init__" or not function.name.startswith("_")
    return 0 if is_public else len(names) - 1


def iter_functions(module):
    """Yield the functions and methods of a module, with their qualified names."""

    def visit(node, prefix):
        for child in ast.iter_child_nodes(node):
            is_function = isinstance(child, ast.FunctionDef)
            is_scope = is_function or isinstance(child, ast.ClassDef)
            name = f"{prefix}.{child.name}" if is_scope else prefix
            if is_function:
                yield name, child
            yield from visit(child, name)

    return visit(parsed(MODULES[module]), module)


def find_excess(function):
    """Return which bounds a function exceeds, as text; empty if it exceeds none."""
    n_branches = sum(isinstance(node, BRANCHES) for node in ast.walk(function))
    counts = {
        "lines": (count_lines(function), MAX_LINES),
        "parameters": (count_parameters(function), MAX_PARAMETERS),
        "branches": (n_branches, MAX_BRANCHES),
    }
    return ", ".join(f"{n} {name}" for name, (n, bound) in counts.items() if n > bound)


def test_functions_are_short():
    """A function has few lines, parameters and branches, so that it can be read at once."""
    excess = {
        name: find_excess(function)
        for module in MODULES
        for name, function in iter_functions(module)
    }
    long = {name: text for name, text in excess.items() if text}
    new = [f"{name} has {text}" for name, text in long.items() if name not in EXCEPTIONS]
    assert not new, "Divide these functions: " + "; ".join(new)
    old = [name for name in EXCEPTIONS if name not in long]
    assert not old, "Delete these entries of EXCEPTIONS: " + ", ".join(old)


@few_epochs
def test_a_fit_passes_through_no_more_of_the_package():
    codes, kinds = set(), set()

    def visit(frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            codes.add(frame.f_code)
            kinds.add(type(frame.f_locals.get("self")))

    X = np.random.default_rng(0).normal(size=(600, 8))
    network = BackpropClassifier((5,), max_iter=2, random_state=0).fit(X, X[:, 0] > 0)
    sys.setprofile(visit)
    network.fit(X, X[:, 0] > 0)
    sys.setprofile(None)
    found = len(codes), len({code.co_filename for code in codes}), len(kinds - {type(None)})
    assert all(n <= ceiling for n, ceiling in zip(found, WALK_OF_A_FIT, strict=True)), found


# -------------------------------------------------------------------------------- releases


def test_citation_has_the_version_of_the_package():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == skbackprop.__version__


# ---------------------------------------------------------------------------------- texts

FOLDERS = ["skbackprop", "tests", "docs", "examples", "benchmarks"]
# Generated by `make docs`.
MADE = {ROOT / "docs" / folder for folder in ("_build", "gallery", "reference")}
TEXTS = sorted(
    path
    for pattern in ("*.py", "*.md", "*.toml", "Makefile")
    for path in [*ROOT.glob(pattern), *(p for f in FOLDERS for p in (ROOT / f).rglob(pattern))]
    if MADE.isdisjoint(path.parents)
)
# Spelled in two parts, so that this file does not contain them.
LEFT_TO_DO = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "PLACE" + "HOLDER"]))


def relative(path):
    return str(path.relative_to(ROOT))


def test_no_todo_is_left():
    assert [relative(path) for path in TEXTS if LEFT_TO_DO.search(path.read_text())] == []


def test_modules_have_docstrings():
    sources = [path for path in TEXTS if path.suffix == ".py"]
    without = [path for path in sources if not re.match(r'(#.*\n|\s)*r?"""', path.read_text())]
    assert without == []


# ------------------------------------------------------------------------ code in the docs

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_pytest_runs_doctests_of_readme_and_docs():
    """Blocks with a >>> prompt are doctests: pytest runs them, as long as it is told to."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert {"README.md", "docs", "skbackprop"} <= set(options["testpaths"])
    assert {"--doctest-modules", "--doctest-glob=*.md"} <= set(options["addopts"])


def test_code_blocks_have_prompts():
    """Code without prompts is not run."""
    for page in PAGES:
        blocks = re.findall(r"^```(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        assert all(re.match(r"python\n(\n|>>> )", block) for block in blocks), page
