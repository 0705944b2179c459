"""Pieces of a report's page, as HTML: paragraphs, and figures and tables that scroll by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from aemodel.pages.svg import figure_svg
from aemodel.publication.markup import html_table


def figure(drawing: Any, name: str, caption: str) -> str:
    svg = figure_svg(drawing, f"figure-{name}", caption)
    return f"<figure>\n{_scrolling(svg, caption)}\n<figcaption>{escape(caption)}</figcaption>\n</figure>\n"


def table(rows: Sequence[Mapping[str, Any]], caption: str, *, grouped: bool = False) -> str:
    return _scrolling(html_table(rows, caption, grouped=grouped), caption) + "\n"


def _scrolling(inner: str, label: str) -> str:
    """What may be wider than a phone scrolls by itself, by keyboard too."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">\n{inner}\n</div>'


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>\n"


def heading(text: str) -> str:
    return f"<h3>{escape(text)}</h3>\n"


def grades(rows: pd.DataFrame) -> list[str]:
    return sorted(set(rows["grade"]) - {"5"})
