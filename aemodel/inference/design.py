"""The design of the regression: branches, covariate terms and contrasts over all cells of a publication."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from msgspec.structs import replace
from scipy.linalg import block_diag, null_space

from aemodel.inference import priors
from aemodel.publication.arrays import Bools, Floats, Ints
from aemodel.publication.cells import Cells, make_cells
from aemodel.publication.cutoffs import Unseen
from aemodel.publication.errors import PublicationError
from aemodel.publication.families import Branch, Family, make_families
from aemodel.publication.margins import FamilyMargins, family_margins
from aemodel.publication.rules import split
from aemodel.publication.schema import Covariate
from aemodel.publication.tables import Tables


@dataclass(frozen=True)
class Term:
    """One set of exchangeable effects.

    Of a covariate's levels, its groups, its levels within groups, or the trend over
    ordered levels and the departure from it; or of levels of two covariates together (``arm*stage``), beyond those of each.

    ``basis`` (level, contrast), or for two covariates (level, level, contrast), has orthonormal columns per set of effects
    that sum to zero. Patients of whom a level is not known have the cohort's average of the others' effects.
    """

    name: str
    covariate: str
    basis: Floats

    @property
    def covariates(self) -> list[str]:
        return self.covariate.split("*") if self.basis.ndim == 3 else [self.covariate]


class Tree(NamedTuple):
    """The decisions that lead to states, in their order.

    A node is a branch to be decided after others, those of a branch one after another: ``branch`` (branch,) has the branches,
    ``start`` (branch + 1,) where the nodes of each begin. ``after`` (node, 2) is what follows where it is refused, and taken:
    another node, or -1 less the number of a state. ``first`` are the nodes that everybody reaches; ``share`` (cell,) is the
    cohort's composition.
    """

    branch: Ints
    start: Ints
    after: Ints
    first: Ints
    share: Floats


@dataclass(frozen=True)
class Design:
    """What the model needs of a publication, as arrays.

    ``branches`` are those of all families, end to end; ``matrix`` (cell, contrast) the covariates in contrasts;
    ``term_of`` (contrast,) and ``pool_of`` (branch,) are positions in ``terms`` and ``pools``: incidence, a severity for each
    step from one class of grades to the next, composition. ``grades`` are the classes that risks are given for,
    ``unseen`` what listed events are known not to be.
    """

    cells: Cells
    families: tuple[Family, ...]
    branches: tuple[Branch, ...]
    terms: tuple[Term, ...]
    matrix: Floats
    term_of: Ints
    pool_of: Ints
    pools: tuple[str, ...]
    grades: tuple[str, ...]
    unseen: tuple[Unseen, ...] = ()

    def columns_of(self, term: int) -> Ints:
        return np.flatnonzero(self.term_of == term)

    def family_of(self, event: str) -> int:
        """Which family an event belongs to."""
        return next(i for i, family in enumerate(self.families) if event in [e.name for e in family.events])

    def states_having(self, event: str, grade: str) -> Bools:
        """Which of all states, families end to end, have an event at a grade: (state,)."""
        mine, found = self.family_of(event), np.zeros(self.edges[-1], dtype=bool)
        found[self.edges[mine] : self.edges[mine + 1]] = self.families[mine].having(event, grade)
        return found

    def groups(self, covariate: str, levels: Sequence[str], within: tuple[str, str] | None = None) -> tuple[Floats, Floats]:
        """Composition of some levels of a covariate, (group, cell) with rows that sum to 1, and their sizes, (group,)."""
        inside = np.ones(len(self.cells.n), dtype=bool) if within is None else self.cells.having(*within)
        weights = np.array([self.cells.having(covariate, level) & inside for level in levels]) * self.cells.n
        n = weights.sum(axis=1)
        if not n.all():
            problem = f"nobody is in {covariate} {levels[int(np.argmin(n))]}, so that it has no rate"
            raise PublicationError("publication.toml", problem, key="orderings", remedy="leave it out")
        return weights / n[:, None], n

    @cached_property
    def edges(self) -> Ints:
        """Where each family's states begin among all, and the end: (family + 1,)."""
        return np.cumsum([0] + [len(family.grades) for family in self.families])

    @cached_property
    def centred(self) -> Floats:
        """Contrasts less their mean over the cohort, (cell, contrast)."""
        return self.matrix - self.share @ self.matrix

    @property
    def widths(self) -> Floats:
        """Scales of the half-normal priors of effects' scales, (pool, term)."""
        together = np.array([priors.INTERACTION if term.basis.ndim == 3 else 1.0 for term in self.terms])
        return np.outer([priors.SCALE[kind] for kind in self.kinds], together)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of each pool, whether it is of ``incidence``, ``severity`` or ``composition``."""
        return tuple(pool.split()[0] for pool in self.pools)

    @property
    def sharing(self) -> tuple[str, ...]:
        """Pools whose effects have a part in common: all but composition, in their order."""
        return self.pools[:-1]

    @property
    def share(self) -> Floats:
        """The cohort's composition, (cell,)."""
        return self.cells.n / self.cells.n.sum()

    def over_families(self, name: str) -> Floats:
        """One of the families' arrays (state, branch), over all families' states and branches."""
        return np.asarray(block_diag(*[getattr(family, name) for family in self.families]), dtype=np.float64)

    @cached_property
    def paths(self) -> tuple[Floats, Floats]:
        """Branches that each state takes, and those it refuses, (state, branch) each."""
        return self.over_families("taken"), self.over_families("refused")

    @cached_property
    def among(self) -> tuple[Floats, Floats]:
        """States that a branch settles, and those it decides among with them, (branch, state) each."""
        settled, outer = (np.ascontiguousarray(self.over_families(name).T) for name in ("settled", "outer"))
        return settled, outer

    @cached_property
    def tree(self) -> Tree:
        """The families' decisions, over all cells."""
        return make_tree(self.families, self.share)

    @property
    def contrasts(self) -> list[str]:
        """Names of the contrasts: term and number."""
        return [f"{term.name}[{k}]" for term in self.terms for k in range(term.basis.shape[-1])]


def make_tree(families: Sequence[Family], share: Floats) -> Tree:
    """The decisions of families, end to end."""
    begin = np.cumsum([0] + [len(family.branches) for family in families]).tolist()
    decides: dict[tuple[Any, ...], int] = {}
    ends: dict[tuple[Any, ...], int] = {}
    for i, family in enumerate(families):
        for taken, refused in zip(family.taken > 0, family.refused > 0, strict=True):
            path = [(begin[i] + b, bool(taken[b])) for b in family.order.tolist() if taken[b] or refused[b]]
            decides |= {(i, *path[:k]): branch for k, (branch, _) in enumerate(path)}
            ends[i, *path] = -1 - len(ends)
    order = np.concatenate([begin[i] + family.order for i, family in enumerate(families)])
    rank = np.argsort(order)
    nodes = sorted(decides, key=lambda node: rank[decides[node]])
    number = {node: n for n, node in enumerate(nodes)} | ends
    start = np.searchsorted(rank[[decides[node] for node in nodes]], np.arange(len(order) + 1))
    after = [[number[*node, (decides[node], yes)] for yes in (False, True)] for node in nodes]
    return Tree(order, start, np.array(after), np.array([number[i,] for i in range(len(families))]), share)


def make_design(tables: Tables) -> Design:
    cells = make_cells(tables)
    families = make_families(tables.events, tables.classes)
    branches = tuple(branch for family in families for branch in family.branches)
    alone = {covariate.name: _terms(covariate, cells) for covariate in tables.covariates}
    terms = (*(term for terms in alone.values() for term in terms), *_interactions(tables, alone))
    position = {c.name: i for i, c in enumerate(tables.covariates)}
    columns = [term.basis[*(cells.levels[:, position[name]] for name in term.covariates)] for term in terms]
    matrix = np.hstack([np.zeros((len(cells.n), 0)), *columns])
    term_of = np.repeat(np.arange(len(terms)), [term.basis.shape[-1] for term in terms])
    pools, pool_of = _pools(branches)
    return Design(cells, families, branches, terms, matrix, term_of, pool_of, pools, tables.grades, tables.unseen)


def _pools(branches: Sequence[Branch]) -> tuple[tuple[str, ...], Ints]:
    """Names of pools, and the position of each branch's: one severity, or one for each step if there are several."""
    severities = [branch.reaches for branch in branches if branch.pool == "severity"]
    reached = sorted(set(severities) - {0})
    steps = [f"severity {grade}" for grade in reached] if len(reached) > 1 else ["severity"] if severities else []
    pools = ("incidence", *steps, "composition")
    # A fatal event's branches are beside those of the last step.
    place = {grade: min(1 + i, len(steps)) for i, grade in enumerate(reached)} | {0: len(steps)}
    of = [place[branch.reaches] if branch.pool == "severity" else pools.index(branch.pool) for branch in branches]
    return pools, np.array(of)


def all_margins(design: Design, rows: pd.DataFrame, like: Sequence[FamilyMargins] | None = None) -> tuple[FamilyMargins, ...]:
    """Margins of every family from the frequencies to be used, over cells of their own or those of other margins."""
    covariates = [None] * len(design.families) if like is None else [family.covariates for family in like]
    pairs = zip(design.families, covariates, strict=True)
    return tuple(family_margins(family, design.cells, rows, told, design.unseen) for family, told in pairs)


def family_averages(design: Design, margins: tuple[FamilyMargins, ...]) -> list[Floats]:
    """The cohort's composition within each family's own cells: (family cell, cell), rows sum to 1."""
    found = []
    for family in margins:
        copies, size = family.shares.shape
        inside = np.arange(size)[:, None] == family.coarse
        weights = inside * design.cells.n
        # A family cell without patients plays no part; any composition will do.
        weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, inside)
        found.append(np.tile(weights / weights.sum(axis=1, keepdims=True), (copies, 1)))
    return found


def _interactions(tables: Tables, alone: Mapping[str, Sequence[Term]]) -> list[Term]:
    """A term for each two covariates that some event is published by together: such a table tells what one-way ones do not."""
    rows = [row for row in tables.rows if not row.derived]
    places = [[name for name, _ in split(tables.covariates, row.covariate, row.level) or ()] for row in rows]
    pairs = dict.fromkeys(tuple(sorted(pair)) for names in places for pair in combinations(names, 2))
    found = []
    for pair in sorted(pairs):
        one, other = (np.hstack([term.basis for term in alone[name]]) for name in pair)
        basis = np.einsum("ij,kl->ikjl", one, other).reshape(len(one), len(other), -1)
        found.append(Term("*".join(pair), "*".join(pair), basis))
    return found


def _terms(covariate: Covariate, cells: Cells) -> list[Term]:
    """Levels are exchangeable or ordered, or, where they are grouped, groups are and so are levels within each group."""
    known = np.array([not level.unknown for level in covariate.levels])
    if not known.all():
        levels = tuple(level for level in covariate.levels if not level.unknown)
        terms = _terms(replace(covariate, levels=levels), cells) if len(levels) > 1 else []
        n = np.array([cells.n[cells.having(covariate.name, level.name)].sum() for level in levels])
        return [Term(term.name, term.covariate, _spread(term.basis, known, n)) for term in terms]
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


def _spread(basis: Floats, known: Bools, n: Floats) -> Floats:
    """A basis of known levels over all of a covariate's: who is not known has the average effect of ``n``, those known."""
    whole = np.zeros((len(known), basis.shape[1]))
    whole[known] = basis
    whole[~known] = n @ basis / n.sum()
    return whole


def zero_sum_basis(size: int) -> Floats:
    """Orthonormal basis (size, size - 1) of the vectors that sum to zero."""
    if size == 1:
        return np.zeros((1, 0))
    basis = null_space(np.ones((1, size)))
    return np.asarray(basis * np.where(basis[0] < 0, -1, 1))
