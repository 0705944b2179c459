"""Scoring: risks of every row of a table, added to the table. Light: no PyMC, ArviZ, xarray, SciPy or pandas of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aemodel.publication.arguments import names_in
from aemodel.publication.codes import NewLevels
from aemodel.publication.patients import OnInvalid, Profiles, check_choices, invalid_values, new_values, refuse_invalid
from aemodel.publication.schema import Covariate
from aemodel.publication.texts import shown
from aemodel.scoring.frames import Frame, lay_out, profiles_of
from aemodel.scoring.risks import SUPPORT, RiskDraws, check_interval, short


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
    scored = score_rows(
        model, partial(open_frame, frame), interval=interval, events=events, grades=grades, new_levels=new_levels,
        on_invalid=on_invalid,
    )  # fmt: skip
    return scored.frame.add(scored.found.codes, scored.columns)


def open_frame(frame: Any, covariates: Sequence[Covariate], adding: Sequence[str] = ()) -> Frame:
    """The caller's frame, whichever library it is of; lazy ones have yet to work.

    Raises
    ------
    TypeError
        It is no frame of a known library.
    ValueError
        A column is missing, has two names or none of its own, or one of those to be added is there already.
    """
    library: Any
    if isinstance(frame, getattr(sys.modules.get("duckdb"), "DuckDBPyRelation", ())):
        from aemodel.scoring.sql import DuckDB

        library = DuckDB
    else:
        from aemodel.scoring.lazy import library_of

        library = library_of(frame)
    kinds = library.kinds_of(frame)
    return library(frame, kinds, *lay_out(kinds, covariates, adding, library.same))


@dataclass(frozen=True)
class Scored:
    """A frame, the profiles of its rows, and the new columns' values for each: risks, and words of support."""

    frame: Any
    found: Profiles
    columns: dict[str, NDArray[Any]]


def score_rows(
    model: Any,
    opened: Callable[..., Frame],
    *,
    interval: float,
    events: Sequence[str] | None,
    grades: Sequence[str] | None,
    new_levels: NewLevels,
    on_invalid: OnInvalid,
) -> Scored:
    """The frame that is ``opened`` by covariates and names of columns to be added, and what `score` adds to it."""
    interval, risks = check_interval(interval), risks_of(model)
    risks = risks.of(names_in("events", events, risks.events), names_in("grades", grades, risks.grades))
    check_choices(new_levels, on_invalid)
    frame = opened(risks.covariates, _new_columns(risks.events, risks.grades))
    found = profiles_of(frame, frame.tally())
    refuse_invalid(found, new_levels, on_invalid)
    return Scored(frame, found, _columns(risks, found.layout.sets(found.codes, new_levels), interval))


def risks_of(model: Any) -> RiskDraws:
    """A model's risk draws, if it is one."""
    if not isinstance(risks := getattr(model, "risks", None), RiskDraws):
        name = f": load_model({shown(model)})?" if isinstance(model, str) else ""
        raise TypeError(f"model: expected what load_model or fit returns, not {type(model).__name__}{name}")
    return risks


def row_counts(found: Profiles, new_levels: NewLevels) -> dict[str, Any]:
    """How many rows there are and get risks; by covariate, where there are any, those invalid, and those of a new level.

    ``values`` are these in words, where rows have numbers by which they can be found.
    """
    sets, new = found.layout.sets(found.codes, new_levels), np.array([each.new for each in found.layout.covariates])
    valid = np.asarray((sets > 0).all(axis=1))
    kinds = {"invalid": sets == 0, "new": (sets == new) & valid[:, np.newaxis]}
    by = {kind: _by_covariate(found, which) for kind, which in kinds.items()}
    values: list[str] = []
    if found.numbered:
        values += invalid_values(found, new_levels) if by["invalid"] else []
        values += new_values(found) if by["new"] else []
    return {"rows": int(found.counts.sum()), "scored": int(found.counts[valid].sum()), "values": values} | by


def _by_covariate(found: Profiles, which: NDArray[np.bool_]) -> dict[str, int]:
    rows = zip(found.layout.covariates, found.counts @ which, strict=True)
    return {covariate.name: int(number) for covariate, number in rows if number}


def score_summary(model: Any, frame: Any) -> dict[str, Any]:
    """Count rows, without scoring them.

    Returns
    -------
    dict
        ``rows``; ``scored`` (rows that `score` gives risks); and under ``columns``, for each covariate: rows ``missing``
        (not or only partly known: averaged over), ``new`` (a level the publication does not have) and ``invalid``.
    """
    opened = open_frame(frame, risks_of(model).covariates)
    found = profiles_of(opened, opened.tally())
    refuse_invalid(found, "error", "null")
    sets, strict = found.layout.sets(found.codes, "sample"), found.layout.sets(found.codes)
    columns = {}
    for k, covariate in enumerate(found.layout.covariates):
        which = {
            "missing": (sets[:, k] & (sets[:, k] - 1)) > 0,
            "new": sets[:, k] == covariate.new,
            "invalid": sets[:, k] == 0,
        }
        columns[covariate.name] = {name: int(found.counts[chosen].sum()) for name, chosen in which.items()}
    scored = int(found.counts[(strict > 0).all(axis=1)].sum())
    return {"rows": int(found.counts.sum()), "scored": scored, "columns": columns}


def _new_columns(events: Sequence[str], grades: Sequence[str]) -> list[str]:
    names = []
    for event in events:
        names += [f"{event}_{short(grade)}_{what}" for grade in grades for what in ("risk", "lower", "upper")]
        names.append(f"{event}_support")
    return names


def _columns(risks: RiskDraws, sets: NDArray[np.int64], interval: float) -> dict[str, NDArray[Any]]:
    """Values of the new columns for each code, in the order of `_new_columns`; each distinct profile is worked out once."""
    rows = list(map(tuple, sets.tolist()))
    place = {row: i for i, row in enumerate(dict.fromkeys(rows))}  # numpy.unique would import numpy.ma
    profiles = np.array(list(place), dtype=np.int64).reshape(-1, sets.shape[1])
    which = np.array([place[row] for row in rows], dtype=np.int64)
    valid = (profiles > 0).all(axis=1)
    summary = np.full((3, len(profiles), len(risks.events), len(risks.grades)), np.nan)
    summary[:, valid] = risks.summary(profiles[valid], interval)
    flags = np.full(summary.shape[1:], len(SUPPORT))
    flags[valid] = risks.support(profiles[valid])
    words = np.array([*SUPPORT, "invalid"])[flags.max(axis=2, initial=0)]
    values: list[NDArray[Any]] = []
    for i in range(len(risks.events)):
        values += [part[which, i, j] for j in range(len(risks.grades)) for part in summary]
        values.append(words[which, i])
    return dict(zip(_new_columns(risks.events, risks.grades), values, strict=True))
