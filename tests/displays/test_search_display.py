"""Does the picture of a search show what `cv_results_` holds, and say what it leaves out?"""

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from scipy.stats import randint
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from skbackprop import (
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropRandomizedSearchCV,
)
from skbackprop.displays import SearchDisplay
from skbackprop.displays.search import ParameterAxis, format_value, shorten_name
from support import class_data, few_epochs, quick, value_data
from support.pictures import labels_overlap

pytestmark = few_epochs

DRAW = SearchDisplay.from_estimator
ALPHAS = [0.001, 0.1, 10.0]


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def trees():
    """Return a search over three parameters, one of them not a number."""
    grid = {
        "max_depth": [1, 2, 3],
        "min_samples_leaf": [1, 2, 4, 8],
        "criterion": ["squared_error", "absolute_error"],
    }
    return GridSearchCV(DecisionTreeRegressor(random_state=0), grid, cv=3).fit(*value_data())


def ridge(params, search_class=GridSearchCV, **settings):
    return search_class(Ridge(), params, cv=3, **settings).fit(*value_data())


def bars_of(display):
    """Return the ends of the error bars, by the place on the x axis."""
    ends = {}
    for bars in display.ax_.collections:
        if hasattr(bars, "get_segments"):
            ends |= {low[0]: (low[1], high[1]) for low, high in bars.get_segments()}
    return ends


def legend_of(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def best_over(search, *names):
    """Return {values of some parameters: (mean, std)} of the best candidate, the slow way."""
    found, results = {}, search.cv_results_
    for params, mean, std in zip(
        results["params"], results["mean_test_score"], results["std_test_score"], strict=True
    ):
        key = tuple(params[name] for name in names)
        if key not in found or mean > found[key][0]:
            found[key] = mean, std
    return found


# ------------------------------------------------------------------------------ curves


@pytest.mark.parametrize("search_class", [GridSearchCV, BackpropGridSearchCV])
def test_a_curve_is_the_mean_with_the_deviation_of_the_folds(search_class):
    search = search_class(quick(BackpropClassifier), {"alpha": ALPHAS}, cv=3).fit(*class_data())
    display = DRAW(search)
    (line,) = display.lines_
    mean, std = (search.cv_results_[f"{name}_test_score"] for name in ("mean", "std"))
    assert line.get_xdata().tolist() == ALPHAS
    assert line.get_ydata().tolist() == mean.tolist()
    for alpha, m, s in zip(ALPHAS, mean, std, strict=True):
        assert bars_of(display)[alpha] == pytest.approx((m - s, m + s))
    ax = display.ax_
    assert (ax.get_xlabel(), ax.get_xscale()) == ("alpha", "log")
    assert ax.get_ylabel() == "score\nmean ± std of 3 folds"
    assert ax.get_title() == ""
    assert legend_of(display) == [f"best: {search.best_score_:.3g}"]
    filled = DRAW(search, std_display_style="fill_between")
    (band,) = filled.ax_.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx(((mean - std).min(), (mean + std).max()))
    plain = DRAW(search, std_display_style=None)
    assert not plain.ax_.collections
    assert plain.ax_.get_ylabel() == "score\nmean of 3 folds"


def test_other_parameters_are_at_their_best_and_named(trees):
    display = DRAW(trees, params="max_depth")
    best = best_over(trees, "max_depth")
    (line,) = display.lines_
    assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) == {
        depth: mean for (depth,), (mean, _) in best.items()
    }
    assert display.ax_.get_title() == "best over criterion, min_samples_leaf"
    # The best of all is what the search says it is.
    ring = display.ax_.lines[-1]
    assert ring.get_xdata() == [trees.best_params_["max_depth"]]
    assert ring.get_ydata() == [trees.best_score_]


def test_what_are_no_numbers_stands_side_by_side():
    values = [None, "lbfgs", (2, 3), np.array([1.0, 2.0]), Ridge(), True, 1]
    results = {
        "params": [{"alpha": value} for value in values],
        "mean_test_score": np.arange(7.0),
        "std_test_score": np.zeros(7),
    }
    display = SearchDisplay(cv_results=results).plot()
    assert display.lines_[0].get_xdata().tolist() == list(range(7))
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == ["None", "lbfgs", "2-3", "[1. 2.]", "Ridge()", "True", "1"]
    assert display.lines_[0].get_linestyle() == "None"  # nothing lies between them
    uneven = {**results, "params": [{"alpha": value} for value in (0, 1, 10, 100, 1e3, 1e4, 1e5)]}
    display = SearchDisplay(cv_results=uneven).plot()
    assert display.lines_[0].get_xdata().tolist() == list(range(7))
    assert display.lines_[0].get_linestyle() == "-"


def test_grids_may_leave_out_parameters():
    search = ridge([{"alpha": [1.0, 2.0]}, {"solver": ["svd", "lsqr"]}])
    display = DRAW(search, params="solver")
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == ["not set", "svd", "lsqr"]
    scores = search.cv_results_["mean_test_score"]
    assert display.lines_[0].get_ydata().tolist() == [scores[:2].max(), *scores[2:]]


# --------------------------------------------------------------------------- heat maps


def test_a_heat_map_has_a_cell_for_each_pair(trees):
    display = DRAW(trees, params=["max_depth", "min_samples_leaf"])
    best = best_over(trees, "max_depth", "min_samples_leaf")
    image = display.image_.get_array()
    assert image.shape == (4, 3)
    for (depth, leaf), (mean, std) in best.items():
        row, column = [1, 2, 4, 8].index(leaf), depth - 1
        assert image[row, column] == mean
        (text,) = [t for t in display.text_ if t.get_position() == (column, row)]
        written = [float(number) for number in text.get_text().split("\n±")]
        assert written == pytest.approx([mean, std], abs=0.006)
    ax = display.ax_
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("max_depth", "min_samples_leaf")
    assert ax.get_title() == "best over criterion"
    frame = ax.patches[0]
    at = trees.best_params_
    column, row = at["max_depth"] - 1, [1, 2, 4, 8].index(at["min_samples_leaf"])
    assert frame.get_xy() == (column - 0.5, row - 0.5)
    assert lower_left_is_first(ax)


def lower_left_is_first(ax):
    return ax.get_ylim()[0] < ax.get_ylim()[1]


def test_a_search_over_many_parameters_is_drawn_over_two():
    grid = {"max_depth": [1, 2], "min_samples_leaf": [1, 2, 4], "min_samples_split": [2, 4]}
    grid |= {"max_features": [1, 2], "ccp_alpha": [0.0, 0.1]}
    search = GridSearchCV(DecisionTreeRegressor(random_state=0), grid, cv=2).fit(*value_data())
    ax = DRAW(search).ax_
    # The most values come first, then the order of the grid.
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("min_samples_leaf", "ccp_alpha")
    assert ax.get_title() == "best over 3 other parameters"


def test_failed_fits_are_gaps_and_all_of_them_an_error():
    X, y = value_data()
    grid = {"alpha": [-1.0, 1.0], "tol": [0.01, 0.1]}
    with pytest.warns(match="fits failed|scores are non-finite"):
        search = GridSearchCV(Ridge(), grid, cv=3).fit(X, y)
    display = DRAW(search)
    assert display.image_.get_array().mask.tolist() == [[True, False]] * 2
    assert sum(text.get_text() == "failed" for text in display.text_) == 2
    (line,) = DRAW(search, params="alpha").lines_
    assert np.isnan(line.get_ydata()).tolist() == [True, False]
    results = {**search.cv_results_, "mean_test_score": np.full(4, np.nan)}
    with pytest.raises(ValueError, match="all fits of the search failed"):
        SearchDisplay(cv_results=results).plot()


@pytest.mark.parametrize("search_class", [RandomizedSearchCV, BackpropRandomizedSearchCV])
def test_values_that_form_no_grid_are_plotted_over_one_parameter(search_class):
    values = {"alpha": np.geomspace(1e-3, 1, 50), "tol": np.linspace(0.01, 0.2, 50)}
    search = ridge(values, search_class, n_iter=12, random_state=0)
    display = DRAW(search)
    n_values = {name: len(best_over(search, name)) for name in values}
    most = max(values, key=n_values.get)
    expected = {value: mean for (value,), (mean, _) in best_over(search, most).items()}
    (line,) = display.lines_
    assert dict(zip(*line.get_data(), strict=True)) == expected
    (other,) = {"alpha", "tol"} - {most}
    assert display.ax_.get_xlabel() == most
    assert display.ax_.get_title() == f"best over {other}"
    # A line does not join values that were tried with different values of the other parameter.
    assert line.get_linestyle() == "None"
    image = DRAW(search, params=["alpha", "tol"]).image_.get_array()
    assert image.shape == (n_values["tol"], n_values["alpha"])
    assert (~image.mask).sum() == len(best_over(search, "alpha", "tol"))


# ------------------------------------------------------------------------------ rounds


NETWORK = quick(BackpropClassifier, max_iter=9, n_iter_no_change=np.inf)
GRID = {"alpha": [0.01, 1.0, 10.0], "learning_rate_init": [0.001, 0.01, 0.1]}
HALVING = {
    "ours": BackpropHalvingGridSearchCV(NETWORK, GRID, cv=2),
    "ours over a pipeline": BackpropHalvingGridSearchCV(
        make_pipeline(StandardScaler(), NETWORK),
        {f"backpropclassifier__{name}": values for name, values in GRID.items()},
        cv=2,
    ),
    "by rows": HalvingGridSearchCV(NETWORK, GRID, cv=2, min_resources=10),
    # It draws some candidates twice.
    "of trees": HalvingRandomSearchCV(
        DecisionTreeClassifier(random_state=0),
        {"max_depth": randint(1, 4)},
        n_candidates=9,
        resource="max_leaf_nodes",
        min_resources=2,
        max_resources=18,
        cv=2,
        random_state=0,
    ),
}


def halving(name):
    return clone(HALVING[name]).fit(*class_data())


@pytest.fixture(scope="module")
def rounds():
    return halving("ours")


@pytest.mark.parametrize(
    "name, resource",
    list(zip(HALVING, ["max_iter", "max_iter", "samples", "max_leaf_nodes"], strict=True)),
)
def test_rounds_are_the_scores_of_candidates_by_what_they_were_given(name, resource):
    search = halving(name)
    display, results = DRAW(search), search.cv_results_
    drawn = sorted(point for line in display.lines_ for point in zip(*line.get_data(), strict=True))
    assert drawn == sorted(zip(results["n_resources"], results["mean_test_score"], strict=True))
    lengths = sorted(len(line.get_xdata()) for line in display.lines_)
    n_left = -np.diff([*search.n_candidates_, 0])
    assert lengths == [i for i, n in enumerate(n_left, 1) for _ in range(n)]
    best = display.lines_[-1]
    assert best.get_ydata()[-1] == search.best_score_
    assert best.get_xdata().tolist() == search.n_resources_
    assert display.ax_.get_xlabel() == resource
    ticks = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert ticks == [str(n) for n in search.n_resources_]
    said = [
        f"after {resources}: {n} dropped, {n_remaining} remaining"
        for resources, n, n_remaining in zip(
            search.n_resources_[:-1], n_left, search.n_candidates_[1:], strict=False
        )
    ]
    last = [f"last round: {n_left[-1] - 1}"] if n_left[-1] > 1 else []
    assert legend_of(display) == [*said, *last, f"best: {search.best_score_:.3g}"]
    std = results["std_test_score"][search.best_index_]
    end = search.best_score_ - std, search.best_score_ + std
    assert bars_of(display)[search.n_resources_[-1]] == pytest.approx(end)


def test_of_a_halving_search_parameters_are_drawn_with_the_last_score_of_each():
    search = halving("ours")
    display = DRAW(search, params=["learning_rate_init", "alpha"])
    results, last = search.cv_results_, {}
    for params, score in zip(results["params"], results["mean_test_score"], strict=True):
        last[params["alpha"], params["learning_rate_init"]] = score
    expected = [[last[a, r] for r in (0.001, 0.01, 0.1)] for a in (0.01, 1.0, 10.0)]
    assert display.image_.get_array().tolist() == expected
    assert display.ax_.get_title() == "each in its last round"


def test_losses_far_apart_are_on_a_logarithmic_scale_and_scores_are_not():
    mean, alphas = -np.geomspace(0.01, 10, 4), [1, 2, 3, 4]
    results = {
        "params": [{"alpha": alpha} for alpha in alphas],
        "mean_test_score": mean,
        "std_test_score": np.zeros(4),
    }
    display = SearchDisplay(cv_results=results)
    assert display.plot(negate_score=True).ax_.get_yscale() == "log"
    assert display.plot().ax_.get_yscale() == "linear"
    pairs = [{"alpha": alpha, "tol": tol} for alpha in (1, 2) for tol in (1, 2)]
    display = SearchDisplay(cv_results={**results, "params": pairs})
    for is_negated, norm in ((True, "LogNorm"), (False, "Normalize")):
        image = display.plot(negate_score=is_negated).image_
        assert type(image.norm).__name__ == norm


def test_repeated_rounds_have_one_tick():
    search = HalvingGridSearchCV(
        quick(BackpropClassifier),
        {"alpha": np.geomspace(0.01, 10, 9)},
        resource="max_iter",
        min_resources=2,
        max_resources=6,
        aggressive_elimination=True,
        cv=2,
    ).fit(*class_data())
    assert search.n_resources_ == [2, 2, 6]
    display = DRAW(search)
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["2", "6"]
    assert legend_of(display)[:2] == [
        "after 2: 6 dropped, 3 remaining",
        "after 2: 2 dropped, 1 remaining",
    ]


# ---------------------------------------------------------------------- names, options


@pytest.mark.parametrize(
    "scoring, negate_score, name",
    [
        (None, False, "score"),
        (None, True, "negative score"),
        ("neg_mean_squared_error", True, "mean squared error"),
        ("neg_mean_squared_error", False, "negative mean squared error"),
        ("r2", False, "r2"),
        ("r2", True, "negative r2"),
    ],
)
def test_the_axis_has_the_name_of_the_score(scoring, negate_score, name):
    search = ridge({"alpha": ALPHAS}, scoring=scoring)
    display = DRAW(search, negate_score=negate_score)
    assert display.ax_.get_ylabel().splitlines()[0] == name
    sign = -1 if negate_score else 1
    expected = (sign * search.cv_results_["mean_test_score"]).tolist()
    assert display.lines_[0].get_ydata().tolist() == expected
    assert legend_of(display) == [f"best: {sign * search.best_score_:.3g}"]
    named = DRAW(search, score_name="my score").ax_
    assert named.get_ylabel().splitlines()[0] == "my score"


def test_of_several_scores_one_is_drawn():
    search = ridge({"alpha": ALPHAS}, scoring=["r2", "neg_mean_squared_error"], refit="r2")
    display = DRAW(search)
    assert display.lines_[0].get_ydata().tolist() == search.cv_results_["mean_test_r2"].tolist()
    other = DRAW(search, metric="neg_mean_squared_error", negate_score=True)
    assert other.ax_.get_ylabel() == "mean squared error\nmean ± std of 3 folds"
    search.refit = False
    with pytest.raises(ValueError, match=r"metric must be one of \['r2', 'neg_mean.*got 'score'"):
        DRAW(search)


@pytest.mark.parametrize(
    "name, others, short",
    [
        ("alpha", ["alpha"], "alpha"),
        ("net__alpha", ["net__alpha", "net__tol"], "alpha"),
        ("net__alpha", ["net__alpha", "ridge__alpha"], "net__alpha"),
        ("a__net__alpha", ["a__net__alpha", "b__net__alpha"], "a__net__alpha"),
        ("alpha", ["alpha", "net__alpha"], "alpha"),
    ],
)
def test_names_are_as_short_as_tells_them_apart(name, others, short):
    assert shorten_name(name, others) == short


@pytest.mark.parametrize(
    "values, scale",
    [
        ([0.001, 0.003, 0.01, 0.03], "log"),
        ([0.003, 0.01, 0.03], "log"),
        ([1, 10, 100], "log"),
        ([0.01, 0.05, 0.08, 0.11], "linear"),
        (range(1, 30), "linear"),
        ([1, 2, 4, 8, 16], "log"),
        ([1, 2, 4, 8], "linear"),
        (np.linspace(0.01, 0.2, 50), "linear"),
        (np.geomspace(0.1, 1, 50), "log"),
        ([0, 1, 2, 3], "linear"),
        ([0, 0.1, 1, 10], "categories"),
        ([5], "linear"),
        ([-3, 0, 3], "linear"),
        ([True, False], "categories"),
        ([1, None], "categories"),
    ],
)
def test_the_scale_is_that_on_which_values_are_even(values, scale):
    assert ParameterAxis("alpha", "alpha", list(values)).scale == scale


def test_values_are_written_with_few_characters():
    assert format_value(np.float32(0.1)) == "0.1"
    assert format_value(1 / 3) == "0.3333"
    assert format_value("a" * 30) == "a" * 15 + "…"


def test_the_user_s_keywords_are_used(trees):
    assert DRAW(trees, params="max_depth", curve_kwargs={"lw": 7}).lines_[0].get_linewidth() == 7
    image = DRAW(trees, image_kwargs={"cmap": "magma"}).image_
    assert image.get_cmap().name == "magma"


@pytest.mark.parametrize("size", [(4, 3), (10, 7)])
@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_all_that_is_written_can_be_read(trees, rounds, size, style):
    searches = [(trees, {}), (trees, {"params": "criterion"})]
    searches.append((rounds, {}))
    with pyplot.style.context(style), pyplot.rc_context({"figure.figsize": size}):
        for search, options in searches:
            assert labels_overlap(DRAW(search, **options).figure_) == []


@pytest.mark.parametrize("size", [(4, 3), (10, 7)])
def test_a_large_grid_with_long_names_can_be_read(size):
    rates, widths = np.geomspace(1e-5, 1, 12), [(2**i,) * 3 for i in range(3, 15)]
    params = [{"rate": rate, "sizes": width} for rate in rates for width in widths]
    scores = np.linspace(0, 1, len(params))
    results = {"params": params, "mean_test_score": scores, "std_test_score": scores}
    with pyplot.rc_context({"figure.figsize": size}):
        display = SearchDisplay(cv_results=results).plot()
    assert labels_overlap(display.figure_) == []


# ------------------------------------------------------------------------------ errors


def test_what_is_no_fitted_search_is_an_error():
    with pytest.raises(NotFittedError, match="This BackpropGridSearchCV is not fitted"):
        DRAW(BackpropGridSearchCV(quick(BackpropClassifier), {"alpha": [1.0]}))
    for model in (LogisticRegression().fit(*class_data()), quick(BackpropClassifier), None):
        with pytest.raises(TypeError, match="SearchDisplay takes a fitted search.*, got"):
            DRAW(model)


def test_options_that_are_not_valid_are_errors(trees):
    for options, message in (
        (
            {"params": "depth"},
            r"params must be parameters of the search.*'max_depth'.*, got 'depth'",
        ),
        ({"params": ["max_depth", "criterion", "min_samples_leaf"]}, "one or two parameters"),
        ({"params": []}, "one or two parameters"),
        ({"std_display_style": "bars"}, "std_display_style must be one of"),
        ({"metric": "r2"}, r"metric must be one of \['score'\], got 'r2'"),
    ):
        with pytest.raises(ValueError, match=message):
            DRAW(trees, **options)
    with pytest.raises(ValueError, match="one or two parameters"):
        DRAW(ridge({}))
    with pytest.raises(TypeError, match="ax must be matplotlib Axes"):
        DRAW(trees, ax=Figure())
