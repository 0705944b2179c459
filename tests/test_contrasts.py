"""Contrasts and the prior predictive check, against loops over cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import aemodel
from aemodel.inference.forward import KEPT_DRAWS, make_model_forward, risk_draws
from aemodel.scoring.risks import SUPPORT
from tests.reference import standardised

OLD, YOUNG = {"age_band": "19-30"}, {"age_band": "1-9"}


@pytest.fixture(scope="module")
def ages(shipped):
    return aemodel.contrast_table(shipped, OLD, YOUNG)


def cohort_were(risks, **levels):
    """Cohort risks (sample, event, grade) were everybody at some levels."""
    names = [c.name for c in risks.covariates]
    fixed = {names.index(name): risks.covariates[names.index(name)].names.index(level) for name, level in levels.items()}
    return standardised(risks, fixed)


def at(table, event, grade):
    return table[(table["event"] == event) & (table["grade"] == grade)].iloc[0]


# Contrasts.


@pytest.mark.parametrize(
    ("to", "reference"),
    [
        ({"age_band": "19-30"}, {"age_band": "1-9"}),
        ({"age_band": "19-30", "sex": "female"}, {"age_band": "10-18", "sex": "female"}),
        ({"race_ethnicity": "hispanic"}, {"race_ethnicity": "nh_white"}),
    ],
)
def test_contrast_is_that_of_loops(shipped, to, reference):
    table = aemodel.contrast_table(shipped, to, reference, interval=0.8)
    here, there = cohort_were(shipped.risks, **to), cohort_were(shipped.risks, **reference)
    i = shipped.risks.events.index("infections")
    here, there, row = here[:, i, 0], there[:, i, 0], at(table, "infections", "3-5")
    assert row["risk"] == pytest.approx(here.mean(), rel=1e-5)
    assert row["reference_risk"] == pytest.approx(there.mean(), rel=1e-5)
    assert row["difference"] == pytest.approx((here - there).mean(), abs=1e-6)
    ends = row[["difference_lower", "difference_upper"]].tolist()
    assert ends == pytest.approx(np.quantile(here - there, (0.1, 0.9)).tolist(), abs=1e-6)
    assert row["ratio"] == pytest.approx(np.exp(np.log(here / there).mean()), rel=1e-5)
    assert row[["ratio_lower", "ratio_upper"]].tolist() == pytest.approx(
        np.quantile(here / there, (0.1, 0.9)).tolist(), rel=1e-5
    )
    assert row["p_higher"] == pytest.approx((here > there).mean(), abs=0.002)


def test_contrast_has_a_row_for_each_event_and_grade_and_the_other_way_its_opposite(shipped, ages):
    assert list(ages[["event", "grade"]].itertuples(index=False, name=None)) == shipped.risks.pairs
    back = aemodel.contrast_table(shipped, YOUNG, OLD)
    np.testing.assert_allclose(back["difference"], -ages["difference"], atol=1e-12)
    np.testing.assert_allclose(back["difference_lower"], -ages["difference_upper"], atol=1e-12)
    np.testing.assert_allclose(back["ratio"], 1 / ages["ratio"])
    np.testing.assert_allclose(back["p_higher"], 1 - ages["p_higher"])


def test_contrasts_of_one_levels_chain_add_up(shipped, ages):
    steps = (
        aemodel.contrast_table(shipped, OLD, {"age_band": "10-18"}),
        aemodel.contrast_table(shipped, {"age_band": "10-18"}, YOUNG),
    )
    np.testing.assert_allclose(sum(step["difference"] for step in steps), ages["difference"], atol=1e-12)


def test_raw_columns_stand_for_their_level(shipped, ages):
    found = aemodel.contrast_table(shipped, {"age": 25}, {"age": 4})
    assert found.equals(ages)


def test_part_of_what_a_level_needs_keeps_several(shipped):
    """Marrow relapse against isolated extramedullary relapse, timing as in the cohort."""
    table = aemodel.contrast_table(shipped, {"relapse_site": "bm"}, {"relapse_site": "iem"})
    early, late = (
        aemodel.contrast_table(shipped, {"relapse_group": f"bm_{when}"}, {"relapse_group": "iem_late"})
        for when in ("early", "late")
    )
    lower, upper = np.minimum(early["risk"], late["risk"]), np.maximum(early["risk"], late["risk"])
    assert ((table["risk"] > lower) & (table["risk"] < upper)).all()


def test_support_is_that_of_the_weakest_change(shipped, ages):
    sexes = aemodel.contrast_table(shipped, {"sex": "female"}, {"sex": "male"})["support"]
    both = aemodel.contrast_table(shipped, OLD | {"sex": "female"}, YOUNG | {"sex": "male"})["support"]
    worst = np.maximum(*([SUPPORT.index(word) for word in words] for words in (ages["support"], sexes)))
    assert both.tolist() == [SUPPORT[i] for i in worst]
    # Both Hispanic: race/ethnicity is prior, but not what differs.
    same = {"race_ethnicity": "hispanic"}
    assert aemodel.contrast_table(shipped, OLD | same, YOUNG | same)["support"].tolist() == ages["support"].tolist()


def test_a_row_of_a_frame_says_what_a_mapping_says_whatever_else_it_has(shipped, ages):
    rows = pd.DataFrame([OLD | {"name": "A"}, YOUNG | {"name": "B"}])
    pd.testing.assert_frame_equal(aemodel.contrast_table(shipped, rows.iloc[0], rows.iloc[1]), ages)


@pytest.mark.parametrize(
    ("to", "reference", "error", "message"),
    [
        (
            OLD,
            {"sex": "male"},
            ValueError,
            r"to, reference: they must speak of the same covariates; found \['age_band'\] and \['sex'\]",
        ),
        ({}, {}, ValueError, "to, reference: they must speak of the same covariates"),
        (OLD, {}, ValueError, "to, reference: they must speak of the same covariates"),
        ({"sex": None}, {"sex": None}, ValueError, "to, reference: they must speak of the same covariates"),
        (OLD, OLD, ValueError, "to, reference: they are the same"),
        ({"age": 20}, {"age_band": "19-30"}, ValueError, "to, reference: they are the same"),
        ({"weight": 60}, OLD, ValueError, r"to: unknown columns \['weight'\]; choose from age, age_band"),
        (OLD, {"age_band": "90+"}, ValueError, "reference: .*age_band.*90"),
        ({"age": 45}, YOUNG, ValueError, "to: .*age.*45"),
        ("19-30", YOUNG, TypeError, "to: expected a mapping from columns to values, not str"),
        (OLD, None, TypeError, "reference: expected a mapping from columns to values, not NoneType"),
    ],
)
def test_wrong_comparison_is_refused(shipped, to, reference, error, message):
    with pytest.raises(error, match=message):
        aemodel.contrast_table(shipped, to, reference)


# The prior predictive check.


@pytest.fixture(scope="module")
def check(shipped):
    return aemodel.prior_predictive_table(shipped, interval=0.8)


@pytest.fixture(scope="module")
def prior(shipped):
    forward, _, seed = make_model_forward(shipped)
    return risk_draws(shipped.tables, forward, shipped.prior.isel(draw=slice(0, KEPT_DRAWS)), seed)


def test_check_has_a_row_for_each_event_grade_and_quantity(shipped, check):
    odds = [f"odds ratio {c.name}" for c in shipped.risks.covariates]
    assert list(dict.fromkeys(check["quantity"])) == ["cohort risk", "highest less lowest profile risk", *odds]
    assert len(check) == 11 * 2 * (2 + len(odds))


@pytest.mark.parametrize("when", ["prior", "posterior"])
def test_check_is_that_of_loops(shipped, check, prior, when):
    risks = prior if when == "prior" else shipped.risks
    i = risks.events.index("sepsis")
    usual = risks.levels[:, 3] < len(risks.covariates[3].levels)
    # Log odds are of probabilities that keep a little away from 0 and 1; some prior draws do not.
    old, young = (np.clip(cohort_were(risks, age_band=level)[:, i, 1], 1e-9, 1 - 1e-9) for level in ("19-30", "1-9"))
    expected = {
        "cohort risk": cohort_were(risks)[:, i, 1],
        "highest less lowest profile risk": np.ptp(risks.draws[:, usual, i, 1], axis=1),
        "odds ratio age_band": old / (1 - old) / (young / (1 - young)),
    }
    for quantity, draws in expected.items():
        row = at(check[check["quantity"] == quantity], "sepsis", "4-5")
        found = row[[f"{when}_median", f"{when}_lower", f"{when}_upper"]].tolist()
        assert found == pytest.approx(np.quantile(draws, (0.5, 0.1, 0.9)).tolist(), rel=1e-4)


def test_published_rates_stand_beside_cohort_risks_only(shipped, check):
    cohort = check["quantity"] == "cohort risk"
    assert at(check[cohort], "sepsis", "3-5")["published"] == pytest.approx(67 / 661)
    assert check.loc[~cohort, "published"].isna().all()
    missing = check[cohort & check["published"].isna()]
    assert missing[["event", "grade"]].values.tolist() == [["febrile_neutropenia", "4-5"]]
