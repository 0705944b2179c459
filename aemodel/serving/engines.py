"""What each dataframe engine does in its own way: count profile codes, and put values on rows by their codes, in order.

A join could reorder rows, so only joins that promise not to are used; elsewhere values are picked by position.
Eager: pandas, polars and pyarrow tables. Lazy: polars, DuckDB relations (of any connection), Dask and PySpark frames; and
the command line's CSV files, which `csv_rows` reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from narwhals import Implementation
from numpy.typing import NDArray

from aemodel.publication.patients import check_columns, indexed_as, read_codes
from aemodel.publication.profiles import Layout, make_layout
from aemodel.publication.schema import Covariate
from aemodel.serving.csv_rows import score_file
from aemodel.serving.csv_text import CsvFile
from aemodel.serving.sql import add_code, call, literal, lookup_position, quoted, struct_constants

SPARK = (Implementation.PYSPARK, Implementation.PYSPARK_CONNECT)
EAGER = (Implementation.PANDAS, Implementation.POLARS, Implementation.PYARROW)
LAZY = (Implementation.POLARS, Implementation.DUCKDB, *SPARK)
FOLDS_CASE = (Implementation.DUCKDB, *SPARK)
"""Engines to which two names are one if they differ in case only."""


@dataclass(frozen=True)
class Coded:
    """A caller's frame with its rows' profile codes: an array beside an eager frame, a further column of a lazy one.

    Attributes
    ----------
    frame
        A Narwhals frame; Dask's own, for Narwhals leaves Dask to a package of its own, and partitions are pandas frames;
        or a CSV file.
    schema
        Types of the caller's columns.
    column
        Name of the further column, and the beginning of other temporary names.
    """

    frame: Any
    schema: Mapping[str, Any]
    layout: Layout
    column: str
    codes: NDArray[np.int64] | None

    @property
    def kind(self) -> Implementation:
        return self.frame.implementation if isinstance(self.frame, (nw.DataFrame, nw.LazyFrame)) else Implementation.DASK


def read_frame(frame: Any, covariates: Sequence[Covariate], adding: Sequence[str] = ()) -> Coded:
    """The caller's frame, whichever engine it comes from, and its rows' profile codes; lazy engines have yet to work.

    Raises
    ------
    TypeError
        It is no frame of a known engine.
    ValueError
        A column is missing, or one of those to be added is there already.
    """
    opened, schema, folds_case = _opened(frame)
    same = str.lower if folds_case else str
    schema = {name: dtype for name, dtype in schema.items() if isinstance(name, str)}  # pandas takes anything for a name
    present = {same(column) for column in schema}
    if taken := [name for name in adding if same(name) in present]:
        raise ValueError(f"frame: it has columns that score would add: {taken[:5]}; rename or drop them")
    column = "__aemodel_code"
    while any(name.startswith(column) for name in present):
        column += "_"
    return _with_codes(Coded(opened, schema, make_layout(covariates, list(schema)), column, None))


def _opened(frame: Any) -> tuple[Any, Mapping[Any, Any], bool]:
    """What `Coded` holds of a frame, its columns' types, and whether its engine takes names that differ in case for one."""
    if isinstance(frame, CsvFile):
        return frame, dict.fromkeys(frame.columns, nw.String()), True
    check_columns(frame, "frame", str.lower if nw.dependencies.is_pyspark_dataframe(frame) else str)
    if nw.dependencies.is_dask_dataframe(frame):
        return frame, nw.from_native(frame._meta, eager_only=True).schema, False
    opened: Any = nw.from_native(frame, pass_through=True)
    eager = isinstance(opened, nw.DataFrame) and opened.implementation in EAGER
    lazy = isinstance(opened, nw.LazyFrame) and opened.implementation in LAZY
    if not (eager or lazy):
        raise TypeError(
            "frame: expected a pandas, polars, Dask or PySpark DataFrame, a polars LazyFrame, a pyarrow Table or a DuckDB "
            f"relation, not {type(frame).__name__}"
        )
    return opened, opened.collect_schema(), lazy and opened.implementation in FOLDS_CASE


def _with_codes(coded: Coded) -> Coded:
    """Codes of a frame's rows; a CSV file's are worked out whenever it is read."""
    frame, layout, column = coded.frame, coded.layout, coded.column
    if isinstance(frame, CsvFile):
        return coded
    if isinstance(frame, nw.DataFrame):
        return replace(coded, codes=read_codes(frame, layout))
    if coded.kind == Implementation.DASK:
        meta = _code_part(frame._meta, layout, column)
        return replace(coded, frame=frame.map_partitions(_code_part, layout, column, meta=meta))
    if coded.kind == Implementation.DUCKDB:
        return replace(coded, frame=nw.from_native(add_code(frame.to_native(), layout, coded.schema, column)))
    return replace(coded, frame=layout.add_code(frame, coded.schema, column))


def _code_part(part: Any, layout: Layout, column: str) -> Any:
    return part.assign(**{column: read_codes(nw.from_native(part, eager_only=True), layout)})


def add_columns(coded: Coded, codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> Any:
    """The caller's own frame with further columns.

    ``columns`` hold a value for each of ``codes``, which are sorted: numbers, of which NaN stands for null, or texts.
    """
    frame = coded.frame
    if isinstance(frame, CsvFile):
        return score_file(frame, coded.layout, codes, columns)
    if coded.codes is not None:
        return _add_eager(frame, np.searchsorted(codes, coded.codes), columns)
    if coded.kind == Implementation.DASK:
        meta = _add_part(frame._meta, coded.column, codes, columns)
        return frame.map_partitions(_add_part, coded.column, codes, columns, meta=meta)
    add = {Implementation.DUCKDB: _add_duckdb, Implementation.POLARS: _add_polars}.get(coded.kind, _add_spark)
    return add(frame.to_native(), coded, codes, columns)


def _add_eager(frame: nw.DataFrame[Any], place: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> Any:
    return frame.with_columns(*(_column(name, values, frame, place) for name, values in columns.items())).to_native()


def _column(name: str, values: NDArray[Any], like: nw.DataFrame[Any], place: NDArray[np.int64] | None = None) -> nw.Series[Any]:
    """A column for an eager frame, by position."""
    dtype = {"f": nw.Float64(), "i": nw.Int64()}.get(values.dtype.kind, nw.String())
    series = nw.new_series(name, values.tolist() if dtype == nw.String else values, dtype, backend=like.implementation)
    if dtype == nw.Float64:
        series = series.fill_nan(None)
    if place is not None:
        series = series[place]
    return indexed_as(like, series)


def _add_part(part: Any, column: str, codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> Any:
    place = _places(codes, part[column].to_numpy())
    return _add_eager(nw.from_native(part.drop(columns=column), eager_only=True), place, columns)


def _places(codes: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    place = np.minimum(np.searchsorted(codes, found), len(codes) - 1)
    if len(found) and (codes[place] != found).any():
        raise RuntimeError("frame: its rows were others when they were counted; store it before scoring")
    return place


def _add_polars(native: Any, coded: Coded, codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> Any:
    import polars as pl

    frame = nw.from_native(pl.DataFrame({coded.column: codes}), eager_only=True)
    lookup = _add_eager(frame, np.arange(len(codes)), columns).lazy()
    return native.join(lookup, on=coded.column, how="left", maintain_order="left").drop(coded.column)


def _add_spark(native: Any, coded: Coded, codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> Any:
    """A broadcast join reads the caller's rows partition by partition, in their order."""
    from pyspark.sql import functions
    from pyspark.sql.types import DoubleType, LongType, StringType, StructField, StructType

    fields = [StructField(coded.column, LongType())]
    fields += [StructField(name, DoubleType() if of.dtype.kind == "f" else StringType()) for name, of in columns.items()]
    lookup = native.sparkSession.createDataFrame(_value_rows(codes, columns), StructType(fields))
    names = [name for name in (*native.columns, *columns) if name != coded.column]
    joined = native.join(functions.broadcast(lookup), on=coded.column, how="left")
    return joined.select(*map(in_spark, names))


def in_spark(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _add_duckdb(native: Any, coded: Coded, codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> Any:
    """A list of structs, one for each row of values that occurs, is part of the query; fields are those of the row's code.

    Looked up in a projection of its own: in one with the fields, the list would be read once for each of them.
    """
    rows = list(zip(*(of.tolist() for of in columns.values()), strict=True))
    place = {repr(row): i for i, row in reversed(list(enumerate(rows)))}
    first = sorted(place.values())
    position = {row: i for i, row in enumerate(first)}
    positions = np.array([position[place[repr(row)]] for row in rows], dtype=np.int64)
    code = quoted(coded.column)
    values = struct_constants([of[first] for of in columns.values()])
    looked_up = call("list_extract", values, lookup_position(coded.layout, code, codes, positions))
    own = [quoted(name) for name in native.columns if name != coded.column]
    added = [f"{call('struct_extract', code, literal(f'f{i}'))} AS {quoted(name)}" for i, name in enumerate(columns)]
    return native.project(f"* REPLACE ({looked_up} AS {code})").project(", ".join(own + added))


def _value_rows(codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> list[tuple[Any, ...]]:
    values = [[None if value != value else value for value in of.tolist()] for of in columns.values()]
    return list(zip(codes.tolist(), *values, strict=True))
