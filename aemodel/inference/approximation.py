"""How good the saddlepoint is: the next term of its expansion, which the likelihood leaves out, at some posterior draws.

With the cumulants of the tilted counts, k_ij = H, k_ijk and k_ijkl, and h^ij those of H^-1 (McCullagh 1987, section 6.3),

    next  =  1/8 k_ijkl h^ij h^kl  -  1/8 k_ijk k_lmn h^ij h^kl h^mn  -  1/12 k_ijk k_lmn h^il h^jm h^kn

is added to log L; for one count k4/8 - 5 k3^2/24. Patients are independent, so a cumulant is a sum over cells of n_c times
that of one patient's margins a about their mean. Never are more than two patients multiplied: with g(a, b) = a' H^-1 b

    k_ijkl h^ij h^kl            =  sum_c n_c (E g(a, a)^2 - (E g(a, a))^2 - 2 E g(a, b)^2),   a, b independent of one cell
    k_ijk k_lmn h^ij h^kl h^mn  =  g(v, v),   v = sum_c n_c E a g(a, a)
    k_ijk k_lmn h^il h^jm h^kn  =  sum_cd n_c n_d E g(a, b)^3,   a of cell c and b of d

A count that is known to lie in an interval is after a whole number was added to it: one patient more in a cell of his own.
Only how much the term varies over draws matters: a constant is lost in the posterior's.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import xarray as xr

from aemodel.inference.design import Design
from aemodel.inference.forward import make_forward
from aemodel.inference.intervals import incidence_of, solved, value_of
from aemodel.inference.likelihood import MarginsTerm
from aemodel.inference.saddlepoint import Floats, Integers, Packed

DRAWS = 20


def approximation_range(design: Design, term: MarginsTerm, posterior: xr.Dataset) -> float:
    """Greatest less least next term of the published counts' log likelihood over some `DRAWS` draws, in nats."""
    step = max(1, posterior.sizes["chain"] * posterior.sizes["draw"] // DRAWS)
    terms = []
    for p in make_forward(design, deviation=0.0).states(posterior.isel(draw=slice(None, None, step)), 0):
        terms.append(next_terms(term.logp(p[:, : len(design.cells.n)]), term.packed).sum())
    return float(np.ptp(terms))


def next_terms(logp: Floats, packed: Packed) -> Floats:
    """What the next term adds to each family's log likelihood, (family,), in nats; ``logp`` as for `joint_loglik`."""
    edges = np.cumsum([0, *packed.families])
    family = np.zeros(len(packed.nodes), dtype=np.int64)
    for mine, first, last, _ in packed.statements:
        family[packed.groups[first, 0] : packed.groups[last - 1, 1]] = mine
    values, terms = np.zeros((2, len(packed.nodes)))
    for k, node in enumerate(_nodes(packed, packed.families[family])):
        here = logp[edges[family[k]] : edges[family[k] + 1]]
        values[k], terms[k] = value_of(node, here), _next_term(node, here)
    return _of_families(values + terms, packed) - _of_families(values, packed)


def _next_term(node: Packed, logp: Floats) -> float:
    """The next term of one saddlepoint."""
    tilted, inverse, _, t = solved(node, logp)
    incidence, size, ends = incidence_of(node), len(node.counts), np.cumsum([0, *node.classes])
    members = [(n, tilted[i:j], incidence[i:j]) for n, (i, j) in zip(node.n, pairwise(ends), strict=True) if n > 0 and j > i]
    for j in np.flatnonzero(node.width > 1):
        added = np.arange(node.width[j])
        weight = np.exp(added * t[j] - (added * t[j]).max())
        members.append((1.0, weight / weight.sum(), added[:, None] * np.eye(size)[j]))
    fourth, once, everybody, weights = 0.0, np.zeros(size), [], []
    for n, q, a in members:
        about = a - q @ a
        g = about @ inverse @ about.T
        own = np.diag(g)
        fourth += n * (q @ own**2 - (q @ own) ** 2 - 2 * q @ g**2 @ q)
        once += n * (q * own) @ about
        everybody.append(about)
        weights.append(n * q)
    weight, about = np.concatenate(weights), np.concatenate(everybody)
    both = weight @ (about @ inverse @ about.T) ** 3 @ weight
    return float(fourth / 8 - once @ inverse @ once / 8 - both / 12)


def _nodes(packed: Packed, pairs: Integers) -> Iterator[Packed]:
    """Each saddlepoint by itself; ``pairs`` is how many of cell and state each has."""
    cell = margin = pair = one = entry = 0
    for row, size in zip(packed.nodes, pairs, strict=True):
        cells, classes, margins = row
        start = packed.start[one : one + classes + 1]
        yield packed._replace(
            nodes=row[None],
            n=packed.n[cell : cell + cells],
            classes=packed.classes[cell : cell + cells],
            counts=packed.counts[margin : margin + margins],
            width=packed.width[margin : margin + margins],
            member=packed.member[pair : pair + size],
            start=start - start[0],
            margin=packed.margin[start[0] : start[-1]],
            project=packed.project[entry : entry + margins * classes],
            target=packed.target[one : one + classes],
        )
        cell, margin, pair, one, entry = cell + cells, margin + margins, pair + size, one + classes, entry + margins * classes


def _of_families(solved_values: Floats, packed: Packed) -> Floats:
    """Families' log likelihoods, (family,), from those of all saddlepoints, as `joint_loglik` blends them."""
    found, mixed = np.zeros(len(packed.families)), 0
    for family, first_group, last_group, kind in packed.statements:
        total = 0.0
        for first, last, low, high in packed.groups[first_group:last_group]:
            size = (high - low) * (last - first)
            blend = packed.blend[mixed : mixed + size].reshape(high - low, last - first)
            part = np.logaddexp.reduce(packed.offset[low:high] + blend @ solved_values[first:last])
            total += part if kind > 0 else np.log1p(-np.exp(min(part, -1e-12)))
            mixed += size
        found[family] += total if kind > 0 else -np.log(-np.expm1(total))
    return found
