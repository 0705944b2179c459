"""The texts of a publication's files as the records that `schema` declares, each fault named by file and place. Light."""

from __future__ import annotations

import csv
import io
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from aemodel.publication.errors import Faults
from aemodel.publication.schema import MOST_CHARACTERS, MOST_ROWS, NO_COLUMNS, UNSEEN, About
from aemodel.publication.texts import MOST_NAME, csv_problem, listed, said, short, shown

MOST_KEY_PARTS = 10
"""Parts of a dotted key of TOML, whose reader takes time by their square."""
DECIMAL = ("printed", "p", "computed")
"""Columns that can hold a number with decimals."""
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
IN_WORDS: dict[Any, str] = {str: "a text", bool: "true or false, without quotes", tuple: "a list in [ ]", dict: "a table"}
YES = {"yes": True, "no": False}

_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*"""
_LONG_KEY = re.compile(rf"(?:^|[\[{{,])[ \t]*{_PART}(?:\.[ \t]*{_PART}){{{MOST_KEY_PARTS},}}[=\]]", re.MULTILINE)
_WHOLE = re.compile(r"([0-9]{1,12})(\.0{1,12})?")
_DATE = re.compile(
    r"[0-9]+[-/. ]?[^\W\d_]{3}.*|[0-9]+[/.][0-9]+[/.].*|[0-9]{4}-[0-9]{2}-[0-9]{2}.*|[0-9]+/[0-9]+"
    r"|(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[-. ]?[0-9]+",
    re.IGNORECASE,
)
_MARK = r"[a-j*#^\u2020\u2021\u00a7\u00b6\u2016\u00b9\u00b2\u00b3\u02b0-\u02b8\u1d2c-\u1d6a\u2070-\u209c]"
_MARKED = re.compile(rf"(?:[nN] ?= ?)?(<?=? ?[0-9]{{1,12}}(?:\.[0-9]{{1,12}})?)(?: ?{_MARK}{{1,5}}| ?(?:patients|pts))?")
"""A number with the mark of a footnote, or with words."""
_LIKE = str.maketrans({**dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-"),
                       **dict.fromkeys("\u00b7\u2219\u22c5\u2024\u066b", "."), **dict.fromkeys("\u00a0\u2007\u2009\u202f", " "),
                       "\u2264": "<=", "\u2265": ">=", "\u2a7e": ">=", "\uff1c": "<",
                       **dict.fromkeys("\u200b\u200c\u200d\u2060\u00ad"), "\u00d7": "*"})  # fmt: skip
Row = TypeVar("Row")


def read_about(text: str, faults: Faults) -> About | None:
    """`publication.toml`; None where what must be given is not."""
    file = "publication.toml"
    if long := _LONG_KEY.search(text):
        line = text.count("\n", 0, long.end()) + 1
        faults.add(file, f"a key of more than {MOST_KEY_PARTS} parts", line=line)
        return None
    try:
        about = tomllib.loads(text)
    except RecursionError:
        faults.add(file, "lists or tables are nested too deep")
        return None
    except ValueError as error:
        faults.add(file, said(error) + _there(text, str(error)))
        return None
    found: About | None = _read(about, About, "", faults)
    return found


def _there(text: str, problem: str) -> str:
    """The line that TOML could not be read at, and what may be wrong with it."""
    if not (found := re.search(r"at line ([0-9]+),", problem)):
        return ""
    line = text.split("\n")[int(found[1]) - 1].strip()
    if odd := re.search("[\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb]", line):
        return f": {shown(line)}; quotes are straight: {odd[0]} is none"
    if number := re.search(r"= *([0-9]{1,3}(?:,[0-9]{3})+) *(?:#.*)?$", line):
        return f": {shown(line)}; thousands have no comma: write {number[1].replace(',', '')}"
    return f": {shown(line)}" if line else ""


def _read(value: Any, kind: Any, key: str, faults: Faults) -> Any:
    """A value of TOML as one of a declared kind; None, and a fault of `publication.toml`, where it is of another."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if isinstance(value, dict):
        for record in kinds:
            if isinstance(record, type) and issubclass(record, msgspec.Struct):
                return _read_record(value, record, key, faults)
            if get_origin(record) is dict:
                inner = get_args(record)[1]
                found = {name: _read(item, inner, f"{key}.{short(name)}", faults) for name, item in value.items()}
                return {name: item for name, item in found.items() if item is not None}
    for each in kinds:
        if get_origin(each) is tuple and isinstance(value, list):
            items = [
                _read(item, get_args(each)[0], f"{key}[{short(item.get('name', i) if isinstance(item, dict) else i)}]", faults)
                for i, item in enumerate(value, start=1)
            ]
            return tuple(item for item in items if item is not None)
    if isinstance(value, str) and (len(value) > MOST_CHARACTERS or re.search(UNSEEN, value)):
        problem = f"must have {MOST_CHARACTERS} characters at most, none invisible; found {shown(value)}"
        faults.add("publication.toml", problem, key=key)
        return None
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        faults.add("publication.toml", f"must be {in_words(kind)}; found {shown(value)}", key=key)
        return None


def _read_record(table: Mapping[str, Any], kind: Any, key: str, faults: Faults) -> Any:
    known = {each.encode_name: each for each in _fields(kind)}
    if unknown := sorted(set(table) - set(known)):
        faults.add("publication.toml", f"unknown key {listed(map(shown, unknown))}; known are {', '.join(known)}", key=key)
    if missing := [name for name, each in known.items() if each.required and name not in table]:
        faults.add("publication.toml", f"{', '.join(map(repr, missing))} must be given", key=key)
    values = {}
    for name in (each for each in table if each in known):
        before = len(faults)
        value = _read(table[name], known[name].type, f"{key}.{name}" if key else name, faults)
        if len(faults) == before or value is not None:
            values[known[name].name] = value
    return None if any(each.required and each.name not in values for each in known.values()) else kind(**values)


def in_words(kind: Any) -> str:
    """What a declared kind may be, in words."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(in_words(each) for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) is Annotated:
        return str(next(each.description for each in get_args(kind) if isinstance(each, msgspec.Meta)))
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return f"a table with {' or '.join(each.encode_name for each in _fields(kind))}"
    return IN_WORDS[get_origin(kind) or kind]


@cache
def _fields(kind: Any) -> tuple[FieldInfo, ...]:
    return fields(kind)


def read_rows(text: str, kind: type[Row], file: str, faults: Faults) -> list[Row]:
    """The rows of one of a publication's tables, in any order of its columns; empty rows are none."""
    made: Any = kind
    columns = {each.encode_name: each for each in _fields(made) if each.name not in NO_COLUMNS}
    for line, content in enumerate(text.split("\n"), start=1):
        if odd := re.search(UNSEEN, content):
            faults.add(file, f"the invisible character {odd.group()!a}", line=line, remedy="remove it")
    separator = _separator(text.partition("\n")[0], columns)
    if separator != ",":
        faults.add(file, f"cells are separated by {SEPARATORS[separator]}", remedy="separate the cells with commas")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[Row] = []
    line = 1
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if not _has_columns(header, columns, file, faults):
            return []
        line = reader.line_num + 1
        for number, cells in enumerate((each for each in reader if any(map(str.strip, each))), start=1):
            if number > MOST_ROWS[file]:
                faults.add(file, f"more than {MOST_ROWS[file]:,} rows, from line {line} on; a publication has no more")
                break
            row = _read_row(cells, header, columns, file, line, faults)
            rows += [] if row is None else [made(**row, line=line)]
            line = reader.line_num + 1
    except csv.Error as error:
        faults.add(file, csv_problem(error), line=line, remedy="check quotes and commas")
    return rows


def _separator(header: str, columns: Mapping[str, Any]) -> str:
    """What separates cells: that which makes most of the known columns of the first line."""
    return max(SEPARATORS, key=lambda mark: sum(cell.strip().strip('"') in columns for cell in header.split(mark)))


def _has_columns(header: Sequence[str], columns: Mapping[str, FieldInfo], file: str, faults: Faults) -> bool:
    wrong = [name for name in header if name not in columns or header.count(name) > 1]
    missing = [name for name, each in columns.items() if each.required and name not in header]
    if wrong or missing:
        optional = [name for name, each in columns.items() if not each.required]
        said = f"columns must be {', '.join(name for name in columns if name not in optional)}"
        said += f"; there may be {', '.join(optional)}" if optional else ""
        about = [f"{listed(missing)} is missing"] * bool(missing) + [f"not {listed(map(shown, wrong))}"] * bool(wrong)
        faults.add(file, f"{said}; found {shown(list(header))}: {', '.join(about)}")
    return not wrong and not missing


def _read_row(
    cells: Sequence[str], header: Sequence[str], columns: Mapping[str, FieldInfo], file: str, line: int, faults: Faults
) -> dict[str, Any] | None:
    before = len(faults)
    if len(cells) != len(header):
        more = len(cells) - len(header)
        quotes = 'put a cell that has a comma in double quotes, as "one, two"'
        remedy = quotes if more > 0 else "give each column a cell, if an empty one"
        for i, name in enumerate(header) if more == 1 else ():
            a, b = cells[i : i + 2]
            if name in DECIMAL and re.fullmatch(r"[0-9]{1,3} [0-9]{1,4}%?", f"{a} {b}"):
                whole = [*cells[:i], f"{a}.{b}", *cells[i + 2 :]]
                if _read_row(whole, header, columns, file, line, Faults()) is not None:
                    remedy = f"perhaps {a},{b} has a decimal comma: write {a}.{b}"
        problem = f"{len(header)} cells expected, not {len(cells)}: {'more' if more > 0 else 'fewer'} than the header has"
        faults.add(file, problem, line=line, remedy=remedy)
        return None
    row = {}
    for name, cell in zip(header, map(str.strip, cells), strict=True):
        if len(cell) > MOST_CHARACTERS:
            faults.add(file, f"{name} has more than {MOST_CHARACTERS} characters; perhaps a quote is not closed", line=line)
        try:
            row[columns[name].name] = msgspec.convert(_typed(cell, columns[name].type), columns[name].type)
        except msgspec.ValidationError:
            words = in_words(columns[name].type) if columns[name].type is not bool else "yes or no"
            faults.add(file, f"{name} must be {words}; found {shown(cell)}{hint(cell)}", line=line)
    return row if len(faults) == before else None


def _typed(cell: str, kind: Any) -> Any:
    """A cell as what its column may hold; itself where it is no such thing."""
    if kind is bool:
        return YES.get(cell, cell)
    if get_origin(kind) is Annotated and get_args(kind)[0] is int:
        number = _WHOLE.fullmatch(cell)
        return int(number[1]) if number else cell
    if get_origin(kind) is tuple:
        return cell.split()
    return None if not cell and get_origin(kind) in (Union, UnionType) else cell


def hint(text: str, known: Sequence[str] = ()) -> str:
    """What was perhaps meant by a text that is none of those known, and why it is not that."""
    if not text:
        return "; no row may leave it empty, even where the paper prints it once for several rows"
    if _DATE.fullmatch(text):
        return "; a spreadsheet seems to have made a date of it: give the column as text, such as 3-5"
    if re.fullmatch(r"(?!0)[0-9]{1,3}(,[0-9]{3}){1,3}", text):
        return f"; thousands have no comma: write {text.replace(',', '')}"
    like = plain(text)
    if re.fullmatch(r"(?!0)[0-9]{1,3}([ '\u2019][0-9]{3}){1,3}", like):
        return f"; thousands have no mark: write {re.sub('[^0-9]', '', like)}"
    if re.fullmatch(r"[0-9]{1,12},[0-9]{1,12} ?%?", text):
        return f"; decimals come after a point: write {text.replace(',', '.')}"
    if not known and (found := _MARKED.fullmatch(like)) and found[1] != like:
        return f"; a number alone, without marks or words: write {found[1]}"
    if like != text and (not known or like in known):
        odd = dict.fromkeys(c for c in text if plain(c) != c)
        names = [f"{c} ({ascii(c)[1:-1]})" if c.isprintable() else ascii(c)[1:-1] for c in list(odd)[:5]]
        return f"; it has {', '.join(names)}: write {shown(like)}"
    alike = {name.casefold(): name for name in known if text not in known}
    if close := get_close_matches(like[:MOST_NAME].casefold(), alike, 1, 0.8):
        return f"; {'write' if close[0] == like.casefold() else 'perhaps'} {shown(alike[close[0]])}"
    return ""


def plain(text: str) -> str:
    """A text with the dashes, points and spaces that keyboards have."""
    return text.translate(_LIKE)


def check_names(
    names: Iterable[str], what: str, file: str, key: str, faults: Faults, *, strict: bool = False, remedy: str = "rename one"
) -> None:
    """Names that can be told apart, in any library, and be listed with commas between; ``strict``: become names of columns."""
    alike: dict[str, str] = {}
    allowed = (
        "letters, digits, _ . + and -, first a letter or digit" if strict else "no comma, none invisible, no space at its ends"
    )
    for name in names:
        good = (
            re.fullmatch(r"[^\W_][\w.+-]*", name) if strict else name.isprintable() and name == name.strip() and "," not in name
        )
        if not good or not 1 <= len(name) <= MOST_NAME:
            faults.add(file, f"{what} {shown(name)} must have 1 to {MOST_NAME} characters: {allowed}", key=key)
        folded = unicodedata.normalize("NFKC", name).casefold()
        if folded in alike:
            how = "is given twice" if alike[folded] == name else f"and {shown(name)} differ in small and capital letters only"
            faults.add(file, f"{what} {shown(alike[folded])} {how}", key=key, remedy=remedy)
        alike[folded] = name
