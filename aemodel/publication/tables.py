"""A publication's folder read, counted and cross-checked: what every later step starts from. Light until a frame is asked."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aemodel.publication.arguments import path_in
from aemodel.publication.cutoffs import Unseen, read_cutoffs
from aemodel.publication.errors import Faults
from aemodel.publication.events import (
    check_classes,
    check_deaths,
    check_events,
    check_nesting,
    published_grades,
    with_deaths_listed,
)
from aemodel.publication.evidence import Null, Ordering, read_nulls, read_orderings
from aemodel.publication.frequencies import (
    Size,
    check_level,
    check_rows,
    check_sizes,
    check_sums,
    count_rows,
    frame_of,
    with_totals,
)
from aemodel.publication.grades import GRADES_BY_DEFAULT, answered_classes, class_numbers, with_known_grades
from aemodel.publication.records import read_about, read_rows
from aemodel.publication.rules import FILE, check_covariates, places, split
from aemodel.publication.schema import (
    FILES,
    NO_COLUMNS,
    TABLES,
    About,
    CohortCount,
    Covariate,
    Discrepancy,
    Event,
    Frequency,
    GradeClass,
    PrintedTest,
)
from aemodel.publication.summary import tables_html
from aemodel.publication.texts import digest_of, listed, read_texts, shown

if TYPE_CHECKING:
    import pandas as pd

COHORT = "cohort.csv"
MOST_RISKS = 200_000
"""Of all events and grades in all cells: a saved model has a thousand draws of each, 0.8 GB."""


@dataclass(frozen=True)
class Tables:
    """One publication: its cohort, covariates, events and every published frequency as a count.

    ``rows`` has the frequencies as records, ``counts`` the numbers of patients in the cohort's levels. Derived rows (sums of
    others) are for checking and display; the likelihood uses the rest. ``orderings`` and ``nulls`` are what the publication
    says in words, or by leaving out; ``unseen`` what events in it are known not to be, as they would not be in it.
    ``texts`` holds the files as read.
    """

    about: About
    covariates: tuple[Covariate, ...]
    events: tuple[Event, ...]
    rows: tuple[Frequency, ...]
    counts: tuple[CohortCount, ...]
    printed_tests: tuple[PrintedTest, ...]
    known_discrepancies: tuple[Discrepancy, ...]
    orderings: tuple[Ordering, ...]
    nulls: tuple[Null, ...]
    unseen: tuple[Unseen, ...]
    texts: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.about.name

    @property
    def n(self) -> int:
        """Patients of the cohort."""
        return self.about.patients

    @property
    def classes(self) -> tuple[GradeClass, ...]:
        """The publication's classes of grades, outermost first: those declared, or the usual ones."""
        return self.about.grades or GRADES_BY_DEFAULT

    @property
    def shorts(self) -> dict[str, str]:
        """What classes are called in names of columns, where the publication says it."""
        return {each.name: each.short for each in self.about.grades if each.short}

    @cached_property
    def grades(self) -> tuple[str, ...]:
        """Names of the classes that risks are given for: answered ones at which some event can be counted."""
        return answered_classes(self.events, self.classes)

    @cached_property
    def counted(self) -> frozenset[str]:
        """Names of covariates by which anything is counted, alone or with others."""
        found = (split(self.covariates, row.covariate, row.level) or () for row in self.rows)
        return frozenset(name for each in found for name, _ in each)

    @property
    def frequencies(self) -> pd.DataFrame:
        """One row for each of ``rows``: event, grade, covariate, level, n, observed, its bounds, printed, derived, source.

        ``observed`` is null where what is printed does not tell it; ``observed_low`` and ``observed_high`` are its bounds.
        """
        return self._frequencies.copy()

    @cached_property
    def _frequencies(self) -> pd.DataFrame:
        columns = "event grade covariate level n observed observed_low observed_high printed derived source".split()
        frame = frame_of(self.rows, columns)
        exact = all(row.exact for row in self.rows)
        return frame.astype({"observed": "int64" if exact else "Int64", "derived": bool})

    @property
    def cohort(self) -> pd.DataFrame:
        """Patients by levels of covariates: covariate, level, by, by_level, n, source."""
        return frame_of(self.counts, "covariate level by by_level n source".split())

    @property
    def tests(self) -> pd.DataFrame:
        """Printed P-values: event, grade, covariate, levels (those compared, all if empty), p, test."""
        return frame_of(self.printed_tests, "event grade covariate levels p test".split())

    @property
    def discrepancies(self) -> pd.DataFrame:
        """Where the publication disagrees with itself: event, grade, covariate, level, where, printed, computed, resolution."""
        return frame_of(self.known_discrepancies, [name for name in Discrepancy.__struct_fields__ if name not in NO_COLUMNS])

    def with_frequencies(self, frame: pd.DataFrame) -> Tables:
        """The same publication with other frequencies, in the columns of `frequencies`; ``observed`` goes before its bounds."""
        made = []
        for row in frame.fillna({"printed": "", "source": ""}).to_dict("records"):
            known = row["observed"] is not None and row["observed"] == row["observed"]
            low, high = (row["observed"],) * 2 if known else (row["observed_low"], row["observed_high"])
            names = ("event", "grade", "covariate", "level", "n", "printed", "derived", "source")
            made.append(Frequency(**{name: row[name] for name in names}, unit="count", observed_low=low, observed_high=high))
        return replace(self, rows=tuple(made))

    @property
    def digest(self) -> str:
        """SHA-256 of the files' names and contents."""
        return digest_of(self.texts)

    def covariate(self, name: str) -> Covariate:
        return next(c for c in self.covariates if c.name == name)

    def published_grades(self, event: Event) -> tuple[str, ...]:
        """Grades at which an event has a frequency."""
        rows = [(row.event, row.grade) for row in self.rows]
        return published_grades(event, rows, self.grades, class_numbers(self.classes))

    def __repr__(self) -> str:
        return (
            f"<Tables {self.name}: {self.n} patients, {len(self.events)} events, {len(self.rows)} frequencies "
            f"({sum(not row.derived for row in self.rows)} in the likelihood), {len(self.known_discrepancies)} discrepancies>"
        )

    def _repr_html_(self) -> str:
        return tables_html(self)


def load_tables(source: str | Path) -> Tables:
    """Read a publication and check that its numbers agree with one another.

    Parameters
    ----------
    source
        Name of a shipped publication (``"aall1331"``) or the path of a folder with the six files of one; a folder that is
        named as a shipped one is ``"./aall1331"``, or a `Path`.

    Raises
    ------
    FileNotFoundError
        No such publication, or a file of it is missing.
    PublicationError
        Files are malformed, or counts contradict each other; the message names the file, the line or key and the remedy,
        and ``faults`` has everything that was found.
    """
    shipped = files("aemodel") / "publications"
    folder = path_in("source", source)
    names = sorted(entry.name for entry in shipped.iterdir() if entry.is_dir() and not entry.name.startswith("_"))
    if source in names:
        folder = Path(str(shipped / str(source)))
    elif not folder.is_dir():
        neither = f"{shown(str(source))} is neither a folder nor a shipped publication ({', '.join(names)})"
        raise FileNotFoundError(f"source: {neither}")
    return read_tables(read_texts(folder))


def write_template(folder: str | Path) -> Path:
    """Write the files of an invented publication, with comments, to start from.

    Raises
    ------
    FileExistsError, OSError
        The folder has such files already, or they cannot be written.
    """
    folder = Path(folder)
    if there := [name for name in FILES if os.path.lexists(folder / name)]:
        raise FileExistsError(f"{folder}: {listed(there)} would be written over; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).write_bytes((files("aemodel") / "publications" / "_template" / name).read_bytes())
    return folder


def read_tables(texts: Mapping[str, str]) -> Tables:
    """`load_tables` for files already in memory: a mapping from file name to text."""
    faults = Faults()
    about = read_about(texts[FILE], faults)
    records: dict[str, Any] = {name: read_rows(texts[name], kind, name, faults) for name, kind in TABLES.items()}
    events, known, counts = (records[name] for name in ("events.csv", "discrepancies.csv", "cohort.csv"))
    classes = about.grades or GRADES_BY_DEFAULT if about else GRADES_BY_DEFAULT
    whole = not faults.within("events.csv")
    told = about is not None and not faults.within(FILE, "grades")
    if whole:
        check_events(events, classes if told else (), faults)
    given, events = events, with_known_grades(events, classes)
    unread_grades = {event.name for event, known in zip(given, events, strict=True) if event.grades != known.grades}
    rows = count_rows(records["frequencies.csv"], {(d.event, d.grade, d.covariate, d.level) for d in known}, faults)
    orderings: tuple[Ordering, ...] = ()
    nulls: tuple[Null, ...] = ()
    unseen: tuple[Unseen, ...] = ()
    # What refers to covariates or events is checked where these could be read, so that each slip is told once.
    unread = [fault for fault in faults if fault.key.startswith("covariates") and not fault.problem.startswith("unknown key")]
    if about is not None and not unread:
        check_covariates(about.covariates, faults)
        check_classes(about.grades, faults)
        counts, sizes = _check_cohort(counts, about, faults)
        named = {event.name for event in events}
        rows = [row for row in rows if whole or row.event in named]
        rows = check_rows(rows, events, about.covariates, faults, unread_grades)
        whole = whole and not unread_grades
        if whole:
            if about.deaths_listed:
                events, alive = with_deaths_listed(events, rows, class_numbers(classes))
                rows = [*rows, *alive]
            answered = answered_classes(events, classes)
            check_deaths(events, rows, answered, class_numbers(classes), faults)
            check_nesting(events, rows, faults)
            below, unseen = read_cutoffs(rows, events, about, counts, faults)
            rows = [*rows, *below]
        sizes += check_sums(rows, events, about, faults)
        check_sizes(sizes, about.patients, faults)
        if whole:
            _check_together(events, about, faults)
            rows = list(with_totals(rows, events, about))
            orderings = read_orderings(about, events, faults)
            nulls = read_nulls(about, events, rows, counts, faults)
    faults.sort(key=lambda fault: (FILES.index(fault.file), fault.line or 0))
    faults.refuse()
    assert about is not None
    return Tables(
        about=about,
        covariates=about.covariates,
        events=tuple(events),
        rows=tuple(rows),
        counts=tuple(counts),
        printed_tests=tuple(records["tests.csv"]),
        known_discrepancies=tuple(known),
        orderings=orderings,
        nulls=nulls,
        unseen=unseen,
        texts={name: texts[name] for name in FILES},
    )


def _check_together(events: Sequence[Event], about: About, faults: Faults) -> None:
    """Not too many of both, and a name of its own for each column of patients: events, covariates and raw columns."""
    covariates, grades = about.covariates, answered_classes(events, about.grades or GRADES_BY_DEFAULT)
    cells = math.prod(len(covariate.levels) + covariate.open for covariate in covariates)
    if (risks := cells * len(events) * len(grades)) > MOST_RISKS:
        problem = f"{len(events)} events in {cells:,} combinations of levels have {risks:,} risks"
        limit = f"at most {MOST_RISKS:,} can be handled"
        faults.add("events.csv", f"{problem}, {limit}", remedy="leave out events, or join levels")
    taken = {name.casefold() for covariate in covariates for name in (covariate.name, *covariate.raw_columns)}
    for event in events:
        if event.name.casefold() in taken:
            problem = f"event {shown(event.name)} is the name of a covariate or of a raw column too"
            faults.add("events.csv", problem, line=event.line, remedy="rename one")


def _check_cohort(counts: Sequence[CohortCount], about: About, faults: Faults) -> tuple[list[CohortCount], list[Size]]:
    """Counts of known levels, none in two ways, and of nobody in cells that a complete cross-tabulation does not list."""
    lines: dict[tuple[str, ...], CohortCount] = {}
    cells: dict[tuple[str, ...], dict[tuple[str, ...], int]] = {tuple(sorted(text.split("*"))): {} for text in about.complete}
    before = len(faults)
    for row in counts:
        found = (row.covariate, row.level, row.by, row.by_level)
        check_level(*found[:2], about.covariates, COHORT, row.line, faults, fine=True)
        if row.by or row.by_level:
            check_level(*found[2:], about.covariates, COHORT, row.line, faults, fine=True)
        if (first := lines.setdefault(found, row)) is not row:
            problem = f"given twice, in line {first.line} too, with {first.n} patients"
            faults.add(COHORT, problem, line=row.line, remedy="leave one out")
        where = sorted(places(about.covariates, row))
        if all(len(levels) == 1 for _, levels in where):
            names, levels = tuple(name for name, _ in where), tuple(level for _, (level,) in where)
            cells.setdefault(names, {})[levels] = row.n
    if len(faults) > before:
        return list(counts), []
    added = [row for names in cells if len(names) > 1 for row in _complete(names, cells, about, faults)]
    if len(faults) > before:
        return list(counts), []
    number = {c.name: sum(len(level.cohort) for level in c.levels) for c in about.covariates}
    whole = [names for names, given in cells.items() if len(given) == math.prod(number[name] for name in names)]
    return [*counts, *added], [Size(COHORT, None, "", "*".join(names), sum(cells[names].values())) for names in whole]


def _complete(
    names: tuple[str, ...], cells: Mapping[tuple[str, ...], Mapping[tuple[str, ...], int]], about: About, faults: Faults
) -> list[CohortCount]:
    """Rows of nobody for the cells that a complete cross-tabulation does not list; any other must list them."""
    known = {c.name: [name for level in c.levels for name in level.cohort] for c in about.covariates}
    if unknown := [name for name in names if name not in known]:
        faults.add(FILE, f"covariate {shown(unknown[0])} is unknown; choose from {listed(known)}", key="complete")
        return []
    given = cells[names]
    missing = [levels for levels in product(*(known[name] for name in names)) if levels not in given]
    if names in {tuple(sorted(text.split("*"))) for text in about.complete}:
        return [CohortCount("*".join(names), "*".join(levels), 0, source="complete") for levels in missing]
    margins = [(None, about.patients)] + [
        ((k, level), n) for k, name in enumerate(names) for (level,), n in cells.get((name,), {}).items()
    ]
    for at, n in margins:
        empty = [levels for levels in missing if at is None or levels[at[0]] == at[1]]
        if empty and n == sum(n for levels, n in given.items() if at is None or levels[at[0]] == at[1]):
            cross, absent = "*".join(names), listed((" with ".join(levels) for levels in empty), 8)
            remedy = f'give them with n 0, or complete = ["{cross}"] in publication.toml'
            faults.add(COHORT, f"{cross} has no row for {absent}, though its other rows hold all {n} patients", remedy=remedy)
            break
    return []
