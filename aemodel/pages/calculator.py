"""The calculator: one web page that answers for a patient without Python, written from a saved model.

The page holds its style, its script and every answer, and asks for nothing else. Answers are those of `score`: all
combinations of levels, each covariate also not known, are worked out here and looked up there. Light: no PyMC, ArviZ,
xarray, SciPy or pandas.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2.utils import htmlsafe_json_dumps

from aemodel.inference.record import assumed_nulls, notes_of
from aemodel.pages.description import beside_words, covariate_facts
from aemodel.pages.render import check_comparable, check_page, source, write_page
from aemodel.publication.arguments import path_in
from aemodel.publication.arrays import Ints
from aemodel.publication.errors import InputError
from aemodel.publication.evidence import Null
from aemodel.publication.rules import TOTAL, sets_of, split
from aemodel.publication.words import Words, words_of
from aemodel.scoring.risks import SUPPORT, RiskDraws

INTERVAL = 0.9
DIGITS = 7
"""Significant digits of the page's probabilities: half a unit of the last is below 1e-7."""
MOST_NUMBERS = 1_000_000
"""Probabilities a page may hold, about 10 MB: a browser of a phone still opens it at once."""
ABOUT = ("title", "citation", "patients", "doi", "licence", "setting", "grading")
STYLES = ("theme.css", "layout.css", "print.css")
SCRIPTS = ("words.js", "pictures.js", "calculator.js")


def write_calculator(model: Any, path: str | Path, beside: Any = None) -> Path:
    """Write a self-contained web page that answers for one patient.

    The page needs no network and no server: it forbids itself both. Its risks, 90 % intervals and support flags equal
    those of `score` (to 1e-6) for every combination of covariate levels, each of which may also be not known.

    Parameters
    ----------
    model
        From `load_model` or `fit`.
    path
        The page, ending in ``.html``; what is there is replaced, once the new page is whole.
    beside
        Another fit of the same counts, such as one with ``selection=False``: each answer then also tells what that one says,
        and what it does not assume.

    Returns
    -------
    Path
        Where the page is.

    Raises
    ------
    TypeError
        ``model`` or ``beside`` is not a model.
    ValueError
        The path does not end in ``.html``, the model has too many combinations of levels for one page, or ``beside`` was
        fitted to something else.
    OSError
        The path is a folder, its folder is not there, or it cannot be written; what was there stays.
    """
    path = path_in("path", path)
    check_page(model, path)
    if beside is not None:
        check_comparable("beside", model, beside)
        if _counted(model) != _counted(beside):
            raise InputError("beside", "it was fitted to other counts; name a fit of the same publication")
    # ASCII, and no character by which text could end its element: a label stays a label.
    data = htmlsafe_json_dumps(_data(model, beside), allow_nan=False, separators=(",", ":"))
    write_page(path, "calculator.html", STYLES, _script(), settings=model.settings, data=data)
    return path


def _counted(model: Any) -> list[tuple[Any, ...]]:
    return sorted((*row.key, row.n, row.observed_low, row.observed_high) for row in model.tables.rows)


def _data(model: Any, beside: Any) -> dict[str, Any]:
    """All that the page says of the model."""
    about = model.tables.about
    words = words_of(model)
    risks: RiskDraws = model.risks
    nulls = assumed_nulls(model.settings, model.tables)
    return {
        **{key: getattr(about, key) for key in ABOUT},
        "period": about.period,
        "notes": notes_of(model.settings, model.tables),
        "name": model.name,
        "digest": model.tables.digest,
        "version": version("aemodel"),
        "failures": model.diagnostics.failures(),
        "interval": INTERVAL,
        "covariates": [_covariate(model, k) for k in range(len(risks.covariates))],
        "events": [{"name": name, "label": words.event(name), "only": _only_grade(model, name)} for name in risks.events],
        "grades": list(risks.grades),
        "grade_labels": [words.grade(grade) for grade in risks.grades],
        "published": risks.published.tolist(),
        "counts": [[_counts(model, words, event, grade) for grade in risks.grades] for event in risks.events],
        "assumed": [[_assumed(risks, nulls, event, grade) for grade in risks.grades] for event in risks.events],
        "notes_on": [_notes(model, event) for event in risks.events],
        "supports": list(SUPPORT),
        **_answers(risks, 1 if beside is None else 2),
        "beside": None if beside is None else _beside(model, beside),
    }


def _beside(model: Any, other: Any) -> dict[str, Any]:
    """The answers of another fit, under what they hold, and what is wrong with it."""
    words = beside_words(model.settings, other.settings, other.tables)
    return {"name": other.name, "words": words, "failures": other.diagnostics.failures(), **_answers(other.risks, 2)}


def _covariate(model: Any, k: int) -> dict[str, Any]:
    """A covariate's levels with their patients, what its raw columns hold, and whether any frequency is given by it."""
    facts, said = covariate_facts(model.tables, model.risks, k), model.tables.about.columns
    columns = [said[column] for column in facts["worked_out_from"] if column in said]
    return {key: facts[key] for key in ("name", "label", "levels")} | {"columns": columns, "counted": not facts["uncounted"]}


def _only_grade(model: Any, event: str) -> int | None:
    """The class of grades at which a fatal event, the same at all, has most frequencies; None for any other event."""
    if next(each for each in model.tables.events if each.name == event).relation != "fatal":
        return None
    rows = [row.grade for row in model.tables.rows if row.event == event]
    return max(range(len(model.risks.grades)), key=lambda g: rows.count(model.risks.grades[g]))


def _counts(model: Any, words: Words, event: str, grade: str) -> list[dict[str, Any]]:
    """Published rows of an event at a grade: whom they count, as positions of levels by covariate, and how many."""
    found = []
    for row in model.tables.rows:
        sets = sets_of(model.risks.covariates, row.covariate, row.level) if (row.event, row.grade) == (event, grade) else None
        if sets is not None:
            parts = split(model.risks.covariates, row.covariate, row.level) or ()
            label = "; ".join(" or ".join(words.level(name, level) for level in levels) for name, levels in parts)
            count = {"low": row.observed_low, "high": row.observed_high, "n": row.n}
            found.append({"label": label or words.level(*TOTAL), "at": _positions(sets), **count})
    return found


def _assumed(risks: RiskDraws, nulls: Sequence[Null], event: str, grade: str) -> list[int]:
    """Positions of covariates by which an event, not listed, was taken as tested and not significant."""
    told = {null.covariate for null in nulls if (null.event, null.grade) == (event, grade)}
    return [k for k, covariate in enumerate(risks.covariates) if covariate.name in told]


def _notes(model: Any, event: str) -> list[dict[str, Any]]:
    """Where the publication disagrees with itself on an event, and what was done: grade, whom it is on, and in words."""
    return [
        {
            "grade": note.grade,
            "at": _positions(sets_of(model.risks.covariates, note.covariate, note.level) or {}),
            "text": f"The publication disagrees with itself. {note.where}: {'; '.join(filter(None, said))}.",
        }
        for note in model.tables.known_discrepancies
        for said in [(note.printed, note.computed, note.resolution)]
        if note.event == event
    ]


def _positions(sets: Mapping[int, int]) -> dict[int, list[int]]:
    return {k: [i for i in range(levels.bit_length()) if levels >> i & 1] for k, levels in sets.items()}


def _answers(risks: RiskDraws, fits: int) -> dict[str, Any]:
    """Mean, lower and upper of each profile, event and grade end to end, and a digit of support for each of these.

    Also how many patients of the cohort are expected to be of each profile. The page holds so many ``fits``.
    """
    sets = _profiles(risks, fits)
    inside = ((sets[:, None, :] >> risks.levels[risks.usual]) & 1).all(axis=2)
    summary = np.stack(risks.summary(sets, INTERVAL), axis=-1)
    return {
        "risks": [float(f"{value:.{DIGITS}g}") for value in summary.ravel().tolist()],
        "expected": [float(f"{n:.3g}") for n in (inside @ risks.weight[risks.usual]).tolist()],
        "support": "".join(map(str, risks.support(sets).ravel().tolist())),
    }


def _profiles(risks: RiskDraws, fits: int) -> Ints:
    """Sets of levels (profile, covariate): every level, then not known; the last covariate changes fastest."""
    options = [[*c.sets, c.everything] for c in risks.covariates]
    profiles = math.prod(map(len, options))
    numbers = 3 * fits * profiles * len(risks.events) * len(risks.grades)
    if numbers > MOST_NUMBERS:
        raise InputError(
            "model",
            f"its {profiles} combinations of levels make {numbers} numbers, and a page holds {MOST_NUMBERS}; use score instead",
        )
    return np.array(list(itertools.product(*options)), dtype=np.int64)


def _script() -> str:
    return "\n".join(["(() => {", '"use strict";', *(source("static", name) for name in SCRIPTS), "})();"])
