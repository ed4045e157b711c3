"""Is the house in order? Imports run one way, and what is written about the code is true of it.

The modules are parsed, not imported, for the first part; the second compares docstrings with
signatures and with each other, and sees to it that every example is run.
"""

import ast
import importlib
import importlib.metadata
import inspect
import re
import sys
import tomllib
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

import skbackprop
from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropRegressor,
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

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "skbackprop"
IMPORT_NAME = PACKAGE.name

# From the ground up: a module imports from its own room and from rooms of strictly lower floors.
# "" is the package's own __init__. A new room needs a floor here.
ROOMS = [
    {"utils"},
    {"initializers"},
    {"activations", "_conformal_scores", "losses", "optimizers", "schedules", "early_stopping"},
    {"layers"},
    {"weight_averaging"},
    {"nn"},
    {"_sklearn"},
    {"training"},
    {"estimators"},
    {"conformal", "inspection", "model_selection", "tabular", "testing"},
    {"dask", "displays", "export", "persistence"},
    {"callbacks"},
    {""},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
# What the estimators do, others could do: all below them knows of no scikit-learn.
NUMERICAL = set().union(*ROOMS[: FLOOR_OF["nn"] + 1])
ALLOWED_IN_THE_ENGINE = {*sys.stdlib_module_names, "numpy", "scipy"}


def name_of(path):
    """Return the dotted name of a file of the package, relative to the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_by(name, path):
    """Yield the dotted name of all that a file imports: modules, or what it takes out of them.

    Imports inside of functions and under TYPE_CHECKING count as well.
    """
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    package = [IMPORT_NAME, *filter(None, package)]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imports_of(name, path):
    """Return (modules of the package, top-level names of other packages) that a file imports."""
    inside, outside = set(), set()
    for target in imported_by(name, path):
        top, _, rest = target.partition(".")
        if top != IMPORT_NAME:
            outside.add(top)
        # "from .core import losses" imports the module core.losses, if there is one.
        elif rest in MODULES:
            inside.add(rest)
        else:
            inside.add(rest.rpartition(".")[0])
    return inside, outside


def private_imports_of(name, path):
    """Return what a file imports of scikit-learn whose name, or whose module's, is private."""
    return {
        target
        for target in imported_by(name, path)
        if target.startswith("sklearn.") and "._" in target
    }


# -------------------------------------------------------------------------------- imports


def room_of(module):
    return module.partition(".")[0]


def test_every_module_has_a_room_and_every_room_its_modules():
    assert {room_of(module) for module in MODULES} == set(FLOOR_OF)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_from_a_higher_floor_to_a_lower_one(module):
    inside, _ = imports_of(module, MODULES[module])
    others = {other for other in inside if room_of(other) != room_of(module)}
    upward = {other for other in others if FLOOR_OF[room_of(other)] >= FLOOR_OF[room_of(module)]}
    assert not upward, f"{module} imports {upward}"


def test_imports_go_round_in_no_circle():
    imports = {module: imports_of(module, path)[0] for module, path in MODULES.items()}
    TopologicalSorter(imports).prepare()  # raises a CycleError


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name) in NUMERICAL])
def test_all_up_to_the_engine_stands_on_numpy_and_scipy_alone(module):
    _, outside = imports_of(module, MODULES[module])
    assert outside <= ALLOWED_IN_THE_ENGINE


def test_private_names_of_scikit_learn_are_in_one_place():
    users = {name for name, path in MODULES.items() if private_imports_of(name, path)}
    assert users == {"_sklearn"}
    imported = {target for name, path in MODULES.items() for target in imported_by(name, path)}
    module = f"{IMPORT_NAME}._sklearn"
    for name in importlib.import_module(module).__all__:
        assert f"{module}.{name}" in imported, f"nobody needs {name}"


def test_what_is_imported_is_named_as_needed():
    """scikit-learn brings joblib and threadpoolctl, and might do without them one day.

    It brings narwhals too, as long as a release that is admitted reads data frames by it.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    optional = (extras[name] for name in ("plot", "onnx", "optuna", "skops", "dask"))
    needed = [*project["dependencies"], *chain.from_iterable(optional)]
    names = {re.match(r"[\w-]+", line)[0].replace("scikit-learn", "sklearn") for line in needed}
    imported = set().union(*(imports_of(name, path)[1] for name, path in MODULES.items()))
    # A notebook is a process that IPython runs.
    assert imported - sys.stdlib_module_names - {"IPython"} == names | {"narwhals"}
    brought = importlib.metadata.requires("scikit-learn")
    assert any(re.match(r"narwhals\b(?!.*extra)", line) for line in brought)


def test_the_parser_of_imports_sees_what_there_is(tmp_path):
    """The tests above would pass if nothing were found, so this one looks for known imports."""
    inside, outside = imports_of("nn.lbfgs", MODULES["nn.lbfgs"])
    assert {"utils.arrays", "nn.objective", "nn.data_loader"} <= inside
    assert {"numpy", "scipy"} <= outside
    path = tmp_path / "module.py"
    path.write_text(
        "from . import base\n"
        "from ._label_encoding import learn\n"
        "def function():\n"
        "    from .. import losses\n"
        "    import skbackprop.nn.network as network, sklearn.base\n"
        "    from sklearn.metrics import accuracy_score, _scorer\n"
        "    from sklearn.utils._tags import get_tags\n"
        "    import sklearn.utils._bunch\n"
    )
    inside, outside = imports_of("estimators.module", path)
    assert inside == {"estimators.base", "estimators._label_encoding", "losses", "nn.network"}
    assert outside == {"sklearn"}
    assert private_imports_of("estimators.module", path) == {
        "sklearn.metrics._scorer",
        "sklearn.utils._tags.get_tags",
        "sklearn.utils._bunch",
    }


# ----------------------------------------------------------------------------- docstrings


def section(docstring, title):
    """Return the lines of a section of a NumPy docstring; none if it is not there."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    starts = [
        i for i, line in enumerate(lines[:-1]) if line == title and set(lines[i + 1]) == {"-"}
    ]
    if not starts:
        return []
    body = lines[starts[0] + 2 :]
    ends = [i for i, line in enumerate(body) if line and set(line) == {"-"}]
    return body[: ends[0] - 1] if ends else body


def entries(docstring, title):
    """Return {name: (type, description)} of a section, in its order.

    "a, b : float, default=1, 2" documents both a and b.
    """
    found, names = {}, []
    for line in section(docstring, title):
        if line and not line[0].isspace():
            head, _, kind = line.partition(" : ")
            names = [name.strip() for name in head.split(",")]
            found |= {name: (kind, []) for name in names}
        else:
            for name in names:
                found[name][1].append(line.strip())
    return {name: (kind, " ".join(filter(None, text))) for name, (kind, text) in found.items()}


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
WITH_PARAMETERS = [
    pytest.param(thing, id=name)
    for name, thing in documented()
    if entries(thing.__doc__, "Parameters")
]


@pytest.mark.parametrize("thing", WITH_PARAMETERS)
def test_documented_parameters_are_those_of_the_signature(thing):
    in_signature = [name for name in signature_of(thing) if name != "cls"]
    assert list(entries(thing.__doc__, "Parameters")) == in_signature


@pytest.mark.parametrize("thing", WITH_PARAMETERS)
def test_documented_defaults_are_those_of_the_signature(thing):
    in_signature = signature_of(thing)
    for name, (kind, _) in entries(thing.__doc__, "Parameters").items():
        default = in_signature[name]
        written = kind.partition("default=")[2]
        if default is inspect.Parameter.empty:
            assert not written, f"{name} has no default"
        elif written:
            values = eval(written, {"np": np})
            # One line for two parameters gives two defaults. A nan equals none but itself.
            is_same = default is values or default == values
            assert is_same or default in values, f"{name}: {written}"
        else:
            assert thing not in [param.values[0] for param in PUBLIC], f"{name} has a default"


@pytest.mark.parametrize(
    "estimator_class",
    [
        BackpropAutoencoder,
        BackpropClassifier,
        BackpropRegressor,
        ConformalRegressor,
        dask.DaskBackpropClassifier,
        dask.DaskBackpropRegressor,
        *(getattr(tabular, name) for name in tabular.__all__),
    ],
)
def test_every_public_method_is_documented(estimator_class):
    for name, method in inspect.getmembers(estimator_class, callable):
        if name.startswith("_") or not method.__module__.startswith(IMPORT_NAME):
            continue
        parameters = [parameter for parameter in signature_of(method) if parameter != "self"]
        assert list(entries(method.__doc__, "Parameters")) == parameters, name
        assert section(method.__doc__, "Returns"), name


@pytest.mark.parametrize("thing", [param for param in PUBLIC if param.values[0] not in BASES])
def test_every_public_name_has_examples(thing):
    assert any(line.startswith(">>> ") for line in section(thing.__doc__, "Examples"))


def test_public_names_exist():
    for module in PUBLIC_MODULES:
        assert all(hasattr(module, name) for name in module.__all__)


# -------------------------------------------------------------------------------- releases


def test_the_version_to_cite_is_that_of_the_package():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == skbackprop.__version__


# ---------------------------------------------------------------------------------- texts

FOLDERS = ["skbackprop", "tests", "docs", "examples", "benchmarks"]
# What `make docs` makes of the rest, which may be under way.
MADE = {ROOT / "docs" / folder for folder in ("_build", "gallery", "reference")}
TEXTS = sorted(
    path
    for pattern in ("*.py", "*.md", "*.toml", "Makefile")
    for path in [*ROOT.glob(pattern), *(p for f in FOLDERS for p in (ROOT / f).rglob(pattern))]
    if MADE.isdisjoint(path.parents)
)
# Spelled in two parts, so that this file does not hold them.
LEFT_TO_DO = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "PLACE" + "HOLDER"]))


def relative(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", TEXTS, ids=relative)
def test_nothing_is_left_to_do(path):
    assert not LEFT_TO_DO.findall(path.read_text())


@pytest.mark.parametrize("path", [p for p in TEXTS if p.suffix == ".py"], ids=relative)
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


# ------------------------------------------------------------------------ code in the docs

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_pytest_runs_the_prompts_of_readme_and_docs():
    """Blocks with a >>> prompt are doctests: pytest runs them, as long as it is told to."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert {"README.md", "docs", "skbackprop"} <= set(options["testpaths"])
    assert {"--doctest-modules", "--doctest-glob=*.md"} <= set(options["addopts"])


def test_readme_has_code():
    assert "\n```python\n>>> " in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_all_code_has_prompts(page):
    """What has none, nobody runs."""
    blocks = re.findall(r"^```(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    assert all(re.match(r"python\n(\n|>>> )", block) for block in blocks)
