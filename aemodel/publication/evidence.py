"""What a publication says in words, or by silence: tests that were not significant, and orderings of groups.

Both are declared in `publication.toml`. A null is one test of an event at a grade between levels of a covariate that was
reported as not significant, or, where every listed pair had a significant test, was not listed; with groups of levels
it is two such tests. An ordering says which groups had the higher rates, and whether that difference was significant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from aemodel.publication.events import GRADES, Event, published_grades
from aemodel.publication.rules import Covariate
from aemodel.publication.texts import listed, shown

FEWEST = 10
"""Patients with an event below which its test says nothing that a normal approximation could tell."""

Tiers = tuple[tuple[str, ...], ...]


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


def read_orderings(about: Mapping[str, Any], events: Sequence[Event], covariates: Sequence[Covariate]) -> tuple[Ordering, ...]:
    """The ``orderings`` of a publication.

    Raises
    ------
    ValueError
        An entry names an event, covariate, level or grade that there is not, or a group twice.
    """
    return tuple(_read_ordering(item, events, {c.name: c for c in covariates}) for item in about.get("orderings", []))


def read_nulls(
    about: Mapping[str, Any], events: Sequence[Event], covariates: Sequence[Covariate], frequencies: pd.DataFrame
) -> tuple[Null, ...]:
    """The ``nulls`` of a publication: one for each event, grade and covariate, stated ones first.

    Tests of events that fewer than `FEWEST` patients had are left out.

    Raises
    ------
    ValueError
        An entry names an event, covariate or level that there is not.
    """
    named = {c.name: c for c in covariates}
    with_rows = set(zip(frequencies["event"], frequencies["covariate"], strict=True))
    with_rows |= {(item.get("event"), item.get("covariate")) for item in about.get("orderings", [])}
    rows = list(zip(frequencies["event"], frequencies["grade"], strict=True))
    published = {event.name: published_grades(event, rows) for event in events}
    found: dict[tuple[str, str, str], Null] = {}
    for item in sorted(about.get("nulls", []), key=lambda item: item.get("unlisted", False)):
        for null in _read_null(item, events, named, with_rows):
            # What was counted at a grade nowhere, the list of those tested says nothing of.
            told = null.stated or null.grade in published[null.event]
            if told and _number(frequencies, null.event, null.grade) >= FEWEST:
                found.setdefault((null.event, null.grade, null.covariate), null)
    return tuple(found.values())


def _read_ordering(item: Mapping[str, Any], events: Sequence[Event], covariates: Mapping[str, Covariate]) -> Ordering:
    where = "publication.toml, orderings"
    event = _known(item["event"], [e.name for e in events], "event", where)
    covariate = covariates[_known(item["covariate"], list(covariates), "covariate", where)]
    tiers = {grade: tuple(tuple(tier) for tier in rows) for grade, rows in item["tiers"].items()}
    for grade, rows in tiers.items():
        _known(grade, list(GRADES), "grade", where)
        names = [_known(name, list(covariate.names), f"level of {covariate.name}", where) for tier in rows for name in tier]
        if len(rows) < 2 or not all(rows) or len(set(names)) < len(names):
            raise ValueError(f"{where}: tiers of grade {grade} must be two or more, with each level once; found {shown(rows)}")
    if not tiers or len({frozenset(name for tier in rows for name in tier) for rows in tiers.values()}) > 1:
        raise ValueError(f"{where}: tiers must be given for one or both grades, over the same levels; found {shown(tiers)}")
    within = _read_within(item["within"], covariate, covariates, where) if "within" in item else None
    ordered = {grade: tiers[grade] for grade in GRADES if grade in tiers}
    return Ordering(event, covariate.name, ordered, within, _alpha(item, where), item.get("source", ""))


def _read_within(
    value: Mapping[str, str], ordered: Covariate, covariates: Mapping[str, Covariate], where: str
) -> tuple[str, str]:
    if len(value) != 1 or ordered.name in value:
        raise ValueError(
            f'{where}: within must be one other covariate and its level, as {{ arm = "high" }}; found {shown(value)}'
        )
    ((name, level),) = value.items()
    if not covariates[_known(name, list(covariates), "covariate", where)].members(level):
        raise ValueError(f"{where}: {shown(level)} is neither a level nor a group of {name}")
    return name, level


def _read_null(
    item: Mapping[str, Any], events: Sequence[Event], covariates: Mapping[str, Covariate], with_rows: set[tuple[str, str]]
) -> Iterator[Null]:
    """Nulls of the events named, or, of those a list was drawn from (all, if none is named), of pairs not on it."""
    where = "publication.toml, nulls"
    unlisted = item.get("unlisted", False)
    wanted = [_known(name, [e.name for e in events], "event", where) for name in item.get("events", [])]
    if not wanted and not unlisted:
        raise ValueError(f"{where}: give events, or unlisted = true for those without a row in frequencies.csv, or both")
    among = item.get("among", {})
    for name, named in among.items():
        _known(name, list(covariates), "covariate", where)
        if len(set(named)) < max(2, len(named)):
            raise ValueError(f"{where}: among must name two or more levels of {name}, each once; found {shown(named)}")
    for name in item.get("covariates", covariates):
        covariate = covariates[_known(name, list(covariates), "covariate", where)]
        levels = tuple(
            _known(level, list(covariate.names), f"level of {name}", where) for level in among.get(name, covariate.names)
        )
        groups = _groups(covariate, levels, where) if name in item.get("also_groups", []) else ()
        for event in events:
            if (wanted and event.name not in wanted) or (unlisted and (event.name, name) in with_rows):
                continue
            # A fatal event is one and the same at both grades.
            for grade in event.grades[:1] if event.relation == "fatal" else event.grades:
                if grade in GRADES:
                    alpha = _alpha(item, where) or 0.05
                    yield Null(event.name, grade, name, levels, alpha, not unlisted, item.get("source", ""), groups)


def _groups(covariate: Covariate, levels: tuple[str, ...], where: str) -> tuple[tuple[int, ...], ...]:
    """Positions in ``levels`` of those of each of the covariate's groups."""
    found = [[i for i, level in enumerate(levels) if level in _names(covariate, group)] for group in covariate.groups]
    if not 2 <= sum(bool(each) for each in found) < len(levels):
        raise ValueError(f"{where}: also_groups names {covariate.name!r}, whose compared levels are not in two or more groups")
    return tuple(tuple(each) for each in found if each)


def _names(covariate: Covariate, group: str) -> list[str]:
    return [covariate.names[i] for i in covariate.members(group)]


def _number(frequencies: pd.DataFrame, event: str, grade: str) -> float:
    """Patients who had the event, if any margin tells."""
    rows = frequencies[
        (frequencies["event"] == event) & (frequencies["grade"] == grade) & (frequencies["covariate"] == "total")
    ]
    return float(rows["observed"].iloc[0]) if len(rows) else float("inf")


def _alpha(item: Mapping[str, Any], where: str) -> float | None:
    alpha = item.get("alpha")
    if alpha is not None and not 0 < alpha < 1:
        raise ValueError(f"{where}: alpha must be a probability such as 0.05, not {shown(alpha)}")
    return alpha


def _known(name: Any, names: Sequence[str], what: str, where: str) -> str:
    if name not in names:
        raise ValueError(f"{where}: {what} {shown(name)} is unknown; choose from {listed(names)}")
    return str(name)
