"""A publication's labels for the names of its events, covariates and levels. Light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Words:
    """Names in words: a publication's labels where there is one, otherwise the names themselves, made readable."""

    events: Mapping[str, str] = field(default_factory=dict)
    covariates: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[tuple[str, str], str] = field(default_factory=dict)
    grades: Mapping[str, str] = field(default_factory=dict)

    def event(self, name: str) -> str:
        return self.events.get(name) or readable(name)

    def covariate(self, name: str) -> str:
        return self.covariates.get(name) or readable(name)

    def level(self, covariate: str, name: str) -> str:
        if covariate == "total":
            return "All patients"
        names, together = covariate.split("*"), name.split("*")
        if (covariate, name) not in self.levels and len(names) == len(together) > 1:
            return ", ".join(map(self.level, names, together))
        return self.levels.get((covariate, name)) or readable(name)

    def grade(self, name: str) -> str:
        return self.grades.get(name) or (f"Grade {name}" if name[:1].isdigit() else readable(name))


def words_of(labels: Any = None) -> Words:
    """Words from a model or tables; with None, from the names alone.

    Raises
    ------
    TypeError
        ``labels`` is neither.
    """
    if labels is None:
        return Words()
    tables = getattr(labels, "tables", labels)
    if not hasattr(tables, "events") or not hasattr(tables, "covariates"):
        raise TypeError(f"labels: expected a model or tables, not {type(labels).__name__}")
    levels = {(c.name, level.name): level.label for c in tables.covariates for level in c.levels}
    groups = {(c.name, name): label for c in tables.covariates for name, label in c.groups.items()}
    grades = {each.name: each.label for each in tables.classes}
    events, covariates = ({each.name: each.label for each in named} for named in (tables.events, tables.covariates))
    return Words(events, covariates, groups | levels, grades)


def readable(name: str) -> str:
    text = str(name).replace("_", " ")
    return text[:1].upper() + text[1:]
