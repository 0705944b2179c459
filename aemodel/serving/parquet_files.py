"""Files of patients of which one is Parquet: read and written by DuckDB piece by piece, in memory that does not grow."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from aemodel.publication.profiles import NUMBER
from aemodel.serving.csv_text import RISKY_FIRST, changed, check_file, neutralised, open_csv, signature_of
from aemodel.serving.engines import Coded
from aemodel.serving.groups import Groups, small_table
from aemodel.serving.output import check_kind, whole
from aemodel.serving.progress import watched
from aemodel.serving.sql import literal, quoted

MOST_THREADS = 4
MEMORY = "1GB"


@dataclass(frozen=True)
class DuckDBPatients:
    """A file of patients as a DuckDB relation, with what the command line does with it; `csv_files.CsvPatients` is alike."""

    connection: duckdb.DuckDBPyConnection
    relation: duckdb.DuckDBPyRelation
    path: Path
    signature: tuple[int, ...]

    def read(self, label: str, work: Callable[[Any], Any]) -> Any:
        """What ``work`` makes of the relation, with a bar that shows how far its queries are."""
        with self._watched(label):
            return work(self.relation)

    def records(self, scored: duckdb.DuckDBPyRelation, most: int | None = None) -> Iterator[dict[str, Any]]:
        """The rows of a scored relation, or so many of the first ones."""
        rows = scored if most is None else scored.limit(most)
        with self._watched("Scoring"):
            found = rows.fetchall()
        return (dict(zip(rows.columns, row, strict=True)) for row in found)

    def write(self, label: str, scored: duckdb.DuckDBPyRelation, path: Path) -> None:
        """Write a scored relation, with a bar."""
        with whole(path) as partial, self._watched(label, partial.parent):
            write_rows(scored, partial, self.relation)
            self._check_unchanged()

    def write_table(self, coded: Coded, groups: Groups, columns: Mapping[str, Sequence[Any]], path: Path) -> None:
        """Write a small table of answers."""
        with whole(path) as partial:
            write_rows(small_table(coded, groups, columns), partial)

    def _watched(self, label: str, *unfinished: Path) -> AbstractContextManager[None]:
        [(spill,)] = self.connection.sql("SELECT current_setting('temp_directory')").fetchall()
        return watched(self.connection, label, Path(spill), *unfinished)

    def _check_unchanged(self) -> None:
        if signature_of(self.path) != self.signature:
            raise changed(self.path)


@contextmanager
def open_patients(path: Path, na: Sequence[str] = ()) -> Iterator[DuckDBPatients]:
    """A CSV or Parquet file, open as long as it is worked with; cells of CSV that are empty or one of ``na`` are null.

    Raises
    ------
    FileNotFoundError, ValueError
        The file is not there, is of another kind, or cannot be read as what it says it is, whenever that turns out.
    """
    with connect() as connection:
        try:
            relation = read_patients(connection, path, na)
            yield DuckDBPatients(connection, relation, path, signature_of(path))
        except duckdb.Error as error:
            raise unreadable(path, error) from error


@contextmanager
def connect() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with bounded memory, that keeps the order of rows and fetches nothing from the network.

    What does not fit into memory goes into a folder that nobody else has: DuckDB's own name for it has the process id.
    """
    threads = min(MOST_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {threads}")
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute(f"SET temp_directory = {literal(os.path.abspath(f'.aemodel-{os.urandom(8).hex()}.tmp'))}")
        connection.execute("SET preserve_insertion_order = true")
        connection.execute("SET autoinstall_known_extensions = false")
        connection.execute("SET enable_progress_bar = true")  # it is asked how far it is,
        connection.execute("SET enable_progress_bar_print = false")  # and would otherwise print on stdout
        yield connection


def read_patients(connection: duckdb.DuckDBPyConnection, path: Path, na: Sequence[str] = ()) -> duckdb.DuckDBPyRelation:
    """A CSV or Parquet file as a relation, not yet read; CSV cells are text, as written, null if empty or one of ``na``.

    CSV is separated by commas, semicolons or tabs, whichever the first line has most of, in UTF-8 with or without a BOM.

    Raises
    ------
    FileNotFoundError, ValueError
        The file is not there, or is of another kind.
    duckdb.Error
        It cannot be read as what it says it is: `unreadable` puts that in words.
    """
    kind = check_kind(path, "patients")
    check_file(path)
    name = literal(re.sub(r"([*?\[])", r"[\1]", str(path)))  # DuckDB takes names for patterns
    if kind == "parquet":
        _no_markers(na)
        query = f"SELECT * FROM read_parquet({name})"
    else:
        file = open_csv(path, na)
        nulls = ", ".join(map(literal, sorted(file.missing)))
        columns = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in file.columns)
        query = (
            f"SELECT * FROM read_csv({name}, auto_detect = false, header = true, columns = {{{columns}}}, "
            f"delim = {literal(file.delimiter)}, quote = '\"', escape = '\"', strict_mode = true, null_padding = false, "
            f"nullstr = [{nulls}])"
        )
    return connection.sql(query)


def _no_markers(na: Sequence[str]) -> None:
    if na:
        raise ValueError("na: it names the cells of a CSV file that are missing; Parquet has nulls")


def read_frame(path: Path, na: Sequence[str] = ()) -> Any:
    """A whole file as a pandas frame; cells of CSV are text, as they are written, None if empty or one of ``na``."""
    import pandas as pd

    if check_kind(path, "patients") == "csv":
        file = open_csv(path, na)
        rows = [[None if cell in file.missing else cell for cell in row] for row in file.rows()]
        return pd.DataFrame(rows, columns=list(file.columns), dtype=object)
    _no_markers(na)
    with open_patients(path) as opened:
        return opened.relation.df()


def unreadable(path: Path, error: duckdb.Error) -> ValueError:
    """What is wrong with a file, in one line. Of CSV not by DuckDB, which quotes lines: they are patients."""
    if check_kind(path, "patients") == "csv":
        return open_csv(path).unreadable(
            "DuckDB cannot read it, perhaps for lines that end in different ways; score it into CSV"
        )
    shown = "; ".join([line.strip() for line in str(error).splitlines() if line.strip()][:3])
    return ValueError(f"patients: {str(path)!r} cannot be read as parquet: {shown.removeprefix('Invalid Input Error: ')[:300]}")


def write_rows(relation: duckdb.DuckDBPyRelation, path: Path, caller: duckdb.DuckDBPyRelation | None = None) -> None:
    """Write a relation as CSV or Parquet, in its order.

    In CSV, text that a spreadsheet would run as a formula is given a leading apostrophe: in any column, or where it is
    said, in those of the ``caller`` only.

    Raises
    ------
    OSError, ValueError
        The file cannot be written, or the patients cannot be read to their end.
    """
    try:
        if check_kind(path, "out") == "parquet":
            relation.write_parquet(str(path))
        else:
            given = relation if caller is None else caller  # a relation's truth is its number of rows: a query of them
            kinds = dict(zip(given.columns, given.types, strict=True))
            safe = [_safe(name, str(kinds.get(name, ""))) for name in relation.columns]
            relation.project(", ".join(safe)).write_csv(str(path))
    except duckdb.IOException as error:
        raise OSError(str(error).splitlines()[0]) from error


def _safe(name: str, kind: str) -> str:
    column, safe = quoted(name), quoted(neutralised(name))
    if kind != "VARCHAR" and not kind.startswith("ENUM"):
        return f"{column} AS {safe}"
    # Not `IN (...)`: DuckDB joins a list of more than a few constants, and loses the order of rows.
    first = " OR ".join(f"starts_with({column}, chr({ord(character)}))" for character in RISKY_FIRST)
    formula = f"({first}) AND NOT regexp_matches({column}, {literal(NUMBER)})"
    return f"CASE WHEN {formula} THEN '''' || {column} ELSE {column} END AS {safe}"
