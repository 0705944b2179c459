"""What would change with the priors: power-scaling of the draws, without another fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import norm

from aemodel.answers.states import make_model_forward
from aemodel.inference import priors
from aemodel.inference.design import Design, all_margins, family_averages
from aemodel.inference.forward import logit, make_forward
from aemodel.inference.idata import power_scaling
from aemodel.inference.intervals import pack
from aemodel.inference.saddlepoint import joint_loglik
from aemodel.publication.tables import Tables
from aemodel.scoring.risks import RiskDraws

SENSITIVE = 0.05
"""Power-scaling sensitivity from which a prior or the data matter (Kallioinen et al. 2024)."""


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
    design = forward.forward.design
    index, quantities = _quantities(model.risks)
    factor, power = (float(model.settings.get(name, 1.0)) for name in ("prior_scale", "power"))
    log_prior = {"scales": _scale_logp(draws, design, factor), "intercepts": _intercept_logp(draws, design)}
    loglik = {"data": power * margin_loglik_draws(design, model.tables, draws)}
    samples = {name: _by_chain(values, draws) for name, values in (log_prior | loglik).items()}
    found = power_scaling(_by_chain(quantities, draws), samples, list(log_prior), list(loglik))
    table = pd.DataFrame(index, columns=["event", "grade", "covariate", "level"]).assign(**found)
    table["shift"] = _shift(quantities, log_prior["scales"])
    matters = table["scales"] >= SENSITIVE
    table["diagnosis"] = np.where(matters, np.where(table["data"] >= SENSITIVE, "conflict", "prior"), "")
    return table


def _quantities(risks: RiskDraws) -> tuple[list[tuple[str, str, str, str]], NDArray[np.float64]]:
    """What to look at: names of rows, and draws of log odds (sample, row)."""
    everything = risks.everything
    places = [("total", "all", risks.standardised(everything, ()))]
    for k, covariate in enumerate(risks.covariates):
        for position, level in enumerate(covariate.names):
            sets = everything.copy()
            sets[k] = 1 << position
            places.append((covariate.name, level, risks.standardised(sets, (k,))))
    names, columns = [], []
    for i, event in enumerate(risks.events):
        for j, grade in enumerate(risks.grades):
            names += [(event, grade, covariate, level) for covariate, level, _ in places]
            columns += [logit(values[:, i, j]) for _, _, values in places]
    return names, np.stack(columns, axis=1)


def _scale_logp(draws: xr.Dataset, design: Design, factor: float) -> NDArray[np.float64]:
    """Log prior density of the effects' scales, up to a constant, (sample,)."""
    spread = factor * design.widths
    scale = draws["scale"].transpose("chain", "draw", "pool", "term").values.astype(float)
    return -0.5 * ((scale / spread) ** 2).sum(axis=(2, 3)).ravel()


def _intercept_logp(draws: xr.Dataset, design: Design) -> NDArray[np.float64]:
    """Log prior density of the intercepts, of their means and spreads by pool, (sample,)."""
    mean, spread = (draws[name].transpose("chain", "draw", "pool").values for name in ("intercept_mean", "intercept_spread"))
    found = norm.logpdf(draws["intercept"].values, mean[..., design.pool_of], spread[..., design.pool_of]).sum(axis=2)
    found += norm.logpdf(mean, *np.array([priors.INTERCEPT[kind] for kind in design.kinds]).T).sum(axis=2)
    found += norm.logpdf(np.log(spread), np.log(priors.SPREAD[0]), priors.SPREAD[1]).sum(axis=2)
    return np.asarray(found.ravel())


def margin_loglik_draws(design: Design, tables: Tables, draws: xr.Dataset) -> NDArray[np.float64]:
    """Log likelihood of all published margins for each draw, (sample,)."""
    margins = all_margins(design, tables.frequencies)
    averages = family_averages(design, margins)
    packed = pack([family.margins for family in margins])
    published = len(design.cells.n)
    values = []
    for p in make_forward(design, deviation=0.0).states(draws, 0):
        parts = [average @ p[design.edges[i] : design.edges[i + 1], :published].T for i, average in enumerate(averages)]
        logp = np.log(np.concatenate([part.ravel() for part in parts]))
        values.append(float(joint_loglik(logp, *packed)[0].sum()))
    return np.array(values)


def _by_chain(values: NDArray[np.float64], draws: xr.Dataset) -> NDArray[np.float64]:
    return values.reshape(draws.sizes["chain"], draws.sizes["draw"], *values.shape[1:])


def _shift(quantities: NDArray[np.float64], log_prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Change of means in standard deviations when the prior's scale doubles.

    A half-normal density to the power a is one with its scale divided by the root of a, so doubling is a = 1/4; a mean's
    derivative with respect to log a is its covariance with the log prior.
    """
    centred = quantities - quantities.mean(axis=0)
    slope = (log_prior - log_prior.mean()) @ centred / len(centred)
    return np.asarray(np.log(0.25) * slope / quantities.std(axis=0))
