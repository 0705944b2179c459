"""Sections of a report on what was published, and how the fit reproduces it; each with the sentence a sceptic needs."""

from __future__ import annotations

from aemodel.answers.calibration import coverage, told
from aemodel.answers.calibration_slopes import slope_words
from aemodel.answers.plots import plot_calibration
from aemodel.inference.diagnostics import GATE
from aemodel.pages.report_data import ReportData
from aemodel.pages.report_parts import figure, grades, paragraph, table
from aemodel.publication.markup import per_cent
from aemodel.publication.summary import frequency_lines


def frequencies(data: ReportData) -> str:
    words, rows = data.words, data.tables.rows
    lines = [
        {
            "Event": words.event(line["event"]),
            "Patients": words.level(line["covariate"], line["level"]),
            "N": line["n"],
            **{f"Grade {name.removeprefix('grade ')}": text for name, text in line.items() if name.startswith("grade ")},
        }
        for line in frequency_lines(rows)
    ]
    return paragraph(
        f"Percentages as printed were turned into whole numbers of patients, and these agree with one another: "
        f"{sum(not row.derived for row in rows)} frequencies are evidence. Those marked (sum) add up others, and are none. The "
        f"same {data.tables.n} patients stand in the rows of every covariate, so rows are not independent; the fit takes "
        "their joint probability."
    ) + table(lines, "Patients with each event, as published", grouped=True)


def discrepancies(data: ReportData) -> str:
    rows = data.tables.known_discrepancies
    if not rows:
        return paragraph("None was recorded: every number of the publication agrees with every other.")
    lines = [
        {"Where": row.where, "Printed": row.printed, "Computed": row.computed, "What was done": row.resolution} for row in rows
    ]
    return paragraph("Where the publication disagrees with itself, and what was done about it.") + table(lines, "Discrepancies")


def diagnostics(data: ReportData) -> str:
    found = data.facts["diagnostics"]
    lines = [
        {"Diagnostic": name, "Worst value": value, "Must be": gate}
        for name, value, gate in (
            ("R-hat (do chains agree)", f"{found['r_hat']:.3f}", f"at most {GATE['r_hat']:g}"),
            ("Effective draws, bulk", f"{found['ess_bulk']:.0f}", f"at least {GATE['ess']:.0f}"),
            ("Effective draws, tails", f"{found['ess_tail']:.0f}", f"at least {GATE['ess']:.0f}"),
            ("Divergent transitions", f"{found['divergences']}", f"at most {GATE['divergences']}"),
            ("E-BFMI (is energy explored)", f"{found['bfmi']:.2f}", f"at least {GATE['bfmi']:g}"),
        )
    ]
    if "approximation" in found:
        error = {"Diagnostic": "Likelihood's approximation (nats)", "Worst value": f"{found['approximation']:.2g}"}
        lines.append(error | {"Must be": "small beside 1"})
    passed = "The sampler passed all its checks. That says the posterior of this model was found, not that the model is right."
    failed = "THE SAMPLER FAILED ITS CHECKS: the posterior of this model may not have been found. Do not use its answers."
    return (
        paragraph(passed if found["passed"] else failed)
        + "".join(paragraph(f"Failed: {failure}.") for failure in found["failures"])
        + table(lines, "Worst of each diagnostic over all parameters")
    )


def calibration(data: ReportData) -> str:
    words, fits = data.words, coverage(data.calibration)
    rows = data.calibration[~data.calibration["derived"]]
    low = int((rows["tail_probability"] < 0.05).sum())
    lines = [
        {
            "Event": words.event(row.event),
            "Grade": row.grade,
            "Patients": words.level(row.covariate, row.level),
            "N": row.n,
            "Observed": told(row._asdict()),
            "Predicted": f"{row.expected:.1f}",
            "50 %": f"{row.lower50}-{row.upper50}",
            "90 %": f"{row.lower90}-{row.upper90}",
            "Tail P": f"{row.tail_probability:.2f}",
        }
        for row in rows.itertuples()
    ]
    figures = [
        figure(
            plot_calibration(data.calibration, grade=grade, labels=data.tables),
            f"calibration-{grade}",
            f"Published frequencies at grade {grade} as dots, with the intervals in which the fit predicts them.",
        )
        for grade in grades(rows)
    ]
    return (
        paragraph(
            "In-sample: the fit saw every one of these rows, so agreement is consistency, no validation. Disagreement "
            "would be news."
        )
        + paragraph(
            f"Of {fits['rows']:.0f} published frequencies {per_cent(fits['within90'])} lie in their 90 % predictive interval, "
            f"{per_cent(fits['within50'])} in their 50 % one. More than 90 and 50 is usual where a fit saw the rows. "
            f"Two-sided tail probabilities are below 0.05 for {low or 'none'}, where {0.05 * len(rows):.0f} would be "
            "by chance alone."
        )
        + "".join(figures)
        + _slopes(data)
        + table(lines, "Observed and predicted numbers of patients", grouped=True)
    )


def _slopes(data: ReportData) -> str:
    """Whether predicted contrasts between levels have the published ones' size."""
    if data.slopes is None:
        return ""
    said = slope_words(data.slopes)
    return paragraph(f"Calibration slopes: {said[0].lower()}{said[1:]}") if said else ""
