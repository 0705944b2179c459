"""Models and answers that the calculator's tests compare pages with."""

from __future__ import annotations

import itertools
import json
import re
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

import aemodel
from aemodel.inference.diagnostics import Diagnostics
from aemodel.publication.tables import read_tables
from aemodel.scoring.risks import RiskDraws, cells_with_new
from tests.publications import publication_texts, simulate_patients

BOLD = "</script><b>bold</b><img src=x onerror=document.hacked=true><!--"
LONG = "W" * 120


def page_data(page):
    """What a page's JSON holds."""
    return json.loads(re.search(r'<script type="application/json" id="model">(.*?)</script>', page, flags=re.S)[1])


def profiles(model):
    """A patient per combination of levels, each of which may be missing; in the order of the page."""
    covariates = model.risks.covariates
    names = [c.name for c in covariates]
    return [dict(zip(names, levels, strict=True)) for levels in itertools.product(*([*c.names, None] for c in covariates))]


def scored(model):
    """What `score` says of all profiles: risks (profile, event, grade, statistic) and support (profile, event, grade)."""
    patients = pa.table({c.name: pa.array([p[c.name] for p in profiles(model)], pa.string()) for c in model.risks.covariates})
    risks, support = [], []
    # A grade at a time: the support of both would be the weaker flag.
    for grade in model.risks.grades:
        table = aemodel.score(model, patients, grades=[grade])
        prefixes = [f"{event}_g{grade[0]}" for event in model.risks.events]
        risks.append([[table[f"{prefix}_{what}"].to_numpy() for what in ("risk", "lower", "upper")] for prefix in prefixes])
        support.append([table[f"{event}_support"].to_pylist() for event in model.risks.events])
    return np.moveaxis(np.array(risks), (0, 1, 2, 3), (2, 1, 3, 0)), np.moveaxis(np.array(support), (0, 1, 2), (2, 1, 0))


def invented_model(texts=None, *, divergences=0):
    """A model of the invented publication with invented draws: it answers `score`, and was never fitted."""
    texts = publication_texts(simulate_patients(patients=60)) if texts is None else texts
    tables = read_tables(texts)
    covariates, events = tables.covariates, tables.events
    rng = np.random.default_rng(5)
    shape = tuple(len(c.levels) for c in covariates)
    cells = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=1)
    levels, weight = cells_with_new(covariates, cells, rng.uniform(1, 9, len(cells)))
    pairs = (len(events), 2)
    risks = RiskDraws(
        covariates=covariates,
        events=tuple(event.name for event in events),
        grades=("3-5", "4-5"),
        # From nearly never to nearly always, so that all wordings are met.
        draws=rng.beta(np.logspace(-3, 1, 2 * len(events)).reshape(pairs), 1, (40, len(levels), *pairs)).astype("f4"),
        levels=levels,
        weight=weight,
        movement=rng.uniform(0, 1, (len(covariates), len(levels), *pairs)).astype("f4"),
        source=rng.integers(0, 3, (len(covariates), *pairs)),
        published=np.array([[grade in event.grades for grade in ("3-5", "4-5")] for event in events]),
        chains=4,
    )
    return SimpleNamespace(
        name="invented",
        settings={"selection": True},
        risks=risks,
        tables=tables,
        diagnostics=Diagnostics(r_hat=1.0, ess_bulk=2000.0, ess_tail=2000.0, divergences=divergences, bfmi=0.9, worst="none"),
    )


def hostile_model():
    """Its texts try to be markup, to leave their place, to be a script's address, and not to fit on a phone."""
    texts = publication_texts(simulate_patients(patients=60))
    about = texts["publication.toml"]
    for old, new in (
        (
            'title = "An invented trial"',
            f'title = "{BOLD}"\ndoi = "javascript:document.hacked=true"\nnotes = ["{BOLD}", "{LONG}"]',
        ),
        ("No Journal", "{{script}} {{data}} $& \\\\1"),
        ('label = "Treatment arm"', f'label = "{BOLD}"'),
        ('label = "Low dose"', f'label = "{LONG}"'),
        ('label = "North"', f'label = "{BOLD}"'),
        ('{ name = "coast"', '{ name = "co=a&s#t %\\u00e9"'),
    ):
        assert old in about
        about = about.replace(old, new)
    events = texts["events.csv"].replace("Any toxicity", BOLD).replace("Anemia or low platelets", LONG)
    cohort = texts["cohort.csv"].replace(",coast,", ",co=a&s#t %\u00e9,").replace("region,coast", "region,co=a&s#t %\u00e9")
    return invented_model(texts | {"publication.toml": about, "events.csv": events, "cohort.csv": cohort})
