"""CSV files: read by Python where CSV comes out, by DuckDB where Parquet does; both must say the same, in the file's order."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import aemodel
from aemodel import cli
from aemodel.publication.profiles import make_layout
from aemodel.serving import csv_rows, csv_text
from aemodel.serving.engines import read_frame
from aemodel.serving.groups import count_codes
from aemodel.serving.parquet_files import connect
from aemodel.serving.parquet_files import read_frame as read_pandas

HEADER = "id,age,relapse_site,months_to_relapse,sex,race_ethnicity"


@pytest.fixture(scope="module")
def shipped():
    return aemodel.load_model("aall1331")


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def opened(tmp_path, content, name="patients.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return csv_text.open_csv(path)


def rows_of(path):
    with duckdb.connect() as connection:
        if path.suffix == ".parquet":
            return [list(map(_text, row)) for row in connection.read_parquet(str(path)).fetchall()]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def _text(value):
    return "" if value is None else str(value)


# Cells' classes.

NUMBERS = st.one_of(
    st.floats(allow_nan=True).map(str),
    st.integers(-(10**25), 10**25).map(str),
    st.floats(0, 100).map(lambda x: f" {x:.3f}\t"),
    st.sampled_from(
        ["", " ", "1_000", "1e400", "0x10", "\u0661\u0662", "1,5", "+5.", ".5e1", "-0", "1 2", "inf", "NaN", "9" * 31]
    ),
)
TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(["male", "Male", " male", "female", "male\n", "hispanic", ""]))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, TEXTS, TEXTS), min_size=1, max_size=20))
def test_cells_have_the_classes_that_engines_give_them(shipped, rows):
    columns = ("age", "months_to_relapse", "sex", "relapse_site")
    layout = make_layout(shipped.risks.covariates[:3], columns)
    frame = pl.DataFrame(
        {c: [row[i] or None for row in rows] for i, c in enumerate(columns)}, schema=dict.fromkeys(columns, pl.String)
    )
    expected = read_frame(frame, layout.covariates).codes
    places = {column: i for i, column in enumerate(columns)}
    parts = zip(layout.sources, layout.strides, strict=True)
    found = sum(np.array([s.class_of_cell(row[places[s.column]]) for row in rows]) * stride for s, stride in parts)
    np.testing.assert_array_equal(found, expected)


# One answer from both readers.

AGES = st.sampled_from(["", "7", "18.7", " 25 ", "1e1", "+3", "30.99"])
OWN = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=6)
ROW = st.tuples(
    OWN,
    AGES,
    st.sampled_from(["bm", "iem", ""]),
    st.sampled_from(["20", "17.5", "", "40"]),
    st.sampled_from(["male", "female", ""]),
    st.sampled_from(["hispanic", "nh_white", ""]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=12), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"]))
def test_csv_and_parquet_are_scored_alike(tmp_path_factory, rows, delimiter, end):
    folder = tmp_path_factory.mktemp("alike")
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows([HEADER.split(","), *rows])
    (folder / "patients.csv").write_bytes(text.getvalue().encode())
    for kind in ("csv", "parquet"):
        result = run("score", "aall1331", folder / "patients.csv", folder / f"scored.{kind}", "--events", "sepsis")
        assert result.exit_code == 0, result.output
    with (folder / "scored.csv").open(encoding="utf-8", newline="") as file:
        from_csv = list(csv.reader(file, delimiter=delimiter))[1:]
    from_parquet = rows_of(folder / "scored.parquet")
    for ours, theirs, given_ in zip(from_csv, from_parquet, rows, strict=True):
        assert ours[0].removeprefix("'" if given_[0][:1] in csv_text.RISKY_FIRST else "") == given_[0]
        assert ours[1:6] == list(given_[1:])
        assert ours[1:] == theirs[1:]


@pytest.mark.parametrize("reader", ["python", "duckdb"])
@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("a,b\n1,2\n\n3,4\n\n\n", [["1", "2"], ["3", "4"]]),
        ("a,b\r1,2\r3,4", [["1", "2"], ["3", "4"]]),
        ("a,b\n1,2,\n3,4\n", [["1", "2"], ["3", "4"]]),
        ("a,b,\n1,2,\n", [["1", "2", None]]),
        ('a,b\n"x\r\ny","he said ""no"""\n"",2\n', [["x\r\ny", 'he said "no"'], [None, "2"]]),
        ("a\n1\n\n2\n", [["1"], [None], ["2"]]),
        ('a,b\n1"x,#2\n', [['1"x', "#2"]]),
        ("a,b", []),
        ("\ufeffa,b\n1,2\n", [["1", "2"]]),
    ],
    ids=["blank lines", "CR", "last delimiter", "unnamed column", "quotes", "one column", "no quotes", "no rows", "BOM"],
)
def test_odd_files_are_read_alike(tmp_path, reader, content, rows):
    file = opened(tmp_path, content)
    if reader == "python":
        found = [[cell or None for cell in row] for row in file.rows()]
    else:
        from aemodel.serving.parquet_files import read_patients

        with connect() as connection:
            found = [list(row) for row in read_patients(connection, file.path).fetchall()]
    assert found == rows


def test_lines_may_end_in_different_ways(tmp_path):
    assert list(opened(tmp_path, "a,b\n1,2\r\n3,4\r5,6").rows()) == [["1", "2"], ["3", "4"], ["5", "6"]]


def test_blanks_around_quotes_are_kept(tmp_path):
    assert list(opened(tmp_path, 'a,b\n "1",2\n').rows()) == [[' "1"', "2"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,b\n"1\n2\n3",4\n5\n', "line 5 has 1 cell, the first line 2"),
        ('a,b\n1,2\n\n"3,4\n5,6\n', "line 4: unterminated quote"),
        ('a,b\n1,2\n"3"x,4\n', "line 3: text after a closing quote"),
        (
            "a,b\n1,2\n" + "x" * 200_000 + ",4\n",
            "line 3: a cell of more than 131072 characters: perhaps a quote that is not closed",
        ),
        (b"a,b\n1,2\n\xff,4\n", "is not in UTF-8 (line 3)"),
        ("a,b\n1,2,3,\n", "line 2 has 4 cells, the first line 2"),
    ],
    ids=["after lines in quotes", "open quote", "after a quote", "long cell", "encoding", "two delimiters too many"],
)
def test_the_line_that_cannot_be_read_is_named(tmp_path, content, message):
    with pytest.raises(ValueError, match="patients: .*patients.csv' ") as error:
        list(opened(tmp_path, content).rows())
    assert message in str(error.value)


def test_pandas_frames_are_read_the_same_way(tmp_path):
    frame = read_pandas(opened(tmp_path, "a,b\n1,\n\n,x\n").path)
    assert frame.astype(object).where(frame.notna(), None).to_numpy().tolist() == [["1", None], [None, "x"]]


# Order.


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
    assert run("score", "aall1331", path, out, "--events", "sepsis", "--grades", "4-5").exit_code == 0
    with connect() as connection:
        read = connection.read_csv(str(out)) if into == "csv" else connection.read_parquet(str(out))
        found = read.project("id::BIGINT AS id, sepsis_g4_risk AS risk").fetchnumpy()
    np.testing.assert_array_equal(found["id"], np.arange(500_000))
    np.testing.assert_array_equal(found["risk"], np.resize(found["risk"][:30], 500_000))


# Few chunks or many, one reader of the file or two.


def test_chunks_make_no_difference(tmp_path, shipped, monkeypatch):
    rows = [f"p{i},{1 + i % 30},bm,{i % 50},,hispanic" for i in range(500)]
    file = opened(tmp_path, "\n".join([HEADER, *rows[:100], "", *rows[100:]]))
    expected = codes_and_counts(file, shipped)
    for cells in (1, 7, 10**6):
        monkeypatch.setattr(csv_text, "CELLS_A_CHUNK", cells)
        assert codes_and_counts(file, shipped) == expected
    assert sum(expected[1]) == 500


def codes_and_counts(file, model):
    found = count_codes(read_frame(file, model.risks.covariates))
    return found.codes.tolist(), found.counts[0].tolist()


def test_more_different_cells_than_are_remembered(tmp_path, shipped, monkeypatch):
    rows = [f"p{i},{1 + i % 30}.{i},bm,{i % 50},,hispanic" for i in range(200)]
    file = opened(tmp_path, "\n".join([HEADER, *rows]))
    expected = codes_and_counts(file, shipped)
    monkeypatch.setattr(csv_rows, "MOST_KEPT", 3)
    assert codes_and_counts(file, shipped) == expected


def test_too_many_groups_are_refused_before_they_fill_memory(tmp_path, monkeypatch):
    from aemodel.serving import groups

    monkeypatch.setattr(groups, "MOST_COUNTED", 1000)
    opened(tmp_path, "\n".join([HEADER, *(f"p{i},9,bm,20,male,hispanic" for i in range(5000))]))
    result = run("score", "aall1331", tmp_path / "patients.csv", "--by", "id")
    assert result.exit_code == 2
    assert "by: more than 1000 groups and profiles by id" in result.stderr


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_markers_of_missing_values_can_be_named(tmp_path, kind):
    rows = ["p1,NA,bm,20,male,NA", "NA,9,-,20,NA,hispanic", "p3,9,bm,-,,hispanic"]
    for name, text in (
        ("marked", "\n".join([HEADER, *rows])),
        ("empty", "\n".join([HEADER, *rows]).replace("NA", "").replace("-", "")),
    ):
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
        result = run("score", "aall1331", tmp_path / f"{name}.csv", tmp_path / f"{name}.{kind}.{kind}", "--na", "NA,-")
        assert result.exit_code == 0, result.output
    marked, empty = (
        pq.read_table(path).to_pylist() if kind == "parquet" else list(csv.DictReader(path.read_text().splitlines()))
        for path in (tmp_path / f"{name}.{kind}.{kind}" for name in ("marked", "empty"))
    )
    assert [row["sepsis_g3_risk"] for row in marked] == [row["sepsis_g3_risk"] for row in empty]
    assert [row["id"] for row in marked] == (["p1", "NA", "p3"] if kind == "csv" else ["p1", None, "p3"])
    grouped = run(
        "score", "aall1331", tmp_path / "marked.csv", "--na", "NA, -", "--by", "id", "--events", "sepsis", "--format", "json"
    )
    assert [row["id"] for row in json.loads(grouped.stdout)] == ["p1", "p1", "p3", "p3", None, None]


def test_markers_of_missing_values_are_recognised(tmp_path):
    opened(tmp_path, f"{HEADER}\np1,9,bm,20,male,NA\n")
    refused = run("score", "aall1331", tmp_path / "patients.csv", tmp_path / "scored.csv")
    sampled = run("score", "aall1331", tmp_path / "patients.csv", tmp_path / "scored.csv", "--new-levels", "sample")
    opened(tmp_path, f"{HEADER}\np1,n/a,bm,20,male,\n")
    number = run("score", "aall1331", tmp_path / "patients.csv", tmp_path / "scored.csv")
    assert [result.exit_code for result in (refused, sampled, number)] == [2, 0, 2]
    for result, value in ((refused, "NA"), (sampled, "NA"), (number, "n/a")):
        said = " ".join(result.stderr.split())
        assert f"'{value}' stands for missing values, give nulls (of a CSV file: --na {value})" in said


def test_markers_of_missing_values_are_for_csv(tmp_path):
    pq.write_table(pa.table({"sex": ["NA"]}), tmp_path / "patients.parquet")
    result = run("score", "aall1331", tmp_path / "patients.parquet", "--na", "NA")
    assert (result.exit_code, "na: it names the cells of a CSV file" in result.stderr) == (2, True)


def test_rows_that_change_between_counting_and_writing_are_no_answer(tmp_path, shipped):
    file = opened(tmp_path, f"{HEADER}\np1,9,bm,20,male,hispanic\n")
    scored = aemodel.score(shipped, file, events=["sepsis"])
    file.path.write_text(f"{HEADER}\np1,8,bm,20,male,hispanic\n")
    with pytest.raises(ValueError, match="has changed while it was read; score a copy"):
        list(scored.records())


@pytest.mark.parametrize("into", ["csv", "parquet"])
def test_a_file_replaced_between_counting_and_writing_leaves_no_output(tmp_path, monkeypatch, into):
    """By one of the same size and profiles, in another order."""
    from aemodel.serving import csv_files, parquet_files

    rows = [f"p{i},{9 + i},bm,20,male,hispanic" for i in range(2)]
    opened(tmp_path, "\n".join([HEADER, *rows]))
    other = opened(tmp_path, "\n".join([HEADER, *rows[::-1]]), "other.csv").path
    patients = csv_files.CsvPatients if into == "csv" else parquet_files.DuckDBPatients
    write = patients.write

    def replaced_first(self, *arguments):
        other.replace(tmp_path / "patients.csv")
        return write(self, *arguments)

    monkeypatch.setattr(patients, "write", replaced_first)
    result = run("score", "aall1331", tmp_path / "patients.csv", tmp_path / f"out.{into}", "--events", "sepsis")
    assert result.exit_code == 2
    assert "has changed while it was read" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["patients.csv"]


def test_a_file_that_is_gone_is_no_fault_of_the_output(tmp_path):
    file = opened(tmp_path, f"{HEADER}\np1,9,bm,20,male,hispanic\n")
    file.path.unlink()
    with pytest.raises(ValueError, match="patients: .*patients.csv' cannot be read: No such file"):
        list(file.rows())


SECRET = "Alice Smith"


@pytest.mark.parametrize("into", ["csv", "parquet"])
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
def test_errors_do_not_quote_patients(tmp_path, rows, into):
    opened(tmp_path, f"{HEADER}\n{rows}")
    result = run("score", "aall1331", tmp_path / "patients.csv", tmp_path / f"out.{into}", "--events", "sepsis")
    assert result.exit_code == 2
    assert SECRET not in result.output
    assert "cannot be read as csv: line " in result.stderr


def test_headers_longer_than_a_cell_may_be(tmp_path):
    names = [f"a_rather_long_name_of_a_gene_{i}" for i in range(6000)]
    file = opened(tmp_path, ",".join(names) + "\n" + ",".join("1" * 6000) + "\n")
    assert list(file.columns) == names
    assert list(file.rows()) == [["1"] * 6000]


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


# Lines.


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.lists(st.text(max_size=5), min_size=2, max_size=2), max_size=5))
def test_lines_hold_the_cells(delimiter, rows):
    text = "".join(f"{line}{delimiter}1\n" for line in csv_rows._lines(rows, delimiter))
    assert list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)) == [[*row, "1"] for row in rows]


def test_wide_files_of_many_columns(tmp_path):
    names = [f"x{i}" for i in range(3000)]
    opened(tmp_path, "\n".join([",".join([HEADER, *names]), *(f"p{i},9,bm,20,male,hispanic{',-1' * 3000}" for i in range(5))]))
    assert run("score", "aall1331", tmp_path / "patients.csv", tmp_path / "out.csv", "--events", "sepsis").exit_code == 0
    rows = rows_of(tmp_path / "out.csv")
    assert [row[0] for row in rows] == [f"p{i}" for i in range(5)]
    assert all(row[6:3006] == ["-1"] * 3000 for row in rows)


def test_examples_are_the_most_frequent_with_their_first_rows(tmp_path):
    ages = [45, 50, 45, 60, 70, 80, 90, 50, 45]
    opened(tmp_path, "\n".join([HEADER, *(f"p{i},{age},bm,20,male,hispanic" for i, age in enumerate(ages))]))
    error = run("score", "aall1331", tmp_path / "patients.csv").stderr
    assert (
        "45.0 (3 rows, first row 0), 50.0 (2 rows, first row 1), 60.0 (row 3), 70.0 (row 4), 80.0 (row 5) and 1 more row"
        in error
    )


def test_printed_json_has_cells_as_text_and_numbers_as_numbers(tmp_path):
    opened(tmp_path, f"{HEADER}\n007,,bm,20,,hispanic\n")
    (row,) = json.loads(run("score", "aall1331", tmp_path / "patients.csv", "--format", "json", "--events", "sepsis").stdout)
    assert (row["id"], row["age"], row["months_to_relapse"]) == ("007", None, "20")
    assert 0 < row["sepsis_g3_lower"] < row["sepsis_g3_risk"] < row["sepsis_g3_upper"] < 1


def test_progress_is_told(tmp_path):
    told = []
    file = opened(tmp_path, "a,b\n" + "1,2\n" * 10_000)
    chunks = replace(file, advance=told.append).chunks()
    assert sum(map(len, chunks)) == 10_000
    assert told == sorted(told)
    assert told[-1] == 100
