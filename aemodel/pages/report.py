"""The report: one web page, printable, that tells what a model is, what it rests on, and how far to believe it."""

from __future__ import annotations

from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from aemodel.pages.render import card, check_page, write_page
from aemodel.pages.report_contrasts import contrasts
from aemodel.pages.report_data import ReportData, check_comparable, gather
from aemodel.pages.report_evidence import evidence
from aemodel.pages.report_published import calibration, diagnostics, discrepancies, frequencies
from aemodel.pages.report_support import identification, prior, sensitivity, uncertainty
from aemodel.publication.arguments import path_in, whole_number
from aemodel.publication.errors import InputError

MARKDOWN = MarkdownIt("zero").enable(["list", "backticks"])
"""The card's few kinds of Markdown: paragraphs, lists and code spans; a publication's words can make nothing else."""
STYLES = ("theme.css", "report.css")
WHAT_IT_IS = ("Model details", "Source of data", "Participants", "Outcome", "Predictors", "Missing data", "Analytical methods")
LIMITS = ("Intended use", "Out-of-scope use", "Uncertainty", "Fairness", "Limitations", "Registration and availability")
SECTIONS = {
    "frequencies": ("Published frequencies", frequencies),
    "discrepancies": ("Discrepancies in the publication", discrepancies),
    "diagnostics": ("Sampler diagnostics", diagnostics),
    "calibration": ("Calibration", calibration),
    "evidence": ("Evidence beside the margins", evidence),
    "identification": ("What is data and what is prior", identification),
    "prior": ("Prior check", prior),
    "sensitivity": ("Sensitivity to the priors", sensitivity),
    "tables": ("How covariates go together", uncertainty),
    "contrasts": ("What if", contrasts),
}


def write_report(model: Any, path: str | Path, compare: Any = None, *, tables: int = 20) -> Path:
    """Write a report of a model: one self-contained web page, readable on a screen of any width and on paper.

    The page needs no network and no server, and has no script; it forbids itself all of them. It takes half a minute or
    more, with what is being worked out shown on stderr in a terminal.

    Parameters
    ----------
    model
        From `load_model` or `fit`.
    path
        The page, ending in ``.html``; what is there is replaced, once the new page is whole.
    compare
        Another fit of the same publication, with or without some of its evidence, to show beside this one.
    tables
        How many tables of the covariates to draw for `table_uncertainty`, about a second each; 0 leaves that section out.

    Returns
    -------
    Path
        Where the page is.

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be, or the two models speak of different things.
    OSError
        The path is a folder, its folder is not there, or it cannot be written; what was there stays.
    """
    path = path_in("path", path)
    check_page(model, path)
    if compare is not None:
        check_comparable(model, compare)
    if (tables := whole_number("tables", tables, -1)) in (-1, 1):
        raise InputError("tables", f"expected 0, or 2 or more, not {tables}")
    write_page(path, "report.html", STYLES, **_parts(gather(model, compare, tables)))
    return path


def _parts(data: ReportData) -> dict[str, Any]:
    sections = dict(part.split("\n\n", 1) for part in card(data.facts).split("\n## ")[1:])
    made = {key: (title, make(data)) for key, (title, make) in SECTIONS.items()}
    parts = {"what": ("What it is", _card(sections, WHAT_IT_IS)), **made, "limits": ("Limits of use", _card(sections, LIMITS))}
    about, facts = data.tables.about, data.facts
    failed = escape("; ".join(facts["diagnostics"]["failures"]))
    return {
        "title": about.title,
        "setting": f"Model {facts['name']}, {facts['patients']} patients. {about.setting}",
        "failed": failed and f'<p class="warning"><strong>The sampler failed its checks.</strong> {failed}.</p>',
        "contents": "\n".join(f'<li><a href="#{key}">{escape(title)}</a></li>' for key, (title, _) in parts.items()),
        "sections": "\n".join(_section(key, *part) for key, part in parts.items()),
        "made": f"Written by aemodel {version('aemodel')}.",
    }


def _section(key: str, title: str, body: str) -> str:
    return (
        f'<section id="{key}" aria-labelledby="{key}-heading">\n<h2 id="{key}-heading">{escape(title)}</h2>\n{body}</section>'
    )


def _card(card: dict[str, str], headings: tuple[str, ...]) -> str:
    # The card escapes one character, for readers of Markdown that take HTML for HTML; this one escapes all.
    return "".join(f"<h3>{escape(heading)}</h3>\n{MARKDOWN.render(card[heading].replace('&lt;', '<'))}" for heading in headings)
