"""Events and how they nest: who is whose parent, which grades are published, which families they form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aemodel.publication.texts import check_names, listed, shown

GRADES = ("3-5", "4-5")
"""The two thresholds every risk is given for: grade 3 or higher, and grade 4 or higher."""

RELATIONS = ("nested", "union", "fatal")
MOST_NESTED = 20
"""How deep events may lie in one another."""


@dataclass(frozen=True)
class Event:
    """One tabulated event.

    ``relation`` says how it lies in its ``parent``: ``nested`` (only who has the parent event can have this one, at no
    higher a grade), ``union`` (the parent is having any of its union children, at the highest of their grades), or
    ``fatal`` (this event is the parent at grade 5). ``grades`` are those it may have frequencies at: see `published_grades`.
    """

    name: str
    label: str
    parent: str | None
    relation: str | None
    grades: tuple[str, ...]


def read_events(rows: Sequence[Mapping[str, str]], where: str) -> tuple[Event, ...]:
    """Events from the rows of a publication's event file, checked as a forest.

    Raises
    ------
    ValueError
        A name twice, an unknown parent or relation or grade, a cycle, children of mixed relations, a fatal event with
        children, or two fatal events in one family.
    """
    events = tuple(
        Event(r["event"], r["label"], r["parent"] or None, r["relation"] or None, tuple(r["grades"].split())) for r in rows
    )
    by_name = {event.name: event for event in events}
    if not events or len(by_name) < len(events):
        raise ValueError(f"{where}: events must be listed, each once; found {shown([event.name for event in events])}")
    check_names(by_name, "event", where, strict=True)
    for event in events:
        _check_event(event, by_name, where)
    for event in events:
        _check_children(event, events, where)
        _check_path(event, by_name, where)
    for root in roots(events):
        deadly = [e.name for e in family_of(root, events) if e.relation == "fatal"]
        if len(deadly) > 1:
            raise ValueError(f"{where}: a family can have one fatal event; under {root.name!r} there are {shown(deadly)}")
    return events


def published_grades(event: Event, rows: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Those of an event's grades at which it has a frequency; ``rows`` are events and grades of `frequencies.csv`.

    A fatal event is one and the same at all its grades: a row at one speaks for the others.
    """
    given = {grade for name, grade in rows if name == event.name}
    return tuple(grade for grade in event.grades if grade in given or (given and event.relation == "fatal"))


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


def _check_event(event: Event, by_name: Mapping[str, Event], where: str) -> None:
    row = f"{where}, event {event.name!r}"
    if event.parent is not None and event.parent not in by_name:
        raise ValueError(f"{row}: parent {shown(event.parent)} is not an event; events are {listed(sorted(by_name))}")
    if (event.parent is None) != (event.relation is None) or event.relation not in (None, *RELATIONS):
        raise ValueError(f"{row}: relation {shown(event.relation)} must be one of {RELATIONS} with a parent, and empty without")
    if not event.grades or set(event.grades) - {*GRADES, "5"} or len(set(event.grades)) < len(event.grades):
        raise ValueError(f"{row}: grades must be some of 3-5, 4-5 and 5, each once; found {shown(' '.join(event.grades))}")


def _check_children(event: Event, events: Sequence[Event], where: str) -> None:
    inside = children(event, events)
    relations = {child.relation for child in inside} - {"fatal"}
    if len(relations) > 1:
        raise ValueError(f"{where}: the events in {event.name!r} must be all nested or all union")
    if relations == {"union"} and sum(child.relation == "union" for child in inside) < 2:
        raise ValueError(f"{where}: {event.name!r} is a union of one event only; list the others or make it nested")
    if event.relation == "fatal" and inside:
        raise ValueError(f"{where}: the fatal event {event.name!r} cannot contain events")


def _check_path(event: Event, by_name: Mapping[str, Event], where: str) -> None:
    path = [event.name]
    while (parent := by_name[path[-1]].parent) is not None:
        path.append(parent)
        if parent == event.name or len(path) > len(by_name):
            raise ValueError(f"{where}: the nesting goes in a circle: {' in '.join(path[:8])}")
        if len(path) > MOST_NESTED:
            raise ValueError(f"{where}: event {event.name!r} lies more than {MOST_NESTED} deep in others")
