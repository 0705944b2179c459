"""What published counts alone allow: bounds against the enumeration of small tables, and cases worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pandas as pd
import pytest

import aemodel
from aemodel.publication.tables import read_tables
from tests.publications import NO_TESTS, covariate_table
from tests.reference import enumerate_bounds

EVENTS = {"outer": ("", ""), "inner": ("outer", "nested")}
STATES = [(0, 0), (3, 0), (3, 3), (4, 0), (4, 3), (4, 4)]
"""Grades of the outer and the inner event."""
CELLS = [("a1", "b1"), ("a1", "b2"), ("a2", "b1"), ("a2", "b2")]
LEAST = {"3-5": 3, "4-5": 4}


def publication(people, published, crossed=False):
    """The tables of a publication that counts these people, (cell, state) pairs, by events, grades and covariates."""
    levels = {"a": ("a1", "a2"), "b": ("b1", "b2"), "total": ("all",)}

    def members(name, level):
        return [s for c, s in people if name == "total" or level in CELLS[c]]

    cohort = [f"{k},{v},,,{len(members(k, v))},T" for k in "ab" for v in levels[k]]
    if crossed:
        cohort += [f"a,{a},b,{b},{sum(CELLS[c] == (a, b) for c, _ in people)},T" for a, b in CELLS]
    rows = []
    for event, grade, name in published:
        for level in levels[name]:
            inside = members(name, level)
            y = sum(STATES[s][list(EVENTS).index(event)] >= LEAST[grade] for s in inside)
            rows.append(f"{event},{grade},{name},{level},{len(inside)},{y},count,{y},no,T")
    about = f'format = 1\nname = "small"\ntitle = "Small"\ncitation = "None."\npatients = {len(people)}\n'
    about += covariate_table("a", levels["a"]) + covariate_table("b", levels["b"])
    used = [event for event in EVENTS if event in {row[0] for row in published}]
    events = [f"{event},{event},{','.join(EVENTS[event])},3-5 4-5" for event in used]
    return read_tables(
        {
            "publication.toml": about,
            "events.csv": "\n".join(["event,label,parent,relation,grades", *events]) + "\n",
            "frequencies.csv": "\n".join(["event,grade,covariate,level,n,printed,unit,count,derived,source", *rows]) + "\n",
            "cohort.csv": "\n".join(["covariate,level,by,by_level,n,source", *cohort]) + "\n",
        }
        | NO_TESTS
    )


def bounds(tables, a=None, b=None):
    """Bounds of one profile, by event and grade."""
    return aemodel.bounds_table(tables, pd.DataFrame({"a": [a], "b": [b]}, dtype=object)).set_index(["event", "grade"])


def having(event, grade, states=STATES):
    return [s for s, grades in enumerate(states) if grades[list(EVENTS).index(event)] >= LEAST[grade]]


def inside(level):
    return [c for c, names in enumerate(CELLS) if level in (*names, "all")]


def counts(tables, states=STATES):
    """What is known of tables (cell, state), for `enumerate_bounds`."""
    for row in tables.rows:
        yield inside(row.level), having(row.event, row.grade, states), row.observed_low, row.observed_high
    for row in tables.counts:
        cells = [c for c in inside(row.level) if not row.by or row.by_level in CELLS[c]]
        yield cells, range(len(states)), row.n, row.n


@pytest.mark.parametrize("crossed", [False, True], ids=["cohort by margins", "cohort cross-tabulated"])
@pytest.mark.parametrize("profile", [("a1", "b1"), ("a2", None), ("a2", "b1"), (None, None)], ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_bounds_of_one_event_are_those_of_all_whole_tables(seed, profile, crossed):
    # With both covariates' margins of every state the vertices are whole, so that fractions of patients gain nothing.
    rng = np.random.default_rng(seed)
    people = list(zip([0, 1, 2, 3, *rng.integers(0, 4, 3)], rng.choice([0, 1, 3], 7), strict=True))
    tables = publication(people, [("outer", g, k) for g in LEAST for k in "ab"], crossed)
    found = bounds(tables, *profile)
    states = [STATES[s] for s in (0, 1, 3)]
    cells = [
        c for c, names in enumerate(CELLS) if all(level in (None, name) for level, name in zip(profile, names, strict=True))
    ]
    for grade in LEAST:
        exact = enumerate_bounds(7, (4, 3), list(counts(tables, states)), cells, having("outer", grade, states))
        assert found.loc[("outer", grade), ["lower", "upper"]].tolist() == pytest.approx(exact, abs=1e-7)
        if crossed:
            assert found.loc[("outer", grade), ["lower_expected", "upper_expected"]].tolist() == pytest.approx(exact, abs=1e-7)


@pytest.mark.parametrize("seed", range(2))
def test_bounds_of_nested_events_are_those_of_all_whole_tables(seed):
    rng = np.random.default_rng(seed)
    people = list(zip([0, 1, 2, 3, 0], rng.integers(0, 6, 5), strict=True))
    tables = publication(people, [("outer", "3-5", "a"), ("inner", "3-5", "b"), ("inner", "4-5", "a")])
    found = bounds(tables, "a1")
    known = list(counts(tables))
    for (event, grade), row in found.iterrows():
        low, high = enumerate_bounds(5, (4, 6), known, [0, 1], having(event, grade))
        assert (row.lower, row.upper) == pytest.approx((low, high), abs=1e-7)


def test_sizes_are_the_least_and_most_that_the_margins_allow():
    # 6 of 8 in a1 and 5 in b1: between 3 and 5 in both, 6 x 5 / 8 expected.
    people = [(0, 0)] * 4 + [(1, 0)] * 2 + [(2, 0)] + [(3, 1)]
    found = bounds(publication(people, [("outer", "3-5", "total")]), "a1", "b1")
    assert found[["patients", "patients_low", "patients_high"]].iloc[0].tolist() == pytest.approx([3.75, 3, 5])


def test_nobody_of_all_is_nobody_of_any_and_all_of_all_is_all_of_any():
    people = [(0, 1), (1, 1), (2, 3), (3, 1)]
    tables = publication(people, [("outer", "3-5", "total"), ("inner", "3-5", "total")])
    found = bounds(tables, "a1", "b2")
    columns = ["lower", "upper", "lower_expected", "upper_expected"]
    assert found.loc[("outer", "3-5"), columns].tolist() == pytest.approx([1, 1, 1, 1])
    assert found.loc[("inner", "3-5"), columns].tolist() == pytest.approx([0, 0, 0, 0])
    assert found.loc[("inner", "4-5"), columns].tolist() == pytest.approx([0, 0, 0, 0])


def test_cell_that_is_mostly_of_one_level_is_bound_in_the_expected_cohort():
    # 8 of 10 in a1 and 8 in b1: 6.4 in both, so of 9 with the event at least 5.4 of 6.4; of whole patients at least 5 of 6.
    people = [(0, 1)] * 6 + [(1, 1)] * 2 + [(2, 1), (2, 0)]
    found = bounds(publication(people, [("outer", "3-5", "total")]), "a1", "b1").loc[("outer", "3-5")]
    assert (found.lower_expected, found.upper_expected) == pytest.approx((5.4 / 6.4, 1))
    assert (found.lower, found.upper) == pytest.approx((5 / 6, 1))


def test_profile_of_nobody_may_be_anything():
    found = bounds(publication([(0, 1), (1, 0), (2, 0)], [("outer", "3-5", "a")], crossed=True), "a2", "b2")
    assert found.loc[("outer", "3-5"), ["lower", "upper", "patients_high"]].tolist() == pytest.approx([0, 1, 0])


@pytest.mark.parametrize(("assessed", "expected"), [("all", (0.25, 0.5)), ("own", (0.25, 0.75))])
def test_intervals_and_those_not_assessed_widen_bounds(assessed, expected):
    people = [(0, 1), (1, 1), (1, 0), (0, 0)]
    tables = publication(people, [("outer", "3-5", "total")])
    n = {"all": 4, "own": 3}[assessed]
    row = msgspec.structs.replace(tables.rows[0], n=n, observed_low=1, observed_high=2)
    event = msgspec.structs.replace(tables.events[0], assessed=assessed)
    found = bounds(replace(tables, rows=(row,), events=(event,)))
    assert found.loc[("outer", "3-5"), ["lower", "upper"]].tolist() == pytest.approx(expected)


def test_rows_are_the_patients_in_their_order_with_their_names():
    tables = publication([(0, 1), (1, 0), (2, 0), (3, 0)], [("outer", "3-5", "a")])
    frame = pd.DataFrame({"id": ["x", "y", "z"], "a": ["a2", "a1", "a2"], "b": ["b1", None, "b1"]})
    found = aemodel.bounds_table(tables, frame, id_column="id")
    assert found["patient"].tolist() == ["x", "x", "y", "y", "z", "z"]
    assert found[found["grade"] == "3-5"]["upper"].tolist() == pytest.approx([0, 0.5, 0])
    with pytest.raises(TypeError, match=r"^tables: expected what load_tables returns, not str$"):
        aemodel.bounds_table("aall1331", frame)


def test_published_level_of_aall1331_is_bound_to_its_frequency_and_its_mean_risks_lie_between(shipped):
    patients = pd.DataFrame({"age_band": ["19-30", "10-18"], "sex": [None, "female"], "relapse_group": [None, "iem_late"]})
    patients["race_ethnicity"] = [None, "hispanic"]
    found = aemodel.bounds_table(shipped.tables, patients)
    young = found[found["patient"] == 0].set_index(["event", "grade"])
    rows = shipped.tables.frequencies
    rows = rows[rows["level"] == "19-30"].set_index(["event", "grade"])
    rows = rows[rows.index.get_level_values("grade") != "5"]
    for what in ("lower", "upper", "lower_expected", "upper_expected"):
        np.testing.assert_allclose(young.loc[rows.index, what], rows["observed"] / rows["n"], atol=1e-7)
    # Nobody had these: a risk is a little above.
    risk = aemodel.risk_table(shipped, patients)["risk"]
    apart = (found["lower_expected"] - risk).clip(lower=0) + (risk - found["upper_expected"]).clip(lower=0)
    assert apart[found["patient"] == 1].max() < 0.01
