"""Events and how they nest: who is whose parent, which grades are published, which families they form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from aemodel.publication.errors import Faults
from aemodel.publication.grades import HIGHEST, NUMBERED, class_numbers, grade_bounds, is_told, short_name, spelling, tiling
from aemodel.publication.records import check_names
from aemodel.publication.schema import Event, Frequency, GradeClass
from aemodel.publication.texts import listed, shown

MOST_NESTED = 20
"""How deep events may lie in one another."""
FILE = "events.csv"


def check_events(events: Sequence[Event], classes: Sequence[GradeClass], faults: Faults) -> None:
    """Whether events are a forest: known parents and grades, no cycle, children of one relation, one fatal event a family."""
    by_name = {event.name: event for event in events}
    if not events:
        faults.add(FILE, "events must be listed, one a row")
    check_names([event.name for event in events], "event", FILE, "", faults, strict=True)
    before = len(faults)
    for event in events:
        _check_event(event, by_name, class_numbers(classes), faults)
        _check_path(event, by_name, faults)
    if len(faults) > before or len(by_name) < len(events):
        return
    for event in events:
        _check_children(event, events, faults)
    for root in roots(events):
        deadly = [e.name for e in family_of(root, events) if e.relation == "fatal"]
        if len(deadly) > 1:
            problem = f"a family can have one fatal event; under {root.name!r} there are {shown(deadly)}"
            faults.add(FILE, problem, line=root.line)


def check_classes(classes: Sequence[GradeClass], faults: Faults) -> None:
    """Whether classes of grades, and what names of columns have for them, can be told apart."""
    check_names([each.name for each in classes], "grade", "publication.toml", "grades", faults)
    ends = [(each.name, found[2] or HIGHEST) for each in classes if (found := re.fullmatch(NUMBERED, each.name))]
    for (outer, end), (inner, higher) in pairwise(ends):
        if int(higher) > int(end):
            problem = f"{inner!r} does not lie in {outer!r}, and each class must in the one before"
            remedy = f"name the class {outer[0]}-{higher}; rows at single grades and ranges are added up to it"
            faults.add("publication.toml", problem, key="grades", remedy=remedy)
    shorts = [short_name(each.name, each.short) for each in classes]
    remedy = 'give one of these grades another: short = "..."'
    check_names(shorts, "short name", "publication.toml", "grades", faults, strict=True, remedy=remedy)


def check_deaths(
    events: Sequence[Event], rows: Sequence[Frequency], answered: Sequence[str], numbers: Mapping[str, int], faults: Faults
) -> None:
    """Whether deaths are counted too where all else of a class is: its risks would be anybody's guess."""
    for event in events:
        given = {row.grade: row.line for row in rows if row.event == event.name}
        if any(child.relation == "fatal" for child in children(event, events)):
            continue
        for grade in answered:
            parts = tiling(grade, [*given, str(HIGHEST)], numbers)
            if len(parts) > 1 and not is_told(grade, given, numbers):
                problem = f"{event.name} is counted at {' and '.join(parts[:-1])}, but not at {HIGHEST}: {grade} is not told"
                known = f"{parts[0][0]}-{parts[-2][-1]}"
                remedy = (
                    f"add rows at {HIGHEST} (0 if nobody died of it), or name {known} in [[grades]] if the paper has no more"
                )
                faults.add("frequencies.csv", problem, line=given[parts[0]], remedy=remedy)
                break


def published_grades(
    event: Event, rows: Iterable[tuple[str, str]], answered: Sequence[str], numbers: Mapping[str, int]
) -> tuple[str, ...]:
    """Grades at which an event is counted, and answered classes that these tell; ``rows`` are events and grades with rows.

    A fatal event is one and the same at all grades: a row at one speaks for the others.
    """
    given = {grade for name, grade in rows if name == event.name}
    fatal = bool(given) and event.relation == "fatal"
    every = dict.fromkeys([*event.grades, *answered])
    return tuple(grade for grade in every if fatal or is_told(grade, given, numbers))


def roots(events: Sequence[Event]) -> tuple[Event, ...]:
    """Events that lie in no other: each is the top of one family."""
    return tuple(event for event in events if event.parent is None)


def children(event: Event, events: Sequence[Event]) -> tuple[Event, ...]:
    """Events that lie directly in this one, in the publication's order."""
    return tuple(other for other in events if other.parent == event.name)


def family_of(root: Event, events: Sequence[Event]) -> tuple[Event, ...]:
    """The root and everything in it, parents before children."""
    found = [root]
    for event in found:
        found.extend(children(event, events))
    return tuple(found)


def _check_event(event: Event, by_name: Mapping[str, Event], numbers: Mapping[str, int], faults: Faults) -> None:
    named = f"event {event.name!r}"
    if event.parent is not None and event.parent not in by_name:
        known = listed(sorted(by_name))
        faults.add(FILE, f"{named}: parent {shown(event.parent)} is not an event; events are {known}", line=event.line)
    if (event.parent is None) != (event.relation is None):
        faults.add(FILE, f"{named}: relation must be given with a parent, and be empty without", line=event.line)
    if not event.grades or len(set(event.grades)) < len(event.grades):
        faults.add(FILE, f"{named}: grades must be given, each once; found {shown(' '.join(event.grades))}", line=event.line)
    own = "; they have spaces between and none within, as any 3-5, and a paper's own classes are named in [[grades]]"
    for grade in event.grades:
        try:
            grade_bounds(grade, numbers)
        except ValueError as error:
            faults.add(FILE, f"{named}: {error}{spelling(grade, [*numbers]) or own}", line=event.line)


def _check_children(event: Event, events: Sequence[Event], faults: Faults) -> None:
    inside = children(event, events)
    relations = [child.relation for child in inside if child.relation != "fatal"]
    if len(set(relations)) > 1:
        faults.add(FILE, f"the events in {event.name!r} must be all nested or all union", line=event.line)
    if relations == ["union"]:
        problem = f"{event.name!r} is a union of one event only; list the others or make it nested"
        faults.add(FILE, problem, line=event.line)
    if event.relation == "fatal" and inside:
        faults.add(FILE, f"the fatal event {event.name!r} cannot contain events", line=event.line)


def _check_path(event: Event, by_name: Mapping[str, Event], faults: Faults) -> None:
    path = [event.name]
    while (parent := by_name[path[-1]].parent) is not None and parent in by_name:
        path.append(parent)
        if parent == event.name:
            faults.add(FILE, f"the nesting goes in a circle: {' in '.join(path[:8])}", line=event.line)
        elif len(path) > MOST_NESTED:
            faults.add(FILE, f"event {event.name!r} lies more than {MOST_NESTED} deep in others", line=event.line)
        else:
            continue
        return
