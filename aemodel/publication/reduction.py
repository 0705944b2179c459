"""Which cells and states counts leave occupied, and which counts are new: margins as the likelihood takes them.

A margin j counts the patients in a set of (cell, state) pairs, its incidence. Zero margins, full margins and nested
margins that are equal leave some pairs empty in every table with these margins; the support is what remains (facial
reduction), and without it the saddlepoint runs off to infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import qr
from scipy.optimize import linprog

from aemodel.publication.arrays import Bools, Floats
from aemodel.publication.errors import PublicationError


@dataclass(frozen=True)
class Margins:
    """The counts of one family over its own cells.

    ``n`` (cell,) patients; ``incidence`` (cell, state, margin) of 0/1, those of known counts independent on the support;
    ``counts`` (margin,), or for an interval its upper end, and ``low`` (margin,) its lower one; ``support`` (cell, state) of
    bool; ``labels`` name the margins kept. Of the counts of each of ``listed`` one at least is in its interval, or an event
    would not be in the publication.
    """

    n: Floats
    incidence: Floats
    counts: Floats
    low: Floats
    support: Bools
    labels: tuple[str, ...]
    listed: tuple[Margins, ...] = ()

    @property
    def uncertain(self) -> Bools:
        """Which margins are intervals, (margin,)."""
        return self.low < self.counts

    def of(self, margins: Sequence[int]) -> Margins:
        """Some margins only."""
        chosen = list(margins)
        labels = tuple(self.labels[j] for j in chosen)
        parts = self.incidence[:, :, chosen], self.counts[chosen], self.low[chosen]
        return Margins(self.n, *parts, self.support, labels)

    def among(self, n: Floats) -> Margins:
        """The same counts of another table of patients, (cell,)."""
        return replace(self, n=n, listed=tuple(each.among(n) for each in self.listed))


def reduce_margins(
    n: Floats,
    incidence: Floats,
    counts: Floats,
    labels: Sequence[str],
    published: Floats | None = None,
    *,
    high: Floats | None = None,
) -> Margins:
    """Find the support and keep a maximal independent set of margins on it.

    ``counts`` are known, or the lower ends of intervals that end at ``high``. Intervals are narrowed to what the other
    counts leave of them, and left out where these leave no more. ``published`` (margin, margin) of 0/1 says
    which margins the printed count of each label adds up, for the error; by default itself alone.

    Raises
    ------
    ValueError
        No table has these margins.
    """
    low, high = counts, counts if high is None else high
    table = _Bounds(n, incidence, low, high)
    if (low < high).any():
        low, high, bound = _tightened(table, labels)
        incidence, labels = incidence[:, :, bound], [labels[j] for j in bound]
        published = None if published is None else published[np.ix_(bound, bound)]
        table = _Bounds(n, incidence, low[bound], high[bound])
    support, low, high = _support(table, labels, published)
    known = low == high
    kept = np.flatnonzero(known)[independent(incidence[:, :, known], support)].tolist()
    found = Margins(n, incidence, high, low, support, tuple(labels))
    kept += [j for j in np.flatnonzero(~known).tolist() if dependence(found, kept, j) is None]
    return found.of(sorted(kept))


@dataclass(frozen=True)
class _Bounds:
    """Counts and intervals of a table, as a linear program sees them."""

    n: Floats
    incidence: Floats
    low: Floats
    high: Floats

    @property
    def cell_sums(self) -> Any:
        return sparse.kron(sparse.eye_array(len(self.n)), np.ones((1, self.incidence.shape[1])), format="csr")

    @property
    def margin_sums(self) -> Any:
        cells, states, margins = self.incidence.shape
        return sparse.csr_array(self.incidence.reshape(cells * states, margins).T)


def _tightened(table: _Bounds, labels: Sequence[str]) -> tuple[Floats, Floats, list[int]]:
    """The least and most that each interval can be, given all else; and which margins say anything the others do not."""
    low, high = table.low.copy(), table.high.copy()
    kept = np.ones(len(low), dtype=bool)
    for j in np.flatnonzero(low < high).tolist():
        ends = [_extreme(_Bounds(table.n, table.incidence, low, high), j, sign, labels) for sign in (1, -1)]
        kept[j] = ends[0] < low[j] + 1e-6 or ends[1] > high[j] - 1e-6
        low[j], high[j] = max(np.ceil(ends[0] - 1e-6), 0.0), np.floor(ends[1] + 1e-6)
        if low[j] > high[j]:
            problem = f"these counts contradict each other: no whole number is left for {labels[j]}"
            raise PublicationError("frequencies.csv", problem, remedy="correct them")
    kept |= low == high
    return low, high, np.flatnonzero(kept).tolist()


def _extreme(table: _Bounds, margin: int, sign: int, labels: Sequence[str]) -> float:
    sums = table.margin_sums
    found = linprog(
        sign * sums[[margin]].toarray()[0],
        A_ub=sparse.vstack([sums, -sums]),
        b_ub=np.concatenate([table.high, -table.low]),
        A_eq=table.cell_sums,
        b_eq=table.n,
        method="highs",
    )
    if found.status == 2:
        raise _contradiction(table, labels, None)
    if not found.success:
        raise RuntimeError(f"the linear program of an interval did not finish: {found.message}")
    return sign * float(found.fun)


def _support(table: _Bounds, labels: Sequence[str], published: Floats | None) -> tuple[Bools, Floats, Floats]:
    """Pairs of cell and state that some table occupies: maximise sum z, z <= x, z <= 1, A x = tau b, tau >= 1.

    Homogenised by tau, each z comes out 0 or 1 whatever the scale of the counts. Intervals have two unknowns more each, how
    far the count is from its upper and its lower end; where one is always zero, that end is the count. Returns the
    support, and the lower and upper ends.
    """
    cells, states, margins = table.incidence.shape
    unsure = np.flatnonzero(table.low < table.high)
    size = cells * states
    every = size + 2 * len(unsure)
    ends = sparse.eye_array(margins, format="csr")[:, unsure], sparse.eye_array(len(unsure), format="csr")
    rows = sparse.block_array(
        [
            [table.cell_sums, None, None],
            [table.margin_sums, ends[0], None],
            [table.margin_sums[unsure], None, -ends[1]],
        ],
        format="csr",
    )
    totals = np.concatenate([table.n, table.high, table.low[unsure]])
    equal = sparse.hstack([rows, sparse.csr_array(rows.shape), -totals[:, None]])
    below = sparse.hstack([-sparse.eye_array(every), sparse.eye_array(every), sparse.csr_array((every, 1))])
    found = linprog(
        np.concatenate([np.zeros(every), -np.ones(every), [0.0]]),
        A_ub=below,
        b_ub=np.zeros(every),
        A_eq=equal,
        b_eq=np.zeros(len(totals)),
        bounds=[(0, None)] * every + [(0, 1)] * every + [(1, None)],
        method="highs",
    )
    if found.status == 2:
        raise _contradiction(table, labels, published)
    if not found.success:
        raise RuntimeError(f"the support's linear program did not finish: {found.message}")
    occupied = found.x[every : 2 * every] > 0.5
    low, high = table.low.copy(), table.high.copy()
    from_high, from_low = occupied[size:].reshape(2, -1)
    low[unsure[~from_high]] = high[unsure[~from_high]]
    high[unsure[~from_low]] = low[unsure[~from_low]]
    return occupied[:size].reshape(cells, states), low, high


def _contradiction(table: _Bounds, labels: Sequence[str], published: Floats | None) -> PublicationError:
    """Margins that cannot hold together: those that must give way in the nearest table, and those that hold them (duals)."""
    cells = len(table.n)
    published = np.eye(len(table.high)) if published is None else published
    printed = sparse.block_diag([sparse.eye_array(cells), published], format="csr")
    rows = printed @ sparse.vstack([table.cell_sums, table.margin_sums], format="csr")
    low, high = (printed @ np.concatenate([table.n, ends]) for ends in (table.low, table.high))
    total, size = rows.shape
    slack = sparse.eye_array(total).tocsc()[:, cells:]
    between = [(0, width) for width in (high - low)[cells:]]
    found = linprog(
        np.concatenate([np.zeros(size), np.ones(2 * (total - cells)), np.zeros(total - cells)]),
        A_eq=sparse.hstack([rows, slack, -slack, slack]),
        b_eq=high,
        bounds=[(0, None)] * (size + 2 * (total - cells)) + between,
        method="highs",
    )
    gaps = found.x[size : size + total - cells] - found.x[size + total - cells : size + 2 * (total - cells)]
    involved = np.abs(found.eqlin.marginals[cells:]) > 1e-9
    ends = zip(labels, low[cells:], high[cells:], involved, strict=True)
    parts = [f"{label} ({a:g})" if a == b else f"{label} ({a:g} to {b:g})" for label, a, b, yes in ends if yes]
    problem = (
        f"these counts contradict each other: {'; '.join(parts)}; the nearest table misses by {np.abs(gaps).sum():.3g} patients"
    )
    return PublicationError("frequencies.csv", problem, remedy="correct them, or the nesting in events.csv")


def _centred(incidence: Floats, support: Bools) -> Floats:
    """Incidence (pair of the support, margin) less each cell's mean: what cell totals do not tell."""
    alive = support.sum(axis=1)[:, None]
    means = (incidence * support[:, :, None]).sum(axis=1) / np.maximum(alive, 1)
    return np.asarray((incidence - means[:, None, :])[support])


def independent(incidence: Floats, support: Bools) -> list[int]:
    """Margins that are linearly independent of the cell totals and of each other on the support, in their given order."""
    centred = _centred(incidence, support)
    if not centred.size:
        return []
    _, triangle, order = qr(centred, mode="economic", pivoting=True)
    rank = int((np.abs(np.diag(triangle)) > 1e-9 * max(1.0, abs(triangle[0, 0]))).sum())
    return sorted(order[:rank].tolist())


def dependence(margins: Margins, others: Sequence[int], margin: int) -> tuple[float, Floats] | None:
    """A constant and factors by which a margin's count follows from those of others; None where it does not."""
    rows = margins.incidence
    cells = np.repeat(np.eye(len(margins.n))[:, None, :], rows.shape[1], axis=1)
    basis = np.concatenate([cells, rows[:, :, list(others)]], axis=2)[margins.support]
    wanted = rows[:, :, margin][margins.support]
    found = np.linalg.lstsq(basis, wanted, rcond=None)[0]
    if np.abs(basis @ found - wanted).max(initial=0.0) > 1e-7:
        return None
    return float(found[: len(margins.n)] @ margins.n), found[len(margins.n) :]
