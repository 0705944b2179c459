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
from aemodel.scoring.risks import SUPPORT, RiskDraws
from tests.reference import predictive_summary

DIMS = ("chain", "draw", "patient", "event", "grade")
UNKNOWN = {"age_band": None, "relapse_group": None, "sex": None, "race_ethnicity": None}
KNOWN = {"age_band": "19-30", "relapse_group": "bm_early", "sex": "female", "race_ethnicity": "hispanic"}
FLOAT32 = 2e-6


@pytest.fixture(scope="module")
def shipped():
    return aemodel.load_model("aall1331")


@pytest.fixture(scope="module")
def fitted(shipped):
    """The shipped model as `fit` returns it, with risk draws worked out afresh from its posterior and the flags it has."""
    from aemodel.inference.design import make_design
    from aemodel.inference.forward import make_forward, risk_draws, thinned

    forward, draws = make_forward(make_design(shipped.tables)), thinned(shipped.idata["posterior"])
    risks = risk_draws(shipped.tables, forward, draws, shipped.settings["seed"])
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


def test_epred_dims(epred):
    assert epred.dims == DIMS


def test_epred_has_the_draws_of_the_saved_model(epred, shipped):
    assert (epred.sizes["chain"], epred.sizes["draw"]) == (
        shipped.risks.chains,
        len(shipped.risks.draws) // shipped.risks.chains,
    )


def test_epred_events_and_grades(epred, shipped):
    assert tuple(epred["event"].values) == shipped.risks.events
    assert tuple(epred["grade"].values) == shipped.risks.grades


def test_epred_patients_are_the_pandas_index(epred):
    assert list(epred["patient"].values) == ["ann", "bea", "cyd"]


def test_epred_patients_are_row_numbers_without_an_index(shipped):
    found = aemodel.posterior_epred(shipped, pl.DataFrame([KNOWN, KNOWN]))
    assert list(found["patient"].values) == [0, 1]


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_epred_patients_are_the_id_column(shipped, library):
    found = aemodel.posterior_epred(shipped, library([KNOWN | {"id": "p7"}, KNOWN | {"id": "p2"}]), id_column="id")
    assert list(found["patient"].values) == ["p7", "p2"]


def test_epred_does_not_depend_on_the_library(shipped, patients, epred):
    found = aemodel.posterior_epred(shipped, pl.from_pandas(patients.reset_index()), id_column="index")
    xr.testing.assert_identical(found, epred)


def test_epred_are_probabilities(epred):
    assert float(epred.min()) > 0
    assert float(epred.max()) < 1


def test_epred_support_coordinate(epred):
    assert epred["support"].dims == ("patient", "event", "grade")
    assert set(np.unique(epred["support"])) <= set(SUPPORT)


def test_order_of_patients_does_not_matter(shipped, patients, epred):
    found = aemodel.posterior_epred(shipped, patients.iloc[::-1])
    xr.testing.assert_identical(found.sel(patient=epred["patient"]), epred)


# Known, missing and partly known values.


def test_known_patient_has_the_risks_of_the_cell(shipped):
    cell = np.flatnonzero(cells_in(shipped, **{name: (value,) for name, value in KNOWN.items()}))
    assert len(cell) == 1
    np.testing.assert_allclose(draws_of(shipped, **KNOWN), shipped.risks.draws[:, cell[0]], atol=FLOAT32)


def test_raw_columns_give_the_risks_of_their_levels(shipped):
    raw = pd.DataFrame(
        [{"age": 19.4, "relapse_site": "bm", "months_to_relapse": 20, "sex": "female", "race_ethnicity": "hispanic"}]
    )
    levels = aemodel.posterior_epred(shipped, pd.DataFrame([KNOWN]))
    xr.testing.assert_identical(aemodel.posterior_epred(shipped, raw), levels)


def test_nothing_known_is_the_cohorts_average(shipped):
    np.testing.assert_allclose(draws_of(shipped), by_hand(shipped), atol=FLOAT32)


@pytest.mark.parametrize("missing", ["age_band", "relapse_group", "sex", "race_ethnicity"])
def test_missing_value_is_averaged_over_the_cohort_given_the_others(shipped, missing):
    known = {name: (value,) for name, value in KNOWN.items() if name != missing}
    np.testing.assert_allclose(draws_of(shipped, **(KNOWN | {missing: None})), by_hand(shipped, **known), atol=FLOAT32)


def test_relapse_site_without_months_is_averaged_over_timing(shipped):
    row = {"age_band": "1-9", "sex": "male", "race_ethnicity": "nh_white", "relapse_site": "iem", "months_to_relapse": None}
    found = aemodel.posterior_epred(shipped, pd.DataFrame([row]).astype({"months_to_relapse": float}))
    known = {
        "age_band": ("1-9",),
        "sex": ("male",),
        "race_ethnicity": ("nh_white",),
        "relapse_group": ("iem_early", "iem_late"),
    }
    np.testing.assert_allclose(found.values.reshape(-1, *found.shape[3:]), by_hand(shipped, **known), atol=FLOAT32)


def test_months_that_are_early_anywhere_leave_the_site_open(shipped):
    row = UNKNOWN | {"relapse_site": None, "months_to_relapse": 10.0}
    del row["relapse_group"]
    found = aemodel.posterior_epred(shipped, pd.DataFrame([row]))
    expected = by_hand(shipped, relapse_group=("bm_early", "iem_early"))
    np.testing.assert_allclose(found.values.reshape(-1, *found.shape[3:]), expected, atol=FLOAT32)


def test_one_covariate_known(shipped):
    np.testing.assert_allclose(draws_of(shipped, age_band="10-18"), by_hand(shipped, age_band=("10-18",)), atol=FLOAT32)


def test_weights_of_the_cohort_are_the_published_ones(shipped, aall1331_cells):
    inside = cells_in(shipped)
    np.testing.assert_allclose(shipped.risks.weight[inside], aall1331_cells.n, atol=1e-6)


# New levels.


def test_new_level_is_an_error_by_default(shipped):
    with pytest.raises(ValueError, match=r"race_ethnicity.*'martian'.*row 0.*hispanic.*new_levels"):
        aemodel.posterior_epred(shipped, frame({"race_ethnicity": "martian"}))


@pytest.mark.parametrize(("column", "value"), [("sex", "other"), ("age_band", "31-40"), ("relapse_group", "cns")])
def test_new_level_of_a_closed_covariate_is_always_an_error(shipped, column, value):
    with pytest.raises(ValueError, match=f"{column}.*'{value}'"):
        aemodel.posterior_epred(shipped, frame({column: value}), new_levels="sample")


@pytest.fixture(scope="module")
def new_level(shipped):
    return aemodel.posterior_epred(shipped, frame(KNOWN | {"race_ethnicity": "martian"}, KNOWN), new_levels="sample")


def test_patient_of_whom_only_a_new_level_is_known_is_flagged_prior(shipped):
    found = aemodel.posterior_epred(shipped, frame({"race_ethnicity": "martian"}), new_levels="sample")
    assert set(np.unique(found["support"])) == {"prior"}


def test_new_level_is_flagged_prior_whatever_else_is_known(new_level):
    assert set(np.unique(new_level["support"].isel(patient=0))) == {"prior"}


def test_sampling_new_levels_leaves_known_ones_alone(shipped, new_level):
    expected = aemodel.posterior_epred(shipped, frame(KNOWN)).isel(patient=0)
    np.testing.assert_array_equal(new_level.isel(patient=1), expected)


def test_new_level_is_wider_than_a_known_one(new_level):
    """On the log odds and over all events: a further level is drawn anew, and cannot lean on the sum to zero."""
    spread = np.log(new_level / (1 - new_level)).std(("chain", "draw")).mean(("event", "grade"))
    assert float(spread.isel(patient=0)) > float(spread.isel(patient=1))


def test_every_new_level_is_the_same(shipped):
    found = aemodel.posterior_epred(
        shipped, frame({"race_ethnicity": "martian"}, {"race_ethnicity": "venusian"}), new_levels="sample"
    )
    np.testing.assert_array_equal(found.isel(patient=0), found.isel(patient=1))


@pytest.mark.parametrize("wrong", ["yes", "Sample", None, True])
def test_unknown_treatment_of_new_levels_is_refused(shipped, wrong):
    with pytest.raises(ValueError, match="new_levels: expected one of error, sample"):
        aemodel.posterior_epred(shipped, frame({}), new_levels=wrong)


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
        ("gi_toxicity", "3-5", {"sex": "female"}, "data"),
        ("gi_toxicity", "3-5", {"age_band": "19-30"}, "pooled"),
        ("febrile_neutropenia", "3-5", {"age_band": "19-30"}, "pooled"),
        ("febrile_neutropenia", "4-5", {"age_band": "19-30"}, "prior"),
        ("febrile_neutropenia", "4-5", {}, "prior"),
        ("death", "4-5", {"age_band": "19-30"}, "data"),
    ],
)
def test_support_says_what_carries_an_answer(shipped, event, grade, row, expected):
    assert support(shipped, event, grade, **row) == expected


# posterior_predict.


def test_outcomes_have_the_dims_of_epred(outcomes, epred):
    assert outcomes.dims == DIMS
    for name in DIMS:
        assert outcomes.sizes[name] == epred.sizes[name]
    for name in ("patient", "event", "grade"):
        np.testing.assert_array_equal(outcomes[name], epred[name])


def test_outcomes_are_zero_or_one(outcomes):
    assert set(np.unique(outcomes)) == {0, 1}


def test_same_seed_same_outcomes(shipped, patients, outcomes):
    xr.testing.assert_identical(aemodel.posterior_predict(shipped, patients, seed=3), outcomes)


def test_other_seed_other_outcomes(shipped, patients, outcomes):
    assert not aemodel.posterior_predict(shipped, patients, seed=4).equals(outcomes)


def test_outcomes_do_not_use_the_global_generator(shipped, patients, outcomes):
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    aemodel.posterior_predict(shipped, patients, seed=3)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


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


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        ("sepsis", "infections"),
        ("infections", "infections_total"),
        ("febrile_neutropenia", "infections_total"),
        ("infections_total", "any_ae"),
        ("death", "any_ae"),
        ("oral_mucositis", "gi_toxicity"),
    ],
)
def test_no_simulated_patient_has_an_event_without_the_one_it_lies_in(outcomes, inner, outer):
    assert bool((outcomes.sel(event=inner) <= outcomes.sel(event=outer)).all())


def test_every_simulated_grade_4_is_also_grade_3(outcomes):
    assert bool((outcomes.sel(grade="4-5") <= outcomes.sel(grade="3-5")).all())


def test_infections_total_is_simulated_as_the_union(outcomes):
    one = outcomes.sel(grade="3-5")
    union = np.maximum(one.sel(event="infections").values, one.sel(event="febrile_neutropenia").values)
    np.testing.assert_array_equal(one.sel(event="infections_total"), union)


def test_everyone_who_dies_has_a_grade_4_to_5_event(outcomes):
    assert bool((outcomes.sel(event="death", grade="3-5") <= outcomes.sel(event="any_ae", grade="4-5")).all())


# risk_table.


def test_risk_table_columns(shipped, patients):
    found = aemodel.risk_table(shipped, patients)
    assert list(found.columns) == ["patient", "event", "grade", "risk", "lower", "upper", "support"]


def test_risk_table_has_a_row_per_patient_event_and_grade(shipped, patients, epred):
    found = aemodel.risk_table(shipped, patients)
    expected = [(p, e, g) for p in patients.index for e in shipped.risks.events for g in shipped.risks.grades]
    assert list(found[["patient", "event", "grade"]].itertuples(index=False, name=None)) == expected


@pytest.mark.parametrize("interval", [0.5, 0.9, 0.99])
def test_risk_table_has_the_mean_and_quantiles_of_epred(shipped, patients, epred, interval):
    found = aemodel.risk_table(shipped, patients, interval=interval)
    lower, upper = epred.quantile([(1 - interval) / 2, (1 + interval) / 2], dim=("chain", "draw"))
    for name, expected in (("risk", epred.mean(("chain", "draw"), dtype=float)), ("lower", lower), ("upper", upper)):
        np.testing.assert_allclose(found[name], expected.values.ravel(), atol=1e-6, err_msg=name)


def test_risk_table_has_the_support_of_epred(shipped, patients, epred):
    assert list(aemodel.risk_table(shipped, patients)["support"]) == list(epred["support"].values.ravel())


@pytest.mark.parametrize("wrong", [0, 1, -0.1, 90, "0.9", None, True, float("nan"), [0.05, 0.95]])
def test_interval_must_be_a_probability(shipped, patients, wrong):
    with pytest.raises(ValueError, match="interval: expected a probability between 0 and 1"):
        aemodel.risk_table(shipped, patients, interval=wrong)


def test_interval_may_be_a_numpy_number(shipped, patients):
    pd.testing.assert_frame_equal(
        aemodel.risk_table(shipped, patients, interval=np.float64(0.8)), aemodel.risk_table(shipped, patients, interval=0.8)
    )


# A fitted model answers as the loaded one does.


def test_fitted_and_loaded_models_have_the_same_risks(fitted, shipped, patients, epred):
    xr.testing.assert_allclose(aemodel.posterior_epred(fitted, patients), epred, rtol=0, atol=FLOAT32)


def test_fitted_and_loaded_models_flag_the_same_support(fitted, patients, epred):
    np.testing.assert_array_equal(aemodel.posterior_epred(fitted, patients)["support"], epred["support"])


def test_fitted_and_loaded_models_simulate_the_same_outcomes(fitted, patients, outcomes):
    xr.testing.assert_identical(aemodel.posterior_predict(fitted, patients, seed=3), outcomes)


def test_fitted_and_loaded_models_score_alike(fitted, shipped, patients):
    pd.testing.assert_frame_equal(aemodel.score(fitted, patients), aemodel.score(shipped, patients), rtol=0, atol=FLOAT32)


def test_calibration_is_that_of_binomials_mixed_over_the_draws(shipped):
    rows = shipped.tables.frequencies
    table = aemodel.calibration_table(shipped)
    columns = ["lower50", "upper50", "lower90", "upper90", "tail_probability"]
    # The smallest denominators and counts, and the largest.
    for i in {*rows["n"].argsort()[:4], *rows["observed"].argsort()[:4], rows["n"].argmax(), rows["observed"].argmax()}:
        expected = predictive_summary(rate_draws(shipped, rows.iloc[[i]])[:, 0], rows["n"][i], rows["observed"][i])
        np.testing.assert_allclose(table.loc[i, columns].to_numpy(float), expected, rtol=0, atol=1e-10)


def test_fitted_and_loaded_models_predict_the_same_rates(fitted, shipped):
    rows = shipped.tables.frequencies
    np.testing.assert_array_equal(rate_draws(fitted, rows), rate_draws(shipped, rows))


def test_state_probabilities_sum_to_the_risk_draws(shipped):
    """The two ways to a risk: the array that scores, and the joint states that outcomes come from."""
    from aemodel.answers.states import make_model_forward

    forward, draws, seed = make_model_forward(shipped)
    pairs = [(event, grade) for event in shipped.risks.events for grade in shipped.risks.grades]
    having = forward.events_having(pairs).astype(float)
    first = next(iter(forward.forward.states(draws, seed)))
    np.testing.assert_allclose((having @ first).T.reshape(shipped.risks.draws.shape[1:]), shipped.risks.draws[0], atol=FLOAT32)


@pytest.mark.parametrize("seed", [None, True, "a", 1.5])
def test_seed_that_is_none_is_refused(seed):
    patient = pd.DataFrame([{"age_band": None, "relapse_group": None, "sex": None, "race_ethnicity": None}])
    with pytest.raises(TypeError, match="seed: expected a whole number"):
        aemodel.posterior_predict(aemodel.load_model("aall1331"), patient, seed=seed)
