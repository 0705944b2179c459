"""Lazy frames: Dask's, polars' and PySpark's.

A join could reorder rows, so only joins that promise not to are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import narwhals.stable.v2 as nw
from narwhals import Implementation
from numpy.typing import NDArray

from aemodel.publication.arrays import Ints
from aemodel.publication.codes import Kind
from aemodel.publication.patients import SHOWN_VALUES, Example
from aemodel.scoring.eager import (
    Eager,
    added_series,
    check_columns,
    check_labels,
    eager_grouped,
    kinds_by_schema,
    nan_as_null,
    positional,
    table_of,
    with_code,
)
from aemodel.scoring.frames import MOST_COUNTED, Groups, Opened, no_groups, order_of, rows_grouped

EAGER = (Implementation.PANDAS, Implementation.POLARS, Implementation.PYARROW)
SPARK = (Implementation.PYSPARK, Implementation.PYSPARK_CONNECT)


def library_of(frame: Any) -> Any:
    """The class for a frame's library."""
    check_columns(frame, "frame")
    if nw.dependencies.is_dask_dataframe(frame):  # which Narwhals leaves to a package of its own
        return Dask
    opened: Any = nw.from_native(frame, pass_through=True)
    kind = getattr(opened, "implementation", None)
    if isinstance(opened, nw.DataFrame) and kind in EAGER:
        return Eager
    if isinstance(opened, nw.LazyFrame) and kind in (Implementation.POLARS, *SPARK):
        return Spark if kind in SPARK else PolarsLazy
    raise TypeError(
        "frame: expected a pandas, polars, Dask or PySpark DataFrame, a polars LazyFrame, a pyarrow Table or a DuckDB "
        f"relation, not {type(frame).__name__}"
    )


@dataclass(frozen=True)
class Dask(Opened):
    """A Dask frame: `Eager` on each of its partitions, which are pandas frames."""

    @staticmethod
    def kinds_of(frame: Any) -> dict[str, Kind]:
        return Eager.kinds_of(frame._meta)

    def part(self, native: Any) -> Eager:
        return Eager(native, self.kinds, self.layout, self.column)

    def tally(self, by: Sequence[str] = ()) -> Groups:
        def count(part: Any) -> Any:
            return self.part(part).counted(by).to_native()

        parts = self.native.map_partitions(count, meta=count(self.native._meta)).compute()
        return eager_grouped(positional(nw.from_native(parts, eager_only=True)), self.column, by)

    def examples(self, columns: Sequence[str], codes: Ints) -> list[Example]:
        import dask as _dask

        def alike(part: Any) -> list[tuple[str, list[Any], int]]:
            found = self.part(part).alike(columns, codes)
            return [(shown, [part[name].iloc[rows[0]] for name in columns], len(rows)) for shown, rows in found.items()]

        dask: Any = _dask  # which declares no types
        together: dict[str, list[Any]] = {}
        for found in dask.compute(*(dask.delayed(alike)(part) for part in self.native.to_delayed())):
            for printed, values, rows in found:
                together.setdefault(printed, [values, 0])[1] += rows
        most = sorted(together.values(), key=lambda item: -item[1])[:SHOWN_VALUES]
        return [Example(values, rows) for values, rows in most]

    def add(self, codes: Ints, columns: Mapping[str, NDArray[Any]]) -> Any:
        def add(part: Any) -> Any:
            return self.part(part).add(codes, columns)

        return self.native.map_partitions(add, meta=add(self.native._meta))

    def table(self, groups: Groups, columns: Mapping[str, Sequence[Any]]) -> Any:
        return table_of(Implementation.PANDAS, groups, columns)


@dataclass(frozen=True)
class PolarsLazy(Opened):
    """A polars LazyFrame: codes are a further column."""

    kinds_of = staticmethod(kinds_by_schema)

    @cached_property
    def coded(self) -> Any:
        return with_code(nw.from_native(self.native), self.layout, self.column)

    def tally(self, by: Sequence[str] = ()) -> Groups:
        schema = self.coded.collect_schema()
        check_labels(schema, by, objects=False)
        rows = self.coded.select(*nan_as_null(schema, by), self.column)
        counted = rows.group_by(*by, self.column).agg(nw.len().alias(f"{self.column}n")).head(MOST_COUNTED + 1)
        return eager_grouped(nw.from_native(counted.collect().to_native(), eager_only=True), self.column, by)

    def examples(self, columns: Sequence[str], codes: Ints) -> list[Example]:
        number = f"{self.column}n"
        chosen = self.coded.filter(nw.col(self.column).is_in(codes.tolist()))
        counted = chosen.group_by(*columns).agg(nw.len().alias(number)).sort(number, descending=True)
        return [Example(row[:-1], row[-1]) for row in counted.head(SHOWN_VALUES).collect().rows()]

    def add(self, codes: Ints, columns: Mapping[str, NDArray[Any]]) -> Any:
        added = {self.column: codes, **columns}
        lookup = nw.concat([added_series(*item, Implementation.POLARS).to_frame() for item in added.items()], how="horizontal")
        coded = self.coded.to_native()
        joined = coded.join(lookup.to_native().lazy(), on=self.column, how="left", maintain_order="left")
        return joined.drop(self.column)

    def table(self, groups: Groups, columns: Mapping[str, Sequence[Any]]) -> Any:
        return table_of(Implementation.POLARS, groups, columns)


@dataclass(frozen=True)
class Spark(Opened):
    """A PySpark frame: codes are a further column."""

    same: ClassVar[Any] = str.lower
    """Names that differ in case only are one to it."""

    kinds_of = staticmethod(kinds_by_schema)

    @cached_property
    def coded(self) -> Any:
        return with_code(nw.from_native(self.native), self.layout, self.column).to_native()

    def _keys(self, names: Sequence[str]) -> list[Any]:
        return [self.coded[_ticked(name)].alias(f"{self.column}{i}") for i, name in enumerate(names)]

    def tally(self, by: Sequence[str] = ()) -> Groups:
        from pyspark.sql import functions

        schema = nw.from_native(self.native).collect_schema()
        check_labels(schema, by, objects=False)
        for name in by:
            if isinstance(schema[name], nw.Datetime) and schema[name].time_zone:  # autumn has an hour twice
                raise no_groups(name, str(schema[name]))
        keys = [*(f"{self.column}{i}" for i in range(len(by))), self.column]
        counted = self.coded.select(*self._keys(by), self.column).groupBy(*keys).agg(functions.count("*"))
        rows = counted.limit(MOST_COUNTED + 1).collect()
        found = [tuple(bytes(value) if isinstance(value, bytearray) else value for value in row) for row in rows]
        return rows_grouped(by, sorted(found, key=lambda row: (*map(order_of, row[:-2]), row[-2])))

    def examples(self, columns: Sequence[str], codes: Ints) -> list[Example]:
        from pyspark.sql import functions

        chosen = self.coded.filter(self.coded[self.column].isin(codes.tolist()))
        counted = chosen.groupBy(*self._keys(columns)).agg(functions.count("*").alias("number"))
        most = counted.orderBy(functions.desc("number")).limit(SHOWN_VALUES).collect()
        return [Example(row[:-1], row[-1]) for row in map(tuple, most)]

    def add(self, codes: Ints, columns: Mapping[str, NDArray[Any]]) -> Any:
        """A broadcast join reads the caller's rows partition by partition, in their order."""
        from pyspark.sql import functions

        kinds = {name: "double" if of.dtype.kind == "f" else "string" for name, of in columns.items()}
        values = [[None if value != value else value for value in of.tolist()] for of in columns.values()]
        lookup = self._made(
            {self.column: codes.tolist(), **dict(zip(columns, values, strict=True))}, {self.column: "long", **kinds}
        )
        joined = self.coded.join(functions.broadcast(lookup), on=self.column, how="left")
        return joined.select(*map(_ticked, (*self.native.columns, *columns)))

    def table(self, groups: Groups, columns: Mapping[str, Sequence[Any]]) -> Any:
        places = groups.places(columns)
        values = {name: [groups.labels[i][k] for i in places] for k, name in enumerate(groups.names)}
        plain = {int: "long", float: "double", str: "string"}
        kinds = {name: self.native.schema[name].dataType for name in groups.names}
        return self._made(values | dict(columns), kinds | {name: plain[type(of[0])] for name, of in columns.items()})

    def _made(self, columns: Mapping[str, Sequence[Any]], kinds: Mapping[str, Any]) -> Any:
        from pyspark.sql.types import StructType

        schema = StructType()
        for name, kind in kinds.items():
            schema = schema.add(name, kind)
        return self.native.sparkSession.createDataFrame(list(zip(*columns.values(), strict=True)), schema)


def _ticked(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
