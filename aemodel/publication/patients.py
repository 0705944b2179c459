"""Patients by their profile codes: which must be refused, and in what words. No frame is touched here.

A patient's values are known by the classes of their code (`codes`); what stood there is looked up for an error's sake only.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Real
from typing import Any, Literal

import numpy as np

from aemodel.publication.arrays import Bools, Ints
from aemodel.publication.codes import NUMBER, Kind, Layout, NewLevels, Source, number_in
from aemodel.publication.errors import InputError, wrong_patients
from aemodel.publication.rules import allowed_words
from aemodel.publication.schema import Covariate
from aemodel.publication.texts import listed, shown

OnInvalid = Literal["error", "null"]
SHOWN_VALUES = 5
MARKERS = frozenset("na n/a #n/a <na> nan null none missing unknown nd nk . - ?".split())
"""What people write, in small letters, where a value is missing."""
NEAR = 0.85
"""How alike a text must be to a level that was perhaps meant: a slip of the finger is, another band's bounds are not."""


@dataclass(frozen=True)
class Example:
    """Values that one or more rows have alike; how many rows, and the first one's number if rows are numbered."""

    values: Sequence[Any]
    rows: int
    first: int | None = None

    @property
    def where(self) -> str:
        if self.first is None:
            return "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"row {self.first}" if self.rows == 1 else f"{self.rows} rows, first row {self.first}"


@dataclass(frozen=True)
class Profiles:
    """The profiles that patients have.

    Attributes
    ----------
    kinds
        Of the frame's columns.
    codes, counts
        The profile codes that occur, sorted, and how many rows have each: (profile,).
    find
        The `SHOWN_VALUES` most frequent values of some columns in rows that have one of some codes.
    numbered
        Whether these have numbers of rows.
    """

    layout: Layout
    kinds: Mapping[str, Kind]
    codes: Ints
    counts: Ints
    find: Callable[[Sequence[str], Ints], list[Example]]
    numbered: bool


def check_choices(new_levels: Any, on_invalid: Any, missing_columns: Any) -> None:
    """Refuse what is none of the ways to treat new levels, invalid rows or missing columns."""
    for name, value, allowed in (
        ("new_levels", new_levels, ("error", "sample")),
        ("on_invalid", on_invalid, ("error", "null")),
        ("missing_columns", missing_columns, ("error", "unknown")),
    ):
        if value not in allowed:
            raise InputError(name, f"expected one of {', '.join(allowed)}, not {shown(value)}")


def is_missing(value: Any) -> bool:
    """Whether a value is one of the libraries' ways to write that there is none."""
    kind = type(value).__name__
    if kind == "Decimal":
        return bool(value.is_nan())
    return value is None or kind in ("NAType", "NaTType") or (isinstance(value, (Real, np.generic)) and bool(value != value))


def is_number(value: Any) -> bool:
    """Whether a value is a real number, of Python or of NumPy; a truth value is none."""
    known: Any = value
    return (isinstance(known, Real) or type(known).__name__ == "Decimal") and not isinstance(known, (bool, np.timedelta64))


def as_float(value: Any) -> float:
    """A number, or infinity for what is none."""
    if isinstance(value, str):
        return number_in(value)
    if not is_number(value):
        return np.inf
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def refuse_invalid(found: Profiles, new_levels: NewLevels, on_invalid: OnInvalid) -> None:
    """Refuse patients who have profiles that cannot be.

    Raises
    ------
    ValueError
        A column is of the wrong kind; or, unless ``on_invalid="null"``, a value is impossible. A line for each column.
    """
    kinds = []
    for source, classes in zip(found.layout.sources, found.layout.classes(found.codes).T, strict=True):
        if (classes == source.wrong).any():
            kind = f"text, one of {allowed_words(source.covariate, source.column)}" if source.texts else "a number"
            kinds.append(f"column {source.column!r} must be {kind}; it is {listed([found.kinds[source.column].name])}")
    values = invalid_values(found, new_levels) if on_invalid == "error" else []
    if kinds or values:
        counting = "; rows are counted from 0" if values and found.numbered else ""
        wrong = found.codes[(found.layout.sets(found.codes, new_levels) == 0).any(axis=1)]
        rows = [example.first for example in found.find(found.layout.columns, wrong)] if counting else []
        problem = ";\n".join(dict.fromkeys(kinds + values)) + counting
        raise wrong_patients(problem, rows=[row for row in rows if row is not None])


def invalid_values(found: Profiles, new_levels: NewLevels) -> list[str]:
    """A line for each column with impossible values: the commonest, how many rows have them, and what is allowed."""
    impossible = found.layout.sets(found.codes, new_levels) == 0
    pairs = zip(found.layout.covariates, impossible.T, strict=True)
    return [line for covariate, wrong in pairs if wrong.any() for line in _explain(found, covariate, wrong)]


def new_values(found: Profiles) -> list[str]:
    """A line for each column with values that are taken for new levels: the commonest, and perhaps what was meant."""
    lines = []
    for source, classes in zip(found.layout.sources, found.layout.classes(found.codes).T, strict=True):
        new = (classes == source.other) & bool(source.texts) & source.covariate.open
        if new.any():
            shown, values = _shown(found, [source], new)
            lines.append(f"column {source.column!r}: taken for new levels: {shown}{_meant(source, values)}{_marker(values)}")
    return lines


def _explain(found: Profiles, covariate: Covariate, impossible: Bools) -> list[str]:
    """Lines about a covariate's impossible values: which column, which rows, what is allowed."""
    lines = []
    classes = found.layout.classes(found.codes).T
    telling = [(s, c) for s, c in zip(found.layout.sources, classes, strict=True) if s.covariate == covariate]
    contradicting = impossible.copy()
    for source, classes in telling:
        wrong = impossible & (source.possible()[classes] == 0)
        contradicting &= ~wrong
        no_number = wrong & (classes == source.other) & (not source.texts and not found.kinds[source.column].number)
        if no_number.any():
            shown, values = _shown(found, [source], no_number)
            hint = f"Use null where it is not known{_marker(values)}"
            lines.append(f"column {source.column!r} must be a number; found {shown}. {hint}")
        wrong &= ~no_number & (classes != source.wrong)
        if wrong.any():
            shown, values = _shown(found, [source], wrong)
            hint = _hint(source, values) + _marker(values) if source.texts else ""
            allowed = allowed_words(covariate, source.column)
            lines.append(f"column {source.column!r}: impossible value {shown}; allowed: {allowed}, or null{hint}")
    for limit in found.layout.limits:
        source = found.layout.sources[limit.source]
        wrong = contradicting & found.layout.exceeded(found.codes, limit) & (source.covariate == covariate)
        contradicting &= ~wrong
        if wrong.any():
            shown, _ = _shown(found, [source, found.layout.sources[limit.by]], wrong)
            allowed = allowed_words(covariate, source.column)
            lines.append(f"column {source.column!r}: impossible value {shown}; allowed: {allowed}, or null")
    if contradicting.any():
        shown, _ = _shown(found, [source for source, _ in telling], contradicting)
        lines.append(f"columns contradict each other about {covariate.label.lower()}: {shown}")
    return lines


def _shown(found: Profiles, sources: Sequence[Source], wrong: Bools) -> tuple[str, list[Any]]:
    """Values of columns in the profiles that are wrong, with the rows that have them, in words; and the first column's."""
    some = found.find([source.column for source in sources], found.codes[wrong])
    parts = []
    for example in some:
        values = [(source.column, _value(source, value)) for source, value in zip(sources, example.values, strict=True)]
        given = " with ".join(f"{column} = {value}" if len(values) > 1 else value for column, value in values)
        parts.append(f"{given} ({example.where})")
    more = int(found.counts[wrong].sum()) - sum(example.rows for example in some)
    parts[-1] += f" and {more} more row{'s' if more > 1 else ''}" if more else ""
    return ", ".join(parts), [example.values[0] for example in some]


def _hint(source: Source, values: Sequence[str]) -> str:
    """Which levels were perhaps meant by texts that are none; and for an open covariate, what else they may be."""
    new = '; if it really is a group the publication does not have, score takes it with new_levels="sample"'
    return _meant(source, values) + new * source.covariate.open


def _marker(values: Sequence[Any]) -> str:
    """What to do if one of the values says that there is none."""
    found = next((value for value in values if isinstance(value, str) and value.strip().casefold() in MARKERS), None)
    if found is None:
        return ""
    return f"; if {shown(found)} stands for missing values, give nulls (of a CSV file: --na {shlex.quote(found.strip())})"


def _meant(source: Source, values: Sequence[str]) -> str:
    levels = {_plain(text): text for text in source.texts}
    near = [(value, get_close_matches(_plain(str(value)), levels, n=1, cutoff=NEAR)) for value in values]
    meant = ", ".join(f"{levels[match[0]]!r} for {shown(value)}" for value, match in near if match)
    return f"; did you mean {meant}?" if meant else ""


def _plain(text: str) -> str:
    """A text without what people write one way or another: capitals, blanks, hyphens and underscores."""
    return re.sub(r"[\W_]+", "_", text.casefold()).strip("_")


def _value(source: Source, value: Any) -> str:
    """A value as an error names it: numbers are numbers, whether written as text or not."""
    if source.texts or is_missing(value) or (isinstance(value, str) and not re.search(NUMBER, value)):
        return shown(value)
    try:
        return repr(float(value)) if is_number(value) or isinstance(value, str) else shown(value)
    except OverflowError:
        return "above 1.8e308" if value > 0 else "below -1.8e308"
