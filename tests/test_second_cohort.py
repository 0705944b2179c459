"""What leaves a house instead of its patients: a model as a lookup table, and a cohort as counts that a model is checked on."""

from __future__ import annotations

from collections import defaultdict
from itertools import product

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

import aemodel
from aemodel.publication.schema import Covariate, Level
from aemodel.scoring.exports import bits_of, cumulated, fewest, hidden, name_of
from tests.streams import run

EVENTS = ("infections", "sepsis", "hyperglycemia")


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output


# The lookup table.

LOOK_UP = """
SELECT p.id, l.event, l.grade, l.risk, l.lower, l.upper, l.support, l.published
FROM patients AS p JOIN lookup AS l
  ON l.age_band IS NOT DISTINCT FROM p.age_band AND l.relapse_group IS NOT DISTINCT FROM p.relapse_group
 AND l.sex IS NOT DISTINCT FROM p.sex AND l.race_ethnicity IS NOT DISTINCT FROM p.race_ethnicity
ORDER BY p.id, l.event, l.grade
"""


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_sql_on_the_exported_table_answers_as_score_does_for_every_profile(shipped, tmp_path, kind):
    path, covariates = tmp_path / f"lookup.{kind}", shipped.risks.covariates
    done("export", "aall1331", path, "--interval", "0.8")
    profiles = list(product(*([*c.names, None] for c in covariates)))
    patients = pd.DataFrame(profiles, columns=[c.name for c in covariates], dtype=object).assign(id=range(len(profiles)))
    assert len(patients) == 420
    with duckdb.connect() as connection:
        connection.register("patients", patients)
        connection.execute(f"CREATE VIEW lookup AS FROM '{path}'")
        found = connection.execute(LOOK_UP).df()
    assert len(found) == 420 * 22
    for (event, grade), answers in found.groupby(["event", "grade"]):
        scored = aemodel.score(shipped, patients, events=[event], grades=[grade], interval=0.8)
        prefix = f"{event}_g{grade[0]}"
        for what in ("risk", "lower", "upper"):
            np.testing.assert_allclose(answers[what], scored[f"{prefix}_{what}"], rtol=0, atol=1e-12)
        assert list(answers["support"]) == list(scored[f"{event}_support"])
        assert set(answers["published"]) == {(event, grade) != ("febrile_neutropenia", "4-5")}


# Counts by profile.


@pytest.mark.parametrize("names", [("<60", "60+", "70+"), ("a", "b", "c")])
def test_sets_of_levels_are_read_as_they_were_written(names):
    covariate = Covariate("age", "Age", open=False, levels=tuple(Level(name, name) for name in names))
    for bits in range(1, 8):
        assert bits_of(covariate, name_of(covariate, bits)) == bits
    assert name_of(covariate, 3) == (f"{names[0]} + {names[1]}" if "+" in "".join(names) else "a+b")


@pytest.mark.parametrize("smallest", [5, 6, 7])
def test_no_small_cell_can_be_worked_out_from_what_is_written(smallest):
    """By somebody who knows how it was made: all tables of three cells that would be written alike are compared."""
    alike = defaultdict(list)
    for cells in product(range(4 * smallest + 1), repeat=3):
        counts = np.array(cells)
        if fewest(3, smallest) <= counts.sum() <= 4 * smallest:
            low, high = hidden(counts, smallest)
            assert (low <= counts).all()
            assert (counts <= high).all()
            written = tuple(cumulated(counts, low, high))
            assert all(a <= counts[i:].sum() <= b for i, (a, b) in enumerate(written, start=1))
            alike[(counts.sum(), written)].append(cells)
    assert len(alike) > 50
    for tables in alike.values():
        for column in zip(*tables, strict=True):
            assert len(set(column)) > 1 or not 0 < column[0] < smallest, tables


def cohort(model, rng, patients, intercept=0.0, slope=1.0):
    """Patients of a second cohort, whose log odds are those of the model, changed."""
    risks = model.risks.of(EVENTS, model.risks.grades)
    sets = np.array([1 << rng.integers(0, len(c.levels), patients) for c in risks.covariates]).T
    sets[rng.random(patients) < 0.1, 3] = risks.covariates[3].everything
    profiles, which = np.unique(sets, axis=0, return_inverse=True)
    true = expit(intercept + slope * logit(risks.summary(profiles, 0.9)[0]))[which]
    names = {
        c.name: [None if bits == c.everything else c.names[int(bits).bit_length() - 1] for bits in sets[:, k]]
        for k, c in enumerate(risks.covariates)
    }
    chance = rng.random((patients, len(EVENTS)))
    grades = np.where(chance < true[..., 1], 4, np.where(chance < true[..., 0], 3, 0))
    return pd.DataFrame(names | {event: grades[:, e] for e, event in enumerate(EVENTS)})


def counted(frame, tmp_path, *options, kind="csv"):
    frame.to_csv(tmp_path / "cohort.csv", index=False)
    done("profiles", "aall1331", tmp_path / "cohort.csv", tmp_path / f"counts.{kind}", *options)
    read = pd.read_csv if kind == "csv" else pd.read_parquet
    return read(tmp_path / f"counts.{kind}")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_counts_are_those_of_the_cohort(shipped, tmp_path, kind):
    frame = cohort(shipped, np.random.default_rng(1), 3000)
    counts = counted(frame, tmp_path, "--smallest", "5", kind=kind)
    names = [c.name for c in shipped.risks.covariates]
    assert list(counts.columns) == [*names, "event", "grade", "n", "count_low", "count_high"]
    assert counts["n"].min() >= 13
    key = frame[names].fillna("").agg("|".join, axis=1)
    for _, row in counts.iterrows():
        mine = frame[key == "|".join(row[names].fillna(""))]
        assert len(mine) == row["n"]
        assert row["count_low"] <= (mine[row["event"]] >= int(row["grade"][0])).sum() <= row["count_high"]


def test_partly_known_patients_and_unknown_grades_are_counted_as_such(shipped, tmp_path):
    row = {"age": 12, "relapse_site": "bm", "months_to_relapse": None, "sex": "male", "race_ethnicity": None}
    frame = pd.DataFrame([row] * 14).assign(sepsis=[*[0] * 13, None])
    counts = counted(frame, tmp_path)
    assert list(counts["relapse_group"]) == ["bm_early+bm_late"] * 2
    assert counts[["n", "count_low", "count_high"]].to_numpy().tolist() == [[13, 0, 0]] * 2
    found = aemodel.validate(shipped, counts)
    assert found.slopes["slope"].isna().all()
    risk = aemodel.score(shipped, frame.head(1), events=["sepsis"])["sepsis_g3_risk"].item()
    assert found.table.iloc[0]["expected"] == pytest.approx(13 * risk, rel=1e-5)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("sepsis", "severe", "column 'sepsis': impossible grade 'severe'; allowed: a whole number from 0 to 5"),
        ("age", 77, "column 'age': impossible value 77.0"),
        ("sepsis", None, "no outcome is known; give worst grades in columns named as events"),
    ],
)
def test_patients_that_cannot_be_counted_are_refused(tmp_path, column, value, message):
    frame = pd.DataFrame([{"age": 12, "relapse_group": "bm_late", "sex": "male", "race_ethnicity": None, "sepsis": 0}])
    frame = frame.drop(columns=column) if value is None else frame.assign(**{column: value})
    frame.to_csv(tmp_path / "cohort.csv", index=False)
    result = run("profiles", "aall1331", tmp_path / "cohort.csv", tmp_path / "c.csv")
    assert (result.exit_code, message in result.stderr) == (2, True), result.output


# A model checked on them.


@pytest.mark.parametrize(("intercept", "slope"), [(0.0, 1.0), (-0.4, 0.6)], ids=["right", "too far apart"])
def test_a_known_miscalibration_is_found_within_its_interval(shipped, tmp_path, intercept, slope):
    """Of six 99 % intervals at most one misses the truth, in a cohort of 20,000 of whose counts the small ones are hidden."""
    counts = counted(cohort(shipped, np.random.default_rng(2), 20_000, intercept, slope), tmp_path)
    found = aemodel.validate(shipped, counts, interval=0.99)
    slopes = found.slopes
    assert len(slopes) == 2 * len(EVENTS)
    assert ((slopes["slope_lower"] < slope) & (slope < slopes["slope_upper"])).mean() >= 0.8
    assert (slopes["slope_upper"] - slopes["slope_lower"]).max() < 1
    assert (slopes["slope_upper"] < 1).any() == (slope < 1)
    np.testing.assert_allclose(slopes["intercept"][0], intercept, atol=0.1)
    table = found.table[found.table["covariate"] == "total"]
    outside = (table["observed_high"] < table["lower"]) | (table["observed_low"] > table["upper"])
    assert outside.any() == (slope < 1)
    assert (found.table.groupby(["event", "grade"]).size() == 1 + 3 + 4 + 2 + 6).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"event": "nausea"}, "counts: row 0 has an event or grade that the model has not"),
        ({"sex": "x"}, "counts: row 0 has levels that the model has not"),
        ({"count_high": 99}, "counts: row 0 has not 0 <= count_low <= count_high <= n"),
        ({"n": None}, "counts: n, count_low and count_high must be whole numbers"),
        ({}, "counts: no columns sex; `aemodel profiles` writes them"),
    ],
)
def test_counts_that_cannot_be_are_refused(shipped, change, message):
    row = {"age_band": "1-9", "relapse_group": None, "sex": "male", "race_ethnicity": None}
    row |= {"event": "sepsis", "grade": "3-5", "n": 9, "count_low": 1, "count_high": 4}
    frame = pd.DataFrame([row | change]).drop(columns=[] if change else "sex")
    with pytest.raises(ValueError, match=message):
        aemodel.validate(shipped, frame)
