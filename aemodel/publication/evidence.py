"""What a publication says in words, or by silence: tests that were not significant, and orderings of groups.

Both are declared in `publication.toml`. A null is one test of an event at a grade between levels of a covariate that was
reported as not significant, or, where every listed pair had a significant test, was not listed; with groups of levels
it is two such tests. An ordering says which groups had the higher rates, and whether that difference was significant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from aemodel.publication.cutoffs import level_sizes
from aemodel.publication.errors import Faults
from aemodel.publication.events import published_grades
from aemodel.publication.grades import GRADES_BY_DEFAULT, answered_classes, class_numbers
from aemodel.publication.rules import FILE
from aemodel.publication.schema import About, CohortCount, Covariate, Event, Frequency, NullClaim, OrderingClaim, Tiers
from aemodel.publication.texts import listed, shown

FEWEST = 10
"""Patients with an event below which its test says nothing that a normal approximation could tell."""


@dataclass(frozen=True)
class Null:
    """A test between ``levels`` of a covariate that was not significant at ``alpha``.

    ``stated`` if the publication says so, otherwise the pair was not listed. With ``groups`` (positions in ``levels``) two
    tests are meant, neither of which was significant: that between the levels and one between these groups of them.
    """

    event: str
    grade: str
    covariate: str
    levels: tuple[str, ...]
    alpha: float
    stated: bool
    source: str
    groups: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Ordering:
    """Groups in order of their observed rates of an event, highest tier first, for each grade.

    Among the patients in the level (or group of levels) ``within`` of another covariate, if given. ``alpha`` is the level
    at which each grade's chi-square test between the groups was significant, or None if that was not said.
    """

    event: str
    covariate: str
    tiers: Mapping[str, Tiers]
    within: tuple[str, str] | None
    alpha: float | None
    source: str

    @property
    def groups(self) -> tuple[str, ...]:
        """All groups that take part, in the order of the first grade."""
        return tuple(name for tier in next(iter(self.tiers.values())) for name in tier)


def read_orderings(about: About, events: Sequence[Event], faults: Faults) -> tuple[Ordering, ...]:
    """The ``orderings`` of a publication; a fault where one names an event, covariate, level or grade that there is not."""
    reader = _Reader(about, events, faults)
    every = [reader.ordering(item, f"orderings[{i}]") for i, item in enumerate(about.orderings, start=1)]
    return tuple(item for item in every if item is not None)


def read_nulls(
    about: About, events: Sequence[Event], rows: Sequence[Frequency], counts: Sequence[CohortCount], faults: Faults
) -> tuple[Null, ...]:
    """The ``nulls`` of a publication: one for each event, grade and covariate, stated ones first.

    Tests of events that fewer than `FEWEST` patients had are left out, and levels with nobody in them. ``unlisted`` says
    nothing of a table that was not chosen by significance, which is a fault.
    """
    reader = _Reader(about, events, faults)
    with_rows = {(row.event, row.covariate) for row in rows} | {(item.event, item.covariate) for item in about.orderings}
    given = [(row.event, row.grade) for row in rows]
    published = {event.name: published_grades(event, given, reader.grades, reader.numbers) for event in events}
    numbers = {(row.event, row.grade): row.observed_high for row in rows if row.covariate == "total"}
    sizes = {c.name: level_sizes(c.name, rows, about, counts) for c in about.covariates}
    found: dict[tuple[str, str, str], Null] = {}
    for i, item in sorted(enumerate(about.nulls, start=1), key=lambda each: each[1].unlisted):
        for null in reader.nulls(item, f"nulls[{i}]", with_rows, sizes):
            # What was counted at a grade nowhere, the list of those tested says nothing of.
            told = null.stated or null.grade in published[null.event]
            if told and numbers.get((null.event, null.grade), FEWEST) >= FEWEST:
                found.setdefault((null.event, null.grade, null.covariate), null)
    return tuple(found.values())


class _Reader:
    """Claims checked against the publication's own names."""

    def __init__(self, about: About, events: Sequence[Event], faults: Faults) -> None:
        self.events, self.covariates, self.faults = events, {c.name: c for c in about.covariates}, faults
        self.chosen, classes = about.chosen, about.grades or GRADES_BY_DEFAULT
        self.grades, self.numbers = answered_classes(events, classes), class_numbers(classes)

    def ordering(self, item: OrderingClaim, key: str) -> Ordering | None:
        before = len(self.faults)
        self.known([item.event], [event.name for event in self.events], "event", key)
        self.known(item.tiers, self.grades, "grade", key)
        if not self.known([item.covariate], self.covariates, "covariate", key):
            return None
        covariate = self.covariates[item.covariate]
        for grade, tiers in item.tiers.items():
            names = [name for tier in tiers for name in tier]
            self.known(names, covariate.names, f"level of {covariate.name}", key)
            if len(tiers) < 2 or not all(tiers) or len(set(names)) < len(names):
                self.wrong(f"tiers of grade {grade} must be two or more, with each level once; found {shown(tiers)}", key)
        if len({frozenset(name for tier in tiers for name in tier) for tiers in item.tiers.values()}) != 1:
            self.wrong(f"tiers must be given for one or both grades, over the same levels; found {shown(item.tiers)}", key)
        within = self.within(item.within, covariate, key) if item.within is not None else None
        if len(self.faults) > before:
            return None
        ordered = {grade: item.tiers[grade] for grade in self.grades if grade in item.tiers}
        return Ordering(item.event, covariate.name, ordered, within, item.alpha, item.source)

    def within(self, value: Mapping[str, str], ordered: Covariate, key: str) -> tuple[str, str] | None:
        if len(value) != 1 or ordered.name in value:
            self.wrong(f'within must be one other covariate and its level, as {{ arm = "high" }}; found {shown(value)}', key)
            return None
        ((name, level),) = value.items()
        if self.known([name], self.covariates, "covariate", key) and not self.covariates[name].members(level):
            self.wrong(f"{shown(level)} is neither a level nor a group of {name}", key)
        return name, level

    def nulls(
        self,
        item: NullClaim,
        key: str,
        with_rows: Collection[tuple[str, str]],
        sizes: Mapping[str, Mapping[str, int]],
    ) -> Iterator[Null]:
        """Nulls of the events named, or, of those a list was drawn from (all, if none is named), of pairs not on it."""
        before = len(self.faults)
        self.known(item.events, [event.name for event in self.events], "event", key)
        if not item.events and not item.unlisted:
            self.wrong("give events, or unlisted = true for those without a row in frequencies.csv, or both", key)
        if item.unlisted and self.chosen not in (None, "significance"):
            how = {"frequency": "by frequency", "all": "not at all: it has all rows"}[str(self.chosen)]
            problem = f"unlisted = true says that what is not listed was not significant, but the table was chosen {how}"
            self.wrong(problem, key, "leave unlisted out, or correct chosen")
        for name, named in item.among.items():
            if self.known([name], self.covariates, "covariate", key):
                self.known(named, self.covariates[name].names, f"level of {name}", key)
            if len(set(named)) < max(2, len(named)):
                self.wrong(f"among must name two or more levels of {name}, each once; found {shown(named)}", key)
        wanted = [*self.covariates] if item.covariates is None else item.covariates
        if not self.known(wanted, self.covariates, "covariate", key) or len(self.faults) > before:
            return
        for name in wanted:
            covariate = self.covariates[name]
            levels = tuple(level for level in item.among.get(name, covariate.known) if sizes[name].get(level) != 0)
            if len(levels) < 2:
                continue
            groups = self.groups(covariate, levels, key) if name in item.also_groups else ()
            for event in self.events:
                if (item.events and event.name not in item.events) or (item.unlisted and (event.name, name) in with_rows):
                    continue
                # A fatal event is one and the same at both grades.
                for grade in event.grades[:1] if event.relation == "fatal" else event.grades:
                    if grade in self.grades:
                        yield Null(event.name, grade, name, levels, item.alpha, not item.unlisted, item.source, groups)

    def groups(self, covariate: Covariate, levels: Sequence[str], key: str) -> tuple[tuple[int, ...], ...]:
        """Positions in ``levels`` of those of each of the covariate's groups."""
        group_of = {level.name: level.group for level in covariate.levels}
        found = [tuple(i for i, level in enumerate(levels) if group_of[level] == group) for group in covariate.groups]
        if not 2 <= sum(map(bool, found)) < len(levels):
            self.wrong(f"also_groups names {covariate.name!r}, whose compared levels are not in two or more groups", key)
        return tuple(filter(None, found))

    def known(self, names: Collection[str], allowed: Collection[str], what: str, key: str) -> bool:
        unknown = [name for name in names if name not in allowed]
        for name in unknown:
            self.wrong(f"{what} {shown(name)} is unknown; choose from {listed(allowed)}", key)
        return not unknown

    def wrong(self, problem: str, key: str, remedy: str = "") -> None:
        self.faults.add(FILE, problem, key=key, remedy=remedy)
