"""A model at a glance, for notebooks: the sampler's verdict, what went into it, and the cohort's risks. Light."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from aemodel.inference.diagnostics import Diagnostics
from aemodel.publication.markup import html_table, in_range
from aemodel.publication.words import Words
from aemodel.scoring.risks import SUPPORT, RiskDraws

INTERVAL = 0.9


def model_html(name: str, diagnostics: Diagnostics, settings: Mapping[str, Any], risks: RiskDraws, words: Words) -> str:
    """A fitted or loaded model in a notebook."""
    everything = risks.everything[None]
    mean, lower, upper = (values[0] for values in risks.summary(everything, INTERVAL))
    lines = []
    for i, event in enumerate(risks.events):
        line = {"Event": words.event(event)}
        for j, grade in enumerate(risks.grades):
            line[words.grade(grade)] = in_range(mean[i, j], lower[i, j], upper[i, j])
        data = SUPPORT.index("data")
        own = [c.label for k, c in enumerate(risks.covariates) if (risks.source[k, i] == data).any()]
        lines.append(line | {"Its own margins speak of": ", ".join(own) or "no covariate"})
    caption = f"{name}: risk of a patient of whom nothing is known, {INTERVAL:.0%} interval"
    return f"<p>{escape(str(diagnostics))}.<br>{escape(evidence_words(settings))}</p>\n{html_table(lines, caption)}"


def evidence_words(settings: Mapping[str, Any]) -> str:
    """Which evidence beside the margins went into a fit, in a sentence; models saved before there was any had none."""
    kinds = {
        "both": "orderings of groups, with significant tests at both grades",
        "either": "orderings of groups, with significant tests at either grade",
        "order": "orderings of groups",
    }
    used = [kinds[settings["ordering"]]] if settings.get("ordering") else []
    used += ["tests that were not significant, or not listed"] if settings.get("selection") else []
    told = [f"Evidence used beside the margins: {' and '.join(used) if used else 'none'}."]
    if (scale := float(settings.get("prior_scale", 1.0))) != 1:
        told.append(f"Prior scales of effects times {scale:g}.")
    if patients := settings.get("patients"):
        relation = {"subset": "part of", "disjoint": "not in"}[settings["overlap"]]
        told.append(f"Rows of {patients} patients who are {relation} the published cohort.")
    if (power := float(settings.get("power", 1.0))) != 1:
        told.append(f"What is published counts with power {power:g}.")
    return " ".join(told)
