"""The saddlepoint likelihood against enumeration, identities and finite differences.

The approximation is off by a constant, which no inference sees; what counts is how far its difference from the exact log
probability spreads over parameter draws: largest less smallest of 24 draws, unless a test says otherwise.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from aemodel.inference.effects import state_probabilities
from aemodel.inference.intervals import pack
from aemodel.inference.likelihood import margin_loglik
from aemodel.inference.saddlepoint import joint_loglik
from aemodel.publication.reduction import reduce_margins
from tests.reference import additive_logit_loglik, difference_quotient, enumerate_margin_logprob

DRAWS = 24
PLAUSIBLE, WIDE = (0.3, 0.5), 1.0
"""Standard deviations of a cell's logits about those that nearly fit the margins: a posterior's, and a much wider one."""

SINGLE = {
    "rows": 3,
    "table": [[3, 1], [3, 3], [3, 2], [2, 1], [3, 2], [3, 3], [2, 1], [3, 1], [3, 1], [3, 2], [2, 1], [3, 3]],
    "margins": {"row": [[1]], "column": [[1]]},
}
"""One event: 3 x 4 cells of (none, event), 54 patients, 21 events; every row and column margin."""

NESTED_MARGINS = {"row": [[1], [2, 3], [3]], "column": [[1], [2, 3]]}
"""Of (none, grade 3, grade 4-5 only, grade 4-5 with the inner event): grade 3 and 4-5 both ways, the inner event by row."""

SYSTEMS = {"single": SINGLE} | {
    name: {"rows": 3, "table": table, "margins": margins}
    for name, table, margins in [
        (
            "graded",
            [[4, 2, 3], [3, 2, 3], [4, 2, 2], [4, 2, 4], [3, 3, 3], [4, 3, 3]],
            {"row": [[1], [2]], "column": [[1], [2]]},
        ),
        ("nested", [[4, 2, 1, 2], [3, 2, 2, 1], [4, 2, 1, 1], [4, 2, 1, 3], [3, 3, 2, 1], [4, 3, 1, 2]], NESTED_MARGINS),
        ("zero margin", [[5, 7, 0, 0], [4, 6, 0, 0], [5, 3, 2, 1], [6, 2, 1, 3], [4, 3, 2, 2], [5, 3, 2, 1]], NESTED_MARGINS),
        ("everyone", [[0, 8, 2, 2], [0, 6, 2, 2], [5, 3, 2, 1], [6, 2, 1, 3], [4, 3, 2, 2], [5, 3, 2, 1]], NESTED_MARGINS),
        ("equal margins", [[4, 2, 0, 3], [3, 2, 0, 3], [4, 2, 1, 1], [4, 2, 1, 3], [3, 3, 2, 1], [4, 3, 1, 2]], NESTED_MARGINS),
    ]
}


def system(name):
    """Patients (cell,), incidence (cell, state, margin) and counts (margin,) of a table, and where its cells lie."""
    table = np.array(SYSTEMS[name]["table"])
    rows = SYSTEMS[name]["rows"]
    columns = len(table) // rows
    place = {"row": np.repeat(np.arange(rows), columns), "column": np.tile(np.arange(columns), rows)}
    incidence = []
    for by, classes in SYSTEMS[name]["margins"].items():
        for states in classes:
            for level in range(place[by].max() + 1):
                inside = (place[by] == level)[:, None] & np.isin(np.arange(table.shape[1]), states)[None, :]
                incidence.append(inside.astype(float))
    incidence = np.stack(incidence, axis=2)
    return table, incidence, np.einsum("csm,cs->m", incidence, table), place


def system_margins(name):
    table, incidence, counts, _ = system(name)
    return reduce_margins(table.sum(axis=1).astype(float), incidence, counts, [str(j) for j in range(len(counts))])


def parameter_draws(name, spread, draws=DRAWS, seed=5):
    """Probabilities (draw, cell, state) about those of a table without interaction that nearly has the margins."""
    table, _, _, place = system(name)
    rng = np.random.default_rng(seed)
    logits = -np.log(table.sum(axis=0) + 0.25)[None, None, :]
    for level in place.values():
        sums = np.array([table[level == k].sum(axis=0) + 0.25 for k in range(level.max() + 1)])
        shifts = rng.normal(0, 0.6 * spread, (draws, *sums.shape))
        logits = logits + (np.log(sums) + shifts)[:, level]
    logits = logits + rng.normal(0, 0.5 * spread, logits.shape)
    p = np.exp(logits - logits.max(axis=2, keepdims=True))
    return p / p.sum(axis=2, keepdims=True)


@pytest.fixture(scope="module")
def errors():
    """Saddlepoint less exact, (width, draw), of a system; enumerated once for all widths."""
    known = {}

    def of(name):
        if name not in known:
            table, incidence, counts, _ = system(name)
            p = np.stack([parameter_draws(name, spread) for spread in (*PLAUSIBLE, WIDE)])
            exact = enumerate_margin_logprob(p, table.sum(axis=1), incidence, counts)
            approximate = [[margin_loglik(q, table.sum(axis=1), incidence, counts) for q in width] for width in p]
            known[name] = np.array(approximate) - exact
        return known[name]

    return of


@pytest.mark.parametrize("name", SYSTEMS)
def test_spread_against_enumeration_is_below_002(errors, name):
    """At wide parameters, the standard deviation."""
    assert np.ptp(errors(name)[: len(PLAUSIBLE)], axis=1).max() < 0.02
    assert errors(name)[-1].std() < 0.02


def test_enumeration_sums_to_one_over_all_margins():
    p = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    incidence = np.zeros((2, 3, 2))
    incidence[:, 1, 0] = incidence[:, 2, 1] = 1
    total = [enumerate_margin_logprob(p, [3, 2], incidence, [a, b]) for a in range(6) for b in range(6 - a)]
    assert np.isclose(np.exp(total).sum(), 1, atol=1e-12)


def test_everyone_alone_is_exact():
    p, n = np.array([[0.3, 0.7], [0.4, 0.6]]), np.array([5, 7])
    incidence = np.array([[[0], [1]], [[0], [1]]])
    assert margin_loglik(p, n, incidence, [12]) == pytest.approx(5 * np.log(0.7) + 7 * np.log(0.6), abs=1e-12)


def test_cells_without_patients_change_nothing():
    table, incidence, counts, _ = system("nested")
    p, n = parameter_draws("nested", 0.5)[0], table.sum(axis=1)
    more = np.concatenate([incidence, incidence[:1]])
    assert margin_loglik(np.vstack([p, p[:1]]), np.append(n, 0), more, counts) == pytest.approx(
        margin_loglik(p, n, incidence, counts), abs=1e-9
    )


def test_family_without_counts_can_stand_beside_others():
    n, nothing = np.array([5.0]), np.zeros((1, 2, 0))
    uncounted = reduce_margins(n, nothing, np.zeros(0), [])
    logp = np.append(np.log(parameter_draws("nested", 0.5)[0]).ravel(), np.log([0.3, 0.7]))
    values, gradient = joint_loglik(logp, *pack([system_margins("nested"), uncounted]))
    assert values[1] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(gradient[-2:], [1.5, 3.5], rtol=1e-12)


def test_state_that_hardly_has_any_probability_changes_nothing():
    p, incidence = 1e-6, [[[0], [0], [1]]]
    expected = margin_loglik([[0.0, 1 - p, p]], [2], incidence, [1])
    for tiny in (1e-12, 1e-20, 1e-29, 1e-100, 1e-300):
        assert margin_loglik([[tiny, 1 - p, p]], [2], incidence, [1]) == pytest.approx(expected, abs=1e-6)


# Counts known to lie in intervals, of which the sum over all integers is exact.


def interval_case(name):
    """Ends of intervals around a system's counts, (margin,) each, and the largest spread of the error over draws."""
    of, changes, largest = INTERVALS[name]
    counts = system(of)[2].astype(float)
    low, high = counts.copy(), counts.copy()
    for margin, (below, above) in changes.items():
        low[margin], high[margin] = counts[margin] - below, counts[margin] + above
    return of, low, high, largest


INTERVALS = {
    "one of three values": ("graded", {0: (1, 1), 6: (1, 1), 8: (1, 1)}, 0.03),
    "two at most": ("single", {0: (7, 0), 3: (4, 0)}, 0.05),
    "three, one of them wide": ("graded", {0: (3, 0), 3: (2, 2), 6: (4, 0)}, 0.05),
    "every margin within one": ("single", dict.fromkeys(range(7), (1, 1)), 0.08),
    "nested events": ("nested", {0: (1, 1), 3: (1, 2), 9: (1, 1)}, 0.05),
    "every margin within two": ("single", dict.fromkeys(range(7), (2, 2)), 0.08),
    "two classes, every margin within one": ("graded", dict.fromkeys((0, 1, 3, 4, 6, 7, 8, 9), (1, 1)), 0.05),
}


LONG = ("nested events", "every margin within two", "two classes, every margin within one")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in INTERVALS])
def test_intervals_together_agree_with_enumeration(name):
    of, low, high, largest = interval_case(name)
    table, incidence, _, _ = system(of)
    n = table.sum(axis=1)
    p = np.concatenate([parameter_draws(of, spread, draws=6) for spread in (0.5, WIDE)])
    exact = enumerate_margin_logprob(p, n, incidence, low, high)
    margins = reduce_margins(n.astype(float), incidence, low, [str(j) for j in range(len(low))], high=high)
    packed = pack([margins])
    logps = [np.log(np.where(margins.support, q, 1.0)).ravel() for q in p]
    assert np.ptp([joint_loglik(logp, *packed)[0][0] for logp in logps] - exact) < largest
    assert gradient_error(logps[0], packed) < 1e-6


@pytest.mark.slow
def test_overlapping_intervals_far_from_what_can_be_expected_err_little():
    """7-9 in each of four rows and four columns of 96 patients, expected, and with a probability of exp(-23) and exp(-59)."""
    place = np.stack(np.indices((4, 4)).reshape(2, 16), axis=1)
    incidence = np.zeros((16, 2, 8))
    incidence[np.arange(16), 1, place[:, 0]] = incidence[np.arange(16), 1, 4 + place[:, 1]] = 1
    n, low, high = np.full(16, 6), np.full(8, 7), np.full(8, 9)
    logits = np.add.outer([-0.7, -2.2, -3.7], np.linspace(-0.2, 0.2, 16))
    p = np.stack([1 / (1 + np.exp(logits)), 1 / (1 + np.exp(-logits))], axis=2)
    exact = enumerate_margin_logprob(p, n, incidence, low, high)
    np.testing.assert_allclose(exact[1:], [-23, -59], atol=0.5)
    error = np.array([margin_loglik(q, n, incidence, low, high) for q in p]) - exact
    np.testing.assert_allclose(error[1:] - error[0], [-0.075, -0.215], atol=0.01)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 4), (1, 9), (0, 19), (12, 13), (20, 45), (30, 110)], ids=lambda value: str(value)
)
def test_one_interval_is_a_binomial_probability_deep_into_its_tails(low, high):
    for rate in (0.001, 0.02, 0.1, 0.3, 0.7):
        exact = np.logaddexp.reduce(binom.logpmf(np.arange(low, high + 1), 110, rate))
        if exact > -80:
            assert margin_loglik([[1 - rate, rate]], [110], [[[0], [1]]], [low], [high]) == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize(("low", "high"), [([0, 0], [6, 4]), ([1, 1], [4, 4]), ([3, 2], [8, 8])], ids=str)
def test_intervals_of_one_event_at_two_grades_agree_with_the_multinomial(low, high):
    """Where as many have grade 4-5 as 3-5, nobody is left at grade 3: each such point has a support of its own."""
    incidence = np.zeros((1, 3, 2))
    incidence[0, 1:, 0] = incidence[0, 2, 1] = 1
    for p in np.random.default_rng(0).dirichlet([6, 2, 1], 8):
        exact = enumerate_margin_logprob(p[None], [30], incidence, low, high)
        assert margin_loglik(p[None], [30], incidence, low, high) == pytest.approx(float(exact), abs=0.01)


def test_intervals_in_different_cells_are_independent():
    incidence = np.zeros((2, 2, 2))
    incidence[0, 1, 0] = incidence[1, 1, 1] = 1
    together = margin_loglik([[0.9, 0.1], [0.8, 0.2]], [40, 50], incidence, [0, 3], [4, 12])
    apart = [margin_loglik([[1 - p, p]], [n], [[[0], [1]]], [a], [b]) for p, n, a, b in ((0.1, 40, 0, 4), (0.2, 50, 3, 12))]
    assert together == pytest.approx(sum(apart), abs=1e-9)


def test_percentages_of_a_large_trial_agree_with_exact_sums():
    rates, n = np.array([0.3, 0.22, 0.4, 0.35]), np.array([400, 380, 420, 410])
    incidence = np.zeros((4, 2, 4))
    incidence[np.arange(4), 1, np.arange(4)] = 1
    low, high = np.array([110.0, 70, 160, 130]), np.array([125.0, 90, 175, 150])
    exact = sum(
        np.log(binom.cdf(b, size, p) - binom.cdf(a - 1, size, p)) for a, b, size, p in zip(low, high, n, rates, strict=True)
    )
    p = np.stack([1 - rates, rates], axis=1)
    assert margin_loglik(p, n, incidence, low, high) == pytest.approx(exact, abs=0.05)


def test_interval_is_narrowed_by_other_counts():
    # 5 of two cells' 12 have it and 4 to 9 of the first cell's 4: that is all 4, and 1 of the other 8.
    incidence = np.zeros((2, 2, 2))
    incidence[:, 1, 0] = incidence[0, 1, 1] = 1
    found = reduce_margins(np.array([4.0, 8.0]), incidence, np.array([5.0, 4.0]), ["a", "b"], high=np.array([5.0, 9.0]))
    assert not found.uncertain.any()
    np.testing.assert_array_equal(found.support, [[False, True], [True, True]])


def test_interval_that_no_count_can_be_in_is_an_error():
    with pytest.raises(ValueError, match=r"contradict each other.*margin 0 \(11 to 13\)"):
        margin_loglik([[0.5, 0.5]], [10], [[[0], [1]]], [11], [13])


# Additive logits: an identity that owes nothing to the approximation.


def additive_draws(draws=12, seed=8):
    rng = np.random.default_rng(seed)
    place = system("single")[3]
    return [rng.normal(0, 1, 3)[place["row"]] + rng.normal(0, 1, 4)[place["column"]] - 0.5 for _ in range(draws)]


def another_table():
    """A second table of events with the margins of the first: one patient moved around a rectangle of cells."""
    x = np.array(SINGLE["table"])[:, 1]
    moved = x.reshape(3, 4).copy()
    moved[[0, 1], [0, 1]] += 1
    moved[[0, 1], [1, 0]] -= 1
    return moved.ravel()


@pytest.mark.parametrize("x", [np.array(SINGLE["table"])[:, 1], another_table()], ids=["first table", "another table"])
def test_additive_logit_differs_by_a_constant_only(x):
    table, incidence, counts, _ = system("single")
    n, differences = table.sum(axis=1), []
    for eta in additive_draws():
        p = 1 / (1 + np.exp(-eta))
        differences.append(margin_loglik(np.stack([1 - p, p], axis=1), n, incidence, counts) - additive_logit_loglik(eta, n, x))
    assert np.ptp(differences) < 1e-8


def test_enumeration_meets_the_additive_identity_too():
    table, incidence, counts, _ = system("single")
    n, eta = table.sum(axis=1), np.array(additive_draws())
    p = 1 / (1 + np.exp(-eta))
    exact = enumerate_margin_logprob(np.stack([1 - p, p], axis=2), n, incidence, counts)
    assert np.ptp(exact - [additive_logit_loglik(row, n, another_table()) for row in eta]) < 1e-8


# The gradient.


def gradient_error(logp, packed):
    """Largest error of the gradient, relative to each entry, or to 1e-3 of the largest where an entry is smaller."""
    gradient = joint_loglik(logp, *packed)[1]
    numeric = difference_quotient(lambda at: joint_loglik(at, *packed)[0].sum(), logp)
    return np.max(np.abs(gradient - numeric) / np.maximum(np.abs(gradient), 1e-3 * np.abs(gradient).max()))


@pytest.mark.parametrize("name", SYSTEMS)
def test_gradient_matches_differences_on_small_systems(name):
    packed = pack([system_margins(name)])
    for p in parameter_draws(name, 0.5, draws=4):
        assert gradient_error(np.log(p).ravel(), packed) < 1e-6


def aall1331_logp(cells, margins, seed, spread):
    """Log probabilities of all families' states in their own cells, from random logits of every branch in every cell."""
    rng = np.random.default_rng(seed)
    parts = []
    for m in margins.values():
        branches = len(m.family.branches)
        logits = rng.normal(-1, 1, (branches, 1)) + rng.normal(0, spread, (branches, len(cells.n)))
        p = state_probabilities(m.family.taken, m.family.refused, logits, np).T
        weights = np.zeros((len(m.margins.n), len(cells.n)))
        weights[m.coarse, np.arange(len(cells.n))] = cells.n
        parts.append((weights / weights.sum(axis=1, keepdims=True) @ p).ravel())
    return np.log(np.concatenate(parts))


@pytest.mark.parametrize(("seed", "spread"), [(0, 0.3), (1, 0.6), (2, 1.0)])
def test_gradient_matches_differences_for_all_margins_of_aall1331(aall1331_cells, aall1331_margins, seed, spread):
    packed = pack([m.margins for m in aall1331_margins.values()])
    assert gradient_error(aall1331_logp(aall1331_cells, aall1331_margins, seed, spread), packed) < 1e-6


def test_families_laid_end_to_end_have_the_values_they_have_alone(aall1331_cells, aall1331_margins):
    logp = aall1331_logp(aall1331_cells, aall1331_margins, 0, 0.5)
    joint, _ = joint_loglik(logp, *pack([m.margins for m in aall1331_margins.values()]))
    edges = np.cumsum([0] + [m.margins.support.size for m in aall1331_margins.values()])
    alone = [
        joint_loglik(logp[first:last], *pack([m.margins]))[0][0]
        for m, first, last in zip(aall1331_margins.values(), edges[:-1], edges[1:], strict=True)
    ]
    np.testing.assert_allclose(joint, alone, rtol=0, atol=1e-8)


# Redundant, contradictory and impossible margins; wrong input.


def with_total(states):
    """The nested system with one more margin over all its cells."""
    table, incidence, counts, _ = system("nested")
    total = np.zeros((*table.shape, 1))
    total[:, states] = 1
    return table, np.concatenate([incidence, total], axis=2), np.append(counts, table[:, states].sum())


def test_redundant_margins_are_dropped():
    table, incidence, counts, _ = system("nested")
    p, n = parameter_draws("nested", 0.5)[0], table.sum(axis=1)
    _, more, longer = with_total([1])
    twice = np.concatenate([more, incidence[:, :, :1]], axis=2)
    assert margin_loglik(p, n, twice, np.append(longer, counts[0])) == pytest.approx(
        margin_loglik(p, n, incidence, counts), abs=1e-8
    )


def test_contradictory_margins_are_an_error_that_names_them():
    table, incidence, counts = with_total([1])
    with pytest.raises(ValueError, match="contradict each other"):
        margin_loglik([[0.5, 0.5]], [10], [[[0], [1]]], [11])
    with pytest.raises(ValueError, match=f"contradict each other.*margin {len(counts) - 1} "):
        margin_loglik(parameter_draws("nested", 0.5)[0], table.sum(axis=1), incidence, counts + np.eye(len(counts))[-1])


def test_certain_and_impossible_states_are_certain_and_impossible_margins():
    assert margin_loglik([[1.0, 0.0]], [10], [[[0], [1]]], [3]) == -np.inf
    assert margin_loglik([[1.0, 0.0]], [10], [[[0], [1]]], [0]) == pytest.approx(0, abs=1e-12)
    assert margin_loglik([[0.3, 0.7]], [4], np.zeros((1, 2, 0)), []) == pytest.approx(0, abs=1e-12)


def test_states_of_probability_zero_agree_with_enumeration():
    table, incidence, counts, _ = system("nested")
    p, n = parameter_draws("nested", 0.3), table.sum(axis=1)
    p[:, 0, 2] = 0  # the first cell cannot have grade 4-5 without the inner event
    p /= p.sum(axis=2, keepdims=True)
    difference = [margin_loglik(q, n, incidence, counts) for q in p] - enumerate_margin_logprob(p, n, incidence, counts)
    assert np.ptp(difference) < 0.02


GOOD = {"p": [[0.5, 0.5]], "n": [10.0], "incidence": [[[0], [1]]], "counts": [5.0]}


WRONG = {
    "shapes must be": [{"p": [0.5, 0.5]}, {"n": [10.0, 3.0]}, {"incidence": [[0, 1]]}, {"counts": [5.0, 5.0]}, {"counts": 5.0}],
    "sum to 1": [{"p": [[0.5, 0.4]]}, {"p": [[1.5, -0.5]]}, {"p": [[np.nan, 0.5]]}],
    "n: values must be finite and not negative": [{"n": [-10.0]}, {"n": [np.inf]}],
    "counts: values must be finite and not negative": [{"counts": [-1.0]}, {"counts": [np.nan]}],
    "high: expected an upper end for each count, not below it": [{"high": [4.0]}],
    "incidence: values must be 0 or 1": [{"incidence": [[[0], [2]]]}],
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_refused(message):
    for changed in WRONG[message]:
        with pytest.raises(ValueError, match=message):
            margin_loglik(**(GOOD | changed))
