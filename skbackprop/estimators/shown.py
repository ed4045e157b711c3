"""How estimators are shown in notebooks: as scikit-learn shows them, with links and layers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from .._sklearn import _VisualBlock
from .suggesting import Suggesting
from .summary import Summary

# Where the documentation is on the web, without a slash at the end; as [project.urls] in
# pyproject.toml says. As long as it is nowhere, there are no links.
DOCUMENTATION_URL = ""

_PACKAGE = __name__.partition(".")[0]


class Documented(Suggesting):
    """An estimator whose representation links to its page of the documentation.

    The page of ``skbackprop.tables.TableEncoder`` is
    ``reference/generated/skbackprop.tables.TableEncoder.html``. Classes that are not public have
    none, and those that others derive from ours have what they say themselves, in scikit-learn's
    way. `dir`, and so completion, shows what is public alone.
    """

    def __dir__(self) -> list[str]:
        """Return what completion in a notebook is to show: what is public."""
        names = super().__dir__()
        return [name for name in names if name.startswith("__") or not name.startswith("_")]

    def _get_doc_link(self) -> str:
        module = public_module_of(type(self))
        if module is None:
            link: str = super()._get_doc_link()
            return link
        if not DOCUMENTATION_URL:
            return ""
        return f"{DOCUMENTATION_URL}/reference/generated/{module}.{type(self).__name__}.html"


class Holding(Documented):
    """An estimator that trains a clone of its `estimator`, and keeps it as `estimator_`.

    It is shown around the one that it has trained, as scikit-learn shows searches.
    """

    def _sk_visual_block_(self) -> Any:
        key = "estimator_" if "estimator_" in vars(self) else "estimator"
        held = getattr(self, key)
        name = f"{key}: {type(held).__name__}"
        return _VisualBlock("parallel", [held], names=[name], name_details=[str(held)])


def public_module_of(kind: type) -> str | None:
    """Return the name of the module that users import a class of ours from; None if there is none.

    It is the package, or one of the modules right in it.
    """
    package, _, rest = kind.__module__.partition(".")
    if package != _PACKAGE:
        return None
    for module in (package, f"{package}.{rest.partition('.')[0]}"):
        if getattr(sys.modules.get(module), kind.__name__, None) is kind:
            return module
    return None


class AttributesAndLayers:
    """Fitted attributes, as scikit-learn shows them, and the tables of layers below.

    Parameters
    ----------
    attributes : object
        What scikit-learn has collected.
    summaries : sequence of Summary
        A summary for each kind of networks.
    """

    def __init__(self, attributes: Any, summaries: Sequence[Summary]) -> None:
        self._attributes, self._summaries = attributes, summaries

    def __len__(self) -> int:
        return len(self._attributes)

    def _repr_html_inner(self) -> str:
        shown: str = self._attributes._repr_html_inner()
        n = len(self._summaries)
        for i, summary in enumerate(self._summaries, 1):
            which = "" if n == 1 else f", {i} of {n}"
            # In the style of scikit-learn's tables.
            rows = summary._html_rows('<tr class="default">')
            shown += (
                f'<div class="estimator-table"><details><summary>Layers{which}</summary>'
                f'<table class="parameters-table">{rows}</table></details></div>'
            )
        return shown
