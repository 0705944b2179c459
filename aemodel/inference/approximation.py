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

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import xarray as xr

from aemodel.inference.design import Design
from aemodel.inference.forward import make_forward
from aemodel.inference.intervals import Statement, family_sizes, incidence_of, solved, value_of
from aemodel.inference.likelihood import MarginsTerm
from aemodel.inference.saddlepoint import Packed
from aemodel.publication.arrays import Floats

DRAWS = 20


def approximation_range(design: Design, term: MarginsTerm, posterior: xr.Dataset) -> float:
    """Greatest less least next term of the published counts' log likelihood over some `DRAWS` draws, in nats."""
    step = max(1, posterior.sizes["chain"] * posterior.sizes["draw"] // DRAWS)
    terms = []
    for p in make_forward(design, deviation=0.0).states(posterior.isel(draw=slice(None, None, step)), 0):
        terms.append(next_term(term.logp(p[:, : len(design.cells.n)]), term.statements))
    return float(np.ptp(terms))


def next_term(logp: Floats, statements: Sequence[Statement]) -> float:
    """What the next term adds to the log likelihood, in nats; ``logp`` as for `joint_loglik`."""
    parts, found = np.split(logp, np.cumsum(family_sizes(statements))[:-1]), 0.0
    for each in statements:
        here = parts[each.family]
        both = [np.array([(value_of(x, here), _next_term(x, here)) for x in group.nodes]).T for group in each.groups]
        found += each.loglik([value + term for value, term in both]) - each.loglik([value for value, _ in both])
    return found


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
