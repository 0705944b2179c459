"""What a saved model is, as plain values: from its manifest and risk draws alone. Light: no pandas.

`aemodel show --format json` is these facts; the card, the report and the calculator tell them in sentences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aemodel.inference.diagnostics import Diagnostics
from aemodel.inference.record import evidence_words, manifest_digest, notes_of
from aemodel.publication.grades import class_numbers, grade_bounds
from aemodel.publication.rules import allowed_words
from aemodel.publication.schema import Covariate
from aemodel.publication.tables import Tables
from aemodel.publication.words import words_of
from aemodel.scoring.risks import SUPPORT, RiskDraws

UNTOLD = {"ordering": None, "selection": False, "prior_scale": 1.0, "patients": 0, "overlap": None, "power": 1.0}
"""Settings that say what a fit was told, as models have them that were saved before there was a choice."""
LEFT_OUT = {"selection": "what the publication leaves out", "ordering": "the order of groups that the publication states"}
"""Assumptions that a fit can do without."""
ABOUT = ("title", "citation", "doi", "licence", "setting", "grading")


def model_facts(manifest: Mapping[str, Any], tables: Tables, risks: RiskDraws) -> dict[str, Any]:
    """Facts of a model, ready for JSON.

    Returns
    -------
    dict
        ``name``, ``format``, ``digest`` (of the manifest, and so of the whole model), ``source`` (what the publication says
        of itself), ``patients``, ``data`` (digest, numbers of frequencies and discrepancies, what they are ``by``, and which of
        that is two covariates ``crossed``), ``covariates`` (levels
        with cohort counts; ``rests_on`` counts events and grades by what the covariate's effect on them rests on),
        ``columns`` (raw ones: what is in each, and its values), ``events`` (with the grades that have frequencies),
        ``grades`` (answered; ``grade_labels`` for words), ``flags`` (what answers can rest on), ``diagnostics``,
        ``performance`` (None in format 1), ``settings``, ``evidence`` (all that the fit was told; None before format 3),
        ``told`` (which kinds of it, in words),
        ``versions``, ``notes``, ``samples`` (risk draws), ``files``.
    """
    about, words = tables.about, words_of(tables)
    return {
        "name": manifest["name"],
        "format": manifest["format"],
        "digest": manifest_digest(manifest),
        "source": {key: text for key in ABOUT if (text := getattr(about, key))},
        "patients": tables.n,
        "data": _data(tables),
        "covariates": [covariate_facts(tables, risks, k) for k in range(len(risks.covariates))],
        "columns": _columns(about.columns, risks.covariates),
        "events": _events(tables),
        "grades": list(risks.grades),
        "grade_labels": {grade: words.grade(grade) for grade in risks.grades},
        "flags": list(SUPPORT),
        "diagnostics": _diagnostics(manifest),
        "performance": manifest.get("performance"),
        "settings": manifest["settings"],
        "evidence": manifest.get("evidence"),
        "told": evidence_words(manifest["settings"], tables),
        "versions": manifest["versions"],
        "notes": notes_of(manifest["settings"], tables),
        "samples": manifest["samples"],
        "files": manifest["files"],
    }


def without(mine: Mapping[str, Any], its: Mapping[str, Any]) -> list[str]:
    """The assumptions in `LEFT_OUT` that another fit does without, if its settings differ in nothing else; else none."""
    changed = [key for key, untold in UNTOLD.items() if mine.get(key, untold) != its.get(key, untold)]
    return changed if all(key in LEFT_OUT and not its.get(key) for key in changed) else []


def beside_words(mine: Mapping[str, Any], its: Mapping[str, Any], tables: Tables) -> str:
    """What an answer of another fit holds under, to end a sentence with."""
    if left := without(mine, its):
        return f"when nothing is assumed of {' and of '.join(LEFT_OUT[key] for key in left)}"
    return f"in the other fit ({evidence_words(its, tables).removesuffix('.')})"


def _data(tables: Tables) -> dict[str, Any]:
    used = [row for row in tables.rows if not row.derived]
    by = dict(sorted(Counter(row.covariate for row in used).items()))
    alone = {"total", *(c.name for c in tables.covariates)}
    return {
        "digest": tables.digest,
        "frequencies": len(used),
        "by": by,
        "crossed": [name for name in by if name not in alone],
        "discrepancies": len(tables.known_discrepancies),
    }


def covariate_facts(tables: Tables, risks: RiskDraws, k: int) -> dict[str, Any]:
    """Of one covariate, as in `model_facts`."""
    covariate: Covariate = risks.covariates[k]
    sources = risks.source[k][risks.published]
    rests_on = {flag: int((sources == i).sum()) for i, flag in enumerate(SUPPORT)}
    return {
        "name": covariate.name,
        "label": covariate.label,
        "open": covariate.open,
        "worked_out_from": list(covariate.raw_columns),
        "levels": [
            {"name": level.name, "label": level.label, "patients": count}
            for level, count in zip(covariate.levels, cohort_sizes(risks, k), strict=True)
        ],
        "rests_on": rests_on,
        "uncounted": covariate.name not in tables.counted,
    }


def _columns(said: Mapping[str, str], covariates: Sequence[Covariate]) -> list[dict[str, str]]:
    """Raw columns, in order; one that several covariates read stands once for each."""
    return [
        {"name": column, "label": said.get(column, ""), "values": allowed_words(covariate, column)}
        for covariate in covariates
        for column in covariate.raw_columns
    ]


def cohort_sizes(risks: RiskDraws, k: int) -> list[int]:
    """Patients of the cohort at each level of a covariate; cells of new levels repeat them and are left out."""
    usual, size = risks.usual, len(risks.covariates[k].levels)
    return [round(n) for n in np.bincount(risks.levels[usual, k], weights=risks.weight[usual], minlength=size).tolist()]


def _events(tables: Tables) -> list[dict[str, Any]]:
    numbers = class_numbers(tables.classes)
    return [
        {
            "name": event.name,
            "label": event.label,
            "parent": event.parent,
            "relation": event.relation,
            "published_grades": sorted(tables.published_grades(event), key=lambda grade: grade_bounds(grade, numbers)),
        }
        for event in tables.events
    ]


def _diagnostics(manifest: Mapping[str, Any]) -> dict[str, Any]:
    found = Diagnostics(**manifest["diagnostics"])
    return {**manifest["diagnostics"], "passed": found.passed, "failures": found.failures(), "verdict": str(found)}
