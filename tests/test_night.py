"""A night in a pipeline: runs that are good, or that must not pass, what is kept of them, and what a run comes from."""

from __future__ import annotations

import json

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import aemodel
from aemodel.pages.score_command import Refused, Run
from tests.fixtures import FIXTURES, FORMATS
from tests.streams import run

LIMITS = ["--min-rows", "500", "--max-missing", "0.2", "--max-invalid", "0.01"]
EVENTS = ["--events", "sepsis,death"]


@pytest.fixture(scope="module")
def cohort(shipped):
    """Patients as the trial had them: cells by their weights."""
    risks = shipped.risks
    usual = (risks.levels < [len(c.levels) for c in risks.covariates]).all(axis=1)
    weight = np.where(usual, risks.weight, 0)
    cells = risks.levels[np.random.default_rng(1).choice(len(weight), 2000, p=weight / weight.sum())]
    names = {c.name: np.array(c.names)[cells[:, k]] for k, c in enumerate(risks.covariates)}
    months = np.where(np.char.endswith(names["relapse_group"], "early"), 10.0, 40.0)
    site = np.char.partition(names["relapse_group"], "_")[:, 0]
    frame = pd.DataFrame(names).drop(columns="relapse_group").assign(relapse_site=site, months_to_relapse=months)
    frame.loc[:99, "race_ethnicity"] = None
    return frame


NIGHT = {
    # What happens to the patients, further options, the exit code, and what is said.
    "good": (lambda frame: frame, [], 0, ["2000 patients scored into", "averaged over: race_ethnicity 100."]),
    "empty join": (
        lambda frame: frame.assign(**dict.fromkeys(frame.columns)),
        [],
        3,
        ["Nothing is known of 2000 patients", "sex is missing in 2000 of 2000 rows (100.0%), more than --max-missing 0.2"],
    ),
    "half a file": (lambda frame: frame.head(400), [], 3, ["400 rows, fewer than --min-rows 500"]),
    "months in days": (
        lambda frame: frame.assign(months_to_relapse=frame["months_to_relapse"] * 30.4),
        [],
        3,
        ["column 'months_to_relapse': impossible value 1216.0", "allowed: at least 0 and below 360", "rows are invalid ("],
    ),
    "a new group": (lambda frame: frame.replace("nh_asian", "asian"), [], 3, ["impossible value 'asian'", "are invalid"]),
    "a new group, sampled": (
        lambda frame: frame.replace("nh_asian", "asian"),
        ["--new-levels", "sample"],
        0,
        ["with a level the publication does not have: race_ethnicity", "taken for new levels: 'asian'"],
    ),
}


@pytest.mark.parametrize("what", NIGHT)
def test_a_bad_run_does_not_pass_and_is_told_apart(shipped, cohort, tmp_path, what):
    change, options, code, said = NIGHT[what]
    path, out, kept = (tmp_path / name for name in ("tonight.parquet", "scored.parquet", "run.json"))
    change(cohort).to_parquet(path)
    result = run("score", "aall1331", path, out, *EVENTS, *LIMITS, "--summary", kept, *options)
    assert (result.exit_code, out.exists()) == (code, code == 0), result.output
    assert all(text in " ".join(result.stderr.split()) for text in said), result.stderr
    summary = json.loads(kept.read_text())
    assert bool(summary.pop("refused")) == (code == 3)
    new_levels = "sample" if options else "error"
    again = aemodel.score_summary(shipped, change(cohort), events=["sepsis", "death"], new_levels=new_levels)
    assert again | {"time": ""} == summary | {"time": ""}
    drift = summary["drift"]["race_ethnicity"]
    assert {"good": drift and drift < 0.02, "a new group, sampled": drift and drift > 0.1}.get(what, True)
    if code == 0:
        about = json.loads(pq.read_metadata(out).metadata[b"aemodel"])
        assert about == {name: summary[name] for name in ("model", "digest", "version", "interval", "time")}
        assert about["digest"] == shipped.digest
        scored = pq.read_table(out).to_pandas()
        for column, mean in summary["risks"].items():
            assert mean == pytest.approx(scored[column].mean(), rel=1e-9)
        shares = scored["sepsis_support"].value_counts(normalize=True)
        assert summary["support"]["sepsis"] == pytest.approx(shares.to_dict())


@pytest.mark.parametrize("options", [[], ["--cohort"], ["--by", "sex"]], ids=str)
def test_nothing_is_refused_by_a_threshold_and_otherwise_no_cohort(cohort, tmp_path, options):
    cohort.head(0).to_csv(tmp_path / "patients.csv", index=False)
    arguments = ("score", "aall1331", tmp_path / "patients.csv", *EVENTS, *options, "--summary", tmp_path / "run.json")
    result, refused = run(*arguments), run(*arguments, "--min-rows", "1")
    said = "Error: PATIENTS: it has no rows, so no patients to count" if options else ""
    assert (result.exit_code, result.stderr.strip()) == (2 if options else 0, said)
    assert (refused.exit_code, "Error: refused: 0 rows, fewer than --min-rows 1" in refused.stderr) == (3, True)
    assert json.loads((tmp_path / "run.json").read_text())["refused"] == ["0 rows, fewer than --min-rows 1"]


def test_as_many_as_are_allowed_are_not_too_many():
    summary = {"rows": 100, "scored": 71, "columns": {"sex": {"missing": 29}}}
    Run(max_missing=0.29, max_invalid=0.29, min_rows=None, summary=None).judge(summary, lambda done: [done])
    with pytest.raises(Refused, match="29 of 100 rows"):
        Run(max_missing=0.28, max_invalid=None, min_rows=None, summary=None).judge(summary, lambda done: [done])


def test_a_publication_without_covariates_has_none_missing():
    Run(max_missing=0.1, max_invalid=0.0, min_rows=3, summary=None).judge(
        {"rows": 3, "scored": 3, "columns": {}}, lambda done: [done]
    )


def test_a_changed_model_is_told_by_its_digest(tmp_path):
    """Another seed or another fit under the same name: what was written says which it was."""
    model = aemodel.load_model(FIXTURES / f"format{FORMATS[-1]}")
    frame = pd.DataFrame({c.name: [c.names[0]] for c in model.risks.covariates})
    frame.to_csv(tmp_path / "patients.csv", index=False)
    out = tmp_path / "counted.parquet"
    result = run("score", FIXTURES / f"format{FORMATS[-1]}", tmp_path / "patients.csv", out, "--cohort")
    assert result.exit_code == 0, result.output
    about = json.loads(pq.read_metadata(out).metadata[b"aemodel"])
    facts = json.loads(run("show", FIXTURES / f"format{FORMATS[-1]}", "--format", "json").stdout)
    assert about["digest"] == facts["digest"] != aemodel.load_model("aall1331").digest


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_reasons_and_the_schema_name_what_is_written(cohort, tmp_path, kind):
    path, out = tmp_path / "patients.csv", tmp_path / f"scored.{kind}"
    cohort.head(3).assign(age_band=["young", "1-9", "1-9"], sex=["male", "x", "male"]).to_csv(path, index=False)
    options = [*EVENTS, "--grades", "4-5", "--reasons"]
    assert run("score", "aall1331", path, out, *options, "--on-invalid", "null").exit_code == 0
    scored = pd.read_csv(out) if kind == "csv" else pd.read_parquet(out)
    assert scored["invalid_reason"].fillna("").tolist() == ["age_band", "sex", ""]
    assert (scored["sepsis_support"] == "invalid").tolist() == [True, True, False]
    columns = json.loads(run("schema", "aall1331", "--format", "json").stdout)
    assert len(columns) == 11 * 7 + 1
    columns = [column for column in columns if column["column"] in scored]
    assert [column["column"] for column in columns] == list(scored.columns[len(cohort.columns) :])
    with duckdb.connect() as connection:
        types = dict(zip(scored.columns, connection.sql(f"FROM '{out}'").types, strict=True))
    kinds = {"double": "DOUBLE", "text": "VARCHAR"}
    assert [str(types[column["column"]]) for column in columns] == [kinds[column["type"]] for column in columns]


def test_data_that_cannot_be_used_are_no_wrong_usage(cohort, tmp_path):
    cohort.head(3).assign(sex="x").to_csv(tmp_path / "patients.csv", index=False)
    result = run("score", "aall1331", tmp_path / "patients.csv")
    assert (result.exit_code, result.stderr.splitlines()[0][:15]) == (2, "Error: PATIENTS")
    usage = run("score", "aall1331", tmp_path / "patients.csv", "--by", "sex", "--reasons")
    assert (usage.exit_code, "Usage: " in usage.stderr) == (2, True)
