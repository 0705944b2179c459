"""Raw patient values to covariate levels: a publication's rules. `profiles` has any dataframe engine apply them.

A rule says which levels of a covariate a patient can still have. It is kept as a set of levels, written as the bits of
an integer: one bit is a known level, all bits a missing one, some bits a partly known one (relapse site without
months), no bit an impossible value. One further bit, above the levels, stands for a new level of an open covariate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from aemodel.publication.texts import check_names, listed, shown

MOST_LEVELS = 60
"""Of one covariate: sets of them are bits of an integer."""
MOST_CELLS = 10_000
"""Combinations of levels, new ones included: each has a thousand draws of every risk."""


@dataclass(frozen=True)
class Condition:
    """One comparison on a raw column: equal to ``equals``, or in ``[minimum, below)``."""

    column: str
    equals: str | None = None
    minimum: float = -math.inf
    below: float = math.inf

    @property
    def numeric(self) -> bool:
        return self.equals is None

    def describe(self) -> str:
        if not self.numeric:
            return str(self.equals)
        upper = "" if math.isinf(self.below) else f" and below {self.below:g}"
        return f"at least {self.minimum:g}{upper}"

    def meets(self, other: Condition) -> bool:
        """Whether some value meets both of two conditions on one column."""
        if not self.numeric or not other.numeric:
            return self.equals == other.equals
        return max(self.minimum, other.minimum) < min(self.below, other.below)

    def holds(self, value: str | float) -> bool:
        """Whether one value meets it; an infinite one meets none, however wide."""
        if isinstance(value, str):
            return value == self.equals
        return self.numeric and math.isfinite(value) and self.minimum <= value < self.below


@dataclass(frozen=True)
class Level:
    """One level of a covariate: its name, label in words, group (or None), conditions and the cohort's finer levels."""

    name: str
    label: str
    group: str | None
    when: tuple[Condition, ...]
    cohort: tuple[str, ...]


@dataclass(frozen=True)
class Covariate:
    """A set of levels, in their order if ``ordered``; ``open`` covariates may meet a new level in new patients."""

    name: str
    label: str
    open: bool
    levels: tuple[Level, ...]
    groups: Mapping[str, str]
    ordered: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(level.name for level in self.levels)

    @property
    def raw_columns(self) -> tuple[str, ...]:
        """Columns from which the level can be worked out; empty where only the level itself can be given."""
        return tuple(dict.fromkeys(condition.column for level in self.levels for condition in level.when))

    @property
    def everything(self) -> int:
        """The set of all published levels: what is known of a patient whose value is missing."""
        return (1 << len(self.levels)) - 1

    @property
    def new(self) -> int:
        """The set that holds only the level the publication does not have."""
        return 1 << len(self.levels)

    def members(self, name: str) -> tuple[int, ...]:
        """Positions of the levels that ``name``, a level or a group of levels, stands for; empty if it is neither."""
        return tuple(i for i, level in enumerate(self.levels) if name in (level.name, level.group))


def read_covariates(items: Sequence[Mapping[str, Any]], where: str) -> tuple[Covariate, ...]:
    """Covariates from the ``covariates`` list of a publication or a manifest; ``where`` names the file in errors."""
    covariates = tuple(_read_covariate(item, where) for item in items)
    names = [covariate.name for covariate in covariates]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{where}: covariates must be listed, each once; found {shown(names)}")
    check_names(names, "covariate", where)
    if "total" in names:
        raise ValueError(f"{where}: covariate 'total' stands for the whole cohort in frequencies.csv; rename it")
    model = math.prod(len(c.levels) + c.open for c in covariates)
    fine = math.prod(sum(len(level.cohort) for level in c.levels) for c in covariates)
    if (cells := max(model, fine)) > MOST_CELLS:
        raise ValueError(
            f"{where}: the levels of {len(names)} covariates have {cells:.3g} combinations, at most {MOST_CELLS:,} can be "
            "handled; leave out covariates, or join levels"
        )
    return covariates


def _read_covariate(item: Mapping[str, Any], where: str) -> Covariate:
    levels = tuple(_read_level(level, where) for level in item["levels"])
    kind = item.get("open", False), levels, dict(item.get("groups", {})), item.get("ordered", False)
    covariate = Covariate(item["name"], item["label"], *kind)
    named = f"{where}: covariate {shown(covariate.name)}"
    if not 2 <= len(levels) <= MOST_LEVELS or len(set(covariate.names)) < len(levels):
        raise ValueError(f"{named} needs 2 to {MOST_LEVELS} different levels; found {shown(covariate.names)}")
    if both := set(covariate.names) & set(covariate.groups):
        raise ValueError(f"{named}: a group of levels has the name of a level: {listed(sorted(both))}")
    check_names([*covariate.names, *covariate.groups], "level or group", named)
    check_names(covariate.raw_columns, "raw column", named)
    fine = [name for level in levels for name in level.cohort]
    check_names(fine, "level of the cohort", named)
    if len(set(fine)) < len(fine):
        raise ValueError(f"{named}: each level of the cohort lies in one level; found {shown(fine)}")
    if unknown := {level.group for level in levels if level.group} - set(covariate.groups):
        raise ValueError(f"{named} has levels in groups without a label: {listed(sorted(unknown))}")
    if covariate.ordered and (covariate.open or covariate.groups):
        raise ValueError(f"{named} is ordered, so it can be neither open nor have groups of levels")
    if len({frozenset(w.column for w in level.when) for level in levels}) > 1:
        raise ValueError(
            f"{where}: the levels of covariate {shown(covariate.name)} must all have conditions on the same columns"
        )
    return covariate


def check_apart(covariates: Iterable[Covariate], where: str) -> None:
    """What is asked of a publication beyond `read_covariates`: no value matches two levels, and each level can be matched.

    Raises
    ------
    ValueError
        It is not so; the message names the covariate and the levels.
    """
    for covariate in covariates:
        for level in covariate.levels:
            for test in level.when:
                if test.minimum >= test.below:
                    raise ValueError(
                        f"{where}: level {level.name!r} of covariate {covariate.name!r} holds for no {test.column}: "
                        f"min {test.minimum:g} must be less than below {test.below:g}"
                    )
        for one, other in combinations([level for level in covariate.levels if level.when], 2):
            if all(a.meets(b) for a in one.when for b in other.when if a.column == b.column):
                raise ValueError(
                    f"{where}: levels {one.name!r} and {other.name!r} of covariate {covariate.name!r} overlap: "
                    f"{_in_words(one)} and {_in_words(other)}; let the second start where the first ends "
                    "(below is not included)"
                )


def _in_words(level: Level) -> str:
    return " with ".join(f"{test.column} {test.describe()}" for test in level.when)


def _read_level(item: Mapping[str, Any], where: str) -> Level:
    conditions = []
    for column, rule in item.get("when", {}).items():
        if isinstance(rule, str):
            conditions.append(Condition(column, equals=rule))
        elif isinstance(rule, dict) and rule and set(rule) <= {"min", "below"} and _numbers(rule.values()):
            conditions.append(Condition(column, None, float(rule.get("min", -math.inf)), float(rule.get("below", math.inf))))
        else:
            raise ValueError(
                f"{where}, level {shown(item['name'])}: the condition on {listed([column])} is {shown(rule)}; "
                "it must be a text, or numbers min, below or both, as { min = 10, below = 19 }"
            )
    cohort = tuple(item.get("cohort", (item["name"],)))
    return Level(item["name"], item["label"], item.get("group"), tuple(conditions), cohort)


def _numbers(values: Iterable[Any]) -> bool:
    return all((type(value) is float and value == value) or (type(value) is int and abs(value) <= 1e300) for value in values)


def sources(covariate: Covariate, columns: Sequence[str]) -> tuple[str, ...]:
    """Which columns of a frame tell this covariate: the level itself, all its raw columns, or both.

    Raises
    ------
    ValueError
        Neither is there.
    """
    raw = covariate.raw_columns
    found_raw = raw if raw and set(raw) <= set(columns) else ()
    if covariate.name in columns:
        return (covariate.name, *found_raw)
    if found_raw:
        return found_raw
    partly = [column for column in raw if column in columns]
    ways = f"{covariate.name!r}" + (f", or {' with '.join(map(repr, raw))}" if raw else "")
    note = f"; {partly} alone is not enough" if partly else ""
    wanted = {name.casefold(): name for name in (covariate.name, *raw)}
    near = {column: wanted[column.strip().casefold()] for column in columns if column.strip().casefold() in wanted}
    note += "".join(f"; rename {shown(column)} to {name!r}" for column, name in near.items() if column != name)
    raise ValueError(
        f"patients: no column for {covariate.label.lower()}: give {ways}{note}. "
        f"Where it is not known, give nulls: risks are then averaged over the cohort. Columns found: {listed(columns)}"
    )


def allowed_texts(covariate: Covariate, column: str) -> tuple[str, ...]:
    """Texts a source column may hold; empty for a numeric column."""
    if column == covariate.name:
        return covariate.names
    texts = [w.equals for level in covariate.levels for w in level.when if w.column == column and w.equals is not None]
    return tuple(dict.fromkeys(texts))


def allowed_words(covariate: Covariate, column: str) -> str:
    """What a source column may hold, in words, for an error message."""
    if texts := allowed_texts(covariate, column):
        return ", ".join(texts)
    conditions = [w for level in covariate.levels for w in level.when if w.column == column]
    low, high = min(w.minimum for w in conditions), max(w.below for w in conditions)
    return Condition(column, None, low, high).describe()
