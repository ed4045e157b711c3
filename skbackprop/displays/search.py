"""A search as a picture: scores over one or two parameters, or over the rounds of halving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.exceptions import NotFittedError

from ..utils.validation import did_you_mean
from ._matplotlib import axes_for, check_matplotlib
from ._search_plots import PICTURES, SearchSummary, Style
from ._search_results import candidate_results, n_splits_of, parameter_axis, scored_metrics

_KINDS = ("auto", *PICTURES)
_SPREADS = ("errorbar", "fill_between", None)


class SearchDisplay:
    """What a search has found: scores over one or two parameters, or the rounds of halving.

    It is made by `from_estimator`, of any search with ``cv_results_``: those of this package and of
    scikit-learn. Over one parameter it is a curve, over two a heat map, or points where the values
    make no grid; each with the mean over the folds, and their standard deviation. If other
    parameters were searched too, the best candidate over them is drawn, and the title names them.
    The best of all is marked.

    Of a halving search it is the rounds: the score of each candidate by what the rounds have given
    it, in the colour of its last round. With `params` it is drawn as others are, each candidate
    with the score of the last round that it has reached.

    Parameters
    ----------
    cv_results : dict
        The ``cv_results_`` of a search.
    params : list of str or None, default=None
        The parameters to draw, one or two of them, by their full names or as much of the end as
        tells them apart; of two the second is the vertical axis, or has a curve for each value.
        None for those that were searched; of more than two, those with the most values.
    metric : str, default="score"
        Which score; "score" where there is only one.
    score_name : str, default="score"
        What the score is called.
    resource : str or None, default=None
        The parameter that a halving search gives more of from round to round, or "n_samples".

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    lines_ : list of matplotlib Line2D
        The curves; empty in heat maps and scatter plots.
    image_ : matplotlib artist or None
        The image or the points that have colours by their scores.
    text_ : list of matplotlib Text
        What is written in the cells of a heat map.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier, BackpropGridSearchCV
    >>> from skbackprop.displays import SearchDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> network = BackpropClassifier((8,), max_iter=20, n_iter_no_change=np.inf, random_state=0)
    >>> rates = [0.001, 0.01, 0.1]
    >>> search = BackpropGridSearchCV(network, {"learning_rate_init": rates}).fit(X, y)
    >>> display = SearchDisplay.from_estimator(search, score_name="accuracy")
    >>> display.ax_.get_xlabel(), display.ax_.get_xscale()
    ('learning_rate_init', 'log')
    """

    ax_: Any
    figure_: Any
    lines_: list[Any]
    image_: Any
    text_: list[Any]

    def __init__(
        self,
        *,
        cv_results: Mapping[str, Any],
        params: Sequence[str] | None = None,
        metric: str = "score",
        score_name: str = "score",
        resource: str | None = None,
    ) -> None:
        self.cv_results = cv_results
        self.params = params
        self.metric = metric
        self.score_name = score_name
        self.resource = resource

    @classmethod
    def from_estimator(
        cls,
        search: Any,
        *,
        params: Sequence[str] | str | None = None,
        metric: str | None = None,
        kind: str = "auto",
        negate_score: bool = False,
        score_name: str | None = None,
        std_display_style: str | None = "errorbar",
        ax: Any = None,
        curve_kwargs: Any = None,
        image_kwargs: Any = None,
    ) -> Self:
        """Draw what a fitted search has found.

        Parameters
        ----------
        search : search
            A fitted search: of this package, or scikit-learn's grid, randomized or halving search.
        params : list of str, str or None, default=None
            The parameters to draw, at most two; None for those that were searched, and for the
            rounds of a halving search.
        metric : str or None, default=None
            Which score, if there are several; None for the one that `refit` names.
        kind : {"auto", "curve", "heatmap", "scatter", "rounds"}, default="auto"
            What to draw, as in `plot`.
        negate_score : bool, default=False
            Whether to draw the negative of the scores, as for ``scoring="neg_log_loss"``.
        score_name : str or None, default=None
            What the score is called; None for the name of `scoring`.
        std_display_style : {"errorbar", "fill_between"} or None, default="errorbar"
            How curves show the standard deviation of the folds, as in `plot`.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        curve_kwargs : dict, default=None
            Keywords for matplotlib's ``plot`` of the curves.
        image_kwargs : dict, default=None
            Keywords for matplotlib's ``imshow`` of heat maps, or ``scatter`` of points.

        Returns
        -------
        display : SearchDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If it is no search.
        NotFittedError
            If it is not fitted.
        ValueError
            If a parameter or a score is none of the search, or all fits failed.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls.__name__)
        results = _results_of(search)
        metrics = scored_metrics(results)
        if metric is None:
            refit = search.refit
            metric = refit if isinstance(refit, str) and refit in metrics else "score"
        if metric not in metrics:
            question = did_you_mean(metric, metrics)
            raise ValueError(f"metric must be one of {metrics}, got {metric!r}.{question}")
        if score_name is None:
            score_name = _name_of(search.scoring if metric == "score" else metric, negate_score)
        params = [params] if isinstance(params, str) else params
        resource = getattr(search, "_resource", getattr(search, "resource", None))
        display = cls(
            cv_results=results,
            params=params,
            metric=metric,
            score_name=score_name,
            resource=resource if "n_resources" in results else None,
        )
        return display.plot(
            ax,
            kind=kind,
            negate_score=negate_score,
            std_display_style=std_display_style,
            curve_kwargs=curve_kwargs,
            image_kwargs=image_kwargs,
        )

    def plot(
        self,
        ax: Any = None,
        *,
        kind: str = "auto",
        negate_score: bool = False,
        std_display_style: str | None = "errorbar",
        curve_kwargs: Any = None,
        image_kwargs: Any = None,
    ) -> Self:
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        kind : {"auto", "curve", "heatmap", "scatter", "rounds"}, default="auto"
            What to draw: curves over the first parameter, one for each value of the second; a cell
            or a point for each pair of values, its colour the score; or the rounds of a halving
            search. "auto" is the rounds for a halving search without `params`, a curve for one
            parameter, a heat map for two if at least half of its cells were tried, else points.
        negate_score : bool, default=False
            Whether to draw the negative of the scores, as for ``scoring="neg_log_loss"``.
        std_display_style : {"errorbar", "fill_between"} or None, default="errorbar"
            How curves show the standard deviation of the folds; None for not at all. Heat maps
            have it in the cells, if there is room; of the rounds the best candidate has it.
        curve_kwargs : dict, default=None
            Keywords for matplotlib's ``plot`` of the curves.
        image_kwargs : dict, default=None
            Keywords for matplotlib's ``imshow`` of heat maps, or ``scatter`` of points.

        Returns
        -------
        display : SearchDisplay
            The display itself.

        Raises
        ------
        TypeError
            If `ax` are no axes.
        ValueError
            If a parameter is not valid, or all fits failed.
        ImportError
            If matplotlib is not installed.
        """
        if kind not in _KINDS:
            question = did_you_mean(kind, _KINDS)
            raise ValueError(f"kind must be one of {_KINDS}, got {kind!r}.{question}")
        if std_display_style not in _SPREADS:
            raise ValueError(
                f"std_display_style must be one of {_SPREADS}, got {std_display_style!r}."
                f"{did_you_mean(std_display_style, filter(None, _SPREADS))}"
            )
        check_matplotlib(type(self).__name__)
        found = self._found(kind, negate_score)
        style = Style(std_display_style, curve_kwargs, image_kwargs)
        self.ax_ = axes_for(type(self).__name__, ax)
        self.figure_ = self.ax_.figure
        drawn = PICTURES[self._chosen(kind, found)](self.ax_, found, style)
        self.lines_, self.image_, self.text_ = drawn
        return self

    def _found(self, kind: str, negate_score: bool) -> SearchSummary:
        """Return what there is to draw, of the parameters that are to be drawn."""
        candidates = candidate_results(self.cv_results, self.metric, -1 if negate_score else 1)
        if all(np.isnan(candidate.mean) for candidate in candidates):
            raise ValueError("There is nothing to draw: all fits of the search failed.")
        names = dict.fromkeys(name for each in candidates for name in each.parameters)
        searched = [name for name in names if name != self.resource]
        each = {name: parameter_axis(candidates, name, searched) for name in searched}
        varied = [name for name in searched if len(each[name].values) > 1] or searched[:1]
        is_halving = "n_resources" in self.cv_results
        if self.params is None:
            # Sorting is stable: of equal ones the first comes first.
            varied.sort(key=lambda name: (not each[name].is_number, -len(each[name].values)))
            drawn = varied[:2]
        else:
            drawn = [_full_name(param, searched) for param in self.params]
        if not 1 <= len(drawn) <= 2:
            raise ValueError(
                f"params must name one or two parameters, got {self.params!r}. The search has "
                f"{searched}."
            )
        return SearchSummary(
            candidates,
            [each[name] for name in drawn],
            [each[name] for name in varied if name not in drawn],
            self.score_name,
            n_splits_of(self.cv_results, self.metric),
            -1 if negate_score else 1,
            self.resource if is_halving else None,
        )

    def _chosen(self, kind: str, found: SearchSummary) -> str:
        """Return the kind of picture, checked."""
        is_halving = "n_resources" in self.cv_results
        if kind == "auto" and is_halving and self.params is None:
            return "rounds"
        if kind == "rounds" and not is_halving:
            raise ValueError("kind='rounds' is for halving searches, but this one has no rounds.")
        n_drawn = len(found.parameters)
        if kind in ("heatmap", "scatter") and n_drawn != 2:
            raise ValueError(
                f"kind={kind!r} takes two parameters, but {n_drawn} would be drawn: name two by "
                "params, or choose kind='curve'."
            )
        if kind != "auto":
            return kind
        if n_drawn == 1:
            return "curve"
        return "heatmap" if found.is_full_grid else "scatter"


def _results_of(search: Any) -> Mapping[str, Any]:
    """Return the `cv_results_` of a fitted search."""
    if not (hasattr(search, "refit") and hasattr(search, "fit")):
        raise TypeError(
            "SearchDisplay takes a fitted search, such as a BackpropGridSearchCV or scikit-learn's "
            f"GridSearchCV, got {search!r}."
        )
    if not hasattr(search, "cv_results_"):
        raise NotFittedError(
            f"This {type(search).__name__} is not fitted yet. Call fit before it is drawn."
        )
    results: Mapping[str, Any] = search.cv_results_
    return results


def _full_name(param: str, searched: Sequence[str]) -> str:
    """Return the full name of a parameter that a search has, of which the end may be given."""
    matching = [name for name in searched if name == param or name.endswith(f"__{param}")]
    if param in searched:
        return param
    if len(matching) != 1:
        raise ValueError(
            f"params must be of the parameters that were searched, {list(searched)}, got {param!r}."
        )
    return matching[0]


def _name_of(scoring: Any, is_negated: bool) -> str:
    """Return what a score is called, by the name of what scores: "neg_log_loss" negated."""
    name = getattr(scoring, "__name__", scoring)
    if not isinstance(name, str):
        return "negative score" if is_negated else "score"
    if name.startswith("neg_"):
        name, is_negated = name.removeprefix("neg_"), not is_negated
    return ("negative " if is_negated else "") + name.replace("_", " ")
