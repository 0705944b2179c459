"""Scoring: risks of every row of a table, added to the table. Light: no PyMC, ArviZ, xarray, SciPy or pandas of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from aemodel.inference.risks import SUPPORT, RiskDraws, check_interval
from aemodel.publication.patients import NewLevels, OnInvalid, as_frame, read_sets


def score(
    model: Any,
    frame: Any,
    *,
    interval: float = 0.9,
    events: Sequence[str] | None = None,
    grades: Sequence[str] | None = None,
    new_levels: NewLevels = "error",
    on_invalid: OnInvalid = "error",
) -> Any:
    """Add posterior risks to a table of patients.

    Parameters
    ----------
    model
        From `load_model` or `fit`.
    frame
        A pandas or polars DataFrame or pyarrow Table with the model's covariates, or the raw columns they are worked out
        from. Null and NaN mean not known: the risk is averaged over the cohort.
    interval
        Probability of the equal-tailed interval.
    events, grades
        Which to add; by default all events, at ``"3-5"`` and ``"4-5"``.
    new_levels
        ``"sample"`` draws levels the publication does not have, of open covariates, from their hierarchy.
    on_invalid
        ``"null"`` gives rows with impossible values null risks and the support ``invalid``, instead of an error.

    Returns
    -------
    The caller's kind of frame
        Rows, their order and columns as given, and for each event ``{event}_g3_risk``, ``_lower``, ``_upper``
        (probabilities; ``g4`` for grade 4-5) and ``{event}_support``: the weakest flag of the grades asked for.

    Raises
    ------
    TypeError, ValueError
        The frame, an argument or a value does not fit, or a column to be added exists.
    """
    interval = check_interval(interval)
    risks: RiskDraws = model.risks
    events = _chosen("events", events, risks.events)
    grades = _chosen("grades", grades, risks.grades)
    table = as_frame(frame, "frame")
    names = _new_columns(events, grades)
    if taken := [name for name in names if name in table.columns]:
        raise ValueError(f"frame: it has columns that score would add: {taken[:5]}; rename or drop them")
    sets = read_sets(table, risks.covariates, new_levels=new_levels, on_invalid=on_invalid)
    values = _columns(risks, sets, interval, events, grades)
    added = [_as_column(name, column, table) for name, column in zip(names, values, strict=True)]
    return table.with_columns(*added).to_native()


def score_summary(model: Any, frame: Any) -> dict[str, Any]:
    """Count rows, without scoring them.

    Returns
    -------
    dict
        ``rows``; ``scored`` (rows that `score` gives risks); and under ``columns``, for each covariate: rows ``missing``
        (not or only partly known: averaged over), ``new`` (a level the publication does not have) and ``invalid``.
    """
    covariates = model.risks.covariates
    table = as_frame(frame, "frame")
    sets = read_sets(table, covariates, new_levels="sample", on_invalid="null")
    strict = read_sets(table, covariates, on_invalid="null")
    counts = {}
    for k, covariate in enumerate(covariates):
        new = sets[:, k] == covariate.new
        several = (sets[:, k] & (sets[:, k] - 1)) > 0
        counts[covariate.name] = {"missing": int(several.sum()), "new": int(new.sum()), "invalid": int((sets[:, k] == 0).sum())}
    return {"rows": len(sets), "scored": int((strict > 0).all(axis=1).sum()), "columns": counts}


def _chosen(argument: str, wanted: Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...]:
    if wanted is None:
        return tuple(known)
    if isinstance(wanted, str):
        raise TypeError(f"{argument}: expected a list of names, not the text {wanted!r}")
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ValueError(f"{argument}: unknown {unknown}; choose from {', '.join(known)}")
    return tuple(dict.fromkeys(wanted))


def _new_columns(events: Sequence[str], grades: Sequence[str]) -> list[str]:
    names = []
    for event in events:
        names += [f"{event}_g{grade[0]}_{what}" for grade in grades for what in ("risk", "lower", "upper")]
        names.append(f"{event}_support")
    return names


def _columns(
    risks: RiskDraws, sets: NDArray[np.int64], interval: float, events: Sequence[str], grades: Sequence[str]
) -> list[NDArray[Any]]:
    """Values of the new columns, in the order of `_new_columns`; each distinct profile is worked out once."""
    profiles, row = np.unique(sets, axis=0, return_inverse=True)
    valid = (profiles > 0).all(axis=1)
    summary = np.full((3, len(profiles), len(risks.events), len(risks.grades)), np.nan)
    summary[:, valid] = risks.summary(profiles[valid], interval)
    flags = np.full(summary.shape[1:], len(SUPPORT))
    flags[valid] = risks.support(profiles[valid])
    words = np.array([*SUPPORT, "invalid"])
    places = [risks.grades.index(grade) for grade in grades]
    columns: list[NDArray[Any]] = []
    for event in events:
        i = risks.events.index(event)
        columns += [values[:, i, j][row] for j in places for values in summary]
        columns.append(words[flags[:, i, places].max(axis=1)][row])
    return columns


def _as_column(name: str, values: NDArray[Any], table: nw.DataFrame[Any]) -> nw.Series[Any]:
    if name.endswith("_support"):
        return _aligned(nw.new_series(name, values.tolist(), nw.String(), backend=table.implementation), table)
    series = nw.new_series(name, values, nw.Float64(), backend=table.implementation)
    return _aligned(series.fill_nan(None) if np.isnan(values).any() else series, table)


def _aligned(series: nw.Series[Any], table: nw.DataFrame[Any]) -> nw.Series[Any]:
    """Give a pandas series the frame's index: pandas would otherwise match rows by it."""
    if table.implementation.is_pandas():
        native = series.to_native()
        native.index = table.to_native().index
        return nw.from_native(native, series_only=True)
    return series
