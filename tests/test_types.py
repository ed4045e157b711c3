"""Do a user's type checker and editor know what the package takes and returns?

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
from skbackprop.conformal import BANDS, ConformalRegressor
from skbackprop.estimators._parameter_table import PARAMETERS, parameters_of
from skbackprop.utils import _name_types
from skbackprop.utils.arrays import Array
from test_docs import write_reference
from test_house import entries
from typed import users_script

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "typed"
ESTIMATORS = {
    "classifier": BackpropClassifier,
    "regressor": BackpropRegressor,
    "autoencoder": BackpropAutoencoder,
}


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def found():
    """Return the lines of each file in which mypy finds an error."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(ROOT)
        said, errors, _ = api.run(["--no-error-summary", *map(str, FOLDER.glob("users_*.py"))])
    assert not errors
    lines = [re.match(r"(.*?):(\d+): error: (.*)", line) for line in said.splitlines()]
    return {(Path(line[1]).name, int(line[2])): line[3] for line in lines if line}


def test_a_checker_finds_nothing_in_a_right_script(found):
    assert {where: error for where, error in found.items() if where[0] == "users_script.py"} == {}


def test_a_checker_finds_each_mistake(found):
    name = "users_mistakes.py"
    lines = (FOLDER / name).read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert {line for file, line in found if file == name} == wrong


def test_the_script_does_what_it_says(capsys):
    users_script.main()


def test_the_package_says_that_it_has_types():
    assert (Path(skbackprop.__file__).parent / "py.typed").exists()


# ------------------------------------------------------------------- names and attributes


@pytest.mark.parametrize("name", write_reference.NAMES)
def test_types_of_names_are_those_of_the_tables(name):
    assert typing.get_args(getattr(_name_types, name)) == tuple(write_reference.NAMES[name])


def names_in(hint):
    """Return the names that a type allows, at any depth."""
    if isinstance(hint, str):
        return {hint}
    return set().union(*map(names_in, typing.get_args(hint)))


@pytest.mark.parametrize("row", [row for row in PARAMETERS if row.table], ids=lambda row: row.name)
def test_each_parameter_with_a_table_has_the_type_of_its_names(row):
    assert any(table is row.table for table in write_reference.NAMES.values())
    for of in row.of:
        assert "Any" not in parameters_of(of)[row.name].hint
        hint = typing.get_type_hints(ESTIMATORS[of].__init__)[row.name]
        assert set(row.table) <= names_in(hint)


def test_the_scores_of_conformal_intervals_are_those_of_their_table():
    hint = typing.get_type_hints(ConformalRegressor.__init__)["conformity_score"]
    assert typing.get_args(hint) == ("auto", *BANDS)


@pytest.mark.parametrize("kind", ESTIMATORS.values())
def test_each_fitted_attribute_has_a_type(kind):
    hints = {}
    for base in reversed(kind.__mro__):
        hints |= getattr(base, "__annotations__", {})
    for name in entries(kind.__doc__, "Attributes"):
        assert name in hints or hasattr(kind, name), name
    assert typing.get_type_hints(kind)["coefs_"] == list[Array]
