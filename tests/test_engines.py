"""Six dataframe engines: the same answers and errors, order kept, and the caller's columns left as they were."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.resources import files
from types import SimpleNamespace

import dask.dataframe as dd
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import aemodel
from aemodel.publication.errors import Faults
from aemodel.publication.records import read_about

KNOWN = {"age": 12.0, "relapse_site": "bm", "months_to_relapse": 20.0, "sex": "male", "race_ethnicity": "nh_white"}
EVENTS = ["sepsis", "hyperglycemia"]
IMPOSSIBLE = [
    *({"age": value} for value in (45.0, math.inf, -math.inf)),
    {"months_to_relapse": math.inf},
    *({"sex": value} for value in ("X7", "")),
    {"race_ethnicity": "martian"},
]
ADDED = [
    f"{event}_{what}"
    for event in EVENTS
    for what in ("g3_risk", "g3_lower", "g3_upper", "g4_risk", "g4_lower", "g4_upper", "support")
]
RISKS = [name for name in ADDED if not name.endswith("support")]


class Engines:
    """Makes a frame of any engine out of an Arrow table, and an Arrow table out of any frame."""

    names = ("pandas", "polars", "polars lazy", "pyarrow", "duckdb", "dask", "pyspark")

    def __init__(self, request, folder):
        self.request, self.folder, self.files = request, folder, 0
        self.connection = duckdb.connect()

    def make(self, engine, table):
        if engine == "pandas":
            return table.to_pandas()
        if engine.startswith("polars"):
            frame = pl.from_arrow(table)
            return frame.lazy() if engine == "polars lazy" else frame
        if engine == "duckdb":
            return self.connection.from_arrow(table)
        if engine == "dask":
            return dd.from_pandas(table.to_pandas(), npartitions=3, sort=False)
        if engine == "pyspark":
            self.files += 1
            path = self.folder / f"{self.files}.parquet"
            pq.write_table(table, path)
            return self.request.getfixturevalue("spark").read.parquet(str(path))
        return table

    def arrow(self, engine, frame):
        if engine == "polars lazy":
            return frame.collect().to_arrow()
        if engine == "polars":
            return frame.to_arrow()
        if engine == "duckdb":
            return frame.to_arrow_table()
        if engine == "pyspark":
            rows = [row.asDict() for row in frame.collect()]
            return pa.table({name: [row[name] for row in rows] for name in frame.columns})
        if engine in ("pandas", "dask"):
            return pa.Table.from_pandas(frame if engine == "pandas" else frame.compute(), preserve_index=False)
        return frame


@pytest.fixture
def engines(request, tmp_path):
    return Engines(request, tmp_path)


SPARK = pytest.param("pyspark", marks=[pytest.mark.xdist_group("spark"), pytest.mark.slow])
"""Of each test a job of seconds, after twenty to start."""


@pytest.fixture(params=[*Engines.names[:-1], SPARK])
def engine(request):
    return request.param


def random_patients(rows, seed=1):
    """Patients of every kind, many of them with something missing."""
    rng = np.random.default_rng(seed)

    def some(values, kind):
        chosen = [values[i] for i in rng.integers(len(values), size=rows)]
        return pa.array(chosen, kind)

    return pa.table(
        {
            "id": pa.array([f"p{i}" for i in range(rows)]),
            "age": some([*map(float, range(8, 31)), 9.99, 18.7, None, math.nan], pa.float64()),
            "relapse_site": some(["bm", "iem", None], pa.string()),
            "months_to_relapse": some([0, 17, 18, 35, 36, 100, None], pa.int64()),
            "sex": some(["male", "female", None], pa.string()),
            "race_ethnicity": some(["hispanic", "nh_white", "nh_asian", "other_unknown", None], pa.string()),
        }
    )


def rows_of(*changes, **kinds):
    """Known patients, but for what is given, as an Arrow table; ``kinds`` are types of columns."""
    table = pa.table({name: [({**KNOWN, **change})[name] for change in changes] for name in {**KNOWN, **changes[0]}})
    for name, kind in kinds.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(table[name].to_pylist(), kind))
    return table


def score(engines, engine, model, table, **options):
    scored = aemodel.score(model, engines.make(engine, table), events=EVENTS, **options)
    return engines.arrow(engine, scored)


def same_risks(found, exact):
    for name in RISKS:
        np.testing.assert_allclose(found[name], exact[name], rtol=0, atol=1e-12, err_msg=name)
    for event in EVENTS:
        assert found[f"{event}_support"].to_pylist() == exact[f"{event}_support"].to_pylist()


@pytest.fixture(scope="module")
def patients():
    return random_patients(3000)


@pytest.fixture(scope="module")
def expected(shipped, patients):
    return aemodel.score(shipped, patients, events=EVENTS)


ODD = [
    *IMPOSSIBLE,
    {"age_band": "19-30"},
    {"age": math.nan, "sex": None},
    {"sex": "X7", "age": 77.0},
    {"age_band": "10-18", "relapse_group": "bm_early"},
    {"age": 5.0, "months_to_relapse": 72.0},
    {"age": 5.0, "months_to_relapse": 72.5},
    {"age": 0.0, "months_to_relapse": 72.5},
]
"""Of the rows by which engines could differ, one of each kind."""
OWN = {"a.b": 1, 'quote"s and `ticks`': 2, "__aemodel_code": 3, "__aemodel_code_0": 5, "café -- x": 4}


def test_every_kind_of_row_has_the_same_answers(engines, engine, shipped):
    """Level and raw columns side by side, which make more codes than one list is indexed by; columns with odd names."""
    levels = {"age_band": None, "relapse_group": None}
    odd = rows_of(*({**levels, **OWN, "id": str(i)} | change for i, change in enumerate(ODD)), months_to_relapse=pa.float64())
    many = random_patients(500).append_column("age_band", pa.nulls(500, pa.string()))
    table = pa.concat_tables([odd, many], promote_options="permissive")
    frame = engines.make(engine, table)
    scored = aemodel.score(shipped, frame, events=EVENTS, on_invalid="null", new_levels="sample")
    assert type(scored) is type(frame)
    found, given = engines.arrow(engine, scored), engines.arrow(engine, frame)
    assert found.column_names == [*table.column_names, *ADDED]
    assert str(found.select(table.column_names).to_pydict()) == str(given.to_pydict())
    assert engine == "pyspark" or found.select(table.column_names).schema.equals(given.schema)
    exact = aemodel.score(shipped, table, events=EVENTS, on_invalid="null", new_levels="sample")
    same_risks(found, exact)
    invalid = [support == "invalid" for support in exact["sepsis_support"].to_pylist()]
    # Martians stand for a new level here; a marrow relapse of 20 months is early, as its level says; life is longer than any.
    assert invalid == [*[True] * 6, False, True, False, True, False, False, True, True, *[False] * 500]
    assert exact["sepsis_g3_risk"].is_null().to_pylist() == invalid
    summary = aemodel.score_summary(shipped, frame)
    assert summary | {"time": ""} == aemodel.score_summary(shipped, table) | {"time": ""}
    assert {name: of["invalid"] for name, of in summary["columns"].items()} == {
        "age_band": 6, "relapse_group": 2, "sex": 3, "race_ethnicity": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "invalid"), [("times = -12, plus = 400", [True, False, False, False]), ("", [False] * 4)], ids=["falling", "none"]
)
def test_limits_are_those_of_the_publication_and_where_text_is_missing_there_is_none(engines, shipped, rule, invalid):
    text = (files("aemodel") / "publications/aall1331/publication.toml").read_text()
    line = next(line for line in text.splitlines() if line.startswith("at_most"))
    changed = line.replace("times = 12, plus = 12", rule) if rule else ""
    covariates = read_about(text.replace(line, changed), Faults()).covariates
    model = SimpleNamespace(risks=replace(shipped.risks, covariates=covariates))
    rows = [("30", "40.5"), ("30", "40"), (None, "359"), ("30", None)]
    table = rows_of(*({"age": age, "months_to_relapse": months} for age, months in rows))
    for engine in ("pandas", "polars", "polars lazy", "pyarrow", "duckdb"):
        scored = score(engines, engine, model, table, on_invalid="null", reasons=True)
        assert scored["invalid_reason"].to_pylist() == ["relapse_group" if wrong else None for wrong in invalid], engine
        assert scored["sepsis_g3_risk"].is_null().to_pylist() == invalid, engine


def test_callers_types_are_untouched(engines, engine, shipped):
    kinds = {"n": pa.int16(), "age": pa.float32(), "sex": pa.dictionary(pa.int32(), pa.string())}
    frame = engines.make(engine, rows_of({"n": 3, "flag": True}, {"n": 4, "flag": False}, **kinds))
    scored = aemodel.score(shipped, frame, events=EVENTS)
    kinds = [dict(f.collect_schema() if engine == "polars lazy" else types_of(f)) for f in (frame, scored)]
    assert {name: kinds[1][name] for name in kinds[0]} == kinds[0]


def types_of(frame):
    if isinstance(frame, pa.Table):
        return zip(frame.column_names, frame.schema.types, strict=True)
    dtypes = getattr(frame, "dtypes", None)
    if isinstance(dtypes, list):
        return dtypes if isinstance(dtypes[0], tuple) else zip(frame.columns, dtypes, strict=True)
    return dtypes.items()


# Types of columns.

NUMBERS = ["12", " 12.0 ", "+12", "1.2e1", "12."]
NO_NUMBERS = ["abc", "12d", "1_2", "0x1f", "nan", "inf", "", "12,5", "1e999"]
"""Nothing that some engine takes for a number of its own."""


def test_numbers_may_be_written_as_text(engines, engine, shipped):
    table = rows_of(*({"age": text} for text in [*NUMBERS, None, *NO_NUMBERS]))
    found = score(engines, engine, shipped, table, on_invalid="null")
    exact = score(engines, "pyarrow", shipped, rows_of(*[{}] * 5, {"age": None}, *[{"age": 45.0}] * 9), on_invalid="null")
    same_risks(found, exact)
    with pytest.raises(ValueError, match=r"column 'age' must be a number; found '.*' \((row 6|1 row)\)"):
        score(engines, engine, shipped, table)


def test_numbers_and_texts_may_be_of_any_type(engines, engine, shipped):
    exact = aemodel.score(shipped, rows_of({}, {"age": None, "sex": None}), events=EVENTS)
    kinds = [
        (pa.int8(), None),
        (pa.int64(), None),
        (pa.float32(), None),
        (pa.decimal128(6, 2), pa.dictionary(pa.int32(), pa.string())),
    ]
    for age, sex in kinds:
        table = rows_of({"age": 12}, {"age": None, "sex": None}, age=age)
        table = table if sex is None else table.set_column(3, "sex", table["sex"].dictionary_encode())
        same_risks(score(engines, engine, shipped, table), exact)
    nothing = {"sex": None, "age": None}
    for kind in (pa.string(), pa.float64(), pa.int32(), pa.bool_()):
        same_risks(score(engines, engine, shipped, rows_of(nothing, sex=kind, age=kind)), exact.slice(1))
    empty = score(engines, engine, shipped, rows_of({}).slice(0, 0))
    assert (empty.num_rows, empty.column_names) == (0, [*KNOWN, *ADDED])


# The same errors: their wording is that of `test_patients`.

REFUSED = [
    ([{"age": 45.0}, {"sex": "X7"}], r"column 'age': impossible(.|\n)*column 'sex': impossible"),
    ([{"age_band": "10-18"}, {"age_band": "19-30"}], r"columns contradict each other about age.*age = 12\.0 \((row 1|1 row)\)"),
    (
        [{"age": 40.0 + i // 2} for i in range(14)],
        r"impossible value (4\d\.0 \(2 rows[^)]*\), ){4}4\d\.0 \(2 rows[^)]*\) and 4 more rows; allowed",
    ),
    ([{"sex": value} for value in (1, 2)], r"column 'sex' must be text, one of male, female; it is "),
    ([{"sex": value} for value in (True, False)], r"column 'sex' must be text, one of male, female; it is "),
    ([{"age": True}], "(?i)column 'age' must be a number; it is bool"),
    ([{"sepsis_g3_risk": 0.5}], "frame: it has columns that score would add.*sepsis_g3_risk.*rename or drop"),
]


def test_the_same_is_refused_everywhere(engines, engine, shipped):
    for rows, message in REFUSED:
        with pytest.raises(ValueError, match=message):
            score(engines, engine, shipped, rows_of(*rows))
    with pytest.raises(ValueError, match="patients: no column for sex: give 'sex'"):
        score(engines, engine, shipped, rows_of({}).drop_columns("sex"))
    if engine in ("duckdb", "pyspark"):  # to which names that differ in case only are one
        with pytest.raises(ValueError, match="frame: it has columns that score would add.*rename or drop"):
            score(engines, engine, shipped, rows_of({"Sepsis_G3_Risk": 0.5}))


# Of one engine.


def test_columns_may_be_missing_where_the_caller_says_so(engines, engine, shipped):
    """As columns of nulls would be; of raw columns what there is counts."""
    whole = rows_of({}, {"age": 25.0, "relapse_site": "iem"})
    for lacking in (["sex"], ["months_to_relapse", "race_ethnicity"]):
        frame = engines.make(engine, whole.drop_columns(lacking))
        with pytest.raises(ValueError, match='or missing_columns="unknown": risks are then averaged'):
            aemodel.score(shipped, frame)
        nulls = rows_of(
            *({"age": age, "relapse_site": site} | dict.fromkeys(lacking) for age, site in ((12.0, "bm"), (25.0, "iem")))
        )
        found = aemodel.score(shipped, frame, events=EVENTS, missing_columns="unknown")
        same_risks(engines.arrow(engine, found), score(engines, "pyarrow", shipped, nulls))
    with pytest.raises(ValueError, match="no column tells anything of them: give some of age_band, age, "):
        aemodel.score(shipped, engines.make(engine, pa.table({"id": [1, 2]})), missing_columns="unknown")


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize("written_by", ["pyarrow", "polars"])
def test_nan_in_parquet_is_not_known(shipped, tmp_path, kind, written_by):
    """The file's statistics leave NaN out: they say that all of its numbers are from 7 to 20."""
    path, kinds = tmp_path / "patients.parquet", dict.fromkeys(("age", "months_to_relapse", "site"), kind)

    def table(missing):
        return rows_of({"site": 7}, *({name: missing, "site": missing} for name in ("age", "months_to_relapse")), **kinds)

    write = pq.write_table if written_by == "pyarrow" else lambda given, to: pl.from_arrow(given).write_parquet(to)
    write(table(math.nan), path)
    with duckdb.connect() as connection:
        relation = connection.read_parquet(str(path))
        found = aemodel.score(shipped, relation, events=EVENTS).to_arrow_table().select(ADDED)
        assert found.to_pylist() == aemodel.score(shipped, table(None), events=EVENTS).select(ADDED).to_pylist()
        summaries = [aemodel.score_summary(shipped, given) for given in (relation, table(None))]
        assert summaries[0] | {"time": ""} == summaries[1] | {"time": ""}
        groups = aemodel.score_cohort(shipped, relation, by="site", events=["death"], grades=["3-5"])
        assert groups.project("site, patients").fetchall() == [(7, 1), (None, 2)]


def test_order_of_many_rows_is_kept_by_duckdb(shipped, tmp_path):
    """Several row groups, more than one thread."""
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        connection.from_arrow(random_patients(2000)).create("few")
        relation = connection.sql("SELECT i, few.* FROM range(300) t(i), few ORDER BY hash(i), id")
        relation.write_parquet(str(tmp_path / "many.parquet"), row_group_size=50_000)
        scored = aemodel.score(shipped, connection.read_parquet(str(tmp_path / "many.parquet")), events=EVENTS)
        scored.write_parquet(str(tmp_path / "scored.parquet"))
    given, found = (pq.read_table(tmp_path / f"{name}.parquet", columns=["i", "id"]) for name in ("many", "scored"))
    assert found.to_pydict() == given.to_pydict()


@pytest.mark.parametrize("closed", ["python_enable_replacements", "enable_external_access"])
def test_relation_of_a_connection_that_holds_the_only_copy_and_is_closed_to_all_else(shipped, closed):
    connection = duckdb.connect()
    connection.execute(f"CREATE TEMP TABLE mine AS {PATIENT}")
    connection.execute("INSERT INTO mine SELECT * REPLACE (99 AS age) FROM mine")
    options = {"events": EVENTS, "on_invalid": "null"}
    expected = aemodel.score(shipped, connection.table("mine"), **options).fetchall()
    connection.execute(f"SET {closed} = false")
    assert aemodel.score(shipped, connection.table("mine"), **options).fetchall() == expected
    assert expected[1][-1] == "invalid"


PATIENT = "SELECT 12.0::DOUBLE AS age, 'bm' relapse_site, 20 months_to_relapse, 'male' sex, 'nh_white' race_ethnicity, 'A' site"


def test_nothing_in_a_catalog_of_duckdb_is_taken_for_ours(shipped):
    """A macro for every function and operator there is, tables of all names that the package has used, other settings."""
    plain = duckdb.connect()
    calls = (
        lambda relation: aemodel.score(shipped, relation, events=EVENTS).fetchall(),
        lambda relation: aemodel.score(shipped, relation.project("* REPLACE (' 12' AS age)"), events=EVENTS).fetchall(),
        lambda relation: {**aemodel.score_summary(shipped, relation), "time": None},
        lambda relation: aemodel.score_cohort(shipped, relation, by="site", events=EVENTS).fetchall(),
    )
    expected = [call(plain.sql(PATIENT)) for call in calls]
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE patients AS {PATIENT}")
    for (name,) in connection.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall():
        quoted = name.replace('"', '""')
        connection.execute(f'CREATE MACRO "{quoted}"() AS 9, (a) AS 9, (a, b) AS 9, (a, b, c) AS 9')
    for name in ("__aemodel_values", "__aemodel_code", "caller", "answers", "number", "place"):
        connection.execute(f"CREATE TABLE {name} AS SELECT 9 AS __aemodel_code, 9 AS n, 0.99 AS f0, 0.99 AS __aemodel_code_0")
    connection.execute("SET default_collation = 'NOCASE'; SET errors_as_json = true; SET integer_division = true")
    connection.execute("SET default_null_order = 'nulls_first'; SET default_order = 'DESC'")
    assert [call(connection.table("patients")) for call in calls] == expected
    with pytest.raises(ValueError, match=r"column 'age': impossible value 99\.0 \(1 row\)"):
        aemodel.score(shipped, connection.table("patients").project("* REPLACE (99.0 AS age)"))


def test_nothing_is_left_in_a_catalog_of_duckdb(shipped):
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE caller AS {PATIENT}")
    found = [
        aemodel.score(shipped, connection.table("caller"), events=EVENTS),
        aemodel.score_cohort(shipped, connection.table("caller"), by="site", events=EVENTS),
    ]
    assert all(relation.fetchall() for relation in found)
    views = connection.execute("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchall()
    assert (views, connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall()) == ([(0,)], [(1,)])


@pytest.mark.parametrize(
    ("collation", "text"), [("NOCASE", "NH_WHITE"), ("NOACCENT", "nh_whité"), ("NOCASE.NOACCENT", "NH_WHITÉ")]
)
@pytest.mark.parametrize("by_default", [True, False])
def test_collations_of_duckdb_make_no_text_a_level(shipped, collation, text, by_default):
    connection = duckdb.connect()
    if by_default:
        connection.execute(f"SET default_collation = '{collation}'")
    kind = "VARCHAR" if by_default else f'VARCHAR COLLATE "{collation}"'
    columns = f"age DOUBLE, relapse_site {kind}, months_to_relapse INT, sex {kind}, race_ethnicity {kind}, site {kind}"
    connection.execute(f"CREATE TABLE patients({columns})")
    connection.execute(f"INSERT INTO patients {PATIENT} UNION ALL SELECT * REPLACE ('a' AS site) FROM ({PATIENT})")
    groups = aemodel.score_cohort(shipped, connection.table("patients"), by="site", events=EVENTS, grades=["3-5"])
    assert groups.project("site, patients").fetchall() == [(site, 1) for site in "Aa" for _ in EVENTS]
    connection.execute(f"UPDATE patients SET race_ethnicity = '{text}'")
    with pytest.raises(ValueError, match=f"column 'race_ethnicity': impossible value '{text}'"):
        aemodel.score(shipped, connection.table("patients"))


def test_scored_relations_stay_lazy_and_keep_their_own_values(shipped):
    connection = duckdb.connect()
    relations = [connection.sql(f"SELECT * REPLACE ({age} AS age) FROM ({PATIENT})") for age in (2, 12)]
    scored = [aemodel.score(shipped, relation, events=EVENTS) for relation in relations]
    alone = [aemodel.score(shipped, relation, events=EVENTS).fetchall() for relation in relations]
    assert [each.fetchall() for each in scored] == alone
    assert alone[0] != alone[1]
    connection.execute(f"CREATE TABLE mine AS {PATIENT}")
    scored = aemodel.score(shipped, connection.table("mine"), events=EVENTS)
    connection.execute("INSERT INTO mine SELECT * FROM mine")
    assert len(scored.fetchall()) == 2


def test_dask_keeps_index_and_partitions_also_of_nothing_but_nulls(shipped, patients):
    frame = patients.to_pandas().set_index("id").sort_values("sex", na_position="last")
    given = dd.from_pandas(frame, npartitions=40, sort=False)
    scored = aemodel.score(shipped, given, events=EVENTS)
    assert scored.npartitions == given.npartitions
    assert (list(scored.compute().index), scored.compute().index.name) == (list(frame.index), "id")
    exact = aemodel.score(shipped, frame, events=EVENTS)
    np.testing.assert_allclose(scored.compute()[RISKS], exact[RISKS], rtol=0, atol=1e-12)


def test_polars_streams_scored_rows_to_a_file_in_order(shipped, patients, tmp_path):
    aemodel.score(shipped, pl.from_arrow(patients).lazy(), events=EVENTS).sink_parquet(tmp_path / "scored.parquet")
    assert pl.read_parquet(tmp_path / "scored.parquet")["id"].to_list() == patients["id"].to_pylist()


@pytest.mark.slow
@pytest.mark.xdist_group("spark")
def test_pyspark_scores_a_file_of_several_partitions(spark, shipped, patients, expected, tmp_path):
    """What a cluster runs: files in, files out."""
    pq.write_table(patients, tmp_path / "patients.parquet", row_group_size=500)
    frame = spark.read.parquet(str(tmp_path / "patients.parquet")).repartition(4)
    aemodel.score(shipped, frame, events=EVENTS).write.parquet(str(tmp_path / "scored"))
    found = pd.read_parquet(tmp_path / "scored").set_index("id").loc[patients["id"].to_pylist()]
    np.testing.assert_allclose(found[RISKS], expected.to_pandas()[RISKS], rtol=0, atol=1e-12)


ODD_NAMES = [None, 1, ("a", "b"), math.nan]


@pytest.mark.parametrize("name", ODD_NAMES, ids=repr)
def test_columns_of_pandas_may_have_names_that_are_no_text(shipped, name):
    frame = pd.DataFrame([KNOWN]).assign(x=7)
    frame.columns = pd.Index([*KNOWN, name], tupleize_cols=False)
    found = aemodel.score(shipped, frame, events=EVENTS)
    assert found.iloc[0, len(KNOWN)] == 7
    assert list(found.columns[-len(ADDED) :]) == ADDED


@pytest.mark.parametrize("call", [aemodel.score, aemodel.score_summary, aemodel.score_cohort, aemodel.posterior_epred])
def test_names_on_several_levels_or_given_twice_are_refused(shipped, call):
    frame = pd.DataFrame([KNOWN])
    twice = pd.concat([frame, frame[["age"]]], axis=1)
    tables = [twice, pa.table([*rows_of({}).columns, [1]], names=[*KNOWN, "age"])]
    if call != aemodel.posterior_epred:
        tables.append(duckdb.connect().sql(f"SELECT *, 1 AS age FROM ({PATIENT})"))
    for table in tables:
        with pytest.raises(ValueError, match=r"several columns are named \['age'\]; rename or drop all but one"):
            call(shipped, table)
    frame.columns = pd.MultiIndex.from_product([["given"], frame.columns])
    with pytest.raises(ValueError, match="its columns have names on 2 levels; give each a single name"):
        call(shipped, frame)


def test_an_index_of_pandas_named_as_a_column_is_no_column(shipped):
    frame = pd.DataFrame([KNOWN, KNOWN]).assign(site=["A", "B"])
    for name in ("age", "site", "__aemodel_code"):
        named = frame.set_index(pd.Index([5, 5], name=name))
        pd.testing.assert_index_equal(aemodel.score(shipped, named).index, named.index)
        assert list(aemodel.score_cohort(shipped, named, by="site", events=["death"], grades=["3-5"])["site"]) == ["A", "B"]


def test_pandas_objects_that_are_no_text_are_refused(shipped):
    with pytest.raises(ValueError, match="column 'sex' must be text.*it is Object"):
        aemodel.score(shipped, pd.DataFrame([KNOWN, KNOWN | {"sex": 1}]))
