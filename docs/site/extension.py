"""What the documentation site needs beside what Sphinx and its extensions do.

- The Markdown pages link to files of the repository: examples, modules, the README. On the site
  these links lead to the page of the gallery, of the reference, and to the landing page.
- The pages of the reference are written from the `__all__` of the public modules, so that none is
  missing.
- A name in single backticks is a link, where it is a public name.
- The signature of a class is the one that `help` shows.
- The search finds the pages of search.toml first.
- The gallery has the order of the table of examples in questions.md, and thumbnails of one plot.
"""

import importlib
import inspect
import pkgutil
import re
import tomllib
import warnings
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util.inspect import stringify_signature

import skbackprop

DOCS = Path(__file__).parents[1]

# The groups of the reference: the modules whose names are public, with the titles of their pages.
GROUPS = {
    "Estimators": {
        "skbackprop": "Estimators and searches",
        "skbackprop.tabular": "Encoders of raw tables",
        "skbackprop.dask": "Dask",
    },
    "Parts of a network": {
        "skbackprop.layers": "Layers",
        "skbackprop.activations": "Activations",
        "skbackprop.losses": "Losses",
        "skbackprop.initializers": "Initial weights",
    },
    "Training": {
        "skbackprop.optimizers": "Optimizers",
        "skbackprop.schedules": "Learning-rate schedules",
        "skbackprop.weight_averaging": "Weight averaging",
        "skbackprop.callbacks": "Callbacks",
    },
    "Inspection and plots": {
        "skbackprop.inspection": "Inspection",
        "skbackprop.displays": "Plots",
    },
    "Deployment": {
        "skbackprop.persistence": "Save and load",
        "skbackprop.export": "Export to ONNX and scikit-learn",
    },
    "Custom parts": {"skbackprop.testing": "Gradient checks"},
}
MODULES = {module: title for modules in GROUPS.values() for module, title in modules.items()}

# The sections of long pages, by the modules that define the names, in this order.
SECTIONS = {
    "skbackprop.tabular.": "Raw tables",
    "skbackprop.estimators.": "Networks",
    "skbackprop.model_selection.": "Hyperparameter searches",
    "skbackprop.conformal": "Prediction intervals and sets of labels",
    "skbackprop.early_stopping": "Early stopping and learning rate",
    "skbackprop.inspection._learning_rate_finder": "Early stopping and learning rate",
    "skbackprop.layers.dense": "Dense layers, activation, dropout",
    "skbackprop.layers.convolution": "Convolution",
    "skbackprop.layers.pooling": "Pooling",
    "skbackprop.layers.recurrent": "Recurrence",
    "skbackprop.layers.attention": "Attention",
    "skbackprop.layers.columns": "Embeddings",
    "skbackprop.layers.embeddings": "Embeddings",
    "skbackprop.layers.normalization": "Normalization",
    "skbackprop.layers.reshaping": "Reshaping and residual connections",
    "skbackprop.layers.residual": "Reshaping and residual connections",
    "skbackprop.losses.classification": "For classifiers",
    "skbackprop.losses.regression": "For regressors",
}
OTHERS = "Base classes and names"
PAGES_WITH_SECTIONS = {"skbackprop", "skbackprop.layers", "skbackprop.losses"}


@cache
def public_names() -> dict[str, str]:
    """Return the full name of each public name, at the first module that has it."""
    names: dict[str, str] = {}
    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            names.setdefault(name, f"{module}.{name}")
    return {name: full for name, full in names.items() if not name.startswith("_")}


def names_left_out() -> set[str]:
    """Return the public names of the package that are on no page."""
    modules = [
        importlib.import_module(f"skbackprop.{module.name}")
        for module in pkgutil.iter_modules(skbackprop.__path__)
        if not module.name.startswith("_")
    ]
    return {name for module in modules for name in getattr(module, "__all__", ())} - {
        *public_names()
    }


# ------------------------------------------------------------------- pages of the reference


def section_of(thing: object) -> str:
    """Return the section of a long page that a name belongs to."""
    module = getattr(thing, "__module__", "")
    return next((title for start, title in SECTIONS.items() if module.startswith(start)), OTHERS)


def autosummary(things: dict[str, object]) -> list[str]:
    """Return the lines that list names, classes first, each with a page of its own."""
    kinds = {"class": [], "function": [], "object": []}
    for name, thing in things.items():
        kind = "class" if inspect.isclass(thing) else "function" if callable(thing) else "object"
        kinds[kind].append(name)
    lines = []
    for kind, names in kinds.items():
        if names:
            lines += [".. autosummary::", "   :toctree: generated"]
            lines += [f"   :template: autosummary/{kind}.rst", "   :nosignatures:", ""]
            lines += [*(f"   {name}" for name in names), ""]
    return lines


def page_of(module: str) -> str:
    """Return the page of a module's names, in reStructuredText."""
    own = {
        name: getattr(importlib.import_module(module), name)
        for name, full in public_names().items()
        if full == f"{module}.{name}"
    }
    summary = inspect.cleandoc(importlib.import_module(module).__doc__).partition("\n\n")[0]
    lines = [MODULES[module], "=" * len(MODULES[module]), "", " ".join(summary.split()), ""]
    lines += [f".. currentmodule:: {module}", ""]
    if module not in PAGES_WITH_SECTIONS:
        return "\n".join([*lines, *autosummary(own)])
    for title in dict.fromkeys([*SECTIONS.values(), OTHERS]):
        things = {name: thing for name, thing in own.items() if section_of(thing) == title}
        if things:
            lines += [title, "-" * len(title), "", *autosummary(things)]
    return "\n".join(lines)


def write_reference(app, config) -> None:
    """Write the pages of the reference, where they are not yet as they would be."""
    if left_out := names_left_out():
        raise ValueError(f"{sorted(left_out)} are on no page: name their module in MODULES.")
    folder = DOCS / "reference"
    folder.mkdir(exist_ok=True)
    index = ["Reference", "=========", ""]
    index += ["All public classes and functions. :doc:`Tables </api>` list the parameters, methods"]
    index += ["and attributes of each estimator.", ""]
    index += [".. toctree::", "   :maxdepth: 1", "", "   Tables of parameters </api>", ""]
    for group, modules in GROUPS.items():
        index += [".. toctree::", "   :maxdepth: 2", f"   :caption: {group}", ""]
        index += [*(f"   {module}" for module in modules), ""]
    pages = {"index": "\n".join([*index, ""]), **{module: page_of(module) for module in MODULES}}
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


# ------------------------------------------------------------------------------------ links


# A link of a Markdown page to a file outside of docs.
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?:\.\./)+(?P<path>(?!\.)[\w./]*)\)")
SAME = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples": "gallery/index.rst",
}


# The searches that find a page or a section first.
SEARCHES_FILE = Path(__file__).parent / "search.toml"
SEARCHES = tomllib.loads(SEARCHES_FILE.read_text())


def on_the_site(match: re.Match) -> str:
    """Return such a link as it is on the site."""
    text, path = match["text"], match["path"]
    folder, _, rest = path.partition("/")
    if (DOCS / path).exists():
        return match[0]
    if path in SAME:
        page = SAME[path]
    elif folder == "examples":
        is_page = rest.startswith("plot_")
        page = f"gallery/{rest.removesuffix('.py')}.rst" if is_page else "gallery/index.rst"
    else:
        names = [name for name in re.findall(r"`(\w+)`", text) if name in public_names()]
        full = public_names()[names[0]] if len(names) == 1 else None
        page = f"reference/generated/{full}.rst" if full else "reference/index.rst"
    return f"[{text}](/{page})"


def mend_page(app, name: str, source: list[str]) -> None:
    """Adapt a page to the site: its links to files outside of docs, and its entries of the index.

    Entries are for the search, in which they come before headings and text. The empty line that
    ends a doctest before a fence is no line of the code.
    """
    text = LINK.sub(on_the_site, source[0]).replace("\n\n```\n", "\n```\n")
    for place, queries in SEARCHES.items():
        page, _, section = place.partition(" > ")
        if page == name:
            app.env.note_dependency(SEARCHES_FILE)
            heading = f"## {section}\n" if section else text[: text.index("\n") + 1]
            # One entry has one target, which becomes the id of the paragraph after it: the search
            # shows its text below the title.
            entry = ", ".join(f"! {query}" for query in queries)
            text = text.replace(heading, f"{heading}\n:::{{index}} {entry}\n:::\n", 1)
    source[0] = text


def public(role, rawtext, text, lineno, inliner, options=None, content=()):
    """Make a name in single backticks a link, where it is a public name, and code elsewhere."""
    code = nodes.literal(rawtext, text)
    full = public_names().get(text)
    if full is None:
        return [code], []
    link = pending_xref(
        rawtext, code, refdomain="py", reftype="obj", reftarget=full, refexplicit=True
    )
    return [link], []


def mend_reference(app, env, node, content):
    """Find what a docstring names by its short name; leave as text what is scikit-learn's.

    Inherited docstrings refer to pages of scikit-learn's documentation, which are not looked up, so
    that the site builds without the network.
    """
    target = node["reftarget"]
    name, dot, method = target.partition(".")
    if name in public_names():
        full = public_names()[name] + dot + method
        domain = env.domains.python_domain
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", full, node, content)
    is_inherited = node["refdoc"].startswith("reference/generated/")
    is_attribute = target.endswith("_")  # which has no page of its own
    if (
        is_attribute
        or target.startswith("sklearn.")
        or (is_inherited and node["refdomain"] == "std")
    ):
        return content
    return None


# A formula of an inherited docstring: to set it takes a script from elsewhere.
MATH = re.compile(r":math:`([^`]*)`")
# What is in backticks, or a bar, or an underscore that ends a name.
SPECIAL = re.compile(r"(`[^`]*`)|\||(?<=\w)_(?=[,)])")


def take_literally(app, what, name, thing, options, lines: list[str]) -> None:
    """Let bars and last underscores of docstrings stand for themselves, and formulas be code.

    |x| would be a substitution elsewhere, and n_features_in_ a link.
    """
    is_code = False
    for at, line in enumerate(lines):
        is_code = line.lstrip().startswith(">>>") or (is_code and bool(line.strip()))
        if not is_code:
            line = MATH.sub(r"``\1``", line)
            lines[at] = SPECIAL.sub(lambda sign: sign[1] or "\\" + sign[0], line)


def show_signature(app, what, name, thing, options, signature, returned):
    """Return the signature of a class without annotations: Sphinx prefers that of `__new__`."""
    if what != "class" or issubclass(thing, BaseException):
        return None
    return stringify_signature(inspect.signature(thing), show_annotation=False), ""


def save_thumbnail(block, block_vars, gallery_conf) -> str:
    """Save the largest plot of an example's first figure, before the figure itself.

    The first picture is the thumbnail, in which several plots would be too small to read.
    """
    from matplotlib import pyplot

    paths = block_vars["image_path_iterator"]
    if pyplot.get_fignums() and not len(paths):
        figure = pyplot.figure(pyplot.get_fignums()[0])
        figure.draw_without_rendering()  # which places the plots
        largest = max(figure.axes, key=lambda ax: round(ax.bbox.width) * round(ax.bbox.height))
        box = largest.get_tightbbox().padded(6).transformed(figure.dpi_scale_trans.inverted())
        figure.savefig(next(paths), bbox_inches=box)
    return ""


def make_halving_known(gallery_conf, name: str) -> None:
    """Let scikit-learn's module have all that its names promise to the gallery, which reads them.

    It is called in each process, before each example.
    """
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - for its effect


strictness = ExitStack()


def make_warnings_errors(gallery_conf, name: str, when: str) -> None:
    """Let a warning end an example as an error would, so that the build fails.

    It is called in each process, before and after each example.
    """
    if when == "before":
        strictness.enter_context(warnings.catch_warnings())
        warnings.simplefilter("error")
    else:
        strictness.close()


class ByTable:
    """The order of the examples: that of the table in questions.md."""

    def __init__(self, folder: str) -> None:
        text = (DOCS / "questions.md").read_text()
        self.order = re.findall(r"\.\./examples/(\w+\.py)\)", text)

    def __call__(self, path: str) -> int:
        return self.order.index(Path(path).name)


def setup(app) -> dict[str, bool]:
    """Connect all this."""
    app.add_role("public", public)
    app.connect("config-inited", write_reference)  # before the pages are looked for
    app.connect("source-read", mend_page)
    app.connect("missing-reference", mend_reference)
    app.connect("autodoc-process-signature", show_signature, priority=400)  # before numpydoc
    app.connect("autodoc-process-docstring", take_literally, priority=900)  # after numpydoc
    return {"parallel_read_safe": True, "parallel_write_safe": True}
