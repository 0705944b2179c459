"""What publications declare beside their tables: read, refused, chosen, and in the model only when asked for."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from click.testing import CliRunner

from aemodel.cli import main
from aemodel.inference import fitting
from aemodel.inference.design import all_margins, make_design
from aemodel.inference.evidence import choose_evidence
from aemodel.inference.posterior import make_density
from aemodel.publication.evidence import FEWEST
from aemodel.publication.tables import read_tables
from tests.publications import EVIDENCE, faults_of, publication_texts

# The shipped publication.


def pairs(nulls, **wanted):
    return {(n.event, n.grade, n.covariate) for n in nulls if all(getattr(n, key) == value for key, value in wanted.items())}


def test_what_was_said_of_multivariable_analyses_is_no_univariate_null(aall1331):
    """The paper's only statement of non-significance is of multivariable analyses, of any adverse event."""
    assert not pairs(aall1331.nulls, stated=True)
    assert "any_ae" not in {null.event for null in aall1331.nulls}


def test_unlisted_nulls_are_every_other_pair_of_the_list(aall1331):
    """Worked out from the files' rows: events of Table 2, no pair with a row, none of under ten patients; 35 tests."""
    rows = aall1331.frequencies
    events = set(rows[rows["source"] == "Table 2"]["event"])
    listed = set(zip(rows["event"], rows["covariate"], strict=True))
    totals = rows[rows["covariate"] == "total"].set_index(["event", "grade"])["observed"]
    expected = {
        (event, grade, covariate.name)
        for (event, grade), number in totals.items()
        for covariate in aall1331.covariates
        if event in events and grade != "5" and number >= FEWEST and (event, covariate.name) not in listed
    }
    assert pairs(aall1331.nulls, stated=False) == expected
    assert len(expected) == len(aall1331.nulls) == 35
    assert ("gi_toxicity", "4-5", "age_band") in expected  # of exactly ten patients


def test_nulls_by_relapse_group_are_both_of_its_tests(aall1331):
    """Marrow against isolated relapses, and the four groups."""
    groups = {null.covariate: null.groups for null in aall1331.nulls}
    assert groups.pop("relapse_group") == ((0, 1), (2, 3))
    assert not any(groups.values())


def test_nulls_are_among_named_groups(aall1331):
    levels = {null.covariate: null.levels for null in aall1331.nulls}
    assert levels.pop("race_ethnicity") == ("hispanic", "nh_white", "nh_black", "nh_asian")
    assert levels == {name: aall1331.covariate(name).names for name in levels}


def test_ordering_of_the_shipped_publication(aall1331):
    (item,) = aall1331.orderings
    assert (item.event, item.covariate, item.within, item.alpha) == ("any_ae", "race_ethnicity", ("relapse_group", "bm"), 0.05)
    assert item.groups == ("hispanic", "nh_asian", "nh_white", "nh_black")
    assert item.tiers["4-5"][0] == ("hispanic",)
    assert set(item.tiers["3-5"][0]) == {"hispanic", "nh_asian"}


# Reading.


def test_publication_without_evidence_has_none(invented):
    assert invented.orderings == ()
    assert invented.nulls == ()


def test_ordering_is_read_mildest_grade_first(invented_evidence):
    (item,) = invented_evidence.orderings
    assert list(item.tiers) == ["3-5", "4-5"]
    assert item.groups == ("coast", "south", "north")
    assert (item.within, item.alpha, item.source) == (("stage", "local"), 0.05, "Text")


def test_stated_nulls_come_before_unlisted(invented_evidence):
    stated = [null.stated for null in invented_evidence.nulls]
    assert stated == sorted(stated, reverse=True)
    assert sum(stated) == 4


@pytest.fixture
def nulls_with(invented_patients):
    """Nulls of the invented publication, a part of its evidence replaced."""
    return lambda old, new: read_tables(publication_texts(invented_patients, evidence=EVIDENCE.replace(old, new))).nulls


def test_stated_null_is_no_second_time_unlisted(nulls_with):
    found = nulls_with('covariates = ["arm", "stage"]', 'covariates = ["arm"]')
    assert ("any_toxicity", "3-5", "arm") in pairs(found, stated=True) - pairs(found, stated=False)
    assert ("any_toxicity", "3-5", "stage") in pairs(found, stated=False)


def test_list_drawn_from_some_events_says_nothing_of_others(nulls_with):
    found = nulls_with("unlisted = true", 'unlisted = true\nevents = ["rash"]')
    assert {null.event for null in found if not null.stated} == {"rash"}


def test_level_of_significance_is_five_per_cent_unless_given(nulls_with, invented_evidence):
    assert {null.alpha for null in invented_evidence.nulls} == {0.05}
    assert {null.alpha for null in nulls_with("unlisted = true", "unlisted = true\nalpha = 0.01") if not null.stated} == {0.01}


REFUSED = [
    ('event = "any_toxicity"', 'event = "fever"', "event 'fever' is unknown; choose from any_toxicity"),
    ('event = "any_toxicity"\n', "", r"'event' must be given"),
    ('covariate = "region"', 'covariate = "sex"', "covariate 'sex' is unknown; choose from arm, stage, region"),
    ('"4-5" =', '"5" =', "grade '5' is unknown; choose from 3-5, 4-5"),
    ('[["coast"], [', '[["desert"], [', "level of region 'desert' is unknown; choose from north, south, coast"),
    ('[["coast"], ["north", "south"]]', '[["coast", "north", "south"]]', "tiers of grade 4-5 must be two or more"),
    ('[["coast"], ["north", "south"]]', '[["coast"], ["north", "coast"]]', "tiers of grade 4-5 .* each level once"),
    ('[["coast"], ["north", "south"]]', '[["coast"], ["north"]]', "tiers must be given .* over the same levels"),
    (
        EVIDENCE[EVIDENCE.index("[orderings.tiers]") : EVIDENCE.index("[[nulls]]")],
        "\n",
        r"'tiers' must be given",
    ),
    ("within = { stage =", "within = { size =", "covariate 'size' is unknown"),
    ('stage = "local" }', 'stage = "early" }', "'early' is neither a level nor a group of stage"),
    ('stage = "local" }', 'stage = "local", arm = "low" }', "within must be one other covariate and its level"),
    ("within = { stage =", "within = { region =", "within must be one other covariate and its level"),
    ('{ stage = "local" }', '"local"', r"within: must be a table; found 'local'"),
    ('[["coast"], [', '[["coast"], [], [', "tiers of grade 4-5 must be two or more"),
    ("alpha = 0.05", "alpha = 5", r"alpha: must be a probability such as 0.05; found 5"),
    ("alpha = 0.05", "alpha = 1.0", r"alpha: must be a probability such as 0.05; found 1.0"),
    ('events = ["any_toxicity"]', 'events = ["fever"]', "event 'fever' is unknown"),
    ('events = ["any_toxicity"]', "", "give events, or unlisted = true"),
    (
        "unlisted = true",
        'unlisted = true\nalso_groups = ["region"]',
        "also_groups names 'region', whose compared levels",
    ),
    ('covariates = ["arm", "stage"]', 'covariates = ["sex"]', "covariate 'sex' is unknown"),
    ('region = ["north", "south"]', 'region = ["north", "desert"]', "level of region 'desert' is unknown"),
    ('region = ["north", "south"]', 'region = ["north"]', "among must name two or more levels of region, each once"),
    ('region = ["north", "south"]', 'region = ["north", "north"]', "among must name two or more levels of region"),
    ('region = ["north", "south"]', 'sex = ["male", "female"]', "covariate 'sex' is unknown"),
    ("unlisted = true", "unlisted = true\nalpha = -0.1", r"alpha: must be a probability such as 0.05; found -0.1"),
]


@pytest.mark.parametrize(("old", "new", "message"), REFUSED, ids=range(len(REFUSED)))
def test_wrong_declaration_is_refused(invented_patients, old, new, message):
    assert old in EVIDENCE
    said = faults_of(publication_texts(invented_patients, evidence=EVIDENCE.replace(old, new, 1)))
    assert re.search(rf"publication\.toml, (orderings|nulls)\[\d\].*{message}", said), said


# Choosing.


def test_chosen_evidence_is_what_was_asked_for_and_has_its_terms(invented_evidence):
    design = make_design(invented_evidence)
    margins = all_margins(design, invented_evidence.frequencies)
    for ordering, selection in product(["both", "either", "order", None], [True, False]):
        found = choose_evidence(invented_evidence, ordering, selection)
        assert [item for item, _ in found.orderings] == ([] if ordering is None else list(invented_evidence.orderings))
        assert found.nulls == (invented_evidence.nulls if selection else ())
        assert ordering in (None, found.significance)
        terms = [known.kind for known in make_density(design, margins, found).known]
        assert terms == ["margins", *["ordering"] * (ordering is not None), *["selection"] * selection]


def test_rates_of_an_ordering_are_the_cohorts(aall1331):
    ((_, rates),) = choose_evidence(aall1331, "order", False).orderings
    np.testing.assert_allclose(rates, [480 / 661, 183 / 661])


def test_ordered_event_without_a_total_is_refused_unless_left_out(invented_patients):
    texts = publication_texts(invented_patients, evidence=EVIDENCE.replace('event = "any_toxicity"', 'event = "low_platelets"'))
    tables = read_tables(texts)
    with pytest.raises(ValueError, match="publication.toml, orderings: low_platelets has no published total at grade 4-5"):
        choose_evidence(tables, "both", True)
    assert choose_evidence(tables, None, True).orderings == ()


# The shell.


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {"ordering": "both", "selection": True, "prior_scale": 1.0}),
        (
            ["--ordering", "none", "--no-selection", "--prior-scale", "0.5"],
            {"ordering": None, "selection": False, "prior_scale": 0.5},
        ),
        (["--ordering", "either", "--selection"], {"ordering": "either", "selection": True, "prior_scale": 1.0}),
    ],
)
def test_shell_passes_evidence_on(monkeypatch, tmp_path, arguments, options):
    passed = {}

    def fit(tables, **given):
        passed.update(given)
        raise ValueError("seen enough")

    monkeypatch.setattr(fitting, "fit", fit)
    result = CliRunner().invoke(main, ["fit", "--out", str(tmp_path / "model"), *arguments])
    assert "seen enough" in result.output
    assert {name: passed[name] for name in options} == options
