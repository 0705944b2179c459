"""What would change with the priors, were effects not additive, or with the covariates' joint table: from the draws alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import logsumexp
from scipy.stats import norm

from aemodel.answers.contrasts import at_each_level, level_sets
from aemodel.answers.risk import long_table, read_patients
from aemodel.inference import priors
from aemodel.inference.design import Design, all_margins, make_design
from aemodel.inference.forward import additive_residual, logit, make_forward, make_model_forward
from aemodel.inference.idata import power_scaling
from aemodel.inference.information import DRAWS
from aemodel.inference.integer_tables import sample_tables
from aemodel.inference.likelihood import margins_term
from aemodel.publication.arguments import whole_number
from aemodel.publication.arrays import Floats, Ints
from aemodel.publication.errors import InputError
from aemodel.publication.tables import Tables
from aemodel.scoring.risks import RiskDraws, risks_of, tails

SENSITIVE = 0.05
"""Power-scaling sensitivity from which a prior or the data matter (Kallioinen et al. 2024)."""

LARGEST = 3.0
"""Departure from additivity (log odds) beyond which none is told: an odds ratio of 20."""


def sensitivity_table(model: Any) -> pd.DataFrame:
    """How much each standardised risk depends on the priors, by power-scaling (DOI 10.1007/s11222-023-10366-5).

    Priors are raised to powers near 1 by importance weights on the draws. `fit` with another ``prior_scale`` is the check.

    Parameters
    ----------
    model
        From `fit` or `load_model`.

    Returns
    -------
    pandas.DataFrame
        One row per event, grade, covariate and level (``total`` and ``all`` for the cohort's risk; otherwise the risk were
        all at the level): scales, intercepts and data (sensitivity to the prior of the effects' scales, to that of the
        intercepts, and to the margins' likelihood; 0.05 or more counts), shift (change in the mean log odds, in posterior
        standard deviations, for each doubling of the prior scale of the effects, by linear extrapolation) and diagnosis:
        empty, ``prior`` (the prior of the scales matters, data hardly do) or ``conflict`` (both matter).
    """
    forward, draws, _ = make_model_forward(model)
    design = forward.design
    index, quantities = _quantities(model.risks)
    factor, power = (float(model.settings.get(name, 1.0)) for name in ("prior_scale", "power"))
    log_prior = {"scales": _scale_logp(draws, design, factor), "intercepts": _intercept_logp(draws, design)}
    loglik = {"data": power * table_loglik(design, model.tables, draws, np.arange(len(quantities)), design.cells.n[None])[0]}
    samples = {name: _by_chain(values, draws) for name, values in (log_prior | loglik).items()}
    found = power_scaling(_by_chain(quantities, draws), samples, list(log_prior), list(loglik))
    table = pd.DataFrame(index, columns=["event", "grade", "covariate", "level"]).assign(**found)
    table["shift"] = _shift(quantities, log_prior["scales"])
    matters = table["scales"] >= SENSITIVE
    table["diagnosis"] = np.where(matters, np.where(table["data"] >= SENSITIVE, "conflict", "prior"), "")
    return table


def _quantities(risks: RiskDraws) -> tuple[list[tuple[str, str, str, str]], Floats]:
    """What to look at: names of rows, and draws of log odds (sample, row)."""
    covariates, levels, draws = zip(*at_each_level(risks), strict=True)
    names = [(*pair, *place) for pair in risks.pairs for place in zip(covariates, levels, strict=True)]
    return names, logit(np.stack(draws, axis=-1)).reshape(len(risks.draws), -1)


def _scale_logp(draws: xr.Dataset, design: Design, factor: float) -> Floats:
    """Log prior density of the effects' scales, up to a constant, (sample,)."""
    spread = factor * design.widths
    scale = draws["scale"].transpose("chain", "draw", "pool", "term").values.astype(float)
    return -0.5 * ((scale / spread) ** 2).sum(axis=(2, 3)).ravel()


def _intercept_logp(draws: xr.Dataset, design: Design) -> Floats:
    """Log prior density of the intercepts, of their means and spreads by pool, (sample,)."""
    mean, spread = (draws[name].transpose("chain", "draw", "pool").values for name in ("intercept_mean", "intercept_spread"))
    found = norm.logpdf(draws["cohort_log_odds"].values, mean[..., design.pool_of], spread[..., design.pool_of]).sum(axis=2)
    found += norm.logpdf(mean, *np.array([priors.INTERCEPT[kind] for kind in design.kinds]).T).sum(axis=2)
    found += norm.logpdf(np.log(spread), np.log(priors.SPREAD[0]), priors.SPREAD[1]).sum(axis=2)
    return np.asarray(found.ravel())


def _by_chain(values: Floats, draws: xr.Dataset) -> Floats:
    return values.reshape(draws.sizes["chain"], draws.sizes["draw"], *values.shape[1:])


def _shift(quantities: Floats, log_prior: Floats) -> Floats:
    """Change of means in standard deviations when the prior's scale doubles.

    A half-normal density to the power a is one with its scale divided by the root of a, so doubling is a = 1/4; a mean's
    derivative with respect to log a is its covariance with the log prior.
    """
    centred = quantities - quantities.mean(axis=0)
    slope = (log_prior - log_prior.mean()) @ centred / len(centred)
    return np.asarray(np.log(0.25) * slope / quantities.std(axis=0))


def robustness_table(
    model: Any,
    patients: Any,
    reference: Mapping[str, Any] | None = None,
    *,
    interval: float = 0.9,
    id_column: str | None = None,
) -> pd.DataFrame:
    """How far from additive effects must be before an answer is worth little: from the draws, without another fit.

    Were the log odds of an event in each cell (combination of all covariates' levels) off what adds up by a normal departure
    of standard deviation s, independent from cell to cell, less what it adds to the cohort's mean and to main effects, the
    log odds of an answer that lies in cells with weights w would vary by s^2 times the sum of squares of its derivatives
    w p (1 - p) / [r (1 - r)], with p the risk in a cell and r the answer: little where many cells are averaged over. That is
    exact for one cell, and to first order otherwise: too much for large departures. The table gives the s, beyond what the
    model itself allows for, at which intervals stretch so far, and exp(s) as an odds ratio between what is and what adds up.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    patients, id_column
        As for `posterior_epred`.
    reference
        Values of patient columns, as for `contrast_table`, of those whom each patient is compared with; by default the cohort.
    interval
        Probability of the equal-tailed intervals.

    Returns
    -------
    pandas.DataFrame
        One row per patient, event and grade: patient, event, grade, odds_ratio (posterior median, the patient's against the
        reference's), doubled_sd (the s at which the interval of the log odds is twice as long), doubled_or (as odds ratio),
        open_sd and open_or (the s at which the interval of odds_ratio holds 1; 0 and 1 where it does already). Infinite where
        beyond an odds ratio of 20: such an answer does not depend on additivity.

    Raises
    ------
    TypeError, ValueError
        As for `posterior_epred` and `contrast_table`, or the interval is not between 0 and 1.
    """
    ends, risks = tails(interval), risks_of(model)
    profiles, row, names = read_patients(risks.covariates, patients, id_column)
    other = level_sets("reference", reference, risks)[None] if reference is not None else risks.everything[None]
    answers, others = (logit(risks.risks(one)) for one in (profiles, other))
    difference, moved = answers - others, _moved(make_design(model.tables), risks, np.vstack([profiles, other]))
    low, middle, high = np.quantile(difference, (ends[0], 0.5, ends[1]), axis=0)
    near = np.where(middle > 0, middle - low, high - middle)
    stretch = abs(middle) / np.maximum(near, 1e-12)
    found = {
        "doubled": _departure(answers.std(axis=0), moved[0], 2.0),
        "open": _departure(difference.std(axis=0), moved[1], stretch),
    }
    columns = {f"{name}_{unit}": how(s) for name, s in found.items() for unit, how in (("sd", np.array), ("or", np.exp))}
    columns = {name: values[row] for name, values in ({"odds_ratio": np.exp(middle)} | columns).items()}
    return long_table({"patient": names, **risks.dims}, columns)


def _moved(design: Design, risks: RiskDraws, sets: Ints) -> Floats:
    """Variance of log odds by departures of unit variance, and of what sets them apart from the last one's, but for that.

    (2, profile, event, grade), averaged over draws.
    """
    residual, projected = np.eye(len(risks.levels)), additive_residual(design)
    residual[: len(projected), : len(projected)] = projected
    weights, found = risks.weights(sets), []
    for p in risks.draws[:: max(1, len(risks.draws) // DRAWS)].astype(float):
        answers = np.einsum("pc,ceg->peg", weights, p)[..., None]
        moved = np.einsum("pc,ceg->pegc", weights, p * (1 - p)) / (answers * (1 - answers)) @ residual
        found.append([(by_cell[:-1] ** 2).sum(axis=-1) for by_cell in (moved, moved - moved[-1])])
    return np.mean(found, axis=0)


def _departure(sd: Floats, moved: Floats, stretch: Any) -> Floats:
    """Standard deviation of departures at which log odds of so much have intervals so many times as long."""
    found = sd * np.sqrt(np.maximum(np.square(stretch) - 1, 0) / np.maximum(moved, 1e-24))
    return np.where(found > LARGEST, np.inf, found)


def table_uncertainty(model: Any, *, seed: int, tables: int = 100, association: float = 0.25, draws: int = 300) -> pd.DataFrame:
    """How far each profile's risk moves between joint tables of the covariates, against its posterior sd.

    The fit uses the maximum-entropy table. Here whole tables that match every published count of the cohort are drawn at
    random, all families share each, and the fit's draws are reweighted by how much more likely each table makes the
    published frequencies: both within a table, for its posterior means, and between tables.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    seed
        The same seed gives the same tables.
    tables, draws
        How many tables, and how many of the model's draws.
    association
        Prior standard deviation of the interactions between covariates that are not tabulated together (log-linear, so
        that log odds ratios have twice this standard deviation); 0 for none.

    Returns
    -------
    pandas.DataFrame
        One row per event, grade and profile (a column per covariate): posterior_sd (log odds), between_sd (weighted
        standard deviation over tables of the posterior mean), ratio of the two, and shift (mean over tables less the
        fit's, in posterior sds). ``attrs`` has ``loglik_sd`` (weighted over tables, of their log marginal likelihood),
        ``plugin_error`` (sd over draws of log likelihood of the maximum-entropy table less that of the average over
        tables, in nats) and ``ess`` (smallest effective number of draws in any table).

    Raises
    ------
    TypeError, ValueError
        A number is none, the model was fitted with too few draws, or no whole table matches the cohort's counts.
    """
    seed, tables, draws = whole_number("seed", seed), whole_number("tables", tables, 1), whole_number("draws", draws, 2)
    forward, thin, _ = make_model_forward(model)
    size = thin.sizes["chain"] * thin.sizes["draw"]
    if draws > size:
        raise InputError("draws", f"expected 2 to {size}, not {draws}")
    design = forward.design
    chosen = np.linspace(0, size - 1, draws).astype(int)
    sampled = sample_tables(model.tables, tables, seed=seed, association=association)
    loglik = table_loglik(design, model.tables, thin, chosen, np.vstack([design.cells.n[None], sampled]))
    ratio = float(model.settings.get("power", 1.0)) * (loglik[1:] - loglik[0])
    weights = np.exp(ratio - logsumexp(ratio, axis=1, keepdims=True))
    marginal = logsumexp(ratio, axis=1) - np.log(draws)
    between = np.exp(marginal - logsumexp(marginal))
    table = _between(model, chosen, weights, between)
    table.attrs = {
        "loglik_sd": float(np.sqrt(between @ (marginal - between @ marginal) ** 2)),
        "plugin_error": float((logsumexp(ratio, axis=0) - np.log(tables)).std()),
        "ess": float((1 / (weights**2).sum(axis=1)).min()),
    }
    return table


def table_loglik(design: Design, tables: Tables, draws: xr.Dataset, chosen: Ints, counts: Floats) -> Floats:
    """Log likelihood of all published margins given each table of ``counts`` (table, cell), for some draws: (table, draw)."""
    margins = all_margins(design, tables.frequencies)
    others = [replace(design, cells=replace(design.cells, n=n)) for n in np.asarray(counts, dtype=np.float64)]
    terms = [margins_term(each, tuple(family.among(each.cells.n) for family in margins)) for each in others]
    found = np.empty((len(counts), len(chosen)))
    wanted = {int(draw): place for place, draw in enumerate(chosen)}
    for i, p in enumerate(make_forward(design, deviation=0.0).states(draws, 0)):
        if i in wanted:
            found[:, wanted[i]] = [term(np.ascontiguousarray(p[:, : counts.shape[1]]))[0] for term in terms]
    return found


def _between(model: Any, chosen: Ints, weights: Floats, between: Floats) -> pd.DataFrame:
    risks = model.risks
    log_odds = logit(risks.draws[:, risks.usual])
    picked = log_odds[chosen].reshape(len(chosen), -1)
    means = weights @ picked
    centre = between @ means
    spread = np.sqrt(between @ (means - centre) ** 2)
    sd = log_odds.std(axis=0).ravel()
    levels = risks.levels[risks.usual]
    covariates = enumerate(risks.covariates)
    names = {c.name: np.repeat(np.array(c.names)[levels[:, k]], risks.published.size) for k, c in covariates}
    columns = {"posterior_sd": sd, "between_sd": spread, "ratio": spread / sd, "shift": (centre - picked.mean(axis=0)) / sd}
    return long_table({"": range(len(levels)), **risks.dims}, names | columns).drop(columns="")
