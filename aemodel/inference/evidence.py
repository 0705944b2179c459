"""Which of a publication's evidence beside its margins goes into a fit, and its log probability in the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
from numpy.typing import NDArray

from aemodel.inference.design import Design
from aemodel.inference.ordering import Significance, ordering_logp
from aemodel.inference.selection import null_weights, selection_logp
from aemodel.publication.errors import PublicationError
from aemodel.publication.evidence import Null, Ordering
from aemodel.publication.margins import FamilyMargins
from aemodel.publication.tables import Tables


@dataclass(frozen=True)
class Evidence:
    """Orderings, each with its event's rates in the cohort (grade,), which tests they had significant, and nulls."""

    orderings: tuple[tuple[Ordering, NDArray[np.float64]], ...]
    significance: Significance
    nulls: tuple[Null, ...]


def choose_evidence(tables: Tables, ordering: Significance | None, selection: bool) -> Evidence:
    """The publication's evidence that a fit is to use.

    Raises
    ------
    ValueError
        An ordered event has no published total.
    """
    orderings = () if ordering is None else tuple((item, _rates(tables, item)) for item in tables.orderings)
    return Evidence(orderings, ordering or "order", tables.nulls if selection else ())


def evidence_logp(design: Design, evidence: Evidence, margins: Sequence[FamilyMargins], p: Any) -> Mapping[str, Any]:
    """Log probability of each kind of evidence there is, from state probabilities ``p`` (state, cell), inside a `pm.Model`.

    What each null counts, ``null_weights``, is data: those of tests that were significant after all can be set to 0.
    """
    found = {}
    if evidence.orderings:
        terms = [ordering_logp(design, item, rates, p, evidence.significance) for item, rates in evidence.orderings]
        found["ordering"] = sum(terms)
    if evidence.nulls:
        weights = pm.Data("null_weights", null_weights(design, evidence.nulls, margins))
        found["selection"] = selection_logp(design, evidence.nulls, weights, p)
    return found


def _rates(tables: Tables, ordering: Ordering) -> NDArray[np.float64]:
    rows = tables.frequencies[
        (tables.frequencies["event"] == ordering.event) & (tables.frequencies["covariate"] == "total")
    ].set_index("grade")
    if missing := [grade for grade in ordering.tiers if grade not in rows.index]:
        problem = f"{ordering.event} has no published total at grade {missing[0]}"
        raise PublicationError("publication.toml", problem, key="orderings")
    ends = rows.loc[list(ordering.tiers), ["observed_low", "observed_high"]]
    rates = ends.to_numpy(dtype=float).mean(axis=1) / tables.n
    return np.asarray(np.clip(rates, 1 / tables.n, 1 - 1 / tables.n))
