"""The caller's frame: one door for all libraries, whose modules are loaded with the first frame of theirs. Light.

Whatever holds the rows codes them by profile, counts them (`Frame.tally`), looks some up (`examples`) and puts values on them
by their codes, in order (`add`); no more of them is collected. Groups' values come back as they were: told apart and sorted
by the engine itself, for Python has not every value exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from aemodel.publication.arrays import Ints
from aemodel.publication.codes import Kind, Layout, make_layout
from aemodel.publication.errors import InputError
from aemodel.publication.patients import Example, Profiles, as_float, is_missing, is_number
from aemodel.publication.rules import MissingColumns
from aemodel.publication.schema import Covariate
from aemodel.publication.texts import listed, shown

MOST_COUNTED = 1_000_000
"""Combinations of groups and profiles that are collected at most."""
MOST_GROUPS = 1000


@dataclass(frozen=True)
class Groups:
    """How many rows have each profile code, by group.

    Attributes
    ----------
    labels
        Values of the columns that make groups, a row for each group, in order, missing values last: an eager frame, which keeps
        them as they are; or tuples of an engine that is not eager, of values or texts of which DuckDB makes the same values.
    codes
        The profile codes that occur, sorted.
    counts
        Rows, (group, code).
    """

    names: tuple[str, ...]
    labels: Any
    codes: Ints
    counts: Ints

    def places(self, columns: Mapping[str, Sequence[Any]]) -> Ints:
        """Which group each row of a table belongs to whose ``columns`` have as many rows for each of them, in order."""
        return np.repeat(np.arange(len(self.counts)), len(next(iter(columns.values()))) // len(self.counts))

    def rows(self, columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
        """Such a table's rows, with the groups' values, of an engine that is not eager."""
        answers = zip(self.places(columns), zip(*columns.values(), strict=True), strict=True)
        labelled = ((*(self.labels[i] if self.names else ()), *row) for i, row in answers)
        return [dict(zip((*self.names, *columns), row, strict=True)) for row in labelled]


class Frame(Protocol):
    """What a library's class does with a frame of its own; ``column`` is a name that no column has, nor begins with."""

    @property
    def kinds(self) -> Mapping[str, Kind]: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def numbered(self) -> bool: ...

    def tally(self, by: Sequence[str] = ()) -> Groups:
        """Rows counted by the values of some columns and by profile code, one aggregate pass."""

    def examples(self, columns: Sequence[str], codes: Ints) -> list[Example]:
        """As `Profiles.find` has them."""

    def add(self, codes: Ints, columns: Mapping[str, NDArray[Any]]) -> Any:
        """The caller's own frame with further columns, of a value for each of ``codes``: texts or numbers (NaN: null)."""

    def table(self, groups: Groups, columns: Mapping[str, Sequence[Any]]) -> Any:
        """A table of answers as the caller's kind of frame, the eager kind where there is one; see `Groups.rows`."""


@dataclass(frozen=True)
class Opened:
    """The caller's frame, its columns' kinds, and as `open_as` has it their layout and a name for columns of ours.

    ``numbered``: whether its rows have an order, so that they can be named by their numbers.
    """

    native: Any
    kinds: Mapping[str, Kind]
    layout: Layout
    column: str
    numbered: bool = False
    same: ClassVar[Any] = str
    """As in `check_names`."""


def open_as(
    library: Any,
    native: Any,
    covariates: Sequence[Covariate],
    adding: Sequence[str],
    missing_columns: MissingColumns,
    **more: Any,
) -> Any:
    """A frame by its library's class, with how its columns make up the profile code, and a name for temporary ones."""
    kinds, same = library.kinds_of(native), library.same
    present = {same(column) for column in kinds}
    if taken := [name for name in adding if same(name) in present]:
        raise InputError("frame", f"it has columns that score would add: {taken[:5]}; rename or drop them")
    column = "__aemodel_code"
    while any(name.startswith(column) for name in present):
        column += "_"
    return library(native, kinds, make_layout(covariates, list(kinds), missing_columns), column, **more)


def check_names(argument: str, names: Iterable[Any], same: Callable[[str], str] = str) -> None:
    """Refuse a table of whose columns two have names that are the ``same`` to its library."""
    times = Counter(same(name) for name in names if isinstance(name, str))
    if again := [name for name, number in times.items() if number > 1]:
        raise InputError(argument, f"several columns are named {shown(again[:5])}; rename or drop all but one")


def profiles_of(frame: Frame, groups: Groups) -> Profiles:
    """The profiles of all groups together."""
    return Profiles(frame.layout, frame.kinds, groups.codes, groups.counts.sum(axis=0), frame.examples, frame.numbered)


def no_groups(name: str, kind: str) -> ValueError:
    return ValueError(
        f"by: column {shown(name)} is {listed([kind])}, whose values make no groups; give it as text, numbers or dates"
    )


def grouped(by: Sequence[str], labels: Any, group: Any, code: Ints, rows: Ints) -> Groups:
    """Groups from counts: which group and code each is of, and how many rows.

    Raises
    ------
    ValueError
        There are too many.
    """
    if len(code) > MOST_COUNTED or len(labels) > MOST_GROUPS:
        most = f"{MOST_COUNTED} groups and profiles" if len(code) > MOST_COUNTED else f"{MOST_GROUPS} groups"
        raise InputError("by", f"more than {most} by {listed(by)}; name columns with fewer values")
    codes = np.array(sorted(set(code.tolist())), dtype=np.int64)  # numpy.unique would import numpy.ma
    counts = np.zeros((len(labels) if by else 1, len(codes)), dtype=np.int64)
    np.add.at(counts, (np.asarray(group, dtype=np.int64), np.searchsorted(codes, code)), rows)
    return Groups(tuple(by), labels, codes, counts)


def rows_grouped(by: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> Groups:
    """Groups of rows that hold the values of ``by``, a code and a count, in the order in which they come."""
    place: dict[tuple[Any, ...], int] = {}
    found = [(place.setdefault(row[:-2], len(place)), *row[-2:]) for row in map(_none_missing, rows)]
    group, codes, counts = np.array(found, dtype=np.int64).reshape(-1, 3).T
    return grouped(by, list(place), group, codes, counts)


def _none_missing(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(None if is_missing(value) else value for value in row)


def order_of(value: Any) -> tuple[Any, ...]:
    """Sorts values of any kinds: numbers, then others kind by kind, missing ones last."""
    if is_missing(value):
        return (2,)
    if is_number(value):
        return (0, as_float(value), str(value))
    return (1, type(value).__name__, str(value))
