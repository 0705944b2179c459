"""CDISC ADaM to patients: who is counted, what is an event, the worst grade, and what is refused."""

from __future__ import annotations

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import aemodel

ADSL = {"USUBJID": ["a", "b", "c", "d", "e"], "SAFFL": ["Y", "Y", "N", "Y", "Y"], "AGE": [5, 12, 20, 25, 9]}
RECORDS = [
    # subject, body system, term, grade, emergent
    ("b", "Infections and infestations", "Sepsis", "4", "Y"),
    ("b", "INFECTIONS AND INFESTATIONS", "SKIN INFECTION", "3", "Y"),
    ("b", "Gastrointestinal disorders", "Oral mucositis", "2", "Y"),
    ("c", "Infections and infestations", "Sepsis", "5", "Y"),
    ("d", "Infections and infestations", "Sepsis", "4", "N"),
    ("d", "Infections and infestations", "Lung infection", None, "Y"),
    ("e", "Infections and infestations", "Lung infection", "", "Y"),
    ("e", "Infections and infestations", "Septic shock", "5", "Y"),
]
ADAE = dict(zip(("USUBJID", "AEBODSYS", "AEDECOD", "AETOXGR", "TRTEMFL"), map(list, zip(*RECORDS, strict=True)), strict=True))
EVENTS = {
    "infections": {"AEBODSYS": "Infections and infestations"},
    "sepsis": {"AEBODSYS": "infections and infestations", "AEDECOD": ["sepsis", "Septic Shock"]},
    "oral_mucositis": {"AEDECOD": "Oral mucositis"},
    "any_ae": {},
}
WORST = {
    "infections": [0, 4, None, 5],
    "sepsis": [0, 4, 0, 5],
    "oral_mucositis": [0, 2, 0, 0],
    "any_ae": [0, 4, None, 5],
}


def columns(frame):
    table = (
        frame
        if isinstance(frame, pa.Table)
        else pa.Table.from_pandas(frame)
        if isinstance(frame, pd.DataFrame)
        else frame.to_arrow()
    )
    return table.to_pydict()


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "pyarrow"])
def test_worst_grades_of_the_population(aall1331, make):
    frame = aemodel.read_adam(aall1331, make(ADSL), make(ADAE), EVENTS)
    assert type(frame) is type(make(ADSL))
    found = columns(frame)
    assert found["USUBJID"] == ["a", "b", "d", "e"]
    assert found["AGE"] == [5, 12, 25, 9]
    assert {event: found[event] for event in EVENTS} == WORST


def test_without_flags_everybody_and_everything_counts(aall1331):
    adsl, adae = pd.DataFrame(ADSL).drop(columns="SAFFL"), pd.DataFrame(ADAE).drop(columns="TRTEMFL")
    found = aemodel.read_adam(aall1331, adsl, adae, {"sepsis": EVENTS["sepsis"]}, population=None, emergent=None)
    assert found["sepsis"].tolist() == [0, 4, 5, 4, 5]


def test_pandas_index_does_not_move_grades(aall1331):
    adsl = pd.DataFrame(ADSL, index=[4, 3, 2, 1, 0])
    found = aemodel.read_adam(aall1331, adsl, pd.DataFrame(ADAE), {"sepsis": EVENTS["sepsis"]})
    assert dict(zip(found["USUBJID"], found["sepsis"], strict=True)) == dict(zip("abde", WORST["sepsis"], strict=True))
    assert list(found.index) == [4, 3, 1, 0]


@pytest.mark.parametrize("grades", [[4, 3, 2, 5, 4, 3, 3, 5], [4.0, 3.0, 2.0, 5.0, 4.0, 3.0, 3.0, 5.0]], ids=["int", "float"])
def test_grades_may_be_numbers(aall1331, grades):
    found = aemodel.read_adam(aall1331, pl.DataFrame(ADSL), pl.DataFrame(ADAE | {"AETOXGR": grades}), EVENTS)
    assert found["infections"].to_list() == [0, 4, 3, 5]


def test_deaths_are_records_of_grade_5(aall1331):
    for grades in (ADAE["AETOXGR"], [4, 3, 2, 5, 4, None, None, 5], [4.0, 3.0, 2.0, 5.0, 4.0, None, None, 5.0]):
        for make in (pd.DataFrame, pl.DataFrame):
            found = aemodel.read_adam(aall1331, make(ADSL), make(ADAE | {"AETOXGR": grades}), {"death": {"AETOXGR": "5"}})
            assert columns(found)["death"] == [0, 0, 0, 5]


@pytest.mark.parametrize(
    ("adsl", "adae", "events", "message"),
    [
        ({}, {}, {"sepsys": {}}, "events: unknown .'sepsys'.; choose from infections_total"),
        ({}, {}, {}, "events: none is given; choose from infections_total"),
        (
            {},
            {},
            {"sepsis": {"AEDECOD": "Sepssis"}},
            "events: sepsis: AEDECOD is nowhere 'Sepssis'; near it: 'Sepsis'. If nobody had it, leave",
        ),
        ({}, {}, {"sepsis": {"AEDECOD": ["Rash", "Itch"]}}, "AEDECOD is nowhere 'Rash' or 'Itch'"),
        (
            {"SAFFL": ["1"] * 5},
            {},
            EVENTS,
            "adsl: SAFFL must be Y, or N or empty, and Y somewhere; found '1'; name another flag with population=, or None",
        ),
        ({"SAFFL": ["Y", "y", "Y", "Y", "Y"]}, {}, EVENTS, "adsl: SAFFL must be Y, .* found 'Y', 'y'; name another"),
        ({"SAFFL": [True] * 5}, {}, EVENTS, "adsl: SAFFL must be Y, .* found True; name"),
        ({"SAFFL": [b"Y"] * 5}, {}, EVENTS, "adsl: SAFFL must be Y, .* found b'Y'; name"),
        ({"SAFFL": [1] * 5}, {}, EVENTS, "adsl: SAFFL must be Y, .* found 1; name"),
        (
            {},
            {"TRTEMFL": ["N", None] * 4},
            EVENTS,
            "adae: TRTEMFL must be Y, .* found 'N', None; name another flag with emergent=",
        ),
        ({"USUBJID": list("aabde")}, {}, EVENTS, "adsl: USUBJID must name each subject once; more often: a$"),
        ({"USUBJID": list("abxde")}, {}, EVENTS, "adae: subjects that adsl does not have: c$"),
        ({"USUBJID": ["a", None, "c", "d", "e"]}, {}, EVENTS, "adsl: 1 rows do not name their subject"),
        ({"sepsis": [0] * 5}, {}, EVENTS, "adsl: it has columns that read_adam would add: .'sepsis'."),
        ({}, {"AETOXGR": ["6"] + ["3"] * 7}, EVENTS, "adae: column 'AETOXGR': '6' is no toxicity grade; allowed: 1 to 5"),
        ({}, {"AETOXGR": ["Grade 3"] * 8}, EVENTS, "'Grade 3' is no toxicity grade"),
        ({}, {}, {"sepsis": {"AELLT": "Sepsis"}}, "events: sepsis: adae has no column 'AELLT'; found"),
    ],
)
def test_what_does_not_fit_is_refused(aall1331, adsl, adae, events, message):
    with pytest.raises(ValueError, match=message):
        aemodel.read_adam(aall1331, pl.DataFrame(ADSL | adsl), pl.DataFrame(ADAE | adae), events)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("aall1331", ADSL, ADAE, EVENTS), "adsl: expected a pandas or polars DataFrame"),
        (("aall1331", pl.DataFrame(ADSL), pl.DataFrame(ADAE), EVENTS), "tables: expected what load_tables returns"),
        ((aemodel.load_tables("aall1331"), pl.DataFrame(ADSL), pl.DataFrame(ADAE), ["sepsis"]), "as a dict, not list"),
    ],
)
def test_what_is_no_frame_or_publication_is_refused(arguments, message):
    with pytest.raises(TypeError, match=message):
        aemodel.read_adam(*arguments)


@pytest.mark.parametrize("terms", ["Sepsis", {"AETOXGR": 5}, {"AETOXGR": [4, 5]}, {"AEDECOD": []}, None], ids=str)
def test_what_names_no_texts_in_columns_is_refused(aall1331, terms):
    with pytest.raises(TypeError, match="events: expected columns with their texts for sepsis"):
        aemodel.read_adam(aall1331, pl.DataFrame(ADSL), pl.DataFrame(ADAE), {"sepsis": terms})


@pytest.mark.parametrize(
    ("argument", "column", "remedy"),
    [
        ("adsl", "SAFFL", "say which it is with population=, or that all count with None"),
        ("adae", "TRTEMFL", "say which it is with emergent=, or that all count with None"),
        ("adae", "AETOXGR", "say which it is with grade=[.]"),
        ("adae", "USUBJID", "say which it is with subject=[.]"),
    ],
)
def test_missing_columns_are_named_with_what_to_do(aall1331, argument, column, remedy):
    frames = {"adsl": pl.DataFrame(ADSL), "adae": pl.DataFrame(ADAE)}
    frames[argument] = frames[argument].drop(column)
    with pytest.raises(ValueError, match=f"{argument}: no column '{column}'; {remedy}"):
        aemodel.read_adam(aall1331, **frames, events=EVENTS)
