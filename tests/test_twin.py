"""Random frames through every light engine against a plain twin: each row coded by loops, its risk looked up by hand."""

from __future__ import annotations

import csv
import math
import random
import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import aemodel
from aemodel.publication.errors import PatientsError
from aemodel.scoring.files import open_patients
from aemodel.scoring.score import Asked, score_rows
from tests.reference import is_exceeded, is_none, levels_left, mean_and_quantiles

ENGINES = (
    "pandas", "polars", "csv", "pyarrow", "duckdb", "csv", "polars lazy", "pandas objects", "csv", "pyarrow", "parquet", "csv",
    "polars", "csv", "polars lazy", "pandas arrow",
)  # fmt: skip
"""In turn; those that take the longest for a small frame have fewer."""
PUBLICATION = Path(aemodel.__file__).parent / "publications" / "aall1331" / "publication.toml"
COVARIATES = tomllib.loads(PUBLICATION.read_text(encoding="utf-8"))["covariates"]
EVENT = "sepsis"
ADDED = [f"{EVENT}_{grade}_{what}" for grade in ("g3", "g4") for what in ("risk", "lower", "upper")]

LIMIT = ("months_to_relapse", "age", 12, 12, {"min": 1, "below": 31})
YEARS = [*range(1, 31), 9.99, 18.7, 18.999, 30.99, 1.0, 19.0, None, None]
WRONG_YEARS = [0, 31, -3, 0.999, 45, 1e300, -math.inf, math.inf, math.nan]
NUMBERS = {
    "age": (YEARS, WRONG_YEARS),
    "months_to_relapse": ([0, 17, 17.9, 18, 24, 35, 36, None], [-1, -0.01, 24.1, 36.5, 100, 359, 360, math.inf, math.nan]),
}
TEXTS = {
    "age_band": ["1-9", "10-18", "19-30", None],
    "relapse_site": ["bm", "iem", None],
    "relapse_group": ["bm_early", "bm_late", "iem_early", "iem_late", None],
    "sex": ["male", "female", None],
    "race_ethnicity": ["hispanic", "nh_white", "nh_black", "nh_asian", "nh_other", "other_unknown", None],
}
ODD_TEXTS = ["", "MALE", " male", "male\n", "héllo", "hello", "NA", "nan", "=1+1", 'a"b', "a\\b", "'", "x" * 300, "\u200bmale"]
WRITTEN = [
    *("12", " 12.0 ", "+12", "1.2e1", "12.", ".5e1", "-3", "1e400", "1_2", "0x1f", "abc", "nan", "inf", "12,5", "9" * 31),
    *("\u0967\u0968", "\t7\n"),
]
KINDS = [
    *(pa.float64(), pa.float64(), pa.float32(), pa.float16(), pa.int64(), pa.int8(), pa.uint16()),
    *(pa.decimal128(20, 3), pa.decimal256(40, 3)),
]
STRINGS = [pa.string(), pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
OTHER = [pa.bool_(), pa.date32(), pa.list_(pa.int64()), pa.binary(), pa.timestamp("ns")]
PANDAS_OBJECTS = [pa.date32(), pa.list_(pa.int64()), pa.binary()]
OTHER_VALUES = {"bool": True, "date32[day]": 7, "list<item: int64>": [1], "binary": b"12", "timestamp[ns]": 7}


def random_table(rng):
    """A table of some patients, some of whom are impossible, and a column or two of types that cannot be read."""
    rows, odd = rng.randint(0, 8), rng.random() < 0.4
    names = ["sex", "race_ethnicity"]
    names += rng.choice([["age"], ["age_band"], ["age", "age_band"]])
    names += rng.choice(
        [["relapse_group"], ["relapse_site", "months_to_relapse"], ["relapse_group", "relapse_site", "months_to_relapse"]]
    )
    columns = {name: random_column(rng, name, rows, odd) for name in names}
    for name in rng.sample(["id", "a.b", 'q"u`o', "__aemodel_code", "count", "café", "Age "], rng.randint(0, 3)):
        columns[name] = pa.array([rng.choice(ODD_TEXTS) for _ in range(rows)])
    order = list(columns)
    rng.shuffle(order)
    return pa.table({name: columns[name] for name in order})


def random_column(rng, name, rows, odd):
    if odd and rng.random() < 0.1:
        kind = rng.choice(OTHER)
        return pa.array([rng.choice([OTHER_VALUES[str(kind)], None]) for _ in range(rows)], kind)
    if rng.random() < 0.05:
        return pa.array([None] * rows, rng.choice([pa.string(), pa.float64(), pa.bool_(), pa.null()]))
    if name in TEXTS:
        values = [rng.choice(ODD_TEXTS if odd and rng.random() < 0.1 else TEXTS[name]) for _ in range(rows)]
        kind = rng.choice(STRINGS)
        return pa.array(values, pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(values, kind)
    good, wrong = NUMBERS[name]
    if rng.random() < 0.2:
        return pa.array([rng.choice(WRITTEN if odd else WRITTEN[:6]) if rng.random() < 0.7 else None for _ in range(rows)])
    values, kind = [rng.choice(wrong if odd and rng.random() < 0.1 else good) for _ in range(rows)], rng.choice(KINDS)
    if not pa.types.is_floating(kind):
        limit = 100 if pa.types.is_integer(kind) else 10**6
        values = [None if v is None or v != v or abs(v) > limit or (v < 0 and "uint" in str(kind)) else v for v in values]
        values = [None if v is None else int(v) if pa.types.is_integer(kind) else Decimal(str(v)) for v in values]
    return pa.array(values, kind)


def twin(table, engine, new_levels, on_invalid):
    """The levels that each row leaves of each covariate, None where it is impossible; None for all if it must be refused.

    A column of another type than the publication asks for is refused if it has any value. Python's objects (of pandas) are
    taken one by one where numbers are asked for.
    """
    rows = table.to_pylist()
    for name in {*NUMBERS, *TEXTS} & set(table.column_names):
        kind = table[name].type
        text = pa.types.is_dictionary(kind) or "string" in str(kind)
        number = text or pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
        objects = engine == "pandas objects" or (engine == "pandas" and kind in PANDAS_OBJECTS)
        if any(not is_none(row[name]) for row in rows) and not (number or objects if name in NUMBERS else text):
            return None
    found = []
    for row in rows:
        sets = tuple(tuple(levels_left(row, covariate)) for covariate in COVARIATES)
        older = {"relapse_site", "age"} <= set(row) and is_exceeded(row, *LIMIT)
        impossible = older or not all(sets) or (new_levels == "error" and ("(new)",) in sets)
        if impossible and on_invalid == "error":
            return None
        found.append(None if impossible else sets)
    return found


def as_texts(table):
    """What a CSV file can say of a table: an empty cell is missing."""
    columns = {
        name: [None if value in (None, "") else str(value) for value in table[name].to_pylist()] for name in table.column_names
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def engine_frame(engine, table, folder, connection):
    if engine in ("pandas", "pandas arrow"):
        nullable = {pa.bool_(): pd.BooleanDtype(), pa.int64(): pd.Int64Dtype()}
        frame = table.to_pandas(types_mapper=nullable.get if engine == "pandas" else pd.ArrowDtype)
        return frame.set_axis(pd.Index([7] * len(frame), name="age"))
    if engine == "pandas objects":
        frame = pd.DataFrame({name: pd.Series(table[name].to_pylist(), dtype=object) for name in table.column_names})
        return frame.set_axis(range(len(frame), 0, -1))
    if engine.startswith("polars"):
        frame = pl.from_arrow(table)
        return frame.lazy() if engine == "polars lazy" else frame
    if engine == "duckdb":
        return connection.from_arrow(table)
    if engine == "parquet":
        pq.write_table(table, folder / "patients.parquet")
        return connection.read_parquet(str(folder / "patients.parquet"))
    if engine == "csv":
        with (folder / "patients.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([table.column_names, *zip(*table.to_pydict().values(), strict=True)])
        return folder / "patients.csv"
    return table


def score(model, frame, **options):
    """As `aemodel.score`; of a CSV file the rows, as the command line has them."""
    if not isinstance(frame, Path):
        return aemodel.score(model, frame, events=[EVENT], **options)
    with open_patients(frame) as patients:
        asked = Asked(
            0.9, [EVENT], None, **{"new_levels": "error", "on_invalid": "error", "missing_columns": "error"} | options
        )
        return list(patients.records(score_rows(model, patients.opened, asked)))


def risks_in(engine, scored):
    """Risks and bounds, (row, 3 x grade), and the support flags."""
    if engine == "csv":
        rows = scored
    elif engine in ("duckdb", "parquet"):
        rows = [dict(zip(scored.columns, row, strict=True)) for row in scored.fetchall()]
    elif engine.startswith("pandas"):
        rows = scored[[*ADDED, f"{EVENT}_support"]].to_dict("records")
    elif engine.startswith("polars"):
        rows = (scored.collect() if engine == "polars lazy" else scored).to_dicts()
    else:
        rows = scored.select([*ADDED, f"{EVENT}_support"]).to_pylist()
    values = [[math.nan if row[name] is None else row[name] for name in ADDED] for row in rows]
    return np.array(values, dtype=float).reshape(-1, len(ADDED)), [row[f"{EVENT}_support"] for row in rows]


@pytest.fixture(scope="module")
def by_hand(shipped):
    """Risks of a patient with these levels left."""
    risks = shipped.risks.of([EVENT], ["3-5", "4-5"])

    @cache
    def found(sets):
        if sets is None:
            return np.full(len(ADDED), math.nan)
        summary = mean_and_quantiles(sets, risks.levels, risks.weight, risks.draws, COVARIATES, (0.05, 0.95))
        return np.stack(summary)[:, 0].T.ravel()

    return found


def compare(seed, model, by_hand, folder, connection):
    rng = random.Random(seed)
    engine, table = ENGINES[seed % len(ENGINES)], random_table(rng)
    options = {"new_levels": rng.choice(["error", "sample"]), "on_invalid": rng.choice(["error", "null"])}
    if engine == "csv":
        table = as_texts(table)
    elif engine not in ("pyarrow", "pandas", "pandas arrow", "pandas objects"):  # which have no numbers of 256 bits
        kinds = [pa.decimal128(30, 3) if pa.types.is_decimal256(field.type) else field.type for field in table.schema]
        if engine == "duckdb":  # which takes no half precision from Arrow
            kinds = [pa.float32() if kind == pa.float16() else kind for kind in kinds]
        table = table.cast(pa.schema(list(zip(table.column_names, kinds, strict=True))))
    told = f"seed {seed}: {engine}, {options}, {table.schema.to_string()}, {table.to_pylist()}"
    expected = twin(table, engine, **options)
    frame = engine_frame(engine, table, folder, connection)
    if expected is None:
        assert refused(model, frame, engine, options), told
        return
    try:
        found, support = risks_in(engine, score(model, frame, **options))
    except Exception as error:
        raise AssertionError(told) from error
    exact = np.array([by_hand(sets) for sets in expected]).reshape(-1, len(ADDED))
    np.testing.assert_allclose(found, exact, rtol=0, atol=2e-6, err_msg=told)
    assert [flag == "invalid" for flag in support] == [sets is None for sets in expected], told


def refused(model, frame, engine, options):
    """Whether a frame meets an error of the package's own, which names a column."""
    try:
        risks_in(engine, score(model, frame, **options))
    except Exception as error:
        return type(error) is PatientsError and str(error).startswith("patients: column")
    return False


def test_a_few_random_frames(shipped, by_hand, tmp_path):
    with duckdb.connect() as connection:
        for seed in range(120):
            compare(seed, shipped, by_hand, tmp_path, connection)


@pytest.mark.slow
def test_three_thousand_random_frames(shipped, by_hand, tmp_path):
    """A part of them in each run; a failure names its seed, with which `compare` repeats it."""
    first = random.randrange(10**9)
    with duckdb.connect() as connection:
        for seed in range(first, first + 3_000):
            compare(seed, shipped, by_hand, tmp_path, connection)
