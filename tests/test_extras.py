"""Each extra is imported late, and an error says what to install if it is missing.

A package counts as missing where `sys.modules` has None in its place, which is what Python's own
import stops at.
"""

import re
import subprocess
import sys
import tomllib
from functools import partial
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import Normalizer

from skbackprop import BackpropClassifier, displays, find_learning_rate
from skbackprop.callbacks import OptunaPruningCallback
from skbackprop.export import register_converters, to_onnx
from skbackprop.inspection import explain
from skbackprop.persistence import load, save
from support import class_data, few_epochs, quick
from test_house import PUBLIC_MODULES

pytestmark = few_epochs

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
X, Y = class_data()


def network():
    return quick(BackpropClassifier).fit(X, Y)


def search():
    return GridSearchCV(quick(BackpropClassifier), {"alpha": [1.0]}, cv=2).fit(X, Y)


def fit_followed_by(callback):
    """Return a fit that a callback follows; one that fails leaves nothing."""
    model = quick(BackpropClassifier).set_callbacks(callback)

    def fit():
        try:
            model.fit(X, Y)
        finally:
            assert not hasattr(model, "coefs_")

    return fit


# A display as long as matplotlib is there, by what it is made of.
MADE_OF = {
    "ExplanationDisplay": lambda: {"explanation": explain(network(), X[:2], X)},
    "LearningRateDisplay": lambda: {"range_test": find_learning_rate(network(), X, Y)},
    "LossCurveDisplay": lambda: {"curves": {}},
    "NetworkDisplay": lambda: {"summary": network().summary()},
    "SearchDisplay": lambda: {"cv_results": search().cv_results_},
    "WeightsDisplay": lambda: {"weights": network().coefs_},
}


def plot_of(name):
    """Return the method of a display that draws it."""
    return getattr(displays, name)(**MADE_OF[name]()).plot


def from_estimator(name):
    """Return what makes a display of a network and draws it."""
    data = {"LearningRateDisplay": (X, Y), "ExplanationDisplay": (X[:2], X)}.get(name, ())
    estimator = search() if name == "SearchDisplay" else network()
    return partial(getattr(displays, name).from_estimator, estimator, *data)


def import_dask_anew():
    """Import `skbackprop.dask` as a process does that has not done so yet."""
    known = {name: sys.modules[name] for name in sys.modules if name.startswith("skbackprop.dask")}
    for name in known:
        del sys.modules[name]
    try:
        import_module("skbackprop.dask")
    finally:
        sys.modules.update(known)


# For each extra what needs it, and a function that makes a call of it ready, as long as the extra
# is there. What other packages do with an extra is not ours to say: those that read Parquet files
# in batches, and scikit-learn with its progress bar.
NEEDED_BY = {
    "plot": [
        *((name, partial(plot_of, name)) for name in displays.__all__),
        *((name, partial(from_estimator, name)) for name in displays.__all__),
    ],
    "onnx": [
        ("to_onnx", lambda: partial(to_onnx, network())),
        ("to_onnx", lambda: partial(to_onnx, Normalizer().fit(X))),
        ("register_converters", lambda: register_converters),
    ],
    "optuna": [("OptunaPruningCallback", lambda: fit_followed_by(OptunaPruningCallback(None)))],
    "dask": [("skbackprop.dask", lambda: import_dask_anew)],
    "parquet": [],
    "progress": [],
    "skops": [
        ("save", lambda: partial(save, network(), "model.skops")),
        ("load", lambda: partial(load, "model.skops")),
    ],
}
CALLS = [
    pytest.param(extra, owner, prepare, id=f"{extra}-{owner}-{number}")
    for extra, calls in NEEDED_BY.items()
    for number, (owner, prepare) in enumerate(calls)
]


def imported_as(extra):
    """Return the names by which the packages of an extra are imported."""
    packages = {re.match(r"[\w-]+", line)[0] for line in EXTRAS[extra]}
    names = packages_distributions()
    return {name for name, brought_by in names.items() if packages & set(brought_by)}


def test_extra_all_contains_each_extra():
    (everything,) = EXTRAS["all"]
    names = re.fullmatch(r"skbackprop\[(.*)\]", everything)[1].split(",")
    assert sorted(names) == sorted(NEEDED_BY)
    for_developers = {"all", "bench", "clusters", "demo", "docs", "friends", "release", "suite"}
    for_developers |= {"test"}
    assert set(EXTRAS) - for_developers == set(names)


def rows_of(heading):
    """Return the cells of the rows below a heading of the page about what works with what."""
    text = (ROOT / "docs" / "user_guide" / "works_with.md").read_text()
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| (.*?) \| (.*?) \| (.*?) \|", section, re.MULTILINE)[1:]


def test_guide_lists_each_extra_and_its_packages():
    listed = {
        extra.strip("`"): packages for extra, packages, _ in rows_of("Extras: what to install")
    }
    assert listed.pop("all") == "all of these"
    assert {extra: packages.lower().split(", ") for extra, packages in listed.items()} == {
        extra: [re.match(r"[\w-]+", line)[0] for line in EXTRAS[extra]] for extra in NEEDED_BY
    }


def test_guide_names_the_tested_versions():
    pins = dict(line.split("==") for extra in EXTRAS.values() for line in extra if "==" in line)
    for library, version, _ in rows_of("What to write"):
        name = re.search(r"[\w-]+", library)[0].lower()
        assert pins[name].partition(" ")[0] == version


@pytest.mark.parametrize("extra, owner, prepare", CALLS)
def test_raises_on_missing_extra(extra, owner, prepare, monkeypatch):
    call, missing = prepare(), imported_as(extra)
    loaded = {name for name in sys.modules if name.partition(".")[0] in missing}
    for name in missing | loaded:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError) as caught:
        call()
    said = rf'{owner} needs ({"|".join(missing)}), .* with pip install "skbackprop\[{extra}\]"'
    assert re.fullmatch(said, str(caught.value))


@pytest.mark.slow
def test_importing_skbackprop_imports_no_extra():
    """Those that scikit-learn imports, where they are there, are hidden: it works without them.

    `skbackprop.dask`, which is nothing without its extra, is a module that users import by itself.
    """
    extras = {name for extra in NEEDED_BY for name in imported_as(extra)}
    by_scikit_learn = {"pandas", "pyarrow", "rich"}
    modules = {module.__name__ for module in PUBLIC_MODULES} - {"skbackprop.dask"}
    assert by_scikit_learn | {"matplotlib", "onnx", "optuna", "skl2onnx", "skops"} <= extras
    lines = [
        "import sys",
        f"sys.modules.update(dict.fromkeys({by_scikit_learn}))",
        f"import {', '.join(modules)}",
        f"print(*[name for name in {extras} if sys.modules.get(name)])",
    ]
    run = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(run, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
