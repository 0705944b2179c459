"""The saddlepoint kernel: log probability of overlapping margins, with its exact gradient, compiled by Numba.

Cell c has n_c patients, each independently in state s with probability p_cs; margin j counts those in its incidence
A_cs,j. With K(t) = sum_c n_c log sum_s p_cs exp(A_cs . t) and t solving K'(t) = y,

    log L  =  K(t) - t . y - 1/2 log det(2 pi K''(t))

(Daniels 1954; for tables, Kim and Agresti 1997). The gradient is with respect to log p_cs, each taken as free. With
q = tilted probabilities, m_c = sum_s q_cs A_cs, H = K'':

    w_cs = n_c/2 q_cs (u_cs - sum_g q_cg u_cg),   u_cs = A_cs' H^-1 A_cs - 2 A_cs' H^-1 m_c
    d log L / d log p_cs = n_c q_cs - w_cs + n_c q_cs (A_cs - m_c)' H^-1 sum_ch w_ch A_ch

Incidence is sparse: `start` and `index` (`Packed.margin`) hold, for each pair of cell and state, the margins it counts
in (CSR).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aemodel.inference.kernels import compiled
from aemodel.publication.margins import Margins

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
TOLERANCE = 1e-12
MOST_STEPS = 60


class Packed(NamedTuple):
    """Margins of several families laid end to end, as the kernel takes them.

    ``sizes`` (family, 3) counts cells, states and margins; ``n`` and ``counts`` are over cells and margins;
    ``support``, ``target`` over pairs of cell and state; ``start`` (pairs + 1) and ``margin`` are the incidence;
    ``project`` (margins x pairs of each family) gives Newton's start, project @ (target - log p).
    """

    sizes: Integers
    n: Floats
    counts: Floats
    support: NDArray[np.bool_]
    start: Integers
    margin: Integers
    project: Floats
    target: Floats


def pack(families: Sequence[Margins]) -> Packed:
    """Lay margins end to end and tabulate a start for Newton's method."""
    parts = [_with_start(_pack_one(margins)) for margins in families]
    starts = [np.zeros(1, dtype=np.int64)]
    for part in parts:
        starts.append(part.start[1:] + starts[-1][-1])
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in Packed._fields if name != "start"}
    return Packed(start=np.concatenate(starts), **joined)


def _pack_one(margins: Margins) -> Packed:
    incidence = (margins.incidence * margins.support[:, :, None]).reshape(margins.support.size, len(margins.counts))
    pair, index = np.nonzero(incidence)
    start = np.concatenate([[0], np.cumsum(np.bincount(pair, minlength=len(incidence)))]).astype(np.int64)
    sizes = np.array([margins.incidence.shape], dtype=np.int64)
    nothing = np.zeros(margins.counts.size * len(incidence))
    flat = np.zeros(len(incidence))
    return Packed(sizes, margins.n, margins.counts, margins.support.ravel(), start, index.astype(np.int64), nothing, flat)


def _with_start(packed: Packed) -> Packed:
    """Logits that match the margins from a flat table, and the weighted projection of a difference from them on A."""
    cells, states, margins = packed.sizes[0]
    t = np.zeros(margins)
    tilted = np.zeros((cells, states))
    flat = np.zeros(cells * states)
    hessian = np.zeros((margins, margins))
    data = (packed.n, packed.counts, packed.support, packed.start, packed.margin)
    if not _solve(flat, cells, states, *data, t, tilted, hessian):
        raise ValueError("no saddlepoint: the counts lie on the boundary of what the cells allow")
    dense = np.zeros((cells * states, margins))
    dense[np.repeat(np.arange(cells * states), np.diff(packed.start)), packed.margin] = 1
    dense = dense.reshape(cells, states, margins)
    centred = dense - np.einsum("cs,csm->cm", tilted, dense)[:, None]
    weight = packed.n[:, None] * tilted
    lower = np.tril(hessian)
    full = lower @ lower.T  # `_solve` leaves Cholesky's factor
    project = (
        np.linalg.solve(full, (centred * weight[:, :, None]).reshape(cells * states, margins).T)
        if margins
        else np.zeros((0, cells * states))
    )
    target = np.where(packed.support, np.log(np.maximum(tilted.ravel(), 1e-300)), 0.0)
    return packed._replace(project=project.ravel(), target=target)


@compiled
def joint_loglik(logp, sizes, n, counts, support, start, index, project, target):  # type: ignore[no-untyped-def]
    """Log likelihood of each family (family,) and its gradient with respect to ``logp`` (pairs,).

    Where no saddlepoint is found the value is minus infinity and the gradient zero.
    """
    values = np.zeros(sizes.shape[0])
    gradient = np.zeros(logp.size)
    cell = margin = pair = entry = 0
    for family in range(sizes.shape[0]):
        cells, states, margins = sizes[family]
        pairs = cells * states
        values[family] = _family_loglik(
            logp[pair : pair + pairs],
            cells,
            states,
            n[cell : cell + cells],
            counts[margin : margin + margins],
            support[pair : pair + pairs],
            start[pair : pair + pairs + 1],
            index,
            project[entry : entry + margins * pairs].reshape(margins, pairs),
            target[pair : pair + pairs],
            gradient[pair : pair + pairs],
        )
        cell += cells
        margin += margins
        pair += pairs
        entry += margins * pairs
    return values, gradient


@compiled
def _family_loglik(logp, cells, states, n, counts, support, start, index, project, target, gradient):  # type: ignore[no-untyped-def]
    margins = counts.size
    tilted = np.zeros((cells, states))
    hessian = np.zeros((margins, margins))
    difference = np.where(support, target - logp, 0.0)
    t = project @ difference
    if not _solve(logp, cells, states, n, counts, support, start, index, t, tilted, hessian):
        t[:] = 0.0  # a state of hardly any probability can throw the tabulated start far off
        if not _solve(logp, cells, states, n, counts, support, start, index, t, tilted, hessian):
            return -np.inf
    value = _objective(logp, cells, states, n, counts, support, start, index, t, tilted)
    value -= 0.5 * margins * np.log(2 * np.pi)
    for j in range(margins):
        value -= np.log(hessian[j, j])
    _gradient(cells, states, n, start, index, tilted, _inverse(hessian), gradient)
    return value


@compiled
def _solve(logp, cells, states, n, counts, support, start, index, t, tilted, hessian):  # type: ignore[no-untyped-def]
    """Newton's method with step halving, in place; at the end `hessian` holds the Cholesky factor of K''(t).

    Once steps are short K'' hardly changes: its factor is kept until a step no longer gains three digits.
    """
    value = _objective(logp, cells, states, n, counts, support, start, index, t, tilted)
    before = np.inf
    keep = False
    for _ in range(MOST_STEPS):
        if not np.isfinite(value):
            return False
        if not keep and not _factorise(cells, states, n, start, index, tilted, hessian):
            return False
        slope = _slope(cells, states, n, start, index, tilted, counts)
        step = slope.copy()
        _cholesky_solve(hessian, step)
        decrement = np.dot(slope, step)
        if decrement < TOLERANCE:
            t -= step
            _objective(logp, cells, states, n, counts, support, start, index, t, tilted)
            return _factorise(cells, states, n, start, index, tilted, hessian)
        value = _search(logp, cells, states, n, counts, support, start, index, t, tilted, step, decrement, value)
        keep = decrement < 1e-3 * before if keep else decrement < 1e-2
        before = decrement
    return False


@compiled
def _search(logp, cells, states, n, counts, support, start, index, t, tilted, step, decrement, value):  # type: ignore[no-untyped-def]
    """Go along a Newton step, halving it until the objective falls enough; the new objective, infinite if it never does."""
    origin = t.copy()
    scale = 1.0
    while scale > 1e-10:
        t[:] = origin - scale * step
        new = _objective(logp, cells, states, n, counts, support, start, index, t, tilted)
        # Below 1e-7 the objective's own rounding hides the gain: the step is taken whole.
        if decrement < 1e-7 or new <= value - 0.1 * scale * decrement:
            return new
        scale *= 0.5
    return np.inf


@compiled
def _objective(logp, cells, states, n, counts, support, start, index, t, tilted):  # type: ignore[no-untyped-def]
    """K(t) - t . y, and the tilted state probabilities in place."""
    value = -np.dot(t, counts)
    for c in range(cells):
        largest = -np.inf
        for s in range(states):
            pair = c * states + s
            if support[pair]:
                exponent = logp[pair]
                for k in range(start[pair], start[pair + 1]):
                    exponent += t[index[k]]
                tilted[c, s] = exponent
                largest = max(largest, exponent)
        total = 0.0
        for s in range(states):
            if support[c * states + s]:
                tilted[c, s] = np.exp(tilted[c, s] - largest)
                total += tilted[c, s]
        for s in range(states):
            if support[c * states + s]:
                tilted[c, s] /= total
        if n[c] > 0:
            value += n[c] * (largest + np.log(total))
    return value


@compiled
def _slope(cells, states, n, start, index, tilted, counts):  # type: ignore[no-untyped-def]
    """K'(t) - y."""
    slope = -counts
    for c in range(cells):
        for s in range(states):
            weight = n[c] * tilted[c, s]
            for a in range(start[c * states + s], start[c * states + s + 1]):
                slope[index[a]] += weight
    return slope


@compiled
def _factorise(cells, states, n, start, index, tilted, hessian):  # type: ignore[no-untyped-def]
    """K''(t), replaced by its Cholesky factor; False where it is singular."""
    margins = hessian.shape[0]
    hessian[:] = 0.0
    mean = np.zeros(margins)
    for c in range(cells):
        mean[:] = 0.0
        for s in range(states):
            weight = n[c] * tilted[c, s]
            first, last = start[c * states + s], start[c * states + s + 1]
            for a in range(first, last):
                mean[index[a]] += weight
                for b in range(first, a + 1):
                    hessian[index[a], index[b]] += weight
        if n[c] > 0:
            for j in range(margins):
                if mean[j] != 0.0:
                    for k in range(j + 1):
                        hessian[j, k] -= mean[j] * mean[k] / n[c]
    return _cholesky(hessian)


@compiled
def _gradient(cells, states, n, start, index, tilted, inverse, gradient):  # type: ignore[no-untyped-def]
    margins = inverse.shape[0]
    pull = np.zeros(margins)
    mean = np.zeros(margins)
    weights = np.zeros((cells, states))
    for c in range(cells):
        mean[:] = 0.0
        for s in range(states):
            for a in range(start[c * states + s], start[c * states + s + 1]):
                mean[index[a]] += tilted[c, s]
        toward = inverse @ mean
        average = 0.0
        for s in range(states):
            first, last = start[c * states + s], start[c * states + s + 1]
            u = 0.0
            for a in range(first, last):
                u += inverse[index[a], index[a]] - 2 * toward[index[a]]
                for b in range(first, a):
                    u += 2 * inverse[index[a], index[b]]
            weights[c, s] = u
            average += tilted[c, s] * u
        for s in range(states):
            weights[c, s] = 0.5 * n[c] * tilted[c, s] * (weights[c, s] - average)
            for a in range(start[c * states + s], start[c * states + s + 1]):
                pull[index[a]] += weights[c, s]
    pull = inverse @ pull
    for c in range(cells):
        average = 0.0
        for s in range(states):
            for a in range(start[c * states + s], start[c * states + s + 1]):
                average += tilted[c, s] * pull[index[a]]
        for s in range(states):
            along = -average
            for a in range(start[c * states + s], start[c * states + s + 1]):
                along += pull[index[a]]
            gradient[c * states + s] = n[c] * tilted[c, s] * (1.0 + along) - weights[c, s]


@compiled
def _cholesky(matrix):  # type: ignore[no-untyped-def]
    """Lower factor in place of a matrix of which the lower triangle is read; False where it is not positive definite."""
    for j in range(matrix.shape[0]):
        for k in range(j + 1):
            total = matrix[j, k]
            for i in range(k):
                total -= matrix[j, i] * matrix[k, i]
            if j > k:
                matrix[j, k] = total / matrix[k, k]
            elif total > 0.0:
                matrix[j, j] = np.sqrt(total)
            else:
                return False
    return True


@compiled
def _cholesky_solve(factor, vector):  # type: ignore[no-untyped-def]
    size = vector.size
    for j in range(size):
        for k in range(j):
            vector[j] -= factor[j, k] * vector[k]
        vector[j] /= factor[j, j]
    for j in range(size - 1, -1, -1):
        for k in range(j + 1, size):
            vector[j] -= factor[k, j] * vector[k]
        vector[j] /= factor[j, j]


@compiled
def _inverse(factor):  # type: ignore[no-untyped-def]
    """Inverse of L L' from its lower factor L, by the inverse of L."""
    size = factor.shape[0]
    lower = np.zeros((size, size))
    for j in range(size):
        lower[j, j] = 1.0 / factor[j, j]
        for i in range(j + 1, size):
            total = 0.0
            for k in range(j, i):
                total -= factor[i, k] * lower[k, j]
            lower[i, j] = total / factor[i, i]
    inverse = np.zeros((size, size))
    for j in range(size):
        for k in range(j + 1):
            total = 0.0
            for i in range(j, size):
                total += lower[i, j] * lower[i, k]
            inverse[j, k] = total
            inverse[k, j] = total
    return inverse
