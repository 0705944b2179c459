"""Plain HTML of tables, for pages and for notebooks: no style of its own, every text escaped.

Made here rather than by a library for tables: those put styles on every cell, which the policy of a page forbids, and
know nothing of dark mode or paper.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

Rows = Sequence[Mapping[str, Any]]
SHORT = 24
"""Characters of texts that stand in one line."""
_NUMBER = re.compile(r"\s*(fewer than |more than |[<>])?[-+\u2212]?\d")


def html_table(rows: Rows, caption: str = "", *, grouped: bool = False) -> str:
    """A table with a column for each key of the first row; columns that hold numbers stand to the right.

    With ``grouped``, equal neighbours in the first column become one cell beside all their rows.
    """
    names = list(rows[0]) if rows else []
    kinds = {name: _kind([str(row[name]) for row in rows]) if i else "" for i, name in enumerate(names)}
    head = "".join(f'<th scope="col"{kinds[name]}>{escape(name)}</th>' for name in names)
    body = []
    for _, group in groupby(enumerate(rows), key=lambda item: str(item[1][names[0]]) if grouped else item[0]):
        lines = [row for _, row in group]
        first = f'<th scope="rowgroup" rowspan="{len(lines)}">' if len(lines) > 1 else '<th scope="row">'
        cells = ["".join(f"<td{kinds[n]}>{escape(str(row[n]))}</td>" for n in names[1:]) for row in lines]
        cells[0] = f"{first}{escape(str(lines[0][names[0]]))}</th>{cells[0]}"
        body.append("".join(f"<tr>{line}</tr>\n" for line in cells))
    inner = "".join(f"<tbody>\n{group}</tbody>\n" for group in body) if grouped else f"<tbody>\n{''.join(body)}</tbody>\n"
    title = f"<caption>{escape(caption)}</caption>\n" if caption else ""
    return f"<table>\n{title}<thead>\n<tr>{head}</tr>\n</thead>\n{inner}</table>"


def per_cent(share: float) -> str:
    """A share in per cent, with one decimal where it is below ten."""
    value = 100 * share
    return f"{value:.1f} %" if value < 9.95 else f"{value:.0f} %"


def in_range(middle: float, lower: float, upper: float) -> str:
    """A risk and its interval in per cent."""
    return f"{per_cent(middle)} ({per_cent(lower).removesuffix(' %')} to {per_cent(upper).removesuffix(' %')})"


def _kind(texts: Sequence[str]) -> str:
    """The class of a column's cells: numbers, short texts, or neither."""
    if all(_NUMBER.match(text) for text in texts if text):
        return ' class="number"'
    return ' class="short"' if all(len(text) <= SHORT for text in texts) else ""
