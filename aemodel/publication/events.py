"""Events and how they nest: who is whose parent, which grades are published, which families they form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise

from msgspec.structs import replace

from aemodel.publication.errors import Faults
from aemodel.publication.grades import (
    HIGHEST,
    NUMBERED,
    class_numbers,
    grade_bounds,
    is_told,
    lowest_grade,
    short_name,
    spelling,
    tiling,
)
from aemodel.publication.records import check_names
from aemodel.publication.schema import Event, Frequency, GradeClass
from aemodel.publication.texts import listed, shown

MOST_NESTED = 20
"""How deep events may lie in one another."""
FILE = "events.csv"


def check_events(events: Sequence[Event], classes: Sequence[GradeClass], faults: Faults) -> None:
    """Whether events are a forest: known parents and grades, no cycle, children of one relation, one fatal event a family.

    Grades are not looked at where it is not known which ``classes`` there are.
    """
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
    for each in classes:
        if re.match("; (it has .*)?write '?[1-5]", meant := spelling(each.name, ())):
            faults.add("publication.toml", f"class {shown(each.name)} would be no range of grades{meant}", key="grades")
    lowest = [(each.name, lowest_grade(each.name)) for each in classes]
    for (outer, first), (inner, second) in combinations(lowest, 2):
        if first is not None and second is not None and first >= second:
            problem = f"{inner!r} stands after {outer!r}, though it does not lie in it"
            faults.add("publication.toml", problem, key="grades", remedy="classes stand outermost first: any, 3-5, 4-5")
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
    """Whether deaths are counted too where all else of a class is: its risks would be anybody's guess.

    And whether they lie in the classes that there are: a class 3-4 is taken for 3 or higher, which holds them.
    """
    deaths = _deaths(events, rows)
    for name in numbers if deaths else ():
        if (found := re.fullmatch(NUMBERED, name)) and found[2] and int(found[2]) < HIGHEST:
            problem = f"class {name!r} would hold the deaths of {deaths[0].event} (frequencies.csv, line {deaths[0].line}) too"
            remedy = f"name the class {found[1]}-{HIGHEST}; rows at {name} and {HIGHEST} are added up to it"
            faults.add("publication.toml", problem, key="grades", remedy=remedy)
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
                    f"add rows at {HIGHEST} (0 if nobody died of it), or deaths_listed = true in publication.toml if "
                    f"the paper lists all deaths, or name {known} in [[grades]] if the paper has no more"
                )
                faults.add("frequencies.csv", problem, line=given[parts[0]], remedy=remedy)
                break


def check_nesting(events: Sequence[Event], rows: Sequence[Frequency], faults: Faults) -> None:
    """No more patients with an event than with the one it lies in, where both are counted alike."""
    found = {row.key: row for row in rows}
    named = {event.name: event for event in events}
    for row in rows:
        parent = named[row.event].parent or ""
        outer = found.get((parent, *row.key[1:]))
        if outer is not None and named[parent].assessed == "all" and row.observed_low > outer.observed_high:
            problem = (
                f"{row.observed_low} patients or more, but {outer.observed_high} at most with {parent} (line {outer.line})"
            )
            remedy = "correct one of them, or the parent in events.csv"
            faults.add("frequencies.csv", problem, line=row.line, key=" ".join(row.key), remedy=remedy)


def with_deaths_listed(
    events: Sequence[Event], rows: Sequence[Frequency], numbers: Mapping[str, int]
) -> tuple[list[Event], list[Frequency]]:
    """Rows of nobody at grade 5 beside those that end at 4.

    Of events of which nobody died, nor of one in them; and where deaths of an event are given by one covariate, at its levels
    without a row.
    """
    dead = _deaths(events, rows)
    names, given, by = {row.event for row in dead}, {row.key for row in dead}, {(row.event, row.covariate) for row in dead}
    spared = {event.name for event in events if not names.intersection(each.name for each in family_of(event, events))}
    added: dict[tuple[str, ...], Frequency] = {}
    for row in rows:
        if row.grade in numbers or grade_bounds(row.grade, numbers)[1] != HIGHEST - 1:
            continue
        made = replace(row, grade=str(HIGHEST), printed="0", unit="count", count="", source="deaths_listed", line=0)
        if made.key not in given and (row.event in spared or (row.event, row.covariate) in by):
            added[made.key] = replace(made, observed_low=0, observed_high=0)
    named = {row.event for row in added.values()}
    return [
        replace(event, grades=tuple(dict.fromkeys([*event.grades, str(HIGHEST)]))) if event.name in named else event
        for event in events
    ], list(added.values())


def _deaths(events: Sequence[Event], rows: Sequence[Frequency]) -> list[Frequency]:
    """Rows of a fatal event, or at grade 5, in the order of events."""
    return [
        row
        for event in events
        for row in rows
        if row.event == event.name and (event.relation == "fatal" or row.grade == str(HIGHEST))
    ]


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


def around(event: str, events: Sequence[Event]) -> Iterator[str]:
    """Names of the events that one lies in, the innermost first."""
    parents = {each.name: each.parent for each in events}
    while (outer := parents[event]) is not None:
        yield outer
        event = outer


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
    if re.search("[,;|]", text := " ".join(event.grades)):
        meant = " ".join(re.split("[ ,;|]+", text))
        faults.add(FILE, f"{named}: grades {shown(text)} must have spaces between: write {meant}", line=event.line)
        return
    for grade in event.grades if numbers else ():
        try:
            grade_bounds(grade, numbers)
        except ValueError as error:
            faults.add(FILE, f"{named}: {error}{spelling(grade, [*numbers]) or own}", line=event.line)
            continue
        vague = [name for name in numbers if lowest_grade(name) is None]
        if vague and grade not in (*numbers, str(HIGHEST)):
            problem = f"{named}: whether grade {grade} is {vague[0]}, a class of the paper's own, is not told"
            faults.add(FILE, problem, line=event.line, remedy=f"choose from {listed([*numbers, str(HIGHEST)])}")


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
