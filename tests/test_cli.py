"""The command line: what it prints for people and programs, its exit codes, and the files it reads and writes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import duckdb
import pandas as pd
import pexpect
import pyarrow as pa
import pytest
from click.testing import CliRunner

import aemodel
from aemodel import cli
from aemodel.inference.diagnostics import Diagnostics
from aemodel.pages.errors import INTERRUPTED
from tests.fixtures import FIXTURES, FORMATS
from tests.streams import in_terminal

HEADER = "id,age,relapse_site,months_to_relapse,sex,race_ethnicity"
PATIENTS = f"{HEADER}\np1,19,bm,20,female,hispanic\np2,,iem,,,nh_asian\np3,8,bm,40,male,\n"
COMMAND = [sys.executable, "-W", "error", "-c", "from aemodel.cli import main; main()"]
COMMANDS = ("tables", "fit", "check", "show", "score", "schema", "export", "profiles", "calculator", "report")


@pytest.fixture(scope="module")
def shipped():
    return aemodel.load_model("aall1331")


@pytest.fixture
def patients(tmp_path):
    path = tmp_path / "patients.csv"
    path.write_text(PATIENTS, encoding="utf-8")
    return path


@pytest.fixture
def score(patients):
    """Runs `aemodel score aall1331` on a file of patients: by default the three above."""

    def run_score(*arguments, content=None):
        if content is not None:
            patients.write_text(content, encoding="utf-8")
        return run("score", "aall1331", patients, *arguments)

    return run_score


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def printed_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


def read_rows(path):
    with duckdb.connect() as connection:
        relation = connection.read_parquet(str(path)) if path.suffix == ".parquet" else connection.read_csv(str(path))
        return relation.to_arrow_table().to_pylist()


def failed(result, code, message):
    """The command ended with the code, one line of error with the message, and nothing else on stdout."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error")]) == 1


# Help.


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_each_command_has_examples(command, flag):
    result = run(command, flag)
    assert result.exit_code == 0
    assert f"aemodel {command}" in result.stdout


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS)])
def test_examples_in_help_stand_on_lines_of_their_own(command):
    lines = run(*command, "--help").stdout.splitlines()
    assert not any("\\b" in line or "\b" in line for line in lines)
    first = lines.index("  Examples:") + 1
    examples = lines[first : lines.index("", first)]
    assert examples
    assert all(line.startswith("    aemodel ") and line.count("aemodel ") == 1 for line in examples)


def test_help_tells_how_to_complete_and_to_leave_colours_out():
    text = run("--help").stdout
    assert 'eval "$(_AEMODEL_COMPLETE=bash_source aemodel)"' in text
    assert "NO_COLOR" in text


def test_completion_names_the_commands():
    environment = {"_AEMODEL_COMPLETE": "bash_complete", "COMP_WORDS": "aemodel ", "COMP_CWORD": "1"}
    result = CliRunner().invoke(cli.main, [], env=environment, prog_name="aemodel")
    assert set(COMMANDS) <= {line.split(",")[-1] for line in result.stdout.splitlines()}


def test_help_lists_the_commands():
    result = run("--help")
    assert result.exit_code == 0
    assert set(COMMANDS) <= set(result.stdout.split())


def test_version():
    assert aemodel.__version__ in run("--version").stdout


# tables.


def test_tables_shows_counts_and_discrepancies():
    result = run("tables")
    assert result.exit_code == 0
    assert "167 (54.2%)" in result.stdout
    assert "Discrepancies" in result.stdout
    assert "14.0" in result.stdout


def test_tables_as_json_has_every_frequency(aall1331):
    rows = json.loads(run("tables", "--format", "json").stdout)
    assert [row["observed"] for row in rows] == aall1331.frequencies["observed"].tolist()


def test_tables_as_csv_has_every_frequency(aall1331):
    rows = printed_csv(run("tables", "aall1331", "--format", "csv").stdout)
    assert [int(row["observed"]) for row in rows] == aall1331.frequencies["observed"].tolist()


def test_tables_of_a_folder(invented_folder):
    result = run("tables", invented_folder)
    assert result.exit_code == 0
    assert "An invented trial" in result.stdout


def test_unknown_publication():
    failed(
        run("tables", "nowhere"), 2, "Error: PUBLICATION: 'nowhere' is neither a folder nor a shipped publication (aall1331)"
    )


def test_malformed_publication(invented_folder, tmp_path):
    folder = shutil.copytree(invented_folder, tmp_path / "copy")
    (folder / "events.csv").write_text("event\n")
    failed(run("tables", folder), 2, "events.csv: columns must be event, label, ")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        # 101 patients have the blood toxicity that lies in any toxicity.
        ("frequencies.csv", "240,136,count,136", "240,100,count,100", "each other: any_toxicity 3-5 total all (100)"),
        (
            "cohort.csv",
            "stage,local_small,,,78",
            "stage,local_small,,,68",
            "cohort.csv: the levels of stage hold 230 patients, the cohort 240",
        ),
        ("cohort.csv", r"region,.*\n", "", "cohort.csv: region has no row for north, south, coast; add how many"),
    ],
    ids=["nested", "cohort", "no rows"],
)
def test_tables_refuses_what_a_fit_would_refuse(invented_folder, tmp_path, file, old, new, message):
    folder = shutil.copytree(invented_folder, tmp_path / "copy")
    (folder / file).write_text(re.sub(old, new, (folder / file).read_text()))
    failed(run("tables", folder), 2, message)


def test_tables_without_scipy_says_what_was_not_checked(invented_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    for name in ("margins", "reduction"):
        monkeypatch.delitem(sys.modules, f"aemodel.publication.{name}", raising=False)
    result = run("tables", invented_folder)
    assert result.exit_code == 0
    assert "An invented trial" in result.stdout
    assert result.stderr.startswith("Not checked, as scipy")
    assert "pip install 'aemodel[fit]'" in result.stderr


# show.


def test_show_tells_what_a_model_is(shipped):
    text = run("show").stdout
    for expected in (
        *("COG AALL1331", "10.3324/haematol.2025.287386", "N = 661", "Sampler diagnostics passed", "seed 1"),
        *("Marrow relapse before 36 months (`bm_early`, 209)", "`age`: age at enrollment in years; "),
        *("values: at least 0", "extramedullary); values: bm, iem"),
        *("No event is tabulated by Race/ethnicity", "Not for treatment decisions", "pymc 5", "deviation (half_normal"),
        *(shipped.tables.digest, shipped.manifest["sha256"]),
        *(f"`{entry['name']}`, {entry['bytes']:,} bytes: whole" for entry in shipped.manifest["files"].values()),
        *shipped.risks.events,
    ):
        assert expected in text, expected


def test_show_as_json_has_the_same_facts(shipped):
    facts = json.loads(run("show", "aall1331", "--format", "json").stdout)
    assert facts["patients"] == 661
    assert facts["digest"] == shipped.manifest["sha256"]
    assert facts["settings"] == shipped.manifest["settings"]
    assert facts["diagnostics"]["passed"] is True
    assert [column["name"] for column in facts["columns"]] == ["age", "relapse_site", "months_to_relapse"]
    assert facts["columns"][1]["values"] == "bm, iem"
    published = {event["name"]: event["published_grades"] for event in facts["events"]}
    assert published["death"] == ["3-5", "4-5"]
    assert published["infections"] == ["3-5", "4-5", "5"]
    assert published["febrile_neutropenia"] == ["3-5"]
    assert {c["name"]: sum(level["patients"] for level in c["levels"]) for c in facts["covariates"]} == dict.fromkeys(
        ("age_band", "relapse_group", "sex", "race_ethnicity"), 661
    )
    assert [c["name"] for c in facts["covariates"] if c["rests_on"] == {"data": 0, "pooled": 0, "prior": 21}] == [
        "race_ethnicity"
    ]


@pytest.mark.parametrize("number", FORMATS)
def test_show_reads_every_format(number):
    result = run("show", FIXTURES / f"format{number}")
    assert result.exit_code == 0, result.output
    assert "An invented trial" in result.stdout
    assert f"Model: format {number}, digest" in result.stdout


def test_show_tells_of_a_file_that_is_missing(tmp_path):
    folder = shutil.copytree(FIXTURES / "format2", tmp_path / "model")
    next(folder.glob("posterior-*")).unlink()
    result = run("show", folder)
    assert result.exit_code == 0
    assert "cannot be read" in result.stdout


def test_show_of_a_damaged_model(tmp_path):
    folder = shutil.copytree(FIXTURES / "format2", tmp_path / "model")
    next(folder.glob("scoring-*")).write_bytes(b"")
    failed(run("show", folder), 1, "its size is not the")


def test_show_of_no_model():
    failed(
        run("show", "nowhere"),
        2,
        "Error: MODEL: 'nowhere' is neither the folder of a saved model nor the name of a shipped one",
    )


def test_show_gives_a_terminal_no_orders_of_a_hostile_model(capsys):
    from aemodel.pages.console import print_markdown
    from aemodel.pages.description import model_facts
    from aemodel.pages.render import card

    model = aemodel.load_model(FIXTURES / "format2")
    facts = model_facts(model.manifest, model.tables, model.risks) | {"notes": ["\x1b]0;owned\x07 \u202e\n# <b>"]}
    print_markdown(card(facts))
    text = capsys.readouterr().out
    assert "- \\x1b]0;owned\\x07 \\u202e # <b>\n" in text
    assert all(character.isprintable() or character == "\n" for character in text)


# check.


@pytest.fixture(scope="module")
def checked():
    """What `aemodel check` prints in each form; the table behind it, which takes seconds, is made once."""
    from aemodel.answers import calibration

    tables = {}

    def once(model):
        name = model.name
        if name not in tables:
            tables[name] = made(model)
        return tables[name]

    made = calibration.calibration_table
    calibration.calibration_table = once
    try:
        yield {form: run("check", "--format", form) for form in ("table", "json", "csv")}
    finally:
        calibration.calibration_table = made


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_check_of_the_shipped_model_passes(checked, form):
    assert checked[form].exit_code == 0, checked[form].output


def test_check_tells_diagnostics_and_coverage(checked):
    assert "Sampler diagnostics passed" in checked["table"].stdout
    assert "90 % predictive interval" in checked["table"].stdout


def test_check_tells_of_evidence_in_words(capsys):
    from aemodel.answers.calibration import calibration_table
    from aemodel.pages.checking import print_check
    from tests.reports import drawn_model, invented_texts

    model = drawn_model(invented_texts())
    print_check(model, calibration_table(model))
    p = aemodel.ordering_table(model)["p_ordered"].iloc[0]
    tests = aemodel.selection_table(model)
    text = " ".join(capsys.readouterr().out.split())
    assert "Evidence used beside the margins: orderings of groups" in text
    assert f"Published order of region within local, any_toxicity 3-5: P {p:.2f}." in text
    assert f"{tests['doubtful'].sum()} of {len(tests)} tests" in text


def test_check_tells_where_the_publication_speaks_against_the_fit(capsys):
    from aemodel.pages.checking import _print_tests

    row = {"event": "rash", "grade": "3-5", "covariate": "arm", "odds_ratio": 2.5, "p_nonsignificant": 0.1}
    doubtful = [{**row, "doubtful": True, "cause": "pooling with anemia"}, {**row, "doubtful": False, "cause": ""}]
    _print_tests(pd.DataFrame(doubtful))
    out = capsys.readouterr().out
    assert out.startswith("1 of 2 tests")
    assert "- rash 3-5 by arm: odds ratio 2.50, P 0.10 (pooling with anemia)" in out


def test_check_as_json_is_the_calibration_table(checked, aall1331):
    rows = json.loads(checked["json"].stdout)
    assert [row["observed"] for row in rows] == aall1331.frequencies["observed"].tolist()
    assert isinstance(rows[0]["tail_probability"], float)
    assert rows[0]["derived"] is False


def test_check_as_csv_is_the_calibration_table(checked):
    rows, expected = printed_csv(checked["csv"].stdout), json.loads(checked["json"].stdout)
    assert [float(row["predicted"]) for row in rows] == [row["predicted"] for row in expected]


def test_check_of_an_unknown_model():
    failed(
        run("check", "nowhere"),
        2,
        "Error: MODEL: 'nowhere' is neither the folder of a saved model nor the name of a shipped one",
    )


@pytest.fixture
def damaged(shipped, tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    for path in shipped.folder.iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[:-1] if path.suffix == ".npz" else content)
    return folder


@pytest.mark.parametrize("command", ["check", "score"])
def test_damaged_model_fails_the_check(damaged, patients, command):
    failed(run(command, damaged, *([patients] if command == "score" else [])), 1, "bytes of the manifest")


def test_folder_that_is_no_model_fails_the_check(tmp_path):
    failed(run("check", tmp_path), 1, "no saved model")


def test_model_whose_diagnostics_failed_fails_the_check(checked, shipped, monkeypatch):
    from aemodel.answers import calibration
    from aemodel.saved import reader

    bad = SimpleNamespace(name="bad", folder=shipped.folder, diagnostics=Diagnostics(1.2, 50.0, 60.0, 3, 0.5, "scale"))
    rows = json.loads(checked["json"].stdout)
    table = SimpleNamespace(to_dict=lambda _: rows)
    monkeypatch.setattr(reader, "load_model", lambda _: bad)
    monkeypatch.setattr(calibration, "calibration_table", lambda _: table)
    monkeypatch.setattr(calibration, "coverage", lambda _: {"rows": 74.0, "within50": 0.5, "within90": 0.9})
    result = run("check", "--format", "json")
    assert result.exit_code == 1
    assert "R-hat 1.200" in result.stderr
    assert "3 divergent transitions" in result.stderr


# score: printed.


def test_score_prints_a_block_for_each_patient(score):
    result = score()
    assert result.exit_code == 0, result.output
    assert [f"Patient {number}:" in result.stdout for number in (1, 2, 3, 4)] == [True, True, True, False]
    assert "90% interval" in result.stdout


def test_score_as_json_agrees_with_the_package(score, shipped):
    rows = json.loads(score("--format", "json").stdout)
    frame = [{k: row[k] for k in HEADER.split(",")} for row in rows]
    assert rows == aemodel.score(shipped, pa.Table.from_pylist(frame)).to_pylist()


def test_score_as_csv_has_every_column(score):
    rows = printed_csv(score("--format", "csv").stdout)
    assert len(rows) == 3
    assert len(rows[0]) == len(HEADER.split(",")) + 11 * 7


def test_score_of_chosen_events_and_grades(score):
    rows = printed_csv(score("--events", "sepsis,death", "--grades", "4-5", "--format", "csv").stdout)
    added = [name for name in rows[0] if name not in HEADER.split(",")]
    assert added == [
        f"{event}_{what}" for event in ("sepsis", "death") for what in ("g4_risk", "g4_lower", "g4_upper", "support")
    ]


def test_score_of_another_interval(score):
    narrow, wide = (
        json.loads(score("--interval", width, "--events", "sepsis", "--format", "json").stdout)[0] for width in ("0.5", "0.99")
    )
    assert wide["sepsis_g3_lower"] < narrow["sepsis_g3_lower"]


def test_score_shows_twenty_patients_and_counts_the_rest(score):
    row = PATIENTS.splitlines()[1]
    result = score("--events", "sepsis", content="\n".join([HEADER, *[row] * 23]))
    assert "Patient 20:" in result.stdout
    assert "Patient 21:" not in result.stdout
    assert "and 3 more patients" in result.stdout


@pytest.mark.parametrize("ids", [["007", "x", "9"], ["007", "008", "009"]], ids=["some", "all"])
def test_score_keeps_ids_as_they_are_written(score, ids):
    content = PATIENTS.replace("p1", ids[0]).replace("p2", ids[1]).replace("p3", ids[2])
    assert [row["id"] for row in printed_csv(score("--format", "csv", content=content).stdout)] == ids


@pytest.mark.parametrize("text", ["2020-01-02", "01/02/2020", "TRUE", "12:30", "NA", "null"])
def test_score_keeps_other_columns_as_they_are_written(score, tmp_path, text):
    content = "\n".join(f"{line},{extra}" for line, extra in zip(PATIENTS.splitlines(), ["own", *[text] * 3], strict=True))
    score(tmp_path / "scored.csv", "--events", "sepsis", content=content)
    with (tmp_path / "scored.csv").open(newline="", encoding="utf-8") as file:
        assert [row["own"] for row in csv.DictReader(file)] == [text] * 3


# score: bad input is exit code 2 and one line.


def test_score_of_a_missing_file():
    failed(run("score", "aall1331", "nowhere.csv"), 2, "Error: PATIENTS: no file 'nowhere.csv'")


def test_score_of_an_unknown_model(patients):
    failed(run("score", "nowhere", patients), 2, "Error: MODEL: 'nowhere' is neither the folder of a saved model")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("p1,45,bm,20,female,hispanic", "column 'age': impossible value 45.0 (row 0)"),
        ("p1,abc,bm,20,female,hispanic", "column 'age' must be a number; found 'abc' (row 0)"),
        ("p1,19,bm,20,X7,hispanic", "column 'sex': impossible value 'X7' (row 0); allowed: male, female"),
        ("p1,19,cns,20,male,hispanic", "column 'relapse_site': impossible value 'cns'"),
        ("p1,19,bm,20,1,hispanic", "column 'sex': impossible value '1'"),
        ("p1,19,bm,20,male,martian", "scored with --new-levels sample"),
        ("p1,19,bm,20,male,Hispanic", "did you mean 'hispanic' for 'Hispanic'?"),
        ("p1,45,bm,20,male,\np2,45,bm,20,male,", "impossible value 45.0 (2 rows, first row 0)"),
        ("p1,45,bm,20,X7,", "or null;\ncolumn 'sex': impossible value 'X7' (row 0); allowed: male, female, or null; rows are"),
    ],
)
def test_score_of_an_impossible_value(score, row, message):
    failed(score(content=f"{HEADER}\n{row}\n"), 2, message)


def test_score_without_a_column(score):
    failed(score(content="age,sex\n19,male\n"), 2, "no column for relapse site and timing")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--interval", "2"], "interval: expected a probability"),
        (["--events", "nausea"], "events: unknown ['nausea']"),
        (["--grades", "3"], "grades: unknown ['3']"),
        (["--format", "xml"], "'xml' is not one of"),
        (["--new-levels", "maybe"], "'maybe' is not one of"),
        (["--unheard-of"], "No such option"),
    ],
)
def test_score_with_wrong_options(score, options, message):
    failed(score(*options), 2, message)


@pytest.mark.parametrize("name", ["patients.xlsx", "patients"])
def test_score_of_another_kind_of_file(tmp_path, name):
    (tmp_path / name).write_text(PATIENTS)
    failed(run("score", "aall1331", tmp_path / name), 2, "must end in .csv or .parquet")


def test_score_of_a_parquet_file_that_is_none(tmp_path):
    (tmp_path / "patients.parquet").write_text(PATIENTS)
    failed(run("score", "aall1331", tmp_path / "patients.parquet"), 2, "cannot be read as parquet")


def test_score_of_a_folder_named_like_a_file(tmp_path):
    (tmp_path / "patients.csv").mkdir()
    failed(run("score", "aall1331", tmp_path / "patients.csv"), 2, "is a folder")


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe\x01" * 50], ids=["empty", "binary"])
def test_score_of_a_csv_file_that_is_none(tmp_path, content):
    (tmp_path / "patients.csv").write_bytes(content)
    result = run("score", "aall1331", tmp_path / "patients.csv")
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_error_of_the_installed_command_is_one_line(tmp_path):
    arguments = [*COMMAND, "score", "aall1331", str(tmp_path / "nowhere.csv")]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith("Error: PATIENTS: no file")
    assert "Traceback" not in result.stderr


# score: files in and out.


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_output_file_has_the_printed_risks(score, tmp_path, kind):
    expected = json.loads(score("--format", "json").stdout)
    out = tmp_path / f"scored.{kind}"
    assert score(out).exit_code == 0
    found = read_rows(out)
    assert [list(row) for row in found] == [list(row) for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row["sepsis_g3_risk"] == pytest.approx(other["sepsis_g3_risk"], abs=1e-12)
        assert row["sepsis_support"] == other["sepsis_support"]


def test_parquet_in_gives_the_same_risks(score, patients, tmp_path):
    expected = json.loads(score("--format", "json").stdout)
    with duckdb.connect() as connection:
        connection.read_csv(str(patients)).write_parquet(str(tmp_path / "patients.parquet"))
    result = run("score", "aall1331", tmp_path / "patients.parquet", "--format", "json")
    assert [added(row) for row in json.loads(result.stdout)] == [added(row) for row in expected]


def added(row):
    """What scoring adds; CSV cells stay as they were written, Parquet has numbers."""
    return {name: value for name, value in row.items() if name.endswith(("_risk", "_lower", "_upper", "_support"))}


def test_rows_keep_their_order(score, tmp_path):
    rows = [f"p{i},{1 + i % 30},bm,20,female,hispanic" for i in range(5000)]
    out = tmp_path / "scored.csv"
    assert score(out, "--events", "sepsis", content="\n".join([HEADER, *rows])).exit_code == 0
    assert [row["id"] for row in read_rows(out)] == [f"p{i}" for i in range(5000)]


def test_output_file_is_announced_on_stderr_only(score, tmp_path):
    result = score(tmp_path / "scored.csv")
    assert result.stdout == ""
    assert "3 patients scored" in result.stderr


ODD = "p4,45,bm,40,male,\np5,8,bm,40,male,Hispanic\np6,8,bm,40,male,Hispanic\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "3 of 6 patients {}; 3 invalid (age_band 1, race_ethnicity 2)."),
        (
            ["--new-levels", "sample"],
            "5 of 6 patients {}; 1 invalid (age_band 1); with a level the publication does not have: race_ethnicity 2.",
        ),
    ],
)
@pytest.mark.parametrize("where", ["file", "table", "json", "cohort", "cohort file"])
def test_patients_that_are_left_out_are_counted_on_stderr(score, tmp_path, options, said, where):
    out = tmp_path / "out.csv"
    target, done = {
        "file": ([out], f"scored into {out}"),
        "table": ([], "scored"),
        "json": (["--format", "json"], "scored"),
        "cohort": (["--cohort"], "counted"),
        "cohort file": ([out, "--cohort"], "counted"),
    }[where]
    result = score(*target, "--events", "sepsis", "--on-invalid", "null", *options, content=PATIENTS + ODD)
    assert result.exit_code == 0
    assert said.format(done) in result.stderr.splitlines()


def test_what_is_missing_is_always_said_and_nothing_else_where_there_is_nothing(score):
    missing = "3 patients scored.\nMissing, and averaged over: age_band 1, relapse_group 1, sex 1, race_ethnicity 1.\n"
    assert score("--events", "sepsis").stderr == missing
    assert score("--events", "sepsis", "--on-invalid", "null", content="\n".join(PATIENTS.splitlines()[:2])).stderr == ""


def test_score_says_of_which_grades_the_support_is_if_of_more_than_one(score):
    both, one = (score("--events", "any_ae", *options).stdout for options in ([], ["--grades", "3-5"]))
    assert "support shown is the weakest of grades 3-5 and 4-5; --grades 3-5" in " ".join(both.split())
    assert "weakest" not in one


def test_an_existing_output_file_is_replaced_as_the_help_says(score, tmp_path):
    out = tmp_path / "scored.csv"
    out.write_text("old")
    assert score(out, "--events", "sepsis").exit_code == 0
    assert len(read_rows(out)) == 3
    assert "existing file OUT is replaced" in " ".join(run("score", "--help").output.split())


def test_the_input_file_itself_is_refused_as_output(score, patients, tmp_path):
    link = tmp_path / "link.csv"
    link.symlink_to(patients)
    for out in (patients, link):
        failed(score(out), 2, "is the file of patients itself")
    assert patients.read_text() == PATIENTS


FORMULAS = ["=1+2", "+cmd", "-2+3", "@SUM(1)", "\t=1"]


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas_in_text_are_neutralised_in_csv(score, tmp_path, formula):
    score(tmp_path / "scored.csv", "--events", "sepsis", content=PATIENTS.replace("p1", formula))
    with (tmp_path / "scored.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["id"] == f"'{formula}"


@pytest.mark.parametrize("formula", FORMULAS[:4])
def test_formulas_in_text_stay_as_they_are_in_parquet(score, tmp_path, formula):
    score(tmp_path / "scored.parquet", "--events", "sepsis", content=PATIENTS.replace("p1", formula))
    assert read_rows(tmp_path / "scored.parquet")[0]["id"] == formula


def test_formulas_in_text_are_neutralised_in_printed_csv(score):
    rows = printed_csv(score("--format", "csv", "--events", "sepsis", content=PATIENTS.replace("p1", "=1+2")).stdout)
    assert rows[0]["id"] == "'=1+2"


def test_negative_numbers_are_no_formulas(score, tmp_path):
    content = "\n".join(
        f"{line},{extra}" for line, extra in zip(PATIENTS.splitlines(), ["base_excess", -2.5, 1, ""], strict=True)
    )
    score(tmp_path / "scored.csv", "--events", "sepsis", content=content)
    assert read_rows(tmp_path / "scored.csv")[0]["base_excess"] == -2.5


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "BOM"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_delimiter_of_csv_is_found_and_kept(score, patients, tmp_path, delimiter, start, end):
    patients.write_bytes((start + PATIENTS).replace(",", delimiter).replace("\n", end).encode())
    assert score(tmp_path / "scored.csv", "--events", "sepsis").exit_code == 0
    with (tmp_path / "scored.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=delimiter))
    assert [row["id"] for row in rows] == ["p1", "p2", "p3"]
    assert all(0 < float(row["sepsis_g3_risk"]) < 1 for row in rows)


CELLS = ["01", "1.50", "1e3", " x ", 'he said "no"', "two\nlines", "a,b;c", "-3", "caf\u00e9", "x'y", "2020-02-30"]


def test_cells_come_out_of_csv_as_they_went_in(score, tmp_path):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [["own", *HEADER.split(",")[1:]], *([cell, 19, "bm", 20, "male", ""] for cell in CELLS)]
    )
    for out in ("scored.csv", "scored.parquet"):
        result = score(tmp_path / out, "--events", "sepsis", content=text.getvalue())
        assert result.exit_code == 0, result.output
    with (tmp_path / "scored.csv").open(newline="", encoding="utf-8") as file:
        assert [row["own"] for row in csv.DictReader(file)] == CELLS
    assert [row["own"] for row in read_rows(tmp_path / "scored.parquet")] == CELLS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PATIENTS.encode("utf-16"), "is not in UTF-8 (line 1): save it as CSV in UTF-8"),
        (PATIENTS.replace("p1", "caf\u00e9").encode("latin-1"), "is not in UTF-8 (line 2)"),
        ((PATIENTS + "p4,19,bm\n").encode(), "line 5 has 3 cells, the first line 6"),
        ((PATIENTS + "p4,19,bm,20,male,hispanic,more\n").encode(), "line 5 has 7 cells, the first line 6"),
        ((PATIENTS + '"p4,19,bm,20,male,hispanic\n').encode(), "line 5: unterminated quote"),
        (PATIENTS.replace("id,", "age,", 1).encode(), "several columns named ['age']"),
        (PATIENTS.replace("id,", "AGE,", 1).encode(), "several columns named ['age']"),
        (b"", "it is empty"),
    ],
    ids=["UTF-16", "Latin-1", "short row", "long row", "open quote", "same name", "same name in capitals", "empty"],
)
def test_csv_that_cannot_be_read_is_answered_in_one_line(score, patients, tmp_path, content, message):
    patients.write_bytes(content)
    result = score(tmp_path / "scored.csv")
    failed(result, 2, message)
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["patients.csv"]


def test_latin1_after_the_first_line_is_answered_in_one_line(score, patients, tmp_path):
    """Beyond what is read to find the delimiter."""
    rows = [f"p{i},19,bm,20,male,hispanic" for i in range(60_000)]
    patients.write_bytes("\n".join([HEADER, *rows, "caf\u00e9,19,bm,20,male,", ""]).encode("latin-1"))
    failed(score(tmp_path / "scored.csv"), 2, "is not in UTF-8 (line 60002)")


def test_first_column_without_a_name(score, tmp_path):
    """As pandas writes its index: kept in CSV; DuckDB, which writes Parquet, knows no such name."""
    for form, name in (("csv", ""), ("parquet", "column0")):
        scored = tmp_path / f"scored.{form}"
        assert score(scored, "--events", "sepsis", content=PATIENTS.replace("id,", ",", 1)).exit_code == 0
        rows = read_rows(scored) if form == "parquet" else list(csv.DictReader(scored.read_text().splitlines()))
        assert [row[name] for row in rows] == ["p1", "p2", "p3"]


def test_names_of_files_are_no_patterns(score, patients, tmp_path):
    other = tmp_path / "patients[1]*.csv"
    other.write_text(PATIENTS, encoding="utf-8")
    assert run("score", "aall1331", other, tmp_path / "it's.parquet", "--events", "sepsis").exit_code == 0
    assert len(read_rows(tmp_path / "it's.parquet")) == 3


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_interrupted_scoring_leaves_nothing_behind(tmp_path, kind):
    """Ctrl-C while the file is written."""
    path = tmp_path / f"patients.{kind}"
    with duckdb.connect() as connection:
        row = "SELECT i, 12.0 AS age, 'bm' AS relapse_site, 20.0 AS months_to_relapse, 'male' AS sex, 'hispanic' AS race_ethnicity"
        patients = connection.sql(f"{row} FROM range({5_000_000 if kind == 'parquet' else 500_000}) t(i)")
        getattr(patients, f"write_{kind}")(str(path))
    command = [*COMMAND, "score", "aall1331", str(path), str(tmp_path / "scored.csv")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob(".writing-*/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (130, f"{INTERRUPTED}\n")
    assert list(tmp_path.iterdir()) == [path]


# score: cohorts.


def test_cohort_is_printed(score):
    result = score("--cohort", "--events", "sepsis")
    assert result.exit_code == 0, result.output
    assert "Patients expected to have each event" in result.stdout
    assert "90% predictive interval" in result.stdout


def test_cohort_by_column_agrees_with_the_package(score, shipped):
    rows = json.loads(score("--by", "id", "--events", "sepsis", "--format", "json").stdout)
    table = pa.table(
        {name: [row.get(name) or None for row in csv.DictReader(io.StringIO(PATIENTS))] for name in HEADER.split(",")}
    )
    assert rows == aemodel.score_cohort(shipped, table, by="id", events=["sepsis"]).to_pylist()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_cohort_is_written(score, tmp_path, kind):
    out = tmp_path / f"expected.{kind}"
    assert score(out, "--by", "sex", "--grades", "4-5", "--events", "sepsis").exit_code == 0
    assert [(row["sex"], row["patients"]) for row in read_rows(out)] == [("female", 1), ("male", 1), (None, 1)]


def test_cohort_by_an_unknown_column(score):
    failed(score("--by", "site"), 2, "by: no column 'site' to group by; columns are ")


def test_odd_column_names_survive(score, tmp_path):
    content = PATIENTS.replace("id,", '"a ""b"", c",', 1)
    assert score(tmp_path / "scored.csv", "--events", "sepsis", content=content).exit_code == 0
    with (tmp_path / "scored.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.reader(file))[0] == 'a "b", c'


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_no_output_file_after_bad_input(score, tmp_path, kind):
    result = score(tmp_path / f"scored.{kind}", content=f"{HEADER}\np1,45,bm,20,male,\n")
    assert result.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["patients.csv"]


def test_output_into_a_missing_folder(score, tmp_path):
    failed(score(tmp_path / "nowhere" / "scored.csv"), 2, "cannot be written")


def test_a_model_whose_sampler_failed_does_not_score_in_silence(score, shipped, monkeypatch):
    failing = Diagnostics(**{**shipped.manifest["diagnostics"], "divergences": 3})
    monkeypatch.setattr(type(shipped), "diagnostics", failing)
    result = score("--events", "sepsis")
    assert result.exit_code == 0
    assert "Note: this model's sampler failed its checks (3 divergent transitions" in result.stderr


def test_output_of_another_kind(score, tmp_path):
    failed(score(tmp_path / "scored.xlsx"), 2, "Error: OUT: ")


def test_invalid_rows_can_be_kept(score, tmp_path):
    out = tmp_path / "scored.parquet"
    assert score(out, "--on-invalid", "null", content=PATIENTS + "p4,45,bm,20,male,\n").exit_code == 0
    assert [row["sepsis_support"] == "invalid" for row in read_rows(out)] == [False, False, False, True]


def test_new_levels_can_be_sampled(score):
    rows = json.loads(score("--new-levels", "sample", "--format", "json", content=f"{HEADER}\np1,,,,,martian\n").stdout)
    assert rows[0]["sepsis_support"] == "prior"


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_file_without_patients(score, form):
    assert score("--format", form, content=HEADER + "\n").exit_code == 0


def test_one_column_of_empty_cells(score):
    rows = "\n".join(f"p{i},19,bm,20,," for i in range(3))
    result = score("--format", "json", content=f"{HEADER}\n{rows}\n")
    assert result.exit_code == 0, result.output


# fit.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "-1"], "seed: expected zero or more, not -1"),
        (["--draws", "0"], "draws: expected 4 or more, not 0"),
        (["--chains", "a"], "'a' is not a valid integer"),
    ],
)
def test_fit_with_wrong_options(tmp_path, options, message):
    result = run("fit", "--out", tmp_path / "model", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_fit_with_wrong_options_makes_no_folder(tmp_path):
    run("fit", "--out", tmp_path / "model", "--draws", "0")
    assert not (tmp_path / "model").exists()


def test_fit_needs_a_place_for_the_model():
    failed(run("fit"), 2, "Missing option '--out'")


def test_fit_does_not_start_where_it_could_not_save(tmp_path, monkeypatch):
    """Minutes of sampling would be lost."""
    from aemodel.inference import fitting

    def fail(*_, **__):
        raise AssertionError("sampling started")

    (tmp_path / "thesis.txt").write_text("years of work")
    monkeypatch.setattr(fitting, "fit", fail)
    result = run("fit", "--out", tmp_path)
    assert result.exit_code == 2
    assert "holds something that is not a saved model" in result.stderr


# Terminals.


ORDERS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.parametrize(("command", "columns"), [("tables", 80), ("score", 60), ("score", 80)])
def test_tables_fit_the_terminal_and_lose_nothing(patients, command, columns):
    arguments = [command, *(["aall1331", patients] if command == "score" else [])]
    shown = ORDERS.sub("", in_terminal(arguments, columns))
    assert max(map(len, shown.partition("patients scored")[0].splitlines())) <= columns
    assert "\u2026" not in shown
    if columns >= 80:
        expected = ("167 (54.2%)", "480 (72.6%)") if command == "tables" else ("0.0%", "pooled", "Patient 3:")
        assert all(text in shown for text in expected)


def test_wide_terminals_have_each_row_on_one_line(aall1331):
    shown = ORDERS.sub("", in_terminal(["tables"], 120)).splitlines()
    rows = [line for line in shown if line.startswith(tuple(event.name + " " for event in aall1331.events))]
    pairs = aall1331.frequencies[["event", "covariate", "level"]].drop_duplicates()
    assert len(rows) == len(pairs)


def test_terminals_have_bold_headings_and_no_colour_when_asked(patients):
    assert "\x1b[1m" in in_terminal(["score", "aall1331", patients])
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", in_terminal(["score", "aall1331", patients], NO_COLOR="1"))


def test_waiting_is_shown_in_a_terminal_and_gone_afterwards():
    """In a process and a terminal of its own."""
    code = "import time\nfrom aemodel.scoring.progress import waiting\nwith waiting('Boiling'):\n    time.sleep(0.5)\n"
    child = pexpect.spawn(
        sys.executable, ["-c", code], env=os.environ | {"TERM": "xterm-256color"}, encoding="utf-8", timeout=60
    )
    child.expect(pexpect.EOF)
    assert "Boiling" in child.before
    assert "0:00:0" in child.before


def test_values_left_out_or_taken_for_new_levels_are_named(tmp_path):
    """What a file's coding has lost is told with the counts, whatever the options."""
    path = tmp_path / "odd.csv"
    rows = ["12,male,bm,20,White", "12,M,bm,20,hispnic", ",female,iem,,hispanic"]
    path.write_text("\n".join(["age,sex,relapse_site,months_to_relapse,race_ethnicity", *rows, ""]))
    options = ["--on-invalid", "null", "--events", "sepsis"]
    sampled = run("score", "aall1331", path, tmp_path / "out.csv", *options, "--new-levels", "sample")
    assert sampled.stderr.splitlines() == [
        f"2 of 3 patients scored into {tmp_path / 'out.csv'}; 1 invalid (sex 1); "
        "with a level the publication does not have: race_ethnicity 2.",
        "Missing, and averaged over: age_band 1, relapse_group 1.",
        "column 'sex': impossible value 'M' (row 1); allowed: male, female, or null",
        "column 'race_ethnicity': taken for new levels: 'White' (row 0), 'hispnic' (row 1); "
        "did you mean 'hispanic' for 'hispnic'?",
        "Rows are counted from 0.",
    ]
    grouped = run("score", "aall1331", path, *options, "--by", "sex", "--format", "json")
    none_left = [row for row in json.loads(grouped.stdout) if row["sex"] == "M"]
    assert [(row["patients"], row["support"]) for row in none_left] == [(0, "invalid")] * 2


@pytest.mark.parametrize("option", ["--events", "--grades", "--by"])
def test_options_that_name_nothing_are_refused(score, option):
    failed(score(option, " , "), 2, f"{option[2:]}: it names nothing")


@pytest.mark.parametrize(("kind", "number"), [("csv", signal.SIGTERM), ("parquet", signal.SIGTERM), ("csv", signal.SIGHUP)])
def test_termination_cleans_up_as_interruption_does(tmp_path, kind, number):
    """SIGTERM, which schedulers send, and a lost connection leave no half-written patients behind."""
    path = tmp_path / "many.csv"
    row = "12,male,bm,20,hispanic\n"
    path.write_text("age,sex,relapse_site,months_to_relapse,race_ethnicity\n" + row * 2_000_000)
    running = subprocess.Popen([*COMMAND, "score", "aall1331", str(path), str(tmp_path / f"out.{kind}")], cwd=tmp_path)
    while not list(tmp_path.glob(".writing-*/*")):
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(number)
    assert running.wait(timeout=60) == 130
    assert [each.name for each in tmp_path.iterdir()] == ["many.csv"]


SPILLING = """
from pathlib import Path
from aemodel.scoring import files, progress
with files.connect() as connection:
    [(spill,)] = connection.sql("SELECT current_setting('temp_directory')").fetchall()
    connection.execute("SET memory_limit = '100MB'; SET threads = 2")
    with progress.watched(connection, "Sorting", Path(spill)):
        connection.sql("SELECT count(x) FROM (SELECT row_number() OVER (ORDER BY sin(i)) AS x FROM range(100_000_000) t(i))").fetchall()
"""


def test_interrupted_query_ends_with_the_process_and_takes_what_it_spilled_away(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", SPILLING], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while not list(tmp_path.glob(".aemodel-*.tmp/*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, f"{INTERRUPTED}\n")
    assert not list(tmp_path.iterdir())
