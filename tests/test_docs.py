"""Do README and docs say what is there? Their links lead somewhere, their lists are complete.

That their code runs is seen to by pytest, which collects it as doctests.
"""

import inspect
import re
from pathlib import Path

import pytest

from skbackprop import BackpropClassifier, BackpropRegressor, testing
from skbackprop.core.activations import ACTIVATIONS
from skbackprop.core.initializers import INITIALIZERS
from skbackprop.core.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES
from skbackprop.core.optimizers import OPTIMIZERS
from skbackprop.core.schedules import SCHEDULES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ESTIMATORS = [BackpropClassifier, BackpropRegressor]


def relative(path):
    return str(path.relative_to(ROOT))


def text_of(page):
    return (ROOT / page).read_text()


def without_code(text):
    """Return a page without its blocks of code, where brackets are no links."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors_of(text):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_to_files_and_headings_that_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors_of(file.read_text()), target


@pytest.mark.parametrize("page", PAGES[1:], ids=relative)
def test_every_page_can_be_reached_from_the_readme(page):
    reached, new = set(), {PAGES[0]}
    while new:
        reached |= new
        new = {
            (at.parent / path).resolve()
            for at in new
            for path in re.findall(r"\]\(([^)#\s]+\.md)", at.read_text())
        } - reached
    assert page in reached


@pytest.mark.parametrize("estimator_class", ESTIMATORS)
def test_reference_lists_all_parameters_with_their_defaults(estimator_class):
    rows = re.findall(r"^\| `(\w+[^\W_])` \| (.*?) \|", text_of("docs/api.md"), re.MULTILINE)
    parameters = inspect.signature(estimator_class).parameters
    assert [name for name, _ in rows] == list(parameters)
    for name, default in rows:
        if name != "loss":  # each has its own
            assert default == f"`{parameters[name].default!r}`".replace("'", '"'), name


@pytest.mark.parametrize("estimator_class", ESTIMATORS)
def test_reference_names_all_attributes_and_methods(estimator_class):
    text = text_of("docs/api.md")
    attributes = inspect.cleandoc(estimator_class.__doc__).partition("\nAttributes\n")[2]
    names = re.findall(r"^(\w+_) : ", attributes, re.MULTILINE)
    assert "coefs_" in names
    methods = [
        name
        for name, method in inspect.getmembers(estimator_class, callable)
        if not name.startswith("_") and method.__module__.startswith("skbackprop")
    ]
    assert "partial_fit" in methods
    assert all(f"`{name}`" in text for name in names)
    assert all(f"`{name}(" in text for name in methods)


def test_reference_names_the_checks_and_all_that_has_a_name():
    text = text_of("docs/api.md")
    assert all(f"`{name}(" in text for name in testing.__all__)
    for table in (ACTIVATIONS, CLASSIFIER_LOSSES, REGRESSOR_LOSSES, OPTIMIZERS, SCHEDULES):
        assert all(f'`"{name}"`' in text for name in table)
    guide = text_of("docs/user_guide/estimators.md")
    assert all(f'`"{name}"`' in guide for name in INITIALIZERS)


def test_design_names_every_module():
    text = text_of("docs/design.md")
    package = ROOT / "skbackprop"
    modules = [path.relative_to(package) for path in package.rglob("*.py")]
    missing = [str(path) for path in modules if f"`{path}`" not in text]
    assert missing == [str(Path("core", "__init__.py"))]
