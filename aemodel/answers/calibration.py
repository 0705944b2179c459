"""Every published frequency against what the model predicts for it, and whether predicted contrasts have the published size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import gammaln

from aemodel.inference.forward import logit, model_states
from aemodel.inference.integer_tables import sample_tables
from aemodel.inference.simulated import row_counts, row_rates, simulate_states
from aemodel.publication.arguments import real_number, whole_number
from aemodel.publication.arrays import Floats, Ints
from aemodel.publication.evidence import FEWEST
from aemodel.publication.frequencies import ADDED_UP
from aemodel.publication.words import words_of
from aemodel.scoring.risks import risks_of

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
    risks_of(model)
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
        Columns event, grade, covariate, level, reference, observed (difference of shares; of a count that is only known to
        lie in an interval, the middle), predicted (mean), lower and upper (90 % predictive interval: uncertainty of the risks,
        and chance). Classes of grades that are sums of published grades have rows, too.
    """
    grades, rows = risks_of(model).grades, model.tables.frequencies
    told = ~rows["derived"] | rows["source"].str.startswith(ADDED_UP)
    told &= (rows["covariate"] != "total") & rows["grade"].isin(grades) & (rows["n"] > 0)
    rows = rows[told].reset_index(drop=True)
    n, ends = rows["n"].to_numpy(dtype=np.int64), rows[["observed_low", "observed_high"]].to_numpy(dtype=float)
    observed, rates = ends.mean(axis=1) / n, rate_draws(model, rows) if len(rows) else np.empty((1, 0))
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


def rate_draws(model: Any, rows: pd.DataFrame) -> Floats:
    """Draws of the cohort's mean risk in each row's level, (sample, row)."""
    design, states = model_states(model)
    rates = row_rates(design, rows, design.cells.n)
    return np.stack([rates(p) for p in states])


def _predictive(rates: Floats, n: int, low: int, high: int) -> tuple[float, ...]:
    """Quantiles of a binomial count mixed over draws of its rate, and the tail probability of low to high of them."""
    cumulative = np.cumsum(_mass(rates, n))
    lower50, upper50, lower90, upper90 = (int(np.searchsorted(cumulative, q)) for q in (0.25, 0.75, 0.05, 0.95))
    below = cumulative[low - 1] if low else 0.0
    at = cumulative[high] - below
    tail = 2 * min(below + at / 2, 1 - cumulative[high] + at / 2)
    return lower50, upper50, lower90, upper90, min(1.0, max(0.0, tail))


def _mass(rates: Floats, n: int) -> Floats:
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
    return {"rows": len(rows), "within50": shares[50], "within90": shares[90]}


def told(row: Mapping[str, Any]) -> str:
    """What a row of `calibration_table` says was observed: the count, or the ends of its interval."""
    low, high = row["observed_low"], row["observed_high"]
    return str(low) if low == high else f"{low}-{high}"


SPREAD = 10.0
"""Standard deviation of a normal penalty about perfect calibration: finite slopes where a level has no events at all."""

STEPS = 200
SLOPES = ["event", "grade", "rows", "intercept", "intercept_lower", "intercept_upper", "slope", "slope_lower", "slope_upper"]


def calibration_slopes(model: Any, *, seed: int, replicates: int = 500, probability: float = 0.9) -> pd.DataFrame:
    """Logistic recalibration of the published counts on the model's predictions, by event and grade and over all events.

    The intercept is the log odds that observed rates are above predicted ones (0 if none), the slope is what predicted
    contrasts between levels must be multiplied by to fit the observed ones (1 if nothing; above 1 the model shrinks them,
    as one that is right also does on the rows it was fitted to, the more so if these were selected by significance: what is
    then to be expected, `expected_slopes` finds).
    Rows share patients, so intervals come from whole publications simulated at the predicted risks, recalibrated alike.
    The model saw these rows: that it reproduces them is consistency, not validation.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    seed
        The same seed gives the same simulated publications.
    replicates
        How many of them.
    probability
        Of the intervals.

    Returns
    -------
    pandas.DataFrame
        Columns event, grade, rows (published frequencies whose count is told, derived ones left out), intercept and
        slope, each with lower and upper bound. The last rows are over all events at each grade, the slope with an
        intercept for each. The slope is missing where an event has a total only, and both are where fewer than `FEWEST`
        patients had it. Of a model from `expected_slopes` the last two rows have the central 90 % of slopes that a
        right model would show, expected_lower and expected_upper, in two further columns; of how many ``refits`` is in
        ``attrs``.

    Raises
    ------
    TypeError, ValueError
        ``replicates`` is below 20, ``probability`` not between 0 and 1, or ``seed`` no whole number.
    """
    seed, replicates = whole_number("seed", seed), whole_number("replicates", replicates, 20)
    probability = real_number("probability", probability, "a number between 0 and 1", below=1)
    grades, rows = risks_of(model).grades, model.tables.frequencies
    rows = rows[~rows["derived"] & rows["grade"].isin(grades) & rows["observed"].notna()].reset_index(drop=True)
    if rows.empty:
        return pd.DataFrame(columns=SLOPES)
    predicted, simulated = _simulate(model, rows, seed, replicates)
    counts = np.vstack([rows["observed"].to_numpy(dtype=float), simulated])
    x, n = logit(predicted), rows["n"].to_numpy(dtype=float)
    found = []
    groups = [(event, grade, mine.index.to_numpy()) for (event, grade), mine in rows.groupby(["event", "grade"], sort=False)]
    groups += [("all", grade, mine) for grade in grades if len(mine := np.flatnonzero(rows["grade"] == grade))]
    for event, grade, mine in groups:
        split = (rows["covariate"].iloc[mine] != "total").to_numpy()
        few = event != "all" and _patients(rows.iloc[mine]) < FEWEST
        values = [] if few else [_recalibrate(counts[:, mine], n[mine], x[mine], np.zeros(len(mine), dtype=int), None)[0]]
        if split.any() and not few:
            values.append(contrast_slope(rows.iloc[mine[split]], counts[:, mine[split]], predicted[mine[split]]))
        found.append((event, grade, len(mine), *_with_interval(values, (0.0, 1.0), probability)))
    table = pd.DataFrame(found, columns=SLOPES)
    if expected := model.settings.get("expected_slopes"):
        bounds = {("all", grade): pair for grade, pair in expected["central90"].items()}
        pairs = [bounds.get(pair, (np.nan, np.nan)) for pair in zip(table["event"], table["grade"], strict=True)]
        table[["expected_lower", "expected_upper"]] = pairs
        table.attrs["refits"] = expected["refits"]
    return table


def slope_words(slopes: pd.DataFrame, labels: Any = None) -> str:
    """What the slopes over all events say, in two sentences, or nothing where there are none."""
    words = words_of(labels)
    over_all = slopes[(slopes["event"] == "all") & slopes["slope"].notna()]
    if over_all.empty:
        return ""
    said = [
        f"{r.slope:.2f} for {words.grade(r.grade)} ({r.slope_lower:.2f} to {r.slope_upper:.2f})" for r in over_all.itertuples()
    ]
    found = f"Published contrasts between levels, in log odds, are {' and '.join(said)} times the predicted ones."
    over_all = over_all[over_all["expected_lower"].notna()] if "expected_lower" in slopes else over_all[:0]
    if over_all.empty:
        return f"{found} Above 1 the model draws groups together, as one that is right does too on the rows it was fitted to."
    verdicts = dict(zip(map(words.grade, over_all["grade"]), slope_verdicts(over_all), strict=True))
    same = len({*verdicts.values()}) == 1
    verdict = next(iter(verdicts.values())) if same else "; ".join(f"{said} for {grade}" for grade, said in verdicts.items())
    ranges = [f"{r.expected_lower:.2f} to {r.expected_upper:.2f} for {words.grade(r.grade)}" for r in over_all.itertuples()]
    return f"{found} Of a model that is right 90 % would be {' and '.join(ranges)}: {verdict}."


END_ERROR = 0.64
"""Standard error of either end of the central 90 % of one slope that is about normal, in its width."""


def slope_verdicts(rows: pd.DataFrame) -> list[str]:
    """Of rows of `calibration_slopes` with the range to be expected: inside, outside, or nearer an end than that is known."""
    beyond = np.maximum(rows["expected_lower"] - rows["slope"], rows["slope"] - rows["expected_upper"])
    refits = rows.attrs.get("refits", np.inf)
    error = END_ERROR / np.sqrt(refits) * (rows["expected_upper"] - rows["expected_lower"])
    near = f"too near an end to tell from {refits} simulations"
    found = np.select([beyond.abs() < 2 * error, beyond > 0], [near, "outside"], "inside")
    return [str(verdict) for verdict in found]


def contrast_slope(rows: pd.DataFrame, counts: Floats, predicted: Floats) -> Floats:
    """Slope of published contrasts on predicted ones, with an intercept for each event: (replicate,).

    ``rows`` are frequencies by level, ``counts`` (replicate, row) and ``predicted`` (row,) rates.
    """
    x = logit(predicted)
    return _recalibrate(counts, rows["n"].to_numpy(dtype=float), x, rows["event"].factorize()[0], x)[1]


def _patients(rows: pd.DataFrame) -> int:
    """Patients with one event at one grade: in its total or over one covariate, whichever is published."""
    return int(rows.groupby("covariate")["observed"].sum().max())


def _simulate(model: Any, rows: pd.DataFrame, seed: int, replicates: int) -> tuple[Floats, Floats]:
    """Mean rates (row,) and counts in simulated publications (replicate, row)."""
    design, drawn = model_states(model)
    p = np.mean(list(drawn), axis=0)[:, : len(design.cells.n)]
    table = sample_tables(model.tables, 1, seed=seed)[0]
    states = simulate_states(design, p, table, np.random.default_rng(seed), (replicates,))
    return row_rates(design, rows, table)(p), row_counts(design, rows, states).astype(float)


def _recalibrate(counts: Floats, n: Floats, x: Floats, group: Ints, slope: Floats | None) -> tuple[Floats, Floats]:
    """Penalised binomial regressions of ``counts`` (replicate, row): the first intercept and the slope, (replicate,) each.

    The linear predictor is x plus an intercept for each group plus, if ``slope`` is given, (slope - 1) times it.
    """
    columns = [(group == g).astype(float) for g in range(group.max() + 1)] + ([] if slope is None else [slope])
    design = np.column_stack(columns)
    beta = np.zeros((len(counts), design.shape[1]))
    penalty = np.eye(design.shape[1]) / SPREAD**2

    def objective(at: Floats) -> Floats:
        eta = x + at @ design.T
        return np.asarray(
            (counts * eta - n * np.logaddexp(0, eta)).sum(axis=1) - 0.5 * np.einsum("rj,jk,rk->r", at, penalty, at)
        )

    damping = np.ones(len(counts))
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-(x + beta @ design.T)))
        gradient = (counts - n * p) @ design - beta @ penalty
        hessian = np.einsum("ri,ij,ik->rjk", n * p * (1 - p), design, design) + penalty
        whole = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        if np.abs(whole).max() < 1e-8:
            break
        # The objective is concave: a step that goes too far is taken again at half the length. What it gains at the end is
        # less than its rounding.
        step = damping[:, None] * whole
        better = (objective(beta + step) > objective(beta)) | (np.abs(whole).max(axis=1) < 1e-3)
        beta = np.where(better[:, None], beta + step, beta)
        damping = np.where(better, np.minimum(1.0, 2 * damping), 0.5 * damping)
    else:
        raise RuntimeError(f"recalibration did not converge in {STEPS} steps")
    return beta[:, 0], 1 + beta[:, -1]


def _with_interval(values: list[Floats], perfect: tuple[float, float], probability: float) -> list[float]:
    """The observed value with the bounds of a basic bootstrap interval, of the intercept and, if there is one, the slope."""
    found = [np.nan] * 6
    tails = (1 + probability) / 2, (1 - probability) / 2
    for k, each in enumerate(values):
        upper, lower = (np.quantile(each[1:] - perfect[k], tail) for tail in tails)
        found[3 * k : 3 * k + 3] = [each[0], each[0] - upper, each[0] - lower]
    return found
