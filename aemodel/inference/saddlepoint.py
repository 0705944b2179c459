"""The saddlepoint kernel: log probability of overlapping margins, with its exact gradient, compiled by Numba.

Cell c has n_c patients, each independently in state s with probability p_cs; margin j counts those in its incidence
A_cs,j. With K(t) = sum_c n_c log sum_s p_cs exp(A_cs . t) and t solving K'(t) = y,

    log L  =  K(t) - t . y - 1/2 log det(2 pi K''(t))

(Daniels 1954; for tables, Kim and Agresti 1997). The gradient is with respect to log p_cs, each taken as free. With
q = tilted probabilities, m_c = sum_s q_cs A_cs, H = K'':

    w_cs = n_c/2 q_cs (u_cs - sum_g q_cg u_cg),   u_cs = A_cs' H^-1 A_cs - 2 A_cs' H^-1 m_c
    d log L / d log p_cs = n_c q_cs - w_cs + n_c q_cs (A_cs - m_c)' H^-1 (sum_ch w_ch A_ch + v)

A margin known to lie in an interval of k values, the highest of them y, is a count of y after a whole number U, any
from 0 to k - 1, has been added to it. K then has a term log sum_u exp(u t_j) more, H its second derivative, and
v_j = H^-1_jj / 2 times its third; v is 0 for counts that are known.

States of a cell that the same margins count are one to K, a *class*: there are far fewer of them where many events lie
in one. What is published of a family is one or more *statements*: the log probability of one is a sum of *groups*, each
the log of a sum over *points* (integers an interval can hold), blended from those solved for, its nodes (`intervals`).
Incidence is sparse (CSR): `start` and `index` hold each class's margins.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from aemodel.inference.kernels import blended, cholesky, cholesky_solve, compiled, geometric_sum, inverse
from aemodel.publication.arrays import Floats, Ints

TOLERANCE, MOST_STEPS = 1e-12, 60
FARTHEST = 10.0
"""Of a Newton step, in log odds."""


NONE: Any = np.zeros(0)


class Packed(NamedTuple):
    """What is published of several families, laid end to end, as the kernel takes it.

    ``families`` (family,) is each one's number of pairs of cell and state; ``statements`` (statement, 4): family, first
    group and last, and 1, or -1 where all else is given that one at least of its groups, which are independent, is so;
    ``groups`` (group, 4): first node and last, first point and last; ``nodes`` (node, 3): cells,
    classes and margins of one saddlepoint. ``n`` and ``classes``, their number, are over nodes' cells, ``counts`` and
    ``width`` (k) over their margins, ``member`` over pairs, each's class, or -1 where nobody can be; ``start`` (classes + 1)
    and ``margin`` are the incidence; ``project`` (margins x classes of each node) gives Newton's start, project @ (``target`` -
    log p). A point's value is ``offset`` + ``blend`` @ its group's nodes.
    """

    nodes: Ints
    n: Floats
    classes: Ints
    counts: Floats
    width: Ints
    member: Ints
    start: Ints
    margin: Ints
    project: Floats
    target: Floats
    families: Ints = NONE
    statements: Ints = NONE
    groups: Ints = NONE
    offset: Floats = NONE
    blend: Floats = NONE


@compiled
def joint_loglik(  # type: ignore[no-untyped-def]
    logp, nodes, n, classes, counts, width, member, start, index, project, target, families, statements, groups, offset, blend
):
    """Log likelihood of each family (family,) and its gradient with respect to ``logp`` (pairs,).

    Where no saddlepoint is found the value is minus infinity and the gradient zero.
    """
    values = np.zeros(families.size)
    gradient = np.zeros(logp.size)
    p = np.exp(logp)
    solved = np.zeros(nodes.shape[0])
    slopes = np.zeros(member.size)
    family = cell = margin = pair = one = entry = here = mixed = 0
    for s in range(statements.shape[0]):
        while family < statements[s, 0]:
            here += families[family]
            family += 1
        size = families[family]
        total = 0.0
        steps = np.zeros(size)
        for g in range(statements[s, 1], statements[s, 2]):
            first, last, low, high = groups[g]
            sign = 1.0
            began = pair
            for node in range(first, last):
                cells, number, margins = nodes[node]
                solved[node] = node_loglik(
                    p[here : here + size],
                    member[pair : pair + size],
                    n[cell : cell + cells],
                    classes[cell : cell + cells],
                    counts[margin : margin + margins],
                    width[margin : margin + margins],
                    start[one : one + number + 1],
                    index,
                    project[entry : entry + margins * number].reshape(margins, number),
                    target[one : one + number],
                    slopes[pair : pair + size],
                )
                cell += cells
                margin += margins
                pair += size
                one += number
                entry += margins * number
            weights = np.zeros(last - first)
            part = blended(solved[first:last], offset[low:high], blend[mixed : mixed + (high - low) * (last - first)], weights)
            mixed += (high - low) * (last - first)
            if statements[s, 3] < 0:
                part = min(part, -1e-12)  # an approximation of almost 1 can be above
                sign = np.exp(part) / np.expm1(part)
                part = np.log1p(-np.exp(part)) / sign
            total += sign * part
            for k in range(last - first):
                for i in range(size):
                    steps[i] += sign * weights[k] * slopes[began + k * size + i]
        factor = 1.0
        if statements[s, 3] < 0:
            factor = -np.exp(total) / np.expm1(total)
            total = -np.log(-np.expm1(total))
        values[family] += total
        if np.isfinite(total):
            for i in range(size):
                gradient[here + i] += factor * steps[i]
    return values, gradient


@compiled
def node_loglik(p, member, n, classes, counts, width, start, index, project, target, gradient):  # type: ignore[no-untyped-def]
    """One saddlepoint's log probability, and in place its slopes in log p (pair,)."""
    margins = counts.size
    tilted, slopes = np.zeros(target.size), np.zeros(target.size)  # contiguous, as elsewhere: compiled once
    hessian = np.zeros((margins, margins))
    between = np.zeros((3, margins))
    gradient[:] = 0.0
    chance = class_sums(p, member, target.size)
    logp, t = np.empty(chance.size), np.zeros(margins)
    for i in range(chance.size):
        logp[i] = np.log(chance[i])
    for j in range(margins):
        for i in range(chance.size):
            t[j] += project[j, i] * (target[i] - logp[i])
    if not solve(logp, n, classes, counts, width, start, index, t, tilted, hessian, between):
        t[:] = 0.0  # a state of hardly any probability can throw the tabulated start far off
        if not solve(logp, n, classes, counts, width, start, index, t, tilted, hessian, between):
            return -np.inf
    value = _objective(logp, n, classes, counts, width, start, index, t, tilted, between)
    value -= 0.5 * margins * np.log(2 * np.pi)
    for j in range(margins):
        value -= np.log(hessian[j, j])
    _gradient(n, classes, start, index, tilted, inverse(hessian), between, slopes)
    for pair in range(p.size):
        if member[pair] >= 0:
            gradient[pair] = slopes[member[pair]] * p[pair] / chance[member[pair]]
    return value


@compiled
def class_sums(p, member, number):  # type: ignore[no-untyped-def]
    """Probabilities of classes, (class,), from those of pairs."""
    sums = np.zeros(number)
    for pair in range(p.size):
        if member[pair] >= 0:
            sums[member[pair]] += p[pair]
    return sums


@compiled
def solve(logp, n, classes, counts, width, start, index, t, tilted, hessian, between):  # type: ignore[no-untyped-def]
    """Newton's method with step halving, in place; at the end `hessian` holds the Cholesky factor of K''(t).

    Once steps are short K'' hardly changes: its factor is kept until a step no longer gains three digits.
    """
    value = _objective(logp, n, classes, counts, width, start, index, t, tilted, between)
    before = np.inf
    keep = False
    for _ in range(MOST_STEPS):
        if not np.isfinite(value):
            return False
        if not keep and not _factorise(n, classes, start, index, tilted, hessian, between):
            return False
        slope = _slope(n, classes, start, index, tilted, counts, between)
        step = slope.copy()
        cholesky_solve(hessian, step)
        decrement = np.dot(slope, step)
        if decrement < TOLERANCE:
            t -= step
            _objective(logp, n, classes, counts, width, start, index, t, tilted, between)
            return _factorise(n, classes, start, index, tilted, hessian, between)
        value = _search(logp, n, classes, counts, width, start, index, t, tilted, between, step, decrement, value)
        keep = decrement < 1e-3 * before if keep else decrement < 1e-2
        before = decrement
    return False


@compiled
def _search(  # type: ignore[no-untyped-def]
    logp, n, classes, counts, width, start, index, t, tilted, between, step, decrement, value
):
    """Go along a Newton step, halving it until the objective falls enough; the new objective, infinite if it never does.

    No step goes farther than `FARTHEST`: where states are all but empty there may be nothing to come back by.
    """
    origin = t.copy()
    longest = FARTHEST
    for j in range(step.size):
        longest = max(longest, abs(step[j]))
    scale = FARTHEST / longest
    while scale > 1e-10:
        for j in range(step.size):
            t[j] = origin[j] - scale * step[j]
        new = _objective(logp, n, classes, counts, width, start, index, t, tilted, between)
        # Below 1e-7 the objective's own rounding hides the gain: the step is taken whole.
        if decrement < 1e-7 or new <= value - 0.1 * scale * decrement:
            return new
        scale *= 0.5
    return np.inf


@compiled
def _objective(logp, n, classes, counts, width, start, index, t, tilted, between):  # type: ignore[no-untyped-def]
    """K(t) - t . y, and in place the tilted state probabilities and what intervals add to derivatives of K."""
    value = -np.dot(t, counts)
    for j in range(counts.size):
        if width[j] > 1:
            value += geometric_sum(t[j], width[j], between[:, j])
    last = 0
    for c in range(n.size):
        first, last = last, last + classes[c]
        largest = -np.inf
        for k in range(first, last):
            exponent = logp[k]
            for a in range(start[k], start[k + 1]):
                exponent += t[index[a]]
            tilted[k] = exponent
            largest = max(largest, exponent)
        total = 0.0
        for k in range(first, last):
            tilted[k] = np.exp(tilted[k] - largest)
            total += tilted[k]
        for k in range(first, last):
            tilted[k] /= total
        if n[c] > 0:
            value += n[c] * (largest + np.log(total))
    return value


@compiled
def _slope(n, classes, start, index, tilted, counts, between):  # type: ignore[no-untyped-def]
    """K'(t) - y."""
    slope = between[0] - counts
    last = 0
    for c in range(n.size):
        first, last = last, last + classes[c]
        for k in range(first, last):
            weight = n[c] * tilted[k]
            for a in range(start[k], start[k + 1]):
                slope[index[a]] += weight
    return slope


@compiled
def _factorise(n, classes, start, index, tilted, hessian, between):  # type: ignore[no-untyped-def]
    """K''(t), replaced by its Cholesky factor; False where it is singular."""
    margins = hessian.shape[0]
    hessian[:] = 0.0
    mean = np.zeros(margins)
    last = 0
    for c in range(n.size):
        first, last = last, last + classes[c]
        mean[:] = 0.0
        for k in range(first, last):
            weight = n[c] * tilted[k]
            for a in range(start[k], start[k + 1]):
                mean[index[a]] += weight
                for b in range(start[k], a + 1):
                    hessian[index[a], index[b]] += weight
        if n[c] > 0:
            for j in range(margins):
                if mean[j] != 0.0:
                    for k in range(j + 1):
                        hessian[j, k] -= mean[j] * mean[k] / n[c]
    for j in range(margins):
        hessian[j, j] += between[1, j]
    return cholesky(hessian)


@compiled
def _gradient(n, classes, start, index, tilted, inverse, between, gradient):  # type: ignore[no-untyped-def]
    margins = inverse.shape[0]
    pull = np.zeros(margins)
    for j in range(margins):
        pull[j] = 0.5 * inverse[j, j] * between[2, j]
    mean = np.zeros(margins)
    weights = np.zeros(tilted.size)
    last = 0
    for c in range(n.size):
        first, last = last, last + classes[c]
        mean[:] = 0.0
        for k in range(first, last):
            for a in range(start[k], start[k + 1]):
                mean[index[a]] += tilted[k]
        toward = inverse @ mean
        average = 0.0
        for k in range(first, last):
            u = 0.0
            for a in range(start[k], start[k + 1]):
                u += inverse[index[a], index[a]] - 2 * toward[index[a]]
                for b in range(start[k], a):
                    u += 2 * inverse[index[a], index[b]]
            weights[k] = u
            average += tilted[k] * u
        for k in range(first, last):
            weights[k] = 0.5 * n[c] * tilted[k] * (weights[k] - average)
            for a in range(start[k], start[k + 1]):
                pull[index[a]] += weights[k]
    pull = inverse @ pull
    last = 0
    for c in range(n.size):
        first, last = last, last + classes[c]
        average = 0.0
        for k in range(first, last):
            for a in range(start[k], start[k + 1]):
                average += tilted[k] * pull[index[a]]
        for k in range(first, last):
            along = -average
            for a in range(start[k], start[k + 1]):
                along += pull[index[a]]
            gradient[k] = n[c] * tilted[k] * (1.0 + along) - weights[k]
