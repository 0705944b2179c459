"""Cells: every combination of covariate levels, and how many of the cohort's patients each is expected to hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from aemodel.publication.arrays import Bools, Floats, Ints
from aemodel.publication.errors import Faults, PublicationError, wrong_patients
from aemodel.publication.frequencies import OWN
from aemodel.publication.rules import places, sets_of
from aemodel.publication.schema import Covariate
from aemodel.publication.tables import Tables
from aemodel.publication.texts import listed

FILE = "cohort.csv"
NOBODY = 1e-7
"""Patients below which a cell is empty: what proportional fitting leaves where none can be."""


@dataclass(frozen=True)
class Cells:
    """All combinations of levels, the last covariate fastest.

    ``levels`` (cell, covariate) holds positions of levels; ``n`` (cell,) expected patients, fractional; ``counted``
    (set, cell) sets of cells of which the publication counts the patients.
    """

    covariates: tuple[Covariate, ...]
    levels: Ints
    n: Floats
    counted: Bools

    def having(self, covariate: str, level: str) -> Bools:
        """Which cells lie in a level, a group, several of one or more covariates (see `split`), or all (``total``): (cell,)."""
        inside = np.ones(len(self.n), dtype=bool)
        for k, bits in (sets_of(self.covariates, covariate, level) or {}).items():
            inside &= ((bits >> self.levels[:, k]) & 1).astype(bool)
        return inside

    def collapsed(self, names: Sequence[str]) -> tuple[Ints, Floats]:
        """Coarser cells over some covariates: the coarse cell of each (cell,), and the patients in each (coarse cell,)."""
        kept = [i for i, c in enumerate(self.covariates) if c.name in names]
        shape = tuple(len(self.covariates[i].levels) for i in kept)
        coarse = np.zeros(len(self.n), dtype=np.int64)
        if kept:
            coarse = np.ravel_multi_index(tuple(self.levels[:, kept].T), shape).astype(np.int64)
        size = int(np.prod(shape, dtype=int))
        return coarse, np.bincount(coarse, weights=self.n, minlength=size).astype(np.float64)


def make_cells(tables: Tables) -> Cells:
    """Expected cell counts: the maximum-entropy table with the published cohort counts.

    Where the cohort gives covariates each by relapse group only, that table is independent within relapse group; where
    it splits a level in two only in total, the split is in proportion (the hypergeometric mean).

    Raises
    ------
    ValueError
        No table has these counts, a covariate's levels are not counted, or a published denominator is not the sum of its
        cells.
    """
    _check_counted(tables)
    combos, sets = cohort_sets(tables)
    fitted = proportional_fitting(sets, len(combos))
    cell, levels = coarse_cells(tables, combos), _every_cell(tables)
    n = np.bincount(cell, weights=fitted, minlength=len(levels)).astype(np.float64)
    cells = Cells(tables.covariates, levels, n, unions(np.array([inside for inside, _, _ in sets]), cell))
    _check_denominators(tables, cells)
    return cells


def cohort_sets(tables: Tables) -> tuple[Ints, list[tuple[Bools, int, str]]]:
    """What the publication counts of its cohort: sets of combinations of its levels, which may be finer than the model's.

    Returns positions of fine levels (combination, covariate), the last covariate fastest, and for each count which
    combinations it takes in, how many patients, and its name; first of all the whole cohort.
    """
    fine = [[name for level in c.levels for name in level.cohort] for c in tables.covariates]
    combos = np.array(list(product(*(range(len(names)) for names in fine))), dtype=np.int64)
    position = {c.name: i for i, c in enumerate(tables.covariates)}
    sets = [(np.ones(len(combos), dtype=bool), tables.n, "the cohort's size")]
    for row in tables.counts:
        inside = np.ones(len(combos), dtype=bool)
        for name, levels in places(tables.covariates, row):
            k = position[name]
            inside &= np.isin(combos[:, k], [fine[k].index(level) for level in levels])
        sets.append((inside, row.n, f"{row.covariate} {row.level} {row.by_level}".strip()))
    return combos, sets


def coarse_cells(tables: Tables, combos: Ints) -> Ints:
    """The model's cell of each combination of the cohort's levels, (combination,)."""
    found = np.zeros(len(combos), dtype=np.int64)
    for k, covariate in enumerate(tables.covariates):
        coarse = np.array([i for i, level in enumerate(covariate.levels) for _ in level.cohort])
        found = found * len(covariate.levels) + coarse[combos[:, k]]
    return found


def _every_cell(tables: Tables) -> Ints:
    """Positions of levels, (cell, covariate), the last covariate fastest; one cell where there is no covariate."""
    return np.array(list(product(*(range(len(c.levels)) for c in tables.covariates))), dtype=np.int64)


def unions(sets: Bools, coarse: Ints) -> Bools:
    """Those of ``sets`` (set, cell) that whole coarser cells make up, (union, coarse cell); ``coarse`` is that of each cell."""
    inside = np.array([np.bincount(coarse, weights=each) for each in sets])
    whole = inside == np.bincount(coarse)
    return np.asarray(whole[(whole | (inside == 0)).all(axis=1)])


def remaining_cells(tables: Tables, sets: Ints, patients: Ints) -> Cells:
    """Expected counts of the cohort without some of its patients: the table of `make_cells` for whoever is left.

    A published count that takes in all of a profile's patients, or none, is lessened by as many. Where it is unknown how
    many it takes in (the publication splits a level that the profile does not; a covariate is not known), the profile's
    own split is fitted along with the table of the others, by the same entropy.

    Parameters
    ----------
    tables
        From `load_tables`.
    sets
        Profiles as sets of levels, (profile, covariate), as bits.
    patients
        How many patients of the cohort have each profile, (profile,).

    Raises
    ------
    ValueError
        The cohort cannot have these patients.
    """
    combos, published = cohort_sets(tables)
    cell, every = coarse_cells(tables, combos), _every_cell(tables)
    could = np.asarray(((sets[:, None, :] >> every[cell][None]) & 1).all(axis=2))
    within = np.array([inside for inside, _, _ in published]).astype(int) @ could.T
    wholly, unsure = within == could.sum(axis=1), (within > 0) & (within < could.sum(axis=1))
    split = unsure.any(axis=0)
    owner, combo = np.nonzero(could[split])
    counted = []
    for (inside, n, name), inner, cut in zip(published, wholly, unsure.any(axis=1), strict=True):
        taken = int(patients[inner & ~split if cut else inner].sum())
        if taken > n:
            raise wrong_patients(f"{taken} of them are in {name!r}, where cohort.csv counts {n}")
        counted.append((np.append(inside, inside[combo] & cut), n - taken, name))
    for k, size in enumerate(patients[split]):
        counted.append((np.append(np.zeros(len(combos), dtype=bool), owner == k), int(size), "patients of one's own"))
    try:
        fitted = proportional_fitting(counted, len(combos) + len(combo))[: len(combos)]
    except PublicationError as error:
        raise wrong_patients(f"they cannot all be in the published cohort; without them, {error}") from None
    left = np.bincount(cell, weights=fitted, minlength=len(every))
    left = np.where(left < NOBODY, 0.0, left)
    return Cells(
        tables.covariates, every, left.astype(np.float64), unions(np.array([inside for inside, _, _ in published]), cell)
    )


def proportional_fitting(sets: Sequence[tuple[Bools, float, str]], start: int | Floats, file: str = FILE) -> Floats:
    """Iterative proportional fitting of a table to sums over sets (Deming and Stephan 1940; Csiszar 1975).

    It starts from a table, or from a flat one of that size.
    """
    table = np.full(start, max(sets[0][1], 1) / start) if isinstance(start, int) else start.copy()
    error = np.inf
    for _ in range(5000):
        for inside, n, name in sets:
            found = table[inside].sum()
            if found == 0 and n > 0:
                raise PublicationError(file, f"{n} patients in {name!r}, but other rows leave no room for any")
            if found > 0:
                table[inside] *= n / found
        gaps = [abs(table[inside].sum() - n) for inside, n, _ in sets]
        previous, error = error, max(gaps)
        if error < 1e-9:
            return table
        if error > 0.01 and error > 0.999 * previous:
            break
    worst = sets[int(np.argmax(gaps))]
    problem = f"no table has all these counts; they disagree most about {worst[2]!r} ({worst[1]}, off by {error:.2g})"
    raise PublicationError(file, problem)


def _check_counted(tables: Tables) -> None:
    """One level without a row is the rest of the cohort; two would be given equal shares that nobody published."""
    faults = Faults()
    counted = {(name, level) for row in tables.counts for name, levels in places(tables.covariates, row) for level in levels}
    for covariate in tables.covariates:
        names = [name for level in covariate.levels for name in level.cohort]
        if len(missing := [name for name in names if (covariate.name, name) not in counted]) > 1:
            faults.add(
                FILE, f"{covariate.name} has no row for {listed(missing)}", remedy="add how many patients each level has"
            )
    faults.refuse()


def _check_denominators(tables: Tables, cells: Cells) -> None:
    faults, own = Faults(), {event.name for event in tables.events if event.assessed == "own"}
    sizes: dict[tuple[str, str], float] = {}
    for row in tables.rows:
        place = row.covariate, row.level
        if place not in sizes:
            sizes[place] = cells.n[cells.having(*place)].sum()
        if abs(sizes[place] - row.n) > 1e-6 and row.event not in own:
            problem = f"{row.covariate} {row.level} is given over {row.n} patients, cohort.csv has {sizes[place]:.6g} there"
            remedy = OWN if row.n < sizes[place] else "correct it"
            faults.add("frequencies.csv", problem, line=row.line or None, remedy=remedy)
    faults.refuse()
