"""From effects to what they add to branch logits, and to states: what all events share, and what each branch has of its own.

An effect u that all events share moves every event's *marginal* log odds by u, at both grades. A branch decides between
states of probabilities B - A and C - B: C is the probability of the states it decides among (`Family.outer`), A that of
those already settled within them, B that of the worse ones. If the log odds of A, B and C all move by u, the branch's
logit moves by

    log(1 + C (e^u - 1)) - log(1 + A (e^u - 1)),

which is u for an event of its own (C = 1, A = 0), and less the rarer what it lies in. A, B and C are taken at the cohort's
log odds. Nested events then move by exactly u, however deep; the parts of a union move with it, not by u each. A second
shared effect is added to the logits of severity, one for each step to a higher class of grades. Everything here is written
for PyTensor and NumPy alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from aemodel.inference.design import Design
from aemodel.inference.intervals import tilted_states
from aemodel.publication.arrays import Floats
from aemodel.publication.margins import FamilyMargins

UNKNOWN = 1e6
"""Standard error, in log odds, of what the publication says nothing of."""


class Centring(NamedTuple):
    """What the sampler's coordinates are made of: about how much the publication says of each effect.

    ``own`` (branch, contrast) and ``shared`` (sharing pool, contrast) are standard errors of effects, each as if all
    others were known; ``load`` (branch, sharing pool) what a shared effect adds to a branch's logit.
    """

    own: Floats
    shared: Floats
    load: Floats


def moved_logits(
    design: Design, log_odds: Any, own: Any, shared: Any, matrix: Floats, xp: Any, fresh: tuple[Any, Any] = (0.0, 0.0)
) -> Any:
    """What effects add to branches' logits, (branch, cell): of contrasts from the cohort's mean, ``matrix`` (cell, contrast).

    ``log_odds`` (branch,) are the cohort's; ``own`` (branch, contrast) and ``shared`` (sharing pool, contrast) effects;
    ``fresh`` those of new levels, by cell instead of by contrast. Branches' levels are for `aemodel.inference.levels`.
    """
    settled, outer = branch_shares(design, log_odds, xp)
    matrix = np.ascontiguousarray(matrix.T)
    by_cell = xp.dot(shared, matrix) + fresh[1]
    odds = xp.expm1(by_cell[0])[None, :]
    moved = xp.log1p(outer[:, None] * odds) - xp.log1p(settled[:, None] * odds)
    return xp.dot(own, matrix) + fresh[0] + moved + xp.dot(severity_steps(design), by_cell[1:])


def state_probabilities(taken: Floats, refused: Floats, logits: Any, xp: Any) -> Any:
    """Probabilities of states (state, cell) from ``logits`` (branch, cell), for PyTensor and NumPy alike.

    A state's is the product of its path's branches, ``taken`` or ``refused`` (state, branch).
    """
    size = abs(logits)
    softplus = xp.log1p(xp.exp(-size)) + 0.5 * (size + logits)
    return xp.exp(xp.dot(taken, logits) - xp.dot(taken + refused, softplus))


def branch_shares(design: Design, log_odds: Any, xp: Any) -> tuple[Any, Any]:
    """Probabilities, at the cohort's log odds, that a branch is settled within what it decides, and of that: A, C (branch,)."""
    taken, refused = design.paths
    logp = -xp.dot(taken, xp.log1p(xp.exp(-log_odds))) - xp.dot(refused, xp.log1p(xp.exp(log_odds)))
    settled, outer = (xp.dot(states, xp.exp(logp)) for states in design.among)
    return settled, outer


def severity_steps(design: Design) -> Floats:
    """Which severity pool a branch is of: 0/1, (branch, pool)."""
    return np.ascontiguousarray(np.eye(len(design.pools))[design.pool_of][:, 1:-1])


def effect_scales(design: Design, scale: Any, alike: Any, xp: Any) -> tuple[Any, Any]:
    """Standard deviations of own effects (branch, contrast) and of shared ones (sharing pool, contrast).

    ``scale`` (pool, term) and ``alike`` (sharing pool, term) are the model's.
    """
    # 0/1 matrices pick scales: cheaper to differentiate and to compile than indexing.
    to_contrast = np.ascontiguousarray(np.eye(len(design.terms))[:, design.term_of])
    to_branch = np.eye(len(design.pools))[design.pool_of]
    shares = np.eye(len(design.pools))[:-1]
    sharing = np.ascontiguousarray(shares.T)
    alone = np.ones((len(design.pools), 1)) - sharing.sum(axis=1, keepdims=True)
    own = scale * (alone + xp.dot(sharing, xp.sqrt(1 - alike)))
    shared = xp.dot(shares, scale) * xp.sqrt(alike)
    return xp.dot(to_branch, xp.dot(own, to_contrast)), xp.dot(shared, to_contrast)


def make_centring(
    design: Design,
    margins: Sequence[FamilyMargins],
    further: Iterable[tuple[str, str, str]] = (),
    own: Mapping[tuple[str, str, str], float] | None = None,
) -> Centring:
    """Standard errors from the published counts, at the state probabilities nearest to equal ones that match them.

    Of a branch's effect, what the one count of an event by the covariate says that says most; `UNKNOWN` where there is
    none. ``further`` are events, grades and covariates of which something beside the margins speaks, as if they were
    counted; ``own`` says of how many patients rows tell them, too. No more than a guide: any value gives the
    same posterior.
    """
    p = np.maximum(reference_states(margins), 1e-9)
    taken, refused = design.paths
    yes = (p @ taken) / (p @ (taken + refused))
    slopes = p[:, None] * (taken * (1 - yes) - refused * yes)
    spread = design.share @ design.centred**2
    steps = severity_steps(design)
    precision = np.zeros((len(design.branches), len(design.term_of)))
    shared = np.zeros((len(design.sharing), len(design.term_of)))
    told = dict.fromkeys(set(further).union(*(family.told for family in margins)), float(design.cells.n.sum()))
    patients = told | {key: told.get(key, 0.0) + number for key, number in (own or {}).items()}
    for (event, grade, covariate), number in sorted(patients.items()):
        states = design.states_having(event, grade)
        here = spread * np.array([design.terms[t].covariate == covariate for t in design.term_of])
        rate = p[states].sum() / p.sum() * len(margins)
        variance = max(rate * (1 - rate), 1e-9)
        gains = number * slopes[states].sum(axis=0) ** 2 / variance
        precision = np.maximum(precision, gains[:, None] * here)
        shared += np.append(number * variance, (gains[:, None] * steps).max(axis=0))[:, None] * here
    settled, outer = (states @ p for states in design.among)
    return Centring(_standard_errors(precision), _standard_errors(shared), np.column_stack([outer - settled, steps]))


def _standard_errors(precision: Floats) -> Floats:
    return np.asarray(1 / np.sqrt(np.maximum(precision, UNKNOWN**-2)))


def reference_states(margins: Sequence[FamilyMargins]) -> Floats:
    """The cohort's state probabilities nearest to equal ones that match the margins, families end to end: (state,)."""
    parts = [family.margins.n @ tilted_states(family.margins) / family.margins.n.sum() for family in margins]
    return np.concatenate(parts)
