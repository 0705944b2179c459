"""Files of CSV: what their first line says, what a line that is written looks like, and why one cannot be read. Light."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

from aemodel.publication.codes import NUMBER
from aemodel.publication.errors import PatientsError
from aemodel.publication.texts import csv_problem, open_regular, shown
from aemodel.scoring.sql import literal, quoted

RISKY_FIRST = ("-", "=", "+", "@", "\t", "\r", "\n")  # as in a class of a pattern, where the hyphen must be first
DELIMITERS = (",", ";", "\t")
MOST_HEADER = 1 << 20
"""Characters within which the first line must end."""
LONGEST_LINE = 1 << 21
"""Bytes of a line that DuckDB takes."""
OTHER_KINDS = {
    b"\x1f\x8b": "compressed (gzip); unpack it",
    b"PK\3\4": "a workbook of Excel or another zip archive; save it as CSV, or unpack it",
    b"PAR1": "Parquet; give it a name that ends in .parquet",
}
"""What files may be that are called CSV, by their first bytes."""


@dataclass(frozen=True)
class Header:
    """The first line of a CSV file: names as they are written, of which one may be empty, what separates and what ends them."""

    names: tuple[str, ...]
    delimiter: str
    end: str = "\n"

    @property
    def columns(self) -> list[str]:
        return [name or f"column{place}" for place, name in enumerate(self.names)]


def read_header(path: Path) -> Header:
    """A CSV file's columns, and what separates them: commas, semicolons or tabs, whichever the first line has most of.

    One that would leave a quote within a name is taken only if all would.

    Raises
    ------
    ValueError
        It is not in UTF-8 (with or without a BOM), its first line does not name its columns, or its last one is too long.
    """
    with open_regular(path) as file:
        first = file.read(4)
        if kind := next((kind for start, kind in OTHER_KINDS.items() if first.startswith(start)), ""):
            raise PatientsError("patients", f"{str(path)!r} cannot be read as csv: it is {kind}")
        # A last line of more than its buffer DuckDB leaves out without a word, if no quote is open; of others it complains.
        file.seek(max(0, path.stat().st_size - LONGEST_LINE - 1))
        tail = file.read(LONGEST_LINE + 1)
        if len(tail) > LONGEST_LINE and len(tail.splitlines()) == 1:
            raise PatientsError(
                "patients", f"{str(path)!r} cannot be read as csv: its last line is longer than 2 MiB; is it torn?"
            )
    try:
        with TextIOWrapper(open_regular(path), "utf-8-sig", newline="") as file:
            text = file.read(MOST_HEADER)
    except UnicodeDecodeError:
        raise ValueError(problem_in(path, Header((), ","))) from None
    if "\0" in text:
        raise PatientsError("patients", f"{str(path)!r} cannot be read as csv: it holds binary data")
    header = max((_first_row(text, each) for each in DELIMITERS), key=_plausible)
    if not header.names or header.names[0].lower() == "sep=":
        said = "it is empty" if not text.strip() else "its first line is blank" if not header.names else "it begins with 'sep='"
        raise PatientsError("patients", f"{str(path)!r} cannot be read as csv: {said}; its first line must name the columns")
    if len(header.end) == 2 and (broken := [name for name in header.names if re.search("[\r\n]", name.replace("\r\n", ""))]):
        raise PatientsError(
            "patients",
            f"{str(path)!r} cannot be read as csv: the column {shown(broken[0])} has a line break in its name; take it out",
        )
    check_columns(path, header.columns)
    return header


def check_columns(path: Path, names: Sequence[str]) -> None:
    """Refuse columns that DuckDB would not tell apart."""
    if again := [name for name, times in Counter(name.lower() for name in names).items() if times > 1]:
        raise PatientsError(
            "patients", f"{str(path)!r} has several columns named {again[:5]} (small and capital letters are alike)"
        )


def _plausible(header: Header) -> tuple[bool, int]:
    return not any('"' in name for name in header.names), len(header.names)


def _first_row(text: str, delimiter: str) -> Header:
    """The first line; no names where it cannot be read, as with another delimiter than its own."""
    lines = StringIO(text, newline="")
    try:
        names = tuple(next(csv.reader(lines, delimiter=delimiter), ()))
    except csv.Error:
        return Header((), delimiter)
    first = text[: lines.tell()]
    return Header(names, delimiter, next((end for end in ("\r\n", "\n", "\r") if first.endswith(end)), "\n"))


def problem_in(path: Path, header: Header) -> str:
    """The first line of CSV that cannot be read, and why."""
    with open_regular(path) as content:
        for number, line in enumerate(content, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                remedy = "save it as CSV in UTF-8, or convert it with iconv"
                return f"patients: {str(path)!r} is not in UTF-8 (line {number}): {remedy}"
    start, width = 1, len(header.names)
    said = "its lines end in different ways, or one is too long; save it as CSV anew"
    with TextIOWrapper(open_regular(path), "utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=header.delimiter, strict=True)
        try:
            for row in reader:
                if len(row) not in (0, width):
                    said = f"line {start} has {len(row)} cell{'s' * (len(row) > 1)}, the first line {width}"
                    break
                start = reader.line_num + 1
        except csv.Error as error:
            said = f"line {start}: {csv_problem(error)}"
    return f"patients: {str(path)!r} cannot be read as csv: {said}"


def neutralised(value: Any) -> Any:
    """A cell as it may stand in CSV: text that a spreadsheet would run as a formula is given a leading apostrophe."""
    risky = isinstance(value, str) and value.startswith(RISKY_FIRST) and not re.search(NUMBER, value)
    return f"'{value}" if risky else value


def joined(columns: Any, delimiter: str) -> str:
    """SQL for a row's cells as CSV: quoted where need be, texts `neutralised`; columns are told with whether they hold text."""
    return f"concat_ws({literal(delimiter)}, {', '.join(_cell(name, delimiter, text=text) for name, text in columns)})"


def _cell(name: str, delimiter: str, *, text: bool) -> str:
    cell = f"CAST({quoted(name)} AS VARCHAR)"
    odd, risky = literal(f'[{delimiter}"\r\n]'), literal(f"^[{''.join(RISKY_FIRST)}]")
    safe = cell
    if text:
        formula = f"regexp_matches({cell}, {risky}) AND NOT regexp_matches({cell}, {literal(NUMBER)})"
        safe = f"CASE WHEN {formula} THEN '''' || {cell} ELSE {cell} END"
    doubled = f"""'"' || replace({safe}, '"', '""') || '"'"""
    return f"CASE WHEN {cell} IS NULL THEN '' WHEN regexp_matches({cell}, {odd}) THEN {doubled} ELSE {safe} END"
