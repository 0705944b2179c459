"""A publication's files as texts, their digest, and what is in them as plain values. Light: a saved model needs no pandas.

What a file may hold is bounded before it is read, and values are checked for their kinds; what they mean, where they are used.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import stat
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from reprlib import Repr
from typing import Any, BinaryIO

COLUMNS = {
    "events.csv": ("event", "label", "parent", "relation", "grades"),
    "frequencies.csv": ("event", "grade", "covariate", "level", "n", "printed", "unit", "count", "derived", "source"),
    "cohort.csv": ("covariate", "level", "by", "by_level", "n", "source"),
    "tests.csv": ("event", "grade", "covariate", "levels", "p", "test"),
    "discrepancies.csv": ("event", "grade", "covariate", "level", "where", "printed", "computed", "resolution"),
}
FILES = ("publication.toml", *COLUMNS)
MOST_BYTES = 1_000_000
"""Of all files together: the manifest of a saved model holds them, and is itself bounded."""
MOST_ROWS = {"events.csv": 200, "frequencies.csv": 5000, "cohort.csv": 1000, "tests.csv": 1000, "discrepancies.csv": 1000}
MOST_PATIENTS = 10_000_000
MOST_CHARACTERS = 5000
"""Of one text or cell."""
MOST_NAME = 60
MOST_KEY_PARTS = 10
"""Parts of a dotted key of TOML, whose reader takes time by their square."""

Kind = Any
ABOUT: Kind = {
    "format": int,
    "name!": str,
    "title!": str,
    "citation!": str,
    "patients!": int,
    **dict.fromkeys(("doi", "licence", "setting", "grading"), str),
    "notes": [str],
    "columns": {"*": str},
    "covariates!": [
        {
            "name!": str,
            "label!": str,
            "open": bool,
            "ordered": bool,
            "groups": {"*": str},
            "levels!": [{"name!": str, "label!": str, "group": str, "when": {"*": object}, "cohort": [str]}],
        }
    ],
    "orderings": [
        {
            "event!": str,
            "covariate!": str,
            "within": {"*": str},
            "alpha": float,
            "source": str,
            "tiers!": {"*": [[str]]},
        }
    ],
    "nulls": [
        {
            "events": [str],
            "unlisted": bool,
            "covariates": [str],
            "among": {"*": [str]},
            "also_groups": [str],
            "alpha": float,
            "source": str,
        }
    ],
}
"""Keys of `publication.toml` and their kinds: a type, a list of one kind, or a table, with ``!`` after keys that must be
given; ``*`` stands for any key."""
IN_WORDS = {
    str: "a text in quotes",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false, without quotes",
    list: "a list in [ ]",
    dict: "a table",
}
FILE_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]")
_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*"""
_LONG_KEY = re.compile(rf"(?:^|[\[{{,])[ \t]*{_PART}(?:\.[ \t]*{_PART}){{{MOST_KEY_PARTS},}}[=\]]", re.MULTILINE)
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
    return ", ".join([*map(_cut, every[:most]), *([f"and {len(every) - most} more"] if len(every) > most else [])])


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
        A file is missing or cannot be read.
    ValueError
        It is none, is larger than `MOST_BYTES`, or is not UTF-8.
    """
    texts = {}
    for name in FILES:
        try:
            content = read_regular(folder / name, MOST_BYTES, links=True)
            texts[name] = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        except FileNotFoundError:
            raise FileNotFoundError(f"{folder / name} is missing; a publication has the files {', '.join(FILES)}") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{folder / name} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from None
    if (size := sum(len(text.encode()) for text in texts.values())) > MOST_BYTES:
        raise ValueError(f"{folder}: its files have {size:,} bytes together; a publication may have {MOST_BYTES:,}")
    return texts


def read_about(text: str) -> dict[str, Any]:
    """`publication.toml` as values, each of the kind that `ABOUT` has for it.

    Raises
    ------
    ValueError
        It is no TOML, or a value is of another kind; the message names the key, the value and what it may be.
    """
    where = "publication.toml"
    if long := _LONG_KEY.search(text):
        line = text.count("\n", 0, long.end()) + 1
        raise ValueError(f"{where}, line {line}: a key of more than {MOST_KEY_PARTS} parts")
    try:
        about = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"{where}: lists or tables are nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{where}: {said(error)}") from None
    _check(about, ABOUT, "", where)
    if about.get("format", 1) != 1:
        raise ValueError(f"{where}: format {shown(about['format'])} is not known; it must be 1")
    if not 1 <= about["patients"] <= MOST_PATIENTS:
        raise ValueError(f"{where}: patients must be 1 to {MOST_PATIENTS:,}; found {shown(about['patients'])}")
    return about


def said(error: Exception) -> str:
    """What a library says of an error, on one line and not longer than two."""
    return " ".join(_CONTROL.sub("?", str(error)).split())[:200]


def _check(value: Any, kind: Kind, key: str, where: str) -> None:
    wanted = kind if isinstance(kind, type) else type(kind)
    good = type(value) in (int, float) and abs(value) <= 1e300 if kind is float else isinstance(value, wanted)
    if not good or (wanted is int and isinstance(value, bool)):
        raise ValueError(f"{where}: {key} must be {IN_WORDS[wanted]}; found {shown(value)}")
    if isinstance(value, str) and kind is str and (len(value) > MOST_CHARACTERS or _CONTROL.search(value)):
        raise ValueError(f"{where}: {key} must have {MOST_CHARACTERS} characters at most, none invisible; found {shown(value)}")
    if isinstance(kind, list):
        for number, item in enumerate(value, start=1):
            name = item.get("name", number) if isinstance(item, dict) else number
            _check(item, kind[0], f"{key}[{_cut(name)}]", where)
    elif isinstance(kind, dict):
        _check_table(value, kind, key, where)


def _check_table(table: Mapping[str, Any], kinds: Mapping[str, Kind], key: str, where: str) -> None:
    known = {name.rstrip("!"): kind for name, kind in kinds.items()}
    inside = f"{where}, {key}" if key else where
    if unknown := sorted(set(table) - set(known)) if "*" not in known else []:
        raise ValueError(f"{inside}: unknown key {listed(map(shown, unknown))}; known are {', '.join(known)}")
    if missing := [name for name in known if f"{name}!" in kinds and name not in table]:
        raise ValueError(f"{inside}: {', '.join(map(repr, missing))} must be given")
    for name, value in table.items():
        _check(value, known.get(name, known.get("*")), f"{key}.{_cut(name)}" if key else name, where)


def _cut(name: Any) -> str:
    text = name if isinstance(name, str) and name.isprintable() else shown(name)
    return text if len(text) <= MOST_NAME else f"{text[:MOST_NAME]}..."


def csv_rows(texts: Mapping[str, str], name: str) -> list[dict[str, str]]:
    """The rows of one of a publication's tables, cells without spaces around them, and with its ``line``. Empty rows are none.

    Raises
    ------
    ValueError
        It is no CSV with the table's columns, in any order, or has more rows than `MOST_ROWS`; the message names the line.
    """
    text, columns = texts[name], COLUMNS[name]
    if odd := _CONTROL.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        raise ValueError(f"{name}, line {line}: the invisible character {odd.group()!a}; remove it")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, line = [], 1
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if sorted(header) != sorted(columns):
            hint = "; separate the cells with commas" if len(header) == 1 and re.search("[;\t|]", header[0]) else ""
            raise ValueError(f"{name}: columns must be {', '.join(columns)}; found {shown(header)}{hint}")
        line = reader.line_num + 1
        for cells in reader:
            if any(map(str.strip, cells)):
                rows.append(_row(cells, header, f"{name}, line {line}") | {"line": str(line)})
            if len(rows) > MOST_ROWS[name]:
                raise ValueError(f"{name}, line {line}: more than {MOST_ROWS[name]:,} rows; a publication has no more")
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{name}, line {line}: {csv_problem(error)}; check quotes and commas") from None
    return rows


def _row(cells: list[str], columns: list[str], where: str) -> dict[str, str]:
    if len(cells) != len(columns):
        raise ValueError(f"{where}: {len(columns)} cells expected, not {len(cells)}; check quotes and commas")
    if long := [column for column, cell in zip(columns, cells, strict=True) if len(cell) > MOST_CHARACTERS]:
        raise ValueError(f"{where}: {long[0]} has more than {MOST_CHARACTERS} characters; perhaps a quote is not closed")
    return {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}


def csv_problem(error: csv.Error) -> str:
    """What Python found wrong with CSV, in words."""
    text = str(error)
    if "end of data" in text:
        return "unterminated quote"
    if "field limit" in text:
        return f"a cell of more than {csv.field_size_limit()} characters: perhaps a quote that is not closed"
    return "text after a closing quote" if "expected after" in text else text


def check_names(names: Iterable[str], what: str, where: str, *, strict: bool = False) -> None:
    """Names that can be told apart, in any library, and be written in a list with commas; ``strict``: become names of columns.

    Raises
    ------
    ValueError
        One is empty, too long, or has characters that it may not; or two differ in small and capital letters only.
    """
    alike: dict[str, str] = {}
    allowed = (
        "letters, digits, _ . + and -, first a letter or digit" if strict else "no comma, none invisible, no space at its ends"
    )
    for name in names:
        good = (
            re.fullmatch(r"[^\W_][\w.+-]*", name) if strict else name.isprintable() and name == name.strip() and "," not in name
        )
        if not good or not 1 <= len(name) <= MOST_NAME:
            raise ValueError(f"{where}: {what} {shown(name)} must have 1 to {MOST_NAME} characters: {allowed}")
        key = unicodedata.normalize("NFKC", name).casefold()
        if alike.setdefault(key, name) != name:
            raise ValueError(f"{where}: {what} {shown(alike[key])} and {shown(name)} differ in small and capital letters only")
