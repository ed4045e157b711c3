"""Displays of searches: the scores and parameters of `cv_results_`, and what is left out."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from skbackprop import BackpropClassifier, BackpropGridSearchCV, BackpropHalvingGridSearchCV
from skbackprop.displays import SearchDisplay
from support import class_data, few_epochs, quick, value_data

pytestmark = [few_epochs, pytest.mark.usefixtures("closed_figures")]

from_estimator = SearchDisplay.from_estimator
ALPHAS = [0.001, 0.1, 100.0]


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


def made_up(values):
    """Return results of a search over `alpha` with increasing scores."""
    return {
        "params": [{"alpha": value} for value in values],
        "mean_test_score": np.arange(1.0, len(values) + 1),
        "std_test_score": np.zeros(len(values)),
    }


def legend_texts(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def tick_labels(display):
    return [label.get_text() for label in display.ax_.get_xticklabels()]


def best_over(search, *names):
    """Return {values of some parameters: mean score of the best candidate}, the slow way."""
    found, results = {}, search.cv_results_
    for params, mean in zip(results["params"], results["mean_test_score"], strict=True):
        key = tuple(params[name] for name in names)
        found[key] = max(mean, found.get(key, -np.inf))
    return found


# ------------------------------------------------------------------------------ curves


@pytest.mark.parametrize("search_class", [GridSearchCV, BackpropGridSearchCV])
def test_curve_has_mean_and_standard_deviation_of_the_folds(search_class):
    network = quick(BackpropClassifier, learning_rate_init=0.1)
    search = search_class(network, {"alpha": ALPHAS[::-1]}, cv=3).fit(*class_data())
    display = from_estimator(search)
    (line,) = display.lines_
    mean, std = (search.cv_results_[f"{name}_test_score"][::-1] for name in ("mean", "std"))
    np.testing.assert_array_equal(line.get_data(), [ALPHAS, mean])
    (bars,) = display.ax_.collections
    expected = [[(a, m - s), (a, m + s)] for a, m, s in zip(ALPHAS, mean, std, strict=True)]
    np.testing.assert_allclose(bars.get_segments(), expected)
    ax = display.ax_
    assert (ax.get_xlabel(), ax.get_xscale()) == ("alpha", "log")
    assert (ax.get_ylabel(), ax.get_title()) == ("score", "")
    assert legend_texts(display) == [f"best: {search.best_score_:.3g}"]


def test_curve_has_the_best_of_the_other_parameters_and_names_them(trees):
    display = from_estimator(trees, params="max_depth")
    (line,) = display.lines_
    assert {(x,): y for x, y in zip(*line.get_data(), strict=True)} == best_over(trees, "max_depth")
    assert display.ax_.get_title() == "best over criterion, min_samples_leaf"
    star = display.ax_.lines[-1]
    assert star.get_xdata() == [trees.best_params_["max_depth"]]
    assert star.get_ydata() == [trees.best_score_]


def test_values_other_than_numbers_have_ticks_and_are_not_joined():
    values = [None, "lbfgs", (2, 3), np.array([1.0, 2.0]), Ridge(), True, 1]
    display = SearchDisplay(cv_results=made_up(values)).plot()
    assert display.lines_[0].get_xdata().tolist() == list(range(7))
    assert tick_labels(display) == ["None", "lbfgs", "(2, 3)", "[1. 2.]", "Ridge()", "True", "1"]
    assert display.lines_[0].get_linestyle() == "None"


@pytest.mark.parametrize(
    "values, scale",
    [
        (ALPHAS, "log"),
        ([0, 0.001, 0.1], "symlog"),
        ([1, 4, 20], "linear"),
        ([1, 4, 21], "log"),
        ([-3, 0, 3], "linear"),
        ([5], "linear"),
    ],
)
def test_scale_depends_on_the_span_of_the_values(values, scale):
    display = SearchDisplay(cv_results=made_up(values[::-1])).plot()
    assert display.lines_[0].get_xdata().tolist() == values
    assert display.ax_.get_xscale() == scale
    if scale == "symlog":
        assert display.ax_.xaxis.get_transform().linthresh == 0.001


def test_grids_may_leave_out_parameters():
    search = ridge([{"alpha": [1.0, 2.0]}, {"solver": ["svd", "lsqr"]}])
    assert tick_labels(from_estimator(search, params="solver")) == ["not set", "svd", "lsqr"]


# --------------------------------------------------------------------------- heat maps


def test_heat_map_has_a_cell_for_each_pair_of_values(trees):
    params = ["max_depth", "min_samples_leaf"]
    display = from_estimator(trees, params=params)
    image = display.image_.get_array()
    assert image.shape == (4, 3)
    texts = {text.get_position(): float(text.get_text()) for text in display.text_}
    for (depth, leaf), mean in best_over(trees, *params).items():
        column, row = depth - 1, [1, 2, 4, 8].index(leaf)
        assert image[row, column] == mean
        assert texts[column, row] == pytest.approx(mean, rel=0.01)
    ax = display.ax_
    assert (ax.get_xlabel(), ax.get_ylabel()) == tuple(params)
    assert ax.get_title() == "best over criterion"
    column = trees.best_params_["max_depth"] - 1
    row = [1, 2, 4, 8].index(trees.best_params_["min_samples_leaf"])
    assert ax.patches[0].get_xy() == (column - 0.5, row - 0.5)
    assert ax.get_ylim()[0] < ax.get_ylim()[1]


@pytest.mark.parametrize("negate_score", [False, True])
def test_better_cells_are_brighter_and_their_texts_legible(trees, negate_score):
    params = ["max_depth", "min_samples_leaf"]
    display = from_estimator(trees, params=params, negate_score=negate_score)
    sign, image = -1 if negate_score else 1, display.image_
    greens = image.to_rgba(np.sort(sign * image.get_array().ravel()) * sign)[:, 1]
    assert (np.diff(greens) >= 0).all()
    for text in display.text_:
        column, row = text.get_position()
        assert abs(image.to_rgba(image.get_array()[row, column])[1] - text.get_color()[1]) > 0.3


def test_values_that_form_no_grid_are_plotted_over_one_parameter():
    values = {"alpha": np.geomspace(1e-3, 1, 50), "tol": np.linspace(0.01, 0.2, 50)}
    search = ridge(values, RandomizedSearchCV, n_iter=12, random_state=0)
    display = from_estimator(search)
    n_values = {name: len(best_over(search, name)) for name in values}
    most = max(values, key=n_values.get)
    (line,) = display.lines_
    assert {(x,): y for x, y in zip(*line.get_data(), strict=True)} == best_over(search, most)
    assert display.ax_.get_xlabel() == most
    # A line does not join values that were tried with different values of the other parameter.
    assert line.get_linestyle() == "None"
    image = from_estimator(search, params=["alpha", "tol"]).image_.get_array()
    assert (~image.mask).sum() == len(best_over(search, "alpha", "tol"))


def test_failed_fits_are_gaps():
    with pytest.warns(match="fits failed|scores are non-finite"):
        settings = {"scoring": "neg_mean_squared_error"}
        search = ridge({"alpha": [-1.0, 1.0], "tol": [0.01, 0.1]}, **settings)
    display = from_estimator(search)
    assert display.image_.get_array().mask.tolist() == [[True, False]] * 2
    assert display.ax_.patches[0].get_x() == 0.5  # the best value is not that of a failed fit
    assert sum(text.get_text() == "nan" for text in display.text_) == 2
    (line,) = from_estimator(search, params="alpha").lines_
    assert np.isnan(line.get_ydata()).tolist() == [True, False]


# ------------------------------------------------------------------------------ rounds


NETWORK = quick(BackpropClassifier, max_iter=9, n_iter_no_change=np.inf)
GRID = {"alpha": [0.01, 1.0, 10.0], "learning_rate_init": [0.001, 0.01, 0.1]}
HALVING = {
    "max_iter": BackpropHalvingGridSearchCV(NETWORK, GRID, cv=2),
    "backpropclassifier__max_iter": BackpropHalvingGridSearchCV(
        make_pipeline(StandardScaler(), NETWORK),
        {f"backpropclassifier__{name}": values for name, values in GRID.items()},
        cv=2,
    ),
    "samples": HalvingGridSearchCV(NETWORK, GRID, cv=2, min_resources=10),
}


@pytest.mark.parametrize("resource", HALVING)
def test_rounds_are_the_scores_of_candidates_over_the_resources(resource):
    search = clone(HALVING[resource]).fit(*class_data())
    display, results = from_estimator(search), search.cv_results_
    points = [point for line in display.lines_ for point in zip(*line.get_data(), strict=True)]
    expected = zip(results["n_resources"], results["mean_test_score"], strict=True)
    assert sorted(points) == sorted(expected)
    lengths = sorted(len(line.get_xdata()) for line in display.lines_)
    n_dropped = -np.diff([*search.n_candidates_, 0])
    assert lengths == [i for i, n in enumerate(n_dropped, 1) for _ in range(n)]
    colors = [f"C{len(line.get_xdata()) - 1}" for line in display.lines_[:-1]]
    assert [line.get_color() for line in display.lines_] == [*colors, "black"]
    best = display.lines_[-1]
    assert best.get_ydata()[-1] == search.best_score_
    assert best.get_xdata().tolist() == search.n_resources_
    assert display.ax_.get_xlabel() == resource.removeprefix("backpropclassifier__")
    assert tick_labels(display) == [str(n) for n in search.n_resources_]
    expected = [
        f"after {resources}: {n} dropped, {n_remaining} remaining"
        for resources, n, n_remaining in zip(
            search.n_resources_[:-1], n_dropped, search.n_candidates_[1:], strict=False
        )
    ]
    expected += ["last round"] if n_dropped[-1] > 1 else []
    assert legend_texts(display) == [*expected, f"best: {search.best_score_:.3g}"]


def test_parameters_of_a_halving_search_have_the_last_score_of_each_candidate():
    search = clone(HALVING["max_iter"]).fit(*class_data())
    display = from_estimator(search, params=["learning_rate_init", "alpha"])
    results, last = search.cv_results_, {}
    for params, score in zip(results["params"], results["mean_test_score"], strict=True):
        last[params["alpha"], params["learning_rate_init"]] = score
    expected = [[last[a, r] for r in (0.001, 0.01, 0.1)] for a in (0.01, 1.0, 10.0)]
    assert display.image_.get_array().tolist() == expected


# ------------------------------------------------------------------------------ scores


def test_wide_negated_scores_are_on_a_logarithmic_scale():
    results = {**made_up([1, 2, 3, 4]), "mean_test_score": -np.geomspace(0.01, 10, 4)}
    display = SearchDisplay(cv_results=results)
    assert display.plot(negate_score=True).ax_.get_yscale() == "log"
    assert display.plot().ax_.get_yscale() == "linear"


@pytest.mark.parametrize(
    "scoring, negate_score, name",
    [
        (None, False, "score"),
        (None, True, "negative score"),
        ("neg_mean_squared_error", True, "mean squared error"),
        ("neg_mean_squared_error", False, "negative mean squared error"),
        ("r2", False, "r2"),
    ],
)
def test_axis_has_the_name_and_the_sign_of_the_score(scoring, negate_score, name):
    search = ridge({"alpha": ALPHAS}, scoring=scoring)
    display = from_estimator(search, negate_score=negate_score)
    assert display.ax_.get_ylabel() == name
    sign = -1 if negate_score else 1
    expected = (sign * search.cv_results_["mean_test_score"]).tolist()
    assert display.lines_[0].get_ydata().tolist() == expected
    assert legend_texts(display) == [f"best: {sign * search.best_score_:.3g}"]
    assert from_estimator(search, score_name="my score").ax_.get_ylabel() == "my score"


def test_metric_selects_one_of_several_scores():
    search = ridge({"alpha": ALPHAS}, scoring=["r2", "neg_mean_squared_error"], refit="r2")
    display = from_estimator(search)
    assert display.lines_[0].get_ydata().tolist() == search.cv_results_["mean_test_r2"].tolist()
    other = from_estimator(search, metric="neg_mean_squared_error", negate_score=True)
    assert other.ax_.get_ylabel() == "mean squared error"
    search.refit = False
    with pytest.raises(ValueError, match=r"metric must be one of \['r2', 'neg_mean.*got 'score'"):
        from_estimator(search)


# ------------------------------------------------------------------------------ errors


def test_raises_on_anything_but_a_fitted_search():
    unfitted = BackpropGridSearchCV(quick(BackpropClassifier), {"alpha": [1.0]})
    for model in (unfitted, LogisticRegression().fit(*class_data()), quick(BackpropClassifier)):
        with pytest.raises(NotFittedError, match="SearchDisplay needs a fitted search, got"):
            from_estimator(model)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"params": "depth"},
            r"params must be one or two parameters.*got \['depth'\].*'max_depth'",
        ),
        ({"params": ["max_depth", "criterion", "min_samples_leaf"]}, "one or two parameters"),
        ({"params": []}, "one or two parameters"),
        ({"metric": "r2"}, r"metric must be one of \['score'\], got 'r2'"),
    ],
)
def test_raises_on_options_that_are_not_valid(trees, options, message):
    with pytest.raises(ValueError, match=message):
        from_estimator(trees, **options)


def test_params_accepts_unique_endings_of_names():
    search = GridSearchCV(make_pipeline(Ridge()), {"ridge__alpha": ALPHAS}, cv=2)
    display = from_estimator(search.fit(*value_data()), params="alpha")
    assert display.ax_.get_xlabel() == "ridge__alpha"
    with pytest.raises(ValueError, match="one or two parameters"):
        from_estimator(ridge({}))
