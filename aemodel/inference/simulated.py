"""Publications of simulated patients: what a paper of the same cohort and events would have printed of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from aemodel.inference.design import Design, make_design
from aemodel.publication.arrays import Floats, Ints
from aemodel.publication.evidence import FEWEST, Null
from aemodel.publication.tables import Tables


def simulate_states(design: Design, p: Floats, table: Ints, rng: np.random.Generator, times: tuple[int, ...] = ()) -> Ints:
    """States (*times, state, cell) of the patients of ``table`` (cell,), families independent within cells."""
    counts = np.zeros((*times, p.shape[0], len(table)), dtype=np.int64)
    for first, last in pairwise(design.edges):
        for cell in np.flatnonzero(table):
            share = np.clip(p[first:last, cell], 0, None)
            counts[..., first:last, cell] = rng.multinomial(table[cell], share / share.sum(), size=times or None)
    return counts


def publish(tables: Tables, design: Design, counts: Ints) -> Tables:
    """The publication with its frequencies counted anew, row by row: the cohort's sizes and everything else as they are."""
    observed = row_counts(design, tables.frequencies, counts)
    return tables.with_frequencies(tables.frequencies.assign(observed=observed, observed_low=observed, observed_high=observed))


def row_counts(design: Design, rows: pd.DataFrame, counts: Ints) -> Ints:
    """What each frequency counts, (..., row), of patients by state and cell, (..., state, cell)."""
    (kind, having), (place, inside) = _distinct(design, rows)
    return np.rint(having @ counts @ inside.T)[..., kind, place].astype(np.int64)


def row_rates(design: Design, rows: pd.DataFrame, patients: NDArray[Any]) -> Callable[[Floats], Floats]:
    """The rate of each frequency, (..., row), as a function of probabilities of states (..., state, cell).

    Of ``patients`` (cell,); of a level with nobody in it any composition will do.
    """
    (kind, having), (place, inside) = _distinct(design, rows)
    weights = inside * patients
    weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, inside)
    weights /= weights.sum(axis=1, keepdims=True)
    return lambda p: (having @ p[..., : len(patients)] @ weights.T)[..., kind, place]


def _distinct(design: Design, rows: pd.DataFrame) -> tuple[tuple[Ints, Floats], tuple[Ints, Floats]]:
    """Places (row,) of frequencies' states among distinct ones (kind, state), and (row,) of their cells among (group, cell)."""
    found = []
    for names, inside in ((["event", "grade"], design.states_having), (["covariate", "level"], design.cells.having)):
        places, pairs = pd.MultiIndex.from_frame(rows[names]).factorize()
        found.append((places, np.array([inside(*pair) for pair in pairs], dtype=float)))
    return found[0], found[1]


def pair_tests(tables: Tables) -> tuple[Null, ...]:
    """The publication's own unlisted tests and those of the pairs it lists: all that its list was drawn from."""
    listed = {null.event for null in tables.nulls if not null.stated}
    like = {null.covariate: null for null in tables.nulls}
    return tuple(
        replace(like[covariate.name], event=event.name, grade=grade)
        for event in tables.events
        for covariate in tables.covariates
        for grade in tables.grades
        if event.name in listed and covariate.name in like
    )


def all_frequencies(tables: Tables, tests: tuple[Null, ...]) -> Tables:
    """The publication with room for every pair of ``tests``: rows of every level, not yet used, beside its own."""
    cells = {c.name: c for c in tables.covariates}
    own = tables.frequencies.assign(derived=tables.frequencies["derived"] & (tables.frequencies["covariate"] != "total"))
    design = make_design(tables)
    rows = [
        (test.event, test.grade, test.covariate, level, round(design.cells.n[design.cells.having(test.covariate, level)].sum()))
        for test in tests
        for level in cells[test.covariate].names
    ]
    new = pd.DataFrame(rows, columns=["event", "grade", "covariate", "level", "n"]).assign(observed=0, derived=True)
    key = ["event", "grade", "covariate", "level"]
    return tables.with_frequencies(pd.concat([own, new]).drop_duplicates(key).reset_index(drop=True))


def print_list(tables: Tables, tests: tuple[Null, ...]) -> tuple[Tables, tuple[Null, ...], dict[tuple[str, str], float]]:
    """The publication with the pairs that had a significant test at a grade; nulls of the others; the pairs' smallest P.

    A pair is printed by the covariate's levels, not by groups of them.
    """
    observed = tables.frequencies.set_index(["event", "grade", "covariate", "level"])[["observed", "n"]]
    smallest: dict[tuple[str, str], float] = {}
    patients: dict[Null, float] = {}
    for test in tests:
        counts = observed.loc[[(test.event, test.grade, test.covariate, level) for level in test.levels]].to_numpy()
        patients[test] = counts[:, 0].sum()
        for groups in ([[k] for k in range(len(counts))], test.groups):
            if groups:
                pair = test.event, test.covariate
                merged = np.array([counts[list(group)].sum(axis=0) for group in groups])
                smallest[pair] = min(smallest.get(pair, 1.0), _p_value(merged))
    listed = {pair for pair, p in smallest.items() if p < 0.05}
    rows = tables.frequencies
    asked = pd.MultiIndex.from_frame(rows[["event", "covariate"]])
    levels = {(covariate.name, level) for covariate in tables.covariates for level in covariate.names}
    whole = pd.MultiIndex.from_frame(rows[["covariate", "level"]]).isin(list(levels))
    derived = np.where(asked.isin(list(smallest)), ~(asked.isin(list(listed)) & whole), rows["derived"])
    left = tuple(test for test in tests if (test.event, test.covariate) not in listed and patients[test] >= FEWEST)
    return tables.with_frequencies(rows.assign(derived=derived)), left, smallest


def _p_value(counts: Ints) -> float:
    table = np.column_stack([counts[:, 0], counts[:, 1] - counts[:, 0]])
    return float(chi2_contingency(table, correction=False).pvalue) if table.sum(axis=0).all() else 1.0
