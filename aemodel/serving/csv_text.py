"""CSV as text: a file's cells as they are written, row by row, and cells as they may be written. Light."""

from __future__ import annotations

import codecs
import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

from aemodel.publication.profiles import NUMBER

RISKY_FIRST = ("=", "+", "-", "@", "\t", "\r", "\n")
DELIMITERS = (",", ";", "\t")
MOST_HEADER = 1 << 20
"""Characters within which the first line must end."""
ROWS_A_STEP = 8192
"""Rows read between two reports of how far reading is."""


@dataclass(frozen=True)
class CsvFile:
    """A CSV file, read from its start as often as its rows are asked for.

    Attributes
    ----------
    advance
        Is told from time to time how much has been read, in per cent.
    """

    path: Path
    columns: tuple[str, ...]
    delimiter: str
    advance: Callable[[float], None] = lambda percent: None

    def rows(self) -> Iterator[list[str]]:
        """The cells of each row after the first line; one that is not there is empty. Blank lines are no rows.

        Raises
        ------
        ValueError
            A row has more or fewer cells than the first line, a quote is not closed, or the file is not UTF-8.
        """
        width, line = len(self.columns), 1
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                reader = csv.reader(TextIOWrapper(file, "utf-8-sig", newline=""), delimiter=self.delimiter, strict=True)
                next(reader)
                for number, row in enumerate(reader):
                    if len(row) != width and not (row := _mended(row, width)):
                        continue
                    if len(row) != width:
                        raise csv.Error(f"{len(row)} cells, where the first line has {width}")
                    if number % ROWS_A_STEP == 0:
                        self.advance(100 * file.tell() / size)
                    line = reader.line_num + 1
                    yield row
        except UnicodeDecodeError:
            raise not_utf8(self.path, f" (line {_first_wrong_line(self.path)})") from None
        except csv.Error as error:
            raise ValueError(f"patients: {str(self.path)!r} cannot be read as csv: line {line}: {_in_words(error)}") from error


def _mended(row: list[str], width: int) -> list[str]:
    """A row of another width: a blank line is an empty cell where there is one column; a last delimiter is no cell."""
    if not row and width == 1:
        return [""]
    return row[:-1] if len(row) == width + 1 and not row[-1] else row


def _in_words(error: csv.Error) -> str:
    text = str(error)
    if "end of data" in text:
        return "unterminated quote"
    return "text after a closing quote" if "expected after" in text else text


def _first_wrong_line(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    raise RuntimeError(f"patients: {str(path)!r} has changed while it was read")


def not_utf8(path: Path, where: str = "") -> ValueError:
    return ValueError(f"patients: {str(path)!r} is not in UTF-8{where}: save it as CSV in UTF-8, or convert it with iconv")


def open_csv(path: Path) -> CsvFile:
    """A file's columns, and what separates them: commas, semicolons or tabs, whichever the first line has most of.

    Raises
    ------
    FileNotFoundError, ValueError
        The file is not there, not in UTF-8 (with or without a BOM), or its first line does not name its columns.
    """
    if not path.is_file():
        raise FileNotFoundError(f"patients: no file {str(path)!r}")
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise not_utf8(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read(MOST_HEADER)
    except UnicodeDecodeError:
        raise not_utf8(path, f" (line {_first_wrong_line(path)})") from None
    if "\0" in text:
        raise ValueError(f"patients: {str(path)!r} cannot be read as csv: it holds binary data")
    try:
        headers = {delimiter: next(csv.reader(StringIO(text, newline=""), delimiter=delimiter), []) for delimiter in DELIMITERS}
    except csv.Error as error:
        raise ValueError(f"patients: {str(path)!r} cannot be read as csv: {error}") from error
    delimiter = max(DELIMITERS, key=lambda each: len(headers[each]))
    header = [name or f"column{place}" for place, name in enumerate(headers[delimiter])]
    if not header:
        raise ValueError(f"patients: {str(path)!r} cannot be read as csv: it is empty; its first line must name the columns")
    if again := [name for name, times in Counter(name.lower() for name in header).items() if times > 1]:
        raise ValueError(f"patients: {str(path)!r} has several columns named {again[:5]} (small and capital letters are alike)")
    return CsvFile(path, tuple(header), delimiter)


def neutralised(value: Any) -> Any:
    """A cell as it may stand in CSV: text that a spreadsheet would run as a formula is given a leading apostrophe."""
    risky = isinstance(value, str) and value.startswith(RISKY_FIRST) and not re.search(NUMBER, value)
    return f"'{value}" if risky else value
