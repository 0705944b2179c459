"""Files of patients, CSV or Parquet, read and written by DuckDB piece by piece: memory does not grow with their length."""

from __future__ import annotations

import codecs
import csv
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb

from aemodel.publication.profiles import NUMBER
from aemodel.serving.sql import literal, quoted

RISKY_FIRST = ("=", "+", "-", "@", "\t", "\r", "\n")
DELIMITERS = (",", ";", "\t")
MOST_THREADS = 4
MEMORY = "1GB"
MOST_HEADER = 1 << 20
"""Characters within which the first line of a CSV file must end."""


def connect() -> duckdb.DuckDBPyConnection:
    """A connection with bounded memory, that keeps the order of rows and fetches nothing from the network."""
    connection = duckdb.connect()
    threads = min(MOST_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    connection.execute(f"SET threads = {threads}")
    connection.execute(f"SET memory_limit = '{MEMORY}'")
    connection.execute("SET preserve_insertion_order = true")
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET enable_progress_bar = true")  # it is asked how far it is,
    connection.execute("SET enable_progress_bar_print = false")  # and would otherwise print on stdout
    return connection


def read_patients(connection: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    """A CSV or Parquet file as a relation, not yet read; CSV cells are text, as they are written, empty ones are null.

    CSV is separated by commas, semicolons or tabs, whichever the first line has most of, in UTF-8 with or without a BOM.

    Raises
    ------
    FileNotFoundError, ValueError
        The file is not there, is of another kind, or cannot be read as what it says it is.
    """
    kind = check_kind(path, "patients")
    if not path.is_file():
        raise FileNotFoundError(f"patients: no file {str(path)!r}")
    name = literal(re.sub(r"([*?\[])", r"[\1]", str(path)))  # DuckDB takes names for patterns
    if kind == "parquet":
        query = f"SELECT * FROM read_parquet({name})"
    else:
        header, delimiter = _read_header(path)
        columns = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in header)
        query = (
            f"SELECT * FROM read_csv({name}, auto_detect = false, header = true, columns = {{{columns}}}, "
            f"delim = {literal(delimiter)}, quote = '\"', escape = '\"', strict_mode = true, null_padding = false)"
        )
    try:
        return connection.sql(query)
    except duckdb.Error as error:
        raise unreadable(path, error) from error


def read_frame(path: Path) -> Any:
    """A whole file as a pandas frame, its cells as `read_patients` has them; for what is held in memory in any case."""
    with connect() as connection:
        try:
            return read_patients(connection, path).df()
        except duckdb.Error as error:
            raise unreadable(path, error) from error


def unreadable(path: Path, error: duckdb.Error) -> ValueError:
    """What is wrong with a file, in one line."""
    text = str(error)
    if "not utf-8" in text.lower() or "invalid unicode" in text.lower():
        line = re.search(r"Line: (\d+)", text)
        return _not_utf8(path, f" (line {line[1]})" if line else "")
    # The line itself stays out: it is a patient, and errors end up in logs.
    lines = [line.strip() for line in text.partition("Possible")[0].splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Original Line")]
    shown = "; ".join(lines[:3]).removeprefix("Invalid Input Error: ")[:300]
    return ValueError(f"patients: {str(path)!r} cannot be read as {check_kind(path, 'patients')}: {shown}")


def _not_utf8(path: Path, where: str = "") -> ValueError:
    return ValueError(f"patients: {str(path)!r} is not in UTF-8{where}: save it as CSV in UTF-8, or convert it with iconv")


def _read_header(path: Path) -> tuple[list[str], str]:
    """Names of a CSV file's columns, and what separates them."""
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise _not_utf8(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read(MOST_HEADER)
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    if "\0" in text:
        raise ValueError(f"patients: {str(path)!r} cannot be read as csv: it holds binary data")
    try:
        headers = {delimiter: next(csv.reader(text.splitlines(True), delimiter=delimiter), []) for delimiter in DELIMITERS}
    except csv.Error as error:
        raise ValueError(f"patients: {str(path)!r} cannot be read as csv: {error}") from error
    delimiter = max(DELIMITERS, key=lambda each: len(headers[each]))
    header = [name or f"column{place}" for place, name in enumerate(headers[delimiter])]
    if not header:
        raise ValueError(f"patients: {str(path)!r} cannot be read as csv: it is empty; its first line must name the columns")
    if again := [name for name, times in Counter(name.lower() for name in header).items() if times > 1]:
        raise ValueError(f"patients: {str(path)!r} has several columns named {again[:5]} (small and capital letters are alike)")
    return header, delimiter


def check_output(path: Path, patients: Path) -> None:
    """Refuse a name for the output before any work is done.

    Raises
    ------
    ValueError
        It is of another kind than CSV or Parquet, or it is the input itself.
    """
    check_kind(path, "out")
    if path.exists() and patients.exists() and path.samefile(patients):
        raise ValueError(f"out: {str(path)!r} is the file of patients itself; name another one")


def write_rows(
    relation: duckdb.DuckDBPyRelation, path: Path, patients: Path, caller: duckdb.DuckDBPyRelation | None = None
) -> None:
    """Write a relation as CSV or Parquet, in its order; the file stands under its name only once it is whole.

    In CSV, text that a spreadsheet would run as a formula is given a leading apostrophe: in any column, or where it is
    said, in those of the ``caller`` only. CSV that came from CSV keeps its delimiter.

    Raises
    ------
    OSError, ValueError
        The file cannot be written, or the patients cannot be read to their end.
    """
    partial = _partial(path)
    try:
        partial.touch()
        if check_kind(path, "out") == "parquet":
            relation.write_parquet(str(partial))
        else:
            delimiter = _read_header(patients)[1] if check_kind(patients, "patients") == "csv" else ","
            given = relation if caller is None else caller  # a relation's truth is its number of rows: a query of all of them
            kinds = dict(zip(given.columns, given.types, strict=True))
            safe = [_safe(name, str(kinds.get(name, ""))) for name in relation.columns]
            relation.project(", ".join(safe)).write_csv(str(partial), sep=delimiter)
        os.replace(partial, path)
    except duckdb.IOException as error:
        raise OSError(f"out: {str(path)!r} cannot be written: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise OSError(f"out: {str(path)!r} cannot be written: {error.strerror or error}") from error
    finally:
        remove_partial(path)


def remove_partial(path: Path) -> None:
    """Remove what `write_rows` has written of a file so far; DuckDB has a name of its own for it until it is whole."""
    partial = _partial(path)
    for unfinished in (partial, partial.with_name(f"tmp_{partial.name}")):
        unfinished.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def neutralised(value: Any) -> Any:
    """A cell as it may stand in CSV: text that a spreadsheet would run as a formula is given a leading apostrophe."""
    risky = isinstance(value, str) and value.startswith(RISKY_FIRST) and not re.search(NUMBER, value)
    return f"'{value}" if risky else value


def _safe(name: str, kind: str) -> str:
    column, safe = quoted(name), quoted(neutralised(name))
    if kind != "VARCHAR" and not kind.startswith("ENUM"):
        return f"{column} AS {safe}"
    first = ", ".join(f"chr({ord(character)})" for character in RISKY_FIRST)
    formula = f"left({column}, 1) IN ({first}) AND NOT regexp_matches({column}, {literal(NUMBER)})"
    return f"CASE WHEN {formula} THEN '''' || {column} ELSE {column} END AS {safe}"


def check_kind(path: Path, argument: str) -> str:
    """``csv`` or ``parquet``, by the end of the name."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("csv", "parquet"):
        raise ValueError(f"{argument}: {str(path)!r} must end in .csv or .parquet")
    return kind
