"""The calculator: one web page that answers for a patient without Python, written from a saved model.

The page holds its style, its script and every answer, and asks for nothing else. Answers are those of `score`: all
combinations of levels, each covariate also not known, are worked out here and looked up there. Light: no PyMC, ArviZ,
xarray, SciPy or pandas.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aemodel.pages.render import check_page, source, write_page
from aemodel.publication.arguments import path_in
from aemodel.publication.errors import InputError
from aemodel.publication.words import words_of
from aemodel.scoring.risks import SUPPORT, RiskDraws

INTERVAL = 0.9
DIGITS = 7
"""Significant digits of the page's probabilities: half a unit of the last is below 1e-7."""
MOST_NUMBERS = 1_000_000
"""Probabilities a page may hold, about 10 MB: a browser of a phone still opens it at once."""
STYLES = ("theme.css", "layout.css", "print.css")
SCRIPTS = ("words.js", "pictures.js", "calculator.js")


def write_calculator(model: Any, path: str | Path) -> Path:
    """Write a self-contained web page that answers for one patient.

    The page needs no network and no server: it forbids itself both. Its risks, 90 % intervals and support flags equal
    those of `score` (to 1e-6) for every combination of covariate levels, each of which may also be not known.

    Parameters
    ----------
    model
        From `load_model` or `fit`.
    path
        The page, ending in ``.html``; what is there is replaced, once the new page is whole.

    Returns
    -------
    Path
        Where the page is.

    Raises
    ------
    TypeError
        ``model`` is not a model.
    ValueError
        The path does not end in ``.html``, or the model has too many combinations of levels for one page.
    OSError
        The path is a folder, its folder is not there, or it cannot be written; what was there stays.
    """
    path = path_in("path", path)
    check_page(model, path)
    write_page(path, "calculator.html", STYLES, _script(), data=_json(_data(model)))
    return path


def _data(model: Any) -> dict[str, Any]:
    """All that the page says of the model."""
    about = model.tables.about
    words = words_of(model)
    risks: RiskDraws = model.risks
    return {
        **{key: getattr(about, key) for key in ("title", "citation", "patients", "doi", "licence", "setting", "grading")},
        "notes": list(about.notes),
        "name": model.name,
        "digest": model.tables.digest,
        "version": version("aemodel"),
        "failures": model.diagnostics.failures(),
        "interval": INTERVAL,
        "covariates": [
            {"name": c.name, "label": c.label, "levels": [{"name": v.name, "label": v.label} for v in c.levels]}
            for c in risks.covariates
        ],
        "events": [{"name": name, "label": words.event(name)} for name in risks.events],
        "grades": list(risks.grades),
        "grade_labels": [words.grade(grade) for grade in risks.grades],
        "published": risks.published.tolist(),
        "supports": list(SUPPORT),
        **_answers(risks),
    }


def _answers(risks: RiskDraws) -> dict[str, Any]:
    """Mean, lower and upper of each profile, event and grade end to end, and a digit of support for each of these."""
    sets = _profiles(risks)
    summary = np.stack(risks.summary(sets, INTERVAL), axis=-1)
    return {
        "risks": [float(f"{value:.{DIGITS}g}") for value in summary.ravel().tolist()],
        "support": "".join(map(str, risks.support(sets).ravel().tolist())),
    }


def _profiles(risks: RiskDraws) -> NDArray[np.int64]:
    """Sets of levels (profile, covariate): every level, then not known; the last covariate changes fastest."""
    options = [[*(1 << i for i in range(len(c.levels))), c.everything] for c in risks.covariates]
    profiles = math.prod(map(len, options))
    numbers = 3 * profiles * len(risks.events) * len(risks.grades)
    if numbers > MOST_NUMBERS:
        raise InputError(
            "model",
            f"its {profiles} combinations of levels make {numbers} numbers, and a page holds {MOST_NUMBERS}; use score instead",
        )
    return np.array(list(itertools.product(*options)), dtype=np.int64)


def _script() -> str:
    return "\n".join(["(() => {", '"use strict";', *(source("static", name) for name in SCRIPTS), "})();"])


def _json(data: Mapping[str, Any]) -> str:
    """ASCII, and no character by which text could end its element: a label stays a label."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
