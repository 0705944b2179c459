"""Random tables of patients by cell: exact margins, exact distribution, and the likelihood averaged over them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from msgspec import structs

import aemodel
from aemodel.answers.sensitivity import table_loglik, table_uncertainty
from aemodel.inference.design import all_margins, make_design
from aemodel.inference.forward import make_forward, make_model_forward
from aemodel.inference.integer_tables import sample_tables
from aemodel.inference.likelihood import margins_term
from aemodel.publication.cells import make_cells
from aemodel.publication.schema import CohortCount

TABLES = 250


@pytest.fixture(scope="module", params=["aall1331", "invented"])
def tables(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def sampled(tables):
    """Tables without and with association."""
    return {association: sample_tables(tables, TABLES, seed=1, association=association) for association in (0.0, 0.4)}


# Tables.


def test_every_published_count_is_matched_exactly(tables, sampled):
    """Counts over levels finer than the model's are held by the sampler itself, and seen here as sums."""
    cells = make_cells(tables)
    checked = 0
    for row in tables.cohort.itertuples():
        inside = np.ones(len(cells.n), dtype=bool)
        for covariate, level in ((row.covariate, row.level), (row.by, row.by_level)):
            if covariate:
                inside &= having(tables, cells, covariate, level.split("+"))
        if inside.any():
            checked += 1
            for found in sampled.values():
                assert (found[:, inside].sum(axis=1) == row.n).all(), row
    assert checked > 15
    for found in sampled.values():
        assert (found.sum(axis=1) == tables.n).all()
        assert (found >= 0).all()


def having(tables, cells, covariate, fine):
    """Cells of the levels that consist of these levels of the cohort; none if they are parts of levels."""
    levels = tables.covariate(covariate).levels
    whole = [level.name for level in levels if set(level.cohort) <= set(fine)]
    if set(fine) != {name for level in levels if level.name in whole for name in level.cohort}:
        return np.zeros(len(cells.n), dtype=bool)
    return np.any([cells.having(covariate, name) for name in whole], axis=0)


def test_eighteen_year_olds_are_always_twenty(aall1331):
    """10-17 and 18-20 are given by relapse group, 10-18 only in total."""
    cells = make_cells(aall1331)
    inside = cells.having("age_band", "10-18")
    found = sample_tables(aall1331, 50, seed=2)
    assert (found[:, inside].sum(axis=1) == 270).all()
    by_group = found[:, inside & cells.having("relapse_group", "bm_early")].sum(axis=1)
    assert by_group.std() > 0


def test_denominators_are_whole_and_association_widens(tables, sampled):
    cells = make_cells(tables)
    for row in tables.frequencies.drop_duplicates(["covariate", "level"]).itertuples():
        assert (sampled[0.4][:, cells.having(row.covariate, row.level)].sum(axis=1) == row.n).all()
    without, associated = (sampled[association][:, cells.n > 2].var(axis=0).mean() for association in (0.0, 0.4))
    assert associated > 1.3 * without


def test_same_seed_same_tables(invented):
    one, again = (sample_tables(invented, 5, seed=3, association=0.3) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert (one != sample_tables(invented, 5, seed=4, association=0.3)).any()


def test_tables_without_association_are_independent_with_the_maximum_entropy_table_for_mean(tables, sampled):
    """Over cells of half a patient or more: z-scores of standard deviation near 1, none beyond 4.5.

    Lag-1 correlation of the 20 largest cells: mean within 4 standard errors of zero.
    """
    found, expected = sampled[0.0], make_cells(tables).n
    error = found.std(axis=0) / np.sqrt(TABLES)
    some = (expected > 0.5) & (error > 0)
    z = (found.mean(axis=0) - expected)[some] / error[some]
    assert some.sum() > 30
    assert abs(z).max() < 4.5
    assert 0.6 < z.std() < 1.4
    lag = [np.corrcoef(found[:-1, cell], found[1:, cell])[0, 1] for cell in np.argsort(-expected)[:20]]
    assert abs(np.mean(lag)) < 4 / np.sqrt(TABLES * 5)  # cells are not independent: 20 count as 5


def test_impossible_cohort_is_refused(invented):
    first, *rest = invented.counts
    with pytest.raises(ValueError, match="cohort.csv: no whole numbers of patients match all counts"):
        sample_tables(replace(invented, counts=(structs.replace(first, n=first.n + 1), *rest)), 1, seed=1)


# The distribution of tables, by enumeration.


@pytest.fixture(scope="module")
def five_patients(invented):
    """A cohort of five, given by arm, by stage and by region in total."""
    counts = {"arm": (2, 2, 1), "stage": (2, 1, 1, 1), "region": (3, 1, 1)}
    rows = [
        CohortCount(c.name, level, n) for c in invented.covariates for level, n in zip(c.names, counts[c.name], strict=True)
    ]
    return replace(invented, about=structs.replace(invented.about, patients=5), counts=tuple(rows)), counts


def enumerated(counts, association):
    """Every table (as a sorted tuple of cells) with its probability, by permuting labelled patients' levels."""
    levels = [np.repeat(np.arange(len(n)), n) for n in counts.values()]
    sizes = [len(n) for n in counts.values()]
    found = Counter(
        tuple(sorted(np.ravel_multi_index((levels[0], b, c), sizes).tolist()))
        for b, c in product(*(set(permutations(level.tolist())) for level in levels[1:]))
    )
    names, ways = list(found), np.array(list(found.values()), float)
    rng = np.random.default_rng(5)
    place = np.stack(np.unravel_index(np.array(names), sizes))
    probability = 0.0
    for _ in range(2000 if association else 1):
        score = np.zeros(len(names))
        for a, b in ((0, 1), (0, 2), (1, 2)):
            score += rng.normal(0, association, (sizes[a], sizes[b]))[place[a], place[b]].sum(axis=1)
        weight = ways * np.exp(score)
        probability = probability + weight / weight.sum()
    return names, probability / probability.sum()


@pytest.mark.parametrize("association", [0.0, 0.8])
def test_tables_have_their_exact_distribution(five_patients, association):
    """Probability that a cell holds two or more, or two cells are both held: 4.5 standard errors over all pairs of cells."""
    tables, counts = five_patients
    found = sample_tables(tables, 4000, seed=6, association=association)
    names, probability = enumerated(counts, association)
    every = np.array([np.bincount(name, minlength=36) for name in names])
    assert {tuple(row) for row in found.tolist()} <= {tuple(row) for row in every.tolist()}
    expected = np.einsum("t,ti,tj->ij", probability, every, every)
    moments = np.einsum("ti,tj->ij", found, found) / len(found)
    spread = np.einsum("t,ti,tj->ij", probability, every**2, every**2) - expected**2
    some = expected > 0.005
    z = (moments - expected)[some] / np.sqrt(spread[some] / len(found))
    assert some.sum() > 300
    assert abs(z).max() < 4.5
    assert z.std() < 1.2


# The likelihood.


@pytest.fixture(scope="module")
def few_draws(shipped):
    _, draws, _ = make_model_forward(shipped)
    return draws.isel(draw=slice(None, None, draws.sizes["draw"] // 5)).isel(chain=slice(0, 2), draw=slice(0, 5))


def test_likelihood_of_the_maximum_entropy_table_is_the_models_at_the_chosen_draws(aall1331, few_draws):
    design = make_design(aall1331)
    margins = all_margins(design, aall1331.frequencies)
    found = table_loglik(design, aall1331, few_draws, np.arange(10), design.cells.n[None])
    np.testing.assert_allclose(found[0], models_likelihood(design, margins, few_draws), atol=1e-6)
    some = table_loglik(design, aall1331, few_draws, np.array([7, 2]), design.cells.n[None])
    np.testing.assert_array_equal(some, found[:, [7, 2]])


def test_likelihood_of_a_table_is_that_of_a_cohort_of_its_patients(aall1331, few_draws):
    design, one = make_design(aall1331), sample_tables(aall1331, 1, seed=1)
    other = replace(design, cells=replace(design.cells, n=one[0].astype(float)))
    expected = models_likelihood(design, all_margins(other, aall1331.frequencies), few_draws, of=other)
    found = table_loglik(design, aall1331, few_draws, np.arange(10), one.astype(float))[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def models_likelihood(design, margins, draws, of=None):
    """The model's own term, of another design if one is given, at state probabilities of the draws."""
    term = margins_term(of or design, margins)
    return [term(p[:, : len(design.cells.n)].copy())[0] for p in make_forward(design, deviation=0.0).states(draws, 0)]


# The report.


@pytest.fixture(scope="module")
def report(shipped):
    return table_uncertainty(shipped, seed=1, tables=6, draws=20)


def test_report_has_a_row_for_each_event_grade_and_profile_and_sums_up(shipped, report):
    names = [c.name for c in shipped.risks.covariates]
    assert list(report.columns) == ["event", "grade", *names, "posterior_sd", "between_sd", "ratio", "shift"]
    assert len(report) == len(report.drop_duplicates(["event", "grade", *names])) == 144 * 11 * 2
    assert set(report.attrs) == {"loglik_sd", "plugin_error", "ess"}
    assert np.isfinite(list(report.attrs.values())).all()
    assert 1 <= report.attrs["ess"] <= 20
    assert np.isfinite(report[["posterior_sd", "between_sd", "ratio", "shift"]]).all(axis=None)
    np.testing.assert_allclose(report["ratio"], report["between_sd"] / report["posterior_sd"])
    risk = aemodel.posterior_epred(shipped, report.iloc[[0]][names])
    risk = risk.sel(event=report["event"][0], grade=report["grade"][0]).values
    assert report["posterior_sd"][0] == pytest.approx(np.log(risk / (1 - risk)).std(), rel=1e-4)
    for draws, allowed in ((1, "2 or more"), (10**6, "2 to 1000")):
        with pytest.raises(ValueError, match=f"draws: expected {allowed}, not {draws}"):
            table_uncertainty(shipped, seed=1, draws=draws)


def test_report_does_not_depend_on_anything_but_the_seed(shipped, report):
    pd.testing.assert_frame_equal(table_uncertainty(shipped, seed=1, tables=6, draws=20), report)
    assert not table_uncertainty(shipped, seed=2, tables=6, draws=20)["shift"].equals(report["shift"])
