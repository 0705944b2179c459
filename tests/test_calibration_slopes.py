"""Recalibration finds the slope that is there, agrees with a plain optimiser, and its intervals are those of whole publications."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

import aemodel
from aemodel.answers import calibration as module
from aemodel.answers.calibration import SPREAD, _recalibrate, _with_interval


def expit(x):
    return 1 / (1 + np.exp(-x))


def test_recalibration_maximises_the_penalised_likelihood():
    rng = np.random.default_rng(1)
    n, x, group = rng.integers(20, 300, 7).astype(float), rng.normal(-1.5, 1, 7), np.array([0, 0, 0, 1, 1, 1, 1])
    counts = rng.binomial(n.astype(int), expit(0.3 + 0.6 * x), size=(5, 7)).astype(float)
    counts[0, :3] = 0
    intercepts, slopes = _recalibrate(counts, n, x, group, x)
    design = np.column_stack([group == 0, group == 1, x])
    for k in range(5):

        def loss(beta, y=counts[k]):
            eta = x + design @ beta
            return -(y * eta - n * np.logaddexp(0, eta)).sum() + (beta @ beta) / (2 * SPREAD**2)

        found = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-7}).x
        assert (intercepts[k], slopes[k]) == pytest.approx((found[0], 1 + found[2]), abs=1e-4)


@pytest.mark.parametrize("true", [0.5, 1.0, 2.0])
def test_recalibration_recovers_a_slope(true):
    rng = np.random.default_rng(2)
    x, n = np.linspace(-3, 0, 6), np.full(6, 400.0)
    counts = rng.binomial(400, expit(-0.4 + true * x), size=(4000, 6)).astype(float)
    _, slopes = _recalibrate(counts, n, x, np.zeros(6, dtype=int), x)
    assert slopes.mean() == pytest.approx(true, abs=0.02)


def test_intervals_cover_perfect_calibration_as_often_as_they_say():
    rng = np.random.default_rng(3)
    x, n = np.linspace(-2, 0, 5), np.full(5, 300.0)

    def slopes(times):
        counts = rng.binomial(300, expit(x), size=(times, 5)).astype(float)
        return _recalibrate(counts, n, x, np.zeros(5, dtype=int), x)[1]

    simulated = slopes(2000)
    bounds = [_with_interval([np.zeros(3), np.append(one, simulated)], (0.0, 1.0), 0.9)[4:] for one in slopes(2000)]
    assert np.mean([low <= 1 <= high for low, high in bounds]) == pytest.approx(0.9, abs=0.02)


def test_slopes_of_the_shipped_model(shipped):
    table = aemodel.calibration_slopes(shipped, seed=1, replicates=200)
    assert table.equals(aemodel.calibration_slopes(shipped, seed=1, replicates=200))
    shared = shipped.tables.frequencies.query("not derived and grade != '5'")
    assert table.set_index(["event", "grade"]).loc[("all", "3-5"), "rows"] == (shared["grade"] == "3-5").sum()
    known = table.dropna(subset="intercept")
    assert (known["intercept_lower"] < known["intercept"]).all()
    assert (known["intercept"] < known["intercept_upper"]).all()
    # In the cohort that it was fitted to no event is over- or underpredicted, and contrasts are shrunk, not stretched.
    assert ((known["intercept_lower"] < 0) & (known["intercept_upper"] > 0)).all()
    every = table[table["event"] == "all"]
    assert (every["slope_upper"] > 1).all()
    assert every["slope"].between(0.8, 2.5).all()
    # Nothing is said of an event that hardly anybody had, and no slope is made of a total.
    assert table.loc[(table["event"] == "oral_mucositis") & (table["grade"] == "4-5"), "intercept"].isna().all()
    assert table.loc[table["event"] == "any_ae", "slope"].isna().all()


def test_rows_share_patients_and_intervals_know(shipped):
    """Simulated publications keep nested events nested: a publication of independent rows would have narrower intervals."""
    rows = shipped.tables.frequencies.query("not derived and grade != '5'").reset_index(drop=True)
    rates, counts = module._simulate(shipped, rows, 1, 300)
    named = {(r.event, r.grade, r.covariate, r.level): k for k, r in enumerate(rows.itertuples())}
    for (event, grade, covariate, level), k in named.items():
        if event == "infections" and (whole := named.get(("infections_total", grade, covariate, level))) is not None:
            assert (counts[:, k] <= counts[:, whole]).all()
            assert np.corrcoef(counts[:, k], counts[:, whole])[0, 1] > 0.1
    n = rows["n"].to_numpy()
    assert np.abs(counts.mean(axis=0) / n - rates).max() < 0.02


@pytest.mark.parametrize("wrong", [{"replicates": 5}, {"probability": 1.0}])
def test_wrong_arguments_are_named(shipped, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        aemodel.calibration_slopes(shipped, seed=1, **wrong)
