"""Whether a default fit of a reasonable publication passes its diagnostics, at once or at the second attempt.

    python -m benchmarks.battery RESULTS.jsonl [NAME ...]

Publications given as folders, AALL1331, and simulated ones of many shapes, each with several seeds. A line of results is
written as each fit ends; fits that have one are not done again. `benchmarks/battery.jsonl` is what was run of it so far,
``seconds`` null where the machine had been halted.
"""

from __future__ import annotations

import io
import json
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import special
from scipy.stats import chi2_contingency

import aemodel
from aemodel.publication.tables import Tables, read_tables

FOLDERS = Path(__file__).parent / "publications"
SEEDS = {"aall1331": (1, 2, 3)}  # all others: 1, 2
LARGER = (5, 10, 100)


@dataclass(frozen=True)
class Shape:
    """A simulated publication: ``levels`` (covariate,) how many each has, ``rates`` the events' overall frequencies.

    ``effect`` is the standard deviation of effects (log odds); with a ``union`` of all events, as one more event. The first
    covariate is ``ordered`` or not. ``severe`` is the share of grade 4-5 among 3-5, 0 if that grade is not given.
    ``unlisted`` pairs are printed only if significant.
    """

    patients: int
    levels: tuple[int, ...]
    rates: tuple[float, ...]
    effect: float = 0.4
    severe: float = 0.3
    union: bool = False
    nested: bool = False
    ordered: bool = False
    unlisted: bool = False


SHAPES = {
    "one covariate, 43,847 patients": Shape(43_847, (2,), (0.2, 0.05), effect=0.2),
    "one covariate of four levels": Shape(1_200, (4,), (0.4, 0.1, 0.03)),
    "40 patients": Shape(40, (2, 2), (0.3, 0.15, 0.1)),
    "nine events of 0 to 6 of 528": Shape(528, (2, 3), (0.0, 0.002, 0.002, 0.004, 0.006, 0.006, 0.008, 0.01, 0.011)),
    "25 events": Shape(1_000, (2, 3, 2), tuple(np.linspace(0.01, 0.4, 25).round(3))),
    "four covariates": Shape(661, (3, 4, 2, 5), (0.35, 0.2, 0.15, 0.1, 0.06, 0.04), ordered=True),
    "50,000 patients": Shape(50_000, (3, 2), (0.3, 0.2, 0.1, 0.05, 0.02, 0.01), effect=0.3, ordered=True),
    "a union of six at one grade": Shape(3_126, (2, 3), (0.2, 0.15, 0.1, 0.08, 0.05, 0.03), severe=0.0, union=True),
    "nested five deep": Shape(2_000, (3, 2), (0.5, 0.3, 0.2, 0.1, 0.05), nested=True, ordered=True),
    "unlisted pairs, 20,000 patients": Shape(20_000, (2, 3), (0.3, 0.2, 0.1, 0.05, 0.03), effect=0.1, unlisted=True),
    "unlisted pairs, 1,000 patients": Shape(1_000, (2, 3), (0.3, 0.2, 0.1, 0.05, 0.03), effect=0.2, unlisted=True),
    "saturated events": Shape(300, (2, 2), (0.99, 0.95, 0.5, 0.02)),
}


def publications() -> Iterator[tuple[str, Tables]]:
    """Name and tables of each."""
    yield "aall1331", aemodel.load_tables("aall1331")
    for folder in sorted(FOLDERS.iterdir()):
        yield folder.name, aemodel.load_tables(folder)
    for seed, (name, shape) in enumerate(SHAPES.items(), start=1):
        yield name, simulated(shape, seed)
    for times in LARGER:
        yield f"aall1331 without its ordering, {times} times as many", enlarged(aemodel.load_tables("aall1331"), times)


def enlarged(tables: Tables, times: int) -> Tables:
    """A publication of so many times as many patients, with the same frequencies, and without orderings."""
    texts = dict(tables.texts)
    for name in ("cohort.csv", "frequencies.csv"):
        rows = pd.read_csv(io.StringIO(texts[name]), dtype=str, keep_default_na=False)
        for column in rows.columns.intersection(["n", "count", "printed"]):
            counts = rows[column].str.fullmatch("[0-9]+") & ((column != "printed") | (rows.get("unit") == "count"))
            rows.loc[counts, column] = (rows.loc[counts, column].astype(int) * times).astype(str)
        texts[name] = rows.to_csv(index=False)
    texts["tests.csv"] = texts["tests.csv"].splitlines()[0] + "\n"  # with more patients P-values are others
    about = texts["publication.toml"].replace(f"patients = {tables.n}", f"patients = {times * tables.n}")
    texts["publication.toml"] = re.sub(r"(?ms)^\[\[orderings\]\].*?(?=^\[\[(?!orderings)|\Z)", "", about)
    return read_tables(texts)


def simulated(shape: Shape, seed: int) -> Tables:
    """Tables of patients drawn at random, their effects too."""
    return read_tables(_texts(shape, *_patients(shape, np.random.default_rng(seed))))


def _patients(shape: Shape, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Levels (patient, covariate) by number, and worst grades (patient, event): 0, 3 or 4."""
    levels = pd.DataFrame({f"c{k}": rng.integers(size, size=shape.patients) for k, size in enumerate(shape.levels)})
    grades = {}
    above = np.full(shape.patients, 4)
    for e, rate in enumerate(shape.rates):
        share = rate / shape.rates[e - 1] if shape.nested and e else rate
        logit = np.full(shape.patients, special.logit(np.clip(share, 1e-9, 1 - 1e-9)))
        severe = np.full(shape.patients, special.logit(shape.severe))
        for k, size in enumerate(shape.levels):
            if shape.ordered and k == 0:
                effects = np.linspace(-1, 1, size)[:, None] * rng.normal(0.7 * shape.effect, shape.effect, size=2)
            else:
                effects = rng.normal(0, shape.effect, size=(size, 2))
            logit = logit + effects[levels[f"c{k}"], 0]
            severe = severe + effects[levels[f"c{k}"], 1]
        has, worse = (rng.random(shape.patients) < special.expit(x) for x in (logit, severe))
        worst = np.minimum(np.where(has, np.where(worse, 4, 3), 0), above)
        grades[f"e{e}"] = worst
        above = worst if shape.nested else above
    found = pd.DataFrame(grades)
    if shape.union:
        found.insert(0, "any", found.max(axis=1))
    return levels, found


def _texts(shape: Shape, levels: pd.DataFrame, grades: pd.DataFrame) -> dict[str, str]:
    """The publication's files: every event by every covariate, or, with ``unlisted``, where a test was significant."""
    given = (("3-5", 3), ("4-5", 4)) if shape.severe else (("3-5", 3),)
    names = {name: [f"{name}{chr(97 + v)}" for v in range(size)] for name, size in zip(levels, shape.levels, strict=True)}
    about = ['format = 1\nname = "simulated"\ntitle = "Simulated"\ncitation = "Nobody."', f"patients = {shape.patients}"]
    about.append("[columns]\n" + "\n".join(f'{name} = "level"' for name in levels))
    for k, (name, each) in enumerate(names.items()):
        rules = ", ".join(f'{{ name = "{v}", label = "{v}", when = {{ {name} = "{v}" }} }}' for v in each)
        ordered = str(shape.ordered and k == 0).lower()
        about.append(
            f'[[covariates]]\nname = "{name}"\nlabel = "{name}"\nopen = false\nordered = {ordered}\nlevels = [{rules}]'
        )
    if shape.unlisted:
        events = ", ".join(f'"{event}"' for event in grades)
        about.append(f'[[nulls]]\nunlisted = true\nevents = [{events}]\nalpha = 0.05\nsource = "Table 1"')
    parents = {
        name: f"e{e - 1},nested" if shape.nested and e else "," for e, name in enumerate(c for c in grades if c != "any")
    }
    parents = {"any": ","} | dict.fromkeys(parents, "any,union") if shape.union else parents
    events = [f"{name},{name},{parents[name]},{' '.join(g for g, _ in given)}" for name in grades]
    cohort = [f"{name},{v},,,{(levels[name] == i).sum()},Table 1" for name in names for i, v in enumerate(names[name])]
    rows = []
    for event, (grade, least) in product(grades, given):
        has = grades[event] >= least
        rows.append(f"{event},{grade},total,all,{shape.patients},{has.sum()},count,,no,Table 2")
        for name in names:
            tables = [pd.crosstab(levels[name], grades[event] >= worst) for _, worst in given]
            if shape.unlisted and min(_p_value(table) for table in tables) >= 0.05:
                continue
            for i, level in enumerate(names[name]):
                here = levels[name] == i
                rows.append(f"{event},{grade},{name},{level},{here.sum()},{has[here].sum()},count,,no,Table 2")
    return {
        "publication.toml": "\n".join(about) + "\n",
        "events.csv": "\n".join(["event,label,parent,relation,grades", *events]) + "\n",
        "cohort.csv": "\n".join(["covariate,level,by,by_level,n,source", *cohort]) + "\n",
        "frequencies.csv": "\n".join(["event,grade,covariate,level,n,printed,unit,count,derived,source", *rows]) + "\n",
        "tests.csv": "event,grade,covariate,levels,p,test\n",
        "discrepancies.csv": "event,grade,covariate,level,where,printed,computed,resolution\n",
    }


def _p_value(table: pd.DataFrame) -> float:
    return float(chi2_contingency(table, correction=False).pvalue) if table.shape[1] == 2 else 1.0


def one_fit(tables: Tables, seed: int) -> dict[str, Any]:
    """Diagnostics of a default fit, of its first attempt if that failed, its seconds, and how near its risks are."""
    started = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = aemodel.fit(tables, seed=seed, progress=False)
    table = aemodel.calibration_table(model)
    rows = table[~table["derived"]]
    return {
        "passed": model.diagnostics.passed,
        "attempts": len(model.settings["failed_attempts"]) + 1,
        "diagnostics": str(model.diagnostics),
        "failed": list(model.settings["failed_attempts"]),
        "seconds": round(time.monotonic() - started, 1),
        "observed": int(rows["observed"].sum()),
        "predicted": round(float((rows["predicted"] * rows["n"]).sum()), 1),
        "within90": round(float(rows["observed"].between(rows["lower90"], rows["upper90"]).mean()), 3),
    }


def main(path: Path, chosen: Sequence[str]) -> None:
    done = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    for name, tables in publications():
        for seed in SEEDS.get(name, (1, 2)):
            if (chosen and name not in chosen) or any((each["name"], each["seed"]) == (name, seed) for each in done):
                continue
            done.append({"name": name, "seed": seed, **one_fit(tables, seed)})
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done[-1]) + "\n")
            print(done[-1], flush=True)
    found = pd.DataFrame(done)
    if len(found):
        at_once = (found["passed"] & (found["attempts"] == 1)).mean()
        print(f"{len(found)} fits: {at_once:.0%} passed at once, {found['passed'].mean():.0%} at last.")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
