"""Rows of a report's tables, each of an answer's table: names in the publication's words, risks in per cent."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from aemodel.answers.calibration import slope_verdicts
from aemodel.answers.equation import Equation
from aemodel.answers.identification import COHORT, RANGE, of_covariates
from aemodel.inference.diagnostics import GATE
from aemodel.pages.render import source
from aemodel.publication.markup import in_range, per_cent
from aemodel.publication.schema import About, Covariate
from aemodel.publication.summary import frequency_lines
from aemodel.publication.tables import Tables
from aemodel.publication.texts import between
from aemodel.publication.words import Words
from aemodel.scoring.risks import SUPPORT, RiskDraws

Row = dict[str, Any]
THIS, OTHER = "this fit", "other fit"
FEW = 5
"""How many of a kind the summary names."""
ACROSS = 8
"""Branches that stand beside each other."""
KEY = 10
"""Risks that are told in every fit."""


def frequencies(tables: Tables, words: Words) -> list[Row]:
    grades = {f"grade {row.grade}": words.grade(row.grade) for row in tables.rows}
    return [
        {
            "Event": words.event(line["event"]),
            "Patients": words.level(line["covariate"], line["level"]),
            "N": line["n"],
            **{grades[name]: text for name, text in line.items() if name in grades},
        }
        for line in frequency_lines(tables)
    ]


def diagnostics(found: Mapping[str, Any]) -> list[Row]:
    lines = [
        ("R-hat (do chains agree)", f"{found['r_hat']:.3f}", f"at most {GATE['r_hat']:g}"),
        ("Effective draws, bulk", f"{found['ess_bulk']:.0f}", f"at least {GATE['ess']:.0f}"),
        ("Effective draws, tails", f"{found['ess_tail']:.0f}", f"at least {GATE['ess']:.0f}"),
        ("Divergent transitions", f"{found['divergences']}", f"at most {GATE['divergences']}"),
        ("E-BFMI (is energy explored)", f"{found['bfmi']:.2f}", f"at least {GATE['bfmi']:g}"),
    ]
    if "approximation" in found:
        lines.append(("Likelihood's approximation (nats)", f"{found['approximation']:.2g}", "small beside 1"))
    return [dict(zip(("Diagnostic", "Worst value", "Must be"), line, strict=True)) for line in lines]


def calibration(rows: pd.DataFrame, words: Words) -> list[Row]:
    return [
        {
            **_at(row, words),
            "Patients": words.level(row.covariate, row.level),
            "N": row.n,
            "Observed": between(row.observed_low, row.observed_high),
            "Predicted": f"{row.expected:.1f}",
            "50 %": f"{row.lower50}-{row.upper50}",
            "90 %": f"{row.lower90}-{row.upper90}",
            "Tail P": f"{row.tail_probability:.2f}",
        }
        for row in rows.itertuples()
    ]


def differences(rows: pd.DataFrame, words: Words) -> list[Row]:
    return [
        {
            **_at(row, words),
            "Difference": f"{words.level(row.covariate, row.level)} less {words.level(row.covariate, row.reference)}",
            "Published, points": point(row.observed),
            "Predicted, points": points(row.predicted, row.lower, row.upper),
        }
        for row in rows.itertuples()
    ]


def slopes(rows: pd.DataFrame | None, words: Words) -> list[Row]:
    """Slopes over all events, and the range in which that of a right model would lie where it was worked out."""
    if rows is None or not len(rows := rows[(rows["event"] == "all") & rows["slope"].notna()]):
        return []
    rows = rows if "expected_lower" in rows else rows.assign(expected_lower=np.nan, expected_upper=np.nan)
    return [
        {
            "Grade": words.grade(row.grade),
            "Published over predicted": f"{row.slope:.2f} ({row.slope_lower:.2f} to {row.slope_upper:.2f})",
            "90 % of right models": f"{row.expected_lower:.2f} to {row.expected_upper:.2f}: {verdict}"
            if row.expected_lower == row.expected_lower
            else "not worked out",
        }
        for row, verdict in zip(rows.itertuples(), slope_verdicts(rows), strict=True)
    ]


def key_risks(risks: RiskDraws, words: Words) -> list[Row]:
    """The highest risks of the cohort at the outermost grade, and these events' at the others."""
    mean, lower, upper = (values[0] for values in risks.summary(risks.everything[None], 0.9))
    return [
        {"Event": words.event(risks.events[i])}
        | {words.grade(grade): in_range(mean[i, j], lower[i, j], upper[i, j]) for j, grade in enumerate(risks.grades)}
        for i in mean[:, 0].argsort(kind="stable")[::-1][:FEW]
    ]


def orderings(own: pd.DataFrame, other: pd.DataFrame | None, words: Words, groups: Mapping[str, str]) -> Iterator[Row]:
    """Each ordering: what it is of, its probability in both fits, and the rows of its groups."""
    keys = ["event", "grade", "covariate", "within"]
    beside = None if other is None else other.set_index([*keys, "level"])
    for key, group in own.groupby(keys, sort=False):
        event, grade, covariate, within = key
        lines, same = [], None
        for row in group.itertuples():
            line = {"Group": words.level(covariate, row.level), "Patients": row.patients, "Published place": row.tier}
            fits = {THIS: row._asdict()}
            if beside is not None:
                same = beside.loc[(*key, row.level)]
                fits[OTHER] = same
            for fit, told_by in fits.items():
                line[f"Risk, {fit}"] = in_range(told_by["risk"], told_by["lower"], told_by["upper"])
                line[f"P highest, {fit}"] = f"{told_by['p_highest']:.2f}"
            lines.append(line)
        yield {
            "what": f"{words.event(event)}, {words.grade(grade)}, by {words.covariate(covariate)}"
            + (f", among: {groups[within]}" if within in groups else ""),
            "p": f"{group['p_ordered'].iloc[0]:.2f}",
            "other": None if same is None else f"{same['p_ordered']:.2f}",
            "caption": f"{words.event(event)}, {words.grade(grade)}: groups in the published order",
            "rows": lines,
        }


def nulls(rows: pd.DataFrame, words: Words) -> list[Row]:
    lines = []
    for row in rows.itertuples():
        line = {
            **_at(row, words),
            "By": words.covariate(row.covariate),
            "Publication": "not significant" if row.stated else "not listed",
            f"Odds ratio, {THIS}": f"{row.odds_ratio:.2f}",
            f"P, {THIS}": f"{row.p_nonsignificant:.2f}",
        }
        if "p_without" in rows:
            line |= {f"Odds ratio, {OTHER}": f"{row.odds_ratio_without:.2f}", f"P, {OTHER}": f"{row.p_without:.2f}"}
        lines.append(line | ({"Doubtful": row.cause if row.doubtful else ""} if rows["doubtful"].any() else {}))
    return lines


def contraction(effects: pd.DataFrame, words: Words) -> list[Row]:
    mean = of_covariates(effects)
    return [
        {
            "Event": words.event(event),
            "Grade": words.grade(grade),
            **{
                words.covariate(
                    row.Index[2]
                ): f"{row.contraction:z.2f} {row.support}{row.assumption and f' ({row.assumption})'}"
                for row in group.itertuples()
            },
        }
        for (event, grade), group in mean.groupby(level=["event", "grade"], sort=False)
    ]


def support(risks: pd.DataFrame, words: Words) -> list[Row]:
    counts = risks.groupby(["event", "grade"], sort=False)["support"].value_counts().unstack(fill_value=0)
    return [
        {"Event": words.event(event), "Grade": words.grade(grade)}
        | {flag: int(counts.loc[(event, grade)].get(flag, 0)) for flag in SUPPORT}
        for event, grade in dict.fromkeys(zip(risks["event"], risks["grade"], strict=True))
    ]


def prior(rows: pd.DataFrame, words: Words) -> list[Row]:
    lines = []
    for (event, grade), group in rows.groupby(["event", "grade"], sort=False):
        line = {"Event": words.event(event), "Grade": words.grade(grade)}
        spread = group[group["quantity"] == RANGE].iloc[0]
        for kind in ("prior", "posterior"):
            ends = (per_cent(spread[f"{kind}_{end}"]).removesuffix(" %") for end in ("lower", "upper"))
            line[f"Highest less lowest risk, per cent: {kind}"] = " to ".join(ends)
        for row in group[~group["quantity"].isin([COHORT, RANGE])].itertuples():
            name = words.covariate(row.quantity.removeprefix("odds ratio "))
            line[f"{name}: prior odds ratio"] = f"{row.prior_lower:.2f} to {row.prior_upper:.2f}"
        lines.append(line)
    return lines


def sensitivity(found: pd.DataFrame, words: Words) -> list[Row]:
    return [
        {
            **_at(row, words),
            "Patients": words.level(row.covariate, row.level),
            "Prior of scales": f"{row.scales:.2f}",
            "Prior of intercepts": f"{row.intercepts:.2f}",
            "Data": f"{row.data:.2f}",
            "Shift, sd": f"{row.shift:+z.2f}",
            "Diagnosis": row.diagnosis,
        }
        for row in found.itertuples()
    ]


def uncertainty(rows: pd.DataFrame, words: Words) -> list[Row]:
    return [
        {
            "Event": words.event(event),
            "Grade": words.grade(grade),
            "Median": f"{group['ratio'].median():.2f}",
            "95 % below": f"{group['ratio'].quantile(0.95):.2f}",
            "Largest": f"{group['ratio'].max():.2f}",
            "Largest shift, sd": f"{group['shift'].abs().max():.2f}",
        }
        for (event, grade), group in rows.groupby(["event", "grade"], sort=False)
    ]


def contrasts(rows: pd.DataFrame, words: Words) -> list[Row]:
    """What sets levels apart; of what rests on assumption no ratio, which would be read as a finding."""
    return [
        {
            **_at(row, words),
            "Were all": f"{words.level(row.covariate, row.level)}, against {words.level(row.covariate, row.reference)}",
            "Risk": per_cent(row.risk),
            "Difference, points": points(row.difference, row.difference_lower, row.difference_upper),
            "Ratio": "" if row.support == "prior" else _ratio(row.ratio, row.ratio_lower, row.ratio_upper),
            "P higher": f"{row.p_higher:.2f}",
            "Rests on": row.support,
        }
        for row in rows.itertuples()
    ]


def assumptions(risks: pd.DataFrame, words: Words) -> list[Row]:
    """Risks in each of several fits, those that move most first: a row for each, a column for each fit."""
    keys = ["covariate", "level", "event", "grade"]
    wide = risks.pivot(index=keys, columns="fit", values="risk")
    moved = (wide.max(axis=1) - wide.min(axis=1)).sort_values(ascending=False, kind="stable")
    found = {(*row[:4], row.fit): row for row in risks[[*keys, "fit", "risk", "lower", "upper"]].itertuples(index=False)}
    return [
        {"Event": words.event(event), "Grade": words.grade(grade), "Patients": words.level(covariate, level)}
        | {fit: in_range(*found[covariate, level, event, grade, fit][5:]) for fit in dict.fromkeys(risks["fit"])}
        for covariate, level, event, grade in moved.head(KEY).index
    ]


def bounds(rows: pd.DataFrame, words: Words) -> list[Row]:
    def between(least: float, most: float) -> str:
        return f"{per_cent(least).removesuffix(' %')} to {per_cent(most)}"

    return [
        {
            **_at(row, words),
            "The model": in_range(row.risk, row.lower, row.upper),
            "The counts alone": between(row.least, row.most),
            "If there are as many as expected": between(row.least_expected, row.most_expected),
            "Rests on": row.support,
        }
        for row in rows.itertuples()
    ]


def branches(equation: Equation, words: Words) -> list[Row]:
    return [
        {"p": f"p{i}", "Branch": _in_words(name, words), "Log odds, averaged over the cohort": f"{value:z.3f}"}
        for i, (name, value) in enumerate(zip(equation.branches, equation.intercept, strict=True), start=1)
    ]


def effects(equation: Equation, covariates: Sequence[Covariate]) -> Iterator[tuple[str, list[Row]]]:
    """Of so many branches at a time as a sheet of paper is wide."""
    levels = [(c.label, level.label) for c in covariates for level in c.levels]
    for first in range(0, len(equation.branches) if levels else 0, ACROSS):
        part = equation.effects[:, first : first + ACROSS]
        yield (
            f"p{first + 1} to p{first + part.shape[1]}",
            [
                {"Covariate": covariate, "Level": level} | {f"p{first + i}": f"{x:z.3f}" for i, x in enumerate(values, start=1)}
                for (covariate, level), values in zip(levels, part, strict=True)
            ],
        )


def states(equation: Equation, words: Words) -> list[Row]:
    """Each state's events, with grades, and the product that its probability is."""
    return [
        {
            "Family": words.event(name),
            "What a patient has": "; ".join(f"{words.event(e)} {grade}" for e, grade in state.grades.items()) or "nothing",
            "Probability": " ".join([*(f"p{i}" for i in state.taken), *(f"(1 - p{i})" for i in state.refused)]),
        }
        for name, family in equation.families.items()
        for state in family
    ]


def _at(row: Any, words: Words) -> Row:
    return {"Event": words.event(row.event), "Grade": words.grade(row.grade)}


def _in_words(branch: str, words: Words) -> str:
    """A branch's name with events in words: what occurs, in what, and from which grade on."""
    return " ".join(words.events.get(part, part) for part in branch.split())


def points(middle: float, lower: float, upper: float) -> str:
    return f"{point(middle)} ({point(lower)} to {point(upper)})"


def point(share: float) -> str:
    """A difference of shares in percentage points; zero has no sign."""
    return f"{100 * share:+z.1f}".replace("+0.0", "0.0")


def _ratio(middle: float, lower: float, upper: float) -> str:
    return f"{middle:.2f} ({lower:.2f} to {upper:.2f})"


def checklist(about: About) -> dict[str, Any]:
    """TRIPOD+AI. Each item: where it is answered, as an id of the report, and what is not done, and why.

    What only the publication can tell is answered if its folder does. ``kinds`` counts items that are answered, in part or not.
    """
    items = []
    for item in tomllib.loads(source("templates", "tripod.toml"))["items"]:
        missing = "needs" in item and not getattr(about, item["needs"])
        why = f"the publication's folder has no {item['needs']}" if missing else item.get("why")
        items.append({"item": item["item"], "asks": item["asks"], "at": None if missing else item.get("at"), "why": why})
    kinds = Counter("not" if item["at"] is None else "in part" if item["why"] else "answered" for item in items)
    return {"items": items, "kinds": kinds}
