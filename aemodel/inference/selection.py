"""What was not listed is evidence too: the probability that tests came out non-significant, given the risks.

A chi-square test between groups has a noncentral chi-square statistic. With groups of levels, neither the test between
levels nor that between groups was significant: the statistic between levels is the sum of that between groups and an
independent one within them; the former is cut into `SLICES`.

Tests of nested events see much the same patients, so the product of their probabilities would count them more than once,
as a product of binomials does with margins: within
a family each log probability is divided by the root of the sum of its squared correlations with the others, itself
included. Against simulation of the joint probability that errs by 0.2 to 0.4 nats (sd over posterior draws, nine events in
one family) where the product errs by 0.9; tests of few patients, which are not quite normal, add up to 0.6
(`tests/test_evidence.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import chi2

from aemodel.inference.density import Term
from aemodel.inference.design import Design
from aemodel.inference.effects import reference_states
from aemodel.inference.kernels import LOG_ROOT_2_PI, compiled, normal_log_cdf
from aemodel.publication.arrays import Floats
from aemodel.publication.evidence import Null
from aemodel.publication.margins import FamilyMargins

SLICES = 6
"""Into how many slices the statistic of a test between groups is cut, where one between levels stands beside it."""


def chi_square_tests(design: Design, nulls: Sequence[Null]) -> tuple[Floats, tuple[Floats, ...]]:
    """All that nulls compare, and what `not_significant` needs of each.

    Returns
    -------
    tuple
        Composition of groups (group, cell); patients in the groups of the test between levels (null, group), and of that
        between groups of them if there is one (null, group); of both degrees of freedom (null, 2), critical values (null, 2).
    """
    compared = dict.fromkeys((null.covariate, tuple(levels)) for null in nulls for levels in _sides(null))
    places, shares, end = {}, [], 0
    for covariate, sets in compared:
        share, n = _composition(design, covariate, sets)
        places[covariate, sets] = (slice(end, end + len(n)), n)
        shares.append(share)
        end += len(n)
    sizes, df, critical = np.zeros((2, len(nulls), end)), np.zeros((len(nulls), 2)), np.ones((len(nulls), 2))
    for i, null in enumerate(nulls):
        for side, levels in enumerate(_sides(null)):
            where, n = places[null.covariate, tuple(levels)]
            sizes[side, i, where], df[i, side] = n, len(n) - 1
            critical[i, side] = chi2.isf(null.alpha, len(n) - 1)
    return np.concatenate(shares), (sizes[0], sizes[1], df, critical)


def _sides(null: Null) -> list[list[tuple[str, ...]]]:
    """The levels of each group that a null's test compares; then those of the test between groups, if there is one."""
    between = [tuple(null.levels[i] for i in group) for group in null.groups]
    return [[(level,) for level in null.levels], *([between] if between else [])]


def _composition(design: Design, covariate: str, sets: Sequence[tuple[str, ...]]) -> tuple[Floats, Floats]:
    parts = [design.groups(covariate, levels) for levels in sets]
    n = np.array([sizes.sum() for _, sizes in parts])
    return np.array([sizes @ share for share, sizes in parts]) / n[:, None], n


def nulls_term(design: Design, nulls: Sequence[Null], weights: Floats) -> Term:
    """Log probability that none of the tests was significant, each times its weight (null,)."""
    having = np.array([design.states_having(null.event, null.grade) for null in nulls], dtype=float)
    share, tests = chi_square_tests(design, nulls)

    def term(p: Floats) -> tuple[float, Floats]:
        values, slopes = not_significant(having @ (p @ share.T), weights, *tests)
        return values.sum(), (having.T @ slopes) @ share

    return term


@compiled
def not_significant(rates, weights, levels, groups, df, critical):  # type: ignore[no-untyped-def]
    """Weighted log probabilities of tests not being significant, (test,), and their slopes in the ``rates`` (test, group).

    Beside weights the inputs are the arrays of `chi_square_tests`. Tests without weight are not looked at.
    """
    value, slope = np.zeros(len(rates)), np.zeros(rates.shape)
    for i in range(len(rates)):
        if weights[i] == 0:
            continue
        whole, by_rates = chi_square_noncentrality(rates[i], levels[i])
        if df[i, 1] == 0:
            logp, by_whole = log_noncentral_chi_square(critical[i, 0], df[i, 0], whole)
        else:
            between, between_by_rates = chi_square_noncentrality(rates[i], groups[i])
            logp, by_whole, by_between = _neither(whole, between, df[i], critical[i])
            for g in range(rates.shape[1]):
                slope[i, g] = weights[i] * by_between * between_by_rates[g]
        value[i] = weights[i] * logp
        for g in range(rates.shape[1]):
            slope[i, g] += weights[i] * by_whole * by_rates[g]
    return value, slope


@compiled
def _neither(whole, between, df, critical):  # type: ignore[no-untyped-def]
    """Log probability that neither of two tests is significant, and its slopes in both noncentralities."""
    terms, slopes = np.empty(SLICES), np.empty((SLICES, 2))
    before, before_slope = -np.inf, 0.0
    for k in range(SLICES):
        end, start = critical[1] * (k + 1) / SLICES, critical[1] * k / SLICES
        below, below_slope = log_noncentral_chi_square(end, df[1], between)
        # The slice's probability, as a difference of distribution functions in logarithms.
        ratio = np.exp(before - below)
        within, by_within = log_noncentral_chi_square(
            max(critical[0] - 0.5 * (start + end), 0.0), df[0] - df[1], max(whole - between, 0.0)
        )
        by_within *= whole > between
        terms[k] = below + np.log1p(-ratio) + within if ratio < 1 else -np.inf
        slopes[k, 0] = by_within
        slopes[k, 1] = (below_slope - ratio * before_slope) / (1 - ratio) - by_within if ratio < 1 else 0.0
        before, before_slope = below, below_slope
    most = -np.inf
    for k in range(SLICES):
        most = max(most, terms[k])
    total = by_whole = by_between = 0.0
    for k in range(SLICES):
        share = np.exp(terms[k] - most)
        total += share
        by_whole += share * slopes[k, 0]
        by_between += share * slopes[k, 1]
    return most + np.log(total), by_whole / total, by_between / total


@compiled
def chi_square_noncentrality(rates, n):  # type: ignore[no-untyped-def]
    """Noncentrality of a chi-square test between groups of n patients and these true rates, and its slopes in the rates."""
    pooled = (n * rates).sum() / n.sum()
    variance = pooled * (1 - pooled)
    value = (n * (rates - pooled) ** 2).sum() / variance
    return value, n * (2 * (rates - pooled) - value * (1 - 2 * pooled) / n.sum()) / variance


@compiled
def log_noncentral_chi_square(x, df, noncentrality):  # type: ignore[no-untyped-def]
    """Log distribution function of a noncentral chi-square, by Sankaran's normal approximation (1963), and its slope.

    Within 0.005 of it at the 5 % point for 1 to 5 degrees of freedom; smooth in the noncentrality, in which the slope is.
    """
    # Each quantity with its derivative in the noncentrality, named d_.
    mean, a, b = df + noncentrality, df + 2 * noncentrality, df + 3 * noncentrality
    h, d_h = 1 - 2 * mean * b / (3 * a**2), -2 / 3 * ((b + 3 * mean) / a**2 - 4 * mean * b / a**3)
    p, d_p = a / mean**2, 2 / mean**2 - 2 * a / mean**3
    m, d_m = (h - 1) * (1 - 3 * h), d_h * (4 - 6 * h)
    mp, d_mp = m * p, d_m * p + m * d_p
    q, d_q = h - 1 - 0.5 * (2 - h) * mp, d_h + 0.5 * d_h * mp - 0.5 * (2 - h) * d_mp
    power = (x / mean) ** h
    d_power = power * (d_h * np.log(x / mean) - h / mean) if x > 0 else 0.0
    over, d_over = power - 1 - h * p * q, d_power - d_h * p * q - h * (d_p * q + p * d_q)
    root = math.sqrt(2 * p)
    under = h * root * (1 + 0.5 * mp)
    d_under = d_h * under / h + d_p * under / (2 * p) + 0.5 * h * root * d_mp
    z = over / under
    logp = normal_log_cdf(z)
    return logp, np.exp(-0.5 * z * z - LOG_ROOT_2_PI - logp) * (d_over - z * d_under) / under


def null_weights(design: Design, nulls: Sequence[Null], margins: Sequence[FamilyMargins]) -> Floats:
    """What each null counts, 1 or less: its event's overlap with those of the other nulls of its covariate, (null,)."""
    states = reference_states(margins)
    having = np.array([design.states_having(null.event, null.grade) for null in nulls], dtype=float)
    weights = np.ones(len(nulls))
    for covariate in {null.covariate for null in nulls}:
        mine = [i for i, null in enumerate(nulls) if null.covariate == covariate]
        weights[mine] = 1 / np.sqrt((_correlation(design, nulls, mine, having, states) ** 2).sum(axis=1))
    return weights


def _correlation(design: Design, nulls: Sequence[Null], mine: Sequence[int], having: Floats, states: Floats) -> Floats:
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
