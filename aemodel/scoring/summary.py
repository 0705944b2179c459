"""What a run was: rows by what is wrong with them, levels beside the cohort's, mean risks, and what they come from. Light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aemodel.publication.codes import NewLevels
from aemodel.publication.patients import Profiles
from aemodel.scoring.risks import SUPPORT, RiskDraws
from aemodel.scoring.score import open_frame, risks_of, score_rows

LINEAGE = ("model", "digest", "version", "interval", "time")
LEAST_SHARE = 1e-4
"""Taken for shares that are less, so that the drift of a level nobody has is finite."""


def score_summary(
    model: Any,
    frame: Any,
    *,
    interval: float = 0.9,
    events: Sequence[str] | None = None,
    grades: Sequence[str] | None = None,
    new_levels: NewLevels = "error",
) -> dict[str, Any]:
    """What `score` would make of a table, without its rows: a record to keep of a run, all of it fit for JSON.

    Parameters
    ----------
    model, frame, interval, events, grades, new_levels
        As for `score`; impossible values are counted.

    Returns
    -------
    dict
        ``model`` (its name), ``digest`` (SHA-256 of its manifest, None before it is saved), ``version`` (of this package),
        ``interval``, ``time`` (UTC). ``rows``; ``scored`` (rows with risks); ``unknown`` (rows of which no covariate is
        known). ``columns``, for each covariate: rows ``missing`` (not or only partly known: averaged over), ``new`` (a level
        the publication does not have) and ``invalid``. ``levels``, for each covariate and level: ``share`` of the rows
        whose level is known, and the publication's ``cohort``. ``drift``: the population stability index of each
        covariate's levels, sum of (share - cohort) log(share / cohort). ``risks``: the mean of each column of risks.
        ``support``, for each event: share of rows with each flag.
    """
    options: dict[str, Any] = {"interval": interval, "events": events, "grades": grades, "new_levels": new_levels}
    scored = score_rows(model, partial(open_frame, frame), on_invalid="null", **options, checked=False)
    return summary_of(model, scored.found, new_levels, interval, scored.columns)


def summary_of(
    model: Any, found: Profiles, new_levels: NewLevels, interval: float, columns: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """As `score_summary`, of profiles and what was added to each of them, if anything was."""
    risks, counts = risks_of(model), found.counts
    sets, everything = found.layout.sets(found.codes, "sample"), risks.everything
    valid = (found.layout.sets(found.codes, new_levels) > 0).all(axis=1)
    kinds = {"missing": (sets & (sets - 1)) > 0, "new": sets == everything + 1, "invalid": sets == 0}
    known = {c.name: _shares(risks, k, sets[:, k], counts) for k, c in enumerate(risks.covariates)}
    support = {name.removesuffix("_support"): of for name, of in columns.items() if name.endswith("_support")}
    return lineage(model, interval) | {
        "rows": int(counts.sum()),
        "scored": int(counts[valid].sum()),
        "unknown": int(counts[(sets == everything).all(axis=1)].sum()),
        "columns": {
            c.name: {kind: int(counts[which[:, k]].sum()) for kind, which in kinds.items()}
            for k, c in enumerate(risks.covariates)
        },
        "levels": known,
        "drift": {name: _drift(levels) for name, levels in known.items()},
        "risks": {name: _share(counts[valid], of[valid]) for name, of in columns.items() if name.endswith("_risk")},
        "support": {
            event: {word: _share(counts, of == word) for word in (*SUPPORT, "invalid") if (of == word).any()}
            for event, of in support.items()
        },
    }


def lineage(model: Any, interval: float | None = None) -> dict[str, Any]:
    """What answers come from: `LINEAGE`."""
    return dict(zip(LINEAGE, (model.name, getattr(model, "digest", None), version("aemodel"), interval, now()), strict=True))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _share(counts: NDArray[np.int64], of: NDArray[Any]) -> float | None:
    return float(counts @ of / counts.sum()) if counts.sum() else None


def _shares(risks: RiskDraws, k: int, sets: NDArray[np.int64], counts: NDArray[np.int64]) -> dict[str, dict[str, Any]]:
    """Of those whose level of a covariate is known, and of the cohort: the share of each level; of new ones if there are."""
    covariate = risks.covariates[k]
    single = (sets & (sets - 1)) == 0
    usual = (risks.levels < np.array([len(c.levels) for c in risks.covariates])).all(axis=1)
    cohort = np.bincount(risks.levels[usual, k], risks.weight[usual], len(covariate.levels) + 1)
    rows, here = counts[single & (sets > 0)], sets[single & (sets > 0)]
    names = [*covariate.names, *(["(new)"] if (here == covariate.new).any() else [])]
    return {
        name: {"share": _share(rows, here == 1 << i), "cohort": float(cohort[i] / cohort.sum())} for i, name in enumerate(names)
    }


def _drift(levels: Mapping[str, Mapping[str, Any]]) -> float | None:
    pairs = np.array([(of["share"], of["cohort"]) for of in levels.values()], dtype=float).clip(LEAST_SHARE)
    share, cohort = pairs.T
    drift = float(((share - cohort) * np.log(share / cohort)).sum())
    return None if np.isnan(drift) else drift
