"""What if: risks of the whole cohort were it, in some respect, otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aemodel.inference.forward import logit
from aemodel.publication.errors import InputError
from aemodel.scoring.eager import as_frame, read_sets
from aemodel.scoring.risks import SUPPORT, RiskDraws, check_interval


def contrast_table(model: Any, to: Mapping[str, Any], reference: Mapping[str, Any], *, interval: float = 0.9) -> pd.DataFrame:
    """Risk differences and ratios between two levels or profiles, everything else as in the cohort.

    ``contrast_table(model, {"arm": "high"}, {"arm": "low"})`` compares the cohort were all patients in the high arm with
    the cohort were all in the low: risks are standardised over the joint distribution of the other covariates.
    A difference between groups of a trial is no effect of a cause: patients who differ in these also differ in others.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    to, reference
        Values of patient columns: covariates' levels or the raw columns from which they follow. Both must speak of the
        same covariates.
    interval
        Probability of the equal-tailed intervals.

    Returns
    -------
    pandas.DataFrame
        Columns event, grade, risk, reference_risk, difference, difference_lower, difference_upper, ratio, ratio_lower,
        ratio_upper, p_higher (posterior probability that the risk is higher than the reference) and support (what the
        weakest of the changed covariates' differences rests on).

    Raises
    ------
    TypeError, ValueError
        A value does not fit, or the two do not speak of the same covariates.
    """
    interval = check_interval(interval)
    risks: RiskDraws = model.risks
    sets = level_sets("to", to, risks), level_sets("reference", reference, risks)
    everything = risks.everything
    fixed = [np.flatnonzero(one != everything).tolist() for one in sets]
    if fixed[0] != fixed[1] or not fixed[0]:
        spoken = [[risks.covariates[k].name for k in one] for one in fixed]
        raise InputError("to, reference", f"they must speak of the same covariates; found {spoken[0]} and {spoken[1]}")
    draws, others = (risks.standardised(one, fixed[0]) for one in sets)
    changed = np.flatnonzero(sets[0] != sets[1])
    if not len(changed):
        raise InputError("to, reference", f"they are the same: {dict(to)} and {dict(reference)}")
    within = [list(risks.within(one[None])) for one in sets]
    rests_on = [risks.source_of(k, within[0][k] - within[1][k])[0] for k in changed.tolist()]
    weakest = np.where(risks.published, np.max(rests_on, axis=0), SUPPORT.index("prior"))
    tails = (1 - interval) / 2, (1 + interval) / 2
    rows = []
    for i, event in enumerate(risks.events):
        for j, grade in enumerate(risks.grades):
            here, there = draws[:, i, j], others[:, i, j]
            difference, ratio = here - there, here / there
            values = (
                *(here.mean(), there.mean(), difference.mean(), *np.quantile(difference, tails)),
                *(np.exp(np.log(ratio).mean()), *np.quantile(ratio, tails), (here > there).mean()),
            )
            rows.append((event, grade, *values, SUPPORT[weakest[i, j]]))
    ends = [f"{what}{end}" for what in ("difference", "ratio") for end in ("", "_lower", "_upper")]
    return pd.DataFrame(rows, columns=["event", "grade", "risk", "reference_risk", *ends, "p_higher", "support"])


def level_sets(argument: str, values: Mapping[str, Any], risks: RiskDraws) -> NDArray[np.int64]:
    """Sets of levels (covariate,); a covariate that is not spoken of has all."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{argument}: expected a mapping from columns to values, not {type(values).__name__}")
    spoken = [c for c in risks.covariates if {c.name, *c.raw_columns} & set(values)]
    known = {name for c in risks.covariates for name in (c.name, *c.raw_columns)}
    if unknown := set(values) - known:
        raise InputError(argument, f"unknown columns {sorted(unknown)}; choose from {', '.join(sorted(known))}")
    row = {name: [values.get(name)] for c in spoken for name in (c.name, *c.raw_columns) if name in values}
    row |= {name: [None] for c in spoken if c.name not in values for name in c.raw_columns if name not in values}
    try:
        found = read_sets(as_frame(pd.DataFrame(row)), spoken)[0] if spoken else []
    except InputError as error:
        raise InputError(argument, error.problem, remedy=error.remedy) from None
    by_name = dict(zip([c.name for c in spoken], found, strict=True))
    return np.array([by_name.get(c.name, c.everything) for c in risks.covariates])


def level_effects(risks: RiskDraws) -> list[NDArray[np.float64]]:
    """For each covariate, draws of the log odds at each level less the cohort's: (sample, level, event, grade).

    Risks at a level are those were everybody at it, the other covariates as in the cohort.
    """
    everything = risks.everything
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
