"""What many rounds say: are the truth's ranks uniform, do intervals cover what they claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from arviz_stats.ecdf_utils import ecdf_pit
from numpy.typing import NDArray
from scipy.stats import binom

from validation.ranks import RANKED

PROBABILITY = 0.95

FEWEST_ROUNDS = 5
"""Rounds below which a band says nothing."""


class Band(NamedTuple):
    """Where the difference of an ECDF from uniform stays at all ``points`` at once, (point,) each."""

    points: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def uniform_band(size: int, probability: float) -> Band:
    """Simultaneous band for the ECDF of a uniform sample (Saeilynoja, Buerkner and Vehtari 2022)."""
    uniform = np.linspace(0, 1, size)
    points, _, lower, upper = ecdf_pit(uniform, probability, n_simulations=2000)
    return Band(points, lower - points, upper - points)


def rank_table(rounds: Sequence[dict[str, Any]], probability: float = PROBABILITY) -> pd.DataFrame:
    """Whether each quantity's ranks are uniform, by the simultaneous band of their ECDF (DOI 10.1007/s11222-022-10090-6).

    Parameters
    ----------
    rounds
        From `validation.runs.run_rounds`.
    probability
        Of the band, for each quantity; of many quantities some will be outside by chance.

    Returns
    -------
    pandas.DataFrame
        Columns quantity, rounds, largest (largest difference between ECDF and uniform, with its sign), inside (whether the
        ECDF stays in the band) and p: the probability, under uniformity and by simulation, that some point of the ECDF is
        as improbable by itself as the least probable one found, which is what the band bounds.
    """
    rows = []
    for name, ecdf in ecdfs(rounds, probability).items():
        largest = float(ecdf.difference[np.abs(ecdf.difference).argmax()])
        rows.append((name, ecdf.size, largest, ecdf.inside, ecdf.p))
    return pd.DataFrame(rows, columns=["quantity", "rounds", "largest", "inside", "p"])


@dataclass(frozen=True)
class Ecdf:
    """The ECDF of a quantity's ranks: less the uniform one at the points of its band, (point,); see `rank_table`."""

    size: int
    band: Band
    difference: NDArray[np.float64]
    inside: bool
    p: float


def ecdfs(rounds: Sequence[dict[str, Any]], probability: float = PROBABILITY) -> dict[str, Ecdf]:
    """The ECDF of each quantity's ranks, with the simultaneous band of as many uniform ones."""
    found = {}
    for name, pit in pits(rounds).items():
        band, null = band_of(len(pit), probability)
        counts = _counts_below(pit[:, None], band.points)
        difference = counts[:, 0] / len(pit) - band.points
        inside = bool(((difference >= band.lower) & (difference <= band.upper)).all())
        p = float((null <= _least_tail(counts, band.points, len(pit))[0]).mean())
        found[name] = Ecdf(len(pit), band, difference, inside, p)
    return found


def pits(rounds: Sequence[dict[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """Ranks 0 to `RANKED` as uniform numbers, if they are uniform: spread evenly within their steps, by a fixed seed.

    By quantity, over the rounds that ranked it (a table that a publication does not print has no rank), if they are
    `FEWEST_ROUNDS`.
    """
    frame = pd.DataFrame([one["ranks"] for one in rounds])
    rng = np.random.default_rng(2)
    frame = frame.loc[:, frame.count() >= FEWEST_ROUNDS]
    return {name: (ranks.dropna() + rng.random(ranks.count())).to_numpy() / (RANKED + 1) for name, ranks in frame.items()}


@lru_cache
def band_of(size: int, probability: float) -> tuple[Band, NDArray[np.float64]]:
    """The band for as many ranks, and the least probable points of the ECDFs of uniform ones, by their tails."""
    band = uniform_band(size, probability)
    uniform = _counts_below(np.random.default_rng(1).random((size, 4000)), band.points)
    return band, _least_tail(uniform, band.points, size)


def _counts_below(values: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many of the samples in columns are at most each of some points: (point, column)."""
    return np.stack([np.searchsorted(column, points, side="right") for column in np.sort(values, axis=0).T], axis=1)


def _least_tail(counts: NDArray[np.int64], points: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The smallest two-sided binomial tail of any point of each ECDF, (column,), from `_counts_below`."""
    n, within = np.full(counts.shape, size), np.clip(points, 0, 1)[:, None]
    tails = np.minimum(binom.cdf(counts, n, within), binom.sf(counts - 1, n, within))
    return np.minimum(2 * tails.min(axis=0) * (1 + 1e-9), 1)


def coverage_table(rounds: Sequence[dict[str, Any]], against: Sequence[dict[str, Any]] = ()) -> pd.DataFrame:
    """Coverage of 90 % intervals: of profiles' risks and of the cohort's, by event and grade, and over all.

    Parameters
    ----------
    rounds
        From `validation.runs.run_rounds`.
    against
        Rounds of another fit to publications simulated from the same seeds, which these are compared with, round by round.

    Returns
    -------
    pandas.DataFrame
        Columns quantity, rounds, profiles (mean share of profiles covered), width (mean width of profiles' intervals) and
        cohort (share of rounds in which the cohort's interval covers), each with its standard error over rounds, ``_se``,
        and with its mean difference from ``against`` in the rounds that both have, ``_less`` and ``_less_se``.
    """
    rows, others = [], {one["seed"]: one for one in against}
    names = list(rounds[0]["covered"])
    for name in [*names, "all"]:
        row: dict[str, Any] = {"quantity": name, "rounds": len(rounds)}
        chosen = names if name == "all" else [name]
        for column, part in (("profiles", "covered"), ("width", "width"), ("cohort", "overall")):
            values = [float(np.mean([one[part][each] for each in chosen])) for one in rounds]
            row[column], row[f"{column}_se"] = _mean(values)
            less = [
                value - float(np.mean([others[one["seed"]][part][each] for each in chosen]))
                for one, value in zip(rounds, values, strict=True)
                if one["seed"] in others
            ]
            row[f"{column}_less"], row[f"{column}_less_se"] = _mean(less)
        rows.append(row)
    return pd.DataFrame(rows)


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error; NaN of fewer than two."""
    if len(values) < 2:
        return np.nan, np.nan
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def sampler_table(rounds: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The sampler's diagnostics over rounds: medians and worst, and the median seconds of a round."""
    found = pd.DataFrame([one["diagnostics"] | {"seconds": one["seconds"]} for one in rounds]).drop(columns="worst")
    return pd.DataFrame({"median": found.median(), "least": found.min(), "most": found.max()})
