"""Figures of how a fit stands to what was published, each drawn from a table the user can get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aemodel.answers.calibration import calibration_table, differences_table
from aemodel.answers.drawing import (
    BLUE,
    INK,
    SOFT,
    SOURCES,
    drawn,
    key,
    look_of,
    row_height,
    shade_groups,
    table_and_words,
    wrapped,
)
from aemodel.answers.identification import identification_table, of_covariates, prior_predictive_table
from aemodel.publication.errors import InputError
from aemodel.publication.texts import listed, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_calibration(table: Any, *, grade: str | None = None, labels: Any = None, ax: Any = None) -> Axes:
    """Observed against predicted frequencies with 50 % and 90 % predictive intervals.

    Parameters
    ----------
    table
        From `calibration_table`, or a model, of which it is then made.
    grade
        Which grade to draw; by default the first.
    labels
        A model or tables, to name events and levels in the publication's words; by default the model that is drawn.
    ax
        Axes to draw in, of a figure of yours; by default those of a new figure, made by pyplot.

    Returns
    -------
    matplotlib.axes.Axes
        A line for each published frequency (derived ones are left out), events under their names.

    Raises
    ------
    TypeError, ValueError
        It is no such table, or has nothing at the grade.
    """
    columns = "event grade covariate level n observed_rate observed_low derived lower90"
    table, words = table_and_words(table, calibration_table, columns, labels)
    grade, rows = at_grade(table[~table["derived"]], grade_of(table, grade))
    rows, events = _in_groups(rows, ["event"]), list(dict.fromkeys(rows["event"]))
    levels = [wrapped(words.level(c, v), 56) for c, v in zip(rows["covariate"], rows["level"], strict=True)]
    sizes = [int((rows["event"] == event).sum()) for event in events]
    names = [wrapped(words.event(event), 24) for event in events]
    height = max(row_height(0.215, levels), row_height(0.215, names, sizes))
    with drawn(ax, (8.0, height * len(rows) + 1.1)) as drawing:
        axis = drawing.axes[0]
        y = np.arange(len(rows))
        shade_groups(axis, sizes, -0.5)
        for width, line in ((90, 1.5), (50, 5.0)):
            ends = [100 * rows[f"{end}{width}"] / rows["n"] for end in ("lower", "upper")]
            axis.hlines(y, *ends, color=BLUE, linewidth=line)
        axis.hlines(y, *(100 * rows[f"observed_{end}"] / rows["n"] for end in ("low", "high")), color=INK, linewidth=2)
        axis.plot(100 * rows["observed_rate"], y, "o", color=INK, markersize=5)
        axis.set_yticks(y, levels)
        _name_groups(axis, list(zip(names, map(float, sizes), strict=True)), -0.5)
        axis.set(ylim=(len(rows) - 0.5, -0.5))
        axis.set_xlim(left=0)
        drawing.across(f"{words.grade(grade)}: patients with the event, per cent")
        handles = [
            key("published", marker="o", color=INK, linestyle="", markersize=4),
            key("50 % predictive interval", color=BLUE, linewidth=5),
            key("90 %", color=BLUE, linewidth=1.5),
        ]
        drawing.legend(handles)
    return drawing.axes[0]


def plot_differences(table: Any, *, labels: Any = None, ax: Any = None) -> Axes:
    """Published differences between levels against their 90 % predictive intervals.

    Parameters
    ----------
    table
        From `differences_table`, or a model, of which it is then made.
    labels
        A model or tables, to name events, grades and levels in the publication's words; by default the model that is drawn.
    ax
        Axes to draw in, of a figure of yours; by default those of a new figure, made by pyplot.

    Returns
    -------
    matplotlib.axes.Axes
        A line for each difference, events and grades under their names.
    """
    columns = "event grade covariate level reference observed predicted lower upper"
    table, words = table_and_words(table, differences_table, columns, labels)
    table = _in_groups(table, ["event", "grade"])
    pairs = list(zip(table["event"], table["grade"], strict=True))
    groups = list(dict.fromkeys(pairs))
    told = zip(table["covariate"], table["level"], table["reference"], strict=True)
    names = [wrapped(f"{words.level(c, a)} less {words.level(c, b)}", 50) for c, a, b in told]
    titles = [wrapped(f"{words.event(event)}, {words.grade(grade)}", 30) for event, grade in groups]
    heights = np.array([row_height(0.22, [name]) for name in names])
    for title, group in zip(titles, groups, strict=True):
        mine = np.array([pair == group for pair in pairs])
        heights[mine] *= max(1.0, row_height(0.0, [title]) / heights[mine].sum())
    sizes = [float(heights[[pair == group for pair in pairs]].sum()) for group in groups]
    with drawn(ax, (9.0, heights.sum() + 1.1)) as drawing:
        axis, y = drawing.axes[0], np.cumsum(heights) - heights / 2
        shade_groups(axis, sizes)
        axis.axvline(0, color=SOFT, linewidth=0.8)
        axis.hlines(y, 100 * table["lower"], 100 * table["upper"], color=BLUE, linewidth=1.5)
        axis.plot(100 * table["predicted"], y, "|", color=BLUE, markersize=9, markeredgewidth=2)
        axis.plot(100 * table["observed"], y, "o", color=INK, markersize=4)
        axis.set_yticks(y, names)
        _name_groups(axis, list(zip(titles, sizes, strict=True)))
        axis.set(ylim=(heights.sum(), 0))
        drawing.across("Difference in patients with the event, percentage points")
        handles = [
            key("published", marker="o", color=INK, linestyle="", markersize=4),
            key("predicted", marker="|", color=BLUE, linestyle="", markersize=9, markeredgewidth=2),
            key("90 % predictive interval", color=BLUE, linewidth=1.5),
        ]
        drawing.legend(handles)
    return drawing.axes[0]


def plot_identification(table: Any, *, grade: str | None = None, labels: Any = None, ax: Any = None) -> NDArray[Any]:
    """How much of each covariate's effects was learned: contraction by event, with what speaks of it.

    Parameters
    ----------
    table
        From `identification_table` of effects, or a model, of which it is then made.
    grade
        Which grade to draw; by default the first.
    labels
        A model or tables, to name events and covariates in the publication's words; by default the model that is drawn.
    ax
        Axes to draw in, as many as there are panels; by default those of a new figure, made by pyplot.

    Returns
    -------
    numpy.ndarray
        Matplotlib's axes, (panel,): one for each covariate, with a mark for each event: the mean contraction over levels, 0
        prior and 1 learned, and what their effects rest on by the mean of their shares.

    Raises
    ------
    TypeError, ValueError
        It is no such table, or has nothing at the grade.
    """
    table, words = table_and_words(table, identification_table, "event grade covariate contraction support", labels)
    grade, rows = at_grade(table, grade)
    covariates, events = list(dict.fromkeys(rows["covariate"])), list(dict.fromkeys(rows["event"]))
    mean = of_covariates(rows).droplevel("grade")
    names = [wrapped(words.event(event), 30) for event in events]
    size = (1.45 * len(covariates) + 2.0, row_height(0.34, names) * len(events) + 1.5)
    with drawn(ax, size, len(covariates), sharey=True) as drawing:
        for axis, covariate in zip(drawing.axes, covariates, strict=True):
            shade_groups(axis, [1] * len(events), -0.5)
            axis.axvline(0, color=SOFT, linewidth=0.8)
            part = mean.xs(covariate, level="covariate").reindex(events)
            for y, (value, source) in enumerate(zip(part["contraction"], part["support"], strict=True)):
                look = look_of(*SOURCES[source][:2], source)
                axis.plot([0, value], [y, y], linewidth=1.5, **look | {"marker": ""})
                axis.plot(value, y, **look)
            lower = min(-0.1, 1.1 * mean["contraction"].min())
            axis.set(xlim=(lower, 1.05), xticks=[0, 0.5, 1], xticklabels=["0", "\u00bd", "1"])
            axis.set_title(wrapped(words.covariate(covariate), 16))
        drawing.name_rows(names)
        drawing.across(f"{words.grade(grade)}: contraction of the effects, 0 is all prior, 1 is learned")
        drawing.legend(source_keys(set(mean["support"])))
    return drawing.axes


def plot_prior(
    table: Any, *, quantity: str = "cohort risk", grade: str | None = None, labels: Any = None, ax: Any = None
) -> Axes:
    """Prior against posterior of one quantity, event by event.

    Parameters
    ----------
    table
        From `prior_predictive_table`, or a model, of which it is then made.
    quantity, grade
        Which rows of it to draw; by default the first grade.
    labels
        A model or tables, to name events in the publication's words; by default the model that is drawn.
    ax
        Axes to draw in, of a figure of yours; by default those of a new figure, made by pyplot.

    Returns
    -------
    matplotlib.axes.Axes
        Medians and intervals, prior and posterior; published rates as crosses where there are any.

    Raises
    ------
    TypeError, ValueError
        It is no such table, or has no such quantity.
    """
    columns = "event grade quantity prior_median posterior_median published"
    table, words = table_and_words(table, prior_predictive_table, columns, labels)
    grade, rows = at_grade(table, grade, quantity=quantity)
    published = rows["published"].notna().any()
    names = [wrapped(words.event(event), 34) for event in rows["event"]]
    with drawn(ax, (6.4, row_height(0.36, names) * len(rows) + 1.2)) as drawing:
        axis = drawing.axes[0]
        shade_groups(axis, [1] * len(rows), -0.5)
        y = np.arange(len(rows))
        for name, colour, marker, shift in (("prior", SOFT, "o", -0.17), ("posterior", BLUE, "s", 0.17)):
            axis.hlines(y + shift, rows[f"{name}_lower"], rows[f"{name}_upper"], color=colour, linewidth=2)
            axis.plot(rows[f"{name}_median"], y + shift, marker, color=colour, markersize=5)
        if published:
            axis.plot(rows["published"], y, "x", color=INK, markersize=6, markeredgewidth=1.5)
        odds = quantity.removeprefix("odds ratio ")
        if odds != quantity:
            ratio_axis(axis, float(rows["prior_lower"].min()), float(rows["prior_upper"].max()))
        axis.set_yticks(y, names)
        what = quantity if odds == quantity else f"{words.covariate(odds)}: odds ratio, last level against first"
        axis.set(ylim=(len(rows) - 0.5, -0.5))
        drawing.across(f"{what[:1].upper()}{what[1:]}, {words.grade(grade)}")
        handles = [
            key("prior, 90 % interval", marker="o", color=SOFT, markersize=5, linewidth=2),
            key("posterior", marker="s", color=BLUE, markersize=5, linewidth=2),
        ]
        if published:
            handles.append(key("published", marker="x", color=INK, linestyle="", markersize=6, markeredgewidth=1.5))
        drawing.legend(handles)
    return drawing.axes[0]


def ratio_axis(axis: Any, lowest: float, highest: float) -> None:
    """A logarithmic axis of odds ratios about 1, with round ticks."""
    lowest, highest = min(0.85 * lowest, 0.5), max(1.2 * highest, 2.0)
    axis.axvline(1, color=SOFT, linewidth=0.8, zorder=0)
    axis.set_xscale("log")
    ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if lowest <= tick <= highest]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xticks([], minor=True)
    axis.set_xlim(lowest, highest)


def source_keys(sources: set[str]) -> list[Any]:
    """Legend entries of what effects rest on, those there are."""
    return [
        key(words, linewidth=1.5, **look_of(colour, marker, source))
        for source, (colour, marker, words) in SOURCES.items()
        if source in sources
    ]


def grade_of(table: pd.DataFrame, grade: Any) -> Any:
    """The grade asked for, or the table's first: tables begin with the publication's outermost class of grades."""
    return table["grade"].iloc[0] if grade is None and len(table) else grade


def at_grade(table: pd.DataFrame, grade: Any, **named: str) -> tuple[Any, pd.DataFrame]:
    """The grade asked for, or the table's first, and its rows at that and of what else is named.

    Raises
    ------
    TypeError, ValueError
        Something is not the name of one, or there are no such rows.
    """
    rows, grade = table, grade_of(table, grade)
    for column, name in {"grade": grade, **named}.items():
        if not isinstance(name, str):
            raise TypeError(f"{column}: expected the name of one {column}, not {shown(name)}; draw a figure for each")
        found = rows[rows[column] == name]
        if found.empty:
            of = "" if column == "grade" else f" for {shown(name)}"
            known = listed(map(str, dict.fromkeys(rows[column])))
            raise InputError(column, f"nothing to draw{of} at grade {shown(grade)}; choose from {known}")
        rows = found
    return grade, rows.reset_index(drop=True)


def _in_groups(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Rows of a group beside each other, groups in the order in which they begin."""
    return rows.iloc[np.argsort(rows.groupby(by, sort=False).ngroup(), kind="stable")].reset_index(drop=True)


def _name_groups(axis: Any, groups: list[tuple[str, float]], start: float = 0) -> None:
    """Names of groups of rows, each beside their middle, in a column of their own at the right."""
    right = axis.secondary_yaxis("right")
    right.spines["right"].set_visible(False)
    places, names = [], []
    for name, size in groups:
        places.append(start + size / 2)
        names.append(name)
        start += size
    right.set_yticks(places, names, fontweight="bold")
    right.tick_params(right=False)
