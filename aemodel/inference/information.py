"""What published counts say of an answer: how much its event's own rows narrow it, and what all others add.

An answer is the log odds of an event where something is known of a patient, less the cohort's: the sum of the effects of
the levels known. Given the scales of effects, the parameters are normal a priori, with variances W; counts y add Fisher's
information J' S^-1 J, with J the derivatives of expected counts and S their covariance given the risks. With G the
effects' derivatives, their covariance given the rows A is about

    V(A)  =  G W G'  -  G W J_A' (S_A + J_A W J_A')^-1 J_A W G',

averaged over posterior draws. Given no rows, and given the event's own ones, scales are as wide as the prior has them;
given all rows they are the draw's, as only all rows together tell them. (Those of a covariate by which nothing was counted
are the draw's throughout: they are no count's finding.) Of the variance 1 - V(all)/V(none) is known, and of that the share
log[V(none)/V(own)] / log[V(none)/V(all)] from the event's own rows by themselves; what all others add is pooled. Only
effects count, not intercepts; what effects do to branches' levels is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from aemodel.inference import priors
from aemodel.inference.design import Design
from aemodel.inference.effects import branch_shares, effect_scales, severity_steps
from aemodel.inference.forward import Forward, flat, make_forward, movement_of, risk_draws
from aemodel.publication.arrays import Bools, Floats, Ints
from aemodel.publication.rules import split
from aemodel.publication.tables import Tables
from aemodel.scoring.risks import SUPPORT, RiskDraws, support_by_shares

DRAWS = 160
"""Posterior draws over which variances are averaged."""

ROUNDING = 1e-4
"""Added to the variance of counts (patients squared): some are sums of others."""


class Counts(NamedTuple):
    """Risks that are averages over cells, of which one count or the odds of an event are made.

    ``kind`` (row,) is the place of each one's states among all distinct ones, ``cells`` (row, cell) its weights.
    """

    kind: Ints
    cells: Floats


def measured_risks(
    tables: Tables, forward: Forward, draws: xr.Dataset, seed: int, *, prior_scale: float = 1.0, power: float = 1.0
) -> RiskDraws:
    """Risk draws of the posterior ``draws``, with the measures that their support flags follow from."""
    variances, counted = level_variances(tables, forward.design, draws, prior_scale, power), _counted(tables)
    risks = replace(risk_draws(tables, forward, draws, seed), variances=variances, counted=counted)
    risks = replace(risks, movement=movement_of(forward, risks.draws))
    return replace(risks, source=_sources(risks))


def _sources(risks: RiskDraws) -> Ints:
    """Position in `SUPPORT` of what covariates' effects rest on, by the mean over levels: (covariate, event, grade)."""
    if not risks.covariates:
        return risks.source
    told = [risks.told_of(k, np.eye(len(covariate.levels))).mean(axis=1) for k, covariate in enumerate(risks.covariates)]
    return np.where(risks.published, support_by_shares(np.stack(told, axis=1)), SUPPORT.index("prior"))


def _counted(tables: Tables) -> Bools:
    """Whether an event was counted at a grade and level: (level, event, grade)."""
    place = {(c.name, name): i for i, (c, name) in enumerate((c, name) for c in tables.covariates for name in c.names)}
    found = np.zeros((len(place), len(tables.events), len(tables.grades)), dtype=bool)
    for row in tables.rows:
        event = next(i for i, event in enumerate(tables.events) if event.name == row.event)
        # A fatal event is grade 5: its row at one grade speaks for all.
        grades = [g == row.grade or tables.events[event].relation == "fatal" for g in tables.grades]
        for name, levels in split(tables.covariates, row.covariate, row.level) or ():
            members = [tables.covariate(name).names[i] for each in levels for i in tables.covariate(name).members(each)]
            found[[place[name, member] for member in members], event] |= grades
    return found


def level_variances(
    tables: Tables, design: Design, draws: xr.Dataset, prior_scale: float = 1.0, power: float = 1.0
) -> NDArray[np.float32]:
    """Covariances of the effects of covariates' levels, end to end: (set of rows, level, level, event, grade).

    Given no rows, the event's own, and all; each event's and grade's in units of their sum over levels a priori.
    """
    frequencies = tables.frequencies[~tables.frequencies["derived"]]
    pairs = [(event.name, grade) for event in tables.events for grade in design.grades]
    kinds = list(dict.fromkeys([*pairs, *zip(frequencies["event"], frequencies["grade"], strict=True)]))
    states = np.array([design.states_having(*kind) for kind in kinds], dtype=float)
    rows, between = _published(design, frequencies, kinds)
    levels = _standard_weights(design)
    own = np.array([(frequencies["event"] == event.name).to_numpy() for event in tables.events])
    counted = _counted_terms(design, tables)
    thin = draws.isel(draw=slice(None, None, max(1, draws.sizes["draw"] * draws.sizes["chain"] // DRAWS)))
    arrays = flat(thin)
    found = []
    for i, p in enumerate(make_forward(design, deviation=0.0).states(thin, 0)):
        draw, p = {name: values[i] for name, values in arrays.items()}, p[:, : len(design.share)]
        slopes = _Slopes(design, draw, p, states)
        jacobian, effects = slopes.of(rows), _effects(slopes, levels, (states @ p)[: len(pairs)])
        noise = (_covariance(design, kinds, states, rows, p) + np.diag(between)) / power
        variances = [_prior_variances(design, draw, wide, prior_scale) for wide in (counted, counted & False)]
        given = _given(effects, jacobian, noise, own, variances)
        # Only their ratios matter; draws of rare events must not count the more.
        found.append(given / np.einsum("gll->g", given[0])[:, None, None])
    shape = (3, len(tables.events), len(design.grades), *2 * (levels.shape[0] - 1,))
    return np.ascontiguousarray(np.mean(found, axis=0).reshape(shape).transpose(0, 3, 4, 1, 2), dtype=np.float32)


def _published(design: Design, rows: pd.DataFrame, kinds: Sequence[tuple[str, str]]) -> tuple[Counts, Floats]:
    """What was counted of whom, and what an interval adds to each count's variance; a little, as some add up others."""
    inside = np.array([design.cells.having(row.covariate, row.level) for row in rows.itertuples()]) * design.cells.n
    cells = inside * (rows["n"].to_numpy() / inside.sum(axis=1))[:, None]
    width = (rows["observed_high"] - rows["observed_low"]).to_numpy(float) + 1
    kind = [kinds.index(pair) for pair in zip(rows["event"], rows["grade"], strict=True)]
    return Counts(np.array(kind), cells), (width**2 - 1) / 12 + ROUNDING


def _standard_weights(design: Design) -> Floats:
    """The cohort, and the cohort were all at a level, everything else as it is: (1 + level, cell), rows sum to 1."""
    found = [design.share]
    for k, covariate in enumerate(design.cells.covariates):
        _, others = np.unique(np.delete(design.cells.levels, k, axis=1), axis=0, return_inverse=True)
        weight = np.bincount(others, weights=design.share)[others]
        found += [weight * (design.cells.levels[:, k] == level) for level in range(len(covariate.levels))]
    return np.array(found)


def _counted_terms(design: Design, tables: Tables) -> Bools:
    """Which terms are of covariates by which anything was counted, (term,)."""
    return np.array([tables.counted >= set(term.covariates) for term in design.terms], dtype=bool)


class _Slopes:
    """Derivatives by all parameters at one draw: intercepts, own effects by branch, shared ones by pool."""

    def __init__(self, design: Design, draw: Mapping[str, Floats], p: Floats, states: Floats) -> None:
        taken, refused = (each.T for each in design.paths)
        yes = (taken @ p) / ((taken + refused) @ p)
        # Of the probability of each kind of states by a branch's logit: (kind, branch, cell).
        self.by_logit = np.array([taken @ (a[:, None] * p) - yes * ((taken + refused) @ (a[:, None] * p)) for a in states])
        settled, outer = (share[:, None] for share in branch_shares(design, draw["cohort_log_odds"], np))
        odds = np.expm1(draw["shared"][0] @ design.centred.T)
        self.load = outer * (1 + odds) / (1 + outer * odds) - settled * (1 + odds) / (1 + settled * odds)
        self.steps, self.matrix = severity_steps(design), design.centred

    def of(self, counts: Counts) -> Floats:
        """(row, parameter)."""
        branches, contrasts = self.by_logit.shape[1], self.matrix.shape[1]
        found = np.empty((len(counts.kind), branches * (1 + contrasts) + contrasts * (1 + self.steps.shape[1])))
        for kind in set(counts.kind.tolist()):
            mine, by_logit = counts.kind == kind, self.by_logit[kind]
            cells, family = counts.cells[mine], np.flatnonzero(by_logit.any(axis=1))
            own = np.zeros((len(cells), branches, contrasts))
            own[:, family] = np.tensordot(cells, by_logit[family].T[:, :, None] * self.matrix[:, None], 1)
            shared = (cells * (by_logit * self.load).sum(axis=0)) @ self.matrix
            steps = np.tensordot(own[:, family], self.steps[family], (1, 0)).swapaxes(1, 2)
            parts = (cells @ by_logit.T, own, shared, steps)
            found[mine] = np.hstack([part.reshape(len(cells), -1) for part in parts])
        return found


def _effects(slopes: _Slopes, levels: Floats, risk: Floats) -> Floats:
    """Derivatives of levels' log odds less the cohort's, with the ``risk`` (kind, cell): (kind, level, parameter)."""
    p = (risk @ levels.T).ravel()
    answers = Counts(np.repeat(np.arange(len(risk)), len(levels)), np.tile(levels, (len(risk), 1)))
    log_odds = slopes.of(answers) / (p * (1 - p))[:, None]
    log_odds[:, : slopes.by_logit.shape[1]] = 0  # intercepts
    log_odds = log_odds.reshape(len(risk), len(levels), -1)
    return np.asarray(log_odds[:, 1:] - log_odds[:, :1])


def _covariance(design: Design, kinds: Sequence[tuple[str, str]], states: Floats, rows: Counts, p: Floats) -> Floats:
    """Of counts, given the risks; families are independent, (row, row)."""
    family = np.array([design.family_of(event) for event, _ in kinds])
    rates, root = states @ p, np.sqrt(rows.cells)
    found = np.zeros((len(root), len(root)))
    for kind in set(rows.kind.tolist()):
        mine, together = rows.kind == kind, (family == family[kind])[:, None]
        both = np.where(together, (states * states[kind]) @ p - rates * rates[kind], 0.0)
        found[mine] = root[mine] @ (both[rows.kind] * root).T
    return found


def _prior_variances(design: Design, draw: Mapping[str, Floats], wide: Bools, prior_scale: float) -> Floats:
    """Of parameters, as in `_Slopes.of`: at the draw's scales, or for ``wide`` terms at the prior's, (parameter,)."""
    scale = np.where(wide, prior_scale * design.widths, draw["scale"])
    alike = np.where(wide, priors.ALIKE[0] / sum(priors.ALIKE), draw["alike"])
    own, shared = effect_scales(design, scale, alike, np)
    intercept = np.array([priors.INTERCEPT[kind][1] for kind in design.kinds])[design.pool_of] ** 2 + priors.SPREAD[0] ** 2
    return np.concatenate([intercept, own.ravel() ** 2, shared.ravel() ** 2])


def _given(effects: Floats, jacobian: Floats, noise: Floats, own: Bools, variances: Sequence[Floats]) -> Floats:
    """Covariances of effects given no rows, the event's own and all: (set of rows, event and grade, level, level)."""
    each = len(effects) // len(own)
    found = []
    for prior, sets in zip(variances, ((own & False, own), (np.ones_like(own),)), strict=True):
        scaled = jacobian * prior
        total, across = scaled @ jacobian.T + noise, np.einsum("jt,glt->glj", scaled, effects, optimize=True)
        before = np.einsum("glt,t,gmt->glm", effects, prior, effects, optimize=True)
        for rows in sets:
            after = before.copy()
            for event in np.flatnonzero(rows.any(axis=1)).tolist():
                here, mine = np.flatnonzero(rows[event]), slice(event * each, (event + 1) * each)
                known = across[mine][:, :, here]
                weights = np.linalg.solve(total[np.ix_(here, here)], known.reshape(-1, len(here)).T)
                after[mine] -= known @ weights.T.reshape(known.shape).swapaxes(1, 2)
            found.append(after)
    return np.array(found)
