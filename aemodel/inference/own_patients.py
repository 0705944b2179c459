"""Patients of one's own beside a publication: their rows as profile counts, and what these say in the model.

What is known of a patient is, for each covariate, a set of levels and, for each event family, the set of states that
agree with the grades given. A family's probability of it is an average over the cells of the first set, weighted as in
the cohort, of the sum over the second. Patients with the same two sets are counted together, so the cost does not grow
with the number of patients:

    log L  =  sum over pairs of sets of  count * log( sum_c w_c sum_{s possible} p_cs )

With all covariates known this is the exact multinomial likelihood. Where one is not, families are averaged over it each
by itself, as they are over what their margins do not distinguish. What outcomes in one family say of the unknown covariate
is not used in another: whatever else makes severe events come together in a patient would pass for its effect.

Patients who are part of the published cohort (a subset) would count twice: as rows and in the margins. The margins' part
is therefore that of the others: published counts less theirs, over the cohort without them
(`aemodel.publication.cells.remaining_cells`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy.linalg import block_diag

from aemodel.inference.density import Term
from aemodel.inference.design import Design, all_margins
from aemodel.publication.arrays import Bools, Floats, Ints
from aemodel.publication.cells import remaining_cells
from aemodel.publication.errors import InputError, PatientsError, wrong_patients
from aemodel.publication.margins import FamilyMargins
from aemodel.publication.outcomes import read_states, shown_rows
from aemodel.publication.rules import sets_of
from aemodel.publication.tables import Tables
from aemodel.publication.texts import between, shown
from aemodel.scoring.eager import as_frame, read_sets
from aemodel.scoring.risks import cells_with_new

Overlap = Literal["disjoint", "subset"]
"""Are the patients none of the published cohort's, or some of them?"""


@dataclass(frozen=True)
class OwnProfiles:
    """Patients of one's own, counted by what is known of them.

    ``states`` (set of states, state) of 0/1, over all families' states, end to end; ``weights`` (set of levels, cell), the
    cohort's composition within each set of levels; ``counts`` (set of states, set of levels) in patients. Families of which
    nothing is known are left out. ``others`` are the rest of the published cohort and its margins, if they are a subset.
    """

    patients: int
    states: Floats
    weights: Floats
    counts: Floats
    others: tuple[Design, tuple[FamilyMargins, ...]] | None


@dataclass(frozen=True)
class _Rows:
    """What is known of each patient, before anybody is counted.

    ``sets`` (patient, covariate) are sets of levels as bits; ``outcomes`` are what `read_states` returns.
    """

    sets: Ints
    outcomes: list[tuple[Bools, Ints]]


def make_own_profiles(tables: Tables, design: Design, patients: Any, overlap: Any) -> OwnProfiles | None:
    """Profile counts of a caller's frame; None where there is none.

    Raises
    ------
    TypeError, ValueError
        It is not said how the patients overlap with the published cohort, the frame or a value does not fit, events
        contradict each other, or the published cohort cannot have these patients.
    """
    if patients is None:
        if overlap is not None:
            raise InputError("overlap", f"{shown(overlap)} is said of patients, but no patients are given")
        return None
    if overlap not in get_args(Overlap):
        raise InputError(
            "overlap",
            "with patients, say 'disjoint' (none of them is in the published cohort) or 'subset' (all of them are), "
            f"not {shown(overlap)}",
        )
    frame = as_frame(patients)
    if not len(frame):
        raise wrong_patients("the frame has no rows")
    rows = _Rows(read_sets(frame, design.cells.covariates), read_states(frame, design.families))
    others = _without_rows(tables, design, rows) if overlap == "subset" else None
    return OwnProfiles(len(frame), *_profile_counts(design, rows), others)


def patients_term(own: OwnProfiles) -> Term:
    """Log likelihood of patients."""

    def term(p: Floats) -> tuple[float, Floats]:
        chance = own.states @ p @ own.weights.T
        return (own.counts * np.log(chance)).sum(), own.states.T @ (own.counts / chance) @ own.weights

    return term


def known_patients(own: OwnProfiles, design: Design) -> dict[tuple[str, str, str], float]:
    """Of how many patients it is known whether they had an event at a grade, and their level of a covariate."""
    by_covariate = {}
    for k, covariate in enumerate(design.cells.covariates):
        of_level = own.weights @ np.eye(len(covariate.levels))[design.cells.levels[:, k]]
        by_covariate[covariate.name] = own.counts @ ((of_level > 0).sum(axis=1) == 1)
    found: dict[tuple[str, str, str], float] = {}
    for i, family in enumerate(design.families):
        states = own.states[:, design.edges[i] : design.edges[i + 1]] > 0
        for event, grade in product(family.events, design.grades):
            having = family.having(event.name, grade)
            known = states.any(axis=1) & ((states <= having).all(axis=1) | (states <= ~having).all(axis=1))
            if known.any():
                found |= {(event.name, grade, name): float(n[known].sum()) for name, n in by_covariate.items()}
    return found


def _profile_counts(design: Design, rows: _Rows) -> tuple[Floats, Floats, Floats]:
    """The arrays of `OwnProfiles`."""
    cells = design.cells
    sets, profile = np.unique(rows.sets, axis=0, return_inverse=True)
    _, weight = cells_with_new(cells.covariates, cells.n)
    weights = ((sets[:, None, :] >> cells.levels[None]) & 1).all(axis=2) * weight[: len(cells.n)]
    counts = []
    for states, pattern in rows.outcomes:
        table = np.zeros((len(states), len(sets)))
        np.add.at(table, (pattern, profile), 1)
        counts.append(table)
    states = block_diag(*[states.astype(float) for states, _ in rows.outcomes])
    told = ~np.concatenate([states.all(axis=1) for states, _ in rows.outcomes])
    return states[told], weights / weights.sum(axis=1, keepdims=True), np.concatenate(counts)[told]


def _without_rows(tables: Tables, design: Design, rows: _Rows) -> tuple[Design, tuple[FamilyMargins, ...]]:
    """The published cohort without these patients: its cells, in a design, and its margins."""
    # In the cohort, whose level is not known is at the level of these, where there is one.
    covariates = design.cells.covariates
    unknown = [sum(1 << i for i, level in enumerate(c.levels) if level.unknown) or c.everything for c in covariates]
    rows = replace(rows, sets=np.where(rows.sets == [c.everything for c in covariates], unknown, rows.sets))
    published = tables.frequencies[~tables.frequencies["derived"]]
    _check_covariates_known(design, published, rows)
    left = [_without(design, row, rows) for row in published.itertuples()]
    names = ("n", "observed", "observed_low", "observed_high")
    published = published.assign(**{name: [row[k] for row in left] for k, name in enumerate(names)})
    others = replace(design, cells=remaining_cells(tables, *np.unique(rows.sets, axis=0, return_counts=True)))
    try:
        return others, all_margins(others, published)
    except ValueError as error:
        raise wrong_patients(f"they cannot be a subset of the published cohort; without them, {error}") from None


def _check_covariates_known(design: Design, published: pd.DataFrame, rows: _Rows) -> None:
    covariates, pairs = design.cells.covariates, zip(published["covariate"], published["level"], strict=True)
    for k in sorted({k for pair in pairs for k in sets_of(covariates, *pair) or {}}):
        several = (rows.sets[:, k] & (rows.sets[:, k] - 1)) > 0
        if several.any():
            raise _unknown(covariates[k].name, "frequencies are published by it", several)


def _without(design: Design, row: Any, rows: _Rows) -> tuple[int, int | None, int, int]:
    """Denominator, count and its ends of a published frequency without these patients."""
    family = design.family_of(row.event)
    if any(event.name == row.event and event.assessed == "own" for event in design.families[family].events):
        problem = f"{row.event!r} was assessed in some of the cohort only, nobody knows in whom"
        raise wrong_patients(problem, remedy="give patients who are not in it (overlap='disjoint')")
    states, pattern = rows.outcomes[family]
    having = design.families[family].having(row.event, row.grade)
    has, has_not = (np.all(states <= these, axis=1)[pattern] for these in (having, ~having))
    if not (has | has_not).all():
        raise _unknown(row.event, f"its frequency at grade {row.grade} is published", ~(has | has_not))
    inside = np.ones(len(rows.sets), dtype=bool)
    for k, bits in (sets_of(design.cells.covariates, row.covariate, row.level) or {}).items():
        inside &= (rows.sets[:, k] & ~bits) == 0  # of each one level is known
    theirs, n = int((inside & has).sum()), row.n - int(inside.sum())
    low, high = max(row.observed_low - theirs, 0), min(row.observed_high - theirs, n)
    if low > high:
        ends = between(row.observed_low, row.observed_high, " to ")
        raise wrong_patients(
            f"{theirs} of their {row.n - n} have {row.event} {row.grade} ({row.covariate} "
            f"{row.level}), {ends} of {row.n} in the publication: they cannot be a subset of its cohort",
        )
    return n, low if low == high else None, low, high


def _unknown(column: str, why: str, rows: Bools) -> PatientsError:
    problem = f"with overlap='subset', {column!r} must be known of everybody, as {why}; not known in {shown_rows(rows)}"
    return wrong_patients(problem, rows=np.flatnonzero(rows).tolist())
