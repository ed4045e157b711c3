"""Are the columns of files read as a person would read them, whatever format they have?"""

import datetime
import inspect
import re
import warnings
from io import StringIO

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_wine

from skbackprop import TabularRegressor
from skbackprop.tabular import TableEncoder
from skbackprop.tabular._read_table import FEW_ROWS
from skbackprop.tabular._string_formats import DateFormat, NumberFormat, find_format

# ---------------------------------------------------------------------------- numbers

COLUMNS_OF_NUMBERS = {
    "1,234.50|12|n/a": [1234.5, 12, np.nan],
    "1.234,50|12|-7|1.234.567": [1234.5, 12, -7, 1234567],
    "40,25|1000|?": [40.25, 1000, np.nan],
    "1 234,5|\N{NO-BREAK SPACE}7|12\N{NO-BREAK SPACE}345": [1234.5, 7, 12345],
    "1'234.50|0.5|\N{MINUS SIGN}2|NA": [1234.5, 0.5, -2, np.nan],
    "$40.25|-$1,200|$-3|($7.50)|5": [40.25, -1200, -3, -7.5, 5],
    "40,25 €|1.000 €|0,5 €": [40.25, 1000, 0.5],
    "CHF 1\N{RIGHT SINGLE QUOTATION MARK}200|CHF 3.50|null": [1200, 3.5, np.nan],
    "12,5 %|7%|#NUM!|#REF!": [0.125, 0.07, np.nan, np.nan],
    "1,200|80": [1200, 80],  # numbers below a thousand have no comma
    "1.234|2.5": [1.234, 2.5],
    "0,125|0,250": [0.125, 0.25],
    "1,234|3.5": [1234, 3.5],
    "2,5e3|1": [2500, 1],
    "7,058e+03|2,500e-01": [7058, 0.25],
    "US $7,058.25|US $3|\N{EN DASH}|#NV": [7058.25, 3, np.nan, np.nan],
    "%58|% 7": [0.58, 0.07],
    "1.234,56-|12,00|-3": [-1234.56, 12, -3],
    " $ 1,234.50 | $ (12.00)| $ -   ": [1234.5, -12, 0],
    "\u20b912,34,567.50|\u20b999,000|\u20b91,00,000": [1234567.5, 99000, 100000],
}


@pytest.mark.parametrize("strings", COLUMNS_OF_NUMBERS)
@pytest.mark.parametrize("form", ["pandas", "array"])
def test_numbers_have_one_format_in_a_column(strings, form):
    table = pd.DataFrame({"x": strings.split("|") * 2})
    table = table if form == "pandas" else table.to_numpy(dtype=object)
    expected = np.tile(COLUMNS_OF_NUMBERS[strings], 2)[:, None]
    encoder = TableEncoder().fit(table)
    assert [*encoder.column_kinds_.values()] == ["number"]
    twin = TableEncoder().fit(expected)
    np.testing.assert_array_equal(encoder.transform(table), twin.transform(expected))


@given(
    st.lists(st.decimals(-(10**9), 10**9, places=2), min_size=1),
    st.sampled_from(["{:,.2f}", "${:,.2f}", "{:.2f} EUR", "{:.1e}"]),
    st.sampled_from([",.", ".,", " ,", "' .", "\N{NARROW NO-BREAK SPACE},"]),
)
def test_numbers_survive_their_format(numbers, template, marks):
    def write(number):
        text = template.format(number)
        return re.sub("[,.]", lambda mark: marks[0] if mark[0] == "," else marks[-1], text)

    numbers = [*map(float, numbers), 1234.56]  # the last one decides about the decimal mark
    fit = find_format([*dict.fromkeys(map(write, numbers))], [NumberFormat, DateFormat])
    assert not fit.misfits and fit.other is None
    for number in numbers:
        expected = float(re.sub("[^0-9.e+-]", "", template.format(number)))
        assert fit.format.parse(write(number)) == expected


# ------------------------------------------------------------------------------ dates

COLUMNS_OF_DATES = {
    "2022-06-11|2022-12-31 08:15 GMT|n/a": ["2022-06-11", "2022-12-31T08:15", "NaT"],
    "2022-06-11T08:15:30.5Z|2022-06-11T08:15:30+02:00": [
        "2022-06-11T08:15:30.5",
        "2022-06-11T08:15:30",
    ],
    "2022/6/11|2022/06/12": ["2022-06-11", "2022-06-12"],
    "06/13/2022|6/1/2022 1:05 PM|12/31/99": ["2022-06-13", "2022-06-01T13:05", "1999-12-31"],
    "13/06/2022|1/6/2022 00:05|31/12/68": ["2022-06-13", "2022-06-01T00:05", "2068-12-31"],
    "06.11.2022|07.11.22 09:30 Uhr|?": ["2022-11-06", "2022-11-07T09:30", "NaT"],
    "3 Mar 2022|14 September 2022, 12:30 a.m.": ["2022-03-03", "2022-09-14T00:30"],
    "March 3, 2022|Sept. 14, 2022": ["2022-03-03", "2022-09-14"],
    "March 3rd, 2022|January 1st, 2021": ["2022-03-03", "2021-01-01"],
    "3rd March 2022|1er avril 2021": ["2022-03-03", "2021-04-01"],
    "11JUN2022:08:15:30|12JUN2022:00:00:00": ["2022-06-11T08:15:30", "2022-06-12"],
    "11/Jun/2022:08:15:30 -0700|12/Jun/2022:00:00:00 +0000": ["2022-06-11T08:15:30", "2022-06-12"],
    "03-Mar-22|4-MAY-2021|null": ["2022-03-03", "2021-05-04", "NaT"],
    "3. M\u00e4rz 2022|14. Dez. 2021": ["2022-03-03", "2021-12-14"],
    "3 ao\u00fbt 2022|1 juil. 2021": ["2022-08-03", "2021-07-01"],
    "2022 Mar 3|2022 Oct 14": ["2022-03-03", "2022-10-14"],
    "0000-00-00|2020-02-29": ["NaT", "2020-02-29"],
    "05-05-2022|06-06-2022": ["2022-05-05", "2022-06-06"],  # the same in both orders
}


@pytest.mark.parametrize("strings", COLUMNS_OF_DATES)
@pytest.mark.parametrize("form", ["pandas", "array"])
def test_dates_have_one_format_in_a_column(strings, form):
    table = pd.DataFrame({"x": strings.split("|")})
    table = table if form == "pandas" else table.to_numpy(dtype=object)
    expected = np.array(COLUMNS_OF_DATES[strings], "M8[us]")[:, None]
    encoder = TableEncoder().fit(table)
    assert [*encoder.column_kinds_.values()] == ["date"]
    twin = TableEncoder().fit(expected)
    np.testing.assert_array_equal(encoder.transform(table), twin.transform(expected))


@pytest.mark.parametrize(
    "strings",
    [
        ["2022-06-11", "06/13/2022"],  # of two formats
        ["13/06/2022", "06/13/2022"],
        ["06/13/2022", "06.12.2022"],
        ["1.2.10", "10.4.11"],  # versions
        ["10.0.0.1", "10.0.0.2"],
        ["22-01-05", "22-02-28"],  # which part is the year?
        ["3 Smarch 2022", "3 Octember 2022"],
        ["2021-02-30", "2021-13-01"],
        ["12/10", "11/12"],
    ],
)
def test_other_strings_are_no_dates(strings):
    encoder = TableEncoder(min_frequency=1).fit(pd.DataFrame({"x": strings}))
    assert encoder.column_kinds_ == {"x": "category"}


@given(
    st.lists(
        st.datetimes(
            min_value=datetime.datetime(1970, 1, 1), max_value=datetime.datetime(2060, 1, 1)
        ),
        min_size=1,
    ),
    st.sampled_from(
        ["%Y-%m-%dT%H:%M:%S.%f", "%d/%m/%Y %H:%M", "%m/%d/%y", "%d-%b-%y %I:%M %p", "%B %d, %Y"]
    ),
)
def test_dates_survive_their_format(dates, template):
    dates = [*dates, datetime.datetime(2022, 12, 31)]  # the last one decides about the order
    strings = [date.strftime(template) for date in dates]
    fit = find_format([*dict.fromkeys(strings)], [NumberFormat, DateFormat])
    assert not fit.misfits and fit.other is None
    expected = [datetime.datetime.strptime(text, template) for text in strings]
    assert [*map(fit.format.parse, strings)] == expected


# ---------------------------------------------------------------------------- new rows


@pytest.mark.parametrize("n", [1, FEW_ROWS])
def test_new_strings_in_another_format_are_missing_and_counted(n):
    table = pd.DataFrame({"price": ["40,25", "1.200,5"], "day": ["13/06/2022", "01/07/2022"]})
    encoder = TableEncoder().fit(table.assign(at=pd.to_datetime(["2020-01-01", "2021-05-05"])))
    later = {"price": ["40,25", "40.25", "n/a"], "day": ["2022-13-01", "01/06/2022", "06/13/2022"]}
    later = pd.DataFrame(later | {"at": ["", "2022-01-01", "05/06/2021"]}).loc[[0, 1, 2] * n]
    with pytest.warns(UserWarning, match="treated as missing") as record:
        found = encoder.transform(later)
    assert [str(item.message) for item in record] == [
        f"Column 'price': {n} of {3 * n} values are not numbers with a decimal comma, such as "
        f"'40.25'; Column 'day': {2 * n} of {3 * n} values are not dates of the form "
        f"day/month/year, such as '2022-13-01'; Column 'at': {n} of {3 * n} values are not dates "
        "of the form year-month-day, such as '05/06/2021'; they are treated as missing."
    ]
    last = {"price": [40.25, np.nan, np.nan], "day": [None, datetime.date(2022, 6, 1), None]}
    last = pd.DataFrame(last | {"at": [None, datetime.date(2022, 1, 1), None]}).loc[[0, 1, 2] * n]
    np.testing.assert_array_equal(encoder.transform(last), found)


# ------------------------------------------------------------------- doubts and progress

NUMBERS, DATES = [f"{at}.5" for at in range(40)], [f"2022-06-{at:02}" for at in range(1, 29)]
# Columns that may be misread, their kind, what the warning says, and what it suggests.
DOUBTS = {
    "a few words": (
        [*NUMBERS, "sold", "call us"],
        "category",
        "holds 'sold', 'call us' beside numb",
        "number",
    ),
    "a few dates": (
        [*DATES, "soon", "06/13/2022"],
        "category",
        "'06/13/2022' beside dates of",
        "date",
    ),
    "a few numbers without percent": (
        [*(f"{at} %" for at in range(40)), "7", "0"],
        "category",
        "holds '7', '0' beside numbers with a decimal point in %",
        "number",
    ),
    "a few percents": ([*NUMBERS, "7%", "8%"], "category", "holds '7%', '8%' beside", "number"),
    "two prices": (
        [f"$ {at} / \u20ac {at}" for at in range(60)],
        "category",
        "a category of 60 levels, .* too rare",
        "text",
    ),
    "codes": (
        [f"{at:03}" for at in range(80, 140)],
        "category",
        "a category of 60 levels, .* too rare",
        "text",
    ),
    "phone numbers": (
        [f"tel. +49 30 {at} (0)" for at in range(60)],
        "category",
        "a category of 60 levels, .* too rare",
        "text",
    ),
    "order": (
        ["06/11/2022", "07/12/2022"],
        "date",
        "month/day/year, but could be .* day/month",
        "date",
    ),
    "thousands": (["1,234", "7,890"], "number", "a decimal point, but could be .* comma", "number"),
    "points": (["1.200", "80"], "number", "a decimal point, but could be .* comma", "number"),
}


@pytest.mark.parametrize(
    "values, kind",
    [
        ([1, 2.5, "sold"], "number"),
        ([1, "3,5", "sold"], "number"),
        ([datetime.date(2022, 6, 1), "soon"], "date"),
        (pd.Categorical([3, 1, 2]), "number"),
        (["n/a", None, ""], "number"),
        ([np.nan, np.nan], "date"),
        ([None, None], "duration"),
    ],
)
@pytest.mark.parametrize("n", [1, FEW_ROWS])
def test_a_chosen_kind_makes_other_strings_missing(values, kind, n):
    table = pd.DataFrame({"x": values, "y": range(len(values))})
    encoder = TableEncoder(column_kinds={"x": kind}).set_output(transform="pandas")
    assert encoder.fit(table).column_kinds_ == {"x": kind, "y": "number"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Column 'x': .* treated as missing", UserWarning)
        encoded = encoder.transform(pd.concat([table] * n))
    is_word = [value in ("sold", "soon") for value in values] * n
    assert encoded.get("x_missing", pd.Series([0] * len(encoded))).tolist() == is_word


@pytest.mark.parametrize("name", DOUBTS)
def test_one_warning_names_columns_that_may_be_misread(name):
    strings, kind, problem, choice = DOUBTS[name]
    other = pd.Series([*DOUBTS["codes"][0], *strings])[: len(strings)]
    table = pd.DataFrame({"x": strings, "id": other, "y": range(len(strings))})
    is_many = len(strings) > 30
    with pytest.warns(
        UserWarning, match=f"^Some columns may be misread. Column 'x' .*{problem}"
    ) as record:
        encoder = TableEncoder().fit(table)
    (message,) = [str(item.message) for item in record]
    assert encoder.column_kinds_["x"] == kind and f"column_kinds={{'x': '{choice}'}}" in message
    assert ("column_kinds={'id': 'text'}" in message) == (is_many and name != "a few dates")
    # The choice takes effect, and there is no warning.
    chosen = TableEncoder(column_kinds={"x": choice, "id": "category"}).fit(table)
    assert chosen.column_kinds_["x"] == choice
    if name.startswith("a few"):
        with pytest.warns(UserWarning, match="2 of .* treated as missing"):
            encoded = chosen.set_output(transform="pandas").transform(table)
        assert encoded["x_missing"].tolist() == [0] * (len(strings) - 2) + [1, 1]


@pytest.mark.parametrize(
    "strings",
    [["007", "136A", *NUMBERS] * 2, ["3+", "1", "2"], [*"abcdefg"] * 9, [*"123", "2-"], ["12.-"]],
)
def test_codes_and_few_levels_cause_no_warning(strings):
    assert TableEncoder().fit(pd.DataFrame({"x": strings})).column_kinds_ == {"x": "category"}


def test_verbose_prints_a_line_for_each_column(capsys):
    table = pd.DataFrame(
        {
            "price": ["40,25", "-", "1.200,5", "3"] * 10,
            "day": ["13/06/2022", None, "01/07/2022", "02/07/2022"] * 10,
            "city": ["Bern", "Oslo", None, "Bern"] * 10,
            "size": np.arange(40.0),
            "note": [f"word number {at}" for at in range(40)],
        }
    )
    settings = {"max_iter": 1, "blend": None, "random_state": 0, "verbose": True}
    TabularRegressor(2, column_kinds={"city": "category"}, **settings).fit(table, table["size"])
    assert capsys.readouterr().out.splitlines()[:5] == [
        "[TabularRegressor] column 'price': number (strings are numbers with a decimal comma), "
        "25 % missing",
        "[TabularRegressor] column 'day': date (strings are dates of the form day/month/year), "
        "25 % missing",
        "[TabularRegressor] column 'city': category (chosen), 25 % missing, 2 levels",
        "[TabularRegressor] column 'size': number (dtype Float64), 0 % missing",
        "[TabularRegressor] column 'note': text (strings of 3.0 words on average), 0 % missing",
    ]


# ------------------------------------------------------- files as programs and people export them

# For each file: its content, the kinds of its columns by their first letters, and the columns that
# the warning names. The separator is the first of ";", "|" and "," in the content.
FILES = {
    "US spreadsheet, orders": (
        """Order,Date,Customer,Amount,Discount
        1001,6/11/2022,Acme Inc.,"$1,234.50",12%
        1002,6/13/2022,Widget Co,$40.25,0%
        1003,7/2/2022,Acme Inc.,($15.00),5%
        1004,12/31/2022,Widget Co,"$12,000.00",#DIV/0!""",
        "ndcnn",
        [],
    ),
    "US spreadsheet, people": (
        """Name,Hired,Salary,Grade,Zip
        Ann,3-Mar-22,"85,000",Very Good,90210-1234
        Bob,14-Sep-21,"102,500",Good,10001-0001
        Cyd,1-Jan-19,"9,800",Very Good,60601-7777""",
        "cdncc",
        [],
    ),
    "US spreadsheet, days before the 13th": (
        """Day,Time stamp,Visitors
        6/11/2022,6/11/2022 1:05 PM,"1,204"
        7/12/2022,7/12/2022 11:30 AM,987
        8/1/2022,8/1/2022 12:00 AM,"2,310\"""",
        "ddn",
        ["Day", "Time stamp"],
    ),
    "German spreadsheet, orders": (
        """Bestellung;Datum;Betrag;Rabatt;Ort
        1;06.11.2022;1.234,50 \u20ac;12 %;K\u00f6ln
        2;07.11.2022;40,25 \u20ac;7,5 %;M\u00fcnchen
        3;31.12.2022;-3,00 \u20ac;0 %;K\u00f6ln""",
        "ndnnc",
        [],
    ),
    "German spreadsheet, measurements": (
        """Zeit;Temperatur;Druck;Status
        13.06.2022 08:00;21,5;1.013,2;ok
        13.06.2022 09:00;22;1.012,9;ok
        13.06.2022 10:00;-;1.012,5;Ausfall""",
        "dnnc",
        [],
    ),
    "German spreadsheet, months by name": (
        """Tag;Menge
        3. M\u00e4rz 2022;1.250
        14. Dez. 2021;800,5
        1. Mai 2022;3""",
        "dn",
        [],
    ),
    "French spreadsheet": (
        """Date;Montant;Taux;Ville
        13/06/2022;1\u202f234,50 \u20ac;5,5 %;Lyon
        01/07/2022;40,25 \u20ac;20 %;Paris
        31/12/2022;12 000,00 \u20ac;n/a;Lyon""",
        "dnnc",
        [],
    ),
    "Swiss spreadsheet": (
        """Datum;Betrag;Kanton
        13.06.2022;CHF 1'234.50;ZH
        01.07.2022;CHF 40.25;BE
        24.12.2022;CHF 0.80;ZH""",
        "dnc",
        [],
    ),
    "French spreadsheet, months by name": (
        """Jour;Valeur
        3 f\u00e9vrier 2022;0,125
        14 ao\u00fbt 2021;12,5
        1 juil. 2022;?""",
        "dn",
        [],
    ),
    "British accounts": (
        """Posted,Debit,Credit,Account
        31/03/22,"\u00a31,200.00",-,4000 Sales
        01/04/22,-,\u00a375.10,5000 Rent
        15/04/22,"\u00a3(2,000.00)",\u00a31.00,4000 Sales""",
        "dnnc",
        [],
    ),
    "PostgreSQL": (
        """id,created_at,price,active,deleted_at
        1,2022-06-11 08:15:30.123456+00,12.50,t,\\N
        2,2022-06-12 09:00:00+00,7.00,f,2022-07-01 00:00:00+00
        3,2022-06-13 10:20:00.5+00,\\N,t,\\N""",
        "ndncd",
        [],
    ),
    "MySQL": (
        """id,born,updated,total
        7,1990-02-01,2022-06-11 08:15:30,19.99
        8,0000-00-00,2022-06-12 08:15:30,NULL
        9,1985-11-30,0000-00-00 00:00:00,5.00""",
        "nddn",
        [],
    ),
    "Oracle": (
        """EMPNO,HIREDATE,SAL,COMM,JOB
        7369,17-DEC-80,800,(null),CLERK
        7499,20-FEB-81,1600,300,SALESMAN
        7521,22-FEB-81,1250,500,SALESMAN""",
        "ndnnc",
        [],
    ),
    "web log": (
        """time,method,bytes,duration
        2022-06-11T08:15:30Z,GET,5120,0.125
        2022-06-11T08:15:31Z,POST,-,0.25
        2022-06-11T08:15:40Z,GET,77,1e-3""",
        "dcnn",
        [],
    ),
    "SAS": (
        """subject,visit,weight,arm
        001-A,11JUN2022,71.5,placebo
        002-A,12JUL2022,.,drug
        003-B,13JUL2022,80.25,drug""",
        "cdnc",
        [],
    ),
    "survey": (
        """Timestamp,Age,Satisfaction,Children,Degree
        2022/06/11 8:15:30 AM,34,Very satisfied,0,Bachelor's degree
        2022/06/11 9:05:10 PM,51,Neither agree nor disagree,2,No degree
        2022/06/13 1:00:00 PM,N.A.,Very satisfied,3+,Bachelor's degree""",
        "dnccc",
        [],
    ),
    "survey with scales": (
        """q1,q2,q3,income
        5,Agree,1-2 times,"30,000-50,000"
        4,Disagree,3 times or more,"50,000-80,000"
        ?,Agree,1-2 times,prefer not to say""",
        "nccc",
        [],
    ),
    "versions and codes": (
        """version,ip,product,ratio
        1.2.10,10.0.0.1,0042,3:1
        10.4.11,10.0.0.2,0007,2:1
        1.3.0,10.0.0.1,0042,3:1""",
        "ccnc",
        [],
    ),
    "bars, dates in words": (
        """when|amount|currency
        March 3, 2022|1,200.00|USD
        Sept. 14, 2022|75|EUR
        December 31, 2021|1,000,000.5|USD""",
        "dnc",
        [],
    ),
    "two formats in a column": (
        """day,price
        2022-06-11,1.5
        06/13/2022,"2,5"
        2022-06-12,ten""",
        "cc",
        [],
    ),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_files_are_read_as_by_a_person(name, library):
    content, letters, doubtful = FILES[name]
    content = inspect.cleandoc(content)
    separator = next(mark for mark in ";|," if mark in content)
    table = pd.read_csv(StringIO(content), sep=separator)
    if library == "polars":
        table = pl.read_csv(StringIO(content), separator=separator)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        encoder = TableEncoder(min_frequency=1).fit(table)
    assert "".join(kind[0] for kind in encoder.column_kinds_.values()) == letters
    message = " ".join(str(item.message) for item in record)
    assert re.findall(r"Column '([^']*)' (?:is|could)", message) == doubtful


@pytest.mark.parametrize("load", [load_diabetes, load_wine])
def test_a_table_in_a_file_with_decimal_commas_gives_the_same_predictions(load):
    table, y = load(return_X_y=True, as_frame=True)
    levels = np.array(["low", "Very Good", "Bachelor's degree"])
    table = table.assign(group=levels[np.arange(len(y)) % 3])
    file = StringIO(table.to_csv(sep=";", decimal=",", index=False))
    read = pd.read_csv(file, sep=";")
    settings = {"max_iter": 1, "blend": None, "random_state": 0}
    models = [TabularRegressor(2, **settings).fit(X, y) for X in (table, read)]
    assert models[0].column_kinds_ == models[1].column_kinds_
    np.testing.assert_array_equal(models[0].predict(table), models[1].predict(read))
