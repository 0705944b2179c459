"""The model shipped in `models/aall1331`: what is in it, its sampler, its coherence, its fit to the publication."""

from __future__ import annotations

import arviz as az
import numpy as np
import pandas as pd
import pytest

import aemodel
from aemodel.scoring.risks import SUPPORT

EVENTS = (
    "infections_total infections sepsis oral_mucositis hyperglycemia hyperbilirubinemia gi_toxicity hypoalbuminemia "
    "febrile_neutropenia death any_ae"
).split()
GRADES = ("3-5", "4-5")
COLUMNS = (
    "event grade covariate level n observed observed_low observed_high observed_rate predicted expected "
    "lower50 upper50 lower90 upper90 tail_probability derived withheld"
).split()
FLOAT32 = 1e-6
"""Sums of some dozens of float32 probabilities round to this."""
INSIDE = [
    *[(inner, outer, grade) for inner, outer in zip(EVENTS[2:0:-1], EVENTS[1::-1], strict=True) for grade in GRADES],
    *[("infections_total", "any_ae", grade) for grade in GRADES],
    *[("oral_mucositis", "gi_toxicity", grade) for grade in GRADES],
    ("death", "any_ae", "4-5"),
]
"""Inner event, outer event, grade."""


@pytest.fixture(scope="module")
def shipped():
    return aemodel.load_model("aall1331")


@pytest.fixture(scope="module")
def calibration(shipped):
    return aemodel.calibration_table(shipped)


@pytest.fixture(scope="module")
def identification(shipped):
    return aemodel.identification_table(shipped)


@pytest.fixture(scope="module")
def posterior(shipped):
    # As double: ranks of float32 draws would tie.
    return shipped.posterior.astype(float)


def risk(shipped, event, grade):
    return shipped.risks.draws[:, :, shipped.risks.events.index(event), shipped.risks.grades.index(grade)].astype(float)


# What is in it.


def test_it_has_the_eleven_events(shipped):
    assert list(shipped.risks.events) == EVENTS


def test_it_has_both_grades(shipped):
    assert shipped.risks.grades == GRADES


def test_it_keeps_a_thousand_risk_draws(shipped):
    assert len(shipped.risks.draws) == 1000


def test_it_was_fitted_to_the_shipped_publication(shipped, aall1331):
    assert shipped.tables.digest == aall1331.digest, "the publication changed: run `make fit`"


# The sampler, judged again from all draws.


def worst(values):
    return {str(name): float(array.max()) for name, array in values.items()}


def least(values):
    return {str(name): float(array.min()) for name, array in values.items()}


def test_four_chains_of_a_thousand_draws(posterior):
    assert posterior.sizes["chain"] >= 4
    assert posterior.sizes["draw"] >= 1000


def test_chains_agree_on_every_parameter(posterior):
    assert max(worst(az.rhat(posterior)).values()) <= 1.01, worst(az.rhat(posterior))


@pytest.mark.parametrize("method", ["bulk", "tail"])
def test_effective_sample_size_of_every_parameter(posterior, method):
    found = least(az.ess(posterior, method=method))
    assert min(found.values()) >= 400, found


def test_no_divergences(shipped):
    assert int(shipped.idata["sample_stats"]["diverging"].sum()) == 0


def test_energy_was_explored(shipped):
    assert float(np.min(az.bfmi(shipped.idata))) >= 0.3


def test_manifest_tells_the_diagnostics_of_these_draws(shipped, posterior):
    told = shipped.diagnostics
    # Draws are stored as float32, which moves ranks a little.
    assert told.r_hat == pytest.approx(max(worst(az.rhat(posterior)).values()), abs=1e-3)
    assert told.ess_bulk == pytest.approx(min(least(az.ess(posterior)).values()), rel=0.01)
    assert told.ess_tail == pytest.approx(min(least(az.ess(posterior, method="tail")).values()), rel=0.01)


def test_diagnostics_passed_the_gate(shipped):
    assert shipped.diagnostics.failures() == []


# Coherence, in every draw and every cell, those of a new level included.


@pytest.mark.parametrize("event", EVENTS)
def test_higher_grades_are_rarer_in_every_draw(shipped, event):
    assert (risk(shipped, event, "4-5") - risk(shipped, event, "3-5")).max() <= FLOAT32


@pytest.mark.parametrize(("inner", "outer", "grade"), INSIDE)
def test_no_event_exceeds_the_one_it_lies_in_in_any_draw(shipped, inner, outer, grade):
    assert (risk(shipped, inner, grade) - risk(shipped, outer, grade)).max() <= FLOAT32


def test_febrile_neutropenia_and_infection_unite_to_infections_total_in_every_draw(shipped):
    total = risk(shipped, "infections_total", "3-5")
    parts = risk(shipped, "febrile_neutropenia", "3-5"), risk(shipped, "infections", "3-5")
    assert (np.maximum(*parts) - total).max() <= FLOAT32
    assert (total - sum(parts)).max() <= FLOAT32


def test_death_is_the_same_at_both_grades(shipped):
    np.testing.assert_array_equal(risk(shipped, "death", "3-5"), risk(shipped, "death", "4-5"))


def test_every_risk_is_strictly_between_zero_and_one(shipped):
    assert shipped.risks.draws.min() > 0
    assert shipped.risks.draws.max() < 1


# Calibration.


def test_calibration_columns(calibration):
    assert list(calibration.columns) == COLUMNS


def test_calibration_has_every_published_row_with_its_count(calibration, aall1331):
    names = ["event", "grade", "covariate", "level", "n", "observed", "derived"]
    pd.testing.assert_frame_equal(calibration[names], aall1331.frequencies[names])


def test_calibration_leaves_out_what_was_not_published(calibration):
    rows = calibration[(calibration["event"] == "febrile_neutropenia") & (calibration["grade"] == "4-5")]
    assert rows.empty


def test_nothing_was_withheld(calibration):
    assert not calibration["withheld"].any()


def test_intervals_are_nested_and_within_the_patients(calibration):
    edges = calibration[["lower90", "lower50", "upper50", "upper90", "n"]].to_numpy()
    assert (np.diff(edges, axis=1) >= 0).all()
    assert (edges[:, 0] >= 0).all()


def test_published_counts_lie_in_their_90_percent_interval(calibration):
    rows = calibration[~calibration["derived"]]
    outside = rows[(rows["observed"] < rows["lower90"]) | (rows["observed"] > rows["upper90"])]
    assert len(outside) <= 0.05 * len(rows), outside.to_string()


def test_predicted_rates_are_near_the_observed_ones(calibration):
    """Within 2.6 binomial standard errors (and half a patient): the joint fit of 74 rows reproduces each."""
    rows = calibration[~calibration["derived"]]
    allowed = 2.6 * np.sqrt(rows["predicted"] * (1 - rows["predicted"]) / rows["n"]) + 0.5 / rows["n"]
    far = (rows["predicted"] - rows["observed_rate"]).abs() > allowed
    assert not far.any(), rows[far].to_string()


# Patients are counted once.


def cohort_risk(shipped, event, grade):
    patient = pd.DataFrame({c.name: [None] for c in shipped.risks.covariates})
    return aemodel.posterior_epred(shipped, patient).sel(event=event, grade=grade)


def test_overall_infection_risk_is_as_uncertain_as_661_patients_make_it(shipped):
    """One binomial of 351/661 has 0.0194; multiplying overlapping margins as if independent gave 0.0140."""
    assert 0.0165 < float(cohort_risk(shipped, "infections_total", "3-5").std()) < 0.021


@pytest.mark.parametrize(
    ("event", "grade", "observed"),
    [
        ("any_ae", "3-5", 480),
        ("any_ae", "4-5", 183),
        ("infections_total", "3-5", 351),
        ("infections_total", "4-5", 87),
        ("infections", "3-5", 242),
        ("sepsis", "3-5", 67),
        ("febrile_neutropenia", "3-5", 200),
        ("death", "3-5", 24),
    ],
)
def test_fitted_totals_are_near_the_published_ones(shipped, event, grade, observed):
    """Within half a binomial standard deviation: the total itself, or margins that add up to it, were fitted."""
    expected = 661 * float(cohort_risk(shipped, event, grade).mean())
    assert expected == pytest.approx(observed, abs=0.5 * np.sqrt(observed * (1 - observed / 661)))


# What the data say.


def test_identification_has_a_row_for_every_effect(identification, shipped):
    levels = sum(len(c.levels) for c in shipped.risks.covariates)
    assert len(identification) == levels * len(EVENTS) * len(GRADES)
    assert not identification.duplicated(["event", "grade", "covariate", "level"]).any()


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("grade", GRADES)
def test_no_margin_identifies_race_and_ethnicity(identification, shipped, event, grade):
    """What there is are words and silence, and answers that rest on these are flagged as prior."""
    rows = identification.query("covariate == 'race_ethnicity' and event == @event and grade == @grade")
    null = (event, grade) in {(n.event, n.grade) for n in shipped.tables.nulls if n.covariate == "race_ethnicity"}
    assert set(rows["assumption"]) == {"null and ordering" if null else "ordering"}
    assert set(rows["support"]) == {"prior"}
    names = [c.name for c in shipped.risks.covariates]
    source = shipped.risks.source[names.index("race_ethnicity"), EVENTS.index(event), GRADES.index(grade)]
    assert SUPPORT[source] == "prior"


@pytest.mark.parametrize("event", ["infections", "sepsis", "hyperglycemia"])
def test_age_effects_with_published_margins_are_learned(identification, event):
    rows = identification.query("covariate == 'age_band' and event == @event and grade == '3-5'")
    assert set(rows["support"]) == {"data"}
    assert rows["contraction"].min() > 0.5


def test_an_unlisted_pair_has_its_null_beside_its_flag(identification, shipped):
    rows = identification.query("covariate == 'sex' and event == 'infections' and grade == '3-5'")
    assert set(zip(rows["support"], rows["assumption"], strict=True)) == {("pooled", "null")}
    sex = [c.name for c in shipped.risks.covariates].index("sex")
    assert SUPPORT[shipped.risks.source[sex, EVENTS.index("infections"), 0]] == "pooled"


def test_contraction_is_of_the_standard_deviations_beside_it(identification):
    expected = 1 - (identification["posterior_sd"] / identification["prior_sd"]) ** 2
    np.testing.assert_allclose(identification["contraction"], expected, rtol=1e-12)
