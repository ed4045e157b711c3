"""Which strings are numbers, dates, text or categories, and what becomes of text?"""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import make_pipeline

from skbackprop import TabularClassifier, TabularRegressor
from skbackprop.tabular import TableEncoder
from skbackprop.tabular._date_and_text_encodings import N_NGRAMS, TextEncoding
from skbackprop.tabular._read_table import FEW_ROWS
from skbackprop.tabular._string_formats import NumberFormat

# --------------------------------------------------------------------- numbers in strings

WRITTEN = {
    "7": 7.0,
    "1,234": 1234.0,
    "12,34,567": 1234567.0,
    "-1,234,567.5": -1234567.5,
    " 3.5\t": 3.5,
    "+.5": 0.5,
    "5.": 5.0,
    "0": 0.0,
    "0.25": 0.25,
    "1e3": 1000.0,
    "2.5E-1": 0.25,
    "12 %": 0.12,
    "12%": 0.12,
    "1,200.5 % ": 12.005,
}
NOT_NUMBERS = ["", " ", ".", "-", "%", "1,23", "1,2345", "12,34,56", "123,45,678", "1234,567"]
NOT_NUMBERS += ["1.2.3", "1 2", "2 %", f"{'':500}x"]
NOT_NUMBERS += ["007", "00", "01.5", "nan", "inf", "1_000", "0x1f", "$5", "e5", "5 e", "--5", "٣"]


@pytest.mark.parametrize("text", WRITTEN)
def test_numbers_in_strings(text):
    form = NumberFormat(unit="%" * ("%" in text))
    assert form.parse(text) == pytest.approx(WRITTEN[text], rel=1e-15)


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_strings_without_a_number(text):
    assert NumberFormat().parse(text) is None


LIBRARIES = {
    "pandas": pd.DataFrame,
    "pandas, objects": lambda table: pd.DataFrame(table, dtype=object),
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "array": lambda table: np.array(list(table.values()), dtype=object).T,
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("n", [1, FEW_ROWS])
def test_a_column_of_numbers_in_strings_is_numeric(library, n):
    make = LIBRARIES[library]
    strings = ["1,234", "0.12", " 3.5", None, "", "-2"]
    floats = np.array([1234, 0.12, 3.5, np.nan, np.nan, -2])
    expected = TableEncoder().fit_transform(np.column_stack([np.arange(6.0), floats]))
    encoder = TableEncoder().fit(make({"x": list(range(6)), "price": strings}))
    assert list(encoder.column_kinds_.values()) == ["number", "number"]
    found = encoder.transform(make({"x": list(range(6)) * n, "price": strings * n}))
    np.testing.assert_array_equal(found, np.tile(expected, (n, 1)))
    # A string that is no number is missing, and so are all missing values.
    later = ["soon", "1,23", "", None, "nan", "3.5"] * n
    with pytest.warns(
        UserWarning, match=f"{2 * n} of .* are not numbers with a decimal point, such as 'so"
    ):
        found = encoder.transform(make({"x": list(range(6)) * n, "price": later}))
    assert found[:, -1].tolist() == [1, 1, 1, 1, 1, 0] * n
    assert (found[:5, 1] == expected[3, 1]).all() and found[5, 1] == expected[2, 1]
    # Later columns may hold numbers proper.
    found = encoder.transform(make({"x": list(range(6)) * n, "price": floats.tolist() * n}))
    np.testing.assert_array_equal(found, np.tile(expected, (n, 1)))


@pytest.mark.parametrize(
    "values, kind",
    [
        (["1", "2", "03"], "category"),  # codes, such as postal ones
        (["1", "2", "n/a"], "number"),
        ([1, 2.5, "-"], "number"),
        (["", " ", None, "none"], "category"),
        (["1", "2", "three"], "category"),
        (["$5", "€7"], "category"),  # of two currencies
        (["5"], "number"),
        ([1, "2", 2.5, None, "1,200"], "number"),
        ([0.5, "7 %", "12 %"], "number"),
        (["7", "12 %"], "category"),
        ([True, "2"], "number"),
        (["2020-01-01", "2021-05-06 07:08"], "date"),
        (["2020-01-01", "2021-02-30"], "category"),
        (["20200101", "2020"], "number"),
        ([("a", "b"), "1"], "category"),
    ],
)
def test_kinds_of_columns_of_strings(values, kind):
    column = np.empty(len(values), dtype=object)
    column[:] = values
    encoder = TableEncoder(min_frequency=1).fit(pd.DataFrame({"x": pd.Series(column)}))
    assert encoder.column_kinds_ == {"x": kind}
    assert encoder.is_categorical_.tolist() == [kind == "category"]
    assert np.isfinite(encoder.transform(pd.DataFrame({"x": pd.Series(column)}))).all()


def test_declared_categories_are_no_numbers():
    frame = pd.DataFrame({"a": pd.Categorical(["1", "2", "3"]), "b": ["1", "2", "3"]})
    assert TableEncoder().fit(frame).column_kinds_ == {"a": "category", "b": "number"}
    enums = pl.DataFrame({"a": ["1", "2", "3"]}, schema={"a": pl.Enum(["1", "2", "3"])})
    assert TableEncoder().fit(enums).column_kinds_ == {"a": "category"}
    given = TableEncoder(categorical_features=["b"]).fit(frame.assign(a=[1, 2, 3]))
    assert given.column_kinds_ == {"a": "number", "b": "category"}


# ----------------------------------------------------------------------------------- text

WORDS = ["red", "green", "blue", "small", "large", "old", "new", "house", "car", "garden"]
WORDS += ["with", "without", "price", "for", "rent"]


def texts(n, seed=0):
    """Return short texts of random words."""
    rng = np.random.RandomState(seed)
    return [f"{' '.join(rng.choice(WORDS, rng.randint(2, 9)))} {at}" for at in range(n)]


def components_by_scikit_learn(train, table, seed):
    """Return the components of texts by scikit-learn's transformers."""
    pipeline = make_pipeline(
        HashingVectorizer(
            analyzer="char_wb",
            ngram_range=(3, 4),
            n_features=N_NGRAMS,
            alternate_sign=False,
            norm=None,
        ),
        TfidfTransformer(),
        TruncatedSVD(min(30, len(train)), random_state=seed),
    )
    return pipeline.fit(train).transform(table)


def test_components_match_scikit_learn():
    train, table = texts(60), [*texts(20, seed=1), "RED HOUSE", "", "zzzz", "x"]
    encoding = TextEncoding.fit(train, "note", np.random.RandomState(3))
    expected = components_by_scikit_learn(train, table, 3)
    np.testing.assert_allclose(encoding.encode(table), expected, rtol=1e-4, atol=1e-6)
    assert not encoding.encode([""]).any()
    assert np.isnan(encoding.encode([None, np.nan, pd.NA])).all()
    # Of the rank of the texts, however many components there might be.
    few = TextEncoding.fit(
        ["red car", "blue car", "red car"] * 20, "note", np.random.RandomState(0)
    )
    assert len(few.suffixes) == 2


def test_only_a_part_of_a_long_column_is_decomposed(monkeypatch):
    monkeypatch.setattr("skbackprop.tabular._date_and_text_encodings.MAX_FITTED_TEXTS", 40)
    monkeypatch.setattr("skbackprop.tabular._date_and_text_encodings._TEXTS_AT_ONCE", 7)
    column = texts(90)
    encoding = TextEncoding.fit(column, "note", np.random.RandomState(0))
    rng = np.random.RandomState(0)
    chosen = [column[row] for row in rng.choice(90, 40, replace=False)]
    svd_rng = np.random.RandomState(0)
    svd_rng.set_state(rng.get_state())
    expected = components_by_scikit_learn(chosen, column, svd_rng)
    np.testing.assert_allclose(encoding.encode(column), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_column_of_text(library):
    column = [*texts(80), None, ""]
    table = {"x": list(range(82)), "note": column}
    encoder = TableEncoder(random_state=0).fit(LIBRARIES[library](table))
    assert list(encoder.column_kinds_.values()) == ["number", "text"]
    names, types = encoder.get_feature_names_out().tolist(), encoder.output_types_.tolist()
    name = "x1" if library == "array" else "note"
    assert names[1:] == [*(f"{name}_svd{at}" for at in range(30)), f"{name}_missing"]
    assert types == ["number"] + ["text"] * 30 + ["missing"]
    assert encoder.input_columns_.tolist() == [0] + [1] * 31
    raw = TextEncoding.fit(column, "note", np.random.RandomState(0)).encode(column)
    x = (raw - np.nanmedian(raw, axis=0)) / np.sqrt(np.nanvar(raw, axis=0).sum())
    expected = np.nan_to_num(x / np.sqrt(1 + (x / 3) ** 2))
    found = encoder.transform(LIBRARIES[library](table))
    np.testing.assert_allclose(found[:, 1:31], expected, rtol=1e-9, atol=1e-12)
    assert (encoder.scale_[1:] == encoder.scale_[1]).all()
    assert found[:, -1].tolist() == [0] * 80 + [1, 0]
    few = LIBRARIES[library]({"x": [3], "note": [column[3]]})
    np.testing.assert_allclose(encoder.transform(few), found[3:4], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "values, kind",
    [
        (texts(31), "text"),
        (texts(30), "category"),  # not more than 30
        (texts(40) * 19, "text"),  # of more than five words
        (texts(40) * 21, "category"),
        ([text[:9] for text in texts(40)] * 2, "category"),  # half of the values differ
        ([*texts(42), *texts(40)], "text"),
        ([*texts(40), *[None] * 200], "text"),
        ([f"place {at % 50}" for at in range(200)], "category"),
    ],
)
def test_which_strings_are_text(values, kind):
    assert TableEncoder().fit(pd.DataFrame({"x": values})).column_kinds_ == {"x": kind}


# --------------------------------------------------------------------- kinds that are given


def mixed_frame(n=50):
    rng = np.random.RandomState(0)
    return pd.DataFrame(
        {
            "zip": [f"{at % 7 + 10_000}" for at in range(n)],
            "note": texts(n),
            "name": [f"name{at % 9}" for at in range(n)],
            "day": [f"2020-01-{at % 28 + 1:02}" for at in range(n)],
            "income": [["low", "1,200", "80"][at % 3] for at in range(n)],
            "x": rng.randn(n),
            "when": pd.date_range("2020-01-01", periods=n),
        }
    )


KINDS = ["number", "text", "category", "date", "category", "number", "date"]


@pytest.mark.filterwarnings("ignore:Column 'income'. 17 of 50 values are not numbers")
@pytest.mark.filterwarnings("ignore:Column 4. 17 of 50 values are not numbers")
def test_column_kinds_say_what_columns_are_taken_for():
    frame = mixed_frame()
    assert TableEncoder().fit(frame).column_kinds_ == dict(zip(frame, KINDS, strict=True))
    given = {"zip": "category", "name": "text", "note": "category", "income": "number"}
    given |= {"day": "category", "x": "number", "when": "date"}
    encoder = TableEncoder(column_kinds=given, random_state=0).fit(frame)
    assert encoder.column_kinds_ == given
    assert encoder.is_categorical_.tolist() == [given[name] == "category" for name in frame]
    encoded = pd.DataFrame(encoder.transform(frame), columns=encoder.get_feature_names_out())
    assert (encoded["income_missing"] == (frame["income"] == "low")).all()
    by_position = {at: given[name] for at, name in enumerate(frame)}
    again = TableEncoder(column_kinds=by_position, random_state=0).fit(frame)
    assert np.array_equal(again.transform(frame), encoder.transform(frame))
    rows = frame.to_numpy(dtype=object)
    array = TableEncoder(column_kinds=by_position, random_state=0).fit(rows)
    assert array.column_kinds_ == by_position
    assert np.array_equal(array.transform(rows), encoder.transform(frame))


def test_column_kinds_of_a_fitted_encoder_may_be_given():
    frame = mixed_frame().assign(at=datetime.time(3), took=pd.Timedelta("2h"))
    frame.loc[::2, "at"], frame.loc[::3, "took"] = datetime.time(4), pd.Timedelta("3h")
    encoder = TableEncoder(random_state=0).fit(frame)
    assert {"time", "duration", "text", "date"} <= set(encoder.column_kinds_.values())
    again = TableEncoder(column_kinds=encoder.column_kinds_, random_state=0).fit(frame)
    assert again.column_kinds_ == encoder.column_kinds_
    assert np.array_equal(again.transform(frame), encoder.transform(frame))
    # The kinds of the first table hold for a part in which nothing would tell text from categories.
    part = TableEncoder(column_kinds=encoder.column_kinds_, random_state=0).fit(frame[:9])
    assert part.column_kinds_ == encoder.column_kinds_


def test_column_kinds_precede_categorical_features():
    frame = mixed_frame()[["zip", "name", "x"]]
    encoder = TableEncoder(["zip", "name"], column_kinds={"zip": "number"}).fit(frame)
    assert encoder.column_kinds_ == {"zip": "number", "name": "category", "x": "number"}
    with pytest.raises(ValueError, match="Column 'name' is not numeric, but is not among"):
        TableEncoder(["zip"], column_kinds={"x": "category"}).fit(frame)
    text = TableEncoder(None, column_kinds={"name": "text", "x": "text"}).fit(frame)
    assert text.column_kinds_ == {"zip": "number", "name": "text", "x": "text"}


@pytest.mark.parametrize(
    "given, error",
    [
        ({"zip": "words"}, r"to one of \['number', 'category', 'text'.* got 'words'"),
        ({"zap": "text"}, r"for the column 'zap'. The columns are \['zip', 'note'"),
        ({7: "text"}, "for the column 7. The columns are"),
        (
            {"name": "number"},
            "Column 'name' can't be of the kind 'number' .* of the kind 'category'",
        ),
        ({"name": "date"}, "Column 'name' can't be of the kind 'date'"),
        ({"x": "duration"}, "Column 'x' can't be of the kind 'duration'"),
        ({"x": "date"}, "Column 'x' can't be of the kind 'date' .* of the kind 'number'"),
        ({"when": "number"}, "Column 'when' can't be of the kind 'number' .* of the kind 'date'"),
        ("text", "The 'column_kinds' parameter of TableEncoder must be"),
    ],
)
def test_raises_on_wrong_column_kinds(given, error):
    with pytest.raises(ValueError, match=error):
        TableEncoder(column_kinds=given).fit(mixed_frame())


@pytest.mark.parametrize("encoding", ["one_hot", "ordinal"])
def test_outputs_of_all_kinds_are_in_order(encoding):
    frame = mixed_frame(200)
    frame["shop"] = [f"shop{at % 40}" for at in range(200)]
    y = np.arange(200) % 40 + frame["x"]
    encoder = TableEncoder(encoding=encoding, random_state=0).fit(frame, y)
    types = encoder.output_types_.tolist()
    runs = [kind for at, kind in enumerate(types) if at == 0 or types[at - 1] != kind]
    statistics = ["target"] if encoding == "one_hot" else []
    assert runs == ["number", *statistics, "date", "text", encoding]
    assert encoder.n_numeric_ == types.index(encoding) == len(encoder.center_)
    names = encoder.get_feature_names_out()
    assert len(set(names)) == len(names)
    table = list(frame)
    assert all(
        name.startswith(table[column])
        for name, column in zip(names, encoder.input_columns_, strict=True)
    )
    many = pd.concat([frame] * 2, ignore_index=True)
    np.testing.assert_allclose(
        encoder.transform(many), np.tile(encoder.transform(frame), (2, 1)), rtol=1e-9, atol=1e-12
    )


# ------------------------------------------------------------------------------ estimators


@pytest.mark.parametrize("blend", [None, "boosting"])
def test_networks_learn_from_text(blend):
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({"note": texts(400), "x": rng.randn(400)})
    y = frame["note"].str.contains("garden") | frame["note"].str.contains("rent")
    model = TabularClassifier(2, max_iter=30, blend=blend, random_state=0)
    model.fit(frame[:300], y[:300])
    assert model.column_kinds_ == {"note": "text", "x": "number"}
    # Text gets no blocks of cosines and bins.
    assert model._features.n_blocks == 1
    assert model.score(frame[300:], y[300:]) > 0.8
    found = model.permutation_importance(frame[:300], y[:300], n_repeats=1, random_state=0)
    assert found.importances_mean[0] > 0.1 > found.importances_mean[1]
    again = clone(model).fit(frame[:300], y[:300])
    assert np.array_equal(again.predict_proba(frame), model.predict_proba(frame))


def test_estimators_take_column_kinds():
    frame = mixed_frame(60).replace({"income": {"low": "n/a"}})
    kinds = {"income": "number", "zip": "category"}
    model = TabularRegressor(2, column_kinds=kinds, max_iter=2, blend=None, random_state=0)
    model.fit(frame, frame["x"])
    assert model.column_kinds_["income"] == "number" and model.column_kinds_["zip"] == "category"
    validated = clone(model).fit(frame, frame["x"], X_val=frame[:20], y_val=frame["x"][:20])
    assert np.isfinite(validated.predict(frame.iloc[0])).all()
