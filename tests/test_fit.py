"""Fitting an invented publication, end to end; and what `fit` refuses."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr

import aemodel
from aemodel.inference import fitting, posterior
from aemodel.inference.design import all_margins, make_design
from aemodel.inference.diagnostics import Diagnostics
from aemodel.inference.posterior import make_density
from aemodel.inference.record import STANDARD, check_settings

pytestmark = pytest.mark.xdist_group("fits")

DRAWS, CHAINS = 300, 4
UNCOMPILED = {"mode": "FAST_COMPILE"}
"""PyTensor runs the graph in Python: nothing to compile, and nothing to say about a missing BLAS."""
PATIENTS = pd.DataFrame(
    {
        "arm": ["high", "low", None],
        "stage": ["distant_large", "local_small", None],
        "region": ["north", None, None],
    },
    index=["ann", "bea", "cyd"],
)


@pytest.fixture(scope="module")
def design(invented):
    return make_design(invented)


@pytest.fixture(scope="module")
def model(invented):
    return aemodel.pymc_model(invented)


@pytest.fixture(scope="module")
def density(invented, design):
    return make_density(design, all_margins(design, invented.frequencies))


@pytest.fixture(scope="module")
def fit():
    """`aemodel.fit`, its warnings in a list."""

    def run(tables, **options):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            return aemodel.fit(tables, progress=False, **options), caught

    return run


@pytest.fixture(scope="module")
def fitted(fit, invented):
    """With numbers as NumPy has them."""
    numbers = {"seed": np.uint64(1), "draws": np.int32(DRAWS), "chains": np.int64(CHAINS), "tune": np.int16(300)}
    return fit(invented, **numbers, attempts=1, prior_scale=np.float32(1), power=np.float64(1))[0]


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    return aemodel.save_model(fitted, tmp_path_factory.mktemp("fit") / "model")


# Arguments.


WRONG = [
    *(({"seed": seed}, f"seed: expected a whole number, not {seed}") for seed in (1.5, None, True)),
    ({"seed": np.bool_(True)}, "seed: expected a whole number, not "),
    *(({name: "a"}, f"{name}: expected a whole number, not 'a'") for name in ("draws", "chains")),
    ({"chains": "x" * 10**6}, "chains: expected a whole number, not 'x.{50,70}'$"),
    ({"seed": -1}, "seed: expected zero or more, not -1"),
    *(({"draws": draws}, f"draws: expected 4 or more, not {draws}") for draws in (0, 3)),
    *(({"chains": chains}, f"chains: expected 2 or more, not {chains}") for chains in (0, 1)),
    *(({name: -5}, f"{name}: expected one or more, not -5") for name in ("tune", "attempts")),
    ({"tune": 10**9}, "tune: expected at most 100,000, not 1000000000"),
    ({"seed": 2**64}, "seed: expected at most 18,446,744,073,709,551,615, not 18446744073709551616"),
    ({"seed": 16**9999}, "seed: expected at most .*, not a number of thousands of digits"),
    ({"draws": 10**5}, "draws: 400,000 of all chains, at most 200,000 can be held in memory"),
    ({"target_accept": 1.0}, "target_accept: expected a number from 0.5 to below 1, such as 0.95, not 1.0"),
    ({"target_accept": "high"}, "target_accept: expected a number from 0.5 to below 1"),
    *(
        ({"prior_scale": scale}, rf"prior_scale: expected a number from 0\.001 to 1,000, not {re.escape(repr(scale))}")
        for scale in (1e300, 0, -1.0, np.inf, np.nan, "2", True)
    ),
    ({"prior_scale": np.float32(1e-9)}, r"prior_scale: expected a number from 0\.001 to 1,000"),
    *(({"ordering": x}, f"ordering: expected one of both, either, order or None, not {x!r}") for x in ("all", True)),
    *(({"selection": x}, f"selection: expected True or False, not {x}") for x in (1, None)),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_argument_is_refused_before_anything_is_built(invented, monkeypatch, options, message):
    monkeypatch.setattr(posterior, "make_design", None)
    error = TypeError if "a whole number" in message or "True or False" in message else ValueError
    with pytest.raises(error, match=message):
        aemodel.fit(invented, **{"seed": 1, **options})


@pytest.mark.parametrize("wrong", ["aall1331", None, {}, pd.DataFrame()], ids=lambda x: type(x).__name__)
def test_what_are_no_tables_is_refused(wrong):
    with pytest.raises(TypeError, match=f"tables: expected what load_tables returns, not {type(wrong).__name__}"):
        aemodel.fit(wrong, seed=1)
    with pytest.raises(TypeError, match="tables: expected what load_tables returns"):
        aemodel.pymc_model(wrong)


def test_shell_has_the_defaults_of_python():
    from aemodel.cli import main

    asked = {option.name: option.default for option in main.commands["fit"].params}
    names = ("draws", "chains", "tune", "target_accept", "ordering", "selection", "prior_scale", "power")
    assert {name: asked[name] for name in names} == {name: getattr(STANDARD, name) for name in names}


# Second attempts.


def passing(worst=1.001):
    return Diagnostics(worst, 900.0, 900.0, 0, 0.9, "scale")


@pytest.fixture
def attempts(density, monkeypatch):
    """`_sample` on runs whose diagnostics are given: what each run was, and what came out."""

    def run(verdicts, asked=2):
        seen, left = [], list(verdicts)

        def once(compiled, run, **options):
            seen.append(run)
            return

        monkeypatch.setattr(fitting, "_sample_once", once)
        monkeypatch.setattr(fitting, "diagnose", lambda _: left.pop(0))
        settings = check_settings(seed=1, draws=100, tune=50, chains=2, target_accept=0.8, attempts=asked)
        return seen, fitting._sample(density, settings, progress=False)

    return run


@pytest.mark.parametrize(
    ("verdicts", "asked", "runs"),
    [
        ([1.001], 2, [(100, 50, 0.8, 1)]),
        # A longer, more careful one: twice the warm-up and the draws, every second kept, a quarter of the distance to 1.
        ([1.2, 1.001], 2, [(100, 50, 0.8, 1), (200, 100, pytest.approx(0.95), 2)]),
        ([1.2, 1.1], 2, [(100, 50, 0.8, 1), (200, 100, pytest.approx(0.95), 2)]),
        ([1.2], 1, [(100, 50, 0.8, 1)]),
    ],
)
def test_run_that_fails_is_followed_by_a_more_careful_one_and_the_last_is_kept(attempts, verdicts, asked, runs):
    seen, (_, diagnostics, failed) = attempts([passing(worst) for worst in verdicts], asked)
    assert [tuple(run) for run in seen] == runs
    assert [each.r_hat for each in (*failed, diagnostics)] == verdicts


@pytest.mark.slow
def test_plain_pymc_samples_the_model(model):
    with model:
        idata = pm.sample(
            draws=10, tune=15, chains=1, cores=1, random_seed=1, progressbar=False, compute_convergence_checks=False,
            compile_kwargs=UNCOMPILED,
        )  # fmt: skip
    log_odds = idata["posterior"]["cohort_log_odds"]
    assert log_odds.sizes["draw"] == 10
    assert np.isfinite(log_odds).all()
    assert (log_odds.std("draw") > 0).all()


# End to end.


@pytest.mark.slow
def test_fit_has_and_records_the_draws_asked_for(fitted):
    assert (fitted.posterior.sizes["chain"], fitted.posterior.sizes["draw"]) == (CHAINS, DRAWS)
    assert sorted(fitted.idata.groups()) == ["observed_data", "posterior", "prior", "sample_stats"]
    asked = {"seed": 1, "draws": DRAWS, "chains": CHAINS, "tune": 300}
    assert {name: fitted.settings[name] for name in asked} == asked
    assert json.loads(json.dumps(fitted.settings)) == fitted.settings


@pytest.mark.slow
def test_fit_mixes(fitted):
    """Short, so not held to the gate of a real fit."""
    assert fitted.diagnostics.r_hat < 1.05
    assert fitted.diagnostics.divergences <= 0.01 * DRAWS * CHAINS
    assert 0 < fitted.diagnostics.approximation < 0.2


@pytest.mark.slow
def test_fitted_rates_are_near_the_counts(fitted):
    """Predictive 99 % or so: two-sided mid-P over 0.01 for every row, which the model saw."""
    table = aemodel.calibration_table(fitted)
    assert table["tail_probability"].min() > 0.01, table[table["tail_probability"] <= 0.01].to_string()


@pytest.mark.slow
def test_fit_finds_the_effect_of_the_dose(fitted):
    """Higher doses were simulated riskier for every event: posterior probability over 0.9 for the one with most events."""
    risk = aemodel.posterior_epred(fitted, pd.DataFrame({"arm": ["low", "high"], "stage": [None] * 2, "region": [None] * 2}))
    risk = risk.sel(event="blood_toxicity", grade="3-5")
    assert float((risk.isel(patient=1) > risk.isel(patient=0)).mean()) > 0.9


@pytest.mark.slow
def test_fitted_model_is_saved_without_patients_and_answers_the_same(fitted, saved, invented_patients):
    """But for the order in which float32 numbers are added up; a model whose risks contradict each other is not read back."""
    found, expected = (aemodel.posterior_epred(m, PATIENTS) for m in (aemodel.load_model(saved.folder), fitted))
    np.testing.assert_array_equal(found["support"], expected["support"])
    xr.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    pd.testing.assert_frame_equal(aemodel.calibration_table(saved), aemodel.calibration_table(fitted))
    tables = [aemodel.identification_table(model) for model in (saved, fitted)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-4, atol=1e-6)
    assert aemodel.score(fitted, PATIENTS)["neuropathy_g3_risk"].between(0, 1).all()
    assert len(invented_patients) == saved.tables.n
    assert not set(invented_patients.columns) & set(saved.manifest)


# Seeds and warnings.


SHORT = {"draws": 20, "chains": 2, "tune": 40, "attempts": 1}


@pytest.fixture(scope="module")
def short(fit, invented):
    return fit(invented, seed=5, **SHORT)


@pytest.mark.slow
def test_failed_diagnostics_are_a_warning_and_kept(short):
    fitted, caught = short
    messages = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    assert str(fitted.diagnostics) in messages
    assert "FAILED" in str(fitted.diagnostics)
    assert not fitted.diagnostics.passed


@pytest.mark.slow
def test_draws_are_those_of_their_seed_and_of_no_global_generator(short, fit, invented):
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    again, _ = fit(invented, seed=5, **SHORT)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    xr.testing.assert_equal(again.posterior, short[0].posterior)
    np.testing.assert_array_equal(again.risks.draws, short[0].risks.draws)
    assert not fit(invented, seed=6, **SHORT)[0].posterior.equals(short[0].posterior)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ((1.0102, 900.0, 800.0, 0, 0.9), ["R-hat 1.0102 > 1.01"]),
        ((1.0, 399.7, 800.0, 0, 0.9), ["effective sample size 399.7 < 400"]),
        ((1.0, 900.0, 800.0, 0, 0.2999), ["E-BFMI 0.2999 < 0.3"]),
        ((1.01, 400.0, 400.0, 0, 0.3), []),
        ((1.0, 900.0, float("nan"), 0, 0.9), ["effective sample size nan < 400"]),
        ((float("nan"), 99.0, 800.0, 0, 0.9), ["R-hat nan > 1.01", "effective sample size 99 < 400"]),
    ],
)
def test_diagnostics_beside_their_gates_have_digits_that_tell(found, told):
    failures = Diagnostics(*found, "scale").failures()
    assert [failure[: len(start)] for failure, start in zip(failures, told, strict=True)] == told
