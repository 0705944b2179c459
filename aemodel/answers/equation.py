"""A model as an equation: mean log odds of its branches as sums over levels, and the states that risks add up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from aemodel.inference.design import Design
from aemodel.inference.effects import state_probabilities
from aemodel.inference.forward import event_sums, model_states
from aemodel.publication.arrays import Floats


@dataclass(frozen=True)
class State:
    """What a patient has, by event the lowest grade, and the branches, by number from 1, that are taken and refused."""

    grades: dict[str, int]
    taken: tuple[int, ...]
    refused: tuple[int, ...]


@dataclass(frozen=True)
class Equation:
    """Log odds of each branch: its intercept, their average over the cohort, and an effect for each level of each covariate.

    They are those of the branches' probabilities given that they are come to, posterior means, in every cell.
    ``effects`` is (level, branch), levels of all covariates end to end; ``families`` has the
    states of each by its root's name. ``apart`` is how far risks by the equation are from
    the posterior means, at most, and in half of all cells, events and grades, as probabilities.
    """

    branches: tuple[str, ...]
    intercept: Floats
    effects: Floats
    families: dict[str, tuple[State, ...]]
    apart: tuple[float, float]


def model_equation(model: Any) -> Equation:
    """The sums over levels that are nearest to the log odds of a model's branches in all cells.

    The model's own equation is additive but for what rare events do to others they lie in, and for cells' small departures
    (`aemodel.inference.effects`): how little leaving these out changes is told with it.
    """
    (design, states), risks = model_states(model), model.risks
    cells, (taken, refused) = design.cells.levels, design.paths
    mean = np.mean(list(states), axis=0)[:, : len(cells)]
    logits = np.log(taken.T @ mean) - np.log(refused.T @ mean)
    sizes = [len(c.levels) for c in risks.covariates]
    inside = np.hstack([np.ones((len(cells), 1)), *(np.eye(size)[cells[:, k]] for k, size in enumerate(sizes))])
    found = np.linalg.lstsq(inside, logits.T, rcond=None)[0]
    intercept, effects = found[0], found[1:]
    first = 0
    for k, size in enumerate(sizes):
        average = np.bincount(cells[:, k], weights=design.share, minlength=size) @ effects[first : first + size]
        intercept, effects[first : first + size] = intercept + average, effects[first : first + size] - average
        first += size
    p = state_probabilities(*design.paths, intercept[:, None] + (inside[:, 1:] @ effects).T, np)
    having = event_sums(design, risks.pairs)
    off = abs(risks.draws[:, : len(cells)].mean(axis=0).reshape(len(cells), -1) - (having @ p).T)
    names = tuple(branch.name for branch in design.branches)
    return Equation(names, intercept, effects, dict(_states(design)), (float(off.max()), float(np.median(off))))


def _states(design: Design) -> Iterator[tuple[str, tuple[State, ...]]]:
    """The states of each family."""
    for family, first in zip(design.families, design.edges[:-1].tolist(), strict=True):
        states = []
        for k, grades in enumerate(family.grades.tolist()):
            branches = (tuple((np.flatnonzero(way[first + k]) + 1).tolist()) for way in design.paths)
            names = {event.name: grade for event, grade in zip(family.events, grades, strict=True) if grade}
            states.append(State(names, *branches))
        yield family.root, tuple(states)
