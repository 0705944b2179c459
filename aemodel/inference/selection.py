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
from aemodel.inference.normal import normal_log_cdf
from aemodel.inference.saddlepoint import pack
from aemodel.publication.evidence import Null
from aemodel.publication.margins import FamilyMargins


def selection_logp(design: Design, nulls: Sequence[Null], margins: Sequence[FamilyMargins], p: Any) -> Any:
    """Log probability of all nulls, from state probabilities ``p`` (state, cell)."""
    weights = null_weights(design, nulls, margins)
    return sum((pt.dot(weights[positions], logp) for positions, logp in null_logp(design, nulls, p)), pt.constant(0.0))


def null_logp(design: Design, nulls: Sequence[Null], p: Any) -> list[tuple[NDArray[np.int64], Any]]:
    """Log probability of each null by itself: positions in ``nulls`` (k,) and values (k,), by set of compared levels."""
    kinds = list(dict.fromkeys((null.covariate, null.levels, null.alpha) for null in nulls))
    found = []
    for kind in kinds:
        covariate, levels, alpha = kind
        positions = [i for i, null in enumerate(nulls) if (null.covariate, null.levels, null.alpha) == kind]
        having = np.array([design.states_having(nulls[i].event, nulls[i].grade) for i in positions], dtype=float)
        share, n = design.groups(covariate, levels)
        rates = pt.dot(pt.dot(having, p), share.T)
        noncentrality = chi_square_noncentrality(rates, n)
        critical = float(chi2.isf(alpha, len(levels) - 1))
        found.append((np.array(positions), log_noncentral_chi_square(critical, len(levels) - 1, noncentrality)))
    return found


def chi_square_noncentrality(rates: Any, n: NDArray[np.float64]) -> Any:
    """Noncentrality (test,) of chi-square tests between groups of sizes n (group,), from true rates (test, group)."""
    share = n / n.sum()
    pooled = pt.dot(rates, share)
    spread = pt.dot((rates - pooled[:, None]) ** 2, n)
    return spread / (pooled * (1 - pooled))


def log_noncentral_chi_square(x: float, df: int, noncentrality: Any) -> Any:
    """Log distribution function of a noncentral chi-square at ``x``, by Sankaran's normal approximation (1963).

    Within 0.005 of it at the 5 % point for 1 to 5 degrees of freedom; smooth in the noncentrality.
    """
    mean = df + noncentrality
    h = 1 - 2 * mean * (df + 3 * noncentrality) / (3 * (df + 2 * noncentrality) ** 2)
    p = (df + 2 * noncentrality) / mean**2
    m = (h - 1) * (1 - 3 * h)
    z = ((x / mean) ** h - (1 + h * p * (h - 1 - 0.5 * (2 - h) * m * p))) / (h * pt.sqrt(2 * p) * (1 + 0.5 * m * p))
    return normal_log_cdf(z)


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
    scale = np.sqrt(np.diag(covariance))
    return np.asarray(covariance / np.outer(scale, scale))


def reference_states(margins: Sequence[FamilyMargins]) -> NDArray[np.float64]:
    """The cohort's state probabilities nearest to equal ones that match the margins, families end to end: (state,)."""
    parts = []
    for family in margins:
        packed = pack([family.margins])
        cells, states, _ = packed.sizes[0]
        tilted = np.where(packed.support, np.exp(packed.target), 0.0).reshape(cells, states)
        parts.append(packed.n @ tilted / packed.n.sum())
    return np.concatenate(parts)
