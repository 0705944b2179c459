"""CSV as text: a file's cells as they are written, row by row, and cells as they may be written. Light."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO, TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from aemodel.publication.profiles import NUMBER
from aemodel.publication.texts import csv_problem, open_regular

RISKY_FIRST = ("=", "+", "-", "@", "\t", "\r", "\n")
DELIMITERS = (",", ";", "\t")
MOST_HEADER = 1 << 20
"""Characters within which the first line must end."""
CELLS_A_CHUNK = 1 << 10
"""Cells that are held at once: few enough for a processor's cache, which halves the time."""


@dataclass(frozen=True)
class CsvFile:
    """A CSV file, read from its start as often as its rows are asked for.

    Attributes
    ----------
    header
        The columns' names as they are written: of a name that is empty ``columns`` has another.
    missing
        Cells that stand for values that are missing.
    signature
        What the file was when it was opened: it must be the same whenever it is read.
    advance
        Is told from time to time how much has been read, in per cent.
    """

    path: Path
    columns: tuple[str, ...]
    header: tuple[str, ...]
    delimiter: str
    missing: frozenset[str]
    signature: tuple[int, ...]
    advance: Callable[[float], None] = lambda percent: None

    def chunks(self) -> Iterator[list[list[str]]]:
        """The cells of the rows after the first line, some rows at a time. Blank lines are no rows.

        Raises
        ------
        ValueError
            A row has more or fewer cells than the first line, a quote is not closed, the file is not UTF-8, or is not what it
            was when it was opened.
        """
        width = len(self.columns)
        try:
            with open_regular(self.path) as file:
                self._check_unchanged(file)
                size, reader = os.fstat(file.fileno()).st_size, self._reader(file)
                next(reader)
                while chunk := list(islice(reader, max(1, CELLS_A_CHUNK // width))):
                    if set(map(len, chunk)) != {width}:
                        chunk = [row for row in (_mended(row, width) for row in chunk) if row]
                        if not all(len(row) == width for row in chunk):
                            raise csv.Error("rows of different lengths")
                    self.advance(100 * file.tell() / size)
                    if chunk:
                        yield chunk
                self._check_unchanged(file)
        except (UnicodeDecodeError, csv.Error) as error:
            raise self.unreadable(str(error)) from None
        except OSError as error:
            raise ValueError(f"patients: {str(self.path)!r} cannot be read: {error.strerror or error}") from error

    def rows(self) -> Iterator[list[str]]:
        """The cells of each row after the first line, as `chunks` has them."""
        return chain.from_iterable(self.chunks())

    def _reader(self, file: BinaryIO) -> Any:
        return csv.reader(TextIOWrapper(file, "utf-8-sig", newline=""), delimiter=self.delimiter, strict=True)

    def _check_unchanged(self, file: BinaryIO) -> None:
        if signature_of(file.fileno()) != self.signature:
            raise changed(self.path)

    def unreadable(self, otherwise: str) -> ValueError:
        """The first line that cannot be read, and why, or if there is none, something else in words.

        The line itself stays out: it is a patient, and errors end up in logs.
        """
        if line := _first_wrong_line(self.path):
            return _not_utf8(self.path, line)
        return ValueError(f"patients: {str(self.path)!r} cannot be read as csv: {self._first_problem() or otherwise}")

    def _first_problem(self) -> str | None:
        line, width = 1, len(self.columns)
        with open_regular(self.path) as file:
            reader = self._reader(file)
            try:
                for row in reader:
                    if len(_mended(row, width)) not in (0, width):
                        return f"line {line} has {len(row)} cell{'s' * (len(row) > 1)}, the first line {width}"
                    line = reader.line_num + 1
            except csv.Error as error:
                return f"line {line}: {csv_problem(error)}"
        return None


def _mended(row: list[str], width: int) -> list[str]:
    """A row of another width: a blank line is an empty cell where there is one column; a last delimiter is no cell."""
    if not row and width == 1:
        return [""]
    return row[:-1] if len(row) == width + 1 and not row[-1] else row


def _first_wrong_line(path: Path) -> int | None:
    with open_regular(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return None


def signature_of(file: Path | int) -> tuple[int, ...]:
    """What tells a file from another one, and from what it is once it has been written to."""
    about = os.stat(file)
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def changed(path: Path) -> ValueError:
    return ValueError(f"patients: {str(path)!r} has changed while it was read; score a copy")


def _not_utf8(path: Path, line: int | None) -> ValueError:
    where = f" (line {line})" if line else ""
    return ValueError(f"patients: {str(path)!r} is not in UTF-8{where}: save it as CSV in UTF-8, or convert it with iconv")


def check_file(path: Path) -> None:
    """Refuse what is no file, before anybody waits for it."""
    try:
        open_regular(path).close()
    except FileNotFoundError:
        raise FileNotFoundError(f"patients: no file {str(path)!r}") from None
    except ValueError as error:
        raise ValueError(f"patients: {error}") from None


def open_csv(path: Path, na: Sequence[str] = ()) -> CsvFile:
    """A file's columns, and what separates them: commas, semicolons or tabs, whichever the first line has most of.

    A cell is missing if it is empty, or one of ``na``.

    Raises
    ------
    FileNotFoundError, ValueError
        The file is not there, not in UTF-8 (with or without a BOM), or its first line does not name its columns.
    """
    check_file(path)
    signature = signature_of(path)
    try:
        with TextIOWrapper(open_regular(path), "utf-8-sig", newline="") as file:
            text = file.read(MOST_HEADER)
    except UnicodeDecodeError:
        raise _not_utf8(path, _first_wrong_line(path)) from None
    if "\0" in text:
        raise ValueError(f"patients: {str(path)!r} cannot be read as csv: it holds binary data")
    headers = {delimiter: _header(text, delimiter) for delimiter in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda each: len(headers[each]))
    header = tuple(headers[delimiter])
    columns = tuple(name or f"column{place}" for place, name in enumerate(header))
    if not header:
        raise ValueError(f"patients: {str(path)!r} cannot be read as csv: it is empty; its first line must name the columns")
    if again := [name for name, times in Counter(name.lower() for name in columns).items() if times > 1]:
        raise ValueError(f"patients: {str(path)!r} has several columns named {again[:5]} (small and capital letters are alike)")
    return CsvFile(path, columns, header, delimiter, frozenset(("", *na)), signature)


def _header(text: str, delimiter: str) -> list[str]:
    """Cells of the first line; none where it cannot be read, as with another delimiter than its own."""
    try:
        return next(csv.reader(StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []


def neutralised(value: Any) -> Any:
    """A cell as it may stand in CSV: text that a spreadsheet would run as a formula is given a leading apostrophe."""
    risky = isinstance(value, str) and value.startswith(RISKY_FIRST) and not re.search(NUMBER, value)
    return f"'{value}" if risky else value
