"""Analysis results data, as R's cards and gtsummary write them, to a publication's frequencies. Light."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import narwhals.stable.v2 as nw

from aemodel.publication.errors import InputError
from aemodel.publication.patients import is_missing
from aemodel.publication.texts import listed, shown
from aemodel.scoring.eager import as_frame

COLUMNS = ("event", "grade", "covariate", "level", "n", "printed", "unit", "source")
STATISTICS = ("n", "N", "p")
MOST_ROUNDED = 0.005
"""What a share may be off: it may have been rounded to whole per cents."""
Terms = Mapping[str, str]


def read_ard(
    ard: Any,
    grade: str,
    events: Mapping[str, Terms],
    covariates: Mapping[str, str] | None = None,
    levels: Mapping[str, str] | None = None,
) -> Any:
    """Rows of a publication's ``frequencies.csv`` from analysis results data: long rows of groups, a variable and a statistic.

    So that a sponsor can fit without handing out a patient. Rows of one grade class at a time: join the frames of several.

    Parameters
    ----------
    ard
        A pandas or polars DataFrame or pyarrow Table with columns ``variable``, ``variable_level``, ``stat_name`` and
        ``stat``, and, where results are by groups, ``group1``, ``group1_level`` and so on: what `cards::ard_stack`,
        `cards::ard_stack_hierarchical` or `gtsummary::gather_ard` give, as a plain table.
    grade
        The grade class that all these results are of, as ``3-5``.
    events
        For each event the variables with the levels that are it, groups among them: ``{"rash": {"AEDECOD": "Rash"}}``, or
        ``{"rash": {"RASHFL": "TRUE"}}``; all must match.
    covariates
        The publication's covariates by the groups they are: ``{"TRTA": "arm"}``. Results by another group are left out, but for
        those that ``events`` name; without any group they are the whole cohort's.
    levels
        The publication's levels by those here, where they differ: ``{"Xanomeline High Dose": "high"}``.

    Returns
    -------
    The caller's kind of frame
        Columns event, grade, covariate, level, n, printed, unit (``count``) and source.

    Raises
    ------
    TypeError, InputError
        Columns or statistics are missing, an event is nowhere, or ``n``, ``N`` and ``p`` do not fit each other.
    """
    frame = as_frame(ard, "ard")
    if missing := [name for name in ("variable", "variable_level", "stat_name", "stat") if name not in frame.columns]:
        raise InputError("ard", f"no column {listed(map(repr, missing))}; columns found: {listed(frame.columns)}")
    groups = [name for name in frame.columns if re.fullmatch(r"group[0-9]+", name) and f"{name}_level" in frame.columns]
    cells = {name: [_plain(value) for value in frame[name].to_list()] for name in frame.columns}
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for i, statistic in enumerate(cells["stat_name"]):
        where = {cells[name][i]: cells[f"{name}_level"][i] for name in ("variable", *groups) if cells[name][i]}
        for event, terms in events.items():
            if statistic in STATISTICS and all(_alike(where.get(name), text) for name, text in terms.items()):
                by = _place({name: level for name, level in where.items() if name not in terms}, covariates or {}, levels or {})
                if by is not None:
                    _add(found.setdefault((event, *by), {}), statistic, cells["stat"][i], event, by)
    for event in events:
        if not any(key[0] == event for key in found):
            raise InputError("events", f"{event}: no n and N of it are here; found variables {_variables(cells)}")
    rows = [_row(*key, grade, statistics) for key, statistics in found.items()]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)}
    return nw.from_dict(columns, backend=frame.implementation).to_native()


def _plain(value: Any) -> Any:
    """A cell, of R's lists the one value in it."""
    while isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    return None if isinstance(value, (list, tuple)) or is_missing(value) or value == "" else value


def _alike(value: Any, text: str) -> bool:
    return value is not None and str(value).strip().casefold() == str(text).strip().casefold()


def _variables(cells: Mapping[str, Sequence[Any]]) -> str:
    return listed(sorted({str(name) for name in cells["variable"] if name is not None}))


def _place(groups: Mapping[str, Any], covariates: Mapping[str, str], levels: Mapping[str, str]) -> tuple[str, str] | None:
    """Covariates and levels of a result; None where it is by something else."""
    if not set(groups) <= set(covariates) or None in groups.values():
        return None
    names = [covariates[name] for name in groups]
    texts = [levels.get(str(level), str(level)) for level in groups.values()]
    return ("*".join(names), "*".join(texts)) if names else ("total", "all")


def _add(statistics: dict[str, float], name: str, value: Any, event: str, by: tuple[str, str]) -> None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError("ard", f"{event} by {' '.join(by)}: {name} is {shown(value)}, no number") from None
    if statistics.setdefault(name, number) != number:
        problem = f"{event} by {' '.join(by)}: {name} is {statistics[name]:g} and {number:g}"
        raise InputError("ard", problem, remedy="give the results of one grade class and one population")


def _row(event: str, covariate: str, level: str, grade: str, statistics: Mapping[str, float]) -> tuple[Any, ...]:
    where = f"{event} by {covariate} {level}"
    if missing := [name for name in ("n", "N") if name not in statistics]:
        raise InputError("ard", f"{where}: no {' and '.join(missing)}", remedy="ask for the statistics n and N")
    n, size = statistics["n"], statistics["N"]
    if not (0 <= n <= size and n.is_integer() and size.is_integer()):
        raise InputError("ard", f"{where}: n {n:g} of N {size:g} are no numbers of patients")
    if abs(statistics.get("p", n / size if size else 0) * size - n) > MOST_ROUNDED * size:
        raise InputError(
            "ard", f"{where}: p is {statistics['p']:g}, n {n:g} of N {size:g}", remedy="give shares, not per cents"
        )
    return event, grade, covariate, level, int(size), str(int(n)), "count", "analysis results data"
