"""Margins over cells and states: which pairs can be occupied, which margins are independent, what is contradictory."""

from __future__ import annotations

import numpy as np
import pytest

from aemodel.publication.cells import make_cells
from aemodel.publication.families import make_families
from aemodel.publication.margins import family_margins
from aemodel.publication.reduction import reduce_margins
from aemodel.publication.tables import read_tables


def reduced(n, margins, states):
    """Margins as (cells, states, count) triples, reduced."""
    incidence = np.zeros((len(n), states, len(margins)))
    for j, (cells, which, _) in enumerate(margins):
        incidence[np.ix_(cells, which, [j])] = 1
    labels = [f"margin {j}" for j in range(len(margins))]
    return reduce_margins(np.array(n, float), incidence, np.array([m[2] for m in margins], float), labels)


REDUCED = {
    # Patients of each cell, margins, which of the (cell, state) pairs are alive, and which margins are left.
    "a zero empties its states": ([5, 4], [([0], [1], 0), ([1], [1], 2)], ["10", "11"], [1]),
    "everybody empties other states": ([5, 4], [([0], [1, 2], 5), ([0], [2], 2), ([1], [1, 2], 3)], ["011", "111"], [1, 2]),
    # States none, 3, 4-5 without and with the inner event; as many have the inner event as are at 4-5.
    "as many in an inner event": ([9], [([0], [1], 3), ([0], [2, 3], 2), ([0], [3], 2)], ["1101"], [0, 1]),
    # Nobody in the first row or the first column of a 2 x 2 table has the event, so both of the two have it in the last cell.
    "two together": ([3] * 4, [([0, 1], [1], 0), ([0, 2], [1], 0), ([1, 3], [1], 2)], ["10", "10", "10", "11"], [2]),
    "a cell without patients": ([4, 0], [([0, 1], [1], 2)], ["11", "00"], [0]),
    "a fraction of a patient": ([0.3, 99.7], [([0, 1], [1], 50)], ["11", "11"], [0]),
    "a sum of others": ([5, 4], [([0], [1], 2), ([1], [1], 1), ([0, 1], [1], 3)], ["11", "11"], [1, 2]),
    "all states": ([5, 4], [([0, 1], [0, 1], 9), ([1], [1], 1)], ["11", "11"], [1]),
    "zero alone": ([5], [([0], [1], 0)], ["10"], []),
    "everybody alone": ([5], [([0], [1], 5)], ["01"], []),
    "no margin": ([5], [], ["11"], []),
}


@pytest.mark.parametrize("case", REDUCED)
def test_margins_are_reduced_to_what_is_uncertain(case):
    n, margins, alive, left = REDUCED[case]
    found = reduced(n, margins, states=len(alive[0]))
    assert ["".join(map(str, row)) for row in found.support.astype(int)] == alive
    assert found.labels == tuple(f"margin {j}" for j in left)
    assert found.counts.size == len(left)


def test_contradiction_names_the_margins_involved_and_the_gap():
    with pytest.raises(ValueError, match="contradict each other") as error:
        reduced([5, 4, 7], [([0], [1], 2), ([1], [1], 1), ([0, 1], [1], 5), ([2], [1], 3)], states=2)
    message = str(error.value)
    assert all(part in message for part in ("margin 0 (2)", "margin 1 (1)", "margin 2 (5)", "misses by 2 patients"))
    assert "margin 3" not in message


# AALL1331 and the invented publication.


def test_any_ae_has_36_independent_margins_and_420_of_516_pairs_alive(aall1331_margins):
    margins = aall1331_margins["any_ae"].margins
    assert margins.counts.size == margins.incidence.shape[2] == len(margins.labels) == 36
    assert (margins.support.sum(), margins.support.size) == (420, 516)


def test_family_sees_only_the_covariates_its_rows_distinguish(aall1331_margins):
    seen = {root: margins.covariates for root, margins in aall1331_margins.items()}
    assert seen["any_ae"] == ("age_band", "relapse_group")
    assert seen["gi_toxicity"] == ("age_band", "sex")
    assert (seen["hyperglycemia"], seen["hypoalbuminemia"]) == (("age_band",), ("sex",))


def test_nobody_has_the_event_of_a_zero_margin(aall1331_margins):
    family = aall1331_margins["gi_toxicity"]
    assert not family.margins.support[:, family.family.having("oral_mucositis", "4-5")].any()


def test_equal_nested_margins_of_the_publication_are_found(aall1331_margins):
    # All six grade 4-5 infections-total patients of iem_early have a grade 4-5 infection, as have all 19 of 19-30.
    m = aall1331_margins["any_ae"]
    between = m.family.having("infections_total", "4-5") & ~m.family.having("infections", "4-5")
    support = m.margins.support.reshape(3, 4, -1)
    assert not support[:, 2, between].any()
    assert not support[2][:, between].any()
    assert support[0][[0, 3]][:, between].any(axis=1).all()


def test_margins_are_independent_on_the_support(aall1331_margins):
    for m in aall1331_margins.values():
        cells = np.broadcast_to(np.eye(len(m.margins.n))[:, None, :], (*m.margins.support.shape, len(m.margins.n)))
        rows = np.concatenate([cells, m.margins.incidence], axis=2)[m.margins.support]
        assert np.linalg.matrix_rank(rows) == rows.shape[1]


def test_invented_margins_are_what_was_simulated(invented, invented_patients):
    """A whole table of the simulated patients has every margin of every family."""
    cells = make_cells(invented)
    for family in make_families(invented.events):
        m = family_margins(family, cells, invented.frequencies)
        table = np.zeros(m.margins.support.shape)
        for patient in invented_patients.to_dict("records"):
            inside = np.all([cells.having(c, patient[c]) for c in m.covariates], axis=0) if m.covariates else cells.n >= 0
            table[m.coarse[inside][0], state_of(family, patient)] += 1
        np.testing.assert_allclose(table.sum(axis=1), m.margins.n, atol=1e-6)
        np.testing.assert_array_equal(np.einsum("csm,cs->m", m.margins.incidence, table), m.margins.counts)
        assert m.margins.support[table > 0].all()


def state_of(family, patient):
    """The one state with a patient's grades, of those events whose grades the publication tells apart."""
    same = np.all(
        [
            family.having(e.name, g) == (patient[e.name] >= {"3-5": 3, "4-5": 4}[g])
            for e in family.events
            for g in ("3-5", "4-5")
        ],
        axis=0,
    )
    assert same.sum() == 1
    return int(np.flatnonzero(same)[0])


def test_withheld_rows_leave_no_margin(invented, aall1331_margins):
    rows = invented.frequencies[invented.frequencies["covariate"] != "arm"]
    family = next(f for f in make_families(invented.events) if f.root == "stomach_upset")
    assert family_margins(family, make_cells(invented), rows).covariates == ("stage",)


def test_contradictory_publication_is_refused_naming_its_rows(aall1331, aall1331_cells, aall1331_families):
    # Among the youngest, 24 have an infection at 4-5; sepsis at 4-5, which is one, is raised from 19 of 20 to 29 of 30.
    changes = {("3-5", "1-9"): 30, ("4-5", "1-9"): 29, ("3-5", "all"): 77}
    rows = aall1331.frequencies
    for (grade, level), number in changes.items():
        here = (rows["event"] == "sepsis") & (rows["grade"] == grade) & (rows["level"] == level)
        assert here.sum() == 1
        rows = rows.assign(**{name: rows[name].mask(here, number) for name in ("observed", "observed_low", "observed_high")})
    with pytest.raises(ValueError, match="contradict each other") as error:
        family_margins(aall1331_families["any_ae"], aall1331_cells, rows)
    assert "sepsis 4-5 age_band 1-9 (29)" in str(error.value)
    assert "infections 4-5 age_band 1-9 (24)" in str(error.value)


def test_contradiction_names_counts_as_published_where_a_row_at_4_5_stands_beside(invented, invented_patients):
    # Of any toxicity 48 are at 4-5: 100 at 3-5 leave 52 at grade 3 only, a number nobody typed.
    frequencies = invented.texts["frequencies.csv"].replace("240,136,count,136", "240,100,count,100")
    wrong = read_tables({**invented.texts, "frequencies.csv": frequencies})
    family = next(f for f in make_families(wrong.events) if f.root == "any_toxicity")
    with pytest.raises(ValueError, match=r"any_toxicity 3-5 total all \(100\)") as error:
        family_margins(family, make_cells(wrong), wrong.frequencies)
    printed = {f"{r.event} {r.grade} {r.covariate} {r.level} ({r.observed})" for r in wrong.frequencies.itertuples()}
    named = str(error.value).split("other: ")[1].split("; the nearest")[0].split("; ")
    assert set(named) <= printed


def test_labels_name_event_grade_and_level(aall1331_margins):
    assert aall1331_margins["hypoalbuminemia"].margins.labels[0] == "hypoalbuminemia 3-5 sex male"
