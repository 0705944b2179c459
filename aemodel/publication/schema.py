"""What a publication's files may hold, declared: a record for `publication.toml`, and one for a row of each table. Light.

Keys and columns with a default may be left out. What values mean together is checked where they are used.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

MOST_CHARACTERS = 5000
"""Of one text or cell."""
MOST_PATIENTS = 10_000_000
UNSEEN = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]"
"""Characters that nobody sees, but terminals, browsers and other readers of the files."""

Text = Annotated[str, Meta(description="a text in quotes")]
Whole = Annotated[int, Meta(ge=0, le=MOST_PATIENTS, description=f"a whole number of at most {MOST_PATIENTS:,}")]
Patients = Annotated[int, Meta(ge=1, le=MOST_PATIENTS, description=f"a whole number from 1 to {MOST_PATIENTS:,}")]
Number = Annotated[float, Meta(ge=-1e300, le=1e300, description="a finite number")]
Probability = Annotated[float, Meta(gt=0, lt=1, description="a probability such as 0.05")]
Assessed = Annotated[
    Literal["all", "own"], Meta(description="all (of all patients) or own (of those assessed, n being how many these are)")
]
Tiers = tuple[tuple[Text, ...], ...]


class Condition(Struct, frozen=True):
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


class Range(Struct, frozen=True):
    """Numbers from ``min`` up to, and not including, ``below``."""

    min: Number = -math.inf
    below: Number = math.inf


class Multiple(Struct, frozen=True):
    """So many times what stands in another column of numbers, and a number."""

    column: Text
    times: Number = 1
    plus: Number = 0

    def describe(self) -> str:
        plus = f" plus {self.plus:g}" if self.plus else ""
        return f"at most {self.times:g} times {self.column}{plus}"


class Level(Struct, frozen=True):
    """One level of a covariate: its name, label in words, group (or None), rules and the cohort's finer levels.

    ``unknown``: those of the cohort of whom it is not known. They have the average of the other levels' effects; a new patient
    of whom it is not known is one of the others.
    """

    name: Text
    label: Text
    group: Text | None = None
    rules: dict[str, Text | Range] = field(name="when", default_factory=dict)
    finer: tuple[Text, ...] = field(name="cohort", default=())
    unknown: bool = False

    @property
    def when(self) -> tuple[Condition, ...]:
        """Its rules as conditions, one for each raw column."""
        return tuple(
            Condition(column, rule) if isinstance(rule, str) else Condition(column, None, rule.min, rule.below)
            for column, rule in self.rules.items()
        )

    @property
    def cohort(self) -> tuple[str, ...]:
        """The levels at which the cohort counts it: finer ones, or itself."""
        return self.finer or (self.name,)


class Covariate(Struct, frozen=True):
    """A set of levels, in their order if ``ordered``; ``open`` covariates may meet a new level in new patients.

    ``at_most``: what a raw column cannot exceed where another one is known.
    """

    name: Text
    label: Text
    levels: tuple[Level, ...]
    open: bool = False
    ordered: bool = False
    groups: dict[str, Text] = {}
    at_most: dict[str, Multiple] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(level.name for level in self.levels)

    @property
    def raw_columns(self) -> tuple[str, ...]:
        """Columns from which the level can be worked out; empty where only the level itself can be given."""
        return tuple(dict.fromkeys(column for level in self.levels for column in level.rules))

    @property
    def known(self) -> tuple[str, ...]:
        """Names of the levels but an unknown one's."""
        return tuple(level.name for level in self.levels if not level.unknown)

    @property
    def everything(self) -> int:
        """The set of all known levels: that of a patient whose value is missing, who has one of these."""
        return sum(1 << i for i, level in enumerate(self.levels) if not level.unknown)

    @property
    def sets(self) -> tuple[int, ...]:
        """For each level the set of those who are said to have it: of an unknown one, as if nothing was said."""
        return tuple(self.everything if level.unknown else 1 << i for i, level in enumerate(self.levels))

    @property
    def new(self) -> int:
        """The set that holds only the level the publication does not have."""
        return 1 << len(self.levels)

    def members(self, name: str) -> tuple[int, ...]:
        """Positions of the levels that ``name``, a level or a group of levels, stands for; empty if it is neither."""
        return tuple(i for i, level in enumerate(self.levels) if name in (level.name, level.group))


class OrderingClaim(Struct, frozen=True):
    """``[[orderings]]``: groups in order of their rates, as the publication says in words."""

    event: Text
    covariate: Text
    tiers: dict[str, Tiers]
    within: dict[str, Text] | None = None
    alpha: Probability | None = None
    source: Text = ""


class NullClaim(Struct, frozen=True):
    """``[[nulls]]``: tests that were not significant, stated or by not being listed."""

    events: tuple[Text, ...] = ()
    unlisted: bool = False
    covariates: tuple[Text, ...] | None = None
    among: dict[str, tuple[Text, ...]] = {}
    also_groups: tuple[Text, ...] = ()
    alpha: Probability = 0.05
    source: Text = ""


class GradeClass(Struct, frozen=True):
    """``[[grades]]``: one of the publication's nested classes of grades, outermost first."""

    name: Text
    label: Text = ""
    short: Text = ""
    answered: bool = True


class Cutoff(Struct, frozen=True):
    """``[[cutoffs]]``: what was printed only from a frequency on; with ``any_level``, if any level reached it."""

    below: Number
    unit: Literal["percent", "count"] = "percent"
    rule: Literal["every", "any_level"] = "every"
    events: tuple[Text, ...] = ()
    grade: Text = ""
    covariate: Text = ""
    source: Text = ""


class About(Struct, frozen=True):
    """`publication.toml`: what the publication is, its covariates, and what it says beside its tables."""

    name: Text
    title: Text
    citation: Text
    patients: Patients
    covariates: tuple[Covariate, ...] = ()
    format: Literal[1] = 1
    doi: Text = ""
    licence: Text = ""
    setting: Text = ""
    period: Text = ""
    grading: Text = ""
    notes: tuple[Text, ...] = ()
    columns: dict[str, Text] = {}
    chosen: Literal["significance", "frequency", "all"] | None = None
    complete: tuple[Text, ...] = ()
    grades: tuple[GradeClass, ...] = ()
    deaths_listed: bool = False
    cutoffs: tuple[Cutoff, ...] = ()
    orderings: tuple[OrderingClaim, ...] = ()
    nulls: tuple[NullClaim, ...] = ()


class Event(Struct, frozen=True):
    """One tabulated event.

    ``relation`` says how it lies in its ``parent``: ``nested`` (only who has the parent event can have this one, at no
    higher a grade), ``union`` (the parent is having any of its union children, at the highest of their grades), or
    ``fatal`` (this event is the parent at grade 5). ``grades`` are those it may have frequencies at. ``assessed`` is
    ``own`` where its frequencies are of those who were assessed, with denominators of their own.
    """

    name: Text = field(name="event")
    label: Text
    parent: Text | None
    relation: Literal["nested", "union", "fatal"] | None
    grades: tuple[Text, ...]
    assessed: Assessed = "all"
    line: int = 0


class Frequency(Struct, frozen=True):
    """One published frequency: of ``n`` patients, between ``observed_low`` and ``observed_high`` had the event.

    A ``derived`` row is a sum of others, for checking and display.
    """

    event: Text
    grade: Text
    covariate: Text
    level: Text
    n: Whole
    printed: Text
    unit: Literal["percent", "count"]
    count: Text = ""
    derived: bool = False
    source: Text = ""
    line: int = 0
    observed_low: int = 0
    observed_high: int = 0

    @property
    def exact(self) -> bool:
        return self.observed_low == self.observed_high

    @property
    def observed(self) -> int | None:
        """The number of patients, where what is printed tells it."""
        return self.observed_low if self.exact else None

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.event, self.grade, self.covariate, self.level


class CohortCount(Struct, frozen=True):
    """How many of the cohort's patients are in a level, or in that and another (``by``)."""

    covariate: Text
    level: Text
    n: Whole
    by: Text = ""
    by_level: Text = ""
    source: Text = ""
    line: int = 0


class PrintedTest(Struct, frozen=True):
    """A P-value as printed, between ``levels`` (all, if none is named)."""

    event: Text
    grade: Text
    covariate: Text
    p: Text
    test: Text
    levels: Text = ""
    line: int = 0


class Discrepancy(Struct, frozen=True):
    """Where a publication disagrees with itself, and what was done about it."""

    event: Text
    grade: Text
    covariate: Text
    level: Text
    where: Text
    printed: Text
    computed: Text
    resolution: Text
    line: int = 0


TABLES: dict[str, type[Struct]] = {
    "events.csv": Event,
    "frequencies.csv": Frequency,
    "cohort.csv": CohortCount,
    "tests.csv": PrintedTest,
    "discrepancies.csv": Discrepancy,
}
NO_COLUMNS = ("line", "observed_low", "observed_high")
"""Fields of a record that are worked out, not read."""
FILES = ("publication.toml", *TABLES)
MOST_ROWS = {"events.csv": 200, "frequencies.csv": 5000, "cohort.csv": 1000, "tests.csv": 1000, "discrepancies.csv": 1000}
