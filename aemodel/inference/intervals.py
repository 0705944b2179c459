"""What the kernel solves for: one saddlepoint for counts that are known, several for counts known to lie in intervals.

The probability of all intervals of a family is a sum over the whole numbers they can hold together, of which each has a
saddlepoint and a support of its own. It is cheap to blend that sum from a few of them, the nodes: log probabilities
less those at reference parameters (`tilted_states`) hardly bend over the points, so a polynomial through the nodes tells
the others. Cells that no margin joins are independent, and have sums of their own.

Where there are more points than `MOST_POINTS`, intervals are cut into pieces of several numbers each, and the sum goes over
pieces. One that is narrow for its count (`NARROW`) is in the saddlepoint itself: the count, to which an unknown number was
added. Of a count that follows from others, only that it is in its interval is told, at each point or for a share of a piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.linalg import qr
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from aemodel.inference.pieces import make_pieces, stirling_errors
from aemodel.inference.saddlepoint import Packed, class_sums, node_loglik, solve
from aemodel.publication.arrays import Bools, Floats
from aemodel.publication.reduction import Margins, independent

LEAST = 1e-300
"""Instead of no probability at all, where its logarithm is taken."""
EMPTY = 1e-6
"""Of a state's probability at reference parameters, below which no count of its own is left in it."""
SCATTERED, SPREAD = 40, (1.0, 0.5)
"""Parameters at which points are compared, and how far their logits lie apart: in all cells together, and in each."""
TOLERANCE = 0.05
"""Of nodes, in nats over all of these: what a further one would tell."""
LINEAR = 1e3
FEW_NODES = 5
"""Points beyond one for each count, up to which all are nodes."""


class _Group(NamedTuple):
    """Log of a sum over points, blended from nodes."""

    nodes: list[Packed]
    offset: Floats
    blend: Floats


class Statement(NamedTuple):
    """What is published of a family: all of its groups; or, of what was listed, that one at least is so, given all else."""

    family: int
    listed: bool
    groups: list[_Group]

    def loglik(self, values: Sequence[Floats]) -> float:
        """From those of its groups' nodes, as `joint_loglik` blends them."""
        pairs = zip(self.groups, values, strict=True)
        parts = [float(np.logaddexp.reduce(group.offset + group.blend @ each)) for group, each in pairs]
        if not self.listed:
            return sum(parts)
        return float(-np.log(-np.expm1(sum(np.log1p(-np.exp(min(part, -1e-12))) for part in parts))))


def statements_of(families: Sequence[Margins]) -> list[Statement]:
    """What is published of each family, and of what was listed.

    Raises
    ------
    ValueError
        Counts lie on the boundary of what the cells allow.
    """
    pairs = [(i, each) for i, margins in enumerate(families) for each in (margins, *margins.listed)]
    return [Statement(i, each is not families[i], list(_groups(each))) for i, each in pairs]


def family_sizes(statements: Sequence[Statement]) -> list[int]:
    """How many pairs of cell and state each family has."""
    return [each.groups[0].nodes[0].member.size for each in statements if not each.listed]


def pack(families: Sequence[Margins]) -> Packed:
    """What is published of families, end to end."""
    return laid(statements_of(families))


def laid(statements: Sequence[Statement]) -> Packed:
    """Statements of families end to end."""
    groups = [group for each in statements for group in each.groups]
    nodes = [node for group in groups for node in group.nodes]
    ends = np.cumsum([0] + [len(each.groups) for each in statements])
    kinds = [(each.family, ends[i], ends[i + 1], -1 if each.listed else 1) for i, each in enumerate(statements)]
    node_ends = np.cumsum([0] + [len(group.nodes) for group in groups])
    point_ends = np.cumsum([0] + [len(group.offset) for group in groups])
    entries = np.cumsum([0] + [node.start[-1] for node in nodes])[:-1]
    starts = [np.zeros(1, dtype=np.int64), *(node.start[1:] + entry for node, entry in zip(nodes, entries, strict=True))]
    joined = ("nodes", "n", "classes", "counts", "width", "member", "margin", "project", "target")
    return Packed(
        families=np.array(family_sizes(statements), dtype=np.int64),
        statements=np.array(kinds, dtype=np.int64),
        groups=np.array([(*node_ends[i : i + 2], *point_ends[i : i + 2]) for i in range(len(groups))], dtype=np.int64).reshape(
            len(groups), 4
        ),
        start=np.concatenate(starts),
        offset=np.concatenate([group.offset for group in groups]),
        blend=np.concatenate([group.blend.ravel() for group in groups]),
        **{name: np.concatenate([getattr(node, name) for node in nodes]) for name in joined},
    )


def tilted_states(margins: Margins) -> Floats:
    """State probabilities (cell, state) nearest to equal ones that match the margins."""
    node = _node(margins)
    return _by_pair(node, np.zeros(margins.support.size), np.exp(node.target)).reshape(margins.support.shape)


def _groups(margins: Margins) -> Iterator[_Group]:
    for part in _components(margins) if margins.uncertain.any() else [margins]:
        whole = _node(part)
        yield _sum(part, whole) if part.uncertain.any() else _Group([whole], np.zeros(1), np.ones((1, 1)))


def _components(margins: Margins) -> Iterator[Margins]:
    """Margins of cells that some margin joins, with everybody else left out: independent of the others."""
    cells, _, size = margins.incidence.shape
    cell, margin = np.nonzero(margins.incidence.max(axis=1, initial=0.0))
    joined = coo_array((np.ones(len(cell)), (cell, margin + cells)), shape=(cells + size, cells + size))
    _, label = connected_components(joined, directed=False)
    of_cell, of_margin = label[:cells], label[cells:]
    for each in np.unique(of_margin):
        here, mine = of_cell == each, np.flatnonzero(of_margin == each).tolist()
        yield replace(margins.of(mine), n=np.where(here, margins.n, 0.0), support=margins.support & here[:, None])
    if (alone := ~np.isin(of_cell, of_margin)).any():
        yield replace(margins.of([]), n=np.where(alone, margins.n, 0.0), support=margins.support & alone[:, None])


def _sum(margins: Margins, whole: Packed) -> _Group:
    """A sum over what intervals can hold, from the fewest nodes that tell the other points."""
    probable = _by_pair(whole, np.zeros(margins.support.size), np.exp(whole.target))
    reference = np.where(margins.support.ravel(), np.log(np.maximum(probable, LEAST)), 0.0)
    pieces = make_pieces(margins, _conditional_deviation(margins, reference))
    faces: dict[bytes, Margins] = {}
    kept, points, values = [], [], []
    for i, ends in enumerate(pieces.points):
        low, high = margins.low.copy(), margins.counts.copy()
        low[pieces.free], high[pieces.free] = ends
        chosen = [*pieces.known, *pieces.free, *np.array(list(pieces.told), dtype=int)[pieces.joined[i]]]
        found = _solve(replace(margins, low=low, counts=high), chosen, faces, reference)
        if found is not None:
            kept.append(i)
            points.append(found)
            values.append(value_of(_unsolved(found), reference))
    if not kept:
        raise ValueError("no saddlepoint: no whole numbers are in all intervals together")
    middle = pieces.points[kept].mean(axis=1)
    order, blend = _nodes(middle, points, np.array(values), reference)
    y = np.column_stack([middle, pieces.counts(margins, middle)])
    offset = np.log(pieces.share[kept]) - stirling_errors(margins, pieces.known, [*pieces.free, *pieces.told], y)
    apart = np.array(values) - blend @ np.array(values)[order]
    return _Group([_node(points[i]) for i in order], offset + apart, blend)


def _solve(margins: Margins, chosen: list[int], faces: dict[bytes, Margins], reference: Floats) -> Margins | None:
    """Some margins on the support that their counts leave; None where nobody can have them.

    On the boundary of what there can be Newton's method runs off until nothing is left to gain: states are then all but empty,
    counts all but at an end of their piece.
    """
    support = margins.support
    for _ in range(margins.support.size + len(margins.counts)):
        exact = margins.low == margins.counts
        support = support & ~margins.incidence[:, :, exact & (margins.counts == 0)].any(axis=2)
        key = support.tobytes() + exact[chosen].tobytes() + bytes(len(chosen))
        if key not in faces:
            faces[key] = _on_face(margins, chosen, exact, support)
        face = faces[key]
        at = np.array([int(label) for label in face.labels], dtype=int)
        face = replace(face, low=margins.low[at], counts=margins.counts[at])
        try:
            node = _unsolved(face)
            classes, _, between, _ = solved(node, reference)
        except ValueError:
            return None
        tilted = _by_pair(node, reference, classes).reshape(support.shape)
        emptied = (tilted < EMPTY * np.exp(reference).reshape(tilted.shape)) & support & (margins.n[:, None] > 0)
        room, left = face.counts - face.low, between[0]
        lowest, highest = at[(room > 0) & (left > room * (1 - EMPTY))], at[(room > 0) & (left < room * EMPTY)]
        if not (emptied.any() or len(lowest) or len(highest)):
            count = np.einsum("c,cs,csm->m", margins.n, np.where(support, tilted, 0.0), margins.incidence[:, :, chosen])
            inside = (count > margins.low[chosen] - 1e-4) & (count < margins.counts[chosen] + 1e-4)
            return face if inside.all() else None
        support, low, high = support & ~emptied, margins.low.copy(), margins.counts.copy()
        high[lowest], low[highest] = low[lowest], high[highest]
        margins = replace(margins, low=low, counts=high)
    return None


def _on_face(margins: Margins, chosen: list[int], exact: Bools, support: Bools) -> Margins:
    """Margins on a support, without those that follow from known ones there; labels are positions among all."""
    known = [j for j in chosen if exact[j]]
    known = [known[k] for k in independent(margins.incidence[:, :, known], support)]
    others = [j for j in chosen if not exact[j]]
    others = [j for j in others if len(independent(margins.incidence[:, :, [*known, j]], support)) > len(known)]
    return replace(margins.of([*known, *others]), support=support, labels=tuple(map(str, [*known, *others])))


def _nodes(y: Floats, points: Sequence[Margins], values: Floats, reference: Floats) -> tuple[list[int], Floats]:
    """Which points are nodes, and what values at nodes must be multiplied by to have those at all, (point, node).

    What is linear in counts ``y`` (point, count) is told exactly: so far go log odds that add up. Beside it stand log
    probabilities at parameters scattered around the reference ones.
    """
    scaled = (y - y.mean(axis=0)) / np.maximum(y.std(axis=0), 1e-9)
    linear = np.column_stack([np.ones(len(y)), scaled]) * LINEAR
    if len(y) <= y.shape[1] + FEW_NODES:
        return list(range(len(y))), np.eye(len(y))
    rng = np.random.default_rng(0)
    nodes = [_unsolved(point) for point in points]
    columns = []
    for _ in range(SCATTERED):
        logp = _scattered(points[0], reference, rng)
        found = np.array([value_of(node, logp) for node in nodes]) - values
        columns += [found] if np.isfinite(found).all() else []
    surface = np.column_stack([linear, *columns])
    _, triangle, order = qr(surface.T, mode="economic", pivoting=True)
    number = int((np.abs(np.diag(triangle)) > TOLERANCE).sum())
    order = order[:number]
    return order.tolist(), np.linalg.lstsq(surface[order].T, surface.T, rcond=None)[0].T


def _scattered(margins: Margins, reference: Floats, rng: np.random.Generator) -> Floats:
    """Log probabilities of states around reference ones, whose log odds move together and by cells."""
    cells, states = margins.support.shape
    logp = reference.reshape(cells, states) + SPREAD[0] * rng.standard_normal(states)
    logp += SPREAD[1] * rng.standard_normal((cells, states))
    return (logp - np.log(np.exp(logp).sum(axis=1, keepdims=True))).ravel()


def _conditional_deviation(margins: Margins, reference: Floats) -> Floats:
    """Standard deviation of each margin's count given all others', at reference parameters."""
    _, precision, between, _ = solved(_unsolved(margins), reference)
    return np.sqrt(np.maximum(1 / np.diag(precision) - between[1], 0.0))


def _node(margins: Margins) -> Packed:
    """One saddlepoint, with logits that match the margins from a flat table, and the projection of a difference on A."""
    node = _unsolved(margins)
    tilted, precision, *_ = solved(node, np.zeros(margins.support.size))
    cell = np.repeat(np.arange(len(node.n)), node.classes)
    incidence = incidence_of(node)
    mean = np.zeros((len(node.n), len(margins.counts)))
    np.add.at(mean, cell, tilted[:, None] * incidence)
    project = precision @ ((incidence - mean[cell]) * (node.n[cell] * tilted)[:, None]).T
    return node._replace(project=project.ravel(), target=np.log(np.maximum(tilted, LEAST)))


def incidence_of(node: Packed) -> Floats:
    """0/1: which margins count a class of one saddlepoint, (class, margin)."""
    incidence = np.zeros((len(node.target), len(node.counts)))
    incidence[np.repeat(np.arange(len(incidence)), np.diff(node.start)), node.margin] = 1
    return incidence


def _unsolved(margins: Margins) -> Packed:
    """One saddlepoint without a start for Newton's method."""
    member, number, patterns = np.full(margins.support.shape, -1, dtype=np.int64), [], list[Floats]()
    for cell, (support, incidence) in enumerate(zip(margins.support, margins.incidence, strict=True)):
        before, seen = len(patterns), dict[bytes, int]()
        for state in np.flatnonzero(support).tolist():
            member[cell, state] = seen.setdefault(incidence[state].tobytes(), len(patterns))
            if member[cell, state] == len(patterns):
                patterns.append(incidence[state])
        number.append(len(patterns) - before)
    one, index = np.nonzero(np.array(patterns).reshape(len(patterns), len(margins.counts)))
    start = np.concatenate([[0], np.cumsum(np.bincount(one, minlength=len(patterns)))]).astype(np.int64)
    return Packed(
        nodes=np.array([(len(margins.n), len(patterns), len(margins.counts))], dtype=np.int64),
        n=margins.n,
        classes=np.array(number, dtype=np.int64),
        counts=margins.counts,
        width=np.rint(margins.counts - margins.low + 1).astype(np.int64),
        member=member.ravel(),
        start=start,
        margin=index.astype(np.int64),
        project=np.zeros(len(margins.counts) * len(patterns)),
        target=np.zeros(len(patterns)),
    )


def solved(node: Packed, logp: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Tilted probabilities of classes, the inverse of K'', what intervals add to K's derivatives, and t, of one saddlepoint."""
    _, classes, size = node.nodes[0]
    tilted, factor, between = np.zeros(classes), np.zeros((size, size)), np.zeros((3, size))
    logq = np.log(class_sums(np.exp(logp), node.member, classes))
    data = (node.n, node.classes, node.counts, node.width, node.start, node.margin)
    for t in (node.project.reshape(size, classes) @ (node.target - logq), np.zeros(size)):
        if solve(logq, *data, t, tilted, factor, between):
            break
    else:
        raise ValueError("no saddlepoint: the counts lie on the boundary of what the cells allow")
    lower = np.tril(factor)  # `solve` leaves Cholesky's factor
    return tilted, np.linalg.inv(lower @ lower.T), between, t


def value_of(node: Packed, logp: Floats) -> float:
    """One node's log probability; minus infinity where there is no saddlepoint."""
    _, classes, size = node.nodes[0]
    data = (node.member, node.n, node.classes, node.counts, node.width, node.start, node.margin)
    return float(node_loglik(np.exp(logp), *data, node.project.reshape(size, classes), node.target, np.zeros(logp.size)))


def _by_pair(node: Packed, logp: Floats, classes: Floats) -> Floats:
    """Probabilities of pairs of cell and state from those of classes, which share theirs by ``logp``: (pair,)."""
    p = np.exp(logp)
    share = classes / class_sums(p, node.member, len(classes))
    return np.asarray(p * np.append(share, 0.0)[node.member])
