"""Files of patients, CSV or Parquet: read and written by DuckDB piece by piece, in memory that does not grow, in order. Light.

CSV cells are text, as they are written. Of a line that cannot be read it is Python that says what is wrong, for DuckDB quotes
lines: they are patients, and errors end up in logs.
"""

from __future__ import annotations

import csv
import glob
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from aemodel.publication.errors import InputError, wrong_patients
from aemodel.publication.rules import MissingColumns
from aemodel.publication.schema import Covariate
from aemodel.publication.texts import listed, open_regular, shown
from aemodel.scoring.csv_files import Header, check_columns, joined, neutralised, problem_in, read_header
from aemodel.scoring.frames import Frame, Groups, open_as
from aemodel.scoring.progress import watched
from aemodel.scoring.score import Scored
from aemodel.scoring.sql import DuckDB, constants, literal, quoted
from aemodel.scoring.whole import PATTERN, check_kind, whole

FETCHED = 1000
"""Rows that are printed from memory at once."""
MOST_THREADS = 4
MEMORY = "1GB"
LOGS = ("_delta_log", "metadata", ".hoodie")
"""Where tables of Delta, Iceberg and Hudi keep which of their files count."""
NO_CELL = "\1no cell\1"
"""What DuckDB is told that a null is in CSV, as it must be told something."""
Signature = tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Patients:
    """An open file of patients, and what the command line does with it.

    Attributes
    ----------
    path
        A file, a folder of Parquet files, or a pattern of their names.
    signature
        What the files were when they were opened: they must be the same after each time they were read.
    header
        Of a CSV file.
    na
        Cells of CSV that stand for missing values, beside empty ones.
    """

    connection: Any
    relation: Any
    path: Path
    signature: Signature
    header: Header | None
    na: tuple[str, ...]

    @property
    def delimiter(self) -> str:
        """What separates cells of CSV that is written."""
        return self.header.delimiter if self.header else ","

    def opened(self, covariates: Sequence[Covariate], adding: Sequence[str], missing_columns: MissingColumns) -> DuckDB:
        """As `open_frame` has it of a frame."""
        return open_as(DuckDB, self.relation, covariates, adding, missing_columns, numbered=True, na=self.na)

    def read(self, label: str, work: Callable[..., Any]) -> Any:
        """What ``work`` makes of the frame once it is `opened`, with a bar that shows how far its queries are."""
        with self._watched(label):
            return work(self.opened)

    def records(self, scored: Scored, most: int | None = None) -> Iterator[dict[str, Any]]:
        """Scored rows, or so many of the first ones, as they are asked for: a relation's own rows would be fetched at once."""
        added = scored.frame.add(scored.found.codes, scored.columns)
        with self._watched("Scoring"):
            result = self.connection.execute((added if most is None else added.limit(most)).sql_query())
            while rows := result.fetchmany(FETCHED):
                yield from (dict(zip(added.columns, row, strict=True)) for row in rows)

    def write(self, label: str, scored: Scored, path: Path, about: Mapping[str, Any], partition_by: Sequence[str] = ()) -> None:
        """Write scored rows, in Parquet with what they come from. In CSV what is added is one text, made once a profile.

        With ``partition_by`` into a folder of Parquet files, of columns whose values are names of folders in it.
        """
        frame, codes = scored.frame, scored.found.codes
        if unknown := [name for name in partition_by if name not in frame.kinds]:
            raise InputError("partition_by", f"no column {shown(unknown[0])}; columns are {listed(frame.kinds)}")
        with whole(path, folder=bool(partition_by)) as partial, self._watched(label, partial.parent):
            if partition_by:
                self.connection.execute("SET threads = 1")  # to keep the order of rows in each partition, and in one file
                by = f"PARTITION_BY ({', '.join(map(quoted, partition_by))})"
                self._copy(frame.add(codes, scored.columns), partial, f"{_parquet(about)}, {by}")
            elif check_kind(path, "out") == "parquet":
                self._copy(frame.add(codes, scored.columns), partial, _parquet(about))
            else:
                names = self.header.names if self.header else tuple(self.relation.columns)
                own = ((name, kind.text) for name, kind in frame.kinds.items())
                line = f"{joined(own, self.delimiter)} || {frame.texts(codes, scored.columns, self.delimiter)}"
                self._write_lines(frame.coded, (*names, *scored.columns), line, partial)

    def write_table(
        self, frame: Frame, groups: Groups, columns: Mapping[str, Sequence[Any]], path: Path, about: Mapping[str, Any]
    ) -> None:
        """Write a small table of answers."""
        table = frame.table(groups, columns)
        with whole(path) as partial, self._watched("Writing", partial.parent):
            if check_kind(path, "out") == "parquet":
                self._copy(table, partial, _parquet(about))
            else:
                texts = ((name, frame.kinds[name].text if name in frame.kinds else True) for name in table.columns)
                self._write_lines(table, table.columns, joined(texts, self.delimiter), partial)

    def _write_lines(self, rows: Any, names: Sequence[str], line: str, path: Path) -> None:
        """Lines of CSV as they are: the first is the name of the only column.

        By one thread: several would each hold a hundred thousand lines, however long, to keep their order.
        """
        self.connection.execute("SET threads = 1")
        first = StringIO(newline="")
        csv.writer(first, delimiter=self.delimiter, lineterminator="\r\n").writerow(map(neutralised, names))
        named = rows.project(f"{line} AS {quoted(first.getvalue()[:-2])}")
        self._copy(named, path, "FORMAT csv, HEADER true, QUOTE '', ESCAPE '', DELIMITER '\1'")

    def _copy(self, rows: Any, path: Path, form: str) -> None:
        import duckdb

        try:
            self.connection.execute(f"COPY ({rows.sql_query()}) TO {literal(str(path))} ({form})")
        except duckdb.IOException as error:
            check_unchanged(self.path, self.signature)
            raise OSError(str(error).splitlines()[0]) from error

    @contextmanager
    def _watched(self, label: str, *unfinished: Path) -> Iterator[None]:
        [(spill,)] = self.connection.execute("SELECT current_setting('temp_directory')").fetchall()
        with watched(self.connection, label, Path(spill), *unfinished):
            yield
            check_unchanged(self.path, self.signature)


def _parquet(about: Mapping[str, Any]) -> str:
    """How Parquet is written that tells in its metadata, under ``aemodel``, what it comes from, as JSON."""
    return f"FORMAT parquet, KV_METADATA {{aemodel: {literal(json.dumps(about))}}}"


def write_columns(path: Path, columns: Mapping[str, Sequence[Any]], about: Mapping[str, Any]) -> None:
    """Write a table of our own, CSV or Parquet, of columns of one type each; None is null."""
    kinds = {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE", str: "VARCHAR"}
    types = {name: next((type(value) for value in of if value is not None), str) for name, of in columns.items()}
    lists = (f"unnest({constants(of, kinds[types[name]])}) AS {quoted(name)}" for name, of in columns.items())
    form = _parquet(about) if check_kind(path, "out") == "parquet" else "FORMAT csv, HEADER true"
    with whole(path) as partial, connect() as connection:
        connection.execute(f"COPY (SELECT {', '.join(lists)}) TO {literal(str(partial))} ({form})")


@contextmanager
def open_patients(path: Path, na: Sequence[str] = ()) -> Iterator[Patients]:
    """Files, open as long as they are worked with: CSV, of which cells that are empty or one of ``na`` are missing, or Parquet.

    Raises
    ------
    FileNotFoundError, ValueError
        They are not there, are of another kind, or cannot be read as what they say they are, whenever that turns out.
    """
    files = files_of(path)
    kind = check_kind(files[0], "patients")
    if kind == "csv" and files != [path]:
        raise wrong_patients(f"{str(path)!r} is a pattern, which is for Parquet; name one file of CSV")
    if na and kind != "csv":
        raise InputError("na", "it names the cells of a CSV file that are missing; Parquet has nulls")
    for file in files:
        check_file(file)
    signature = signature_of(path)
    header = read_header(path) if kind == "csv" else None

    import duckdb

    with connect() as connection:
        try:
            if header is None:
                _check_names(connection, files)
            yield Patients(
                connection, connection.sql(_query(files, header, several=files != [path])), path, signature, header, tuple(na)
            )
        except duckdb.OutOfMemoryException:
            raise wrong_patients(f"{str(path)!r} takes more than {MEMORY} of memory; score parts of it") from None
        except duckdb.Error as error:
            check_unchanged(path, signature)
            raise _unreadable(path, header, error) from None


@contextmanager
def connect() -> Iterator[Any]:
    """A connection with bounded memory, that keeps the order of rows and fetches nothing from the network.

    What does not fit into memory goes into a folder that nobody else has: DuckDB's own name for it has the process id.
    """
    import duckdb

    threads = min(MOST_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    settings: dict[str, Any] = {
        "threads": str(threads),
        "memory_limit": MEMORY,
        "temp_directory": os.path.abspath(f".aemodel-{os.urandom(8).hex()}.tmp"),
        "preserve_insertion_order": "true",
        "autoinstall_known_extensions": "false",
    }
    with duckdb.connect(config=settings) as connection:
        connection.execute("SET enable_progress_bar = true")  # it is asked how far it is,
        connection.execute("SET enable_progress_bar_print = false")  # and would otherwise print on stdout
        yield connection


def _check_names(connection: Any, files: Sequence[Path]) -> None:
    """Refuse columns of Parquet that are named alike: DuckDB would rename all but the first."""
    for file in files:
        [_, *fields] = connection.execute(f"SELECT name, num_children FROM parquet_schema({_named(file)})").fetchall()
        names, inside = [], 0
        for name, children in fields:
            if not inside:
                names.append(name)
            inside += (children or 0) + (not inside) - 1
        check_columns(file, names)


def _named(path: Path) -> str:
    """A file in SQL; DuckDB takes names for patterns."""
    return literal(re.sub(r"([*?\[])", r"[\1]", str(path)))


def _query(files: Sequence[Path], header: Header | None, *, several: bool) -> str:
    names = [*map(_named, files)]
    if header is None:  # columns of the first file's types would round ages of another's
        options = ", union_by_name = true, hive_partitioning = true, hive_types_autocast = false" if several else ""
        return f"SELECT * FROM read_parquet([{', '.join(names)}]{options})"
    columns = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in header.columns)
    # Were empty cells null for DuckDB, it would take no notice of those that a line has too many of; of one column it would
    # otherwise take none of lines that are blank.
    cells = ", ".join(f"nullif({quoted(column)}, '') AS {quoted(column)}" for column in header.columns)
    # Unless it is told, DuckDB takes the first break there is for a line's end, even in a quoted name, and finds no row.
    # Told of two characters it finds none either, but those it sees by itself.
    end = "" if len(header.end) == 2 else f", new_line = {literal(header.end.encode('unicode_escape').decode())}"
    return (
        f"SELECT {cells} FROM read_csv({names[0]}, auto_detect = false, header = true, columns = {{{columns}}}, "
        f"delim = {literal(header.delimiter)}, quote = '\"', escape = '\"', strict_mode = true, null_padding = false, "
        f"nullstr = {literal(NO_CELL if len(header.columns) > 1 else '')}{end})"
    )


def read_frame(path: Path, na: Sequence[str] = ()) -> Any:
    """A whole file as a pandas frame; cells of CSV are text, as they are written, None if empty or one of ``na``."""
    with open_patients(path, na) as patients:
        if patients.header is None:
            return patients.relation.df()
        import pandas as pd

        missing = {None, *na}
        rows = [[None if cell in missing else cell for cell in row] for row in patients.relation.fetchall()]
        return pd.DataFrame(rows, columns=patients.header.columns, dtype=object)


# What a file is, and what is wrong with it.


def files_of(path: Path) -> list[Path]:
    """The file itself; of a folder all Parquet files in it and below, of a pattern those it matches, by name.

    Names that begin with a point or an underscore are what other programs keep for themselves.
    """
    if not path.is_dir() and (path.exists() or not PATTERN.search(str(path))):
        return [path]
    if logs := [name for name in LOGS if (path / name).exists()]:
        remedy = "score what a DuckDB connection of your own, or Spark, reads of it"
        raise wrong_patients(f"{str(path)!r} is a table of which {logs[0]} says which files count", remedy=remedy)
    pattern = f"{glob.escape(str(path))}/**/*.parquet" if path.is_dir() else str(path)
    found = [Path(name) for name in sorted(glob.iglob(pattern, recursive=True))]
    own = [each for each in found if not any(part[0] == "_" for part in each.parts if part not in path.parts)]
    if not own:
        problem = "is a folder without a file of Parquet" if path.is_dir() else "is no file, nor the pattern of one's name"
        raise FileNotFoundError(f"patients: {str(path)!r} {problem}")
    return own


def signature_of(path: Path) -> Signature:
    """What tells files from others, and from what they are once they have been written to."""
    told = ((file, os.stat(file)) for file in files_of(path))
    return tuple((file, about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns) for file, about in told)


def check_unchanged(path: Path, signature: Signature) -> None:
    """Refuse files that are no longer what they were."""
    try:
        now = signature_of(path)
    except OSError as error:
        raise wrong_patients(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    if now != signature:
        raise wrong_patients(f"{str(path)!r} has changed while it was read; score a copy")


def check_file(path: Path) -> None:
    """Refuse what is no file, before anybody waits for it."""
    try:
        open_regular(path).close()
    except FileNotFoundError:
        remote = re.match(r"[a-z][a-z0-9]+:/", str(path))
        remedy = "; give score a relation of a DuckDB connection of your own, which reads object stores" if remote else ""
        raise FileNotFoundError(f"patients: no file {str(path)!r}{remedy}") from None
    except ValueError as error:
        raise wrong_patients(f"{error}") from None


def _unreadable(path: Path, header: Header | None, error: Exception) -> ValueError:
    """What is wrong with a file, in one line."""
    if header is not None:
        return ValueError(problem_in(path, header))
    shown = "; ".join([line.strip() for line in str(error).splitlines() if line.strip()][:3])
    return ValueError(f"patients: {str(path)!r} cannot be read as parquet: {shown.removeprefix('Invalid Input Error: ')[:300]}")
