"""Odds ratios of every level against the first, everything else as in the cohort."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aemodel.answers.contrasts import level_effects
from aemodel.scoring.risks import SUPPORT, check_interval


def odds_ratio_table(model: Any, *, interval: float = 0.9) -> pd.DataFrame:
    """Odds ratios of each covariate's levels against its first level.

    Risks are standardised: those of the whole cohort were it at the level, the other covariates as they are. A difference
    between groups of a trial is no effect of a cause: patients who differ in one thing also differ in others.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    interval
        Probability of the equal-tailed intervals.

    Returns
    -------
    pandas.DataFrame
        Columns event, grade, covariate, level, reference (the first level), odds_ratio (posterior median), lower, upper,
        p_higher (posterior probability of odds higher than the reference's) and support (``data``, ``pooled`` or ``prior``:
        what the difference between the two rests on).

    Raises
    ------
    ValueError
        The interval is not between 0 and 1.
    """
    interval = check_interval(interval)
    risks = model.risks
    probabilities = (0.5, (1 - interval) / 2, (1 + interval) / 2)
    rows = []
    for k, (covariate, effects) in enumerate(zip(risks.covariates, level_effects(risks), strict=True)):
        levels = np.eye(len(covariate.levels))
        source = np.array(SUPPORT)[risks.source_of(k, levels - levels[0])]
        for i, event in enumerate(risks.events):
            for j, grade in enumerate(risks.grades):
                for position, level in enumerate(covariate.names[1:], start=1):
                    log_odds = effects[:, position, i, j] - effects[:, 0, i, j]
                    values = (*np.exp(np.quantile(log_odds, probabilities)), (log_odds > 0).mean(), source[position, i, j])
                    rows.append((event, grade, covariate.name, level, covariate.names[0], *values))
    names = ["event", "grade", "covariate", "level", "reference", "odds_ratio", "lower", "upper", "p_higher", "support"]
    return pd.DataFrame(rows, columns=names)
