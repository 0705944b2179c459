"""Pieces of DuckDB's SQL: names, and values looked up by position in lists that are part of the query."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aemodel.publication.profiles import Layout

MOST_POSITIONS = 1 << 16
"""Length up to which lists are indexed by codes directly; longer ones are split into stages."""


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def struct_list(fields: Mapping[str, NDArray[np.generic]]) -> str:
    """A list of structs with these fields, one for each of their values.

    Written as one text that is cast, which DuckDB parses once; a hundred thousand constants would be bound one by one.
    """
    kinds = ", ".join(f"{name} {'DOUBLE' if of.dtype.kind == 'f' else 'VARCHAR'}" for name, of in fields.items())
    texts = [["NULL" if value != value else str(value) for value in of.tolist()] for of in fields.values()]
    rows = (", ".join(f"{name}: {text}" for name, text in zip(fields, row, strict=True)) for row in zip(*texts, strict=True))
    return f"'[{', '.join('{' + row + '}' for row in rows)}]'::STRUCT({kinds})[]"


def lookup_position(layout: Layout, code: str, codes: NDArray[np.int64]) -> str:
    """Expression for the position, from 1, of a row's code among ``codes``; null where it is none of them.

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
        known = np.unique(key, return_inverse=True)[1] if last < len(sizes) else np.arange(len(codes))
        table = np.zeros(many * size, dtype=np.int64)
        table[key] = known + 1
        index = f"{code} // {stride} % {size} + 1" if size < layout.size else f"{code} + 1"
        text = f"({_integers(table)})[" + (f"({text} - 1) * {size} + {index}" if text else index) + "]"
        many, first = int(known.max(initial=0)) + 1, last
    return text


def _integers(table: NDArray[np.int64]) -> str:
    return "'[" + ", ".join(str(entry) if entry else "NULL" for entry in table.tolist()) + "]'::INTEGER[]"
