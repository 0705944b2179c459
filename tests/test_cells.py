"""Cells: the expected table has every published cohort count, no more structure than published, or is refused."""

from __future__ import annotations

import numpy as np
import pytest

from aemodel.publication.cells import make_cells
from aemodel.publication.tables import read_tables


def with_cohort(tables, *changes):
    """The publication with texts replaced in its cohort."""
    text = tables.texts["cohort.csv"]
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return read_tables({**tables.texts, "cohort.csv": text})


def sums(cells, *levels):
    inside = np.all([cells.having(covariate, level) for covariate, level in levels], axis=0)
    return cells.n[inside].sum()


def known_at_model_levels(tables):
    """Cohort rows whose levels are the model's own."""
    for row in tables.cohort.itertuples():
        pairs = [(row.covariate, row.level)] + ([(row.by, row.by_level)] if row.by else [])
        if all(level in tables.covariate(covariate).names for covariate, level in pairs):
            yield pairs, row.n


@pytest.mark.parametrize("name", ["aall1331", "invented"])
def test_cells_have_every_cohort_count(request, name):
    tables = request.getfixturevalue(name)
    cells = make_cells(tables)
    rows = list(known_at_model_levels(tables))
    assert len(rows) >= 28
    for pairs, n in rows:
        assert sums(cells, *pairs) == pytest.approx(n, abs=1e-6)
    assert cells.n.sum() == pytest.approx(tables.n, abs=1e-6)


def test_published_denominators_are_sums_of_cells(aall1331, aall1331_cells):
    for row in aall1331.frequencies.itertuples():
        assert sums(aall1331_cells, (row.covariate, row.level)) == pytest.approx(row.n, abs=1e-6)


def test_invented_cells_have_the_simulated_counts(invented, invented_patients):
    cells = make_cells(invented)
    for (arm, stage), rows in invented_patients.groupby(["arm", "stage"]):
        assert sums(cells, ("arm", arm), ("stage", stage)) == pytest.approx(len(rows), abs=1e-6)


@pytest.mark.parametrize(("name", "by"), [("aall1331", "relapse_group"), ("invented", "stage")])
def test_other_covariates_are_independent_within_the_group_they_are_given_by(request, name, by):
    tables = request.getfixturevalue(name)
    cells = make_cells(tables)
    table = cells.n.reshape([len(c.levels) for c in tables.covariates])
    table = np.moveaxis(table, [c.name for c in tables.covariates].index(by), 0)
    for group in table:
        expected = group.sum()
        product = np.ones_like(group)
        for axis in range(group.ndim):
            others = tuple(a for a in range(group.ndim) if a != axis)
            product = product * group.sum(axis=others, keepdims=True) / expected
        np.testing.assert_allclose(group, expected * product, atol=1e-6)


def test_level_split_in_total_only_is_spread_in_proportion(aall1331_cells):
    # 18 and 19-20 are counted together by relapse group (20, 31, 2, 8 patients); 20 of these 61 are 18.
    for group, younger, both in (("bm_early", 62, 20), ("bm_late", 138, 31), ("iem_early", 12, 2), ("iem_late", 38, 8)):
        found = sums(aall1331_cells, ("age_band", "10-18"), ("relapse_group", group))
        assert found == pytest.approx(younger + both * 20 / 61, abs=1e-6)


def test_collapsed_cells_keep_the_patients(aall1331_cells):
    coarse, n = aall1331_cells.collapsed(["age_band", "sex"])
    assert (len(aall1331_cells.n), len(n)) == (144, 6)
    assert n.sum() == pytest.approx(661, abs=1e-6)
    first = aall1331_cells.having("age_band", "1-9") & aall1331_cells.having("sex", "male")
    assert set(coarse[first]) == {0}
    assert n[0] == pytest.approx(aall1331_cells.n[first].sum())


def test_group_of_levels_is_the_sum_of_its_levels(aall1331_cells):
    assert sums(aall1331_cells, ("relapse_group", "iem")) == pytest.approx(32 + 97, abs=1e-6)


def test_contradictory_cohort_is_refused_by_name(aall1331):
    moved = ("sex,male,relapse_group,iem_late,75", "sex,male,relapse_group,iem_late,79")
    with pytest.raises(ValueError, match=r"cohort\.csv: the levels of relapse_group\*sex hold 665 patients, the cohort 661"):
        with_cohort(aall1331, moved)
    wrong = with_cohort(aall1331, moved, ("sex,male,relapse_group,bm_late,171", "sex,male,relapse_group,bm_late,167"))
    with pytest.raises(ValueError, match=r"cohort\.csv: no table has all these counts.*(sex|iem_late|bm_late)"):
        make_cells(wrong)


def test_patients_where_other_rows_leave_no_room_are_refused_by_name(aall1331):
    none = ("relapse_group,iem_early,,,32", "relapse_group,iem_early,,,0")
    wrong = with_cohort(aall1331, none, ("relapse_group,bm_late,,,323", "relapse_group,bm_late,,,355"))
    with pytest.raises(ValueError, match=r"cohort\.csv: 17 patients in 'age_band 1-9 iem_early', but other rows leave no room"):
        make_cells(wrong)


def test_one_level_without_a_row_is_the_rest(invented):
    cohort = "".join(row for row in invented.texts["cohort.csv"].splitlines(True) if not row.startswith("region,coast"))
    np.testing.assert_allclose(
        make_cells(read_tables({**invented.texts, "cohort.csv": cohort})).n, make_cells(invented).n, atol=1e-6
    )


def test_denominator_that_is_not_its_cells_is_refused(aall1331):
    # Two patients moved from one sex to the other in the cohort, but not where frequencies are given over them.
    cohort = aall1331.texts["cohort.csv"]
    for old, new in (("sex,male,relapse_group,bm_late,171", "169"), ("sex,female,relapse_group,bm_late,152", "154")):
        assert old in cohort
        cohort = cohort.replace(old, old[:-3] + new)
    with pytest.raises(ValueError, match=r"sex (male|female) is given over (380|281) patients, cohort\.csv has (378|283)"):
        make_cells(read_tables({**aall1331.texts, "cohort.csv": cohort}))
