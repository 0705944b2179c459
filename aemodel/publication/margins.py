"""Margins: each published count as a sum over cells and states, which of those can be occupied, and which counts are new.

A margin j counts the patients in a set of (cell, state) pairs, its incidence. Zero margins, full margins and nested
margins that are equal leave some pairs empty in every table with these margins; the support is what remains (facial
reduction), and without it the saddlepoint runs off to infinity.
"""

from __future__ import annotations

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
    """A family's margins and how its cells lie over all cells: ``coarse`` (all cells,) gives each one's family cell."""

    family: Family
    covariates: tuple[str, ...]
    coarse: NDArray[np.int64]
    margins: Margins


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
    for row, states, count in _classes(family, mine):
        inside = cells.having(row.covariate, row.level)[first]
        columns.append(inside[:, None] & states[None, :])
        counts.append(count)
        labels.append(f"{row.event} {row.grade} {row.covariate} {row.level}")
    shape = (len(n), len(family.grades), len(columns))
    incidence = np.stack(columns, axis=2).astype(float) if columns else np.zeros(shape)
    return FamilyMargins(family, used, coarse, reduce_margins(n, incidence, np.array(counts, float), labels))


def _classes(family: Family, rows: pd.DataFrame) -> list[tuple[Any, NDArray[np.bool_], int]]:
    """Disjoint grade classes: where a row at 4-5 stands beside one at 3-5, the latter becomes grade 3 only."""
    severe = {(r.event, r.covariate, r.level): r.observed for r in rows.itertuples() if r.grade == "4-5"}
    classes = []
    for row in rows.itertuples():
        states, count = family.having(row.event, row.grade), row.observed
        key = (row.event, row.covariate, row.level)
        if row.grade == "3-5" and key in severe:
            states, count = states & ~family.having(row.event, "4-5"), count - severe[key]
        classes.append((row, states, count))
    return classes


def reduce_margins(
    n: NDArray[np.float64], incidence: NDArray[np.float64], counts: NDArray[np.float64], labels: Sequence[str]
) -> Margins:
    """Find the support and keep a maximal independent set of margins on it.

    Raises
    ------
    ValueError
        No table has these margins.
    """
    support = _support(n, incidence, counts, labels)
    kept = _independent(incidence, support)
    return Margins(n, incidence[:, :, kept], counts[kept], support, tuple(labels[j] for j in kept))


def _support(
    n: NDArray[np.float64], incidence: NDArray[np.float64], counts: NDArray[np.float64], labels: Sequence[str]
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
        raise ValueError(f"these counts contradict each other: {_conflict(rows, totals, cells, labels)}")
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
