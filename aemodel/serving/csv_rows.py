"""CSV files as a dataframe engine: their rows coded, counted, looked up and scored one by one, in plain Python. Light.

What is added to a row depends on its profile only. So its text is made once a profile, and writing a scored row is joining
two texts: on one core as fast as an engine that writes every row's numbers anew on two, and without loading one.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aemodel.publication.patients import SHOWN_VALUES, Example, Examples
from aemodel.publication.profiles import Layout
from aemodel.serving.csv_text import RISKY_FIRST, ROWS_A_STEP, CsvFile, neutralised

MOST_KEPT = 1 << 20
"""Combinations of cells whose profile codes are remembered, and impossible ones that are told apart."""


class _Codes(dict[Any, int]):
    """Profile codes by the source columns' cells, each worked out when first met."""

    def __init__(self, layout: Layout) -> None:
        self.sources = tuple(zip(layout.sources, layout.strides, strict=True))

    def __missing__(self, cells: Any) -> int:
        cells_of = (cells,) if len(self.sources) == 1 else cells
        code = sum(source.class_of_cell(cell) * stride for (source, stride), cell in zip(self.sources, cells_of, strict=True))
        if len(self) >= MOST_KEPT:
            self.clear()
        self[cells] = code
        return code


def _coded(file: CsvFile, layout: Layout) -> Iterator[tuple[list[str], int]]:
    """Each row's cells and profile code."""
    codes, cells = _Codes(layout), itemgetter(*(file.columns.index(source.column) for source in layout.sources))
    return ((row, codes[cells(row)]) for row in file.rows())


def count_rows(file: CsvFile, layout: Layout, by: Sequence[str], most: int) -> list[tuple[Any, ...]]:
    """How many rows have each combination of the values of ``by`` and profile code, until there are more than ``most``."""
    places = [file.columns.index(name) for name in by]
    keys = ((*[row[place] or None for place in places], code) for row, code in _coded(file, layout))
    counts: Counter[tuple[Any, ...]] = Counter()
    while len(counts) <= most and (some := list(islice(keys, ROWS_A_STEP))):
        counts.update(some)
    return [(*key, rows) for key, rows in counts.items()]


def examples_in_file(file: CsvFile, layout: Layout) -> Examples:
    """Looks up rows by their profile codes, in one more pass over the file."""

    def find(columns: Sequence[str], codes: NDArray[np.int64]) -> list[Example]:
        places, wanted = [file.columns.index(column) for column in columns], set(codes.tolist())
        alike: dict[tuple[str | None, ...], list[int]] = {}
        for number, (row, code) in enumerate(_coded(file, layout)):
            if code in wanted:
                values = tuple(row[place] or None for place in places)
                if values in alike or len(alike) < MOST_KEPT:
                    alike.setdefault(values, [0, number])[0] += 1
        most = sorted(alike.items(), key=lambda item: (-item[1][0], item[1][1]))[:SHOWN_VALUES]
        return [Example(dict(zip(columns, values, strict=True)), rows, first) for values, (rows, first) in most]

    return Examples(find, numbered=True)


@dataclass(frozen=True)
class ScoredCsv:
    """A CSV file's rows with further columns, whose values go by profile code.

    Attributes
    ----------
    added
        Names of the further columns.
    values
        Their values for each code: numbers, None, or texts that CSV need not quote.
    """

    file: CsvFile
    layout: Layout
    added: tuple[str, ...]
    values: Mapping[int, tuple[Any, ...]]

    def records(self, most: int | None = None) -> Iterator[dict[str, Any]]:
        """The rows, or so many of the first ones; empty cells are None."""
        names = (*self.file.columns, *self.added)
        for number, (row, code) in enumerate(self._rows()):
            if number == most:
                return
            yield dict(zip(names, (*(cell or None for cell in row), *code), strict=True))

    def write(self, path: Path) -> None:
        """Write all rows as CSV with the file's delimiter, formulas neutralised."""
        between = self.file.delimiter
        added = {code: f"{between}{between.join(map(_cell, values))}\n" for code, values in self.values.items()}
        with path.open("w", encoding="utf-8", newline="") as out:
            as_text, write = _line_writer(between), out.write
            write(as_text([neutralised(name) for name in (*self.file.columns, *self.added)]) + "\n")
            for row, code in _coded(self.file, self.layout):
                for place, cell in enumerate(row):
                    if cell[:1] in _RISKY:
                        row[place] = neutralised(cell)
                write(as_text(row) + _of(added, code))

    def _rows(self) -> Iterator[tuple[list[str], tuple[Any, ...]]]:
        return ((row, _of(self.values, code)) for row, code in _coded(self.file, self.layout))


_RISKY = frozenset(RISKY_FIRST)


def _of(values: Mapping[int, Any], code: int) -> Any:
    try:
        return values[code]
    except KeyError:
        raise RuntimeError("patients: the file's rows were others when they were counted; score a copy") from None


def score_file(file: CsvFile, layout: Layout, codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> ScoredCsv:
    """The file's rows with further columns: ``columns`` hold a value for each of ``codes``, numbers (NaN: None) or texts."""
    values = [[None if value != value else value for value in of.tolist()] for of in columns.values()]
    return ScoredCsv(file, layout, tuple(columns), dict(zip(codes.tolist(), zip(*values, strict=True), strict=True)))


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path, delimiter: str) -> None:
    """Write a small table as CSV, formulas neutralised."""
    as_text = _line_writer(delimiter)
    with path.open("w", encoding="utf-8", newline="") as out:
        for line in (rows[0], *(row.values() for row in rows)):
            out.write(as_text([neutralised(value) for value in line]) + "\n")


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


class _Returned:
    """A file that hands back what is written to it."""

    def write(self, text: str) -> str:
        return text


def _line_writer(delimiter: str) -> Callable[[Sequence[Any]], str]:
    """Turns cells into a line of CSV, without its end."""
    return csv.writer(_Returned(), delimiter=delimiter, lineterminator="").writerow
