"""Validation rows and scores: curves, early stopping and the best call of `partial_fit`.

What is recorded after k epochs is compared with a network that was fitted for k epochs.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.metrics import (
    balanced_accuracy_score,
    log_loss,
    make_scorer,
    mean_absolute_error,
    mean_squared_error,
)
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier, BackpropGridSearchCV, BackpropRegressor, EarlyStopping
from support import (
    BOTH,
    assert_same_network,
    assert_same_search,
    class_data,
    few_epochs,
    label_data,
    quick,
    same_bits,
    value_data,
)

pytestmark = few_epochs

N, N_VAL = 60, 25
X, Y = class_data(N + N_VAL)
WORDS = np.array(["a", "b", "c"])[Y]
VALUES = value_data(N + N_VAL)[1]
TWO_VALUES = value_data(N + N_VAL, n_outputs=2)[1]
WEIGHT = np.random.RandomState(1).uniform(0.5, 2, N + N_VAL)
WEIGHT[N + 3] = 0.0
FIT, VAL = slice(None, N), slice(N, None)


def half_squares(y, predicted, weight):
    return mean_squared_error(y, predicted, sample_weight=weight) / 2


def absolute_errors(y, predicted, weight):
    return mean_absolute_error(y, predicted, sample_weight=weight)


def cross_entropy(y, probabilities, weight):
    return log_loss(y, probabilities, sample_weight=weight, labels=np.unique(WORDS))


# Of each: the estimator, its settings, its targets, and the loss by scikit-learn's metrics.
OF_WORDS = WORDS, "predict_proba", cross_entropy
LOSSES = {
    "log loss": (BackpropClassifier, {}, *OF_WORDS),
    "squares": (BackpropRegressor, {}, VALUES, "predict", half_squares),
    "two outputs": (BackpropRegressor, {}, TWO_VALUES, "predict", half_squares),
    "absolute": (BackpropRegressor, {"loss": "absolute_error"}, VALUES, "predict", absolute_errors),
    "lbfgs": (BackpropClassifier, {"solver": "lbfgs"}, *OF_WORDS),
    "average": (BackpropClassifier, {"average": "polyak"}, *OF_WORDS),
    "dropout": (BackpropClassifier, {"dropout": 0.2, "normalization": "batch"}, *OF_WORDS),
}


def watching(weighted=False, y=WORDS, X=X):
    """Return the arguments of fit that name the rows to watch."""
    given = {"X_val": X[VAL], "y_val": y[VAL]}
    return given | ({"sample_weight_val": WEIGHT[VAL]} if weighted else {})


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("case", LOSSES)
def test_the_loss_after_each_epoch_is_that_of_the_network_then(case, weighted):
    kind, settings, y, method, loss = LOSSES[case]
    weight = WEIGHT[VAL] if weighted else None
    whole = quick(kind, max_iter=4, **settings).fit(X[FIT], y[FIT], **watching(weighted, y))
    assert len(whole.validation_loss_curve_) == whole.n_iter_ == 4
    for n in (1, 4):
        then = quick(kind, max_iter=n, **settings).fit(X[FIT], y[FIT])
        expected = loss(y[VAL], getattr(then, method)(X[VAL]), weight)
        assert whole.validation_loss_curve_[n - 1] == pytest.approx(expected, rel=1e-9)


def test_a_validation_row_of_weight_zero_is_not_there():
    """Its loss overflows."""
    y, weighs = np.where(WEIGHT > 0, VALUES, 1e200), WEIGHT[VAL] > 0
    model, without = (quick(BackpropRegressor, early_stopping=True) for _ in range(2))
    model.fit(X[FIT], y[FIT], **watching(True, y))
    rows = {name: values[weighs] for name, values in watching(True, y).items()}
    without.fit(X[FIT], y[FIT], **rows)
    for name in ("validation_loss_curve_", "validation_scores_"):
        np.testing.assert_allclose(getattr(model, name), getattr(without, name), rtol=1e-9)


@BOTH
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_validation_data_does_not_change_training(estimator_class, solver):
    y = WORDS if estimator_class is BackpropClassifier else VALUES
    watched, plain = (quick(estimator_class, solver=solver, max_iter=5) for _ in range(2))
    watched.fit(X[FIT], y[FIT], **watching(y=y))
    assert same_bits(watched, plain.fit(X[FIT], y[FIT]))
    assert (plain.validation_loss_curve_, watched.validation_scores_) == (None, None)
    assert watched.best_iter_ == watched.n_iter_


@pytest.mark.parametrize("target", ["words", "labels", "weighted classes"])
def test_given_validation_rows_equal_rows_held_out(target):
    """The same rows, held out or given, in a training that does not shuffle."""
    Y = label_data(N + N_VAL)[1] if target == "labels" else WORDS
    settings = {"early_stopping": True, "shuffle": False, "max_iter": 30, "n_iter_no_change": 3}
    if target == "weighted classes":
        settings["class_weight"] = {"a": 5.0, "b": 0.5}
    held_out = quick(BackpropClassifier, **settings).fit(X, Y)
    train, rows = held_out._model.state.orders[0], held_out._model.state.held_out[0]
    given = quick(BackpropClassifier, **settings)
    given.fit(X[train], Y[train], X_val=X[rows], y_val=Y[rows])
    assert_same_network(given, held_out, rtol=0, atol=0)
    for name in ("validation_loss_curve_", "validation_scores_", "best_iter_"):
        assert getattr(given, name) == getattr(held_out, name)


# ------------------------------------------------------------------------------- another score


def reads_estimator(estimator, X, y):
    """Return a score by all that a scorer of a user's own may look at."""
    assert estimator.n_outputs_ == estimator.coefs_[-1].shape[1]
    assert not hasattr(estimator, "estimators_")
    return float(np.mean(estimator.predict(X) == y))


SCORERS = {
    "name": ("balanced_accuracy", lambda model, X, y: balanced_accuracy_score(y, model.predict(X))),
    "made": (
        make_scorer(log_loss, response_method="predict_proba", greater_is_better=False),
        lambda model, X, y: -log_loss(y, model.predict_proba(X)),
    ),
    "function": (reads_estimator, reads_estimator),
    "loss": ("loss", lambda model, X, y: -log_loss(y, model.predict_proba(X))),
    "own": (None, lambda model, X, y: model.score(X, y)),
}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"solver": "lbfgs"},
        {"average": "polyak"},
        {"normalization": "batch", "learning_rate_init": 1.0},  # the last epoch is not the best
    ],
    ids=str,
)
@pytest.mark.parametrize("scorer", SCORERS)
def test_the_score_after_each_epoch_is_that_of_the_network_then(scorer, settings):
    scoring, score = SCORERS[scorer]
    stopping = EarlyStopping(scoring, n_iter_no_change=np.inf)
    model = quick(BackpropClassifier, max_iter=4, early_stopping=stopping, **settings)
    model.fit(X[FIT], WORDS[FIT], **watching())
    for n in (1, 4):
        then = quick(BackpropClassifier, max_iter=n, **settings).fit(X[FIT], WORDS[FIT])
        expected = score(then, X[VAL], WORDS[VAL])
        assert model.validation_scores_[n - 1] == pytest.approx(expected, rel=1e-9)
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert score(model, X[VAL], WORDS[VAL]) == pytest.approx(model.best_validation_score_, rel=1e-9)


def test_scorers_get_each_member_of_an_ensemble():
    settings = {"n_estimators": 3, "max_iter": 4, "learning_rate_init": 0.1}
    by_name, own = (
        quick(BackpropClassifier, early_stopping=EarlyStopping(scoring), **settings).fit(X, WORDS)
        for scoring in ("accuracy", None)
    )
    np.testing.assert_allclose(by_name.validation_scores_, own.validation_scores_)


def test_scorers_do_not_ask_for_the_names_of_an_earlier_fit():
    model = quick(BackpropClassifier, early_stopping=EarlyStopping(reads_estimator))
    for _ in range(2):
        model.fit(pd.DataFrame(X).add_prefix("x"), WORDS)  # a warning would be an error


@pytest.mark.parametrize("solver, best_iter", [("adam", 1), ("lbfgs", 5)])
def test_the_last_of_equally_good_iterations_counts_for_lbfgs(solver, best_iter):
    rule = EarlyStopping(lambda *_: 0.0, n_iter_no_change=np.inf)
    model = quick(BackpropRegressor, solver=solver, early_stopping=rule).fit(*value_data())
    assert (model.n_iter_, model.best_iter_) == (5, best_iter)


def test_patience_is_that_of_early_stopping():
    stopping, settings = EarlyStopping("loss", n_iter_no_change=5), {"learning_rate_init": 0.5}
    model = quick(BackpropClassifier, early_stopping=stopping, max_iter=200, **settings)
    model.fit(X[FIT], WORDS[FIT], **watching())
    assert 5 <= model.n_iter_ - model.best_iter_ <= 6


@pytest.mark.parametrize(
    "scoring, message",
    [
        ("beauty", "'beauty' is not a valid scoring value"),
        (lambda estimator, X, y: "good", "must return a number .* but returned 'good'"),
    ],
    ids=["name", "word"],
)
def test_invalid_scorers_are_errors(scoring, message):
    model = quick(BackpropClassifier, early_stopping=EarlyStopping(scoring))
    with pytest.raises(ValueError, match=message):
        model.fit(X, WORDS)
    assert not hasattr(model, "coefs_")


# ------------------------------------------------------------------------ in scikit-learn's hands


def test_a_search_takes_rows_to_watch():
    grid = {"learning_rate_init": [0.01, 0.1], "alpha": [0.0, 1.0]}
    estimator = quick(BackpropClassifier, early_stopping=True, max_iter=9)
    searches = [kind(estimator, grid, cv=2) for kind in (BackpropGridSearchCV, GridSearchCV)]
    ours, theirs = (search.fit(X[FIT], WORDS[FIT], **watching()) for search in searches)
    assert_same_search(ours, theirs)
    assert ours.best_estimator_.validation_scores_ == theirs.best_estimator_.validation_scores_


def test_a_pipeline_transforms_the_rows_to_watch():
    with sklearn.config_context(enable_metadata_routing=True):
        network = quick(BackpropClassifier, early_stopping=True, max_iter=9)
        network.set_fit_request(X_val=True, y_val=True, sample_weight_val=True)
        model = make_pipeline(StandardScaler(), network, transform_input=["X_val"])
        model.fit(X[FIT], WORDS[FIT], **watching(weighted=True))
    scaler = StandardScaler().fit(X[FIT])
    by_hand = quick(BackpropClassifier, early_stopping=True, max_iter=9)
    by_hand.fit(
        scaler.transform(X[FIT]), WORDS[FIT], **watching(weighted=True, X=scaler.transform(X))
    )
    assert same_bits(model[-1], by_hand)
    assert model[-1].validation_scores_ == by_hand.validation_scores_


def test_call_without_validation_data_keeps_earlier_curves():
    model = quick(BackpropClassifier, max_iter=3, warm_start=True)
    seen = model.fit(X[FIT], WORDS[FIT], **watching()).validation_loss_curve_
    assert model.partial_fit(X[FIT], WORDS[FIT]).validation_loss_curve_ == seen
    assert model.fit(X[FIT], WORDS[FIT]).validation_loss_curve_ == seen
    model.set_params(warm_start=False).fit(X[FIT], WORDS[FIT])
    assert model.validation_loss_curve_ is None


WRONG = {
    "no targets": ({"X_val": X[VAL]}, "X_val, y_val: .* requires y"),
    "no rows": ({"y_val": WORDS[VAL]}, "only valid with X_val, but X_val is None"),
    "no rows but weights": ({"sample_weight_val": WEIGHT[VAL]}, "X_val is None"),
    "columns": (watching() | {"X_val": X[VAL, :3]}, "X_val, y_val: X has 3 features"),
    "lengths": (watching() | {"y_val": WORDS[:3]}, "X_val, y_val: .*inconsistent numbers"),
    "labels": (watching() | {"y_val": np.repeat("z", N_VAL)}, "X_val, y_val: .* not in .*'z'"),
    "nan": (watching() | {"X_val": X[VAL] * np.nan}, "X_val, y_val: Input X contains NaN"),
    "weights": (watching() | {"sample_weight_val": -WEIGHT[VAL]}, "X_val, y_val: .*[Nn]egative"),
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("case", WRONG)
def test_invalid_validation_data_is_an_error_and_changes_nothing(case, method):
    given, message = WRONG[case]
    model = call(quick(BackpropClassifier))
    before, twin = dict(vars(model)), pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(X[FIT], WORDS[FIT], **given)
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is value for name, value in before.items())
    assert same_bits(call(model), call(twin))


# ------------------------------------------------------------------------------------- in pieces

ENDLESS = EarlyStopping(n_iter_no_change=np.inf)
PIECES = {
    "plain": {},
    "loss": {"early_stopping": EarlyStopping("loss", n_iter_no_change=np.inf)},
    "area": {"early_stopping": EarlyStopping("roc_auc_ovr", n_iter_no_change=np.inf)},
    "sgd, adaptive": {"solver": "sgd", "learning_rate": "adaptive", "early_stopping": ENDLESS},
    "average": {"average": "ema", "early_stopping": ENDLESS},
    "batches": {"normalization": "batch", "dropout": 0.2, "early_stopping": ENDLESS},
    "members": {"n_estimators": 3, "early_stopping": ENDLESS},
    "members, average": {"n_estimators": 3, "average": "polyak", "early_stopping": ENDLESS},
}
SEEN = ("loss_curve_", "validation_loss_curve_", "validation_scores_")


def call(model, given=None, y=WORDS, **other):
    """Train for one call, by default with rows to watch."""
    given = watching(y=y) if given is None else given
    classes = {"classes": np.unique(WORDS)} if isinstance(model, BackpropClassifier) else {}
    return model.partial_fit(X[FIT], y[FIT], **classes, **given, **other)


def shown(model):
    return [array.copy() for array in (*model.coefs_, *model.intercepts_)]


def are_equal(some, others):
    return all(map(np.array_equal, some, others))


@pytest.mark.parametrize("case", PIECES)
def test_scored_partial_fits_equal_one_fit(case):
    settings = {"learning_rate_init": 0.05, "max_iter": 12} | PIECES[case]
    whole = quick(BackpropClassifier, **settings)
    whole.fit(X[FIT], WORDS[FIT], **watching(weighted=True))
    session = quick(BackpropClassifier, **settings)
    for n in range(12):
        call(session, watching(weighted=True))
        session = pickle.loads(pickle.dumps(session)) if n in (3, 8) else session
    for name in SEEN:
        assert getattr(session, name) == getattr(whole, name)
    assert are_equal(shown(session), shown(whole))
    if session.early_stopping:
        np.testing.assert_array_equal(session.best_iter_, whole.best_iter_)
        np.testing.assert_array_equal(session.best_validation_score_, whole.best_validation_score_)
    np.testing.assert_array_equal(session.predict_proba(X[VAL]), whole.predict_proba(X[VAL]))


@BOTH
def test_best_of_scored_partial_fits_is_kept(estimator_class):
    y = WORDS if estimator_class is BackpropClassifier else VALUES
    settings = {"learning_rate_init": 0.1}
    model = quick(estimator_class, early_stopping=ENDLESS, **settings)
    by_hand, best, scores = quick(estimator_class, **settings), None, []
    for _ in range(15):
        call(model, y=y)
        call(by_hand, {}, y)
        scores.append(by_hand.score(X[VAL], y[VAL]))
        if scores[-1] > max(scores[:-1], default=-np.inf):
            best = shown(by_hand)
        assert are_equal(shown(model), best)
        assert model.validation_scores_ == pytest.approx(scores, rel=1e-12)
        assert model.best_iter_ == 1 + int(np.argmax(model.validation_scores_))
        assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.best_iter_ < 15


@pytest.mark.parametrize(
    "n_estimators, rate", [(1, {}), (1, {"solver": "sgd", "learning_rate": "adaptive"}), (3, {})]
)
def test_loop_of_partial_fits_ends_where_fit_does(rate, n_estimators, capsys):
    stopping = EarlyStopping("loss", n_iter_no_change=2)
    settings = {"early_stopping": stopping, "learning_rate_init": 0.5, "max_iter": 300, **rate}
    whole = quick(BackpropClassifier, n_estimators=n_estimators, **settings)
    whole.fit(X[FIT], WORDS[FIT], **watching())
    assert np.all(whole.converged_)
    session = quick(BackpropClassifier, n_estimators=n_estimators, verbose=True, **settings)
    ended = np.zeros(n_estimators, dtype=int)
    for n in range(1, 1 + np.max(whole.n_iter_)):
        call(session)
        ended[(ended == 0) & session.converged_] = n
    np.testing.assert_array_equal(ended, whole.n_iter_)
    assert "for 2 consecutive epochs. " in capsys.readouterr().out
    if n_estimators == 1:
        assert session.validation_scores_ == whole.validation_scores_
        assert are_equal(shown(session), shown(whole))
    assert np.shape(session.converged_) == np.shape(whole.converged_)


def test_reason_of_the_end_is_reported():
    def fitted(**settings):
        return quick(BackpropClassifier, **settings).fit(X, WORDS)

    assert fitted(max_iter=500, n_iter_no_change=1, tol=0.1).converged_ is True
    assert fitted(max_iter=3).converged_ is False
    assert fitted(max_iter=3, n_iter_no_change=np.inf).converged_ is False
    assert fitted(max_iter=500, solver="lbfgs", alpha=1.0).converged_ is True
    assert fitted(max_iter=2, solver="lbfgs").converged_ is False
    assert call(quick(BackpropClassifier)).converged_ is False
    members = fitted(max_iter=3, n_estimators=2)
    assert members.converged_.tolist() == [False, False]
    assert members.estimators_[0].converged_ is False


def test_call_without_score_keeps_the_best():
    model, other = (
        quick(BackpropClassifier, early_stopping=ENDLESS, random_state=1) for _ in range(2)
    )
    for each in (model, other):
        call(call(each), {})
    assert (len(model.validation_scores_), model.best_iter_, len(model.loss_curve_)) == (1, 1, 2)
    first = call(quick(BackpropClassifier, random_state=1))
    assert are_equal(shown(model), shown(first))
    # Training has gone on from the weights of the last call all the same.
    plain = quick(BackpropClassifier, random_state=1)
    for _ in range(3):
        call(plain, {})
    call(model)
    assert model.validation_scores_[-1] == plain.score(X[VAL], WORDS[VAL])
    # So it does in a warm fit.
    other.set_params(warm_start=True, early_stopping=False, max_iter=1).fit(X[FIT], WORDS[FIT])
    assert are_equal(shown(other), shown(plain))


def misled(model):
    """Return rows to watch that a model predicts as badly as can be."""
    predicted = model.predict(X[VAL])
    next_word = {"a": "b", "b": "c", "c": "a"}
    is_of_words = isinstance(model, BackpropClassifier)
    wrong = [next_word[word] for word in predicted] if is_of_words else predicted + 1e3
    return {"X_val": X[VAL], "y_val": np.asarray(wrong)}


def worsening(model, y=WORDS):
    """Return a model after some calls, the last of which was not the best."""
    for _ in range(4):
        call(model, y=y)
    call(model, misled(model), y=y)
    assert model.best_iter_ < len(model.validation_scores_)
    return model


@pytest.mark.parametrize("average", [None, "polyak"])
@pytest.mark.parametrize("how", ["whole", "item"])
def test_assigned_weights_count_as_the_current_ones(how, average):
    settings = {"early_stopping": ENDLESS, "random_state": 1, "average": average}
    model = worsening(quick(BackpropClassifier, **settings))
    with pytest.raises(ValueError, match="read-only"):  # further training has other weights
        model.coefs_[0][...] *= 2
    plain = pickle.loads(pickle.dumps(model)).set_params(early_stopping=False)
    for each in (model, plain):
        if how == "whole":
            each.coefs_ = [2 * array for array in each.coefs_]
        else:
            each.coefs_[0] = 2 * each.coefs_[0]
    model, plain = call(model), call(plain)
    assert are_equal(shown(model), shown(plain))
    assert model.best_iter_ == len(model.validation_scores_) == 6
    assert model.best_validation_score_ == plain.score(X[VAL], WORDS[VAL])


def test_another_scorer_restarts_the_comparison():
    model = call(quick(BackpropClassifier, early_stopping=ENDLESS))
    model.set_params(early_stopping=EarlyStopping("loss", n_iter_no_change=1))
    assert call(model).best_iter_ == 1
    assert model.best_validation_score_ == -model.validation_loss_curve_[-1]
