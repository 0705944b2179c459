"""Cohorts: how many patients of a table to expect with each event, from counts of profiles. Light, as `scoring` is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from aemodel.publication.arguments import names_in, whole_number
from aemodel.publication.arrays import Floats, Ints
from aemodel.publication.codes import NewLevels
from aemodel.publication.errors import InputError
from aemodel.publication.patients import OnInvalid, refuse_invalid
from aemodel.publication.rules import MissingColumns
from aemodel.publication.texts import listed, shown
from aemodel.scoring.frames import Frame, Groups, profiles_of
from aemodel.scoring.risks import CHUNK, SUPPORT, RiskDraws, tails
from aemodel.scoring.score import Asked, open_frame

COLUMNS = ("event", "grade", "patients", "expected", "lower", "upper", "support")


def score_cohort(
    model: Any,
    frame: Any,
    *,
    by: str | Sequence[str] | None = None,
    interval: float = 0.9,
    events: Sequence[str] | None = None,
    grades: Sequence[str] | None = None,
    new_levels: NewLevels = "error",
    on_invalid: OnInvalid = "error",
    missing_columns: MissingColumns = "error",
    seed: int = 1,
) -> Any:
    """How many patients of a cohort to expect with each event.

    Parameters
    ----------
    model, frame, events, grades, new_levels, missing_columns
        As for `score`. The engine counts the cohort's profiles in one aggregate pass; nothing else is collected.
    by
        A column, or several, whose values form groups (at most 1,000).
    interval
        Probability of the equal-tailed predictive interval.
    on_invalid
        ``"null"`` leaves patients with impossible values out, instead of an error.
    seed
        Of the simulated counts behind the interval; the expected numbers need no simulation.

    Returns
    -------
    The caller's kind of frame
        Of a lazy polars frame and of Dask the eager kind, polars and pandas. Columns: those of ``by``; ``event``,
        ``grade``; ``patients``; ``expected``, how many of them have the event (posterior mean); ``lower`` and ``upper``,
        the predictive interval of that number: uncertainty of the risks and chance; ``support``: the flag that the
        answers of at least half of the patients reach, ``invalid`` where all were left out. The interval's probability
        is in a pandas frame's ``attrs["interval"]``.

    Raises
    ------
    TypeError, ValueError
        The frame, an argument or a value does not fit.
    """
    asked = Asked(interval, events, grades, new_levels, on_invalid, missing_columns)
    opened, groups, columns = cohort_columns(model, partial(open_frame, frame), asked, by, seed)
    refuse_empty(groups)
    table = opened.table(groups, columns)
    if isinstance(getattr(table, "attrs", None), dict):
        table.attrs["interval"] = interval
    return table


def refuse_empty(groups: Groups) -> None:
    if not len(groups.codes):
        raise InputError("frame", "it has no rows, so no patients to count")


def cohort_columns(
    model: Any, opened: Callable[..., Frame], asked: Asked, by: str | Sequence[str] | None, seed: int
) -> tuple[Frame, Groups, dict[str, list[Any]]]:
    """The frame, ``opened`` as for `score_rows`, its groups, and the columns of `score_cohort`'s table but those of ``by``."""
    ends, seed = tails(asked.interval), whole_number("seed", seed)
    risks = asked.risks_of(model)
    frame = opened(risks.covariates, (), asked.missing_columns)
    names = () if by is None else names_in("by", [by] if isinstance(by, str) else by)
    for name in names:
        if name in frame.kinds and name in COLUMNS:
            raise InputError("by", f"the answer has a column {shown(name)} of its own", remedy="rename that of patients")
        if name not in frame.kinds:
            known = listed(column for column in frame.kinds if column not in COLUMNS)
            raise InputError("by", f"no column {shown(name)} to group by; columns are {known}")
    groups = frame.tally(names)
    found = profiles_of(frame, groups)
    refuse_invalid(found, asked.new_levels, asked.on_invalid)
    sets = found.layout.sets(found.codes, asked.new_levels)
    valid = (sets > 0).all(axis=1)
    return frame, groups, _columns(risks, sets[valid], groups.counts[:, valid], ends, seed)


def _columns(risks: RiskDraws, sets: Ints, counts: Ints, ends: tuple[float, float], seed: int) -> dict[str, list[Any]]:
    profiles, which = np.unique(sets, axis=0, return_inverse=True)
    patients = np.zeros((len(counts), len(profiles)), dtype=np.int64)
    np.add.at(patients.T, which, counts.T)
    expected, simulated = cohort_counts(risks, profiles, patients, np.random.default_rng(seed))
    lower, upper = np.quantile(simulated, ends, axis=1, method="inverted_cdf")
    # Half of the patients have this flag or a stronger one.
    flags = risks.support(profiles)
    reached = np.stack([np.einsum("gp,pek->gek", patients, flags <= flag) for flag in range(len(SUPPORT))])
    number = patients.sum(axis=1)
    support = (reached * 2 < number[:, None, None]).sum(axis=0)
    support[number == 0] = len(SUPPORT)
    events, grades = zip(*risks.pairs, strict=True)
    return {
        "event": [*events] * len(counts),
        "grade": [*grades] * len(counts),
        "patients": np.repeat(number, len(events)).tolist(),
        "expected": expected.ravel().tolist(),
        "lower": lower.astype(np.int64).ravel().tolist(),
        "upper": upper.astype(np.int64).ravel().tolist(),
        "support": np.array([*SUPPORT, "invalid"])[support.ravel()].tolist(),
    }


def cohort_counts(risks: RiskDraws, profiles: Ints, patients: Ints, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Expected and simulated numbers of patients with each event.

    In each posterior draw patients are independent, and a partly known one has the average risk of those it could be;
    so a group's count is a sum over profiles of binomial counts; of those with grade 3-5, some have grade 4-5.

    Parameters
    ----------
    profiles
        Sets of levels, (profile, covariate).
    patients
        How many there are, (group, profile).

    Returns
    -------
    tuple
        Posterior means, (group, event, grade), and one simulated count per posterior draw, (group, sample, event, grade).
    """
    samples, _, events, grades = risks.draws.shape
    expected = np.zeros((len(patients), events, grades))
    simulated = np.zeros((len(patients), samples, events, grades), dtype=np.int64)
    for first in range(0, len(profiles), CHUNK):
        part = slice(first, first + CHUNK)
        draws = np.clip(risks.risks(profiles[part]).astype(np.float64), 0, 1)
        expected += np.einsum("gp,spek->gek", patients[:, part], draws) / samples
        for group, numbers in enumerate(patients[:, part]):
            here = numbers > 0
            patients_left, before = numbers[here][:, None], np.ones(())
            for grade in np.argsort(risks.grades):  # 4-5 is part of 3-5, and so are its patients
                risk = draws[:, here][..., grade]
                share = np.divide(risk, before, out=np.zeros_like(risk), where=before > 0)
                patients_left, before = rng.binomial(patients_left, np.minimum(share, 1)), risk
                simulated[group][..., grade] += patients_left.sum(axis=1)
    return expected, simulated
