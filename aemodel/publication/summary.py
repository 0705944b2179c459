"""A publication's frequencies at a glance: grades side by side, and a table for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from aemodel.publication.markup import html_table
from aemodel.publication.schema import Frequency


def frequency_lines(rows: Sequence[Frequency]) -> list[dict[str, Any]]:
    """One line for each event and level, from `Tables.rows`: n, and a column for each grade."""
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row.event, row.covariate, row.level)
        line = lines.setdefault(key, {"event": key[0], "covariate": key[1], "level": key[2], "n": row.n})
        line[f"grade {row.grade}"] = f"{in_words(row)}{' (sum)' if row.derived else ''}"
    grades = sorted({name for line in lines.values() for name in line if name.startswith("grade")})
    return [
        {**{k: line[k] for k in ("event", "covariate", "level", "n")}, **{g: line.get(g, "") for g in grades}}
        for line in lines.values()
    ]


def in_words(row: Frequency) -> str:
    """Patients with the event, and their share where it is known."""
    if row.exact:
        return f"{row.observed_low} ({row.observed_low / row.n:.1%})" if row.n else "0 of 0"
    return f"{row.observed_low}-{row.observed_high}"


def tables_html(tables: Any) -> str:
    """A publication in a notebook: what it is, and each event's frequency in the whole cohort."""
    totals = {(row.event, row.grade): in_words(row) for row in tables.rows if row.covariate == "total"}
    labels = {c.name: c.label for c in tables.covariates}
    lines = []
    for event in tables.events:
        given = dict.fromkeys(row.covariate for row in tables.rows if row.event == event.name and row.covariate != "total")
        line: dict[str, Any] = {"Event": event.label}
        line |= {f"Grade {grade}": totals.get((event.name, grade), "") for grade in tables.grades}
        lines.append(line | {"Published by": ", ".join(labels.get(name, name) for name in given) or "total only"})
    said = [(len(tables.orderings), "ordering"), (len(tables.nulls), "test not significant or not listed")]
    beside = "; ".join(f"{number} x {what}" for number, what in said if number)
    caption = (
        f"{tables.name}: {tables.n} patients, {len(tables.rows)} frequencies "
        f"({sum(not row.derived for row in tables.rows)} in the likelihood), "
        f"{len(tables.known_discrepancies)} discrepancies" + (f"; beside them {beside}" if beside else "")
    )
    return f"<p>{escape(tables.about.title)}</p>\n{html_table(lines, caption)}"
