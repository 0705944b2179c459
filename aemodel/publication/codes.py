"""Profile codes: everything a model reads of a patient in one integer.

Each source column's value falls into one of a few classes: missing, between two cuts or equal to a text of the rules,
other, or of the wrong kind. The classes of all source columns, and whether each limit of one by another is exceeded, are a
patient's profile code in mixed radix. There are few codes however many the patients, so that levels, risks and errors are
worked out per code, in NumPy; rows are coded by whichever engine holds them (`aemodel.scoring`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from aemodel.publication.arrays import Bools, Ints
from aemodel.publication.errors import wrong_patients
from aemodel.publication.rules import MissingColumns, allowed_texts, sources
from aemodel.publication.schema import Condition, Covariate, Multiple
from aemodel.publication.texts import listed

NewLevels = Literal["error", "sample"]

NUMBER = r"^[ \t\r\n]*[+-]?(?:[0-9]{1,30}(?:[.][0-9]*)?|[.][0-9]+)(?:[eE][+-]?[0-9]{1,2})?[ \t\r\n]*$"
"""Text that every engine reads as the same finite number."""

MISSING = 0
LOWEST = -1.7976931348623157e308


@dataclass(frozen=True)
class Kind:
    """What a column holds, as far as rules go, and the ``name`` that its library has for it."""

    name: str
    text: bool = False
    number: bool = False


@dataclass(frozen=True)
class Source:
    """One column that tells a covariate. Its classes: `MISSING`, those of texts or cuts, and ``wrong``.

    Attributes
    ----------
    texts
        What may stand there, a class each; none for a numeric column.
    cuts
        Of a numeric column, the last one infinite: a class before each, and one from the last on.
    """

    column: str
    covariate: Covariate
    texts: tuple[str, ...]
    cuts: tuple[float, ...]

    @property
    def other(self) -> int:
        """The class of a text that is no level, or of what is infinite or text that is no number."""
        return len(self.texts or self.cuts) + 1

    @property
    def wrong(self) -> int:
        """The class of any value in a column of the wrong type."""
        return self.other + 1

    @property
    def size(self) -> int:
        return self.wrong + 1

    def takes(self, kind: Kind) -> bool:
        """Whether a column of this kind can hold what is asked for: text, or numbers, which may be written as text."""
        return kind.text or (kind.number and not self.texts)

    def possible(self) -> Ints:
        """The set of levels, as bits, that each class leaves possible: (class,)."""
        values: Sequence[str | float] = self.texts or (-math.inf, *self.cuts)
        tests = [(bits, self._tests(i)) for i, bits in enumerate(self.covariate.sets)]
        sets = [sum(bits for bits, mine in tests if mine and all(test.holds(value) for test in mine)) for value in values]
        rest = [0] * (self.size - 1 - len(sets))
        return np.array([self.covariate.everything, *sets, *rest])

    def _tests(self, position: int) -> list[Condition]:
        level = self.covariate.levels[position]
        if self.column == self.covariate.name:
            return [Condition(self.column, equals=level.name)]
        return [test for test in level.when if test.column == self.column]


@dataclass(frozen=True)
class Limit:
    """One source is at most a multiple of another, by their places; exceeded only where both are numbers."""

    source: int
    by: int
    most: Multiple
    stride: int


@dataclass(frozen=True)
class Layout:
    """How a frame's columns make up the profile code."""

    covariates: tuple[Covariate, ...]
    sources: tuple[Source, ...]

    @cached_property
    def limits(self) -> tuple[Limit, ...]:
        """Those of which both columns are there."""
        place = {source.column: i for i, source in enumerate(self.sources) if not source.texts}
        declared = [(column, most) for covariate in self.covariates for column, most in covariate.at_most.items()]
        found = [(place[a], place[most.column], most) for a, most in declared if a in place and most.column in place]
        return tuple(Limit(*limit, self.strides[-1] << i) for i, limit in enumerate(found))

    def limits_of(self, kinds: Mapping[str, Kind]) -> list[Limit]:
        """Those whose columns, of such kinds, can hold numbers."""
        sources = self.sources
        return [x for x in self.limits if all(sources[i].takes(kinds[sources[i].column]) for i in (x.source, x.by))]

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """What each source's class is multiplied by in the code; the last one is the first limit's."""
        return tuple(math.prod(source.size for source in self.sources[:i]) for i in range(len(self.sources) + 1))

    @property
    def sizes(self) -> list[int]:
        """How many classes each source has; then in how many ways limits can be exceeded."""
        return [*(source.size for source in self.sources), 1 << len(self.limits)]

    @property
    def size(self) -> int:
        """How many codes there can be."""
        return math.prod(self.sizes)

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(source.column for source in self.sources))

    def classes(self, codes: Ints) -> Ints:
        """Each profile's classes, (profile, source)."""
        strides, sizes = np.array(self.strides[:-1], dtype=np.int64), np.array(self.sizes[:-1], dtype=np.int64)
        return codes[:, None] // strides % sizes

    def exceeded(self, codes: Ints, limit: Limit) -> Bools:
        """Whether a limit is, by a column whose own value is possible, (profile,)."""
        by, stride = self.sources[limit.by], self.strides[limit.by]
        return (codes // limit.stride % 2 > 0) & (by.possible()[codes // stride % by.size] > 0)

    def sets(self, codes: Ints, new_levels: NewLevels = "error") -> Ints:
        """The set of levels, as bits, that each profile can have: (profile, covariate); 0 where values are impossible."""
        classes = self.classes(codes)
        everything = np.array([covariate.everything for covariate in self.covariates], dtype=np.int64)
        sets = np.tile(everything, (len(codes), 1))
        unseen = np.zeros(sets.shape, dtype=bool)
        for i, source in enumerate(self.sources):
            k = self.covariates.index(source.covariate)
            sets[:, k] &= source.possible()[classes[:, i]]
            unseen[:, k] |= bool(source.texts) & (classes[:, i] == source.other)
        if new_levels == "sample":
            for k, covariate in enumerate(self.covariates):
                if covariate.open:
                    sets[unseen[:, k], k] = covariate.new
        for limit in self.limits:
            sets[self.exceeded(codes, limit), self.covariates.index(self.sources[limit.source].covariate)] = 0
        return sets


def make_layout(covariates: Sequence[Covariate], columns: Sequence[str], missing_columns: MissingColumns = "error") -> Layout:
    """How the profile code is made up of a frame's columns.

    Raises
    ------
    ValueError
        No column tells one of the covariates, and columns must not be missing; or none tells any.
    """
    found = [(covariate, column) for covariate in covariates for column in sources(covariate, columns, missing_columns)]
    if covariates and not found:
        wanted = listed(dict.fromkeys(name for covariate in covariates for name in (covariate.name, *covariate.raw_columns)))
        raise wrong_patients(f"no column tells anything of them: give some of {wanted}. Columns found: {listed(columns)}")
    return Layout(tuple(covariates), tuple(_source(covariate, column) for covariate, column in found))


def _source(covariate: Covariate, column: str) -> Source:
    if texts := allowed_texts(covariate, column):
        return Source(column, covariate, texts, ())
    tests = [test for level in covariate.levels for test in level.when if test.column == column]
    edges = {max(edge, LOWEST) for test in tests for edge in (test.minimum, test.below)}
    return Source(column, covariate, (), tuple(sorted(edges | {math.inf})))


def number_in(text: str) -> float:
    """The number that a text is, infinite if it is none."""
    return float(text) if re.search(NUMBER, text) else math.inf
