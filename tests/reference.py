"""Slow exact twins of the fast routines: enumeration, loops and textbook formulas, with nothing of the package in them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from functools import partial
from itertools import pairwise, product
from math import factorial, inf, prod

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom, hypergeom


def enumerate_margin_logprob(p, n, incidence, counts, high=None):
    """Exact log probability of margins: the margins' distribution, convolved over cells.

    ``p`` (..., cell, state) may have leading dimensions (parameter draws), enumerated together; ``n`` (cell,) whole
    numbers; ``incidence`` (cell, state, margin) of 0/1; ``counts`` (margin,), or with ``high`` (margin,) the ends of
    intervals that hold them. Returns (...,); minus infinity where the margins are impossible.
    """
    p, incidence = np.asarray(p, float), np.asarray(incidence, int)
    n, least = [int(size) for size in n], tuple(int(count) for count in counts)
    wanted = least if high is None else tuple(int(count) for count in high)
    most = np.array([size * incidence[c].max(axis=0) for c, size in enumerate(n)]).reshape(len(n), len(wanted))
    # What the cells still to come can add at most: sums that cannot reach the counts any more are left out.
    to_come = np.cumsum(most[::-1], axis=0)[::-1] - most
    sums = {(0,) * len(wanted): np.ones(p.shape[:-2])}
    for c, size in enumerate(n):
        cell = _cell_distribution(p[..., c, :], size, incidence[c])
        following: dict[tuple[int, ...], np.ndarray] = {}
        for before, probability in sums.items():
            for added, more in cell.items():
                now = tuple(b + a for b, a in zip(before, added, strict=True))
                if all(w - r <= x <= h for x, w, h, r in zip(now, least, wanted, to_come[c], strict=True)):
                    following[now] = following.get(now, 0.0) + probability * more
        sums = following
    with np.errstate(divide="ignore"):
        return np.log(sum(sums.values(), np.zeros(p.shape[:-2])))


def _cell_distribution(p, size: int, incidence) -> dict[tuple[int, ...], np.ndarray]:
    """Probability of each vector of margins that one cell's patients can add."""
    found: dict[tuple[int, ...], np.ndarray] = {}
    for x in compositions(size, p.shape[-1]):
        ways = factorial(size) // prod(factorial(k) for k in x)
        added = tuple((np.array(x) @ incidence).tolist())
        found[added] = found.get(added, 0.0) + ways * np.prod(p ** np.array(x), axis=-1)
    return found


def compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to split ``total`` patients over ``parts`` states."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in compositions(total - first, parts - 1):
            yield (first, *rest)


def enumerate_bounds(patients, shape, known, inside, having):
    """Least and greatest fraction of those inside who have an event, over all tables of whole patients.

    Tables are (cell, state) of ``shape``, with whatever is ``known``: cells, states and the least and most patients in both.
    ``inside`` are cells, ``having`` states. Tables with nobody inside have no fraction.
    """
    place = list(product(range(shape[0]), range(shape[1])))
    tables = np.array(list(compositions(patients, len(place))))
    for cells, states, low, high in known:
        counted = tables[:, [c in cells and s in states for c, s in place]].sum(axis=1)
        tables = tables[(counted >= low) & (counted <= high)]
    all_inside = tables[:, [c in inside for c, _ in place]].sum(axis=1)
    with_event = tables[:, [c in inside and s in having for c, s in place]].sum(axis=1)
    fractions = with_event[all_inside > 0] / all_inside[all_inside > 0]
    return fractions.min(), fractions.max()


def additive_logit_loglik(eta, n, x):
    """Log likelihood, up to a constant, of a logit that is additive in covariates whose margins are all published.

    The margins are then sufficient, so ``x`` (cell,) may be any table that has them. ``eta`` (cell,) log odds.
    """
    eta, n, x = (np.asarray(values, float) for values in (eta, n, x))
    return float(np.sum(x * eta - n * np.logaddexp(0.0, eta)))


def state_log_probabilities(logits, taken, refused):
    """Log probabilities of states (..., state) from branch logits (..., branch) and 0/1 paths (state, branch)."""
    return -np.logaddexp(0.0, -logits) @ taken.T - np.logaddexp(0.0, logits) @ refused.T


def logits_at_levels(log_odds, moved, share, taken, refused, order):
    """Branch logits (branch, cell) with levels by bisection, one branch after another, at which the cohort has ``log_odds``.

    What is reached does not depend on branches that come later: their logits may be anything.
    """
    logits = np.zeros_like(moved)
    for b in order:
        p = np.exp(state_log_probabilities(logits.T, taken, refused)).T
        weight = share * p[(taken + refused)[:, b] > 0].sum(axis=0)
        short = partial(_short, moved[b], weight, expit(log_odds[b]))
        logits[b] = moved[b] + brentq(short, -100, 100, xtol=1e-13)
    return logits


def _short(moved, weight, rate, level):
    """By how much a level takes a branch too often."""
    return weight @ (expit(level + moved) - rate)


def predictive_summary(rates, n: int, observed: int):
    """Quantiles at 25, 75, 5 and 95 % and two-sided mid-P of a binomial count mixed over rates, from binomial tails."""
    cumulative = np.array([binom.cdf(k, n, rates).mean() for k in range(n + 1)])
    quantiles = [int(np.argmax(cumulative >= q)) for q in (0.25, 0.75, 0.05, 0.95)]
    at = binom.pmf(observed, n, rates).mean()
    return *quantiles, min(1.0, 2 * min(cumulative[observed], binom.sf(observed - 1, n, rates).mean()) - at)


def shifted_chain(probabilities, u):
    """Probabilities of nested sets, one in the other, whose log odds have all moved by u: one at a time."""
    return [p * np.exp(u) / (1 - p + p * np.exp(u)) for p in probabilities]


def fisher_exact(with_event, patients) -> float:
    """Two-sided P of Fisher's exact test of an (r, 2) table: all tables no more probable than the one seen."""
    patients, total = [int(k) for k in patients], int(sum(with_event))
    tables = (x for x in product(*(range(min(size, total) + 1) for size in patients)) if sum(x) == total)
    probability = {x: _table_probability(x, patients) for x in tables}
    seen = probability[tuple(int(k) for k in with_event)]
    return float(sum(value for value in probability.values() if value <= seen * (1 + 1e-9)))


def _table_probability(x, patients) -> float:
    """Probability of events per group given their total: successive hypergeometric draws."""
    value, left, events = 1.0, sum(patients), sum(x)
    for k, size in zip(x, patients, strict=True):
        value *= hypergeom.pmf(k, left, events, size)
        left, events = left - size, events - k
    return value


def difference_quotient(function, at, step: float = 1e-3):
    """Gradient of a scalar function by five-point central differences, one coordinate at a time."""
    at = np.asarray(at, float)
    gradient = np.zeros(at.size)
    for i in range(at.size):
        unit = np.zeros(at.size)
        unit[i] = step
        near = function(at + unit.reshape(at.shape)) - function(at - unit.reshape(at.shape))
        far = function(at + 2 * unit.reshape(at.shape)) - function(at - 2 * unit.reshape(at.shape))
        gradient[i] = (8 * near - far) / (12 * step)
    return gradient.reshape(at.shape)


def simulate_groups(rng, n, p, size: int):
    """Patients by state in each group, (simulation, group, state): ``n`` (group,) patients, ``p`` (group, state)."""
    return np.stack([rng.multinomial(round(float(k)), row, size=size) for k, row in zip(n, p, strict=True)], axis=1)


def chi_square_statistics(with_event, n):
    """Pearson's chi-square between groups, (..., test), of ``with_event`` (..., group, test) among ``n`` (group,).

    Zero where nobody, or everybody, has the event.
    """
    n = np.asarray(n, float)[:, None]
    pooled = with_event.sum(axis=-2) / n.sum()
    spread = ((with_event / n - pooled[..., None, :]) ** 2 * n).sum(axis=-2)
    return spread / np.where((pooled > 0) & (pooled < 1), pooled * (1 - pooled), 1.0)


def in_order(rates, tiers):
    """Which sample rates, (simulation, group), have every group of a tier above every group of the next, by loops."""
    found = np.ones(len(rates), dtype=bool)
    for higher, lower in pairwise(tiers):
        for a, b in product(higher, lower):
            found &= rates[:, a] > rates[:, b]
    return found


def patients_loglik(rows, cells, n, families, p) -> float:
    """Log likelihood of patients' rows, one after another, families each by itself.

    ``rows`` are mappings from covariate to level and from event to worst grade, None where it is not known; ``cells`` are
    mappings from covariate to level, with ``n`` (cell,) patients in the cohort; ``families`` are events' names with grades
    (state, event); ``p`` are the families' state probabilities, (state, cell).
    """
    total = 0.0
    for row in rows:
        here = [c for c, cell in enumerate(cells) if all(row[k] in (None, level) for k, level in cell.items())]
        for (events, grades), states in zip(families, p, strict=True):
            known = [(k, row[name]) for k, name in enumerate(events) if row[name] is not None]
            possible = [s for s in range(len(grades)) if all(grades[s][k] == (0 if g < 3 else g) for k, g in known)]
            probability = sum(n[c] * sum(states[s][c] for s in possible) for c in here) / sum(n[c] for c in here)
            total += float(np.log(probability))
    return total


def levels_left(row, covariate) -> list[str]:
    """Levels a patient can have of a covariate, a table of a publication, whose ``row`` has values by column.

    A missing value leaves all, a text that is none of an open covariate's levels the level "(new)", contradictions none.
    Numbers may be texts, written with ASCII digits.
    """
    raw = {
        column: [level["when"][column] for level in covariate["levels"]] for column in covariate["levels"][0].get("when", {})
    }
    tests = {covariate["name"]: [level["name"] for level in covariate["levels"]]} if covariate["name"] in row else {}
    tests |= raw if set(raw) <= set(row) else {}
    left = [level["name"] for level in covariate["levels"]]
    for column, wanted in tests.items():
        value = row[column]
        if is_none(value):
            continue
        if isinstance(wanted[0], str) and value not in wanted and covariate.get("open"):
            return ["(new)"]
        fits = [value == test if isinstance(test, str) else in_range(value, test) for test in wanted]
        left = [level["name"] for level, fit in zip(covariate["levels"], fits, strict=True) if fit and level["name"] in left]
    return left


def is_exceeded(row, column, by, times, plus, allowed) -> bool:
    """Whether a number is above so many times another one, which is in the range ``allowed``, and a number."""
    if not {column, by} <= set(row) or not in_range(row[by], allowed) or not in_range(row[column], {}):
        return False
    return float(row[column]) > times * float(row[by]) + plus


def is_none(value) -> bool:
    return value is None or (isinstance(value, (float, Decimal)) and value != value)


def in_range(value, test) -> bool:
    """Whether a value is a number, or the text of one, in a range."""
    if isinstance(value, str):
        text = value.strip(" \t\r\n")
        digits = text.lstrip("+-").lower().partition("e")[0].partition(".")[0]
        if not text.isascii() or "_" in text or not any(c.isdigit() for c in text) or len(digits) > 30:
            return False
        try:
            value = float(text)
        except ValueError:
            return False
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, Fraction)):
        return False
    return test.get("min", -inf) <= value < test.get("below", inf) and -inf < value < inf


def mean_and_quantiles(sets, levels, weight, draws, covariates, tails):
    """Posterior mean and quantiles (event, grade) of a patient with these levels left, as a random one of the cohort.

    ``sets`` hold names of levels by covariate, ``levels`` (cell, covariate) positions, "(new)" the last; ``draws`` (draw,
    cell, event, grade).
    """
    total, sums = 0.0, np.zeros((len(draws), *draws.shape[2:]))
    for cell, places in enumerate(levels):
        names = [([level["name"] for level in c["levels"]] + ["(new)"])[k] for c, k in zip(covariates, places, strict=True)]
        if all(name in left for name, left in zip(names, sets, strict=True)):
            total += weight[cell]
            sums += weight[cell] * draws[:, cell].astype(float)
    return (sums / total).mean(axis=0), *np.quantile(sums / total, tails, axis=0)


def standardised(risks, fixed):
    """Risks (draw, event, grade) of the cohort were everybody at the ``fixed`` levels, by covariate: each one keeps all else.

    A cell beyond the published levels of a covariate is of a new level, and nobody's.
    """
    sizes, draws = [len(c.levels) for c in risks.covariates], risks.draws
    place = {tuple(cell): i for i, cell in enumerate(risks.levels.tolist())}
    total, found = 0.0, 0.0
    for cell, patients in zip(risks.levels.tolist(), risks.weight, strict=True):
        if all(level < size for level, size in zip(cell, sizes, strict=True)):
            there = tuple(fixed.get(k, level) for k, level in enumerate(cell))
            found, total = found + patients * draws[:, place[there]].astype(float), total + patients
    return found / total
