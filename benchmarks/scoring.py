"""Scoring files of 10,000 to 100,000,000 patients, against what the engine alone needs, and against bambi's predictions.

    python benchmarks/scoring.py [--rows 1e4 1e6 1e8] [--folder /tmp]

Four toxicities at both grades with intervals, Parquet to Parquet, and up to a million rows CSV to CSV. The floor: DuckDB
copies the file and joins a table of constants with as many columns, in whatever order. Each run is in a process of its
own, so that peak memory is its own; imports and the model's loading are not timed. bambi predicts one event at one grade,
without an interval, from as many draws, once or for each event and grade in turn; it is compared with scoring as much.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MOST_ROWS_OF_CSV = 1e6
EVENTS = ["infections", "sepsis", "oral_mucositis", "hyperglycemia"]
GENERATED = """
SELECT i AS id,
    CASE WHEN hash(i) % 20 = 0 THEN NULL ELSE (1 + hash(i * 7) % 30)::DOUBLE END AS age,
    ['bm', 'iem'][(1 + hash(i * 3) % 2)::INT] AS relapse_site,
    CASE WHEN hash(i * 17) % 20 = 0 THEN NULL ELSE hash(i * 5) % (12 + 12 * (hash(i * 7) % 30)) END AS months_to_relapse,
    ['male', 'female', NULL][(1 + hash(i * 11) % 3)::INT] AS sex,
    ['hispanic', 'nh_white', 'nh_black', 'nh_asian', 'nh_other', 'other_unknown', NULL][(1 + hash(i * 13) % 7)::INT]
        AS race_ethnicity
FROM range({rows}) t(i)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, nargs="+", default=[1e4, 1e6, 1e8])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where 5 GB are free for 1e8 rows")
    parser.add_argument("--kind", choices=list(KINDS), help="run one only, and print its figures as JSON")
    arguments = parser.parse_args()
    if arguments.kind:
        print(json.dumps(run_one(arguments.kind, int(arguments.rows[0]), arguments.folder)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(
            f"{'rows':>12s}{'':>9s}{'score, rows/s':>16s}{'floor, rows/s':>16s}{'score/floor':>13s}"
            f"{'score, MiB':>12s}{'floor, MiB':>12s}"
        )
        for rows in map(int, arguments.rows):
            for form in ("parquet", "csv") if rows <= MOST_ROWS_OF_CSV else ("parquet",):
                line = compared(rows, form, Path(folder))
                print("{:>12,d}{:>9s}{:>16,.0f}{:>16,.0f}{:>13.2f}{:>12.0f}{:>12.0f}".format(rows, form, *line), flush=True)
        speeds = {
            kind: [started(kind, 10_000, Path(folder))["rows_per_second"] for _ in range(3)]
            for kind in ("one", "bambi one", "all", "bambi all")
        }
    print(f"\n10,000 rows of a pandas frame, rows/s{'score':>12s}{'bambi':>10s}   times")
    for label, kind in (("one event at one grade", "one"), ("four events at both grades", "all")):
        ours, theirs = statistics.median(speeds[kind]), statistics.median(speeds[f"bambi {kind}"])
        print(f"{label:38s}{ours:>12,.0f}{theirs:>10,.0f}{ours / theirs:>8.0f}")


def compared(rows: int, form: str, folder: Path) -> tuple[float, float, float, float, float]:
    """Score and floor in turns; medians, and the highest peaks."""
    generate(rows, folder / f"patients.{form}")
    found: dict[str, list[dict[str, float]]] = {"score": [], "floor": []}
    for _ in range(5 if rows <= 1e7 else 1):
        for kind, figures in found.items():
            figures.append(started(f"{kind} {form}", rows, folder))
    speed = {kind: statistics.median(each["rows_per_second"] for each in figures) for kind, figures in found.items()}
    peak = {kind: max(each["peak_mib"] for each in figures) for kind, figures in found.items()}
    return speed["score"], speed["floor"], speed["score"] / speed["floor"], peak["score"], peak["floor"]


def started(kind: str, rows: int, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--kind", kind, "--rows", str(rows), "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_one(kind: str, rows: int, folder: Path) -> dict[str, float]:
    seconds = KINDS[kind](folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows_per_second": rows / seconds, "peak_mib": peak}


def generate(rows: int, path: Path) -> None:
    from aemodel.scoring.files import connect

    with connect() as connection:
        relation = connection.sql(GENERATED.format(rows=rows))
        relation.write_csv(str(path)) if path.suffix == ".csv" else relation.write_parquet(str(path))


def score_parquet(folder: Path) -> float:
    return time_scoring(folder, "parquet")


def score_csv(folder: Path) -> float:
    return time_scoring(folder, "csv")


def time_scoring(folder: Path, form: str) -> float:
    import aemodel
    from aemodel.scoring.files import connect, open_patients
    from aemodel.scoring.score import Asked, score_rows

    model = aemodel.load_model("aall1331")
    patients, scored = folder / f"patients.{form}", folder / f"scored.{form}"
    asked = Asked(0.9, EVENTS, None, "error", "error", "error")
    started = time.perf_counter()
    with open_patients(patients) as opened:
        opened.write("", opened.read("", lambda frame: score_rows(model, frame, asked)), scored, {})
    seconds = time.perf_counter() - started
    with connect() as connection:
        added = "COLUMNS('.*_(risk|lower|upper|support)$')"
        few = connection.sql(f"SELECT DISTINCT {added} FROM (FROM '{scored}' LIMIT 100000)")
        few.project("row_number() OVER () - 1 AS key, *").write_parquet(str(folder / "constants.parquet"))
    scored.unlink()
    return seconds


def copy_parquet(folder: Path) -> float:
    return time_copying(folder, "parquet")


def copy_csv(folder: Path) -> float:
    return time_copying(folder, "csv")


def time_copying(folder: Path, form: str) -> float:
    """Constants are those that scoring has just added."""
    from aemodel.scoring.files import connect

    copied = folder / f"copied.{form}"
    with connect() as connection:
        connection.execute(f"CREATE TABLE constants AS FROM read_parquet('{folder / 'constants.parquet'}')")
        number = connection.sql("SELECT count(*) FROM constants").fetchall()[0][0]
        started = time.perf_counter()
        joined = connection.sql(
            f"SELECT p.*, c.* EXCLUDE (key) FROM '{folder / f'patients.{form}'}' p "
            f"LEFT JOIN constants c ON c.key = p.id % {number}"
        )
        joined.write_csv(str(copied)) if form == "csv" else joined.write_parquet(str(copied))
        seconds = time.perf_counter() - started
    copied.unlink()
    return seconds


def score_frame(folder: Path) -> float:
    return time_frame(events=EVENTS)


def score_one(folder: Path) -> float:
    return time_frame(events=EVENTS[:1], grades=["3-5"])


def time_frame(**options) -> float:
    import duckdb
    import pandas as pd

    import aemodel

    model = aemodel.load_model("aall1331")
    with duckdb.connect() as connection:
        frame = pd.DataFrame(connection.sql(GENERATED.format(rows=10_000)).fetchnumpy())
    aemodel.score(model, frame, **options)
    started = time.perf_counter()
    for _ in range(5):
        aemodel.score(model, frame, **options)
    return (time.perf_counter() - started) / 5


def predict_one(folder: Path) -> float:
    return time_predict(1)


def predict_all(folder: Path) -> float:
    return time_predict(len(EVENTS) * 2)


def time_predict(times: int) -> float:
    """Predictions by bambi for 10,000 patients, from a hierarchical logistic regression fitted to simulated ones."""
    import bambi as bmb
    import numpy as np
    import pandas as pd

    import aemodel

    covariates = aemodel.load_model("aall1331").risks.covariates
    rng = np.random.default_rng(1)

    def simulated(rows: int) -> pd.DataFrame:
        return pd.DataFrame({c.name: rng.choice(c.names, size=rows) for c in covariates})

    patients = simulated(661)
    patients["event"] = rng.integers(2, size=661)
    terms = " + ".join(f"(1|{c.name})" for c in covariates)
    model = bmb.Model(f"event ~ {terms}", patients, family="bernoulli")
    fitted = model.fit(draws=500, tune=500, chains=2, cores=2, random_seed=1, progressbar=False)
    new = simulated(10_000)
    model.predict(fitted, data=new, inplace=False)
    started = time.perf_counter()
    for _ in range(times):
        model.predict(fitted, data=new, inplace=False)
    return time.perf_counter() - started


KINDS = {
    "score parquet": score_parquet,
    "score csv": score_csv,
    "floor parquet": copy_parquet,
    "floor csv": copy_csv,
    "one": score_one,
    "all": score_frame,
    "bambi one": predict_one,
    "bambi all": predict_all,
}

if __name__ == "__main__":
    main()
