"""Generate docstrings, tables of api.md, types of names and the repository's address.

Parameters come from skbackprop/estimators/_parameters.py, their texts from parameters.toml. They
are written to the docstrings of the estimators and to the tables of api.md.
The address of the repository comes from pyproject.toml, and is written wherever it is named.
The types in skbackprop/utils/_name_types.py come from the tables of names:

    make reference

writes the files, and a test compares them with what this script would write.
"""

import inspect
import re
import textwrap
import tomllib
from pathlib import Path
from string import Template

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from skbackprop.activations import ACTIVATIONS
from skbackprop.estimators._parameters import AUTOENCODER_LOSSES
from skbackprop.initializers import INITIALIZERS
from skbackprop.layers import LAYERS, NORMALIZATIONS
from skbackprop.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES
from skbackprop.optimizers import SOLVERS
from skbackprop.schedules import SCHEDULES
from skbackprop.weight_averaging import AVERAGES

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "skbackprop"
ESTIMATORS = {
    "classifier": BackpropClassifier,
    "regressor": BackpropRegressor,
    "autoencoder": BackpropAutoencoder,
}
WORDS = tomllib.loads((DOCS / "parameters.toml").read_text())
WIDTH = 100
# The sections of api.md, and the estimators of each.
SECTIONS = {
    "The estimators": ["classifier", "regressor"],
    "The autoencoder": ["autoencoder"],
}

# The files that name the address of the repository.
ADDRESS = re.compile(r"https://[\w./-]+/skbackprop\b")
NAME_THE_REPOSITORY = [
    *("CITATION.cff", "CONTRIBUTING.md", "README.md", "pyproject.toml"),
    *("docs/index.md", "docs/user_guide/getting_started.md"),
]

# The types of names, and the tables of these names.
NAMES = {
    "ActivationName": ACTIVATIONS,
    "AutoencoderLossName": AUTOENCODER_LOSSES,
    "AverageName": AVERAGES,
    "ClassifierLossName": CLASSIFIER_LOSSES,
    "InitializerName": INITIALIZERS,
    "LayerName": LAYERS,
    "NormalizationName": NORMALIZATIONS,
    "RegressorLossName": REGRESSOR_LOSSES,
    "ScheduleName": SCHEDULES,
    "SolverName": SOLVERS,
}


def rows_of(table, estimator):
    """Return the texts of an estimator's parameters or attributes, by name."""
    return {row["name"]: row for row in WORDS[table] if estimator in row.get("of", ESTIMATORS)}


def substitute_words(text, estimator):
    """Return a text with the words of an estimator inserted."""
    return Template(text).substitute(WORDS["words"][estimator])


def in_code(text):
    """Return a text with the names of a table, as code, in place of the name of its type."""
    listed = {kind: ", ".join(f'`"{name}"`' for name in table) for kind, table in NAMES.items()}
    return Template(text).safe_substitute(listed)


def code(value):
    """Return a default as Python code with double quotes."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def wrap(text, indent):
    """Return a text with each paragraph and list item wrapped."""
    blocks = []
    for paragraph in text.strip().split("\n\n"):
        items = re.split(r"\n(?=- )", paragraph)
        lines = []
        for item in items:
            hanging = "  " if item.startswith("- ") else ""
            lines += textwrap.wrap(
                " ".join(item.split()),
                WIDTH,
                initial_indent=indent,
                subsequent_indent=indent + hanging,
                break_long_words=False,
                break_on_hyphens=False,
            )
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def get_defaults(estimator):
    """Return the defaults of an estimator's parameters by name, in the order of the constructor."""
    signature = inspect.signature(ESTIMATORS[estimator])
    return {name: parameter.default for name, parameter in signature.parameters.items()}


def docstring_section(table, estimator):
    """Return the lines of a section of an estimator's docstring."""
    defaults, lines = get_defaults(estimator), []
    words = rows_of(table, estimator)
    names = defaults if table == "parameters" else words
    for name in names:
        row = words[name]
        kind = substitute_words(row["kind"], estimator)
        if table == "parameters":
            kind += f", default={code(defaults[name])}"
        lines += [f"    {name} : {kind}", wrap(substitute_words(row["text"], estimator), " " * 8)]
    return "\n".join(lines)


def class_of(estimator, source):
    """Return the source of a module with the generated sections of an estimator's docstring."""
    name = f"Backprop{estimator.title()}"
    head, line, own = source.partition(f"class {name}(")
    for table in ("parameters", "attributes"):
        title = f"    {table.title()}\n    {'-' * len(table)}\n"
        before, _, rest = own.partition(title)
        # The next section starts with an underlined title.
        end = re.search(r"\n\n    [A-Z][\w ]+\n    ---", rest).start()
        own = before + title + docstring_section(table, estimator) + rest[end:]
    return head + line + own


def sources():
    """Return the generated content of the estimators' modules, by path."""
    paths = {estimator: PACKAGE / "estimators" / f"{estimator}.py" for estimator in ESTIMATORS}
    return {path: class_of(estimator, path.read_text()) for estimator, path in paths.items()}


def reference_table(estimators):
    """Return the parameter table of a section of api.md."""
    words = {name: row for each in estimators for name, row in rows_of("parameters", each).items()}
    defaults = {name: value for each in estimators for name, value in get_defaults(each).items()}
    lines = ["| parameter | default | meaning |", "|---|---|---|"]
    for name, value in defaults.items():
        default = "" if name == "loss" else f" `{code(value)}`"
        lines.append(f"| `{name}` |{default} | {in_code(words[name]['brief'])} |")
    return "\n".join(lines)


def reference():
    """Return the path of api.md and its generated content."""
    path = DOCS / "api.md"
    text = path.read_text()
    for heading, estimators in SECTIONS.items():
        before, _, rest = text.partition(f"\n## {heading}\n")
        start = rest.index("| parameter | default | meaning |")
        end = rest.index("\n\n", start)
        rest = rest[:start] + reference_table(estimators) + rest[end:]
        text = f"{before}\n## {heading}\n{rest}"
    return path, text


def types_of_names():
    """Return the path of _typing.py and its generated content."""
    path = PACKAGE / "utils" / "_name_types.py"
    before, _, _ = path.read_text().partition("\n\n")
    parts = [before, "from __future__ import annotations", "from typing import Literal, TypeAlias"]
    for kind, table in NAMES.items():
        names = "".join(f"    {code(name)},\n" for name in table)
        line = f"{kind}: TypeAlias = Literal[{', '.join(map(code, table))}]"
        # In the style of ruff's formatter.
        parts.append(line if len(line) <= WIDTH else f"{kind}: TypeAlias = Literal[\n{names}]")
    return path, "\n\n".join(parts[:4]) + "\n" + "\n".join(parts[4:]) + "\n"


def texts_with_address():
    """Return the texts that name the repository, with its address, by path."""
    root = DOCS.parent
    texts = {root / name: (root / name).read_text() for name in NAME_THE_REPOSITORY}
    address = tomllib.loads(texts[root / "pyproject.toml"])["project"]["urls"]["Repository"]
    return {path: ADDRESS.sub(address, text) for path, text in texts.items()}


def all_written():
    """Return the content of all generated files, by path."""
    return sources() | dict([reference(), types_of_names()]) | texts_with_address()


if __name__ == "__main__":
    for path, text in all_written().items():
        if path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.name}")
