"""`score_cohort`: expected numbers of patients with each event, against brute force, on every engine."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import aemodel
from aemodel.serving.cohort import cohort_counts
from tests.test_engines import Engines, random_patients

SITES = ["B", "A", None]


@pytest.fixture(scope="module")
def shipped():
    return aemodel.load_model("aall1331")


@pytest.fixture(scope="module")
def patients():
    table = random_patients(300)
    return table.append_column("site", pa.array([SITES[i % 3] for i in range(300)]))


@pytest.fixture(params=Engines.names)
def engine(request):
    return request.param


def test_expected_number_is_the_sum_of_risks(shipped, patients):
    scored = aemodel.score(shipped, patients.to_pandas())
    for row in aemodel.score_cohort(shipped, patients).to_pylist():
        total = scored[f"{row['event']}_g{row['grade'][0]}_risk"].sum()
        assert (row["patients"], row["expected"]) == (300, pytest.approx(total, rel=1e-6))


def test_interval_is_that_of_simulated_patients(shipped, patients):
    """Every patient's outcome drawn one by one, 20 times for each posterior draw; a few standard errors apart at most."""
    draws = aemodel.posterior_epred(shipped, patients.to_pandas()).sel(event="infections", grade="3-5").to_numpy()
    draws = draws.reshape(-1, patients.num_rows)
    rng = np.random.default_rng(2)
    counts = np.concatenate([(rng.random(draws.shape) < draws).sum(axis=1) for _ in range(20)])
    row = aemodel.score_cohort(shipped, patients, events=["infections"], grades=["3-5"], seed=3).to_pylist()[0]
    # A 5 % quantile of 1,000 values has a standard error of 0.067 standard deviations.
    tolerance = 4 * 0.067 * counts.std() + 1
    assert abs(row["lower"] - np.quantile(counts, 0.05)) < tolerance
    assert abs(row["upper"] - np.quantile(counts, 0.95)) < tolerance
    only_parameters = np.quantile(draws.sum(axis=1), [0.05, 0.95])
    assert row["upper"] - row["lower"] > only_parameters[1] - only_parameters[0]


def test_groups_are_cohorts_of_their_own(shipped, patients):
    frame = patients.to_pandas()
    together = aemodel.score_cohort(shipped, frame, by="site", events=["sepsis"])
    alone = aemodel.score_cohort(shipped, frame[frame["site"] == "A"], events=["sepsis"])
    found = together[together["site"] == "A"].reset_index(drop=True)
    np.testing.assert_allclose(found["expected"], alone["expected"], rtol=1e-9)
    assert list(found["patients"]) == [100, 100]


def test_groups_come_in_order_missing_ones_last(shipped, patients):
    found = aemodel.score_cohort(shipped, patients, by="site", events=["sepsis"], grades=["3-5"])
    assert found["site"].to_pylist() == ["A", "B", None]


def test_groups_by_several_columns(shipped, patients):
    found = aemodel.score_cohort(shipped, patients, by=["site", "sex"], events=["sepsis"], grades=["3-5"])
    assert found.num_rows == 9
    assert sum(found["patients"].to_pylist()) == 300


def test_engines_agree(request, tmp_path, engine, shipped, patients):
    engines = Engines(request, tmp_path)
    found = aemodel.score_cohort(shipped, engines.make(engine, patients), by="site", events=["sepsis"])
    found = engines.arrow({"polars lazy": "polars", "dask": "pandas"}.get(engine, engine), found)
    exact = aemodel.score_cohort(shipped, patients, by="site", events=["sepsis"])
    assert (
        found.column_names
        == exact.column_names
        == ["site", "event", "grade", "patients", "expected", "lower", "upper", "support"]
    )
    for row, other in zip(found.to_pylist(), exact.to_pylist(), strict=True):
        assert row | {"expected": 0} == other | {"expected": 0}
        assert row["expected"] == pytest.approx(other["expected"], abs=1e-9)


def test_kind_of_table_is_the_callers(shipped, patients):
    assert isinstance(aemodel.score_cohort(shipped, patients.to_pandas()), pd.DataFrame)
    assert isinstance(aemodel.score_cohort(shipped, pl.from_arrow(patients).lazy()), pl.DataFrame)


def test_same_seed_same_table(shipped, patients):
    tables = [aemodel.score_cohort(shipped, patients, seed=seed) for seed in (1, 1, 2)]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_support_is_that_of_half_of_the_patients(shipped):
    """By race alone, an answer is prior; by age it is data."""
    row = {"age_band": "1-9", "relapse_group": None, "sex": None, "race_ethnicity": None}
    other = row | {"age_band": None, "race_ethnicity": "hispanic"}
    flags = []
    for rows in ([row, row, other], [row, other, other]):
        table = pa.Table.from_pylist(rows)
        kinds = set(aemodel.score(shipped, table, events=["hyperglycemia"])["hyperglycemia_support"].to_pylist())
        flags.append(aemodel.score_cohort(shipped, table, events=["hyperglycemia"], grades=["3-5"])["support"][0].as_py())
    assert len(kinds) == 2
    assert flags[0] == "data" != flags[1]


def test_invalid_patients_are_refused_or_left_out(shipped, patients):
    frame = patients.to_pandas()
    frame.loc[0, "sex"] = "X7"
    with pytest.raises(ValueError, match=r"column 'sex': impossible value 'X7' \(row 0\)"):
        aemodel.score_cohort(shipped, frame)
    assert set(aemodel.score_cohort(shipped, frame, on_invalid="null")["patients"]) == {299}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "hospital"}, "by: no column 'hospital' to group by; columns are "),
        ({"by": "id"}, "by: more than 1000 groups by id"),
        ({"interval": 2.0}, "interval: expected a probability"),
        ({"seed": -1}, "seed: expected a whole number"),
        ({"events": ["nausea"]}, "events: unknown"),
    ],
)
def test_wrong_options_are_refused(shipped, options, message):
    table = random_patients(1500)
    with pytest.raises(ValueError, match=message):
        aemodel.score_cohort(shipped, table, **options)


def test_cohort_without_patients_is_refused(shipped, patients):
    with pytest.raises(ValueError, match="frame: it has no rows"):
        aemodel.score_cohort(shipped, patients.slice(0, 0))


@pytest.mark.parametrize("grades", [("3-5", "4-5"), ("4-5", "3-5")])
def test_grades_nest_in_every_simulated_cohort(shipped, patients, grades):
    """Grade 4-5 is part of 3-5, draw by draw; each grade by itself is binomial."""
    risks = shipped.risks.of(list(shipped.risks.events), list(grades))
    sets = np.array([[1] * len(risks.covariates), [covariate.everything for covariate in risks.covariates]])
    expected, simulated = cohort_counts(risks, sets, np.array([[7, 30]]), np.random.default_rng(1))
    broad, severe = (simulated[0][..., grades.index(grade)] for grade in ("3-5", "4-5"))
    assert (severe <= broad).all()
    assert (severe < broad).any()
    draws = risks.risks(sets).astype(float)
    p, n = draws.transpose(0, 2, 3, 1), np.array([7, 30])
    spread = (p * (1 - p) * n).sum(axis=-1).mean(axis=0) + (p * n).sum(axis=-1).var(axis=0)
    np.testing.assert_allclose(simulated[0].mean(axis=0), expected[0], atol=4 * np.sqrt(spread.max() / len(p)))
    np.testing.assert_allclose(simulated[0].std(axis=0), np.sqrt(spread), rtol=0.2)
