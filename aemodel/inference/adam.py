"""CDISC ADaM to patients of one's own: subjects from ADSL, their worst grades from ADAE, as frames or in files. Light."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw

from aemodel.publication.arguments import path_in
from aemodel.publication.errors import InputError
from aemodel.publication.patients import is_missing
from aemodel.publication.tables import Tables
from aemodel.publication.texts import listed, said, shown
from aemodel.scoring.eager import as_frame, indexed_as

SHOWN = 5
FLAGS = ("population", "emergent")
DEATH = "AESDTH"
FORMATS = {".xpt": "SAS transport", ".json": "Dataset-JSON 1.1", ".ndjson": "Dataset-JSON 1.1"}
Terms = Mapping[str, str | Sequence[str]]


def read_adam(
    tables: Tables,
    adsl: Any,
    adae: Any,
    events: Mapping[str, Terms | Sequence[Terms]],
    *,
    population: str | None = "SAFFL",
    emergent: str | None = "TRTEMFL",
    grade: str = "AETOXGR",
    subject: str = "USUBJID",
) -> Any:
    """Patients for `fit`, one row per subject, from CDISC ADaM's subject-level and adverse event datasets.

    ADAE mostly covers a whole trial: give only its records from the time that the publication speaks of.

    Parameters
    ----------
    tables
        The publication whose events are meant, from `load_tables`.
    adsl, adae
        pandas or polars DataFrames, pyarrow Tables, or paths of files: SAS transport (``.xpt``) or CDISC Dataset-JSON 1.1
        (``.json``, ``.ndjson``), which are read with pandas.
    events
        For each event that is to be read, the records of ADAE that are it: columns with the text, or any of several
        texts, that must stand there, small and capital letters alike, as ``{"rash": {"AEDECOD": ["Rash", "Rash macular"]}}``.
        Several columns must all match; of several such dicts in a list, one; with none, ``{}``, every record is the event.
        A fatal event is
        ``{"AETOXGR": "5"}``. In each column at least one of the texts must stand somewhere, or a slip of the finger would
        be an event that nobody had.
    population
        ADSL's flag of those who are counted, where it is ``Y``; None counts all subjects.
    emergent
        ADAE's flag of the records that are counted, where it is ``Y``; None counts all records.
    grade
        ADAE's toxicity grade, 1 to 5 (0: no event), as number or text. A record that ``AESDTH`` marks as fatal, where ADAE has
        that column, is of grade 5.
    subject
        The subject's identifier in both.

    Returns
    -------
    The caller's kind of frame
        ADSL's columns for the population, then one for each of ``events``: the subject's worst grade; 0 where no record is
        the event, so for all events of a subject that ADAE does not have; null where one of the records is not graded and
        the others do not reach 4: beside one that does, at least 4 is known. Covariates are the caller's to add, in columns
        that the publication names.

    Raises
    ------
    TypeError, ValueError
        A frame, column or grade is not what it must be, an event is not the publication's, or subjects do not fit.
    """
    subjects, records = open_dataset(adsl, "adsl"), open_dataset(adae, "adae")
    _check_events(tables, events)
    _check_columns("adsl", subjects, subject=subject, population=population)
    _check_columns("adae", records, subject=subject, emergent=emergent, grade=grade)
    if taken := [name for name in events if name in subjects.columns]:
        raise InputError("adsl", f"it has columns that read_adam would add: {taken}; rename or drop them")
    _check_subjects(subjects, records, subject)
    records = _with_deaths(records, grade)
    for event, terms in events.items():
        for each in _several(terms) if len(records) else ():
            _check_terms(records, event, each)
    subjects = _flagged("adsl", subjects, population, "population")
    records = _flagged("adae", records, emergent, "emergent")
    grades = [_grade(value, grade) for value in records[grade].to_list()]
    graded = list(zip(records[subject].to_list(), grades, strict=True))
    for event, terms in events.items():
        chosen = [any(found) for found in zip(*(_matching(records, each) for each in _several(terms)), strict=True)]
        worst = _worst([pair for pair, is_event in zip(graded, chosen, strict=True) if is_event])
        values = [worst.get(name, 0) for name in subjects[subject].to_list()]
        subjects = subjects.with_columns(_column(subjects, event, values))
    return subjects.to_native()


def _check_subjects(subjects: nw.DataFrame[Any], records: nw.DataFrame[Any], subject: str) -> None:
    everybody = _subjects("adsl", subjects[subject].to_list())
    if again := [name for name, times in Counter(everybody).items() if times > 1]:
        raise InputError("adsl", f"{subject} must name each subject once; more often: {_shown(again)}")
    if unknown := set(_subjects("adae", records[subject].to_list())) - set(everybody):
        bare = {_bare(name): name for name in everybody}
        alike = [f"{shown(bare[_bare(name)])} of adsl seems to be {shown(name)}" for name in unknown if _bare(name) in bare]
        remedy = f"{min(alike)} of adae: write both as the same text" if alike else ""
        raise InputError("adae", f"subjects that adsl does not have: {_shown(unknown)}", remedy=remedy)


def _check_events(tables: Any, events: Any) -> None:
    if not isinstance(tables, Tables):
        raise TypeError(f"tables: expected what load_tables returns, not {type(tables).__name__}")
    known = [event.name for event in tables.events]
    if not isinstance(events, Mapping):
        raise TypeError(f"events: expected events with their columns and texts, as a dict, not {type(events).__name__}")
    if not events:
        raise InputError("events", f"none is given; choose from {', '.join(known)}")
    if unknown := sorted(set(events) - set(known)):
        raise InputError("events", f"unknown {unknown}; choose from {', '.join(known)}")
    for event, terms in events.items():
        every = _several(terms)
        if not every or not all(isinstance(each, Mapping) and all(map(_are_texts, each.values())) for each in every):
            raise TypeError(
                f"events: expected columns with their texts for {event}, as {{'AEDECOD': 'Rash'}}, not {shown(terms)}"
            )


def _are_texts(wanted: Any) -> bool:
    return bool(_several(wanted)) and all(isinstance(text, str) for text in _several(wanted))


def _with_deaths(records: nw.DataFrame[Any], grade: str) -> nw.DataFrame[Any]:
    """Records with their grade as text, which is 5 where they are marked as fatal."""
    if DEATH not in records.columns or not len(records):
        return records
    pairs = zip(records[grade].to_list(), records[DEATH].to_list(), strict=True)
    values = ["5" if dead == "Y" else _plain(value) for value, dead in pairs]
    column = nw.new_series(grade, values, nw.String(), backend=records.implementation)
    return records.with_columns(indexed_as(records, column))


def _several(wanted: Any) -> list[Any]:
    return list(wanted) if isinstance(wanted, (list, tuple, set, frozenset)) else [wanted]


def _check_columns(argument: str, frame: nw.DataFrame[Any], **columns: str | None) -> None:
    for option, column in columns.items():
        if column is not None and column not in frame.columns:
            remedy = f"say which it is with {option}=" + (", or that all count with None" if option in FLAGS else "")
            raise InputError(argument, f"no column {shown(column)}; {remedy}. Columns found: {listed(frame.columns)}")
        if column is not None and any(isinstance(value, bytes) for value in frame[column].to_list()):
            remedy = "read the file with an encoding, as pandas.read_sas(..., encoding='utf-8'), or give its path"
            raise InputError(argument, f"column {column!r} holds bytes, not texts", remedy=remedy)
    if re.fullmatch("AE?SEVN?", columns.get("grade") or ""):
        problem = f"{columns['grade']} is a severity of three steps, no toxicity grade of 1 to 5"
        raise InputError(argument, problem, remedy="make a column of grades from it, by a rule of your own, and name that")


def _check_terms(records: nw.DataFrame[Any], event: str, terms: Terms) -> None:
    for column, wanted in terms.items():
        if column not in records.columns:
            raise InputError("events", f"{event}: adae has no column {shown(column)}; found {listed(records.columns)}")
        found = {text: value for value in records[column].unique().to_list() if (text := _plain(value)) is not None}
        if not {_plain(text) for text in _several(wanted)} & set(found):
            near = [found[text] for each in _several(wanted) for text in get_close_matches(_plain(each) or "", found, n=2)]
            raise InputError(
                "events",
                f"{event}: {column} is nowhere {' or '.join(map(repr, _several(wanted)))}"
                + (f"; near it: {', '.join(map(repr, near))}" if near else "")
                + f". If nobody had it, leave {event} out and add a column of 0",
            )


def _flagged(argument: str, frame: nw.DataFrame[Any], flag: str | None, option: str) -> nw.DataFrame[Any]:
    """Rows where a flag, if there is one, is Y."""
    values = [] if flag is None else frame[flag].to_list()
    if not values:
        return frame
    known = [is_missing(value) or (isinstance(value, str) and value in ("Y", "N", "")) for value in values]
    yes = [isinstance(value, str) and value == "Y" for value in values]
    if not (all(known) and any(yes)):
        found = sorted({repr(value) for value in values})[:SHOWN]
        raise InputError(
            argument,
            f"{flag} must be Y, or N or empty, and Y somewhere; found {', '.join(found)}; name another flag with "
            f"{option}=, or None",
        )
    return frame.filter(yes)


def _subjects(argument: str, names: list[Any]) -> list[Any]:
    if (missing := sum(map(is_missing, names))) > 0:
        raise InputError(argument, f"{missing} rows do not name their subject")
    if odd := [name for name in names if not isinstance(name, Hashable)]:
        raise InputError(argument, f"a subject must be named by a text or number, not {shown(odd[0])}")
    return names


def _bare(name: Any) -> str:
    """A subject's name as it is written in any way: as number or text, with or without zeros before it."""
    return (_plain(name) or "").lstrip("0")


def _shown(names: Collection[Any]) -> str:
    return listed(sorted(map(str, names)), SHOWN)


def _grade(value: Any, column: str) -> int | None:
    """A toxicity grade; None where there is none."""
    if is_missing(value) or (isinstance(value, str) and value.strip() in ("", ".")):
        return None
    if not isinstance(value, bool) and re.fullmatch(r"[0-5](\.0)?", text := str(value).strip()):
        return int(text[0])
    raise InputError(
        "adae",
        f"column {column!r}: {shown(value)} is no toxicity grade; allowed: 1 to 5, 0 for none, or null where it is not known",
    )


def _matching(records: nw.DataFrame[Any], terms: Terms) -> list[bool]:
    """Which records have one of the texts in each column."""
    chosen = [True] * len(records)
    for column, wanted in terms.items():
        texts = {_plain(text) for text in _several(wanted)}
        found = [_plain(value) in texts for value in records[column].to_list()]
        chosen = [a and b for a, b in zip(chosen, found, strict=True)]
    return chosen


def _plain(value: Any) -> str | None:
    """A cell as texts are compared: without capitals and blanks around it; whole numbers without a point."""
    if is_missing(value):
        return None
    return (f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)).strip().casefold()


def _worst(graded: Sequence[tuple[Any, int | None]]) -> dict[Any, int | None]:
    """Each subject's worst grade; None if one is not known, unless another is at 4-5."""
    grades: dict[Any, list[int | None]] = {}
    for name, grade in graded:
        grades.setdefault(name, []).append(grade)
    worst = {name: max((g for g in of if g is not None), default=0) for name, of in grades.items()}
    return {name: None if None in of and worst[name] < 4 else worst[name] for name, of in grades.items()}


def _column(frame: nw.DataFrame[Any], name: str, values: list[int | None]) -> nw.Series[Any]:
    """A column of whole numbers or nulls, which pandas' own whole numbers do not know."""
    dtype = nw.Float64() if frame.implementation.is_pandas() and None in values else nw.Int64()
    return indexed_as(frame, nw.new_series(name, values, dtype, backend=frame.implementation))


# Files of CDISC's formats.


def open_dataset(data: Any, argument: str) -> nw.DataFrame[Any]:
    """A caller's frame, or the table in the file of a path, in pandas.

    Raises
    ------
    TypeError, OSError, InputError
        It is neither, or cannot be read as what its name ends in.
    """
    if not isinstance(data, (str, os.PathLike)):
        return as_frame(data, argument)
    path = path_in(argument, data)
    if (kind := path.suffix.lower()) not in FORMATS:
        known = ", ".join(f"{suffix} ({name})" for suffix, name in FORMATS.items())
        raise InputError(argument, f"{path.name!r} ends in none of {known}")
    try:
        return as_frame(_read_transport(path) if kind == ".xpt" else _read_json(path, lines=kind == ".ndjson"), argument)
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(argument, f"{path.name!r} is not read as {FORMATS[kind]}: {said(error)}") from error


def _read_transport(path: Path) -> Any:
    import pandas as pd

    try:
        return pd.read_sas(path, format="xport", encoding="utf-8")
    except UnicodeDecodeError:
        return pd.read_sas(path, format="xport", encoding="cp1252")


def _read_json(path: Path, *, lines: bool) -> Any:
    """``columns``, each with its name, and ``rows``; where each row is a line, the first has all but the rows."""
    import pandas as pd

    text = path.read_text(encoding="utf-8-sig")
    if lines:
        about, *rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    else:
        about = json.loads(text)
        rows = about["rows"]
    if not str(about["datasetJSONVersion"]).startswith("1.1"):
        raise ValueError(f"its version is {about['datasetJSONVersion']!r}")
    return pd.DataFrame(rows, columns=[column["name"] for column in about["columns"]])
