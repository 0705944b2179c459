"""Writes small invented publications: patients are simulated, counted as a paper would count them, then forgotten.

The trial, its treatments and its events are made up. Covariates are ``arm`` (from a dose), ``stage`` (levels in two
groups, from spread and size of the tumour) and ``region`` (open, without a published frequency). Events nest in every
way there is: ``any_toxicity`` contains ``blood_toxicity`` (the union of ``anemia`` and ``low_platelets``), ``rash``, and
the fatal ``toxic_death``; ``vomiting`` lies in ``stomach_upset``; ``neuropathy`` stands alone.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from aemodel.publication.errors import PublicationError
from aemodel.publication.tables import read_tables

ARMS = ("low", "middle", "high")
STAGES = ("local_small", "local_large", "distant_small", "distant_large")
REGIONS = ("north", "south", "coast")
LEVELS = {"arm": ARMS, "stage": STAGES, "region": REGIONS}
STAGE_GROUPS = {"local": STAGES[:2], "distant": STAGES[2:]}

EVENTS = """event,label,parent,relation,grades
any_toxicity,Any toxicity,,,3-5 4-5
blood_toxicity,Anemia or low platelets,any_toxicity,nested,3-5 4-5
anemia,Anemia,blood_toxicity,union,3-5 4-5
low_platelets,Low platelets,blood_toxicity,union,3-5
rash,Rash,any_toxicity,nested,3-5 4-5
toxic_death,Death of toxicity,any_toxicity,fatal,3-5 4-5
stomach_upset,Stomach upset,,,3-5 4-5
vomiting,Vomiting,stomach_upset,nested,3-5 4-5
neuropathy,Neuropathy,,,3-5 4-5
"""

PUBLISHED = {
    "any_toxicity": ("total",),
    "blood_toxicity": ("arm", "stage"),
    "anemia": ("arm",),
    "low_platelets": ("total",),
    "rash": ("stage",),
    "toxic_death": ("arm",),
    "stomach_upset": ("arm",),
    "vomiting": ("stage",),
    "neuropathy": ("stage",),
}
"""Which covariates each event's frequencies are given by."""

ABOUT = """format = 1
name = "{name}"
title = "An invented trial"
citation = "Nobody. An invented trial. No Journal, no year."
patients = {patients}

[columns]
dose_mg = "dose in milligrams"
spread = "whether the tumour has spread: no or yes"
size_cm = "diameter in centimetres; exactly 5 is large"

[[covariates]]
name = "arm"
label = "Treatment arm"
open = false
levels = [
  {{ name = "low", label = "Low dose", when = {{ dose_mg = {{ min = 1, below = 50 }} }} }},
  {{ name = "middle", label = "Middle dose", when = {{ dose_mg = {{ min = 50, below = 100 }} }} }},
  {{ name = "high", label = "High dose", when = {{ dose_mg = {{ min = 100, below = 500 }} }} }},
]

[[covariates]]
name = "stage"
label = "Stage"
open = false
groups = {{ local = "Local", distant = "Distant" }}

[[covariates.levels]]
name = "local_small"
label = "Local, small"
group = "local"
when = {{ spread = "no", size_cm = {{ min = 0, below = 5 }} }}

[[covariates.levels]]
name = "local_large"
label = "Local, large"
group = "local"
when = {{ spread = "no", size_cm = {{ min = 5 }} }}

[[covariates.levels]]
name = "distant_small"
label = "Distant, small"
group = "distant"
when = {{ spread = "yes", size_cm = {{ min = 0, below = 5 }} }}

[[covariates.levels]]
name = "distant_large"
label = "Distant, large"
group = "distant"
when = {{ spread = "yes", size_cm = {{ min = 5 }} }}

[[covariates]]
name = "region"
label = "Region"
open = true
levels = [
  {{ name = "north", label = "North" }},
  {{ name = "south", label = "South" }},
  {{ name = "coast", label = "Coast" }},
]
"""


EVIDENCE = """
[[orderings]]
event = "any_toxicity"
covariate = "region"
within = { stage = "local" }
alpha = 0.05
source = "Text"
[orderings.tiers]
"4-5" = [["coast"], ["north", "south"]]
"3-5" = [["coast", "south"], ["north"]]

[[nulls]]
events = ["any_toxicity"]
covariates = ["arm", "stage"]
alpha = 0.05
source = "Text"

[[nulls]]
unlisted = true
source = "Not in Table 2"
[nulls.among]
region = ["north", "south"]
"""
"""What such a publication may say in words, and leave out: the end of its `publication.toml`."""


def simulate_patients(*, seed: int = 1, patients: int = 240) -> pd.DataFrame:
    """One row per patient: the level of each covariate, and the grade (0, 3, 4 or 5) of each event.

    Higher doses and later stages are riskier; within the union and the nesting, grades are consistent by construction.
    """
    rng = np.random.default_rng(seed)
    arm = rng.choice(3, patients, p=[0.3, 0.4, 0.3])
    stage = rng.choice(4, patients, p=[0.35, 0.3, 0.2, 0.15])
    region = rng.choice(3, patients, p=[0.5, 0.3, 0.2])
    push = 0.4 * (arm - 1) + 0.25 * (stage - 1.5)

    def grades(occurs: float, severe: float = -1.0) -> np.ndarray:
        return np.where(_happens(rng, occurs + push), np.where(_happens(rng, severe + 0.5 * push), 4, 3), 0)

    anemia, platelets, rash = grades(-1.0), grades(-1.2), grades(-1.8)
    blood = np.maximum(anemia, platelets)
    anything = np.max([blood, rash, grades(-1.5)], axis=0)
    death = np.where((anything == 4) & _happens(rng, -1.0 + push), 5, 0)
    upset = grades(-0.8, -1.5)
    vomiting = np.where(_happens(rng, 0.0 * push), np.where(_happens(rng, 0.0 * push), upset, np.minimum(upset, 3)), 0)
    return pd.DataFrame(
        {
            "arm": np.array(ARMS)[arm],
            "stage": np.array(STAGES)[stage],
            "region": np.array(REGIONS)[region],
            "any_toxicity": np.maximum(anything, death),
            "blood_toxicity": blood,
            "anemia": anemia,
            "low_platelets": platelets,
            "rash": rash,
            "toxic_death": death,
            "stomach_upset": upset,
            "vomiting": vomiting,
            "neuropathy": grades(-1.5),
        }
    )


def publication_texts(patients: pd.DataFrame, name: str = "invented", evidence: str = "") -> dict[str, str]:
    """The six files of a publication that counts these patients, by file name; ``evidence`` such as `EVIDENCE`."""
    return {
        "publication.toml": ABOUT.format(name=name, patients=len(patients)) + evidence,
        "events.csv": EVENTS,
        "frequencies.csv": _frequencies(patients),
        "cohort.csv": _cohort(patients),
        "tests.csv": "event,grade,covariate,levels,p,test\n",
        "discrepancies.csv": "event,grade,covariate,level,where,printed,computed,resolution\n",
    }


def write_publication(folder: Path, patients: pd.DataFrame, name: str = "invented") -> Path:
    """Write the files of `publication_texts` into a folder, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in publication_texts(patients, name).items():
        (folder / file).write_text(text, encoding="utf-8")
    return folder


NO_TESTS = {
    "tests.csv": "event,grade,covariate,p,test\n",
    "discrepancies.csv": "event,grade,covariate,level,where,printed,computed,resolution\n",
}
"""What small publications leave empty."""


def covariate_table(name: str, levels: Iterable[str], more: str = "") -> str:
    """A covariate of `publication.toml`, its names as labels."""
    given = ", ".join(f'{{ name = "{level}", label = "{level}" }}' for level in levels)
    return f'[[covariates]]\nname = "{name}"\nlabel = "{name}"\n{more}levels = [{given}]\n'


def count(patients: pd.DataFrame, event: str, grade: str, covariate: str = "total", level: str = "all") -> int:
    """Patients of a level (or group of stages, or the cohort) with an event at a grade; a death counts at every grade."""
    least = {"3-5": 3, "4-5": 4, "5": 5}[grade]
    return int((_members(patients, covariate, level)[event] >= least).sum())


def _members(patients: pd.DataFrame, covariate: str, level: str) -> pd.DataFrame:
    if covariate == "total":
        return patients
    return patients[patients[covariate].isin(STAGE_GROUPS.get(level, (level,)))]


def _frequencies(patients: pd.DataFrame) -> str:
    """Arms as percentages to one decimal, everything else as counts, with the groups of stages as derived rows."""
    given = {line.split(",")[0]: line.split(",")[4].split() for line in EVENTS.splitlines()[1:]}
    rows = []
    for event, covariates in PUBLISHED.items():
        for grade in given[event]:
            if event == "toxic_death" and grade == "4-5":
                continue  # grade 5 is both: given once
            for covariate in covariates:
                derived = [*STAGE_GROUPS] if covariate == "stage" else []
                for level in (*LEVELS.get(covariate, ("all",)), *derived):
                    n, observed = len(_members(patients, covariate, level)), count(patients, event, grade, covariate, level)
                    cells = _percent(observed, n) if covariate == "arm" else (observed, "count", observed)
                    rows.append((event, grade, covariate, level, n, *cells, "yes" if level in derived else "no", "Table 2"))
    return _csv(rows, ("event", "grade", "covariate", "level", "n", "printed", "unit", "count", "derived", "source"))


def _percent(observed: int, n: int) -> tuple[str, str, str]:
    """Printed value, unit and an empty count: one decimal, half up, tells counts over fewer than 1000 patients apart."""
    return f"{(2000 * observed + n) // (2 * n) / 10:.1f}", "percent", ""


def _cohort(patients: pd.DataFrame) -> str:
    """Stages in total, then arms and regions by stage."""
    rows = [("stage", stage, "", "", int((patients["stage"] == stage).sum()), "Table 1") for stage in STAGES]
    for covariate in ("arm", "region"):
        for level in LEVELS[covariate]:
            for stage in STAGES:
                inside = (patients[covariate] == level) & (patients["stage"] == stage)
                rows.append((covariate, level, "stage", stage, int(inside.sum()), "Table 1"))
    return _csv(rows, ("covariate", "level", "by", "by_level", "n", "source"))


def _csv(rows: list[tuple], columns: tuple[str, ...]) -> str:
    file = io.StringIO()
    pd.DataFrame(rows, columns=columns).to_csv(file, index=False, lineterminator="\n")
    return file.getvalue()


def _happens(rng: np.random.Generator, logit: np.ndarray) -> np.ndarray:
    return rng.random(len(logit)) < 1 / (1 + np.exp(-logit))


def faults_of(texts: dict[str, str]) -> str:
    """All that is wrong with a publication, a line each; refuses to say so of one that is read."""
    try:
        read_tables(texts)
    except PublicationError as error:
        return "\n".join(map(str, (error, *error.faults[1:])))
    raise AssertionError("it was read")
