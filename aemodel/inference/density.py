"""The log density that is sampled, with its gradient: the PyMC model's (`aemodel.inference.model`), written out for Numba.

PyTensor's compiled function of the same density has to be put together anew in every process, which takes longer than
sampling from it. Here both halves are kept on disk: `forward` goes from the sampler's coordinates to state probabilities,
`backward` takes derivatives back. What is published, and patients of one's own, lie between: each `Term` is a function of the
state probabilities that gives a log probability and its slopes. Names are those of the model and of `effects.moved_logits`;
an adjoint is named d_. Loops over elements are compiled in half the time that whole arrays take.

At any point value and gradient are the PyMC model's, up to a constant (`tests/test_density.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from aemodel.inference import priors
from aemodel.inference.design import Design, Tree
from aemodel.inference.effects import UNKNOWN, Centring
from aemodel.inference.kernels import compiled, half_normal_quantile
from aemodel.inference.levels import ascend, descend
from aemodel.publication.arrays import Floats, Ints

Term = Callable[[Floats], tuple[float, Floats]]
"""Log probability and its slopes, (state, cell), from state probabilities (state, cell)."""


class Structure(NamedTuple):
    """What `forward` and `backward` need of a design: arrays as in `Design`, `Centring` and `aemodel.inference.priors`.

    ``intercept`` is (pool, 2), mean and standard deviation of the pool's mean; ``width`` (pool, term) the half-normal
    scales; ``settled`` and ``outer`` (branch, state); ``matrix`` (cell, contrast), ``across`` the same the other way about.
    ``alone`` is the tree over one cell, the whole cohort.
    """

    intercept: Floats
    spread: Floats
    alike: Floats
    width: Floats
    term_of: Ints
    pool_of: Ints
    matrix: Floats
    across: Floats
    settled: Floats
    outer: Floats
    own: Floats
    shared: Floats
    load: Floats
    tree: Tree
    alone: Tree


def make_structure(design: Design, centring: Centring, prior_scale: float) -> Structure:
    settled, outer = design.among
    return Structure(
        intercept=np.array([priors.INTERCEPT[kind] for kind in design.kinds]),
        spread=np.array([np.log(priors.SPREAD[0]), priors.SPREAD[1]]),
        alike=np.array(priors.ALIKE),
        width=prior_scale * design.widths,
        term_of=design.term_of.astype(np.int64),
        pool_of=design.pool_of.astype(np.int64),
        matrix=np.ascontiguousarray(design.centred),
        across=np.ascontiguousarray(design.centred.T),
        settled=settled,
        outer=outer,
        own=centring.own,
        shared=centring.shared,
        load=np.ascontiguousarray(centring.load),
        tree=design.tree,
        alone=design.tree._replace(share=np.ones(1)),
    )


@compiled
def split(x, structure):  # type: ignore[no-untyped-def]
    """The sampler's coordinates apart, as views.

    Means and log spreads (pool,), intercepts (branch,), scores (pool, term), logits of shares (sharing pool, term), and in
    coordinates of their own shared (sharing pool, contrast) and own effects (branch, contrast).
    """
    (pools, terms), branches, contrasts = structure.width.shape, len(structure.pool_of), len(structure.term_of)
    b = 2 * pools + branches
    c = b + pools * terms
    d = c + (pools - 1) * terms
    e = d + (pools - 1) * contrasts
    return (
        x[:pools],
        x[pools : 2 * pools],
        x[2 * pools : b],
        x[b:c].reshape(pools, terms),
        x[c:d].reshape(pools - 1, terms),
        x[d:e].reshape(pools - 1, contrasts),
        x[e:].reshape(branches, contrasts),
    )


@compiled
def stretched(scale, error):  # type: ignore[no-untyped-def]
    """Standard deviation of an effect's coordinate in the prior, and what it takes from an own one of what all share."""
    stretch = np.sqrt(1 + (scale / error) ** 2)
    return stretch, scale / (error * error * stretch)


@compiled
def shared_error(own_scale, h, k, structure):  # type: ignore[no-untyped-def]
    """Standard error of a shared effect while own ones vary by their scales, and the precision that own ones leave it."""
    s = structure
    precision = UNKNOWN**-2
    for b in range(len(own_scale)):
        precision += s.load[b, h] ** 2 / (s.own[b, k] ** 2 + own_scale[b, k] ** 2)
    return np.sqrt(s.shared[h, k] ** 2 + 1 / precision), precision


@compiled
def effects(x, structure):  # type: ignore[no-untyped-def]
    """Half-normal variables, scales and shares that are common (pool, term); scales and standard scores of effects.

    The last pool shares nothing. With what shared effects add to what the data see each own one with, (branch, contrast).
    """
    s = structure
    _, _, _, score, share, shared_sampled, own_sampled = split(x, s)
    half, scale, alike = np.empty(score.shape), np.empty(score.shape), np.zeros(score.shape)
    for p in range(len(score)):
        for t in range(score.shape[1]):
            half[p, t] = half_normal_quantile(score[p, t])
            scale[p, t] = s.width[p, t] * half[p, t]
            if p < len(share):
                alike[p, t] = 1 / (1 + np.exp(-share[p, t]))
    shared_scale, shared_score = np.empty(shared_sampled.shape), np.empty(shared_sampled.shape)
    own_scale, own_score = np.empty(own_sampled.shape), np.empty(own_sampled.shape)
    together = np.zeros(own_sampled.shape)
    for k in range(len(s.term_of)):
        t = s.term_of[k]
        for b in range(len(own_scale)):
            p = s.pool_of[b]
            own_scale[b, k] = scale[p, t] * np.sqrt(1 - alike[p, t])
        for h in range(len(shared_scale)):
            shared_scale[h, k] = scale[h, t] * np.sqrt(alike[h, t])
            error, _ = shared_error(own_scale, h, k, s)
            shared_score[h, k] = shared_sampled[h, k] / stretched(shared_scale[h, k], error)[0]
        for b in range(len(own_scale)):
            for h in range(len(shared_scale)):
                together[b, k] += s.load[b, h] * shared_scale[h, k] * shared_score[h, k]
            stretch, weight = stretched(own_scale[b, k], s.own[b, k])
            own_score[b, k] = (own_sampled[b, k] - weight * together[b, k]) / stretch
    return half, scale, alike, shared_scale, shared_score, own_scale, own_score, together


@compiled
def forward(x, structure):  # type: ignore[no-untyped-def]
    """Log prior of the sampler's coordinates, up to a constant, and probabilities of states (state, cell), with a tape."""
    s = structure
    intercept, scales = split(x, s)[2], effects(x, s)
    whole = descend(intercept, np.zeros((len(intercept), 1)), s.alone)
    moved, settled, outer, odds = moved_logits(scales, whole[3], s)
    _, chance, reach, p = descend(intercept, moved, s.tree)
    return log_prior(x, scales, s), p, (scales, whole, settled, outer, odds, chance, reach)


@compiled
def log_prior(x, scales, structure):  # type: ignore[no-untyped-def]
    s, (_, _, alike, shared_scale, shared_score, own_scale, own_score, _) = structure, scales
    mean, log_spread, intercept, score, share, _, _ = split(x, s)
    value = 0.0
    for p in range(len(score)):
        value -= 0.5 * ((mean[p] - s.intercept[p, 0]) / s.intercept[p, 1]) ** 2
        value -= 0.5 * ((log_spread[p] - s.spread[0]) / s.spread[1]) ** 2
        for t in range(score.shape[1]):
            value -= 0.5 * score[p, t] ** 2
            if p < len(share):
                value += s.alike[0] * np.log(alike[p, t]) + s.alike[1] * np.log1p(-alike[p, t])
    for b in range(len(intercept)):
        p = s.pool_of[b]
        value -= 0.5 * ((intercept[b] - mean[p]) * np.exp(-log_spread[p])) ** 2 + log_spread[p]
    for k in range(len(s.term_of)):
        for h in range(len(shared_scale)):
            error, _ = shared_error(own_scale, h, k, s)
            value -= 0.5 * shared_score[h, k] ** 2 + np.log(stretched(shared_scale[h, k], error)[0])
        for b in range(len(own_scale)):
            value -= 0.5 * own_score[b, k] ** 2 + np.log(stretched(own_scale[b, k], s.own[b, k])[0])
    return value


@compiled
def moved_logits(scales, states, structure):  # type: ignore[no-untyped-def]
    """What effects add to branches' logits (branch, cell), with A and C of branches, and odds less 1.

    ``states`` (state, 1) are probabilities at the cohort's log odds. As in `aemodel.inference.effects`.
    """
    s, (_, _, _, shared_scale, shared_score, own_scale, own_score, _) = structure, scales
    branches, last = len(own_scale), len(own_scale)
    effect = np.empty((branches + 1, len(s.term_of)))
    for k in range(len(s.term_of)):
        effect[last, k] = shared_scale[0, k] * shared_score[0, k]
        for b in range(branches):
            effect[b, k] = own_scale[b, k] * own_score[b, k]
            for h in range(1, len(shared_scale)):
                effect[b, k] += s.load[b, h] * shared_scale[h, k] * shared_score[h, k]
    moved = np.dot(effect, s.across)
    settled, outer, odds = np.zeros(branches), np.zeros(branches), np.empty(moved.shape[1])
    for c in range(len(odds)):
        odds[c] = np.expm1(moved[last, c])
    for b in range(branches):
        for i in range(len(states)):
            settled[b] += s.settled[b, i] * states[i, 0]
            outer[b] += s.outer[b, i] * states[i, 0]
        for c in range(len(odds)):
            moved[b, c] += np.log((1 + outer[b] * odds[c]) / (1 + settled[b] * odds[c]))
    return moved[:last], settled, outer, odds


@compiled
def backward(x, d_p, tape, structure):  # type: ignore[no-untyped-def]
    """Gradient of the log prior and of what has slopes ``d_p`` (state, cell) in the probabilities of states."""
    s, (scales, whole, settled, outer, odds, chance, reach) = structure, tape
    gradient = np.zeros(len(x))
    intercept, d_intercept = split(x, s)[2], split(gradient, s)[2]
    branches, last = len(outer), len(outer)
    d_log_odds, d_logits = ascend(d_p, np.zeros(chance.shape[1:]), intercept, chance, reach, s.tree)
    d_moved, d_states = np.zeros((branches + 1, len(odds))), np.zeros((len(d_p), 1))
    for b in range(branches):
        d_outer = d_settled = 0.0
        for c in range(len(odds)):
            d_moved[b, c] = d_logits[b, c]
            by_outer, by_settled = d_logits[b, c] / (1 + outer[b] * odds[c]), d_logits[b, c] / (1 + settled[b] * odds[c])
            d_outer += by_outer * odds[c]
            d_settled -= by_settled * odds[c]
            d_moved[last, c] += (outer[b] * by_outer - settled[b] * by_settled) * (1 + odds[c])
        for i in range(len(d_states)):
            d_states[i, 0] += d_outer * s.outer[b, i] + d_settled * s.settled[b, i]
    _, chance, reach, _ = whole
    by_states, _ = ascend(d_states, np.zeros((branches, 1)), intercept, chance, reach, s.alone)
    for b in range(branches):
        d_intercept[b] = d_log_odds[b] + by_states[b]
    through_effects(np.dot(d_moved, s.matrix), x, gradient, scales, s)
    return gradient


@compiled
def through_effects(d_effect, x, gradient, scales, structure):  # type: ignore[no-untyped-def]
    """The rest of the gradient, in place: `effects` backwards, and the prior's.

    ``d_effect`` (branch + 1, contrast) are slopes in what moves branches' logits, and in what all events share.
    """
    s, (half, scale, alike, shared_scale, shared_score, own_scale, own_score, together) = structure, scales
    mean, log_spread, intercept, score, _, _, _ = split(x, s)
    d_mean, d_log_spread, d_intercept, d_score, d_share, d_shared_sampled, d_own_sampled = split(gradient, s)
    d_shared, d_scale, last = np.zeros(shared_scale.shape), np.zeros(scale.shape), len(own_scale)
    d_own_scale = np.empty(len(own_scale))
    for k in range(len(s.term_of)):
        t = s.term_of[k]
        d_shared[0, k] = d_effect[last, k]
        for b in range(len(own_scale)):
            z, d = own_score[b, k], d_effect[b, k]
            stretch, weight = stretched(own_scale[b, k], s.own[b, k])
            d_sampled = (d * own_scale[b, k] - z) / stretch
            d_weight = -d_sampled * together[b, k]
            d_stretch = (z * z - 1 - d * z * own_scale[b, k] - d_weight * weight) / stretch
            d_own_scale[b] = d * z + (d_weight + d_stretch * own_scale[b, k]) / (s.own[b, k] ** 2 * stretch)
            d_own_sampled[b, k] = d_sampled
            for h in range(len(d_shared)):
                d_shared[h, k] += s.load[b, h] * ((d if h else 0.0) - d_sampled * weight)
        for h in range(len(d_shared)):
            z, d, sd = shared_score[h, k], d_shared[h, k], shared_scale[h, k]
            error, precision = shared_error(own_scale, h, k, s)
            stretch, _ = stretched(sd, error)
            d_shared_sampled[h, k] = (d * sd - z) / stretch
            by_ratio = (z * z - 1 - d * z * sd) * sd / (error * stretch) ** 2
            d_sd = d * z + by_ratio
            d_scale[h, t] += d_sd * np.sqrt(alike[h, t])
            d_share[h, t] += 0.5 * d_sd * sd * (1 - alike[h, t])
            for b in range(len(own_scale)):
                by_scale = own_scale[b, k] * (s.load[b, h] / (s.own[b, k] ** 2 + own_scale[b, k] ** 2) / precision) ** 2
                d_own_scale[b] -= by_ratio * sd * by_scale / error**2
        for b in range(len(own_scale)):
            p = s.pool_of[b]
            d_scale[p, t] += d_own_scale[b] * np.sqrt(1 - alike[p, t])
            if p < len(d_share):
                d_share[p, t] -= 0.5 * d_own_scale[b] * own_scale[b, k] * alike[p, t]
    for p in range(len(scale)):
        d_mean[p] = -(mean[p] - s.intercept[p, 0]) / s.intercept[p, 1] ** 2
        d_log_spread[p] = -(log_spread[p] - s.spread[0]) / s.spread[1] ** 2
        for t in range(scale.shape[1]):
            steep = np.exp(0.5 * (half[p, t] - score[p, t]) * (half[p, t] + score[p, t]))
            d_score[p, t] = 0.5 * d_scale[p, t] * s.width[p, t] * steep - score[p, t]
            if p < len(d_share):
                d_share[p, t] += s.alike[0] * (1 - alike[p, t]) - s.alike[1] * alike[p, t]
    for b in range(len(intercept)):
        p = s.pool_of[b]
        distance = (intercept[b] - mean[p]) * np.exp(-log_spread[p])
        d_intercept[b] -= distance * np.exp(-log_spread[p])
        d_mean[p] += distance * np.exp(-log_spread[p])
        d_log_spread[p] += distance**2 - 1
