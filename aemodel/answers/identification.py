"""What the data say about each effect and each profile's risk, against what the prior already said."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aemodel.answers.states import make_model_forward
from aemodel.inference.contraction import level_effects, prior_risks
from aemodel.inference.forward import logit
from aemodel.publication.errors import InputError
from aemodel.publication.texts import shown
from aemodel.scoring.risks import SUPPORT, RiskDraws

MEASURES = ["prior_sd", "posterior_mean", "posterior_sd", "contraction"]


def identification_table(model: Any, of: Literal["effects", "risks"] = "effects") -> pd.DataFrame:
    """How much the published tables narrow each covariate effect, or each profile's risk.

    The effect of a level is the log odds of the risk standardised to that level (everything else as in the cohort) less
    the log odds of the cohort's risk. Contraction is 1 - (posterior sd / prior sd)^2: 1 is learned, 0 is all prior.
    Priors are taken at the fitted intercepts, so that only what was learned of effects counts as contraction.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    of
        ``"effects"`` of every level of every covariate, or the ``"risks"`` (log odds) of every combination of levels.

    Returns
    -------
    pandas.DataFrame
        Columns event, grade; covariate and level, or one column per covariate; prior_sd, posterior_mean, posterior_sd
        (log odds), contraction, source. The source of an effect is the nearest thing that speaks of it: ``data`` (the
        event's own margin by the covariate, and a contraction of 0.25 or more), ``null`` (a test of this very pair that
        was not significant, or not listed), ``pooled`` (other events' margins, and a contraction of 0.1 or more),
        ``ordering`` (a published ordering of the covariate's levels) or ``prior``. The source of a risk is its support
        flag, as `score` gives it.

    Raises
    ------
    ValueError
        ``of`` is neither.
    """
    if of not in ("effects", "risks"):
        raise InputError("of", f"expected 'effects' or 'risks', not {shown(of)}")
    forward, draws, seed = make_model_forward(model)
    before = prior_risks(model.tables, forward.forward, model.prior, draws, seed)
    return _effects(model, before) if of == "effects" else _risks(model.risks, before)


def _effects(model: Any, before: RiskDraws) -> pd.DataFrame:
    parts = []
    pairs = zip(model.risks.covariates, level_effects(model.risks), level_effects(before), strict=True)
    for k, (covariate, after, prior) in enumerate(pairs):
        source = np.broadcast_to(effect_sources(model, k), after.shape[1:])
        part = _measured(model.risks, after, prior, source)
        part.insert(2, "covariate", covariate.name)
        part.insert(3, "level", np.repeat(covariate.names, len(part) // len(covariate.levels)))
        parts.append(part)
    return _sorted(pd.concat(parts), model.risks)


def effect_sources(model: Any, k: int) -> NDArray[np.str_]:
    """The nearest thing that speaks of a covariate's effects, (event, grade)."""
    risks, tables = model.risks, model.tables
    name = risks.covariates[k].name
    source = np.array([*SUPPORT, "null", "ordering"])[risks.source[k]]
    if model.settings.get("ordering") and name in {item.covariate for item in tables.orderings}:
        source = np.where(source == "prior", "ordering", source)
    if model.settings.get("selection"):
        nulls = {(null.event, null.grade) for null in tables.nulls if null.covariate == name}
        own = np.array([[(event, grade) in nulls for grade in risks.grades] for event in risks.events])
        source = np.where(own & (source != "data"), "null", source)
    return source


def _risks(risks: RiskDraws, before: RiskDraws) -> pd.DataFrame:
    usual = (risks.levels < np.array([len(c.levels) for c in risks.covariates])).all(axis=1)
    levels = risks.levels[usual]
    source = np.array(SUPPORT)[risks.support(1 << levels)]
    table = _measured(risks, logit(risks.draws[:, usual]), logit(before.draws[:, usual]), source)
    each = len(table) // len(levels)
    for k, covariate in enumerate(risks.covariates):
        table.insert(2 + k, covariate.name, np.repeat(np.array(covariate.names)[levels[:, k]], each))
    return _sorted(table, risks)


def _measured(
    risks: RiskDraws, after: NDArray[np.float64], prior: NDArray[np.float64], source: NDArray[np.str_]
) -> pd.DataFrame:
    """One row for each level or profile, event and grade of draws (sample, level, event, grade), grades fastest."""
    _, rows, events, grades = after.shape
    prior_sd, posterior_sd = prior.std(axis=0).ravel(), after.std(axis=0).ravel()
    values = (prior_sd, after.mean(axis=0).ravel(), posterior_sd, 1 - (posterior_sd / prior_sd) ** 2)
    names = {
        "event": np.tile(np.repeat(risks.events, grades), rows),
        "grade": np.tile(risks.grades, rows * events),
    }
    return pd.DataFrame(names | dict(zip(MEASURES, values, strict=True)) | {"source": source.ravel()})


def _sorted(table: pd.DataFrame, risks: RiskDraws) -> pd.DataFrame:
    order = {event: i for i, event in enumerate(risks.events)}
    keys = table["event"].map(order) * len(risks.grades) + table["grade"].map(list(risks.grades).index)
    return table.iloc[np.argsort(keys.to_numpy(), kind="stable")].reset_index(drop=True)
