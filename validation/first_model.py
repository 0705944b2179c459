"""The model of the first edition, frozen: what the present one is compared with over truths unlike either's prior."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import join_nonshared_inputs

from aemodel.inference import priors
from aemodel.inference.design import Design
from aemodel.inference.effects import effect_scales, state_probabilities
from aemodel.inference.forward import PARAMETERS
from aemodel.inference.model import SAMPLED, branch_logits, half_normal
from aemodel.inference.posterior import Density, coordinates
from aemodel.inference.simulated import all_frequencies, pair_tests
from aemodel.publication.arrays import Floats
from aemodel.publication.tables import Tables
from validation.laboratory import Laboratory, make_laboratory

INTERCEPT = {"incidence": (-1.0, 1.5), "severity": (-1.5, 2.0), "composition": (0.0, 1.5)}
SCALE = {"incidence": 0.5, "severity": 0.5, "composition": 0.6}
CENTRED_FROM = 0.8
"""Scale of effects about which the sampler's coordinates change from those of the prior to those of the data."""


@dataclass(frozen=True, eq=False)
class FirstLaboratory(Laboratory):
    """As `Laboratory`, with the first prior: effects shared by branches' logits, ordered levels exchangeable."""

    def density(self, *given: Any, prior_scale: float = 1.0, **options: Any) -> FirstDensity:
        known = super().density(*given, **options).known
        return FirstDensity(self.design, self.centring, prior_scale, known, _functions(self, prior_scale))


@dataclass(frozen=True, eq=False)
class FirstDensity(Density):
    """The log density with the first prior, which PyTensor compiles."""

    functions: tuple[Any, Any, Any, Floats]

    def forward(self, x: Floats) -> tuple[float, Floats, Any]:
        return (*self.functions[0](x), None)

    def backward(self, x: Floats, d_p: Floats, tape: Any) -> Floats:
        return np.asarray(self.functions[1](x, d_p))

    def natural(self, x: Floats) -> dict[str, Floats]:
        return dict(zip(sorted(PARAMETERS), self.functions[2](x), strict=True))

    @property
    def start(self) -> Floats:
        return self.functions[3]


@lru_cache(maxsize=2)
def _functions(laboratory: Laboratory, prior_scale: float) -> tuple[Any, Any, Any, Floats]:
    """Log prior and state probabilities; the gradient; parameters; and where chains start."""
    design = laboratory.design
    with pm.Model(coords=coordinates(design)) as model:
        p = state_probabilities(*design.paths, first_logits(design, prior_scale), pt)
    wanted = [p, *(model[name] for name in sorted(PARAMETERS))]
    point, given = model.initial_point(), model.value_vars
    (logp, p, *natural), x = join_nonshared_inputs(point, [model.logp(), *model.replace_rvs_by_values(wanted)], given)
    d_p = pt.dmatrix()
    forward = pytensor.function([x], [logp, p])
    backward = pytensor.function([x, d_p], pytensor.grad(logp + (p * d_p).sum(), x, consider_constant=[d_p]))
    start = np.concatenate([np.ravel(point[variable.name]) for variable in given])
    return forward, backward, pytensor.function([x], natural), start


def make_first_laboratory(tables: Tables) -> Laboratory:
    """As `make_arm_laboratory`, with the first prior."""
    tests = pair_tests(tables)
    return FirstLaboratory(**vars(make_laboratory(all_frequencies(tables, tests), tests)))


def first_logits(design: Design, prior_scale: Any) -> Any:
    """Each branch's logit is its intercept, plus effects its pool shares, plus its own; see `aemodel.inference.model`."""
    log_odds = pm.Normal(
        "cohort_log_odds", *np.array([INTERCEPT[branch.pool] for branch in design.branches]).T.copy(), dims="branch"
    )
    # A trend and the departure from it, of one scale, are levels that are exchangeable.
    kinds = [term.name.removesuffix(" curve").removesuffix(" trend") for term in design.terms]
    to_term = np.array([[float(kind == other) for other in kinds] for kind in dict.fromkeys(kinds)])
    width = np.array([SCALE[pool] for pool in design.kinds])[:, None]
    half = half_normal(pm.Normal("scale_score", shape=(len(design.pools), len(to_term))))
    scale = pm.Deterministic("scale", prior_scale * width * pt.dot(half, to_term), dims=("pool", "term"))
    alike = pt.dot(pm.Beta(f"alike{SAMPLED}", 2.0, 2.0, shape=(len(design.sharing), len(to_term))), to_term)
    alike = pm.Deterministic("alike", alike, dims=("sharing_pool", "term"))
    own_scale, shared_scale = effect_scales(design, scale, alike, pt)
    own = _effects("own_raw", own_scale, ("branch", "contrast")) * own_scale
    together = _effects("shared_raw", shared_scale, ("sharing_pool", "contrast")) * shared_scale
    to_branch = np.array([[float(branch.pool == pool) for pool in priors.SHARING] for branch in design.branches])
    effects = pm.Deterministic("own", own + pt.dot(to_branch, together), dims=("branch", "contrast"))
    shared = pm.Deterministic("shared", pt.zeros((2, len(design.term_of))), dims=("sharing_pool", "contrast"))
    return branch_logits(design, log_odds, effects, shared)


def _effects(name: str, scale: Any, dims: tuple[str, str]) -> Any:
    """Standard normal variables to be multiplied by ``scale``, sampled in coordinates of their own."""
    stretch = pt.sqrt(1 + (scale / CENTRED_FROM) ** 2)
    return pm.Normal(f"{name}{SAMPLED}", sigma=stretch, dims=dims) / stretch
