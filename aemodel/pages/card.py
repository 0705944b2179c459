"""The model card: what a reader must know before using a model.

Its headings are those of TRIPOD+AI (Collins et al. 2024, doi 10.1136/bmj-2023-078378) and of model cards (Mitchell et
al. 2019, doi 10.1145/3287560.3287596), which meet in most.

Every number and name is computed from the model's facts, so that the card of any publication is right by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

RELATIONS = {"nested": "only within", "union": "one of those that make up", "fatal": "grade 5 of"}
Facts = Mapping[str, Any]


def card(facts: Facts) -> str:
    """The card as Markdown, of the facts of `aemodel.pages.description.model_facts`."""
    parts = [f"# Model card: {_text(facts['name'])}", "**Not for treatment decisions.**"]
    parts += [f"## {heading}\n\n{text}" for heading, text in card_sections(facts).items()]
    return "\n\n".join(parts) + "\n"


def card_sections(facts: Facts) -> dict[str, str]:
    """The card's sections, Markdown by heading: paragraphs, lists and code spans."""
    return {
        "Model details": _details(facts),
        "Intended use": _intended(facts),
        "Out-of-scope use": _out_of_scope(facts),
        "Source of data": _source(facts),
        "Participants": _participants(facts),
        "Outcome": _outcome(facts),
        "Predictors": _predictors(facts),
        "Sample size": _sample_size(facts),
        "Missing data": _missing(facts),
        "Analytical methods": _methods(facts),
        "Model performance": _performance(facts),
        "Uncertainty": _uncertainty(facts),
        "Fairness": _fairness(facts),
        "Limitations": _limitations(facts),
        "Registration and availability": _availability(facts),
    }


def _details(facts: Facts) -> str:
    return (
        f"A Bayesian hierarchical logistic model of {len(facts['events'])} severe toxicities at grades "
        f"{' and '.join(facts['grades'])}, fitted to published counts"
        f"{' and to rows of patients' if facts['settings'].get('patients') else ', not to patients'}: "
        f"{_text(facts['source']['title'])}.\n"
        "It gives a patient's posterior risk of each toxicity, with an interval and a flag that says what carries it."
    )


def _intended(facts: Facts) -> str:
    return (
        "Research: what the publication, read jointly, says of patients with given covariates; planning and monitoring of\n"
        "cohorts like its own. For people who can read an interval and know the source."
    )


def _out_of_scope(facts: Facts) -> str:
    rules = [
        "decisions about the treatment of a patient;",
        "patients whom the source would not have enrolled, or another treatment or setting than its own;",
        "causal questions: what would change if a covariate did;",
        "covariates and levels that are not listed under Predictors"
        + ("" if not _open(facts) else f" (new levels of {_join(_open(facts))} can be asked for, and rest on the prior)")
        + ".",
    ]
    return _bullets(rules)


def _source(facts: Facts) -> str:
    source, data = facts["source"], facts["data"]
    lines = [_text(source["citation"])]
    lines += [f"DOI {_text(source['doi'])}."] if "doi" in source else []
    lines += [_text(source["licence"])] if "licence" in source else []
    by = _join(
        [f"{count} {'of the whole cohort' if name == 'total' else f'by `{name}`'}" for name, count in data["by"].items()]
    )
    lines.append(f"{_count(data['frequencies'], 'published frequency', 'published frequencies')} entered the fit: {by}.")
    lines.append(f"{_count(data['discrepancies'], 'discrepancy', 'discrepancies')} within the publication recorded with it.")
    return "\n".join(lines)


def _participants(facts: Facts) -> str:
    lines = [f"N = {facts['patients']}."]
    if "setting" in facts["source"]:
        lines.append(f"{_text(facts['source']['setting'])}.")
    return " ".join(lines) + " " + _own_patients(facts["settings"])


def _own_patients(settings: Mapping[str, Any]) -> str:
    """Whose rows the fit has seen; models fitted before there could be any do not say."""
    patients, relation = settings.get("patients", 0), {"subset": "part of", "disjoint": "not in"}
    if not patients:
        return "No row of a patient was seen by the fit, and none is stored."
    who = f"{patients} patients who are {relation[settings['overlap']]} the published cohort"
    return f"The fit also saw the rows of {who}; none is stored."


def _outcome(facts: Facts) -> str:
    lines = [f"Grading: {_text(facts['source']['grading'])}.\n"] if "grading" in facts["source"] else []
    for event in facts["events"]:
        inside = f"; {RELATIONS[event['relation']]} `{event['parent']}`" if event["parent"] else ""
        given = _join(event["published_grades"]) or "no grade"
        lines.append(f"- {_text(event['label'])} (`{event['name']}`): published at {given}{inside}")
    return "\n".join(lines)


def _predictors(facts: Facts) -> str:
    lines = []
    for covariate in facts["covariates"]:
        levels = _join([f"{_text(level['label'])} (`{level['name']}`, {level['patients']})" for level in covariate["levels"]])
        raw = _join([f"`{name}`" for name in covariate["worked_out_from"]])
        lines.append(f"- {_text(covariate['label'])} (`{covariate['name']}`{f', or from {raw}' if raw else ''}): {levels}")
    return "Patients of the cohort at each level in parentheses.\n\n" + "\n".join(lines)


def _sample_size(facts: Facts) -> str:
    own, power = facts["settings"].get("patients", 0), float(facts["settings"].get("power", 1))
    disjoint = own if facts["settings"].get("overlap") == "disjoint" else 0
    more = f", each counting {power:g}" * (power != 1) + f", and {disjoint} of one's own" * bool(disjoint)
    return (
        f"{facts['patients']} patients, as many as the publication has{more}; no sample size was calculated for the model.\n"
        "Effects with little data are drawn towards those of other events and levels, and their intervals are wide."
    )


def _missing(facts: Facts) -> str:
    return (
        "A covariate that is not known of a patient is averaged over the cohort's distribution, given what is known. How\n"
        "covariates go together beyond the published cross-tabulations is not known: independence is assumed."
    )


def _methods(facts: Facts) -> str:
    settings = facts["settings"]
    rest = {key: value for key, value in settings.items() if key != "priors"}
    return (
        "The margins of one cohort overlap, so their joint probability is used, by saddlepoint approximation over the\n"
        "patients' unknown cross-classification; events and grades that nest share one set of states. Log odds are additive\n"
        "in the covariates; effects are partially pooled over levels, events and grades, their scales learned. Priors are\n"
        "weakly informative. Sampled by Hamiltonian Monte Carlo (NUTS).\n\n"
        f"- Settings: {_plain(rest)}\n- Priors: {_plain(settings.get('priors', 'not recorded'))}\n"
        f"- {facts['diagnostics']['verdict']}"
    )


def _performance(facts: Facts) -> str:
    found = facts["performance"]
    told = "Coverage of the published frequencies was not recorded in this format."
    if found is not None:
        told = (
            f"Of {_count(found['rows'], 'published frequency', 'published frequencies')}, {found['within90']:.0%} lie in their "
            f"90 % predictive interval and {found['within50']:.0%} in\ntheir 50 % one."
        )
    return f"{told} A consistency check: the model saw these rows.\n\nExternal validation: none."


def _uncertainty(facts: Facts) -> str:
    return (
        f"Risks are means and equal-tailed intervals of {facts['samples']} posterior draws. Intervals hold the uncertainty of\n"
        "the parameters and small departures from additivity; they do not hold that of the model's form, nor of how\n"
        "covariates go together. Each answer is flagged `data`, `pooled` or `prior` by what carries it."
    )


def _fairness(facts: Facts) -> str:
    lines = []
    for covariate in facts["covariates"]:
        rests = covariate["rests_on"]
        total = sum(rests.values())
        lines.append(
            f"- {_text(covariate['label'])}: of {total} published pairs of event and grade, its effect rests on the event's\n"
            f"  own published margin for {rests['data']}, on other events' for {rests['pooled']}, on the prior alone for "
            f"{rests['prior']}"
        )
    alone = [_text(c["label"]) for c in facts["covariates"] if not c["rests_on"]["data"] and not c["rests_on"]["pooled"]]
    closing = (
        f"No event is tabulated by {_join(alone)}: differences between its levels are assumption, not finding, and\n"
        "must not be read as evidence about groups of people."
        if alone
        else "Every covariate has a published margin for some event. Performance within groups of people was not examined."
    )
    return "\n".join(lines) + f"\n\n{closing}"


def _limitations(facts: Facts) -> str:
    rules = [
        "Margins say nothing about interactions of covariates; additivity is an assumption.",
        "One cohort, one treatment, and what one publication chose to tabulate.",
        "No external cohort has been scored.",
    ]
    if not facts["diagnostics"]["passed"]:
        rules.append("THE SAMPLER'S DIAGNOSTICS FAILED: " + "; ".join(facts["diagnostics"]["failures"]) + ".")
    return _bullets([*rules, *(_text(note) for note in facts["notes"])])


def _availability(facts: Facts) -> str:
    return (
        "No registration of the analysis is recorded.\n\n"
        f"- Model: format {facts['format']}, digest `{facts['digest']}` (`sha256` in the manifest)\n"
        f"- Data: digest `{facts['data']['digest']}` (SHA-256 of the publication's files)\n"
        f"- Seed {facts['settings']['seed']}; the same seed, versions and machine give the same draws\n"
        f"- Versions: {_plain(facts['versions'])}"
    )


def _open(facts: Facts) -> list[str]:
    return [f"`{c['name']}`" for c in facts["covariates"] if c["open"]]


def _plain(value: Any) -> str:
    """Nested settings in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_text(key)} ({_plain(v)})" if isinstance(v, Mapping) else f"{_text(key)} {_plain(v)}"
                         for key, v in value.items())  # fmt: skip
    if isinstance(value, list):
        return f"[{', '.join(_plain(inner) for inner in value)}]"
    return _text(value)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _join(words: Sequence[str]) -> str:
    return ", ".join(words)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _text(value: Any) -> str:
    """A publication's words in one line, without what Markdown readers would take for HTML."""
    return " ".join(str(value).split()).replace("<", "&lt;")
