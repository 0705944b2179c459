"""Publications simulated from the model: a whole table of patients, their states, and the margins a paper would print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from aemodel.inference.design import Design
from aemodel.inference.forward import Forward
from aemodel.inference.posterior import as_chain, prior_draw
from aemodel.inference.simulated import publish, simulate_states
from aemodel.publication.evidence import FEWEST, Null
from aemodel.publication.tables import Tables

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Simulated:
    """A simulated publication.

    ``tables`` has the simulated frequencies; ``table`` (cell,) the patients in each cell; ``counts`` (state, cell) their
    states, families end to end; ``p`` (state, cell) the true probabilities, new levels' cells included.
    """

    tables: Tables
    table: Ints
    counts: Ints
    p: Floats


def draw_prior(design: Design, rng: np.random.Generator) -> xr.Dataset:
    """One draw of all parameters from their priors, as a posterior of one chain and one draw."""
    return as_chain([prior_draw(design, rng)], design)


def simulate(
    tables: Tables, forward: Forward, parameters: xr.Dataset, table: Ints, seed: int, logit_shift: Floats | None = None
) -> Simulated:
    """Patients of ``table`` (cell,) with the risks of one draw of the parameters, published as ``tables`` are.

    ``logit_shift`` (state, cell) multiplies probabilities by its exponential before they are scaled to sum to 1 in each
    family: what the model lacks.
    """
    p = next(iter(forward.states(parameters, seed)))
    if logit_shift is not None:
        p = _shifted(forward.design, p, logit_shift)
    counts = simulate_states(forward.design, p, table, np.random.default_rng(seed))
    return Simulated(publish(tables, forward.design, counts), table, counts, p)


def without(tables: Tables, hidden: NDArray[np.bool_]) -> Tables:
    """The publication had it not printed some rows (row,); a total that only these implied is then printed itself."""
    rows = tables.frequencies
    used = ~rows["derived"].to_numpy() & ~hidden
    pair = pd.MultiIndex.from_frame(rows[["event", "grade"]])
    lost = set(pair[hidden & ~rows["derived"].to_numpy()]) - set(pair[used])
    used |= (rows["covariate"] == "total").to_numpy() & ~hidden & pair.isin(list(lost))
    return tables.with_frequencies(rows.assign(derived=~used))


def print_significant(tables: Tables, tests: Sequence[Null]) -> tuple[Tables, tuple[Null, ...]]:
    """A publication that prints an event's table by a covariate only if a test at either grade was significant.

    Returns it, and the tests of the tables left out that enough patients had the event for.
    """
    observed = tables.frequencies.set_index(["event", "grade", "covariate", "level"])[["observed", "n"]]
    significant, large = set(), set()
    for test in tests:
        counts = observed.loc[[(test.event, test.grade, test.covariate, level) for level in test.levels]].to_numpy()
        table = np.column_stack([counts[:, 0], counts[:, 1] - counts[:, 0]])
        if table[:, 0].sum() >= FEWEST:
            large.add(test)
        if table.sum(axis=0).all() and chi2_contingency(table, correction=False).pvalue < test.alpha:
            significant.add((test.event, test.covariate))
    left_out = {(test.event, test.covariate) for test in tests} - significant
    rows = tables.frequencies
    hidden = pd.MultiIndex.from_frame(rows[["event", "covariate"]]).isin(list(left_out))
    nulls = tuple(test for test in tests if (test.event, test.covariate) in left_out and test in large)
    return without(tables, hidden), nulls


def shift_of_interaction(design: Design, rng: np.random.Generator, size: float) -> Floats:
    """An interaction the model lacks: every pair of levels of two covariates, drawn at random, moves each event's odds."""
    cells = design.cells
    first, second = rng.choice(len(cells.covariates), size=2, replace=False)
    shape = len(cells.covariates[first].levels), len(cells.covariates[second].levels)
    states = design.edges[-1]
    shift = np.zeros((states, len(cells.n)))
    for i, family in enumerate(design.families):
        effect = rng.normal(0, size, size=shape)[cells.levels[:, first], cells.levels[:, second]]
        occurred = family.grades[:, 0] >= 3
        edges = design.edges
        shift[edges[i] : edges[i + 1]] = occurred[:, None] * effect[None, :]
    return shift


def _shifted(design: Design, p: Floats, shift: Floats) -> Floats:
    moved = p.copy()
    published = shift.shape[1]
    moved[:, :published] *= np.exp(shift)
    edges = design.edges
    for first, last in pairwise(edges):
        moved[first:last] /= moved[first:last].sum(axis=0)
    return moved
