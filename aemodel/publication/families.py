"""Event families: the states a patient can be in, and the branches (each a logit) that lead to them.

A family is one root event and all that lies in it. A patient is in exactly one state: a grade (0 none, 3, 4 for 4-5)
of every event, consistent with the nesting. The probability of a state is a product over branches. Occurrence runs
top-down (does an inner event occur, given its parent), severity bottom-up (the innermost event at grade 4-5, then the chance
that an outer event is worse than what lies in it), and a fatal event last. Any risk is a sum over states, so no parameter
value can make an inner event more probable than an outer one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aemodel.publication.errors import PublicationError
from aemodel.publication.events import children, family_of, roots
from aemodel.publication.schema import Event

POOLS = ("incidence", "severity", "composition")
MOST_STATES = 2000
MOST_BRANCHES = 500
FEWER = "nest fewer in it"

Grades = dict[str, int]
Path = tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Branch:
    """One logit: ``incidence`` of a root event, ``composition`` within an event, or ``severity`` given occurrence."""

    name: str
    pool: str


@dataclass(frozen=True)
class Family:
    """Events that nest, their states and branches.

    ``grades`` (state, event) is 0, 3 or 4 (5 where a fatal event makes it so); ``taken`` and ``refused`` (state, branch)
    are 0/1: the probability of a state is the product of p over the branches taken and 1 - p over those refused.
    ``outer`` and ``settled`` (state, branch) are 0/1: the states among which a branch decides, and those of them in which
    it needs no deciding, because an event within is already as severe.
    """

    events: tuple[Event, ...]
    branches: tuple[Branch, ...]
    grades: NDArray[np.int64]
    taken: NDArray[np.float64]
    refused: NDArray[np.float64]
    outer: NDArray[np.float64]
    settled: NDArray[np.float64]

    @property
    def root(self) -> str:
        return self.events[0].name

    def having(self, event: str, grade: str) -> NDArray[np.bool_]:
        """Which states have an event at a grade (``3-5``, ``4-5`` or ``5``): (state,)."""
        position = [e.name for e in self.events].index(event)
        return self.grades[:, position] >= {"3-5": 3, "4-5": 4, "5": 5}[grade]


def make_families(events: Sequence[Event]) -> tuple[Family, ...]:
    """One family per root event, in the publication's order.

    Raises
    ------
    ValueError
        A family has more states or branches than can be handled (`MOST_STATES`, `MOST_BRANCHES`).
    """
    return tuple(_make_family(root, events) for root in roots(events))


def _make_family(root: Event, events: Sequence[Event]) -> Family:
    members = family_of(root, events)
    states: list[tuple[Grades, Path]] = []
    for occurred, path in _occurrences(root, events, root.name):
        for grades, worse in _severities(root, occurred, events):
            for final, deadly in _fatalities(grades, members):
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
    grades_table = np.array([[grades.get(e.name, 0) for e in members] for grades, _ in states])
    settled = np.zeros_like(taken)
    for k, event in enumerate(members):
        if (branch := _severity_of(event)) in names:
            b = names.index(branch)
            settled[:, b] = (grades_table[:, k] >= 3) & (taken[:, b] + refused[:, b] == 0)
    branches = tuple(Branch(name, _pool(name, root.name)) for name in names)
    return Family(members, branches, grades_table, taken, refused, taken + refused + settled, settled)


def _severity_of(event: Event) -> str:
    return f"{event.name} 4-5"


def _pool(branch: str, root: str) -> str:
    if branch == root:
        return "incidence"
    return "composition" if " in " in branch else "severity"


def _occurrences(event: Event, events: Sequence[Event], branch: str) -> Iterator[tuple[set[str], Path]]:
    """Ways in which an event and those in it occur or not, with the branches that decide it."""
    yield set(), ((branch, False),)
    for inside, path in _contents(event, events):
        yield {event.name} | inside, ((branch, True), *path)


def _contents(event: Event, events: Sequence[Event]) -> Iterator[tuple[set[str], Path]]:
    """What occurs within an event that has occurred."""
    inner = [child for child in children(event, events) if child.relation != "fatal"]
    yield from _siblings(event, inner, events, earlier=set())


def _siblings(
    event: Event, left: Sequence[Event], events: Sequence[Event], earlier: set[str]
) -> Iterator[tuple[set[str], Path]]:
    if not left:
        yield set(), ()
        return
    child, rest = left[0], left[1:]
    for inside, path in _one_sibling(event, child, rest, events, earlier):
        seen = earlier | ({child.name} & inside)
        for others, more in _siblings(event, rest, events, seen):
            yield inside | others, path + more


def _one_sibling(
    event: Event, child: Event, rest: Sequence[Event], events: Sequence[Event], earlier: set[str]
) -> Iterator[tuple[set[str], Path]]:
    """Nested children occur independently given their parent; of a union at least one must, so the last may be certain."""
    branch = f"{child.name} in {event.name}"
    if child.relation == "union":
        if not earlier and not rest:
            yield from (({child.name} | inside, path) for inside, path in _contents(child, events))
            return
        branch = f"{child.name} in {' or '.join(sorted(earlier))}" if earlier else branch
    yield from _occurrences(child, events, branch)


def _severities(event: Event, occurred: set[str], events: Sequence[Event]) -> Iterator[tuple[Grades, Path]]:
    """Grades of an event and of all in it, given which occurred."""
    if event.name not in occurred:
        yield {}, ()
        return
    inner = [child for child in children(event, events) if child.relation != "fatal"]
    united = any(child.relation == "union" for child in inner)
    for grades, path in _joint_severities(inner, occurred, events):
        worst = max((grades.get(child.name, 0) for child in inner), default=0)
        if worst == 4 or united:
            yield grades | {event.name: worst}, path
        else:
            branch = _severity_of(event)
            yield grades | {event.name: 3}, (*path, (branch, False))
            yield grades | {event.name: 4}, (*path, (branch, True))


def _joint_severities(inner: Sequence[Event], occurred: set[str], events: Sequence[Event]) -> Iterator[tuple[Grades, Path]]:
    if not inner:
        yield {}, ()
        return
    for grades, path in _severities(inner[0], occurred, events):
        for others, more in _joint_severities(inner[1:], occurred, events):
            yield grades | others, path + more


def _fatalities(grades: Grades, members: Sequence[Event]) -> Iterator[tuple[Grades, Path]]:
    """Grade 5 of the fatal event's parent, with a branch of its own where an event with published deaths is at 4-5.

    A fatal state has grade 5 for the fatal event, its parent, and every event at 4-5 whose deaths are published.
    """
    fatal = next((e for e in members if e.relation == "fatal"), None)
    if fatal is None or grades.get(str(fatal.parent), 0) < 4:
        yield grades, ()
        return
    deadly = [e.name for e in members if "5" in e.grades and e.name != fatal.parent and grades.get(e.name, 0) == 4]
    branch = f"{fatal.name} with {' and '.join(deadly)} 4-5" if deadly else f"{fatal.name} otherwise"
    yield grades, ((branch, False),)
    yield grades | dict.fromkeys((fatal.name, str(fatal.parent), *deadly), 5), ((branch, True),)
