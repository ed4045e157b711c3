"""How Sphinx makes the documentation site of the pages, the docstrings and the examples.

`make docs` builds it, without the network and with each warning an error. What is particular to
this project, links of Markdown pages to files and the pages of the reference, is in `extension.py`.
"""

import sys
import tomllib
from pathlib import Path

import skbackprop

HERE = Path(__file__).parent
URLS = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text())["project"]["urls"]
sys.path.insert(0, str(HERE))  # for extension.py

project = "skbackprop"
author = "The skbackprop developers"
project_copyright = "The skbackprop developers"
version = release = skbackprop.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "extension",
]
exclude_patterns = ["_build", "site", "gallery/*.py", "gallery/*.ipynb", "gallery/*.md5"]
templates_path = [str(HERE / "_templates")]  # or autosummary would look in docs
nitpicky = True

# A name in single backticks is a link where it is a public name, and code elsewhere.
default_role = "public"

# Headings have the anchors that they have in a repository's own view of the pages.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autosummary_generate = True
autodoc_typehints = "none"
python_maximum_signature_line_length = 70
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "plot_",
    "ignore_pattern": "demo",
    "image_scrapers": ("extension.save_thumbnail", "matplotlib"),
    "within_subsection_order": "extension.ByTable",
    "doc_module": ("skbackprop",),
    "reference_url": {"skbackprop": None},
    "backreferences_dir": "reference/backreferences",
    "abort_on_example_error": True,
    "show_memory": False,
    "write_computation_times": False,  # whose page takes scripts from elsewhere
    "download_all_examples": False,
    "remove_config_comments": True,
    "nested_sections": False,
    "parallel": 2,
    "reset_modules": (
        *("matplotlib", "extension.make_halving_known", "extension.make_warnings_errors"),
    ),
    "reset_modules_order": "both",
}

html_theme = "pydata_sphinx_theme"
html_title = "skbackprop"
html_show_sphinx = False
html_static_path = ["_static"]
html_favicon = "_static/icon.svg"
html_logo = "_static/icon.svg"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system
html_css_files = ["site.css"]
html_theme_options = {
    "logo": {"text": f"skbackprop {version}", "alt_text": "skbackprop: home"},
    "github_url": URLS["Repository"],
    "show_prev_next": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {
    "index": [],
    "gallery/index": [],
    "questions": [],
    "user_guide/getting_started": [],
}
