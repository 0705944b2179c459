"""What the priors imply before any data: risks, their range over profiles, and odds ratios."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aemodel.answers.contrasts import level_effects
from aemodel.answers.states import make_model_forward
from aemodel.inference.forward import KEPT_DRAWS, risk_draws
from aemodel.scoring.risks import RiskDraws, check_interval

Draws = dict[tuple[str, str, str], NDArray[np.float64]]


def prior_predictive_table(model: Any, *, interval: float = 0.9) -> pd.DataFrame:
    """What the priors imply for risks and odds ratios, beside what the posterior says of the same.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    interval
        Probability of the equal-tailed intervals.

    Returns
    -------
    pandas.DataFrame
        Columns event, grade, quantity, prior_median, prior_lower, prior_upper, posterior_median, posterior_lower,
        posterior_upper, published (the published rate of the cohort, or NaN). Quantities are ``cohort risk``, ``highest
        less lowest profile risk`` and, for each covariate, ``odds ratio {covariate}`` of its last level against its first.

    Raises
    ------
    ValueError
        ``interval`` is not a probability.
    """
    interval = check_interval(interval)
    forward, _, seed = make_model_forward(model)
    prior = model.prior.isel(draw=slice(0, KEPT_DRAWS))
    before = _quantities(risk_draws(model.tables, forward.forward, prior, seed))
    after = _quantities(model.risks)
    rows = model.tables.frequencies
    total = rows[rows["covariate"] == "total"]
    rates = dict(
        zip(zip(total["event"], total["grade"], strict=True), total["observed"].astype(float) / total["n"], strict=True)
    )
    probabilities = (0.5, (1 - interval) / 2, (1 + interval) / 2)
    table = [
        (*key, *np.quantile(before[key], probabilities), *np.quantile(after[key], probabilities),
         rates.get(key[:2], np.nan) if key[2] == COHORT else np.nan)
        for key in before
    ]  # fmt: skip
    ends = [f"{when}_{what}" for when in ("prior", "posterior") for what in ("median", "lower", "upper")]
    return pd.DataFrame(table, columns=["event", "grade", "quantity", *ends, "published"])


COHORT = "cohort risk"
RANGE = "highest less lowest profile risk"


def _quantities(risks: RiskDraws) -> Draws:
    usual = (risks.levels < np.array([len(c.levels) for c in risks.covariates])).all(axis=1)
    cohort = risks.standardised(risks.everything, ())
    spread = risks.draws[:, usual].max(axis=1) - risks.draws[:, usual].min(axis=1)
    effects = level_effects(risks)
    found: Draws = {}
    for i, event in enumerate(risks.events):
        for j, grade in enumerate(risks.grades):
            found[event, grade, COHORT] = cohort[:, i, j]
            found[event, grade, RANGE] = spread[:, i, j]
            for covariate, effect in zip(risks.covariates, effects, strict=True):
                found[event, grade, f"odds ratio {covariate.name}"] = np.exp(effect[:, -1, i, j] - effect[:, 0, i, j])
    return found
