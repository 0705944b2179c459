"""The report: one web page, printable, that tells what a model is, what it rests on, and how far to believe it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from markdown_it import MarkdownIt
from markupsafe import Markup

from aemodel.answers.bounds import bounds_table
from aemodel.answers.calibration import calibration_slopes, calibration_table, coverage, differences_table
from aemodel.answers.contrasts import contrast_table, odds_ratio_table
from aemodel.answers.equation import model_equation
from aemodel.answers.evidence import DOUBTFUL, ordering_table, selection_table
from aemodel.answers.identification import COHORT, of_effects, of_profiles, prior_predictive_table, prior_risks
from aemodel.answers.plots import plot_calibration, plot_differences, plot_identification, plot_prior
from aemodel.answers.risk import profile_table, risk_table
from aemodel.answers.risk_plots import plot_effects, plot_profiles
from aemodel.answers.sensitivity import SENSITIVE, sensitivity_table, table_uncertainty
from aemodel.inference.record import evidence_words, make_manifest, null_words
from aemodel.pages import report_tables as rows
from aemodel.pages.description import cohort_sizes, model_facts, without
from aemodel.pages.render import card, check_comparable, check_page, write_page
from aemodel.pages.svg import figure_svg
from aemodel.publication.arguments import path_in, whole_number
from aemodel.publication.errors import InputError
from aemodel.publication.markup import html_table, per_cent
from aemodel.publication.words import Words, words_of
from aemodel.scoring.progress import waiting
from aemodel.scoring.risks import SUPPORT

MARKDOWN = MarkdownIt("zero").enable(["list", "backticks"])
"""The card's few kinds of Markdown: paragraphs, lists and code spans; a publication's words can make nothing else."""
STYLES = ("theme.css", "report.css")
DRAWS = 300
"""Draws of the model that are reweighted under each table of the covariates."""
PARTED = ("rows", "draw", "drawn_at")
"""What every part of the page adds to: rows of tables, figures to draw, and the grades at which."""
LESS = {
    ("selection",): "without tests not listed",
    ("ordering",): "without orderings",
    ("ordering", "selection"): "counts only",
}
"""What fits with fewer assumptions are called, by what they do without."""
NOTHING = 0.005
"""Bounds of a frequency this near to 0 and 1 allow anything."""
IMPLIED = {True: "as the publication states", False: "as is inferred from its not being listed"}
"""How a test is known to be not significant, by whether it was stated."""
MOST_ROWS = 30
"""Rows of a table of findings that are printed; the rest are counted."""


def write_report(model: Any, path: str | Path, compare: Any | Sequence[Any] = (), *, tables: int = 20) -> Path:
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
        Another fit of the same publication, or a list of them, with or without some of its evidence, to show beside this one:
        all of them in the table of risks that assumptions move most, the first in tables of evidence.
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
    others = [*compare] if isinstance(compare, (list, tuple)) else [] if compare is None else [compare]
    for other in others:
        check_comparable("compare", model, other)
    if (tables := whole_number("tables", tables, -1)) in (-1, 1):
        raise InputError("tables", f"expected 0, or 2 or more, not {tables}")
    write_page(path, "report.html", STYLES, **_page(model, others, tables))
    return path


def _page(model: Any, compare: Sequence[Any], tables: int) -> dict[str, Any]:
    """Everything the report's template tells of a model, worked out once; ``tables`` of the covariates are drawn."""
    words, publication, risks = words_of(model), model.tables, model.risks
    others = [_as_of(model, other) for other in compare]
    facts = _facts(model)
    parts = [
        _summary(model, words, facts, tables),
        _calibration(model, words),
        _evidence(model, others[0] if others else None, words),
        _identification(model, words),
        _bounds(model, words),
        _assumptions(model, others, words),
        _priors(model, words),
        _what_if(model, words),
        _between(model, words, tables),
        _equation(model, words),
    ]
    return {name: {key: value for part in parts for key, value in part.pop(name, {}).items()} for name in PARTED} | {
        **{key: value for part in parts for key, value in part.items()},
        "facts": facts,
        "about": publication.about,
        "words": words,
        "grades": risks.grades,
        "dated": date.today().isoformat(),
        "made": f"Written by aemodel {version('aemodel')}.",
        "card": dict(part.split("\n\n", 1) for part in card(facts).split("\n## ")[1:]),
        "counted_rows": sum(not row.derived for row in publication.rows),
        "checklist": rows.checklist(publication.about),
        "figure_svg": lambda *arguments: Markup(figure_svg(*arguments)),
        "html_table": lambda *arguments, **options: Markup(html_table(*arguments, **options)),
        "markdown": lambda text: Markup(MARKDOWN.render(text.replace("&lt;", "<"))),
        "per_cent": per_cent,
    }


def _summary(model: Any, words: Words, facts: dict[str, Any], tables: int) -> dict[str, Any]:
    publication, slopes = model.tables, None
    if tables:
        with waiting("Calibration slopes"):
            slopes = calibration_slopes(model, seed=1)
    found = {
        "key_risks": rows.key_risks(model.risks, words),
        "slopes": rows.slopes(slopes, words),
        "frequencies": rows.frequencies(publication, words),
        "discrepancies": [
            {"Where": row.where, "Printed": row.printed, "Computed": row.computed, "What was done": row.resolution}
            for row in publication.known_discrepancies
        ],
        "diagnostics": rows.diagnostics(facts["diagnostics"]),
    }
    return {"rows": found}


def _calibration(model: Any, words: Words) -> dict[str, Any]:
    with waiting("Calibration"):
        calibration, differences = calibration_table(model), differences_table(model)
    published = calibration[~calibration["derived"]]
    largest = differences.iloc[differences["observed"].abs().argsort(kind="stable")[::-1]].head(rows.FEW)
    return {
        "rows": {
            "largest": rows.differences(largest, words),
            "worst": rows.calibration(published.nsmallest(1, "tail_probability"), words),
            "calibration": rows.calibration(published, words),
        },
        "draw": {
            "differences": lambda grade: plot_differences(differences[differences["grade"] == grade], labels=model),
            "calibration": lambda grade: plot_calibration(calibration, grade=grade, labels=model),
        },
        "drawn_at": {"calibration": _grades(model, published), "differences": _grades(model, differences)},
        "coverage": coverage(calibration),
        "low": int((published["tail_probability"] < 0.05).sum()),
    }


def _evidence(model: Any, other: Any, words: Words) -> dict[str, Any]:
    order = [event.name for event in model.tables.events]
    groups = {name: words.level(c.name, name) for c in model.risks.covariates for name in c.groups}
    nulls = selection_table(model, other).sort_values("event", key=lambda names: names.map(order.index), kind="stable")
    return {
        "rows": {"nulls": rows.nulls(nulls, words)},
        "tests_used": model.settings.get("selection"),
        "tests": null_words(model.tables).capitalize(),
        "tests_by": " or ".join(IMPLIED[stated] for stated in (True, False) if stated in set(nulls["stated"])),
        "evidence": [evidence_words(each.settings, each.tables) for each in (model, other) if each is not None],
        "ordering_used": model.settings.get("ordering"),
        "orderings": list(rows.orderings(ordering_table(model), other and ordering_table(other), words, groups)),
        "doubtful": (int(nulls["doubtful"].sum()), int((nulls["p_without"] < DOUBTFUL).sum()) if other else None, DOUBTFUL),
    }


def _identification(model: Any, words: Words) -> dict[str, Any]:
    with waiting("Identification"):
        before = prior_risks(model)
        effects, profiles = of_effects(model, before), of_profiles(model.risks, before)
    return {
        "rows": {"contraction": rows.contraction(effects, words), "support": rows.support(profiles, words)},
        "draw": {"identification": lambda grade: plot_identification(effects, grade=grade, labels=model)},
        "drawn_at": {"identification": _grades(model, effects)},
        "shares": {flag: float((profiles["support"] == flag).mean()) for flag in SUPPORT},
    }


def _priors(model: Any, words: Words) -> dict[str, Any]:
    """The prior check, and sensitivity to the priors."""
    with waiting("Prior check"):
        prior = prior_predictive_table(model)
    with waiting("Sensitivity to the priors"):
        sensitivity = sensitivity_table(model)
    cohort = prior[(prior["quantity"] == COHORT) & prior["published"].notna()]
    depends = sensitivity[sensitivity["diagnosis"] != ""]
    depends = depends.iloc[depends["shift"].abs().argsort(kind="stable")[::-1]]
    return {
        "rows": {
            "prior": rows.prior(prior, words),
            "cohort": cohort,
            "sensitivity": rows.sensitivity(depends.head(MOST_ROWS), words),
        },
        "draw": {"prior": lambda grade: plot_prior(prior, grade=grade, labels=model)},
        "drawn_at": {"prior": _grades(model, prior)},
        "covered": int(cohort["published"].between(cohort["prior_lower"], cohort["prior_upper"]).sum()),
        "sensitive": (SENSITIVE, len(sensitivity), depends["diagnosis"].value_counts().to_dict(), len(depends) - MOST_ROWS),
    }


def _bounds(model: Any, words: Words) -> dict[str, Any]:
    """What the counts alone allow of the patients whom the cohort has most of."""
    risks = model.risks
    if not risks.covariates:
        return {"rows": {"bounds": []}, "commonest": None}
    commonest = risks.levels[np.where(risks.usual, risks.weight, 0).argmax()]
    chosen = [(c.name, c.names[i]) for c, i in zip(risks.covariates, commonest, strict=True)]
    patient = pd.DataFrame({name: [level] for name, level in chosen})
    with waiting("Bounds from the counts alone"):
        found = bounds_table(model.tables, patient)
    names = {"lower": "least", "upper": "most", "lower_expected": "least_expected", "upper_expected": "most_expected"}
    table = risk_table(model, patient).assign(**{name: found[column] for column, name in names.items()})
    open_ones = int(((table["least"] < NOTHING) & (table["most"] > 1 - NOTHING)).sum())
    label = "; ".join(words.level(*each) for each in chosen)
    return {"rows": {"bounds": rows.bounds(table, words)}, "commonest": (label, found.iloc[0], open_ones)}


def _assumptions(model: Any, others: Sequence[Any], words: Words) -> dict[str, Any]:
    """Risks of patients of whom one level is known, in each fit."""
    fits = {rows.THIS: model}
    for i, each in enumerate(others, start=2):
        left = LESS.get(tuple(without(model.settings, each.settings)))
        fits[f"fit {i}" + (f", {left}" if left else "")] = each
    told = [
        profile_table(fit, [c.name]).rename(columns={c.name: "level"}).assign(covariate=c.name, fit=name)
        for name, fit in fits.items()
        for c in model.risks.covariates
    ]
    return {
        "rows": {"assumptions": rows.assumptions(pd.concat(told), words) if others and told else []},
        "fits": {name: evidence_words(fit.settings, fit.tables) for name, fit in fits.items()},
    }


def _what_if(model: Any, words: Words) -> dict[str, Any]:
    """Odds ratios, and every level of each covariate against that of most patients."""
    risks, grade = model.risks, model.risks.grades[0]
    contrasts: dict[str, pd.DataFrame] = {}
    with waiting("Contrasts"):
        odds = odds_ratio_table(model)
        for k, c in enumerate(risks.covariates):
            sizes = dict(zip(c.names, cohort_sizes(risks, k), strict=True))
            usual = max(c.known, key=lambda name: sizes[name])
            others = [name for name in c.known if name != usual]
            pairs = [
                contrast_table(model, {c.name: level}, {c.name: usual}).assign(covariate=c.name, level=level, reference=usual)
                for level in others
            ]
            if pairs:
                contrasts[c.name] = pd.concat(pairs).sort_values(
                    ["event", "grade"], key=lambda names: names.map([*risks.events, *risks.grades].index), kind="stable"
                )
    everything = pd.concat(contrasts.values()) if contrasts else pd.DataFrame(columns=["covariate", "level"])
    clearest = [_clearest(group) for _, group in everything.groupby(["covariate", "level"], sort=False)]
    return {
        "rows": {"clearest": rows.contrasts(pd.concat(clearest), words) if clearest else []},
        "draw": {"effects": lambda name: plot_effects(odds, covariate=name, grade=grade, labels=model)},
        "covariates": {name: (words.covariate(name), rows.contrasts(table, words)) for name, table in contrasts.items()},
        "profiles": _profiles(model, everything, words),
    }


def _clearest(rows: pd.DataFrame) -> pd.DataFrame:
    """The difference that is largest for its interval, among those that rest on most."""
    best = rows[rows["support"].map(SUPPORT.index) == rows["support"].map(SUPPORT.index).min()]
    clear = best["difference"].abs() / (best["difference_upper"] - best["difference_lower"])
    return best.iloc[[int(clear.to_numpy().argmax())]]


def _equation(model: Any, words: Words) -> dict[str, Any]:
    """The model as an equation, with its numbers."""
    with waiting("Equation"):
        found = model_equation(model)
    told = {
        "branches": rows.branches(found, words),
        "effects": list(rows.effects(found, model.risks.covariates)),
        "states": rows.states(found, words),
    }
    return {"rows": told, "apart": found.apart}


def _between(model: Any, words: Words, tables: int) -> dict[str, Any]:
    """How far risks move between ``tables`` of the covariates, unless none is drawn or there is nothing to tabulate."""
    if not tables or len(model.risks.covariates) < 2:
        return {"rows": {"uncertainty": []}, "between": None}
    with waiting(f"{tables} tables of the covariates"):
        found = table_uncertainty(model, seed=1, tables=tables, draws=min(DRAWS, model.risks.draws.shape[0]))
    said = {"median": found["ratio"].median(), "largest": found["ratio"].max()}
    said |= {name: found.attrs[name] for name in ("plugin_error", "ess")}
    return {"rows": {"uncertainty": rows.uncertainty(found, words)}, "between": said}


def _grades(model: Any, table: pd.DataFrame) -> list[str]:
    """The grades that a table has something at."""
    return [grade for grade in model.risks.grades if grade in set(table["grade"])]


def _as_of(model: Any, compare: Any) -> Any:
    """The other fit, asked about what this model's publication says: its own copy may be of another date."""
    return SimpleNamespace(risks=compare.risks, settings=compare.settings, tables=model.tables)


def _facts(model: Any) -> dict[str, Any]:
    """A fitted model that was not saved yet is told of as if it were."""
    manifest = getattr(model, "manifest", None)
    return model_facts(make_manifest(model, {}, None) if manifest is None else manifest, model.tables, model.risks)


def _profiles(model: Any, contrasts: pd.DataFrame, words: Words) -> tuple[str, list[str], Any] | None:
    """The event whose margins are published by most covariates, the first two of these, and its risks by them, drawn.

    Of several such events, the one that has the largest of its smaller differences.
    """
    risks = model.risks
    own = contrasts[(contrasts["support"] == "data") & (contrasts["grade"] == risks.grades[0])] if len(contrasts) else contrasts
    if own.empty:
        return None
    largest = own.assign(size=own["difference"].abs()).groupby(["event", "covariate"], sort=False)["size"].max()
    by_event = largest.groupby("event", sort=False).agg(["size", "min"]).sort_values(["size", "min"], kind="stable")
    event = by_event.index[-1]
    names = [c.name for c in risks.covariates if (event, c.name) in largest.index][:2]
    drawn = plot_profiles(profile_table(model, names), event=event, grade=risks.grades[0], labels=model)
    return words.event(event), [*map(words.covariate, names)], drawn
