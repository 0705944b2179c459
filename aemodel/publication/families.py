"""Event families: the states a patient can be in, and the branches (each a logit) that lead to them.

A family is one root event and all that lies in it. A patient is in exactly one state: a grade (0 none, otherwise the
lowest of the innermost class of grades, such as 3, or 4 for 4-5) of every event, consistent with the nesting. The
probability of a state is a product over branches. Occurrence runs top-down (does an inner event occur, given its parent),
severity bottom-up (the innermost event, one class of grades after another, then the chance that an outer event is worse
than what lies in it), and a fatal event last. Any risk is a sum over states, so no parameter value can make an inner event
more probable than an outer one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from aemodel.publication.arrays import Bools, Floats, Ints
from aemodel.publication.errors import PublicationError
from aemodel.publication.events import children, family_of, roots
from aemodel.publication.grades import GRADES_BY_DEFAULT, HIGHEST, answered_classes, boundaries, class_numbers, grade_bounds
from aemodel.publication.schema import Event, GradeClass

MOST_STATES = 2000
MOST_BRANCHES = 500
MANY_STATES = 200
"""Of a family: from here on a fit takes much longer than a minute or two."""
FEWER = "nest fewer in it, and leave the parent of the others empty"

Grades = dict[str, int]
Path = tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Branch:
    """One logit: ``incidence`` of a root event, ``composition`` within an event, or ``severity`` given occurrence.

    ``reaches`` is the grade that a severity is about, 0 for other branches.
    """

    name: str
    pool: str
    reaches: int = 0


@dataclass(frozen=True)
class Family:
    """Events that nest, their states and branches.

    ``grades`` (state, event) is 0 or the lowest grade of a class (5 where a fatal event makes it so), ``numbers`` that of
    each class by its name; ``taken`` and ``refused`` (state, branch) are 0/1: the probability of a state is the product of p
    over the branches taken and 1 - p over those refused. ``outer`` and ``settled`` (state, branch) are 0/1: the states among
    which a branch decides, and those of them in which it needs no deciding, because an event within is already as severe.
    ``order`` (branch,) are the branches, each after all that are decided before it on any path.
    """

    events: tuple[Event, ...]
    branches: tuple[Branch, ...]
    grades: Ints
    taken: Floats
    refused: Floats
    outer: Floats
    settled: Floats
    order: Ints
    numbers: Mapping[str, int]

    @property
    def root(self) -> str:
        return self.events[0].name

    @property
    def slow(self) -> str:
        """A warning where there is much to add up; else empty."""
        if len(self.grades) < MANY_STATES:
            return ""
        ways = f"{self.root} and {len(self.events) - 1} events in it can be together in {len(self.grades)} ways"
        return f"{ways}: a fit may take an hour; events without a parent are fitted in minutes."

    def having(self, event: str, grade: str) -> Bools:
        """Which states have an event at a grade: a class of grades, a single one or a range of them, (state,)."""
        position = [e.name for e in self.events].index(event)
        low, high = grade_bounds(grade, self.numbers)
        return (self.grades[:, position] >= low) & (self.grades[:, position] <= high)


def make_families(events: Sequence[Event], classes: Sequence[GradeClass] = GRADES_BY_DEFAULT) -> tuple[Family, ...]:
    """One family per root event, in the publication's order.

    Raises
    ------
    ValueError
        A family has more states or branches than can be handled (`MOST_STATES`, `MOST_BRANCHES`).
    """
    numbers = class_numbers(classes)
    everywhere = {numbers[name] for name in answered_classes(events, classes)}
    return tuple(
        _make_family(root, _Tree(events, _ladders(root, events, everywhere, numbers)), numbers) for root in roots(events)
    )


class _Tree(NamedTuple):
    """All events, and for each of a family the grades at which its states are told apart, ascending."""

    events: Sequence[Event]
    ladders: Mapping[str, tuple[int, ...]]

    def inner(self, event: Event) -> list[Event]:
        return [child for child in children(event, self.events) if child.relation != "fatal"]


def _ladders(
    root: Event, events: Sequence[Event], everywhere: set[int], numbers: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    """Classes that are answered, and what an event's own counts need, or those of events in it."""
    members = family_of(root, events)
    fatal = any(event.relation == "fatal" for event in members)
    found = {event.name: set(everywhere) for event in members}
    for event in reversed(members):  # children before parents
        for grade in event.grades if event.relation != "fatal" else ():
            found[event.name] |= boundaries(grade, numbers)
        if event.parent is not None and event.relation != "fatal":
            found[event.parent] |= found[event.name]
    # Where an event is fatal, it alone tells grade 5.
    return {name: tuple(sorted(x for x in grades if not fatal or x < HIGHEST)) for name, grades in found.items()}


def _make_family(root: Event, tree: _Tree, numbers: Mapping[str, int]) -> Family:
    members = family_of(root, tree.events)
    states: list[tuple[Grades, Path]] = []
    for occurred, path in _occurrences(root, tree, root.name):
        for grades, worse in _severities(root, occurred, tree):
            for final, deadly in _fatalities(grades, members, tree):
                states.append((final, path + worse + deadly))
                if len(states) > MOST_STATES:
                    raise PublicationError(
                        "events.csv", f"the events in {root.name!r} have over {MOST_STATES} states", remedy=FEWER
                    )
    names = tuple(dict.fromkeys(name for _, path in states for name, _ in path))
    if len(names) > MOST_BRANCHES:
        raise PublicationError("events.csv", f"the events in {root.name!r} have over {MOST_BRANCHES} branches", remedy=FEWER)
    taken, refused = np.zeros((2, len(states), len(names)))
    for i, (_, path) in enumerate(states):
        for name, yes in path:
            (taken if yes else refused)[i, names.index(name)] = 1
    before: dict[str, set[str]] = {name: set() for name in names}
    for _, path in states:
        for (one, _), (other, _) in pairwise(path):
            before[other].add(one)
    order = np.array([names.index(name) for name in TopologicalSorter(before).static_order()])
    grades_table = np.array([[grades.get(e.name, 0) for e in members] for grades, _ in states])
    settled = np.zeros_like(taken)
    reaches = dict.fromkeys(names, 0)
    for k, event in enumerate(members):
        for below, grade in pairwise(tree.ladders[event.name]):
            if (branch := _severity_of(event, grade)) in names:
                b, reaches[branch] = names.index(branch), grade
                settled[:, b] = (grades_table[:, k] >= below) & (taken[:, b] + refused[:, b] == 0)
    branches = tuple(Branch(name, _pool(name, root.name), reaches[name]) for name in names)
    return Family(members, branches, grades_table, taken, refused, taken + refused + settled, settled, order, numbers)


def _severity_of(event: Event, grade: int) -> str:
    return f"{event.name} {grade}" if grade == HIGHEST else f"{event.name} {grade}-{HIGHEST}"


def _pool(branch: str, root: str) -> str:
    if branch == root:
        return "incidence"
    return "composition" if " in " in branch else "severity"


def _occurrences(event: Event, tree: _Tree, branch: str) -> Iterator[tuple[set[str], Path]]:
    """Ways in which an event and those in it occur or not, with the branches that decide it."""
    yield set(), ((branch, False),)
    for inside, path in _contents(event, tree):
        yield {event.name} | inside, ((branch, True), *path)


def _contents(event: Event, tree: _Tree) -> Iterator[tuple[set[str], Path]]:
    """What occurs within an event that has occurred."""
    inner = tree.inner(event)
    yield from _siblings(event, inner, tree, earlier=set())


def _siblings(event: Event, left: Sequence[Event], tree: _Tree, earlier: set[str]) -> Iterator[tuple[set[str], Path]]:
    if not left:
        yield set(), ()
        return
    child, rest = left[0], left[1:]
    for inside, path in _one_sibling(event, child, rest, tree, earlier):
        seen = earlier | ({child.name} & inside)
        for others, more in _siblings(event, rest, tree, seen):
            yield inside | others, path + more


def _one_sibling(
    event: Event, child: Event, rest: Sequence[Event], tree: _Tree, earlier: set[str]
) -> Iterator[tuple[set[str], Path]]:
    """Nested children occur independently given their parent; of a union at least one must, so the last may be certain."""
    branch = f"{child.name} in {event.name}"
    if child.relation == "union":
        if not earlier and not rest:
            yield from (({child.name} | inside, path) for inside, path in _contents(child, tree))
            return
        branch = f"{child.name} in {' or '.join(sorted(earlier))}" if earlier else branch
    yield from _occurrences(child, tree, branch)


def _severities(event: Event, occurred: set[str], tree: _Tree) -> Iterator[tuple[Grades, Path]]:
    """Grades of an event and of all in it, given which occurred."""
    if event.name not in occurred:
        yield {}, ()
        return
    inner = tree.inner(event)
    united = any(child.relation == "union" for child in inner)
    for grades, path in _joint_severities(inner, occurred, tree):
        worst = max((grades.get(child.name, 0) for child in inner), default=0)
        if united:
            yield grades | {event.name: worst}, path
        else:
            for grade, more in _worse(event, max(worst, tree.ladders[event.name][0]), tree):
                yield grades | {event.name: grade}, path + more


def _worse(event: Event, grade: int, tree: _Tree) -> Iterator[tuple[int, Path]]:
    """Grades an event can have that is of this one or higher, one class after another."""
    above = next((each for each in tree.ladders[event.name] if each > grade), None)
    if above is None:
        yield grade, ()
        return
    branch = _severity_of(event, above)
    yield grade, ((branch, False),)
    for final, more in _worse(event, above, tree):
        yield final, ((branch, True), *more)


def _joint_severities(inner: Sequence[Event], occurred: set[str], tree: _Tree) -> Iterator[tuple[Grades, Path]]:
    if not inner:
        yield {}, ()
        return
    for grades, path in _severities(inner[0], occurred, tree):
        for others, more in _joint_severities(inner[1:], occurred, tree):
            yield grades | others, path + more


def _fatalities(grades: Grades, members: Sequence[Event], tree: _Tree) -> Iterator[tuple[Grades, Path]]:
    """Grade 5 of the fatal event's parent, with a branch of its own where an event with published deaths is at its worst.

    A fatal state has grade 5 for the fatal event, its parent, and every event at 4-5 (or what class there is above the
    others) whose deaths are published.
    """
    fatal = next((e for e in members if e.relation == "fatal"), None)
    worst = {name: ladder[-1] for name, ladder in tree.ladders.items()}
    if fatal is None or grades.get(str(fatal.parent), 0) < worst[str(fatal.parent)]:
        yield grades, ()
        return
    told = [e.name for e in members if "5" in e.grades and e.name != fatal.parent]
    deadly = [name for name in told if grades.get(name, 0) == worst[name]]
    branch = f"{fatal.name} with {' and '.join(deadly)} {worst[deadly[0]]}-5" if deadly else f"{fatal.name} otherwise"
    yield grades, ((branch, False),)
    yield grades | dict.fromkeys((fatal.name, str(fatal.parent), *deadly), 5), ((branch, True),)
