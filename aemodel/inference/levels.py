"""Levels of branches: what is to be added to effects so that the whole cohort takes each branch as often as is said.

A branch that is reached with probability R in a cell has the logit ``level + moved`` there, of which the level solves

    sum over cells of share R sigma(level + moved)  =  sigma(log odds) times the sum over cells of share R.

R depends on the branches before it, so levels are found in the order of decisions. The cohort's log odds are then parameters
of their own: effects, those too of which no margin speaks, leave the cohort's counts alone.
"""

from __future__ import annotations

import numpy as np

from aemodel.inference.kernels import compiled

CLOSE = 1e-7
"""The last step to a level, in log odds; the error that is left is of its square."""
MOST_STEPS = 200
FARTHEST = 300.0
"""Effects in log odds beyond which cells are not told apart: their odds could not be squared."""


@compiled
def descend(log_odds, moved, tree):  # type: ignore[no-untyped-def]
    """Levels (branch,), from the cohort's log odds (branch,) and what effects add to logits in each cell (branch, cell).

    With chances that each branch is refused and taken (2, branch, cell), of reaching each node (node, cell), and of each state
    (state, cell). ``tree`` is a `Tree`.
    """
    branches, cells = moved.shape
    level, weight, against = np.empty(branches), np.empty(cells), np.empty(cells)
    chance = np.empty((2, branches, cells))
    reach, p = np.empty((len(tree.after), cells)), np.empty((len(tree.after) + len(tree.first), cells))
    for node in tree.first:
        reach[node] = 1.0
    for k in range(branches):
        b, nodes = tree.branch[k], range(tree.start[k], tree.start[k + 1])
        no, yes = chance[0, b], chance[1, b]
        reached_by(reach, nodes, tree.share, weight)
        level[b] = level_of(log_odds[b], moved[b], weight, against)
        for c in range(cells):
            yes[c] = 1 / (1 + against[c])
            no[c] = against[c] * yes[c]
        for node in nodes:
            here = reach[node]
            for take in range(2):
                after, taken = tree.after[node, take], chance[take, b]
                there = p[-1 - after] if after < 0 else reach[after]
                for c in range(cells):
                    there[c] = here[c] * taken[c]
    return level, chance, reach, p


@compiled
def reached_by(reach, nodes, share, weight):  # type: ignore[no-untyped-def]
    """Of the cohort, who reaches any of a branch's nodes, by cell, in place."""
    weight[:] = 0.0
    for node in nodes:
        here = reach[node]
        for c in range(len(weight)):
            weight[c] += share[c] * here[c]


@compiled
def level_of(log_odds, moved, weight, against):  # type: ignore[no-untyped-def]
    """The level of one branch, and the odds against it in each cell, in place.

    By Newton's method in log odds, within bounds that it narrows.
    """
    total, middle, most, least = 0.0, 0.0, -np.inf, np.inf
    for c in range(len(weight)):
        if weight[c] > 0:
            total += weight[c]
            middle += weight[c] * moved[c]
            most, least = max(most, moved[c]), min(least, moved[c])
    middle /= total
    for c in range(len(weight)):
        against[c] = np.exp(min(max(middle - moved[c], -FARTHEST), FARTHEST))
    low, high, level = log_odds + middle - most, log_odds + middle - least, log_odds  # of a cell in the middle
    for _ in range(MOST_STEPS):
        up = down = slope = 0.0
        odds = np.exp(-level)
        for c in range(len(weight)):
            z = odds * against[c]
            taken = 1 / (1 + z)
            up += weight[c] * taken
            down += weight[c] * z * taken
            slope += weight[c] * z * taken * taken
        distance = log_odds - np.log(up / down)
        if distance > 0:
            low = level
        else:
            high = level
        step = distance * up * down / (slope * total)
        if not low <= level + step <= high:
            step = 0.5 * (low + high) - level
        level += step
        if abs(step) < CLOSE:
            break
    odds = np.exp(-level)
    for c in range(len(weight)):
        against[c] *= odds
    return level - middle


@compiled
def ascend(d_p, d_logits, log_odds, chance, reach, tree):  # type: ignore[no-untyped-def]
    """Slopes in the cohort's log odds (branch,) and in what effects add (branch, cell): `descend` backwards.

    Of what has slopes ``d_p`` (state, cell) in the probabilities of states and ``d_logits`` (branch, cell) in the logits. Of a
    level they are by the implicit function theorem.
    """
    d_moved, d_log_odds, d_reach = d_logits.copy(), np.zeros(len(log_odds)), np.empty(reach.shape)
    cells = reach.shape[1]
    weight = np.empty(cells)
    for k in range(len(log_odds) - 1, -1, -1):
        b, nodes = tree.branch[k], range(tree.start[k], tree.start[k + 1])
        no, yes, d = chance[0, b], chance[1, b], d_moved[b]
        for node in nodes:
            if_no, if_yes = tree.after[node]
            d_no = d_p[-1 - if_no] if if_no < 0 else d_reach[if_no]
            d_yes = d_p[-1 - if_yes] if if_yes < 0 else d_reach[if_yes]
            here, d_here = reach[node], d_reach[node]
            for c in range(cells):
                d[c] += here[c] * no[c] * yes[c] * (d_yes[c] - d_no[c])
                d_here[c] = no[c] * d_no[c] + yes[c] * d_yes[c]
        reached_by(reach, nodes, tree.share, weight)
        total = slope = all_d = 0.0
        for c in range(cells):
            total += weight[c]
            slope += weight[c] * no[c] * yes[c]
            all_d += d[c]
        if slope > 0:
            cohort, by = 1 / (1 + np.exp(-log_odds[b])), all_d / slope
            d_log_odds[b] = by * cohort * (1 - cohort) * total
            for c in range(cells):
                d[c] -= by * weight[c] * no[c] * yes[c]
            for node in nodes:
                d_here = d_reach[node]
                for c in range(cells):
                    d_here[c] -= by * tree.share[c] * (yes[c] - cohort)
    return d_log_odds, d_moved
