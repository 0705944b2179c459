"""The joint likelihood of overlapping margins: as a term of the log density, and of one table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from aemodel.inference.design import Design, family_averages
from aemodel.inference.intervals import Statement, laid, pack, statements_of
from aemodel.inference.kernels import compiled
from aemodel.inference.saddlepoint import Packed, joint_loglik
from aemodel.publication.arrays import Floats, Ints
from aemodel.publication.errors import InputError
from aemodel.publication.margins import FamilyMargins
from aemodel.publication.reduction import reduce_margins


@compiled
def _margins(p, composition, cells, states, packed):  # type: ignore[no-untyped-def]
    """Log likelihood of all margins, and its slopes in ``p`` (state, cell); see `MarginsTerm`."""
    averaged, found = average(p, composition, cells, states), np.zeros(p.shape)
    logp = np.empty(averaged.size)
    for k in range(averaged.size):
        logp[k] = np.log(averaged[k])
    values, slopes = joint_loglik(logp, *packed)
    for k in range(averaged.size):
        slopes[k] /= averaged[k]
    spread(found, composition, cells, states, slopes)
    return values.sum(), found


@compiled
def average(p, composition, cells, states):  # type: ignore[no-untyped-def]
    """Probabilities in families' own cells (pair,), families end to end, from ``p`` (state, cell).

    ``composition`` (family cell, cell), of which rows sum to 1, is sparse (CSR): start, cell and share.
    """
    start, cell, share = composition
    pairs = end = 0
    for i in range(len(cells) - 1):
        pairs += (cells[i + 1] - cells[i]) * (states[i + 1] - states[i])
    averaged = np.empty(pairs)
    for i in range(len(cells) - 1):
        number = states[i + 1] - states[i]
        for k in range(number):
            here = p[states[i] + k]
            for row in range(cells[i], cells[i + 1]):
                total = 0.0
                for a in range(start[row], start[row + 1]):
                    total += share[a] * here[cell[a]]
                averaged[end + (row - cells[i]) * number + k] = total
        end += number * (cells[i + 1] - cells[i])
    return averaged


@compiled
def spread(d_p, composition, cells, states, d_averaged):  # type: ignore[no-untyped-def]
    """`average` backwards, in place."""
    start, cell, share = composition
    end = 0
    for i in range(len(cells) - 1):
        number = states[i + 1] - states[i]
        for k in range(number):
            here = d_p[states[i] + k]
            for row in range(cells[i], cells[i + 1]):
                by = d_averaged[end + (row - cells[i]) * number + k]
                for a in range(start[row], start[row + 1]):
                    here[cell[a]] += share[a] * by
        end += number * (cells[i + 1] - cells[i])


@dataclass(frozen=True, eq=False)
class MarginsTerm:
    """Log likelihood of published counts, a `Term`.

    A family's own cells are rows ``cells[i]`` to ``cells[i + 1]`` of ``composition`` (see `average`), its states likewise.
    """

    composition: tuple[Ints, Ints, Floats]
    cells: Ints
    states: Ints
    packed: Packed
    statements: list[Statement]

    def __call__(self, p: Floats) -> tuple[float, Floats]:
        return _margins(p, self.composition, self.cells, self.states, tuple(self.packed))

    def logp(self, p: Floats) -> Floats:
        """What the kernel takes: log probabilities of states in families' own cells, from ``p`` (state, cell)."""
        return np.log(average(p, self.composition, self.cells, self.states))


def margins_term(design: Design, margins: tuple[FamilyMargins, ...]) -> MarginsTerm:
    """Of published counts; ``design`` is of the cohort that they are of."""
    averages = family_averages(design, margins)
    cells = np.cumsum([0] + [len(average) for average in averages])
    statements = statements_of([family.margins for family in margins])
    rows = csr_array(np.concatenate(averages))
    composition = rows.indptr.astype(np.int64), rows.indices.astype(np.int64), rows.data
    return MarginsTerm(composition, cells, design.edges.astype(np.int64), laid(statements), statements)


def margin_loglik(p: ArrayLike, n: ArrayLike, incidence: ArrayLike, counts: ArrayLike, high: ArrayLike | None = None) -> float:
    """Log probability of overlapping margins of one table, by saddlepoint approximation (DOI 10.1214/aoms/1177728652).

    Parameters
    ----------
    p
        State probabilities, (cell, state); rows sum to 1.
    n
        Patients in each cell, (cell,).
    incidence
        0/1, (cell, state, margin): which cells and states a margin counts.
    counts
        The margins, (margin,). Redundant ones are dropped.
    high
        Upper ends of margins that are known to lie in intervals, of which ``counts`` are then the lower ends, (margin,): the
        probability is that of all intervals together.

    Returns
    -------
    float
        Natural logarithm of the probability; minus infinity if ``p`` makes the margins impossible.

    Raises
    ------
    ValueError
        Shapes or values do not fit, or no table has these margins.

    Examples
    --------
    >>> import numpy as np
    >>> one_margin = np.array([[[0], [1]]])
    >>> round(margin_loglik([[0.5, 0.5]], [10], one_margin, [5]), 2)  # the binomial: log 0.246
    -1.38
    """
    p, n, incidence, counts = (np.asarray(x, dtype=float) for x in (p, n, incidence, counts))
    high = counts if high is None else np.asarray(high, dtype=float)
    _check(p, n, incidence, counts, high)
    labels = [f"margin {j}" for j in range(len(counts))]
    margins = reduce_margins(n, incidence, counts, labels, high=high)
    if (p[margins.support].reshape(-1) == 0).any():
        # Impossible pairs leave the support; what then cannot be matched is impossible.
        empty = (p == 0)[:, :, None].astype(float)
        incidence, ends = np.concatenate([empty, incidence], axis=2), (np.append(0.0, counts), np.append(0.0, high))
        try:
            margins = reduce_margins(n, incidence, ends[0], ["impossible", *labels], high=ends[1])
        except ValueError:
            return -np.inf
    logp = np.log(np.where(margins.support, p, 1.0)).ravel()
    return float(joint_loglik(logp, *pack([margins]))[0].sum())


def _check(p: np.ndarray, n: np.ndarray, incidence: np.ndarray, counts: np.ndarray, high: np.ndarray) -> None:
    if p.ndim != 2 or n.shape != p.shape[:1] or counts.ndim != 1 or incidence.shape != (*p.shape, len(counts)):
        raise ValueError(
            "shapes must be p (cell, state), n (cell,), incidence (cell, state, margin), counts (margin,); "
            f"found {p.shape}, {n.shape}, {incidence.shape}, {counts.shape}"
        )
    if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(axis=1), 1, atol=1e-8)):
        raise InputError("p", "rows must be probabilities that sum to 1")
    for name, values in (("n", n), ("counts", counts)):
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise InputError(name, f"values must be finite and not negative; found {values.tolist()}")
    if high.shape != counts.shape or not (np.isfinite(high).all() and (high >= counts).all()):
        raise InputError("high", f"expected an upper end for each count, not below it; found {high.tolist()}")
    if not np.isin(incidence, (0, 1)).all():
        raise InputError("incidence", "values must be 0 or 1")
