"""Type checkers and editors know what the package takes and returns.

The checker is mypy, with the project's own settings, so that it finds what `make types` has left in
its cache: with that it takes a second, and without it as long as `make types`.
"""

import re
import typing
from pathlib import Path

import pytest
from mypy import api

import skbackprop
from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from skbackprop._sklearn import StrOptions
from skbackprop.conformal import ConformalClassifier, ConformalRegressor
from skbackprop.estimators.conformity_scores import LABEL_SCORES
from skbackprop.utils import _name_types
from skbackprop.utils.arrays import Array
from test_docs import write_reference
from test_house import documented_names
from typed import users_script

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "typed"
ESTIMATORS = [BackpropAutoencoder, BackpropClassifier, BackpropRegressor]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found():
    """Return the lines of each file in which mypy finds an error."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(ROOT)
        said, errors, _ = api.run(["--no-error-summary", *map(str, FOLDER.glob("users_*.py"))])
    assert not errors
    lines = [re.match(r"(.*?):(\d+): error: (.*)", line) for line in said.splitlines()]
    return {(Path(line[1]).name, int(line[2])): line[3] for line in lines if line}


def test_checker_accepts_a_correct_script(found):
    assert {where: error for where, error in found.items() if where[0] == "users_script.py"} == {}


def test_checker_finds_each_mistake(found):
    name = "users_mistakes.py"
    lines = (FOLDER / name).read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert {line for file, line in found if file == name} == wrong


def test_script_runs(capsys):
    users_script.main()


def test_package_declares_its_types():
    assert (Path(skbackprop.__file__).parent / "py.typed").exists()


# ------------------------------------------------------------------- names and attributes


@pytest.mark.parametrize("name", write_reference.NAMES)
def test_literal_types_equal_the_tables_of_names(name):
    assert typing.get_args(getattr(_name_types, name)) == tuple(write_reference.NAMES[name])


def names_in(hint):
    """Return the names that a type allows, at any depth."""
    if isinstance(hint, str):
        return {hint}
    return set().union(*map(names_in, typing.get_args(hint)))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_parameters_have_the_literal_types_of_their_names(kind):
    hints = typing.get_type_hints(kind.__init__)
    for name, constraints in kind._parameter_constraints.items():
        options = [each.options for each in constraints if isinstance(each, StrOptions)]
        assert names_in(hints[name]) == set().union(*options), name


def test_literal_types_of_conformity_scores():
    hint = typing.get_type_hints(ConformalRegressor.__init__)["conformity_score"]
    assert typing.get_args(hint) == ("auto", "absolute", "scaled", "quantile")
    hint = typing.get_type_hints(ConformalClassifier.__init__)["conformity_score"]
    assert typing.get_args(hint) == LABEL_SCORES


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_fitted_attributes_have_types(kind):
    hints = {}
    for base in reversed(kind.__mro__):
        hints |= getattr(base, "__annotations__", {})
    for name in documented_names(kind, "Attributes"):
        assert name in hints or hasattr(kind, name), name
    assert typing.get_type_hints(kind)["coefs_"] == list[Array]
