"""The joint likelihood of overlapping margins: as a PyTensor Op for the model, and for NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import ArrayLike
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from aemodel.inference import kernels, saddlepoint
from aemodel.inference.intervals import pack
from aemodel.inference.saddlepoint import joint_loglik
from aemodel.publication.errors import InputError
from aemodel.publication.reduction import reduce_margins

_KERNELS = kernels.source_key(str(kernels.__file__), str(saddlepoint.__file__))


class JointMargins(Op):  # type: ignore[misc]
    """Log likelihood of every family's margins and its gradient, from log probabilities of cells' states.

    Inputs are ``logp`` (pairs,) and the arrays of `aemodel.inference.saddlepoint.Packed`, which may be shared
    variables of any length: margins can be swapped without compiling again. Outputs are the families' values (family,)
    and the gradient of their sum (pairs,).
    """

    __props__ = ()

    def make_node(self, logp: Any, *packed: Any) -> Apply:
        inputs = [pt.as_tensor_variable(x) for x in (logp, *packed)]
        return Apply(self, inputs, [pt.dvector(), pt.dvector()])

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: list[list[Any]]) -> None:
        output_storage[0][0], output_storage[1][0] = joint_loglik(*inputs)

    def infer_shape(self, fgraph: Any, node: Apply, input_shapes: Sequence[Any]) -> list[Any]:
        return [(input_shapes[1][0],), input_shapes[0]]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True, False]] + [[False, False]] * (len(node.inputs) - 1)

    def L_op(self, inputs: Sequence[Any], outputs: Sequence[Any], output_gradients: Sequence[Any]) -> list[Any]:  # noqa: N802
        # Families' values are only ever summed (`joint_margins`), so each gradient entry has one and the same factor.
        factor = output_gradients[0][0]
        return [factor * outputs[1]] + [DisconnectedType()() for _ in inputs[1:]]


@register_funcify_default_op_cache_key(JointMargins)  # type: ignore[untyped-decorator]
def _numba_joint_margins(op: JointMargins, node: Apply, **_: Any) -> Any:
    @numba_njit
    def joint_margins_numba(  # type: ignore[no-untyped-def]
        logp, families, statements, groups, nodes, n, counts, width, support, start, index, project, target, offset, blend
    ):
        return joint_loglik(
            logp, families, statements, groups, nodes, n, counts, width, support, start, index, project, target, offset, blend
        )

    return joint_margins_numba, _KERNELS


def joint_margins(logp: Any, packed: Sequence[Any]) -> Any:
    """Scalar log likelihood of all margins, differentiable in ``logp``."""
    return JointMargins()(logp, *packed)[0].sum()


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
