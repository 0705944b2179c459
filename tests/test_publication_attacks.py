"""Whatever a publication's files hold, they are read, or refused in one short line at once."""

from __future__ import annotations

import os
import pickle
import re
import signal
import time

import numpy as np
import pytest

import aemodel
from aemodel.publication.cells import make_cells
from aemodel.publication.errors import PublicationError
from aemodel.publication.families import make_families
from aemodel.publication.p_values import p_value_table
from aemodel.publication.schema import FILES
from aemodel.publication.summary import frequency_lines
from aemodel.publication.tables import load_tables, read_tables
from aemodel.publication.texts import MOST_BYTES, listed, open_regular, shown
from aemodel.scoring.files import read_frame
from tests.publications import EVIDENCE, covariate_table, faults_of, publication_texts
from tests.test_output import make_socket

LONGEST = 700
"""Characters of an error."""
NASTY = (
    *"-1 0 1 1e400 1E-400 nan NaN inf -inf None 88.0 12. .5 100.1 1,5 17·3 05-Mar 3\u20135 <5 ½ ٣ ١٢ ² 0x10 1_000 =1+1".split(),
    *'" "" "open a"b "a"b a,b ,,,,, ../.. {x} %s total all 3-5 4-5 5 yes no Total ALL'.split(),
    *("", " ", "9" * 30, "0" * 30, "9" * 5000, "0." + "0" * 30 + "1", "3-5 3-5", "x" * 4000, "é" * 3000),
    *("a\nb", "a\rb", "\0", "\x1b[31m", "\ufeff", "\u202e", "\ud7ff"),
)
NASTY_TOML = (
    *'"no" "true" 1 -1 1.5 true [] {} nan inf 1e400 "" "\\u0000" 1979-05-27 [[[[1]]]] ["a","a"] [["a"],["b"]] {a="b"} = "x""x"'.split(),
    *("9" * 4000, "0x" + "f" * 5000, '{ min = "1" }', "'''a\nb'''", "", '"' + "x" * 9000 + '"', '["\\u001b[2J"]'),
    *("[" * 3000 + "]" * 3000, "{a=" * 2000, ".".join("a" * 3000)),
)


def mutated(texts, rng):
    """One or two changes: a cell, a row, a character, a value of the TOML."""
    texts = dict(texts)
    for _ in range(int(rng.integers(1, 3))):
        name = FILES[int(rng.integers(len(FILES)))]
        lines = texts[name].split("\n")
        at = int(rng.integers(len(lines)))
        odd = NASTY[int(rng.integers(len(NASTY)))]
        match int(rng.integers(6)):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[int(rng.integers(len(lines)))])
            case 2:
                lines[at] = odd
            case 3 if name.endswith("toml"):
                value = NASTY_TOML[int(rng.integers(len(NASTY_TOML)))]
                keys = list(re.finditer(r"= ", lines[at]))
                if keys:
                    start = keys[int(rng.integers(len(keys)))].end()
                    lines[at] = lines[at][:start] + value + lines[at][start:][int(rng.integers(2)) * 1000 :]
            case 4:
                place = int(rng.integers(len(lines[at]) + 1))
                lines[at] = lines[at][:place] + odd[:50] + lines[at][place:]
            case _:
                cells = lines[at].split(",")
                cells[int(rng.integers(len(cells)))] = odd
                lines[at] = ",".join(cells)
        texts[name] = "\n".join(lines)
    return texts


def outcome(texts, *, whole=False):
    """``read``, or ``refused`` as it should be; anything else is raised."""
    started = time.process_time()
    try:
        tables = read_tables(texts)
        repr(tables)
        tables._repr_html_()
        frequency_lines(tables)
        if whole:
            make_families(tables.events)
            make_cells(tables)
        p_value_table(tables)
        found = "read"
    except ValueError as error:
        said = str(error)
        assert len(said) <= LONGEST, said
        assert said.isprintable(), repr(said)
        assert re.match(r"[a-z]+\.(csv|toml)", said), said
        found = "refused"
    assert whole or time.process_time() - started < 10
    return found


def publications(aall1331, invented_patients):
    return aall1331.texts, publication_texts(invented_patients, evidence=EVIDENCE)


def outcomes(texts, seeds, *, whole=False):
    return [outcome(mutated(texts[seed % 2], np.random.default_rng(seed)), whole=whole) for seed in seeds]


def test_publications_of_odd_values_are_read_or_refused(aall1331, invented_patients):
    found = outcomes(publications(aall1331, invented_patients), range(200))
    assert min(found.count("read"), found.count("refused")) > 20


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 7000, 1000))
def test_thousands_of_publications_of_odd_values(aall1331, invented_patients, start):
    assert "refused" in outcomes(publications(aall1331, invented_patients), range(start, start + 1000), whole=True)


# Each by the message that it must have.

ROW = "any_ae,4-5,total,all,661,183,count,183,no,"
LAST = "any_ae,3-5,total,all,661,480,count,480"
DEATHS = "death,3-5,relapse_group,bm,532,21,count,21"
SEPSIS = "sepsis,3-5,age_band,19-30,83,16.9,percent,14"
RULE = "{ min = 1, below = 10 }"
F, C, E, T = "frequencies.csv", "cohort.csv", "events.csv", "publication.toml"
WHEN = r"covariates\[age_band\]\.levels\[1-9\]\.when\.age"
CASES = [
    # Cells and lines.
    (C, "relapse_group,bm_late,,,323", 'relapse_group,"bm_late,,,323', r"line 3: unterminated quote; check quotes"),
    (F, ROW, f'"any_ae"x{ROW[6:]}', r"line \d+: text after a closing quote"),
    (F, LAST, LAST.replace("480", "480\0"), r"line \d+: the invisible character '\\x00'; remove it"),
    (C, "relapse_group,bm_late,,,323,Table 1", "relapse_group,bm_late,,,323,Table 1,more", r"line 3: 6 cells expected, not 7"),
    (F, SEPSIS, SEPSIS.replace("16.9", "16,9"), r"line \d+: 10 cells expected, not 11: .* 16,9 has a decimal comma: write 16\.9"),
    (F, f'{DEATHS},yes,"text, results"', f"{DEATHS},yes,text, results", r"line \d+: 10 cells expected, not 11: more than the header has; put a cell .*in double quotes, as \"one, two\"$"),
    (F, SEPSIS, SEPSIS[7:], r"line \d+: 10 cells expected, not 9: fewer than the header has; give each column a cell"),
    ("tests.csv", "event,grade,covariate,levels,p,test", "event,grade,covariat,levels,p,test", r"csv: columns must be event, .*cov"),
    (E, "event,label", "event;label", r"csv: columns must be .* event, label is missing, not 'event;label'"),
    # Numbers.
    (F, LAST, LAST.replace("480", "9" * 30), r"line \d+: printed: '9{30}' is not a whole number of at most 10,000,000"),
    *((F, LAST, LAST.replace("480,count", f"{odd},percent"), rf"line \d+: printed: '{odd}' is not a percentage, such as 17\.3")
      for odd in ("1e400", "NaN", "inf", "few")),
    (F, LAST, LAST.replace("480,count", '"17,3",percent'), r"'17,3' is not .*; decimals come after a point: write 17\.3"),
    (F, LAST, LAST.replace("480,count", "17·3,percent"), r"'17·3' is not .*; it has · \(\\xb7\): write '17\.3'"),
    (F, LAST, LAST.replace("480,count,480", "480,count,about"), r"line \d+: count: 'about' is not a whole number, nor two as 12-13"),
    *((F, LAST, LAST.replace("480,count,480", f"{odd},count,"), r"line \d+: printed: .* is not .*; if by the paper's legend nobody had it, write 0; if")
      for odd in ("-", "\u2013", "\u2014", "", "NR", "NA", "n/a", ".")),
    *((F, LAST, LAST.replace("480,count,480", f"{odd},{unit},"), rf"line \d+: printed: '.*' is not .*; {message}")
      for odd, unit, message in [
          ("480 (72.6)", "count", r"one number a row: 480 with unit count, or 72\.6 with unit percent, if they are that; of how many goes to n"),
          ("72.6% (480)", "percent", r"one number a row: 480 with unit count, or 72\.6 with unit percent; of how many goes to n"),
          ("<5 [0.7 %]", "count", r"one number a row: <5 with unit count, or 0\.7 with unit percent; of"),
          ("480/661", "percent", "write 480 here, with unit count, and 661 as n"), ("480 of 661", "count", "write 480 here, with unit"),
          ("73%", "count", "with a percent sign the unit is percent"), ('"1,480"', "count", "thousands have no comma: write 1480")]),
    *((F, LAST, LAST.replace("480,count,480", f"{odd},{unit},"), rf"line \d+: .*{message}$")
      for odd, unit, message in [
          *((f"480{mark}", "count", "; a number alone, without marks or words: write 480") for mark in ("*", "\u2020", "a", " b", "\u1d43", "\u00b2")),
          ("480/661 (72.6)", "count", "one number a row: 480 with unit count; of how many, 661, goes to n"),
          ("480 [72.6; 69-76]", "count", "one number a row: 480 with unit count; of how many goes to n"),
          ("1 480", "count", "thousands have no mark: write 1480"), ("1'480", "count", "thousands have no mark: write 1480"),
          ("4-1", "count", "'4-1' is a range from the higher to the lower number; write 1-4"),
          ("480", "percent", "'480' is more than 100 percent"),
          ("0.726", "percent", r"0\.726 percent is no whole number over 661; .*; if it is a fraction of 1, write 72\.6")]),
    (F, LAST, LAST.replace("count,480", "count,13-12"), r"line \d+: count: '13-12' goes from the higher to the lower number"),
    (C, "relapse_group,bm_late,,,323,", "relapse_group,bm_late,,,N = 323,", r"line 3: n must be a whole number .*; found 'N = 323'; a .* write 323"),
    (F, LAST, LAST.replace("count,480", "count,-"), r"line \d+: count: '-' is not .*; leave it empty, unless"),
    (C, "relapse_group,bm_late,,,323,", "relapse_group,bm_late,,,,", r"line 3: n must be a whole number .*; found ''; no row may leave it empty"),
    (C, "relapse_group,bm_late,,,323,", "relapse_group,bm_late,,,323.5,", r"line 3: n must be a whole number of at .*; found '323\.5'"),
    (F, LAST, LAST.replace("661", "0"), r"line \d+: 480 events exceed 0 patients"),
    (F, LAST, LAST.replace("480", "700"), r"line \d+: 700 events exceed 661 patients"),
    (F, SEPSIS, "sepsis,3-5,age_band,19-30,83,17.5,percent,", r"line \d+: 17\.5 percent is no whole number over 83; give the count"),
    (F, SEPSIS, SEPSIS[:-2] + "15", r"line \d+: 15 of 83 is not printed 16\.9 \(percent\); .*discrepancies\.csv"),
    # Names and words.
    (F, LAST, LAST.replace("3-5", "05-Mar"), r"line \d+: .* a spreadsheet seems to have made a date of it"),
    (F, "sepsis,3-5,age_band,1-9", "sepsis,3-5,age_band,09-Jan", r"line \d+: .*'09-Jan' is unknown.*made a date of it"),
    (F, "sepsis,3-5,age_band,1-9", "sepsis,3-5,age_band,1\u20139", r"'1\u20139' is unknown; .*it has \u2013 \(\\u2013\): write '1-9'"),
    (F, "sepsis,3-5,age_band,1-9", "sepsis,3-5,Age_band,1-9", r"'Age_band' with level '1-9' is unknown; .*; write 'age_band'"),
    (C, "relapse_group,bm_late,,,323", "relapse_group,BM_late,,,323", r"line 3: .* with level 'BM_late' is unknown; .*; write 'bm_late'"),
    (C, "relapse_group,bm_late,,,323", "relapse_group,bm_lat\u200be,,,323", r"line 3: .* it has \\u200b: write 'bm_late'"),
    (F, LAST, LAST.replace("any_ae", "Any_AE"), r"event 'Any_AE' at grade '3-5' is not in events\.csv; events are .*; write 'any_ae'"),
    (F, "febrile_neutropenia,3-5,total", "febrile_neutropenia,3-4,total", r"which has it at 3-5; write one of these, or add '3-4' there"),
    (F, LAST, LAST.replace("count,480", "promille,480"), r"line \d+: unit must be percent or count; found 'promille'"),
    (F, SEPSIS, SEPSIS.replace("19-30", "19-29"), r"line \d+: covariate 'age_band' with level '19-29' is unknown; known are .*19-30"),
    (C, "relapse_group,bm_late,,,323", "relapse_group,bm_later,,,323", r"line 3: covariate 'relapse_group' with level 'bm_later' is"),
    (F, "any_ae,3-5,total", "any_event,3-5,total", r"line \d+: event 'any_event' at grade '3-5' is not in events\.csv"),
    (F, "febrile_neutropenia,3-5,total", "febrile_neutropenia,4-5,total", r"event 'febrile_neutropenia' at grade '4-5' is not in"),
    (C, "relapse_group,bm_late,,,323,Table 1", "relapse_group,bm_late,,,323,Table 1\nrelapse_group,bm_late,,,323,Table 1",
     r"line 4: given twice, in line 3 too, with 323 patients; leave one out"),
    (F, LAST, f"{LAST},no,x\n{LAST}", r"line (\d+): given twice, in line \d+ too: any_ae 3-5 total all; leave one out"),
    *((F, LAST, LAST.replace("3-5", odd), rf"line \d+: event 'any_ae' at grade '.*' is not in events\.csv, which has it at 3-5, 4-5; {message}")
      for odd, message in {
          **dict.fromkeys(["all grades", "all", "any grade", "Any", "All-grade"], "write any$"), "": "no row may leave it empty",
          **dict.fromkeys([">=3", "\u22653", "3+", "3 or higher", "G3-5", "Grade >= 3", "III-V", ">2"], "write 3-5$"),
          **dict.fromkeys(["3/4", "III-IV", "grades 3 and 4", "G3\u20134"], "write 3-4$"), "IV": "write 4$"}.items()),
    (E, "Oral mucositis,gi_toxicity,nested,3-5", "Oral mucositis,gi_toxicity,nested,>=3", r"line \d+: .* grade '>=3' is none of .*; write 3-5"),
    (E, "Oral mucositis,gi_toxicity,nested,3-5", "Oral mucositis,gi_toxicity,nested,5;3-5", r"grades '5;3-5 4-5' must have spaces between: write 5 3-5 4-5"),
    (E, "Oral mucositis,gi_toxicity,nested,3-5", "Oral mucositis,gi_toxicity,nested,3\u20135", r"grade '3\u20135' is none of .* write '3-5'"),
    (E, "Oral mucositis,gi_toxicity,nested,3-5", "Oral mucositis,gi_toxicity,nested,mild", r"grade 'mild' is none of .* named in \[\[grades\]\]"),
    # Sums.
    (T, 'name = "sex"', 'name = "grade"', r"covariate 'grade' has the name of a column of answers; rename it"),
    (F, "infections,3-5,total,all,661,36.6,percent,242", "infections,3-5,total,all,661,36.8,percent,243",
     r"infections 3-5: the margins disagree on .*'age_band': 242.*'total': 243\}; correct it; .* in the column count .* discrepancies"),
    (F, DEATHS, "death,3-5,relapse_group,bm,532,22,count,22",
     r"line \d+, death 3-5: observed of bm is 22, its levels sum to 21"),
    (F, "sepsis,4-5,age_band,19-30,83,16.9", "sepsis,4-5,age_band,19-30,84,16.7",
     r"line \d+, sepsis 4-5: the levels of age_band hold 662 patients, the cohort 661"),
    (F, "gi_toxicity,4-5,sex,male,380,1.3,percent,5", "gi_toxicity,4-5,sex,male,380,14.2,percent,54",
     r"line \d+, gi_toxicity sex male: more patients at grade 4-5 than at 3-5 \(line \d+\)"),
    (T, "patients = 661", "patients = 662", r"patients: 662, but every table of all levels is of 661 patients"),
    # Events.
    (E, "hyperglycemia,Hyper", "Sepsis,Hyper", r"event 'sepsis' and 'Sepsis' differ in small and capital letters only"),
    *((E, "hyperglycemia,Hyper", f"{odd},Hyper", r"event .* must have 1 to 60 characters: letters, digits") for odd in ("", '"a,b"', '"a b"')),
    (E, "hyperglycemia,Hyper", "sex,Hyper", r"event 'sex' is the name of a covariate or of a raw column too"),
    (E, "(infection or febrile neutropenia),any_ae,", "(infection or febrile neutropenia),sepsis,", r"the nesting goes in a circle: .* in "),
    (E, "Oral mucositis,gi_toxicity", "Oral mucositis,stomach", r"event 'oral_mucositis': parent 'stomach' is not an event; events are any_ae"),
    (E, "gi_toxicity,nested", "gi_toxicity,inside", r"line \d+: relation must be nested or union or fatal; found 'inside'"),
    (E, "infections_total,union,3-5\n", "infections_total,nested,3-5\n", r"events in 'infections_total' must be all nested or all union"),
    (E, "death,Death in Block 1,any_ae,fatal,3-5 4-5\n", "death,D,any_ae,fatal,3-5 4-5\ndeath2,D,any_ae,fatal,3-5 4-5\n",
     r"a family can have one fatal event; under 'any_ae' there are \['death', 'death2'\]"),
    # Keys of publication.toml.
    (T, "patients = 661", f"patients = {10**30}", r"patients: must be a whole number from 1 to 10,000,000; found 1000"),
    (T, "patients = 661", "patients = true", r"patients: must be a whole number from 1 to 10,000,000; found True"),
    (T, "patients = 661", "patients = ", r"publication\.toml: "),
    (T, "patients = 661", "patients = 1,661", r"publication\.toml: .*'patients = 1,661'; thousands have no comma: write 1661"),
    (T, 'label = "Male"', "label = \u201cMale\u201d", r"publication\.toml: .*at line \d+, .*\u201cMale\u201d.*; quotes are straight: \u201c is none"),
    (T, "patients = 661", "", r"publication\.toml: 'patients' must be given"),
    (T, "open = true", 'open = "no"', r"covariates\[race_ethnicity\]\.open: must be true or false.*; found 'no'"),
    (T, "unlisted = true", 'unlisted = "no"', r"nulls\[1\]\.unlisted: must be true or false.*; found 'no'"),
    (T, 'doi = "10', 'doi = ["10"]\n# "', r"doi: must be a text in quotes; found \['10'\]"),
    (T, 'label = "Male"', 'label = "\\u001b[2J"', r"levels\[male\]\.label: must have .* none invisible; found"),
    (T, "patients = 661", f"patients = {'[' * 90_000}", r"publication\.toml: lists or tables are nested too deep"),
    (T, "patients = 661", f"{'.'.join('a' * 90_000)} = 1", r"line \d+: a key of more than 10 parts"),
    (T, "patients = 661", "patients = 661\nlicense = 'free'", r"publication\.toml: unknown key 'license'; known are .*\blicence\b"),
    (T, "open = true", "opened = true", r"covariates\[race_ethnicity\]: unknown key 'opened'; known are .*\bopen\b"),
    (T, 'label = "Male"', 'label = "Male", groups = "m"', r"covariates\[sex\]\.levels\[male\]: unknown key 'groups'; .*\bgroup\b"),
    (T, "unlisted = true", "unlisted = true\nevent = 'death'", r"nulls\[1\]: unknown key 'event'; known are .*\bevents\b"),
    (T, "[orderings.tiers]", "level = 'bm'\n[orderings.tiers]", r"orderings\[1\]: unknown key 'level'; known are .*\bwithin\b"),
    (T, "unlisted = true", "unlisted = true\nchosen = 1", r"unknown key 'chosen'"),
    (T, "patients = 661", 'patients = 661\nchosen = "rank"', r"chosen: must be significance or frequency or all; found 'rank'"),
    (T, "patients = 661", 'patients = 661\nchosen = "frequency"',
     r"nulls\[1\]: unlisted = true says that what is not listed was not significant, but the table was chosen by frequency"),
    # Covariates and rules.
    (T, 'name = "male"', 'name = "FEMALE"', r"'FEMALE' and 'female' differ in small and capital letters only"),
    (T, 'name = "male"', 'name = " "', r"level or group ' ' must have 1 to 60 characters"),
    (T, '["19-20", "21-30"]', '["18", "21-30"]', r"level of the cohort '18' is given twice"),
    (T, '"male", label = "Male"', '"male", label = "Male", when = { code = "m" }', r"\[sex\]: its levels must all have conditions on the same"),
    *((T, RULE, rule, rf"{WHEN}{message}") for rule, message in {
        "{ min = 1, blow = 10 }": ": unknown key 'blow'; known are min, below", "{ min = '1' }": r"\.min: must be a finite number; found '1'",
        "{ min = true }": r"\.min: must be a finite number; found True", "{ below = nan }": r"\.below: must be a finite number; found nan",
        f"{{ min = {10**400} }}": r"\.min: must be a finite number; found 1000", "7": r": must be a text in quotes or a table with min or below"}.items()),
    (T, RULE, "{}", r"levels\[1-9\]: the condition on age must be a text, or numbers min, below or both; give them"),
    (T, RULE, "{ min = 10, below = 1 }", r"levels\[1-9\]: holds for no age: min 10 must be less than below 1"),
    (T, RULE, "{ min = 1, below = 13 }", r"levels '1-9' and '10-18' overlap: age at least 1 and below 13 and age at least 10 and below"),
    (T, "{ min = 19, below = 31 }", "{ min = 18.5 }", r"levels '10-18' and '19-30' overlap"),
    (T, 'relapse_site = "iem", months_to_relapse = { min = 18, below = 360 }', 'relapse_site = "bm", months_to_relapse = { min = 18, below = 360 }',
     r"\[relapse_group\]: levels 'bm_early' and 'iem_late' overlap: relapse_site bm with months_to_relapse"),
    *((T, "at_most = { months_to_relapse = { column = \"age\"", f"at_most = {{ {column} = {{ column = \"{by}\"", rf"\[relapse_group\]\.at_most: {message}")
      for column, by, message in [("months", "age", "months must be raw columns"), ("relapse_site", "age", "relapse_site must"),
                                  ("age", "months_to_relapse", "age must"), ("months_to_relapse", "sex", "sex must")]),
    (T, "times = 12", "times = '12'", r"at_most\.months_to_relapse\.times: must be a finite number"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "message"), CASES, ids=range(len(CASES)))
def test_odd_value_is_refused_by_file_and_place(aall1331, file, old, new, message):
    assert aall1331.texts[file].count(old) == 1
    said = faults_of({**aall1331.texts, file: aall1331.texts[file].replace(old, new)})
    assert any(re.search(message, line) and line.startswith(file) for line in said.splitlines()), said
    assert max(map(len, said.splitlines())) < LONGEST
    assert said.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("file", "new"), [(T, "patients = 1,661"), (E, "Any toxicity,,,any 4-5"), (E, 'Any toxicity,,,"any, 4-5"')]
)
def test_what_follows_from_a_slip_is_not_told_beside_it(aall1331, file, new):
    texts = dict(aall1331.texts)
    old = {T: "patients = 661", E: next(line for line in texts[E].splitlines() if line.startswith("any_ae"))[7:]}[file]
    assert len(faults_of({**texts, file: texts[file].replace(old, new)}).splitlines()) == 1


def test_names_in_tests_are_cut_short(aall1331):
    text = aall1331.texts["tests.csv"].replace("sepsis,3-5", f"{'x' * 4000},3-5")
    with pytest.raises(
        PublicationError, match=r"tests\.csv, line 14, x{60}\.\.\. 3-5 by age_band: no such event; choose from infections_total"
    ):
        p_value_table(read_tables({**aall1331.texts, "tests.csv": text}))


def test_everything_that_is_wrong_is_told_at_once(aall1331):
    texts = dict(aall1331.texts)
    texts[T] = texts[T].replace("patients = 661", "patients = 662").replace("alpha = 0.05", "alpha = 5")
    texts[F] = texts[F].replace(LAST, LAST.replace("3-5", "05-Mar")).replace(SEPSIS, SEPSIS.replace("16.9", "few"))
    texts[C] = texts[C].replace(",", ";").replace("323", "323.5")
    with pytest.raises(PublicationError) as found:
        read_tables(texts)
    told = [(fault.file, fault.line, fault.key) for fault in found.value.faults]
    assert told[0] == (found.value.file, found.value.line, found.value.key)
    assert told == [
        (T, None, "orderings[1].alpha"),
        (T, None, "nulls[1].alpha"),
        (T, None, "patients"),
        (F, next(i for i, line in enumerate(texts[F].splitlines(), 1) if ",few," in line), ""),
        (F, next(i for i, line in enumerate(texts[F].splitlines(), 1) if "05-Mar" in line), ""),
        (C, None, ""),
        (C, 3, ""),
    ]
    assert "(and 6 more: `aemodel tables` lists them)" in str(found.value)
    assert pickle.loads(pickle.dumps(found.value)).faults[1].key == "nulls[1].alpha"


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_marks_for_commas_are_named(aall1331, mark, name):
    said = faults_of({**aall1331.texts, C: aall1331.texts[C].replace(",", mark)})
    assert said == f"cohort.csv: cells are separated by {name}; separate the cells with commas"


def reordered(text):
    """Columns the other way around, of a table without quotes."""
    return "\n".join(",".join(reversed(line.split(","))) for line in text.split("\n"))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("frequencies.csv", reordered),
        ("frequencies.csv", lambda text: text.replace("\n", "\n,,,,,,,,,\n\n")),
        ("frequencies.csv", lambda text: re.sub(r",(\d+),count,", r",\1.0,count,", text)),
        ("cohort.csv", reordered),
    ],
    ids=["columns in another order", "empty rows", "counts as 88.0", "columns of the cohort"],
)
def test_what_a_spreadsheet_makes_of_a_table_is_read(invented, file, change):
    read = read_tables({**invented.texts, file: change(invented.texts[file])})
    assert read.frequencies.drop(columns="printed").equals(invented.frequencies.drop(columns="printed"))
    assert read.cohort.equals(invented.cohort)


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_lines_may_end_as_on_any_system(invented, tmp_path, end):
    """And files begin with a byte order mark."""
    for name in FILES:
        (tmp_path / name).write_bytes(invented.texts[name].replace("\n", end).encode("utf-8-sig"))
    assert load_tables(tmp_path).digest == invented.digest


def chain(depth):
    rows = [f"e{i},E,{f'e{i - 1}' if i else ''},{'nested' if i else ''},3-5" for i in range(depth)]
    return "event,label,parent,relation,grades\n" + "\n".join(rows)


TOO_MUCH = [
    (T, lambda text: text + "".join(covariate_table(f"c{i}", "ab") for i in range(15)), r"the levels of 18 covariates have .* combinations, at most 10,000"),
    (E, lambda text: text + "".join(f"e{i},E,,,3-5\n" for i in range(100_000)), r"more than 200 rows, from line 202 on"),
    (E, lambda text: chain(150), r"event 'e20' lies more than 20 deep in others"),
    (C, lambda text: text + text.splitlines()[-1].join("\n" * 10**5), r"more than 1,000 rows, from line 10\d\d on"),
    (F, lambda text: text.replace(",", "," + "x" * 6000, 1), r"columns must be"),
    (F, lambda text: text.replace("Table 2", "x" * 6000), r"line 2: source has more than 5000 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "change", "message"), TOO_MUCH, ids=range(len(TOO_MUCH)))
def test_too_much_is_refused_with_a_figure(invented, file, change, message):
    with pytest.raises(ValueError, match=message) as refused:
        read_tables({**invented.texts, file: change(invented.texts[file])})
    assert len(str(refused.value)) < LONGEST


@pytest.mark.parametrize("size", [MOST_BYTES // 2, MOST_BYTES + 1, 10**11])
def test_files_that_are_too_large_are_not_read(invented, tmp_path, size):
    for name in FILES:
        (tmp_path / name).write_text(invented.texts[name], encoding="utf-8")
        os.truncate(
            tmp_path / name, max(size, 1) if name in ("tests.csv", "cohort.csv") else len(invented.texts[name].encode())
        )
    with pytest.raises(ValueError, match=r"larger than 1000000 bytes|bytes together; a publication may have 1,000,000"):
        load_tables(tmp_path)


# No file at all.


@pytest.fixture
def impatient():
    """Ends what would wait for ever."""
    signal.alarm(20)
    yield
    signal.alarm(0)


NO_FILES = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a device": lambda path: os.symlink("/dev/zero", path),
    "a socket": make_socket,
    "a loop": lambda path: os.symlink(path.name, path),
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_not_waited_for(invented, tmp_path, impatient, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        (tmp_path / name).write_text(invented.texts[name], encoding="utf-8")
    for name in ("events.csv", "patients.csv", "patients.parquet"):
        path = (tmp_path / name).relative_to(tmp_path)
        path.unlink(missing_ok=True)
        NO_FILES[kind](path)
        message = "symbolic links" if kind == "a loop" else f"{name} is {kind}, not a file"
        if kind == "a folder" and name.startswith("patients"):  # which may be a table of many files
            message = f"'{name}' is a folder without a file of Parquet"
        with pytest.raises((ValueError, OSError), match=message):
            load_tables(".") if name == "events.csv" else read_frame(path)


def test_link_to_a_file_is_followed(invented, tmp_path):
    (tmp_path / "there").mkdir()
    for name in FILES:
        (tmp_path / "there" / name).write_text(invented.texts[name], encoding="utf-8")
        (tmp_path / name).symlink_to(tmp_path / "there" / name)
    assert aemodel.load_tables(tmp_path).digest == invented.digest
    with pytest.raises(ValueError, match="is a link, not a file"):
        open_regular(tmp_path / FILES[0], links=False)


VALUES = ["x" * 10**6, list(range(10**5)), {"a": ["b" * 99] * 99}, 16**9999, [[[[[["x"]]]]]], "\0\n\x1b", {("x" * 99,) * 99}]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_values_are_shown_on_one_short_line(value):
    assert len(shown(value)) < 650
    assert shown(value).isprintable()


def test_names_are_listed_in_a_few_lines():
    assert len(listed(["x" * 99] * 10**5)) < 1500
