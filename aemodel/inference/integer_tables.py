"""Whole integer tables of patients by cell that match every published count of the cohort, drawn at random.

The covariates' joint table is known by its margins only. A table's prior probability is that of a random sample with the
maximum-entropy proportions, times, where asked for, a log-linear association between covariates that no row of the cohort
gives together. Tables are drawn by Markov chain: two random patients swap their levels of one covariate, if all published
counts stay as they are. Tables with such counts are connected by swaps when every covariate that is tabulated is given by
one and the same other (conditional on it they are independent margins; Dobra 2003). In a longer chain of cross-tabulations
swaps of one level may not reach all tables, and what they reach is less uncertain than it should be.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from aemodel.inference.kernels import compiled
from aemodel.publication.arrays import Bools, Floats, Ints
from aemodel.publication.cells import coarse_cells, cohort_sets
from aemodel.publication.errors import PublicationError
from aemodel.publication.rules import places
from aemodel.publication.tables import Tables

SWEEPS = 20
"""Proposed swaps per patient between two tables."""


def sample_tables(tables: Tables, count: int, *, seed: int, association: float = 0.0) -> Ints:
    """Random integer tables, (table, cell), cells in the order of `aemodel.publication.cells.make_cells`.

    Parameters
    ----------
    tables
        From `load_tables`.
    count
        How many tables.
    seed
        The same seed gives the same tables.
    association
        Standard deviation of the log-linear interactions between covariates that are not tabulated together: 0 for
        none. The log odds ratio of two levels of each has twice this standard deviation, afresh in every table.

    Raises
    ------
    ValueError
        No whole numbers of patients match the cohort's counts.
    """
    combos, sets = cohort_sets(tables)
    inside = np.array([members for members, _, _ in sets])
    patients = _first_table(inside, np.array([n for _, n, _ in sets], dtype=float))
    sizes = combos.max(axis=0) + 1
    pairs = _free_pairs(tables)
    rng = np.random.default_rng(seed)
    cell = coarse_cells(tables, combos)
    found = np.empty((count, int(np.prod([len(c.levels) for c in tables.covariates]))), dtype=np.int64)
    for i in range(count):
        score = _interactions(combos, sizes, pairs, association, rng)
        moves = SWEEPS * len(patients) * len(sizes) * (1 + (association > 0))
        _swap(patients, combos, sizes, inside, score, rng.integers(len(patients), size=(moves, 2)),
              rng.integers(len(sizes), size=moves), np.log(rng.random(moves)))  # fmt: skip
        found[i] = np.bincount(cell[patients], minlength=found.shape[1])
    return found


def _first_table(inside: Bools, n: Floats) -> Ints:
    """One table that matches all counts, as the combination of each patient (patient,)."""
    combos = inside.shape[1]
    found = milp(np.zeros(combos), integrality=np.ones(combos), bounds=Bounds(0), constraints=LinearConstraint(inside, n, n))
    if not found.success:
        raise PublicationError("cohort.csv", f"no whole numbers of patients match all counts ({found.message})")
    return np.repeat(np.arange(combos), np.rint(found.x).astype(int)).astype(np.int64)


def _free_pairs(tables: Tables) -> list[tuple[int, int]]:
    """Pairs of covariates, by position, that no row of the cohort gives together."""
    position = {c.name: i for i, c in enumerate(tables.covariates)}
    together = [[position[name] for name, _ in places(tables.covariates, row)] for row in tables.counts]
    given = {frozenset(pair) for names in together for pair in combinations(names, 2)}
    return [pair for pair in combinations(range(len(position)), 2) if frozenset(pair) not in given]


def _interactions(combos: Ints, sizes: Ints, pairs: list[tuple[int, int]], spread: float, rng: np.random.Generator) -> Floats:
    """A random log-linear interaction for each combination: independent normals for each pair of levels."""
    score = np.zeros(len(combos))
    for a, b in pairs:
        score += rng.normal(0.0, spread, size=(sizes[a], sizes[b]))[combos[:, a], combos[:, b]]
    return score


@compiled
def _swap(patients, combos, sizes, inside, score, chosen, covariate, log_uniform):  # type: ignore[no-untyped-def]
    """Metropolis swaps of one covariate's level between two patients, in place; combinations are numbered last fastest."""
    stride = np.ones(sizes.size, dtype=np.int64)
    for k in range(sizes.size - 2, -1, -1):
        stride[k] = stride[k + 1] * sizes[k + 1]
    for move in range(covariate.size):
        k = covariate[move]
        one, two = patients[chosen[move, 0]], patients[chosen[move, 1]]
        step = (combos[two, k] - combos[one, k]) * stride[k]
        if step == 0:
            continue
        new_one, new_two = one + step, two - step
        same = True
        for j in range(inside.shape[0]):
            before = int(inside[j, one]) + int(inside[j, two])
            if int(inside[j, new_one]) + int(inside[j, new_two]) != before:
                same = False
                break
        if same and log_uniform[move] < score[new_one] + score[new_two] - score[one] - score[two]:
            patients[chosen[move, 0]] = new_one
            patients[chosen[move, 1]] = new_two
