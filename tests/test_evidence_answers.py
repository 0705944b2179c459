"""Tables of nulls and orderings: does a fit agree with what the publication says in words."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import chi2, ncx2

import aemodel
from aemodel.answers.evidence import DOUBTFUL, group_rates, ordering_table, selection_table
from tests.test_answers import by_hand, cells_in

RACES = ("hispanic", "nh_asian", "nh_white", "nh_black")


@pytest.fixture(scope="module")
def model(shipped, aall1331):
    return aemodel.Fitted(aall1331, shipped.idata, shipped.diagnostics, {**shipped.settings, "selection": True}, shipped.risks)


@pytest.fixture(scope="module")
def nulls(model):
    return selection_table(model)


@pytest.fixture(scope="module")
def orderings(model):
    return ordering_table(model)


def risks_of_groups(model, covariate, levels, **within):
    """Draws (sample, group, event, grade) and sizes (group,) of patients at each level, and within others."""
    groups = [{covariate: (level,), **within} for level in levels]
    sizes = [model.risks.weight[cells_in(model, **group)].sum() for group in groups]
    return np.stack([by_hand(model, **group) for group in groups], axis=1), np.array(sizes)


# Groups.


def test_groups_are_those_of_loops(model):
    found, n = group_rates(model.risks, "any_ae", "4-5", "race_ethnicity", RACES, ("relapse_group", "bm"))
    expected, sizes = risks_of_groups(model, "race_ethnicity", RACES, relapse_group=("bm_early", "bm_late"))
    np.testing.assert_allclose(found, expected[:, :, model.risks.events.index("any_ae"), 1], rtol=1e-5)
    np.testing.assert_allclose(n, sizes, rtol=1e-9)
    assert np.rint(n).tolist() == [173, 28, 244, 48]


# Nulls.


def test_every_null_has_its_row(model, nulls):
    expected = [(null.event, null.grade, null.covariate, null.stated) for null in model.tables.nulls]
    assert list(nulls[["event", "grade", "covariate", "stated"]].itertuples(index=False, name=None)) == expected
    assert nulls["in_fit"].all()
    assert (nulls["doubtful"] == (nulls["p_nonsignificant"] < DOUBTFUL)).all()
    assert ((nulls["cause"] != "") == nulls["doubtful"]).all()
    assert not selection_table(replace(model, settings={**model.settings, "selection": False}))["in_fit"].any()


def test_probability_of_two_tests_is_that_of_simulated_contrasts(model, nulls):
    """Sepsis 4-5 by relapse group: that neither the four groups nor marrow against isolated differ; within 0.01."""
    null = next(n for n in model.tables.nulls if (n.event, n.grade, n.covariate) == ("sepsis", "4-5", "relapse_group"))
    rates, n = risks_of_groups(model, null.covariate, null.levels)
    rates = rates[:, :, model.risks.events.index("sepsis"), model.risks.grades.index("4-5")]
    pooled = (rates @ n / n.sum())[:, None]
    sample = rates + np.random.default_rng(1).standard_normal((50, *rates.shape)) * np.sqrt(pooled * (1 - pooled) / n)
    below = np.ones(sample.shape[:2], dtype=bool)
    for groups in ([[k] for k in range(len(n))], null.groups):
        sizes = np.array([n[list(group)].sum() for group in groups])
        merged = np.stack([sample[..., list(group)] @ n[list(group)] for group in groups], axis=-1) / sizes
        about = merged - (merged @ sizes / sizes.sum())[..., None]
        below &= (about**2 @ sizes) / (pooled * (1 - pooled))[:, 0] <= chi2.isf(0.05, len(groups) - 1)
    row = nulls.query("event == 'sepsis' and grade == '4-5' and covariate == 'relapse_group'").iloc[0]
    assert row["p_nonsignificant"] == pytest.approx(below.mean(), abs=0.01)


@pytest.mark.parametrize(("event", "grade", "covariate"), [("infections", "3-5", "sex"), ("sepsis", "4-5", "race_ethnicity")])
def test_probability_of_a_null_is_averaged_over_draws(model, nulls, event, grade, covariate):
    names = next(null.levels for null in model.tables.nulls if null.covariate == covariate)
    rates, n = risks_of_groups(model, covariate, names)
    rates = rates[:, :, model.risks.events.index(event), model.risks.grades.index(grade)]
    pooled = rates @ n / n.sum()
    noncentrality = ((rates - pooled[:, None]) ** 2 * n).sum(axis=1) / (pooled * (1 - pooled))
    expected = ncx2.cdf(chi2.isf(0.05, len(n) - 1), len(n) - 1, noncentrality).mean()
    log_odds = np.log(rates / (1 - rates)).mean(axis=0)
    row = nulls.query("event == @event and grade == @grade and covariate == @covariate").iloc[0]
    assert row["p_nonsignificant"] == pytest.approx(expected, abs=1e-4)
    assert row["odds_ratio"] == pytest.approx(np.exp(np.ptp(log_odds)), rel=1e-4)


@pytest.mark.parametrize(
    ("event", "covariate", "ordering", "cause"),
    [
        ("sepsis", "relapse_group", None, "published margin of infections, which contains it"),
        ("gi_toxicity", "age_band", None, "published margin of oral_mucositis, which it contains"),
        ("hyperglycemia", "sex", None, "pooling with gi_toxicity, hypoalbuminemia"),
        ("hyperglycemia", "race_ethnicity", None, "prior"),
        ("hyperglycemia", "race_ethnicity", "both", "ordering of any_ae"),
    ],
)
def test_cause_of_a_null_that_is_contradicted(model, monkeypatch, event, covariate, ordering, cause):
    """Were every null doubtful."""
    monkeypatch.setattr("aemodel.answers.evidence.DOUBTFUL", 2.0)
    table = selection_table(replace(model, settings={**model.settings, "ordering": ordering}))
    assert set(table.query("event == @event and covariate == @covariate")["cause"]) == {cause}


# Orderings.


def test_every_group_of_an_ordering_has_its_row(orderings):
    assert orderings[["event", "covariate", "within"]].drop_duplicates().values.tolist() == [["any_ae", "race_ethnicity", "bm"]]
    found = {(row.grade, row.level): (row.tier, row.patients) for row in orderings.itertuples()}
    tiers = {"3-5": (1, 1, 2, 2), "4-5": (1, 2, 2, 2)}
    expected = {
        (grade, name): (tiers[grade][k], n)
        for grade in tiers
        for k, (name, n) in enumerate(zip(RACES, (173, 28, 244, 48), strict=True))
    }
    assert found == expected


@pytest.mark.parametrize(("grade", "higher"), [("3-5", ("hispanic", "nh_asian")), ("4-5", ("hispanic",))])
def test_probabilities_of_an_ordering_are_counted_over_draws(model, orderings, grade, higher):
    draws, _ = risks_of_groups(model, "race_ethnicity", RACES, relapse_group=("bm_early", "bm_late"))
    draws = draws[:, :, model.risks.events.index("any_ae"), model.risks.grades.index(grade)]
    above, below = ([RACES.index(name) for name in RACES if (name in higher) == first] for first in (True, False))
    ordered = np.all([draws[:, a] > draws[:, b] for a, b in product(above, below)], axis=0).mean()
    rows = orderings[orderings["grade"] == grade].set_index("level")
    assert rows["p_ordered"].tolist() == pytest.approx([ordered] * 4, abs=0.002)
    assert rows["p_highest"].sum() == pytest.approx(1)
    for k, name in enumerate(RACES):
        assert rows.loc[name, "risk"] == pytest.approx(draws[:, k].mean(), rel=1e-4)
        assert rows.loc[name, "p_highest"] == pytest.approx((draws.argmax(axis=1) == k).mean(), abs=0.002)
        ends = rows.loc[name, ["lower", "upper"]].tolist()
        assert ends == pytest.approx(np.quantile(draws[:, k], (0.05, 0.95)).tolist(), rel=1e-4)


def test_publication_without_evidence_has_empty_tables(shipped, invented):
    model = aemodel.Fitted(invented, shipped.idata, shipped.diagnostics, shipped.settings, shipped.risks)
    for table, column in ((selection_table(model), "p_nonsignificant"), (ordering_table(model), "p_highest")):
        assert (len(table), column in table) == (0, True)
