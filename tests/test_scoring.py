"""`score` and `score_summary`: the same answers from every library, and the caller's table left as it was."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import aemodel
from aemodel.scoring.risks import SUPPORT

ROWS = [
    {"id": "c", "age": 19.4, "relapse_site": "bm", "months_to_relapse": 20.0, "sex": "female", "race_ethnicity": "hispanic"},
    {"id": "a", "age": None, "relapse_site": "iem", "months_to_relapse": None, "sex": None, "race_ethnicity": "nh_asian"},
    {"id": "d", "age": 3.0, "relapse_site": None, "months_to_relapse": 40.0, "sex": "male", "race_ethnicity": None},
    {"id": "b", "age": 19.4, "relapse_site": "bm", "months_to_relapse": 20.0, "sex": "female", "race_ethnicity": "hispanic"},
]
LIBRARIES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.Table.from_pylist}
INVALID, MARTIAN = {"age": 45.0}, {"race_ethnicity": "martian"}


@pytest.fixture(scope="module")
def scored(shipped):
    return aemodel.score(shipped, pd.DataFrame(ROWS))


def rows_with(**changed):
    """The rows, of which the second is changed."""
    return [ROWS[0], ROWS[1] | changed, *ROWS[2:]]


def new_columns(events, grades=("g3", "g4")):
    names = []
    for event in events:
        names += [f"{event}_{grade}_{what}" for grade in grades for what in ("risk", "lower", "upper")]
        names.append(f"{event}_support")
    return names


# The same answers everywhere.


def test_score_agrees_with_risk_table_and_epred(shipped, scored):
    table = aemodel.risk_table(shipped, pd.DataFrame(ROWS), id_column="id").set_index(["patient", "event", "grade"])
    for (patient, event, grade), row in table[["risk", "lower", "upper"]].iterrows():
        given = scored.set_index("id").loc[patient, [f"{event}_g{grade[0]}_{what}" for what in row.index]].astype(float)
        np.testing.assert_allclose(given, row, rtol=0, atol=1e-12, err_msg=f"{event} {grade} {patient}")
    weakest = table["support"].map(SUPPORT.index).groupby(["patient", "event"]).max()
    for (patient, event), flag in weakest.items():
        assert scored.set_index("id").loc[patient, f"{event}_support"] == SUPPORT[flag]
    epred = aemodel.posterior_epred(shipped, pd.DataFrame(ROWS)).sel(event="sepsis", grade="4-5").astype(float)
    np.testing.assert_allclose(scored["sepsis_g4_risk"], epred.mean(("chain", "draw")), atol=1e-7)
    np.testing.assert_allclose(scored["sepsis_g4_lower"], epred.quantile(0.05, ("chain", "draw")), atol=1e-6)


def test_a_patient_is_scored_the_same_in_any_company(shipped):
    """Of more profiles than are worked on at once."""
    levels = [c.names for c in shipped.risks.covariates]
    index = pd.MultiIndex.from_product([[*names, None] for names in levels], names=[c.name for c in shipped.risks.covariates])
    frame = index.to_frame(index=False)
    assert len(frame) > 256
    found = aemodel.score(shipped, frame, events=["sepsis"])
    for row in ([0], [300]):
        alone = aemodel.score(shipped, frame.iloc[row].astype(object), events=["sepsis"])
        np.testing.assert_allclose(alone.iloc[:, 4:10].astype(float), found.iloc[row, 4:10].astype(float), rtol=0, atol=1e-7)


def test_intervals_hold_the_mean_and_widen(shipped, scored):
    wide = aemodel.score(shipped, pd.DataFrame(ROWS), interval=0.99)
    assert (scored["sepsis_g3_lower"] < scored["sepsis_g3_risk"]).all()
    assert (scored["sepsis_g3_risk"] < scored["sepsis_g3_upper"]).all()
    assert (wide["sepsis_g3_lower"] < scored["sepsis_g3_lower"]).all()
    assert (wide["sepsis_g3_upper"] > scored["sepsis_g3_upper"]).all()


# Columns.


def test_chosen_columns_have_the_values_they_have_among_all_in_the_models_order(shipped, scored):
    found = aemodel.score(shipped, pd.DataFrame(ROWS), events=["death", "sepsis"], grades=["4-5"])
    assert list(found.columns) == [*ROWS[0], *new_columns(["death", "sepsis"], ["g4"])]
    pd.testing.assert_frame_equal(found[["sepsis_g4_risk", "death_g4_upper"]], scored[["sepsis_g4_risk", "death_g4_upper"]])


def test_support_is_the_weakest_of_the_chosen_grades(shipped):
    row = pd.DataFrame([{"age_band": "1-9", "relapse_group": None, "sex": None, "race_ethnicity": None}])
    flags = [
        aemodel.score(shipped, row, events=["febrile_neutropenia"], grades=grades)["febrile_neutropenia_support"].item()
        for grades in (["3-5"], ["4-5"], None)
    ]
    assert flags == ["pooled", "prior", "prior"]


PROBABILITY, LEVELS = "interval: expected a probability between 0 and 1", "new_levels: expected one of error, sample"
WRONG = [
    *((aemodel.risk_table, {"interval": wrong}, PROBABILITY) for wrong in (0, 1, -0.1, 90, "0.9", None, True, np.nan, [0.05])),
    *((call, {"interval": 1.5}, PROBABILITY) for call in (aemodel.score, aemodel.score_cohort)),
    *((call, {"interval": 1.0}, PROBABILITY) for call in (aemodel.contrast_table, aemodel.prior_predictive_table)),
    *((aemodel.posterior_epred, {"new_levels": wrong}, LEVELS) for wrong in ("Sample", None, True)),
    (aemodel.score, {"new_levels": "ignore"}, LEVELS),
    (aemodel.score, {"on_invalid": "drop"}, "on_invalid: expected one of error, null, not 'drop'"),
    (aemodel.score, {"missing_columns": "drop"}, "missing_columns: expected one of error, unknown"),
    (aemodel.posterior_epred, {"id_column": "patient"}, "id_column: no column 'patient'; columns are "),
    *((aemodel.posterior_predict, {"seed": wrong}, "seed: expected a whole number") for wrong in (None, True, "a", 1.5)),
    (aemodel.score_cohort, {"seed": 1.0}, "seed: expected a whole number, not 1.0"),
    (aemodel.score_cohort, {"seed": -1}, "seed: expected zero or more, not -1"),
    (aemodel.score_cohort, {"events": ["nausea"]}, "events: unknown"),
    (aemodel.score_cohort, {"by": "hospital"}, "by: no column 'hospital' to group by; columns are "),
    (aemodel.score_cohort, {"by": [["site"]]}, r"by: expected names, not \['site'\]"),
    (aemodel.score, {"events": ["sepsis", "nausea"]}, r"events: unknown \['nausea'\]; choose from infections_total, "),
    (aemodel.score, {"events": []}, "events: .*choose from"),
    (aemodel.score, {"grades": ["3"]}, r"grades: unknown \['3'\]; choose from 3-5, 4-5"),
    *((aemodel.score, {name: "sepsis"}, f"{name}: expected a list") for name in ("events", "grades")),
]


@pytest.mark.parametrize(("call", "options", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_options_are_refused(shipped, call, options, message):
    others = {aemodel.contrast_table: [{"sex": "female"}, {"sex": "male"}], aemodel.prior_predictive_table: []}
    kind = TypeError if any(words in message for words in ("a list", "expected names", "whole number")) else ValueError
    with pytest.raises(kind, match=f"^{message}") as found:
        call(shipped, *others.get(call, [pd.DataFrame(ROWS)]), **options)
    if kind is ValueError:
        assert isinstance(found.value, aemodel.InputError)
        again = pickle.loads(pickle.dumps(found.value))
        assert (str(again), again.argument, again.rows) == (str(found.value), message.partition(":")[0], ())


@pytest.mark.parametrize(
    "kind", [tuple, np.array, pd.Series, pd.Index, pl.Series, pa.array, iter], ids=lambda kind: kind.__name__
)
def test_names_may_stand_in_any_list(shipped, kind):
    frame = pd.DataFrame(ROWS)
    expected = aemodel.score_cohort(shipped, frame, events=["sepsis", "death"], grades=["4-5"], by=["sex"])
    found = aemodel.score_cohort(shipped, frame, events=kind(["sepsis", "death"]), grades=kind(["4-5"]), by=kind(["sex"]))
    pd.testing.assert_frame_equal(found, expected)
    scored = aemodel.score(shipped, frame, events=kind(["sepsis", "death"]), grades=kind(["4-5"]))
    assert list(scored.columns[len(ROWS[0]) :]) == new_columns(["sepsis", "death"], ["g4"])


def test_numbers_may_be_those_of_numpy(shipped):
    found, expected = (
        aemodel.score_cohort(shipped, pd.DataFrame(ROWS), interval=interval, seed=seed)
        for interval, seed in ((np.float32(0.5), np.uint8(3)), (0.5, 3))
    )
    pd.testing.assert_frame_equal(found, expected)


WIDE = pd.DataFrame([ROWS[0] | {f"{i:*^500}": 1 for i in range(500)}])
ARGUMENTS = [
    *((aemodel.score, "frame", name) for name in ("model", "interval", "events", "grades", "new_levels", "on_invalid")),
    *((aemodel.score_cohort, "frame", name) for name in ("by", "interval", "seed", "on_invalid")),
    *((aemodel.posterior_predict, "patients", name) for name in ("seed", "id_column")),
    (aemodel.identification_table, None, "of"),
    (aemodel.load_model, None, "source"),
    (aemodel.load_tables, None, "source"),
    (aemodel.save_model, None, "folder"),
    (aemodel.write_report, None, "path"),
    (aemodel.write_report, None, "tables"),
    (aemodel.write_calculator, None, "path"),
]


@pytest.mark.parametrize(("call", "frame", "argument"), ARGUMENTS, ids=lambda part: getattr(part, "__name__", part))
def test_an_argument_that_makes_no_sense_is_named_in_one_line_that_ends(shipped, tmp_path, call, frame, argument):
    """Whatever it is, and however many columns the table has."""
    for value in ("\0" + "x" * 10**5, ["\n" * 10**5] * 99, -(10**5000), 1.5, b"x" * 10**5):
        given = {"model": shipped, "seed": 1, "path": tmp_path / "page.html"} | ({frame: WIDE} if frame else {})
        given |= {argument: value}
        with pytest.raises((TypeError, ValueError), match=f"^{argument}: ") as caught:
            call(**{name: given[name] for name in inspect.signature(call).parameters if name in given})
        assert len(str(caught.value)) < 2000
        assert "\n" not in str(caught.value)


def test_columns_that_exist_are_not_overwritten_unless_of_events_not_asked_for(shipped):
    with pytest.raises(ValueError, match="frame: .*any_ae_support.*rename or drop"):
        aemodel.score(shipped, pd.DataFrame(ROWS).assign(any_ae_support=0.1))
    found = aemodel.score(shipped, pd.DataFrame(ROWS).assign(sepsis_g3_risk=0.1), events=["death"])
    assert (found["sepsis_g3_risk"] == 0.1).all()


# The caller's table.


INDICES = {
    "duplicates": [7, 7, 1, 1],
    "text": ["x", "y", "z", "w"],
    "reversed": [3, 2, 1, 0],
    "pairs": pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (0, "a"), (0, "a")]),
    "dates": pd.to_datetime(["2020-01-02", "2020-01-01", None, "2020-01-01"]),
}


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("column", ["id", "sex", "age"])
def test_pandas_index_comes_back_and_does_not_move_rows(shipped, index, column):
    """A column of nulls, and numbers given as text, are made anew: they must not be matched by the index."""
    frame = pd.DataFrame(ROWS)
    frame[column] = {"id": frame["id"], "sex": None, "age": ["19.4", None, "3", "19.4"]}[column]
    expected = aemodel.score(shipped, frame, events=["sepsis"])
    frame.index = pd.Index(INDICES[index])
    found = aemodel.score(shipped, frame, events=["sepsis"])
    pd.testing.assert_index_equal(found.index, frame.index)
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected)


def test_callers_frame_is_not_changed_in_place(shipped):
    frame = pd.DataFrame(ROWS)
    before = frame.copy(deep=True)
    aemodel.score(shipped, frame)
    pd.testing.assert_frame_equal(frame, before)


def test_slices_of_pyarrow_tables_in_several_pieces(shipped, scored):
    table = pa.concat_tables([pa.Table.from_pylist(ROWS), pa.Table.from_pylist(ROWS)]).slice(3, 2)
    found = aemodel.score(shipped, table).to_pandas()
    np.testing.assert_allclose(found["sepsis_g3_risk"], scored["sepsis_g3_risk"].iloc[[3, 0]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
def test_types_of_the_new_columns_whatever_the_rows(shipped, library):
    frame = LIBRARIES[library](rows_with(**INVALID))
    for each in (frame, frame[:0]):
        found = aemodel.score(shipped, each, on_invalid="null")
        schema = (
            pa.Table.from_pandas(found) if library == "pandas" else found.to_arrow() if library == "polars" else found
        ).schema
        assert schema.field("sepsis_g3_risk").type == pa.float64()
        assert "string" in str(schema.field("sepsis_support").type) or not len(each)


# Invalid rows and new levels.


def test_summary_counts_rows_and_those_that_score_gives_risks(shipped):
    rows = [*ROWS, *(ROWS[0] | change for change in ({"age": 45.0}, MARTIAN, MARTIAN | {"sex": "X7"}))]
    found = aemodel.score_summary(shipped, pd.DataFrame(rows))
    expected = {"missing": (1, 2, 1, 1), "new": (0, 0, 0, 2), "invalid": (1, 0, 1, 0)}
    assert {kind: tuple(of[kind] for of in found["columns"].values()) for kind in expected} == expected
    scored = aemodel.score(shipped, pd.DataFrame(rows), on_invalid="null")["sepsis_g3_risk"].notna().sum()
    assert (found["rows"], found["scored"]) == (7, 4) == (len(rows), scored)
    assert aemodel.score_summary(shipped, pl.DataFrame(ROWS)[:0])["rows"] == 0
    with pytest.raises(ValueError, match="no column for sex"):
        aemodel.score_summary(shipped, pl.DataFrame(ROWS).drop("sex"))


@pytest.mark.parametrize("call", [aemodel.score, aemodel.score_summary])
def test_what_is_no_frame_is_refused(shipped, call):
    with pytest.raises(TypeError, match="frame: expected a pandas, .* or a DuckDB relation, not list"):
        call(shipped, ROWS)
