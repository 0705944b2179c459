"""CDISC ADaM to patients of one's own: subjects from ADSL, their worst grades from ADAE. Light."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import narwhals.stable.v2 as nw

from aemodel.publication.patients import as_frame, is_missing
from aemodel.publication.tables import Tables

SHOWN = 5
Terms = Mapping[str, str | Sequence[str]]


def read_adam(
    tables: Tables,
    adsl: Any,
    adae: Any,
    events: Mapping[str, Terms],
    *,
    population: str | None = "SAFFL",
    emergent: str | None = "TRTEMFL",
    grade: str = "AETOXGR",
    subject: str = "USUBJID",
) -> Any:
    """Patients for `fit`, one row per subject, from CDISC ADaM's subject-level and adverse event datasets.

    Parameters
    ----------
    tables
        The publication whose events are meant, from `load_tables`.
    adsl, adae
        pandas or polars DataFrames, or pyarrow Tables.
    events
        For each event that is to be read, the records of ADAE that are it: columns with the text, or any of several
        texts, that must stand there, small and capital letters alike, as ``{"infections": {"AEBODSYS": "Infections and
        infestations"}}``. Several columns must all match; with none, as ``{"any_ae": {}}``, every record is the event.
    population
        ADSL's flag of those who are counted, where it is ``Y``; None counts all subjects.
    emergent
        ADAE's flag of the records that are counted, where it is ``Y``; None counts all records.
    grade
        ADAE's toxicity grade, 1 to 5, as number or text.
    subject
        The subject's identifier in both.

    Returns
    -------
    The caller's kind of frame
        ADSL's columns for the population, then one for each of ``events``: the subject's worst grade; 0 where no record is
        the event, so for all events of a subject that ADAE does not have; null where one of the records is not graded and
        the others do not reach 5. Covariates are the caller's to add, in columns that the publication names.

    Raises
    ------
    TypeError, ValueError
        A frame, column or grade is not what it must be, an event is not the publication's, or subjects do not fit.
    """
    subjects, records = as_frame(adsl, "adsl"), as_frame(adae, "adae")
    _check_events(tables, events)
    _check_columns("adsl", subjects, [subject, population])
    _check_columns("adae", records, [subject, emergent, grade, *(column for terms in events.values() for column in terms)])
    if taken := [name for name in events if name in subjects.columns]:
        raise ValueError(f"adsl: it has columns that read_adam would add: {taken}; rename or drop them")
    everybody = _subjects("adsl", subjects[subject].to_list())
    if len(again := _repeated(everybody)):
        raise ValueError(f"adsl: {subject} must name each subject once; more often: {_shown(again)}")
    if unknown := set(_subjects("adae", records[subject].to_list())) - set(everybody):
        raise ValueError(f"adae: subjects that adsl does not have: {_shown(unknown)}")
    if population is not None:
        subjects = subjects.filter(nw.col(population) == "Y")
    if emergent is not None:
        records = records.filter(nw.col(emergent) == "Y")
    grades = [_grade(value, grade) for value in records[grade].to_list()]
    graded = list(zip(records[subject].to_list(), grades, strict=True))
    for event, terms in events.items():
        chosen = _matching(records, terms)
        worst = _worst([pair for pair, is_event in zip(graded, chosen, strict=True) if is_event])
        values = [worst.get(name, 0) for name in subjects[subject].to_list()]
        subjects = subjects.with_columns(_column(subjects, event, values))
    return subjects.to_native()


def _check_events(tables: Tables, events: Mapping[str, Terms]) -> None:
    if not isinstance(tables, Tables):
        raise TypeError(f"tables: expected what load_tables returns, not {type(tables).__name__}")
    known = [event.name for event in tables.events]
    if not events or (set(events) - set(known)):
        raise ValueError(f"events: unknown {sorted(set(events) - set(known))}; choose from {', '.join(known)}")
    for event, terms in events.items():
        if not isinstance(terms, Mapping):
            raise TypeError(f"events: expected columns with their texts for {event}, as {{'AEDECOD': 'Sepsis'}}, not {terms!r}")


def _check_columns(argument: str, frame: nw.DataFrame[Any], columns: Sequence[str | None]) -> None:
    if missing := [column for column in dict.fromkeys(columns) if column is not None and column not in frame.columns]:
        raise ValueError(f"{argument}: no column {', '.join(map(repr, missing))}; found {frame.columns}")


def _subjects(argument: str, names: list[Any]) -> list[Any]:
    if (missing := sum(map(is_missing, names))) > 0:
        raise ValueError(f"{argument}: {missing} rows do not name their subject")
    return names


def _repeated(names: Sequence[Any]) -> set[Any]:
    seen: set[Any] = set()
    return {name for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]


def _shown(names: Collection[Any]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(sorted(map(str, names))[:SHOWN]) + more


def _grade(value: Any, column: str) -> int | None:
    """A toxicity grade; None where there is none."""
    if is_missing(value) or (isinstance(value, str) and value.strip() in ("", ".")):
        return None
    if not isinstance(value, bool) and re.fullmatch(r"[1-5](\.0)?", text := str(value).strip()):
        return int(text[0])
    raise ValueError(f"adae: column {column!r}: {value!r} is no toxicity grade; allowed: 1 to 5, or null where it is not known")


def _matching(records: nw.DataFrame[Any], terms: Terms) -> list[bool]:
    """Which records have one of the texts in each column."""
    chosen = [True] * len(records)
    for column, wanted in terms.items():
        texts = {text.casefold() for text in ([wanted] if isinstance(wanted, str) else wanted)}
        found = [isinstance(value, str) and value.strip().casefold() in texts for value in records[column].to_list()]
        chosen = [a and b for a, b in zip(chosen, found, strict=True)]
    return chosen


def _worst(graded: Sequence[tuple[Any, int | None]]) -> dict[Any, int | None]:
    """Each subject's worst grade; None if one is not known, unless no grade could be worse."""
    grades: dict[Any, list[int | None]] = {}
    for name, grade in graded:
        grades.setdefault(name, []).append(grade)
    return {name: 5 if 5 in of else None if None in of else max(g for g in of if g is not None) for name, of in grades.items()}


def _column(frame: nw.DataFrame[Any], name: str, values: list[int | None]) -> nw.Series[Any]:
    """A column of whole numbers or nulls; of pandas with the frame's index, by which it would match rows."""
    pandas = frame.implementation.is_pandas()
    dtype = nw.Float64() if pandas and None in values else nw.Int64()  # pandas' own whole numbers know no nulls
    series = nw.new_series(name, values, dtype, backend=frame.implementation)
    if pandas:
        native = series.to_native()
        native.index = frame.to_native().index
        return nw.from_native(native, series_only=True)
    return series
