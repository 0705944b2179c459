"""The saddlepoint's next term: the textbook's for one count, near the true error of small tables, large where it must be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from aemodel.inference.approximation import approximation_range, next_term
from aemodel.inference.design import all_margins, make_design
from aemodel.inference.intervals import pack, statements_of
from aemodel.inference.likelihood import margin_loglik, margins_term
from aemodel.publication.margins import reduce_margins
from tests.reference import enumerate_margin_logprob

ROW, COLUMN = np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)
CROSSED = np.stack([np.stack([np.zeros(9), of == k], axis=1) for of in (ROW, COLUMN) for k in range(3)], axis=2)
"""Nine cells, (none, event), and the margins of rows and columns: (cell, state, margin)."""


def terms(p, n, incidence, low, high=None):
    """Next terms (draw,) of probabilities (draw, cell, state), and the true errors of the log likelihood."""
    low = np.array(low, float)
    high = low if high is None else np.array(high, float)
    margins = reduce_margins(np.array(n, float), incidence, low, [str(j) for j in range(len(low))], high=high)
    assert margins.support.all()
    found = np.array([next_term(np.log(q).ravel(), statements_of([margins])) for q in p])
    errors = enumerate_margin_logprob(p, n, incidence, low, high) - [margin_loglik(q, n, incidence, low, high) for q in p]
    return found, errors


def draws(spread, cells, seed=1, centre=-0.7, size=8):
    eta = centre + np.random.default_rng(seed).normal(0, spread, (size, cells))
    return np.stack([1 / (1 + np.exp(eta)), 1 / (1 + np.exp(-eta))], axis=2)


def test_one_count_has_the_textbooks_term():
    # A binomial's tilted distribution has the observed rate, whatever p.
    n, y = 20, 6
    q = y / n
    variance = n * q * (1 - q)
    skewness, excess = (1 - 2 * q) / np.sqrt(variance), (1 - 6 * q * (1 - q)) / variance
    found, errors = terms(draws(1, 1), [n], np.array([[[0.0], [1.0]]]), [y])
    assert found == pytest.approx(excess / 8 - 5 * skewness**2 / 24)
    assert errors == pytest.approx(found, abs=1e-3)


def test_interval_in_the_saddlepoint_is_one_more_variable():
    n, low, high, p = 100_000, 29_950, 30_049, 0.301
    margins = reduce_margins(
        np.array([n], float), np.array([[[0.0], [1.0]]]), np.array([float(low)]), ["y"], high=np.array([float(high)])
    )
    assert pack([margins]).width.tolist() == [100]
    u = np.arange(100)

    def tilted(t):
        weight = np.exp(u * t - (u * t).max())
        return p * np.exp(t) / (1 - p + p * np.exp(t)), weight / weight.sum()

    def gap(t):
        q, weight = tilted(t)
        return n * q + weight @ u - high

    q, weight = tilted(brentq(gap, -1, 1, xtol=1e-14))
    about = u - weight @ u
    second = n * q * (1 - q) + weight @ about**2
    third = n * q * (1 - q) * (1 - 2 * q) + weight @ about**3
    fourth = n * q * (1 - q) * (1 - 6 * q * (1 - q)) + weight @ about**4 - 3 * (weight @ about**2) ** 2
    expected = fourth / second**2 / 8 - 5 * third**2 / second**3 / 24
    assert next_term(np.log([1 - p, p]), statements_of([margins])) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_range_is_near_that_of_the_true_error_of_overlapping_margins(seed):
    counts = [5, 4, 6, 5, 4, 6]
    found, errors = terms(draws(0.5, 9, seed), [5] * 9, CROSSED, counts)
    assert np.ptp(found) == pytest.approx(np.ptp(errors), rel=1 / 3)
    assert np.ptp(errors - found) < np.ptp(errors) / 3


def test_sums_over_intervals_have_the_term_of_their_points():
    n, incidence = [30, 25, 40, 28], np.zeros((4, 2, 4))
    for j, cells in enumerate([(0, 1), (2, 3), (0, 2), (1, 3)]):
        incidence[list(cells), 1, j] = 1
    found, errors = terms(draws(0.6, 4), n, incidence, [20, 24, 24, 20], [20, 25, 25, 20])
    assert 0 < np.ptp(errors - found) < np.ptp(errors) / 3


def test_range_is_large_where_counts_are_tiny_and_rates_extreme():
    found, errors = terms(draws(4, 9, centre=-3), [2] * 9, CROSSED, np.ones(6))
    assert np.ptp(errors) > 0.3
    assert np.ptp(found) > 0.5


def test_shipped_model_has_a_likelihood_to_a_few_hundredths_of_a_nat(shipped):
    design = make_design(shipped.tables)
    margins = all_margins(design, shipped.tables.frequencies)
    assert 0.001 < approximation_range(design, margins_term(design, margins), shipped.posterior) < 0.03
