"""A publication's frequencies at a glance: grades side by side, and a table for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from msgspec.structs import replace

from aemodel.publication.cutoffs import Unseen, read_cutoffs
from aemodel.publication.errors import Faults
from aemodel.publication.grades import class_numbers, grade_bounds
from aemodel.publication.markup import html_table
from aemodel.publication.schema import Frequency
from aemodel.publication.texts import between, listed
from aemodel.publication.words import words_of

MOST_LINES = 40


def frequency_lines(tables: Any) -> list[dict[str, Any]]:
    """One line for each event and level of a publication: n, and a column for each grade, the outermost first."""
    rows, place = tables.rows, class_numbers(tables.classes)
    given = sorted({row.grade for row in rows}, key=lambda grade: (grade_bounds(grade, place)[0], grade not in place, grade))
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        about = {"event": row.event, "covariate": row.covariate, "level": row.level}
        line = lines.setdefault((*about.values(),), about | {"n": row.n} | {f"grade {grade}": "" for grade in given})
        line[f"grade {row.grade}"] = f"{in_words(row)}{' (sum)' if row.derived else ''}"
    return list(lines.values())


def in_words(row: Frequency) -> str:
    """Patients with the event, and their share where it is known."""
    if row.exact:
        return f"{row.observed_low} ({row.observed_low / row.n:.1%})" if row.n else "0 of 0"
    return between(row.observed_low, row.observed_high)


def interval_lines(tables: Any) -> list[str]:
    """Which printed rows leave more than one count possible, a line each, at most `MOST_LINES`."""
    rows = sorted((row for row in tables.rows if row.line and not row.exact and not row.derived), key=lambda row: row.line)
    lines = [f"line {row.line}, {' '.join(row.key)}: printed {row.printed}, {in_words(row)} of {row.n}" for row in rows]
    return lines[:MOST_LINES] + ([f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else [])


def uncounted_lines(tables: Any) -> list[str]:
    """Covariates by which no event is counted: effects rest on the prior and what is said in words. Columns without a use."""
    uncounted = [c.name for c in tables.covariates if c.name not in tables.counted]
    unused = [*{*tables.about.columns} - {column for c in tables.covariates for column in c.raw_columns}]
    return [f"No event is counted by {name}: risks by it rest on assumptions" for name in uncounted] + [
        f"Of [columns], {listed(sorted(unused))} is in no level's when: patients are not told apart by it"
    ] * bool(unused)


def unit_lines(tables: Any) -> list[str]:
    """Where levels of one table have numbers in both units, which a slip makes of a percentage."""
    units: dict[tuple[str, ...], dict[str, int]] = {}
    for row in tables.rows:
        if row.line and row.printed.strip("0. ").replace(".", "").isdigit():
            units.setdefault(row.key[:3], {}).setdefault(row.unit, row.line)
    return [
        f"Lines {min(lines.values())} and {max(lines.values())}, {event} {grade} by {covariate}, are a count beside a "
        "percentage: is the unit right?"
        for (event, grade, covariate), lines in units.items()
        if len(lines) > 1
    ]


def cutoff_lines(tables: Any) -> list[str]:
    """For each cutoff the events it selected, the rows that are absent, and what the likelihood does with either."""
    printed = [row for row in tables.rows if row.line and not row.derived]
    lines = []
    for i, cutoff in enumerate(tables.about.cutoffs, start=1):
        alone = replace(tables.about, cutoffs=(cutoff,))
        absent, selected = read_cutoffs(printed, tables.events, alone, tables.counts, Faults())
        by_level = [f"{' '.join(row.key)} ({in_words(row)} of {row.n})" for row in absent]
        by_event = [f"{each.event} {each.grade} by {each.covariate}" for each in selected]
        said = [f"absent, so below it, summed over these counts (censored): {listed(by_level, 8)}"] if absent else []
        said += [f"selected by it, given that one level reached it (truncated): {listed(by_event, 8)}"] if selected else []
        said += [f"nearest to it: {near}"] if (near := _nearest(printed, selected, cutoff.unit)) else []
        name = f"cutoffs[{i}], below {cutoff.below:g} {cutoff.unit}, {cutoff.rule}"
        lines += [f"{name}: {'; '.join(said) or 'nothing is absent, so that it tells nothing'}"]
    return lines


def _nearest(printed: Sequence[Frequency], selected: Sequence[Unseen], unit: str) -> str:
    """Of the events that a cutoff selected the one that reached it least, at its highest level: a wrong unit shows."""
    highest = []
    for each in selected:
        mine = [row for row in printed if row.key[:3] == each[:3] and row.n]
        sizes = [row.observed_high / row.n if unit == "percent" else row.observed_high for row in mine]
        highest.append((top := max(sizes), mine[sizes.index(top)]))
    if not highest:
        return ""
    row = min(highest, key=lambda pair: pair[0])[1]
    ends = dict.fromkeys((row.observed_low, row.observed_high))
    shares = dict.fromkeys(f"{count / row.n:.1%}" for count in ends)
    return f"{' '.join(row.key)}, {'-'.join(map(str, ends))} of {row.n} ({' to '.join(shares)})"


def tables_html(tables: Any) -> str:
    """A publication in a notebook: what it is, and each event's frequency in the whole cohort."""
    totals = {(row.event, row.grade): in_words(row) for row in tables.rows if row.covariate == "total"}
    words = words_of(tables)
    lines = []
    for event in tables.events:
        given = dict.fromkeys(row.covariate for row in tables.rows if row.event == event.name and row.covariate != "total")
        line: dict[str, Any] = {"Event": event.label}
        line |= {words.grade(grade): totals.get((event.name, grade), "") for grade in tables.grades}
        lines.append(line | {"Published by": ", ".join(map(words.covariate, given)) or "total only"})
    said = [(len(tables.orderings), "ordering"), (len(tables.nulls), "test not significant or not listed")]
    beside = "; ".join(f"{number} x {what}" for number, what in said if number)
    caption = (
        f"{tables.name}: {tables.n} patients, {len(tables.rows)} frequencies "
        f"({sum(not row.derived for row in tables.rows)} in the likelihood), "
        f"{len(tables.known_discrepancies)} discrepancies" + (f"; beside them {beside}" if beside else "")
    )
    return f"<p>{escape(tables.about.title)}</p>\n{html_table(lines, caption)}"
