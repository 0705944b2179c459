"""Is the measure behind support flags true: what an event's own rows say of its effects, against refits without them.

By formula, V(rest) / V(all) is by how much an event's own published rows narrow an effect beside everything else
(`aemodel.inference.information`, averaged over draws of the fit to all rows); by refit it is the ratio of the posterior
variances of the effect without these rows and with them. By counts only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import spearmanr

from aemodel.answers.contrasts import level_effects
from aemodel.inference.forward import make_forward, risk_draws, thinned
from aemodel.inference.information import level_variances
from aemodel.publication.tables import Tables
from validation.laboratory import Laboratory
from validation.simulation import without

CHAINS = 4


def one_event(laboratory: Laboratory, number: int, *, draws: int = 1500, tune: int = 1000) -> dict[str, Any]:
    """Refit without all rows of the event in a place (from 1), and compare variances of its effects with the measure's.

    Returns
    -------
    dict
        ``event``, ``r_hat`` of the refit, ``seconds``, and ``rows``: for each covariate and grade, mean over levels of the log
        ratios of variances without and with the rows, by ``refit`` and by ``measure``.
    """
    started, tables = time.monotonic(), laboratory.tables
    event = tables.events[number - 1].name
    rest = without(tables, (tables.frequencies["event"] == event).to_numpy())
    density = laboratory.density(rest, like=laboratory.margins)
    posterior, found = laboratory.sample(density, seed=number, draws=draws, tune=tune, chains=CHAINS, cores=1)
    everything = _all_rows(laboratory, draws, tune)
    by_refit = np.log(_variances(laboratory, posterior) / _variances(laboratory, everything))
    by_measure = np.log(_measured(laboratory, rest, everything) / _measured(laboratory, tables, everything))
    rows, first = [], 0
    for covariate in tables.covariates:
        levels = slice(first, first := first + len(covariate.levels))
        for j, grade in enumerate(tables.grades):
            of = {n: float(v[levels, number - 1, j].mean()) for n, v in (("refit", by_refit), ("measure", by_measure))}
            rows.append({"covariate": covariate.name, "grade": grade, **of})
    return {"event": event, "r_hat": found.r_hat, "rows": rows, "seconds": time.monotonic() - started}


@lru_cache(maxsize=1)
def _all_rows(laboratory: Laboratory, draws: int, tune: int) -> xr.Dataset:
    """The fit to all rows: the same for every event, and made once in a process."""
    density = laboratory.density(laboratory.tables)
    return laboratory.sample(density, seed=0, draws=draws, tune=tune, chains=CHAINS, cores=1)[0]


def _variances(laboratory: Laboratory, posterior: xr.Dataset) -> NDArray[np.float64]:
    """Posterior variances of levels' log odds less the cohort's, (level, event, grade), covariates end to end."""
    risks = risk_draws(laboratory.tables, make_forward(laboratory.design, deviation=0.0), thinned(posterior), 0)
    return np.concatenate([effects.var(axis=0) for effects in level_effects(risks)])


def _measured(laboratory: Laboratory, tables: Tables, posterior: xr.Dataset) -> NDArray[np.float64]:
    """The same by formula, given all rows of ``tables``."""
    return np.einsum("lleg->leg", level_variances(tables, laboratory.design, posterior)[2].astype(float))


def flag_table(results: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Log ratios of variances by event and covariate, mean over grades; their rank correlation is in ``attrs``."""
    rows = pd.DataFrame([{"event": one["event"], **row} for one in results for row in one["rows"]])
    table = rows.groupby(["event", "covariate"], sort=False)[["refit", "measure"]].mean().reset_index()
    table.attrs["rank_correlation"] = float(spearmanr(table["refit"], table["measure"])[0])
    return table
