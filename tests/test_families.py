"""States and branches of event families: their number, their probabilities, and what no parameter value can break."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from aemodel.inference.design import _pools
from aemodel.inference.effects import state_probabilities
from aemodel.publication.families import make_families
from aemodel.publication.grades import GRADES_BY_DEFAULT, answered_classes
from aemodel.publication.schema import Event, GradeClass
from tests.reference import difference_quotient, state_log_probabilities

GRADES = ("3-5", "4-5")


def random_logits(families, draws=200, seed=3, spread=3.0):
    """Logits (branch, draw) of all families, wide enough to reach small and large probabilities."""
    branches = sum(len(family.branches) for family in families)
    return np.random.default_rng(seed).normal(-0.5, spread, (branches, draws))


def probabilities(family, logits):
    return state_probabilities(family.taken, family.refused, logits, np)


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


def check_nesting(families, grades):
    """States differ, every branch tells some apart, grades and events lie in each other, and probabilities sum to one."""
    for family in families:
        assert len(np.unique(family.grades, axis=0)) == len(family.grades)
        assert ((family.taken.sum(axis=0) > 0) & (family.refused.sum(axis=0) > 0)).all()
        np.testing.assert_allclose(probabilities(family, random_logits([family])).sum(axis=0), 1, rtol=0, atol=1e-12)
        for event in family.events:
            having = [family.having(event.name, grade) for grade in grades]
            assert all((outer | ~inner).all() for outer, inner in pairwise(having))
            if event.parent:
                assert all((family.having(event.parent, g) | ~inner).all() for g, inner in zip(grades, having, strict=True))


def test_published_events_nest(families):
    """In every state, and so whatever the probabilities of states are."""
    check_nesting(families, GRADES)


def test_fatal_event_is_its_parent_at_grade_5(families):
    for family, event in members(families):
        if event.relation == "fatal":
            np.testing.assert_array_equal(family.having(event.name, "3-5"), family.having(event.parent, "5"))
            assert (family.having(event.parent, "4-5") | ~family.having(event.parent, "5")).all()


def test_union_is_having_either(families):
    for family, event in members(families):
        united = [e.name for e in family.events if e.parent == event.name and e.relation == "union"]
        if united:
            for grade in GRADES:
                either = np.any([family.having(name, grade) for name in united], axis=0)
                np.testing.assert_array_equal(family.having(event.name, grade), either)


def test_probabilities_match_the_logarithmic_twin(families):
    for family in families:
        logits = random_logits([family])
        twin = state_log_probabilities(logits.T, family.taken, family.refused).T
        np.testing.assert_allclose(np.log(probabilities(family, logits)), twin, rtol=1e-12, atol=1e-12)


def test_probabilities_and_their_gradient_hold_at_extreme_logits_and_at_zero(families):
    for family in families:
        x = pt.dmatrix()
        weight = np.random.default_rng(9).normal(size=(len(family.grades), 2))
        total = (weight * state_probabilities(family.taken, family.refused, x, pt)).sum()
        gradient = pytensor.function([x], pytensor.grad(total, x), mode="FAST_COMPILE")
        for extreme in (-800.0, 0.0, 800.0):
            logits = np.full((len(family.branches), 2), extreme)
            assert probabilities(family, logits).sum(axis=0) == pytest.approx(1)
            assert np.isfinite(gradient(logits)).all()
        for logits in (np.zeros((len(family.branches), 2)), random_logits([family], draws=2, spread=1.0)):
            numeric = difference_quotient(lambda at, f=family, w=weight: (w * probabilities(f, at)).sum(), logits)
            np.testing.assert_allclose(gradient(logits), numeric, rtol=1e-7, atol=1e-10)


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


def test_families_that_take_long_to_fit_are_told(aall1331_families):
    assert not any(family.slow for family in aall1331_families.values())
    inner = [Event(f"inner{i}", "Inner", "outer", "nested", GRADES) for i in range(5)]
    (wide,) = make_families([Event("outer", "Outer", None, None, GRADES), *inner])
    assert wide.slow.startswith(f"outer and 5 events in it can be together in {len(wide.grades)} ways: a fit may take")


# Classes of grades other than those by default.

FOUR = tuple(GradeClass(name, name, name, name != "5") for name in ("any", "3-5", "4-5", "5"))
SERIOUS = tuple(GradeClass(name, name, name, True) for name in ("any", "serious"))


def graded(text, classes):
    """Families of events written as name, parent, relation and grades, one a line."""
    rows = [line.split(",") for line in text.split("\n")]
    events = tuple(Event(name, name, parent or None, relation or None, tuple(g.split())) for name, parent, relation, g in rows)
    return events, make_families(events, classes)


GRADED = {
    "any grade beside higher ones": ("rash,,,any 3-5 4-5\nitch,rash,nested,3-5", FOUR, ("any", "3-5", "4-5"), {0, 1, 3, 4}),
    "grade 5 of an ordinary event": ("clot,,,3-5 4-5 5", GRADES_BY_DEFAULT, ("3-5", "4-5"), {0, 3, 4, 5}),
    "a class that no event has": ("rash,,,3-5\nnausea,,,3-5", GRADES_BY_DEFAULT, ("3-5",), {0, 3}),
    "single grades and ranges": ("rash,,,1-2 3 4 5", GRADES_BY_DEFAULT, ("3-5", "4-5"), {0, 1, 3, 4, 5}),
    "classes that are no grades": ("event,,,any serious\ninner,event,nested,serious", SERIOUS, ("any", "serious"), {0, 1, 2}),
    "a fatal event at the one class there is": ("ae,,,any\ndeath,ae,fatal,5", FOUR, ("any",), {0, 1, 5}),
}


@pytest.mark.parametrize("name", GRADED)
def test_states_tell_the_grades_that_are_counted_or_answered(name):
    text, classes, answered, numbers = GRADED[name]
    events, families = graded(text, classes)
    assert answered_classes(events, classes) == answered
    assert set(np.concatenate([family.grades.ravel() for family in families]).tolist()) == numbers
    check_nesting(families, answered)


def test_single_grades_add_up_to_the_class_they_are_in():
    _, (family,) = graded(*GRADED["single grades and ranges"][:2])
    three, four, five = (family.having("rash", grade).astype(int) for grade in ("3", "4", "5"))
    np.testing.assert_array_equal(three + four + five, family.having("rash", "3-5"))
    np.testing.assert_array_equal(four + five, family.having("rash", "4-5"))
    np.testing.assert_array_equal(family.having("rash", "1-2"), family.grades[:, 0] == 1)


def test_unknown_grade_is_named():
    with pytest.raises(ValueError, match=r"grade 'serious' is none of 3-5, 4-5, 5, nor a single grade"):
        make_families((Event("rash", "Rash", None, None, ("serious",)),))


@pytest.mark.parametrize(
    ("name", "pools"),
    [
        ("any grade beside higher ones", ("incidence", "severity 3", "severity 4", "composition")),
        ("grade 5 of an ordinary event", ("incidence", "severity 4", "severity 5", "composition")),
        ("a class that no event has", ("incidence", "composition")),
        ("classes that are no grades", ("incidence", "severity", "composition")),
        ("a fatal event at the one class there is", ("incidence", "severity", "composition")),
    ],
)
def test_each_step_to_a_higher_class_has_a_pool(name, pools):
    branches = [branch for family in graded(*GRADED[name][:2])[1] for branch in family.branches]
    found, of = _pools(branches)
    assert found == pools
    assert all(found[k].startswith(branch.pool) for branch, k in zip(branches, of, strict=True))
