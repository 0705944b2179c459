"""The posterior density: the prior, and everything that is known, each as a term of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from msgspec import structs
from nutpie.compiled_pyfunc import from_pyfunc
from scipy.stats import norm

from aemodel.inference import priors
from aemodel.inference.density import Structure, Term, backward, effects, forward, make_structure, split
from aemodel.inference.design import Design, all_margins, make_design
from aemodel.inference.effects import Centring, effect_scales, make_centring
from aemodel.inference.evidence import Evidence, choose_evidence, evidence_terms
from aemodel.inference.likelihood import margins_term
from aemodel.inference.own_patients import Overlap, OwnProfiles, known_patients, make_own_profiles, patients_term
from aemodel.inference.record import Settings, check_settings
from aemodel.publication.arrays import Floats
from aemodel.publication.margins import FamilyMargins
from aemodel.publication.tables import Tables

Margins = tuple[FamilyMargins, ...]

DIMS = {
    "intercept_mean": ("pool",),
    "intercept_spread": ("pool",),
    "cohort_log_odds": ("branch",),
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


class Known(NamedTuple):
    """A term of the log density, times a power."""

    kind: str
    term: Term
    power: float = 1.0


@dataclass(frozen=True)
class Density:
    """The log density, of the prior with its scales multiplied and of all that is known.

    ``centring`` sets the sampler's coordinates: any gives the same posterior.
    """

    design: Design
    centring: Centring
    prior_scale: float
    known: tuple[Known, ...]

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        """Log density at the sampler's coordinates, up to a constant, and its gradient."""
        value, p, tape = forward(x, self.structure)
        d_p: Any = 0.0
        for known in self.known:
            one, slopes = known.term(p)
            value += known.power * one
            d_p = d_p + (slopes if known.power == 1 else known.power * slopes)
        if not np.isfinite(value):
            return -np.inf, np.zeros_like(x)
        return float(value), backward(x, d_p, tape, self.structure)

    @cached_property
    def structure(self) -> Structure:
        return make_structure(self.design, self.centring, self.prior_scale)

    def natural(self, x: Floats) -> dict[str, Floats]:
        """Parameters on their natural scale at the sampler's coordinates."""
        mean, log_spread, intercept, score, *_ = split(x, self.structure)
        _, scale, alike, shared_scale, shared_score, own_scale, own_score, _ = effects(x, self.structure)
        shared, own = shared_scale * shared_score, own_scale * own_score
        values = (mean.copy(), np.exp(log_spread), intercept.copy(), score.copy(), scale, alike[:-1], shared, own)
        return dict(zip(DIMS, values, strict=True))

    def prior(self, draws: int, seed: int) -> xr.Dataset:
        """Draws of every parameter from its prior, as one chain."""
        rng = np.random.default_rng(seed)
        return as_chain([prior_draw(self.design, rng, self.prior_scale) for _ in range(draws)], self.design)

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
            dims={name: DIMS[name] for name in shapes},
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


def prior_draw(design: Design, rng: np.random.Generator, prior_scale: float = 1.0) -> dict[str, Floats]:
    """One draw of every parameter from its prior."""
    (centre, width), pools = np.array([priors.INTERCEPT[kind] for kind in design.kinds]).T, len(design.pools)
    mean, spread = rng.normal(centre, width), np.exp(rng.normal(np.log(priors.SPREAD[0]), priors.SPREAD[1], pools))
    intercept = rng.normal(mean[design.pool_of], spread[design.pool_of])
    score = rng.normal(size=design.widths.shape)
    alike = rng.beta(*priors.ALIKE, size=(pools - 1, len(design.terms)))
    scale = prior_scale * design.widths * norm.isf(0.5 * norm.sf(score))
    own, shared = (rng.normal(0, sd) for sd in effect_scales(design, scale, alike, np))
    return dict(zip(DIMS, (mean, spread, intercept, score, scale, alike, shared, own), strict=True))


def as_chain(draws: Sequence[Mapping[str, Floats]], design: Design) -> xr.Dataset:
    """Draws of every parameter, end to end."""
    values = {name: np.stack([each[name] for each in draws])[None] for name in DIMS}
    return xr.Dataset({n: (("chain", "draw", *DIMS[n]), v) for n, v in values.items()}, coordinates(design))


class Prepared(NamedTuple):
    """What is to be sampled of a publication, and by which settings."""

    settings: Settings
    evidence: Evidence
    density: Density


def prepared(tables: Tables, patients: Any, overlap: Overlap | None, **arguments: Any) -> Prepared:
    """The density that a caller asks for, with arguments as those of `Settings`.

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be, or the counts, or patients' grades, contradict each other.
    """
    if not isinstance(tables, Tables):
        raise TypeError(f"tables: expected what load_tables returns, not {type(tables).__name__}")
    asked = check_settings(**arguments)
    evidence = choose_evidence(tables, asked.ordering, asked.selection)
    design = make_design(tables)
    own = make_own_profiles(tables, design, patients, overlap)
    asked = structs.replace(asked, overlap=overlap, patients=own.patients if own else 0)
    density = make_density(design, all_margins(design, tables.frequencies), evidence, asked.prior_scale, own, asked.power)
    return Prepared(asked, evidence, density)


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
    others = own.others if own and own.others else (design, margins)
    terms: list[Known] = [Known("margins", margins_term(*others), power)]
    terms += [Known(kind, term, power) for kind, term in evidence_terms(design, evidence, margins)] if evidence else []
    terms += [Known("patients", patients_term(own))] if own else []
    return Density(design, _centring(design, margins, evidence, own), prior_scale, tuple(terms))


def _centring(design: Design, margins: Margins, evidence: Evidence | None, own: OwnProfiles | None) -> Centring:
    """The sampler's coordinates, from counts, from what nulls speak of and from rows of patients."""
    further = {(null.event, null.grade, null.covariate) for null in evidence.nulls} if evidence else set()
    return make_centring(design, margins, further, known_patients(own, design) if own else None)
