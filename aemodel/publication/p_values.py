"""Printed P-values against those that follow from the counts: the best check of a transcription there is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import gammaln
from scipy.stats import chi2_contingency

from aemodel.publication.arrays import Floats, Ints
from aemodel.publication.errors import Faults
from aemodel.publication.schema import Frequency, PrintedTest
from aemodel.publication.tables import Tables
from aemodel.publication.texts import listed, shown

MOST_TABLES = 2_000_000
"""Tables that Fisher's test enumerates at most."""

Key = tuple[str, str, str, str]


def p_value_table(tables: Tables) -> pd.DataFrame:
    """A publication's P-values as printed and as they follow from its counts.

    Parameters
    ----------
    tables
        From `load_tables`.

    Returns
    -------
    pandas.DataFrame
        One row per row of ``tests.csv``: event, grade, covariate, levels (those compared), test (``chi2``: Pearson's without
        correction; ``fisher``: Fisher's exact, two-sided, all tables enumerated), printed, computed, and agrees: whether
        ``computed`` is ``printed`` at the digits it is printed with. Tests of counts that are not known exactly are left out.

    Raises
    ------
    ValueError
        A row of ``tests.csv`` names no published frequencies, a test or a P-value that is none, or more tables than can be
        enumerated.
    """
    faults, named = Faults(), {covariate.name: covariate.known for covariate in tables.covariates}
    published = {row.key: row for row in tables.rows}
    rows = [found for row in tables.printed_tests if (found := _row(row, named, published, faults)) is not None]
    faults.refuse()
    columns = ["event", "grade", "covariate", "levels", "test", "printed", "computed", "agrees"]
    return pd.DataFrame(rows, columns=columns)


def _row(
    row: PrintedTest,
    named: Mapping[str, Sequence[str]],
    published: Mapping[Key, Frequency],
    faults: Faults,
) -> tuple[Any, ...] | None:
    key, before = f"{listed([row.event])} {listed([row.grade])} by {listed([row.covariate])}", len(faults)

    def wrong(problem: str) -> None:
        faults.add("tests.csv", problem, line=row.line, key=key)

    if row.covariate not in named:
        wrong(f"no such covariate; choose from {listed(named)}")
        return None
    events = list(dict.fromkeys(of.event for of in published.values()))
    if row.event not in events:
        wrong(f"no such event; choose from {listed(events)}")
        return None
    levels = tested_levels(row.levels) or list(named[row.covariate])
    if len(levels) < 2:
        wrong(f"it compares {listed(levels)} alone; name the levels that were compared, or none for all of them")
    found = {level: published.get((row.event, row.grade, row.covariate, level)) for level in levels}
    if missing := [level for level, each in found.items() if each is None]:
        there = [of.level for of in published.values() if of.key[:3] == (row.event, row.grade, row.covariate)]
        wrong(f"no frequency at {listed(missing)} to test; published are {listed(there) or 'none'}")
    if not re.fullmatch(r"<?\s*[01]?[.][0-9]{1,12}", row.p):
        wrong(f"the P-value is {shown(row.p)}; it must be a number as printed, as 0.024 or <0.0001")
    if row.test not in ("chi2", "fisher"):
        wrong(f"the test is {shown(row.test)}; it must be chi2 or fisher")
    given = [each for each in found.values() if each is not None and each.exact]
    observed, n = (np.array([getattr(each, name) for each in given], dtype=np.int64) for name in ("observed_low", "n"))
    if row.test == "fisher" and _fisher_tables(observed, n) > MOST_TABLES:
        wrong(f"{observed.sum()} patients in {len(n)} groups are too many for Fisher's test by enumeration; was it chi2?")
    if len(faults) > before or len(given) < len(levels):
        return None
    computed = _fisher_exact(observed, n) if row.test == "fisher" else _chi_squared(observed, n)
    between = "; " if any(" " in level for level in levels) else " "
    return row.event, row.grade, row.covariate, between.join(levels), row.test, row.p, computed, _agrees(computed, row.p)


def tested_levels(text: str) -> list[str]:
    """Names of levels, separated by semicolons, or, of names without blanks, by blanks."""
    return [name.strip() for name in text.split(";")] if ";" in text else text.split()


def _chi_squared(observed: Ints, n: Ints) -> float:
    if observed.sum() in (0, n.sum()):
        return 1.0
    return float(chi2_contingency(np.stack([observed, n - observed]), correction=False)[1])


def _fisher_tables(observed: Ints, n: Ints) -> float:
    """How many tables Fisher's test has to go through."""
    return float(np.prod(np.minimum(n[:-1], observed.sum()) + 1.0))


def _fisher_exact(observed: Ints, n: Ints) -> float:
    """Probability of all (group, 2) tables with these margins that are no more probable than the one observed."""
    total = int(observed.sum())
    sizes = np.minimum(n[:-1], total) + 1
    others = np.indices(tuple(sizes)).reshape(len(sizes), -1)
    every = np.vstack([others, total - others.sum(axis=0)])
    every = every[:, (every[-1] >= 0) & (every[-1] <= n[-1])]
    log_weight = _log_choices(every, n[:, None])
    as_probable = log_weight <= _log_choices(observed[:, None], n[:, None]) + 1e-7
    weight = np.exp(log_weight - log_weight.max())
    return float(weight[as_probable].sum() / weight.sum())


def _log_choices(chosen: Ints, n: Ints) -> Floats:
    """Log number of ways to choose so many of each group, (table,)."""
    return np.asarray((gammaln(n + 1) - gammaln(chosen + 1) - gammaln(n - chosen + 1)).sum(axis=0))


def _agrees(p: float, printed: str) -> bool:
    if printed.startswith("<"):
        return p < float(printed[1:])
    return Decimal(p).quantize(Decimal(printed), ROUND_HALF_UP) == Decimal(printed)
