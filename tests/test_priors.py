"""What the priors imply for marginal odds ratios, and what the deviation from additivity leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from aemodel.answers import calibration
from aemodel.answers.calibration import rate_draws
from aemodel.answers.contrasts import level_effects
from aemodel.answers.identification import prior_risks as make_prior_risks
from aemodel.inference import priors
from aemodel.inference.design import make_design
from aemodel.inference.forward import event_sums, make_forward, make_model_forward, risk_draws
from aemodel.inference.record import as_json

COVARIATES = ("age_band", "relapse_group", "sex", "race_ethnicity")
ONE_TERM = ("age_band", "sex", "race_ethnicity")
"""Covariates whose levels are exchangeable; relapse groups are sites and timings within them, so their effects add up."""


@pytest.fixture(scope="module")
def prior_risks(shipped):
    return make_prior_risks(shipped)


@pytest.fixture(scope="module")
def contrasts(prior_risks):
    """Prior sd of the log odds ratio between the first and last level, by covariate: (event, grade)."""
    effects = level_effects(prior_risks)
    return {c.name: (e[:, 0] - e[:, -1]).std(axis=0) for c, e in zip(prior_risks.covariates, effects, strict=True)}


# Marginal odds ratios.


@pytest.mark.parametrize("covariate", COVARIATES)
def test_odds_ratios_between_levels_are_plausible_a_priori(contrasts, prior_risks, covariate):
    """At every event and grade between 0.6 and 3 on the log odds: wide, for scales are learned from all events."""
    found = dict(zip(prior_risks.events, contrasts[covariate].tolist(), strict=True))
    assert contrasts[covariate].min() > 0.6, found
    assert contrasts[covariate].max() < 3, found


@pytest.mark.parametrize("covariate", ONE_TERM)
def test_odds_ratios_are_alike_whatever_an_events_depth_of_nesting(contrasts, prior_risks, covariate):
    """But for the part of a union that moves with its whole."""
    found = contrasts[covariate][:, prior_risks.grades.index("3-5")]
    told = dict(zip(prior_risks.events, found, strict=True))
    assert min(told.values()) == told.pop("febrile_neutropenia")
    assert max(told.values()) < 2 * min(told.values()), told


def test_odds_ratios_are_alike_whatever_the_number_of_levels(contrasts):
    means = [contrasts[covariate].mean() for covariate in ONE_TERM]
    assert max(means) < 1.25 * min(means)


def test_effects_are_centred_at_zero_a_priori(prior_risks):
    """Mean log odds ratio of two levels a quarter of its sd at most: levels are exchangeable but for the cohort's centre.

    A rare level far from the others leaves them at the cohort's average, a common one does not.
    """
    for covariate, effects in zip(prior_risks.covariates, level_effects(prior_risks), strict=True):
        contrast = effects[:, 0] - effects[:, -1]
        assert (abs(contrast.mean(axis=0)) < 0.25 * contrast.std(axis=0)).all(), covariate.name


def test_prior_draws_are_those_of_the_priors(shipped):
    """Of 1,000 draws, means and sds within 4 standard errors: of the intercepts' means, and of intercepts about these."""
    prior = shipped.prior.isel(chain=0).astype(float)
    found = {}
    for pool, (centre, spread) in priors.INTERCEPT.items():
        found[pool] = (prior["intercept_mean"].sel(pool=pool).values - centre) / spread
        found[f"spread of {pool}"] = (
            np.log(prior["intercept_spread"].sel(pool=pool).values / priors.SPREAD[0]) / priors.SPREAD[1]
        )
    for branch in make_design(shipped.tables).branches:
        mean, spread = (prior[name].sel(pool=branch.pool) for name in ("intercept_mean", "intercept_spread"))
        found[branch.name] = ((prior["cohort_log_odds"].sel(branch=branch.name) - mean) / spread).values
    for name, values in found.items():
        assert abs(values.mean()) < 4 / np.sqrt(len(values)), name
        assert abs(values.std() - 1) < 4 / np.sqrt(2 * len(values)), name


def test_prior_scales_are_half_normal_and_all_priors_recorded(shipped):
    """Mean sqrt(2 / pi) s and second moment s^2 over 5 terms x 1,000 draws, within 4 standard errors."""
    for pool, scale in priors.SCALE.items():
        scaled = shipped.prior["scale"].sel(pool=pool).values.astype(float).ravel() / scale
        assert abs(scaled.mean() - np.sqrt(2 / np.pi)) < 4 * np.sqrt((1 - 2 / np.pi) / scaled.size)
        assert abs((scaled**2).mean() - 1) < 4 * np.sqrt(2 / scaled.size)
    assert shipped.settings["priors"] == as_json(priors.describe())


# The prior on the risk scale.


@pytest.fixture(scope="module")
def prior_predictive(shipped):
    """Risk draws from the prior, intercepts included."""
    forward, _, seed = make_model_forward(shipped)
    return risk_draws(shipped.tables, forward, shipped.prior, seed)


def cohort_risks(risks):
    return np.average(risks.draws.astype(float), axis=1, weights=risks.weight)


def test_published_totals_are_nowhere_surprising_a_priori(prior_predictive, shipped):
    """Two-sided mid-P of each count in its prior predictive distribution above 1 %."""
    risks = cohort_risks(prior_predictive)
    totals = shipped.tables.frequencies.query("covariate == 'total' and grade in ('3-5', '4-5')")
    for row in totals.itertuples():
        draws = risks[:, prior_predictive.events.index(row.event), prior_predictive.grades.index(row.grade)]
        at_most, below = binom.cdf([[row.observed], [row.observed - 1]], row.n, draws).mean(axis=1)
        middle = (at_most + below) / 2
        assert 0.005 < middle < 0.995, (row.event, row.grade, middle)


def test_risks_are_spread_over_most_of_the_scale_a_priori(prior_predictive):
    risks = cohort_risks(prior_predictive)[:, :, prior_predictive.grades.index("3-5")]
    assert np.subtract(*np.quantile(risks, (0.95, 0.05), axis=0)).min() > 0.1


# The deviation from additivity.


@pytest.fixture(scope="module")
def rates(shipped):
    """Draws of every published margin's rate without deviation and with it: two arrays (sample, row)."""
    forward, draws, seed = make_model_forward(shipped)
    found = []
    for deviation in (0.0, priors.DEVIATION):
        changed = make_forward(forward.design, deviation)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(calibration, "model_states", lambda _, f=changed: (f.design, f.states(draws, seed)))
            found.append(rate_draws(shipped, shipped.tables.frequencies))
    return found


def test_deviation_neither_moves_margins_nor_widens_them(rates):
    """Means least; draw by draw much less than they are uncertain."""
    additive, deviating = rates
    sd, moved = additive.std(axis=0), deviating - additive
    assert abs(moved.mean(axis=0) / sd).max() < 0.1
    assert (np.sqrt((moved**2).mean(axis=0)) / sd).max() < 0.3
    np.testing.assert_allclose(deviating.std(axis=0), sd, rtol=0.06)


def test_deviation_widens_the_risk_of_a_patient(shipped):
    forward, draws, seed = make_model_forward(shipped)
    some = draws.isel(draw=slice(0, 100))
    spreads = []
    for deviation in (0.0, priors.DEVIATION):
        states = make_forward(forward.design, deviation).states(some, seed)
        p = event_sums(forward.design, [("infections", "3-5")]) @ np.stack(list(states))
        spreads.append(np.log(p / (1 - p)).std(axis=0)[0, :144].mean())
    assert spreads[1] > spreads[0]
