"""What if: risks of the whole cohort were it, in some respect, otherwise; and odds of every level against the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from aemodel.answers.risk import long_table
from aemodel.inference.forward import logit
from aemodel.publication.arrays import Floats, Ints
from aemodel.publication.errors import InputError
from aemodel.scoring.eager import as_frame, read_sets
from aemodel.scoring.risks import SUPPORT, RiskDraws, risks_of, tails


def contrast_table(model: Any, to: Mapping[str, Any], reference: Mapping[str, Any], *, interval: float = 0.9) -> pd.DataFrame:
    """Risk differences and ratios between two levels or profiles, everything else as in the cohort.

    ``contrast_table(model, {"arm": "high"}, {"arm": "low"})`` compares the cohort were all patients in the high arm with
    the cohort were all in the low: risks are standardised over the joint distribution of the other covariates.
    Unless patients were assigned to them at random, a difference between groups is no effect of a cause: patients who differ
    in these also differ in others.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    to, reference
        Values of patient columns, as a mapping or a row of a pandas frame, whose further columns are left alone: covariates'
        levels or the raw columns from which they follow. Both must speak of the same covariates.
    interval
        Probability of the equal-tailed intervals.

    Returns
    -------
    pandas.DataFrame
        Columns event, grade, risk, reference_risk, difference, difference_lower, difference_upper, ratio, ratio_lower,
        ratio_upper, p_higher (posterior probability that the risk is higher than the reference) and support (what the
        weakest of the changed covariates' differences rests on; not what `risk_table` says of a patient at either end).

    Raises
    ------
    TypeError, ValueError
        A value does not fit, or the two do not speak of the same covariates.
    """
    ends, risks = tails(interval), risks_of(model)
    sets = level_sets("to", to, risks), level_sets("reference", reference, risks)
    everything = risks.everything
    fixed = [np.flatnonzero(one != everything).tolist() for one in sets]
    if fixed[0] != fixed[1] or not fixed[0]:
        spoken = [[risks.covariates[k].name for k in one] for one in fixed]
        raise InputError("to, reference", f"they must speak of the same covariates; found {spoken[0]} and {spoken[1]}")
    # Samples last and each pair's beside each other, as sums of them do not depend on the company then.
    here, there = (np.ascontiguousarray(np.moveaxis(risks.standardised(one, fixed[0]), 0, -1)) for one in sets)
    changed = np.flatnonzero(sets[0] != sets[1])
    if not len(changed):
        raise InputError("to, reference", f"they are the same: {dict(to)} and {dict(reference)}")
    within = [list(risks.within(one[None])) for one in sets]
    rests_on = [risks.source_of(k, within[0][k] - within[1][k])[0] for k in changed.tolist()]
    weakest = np.where(risks.published, np.max(rests_on, axis=0), SUPPORT.index("prior"))
    columns: dict[str, Any] = {"risk": here.mean(axis=-1), "reference_risk": there.mean(axis=-1)}
    for name, of in (("difference", here - there), ("ratio", here / there)):
        columns[name] = of.mean(axis=-1) if name == "difference" else np.exp(np.log(of).mean(axis=-1))
        columns[f"{name}_lower"], columns[f"{name}_upper"] = np.quantile(of, ends, axis=-1)
    columns |= {"p_higher": (here > there).mean(axis=-1), "support": np.array(SUPPORT)[weakest]}
    return long_table(risks.dims, columns)


def level_sets(argument: str, values: Mapping[str, Any], risks: RiskDraws) -> Ints:
    """Sets of levels (covariate,); a covariate that is not spoken of has all."""
    known = {name for c in risks.covariates for name in (c.name, *c.raw_columns)}
    if isinstance(values, pd.Series):  # a row of a frame of patients, which may have further columns
        values = {name: value for name, value in values.items() if name in known}
    if not isinstance(values, Mapping):
        raise TypeError(f"{argument}: expected a mapping from columns to values, not {type(values).__name__}")
    spoken = [c for c in risks.covariates if {c.name, *c.raw_columns} & set(values)]
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


def level_effects(risks: RiskDraws) -> list[Floats]:
    """For each covariate, draws of the log odds at each level less the cohort's: (sample, level, event, grade).

    Risks at a level are those were everybody at it, the other covariates as in the cohort.
    """
    cohort, *levels = (logit(draws) for _, _, draws in at_each_level(risks))
    ends = np.cumsum([len(c.levels) for c in risks.covariates])[:-1]
    parts = np.split(np.stack(levels, axis=1) - cohort[:, None], ends, axis=1) if levels else []
    return list(parts)


def at_each_level(risks: RiskDraws) -> Iterator[tuple[str, str, Floats]]:
    """Draws (sample, event, grade) of the cohort's risks, under ``total`` and ``all``, and were everybody at a level."""
    yield "total", "all", risks.standardised(risks.everything, ())
    for k, covariate in enumerate(risks.covariates):
        for name, sets in zip(covariate.names, risks.knowing(k, range(len(covariate.levels))), strict=True):
            yield covariate.name, name, risks.standardised(sets, (k,))


def odds_ratio_table(model: Any, *, interval: float = 0.9) -> pd.DataFrame:
    """Odds ratios of each covariate's levels against its first level.

    Risks are standardised: those of the whole cohort were it at the level, the other covariates as they are. Unless patients
    were assigned to levels at random, a difference is no effect of a cause: patients who differ in one thing also differ in
    others.

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
    probabilities, risks = (0.5, *tails(interval)), risks_of(model)
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
