"""What many rounds say: are the truth's ranks uniform, do intervals cover what they claim."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aemodel.inference.idata import Band, uniform_band
from aemodel.validation.ranks import RANKED

PROBABILITY = 0.95

FEWEST_ROUNDS = 5
"""Rounds below which a band says nothing."""


def rank_table(rounds: Sequence[dict[str, Any]], probability: float = PROBABILITY) -> pd.DataFrame:
    """Whether each quantity's ranks are uniform, by the simultaneous band of their ECDF (DOI 10.1007/s11222-022-10090-6).

    Parameters
    ----------
    rounds
        From `aemodel.validation.runs.run_rounds`.
    probability
        Of the band, for each quantity; of many quantities some will be outside by chance.

    Returns
    -------
    pandas.DataFrame
        Columns quantity, rounds, largest (largest difference between ECDF and uniform, with its sign), inside (whether the
        ECDF stays in the band) and p (probability of a farther excursion under uniformity, by simulation).
    """
    rows = []
    for name, pit in pits(rounds).items():
        band, null = band_of(len(pit), probability)
        difference = _differences(pit[:, None], band.points)[:, 0]
        inside = bool(((difference >= band.lower) & (difference <= band.upper)).all())
        largest = float(difference[np.abs(difference).argmax()])
        rows.append((name, len(pit), largest, inside, float((null >= abs(largest)).mean())))
    return pd.DataFrame(rows, columns=["quantity", "rounds", "largest", "inside", "p"])


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
    """The band for as many ranks, and the largest differences of uniform ones."""
    band = uniform_band(size, probability)
    return band, np.abs(_differences(np.random.default_rng(1).random((size, 4000)), band.points)).max(axis=0)


def coverage_table(rounds: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Coverage of 90 % intervals: of profiles' risks and of the cohort's, by event and grade, and over all.

    Returns
    -------
    pandas.DataFrame
        Columns quantity, rounds, profiles (mean share of profiles covered), width (mean width of profiles' intervals) and
        cohort (share of rounds in which the cohort's interval covers), each with its standard error over rounds.
    """
    rows = []
    names = list(rounds[0]["covered"])
    for name in [*names, "all"]:
        row: dict[str, Any] = {"quantity": name, "rounds": len(rounds)}
        for column, part in (("profiles", "covered"), ("width", "width"), ("cohort", "overall")):
            values = np.array([np.mean(list(one[part].values())) if name == "all" else one[part][name] for one in rounds])
            row[column], row[f"{column}_se"] = values.mean(), values.std(ddof=1) / np.sqrt(len(rounds))
        rows.append(row)
    return pd.DataFrame(rows)


def sampler_table(rounds: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The sampler's diagnostics over rounds: medians and worst, and the median seconds of a round."""
    found = pd.DataFrame([one["diagnostics"] | {"seconds": one["seconds"]} for one in rounds]).drop(columns="worst")
    return pd.DataFrame({"median": found.median(), "least": found.min(), "most": found.max()})


def _differences(values: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """ECDF less uniform at some points, of samples in columns: (point, column)."""
    ordered = np.sort(values, axis=0)
    counts = np.stack([np.searchsorted(column, points, side="right") for column in ordered.T], axis=1)
    return np.asarray(counts / len(values) - points[:, None])
