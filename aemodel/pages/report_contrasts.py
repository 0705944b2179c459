"""The section of a report on what if: risks of the cohort at one level against another."""

from __future__ import annotations

from aemodel.answers.risk_plots import plot_profiles
from aemodel.pages.report_data import ReportData
from aemodel.pages.report_parts import figure, paragraph, table
from aemodel.publication.markup import per_cent


def contrasts(data: ReportData) -> str:
    words, parts = data.words, []
    for covariate in data.tables.covariates:
        first, last = (words.level(covariate.name, covariate.names[i]) for i in (0, -1))
        lines = [
            {
                "Event": words.event(row.event),
                "Grade": row.grade,
                "First": per_cent(row.reference_risk),
                "Last": per_cent(row.risk),
                "Difference, points": _points(row.difference, row.difference_lower, row.difference_upper),
                "Ratio": f"{row.ratio:.2f} ({row.ratio_lower:.2f} to {row.ratio_upper:.2f})",
                "P higher": f"{row.p_higher:.2f}",
                "Rests on": row.support,
            }
            for row in data.contrasts[covariate.name].itertuples()
        ]
        parts.append(table(lines, f"{words.covariate(covariate.name)}: {last} (last) against {first} (first)", grouped=True))
    return (
        paragraph(
            "Risks were the whole cohort at the last level of a covariate against its first, everything else as it is, with "
            "90 % intervals. A difference between groups is no effect of a cause: patients who differ in one thing also "
            "differ in others."
        )
        + "".join(parts)
        + _by_two(data)
    )


def _points(middle: float, lower: float, upper: float) -> str:
    return f"{100 * middle:+.1f} ({100 * lower:+.1f} to {100 * upper:+.1f})"


def _by_two(data: ReportData) -> str:
    if data.profiles is None:
        return ""
    event, rows = data.profiles
    by = [data.words.covariate(name) for name in rows.columns[: list(rows.columns).index("event")]]
    return figure(
        plot_profiles(rows, event=event, labels=data.tables),
        "profiles",
        f"{data.words.event(event)}: risk by {' and '.join(by)}, the other covariates averaged over the cohort. That lines "
        "keep apart alike is the model's assumption of additivity, and no finding.",
    )
