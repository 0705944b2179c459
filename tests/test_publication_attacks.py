"""Whatever a publication's files hold, they are read, or refused in one short line at once."""

from __future__ import annotations

import os
import re
import signal
import socket
import time

import numpy as np
import pytest

import aemodel
from aemodel.publication.cells import make_cells
from aemodel.publication.families import make_families
from aemodel.publication.p_values import p_value_table
from aemodel.publication.summary import frequency_lines
from aemodel.publication.tables import load_tables, read_tables
from aemodel.publication.texts import FILES, MOST_BYTES, listed, open_regular, shown
from aemodel.serving.csv_text import open_csv
from aemodel.serving.parquet_files import read_frame
from tests.publications import EVIDENCE, publication_texts

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
        frequency_lines(tables.frequencies.to_dict("records"))
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
CASES = [
    ("cohort.csv", "relapse_group,bm_late,,,323", 'relapse_group,"bm_late,,,323', r"line 3: unterminated quote"),
    ("frequencies.csv", ROW, f'"any_ae"x{ROW[6:]}', r"line \d+: text after a closing quote"),
    ("frequencies.csv", LAST, LAST.replace("480", "9" * 30), r"line \d+: '9{30}' is not a whole number of at most"),
    ("frequencies.csv", LAST, LAST.replace("480,count", "1e400,percent"), r"line \d+: '1e400' is not a percentage"),
    ("frequencies.csv", LAST, LAST.replace("480,count", "NaN,percent"), r"line \d+: 'NaN' is not a percentage"),
    ("frequencies.csv", LAST, LAST.replace("480,count", "inf,percent"), r"line \d+: 'inf' is not a percentage"),
    ("frequencies.csv", LAST, LAST.replace("480", "480\0"), r"line \d+: the invisible character '\\x00'; remove it"),
    ("frequencies.csv", LAST, LAST.replace("3-5", "05-Mar"), r"a spreadsheet seems to have made a date of it"),
    ("frequencies.csv", LAST, LAST.replace("661", "0"), r"line \d+: n is 0; a level without patients"),
    ("frequencies.csv", LAST, f"{LAST},no,x\n{LAST}", r"line (\d+): given twice, in line \d+ too: any_ae 3-5 total all"),
    ("publication.toml", "patients = 661", "patients = 662", r"the cohort 662 \(patients in publication\.toml\)"),
    ("publication.toml", "patients = 661", f"patients = {10**30}", r"patients must be 1 to 10,000,000; found 1000"),
    (
        "publication.toml",
        "patients = 661",
        "patients = true",
        r"publication\.toml: patients must be a whole number; found True",
    ),
    (
        "publication.toml",
        "open = true",
        'open = "no"',
        r"covariates\[race_ethnicity\]\.open must be true or false.*; found 'no'",
    ),
    ("publication.toml", "unlisted = true", 'unlisted = "no"', r"nulls\[1\]\.unlisted must be true or false.*; found 'no'"),
    ("publication.toml", 'doi = "10', 'doi = ["10"]\n# "', r"publication\.toml: doi must be a text in quotes; found \['10'\]"),
    ("publication.toml", 'label = "Male"', 'label = "\\u001b[2J"', r"levels\[male\]\.label must have .* none invisible; found"),
    (
        "publication.toml",
        "patients = 661",
        f"patients = {'[' * 90_000}",
        r"publication\.toml: lists or tables are nested too deep",
    ),
    ("publication.toml", "patients = 661", f"{'.'.join('a' * 90_000)} = 1", r"line \d+: a key of more than 10 parts"),
    ("publication.toml", "min = 1,", f"min = {10**400},", r"the condition on age is \{'below': 10, 'min': 1000"),
    (
        "events.csv",
        "hyperglycemia,Hyper",
        "Sepsis,Hyper",
        r"event 'sepsis' and 'Sepsis' differ in small and capital letters only",
    ),
    ("events.csv", "hyperglycemia,Hyper", ",Hyper", r"event '' must have 1 to 60 characters: letters, digits"),
    ("events.csv", "hyperglycemia,Hyper", '"a,b",Hyper', r"event 'a,b' must have 1 to 60 characters"),
    ("events.csv", "hyperglycemia,Hyper", '"a b",Hyper', r"event 'a b' must have 1 to 60 characters"),
    ("events.csv", "hyperglycemia,Hyper", "sex,Hyper", r"event 'sex' is the name of a covariate or of a raw column too"),
    ("publication.toml", 'name = "male"', 'name = "FEMALE"', r"'FEMALE' and 'female' differ in small and capital letters only"),
    ("publication.toml", 'name = "male"', 'name = " "', r"level or group ' ' must have 1 to 60 characters"),
    ("publication.toml", '["19-20", "21-30"]', '["18", "21-30"]', r"each level of the cohort lies in one level; found"),
    ("tests.csv", "sepsis,3-5", f"{'x' * 4000},3-5", r"tests\.csv: x{60}\.\.\. 3-5 by age_band: no frequency at 1-9"),
    ("events.csv", "event,label", "event;label", r"events\.csv: columns must be event, label.*; found \['event;label'"),
]


@pytest.mark.parametrize(("file", "old", "new", "message"), CASES, ids=range(len(CASES)))
def test_odd_value_is_refused_by_file_and_place(aall1331, file, old, new, message):
    assert aall1331.texts[file].count(old) == 1
    with pytest.raises(ValueError, match=message) as refused:
        p_value_table(read_tables({**aall1331.texts, file: aall1331.texts[file].replace(old, new)}))
    assert str(refused.value).startswith(file) or "the cohort" in str(refused.value)
    assert len(str(refused.value)) < LONGEST
    assert str(refused.value).isprintable()


def test_semicolons_for_commas_are_named(aall1331):
    with pytest.raises(ValueError, match=r"cohort\.csv: columns must be .*; separate the cells with commas"):
        read_tables({**aall1331.texts, "cohort.csv": aall1331.texts["cohort.csv"].replace(",", ";")})


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
    for name in FILES:
        (tmp_path / name).write_bytes(invented.texts[name].replace("\n", end).encode())
    assert load_tables(tmp_path).digest == invented.digest


def more_covariates(number):
    level = 'levels = [{ name = "a", label = "A" }, { name = "b", label = "B" }]'
    return "".join(f'\n[[covariates]]\nname = "c{i}"\nlabel = "C"\n{level}\n' for i in range(number))


def chain(depth):
    rows = [f"e{i},E,{f'e{i - 1}' if i else ''},{'nested' if i else ''},3-5" for i in range(depth)]
    return "event,label,parent,relation,grades\n" + "\n".join(rows)


TOO_MUCH = [
    (
        "publication.toml",
        lambda text: text + more_covariates(15),
        r"the levels of 18 covariates have .* combinations, at most 10,000",
    ),
    ("events.csv", lambda text: text + "".join(f"e{i},E,,,3-5\n" for i in range(100_000)), r"line 202: more than 200 rows"),
    ("events.csv", lambda text: chain(150), r"event 'e20' lies more than 20 deep in others"),
    ("cohort.csv", lambda text: text + text.splitlines()[-1].join("\n" * 10**5), r"line 10\d\d: more than 1,000 rows"),
    ("frequencies.csv", lambda text: text.replace(",", "," + "x" * 6000, 1), r"columns must be"),
    ("frequencies.csv", lambda text: text.replace("Table 2", "x" * 6000), r"line 2: source has more than 5000 characters"),
]


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


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as here:
        here.bind(str(path)[-100:] if len(str(path)) < 100 else str(path))


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
        reader = {"events.csv": lambda path: load_tables("."), "patients.csv": open_csv}.get(name, read_frame)
        with pytest.raises((ValueError, OSError), match=message):
            reader(path)


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
