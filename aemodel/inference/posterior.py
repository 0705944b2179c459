"""The posterior density: the prior, and everything that is known, each as a term of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from nutpie.compiled_pyfunc import from_pyfunc
from scipy.stats import norm

from aemodel.inference import priors
from aemodel.inference.density import Structure, Term, backward, effects, forward, make_structure, split
from aemodel.inference.design import Design
from aemodel.inference.effects import Centring, effect_scales, make_centring
from aemodel.inference.evidence import Evidence, evidence_terms
from aemodel.inference.likelihood import margins_term
from aemodel.inference.own_patients import OwnProfiles, patients_term
from aemodel.inference.saddlepoint import Floats
from aemodel.publication.margins import FamilyMargins

Margins = tuple[FamilyMargins, ...]

DIMS = {
    "intercept_mean": ("pool",),
    "intercept_spread": ("pool",),
    "intercept": ("branch",),
    "scale_score": ("pool", "term"),
    "scale": ("pool", "term"),
    "alike": ("sharing_pool", "term"),
    "shared": ("sharing_pool", "contrast"),
    "own": ("branch", "contrast"),
}
"""Parameters on their natural scale, and their dimensions."""


def coordinates(design: Design) -> dict[str, list[str]]:
    """Names along each dimension of the parameters."""
    return {
        "branch": [branch.name for branch in design.branches],
        "pool": list(design.pools),
        "sharing_pool": list(design.sharing),
        "term": [term.name for term in design.terms],
        "contrast": design.contrasts,
    }


@dataclass(frozen=True)
class Density:
    """The log density, of a prior of this structure and of terms, each times a power."""

    design: Design
    structure: Structure
    terms: tuple[tuple[float, Term], ...]

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        """Log density at the sampler's coordinates, up to a constant, and its gradient."""
        value, p, tape = forward(x, self.structure)
        d_p = np.zeros_like(p)
        for power, term in self.terms:
            one, slopes = term(p)
            value += power * one
            d_p += power * slopes
        if not np.isfinite(value):
            return -np.inf, np.zeros_like(x)
        return float(value), backward(x, d_p, p, tape, self.structure)

    def natural(self, x: Floats) -> dict[str, Floats]:
        """Parameters on their natural scale at the sampler's coordinates."""
        s = self.structure
        mean, log_spread, intercept, score, *_ = split(x, (s.width.shape[0], len(s.pool_of), s.width.shape[1], len(s.term_of)))
        _, scale, alike, _, _, shared, *_, own = effects(x, s)
        values = (mean.copy(), np.exp(log_spread), intercept.copy(), score.copy(), scale, alike, shared, own)
        return dict(zip(DIMS, values, strict=True))

    def prior(self, draws: int, seed: int) -> xr.Dataset:
        """Draws of every parameter from its prior, as one chain."""
        s, rng, found = self.structure, np.random.default_rng(seed), []
        (centre, width), (pools, terms) = s.intercept.T, s.width.shape
        for _ in range(draws):
            mean, spread = rng.normal(centre, width), np.exp(rng.normal(s.spread[0], s.spread[1], pools))
            intercept = rng.normal(mean[s.pool_of], spread[s.pool_of])
            score, alike = rng.normal(size=(pools, terms)), rng.beta(*priors.ALIKE, size=(pools - 1, terms))
            scale = s.width * norm.isf(0.5 * norm.sf(score))
            own, shared = (rng.normal(0, sd) for sd in effect_scales(self.design, scale, alike, np))
            found.append(dict(zip(DIMS, (mean, spread, intercept, score, scale, alike, shared, own), strict=True)))
        values = {name: np.stack([each[name] for each in found])[None] for name in DIMS}
        return xr.Dataset({n: (("chain", "draw", *DIMS[n]), v) for n, v in values.items()}, coordinates(self.design))

    def sampler(self) -> Any:
        """What `nutpie.sample` takes; kernels are compiled by now. Chains start about the prior's middle."""
        start = self.start
        self(start)
        shapes = {name: values.shape for name, values in self.natural(start).items()}
        return from_pyfunc(
            len(start),
            lambda: self,
            lambda *_: self.natural,
            [np.dtype("float64")] * len(shapes),
            list(shapes.values()),
            list(shapes),
            coords=coordinates(self.design),
            dims=DIMS,
            make_initial_point_fn=lambda seed: start + np.random.default_rng(seed).uniform(-1, 1, len(start)),
        )

    @property
    def start(self) -> Floats:
        """The middle of the prior, in the sampler's coordinates."""
        s = self.structure
        pools, terms = s.width.shape
        parts = [s.intercept[:, 0], np.full(pools, s.spread[0]), s.intercept[s.pool_of, 0], np.zeros(pools * terms)]
        rest = (pools - 1) * (terms + len(s.term_of)) + len(s.pool_of) * len(s.term_of)
        return np.concatenate([*parts, np.zeros(rest)])


def make_density(
    design: Design,
    margins: Margins,
    evidence: Evidence | None = None,
    prior_scale: float = 1.0,
    own: OwnProfiles | None = None,
    power: float = 1.0,
) -> Density:
    """What is sampled.

    ``prior_scale`` multiplies the scales of the effects' priors. What is published counts with a ``power``, its patients then
    being that many each (power prior; Ibrahim & Chen 2000). If patients of one's ``own`` are part of the published cohort,
    the margins are those of the others.
    """
    structure = make_structure(design, posterior_centring(design, margins, evidence, own), prior_scale)
    return Density(design, structure, tuple((p, term) for _, p, term in posterior_terms(design, margins, evidence, own, power)))


def posterior_terms(
    design: Design, margins: Margins, evidence: Evidence | None, own: OwnProfiles | None, power: float
) -> Iterator[tuple[str, float, Term]]:
    """Kind, power and term of all that is known beside the prior."""
    yield "margins", power, margins_term(*(own.others if own and own.others else (design, margins)))
    for kind, term in evidence_terms(design, evidence, margins) if evidence else ():
        yield kind, power, term
    if own:
        yield "patients", 1.0, patients_term(own)


def posterior_centring(
    design: Design, margins: Margins, evidence: Evidence | None = None, own: OwnProfiles | None = None
) -> Centring:
    """The sampler's coordinates, from counts and from what nulls speak of, or rows of patients, who may tell everything."""
    further = {(null.event, null.grade, null.covariate) for null in evidence.nulls} if evidence else set()
    if own:
        events = [event.name for family in design.families for event in family.events]
        further |= set(product(events, design.grades, [c.name for c in design.cells.covariates]))
    return make_centring(design, margins, further)
