"""Intervals of counts as points of a sum: whole numbers that they can hold together, or pieces where these are too many.

Of a count that follows from others only that it is in its interval is left to say: at a point, or for a share of a piece.
"""

from __future__ import annotations

import warnings
from itertools import permutations
from math import lgamma, log, pi
from typing import NamedTuple

import numpy as np
from scipy.stats.qmc import Sobol

from aemodel.publication.arrays import Bools, Floats
from aemodel.publication.reduction import Margins, dependence
from aemodel.publication.texts import listed

MOST_POINTS = 3000
MOST_LISTED = 100_000
"""Points that are looked through for those at which all counts are in their intervals."""
FEW_POINTS = 60
"""Up to so many points, narrow intervals are summed over too."""
NARROW = 2.0
"""Values of an interval, in conditional standard deviations of its count, up to which the saddlepoint takes it in."""
SMALL = 1.5
"""Standard deviation of a count below which none is narrow."""
LONGEST = 300
"""Pieces of one interval."""
JOINED = 4
"""Variance of a count that follows over its interval, in that over a piece, up to which the saddlepoint takes it in."""
INSIDE = 32
"""Points of a piece at which counts that follow from others are looked at."""

Rules = dict[int, tuple[float, Floats]]


class Pieces(NamedTuple):
    """What margins that are intervals can hold together.

    ``free`` are those that can hold what they like; how others follow from known and free ones is ``told``. Each of
    ``points`` (point, 2, free) is a piece, first and last numbers. Where it is wide, a count that follows is about as unsure as
    those it follows from, and ``joined`` (point, told) to them; ``share`` (point,) of each has all others in their intervals.
    """

    known: list[int]
    free: list[int]
    told: Rules
    points: Floats
    joined: Bools
    share: Floats

    def counts(self, margins: Margins, numbers: Floats) -> Floats:
        """Counts that follow from free ones, (..., free): (..., told)."""
        found = np.empty((*numbers.shape[:-1], len(self.told)))
        before = len(self.known)
        for k, (constant, factors) in enumerate(self.told.values()):
            mine = numbers[..., : len(factors) - before]
            found[..., k] = constant + factors[:before] @ margins.counts[self.known] + mine @ factors[before:]
        return found


def make_pieces(margins: Margins, deviation: Floats) -> Pieces:
    """As few numbers to a piece as `MOST_POINTS` allow, more where that says least; ``deviation`` (margin,) is of counts."""
    found = _free(margins, deviation)
    low, high, deviation = margins.low[found.free], margins.counts[found.free], np.maximum(deviation[found.free], 1e-9)
    values = high - low + 1
    narrow = (values <= NARROW * deviation) & (deviation >= SMALL) & (values.prod() > FEW_POINTS)
    width = np.where(narrow, values, np.ceil(values / LONGEST))
    while True:
        cut = [_cut(*ends) for ends in zip(low, high, width, strict=True)]
        if np.prod([float(len(each)) for each in cut]) <= MOST_LISTED:
            place = np.indices([len(each) for each in cut]).reshape(len(cut), -1)
            points = np.stack([each[at] for each, at in zip(cut, place, strict=True)], axis=2)
            joined = _joined(margins, found, points)
            share = _share(margins, found, points, joined)
            if (share > 0).sum() <= MOST_POINTS:
                _warn_if_wide(margins, found.free, width, deviation)
                return found._replace(points=points[share > 0], joined=joined[share > 0], share=share[share > 0])
        finest = np.argmin(np.where(width < values, (width + 1) / deviation, np.inf))
        width[finest] = min(values[finest], max(width[finest] + 1, np.ceil(1.1 * width[finest])))


def _warn_if_wide(margins: Margins, free: list[int], width: Floats, deviation: Floats) -> None:
    if (wide := width > np.maximum(NARROW * deviation, 2)).any():
        names = listed(margins.labels[j] for j in np.array(free)[wide])
        warnings.warn(
            f"{len(free)} counts that are intervals can be too much together to be summed over: {names} are taken as a whole, "
            "and the likelihood may be off by some tenths of a nat; give counts, or leave out rows that others nearly tell",
            stacklevel=2,
        )


def _free(margins: Margins, deviation: Floats) -> Pieces:
    """Intervals that can hold what they like, the widest for their count first, and how the others follow from these."""
    wide = (margins.counts - margins.low + 1) / np.maximum(deviation, 1e-9)
    known, free, told = np.flatnonzero(~margins.uncertain).tolist(), list[int](), Rules()
    for j in sorted(np.flatnonzero(margins.uncertain).tolist(), key=lambda j: -wide[j]):
        rule = dependence(margins, known + free, j)
        if rule is None:
            free.append(j)
        else:
            told[j] = rule
    return Pieces(known, free, told, np.empty((0, 2, len(free))), np.empty((0, len(told)), dtype=bool), np.empty(0))


def _cut(low: float, high: float, width: float) -> Floats:
    """An interval in pieces of at most so many numbers, (piece, 2): first and last. Nobody is a piece by itself."""
    alone = low == 0 and width < high + 1
    number = np.ceil((high - low - alone + 1) / width)
    edges = np.round(np.linspace(low + alone, high + 1, int(number) + 1))
    return np.concatenate([np.zeros((int(alone), 2)), np.stack([edges[:-1], edges[1:] - 1], axis=1)])


def _joined(margins: Margins, pieces: Pieces, points: Floats) -> Bools:
    """Which counts that follow vary hardly more over their intervals than over a piece, (point, told)."""
    spread, found = (points[:, 1] - points[:, 0] + 1) ** 2 - 1, np.zeros((len(points), len(pieces.told)), dtype=bool)
    for k, (j, (_, factors)) in enumerate(pieces.told.items()):
        mine = factors[len(pieces.known) :]
        found[:, k] = (margins.counts[j] - margins.low[j] + 1) ** 2 - 1 <= JOINED * (spread[:, : len(mine)] @ mine**2)
    return found


def _share(margins: Margins, pieces: Pieces, points: Floats, joined: Bools) -> Floats:
    """Of each point's numbers that somebody can have, those with which all other counts are in their intervals: (point,)."""
    width = points[:, 1] - points[:, 0] + 1
    chosen, others = [*pieces.free, *pieces.told], [*pieces.told]
    inside = (margins.incidence * margins.n[:, None, None])[:, :, chosen] > 0
    nested = [(i, o) for i, o in permutations(range(len(chosen)), 2) if not (inside[..., i] & ~inside[..., o]).any()]
    patients = np.array([margins.n[inside[..., len(pieces.free) + k].any(axis=1)].sum() for k in range(len(others))])
    unsure = np.column_stack([width > 1, joined])
    within, there = np.zeros((2, len(points)))
    for place in Sobol(width.shape[1], scramble=False).random(1 if (width == 1).all() else INSIDE):
        y = points[:, 0] + np.floor(place * width)
        told = pieces.counts(margins, y)
        possible = ((told > -1e-6) & (told < patients + 1e-6) | joined).all(axis=1)
        y = np.column_stack([y, told])
        for inner, outer in nested:
            possible &= (y[:, inner] <= y[:, outer] + 1e-6) | unsure[:, inner] & unsure[:, outer]
        there += possible
        within += possible & ((told >= margins.low[others] - 1e-6) & (told <= margins.counts[others] + 1e-6) | joined).all(
            axis=1
        )
    return within / np.maximum(there, 1)


def stirling_errors(margins: Margins, known: list[int], block: list[int], points: Floats) -> Floats:
    """What the saddlepoint's n! is off by at each point, for the disjoint counts that these margins tell."""
    inside = {j: margins.incidence[:, :, j] * margins.n[:, None] > 0 for j in [*known, *block]}
    around = {j: _smallest_around(j, inside) for j in inside}
    patients = {j: margins.n[inside[j].any(axis=1)].sum() for j in block}
    told = {i for j in block for i in (j, around[j]) if i is not None}
    errors = []
    for y in points:
        counted = dict(zip(inside, [*margins.counts[known], *y], strict=True))
        left = [counted[j] - sum(counted[i] for i in counted if around[i] == j) for j in told]
        left += [patients[j] - counted[j] for j in block if around[j] is None]
        errors.append(sum(map(_stirling_error, left)))
    return np.array(errors)


def _smallest_around(j: int, inside: dict[int, Bools]) -> int | None:
    wider = [i for i in inside if i != j and not (inside[j] & ~inside[i]).any() and inside[i].sum() > inside[j].sum()]
    return min(wider, key=lambda i: inside[i].sum(), default=None)


def _stirling_error(count: float) -> float:
    """Log of count! less that of Stirling's formula; none of 0, which the support takes care of."""
    return lgamma(count + 1) - (count * log(count) - count + 0.5 * log(2 * pi * count)) if count > 0.5 else 0.0
