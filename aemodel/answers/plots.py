"""Figures, each drawn from a table the user can get; one look, colour-blind safe (Okabe and Ito 2008), labelled in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

SOURCES = {"data": "#0072B2", "null": "#56B4E9", "pooled": "#009E73", "ordering": "#CC79A7", "prior": "#D55E00"}
WORDS = {
    "data": "own published margins",
    "null": "a test that was not significant",
    "pooled": "other events' margins",
    "ordering": "a published ordering",
    "prior": "prior only",
}
GREY = "#767676"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "figure.dpi": 110,
}


def plot_identification(table: pd.DataFrame, *, grade: str = "3-5") -> Any:
    """How much of each covariate's effects was learned: contraction by event, coloured by what speaks of it.

    Parameters
    ----------
    table
        From `identification_table` of effects.
    grade
        Which grade to draw.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each covariate; a dot for each event is the mean contraction over levels, 0 prior and 1 learned.

    Raises
    ------
    ValueError
        The table has no such grade.
    """
    rows = _at_grade(table, grade)
    covariates, events = list(dict.fromkeys(rows["covariate"])), list(dict.fromkeys(rows["event"]))
    mean = rows.groupby(["covariate", "event"], sort=False).agg(contraction=("contraction", "mean"), source=("source", "first"))
    with _figure(1, len(covariates), (2.4 * len(covariates) + 1.2, 0.28 * len(events) + 1.6), sharey=True) as (figure, axes):
        for axis, covariate in zip(axes, covariates, strict=True):
            part = mean.loc[covariate].reindex(events)
            for y, (value, source) in enumerate(zip(part["contraction"], part["source"], strict=True)):
                axis.plot([0, value], [y, y], color=SOURCES[source], linewidth=1.5)
                axis.plot(value, y, "o", color=SOURCES[source], markersize=6)
            axis.set(title=_words(covariate), xlim=(-0.1, 1.02), xticks=[0, 0.5, 1], ylim=(len(events) - 0.5, -0.5))
            axis.axvline(0, color=GREY, linewidth=0.8)
        axes[0].set_yticks(range(len(events)), [_words(event) for event in events])
        figure.supxlabel(f"Contraction of the effects at grade {grade}: 0 is all prior, 1 is learned", fontsize=9)
        _legend(figure, {WORDS[s]: SOURCES[s] for s in SOURCES if s in set(mean["source"])})
    return figure


def plot_prior(table: pd.DataFrame, *, quantity: str = "cohort risk", grade: str = "3-5") -> Any:
    """Prior against posterior of one quantity, event by event.

    Parameters
    ----------
    table
        From `prior_predictive_table`.
    quantity, grade
        Which rows of it to draw.

    Returns
    -------
    matplotlib.figure.Figure
        Medians and intervals, prior and posterior; published rates as crosses where there are any.

    Raises
    ------
    ValueError
        The table has no such quantity.
    """
    rows = table[(table["quantity"] == quantity) & (table["grade"] == grade)].reset_index(drop=True)
    if rows.empty:
        known = ", ".join(dict.fromkeys(table["quantity"]))
        raise ValueError(f"quantity: nothing to draw for {quantity!r} at grade {grade!r}; choose from {known}")
    with _figure(1, 1, (6.2, 0.32 * len(rows) + 1.5)) as (figure, axes):
        axis = axes[0]
        y = np.arange(len(rows))
        for name, colour, shift in (("prior", GREY, -0.14), ("posterior", SOURCES["data"], 0.14)):
            axis.hlines(y + shift, rows[f"{name}_lower"], rows[f"{name}_upper"], color=colour, linewidth=2)
            axis.plot(rows[f"{name}_median"], y + shift, "o", color=colour, label=name, markersize=5)
        if rows["published"].notna().any():
            axis.plot(rows["published"], y + 0.14, "x", color="black", label="published", markersize=6)
        if quantity.startswith("odds ratio"):
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter("")
            axis.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10])
            axis.set_xlim(0.8 * rows["prior_lower"].min(), 1.25 * rows["prior_upper"].max())
            axis.axvline(1, color=GREY, linewidth=0.8)
        axis.set_yticks(y, [_words(event) for event in rows["event"]])
        axis.set(ylim=(len(rows) - 0.5, -0.5), xlabel=f"{_words(quantity)}, grade {grade}")
        figure.legend(loc="outside upper right", ncols=3)
    return figure


def plot_calibration(table: pd.DataFrame, *, grade: str = "3-5") -> Any:
    """Observed against predicted frequencies with 50 % and 90 % predictive intervals.

    Parameters
    ----------
    table
        From `calibration_table`.
    grade
        Which grade to draw.

    Returns
    -------
    matplotlib.figure.Figure
        A line for each published frequency (derived ones are left out), events under their names.

    Raises
    ------
    ValueError
        The table has no such grade.
    """
    rows = _at_grade(table[~table["derived"]], grade).reset_index(drop=True)
    with _figure(1, 1, (6.4, 0.2 * len(rows) + 1.4)) as (figure, axes):
        axis = axes[0]
        y = np.arange(len(rows))
        for width, line in ((90, 1.5), (50, 4.0)):
            ends = [100 * rows[f"{end}{width}"] / rows["n"] for end in ("lower", "upper")]
            axis.hlines(y, *ends, color=SOURCES["data"], linewidth=line, alpha=0.6, label=f"{width} % predictive interval")
        axis.plot(100 * rows["observed_rate"], y, "o", color="black", markersize=4, label="published")
        first = ~rows["event"].duplicated()
        labels = np.where(first, rows["event"].map(_words) + ":  " + rows["level"], rows["level"])
        axis.set_yticks(y, labels)
        axis.set(ylim=(len(rows) - 0.5, -0.5), xlabel=f"Patients with the event at grade {grade}, per cent")
        figure.legend(loc="outside upper right", ncols=3)
    return figure


def _at_grade(table: pd.DataFrame, grade: str) -> pd.DataFrame:
    rows = table[table["grade"] == grade]
    if rows.empty:
        raise ValueError(f"grade: nothing to draw at grade {grade!r}; choose from {', '.join(dict.fromkeys(table['grade']))}")
    return rows


@contextmanager
def _figure(rows: int, columns: int, size: tuple[float, float], **options: Any) -> Iterator[tuple[Any, Any]]:
    """A figure in the package's style, kept out of pyplot's list so that notebooks show it once."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, np.atleast_1d(figure.subplots(rows, columns, **options))


def _legend(figure: Any, colours: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, marker="o", label=label) for label, colour in colours.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), fontsize=8)


def _words(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]
