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


def test_it_has_a_thousand_draws_of_the_shipped_publications_events_and_grades(shipped, aall1331):
    assert (list(shipped.risks.events), shipped.risks.grades, len(shipped.risks.draws)) == (EVENTS, GRADES, 1000)
    assert shipped.tables.digest == aall1331.digest, "the publication changed: run `make fit`"


# The sampler, judged again from all draws.


def extremes(values):
    found = np.concatenate([array.values.ravel() for array in values.values()])
    return float(found.min()), float(found.max())


def test_the_sampler_passed_and_the_manifest_tells_so(shipped, posterior):
    told, (_, r_hat) = shipped.diagnostics, extremes(az.rhat(posterior))
    (bulk, _), (tail, _) = (extremes(az.ess(posterior, method=method)) for method in ("bulk", "tail"))
    assert posterior.sizes["chain"] >= 4
    assert posterior.sizes["draw"] >= 1000
    assert r_hat <= 1.01
    assert min(bulk, tail) >= 400
    assert int(shipped.idata["sample_stats"]["diverging"].sum()) == 0
    assert float(np.min(az.bfmi(shipped.idata))) >= 0.3
    # Draws are stored as float32, which moves ranks a little.
    assert told.r_hat == pytest.approx(r_hat, abs=1e-3)
    assert (told.ess_bulk, told.ess_tail) == pytest.approx((bulk, tail), rel=0.01)
    assert told.failures() == []


# Coherence, in every draw and every cell, those of a new level included.


def test_risks_nest_in_every_draw(shipped):
    assert 0 < shipped.risks.draws.min() < shipped.risks.draws.max() < 1
    for event in EVENTS:
        assert (risk(shipped, event, "4-5") - risk(shipped, event, "3-5")).max() <= FLOAT32, event
    for inner, outer, grade in INSIDE:
        assert (risk(shipped, inner, grade) - risk(shipped, outer, grade)).max() <= FLOAT32, (inner, outer, grade)
    total = risk(shipped, "infections_total", "3-5")
    parts = risk(shipped, "febrile_neutropenia", "3-5"), risk(shipped, "infections", "3-5")
    assert (np.maximum(*parts) - total).max() <= FLOAT32
    assert (total - sum(parts)).max() <= FLOAT32
    np.testing.assert_array_equal(risk(shipped, "death", "3-5"), risk(shipped, "death", "4-5"))


# Calibration.


def test_calibration_has_every_published_row_with_its_count_and_no_other(calibration, aall1331):
    assert list(calibration.columns) == COLUMNS
    names = ["event", "grade", "covariate", "level", "n", "observed", "derived"]
    pd.testing.assert_frame_equal(calibration[names], aall1331.frequencies[names])
    assert not calibration["withheld"].any()


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


def test_overall_infection_risk_is_as_uncertain_as_661_patients_make_it(shipped):
    """One binomial of 351/661 has 0.0194; multiplying overlapping margins as if independent gave 0.0140."""
    anybody = pd.DataFrame({c.name: [None] for c in shipped.risks.covariates})
    assert 0.0165 < float(aemodel.posterior_epred(shipped, anybody).sel(event="infections_total", grade="3-5").std()) < 0.021


def test_fitted_totals_are_near_the_published_ones(calibration):
    """Within half a binomial standard deviation: the total itself, or margins that add up to it, were fitted."""
    totals = calibration[(calibration["covariate"] == "total") & (calibration["observed"] >= 24)]
    off = (totals["expected"] - totals["observed"]).abs() / np.sqrt(totals["observed"] * (1 - totals["observed_rate"]))
    assert len(totals) == 16
    assert off.max() < 0.5


# What the data say.


def test_no_margin_identifies_race_and_ethnicity(identification, shipped):
    """What there is are words and silence, and answers that rest on these are flagged as prior."""
    rows = identification[identification["covariate"] == "race_ethnicity"]
    assert set(rows["support"]) == {"prior"}
    assert len(rows) == 6 * len(EVENTS) * len(GRADES)
    k = [c.name for c in shipped.risks.covariates].index("race_ethnicity")
    assert (shipped.risks.source[k] == SUPPORT.index("prior")).all()


def test_age_effects_with_published_margins_are_learned(identification):
    rows = identification.query("covariate == 'age_band' and grade == '3-5'")
    rows = rows[rows["event"].isin(["infections", "sepsis", "hyperglycemia"])]
    assert set(rows["support"]) == {"data"}
    assert rows["contraction"].min() > 0.5
