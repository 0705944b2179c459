"""What a publication leaves out because it was rare: counts that lie below a declared cutoff, as intervals. Light.

By the rule ``every`` each row was printed only from the cutoff on: rows that are absent lie below it. By ``any_level`` an
event was printed at all levels if it reached the cutoff at any: an absent one lies below at each. Events that are declared
and absent complete the list; where none is, the list has those only that reached the cutoff, and each of them is taken
given that it did (truncation); that one of several cutoffs was enough is no sum of such terms, and is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import ceil
from typing import NamedTuple

from aemodel.publication.errors import Faults
from aemodel.publication.frequencies import complete_sets
from aemodel.publication.rules import TOTAL, places
from aemodel.publication.schema import About, CohortCount, Cutoff, Event, Frequency
from aemodel.publication.texts import listed, shown

FILE = "publication.toml"
Key = tuple[str, str, str]


class Unseen(NamedTuple):
    """What is known not to be so, of an event in the table because of it: at most ``high`` patients at each of some levels."""

    event: str
    grade: str
    covariate: str
    levels: tuple[tuple[str, int], ...]


def read_cutoffs(
    rows: Sequence[Frequency], events: Sequence[Event], about: About, counts: Sequence[CohortCount], faults: Faults
) -> tuple[list[Frequency], tuple[Unseen, ...]]:
    """Rows of what lies below a cutoff, and what listed events are known not to be."""
    added: list[Frequency] = []
    unseen: list[Unseen] = []
    for i, cutoff in enumerate(about.cutoffs, start=1):
        key, before = f"cutoffs[{i}]", len(faults)
        _check(cutoff, events, about, key, faults)
        if len(faults) > before:
            continue
        given: dict[Key, set[str]] = {}
        for row in rows:
            given.setdefault((row.event, row.grade, row.covariate), set()).add(row.level)
        wanted = [each for each in _wanted(cutoff, events, given) if each in given or not _is_summed(each, rows, about)]
        sizes = {covariate: level_sizes(covariate, rows, about, counts) for _, _, covariate in wanted}
        for covariate, found in sizes.items():
            if not found:
                problem = f"how many patients the levels of {covariate} have is not told"
                faults.add(FILE, problem, key=key, remedy="count them in cohort.csv")
        absent = [each for each in wanted if each not in given]
        for event, grade, covariate in wanted:
            below = [(level, n, _most(cutoff, n)) for level, n in sizes[covariate].items() if _most(cutoff, n) < n]
            there = given.get((event, grade, covariate), set())
            mine = [row for row in rows if row.key[:3] == (event, grade, covariate) and row.n]
            low = [row for row in mine if row.observed_high <= _most(cutoff, row.n)]
            if low and (cutoff.rule == "every" or len(low) == len(mine)):
                what = f"{low[0].level} lies below it" if cutoff.rule == "every" else "none of its levels reaches it"
                problem = f"{event} {grade} by {covariate} is in the table, though {what}"
                remedy = "name in events, and as grade, what it selected, or leave it out if rows were chosen in other ways too"
                faults.add(FILE, problem, key=key, remedy=remedy)
                continue
            if cutoff.rule == "every" or not there:
                printed, said = f"<{cutoff.below:g}", f"below a cutoff: {cutoff.source}"
                added += [
                    Frequency(event, grade, covariate, level, n, printed, cutoff.unit, "", False, said, 0, 0, high)
                    for level, n, high in below
                    if level not in there
                ]
            elif not absent:
                unseen.append(Unseen(event, grade, covariate, tuple((level, high) for level, _, high in below)))
    places = Counter(each.event for each in unseen)
    if several := [event for event in places if places[event] > 1]:
        problem = f"{listed(several)}: of cutoffs at several grades or covariates it cannot be said that one was enough"
        remedy = (
            "keep the one that most rows reach, with its grade and covariate, and say in notes that it is an approximation; "
            "or name, in events.csv and in each cutoff, events that were left out"
        )
        faults.add(FILE, problem, key="cutoffs", remedy=remedy)
    return added, tuple(unseen)


def _check(cutoff: Cutoff, events: Sequence[Event], about: About, key: str, faults: Faults) -> None:
    known = {
        "event": (cutoff.events, [event.name for event in events]),
        "covariate": ((cutoff.covariate,) if cutoff.covariate else (), [*(c.name for c in about.covariates), "total"]),
        "grade": ((cutoff.grade,) if cutoff.grade else (), list(dict.fromkeys(g for event in events for g in event.grades))),
    }
    for what, (names, allowed) in known.items():
        for name in names:
            if name not in allowed:
                faults.add(FILE, f"{what} {shown(name)} is unknown; choose from {listed(allowed)}", key=key)
    if cutoff.below <= 0 or (cutoff.unit == "percent" and cutoff.below > 100):
        faults.add(FILE, f"below {cutoff.below:g} {cutoff.unit} leaves nothing out, or everything", key=key)


def _wanted(cutoff: Cutoff, events: Sequence[Event], given: dict[Key, set[str]]) -> Iterator[Key]:
    """Events, grades and covariates that would have been printed; without a covariate, those some of these events have."""
    mine = [
        event for event in events if event.name in (cutoff.events or [e.name for e in events]) and event.relation != "fatal"
    ]
    names = {event.name for event in mine}
    by = [cutoff.covariate] if cutoff.covariate else list(dict.fromkeys(c for e, _, c in given if e in names))
    for event in mine:
        for grade in event.grades:
            if cutoff.grade in ("", grade):
                yield from ((event.name, grade, covariate) for covariate in by)


def _is_summed(place: Key, rows: Sequence[Frequency], about: About) -> bool:
    """Whether a total without a row is the sum of what is printed of the levels."""
    mine = [row for row in rows if row.key[:2] == place[:2]]
    return place[2] == TOTAL[0] and any(covariate != TOTAL[0] for covariate, _ in complete_sets(mine, about.covariates))


def level_sizes(covariate: str, rows: Sequence[Frequency], about: About, counts: Sequence[CohortCount]) -> dict[str, int]:
    """Patients of each of a covariate's levels, by the cohort's counts of it, or by denominators."""
    if covariate == TOTAL[0]:
        return {TOTAL[1]: about.patients}
    levels = next(c.levels for c in about.covariates if c.name == covariate)
    tables: dict[tuple[str, str], dict[str, int]] = {}
    for row in counts:
        for name, fine in places(about.covariates, row):
            if name == covariate:
                found = tables.setdefault((row.covariate, row.by), {})
                for level in levels:
                    if set(fine) <= set(level.cohort):
                        found[level.name] = found.get(level.name, 0) + row.n
    whole = [found for found in tables.values() if sum(found.values()) == about.patients]
    told = {row.level: row.n for row in rows if row.covariate == covariate}
    if not whole and {level.name for level in levels} <= set(told):
        whole = [{level.name: told[level.name] for level in levels}]
    return whole[0] if whole else {}


def _most(cutoff: Cutoff, n: int) -> int:
    """The highest count of ``n`` that lies below."""
    return max(ceil(cutoff.below * n / 100 - 1e-9 if cutoff.unit == "percent" else cutoff.below) - 1, 0)
