"""Margins withheld from the fit and predicted: log predictive density against two plain competitors, and coverage.

A cluster is what is withheld together: one covariate's margins of a whole family of events (they have patients in common),
or everything said of one event. With L(all) and L(rest) the joint likelihoods with and without the cluster's rows,

    p(cluster | rest)  =  E[ L(all) / L(rest) ],  over the posterior given the rest,

which is a ratio of two normalising constants; draws given all rows are used too (Meng and Wong 1996, the optimal bridge).
The competitors are judged by the same formula with draws of their own: no effects of covariates at all, and the posterior
of the product of binomials, for which the bridge's other end is not sampled and the expectation is taken as it stands.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logsumexp
from scipy.stats import binom

from aemodel.inference.design import all_margins, family_averages
from aemodel.inference.diagnostics import Diagnostics
from aemodel.inference.effects import make_centring
from aemodel.inference.forward import make_forward
from aemodel.inference.intervals import pack
from aemodel.inference.saddlepoint import Packed, joint_loglik
from aemodel.publication.families import make_families
from aemodel.publication.margins import family_margins
from aemodel.publication.tables import Tables
from validation.laboratory import Laboratory
from validation.simulation import without

MODELS = ("joint", "overall rate", "product")
WHOLE = ", everything"
"""Ends the name of a cluster that is all that is said of an event."""

CHAINS = 4
RUNS = (1, 0.9), (2, 0.975)
"""Times as many draws as asked for, and acceptance aimed at: fits that miss the gate are made again, once."""

NO_EFFECTS = 1e-6
"""Scale of effects that are none, and still vary, as diagnostics need."""

GRID_DRAWS = 100
"""Draws over which the distribution of a withheld count is averaged."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Cluster:
    """Rows (row,) of `Tables.frequencies` that are withheld together, derived ones included."""

    name: str
    hidden: Bools


def clusters(tables: Tables) -> list[Cluster]:
    """Each covariate's margins of each family, then each event."""
    rows = tables.frequencies
    found = []
    for family in make_families(tables.events):
        events = [event.name for event in family.events]
        for covariate in tables.covariates:
            hidden = (rows["event"].isin(events) & (rows["covariate"] == covariate.name)).to_numpy()
            if (hidden & ~rows["derived"]).any():
                name = events[0] if len(events) == 1 else f"{events[0]} and {len(events) - 1} more"
                found.append(Cluster(f"{name} by {covariate.name}", hidden))
    for event in tables.events:
        found.append(Cluster(f"{event.name}{WHOLE}", (rows["event"] == event.name).to_numpy()))
    return found


def one_cluster(laboratory: Laboratory, number: int, *, draws: int = 1000, tune: int = 600) -> dict[str, Any]:
    """Withhold a cluster, fit the model and both competitors to the rest, and predict it.

    Parameters
    ----------
    laboratory
        The compiled model.
    number
        The cluster's place in `clusters`, from 1; the seed too.
    draws, tune
        Per chain, of four chains; a fit that misses the gate is made again with twice as many, at a higher acceptance.

    Returns
    -------
    dict
        ``elpd`` and ``elpd_se`` (Monte Carlo) by model; ``rows``: each withheld count with its predicted mean, bounds of
        50 % and 90 % intervals and mid-P; ``diagnostics`` of all fits, and ``seconds``.
    """
    started = time.monotonic()
    tables, cluster = laboratory.tables, clusters(laboratory.tables)[number - 1]
    rest = without(tables, cluster.hidden)
    both = [all_margins(laboratory.design, each.frequencies, laboratory.margins) for each in (tables, rest)]
    packed = [pack([family.margins for family in margins]) for margins in both]
    elpd, errors, checked, posteriors = {}, {}, {}, {}
    for model in MODELS:
        posteriors[model], checked[f"{model}, rest"] = _fit(laboratory, rest, model, number, draws, tune)
        given_rest, given_all = _log_ratio(laboratory, packed, posteriors[model]), None
        if model != "product":
            posterior, checked[f"{model}, all"] = _fit_all(laboratory, model, draws, tune)
            given_all = _log_ratio(laboratory, packed, posterior)
        elpd[model], errors[model] = _log_mean_ratio(given_rest, given_all)
    return {
        "cluster": cluster.name,
        "number": number,
        "elpd": elpd,
        "elpd_se": errors,
        "rows": _predicted(laboratory, tables, rest, cluster, posteriors["joint"]),
        "diagnostics": {name: asdict(found) for name, found in checked.items()},
        "seconds": time.monotonic() - started,
    }


def _fit(laboratory: Laboratory, tables: Tables, model: str, seed: int, draws: int, tune: int) -> tuple[xr.Dataset, Any]:
    density = laboratory.density(
        tables,
        "product" if model == "product" else "joint",
        prior_scale=NO_EFFECTS if model == "overall rate" else 1.0,
        like=laboratory.margins,
    )
    # In coordinates of the rows that are left: in those of all, effects that were withheld are a funnel.
    margins = all_margins(laboratory.design, tables.frequencies, laboratory.margins)
    density = replace(density, centring=make_centring(laboratory.design, margins))
    for times, acceptance in RUNS:
        options = {"draws": times * draws, "tune": times * tune, "chains": CHAINS, "cores": 1}
        posterior, found = laboratory.sample(density, seed=seed, target_accept=acceptance, **options)
        if found.passed:
            break
    return posterior, found


@lru_cache(maxsize=len(MODELS))
def _fit_all(laboratory: Laboratory, model: str, draws: int, tune: int) -> tuple[xr.Dataset, Any]:
    """The fit to all rows: the same for every cluster, and made once in a process."""
    return _fit(laboratory, laboratory.tables, model, 0, draws, tune)


def _log_ratio(laboratory: Laboratory, packed: list[Packed], posterior: xr.Dataset) -> Floats:
    """Log likelihood of all rows less that of the rest, by chain and every second draw."""
    posterior = posterior.isel(draw=slice(None, None, 2))
    ratios = []
    for blocks in log_states(laboratory, posterior):
        logp = np.concatenate([block.ravel() for block in blocks])
        everything, rest = (float(joint_loglik(logp, *margins)[0].sum()) for margins in packed)
        ratios.append(everything - rest)
    return np.array(ratios).reshape(posterior.sizes["chain"], posterior.sizes["draw"])


def log_states(laboratory: Laboratory, posterior: xr.Dataset) -> Iterator[list[Floats]]:
    """Log probabilities (family cell, state) of each family, for each draw, chains end to end."""
    design = laboratory.design
    averages, edges = family_averages(design, laboratory.margins), design.edges
    for p in make_forward(design, deviation=0.0).states(posterior, 0):
        blocks = [p[first:last, : len(design.cells.n)].T for first, last in pairwise(edges)]
        yield [np.log(average @ block) for average, block in zip(averages, blocks, strict=True)]


def _log_mean_ratio(forwards: Floats, backwards: Floats | None) -> tuple[float, float]:
    """Log of the ratio of normalising constants from log ratios (chain, draw) at either end, and its error over chains."""

    def estimate(up: Floats, down: Floats | None) -> float:
        start = float(logsumexp(up) - np.log(up.size))
        return start if down is None else bridge(up.ravel(), down.ravel())

    whole = estimate(forwards, backwards)
    each = [estimate(forwards[k], None if backwards is None else backwards[k]) for k in range(len(forwards))]
    return whole, float(np.std(each, ddof=1) / np.sqrt(len(each)))


def bridge(up: Floats, down: Floats) -> float:
    """Log of Z1 / Z0 from log(q1 / q0) at draws of q0 (``up``) and of q1 (``down``): the optimal bridge (Bennett 1976)."""
    offset = np.log(len(down) / len(up))

    def imbalance(c: float) -> float:
        return float(expit(up - c + offset).sum() - expit(c - down - offset).sum())

    lower, upper = min(up.min(), down.min()) - 50, max(up.max(), down.max()) + 50
    return float(brentq(imbalance, lower, upper, xtol=1e-8))


def _predicted(
    laboratory: Laboratory, tables: Tables, rest: Tables, cluster: Cluster, posterior: xr.Dataset
) -> list[dict[str, Any]]:
    """Each withheld count by itself: its distribution given the rest, of which totals are part."""
    thin = posterior.isel(draw=np.linspace(0, posterior.sizes["draw"] - 1, GRID_DRAWS // CHAINS).astype(int))
    states = list(log_states(laboratory, thin))
    found = []
    for place in np.flatnonzero(cluster.hidden & ~tables.frequencies["derived"].to_numpy()):
        row = tables.frequencies.iloc[place]
        counts, logp = _one_row(laboratory, rest, int(place), states)
        p = np.exp(logp - logsumexp(logp))
        cumulative = np.cumsum(p)
        bounds = [int(counts[np.searchsorted(cumulative, q)]) for q in (0.25, 0.75, 0.05, 0.95)]
        mid_p = p[counts < row["observed"]].sum() + p[counts == row["observed"]].sum() / 2
        found.append(
            {name: row[name] for name in ("event", "grade", "covariate", "level")}
            | {"n": int(row["n"]), "observed": int(row["observed"]), "predicted": float(counts @ p)}
            | dict(zip(("lower50", "upper50", "lower90", "upper90"), bounds, strict=True))
            | {"mid_p": float(mid_p), "log_mass": float(logsumexp(logp))}
        )
    return found


def _one_row(laboratory: Laboratory, rest: Tables, place: int, states: list[list[Floats]]) -> tuple[NDArray[np.int64], Floats]:
    """Counts that a row might have, and the log probability of each given the rest, averaged over draws."""
    design, rows = laboratory.design, rest.frequencies
    row = rows.iloc[place]
    index = design.family_of(row["event"])
    family, covariates = design.families[index], laboratory.margins[index].covariates
    logp = [blocks[index].ravel() for blocks in states]
    rates = _rates(laboratory, index, row, [blocks[index] for blocks in states])
    lowest, highest = binom.ppf(1e-4, row["n"], rates.min()), binom.isf(1e-4, row["n"], rates.max())
    counts = np.arange(int(lowest), int(highest) + 1)

    def values(frequencies: pd.DataFrame) -> Floats:
        packed = pack([family_margins(family, design.cells, frequencies, covariates).margins])
        return np.array([joint_loglik(each, *packed)[0][0] for each in logp])

    given = values(rows)
    found = np.full(len(counts), -np.inf)
    for k, count in enumerate(counts):
        told = rows.copy()
        told.iloc[place, told.columns.get_indexer(["observed", "derived"])] = [count, False]
        try:
            found[k] = logsumexp(values(told) - given) - np.log(len(logp))
        except ValueError:  # no patients can have this count beside the rest
            continue
    return counts, found


def _rates(laboratory: Laboratory, index: int, row: pd.Series, blocks: list[Floats]) -> Floats:
    """The risk in a row's level by draw, from log probabilities (family cell, state)."""
    margins, cells = laboratory.margins[index], laboratory.design.cells
    weight = cells.n * cells.having(row["covariate"], row["level"])
    share = np.bincount(margins.coarse, weights=weight, minlength=len(margins.margins.n)) / weight.sum()
    having = laboratory.design.families[index].having(row["event"], row["grade"]).astype(float)
    return np.clip([share @ np.exp(block) @ having for block in blocks], 0, 1)


def elpd_table(results: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Log predictive density by cluster: the model's, and its difference from each competitor's.

    Returns
    -------
    pandas.DataFrame
        Columns cluster, rows (withheld counts that could have been others), elpd (nats), and for each competitor its
        difference (positive: the model is better) and Monte Carlo standard error; inside50 and inside90 are shares of counts
        inside their intervals, passed whether all fits passed the sampler's gate. The last two rows are sums over
        covariates' clusters and over events, with the standard errors of their differences over clusters, or by Monte Carlo
        where that is larger.
    """
    table = []
    for one in results:
        free = [each for each in one["rows"] if abs(each["mid_p"] - 0.5) > 1e-9]
        row: dict[str, Any] = {"cluster": one["cluster"], "rows": len(free), "elpd": one["elpd"]["joint"]}
        for model in MODELS[1:]:
            row[f"over {model}"] = one["elpd"]["joint"] - one["elpd"][model]
            row[f"se {model}"] = float(np.hypot(one["elpd_se"]["joint"], one["elpd_se"][model]))
        for width in (50, 90):
            inside = [each[f"lower{width}"] <= each["observed"] <= each[f"upper{width}"] for each in free]
            row[f"inside{width}"] = float(np.mean(inside))
        row["passed"] = all(Diagnostics(**found).passed for found in one["diagnostics"].values())
        table.append(row)
    frame = pd.DataFrame(table)
    by_event = frame["cluster"].str.endswith(WHOLE)
    return pd.concat(
        [frame, _sum(frame[~by_event], "all by covariate"), _sum(frame[by_event], "all events")], ignore_index=True
    )


def _sum(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    last: dict[str, Any] = {"cluster": name, "rows": int(frame["rows"].sum()), "elpd": float(frame["elpd"].sum())}
    for model in MODELS[1:]:
        last[f"over {model}"] = float(frame[f"over {model}"].sum())
        spread = float(frame[f"over {model}"].std(ddof=1) * np.sqrt(len(frame)))
        last[f"se {model}"] = max(spread, float(np.hypot.reduce(frame[f"se {model}"])))
    for width in (50, 90):
        last[f"inside{width}"] = float((frame[f"inside{width}"] * frame["rows"]).sum() / max(1, frame["rows"].sum()))
    return pd.DataFrame([last | {"passed": bool(frame["passed"].all())}])
