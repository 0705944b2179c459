"""Patients' rows to sets of levels: the boundary where a caller's frame is read and, if wrong, refused."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Real
from typing import Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from aemodel.publication.profiles import NUMBER, Layout, Source, make_layout, number_in
from aemodel.publication.profiles import NewLevels as NewLevels
from aemodel.publication.rules import allowed_words
from aemodel.publication.schema import Covariate
from aemodel.publication.texts import shown

OnInvalid = Literal["error", "null"]
SHOWN_VALUES = 5
MARKERS = frozenset("na n/a #n/a <na> nan null none missing unknown nd nk . - ?".split())
"""What people write, in small letters, where a value is missing."""
NEAR = 0.85
"""How alike a text must be to a level that was perhaps meant: a slip of the finger is, another band's bounds are not."""


@dataclass(frozen=True)
class Example:
    """Values by column that one or more rows have alike; how many rows, and the first one's number if rows are numbered."""

    values: Mapping[str, Any]
    rows: int
    first: int | None = None

    @property
    def where(self) -> str:
        if self.first is None:
            return "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"row {self.first}" if self.rows == 1 else f"{self.rows} rows, first row {self.first}"


@dataclass(frozen=True)
class Examples:
    """Finds the `SHOWN_VALUES` most frequent values of columns in rows of some profile codes; it may have numbers of rows."""

    find: Callable[[Sequence[str], NDArray[np.int64]], list[Example]]
    numbered: bool


def as_frame(patients: Any, argument: str = "patients") -> nw.DataFrame[Any]:
    """The caller's frame, whichever eager library it comes from.

    Raises
    ------
    TypeError
        It is not a pandas, polars or pyarrow table.
    """
    check_columns(patients, argument)
    try:
        return nw.from_native(patients, eager_only=True)
    except TypeError:
        raise TypeError(
            f"{argument}: expected a pandas or polars DataFrame or a pyarrow Table, not {type(patients).__name__}; "
            "collect a lazy frame first"
        ) from None


def check_columns(frame: Any, argument: str, same: Callable[[str], str] = str) -> None:
    """Refuse a table of whose columns two have the same name, or that names them on several levels.

    Raises
    ------
    ValueError
        It does; naming them.
    """
    names: Any = () if nw.dependencies.is_polars_lazyframe(frame) else getattr(frame, "columns", ())
    if nw.dependencies.is_pyarrow_table(frame):
        names = frame.column_names
    if getattr(names, "nlevels", 1) > 1:
        raise ValueError(f"{argument}: its columns have names on {names.nlevels} levels; give each a single name")
    times = Counter(same(name) for name in names if isinstance(name, str))
    if again := [name for name, number in times.items() if number > 1]:
        raise ValueError(f"{argument}: several columns are named {shown(again[:5])}; rename or drop all but one")


def read_sets(
    frame: nw.DataFrame[Any],
    covariates: Sequence[Covariate],
    *,
    new_levels: NewLevels = "error",
    on_invalid: OnInvalid = "error",
) -> NDArray[np.int64]:
    """The set of levels each patient can have of each covariate, as bits: (patient, covariate). See `rules`.

    With ``on_invalid="null"`` impossible values give 0.

    Raises
    ------
    ValueError
        A column is missing or of the wrong kind, or a value is impossible; naming column, rows, value, allowed values.
    """
    check_choices(new_levels, on_invalid)
    layout = make_layout(covariates, frame.columns)
    found = read_codes(frame, layout)
    codes, row, counts = np.unique(found, return_inverse=True, return_counts=True)
    refuse_invalid(layout, frame.schema, codes, counts, examples_in(frame, found), new_levels=new_levels, on_invalid=on_invalid)
    return layout.sets(codes, new_levels)[row]


def check_choices(new_levels: Any, on_invalid: Any) -> None:
    """Refuse what is none of the ways to treat new levels or invalid rows."""
    for name, value, allowed in (
        ("new_levels", new_levels, ("error", "sample")),
        ("on_invalid", on_invalid, ("error", "null")),
    ):
        if value not in allowed:
            raise ValueError(f"{name}: expected one of {', '.join(allowed)}, not {shown(value)}")


def read_codes(frame: nw.DataFrame[Any], layout: Layout) -> NDArray[np.int64]:
    """Profile codes of an eager frame's rows, (patient,)."""
    plain = unmixed(frame, layout)
    return layout.add_code(plain, plain.schema, "__aemodel_code")["__aemodel_code"].to_numpy()


def unmixed(frame: nw.DataFrame[Any], layout: Layout) -> nw.DataFrame[Any]:
    """The source columns as types that Narwhals knows; those that hold Python objects as text or numbers."""
    columns = []
    for column in layout.columns:
        series = known_type(frame[column])
        if isinstance(series.dtype, nw.Object):
            text = any(source.texts for source in layout.sources if source.column == column)
            series = _as_text(series) if text else _as_numbers(series)
        columns.append(series)
    return frame.select(columns)


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


def _as_text(series: nw.Series[Any]) -> nw.Series[Any]:
    """Text and missing values as strings; a column that holds anything else stays as it is, of the wrong kind."""
    values = [None if is_missing(value) else value for value in series.to_list()]
    if not all(value is None or isinstance(value, str) for value in values):
        return series
    # Half of a surrogate pair, which no library can hold, is no level's.
    texts = [None if value is None else str(value).encode(errors="replace").decode() for value in values]
    return _like(series, texts, nw.String())


def _as_numbers(series: nw.Series[Any]) -> nw.Series[Any]:
    values = [None if is_missing(value) else as_float(value) for value in series.to_list()]
    return _like(series, values, nw.Float64())


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


def is_missing(value: Any) -> bool:
    """Whether a value is one of the libraries' ways to write that there is none."""
    kind = type(value).__name__
    if kind == "Decimal":
        return bool(value.is_nan())
    return value is None or kind in ("NAType", "NaTType") or (isinstance(value, (Real, np.generic)) and bool(value != value))


def is_number(value: Any) -> bool:
    """Whether a value is a real number, of Python or of NumPy; a truth value is none."""
    known: Any = value
    return (isinstance(known, Real) or type(known).__name__ == "Decimal") and not isinstance(known, (bool, np.timedelta64))


def as_float(value: Any) -> float:
    """A number, or infinity for what is none."""
    if isinstance(value, str):
        return number_in(value)
    if not is_number(value):
        return np.inf
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def examples_in(frame: nw.DataFrame[Any], found: NDArray[np.int64]) -> Examples:
    """Looks up rows of an eager frame by their profile codes, (patient,)."""

    def find(columns: Sequence[str], codes: NDArray[np.int64]) -> list[Example]:
        most = sorted(alike(frame, found, columns, codes).values(), key=lambda rows: (-len(rows), rows[0]))[:SHOWN_VALUES]
        return [Example({column: frame[column][rows[0]] for column in columns}, len(rows), rows[0]) for rows in most]

    return Examples(find, numbered=True)


def alike(
    frame: nw.DataFrame[Any], found: NDArray[np.int64], columns: Sequence[str], codes: NDArray[np.int64]
) -> dict[str, list[int]]:
    """Rows that have one of the codes, by what is printed of their values: those of Python objects may have no hash."""
    rows, together = np.flatnonzero(np.isin(found, codes)), dict[str, list[int]]()
    for row, values in zip(
        rows.tolist(), zip(*(known_type(frame[c])[rows].to_list() for c in columns), strict=True), strict=True
    ):
        together.setdefault(_printed(values), []).append(row)
    return together


def _printed(values: tuple[Any, ...]) -> str:
    try:
        return repr(values)
    except Exception:  # a number of too many digits, or an object of a caller's
        return shown(values)


def refuse_invalid(
    layout: Layout,
    schema: Mapping[str, Any],
    codes: NDArray[np.int64],
    counts: NDArray[np.int64],
    examples: Examples,
    *,
    new_levels: NewLevels,
    on_invalid: OnInvalid,
) -> None:
    """Refuse patients by their profile codes and how many have each, (profile,); nothing else of them is needed.

    Raises
    ------
    ValueError
        A column is of the wrong kind; or, unless ``on_invalid="null"``, a value is impossible. A line for each column.
    """
    kinds = []
    for source, classes in zip(layout.sources, layout.classes(codes).T, strict=True):
        if (classes == source.wrong).any():
            kind = f"text, one of {allowed_words(source.covariate, source.column)}" if source.texts else "a number"
            kinds.append(f"column {source.column!r} must be {kind}; it is {shown(schema[source.column])}")
    values = invalid_values(layout, schema, codes, counts, examples, new_levels) if on_invalid == "error" else []
    if kinds or values:
        counting = "; rows are counted from 0" if values and examples.numbered else ""
        raise ValueError("patients: " + ";\n".join(dict.fromkeys(kinds + values)) + counting)


def invalid_values(
    layout: Layout,
    schema: Mapping[str, Any],
    codes: NDArray[np.int64],
    counts: NDArray[np.int64],
    examples: Examples,
    new_levels: NewLevels,
) -> list[str]:
    """A line for each column with impossible values: the commonest, how many rows have them, and what is allowed."""
    lines = []
    impossible = layout.sets(codes, new_levels) == 0
    for covariate, wrong in zip(layout.covariates, impossible.T, strict=True):
        if wrong.any():
            lines += _explain(layout, schema, covariate, codes[wrong], counts[wrong], examples)
    return lines


def new_values(layout: Layout, codes: NDArray[np.int64], counts: NDArray[np.int64], examples: Examples) -> list[str]:
    """A line for each column with values that are taken for new levels: the commonest, and perhaps what was meant."""
    lines = []
    for source, classes in zip(layout.sources, layout.classes(codes).T, strict=True):
        new = (classes == source.other) & bool(source.texts) & source.covariate.open
        if new.any():
            shown, values = _shown([source], new, codes, counts, examples)
            lines.append(f"column {source.column!r}: taken for new levels: {shown}{_meant(source, values)}{_marker(values)}")
    return lines


def _explain(
    layout: Layout,
    schema: Mapping[str, Any],
    covariate: Covariate,
    codes: NDArray[np.int64],
    counts: NDArray[np.int64],
    examples: Examples,
) -> list[str]:
    """Lines about a covariate's impossible values: which column, which rows, what is allowed."""
    lines = []
    found = [(s, c) for s, c in zip(layout.sources, layout.classes(codes).T, strict=True) if s.covariate == covariate]
    contradicting = np.ones(len(codes), dtype=bool)
    for source, classes in found:
        wrong = source.possible()[classes] == 0
        contradicting &= ~wrong
        no_number = wrong & (classes == source.other) & (not source.texts and not schema[source.column].is_numeric())
        if no_number.any():
            shown, values = _shown([source], no_number, codes, counts, examples)
            hint = f"Use null where it is not known{_marker(values)}"
            lines.append(f"column {source.column!r} must be a number; found {shown}. {hint}")
        wrong &= ~no_number & (classes != source.wrong)
        if wrong.any():
            shown, values = _shown([source], wrong, codes, counts, examples)
            hint = _hint(source, values) + _marker(values) if source.texts else ""
            allowed = allowed_words(covariate, source.column)
            lines.append(f"column {source.column!r}: impossible value {shown}; allowed: {allowed}, or null{hint}")
    if contradicting.any():
        shown, _ = _shown([source for source, _ in found], contradicting, codes, counts, examples)
        lines.append(f"columns contradict each other about {covariate.label.lower()}: {shown}")
    return lines


def _shown(
    sources: Sequence[Source], wrong: NDArray[np.bool_], codes: NDArray[np.int64], counts: NDArray[np.int64], examples: Examples
) -> tuple[str, list[Any]]:
    """Values of columns in the profiles that are wrong, with the rows that have them, in words; and the first column's."""
    some = examples.find([source.column for source in sources], codes[wrong])
    parts = []
    for example in some:
        values = [(source.column, _value(source, example.values[source.column])) for source in sources]
        given = " with ".join(f"{column} = {value}" if len(values) > 1 else value for column, value in values)
        parts.append(f"{given} ({example.where})")
    more = int(counts[wrong].sum()) - sum(example.rows for example in some)
    parts[-1] += f" and {more} more row{'s' if more > 1 else ''}" if more else ""
    return ", ".join(parts), [example.values[sources[0].column] for example in some]


def _hint(source: Source, values: Sequence[str]) -> str:
    """Which levels were perhaps meant by texts that are none; and for an open covariate, what else they may be."""
    return _meant(source, values) + (
        '; if it really is a group the publication does not have, it can be scored with new_levels="sample"'
        if source.covariate.open
        else ""
    )


def _marker(values: Sequence[Any]) -> str:
    """What to do if one of the values says that there is none."""
    found = next((value for value in values if isinstance(value, str) and value.strip().casefold() in MARKERS), None)
    if found is None:
        return ""
    return f"; if {shown(found)} stands for missing values, give nulls (of a CSV file: --na {shlex.quote(found.strip())})"


def _meant(source: Source, values: Sequence[str]) -> str:
    levels = {_plain(text): text for text in source.texts}
    near = [(value, get_close_matches(_plain(str(value)), levels, n=1, cutoff=NEAR)) for value in values]
    meant = ", ".join(f"{levels[match[0]]!r} for {shown(value)}" for value, match in near if match)
    return f"; did you mean {meant}?" if meant else ""


def _plain(text: str) -> str:
    """A text without what people write one way or another: capitals, blanks, hyphens and underscores."""
    return re.sub(r"[\W_]+", "_", text.casefold()).strip("_")


def _value(source: Source, value: Any) -> str:
    """A value as an error names it: numbers are numbers, whether written as text or not."""
    if source.texts or is_missing(value) or (isinstance(value, str) and not re.search(NUMBER, value)):
        return shown(value)
    try:
        return repr(float(value)) if is_number(value) or isinstance(value, str) else shown(value)
    except OverflowError:
        return "above 1.8e308" if value > 0 else "below -1.8e308"
