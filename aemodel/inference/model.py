"""The hierarchical logistic model of all events at once, in PyMC."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from aemodel.inference import priors
from aemodel.inference.design import Design, family_averages
from aemodel.inference.effects import Centring, branch_logits, effect_scales, make_centring, state_probabilities
from aemodel.inference.evidence import Evidence, evidence_logp
from aemodel.inference.intervals import pack
from aemodel.inference.likelihood import joint_margins
from aemodel.inference.normal import half_normal_quantile
from aemodel.inference.own_patients import OwnProfiles, patients_logp
from aemodel.inference.saddlepoint import Packed
from aemodel.publication.margins import FamilyMargins

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

    The likelihood is a potential whose margins are `pm.Data`: those of another publication of the same cohort and events can
    take their place in the compiled model (`exchanged`), and ``prior_scale``, which multiplies the scales of the effects'
    priors, can be another. Patients of one's ``own`` are a
    potential beside it; if they are part of the published cohort, the margins are those of the others. What is published
    counts with a ``power``, its patients then being that many each (power prior; Ibrahim & Chen 2000).
    """
    others, their_margins = own.others if own and own.others else (design, margins)
    with pm.Model(coords=coordinates(design)) as model:
        centring = make_centring(design, margins, _also_told(design, evidence, own))
        logits = prior_logits(design, centring, pm.Data("prior_scale", float(prior_scale)))
        p = state_probabilities(*design.paths, logits, pt)
        averages = [pm.Data(f"average_{i}", each) for i, each in enumerate(family_averages(others, their_margins))]
        data = [pm.Data(f"margins_{name}", value) for name, value in margin_data(their_margins)._asdict().items()]
        published = {"margins": joint_margins(family_state_logp(others, p, averages), data)}
        published |= evidence_logp(design, evidence, margins, p) if evidence else {}
        for name, logp in published.items():
            pm.Potential(name, logp if power == 1 else power * logp)
        if own:
            pm.Potential("patients", patients_logp(own, p))
    return model


def _also_told(design: Design, evidence: Evidence | None, own: OwnProfiles | None) -> set[tuple[str, str, str]]:
    """Events, grades and covariates that nulls speak of, or rows of patients, who may tell everything."""
    found = {(null.event, null.grade, null.covariate) for null in evidence.nulls} if evidence else set()
    if own:
        events = [event.name for family in design.families for event in family.events]
        found |= set(product(events, design.grades, [c.name for c in design.cells.covariates]))
    return found


def coordinates(design: Design) -> dict[str, list[str]]:
    """Names along each dimension of the parameters."""
    return {
        "branch": [branch.name for branch in design.branches],
        "pool": list(design.pools),
        "sharing_pool": list(design.sharing),
        "term": [term.name for term in design.terms],
        "contrast": design.contrasts,
    }


def prior_logits(design: Design, centring: Centring, prior_scale: Any = 1.0) -> Any:
    """The hierarchical prior, inside a `pm.Model`: logits of branches in every cell, (branch, cell)."""
    to_pool = np.eye(len(design.pools))[design.pool_of]
    centre, width = np.array([priors.INTERCEPT[kind] for kind in design.kinds]).T.copy()
    mean = pm.Normal("intercept_mean", centre, width, dims="pool")
    spread = pm.LogNormal("intercept_spread", np.log(priors.SPREAD[0]), priors.SPREAD[1], dims="pool")
    intercept = pm.Normal("intercept", pt.dot(to_pool, mean), pt.dot(to_pool, spread), dims="branch")
    own, shared = _effects(design, centring, prior_scale)
    return branch_logits(design, intercept, own, shared, design.centred, pt)


def _effects(design: Design, centring: Centring, prior_scale: Any) -> tuple[Any, Any]:
    """Effects in contrasts: branches' own (branch, contrast), and what all share (sharing pool, contrast).

    The scale of a pool's effects and the share that is common are separate parameters: margins speak of the former much
    more than of the latter.
    """
    # Half-normal, by its quantile function of a normal score: in the log of a scale the posterior is too steep for the
    # sampler where the scale is large, and too flat where it is small.
    score = pm.Normal("scale_score", dims=("pool", "term"))
    scale = pm.Deterministic("scale", prior_scale * design.widths * half_normal_quantile(score), dims=("pool", "term"))
    alike = pm.Beta("alike", *priors.ALIKE, dims=("sharing_pool", "term"))
    own_scale, shared_scale = effect_scales(design, scale, alike, pt)
    stretch = pt.sqrt(1 + (shared_scale / centring.shared) ** 2)
    shared = shared_scale * pm.Normal(f"shared{SAMPLED}", sigma=stretch, dims=("sharing_pool", "contrast")) / stretch
    shared = pm.Deterministic("shared", shared, dims=("sharing_pool", "contrast"))
    # An own effect is sampled together with what the data see it with, the more so the more they say of it.
    together = pt.dot(centring.load, shared)
    stretch = pt.sqrt(1 + (own_scale / centring.own) ** 2)
    weight = own_scale / (centring.own * pt.sqrt(centring.own**2 + own_scale**2))
    sampled = pm.Normal(f"own{SAMPLED}", weight * together, stretch, dims=("branch", "contrast"))
    own = (sampled - weight * together) * own_scale / stretch
    return pm.Deterministic("own", own, dims=("branch", "contrast")), shared


def margin_data(margins: tuple[FamilyMargins, ...]) -> Packed:
    """The margins as the model's data, for `build_model` and for exchanging them later."""
    packed = pack([m.margins for m in margins])
    return packed._replace(support=packed.support.astype(np.int64))


def margins_in(model: pm.Model, design: Design) -> tuple[Packed, list[Any]]:
    """The margins that a model has now, and the averages of `family_averages` that belong to them."""
    packed = Packed(*[model[f"margins_{name}"].get_value() for name in Packed._fields])
    return packed, [model[f"average_{i}"].get_value() for i in range(len(design.families))]


def exchanged(design: Design, margins: tuple[FamilyMargins, ...]) -> dict[str, Any]:
    """Data that put these margins in the place of those that a model was compiled with."""
    found = {f"margins_{name}": value for name, value in margin_data(margins)._asdict().items()}
    return found | {f"average_{i}": average for i, average in enumerate(family_averages(design, margins))}


def family_state_logp(design: Design, p: Any, averages: Sequence[Any]) -> Any:
    """Log probabilities of states in each family's own cells, laid end to end: averages over the cohort's other covariates.

    ``averages`` are those of `family_averages`.
    """
    parts = [pt.dot(average, p[design.edges[i] : design.edges[i + 1]].T).flatten() for i, average in enumerate(averages)]
    return pt.log(pt.concatenate(parts))
