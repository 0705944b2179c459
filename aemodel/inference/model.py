"""The hierarchical logistic model of all events at once, in PyMC: to be read, and for other samplers than that of `fit`.

`aemodel.fit` samples the same density written out (`aemodel.inference.density`), which is equal to this one at any point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from aemodel.inference import priors
from aemodel.inference.density import Term
from aemodel.inference.design import Design, Tree
from aemodel.inference.effects import UNKNOWN, Centring, effect_scales, moved_logits, state_probabilities
from aemodel.inference.evidence import Significance
from aemodel.inference.levels import ascend, descend
from aemodel.inference.own_patients import Overlap
from aemodel.inference.posterior import DIMS, Density, coordinates, prepared
from aemodel.inference.record import STANDARD
from aemodel.publication.tables import Tables

SAMPLED = "_sampled"
"""Ends the names of variables that only the sampler needs."""


def pymc_model(
    tables: Tables,
    *,
    ordering: Significance | None = STANDARD.ordering,
    selection: bool = STANDARD.selection,
    prior_scale: float = STANDARD.prior_scale,
    patients: Any = None,
    overlap: Overlap | None = None,
    power: float = STANDARD.power,
) -> pm.Model:
    """The model that `fit` samples, as a PyMC one: to be read, checked, or sampled with `pymc.sample`, which is slower.

    Parameters
    ----------
    tables, ordering, selection, prior_scale, patients, overlap, power
        As for `fit`.

    Returns
    -------
    pymc.Model
        With dims ``pool``, ``branch``, ``term``, ``contrast``, ``sharing_pool``; published counts, orderings, tests and
        patients are potentials of those names. Variables whose names end in ``_sampled`` are coordinates of the sampler.

    Raises
    ------
    TypeError, ValueError
        As for `fit`.
    """
    options = {"ordering": ordering, "selection": selection, "prior_scale": prior_scale, "power": power}
    return build_model(prepared(tables, patients, overlap, seed=0, **options).density)


def build_model(density: Density) -> pm.Model:
    """The same in PyMC: priors, branch logits over all cells, and a potential for each kind of what is known."""
    design = density.design
    with pm.Model(coords=coordinates(design)) as model:
        logits = prior_logits(design, density.centring, density.prior_scale)
        p = state_probabilities(*design.paths, logits, pt)
        for kind in dict.fromkeys(known.kind for known in density.known):
            pm.Potential(kind, sum(k.power * term_op(k.term)(p)[0] for k in density.known if k.kind == kind))
    return model


def prior_logits(design: Design, centring: Centring, prior_scale: Any = 1.0) -> Any:
    """The hierarchical prior, inside a `pm.Model`: logits of branches in every cell, (branch, cell)."""
    to_pool = np.eye(len(design.pools))[design.pool_of]
    centre, width = np.array([priors.INTERCEPT[kind] for kind in design.kinds]).T.copy()
    mean = pm.Normal("intercept_mean", centre, width, dims=DIMS["intercept_mean"])
    spread = pm.LogNormal("intercept_spread", np.log(priors.SPREAD[0]), priors.SPREAD[1], dims=DIMS["intercept_spread"])
    means, spreads = pt.dot(to_pool, mean), pt.dot(to_pool, spread)
    log_odds = pm.Normal("cohort_log_odds", means, spreads, dims=DIMS["cohort_log_odds"])
    return branch_logits(design, log_odds, *_effects(design, centring, prior_scale))


def branch_logits(design: Design, log_odds: Any, own: Any, shared: Any) -> Any:
    """Logits of branches in every cell, (branch, cell), from the cohort's log odds and effects, in PyTensor."""
    return logits_op(design.tree)(log_odds, moved_logits(design, log_odds, own, shared, design.centred, pt))


def _effects(design: Design, centring: Centring, prior_scale: Any) -> tuple[Any, Any]:
    """Effects in contrasts: branches' own (branch, contrast), and what all share (sharing pool, contrast).

    The scale of a pool's effects and the share that is common are separate parameters: margins speak of the former much
    more than of the latter.
    """
    half = half_normal(pm.Normal("scale_score", dims=DIMS["scale_score"]))
    scale = pm.Deterministic("scale", prior_scale * design.widths * half, dims=DIMS["scale"])
    alike = pm.Beta("alike", *priors.ALIKE, dims=DIMS["alike"])
    own_scale, shared_scale = effect_scales(design, scale, alike, pt)
    # A shared effect is seen through own ones, the less the more these vary.
    seen = UNKNOWN**-2 + pt.dot((centring.load**2).T, 1 / (centring.own**2 + own_scale**2))
    stretch = pt.sqrt(1 + shared_scale**2 / (centring.shared**2 + 1 / seen))
    shared = shared_scale * pm.Normal(f"shared{SAMPLED}", sigma=stretch, dims=DIMS["shared"]) / stretch
    shared = pm.Deterministic("shared", shared, dims=DIMS["shared"])
    # An own effect is sampled together with what the data see it with, the more so the more they say of it.
    together = pt.dot(centring.load, shared)
    stretch = pt.sqrt(1 + (own_scale / centring.own) ** 2)
    weight = own_scale / (centring.own * pt.sqrt(centring.own**2 + own_scale**2))
    sampled = pm.Normal(f"own{SAMPLED}", weight * together, stretch, dims=DIMS["own"])
    own = (sampled - weight * together) * own_scale / stretch
    return pm.Deterministic("own", own, dims=DIMS["own"]), shared


def half_normal(score: Any) -> Any:
    """Half-normal variables, by their quantile function of normal scores.

    In the log of a scale the posterior is too steep for the sampler where the scale is large, and too flat where it is small.
    """
    return np.sqrt(2) * pt.erfcinv(0.5 * pt.erfc(score / np.sqrt(2)))


class CompiledOp(Op):  # type: ignore[misc]
    """A compiled function as a node of the graph: its outputs are of ``kinds``, each of the shape of an input, or a scalar.

    ``slopes`` makes the inputs' slopes of inputs, outputs and the outputs' slopes.
    """

    def __init__(self, work: Callable[..., Any], kinds: Sequence[Any], like: Sequence[int | None], slopes: Any = None) -> None:
        self.work, self.kinds, self.like, self.slopes = work, kinds, like, slopes

    def make_node(self, *inputs: Any) -> Apply:
        return Apply(self, [pt.as_tensor_variable(each) for each in inputs], [kind() for kind in self.kinds])

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: list[list[Any]]) -> None:
        for place, value in zip(output_storage, self.work(*map(np.ascontiguousarray, inputs)), strict=True):
            place[0] = np.asarray(value, dtype=float)

    def infer_shape(self, fgraph: Any, node: Apply, input_shapes: Sequence[Any]) -> list[Any]:
        return [() if i is None else input_shapes[i] for i in self.like]

    def L_op(self, inputs: Sequence[Any], outputs: Sequence[Any], output_gradients: Sequence[Any]) -> list[Any]:  # noqa: N802
        return self.slopes(inputs, outputs, output_gradients)


def term_op(term: Term) -> CompiledOp:
    """A term of the log density, of state probabilities (state, cell): its value, and its slopes."""
    # Nobody asks for slopes of the slopes.
    return CompiledOp(term, (pt.dscalar, pt.dmatrix), (None, 0), lambda _, outputs, slopes: [slopes[0] * outputs[1]])


def logits_op(tree: Tree) -> CompiledOp:
    """Logits (branch, cell) at their levels, from the cohort's log odds (branch,) and what effects add."""

    def logits(log_odds: Any, moved: Any) -> list[Any]:
        return [descend(log_odds, moved, tree)[0][:, None] + moved]

    def slopes(log_odds: Any, moved: Any, d_logits: Any) -> Any:
        _, chance, reach, p = descend(log_odds, moved, tree)
        return ascend(np.zeros_like(p), d_logits, log_odds, chance, reach, tree)

    back = CompiledOp(slopes, (pt.dvector, pt.dmatrix), (0, 1))
    return CompiledOp(logits, (pt.dmatrix,), (1,), lambda inputs, _, d_outputs: back(*inputs, *d_outputs))
