"""Slopes to be expected: the list a paper would print, and a right model's slopes inside what it expects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency

import aemodel
from aemodel.answers import expected
from aemodel.answers.calibration import slope_verdicts, slope_words
from aemodel.inference.design import make_design
from aemodel.inference.integer_tables import sample_tables
from aemodel.inference.simulated import all_frequencies, pair_tests, print_list, publish, simulate_states
from aemodel.pages import report_tables
from aemodel.publication.words import words_of


@pytest.fixture(scope="module")
def simulated(aall1331):
    """AALL1331 with other patients, everybody at the same risk in each family: all frequencies, and the tests."""
    tests = pair_tests(aall1331)
    tables = all_frequencies(aall1331, tests)
    design = make_design(tables)
    states = sum(len(family.grades) for family in design.families)
    p = np.full((states, len(design.cells.n)), 1.0)
    table = sample_tables(tables, 1, seed=1)[0]
    return publish(tables, design, simulate_states(design, p, table, np.random.default_rng(2))), tests, design


def test_every_pair_of_listed_events_was_tested(aall1331):
    pairs = {(test.event, test.covariate) for test in pair_tests(aall1331)}
    unlisted = {(null.event, null.covariate) for null in aall1331.nulls}
    rows = aall1331.frequencies[~aall1331.frequencies["derived"]]
    events = {null.event for null in aall1331.nulls}
    printed = set(zip(rows["event"], rows["covariate"], strict=True)) - {(event, "total") for event in events}
    assert pairs == unlisted | {pair for pair in printed if pair[0] in events}


def test_simulated_patients_are_counted_once_a_family(simulated):
    tables, _, _ = simulated
    levels = [level for covariate in tables.covariates for level in covariate.names]
    rows = tables.frequencies[tables.frequencies["level"].isin(levels)]
    totals = tables.frequencies[tables.frequencies["covariate"] == "total"].set_index(["event", "grade"])["observed"]
    for pair, observed in rows.groupby(["event", "grade", "covariate"])["observed"].sum().items():
        if pair[:2] in totals.index:
            assert observed == totals[pair[:2]]
    assert (tables.frequencies["observed_low"] == tables.frequencies["observed"]).all()


def test_a_pair_is_printed_if_a_test_of_it_is_significant(simulated):
    tables, tests, _ = simulated
    printed, left, smallest = print_list(tables, tests)
    rows = tables.frequencies.set_index(["event", "grade", "covariate", "level"])
    for (event, covariate), p in smallest.items():
        mine = [test for test in tests if (test.event, test.covariate) == (event, covariate)]
        values = []
        for test in mine:
            counts = rows.loc[[(event, test.grade, covariate, level) for level in test.levels], ["observed", "n"]].to_numpy()
            merged = [np.array([counts[list(group)].sum(axis=0) for group in test.groups])] if test.groups else []
            for each in (counts, *merged):
                table = np.column_stack([each[:, 0], each[:, 1] - each[:, 0]])
                values += [chi2_contingency(table, correction=False).pvalue] if table.sum(axis=0).all() else []
        assert p == pytest.approx(min(values, default=1.0))
        used = printed.frequencies.query("event == @event and covariate == @covariate and not derived")
        assert bool(len(used)) == (p < 0.05)
        assert any((null.event, null.covariate) == (event, covariate) for null in left) <= (p >= 0.05)
    assert 0 < sum(p < 0.05 for p in smallest.values()) < len(smallest)


def test_words_say_whether_the_slope_is_to_be_expected(shipped):
    slopes = aemodel.calibration_slopes(shipped, seed=1, replicates=20)
    assert "expected" not in slope_words(slopes)
    inside = slopes.assign(expected_lower=slopes["slope"] - 0.1, expected_upper=slopes["slope"] + 0.1)
    assert slope_words(inside).endswith(": inside.")
    outside = inside.assign(expected_upper=inside["slope"] - 0.01)
    outside.attrs.clear()
    assert slope_words(outside).endswith(": outside.")
    near = "too near an end to tell from 100 simulations"
    # Of normal slopes with standard deviation .1 / 1.64 the end's standard error is .0129 by 100 refits.
    for beyond, said in ((-0.03, "inside"), (-0.02, near), (0.02, near), (0.03, "outside")):
        found = slopes.assign(expected_lower=slopes["slope"] - beyond - 0.2, expected_upper=slopes["slope"] - beyond)
        found.attrs["refits"] = 100
        assert {*slope_verdicts(found[found["slope"].notna()])} == {said}
    mixed = found.assign(expected_upper=found["expected_upper"] + [0.2 * (grade == "4-5") for grade in found["grade"]])
    assert slope_words(mixed).endswith(": outside for Grade 3-5; inside for Grade 4-5.")
    one = mixed.assign(expected_lower=mixed["expected_lower"].where(mixed["grade"] == "4-5"))
    assert "nan" not in slope_words(one)
    assert slope_words(one).endswith(" for Grade 4-5: inside.")
    told, other = (row["90 % of right models"] for row in report_tables.slopes(one, words_of(shipped)))
    assert told == "not worked out"
    assert other.endswith(": inside")


@pytest.mark.slow
@pytest.mark.xdist_group("compile")
def test_expected_slopes_are_recorded_and_of_the_size_of_selection(invented, monkeypatch, tmp_path):
    """Above 1 in the middle, as of any hierarchical model on the rows it was fitted to; carried by the saved model."""
    monkeypatch.setattr(expected, "SHORT", {"draws": 100, "tune": 150, "chains": 2})
    with pytest.warns(UserWarning, match="diagnostics"):
        model = aemodel.fit(invented, seed=1, draws=100, chains=2, tune=150, attempts=1)
    with pytest.raises(ValueError, match="refits"):
        aemodel.expected_slopes(model, seed=1, refits=3)
    found = aemodel.expected_slopes(model, seed=1, refits=20)
    record = found.settings["expected_slopes"]
    assert set(record["central90"]) == {"3-5", "4-5"}
    for grade, (lower, upper) in record["central90"].items():
        assert 0.5 < lower < record["median"][grade] < upper
        assert record["median"][grade] > 0.9
    table = aemodel.calibration_slopes(aemodel.load_model(aemodel.save_model(found, tmp_path / "model").folder), seed=1)
    assert table["expected_lower"].notna().tolist() == [False] * (len(table) - 2) + [True] * 2
