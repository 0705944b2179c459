"""How every figure looks: one palette, colour-blind safe, and legible on light and on dark.

Colours follow Okabe and Ito (2008), darkened where they stood out less than 3 to 1 from either background; whatever a
colour tells, a shape tells too.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aemodel.publication.errors import InputError
from aemodel.publication.texts import listed
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
ACROSS = 9
"""Characters below axes for each inch of the figure: they may take up the right half of it only."""

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
    "lines.linewidth": 1.5,
    "lines.markersize": 6,
    "savefig.bbox": "standard",
    "text.color": INK,
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9,
    "ytick.left": False,
}


def wrapped(text: str, width: int, lines: int = MOST_LINES) -> str:
    """Text in lines, cut only where it would need more than ``lines``; a dollar sign is no formula's."""
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" ...")).replace("$", r"\$")


def row_height(least: float, names: Iterable[str], rows: Iterable[int] = ()) -> float:
    """Inches of a row, so that no name of one, or of the number of ``rows`` given, runs into the next."""
    sizes = list(rows) or itertools.repeat(1)
    return max([least, *(LINE * (1 + name.count("\n")) / size for name, size in zip(names, sizes, strict=False))])


@dataclass(frozen=True)
class Drawing:
    """Axes of a figure of the package's own, or the caller's, in whose figure nothing but them is touched."""

    axes: NDArray[Any]
    own: bool

    def name_rows(self, names: list[str]) -> None:
        """A row for each name, the first on top; beside several axes they stand once."""
        for axis in self.axes:
            axis.set_yticks(range(len(names)), names)
            axis.set_ylim(len(names) - 0.5, -0.5)
            if len(self.axes) > 1:
                axis.tick_params(labelleft=axis is self.axes[0])

    def across(self, label: str) -> None:
        """One label below all axes, in lines that are not cut."""
        label = wrapped(label, int(ACROSS * self.axes[0].figure.get_figwidth()))
        if self.own and len(self.axes) > 1:
            self.axes[0].figure.supxlabel(label, fontsize=STYLE["axes.labelsize"])
        else:
            self.axes[0].set_xlabel(label)

    def legend(self, handles: list[Any], columns: int = 3) -> None:
        """In a place of its own above the axes, where it can cover nothing; in a figure of the caller's, within the last."""
        if self.own:
            options = {"loc": "outside upper left", "ncols": min(columns, len(handles))}
            self.axes[0].figure.legend(handles=handles, handletextpad=0.5, **options)
        else:
            self.axes[-1].legend(handles=handles, handletextpad=0.5)


@contextmanager
def drawn(ax: Any, size: tuple[float, float], panels: int = 1, **options: Any) -> Iterator[Drawing]:
    """A row of ``panels`` to draw in, of a new figure of ``size`` (inches) in the package's style, or those that ``ax`` are.

    These keep the caller's sizes and fonts.

    Raises
    ------
    ValueError
        ``ax`` has not as many as there are panels.
    """
    from matplotlib import pyplot, rc_context

    with rc_context(STYLE if ax is None else {name: value for name, value in STYLE.items() if "color" in name}):
        if ax is None:
            axes = pyplot.subplots(1, panels, squeeze=False, figsize=size, layout="constrained", **options)[1]
            yield Drawing(axes[0], own=True)
            return
        axes = np.array(ax, dtype=object).ravel()
        if len(axes) != panels:
            raise InputError("ax", f"expected {panels} axes, one for each panel, not {len(axes)}")
        yield Drawing(axes, own=False)


def key(label: str, **look: Any) -> Any:
    """A legend's entry."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **look)


def table_and_words(given: Any, make: Callable[[Any], pd.DataFrame], columns: str, labels: Any) -> tuple[pd.DataFrame, Words]:
    """The table as given, or made of the model that is given, whose words are used unless other ``labels`` are."""
    if not hasattr(given, "risks"):
        return checked(given, f"{make.__name__} returns, or a model", columns), words_of(labels)
    return make(given), words_of(given if labels is None else labels)


def checked(given: Any, maker: str, columns: str) -> pd.DataFrame:
    """A table that can be drawn, from pandas or what turns into it.

    Raises
    ------
    TypeError, ValueError
        It is none, or lacks one of the ``columns`` of the tables that its ``maker`` makes.
    """
    table = given.to_pandas() if hasattr(given, "to_pandas") else given
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table: expected what {maker}, not {type(given).__name__}")
    if missing := [name for name in columns.split() if name not in table]:
        raise InputError("table", f"expected what {maker}; it has no column {listed(missing)}")
    return table


def look_of(colour: str, marker: str, source: str) -> dict[str, Any]:
    """How a mark and its line look: hollow and dotted where they rest on assumption."""
    assumed = source == "prior"
    face, line = ("none", ":") if assumed else (colour, "-")
    return {"color": colour, "marker": marker, "markerfacecolor": face, "linestyle": line}


def shade_groups(axis: Any, sizes: Sequence[float], start: float = 0) -> None:
    """Every second group of rows on a faint band, so that eyes keep to their line."""
    for i, size in enumerate(sizes):
        if i % 2:
            axis.axhspan(start, start + size, color=SOFT, alpha=0.09, linewidth=0)
        start += size
