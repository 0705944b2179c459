"""The likelihoods of what a publication says in words, against simulated patients."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from scipy.stats import chi2, ncx2, norm

from aemodel.inference.design import all_margins, make_design
from aemodel.inference.evidence import Significance, choose_evidence, make_region, ordering_term
from aemodel.inference.forward import make_model_forward
from aemodel.inference.selection import (
    log_noncentral_chi_square,
    not_significant,
    null_weights,
    nulls_term,
)
from aemodel.publication.evidence import Ordering
from tests.reference import chi_square_statistics, difference_quotient, in_order, simulate_groups

pytestmark = pytest.mark.xdist_group("evidence")

UNCOMPILED = "FAST_COMPILE"
SIMULATIONS = 8000
KINDS = [
    ("any_ae", "sex"),
    ("any_ae", "race_ethnicity"),
    ("gi_toxicity", "age_band"),
    ("gi_toxicity", "relapse_group"),
    ("gi_toxicity", "race_ethnicity"),
    ("hyperglycemia", "sex"),
    ("hyperglycemia", "relapse_group"),
    ("hyperglycemia", "race_ethnicity"),
]
"""Families, by their root, and covariates whose nulls are tested together."""


@pytest.fixture(scope="session")
def design(aall1331):
    return make_design(aall1331)


# Tests that were not significant.


@pytest.fixture(scope="session")
def nulls(aall1331, design):
    """The shipped publication's nulls by family and covariate."""
    roots = [family.root for family in design.families]
    return {
        (root, covariate): tuple(
            null for null in aall1331.nulls if roots[design.family_of(null.event)] == root and null.covariate == covariate
        )
        for root, covariate in KINDS
    }


@pytest.fixture(scope="session")
def null_probabilities(aall1331, design, nulls, shipped_states):
    """For each kind: log probabilities (draw, null) of each and (draw,) of all, as computed and as simulated."""
    margins = all_margins(design, aall1331.frequencies)
    rng = np.random.default_rng(1)
    found = {}
    for kind, some in nulls.items():
        together = nulls_term(design, some, null_weights(design, some, margins))
        each = [nulls_term(design, some, alone) for alone in np.eye(len(some))]
        computed = [([term(p)[0] for term in each], together(p)[0]) for p in shipped_states]
        simulated = [simulate_nulls(design, some, states, rng) for states in shipped_states]
        found[kind] = [np.array([one[i] for one in values]) for values in (computed, simulated) for i in (0, 1)]
    return found


def simulate_nulls(design, nulls, p, rng):
    """Log probabilities of each null (null,), and of all together, from simulated patients."""
    share, n = design.groups(nulls[0].covariate, nulls[0].levels)
    family = design.families[design.family_of(nulls[0].event)]
    first = sum(len(f.grades) for f in design.families[: design.family_of(nulls[0].event)])
    mine = share @ p[first : first + len(family.grades)].T
    having = np.array([family.having(null.event, null.grade) for null in nulls], dtype=float)
    patients = simulate_groups(rng, n, mine / mine.sum(axis=1, keepdims=True), SIMULATIONS)
    counts = patients @ having.T
    below = chi_square_statistics(counts, n) <= chi2.isf(nulls[0].alpha, len(n) - 1)
    if groups := nulls[0].groups:
        merged = np.stack([counts[:, list(group)].sum(axis=1) for group in groups], axis=1)
        sizes = np.array([n[list(group)].sum() for group in groups])
        below &= chi_square_statistics(merged, sizes) <= chi2.isf(nulls[0].alpha, len(groups) - 1)
    least = 0.5 / SIMULATIONS
    return np.log(np.maximum(below.mean(axis=0), least)), np.log(max(below.all(axis=1).mean(), least))


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5])
def test_noncentral_chi_square_is_near_the_exact_one(df):
    """Within 0.005 at the 5 % point; falls as the noncentrality grows, and stays finite."""
    x = float(chi2.isf(0.05, df))
    near = np.linspace(0, 60, 601)
    logp = np.array([log_noncentral_chi_square(x, df, at)[0] for at in near])
    np.testing.assert_allclose(np.exp(logp), ncx2.cdf(x, df, near), rtol=0, atol=0.005)
    far = np.array([log_noncentral_chi_square(x, df, at)[0] for at in np.logspace(-3, 8, 500)])
    assert np.isfinite(far).all()
    assert (np.diff(far) < 0).all()


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("inside", [0.0, 2.0])
def test_two_tests_neither_significant_are_near_normal_contrasts(shift, inside):
    """Between two groups of two levels each, and between all four: within 0.01 of 400,000 simulated contrasts."""
    n, rate = np.array([200.0, 300.0, 100.0, 150.0]), 0.3
    groups = ((0, 1), (2, 3))
    sizes = np.array([n[list(group)].sum() for group in groups])
    # Rates apart by so many standard errors between the groups, and within each of them.
    between = np.array([1, -1]) * np.sqrt(rate * (1 - rate) / sizes) * np.sqrt(sizes[::-1] / sizes.sum()) * shift
    rates = rate + np.repeat(between, 2)
    for group in groups:
        one, other = group
        rates[[one, other]] += np.array([n[other], -n[one]]) / n[[one, other]].sum() * inside * 0.03
    every = np.append(rates, [rates[list(group)] @ n[list(group)] / n[list(group)].sum() for group in groups])
    levels, beside = np.append(n, [0, 0]), np.append(np.zeros(4), sizes)
    df, critical = np.array([[3.0, 1.0]]), chi2.isf(0.05, [[3, 1]])
    (logp,), slope = not_significant(every[None], np.ones(1), levels[None], beside[None], df, critical)

    def value(at):
        return float(not_significant(at[None], np.ones(1), levels[None], beside[None], df, critical)[0][0])

    if inside:  # without a difference within groups their noncentrality is at its least, which rounding must not pass
        np.testing.assert_allclose(slope[0], difference_quotient(value, every), rtol=1e-5, atol=1e-6)
    pooled = n @ rates / n.sum()
    rng = np.random.default_rng(1)
    sample = rates + rng.standard_normal((400_000, 4)) * np.sqrt(pooled * (1 - pooled) / n)
    merged = np.stack([sample[:, list(g)] @ n[list(g)] / n[list(g)].sum() for g in groups], axis=1)
    variance = pooled * (1 - pooled)
    statistic = [(((x - (x @ m / m.sum())[:, None]) ** 2) @ m) / variance for x, m in ((sample, n), (merged, sizes))]
    neither = (statistic[0] <= chi2.isf(0.05, 3)) & (statistic[1] <= chi2.isf(0.05, 1))
    assert np.exp(logp) == pytest.approx(neither.mean(), abs=0.01)


def test_without_differences_one_test_in_twenty_is_significant(design, nulls):
    """Where all patients have the same risks, whatever these are; two tests beside each other are seldomer both silent."""
    rng = np.random.default_rng(1)
    states = np.concatenate([rng.dirichlet(np.ones(len(family.grades))) for family in design.families])
    p = np.tile(states[:, None], len(design.cells.n))
    for some in nulls.values():
        for null in some:
            silent = np.exp(nulls_term(design, [null], np.ones(1))(p)[0])
            assert silent == pytest.approx(1 - null.alpha, abs=0.005) if not null.groups else 0.9 < silent < 0.945


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_nulls_are_near_simulation(null_probabilities, kind):
    """Alone: root mean square error of the probability below 0.06, Monte Carlo error included (0.006).

    A normal approximation: a few per cent where groups expect over ten events, up to 0.2 where they expect one. Together:
    standard deviation of the error over draws below 0.7 nats; a constant error would not matter.
    """
    computed, _, simulated, _ = null_probabilities[kind]
    error = np.exp(computed) - np.exp(simulated)
    assert np.sqrt((error**2).mean()) < 0.06
    assert abs(error).max() < (0.1 if kind == KINDS[0] else 0.25)
    weighted, plain, together = joint_errors(null_probabilities[kind])
    assert len(together) >= 20
    assert weighted.std() < min(0.7, 0.6 * together.std())
    if kind in KINDS[:2]:  # nested events see the same patients: unweighted, the product counts them several times
        assert weighted.std() < 0.7 * plain.std()
        assert abs(weighted.mean()) < abs(plain.mean())


def joint_errors(found):
    """Errors of the weighted and of the plain sum of logs, and the simulated log probability: where it is over -5."""
    computed, weighted, _, simulated = found
    told = simulated > -5
    return (weighted - simulated)[told], (computed.sum(axis=1) - simulated)[told], simulated[told]


def test_weights_are_those_of_the_events_correlation(aall1331, design):
    """Two nested events of cohort rates a < b are correlated by sqrt(a (1 - b) / (b (1 - a))); of others none are."""
    margins = all_margins(design, aall1331.frequencies)
    both = [null for null in aall1331.nulls if (null.event, null.covariate) == ("hyperglycemia", "sex")]
    outer, inner = 110 / 661, 21 / 661
    squared = inner * (1 - outer) / (outer * (1 - inner))
    assert null_weights(design, both, margins) == pytest.approx([(1 + squared) ** -0.5] * 2, rel=1e-6)
    assert null_weights(design, both[:1], margins) == pytest.approx([1.0])
    some = [null for null in aall1331.nulls if null.event in ("sepsis", "hyperglycemia") and null.grade == "3-5"]
    assert {(null.event, null.covariate) for null in some} >= {("sepsis", "sex"), ("hyperglycemia", "sex")}
    np.testing.assert_allclose(null_weights(design, some, margins), 1)


def test_gradient_of_nulls_is_a_difference_quotient(aall1331, design, nulls, shipped_states):
    some = nulls["any_ae", "race_ethnicity"]
    function = nulls_term(design, some, null_weights(design, some, all_margins(design, aall1331.frequencies)))
    at = shipped_states[-1]
    direction = np.random.default_rng(4).normal(size=at.shape) * at
    along = difference_quotient(lambda t: float(function(at + t[0] * direction)[0]), [0.0], 1e-4)
    assert (function(at)[1] * direction).sum() == pytest.approx(along[0], rel=1e-5)


# Orderings.


@pytest.fixture(scope="session")
def ordering(aall1331):
    ((item, rates),) = choose_evidence(aall1331, "both", False).orderings
    return item, rates


@pytest.fixture(scope="session")
def ordering_functions(design, ordering):
    """Log probability and gradient by the tests that were significant, of state probabilities (state, cell)."""
    return {significance: ordering_term(design, *ordering, significance) for significance in get_args(Significance)}


@pytest.fixture(scope="session")
def ordering_cases(shipped, design, ordering_functions):
    """State probabilities at the first 20 draws that make the ordering, with two significant tests, no rarer than e^-6."""
    forward, draws, seed = make_model_forward(shipped)
    found = []
    for p in forward.states(draws, seed):
        p = p[:, : len(design.cells.n)]
        if ordering_functions["both"](p)[0] > -6:
            found.append(p)
        if len(found) == 20:
            return found
    raise AssertionError("too few draws that make the ordering likely")


@pytest.fixture(scope="session")
def ordering_errors(design, ordering, ordering_functions, ordering_cases):
    """Computed less simulated log probability: (draw, significance)."""
    rng = np.random.default_rng(2)
    computed = [[float(function(p)[0]) for function in ordering_functions.values()] for p in ordering_cases]
    simulated = [simulate_ordering(design, ordering[0], p, rng) for p in ordering_cases]
    return np.array(computed) - np.log(np.array(simulated))


def simulate_ordering(design, item, p, rng, simulations=100_000):
    """How often simulated patients come in the order, with both, either or no matter which tests significant."""
    share, n = design.groups(item.covariate, item.groups, item.within)
    milder, severe = (share @ p[design.states_having(item.event, grade)].sum(axis=0) for grade in ("3-5", "4-5"))
    patients = simulate_groups(rng, n, np.stack([1 - milder, milder - severe, severe], axis=1), simulations)
    events = np.stack([patients[..., 1:].sum(axis=-1), patients[..., 2]], axis=-1)
    tiers = [[[item.groups.index(name) for name in tier] for tier in rows] for rows in item.tiers.values()]
    inside = in_order(events[..., 0] / n, tiers[0]) & in_order(events[..., 1] / n, tiers[1])
    significant = chi_square_statistics(events, n) > chi2.isf(item.alpha, len(n) - 1)
    return [(inside & some).mean() for some in (significant.all(axis=1), significant.any(axis=1), True)]


@pytest.mark.slow
@pytest.mark.parametrize(("place", "significance"), list(enumerate(get_args(Significance))))
def test_ordering_is_near_simulation(ordering_errors, place, significance):
    """Standard deviation of the error below 0.4 nats, 20 draws, 100,000 simulations each (Monte Carlo error 0.06 at e^-6)."""
    error = ordering_errors[:, place]
    assert error.std() < 0.4, significance
    assert abs(error.mean()) < 0.25, significance
    assert np.median(abs(error)) < 0.2, significance


@pytest.mark.parametrize("significance", get_args(Significance))
def test_gradient_of_ordering_is_a_difference_quotient(ordering_functions, ordering_cases, significance):
    function, p = ordering_functions[significance], ordering_cases[0]
    rng = np.random.default_rng(3)
    for _ in range(5):
        direction = rng.normal(size=p.shape) * p
        along = difference_quotient(lambda t, d=direction: float(function(p + t[0] * d)[0]), [0.0], 1e-3)
        assert (function(p)[1] * direction).sum() == pytest.approx(along[0], rel=1e-5)


def test_ordering_is_likelier_the_fewer_tests_are_significant(ordering_functions, ordering_cases):
    """But for the error of the points, which are others for each: 0.15 nats (sd) in either, the largest of 40 differences."""
    gaps = []
    for p in ordering_cases:
        both, either, order = (float(ordering_functions[name](p)[0]) for name in ("both", "either", "order"))
        assert both < either + 0.5
        assert either < order + 0.5
        assert order < 0
        gaps.append((either - both, order - either))
    assert np.min(np.max(gaps, axis=0)) > 0.5


@pytest.mark.parametrize("significance", get_args(Significance))
def test_ordering_grows_likelier_toward_the_order(design, ordering, ordering_functions, significance):
    """From equal risks of all groups to those that the order says, and the other way."""
    toward = {"hispanic": (0.12, 0.12), "nh_asian": (0.12, 0.0), "nh_white": (-0.06, -0.06), "nh_black": (-0.06, -0.06)}
    found = []
    for part in np.linspace(-1, 1, 21):
        rates = {name: (0.7 + part * milder, 0.25 + part * severe) for name, (milder, severe) in toward.items()}
        found.append(float(ordering_functions[significance](states_of(design, ordering[0], rates))[0]))
    assert (np.diff(found) > 0).all()
    assert found[-1] - found[10] > 2


def states_of(design, item, rates):
    """State probabilities (state, cell) with the event's rates (grade 3-5, grade 4-5) in each level, others empty."""
    severe = design.states_having(item.event, "4-5")
    milder = design.states_having(item.event, "3-5") & ~severe
    p = np.zeros((len(severe), len(design.cells.n)))
    for level, (both, worst) in rates.items():
        inside = design.cells.having(item.covariate, level)
        p[np.flatnonzero(milder)[0], inside] = both - worst
        p[np.flatnonzero(severe)[0], inside] = worst
    return p


@pytest.mark.parametrize("significance", get_args(Significance))
def test_ordering_is_finite_at_absurd_risks(design, ordering, ordering_functions, significance):
    for white, others in [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0)]:
        rates = {name: (white, white) if name == "nh_white" else (others, others) for name in ordering[0].groups}
        value, gradient = ordering_functions[significance](states_of(design, ordering[0], rates))
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_ordering_of_two_groups_is_a_normal_probability(invented):
    """One grade and no test: the probability that one of two independent normal sample rates is above the other."""
    design = make_design(invented)
    item = Ordering("any_toxicity", "arm", {"3-5": (("high",), ("low",))}, None, None, "")
    rate = np.array([0.4])
    _, n = design.groups("arm", ("high", "low"))
    logp = ordering_term(design, item, rate, "order")
    for difference in (-0.3, -0.1, 0.0, 0.05, 0.2):
        rates = {"high": (0.4 + difference / 2, 0.1), "low": (0.4 - difference / 2, 0.1)}
        expected = norm.logcdf(difference / np.sqrt(0.4 * 0.6 * (1 / n).sum()))
        assert logp(states_of(design, item, rates))[0] == pytest.approx(expected, abs=0.02)


def test_too_fine_tiers_are_refused(design):
    names = design.cells.covariates[3].names
    tiers = {"3-5": tuple((name,) for name in names), "4-5": tuple((name,) for name in names[::-1])}
    item = Ordering("any_ae", "race_ethnicity", tiers, None, 0.001, "")
    _, n = design.groups("race_ethnicity", names)
    with pytest.raises(ValueError, match="publication.toml, orderings: the tiers of any_ae by race_ethnicity are too fine"):
        make_region(item, n, np.array([0.7, 0.3]), "both")
