"""The boundary where patients' rows are read: what is accepted, what it means, and how everything else is refused."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aemodel
from aemodel.scoring.eager import read_sets

COLUMNS = ("age_band", "relapse_group", "sex", "race_ethnicity")
KNOWN = {"age": 12.0, "relapse_site": "bm", "months_to_relapse": 20.0, "sex": "male", "race_ethnicity": "nh_white"}
LEVELS = {"age_band": "10-18", "relapse_group": "bm_early", "sex": "male", "race_ethnicity": "nh_white"}


@pytest.fixture(scope="module")
def shipped():
    return aemodel.load_model("aall1331")


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
    ("age", "band"),
    [(1, "1-9"), (9, "1-9"), (9.99, "1-9"), (10, "10-18"), (18, "10-18"), (18.7, "10-18"), (18.999, "10-18"),
     (19, "19-30"), (30, "19-30"), (30.9, "19-30")],
)  # fmt: skip
def test_age_is_completed_years(covariates, age, band):
    assert known(covariates, age=age)["age_band"] == [band]


@pytest.mark.parametrize(
    ("site", "months", "group"),
    [("bm", 0, "bm_early"), ("bm", 35.9, "bm_early"), ("bm", 36, "bm_late"), ("bm", 359.9, "bm_late"), ("bm", 18, "bm_early"),
     ("iem", 17.9, "iem_early"), ("iem", 18, "iem_late"), ("iem", 36, "iem_late"), ("iem", 0, "iem_early")],
)  # fmt: skip
def test_relapse_timing_is_cut_by_site(covariates, site, months, group):
    assert known(covariates, relapse_site=site, months_to_relapse=months)["relapse_group"] == [group]


def several(values):
    return st.lists(values, min_size=1, max_size=20)


def frame_with(**columns):
    """Known patients, but for the given columns."""
    size = len(next(iter(columns.values())))
    return pd.DataFrame([KNOWN] * size).assign(**columns)


FEW = settings(max_examples=30, deadline=None)


@FEW
@given(ages=several(st.floats(min_value=1, max_value=31, exclude_max=True)))
def test_every_age_from_1_to_30_lies_in_one_band(covariates, ages):
    found = [row["age_band"] for row in read(covariates, frame_with(age=ages))]
    assert found == [["1-9" if age < 10 else "10-18" if age < 19 else "19-30"] for age in ages]


@FEW
@given(months=several(st.floats(min_value=0, max_value=360, exclude_max=True)), site=st.sampled_from(["bm", "iem"]))
def test_every_time_to_relapse_lies_in_one_group(covariates, months, site):
    cut = {"bm": 36, "iem": 18}[site]
    found = [
        row["relapse_group"]
        for row in read(covariates, frame_with(months_to_relapse=months, relapse_site=[site] * len(months)))
    ]
    assert found == [[f"{site}_early" if m < cut else f"{site}_late"] for m in months]


@FEW
@given(ages=several(st.one_of(st.floats(max_value=1, exclude_max=True), st.floats(min_value=31))))
def test_no_age_outside_1_to_30_has_a_band(covariates, ages):
    frame = nw.from_native(frame_with(age=ages), eager_only=True)
    assert not read_sets(frame, covariates, on_invalid="null")[:, 0].any()


@FEW
@given(texts=several(st.text().filter(lambda text: text not in ("male", "female"))))
def test_no_other_text_is_a_sex(covariates, texts):
    frame = nw.from_native(pl.DataFrame([KNOWN] * len(texts)).with_columns(sex=pl.Series(texts)), eager_only=True)
    assert not read_sets(frame, covariates, on_invalid="null")[:, 2].any()


def test_whole_numbers_are_as_good_as_floats(covariates):
    frame = pd.DataFrame([KNOWN]).astype({"age": "int64", "months_to_relapse": "int32"})
    assert read(covariates, frame) == read(covariates, pd.DataFrame([KNOWN]))


def test_numbers_as_text_are_read(covariates):
    assert known(covariates, age="12", months_to_relapse="40.5")["relapse_group"] == ["bm_late"]


def test_level_and_raw_columns_may_both_be_given_when_they_agree(covariates):
    found = read(covariates, pd.DataFrame([KNOWN | LEVELS]))[0]
    assert found == {name: [level] for name, level in LEVELS.items()}


def test_level_fills_in_where_the_raw_value_is_missing(covariates):
    assert known(covariates, age=math.nan, age_band="1-9")["age_band"] == ["1-9"]


def test_raw_value_fills_in_where_the_level_is_missing(covariates):
    assert known(covariates, age=5.0, age_band=None)["age_band"] == ["1-9"]


def test_columns_of_no_interest_are_ignored(covariates):
    assert known(covariates, weight="heavy", score=math.nan) == known(covariates)


# Missing values.


MISSING = [None, math.nan, np.nan, pd.NA, pd.NaT]


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_missing_text_can_be_any_level(covariates, value):
    frame = pd.DataFrame([KNOWN | {"sex": value}, KNOWN])
    assert read(covariates, frame)[0]["sex"] == ["male", "female"]


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_missing_number_can_be_any_level(covariates, value):
    frame = pd.DataFrame([KNOWN | {"age": value}, KNOWN])
    assert read(covariates, frame)[0]["age_band"] == ["1-9", "10-18", "19-30"]


@pytest.mark.parametrize("value", [None, math.nan], ids=repr)
def test_column_without_any_value_can_be_any_level(covariates, value):
    assert known(covariates, sex=value, age=value) == known(covariates) | {
        "sex": ["male", "female"],
        "age_band": ["1-9", "10-18", "19-30"],
    }


@pytest.mark.parametrize("kind", [pl.Null, pl.String, pl.Float64, pl.Int64], ids=str)
def test_empty_polars_column_of_any_type_can_be_any_level(covariates, kind):
    frame = pl.DataFrame([KNOWN]).with_columns(pl.lit(None, kind).alias("sex"), pl.lit(None, kind).alias("age"))
    assert read(covariates, frame)[0]["sex"] == ["male", "female"]


def test_nan_in_polars_is_missing(covariates):
    frame = pl.DataFrame([KNOWN | {"age": math.nan}])
    assert read(covariates, frame)[0]["age_band"] == ["1-9", "10-18", "19-30"]


def test_nan_in_pyarrow_is_missing(covariates):
    frame = pa.Table.from_pylist([KNOWN | {"age": math.nan}])
    assert read(covariates, frame)[0]["age_band"] == ["1-9", "10-18", "19-30"]


def test_site_without_months_leaves_the_timing_open(covariates):
    assert known(covariates, months_to_relapse=None)["relapse_group"] == ["bm_early", "bm_late"]


def test_months_without_site_leave_open_what_they_can_mean(covariates):
    assert known(covariates, relapse_site=None, months_to_relapse=20.0)["relapse_group"] == ["bm_early", "iem_late"]


# Types of columns.


def test_pandas_categoricals(covariates):
    frame = pd.DataFrame([LEVELS, LEVELS | {"sex": None}]).astype("category")
    assert [row["sex"] for row in read(covariates, frame)] == [["male"], ["male", "female"]]


def test_pandas_string_columns(covariates):
    frame = pd.DataFrame([LEVELS, LEVELS | {"sex": None}]).astype("string")
    assert [row["sex"] for row in read(covariates, frame)] == [["male"], ["male", "female"]]


def test_pandas_arrow_columns(covariates):
    frame = pd.DataFrame([KNOWN, KNOWN | {"age": None, "sex": None}]).convert_dtypes(dtype_backend="pyarrow")
    assert [(row["sex"], len(row["age_band"])) for row in read(covariates, frame)] == [(["male"], 1), (["male", "female"], 3)]


def test_pandas_nullable_numbers(covariates):
    frame = pd.DataFrame([KNOWN, KNOWN | {"age": None}]).astype({"age": "Int64"})
    assert [len(row["age_band"]) for row in read(covariates, frame)] == [1, 3]


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["male", "female"])], ids=["categorical", "enum"])
def test_polars_categories(covariates, kind):
    frame = pl.DataFrame([LEVELS, LEVELS | {"sex": None}]).with_columns(pl.col("sex").cast(kind))
    assert [row["sex"] for row in read(covariates, frame)] == [["male"], ["male", "female"]]


def test_pyarrow_dictionary_keys(covariates):
    table = pa.Table.from_pylist([LEVELS, LEVELS | {"sex": None}])
    table = table.set_column(2, "sex", table["sex"].dictionary_encode())
    assert [row["sex"] for row in read(covariates, table)] == [["male"], ["male", "female"]]


def test_pyarrow_large_strings(covariates):
    table = pa.Table.from_pylist([LEVELS]).cast(pa.schema([(name, pa.large_string()) for name in LEVELS]))
    assert read(covariates, table)[0]["sex"] == ["male"]


def test_pyarrow_decimals(covariates):
    table = pa.Table.from_pylist([KNOWN])
    table = table.set_column(0, "age", table["age"].cast(pa.decimal128(6, 2)))
    assert read(covariates, table)[0]["age_band"] == ["10-18"]


def test_column_of_nulls_in_pyarrow(covariates):
    table = pa.Table.from_pylist([LEVELS | {"sex": None}])
    assert read(covariates, table)[0]["sex"] == ["male", "female"]


def test_other_categories_than_levels_do_not_matter_unless_used(covariates):
    sexes = pd.Categorical(["male"], categories=["male", "unheard of"])
    assert read(covariates, pd.DataFrame([LEVELS]).assign(sex=sexes))[0]["sex"] == ["male"]


def arrow(kind, values):
    return pd.array(values, dtype=pd.ArrowDtype(kind))


NUMBERS = [
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
    expected = aemodel.score(shipped, pa.Table.from_pylist([KNOWN, KNOWN | {column: None}]))["sepsis_g3_risk"]
    for frame in frames:
        found = aemodel.score(shipped, frame)
        found = found.collect() if isinstance(found, pl.LazyFrame) else found
        np.testing.assert_allclose(list(map(float, found["sepsis_g3_risk"].to_numpy())), expected, rtol=0, atol=1e-12)


# Refused: columns.


@pytest.mark.parametrize("column", COLUMNS)
def test_missing_column_is_named(shipped, column):
    frame = pd.DataFrame([LEVELS]).drop(columns=column)
    refused(shipped, frame, f"no column for .*'{column}'.*null.*Columns found: ")


def test_site_without_the_column_of_months_is_not_enough(shipped):
    frame = pd.DataFrame([KNOWN]).drop(columns="months_to_relapse")
    refused(shipped, frame, r"'relapse_site' with 'months_to_relapse'.*\['relapse_site'\] alone is not enough")


def test_columns_that_differ_in_capitals_or_blanks_are_named(shipped):
    frame = pd.DataFrame({"Age ": [12], "sex": ["male"], "relapse_group": ["bm_late"], "race_ethnicity": [None]})
    refused(shipped, frame, "give 'age_band', or 'age'; rename 'Age ' to 'age'. Where")


@pytest.mark.parametrize("column", ["sex", "race_ethnicity"])
@pytest.mark.parametrize("values", [[0, 1], [0.5, None], [True, False]], ids=["integers", "floats", "booleans"])
def test_levels_as_numbers_are_refused(shipped, column, values):
    frame = pd.DataFrame([KNOWN, KNOWN]).assign(**{column: values})
    refused(shipped, frame, f"column '{column}' must be text, one of .*it is ")


def test_text_mixed_with_numbers_is_refused(shipped):
    refused(shipped, [{"sex": "male"}, {"sex": 1}], "column 'sex' must be text")


def test_booleans_are_no_ages(shipped):
    refused(shipped, pd.DataFrame([KNOWN]).assign(age=[True]), "column 'age' must be a number; it is Boolean")


def test_dates_are_no_ages(shipped):
    frame = pd.DataFrame([KNOWN]).assign(age=pd.to_datetime(["2001-02-03"]))
    refused(shipped, frame, "column 'age' must be a number; it is Datetime")


@pytest.mark.parametrize("wrong", [None, [KNOWN], KNOWN, "patients.csv", 3, np.zeros((2, 2))], ids=lambda x: type(x).__name__)
def test_other_things_than_frames_are_refused(shipped, wrong):
    with pytest.raises(TypeError, match=r"patients: expected a pandas or polars DataFrame or a pyarrow Table, not "):
        aemodel.posterior_epred(shipped, wrong)


def test_lazy_frame_is_refused_with_the_remedy(shipped):
    with pytest.raises(TypeError, match=r"not LazyFrame; collect a lazy frame first"):
        aemodel.posterior_epred(shipped, pl.LazyFrame([KNOWN]))


def test_series_is_refused(shipped):
    with pytest.raises(TypeError, match="not Series"):
        aemodel.posterior_epred(shipped, pd.DataFrame([KNOWN])["age"])


# Refused: values.


@pytest.mark.parametrize("age", [45, 31, -3, 0, 0.5, 0.999, math.inf, -math.inf])
def test_impossible_age(shipped, age):
    shown = str(float(age)).replace(".", r"\.")
    refused(
        shipped,
        [{}, {"age": age}],
        rf"column 'age': impossible value {shown} \(row 1\); allowed: at least 1 and below 31, or null",
    )


@pytest.mark.parametrize("age", ["abc", "12 years", "1-9", "12,5"])
def test_age_that_is_no_number(shipped, age):
    refused(shipped, [{}, {"age": age}], rf"column 'age' must be a number; found '{age}' \(row 1\).*null")


@pytest.mark.parametrize("months", [-1, -0.01, math.inf])
def test_impossible_months(shipped, months):
    refused(
        shipped,
        [{"months_to_relapse": months}],
        r"column 'months_to_relapse': impossible value .*\(row 0\); allowed: at least 0",
    )


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("sex", "X7", "male, female"),
        ("sex", "Male", "male, female"),
        ("sex", " male", "male, female"),
        ("relapse_site", "cns", "bm, iem"),
        ("race_ethnicity", "unknown", "hispanic, nh_white, nh_black, nh_asian, nh_other, other_unknown"),
        ("age_band", "10-17", "1-9, 10-18, 19-30"),
        ("relapse_group", "bm", "bm_early, bm_late, iem_early, iem_late"),
    ],
)
def test_unknown_level(shipped, column, value, allowed):
    rows = [{column: None}, {column: value}]
    refused(shipped, rows, rf"column '{column}': impossible value '{value}' \(row 1\); allowed: {allowed}, or null")


def test_empty_text_is_not_a_silent_average(shipped):
    refused(shipped, [{"sex": ""}, {"sex": "male"}], r"column 'sex': impossible value ''")


def test_age_against_age_band(shipped):
    refused(
        shipped,
        [{"age_band": "10-18"}, {"age_band": "19-30"}],
        r"columns contradict each other about age.*: age_band = '19-30' with age = 12\.0 \(row 1\)",
    )


def test_relapse_group_against_site(shipped):
    refused(shipped, [{"relapse_group": "iem_late"}], r"contradict each other about relapse.*relapse_site = 'bm'.*\(row 0\)")


def test_several_contradictions_are_counted(shipped):
    refused(shipped, [{"age_band": "19-30"}] * 3, r"columns contradict.*\(3 rows, first row 0\)")


def test_age_and_age_band_that_agree_are_accepted(shipped):
    found = aemodel.posterior_epred(shipped, pd.DataFrame([KNOWN | {"age_band": "10-18"}]))
    np.testing.assert_array_equal(found, aemodel.posterior_epred(shipped, pd.DataFrame([KNOWN])))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (10**400, "must be a number; found above 1.8e308"),
        (-(10**5000), "impossible value below -1.8e308"),
        (12 + 0j, "must be a number; found"),
        (np.complex128(12), "must be a number; found"),
        (b"12", "must be a number; found b'12'"),
        (np.timedelta64(12, "D"), "must be a number; found"),
        (np.datetime64("2020-01-01"), "must be a number; found"),
        (np.array([1, 2]), "must be a number; found"),
        ([12], r"must be a number; found \[12\]"),
        (np.True_, "must be a number; found"),
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


def test_at_most_five_wrong_values_are_shown(shipped):
    refused(shipped, [{"age": 40 + i} for i in range(8)], r"40\.0 \(row 0\).*44\.0 \(row 4\) and 3 more rows; allowed")


def test_five_wrong_values_are_all_shown(shipped):
    refused(shipped, [{"age": 40 + i} for i in range(5)], r"44\.0 \(row 4\); allowed")


def test_at_most_five_texts_that_are_no_numbers_are_shown(shipped):
    refused(shipped, [{"age": f"a{i}"} for i in range(8)], r"'a4' \(row 4\) and 3 more rows")


def test_a_wrong_value_is_shown_once_with_its_rows_the_most_frequent_first(shipped):
    refused(
        shipped,
        [{}, {"sex": "F"}, *[{"sex": "M"}] * 3],
        r"column 'sex': impossible value 'M' \(3 rows, first row 2\), 'F' \(row 1\); allowed",
    )


def test_all_columns_are_in_one_error_a_line_each(shipped):
    rows = [{}, {"age": 45, "sex": "X7", "age_band": "1-9"}, {"relapse_site": "cns"}, {"age_band": "19-30"}]
    with pytest.raises(ValueError, match=r"^patients: ") as caught:
        aemodel.posterior_epred(shipped, pd.DataFrame([KNOWN | row for row in rows]))
    lines = str(caught.value).splitlines()
    for line, part in zip(
        lines, ("'age': impossible", "contradict", "'relapse_site': impossible", "'sex': impossible"), strict=True
    ):
        assert part in line
    assert lines[-1].endswith("; rows are counted from 0")


def test_columns_of_the_wrong_kind_are_told_with_the_wrong_values(shipped):
    refused(shipped, [{"age": 45, "sex": 1}], r"'sex' must be text, one of male, female(.|\n)*'age': impossible value 45\.0")


def test_a_column_of_the_wrong_kind_alone_names_no_rows(shipped):
    refused(shipped, [{"sex": 1}], "it is Int64$")


@pytest.mark.parametrize(
    ("text", "level"), [("Hispanic", "hispanic"), (" hispanic", "hispanic"), ("NH White", "nh_white"), ("hispnic", "hispanic")]
)
def test_a_level_that_was_perhaps_meant_is_named(shipped, text, level):
    hint = rf"did you mean '{level}' for '{text}'\?; if it really is a group .* scored with new_levels=\"sample\""
    refused(shipped, [{"race_ethnicity": text}], hint)


@pytest.mark.parametrize("text", ["non-hispanic", "martian", "1-8"])
def test_no_level_is_named_for_what_may_be_another(shipped, text):
    with pytest.raises(ValueError, match="impossible value") as caught:
        aemodel.posterior_epred(shipped, pd.DataFrame([KNOWN | {"race_ethnicity": text}]))
    assert "did you mean" not in str(caught.value)


def test_rows_are_counted_from_zero_whatever_the_index(shipped):
    frame = pd.DataFrame([KNOWN, KNOWN | {"age": 77}], index=[5, 5])
    refused(shipped, frame, r"77\.0 \(row 1\)")


def test_frame_without_rows_is_refused(shipped):
    refused(shipped, pd.DataFrame([KNOWN]).iloc[:0], "patients: the frame has no rows")


# Names of patients.


@pytest.mark.parametrize("ids", [["a", "a", "b"], [1, 2, 2]])
def test_duplicate_ids_are_refused(shipped, ids):
    frame = pd.DataFrame([KNOWN] * 3).assign(id=ids)
    again = max(set(ids), key=ids.count)
    refused(shipped, frame, rf"column 'id' must name each row once; missing or given twice: \[{again!r}\]", id_column="id")


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_null_ids_are_refused(shipped, library):
    with pytest.raises(ValueError, match="column 'id' must name each row once"):
        aemodel.posterior_epred(shipped, library([KNOWN | {"id": "a"}, KNOWN | {"id": None}]), id_column="id")


def test_unknown_id_column_is_refused(shipped):
    refused(shipped, [{}], "id_column: no column 'patient'; columns are ", id_column="patient")


# on_invalid.


@pytest.mark.parametrize(
    "wrong", [{"age": 45.0}, {"age": "abc"}, {"sex": "X7"}, {"age_band": "19-30"}, {"months_to_relapse": -1.0}], ids=str
)
def test_invalid_rows_can_be_kept_as_impossible(covariates, wrong):
    frame = nw.from_native(pd.DataFrame([KNOWN | wrong, KNOWN]), eager_only=True)
    sets = read_sets(frame, covariates, on_invalid="null")
    assert [(row == 0).any() for row in sets] == [True, False]


def test_a_wrong_column_is_an_error_even_then(shipped):
    with pytest.raises(ValueError, match="column 'sex' must be text"):
        aemodel.score(shipped, pd.DataFrame([KNOWN | {"sex": 3}]), on_invalid="null")


def test_unknown_treatment_of_invalid_rows_is_refused(shipped):
    with pytest.raises(ValueError, match="on_invalid: expected one of error, null, not 'drop'"):
        aemodel.score(shipped, pd.DataFrame([KNOWN]), on_invalid="drop")
