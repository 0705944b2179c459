"""The hierarchical logistic model of all events at once, in PyMC."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from aemodel.inference import priors
from aemodel.inference.design import Design, family_averages
from aemodel.inference.evidence import Evidence, evidence_logp
from aemodel.inference.kernels import held
from aemodel.inference.likelihood import StateProbabilities, joint_margins
from aemodel.inference.normal import half_normal_quantile
from aemodel.inference.own_patients import OwnProfiles, patients_logp
from aemodel.inference.saddlepoint import Packed, pack
from aemodel.inference.states import make_paths
from aemodel.publication.families import POOLS
from aemodel.publication.margins import FamilyMargins

CENTRED_FROM = 0.8
"""Scale of effects (log odds) above which they are sampled more as they are than in units of the scale."""

SAMPLED = "_sampled"
"""Ends the names of variables that only the sampler needs."""


def build_model(
    design: Design,
    margins: tuple[FamilyMargins, ...],
    evidence: Evidence | None = None,
    prior_scale: float = 1.0,
    own: OwnProfiles | None = None,
    power: float = 1.0,
) -> pm.Model:
    """Priors, branch logits over all cells, the joint likelihood of each family's margins, and further evidence.

    The likelihood is a potential whose margins are `pm.Data`, named ``margins_*``: they can be exchanged in the compiled
    model, and so can ``prior_scale``, which multiplies the scales of the effects' priors. Patients of one's ``own`` are a
    potential beside it; if they are part of the published cohort, the margins are those of the others. What is published
    counts with a ``power``, its patients then being that many each (power prior; Ibrahim & Chen 2000).
    """
    others, their_margins = own.others if own and own.others else (design, margins)
    with pm.Model(coords=coordinates(design)) as model:
        p = state_probabilities(design, prior_logits(design, pm.Data("prior_scale", float(prior_scale))))
        data = [pm.Data(f"margins_{name}", value) for name, value in margin_data(their_margins)._asdict().items()]
        published = {"margins": joint_margins(family_state_logp(others, p, their_margins), data)}
        published |= evidence_logp(design, evidence, margins, p) if evidence else {}
        for name, logp in published.items():
            pm.Potential(name, logp if power == 1 else power * logp)
        if own:
            pm.Potential("patients", patients_logp(own, p))
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


def prior_logits(design: Design, prior_scale: Any = 1.0) -> Any:
    """The hierarchical prior, inside a `pm.Model`: logits of branches in every cell, (branch, cell)."""
    centre, spread = map(np.array, zip(*[priors.INTERCEPT[branch.pool] for branch in design.branches], strict=True))
    intercept = pm.Normal("intercept", centre, spread, dims="branch")
    return branch_logits(design, intercept, _coefficients(design, prior_scale))


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


def _coefficients(design: Design, prior_scale: Any) -> Any:
    """Effects in contrasts (branch, contrast): shared by the pool, plus the branch's own.

    The scale of a pool's effects and the share that its branches have in common are separate parameters: margins speak
    of the former much more than of the latter.
    """
    spread = np.array([priors.SCALE[pool] for pool in POOLS])[:, None]
    # Half-normal, by its quantile function of a normal score: in the log of a scale the posterior is too steep for the
    # sampler where the scale is large, and too flat where it is small.
    score = pm.Normal("scale_score", dims=("pool", "term"))
    scale = pm.Deterministic("scale", prior_scale * spread * half_normal_quantile(score), dims=("pool", "term"))
    alike = pm.Beta("alike", *priors.ALIKE, dims=("sharing_pool", "term"))
    # 0/1 matrices pick scales: cheaper to differentiate and to compile than indexing.
    to_contrast = np.eye(len(design.terms))[:, design.term_of]
    to_branch = np.eye(len(POOLS))[design.pool_of]
    from_sharing = np.eye(len(POOLS))[:, [POOLS.index(pool) for pool in priors.SHARING]]
    alone = np.ones((len(POOLS), 1)) - from_sharing.sum(axis=1, keepdims=True)
    own_scale = scale * (alone + pt.dot(from_sharing, pt.sqrt(1 - alike)))
    shared_scale = scale * pt.dot(from_sharing, pt.sqrt(alike))
    own_scale = pt.dot(to_branch, pt.dot(own_scale, to_contrast))
    shared_scale = pt.dot(shared_scale, to_contrast)
    own = _standard_normal("own_raw", own_scale, ("branch", "contrast")) * own_scale
    shared_raw = _standard_normal("shared_raw", pt.dot(from_sharing.T, shared_scale), ("sharing_pool", "contrast"))
    return own + pt.dot(to_branch, pt.dot(from_sharing, shared_raw) * shared_scale)


def _standard_normal(name: str, scale: Any, dims: tuple[str, ...]) -> Any:
    """Standard normal variables to be multiplied by ``scale``, sampled in a scale of their own.

    Sampled as they are, what the data say of their product with the scale is the steeper the larger the scale is, and the
    sampler is thrown off where it is largest; sampled as the product (centred), they are a funnel where it is smallest.
    Sampled times the root of 1 + (scale / `CENTRED_FROM`)^2 they are neither.
    """
    stretch = pt.sqrt(1 + (scale / CENTRED_FROM) ** 2)
    return pm.Deterministic(name, pm.Normal(f"{name}{SAMPLED}", sigma=stretch, dims=dims) / stretch, dims=dims)


def state_probabilities(design: Design, logits: Any) -> Any:
    """Probabilities (state, cell), families end to end, from logits (branch, cell)."""
    paths = [pt.constant(np.asarray(x, dtype=np.int64)) for x in make_paths(design.families)]
    return StateProbabilities()(logits, *paths)


def family_state_logp(design: Design, p: Any, margins: tuple[FamilyMargins, ...]) -> Any:
    """Log probabilities of states in each family's own cells, laid end to end: averages over the cohort's other covariates."""
    edges = np.cumsum([0] + [len(family.grades) for family in design.families])
    averages = family_averages(design, margins)
    parts = [pt.dot(held(average), p[edges[i] : edges[i + 1]].T).flatten() for i, average in enumerate(averages)]
    return pt.log(pt.concatenate(parts))
