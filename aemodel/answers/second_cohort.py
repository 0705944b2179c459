"""A model on a cohort it has not seen, of which counts by profile are all that is known: observed against predicted."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from scipy.special import gammaln, logit

from aemodel.publication.arguments import whole_number
from aemodel.publication.arrays import Bools, Floats, Ints
from aemodel.publication.errors import InputError
from aemodel.publication.texts import listed, shown
from aemodel.scoring.eager import as_frame
from aemodel.scoring.exports import COUNTS, bits_of
from aemodel.scoring.risks import RiskDraws, risks_of, tails

STEPS = 200
LEAST = 1e-9
"""Of a risk, so that it has log odds."""
FOUND = 1e-8
"""Change of a coefficient at which it has been found."""


@dataclass(frozen=True)
class Validation:
    """What `validate` finds.

    Attributes
    ----------
    table : pandas.DataFrame
        By event, grade, covariate and level (first ``total`` and ``all``): ``n`` patients; ``observed_low`` and
        ``observed_high``, between which the number with the event lies; ``expected`` by the model; ``lower`` and ``upper``,
        the predictive interval of that number.
    slopes : pandas.DataFrame
        By event and grade: ``intercept`` and ``slope`` of the observed log odds on the predicted ones over profiles, with
        ``slope_lower`` and ``slope_upper``; null where there are too few events to tell. A slope of 1 and an intercept of 0 are
        those of a model that is right; below 1, its risks are too far apart.
    """

    table: pd.DataFrame
    slopes: pd.DataFrame


def validate(model: Any, counts: Any, *, interval: float = 0.9, seed: int = 1) -> Validation:
    """Check a model on counts of another cohort by profile, as ``aemodel profiles`` writes them.

    Parameters
    ----------
    model
        From `load_model` or `fit`.
    counts
        A pandas or polars DataFrame or pyarrow Table: a column for each covariate (levels joined by ``+``, null where not
        known), event, grade, n, count_low and count_high.
    interval
        Probability of the intervals.
    seed
        Of the counts simulated for predictive intervals.

    Returns
    -------
    Validation
        Predictive intervals have uncertainty of the risks, and chance, patients being independent given the risks; those of
        slopes have chance alone (Wald, of a logistic regression on posterior means, of counts known to lie in intervals).

    Raises
    ------
    TypeError, ValueError
        ``counts`` is no frame, or its columns or values do not fit.
    """
    ends, rng = tails(interval), np.random.default_rng(whole_number("seed", seed))
    risks = risks_of(model)
    sets, places, numbers = _read(risks, as_frame(counts, "counts"))
    profiles, which = np.unique(sets, axis=0, return_inverse=True)
    draws = np.clip(risks.risks(profiles).astype(float), 0, 1)
    groups = _groups(risks, sets)
    table, slopes = [], []
    for place in range(len(risks.events) * len(risks.grades)):
        event, grade = divmod(place, len(risks.grades))
        names = {"event": risks.events[event], "grade": risks.grades[grade]}
        if not (here := places == place).any():
            continue
        n, low, high = numbers[here].T
        risk = draws[:, which[here], event, grade]
        simulated = rng.binomial(n, risk)
        for (covariate, level), members in groups.items():
            inside = members[here]
            if inside.any():
                lower, upper = np.quantile(simulated[:, inside].sum(axis=1), ends, method="inverted_cdf")
                table.append(
                    names
                    | {"covariate": covariate, "level": level, "n": int(n[inside].sum())}
                    | {"observed_low": int(low[inside].sum()), "observed_high": int(high[inside].sum())}
                    | {"expected": float(risk[:, inside].mean(axis=0) @ n[inside]), "lower": int(lower), "upper": int(upper)}
                )
        slopes.append(names | _slope(logit(risk.mean(axis=0).clip(LEAST, 1 - LEAST)), n, low, high, ends[1]))
    return Validation(pd.DataFrame(table), pd.DataFrame(slopes))


def _read(risks: RiskDraws, frame: nw.DataFrame[Any]) -> tuple[Ints, Ints, Ints]:
    """Rows' sets of levels, (row, covariate), positions of event and grade, (row,), and n, low and high, (row, 3)."""
    wanted = [*(c.name for c in risks.covariates), *COUNTS]
    if missing := [name for name in wanted if name not in frame.columns]:
        raise InputError("counts", f"no columns {listed(missing)}; `aemodel profiles` writes them")
    if not len(frame):
        raise InputError("counts", "it has no rows")
    columns = {name: frame[name].to_list() for name in wanted}
    pairs = {pair: i for i, pair in enumerate(risks.pairs)}
    rows = list(zip(*(columns[name] for name in COUNTS), strict=True))
    places = np.array([pairs.get(row[:2], -1) for row in rows])
    sets = np.array([[bits_of(c, text) for text in columns[c.name]] for c in risks.covariates]).T
    try:
        numbers = np.array([[int(number) for number in row[2:]] for row in rows])
    except (TypeError, ValueError) as error:
        raise InputError("counts", f"n, count_low and count_high must be whole numbers ({error})") from None
    n, low, high = numbers.T
    problems = {
        "an event or grade that the model has not": places < 0,
        "levels that the model has not": (sets == 0).any(axis=1),
        "not 0 <= count_low <= count_high <= n": (low < 0) | (low > high) | (high > n),
    }
    for problem, wrong in problems.items():
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            values = shown([columns[name][first] for name in wanted])
            raise InputError("counts", f"row {first} has {problem}: {values}", rows=[first])
    return sets, places, numbers


def _groups(risks: RiskDraws, sets: Ints) -> dict[tuple[str, str], Bools]:
    """Which rows are of everybody, and of each level of a covariate."""
    groups = {("total", "all"): np.ones(len(sets), dtype=bool)}
    for k, covariate in enumerate(risks.covariates):
        groups |= {(covariate.name, name): sets[:, k] == 1 << i for i, name in enumerate(covariate.names)}
    return groups


def _slope(predicted: Floats, n: Ints, low: Ints, high: Ints, end: float) -> dict[str, Any]:
    """Logistic regression of counts that lie in intervals, by Fisher's scoring as if they were all known."""
    row = np.repeat(np.arange(len(n)), high - low + 1)
    first = np.r_[0, np.cumsum(high - low + 1)[:-1]]
    count = np.arange(len(row)) - first[row] + low[row]
    ways = gammaln(n[row] + 1) - gammaln(count + 1) - gammaln(n[row] - count + 1)
    design = np.stack([np.ones(len(n)), predicted], axis=1)
    found = {"intercept": np.nan, "slope": np.nan, "slope_lower": np.nan, "slope_upper": np.nan}
    if len(set(predicted.tolist())) < 2 or high.sum() == 0 or low.sum() == n.sum():
        return found
    beta = np.array([0.0, 1.0])
    for _ in range(STEPS):
        eta = design @ beta
        p = 1 / (1 + np.exp(-eta))
        weight = np.exp((terms := ways + count * eta[row]) - np.maximum.reduceat(terms, first)[row])
        weight /= np.add.reduceat(weight, first)[row]
        mean = np.add.reduceat(weight * count, first)
        spread = np.add.reduceat(weight * count**2, first) - mean**2
        full = (design * (n * p * (1 - p))[:, None]).T @ design
        step = np.linalg.lstsq(full, design.T @ (mean - n * p), rcond=None)[0]
        beta = beta + step
        if np.abs(step).max() < FOUND or np.abs(beta).max() > 50:
            break
    information = full - (design * spread[:, None]).T @ design
    if np.abs(beta).max() > 50 or np.linalg.eigvalsh(information)[0] < 1e-6:
        return found
    width = NormalDist().inv_cdf(end) * float(np.sqrt(np.linalg.inv(information)[1, 1]))
    values = beta[0], beta[1], beta[1] - width, beta[1] + width
    return dict(zip(found, map(float, values), strict=True))
