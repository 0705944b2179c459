"""One half of the patients predicts the other: the published margins completed to patients, halved, one half fitted.

Margins overlap, so that leaving out rows leaves most of what they say in the others. Here nobody is in both halves. The
completion is a random one near the model's predictions with every published count exactly; whether the halves agree worse
than they should is told by replicates, whose patients the fitted model itself has drawn, completed, halved and fitted alike.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from aemodel.answers.calibration import contrast_slope
from aemodel.inference.design import Design, all_margins
from aemodel.inference.integer_tables import sample_tables
from aemodel.inference.simulated import publish, row_rates, simulate_states
from validation.laboratory import Laboratory

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FULL = {"draws": 500, "tune": 500}
SMALLEST_RATE = 1e-9


def one_thinning(laboratory: Laboratory, seed: int, *, draws: int = 300, tune: int = 300) -> dict[str, Any]:
    """Halve the real patients, and a replicate's; for each, how one half's fit, by counts only, predicts the other."""
    started = time.monotonic()
    rng = np.random.default_rng([seed, 3])
    table = sample_tables(laboratory.tables, 1, seed=seed)[0]
    posterior = _full_fit(laboratory)
    sample = int(rng.integers(posterior.sizes["draw"]))
    one = posterior.isel(chain=[seed % posterior.sizes["chain"]], draw=[sample])
    p = next(iter(replace(laboratory.forward, deviation=0.0).states(one, seed)))
    drawn = simulate_states(laboratory.design, p, table, rng)
    found = {}
    for kind, states in (("real", complete(laboratory, table, drawn)), ("replicate", drawn)):
        found[kind] = _halves(laboratory, table, states, seed, draws, tune)
    return {"seed": seed, **found, "seconds": time.monotonic() - started}


@lru_cache(maxsize=1)
def _full_fit(laboratory: Laboratory) -> xr.Dataset:
    return laboratory.sample(laboratory.density(laboratory.tables), seed=1, **FULL)[0]


def complete(laboratory: Laboratory, table: Ints, near: Ints) -> Ints:
    """States (state, cell) of the patients of ``table`` (cell,) with every published count, as few as can be from ``near``."""
    design, rows = laboratory.design, laboratory.tables.frequencies
    rows = rows[~rows["derived"]]
    states = near.copy()
    edges = design.edges
    for i, family in enumerate(design.families):
        here = slice(edges[i], edges[i + 1])
        mine = rows[rows["event"].isin([event.name for event in family.events])]
        shape = near[here].shape
        size = shape[0] * shape[1]
        counted = [
            sparse.csr_array(
                np.outer(family.having(r.event, r.grade), design.cells.having(r.covariate, r.level)).reshape(1, -1)
            )
            for r in mine.itertuples()
        ]
        equal = sparse.vstack([sparse.kron(np.ones((1, shape[0])), sparse.eye_array(shape[1])), *counted]).astype(float)
        wanted = np.concatenate([table, mine["observed"].to_numpy()]).astype(float)
        apart = sparse.hstack([sparse.eye_array(size), sparse.eye_array(size), -sparse.eye_array(size)])
        constraints = [
            LinearConstraint(sparse.hstack([equal, sparse.csr_array((equal.shape[0], 2 * size))]), wanted, wanted),
            LinearConstraint(apart, near[here].ravel().astype(float), near[here].ravel().astype(float)),
        ]
        cost = np.concatenate([np.zeros(size), np.ones(2 * size)])
        whole = np.concatenate([np.ones(size), np.zeros(2 * size)])
        solved = milp(cost, constraints=constraints, integrality=whole, bounds=Bounds(0, np.inf))
        if not solved.success:
            raise ValueError(f"no whole patients have the published counts of {family.root}: {solved.message}")
        states[here] = np.rint(solved.x[:size]).astype(np.int64).reshape(shape)
    return states


def _halves(laboratory: Laboratory, table: Ints, states: Ints, seed: int, draws: int, tune: int) -> dict[str, Any]:
    """Split the patients at random; by grade, the slope of one half's contrasts on those the other's fit predicts."""
    rng = np.random.default_rng([seed, 4])
    half = rng.multivariate_hypergeometric(table, int(table.sum()) // 2)
    edges = laboratory.design.edges
    mine = np.zeros_like(states)
    for i in range(len(laboratory.design.families)):
        for cell in np.flatnonzero(half):
            here = slice(edges[i], edges[i + 1])
            mine[here, cell] = rng.multivariate_hypergeometric(states[here, cell], half[cell])
    fitted, other = ((half, mine), (table - half, states - mine))
    tables = publish(laboratory.tables, laboratory.design, fitted[1])
    design = replace(laboratory.design, cells=replace(laboratory.design.cells, n=fitted[0].astype(float)))
    density = laboratory.density_of(all_margins(design, tables.frequencies), design)
    posterior, diagnostics = laboratory.sample(density, seed=seed, draws=draws, tune=tune)
    rows = laboratory.tables.frequencies
    rates_of = row_rates(laboratory.design, rows, other[0])
    rates = np.array([rates_of(p) for p in laboratory.forward.states(posterior, seed)])
    counts = publish(laboratory.tables, laboratory.design, other[1]).frequencies["observed"].to_numpy(dtype=float)
    n = np.array([_inside(laboratory.design, row) @ other[0] for row in rows.itertuples()], dtype=float)
    used = (~rows["derived"] & (rows["covariate"] != "total")).to_numpy() & (n > 0)
    found: dict[str, Any] = {"r_hat": diagnostics.r_hat}
    for grade in ("3-5", "4-5"):
        chosen = used & (rows["grade"] == grade).to_numpy()
        some = rows[chosen].assign(n=n[chosen])
        mean = np.clip(rates[:, chosen].mean(axis=0), SMALLEST_RATE, 1 - SMALLEST_RATE)
        found[f"slope {grade}"] = float(contrast_slope(some, counts[chosen][None], mean)[0])
        deviance = counts[chosen] * np.log(mean) + (n[chosen] - counts[chosen]) * np.log1p(-mean)
        found[f"log density {grade}"] = float(deviance.sum())
    return found


def _inside(design: Design, row: Any) -> NDArray[np.bool_]:
    return design.cells.having(row.covariate, row.level)


def thinning_table(rounds: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean over halvings of the real patients, against the central 90 % of replicates: each slope and log density.

    Of a log density only its place among the replicates tells something.
    """
    rows = []
    for name in [key for key in rounds[0]["real"] if key != "r_hat"]:
        real, made = (np.array([one[kind][name] for one in rounds]) for kind in ("real", "replicate"))
        lower, upper = np.quantile(made, (0.05, 0.95))
        rows.append((name, len(rounds), real.mean(), real.std(ddof=1), made.mean(), lower, upper))
    return pd.DataFrame(rows, columns=["quantity", "rounds", "real", "real_sd", "replicates", "lower", "upper"])
