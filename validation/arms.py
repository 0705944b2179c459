"""Truths that are not drawn from the prior: patients, the list a paper would print of them, a fit of what was printed.

Each arm draws branches' effects by a rule of its own, about the rates of a real publication: of the ordered covariates and
of one other, drawn at random; of the rest effects are a tenth of that. Then come a whole table of the covariates,
patients, and all frequencies of them by every covariate; pairs of event and covariate are printed where a test at any
grade was significant, the others become nulls (or, with counts only, nothing); totals are printed of all. What is compared
are log odds at a level less the cohort's, of fit and truth, and the risks of single profiles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytensor
import pytensor.tensor as pt
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import minimize

from aemodel.answers.contrasts import level_effects
from aemodel.inference.design import Design
from aemodel.inference.effects import reference_states, state_probabilities
from aemodel.inference.forward import logit, risk_draws
from aemodel.inference.integer_tables import sample_tables
from aemodel.inference.model import branch_logits
from aemodel.inference.simulated import all_frequencies, pair_tests, print_list
from aemodel.publication.tables import Tables
from aemodel.scoring.risks import RiskDraws
from validation.laboratory import Laboratory, make_laboratory, row_averages
from validation.simulation import Simulated, simulate

Floats = NDArray[np.float64]
Truth = Callable[[Laboratory, np.random.Generator], tuple[Floats, Floats]]
"""Own effects (branch, contrast) and shared ones (sharing pool, contrast)."""

QUIET = 0.1
"""What effects of most covariates are multiplied by."""

LISTED = 0.75
"""Of printed differences, how much is true."""

SPREAD = 2.0
"""Standard deviation of the penalty on effects that are to reproduce printed ones."""

INTERVAL = 0.9
FITS = {
    "all evidence": (True, 1.0),
    "counts only": (False, 1.0),
    "scales halved": (True, 0.5),
    "scales doubled": (True, 2.0),
    "first model": (True, 1.0),
}
"""Whether nulls are used, and what the scales of priors are multiplied by; the first model has a laboratory of its own."""

SMALL_P = 0.01
KINDS = {"listed": ("small", "large"), "small": ("small",), "large": ("large",), "unlisted": ("unlisted",)}
RATIOS = {"truth_on_fit": ("ft", "ff"), "fit_over_truth": ("fit", "truth"), "covered": ("covered", "rows")}


def _common(design: Design, rng: np.random.Generator) -> tuple[Floats, Floats]:
    return rng.normal(0, 0.45, size=_shape(design)), np.zeros((2, len(design.term_of)))


def _few_large(design: Design, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """A quarter of the pairs of branch and covariate are large, the others next to nothing."""
    large = rng.random((len(design.branches), len(design.terms)))[:, design.term_of] < 0.25
    return np.where(large, 1.2, 0.1) * rng.normal(size=_shape(design)), np.zeros((2, len(design.term_of)))


def _marginal(design: Design, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Alike on the marginal log odds of all events."""
    return rng.normal(0, 0.15, size=_shape(design)), rng.normal(0, [[0.7], [0.2]], size=(2, len(design.term_of)))


def _ordered(design: Design, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """A rise over ordered levels, of every event another; small effects of what is not ordered."""
    trend = np.array([design.terms[t].name.endswith(" trend") for t in design.term_of])
    own = np.where(trend, rng.normal(0.6, 0.5, size=_shape(design)), rng.normal(0, 0.2, size=_shape(design)))
    return own, np.zeros((2, len(design.term_of)))


def _shape(design: Design) -> tuple[int, int]:
    return len(design.branches), len(design.term_of)


def _loud(rule: Callable[[Design, np.random.Generator], tuple[Floats, Floats]]) -> Truth:
    """Effects by the rule for ordered covariates and for one other; `QUIET` times those for the rest."""

    def truth(laboratory: Laboratory, rng: np.random.Generator) -> tuple[Floats, Floats]:
        covariates = laboratory.design.cells.covariates
        others = [c.name for c in covariates if not c.ordered]
        loud = {c.name for c in covariates if c.ordered} | {str(rng.choice(others))}
        terms = laboratory.design.terms
        loudness = np.array([1.0 if terms[t].covariate in loud else QUIET for t in laboratory.design.term_of])
        own, shared = rule(laboratory.design, rng)
        return own * loudness, shared * loudness

    return truth


def _listed(laboratory: Laboratory, _: np.random.Generator) -> tuple[Floats, Floats]:
    """What the publication lists has `LISTED` of its printed size, what it does not list no effect."""
    return published_effects(laboratory), np.zeros((2, len(laboratory.design.term_of)))


@lru_cache(maxsize=1)
def published_effects(laboratory: Laboratory) -> Floats:
    """Branches' effects (branch, contrast) by penalised likelihood, of counts whose differences are `LISTED` as large."""
    design, rows = laboratory.design, laboratory.tables.frequencies
    p = np.maximum(reference_states(laboratory.margins), 1e-6)
    taken, refused = (p @ path for path in design.paths)
    overall = np.array([p[design.states_having(e, g)].sum() for e, g in zip(rows["event"], rows["grade"], strict=True)])
    n = rows["n"].to_numpy(dtype=float)
    printed = logit((rows["observed"].to_numpy(dtype=float) + 0.5) / (n + 1)) - logit(overall)
    shift = np.where(rows["derived"] | (rows["covariate"] == "total"), 0.0, LISTED * printed)
    wanted = 1 / (1 + np.exp(-logit(overall) - shift))
    own = pt.dmatrix()
    shared = np.zeros((2, len(design.term_of)))
    logits = branch_logits(design, pt.constant(np.log(taken / refused)), own, pt.constant(shared))
    rates = _rates(laboratory, state_probabilities(*design.paths, logits, pt))
    loss = -pt.dot(n * wanted, pt.log(rates)) - pt.dot(n * (1 - wanted), pt.log1p(-rates)) + 0.5 * (own**2).sum() / SPREAD**2
    value = pytensor.function([own], [loss, pytensor.grad(loss, own)])
    start = np.zeros(_shape(design))

    def objective(x: Floats) -> tuple[float, Floats]:
        loss, gradient = value(x.reshape(start.shape))
        return float(loss), np.asarray(gradient).ravel()

    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "maxfun": 5000})
    if not found.success:
        raise RuntimeError(f"effects of the published sizes were not found: {found.message}")
    return np.asarray(found.x).reshape(start.shape)


def _rates(laboratory: Laboratory, p: Any) -> Any:
    """The rate of each frequency, (row,), from state probabilities (state, cell), for PyTensor."""
    having, share = row_averages(laboratory.tables, laboratory.design)
    return pt.clip((pt.dot(having, p) * share).sum(axis=1), 1e-12, 1 - 1e-12)


ARMS: dict[str, Truth] = {
    "common": _loud(_common),
    "few_large": _loud(_few_large),
    "marginal": _loud(_marginal),
    "ordered": _loud(_ordered),
    "listed": _listed,
}


def make_arm_laboratory(tables: Tables) -> Laboratory:
    """For any list that could be printed of the publication's events."""
    tests = pair_tests(tables)
    return make_laboratory(all_frequencies(tables, tests), tests)


def one_round(laboratory: Laboratory, seed: int, *, fit: str, draws: int = 400, tune: int = 300) -> dict[str, Any]:
    """One trial of every arm, fitted in one of the ways of `FITS`."""
    return {"seed": seed, "arms": {arm: one_fit(laboratory, seed, arm, fit, draws=draws, tune=tune) for arm in ARMS}}


def one_fit(laboratory: Laboratory, seed: int, arm: str, fit: str, *, draws: int, tune: int) -> dict[str, Any]:
    """Sums over pairs by grade and by how significant they were, coverage, and the sampler's diagnostics."""
    started = time.monotonic()
    made = simulated_arm(laboratory, seed, arm)
    printed, left_out, p_values = print_list(made.tables, laboratory.tests)
    evidence, prior_scale = FITS[fit]
    density = laboratory.density(printed, nulls=left_out if evidence else (), prior_scale=prior_scale)
    posterior, diagnostics = laboratory.sample(density, seed=seed, draws=draws, tune=tune, chains=1)
    fitted = risk_draws(printed, laboratory.forward, posterior, seed + 1_000_003)
    true = replace(fitted, draws=_true_draws(laboratory, made, fitted))
    rows = compare(true, fitted, printed, p_values)
    return {
        **summarise(rows),
        **profiles(true, fitted),
        "diagnostics": asdict(diagnostics),
        "seconds": time.monotonic() - started,
    }


def simulated_arm(laboratory: Laboratory, seed: int, arm: str) -> Simulated:
    """The patients of a round, and all frequencies of them."""
    design = laboratory.design
    rng = np.random.default_rng([seed, 2])
    p = np.maximum(reference_states(laboratory.margins), 1e-6)
    taken, refused = (p @ path for path in design.paths)
    own, shared = ARMS[arm](laboratory, rng)
    values = {"cohort_log_odds": np.log(taken / refused), "own": own, "shared": shared}
    values |= {"scale": np.zeros((3, len(design.terms))), "alike": np.zeros((2, len(design.terms)))}
    truth = xr.Dataset({k: (("chain", "draw", *(f"{k}{i}" for i in range(v.ndim))), v[None, None]) for k, v in values.items()})
    table = sample_tables(laboratory.tables, 1, seed=seed)[0]
    return simulate(laboratory.tables, replace(laboratory.forward, deviation=0.0), truth, table, seed)


def compare(true: RiskDraws, fitted: RiskDraws, printed: Tables, p_values: dict[tuple[str, str], float]) -> pd.DataFrame:
    """One row per event, grade, covariate and level: effects (log odds less the cohort's), weight, and what was listed."""
    tails = (1 - INTERVAL) / 2, (1 + INTERVAL) / 2
    found = []
    everything = np.array([[c.everything for c in fitted.covariates]])
    overall = true.risks(everything)[0, 0].astype(float)
    pairs = zip(fitted.covariates, level_effects(fitted), level_effects(true), strict=True)
    for k, (covariate, draws, truth) in enumerate(pairs):
        lower, upper = np.quantile(draws, tails, axis=0)
        size = np.bincount(fitted.levels[:, k], weights=fitted.weight)[: len(covariate.levels)]
        for i, event in enumerate(fitted.events):
            p = p_values.get((event, covariate.name))
            for j, grade in enumerate(fitted.grades):
                weight = size * overall[i, j] * (1 - overall[i, j])
                rows = pd.DataFrame({"fit": draws[:, :, i, j].mean(axis=0), "truth": truth[0, :, i, j], "weight": weight})
                rows["covered"] = (lower[:, i, j] <= truth[0, :, i, j]) & (truth[0, :, i, j] <= upper[:, i, j])
                found.append(rows.assign(event=event, grade=grade, covariate=covariate.name, level=covariate.names, p=p))
    return pd.concat(found, ignore_index=True)


def summarise(rows: pd.DataFrame) -> dict[str, Any]:
    """By grade and class of P: sums of products of fit and truth, coverage, and sizes towards where the fit points."""
    kinds = np.select([rows["p"].isna(), rows["p"] < SMALL_P, rows["p"] < 0.05], ["other", "small", "large"], "unlisted")
    found = {}
    for (grade, kind), mine in rows.groupby(["grade", kinds]):
        w, f, t = (mine[name].to_numpy(dtype=float) for name in ("weight", "fit", "truth"))
        sums = {"rows": len(mine), "ff": w @ f**2, "ft": w @ (f * t), "tt": w @ t**2, "covered": int(mine["covered"].sum())}
        sums |= {"fit": w @ np.abs(f), "truth": w @ (np.sign(f) * t)}
        found[f"{grade} {kind}"] = {name: float(f"{value:.6g}") for name, value in sums.items()}
    return {"sums": found}


def profiles(true: RiskDraws, fitted: RiskDraws) -> dict[str, Any]:
    """Whether intervals of profiles' risks hold the truth: all, riskiest and rarest; and the fit's error in log odds.

    Of events at the grades at which the publication has them.
    """
    published = (fitted.levels < [len(c.levels) for c in fitted.covariates]).all(axis=1)
    draws, truth = (each.draws[:, published][:, :, fitted.published].astype(float) for each in (fitted, true))
    truth = truth[0]
    tails = (1 - INTERVAL) / 2, (1 + INTERVAL) / 2
    lower, upper = np.quantile(draws, tails, axis=0)
    inside = (lower <= truth) & (truth <= upper)
    riskiest = draws.mean(axis=0).argmax(axis=0)
    answers = np.arange(len(riskiest))
    weight = fitted.weight[published]
    error = logit(draws.mean(axis=0)) - logit(truth)
    return {
        "profiles": float(np.average(inside.mean(axis=1), weights=weight)),
        "riskiest": float(inside[riskiest, answers].mean()),
        "riskiest_bias": float(error[riskiest, answers].mean()),
        "rarest": float(inside[weight.argmin()].mean()),
        "root_mean_square": float(np.sqrt(np.average((error**2).mean(axis=1), weights=weight))),
    }


def _true_draws(laboratory: Laboratory, made: Simulated, fitted: RiskDraws) -> NDArray[np.float32]:
    """The true risks as one draw, (1, cell, event, grade); of new levels there is no truth."""
    having = [laboratory.design.states_having(event, grade) for event in fitted.events for grade in fitted.grades]
    risks = np.array([made.p[states].sum(axis=0) for states in having]).T
    return np.clip(risks, 0, 1).reshape(1, len(fitted.levels), len(fitted.events), len(fitted.grades)).astype(np.float32)


def arm_table(rounds: Sequence[dict[str, Any]], resamples: int = 1000) -> pd.DataFrame:
    """What the rounds of one way to fit say, one row per arm, grade and kind of pair, with 90 % intervals over rounds.

    Kinds are pairs printed with a P-value below `SMALL_P` (small) or above (large), and both (listed); pairs tested and not
    printed (unlisted). ``truth_on_fit`` is the slope of true on fitted effects, ``fit_over_truth`` the sum of fitted over
    that of true ones, each effect counted towards where the fit points; ``covered`` the share of 90 % intervals that
    hold the truth.
    """
    names = ("ft", "ff", "fit", "truth", "covered", "rows")
    again = np.random.default_rng(1).integers(len(rounds), size=(resamples, len(rounds)))
    chosen = np.vstack([np.arange(len(rounds)), again])
    found = []
    for arm, grade, (kind, parts) in product(rounds[0]["arms"], ("3-5", "4-5"), KINDS.items()):
        each = [[one["arms"][arm]["sums"].get(f"{grade} {part}", {}) for part in parts] for one in rounds]
        sums = np.array([[sum(part.get(name, 0.0) for part in one) for name in names] for one in each])[chosen].sum(axis=1)
        row: dict[str, Any] = {"arm": arm, "grade": grade, "pairs": kind, "rounds": len(rounds)}
        for name, (over, under) in RATIOS.items():
            with np.errstate(invalid="ignore", divide="ignore"):
                values = sums[:, names.index(over)] / sums[:, names.index(under)]
            bounds = np.nanquantile(values[1:], (0.05, 0.95))
            row |= {name: values[0], f"{name}_lower": bounds[0], f"{name}_upper": bounds[1]}
        found.append(row)
    return pd.DataFrame(found)


def profile_table(rounds: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Coverage of profiles' 90 % intervals by arm: all, the riskiest and the rarest; and the riskiest one's bias."""
    names = ("profiles", "riskiest", "rarest", "riskiest_bias", "root_mean_square")
    rows = [{"arm": arm, **{name: one[name] for name in names}} for each in rounds for arm, one in each["arms"].items()]
    return pd.DataFrame(rows).groupby("arm", sort=False).mean().reset_index()
