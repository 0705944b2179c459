"""What the published counts alone allow: the least and greatest frequency of an event in a profile, by linear programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import LinearConstraint, milp

from aemodel.answers.risk import long_table, read_patients
from aemodel.inference.design import Design, make_design
from aemodel.publication.arrays import Bools, Floats, Ints
from aemodel.publication.cells import NOBODY, coarse_cells, cohort_sets
from aemodel.publication.families import Family
from aemodel.publication.rules import split
from aemodel.publication.schema import Frequency
from aemodel.publication.tables import Tables

COLUMNS = ["lower", "upper", "lower_expected", "upper_expected", "patients", "patients_low", "patients_high"]


@dataclass(frozen=True)
class _Cohort:
    """Groups of patients: each one's cell (group,), and known sums of their sizes, 0/1 (sum, group) and patients (sum,)."""

    cell: Ints
    sums: Bools
    n: Floats


def bounds_table(tables: Tables, patients: Any, *, id_column: str | None = None) -> pd.DataFrame:
    """Least and greatest frequency of each event and grade in each patient's profile that the published counts allow.

    No model is used: of all tables of patients that have every published frequency, with events nested as published, these
    are the extremes (Duncan and Davis 1953, DOI 10.2307/2088122; as ratios by Charnes and Cooper 1962, DOI
    10.1002/nav.3800090303). How many patients have a profile is published by margins only too, so that bounds are given
    twice: over every cohort that has the published numbers, and for the cohort that the model uses. Where they are 0 and 1,
    an answer is all model. They are of frequencies in the published cohort: a risk, of which these are a sample, can lie
    outside. Fractions of patients are allowed: of whole ones, bounds can be a little closer.

    Parameters
    ----------
    tables
        From `load_tables`, or a model's.
    patients, id_column
        As for `posterior_epred`, except that null is any level: the bounds are of all who have what is known.

    Returns
    -------
    pandas.DataFrame
        One row per patient, event and grade: patient, event, grade, lower, upper (frequencies, over every cohort),
        lower_expected, upper_expected (frequencies, in the model's cohort), patients (who have the profile in the model's
        cohort, fractional), patients_low, patients_high (over every cohort). Where nobody can have the profile, bounds are
        0 and 1.

    Raises
    ------
    TypeError, ValueError
        As for `posterior_epred`, or ``tables`` is something else.
    """
    if not isinstance(tables, Tables):
        raise TypeError(f"tables: expected what load_tables returns, not {type(tables).__name__}")
    profiles, row, names = read_patients(tables.covariates, patients, id_column)
    design = make_design(tables)
    expected = np.where(design.cells.n < NOBODY, 0.0, design.cells.n)
    cohorts = _every_cohort(tables, design), _Cohort(np.arange(expected.size), np.eye(expected.size, dtype=bool), expected)
    found = []
    for inside in ((profiles[:, None, :] >> design.cells.levels[None]) & 1).all(axis=2).astype(bool):
        size, ends = float(expected[inside].sum()), _sizes(cohorts[0], inside)
        bounds = [_bounds(tables, design, cohort, inside, size) for cohort in cohorts]
        found.append([[*a, *b, size, *ends] for a, b in zip(*bounds, strict=True)])
    dims = {"patient": names, "event": [event.name for event in tables.events], "grade": tables.grades}
    return long_table(dims, dict(zip(COLUMNS, np.moveaxis(np.array(found)[row], -1, 0), strict=True)))


def _every_cohort(tables: Tables, design: Design) -> _Cohort:
    """All that is published of the cohort, the denominators of frequencies included."""
    combos, sets = cohort_sets(tables)
    cell = coarse_cells(tables, combos)
    own = {event.name for event in tables.events if event.assessed == "own"}
    sizes = {(row.covariate, row.level): row.n for row in tables.rows if row.event not in own}
    sums = [inside for inside, _, _ in sets] + [design.cells.having(*place)[cell] for place in sizes]
    return _Cohort(cell, np.array(sums), np.array([*(n for _, n, _ in sets), *sizes.values()], dtype=float))


def _sizes(cohort: _Cohort, inside: Bools) -> tuple[float, float]:
    """The least and most patients that can be in some cells, (cell,) of bool."""
    counted, known = inside[cohort.cell].astype(float), LinearConstraint(cohort.sums.astype(float), cohort.n, cohort.n)
    low, high = (float(counted @ _least(sign * counted, known)) for sign in (1, -1))
    return low, high


def _bounds(tables: Tables, design: Design, cohort: _Cohort, inside: Bools, size: float) -> Floats:
    """Least and greatest frequency in some cells, (event and grade, 2)."""
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for family in design.families:
        events = [event.name for event in family.events]
        rows = [row for row in tables.rows if row.event in events and not row.derived]
        having = {(event, grade): family.having(event, grade) for event in events for grade in tables.grades}
        wanted = {these.tobytes(): these for states in having.values() for these in (states, ~states)}
        most = dict.fromkeys(wanted, 1.0)
        if size > 0:
            most = _most(list(wanted.values()), *_program(design, family, rows, cohort, inside, size), size)
        found |= {pair: (1 - most[(~states).tobytes()], most[states.tobytes()]) for pair, states in having.items()}
    return np.array([found[event.name, grade] for event in tables.events for grade in tables.grades])


def _most(wanted: Sequence[Bools], within: Bools, known: LinearConstraint, size: float) -> dict[bytes, float]:
    """The greatest fraction of the patients inside that can be in each set of states."""
    place, shares = (len(within), len(wanted[0])), np.zeros((0, len(wanted[0])))
    most = {}
    # Fewest states first: where all can be in these, all can be in any that hold them, without another program.
    for states in sorted(wanted, key=lambda each: int(each.sum())):
        if not (shares[:, states].sum(axis=1) > 1 - 1e-9).any():
            objective = np.zeros(known.A.shape[1])
            objective[: place[0] * place[1]] = np.outer(-1.0 * within, states).ravel()
            x = _least(objective, known)[: place[0] * place[1]].reshape(place)
            shares = np.vstack([shares, x[within].sum(axis=0) / size])
        most[states.tobytes()] = min(1.0, float(shares[:, states].sum(axis=1).max()))
    return most


def _program(
    design: Design, family: Family, rows: Sequence[Frequency], cohort: _Cohort, inside: Bools, size: float
) -> tuple[Bools, LinearConstraint]:
    """Which parts are inside, (part,), and what is known of how many patients are in each state of each part.

    A part is what is inside, or outside, of one of the family's own cells. Unknowns are patients (part, state), the groups'
    sizes (group,) and the factor by which all of these are multiplied, so that ``size`` patients are inside.
    """
    told = {name for row in rows for name, _ in split(design.cells.covariates, row.covariate, row.level) or ()}
    own_cell = design.cells.collapsed(sorted(told))[0]
    pairs, first, part = np.unique(np.stack([own_cell, inside]), axis=1, return_index=True, return_inverse=True)
    parts, states, groups = pairs.shape[1], len(family.grades), len(cohort.cell)
    split_up = part.ravel()[cohort.cell] == np.arange(parts)[:, None]
    blocks = [
        np.hstack([np.kron(np.eye(parts), np.ones(states)), -1.0 * split_up, np.zeros((parts, 1))]),
        np.hstack([np.zeros((len(cohort.n), parts * states)), cohort.sums, -cohort.n[:, None]]),
        np.concatenate([np.zeros(parts * states), inside[cohort.cell], [0.0]])[None],
    ]
    low = [0.0] * (parts + len(cohort.n)) + [size]
    high, own = list(low), {event.name for event in family.events if event.assessed == "own"}
    for row in rows:
        here, having = design.cells.having(row.covariate, row.level)[first], family.having(row.event, row.grade)
        exact = row.exact and row.event not in own
        # Whoever was not assessed may have the event or not.
        ends = (having, row.observed_low), (~having, row.n - row.observed_high)
        for which, least in ends[:1] if exact else ends:
            blocks.append(np.concatenate([np.outer(here, which).ravel(), np.zeros(groups), [-least]])[None])
            low.append(0.0)
            high.append(0.0 if exact else np.inf)
    return pairs[1].astype(bool), LinearConstraint(sparse.csc_array(np.vstack(blocks)), low, high)


def _least(objective: Floats, known: LinearConstraint) -> Floats:
    """Numbers, not negative, at which an objective is least."""
    found = milp(objective, constraints=known)
    if not found.success:
        raise RuntimeError(f"the linear program of a bound did not finish: {found.message}")
    return np.asarray(found.x)
