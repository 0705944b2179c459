"""Effects that events share, branches' own ones, and what the deviation from additivity leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from scipy.linalg import block_diag

from aemodel.inference.design import all_margins, make_design, zero_sum_basis
from aemodel.inference.effects import branch_logits, branch_shares, effect_scales, make_centring, reference_states
from aemodel.inference.evidence import choose_evidence
from aemodel.inference.forward import additive_residual
from aemodel.inference.model import build_model, prior_logits
from aemodel.inference.posterior import coordinates, make_density
from aemodel.publication.families import make_families
from aemodel.publication.schema import Event
from tests.reference import shifted_chain, state_log_probabilities

UNCOMPILED = {"mode": "FAST_COMPILE"}


def states_at(families, branches, shared):
    """State probabilities (state,) of families whose events all move by ``shared``, from intercepts (branch,)."""

    class Only:
        pool_of, pools = np.zeros(len(branches), dtype=int), ("incidence", "severity", "composition")
        centred, share = np.zeros((1, 1)), np.ones(1)

    together = {name: block_diag(*[getattr(f, name) for f in families]) for name in ("taken", "refused", "settled", "outer")}
    Only.paths, Only.among = (together["taken"], together["refused"]), (together["settled"].T, together["outer"].T)
    none = np.zeros((len(branches), 1)), np.zeros((2, 1))
    logits = branch_logits(Only, branches, *none, np.zeros((1, 1)), np, (0.0, np.array([[shared], [0.0]])))[:, 0]
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


def test_averages_stay_where_the_intercepts_put_them(published):
    """Cohort risks of every event with effects of sd 0.3: within 6 % of those at the intercepts, in the mean over draws."""
    design, intercepts = published
    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(40):
        own, shared = (
            0.3 * rng.normal(size=(len(intercepts), len(design.term_of))),
            0.3 * rng.normal(size=(2, len(design.term_of))),
        )
        logits = branch_logits(design, intercepts, own, shared, design.centred, np)
        cells = np.exp(state_log_probabilities(logits.T, *design.paths))
        flat = np.exp(state_log_probabilities(intercepts, *design.paths))
        having = np.array([design.states_having(f.root, g) for f in design.families for g in ("3-5", "4-5")])
        ratios.append((having @ (design.share @ cells)) / (having @ flat))
    np.testing.assert_allclose(np.mean(ratios, axis=0), 1, atol=0.06)


def test_numpy_and_pytensor_agree(published):
    design, intercepts = published
    rng = np.random.default_rng(2)
    own, shared = rng.normal(size=(len(intercepts), len(design.term_of))), rng.normal(size=(2, len(design.term_of)))
    a, o, s = pt.dvector(), pt.dmatrix(), pt.dmatrix()
    compiled = pytensor.function([a, o, s], branch_logits(design, a, o, s, design.centred, pt), **UNCOMPILED)
    np.testing.assert_allclose(
        compiled(intercepts, own, shared), branch_logits(design, intercepts, own, shared, design.centred, np), rtol=1e-10
    )


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
    """Everything a fit of it uses, at a fixed point: the value of the release that the shipped model was fitted by."""
    design = make_design(aall1331)
    model = build_model(
        make_density(design, all_margins(design, aall1331.frequencies), choose_evidence(aall1331, "both", True))
    )
    rng = np.random.default_rng(7)
    point = {name: value + rng.normal(0, 0.3, np.shape(value)) for name, value in sorted(model.initial_point().items())}
    density = pytensor.function(model.value_vars, model.logp(), on_unused_input="ignore", **UNCOMPILED)
    found = density(*[point[variable.name] for variable in model.value_vars])
    assert found == pytest.approx(-1818.8991010657521, abs=1e-9)
