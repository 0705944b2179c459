"""Files of patients, CSV or Parquet: what is read of them, written in their order, and said of those that cannot be read."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

import aemodel
from aemodel.scoring import files, frames
from aemodel.scoring.csv_files import neutralised
from aemodel.scoring.files import connect, open_patients, read_frame
from aemodel.scoring.score import Asked, score_rows
from tests.streams import run

HEADER = "id,age,relapse_site,months_to_relapse,sex,race_ethnicity"
KINDS = pytest.mark.parametrize("kind", ["csv", "parquet"])


def scored(path, out, *options):
    return run("score", "aall1331", path, out, "--events", "sepsis", *options)


@pytest.fixture
def written(tmp_path):
    """Writes a file of patients."""

    def write(content, name="patients.csv"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / name

    return write


def rows_of(path):
    if path.suffix == ".parquet":
        return [["" if value is None else str(value) for value in row.values()] for row in pq.read_table(path).to_pylist()]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


# Cells.


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("a,b\n1,2\n\n3,4\n\n\n", [["1", "2"], ["3", "4"]]),
        ("a,b\r1,2\r3,4", [["1", "2"], ["3", "4"]]),
        ("a,b\r\n1,2\r\n3,4\r\n", [["1", "2"], ["3", "4"]]),
        ("a,b,\n1,2,\n", [["1", "2", None]]),
        ('a,"x; y; z; w"\n1,2\n', [["1", "2"]]),
        ('a,b\n"x\r\ny","he said ""no"""\n"",2\n', [["x\r\ny", 'he said "no"'], [None, "2"]]),
        ("a\n1\n\n2\n", [["1"], [None], ["2"]]),
        ('a,b\n1"x,#2\n', [['1"x', "#2"]]),
        ("a,b\n01, x\n1e3,NaN\n", [["01", " x"], ["1e3", "NaN"]]),
        ("a,b", []),
        ("\ufeffa,b\n1,2\n", [["1", "2"]]),
        ('"a\nb",c\n1,2\n', [["1", "2"]]),
        ("\n".join([",".join(f"a_rather_long_name_of_a_gene_{i}" for i in range(6000)), ",".join("1" * 6000)]), [["1"] * 6000]),
    ],
    ids=["blank lines", "CR", "CRLF", "unnamed column", "semicolons in a name", "quotes", "one column", "no quotes", "as written",
         "no rows", "BOM", "header of two lines", "long header"],
)  # fmt: skip
def test_cells_are_read_as_they_are_written(written, content, rows):
    frame = read_frame(written(content))
    assert [[None if cell is None else cell for cell in row] for row in frame.to_numpy().tolist()] == rows


AGES = st.sampled_from(["", "7", "18.7", " 25 ", "1e1", "+3", "30.99"])
OWN = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t\r\"',;=-"), max_size=6)
ROW = st.tuples(
    OWN.filter(lambda text: not text.lstrip(" ").startswith('"') or text.startswith('"')),
    AGES,
    st.sampled_from(["bm", "iem", ""]),
    st.sampled_from(["20", "17.5", "", "40"]),
    st.sampled_from(["male", "female", ""]),
    st.sampled_from(["hispanic", "nh_white", ""]),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=12), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"]))
def test_cells_come_out_as_they_went_in_beside_their_risks(tmp_path_factory, shipped, rows, delimiter, end):
    folder = tmp_path_factory.mktemp("cells")
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([HEADER.split(","), *rows])
    (folder / "patients.csv").write_bytes(text.getvalue().encode())
    frame = pd.DataFrame(rows, columns=HEADER.split(","), dtype=object).replace({"": None})
    risks = aemodel.score(shipped, frame, events=["sepsis"]).iloc[:, 6:].to_numpy().tolist()
    for kind in ("csv", "parquet"):
        result = scored(folder / "patients.csv", folder / f"scored.{kind}")
        assert result.exit_code == 0, result.output
    with (folder / "scored.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.reader(file, delimiter=delimiter, strict=True))[1:]
    assert [row[:6] for row in found] == [[neutralised(row[0]), *map(neutralised, row[1:])] for row in rows]
    assert [row[:6] for row in rows_of(folder / "scored.parquet")] == [list(row) for row in rows]
    assert (
        [row[6:] for row in found]
        == [row[6:] for row in rows_of(folder / "scored.parquet")]
        == [list(map(str, row)) for row in risks]
    )


@pytest.mark.parametrize("into", ["csv", "parquet"])
@pytest.mark.parametrize("source", ["csv", "parquet"])
def test_many_rows_keep_their_order(tmp_path, source, into):
    """Enough rows for several threads, and texts of which some could be formulas."""
    path, out = tmp_path / f"patients.{source}", tmp_path / f"scored.{into}"
    with connect() as connection:
        relation = connection.sql(
            "SELECT i AS id, ['-', 'x', '=1'][1 + (i % 3)::INT] AS note, 1 + i % 30 AS age, 'bm' AS relapse_site, "
            "20 AS months_to_relapse, ['male', 'female'][1 + (i % 2)::INT] AS sex, 'hispanic' AS race_ethnicity FROM range(500000) t(i)"
        )
        getattr(relation, f"write_{source}")(str(path))
    assert scored(path, out, "--grades", "4-5").exit_code == 0
    with connect() as connection:
        read = connection.read_csv(str(out)) if into == "csv" else connection.read_parquet(str(out))
        found = read.project("id::BIGINT AS id, sepsis_g4_risk AS risk").fetchnumpy()
    np.testing.assert_array_equal(found["id"], np.arange(500_000))
    np.testing.assert_array_equal(found["risk"], np.resize(found["risk"][:30], 500_000))


@pytest.mark.slow
def test_wide_files_of_many_columns(tmp_path, written):
    names = [f"x{i}" for i in range(3000)]
    lines = [",".join([HEADER, *names]), *(f"p{i},9,bm,20,male,hispanic{',-1' * 3000}" for i in range(5))]
    assert scored(written("\n".join(lines)), tmp_path / "out.csv").exit_code == 0
    rows = rows_of(tmp_path / "out.csv")
    assert [row[0] for row in rows] == [f"p{i}" for i in range(5)]
    assert all(row[6:3006] == ["-1"] * 3000 for row in rows)


@KINDS
def test_long_lines_take_no_more_memory_than_is_given(tmp_path, written, monkeypatch, kind):
    monkeypatch.setattr(files, "MEMORY", "100MB")
    path = written("\n".join([HEADER, *(f"p{i},9,bm,20,male,hispanic" for i in range(100_000))]))
    assert run("score", "aall1331", path, tmp_path / f"out.{kind}").exit_code == 0


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("inside", ["\n", "\r\n", "\r"])
def test_line_breaks_in_quotes_are_no_ends(written, end, inside):
    """In a cell all are kept; in a name, too, or refused where DuckDB would take it for an end and find no row."""
    content = end.join(["age,sex,note", f'5,male,"a{inside}b"', "19,female,c", ""])
    assert read_frame(written(content)).to_numpy().tolist() == [["5", "male", f"a{inside}b"], ["19", "female", "c"]]
    content = end.join([f'age,sex,"no{inside}te"', "5,male,a", "19,female,c", ""])
    if end == "\r\n" != inside:
        with pytest.raises(ValueError, match="has a line break in its name; take it out"):
            read_frame(written(content))
        return
    frame = read_frame(written(content))
    assert list(frame) == ["age", "sex", f"no{inside}te"]
    assert frame["age"].tolist() == ["5", "19"]


# What cannot be read.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,b\n"1\n2\n3",4\n5\n', "line 5 has 1 cell, the first line 2"),
        ('a,b\n1,2\n\n"3,4\n5,6\n', "line 4: unterminated quote"),
        ('a,b\n1,2\n"3"x,4\n', "line 3: text after a closing quote"),
        (b"a,b\n1,2\n\xff,4\n", "is not in UTF-8 (line 3)"),
        ("a,b\n1,2,3,\n", "line 2 has 4 cells, the first line 2"),
        ("name,age,note\nMiller,5,\nSmith,Ann,5,\n", "line 3 has 4 cells, the first line 3"),
        ("a,b\n1,2,,,\n", "line 2 has 5 cells, the first line 2"),
        ("\na,b\n1,2\n", "its first line is blank; its first line must name the columns"),
        ("sep=;\na;b\n1;2\n", "it begins with 'sep='"),
        (b"\x1f\x8b\x08\x00", "it is compressed (gzip); unpack it"),
        (b"PK\3\4\x14\x00", "it is a workbook of Excel or another zip archive"),
        (b"PAR1\x15\x04", "it is Parquet; give it a name that ends in .parquet"),
        ("a,b\n1,2\r\n3,4\r5,6", "its lines end in different ways, or one is too long; save it as CSV anew"),
        ("a,b\n1,2\n" + "x" * 3_000_000 + ",4\n5,6\n", "line 3: a cell of more than 131072 characters: perhaps a quote"),
        ("a,b\n1,2\n3," + "x" * 40_000_000, "its last line is longer than 2 MiB; is it torn?"),
        ("a,b\n1,2\n" + "\0" * 40_000_000 + "\n", "its last line is longer than 2 MiB; is it torn?"),
        ("a,b\n1,2\n".encode("utf-16"), "is not in UTF-8 (line 1): save it as CSV in UTF-8"),
        (b"a,b\n" + b"1,2\n" * 300_000 + b"caf\xe9,2\n", "is not in UTF-8 (line 300002)"),
        ("a,A\n1,2\n", "several columns named ['a']"),
    ],
    ids=[
        *(
            "after lines in quotes",
            "open quote",
            "after a quote",
            "encoding",
            "two delimiters too many",
            "shifted",
            "empty cells",
        ),
        *("blank first", "sep", "gzip", "zip", "Parquet", "ends", "long"),
        *("long at the end", "torn", "UTF-16", "Latin-1 far down", "same name"),
    ],
)
def test_the_line_that_cannot_be_read_is_named(written, content, message):
    with pytest.raises(ValueError, match="patients: .*patients.csv' ") as error:
        read_frame(written(content))
    assert message in str(error.value)


@KINDS
@pytest.mark.parametrize(
    "rows",
    [
        '"Alice Smith,9,bm,20,male,hispanic\nAlice Smith,12,iem,40,female,hispanic\nAlice Smith,3,bm,5,male,nh_white\n',
        '"Possible\nAlice Smith",9,bm\nAlice Smith,9,bm\n',
        "Alice Smith,9,bm,20,male,hispanic,more\n",
        "p1,9,bm,20,male,hispanic\r\nAlice Smith,9,bm,20,male,hispanic\nAlice Smith,12,iem\r",
    ],
    ids=["open quote", "short", "long", "ends of lines"],
)
def test_errors_do_not_quote_patients(tmp_path, written, rows, kind):
    result = scored(written(f"{HEADER}\n{rows}"), tmp_path / f"out.{kind}")
    assert result.exit_code == 2
    assert "Alice Smith" not in result.output
    assert "cannot be read as csv: line " in result.stderr


def test_too_many_groups_are_refused_before_they_fill_memory(written, monkeypatch):
    monkeypatch.setattr(frames, "MOST_COUNTED", 1000)
    path = written("\n".join([HEADER, *(f"p{i},9,bm,20,male,hispanic" for i in range(5000))]))
    result = run("score", "aall1331", path, "--by", "id")
    assert result.exit_code == 2
    assert "by: more than 1000 groups and profiles by id" in result.stderr


@KINDS
@pytest.mark.parametrize("becomes", ["another", "nothing"])
def test_a_file_that_changes_between_counting_and_writing_leaves_no_output(tmp_path, written, monkeypatch, kind, becomes):
    """Another one has the same size and profiles, in another order."""
    rows = [f"p{i},{9 + i},bm,20,male,hispanic" for i in range(2)]
    path, other = written("\n".join([HEADER, *rows])), written("\n".join([HEADER, *rows[::-1]]), "other.csv")
    write = files.Patients.write

    def changed_first(self, *arguments):
        other.replace(path) if becomes == "another" else path.unlink()
        return write(self, *arguments)

    monkeypatch.setattr(files.Patients, "write", changed_first)
    result = scored(path, tmp_path / f"out.{kind}")
    assert result.exit_code == 2
    said = "has changed while it was read" if becomes == "another" else "cannot be read: No such file"
    assert f"PATIENTS: {str(path)!r} {said}" in result.stderr
    assert not (tmp_path / f"out.{kind}").exists()


# Markers of missing values.


@KINDS
def test_markers_of_missing_values_can_be_named(tmp_path, written, kind):
    rows = ["p1,NA,bm,20,male,NA", "NA,9,-,20,NA,hispanic", "p3,9,bm,-,,hispanic"]
    marked = written("\n".join([HEADER, *rows]), "marked.csv")
    empty = written("\n".join([HEADER, *rows]).replace("NA", "").replace("-", ""), "empty.csv")
    found = []
    for path in (marked, empty):
        result = scored(path, tmp_path / f"{path.stem}-scored.{kind}", "--na", "NA,-")
        assert result.exit_code == 0, result.output
        found.append(rows_of(tmp_path / f"{path.stem}-scored.{kind}"))
    assert [row[6:] for row in found[0]] == [row[6:] for row in found[1]]
    assert [row[0] for row in found[0]] == ["p1", "NA" if kind == "csv" else "", "p3"]
    grouped = run("score", "aall1331", marked, "--na", "NA, -", "--by", "id", "--events", "sepsis", "--format", "json")
    assert [row["id"] for row in json.loads(grouped.stdout)] == ["p1", "p1", "p3", "p3", None, None]


def test_markers_of_missing_values_are_recognised(tmp_path, written):
    path = written(f"{HEADER}\np1,9,bm,20,male,NA\n")
    refused, sampled = (scored(path, tmp_path / "scored.csv", *more) for more in ((), ("--new-levels", "sample")))
    number = scored(written(f"{HEADER}\np1,n/a,bm,20,male,\n"), tmp_path / "scored.csv")
    assert [result.exit_code for result in (refused, sampled, number)] == [2, 0, 2]
    for result, value in ((refused, "NA"), (sampled, "NA"), (number, "n/a")):
        said = " ".join(result.stderr.split())
        assert f"'{value}' stands for missing values, give nulls (of a CSV file: --na {value})" in said


def test_markers_of_missing_values_are_for_csv(tmp_path):
    pq.write_table(pa.table({"sex": ["NA"]}), tmp_path / "patients.parquet")
    result = run("score", "aall1331", tmp_path / "patients.parquet", "--na", "NA")
    assert (result.exit_code, "na: it names the cells of a CSV file" in result.stderr) == (2, True)


# What is printed.


def test_printed_rows_are_not_all_in_memory_at_once(written, shipped):
    row = "9,bm,20,male,hispanic"
    path = written("\n".join([HEADER, *(f"p{i},{row}" for i in range(30_000))]))
    with open_patients(path) as patients:
        records = patients.records(
            score_rows(shipped, patients.opened, Asked(0.9, ["sepsis"], ["3-5"], "error", "error", "error"))
        )
        next(records)
        tracemalloc.start()
        assert sum(1 for _ in records) == 29_999
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
        tracemalloc.stop()


def test_printed_json_has_no_numbers_that_are_none(tmp_path):
    with connect() as connection:
        connection.sql(
            "SELECT 'nan'::DOUBLE AS dose, TIMESTAMPTZ '2020-01-02 03:04:05+00' AS seen, 9 AS age, 'bm' AS relapse_site, "
            "20 AS months_to_relapse, 'male' AS sex, 'hispanic' AS race_ethnicity"
        ).write_parquet(str(tmp_path / "patients.parquet"))
    result = run("score", "aall1331", tmp_path / "patients.parquet", "--format", "json", "--events", "sepsis")
    (row,) = json.loads(result.stdout, parse_constant=pytest.fail)
    assert row["dose"] is None
    assert row["seen"].startswith("2020-01-0")
    assert run("score", "aall1331", tmp_path / "patients.parquet", "--by", "seen", "--events", "sepsis").exit_code == 0


def test_printed_json_has_cells_as_text_and_numbers_as_numbers(written):
    path = written(f"{HEADER}\n007,,bm,20,,hispanic\n")
    (row,) = json.loads(run("score", "aall1331", path, "--format", "json", "--events", "sepsis").stdout)
    assert (row["id"], row["age"], row["months_to_relapse"]) == ("007", None, "20")
    assert 0 < row["sepsis_g3_lower"] < row["sepsis_g3_risk"] < row["sepsis_g3_upper"] < 1


def test_examples_are_the_most_frequent_with_their_first_rows(written):
    ages = [45, 50, 45, 60, 70, 80, 90, 50, 45]
    path = written("\n".join([HEADER, *(f"p{i},{age},bm,20,male,hispanic" for i, age in enumerate(ages))]))
    assert (
        "45.0 (3 rows, first row 0), 50.0 (2 rows, first row 1), 60.0 (row 3), 70.0 (row 4), 80.0 (row 5) and 1 more row"
        in run("score", "aall1331", path).stderr
    )


# Folders, patterns and partitions.


@pytest.fixture
def lake(tmp_path):
    """Partitions as Hive and DuckDB write them, of two sites; ages are whole numbers in one and not in the other."""
    known = "'bm' AS relapse_site, 20 AS months_to_relapse, ['male', NULL][1 + i % 2] AS sex, 'hispanic' AS race_ethnicity"
    with connect() as connection:
        for site, age in (("007", "9 + i % 20"), ("N/S", "9.75 + i % 20")):
            rows = f"SELECT '{site}' AS site, i::INT AS id, ({age}) AS age, {known} FROM range(3000) t(i)"
            connection.execute(f"COPY ({rows}) TO '{tmp_path}/lake' (FORMAT parquet, PARTITION_BY (site), OVERWRITE_OR_IGNORE)")
    for hidden in ("_temporary", ".hidden"):
        (tmp_path / "lake" / hidden).mkdir()
        (tmp_path / "lake" / hidden / "torn.parquet").write_bytes(b"torn")
    return tmp_path / "lake"


@pytest.mark.parametrize("pattern", ["lake", "lake/*/*.parquet", "l?ke/**/*.parquet"])
def test_folders_and_patterns_are_one_table_in_the_order_of_names(tmp_path, lake, shipped, pattern):
    result = scored(tmp_path / pattern, tmp_path / "scored.parquet", "--grades", "4-5")
    assert result.exit_code == 0, result.output
    found = pq.read_table(tmp_path / "scored.parquet").to_pandas()
    assert list(zip(found["site"], found["id"], strict=True)) == [(site, i) for site in ("007", "N/S") for i in range(3000)]
    assert found["age"].tolist() == [extra + i % 20 for extra in (9, 9.75) for i in range(3000)]
    own = found.drop(columns=[name for name in found if name.startswith("sepsis")])
    exact = aemodel.score(shipped, own, events=["sepsis"], grades=["4-5"])
    pd.testing.assert_frame_equal(found, exact, check_dtype=False, rtol=1e-12)
    with connect() as connection:
        options = "hive_partitioning = true, hive_types_autocast = false, union_by_name = true"
        relation = connection.sql(f"FROM read_parquet('{lake}/site=*/*.parquet', {options})")
        own_way = aemodel.score(shipped, relation, events=["sepsis"], grades=["4-5"]).df()
    pd.testing.assert_frame_equal(own_way.sort_values(["site", "id"], ignore_index=True), found, check_dtype=False, rtol=1e-12)


def test_partitions_are_written_whole_in_order_and_with_what_they_come_from(tmp_path, lake):
    once, again = tmp_path / "once.parquet", tmp_path / "scored"
    assert scored(lake, once).exit_code == 0
    result = scored(lake, again, "--partition-by", "site,sex")
    assert (result.exit_code, "6000 patients scored into" in result.stderr) == (0, True), result.output
    parts = sorted(again.rglob("*.parquet"), key=lambda path: (path.parts[-3], path.parts[-2] != "sex=male"))
    assert len(parts) == 4
    assert not list(tmp_path.glob(".*"))
    whole = pq.read_table(once).to_pandas()
    for (_, rows), path in zip(whole.groupby(["site", "sex"], dropna=False), parts, strict=True):
        part = pq.ParquetFile(path)
        assert json.loads(part.metadata.metadata[b"aemodel"])["model"] == "aall1331"
        pd.testing.assert_frame_equal(part.read().to_pandas(), rows.drop(columns=["site", "sex"]).reset_index(drop=True))
    (tmp_path / "nobody.csv").write_text(f"{HEADER}\n")
    result = scored(tmp_path / "nobody.csv", tmp_path / "none", "--partition-by", "sex")
    assert (result.exit_code, list((tmp_path / "none").iterdir())) == (0, []), result.output
    refused = scored(lake, again, "--partition-by", "site")
    assert (refused.exit_code, "is there already; name a folder that is not" in refused.stderr) == (2, True)


def test_a_file_that_comes_to_a_folder_meanwhile_leaves_no_output(tmp_path, lake, monkeypatch):
    write = files.Patients.write

    def grown_first(self, *arguments):
        (lake / "site=new.parquet").write_bytes((lake / "site=007" / "data_0.parquet").read_bytes())
        return write(self, *arguments)

    monkeypatch.setattr(files.Patients, "write", grown_first)
    result = scored(lake, tmp_path / "scored", "--partition-by", "site")
    assert (result.exit_code, "has changed while it was read" in result.stderr) == (2, True), result.output
    assert not (tmp_path / "scored").exists()


@pytest.mark.parametrize(
    ("patients", "out", "options", "message"),
    [
        ("empty", "out.parquet", [], "PATIENTS: 'empty' is a folder without a file of Parquet"),
        ("x*.parquet", "out.parquet", [], "PATIENTS: 'x[*].parquet' is no file, nor the pattern of one's name"),
        ("*.csv", "out.parquet", [], "is a pattern, which is for Parquet; name one file of CSV"),
        ("delta", "out.parquet", [], "is a table of which _delta_log says which files count; score what a DuckDB"),
        ("s3://bucket/lake.parquet", "out.parquet", [], "no file .*; give score a relation of a DuckDB connection of your own"),
        ("lake", "lake/out.parquet", [], "OUT: .* is in the folder of patients itself"),
        ("lake", "out.parquet", ["--summary", "lake/run.json"], "--summary: .* is in the folder of patients itself"),
        ("lake/*/*.parquet", "lake/site=007/data_0.parquet", [], "OUT: .* is by its name one of the files of patients itself"),
        ("lake/**/*.parquet", "lake/a/b/new.parquet", [], "OUT: .* is by its name one of the files of patients itself"),
        ("patients.csv", "out.csv", ["--summary", "patients.csv"], "--summary: 'patients.csv' is the file of patients itself"),
        ("patients.csv", "out.csv", ["--summary", "out.csv"], "--summary: 'out.csv' is OUT itself; name another file"),
        ("alike.parquet", "out.csv", [], r"'alike.parquet' has several columns named \['age'\]"),
        ("lake", "out", ["--partition-by", "site,site"], "partition-by: it names something twice: site, site"),
        ("lake", "out", [], "OUT: 'out' must end in .csv or .parquet"),
        ("lake", "out", ["--partition-by", "clinic"], "--partition-by: no column 'clinic'; columns are id, age"),
        ("lake", "out", ["--partition-by", "site", "--cohort"], "it needs one, and neither --cohort nor --by"),
    ],
)
def test_folders_that_cannot_be_read_or_written_are_refused(lake, monkeypatch, patients, out, options, message):
    monkeypatch.chdir(lake.parent)
    for name in ("empty", "delta/_delta_log"):
        (lake.parent / name).mkdir(parents=True)
    (lake.parent / "patients.csv").write_text(f"{HEADER}\n")
    one = pa.array([1])
    pq.write_table(pa.table([pa.array([{"age": 1}]), one, one], names=["nested", "age", "Age"]), "alike.parquet")
    result = scored(patients, out, *options)
    assert result.exit_code == 2
    assert re.search(message, " ".join(result.stderr.split())), result.stderr
    assert Path("patients.csv").read_text() == f"{HEADER}\n"
