"""States and branches of event families: their number, their probabilities, and what no parameter value can break."""

from __future__ import annotations

import numpy as np
import pytest

from aemodel.inference.states import make_paths, pull_back, state_probabilities
from aemodel.publication.events import GRADES
from aemodel.publication.families import make_families
from aemodel.publication.schema import Event
from tests.reference import difference_quotient, state_log_probabilities


def random_logits(families, draws=200, seed=3, spread=3.0):
    """Logits (branch, draw) of all families, wide enough to reach small and large probabilities."""
    branches = sum(len(family.branches) for family in families)
    return np.random.default_rng(seed).normal(-0.5, spread, (branches, draws))


def probabilities(family, logits):
    return state_probabilities(logits, *make_paths([family]))


@pytest.fixture(scope="module", params=["aall1331", "invented"])
def families(request):
    return make_families(request.getfixturevalue(request.param).events)


def members(families):
    return [(family, event) for family in families for event in family.events]


def risk(family, event, grade, seed=3):
    return family.having(event, grade).astype(float) @ probabilities(family, random_logits([family], seed=seed))


def test_any_ae_has_43_states_and_11_branches(aall1331_families):
    family = aall1331_families["any_ae"]
    assert (len(family.grades), len(family.branches)) == (43, 11)


def test_states_are_all_different(families):
    for family in families:
        assert len(np.unique(family.grades, axis=0)) == len(family.grades)


def test_probabilities_sum_to_one(families):
    for family in families:
        np.testing.assert_allclose(probabilities(family, random_logits([family])).sum(axis=0), 1, rtol=0, atol=1e-12)


def test_event_is_no_more_probable_than_its_parent(families):
    for family, event in members(families):
        for grade in GRADES:
            if event.parent:
                assert (risk(family, event.name, grade) <= risk(family, event.parent, grade) + 1e-12).all()


def test_event_at_4_5_is_no_more_probable_than_at_3_5(families):
    for family, event in members(families):
        assert (risk(family, event.name, "4-5") <= risk(family, event.name, "3-5") + 1e-12).all()


def test_fatal_event_is_no_more_probable_than_its_parent_at_4_5(families):
    for family, event in members(families):
        if event.relation == "fatal":
            for grade in GRADES:
                assert (risk(family, event.name, grade) <= risk(family, event.parent, "4-5") + 1e-12).all()


def test_fatal_event_is_its_parent_at_grade_5(families):
    for family, event in members(families):
        if event.relation == "fatal":
            np.testing.assert_array_equal(family.having(event.name, "3-5"), family.having(event.parent, "5"))


def test_union_is_having_either(families):
    for family, event in members(families):
        united = [e.name for e in family.events if e.parent == event.name and e.relation == "union"]
        if united:
            for grade in GRADES:
                either = np.any([family.having(name, grade) for name in united], axis=0)
                np.testing.assert_array_equal(family.having(event.name, grade), either)


def test_every_branch_can_change_some_probability(families):
    for family in families:
        assert ((family.taken.sum(axis=0) > 0) & (family.refused.sum(axis=0) > 0)).all()


def test_kernel_matches_the_logarithmic_twin(families):
    for family in families:
        logits = random_logits([family])
        twin = state_log_probabilities(logits.T, family.taken, family.refused).T
        np.testing.assert_allclose(np.log(probabilities(family, logits)), twin, rtol=1e-12, atol=1e-12)


def test_kernel_takes_all_families_end_to_end(families):
    logits = random_logits(families, draws=5)
    together = state_probabilities(logits, *make_paths(families))
    edges = np.cumsum([0] + [len(family.branches) for family in families])
    apart = [probabilities(f, logits[a:b]) for f, a, b in zip(families, edges[:-1], edges[1:], strict=True)]
    np.testing.assert_array_equal(together, np.vstack(apart))


def test_kernel_is_finite_at_extreme_logits(families):
    for family in families:
        for extreme in (-800.0, 800.0):
            logits = np.full((len(family.branches), 1), extreme)
            p = probabilities(family, logits)
            assert p.sum() == pytest.approx(1)
            assert np.isfinite(pull_back(logits, p, np.ones_like(p), *make_paths([family]))).all()


def test_pull_back_matches_differences(families):
    paths = make_paths(families)
    logits = random_logits(families, draws=2, spread=1.0)
    p = state_probabilities(logits, *paths)
    weight = np.random.default_rng(9).normal(size=p.shape)
    numeric = difference_quotient(lambda at: (weight * state_probabilities(at, *paths)).sum(), logits)
    np.testing.assert_allclose(pull_back(logits, p, weight, *paths), numeric, rtol=1e-7, atol=1e-10)


def test_incidence_of_the_root_is_its_branch(families):
    for family in families:
        logits = random_logits([family])
        root = [branch.name for branch in family.branches].index(family.root)
        np.testing.assert_allclose(risk(family, family.root, "3-5"), 1 / (1 + np.exp(-logits[root])), rtol=1e-10)


def test_too_many_states_are_refused_by_name():
    rows = [Event("outer", "Outer", None, None, GRADES)]
    rows += [Event(f"inner{i}", "Inner", "outer", "nested", GRADES) for i in range(8)]
    with pytest.raises(ValueError, match=r"events in 'outer' have over \d+ states"):
        make_families(rows)
