"""Every published frequency against what the model predicts for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from aemodel.answers.states import make_model_forward

COLUMNS = [
    *("event", "grade", "covariate", "level", "n", "observed", "observed_rate", "predicted"),
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
        One row per row of `Tables.frequencies`: event, grade, covariate, level, n (patients), observed (count),
        observed_rate, predicted (mean rate), lower50, upper50, lower90, upper90 (predictive counts, parameter and
        sampling uncertainty together), tail_probability (two-sided mid-P), derived (a sum of other rows), withheld.
        Totals have covariate ``total`` and level ``all``.
    """
    rows = model.tables.frequencies
    table = rows[["event", "grade", "covariate", "level", "n", "observed", "derived"]].copy()
    rates = rate_draws(model, rows)
    table["observed_rate"] = table["observed"] / table["n"]
    table["predicted"] = rates.mean(axis=0)
    summaries = [_predictive(rate, n, y) for rate, n, y in zip(rates.T, rows["n"], rows["observed"], strict=True)]
    table[["lower50", "upper50", "lower90", "upper90", "tail_probability"]] = summaries
    whole = ["lower50", "upper50", "lower90", "upper90"]
    table[whole] = table[whole].astype(int)
    table["withheld"] = False
    return table[COLUMNS]


def rate_draws(model: Any, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Draws of the cohort's mean risk in each row's level, (sample, row)."""
    forward, draws, seed = make_model_forward(model)
    cells = forward.forward.design.cells
    having = forward.events_having(list(zip(rows["event"], rows["grade"], strict=True))).astype(float)
    inside = np.array([cells.having(c, v) for c, v in zip(rows["covariate"], rows["level"], strict=True)])
    weights = inside * cells.n
    weights /= weights.sum(axis=1, keepdims=True)
    published = weights.shape[1]
    return np.stack([((having @ p[:, :published]) * weights).sum(axis=1) for p in forward.forward.states(draws, seed)])


def _predictive(rates: NDArray[np.float64], n: int, observed: int) -> tuple[float, ...]:
    """Quantiles and tail probability of a binomial count mixed over draws of its rate, without simulation."""
    cumulative = np.cumsum(_mass(rates, n))
    lower50, upper50, lower90, upper90 = (int(np.searchsorted(cumulative, q)) for q in (0.25, 0.75, 0.05, 0.95))
    below = cumulative[observed - 1] if observed else 0.0
    at = cumulative[observed] - below
    tail = 2 * min(below + at / 2, 1 - cumulative[observed] + at / 2)
    return lower50, upper50, lower90, upper90, min(1.0, tail)


def _mass(rates: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Probability of each count from 0 to n, (n + 1,): binomial, its mean over draws of the rate."""
    rates = np.clip(rates, 1e-300, 1 - 2.0**-53)
    nobody, log_odds = n * np.log1p(-rates), np.log(rates) - np.log1p(-rates)
    counts = np.arange(n + 1)
    ways = gammaln(n + 1) - gammaln(counts + 1) - gammaln(n - counts + 1)
    # One count at a time: draws times counts would not fit into memory for a trial of ten thousands.
    return np.array([np.exp(way + count * log_odds + nobody).mean() for count, way in zip(counts, ways, strict=True)])


def coverage(table: pd.DataFrame) -> dict[str, float]:
    """How many published (not derived) rows there are, and the share whose count lies in its 50 % and 90 % interval."""
    rows = table[~table["derived"]]
    shares = {
        width: float(((rows["observed"] >= rows[f"lower{width}"]) & (rows["observed"] <= rows[f"upper{width}"])).mean())
        for width in (50, 90)
    }
    return {"rows": float(len(rows)), "within50": shares[50], "within90": shares[90]}
