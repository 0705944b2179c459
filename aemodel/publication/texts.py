"""Files that are bounded before they are read, a publication's as texts, and values as errors show them. Light."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from reprlib import Repr
from typing import Any, BinaryIO

from aemodel.publication.errors import Faults
from aemodel.publication.schema import FILES, UNSEEN

MOST_BYTES = 1_000_000
"""Of all files together: the manifest of a saved model holds them, and is itself bounded."""
MOST_NAME = 60
FILE_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_SHOWN = Repr()
_SHOWN.maxstring = _SHOWN.maxother = MOST_NAME
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxset = _SHOWN.maxfrozenset = _SHOWN.maxdict = 8
_SHOWN.maxlevel = 3


def shown(value: Any) -> str:
    """A value as an error shows it: on one line, a text cut at `MOST_NAME` characters, a list after eight of its values."""
    try:
        return _SHOWN.repr(value)
    except ValueError:  # Python writes out no whole number of more than 4,300 digits
        return "a number of thousands of digits"


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names as an error lists them, the first ones only where there are many."""
    every = list(names)
    return ", ".join([*map(short, every[:most]), *([f"and {len(every) - most} more"] if len(every) > most else [])])


def digest_of(texts: Mapping[str, str]) -> str:
    """SHA-256 of the files' names and contents."""
    parts = [f"{name}\0{texts[name]}\0" for name in FILES]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def open_regular(path: Path, *, links: bool = True) -> BinaryIO:
    """A file opened for reading, if it is one: a pipe is not waited for, and a device not touched.

    Raises
    ------
    OSError
        It cannot be opened.
    ValueError
        It is a pipe, device, socket or folder, or a link where ``links`` are not to be followed.
    """
    _check_regular((os.stat if links else os.lstat)(path), path)
    # Something else may stand there by now: that is not waited for either, where the system has the flags.
    wanted = ("O_BINARY", "O_CLOEXEC", "O_NONBLOCK", *(() if links else ("O_NOFOLLOW",)))
    handle = os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in wanted))
    try:
        _check_regular(os.fstat(handle), path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _check_regular(about: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(f"{path.name} is {FILE_KINDS.get(stat.S_IFMT(about.st_mode), 'something else')}, not a file")


def read_regular(path: Path, most: int, *, links: bool = False) -> bytes:
    """A file's bytes, as `open_regular` opens it, if there are at most so many: else `ValueError`."""
    with open_regular(path, links=links) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most + 1) if size <= most else b""
    if size > most or len(content) > most:
        raise ValueError(f"{path.name} is larger than {most} bytes")
    return content


def read_texts(folder: Path) -> dict[str, str]:
    """The texts of a publication's files, lines ending as everywhere.

    Raises
    ------
    FileNotFoundError, OSError
        Files are missing, or one cannot be read.
    PublicationError
        One is no file, is larger than `MOST_BYTES`, or is not UTF-8.
    """
    texts, faults = dict[str, str](), Faults()
    if missing := [name for name in FILES if not os.path.lexists(folder / name)]:
        words = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        raise FileNotFoundError(f"{folder}: {words}; a publication has the files {', '.join(FILES)}")
    for name in FILES:
        try:
            content = read_regular(folder / name, MOST_BYTES, links=True)
            texts[name] = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as error:
            faults.add(name, f"not UTF-8 (byte {error.start})", remedy="save it as UTF-8; Excel calls that CSV UTF-8")
        except ValueError as error:
            faults.add(name, str(error))
    if (size := sum(len(text.encode()) for text in texts.values())) > MOST_BYTES:
        faults.add(FILES[0], f"the files have {size:,} bytes together; a publication may have {MOST_BYTES:,}")
    faults.refuse()
    return texts


def between(low: int, high: int, mark: str = "-") -> str:
    """A count, or the ends of the interval that it is known to lie in."""
    return f"{low}" if low == high else f"{low}{mark}{high}"


def said(error: Exception) -> str:
    """What a library says of an error, on one line and not longer than two."""
    return " ".join(re.sub(UNSEEN, "?", str(error)).split())[:200]


def short(name: Any) -> str:
    text = name if isinstance(name, str) and name.isprintable() else shown(name)
    return text if len(text) <= MOST_NAME else f"{text[:MOST_NAME]}..."


def csv_problem(error: csv.Error) -> str:
    """What Python found wrong with CSV, in words."""
    text = str(error)
    if "end of data" in text:
        return "unterminated quote"
    if "field limit" in text:
        return f"a cell of more than {csv.field_size_limit()} characters: perhaps a quote that is not closed"
    return "text after a closing quote" if "expected after" in text else text
