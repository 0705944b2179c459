"""Sensitivity to priors by power-scaling: against conjugate posteriors, and against refits at other prior scales."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import halfnorm, norm, spearmanr

import aemodel
from aemodel.answers.risk import read_patients
from aemodel.answers.sensitivity import (
    LARGEST,
    _intercept_logp,
    _quantities,
    _scale_logp,
    _shift,
    robustness_table,
    sensitivity_table,
)
from aemodel.inference import priors
from aemodel.inference.design import make_design
from aemodel.inference.forward import additive_residual, event_sums, logit, make_model_forward
from aemodel.inference.idata import power_scaling
from tests.reports import drawn_model
from tests.test_any_table import CELLS, trial

pytestmark = pytest.mark.xdist_group("fits")


@pytest.fixture(scope="module")
def table(shipped):
    return sensitivity_table(shipped)


# A conjugate toy: a normal observation of a normal mean, whose prior to the power a is one of scale / sqrt(a).

PRIOR_SD, OBSERVED, SIZE = 1.5, 2.0, 200_000


@pytest.fixture(scope="module")
def toy():
    """Posterior draws of the mean (noise sd 1), and their log prior."""
    variance = PRIOR_SD**2 / (PRIOR_SD**2 + 1)
    mean = np.random.default_rng(1).normal(variance * OBSERVED, np.sqrt(variance), SIZE)
    return mean, -0.5 * (mean / PRIOR_SD) ** 2


def toy_mean(power):
    variance = PRIOR_SD**2 / power
    return OBSERVED * variance / (variance + 1)


def test_shift_is_the_exact_slope_of_a_conjugate_posterior(toy):
    """Of the mean with the log of the prior's power, times the log of 1/4; within 3 %, and none for pure noise."""
    mean, log_prior = toy
    noise = np.random.default_rng(2).normal(size=SIZE)
    found = _shift(np.stack([mean, -mean, noise], axis=1), log_prior)
    slope = (toy_mean(np.exp(1e-4)) - toy_mean(np.exp(-1e-4))) / 2e-4
    expected = np.log(0.25) * slope / np.sqrt(PRIOR_SD**2 / (PRIOR_SD**2 + 1))
    assert found[0] == pytest.approx(expected, rel=0.03)
    assert found[1] == pytest.approx(-found[0])
    assert abs(found[2]) < 4 * abs(np.log(0.25)) * log_prior.std() / np.sqrt(SIZE)


def test_power_scaling_tells_which_quantity_depends_on_what(toy):
    """The toy's mean depends on prior and likelihood, noise on neither; one value for each quantity and log density."""
    mean, log_prior = (values[:4000].reshape(4, 1000) for values in toy)
    noise = np.random.default_rng(3).normal(size=(4, 1000))
    samples = {"scales": log_prior, "data": -0.5 * (mean - OBSERVED) ** 2}
    found = power_scaling(np.stack([mean, noise], axis=2), samples, ["scales"], ["data"])
    assert {name: values.shape for name, values in found.items()} == {"scales": (2,), "data": (2,)}
    for values in found.values():
        assert values[0] > 0.08
        assert values[1] < 0.05


# What is scaled.


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_log_prior_of_scales_is_half_normal(shipped, factor):
    forward, draws, _ = make_model_forward(shipped)
    expected = 0.0
    for pool in ("incidence", "severity", "composition"):
        values = draws["scale"].sel(pool=pool).values.astype(float)
        expected = expected + halfnorm.logpdf(values, scale=factor * priors.SCALE[pool]).sum(axis=-1)
    found = _scale_logp(draws, forward.design, factor)
    np.testing.assert_allclose(found - found.mean(), expected.ravel() - expected.mean(), atol=1e-8)


def test_log_prior_of_intercepts_is_normal_about_exchangeable_means(shipped):
    forward, draws, _ = make_model_forward(shipped)
    expected = 0.0
    for pool, about in priors.INTERCEPT.items():
        mean, spread = (draws[f"intercept_{name}"].sel(pool=pool).values.astype(float) for name in ("mean", "spread"))
        expected = expected + norm.logpdf(mean, *about) + norm.logpdf(np.log(spread / priors.SPREAD[0]), 0, priors.SPREAD[1])
        for branch in forward.design.branches:
            if branch.pool == pool:
                expected = expected + norm.logpdf(draws["cohort_log_odds"].sel(branch=branch.name).values, mean, spread)
    np.testing.assert_allclose(_intercept_logp(draws, forward.design), expected.ravel(), rtol=1e-5)


def test_quantities_are_log_odds_of_standardised_risks(shipped):
    risks = shipped.risks
    index, quantities = _quantities(risks)
    assert quantities.shape == (len(risks.draws), len(index)) == (1000, 11 * 2 * (1 + 3 + 4 + 2 + 6))
    everything = np.array([c.everything for c in risks.covariates])
    for covariate, level, sets, fixed in (("total", "all", everything, ()), ("sex", "female", np.array([7, 15, 2, 63]), (2,))):
        expected = logit(risks.standardised(sets, fixed)[:, risks.events.index("sepsis"), 1])
        np.testing.assert_array_equal(quantities[:, index.index(("sepsis", "4-5", covariate, level))], expected)


# The table.


def test_table_has_a_row_for_each_event_grade_and_level_with_its_diagnosis(table):
    columns = ["event", "grade", "covariate", "level", "scales", "intercepts", "data", "shift", "diagnosis"]
    assert list(table.columns) == columns
    assert len(table) == len(table.drop_duplicates(columns[:4])) == 11 * 2 * 16
    assert np.isfinite(table[columns[4:8]]).all(axis=None)
    assert (table[["scales", "intercepts", "data"]] >= 0).all(axis=None)
    for row in table.itertuples():
        assert row.diagnosis == ("" if row.scales < 0.05 else "prior" if row.data < 0.05 else "conflict")
    row = table.query("event == 'infections' and grade == '3-5' and covariate == 'total'").iloc[0]
    assert row["data"] > 0.05 > row["scales"]


def test_a_publication_that_counts_half_matters_half(shipped, table):
    """The same draws, had they come from a power prior: what is scaled is half the log likelihood."""
    settings = dict(shipped.settings) | {"power": 0.5}
    half = sensitivity_table(aemodel.Fitted(shipped.tables, shipped.idata, shipped.diagnostics, settings, shipped.risks))
    clear = table["data"] > 0.1
    assert np.median(half["data"][clear] / table["data"][clear]) == pytest.approx(0.5, abs=0.1)
    np.testing.assert_allclose(half["scales"], table["scales"])


# Departure from additivity.

PROFILES = pd.DataFrame(
    {
        "age_band": ["19-30", "19-30", "1-9", "1-9", None],
        "relapse_group": ["bm_early", "bm_early", "iem_late", None, None],
        "sex": ["female", None, None, None, None],
        "race_ethnicity": ["hispanic", None, None, None, None],
    },
    dtype=object,
)


@pytest.fixture(scope="module")
def robustness(shipped):
    return robustness_table(shipped, PROFILES).set_index(["patient", "event", "grade"]).sort_index()


def departed(risks, sets, rng, sd, residual):
    """Log odds of profiles, (sample, profile, event and grade), their cells off additivity afresh in each sample."""
    cells = len(residual)
    odds = logit(risks.draws[:, :cells]).reshape(len(risks.draws), cells, -1)
    off = np.einsum("cd,sde->sce", residual, rng.standard_normal(odds.shape))
    return logit(np.einsum("pc,sce->spe", risks.weights(sets)[:, :cells], 1 / (1 + np.exp(-odds - sd * off))))


@pytest.mark.slow
def test_departure_that_doubles_an_interval_is_found_by_simulation(shipped, robustness):
    """Four covariates known, or two: a departure of the tabled size, drawn, doubles the standard deviation, within 15 %."""
    profiles, row, _ = read_patients(shipped.risks.covariates, PROFILES, None)
    sets = profiles[row]
    residual, rng = additive_residual(make_design(shipped.tables)), np.random.default_rng(1)
    before = departed(shipped.risks, sets, rng, 0.0, residual).std(axis=0)
    checked = 0
    for i, (event, grade) in enumerate([(e, g) for e in shipped.risks.events for g in shipped.risks.grades]):
        for patient, few in ((0, LARGEST), (1, 0.9), (2, 0.9)):
            sd = robustness.loc[(patient, event, grade), "doubled_sd"]
            if sd < few:
                after = departed(shipped.risks, sets[[patient]], rng, sd, residual).std(axis=0)[0, i]
                assert after / before[patient, i] == pytest.approx(2, rel=0.15), (patient, event, grade)
                checked += 1
    assert checked > 15


def test_forward_map_departs_as_the_table_says(shipped, robustness):
    """An event that is one branch: the variance that the model's own deviation adds, at a small scale, within 25 %."""
    forward, draws, seed = make_model_forward(shipped)
    profiles, row, _ = read_patients(shipped.risks.covariates, PROFILES, None)
    sets = profiles[row]
    weights, having = shipped.risks.weights(sets), event_sums(forward.design, [("hyperglycemia", "3-5")])[0]

    def log_odds(deviation):
        states = replace(forward, deviation=deviation).states(draws, seed)
        return np.array([logit(weights @ (having @ p)) for p in states])

    added = np.mean((log_odds(0.05) - log_odds(0.0)) ** 2, axis=0) / 0.05**2
    variance = logit(shipped.risks.risks(sets)[:, :, shipped.risks.events.index("hyperglycemia"), 0]).var(axis=0)
    expected = 3 * variance / robustness.xs(("hyperglycemia", "3-5"), level=("event", "grade"))["doubled_sd"] ** 2
    np.testing.assert_allclose(added[:3], expected[:3], rtol=0.25)
    assert (added[3:] < 0.01).all()


@pytest.mark.slow
def test_contrast_loses_its_sign_at_an_interaction_of_the_tabled_size(shipped):
    """Half the departure leaves 1 outside of the interval, half as much again does not; it is on it within 15 %."""
    risks = shipped.risks
    who = PROFILES.iloc[[1]]
    reference = {"age_band": "1-9", "relapse_group": "iem_late"}
    table = robustness_table(shipped, who, reference)
    profiles, row, _ = read_patients(risks.covariates, pd.concat([who, pd.DataFrame([reference])]).astype(object), None)
    sets = profiles[row]
    residual, found = additive_residual(make_design(shipped.tables)), 0
    for i, row in enumerate(table.itertuples()):
        if not 0.1 < row.open_sd < 1.5:
            continue
        for times in (0.5, 1.0, 1.5):
            odds = departed(risks, sets, np.random.default_rng(2), times * row.open_sd, residual)[:, :, i]
            lower, middle, upper = np.quantile(odds[:, 0] - odds[:, 1], (0.05, 0.5, 0.95))
            near, half = (lower, middle - lower) if row.odds_ratio > 1 else (-upper, upper - middle)
            assert (near > 0) == (times < 1) or times == 1, (row.event, row.grade, times)
            assert times != 1 or abs(near) < 0.15 * half
        found += 1
    assert found >= 3


def test_cohort_and_single_levels_do_not_depend_on_additivity(shipped, robustness):
    """Their cells' departures average out: margins could see what is left. Nothing known differs from nobody."""
    assert np.isinf(robustness.loc[[3, 4], "doubled_sd"]).all()
    assert (robustness.loc[4, ["odds_ratio", "open_or"]] == 1).all(axis=None)
    assert np.isfinite(robustness.loc[0, "doubled_sd"]).mean() > 0.9
    with pytest.raises(aemodel.InputError, match="reference: unknown columns"):  # as a contrast's
        robustness_table(shipped, PROFILES, {"weight": 3})


def test_interaction_that_is_published_is_no_departure():
    """By margins an answer for two levels together depends on additivity, by their cross-tabulation it does not."""
    margins = ["rash,3-5,arm,a,20,4", "rash,3-5,arm,b,20,9", "rash,3-5,age,young,19,6", "rash,3-5,age,60+,21,7"]
    crossed = [f"rash,3-5,arm*age,{'*'.join(cell)},{CELLS[cell]},{y}" for cell, y in zip(CELLS, (1, 3, 5, 4), strict=True)]
    who = pd.DataFrame({"arm": ["a"], "age": ["young"]})
    one, other = (
        robustness_table(drawn_model(trial(rows, "rash,Rash,,,3-5,all").texts), who)["doubled_sd"]
        for rows in (margins, crossed)
    )
    assert np.isfinite(one).all()
    assert np.isinf(other).all()


# Refits.


@pytest.fixture(scope="module")
def refits(invented):
    """Short fits at half, whole and double prior scale; too short for the gate of a real fit."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for scale in (0.5, 1.0, 2.0):
            found[scale] = aemodel.fit(
                invented, seed=1, draws=400, chains=4, tune=250, attempts=1, ordering=None, prior_scale=scale, progress=False
            )
    return found


@pytest.mark.slow
def test_prior_scale_reaches_sampler_prior_and_settings(refits):
    spread = {scale: float(fitted.prior["scale"].mean()) for scale, fitted in refits.items()}
    assert spread[2.0] == pytest.approx(4 * spread[0.5], rel=1e-6)
    posterior = [float(fitted.posterior["scale"].mean()) for fitted in refits.values()]
    assert posterior == sorted(posterior)
    assert [fitted.settings["prior_scale"] for fitted in refits.values()] == [0.5, 1.0, 2.0]


@pytest.mark.slow
def test_shift_agrees_with_refits_in_sign_and_rank(refits):
    """Change of the mean for each doubling of the prior scale, in posterior sds, over events, grades and levels.

    Both err by about 0.1 (Monte Carlo), so signs are compared where the table says 0.25 or more.
    """
    half, whole, double = (_quantities(fitted.risks)[1] for fitted in refits.values())
    refitted = (double.mean(axis=0) - half.mean(axis=0)) / (2 * whole.std(axis=0))
    shift = sensitivity_table(refits[1.0])["shift"].to_numpy()
    assert spearmanr(shift, refitted)[0] > 0.6
    clear = abs(shift) > 0.25
    assert clear.sum() >= 5
    assert (np.sign(shift) == np.sign(refitted))[clear].mean() > 0.9
