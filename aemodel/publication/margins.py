"""Margins: each published count as a sum over cells and states, which of those can be occupied, and which counts are new.

A margin j counts the patients in a set of (cell, state) pairs, its incidence. Zero margins, full margins and nested
margins that are equal leave some pairs empty in every table with these margins; the support is what remains (facial
reduction), and without it the saddlepoint runs off to infinity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import qr
from scipy.optimize import linprog

from aemodel.publication.cells import Cells
from aemodel.publication.families import Family

MOST_PLACES = 50_000_000
"""Of one family's incidence, which is held in full: 0.4 GB."""


@dataclass(frozen=True)
class Margins:
    """The counts of one family over its own cells.

    ``n`` (cell,) patients; ``incidence`` (cell, state, margin) of 0/1, independent on the support; ``counts`` (margin,);
    ``support`` (cell, state) of bool; ``labels`` name the margins kept.
    """

    n: NDArray[np.float64]
    incidence: NDArray[np.float64]
    counts: NDArray[np.float64]
    support: NDArray[np.bool_]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class FamilyMargins:
    """A family's margins and how its cells lie over all cells: ``coarse`` (all cells,) gives each one's family cell.

    ``told`` holds what frequencies there are: event, grade and covariate.
    """

    family: Family
    covariates: tuple[str, ...]
    coarse: NDArray[np.int64]
    margins: Margins
    told: frozenset[tuple[str, str, str]]


def family_margins(family: Family, cells: Cells, rows: pd.DataFrame, covariates: Sequence[str] | None = None) -> FamilyMargins:
    """Margins of one family from the rows of `Tables.frequencies` to be used (derived ones never are).

    The family's cells are those of the covariates its rows distinguish, unless ``covariates`` says which; patients are
    exchangeable within them.

    Raises
    ------
    ValueError
        No patients can have all these counts; the message names rows that contradict each other.
    """
    names = [event.name for event in family.events]
    mine = rows[rows["event"].isin(names) & ~rows["derived"]]
    told = set(mine["covariate"]) if covariates is None else covariates
    used = tuple(c.name for c in cells.covariates if c.name in told)
    coarse, n = cells.collapsed(used)
    first = np.array([np.flatnonzero(coarse == c)[0] for c in range(len(n))])
    columns, counts, labels = [], [], []
    classes, published = _classes(family, mine)
    for row, states, count in classes:
        inside = cells.having(row.covariate, row.level)[first]
        columns.append(inside[:, None] & states[None, :])
        counts.append(count)
        labels.append(f"{row.event} {row.grade} {row.covariate} {row.level}")
    shape = (len(n), len(family.grades), len(columns))
    if (size := math.prod(shape)) > MOST_PLACES:
        raise ValueError(
            f"frequencies.csv: {len(columns)} rows of the events in {family.root!r}, over {len(n)} combinations of levels and "
            f"{len(family.grades)} states, are {size:,} numbers, at most {MOST_PLACES:,} can be handled; give these events by "
            "fewer covariates"
        )
    incidence = np.stack(columns, axis=2).astype(float) if columns else np.zeros(shape)
    reduced = reduce_margins(n, incidence, np.array(counts, float), labels, published)
    pairs = zip(mine["event"], mine["grade"], mine["covariate"], strict=True)
    return FamilyMargins(family, used, coarse, reduced, frozenset(pair for pair in pairs if pair[2] != "total"))


def _classes(family: Family, rows: pd.DataFrame) -> tuple[list[tuple[Any, NDArray[np.bool_], int]], NDArray[np.float64]]:
    """Disjoint grade classes: where a row at 4-5 stands beside one at 3-5, the latter becomes grade 3 only.

    Also which classes each row, as published, adds up: (row, class) of 0/1.
    """
    severe = {(r.event, r.covariate, r.level): (i, r.observed) for i, r in enumerate(rows.itertuples()) if r.grade == "4-5"}
    classes, published = [], np.eye(len(rows))
    for i, row in enumerate(rows.itertuples()):
        states, count = family.having(row.event, row.grade), row.observed
        key = (row.event, row.covariate, row.level)
        if row.grade == "3-5" and key in severe:
            place, worse = severe[key]
            states, count = states & ~family.having(row.event, "4-5"), count - worse
            published[i, place] = 1
        classes.append((row, states, count))
    return classes, published


def reduce_margins(
    n: NDArray[np.float64],
    incidence: NDArray[np.float64],
    counts: NDArray[np.float64],
    labels: Sequence[str],
    published: NDArray[np.float64] | None = None,
) -> Margins:
    """Find the support and keep a maximal independent set of margins on it.

    ``published`` (margin, margin) of 0/1 says which margins the printed count of each label adds up, for the error; by
    default itself alone.

    Raises
    ------
    ValueError
        No table has these margins.
    """
    published = np.eye(len(counts)) if published is None else published
    support = _support(n, incidence, counts, labels, published)
    kept = _independent(incidence, support)
    return Margins(n, incidence[:, :, kept], counts[kept], support, tuple(labels[j] for j in kept))


def _support(
    n: NDArray[np.float64],
    incidence: NDArray[np.float64],
    counts: NDArray[np.float64],
    labels: Sequence[str],
    published: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Pairs of cell and state that some table occupies: maximise sum z, z <= x, z <= 1, A x = tau b, tau >= 1.

    Homogenised by tau, each z comes out 0 or 1 whatever the scale of the counts.
    """
    cells, states, margins = incidence.shape
    size = cells * states
    cell_sums = sparse.kron(sparse.eye_array(cells), np.ones((1, states)))
    rows = sparse.vstack([cell_sums, sparse.csr_array(incidence.reshape(size, margins).T)])
    totals = np.concatenate([n, counts])
    equal = sparse.hstack([rows, sparse.csr_array(rows.shape), -totals[:, None]])
    below = sparse.hstack([-sparse.eye_array(size), sparse.eye_array(size), sparse.csr_array((size, 1))])
    found = linprog(
        np.concatenate([np.zeros(size), -np.ones(size), [0.0]]),
        A_ub=below,
        b_ub=np.zeros(size),
        A_eq=equal,
        b_eq=np.zeros(len(totals)),
        bounds=[(0, None)] * size + [(0, 1)] * size + [(1, None)],
        method="highs",
    )
    if found.status == 2:
        printed = sparse.block_diag([sparse.eye_array(cells), published], format="csr")
        raise ValueError(
            "frequencies.csv: these counts contradict each other: "
            f"{_conflict(printed @ rows, printed @ totals, cells, labels)}; correct them, or the nesting in events.csv"
        )
    if not found.success:
        raise RuntimeError(f"the support's linear program did not finish: {found.message}")
    return np.asarray(found.x[size : 2 * size] > 0.5).reshape(cells, states)


def _conflict(rows: sparse.csr_array, totals: NDArray[np.float64], cells: int, labels: Sequence[str]) -> str:
    """Margins that cannot hold together: those that must give way in the nearest table, and those that hold them (duals)."""
    total, size = rows.shape
    slack = sparse.eye_array(total).tocsc()[:, cells:]
    found = linprog(
        np.concatenate([np.zeros(size), np.ones(2 * (total - cells))]),
        A_eq=sparse.hstack([rows, slack, -slack]),
        b_eq=totals,
        method="highs",
    )
    gaps = found.x[size : size + total - cells] - found.x[size + total - cells :]
    involved = np.abs(found.eqlin.marginals[cells:]) > 1e-9
    parts = [f"{label} ({count:g})" for label, count, yes in zip(labels, totals[cells:], involved, strict=True) if yes]
    return f"{'; '.join(parts)}; the nearest table misses by {np.abs(gaps).sum():.3g} patients"


def _independent(incidence: NDArray[np.float64], support: NDArray[np.bool_]) -> list[int]:
    """Margins that are linearly independent of the cell totals and of each other on the support, in their given order."""
    alive = support.sum(axis=1)[:, None]
    means = (incidence * support[:, :, None]).sum(axis=1) / np.maximum(alive, 1)
    centred = (incidence - means[:, None, :])[support]
    if not centred.size:
        return []
    _, triangle, order = qr(centred, mode="economic", pivoting=True)
    rank = int((np.abs(np.diag(triangle)) > 1e-9 * max(1.0, abs(triangle[0, 0]))).sum())
    return sorted(order[:rank].tolist())
