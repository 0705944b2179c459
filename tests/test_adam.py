"""CDISC ADaM to patients: who is counted, what is an event, the worst grade, and what is refused."""

from __future__ import annotations

import json
import struct

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
    "infections": [0, 4, None, 5],  # a record of e is not graded, beside one of grade 5
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


def test_deaths_are_records_of_grade_5(aall1331):
    for grades in (ADAE["AETOXGR"], [4, 3, 2, 5, 4, None, None, 5], [4.0, 3.0, 2.0, 5.0, 4.0, None, None, 5.0]):
        for make in (pd.DataFrame, pl.DataFrame):
            found = aemodel.read_adam(aall1331, make(ADSL), make(ADAE | {"AETOXGR": grades}), {"death": {"AETOXGR": "5"}})
            assert columns(found)["death"] == [0, 0, 0, 5]


SUBJECTS = {"USUBJID": [101, 102, 103, 104, 105]}
REFUSED = [
    # Of other events than those above.
    ({}, {}, {"sepsys": {}}, "events: unknown .'sepsys'.; choose from infections_total"),
    ({}, {}, {}, "events: none is given; choose from infections_total"),
    ({}, {}, {"sepsis": {"AEDECOD": "Sepssis"}}, "events: sepsis: AEDECOD is nowhere 'Sepssis'; near it: 'Sepsis'. If nobody had it, leave"),
    ({}, {}, {"sepsis": {"AEDECOD": ["Rash", "Itch"]}}, "AEDECOD is nowhere 'Rash' or 'Itch'"),
    ({}, {}, {"sepsis": {"AELLT": "Sepsis"}}, "events: sepsis: adae has no column 'AELLT'; found"),
    *((adsl, adae, EVENTS, message) for adsl, adae, message in [
        ({"SAFFL": ["1"] * 5}, {}, "adsl: SAFFL must be Y, or N or empty, and Y somewhere; found '1'; name another flag with population=, or None"),
        ({"SAFFL": ["Y", "y", "Y", "Y", "Y"]}, {}, "adsl: SAFFL must be Y, .* found 'Y', 'y'; name another"),
        ({"SAFFL": [True] * 5}, {}, "adsl: SAFFL must be Y, .* found True; name"),
        ({"SAFFL": [1] * 5}, {}, "adsl: SAFFL must be Y, .* found 1; name"),
        ({"SAFFL": [b"Y"] * 5}, {}, "adsl: column 'SAFFL' holds bytes, not texts; read the file with an encoding"),
        ({}, {"TRTEMFL": ["N", None] * 4}, "adae: TRTEMFL must be Y, .* found 'N', None; name another flag with emergent="),
        (SUBJECTS, {"USUBJID": [f"10{i}" for i in (2, 2, 2, 3, 4, 4, 5, 5)]},
         "subjects that adsl does not have: 102, .*; 102 of adsl seems to be '102' of adae: write both as the same text"),
        (SUBJECTS, {"USUBJID": [f"010{i}" for i in (2, 2, 2, 3, 4, 4, 5, 5)]}, "; 102 of adsl seems to be '0102' of adae: write both as the same text"),
        ({"USUBJID": list("aabde")}, {}, "adsl: USUBJID must name each subject once; more often: a$"),
        ({"USUBJID": list("abxde")}, {}, "adae: subjects that adsl does not have: c$"),
        ({"USUBJID": ["a", None, "c", "d", "e"]}, {}, "adsl: 1 rows do not name their subject"),
        ({"sepsis": [0] * 5}, {}, "adsl: it has columns that read_adam would add: .'sepsis'."),
        ({}, {"AETOXGR": [b"3"] * 8}, "adae: column 'AETOXGR' holds bytes, not texts"),
        ({}, {"AETOXGR": ["6"] + ["3"] * 7}, "adae: column 'AETOXGR': '6' is no toxicity grade; allowed: 1 to 5"),
        ({}, {"AETOXGR": ["Grade 3"] * 8}, "'Grade 3' is no toxicity grade")]),
]  # fmt: skip


@pytest.mark.parametrize(("adsl", "adae", "events", "message"), REFUSED, ids=range(len(REFUSED)))
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


SEPSIS = {"sepsis": {"AEDECOD": "Sepsis"}}


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ({}, 0),
        ({"AETOXGR": ["0"]}, 0),
        ({"AETOXGR": ["0", "2"]}, 2),
        ({"AETOXGR": [3, 4]}, 4),
        ({"AETOXGR": ["4", None]}, 4),
        ({"AETOXGR": [None, "3"]}, None),
        ({"AETOXGR": [4.0, 3.0], "AESDTH": ["Y", None]}, 5),
        ({"AETOXGR": [None], "AESDTH": ["Y"]}, 5),
    ],
    ids=[
        "no records",
        "grade 0",
        "0 and 2",
        "3 and 4",
        "4 and unknown",
        "unknown and 3",
        "fatal, graded 4",
        "fatal, not graded",
    ],
)
@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_grade_of_one_subject(aall1331, make, records, expected):
    rows = len(records.get("AETOXGR", []))
    adae = {"USUBJID": ["a"] * rows, "AEDECOD": ["Sepsis"] * rows, "AETOXGR": [], **records}
    adae = make(adae) if rows else make({name: ["x"] for name in adae})[:0]
    found = aemodel.read_adam(aall1331, make({"USUBJID": ["a"]}), adae, SEPSIS | {"any_ae": {}}, population=None, emergent=None)
    assert [columns(found)[event] for event in ("sepsis", "any_ae")] == [[expected]] * 2
    fatal = {"death": {"AETOXGR": "5"}}
    if expected == 5:
        found = aemodel.read_adam(aall1331, make({"USUBJID": ["a"]}), adae, fatal, population=None, emergent=None)
        assert columns(found)["death"] == [5]


def test_event_may_be_any_of_several_kinds_of_records(aall1331):
    either = {"infections": [{"AEDECOD": "Lung infection"}, {"AEBODSYS": "Gastrointestinal disorders", "AETOXGR": "2"}]}
    found = aemodel.read_adam(aall1331, pl.DataFrame(ADSL), pl.DataFrame(ADAE), either)
    assert found["infections"].to_list() == [0, 2, None, None]


def test_severity_is_no_grade(aall1331):
    adae = pl.DataFrame(ADAE).with_columns(pl.lit(2).alias("ASEVN"))
    with pytest.raises(aemodel.InputError, match="adae: ASEVN is a severity of three steps, no toxicity grade of 1 to 5; make"):
        aemodel.read_adam(aall1331, pl.DataFrame(ADSL), adae, EVENTS, grade="ASEVN")


def dataset_json(data, path):
    about = {"datasetJSONVersion": "1.1.0", "itemGroupOID": "IG", "records": 5, "name": "X", "label": "X"}
    about["columns"] = [{"itemOID": f"IT.{name}", "name": name, "label": name, "dataType": "string"} for name in data]
    rows = [list(row) for row in zip(*data.values(), strict=True)]
    lines = [json.dumps(about), *map(json.dumps, rows)]
    path.write_text("\n".join(lines) if path.suffix == ".ndjson" else json.dumps(about | {"rows": rows}), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".json", ".ndjson"])
def test_dataset_json_is_read(aall1331, tmp_path, suffix):
    paths = [dataset_json(data, tmp_path / f"{name}{suffix}") for name, data in (("adsl", ADSL), ("adae", ADAE))]
    found = aemodel.read_adam(aall1331, *paths, EVENTS)
    assert {event: columns(found)[event] for event in EVENTS} == {event: [*map(like, WORST[event])] for event in EVENTS}


def like(value):
    return None if value is None else float(value)


def transport(data, path, encoding):
    """Texts in SAS's transport format of version 5, by its published layout."""
    made = "13APR89:10:20:06".ljust(80)

    def head(kind, numbers="0" * 30):
        return f"HEADER RECORD*******{kind:8}HEADER RECORD!!!!!!!{numbers}  "

    texts = {name: ["" if value is None else str(value) for value in values] for name, values in data.items()}
    names = b""
    for i, name in enumerate(texts):
        names += struct.pack(">hhhh8s40s8shhh2s8shhl52s", 2, 0, 40, i + 1, name.encode().ljust(8), b" " * 40, b" " * 8,
                             0, 0, 0, b"  ", b" " * 8, 0, 0, 40 * i, b"")  # fmt: skip
    sas = "SAS     {}     SAS{}  6.06    bsd4.2".format
    parts = [
        head("LIBRARY "),
        sas("SAS", "LIB ").ljust(64) + made[:16],
        made,
        head("MEMBER  ", "000000000000000001600000000140"),
    ]
    parts += [
        head("DSCRPTR "),
        sas("ABC", "DATA").ljust(64) + made[:16],
        made,
        head("NAMESTR ", f"000000{len(texts):04}" + "0" * 20),
    ]
    rows = "".join(value.ljust(40) for row in zip(*texts.values(), strict=True) for value in row).encode(encoding)
    blocks = ["".join(parts).encode(), names, head("OBS     ").encode(), rows]
    path.write_bytes(b"".join(block.ljust(-(-len(block) // 80) * 80) for block in blocks))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_sas_transport_is_read(aall1331, tmp_path, encoding):
    terms = [f"{term} (\u00e9)" if encoding == "cp1252" else term for term in ADAE["AEDECOD"]]
    adsl = transport(ADSL, tmp_path / "adsl.xpt", encoding)
    adae = transport(ADAE | {"AEDECOD": terms}, tmp_path / "adae.xpt", encoding)
    events = {"oral_mucositis": {"AEDECOD": terms[2]}, "any_ae": {}}
    found = aemodel.read_adam(aall1331, str(adsl), adae, events)
    assert {event: columns(found)[event] for event in events} == {event: [*map(like, WORST[event])] for event in events}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("adsl.csv", "", r"adsl: 'adsl.csv' ends in none of .xpt \(SAS transport\), .json \(Dataset-JSON 1.1\)"),
        ("adsl.json", "{", "adsl: 'adsl.json' is not read as Dataset-JSON 1.1: "),
        ("adsl.json", '{"rows": []}', "adsl: 'adsl.json' is not read as Dataset-JSON 1.1: 'datasetJSONVersion'"),
        ("adsl.json", '{"rows": [], "datasetJSONVersion": "1.0.0"}', "its version is '1.0.0'"),
        ("adsl.xpt", "no header", "adsl: 'adsl.xpt' is not read as SAS transport: "),
    ],
)
def test_files_that_are_something_else_are_refused(aall1331, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(aemodel.InputError, match=message):
        aemodel.read_adam(aall1331, tmp_path / name, pl.DataFrame(ADAE), EVENTS)


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
