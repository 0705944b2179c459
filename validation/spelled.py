"""Simulated publications of the invented trial, fitted with all that its table prints, and without what few formats can say.

The trial (`validation/publications/invented`) prints each event in another form: rash by both covariates at once, neuropathy
of those assessed, cough only from 5 % on, sepsis in whole percentages. A round prints new patients by the same rules: what
lies below the cutoff or is rounded changes with the counts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aemodel.inference.design import Design
from aemodel.inference.forward import event_sums, risk_draws
from aemodel.inference.integer_tables import sample_tables
from aemodel.inference.simulated import simulate_states
from aemodel.publication.tables import Tables, read_tables
from validation.laboratory import Laboratory, make_laboratory
from validation.ranks import covered
from validation.simulation import draw_prior

TRIAL = "validation/publications/invented"
SPELLINGS = ("forms", "dropped")
"""Of all that is printed, and without what needs these forms."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def one_spelling(
    laboratory: Laboratory,
    seed: int,
    *,
    truths: Literal["prior", "trial"] = "prior",
    draws: int = 500,
    tune: int = 400,
) -> dict[str, Any]:
    """Patients with risks drawn from the prior, or with the trial's own; what is printed of them; fits of that, and of less.

    Returns
    -------
    dict
        ``intervals``: how many printed counts are; ``forms`` and ``dropped``: of the fit of all rows and of the one without
        their forms what `validation.ranks.covered` says, ``diagnostics`` and ``seconds``.
    """
    design, rng = laboratory.design, np.random.default_rng([seed, 4])
    table = sample_tables(laboratory.tables, 1, seed=seed)[0]
    prior = truths == "prior"
    p = next(iter(laboratory.forward.states(draw_prior(design, rng), seed))) if prior else trial_states(design)
    printed = print_again(laboratory.tables, design, simulate_states(design, p, table, rng), rng)
    asked = [(event.name, grade) for event in printed.events for grade in printed.grades]
    before = (event_sums(design, asked) @ p).T.reshape(len(table), len(printed.events), -1)
    found: dict[str, Any] = {"seed": seed, "intervals": sum(not row.exact for row in printed.rows if not row.derived)}
    for name, tables in zip(SPELLINGS, (printed, without_forms(printed)), strict=True):
        started, own = time.monotonic(), make_laboratory(tables, ())
        posterior, diagnostics = own.sample(own.density_of(own.margins, own.design), seed=seed, draws=draws, tune=tune)
        after = risk_draws(tables, own.forward, posterior, seed + 1_000_003)
        found[name] = covered(before, after.draws, after.weight, [" ".join(pair) for pair in asked])
        found[name] |= {"diagnostics": asdict(diagnostics), "seconds": time.monotonic() - started}
    return found


def trial_states(design: Design) -> Floats:
    """Probabilities (state, cell) of the trial itself: log odds of grade 3 or more, and how much of these is grade 4."""
    arm, age = design.cells.levels.T
    old, older = arm * (age == 2), age / 2
    rates = {
        "infection": (-1.5 + 0.6 * arm + 0.8 * older, 0.35),
        "other": (-1.0 + 0.3 * arm + 0.3 * older, 0.20),
        "rash": (-2.6 + 1.6 * arm + 0.2 * older + old, 0.20),
        "neuropathy": (-2.2 + 0.9 * arm + 1.0 * older, 0.15),
        "cough": (-3.2 + 0.9 * arm, 0.10),
    }
    severe = {name: share for name, (_, share) in rates.items()}
    risk = {name: 1 / (1 + np.exp(-logit)) for name, (logit, _) in rates.items()}
    of = {n: {0: 1 - p, 3: p * (1 - severe[n]), 4: p * severe[n]} for n, p in risk.items()}
    found = np.zeros((design.edges[-1], len(arm)))
    for first, family in zip(design.edges, design.families, strict=False):
        states = [tuple(grades) for grades in family.grades.tolist()]
        if family.root == "any_tox":  # either; four in ten infections are sepsis of the same grade
            for infection, other, septic in product((0, 3, 4), (0, 3, 4), (0, 1)):
                state = states.index((max(infection, other), infection, septic * infection))
                found[first + state] += of["infection"][infection] * of["other"][other] * (0.4 if septic else 0.6)
        else:
            for state, (grade,) in enumerate(states):
                found[first + state] = of[family.root][grade]
    return found


def print_again(tables: Tables, design: Design, counts: Ints, rng: np.random.Generator) -> Tables:
    """The publication with the frequencies of other patients, (state, cell), printed as its own are.

    Of an event with denominators of its own about as many are assessed as there, whoever they are; percentages have as many
    decimals; of events with a cutoff in percent, by the rule ``every``, rows below it are absent.
    """
    seen = {event.name: _assessed(tables, design, counts, event.name, rng) for event in tables.events}
    lines = []
    for row in tables.rows:
        if row.derived:
            continue
        cells = design.cells.having(row.covariate, row.level)
        family = design.family_of(row.event)
        n = int(seen[row.event][design.edges[family] : design.edges[family + 1], cells].sum())
        count = int(seen[row.event][np.ix_(design.states_having(row.event, row.grade), cells)].sum())
        cutoffs = [each.below for each in tables.about.cutoffs if row.event in each.events]
        if all(100 * count >= below * n for below in cutoffs):
            percent = row.unit == "percent" and not cutoffs
            decimals = len(row.printed.partition(".")[2])
            printed = f"{100 * count / n:.{decimals}f}" if percent else count
            lines.append((*row.key, n, printed, "percent" if percent else "count"))
    text = pd.DataFrame(lines, columns="event grade covariate level n printed unit".split()).to_csv(index=False)
    return read_tables({**tables.texts, "frequencies.csv": text})


def _assessed(tables: Tables, design: Design, counts: Ints, event: str, rng: np.random.Generator) -> Ints:
    """Those patients of each state and cell whom an event was looked for in."""
    if all(each.assessed != "own" for each in tables.events if each.name == event):
        return counts
    share = next(row.n for row in tables.rows if (row.event, row.covariate) == (event, "total")) / tables.n
    seen, family = np.zeros_like(counts), design.family_of(event)
    mine = slice(*design.edges[family : family + 2])
    for cell, patients in enumerate(counts[mine].T):
        seen[mine, cell] = rng.multivariate_hypergeometric(patients, rng.binomial(patients.sum(), share))
    return seen


def without_forms(tables: Tables) -> Tables:
    """What of a publication one-way tables of known counts of the whole cohort can say.

    Intervals and events with denominators of their own are dropped; a table by covariates together is its sums by each.
    """
    own = [event.name for event in tables.events if event.assessed == "own"]
    rows = tables.frequencies
    rows = rows[~rows["derived"] & ~rows["event"].isin(own) & rows["observed"].notna()]
    together = rows[rows["covariate"].str.contains("*", regex=False)]
    summed = []
    for text, table in together.groupby("covariate"):
        levels = table["level"].str.split("*", expand=True)
        for k, name in enumerate(text.split("*")):
            each = table.assign(covariate=name, level=levels[k])
            summed.append(
                each.groupby(["event", "grade", "covariate", "level"], as_index=False, sort=False)[["n", "observed"]].sum()
            )
    kept = rows.drop(together.index)[["event", "grade", "covariate", "level", "n", "observed"]]
    return tables.with_frequencies(pd.concat([kept, *summed], ignore_index=True).assign(printed="", source="", derived=False))


def spelling_table(rounds: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """By event and of all: coverage and mean width of 90 % intervals of cells' risks by fit, over rounds and both grades."""
    rows = pd.DataFrame(
        [
            {"event": pair.split()[0], "fit": fit, "seed": one["seed"], "covered": share, "width": one[fit]["width"][pair]}
            for one, fit in product(rounds, SPELLINGS)
            for pair, share in one[fit]["covered"].items()
        ]
    )
    each = pd.concat([rows, rows.assign(event="all")]).groupby(["event", "fit", "seed"], sort=False).mean()
    found = each.groupby(["event", "fit"], sort=False).agg(["mean", "sem"]).unstack("fit")
    return found.set_axis([f"{fit} {part}" + "_se" * (what == "sem") for part, what, fit in found], axis=1).reset_index()
