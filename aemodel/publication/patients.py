"""Patients' rows to sets of levels: the boundary where a caller's frame is read, cleaned and, if wrong, refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from aemodel.publication.rules import Covariate, allowed_texts, allowed_words, code_columns, level_sets, sources

NewLevels = Literal["error", "sample"]
OnInvalid = Literal["error", "null"]
SHOWN_ROWS = 5


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
    for name, value, allowed in (
        ("new_levels", new_levels, ("error", "sample")),
        ("on_invalid", on_invalid, ("error", "null")),
    ):
        if value not in allowed:
            raise ValueError(f"{name}: expected one of {', '.join(allowed)}, not {value!r}")
    cleaned = frame.select(_clean_columns(frame, covariates, on_invalid))
    codes = code_columns(covariates)
    table = cleaned.with_columns(
        *(level_sets(c, cleaned.columns, new_levels=new_levels).alias(codes[c.name]) for c in covariates)
    )
    sets = np.stack([table[codes[c.name]].to_numpy() for c in covariates], axis=1).astype(np.int64)
    if on_invalid == "error" and (sets == 0).any():
        raise ValueError(_explain(cleaned, covariates, sets))
    return sets


def _clean_columns(frame: nw.DataFrame[Any], covariates: Sequence[Covariate], on_invalid: OnInvalid) -> list[nw.Series[Any]]:
    """Each source column once: text as strings, numbers as floats, whatever is missing as null."""
    cleaned: dict[str, nw.Series[Any]] = {}
    for covariate in covariates:
        for column in sources(covariate, frame.columns):
            text = bool(allowed_texts(covariate, column))
            cleaned[column] = _clean_text(frame[column], covariate) if text else _clean_number(frame[column], on_invalid)
    return list(cleaned.values())


def _clean_text(series: nw.Series[Any], covariate: Covariate) -> nw.Series[Any]:
    if series.null_count() == len(series) or (series.dtype.is_float() and series.is_nan().all()):
        return _series(series, [None] * len(series), nw.String())
    if isinstance(series.dtype, nw.Object):
        values = [None if _is_missing(value) else value for value in series.to_list()]
        if all(value is None or isinstance(value, str) for value in values):
            return _series(series, values, nw.String())
    elif isinstance(series.dtype, (nw.String, nw.Categorical, nw.Enum)):
        return series.cast(nw.String())
    raise ValueError(
        f"patients: column {series.name!r} must be text, one of {allowed_words(covariate, series.name)}; it is {series.dtype}"
    )


def _clean_number(series: nw.Series[Any], on_invalid: OnInvalid) -> nw.Series[Any]:
    if series.dtype.is_numeric():
        numbers = series.cast(nw.Float64())
        return numbers if numbers.null_count() == len(numbers) else numbers.fill_nan(None)
    values, wrong = [], []
    for row, value in enumerate(series.to_list()):
        number = None if _is_missing(value) else _as_float(value)
        if number is None and not _is_missing(value):
            wrong.append((row, value))
            number = math.inf  # meets no rule, so the row is an impossible one
        values.append(number)
    if wrong and on_invalid == "error":
        shown = ", ".join(f"{value!r} (row {row})" for row, value in wrong[:SHOWN_ROWS])
        raise ValueError(
            f"patients: column {series.name!r} must be a number; found {shown}{_more(wrong)}. Use null where it is not known"
        )
    return _series(series, values, nw.Float64())


def _series(like: nw.Series[Any], values: Sequence[Any], dtype: Any) -> nw.Series[Any]:
    return nw.new_series(like.name, values, dtype, backend=like.implementation)


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def _as_float(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else math.inf


def _more(found: Sequence[Any]) -> str:
    return f" and {len(found) - SHOWN_ROWS} more" if len(found) > SHOWN_ROWS else ""


def _explain(cleaned: nw.DataFrame[Any], covariates: Sequence[Covariate], sets: NDArray[np.int64]) -> str:
    """One message about the first covariate with impossible values: which column, which rows, what is allowed."""
    position = int(np.flatnonzero((sets == 0).any(axis=0))[0])
    covariate = covariates[position]
    rows = np.flatnonzero(sets[:, position] == 0)
    found = sources(covariate, cleaned.columns)
    for column in found:
        values = cleaned[column].to_list()
        wrong = [int(row) for row in rows if _impossible_alone(values[row], covariate, column)]
        if wrong:
            shown = ", ".join(f"{values[row]!r} (row {row})" for row in wrong[:SHOWN_ROWS])
            hint = ""
            if covariate.open and allowed_texts(covariate, column):
                hint = '; a level the publication does not have can be drawn from the hierarchy with new_levels="sample"'
            allowed = allowed_words(covariate, column)
            return f"patients: column {column!r}: impossible value {shown}{_more(wrong)}; allowed: {allowed}, or null{hint}"
    row = int(rows[0])
    given = ", ".join(f"{column} = {cleaned[column].to_list()[row]!r}" for column in found)
    others = f" and {len(rows) - 1} more rows" if len(rows) > 1 else ""
    return f"patients: row {row}{others}: columns contradict each other about {covariate.label.lower()} ({given})"


def _impossible_alone(value: Any, covariate: Covariate, column: str) -> bool:
    if _is_missing(value):
        return False
    if texts := allowed_texts(covariate, column):
        return value not in texts
    tests = [w for level in covariate.levels for w in level.when if w.column == column]
    return not any(math.isfinite(value) and test.minimum <= value < test.below for test in tests)
