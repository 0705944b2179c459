"""Every published frequency against what the model predicts for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from aemodel.answers.states import model_states

COLUMNS = [
    *("event", "grade", "covariate", "level", "n", "observed", "observed_low", "observed_high", "observed_rate"),
    *("predicted", "expected"),
    *("lower50", "upper50", "lower90", "upper90", "tail_probability", "derived", "withheld"),
]


def calibration_table(model: Any) -> pd.DataFrame:
    """Observed counts against their posterior predictive distribution, one row per published frequency.

    A consistency check, not a validation: the model saw these rows, unless they were withheld from its fit.

    Parameters
    ----------
    model
        From `fit` or `load_model`.

    Returns
    -------
    pandas.DataFrame
        One row per row of `Tables.frequencies`: event, grade, covariate, level, n (patients), observed (count; null where the
        publication does not tell it, and then observed_low to observed_high), observed_rate, predicted (mean rate), expected
        (mean count), lower50, upper50, lower90, upper90 (predictive counts, parameter and
        sampling uncertainty together), tail_probability (two-sided mid-P), derived (a sum of other rows), withheld.
        Totals have covariate ``total`` and level ``all``.
    """
    rows = model.tables.frequencies
    table = rows[["event", "grade", "covariate", "level", "n", "observed", "observed_low", "observed_high", "derived"]].copy()
    rates = rate_draws(model, rows)
    table["observed_rate"] = table["observed"].astype(float) / table["n"].where(table["n"] > 0)
    table["predicted"] = rates.mean(axis=0)
    table["expected"] = table["predicted"] * table["n"]
    ends = zip(rates.T, rows["n"], rows["observed_low"], rows["observed_high"], strict=True)
    summaries = [_predictive(rate, n, low, high) for rate, n, low, high in ends]
    table[["lower50", "upper50", "lower90", "upper90", "tail_probability"]] = summaries
    whole = ["lower50", "upper50", "lower90", "upper90"]
    table[whole] = table[whole].astype(int)
    table["withheld"] = False
    return table[COLUMNS]


def differences_table(model: Any) -> pd.DataFrame:
    """Published differences between levels against the model's predictions: each level less the first that has a frequency.

    As `calibration_table` it is a consistency check: the model saw these rows.

    Parameters
    ----------
    model
        From `fit` or `load_model`.

    Returns
    -------
    pandas.DataFrame
        Columns event, grade, covariate, level, reference, observed (difference of shares), predicted (mean), lower and upper
        (90 % predictive interval: uncertainty of the risks, and chance).
    """
    rows = model.tables.frequencies
    told = ~rows["derived"] & (rows["covariate"] != "total") & rows["grade"].isin(model.risks.grades) & (rows["n"] > 0)
    rows = rows[told & rows["observed"].notna()].reset_index(drop=True)
    n = rows["n"].to_numpy(dtype=np.int64)
    observed, rates = rows["observed"].to_numpy(dtype=float) / n, rate_draws(model, rows) if len(rows) else np.empty((1, 0))
    shares = np.random.default_rng(model.settings["seed"]).binomial(n, np.clip(rates, 0, 1)) / n
    found = []
    for (event, grade, covariate), group in rows.groupby(["event", "grade", "covariate"], sort=False):
        first, *others = group.index
        for i in others:
            ends = np.quantile(shares[:, i] - shares[:, first], (0.05, 0.95))
            middle = (rates[:, i] - rates[:, first]).mean()
            told_of = (event, grade, covariate, rows["level"][i], rows["level"][first])
            found.append((*told_of, observed[i] - observed[first], middle, *ends))
    names = ["event", "grade", "covariate", "level", "reference", "observed", "predicted", "lower", "upper"]
    return pd.DataFrame(found, columns=names)


def rate_draws(model: Any, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Draws of the cohort's mean risk in each row's level, (sample, row)."""
    forward, states = model_states(model)
    cells = forward.forward.design.cells
    having = forward.events_having(list(zip(rows["event"], rows["grade"], strict=True))).astype(float)
    inside = np.array([cells.having(c, v) for c, v in zip(rows["covariate"], rows["level"], strict=True)])
    weights = inside * cells.n
    # Of a level with nobody in it, any composition will do.
    weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, inside)
    weights /= weights.sum(axis=1, keepdims=True)
    published = weights.shape[1]
    return np.stack([((having @ p[:, :published]) * weights).sum(axis=1) for p in states])


def _predictive(rates: NDArray[np.float64], n: int, low: int, high: int) -> tuple[float, ...]:
    """Quantiles of a binomial count mixed over draws of its rate, and the tail probability of low to high of them."""
    cumulative = np.cumsum(_mass(rates, n))
    lower50, upper50, lower90, upper90 = (int(np.searchsorted(cumulative, q)) for q in (0.25, 0.75, 0.05, 0.95))
    below = cumulative[low - 1] if low else 0.0
    at = cumulative[high] - below
    tail = 2 * min(below + at / 2, 1 - cumulative[high] + at / 2)
    return lower50, upper50, lower90, upper90, min(1.0, max(0.0, tail))


def _mass(rates: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Probability of each count from 0 to n, (n + 1,): binomial, its mean over draws of the rate."""
    rates = np.clip(rates, 1e-300, 1 - 2.0**-53)
    nobody, log_odds = n * np.log1p(-rates), np.log(rates) - np.log1p(-rates)
    counts = np.arange(n + 1)
    ways = gammaln(n + 1) - gammaln(counts + 1) - gammaln(n - counts + 1)
    # One count at a time: draws times counts would not fit into memory for a trial of ten thousands.
    return np.array([np.exp(way + count * log_odds + nobody).mean() for count, way in zip(counts, ways, strict=True)])


def coverage(table: pd.DataFrame) -> dict[str, float]:
    """How many published (not derived) rows there are, and the share whose count can lie in its 50 % and 90 % interval."""
    rows = table[~table["derived"]]
    shares = {
        width: float(
            ((rows["observed_high"] >= rows[f"lower{width}"]) & (rows["observed_low"] <= rows[f"upper{width}"])).mean()
        )
        for width in (50, 90)
    }
    return {"rows": float(len(rows)), "within50": shares[50], "within90": shares[90]}


def told(row: Mapping[str, Any]) -> str:
    """What a row of `calibration_table` says was observed: the count, or the ends of its interval."""
    low, high = row["observed_low"], row["observed_high"]
    return str(low) if low == high else f"{low}-{high}"
