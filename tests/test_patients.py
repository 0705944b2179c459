"""The boundary where patients' rows are read: what is accepted, what it means, and how everything else is refused."""

from __future__ import annotations

import math
import pickle
from decimal import Decimal
from fractions import Fraction

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute
import pytest

import aemodel
from aemodel.scoring.eager import read_sets

KNOWN = {"age": 12.0, "relapse_site": "bm", "months_to_relapse": 20.0, "sex": "male", "race_ethnicity": "nh_white"}
LEVELS = {"age_band": "10-18", "relapse_group": "bm_early", "sex": "male", "race_ethnicity": "nh_white"}


@pytest.fixture(scope="module")
def covariates(shipped):
    return shipped.risks.covariates


def names_in(sets, covariate):
    """The names of levels in a set of bits."""
    return [name for i, name in enumerate(covariate.names) if sets >> i & 1]


def read(covariates, frame, **options):
    """The levels each patient can have: a dictionary of lists of names for every row."""
    sets = read_sets(nw.from_native(frame, eager_only=True), covariates, **options)
    return [{c.name: names_in(int(row[k]), c) for k, c in enumerate(covariates)} for row in sets]


def known(covariates, **values):
    """Levels of one patient, known but for what is given."""
    return read(covariates, pd.DataFrame([KNOWN | values]))[0]


def refused(model, rows, message, **options):
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame([KNOWN | row for row in rows])
    with pytest.raises(ValueError, match=message):
        aemodel.posterior_epred(model, frame, **options)


# Raw values to levels.


@pytest.mark.parametrize(
    ("covariate", "values", "levels"),
    [
        # Ages are completed years; timing is cut by site; numbers may be texts; either column fills in for the other.
        *(("age_band", {"age": age}, ["1-9"]) for age in (1, 9, 9.99)),
        *(("age_band", {"age": age}, ["10-18"]) for age in (10, 18, 18.7, 18.999, "12", " 12.0")),
        *(("age_band", {"age": age}, ["19-30"]) for age in (19, 30, 30.9)),
        *(("relapse_group", {"months_to_relapse": m}, ["bm_early"]) for m in (0, 18, 35.9)),
        *(("relapse_group", {"months_to_relapse": m}, ["bm_late"]) for m in (36, 156, "40.5")),
        *(("relapse_group", {"months_to_relapse": 359.9} | age, ["bm_late"]) for age in ({"age": None}, {"age": "29"})),
        *(("relapse_group", {"relapse_site": "iem", "months_to_relapse": m}, ["iem_early"]) for m in (0, 17.9)),
        *(("relapse_group", {"relapse_site": "iem", "months_to_relapse": m}, ["iem_late"]) for m in (18, 36)),
        ("age_band", {"age": math.nan, "age_band": "1-9"}, ["1-9"]),
        ("age_band", {"age": 5.0, "age_band": None}, ["1-9"]),
        ("age_band", {"weight": "heavy", "score": math.nan}, ["10-18"]),
        *(("sex", {"sex": nothing}, ["male", "female"]) for nothing in (None, math.nan)),
        *(("age_band", {"age": nothing}, ["1-9", "10-18", "19-30"]) for nothing in (None, math.nan)),
        ("relapse_group", {"months_to_relapse": None}, ["bm_early", "bm_late"]),
        ("relapse_group", {"relapse_site": None, "months_to_relapse": 20.0}, ["bm_early", "iem_late"]),
    ],
    ids=str,
)
def test_values_leave_the_levels_they_can_mean(covariates, covariate, values, levels):
    assert known(covariates, **values)[covariate] == levels


# Missing values.


MISSING = [None, math.nan, np.nan, pd.NA, pd.NaT]


@pytest.mark.parametrize("value", MISSING, ids=repr)
@pytest.mark.parametrize(("column", "covariate", "levels"), [("sex", "sex", 2), ("age", "age_band", 3)])
def test_a_missing_value_beside_others_can_be_any_level(covariates, value, column, covariate, levels):
    found = read(covariates, pd.DataFrame([KNOWN | {column: value}, KNOWN]))
    assert [len(row[covariate]) for row in found] == [levels, 1]


# Types of columns.


def arrow(kind, values):
    return pd.array(values, dtype=pd.ArrowDtype(kind))


NUMBERS = [
    pd.Series([12, 12], dtype="int32"),
    pd.Series([12, None], dtype="Int64"),
    pd.Series([12, None], dtype="double[pyarrow]"),
    pl.Series([12.0, math.nan]),
    pa.array([12.0, math.nan]),
    pa.array([Decimal(12), None], pa.decimal128(6, 2)),
    pd.Series([Decimal(12), None], dtype=object),
    pd.Series([Fraction(12), Decimal("sNaN")], dtype=object),
    pd.Series([np.float16(12), np.datetime64("NaT")], dtype=object),
    pd.Series(pd.arrays.SparseArray([12.0, math.nan])),
    pd.Series(pd.Categorical([12, None])),
    pd.Series(arrow(pa.decimal256(5, 2), [Decimal(12), None])),
    pd.Series(arrow(pa.uint64(), [12, None])),
    pd.Series(arrow(pa.float16(), [12, math.nan])),
    pd.Series(arrow(pa.dictionary(pa.int64(), pa.float64()), pa.array([12, math.nan]).dictionary_encode())),
    pd.Series([12, math.nan], dtype=np.float16),
    pa.array([12, None], pa.decimal32(4, 1)),
    pa.array([Decimal(12), None], pa.decimal256(60, 1)),
    pa.array([np.float16(12), None], pa.float16()),
    pa.array([12, math.nan]).dictionary_encode(),
    pa.array(["12", None], pa.string_view()),
    pl.Series([12, None], dtype=pl.Int128),
    pl.Series([12, None], dtype=pl.UInt128),
    pl.Series([Decimal(12), None]),
    pl.Series([12, None], dtype=pl.Object),
]
TEXTS = [
    pd.Series(pd.Categorical(["male", None], categories=["male", "unheard of"])),
    pd.Series(["male", None], dtype="string"),
    pd.Series(["male", None], dtype="string[pyarrow]"),
    pl.Series(["male", None], dtype=pl.Categorical),
    pl.Series(["male", None], dtype=pl.Enum(["male", "female"])),
    pa.array(["male", None]).dictionary_encode(),
    pa.array(["male", None], pa.large_string()),
    pd.Series(pd.arrays.SparseArray(["male", None])),
    pd.Series(arrow(pa.string_view(), ["male", None])),
    pd.Series(arrow(pa.large_string(), ["male", None])),
    pd.Series(arrow(pa.dictionary(pa.int32(), pa.string()), ["male", None])),
    pa.array(["male", None], pa.string_view()),
    pa.array(["male", None], pa.large_string()).dictionary_encode(),
    pa.compute.run_end_encode(pa.array(["male", None])),
    pl.Series(["male", None], dtype=pl.Object),
]


@pytest.mark.parametrize(
    ("column", "values"),
    [*(("age", v) for v in NUMBERS), *(("sex", v) for v in TEXTS)],
    ids=lambda v: str(getattr(v, "dtype", getattr(v, "type", v))),
)
def test_types_that_few_know_are_read(shipped, column, values):
    """By each library that has them, lazy polars and DuckDB included where they can be handed over."""
    rows = [KNOWN, KNOWN]
    if isinstance(values, pd.Series):
        frames = [pd.DataFrame(rows).assign(**{column: values})]
    elif isinstance(values, pl.Series):
        frames = [pl.DataFrame(rows).with_columns(values.alias(column))]
        frames += [] if values.dtype == pl.Object else [frames[0].lazy()]
    else:
        table = pa.Table.from_pylist(rows)
        frames = [table.set_column(table.column_names.index(column), column, values)]
    second = KNOWN | ({column: None} if str(getattr(values, "dtype", "")) != "int32" else {})
    expected = aemodel.score(shipped, pa.Table.from_pylist([KNOWN, second]))["sepsis_g3_risk"]
    for frame in frames:
        found = aemodel.score(shipped, frame)
        found = found.collect() if isinstance(found, pl.LazyFrame) else found
        np.testing.assert_allclose(list(map(float, found["sepsis_g3_risk"].to_numpy())), expected, rtol=0, atol=1e-12)


# Refused.


@pytest.mark.parametrize(
    "wrong", [None, [KNOWN], KNOWN, "patients.csv", 3, np.zeros((2, 2)), pl.LazyFrame([KNOWN]), pd.Series([1])]
)
def test_other_things_than_frames_are_refused(shipped, wrong):
    with pytest.raises(TypeError, match=f"patients: expected a pandas or .* not {type(wrong).__name__}; collect a lazy frame"):
        aemodel.posterior_epred(shipped, wrong)


def without(column, rows=LEVELS):
    return pd.DataFrame([rows]).drop(columns=column)


def with_column(**columns):
    return pd.DataFrame([KNOWN, KNOWN]).assign(**columns)


AGES, ALLOWED = "at least 1 and below 31", "hispanic, nh_white, nh_black, nh_asian, nh_other, other_unknown"
FRAMES = [
    *((without(column), f"no column for .*'{column}'.*null.*Columns found: ") for column in LEVELS),
    (without("months_to_relapse", KNOWN), r"'relapse_site' with 'months_to_relapse'.*\['relapse_site'\] alone is not enough"),
    (without("age_band").assign(**{"Age ": 12}), "give 'age_band', or 'age'; rename 'Age ' to 'age'. Where"),
    *(
        (with_column(**{column: values}), f"column '{column}' must be text, one of .*it is ")
        for column in ("sex", "race_ethnicity")
        for values in ([0, 1], [0.5, None], [True, False], ["male", 1])
    ),
    (with_column(age=True), "column 'age' must be a number; it is Boolean"),
    (with_column(age=pd.to_datetime(["2001-02-03"] * 2)), "column 'age' must be a number; it is Datetime"),
    (pd.DataFrame([KNOWN]).iloc[:0], "patients: the frame has no rows"),
    (pd.DataFrame([KNOWN, KNOWN | {"age": 77}], index=[5, 5]), r"77\.0 \(row 1\)"),
]
ROWS = [
    *(
        ([{}, {"age": age}], rf"column 'age': impossible value {float(age)} \(row 1\); allowed: {AGES}, or null")
        for age in (45, 31, -3, 0, 0.5, 0.999, math.inf, -math.inf)
    ),
    *(([{}, {"age": age}], rf"'age' must be a number; found '{age}' \(row 1\).*null") for age in ("abc", "1-9", "12,5")),
    *(
        ([{"months_to_relapse": months}], r"'months_to_relapse': impossible value .*\(row 0\); allowed: at least 0")
        for months in (-1, -0.01, math.inf)
    ),
    *(
        (
            [{}, {"age": age, "months_to_relapse": months}],
            rf"^patients: column 'months_to_relapse': impossible value months_to_relapse = {months} with age = {float(age)} \(row 1\); "
            "allowed: at least 0 and below 360, and at most 12 times age plus 12, or null; rows are counted from 0$",
        )
        for age, months in ((5, 72.5), ("5.0", 90.0))
    ),
    ([{"age": 0, "months_to_relapse": 90}], r"^patients: column 'age': impossible value 0\.0 [^;]*; allowed[^;]*; rows [^;]*$"),
    *(
        ([{column: None}, {column: value}], rf"'{column}': impossible value '{value}' \(row 1\); allowed: {allowed}, or null")
        for column, values, allowed in [
            ("sex", ("X7", "Male", " male", ""), "male, female"),
            ("relapse_site", ("cns",), "bm, iem"),
            ("race_ethnicity", ("unknown",), ALLOWED),
            ("age_band", ("10-17",), "1-9, 10-18, 19-30"),
            ("relapse_group", ("bm",), "bm_early, bm_late, iem_early, iem_late"),
        ]
        for value in values
    ),
    (
        [{"age_band": b} for b in ("10-18", "19-30")],
        r"contradict each other about age.*age_band = '19-30' with age = 12\.0 \(row 1\)",
    ),
    ([{"relapse_group": "iem_late"}], r"contradict each other about relapse.*relapse_site = 'bm'.*\(row 0\)"),
    ([{"age_band": "19-30"}] * 3, r"columns contradict.*\(3 rows, first row 0\)"),
    # At most five are shown, the most frequent first, each once.
    ([{"age": 40 + i} for i in range(8)], r"40\.0 \(row 0\).*44\.0 \(row 4\) and 3 more rows; allowed"),
    ([{"age": 40 + i} for i in range(5)], r"44\.0 \(row 4\); allowed"),
    ([{"age": f"a{i}"} for i in range(8)], r"'a4' \(row 4\) and 3 more rows"),
    ([{}, {"sex": "F"}, *[{"sex": "M"}] * 3], r"'sex': impossible value 'M' \(3 rows, first row 2\), 'F' \(row 1\); allowed"),
    ([{"age": 45, "sex": 1}], r"'sex' must be text, one of male, female(.|\n)*'age': impossible value 45\.0"),
    ([{"sex": 1}], "it is Int64$"),
    *(
        (
            [{"race_ethnicity": text}],
            rf"did you mean '{level}' for '{text}'\?; if it really is a group .* takes it with new_levels=\"sample\"",
        )
        for text, level in [
            ("Hispanic", "hispanic"),
            (" hispanic", "hispanic"),
            ("NH White", "nh_white"),
            ("hispnic", "hispanic"),
        ]
    ),
    *(
        ([{"race_ethnicity": text}], rf"impossible value '{text}' (?!.*did you mean)")
        for text in ("non-hispanic", "martian", "1-8")
    ),
]


@pytest.mark.parametrize(("rows", "message"), [*FRAMES, *ROWS], ids=range(len(FRAMES) + len(ROWS)))
def test_what_cannot_be_is_refused(shipped, rows, message):
    refused(shipped, rows, message)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (10**400, "must be a number; found above 1.8e308"),
        (-(10**5000), "impossible value below -1.8e308"),
        *((value, "must be a number; found") for value in (12 + 0j, np.complex128(12), np.True_, np.array([1, 2]))),
        *((value, "must be a number; found") for value in (np.timedelta64(12, "D"), np.datetime64("2020-01-01"))),
        (b"12", "must be a number; found b'12'"),
        ([12], r"must be a number; found \[12\]"),
        ("\ud800", "must be a number; found '.ud800'"),
        ("x" * 10**6, "must be a number; found 'x{20,60}[.]{3}x{20,60}'"),
    ],
    ids=lambda value: str(type(value)),
)
def test_objects_that_are_no_ages_are_named(shipped, value, said):
    frame = pd.DataFrame([KNOWN, KNOWN]).astype({"age": object})
    frame["age"] = pd.Series([12, value], dtype=object)
    with pytest.raises(ValueError, match=rf"column 'age'(:)? {said}.*\(row 1\)") as caught:
        aemodel.score(shipped, frame)
    assert len(str(caught.value)) < 500
    frame["age"], frame["sex"] = 12, pd.Series(["male", value], dtype=object)
    with pytest.raises(ValueError, match="column 'sex'"):
        aemodel.score(shipped, frame)


def test_all_columns_are_in_one_error_a_line_each(shipped):
    rows = [{}, {"age": 45, "sex": "X7", "age_band": "1-9"}, {"relapse_site": "cns"}, {"age_band": "19-30"}]
    with pytest.raises(aemodel.PatientsError, match=r"^patients: ") as caught:
        aemodel.posterior_epred(shipped, pd.DataFrame([KNOWN | row for row in rows]))
    assert (caught.value.argument, caught.value.rows) == ("patients", (1, 2, 3))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.argument, again.rows) == (str(caught.value), "patients", (1, 2, 3))
    lines = str(caught.value).splitlines()
    parts = ("'age': impossible", "contradict", "'relapse_site': impossible", "'sex': impossible")
    assert [part in line for line, part in zip(lines, parts, strict=True)] == [True] * 4
    assert lines[-1].endswith("; rows are counted from 0")


# Names of patients.


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize(("ids", "again"), [(["a", "a", "b"], r"\['a'\]"), ([1, 2, 2], r"\[2\]"), (["a", None], "")])
def test_ids_that_do_not_name_each_row_once_are_refused(shipped, library, ids, again):
    message = rf"column 'id' must name each row once; missing or given twice: {again}"
    with pytest.raises(ValueError, match=message):
        aemodel.posterior_epred(shipped, library([KNOWN | {"id": each} for each in ids]), id_column="id")


def test_a_wrong_column_is_an_error_even_where_invalid_rows_are_kept(shipped):
    with pytest.raises(ValueError, match="column 'sex' must be text"):
        aemodel.score(shipped, pd.DataFrame([KNOWN | {"sex": 3}]), on_invalid="null")
