"""A publication's frequencies at a glance: grades side by side, and a table for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from aemodel.publication.events import GRADES
from aemodel.publication.markup import html_table

Rows = list[dict[str, Any]]


def frequency_lines(rows: Sequence[Mapping[str, Any]]) -> Rows:
    """One line for each event and level, from records of `Tables.frequencies`: n, and a column for each grade."""
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row["event"], row["covariate"], row["level"])
        line = lines.setdefault(key, {"event": key[0], "covariate": key[1], "level": key[2], "n": row["n"]})
        line[f"grade {row['grade']}"] = (
            f"{row['observed']} ({row['observed'] / row['n']:.1%}){' (sum)' if row['derived'] else ''}"
        )
    grades = sorted({name for line in lines.values() for name in line if name.startswith("grade")})
    return [
        {**{k: line[k] for k in ("event", "covariate", "level", "n")}, **{g: line.get(g, "") for g in grades}}
        for line in lines.values()
    ]


def tables_html(tables: Any) -> str:
    """A publication in a notebook: what it is, and each event's frequency in the whole cohort."""
    rows = tables.frequencies
    totals = {
        (r.event, r.grade): f"{r.observed} ({r.observed / r.n:.1%})" for r in rows[rows["covariate"] == "total"].itertuples()
    }
    labels = {c.name: c.label for c in tables.covariates}
    lines = []
    for event in tables.events:
        given = dict.fromkeys(rows[(rows["event"] == event.name) & (rows["covariate"] != "total")]["covariate"])
        line: dict[str, Any] = {"Event": event.label}
        line |= {f"Grade {grade}": totals.get((event.name, grade), "") for grade in GRADES}
        lines.append(line | {"Published by": ", ".join(labels[name] for name in given) or "total only"})
    said = [(len(tables.orderings), "ordering"), (len(tables.nulls), "test not significant or not listed")]
    beside = "; ".join(f"{number} x {what}" for number, what in said if number)
    caption = (
        f"{tables.name}: {tables.n} patients, {len(rows)} frequencies ({int((~rows['derived']).sum())} in the likelihood), "
        f"{len(tables.discrepancies)} discrepancies" + (f"; beside them {beside}" if beside else "")
    )
    return f"<p>{escape(str(tables.about['title']))}</p>\n{html_table(lines, caption)}"
