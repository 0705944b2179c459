"""Stirling's formula, by which saddlepoints have the factorials of counts: what it is off by, between points of a sum."""

from __future__ import annotations

from collections.abc import Sequence
from math import lgamma, log, pi

import numpy as np
from numpy.typing import NDArray

from aemodel.publication.reduction import Margins

Floats = NDArray[np.float64]


def stirling_errors(margins: Margins, known: list[int], block: list[int], points: Sequence[Floats]) -> Floats:
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


def _smallest_around(j: int, inside: dict[int, NDArray[np.bool_]]) -> int | None:
    wider = [i for i in inside if i != j and not (inside[j] & ~inside[i]).any() and inside[i].sum() > inside[j].sum()]
    return min(wider, key=lambda i: inside[i].sum(), default=None)


def _stirling_error(count: float) -> float:
    """Log of count! less that of Stirling's formula; none of 0, which the support takes care of."""
    return lgamma(count + 1) - (count * log(count) - count + 0.5 * log(2 * pi * count)) if count > 0.5 else 0.0
