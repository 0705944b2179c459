"""What the kernel solves for: one saddlepoint for counts that are known, several for counts known to lie in intervals.

The probability of all intervals of a family is a sum over the integers they can hold together, of which each has a
saddlepoint and a support of its own. It is cheap to blend that sum from a few of them, the nodes: log probabilities
less those at reference parameters (`tilted_states`) hardly bend over the points, so a polynomial through the nodes tells
the others. Cells that no margin joins are independent, and have sums of their own.

An interval that is narrow for its count (`NARROW`) needs no sum: it enters the saddlepoint itself, as a count to which an
unknown number was added. Where there are more points than `MOST_POINTS`, intervals are taken in blocks, each given those
before it: log P(block, before) - log P(before), where those before enter the saddlepoint in this way. What that leaves out
largely cancels in the difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement, product
from typing import NamedTuple

import numpy as np
from scipy.linalg import qr
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from aemodel.inference.saddlepoint import Floats, Packed, node_loglik, solve
from aemodel.inference.stirling import stirling_errors
from aemodel.publication.reduction import Margins, dependence, reduce_margins

MOST_POINTS = 1500
FEW_POINTS = 60
"""Up to so many points, narrow intervals are summed over too."""
NARROW = 2.0
"""Values of an interval, in conditional standard deviations of its count, up to which the saddlepoint takes it in."""
EMPTY = 1e-6
"""Of a state's probability at reference parameters, below which no count of its own is left in it."""
DEGREE = {1: 5, 2: 4, 3: 3, 4: 3}
"""Of the polynomial through nodes, by the number of counts it is of; 2 of more."""
SMALL = 1.5
"""Standard deviation of a count below which none is narrow."""
LONG = 300
"""Values of an interval beyond which some are left out."""
DENSE = 60
"""Values at each end of a long interval that are all points; in the middle, where a sum is smooth, some are left out."""


class _Group(NamedTuple):
    """Log of a sum over points, blended from nodes, with its sign."""

    nodes: list[Packed]
    offset: Floats
    blend: Floats
    sign: int


def pack(families: Sequence[Margins]) -> Packed:
    """Lay what is published of families end to end, and tabulate starts for Newton's method.

    Raises
    ------
    ValueError
        Counts lie on the boundary of what the cells allow.
    """
    statements: list[tuple[int, int, list[_Group]]] = []
    for family, margins in enumerate(families):
        statements.append((family, 1, list(_groups(margins))))
        statements.extend((family, -1, list(_groups(listed))) for listed in margins.listed)
    groups = [group for *_, mine in statements for group in mine]
    nodes = [node for group in groups for node in group.nodes]
    ends = np.cumsum([0] + [len(mine) for *_, mine in statements])
    node_ends = np.cumsum([0] + [len(group.nodes) for group in groups])
    point_ends = np.cumsum([0] + [len(group.offset) for group in groups])
    starts = [np.zeros(1, dtype=np.int64)]
    for node in nodes:
        starts.append(node.start[1:] + starts[-1][-1])
    laid = ("nodes", "n", "counts", "width", "support", "margin", "project", "target")
    return Packed(
        families=np.array([margins.support.size for margins in families], dtype=np.int64),
        statements=np.array([(f, ends[i], ends[i + 1], kind) for i, (f, kind, _) in enumerate(statements)], dtype=np.int64),
        groups=np.array(
            [(*node_ends[i : i + 2], *point_ends[i : i + 2], group.sign) for i, group in enumerate(groups)], dtype=np.int64
        ).reshape(len(groups), 5),
        start=np.concatenate(starts),
        offset=np.concatenate([group.offset for group in groups]),
        blend=np.concatenate([group.blend.ravel() for group in groups]),
        **{name: np.concatenate([getattr(node, name) for node in nodes]) for name in laid},
    )


def tilted_states(margins: Margins) -> Floats:
    """State probabilities (cell, state) nearest to equal ones that match the margins."""
    node = _node(margins)
    return np.where(margins.support, np.exp(node.target).reshape(margins.support.shape), 0.0)


def _groups(margins: Margins) -> Iterator[_Group]:
    if not margins.uncertain.any():
        yield _Group([_node(margins)], np.zeros(1), np.ones((1, 1)), 1)
        return
    for part in _components(margins):
        yield from _block_groups(part)


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


def _block_groups(margins: Margins) -> Iterator[_Group]:
    known = [j for j in range(len(margins.counts)) if not margins.uncertain[j]]
    whole = _node(margins)
    reference = np.where(margins.support.ravel(), whole.target, 0.0)
    within, blocks = _blocks(margins, _conditional_deviation(margins, reference))
    before = known + within
    for k, block in enumerate(blocks):
        yield _block_sum(margins, known, before, block, reference)
        if k and (alone := _given(margins, before, [], np.zeros(0))):
            yield _Group([_node(alone)], np.zeros(1), np.ones((1, 1)), -1)
        before = before + block
    if not blocks:
        yield _Group([whole], np.zeros(1), np.ones((1, 1)), 1)


def _blocks(margins: Margins, deviation: Floats) -> tuple[list[int], list[list[int]]]:
    """Intervals that enter the saddlepoint, and those to be summed over, in blocks: the widest for their count first."""
    values = margins.counts - margins.low + 1
    wide = values / np.maximum(deviation, 1e-9)
    within: list[int] = []
    blocks: list[list[int]] = []
    points = MOST_POINTS + 1.0
    known = np.flatnonzero(~margins.uncertain).tolist()
    for j in sorted(np.flatnonzero(margins.uncertain).tolist(), key=lambda j: -wide[j]):
        here = min(values[j], LONG)
        if blocks and dependence(margins, known + blocks[-1], j) is not None:
            here = 1  # the block tells it
        narrow = wide[j] <= NARROW and deviation[j] >= SMALL
        if narrow and (points if blocks else 1.0) * here > FEW_POINTS:
            within.append(j)
        elif points * here > MOST_POINTS:
            blocks.append([j])
            points = here
        else:
            blocks[-1].append(j)
            points *= here
    return within, blocks


def _points(margins: Margins, known: list[int], block: list[int]) -> list[Floats]:
    """Whole numbers in a block's intervals; of margins that depend on others, what these leave."""
    free: list[int] = []
    rules = []
    for place, j in enumerate(block):
        others = known + [block[i] for i in free]
        rule = dependence(margins, others, j)
        if rule is None:
            free.append(place)
        else:
            rules.append((place, len(free), rule))
    found = []
    for chosen in product(*[_values(margins.low[block[i]], margins.counts[block[i]]) for i in free]):
        y = np.zeros(len(block))
        y[free] = chosen
        for place, used, (constant, factors) in rules:
            y[place] = constant + factors @ np.concatenate([margins.counts[known], chosen[:used]])
        if (y >= margins.low[block] - 1e-6).all() and (y <= margins.counts[block] + 1e-6).all():
            found.append(y)
    return found


def _values(low: float, high: float) -> Floats:
    if high - low < LONG:
        return np.arange(low, high + 1)
    middle = np.unique(np.round(np.linspace(low + DENSE, high - DENSE, LONG - 2 * DENSE)))
    return np.concatenate([np.arange(low, low + DENSE), middle, np.arange(high - DENSE + 1, high + 1)])


def _given(margins: Margins, before: Sequence[int], block: Sequence[int], y: Floats) -> Margins | None:
    """Margins of the first as they are, and of a block as these counts; None where nobody can have them.

    Labels are positions among all margins.
    """
    chosen = [*before, *block]
    low, high = margins.low[chosen], margins.counts[chosen]
    low[len(before) :] = high[len(before) :] = y
    # States that are empty whatever the intervals turn out to be are one margin more.
    incidence = np.concatenate([margins.incidence[:, :, chosen], ~margins.support[:, :, None]], axis=2)
    labels = [str(j) for j in [*chosen, -1]]
    try:
        return reduce_margins(margins.n, incidence, np.append(low, 0.0), labels, high=np.append(high, 0.0), tighten=False)
    except ValueError:
        return None


def _block_sum(margins: Margins, known: list[int], before: list[int], block: list[int], reference: Floats) -> _Group:
    """A block's sum over points, given what comes before, from the fewest nodes that tell a polynomial."""
    support: dict[tuple[bool, ...], Margins] = {}
    points, nodes, values = [], [], []
    most = len(_whole_block(margins, before, block))
    for y in _points(margins, known, block):
        # Points inside the same intervals' ends mostly have the same support: one linear program serves them.
        side = tuple(np.concatenate([y == margins.low[block], y == margins.counts[block]]))
        found = _solve_point(support.get(side), block, y, reference)
        if found is None:
            own = _given(margins, before, block, y)
            found = _solve_point(own, block, y, reference)
            # Where it makes one count follow from another, it is this point's alone.
            if own is not None and len(own.labels) == most:
                support.setdefault(side, own)
        if found is not None:
            points.append(y)
            nodes.append(found[0])
            values.append(found[1])
    order, blend = _polynomial(np.array(points))
    gaps = np.log(np.maximum(np.gradient(np.array(points)[:, 0]), 1.0)) if len(block) == 1 and len(points) > 1 else 0.0
    offset = gaps - stirling_errors(margins, known, block, points)
    apart = np.array(values) - blend @ np.array(values)[order]
    return _Group([_node(nodes[i]) for i in order], offset + apart, blend, 1)


def _whole_block(margins: Margins, before: list[int], block: list[int]) -> list[int]:
    """Margins of what comes before, and those of a block that do not follow from known counts and one another."""
    kept = [j for j in before if not margins.uncertain[j]]
    for j in block:
        kept += [j] if dependence(margins, kept, j) is None else []
    return kept + [j for j in before if margins.uncertain[j]]


def _solve_point(like: Margins | None, block: list[int], y: Floats, reference: Floats) -> tuple[Margins, float] | None:
    """Margins whose block has these counts, and their log probability; None where their support is another."""
    if like is None:
        return None
    values = dict(zip(map(str, block), y, strict=True))
    counts = np.array([values.get(label, count) for label, count in zip(like.labels, like.counts, strict=True)])
    low = np.array([values.get(label, count) for label, count in zip(like.labels, like.low, strict=True)])
    here = replace(like, counts=counts, low=low)
    node = _unsolved(here)
    try:
        tilted = solved(node, reference)[0].ravel()
    except ValueError:
        return None
    # On the boundary of the support Newton's method runs off until nothing is left to gain: states are then all but empty.
    emptied = (tilted < EMPTY * np.exp(reference)) & node.support & (np.repeat(node.n, here.support.shape[1]) > 0)
    return None if emptied.any() else (here, value_of(node, reference))


def _polynomial(y: Floats) -> tuple[list[int], Floats]:
    """Which points are nodes, and what values at nodes must be multiplied by to have those at all, (point, node).

    Where a polynomial takes no fewer nodes than there are points, all are.
    """
    scaled = (y - y.mean(axis=0)) / np.maximum(y.std(axis=0), 1e-9)
    free = qr(scaled, mode="r", pivoting=True)[1][: np.linalg.matrix_rank(scaled, tol=1e-6)]
    degree = DEGREE.get(len(free), 2)
    powers = [each for d in range(degree + 1) for each in combinations_with_replacement(free, d)]
    if len(powers) >= len(y):
        return list(range(len(y))), np.eye(len(y))
    surface = np.array([scaled[:, list(each)].prod(axis=1) for each in powers]).T
    order = qr(surface.T, mode="r", pivoting=True)[1][: np.linalg.matrix_rank(surface)]
    return order.tolist(), np.linalg.lstsq(surface[order].T, surface.T, rcond=None)[0].T


def _conditional_deviation(margins: Margins, reference: Floats) -> Floats:
    """Standard deviation of each margin's count given all others', at reference parameters."""
    _, precision, between, _ = solved(_unsolved(margins), reference)
    return np.sqrt(np.maximum(1 / np.diag(precision) - between[1], 0.0))


def _node(margins: Margins) -> Packed:
    """One saddlepoint, with logits that match the margins from a flat table, and the projection of a difference on A."""
    cells, states, size = margins.incidence.shape
    node = _unsolved(margins)
    tilted, precision, *_ = solved(node, np.zeros(cells * states))
    dense = margins.incidence * margins.support[:, :, None]
    centred = dense - np.einsum("cs,csm->cm", tilted, dense)[:, None]
    weight = margins.n[:, None] * tilted
    project = precision @ (centred * weight[:, :, None]).reshape(cells * states, size).T
    target = np.where(node.support, np.log(np.maximum(tilted.ravel(), 1e-300)), 0.0)
    return node._replace(project=project.ravel(), target=target)


def _unsolved(margins: Margins) -> Packed:
    """One saddlepoint without a start for Newton's method."""
    cells, states, size = margins.incidence.shape
    pair, index = np.nonzero((margins.incidence * margins.support[:, :, None]).reshape(cells * states, size))
    start = np.concatenate([[0], np.cumsum(np.bincount(pair, minlength=cells * states))]).astype(np.int64)
    none = np.zeros(0, dtype=np.int64)
    return Packed(
        families=none,
        statements=none,
        groups=none,
        nodes=np.array([(cells, states, size)], dtype=np.int64),
        n=margins.n,
        counts=margins.counts,
        width=np.rint(margins.counts - margins.low + 1).astype(np.int64),
        support=margins.support.ravel(),
        start=start,
        margin=index.astype(np.int64),
        project=np.zeros(size * cells * states),
        target=np.zeros(cells * states),
        offset=np.zeros(0),
        blend=np.zeros(0),
    )


def solved(node: Packed, logp: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Tilted probabilities, the inverse of K'', what intervals add to K's derivatives, and t, of one saddlepoint."""
    cells, states, size = node.nodes[0]
    tilted, factor, between = np.zeros((cells, states)), np.zeros((size, size)), np.zeros((3, size))
    data = (node.n, node.counts, node.width, node.support, node.start, node.margin)
    difference = np.where(node.support, node.target - logp, 0.0)
    for t in (node.project.reshape(size, cells * states) @ difference, np.zeros(size)):
        if solve(logp, cells, states, *data, t, tilted, factor, between):
            break
    else:
        raise ValueError("no saddlepoint: the counts lie on the boundary of what the cells allow")
    lower = np.tril(factor)  # `solve` leaves Cholesky's factor
    return tilted, np.linalg.inv(lower @ lower.T), between, t


def value_of(node: Packed, logp: Floats) -> float:
    """One node's log probability; minus infinity where there is no saddlepoint."""
    cells, states, size = node.nodes[0]
    data = (node.n, node.counts, node.width, node.support, node.start, node.margin)
    project = node.project.reshape(size, cells * states)
    return float(node_loglik(logp, cells, states, *data, project, node.target, np.zeros(logp.size)))
