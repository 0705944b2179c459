"""What a saved model is, as plain values: from its manifest and risk draws alone. Light: no pandas.

`aemodel show` prints them and the card puts them into sentences, for any publication.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aemodel.inference.diagnostics import Diagnostics
from aemodel.inference.risks import SUPPORT, RiskDraws
from aemodel.publication.events import published_grades, read_events
from aemodel.publication.rules import Covariate, allowed_words
from aemodel.publication.texts import csv_rows, read_about
from aemodel.serving.manifest import manifest_digest

ABOUT = ("title", "citation", "doi", "licence", "setting", "grading")


def model_facts(manifest: Mapping[str, Any], risks: RiskDraws) -> dict[str, Any]:
    """Facts of a model, ready for JSON.

    Returns
    -------
    dict
        ``name``, ``format``, ``digest`` (of the manifest, and so of the whole model), ``source`` (what the publication
        says of itself), ``patients``, ``data`` (digest, and numbers of frequencies and discrepancies), ``covariates``
        (levels with cohort counts; ``rests_on`` counts events and grades by what the covariate's effect on them rests
        on), ``columns`` (raw ones: what is in each, and its values), ``events`` (with the grades that have frequencies),
        ``grades``, ``diagnostics``, ``performance`` (None in format 1), ``settings``, ``versions``, ``notes``,
        ``samples`` (risk draws), ``files``.
    """
    about = read_about(manifest["publication"]["publication.toml"])
    return {
        "name": manifest["name"],
        "format": manifest["format"],
        "digest": manifest_digest(manifest),
        "source": {key: str(about[key]) for key in ABOUT if about.get(key)},
        "patients": about["patients"],
        "data": _data(manifest),
        "covariates": [_covariate(risks, k) for k in range(len(risks.covariates))],
        "columns": _columns(about, risks.covariates),
        "events": _events(manifest),
        "grades": list(risks.grades),
        "diagnostics": _diagnostics(manifest),
        "performance": manifest.get("performance"),
        "settings": manifest["settings"],
        "versions": manifest["versions"],
        "notes": [str(note) for note in about.get("notes", [])],
        "samples": manifest["samples"],
        "files": manifest["files"],
    }


def _data(manifest: Mapping[str, Any]) -> dict[str, Any]:
    used = [row for row in csv_rows(manifest["publication"], "frequencies.csv") if row["derived"] == "no"]
    return {
        "digest": manifest["digest"],
        "frequencies": len(used),
        "by": _counts(row["covariate"] for row in used),
        "discrepancies": len(csv_rows(manifest["publication"], "discrepancies.csv")),
    }


def _counts(names: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found


def _covariate(risks: RiskDraws, k: int) -> dict[str, Any]:
    covariate: Covariate = risks.covariates[k]
    sources = risks.source[k][risks.published]
    return {
        "name": covariate.name,
        "label": covariate.label,
        "open": covariate.open,
        "worked_out_from": list(covariate.raw_columns),
        "levels": [
            {"name": level.name, "label": level.label, "patients": count}
            for level, count in zip(covariate.levels, _cohort(risks, k), strict=True)
        ],
        "rests_on": {flag: int((sources == i).sum()) for i, flag in enumerate(SUPPORT)},
    }


def _columns(about: Mapping[str, Any], covariates: Sequence[Covariate]) -> list[dict[str, str]]:
    """Raw columns, in order; one that several covariates read stands once for each."""
    said = about.get("columns", {})
    return [
        {"name": column, "label": str(said.get(column, "")), "values": allowed_words(covariate, column)}
        for covariate in covariates
        for column in covariate.raw_columns
    ]


def _cohort(risks: RiskDraws, k: int) -> list[int]:
    """Patients of the cohort at each level of a covariate; cells of new levels repeat them and are left out."""
    usual = (risks.levels < np.array([len(c.levels) for c in risks.covariates])).all(axis=1)
    size = len(risks.covariates[k].levels)
    return [round(n) for n in np.bincount(risks.levels[usual, k], weights=risks.weight[usual], minlength=size).tolist()]


def _events(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    texts = manifest["publication"]
    given = [(row["event"], row["grade"]) for row in csv_rows(texts, "frequencies.csv")]
    return [
        {
            "name": event.name,
            "label": event.label,
            "parent": event.parent,
            "relation": event.relation,
            "published_grades": list(published_grades(event, given)),
        }
        for event in read_events(csv_rows(texts, "events.csv"), "events.csv")
    ]


def _diagnostics(manifest: Mapping[str, Any]) -> dict[str, Any]:
    found = Diagnostics(**manifest["diagnostics"])
    return {**manifest["diagnostics"], "passed": found.passed, "failures": found.failures(), "verdict": str(found)}
