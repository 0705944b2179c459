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

from aemodel.publication.patients import SHOWN_VALUES, Example, Examples, examples_in, indexed_as, read_codes
from aemodel.publication.profiles import Layout, make_layout
from aemodel.publication.rules import Covariate
from aemodel.serving.csv_rows import count_rows, examples_in_file, score_file
from aemodel.serving.csv_text import CsvFile
from aemodel.serving.sql import literal, lookup_position, quoted, struct_list

SPARK = (Implementation.PYSPARK, Implementation.PYSPARK_CONNECT)
EAGER = (Implementation.PANDAS, Implementation.POLARS, Implementation.PYARROW)
LAZY = (Implementation.POLARS, Implementation.DUCKDB, *SPARK)
FOLDS_CASE = (Implementation.DUCKDB, *SPARK)
"""Engines to which two names are one if they differ in case only."""


MOST_COUNTED = 1_000_000
"""Combinations of groups and profiles that are collected at most."""


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
    present = {same(column) for column in schema}
    if taken := [name for name in adding if same(name) in present]:
        raise ValueError(f"frame: it has columns that score would add: {taken[:5]}; rename or drop them")
    column = "__aemodel_code"
    while any(name.startswith(column) for name in present):
        column += "_"
    return _with_codes(Coded(opened, schema, make_layout(covariates, list(schema)), column, None))


def _opened(frame: Any) -> tuple[Any, Mapping[str, Any], bool]:
    """What `Coded` holds of a frame, its columns' types, and whether its engine takes names that differ in case for one."""
    if isinstance(frame, CsvFile):
        return frame, dict.fromkeys(frame.columns, nw.String()), True
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
    return replace(coded, frame=layout.add_code(frame, coded.schema, column))


def _code_part(part: Any, layout: Layout, column: str) -> Any:
    return part.assign(**{column: read_codes(nw.from_native(part, eager_only=True), layout)})


def count_codes(coded: Coded, by: Sequence[str] = ()) -> list[tuple[Any, ...]]:
    """How many rows have each profile code, one aggregate pass: tuples of the values of ``by``, code and count."""
    frame, names = coded.frame, [*by, coded.column]
    if isinstance(frame, CsvFile):
        counted = count_rows(frame, coded.layout, by, MOST_COUNTED)
    else:
        if coded.codes is not None:
            frame = frame.with_columns(_column(coded.column, coded.codes, frame))
        counted = _collected(_tally(coded, frame, names).head(MOST_COUNTED + 1))
    if len(counted) > MOST_COUNTED:
        raise ValueError(f"by: more than {MOST_COUNTED} groups and profiles by {', '.join(by)}; name columns with fewer values")
    return counted


def examples_of(coded: Coded, *, numbered: bool = False) -> Examples:
    """Looks up rows by their codes: by position in an eager frame, by value in a lazy one.

    ``numbered`` says that a DuckDB relation has an order, that of a file, so that its rows can be named by their numbers.
    """
    if coded.codes is not None:
        return examples_in(coded.frame, coded.codes)
    if isinstance(coded.frame, CsvFile):
        return examples_in_file(coded.frame, coded.layout)

    def find(columns: Sequence[str], codes: NDArray[np.int64]) -> list[Example]:
        number, first, chosen = f"{coded.column}n", f"{coded.column}f", nw.col(coded.column).is_in(codes.tolist())
        if numbered:
            relation = nw.from_native(coded.frame.to_native().project(f"*, row_number() OVER () - 1 AS {first}"))
            groups = relation.filter(chosen).group_by(*columns)
            tally = groups.agg(nw.len().alias(number), nw.col(first).min()).sort(number, first, descending=[True, False])
        else:
            tally = _tally(coded, coded.frame, columns, codes).sort(number, descending=True)
        size = len(columns)
        rows = _collected(tally.head(SHOWN_VALUES))
        return [Example(dict(zip(columns, row[:size], strict=True)), *map(int, row[size:])) for row in rows]

    return Examples(find, numbered)


def _tally(coded: Coded, frame: Any, names: Sequence[str], codes: NDArray[np.int64] | None = None) -> Any:
    """How many rows have each combination of values of some columns: a frame of these and the counts.

    Of rows with one of the codes only, if any are given.
    """
    number = f"{coded.column}n"
    if coded.kind == Implementation.DASK:
        arguments = (coded, list(names), codes)
        parts = frame.map_partitions(_tally_part, *arguments, meta=_tally_part(frame._meta, *arguments)).compute()
        return nw.from_native(parts, eager_only=True).group_by(*names).agg(nw.col(number).sum())
    if codes is not None:
        frame = frame.filter(nw.col(coded.column).is_in(codes.tolist()))
    return frame.select(*names).group_by(*names).agg(nw.len().alias(number))


def _tally_part(part: Any, coded: Coded, names: Sequence[str], codes: NDArray[np.int64] | None) -> Any:
    opened = nw.from_native(part, eager_only=True)
    return _tally(replace(coded, frame=opened), opened, names, codes).to_native()


def _collected(frame: nw.DataFrame[Any] | nw.LazyFrame[Any]) -> list[tuple[Any, ...]]:
    """A small frame's rows on the driver, by the engine's own way, which needs no further library."""
    native: Any = frame.to_native()
    if frame.implementation == Implementation.DUCKDB:
        return list(native.fetchall())
    if frame.implementation in SPARK:
        return [tuple(row) for row in native.collect()]
    return list((frame.collect() if isinstance(frame, nw.LazyFrame) else frame).rows())


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
    return joined.select(*("`" + name.replace("`", "``") + "`" for name in names))


def _add_duckdb(native: Any, coded: Coded, codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> Any:
    """A list of all values, a struct for each code, is read from a variable of Python's, which the relation keeps.

    A connection that may not read those has the list in the text of the query, which takes longer to plan. Looked up in
    a projection of its own: in one with the fields, the list would be read once for each of them.
    """
    from duckdb import CatalogException

    code = quoted(coded.column)
    place = lookup_position(coded.layout, code, codes)
    fields = {f"{coded.column}_{i}": values for i, values in enumerate(columns.values())}
    __aemodel_values = {name: of if of.dtype.kind == "f" else of.astype(object) for name, of in fields.items()}
    values = f"(SELECT list(struct_pack({', '.join(f'{name} := {name}' for name in fields)})) FROM __aemodel_values)"
    try:
        looked_up = native.project(f"* REPLACE ({values}[{place}] AS {code})")
    except CatalogException:
        looked_up = native.project(f"* REPLACE (({struct_list(fields)})[{place}] AS {code})")
    own = [quoted(name) for name in native.columns if name != coded.column]
    added = [f"{code}.{field} AS {quoted(name)}" for field, name in zip(fields, columns, strict=True)]
    return looked_up.project(", ".join(own + added))


def _value_rows(codes: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> list[tuple[Any, ...]]:
    values = [[None if value != value else value for value in of.tolist()] for of in columns.values()]
    return list(zip(codes.tolist(), *values, strict=True))


def small_table(coded: Coded, by: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Any:
    """A table of answers as the caller's kind of frame, the eager kind where there is one; ``by`` columns keep their types."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    if coded.kind == Implementation.DUCKDB:
        return _small_duckdb(coded.frame.to_native(), by, columns)
    if coded.kind in SPARK:
        from pyspark.sql.types import StructField, StructType

        native = coded.frame.to_native()
        kinds = {name: native.schema[name].dataType for name in by}
        plain = native.sparkSession.createDataFrame([(0, "", 0.0)], ["int", "str", "float"]).schema
        kinds |= {name: plain[type(of[0]).__name__].dataType for name, of in columns.items() if name not in by}
        schema = StructType([StructField(name, kinds[name]) for name in columns])
        return native.sparkSession.createDataFrame(list(zip(*columns.values(), strict=True)), schema)
    backend: Any = Implementation.PANDAS if coded.kind == Implementation.DASK else coded.kind
    return nw.from_dict(columns, backend=backend).to_native()


def _small_duckdb(native: Any, by: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> Any:
    """Constants on the relation's own connection."""
    kinds = dict(zip(native.columns, map(str, native.types), strict=True))
    plain = {int: "BIGINT", float: "DOUBLE", str: "VARCHAR"}
    casts = [
        f"CAST({quoted(name)} AS {kinds[name] if name in by else plain[type(of[0])]}) AS {quoted(name)}"
        for name, of in columns.items()
    ]
    values = (", ".join("NULL" if v is None else literal(str(v)) for v in row) for row in zip(*columns.values(), strict=True))
    names = ", ".join(map(quoted, columns))
    table = f"(VALUES {', '.join(f'({row})' for row in values)}) answers({names})"
    return native.query("caller", f"SELECT {', '.join(casts)} FROM {table}")
