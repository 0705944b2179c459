"""The section of a report on evidence beside the margins: orderings, tests that were not significant, odds ratios."""

from __future__ import annotations

from typing import Any

from aemodel.answers.evidence import DOUBTFUL
from aemodel.inference.summary import evidence_words
from aemodel.pages.report_data import ReportData
from aemodel.pages.report_parts import heading, paragraph, table
from aemodel.publication.markup import in_range

THIS, OTHER = "this fit", "other fit"


def evidence(data: ReportData) -> str:
    parts = [paragraph(evidence_words(data.settings))]
    if data.other is not None:
        parts.append(paragraph(f"The other fit, for comparison. {evidence_words(data.other.settings)}"))
    parts += [_orderings(data), _nulls(data), heading("Odds ratios")]
    parts.append(
        paragraph(
            "Odds ratios of each covariate's last level against its first, everything else as in the cohort, with 90 % "
            "intervals. Where no margin was published, pooling alone makes them; what the publication leaves out pulls them "
            "towards 1."
        )
    )
    return "".join([*parts, _odds(data)])


def _orderings(data: ReportData) -> str:
    words, rows = data.words, data.ordering
    parts = [heading("Orderings of groups")]
    if rows.empty:
        return parts[0] + paragraph("The publication states no ordering of groups.")
    keys = ["event", "grade", "covariate", "within"]
    beside = data.other.ordering.set_index([*keys, "level"]) if data.other is not None else None
    for (event, grade, covariate, within), group in rows.groupby(keys, sort=False):
        lines = []
        for row in group.itertuples():
            line = {
                "Group": words.level(covariate, row.level),
                "Patients": row.patients,
                "Published place": row.tier,
                f"Risk, {THIS}": in_range(row.risk, row.lower, row.upper),
                f"P highest, {THIS}": f"{row.p_highest:.2f}",
            }
            if beside is not None:
                same = beside.loc[(event, grade, covariate, within, row.level)]
                line[f"Risk, {OTHER}"] = in_range(same["risk"], same["lower"], same["upper"])
                line[f"P highest, {OTHER}"] = f"{same['p_highest']:.2f}"
            lines.append(line)
        p = f"The published order has posterior probability {group['p_ordered'].iloc[0]:.2f}"
        if beside is not None:
            p += f", and {beside.loc[(event, grade, covariate, within), 'p_ordered'].iloc[0]:.2f} in the other fit"
        where = _within(data, within)
        parts.append(paragraph(f"{words.event(event)}, grade {grade}, by {words.covariate(covariate)}{where}. {p}."))
        parts.append(table(lines, f"{words.event(event)}, grade {grade}: groups in the published order"))
    used = (
        "went into the fit: these figures show what it did, and confirm nothing"
        if data.settings.get("ordering")
        else ("did not go into the fit: these figures are predictions of it")
    )
    parts.insert(1, paragraph(f"The orderings {used}. Rates of groups were not published, only their order."))
    return "".join(parts)


def _within(data: ReportData, name: str) -> str:
    labels = [data.words.level(c.name, name) for c in data.tables.covariates if c.members(name)]
    return f", among: {labels[0]}" if name and labels else ""


def _nulls(data: ReportData) -> str:
    words, rows = data.words, data.selection
    title = heading("Tests that were not significant, or not listed")
    if rows.empty:
        return title + paragraph("The publication states none, and its list is not taken as complete.")
    order = [event.name for event in data.tables.events]
    rows = rows.sort_values("event", key=lambda names: names.map(order.index), kind="stable")
    doubtful = int(rows["doubtful"].sum())
    lines = []
    for row in rows.itertuples():
        line = {
            "Event": words.event(row.event),
            "Grade": row.grade,
            "By": words.covariate(row.covariate),
            "Publication": "not significant" if row.stated else "not listed",
            f"Odds ratio, {THIS}": f"{row.odds_ratio:.2f}",
            f"P, {THIS}": f"{row.p_nonsignificant:.2f}",
        }
        if data.other is not None:
            line |= {f"Odds ratio, {OTHER}": f"{row.odds_ratio_without:.2f}", f"P, {OTHER}": f"{row.p_without:.2f}"}
        lines.append(line | ({"Doubtful": row.cause if row.doubtful else ""} if doubtful else {}))
    told = f"{doubtful} of {len(rows)} have a probability below {DOUBTFUL:g}: there the publication speaks against the fit."
    if data.other is not None:
        told += f" In the other fit, {int((rows['p_without'] < DOUBTFUL).sum())} do."
    return (
        title
        + paragraph(
            "For each pair, the posterior probability P that its test would not have been significant, as the publication "
            "has it; and the odds ratio between the levels of highest and lowest risk. " + told
        )
        + table(lines, "Tests that were not significant, or not listed", grouped=True)
    )


def _odds(data: ReportData) -> str:
    words, fits = data.words, {THIS: data.odds}
    if data.other is not None:
        fits[OTHER] = data.other.odds
    lines: list[dict[str, Any]] = []
    for (event, grade), _ in data.odds.groupby(["event", "grade"], sort=False):
        for fit, odds in fits.items():
            mine = odds[(odds["event"] == event) & (odds["grade"] == grade)].drop_duplicates("covariate", keep="last")
            line = {"Event": words.event(event), "Grade": grade, "Fit": fit}
            lines.append(line | {_against(data, row): _ratio(row) for row in mine.itertuples()})
    if data.other is None:
        lines = [{name: text for name, text in line.items() if name != "Fit"} for line in lines]
    return table(lines, "Odds ratios of each covariate's last level against its first", grouped=True)


def _against(data: ReportData, row: Any) -> str:
    words = data.words
    levels = f"{words.level(row.covariate, row.level)} against {words.level(row.covariate, row.reference)}"
    return f"{words.covariate(row.covariate)}: {levels}"


def _ratio(row: Any) -> str:
    return f"{row.odds_ratio:.2f} ({row.lower:.2f} to {row.upper:.2f})"
