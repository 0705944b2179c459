"""One round of simulation-based calibration: parameters, patients, a publication, a fit, and the truth's ranks in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import binom

from aemodel.answers.sensitivity import table_loglik
from aemodel.inference.forward import Forward, make_forward, risk_draws
from aemodel.inference.integer_tables import sample_tables
from aemodel.publication.evidence import Null
from aemodel.publication.tables import Tables
from aemodel.scoring.risks import RiskDraws
from validation.laboratory import Laboratory, Likelihood, table_tests
from validation.simulation import Simulated, draw_prior, print_significant, shift_of_interaction, simulate

RANKED = 100
"""Posterior draws the truth is ranked among, thinned evenly from all chains."""

PROFILES = 6
"""Profiles whose risks are ranked, from the commonest to the rarest."""

INTERVAL = 0.9

Floats = NDArray[np.float64]


def one_round(
    laboratory: Laboratory,
    seed: int,
    *,
    likelihood: Likelihood = "joint",
    association: float = 0.0,
    interaction: float = 0.0,
    selective: Literal["with term", "without term"] | None = None,
    truths: Literal["prior", "posterior"] = "prior",
    draws: int = 500,
    tune: int = 400,
) -> dict[str, Any]:
    """Simulate, fit, rank.

    Parameters
    ----------
    laboratory
        The compiled model.
    seed
        Of everything in this round.
    likelihood
        Which likelihood the fit has.
    association, interaction
        What the simulated patients have and the model lacks: spreads of the covariates' interactions within the cohort's
        counts, and of an interaction of two covariates in the events' log odds.
    selective
        The publication prints only tables with a significant test, and the fit has a term for it or not; by default it
        prints them all.
    truths
        Where parameters are drawn from: the prior, or the posterior given the publication's own counts. Of the latter
        coverage can be looked at, but ranks are not uniform.
    draws, tune
        Per chain, of two chains.

    Returns
    -------
    dict
        ``ranks``: by quantity, how many of `RANKED` draws lie below the truth; ``covered`` and ``width``: by event and
        grade, the share of profiles whose 90 % interval covers the truth, and the intervals' mean width; ``overall``: by
        event and grade, whether the cohort's interval does; ``frequencies``: how many were used; ``diagnostics`` and
        ``seconds``.
    """
    started = time.monotonic()
    truth, made = simulated_round(laboratory, seed, association, interaction, truths)
    nulls: tuple[Null, ...] = ()
    if selective:
        printed, left_out = print_significant(made.tables, table_tests(laboratory.tables))
        made, nulls = replace(made, tables=printed), left_out if selective == "with term" else ()
    density = laboratory.density(made.tables, likelihood, nulls=nulls)
    posterior, diagnostics = laboratory.sample(density, seed=seed, draws=draws, tune=tune)
    after = risk_draws(made.tables, laboratory.forward, posterior, seed + 1_000_003)
    before = true_risks(laboratory, made)
    thin = np.linspace(0, len(after.draws) - 1, RANKED).astype(int)
    names = [f"{event} {grade}" for event in after.events for grade in after.grades]
    return {
        "seed": seed,
        "ranks": _ranks(laboratory, made, truth, posterior, before, after, thin),
        **covered(before, after.draws[:, : len(before)], after.weight[: len(before)], names),
        "frequencies": int((~made.tables.frequencies["derived"]).sum()),
        "diagnostics": asdict(diagnostics),
        "seconds": time.monotonic() - started,
    }


def simulated_round(
    laboratory: Laboratory, seed: int, association: float = 0.0, interaction: float = 0.0, truths: str = "prior"
) -> tuple[xr.Dataset, Simulated]:
    """The parameters and the publication of a round."""
    rng = np.random.default_rng([seed, 1])
    truth = draw_prior(laboratory.design, rng) if truths == "prior" else _draw_posterior(laboratory, rng)
    table = sample_tables(laboratory.tables, 1, seed=seed, association=association)[0]
    shift = shift_of_interaction(laboratory.design, rng, interaction) if interaction else None
    return truth, simulate(laboratory.tables, laboratory.forward, truth, table, seed, shift)


def _draw_posterior(laboratory: Laboratory, rng: np.random.Generator) -> xr.Dataset:
    posterior = _posterior(laboratory)
    chain, draw = (rng.integers(posterior.sizes[name]) for name in ("chain", "draw"))
    return posterior.isel(chain=[chain], draw=[draw])


@lru_cache(maxsize=1)
def _posterior(laboratory: Laboratory) -> xr.Dataset:
    """Given the publication's own counts: the same in every process."""
    return laboratory.sample(laboratory.density(laboratory.tables), seed=0, draws=500, tune=600, chains=4)[0]


def true_risks(laboratory: Laboratory, made: Simulated) -> Floats:
    """True risks (cell, event, grade) of the cohort's cells."""
    design, tables = laboratory.design, made.tables
    published = len(design.cells.n)
    having = np.array([[design.states_having(e.name, g) for g in ("3-5", "4-5")] for e in tables.events], dtype=float)
    return np.einsum("egs,sc->ceg", having, made.p[:, :published])


def _ranks(
    laboratory: Laboratory,
    made: Simulated,
    truth: xr.Dataset,
    posterior: xr.Dataset,
    before: Floats,
    after: RiskDraws,
    thin: NDArray[np.int64],
) -> dict[str, int]:
    ranks: dict[str, int] = {}
    for name, called in (("cohort_log_odds", "intercept"), ("scale", "scale"), ("alike", "alike")):
        values = posterior[name].values.reshape(-1, int(np.prod(posterior[name].shape[2:])))[thin]
        labels = ["/".join(map(str, place)) for place in np.ndindex(*posterior[name].shape[2:])]
        for label, draws, true in zip(labels, values.T, truth[name].values.ravel(), strict=True):
            ranks[f"{called} {label}"] = int((draws < true).sum())
    share = laboratory.design.cells.n / laboratory.design.cells.n.sum()
    cells = np.argsort(-share, kind="stable")[np.linspace(0, len(share) - 1, PROFILES).astype(int)]
    published = after.draws[thin][:, : len(share)].astype(float)
    for i, event in enumerate(after.events):
        for j, grade in enumerate(after.grades):
            ranks[f"cohort {event} {grade}"] = int((published[:, :, i, j] @ share < before[:, i, j] @ share).sum())
            for cell in cells:
                ranks[f"profile {cell} {event} {grade}"] = int((published[:, cell, i, j] < before[cell, i, j]).sum())
    ranks["log likelihood"] = _loglik_rank(laboratory.forward, made.tables, truth, posterior, thin)
    true, drawn = (_table_logliks(laboratory, made.tables, each, which) for each, which in ((truth, [0]), (posterior, thin)))
    return ranks | {f"log likelihood {name}": int((drawn[name] < true[name]).sum()) for name in true}


def _table_logliks(
    laboratory: Laboratory, tables: Tables, draws: xr.Dataset, chosen: Sequence[int] | NDArray[np.int64]
) -> dict[str, Floats]:
    """Binomial log likelihood of each printed table of an event by a covariate, for some draws (draw,).

    What a fit has counted too often it follows too closely, and this is where that shows.
    """
    design, wanted = laboratory.design, set(map(int, chosen))
    states = make_forward(design, deviation=0.0).states(draws, 0)
    p = np.stack([each[:, : len(design.cells.n)] for i, each in enumerate(states) if i in wanted])
    rows = tables.frequencies[~tables.frequencies["derived"]]
    found: dict[str, Floats] = {}
    for (event, covariate), table in rows.groupby(["event", "covariate"], sort=False):
        name = f"{event} {covariate}"
        for row in table.itertuples():
            n = design.cells.n * design.cells.having(row.covariate, row.level)
            rate = (p[:, design.states_having(row.event, row.grade)].sum(axis=1) @ n) / n.sum()
            found[name] = found.get(name, 0.0) + binom.logpmf(row.observed, row.n, np.clip(rate, 0, 1))
    return found


def _loglik_rank(forward: Forward, tables: Tables, truth: xr.Dataset, posterior: xr.Dataset, thin: NDArray[np.int64]) -> int:
    table = forward.design.cells.n[None]
    true = table_loglik(forward.design, tables, truth, np.array([0]), table)[0, 0]
    return int((table_loglik(forward.design, tables, posterior, thin, table)[0] < true).sum())


def covered(before: Floats, after: NDArray[Any], weight: Floats, names: Sequence[str]) -> dict[str, Any]:
    """Coverage and width of 90 % intervals of all profiles' risks and of the cohort's.

    ``before`` (cell, event, grade) are true, ``after`` (draw, cell, event, grade) posterior risks.
    """
    draws = after.astype(float)
    tails = (1 - INTERVAL) / 2, (1 + INTERVAL) / 2
    lower, upper = np.quantile(draws, tails, axis=0)
    inside = ((before >= lower) & (before <= upper)).mean(axis=0)
    share = weight / weight.sum()
    true = np.einsum("ceg,c->eg", before, share)
    low, high = np.quantile(np.einsum("sceg,c->seg", draws, share), tails, axis=0)
    overall = (true >= low) & (true <= high)

    def named(values: NDArray[Any]) -> dict[str, float]:
        return dict(zip(names, values.astype(float).ravel().tolist(), strict=True))

    return {"covered": named(inside), "width": named((upper - lower).mean(axis=0)), "overall": named(overall)}
