"""The log density that is sampled, with its gradient: the PyMC model's (`aemodel.inference.model`), written out for Numba.

PyTensor's compiled function of the same density has to be put together anew in every process, which takes longer than
sampling from it. Here both halves are kept on disk: `forward` goes from the sampler's coordinates to state probabilities,
`backward` takes derivatives back. What is published, and patients of one's own, lie between: each `Term` is a function of the
state probabilities that gives a log probability and its slopes. Names are those of the model and of `moved_logits`; an
adjoint is named d_.

At any point value and gradient are the PyMC model's, up to a constant (`tests/test_density.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from aemodel.inference import priors
from aemodel.inference.design import Design, Tree
from aemodel.inference.effects import Centring, severity_steps
from aemodel.inference.kernels import compiled
from aemodel.inference.levels import ascend, descend
from aemodel.inference.normal import half_normal_quantile
from aemodel.inference.saddlepoint import Floats, Integers

Term = Callable[[Floats], tuple[float, Floats]]
"""Log probability and its slopes, (state, cell), from state probabilities (state, cell)."""


class Structure(NamedTuple):
    """What `forward` and `backward` need of a design: arrays as in `Design`, `Centring` and `aemodel.inference.priors`.

    ``intercept`` is (pool, 2), mean and standard deviation of the pool's mean; ``width`` (pool, term) the half-normal
    scales; ``steps`` (branch, severity pool) 0/1; ``settled`` and ``outer`` (branch, state). ``alone`` is the tree over one
    cell, the whole cohort.
    """

    intercept: Floats
    spread: Floats
    alike: Floats
    width: Floats
    term_of: Integers
    pool_of: Integers
    matrix: Floats
    steps: Floats
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
        steps=severity_steps(design),
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
    at = np.cumsum(
        np.array([0, pools, pools, branches, pools * terms, (pools - 1) * terms, (pools - 1) * contrasts, branches * contrasts])
    )
    return (
        x[at[0] : at[1]],
        x[at[1] : at[2]],
        x[at[2] : at[3]],
        x[at[3] : at[4]].reshape(pools, terms),
        x[at[4] : at[5]].reshape(pools - 1, terms),
        x[at[5] : at[6]].reshape(pools - 1, contrasts),
        x[at[6] : at[7]].reshape(branches, contrasts),
    )


@compiled
def effects(x, structure):  # type: ignore[no-untyped-def]
    """Scales and effects on their natural scale, with what the way back needs again."""
    s = structure
    _, _, _, score, share, shared_sampled, own_sampled = split(x, s)
    half = np.empty(score.shape)
    for p in range(score.shape[0]):
        for t in range(score.shape[1]):
            half[p, t] = half_normal_quantile(score[p, t])
    scale, alike = s.width * half, 1 / (1 + np.exp(-share))
    shared_scale, own_scale = np.empty(shared_sampled.shape), np.empty(own_sampled.shape)
    for k in range(len(s.term_of)):
        t = s.term_of[k]
        for h in range(len(alike)):
            shared_scale[h, k] = scale[h, t] * np.sqrt(alike[h, t])
        for b in range(len(own_scale)):
            p = s.pool_of[b]
            own_scale[b, k] = scale[p, t] * np.sqrt(1 - alike[p, t]) if p < len(alike) else scale[p, t]
    shared_stretch = np.sqrt(1 + (shared_scale / s.shared) ** 2)
    shared = shared_scale * shared_sampled / shared_stretch
    own_stretch = np.sqrt(1 + (own_scale / s.own) ** 2)
    weight = own_scale / (s.own**2 * own_stretch)
    together = np.dot(s.load, shared)
    own = (own_sampled - weight * together) * own_scale / own_stretch
    return half, scale, alike, shared_scale, shared_stretch, shared, own_scale, own_stretch, weight, together, own


@compiled
def forward(x, structure):  # type: ignore[no-untyped-def]
    """Log prior of the sampler's coordinates, up to a constant, and probabilities of states (state, cell), with a tape."""
    s = structure
    mean, log_spread, intercept, score, _, shared_sampled, own_sampled = split(x, s)
    scales = effects(x, s)
    _, _, alike, _, shared_stretch, shared, _, own_stretch, weight, together, own = scales
    value = -0.5 * (((mean - s.intercept[:, 0]) / s.intercept[:, 1]) ** 2).sum() - 0.5 * (score**2).sum()
    value -= 0.5 * (((log_spread - s.spread[0]) / s.spread[1]) ** 2).sum()
    for b in range(len(intercept)):
        p = s.pool_of[b]
        value -= 0.5 * ((intercept[b] - mean[p]) * np.exp(-log_spread[p])) ** 2 + log_spread[p]
    value += (s.alike[0] * np.log(alike) + s.alike[1] * np.log1p(-alike)).sum()
    value -= (0.5 * (shared_sampled / shared_stretch) ** 2 + np.log(shared_stretch)).sum()
    value -= (0.5 * ((own_sampled - weight * together) / own_stretch) ** 2 + np.log(own_stretch)).sum()
    whole = descend(intercept, np.zeros((len(intercept), 1)), s.alone)
    moved, settled, outer, odds = moved_logits(own, shared, whole[3].ravel(), s)
    _, chance, reach, p = descend(intercept, moved, s.tree)
    return value, p, (scales, whole, settled, outer, odds, chance, reach)


@compiled
def moved_logits(own, shared, states, structure):  # type: ignore[no-untyped-def]
    """As in `aemodel.inference.effects`, with A and C of branches, from states at the cohort's log odds, and odds less 1."""
    s = structure
    settled, outer = np.dot(s.settled, states), np.dot(s.outer, states)
    odds = np.expm1(np.dot(s.matrix, shared[0]))
    moved = np.dot(own + np.dot(s.steps, shared[1:]), s.matrix.T)
    for b in range(len(moved)):
        moved[b] += np.log((1 + outer[b] * odds) / (1 + settled[b] * odds))
    return moved, settled, outer, odds


@compiled
def backward(x, d_p, tape, structure):  # type: ignore[no-untyped-def]
    """Gradient of the log prior and of what has slopes ``d_p`` (state, cell) in the probabilities of states."""
    s, (scales, whole, settled, outer, odds, chance, reach) = structure, tape
    gradient = np.zeros(len(x))
    intercept, d_intercept = split(x, s)[2], split(gradient, s)[2]
    d_log_odds, d_moved = ascend(d_p, np.zeros(chance.shape[1:]), intercept, chance, reach, s.tree)
    d_own, d_odds = np.dot(d_moved, s.matrix), np.zeros(len(odds))
    d_states = np.zeros(len(d_p))
    for b in range(len(outer)):
        by_outer, by_settled = d_moved[b] / (1 + outer[b] * odds), d_moved[b] / (1 + settled[b] * odds)
        d_states += (by_outer * odds).sum() * s.outer[b] - (by_settled * odds).sum() * s.settled[b]
        d_odds += outer[b] * by_outer - settled[b] * by_settled
    d_shared = np.empty((len(s.shared), len(s.term_of)))
    d_shared[0] = np.dot(d_odds * (1 + odds), s.matrix)
    d_shared[1:] = np.dot(s.steps.T, d_own)
    _, chance, reach, _ = whole
    none = np.zeros((len(intercept), 1))
    d_intercept += d_log_odds + ascend(d_states.reshape(-1, 1), none, intercept, chance, reach, s.alone)[0]
    through_effects(d_own, d_shared, x, gradient, scales, s)
    return gradient


@compiled
def through_effects(d_own, d_shared, x, gradient, scales, structure):  # type: ignore[no-untyped-def]
    """The rest of the gradient, in place: `effects` backwards, and the prior's."""
    s = structure
    half, scale, alike, shared_scale, shared_stretch, shared, own_scale, own_stretch, weight, together, own = scales
    mean, log_spread, intercept, score, _, shared_sampled, own_sampled = split(x, s)
    d_mean, d_log_spread, d_intercept, d_score, d_share, d_shared_sampled, d_own_sampled = split(gradient, s)
    score_own = (own_sampled - weight * together) / own_stretch
    d_own_sampled += (d_own * own_scale - score_own) / own_stretch
    d_weight, d_together = -d_own_sampled * together, -d_own_sampled * weight
    d_stretch = (score_own**2 - 1 - d_own * own - d_weight * weight) / own_stretch
    d_own_scale = d_own * score_own + (d_weight + d_stretch * own_scale) / (s.own**2 * own_stretch)
    d_shared += np.dot(s.load.T, d_together)
    score_shared = shared_sampled / shared_stretch
    d_shared_sampled += (d_shared * shared_scale - score_shared) / shared_stretch
    d_stretch = (score_shared**2 - 1 - d_shared * shared) / shared_stretch
    d_shared_scale = d_shared * score_shared + d_stretch * shared_scale / (s.shared**2 * shared_stretch)
    d_scale = np.zeros(scale.shape)
    for k in range(len(s.term_of)):
        t = s.term_of[k]
        for h in range(len(alike)):
            d_scale[h, t] += d_shared_scale[h, k] * np.sqrt(alike[h, t])
            d_share[h, t] += 0.5 * d_shared_scale[h, k] * shared_scale[h, k] * (1 - alike[h, t])
        for b in range(len(own_scale)):
            q = s.pool_of[b]
            shares = q < len(alike)
            d_scale[q, t] += d_own_scale[b, k] * (np.sqrt(1 - alike[q, t]) if shares else 1.0)
            if shares:
                d_share[q, t] -= 0.5 * d_own_scale[b, k] * own_scale[b, k] * alike[q, t]
    d_score += d_scale * s.width * 0.5 * np.exp(0.5 * (half - score) * (half + score)) - score
    d_share += s.alike[0] * (1 - alike) - s.alike[1] * alike
    d_mean -= (mean - s.intercept[:, 0]) / s.intercept[:, 1] ** 2
    d_log_spread -= (log_spread - s.spread[0]) / s.spread[1] ** 2
    for b in range(len(intercept)):
        q = s.pool_of[b]
        distance = (intercept[b] - mean[q]) * np.exp(-log_spread[q])
        d_intercept[b] -= distance * np.exp(-log_spread[q])
        d_mean[q] += distance * np.exp(-log_spread[q])
        d_log_spread[q] += distance**2 - 1
