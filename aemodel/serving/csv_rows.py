"""CSV files as a dataframe engine: their rows coded, counted, looked up and scored one by one, in plain Python. Light.

What is added to a row depends on its profile only. So its text is made once a profile, and writing a scored row is joining
two texts: on one core as fast as an engine that writes every row's numbers anew on two, and without loading one.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import accumulate, chain, islice
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aemodel.publication.patients import SHOWN_VALUES, Example, Examples
from aemodel.publication.profiles import MISSING, Layout, Source
from aemodel.serving.csv_text import RISKY_FIRST, CsvFile, neutralised

MOST_KEPT = 1 << 16
"""Different cells of a column whose classes are remembered."""
MOST_TOLD_APART = 1 << 20
"""Different impossible values that are counted."""
_RISKY = frozenset(RISKY_FIRST)


class _Parts(dict[str, int]):
    """What a source column's cells add to the profile code, each worked out when first met."""

    def __init__(self, source: Source, stride: int, missing: frozenset[str]) -> None:
        self.source, self.stride, self.missing = source, stride, missing

    def __missing__(self, cell: str) -> int:
        part = MISSING if cell in self.missing else self.source.class_of_cell(cell) * self.stride
        if len(self) < MOST_KEPT:
            self[cell] = part
        return part


def _coded(file: CsvFile, layout: Layout) -> Iterator[tuple[list[list[str]], list[int]]]:
    """Rows, some at a time, and the profile code of each; column by column, so that no step of Python's is one cell's."""
    places = [file.columns.index(source.column) for source in layout.sources]
    sources = zip(layout.sources, layout.strides, strict=True)
    parts = [_Parts(source, stride, file.missing).__getitem__ for source, stride in sources]
    for chunk in file.chunks():
        columns = list(zip(*chunk, strict=True))
        codes = zip(*(map(part, columns[place]) for part, place in zip(parts, places, strict=True)), strict=True)
        yield chunk, list(map(sum, codes))


def count_rows(file: CsvFile, layout: Layout, by: Sequence[str], most: int) -> list[tuple[Any, ...]]:
    """How many rows have each combination of the values of ``by`` and profile code, until there are more than ``most``."""
    places = [file.columns.index(name) for name in by]
    counts: Counter[tuple[Any, ...]] = Counter()
    for chunk, codes in _coded(file, layout):
        values = ([None if row[place] in file.missing else row[place] for row in chunk] for place in places)
        counts.update(zip(*values, codes, strict=True))
        if len(counts) > most:
            break
    return [(*key, rows) for key, rows in counts.items()]


def examples_in_file(file: CsvFile, layout: Layout) -> Examples:
    """Looks up rows by their profile codes, in one more pass over the file."""

    def find(columns: Sequence[str], codes: NDArray[np.int64]) -> list[Example]:
        places, wanted = [file.columns.index(column) for column in columns], set(codes.tolist())
        alike: dict[tuple[str | None, ...], list[int]] = {}
        rows = chain.from_iterable(zip(*coded, strict=True) for coded in _coded(file, layout))
        for number, (row, code) in enumerate(rows):
            if code in wanted:
                values = tuple(None if row[place] in file.missing else row[place] for place in places)
                if values in alike or len(alike) < MOST_TOLD_APART:
                    alike.setdefault(values, [0, number])[0] += 1
        most = sorted(alike.items(), key=lambda item: (-item[1][0], item[1][1]))[:SHOWN_VALUES]
        return [Example(dict(zip(columns, values, strict=True)), count, first) for values, (count, first) in most]

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
        coded = _coded(self.file, self.layout)
        rows = chain.from_iterable(zip(chunk, _looked_up(self.values, codes), strict=True) for chunk, codes in coded)
        missing = self.file.missing
        cells = (((None if cell in missing else cell for cell in row), added) for row, added in islice(rows, most))
        return (dict(zip(names, (*row, *added), strict=True)) for row, added in cells)

    def write(self, path: Path) -> None:
        """Write all rows as CSV with the file's delimiter, formulas neutralised."""
        between = self.file.delimiter
        texts = {values: f"{between}{between.join(map(_cell, values))}\n" for values in set(self.values.values())}
        added = {code: texts[values] for code, values in self.values.items()}
        with path.open("w", encoding="utf-8", newline="") as out:
            header = [neutralised(name) for name in (*self.file.header, *self.added)]
            out.write(f"{_lines([header], between)[0]}\n")
            for chunk, codes in _coded(self.file, self.layout):
                lines = _lines(_neutralised_rows(chunk), between)
                out.writelines(map(add, lines, _looked_up(added, codes)))


def _looked_up(values: Mapping[int, Any], codes: Sequence[int]) -> list[Any]:
    try:
        return [values[code] for code in codes]
    except KeyError:
        raise ValueError("patients: the file's rows were others when they were counted; score a copy") from None


def _neutralised_rows(chunk: list[list[str]]) -> list[list[str]]:
    """Rows with each cell `neutralised`, changed in place; most columns need nothing."""
    for place, column in enumerate(zip(*chunk, strict=True)):
        if not _RISKY.isdisjoint({cell[:1] for cell in column}):
            for row in chunk:
                row[place] = neutralised(row[place])
    return chunk


def score_file(file: CsvFile, layout: Layout, codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> ScoredCsv:
    """The file's rows with further columns: ``columns`` hold a value for each of ``codes``, numbers (NaN: None) or texts."""
    values = [[None if value != value else value for value in of.tolist()] for of in columns.values()]
    return ScoredCsv(file, layout, tuple(columns), dict(zip(codes.tolist(), zip(*values, strict=True), strict=True)))


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path, delimiter: str) -> None:
    """Write a small table as CSV, formulas neutralised."""
    cells = [[_cell(neutralised(value)) for value in row] for row in (rows[0], *(row.values() for row in rows))]
    with path.open("w", encoding="utf-8", newline="") as out:
        out.writelines(f"{line}\n" for line in _lines(cells, delimiter))


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _lines(rows: Sequence[Sequence[str]], delimiter: str) -> Sequence[str]:
    """Rows as lines of CSV, without their ends. Where no cell needs quotes, as is the rule, joining is all there is to do."""
    lines = [delimiter.join(row) for row in rows]
    text = "\n".join(lines)
    delimiters, ends = sum(map(len, rows)) - len(rows), len(rows) - 1
    if text.count(delimiter) == delimiters and text.count("\n") == ends and '"' not in text and "\r" not in text:
        return lines
    quoted = StringIO(newline="")
    writer = csv.writer(quoted, delimiter=delimiter, lineterminator="\r\n")  # cells with either character are quoted
    written = [writer.writerow(row) for row in rows]
    text = quoted.getvalue()
    return [text[end - size : end - 2] for size, end in zip(written, accumulate(written), strict=True)]
