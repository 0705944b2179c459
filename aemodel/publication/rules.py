"""Raw patient values to covariate levels: a publication's rules. `profiles` has any dataframe engine apply them.

A rule says which levels of a covariate a patient can still have. It is kept as a set of levels, written as the bits of
an integer: one bit is a known level, all bits a missing one, some bits a partly known one (relapse site without
months), no bit an impossible value. One further bit, above the levels, stands for a new level of an open covariate.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import cache
from itertools import combinations
from typing import Literal

from aemodel.publication.errors import Faults, wrong_patients
from aemodel.publication.records import check_names
from aemodel.publication.schema import CohortCount, Condition, Covariate, Level
from aemodel.publication.texts import listed, shown

MissingColumns = Literal["error", "unknown"]

MOST_LEVELS = 60
"""Of one covariate: sets of them are bits of an integer."""
MOST_CELLS = 10_000
"""Combinations of levels, new ones included: each has a thousand draws of every risk."""
MOST_PARTS = 100
"""Of a name of levels or covariates that are taken together."""
TOTAL = ("total", "all")
"""Covariate and level of the rows that count the whole cohort."""
RESERVED = frozenset(
    "total patient patients covariate level event grade n observed expected published risk lower upper support own pooled "
    "moved_by contraction prior_sd posterior_mean posterior_sd between_sd ratio shift count_low count_high".split()
)
"""What tables with a column for each covariate call their other columns, and rows of the whole cohort."""
FILE = "publication.toml"


def check_covariates(covariates: Sequence[Covariate], faults: Faults) -> None:
    """Whether covariates can be told apart, each value of a raw column tells one level, and their levels are not too many."""
    names = [covariate.name for covariate in covariates]
    check_names(names, "covariate", FILE, "covariates", faults)
    for name in {name.casefold() for name in names} & RESERVED:
        faults.add(FILE, f"covariate {shown(name)} has the name of a column of answers", key="covariates", remedy="rename it")
    for covariate in covariates:
        _check_covariate(covariate, f"covariates[{covariate.name}]", faults)
        _check_apart(covariate, f"covariates[{covariate.name}]", faults)
    numbers = {raw for covariate in covariates for raw in covariate.raw_columns if not allowed_texts(covariate, raw)}
    for covariate in covariates:
        for column, most in covariate.at_most.items():
            if wrong := [*{column} - numbers.intersection(covariate.raw_columns), *{most.column} - numbers]:
                problem = f"{listed(wrong)} must be raw columns with conditions that are numbers, {column} of this covariate"
                faults.add(FILE, problem, key=f"covariates[{covariate.name}].at_most")
    model = math.prod(len(c.levels) + c.open for c in covariates)
    fine = math.prod(sum(len(level.cohort) for level in c.levels) for c in covariates)
    if (cells := max(model, fine)) > MOST_CELLS:
        problem = f"the levels of {len(names)} covariates have {cells:.3g} combinations, at most {MOST_CELLS:,} can be handled"
        faults.add(FILE, problem, key="covariates", remedy="leave out covariates, or join levels")


def _check_covariate(covariate: Covariate, key: str, faults: Faults) -> None:
    names, fine = covariate.names, [name for level in covariate.levels for name in level.cohort]
    check_names([*names, *covariate.groups], "level or group", FILE, key, faults)
    check_names(dict.fromkeys(covariate.raw_columns), "raw column", FILE, key, faults)
    check_names(fine, "level of the cohort", FILE, key, faults)
    if not 2 <= len(names) <= MOST_LEVELS:
        faults.add(FILE, f"needs 2 to {MOST_LEVELS} different levels; found {shown(names)}", key=key)
    if unknown := {level.group for level in covariate.levels if level.group} - set(covariate.groups):
        faults.add(FILE, f"has levels in groups without a label: {listed(sorted(unknown))}", key=key)
    if covariate.ordered and (covariate.open or covariate.groups):
        faults.add(FILE, "is ordered, so it can be neither open nor have groups of levels", key=key)
    edges = [tuple(test.minimum for test in level.when) for level in covariate.levels if level.when]
    if covariate.ordered and len(covariate.raw_columns) == 1 and edges not in (sorted(edges), sorted(edges, reverse=True)):
        remedy = "put them in that order, or leave out ordered"
        faults.add(
            FILE, f"is ordered, but its levels are not in the order of {covariate.raw_columns[0]}", key=key, remedy=remedy
        )
    if not covariate.known or any(level.unknown and level.rules for level in covariate.levels):
        faults.add(FILE, "needs a known level, and its unknown one can have no conditions", key=key)
    if len({frozenset(level.rules) for level in covariate.levels if not level.unknown}) > 1:
        faults.add(FILE, "its levels must all have conditions on the same columns", key=key)


def _check_apart(covariate: Covariate, key: str, faults: Faults) -> None:
    for level in covariate.levels:
        for test in level.when:
            if test.minimum >= test.below:
                problem = f"holds for no {test.column}: min {test.minimum:g} must be less than below {test.below:g}"
                faults.add(FILE, problem, key=f"{key}.levels[{level.name}]")
            elif test.numeric and math.isinf(test.minimum) and math.isinf(test.below):
                problem = f"the condition on {listed([test.column])} must be a text, or numbers min, below or both"
                faults.add(FILE, problem, key=f"{key}.levels[{level.name}]", remedy="give them, as { min = 10, below = 19 }")
    for one, other in combinations([level for level in covariate.levels if level.rules], 2):
        if all(a.meets(b) for a in one.when for b in other.when if a.column == b.column):
            problem = f"levels {one.name!r} and {other.name!r} overlap: {_in_words(one)} and {_in_words(other)}"
            faults.add(FILE, problem, key=key, remedy="let the second start where the first ends (below is not included)")


def _in_words(level: Level) -> str:
    return " with ".join(f"{test.column} {test.describe()}" for test in level.when)


def split(
    covariates: Sequence[Covariate], covariate: str, level: str, *, fine: bool = False
) -> tuple[tuple[str, tuple[str, ...]], ...] | None:
    """Covariates and names of levels that a row of a table speaks of; () for the whole cohort, None where it cannot be read.

    ``arm*site`` with ``B*east+west`` is arm at B, and site at one of two; names are matched whole before they are split.
    Levels are the covariate's and its groups, or, with ``fine``, those of the cohort.
    """
    if (covariate, level) == TOTAL:
        return ()
    known = {each.name: each for each in covariates}
    names = _united(covariate, known, "*") or ()
    allowed = [
        [name for one in known[name].levels for name in one.cohort] if fine else [*known[name].names, *known[name].groups]
        for name in names
    ]
    levels = _crossed(level, allowed) if names else None
    return None if levels is None else tuple(zip(names, levels, strict=True))


def sets_of(covariates: Sequence[Covariate], covariate: str, level: str) -> dict[int, int] | None:
    """Sets of levels that a row of a table speaks of, as bits, by position of the covariate; None where it cannot be read."""
    found = split(covariates, covariate, level)
    if found is None:
        return None
    position = {each.name: k for k, each in enumerate(covariates)}
    members = {position[name]: {i for one in levels for i in covariates[position[name]].members(one)} for name, levels in found}
    return {k: sum(1 << i for i in levels) for k, levels in members.items()}


def places(covariates: Sequence[Covariate], row: CohortCount) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Covariates and levels of the cohort that one of its rows counts."""
    parts = [(row.covariate, row.level), (row.by, row.by_level)]
    return tuple(
        place for covariate, level in parts if covariate for place in split(covariates, covariate, level, fine=True) or ()
    )


def _crossed(text: str, allowed: Sequence[Collection[str]]) -> tuple[tuple[str, ...], ...] | None:
    """A text as one part of each of some covariates' levels, joined by ``*``."""
    if len(allowed) == 1:
        found = _united(text, allowed[0], "+")
        return None if found is None else (found,)
    for place in [i for i, character in enumerate(text) if character == "*"]:
        first = _united(text[:place], allowed[0], "+")
        rest = _crossed(text[place + 1 :], allowed[1:]) if first else None
        if first and rest:
            return (first, *rest)
    return None


def _united(text: str, names: Collection[str], mark: str) -> tuple[str, ...] | None:
    """A text as different names joined by a mark, if it is that; a name that has the mark in it is one all the same."""

    @cache
    def rest(start: int) -> tuple[str, ...] | None:
        for name in names:
            if text.startswith(name, start):
                end = start + len(name)
                if end == len(text):
                    return (name,)
                if text.startswith(mark, end) and (more := rest(end + len(mark))):
                    return (name, *more)
        return None

    found = (text,) if text in names else rest(0) if 0 < text.count(mark) <= MOST_PARTS else None
    return found if found and len(set(found)) == len(found) else None


def sources(covariate: Covariate, columns: Sequence[str], missing_columns: MissingColumns = "error") -> tuple[str, ...]:
    """Which columns of a frame tell this covariate: the level itself, all its raw columns, or both; else what there is of them.

    Raises
    ------
    ValueError
        Neither is there, and columns must not be missing.
    """
    raw = covariate.raw_columns
    found_raw = raw if raw and set(raw) <= set(columns) else ()
    if covariate.name in columns:
        return (covariate.name, *found_raw)
    if found_raw:
        return found_raw
    partly = tuple(column for column in raw if column in columns)
    if missing_columns == "unknown":
        return partly
    ways = f"{covariate.name!r}" + (f", or {' with '.join(map(repr, raw))}" if raw else "")
    note = f"; {list(partly)} alone is not enough" if partly else ""
    wanted = {name.casefold(): name for name in (covariate.name, *raw)}
    near = {column: wanted[column.strip().casefold()] for column in columns if column.strip().casefold() in wanted}
    note += "".join(f"; rename {shown(column)} to {name!r}" for column, name in near.items() if column != name)
    raise wrong_patients(
        f"no column for {covariate.label.lower()}: give {ways}{note}. "
        f'Where it is not known, give nulls, or missing_columns="unknown": risks are then averaged over the cohort. '
        f"Columns found: {listed(columns)}",
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
    words = Condition(column, None, low, high).describe()
    return f"{words}, and {covariate.at_most[column].describe()}" if column in covariate.at_most else words
