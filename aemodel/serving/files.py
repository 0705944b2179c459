"""Files of patients in and out, by DuckDB, as Arrow tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import duckdb

RISKY_FIRST = ("=", "+", "-", "@", "\t", "\r", "\n")


def read_file(path: Path) -> Any:
    """A CSV or Parquet file as an Arrow table; CSV cells are kept as they are written, empty ones are null.

    Raises
    ------
    FileNotFoundError, ValueError
        The file is not there, is of another kind, or cannot be read as what it says it is.
    """
    kind = _kind(path, "patients")
    if not path.is_file():
        raise FileNotFoundError(f"patients: no file {str(path)!r}")
    with duckdb.connect() as connection:
        try:
            if kind == "parquet":
                return connection.read_parquet(str(path)).to_arrow_table()
            return connection.read_csv(str(path), header=True, all_varchar=True).to_arrow_table()
        except duckdb.Error as error:
            raise ValueError(f"patients: {str(path)!r} cannot be read as {kind}: {str(error).splitlines()[0]}") from error


def write_file(table: Any, path: Path) -> None:
    """Write an Arrow table as CSV or Parquet; the file stands under its name only once it is whole.

    In CSV, text that a spreadsheet would run as a formula is given a leading apostrophe.
    """
    kind = _kind(path, "out")
    partial = path.with_name(f".{path.name}.partial")
    with duckdb.connect() as connection:
        scored = connection.from_arrow(table)
        try:
            if kind == "parquet":
                scored.write_parquet(str(partial))
            else:
                scored.project(
                    ", ".join(_safe(n, str(t)) for n, t in zip(scored.columns, scored.types, strict=True))
                ).write_csv(str(partial))
            os.replace(partial, path)
        except duckdb.Error as error:
            raise OSError(f"out: {str(path)!r} cannot be written: {str(error).splitlines()[0]}") from error
        finally:
            partial.unlink(missing_ok=True)


def neutralised(value: Any) -> Any:
    """A cell as it may stand in CSV: text that a spreadsheet would run as a formula is given a leading apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(RISKY_FIRST) and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _safe(name: str, kind: str) -> str:
    column, safe = (_quoted(text) for text in (name, neutralised(name)))
    if kind != "VARCHAR":
        return f"{column} AS {safe}"
    first = ", ".join(f"chr({ord(character)})" for character in RISKY_FIRST)
    formula = f"left({column}, 1) IN ({first}) AND try_cast({column} AS DOUBLE) IS NULL"
    return f"CASE WHEN {formula} THEN '''' || {column} ELSE {column} END AS {safe}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _kind(path: Path, argument: str) -> str:
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("csv", "parquet"):
        raise ValueError(f"{argument}: {str(path)!r} must end in .csv or .parquet")
    return kind
