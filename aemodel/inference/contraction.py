"""How much the published tables narrowed each effect, and what therefore carries an answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from aemodel.inference.forward import KEPT_DRAWS, Forward, logit, risk_draws
from aemodel.publication.rules import split
from aemodel.publication.tables import Tables
from aemodel.scoring.risks import SUPPORT, RiskDraws

LEARNED = 0.25
"""Contraction of an event's effects from which they count as learned from its own margins."""

NOTICED = 0.1
"""Contraction below which effects count as prior, whatever was published."""

Floats = NDArray[np.float64]


def sourced_risks(tables: Tables, forward: Forward, prior: xr.Dataset, draws: xr.Dataset, seed: int) -> RiskDraws:
    """Risk draws of the posterior ``draws``, with what each covariate's effects rest on by the rule of `sources`."""
    risks = risk_draws(tables, forward, draws, seed)
    before = prior_risks(tables, forward, prior, draws, seed)
    return replace(risks, source=sources(tables, covariate_contraction(risks, before)))


def sources(tables: Tables, contraction: Floats) -> NDArray[np.int64]:
    """Position in `SUPPORT` of what a covariate's effects on an event rest on: (covariate, event, grade).

    ``data`` if the event's own margin by the covariate is published and contraction is at least `LEARNED`; ``prior`` if
    no margin by the covariate is published at all, or contraction is below `NOTICED`; otherwise ``pooled``.
    """
    rows = tables.frequencies[~tables.frequencies["derived"]]
    places = zip(rows["covariate"], rows["level"], rows["event"], rows["grade"], strict=True)
    own = {(name, event, grade) for *at, event, grade in places for name, _ in split(tables.covariates, *at) or ()}
    # A fatal event is grade 5: its row at one grade speaks for all.
    fatal = {event.name for event in tables.events if event.relation == "fatal"}
    own |= {(covariate, event, grade) for covariate, event, _ in own if event in fatal for grade in tables.grades}
    given = np.array([[[(c.name, e.name, g) in own for g in tables.grades] for e in tables.events] for c in tables.covariates])
    anywhere = np.array([c.name in {name for name, *_ in own} for c in tables.covariates])[:, None, None]
    found = np.where(given & (contraction >= LEARNED), 0, 1)
    return np.where(anywhere & (contraction >= NOTICED), found, SUPPORT.index("prior"))


def covariate_contraction(risks: RiskDraws, prior: RiskDraws) -> Floats:
    """Contraction of each covariate's effects together, by their variances' sums over levels: (covariate, event, grade)."""
    pairs = zip(level_effects(risks), level_effects(prior), strict=True)
    return np.array([1 - after.var(axis=0).sum(axis=0) / before.var(axis=0).sum(axis=0) for after, before in pairs])


def level_effects(risks: RiskDraws) -> list[Floats]:
    """For each covariate, draws of the log odds at each level less the cohort's: (sample, level, event, grade).

    Risks at a level are those were everybody at it, the other covariates as in the cohort.
    """
    everything = np.array([covariate.everything for covariate in risks.covariates])
    cohort = logit(risks.standardised(everything, ()))
    found = []
    for k, covariate in enumerate(risks.covariates):
        levels = []
        for level in range(len(covariate.levels)):
            sets = everything.copy()
            sets[k] = 1 << level
            levels.append(logit(risks.standardised(sets, (k,))) - cohort)
        found.append(np.stack(levels, axis=1))
    return found


def prior_risks(tables: Tables, forward: Forward, prior: xr.Dataset, draws: xr.Dataset, seed: int) -> RiskDraws:
    """Risks from the prior of the effects at the fitted intercepts: how far an effect moves a risk depends on where it is."""
    size = draws.sizes["chain"] * draws.sizes["draw"]
    intercepts = draws["intercept"].values.reshape(size, -1)[np.arange(prior.sizes["draw"]) % size]
    mixed = prior.assign(intercept=(prior["intercept"].dims, intercepts[None]))
    return risk_draws(tables, forward, mixed.isel(draw=slice(0, KEPT_DRAWS)), seed)
