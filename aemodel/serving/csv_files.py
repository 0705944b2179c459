"""CSV files of patients, scored into CSV or shown: what the command line does with them. Light: no DuckDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aemodel.serving.csv_rows import ScoredCsv, write_rows
from aemodel.serving.csv_text import CsvFile, open_csv
from aemodel.serving.engines import Coded
from aemodel.serving.groups import Groups, rows_of
from aemodel.serving.output import whole
from aemodel.serving.progress import bar


@dataclass(frozen=True)
class CsvPatients:
    """A CSV file of patients, with what the command line does with it; `parquet_files.DuckDBPatients` is alike."""

    file: CsvFile

    def read(self, label: str, work: Callable[[Any], Any]) -> Any:
        """What ``work`` makes of the file, with a bar that shows how far it has been read."""
        with bar(label) as advance:
            return work(replace(self.file, advance=advance))

    def records(self, scored: ScoredCsv, most: int | None = None) -> Iterator[dict[str, Any]]:
        """The rows of a scored file, or so many of the first ones."""
        return scored.records(most)

    def write(self, label: str, scored: ScoredCsv, path: Path) -> None:
        """Write a scored file, with a bar."""
        with bar(label) as advance, whole(path) as partial:
            replace(scored, file=replace(self.file, advance=advance)).write(partial)

    def write_table(self, coded: Coded, groups: Groups, columns: Mapping[str, Sequence[Any]], path: Path) -> None:
        """Write a small table of answers."""
        with whole(path) as partial:
            write_rows(rows_of(groups, columns), partial, self.file.delimiter)


@contextmanager
def open_patients(path: Path, na: Sequence[str] = ()) -> Iterator[CsvPatients]:
    """A CSV file, read whenever its rows are asked for; cells that are empty or one of ``na`` are missing.

    Raises
    ------
    FileNotFoundError, ValueError
        As `open_csv` and `CsvFile.rows` do.
    """
    yield CsvPatients(open_csv(path, na))
