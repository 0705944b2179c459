"""Pieces of DuckDB's SQL: names, constants, profile codes, and positions of codes in lists that are part of the query.

They run in the caller's catalog, where a macro may have the name of any function, operators' too, and a table any name: so
functions are named with the schema that is DuckDB's own, and constants are part of the text. Texts, which may be collated,
are compared byte by byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aemodel.publication.profiles import MISSING, NUMBER, TEXTS, Layout, Source

MOST_POSITIONS = 1 << 16
"""Length up to which lists are indexed by codes directly; longer ones are split into stages."""


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def call(function: str, *arguments: str) -> str:
    """A call of DuckDB's own function, whatever macros the catalog holds; an operator is a function too."""
    return f"system.main.{quoted(function)}({', '.join(arguments)})"


def by_bytes(column: str) -> str:
    """A column of texts or categories, to be compared byte by byte, however it is collated."""
    return f"(CAST({column} AS VARCHAR) COLLATE C)"


def constants(values: Iterable[Any], kind: str) -> str:
    """A list of constants; None is null.

    Written as one text that is cast, which DuckDB parses once; a hundred thousand constants would be bound one by one.
    """
    return f"{literal('[' + ', '.join(map(_element, values)) + ']')}::{kind}[]"


def _element(value: Any) -> str:
    return "NULL" if value is None else '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def struct_constants(columns: Sequence[NDArray[Any]]) -> str:
    """As `constants`, structs with fields f0, f1 and so on, of numbers (NaN is null) or of plain words."""
    kinds = ", ".join(f"f{i} {'DOUBLE' if of.dtype.kind == 'f' else 'VARCHAR'}" for i, of in enumerate(columns))
    texts = [[f"f{i}: NULL" if value != value else f"f{i}: {value}" for value in of.tolist()] for i, of in enumerate(columns)]
    return f"'[{', '.join('{' + ', '.join(row) + '}' for row in zip(*texts, strict=True))}]'::STRUCT({kinds})[]"


def add_code(native: Any, layout: Layout, schema: Mapping[str, Any], column: str) -> Any:
    """`Layout.add_code` for a DuckDB relation."""
    temporary = [quoted(f"{column}{i}") for i in range(len(layout.sources))]
    values = [_value(source, schema[source.column]) for source in layout.sources]
    parts = [
        _class(source, schema[source.column], value, stride)
        for source, value, stride in zip(layout.sources, temporary, layout.strides, strict=True)
    ]
    added = ", ".join(f"{value} AS {name}" for value, name in zip(values, temporary, strict=True))
    code = reduce(lambda total, part: call("+", total, part), parts)
    return native.project(f"*, {added}").project(f"* EXCLUDE ({', '.join(temporary)}), {code} AS {quoted(column)}")


def _value(source: Source, dtype: Any) -> str:
    """`Source.value`: text, or a number, infinite for text that is none; of a column of the wrong type, the column."""
    column = quoted(source.column)
    if dtype in TEXTS:
        text = by_bytes(column)
        if source.texts:
            return text
        return (
            f"CASE WHEN {text} IS NULL THEN NULL WHEN {call('regexp_matches', text, literal(NUMBER))} "
            f"THEN CAST({text} AS DOUBLE) ELSE {_double(math.inf)} END"
        )
    return f"CAST({column} AS DOUBLE)" if dtype.is_numeric() and not source.texts else column


def _class(source: Source, dtype: Any, value: str, stride: int) -> str:
    """`Source.class_of`, times the stride."""
    missing, whens = f"{value} IS NULL", []
    if source.texts and dtype in TEXTS:
        texts = enumerate(source.texts, start=1)
        whens = [f"WHEN ({value} COLLATE C) = {literal(text)} THEN {place * stride}" for place, text in texts]
        otherwise = source.other
    elif not source.texts and (dtype.is_numeric() or dtype in TEXTS):
        missing += f" OR {is_nan(value)}"
        places = reversed(list(enumerate(source.cuts, start=2)))
        whens = [f"WHEN {value} >= {_double(cut)} THEN {place * stride}" for place, cut in places]
        otherwise = 1
    else:
        otherwise = source.wrong
        missing += f" OR {is_nan(value)}" if dtype.is_float() else ""
    cases = " ".join([f"WHEN {missing} THEN {MISSING}", *whens])
    return f"CAST(CASE {cases} ELSE {otherwise * stride} END AS BIGINT)"


def is_nan(value: str) -> str:
    """Whether a number is NaN, never null.

    Not ``value = 'NaN'``: Parquet's statistics leave NaN out, and DuckDB takes a comparison with anything beyond the largest
    number they name for false without reading the values. Distinctness it works out of the values.
    """
    return f"{value} IS NOT DISTINCT FROM {_double(math.nan)}"


def _double(number: float) -> str:
    return f"'{number}'::DOUBLE"


def lookup_position(layout: Layout, code: str, codes: NDArray[np.int64], positions: NDArray[np.int64]) -> str:
    """Expression for the one of ``positions`` that goes with a row's code among ``codes``; null where it is none of them.

    Codes could be as many as there are combinations of classes, so sources are taken one stage at a time: as many as a
    list of `MOST_POSITIONS` has room for. After each stage, what has been met so far is numbered densely.
    """
    sizes = [source.size for source in layout.sources]
    known, many, text, first = np.zeros(len(codes), dtype=np.int64), 1, "", 0
    while first < len(sizes):
        last, size = first + 1, sizes[first]
        while last < len(sizes) and many * size * sizes[last] <= MOST_POSITIONS:
            size *= sizes[last]
            last += 1
        stride = layout.strides[first]
        key = known * size + codes // stride % size
        known = np.unique(key, return_inverse=True)[1] if last < len(sizes) else positions
        table = np.zeros(many * size, dtype=np.int64)
        table[key] = known + 1
        index = call("%", call("//", code, str(stride)), str(size)) if size < layout.size else code
        if text:
            index = call("+", call("*", call("-", text, "1"), str(size)), index)
        entries = ", ".join(str(entry) if entry else "NULL" for entry in table.tolist())
        text = call("list_extract", f"'[{entries}]'::INTEGER[]", call("+", index, "1"))
        many, first = int(known.max(initial=0)) + 1, last
    return text
