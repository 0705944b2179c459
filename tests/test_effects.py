"""Effects that events share, branches' own ones, and what the deviation from additivity leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from scipy.linalg import block_diag
from scipy.special import expit

from aemodel.inference.design import all_margins, make_design, zero_sum_basis
from aemodel.inference.effects import branch_shares, effect_scales, make_centring, moved_logits, reference_states
from aemodel.inference.evidence import choose_evidence
from aemodel.inference.forward import additive_residual
from aemodel.inference.levels import descend, level_of
from aemodel.inference.model import branch_logits, build_model, prior_logits
from aemodel.inference.posterior import coordinates, make_density
from aemodel.publication.families import make_families
from aemodel.publication.schema import Event
from tests.reference import logits_at_levels, shifted_chain, state_log_probabilities

UNCOMPILED = {"mode": "FAST_COMPILE"}


def states_at(families, branches, shared):
    """State probabilities (state,) of families whose events all move by ``shared``, from intercepts (branch,)."""

    class Only:
        pool_of, pools = np.zeros(len(branches), dtype=int), ("incidence", "severity", "composition")
        centred, share = np.zeros((1, 1)), np.ones(1)

    together = {name: block_diag(*[getattr(f, name) for f in families]) for name in ("taken", "refused", "settled", "outer")}
    Only.paths, Only.among = (together["taken"], together["refused"]), (together["settled"].T, together["outer"].T)
    none = np.zeros((len(branches), 1)), np.zeros((2, 1))
    moved = moved_logits(Only, branches, *none, np.zeros((1, 1)), np, (0.0, np.array([[shared], [0.0]])))
    logits = branches + moved[:, 0]
    return np.exp(state_log_probabilities(logits, *Only.paths))


def log_odds(p):
    return np.log(p / (1 - p))


def intercepts_of(design, margins):
    p = np.maximum(reference_states(margins), 1e-6)
    taken, refused = design.paths
    return np.log(p @ taken) - np.log(p @ refused)


@pytest.fixture(scope="module")
def published(aall1331):
    design = make_design(aall1331)
    return design, intercepts_of(design, all_margins(design, aall1331.frequencies))


@pytest.mark.parametrize("u", [-1.0, -0.3, 0.3, 1.0])
def test_shared_effect_moves_the_log_odds_of_every_nested_event(published, u):
    """Within 0.05 at every grade; the part of a union that is not its chain moves the same way, by less."""
    design, intercepts = published
    before, after = (states_at(design.families, intercepts, size) for size in (0.0, u))
    for family in design.families:
        for event in family.events:
            for grade in ("3-5", "4-5", "5"):
                having = design.states_having(event.name, grade)
                if 0 < before[having].sum() < 1:
                    moved = log_odds(after[having].sum()) - log_odds(before[having].sum())
                    if event.name == "febrile_neutropenia":
                        assert 0.5 * abs(u) < moved * np.sign(u) < abs(u)
                    else:
                        assert abs(moved - u) < 0.05, (event.name, grade, moved)


def test_shared_effect_of_a_chain_is_that_of_the_twin():
    """Three nested events with grades: each set of states moves by u exactly."""
    events = tuple(
        Event(name, name, parent, "nested" if parent else None, ("3-5", "4-5"))
        for name, parent in (("outer", None), ("middle", "outer"), ("inner", "middle"))
    )
    families = make_families(events)
    intercepts = np.random.default_rng(1).normal(-0.5, 1.0, len(families[0].branches))
    p, moved = (states_at(families, intercepts, u) for u in (0.0, 0.8))
    for grade in ("3-5", "4-5"):
        sets = [families[0].having(event.name, grade) for event in events]
        np.testing.assert_allclose(
            [moved[s].sum() for s in sets], shifted_chain([p[s].sum() for s in sets], 0.8), rtol=1e-10, atol=0
        )


def test_shared_effect_does_not_depend_on_the_order_of_a_file(aall1331):
    families = make_families(aall1331.events)
    turned = make_families(aall1331.events[::-1])
    for family in families:
        other = next(each for each in turned if each.root == family.root)
        by_name = dict(zip([b.name for b in other.branches], (other.outer * 1).T, strict=True))
        for k, branch in enumerate(family.branches):
            if branch.name in by_name:
                assert family.outer[:, k].sum() == by_name[branch.name].sum(), branch.name


def test_severity_is_settled_where_an_inner_event_is_at_grade_4(aall1331):
    family = next(f for f in make_families(aall1331.events) if f.root == "any_ae")
    names = [b.name for b in family.branches]
    settled = family.settled[:, names.index("infections 4-5")].astype(bool)
    np.testing.assert_array_equal(settled, family.having("sepsis", "4-5"))
    assert not family.settled[:, names.index("sepsis 4-5")].any()


def drawn(design, log_odds, seed, size):
    """What random effects of a standard deviation add to logits, (branch, cell)."""
    rng = np.random.default_rng(seed)
    own, shared = (rng.normal(0, size, (n, len(design.term_of))) for n in (len(log_odds), len(design.sharing)))
    return moved_logits(design, log_odds, own, shared, design.centred, np)


@pytest.mark.parametrize("size", [0.3, 2.0])
def test_levels_are_those_of_the_twin(published, size):
    design, log_odds = published
    order, moved = design.tree.branch, drawn(design, log_odds, 3, size)
    level, _, _, p = descend(log_odds, moved, design.tree)
    expected = logits_at_levels(log_odds, moved, design.share, *design.paths, order)
    np.testing.assert_allclose(level[:, None] + moved, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(p, np.exp(state_log_probabilities(expected.T, *design.paths)).T, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("size", [0.3, 2.0, 4.0])
def test_effects_leave_the_cohort_alone(published, size):
    """Log odds of each branch among those of the whole cohort who come to it are the parameters, whatever effects there are."""
    design, log_odds = published
    *_, p = descend(log_odds, drawn(design, log_odds, 4, size), design.tree)
    taken, refused = (path.T @ (p @ design.share) for path in design.paths)
    np.testing.assert_allclose(np.log(taken / refused), log_odds, rtol=0, atol=1e-7)


@pytest.mark.parametrize("log_odds", [-30.0, -3.0, 0.0, 40.0])
@pytest.mark.parametrize("moved", [(0.0, 0.0, 0.0), (-25.0, 0.0, 25.0), (200.0, -200.0, 0.0), (1e3, 1e3 + 1, 1e3)])
def test_level_is_found_however_far_apart_cells_are(log_odds, moved):
    moved, weight, against = np.array(moved), np.array([0.01, 0.0, 0.99]), np.empty(3)
    level = level_of(log_odds, moved, weight, against)
    up, down = weight @ expit(level + moved), weight @ expit(-level - moved)
    assert np.log(up / down) == pytest.approx(log_odds, abs=1e-8)
    np.testing.assert_allclose(against[[0, 2]], np.exp(-level - moved)[[0, 2]], rtol=1e-6)


def test_pytensor_has_numpys_logits_and_their_slopes(published):
    design, log_odds = published
    rng = np.random.default_rng(2)
    own, shared = rng.normal(size=(len(log_odds), len(design.term_of))), rng.normal(size=(2, len(design.term_of)))
    given, weights = [pt.dvector(), pt.dmatrix(), pt.dmatrix()], rng.normal(size=(len(log_odds), len(design.share)))
    logits = branch_logits(design, *given)
    compiled = pytensor.function(given, [logits, *pytensor.grad((logits * weights).sum(), given)], **UNCOMPILED)
    found, *slopes = compiled(log_odds, own, shared)
    moved = moved_logits(design, log_odds, own, shared, design.centred, np)
    np.testing.assert_allclose(found, descend(log_odds, moved, design.tree)[0][:, None] + moved, rtol=1e-10)
    for direction in range(4):
        steps = [1e-5 * rng.normal(size=np.shape(each)) for each in (log_odds, own, shared)]
        ends = [
            (compiled(*(at + side * step for at, step in zip((log_odds, own, shared), steps, strict=True)))[0] * weights).sum()
            for side in (-1, 1)
        ]
        expected = sum((slope * step).sum() for slope, step in zip(slopes, steps, strict=True))
        assert (ends[1] - ends[0]) / 2 == pytest.approx(expected, rel=1e-5), direction


def test_every_decision_of_the_tree_comes_after_those_that_lead_to_it(published):
    design, _ = published
    tree = design.tree
    assert len(tree.after) == len(design.paths[0]) - len(design.families)
    np.testing.assert_array_equal(np.sort(tree.branch), np.arange(len(design.branches)))
    followers = tree.after[tree.after >= 0]
    assert len(set(followers)) == len(followers) == len(tree.after) - len(tree.first)
    nodes = np.arange(len(tree.after))
    assert (tree.after[tree.after >= 0] > np.repeat(nodes, 2).reshape(-1, 2)[tree.after >= 0]).all()
    np.testing.assert_array_equal(np.sort(-1 - tree.after[tree.after < 0]), np.arange(len(design.paths[0])))


def test_branches_that_decide_among_everybody_are_roots(published):
    design, intercepts = published
    settled, outer = branch_shares(design, intercepts, np)
    roots = [family.root for family in design.families]
    assert [b.name for b, share in zip(design.branches, outer, strict=True) if share > 1 - 1e-9] == roots
    assert (settled < outer).all()


# The sampler's coordinates.


@pytest.fixture(scope="module")
def prior_effects(invented):
    """4,000 prior draws of own effects and shared ones in units of their scales, and of the former's shared part."""
    design = make_design(invented)
    margins = all_margins(design, invented.frequencies)
    centring = make_centring(design, margins)
    with pm.Model(coords=coordinates(design)) as model:
        prior_logits(design, centring)
    draws = pm.draw([model[n] for n in ("scale", "alike", "own", "shared")], draws=4000, random_seed=1, **UNCOMPILED)
    scales = [effect_scales(design, scale, alike, np) for scale, alike in zip(*draws[:2], strict=True)]
    own, shared = (np.stack([s[i] for s in scales]) for i in (0, 1))
    return draws[2] / own, draws[3] / shared, centring.load @ draws[3]


def test_effects_have_their_prior_whatever_coordinates_they_are_sampled_in(prior_effects):
    """In units of their scales: mean 0, sd 1, own ones independent of shared, within 5 standard errors (over some hundred)."""
    own, shared, together = prior_effects
    for values in (own, shared, np.sign(together) * own):
        assert abs(values.mean(axis=0)).max() < 5 / np.sqrt(4000)
    for values in (own, shared):
        assert abs(values.std(axis=0) - 1).max() < 5 / np.sqrt(2 * 4000)


# Ordered levels.


def test_ordered_levels_have_a_trend_and_a_departure(aall1331):
    design = make_design(aall1331)
    trend, curve = (next(t for t in design.terms if t.name == f"age_band {part}") for part in ("trend", "curve"))
    np.testing.assert_allclose(np.diff(trend.basis[:, 0]), np.sqrt(0.5), rtol=1e-12)
    np.testing.assert_allclose(curve.basis.T @ np.column_stack([trend.basis, np.ones(3)]), 0, atol=1e-12)
    np.testing.assert_allclose(curve.basis.T @ curve.basis, np.eye(1), atol=1e-12)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_zero_sum_basis_is_orthonormal(size):
    basis = zero_sum_basis(size)
    np.testing.assert_allclose(basis.T @ basis, np.eye(size - 1), atol=1e-12)
    np.testing.assert_allclose(basis.sum(axis=0), 0, atol=1e-12)


# The deviation from additivity.


def test_saturated_design_leaves_no_deviation(invented):
    """One covariate: every cell is a level with a margin of its own."""
    design = make_design(invented)
    levels = design.cells.levels[:, 0]
    one = replace(
        design,
        matrix=zero_sum_basis(levels.max() + 1)[levels],
        cells=replace(design.cells, n=np.where(_first(levels), 10.0, 0.0)),
    )
    residual = additive_residual(one)
    there = one.cells.n > 0
    assert not residual[np.ix_(there, there)].any()


def _first(levels):
    return np.isin(np.arange(len(levels)), [np.flatnonzero(levels == k)[0] for k in np.unique(levels)])


def test_contrasts_that_say_the_same_take_no_more_from_the_deviation(invented):
    design = make_design(invented)
    twice = replace(design, matrix=np.hstack([design.matrix, design.matrix]))
    np.testing.assert_allclose(additive_residual(twice), additive_residual(design), atol=1e-9)


def test_empty_cells_are_not_blown_up(aall1331):
    """Structural zeros: what a deviation of unit variance becomes is at most that in every cell."""
    design = make_design(aall1331)
    n = design.cells.n.copy()
    n[::5] = 0.0
    residual = additive_residual(replace(design, cells=replace(design.cells, n=n)))
    assert np.average((residual**2).sum(axis=1), weights=n) <= 1 + 1e-9
    np.testing.assert_allclose((residual[::5] ** 2).sum(axis=1), 1)


def test_log_density_of_the_shipped_publication_stays_what_it_was(aall1331):
    """Everything a fit of it uses, at a fixed point of the sampler's coordinates: what nobody meant to change is as it was."""
    design = make_design(aall1331)
    model = build_model(
        make_density(design, all_margins(design, aall1331.frequencies), choose_evidence(aall1331, "both", True))
    )
    rng = np.random.default_rng(7)
    point = {name: value + rng.normal(0, 0.3, np.shape(value)) for name, value in sorted(model.initial_point().items())}
    density = pytensor.function(model.value_vars, model.logp(), on_unused_input="ignore", **UNCOMPILED)
    found = density(*[point[variable.name] for variable in model.value_vars])
    assert found == pytest.approx(-1805.0711649774519, abs=1e-9)
