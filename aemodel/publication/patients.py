"""Patients' rows to sets of levels: the boundary where a caller's frame is read and, if wrong, refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from aemodel.publication.profiles import NUMBER, Layout, Source, make_layout
from aemodel.publication.profiles import NewLevels as NewLevels
from aemodel.publication.rules import Covariate, allowed_words

OnInvalid = Literal["error", "null"]
SHOWN_ROWS = 5


@dataclass(frozen=True)
class Example:
    """Values of one or more rows by column; which row, or how many, in words; and how many."""

    values: Mapping[str, Any]
    where: str
    rows: int


Examples = Callable[[Sequence[str], NDArray[np.int64]], list[Example]]
"""Finds at most `SHOWN_ROWS` examples of rows that have one of the profile codes, with values of the columns."""


def as_frame(patients: Any, argument: str = "patients") -> nw.DataFrame[Any]:
    """The caller's frame, whichever eager library it comes from.

    Raises
    ------
    TypeError
        It is not a pandas, polars or pyarrow table.
    """
    try:
        return nw.from_native(patients, eager_only=True)
    except TypeError:
        raise TypeError(
            f"{argument}: expected a pandas or polars DataFrame or a pyarrow Table, not {type(patients).__name__}; "
            "collect a lazy frame first"
        ) from None


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
            raise ValueError(f"{name}: expected one of {', '.join(allowed)}, not {value!r}")


def read_codes(frame: nw.DataFrame[Any], layout: Layout) -> NDArray[np.int64]:
    """Profile codes of an eager frame's rows, (patient,)."""
    plain = unmixed(frame, layout)
    return plain.select(code=layout.code(plain.schema))["code"].to_numpy()


def unmixed(frame: nw.DataFrame[Any], layout: Layout) -> nw.DataFrame[Any]:
    """The source columns, those that hold Python objects (pandas only) as text or numbers."""
    columns = []
    for column in layout.columns:
        series = frame[column]
        if isinstance(series.dtype, nw.Object):
            text = any(source.texts for source in layout.sources if source.column == column)
            series = _as_text(series) if text else _as_numbers(series)
        columns.append(series)
    return frame.select(columns)


def _as_text(series: nw.Series[Any]) -> nw.Series[Any]:
    """Text and missing values as strings; a column that holds anything else stays as it is, of the wrong kind."""
    values = [None if is_missing(value) else value for value in series.to_list()]
    if not all(value is None or isinstance(value, str) for value in values):
        return series
    return _like(series, values, nw.String())


def _as_numbers(series: nw.Series[Any]) -> nw.Series[Any]:
    values = [None if is_missing(value) else _as_float(value) for value in series.to_list()]
    return _like(series, values, nw.Float64())


def _like(series: nw.Series[Any], values: Sequence[Any], dtype: Any) -> nw.Series[Any]:
    """A new column in the place of an old one, with its index: pandas would otherwise match rows by it."""
    new = nw.new_series(series.name, values, dtype, backend=series.implementation).to_native()
    new.index = series.to_native().index
    return nw.from_native(new, series_only=True)


def is_missing(value: Any) -> bool:
    """Whether a value is one of the libraries' ways to write that there is none."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def _as_float(value: Any) -> float:
    """A number, or infinity for what is none."""
    if isinstance(value, str):
        return float(value) if re.search(NUMBER, value) else np.inf
    try:
        return np.inf if isinstance(value, (bool, np.bool_)) else float(value)
    except (TypeError, ValueError):
        return np.inf


def examples_in(frame: nw.DataFrame[Any], found: NDArray[np.int64]) -> Examples:
    """Looks up rows of an eager frame by their profile codes, (patient,)."""

    def examples(columns: Sequence[str], codes: NDArray[np.int64]) -> list[Example]:
        rows = np.flatnonzero(np.isin(found, codes))[:SHOWN_ROWS]
        return [Example({column: frame[column][int(row)] for column in columns}, f"row {row}", 1) for row in rows]

    return examples


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
        A column is of the wrong kind; or, unless ``on_invalid="null"``, a value is impossible.
    """
    classes = layout.classes(codes)
    for source, found in zip(layout.sources, classes.T, strict=True):
        if (found == source.wrong).any():
            kind = f"text, one of {allowed_words(source.covariate, source.column)}" if source.texts else "a number"
            raise ValueError(f"patients: column {source.column!r} must be {kind}; it is {schema[source.column]}")
    if on_invalid == "null":
        return
    for source, found in zip(layout.sources, classes.T, strict=True):
        if not source.texts and not schema[source.column].is_numeric() and (found == source.other).any():
            shown = _shown(source, found == source.other, codes, counts, examples)
            raise ValueError(
                f"patients: column {source.column!r} must be a number; found {shown}. Use null where it is not known"
            )
    impossible = layout.sets(codes, new_levels) == 0
    if impossible.any():
        k = int(np.flatnonzero(impossible.any(axis=0))[0])
        raise ValueError(_explain(layout, layout.covariates[k], codes[impossible[:, k]], counts[impossible[:, k]], examples))


def _explain(
    layout: Layout, covariate: Covariate, codes: NDArray[np.int64], counts: NDArray[np.int64], examples: Examples
) -> str:
    """One message about a covariate's impossible values: which column, which rows, what is allowed."""
    found = [(s, c) for s, c in zip(layout.sources, layout.classes(codes).T, strict=True) if s.covariate == covariate]
    for source, classes in found:
        wrong = source.possible()[classes] == 0
        if wrong.any():
            shown = _shown(source, wrong, codes, counts, examples)
            hint = ""
            if covariate.open and source.texts:
                hint = '; a level the publication does not have can be drawn from the hierarchy with new_levels="sample"'
            allowed = allowed_words(covariate, source.column)
            return f"patients: column {source.column!r}: impossible value {shown}; allowed: {allowed}, or null{hint}"
    first = examples([source.column for source, _ in found], codes)[0]
    given = ", ".join(f"{source.column} = {_value(source, first.values[source.column])}" for source, _ in found)
    more = int(counts.sum()) - first.rows
    others = f" and {more} more rows" if more else ""
    return f"patients: {first.where}{others}: columns contradict each other about {covariate.label.lower()} ({given})"


def _shown(
    source: Source, wrong: NDArray[np.bool_], codes: NDArray[np.int64], counts: NDArray[np.int64], examples: Examples
) -> str:
    """Examples of a column's values in the profiles that are wrong, and how many rows more there are."""
    some = examples([source.column], codes[wrong])
    shown = ", ".join(f"{_value(source, example.values[source.column])} ({example.where})" for example in some)
    more = int(counts[wrong].sum()) - sum(example.rows for example in some)
    return shown + (f" and {more} more" if more else "")


def _value(source: Source, value: Any) -> str:
    """A value as an error names it: numbers are numbers, whether written as text or not."""
    if source.texts or is_missing(value) or (isinstance(value, str) and not re.search(NUMBER, value)):
        return repr(value)
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        return repr(value)
