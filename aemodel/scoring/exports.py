"""What may leave the house: a model as a table to look risks up in, and counts of a cohort's outcomes by profile. Light.

In the first, any database finds every profile, event and grade. In the second there is no row of a patient and no small cell:
a cell is the patients of one profile whose worst grade of an event is in one class, or in none. Cells of 1 to ``smallest`` - 1
patients are hidden, with the first larger one where they could be told from the sum; what is written of them is what anybody
could work out from their number and their sum. Profiles so small that all their cells could be are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from aemodel.publication.arrays import Ints
from aemodel.publication.errors import InputError, wrong_patients
from aemodel.publication.grades import HIGHEST, class_numbers
from aemodel.publication.patients import as_float, is_missing, refuse_invalid
from aemodel.publication.schema import Covariate
from aemodel.publication.texts import listed, shown
from aemodel.scoring.files import Patients, write_columns
from aemodel.scoring.frames import Frame, profiles_of
from aemodel.scoring.risks import SUPPORT, check_interval, risks_of
from aemodel.scoring.score import lineage

MOST_ROWS = 2_000_000
COUNTS = ("event", "grade", "n", "count_low", "count_high")


def count_profiles(model: Any, patients: Patients, smallest: int) -> tuple[dict[str, list[Any]], dict[str, int]]:
    """Columns of counts: covariates, then `COUNTS`; and for each event how many patients are not in them, for their profile.

    Patients have covariates, as for `score`, and events' worst grades in columns of their names, 0 to 5; those whose grade is
    not known are not counted. ``n`` have the profile, and between ``count_low`` and ``count_high`` of them the event at the
    grade.
    """
    risks, numbers = risks_of(model), class_numbers(model.tables.classes)
    lowest = [numbers[grade] for grade in risks.grades]
    frame = patients.read("Counting profiles", lambda opened: opened(risks.covariates, (), "error"))
    if not (events := [event for event in risks.events if event in frame.kinds]):
        raise wrong_patients(f"no outcome is known; give worst grades in columns named as events: {listed(risks.events)}")
    rows: list[tuple[Any, ...]] = []
    left_out = {}
    for event in events:
        cells, sets = patients.read("Counting outcomes", lambda _, event=event: _cells(frame, event, lowest))
        enough = cells.sum(axis=1) >= fewest(cells.shape[1], smallest)
        left_out[event] = int(cells[~enough].sum())
        for profile, counts in zip(sets[enough], cells[enough], strict=True):
            names = [name_of(covariate, int(bits)) for covariate, bits in zip(frame.layout.covariates, profile, strict=True)]
            bounds = cumulated(counts, *hidden(counts, smallest))
            rows += [
                (*names, event, grade, int(counts.sum()), *bound) for grade, bound in zip(risks.grades, bounds, strict=True)
            ]
    header = (*(covariate.name for covariate in risks.covariates), *COUNTS)
    return {name: [row[k] for row in rows] for k, name in enumerate(header)}, left_out


def _cells(frame: Frame, event: str, lowest: Sequence[int]) -> tuple[Ints, Ints]:
    """Patients by profile and worst class, (profile, 1 + class), none first; and the profiles' sets of levels."""
    groups = frame.tally([event])
    refuse_invalid(profiles_of(frame, groups), "error", "error")
    sets = frame.layout.sets(groups.codes)
    profiles, which = np.unique(sets, axis=0, return_inverse=True)
    cells = np.zeros((len(profiles), len(lowest) + 1), dtype=np.int64)
    for (label,), counts in zip(groups.labels, groups.counts, strict=True):
        if is_missing(label):
            continue
        if (grade := as_float(label)) not in range(HIGHEST + 1):
            problem = f"column {event!r}: impossible grade {shown(label)}; allowed: a whole number from 0 to 5, or null"
            raise wrong_patients(problem)
        np.add.at(cells[:, sum(grade >= low for low in lowest)], which, counts)
    return cells, profiles


def fewest(cells: int, smallest: int) -> int:
    """Patients of a profile from which on not all of its cells can be small."""
    return cells * (smallest - 1) + 1


def hidden(counts: Ints, smallest: int) -> tuple[Ints, Ints]:
    """Between which numbers each cell is told to be."""
    taken = [i for i in range(len(counts)) if 0 < counts[i] < smallest]
    if taken and not max(len(taken), smallest - 1) < counts[taken].sum() < len(taken) * (smallest - 1):
        # Alone, or together with too few others of this sum, they would be told; the next smallest would tell of the others.
        taken.append(next(i for i in range(len(counts)) if counts[i] >= smallest))
    low, high = counts.copy(), counts.copy()
    total, most = int(counts[taken].sum()), smallest - 1
    for i in taken:
        if total <= len(taken) * most:  # which of them are small must not be told, or all of them might be
            low[i], high[i] = 1, total - len(taken) + 1
        elif counts[i] < smallest:
            low[i], high[i] = 1, most
        else:
            low[i], high[i] = total - (len(taken) - 1) * most, total - len(taken) + 1
    return low, high


def cumulated(counts: Ints, low: Ints, high: Ints) -> Iterator[tuple[int, int]]:
    """Between which numbers those in each class or a higher one are told to be."""
    n = counts.sum()
    for first in range(1, len(counts)):
        inside, outside = slice(first, None), slice(0, first)
        yield int(max(low[inside].sum(), n - high[outside].sum())), int(min(high[inside].sum(), n - low[outside].sum()))


def name_of(covariate: Covariate, bits: int) -> str | None:
    """A set of levels as counts have it: levels joined by ``+``, None for all of them."""
    names = [name for i, name in enumerate(covariate.names) if bits >> i & 1]
    return None if bits == covariate.everything else _between(covariate).join(names)


def _between(covariate: Covariate) -> str:
    """What joins names of levels; a plus that a name has itself is not taken for it."""
    return " + " if any("+" in name for name in covariate.names) else "+"


def bits_of(covariate: Covariate, text: Any) -> int:
    """What `name_of` wrote, as bits; 0 for what it cannot have written."""
    if is_missing(text) or text == "":
        return covariate.everything
    names = dict(zip(covariate.names, covariate.sets, strict=True))
    if text in names:
        return names[text]
    parts = str(text).split(_between(covariate))
    return sum(names[part] for part in set(parts)) if set(parts) <= set(names) else 0


def write_lookup(model: Any, path: Path, interval: float = 0.9) -> int:
    """Write a row for each profile, event and grade, and say how many; covariates are null where they are not known.

    Columns are the covariates, ``event``, ``grade``, ``risk``, ``lower``, ``upper``, ``support``, and ``published``: whether
    the publication gives any frequency of the event at the grade.
    """
    risks, interval = risks_of(model), check_interval(interval)
    levels = [[*zip(c.names, c.sets, strict=True), (None, c.everything)] for c in risks.covariates]
    if (rows := math.prod(map(len, levels)) * len(risks.pairs)) > MOST_ROWS:
        raise InputError("model", f"its profiles would make {rows:,} rows, more than {MOST_ROWS:,}; score tables instead")
    profiles = list(product(*levels))
    sets = np.array([[bits for _, bits in profile] for profile in profiles])
    values = [values.ravel().tolist() for values in risks.summary(sets, interval)]
    columns: dict[str, Sequence[Any]] = {
        c.name: [profile[k][0] for profile in profiles for _ in risks.pairs] for k, c in enumerate(risks.covariates)
    }  # fmt: skip
    columns |= zip(("event", "grade"), zip(*risks.pairs * len(profiles), strict=True), strict=True)
    columns |= dict(zip(("risk", "lower", "upper"), values, strict=True))
    columns["support"] = np.array(SUPPORT)[risks.support(sets)].ravel().tolist()
    columns["published"] = risks.published.ravel().tolist() * len(profiles)
    write_columns(path, columns, lineage(model, interval))
    return rows
