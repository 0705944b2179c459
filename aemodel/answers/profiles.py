"""Risks by one or more covariates, whatever else is true of a patient averaged over the cohort."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from aemodel.publication.errors import InputError
from aemodel.publication.texts import shown
from aemodel.scoring.risks import SUPPORT, RiskDraws, check_interval


def profile_table(model: Any, by: Sequence[str], *, interval: float = 0.9) -> pd.DataFrame:
    """Risks of patients of whom only some covariates are known: every combination of these covariates' levels.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    by
        Names of covariates.
    interval
        Probability of the equal-tailed intervals.

    Returns
    -------
    pandas.DataFrame
        One row per combination, event and grade: a column per covariate in ``by``, event, grade, risk (posterior mean),
        lower, upper (probabilities) and support. Equal to `risk_table` of patients with the other covariates missing. The
        interval's probability is in ``attrs["interval"]``.

    Raises
    ------
    ValueError
        ``by`` is empty or names something other than covariates of the model, or one twice.
    """
    interval = check_interval(interval)
    risks: RiskDraws = model.risks
    names = [c.name for c in risks.covariates]
    given = [] if isinstance(by, str) else list(by)
    if not given or any(name not in names or given.count(name) > 1 for name in given):
        raise InputError("by", f"expected one or more of {', '.join(names)}, each once, not {shown(by)}")
    chosen = [names.index(name) for name in given]
    combos = np.array(list(product(*(range(len(risks.covariates[k].levels)) for k in chosen))))
    sets = np.repeat(risks.everything[None], len(combos), axis=0)
    sets[:, chosen] = 1 << combos
    mean, lower, upper = risks.summary(sets, interval)
    each = len(risks.events) * len(risks.grades)
    columns: dict[str, Any] = {
        risks.covariates[k].name: np.repeat(np.array(risks.covariates[k].names)[combos[:, i]], each)
        for i, k in enumerate(chosen)
    }
    columns["event"] = np.tile(np.repeat(risks.events, len(risks.grades)), len(combos))
    columns["grade"] = np.tile(risks.grades, len(combos) * len(risks.events))
    columns |= {"risk": mean.ravel(), "lower": lower.ravel(), "upper": upper.ravel()}
    table = pd.DataFrame(columns | {"support": np.array(SUPPORT)[risks.support(sets)].ravel()})
    table.attrs["interval"] = interval
    return table
