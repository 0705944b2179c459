"""Margins: each published count of a family's events as a sum over the cells and states of those it was counted in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from aemodel.publication.arrays import Bools, Floats, Ints
from aemodel.publication.cells import Cells, proportional_fitting, unions
from aemodel.publication.cutoffs import Unseen
from aemodel.publication.errors import Faults, PublicationError
from aemodel.publication.families import Family
from aemodel.publication.reduction import Margins, reduce_margins
from aemodel.publication.rules import split

MOST_PLACES = 50_000_000
"""Of one family's incidence, which is held in full: 0.4 GB."""


@dataclass(frozen=True)
class FamilyMargins:
    """A family's margins and how its cells lie over all cells: ``coarse`` (all cells,) gives each one's family cell.

    Where events have denominators of their own, the family's cells are there more than once: ``shares`` (copy, cell) are the
    fractions of a cell's patients of whom the same events were assessed. ``told`` holds what frequencies there are: event,
    grade and covariate, or ``arm*stage`` of two.
    """

    family: Family
    covariates: tuple[str, ...]
    coarse: Ints
    shares: Floats
    margins: Margins
    told: frozenset[tuple[str, str, str]]

    def among(self, n: Floats) -> FamilyMargins:
        """The same counts of a cohort of other numbers of patients, (all cells,)."""
        inside = np.bincount(self.coarse, weights=n, minlength=self.shares.shape[1])
        return replace(self, margins=self.margins.among((self.shares * inside).ravel()))


def family_margins(
    family: Family,
    cells: Cells,
    rows: pd.DataFrame,
    covariates: Sequence[str] | None = None,
    unseen: Sequence[Unseen] = (),
) -> FamilyMargins:
    """Margins of one family from the rows of `Tables.frequencies` to be used (derived ones never are).

    The family's cells are those of the covariates its rows distinguish, unless ``covariates`` says which; patients are
    exchangeable within them. Events that have denominators of their own were assessed in some of a cell's patients, whoever
    these are. ``unseen`` are counts that events with rows here are known not to have had.

    Raises
    ------
    ValueError
        No patients can have all these counts; the message names rows that contradict each other.
    """
    names = [event.name for event in family.events]
    mine = rows[rows["event"].isin(names) & ~rows["derived"]]
    places = {pair: split(cells.covariates, *pair) or () for pair in zip(mine["covariate"], mine["level"], strict=True)}
    told = {name for place in places.values() for name, _ in place} if covariates is None else covariates
    used = tuple(c.name for c in cells.covariates if c.name in told)
    coarse, n = cells.collapsed(used)
    first = np.array([np.flatnonzero(coarse == c)[0] for c in range(len(n))])
    inside = {pair: cells.having(*pair)[first] for pair in places}
    shares, assessed = _assessed(family, mine, n, inside)
    classes, published = _classes(family, mine)
    shape = (shares.size, len(family.grades), len(classes))
    if (size := math.prod(shape)) > MOST_PLACES:
        raise PublicationError(
            "frequencies.csv",
            f"{len(classes)} rows of the events in {family.root!r}, over {shares.size} combinations of levels and "
            f"{len(family.grades)} states, are {size:,} numbers, at most {MOST_PLACES:,} can be handled",
            remedy="give these events by fewer covariates",
        )
    incidence = np.zeros(shape)
    for j, (row, states, _, _) in enumerate(classes):
        here = assessed[row.event][:, None] & inside[row.covariate, row.level]
        incidence[:, :, j] = here.ravel()[:, None] & states
    low, high = (np.array([ends[k] for ends in classes], float) for k in (2, 3))
    labels = [f"{row.event} {row.grade} {row.covariate} {row.level}" for row, *_ in classes]
    try:
        reduced = reduce_margins((shares * n).ravel(), incidence, low, labels, published, high=high)
    except PublicationError:
        roomier = _roomier(shares * n, incidence, low, high, unions(cells.counted, coarse))
        if roomier is None:
            raise
        reduced = reduce_margins(roomier, incidence, low, labels, published, high=high)
    here = set(zip(mine["event"], mine["grade"], mine["covariate"], strict=True))
    not_so = [_not_so(each, family, cells, first, assessed[each.event], reduced) for each in unseen if each[:3] in here]
    reduced = replace(reduced, listed=tuple(not_so))
    pairs = {(r.event, r.grade, name) for r in mine.itertuples() for name in _named(places[r.covariate, r.level])}
    return FamilyMargins(family, used, coarse, shares, reduced, frozenset(pairs))


def _roomier(
    size: Floats,
    incidence: Floats,
    low: Floats,
    high: Floats,
    counted: Bools,
) -> Floats | None:
    """Patients of each cell, (cell,), if these are to have all counts; None if no table of the cohort can.

    A cell is expected to hold a fraction of a patient, and counts say that somebody in it had an event: of the tables of
    cells and states with what is counted of the cohort (``counted``, in each copy of the cells) and all known counts, the one
    nearest to the expected cells in relative entropy.
    """
    cells, states, _ = incidence.shape
    copies = np.kron(np.eye(len(size)), counted).astype(bool)
    totals = copies @ size.ravel()
    sums = np.concatenate([np.repeat(copies.T[:, None, :], states, axis=1), incidence], axis=2).reshape(1, cells * states, -1)
    low, high = np.append(totals, low), np.append(totals, high)
    try:
        support = reduce_margins(np.array([size.sum()]), sums, low, [""] * len(low), high=high).support[0]
        known = np.flatnonzero(low == high)
        sets = [(sums[0, support, j] > 0, float(low[j]), "") for j in known]
        fitted = np.zeros(cells * states)
        fitted[support] = proportional_fitting(sets, np.repeat(size.ravel() / states, states)[support])
    except PublicationError:
        return None
    return fitted.reshape(cells, states).sum(axis=1)


def _not_so(unseen: Unseen, family: Family, cells: Cells, first: Ints, assessed: Bools, margins: Margins) -> Margins:
    """Counts of which one, at least, is why an event was listed."""
    states = family.having(unseen.event, unseen.grade)
    inside = [np.outer(assessed, cells.having(unseen.covariate, level)[first]).ravel() for level, _ in unseen.levels]
    incidence = np.stack([np.outer(these, states) for these in inside], axis=2).astype(float)
    above = np.array([most + 1 for _, most in unseen.levels], float)
    labels = [f"{unseen.event} {unseen.grade} {unseen.covariate} {level}" for level, _ in unseen.levels]
    size = np.array([margins.n[these].sum() for these in inside])
    return reduce_margins(margins.n, incidence, above, labels, high=np.floor(size + 1e-6))


def _named(place: Sequence[tuple[str, Any]]) -> list[str]:
    """What a row tells of: its covariates, and each two of them together."""
    names = [name for name, _ in place]
    return [*names, *("*".join(sorted(pair)) for pair in combinations(names, 2))]


def _assessed(
    family: Family, rows: pd.DataFrame, n: Floats, inside: Mapping[tuple[str, str], Bools]
) -> tuple[Floats, dict[str, Bools]]:
    """Fractions of cells' patients by what was assessed in them, (copy, cell); and in which of these copies each event was.

    Events with the same denominators were assessed in the same patients, others in some of these and of the others alike.
    """
    own = {event.name for event in family.events if event.assessed == "own"} & set(rows["event"])
    sizes = {name: frozenset(_denominators(rows[rows["event"] == name])) for name in sorted(own)}
    kinds = list(dict.fromkeys(sizes.values()))
    rates = [_assessed_rate(dict(kind), n, inside) for kind in kinds]
    copies = list(product((True, False), repeat=len(kinds)))
    if set(rows["event"]) <= own:
        copies = [copy for copy in copies if any(copy)] or copies  # of nobody else is anything counted
    shares = [np.prod([rate if yes else 1 - rate for rate, yes in zip(rates, copy, strict=True)], axis=0) for copy in copies]
    every = {event.name: np.ones(len(copies), dtype=bool) for event in family.events}
    every |= {name: np.array([copy[kinds.index(sizes[name])] for copy in copies]) for name in own}
    return np.array([np.broadcast_to(share, n.shape) for share in shares]), every


def _denominators(rows: pd.DataFrame) -> dict[tuple[tuple[str, str], int], None]:
    return dict.fromkeys(((r.covariate, r.level), int(r.n)) for r in rows.itertuples())


def _assessed_rate(sizes: Mapping[tuple[str, str], int], n: Floats, inside: Mapping[tuple[str, str], Bools]) -> Floats:
    """Fraction of each cell's patients who were assessed, (cell,): the same odds wherever denominators do not tell."""
    size, everybody = len(n), np.zeros(2 * len(n), dtype=bool)
    cell_sets = [(everybody | np.isin(np.arange(2 * size), (c, c + size)), n[c], f"cell {c}") for c in range(size)]
    rows = [(np.append(inside[pair], everybody[:size]), m, f"{' '.join(pair)} of those assessed") for pair, m in sizes.items()]
    start = np.full(2 * size, max(n[0], 1) / (2 * size))
    for (covariate, level), m in sizes.items():
        here = inside[covariate, level]
        if m > (most := n[here].sum()) + 1e-6:
            problem = f"{m} patients were assessed at {covariate} {level}, where the cohort has {most:.6g}"
            raise PublicationError("frequencies.csv", problem, remedy="correct n there, or cohort.csv")
        if m > most - 1e-6:  # all were: fitting would take for ever to empty the rest
            start[size:][here] = 0
    table = proportional_fitting([*cell_sets, *rows], start, "frequencies.csv")
    return np.where(n > 0, table[:size] / np.where(n > 0, n, 1), 1.0)


def check_margins(families: Sequence[Family], cells: Cells, rows: pd.DataFrame) -> None:
    """Refuse counts that no patients can have, of all families at once."""
    faults = Faults()
    for family in families:
        with faults.gathered():
            family_margins(family, cells, rows)
    faults.refuse()


def _classes(family: Family, rows: pd.DataFrame) -> tuple[list[tuple[Any, Bools, int, int]], Floats]:
    """Rows with their states and the ends of their counts; known counts as disjoint grade classes.

    Where a row at 4-5 stands beside one at 3-5, the latter becomes grade 3 only. Also which classes each row, as published,
    adds up: (row, class) of 0/1.
    """
    found = list(rows.itertuples())
    states = [family.having(row.event, row.grade) for row in found]
    known = [(row.observed, row.observed) if pd.notna(row.observed) else None for row in found]
    ends = [both or (row.observed_low, row.observed_high) for row, both in zip(found, known, strict=True)]
    beside: dict[tuple[str, str, str], list[int]] = {}
    for i, row in enumerate(found):
        if ends[i][0] == ends[i][1]:
            beside.setdefault((row.event, row.covariate, row.level), []).append(i)
    published = np.eye(len(found))
    classes = [(row, these, *map(int, both)) for row, these, both in zip(found, states, ends, strict=True)]
    for places in beside.values():
        for i in places:
            inner = [j for j in places if j != i and (states[i] | ~states[j]).all() and states[j].sum() < states[i].sum()]
            if inner:
                worse = max(inner, key=lambda j: states[j].sum())
                classes[i] = (found[i], states[i] & ~states[worse], *(end - int(ends[worse][0]) for end in map(int, ends[i])))
                published[i, worse] = 1
    for _ in range(len(family.numbers)):  # a row adds up what the row within it adds up
        published = np.minimum(published + published @ published, 1)
    return classes, published
