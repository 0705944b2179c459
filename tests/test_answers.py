"""Risks, simulated outcomes and the support flag, recomputed by hand from the risk draws of the shipped model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr

import aemodel
from aemodel.answers.calibration import rate_draws
from aemodel.inference.design import make_design
from aemodel.inference.forward import event_sums, make_forward, make_model_forward, movement_of, risk_draws, thinned
from aemodel.scoring.risks import SUPPORT, RiskDraws
from tests.reference import predictive_summary

DIMS = ("chain", "draw", "patient", "event", "grade")
UNKNOWN = {"age_band": None, "relapse_group": None, "sex": None, "race_ethnicity": None}
KNOWN = {"age_band": "19-30", "relapse_group": "bm_early", "sex": "female", "race_ethnicity": "hispanic"}
FLOAT32 = 2e-6


@pytest.fixture(scope="module")
def fitted(shipped):
    """The shipped model as `fit` returns it, with risk draws worked out afresh from its posterior and the flags it has."""
    forward, draws = make_forward(make_design(shipped.tables)), thinned(shipped.idata["posterior"])
    risks = risk_draws(shipped.tables, forward, draws, shipped.settings["seed"])
    risks = replace(risks, movement=movement_of(forward, risks.draws))
    risks = replace(risks, **{name: getattr(shipped.risks, name) for name in ("source", *RiskDraws.MEASURES)})
    return aemodel.Fitted(shipped.tables, shipped.idata, shipped.diagnostics, shipped.settings, risks)


@pytest.fixture(scope="module")
def patients():
    return pd.DataFrame([KNOWN, UNKNOWN, KNOWN | {"age_band": "1-9", "sex": None}], index=["ann", "bea", "cyd"])


@pytest.fixture(scope="module")
def epred(shipped, patients):
    return aemodel.posterior_epred(shipped, patients)


@pytest.fixture(scope="module")
def outcomes(shipped, patients):
    return aemodel.posterior_predict(shipped, patients, seed=3)


def frame(*rows):
    return pd.DataFrame([UNKNOWN | row for row in rows])


def draws_of(shipped, **row):
    """(sample, event, grade) of one patient."""
    array = aemodel.posterior_epred(shipped, frame(row)).isel(patient=0)
    return array.values.reshape(-1, *array.shape[2:])


def cells_in(shipped, **levels):
    """Which cells hold no new level and lie in the given levels: (cell,)."""
    risks = shipped.risks
    inside = np.ones(len(risks.levels), dtype=bool)
    for k, covariate in enumerate(risks.covariates):
        wanted = levels.get(covariate.name, covariate.names)
        inside &= np.isin(risks.levels[:, k], [covariate.names.index(name) for name in wanted])
    return inside


def by_hand(shipped, **levels):
    """Risk draws averaged over the cohort's patients in those cells: (sample, event, grade)."""
    inside = cells_in(shipped, **levels)
    return np.average(shipped.risks.draws[:, inside].astype(float), axis=1, weights=shipped.risks.weight[inside])


# posterior_epred: dims and coordinates.


def test_epred_is_made_of_the_models_draws_of_each_patient_event_and_grade(epred, shipped):
    risks = shipped.risks
    assert epred.dims == DIMS
    assert epred.shape == (risks.chains, len(risks.draws) // risks.chains, 3, len(risks.events), len(risks.grades))
    assert (tuple(epred["event"].values), tuple(epred["grade"].values)) == (risks.events, risks.grades)
    assert 0 < float(epred.min()) < float(epred.max()) < 1
    assert epred["support"].dims == ("patient", "event", "grade")
    assert set(np.unique(epred["support"])) <= set(SUPPORT)


def test_epred_patients_are_the_index_the_row_numbers_or_an_id_column(shipped, patients, epred):
    assert list(epred["patient"].values) == ["ann", "bea", "cyd"]
    assert list(aemodel.posterior_epred(shipped, pl.DataFrame([KNOWN, KNOWN]))["patient"].values) == [0, 1]
    for library in (pd.DataFrame, pl.DataFrame):
        found = aemodel.posterior_epred(shipped, library([KNOWN | {"id": "p7"}, KNOWN | {"id": "p2"}]), id_column="id")
        assert list(found["patient"].values) == ["p7", "p2"]
    found = aemodel.posterior_epred(shipped, pl.from_pandas(patients.reset_index()), id_column="index")
    xr.testing.assert_identical(found, epred)
    found = aemodel.posterior_epred(shipped, patients.iloc[::-1])
    xr.testing.assert_identical(found.sel(patient=epred["patient"]), epred)


# Known, missing and partly known values.


def test_known_patient_has_the_risks_of_the_cell(shipped):
    cell = np.flatnonzero(cells_in(shipped, **{name: (value,) for name, value in KNOWN.items()}))
    assert len(cell) == 1
    np.testing.assert_allclose(draws_of(shipped, **KNOWN), shipped.risks.draws[:, cell[0]], atol=FLOAT32)


@pytest.mark.parametrize(
    ("row", "levels"),
    [
        ({}, {}),
        ({"age_band": "10-18"}, {"age_band": ("10-18",)}),
        *((KNOWN | {name: None}, {k: (v,) for k, v in KNOWN.items() if k != name}) for name in KNOWN),
        # A site without months leaves the timing open; months that are early anywhere leave the site open.
        (
            {"age_band": "1-9", "sex": "male", "relapse_site": "iem", "months_to_relapse": None},
            {"age_band": ("1-9",), "sex": ("male",), "relapse_group": ("iem_early", "iem_late")},
        ),
        ({"relapse_site": None, "months_to_relapse": 10.0}, {"relapse_group": ("bm_early", "iem_early")}),
    ],
    ids=str,
)
def test_what_is_not_known_is_averaged_over_the_cohort_given_the_rest(shipped, row, levels):
    row = UNKNOWN | row
    if "relapse_site" in row:
        del row["relapse_group"]
    found = aemodel.posterior_epred(
        shipped, pd.DataFrame([row]).astype({"months_to_relapse": float} if "relapse_site" in row else {})
    )
    np.testing.assert_allclose(found.values.reshape(-1, *found.shape[3:]), by_hand(shipped, **levels), atol=FLOAT32)


def test_weights_of_the_cohort_are_the_published_ones(shipped, aall1331_cells):
    inside = cells_in(shipped)
    np.testing.assert_allclose(shipped.risks.weight[inside], aall1331_cells.n, atol=1e-6)


# New levels.


@pytest.mark.parametrize(("column", "value"), [("sex", "other"), ("age_band", "31-40"), ("relapse_group", "cns")])
def test_new_level_of_a_closed_covariate_is_always_an_error(shipped, column, value):
    with pytest.raises(ValueError, match=f"{column}.*'{value}'"):
        aemodel.posterior_epred(shipped, frame({column: value}), new_levels="sample")


@pytest.fixture(scope="module")
def new_level(shipped):
    """Of two unheard-of groups, of one of them with nothing else known, and of a known patient."""
    rows = [*(KNOWN | {"race_ethnicity": group} for group in ("martian", "venusian")), {"race_ethnicity": "martian"}, KNOWN]
    return aemodel.posterior_epred(shipped, frame(*rows), new_levels="sample")


def test_new_levels_are_alike_and_prior_and_leave_known_ones_alone(shipped, new_level):
    np.testing.assert_array_equal(new_level.isel(patient=0), new_level.isel(patient=1))
    assert set(np.unique(new_level["support"].isel(patient=slice(3)))) == {"prior"}
    np.testing.assert_array_equal(new_level.isel(patient=3), aemodel.posterior_epred(shipped, frame(KNOWN)).isel(patient=0))
    with pytest.raises(ValueError, match=r"race_ethnicity.*'martian'.*row 0.*hispanic.*new_levels"):
        aemodel.posterior_epred(shipped, frame({"race_ethnicity": "martian"}))


def test_new_level_is_wider_than_a_known_one(new_level):
    """On the log odds and over all events: a further level is drawn anew, and cannot lean on the sum to zero."""
    spread = np.log(new_level / (1 - new_level)).std(("chain", "draw")).mean(("event", "grade"))
    assert float(spread.isel(patient=0)) > float(spread.isel(patient=3))


# Support.


def support(shipped, event, grade, **row):
    return str(aemodel.posterior_epred(shipped, frame(row))["support"].sel(event=event, grade=grade).item())


@pytest.mark.parametrize(
    ("event", "grade", "row", "expected"),
    [
        ("infections", "3-5", {"age_band": "19-30"}, "data"),
        ("infections", "3-5", {"sex": "female"}, "pooled"),
        ("infections", "3-5", {"race_ethnicity": "hispanic"}, "prior"),
        ("infections", "3-5", {}, "data"),
        ("febrile_neutropenia", "4-5", {"age_band": "19-30"}, "prior"),
        ("febrile_neutropenia", "4-5", {}, "prior"),
    ],
)
def test_support_says_what_carries_an_answer(shipped, event, grade, row, expected):
    assert support(shipped, event, grade, **row) == expected


# posterior_predict.


def test_outcomes_are_zero_or_one_for_each_draw_of_epred(outcomes, epred):
    assert (outcomes.dims, outcomes.shape) == (DIMS, epred.shape)
    for name in ("patient", "event", "grade"):
        np.testing.assert_array_equal(outcomes[name], epred[name])
    assert set(np.unique(outcomes)) == {0, 1}


def test_outcomes_are_those_of_their_seed_and_of_no_global_generator(shipped, patients, outcomes):
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    xr.testing.assert_identical(aemodel.posterior_predict(shipped, patients, seed=3), outcomes)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert not aemodel.posterior_predict(shipped, patients, seed=4).equals(outcomes)


def test_outcomes_are_as_frequent_as_their_risks(shipped):
    """Mean of 40 patients x 1,000 draws against the mean risk: within 4 standard errors, false alarm under 1 in 300.

    22 comparisons, each two-sided with probability 6e-5. Outcomes are independent given their risks.
    """
    patient = pd.DataFrame([KNOWN | {"race_ethnicity": None}] * 40)
    mean = aemodel.posterior_predict(shipped, patient, seed=8).mean(("chain", "draw", "patient"))
    risk = aemodel.posterior_epred(shipped, patient.iloc[:1]).isel(patient=0)
    error = np.sqrt((risk * (1 - risk)).mean(("chain", "draw")) / (40 * 1000))
    assert float((abs(mean - risk.mean(("chain", "draw"))) / error).max()) < 4


def test_outcomes_of_two_patients_are_independent_given_the_draw(shipped):
    """Of 1,000 draws, two patients alike agree as often as risk p says: p^2 + (1 - p)^2, within 4 standard errors."""
    found = aemodel.posterior_predict(shipped, pd.DataFrame([KNOWN, KNOWN]), seed=9).sel(event="any_ae", grade="3-5")
    p = aemodel.posterior_epred(shipped, pd.DataFrame([KNOWN])).sel(event="any_ae", grade="3-5").isel(patient=0)
    expected = p**2 + (1 - p) ** 2
    error = np.sqrt((expected * (1 - expected)).sum()) / p.size
    assert abs(float((found[:, :, 0] == found[:, :, 1]).mean() - expected.mean())) < 4 * float(error)


def test_simulated_events_lie_in_what_contains_them_and_a_union_is_of_its_parts(outcomes):
    inside = {"sepsis": "infections", "infections": "infections_total", "febrile_neutropenia": "infections_total"}
    inside |= {"infections_total": "any_ae", "death": "any_ae", "oral_mucositis": "gi_toxicity"}
    for inner, outer in inside.items():
        assert bool((outcomes.sel(event=inner) <= outcomes.sel(event=outer)).all()), inner
    assert bool((outcomes.sel(grade="4-5") <= outcomes.sel(grade="3-5")).all())
    assert bool((outcomes.sel(event="death", grade="3-5") <= outcomes.sel(event="any_ae", grade="4-5")).all())
    one = outcomes.sel(grade="3-5")
    union = np.maximum(one.sel(event="infections").values, one.sel(event="febrile_neutropenia").values)
    np.testing.assert_array_equal(one.sel(event="infections_total"), union)


# risk_table.


def test_risk_table_has_a_row_per_patient_event_and_grade_with_the_support_of_epred(shipped, patients, epred):
    found = aemodel.risk_table(shipped, patients)
    assert list(found.columns) == ["patient", "event", "grade", "risk", "lower", "upper", "support"]
    expected = [(p, e, g) for p in patients.index for e in shipped.risks.events for g in shipped.risks.grades]
    assert list(found[["patient", "event", "grade"]].itertuples(index=False, name=None)) == expected
    assert list(found["support"]) == list(epred["support"].values.ravel())


@pytest.mark.parametrize("interval", [0.5, 0.9, 0.99])
def test_risk_table_has_the_mean_and_quantiles_of_epred(shipped, patients, epred, interval):
    found = aemodel.risk_table(shipped, patients, interval=interval)
    lower, upper = epred.quantile([(1 - interval) / 2, (1 + interval) / 2], dim=("chain", "draw"))
    for name, expected in (("risk", epred.mean(("chain", "draw"), dtype=float)), ("lower", lower), ("upper", upper)):
        np.testing.assert_allclose(found[name], expected.values.ravel(), atol=1e-6, err_msg=name)


# A fitted model answers as the loaded one does.


def test_fitted_and_loaded_models_answer_alike(fitted, shipped, patients, epred, outcomes):
    found = aemodel.posterior_epred(fitted, patients)
    xr.testing.assert_allclose(found, epred, rtol=0, atol=FLOAT32)
    np.testing.assert_array_equal(found["support"], epred["support"])
    xr.testing.assert_identical(aemodel.posterior_predict(fitted, patients, seed=3), outcomes)
    pd.testing.assert_frame_equal(aemodel.score(fitted, patients), aemodel.score(shipped, patients), rtol=0, atol=FLOAT32)
    rows = shipped.tables.frequencies
    np.testing.assert_array_equal(rate_draws(fitted, rows), rate_draws(shipped, rows))


def test_calibration_is_that_of_binomials_mixed_over_the_draws(shipped):
    rows = shipped.tables.frequencies
    table = aemodel.calibration_table(shipped)
    columns = ["lower50", "upper50", "lower90", "upper90", "tail_probability"]
    # The smallest denominators and counts, and the largest.
    for i in {*rows["n"].argsort()[:4], *rows["observed"].argsort()[:4], rows["n"].argmax(), rows["observed"].argmax()}:
        expected = predictive_summary(rate_draws(shipped, rows.iloc[[i]])[:, 0], rows["n"][i], rows["observed"][i])
        np.testing.assert_allclose(table.loc[i, columns].to_numpy(float), expected, rtol=0, atol=1e-10)


def test_state_probabilities_sum_to_the_risk_draws(shipped):
    """The two ways to a risk: the array that scores, and the joint states that outcomes come from."""
    forward, draws, seed = make_model_forward(shipped)
    having = event_sums(forward.design, shipped.risks.pairs)
    first = next(iter(forward.states(draws, seed)))
    np.testing.assert_allclose((having @ first).T.reshape(shipped.risks.draws.shape[1:]), shipped.risks.draws[0], atol=FLOAT32)
