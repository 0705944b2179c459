"""Scoring: risks of every row of a table, added to the table. Light: no PyMC, ArviZ, xarray, SciPy or pandas of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aemodel.inference.risks import SUPPORT, RiskDraws, check_interval
from aemodel.publication.arguments import names_in
from aemodel.publication.patients import Examples, OnInvalid, check_choices, invalid_values, new_values, refuse_invalid
from aemodel.publication.profiles import NewLevels
from aemodel.publication.texts import shown
from aemodel.serving.engines import Coded, add_columns, read_frame
from aemodel.serving.groups import count_codes, examples_of


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
        A pandas, polars, Dask or PySpark DataFrame, polars LazyFrame, pyarrow Table or DuckDB relation with the model's
        covariates, or the raw columns they are worked out from. Null and NaN mean not known: the risk is averaged over
        the cohort. Rows are counted by profile, one aggregate pass; nothing else of a lazy frame is collected.
    interval
        Probability of the equal-tailed interval.
    events, grades
        Which to add; by default all events, at ``"3-5"`` and ``"4-5"``.
    new_levels
        ``"sample"`` draws levels the publication does not have, of open covariates, from their hierarchy; all new levels of
        a covariate share these draws.
    on_invalid
        ``"null"`` gives rows with impossible values null risks and the support ``invalid``, instead of an error.

    Returns
    -------
    The caller's kind of frame
        Lazy ones stay lazy; rows that their source gains or changes once they were counted may have nulls. Rows, their order
        (where the engine has one; Spark has none beyond that within partitions) and columns as given, and for each event
        ``{event}_g3_risk``, ``_lower``, ``_upper`` (probabilities; ``g4`` for grade 4-5) and ``{event}_support``: the
        weakest flag of the grades asked for.

    Raises
    ------
    TypeError, ValueError
        The frame, an argument or a value does not fit, or a column to be added exists.
    """
    return score_rows(
        model, frame, interval=interval, events=events, grades=grades, new_levels=new_levels, on_invalid=on_invalid
    )[0]


def score_rows(
    model: Any,
    frame: Any,
    *,
    interval: float,
    events: Sequence[str] | None,
    grades: Sequence[str] | None,
    new_levels: NewLevels,
    on_invalid: OnInvalid,
    numbered: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """What `score` returns, and its `row_counts`; errors name rows of a ``numbered`` DuckDB relation by number."""
    interval, risks = check_interval(interval), risks_of(model)
    events, grades = names_in("events", events, risks.events), names_in("grades", grades, risks.grades)
    check_choices(new_levels, on_invalid)
    coded = read_frame(frame, risks.covariates, _new_columns(events, grades))
    codes, counts = counted(coded)
    found = examples_of(coded, numbered=numbered)
    refuse_invalid(coded.layout, coded.schema, codes, counts, found, new_levels=new_levels, on_invalid=on_invalid)
    columns = _columns(risks, coded.layout.sets(codes, new_levels), interval, events, grades)
    return add_columns(coded, codes, columns), row_counts(coded, codes, counts, new_levels, found if numbered else None)


def risks_of(model: Any) -> RiskDraws:
    """A model's risk draws, if it is one."""
    if not isinstance(risks := getattr(model, "risks", None), RiskDraws):
        name = f": load_model({shown(model)})?" if isinstance(model, str) else ""
        raise TypeError(f"model: expected what load_model or fit returns, not {type(model).__name__}{name}")
    return risks


def counted(coded: Coded) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The profile codes that occur, sorted, and how many rows have each."""
    counted = count_codes(coded)
    return counted.codes, counted.counts[0]


def row_counts(
    coded: Coded, codes: NDArray[np.int64], counts: NDArray[np.int64], new_levels: NewLevels, examples: Examples | None = None
) -> dict[str, Any]:
    """How many rows there are and get risks; by covariate, where there are any, those invalid, and those of a new level.

    ``values`` are these in words, if ``examples`` are to be had.
    """
    layout = coded.layout
    sets, new = layout.sets(codes, new_levels), np.array([covariate.new for covariate in layout.covariates])
    valid = np.asarray((sets > 0).all(axis=1))
    kinds = {"invalid": sets == 0, "new": (sets == new) & valid[:, np.newaxis]}
    found = {kind: zip(layout.covariates, counts @ which, strict=True) for kind, which in kinds.items()}
    by = {kind: {covariate.name: int(rows) for covariate, rows in pairs if rows} for kind, pairs in found.items()}
    values: list[str] = []
    if examples:
        values += invalid_values(layout, coded.schema, codes, counts, examples, new_levels) if by["invalid"] else []
        values += new_values(layout, codes, counts, examples) if by["new"] else []
    return {"rows": int(counts.sum()), "scored": int(counts[valid].sum()), "values": values} | by


def score_summary(model: Any, frame: Any) -> dict[str, Any]:
    """Count rows, without scoring them.

    Returns
    -------
    dict
        ``rows``; ``scored`` (rows that `score` gives risks); and under ``columns``, for each covariate: rows ``missing``
        (not or only partly known: averaged over), ``new`` (a level the publication does not have) and ``invalid``.
    """
    coded = read_frame(frame, risks_of(model).covariates)
    codes, counts = counted(coded)
    found = examples_of(coded)
    refuse_invalid(coded.layout, coded.schema, codes, counts, found, new_levels="error", on_invalid="null")
    sets, strict = coded.layout.sets(codes, "sample"), coded.layout.sets(codes)
    columns = {}
    for k, covariate in enumerate(coded.layout.covariates):
        which = {
            "missing": (sets[:, k] & (sets[:, k] - 1)) > 0,
            "new": sets[:, k] == covariate.new,
            "invalid": sets[:, k] == 0,
        }
        columns[covariate.name] = {name: int(counts[chosen].sum()) for name, chosen in which.items()}
    return {"rows": int(counts.sum()), "scored": int(counts[(strict > 0).all(axis=1)].sum()), "columns": columns}


def _new_columns(events: Sequence[str], grades: Sequence[str]) -> list[str]:
    names = []
    for event in events:
        names += [f"{event}_g{grade[0]}_{what}" for grade in grades for what in ("risk", "lower", "upper")]
        names.append(f"{event}_support")
    return names


def _columns(
    risks: RiskDraws, sets: NDArray[np.int64], interval: float, events: Sequence[str], grades: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Values of the new columns for each code, in the order of `_new_columns`; each distinct profile is worked out once."""
    chosen = risks.of(events, grades)
    rows = list(map(tuple, sets.tolist()))
    place = {row: i for i, row in enumerate(dict.fromkeys(rows))}  # numpy.unique would import numpy.ma
    profiles = np.array(list(place), dtype=np.int64).reshape(-1, sets.shape[1])
    which = np.array([place[row] for row in rows], dtype=np.int64)
    valid = (profiles > 0).all(axis=1)
    summary = np.full((3, len(profiles), len(events), len(grades)), np.nan)
    summary[:, valid] = chosen.summary(profiles[valid], interval)
    flags = np.full(summary.shape[1:], len(SUPPORT))
    flags[valid] = chosen.support(profiles[valid])
    words = np.array([*SUPPORT, "invalid"])[flags.max(axis=2, initial=0)]
    values: list[NDArray[Any]] = []
    for i in range(len(events)):
        values += [part[which, i, j] for j in range(len(grades)) for part in summary]
        values.append(words[which, i])
    return dict(zip(_new_columns(events, grades), values, strict=True))
