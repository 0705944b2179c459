"""The design of the regression: branches, covariate terms and contrasts over all cells of a publication."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import block_diag, null_space

from aemodel.publication.cells import Cells, make_cells
from aemodel.publication.errors import PublicationError
from aemodel.publication.families import POOLS, Branch, Family, make_families
from aemodel.publication.margins import FamilyMargins, family_margins
from aemodel.publication.schema import Covariate
from aemodel.publication.tables import Tables


@dataclass(frozen=True)
class Term:
    """One set of exchangeable effects.

    Of a covariate's levels, its groups, its levels within groups, or the trend over
    ordered levels and the departure from it.

    ``basis`` (level, contrast) has orthonormal columns per set of effects that sum to zero.
    """

    name: str
    covariate: str
    basis: NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """What the model needs of a publication, as arrays.

    ``branches`` are those of all families, end to end; ``matrix`` (cell, contrast) the covariates in contrasts;
    ``term_of`` (contrast,) and ``pool_of`` (branch,) are positions in ``terms`` and `POOLS`.
    """

    cells: Cells
    families: tuple[Family, ...]
    branches: tuple[Branch, ...]
    terms: tuple[Term, ...]
    matrix: NDArray[np.float64]
    term_of: NDArray[np.int64]
    pool_of: NDArray[np.int64]

    def branch_slice(self, family: int) -> slice:
        """Where a family's branches lie among all."""
        sizes = np.cumsum([0] + [len(f.branches) for f in self.families])
        return slice(int(sizes[family]), int(sizes[family + 1]))

    def columns_of(self, term: int) -> NDArray[np.int64]:
        return np.flatnonzero(self.term_of == term)

    def family_of(self, event: str) -> int:
        """Which family an event belongs to."""
        return next(i for i, family in enumerate(self.families) if event in [e.name for e in family.events])

    def states_having(self, event: str, grade: str) -> NDArray[np.bool_]:
        """Which of all states, families end to end, have an event at a grade: (state,)."""
        mine = self.family_of(event)
        parts = [
            family.having(event, grade) if i == mine else np.zeros(len(family.grades), dtype=bool)
            for i, family in enumerate(self.families)
        ]
        return np.concatenate(parts)

    def groups(
        self, covariate: str, levels: Sequence[str], within: tuple[str, str] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Composition of some levels of a covariate, (group, cell) with rows that sum to 1, and their sizes, (group,)."""
        inside = np.ones(len(self.cells.n), dtype=bool) if within is None else self.cells.having(*within)
        weights = np.array([self.cells.having(covariate, level) & inside for level in levels]) * self.cells.n
        n = weights.sum(axis=1)
        return weights / n[:, None], n

    @cached_property
    def centred(self) -> NDArray[np.float64]:
        """Contrasts less their mean over the cohort, (cell, contrast)."""
        return self.matrix - self.share @ self.matrix

    @property
    def share(self) -> NDArray[np.float64]:
        """The cohort's composition, (cell,)."""
        return self.cells.n / self.cells.n.sum()

    def over_families(self, name: str) -> NDArray[np.float64]:
        """One of the families' arrays (state, branch), over all families' states and branches."""
        return np.asarray(block_diag(*[getattr(family, name) for family in self.families]), dtype=np.float64)

    @property
    def contrasts(self) -> list[str]:
        """Names of the contrasts: term and number."""
        return [f"{self.terms[t].name}[{k}]" for t in range(len(self.terms)) for k in range(self.terms[t].basis.shape[1])]


def make_design(tables: Tables) -> Design:
    cells = make_cells(tables)
    families = make_families(tables.events)
    branches = tuple(branch for family in families for branch in family.branches)
    terms = tuple(term for covariate in tables.covariates for term in _terms(covariate))
    position = {c.name: i for i, c in enumerate(tables.covariates)}
    matrix = np.hstack([term.basis[cells.levels[:, position[term.covariate]]] for term in terms])
    term_of = np.concatenate([np.full(term.basis.shape[1], i) for i, term in enumerate(terms)])
    pool_of = np.array([POOLS.index(branch.pool) for branch in branches])
    return Design(cells, families, branches, terms, matrix, term_of, pool_of)


def all_margins(design: Design, rows: pd.DataFrame, like: Sequence[FamilyMargins] | None = None) -> tuple[FamilyMargins, ...]:
    """Margins of every family from the frequencies to be used, over cells of their own or those of other margins."""
    covariates = [None] * len(design.families) if like is None else [family.covariates for family in like]
    pairs = zip(design.families, covariates, strict=True)
    return tuple(family_margins(family, design.cells, rows, told) for family, told in pairs)


def family_averages(design: Design, margins: tuple[FamilyMargins, ...]) -> list[NDArray[np.float64]]:
    """The cohort's composition within each family's own cells: (family cell, cell), rows sum to 1."""
    found = []
    for family in margins:
        inside = np.arange(len(family.margins.n))[:, None] == family.coarse
        weights = inside * design.cells.n
        # A family cell without patients plays no part; any composition will do.
        weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, inside)
        found.append(weights / weights.sum(axis=1, keepdims=True))
    return found


def _terms(covariate: Covariate) -> list[Term]:
    """Levels are exchangeable or ordered, or, where they are grouped, groups are and so are levels within each group."""
    if covariate.ordered and len(covariate.levels) > 2:
        trend = np.linspace(-np.sqrt(0.5), np.sqrt(0.5), len(covariate.levels))[:, None]
        curve = null_space(np.hstack([np.ones_like(trend), trend]).T)
        return [
            Term(f"{covariate.name} trend", covariate.name, trend),
            Term(f"{covariate.name} curve", covariate.name, curve * np.where(curve[0] < 0, -1, 1)),
        ]
    groups = list(dict.fromkeys(level.group or level.name for level in covariate.levels))
    if len(groups) == len(covariate.levels):
        return [Term(covariate.name, covariate.name, zero_sum_basis(len(groups)))]
    if covariate.open:
        raise PublicationError("publication.toml", f"covariate {covariate.name!r} cannot be open and have its levels grouped")
    group_of = np.array([groups.index(level.group or level.name) for level in covariate.levels])
    sizes = np.bincount(group_of)
    within = np.zeros((len(covariate.levels), int((sizes - 1).sum())))
    within[np.argsort(group_of, kind="stable")] = block_diag(*[zero_sum_basis(size) for size in sizes])
    return [
        Term(f"{covariate.name} group", covariate.name, zero_sum_basis(len(groups))[group_of]),
        Term(f"{covariate.name} within", covariate.name, within),
    ]


def zero_sum_basis(size: int) -> NDArray[np.float64]:
    """Orthonormal basis (size, size - 1) of the vectors that sum to zero."""
    if size == 1:
        return np.zeros((1, 0))
    basis = null_space(np.ones((1, size)))
    return np.asarray(basis * np.where(basis[0] < 0, -1, 1))
