"""From parameter draws to risks: the model's forward map in NumPy, one draw at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from aemodel.inference import priors
from aemodel.inference.design import Design, Tree, make_design
from aemodel.inference.effects import effect_scales, moved_logits, state_probabilities
from aemodel.inference.levels import descend
from aemodel.publication.arrays import Floats, Ints
from aemodel.publication.cells import NOBODY
from aemodel.publication.errors import InputError
from aemodel.publication.tables import Tables
from aemodel.scoring.risks import SUPPORT, RiskDraws, cells_with_new, risks_of

KEPT_DRAWS = 1000
"""Risk draws kept, thinned evenly from all."""

PARAMETERS = frozenset(("cohort_log_odds", "scale", "alike", "own", "shared"))
"""What risks are made of."""


@dataclass(frozen=True)
class Forward:
    """Everything that turns one draw of the parameters into state probabilities in every cell.

    ``levels`` and ``weight`` are those of `RiskDraws`: published cells, then those of new levels. ``deviation`` is the
    half-normal scale of cells' departures from additivity; 0 leaves the model additive.
    """

    design: Design
    levels: Ints
    weight: Floats
    deviation: float

    @cached_property
    def tree(self) -> Tree:
        """The families' decisions; of new levels the cohort has nobody."""
        share = self.design.share
        return self.design.tree._replace(share=np.pad(share, (0, len(self.levels) - len(share))))

    def states(self, draws: xr.Dataset, seed: int) -> Iterator[Floats]:
        """Probabilities (state, cell) for each sample of ``draws``, families end to end; the same seed, the same numbers."""
        return states_of(self.design, self.logits(draws, seed))

    @cached_property
    def contrasts(self) -> tuple[Floats, tuple[tuple[int, NDArray[np.bool_], float], ...]]:
        """Centred contrasts (cell, contrast), and of each term with new levels its first column, their cells, and their scale.

        A further level beside k that sum to zero has variance s^2 (1 + 1/k).
        """
        design, new = self.design, []
        matrix = np.zeros((len(self.levels), design.matrix.shape[1]))
        position = {c.name: i for i, c in enumerate(design.cells.covariates)}
        for t, term in enumerate(design.terms):
            levels = [self.levels[:, position[name]] for name in term.covariates]
            sizes = term.basis.shape[:-1]
            known = np.all([of < size for of, size in zip(levels, sizes, strict=True)], axis=0)
            columns = design.columns_of(t)
            matrix[np.ix_(known, columns)] = term.basis[*(of[known] for of in levels)]
            if not known.all():
                new.append((columns[0], ~known, np.sqrt(1 + 1 / math.prod(sizes))))
        return matrix - design.share @ design.matrix, tuple(new)

    def logits(self, draws: xr.Dataset, seed: int) -> Iterator[NDArray[np.float32]]:
        """Branch logits (branch, cell) for each sample of ``draws``: in single precision, in which models are saved."""
        residual = additive_residual(self.design)
        arrays = flat(draws)
        for i in range(arrays["cohort_log_odds"].shape[0]):
            rng = np.random.default_rng([seed, i])
            one = {name: values[i] for name, values in arrays.items()}
            yield self._logits(one, residual, rng).astype(np.float32)

    def _logits(self, draw: dict[str, Floats], residual: Floats, rng: np.random.Generator) -> Floats:
        log_odds, published = draw["cohort_log_odds"], len(residual)
        new = self._new_levels(draw, rng)
        moved = moved_logits(self.design, log_odds, draw["own"], draw["shared"], self.contrasts[0], np, new)
        logits = descend(log_odds, moved, self.tree)[0][:, None] + moved
        noise = rng.standard_normal(logits.shape)
        noise[:, :published] = noise[:, :published] @ residual.T
        return np.asarray(logits + abs(rng.normal(0, self.deviation)) * noise if self.deviation else logits)

    def _new_levels(self, draw: dict[str, Floats], rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Effects of new levels in all cells: own (branch, cell), shared (pool, cell)."""
        scales = effect_scales(self.design, draw["scale"], draw["alike"], np)
        own, shared = (np.zeros((len(scale), len(self.levels))) for scale in scales)
        for column, cells, factor in self.contrasts[1]:
            for effects, scale in zip((own, shared), scales, strict=True):
                wide = factor * scale[:, column]
                effects[:, cells] += (wide * rng.standard_normal(len(wide)))[:, None]
        return own, shared


def states_of(design: Design, logits: Iterable[NDArray[np.float32]]) -> Iterator[Floats]:
    """Probabilities (state, cell) of each sample of branch ``logits`` (sample, branch, cell)."""
    for each in logits:
        yield state_probabilities(*design.paths, each.astype(np.float64), np)


def make_forward(design: Design, deviation: float = priors.DEVIATION) -> Forward:
    covariates = design.cells.covariates
    levels, weight = cells_with_new(covariates, design.cells.n)
    return Forward(design, levels, weight, deviation)


def make_model_forward(model: Any) -> tuple[Forward, xr.Dataset, int]:
    """The forward map of a fitted or loaded model, the thinned draws and the seed from which its risk draws came.

    Raises
    ------
    ValueError
        The model was fitted by a version with other parameters: only its risks can be had.
    """
    risks_of(model)
    if missing := PARAMETERS - set(model.posterior.data_vars):
        raise _outdated(model, ", ".join(sorted(missing)))
    return make_forward(make_design(model.tables)), thinned(model.posterior), int(model.settings["seed"])


def model_states(model: Any) -> tuple[Design, Iterator[Floats]]:
    """The design, and state probabilities (state, cell) behind each of a model's risk draws, families end to end.

    Raises
    ------
    ValueError
        The model was saved before branch logits were kept with risks.
    """
    risks_of(model)
    if model.branch_logits is None:
        raise _outdated(model, "branch logits")
    design = make_design(model.tables)
    return design, states_of(design, model.branch_logits)


def _outdated(model: Any, missing: str) -> InputError:
    said = f"{model.name} was fitted by an earlier version (it has no {missing}): its risks can be scored"
    return InputError("model", f"{said}; for this, fit the publication again")


def thinned(posterior: xr.Dataset) -> xr.Dataset:
    """Evenly spaced draws of every chain, `KEPT_DRAWS` in all or what there is, as float32 (what saved models store)."""
    step = max(1, posterior.sizes["draw"] * posterior.sizes["chain"] // KEPT_DRAWS)
    kept = posterior.isel(draw=slice(step - 1, None, step))
    return kept.isel(draw=slice(0, max(1, KEPT_DRAWS // posterior.sizes["chain"]))).astype(np.float32)


def flat(draws: xr.Dataset) -> dict[str, Floats]:
    """Arrays (sample, ...), chains end to end."""
    samples = draws.sizes["chain"] * draws.sizes["draw"]
    return {n: draws[n].values.astype(np.float64).reshape(samples, *draws[n].shape[2:]) for n in sorted(PARAMETERS)}


def additive_residual(design: Design) -> Floats:
    """Takes from a deviation whatever the margins could see of it: cohort-weighted main effects and the mean.

    What is left is prior whatever the margins say, so it needs no place in the sampler. In a saturated design nothing is
    left; cells that hold nobody keep theirs.
    """
    share = design.share
    there = share > NOBODY / design.cells.n.sum()
    root = np.sqrt(share[there])
    seen = np.column_stack([np.ones(len(design.matrix)), design.matrix])[there] * root[:, None]
    left, size, _ = np.linalg.svd(seen, full_matrices=False)
    seen = left[:, size > 1e-9 * size[0]]
    residual = np.eye(len(share))
    within = np.eye(len(root)) - seen @ seen.T
    within = within if len(root) > seen.shape[1] else np.zeros_like(within)
    residual[np.ix_(there, there)] = within / root[:, None] * root
    return residual


def risk_draws(tables: Tables, forward: Forward, draws: xr.Dataset, seed: int) -> RiskDraws:
    """Risks of all events and grades in every cell; what covariates' effects rest on, and how far they move, is left open."""
    sums = event_sums(forward.design, [(event.name, grade) for event in tables.events for grade in tables.grades])
    logits = np.stack(list(forward.logits(draws, seed)))
    p = np.stack([(sums @ states).T for states in states_of(forward.design, logits)]).astype(np.float32)
    # In one order in memory, as they are read back: sums are then added up alike.
    risks = np.ascontiguousarray(np.clip(p, 0, 1)).reshape(len(p), len(forward.levels), len(tables.events), len(tables.grades))
    return RiskDraws(
        covariates=tables.covariates,
        events=tuple(event.name for event in tables.events),
        grades=tables.grades,
        draws=risks,
        levels=forward.levels,
        weight=forward.weight,
        movement=np.zeros((len(tables.covariates), *risks.shape[1:]), dtype=np.float32),
        source=np.full((len(tables.covariates), len(tables.events), len(tables.grades)), SUPPORT.index("prior")),
        published=np.array([[grade in tables.published_grades(event) for grade in tables.grades] for event in tables.events]),
        chains=draws.sizes["chain"],
        logits=logits,
        shorts=tables.shorts,
    )


def event_sums(design: Design, pairs: Iterable[tuple[str, str]]) -> Floats:
    """0/1 (pair, state): which states, families end to end, have an event at a grade."""
    return np.array([design.states_having(*pair) for pair in pairs], dtype=float)


def movement_of(forward: Forward, risks: NDArray[Any]) -> NDArray[np.float32]:
    """Root mean square over draws of logit risk less logit of the risk averaged over one covariate's levels."""
    covariates = forward.design.cells.covariates
    log_odds = logit(risks)
    movement = np.zeros((len(covariates), *risks.shape[1:]), dtype=np.float32)
    for k, covariate in enumerate(covariates):
        others = np.delete(forward.levels, k, axis=1)
        _, group = np.unique(others, axis=0, return_inverse=True)
        usual = forward.levels[:, k] < len(covariate.levels)
        share = np.bincount(forward.levels[usual, k], weights=forward.weight[usual])
        weight = np.where(usual, share[np.minimum(forward.levels[:, k], len(share) - 1)], 0.0)
        mix = (group[:, None] == group[None, :]) * weight[None, :]
        mix = (mix / mix.sum(axis=1, keepdims=True)).astype(np.float32)
        average = np.einsum("cd,sdeg->sceg", mix, risks, optimize=True)
        movement[k] = np.sqrt(np.mean((log_odds - logit(average)) ** 2, axis=0))
    return movement


def logit(p: Any) -> Any:
    """Log odds, of probabilities kept a little away from 0 and 1."""
    p = np.clip(np.asarray(p, dtype=np.float64), 1e-9, 1 - 1e-9)
    return np.log(p / (1 - p))
