"""A publication's folder read, counted and cross-checked: what every later step starts from."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from aemodel.publication.arguments import path_in
from aemodel.publication.events import GRADES, Event, published_grades, read_events
from aemodel.publication.evidence import Null, Ordering, read_nulls, read_orderings
from aemodel.publication.rules import Covariate, check_apart, read_covariates
from aemodel.publication.summary import tables_html
from aemodel.publication.texts import (
    COLUMNS,
    FILES,
    MOST_PATIENTS,
    csv_rows,
    digest_of,
    listed,
    read_about,
    read_texts,
    shown,
)

MOST_RISKS = 200_000
"""Of all events and grades in all cells: a saved model has a thousand draws of each, 0.8 GB."""
TOTAL = ("total", "all")
"""Covariate and level of the rows that count the whole cohort."""


@dataclass(frozen=True)
class Tables:
    """One publication: its cohort, covariates, events and every published frequency as a count.

    ``frequencies`` has columns event, grade, covariate, level, n, observed, printed, derived, source. Derived rows
    (sums of others) are for checking and display; the likelihood uses the rest. ``cohort`` counts patients by covariate
    levels and has columns covariate, level, by, by_level, n, source. ``orderings`` and ``nulls`` are what the publication
    says in words, or by leaving out. ``texts`` holds the files as read.
    """

    name: str
    about: Mapping[str, Any]
    n: int
    covariates: tuple[Covariate, ...]
    events: tuple[Event, ...]
    frequencies: pd.DataFrame
    cohort: pd.DataFrame
    tests: pd.DataFrame
    discrepancies: pd.DataFrame
    orderings: tuple[Ordering, ...]
    nulls: tuple[Null, ...]
    texts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of the files' names and contents."""
        return digest_of(self.texts)

    def covariate(self, name: str) -> Covariate:
        return next(c for c in self.covariates if c.name == name)

    def published_grades(self, event: Event) -> tuple[str, ...]:
        """Grades at which an event has a frequency."""
        return published_grades(event, zip(self.frequencies["event"], self.frequencies["grade"], strict=True))

    def __repr__(self) -> str:
        return (
            f"<Tables {self.name}: {self.n} patients, {len(self.events)} events, {len(self.frequencies)} frequencies "
            f"({int((~self.frequencies['derived']).sum())} in the likelihood), {len(self.discrepancies)} discrepancies>"
        )

    def _repr_html_(self) -> str:
        return tables_html(self)


def load_tables(source: str | Path) -> Tables:
    """Read a publication and check that its numbers agree with one another.

    Parameters
    ----------
    source
        Name of a shipped publication (``"aall1331"``) or the path of a folder with the six files of one.

    Raises
    ------
    FileNotFoundError
        No such publication, or a file of it is missing.
    ValueError
        A file is malformed, or counts contradict each other; the message names the file, the row and the remedy.
    """
    return read_tables(_read_folder(source))


def read_tables(texts: Mapping[str, str]) -> Tables:
    """`load_tables` for files already in memory: a mapping from file name to text."""
    about = read_about(texts["publication.toml"])
    covariates = read_covariates(about.pop("covariates"), "publication.toml")
    check_apart(covariates, "publication.toml")
    table = {name: csv_rows(texts, name) for name in COLUMNS}
    events = read_events(table["events.csv"], "events.csv")
    _check_together(events, covariates)
    discrepancies = pd.DataFrame(table["discrepancies.csv"], columns=COLUMNS["discrepancies.csv"])
    frequencies = _read_frequencies(table["frequencies.csv"], events, covariates, about["patients"], discrepancies)
    frequencies = _with_totals(frequencies, events, covariates, about["patients"])
    return Tables(
        name=about["name"],
        about=about,
        n=about["patients"],
        covariates=covariates,
        events=events,
        frequencies=frequencies,
        cohort=_read_cohort(table["cohort.csv"], covariates),
        tests=pd.DataFrame(table["tests.csv"], columns=COLUMNS["tests.csv"]),
        discrepancies=discrepancies,
        orderings=read_orderings(about, events, covariates),
        nulls=read_nulls(about, events, covariates, frequencies),
        texts={name: texts[name] for name in FILES},
    )


def _read_folder(source: str | Path) -> dict[str, str]:
    shipped = files("aemodel") / "publications"
    folder = path_in("source", source)
    if not folder.is_dir():
        names = sorted(entry.name for entry in shipped.iterdir() if entry.is_dir() and not entry.name.startswith("_"))
        if str(source) not in names:
            raise FileNotFoundError(
                f"source: {shown(str(source))} is neither a folder nor a shipped publication ({', '.join(names)})"
            )
        folder = Path(str(shipped / str(source)))
    return read_texts(folder)


def _check_together(events: Sequence[Event], covariates: Sequence[Covariate]) -> None:
    """Not too many of both, and a name of its own for each column of patients: events, covariates and raw columns."""
    cells = math.prod(len(covariate.levels) + covariate.open for covariate in covariates)
    if (risks := cells * len(events) * len(GRADES)) > MOST_RISKS:
        raise ValueError(
            f"events.csv: {len(events)} events in {cells:,} combinations of levels have {risks:,} risks, at most "
            f"{MOST_RISKS:,} can be handled; leave out events, or join levels"
        )
    taken = {name.casefold() for covariate in covariates for name in (covariate.name, *covariate.raw_columns)}
    if twice := [event.name for event in events if event.name.casefold() in taken]:
        raise ValueError(f"events.csv: event {shown(twice[0])} is the name of a covariate or of a raw column too; rename one")


def _whole(text: str, where: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}(\.0{1,12})?", text) or (number := int(text.partition(".")[0])) > MOST_PATIENTS:
        raise ValueError(f"{where}: {shown(text)} is not a whole number of at most {MOST_PATIENTS:,}")
    return number


def _read_frequencies(
    rows: Sequence[Mapping[str, str]],
    events: Sequence[Event],
    covariates: Sequence[Covariate],
    n: int,
    discrepancies: pd.DataFrame,
) -> pd.DataFrame:
    excused = set(discrepancies[["event", "grade", "covariate", "level"]].itertuples(index=False, name=None))
    grades = {event.name: event.grades for event in events}
    table, lines = [], dict[tuple[str, ...], str]()
    for row in rows:
        where = f"frequencies.csv, line {row['line']}"
        key = (row["event"], row["grade"], row["covariate"], row["level"])
        if row["grade"] not in grades.get(row["event"], ()):
            date = re.fullmatch(r"[0-9]+[-/. ]?[^\W\d_]{3}.*|[0-9]+[/.][0-9]+.*", row["grade"])
            hint = "; a spreadsheet seems to have made a date of it: give the column as text, such as 3-5" if date else ""
            event, grade = shown(row["event"]), shown(row["grade"])
            raise ValueError(f"{where}: event {event} at grade {grade} is not in events.csv{hint}")
        _check_level(row["covariate"], row["level"], covariates, where)
        if (again := lines.setdefault(key, row["line"])) != row["line"]:
            raise ValueError(f"{where}: given twice, in line {again} too: {' '.join(key)}")
        size = _whole(row["n"], where)
        if not size:
            raise ValueError(f"{where}: n is 0; a level without patients has no frequencies: leave its rows out")
        if row["derived"] not in ("yes", "no"):
            raise ValueError(f"{where}: derived is 'yes' (a sum of other rows) or 'no', not {shown(row['derived'])}")
        observed = _count(row, size, key in excused, where)
        table.append((*key, size, observed, row["printed"], row["derived"] == "yes", row["source"]))
    columns = ["event", "grade", "covariate", "level", "n", "observed", "printed", "derived", "source"]
    frequencies = pd.DataFrame(table, columns=columns)
    _check_grades(frequencies)
    _check_sums(frequencies, covariates, n)
    return frequencies


def _check_level(covariate: str, level: str, covariates: Sequence[Covariate], where: str) -> None:
    if (covariate, level) == TOTAL:
        return
    found = [c for c in covariates if c.name == covariate]
    if not found or not found[0].members(level):
        allowed = {c.name: [*c.names, *c.groups] for c in covariates} | {"total": ["all"]}
        raise _unknown_level(covariate, level, allowed, where)


def _unknown_level(covariate: str, level: str, allowed: Mapping[str, Sequence[str]], where: str) -> ValueError:
    known = "; ".join(f"{name}: {listed(levels)}" for name, levels in allowed.items())
    return ValueError(f"{where}: covariate {shown(covariate)} with level {shown(level)} is unknown; known are {known}")


def _count(row: Mapping[str, str], size: int, excused: bool, where: str) -> int:
    """The integer behind a printed count or percentage, at the precision it was printed with."""
    printed = row["printed"].removesuffix("%").strip()
    if row["unit"] == "count":
        candidates = range(whole := _whole(printed, where), whole + 1)
    elif row["unit"] == "percent":
        if not re.fullmatch(r"[0-9]{1,3}([.][0-9]{0,12})?|[.][0-9]{1,12}", printed):
            raise ValueError(f"{where}: {shown(row['printed'])} is not a percentage, such as 17.3")
        candidates = _counts_of(printed, size)
    else:
        raise ValueError(f"{where}: unit is 'percent' or 'count', not {shown(row['unit'])}")
    given = _whole(row["count"], where) if row["count"] else None
    if given is None and len(candidates) != 1:
        problem = f"each of {shown(list(candidates[:9]))}" if candidates else "no whole number"
        raise ValueError(f"{where}: {row['printed']} {row['unit']} is {problem} over {size}; give the count in its column")
    observed = candidates[0] if given is None else given
    if observed not in candidates and not excused:
        raise ValueError(
            f"{where}: {observed} of {size} is not printed {row['printed']} ({row['unit']}); "
            "correct it, or record it in discrepancies.csv"
        )
    if observed > size:
        raise ValueError(f"{where}: {observed} events exceed {size} patients")
    return observed


def _counts_of(percent: str, size: int) -> range:
    """Every count k over ``size`` that rounds (half up) to ``percent`` at its decimals: p - s/2 <= 100 k / size < p + s/2."""
    whole, _, decimals = percent.partition(".")
    units, step = int(whole + decimals), 200 * 10 ** len(decimals)
    low, high = (-(-(2 * units + side) * size // step) for side in (-1, 1))
    return range(max(0, low), high)


def _check_grades(frequencies: pd.DataFrame) -> None:
    """No more patients at a higher grade than at a lower one."""
    wide = frequencies.pivot(index=["event", "covariate", "level"], columns="grade", values="observed")
    for low, high in (("3-5", "4-5"), ("4-5", "5"), ("3-5", "5")):
        if low in wide and high in wide and (wrong := wide[wide[high] > wide[low]].index.tolist()):
            raise ValueError(f"frequencies.csv: more patients at grade {high} than at {low} for {shown(wrong)}")


def _check_sums(frequencies: pd.DataFrame, covariates: Sequence[Covariate], n: int) -> None:
    """Every way of adding up one event at one grade must give one total, and the levels' sizes the cohort's."""
    for (event, grade), rows in frequencies.groupby(["event", "grade"], sort=False):
        where = f"frequencies.csv, {event} {grade}"
        totals: dict[str, int] = {}
        for covariate in covariates:
            mine = rows[rows["covariate"] == covariate.name].set_index("level")
            if set(covariate.names) <= set(mine.index):
                if (size := int(mine.loc[list(covariate.names), "n"].sum())) != n:
                    raise ValueError(
                        f"{where}: the levels of {covariate.name} hold {size} patients, the cohort {n} (patients in "
                        "publication.toml)"
                    )
                totals[covariate.name] = int(mine.loc[list(covariate.names), "observed"].sum())
            for group in set(mine.index) & set(covariate.groups):
                parts = [covariate.names[i] for i in covariate.members(group)]
                if set(parts) <= set(mine.index):
                    for column in ("n", "observed"):
                        if (total := int(mine.loc[parts, column].sum())) != mine.loc[group, column]:
                            raise ValueError(
                                f"{where}: {column} of {group} is {mine.loc[group, column]}, its levels sum to {total}"
                            )
        whole = rows[rows["covariate"] == "total"]
        if len(whole):
            totals["total"] = int(whole["observed"].iloc[0])
            if (size := int(whole["n"].iloc[0])) != n:
                raise ValueError(
                    f"{where}: the total is over {size} patients, the cohort has {n} (patients in publication.toml)"
                )
        if len(set(totals.values())) > 1:
            raise ValueError(f"{where}: the margins disagree on the number of patients with the event: {shown(totals)}")


def _with_totals(frequencies: pd.DataFrame, events: Sequence[Event], covariates: Sequence[Covariate], n: int) -> pd.DataFrame:
    """The published rows, then derived ones: totals that margins imply, and grade 4-5 of fatal events (grade 5 is both)."""
    fatal = {event.name for event in events if event.relation == "fatal"}
    extra = frequencies[frequencies["event"].isin(fatal) & (frequencies["grade"] == "3-5")]
    added = [extra.assign(grade="4-5", derived=True)] if len(extra) else []
    for (event, grade), rows in frequencies.groupby(["event", "grade"], sort=False):
        if (rows["covariate"] == "total").any():
            continue
        for covariate in covariates:
            mine = rows[(rows["covariate"] == covariate.name) & rows["level"].isin(covariate.names)]
            if len(mine) == len(covariate.levels):
                row = (event, grade, *TOTAL, n, mine["observed"].sum(), "", True, f"sum over {covariate.name}")
                added.append(pd.DataFrame([row], columns=frequencies.columns))
                break
    order = {event.name: i for i, event in enumerate(events)}
    place = {TOTAL[0]: len(covariates)} | {c.name: i for i, c in enumerate(covariates)}
    table = pd.concat([frequencies, *added], ignore_index=True).drop_duplicates(["event", "grade", "covariate", "level"])
    keys = pd.DataFrame({"e": table["event"].map(order), "g": table["grade"], "c": table["covariate"].map(place)})
    return table.loc[keys.sort_values(["e", "g", "c"], kind="stable").index].reset_index(drop=True)


def _read_cohort(rows: Sequence[Mapping[str, str]], covariates: Sequence[Covariate]) -> pd.DataFrame:
    fine = {c.name: {name for level in c.levels for name in level.cohort} for c in covariates}
    table = []
    for row in rows:
        where = f"cohort.csv, line {row['line']}"
        for covariate, level in ((row["covariate"], row["level"]), (row["by"], row["by_level"])):
            if covariate and (covariate not in fine or not set(level.split("+")) <= fine[covariate]):
                raise _unknown_level(covariate, level, {name: sorted(levels) for name, levels in fine.items()}, where)
        if not row["covariate"]:
            raise ValueError(f"{where}: covariate is empty")
        table.append((row["covariate"], row["level"], row["by"], row["by_level"], _whole(row["n"], where), row["source"]))
    return pd.DataFrame(table, columns=COLUMNS["cohort.csv"])
