"""`score_cohort`: expected numbers of patients with each event, against brute force, on every engine."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import dask.dataframe as dd
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import aemodel
from aemodel.scoring.cohort import cohort_counts
from tests.test_engines import SPARK, Engines, random_patients

SITES = ["B", "A", None]


@pytest.fixture(scope="module")
def patients():
    table = random_patients(300)
    return table.append_column("site", pa.array([SITES[i % 3] for i in range(300)]))


@pytest.fixture(params=[*Engines.names[:-1], SPARK])
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


def test_groups_come_in_order_missing_ones_last_and_by_several_columns(shipped, patients):
    found = aemodel.score_cohort(shipped, patients, by="site", events=["sepsis"], grades=["3-5"])
    assert found["site"].to_pylist() == ["A", "B", None]
    found = aemodel.score_cohort(shipped, patients, by=["site", "sex"], events=["sepsis"], grades=["3-5"])
    assert (found.num_rows, sum(found["patients"].to_pylist())) == (9, 300)


BIG = 2**53
LABELS = [
    pa.array([BIG, BIG + 1, None, BIG]),
    pa.array([2**64 - 1, 2**64 - 2, None, 2**64 - 1], pa.uint64()),
    pa.array([1, 2, None, 1], pa.timestamp("ns")),
    pa.array([1, 2, None, 1], pa.timestamp("us", "Europe/Paris")),
    pa.array([1, 2, None, 1], pa.date32()),
    pa.array([b"a", b"\\x00\0", None, b"a"]),
    pa.array([Decimal("10.5"), Decimal("9.5"), None, Decimal("10.5")]),
    pa.array([1.5, 2.0, None, 1.5], pa.float32()),
    pa.array([True, False, None, True]),
    pa.array(['a"\\', "'b\n", None, "a'\x01"]),
    pa.array(["A", "a", None, "A"]).dictionary_encode(),
]


@pytest.mark.parametrize("engine", ["pandas", "polars", "polars lazy", "pyarrow", "duckdb", "dask"])
@pytest.mark.parametrize("labels", LABELS, ids=lambda labels: str(labels.type))
def test_labels_of_groups_are_kept_exactly(request, tmp_path, shipped, engine, labels):
    engines = Engines(request, tmp_path)
    table = random_patients(4).append_column("site", labels)
    nullable = {pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype(), pa.bool_(): pd.BooleanDtype()}
    frame = table.to_pandas(types_mapper=nullable.get) if engine == "pandas" else engines.make(engine, table)
    if engine == "dask":
        frame = dd.from_pandas(table.to_pandas(types_mapper=nullable.get), npartitions=2, sort=False)
    found = aemodel.score_cohort(shipped, frame, by="site", events=["sepsis"], grades=["3-5"])
    found = engines.arrow({"polars lazy": "polars", "dask": "pandas"}.get(engine, engine), found)
    given = engines.arrow(engine, frame)["site"]
    assert found["site"].type == given.type or pa.types.is_dictionary(given.type)
    plain, shown = (
        column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column for column in (given, found["site"])
    )
    distinct = pa.table({"site": plain}).group_by("site").aggregate([([], "count_all")]).sort_by("site")
    assert shown.combine_chunks().equals(distinct["site"].cast(shown.type).combine_chunks())
    assert found["patients"].to_pylist() == distinct["count_all"].to_pylist()


def labels_of(model, values):
    frame = pd.DataFrame([{"age": 9, "relapse_group": None, "sex": None, "race_ethnicity": None}] * len(values))
    frame["site"] = pd.Series(values, dtype=object)
    found = aemodel.score_cohort(model, frame, by="site", events=["sepsis"], grades=["3-5"])
    return list(zip(found["site"], found["patients"], strict=True))


def test_labels_of_several_types_are_kept_apart_and_sorted(shipped):
    values = ["101A", 101, None, 9, "101", 101, b"x", True, 1, date(2020, 1, 1)]
    groups = [(1, 1), (9, 1), (101, 2), (True, 1), (b"x", 1), (date(2020, 1, 1), 1), ("101", 1), ("101A", 1), (None, 1)]
    found = labels_of(shipped, values)
    assert [(str(value), rows) for value, rows in found] == [(str(value), rows) for value, rows in groups]
    assert labels_of(shipped, [10**400, 10**400 + 1]) == [(10**400, 1), (10**400 + 1, 1)]


@pytest.mark.parametrize("engine", ["pandas", "pandas of arrow", "pyarrow", "polars"])
def test_half_precision_makes_groups(shipped, engine):
    """Of which not every library can sort, or even tell from missing ones."""
    table = random_patients(4).append_column("site", pa.array([5, 0.5, np.nan, 5], pa.float16()))
    frame = {"pyarrow": table, "polars": pl.from_arrow(table)}.get(engine)
    if frame is None:
        frame = table.to_pandas(types_mapper=None if engine == "pandas" else pd.ArrowDtype)
    found = aemodel.score_cohort(shipped, frame, by="site", events=["sepsis"], grades=["3-5"])
    assert list(map(str, np.asarray(found["site"], dtype=float))) == ["0.5", "5.0", "nan"]
    assert list(found["patients"].to_numpy()) == [1, 2, 1]


def with_site(values):
    return random_patients(2).append_column("site", pa.array(values))


NO_GROUPS = {
    "list": lambda: with_site([[1], [2]]),
    "struct": lambda: with_site([{"a": 1}, {"a": 2}]),
    "objects": lambda: with_site([[1], [2]]).to_pandas(),
    "period": lambda: random_patients(2).to_pandas().assign(site=pd.period_range("2020", periods=2, freq="Y")),
    "polars objects": lambda: pl.from_arrow(random_patients(2)).with_columns(site=pl.Series([1, "a"], dtype=pl.Object)),
    "interval": lambda: duckdb.connect().from_arrow(random_patients(2)).project("*, INTERVAL 1 MONTH AS site"),
    "uuid": lambda: duckdb.connect().from_arrow(random_patients(2)).project("*, uuid() AS site"),
}


@pytest.mark.parametrize("frame", NO_GROUPS)
def test_values_that_make_no_groups_are_refused(shipped, frame):
    with pytest.raises(ValueError, match=r"by: column 'site' (is|holds) .* make no groups.*give it as text"):
        aemodel.score_cohort(shipped, NO_GROUPS[frame](), by="site")


def test_engines_agree(request, tmp_path, engine, shipped, patients):
    engines = Engines(request, tmp_path)
    found = aemodel.score_cohort(shipped, engines.make(engine, patients), by="site", events=["sepsis"])
    found = engines.arrow({"polars lazy": "polars", "dask": "pandas"}.get(engine, engine), found)  # the eager kind
    exact = aemodel.score_cohort(shipped, patients, by="site", events=["sepsis"])
    assert found.column_names == exact.column_names == "site event grade patients expected lower upper support".split()
    for row, other in zip(found.to_pylist(), exact.to_pylist(), strict=True):
        assert row | {"expected": 0} == other | {"expected": 0}
        assert row["expected"] == pytest.approx(other["expected"], abs=1e-9)


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


def test_invalid_patients_are_refused_or_left_out_and_none_at_all_are_refused(shipped, patients):
    frame = patients.to_pandas()
    frame.loc[0, "sex"] = "X7"
    with pytest.raises(ValueError, match=r"column 'sex': impossible value 'X7' \(row 0\)"):
        aemodel.score_cohort(shipped, frame)
    assert set(aemodel.score_cohort(shipped, frame, on_invalid="null")["patients"]) == {299}
    with pytest.raises(ValueError, match="frame: it has no rows"):
        aemodel.score_cohort(shipped, patients.slice(0, 0))


def test_too_many_groups_and_those_by_the_answers_own_columns_are_refused(shipped):
    table = random_patients(1500).append_column("grade", [["G3"] * 1500])
    for by, message in (("id", "more than 1000 groups by id"), ("grade", "the answer has a column 'grade' of its own; rename")):
        with pytest.raises(ValueError, match=f"by: {message}"):
            aemodel.score_cohort(shipped, table, by=by)


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
