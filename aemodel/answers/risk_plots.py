"""Figures of risks and of what moves them, each drawn from a table the user can get."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aemodel.answers.drawing import (
    BLUE,
    COLOURS,
    INK,
    MARKERS,
    SOFT,
    SOURCES,
    drawn,
    key,
    legend_above,
    row_height,
    shade_groups,
    wrapped,
)
from aemodel.answers.plots import grade_of, ratio_axis, source_keys
from aemodel.publication.errors import InputError
from aemodel.publication.texts import shown
from aemodel.publication.words import words_of

DOTS = ("sure", "likely", "possible", "none")


def plot_effects(table: pd.DataFrame, *, covariate: str, grade: str | None = None, labels: Any = None) -> Any:
    """Odds ratios of a covariate's levels on every event, with what they rest on.

    Parameters
    ----------
    table
        From `odds_ratio_table`.
    covariate, grade
        Which rows of it to draw; by default the first grade.
    labels
        A model or tables, to name events and levels in the publication's words.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each level but the reference; medians and intervals on a logarithmic axis.

    Raises
    ------
    TypeError, ValueError
        Not one covariate and grade, or the table has none such.
    """
    words, grade = words_of(labels), grade_of(table, grade)
    _check_one(covariate=covariate, grade=grade)
    rows = table[(table["covariate"] == covariate) & (table["grade"] == grade)]
    if rows.empty:
        known = ", ".join(dict.fromkeys(table["covariate"]))
        raise InputError("covariate", f"nothing to draw for {shown(covariate)} at grade {shown(grade)}; choose from {known}")
    events, levels = list(dict.fromkeys(rows["event"])), list(dict.fromkeys(rows["level"]))
    reference = words.level(covariate, rows["reference"].iloc[0])
    names = [wrapped(words.event(event), 30) for event in events]
    size = (1.55 * len(levels) + 2.3, row_height(0.34, names) * len(events) + 1.7)
    with drawn(1, len(levels), (max(size[0], 5.0), size[1]), sharey=True) as (figure, axes):
        for axis, level in zip(axes, levels, strict=True):
            shade_groups(axis, [1] * len(events))
            part = rows[rows["level"] == level].set_index("event").reindex(events)
            for y, row in enumerate(part.itertuples(index=False)):
                colour, marker, _ = SOURCES[row.source]
                axis.hlines(y, row.lower, row.upper, color=colour, linewidth=2)
                axis.plot(row.odds_ratio, y, marker, color=colour, markersize=6)
            ratio_axis(axis, float(rows["lower"].min()), float(rows["upper"].max()))
            axis.set_ylim(len(events) - 0.5, -0.5)
            axis.set_title(wrapped(words.level(covariate, level), 20))
        axes[0].set_yticks(range(len(events)), names)
        figure.supxlabel(wrapped(f"{words.grade(grade)}: odds ratio against {reference}", 90), fontsize=9)
        legend_above(figure, source_keys(set(rows["source"])), columns=2 if len(levels) < 3 else 3)
    return figure


def plot_profiles(table: pd.DataFrame, *, event: str, grade: str | None = None, labels: Any = None) -> Any:
    """Risk by the levels of one covariate, a line for each level of another.

    Parameters
    ----------
    table
        From `profile_table` by one or two covariates: the first along the axis, the second as lines.
    event, grade
        Which rows of it to draw; by default the first grade.
    labels
        A model or tables, to name everything in the publication's words.

    Returns
    -------
    matplotlib.figure.Figure
        Posterior mean risks with intervals, in per cent; the axis says of what probability, if the table still knows it.

    Raises
    ------
    TypeError, ValueError
        Not one event and grade, or the table has none such; or its covariates are not one or two.
    """
    words, grade = words_of(labels), grade_of(table, grade)
    _check_one(event=event, grade=grade)
    rows = table[(table["event"] == event) & (table["grade"] == grade)]
    if rows.empty:
        known = ", ".join(dict.fromkeys(table["event"]))
        raise InputError("event", f"nothing to draw for {shown(event)} at grade {shown(grade)}; choose from {known}")
    by = list(table.columns[: list(table.columns).index("event")])
    if len(by) not in (1, 2):
        raise InputError("table", f"expected risks by one or two covariates, not by {by}")
    interval = table.attrs.get("interval")
    ylabel = "Risk, per cent" + (f" ({100 * interval:g} % interval)" if interval else "")
    levels = list(dict.fromkeys(rows[by[0]]))
    lines = list(rows.groupby(by[1], sort=False)) if len(by) == 2 else [("", rows)]
    with drawn(1, 1, (max(5.0, 1.2 * len(levels) + 2.4), 3.6 + 0.1 * len(lines))) as (figure, axes):
        axis, handles = axes[0], []
        for i, (level, part) in enumerate(lines):
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            x = np.arange(len(levels)) + 0.12 * (i - (len(lines) - 1) / 2)
            axis.plot(x, 100 * part["risk"], color=colour, linewidth=1, alpha=0.6)
            axis.vlines(x, 100 * part["lower"], 100 * part["upper"], color=colour, linewidth=2)
            axis.plot(x, 100 * part["risk"], marker, color=colour, markersize=6)
            if level:
                handles.append(key(wrapped(words.level(by[1], level), 60), marker=marker, color=colour, markersize=6))
        axis.set_xticks(range(len(levels)), [wrapped(words.level(by[0], level), 16) for level in levels])
        axis.set(ylim=(0, None), xlim=(-0.5, len(levels) - 0.5), ylabel=ylabel)
        axis.tick_params(axis="x", bottom=False)
        axis.set_xlabel(wrapped(words.covariate(by[0]), 60))
        axis.set_title(wrapped(f"{words.event(event)}: {words.grade(grade)}", 68))
        if handles:
            legend_above(figure, handles, columns=2 if figure.get_figwidth() > 6.5 else 1)
    return figure


def plot_risk(table: pd.DataFrame, *, event: str, grade: str | None = None, patient: Any = None, labels: Any = None) -> Any:
    """One patient's risk as dots out of a hundred, with its range.

    Parameters
    ----------
    table
        From `risk_table`.
    event, grade, patient
        Which row of it to draw, by default at the first grade; the patient may be left out where there is only one.
    labels
        A model or tables, to name the event in the publication's words.

    Returns
    -------
    matplotlib.figure.Figure
        Filled dots up to the interval's lower end, pale ones up to the mean, rings up to its upper end.

    Raises
    ------
    TypeError, ValueError
        Not one event and grade, or the table has no such row, or more than one.
    """
    grade = grade_of(table, grade)
    _check_one(event=event, grade=grade)
    rows = table[(table["event"] == event) & (table["grade"] == grade)]
    if patient is not None:
        rows = rows[rows["patient"] == patient]
    if len(rows) != 1:
        raise InputError(
            "event, grade, patient",
            f"{shown(event)} at {shown(grade)} of patient {shown(patient)} are {len(rows)} rows of the "
            "table; name one patient, event and grade that it has",
        )
    row = rows.iloc[0]
    lower, middle, upper = (round(100 * float(row[name])) for name in ("lower", "risk", "upper"))
    kinds = np.repeat(DOTS, [lower, middle - lower, upper - middle, 100 - upper])
    sure: dict[str, Any] = {"marker": "o", "markerfacecolor": BLUE, "markeredgecolor": BLUE}
    likely: dict[str, Any] = {"marker": "o", "markerfacecolor": "#9dc3de", "markeredgecolor": BLUE, "markeredgewidth": 1.4}
    possible: dict[str, Any] = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": BLUE, "markeredgewidth": 1.4}
    none: dict[str, Any] = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": SOFT, "markeredgewidth": 0.7}
    looks = dict(zip(DOTS, (sure, likely, possible, none), strict=True))
    with drawn(1, 1, (4.8, 3.4)) as (figure, axes):
        axis = axes[0]
        places = np.arange(100)
        for kind, look in looks.items():
            mine = places[kinds == kind]
            axis.plot(mine % 10, mine // 10, linestyle="", markersize=6.5 if kind == "none" else 10, **look)
        axis.set(xlim=(-0.6, 9.6), ylim=(9.6, -0.6), aspect="equal", xticks=[], yticks=[])
        axis.spines[["left", "bottom"]].set_visible(False)
        said = f"{middle or 'fewer than 1'} in 100, could be {lower or 'fewer than 1'} to {upper or 'fewer than 1'}"
        named = words_of(labels)
        axis.set_title(f"{wrapped(named.event(event), 40)}\n{wrapped(named.grade(grade), 40)}: {said}", color=INK)
        words = ("the fewest it could be", "up to what is expected", "up to the most it could be", "without it")
        handles = [key(word, linestyle="", markersize=8, **looks[kind]) for kind, word in zip(DOTS, words, strict=True)]
        handles.append(key(f"Rests on: {row['support']}", linestyle=""))
        figure.legend(handles=handles, loc="outside right center")
    return figure


def _check_one(**names: Any) -> None:
    for argument, name in names.items():
        if not isinstance(name, str):
            raise TypeError(f"{argument}: expected the name of one {argument}, not {shown(name)}; draw a figure for each")
