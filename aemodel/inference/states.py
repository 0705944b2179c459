"""State probabilities from branch logits, compiled: the model's forward map, with its vector-Jacobian product.

A state's probability is the product of its path's branches. Paths of all families lie end to end: `Paths.start` (state + 1)
and `Paths.branch` list each state's branches, `Paths.yes` whether the state takes the branch or refuses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aemodel.inference.kernels import compiled
from aemodel.publication.families import Family


class Paths(NamedTuple):
    """Sparse paths of all families' states."""

    start: NDArray[np.int64]
    branch: NDArray[np.int64]
    yes: NDArray[np.bool_]


def make_paths(families: Sequence[Family]) -> Paths:
    start, offset = [0], 0
    branch: list[int] = []
    yes: list[bool] = []
    for family in families:
        for taken, refused in zip(family.taken, family.refused, strict=True):
            steps = np.flatnonzero(taken + refused)
            branch.extend(steps + offset)
            yes.extend(taken[steps] > 0)
            start.append(len(branch))
        offset += len(family.branches)
    return Paths(np.array(start), np.array(branch), np.array(yes))


@compiled
def state_probabilities(logits, start, branch, yes):  # type: ignore[no-untyped-def]
    """Probabilities (state, cell) from logits (branch, cell); cells run fastest, so that loops over them vectorise."""
    branches, cells = logits.shape
    states = start.size - 1
    factor = np.empty((2, branches, cells))
    for b in range(branches):
        for c in range(cells):
            small = np.exp(-abs(logits[b, c]))
            near, far = 1.0 / (1.0 + small), small / (1.0 + small)
            up = logits[b, c] >= 0
            factor[1, b, c] = near if up else far
            factor[0, b, c] = far if up else near
    p = np.ones((states, cells))
    for s in range(states):
        for k in range(start[s], start[s + 1]):
            chosen = factor[int(yes[k]), branch[k]]
            for c in range(cells):
                p[s, c] *= chosen[c]
    return p


@compiled
def pull_back(logits, p, weight, start, branch, yes):  # type: ignore[no-untyped-def]
    """Gradient (branch, cell) of sum(weight * p) with respect to logits; ``p`` and ``weight`` are (state, cell)."""
    branches, cells = logits.shape
    taken = np.zeros((branches, cells))
    reached = np.zeros((branches, cells))
    mass = np.empty(cells)
    for s in range(start.size - 1):
        for c in range(cells):
            mass[c] = weight[s, c] * p[s, c]
        for k in range(start[s], start[s + 1]):
            b = branch[k]
            for c in range(cells):
                reached[b, c] += mass[c]
            if yes[k]:
                for c in range(cells):
                    taken[b, c] += mass[c]
    for b in range(branches):
        for c in range(cells):
            taken[b, c] -= reached[b, c] / (1.0 + np.exp(-logits[b, c]))
    return taken
