"""Files that are written: what they may be called, and that they stand under their name only once they are whole. Light."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_kind(path: Path, argument: str) -> str:
    """``csv`` or ``parquet``, by the end of the name."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("csv", "parquet"):
        raise ValueError(f"{argument}: {str(path)!r} must end in .csv or .parquet")
    return kind


def check_output(path: Path, patients: Path) -> None:
    """Refuse a name for the output before any work is done.

    Raises
    ------
    ValueError
        It is of another kind than CSV or Parquet, a folder, or the input itself.
    """
    check_kind(path, "out")
    if path.is_dir():
        raise ValueError(f"out: {str(path)!r} is a folder; name a file")
    if path.exists() and patients.exists() and path.samefile(patients):
        raise ValueError(f"out: {str(path)!r} is the file of patients itself; name another one")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write under, which becomes ``path`` when all is written, and is removed if anything fails before.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    partial = _partial(path)
    try:
        partial.touch()
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise OSError(f"out: {str(path)!r} cannot be written: {error.strerror or error}") from error
    finally:
        remove_partial(path)


def remove_partial(path: Path) -> None:
    """Remove what has been written of a file so far; DuckDB has a name of its own for it until it is whole."""
    partial = _partial(path)
    for unfinished in (partial, partial.with_name(f"tmp_{partial.name}")):
        unfinished.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")
