"""How every figure looks: one palette, colour-blind safe, and legible on light and on dark.

Colours follow Okabe and Ito (2008), darkened where they stood out less than 3 to 1 from either background; whatever a
colour tells, a shape tells too.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from aemodel.publication.words import Words, words_of

INK = "#1b2026"
SOFT = "#767676"
BLUE = "#0072b2"
COLOURS = (BLUE, "#d55e00", "#009e73", "#b85c93", "#8c6d1f", "#767676")
MARKERS = ("o", "s", "^", "D", "v", "P")

SOURCES = {
    "data": (BLUE, "o", "data: its own published rows"),
    "pooled": ("#009e73", "s", "pooled: other published rows"),
    "prior": ("#d55e00", "v", "prior: assumptions"),
}
"""Colour, marker and words of what an answer rests on."""

LINE = 0.15
"""Inches that a line of text takes."""
MOST_LINES = 12

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": SOFT,
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "figure.dpi": 110,
    "font.family": "sans-serif",
    "font.size": 9,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "savefig.bbox": "standard",
    "text.color": INK,
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
    "ytick.left": False,
}


def wrapped(text: str, width: int, lines: int = MOST_LINES) -> str:
    """Text in lines, cut only where it would need more than ``lines``; a dollar sign is no formula's."""
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" ...")).replace("$", r"\$")


def row_height(least: float, names: Iterable[str], rows: Iterable[int] = ()) -> float:
    """Inches of a row, so that no name of one, or of the number of ``rows`` given, runs into the next."""
    sizes = list(rows) or itertools.repeat(1)
    return max([least, *(LINE * (1 + name.count("\n")) / size for name, size in zip(names, sizes, strict=False))])


@contextmanager
def drawn(rows: int, columns: int, size: tuple[float, float], **options: Any) -> Iterator[tuple[Any, Any]]:
    """A figure of ``size`` (inches) in the package's style, kept out of pyplot's list so that notebooks show it once."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, np.atleast_1d(figure.subplots(rows, columns, **options))


def legend_above(figure: Any, handles: list[Any], columns: int = 3) -> None:
    """A legend in a place of its own above the axes, where it can cover nothing."""
    figure.legend(handles=handles, loc="outside upper left", ncols=min(columns, len(handles)), handletextpad=0.5)


def key(label: str, **look: Any) -> Any:
    """A legend's entry."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **look)


def table_and_words(given: Any, make: Callable[[Any], pd.DataFrame], labels: Any) -> tuple[pd.DataFrame, Words]:
    """The table as given, or made of the model that is given, whose words are used unless other ``labels`` are."""
    if isinstance(given, pd.DataFrame):
        return given, words_of(labels)
    return make(given), words_of(given if labels is None else labels)


def look_of(colour: str, marker: str, source: str) -> dict[str, Any]:
    """How a mark and its line look: hollow and dotted where they rest on assumption."""
    assumed = source == "prior"
    face, line = ("none", ":") if assumed else (colour, "-")
    return {"color": colour, "marker": marker, "markerfacecolor": face, "linestyle": line, "markersize": 6}


def shade_groups(axis: Any, sizes: Sequence[float], start: float = 0) -> None:
    """Every second group of rows on a faint band, so that eyes keep to their line."""
    for i, size in enumerate(sizes):
        if i % 2:
            axis.axhspan(start, start + size, color=SOFT, alpha=0.09, linewidth=0)
        start += size
