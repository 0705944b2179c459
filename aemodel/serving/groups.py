"""Rows counted by profile code and by group, and looked up by code, by whichever engine holds them.

Groups' values come back as they were: told apart and sorted by the engine itself, for Python has not every value exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from narwhals import Implementation
from numpy.typing import NDArray

from aemodel.publication.patients import (
    SHOWN_VALUES,
    Example,
    Examples,
    alike,
    as_float,
    examples_in,
    is_missing,
    is_number,
    known_type,
    positional,
)
from aemodel.publication.profiles import TEXTS
from aemodel.publication.texts import listed, shown
from aemodel.serving.csv_rows import count_rows, examples_in_file
from aemodel.serving.csv_text import CsvFile
from aemodel.serving.engines import SPARK, Coded, in_spark
from aemodel.serving.sql import by_bytes, call, constants, is_nan, quoted

MOST_COUNTED = 1_000_000
"""Combinations of groups and profiles that are collected at most."""
MOST_GROUPS = 1000


@dataclass(frozen=True)
class Groups:
    """How many rows have each profile code, by group.

    Attributes
    ----------
    labels
        Values of the columns that make groups, a row for each group, in order, missing values last: an eager frame, which keeps
        them as they are; or tuples of an engine that is not eager, of values or texts of which DuckDB makes the same values.
    codes
        The profile codes that occur, sorted.
    counts
        Rows, (group, code).
    """

    names: tuple[str, ...]
    labels: Any
    codes: NDArray[np.int64]
    counts: NDArray[np.int64]


def count_codes(coded: Coded, by: Sequence[str] = ()) -> Groups:
    """Count rows by the values of some columns and by profile code, one aggregate pass.

    Raises
    ------
    ValueError
        The columns cannot be grouped by, or make too many groups.
    """
    for name in by:
        dtype, kind = coded.schema[name], coded.kind
        merged = kind == Implementation.DUCKDB and dtype == nw.Duration  # a month and 30 days are equal;
        merged |= kind in SPARK and isinstance(dtype, nw.Datetime) and bool(dtype.time_zone)  # autumn has an hour twice
        no_text = dtype == nw.Object and kind not in (Implementation.PANDAS, Implementation.DASK)
        if dtype.is_nested() or dtype == nw.Unknown or no_text or merged:
            raise ValueError(
                f"by: column {shown(name)} is {shown(dtype)}, whose values make no groups; give it as text, numbers or dates"
            )
    if coded.codes is not None and not by:
        ordered = np.sort(coded.codes)
        first = np.flatnonzero(np.diff(ordered, prepend=-1))
        return _groups(by, (), np.zeros(len(first)), ordered[first], np.diff(first, append=len(ordered)))
    if isinstance(coded.frame, CsvFile):
        return _rows_grouped(count_rows(coded.frame, coded.layout, by, MOST_COUNTED), by, ordered=False)
    if coded.kind in SPARK:
        return _rows_grouped(_spark_counts(coded, by), by, ordered=False)
    if coded.kind == Implementation.DUCKDB:
        return _rows_grouped(_duckdb_counts(coded, by), by, ordered=True)
    return _eager_grouped(_counted_parts(coded, by), coded.column, by)


def _rows_grouped(rows: list[tuple[Any, ...]], by: Sequence[str], *, ordered: bool) -> Groups:
    """Groups of rows that hold the values of ``by``, a code and a count; ``ordered`` rows have the groups' order."""
    rows = [(*(None if is_missing(value) else value for value in row[:-2]), *row[-2:]) for row in rows]
    if not ordered:
        rows.sort(key=lambda row: (*map(_order, row[:-2]), row[-2]))
    place: dict[tuple[Any, ...], int] = {}
    groups = [place.setdefault(row[:-2], len(place)) for row in rows]
    codes, counts = np.array([row[-2:] for row in rows], dtype=np.int64).reshape(-1, 2).T
    return _groups(by, list(place), groups, codes, counts)


def _groups(by: Sequence[str], labels: Any, group: Any, code: NDArray[np.int64], rows: NDArray[np.int64]) -> Groups:
    if len(code) > MOST_COUNTED or len(labels) > MOST_GROUPS:
        most = f"{MOST_COUNTED} groups and profiles" if len(code) > MOST_COUNTED else f"{MOST_GROUPS} groups"
        raise ValueError(f"by: more than {most} by {listed(by)}; name columns with fewer values")
    codes = np.array(sorted(set(code.tolist())), dtype=np.int64)  # numpy.unique would import numpy.ma
    counts = np.zeros((len(labels) if by else 1, len(codes)), dtype=np.int64)
    np.add.at(counts, (np.asarray(group, dtype=np.int64), np.searchsorted(codes, code)), rows)
    return Groups(tuple(by), labels, codes, counts)


def _order(value: Any) -> tuple[Any, ...]:
    """Sorts values of any kinds: numbers, then others kind by kind, missing ones last."""
    if value is None:
        return (2,)
    if is_number(value):
        return (0, as_float(value), str(value))
    return (1, type(value).__name__, str(value))


def _counted_parts(coded: Coded, by: Sequence[str]) -> nw.DataFrame[Any]:
    """The values of ``by``, code and count of rows of an engine that has eager frames, perhaps in several parts."""
    column = coded.column
    if coded.codes is not None:
        return _part_counted(coded.frame, coded.codes, column, by)
    if coded.kind == Implementation.DASK:

        def count(part: Any) -> Any:
            return _part_counted(nw.from_native(part, eager_only=True), part[column].to_numpy(), column, by).to_native()

        parts = coded.frame.map_partitions(count, meta=count(coded.frame._meta)).compute()
        return positional(nw.from_native(parts, eager_only=True))
    rows = coded.frame.select(*_nan_as_null(coded.schema, by), column)
    counted = rows.group_by(*by, column).agg(nw.len().alias(f"{column}n")).head(MOST_COUNTED + 1)
    return nw.from_native(counted.collect().to_native(), eager_only=True)


def _part_counted(frame: nw.DataFrame[Any], codes: NDArray[np.int64], column: str, by: Sequence[str]) -> nw.DataFrame[Any]:
    frame = frame.with_columns(*(known_type(frame[name]) for name in by))
    labels = positional(frame.select(*_nan_as_null(frame.schema, by)))
    table, keys = _keyed(labels, len(codes), column, by)
    table = table.with_columns(nw.new_series(column, codes, nw.Int64(), backend=frame.implementation))
    counted = table.group_by(column, *keys).agg(nw.len().alias(f"{column}n"), nw.col(f"{column}f").min())
    first = counted[f"{column}f"].to_numpy()
    counts = counted.select(column, f"{column}n")
    return positional(labels[first]).with_columns(*counts.iter_columns()) if by else counts


def _keyed(frame: nw.DataFrame[Any], rows: int, column: str, by: Sequence[str]) -> tuple[nw.DataFrame[Any], list[str]]:
    """Numbers of rows, with the keys of some columns, and the keys' names."""
    keys = [_key(frame[name]).alias(f"{column}{i}") for i, name in enumerate(by)]
    numbers = nw.new_series(f"{column}f", np.arange(rows), nw.Int64(), backend=frame.implementation).to_frame()
    return numbers.with_columns(*keys), [key.name for key in keys]


def _nan_as_null(schema: Mapping[str, Any], by: Sequence[str]) -> list[nw.Expr]:
    return [nw.col(name).fill_nan(None) if schema[name].is_float() else nw.col(name) for name in by]


def _key(series: nw.Series[Any]) -> nw.Series[Any]:
    """What tells groups apart and sorts them: the values, categories as text; of Python objects, their ranks."""
    if series.dtype in TEXTS:
        return series.cast(nw.String())
    if series.dtype != nw.Object:
        return series
    try:
        values = [None if is_missing(value) else (isinstance(value, (bool, np.bool_)), value) for value in series.to_list()]
        known = {value for value in values if value is not None}
        ranks = {value: rank for rank, value in enumerate(sorted(known, key=lambda pair: _order(pair[1])))}
    except TypeError as error:
        raise ValueError(
            f"by: column {shown(series.name)} holds values that make no groups ({error}); give it as text"
        ) from None
    places = [None if value is None else ranks[value] for value in values]
    return nw.new_series(series.name, places, nw.Float64(), backend=series.implementation)


def _eager_grouped(counted: nw.DataFrame[Any], column: str, by: Sequence[str]) -> Groups:
    """Groups of what `_counted_parts` gives: sorted by the engine, which knows its values exactly, and told apart by it."""
    codes, rows = (counted[name].to_numpy() for name in (column, f"{column}n"))
    if not by:
        return _groups(by, (), np.zeros(len(codes)), codes, rows)
    table, keys = _keyed(counted, len(codes), column, by)
    table = table.sort(*keys, nulls_last=True)
    changed = np.zeros(len(codes), dtype=bool)
    for key in keys:
        here, before = table[key], table[key].shift(1)
        missing, missing_before = here.is_null().to_numpy(), before.is_null().to_numpy()
        differ = (here != before).fill_null(False).to_numpy().astype(bool)
        changed |= (missing != missing_before) | (differ & ~missing)
    changed[:1] = True
    place = table[f"{column}f"].to_numpy()
    labels = positional(counted.select(*by)[place[changed]])
    return _groups(by, labels, np.cumsum(changed) - 1, codes[place], rows[place])


def _spark_counts(coded: Coded, by: Sequence[str]) -> list[tuple[Any, ...]]:
    from pyspark.sql import functions

    names = [f"{coded.column}{i}" for i in range(len(by))]
    native = coded.frame.to_native()
    keys = [native[in_spark(name)].alias(key) for name, key in zip(by, names, strict=True)]
    counted = native.select(*keys, coded.column).groupBy(*names, coded.column).agg(functions.count("*"))
    rows = counted.limit(MOST_COUNTED + 1).collect()
    return [tuple(bytes(value) if isinstance(value, bytearray) else value for value in row) for row in rows]


def _in_duckdb(dtype: Any, name: str) -> str:
    return by_bytes(quoted(name)) if dtype in TEXTS else quoted(name)


def _duckdb_counts(coded: Coded, by: Sequence[str]) -> list[tuple[Any, ...]]:
    """Of values that Python has not exactly the texts, of which DuckDB makes the same values."""
    keys = [quoted(f"{coded.column}{i}") for i in range(len(by))]
    values, shown = [], []
    for name, key in zip(by, keys, strict=True):
        dtype, value = coded.schema[name], _in_duckdb(coded.schema[name], name)
        value = f"CASE WHEN {is_nan(value)} THEN NULL ELSE {value} END" if dtype.is_float() else value
        values.append(f"{value} AS {key}")
        exact = dtype in TEXTS or dtype.is_integer() or dtype.is_float() or dtype == nw.Boolean
        shown.append(key if exact else f"CAST({key} AS VARCHAR)")
    code = quoted(coded.column)
    grouped = (
        coded.frame.to_native()
        .project(", ".join([*values, code]))
        .aggregate(", ".join([*keys, code, f"{call('count_star')} AS n"]), ", ".join([*keys, code]))
    )
    ordered = grouped.order(", ".join(f"{key} ASC NULLS LAST" for key in [*keys, code])).limit(MOST_COUNTED + 1)
    return list(ordered.project(", ".join([*shown, code, "n"])).fetchall())


def examples_of(coded: Coded, *, numbered: bool = False) -> Examples:
    """Looks up rows by their codes: by position in an eager frame, by value in a lazy one.

    ``numbered`` says that a DuckDB relation has an order, that of a file, so that its rows can be named by their numbers.
    """
    if coded.codes is not None:
        return examples_in(coded.frame, coded.codes)
    if isinstance(coded.frame, CsvFile):
        return examples_in_file(coded.frame, coded.layout)

    def find(columns: Sequence[str], codes: NDArray[np.int64]) -> list[Example]:
        rows = _most_frequent(coded, columns, codes, numbered)
        size = len(columns)
        return [Example(dict(zip(columns, row[:size], strict=True)), *map(int, row[size:])) for row in rows]

    return Examples(find, numbered)


def _most_frequent(coded: Coded, columns: Sequence[str], codes: NDArray[np.int64], numbered: bool) -> list[tuple[Any, ...]]:
    """Values of columns in rows with one of the codes, how many rows have them, and if ``numbered``, the first one."""
    if coded.kind == Implementation.DUCKDB:
        chosen = f"{quoted(coded.column)} IN ({', '.join(map(str, codes.tolist()))})"
        rows = coded.frame.to_native()
        place = f"{call('row_number')} OVER ()" if numbered else "1"
        keys = [quoted(f"{coded.column}{i}") for i in range(len(columns))]
        values = [f"{_in_duckdb(coded.schema[name], name)} AS {key}" for name, key in zip(columns, keys, strict=True)]
        rows = rows.project(", ".join([*values, quoted(coded.column), f"{place} AS place"])).filter(chosen)
        number, first = call("count_star"), call("-", call("min", "place"), "1")
        counted = rows.aggregate(", ".join([*keys, f"{number} AS number", f"{first} AS first"]), ", ".join(keys))
        found = counted.order("number DESC, first ASC").limit(SHOWN_VALUES).fetchall()
        return found if numbered else [row[:-1] for row in found]
    if coded.kind in SPARK:
        from pyspark.sql import functions

        native = coded.frame.to_native()
        keys = [native[in_spark(name)].alias(f"{coded.column}{i}") for i, name in enumerate(columns)]
        rows = native.filter(native[coded.column].isin(codes.tolist())).groupBy(*keys).agg(functions.count("*").alias("number"))
        return [tuple(row) for row in rows.orderBy(functions.desc("number")).limit(SHOWN_VALUES).collect()]
    if coded.kind == Implementation.DASK:
        import dask as _dask

        dask: Any = _dask  # which declares no types
        parts = [dask.delayed(_alike)(part, coded.column, columns, codes) for part in coded.frame.to_delayed()]
        alike: dict[str, list[Any]] = {}
        for shown, values, count in (item for part in dask.compute(*parts) for item in part):
            alike.setdefault(shown, [values, 0])[1] += count
        return [(*values, rows) for values, rows in sorted(alike.values(), key=lambda item: -item[1])[:SHOWN_VALUES]]
    chosen = coded.frame.filter(nw.col(coded.column).is_in(codes.tolist()))
    counted = chosen.group_by(*columns).agg(nw.len().alias(f"{coded.column}n")).sort(f"{coded.column}n", descending=True)
    return counted.head(SHOWN_VALUES).collect().rows()


def _alike(part: Any, column: str, columns: Sequence[str], codes: NDArray[np.int64]) -> list[tuple[str, tuple[Any, ...], int]]:
    found = alike(nw.from_native(part, eager_only=True), part[column].to_numpy(), columns, codes)
    return [(shown, tuple(part[name].iloc[rows[0]] for name in columns), len(rows)) for shown, rows in found.items()]


def rows_of(groups: Groups, columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows of the table of an engine that is not eager."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    each = len(rows) // len(groups.counts)
    return [dict(zip(groups.names, groups.labels[i // each], strict=True)) | row for i, row in enumerate(rows)]


def small_table(coded: Coded, groups: Groups, columns: Mapping[str, Sequence[Any]]) -> Any:
    """A table of answers as the caller's kind of frame, the eager kind where there is one, with as many rows for each group.

    Before the ``columns``, of numbers and texts, stand those that make groups, as they are in the caller's frame.
    """
    each = len(next(iter(columns.values()))) // len(groups.counts)
    row = np.repeat(np.arange(len(groups.counts)), each)
    if coded.kind == Implementation.DUCKDB or coded.kind in SPARK:
        values = {name: [groups.labels[i][k] for i in row] for k, name in enumerate(groups.names)}
        made = _small_duckdb if coded.kind == Implementation.DUCKDB else _small_spark
        return made(coded.frame.to_native(), values, columns)
    backend: Any = Implementation.PANDAS if coded.kind == Implementation.DASK else coded.kind
    if not groups.names:
        return nw.from_dict(dict(columns), backend=backend).to_native()
    answers = [nw.new_series(name, of, backend=backend) for name, of in columns.items()]
    return positional(groups.labels[row]).with_columns(*answers).to_native()


def _small_spark(native: Any, labels: Mapping[str, Sequence[Any]], columns: Mapping[str, Sequence[Any]]) -> Any:
    from pyspark.sql.types import DoubleType, LongType, StringType, StructField, StructType

    plain = {int: LongType(), float: DoubleType(), str: StringType()}
    kinds = {name: native.schema[name].dataType for name in labels} | {name: plain[type(of[0])] for name, of in columns.items()}
    schema = StructType([StructField(name, kind) for name, kind in kinds.items()])
    return native.sparkSession.createDataFrame(list(zip(*labels.values(), *columns.values(), strict=True)), schema)


def _small_duckdb(native: Any, labels: Mapping[str, Sequence[Any]], columns: Mapping[str, Sequence[Any]]) -> Any:
    """Constants on the relation's own connection: derived from the relation, so that nothing is made in its catalog."""
    plain = {int: "BIGINT", float: "DOUBLE", str: "VARCHAR"}
    types = dict(zip(native.columns, map(str, native.types), strict=True))
    kinds = {name: types[name] for name in labels} | {name: plain[type(of[0])] for name, of in columns.items()}
    lists = ", ".join(
        f"{call('unnest', constants(of, 'VARCHAR'))} AS {quoted(name)}" for name, of in (dict(labels) | dict(columns)).items()
    )
    casts = ", ".join(f"CAST({quoted(name)} AS {kind}) AS {quoted(name)}" for name, kind in kinds.items())
    return native.limit(0).aggregate(f"{call('count_star')} AS n").project(lists).project(casts)
