"""Tables of pandas, polars and pyarrow: rows are known by their position, and values picked by it.

Profile codes are worked out by Narwhals, for every library but DuckDB, which is told in SQL (`sql`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from aemodel.publication.arrays import Ints
from aemodel.publication.codes import MISSING, NUMBER, Kind, Layout, NewLevels, Source
from aemodel.publication.errors import InputError
from aemodel.publication.patients import SHOWN_VALUES, Example, as_float, check_choices, is_missing, refuse_invalid
from aemodel.publication.rules import MissingColumns
from aemodel.publication.schema import Covariate
from aemodel.publication.texts import shown
from aemodel.scoring.frames import Groups, Opened, check_names, grouped, no_groups, open_as, order_of, profiles_of

TEXTS = (nw.String, nw.Categorical, nw.Enum)


def as_frame(patients: Any, argument: str = "patients") -> nw.DataFrame[Any]:
    """The caller's frame, whichever eager library it comes from.

    Raises
    ------
    TypeError, ValueError
        It is not a pandas, polars or pyarrow table; or two of its columns have one name, or one has several.
    """
    check_columns(patients, argument)
    try:
        return nw.from_native(patients, eager_only=True)
    except TypeError:
        raise TypeError(
            f"{argument}: expected a pandas or polars DataFrame or a pyarrow Table, not {type(patients).__name__}; "
            "collect a lazy frame first"
        ) from None


def check_columns(frame: Any, argument: str) -> None:
    """Refuse a table of whose columns two have the same name, or that names them on several levels."""
    if nw.dependencies.is_polars_lazyframe(frame):
        return
    names: Any = frame.column_names if nw.dependencies.is_pyarrow_table(frame) else getattr(frame, "columns", ())
    if getattr(names, "nlevels", 1) > 1:
        raise InputError(argument, f"its columns have names on {names.nlevels} levels; give each a single name")
    check_names(argument, names, str.lower if nw.dependencies.is_pyspark_dataframe(frame) else str)


def read_sets(
    frame: nw.DataFrame[Any],
    covariates: Sequence[Covariate],
    *,
    new_levels: NewLevels = "error",
    missing_columns: MissingColumns = "error",
) -> Ints:
    """The set of levels each patient can have of each covariate, as bits, 0 where impossible: (patient, covariate).

    Raises
    ------
    ValueError
        A column is missing or of the wrong kind, or a value is impossible; naming column, rows, value, allowed values.
    """
    check_choices(new_levels, "error", missing_columns)
    opened = open_as(Eager, frame.to_native(), covariates, (), missing_columns)
    groups = opened.tally()
    refuse_invalid(profiles_of(opened, groups), new_levels, "error")
    return opened.layout.sets(groups.codes, new_levels)[np.searchsorted(groups.codes, opened.codes)]


# Columns.


def known_type(series: nw.Series[Any]) -> nw.Series[Any]:
    """A column of a type that its library keeps to itself, as one that Narwhals knows."""
    native: Any = series.to_native()
    if series.implementation.is_pandas():
        if str(native.dtype) == "string_view[pyarrow]":
            return _like(series, native.array.__arrow_array__().to_pylist(), nw.String())
        if str(native.dtype) in ("float16", "halffloat[pyarrow]"):  # which pandas cannot sort, nor tell from missing
            return series.cast(nw.Float32())
        no_text = series.dtype == nw.Unknown or re.match(r"dictionary<values=(?!\w*string)", str(native.dtype))
        return nw.from_native(native.astype(object), series_only=True) if no_text else series
    if series.implementation.is_pyarrow():
        import pyarrow as pa
        import pyarrow.compute

        kind = native.type
        if pa.types.is_run_end_encoded(kind):
            native = pa.chunked_array(map(pa.compute.run_end_decode, native.chunks), kind := kind.value_type)
        if pa.types.is_dictionary(kind) and "string" not in str(kind.value_type):  # numbers, of which one may be NaN
            native = native.cast(kind := kind.value_type)
        if pa.types.is_string_view(kind):
            native = native.cast(pa.string())
        elif pa.types.is_float16(kind):
            native = native.cast(pa.float32())
        elif pa.types.is_decimal(kind) and series.dtype == nw.Unknown:
            native = native.cast(pa.float64())
        if native.type != series.to_native().type:
            return nw.from_native(native, series_only=True).alias(series.name)
    return series


def _unmixed(series: nw.Series[Any], *, text: bool) -> nw.Series[Any]:
    """A column of Python objects as text or numbers; one that is to hold text and has others stays of the wrong kind."""
    series = known_type(series)
    if not isinstance(series.dtype, nw.Object):
        return series
    values = [None if is_missing(value) else value for value in series.to_list()]
    if not text:
        return _like(series, [None if value is None else as_float(value) for value in values], nw.Float64())
    if not all(value is None or isinstance(value, str) for value in values):
        return series
    # Half of a surrogate pair, which no library can hold, is no level's.
    texts = [None if value is None else str(value).encode(errors="replace").decode() for value in values]
    return _like(series, texts, nw.String())


def _like(series: nw.Series[Any], values: Sequence[Any], dtype: Any) -> nw.Series[Any]:
    """A new column in the place of an old one."""
    return indexed_as(series, nw.new_series(series.name, values, dtype, backend=series.implementation))


def positional(frame: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """A frame whose rows are known by their position alone: of pandas without the index, which may have a column's name."""
    if not frame.implementation.is_pandas():
        return frame
    return nw.from_native(frame.to_native().reset_index(drop=True), eager_only=True)


def indexed_as(like: nw.Series[Any] | nw.DataFrame[Any], series: nw.Series[Any]) -> nw.Series[Any]:
    """A new column for a frame; of pandas with the frame's index, by which it would match rows."""
    if not like.implementation.is_pandas():
        return series
    native = series.to_native()
    native.index = like.to_native().index
    return nw.from_native(native, series_only=True)


def kinds_by_schema(frame: Any) -> dict[str, Kind]:
    return kinds_in(nw.from_native(frame).collect_schema())


@dataclass(frozen=True)
class Eager(Opened):
    """A pandas, polars or pyarrow table; rows are known by position."""

    numbered: bool = True
    kinds_of = staticmethod(kinds_by_schema)

    @cached_property
    def frame(self) -> nw.DataFrame[Any]:
        return nw.from_native(self.native, eager_only=True)

    @cached_property
    def codes(self) -> Ints:
        """Profile codes, (row,)."""
        texts = {source.column for source in self.layout.sources if source.texts}
        if not self.layout.columns:  # where the publication has no covariate, all are alike
            return np.zeros(len(self.frame), dtype=np.int64)
        plain = self.frame.select([_unmixed(self.frame[name], text=name in texts) for name in self.layout.columns])
        return with_code(plain, self.layout, self.column)[self.column].to_numpy()

    def tally(self, by: Sequence[str] = ()) -> Groups:
        if by:
            return eager_grouped(self.counted(by), self.column, by)
        ordered = np.sort(self.codes)
        first = np.flatnonzero(np.diff(ordered, prepend=-1))
        return grouped(by, (), np.zeros(len(first)), ordered[first], np.diff(first, append=len(ordered)))

    def counted(self, by: Sequence[str]) -> nw.DataFrame[Any]:
        """The values of ``by``, code and number of rows, in columns of its own: perhaps for one part of several."""
        check_labels(self.frame.schema, by, objects=self.frame.implementation.is_pandas())
        column, frame = self.column, self.frame
        frame = frame.with_columns(*(known_type(frame[name]) for name in by))
        labels = positional(frame.select(*nan_as_null(frame.schema, by)))
        table, keys = _keyed(labels, len(self.codes), column, by)
        table = table.with_columns(nw.new_series(column, self.codes, nw.Int64(), backend=frame.implementation))
        counted = table.group_by(column, *keys).agg(nw.len().alias(f"{column}n"), nw.col(f"{column}f").min())
        counts = counted.select(column, f"{column}n")
        if not by:
            return positional(counts)
        return positional(labels[counted[f"{column}f"].to_numpy()]).with_columns(*counts.iter_columns())

    def examples(self, columns: Sequence[str], codes: Ints) -> list[Example]:
        alike = self.alike(columns, codes).values()
        most = sorted(alike, key=lambda rows: (-len(rows), rows[0]))[:SHOWN_VALUES]
        return [Example([self.frame[column][rows[0]] for column in columns], len(rows), rows[0]) for rows in most]

    def alike(self, columns: Sequence[str], codes: Ints) -> dict[str, list[int]]:
        """Rows that have one of the codes, by what is printed of their values: those of Python objects may have no hash."""
        rows, together = np.flatnonzero(np.isin(self.codes, codes)), dict[str, list[int]]()
        values = zip(*(known_type(self.frame[column])[rows].to_list() for column in columns), strict=True)
        for row, here in zip(rows.tolist(), values, strict=True):
            together.setdefault(_printed(here), []).append(row)
        return together

    def add(self, codes: Ints, columns: Mapping[str, NDArray[Any]]) -> Any:
        place = np.minimum(np.searchsorted(codes, self.codes), len(codes) - 1)
        if len(place) and (codes[place] != self.codes).any():
            raise RuntimeError("frame: its rows were others when they were counted; store it before scoring")
        added = (added_series(name, of, self.frame.implementation)[place] for name, of in columns.items())
        return self.frame.with_columns(*(indexed_as(self.frame, series) for series in added)).to_native()

    def table(self, groups: Groups, columns: Mapping[str, Sequence[Any]]) -> Any:
        return table_of(self.frame.implementation, groups, columns)


def added_series(name: str, values: NDArray[Any], backend: Any) -> nw.Series[Any]:
    """A column of numbers or of texts, of which NaN stands for null."""
    dtype = {"f": nw.Float64(), "i": nw.Int64()}.get(values.dtype.kind, nw.String())
    given = [None if value != value else value for value in values.tolist()] if dtype == nw.String else values
    series = nw.new_series(name, given, dtype, backend=backend)
    return series.fill_nan(None) if dtype == nw.Float64 else series


def _printed(values: tuple[Any, ...]) -> str:
    try:
        return repr(values)
    except Exception:  # a number of too many digits, or an object of a caller's
        return shown(values)


def table_of(backend: Any, groups: Groups, columns: Mapping[str, Sequence[Any]]) -> Any:
    answers = [nw.new_series(name, of, backend=backend) for name, of in columns.items()]
    if not groups.names:
        return nw.concat([series.to_frame() for series in answers], how="horizontal").to_native()
    return positional(groups.labels[groups.places(columns)]).with_columns(*answers).to_native()


# Groups.


def check_labels(schema: Mapping[str, Any], by: Sequence[str], *, objects: bool) -> None:
    for name in by:
        if schema[name].is_nested() or schema[name] == nw.Unknown or (schema[name] == nw.Object and not objects):
            raise no_groups(name, str(schema[name]))


def _keyed(frame: nw.DataFrame[Any], rows: int, column: str, by: Sequence[str]) -> tuple[nw.DataFrame[Any], list[str]]:
    """Numbers of rows, with the keys of some columns, and the keys' names."""
    keys = [_key(frame[name]).alias(f"{column}{i}") for i, name in enumerate(by)]
    numbers = nw.new_series(f"{column}f", np.arange(rows), nw.Int64(), backend=frame.implementation).to_frame()
    return numbers.with_columns(*keys), [key.name for key in keys]


def nan_as_null(schema: Mapping[str, Any], by: Sequence[str]) -> list[nw.Expr]:
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
        ranks = {value: rank for rank, value in enumerate(sorted(known, key=lambda pair: order_of(pair[1])))}
    except TypeError as error:
        raise InputError(
            "by", f"column {shown(series.name)} holds values that make no groups ({error}); give it as text"
        ) from None
    places = [None if value is None else ranks[value] for value in values]
    return nw.new_series(series.name, places, nw.Float64(), backend=series.implementation)


def eager_grouped(counted: nw.DataFrame[Any], column: str, by: Sequence[str]) -> Groups:
    """Groups of what `Eager.counted` gives: sorted by the engine, which knows its values exactly, and told apart by it."""
    codes, rows = (counted[name].to_numpy() for name in (column, f"{column}n"))
    if not by:
        return grouped(by, (), np.zeros(len(codes)), codes, rows)
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
    return grouped(by, labels, np.cumsum(changed) - 1, codes[place], rows[place])


# Profile codes.


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
    placed = zip(layout.sources, temporary, layout.strides, strict=False)
    parts = [_class(source, schema[source.column], nw.col(name)) * stride for source, name, stride in placed]
    for limit in layout.limits_of(kinds_in(schema)):
        value, by = nw.col(temporary[limit.source]), nw.col(temporary[limit.by])
        # Text that is missing is infinite here; NaN is above everything to some, and above nothing to others.
        over = (value > by * limit.most.times + limit.most.plus) & (value < math.inf) & (by < math.inf)
        parts.append(over.fill_null(False).cast(nw.Int64) * limit.stride)
    pairs = zip(layout.sources, temporary, strict=True)
    valued = frame.with_columns(*(_value(source, schema[source.column]).alias(name) for source, name in pairs))
    return valued.with_columns(sum(parts, nw.lit(0)).alias(column)).drop(*temporary)


def _value(source: Source, dtype: Any) -> nw.Expr:
    """What a column is classed by: text, or a number, infinite for text that is none; of the wrong type, the column."""
    value = nw.col(source.column).cast(nw.String()) if dtype in (nw.Categorical, nw.Enum) else nw.col(source.column)
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
        found = sum(((value >= cut).cast(nw.Int32) for cut in source.cuts), nw.lit(1))
    else:
        found = nw.lit(source.wrong)
    return nw.when(missing).then(nw.lit(MISSING)).otherwise(found).cast(nw.Int64)
