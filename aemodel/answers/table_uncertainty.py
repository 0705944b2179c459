"""How much answers depend on the covariates' joint table, of which only margins are published."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp

from aemodel.answers.states import make_model_forward
from aemodel.inference.design import Design, all_margins, family_averages
from aemodel.inference.forward import logit, make_forward
from aemodel.inference.integer_tables import sample_tables
from aemodel.inference.intervals import pack
from aemodel.inference.saddlepoint import Packed, joint_loglik
from aemodel.publication.arguments import whole_number
from aemodel.publication.errors import InputError
from aemodel.publication.margins import FamilyMargins
from aemodel.publication.tables import Tables

Floats = NDArray[np.float64]


def table_uncertainty(model: Any, *, seed: int, tables: int = 100, association: float = 0.25, draws: int = 300) -> pd.DataFrame:
    """How far each profile's risk moves between joint tables of the covariates, against its posterior sd.

    The fit uses the maximum-entropy table. Here whole tables that match every published count of the cohort are drawn at
    random, all families share each, and the fit's draws are reweighted by how much more likely each table makes the
    published frequencies: both within a table, for its posterior means, and between tables.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    seed
        The same seed gives the same tables.
    tables, draws
        How many tables, and how many of the model's draws.
    association
        Prior standard deviation of the interactions between covariates that are not tabulated together (log-linear, so
        that log odds ratios have twice this standard deviation); 0 for none.

    Returns
    -------
    pandas.DataFrame
        One row per event, grade and profile (a column per covariate): posterior_sd (log odds), between_sd (weighted
        standard deviation over tables of the posterior mean), ratio of the two, and shift (mean over tables less the
        fit's, in posterior sds). ``attrs`` has ``loglik_sd`` (weighted over tables, of their log marginal likelihood),
        ``plugin_error`` (sd over draws of log likelihood of the maximum-entropy table less that of the average over
        tables, in nats) and ``ess`` (smallest effective number of draws in any table).

    Raises
    ------
    TypeError, ValueError
        A number is none, the model was fitted with too few draws, or no whole table matches the cohort's counts.
    """
    seed, tables, draws = whole_number("seed", seed), whole_number("tables", tables, 1), whole_number("draws", draws, 2)
    forward, thin, _ = make_model_forward(model)
    size = thin.sizes["chain"] * thin.sizes["draw"]
    if draws > size:
        raise InputError("draws", f"expected 2 to {size}, not {draws}")
    design = forward.forward.design
    chosen = np.linspace(0, size - 1, draws).astype(int)
    sampled = sample_tables(model.tables, tables, seed=seed, association=association)
    loglik = table_loglik(design, model.tables, thin, chosen, np.vstack([design.cells.n[None], sampled]))
    ratio = float(model.settings.get("power", 1.0)) * (loglik[1:] - loglik[0])
    weights = np.exp(ratio - logsumexp(ratio, axis=1, keepdims=True))
    marginal = logsumexp(ratio, axis=1) - np.log(draws)
    between = np.exp(marginal - logsumexp(marginal))
    table = _moved(model, chosen, weights, between)
    table.attrs = {
        "loglik_sd": float(np.sqrt(between @ (marginal - between @ marginal) ** 2)),
        "plugin_error": float((logsumexp(ratio, axis=0) - np.log(tables)).std()),
        "ess": float((1 / (weights**2).sum(axis=1)).min()),
    }
    return table


def table_loglik(design: Design, tables: Tables, draws: xr.Dataset, chosen: NDArray[np.int64], counts: Floats) -> Floats:
    """Log likelihood of all published margins given each table of ``counts`` (table, cell), for some draws: (table, draw)."""
    margins = all_margins(design, tables.frequencies)
    prepared = [_with_table(design, margins, table) for table in counts]
    found = np.empty((len(counts), len(chosen)))
    wanted = {int(draw): place for place, draw in enumerate(chosen)}
    for i, p in enumerate(make_forward(design, deviation=0.0).states(draws, 0)):
        if i in wanted:
            blocks = [p[design.edges[f] : design.edges[f + 1], : counts.shape[1]].T for f in range(len(margins))]
            for k, (averages, packed) in enumerate(prepared):
                rows = [np.log(average @ block).ravel() for average, block in zip(averages, blocks, strict=True)]
                found[k, wanted[i]] = joint_loglik(np.concatenate(rows), *packed)[0].sum()
    return found


def _with_table(design: Design, margins: tuple[FamilyMargins, ...], table: Floats) -> tuple[list[Floats], Packed]:
    """Compositions of the families' cells and packed margins, were the cohort's table this one."""
    other = replace(design, cells=replace(design.cells, n=np.asarray(table, dtype=np.float64)))
    return family_averages(other, margins), pack([family.among(np.asarray(table, dtype=np.float64)) for family in margins])


def _moved(model: Any, chosen: NDArray[np.int64], weights: Floats, between: Floats) -> pd.DataFrame:
    risks = model.risks
    usual = (risks.levels < np.array([len(c.levels) for c in risks.covariates])).all(axis=1)
    log_odds = logit(risks.draws[:, usual])
    picked = log_odds[chosen].reshape(len(chosen), -1)
    means = weights @ picked
    centre = between @ means
    spread = np.sqrt(between @ (means - centre) ** 2)
    sd = log_odds.std(axis=0).ravel()
    levels = risks.levels[usual]
    each = len(risks.events) * len(risks.grades)
    names: dict[str, Any] = {
        "event": np.tile(np.repeat(risks.events, len(risks.grades)), len(levels)),
        "grade": np.tile(risks.grades, len(levels) * len(risks.events)),
    }
    for k, covariate in enumerate(risks.covariates):
        names[covariate.name] = np.repeat(np.array(covariate.names)[levels[:, k]], each)
    shift = (centre - picked.mean(axis=0)) / sd
    return pd.DataFrame(names | {"posterior_sd": sd, "between_sd": spread, "ratio": spread / sd, "shift": shift})
