"""The hierarchical logistic model of all events at once, in PyMC."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from aemodel.inference import priors
from aemodel.inference.design import Design
from aemodel.inference.likelihood import StateProbabilities, joint_margins
from aemodel.inference.saddlepoint import Packed, pack
from aemodel.inference.states import make_paths
from aemodel.publication.families import POOLS
from aemodel.publication.margins import FamilyMargins


def build_model(design: Design, margins: tuple[FamilyMargins, ...]) -> pm.Model:
    """Priors, branch logits over all cells, and the joint likelihood of each family's margins as a potential.

    The margins are `pm.Data`, named ``margins_*``: they can be exchanged in the compiled model.
    """
    with pm.Model(coords=coordinates(design)) as model:
        logp = cell_state_logp(design, prior_logits(design), margins)
        data = [pm.Data(f"margins_{name}", value) for name, value in margin_data(margins)._asdict().items()]
        pm.Potential("margins", joint_margins(logp, data))
    return model


def coordinates(design: Design) -> dict[str, list[str]]:
    """Names along each dimension of the parameters."""
    return {
        "branch": [branch.name for branch in design.branches],
        "pool": list(POOLS),
        "sharing_pool": list(priors.SHARING),
        "term": [term.name for term in design.terms],
        "contrast": design.contrasts,
    }


def prior_logits(design: Design) -> Any:
    """The hierarchical prior, inside a `pm.Model`: logits of branches in every cell, (branch, cell)."""
    centre, spread = np.array([priors.INTERCEPT[branch.pool] for branch in design.branches]).T
    intercept = pm.Normal("intercept", centre, spread, dims="branch")
    return branch_logits(design, intercept, _coefficients(design))


def branch_logits(design: Design, intercept: Any, coefficients: Any) -> Any:
    """Logits of branches in every cell, (branch, cell).

    The intercept is the log odds at the cohort's average risk: the design is centred at the cohort, and half the
    variance of the effects is taken off as the logistic curve bends (second-order Taylor). Effects that no margin
    identifies then leave the averages alone, which keeps the posterior free of funnels between them and the intercept.
    """
    share = design.cells.n / design.cells.n.sum()
    centred = design.matrix - share @ design.matrix
    covariance = (centred * share[:, None]).T @ centred
    variance = (pt.dot(coefficients, covariance) * coefficients).sum(axis=1)
    level = intercept + 0.5 * pt.tanh(0.5 * intercept) * variance
    return level[:, None] + pt.dot(coefficients, centred.T)


def margin_data(margins: tuple[FamilyMargins, ...]) -> Packed:
    """The margins as the model's data, for `build_model` and for exchanging them later."""
    packed = pack([m.margins for m in margins])
    return packed._replace(support=packed.support.astype(np.int64))


def _coefficients(design: Design) -> Any:
    """Effects in contrasts (branch, contrast): shared by the pool, plus the branch's own, both non-centred.

    The scale of a pool's effects and the share that its branches have in common are separate parameters: margins speak
    of the former much more than of the latter.
    """
    spread = np.array([priors.SCALE[pool] for pool in POOLS])[:, None]
    # Half-normal, by its quantile function of a normal score: in the log of a scale the posterior is too steep for the
    # sampler where the scale is large, and too flat where it is small.
    score = pm.Normal("scale_score", dims=("pool", "term"))
    half_normal = np.sqrt(2) * pt.erfcinv(0.5 * pt.erfc(score / np.sqrt(2)))
    scale = pm.Deterministic("scale", spread * half_normal, dims=("pool", "term"))
    alike = pm.Beta("alike", *priors.ALIKE, dims=("sharing_pool", "term"))
    own_raw = pm.Normal("own_raw", dims=("branch", "contrast"))
    shared_raw = pm.Normal("shared_raw", dims=("sharing_pool", "contrast"))
    # 0/1 matrices pick scales: cheaper to differentiate and to compile than indexing.
    to_contrast = np.eye(len(design.terms))[:, design.term_of]
    to_branch = np.eye(len(POOLS))[design.pool_of]
    from_sharing = np.eye(len(POOLS))[:, [POOLS.index(pool) for pool in priors.SHARING]]
    alone = np.ones((len(POOLS), 1)) - from_sharing.sum(axis=1, keepdims=True)
    own_scale = scale * (alone + pt.dot(from_sharing, pt.sqrt(1 - alike)))
    shared_scale = scale * pt.dot(from_sharing, pt.sqrt(alike))
    own = own_raw * pt.dot(to_branch, pt.dot(own_scale, to_contrast))
    shared = pt.dot(from_sharing, shared_raw) * pt.dot(shared_scale, to_contrast)
    return own + pt.dot(to_branch, shared)


def cell_state_logp(design: Design, logits: Any, margins: tuple[FamilyMargins, ...]) -> Any:
    """Log probabilities of states in each family's own cells, laid end to end: averages over the cohort's other covariates."""
    paths = [pt.constant(np.asarray(x, dtype=np.int64)) for x in make_paths(design.families)]
    p = StateProbabilities()(logits, *paths)
    edges = np.cumsum([0] + [len(family.grades) for family in design.families])
    parts = [pt.dot(_average(design, m), p[edges[i] : edges[i + 1]].T).flatten() for i, m in enumerate(margins)]
    return pt.log(pt.concatenate(parts))


def _average(design: Design, margins: FamilyMargins) -> np.ndarray:
    """The cohort's composition within each of a family's cells: (family cell, cell), rows sum to 1."""
    weights = np.zeros((len(margins.margins.n), len(design.cells.n)))
    weights[margins.coarse, np.arange(len(design.cells.n))] = design.cells.n
    total = weights.sum(axis=1, keepdims=True)
    return np.asarray(weights / np.where(total > 0, total, 1))
