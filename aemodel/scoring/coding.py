"""Profile codes worked out by Narwhals, for every library but DuckDB, which is told in SQL (`sql`). Light."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import narwhals.stable.v2 as nw

from aemodel.publication.codes import MISSING, NUMBER, Kind, Layout, Source

TEXTS = (nw.String, nw.Categorical, nw.Enum)


def kinds_in(schema: Mapping[Any, Any]) -> dict[str, Kind]:
    """Kinds of the columns that have texts for names: pandas takes anything."""
    named = ((name, dtype) for name, dtype in schema.items() if isinstance(name, str))
    return {name: Kind(str(dtype), dtype in TEXTS, dtype.is_numeric()) for name, dtype in named}


def with_code(frame: Any, layout: Layout, column: str) -> Any:
    """A Narwhals frame with one more column: the profile code.

    Values are worked out in columns of their own before they are compared with every text or cut.
    """
    schema = frame.collect_schema()
    temporary = [f"{column}{i}" for i in range(len(layout.sources))]
    pairs = list(zip(layout.sources, temporary, strict=True))
    parts = [
        _class(source, schema[source.column], nw.col(name)) * stride
        for (source, name), stride in zip(pairs, layout.strides, strict=True)
    ]
    valued = frame.with_columns(*(_value(source, schema[source.column]).alias(name) for source, name in pairs))
    return valued.with_columns(_sum(nw.lit(0), parts).alias(column)).drop(*temporary)


def _value(source: Source, dtype: Any) -> nw.Expr:
    """What a column is classed by: text, or a number, infinite for text that is none; of the wrong type, the column."""
    value = nw.col(source.column)
    if dtype in (nw.Categorical, nw.Enum):
        value = value.cast(nw.String())
    if source.texts or not (dtype in TEXTS or dtype.is_numeric()):
        return value
    if dtype.is_numeric():
        return value.cast(nw.Float64())
    number = nw.when(value.str.contains(NUMBER)).then(value.str.strip_chars())  # some engines would refuse to cast the rest
    return number.cast(nw.Float64()).fill_null(math.inf)


def _class(source: Source, dtype: Any, value: nw.Expr) -> nw.Expr:
    """The class of a column's values, a whole number, never null."""
    missing = nw.col(source.column).is_null()
    if dtype.is_float():
        missing = missing | nw.col(source.column).is_nan()
    if source.texts and dtype in TEXTS:
        found = nw.lit(source.other)
        for place, text in reversed(list(enumerate(source.texts, start=1))):
            found = nw.when(value == text).then(nw.lit(place)).otherwise(found)
    elif not source.texts and (dtype.is_numeric() or dtype in TEXTS):
        found = _sum(nw.lit(1), [(value >= cut).cast(nw.Int32) for cut in source.cuts])
    else:
        found = nw.lit(source.wrong)
    return nw.when(missing).then(nw.lit(MISSING)).otherwise(found).cast(nw.Int64)


def _sum(total: nw.Expr, parts: Sequence[nw.Expr]) -> nw.Expr:
    for part in parts:
        total = total + part
    return total
