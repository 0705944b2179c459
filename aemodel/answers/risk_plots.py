"""Figures of risks and of what moves them, each drawn from a table the user can get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from numpy.typing import NDArray

from aemodel.answers.contrasts import odds_ratio_table
from aemodel.answers.drawing import (
    COLOURS,
    INK,
    MARKERS,
    SOFT,
    SOURCES,
    Drawing,
    checked,
    drawn,
    key,
    look_of,
    row_height,
    shade_groups,
    table_and_words,
    wrapped,
)
from aemodel.answers.plots import at_grade, grade_of, ratio_axis, source_keys
from aemodel.publication.errors import InputError
from aemodel.publication.texts import listed, shown
from aemodel.publication.words import words_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_effects(table: Any, *, covariate: str, grade: str | None = None, labels: Any = None, ax: Any = None) -> NDArray[Any]:
    """Odds ratios of a covariate's levels on every event, with what they rest on.

    Parameters
    ----------
    table
        From `odds_ratio_table`, or a model, of which it is then made.
    covariate, grade
        Which rows of it to draw; by default the first grade.
    labels
        A model or tables, to name events and levels in the publication's words.
    ax
        Axes to draw in, as many as there are panels; by default those of a new figure, made by pyplot.

    Returns
    -------
    numpy.ndarray
        Matplotlib's axes, (panel,): one for each level but the reference; medians and intervals on a logarithmic axis.

    Raises
    ------
    TypeError, ValueError
        Not one covariate and grade, or the table has none such.
    """
    columns = "event grade covariate level reference odds_ratio lower upper support"
    table, words = table_and_words(table, odds_ratio_table, columns, labels)
    grade, rows = at_grade(table, grade, covariate=covariate)
    events, levels = list(dict.fromkeys(rows["event"])), list(dict.fromkeys(rows["level"]))
    reference = words.level(covariate, rows["reference"].iloc[0])
    names = [wrapped(words.event(event), 30) for event in events]
    size = (1.55 * len(levels) + 2.3, row_height(0.34, names) * len(events) + 1.7)
    with drawn(ax, (max(size[0], 5.0), size[1]), len(levels), sharey=True) as drawing:
        for axis, level in zip(drawing.axes, levels, strict=True):
            shade_groups(axis, [1] * len(events), -0.5)
            part = rows[rows["level"] == level].set_index("event").reindex(events)
            for y, row in enumerate(part.itertuples(index=False)):
                _range(axis, y, (row.lower, row.odds_ratio, row.upper), look_of(*SOURCES[row.support][:2], row.support))
            ratio_axis(axis, float(rows["lower"].min()), float(rows["upper"].max()))
            axis.set_title(wrapped(words.level(covariate, level), 20))
        drawing.name_rows(names)
        drawing.across(wrapped(f"{words.grade(grade)}: odds ratio against {reference}", 90))
        drawing.legend(source_keys(set(rows["support"])), columns=2 if len(levels) < 3 else 3)
    return drawing.axes


def plot_profiles(table: pd.DataFrame, *, event: str, grade: str | None = None, labels: Any = None, ax: Any = None) -> Axes:
    """Risk by the levels of one covariate, a line for each level of another.

    Parameters
    ----------
    table
        From `profile_table` by one or two covariates: the first along the axis, the second as lines.
    event, grade
        Which rows of it to draw; by default the first grade.
    labels
        A model or tables, to name everything in the publication's words.
    ax
        Axes to draw in, of a figure of yours; by default those of a new figure, made by pyplot.

    Returns
    -------
    matplotlib.axes.Axes
        Posterior mean risks with intervals, in per cent; the axis says of what probability, if the table still knows it.

    Raises
    ------
    TypeError, ValueError
        Not one event and grade, or the table has none such; or its covariates are not one or two.
    """
    table, words = checked(table, "profile_table returns", "event grade risk lower upper support"), words_of(labels)
    grade, rows = at_grade(table, grade, event=event)
    by = list(table.columns[: list(table.columns).index("event")])
    if len(by) not in (1, 2):
        raise InputError("table", f"expected risks by one or two covariates, not by {by}")
    levels = list(dict.fromkeys(rows[by[0]]))
    lines = list(rows.groupby(by[1], sort=False)) if len(by) == 2 else [("", rows)]
    with drawn(ax, (max(5.0, 1.2 * len(levels) + 2.4), 3.6 + 0.1 * len(lines))) as drawing:
        axis, handles = drawing.axes[0], []
        for i, (level, part) in enumerate(lines):
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            part = part.sort_values(by[0], key=lambda names: names.map(levels.index))
            x = part[by[0]].map(levels.index) + 0.12 * (i - (len(lines) - 1) / 2)
            axis.plot(x, 100 * part["risk"], color=colour, linewidth=1, alpha=0.6)
            for at, row in zip(x, part.itertuples(), strict=True):
                look = look_of(colour, marker, row.support)
                axis.vlines(at, 100 * row.lower, 100 * row.upper, color=colour, linewidth=2, linestyle=look["linestyle"])
                axis.plot(at, 100 * row.risk, **look)
            if level:
                handles.append(key(wrapped(words.level(by[1], level), 60), marker=marker, color=colour))
        if (rows["support"] == "prior").any():
            handles.append(_hollow())
        axis.set_xticks(range(len(levels)), [wrapped(words.level(by[0], level), 16) for level in levels])
        ylabel = f"Risk, per cent ({_probability(table)}interval)"
        axis.set(ylim=(0, None), xlim=(-0.5, len(levels) - 0.5), ylabel=ylabel)
        axis.tick_params(axis="x", bottom=False)
        axis.set_xlabel(wrapped(words.covariate(by[0]), 60))
        axis.set_title(wrapped(f"{words.event(event)}: {words.grade(grade)}", 68))
        if handles:
            drawing.legend(handles, columns=2 if len(levels) > 3 else 1)
    return drawing.axes[0]


def plot_patient(
    table: pd.DataFrame,
    *,
    grade: str | None = None,
    patient: Any = None,
    reference: Any = None,
    labels: Any = None,
    ax: Any = None,
) -> Axes:
    """One patient's risks of all events with their intervals, and what they rest on; assumptions are hollow and dotted.

    Parameters
    ----------
    table
        From `risk_table`.
    grade, patient
        Which rows of it to draw, by default at the first grade; the patient may be left out where there is only one.
    reference
        Another patient of the table, such as one of whom nothing is known, whose risks stand beside as ticks.
    labels
        A model or tables, to name events in the publication's words.
    ax
        Axes to draw in, of a figure of yours; by default those of a new figure, made by pyplot.

    Returns
    -------
    matplotlib.axes.Axes
        A line for each event: mean and interval.

    Raises
    ------
    TypeError, ValueError
        Not one grade, or the table has no such rows, or those of more than one patient.
    """
    table, words = checked(table, "risk_table returns", "patient event grade risk lower upper support"), words_of(labels)
    grade = grade_of(table, grade)
    rows = _of_patient(table, grade, patient, "patient")
    names = [wrapped(words.event(event), 30) for event in rows["event"]]
    with drawn(ax, (7.0, row_height(0.3, names) * len(rows) + 1.3)) as drawing:
        axis, handles = drawing.axes[0], source_keys(set(rows["support"]))
        shade_groups(axis, [1] * len(rows), -0.5)
        for y, row in enumerate(rows.itertuples()):
            risks = 100 * row.lower, 100 * row.risk, 100 * row.upper
            _range(axis, y, risks, look_of(*SOURCES[row.support][:2], row.support))
        if reference is not None:
            other = _of_patient(table, grade, reference, "reference").set_index("event")["risk"].reindex(rows["event"])
            axis.plot(100 * other, range(len(rows)), "|", **TICK)
            handles.append(key(wrapped(str(reference), 40), marker="|", linestyle="", **TICK))
        _label_rows(drawing, names, f"{words.grade(grade)}: risk, per cent (mean and {_probability(table)}interval)")
        drawing.legend(handles, columns=2)
    return drawing.axes[0]


def plot_cohort(
    table: pd.DataFrame, *, grade: str | None = None, share: bool = False, labels: Any = None, ax: Any = None
) -> Axes:
    """Expected numbers of patients with each event, of one cohort or of several beside each other.

    Parameters
    ----------
    table
        From `score_cohort`.
    grade
        Which grade to draw; by default the first.
    share
        Per cent of each group's patients instead of their number: for groups that differ in size.
    labels
        A model or tables, to name events in the publication's words.
    ax
        Axes to draw in, of a figure of yours; by default those of a new figure, made by pyplot.

    Returns
    -------
    matplotlib.axes.Axes
        A line for each event and group: expected number and predictive interval. Assumptions are hollow and dotted.

    Raises
    ------
    TypeError, ValueError
        Not one grade, or the table has nothing at it.
    """
    columns = "event grade patients expected lower upper support"
    table, words = checked(table, "score_cohort returns", columns), words_of(labels)
    grade, rows = at_grade(table, grade)
    by = list(table.columns[: list(table.columns).index("event")])
    groups = list(rows.groupby(by, sort=False, dropna=False)) if by else [((), rows)]
    events = list(dict.fromkeys(rows["event"]))
    names = [wrapped(words.event(event), 30) for event in events]
    with drawn(ax, (7.0, max(row_height(0.3, names), 0.16 * len(groups)) * len(events) + 1.3)) as drawing:
        axis, handles = drawing.axes[0], []
        shade_groups(axis, [1] * len(events), -0.5)
        for i, (values, part) in enumerate(groups):
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            shift = 0.7 * ((i + 0.5) / len(groups) - 0.5)
            for row in part.itertuples():
                times = 100 / max(row.patients, 1) if share else 1
                counts = times * row.lower, times * row.expected, times * row.upper
                _range(axis, events.index(row.event) + shift, counts, look_of(colour, marker, row.support))
            told = f"{' '.join(map(str, values))}{': ' if by else ''}{part['patients'].iloc[0]} patients"
            handles.append(key(wrapped(told, 60), **look_of(colour, marker, "")))
        if (rows["support"] == "prior").any():
            handles.append(_hollow())
        of = "per cent of patients" if share else "patients"
        told = f"(expected, and {_probability(table)}predictive interval)"
        _label_rows(drawing, names, f"{words.grade(grade)}: {of} with the event {told}")
        drawing.legend(handles, columns=2)
    return drawing.axes[0]


def _hollow() -> Any:
    return key("hollow: an assumption", **look_of(SOFT, "o", "prior"))


TICK: dict[str, Any] = {"color": INK, "markersize": 12, "markeredgewidth": 1.8}


def _of_patient(table: pd.DataFrame, grade: str, patient: Any, argument: str) -> pd.DataFrame:
    _, rows = at_grade(table, grade)
    rows = rows if patient is None else rows[rows["patient"] == patient]
    if (found := rows["patient"].nunique()) != 1:
        known = listed(map(str, dict.fromkeys(table["patient"])))
        raise InputError(argument, f"rows of {found} patients at grade {shown(grade)}; name one of the table's, {known}")
    return rows


def _range(axis: Any, y: float, values: tuple[float, float, float], look: dict[str, Any]) -> None:
    """A mark between the ends of its interval."""
    lower, middle, upper = values
    axis.hlines(y, lower, upper, color=look["color"], linewidth=2, linestyle=look["linestyle"])
    axis.plot(middle, y, **look)


def _label_rows(drawing: Drawing, names: list[str], xlabel: str) -> None:
    drawing.name_rows(names)
    drawing.across(xlabel)
    drawing.axes[0].set_xlim(left=0)


def _probability(table: pd.DataFrame) -> str:
    """Of the intervals, if the table still knows it."""
    interval = table.attrs.get("interval")
    return f"{100 * interval:g} % " if interval else ""
