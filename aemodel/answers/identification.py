"""What the data say about each effect and each profile's risk, against what the prior already said."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from aemodel.answers.contrasts import level_effects
from aemodel.answers.states import make_model_forward
from aemodel.inference.forward import KEPT_DRAWS, Forward, logit, risk_draws
from aemodel.publication.errors import InputError
from aemodel.publication.tables import Tables
from aemodel.publication.texts import shown
from aemodel.scoring.risks import SUPPORT, RiskDraws

MEASURES = ["prior_sd", "posterior_mean", "posterior_sd", "contraction"]
Floats = NDArray[np.float64]


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
        (log odds), contraction; own and pooled, the shares of what sets the level or profile apart that the event's own
        published rows tell by themselves, and that all others add (NaN in models saved before they were worked out); support,
        the word that follows from these, as `score` gives it: ``data``, ``pooled`` or ``prior``. For effects also assumption:
        what else speaks of them, ``null`` (a test of this very pair that was not significant, or not listed) or
        ``ordering`` (a published ordering of the covariate's levels), or both; otherwise empty.

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
    parts, risks = [], model.risks
    pairs = zip(risks.covariates, level_effects(risks), level_effects(before), strict=True)
    for k, (covariate, after, prior) in enumerate(pairs):
        each = len(risks.events) * len(risks.grades)
        part = _measured(risks, after, prior, one_at_a_time(risks, k))
        part.insert(2, "covariate", covariate.name)
        part.insert(3, "level", np.repeat(covariate.names, each))
        part["assumption"] = np.tile(effect_assumptions(model, k).ravel(), len(covariate.levels))
        parts.append(part)
    return _sorted(pd.concat(parts), risks)


def one_at_a_time(risks: RiskDraws, k: int) -> NDArray[np.int64]:
    """Profiles of whom one covariate's level is known and nothing else: (level, covariate)."""
    levels = len(risks.covariates[k].levels)
    sets = np.repeat(risks.everything[None], levels, axis=0)
    sets[:, k] = 1 << np.arange(levels)
    return sets


def effect_assumptions(model: Any, k: int) -> NDArray[np.str_]:
    """What speaks of a covariate's effects that is no count, (event, grade): ``null``, ``ordering``, both, or nothing."""
    risks, tables = model.risks, model.tables
    name = risks.covariates[k].name
    nulls = {(null.event, null.grade) for null in tables.nulls if null.covariate == name and model.settings.get("selection")}
    ordered = model.settings.get("ordering") and name in {item.covariate for item in tables.orderings}
    null = np.array([[(event, grade) in nulls for grade in risks.grades] for event in risks.events])
    return np.where(null, "null and ordering", "ordering") if ordered else np.where(null, "null", "")


def _risks(risks: RiskDraws, before: RiskDraws) -> pd.DataFrame:
    usual = (risks.levels < np.array([len(c.levels) for c in risks.covariates])).all(axis=1)
    levels = risks.levels[usual]
    table = _measured(risks, logit(risks.draws[:, usual]), logit(before.draws[:, usual]), 1 << levels)
    each = len(table) // len(levels)
    for k, covariate in enumerate(risks.covariates):
        table.insert(2 + k, covariate.name, np.repeat(np.array(covariate.names)[levels[:, k]], each))
    return _sorted(table, risks)


def _measured(risks: RiskDraws, after: Floats, prior: Floats, sets: NDArray[np.int64]) -> pd.DataFrame:
    """One row for each level or profile, event and grade of draws (sample, level, event, grade), grades fastest."""
    _, rows, events, grades = after.shape
    prior_sd, posterior_sd = prior.std(axis=0).ravel(), after.std(axis=0).ravel()
    values = (prior_sd, after.mean(axis=0).ravel(), posterior_sd, 1 - (posterior_sd / prior_sd) ** 2)
    names = {
        "event": np.tile(np.repeat(risks.events, grades), rows),
        "grade": np.tile(risks.grades, rows * events),
    }
    return pd.DataFrame(names | dict(zip(MEASURES, values, strict=True)) | support_columns(risks, sets))


def support_columns(risks: RiskDraws, sets: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Shares and flags of profiles' answers, flat: profile, event, grade."""
    shape = (2, len(sets) * risks.published.size)
    own, pooled = np.full(shape, np.nan) if risks.variances is None else risks.told(sets).reshape(shape)
    return {"own": own, "pooled": pooled, "support": np.array(SUPPORT)[risks.support(sets).ravel()]}


def _sorted(table: pd.DataFrame, risks: RiskDraws) -> pd.DataFrame:
    order = {event: i for i, event in enumerate(risks.events)}
    keys = table["event"].map(order) * len(risks.grades) + table["grade"].map(list(risks.grades).index)
    return table.iloc[np.argsort(keys.to_numpy(), kind="stable")].reset_index(drop=True)


def prior_risks(tables: Tables, forward: Forward, prior: xr.Dataset, draws: xr.Dataset, seed: int) -> RiskDraws:
    """Risks from the prior of the effects at the fitted intercepts: how far an effect moves a risk depends on where it is."""
    size = draws.sizes["chain"] * draws.sizes["draw"]
    intercepts = draws["intercept"].values.reshape(size, -1)[np.arange(prior.sizes["draw"]) % size]
    mixed = prior.assign(intercept=(prior["intercept"].dims, intercepts[None]))
    return risk_draws(tables, forward, mixed.isel(draw=slice(0, KEPT_DRAWS)), seed)
