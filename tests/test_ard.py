"""Analysis results data to frequencies: what a sponsor's long rows say, and what is refused."""

from __future__ import annotations

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import aemodel
from aemodel.publication.tables import read_tables, write_template

COUNTS = {("Low", "Rash"): (18, 104), ("High", "Rash"): (34, 96), ("Low", "Itch"): (9, 104), (None, "Rash"): (52, 200)}
EVENTS = {"rash": {"AEDECOD": "rash"}}


def long_rows(counts=COUNTS, *, lists=False):
    """As cards writes them: a row for each statistic, terms within a system organ class; the arms themselves besides."""
    rows = []
    for (arm, term), (n, size) in counts.items():
        soc = ("group1" if arm is None else "group2", "AESOC", "SKIN")
        for name, value in (("n", n), ("N", size), ("p", n / size)):
            row = {soc[0]: soc[1], f"{soc[0]}_level": soc[2], "variable": "AEDECOD", "variable_level": term}
            row |= {} if arm is None else {"group1": "TRTA", "group1_level": arm}
            rows.append(row | {"context": "hierarchical", "stat_name": name, "stat_label": name, "stat": value})
    rows.append({"variable": "TRTA", "variable_level": "Low", "stat_name": "n", "stat": 104})
    rows.append({"variable": "AGE", "variable_level": None, "stat_name": "mean", "stat": 61.5})
    frame = pd.DataFrame(rows)
    wrapped = ["group1_level", "group2_level", "variable_level", "stat"]
    return frame.assign(**{name: [[value] for value in frame[name]] for name in wrapped}) if lists else frame


EXPECTED = [("total", "all", 200, "52"), ("arm", "high", 96, "34"), ("arm", "low", 104, "18")]
ARM = {"covariates": {"AESOC": "soc", "TRTA": "arm"}, "levels": {"Low": "low", "High": "high"}}


@pytest.mark.parametrize("make", [pd.DataFrame, pl.from_pandas, pa.Table.from_pandas], ids=["pandas", "polars", "pyarrow"])
def test_long_rows_become_frequencies(make):
    events = {"rash": {"AEDECOD": "Rash", "AESOC": "Skin"}}
    found = aemodel.read_ard(make(long_rows()), "3-5", events, **ARM)
    assert type(found) is type(make(long_rows()))
    table = found.to_pandas() if not isinstance(found, pd.DataFrame) else found
    rows = [(r.covariate, r.level, r.n, r.printed) for r in table.itertuples()]
    assert sorted(rows) == sorted(EXPECTED)
    assert {(r.event, r.grade, r.unit) for r in table.itertuples()} == {("rash", "3-5", "count")}


def test_cells_may_be_lists_of_one_value():
    found = aemodel.read_ard(long_rows(lists=True), "3-5", {"rash": {"AEDECOD": "Rash", "AESOC": "SKIN"}}, **ARM)
    assert sorted((r.covariate, r.level, r.n, r.printed) for r in found.itertuples()) == sorted(EXPECTED)


def test_what_is_read_is_a_frequency_table(tmp_path):
    """Written into a folder, it is read as a publication's; here of both grades."""
    write_template(tmp_path)
    severe = long_rows({("Low", "Rash"): (3, 104), ("High", "Rash"): (9, 96)})
    events = {"rash": {"AEDECOD": "Rash", "AESOC": "SKIN"}}
    frames = [aemodel.read_ard(rows, grade, events, **ARM) for rows, grade in ((long_rows(), "3-5"), (severe, "4-5"))]
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    texts["frequencies.csv"] = pd.concat(frames).to_csv(index=False)
    tables = read_tables(texts)
    assert [row.observed for row in tables.rows if row.covariate == "arm"] == [18, 34, 3, 9]


def test_two_groups_are_two_covariates_crossed():
    rows = long_rows({("Low", "Rash"): (18, 104)}).assign(group3="SEX", group3_level="F")
    events = {"rash": {"AEDECOD": "Rash", "AESOC": "SKIN"}}
    found = aemodel.read_ard(rows[rows["variable"] == "AEDECOD"], "3-5", events, {"TRTA": "arm", "SEX": "sex"})
    assert found[["covariate", "level"]].to_numpy().tolist() == [["arm*sex", "Low*F"]]


@pytest.mark.parametrize(
    ("change", "events", "message"),
    [
        (lambda f: f.drop(columns="stat"), EVENTS, "ard: no column 'stat'; columns found: group2"),
        (
            lambda f: f,
            {"rash": {"AEDECOD": "Hives"}},
            "events: rash: no n and N of it are here; found variables AEDECOD, AGE",
        ),
        (lambda f: f[f["stat_name"] != "N"], EVENTS, "ard: rash by soc.*: no N; ask for the statistics n and N"),
        (lambda f: f.assign(stat=f["stat"].where(f["stat_name"] != "p", 17)), EVENTS, "p is 17, n 18 of N 104; give shares"),
        (lambda f: f.assign(stat=f["stat"].where(f["stat_name"] != "n", 500)), EVENTS, "n 500 of N 104 are no numbers of pat"),
        (lambda f: f.assign(stat="few"), EVENTS, "n is 'few', no number"),
        (lambda f: pd.concat([f, f.assign(stat=f["stat"] - 1)]), EVENTS, "n is 18 and 17; give the results of one grade class"),
    ],
)
def test_what_does_not_fit_is_refused(change, events, message):
    with pytest.raises(aemodel.InputError, match=message):
        aemodel.read_ard(change(long_rows()), "3-5", events, {"TRTA": "arm", "AESOC": "soc"})
