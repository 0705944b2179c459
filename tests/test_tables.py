"""Publications as read: counts against the paper's own numbers and P-values, and every way a file can be wrong."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import chi2_contingency

import aemodel
from aemodel.cli import main
from aemodel.publication import p_values as p_values_module
from aemodel.publication.cells import make_cells
from aemodel.publication.frequencies import printed_range
from aemodel.publication.rules import TOTAL, split
from aemodel.publication.schema import FILES, Covariate, Level
from aemodel.publication.summary import frequency_lines, unit_lines
from aemodel.publication.tables import load_tables, read_tables, write_template
from tests.publications import NO_TESTS, count, covariate_table, faults_of, publication_texts
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


def test_counts_and_sizes_are_those_of_the_paper_and_nothing_else_is_given(aall1331):
    """Of all grades at once; of 24 deaths 21 were of an infection."""
    mine = aall1331.frequencies
    mine["observed"] = 0  # of a copy: nothing that answers come from can be changed
    rows = aall1331.frequencies[~aall1331.frequencies["level"].isin(["bm", "iem"])]
    found = {(r.event, r.grade, r.covariate, r.level): (r.n, r.observed) for r in rows.itertuples()}
    expected = {
        (*pair, name, level): counted
        for pair, by in PAPER.items()
        for name, counts in by.items()
        for level, counted in zip(LEVELS[name], zip(SIZES[name], counts, strict=True), strict=True)
    }
    assert found == expected | {("infections", "5", *TOTAL): (661, 21)}
    assert (len(found), aall1331.n) == (len(rows), 661)


def test_grouped_levels_are_derived_and_others_published(aall1331):
    rows = aall1331.frequencies
    assert rows[rows["level"].isin(["bm", "iem"])]["derived"].all()
    assert (~rows["derived"]).sum() == 74


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
        assert p_values_module._fisher_exact(observed, n) == pytest.approx(fisher_exact(observed, n), rel=1e-9)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "rash,3-5,region,,0.5,chi2",
            "tests.csv, line 2, rash 3-5 by region: no frequency at north, south, coast to test; published are none",
        ),
        (
            "rash,3-5,colour,,0.5,chi2",
            "tests.csv, line 2, rash 3-5 by colour: no such covariate; choose from arm, stage, region",
        ),
        ("rash,3-5,stage,,0.5,anova", "the test is 'anova'; it must be chi2 or fisher"),
        ("rash,3-5,stage,,NS,chi2", "the P-value is 'NS'; it must be a number as printed"),
        ("any_toxicity,3-5,arm,,0.5,fisher", "no frequency at low"),
        ("rash,3-5,stage,a level; another,0.5,chi2", "no frequency at a level, another to test"),
        ("rash,3-5,stage,local_small,0.5,chi2", "it compares local_small alone"),
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


def test_invented_publication_has_every_row_written(invented, invented_patients):
    """Those of groups and totals that are sums of others, too."""
    rows = invented.frequencies
    assert len(rows) == 88
    for row in rows.itertuples():
        assert row.observed == count(invented_patients, row.event, row.grade, row.covariate, row.level)


def test_digest_changes_with_any_file_and_is_that_of_the_folder(invented, invented_folder):
    digests = {read_tables({**invented.texts, name: invented.texts[name] + "\n"}).digest for name in FILES}
    assert len(digests | {invented.digest}) == 1 + len(FILES)
    assert read_tables(invented.texts).digest == invented.digest == load_tables(invented_folder).digest


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


# Folders and files.


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
    with pytest.raises(ValueError, match=r"events\.csv: not UTF-8 \(byte 11\); save it as UTF-8"):
        load_tables(tmp_path)


# What is printed, as counts.


@pytest.mark.parametrize(
    ("printed", "unit", "n", "expected"),
    [
        ("12", "percent", 104, (12, 13)),  # 13 of 104 is 12.5 %
        ("37", "percent", 134, (49, 50)),
        ("2.1%", "percent", 1681, (35, 36)),
        ("100", "percent", 7, (7, 7)),
        ("<1", "percent", 250, (1, 2)),
        ("1-2", "percent", 200, (1, 5)),
        ("17.5", "percent", 83, None),
        ("0.0", "percent", 0, (0, 0)),
        ("17", "percent", 0, None),
        ("<5", "count", 90, (1, 4)),  # nobody is printed as 0
        ("< 5", "count", 90, (1, 4)),
        ("\u22643", "count", 90, (1, 3)),
        ("0-4", "count", 90, (0, 4)),
        ("88.0", "count", 90, (88, 88)),
    ],
)
def test_what_is_printed_leaves_these_counts_possible(printed, unit, n, expected):
    assert printed_range(printed, unit, n) == expected


def test_percentages_may_be_rounded_half_up_down_or_to_even():
    """All counts of cohorts of many sizes, by enumeration in decimals."""
    for n, decimals in [(8, 0), (40, 0), (104, 0), (200, 0), (16, 1), (80, 1), (1000, 1), (1681, 1), (160, 2)]:
        unit, possible = Decimal(1).scaleb(-decimals), {}
        for k in range(n + 1):
            for way in (ROUND_HALF_UP, ROUND_HALF_DOWN, ROUND_HALF_EVEN):
                possible.setdefault(str((Decimal(100 * k) / n).quantize(unit, way)), set()).add(k)
        for printed, counts in possible.items():
            assert printed_range(printed, "percent", n) == (min(counts), max(counts)), (printed, n)


def test_count_in_its_column_goes_before_a_half_that_was_rounded():
    """Of 104 patients, 12 and 13 are both printed 12 percent."""
    by_arm = PUB.replace("rash,3-5,total,all,200,52,count,,no,\n", "")
    for given in ("12", "13"):
        tables = read_tables(folder(frequencies=by_arm.replace("104,17.3,percent,", f"104,12,percent,{given}")))
        assert rows_of(tables, "rash", "3-5", "arm", ["low"])[1].item() == int(given)
    both = read_tables(folder(frequencies=by_arm.replace("17.3", "12"))).rows[0]
    assert (both.observed_low, both.observed_high, both.observed) == (12, 13, None)


# Tables of other shapes.

PUB = """event,grade,covariate,level,n,printed,unit,count,derived,source
rash,3-5,total,all,200,52,count,,no,
rash,3-5,arm,low,104,17.3,percent,,no,
rash,3-5,arm,high,96,35.4,percent,,no,
"""


def folder(*, frequencies=PUB, levels=("low", "high"), cohort="arm,low,104\narm,high,96\n", more=""):
    """Texts of a small publication of 200 patients in two arms, with other columns left out."""
    about = f'name = "pub"\ntitle = "T"\ncitation = "C"\npatients = 200\n{more}\n'
    return {
        "publication.toml": about + covariate_table("arm", levels),
        "events.csv": "event,label,parent,relation,grades\nrash,Rash,,,3-5\n",
        "frequencies.csv": frequencies,
        "cohort.csv": cohort if cohort.startswith("covariate,") else f"covariate,level,n\n{cohort}",
    } | NO_TESTS


def test_total_that_the_paper_has_wrong_is_read_with_its_count_and_a_discrepancy():
    """Printed 53, where the arms have 18 and 34."""
    texts = folder(frequencies=PUB.replace("200,52,count,", "200,53,count,"))
    said = faults_of(texts)
    assert "give the right number in the column count of the row that is wrong, and that row in discrepancies.csv" in said
    texts["frequencies.csv"] = PUB.replace("200,52,count,", "200,53,count,52")
    texts["discrepancies.csv"] += "rash,3-5,total,all,Table 2,53,52,52 is used\n"
    assert read_tables(texts).rows[-1].observed == 52


def test_level_with_nobody_has_nobody_of_nobody():
    row = "rash,3-5,arm,none,0,0,percent,,no,\n"
    tables = read_tables(
        folder(frequencies=PUB + row, levels=("low", "high", "none"), cohort="arm,low,104\narm,high,96\narm,none,0\n")
    )
    found = next(row for row in tables.rows if row.level == "none")
    assert (found.n, found.observed, found.derived) == (0, 0, True)
    assert "0 of 0" in str(frequency_lines(tables))
    assert make_cells(tables).n.tolist() == [104, 96, 0]
    assert "0 of 0" not in tables._repr_html_()


def test_rows_that_are_all_sums_of_others_are_refused():
    said = faults_of(folder(frequencies=PUB.replace(",,no,", ",,yes,")))
    assert (
        "line 2: all rows of rash are derived, the sums of others, so that none is evidence of it; leave derived empty" in said
    )


@pytest.mark.parametrize(("ages", "good"), [((0, 40, 60), True), ((60, 40, 0), True), ((0, 60, 40), False)])
def test_levels_in_order_stand_in_the_order_of_their_column(ages, good):
    level = '{{ name = "{0}", label = "{0}", when = {{ years = {{ min = {0}, below = {1} }} }} }}'
    levels = ", ".join(level.format(age, age + 20) for age in ages)
    age = f'[[covariates]]\nname = "age"\nlabel = "Age"\nordered = true\nlevels = [{levels}]\n'
    texts = folder(more=age, cohort="arm,low,104\narm,high,96\nage,0,90\nage,40,60\nage,60,50\n")
    if good:
        assert read_tables(texts).covariates[0].ordered
    else:
        assert "covariates[age]: is ordered, but its levels are not in the order of years; put them in" in faults_of(texts)


def test_a_count_beside_percentages_is_pointed_at():
    text = PUB.replace("96,35.4,percent", "96,35,count").replace("200,52,", "200,53,")
    assert [line.split(",")[0] for line in unit_lines(read_tables(folder(frequencies=text)))] == ["Lines 3 and 4"]
    assert unit_lines(read_tables(folder())) == []


@pytest.mark.parametrize("name", ["60+", "a+b", "a*b", "+", "total"])
def test_names_of_levels_are_matched_whole_before_they_are_split(name):
    texts = folder(levels=("low", "high", name), cohort=f"arm,low+high,180\narm,high,96\narm,{name},20\n")
    texts["frequencies.csv"] = f"event,grade,covariate,level,n,printed,unit\nrash,3-5,arm,{name},20,3,count\n"
    tables = read_tables(texts)
    assert make_cells(tables).having("arm", name).tolist() == [False, False, True]
    assert make_cells(tables).n.tolist() == pytest.approx([84, 96, 20])


@pytest.mark.parametrize(
    ("covariate", "level", "expected"),
    [
        ("total", "all", ()),
        ("arm", "B", (("arm", ("B",)),)),
        ("age", "50-69+60+", (("age", ("50-69", "60+")),)),
        ("arm*age", "B*60+", (("arm", ("B",)), ("age", ("60+",)))),
        ("age*arm", "60++50-69*B", (("age", ("60+", "50-69")), ("arm", ("B",)))),
        ("arm*age", "B", None),
        ("arm*sex", "B*f", None),
        ("age", "60++60+", None),
        ("arm", "+".join("AB" * 500), None),
    ],
)
def test_rows_of_two_covariates_or_several_levels(covariate, level, expected):
    known = [
        Covariate("arm", "", (Level("A", ""), Level("B", ""))),
        Covariate("age", "", (Level("50-69", ""), Level("60+", ""))),
    ]
    assert split(known, covariate, level) == expected


CROSSED = """covariate,level,n,by,by_level
arm,low,60,sex,f
arm,low,44,sex,m
arm,high,96,sex,f
"""


def test_cross_tabulation_without_its_zero_rows_names_the_missing_cells():
    texts = folder(cohort=CROSSED)
    texts["publication.toml"] += covariate_table("sex", "fm")
    assert faults_of(texts) == (
        "cohort.csv: arm*sex has no row for high with m, though its other rows hold all 200 patients; give them with n 0, "
        'or complete = ["arm*sex"] in publication.toml'
    )
    complete = folder(cohort=CROSSED, more='complete = ["arm*sex"]')
    complete["publication.toml"] += covariate_table("sex", "fm")
    assert make_cells(read_tables(complete)).n.tolist() == [60, 44, 96, 0]
    with_zero = {**texts, "cohort.csv": CROSSED + "sex*arm,m*high,0,,\n"}
    assert make_cells(read_tables(with_zero)).n.tolist() == [60, 44, 96, 0]


def test_template_is_a_publication_and_is_not_written_over(tmp_path):
    run = CliRunner().invoke(main, ["tables", "--new", str(tmp_path / "new")])
    assert (run.exit_code, run.stdout) == (0, "")
    assert CliRunner().invoke(main, ["tables", str(tmp_path / "new")]).exit_code == 0
    again = CliRunner().invoke(main, ["tables", "--new", str(tmp_path / "new")])
    assert again.exit_code == 2
    assert "would be written over; name another folder" in again.output


def test_the_shell_lists_all_that_is_wrong(tmp_path):
    write_template(tmp_path)
    for file, old, new in (
        ("frequencies.csv", "17.3", "few"),
        ("cohort.csv", ",104,", ",x,"),
        ("events.csv", "nested", "inside"),
    ):
        text = (tmp_path / file).read_text()
        (tmp_path / file).write_text(text.replace(old, new))
    run = CliRunner().invoke(main, ["tables", str(tmp_path)])
    assert run.exit_code == 2
    assert [line.split(":")[0] for line in run.output.split("Error: ")[1].splitlines()] == [
        "events.csv, line 3",
        "events.csv, line 4",
        "frequencies.csv, line 4",
        "cohort.csv, line 2",
    ]


# Whatever is wrong is refused, by file and line.


def test_recorded_discrepancy_lets_a_count_stand(aall1331):
    recorded = "".join(
        line for line in aall1331.texts["discrepancies.csv"].splitlines(True) if not line.startswith("gi_toxicity")
    )
    with pytest.raises(ValueError, match=r"53 of 380 is not printed 14\.0"):
        read_tables({**aall1331.texts, "discrepancies.csv": recorded})


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
