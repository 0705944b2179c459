"""The table of what effects and risks rest on, and standardised risks against loops over cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

import aemodel
from aemodel.answers.contrasts import level_effects
from aemodel.answers.identification import of_covariates, prior_risks
from aemodel.inference.forward import logit, make_model_forward, risk_draws
from aemodel.scoring.risks import SUPPORT
from tests.reference import standardised

GRADES = ("3-5", "4-5")


@pytest.fixture(scope="module")
def before(shipped, aall1331):
    return prior_risks(shipped)


@pytest.fixture(scope="module")
def effects(shipped):
    return aemodel.identification_table(shipped)


@pytest.fixture(scope="module")
def profiles(shipped):
    return aemodel.identification_table(shipped, of="risks")


def test_risks_at_a_grade_listed_but_without_a_row_are_not_published(shipped, aall1331):
    forward, _, seed = make_model_forward(shipped)
    listed = replace(aall1331, events=tuple(structs.replace(event, grades=GRADES) for event in aall1331.events))
    risks = risk_draws(listed, forward, shipped.prior.isel(draw=slice(2)), seed)
    np.testing.assert_array_equal(risks.published, shipped.risks.published)
    assert not risks.published[risks.events.index("febrile_neutropenia"), GRADES.index("4-5")]


# Standardised risks.


@pytest.mark.parametrize("fixed", [{}, {0: 2}, {2: 1}, {3: 0}, {0: 1, 2: 0}, {0: 0, 1: 3, 2: 1, 3: 4}, {3: 6}], ids=str)
def test_standardised_risks_are_those_of_loops(shipped, fixed):
    """The last: a new level of race/ethnicity."""
    risks = shipped.risks
    sets = np.array([c.everything for c in risks.covariates])
    for k, level in fixed.items():
        sets[k] = 1 << level
    found = risks.standardised(sets, list(fixed))
    np.testing.assert_allclose(found, standardised(risks, fixed), rtol=1e-6)


def test_standardised_to_a_group_of_levels_keeps_their_proportions(shipped):
    """Were all in a group of relapse groups: each profile of the others in the group's own mixture."""
    risks = shipped.risks
    sets = np.array([c.everything for c in risks.covariates])
    sets[1] = 0b0011
    found = risks.standardised(sets, [1])
    profile = {}
    for cell, weight, draws in zip(risks.levels.tolist(), risks.weight, risks.draws.swapaxes(0, 1).astype(float), strict=True):
        if cell[3] < len(risks.covariates[3].levels):
            row = profile.setdefault((cell[0], *cell[2:]), [0.0, 0.0, 0.0])
            row[0] += weight
            if cell[1] < 2:
                row[1] += weight
                row[2] = row[2] + weight * draws
    expected = sum(all_ * mixed / inside for all_, inside, mixed in profile.values()) / sum(row[0] for row in profile.values())
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_level_effects_are_standardised_log_odds_less_the_cohorts(shipped):
    risks = shipped.risks
    effects = level_effects(risks)
    assert [e.shape[1] for e in effects] == [len(c.levels) for c in risks.covariates]
    for k, level in ((0, 2), (1, 0), (3, 5)):
        expected = logit(standardised(risks, {k: level})) - logit(standardised(risks, {}))
        np.testing.assert_allclose(effects[k][:, level], expected, atol=1e-5)


# The shipped model.


def test_table_of_effects_has_a_row_for_each_level_event_and_grade(shipped, effects):
    measures = ["prior_sd", "posterior_mean", "posterior_sd", "contraction", "own", "pooled", "support"]
    assert list(effects.columns) == ["event", "grade", "covariate", "level", *measures, "assumption"]
    levels = sum(len(c.levels) for c in shipped.risks.covariates)
    assert len(effects) == len(effects.drop_duplicates(["event", "grade", "covariate", "level"])) == levels * 11 * 2


def test_table_of_effects_is_made_of_level_effects(shipped, before, effects):
    after, prior = (level_effects(risks)[2] for risks in (shipped.risks, before))
    i = shipped.risks.events.index("hyperglycemia")
    row = effects.query("event == 'hyperglycemia' and grade == '4-5' and covariate == 'sex' and level == 'female'").iloc[0]
    assert row["prior_sd"] == pytest.approx(prior[:, 1, i, 1].std())
    assert row["posterior_mean"] == pytest.approx(after[:, 1, i, 1].mean())
    assert row["posterior_sd"] == pytest.approx(after[:, 1, i, 1].std())
    assert row["contraction"] == pytest.approx(1 - (row["posterior_sd"] / row["prior_sd"]) ** 2)


def test_tests_and_orderings_are_kinds_of_assumption(shipped, effects):
    """A null speaks of its own pair, the ordering of race and ethnicity of every event's effects."""
    nulls = {(null.event, null.grade, null.covariate) for null in shipped.tables.nulls}
    for row in effects.itertuples():
        null = (row.event, row.grade, row.covariate) in nulls
        words = ["null"] * null + ["ordering"] * (row.covariate == "race_ethnicity")
        assert row.assumption == " and ".join(words)
    assert set(effects["support"]) <= set(SUPPORT)


def test_without_evidence_nothing_is_assumed_and_no_other_kind_is_told(shipped):
    settings = {**shipped.settings, "ordering": None, "selection": False}
    plain = aemodel.Fitted(shipped.tables, shipped.idata, shipped.diagnostics, settings, shipped.risks)
    assert set(aemodel.identification_table(plain)["assumption"]) == {""}
    with pytest.raises(ValueError, match="of: expected 'effects' or 'risks', not 'levels'"):
        aemodel.identification_table(shipped, of="levels")


@pytest.fixture(scope="module")
def every_profile(profiles):
    return profiles.iloc[:144][["age_band", "relapse_group", "sex", "race_ethnicity"]].reset_index(drop=True)


def test_a_covariate_is_said_to_rest_on_what_its_levels_do_on_average(model):
    """As the card says of it; not on what its first level does."""
    effects, risks = aemodel.identification_table(model), model.risks
    found = of_covariates(effects)["support"]
    names = [c.name for c in risks.covariates]
    for (event, grade, covariate), flag in found.items():
        place = names.index(covariate), risks.events.index(event), risks.grades.index(grade)
        assert flag == SUPPORT[risks.source[place]]
    first = effects.groupby(found.index.names, sort=False).cumcount() == 0
    shares = {"own": np.where(first, 0.9, 0.0), "pooled": np.where(first, 0.0, 0.9)}
    uneven = of_covariates(effects.assign(**shares, support=np.where(first, "data", "pooled")))["support"]
    levels = effects.groupby(found.index.names, sort=False).size()
    assert set(uneven[levels > 2]) == {"pooled"}
    without = effects.assign(own=np.nan, pooled=np.nan)
    assert set(of_covariates(without)["support"]) <= set(SUPPORT)


def test_risks_have_a_column_for_each_covariate_and_the_flags_of_epred(shipped, profiles, every_profile):
    names = [c.name for c in shipped.risks.covariates]
    assert list(profiles.columns)[: 2 + len(names)] == ["event", "grade", *names]
    assert len(profiles) == 144 * 11 * 2
    support = aemodel.posterior_epred(shipped, every_profile)["support"]
    for (event, grade), rows in profiles.groupby(["event", "grade"], sort=False):
        found = support.sel(event=event, grade=grade).values
        np.testing.assert_array_equal(found, rows["support"].to_numpy())


def test_contraction_of_risks_uses_their_own_draws(shipped, before, profiles):
    risks = shipped.risks
    cell = np.flatnonzero((risks.levels == [2, 0, 1, 0]).all(axis=1))[0]
    i = risks.events.index("infections")
    query = "event == 'infections' and grade == '3-5' and age_band == '19-30' and relapse_group == 'bm_early'"
    row = profiles.query(f"{query} and sex == 'female' and race_ethnicity == 'hispanic'").iloc[0]
    assert row["posterior_sd"] == pytest.approx(logit(risks.draws[:, cell, i, 0]).std())
    assert row["prior_sd"] == pytest.approx(logit(before.draws[:, cell, i, 0]).std())
