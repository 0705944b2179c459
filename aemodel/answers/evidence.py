"""Does a fit agree with what the publication says in words: tests that were not significant, groups in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2, ncx2

from aemodel.inference.evidence import in_order
from aemodel.publication.arrays import Floats
from aemodel.publication.events import around
from aemodel.publication.evidence import Null
from aemodel.scoring.risks import RiskDraws, risks_of

SLICES = 50
"""Of the statistic of a test between groups of levels, beside which that between the levels stands."""

DOUBTFUL = 0.25
"""Probability of a null below which the publication speaks against the answer."""


def selection_table(model: Any, without: Any = None) -> pd.DataFrame:
    """Every test that was not significant, or not listed, with the probability the fitted model gives to that.

    Compare a fit with the term and one without (``fit(..., selection=False)``): the latter shows how far pooling carries
    published, and so selected, effects into pairs the publication left out.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    without
        Another fit of the same publication to show beside it.

    Returns
    -------
    pandas.DataFrame
        Columns event, grade, covariate, stated (in words; otherwise unlisted), in_fit, odds_ratio (posterior mean log odds
        ratio between the levels of highest and lowest risk, as a ratio), p_nonsignificant (posterior mean probability of
        a chi-square test between the levels above its alpha), doubtful (below 0.25) and, if so, cause; with ``without``,
        also odds_ratio_without and p_without.
    """
    table = _selection(model)
    if without is not None:
        other = _selection(without)
        table["odds_ratio_without"], table["p_without"] = other["odds_ratio"], other["p_nonsignificant"]
    return table


def _selection(model: Any) -> pd.DataFrame:
    risks, rows = risks_of(model), []
    in_fit = bool(model.settings.get("selection"))
    for null in model.tables.nulls:
        rates, n = group_rates(risks, null.event, null.grade, null.covariate, null.levels)
        p = float(_nonsignificant(rates, n, null.groups, null.alpha).mean())
        log_odds = np.log(rates / (1 - rates)).mean(axis=0)
        ratio = float(np.exp(log_odds.max() - log_odds.min()))
        doubtful = p < DOUBTFUL
        cause = _cause(model, null) if doubtful else ""
        rows.append((null.event, null.grade, null.covariate, null.stated, in_fit, ratio, p, doubtful, cause))
    names = ["event", "grade", "covariate", "stated", "in_fit", "odds_ratio", "p_nonsignificant", "doubtful", "cause"]
    return pd.DataFrame(rows, columns=names)


def ordering_table(model: Any) -> pd.DataFrame:
    """Every published ordering, with the probability that the true risks of the groups come in it.

    Parameters
    ----------
    model
        From `fit` or `load_model`.

    Returns
    -------
    pandas.DataFrame
        One row per ordering, grade and group: event, grade, covariate, within, level, tier (1 is highest), patients, in_fit
        (how tests were taken to be significant, or None), risk, lower, upper (posterior mean and 90 % interval),
        p_highest (probability of the highest risk of the groups) and p_ordered (of the published order, one value for
        all groups of a grade).
    """
    rows = []
    for item in model.tables.orderings:
        for grade, tiers in item.tiers.items():
            risks, n = group_rates(risks_of(model), item.event, grade, item.covariate, item.groups, item.within)
            ordered = in_order(risks, item.groups, tiers)
            within = "" if item.within is None else item.within[1]
            about = (item.event, grade, item.covariate, within)
            for tier, names in enumerate(tiers, start=1):
                for name in names:
                    k = item.groups.index(name)
                    lower, upper = np.quantile(risks[:, k], (0.05, 0.95))
                    highest = (risks.argmax(axis=1) == k).mean()
                    fitted = model.settings.get("ordering")
                    rows.append(
                        (*about, name, tier, round(n[k]), fitted, risks[:, k].mean(), lower, upper, highest, ordered.mean())
                    )
    names = ["event", "grade", "covariate", "within", "level", "tier", "patients", "in_fit", "risk", "lower", "upper"]
    return pd.DataFrame(rows, columns=[*names, "p_highest", "p_ordered"])


def group_rates(
    risks: RiskDraws, event: str, grade: str, covariate: str, levels: tuple[str, ...], within: tuple[str, str] | None = None
) -> tuple[Floats, Floats]:
    """Draws of groups' risks, (sample, group), and their sizes in the cohort, (group,)."""
    names = [c.name for c in risks.covariates]
    k = names.index(covariate)
    sets = risks.knowing(k, [risks.covariates[k].names.index(level) for level in levels])
    if within is not None:
        other = names.index(within[0])
        sets[:, other] = sum(1 << member for member in risks.covariates[other].members(within[1]))
    inside = ((sets[:, None, :] >> risks.levels[None]) & 1).all(axis=2)
    place = risks.events.index(event), risks.grades.index(grade)
    return risks.risks(sets)[:, :, place[0], place[1]].astype(np.float64), inside @ risks.weight


def _nonsignificant(rates: Floats, n: Floats, groups: tuple[tuple[int, ...], ...], alpha: float) -> Floats:
    """Probability of each draw (sample,) that a chi-square test between the levels is not significant.

    With ``groups`` of levels, that neither this one is nor the one between the groups: see `aemodel.inference.selection`.
    """
    whole, df = _noncentrality(rates, n), len(n) - 1
    critical = chi2.isf(alpha, df)
    if not groups:
        return np.asarray(ncx2.cdf(critical, df, whole))
    inside = np.array([np.isin(np.arange(len(n)), group) for group in groups]) * n
    between = _noncentrality(rates @ (inside / inside.sum(axis=1, keepdims=True)).T, inside.sum(axis=1))
    ends = np.linspace(0, chi2.isf(alpha, len(groups) - 1), SLICES + 1)
    slices = np.diff(ncx2.cdf(ends[:, None], len(groups) - 1, between), axis=0)
    left = critical - 0.5 * (ends[1:] + ends[:-1])
    return np.asarray((slices * ncx2.cdf(left[:, None], df + 1 - len(groups), np.maximum(whole - between, 0))).sum(axis=0))


def _noncentrality(rates: Floats, n: Floats) -> Floats:
    """Of chi-square tests between groups of sizes ``n`` (group,), from true ``rates`` (sample, group): (sample,)."""
    pooled = rates @ (n / n.sum())
    return np.asarray(((rates - pooled[:, None]) ** 2 @ n) / (pooled * (1 - pooled)))


def _cause(model: Any, null: Null) -> str:
    """Where an effect against a null comes from: a published margin of an event it nests in or contains, or pooling."""
    events = model.tables.events
    listed = {row.event for row in model.tables.rows if row.covariate == null.covariate}
    above = list(around(null.event, events))
    inside = [event.name for event in events if null.event in around(event.name, events)]
    if family := [event for event in (*above, *inside) if event in listed]:
        return f"published margin of {family[0]}, which {'contains it' if family[0] in above else 'it contains'}"
    if listed:
        return f"pooling with {', '.join(sorted(listed))}"
    ordered = [item.event for item in model.tables.orderings if item.covariate == null.covariate]
    return f"ordering of {ordered[0]}" if ordered and model.settings.get("ordering") else "prior"
