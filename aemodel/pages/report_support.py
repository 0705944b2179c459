"""Sections of a report on what its answers rest on: identification, priors, and how covariates go together."""

from __future__ import annotations

from aemodel.answers.plots import plot_identification, plot_prior
from aemodel.answers.prior_check import COHORT, RANGE
from aemodel.answers.risk_plots import plot_effects
from aemodel.answers.sensitivity import SENSITIVE
from aemodel.pages.report_data import ReportData
from aemodel.pages.report_parts import figure, grades, heading, paragraph, table
from aemodel.publication.markup import per_cent
from aemodel.scoring.risks import SUPPORT

MOST_ROWS = 30
"""Rows of a table of findings that are printed; the rest are counted."""


def identification(data: ReportData) -> str:
    words, effects = data.words, data.effects
    figures = [
        figure(
            plot_identification(effects, grade=grade, labels=data.tables),
            f"identification-{grade}",
            f"How much of each covariate's effects on each event at grade {grade} was learned, and from what.",
        )
        for grade in grades(effects)
    ]
    mean = effects.groupby(["event", "grade", "covariate"], sort=False).agg(
        contraction=("contraction", "mean"), source=("source", "first")
    )
    lines = [
        {
            "Event": words.event(event),
            "Grade": grade,
            **{words.covariate(row.Index[2]): f"{row.contraction:.2f} {row.source}" for row in group.itertuples()},
        }
        for (event, grade), group in mean.groupby(level=["event", "grade"], sort=False)
    ]
    forests = [
        figure(
            plot_effects(data.odds, covariate=covariate.name, labels=data.tables),
            f"effects-{i}",
            f"Odds ratios by {covariate.label} with 90 % intervals, and what they rest on.",
        )
        for i, covariate in enumerate(data.tables.covariates)
    ]
    return (
        paragraph(
            "Contraction says how much narrower the data made an effect than its prior: 1 is learned, 0 is all prior. An "
            "effect that only a test or an ordering speaks of can contract much and still be no finding of a size."
        )
        + "".join(figures)
        + table(lines, "Contraction, and what an effect rests on", grouped=True)
        + heading("Profiles")
        + _profile_support(data)
        + heading("Effects")
        + paragraph("Odds ratios at the lower grade. The mark tells what they rest on.")
        + "".join(forests)
    )


def _profile_support(data: ReportData) -> str:
    rows = data.risks
    counts = rows.groupby(["event", "grade"], sort=False)["source"].value_counts().unstack(fill_value=0)
    counts = counts.reindex(columns=list(SUPPORT), fill_value=0).reindex(
        dict.fromkeys(zip(rows["event"], rows["grade"], strict=True))
    )
    share = counts.sum() / counts.sum().sum()
    lines = [
        {"Event": data.words.event(event), "Grade": grade, **{flag: int(line[flag]) for flag in SUPPORT}}
        for (event, grade), line in counts.iterrows()
    ]
    told = ", ".join(f"{flag} {per_cent(share[flag])}" for flag in SUPPORT)
    return paragraph(
        f"Every combination of levels has its flag for every event and grade. Over all of them: {told}. data: the event's "
        "own published rows tell most of what sets the risk apart from the cohort's; pooled: those of other events do; prior: "
        "most of it is assumption, or the grade was not published. Each combination counts once, however rare."
    ) + table(lines, "Combinations of levels by what carries their risk", grouped=True)


def prior(data: ReportData) -> str:
    words, rows = data.words, data.prior
    cohort = rows[rows["quantity"] == COHORT]
    figures = [
        figure(
            plot_prior(rows, grade=grade, labels=data.tables),
            f"prior-{grade}",
            f"Prior, posterior and published risk of the cohort at grade {grade}, event by event.",
        )
        for grade in grades(cohort)
    ]
    inside = cohort.dropna(subset="published")
    covered = int(inside["published"].between(inside["prior_lower"], inside["prior_upper"]).sum())
    lines = []
    for (event, grade), group in rows.groupby(["event", "grade"], sort=False):
        line = {"Event": words.event(event), "Grade": grade}
        spread = group[group["quantity"] == RANGE].iloc[0]
        line["Highest less lowest risk: prior"] = f"{spread['prior_lower']:.2f} to {spread['prior_upper']:.2f}"
        line["posterior"] = f"{spread['posterior_lower']:.2f} to {spread['posterior_upper']:.2f}"
        for row in group[~group["quantity"].isin([COHORT, RANGE])].itertuples():
            name = words.covariate(row.quantity.removeprefix("odds ratio "))
            line[f"{name}: prior odds ratio"] = f"{row.prior_lower:.2f} to {row.prior_upper:.2f}"
        lines.append(line)
    return (
        paragraph(
            "What the priors said before any count was seen, beside what came out. A prior that excluded what was published, "
            "or a posterior that only repeats its prior, would show here. "
            f"{covered} of {len(inside)} published rates of the whole cohort lie within the prior's 90 % interval. Posteriors "
            "of the odds ratios stand under evidence beside the margins."
        )
        + "".join(figures)
        + table(
            lines,
            "90 % intervals, priors of odds ratios being of last against first levels",
            grouped=True,
        )
    )


def sensitivity(data: ReportData) -> str:
    words, rows = data.words, data.sensitivity
    found = rows[rows["diagnosis"] != ""]
    found = found.iloc[found["shift"].abs().argsort(kind="stable")[::-1]]
    lines = [
        {
            "Event": words.event(row.event),
            "Grade": row.grade,
            "Patients": words.level(row.covariate, row.level),
            "Prior of scales": f"{row.scales:.2f}",
            "Prior of intercepts": f"{row.intercepts:.2f}",
            "Data": f"{row.data:.2f}",
            "Shift, sd": f"{row.shift:+.2f}",
            "Diagnosis": row.diagnosis,
        }
        for row in found.head(MOST_ROWS).itertuples()
    ]
    kinds = found["diagnosis"].value_counts()
    told = paragraph(
        "Power-scaling: how far each risk would move were the priors a little stronger or weaker, from the draws and without "
        f"another fit. A value of {SENSITIVE:g} or more counts. Of {len(rows)} risks (of the cohort, and were all patients at "
        f"one level) {int(kinds.get('prior', 0))} move with the prior of the effects' scales and hardly with the data (prior), "
        f"{int(kinds.get('conflict', 0))} with both (conflict). Shift is what a doubled prior scale would do to the log odds, "
        "in posterior standard deviations, by extrapolation; a fit with another prior scale is the check."
    )
    if not lines:
        return told
    more = len(found) - len(lines)
    rest = paragraph(f"And {more} more with smaller shifts: see sensitivity_table.") if more > 0 else ""
    return told + table(lines, "Risks that depend on the priors, largest shift first") + rest


def uncertainty(data: ReportData) -> str:
    rows = data.uncertainty
    if rows is None:
        return paragraph("Left out of this report.")
    lines = [
        {
            "Event": data.words.event(event),
            "Grade": grade,
            "Median": f"{group['ratio'].median():.2f}",
            "95 % below": f"{group['ratio'].quantile(0.95):.2f}",
            "Largest": f"{group['ratio'].max():.2f}",
            "Largest shift, sd": f"{group['shift'].abs().max():.2f}",
        }
        for (event, grade), group in rows.groupby(["event", "grade"], sort=False)
    ]
    few = rows.attrs["ess"] < 50
    caution = (
        "That is few: these figures are too large, for they hold noise of the reweighting. Take more tables and draws."
        if few
        else "That suffices."
    )
    return paragraph(
        "How covariates go together in the cohort is published in part only; the fit takes the most even table. Here whole "
        "tables that match every published count were drawn, and each risk's standard deviation between tables set against "
        f"its posterior one: half of the risks move by {rows['ratio'].median():.2f} posterior standard deviations or less, "
        f"none by more than {rows['ratio'].max():.2f}. The table the fit used errs by {rows.attrs['plugin_error']:.2f} nats "
        f"(standard deviation over draws). The fewest effective draws under any table were {rows.attrs['ess']:.0f}. {caution}"
    ) + table(lines, "Standard deviation between tables over the posterior one, over all combinations of levels", grouped=True)
