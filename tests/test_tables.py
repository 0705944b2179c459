"""Publications as read: counts against the paper's own numbers and P-values, and every way a file can be wrong."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2_contingency

import aemodel
from aemodel.publication import p_values as p_values_module
from aemodel.publication.tables import TOTAL, load_tables, read_tables
from aemodel.publication.texts import FILES
from tests.publications import count, publication_texts
from tests.reference import fisher_exact

# The counts, typed again from the paper.

AGE, RELAPSE, SEX = ("1-9", "10-18", "19-30"), ("bm_early", "bm_late", "iem_early", "iem_late"), ("male", "female")
SIZES = {"age_band": (308, 270, 83), "relapse_group": (209, 323, 32, 97), "sex": (380, 281), "total": (661,)}
LEVELS = {"age_band": AGE, "relapse_group": RELAPSE, "sex": SEX, "total": ("all",)}
PAPER = {
    ("infections_total", "3-5"): {"age_band": (167, 140, 44), "relapse_group": (116, 178, 20, 37), "total": (351,)},
    ("infections_total", "4-5"): {"age_band": (26, 42, 19), "relapse_group": (33, 37, 6, 11), "total": (87,)},
    ("infections", "3-5"): {"age_band": (100, 104, 38), "relapse_group": (97, 111, 12, 22), "total": (242,)},
    ("infections", "4-5"): {"age_band": (24, 40, 19), "relapse_group": (31, 37, 6, 9), "total": (83,)},
    ("sepsis", "3-5"): {"age_band": (20, 33, 14), "total": (67,)},
    ("sepsis", "4-5"): {"age_band": (19, 32, 14), "total": (65,)},
    ("oral_mucositis", "3-5"): {"age_band": (15, 14, 11), "total": (40,)},
    ("oral_mucositis", "4-5"): {"age_band": (0, 0, 0), "total": (0,)},
    ("hyperglycemia", "3-5"): {"age_band": (36, 51, 23), "total": (110,)},
    ("hyperglycemia", "4-5"): {"age_band": (9, 8, 4), "total": (21,)},
    ("hyperbilirubinemia", "3-5"): {"age_band": (17, 19, 11), "total": (47,)},
    ("hyperbilirubinemia", "4-5"): {"age_band": (3, 1, 4), "total": (8,)},
    ("gi_toxicity", "3-5"): {"sex": (53, 70), "total": (123,)},
    ("gi_toxicity", "4-5"): {"sex": (5, 5), "total": (10,)},
    ("hypoalbuminemia", "3-5"): {"sex": (14, 27), "total": (41,)},
    ("hypoalbuminemia", "4-5"): {"sex": (1, 0), "total": (1,)},
    ("death", "3-5"): {"age_band": (6, 11, 7), "relapse_group": (15, 6, 1, 2), "total": (24,)},
    ("death", "4-5"): {"age_band": (6, 11, 7), "relapse_group": (15, 6, 1, 2), "total": (24,)},
    ("any_ae", "3-5"): {"total": (480,)},
    ("any_ae", "4-5"): {"total": (183,)},
    ("febrile_neutropenia", "3-5"): {"total": (200,)},
}


def rows_of(tables, event, grade, covariate, levels):
    """Patients and those with the event at each of some levels: (n, observed), each (level,)."""
    rows = tables.frequencies.query("event == @event and grade == @grade and covariate == @covariate")
    rows = rows.set_index("level").loc[list(levels)]
    return rows["n"].to_numpy(), rows["observed"].to_numpy()


@pytest.mark.parametrize(("event", "grade"), PAPER, ids=lambda value: value)
def test_counts_are_those_of_the_paper(aall1331, event, grade):
    for covariate, counts in PAPER[event, grade].items():
        n, observed = rows_of(aall1331, event, grade, covariate, LEVELS[covariate])
        assert tuple(observed) == counts
        assert tuple(n) == SIZES[covariate]


def test_nothing_is_given_that_the_paper_does_not_give(aall1331):
    rows = aall1331.frequencies
    rows = rows[~rows["level"].isin(["bm", "iem"])]
    found = set(zip(rows["event"], rows["grade"], rows["covariate"], rows["level"], strict=True))
    expected = {(*key, c, level) for key, by in PAPER.items() for c in by for level in LEVELS[c]}
    assert found == expected | {("infections", "5", *TOTAL)}


def test_death_is_grade_5_of_21_infections_of_24(aall1331):
    assert rows_of(aall1331, "infections", "5", "total", ["all"])[1].item() == 21


def test_grouped_levels_are_derived_and_others_published(aall1331):
    rows = aall1331.frequencies
    assert rows[rows["level"].isin(["bm", "iem"])]["derived"].all()
    assert (~rows["derived"]).sum() == 74


def test_cohort_has_661_patients(aall1331):
    assert aall1331.n == 661


# The paper's P-values: the best check of the transcription there is.


def p_value(tables, row):
    """By SciPy, and by the slow twin."""
    n, observed = rows_of(tables, row.event, row.grade, row.covariate, row.levels.split())
    if row.test == "fisher":
        return fisher_exact(observed, n)
    return chi2_contingency(np.stack([observed, n - observed]), correction=False).pvalue


@pytest.fixture(scope="module")
def p_values(aall1331):
    return aemodel.p_value_table(aall1331)


def test_p_values_are_those_of_the_counts(aall1331, p_values):
    expected = [p_value(aall1331, row) for row in p_values.itertuples()]
    np.testing.assert_allclose(p_values["computed"], expected, rtol=1e-9)
    assert set(p_values["test"]) == {"chi2", "fisher"}


def test_all_but_one_p_value_come_out_as_printed(p_values):
    wrong = p_values[~p_values["agrees"]].iloc[:, [0, 1, 2, 3, 5]].to_numpy().tolist()
    assert wrong == [["infections_total", "4-5", "relapse_group", "bm iem", "0.99"]]


@pytest.mark.parametrize(
    ("p", "text", "agrees"),
    [
        (0.0249, "0.02", True),
        (0.025, "0.03", True),
        (0.025, "0.02", False),
        (0.00009, "<0.0001", True),
        (0.0002, "< 0.0001", False),
    ],
)
def test_p_values_agree_at_the_digits_that_are_printed(p, text, agrees):
    assert p_values_module._agrees(p, text) is agrees


def test_fisher_is_the_slow_twins_for_random_tables():
    rng = np.random.default_rng(1)
    for groups in (2, 2, 3, 3, 4):
        n = rng.integers(3, 12, groups)
        observed = rng.binomial(n, 0.3)
        assert p_values_module._fisher_exact(observed, n, "") == pytest.approx(fisher_exact(observed, n), rel=1e-9)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "rash,3-5,region,,0.5,chi2",
            "tests.csv: rash 3-5 by region: no frequency at north, south, coast to test; published are none",
        ),
        ("rash,3-5,colour,,0.5,chi2", "tests.csv: rash 3-5 by colour: no such covariate; choose from arm, stage, region"),
        ("rash,3-5,stage,,0.5,anova", "the test is 'anova'; it must be chi2 or fisher"),
        ("rash,3-5,stage,,NS,chi2", "the P-value is 'NS'; it must be a number as printed"),
        ("any_toxicity,3-5,arm,,0.5,fisher", "no frequency at low"),
        ("blood_toxicity,3-5,stage,,0.5,fisher", "too many for Fisher's test by enumeration; was it chi2"),
    ],
)
def test_tests_that_cannot_be_checked_are_refused(invented_patients, row, message, monkeypatch):
    monkeypatch.setattr(p_values_module, "MOST_TABLES", 1000)
    texts = publication_texts(invented_patients)
    texts["tests.csv"] += row + "\n"
    with pytest.raises(ValueError, match=re.escape(message)):
        aemodel.p_value_table(read_tables(texts))


def test_the_p_value_that_does_not_come_out_is_recorded(aall1331, p_values):
    row = p_values.query("levels == 'bm iem' and event == 'infections_total' and grade == '4-5'").iloc[0]
    assert row["computed"] == pytest.approx(0.995, abs=0.0005)
    recorded = aall1331.discrepancies.query("event == 'infections_total' and printed == '0.99'")
    assert recorded["computed"].item().startswith("0.995")


def test_every_published_pair_of_event_and_covariate_has_its_p_value(aall1331):
    rows = aall1331.frequencies[~aall1331.frequencies["derived"] & (aall1331.frequencies["source"] == "Table 2")]
    given = set(zip(rows["event"], rows["covariate"], strict=True))
    assert given == set(zip(aall1331.tests["event"], aall1331.tests["covariate"], strict=True))


def test_fisher_twin_matches_a_known_value():
    # Fisher's tea: 3 of 4 cups and 1 of 4; two-sided 34/70.
    assert fisher_exact([3, 1], [4, 4]) == pytest.approx(34 / 70, abs=1e-12)


# An invented publication: nothing above is built in.


@pytest.mark.parametrize(
    ("event", "grade", "covariate", "level"),
    [
        ("blood_toxicity", "3-5", "arm", "high"),
        ("blood_toxicity", "4-5", "stage", "distant"),
        ("anemia", "4-5", "arm", "low"),
        ("vomiting", "3-5", "stage", "local_small"),
        ("toxic_death", "4-5", "arm", "middle"),
        ("any_toxicity", "3-5", "total", "all"),
        ("neuropathy", "3-5", "total", "all"),
    ],
)
def test_invented_counts_are_those_simulated(invented, invented_patients, event, grade, covariate, level):
    assert rows_of(invented, event, grade, covariate, [level])[1].item() == count(
        invented_patients, event, grade, covariate, level
    )


def test_invented_publication_has_every_row_written(invented, invented_patients):
    rows = invented.frequencies
    assert len(rows) > 80
    for row in rows.itertuples():
        assert row.observed == count(invented_patients, row.event, row.grade, row.covariate, row.level)


def test_reading_texts_equals_loading_the_folder(invented, invented_folder):
    assert read_tables(invented.texts).digest == load_tables(invented_folder).digest


def test_digest_changes_with_any_file(invented):
    digests = {read_tables({**invented.texts, name: invented.texts[name] + "\n"}).digest for name in FILES}
    assert len(digests | {invented.digest}) == 1 + len(FILES)


@pytest.mark.parametrize("name", ["aall1331", "invented", "invented_evidence"])
def test_published_grades_are_those_listed_where_all_have_rows(request, name):
    tables = request.getfixturevalue(name)
    assert {event.name: tables.published_grades(event) for event in tables.events} == {
        event.name: event.grades for event in tables.events
    }


def test_grade_without_a_row_is_not_published_though_listed(invented_evidence):
    texts = invented_evidence.texts
    listed = texts["events.csv"].replace("union,3-5\n", "union,3-5 4-5\n")
    tables = read_tables({**texts, "events.csv": listed})
    event = next(event for event in tables.events if event.name == "low_platelets")
    assert event.grades == ("3-5", "4-5")
    assert tables.published_grades(event) == ("3-5",)
    assert tables.nulls == invented_evidence.nulls


# Whatever is wrong is refused, by file and line.


def refused(tables, file, old, new, message):
    text = tables.texts[file]
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
    with pytest.raises(ValueError, match=message):
        read_tables({**tables.texts, file: text.replace(old, new)})


def test_unknown_publication_names_those_there_are():
    with pytest.raises(FileNotFoundError, match=r"'nowhere' is neither a folder nor a shipped publication \(aall1331\)"):
        load_tables("nowhere")


def test_missing_file_is_named(invented, tmp_path):
    for name in FILES[:-1]:
        (tmp_path / name).write_text(invented.texts[name], encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"discrepancies\.csv is missing; a publication has the files"):
        load_tables(tmp_path)


def test_file_that_is_not_utf8_is_named_with_the_byte(invented, tmp_path):
    for name in FILES:
        (tmp_path / name).write_bytes(invented.texts[name].encode())
    (tmp_path / "events.csv").write_bytes(b"event,label\xff")
    with pytest.raises(ValueError, match=r"events\.csv is not UTF-8 \(byte 11\)"):
        load_tables(tmp_path)


def test_byte_order_mark_and_windows_lines_are_no_matter(invented, tmp_path):
    for name in FILES:
        (tmp_path / name).write_bytes(invented.texts[name].replace("\n", "\r\n").encode("utf-8-sig"))
    assert load_tables(tmp_path).digest == invented.digest


def test_counts_that_disagree_between_margins_are_refused(aall1331):
    old, new = "infections,3-5,total,all,661,36.6,percent,242", "infections,3-5,total,all,661,36.8,percent,243"
    message = r"infections 3-5: the margins disagree on the number of patients.*'age_band': 242.*'total': 243"
    refused(aall1331, "frequencies.csv", old, new, message)


def test_group_that_is_not_the_sum_of_its_levels_is_refused(aall1331):
    old, new = "death,3-5,relapse_group,bm,532,21,count,21", "death,3-5,relapse_group,bm,532,22,count,22"
    refused(aall1331, "frequencies.csv", old, new, "death 3-5: observed of bm is 22, its levels sum to 21")


def test_level_sizes_that_do_not_sum_to_the_cohort_are_refused(aall1331):
    old, new = "sepsis,4-5,age_band,19-30,83,16.9", "sepsis,4-5,age_band,19-30,84,16.7"
    refused(aall1331, "frequencies.csv", old, new, "sepsis 4-5: the levels of age_band hold 662 patients, the cohort 661")


def test_count_above_its_patients_is_refused(aall1331):
    old, new = "any_ae,3-5,total,all,661,480,count,480", "any_ae,3-5,total,all,661,700,count,700"
    refused(aall1331, "frequencies.csv", old, new, r"line \d+: 700 events exceed 661 patients")


def test_percentage_that_is_no_whole_number_is_refused(aall1331):
    old, new = "sepsis,3-5,age_band,19-30,83,16.9,percent,14", "sepsis,3-5,age_band,19-30,83,17.5,percent,"
    refused(aall1331, "frequencies.csv", old, new, r"line \d+: 17\.5 percent is no whole number over 83")


def test_percentage_of_several_counts_asks_for_the_count(aall1331):
    old, new = "death,3-5,age_band,1-9,308,2,percent,6", "death,3-5,age_band,1-9,308,2,percent,"
    refused(aall1331, "frequencies.csv", old, new, r"line \d+: 2 percent is each of \[5, 6, 7\] over 308; give the count")


def test_count_that_is_not_its_percentage_is_refused(aall1331):
    old, new = "sepsis,3-5,age_band,19-30,83,16.9,percent,14", "sepsis,3-5,age_band,19-30,83,16.9,percent,15"
    refused(aall1331, "frequencies.csv", old, new, r"line \d+: 15 of 83 is not printed 16\.9 \(percent\).*discrepancies\.csv")


def test_recorded_discrepancy_lets_a_count_stand(aall1331):
    recorded = "".join(
        line for line in aall1331.texts["discrepancies.csv"].splitlines(True) if not line.startswith("gi_toxicity")
    )
    with pytest.raises(ValueError, match=r"53 of 380 is not printed 14\.0"):
        read_tables({**aall1331.texts, "discrepancies.csv": recorded})


def test_text_that_is_no_percentage_is_refused(aall1331):
    old, new = "sepsis,3-5,age_band,19-30,83,16.9,", "sepsis,3-5,age_band,19-30,83,few,"
    refused(aall1331, "frequencies.csv", old, new, r"line \d+: 'few' is not a percentage")


def test_unknown_unit_is_refused(aall1331):
    old, new = "any_ae,3-5,total,all,661,480,count", "any_ae,3-5,total,all,661,480,promille"
    refused(aall1331, "frequencies.csv", old, new, r"line \d+: unit is 'percent' or 'count', not 'promille'")


def test_more_patients_at_4_5_than_at_3_5_are_refused(aall1331):
    old, new = "gi_toxicity,4-5,sex,male,380,1.3,percent,5", "gi_toxicity,4-5,sex,male,380,14.2,percent,54"
    message = r"more patients at grade 4-5 than at 3-5 for \[\('gi_toxicity', 'sex', 'male'\)\]"
    refused(aall1331, "frequencies.csv", old, new, message)


def test_unknown_level_is_refused_with_those_known(aall1331):
    old, new = "sepsis,3-5,age_band,19-30,83", "sepsis,3-5,age_band,19-29,83"
    message = r"line \d+: covariate 'age_band' with level '19-29' is unknown; known are .*19-30"
    refused(aall1331, "frequencies.csv", old, new, message)


def test_unknown_level_of_the_cohort_is_refused_with_those_known(aall1331):
    old, new = "relapse_group,bm_late,,,323", "relapse_group,bm_later,,,323"
    message = r"cohort\.csv, line \d+: covariate 'relapse_group' with level 'bm_later' is unknown"
    refused(aall1331, "cohort.csv", old, new, message)


def test_unknown_event_is_refused(aall1331):
    old, new = "any_ae,3-5,total", "any_event,3-5,total"
    refused(aall1331, "frequencies.csv", old, new, r"line \d+: event 'any_event' at grade '3-5' is not in events\.csv")


def test_grade_that_an_event_is_not_given_at_is_refused(aall1331):
    old, new = "febrile_neutropenia,3-5,total", "febrile_neutropenia,4-5,total"
    refused(aall1331, "frequencies.csv", old, new, r"event 'febrile_neutropenia' at grade '4-5' is not in events\.csv")


def test_row_given_twice_is_refused(aall1331):
    row = 'any_ae,4-5,total,all,661,183,count,183,no,"text, results"\n'
    refused(aall1331, "frequencies.csv", row, row + row, "given twice")


def test_wrong_columns_are_refused_with_those_wanted(aall1331):
    old, new = "event,grade,covariate,levels,p,test", "event,grade,covariate,p,test"
    refused(aall1331, "tests.csv", old, new, r"tests\.csv: columns must be event, grade, covariate, levels, p, test; found")


def test_row_with_a_cell_too_many_is_refused_by_line(aall1331):
    old = "relapse_group,bm_late,,,323,Table 1"
    refused(aall1331, "cohort.csv", old, old + ",more", r"cohort\.csv, line 3: 6 cells expected")


def test_number_that_is_not_whole_is_refused(aall1331):
    old, new = "relapse_group,bm_late,,,323,", "relapse_group,bm_late,,,323.5,"
    refused(aall1331, "cohort.csv", old, new, r"cohort\.csv, line 3: '323\.5' is not a whole number")


def test_nesting_in_a_circle_is_refused(aall1331):
    old = "infections_total,Infections total (infection or febrile neutropenia),any_ae,nested"
    refused(aall1331, "events.csv", old, old.replace("any_ae", "sepsis"), r"events\.csv: the nesting goes in a circle: .* in ")


def test_unknown_parent_is_refused_by_name(aall1331):
    old, new = "oral_mucositis,Oral mucositis,gi_toxicity", "oral_mucositis,Oral mucositis,stomach"
    refused(aall1331, "events.csv", old, new, r"event 'oral_mucositis': parent 'stomach' is not an event; events are any_ae, ")


def test_unknown_relation_is_refused(aall1331):
    old, new = "gi_toxicity,nested", "gi_toxicity,inside"
    refused(aall1331, "events.csv", old, new, r"event 'oral_mucositis': relation 'inside' must be one of")


def test_nested_and_united_events_cannot_share_a_parent(aall1331):
    old = "febrile_neutropenia,Febrile neutropenia,infections_total,union"
    message = "events in 'infections_total' must be all nested or all union"
    refused(aall1331, "events.csv", old, old.replace("union", "nested"), message)


def test_two_fatal_events_in_a_family_are_refused(aall1331):
    old = "death,Death in Block 1,any_ae,fatal,3-5 4-5\n"
    more = "late_death,Late death,any_ae,fatal,3-5 4-5\n"
    message = r"a family can have one fatal event; under 'any_ae' there are \['death', 'late_death'\]"
    refused(aall1331, "events.csv", old, old + more, message)


def test_damaged_toml_is_refused_by_file(aall1331):
    refused(aall1331, "publication.toml", "patients = 661", "patients = ", r"publication\.toml: ")


def test_missing_cohort_size_is_refused_by_name(aall1331):
    message = r"publication\.toml: 'patients' must be given"
    refused(aall1331, "publication.toml", "patients = 661", "", message)


def test_levels_without_conditions_on_the_same_columns_are_refused(aall1331):
    old = '{ name = "male", label = "Male" }'
    new = '{ name = "male", label = "Male", when = { code = "m" } }'
    message = "the levels of covariate 'sex' must all have conditions on the same columns"
    refused(aall1331, "publication.toml", old, new, message)


@pytest.mark.parametrize(
    ("old", "new", "where", "known"),
    [
        ("patients = 661", "patients = 661\nlicense = 'free'", "publication.toml: unknown key 'license'", "licence"),
        ("open = true", "opened = true", r"publication.toml, covariates\[race_ethnicity\]: unknown key 'opened'", "open"),
        ('label = "Male"', 'label = "Male", groups = "m"', r"covariates\[sex\].levels\[male\]: unknown key 'groups'", "group"),
        ("unlisted = true", "unlisted = true\nevent = 'death'", r"publication.toml, nulls\[1\]: unknown key 'event'", "events"),
        (
            "[orderings.tiers]",
            "level = 'bm'\n[orderings.tiers]",
            r"publication.toml, orderings\[1\]: unknown key 'level'",
            "within",
        ),
    ],
)
def test_unknown_key_is_refused_with_those_known(aall1331, old, new, where, known):
    refused(aall1331, "publication.toml", old, new, rf"{where}; known are .*\b{known}\b")


@pytest.mark.parametrize("rule", ["{ min = 1, blow = 10 }", "{ min = '1' }", "{ min = true }", "{ below = nan }", "{}", "7"])
def test_condition_that_is_none_is_refused_with_what_it_may_be(aall1331, rule):
    message = r"publication\.toml, level '1-9': the condition on age is .*; it must be a text, or numbers min, below or both"
    refused(aall1331, "publication.toml", "{ min = 1, below = 10 }", rule, message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{ min = 1, below = 10 }",
            "{ min = 1, below = 13 }",
            "levels '1-9' and '10-18' of covariate 'age_band' overlap: age at least 1 and below 13 and age at least 10 and below",
        ),
        ("{ min = 19, below = 31 }", "{ min = 18.5 }", "levels '10-18' and '19-30' of covariate 'age_band' overlap"),
        (
            'relapse_site = "iem", months_to_relapse = { min = 18 }',
            'relapse_site = "bm", months_to_relapse = { min = 18 }',
            "levels 'bm_early' and 'iem_late' of covariate 'relapse_group' overlap: relapse_site bm with months_to_relapse",
        ),
        ("{ min = 1, below = 10 }", "{ min = 10, below = 1 }", "level '1-9' of covariate 'age_band' holds for no age: min 10"),
    ],
)
def test_levels_that_overlap_or_are_empty_are_refused(aall1331, old, new, message):
    refused(aall1331, "publication.toml", old, new, message)


def test_levels_may_leave_a_gap(aall1331):
    text = aall1331.texts["publication.toml"].replace("{ min = 1, below = 10 }", "{ min = 1, below = 9 }")
    read_tables({**aall1331.texts, "publication.toml": text})


# The code knows no publication.


def forbidden_words(tables):
    """Every name that belongs to this publication: levels, groups, raw columns, events, and the cohort's size."""
    words = {event.name for event in tables.events} | {str(tables.n)}
    for covariate in tables.covariates:
        words |= {covariate.name, *covariate.names, *covariate.groups, *covariate.raw_columns}
        words |= {name for level in covariate.levels for name in level.cohort}
        words |= {w.equals for level in covariate.levels for w in level.when if w.equals is not None}
    return words


def test_no_module_names_anything_of_the_publication(aall1331):
    package = Path(aemodel.__file__).parent
    pattern = re.compile("|".join(rf"(?<![\w-]){re.escape(word)}(?![\w-])" for word in sorted(forbidden_words(aall1331))))
    found = [
        f"{path.relative_to(package)}:{number}: {match.group()}"
        for path in sorted(package.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for match in pattern.finditer(line)
    ]
    assert not found, "\n".join(found)
