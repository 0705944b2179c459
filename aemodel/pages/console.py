"""Rows on stdout: aligned, in colour on a terminal, plain in a pipe; JSON or CSV for programs. Light.

People are shown no character that gives a terminal orders; programs are given the data as they are.
"""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import click

from aemodel.pages.errors import options_as_typed, printable
from aemodel.scoring.csv_files import neutralised
from aemodel.scoring.progress import is_terminal

Rows = Iterable[dict[str, Any]]
WIDTH = 100
"""Characters to which running text is wrapped, or the terminal's if it has fewer."""
FOLD = 12
"""Characters after which texts of a table too wide for the terminal go on in a second line."""
GAP = 2
"""Spaces between columns."""
ENDS = ("risk", "lower", "upper")
MOST_SHOWN = 20
"""Patients whose risks are printed without being asked for a file."""


def print_rows(rows: Rows, form: str, title: str = "", names: Sequence[str] = ()) -> None:
    """Rows as a ``table`` under a title, or one by one as ``json`` or ``csv``, of which ``names`` head no rows at all."""
    if form == "json":
        _print_json(iter(rows))
    elif form == "csv":
        _print_csv(iter(rows), names)
    elif is_terminal(sys.stdout):
        _print_rich(list(rows), title)
    else:
        click.echo(_cell(title))
        _print_plain(list(rows))


def _print_csv(rows: Iterator[dict[str, Any]], names: Sequence[str]) -> None:
    """Exact in a file or a pipe; on a terminal as people are shown it."""
    writer, shown = csv.writer(sys.stdout, lineterminator="\n"), is_terminal(sys.stdout)
    first = next(rows, None)
    head: list[list[Any]] = [list(names)] if first is None else [list(first), list(first.values())]
    for line in chain(filter(None, head), (list(row.values()) for row in rows)):
        cells = map(neutralised, line)
        writer.writerow([printable(cell) if shown and isinstance(cell, str) else cell for cell in cells])
    sys.stdout.flush()


def _print_json(rows: Iterator[dict[str, Any]]) -> None:
    """A list of objects; numbers that are none, which JSON does not have, are null."""
    before = "["
    for row in rows:
        finite = {name: None if isinstance(cell, float) and not math.isfinite(cell) else cell for name, cell in row.items()}
        text = json.dumps(finite, indent=1, default=str, allow_nan=False).replace("\n", "\n ")
        click.echo(f"{before}\n {text}", nl=False)
        before = ","
    click.echo("[]" if before == "[" else "\n]")


def print_wrapped(text: str, indent: str = "") -> None:
    """Running text; after the first line it hangs by two more than the indent's bullet."""
    from shutil import get_terminal_size

    width = min(WIDTH, get_terminal_size((WIDTH, 24)).columns)
    click.echo(click.wrap_text(printable(text), width=width, initial_indent=indent, subsequent_indent=" " * len(indent)))


def print_markdown(text: str) -> None:
    """Laid out on a terminal; in a pipe as it is written, but for what only a reader of HTML needs."""
    if is_terminal(sys.stdout):
        from rich.console import Console
        from rich.markdown import Markdown

        Console(width=min(WIDTH, Console().width)).print(Markdown(printable(text)))
    else:
        click.echo(printable(text.replace("&lt;", "<")), nl=False)


def print_risks(rows: list[dict[str, Any]], patients: int, risks: Any, interval: float) -> None:
    """A block for each of the first of so many patients: risks in per cent with intervals, and what carries them."""
    shown = [g for g in risks.grades if any(name.endswith(f"_{risks.short(g)}_risk") for name in (rows[0] if rows else ()))]
    own = [name for name in (rows[0] if rows else ()) if not any(name.startswith(f"{event}_") for event in risks.events)]
    for number, row in enumerate(rows, start=1):
        about = ", ".join(f"{name} {row[name]}" for name in own if row[name] is not None)
        lines = []
        for event in risks.events:
            if f"{event}_support" in row:
                ends = {grade: [row[f"{event}_{risks.short(grade)}_{what}"] for what in ENDS] for grade in shown}
                line = {"event": event} | {f"grade {grade}": _in_words(*values) for grade, values in ends.items()}
                lines.append(line | {"support": row[f"{event}_support"]})
        print_rows(lines, "table", f"Patient {number}: {about}")
    if patients > MOST_SHOWN:
        click.echo(f"... and {patients - MOST_SHOWN} more patients: name an output file to have them all.")
    print_wrapped(
        f"Posterior mean risk with {100 * interval:g}% interval. Support, what sets this answer apart from the cohort's: "
        "data = counts, of this event above all; pooled = counts, of others above all; prior = mostly assumptions."
    )
    if rows and len(shown) > 1:
        print_wrapped(
            f"The support shown is the weakest of grades {' and '.join(shown)}; --grades {shown[0]} gives that of one grade."
        )


def counts_in_words(summary: dict[str, Any], done: str, new_levels: str, values: list[str]) -> list[str]:
    """From `score_summary`: who was left out or has a new level, and why; what is missing; and ``values``, examples of these.

    A line each; none but the first, if there is nothing to tell.
    """
    rows, scored, columns = summary["rows"], summary["scored"], summary["columns"].items()
    left_out = ("invalid", "new") if new_levels == "error" else ("invalid",)
    invalid, new = _listed(columns, *left_out), _listed(columns, *{"invalid", "new"}.difference(left_out))
    said = f"{rows} patients {done}" if scored == rows else f"{scored} of {rows} patients {done}; {rows - scored} invalid"
    said += f" ({invalid})" if invalid else ""
    lines = [said + (f"; with a level the publication does not have: {new}" if new else "") + "."]
    if missing := _listed(columns, "missing"):
        lines.append(f"Missing, and averaged over: {missing}.")
    if summary["unknown"]:
        lines.append(f"Nothing is known of {summary['unknown']} patients: theirs is the cohort's average.")
    return [*lines, *map(options_as_typed, values), *(["Rows are counted from 0."] if values else [])]


def _listed(columns: Iterable[tuple[str, dict[str, int]]], *kinds: str) -> str:
    rows = ((name, sum(of[kind] for kind in kinds)) for name, of in columns)
    return ", ".join(f"{name} {number}" for name, number in rows if number)


def _in_words(risk: float | None, lower: float | None, upper: float | None) -> str:
    if risk is None or lower is None or upper is None:
        return ""
    return f"{risk:6.1%} ({lower:.1%} to {upper:.1%})"


def _print_plain(rows: list[dict[str, Any]]) -> None:
    names = list(rows[0]) if rows else []
    widths = {name: max(len(_cell(name)), *(len(_cell(row.get(name, ""))) for row in rows)) for name in names}
    for row in [dict(zip(names, names, strict=True)), *rows]:
        click.echo("  " + "  ".join(_padded(row.get(name, ""), widths[name]) for name in names).rstrip())
    click.echo()


def _padded(value: Any, width: int) -> str:
    return _cell(value).rjust(width) if isinstance(value, (int, float)) else _cell(value).ljust(width)


def _cell(value: Any) -> str:
    """A value in one line; none at all is said in words, which no value is likely to be."""
    return "(not known)" if value is None else printable(re.sub(r"[\r\n\t]+", " ", str(value)))


def _print_rich(rows: list[dict[str, Any]], title: str) -> None:
    """Where the terminal is too narrow for all, long texts go on in a second line; numbers never do."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    names = list(rows[0]) if rows else []
    cells = {name: [_cell(row.get(name, "")) for row in rows] for name in names}
    width = sum(max(len(_cell(name)), *map(len, cells[name])) + GAP for name in names)
    if width > console.width + GAP:
        cells = {name: [_folded(cell) for cell in column] for name, column in cells.items()}
    table = Table(
        title=Text(_cell(title)), title_justify="left", box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0)
    )
    for name in names:
        number = isinstance(rows[0][name], (int, float))
        table.add_column(Text(_cell(name)), justify="right" if number else "left", no_wrap=number, overflow="fold")
    for line in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, line))
    console.print(table)
    click.echo()


def _folded(text: str) -> str:
    """A long text in lines, broken after spaces and underscores."""
    lines = [""]
    for part in re.findall(r"[^ _]*[ _]?", text):
        if lines[-1] and len(lines[-1] + part.rstrip()) > FOLD:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip(" ") for line in lines)
