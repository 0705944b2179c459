"""Scoring: risks of every row of a table, added to it, and a record of the run. Light."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aemodel.publication.arguments import names_in
from aemodel.publication.arrays import Ints
from aemodel.publication.codes import NewLevels
from aemodel.publication.patients import OnInvalid, Profiles, check_choices, refuse_invalid
from aemodel.publication.rules import MissingColumns
from aemodel.publication.schema import Covariate
from aemodel.scoring.frames import Frame, open_as, profiles_of
from aemodel.scoring.risks import SUPPORT, RiskDraws, check_interval, risks_of

REASON = "invalid_reason"
LINEAGE = ("model", "digest", "version", "interval", "time")
LEAST_SHARE = 1e-4
"""Taken for shares that are less, so that the drift of a level nobody has is finite."""


def score(
    model: Any,
    frame: Any,
    *,
    interval: float = 0.9,
    events: Sequence[str] | None = None,
    grades: Sequence[str] | None = None,
    new_levels: NewLevels = "error",
    on_invalid: OnInvalid = "error",
    missing_columns: MissingColumns = "error",
    reasons: bool = False,
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
    missing_columns
        ``"unknown"`` takes a covariate that no column tells for not known of anybody, instead of an error.
    reasons
        Add ``invalid_reason``: the covariates whose values are impossible, null where none is.

    Returns
    -------
    The caller's kind of frame
        Lazy ones stay lazy; rows that their source gains or changes once they were counted may have nulls. Rows, their order
        (where the engine has one; Spark has none beyond that within partitions) and columns as given, and for each event
        ``{event}_g3_risk``, ``_lower``, ``_upper`` (probabilities; ``g4`` for grade 4-5, or the class's ``short`` name) and
        ``{event}_support``: the weakest flag of the grades asked for.

    Raises
    ------
    TypeError, ValueError
        The frame, an argument or a value does not fit, or a column to be added exists.
    """
    asked = Asked(interval, events, grades, new_levels, on_invalid, missing_columns)
    scored = score_rows(model, partial(open_frame, frame), asked, reasons=reasons)
    return scored.frame.add(scored.found.codes, scored.columns)


def open_frame(frame: Any, covariates: Sequence[Covariate], adding: Sequence[str], missing_columns: MissingColumns) -> Frame:
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
    return open_as(library, frame, covariates, adding, missing_columns)


@dataclass(frozen=True)
class Scored:
    """A frame, the profiles of its rows, and the new columns' values for each: risks, and words of support."""

    frame: Any
    found: Profiles
    columns: dict[str, NDArray[Any]]


class Asked(NamedTuple):
    """What answers are asked for, as `score` has it."""

    interval: float
    events: Sequence[str] | None
    grades: Sequence[str] | None
    new_levels: NewLevels
    on_invalid: OnInvalid
    missing_columns: MissingColumns

    def risks_of(self, model: Any) -> RiskDraws:
        """The model's, of these events and grades; once what is asked for is checked."""
        risks = risks_of(model)
        risks = risks.of(names_in("events", self.events, risks.events), names_in("grades", self.grades, risks.grades))
        check_choices(self.new_levels, self.on_invalid, self.missing_columns)
        return risks


def score_rows(
    model: Any, opened: Callable[..., Frame], asked: Asked, *, reasons: bool = False, checked: bool = True
) -> Scored:
    """The frame that is ``opened`` by covariates and names of columns to be added, and what `score` adds to it.

    Unless ``checked``, columns to be added may be there.
    """
    interval, risks = check_interval(asked.interval), asked.risks_of(model)
    frame = opened(risks.covariates, new_columns(risks, reasons=reasons) if checked else (), asked.missing_columns)
    found = profiles_of(frame, frame.tally())
    refuse_invalid(found, asked.new_levels, asked.on_invalid)
    sets = found.layout.sets(found.codes, asked.new_levels)
    return Scored(frame, found, _columns(risks, sets, interval, reasons=reasons))


def column_table(risks: RiskDraws, labels: Mapping[str, str], *, reasons: bool = False) -> list[dict[str, str]]:
    """The columns that `score` adds, in order: ``column``, ``type`` and ``meaning``."""
    words = {"risk": "posterior mean probability", "lower": "lower end of its interval", "upper": "upper end of its interval"}
    rows = []
    for event in risks.events:
        told = [
            (f"{risks.short(grade)}_{what}", f"{said}, grade {grade}") for grade in risks.grades for what, said in words.items()
        ]
        rows += [{"column": f"{event}_{name}", "type": "double", "meaning": f"{labels[event]}: {said}"} for name, said in told]
        flags = f"what it rests on, the weakest of the grades: {', '.join(SUPPORT)} or invalid"
        rows.append({"column": f"{event}_support", "type": "text", "meaning": f"{labels[event]}: {flags}"})
    reason = {"column": REASON, "type": "text", "meaning": "covariates whose values are impossible; null where none is"}
    return [*rows, reason] if reasons else rows


def new_columns(risks: RiskDraws, *, reasons: bool) -> list[str]:
    return [row["column"] for row in column_table(risks, dict.fromkeys(risks.events, ""), reasons=reasons)]


def _columns(risks: RiskDraws, sets: Ints, interval: float, *, reasons: bool) -> dict[str, NDArray[Any]]:
    """Values of `new_columns` for each code; each distinct profile is worked out once."""
    rows = list(map(tuple, sets.tolist()))
    place = {row: i for i, row in enumerate(dict.fromkeys(rows))}  # numpy.unique would import numpy.ma
    profiles = np.array(list(place), dtype=np.int64).reshape(len(place), sets.shape[1])
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
    if reasons:
        names = np.array([covariate.name for covariate in risks.covariates], dtype=object)
        values.append(np.array([" and ".join(names[row == 0]) or math.nan for row in sets], dtype=object))
    return dict(zip(new_columns(risks, reasons=reasons), values, strict=True))


# What a run was.


def score_summary(
    model: Any,
    frame: Any,
    *,
    interval: float = 0.9,
    events: Sequence[str] | None = None,
    grades: Sequence[str] | None = None,
    new_levels: NewLevels = "error",
    missing_columns: MissingColumns = "error",
) -> dict[str, Any]:
    """What `score` would make of a table, without its rows: a record to keep of a run, all of it fit for JSON.

    Parameters
    ----------
    model, frame, interval, events, grades, new_levels, missing_columns
        As for `score`; impossible values are counted.

    Returns
    -------
    dict
        ``model`` (its name), ``digest`` (SHA-256 of its manifest, None before it is saved), ``version`` (of this package),
        ``interval``, ``time`` (UTC). ``rows``; ``scored`` (rows with risks); ``unknown`` (rows of which no covariate is
        known). ``columns``, for each covariate: rows ``missing`` (not or only partly known: averaged over), ``new`` (a level
        the publication does not have) and ``invalid``. ``levels``, for each covariate and level: ``share`` of the rows
        whose level is known, and the publication's ``cohort``. ``drift``: the population stability index of each
        covariate's levels, sum of (share - cohort) log(share / cohort). ``risks``: the mean of each column of risks.
        ``support``, for each event: share of rows with each flag.
    """
    asked = Asked(interval, events, grades, new_levels, "null", missing_columns)
    scored = score_rows(model, partial(open_frame, frame), asked, checked=False)
    return summary_of(model, scored.found, asked, scored.columns)


def summary_of(model: Any, found: Profiles, asked: Asked, columns: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """As `score_summary`, of profiles and what was added to each of them, if anything was."""
    risks, counts = risks_of(model), found.counts
    sets, everything = found.layout.sets(found.codes, "sample"), risks.everything
    valid = (found.layout.sets(found.codes, asked.new_levels) > 0).all(axis=1)
    kinds = {"missing": (sets & (sets - 1)) > 0, "new": sets == [c.new for c in risks.covariates], "invalid": sets == 0}
    known = {c.name: _shares(risks, k, sets[:, k], counts) for k, c in enumerate(risks.covariates)}
    support = {name.removesuffix("_support"): of for name, of in columns.items() if name.endswith("_support")}
    return lineage(model, asked.interval) | {
        "rows": int(counts.sum()),
        "scored": int(counts[valid].sum()),
        "unknown": int(counts[(sets == everything).all(axis=1)].sum()),
        "columns": {
            c.name: {kind: int(counts[which[:, k]].sum()) for kind, which in kinds.items()}
            for k, c in enumerate(risks.covariates)
        },
        "levels": known,
        "drift": {name: _drift(levels) for name, levels in known.items()},
        "risks": {name: _share(counts[valid], of[valid]) for name, of in columns.items() if name.endswith("_risk")},
        "support": {
            event: {word: _share(counts, of == word) for word in (*SUPPORT, "invalid") if (of == word).any()}
            for event, of in support.items()
        },
    }


def lineage(model: Any, interval: float | None = None) -> dict[str, Any]:
    """What answers come from: `LINEAGE`."""
    return dict(zip(LINEAGE, (model.name, getattr(model, "digest", None), version("aemodel"), interval, now()), strict=True))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _share(counts: Ints, of: NDArray[Any]) -> float | None:
    return float(counts @ of / counts.sum()) if counts.sum() else None


def _shares(risks: RiskDraws, k: int, sets: Ints, counts: Ints) -> dict[str, dict[str, Any]]:
    """Of those whose level of a covariate is known, and of the cohort: the share of each level; of new ones if there are."""
    covariate = risks.covariates[k]
    single = (sets & (sets - 1)) == 0
    cohort = np.bincount(risks.levels[risks.usual, k], risks.weight[risks.usual], len(covariate.levels) + 1)
    rows, here = counts[single & (sets > 0)], sets[single & (sets > 0)]
    known = [i for i, level in enumerate(covariate.levels) if not level.unknown]
    names = {i: covariate.names[i] for i in known} | ({len(covariate.levels): "(new)"} if (here == covariate.new).any() else {})
    of_cohort = cohort / cohort[known].sum()
    return {name: {"share": _share(rows, here == 1 << i), "cohort": float(of_cohort[i])} for i, name in names.items()}


def _drift(levels: Mapping[str, Mapping[str, Any]]) -> float | None:
    pairs = np.array([(of["share"], of["cohort"]) for of in levels.values()], dtype=float).clip(LEAST_SHARE)
    share, cohort = pairs.T
    drift = float(((share - cohort) * np.log(share / cohort)).sum())
    return None if np.isnan(drift) else drift
