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
from dataclasses import replace

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
from tests.streams import in_terminal, run

HEADER = "id,age,relapse_site,months_to_relapse,sex,race_ethnicity"
PATIENTS = f"{HEADER}\np1,19,bm,20,female,hispanic\np2,,iem,,,nh_asian\np3,8,bm,40,male,\n"
COMMAND = [sys.executable, "-W", "error", "-c", "from aemodel.cli import main; main()"]
COMMANDS = ("tables", "fit", "check", "show", "score", "schema", "export", "profiles", "calculator", "report")


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


def printed_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


def read_rows(path):
    with duckdb.connect() as connection:
        relation = connection.read_parquet(str(path)) if path.suffix == ".parquet" else connection.read_csv(str(path))
        return relation.to_arrow_table().to_pylist()


def failed(result, code, message):
    """The command ended with the code, one error with the message, and nothing on stdout."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error")]) == 1


SCORE = ["score", "aall1331", "patients.csv"]
FIT = ["fit", "--out", "model", "--patients"]
NO_MODEL = "Error: MODEL: 'nowhere' is neither the folder of a saved model nor the name of a shipped one"
REFUSED = [
    (["tables", "nowhere"], "Error: PUBLICATION: 'nowhere' is neither a folder nor a shipped publication (aall1331)"),
    *(([command, "nowhere"], NO_MODEL) for command in ("show", "check")),
    *(([command, "nowhere", "page.html"], NO_MODEL) for command in ("calculator", "report")),
    (["score", "nowhere", "patients.csv"], NO_MODEL),
    (["calculator"], "expected [MODEL] OUT, not 0 arguments"),
    (["calculator", "a", "b.html", "c"], "expected [MODEL] OUT, not 3 arguments"),
    (["calculator", "aall1331", "."], "is a folder"),
    *(([command, "aall1331", "page.txt"], "OUT: 'page.txt' must end in .html") for command in ("calculator", "report")),
    (["report", "aall1331", "page.html", "--tables", "-1"], "--tables: expected 0, or 2 or more"),
    (["report", "aall1331", "page.html", "--compare", "nowhere"], NO_MODEL),
    (["report", "aall1331"], "Missing argument 'OUT'"),
    (["score", "aall1331", "nowhere.csv"], "Error: PATIENTS: no file 'nowhere.csv'"),
    *((["score", "aall1331", name], "must end in .csv or .parquet") for name in ("patients.xlsx", "patients")),
    (["score", "aall1331", "text.parquet"], "cannot be read as parquet"),
    (["score", "aall1331", "folder.csv"], "is a folder"),
    (["score", "aall1331", "empty.csv"], "it is empty"),
    (["score", "aall1331", "binary.csv"], "is not in UTF-8"),
    (["score", "aall1331", "few.csv"], "no column for relapse site and timing"),
    ([*SCORE, "nowhere/scored.csv"], "cannot be written"),
    ([*SCORE, "scored.xlsx"], "Error: OUT: "),
    ([*SCORE, "--interval", "2"], "interval: expected a probability"),
    ([*SCORE, "--events", "nausea"], "events: unknown ['nausea']"),
    ([*SCORE, "--grades", "3"], "grades: unknown ['3']"),
    ([*SCORE, "--by", "site"], "by: no column 'site' to group by; columns are "),
    *(([*SCORE, f"--{name}", " , "], f"{name}: it names nothing") for name in ("events", "grades", "by")),
    *(([*SCORE, *wrong, "maybe"], "'maybe' is not one of") for wrong in (["--format"], ["--new-levels"])),
    ([*SCORE, "--unheard-of"], "No such option"),
    ([*SCORE, "out.csv", "--format", "json"], "--format says how to print"),
    ([*SCORE, "--max-missing", "20"], "20.0 is not in the range 0<=x<=1"),
    ([*SCORE, "--by", "sex", "--reasons"], "--reasons are those of patients"),
    (["fit", "--out", "model", "--seed", "-1"], "seed: expected zero or more, not -1"),
    (["fit", "--out", "model", "--draws", "0"], "draws: expected 4 or more, not 0"),
    (["fit", "--out", "model", "--chains", "a"], "'a' is not a valid integer"),
    (["fit"], "Missing option '--out'"),
    (["fit", "--out", "model", "--ordering", "all"], "'all' is not one of"),
    (["fit", "--out", "model", "--prior-scale", "much"], "'much' is not a valid float"),
    (["fit", "--out", "model", "--prior-scale", "0"], "prior_scale: expected a number from 0.001"),
    ([*FIT, "patients.csv"], "overlap: with patients, say 'disjoint'"),
    ([*FIT, "patients.csv", "--overlap", "partly"], "'partly' is not one of"),
    ([*FIT, "patients.xlsx", "--overlap", "subset"], "must end in .csv or .parquet"),
    ([*FIT, "no.csv", "--overlap", "subset"], "no file 'no.csv'"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_used_is_refused_in_one_line_and_nothing_is_written(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name in ("patients.csv", "patients.xlsx", "patients", "text.parquet"):
        (tmp_path / name).write_text(PATIENTS)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "binary.csv").write_bytes(b"\x00\xff\xfe\x01" * 50)
    (tmp_path / "few.csv").write_text("age,sex\n19,male\n")
    before = sorted(os.listdir(tmp_path))
    failed(run(*arguments), 2, message)
    assert sorted(os.listdir(tmp_path)) == before


# Help.


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS)])
def test_help_of_each_command_has_examples_on_lines_of_their_own(command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert run(*command, "-h").stdout == result.stdout
    lines = result.stdout.splitlines()
    assert not any("\\b" in line or "\b" in line for line in lines)
    first = lines.index("  Examples:") + 1
    examples = lines[first : lines.index("", first)]
    assert any(line.startswith(f"    aemodel {' '.join(command)}") for line in examples)
    assert all(line.startswith("    aemodel ") and line.count("aemodel ") == 1 for line in examples)


def test_help_tells_how_to_complete_and_to_leave_colours_out():
    text = run("--help").stdout
    assert 'eval "$(_AEMODEL_COMPLETE=bash_source aemodel)"' in text
    assert "NO_COLOR" in text
    assert set(COMMANDS) <= set(text.split())
    assert aemodel.__version__ in run("--version").stdout


def test_completion_names_the_commands():
    environment = {"_AEMODEL_COMPLETE": "bash_complete", "COMP_WORDS": "aemodel ", "COMP_CWORD": "1"}
    result = CliRunner().invoke(cli.main, [], env=environment, prog_name="aemodel")
    assert set(COMMANDS) <= {line.split(",")[-1] for line in result.stdout.splitlines()}


# tables.


def test_tables_shows_counts_and_discrepancies():
    result = run("tables")
    assert result.exit_code == 0
    assert "167 (54.2%)" in result.stdout
    assert "Discrepancies" in result.stdout
    assert "14.0" in result.stdout


def test_tables_for_programs_have_every_frequency(aall1331):
    expected = aall1331.frequencies["observed"].tolist()
    assert [row["observed"] for row in json.loads(run("tables", "--format", "json").stdout)] == expected
    assert [int(row["observed"]) for row in printed_csv(run("tables", "aall1331", "--format", "csv").stdout)] == expected


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        # 101 patients have the blood toxicity that lies in any toxicity.
        ("frequencies.csv", "240,136,count,136", "240,100,count,100", "each other: any_toxicity 3-5 total all (100)"),
        ("cohort.csv", r"region,.*\n", "", "cohort.csv: region has no row for north, south, coast; add how many"),
    ],
    ids=["nested", "no rows"],
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
def test_show_reads_every_format_and_tells_of_a_file_that_is_missing(number, tmp_path):
    folder = shutil.copytree(FIXTURES / f"format{number}", tmp_path / "model")
    next(folder.glob("posterior-*")).unlink()
    result = run("show", folder)
    assert result.exit_code == 0, result.output
    assert "An invented trial" in result.stdout
    assert f"Model: format {number}, digest" in result.stdout
    assert "cannot be read" in result.stdout


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
    """What `aemodel check` prints in each form."""
    return {form: run("check", "--format", form) for form in ("table", "json", "csv")}


def test_check_of_the_shipped_model_passes_and_is_the_calibration_table(checked, aall1331):
    assert [each.exit_code for each in checked.values()] == [0, 0, 0], checked
    assert "Sampler diagnostics passed" in checked["table"].stdout
    assert "90 % predictive interval" in checked["table"].stdout
    rows = json.loads(checked["json"].stdout)
    assert [row["observed"] for row in rows] == aall1331.frequencies["observed"].tolist()
    assert isinstance(rows[0]["tail_probability"], float)
    assert rows[0]["derived"] is False
    assert [float(row["predicted"]) for row in printed_csv(checked["csv"].stdout)] == [row["predicted"] for row in rows]


def test_check_tells_of_evidence_in_words_and_where_it_speaks_against_the_fit(model, capsys, monkeypatch):
    from aemodel.answers.calibration import calibration_table
    from aemodel.pages import checking

    row = {"event": "rash", "grade": "3-5", "covariate": "arm", "odds_ratio": 2.5}
    tests = pd.DataFrame([row | {"doubtful": True, "cause": "pooling with anemia"}, row | {"doubtful": False, "cause": ""}])
    monkeypatch.setattr(checking, "selection_table", lambda _: tests.assign(p_nonsignificant=0.1))
    checking.print_check(model, table := calibration_table(model))  # of which all were not listed
    text = " ".join(capsys.readouterr().out.split())
    assert "Evidence used beside the margins: orderings of groups" in text
    p = aemodel.ordering_table(model)["p_ordered"].iloc[0]
    assert f"Published order of region within local, any_toxicity 3-5: P {p:.2f}." in text
    assert "1 of 2 tests that were not listed have P" in text
    assert "- rash 3-5 by arm: odds ratio 2.50, P 0.10 (pooling with anemia)" in text
    stated = replace(model.tables.nulls[0], stated=True)
    for nulls, words in (((stated,), "not significant"), ((stated, model.tables.nulls[1]), "not significant or not listed")):
        checking.print_check(replace(model, tables=replace(model.tables, nulls=nulls, orderings=())), table)
        text = " ".join(capsys.readouterr().out.split())
        assert re.search(rf"margins: tests that were {words}\. 1 of 2 tests that were {words} have P", text)


@pytest.fixture
def damaged(shipped, tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    for path in shipped.folder.iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[:-1] if path.suffix == ".npz" else content)
    return folder


@pytest.mark.parametrize("command", ["show", "check", "score", "calculator"])
def test_damaged_model_and_none_fail_the_check(damaged, patients, tmp_path, command):
    more = {"score": [patients], "calculator": [tmp_path / "page.html"]}.get(command, [])
    failed(run(command, damaged, *more), 1, "bytes of the manifest")
    failed(run(command, tmp_path, *more), 1, "no saved model")


def test_model_that_failed_its_sampler_or_its_counts_fails_the_check_and_does_not_score_in_silence(
    checked, score, shipped, monkeypatch
):
    from aemodel.answers import calibration

    table = pd.DataFrame(json.loads(checked["json"].stdout))
    monkeypatch.setattr(calibration, "calibration_table", lambda _: table)

    with monkeypatch.context() as patch:
        patch.setattr(calibration, "coverage", lambda _: {"within90": 0.5})
        result = run("check", "--format", "json")
    assert (result.exit_code, "only 50% of published counts" in result.stderr) == (1, True)
    failing = Diagnostics(**{**shipped.manifest["diagnostics"], "divergences": 3, "r_hat": 1.2})
    monkeypatch.setattr(type(shipped), "diagnostics", failing)
    result = run("check", "--format", "json")
    assert result.exit_code == 1
    assert "R-hat 1.200" in result.stderr
    assert "3 divergent transitions" in result.stderr
    result = score("--events", "sepsis")
    assert result.exit_code == 0
    assert "Note: this model's sampler failed its checks (R-hat 1.200 > 1.01: chains disagree; 3 div" in result.stderr


# score: printed.


def test_score_prints_a_block_for_each_of_twenty_patients_and_counts_the_rest(score):
    result = score()
    assert result.exit_code == 0, result.output
    assert [f"Patient {number}:" in result.stdout for number in (1, 2, 3, 4)] == [True, True, True, False]
    assert "90% interval" in result.stdout
    text = score("--events", "sepsis", content="\n".join([HEADER, *[PATIENTS.splitlines()[1]] * 23])).stdout
    assert ("Patient 20:" in text, "Patient 21:" in text, "and 3 more patients" in text) == (True, False, True)


def test_what_is_printed_for_programs_is_what_the_package_answers(score, shipped):
    options = ["--interval", "0.5", "--events", "sepsis,death", "--grades", "4-5"]
    rows, chosen = (json.loads(score("--format", "json", *more).stdout) for more in ([], options))
    frame = pa.Table.from_pylist([{k: row[k] for k in HEADER.split(",")} for row in rows])
    assert rows == aemodel.score(shipped, frame).to_pylist()
    expected = aemodel.score(shipped, frame, interval=0.5, events=["sepsis", "death"], grades=["4-5"])
    assert chosen == expected.to_pylist()
    printed = printed_csv(score("--format", "csv", *options).stdout)
    assert list(printed[0]) == expected.column_names
    assert [float(row["sepsis_g4_upper"]) for row in printed] == expected["sepsis_g4_upper"].to_pylist()


# score: bad input is exit code 2 and one line.


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("p1,19,bm,20,male,martian", "score takes it with --new-levels sample"),
        ("p1,45,bm,20,X7,", "or null;\ncolumn 'sex': impossible value 'X7' (row 0); allowed: male, female, or null; rows are"),
    ],
)
def test_score_of_an_impossible_value(score, row, message):
    failed(score(content=f"{HEADER}\n{row}\n"), 2, message)


def test_error_of_the_installed_command_is_one_line(tmp_path):
    arguments = [*COMMAND, "score", "aall1331", str(tmp_path / "nowhere.csv")]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith("Error: PATIENTS: no file")
    assert "Traceback" not in result.stderr


# score: files in and out.


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


def test_the_input_file_itself_is_refused_as_output(score, patients, tmp_path):
    link = tmp_path / "link.csv"
    link.symlink_to(patients)
    for out in (patients, link):
        failed(score(out), 2, "is the file of patients itself")
    assert patients.read_text() == PATIENTS


CELLS = [
    *("01", "1.50", "1e3", " x ", 'he said "no"', "two\nlines", "a,b;c", "-3", "-2.5", "caf\u00e9", "x'y", "2020-02-30"),
    *("01/02/2020", "TRUE", "12:30", "NA", "null", "007"),
]
FORMULAS = ["=1+2", "+cmd", "-2+3", "@SUM(1)", "\t=1"]


def test_cells_come_out_as_they_went_in_but_for_formulas_in_csv(score, tmp_path):
    text, cells = io.StringIO(), [*CELLS, *FORMULAS]
    rows = [["own", *HEADER.split(",")[1:]], *([cell, 19, "bm", 20, "male", ""] for cell in cells)]
    csv.writer(text, lineterminator="\n").writerows(rows)
    for out in ("scored.csv", "scored.parquet"):
        result = score(tmp_path / out, "--events", "sepsis", content=text.getvalue())
        assert result.exit_code == 0, result.output
    printed = score("--events", "sepsis", "--format", "csv").stdout
    for found in ((tmp_path / "scored.csv").open(newline="", encoding="utf-8"), io.StringIO(printed, newline="")):
        with found as file:
            assert [row["own"] for row in csv.DictReader(file)] == [*CELLS, *(f"'{cell}" for cell in FORMULAS)]
    assert [row["own"] for row in read_rows(tmp_path / "scored.parquet")] == cells


def test_odd_names_of_columns_and_files_survive(score, tmp_path):
    """No name, as pandas writes its index: kept in CSV; DuckDB, which writes Parquet, knows no such name."""
    for form, given, name in (("csv", "", ""), ("parquet", "", "column0"), ("csv", '"a ""b"", c"', 'a "b", c')):
        scored = tmp_path / f"it's.{form}"
        assert score(scored, "--events", "sepsis", content=PATIENTS.replace("id,", f"{given},", 1)).exit_code == 0
        rows = read_rows(scored) if form == "parquet" else list(csv.DictReader(scored.read_text().splitlines()))
        assert [row[name] for row in rows] == ["p1", "p2", "p3"]
    pattern = tmp_path / "patients[1]*.csv"
    pattern.write_text(PATIENTS, encoding="utf-8")
    assert "3 patients scored" in run("score", "aall1331", pattern, tmp_path / "out.csv", "--events", "sepsis").stderr


@pytest.mark.parametrize(
    ("source", "into", "number"),
    [("csv", "csv", signal.SIGINT), ("parquet", "csv", signal.SIGTERM), ("csv", "parquet", signal.SIGHUP)],
)
def test_interrupted_scoring_leaves_nothing_behind(tmp_path, source, into, number):
    """Ctrl-C, what a scheduler sends, and a lost connection, while the file is written."""
    path = tmp_path / f"patients.{source}"
    with duckdb.connect() as connection:
        row = "SELECT i, 12.0 AS age, 'bm' AS relapse_site, 20.0 AS months_to_relapse, 'male' AS sex, 'hispanic' AS race_ethnicity"
        patients = connection.sql(f"{row} FROM range({5_000_000 if 'parquet' in (source, into) else 1_000_000}) t(i)")
        getattr(patients, f"write_{source}")(str(path))
    command = [*COMMAND, "score", "aall1331", str(path), str(tmp_path / f"scored.{into}")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while not list(tmp_path.glob(".writing-*/*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (130, f"{INTERRUPTED}\n")
    assert list(tmp_path.iterdir()) == [path]


# score: cohorts.


def test_cohort_is_printed_and_agrees_with_the_package(score, shipped):
    result = score("--cohort", "--events", "sepsis")
    assert result.exit_code == 0, result.output
    assert "Patients expected to have each event" in result.stdout
    assert "90% predictive interval" in result.stdout
    rows = json.loads(score("--by", "id", "--events", "sepsis", "--format", "json").stdout)
    given = [{name: cell or None for name, cell in row.items()} for row in csv.DictReader(io.StringIO(PATIENTS))]
    assert rows == aemodel.score_cohort(shipped, pa.Table.from_pylist(given), by="id", events=["sepsis"]).to_pylist()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_cohort_is_written(score, tmp_path, kind):
    out = tmp_path / f"expected.{kind}"
    assert score(out, "--by", "sex", "--grades", "4-5", "--events", "sepsis").exit_code == 0
    assert [(row["sex"], row["patients"]) for row in read_rows(out)] == [("female", 1), ("male", 1), (None, 1)]


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_file_without_patients(score, form):
    assert score("--format", form, content=HEADER + "\n").exit_code == 0


# fit.


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
