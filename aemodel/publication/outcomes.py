"""Patients' worst grades to sets of states: which states of each event family agree with what is known of a patient.

Nothing is inferred beside that: an inner event has its states within those of the events around it, so a grade implies
what it must of grades that are not given, and grades that no state has together contradict each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from aemodel.publication.arrays import Bools, Ints
from aemodel.publication.errors import PatientsError, wrong_patients
from aemodel.publication.events import around
from aemodel.publication.families import Family
from aemodel.publication.grades import HIGHEST
from aemodel.publication.schema import Event
from aemodel.publication.texts import shown

UNKNOWN = -1
SHOWN_ROWS = 5


def read_states(frame: nw.DataFrame[Any], families: Sequence[Family]) -> list[tuple[Bools, Ints]]:
    """For each family, the distinct sets of states, (set, state), and the position of each patient's among them, (patient,).

    A column per event, named as the event, holds its worst grade: 0 to 5, of which those below the publication's outermost
    class are none, or null where it is not known; where classes' names tell no grades, as any and serious, the place of the
    worst class among them. An event without a column is known of nobody.

    Raises
    ------
    ValueError
        No outcome is known, a grade is impossible, or grades contradict each other; naming columns, rows and values.
    """
    events = [event for family in families for event in family.events]
    numbers = families[0].numbers
    grades = {event.name: _read_grades(frame, event, numbers) for event in events if event.name in frame.columns}
    if not any((values != UNKNOWN).any() for values in grades.values()):
        names = ", ".join(event.name for event in events)
        raise wrong_patients(f"no outcome is known; give worst grades in columns named as the events: {names}")
    least = min(_levels(family, event.name).min() for family in families for event in family.events)
    if least > 1 and max(values.max() for values in grades.values()) == 1:
        raise wrong_patients(
            "the events' columns hold nothing above 1, as if they said yes or no; give worst grades, 0 to 5 "
            "(if they are that, give 0 for 1)",
        )
    return [_possible_states(family, grades, len(frame)) for family in families]


def shown_rows(rows: Bools) -> str:
    """Which rows of the caller's frame, in words."""
    places = np.flatnonzero(rows)
    more = f" and {len(places) - SHOWN_ROWS} more" if len(places) > SHOWN_ROWS else ""
    return f"row{'s' if len(places) > 1 else ''} {', '.join(map(str, places[:SHOWN_ROWS]))}{more}"


def _read_grades(frame: nw.DataFrame[Any], event: Event, classes: Mapping[str, int]) -> Ints:
    """Worst grades 0 to 5, or `UNKNOWN`, (patient,)."""
    given = pd.Series(frame[event.name].to_list(), dtype=object)
    numbers = given.map(_as_number).astype(float)
    none, highest = min(classes.values()) - 1, max(HIGHEST, *classes.values())
    named = [f"{number} is {name}" for name, number in classes.items() if not name[0].isdigit()]
    told = {0: "0 counts", 1: "0 and 1 count", 2: "0, 1 and 2 count"}.get(none, f"0 to {none} count") + " as none"
    allowed, words = [*range(highest + 1)], f"a whole number from 0 to {highest} ({', '.join([told, *named])})"
    if event.relation == "fatal":
        allowed, words = [0, 5], "5, or 0 for none"
    if (wrong := given.notna() & ~numbers.isin(allowed)).any():
        values = ", ".join(map(shown, given[wrong].unique()[:SHOWN_ROWS]))
        raise wrong_patients(
            f"column {event.name!r}: impossible grade {values} ({shown_rows(wrong.to_numpy())}); allowed: {words}, "
            "or null where it is not known",
            rows=np.flatnonzero(wrong).tolist(),
        )
    return numbers.fillna(UNKNOWN).to_numpy(dtype=np.int64)


def _as_number(value: Any) -> float:
    """NaN for what is none; True and False are none, or they would be grades 1 and 0."""
    try:
        return math.nan if isinstance(value, (bool, np.bool_)) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _possible_states(family: Family, grades: Mapping[str, Ints], patients: int) -> tuple[Bools, Ints]:
    """Distinct sets of states that agree with patients' grades, (pattern, state), and each patient's, (patient,)."""
    names = [event.name for event in family.events if event.name in grades]
    given = np.stack([grades[name] for name in names], axis=1) if names else np.empty((patients, 0), dtype=np.int64)
    patterns, pattern = np.unique(given, axis=0, return_inverse=True)
    parts = {
        name: np.array([_states_at(family, name, grade) for grade in range(UNKNOWN, patterns.max() + 1)])[
            patterns[:, k] - UNKNOWN
        ]
        for k, name in enumerate(names)
    }
    possible = np.logical_and.reduce([np.ones((len(patterns), len(family.grades)), dtype=bool), *parts.values()])
    for inner, outer in _nested(family, names):
        i, o = patterns[:, names.index(inner)], patterns[:, names.index(outer)]
        # Whether one grade is above the other is not always told by their states.
        higher = (i > o) & (o != UNKNOWN) & (i >= _levels(family, inner).min())
        possible[higher & ~((i == HIGHEST) & (_levels(family, inner) == HIGHEST).any())] = False
    if not possible.any(axis=1).all():
        first = int(np.flatnonzero(~possible.any(axis=1))[0])
        raise _contradiction({name: part[first] for name, part in parts.items()}, patterns[first], given)
    states, inverse = np.unique(possible, axis=0, return_inverse=True)
    return states, inverse[pattern]


def _states_at(family: Family, name: str, grade: int) -> Bools:
    """States that agree with an event's worst grade, (state,).

    A grade is of the class that it reaches. States tell grade 5 apart only where deaths are published. Elsewhere it is in
    the highest class, and takes the event around it to grade 5 too. Whoever died with an event in the highest class, whose
    deaths are published, is counted as dead of it, whatever grade is given.
    """
    position = {event.name: k for k, event in enumerate(family.events)}
    here, column, levels = family.events[position[name]], family.grades[:, position[name]], _levels(family, name)
    if grade == UNKNOWN:
        return np.ones(len(column), dtype=bool)
    if grade < levels.min():
        return np.asarray(column == 0)
    reached = levels[levels <= grade].max()
    if grade == HIGHEST and reached < HIGHEST and here.parent is not None:
        return np.asarray(column == reached) & _states_at(family, here.parent, grade)
    dying = [event.parent for event in family.events if event.relation == "fatal"]
    inside = here.relation != "fatal" and any(inner == name and outer in dying for inner, outer in _nested(family, [*position]))
    highest = levels[levels < HIGHEST].max(initial=0)
    return np.asarray(column >= reached if inside and reached == highest else column == reached)


def _levels(family: Family, name: str) -> Ints:
    """Lowest grades of the classes that an event's states are told apart by, ascending."""
    column = family.grades[:, [event.name for event in family.events].index(name)]
    return np.unique(column[column > 0])


def _nested(family: Family, names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs among some events of one that lies in the other, however deep."""
    return [(name, outer) for name in names for outer in around(name, family.events) if outer in names]


def _contradiction(states: Mapping[str, Bools], grades: Ints, given: Ints) -> PatientsError:
    """Which columns contradict each other, two if possible, and in which rows."""
    known = [(k, name) for k, name in enumerate(states) if grades[k] != UNKNOWN]
    pairs = [pair for pair in combinations(known, 2) if not (states[pair[0][1]] & states[pair[1][1]]).any()]
    chosen = pairs[0] if pairs else tuple(known)
    rows = np.all([given[:, k] == grades[k] for k, _ in chosen], axis=0)
    values = " with ".join(f"{name} {grades[k]}" for k, name in chosen)
    problem = (
        f"{shown_rows(rows)}: {values} cannot be: an event in another occurs only with it, at no higher a grade; "
        "a union has the highest grade of its parts; a fatal event is grade 5 of what it lies in"
    )
    return wrong_patients(problem, rows=np.flatnonzero(rows).tolist())
