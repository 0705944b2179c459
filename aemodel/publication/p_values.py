"""Printed P-values against those that follow from the counts: the best check of a transcription there is."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import chi2_contingency

from aemodel.publication.tables import Tables
from aemodel.publication.texts import listed, shown

MOST_TABLES = 2_000_000
"""Tables that Fisher's test enumerates at most."""

Ints = NDArray[np.int64]


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
        ``computed`` is ``printed`` at the digits it is printed with.

    Raises
    ------
    ValueError
        A row of ``tests.csv`` names no published frequencies, a test or a P-value that is none, or more tables than can be
        enumerated.
    """
    rows = [_row(tables, row) for row in tables.tests.itertuples()]
    columns = ["event", "grade", "covariate", "levels", "test", "printed", "computed", "agrees"]
    return pd.DataFrame(rows, columns=columns)


def _row(tables: Tables, row: Any) -> tuple[Any, ...]:
    where = f"tests.csv: {listed([row.event])} {listed([row.grade])} by {listed([row.covariate])}"
    names = {covariate.name: covariate.names for covariate in tables.covariates}
    if row.covariate not in names:
        raise ValueError(f"{where}: no such covariate; choose from {listed(names)}")
    levels = row.levels.split() or list(names[row.covariate])
    published = tables.frequencies
    chosen = (published["event"] == row.event) & (published["grade"] == row.grade) & (published["covariate"] == row.covariate)
    found = published[chosen].set_index("level")
    if missing := [level for level in levels if level not in found.index]:
        raise ValueError(f"{where}: no frequency at {listed(missing)} to test; published are {listed(found.index) or 'none'}")
    if not re.fullmatch(r"<?\s*[01]?[.][0-9]{1,12}", row.p):
        raise ValueError(f"{where}: the P-value is {shown(row.p)}; it must be a number as printed, as 0.024 or <0.0001")
    n, observed = (found.loc[levels, name].to_numpy(dtype=np.int64) for name in ("n", "observed"))
    computed = _p_value(row.test, observed, n, where)
    return row.event, row.grade, row.covariate, " ".join(levels), row.test, row.p, computed, _agrees(computed, row.p)


def _p_value(test: str, observed: Ints, n: Ints, where: str) -> float:
    if test == "fisher":
        return _fisher_exact(observed, n, where)
    if test != "chi2":
        raise ValueError(f"{where}: the test is {shown(test)}; it must be chi2 or fisher")
    total = int(observed.sum())
    return (
        1.0 if total in (0, int(n.sum())) else float(chi2_contingency(np.stack([observed, n - observed]), correction=False)[1])
    )


def _fisher_exact(observed: Ints, n: Ints, where: str) -> float:
    """Probability of all (group, 2) tables with these margins that are no more probable than the one observed."""
    total = int(observed.sum())
    sizes = np.minimum(n[:-1], total) + 1
    if np.prod(sizes.astype(float)) > MOST_TABLES:
        raise ValueError(
            f"{where}: {total} patients in {len(n)} groups are too many for Fisher's test by enumeration; was it chi2?"
        )
    others = np.indices(tuple(sizes)).reshape(len(sizes), -1)
    every = np.vstack([others, total - others.sum(axis=0)])
    every = every[:, (every[-1] >= 0) & (every[-1] <= n[-1])]
    log_weight = _log_choices(every, n[:, None])
    as_probable = log_weight <= _log_choices(observed[:, None], n[:, None]) + 1e-7
    weight = np.exp(log_weight - log_weight.max())
    return float(weight[as_probable].sum() / weight.sum())


def _log_choices(chosen: Ints, n: Ints) -> NDArray[np.float64]:
    """Log number of ways to choose so many of each group, (table,)."""
    return np.asarray((gammaln(n + 1) - gammaln(chosen + 1) - gammaln(n - chosen + 1)).sum(axis=0))


def _agrees(p: float, printed: str) -> bool:
    if printed.startswith("<"):
        return p < float(printed[1:])
    return Decimal(p).quantize(Decimal(printed), ROUND_HALF_UP) == Decimal(printed)
