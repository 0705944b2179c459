"""A model as a table that any database can look risks up in: every profile, event and grade. Light."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from aemodel.publication.errors import InputError
from aemodel.scoring.files import write_columns
from aemodel.scoring.risks import SUPPORT, check_interval
from aemodel.scoring.score import risks_of
from aemodel.scoring.summary import lineage

MOST_ROWS = 2_000_000


def write_lookup(model: Any, path: Path, interval: float = 0.9) -> int:
    """Write a row for each profile, event and grade, and say how many; covariates are null where they are not known.

    Columns are the covariates, ``event``, ``grade``, ``risk``, ``lower``, ``upper``, ``support``, and ``published``: whether
    the publication gives any frequency of the event at the grade.
    """
    risks, interval = risks_of(model), check_interval(interval)
    levels = [[*((name, 1 << i) for i, name in enumerate(c.names)), (None, c.everything)] for c in risks.covariates]
    pairs = [(event, grade) for event in risks.events for grade in risks.grades]
    if (rows := math.prod(map(len, levels)) * len(pairs)) > MOST_ROWS:
        raise InputError("model", f"its profiles would make {rows:,} rows, more than {MOST_ROWS:,}; score tables instead")
    profiles = list(product(*levels))
    sets = np.array([[bits for _, bits in profile] for profile in profiles])
    values = [values.ravel().tolist() for values in risks.summary(sets, interval)]
    columns: dict[str, list[Any]] = {
        c.name: [profile[k][0] for profile in profiles for _ in pairs] for k, c in enumerate(risks.covariates)
    }  # fmt: skip
    columns |= {"event": [event for event, _ in pairs] * len(profiles), "grade": [grade for _, grade in pairs] * len(profiles)}
    columns |= dict(zip(("risk", "lower", "upper"), values, strict=True))
    columns["support"] = np.array(SUPPORT)[risks.support(sets)].ravel().tolist()
    columns["published"] = risks.published.ravel().tolist() * len(profiles)
    write_columns(path, columns, lineage(model, interval))
    return rows
