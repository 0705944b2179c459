"""What the data say about each effect, against what the prior already said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from aemodel.answers.states import make_model_forward
from aemodel.inference.forward import KEPT_DRAWS, Forward, risk_draws
from aemodel.inference.risks import SUPPORT, RiskDraws
from aemodel.publication.tables import Tables


def identification_table(model: Any) -> pd.DataFrame:
    """How much the published tables narrow each covariate effect on each event.

    Prior effects are taken at the fitted intercepts, so that only what was learned of the effect counts as contraction.

    The effect of a level is the log odds of the risk standardised to that level (everything else as in the cohort) less
    the log odds of the cohort's risk. Contraction is 1 - (posterior sd / prior sd)^2: 1 is learned, 0 is all prior.

    Parameters
    ----------
    model
        From `fit` or `load_model`.

    Returns
    -------
    pandas.DataFrame
        Columns event, grade, covariate, level, prior_sd, effect (posterior mean), posterior_sd (log odds), contraction,
        source: ``data`` (the event's own margin by this covariate is published), ``pooled`` (only other events' are) or
        ``prior`` (nobody's is).
    """
    forward, draws, seed = make_model_forward(model)
    posterior = level_effects(model.risks)
    prior = level_effects(_prior_risks(model.tables, forward.forward, model.prior, draws, seed))
    rows = []
    for k, covariate in enumerate(model.tables.covariates):
        for v, level in enumerate(covariate.names):
            for i, event in enumerate(model.risks.events):
                for j, grade in enumerate(model.risks.grades):
                    before, after = prior[k][:, v, i, j], posterior[k][:, v, i, j]
                    spread = before.std(), after.std()
                    contraction = 1 - (spread[1] / spread[0]) ** 2
                    source = SUPPORT[model.risks.source[k, i, j]]
                    rows.append((event, grade, covariate.name, level, spread[0], after.mean(), spread[1], contraction, source))
    columns = ["event", "grade", "covariate", "level", "prior_sd", "effect", "posterior_sd", "contraction", "source"]
    table = pd.DataFrame(rows, columns=columns)
    order = {event: i for i, event in enumerate(model.risks.events)}
    return table.sort_values(
        ["event", "grade"], key=lambda c: c.map(order) if c.name == "event" else c, kind="stable", ignore_index=True
    )


def level_effects(risks: RiskDraws) -> list[NDArray[np.float64]]:
    """For each covariate, draws of the log odds at each level less the cohort's: (sample, level, event, grade)."""
    everything = np.array([covariate.everything for covariate in risks.covariates])
    cohort = _logit(risks.risks(everything[None]))
    found = []
    for k, covariate in enumerate(risks.covariates):
        sets = np.repeat(everything[None], len(covariate.levels), axis=0)
        sets[:, k] = 1 << np.arange(len(covariate.levels))
        found.append(_logit(_standardised(risks, sets)) - cohort)
    return found


def _standardised(risks: RiskDraws, sets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Risks were everybody at the level, the other covariates distributed as in the whole cohort."""
    k = int(np.flatnonzero((sets != sets[0]).any(axis=0))[0])
    covariate = risks.covariates[k]
    usual = (risks.levels < np.array([len(c.levels) for c in risks.covariates])).all(axis=1)
    others = np.delete(risks.levels, k, axis=1)
    _, group = np.unique(others, axis=0, return_inverse=True)
    share = np.bincount(group[usual], weights=risks.weight[usual], minlength=group.max() + 1)
    flat = risks.draws.reshape(*risks.draws.shape[:2], -1)
    means = []
    for level in range(len(covariate.levels)):
        cells = usual & (risks.levels[:, k] == level)
        weight = (share[group[cells]] / share[group[cells]].sum()).astype(np.float32)
        means.append(np.einsum("c,scx->sx", weight, flat[:, cells]))
    return np.stack(means, axis=1).reshape(len(flat), len(means), *risks.draws.shape[2:]).astype(np.float64)


def _prior_risks(tables: Tables, forward: Forward, prior: xr.Dataset, draws: xr.Dataset, seed: int) -> RiskDraws:
    """Effects from the prior at the fitted intercepts: how far an effect moves a risk depends on where the risk is."""
    size = draws.sizes["chain"] * draws.sizes["draw"]
    intercepts = draws["intercept"].values.reshape(size, -1)[np.arange(prior.sizes["draw"]) % size]
    mixed = prior.assign(intercept=(prior["intercept"].dims, intercepts[None]))
    return risk_draws(tables, forward, mixed.isel(draw=slice(0, KEPT_DRAWS)), seed)


def _logit(p: Any) -> NDArray[np.float64]:
    p = np.clip(np.asarray(p, dtype=np.float64), 1e-9, 1 - 1e-9)
    return np.log(p / (1 - p))
