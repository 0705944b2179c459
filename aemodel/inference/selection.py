"""What was not listed is evidence too: the probability that tests came out non-significant, given the risks.

A chi-square test between groups has a noncentral chi-square statistic. Tests of nested events see much the same patients,
so the product of their probabilities would count them more than once, as a product of binomials does with margins: within
a family each log probability is divided by the root of the sum of its squared correlations with the others, itself
included. Against simulation of the joint probability that errs by 0.2 to 0.4 nats (sd over posterior draws, nine events in
one family) where the product errs by 0.9; tests of few patients, which are not quite normal, add up to 0.6
(`tests/test_evidence.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from scipy.stats import chi2

from aemodel.inference.design import Design
from aemodel.inference.effects import reference_states
from aemodel.inference.normal import normal_log_cdf
from aemodel.publication.evidence import Null
from aemodel.publication.margins import FamilyMargins

SLICES = 6
"""Into how many slices the statistic of a test between groups is cut, where one between levels stands beside it."""


def selection_logp(design: Design, nulls: Sequence[Null], weights: Any, p: Any) -> Any:
    """Log probability of all nulls, each times its weight (null,), from state probabilities ``p`` (state, cell)."""
    return sum((pt.dot(weights[positions], logp) for positions, logp in null_logp(design, nulls, p)), pt.constant(0.0))


def null_logp(design: Design, nulls: Sequence[Null], p: Any) -> list[tuple[NDArray[np.int64], Any]]:
    """Log probability of each null by itself: positions in ``nulls`` (k,) and values (k,), by set of compared levels."""
    kinds = list(dict.fromkeys((null.covariate, null.levels, null.groups, null.alpha) for null in nulls))
    found = []
    for kind in kinds:
        covariate, levels, groups, alpha = kind
        mine = [i for i, null in enumerate(nulls) if (null.covariate, null.levels, null.groups, null.alpha) == kind]
        having = np.array([design.states_having(nulls[i].event, nulls[i].grade) for i in mine], dtype=float)
        share, n = design.groups(covariate, levels)
        rates = pt.dot(pt.dot(having, p), share.T)
        found.append((np.array(mine), not_significant_logp(rates, n, groups, alpha)))
    return found


def not_significant_logp(rates: Any, n: NDArray[np.float64], groups: Sequence[Sequence[int]], alpha: float) -> Any:
    """Log probability that a chi-square test between groups of patients of sizes n (level,) is not significant, (test,).

    ``rates`` (test, level) are the true ones. With ``groups`` of levels, that this test is not and the one between the groups
    is not either: the statistic between levels is the sum of that between groups and an independent one within them. The
    former is cut into `SLICES`.
    """
    whole = chi_square_noncentrality(rates, n)
    critical = float(chi2.isf(alpha, len(n) - 1))
    if not groups:
        return log_noncentral_chi_square(critical, len(n) - 1, whole)
    inside = np.array([np.isin(np.arange(len(n)), group) for group in groups]) * n
    between = chi_square_noncentrality(pt.dot(rates, (inside / inside.sum(axis=1, keepdims=True)).T), inside.sum(axis=1))
    ends = np.linspace(0, float(chi2.isf(alpha, len(groups) - 1)), SLICES + 1)
    middle = np.minimum(0.5 * (ends[1:] + ends[:-1]), critical)
    of_groups = log_noncentral_chi_square(ends[1:], len(groups) - 1, between[:, None])
    # Slices of the distribution function: the first from zero, the others as differences, in logarithms.
    slices = of_groups[:, 1:] + pt.log1mexp(of_groups[:, :-1] - of_groups[:, 1:])
    slices = pt.concatenate([of_groups[:, :1], slices], axis=1)
    within = log_noncentral_chi_square(critical - middle, len(n) - len(groups), pt.maximum(whole - between, 0.0)[:, None])
    return pt.logsumexp(slices + within, axis=1)


def chi_square_noncentrality(rates: Any, n: NDArray[np.float64]) -> Any:
    """Noncentrality (test,) of chi-square tests between groups of sizes n (group,), from true rates (test, group)."""
    share = n / n.sum()
    pooled = pt.dot(rates, share)
    spread = pt.dot((rates - pooled[:, None]) ** 2, n)
    return spread / (pooled * (1 - pooled))


def log_noncentral_chi_square(x: Any, df: int, noncentrality: Any) -> Any:
    """Log distribution function of a noncentral chi-square at ``x``, by Sankaran's normal approximation (1963).

    Within 0.005 of it at the 5 % point for 1 to 5 degrees of freedom; smooth in the noncentrality.
    """
    mean = df + noncentrality
    h = 1 - 2 * mean * (df + 3 * noncentrality) / (3 * (df + 2 * noncentrality) ** 2)
    p = (df + 2 * noncentrality) / mean**2
    m = (h - 1) * (1 - 3 * h)
    z = ((x / mean) ** h - (1 + h * p * (h - 1 - 0.5 * (2 - h) * m * p))) / (h * pt.sqrt(2 * p) * (1 + 0.5 * m * p))
    return normal_log_cdf(z)


def weights_of_tests(
    design: Design, tests: Sequence[Null], nulls: Sequence[Null], margins: Sequence[FamilyMargins]
) -> NDArray[np.float64]:
    """What each of ``tests`` counts, (test,): as `null_weights` where it is one of ``nulls``, otherwise nothing."""
    weights = np.zeros(len(tests))
    if nulls:
        weights[[tests.index(null) for null in nulls]] = null_weights(design, nulls, margins)
    return weights


def null_weights(design: Design, nulls: Sequence[Null], margins: Sequence[FamilyMargins]) -> NDArray[np.float64]:
    """What each null counts, 1 or less: its event's overlap with those of the other nulls of its covariate, (null,)."""
    states = reference_states(margins)
    having = np.array([design.states_having(null.event, null.grade) for null in nulls], dtype=float)
    weights = np.ones(len(nulls))
    for covariate in {null.covariate for null in nulls}:
        mine = [i for i, null in enumerate(nulls) if null.covariate == covariate]
        weights[mine] = 1 / np.sqrt((_correlation(design, nulls, mine, having, states) ** 2).sum(axis=1))
    return weights


def _correlation(
    design: Design, nulls: Sequence[Null], mine: Sequence[int], having: NDArray[np.float64], states: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Correlation of having the nulls' events; events of different families are independent within cells."""
    rate = having[mine] @ states
    together = (having[mine] * states) @ having[mine].T
    covariance = together - np.outer(rate, rate)
    family = [design.family_of(nulls[i].event) for i in mine]
    covariance[np.not_equal.outer(family, family)] = 0
    # An event that nobody had overlaps with none.
    scale = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    np.fill_diagonal(covariance, scale**2)
    return np.asarray(covariance / np.outer(scale, scale))
