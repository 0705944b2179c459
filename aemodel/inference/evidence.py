"""Which evidence beside a publication's margins goes into a fit, and its log probability; here, that of orderings of groups.

Of a published ordering of groups it is the probability that their sample rates came out so, given the risks.

Sample rates of the groups are taken as normal with the covariance of nested grades at the cohort's rates. Whitened
contrasts between groups are then N(m, 1) with m linear in the risks, and the ordering, with significant chi-square tests,
is a fixed region of them: a cone without the ellipsoids of what is not significant. Its probability,

    P(region | m) = exp(-m.m / 2)  sum_i w_i exp(x_i . m),

is a sum over points x_i of the region with importance weights w_i, drawn once. So it is smooth in the risks and never
zero however improbable the ordering. Against simulation of patients it errs by 0.15 nats (sd; `tests/test_evidence.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy.stats import chi2, norm, qmc

from aemodel.inference.density import Term
from aemodel.inference.design import Design
from aemodel.inference.selection import null_weights, nulls_term
from aemodel.publication.arrays import Bools, Floats
from aemodel.publication.errors import PublicationError
from aemodel.publication.evidence import Null, Ordering
from aemodel.publication.margins import FamilyMargins
from aemodel.publication.schema import Tiers
from aemodel.publication.tables import Tables

Significance = Literal["both", "either", "order"]
"""Which tests are taken as significant beside the ordering: at every grade it is given for, at one or more, or none."""

POINTS = 4096
DRAWN = 262_144
FEWEST_POINTS = 500
SPREAD = 3.0
"""Standard deviation of the points, in those of the contrasts: risks may differ by several standard errors."""


def ordering_term(design: Design, ordering: Ordering, rates: Floats, significance: Significance) -> Term:
    """Log probability of an ordering.

    ``rates`` (grade,) are the event's in the cohort, which set the covariance of the groups' sample rates.
    """
    share, n = design.groups(ordering.covariate, ordering.groups, ordering.within)
    having = np.array([design.states_having(ordering.event, grade) for grade in ordering.tiers], dtype=float)
    kept, log_weight, whiten = make_region(ordering, n, rates, significance)
    points = np.ascontiguousarray(kept.T)

    def term(p: Floats) -> tuple[float, Floats]:
        m = whiten @ (having @ p @ share.T).T.ravel()
        values = m @ points + log_weight
        most = values.max()
        ratio = np.exp(values - most)
        total = ratio.sum()
        slopes = (points @ ratio / total - m) @ whiten
        return most + np.log(total) - 0.5 * m @ m, having.T @ slopes.reshape(len(share), -1).T @ share

    return term


def make_region(ordering: Ordering, n: Floats, rates: Floats, significance: Significance) -> tuple[Floats, Floats, Floats]:
    """The points of an ordering's region, for groups of sizes ``n`` (group,) and an event of cohort ``rates`` (grade,).

    Returns whitened contrasts (point, contrast), the logarithms of their weights (point,), and what takes rates, grades
    fastest, to contrasts (contrast, group and grade).

    Raises
    ------
    ValueError
        The ordering is so fine that hardly any of the points drawn lie in its region.
    """
    # Grades nest: who has grade 4-5 has grade 3-5.
    covariance = np.minimum.outer(rates, rates) - np.outer(rates, rates)
    factor = np.linalg.cholesky(covariance)
    contrasts = _contrasts(n)
    unwhiten = np.kron(contrasts / np.sqrt(n)[:, None], factor)
    points = norm.ppf(qmc.Sobol(unwhiten.shape[1], seed=1).random(DRAWN)) * SPREAD
    sample = (points @ unwhiten.T).reshape(len(points), len(n), len(rates))
    inside = _significant(sample, n, np.diag(covariance), ordering.alpha, significance)
    for j, tiers in enumerate(ordering.tiers.values()):
        inside &= in_order(sample[..., j], ordering.groups, tiers)
    kept = points[inside][:POINTS]
    if len(kept) < FEWEST_POINTS:
        problem = f"the tiers of {ordering.event} by {ordering.covariate} are too fine"
        raise PublicationError("publication.toml", problem, key="orderings")
    ratio = (norm.logpdf(kept) - norm.logpdf(kept, scale=SPREAD)).sum(axis=1)
    whiten = np.asarray(np.kron((contrasts * np.sqrt(n)[:, None]).T, np.linalg.inv(factor)), dtype=np.float64)
    return kept, np.asarray(ratio + np.log(inside.mean() / len(kept)), dtype=np.float64), whiten


def _contrasts(n: Floats) -> Floats:
    """Orthonormal basis (group, contrast) of what is orthogonal to the roots of the sizes: each group against those before it.

    Not by a decomposition, of which every machine may have another basis, and with it other points.
    """
    root = np.sqrt(n / n.sum())
    basis = np.triu(np.outer(root, root[1:]))
    np.fill_diagonal(basis[1:], -np.cumsum(root**2)[:-1])
    return np.asarray(basis / np.linalg.norm(basis, axis=0))


def in_order(rates: Floats, groups: Sequence[str], tiers: Tiers) -> Bools:
    """In which draws ``rates`` (draw, group) come in the order of the tiers, (draw,)."""
    places = [[groups.index(name) for name in tier] for tier in tiers]
    return np.all([rates[:, a].min(axis=1) > rates[:, b].max(axis=1) for a, b in pairwise(places)], axis=0)


def _significant(sample: Floats, n: Floats, variance: Floats, alpha: float | None, significance: Significance) -> Bools:
    """Which sample rates, as differences from their mean, have significant chi-square tests."""
    if alpha is None or significance == "order":
        return np.ones(len(sample), dtype=bool)
    statistic = np.einsum("igk,g->ik", sample**2, n) / variance
    above = statistic > chi2.isf(alpha, len(n) - 1)
    return np.asarray(above.all(axis=1) if significance == "both" else above.any(axis=1))


# What goes into a fit.


@dataclass(frozen=True)
class Evidence:
    """Orderings, each with its event's rates in the cohort (grade,), which tests they had significant, and nulls."""

    orderings: tuple[tuple[Ordering, Floats], ...]
    significance: Significance
    nulls: tuple[Null, ...]


def choose_evidence(tables: Tables, ordering: Significance | None, selection: bool) -> Evidence:
    """The publication's evidence that a fit is to use.

    Raises
    ------
    ValueError
        An ordered event has no published total.
    """
    orderings = () if ordering is None else tuple((item, _rates(tables, item)) for item in tables.orderings)
    return Evidence(orderings, ordering or "order", tables.nulls if selection else ())


def evidence_terms(design: Design, evidence: Evidence, margins: Sequence[FamilyMargins]) -> Iterator[tuple[str, Term]]:
    """Each piece of evidence by its kind, ``ordering`` or ``selection``."""
    for ordering, rates in evidence.orderings:
        yield "ordering", ordering_term(design, ordering, rates, evidence.significance)
    if evidence.nulls:
        yield "selection", nulls_term(design, evidence.nulls, null_weights(design, evidence.nulls, margins))


def _rates(tables: Tables, ordering: Ordering) -> Floats:
    totals = {row.grade: row for row in tables.rows if (row.event, row.covariate) == (ordering.event, "total")}
    if missing := [grade for grade in ordering.tiers if grade not in totals]:
        problem = f"{ordering.event} has no published total at grade {missing[0]}"
        raise PublicationError("publication.toml", problem, key="orderings")
    ends = [(totals[grade].observed_low, totals[grade].observed_high) for grade in ordering.tiers]
    return np.asarray(np.clip(np.mean(ends, axis=1) / tables.n, 1 / tables.n, 1 - 1 / tables.n))
