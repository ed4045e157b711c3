"""README and docs: links are valid, and lists are complete.

pytest runs their code as doctests.
"""

import inspect
import pydoc
import re
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import skbackprop
from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropHalvingRandomSearchCV,
    BackpropRandomizedSearchCV,
    BackpropRegressor,
    ConformalClassifier,
    ConformalRegressor,
    callbacks,
    dask,
    displays,
    export,
    inspection,
    persistence,
    tabular,
    testing,
)
from skbackprop.activations import ACTIVATIONS
from skbackprop.initializers import INITIALIZERS
from skbackprop.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES
from skbackprop.optimizers import OPTIMIZERS
from skbackprop.schedules import SCHEDULES
from skbackprop.tabular import (
    PeriodicFeatures,
    PiecewiseLinearEncoder,
    TableEncoder,
    TabularClassifier,
    TabularRegressor,
)
from skbackprop.weight_averaging import AVERAGES
from support.cases import KINDS, MAY_DIFFER
from test_house import PUBLIC_MODULES

ROOT = Path(__file__).parents[1]
# The script that writes the reference: docs/ is no package.
_SPEC = spec_from_file_location("write_reference", ROOT / "docs" / "write_reference.py")
write_reference = module_from_spec(_SPEC)
_SPEC.loader.exec_module(write_reference)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# The classes that share a section of the reference.
SECTIONS = {
    "The estimators": [BackpropClassifier, BackpropRegressor],
    "The autoencoder": [BackpropAutoencoder],
    "Intervals": [ConformalRegressor],
    "Sets of labels": [ConformalClassifier],
    "The searches": [BackpropGridSearchCV, BackpropRandomizedSearchCV],
    "Tabular estimators": [TabularClassifier, TabularRegressor],
    "Successive halving": [BackpropHalvingGridSearchCV, BackpropHalvingRandomSearchCV],
    "Tables": [TableEncoder, PiecewiseLinearEncoder, PeriodicFeatures],
}
CLASSES = [
    pytest.param(heading, documented, id=documented.__name__)
    for heading, classes in SECTIONS.items()
    for documented in classes
]


def relative(path):
    return str(path.relative_to(ROOT))


def text_of(page):
    return (ROOT / page).read_text()


def section_of(page, heading):
    """Return what stands below a heading, up to the next one of its level."""
    return text_of(page).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def without_code(text):
    """Return a page without its blocks of code, where brackets are no links."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors_of(text):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_are_valid(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors_of(file.read_text()), target


@pytest.mark.parametrize("page", PAGES[1:], ids=relative)
def test_pages_are_linked_from_the_readme_or_the_landing_page(page):
    reached, new = set(), {PAGES[0], ROOT / "docs" / "index.md"}
    while new:
        reached |= new
        new = {
            (at.parent / path).resolve()
            for at in new
            for path in re.findall(r"\]\(([^)#\s]+\.md)", at.read_text())
        } - reached
    assert page in reached


def test_guide_leads_no_reader_to_pages_for_contributors():
    guide = (ROOT / "docs" / "user_guide").glob("*.md")
    pages = {page.name for page in guide if re.search(r"\]\(\.\./design\.md", page.read_text())}
    assert pages == set()


def test_readme_is_short():
    assert len(text_of("README.md").split()) < 900


def test_readme_says_how_to_install_what_its_code_imports():
    readme = text_of("README.md")
    imported = set(re.findall(r"^>>> (?:import|from) (\w+)", readme, re.MULTILINE))
    assert imported - {"skbackprop", "sklearn"} == set(re.findall(r"pip install (\w+)`", readme))


def test_the_repository_has_one_address():
    """If it fails, run `make reference`."""
    others = [ROOT / name for name in ("CITATION.cff", "CONTRIBUTING.md", "pyproject.toml")]
    texts = [page.read_text() for page in (*PAGES, *others)]
    urls = tomllib.loads(text_of("pyproject.toml"))["project"]["urls"]
    assert urls["Issues"] == urls["Repository"] + "/issues"
    named = {name for text in texts for name in re.findall(r"https://[\w./-]+/skbackprop\b", text)}
    assert named == {urls["Repository"]}
    cloned = {name for text in texts for name in re.findall(r"git clone (.*?) &&", text)}
    assert cloned == {urls["Repository"]}


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_measured_figures_are_on_the_pages_of_measurements(page):
    measured = text_of("docs/benchmarks.md") + text_of("docs/results.md")
    rows = re.findall(r"^\| (mean|fit|search|training|epoch)\b(.*)", text_of(page), re.MULTILINE)
    figures = [f for _, row in rows for f in re.findall(r"\b\d+\.\d+(?: m?s\b)?", row)]
    assert len(figures) > 10
    # The times of fits are given in words, in seconds.
    missing = [f for f in figures if not re.search(rf"\b{f.removesuffix(' s')}\b", measured)]
    assert missing == []


def parameters_of(documented):
    return inspect.signature(documented).parameters


def rows_of_parameters(heading):
    """Return (name, default) of each row; names of attributes end in an underscore."""
    text = section_of("docs/api.md", heading)
    rows = re.findall(r"^\| `(\w+[^\W_])` \|(.*?)\|", text, re.MULTILINE)
    return [(name, default.strip()) for name, default in rows]


def test_generated_reference_is_up_to_date():
    """If it fails, run `make reference`."""
    for path, text in write_reference.all_written().items():
        assert path.read_text() == text, path


@pytest.mark.parametrize("estimator", write_reference.ESTIMATORS)
def test_parameters_toml_describes_each_parameter(estimator):
    words = write_reference.rows_of("parameters", estimator)
    assert words.keys() == write_reference.get_defaults(estimator).keys()


@pytest.mark.parametrize("heading, documented", CLASSES)
def test_reference_lists_all_parameters_with_their_defaults(heading, documented):
    parameters = parameters_of(documented)
    rows = [row for row in rows_of_parameters(heading) if row[0] in parameters]
    assert [name for name, _ in rows] == list(parameters)
    for name, written in rows:
        default = parameters[name].default
        # Some have a default of their own in each class, or none.
        if name in ("loss", "min_resources") or default is inspect.Parameter.empty:
            assert not written
        else:
            assert written == f"`{default!r}`".replace("'", '"'), name


@pytest.mark.parametrize("heading", SECTIONS)
def test_reference_lists_no_unknown_parameter(heading):
    known = {name for documented in SECTIONS[heading] for name in parameters_of(documented)}
    assert {name for name, _ in rows_of_parameters(heading)} == known


@pytest.mark.parametrize("heading, documented", CLASSES)
def test_reference_names_all_attributes_and_methods(heading, documented):
    text = section_of("docs/api.md", heading)
    attributes = inspect.cleandoc(documented.__doc__).partition("\nAttributes\n")[2]
    names = re.findall(r"^(\w+_) : ", attributes, re.MULTILINE)
    assert "n_features_in_" in names
    methods = [
        name
        for name, method in inspect.getmembers(documented, callable)
        if not name.startswith("_") and method.__module__.startswith("skbackprop")
    ]
    assert "fit" in methods
    assert all(f"`{name}`" in text for name in names)
    assert all(f"`{name}(" in text for name in methods)


@pytest.mark.parametrize("heading", SECTIONS)
def test_reference_has_no_duplicates(heading):
    rows = re.findall(r"^\| (`.*?) \|", section_of("docs/api.md", heading), re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)", row)]
    assert sorted(names) == sorted(set(names))


def classes_of_parts():
    """Return {name: class} of all public parts, which parameters accept in place of a name."""
    public = {
        name: getattr(module, name)
        for module in PUBLIC_MODULES
        if module not in (skbackprop, displays, inspection, testing)
        for name in module.__all__
    }
    parts = {name: kind for name, kind in public.items() if hasattr(kind, "setting_names")}
    return {name: kind for name, kind in parts.items() if "__dataclass_fields__" in vars(kind)}


def test_reference_lists_all_public_names():
    text = text_of("docs/api.md")
    public = [*skbackprop.__all__, *testing.__all__, *classes_of_parts()]
    public += [*inspection.__all__, *callbacks.__all__, *displays.__all__, *tabular.__all__]
    public += [*export.__all__, *persistence.__all__, *dask.__all__]
    missing = [name for name in public if not re.search(rf"`{name}\b", text)]
    assert missing == ["__version__"]


def settings_of_parts():
    """Return {class: its parameters, as "name=default"} of the tables of objects.

    A row whose first cell is empty belongs to the one above.
    """
    settings, names = {}, []
    rows = re.findall(
        r"^\| (.*?) ?\| (.*?) ?\|", section_of("docs/api.md", "Objects"), re.MULTILINE
    )
    for objects, parameters in rows:
        names = re.findall(r"`(\w+)`", objects) or names
        for name in names:
            settings.setdefault(name, []).extend(re.findall(r"`(.*?)`", parameters))
    return settings


def test_reference_lists_the_settings_of_all_objects():
    kinds = classes_of_parts().values()
    assert settings_of_parts() == {
        kind.__name__: [
            name
            if parameter.default is parameter.empty
            else f"{name}={parameter.default!r}".replace("'", '"')
            for name, parameter in parameters_of(kind).items()
            if name not in kind._set_elsewhere
        ]
        for kind in kinds
    }


@pytest.mark.parametrize("heading", ["The estimators", "The autoencoder"])
def test_reference_lists_all_named_parts(heading):
    text = section_of("docs/api.md", heading)
    for table in (ACTIVATIONS, OPTIMIZERS, SCHEDULES, AVERAGES):
        assert all(f'`"{name}"`' in text for name in table)


def test_reference_lists_all_losses_and_the_guide_all_initializers():
    text = section_of("docs/api.md", "The estimators")
    for table in (CLASSIFIER_LOSSES, REGRESSOR_LOSSES):
        assert all(f'`"{name}"`' in text for name in table)
    guide = text_of("docs/user_guide/getting_started.md")
    assert all(f'`"{name}"`' in guide for name in INITIALIZERS)


@pytest.mark.parametrize(
    "documented, words",
    [
        (BackpropClassifier, "freeze augmentation multilabel"),
        (BackpropRegressor, "freeze augmentation exposure offset multioutput"),
        (skbackprop, "survival ordinal ranking"),
    ],
)
def test_help_has_the_words_of_newcomers(documented, words):
    text = pydoc.render_doc(documented, renderer=pydoc.plaintext)
    assert [word for word in words.split() if word not in text] == []


def test_pages_have_the_words_that_the_search_finds_them_by():
    searches = tomllib.loads(text_of("docs/site/search.toml"))
    queries = [query for page in searches.values() for query in page]
    assert sorted(queries) == sorted(set(queries))
    missing = []
    for place, queries in searches.items():
        page, _, section = place.partition(" > ")
        text = text_of(f"docs/{page}.md")
        text = (section_of(f"docs/{page}.md", section) if section else text).lower()
        words = " ".join(queries).lower().split()
        missing += [(place, word) for word in words if word.rstrip("s") not in text]
    assert missing == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "\n## References\n" in page.read_text()], ids=relative
)
def test_references_are_sorted_and_cited(page):
    text, _, references = page.read_text().partition("\n## References\n")
    entries = re.findall(r"^- ([\w-]+)[^(]*\((\d{4})\)", references, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^\S", references, re.MULTILINE)) > 0
    assert entries == sorted(entries)
    text = " ".join(text.split())
    assert [
        entry for entry in entries if not re.search("{}[^()]{{0,60}}\\(?{}".format(*entry), text)
    ] == []


def test_guide_lists_parameters_that_may_differ_in_a_stack():
    page = text_of("docs/user_guide/search.md")
    rows = re.findall(r"^\| (may differ|must be equal) \| (.*) \|$", page, re.MULTILINE)
    said = {row: set(re.findall(r"`(\w+)`", names)) for row, names in rows}
    assert said["may differ"] == MAY_DIFFER | {"solver"}  # of which the numbers may
    assert said["must be equal"] == KINDS.keys() - MAY_DIFFER


def test_questions_page_lists_every_example():
    listed = re.findall(r"\]\(\.\./examples/(\w+\.py)\)", text_of("docs/questions.md"))
    assert sorted(listed) == sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def test_design_lists_every_subpackage_in_its_layer():
    config = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]
    layers = [set(row.split(" | ")) for row in config["contracts"][0]["layers"]]
    table = section_of("docs/design.md", "Subpackages and the direction of imports")
    written = [
        {path.removesuffix(".py").rstrip("/") for path in re.findall("`(.*?)`", row)}
        for row in re.findall(r"^\| \d+ \| (.*?) \|", table, re.MULTILINE)
    ]
    assert written == layers


def test_design_names_files_and_parts_that_there_are():
    paths = [
        *(ROOT / "skbackprop").rglob("*"),
        *(ROOT / "tests").rglob("*"),
        *ROOT.glob("docs/*.py"),
    ]
    code = "\n".join(path.read_text() for path in paths if path.suffix == ".py")
    files = {path.name for path in paths}
    for name in re.findall(r"`([A-Za-z_][\w./]*)`", text_of("docs/design.md")):
        if name.endswith((".py", "/")):
            assert Path(name).name in files or (ROOT / name).exists(), name
        else:
            assert all(re.search(rf"\b{part}\b", code) for part in name.split(".")), name
