"""A saved model's facts as lines of plain text, for a terminal or a pipe."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from aemodel.pages.errors import printable

WIDTH = 100


def shown(facts: Mapping[str, Any]) -> str:
    """The facts of `aemodel.pages.description.model_facts` as text; control characters of a hostile model are escaped."""
    source, data = facts["source"], facts["data"]
    by = ", ".join(f"{name} {count}" for name, count in data["by"].items())
    sections = {
        facts["name"]: [
            *source.values(),
            f"N = {facts['patients']} patients; {data['frequencies']} published frequencies in the fit ({by}); "
            f"{data['discrepancies']} discrepancies recorded",
            f"data digest {data['digest']}",
        ],
        "Covariates": [line for covariate in facts["covariates"] for line in _covariate(covariate)],
        "Columns from which covariates follow": [_column(column) for column in facts["columns"]],
        f"Events, at grades {' and '.join(facts['grades'])}": [_event(event) for event in facts["events"]],
        "Diagnostics": [facts["diagnostics"]["verdict"], f"worst parameter {facts['diagnostics']['worst']}"],
        "Consistency with the publication (no validation: the model saw these rows)": [_performance(facts["performance"])],
        "Settings": _flat(facts["settings"]),
        "Versions": [", ".join(_flat(facts["versions"]))],
        "Limits": [*_limits(facts), *facts["notes"]],
        f"Files, format {facts['format']}, {facts['samples']} risk draws": [
            *(f"{file['name']}  {file['bytes']:,} bytes  {file['state']}" for file in facts["files"].values()),
            f"model digest {facts['digest']}",
        ],
    }
    return "\n\n".join("\n".join([printable(title), *_lines(lines)]) for title, lines in sections.items() if lines)


def _covariate(covariate: Mapping[str, Any]) -> list[str]:
    levels = [f"  {level['name']}: {level['label']}; {level['patients']} patients" for level in covariate["levels"]]
    raw = f", or from {', '.join(covariate['worked_out_from'])}" if covariate["worked_out_from"] else ""
    rests = ", ".join(f"{flag} {count}" for flag, count in covariate["rests_on"].items() if count)
    pairs = sum(covariate["rests_on"].values())
    return [f"{covariate['label']} ({covariate['name']}{raw}). Effects on {pairs} events and grades rest on: {rests}", *levels]


def _column(column: Mapping[str, Any]) -> str:
    label = f"{column['label']}; " if column["label"] else ""
    return f"{column['name']}: {label}values: {column['values']}"


def _event(event: Mapping[str, Any]) -> str:
    inside = f" ({event['relation']} in {event['parent']})" if event["parent"] else ""
    return f"{event['name']}: {event['label']}{inside}; published at {', '.join(event['published_grades']) or 'no grade'}"


def _performance(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not recorded in this format: see `aemodel check`"
    return (
        f"{found['within90']:.0%} of {found['rows']} published frequencies lie in their 90 % predictive interval, "
        f"{found['within50']:.0%} in their 50 % one"
    )


def _limits(facts: Mapping[str, Any]) -> list[str]:
    alone = [c["label"] for c in facts["covariates"] if not c["rests_on"]["data"] and not c["rests_on"]["pooled"]]
    rests = [f"Differences by {label} rest on no count: no event is tabulated by it." for label in alone]
    return ["Not for treatment decisions; no external cohort has been scored.", *rests]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings however nested, one line each."""
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            lines += _flat(value, f"{prefix}{key}.")
        else:
            lines.append(f"{prefix}{key} {value}")
    return lines


def _lines(lines: Sequence[str]) -> list[str]:
    wrapped = []
    for line in lines:
        wrapped += textwrap.wrap(
            printable(str(line)),
            WIDTH,
            initial_indent="  ",
            subsequent_indent="      ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return wrapped
