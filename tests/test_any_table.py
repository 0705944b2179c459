"""What papers print beside one-way tables of counts: intervals, own denominators, two covariates at once, cutoffs, grades."""

from __future__ import annotations

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from scipy.stats import binom, multinomial

import aemodel
from aemodel.answers.calibration import coverage
from aemodel.cli import main
from aemodel.inference import pieces
from aemodel.inference.design import all_margins, family_averages, make_design
from aemodel.inference.information import level_variances
from aemodel.inference.intervals import pack
from aemodel.inference.own_patients import make_own_profiles
from aemodel.inference.posterior import make_density
from aemodel.inference.record import evidence_words
from aemodel.inference.saddlepoint import joint_loglik
from aemodel.inference.selection import chi_square_tests
from aemodel.publication.cells import make_cells
from aemodel.publication.outcomes import read_states
from aemodel.publication.summary import cutoff_lines, frequency_lines, interval_lines
from aemodel.publication.tables import read_tables
from tests.publications import NO_TESTS
from tests.reference import difference_quotient, enumerate_margin_logprob
from tests.reports import drawn_model

ABOUT = """name = "trial"
title = "An invented trial"
citation = "Nobody."
patients = 40
{more}
[[covariates]]
name = "arm"
label = "Arm"
levels = [{{ name = "a", label = "A" }}, {{ name = "b", label = "B" }}]
[[covariates]]
name = "age"
label = "Age"
levels = [{{ name = "young", label = "Young" }}, {{ name = "60+", label = "60 or more" }}{unknown}]
"""
CELLS = {("a", "young"): 11, ("a", "60+"): 9, ("b", "young"): 8, ("b", "60+"): 12}
COHORT = "covariate,level,n\n" + "".join(f"arm*age,{arm}*{age},{n}\n" for (arm, age), n in CELLS.items())


def trial(rows, events="rash,Rash,,,3-5 4-5,all", *, more="", cohort=COHORT, unknown=""):
    """A publication of 40 patients, its rows written as event, grade, covariate, level, n, printed."""
    return read_tables(
        {
            "publication.toml": ABOUT.format(more=more, unknown=unknown),
            "events.csv": f"event,label,parent,relation,grades,assessed\n{events}\n",
            "frequencies.csv": "event,grade,covariate,level,n,printed,unit\n" + "".join(f"{row},count\n" for row in rows),
            "cohort.csv": cohort,
        }
        | NO_TESTS
    )


def loglik(tables, p):
    """Log likelihood of one family's rows at the same state probabilities (cell, state) in each draw, (draw,)."""
    design = make_design(tables)
    (margins,) = all_margins(design, tables.frequencies)
    average, packed = family_averages(design, [margins])[0], pack([margins.margins])
    return np.array([joint_loglik(np.log(average @ q).ravel(), *packed)[0][0] for q in p])


def draws(shape, spread=0.7, number=8):
    logits = np.random.default_rng(3).normal(0, spread, (number, *shape)) - np.arange(shape[-1])
    return np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)


@pytest.mark.slow
def test_intervals_of_rows_are_summed_over():
    """Of 20 in arm a fewer than 5 had it, in b 6 to 8: each arm by itself a binomial."""
    tables = trial(["rash,3-5,arm,a,20,<5", "rash,3-5,arm,b,20,6-8"], "rash,Rash,,,3-5,all")
    assert tables.frequencies["observed"].isna().tolist()[:2] == [True, True]
    p = draws((4, 2))
    p[:, 1], p[:, 3] = p[:, 0], p[:, 2]
    exact = [
        np.log(binom.cdf(4, 20, q[0, 1]) - binom.cdf(0, 20, q[0, 1]))
        + np.log(binom.cdf(8, 20, q[2, 1]) - binom.cdf(5, 20, q[2, 1]))
        for q in p
    ]
    np.testing.assert_allclose(loglik(tables, p), exact, atol=0.02)


def test_table_by_two_covariates_is_its_cells():
    counts = {("a", "young"): (3, 1), ("a", "60+"): (4, 2), ("b", "young"): (5, 2), ("b", "60+"): (7, 3)}
    rows = [
        f"rash,{g},arm*age,{'*'.join(cell)},{CELLS[cell]},{count}"
        for cell, both in counts.items()
        for g, count in zip(("3-5", "4-5"), both, strict=True)
    ]
    tables = trial(rows)
    p = draws((4, 3))
    exact = [
        sum(multinomial.logpmf([CELLS[c] - x, x - y, y], CELLS[c], q[i]) for i, (c, (x, y)) in enumerate(counts.items()))
        for q in p
    ]
    assert np.ptp(loglik(tables, p) - exact) < 1e-9
    assert [term.name for term in make_design(tables).terms] == ["arm", "age", "age*arm"]


@pytest.mark.parametrize(("a", "b"), [(17, 15), (20, 15), (20, 20)])
def test_own_denominators_are_those_assessed_and_the_rest_counts_elsewhere(a, b):
    """Of 20 patients in each arm so many were assessed, or all; any toxicity, in which it lies, is counted in all."""
    events = "any,Any,,,3-5,all\nnerve,Nerve,any,nested,3-5,own"
    rows = ["any,3-5,arm,a,20,9", "any,3-5,arm,b,20,12", f"nerve,3-5,arm,a,{a},4", f"nerve,3-5,arm,b,{b},5"]
    tables = trial(rows, events)
    totals = {row.event: (row.n, row.observed_low, row.derived) for row in tables.rows if row.covariate == "total"}
    assert totals == {"any": (40, 21, True), "nerve": (a + b, 9, True)}
    design = make_design(tables)
    (margins,) = all_margins(design, tables.frequencies)
    np.testing.assert_allclose(margins.margins.n, [a, b, 20 - a, 20 - b], atol=1e-6)
    having, p = [design.families[0].having(name, "3-5") for name in ("any", "nerve")], draws((2, 3), number=8)
    incidence = np.zeros((4, 3, 4))
    for place, (cells, states) in enumerate(
        (c, s) for s, c in zip([having[0]] * 2 + [having[1]] * 2, [[0, 2], [1, 3], [0], [1]], strict=True)
    ):
        incidence[np.ix_(cells, np.flatnonzero(states), [place])] = 1
    exact = enumerate_margin_logprob(np.concatenate([p, p], axis=1), [a, b, 20 - a, 20 - b], incidence, [9, 12, 4, 5])
    assert np.ptp(loglik(tables, np.repeat(p, 2, axis=1)) - exact) < 0.02


def test_fewer_assessed_tell_less():
    """By how much effects' variances fall with all rows, at the same rates of 8 and of 20 assessed in each arm."""
    left = []
    for n, k in ((8, 2), (20, 5)):
        tables = trial([f"rash,3-5,arm,{arm},{n},{k}" for arm in "ab"], "rash,Rash,,,3-5,own")
        design = make_design(tables)
        density = make_density(design, all_margins(design, tables.frequencies))
        none, _, everything = level_variances(tables, design, density.prior(40, 1))[..., 0, 0]
        left.append(np.trace(everything) / np.trace(none))
    assert left[1] < left[0] - 0.05


def test_more_assessed_than_there_are_is_named():
    tables = trial(["rash,3-5,arm,a,21,4"], "rash,Rash,,,3-5,own")
    with pytest.raises(ValueError, match="21 patients were assessed at arm a, where the cohort has 20; correct n there"):
        all_margins(make_design(tables), tables.frequencies)


CUT = '[[cutoffs]]\nbelow = 20\nrule = "{rule}"\nevents = [{events}]\ngrade = "3-5"\ncovariate = "arm"\n'


def test_absent_rows_lie_below_a_cutoff():
    """Printed only from 20 % on: arm b, of 20, had 0 to 3."""
    tables = trial(["rash,3-5,arm,a,20,9"], "rash,Rash,,,3-5,all", more=CUT.format(rule="every", events='"rash"'))
    p = draws((4, 2))
    p[:, 1], p[:, 3] = p[:, 0], p[:, 2]
    exact = [binom.logpmf(9, 20, q[0, 1]) + np.log(binom.cdf(3, 20, q[2, 1])) for q in p]
    assert np.ptp(loglik(tables, p) - exact) < 0.02


@pytest.mark.parametrize("absent", [True, False])
def test_listed_events_are_truncated_unless_absent_ones_are_declared(absent):
    rows = ["rash,3-5,arm,a,20,9", "rash,3-5,arm,b,20,2"]
    events = "rash,Rash,,,3-5,all" + ("\nitch,Itch,,,3-5,all" if absent else "")
    tables = trial(rows, events, more=CUT.format(rule="any_level", events='"rash"' + (', "itch"' if absent else "")))
    design = make_design(tables)
    margins = all_margins(design, tables.frequencies)
    assert [len(each.margins.listed) for each in margins] == ([0, 0] if absent else [1])
    p = draws((2, 2))
    found = [
        joint_loglik(np.log(np.concatenate([q.ravel()] * len(margins))), *pack([m.margins for m in margins]))[0].sum()
        for q in p
    ]
    packed = pack([m.margins for m in margins])
    assert difference_error(np.log(np.concatenate([p[0].ravel()] * len(margins))), packed) < 1e-6
    below = np.array([np.log(binom.cdf(3, 20, q[0, 1])) + np.log(binom.cdf(3, 20, q[1, 1])) for q in p])
    exact = np.array([binom.logpmf(9, 20, q[0, 1]) + binom.logpmf(2, 20, q[1, 1]) for q in p])
    exact = exact + below if absent else exact - np.log1p(-np.exp(below))
    assert np.ptp(found - exact) < 0.03


def test_an_event_that_is_listed_against_all_odds_has_a_likelihood():
    """Where the chance to be listed is far below what 1 less it can tell, counts given it still have one."""
    rows = ["rash,3-5,arm,a,20,9", "rash,3-5,arm,b,20,2"]
    tables = trial(rows, "rash,Rash,,,3-5,all", more=CUT.format(rule="any_level", events='"rash"'))
    rare = np.array([1e-4, 1e-6, 1e-9, 1e-20])
    p = np.stack([np.stack([1 - rare, rare], axis=1), np.stack([1 - 3 * rare, 3 * rare], axis=1)], axis=1)
    found = loglik(tables, np.repeat(p, 2, axis=1))
    listed = [np.logaddexp(binom.logsf(3, 20, q), binom.logsf(3, 20, 3 * q)) for q in rare]  # hardly ever both
    exact = binom.logpmf(9, 20, rare) + binom.logpmf(2, 20, 3 * rare) - listed
    assert np.ptp(found - exact) < 0.03


@pytest.mark.parametrize(
    ("rule", "rows", "said"),
    [
        ("every", ["rash,3-5,arm,a,20,9"], "(censored): rash 3-5 arm b (0-3 of 20)"),
        (
            "any_level",
            ["rash,3-5,arm,a,20,9", "rash,3-5,arm,b,20,2"],
            "rash 3-5 by arm; nearest to it: rash 3-5 arm a, 9 of 20 (45.0%)",
        ),
        ("every", ["rash,3-5,arm,a,20,9", "rash,3-5,arm,b,20,7"], "nothing is absent, so that it tells nothing"),
    ],
)
def test_what_a_cutoff_selects_and_leaves_out_is_said(rule, rows, said):
    tables = trial(rows, "rash,Rash,,,3-5,all", more=CUT.format(rule=rule, events='"rash"'))
    (line,) = cutoff_lines(tables)
    assert line.startswith(f"cutoffs[1], below 20 percent, {rule}: ")
    assert line.endswith(said)
    assert interval_lines(tables) == []


def test_a_total_that_is_the_sum_of_levels_is_not_below_a_cutoff():
    tables = trial(BY_ARM, "rash,Rash,,,3-5,all", more=CUT.format(rule="every", events="").replace('"arm"', '"total"'))
    assert [row.observed for row in tables.rows if row.level == "all"] == [15]
    assert cutoff_lines(tables) == ["cutoffs[1], below 20 percent, every: nothing is absent, so that it tells nothing"]


@pytest.mark.parametrize(("rule", "said"), [("every", "b lies below it"), ("any_level", "none of its levels reaches it")])
def test_what_is_in_the_table_against_a_cutoff_is_refused(rule, said):
    rows = [f"rash,3-5,arm,a,20,{9 if rule == 'every' else 3}", "rash,3-5,arm,b,20,2"]
    with pytest.raises(aemodel.PublicationError, match=rf"cutoffs\[1\]: rash 3-5 by arm is in the table, though {said}; name"):
        trial(rows, "rash,Rash,,,3-5,all", more=CUT.format(rule=rule, events='"rash"'))


TWO = CUT.format(rule="any_level", events='"rash"') + CUT.format(rule="any_level", events='"rash"').replace("3-5", "4-5")


@pytest.mark.parametrize(
    ("more", "below"),
    [(TWO, 3), (TWO.replace("below = 20", "below = 10", 1), 1), (TWO[: len(TWO) // 2].replace('grade = "3-5"\n', ""), 3)],
    ids=["two grades", "two frequencies", "no grade named"],
)
def test_cutoffs_of_which_one_is_enough_are_not_taken_as_each_reached(more, below):
    rows = [f"rash,{grade},arm,{arm},20,{n}" for grade, n in (("3-5", 9), ("4-5", 5)) for arm in "ab"]
    with pytest.raises(aemodel.PublicationError, match=r"cutoffs: rash: of cutoffs .*one was enough; keep the one that most"):
        trial(rows, more=more)
    both = more.replace('"rash"', '"rash", "itch"')  # the list is whole: who is not on it lies below each
    absent = trial(rows, "rash,Rash,,,3-5 4-5,all\nitch,Itch,,,3-5 4-5,all", more=both)
    assert not absent.unseen
    ends = {(row.grade, row.observed_low, row.observed_high) for row in absent.rows if row.event == "itch" and not row.derived}
    assert ends == {("3-5", 0, below), ("4-5", 0, 3)}


def test_rows_that_are_intervals_are_said(tmp_path):
    more = '[columns]\nyears = "age"\nsite = "where"\n'
    tables = trial(["rash,3-5,arm,a,20,<5", "rash,3-5,arm,b,20,9"], "rash,Rash,,,3-5,all", more=more)
    assert interval_lines(tables) == ["line 2, rash 3-5 arm a: printed <5, 1-4 of 20"]
    for name, text in tables.texts.items():
        (tmp_path / name).write_text(text)
    said = CliRunner().invoke(main, ["tables", str(tmp_path)]).stdout
    assert (
        "Rows that are intervals:\n  - line 2, rash 3-5 arm a: printed <5, 1-4 of 20\nNo event is counted by age: risks by it rest "
        "on assumptions.\nOf [columns], site, years is in no level's when: patients are not told apart by it.\n" in said
    )


def test_columns_of_grades_stand_outermost_first():
    more, rows = '[[grades]]\nname = "any"\n[[grades]]\nname = "3-4"\n', ["rash,1-2,total,all,40,9", "rash,3-4,total,all,40,4"]
    (line,) = frequency_lines(trial(rows, "rash,Rash,,,1-2 3-4,all", more=more))
    assert [*line][4:] == ["grade any", "grade 1-2", "grade 3-4"]


def test_intervals_that_are_too_many_together_are_told(monkeypatch):
    monkeypatch.setattr(pieces, "MOST_POINTS", 1)
    tables = trial(["rash,3-5,arm,a,20,1-6", "rash,3-5,age,young,19,1-6"], "rash,Rash,,,3-5,all")
    with pytest.warns(
        UserWarning, match="2 counts that are intervals .*: rash 3-5 age young, rash 3-5 arm a are taken as a whole"
    ):
        loglik(tables, draws((4, 2)))


def difference_error(logp, packed):
    gradient = joint_loglik(logp, *packed)[1]
    numeric = difference_quotient(lambda at: joint_loglik(at, *packed)[0].sum(), logp)
    return np.abs(gradient - numeric).max() / np.abs(gradient).max()


GRADES = (
    '[[grades]]\nname = "any"\nshort = "any"\n[[grades]]\nname = "3-5"\nshort = "g3"\n[[grades]]\nname = "4-5"\nshort = "g4"\n'
)


@pytest.mark.parametrize(
    ("more", "grades", "rows", "answered"),
    [
        ("", "3-5", ["rash,3-5,arm,a,20,6", "rash,3-5,arm,b,20,9"], ("3-5",)),
        ("", "3 4 5", ["rash,3,total,all,40,9", "rash,4,total,all,40,5", "rash,5,total,all,40,1"], ("3-5", "4-5")),
        ("", "3-5 5", ["rash,3-5,arm,a,20,6", "rash,3-5,arm,b,20,9", "rash,5,total,all,40,1"], ("3-5",)),
        (GRADES, "any 3-5", ["rash,any,arm,a,20,16", "rash,any,arm,b,20,9", "rash,3-5,total,all,40,4"], ("any", "3-5")),
        (
            '[[grades]]\nname = "any"\n[[grades]]\nname = "3-4"\n',
            "1-2 3-4",
            ["rash,1-2,arm,a,20,9", "rash,1-2,arm,b,20,4", "rash,3-4,arm,a,20,6", "rash,3-4,arm,b,20,9"],
            ("any", "3-4"),
        ),
        ("", "3-5 4-5", ["rash,3-5,arm,a,20,6", "rash,3-5,arm,b,20,9"], ("3-5", "4-5")),
        (GRADES, "1-2 3-5", ["rash,1-2,arm,a,20,9", "rash,1-2,arm,b,20,4", "rash,3-5,total,all,40,4"], ("any", "3-5")),
    ],
    ids=[
        "one class",
        "single grades",
        "deaths of an ordinary event",
        "any grade",
        "grade 3 or 4",
        "a class without rows",
        "a range",
    ],
)
def test_grades_that_a_publication_has_are_answered_checked_calibrated_and_saved(more, grades, rows, answered, tmp_path):
    tables = trial(rows, f"rash,Rash,,,{grades},all", more=more)
    assert tables.grades == answered
    model = drawn_model(tables.texts, ordering=None, selection=False)
    assert model.risks.grades == answered
    risks = model.risks.draws[:, :, 0]
    assert (np.diff(risks, axis=-1) <= 1e-6).all()
    table = aemodel.calibration_table(model)
    assert (table["expected"] == table["predicted"] * table["n"]).all()
    assert 0 <= coverage(table)["within90"] <= 1
    assert set(aemodel.calibration_slopes(model, seed=1, replicates=20)["grade"]) <= set(answered)
    aemodel.save_model(model, tmp_path / "model")
    assert aemodel.load_model(tmp_path / "model").risks.grades == answered


def test_columns_have_the_short_names_of_declared_grades_and_deaths_are_counted_not_answered():
    more = GRADES.replace('short = "any"', 'short = "all"') + '[[grades]]\nname = "5"\nanswered = false\n'
    rows = ["rash,any,total,all,40,19", "rash,3-5,total,all,40,9", "rash,5,total,all,40,1"]
    tables = trial(rows, "rash,Rash,,,any 3-5 5,all", more=more)
    model = drawn_model(tables.texts, ordering=None, selection=False)
    scored = aemodel.score(model, pd.DataFrame({"arm": ["a"], "age": ["young"]}))
    named = [f"rash_{grade}_{what}" for grade in ("all", "g3") for what in ("risk", "lower", "upper")]
    assert list(scored.columns)[2:] == [*named, "rash_support"]
    with pytest.raises(aemodel.PublicationError, match=r"'g3' is given twice; give one of these grades another: short ="):
        trial(rows, "rash,Rash,,,any 3-5 5,all", more=GRADES.replace('short = "g4"', 'short = "g3"'))


def test_calibration_of_intervals_has_their_ends():
    model = drawn_model(trial(["rash,3-5,arm,a,20,<5", "rash,3-5,arm,b,20,9"], "rash,Rash,,,3-5,all").texts)
    table = aemodel.calibration_table(model).set_index("level")
    assert table.loc["a", ["observed_low", "observed_high"]].tolist() == [1, 4]
    assert table["observed"].isna().tolist() == [True, False, True]
    assert table.loc["b", "observed"] == 9


# Levels of whom it is not known, or with nobody in them.

NOT_TOLD = {
    "cohort": "covariate,level,n\narm,a,20\narm,b,20\nage,young,27\nage,60+,10\nage,not told,3\n",
    "unknown": ', { name = "not told", label = "Not told", unknown = true }',
}
UNLISTED = '[[nulls]]\nunlisted = true\nevents = ["rash"]\n'
BY_ARM = ["rash,3-5,arm,a,20,6", "rash,3-5,arm,b,20,9"]


def test_those_of_whom_it_is_not_known_have_the_average_of_the_others_effects():
    tables = trial(["rash,3-5,age,young,27,4", "rash,3-5,age,not told,3,1"], **NOT_TOLD)
    design = make_design(tables)
    matrix = design.matrix[:, [design.terms[t].covariate == "age" for t in design.term_of]]
    young, old, unknown = (matrix[design.cells.having("age", level)][0] for level in ("young", "60+", "not told"))
    np.testing.assert_allclose(unknown, (27 * young + 10 * old) / 37)
    assert (young != old).all()


def test_a_new_patient_of_whom_it_is_not_known_is_one_of_those_of_whom_it_is():
    rules = trial(BY_ARM, **NOT_TOLD).texts["publication.toml"]
    for level, rule in (("Young", "min = 18, below = 60"), ("60 or more", "min = 60, below = 120")):
        rules = rules.replace(f'label = "{level}"', f'label = "{level}", when = {{ years = {{ {rule} }} }}')
    model = drawn_model(trial(BY_ARM, **NOT_TOLD).texts | {"publication.toml": rules})
    named = {age: aemodel.posterior_epred(model, pd.DataFrame({"arm": ["a"], "age": [age]})) for age in ("young", "60+")}
    either = (27 * named["young"] + 10 * named["60+"]) / 37
    for known in ({"age": ["not told"]}, {"age": [None]}, {"years": [None]}):
        found = aemodel.posterior_epred(model, pd.DataFrame({"arm": ["a"]} | known))
        np.testing.assert_allclose(found, either, rtol=1e-5)
    np.testing.assert_array_equal(aemodel.posterior_epred(model, pd.DataFrame({"arm": ["a"], "years": [45]})), named["young"])
    with pytest.raises(aemodel.PatientsError, match="impossible value 500"):
        aemodel.score(model, pd.DataFrame({"arm": ["a"], "years": [500]}))
    profiles = aemodel.profile_table(model, ["age"]).query("grade == '3-5'").set_index("age")["risk"]
    assert profiles["not told"] == pytest.approx((27 * profiles["young"] + 10 * profiles["60+"]) / 37, rel=1e-5)
    summary = aemodel.score_summary(model, pd.DataFrame({"arm": ["a"] * 37, "age": ["young"] * 27 + ["60+"] * 10}))
    assert summary["drift"]["age"] == pytest.approx(0, abs=1e-9)


def test_own_patients_of_whom_it_is_not_known_are_in_the_cohort_at_the_unknown_level():
    tables = trial(BY_ARM, "rash,Rash,,,3-5,all", **NOT_TOLD)
    frame = pd.DataFrame({"arm": ["a", "a"], "age": ["young", None], "rash": [3, 0]})
    design = make_design(tables)
    left = make_own_profiles(tables, design, frame, "subset").others[0].cells
    assert [left.n[left.having("age", level)].sum() for level in ("young", "60+", "not told")] == pytest.approx([26, 10, 2])
    with pytest.raises(aemodel.PatientsError, match="4 of them are in 'age not told', where cohort.csv counts 3"):
        make_own_profiles(tables, design, frame.loc[[1] * 4], "subset")


def test_tests_between_levels_are_between_those_with_somebody_of_whom_it_is_known():
    empty = ABOUT.replace("{unknown}", ', {{ name = "90+", label = "90 or more" }}{unknown}').format(
        more=UNLISTED, unknown=NOT_TOLD["unknown"]
    )
    texts = trial(BY_ARM, **NOT_TOLD).texts
    texts |= {"publication.toml": empty, "cohort.csv": NOT_TOLD["cohort"] + "age,90+,0\n"}
    model = drawn_model(texts)
    assert {null.levels for null in model.tables.nulls} == {("young", "60+")}
    assert all(np.isfinite(part).all() for part in chi_square_tests(make_design(model.tables), model.tables.nulls)[1])
    scored = aemodel.score(model, pd.DataFrame({"arm": ["a"], "age": ["90+"]}))
    assert 0 < scored["rash_g3_risk"].item() < 1
    assert scored["rash_support"].item() == "prior"
    for table in (aemodel.calibration_table, aemodel.identification_table, aemodel.odds_ratio_table, aemodel.selection_table):
        assert not table(model).select_dtypes("number").drop(columns="observed", errors="ignore").isna().any(axis=None)


@pytest.mark.parametrize("options", [{}, NOT_TOLD], ids=["a class without rows", "an unknown level"])
def test_pages_are_written(options, tmp_path):
    model = drawn_model(trial(BY_ARM, **options).texts)
    aemodel.write_report(model, tmp_path / "report.html", tables=2)
    aemodel.write_calculator(model, tmp_path / "calculator.html")
    assert ("Not told" in (tmp_path / "calculator.html").read_text()) == bool(options)


def test_card_and_report_tell_of_cutoffs_and_of_covariates_counted_together(tmp_path):
    rows = [f"rash,3-5,arm*age,{arm}*{age},{n},{n // 3}" for (arm, age), n in CELLS.items()]
    cut = '[[cutoffs]]\nbelow = 20\nrule = "any_level"\ncovariate = "arm"\n'
    for tables, crossed in [(trial(rows), True), (trial(BY_ARM, "rash,Rash,,,3-5,all", more=cut), False)]:
        model = drawn_model(tables.texts, ordering=None, selection=False)
        aemodel.save_model(model, tmp_path / f"{crossed}")
        card = " ".join((tmp_path / f"{crossed}" / "card.md").read_text().split())
        assert ("interactions of covariates but those counted together" in card) is crossed
        assert ("with effects of both together for those counted together (`arm*age`)" in card) is crossed
        report = aemodel.write_report(model, tmp_path / "report.html", tables=0).read_text()
        assert ("effects of arm*age, of both together, are not in these sums" in report) is crossed
        assert ("beside the margins: cutoffs of what was printed." in evidence_words(model.settings, tables)) is not crossed


PARTLY = "covariate,level,n\narm,a,20\narm,b,20\nage,young,17\nage,60+,20\n"


ANY_AND_3_4 = '[[grades]]\nname = "any"\n[[grades]]\nname = "3-4"\n'
LEFT_OPEN = [
    ({"cohort": PARTLY}, BY_ARM,
     "cohort.csv: the levels of age hold 37 patients, the cohort 40 .*; if it is not known of the others, give them a level with unknown = true"),
    ({}, ["rash,3-5,arm,a,17,6", "rash,3-5,arm,b,15,9"],
     "frequencies.csv, line 2, rash 3-5: the levels of arm hold 32 patients, .*; if only these were assessed for it, set assessed = own"),
    ({"events": "rash,Rash,,,3-5,"}, BY_ARM,
     r"line 2: assessed must be all \(of all patients\) or own \(of those assessed, n being .*\); found ''; no row may leave"),
    ({}, ["rash,3-5,arm,a,17,6"], "line 2: arm a is given over 17 patients, .* has 20 there; if only these were assessed"),
    ({"unknown": ', { name = "x", label = "X", unknown = true, when = { years = { min = 1 } } }'}, BY_ARM,
     r"covariates\[age\]: needs a known level, and its unknown one can have no conditions"),
    ({"events": "rash,Rash,,,3-4,all"}, ["rash,3-4,arm,a,20,6", "rash,3-4,arm,b,20,9"],
     r"line 3: rash is counted at 3-4, but not at 5: 3-5 is not told; add rows at 5 \(0 if nobody died of it\), or deaths_listed"),
    *(({"more": ANY_AND_3_4, "events": events}, ["rash,3-4,total,all,40,6", row],
       r"grades: class '3-4' would hold the deaths of .* \(frequencies.csv, line 3\) too; name the class 3-5; rows")
      for events, row in [("rash,Rash,,,3-4 5,all", "rash,5,total,all,40,1"),
                          ("rash,Rash,,,3-4,all\ndeath,Death,rash,fatal,any,all", "death,any,total,all,40,1")]),
    *(({"more": "".join(f'[[grades]]\nname = "{name}"\n' for name in names), "events": "rash,Rash,,,5,all"}, [], said)
      for names, said in [
          (("3-5", "any"), "grades: 'any' stands after '3-5', though it does not lie in it; classes stand outermost first"),
          (("4-5", "3-5"), "grades: '3-5' stands after '4-5'"),
          (("any", ">=3"), "grades: class '>=3' would be no range of grades; write 3-5"),
          (("any", "3\u20135"), r"grades: class '3\u20135' would be no range of grades; it has .*: write '3-5'")]),
    *(({}, ["rash,3-5,total,all,40,9", f"rash,3-5,{place},11,6"], rf"line 3: .* is unknown; known are .*; write {said}")
      for place, said in [
          ("arm\u00d7age,a*young", r"arm\*age and a\*young$"), ("arm * age,a * 60+", r"arm\*age and a\*60\+$"),
          ("arm*age,young*a", r"arm\*age and a\*young; levels stand as their covariates do")]),
    ({}, ["rash,3-5,arm*age,a*young,11,6", "rash,3-5,age*arm,young*a,11,5"], "line 3: given twice, in line 2 too: rash 3-5 age"),
    ({"more": ANY_AND_3_4.replace("3-4", "serious"), "events": "rash,Rash,,,any 3-4,all"}, [],
     "line 2: event 'rash': whether grade 3-4 is serious, a class .*, is not told; choose from any, serious, 5"),
    ({"events": "any_ae,Any,,,3-5,all\nrash,Rash,any_ae,nested,3-5,all"}, ["any_ae,3-5,arm,a,20,5", "rash,3-5,arm,a,20,6"],
     r"line 3, rash 3-5 arm a: 6 patients or more, but 5 at most with any_ae \(line 2\); correct one of them, or the parent"),
    ({"more": "deaths_listed = true", "events": "any_ae,Any,,,3-4,all\nrash,Rash,any_ae,nested,3-4 5,all"},
     ["any_ae,3-4,total,all,40,9", "rash,3-4,total,all,40,6", "rash,5,total,all,40,1"],
     r"line 2: any_ae is counted at 3-4, but not at 5: 3-5 is not told; add rows at 5"),
    ({"more": '[[grades]]\nname = "3-4"\n[[grades]]\nname = "5"\n', "events": "rash,Rash,,,3-4 5,all"}, ["rash,3-4,total,all,40,6"],
     "grades: '5' does not lie in '3-4', and each class must in the one before; name the class 3-5"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "rows", "said"), LEFT_OPEN, ids=range(len(LEFT_OPEN)))
def test_what_is_left_open_is_refused_with_what_to_do(options, rows, said):
    with pytest.raises(aemodel.PublicationError, match=said):
        make_cells(trial(rows, **options))


def test_where_all_deaths_are_listed_others_are_nobody():
    events = (
        "any_ae,Any,,,3-4 5,all\nrash,Rash,any_ae,nested,3-4{five},all\ncough,Cough,,,1-2 3-4{five},all\nitch,Itch,,,3-4 5,all"
    )
    rows = (
        "any_ae,3-4,arm,a,20,9 any_ae,5,total,all,40,2 rash,3-4,arm,a,20,6 cough,1-2,arm,a,20,8 cough,3-4,arm,a,20,2 "
        "cough,3-4,age,young,19,1 itch,3-4,arm,a,20,2 itch,3-4,arm,b,20,2 itch,5,arm,a,20,1 itch,3-4,total,all,40,4"
    ).split()
    zeros = "rash,5,arm,a,20,0 cough,5,arm,a,20,0 cough,5,age,young,19,0 itch,5,arm,b,20,0".split()
    short = trial(rows, events.format(five=""), more="deaths_listed = true")
    written = trial([*rows, *zeros], events.format(five=" 5"))
    assert [replace(row, line=0, source="") for row in short.rows] == [replace(row, line=0, source="") for row in written.rows]
    assert [event.grades for event in short.events] == [event.grades for event in written.events]


# No covariate.

ALONE = ABOUT.split("[[covariates]]")[0]


def alone(events="rash,Rash,,,3-5 4-5,all", rows=("rash,3-5,total,all,40,9", "rash,4-5,total,all,40,3")):
    """What tables of totals alone say."""
    texts = trial(rows, events).texts
    return texts | {"publication.toml": ALONE.format(more=""), "cohort.csv": "covariate,level,n\n"}


def test_publication_without_a_covariate_is_one_multinomial_and_answers_everybody_alike(tmp_path):
    model = drawn_model(alone(), ordering=None, selection=False)
    p = draws((1, 3))
    exact = [multinomial.logpmf([31, 6, 3], 40, q[0]) for q in p]
    assert np.ptp(loglik(model.tables, p) - exact) < 1e-9
    scored = aemodel.score(model, pd.DataFrame({"id": [1, 2]}))
    assert scored["rash_g3_risk"].tolist() == pytest.approx([model.risks.draws[:, 0, 0, 0].mean()] * 2)
    assert scored["rash_support"].tolist() == ["data", "data"]
    assert len(aemodel.calibration_table(model)) == 2
    aemodel.save_model(model, tmp_path / "model")
    assert aemodel.score(aemodel.load_model(tmp_path / "model"), pd.DataFrame({"id": [1, 2]})).equals(scored)
    assert aemodel.calibration_slopes(model, seed=1, replicates=20)["slope"].isna().all()


# Own patients at a publication's own classes of grades.


@pytest.mark.parametrize(
    ("classes", "given", "grades", "states"),
    [
        (["any", "3-5"], "any 3-5", [0, 1, 2, 3, 5], [0, 1, 1, 3, 3]),
        (["any"], "any", [0, 1, 1, 4], [0, 1, 1, 1]),
        (["serious"], "serious", [0, 1, 1], [0, 1, 1]),
        (["any", "serious"], "any serious", [0, 1, 2], [0, 1, 2]),
        (["3-5", "5"], "3-5 5", [0, 2, 3, 4, 5], [0, 0, 3, 3, 5]),
        (["2-5", "4-5"], "2-5 4-5", [1, 2, 3, 4], [0, 2, 2, 4]),
    ],
    ids=str,
)
def test_own_patients_are_read_at_the_publications_classes(classes, given, grades, states):
    more = "".join(f'[[grades]]\nname = "{name}"\n' for name in classes)
    rows = [f"rash,{grade},arm,{level},20,{4 - i}" for i, grade in enumerate(given.split()) for level in "ab"]
    (family,) = make_design(trial(rows, f"rash,Rash,,,{given},all", more=more)).families
    ((possible, pattern),) = read_states(nw.from_native(pd.DataFrame({"rash": grades}), eager_only=True), [family])
    assert [family.grades[here, 0].tolist() for here in possible[pattern]] == [[state] for state in states]


def test_grade_that_an_inner_event_cannot_have_is_refused_where_states_do_not_tell():
    more = '[[grades]]\nname = "any"\n'
    tables = trial(
        ["gut,any,total,all,40,9", "pain,any,total,all,40,4"], "gut,Gut,,,any,all\npain,Pain,gut,nested,any,all", more=more
    )
    frame = nw.from_native(pd.DataFrame({"gut": [2, 2], "pain": [2, 3]}), eager_only=True)
    with pytest.raises(ValueError, match="row 1: gut 2 with pain 3 cannot be"):
        read_states(frame, make_design(tables).families)


# A patient in a cell that was expected to hold a part of one.

SMALL = "covariate,level,n\narm,a,38\narm,b,2\nage,young,38\nage,60+,2\n"
RARE = ["rash,3-5,arm,a,38,{0}", "rash,3-5,arm,b,2,{1}", "rash,3-5,age,young,38,{2}", "rash,3-5,age,60+,2,{3}"]


def rare(*counts, cohort=SMALL):
    return trial([row.format(*counts) for row in RARE], "rash,Rash,,,3-5,all", cohort=cohort)


def test_an_event_of_somebody_in_a_small_cell_makes_room_for_them():
    """Of two among 40 in either level a tenth of a patient is expected in both; one of them had the event."""
    tables = rare(0, 1, 0, 1)
    (margins,) = all_margins(make_design(tables), tables.frequencies)
    n = margins.margins.n.reshape(2, 2)
    np.testing.assert_allclose([n.sum(axis=1), n.sum(axis=0)], [[38, 2], [38, 2]], atol=1e-6)
    assert 1 < n[1, 1] < 1.2
    assert np.isfinite(loglik(tables, draws((4, 2)))).all()


def test_no_room_is_made_where_cells_are_counted():
    cells = "arm*age,a*young,36\narm*age,a*60+,2\narm*age,b*young,2\narm*age,b*60+,0\n"
    tables = rare(0, 1, 0, 1, cohort=f"covariate,level,n\n{cells}")
    with pytest.raises(ValueError, match=r"contradict each other.*misses by"):
        all_margins(make_design(tables), tables.frequencies)
