"""What each dataframe engine does in its own way: count profile codes, and put values on rows by their codes, in order.

A join could reorder rows, so only joins that promise not to are used; elsewhere values are picked by position.
Eager: pandas, polars and pyarrow tables. Lazy: polars, DuckDB relations (of any connection), Dask and PySpark frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from narwhals import Implementation
from numpy.typing import NDArray

from aemodel.publication.patients import SHOWN_ROWS, Example, Examples, examples_in, read_codes
from aemodel.publication.profiles import Layout
from aemodel.serving.sql import lookup_position, quoted, struct_list

SPARK = (Implementation.PYSPARK, Implementation.PYSPARK_CONNECT)
EAGER = (Implementation.PANDAS, Implementation.POLARS, Implementation.PYARROW)
LAZY = (Implementation.POLARS, Implementation.DUCKDB, Implementation.DASK, *SPARK)
FOLDS_CASE = (Implementation.DUCKDB, *SPARK)
"""Engines to which two names are one if they differ in case only."""


@dataclass(frozen=True)
class Coded:
    """A caller's frame with its rows' profile codes: an array beside an eager frame, a further column of a lazy one."""

    frame: nw.DataFrame[Any] | nw.LazyFrame[Any]
    schema: Mapping[str, Any]
    layout: Layout
    column: str
    codes: NDArray[np.int64] | None


def open_frame(frame: Any) -> nw.DataFrame[Any] | nw.LazyFrame[Any]:
    """The caller's frame, whichever engine it comes from.

    Raises
    ------
    TypeError
        It is no frame of a known engine.
    """
    opened = nw.from_native(frame, pass_through=True)
    eager = isinstance(opened, nw.DataFrame) and opened.implementation in EAGER
    if not (eager or (isinstance(opened, nw.LazyFrame) and opened.implementation in LAZY)):
        raise TypeError(
            "frame: expected a pandas, polars, Dask or PySpark DataFrame, a polars LazyFrame, a pyarrow Table or a DuckDB "
            f"relation, not {type(frame).__name__}"
        )
    return opened


def with_codes(frame: nw.DataFrame[Any] | nw.LazyFrame[Any], layout: Layout) -> Coded:
    """The frame and its rows' profile codes. Lazy engines work them out when asked for something."""
    schema = frame.collect_schema()
    column = "__aemodel_code"
    while column in schema:
        column += "_"
    if isinstance(frame, nw.DataFrame):
        return Coded(frame, schema, layout, column, read_codes(frame, layout))
    if frame.implementation == Implementation.DASK:
        native = frame.to_native()
        coded = native.map_partitions(_code_part, layout, column, meta=_code_part(native._meta, layout, column))
        return Coded(nw.from_native(coded), schema, layout, column, None)
    return Coded(frame.with_columns(layout.code(schema).alias(column)), schema, layout, column, None)


def _code_part(part: Any, layout: Layout, column: str) -> Any:
    return part.assign(**{column: read_codes(nw.from_native(part, eager_only=True), layout)})


def count_codes(coded: Coded, by: Sequence[str] = ()) -> list[tuple[Any, ...]]:
    """How many rows have each profile code, one aggregate pass: tuples of the values of ``by``, code and count."""
    frame: Any = coded.frame
    if coded.codes is not None:
        if not by:
            return list(zip(*map(np.ndarray.tolist, np.unique(coded.codes, return_counts=True)), strict=True))
        frame = frame.select(*by).with_columns(_column(coded.column, coded.codes, frame))
    names = [*by, coded.column]
    counted = frame.select(*names).group_by(*names).agg(nw.len().alias(f"{coded.column}n"))
    return [(*row[:-2], int(row[-2]), int(row[-1])) for row in _rows(counted)]


def examples_of(coded: Coded, *, numbered: bool = False) -> Examples:
    """Looks up rows by their codes: by position in an eager frame, by value in a lazy one.

    ``numbered`` says that a DuckDB relation has an order, that of a file, so that its rows can be named by their numbers.
    """
    if coded.codes is not None:
        return examples_in(coded.frame, coded.codes)  # type: ignore[arg-type]

    def examples(columns: Sequence[str], codes: NDArray[np.int64]) -> list[Example]:
        frame: Any = coded.frame
        chosen = nw.col(coded.column).is_in(codes.tolist())
        if numbered:
            relation = frame.to_native().project(f"*, row_number() OVER () - 1 AS {coded.column}n")
            found = nw.from_native(relation).filter(chosen).select(*columns, f"{coded.column}n").head(SHOWN_ROWS)
            rows = [(row, f"row {row[-1]}", 1) for row in _rows(found)]
        else:
            counted = frame.filter(chosen).select(*columns).group_by(*columns).agg(nw.len().alias(f"{coded.column}n"))
            top = counted.sort(f"{coded.column}n", descending=True).head(SHOWN_ROWS)
            rows = [(row, f"{row[-1]} row{'s' if row[-1] > 1 else ''}", int(row[-1])) for row in _rows(top)]
        return [Example(dict(zip(columns, row, strict=False)), where, number) for row, where, number in rows]

    return examples


def _rows(frame: Any) -> list[tuple[Any, ...]]:
    """A small frame's rows on the driver, by the engine's own way, which needs no further library."""
    native = frame.to_native()
    if frame.implementation == Implementation.DUCKDB:
        return list(native.fetchall())
    if frame.implementation in SPARK:
        return [tuple(row) for row in native.collect()]
    if frame.implementation == Implementation.DASK:
        return list(nw.from_native(native.compute(), eager_only=True).rows())
    return list((frame.collect() if isinstance(frame, nw.LazyFrame) else frame).rows())


def add_columns(coded: Coded, codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> Any:
    """The caller's own frame with further columns.

    ``columns`` hold a value for each of ``codes``, which are sorted: numbers, of which NaN stands for null, or texts.
    """
    frame = coded.frame
    if isinstance(frame, nw.DataFrame):
        assert coded.codes is not None
        return _add_eager(frame, np.searchsorted(codes, coded.codes), columns)
    native: Any = frame.to_native()
    if frame.implementation == Implementation.DUCKDB:
        return _add_duckdb(native, coded, codes, columns)
    if frame.implementation == Implementation.DASK:
        meta = _add_part(native._meta, coded.column, codes, columns)
        return native.map_partitions(_add_part, coded.column, codes, columns, meta=meta)
    if frame.implementation in SPARK:
        return _add_spark(native, coded.column, codes, columns)
    return _add_polars(native, coded.column, codes, columns)


def _add_eager(frame: nw.DataFrame[Any], place: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> Any:
    return frame.with_columns(*(_column(name, values, frame, place) for name, values in columns.items())).to_native()


def _column(name: str, values: NDArray[Any], like: nw.DataFrame[Any], place: NDArray[np.int64] | None = None) -> nw.Series[Any]:
    """A column for an eager frame, by position; of pandas with the frame's index, by which it would match rows."""
    dtype = {"f": nw.Float64(), "i": nw.Int64()}.get(values.dtype.kind, nw.String())
    series = nw.new_series(name, values.tolist() if dtype == nw.String else values, dtype, backend=like.implementation)
    if dtype == nw.Float64:
        series = series.fill_nan(None)
    if place is not None:
        series = series[place]
    if like.implementation.is_pandas():
        native = series.to_native()
        native.index = like.to_native().index
        return nw.from_native(native, series_only=True)
    return series


def _add_part(part: Any, column: str, codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> Any:
    place = _places(codes, part[column].to_numpy())
    return _add_eager(nw.from_native(part.drop(columns=column), eager_only=True), place, columns)


def _places(codes: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    place = np.minimum(np.searchsorted(codes, found), len(codes) - 1)
    if len(found) and (codes[place] != found).any():
        raise RuntimeError("frame: its rows were others when they were counted; store it before scoring")
    return place


def _add_polars(native: Any, column: str, codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> Any:
    import polars as pl

    values = {name: pl.Series(of.tolist(), dtype=_polars_type(of), nan_to_null=True) for name, of in columns.items()}
    lookup = pl.LazyFrame({column: codes, **values})
    return native.join(lookup, on=column, how="left", maintain_order="left").drop(column)


def _add_spark(native: Any, column: str, codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> Any:
    """A broadcast join reads the caller's rows partition by partition, in their order."""
    from pyspark.sql import functions
    from pyspark.sql.types import DoubleType, LongType, StringType, StructField, StructType

    fields = [StructField(column, LongType())]
    fields += [StructField(name, DoubleType() if of.dtype.kind == "f" else StringType()) for name, of in columns.items()]
    lookup = native.sparkSession.createDataFrame(_value_rows(codes, columns), StructType(fields))
    names = [name for name in (*native.columns, *columns) if name != column]
    joined = native.join(functions.broadcast(lookup), on=column, how="left")
    return joined.select(*("`" + name.replace("`", "``") + "`" for name in names))


def _add_duckdb(native: Any, coded: Coded, codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> Any:
    """A list of all values, a struct for each code, is in the text of the query: it works on any connection."""
    code = quoted(coded.column)
    value = f"({struct_list(coded.column, columns)})[{lookup_position(coded.layout, code, codes)}]"
    looked_up = native.project(f"* EXCLUDE ({code}), unnest({value})")
    own = [quoted(name) for name in native.columns if name != coded.column]
    added = [f"{quoted(f'{coded.column}_{i}')} AS {quoted(name)}" for i, name in enumerate(columns)]
    return looked_up.project(", ".join(own + added))


def _value_rows(codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> list[tuple[Any, ...]]:
    values = [[None if value != value else value for value in of.tolist()] for of in columns.values()]
    return list(zip(codes.tolist(), *values, strict=True))


def _polars_type(values: NDArray[Any]) -> Any:
    import polars as pl

    return pl.Float64 if values.dtype.kind == "f" else pl.String
